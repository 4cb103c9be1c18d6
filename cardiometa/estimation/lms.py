"""The LMS law: after a Box-Cox power the values are normal (Cole TJ, Green PJ. Stat Med 1992).

With w = ln(y/M): z = (exp(L·w) - 1)/(L·S), and w/S at L = 0. The density is the one of Cole &
Green's eq. 4 (without the truncation of gamlss' BCCG, which matters where S·|L| is large).
"""

from __future__ import annotations

import numpy as np

# Below this |L·w| the series is exact to double precision and the quotient is not.
_SMALL = 1e-4


def lms_centile(z: np.ndarray, m: np.ndarray, s: np.ndarray, ell: np.ndarray) -> np.ndarray:
    """The value whose z score is ``z``: M(1 + L·S·z)^(1/L), M·exp(S·z) at L = 0.

    NaN where 1 + L·S·z is not positive: the law has no such value.
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


def lms_shape_score(w: np.ndarray, z: np.ndarray, s: np.ndarray, ell: np.ndarray) -> np.ndarray:
    """d/dL of the log density: (z/L)(z - w/S) - w(z² - 1); z·w²/(2S) - w(z² - 1) at L = 0."""
    t = ell * w
    zero = np.abs(t) < _SMALL
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = (z - w / s) / ell
    # (z - w/S)/L = w²/S·(1/2 + t/6 + t²/24)
    series = w * w / s * (0.5 + t / 6 + t * t / 24)
    return np.asarray(z * np.where(zero, series, plain) - w * (z * z - 1))
