"""Measures divided by a power of body size, named by what they are.

``lv_mass_g_per_height_1.7`` is ``lv_mass_g`` / (height in m)^1.7, ``lv_edv_ml_per_bsa_dubois`` is
``lv_edv_ml`` / (DuBois' body surface)^1. The name holds all that the number needs, so that a range
and a score made by it are of one index.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from .indexing import FORMULAS, HEIGHT_CM, WEIGHT_KG

_NAME = re.compile(
    r"(?P<of>[a-z][a-z0-9_]*?)_per_(?P<size>height|weight|bsa_[a-z-]+?)(?:_(?P<power>\d+(?:\.\d+)?))?"
)
_ABSOLUTE = re.compile(r".+_(ml|g)")
# In m, kg and m²; DuBois and Mosteller by their own powers of cm and kg.
_BSA: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = MappingProxyType(
    {
        "mosteller": lambda h, w: np.sqrt(h * w / 3600),
        "dubois": lambda h, w: 0.007184 * h**0.725 * w**0.425,
        "haycock": lambda h, w: 0.024265 * h**0.3964 * w**0.5378,
        "gehan-george": lambda h, w: 0.0235 * h**0.42246 * w**0.51456,
        "boyd": lambda h, w: (
            0.0003207 * h**0.3 * (1000 * w) ** (0.7285 - 0.0188 * np.log10(1000 * w))
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedMeasure:
    """``of`` / ``size``^``power``; ``size`` is ``height``, ``weight`` or ``bsa_<formula>``."""

    of: str
    size: str
    power: float

    def unit(self, unit: str) -> str:
        """``g`` to ``g/m^1.7``; a surface is in m²."""
        base = {"height": "m", "weight": "kg"}.get(self.size, "m2")
        if self.power == 1:
            return f"{unit}/{base}"
        return (
            f"{unit}/({base})^{self.power:g}" if base == "m2" else f"{unit}/{base}^{self.power:g}"
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns of body size that it needs."""
        if self.size == "height":
            return ("height_cm",)
        return ("weight_kg",) if self.size == "weight" else ("height_cm", "weight_kg")


def derived_measure(name: str) -> DerivedMeasure | None:
    """What a name asks for; None where it is no derived measure of a volume or mass."""
    found = _NAME.fullmatch(name)
    if found is None or not _ABSOLUTE.fullmatch(found["of"]):
        return None
    size, power = found["size"], float(found["power"] or 1)
    if size.startswith("bsa_") and size.removeprefix("bsa_") not in FORMULAS:
        return None
    if not 0 < power <= 5:
        return None
    return DerivedMeasure(of=found["of"], size=size, power=power)


def body_sizes(size: str, height_cm: np.ndarray, weight_kg: np.ndarray) -> np.ndarray:
    """``size`` of each person in m, kg or m²; NaN where unknown or no human's."""
    h = np.where((height_cm >= HEIGHT_CM[0]) & (height_cm <= HEIGHT_CM[1]), height_cm, math.nan)
    w = np.where((weight_kg >= WEIGHT_KG[0]) & (weight_kg <= WEIGHT_KG[1]), weight_kg, math.nan)
    if size == "height":
        return np.asarray(h / 100)
    if size == "weight":
        return np.asarray(w)
    return np.asarray(_BSA[size.removeprefix("bsa_")](h, w))


def derived_values(
    measure: DerivedMeasure, values: np.ndarray, height_cm: np.ndarray, weight_kg: np.ndarray
) -> np.ndarray:
    """``values`` ``[n]`` of the absolute measure, indexed; NaN where the size is unknown."""
    return np.asarray(values / body_sizes(measure.size, height_cm, weight_kg) ** measure.power)
