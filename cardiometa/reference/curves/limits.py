"""The limits of a fitted curve with their confidence intervals.

Delta method: Var(limit) = g'·J·V·J'·g, g the derivative of the limit by the law's parameters, J
their derivative by the coefficients, V the coefficients' covariance; a new trial's limit adds the
uncertainty of tau, whose logarithm's variance is 2/df (of tau²). With a random trial effect the
interval is Student's, with Satterthwaite's degrees of freedom for the part that trials make.
A quantile curve that was resampled has the percentiles of its samples' limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from .data import FittedCurve


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveLimits:
    """Arrays ``[ages, centiles]``; ``repaired`` ``[ages]``: crossing centiles were put in order."""

    limit: np.ndarray
    low: np.ndarray
    high: np.ndarray
    repaired: np.ndarray


def curve_limits(
    fitted: FittedCurve, ages: np.ndarray, centiles: Sequence[float], ci_level: float
) -> CurveLimits:
    """Limits at ``ages`` (within the curve's range), their intervals at that level (a fraction)."""
    limit = fitted.curve.limits(ages, centiles)
    if fitted.deviations is not None:
        low, high = _percentiles(fitted, ages, centiles, ci_level)
        return _in_order(limit, np.minimum(low, limit), np.maximum(high, limit))
    variance, from_trials = _variances(fitted, ages, centiles)
    quantile = _quantiles(fitted, variance, from_trials, ci_level)
    se = np.sqrt(variance)
    if fitted.curve.family == "lms":
        # On the log scale, where the estimates are made: both ends stay above 0.
        reach = np.exp(quantile * se / limit)
        low, high = limit / reach, limit * reach
    else:
        low, high = limit - quantile * se, limit + quantile * se
    return _in_order(limit, low, high)


def _in_order(limit: np.ndarray, low: np.ndarray, high: np.ndarray) -> CurveLimits:
    order = np.argsort(limit, axis=1, kind="stable")
    repaired = (order != np.arange(limit.shape[1])).any(axis=1)
    if repaired.any():
        # Rearrangement (Chernozhukov V et al. Econometrica 2010;78:1093-125), ends alike.
        limit, low, high = (np.sort(part, axis=1) for part in (limit, low, high))
    return CurveLimits(limit=limit, low=low, high=high, repaired=repaired)


def _percentiles(
    fitted: FittedCurve, ages: np.ndarray, centiles: Sequence[float], ci_level: float
) -> tuple[np.ndarray, np.ndarray]:
    """The ends ``[ages, centiles]`` of a quantile curve's intervals from its samples."""
    names = tuple(fitted.curve.functions)
    rows = [names.index(f"{c:g}") for c in centiles]
    J = fitted.jacobian(ages)[rows]
    limit = fitted.curve.limits(ages, centiles)
    tail = (1 - ci_level) / 2
    low, high = np.empty_like(limit), np.empty_like(limit)
    for number in range(len(rows)):
        moves = fitted.deviations @ J[number].T
        ends = np.quantile(moves, [tail, 1 - tail], axis=0, method="weibull")
        low[:, number], high[:, number] = limit[:, number] + ends
    return low, high


def _variances(
    fitted: FittedCurve, ages: np.ndarray, centiles: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """The variance of each limit, and the part of it that comes from trials."""
    curve = fitted.curve
    J = fitted.jacobian(ages)
    joint = np.einsum("qap,pr,sar->aqs", J, fitted.covariance, J, optimize=True)
    gradient, by_log_tau2 = curve.slopes(ages, centiles)
    variance = np.einsum("acq,aqs,acs->ac", gradient, joint, gradient)
    if curve.family == "quantile" or fitted.tau <= 0:
        return variance, np.zeros_like(variance)
    from_trials = gradient[:, :, 0] ** 2 * fitted.tau**2 / max(fitted.trials, 1)
    if fitted.tau_df > 0 and curve.tau > 0:
        extra = by_log_tau2**2 * 2 / fitted.tau_df
        return variance + extra, from_trials + extra
    return variance, from_trials


def _quantiles(
    fitted: FittedCurve, variance: np.ndarray, from_trials: np.ndarray, ci_level: float
) -> np.ndarray:
    normal = float(special.ndtri((1 + ci_level) / 2))
    if fitted.tau <= 0 or fitted.trials < 2:
        return np.full_like(variance, normal)
    share = np.clip(from_trials / np.maximum(variance, 1e-300), 0, 1)
    df = (fitted.trials - 1) / np.maximum(share**2, 1e-6)
    return np.asarray(special.stdtrit(df, (1 + ci_level) / 2))
