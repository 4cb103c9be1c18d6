"""The kind of sequence of a cine: bSSFP and gradient echo read volumes differently."""

from __future__ import annotations

import re
from typing import Literal

from .frame import Frame

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
