"""What a measure can be: one table, and the checks of a harmonised table against it.

`LIMITS` is the table. Everything else of a measure (unit, definition) is in `measurement.measures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..measurement.indexing import HEIGHT_CM, WEIGHT_KG
from .recode import ADULT_BOUNDS

Span = tuple[float, float]
_POSITIVE: Span = (0.0, float("inf"))
_ANY: Span = (float("-inf"), float("inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureLimits:
    """What a measure can be in adults, in the unit of its name.

    ``possible``: open interval; a value at or beyond an end is not one of a living heart.
    ``plausible``: of one person; beyond it an error is likelier than a heart.
    ``median``: of a trial's participants, from the smallest healthy groups to the most dilated
    hearts; None where it is not judged.
    ``causes``: factor and reason; a median that ``factor`` brings into its range is explained so.
    """

    possible: Span
    plausible: Span
    median: Span | None = None
    causes: tuple[tuple[float, str], ...] = ()


_LITRES = ((1000.0, "litres instead of millilitres"), (0.001, "microlitres"))
_BSA = 1.9  # m², of an ordinary adult
_VOLUME = (*_LITRES, (_BSA, "an index (mL/m²) instead of the volume"))
_VOLUME_INDEX = (
    *_LITRES,
    (1 / _BSA, "the volume (mL) instead of the index"),
)
_FRACTION = ((100.0, "fractions instead of percent"), (0.01, "percent multiplied by 100"))
_GRAMS = ((1000.0, "kilograms instead of grams"), (0.001, "milligrams"))
_MASS = (*_GRAMS, (_BSA, "an index (g/m²) instead of the mass"))
_MASS_INDEX = (*_GRAMS, (1 / _BSA, "the mass (g) instead of the index"))


def _limits(
    plausible: Span,
    median: Span | None,
    causes: tuple[tuple[float, str], ...] = (),
    possible: Span = _POSITIVE,
) -> MeasureLimits:
    return MeasureLimits(possible=possible, plausible=plausible, median=median, causes=causes)


# Healthy adults: Kawel-Boehm et al., J Cardiovasc Magn Reson 22:87, 2020; the upper ends are of
# trials of heart failure. An index is the measure divided by 1.5 to 2.2 m².
# fmt: off
LIMITS: Mapping[str, MeasureLimits] = {
    "lv_edv_ml": _limits((30.0, 700.0), (85.0, 400.0), _VOLUME),
    "lv_esv_ml": _limits((5.0, 650.0), (25.0, 330.0), _VOLUME),
    "lv_sv_ml": _limits((10.0, 250.0), (35.0, 160.0), _VOLUME),
    "lv_ef_percent": _limits((5.0, 85.0), (12.0, 80.0), _FRACTION, (0.0, 100.0)),
    "lv_mass_g": _limits((25.0, 600.0), (50.0, 350.0), _MASS),
    "rv_edv_ml": _limits((30.0, 700.0), (85.0, 400.0), _VOLUME),
    "rv_esv_ml": _limits((5.0, 650.0), (25.0, 330.0), _VOLUME),
    "rv_sv_ml": _limits((10.0, 250.0), (35.0, 160.0), _VOLUME),
    "rv_ef_percent": _limits((5.0, 85.0), (12.0, 80.0), _FRACTION, (0.0, 100.0)),
    "heart_rate_bpm": _limits((25.0, 220.0), (45.0, 130.0), ((60.0, "beats per second"),)),
    "lv_co_l_min": _limits((1.0, 25.0), (2.0, 12.0), ((0.001, "mL/min instead of L/min"),)),
    "lv_edvi_ml_m2": _limits((15.0, 400.0), (40.0, 220.0), _VOLUME_INDEX),
    "lv_esvi_ml_m2": _limits((2.0, 350.0), (12.0, 180.0), _VOLUME_INDEX),
    "lv_svi_ml_m2": _limits((5.0, 130.0), (18.0, 85.0), _VOLUME_INDEX),
    "lv_massi_g_m2": _limits((12.0, 320.0), (25.0, 180.0), _MASS_INDEX),
    "rv_edvi_ml_m2": _limits((15.0, 400.0), (40.0, 220.0), _VOLUME_INDEX),
    "rv_esvi_ml_m2": _limits((2.0, 350.0), (12.0, 180.0), _VOLUME_INDEX),
    "rv_svi_ml_m2": _limits((5.0, 130.0), (18.0, 85.0), _VOLUME_INDEX),
    "lv_wall_thickness_max_mm": _limits((3.0, 50.0), (5.0, 35.0),
        ((10.0, "centimetres instead of millimetres"), (0.1, "micrometres"))),
    "lv_gcs_percent": _limits((-50.0, 5.0), None, (), (-100.0, 100.0)),
    "bsa_m2": _limits((1.0, 3.2), (1.3, 2.5), ((0.0001, "cm² instead of m²"),)),
    "age_years": _limits((16.0, 105.0), (18.0, 95.0),
        ((1 / 12, "months instead of years"), (1 / 365.25, "days instead of years")), (0.0, 120.0)),
    "height_cm": _limits(ADULT_BOUNDS["height_cm"], (150.0, 190.0),
        ((100.0, "metres instead of centimetres"), (2.54, "inches instead of centimetres"),
         (0.1, "millimetres instead of centimetres")), HEIGHT_CM),
    "weight_kg": _limits(ADULT_BOUNDS["weight_kg"], (45.0, 130.0),
        ((0.45359237, "pounds instead of kilograms"), (0.001, "grams instead of kilograms")),
        WEIGHT_KG),
    "visit_day": _limits((-3700.0, 22000.0), None, (), _ANY),
    "death_day": _limits((0.0, 22000.0), None, (), (-0.5, 37000.0)),
    "withdrawal_day": _limits((0.0, 22000.0), None, (), (-0.5, 37000.0)),
}
# fmt: on


def possible_values(name: str) -> Span:
    """The open interval of values that a measure can have.

    A trial's own value (``reported_lv_edv_ml``) has the measure's; a measure divided by a power of
    body size is above 0; any other name can be anything.
    """
    limits = LIMITS.get(name.removeprefix("reported_"))
    if limits is not None:
        return limits.possible
    return _POSITIVE if "_per_" in name else _ANY
