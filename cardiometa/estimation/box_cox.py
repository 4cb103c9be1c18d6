"""The Box-Cox power by profile likelihood (Box GEP, Cox DR. JRSS B 1964;26:211-52, eq. 8)."""

from __future__ import annotations

import numpy as np
from scipy import optimize

POWERS = (-5.0, 7.0)
_STEP = 0.05
_ZERO = 1e-9
_CHUNK = 50_000  # numbers held at once


def box_cox(values: np.ndarray, power: float) -> np.ndarray:
    """(y^p - 1)/p, ln y at p = 0; ``values`` positive."""
    log = np.log(values)
    if abs(power) < _ZERO:
        return np.asarray(log)
    return np.asarray(np.expm1(power * log) / power)


def inverse_box_cox(values: np.ndarray, power: float) -> np.ndarray:
    """What `box_cox` makes ``values`` of; NaN where there is no such number."""
    t = np.asarray(values, dtype=float)
    if abs(power) < _ZERO:
        return np.asarray(np.exp(t))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.exp(np.log1p(np.where(power * t > -1, power * t, np.nan)) / power))


def profile_log_likelihood(values: np.ndarray, power: float) -> float:
    """Up to a constant: -n/2·ln(variance) + (p - 1)·Σ ln y, in units of the geometric mean."""
    log = np.log(values)
    log = log - log.mean()
    t = log if abs(power) < _ZERO else np.expm1(power * log) / power
    return -len(values) / 2 * float(np.log(t.var()))


def box_cox_power(values: np.ndarray) -> float:
    """The power of the highest profile, from a fine grid of -5 to 7, then polished.

    ``values`` ``[n]`` positive and not all equal.
    """
    grid = np.arange(POWERS[0], POWERS[1] + _STEP / 2, _STEP)
    best = int(np.argmax(_profile_of_grid(values, grid)))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = optimize.minimize_scalar(
        lambda p: -profile_log_likelihood(values, p),
        bounds=(float(low), float(high)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return float(found.x)


def _profile_of_grid(values: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """The profile at every power, ``[powers]``, as many at once as fit into the cache."""
    log = np.log(values)
    log = log - log.mean()
    at_once = max(1, _CHUNK // len(log))
    found = []
    for start in range(0, len(powers), at_once):
        part = powers[start : start + at_once]
        safe = np.where(np.abs(part) < _ZERO, 1.0, part)[:, None]
        t = np.expm1(safe * log) / safe
        t[np.abs(part) < _ZERO] = log
        found.append(-len(log) / 2 * np.log(t.var(axis=1)))
    return np.concatenate(found)
