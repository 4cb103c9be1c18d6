"""MR images at the place of a cine that are none: flow, tagging, perfusion, maps, screenshots.

The kind of sequence of a cine: bSSFP and gradient echo read volumes differently.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from .frames import Frame
from .headers import text

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PHASE = {"P", "PHASE", "PHASE MAP", "PHASE CONTRAST M", "PCA", "M_PCA", "VELOCITY", "VELOCITY MAP"}
_PHASE |= {"FLOW_ENCODED"}
_MAPS = {"T1 MAP", "T2 MAP", "T1_MAP", "T2_MAP", "T2_STAR_MAP", "T2_STAR MAP", "R2_MAP", "MAP"}
# Not T1 or T2 alone: enhanced images name their contrast so.
_MAPS |= {"ECV", "ECV MAP", "ECV_MAP", "ADC", "ADC MAP"}
_VELOCITY_NAME = re.compile(
    r"_v\d+(in|through|rl|ap|fh)|(^|[^a-z])(pc|venc|flow|qflow)", re.IGNORECASE
)
_TAG_NAME = re.compile(r"(^|[^a-z])(tag|tagging|tagged|cspamm|spamm)([^a-z]|$)", re.IGNORECASE)


def nature_of(dataset: Any, image_type: tuple[str, ...]) -> str:
    """The reason why an MR image is not a magnitude image of a cine, by its declared nature."""
    kinds = {value.upper() for value in image_type[2:]}
    names = " ".join(text(dataset, k) for k in ("SequenceName", "PulseSequenceName"))
    component = text(dataset, "ComplexImageComponent").upper()
    if text(dataset, "SOPClassUID").startswith(_SECONDARY_CAPTURE) or any(
        "SCREEN" in kind or kind.startswith("CSA ") for kind in kinds
    ):
        return "screenshot"
    if text(dataset, "BurnedInAnnotation").upper() == "YES":
        return "burned-in"
    if kinds & _PHASE or _VELOCITY_NAME.search(names) or text(dataset, "PhaseContrast") == "YES":
        return "flow"
    if kinds & {"R", "I", "REAL", "IMAGINARY"} or component in {"REAL", "IMAGINARY", "PHASE"}:
        return "not-magnitude"
    if (
        text(dataset, "Tagging") not in {"", "NONE"}
        or _TAG_NAME.search(names)
        or "TAGGING" in kinds
    ):
        return "tagging"
    if "REALTIME" in kinds:
        return "real-time"
    if any("PERFUSION" in kind for kind in kinds):
        return "perfusion"
    if kinds & {"PSIR", "PS_IR"}:
        return "late-enhancement"
    if kinds & _MAPS:
        return "map"
    if kinds & {"MPR", "REFORMATTED", "MIP", "PROJECTION IMAGE", "MIN IP", "MAX IP"}:
        return "reformat"
    return ""


_BSSFP = re.compile(
    r"tru_?fi|true_?fisp|fiesta|b-?tfe|b-?ffe|balanced|ssfp|(^|[^a-z])tfi", re.IGNORECASE
)
_GRE = re.compile(
    r"flash|spgr|fgre|(^|[^a-z])fl[23]d|turbo_?flash|(^|[^a-z])t1-?tfe", re.IGNORECASE
)


def sequence_of(frame: Frame) -> Literal["bssfp", "gre"] | None:
    """Balanced SSFP or gradient echo, by the standard's tags, then by names; None where unknown."""
    facts = frame.facts
    if facts.steady_state == "FREE_PRECESSION":
        return "bssfp"
    if facts.steady_state == "NONE" and facts.echo_pulse == "GRADIENT":
        return "gre"
    names = "|".join(facts.sequence_texts)
    if _BSSFP.search(names):
        return "bssfp"
    if _GRE.search(names):
        return "gre"
    if "GR" in facts.scanning_sequence:
        spoiled, steady = "SP" in facts.sequence_variant, "SS" in facts.sequence_variant
        # GE writes both for spoiled echoes; elsewhere both together say nothing.
        if spoiled and (not steady or facts.vendor == "GE"):
            return "gre"
        if steady and not spoiled:
            return "bssfp"
    if _BSSFP.search(facts.description):
        return "bssfp"
    return "gre" if _GRE.search(facts.description) else None
