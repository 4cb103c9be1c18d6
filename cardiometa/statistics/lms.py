"""The Box-Cox power by profile likelihood (Box GEP, Cox DR. JRSS B 1964;26:211-52, eq. 8).

The LMS distribution (Cole TJ, Green PJ. Stat Med 1992): after a Box-Cox power values are normal.
With w = ln(y/M): z = (exp(L·w) - 1)/(L·S), and w/S at L = 0. The density is the one of Cole &
Green's eq. 4 (without the truncation of gamlss' BCCG, which matters where S·|L| is large).
"""

from __future__ import annotations

import numpy as np
from scipy import optimize

POWERS = (-5.0, 7.0)
_STEP = 0.25
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
    """The power of the highest profile, from a grid of -5 to 7, then polished.

    ``values`` ``[n]`` positive and not all equal.
    """
    grid = np.arange(POWERS[0], POWERS[1] + _STEP / 2, _STEP)
    log = np.log(values)
    log = log - log.mean()
    at_once = max(1, _CHUNK // len(log))  # as many powers as fit into the cache
    profile = []
    for start in range(0, len(grid), at_once):
        part = grid[start : start + at_once]
        safe = np.where(np.abs(part) < _ZERO, 1.0, part)[:, None]
        t = np.expm1(safe * log) / safe
        t[np.abs(part) < _ZERO] = log
        profile.append(-len(log) / 2 * np.log(t.var(axis=1)))
    best = int(np.argmax(np.concatenate(profile)))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = optimize.minimize_scalar(
        lambda p: -profile_log_likelihood(values, p),
        bounds=(float(low), float(high)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return float(found.x)


# Below this |L·w| the series is exact to double precision and the quotient is not.
_SMALL = 1e-4


def lms_centile(z: np.ndarray, m: np.ndarray, s: np.ndarray, ell: np.ndarray) -> np.ndarray:
    """The value whose z score is ``z``: M(1 + L·S·z)^(1/L), M·exp(S·z) at L = 0.

    NaN where 1 + L·S·z is not positive: the distribution has no such value.
    """
    z, m, s, ell = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (z, m, s, ell)))
    t = ell * s * z
    zero = np.abs(t) < _SMALL
    with np.errstate(divide="ignore", invalid="ignore"):
        grown = np.log1p(np.where(t > -1, t, np.nan)) / np.where(zero, 1.0, ell)
    # ln(1 + t)/L = s·z·(1 - t/2 + t²/3 - t³/4)
    series = s * z * (1 - t / 2 + t * t / 3 - t**3 / 4)
    return np.asarray(m * np.exp(np.where(zero, series, grown)))


def scaled_power(w: np.ndarray, ell: np.ndarray) -> np.ndarray:
    """(exp(L·w) - 1)/L, w at L = 0."""
    t = ell * w
    zero = np.abs(t) < _SMALL
    if not zero.any():
        return np.asarray(np.expm1(t) / ell)
    safe = np.where(zero, 1.0, ell)
    series = w * (1 + t / 2 * (1 + t / 3 * (1 + t / 4)))
    return np.asarray(np.where(zero, series, np.expm1(t) / safe))


def lms_log_density_terms(
    w: np.ndarray, s: np.ndarray, ell: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """z, and the log density without -ln y - ln(2π)/2, at w = ln(y/M)."""
    z = scaled_power(w, ell) / s
    return z, ell * w - np.log(s) - z * z / 2


def shape_quotient(w: np.ndarray, z: np.ndarray, s: np.ndarray, ell: np.ndarray) -> np.ndarray:
    """(z - w/S)/L, w²/(2S) at L = 0."""
    t = ell * w
    zero = np.abs(t) < _SMALL
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = (z - w / s) / ell
    # (z - w/S)/L = w²/S·(1/2 + t/6 + t²/24)
    series = w * w / s * (0.5 + t / 6 + t * t / 24)
    return np.asarray(np.where(zero, series, plain))


def lms_shape_score(w: np.ndarray, z: np.ndarray, s: np.ndarray, ell: np.ndarray) -> np.ndarray:
    """d/dL of the log density: (z/L)(z - w/S) - w(z² - 1); z·w²/(2S) - w(z² - 1) at L = 0."""
    return np.asarray(z * shape_quotient(w, z, s, ell) - w * (z * z - 1))
