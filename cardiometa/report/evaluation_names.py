"""Words of an evaluation's figures and tables."""

from __future__ import annotations

from typing import Final

from ..evaluation.manual import CONTOURED
from .reference_figures import ETHNICITY_NAMES, SEX_NAMES

STRUCTURE_NAMES: Final = {
    "lv_cavity": "LV cavity",
    "lv_myocardium": "LV myocardium",
    "rv_cavity": "RV cavity",
}
PHASE_ORDER: Final = ("ED", "ES", "ED+ES", "other")
GROUP_NAMES: Final = {
    "all": "",
    "sex": "sex",
    "age_band": "age, years",
    "ethnicity": "ethnicity",
    "vendor": "vendor",
    "field_strength": "field strength",
    "trial": "trial",
}


def group_label(by: str, name: str) -> str:
    """A group as a line of a figure or table."""
    if by == "all":
        return "All"
    if by == "sex":
        return SEX_NAMES.get(name, name)
    if by == "ethnicity":
        return ETHNICITY_NAMES.get(name, name)
    if by == "age_band":
        return f"{name.replace('-', '–')} years"
    return name


def scope_words(scope: str) -> str:
    """What part of the heart was compared, where it is not the whole stack."""
    return ", contoured slices" if scope == CONTOURED else ""
