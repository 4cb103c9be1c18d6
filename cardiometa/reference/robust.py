"""The robust limits of Horn: biweight location and spread, with a bootstrap interval.

Horn PS, Pesce AJ, Copeland BE. Clin Chem 1998;44:622-31; CLSI EP28-A3c, appendix B.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LOCATION_C = 3.7
_SPREAD_C = 205.6
_MAD_TO_SD = 0.6745
_MAX_STEPS = 500
_CHUNK = 2_000_000  # numbers held at once while resampling


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
    centre = _biweight_location(samples, median, unit, tolerance)
    wide = _biweight_scale(samples, median, unit, _SPREAD_C) * np.sqrt(n)
    narrow = _biweight_scale(samples, median, unit, _LOCATION_C) * np.sqrt(n)
    error = _biweight_scale(samples, centre, narrow, _LOCATION_C)
    return RobustFit(centre=centre, spread=np.sqrt(wide**2 + error**2))


def _biweight_location(
    samples: np.ndarray, start: np.ndarray, unit: np.ndarray, tolerance: float
) -> np.ndarray:
    centre = start.copy()
    moving = np.isfinite(unit)
    centre[~moving] = np.nan
    for _ in range(_MAX_STEPS):
        rows = np.flatnonzero(moving)
        if not len(rows):
            break
        u = (samples[rows] - centre[rows, None]) / (_LOCATION_C * unit[rows, None])
        u *= u
        weight = np.square(1 - np.minimum(u, 1.0))
        step = np.einsum("ij,ij->i", samples[rows] - centre[rows, None], weight)
        step /= weight.sum(axis=1)
        centre[rows] += step
        moving[rows] = np.abs(step) >= tolerance * unit[rows]
    return centre


def _biweight_scale(
    samples: np.ndarray, centre: np.ndarray, unit: np.ndarray, c: float
) -> np.ndarray:
    """c·s·√(Σ(1-u²)⁴u² / (D·max(1, D-1))), D = Σ(1-u²)(1-5u²), sums over |u| < 1.

    This is S_T; times √n it is s_bi.
    """
    u2 = np.square((samples - centre[:, None]) / (c * unit[:, None]))
    inside = np.where(u2 < 1, 1 - u2, 0.0)
    above = np.einsum("ij,ij->i", inside**4, u2)
    below = np.einsum("ij,ij->i", inside, 1 - 5 * u2)
    product = below * np.maximum(1.0, below - 1.0)
    ratio = np.divide(above, product, out=np.full_like(above, np.nan), where=product > 0)
    return np.asarray(c * unit * np.sqrt(ratio))


def resampled_fits(ordered: np.ndarray, samples: int, seed: int) -> RobustFit:
    """`robust_fit` of ``samples`` bootstrap samples of people; the same for one seed.

    ``ordered`` ``[n]`` must be sorted, so that the order of rows in a file plays no part.
    """
    rng = np.random.default_rng(seed)
    n = len(ordered)
    at_once = max(1, min(samples, _CHUNK // n))
    centres, spreads = [], []
    for start in range(0, samples, at_once):
        drawn = ordered[rng.integers(0, n, size=(min(at_once, samples - start), n))]
        # Bootstrap noise is far above 1e-6 of the spread.
        fit = robust_fit(drawn, tolerance=1e-6)
        centres.append(fit.centre)
        spreads.append(fit.spread)
    return RobustFit(centre=np.concatenate(centres), spread=np.concatenate(spreads))
