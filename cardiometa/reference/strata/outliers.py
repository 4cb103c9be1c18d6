"""Values far from their group: listed, and dropped only when asked.

Tukey's fences Q1 - 1.5 IQR and Q3 + 1.5 IQR after a power transformation to symmetry (Horn PS et
al., Clin Chem 2001;47:2137-45). The power is the one that makes the 10th and 90th centiles lie
equally far from the median (Hinkley DV, Biometrika 1975;62:101-11): unlike the maximum-likelihood
Box-Cox power, the outliers themselves do not move it. The list that names people also says where
Horn's own fences (after the maximum-likelihood power) and Dixon's ratio call a value an outlier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from ...statistics.lms import box_cox_power
from ...statistics.order_statistics import interpolated_quantile
from .groups import Cell

_MIN_N = 20  # below it the quartiles say nothing of outliers
_POWERS = (-2.0, 3.0)
_POWER_FROM = 2000


def tukey_fences(ordered: np.ndarray) -> tuple[float, float]:
    """The fences of sorted values ``[n]`` on their own scale; (-inf, inf) for fewer than 20."""
    if len(ordered) < _MIN_N:
        return -math.inf, math.inf
    power = symmetry_power(ordered)
    q1, q3 = (_transformed(interpolated_quantile(ordered, p), power) for p in (0.25, 0.75))
    reach = 1.5 * (q3 - q1)
    return _back(q1 - reach, power), _back(q3 + reach, power)


def horn_fences(ordered: np.ndarray) -> tuple[float, float]:
    """Horn's own fences: Tukey's after the Box-Cox power of the highest likelihood.

    Of many values the power is that of 2,000 of them, equally far apart in rank. (-inf, inf) for
    fewer than 20 values, or where they are not all positive or all equal.
    """
    if len(ordered) < _MIN_N or ordered[0] <= 0 or not ordered[0] < ordered[-1]:
        return -math.inf, math.inf
    thinned = ordered
    if len(ordered) > _POWER_FROM:
        thinned = ordered[np.linspace(0, len(ordered) - 1, _POWER_FROM).astype(int)]
    power = box_cox_power(thinned)
    q1, q3 = (_transformed(interpolated_quantile(ordered, p), power) for p in (0.25, 0.75))
    reach = 1.5 * (q3 - q1)
    return _back(q1 - reach, power), _back(q3 + reach, power)


def symmetry_power(ordered: np.ndarray) -> float:
    """The Box-Cox power between -2 and 3 that makes the 10th and 90th centiles symmetric.

    1 (no change) where values are not all positive or no such power exists.
    """
    low, middle, high = (interpolated_quantile(ordered, p) for p in (0.1, 0.5, 0.9))
    if ordered[0] <= 0 or not low < middle < high:
        return 1.0

    def imbalance(power: float) -> float:
        # In units of the median the transformed median is 0.
        return _transformed(high / middle, power) + _transformed(low / middle, power)

    if imbalance(_POWERS[0]) * imbalance(_POWERS[1]) > 0:
        return 1.0
    return float(optimize.brentq(imbalance, *_POWERS, xtol=1e-12))


def _transformed(value: float, power: float) -> float:
    return math.log(value) if abs(power) < 1e-9 else (value**power - 1) / power


def _back(value: float, power: float) -> float:
    if power == 1.0:  # also of values that are not positive
        return value + 1
    if abs(power) < 1e-9:
        return math.exp(value)
    inner = power * value + 1
    if inner <= 0:  # beyond what the power can reach: no value can lie there
        return -math.inf if power > 0 else math.inf
    return float(inner ** (1 / power))


def dixon_extremes(ordered: np.ndarray) -> tuple[bool, bool]:
    """Whether the smallest and the largest value are apart by a third of the range or more.

    Dixon's D/R as Reed used it for reference intervals (Reed AH, Henry RJ, Mason WB. Clin Chem
    1971;17:275-84; EP28-A3c); ``ordered`` ``[n]`` ascending, n ≥ 3.
    """
    if len(ordered) < 3:
        return False, False
    spread = float(ordered[-1] - ordered[0])
    if spread <= 0:
        return False, False
    low, high = float(ordered[1] - ordered[0]), float(ordered[-1] - ordered[-2])
    return low >= spread / 3, high >= spread / 3


def outlying(cell: Cell) -> np.ndarray:
    """Members ``[outliers]`` of a cell beyond Tukey's fences."""
    low, high = tukey_fences(cell.ordered)
    return cell.members[(cell.ordered < low) | (cell.ordered > high)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A member of a cell beyond a rule's fences: which rules, and the fences of the first."""

    member: int
    rules: tuple[str, ...]
    low: float
    high: float


def suspects(cell: Cell) -> tuple[Suspect, ...]:
    """Everybody whom Tukey's, Horn's or Dixon's rule calls an outlier, by value."""
    ordered = cell.ordered
    fences = {"tukey": tukey_fences(ordered), "horn": horn_fences(ordered)}
    beyond = {rule: (ordered < low) | (ordered > high) for rule, (low, high) in fences.items()}
    apart = np.zeros(len(ordered), dtype=bool)
    if len(ordered) >= _MIN_N:
        apart[0], apart[-1] = dixon_extremes(ordered)
    beyond["dixon"] = apart
    found = []
    for place in np.flatnonzero(np.any(list(beyond.values()), axis=0)).tolist():
        rules = tuple(rule for rule, out in beyond.items() if out[place])
        low, high = fences.get(rules[0], fences["tukey"])
        member = int(cell.members[place])
        found.append(Suspect(member=member, rules=rules, low=low, high=high))
    return tuple(found)
