"""What is true in the demo: every number that its outputs can be held against.

The sizes are in the range of published ones (healthy hearts: Petersen 2017,
doi:10.1186/s12968-017-0327-9; trials: invented). Nothing here describes a real person or drug.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..records import ETHNICITIES


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTruth:
    """One randomised trial: size, its own true effect, and what its core lab does to volumes.

    ``effect_ef_points`` is the trial's true treatment effect on LVEF; ``edv_factor`` and
    ``esv_factor`` multiply the true volumes in the trial's reported values.
    """

    name: str
    n: int
    effect_ef_points: float
    edv_factor: float
    esv_factor: float


def _trial(name: str, n: int, effect: float, edv: float, esv: float) -> TrialTruth:
    return TrialTruth(name=name, n=n, effect_ef_points=effect, edv_factor=edv, esv_factor=esv)


MEAN_EFFECT_EF_POINTS = 3.0
# The first three have images too; all six stand in the large table. Mean effect: 3 points.
TRIALS: tuple[TrialTruth, ...] = (
    _trial("ALPHA", 260, 2.4, 1.09, 1.04),
    _trial("BETA", 180, 3.9, 0.93, 1.00),
    _trial("GAMMA", 320, 2.7, 1.02, 0.90),
    _trial("EPSILON", 220, 3.4, 0.97, 1.05),
    _trial("ZETA", 140, 2.5, 1.06, 1.10),
    _trial("ETA", 400, 3.1, 1.00, 0.95),
)
IMAGED_TRIALS = TRIALS[:3]
HEALTHY = "DELTA"
# Healthy cohorts of the large table, and how many people each has.
HEALTHY_COHORTS: Mapping[str, int] = {HEALTHY: 4000, "THETA": 2500}
FOLLOW_UP = "followup_12m"
FOLLOW_UP_DAY = 365

# Healthy hearts: mean at age 45 and change a decade (indexed to body surface area), SD.
HEALTHY_MEANS: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "male": {"edvi": (85.0, -2.2, 14.0), "ef": (60.0, 0.4, 5.0), "massi": (60.0, 0.3, 8.5)},
    "female": {"edvi": (76.0, -2.6, 12.0), "ef": (62.5, 0.5, 4.8), "massi": (47.0, 0.4, 7.0)},
}
ETHNICITY_SHARES: Mapping[str, float] = dict(
    zip(ETHNICITIES, (0.48, 0.16, 0.16, 0.14, 0.06, 0.0), strict=True)
)
ETHNICITY_EDVI: Mapping[str, float] = {"south-asian": -7.0, "chinese": -5.0, "black": 1.0}
