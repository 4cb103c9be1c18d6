"""Short names of measures and units as a journal prints them."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

_PARTS: Final = MappingProxyType(
    {
        "edv": "EDV",
        "esv": "ESV",
        "sv": "SV",
        "ef": "EF",
        "mass": "mass",
        "co": "CO",
        "edvi": "EDV index",
        "esvi": "ESV index",
        "svi": "SV index",
        "massi": "mass index",
    }
)
_OTHERS: Final = MappingProxyType(
    {
        "heart_rate_bpm": "Heart rate",
        "bsa_m2": "Body surface area",
        "age_years": "Age",
        "height_cm": "Height",
        "weight_kg": "Weight",
    }
)
ABBREVIATIONS: Final = (
    "LV left ventricle, RV right ventricle, EDV and ESV end-diastolic and end-systolic volume, "
    "SV stroke volume, EF ejection fraction, CO cardiac output."
)


def measure_name(column: str) -> str:
    """``lv_edvi_ml_m2`` as ``LV EDV index``; a column of the user's own stays as it is."""
    if column in _OTHERS:
        return _OTHERS[column]
    chamber, _, rest = column.partition("_")
    part = _PARTS.get(rest.partition("_")[0])
    return f"{chamber.upper()} {part}" if chamber in ("lv", "rv") and part else column


def unit_name(unit: str) -> str:
    """``mL/m2`` as ``mL/m²``; the rate ``1/min`` as ``beats/min``."""
    if unit == "1/min":
        return "beats/min"
    return unit.replace("m2", "m²")


def measure_label(column: str, unit: str) -> str:
    """``LV EDV index, mL/m²``."""
    return f"{measure_name(column)}, {unit_name(unit)}" if unit else measure_name(column)
