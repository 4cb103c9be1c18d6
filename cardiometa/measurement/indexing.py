"""Measures divided by body size: body surface area by five formulas, height, weight.

Formula choice moves an indexed limit by about 1 % in ordinary bodies and by 5 % at 160 cm and
120 kg, so every index names its formula: ``lv_mass_g_per_height_1.7`` is ``lv_mass_g`` / (height in
m)^1.7, ``lv_edv_ml_per_bsa_dubois`` is ``lv_edv_ml`` / (DuBois' body surface)^1. The name contains
all that the number needs, so that a range and a score made by it are of one index.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from ..errors import InputError, Problem, UsageError

# Bounds of any human body; a value outside is a unit (m for cm, g or lb for kg), not a person.
HEIGHT_CM = (3.0, 260.0)
WEIGHT_KG = (2.0, 400.0)

# Height in cm and weight in kg to m², of numbers or arrays.
FORMULAS: Mapping[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        # Mosteller 1987, DuBois and DuBois 1916, Haycock 1978, Gehan and George 1970, Boyd 1935
        "mosteller": lambda h, w: np.sqrt(h * w / 3600),
        "dubois": lambda h, w: 0.007184 * h**0.725 * w**0.425,
        "haycock": lambda h, w: 0.024265 * h**0.3964 * w**0.5378,
        "gehan-george": lambda h, w: 0.0235 * h**0.42246 * w**0.51456,
        "boyd": lambda h, w: (
            0.0003207 * h**0.3 * (1000 * w) ** (0.7285 - 0.0188 * np.log10(1000 * w))
        ),
    }
)
DEFAULT_FORMULA = "mosteller"


def body_surface_area_m2(
    height_cm: float | None, weight_kg: float | None, formula: str = DEFAULT_FORMULA
) -> float | None:
    """Body surface area in m², None where height or weight is unknown (None or NaN).

    Raises UsageError for a formula that is not in `FORMULAS`, InputError for a size that no human
    has (height 3 to 260 cm, weight 2 to 400 kg), which is what metres or grams look like.
    """
    if formula not in FORMULAS:
        raise UsageError(
            f"{formula!r} is not a formula for body surface area.",
            hint=f"Choose one of {', '.join(FORMULAS)}.",
        )
    if height_cm is None or weight_kg is None or math.isnan(height_cm) or math.isnan(weight_kg):
        return None
    problems = [
        Problem(
            where=name,
            what=f"{value:g} {unit} is outside {low:g} to {high:g} {unit}",
            why="Body surface area and every indexed volume would be wrong.",
            fix=f"Check the unit: the {name} must be in {unit}.",
        )
        for name, value, unit, (low, high) in (
            ("height", height_cm, "cm", HEIGHT_CM),
            ("weight", weight_kg, "kg", WEIGHT_KG),
        )
        if not low <= value <= high
    ]
    if problems:
        raise InputError(" ".join(str(problem) for problem in problems), problems=problems)
    return float(FORMULAS[formula](float(height_cm), float(weight_kg)))


def indexed(value: float | None, bsa_m2: float | None) -> float | None:
    """``value`` per m² of body surface; None where either is unknown."""
    return None if value is None or bsa_m2 is None else value / bsa_m2


# ------------------------------------------------------------------ measures named by their index

_NAME = re.compile(
    r"(?P<of>[a-z][a-z0-9_]*?_(ml|g))_per_(?P<size>height|weight|bsa_[a-z-]+?)"
    r"(?:_(?P<power>\d+(?:\.\d+)?))?"
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
        return f"{unit}/{'(m2)' if base == 'm2' else base}^{self.power:g}"

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns of body size that it needs."""
        single = {"height": ("height_cm",), "weight": ("weight_kg",)}
        return single.get(self.size, ("height_cm", "weight_kg"))


def derived_measure(name: str) -> DerivedMeasure | None:
    """What a name asks for; None where it is not a derived measure of a volume or mass."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    size, power = found["size"], float(found["power"] or 1)
    known = not size.startswith("bsa_") or size.removeprefix("bsa_") in FORMULAS
    if not known or not 0 < power <= 5:
        return None
    return DerivedMeasure(of=found["of"], size=size, power=power)


def body_sizes(size: str, height_cm: np.ndarray, weight_kg: np.ndarray) -> np.ndarray:
    """``size`` of each participant in m, kg or m²; NaN where unknown or not a human's."""
    h = np.where((height_cm >= HEIGHT_CM[0]) & (height_cm <= HEIGHT_CM[1]), height_cm, math.nan)
    w = np.where((weight_kg >= WEIGHT_KG[0]) & (weight_kg <= WEIGHT_KG[1]), weight_kg, math.nan)
    if size == "height":
        return np.asarray(h / 100)
    return np.asarray(w if size == "weight" else FORMULAS[size.removeprefix("bsa_")](h, w))


def derived_values(
    measure: DerivedMeasure, values: np.ndarray, height_cm: np.ndarray, weight_kg: np.ndarray
) -> np.ndarray:
    """``values`` ``[n]`` of the absolute measure, indexed; NaN where the size is unknown."""
    return np.asarray(values / body_sizes(measure.size, height_cm, weight_kg) ** measure.power)
