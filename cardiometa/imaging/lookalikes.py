"""MR images at the place of a cine that are none: flow, tagging, perfusion, maps, screenshots."""

from __future__ import annotations

import re
from typing import Any

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
