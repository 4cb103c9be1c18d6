"""Values far from their group: listed, and dropped only when asked.

Tukey's fences Q1 - 1.5 IQR and Q3 + 1.5 IQR after a power transformation to symmetry (Horn PS et
al., Clin Chem 2001;47:2137-45). The power is the one that makes the 10th and 90th centiles lie
equally far from the median (Hinkley DV, Biometrika 1975;62:101-11): unlike the maximum-likelihood
Box-Cox power, the outliers themselves do not move it.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize

from .order import interpolated_quantile
from .strata import Cell

_MIN_N = 20  # below it the quartiles say nothing of outliers
_POWERS = (-2.0, 3.0)


def tukey_fences(ordered: np.ndarray) -> tuple[float, float]:
    """The fences of sorted values ``[n]`` on their own scale; (-inf, inf) for fewer than 20."""
    if len(ordered) < _MIN_N:
        return -math.inf, math.inf
    power = symmetry_power(ordered)
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
    if power == 1.0:
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


def outlying(cell: Cell) -> tuple[np.ndarray, float, float]:
    """Members ``[outliers]`` of a cell beyond its fences, and the fences."""
    low, high = tukey_fences(cell.ordered)
    return cell.members[(cell.ordered < low) | (cell.ordered > high)], low, high
