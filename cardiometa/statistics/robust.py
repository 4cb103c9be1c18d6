"""Robust location and spread, and the fences of outliers.

Horn's biweight: Horn PS, Pesce AJ, Copeland BE. Clin Chem 1998;44:622-31; CLSI EP28-A3c, app. B.

Tukey's fences Q1 - 1.5 IQR and Q3 + 1.5 IQR after a power transformation to symmetry: Horn PS et
al., Clin Chem 2001;47:2137-45. The power is the one that makes the 10th and 90th centiles lie
equally far from the median (Hinkley DV, Biometrika 1975;62:101-11): unlike the maximum-likelihood
Box-Cox power, the outliers themselves do not move it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from .lms import box_cox_power
from .order_statistics import interpolated_quantile

_LOCATION_C = 3.7
_SPREAD_C = 205.6
_MAD_TO_SD = 0.6745
_MAX_STEPS = 500
_CHUNK = 2_000_000  # numbers in memory at once while resampling


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustFit:
    """``centre`` and ``spread`` ``[samples]``: a limit is centre + t·spread, t on n - 1 df.

    NaN where more than half of a sample is one value (its MAD is 0).
    """

    centre: np.ndarray
    spread: np.ndarray


def robust_fit(samples: np.ndarray, *, tolerance: float = 1e-12) -> RobustFit:
    """Horn's location and spread of each row of ``samples`` ``[samples, n]``.

    With median M, s = MAD/0.6745: T is the biweight location (c = 3.7) iterated from M until it
    moves by less than ``tolerance`` × s; the spread is √(s_bi(205.6)² + S_T(3.7)²), s_bi the
    biweight scale about M, S_T the standard error of T in units of s_bi(3.7).
    """
    n = samples.shape[1]
    median = np.median(samples, axis=1)
    unit = np.median(np.abs(samples - median[:, None]), axis=1) / _MAD_TO_SD
    unit = np.where(unit > 0, unit, np.nan)
    centre = median.copy()
    moving = np.isfinite(unit)
    centre[~moving] = np.nan
    for _ in range(_MAX_STEPS):
        rows = np.flatnonzero(moving)
        if not len(rows):
            break
        away = samples[rows] - centre[rows, None]
        u = away / (_LOCATION_C * unit[rows, None])
        u *= u
        np.minimum(u, 1.0, out=u)
        weight = np.square(np.subtract(1, u, out=u), out=u)
        step = np.einsum("ij,ij->i", away, weight) / weight.sum(axis=1)
        centre[rows] += step
        moving[rows] = np.abs(step) >= tolerance * unit[rows]
    wide = _biweight_scale(samples, median, unit, _SPREAD_C) * np.sqrt(n)
    narrow = _biweight_scale(samples, median, unit, _LOCATION_C) * np.sqrt(n)
    error = _biweight_scale(samples, centre, narrow, _LOCATION_C)
    return RobustFit(centre=centre, spread=np.sqrt(wide**2 + error**2))


def _biweight_scale(
    samples: np.ndarray, centre: np.ndarray, unit: np.ndarray, c: float
) -> np.ndarray:
    """c·s·√(Σ(1-u²)⁴u² / (D·max(1, D-1))), D = Σ(1-u²)(1-5u²), sums over |u| < 1.

    This is S_T; times √n it is s_bi.
    """
    u2 = np.square((samples - centre[:, None]) / (c * unit[:, None]))
    inside = np.maximum(1 - u2, 0.0)
    above = np.einsum("ij,ij->i", np.square(np.square(inside)), u2)
    below = np.einsum("ij,ij->i", inside, 1 - 5 * u2)
    product = below * np.maximum(1.0, below - 1.0)
    ratio = np.divide(above, product, out=np.full_like(above, np.nan), where=product > 0)
    return np.asarray(c * unit * np.sqrt(ratio))


def resampled_fits(ordered: np.ndarray, samples: int, seed: int) -> RobustFit:
    """`robust_fit` of ``samples`` bootstrap samples of participants; the same for one seed.

    ``ordered`` ``[n]`` must be sorted, so that the order of rows in a file does not matter.
    """
    rng = np.random.default_rng(seed)
    n = len(ordered)
    at_once = max(1, min(samples, _CHUNK // n))
    fits = []
    for start in range(0, samples, at_once):
        drawn = ordered[rng.integers(0, n, size=(min(at_once, samples - start), n))]
        # Bootstrap noise is far above 1e-6 of the spread.
        fits.append(robust_fit(drawn, tolerance=1e-6))
    return RobustFit(
        centre=np.concatenate([f.centre for f in fits]),
        spread=np.concatenate([f.spread for f in fits]),
    )


# ------------------------------------------------------------------ outliers

MIN_N = 20  # below it the quartiles say nothing of outliers
_POWERS = (-2.0, 3.0)
_POWER_FROM = 2000


def tukey_fences(ordered: np.ndarray, reach: float = 1.5) -> tuple[float, float]:
    """The fences of sorted values ``[n]`` on their own scale; (-inf, inf) for fewer than 20.

    ``reach`` in interquartile ranges; values beyond 3 are Tukey's "far out".
    """
    if len(ordered) < MIN_N:
        return -math.inf, math.inf
    return _fences(ordered, symmetry_power(ordered), reach)


def horn_fences(ordered: np.ndarray) -> tuple[float, float]:
    """Horn's own fences: Tukey's after the Box-Cox power of the highest likelihood.

    Of many values the power is that of 2,000 of them, equally spaced in rank. (-inf, inf) for
    fewer than 20 values, or where they are not all positive or all equal.
    """
    if len(ordered) < MIN_N or ordered[0] <= 0 or not ordered[0] < ordered[-1]:
        return -math.inf, math.inf
    thinned = ordered
    if len(ordered) > _POWER_FROM:
        thinned = ordered[np.linspace(0, len(ordered) - 1, _POWER_FROM).astype(int)]
    return _fences(ordered, box_cox_power(thinned))


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


def _fences(ordered: np.ndarray, power: float, iqrs: float = 1.5) -> tuple[float, float]:
    """Tukey's fences after a power, on the values' own scale."""
    q1, q3 = (_transformed(interpolated_quantile(ordered, p), power) for p in (0.25, 0.75))
    reach = iqrs * (q3 - q1)

    def back(value: float) -> float:
        if power == 1.0:  # also of values that are not positive
            return value + 1
        if abs(power) < 1e-9:
            return math.exp(value)
        inner = power * value + 1
        if inner <= 0:  # beyond what the power can reach: no value can lie there
            return -math.inf if power > 0 else math.inf
        return float(inner ** (1 / power))

    return back(q1 - reach), back(q3 + reach)


def _transformed(value: float, power: float) -> float:
    return math.log(value) if abs(power) < 1e-9 else (value**power - 1) / power


def dixon_extremes(ordered: np.ndarray) -> tuple[bool, bool]:
    """Whether the smallest and the largest value are apart by a third of the range or more.

    Dixon's D/R as Reed used it for reference intervals (Reed AH, Henry RJ, Mason WB. Clin Chem
    1971;17:275-84; EP28-A3c); ``ordered`` ``[n]`` ascending, n ≥ 3.
    """
    spread = float(ordered[-1] - ordered[0])
    if len(ordered) < 3 or spread <= 0:
        return False, False
    low, high = float(ordered[1] - ordered[0]), float(ordered[-1] - ordered[-2])
    return low >= spread / 3, high >= spread / 3
