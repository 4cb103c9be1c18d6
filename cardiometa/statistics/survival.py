"""Time to an event: its incidence, restricted mean survival, a test of proportional hazards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .event_models import RiskSets, hazards_over_time, without_rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class RestrictedMean:
    """The mean time free of the event up to a horizon, and its variance."""

    mean: float
    variance: float


def kaplan_meier(
    time: np.ndarray, event: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The distinct times, survival after each, events at each and the number at risk before it."""
    times, place = np.unique(without_rounding(time), return_inverse=True)
    d = np.bincount(place, weights=event.astype(float))
    left = np.bincount(place)
    at_risk = np.cumsum(left[::-1])[::-1]
    return times, np.cumprod(1.0 - d / at_risk), d, at_risk


def cumulative_incidence(
    time: np.ndarray, cause: np.ndarray, at: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The cumulative incidence of ``cause`` 1 at each time of ``at``, and its standard error.

    Aalen and Johansen's estimate: ``cause`` ``[n]`` is 0 for the censored, other values compete.
    Where none competes it is 1 - Kaplan-Meier. The standard error is the infinitesimal jackknife of
    the weighted participants (Therneau & Grambsch 2000, ch. 2; R's `survfit` with ``robust``),
    which without weights is Greenwood's for Kaplan-Meier.
    """
    w = np.ones(len(time)) if weights is None else weights
    times, place = np.unique(without_rounding(time), return_inverse=True)
    first, every = (np.bincount(place, weights=w * of) for of in (cause == 1, cause > 0))
    n = np.cumsum(np.bincount(place, weights=w)[::-1])[::-1]
    left = np.where(n - every > 1e-12 * n, n - every, np.inf)  # nothing lies ahead of the last
    free = np.concatenate([[1.0], np.cumprod(1.0 - every / n)])[:-1]  # just before each time
    step = free * first / n
    incidence, spread = np.cumsum(step), np.cumsum(every / (n * left))
    own = np.cumsum(step / n) - np.cumsum(step * (spread - every / (n * left)))
    gained = (cause == 1) * (free / n)[place]
    behind = spread[place] - (cause > 0) / left[place]
    estimates, errors = np.zeros(len(at)), np.zeros(len(at))
    for number, last in enumerate(np.searchsorted(times, at, side="right") - 1):
        if last < 0:
            continue
        ahead = np.maximum(incidence[last] - incidence[place], 0.0)
        change = gained * (place <= last) - own[np.minimum(place, last)] + behind * ahead
        estimates[number] = incidence[last]
        errors[number] = np.sqrt(((w * change) ** 2).sum())
    return estimates, errors


def log_log_interval(
    estimate: np.ndarray, se: np.ndarray, quantile: float
) -> tuple[np.ndarray, np.ndarray]:
    """Limits of probabilities, symmetric for log(-log); the estimate itself at 0 and 1."""
    inside = (estimate > 0) & (estimate < 1) & (se > 0)
    p = np.where(inside, estimate, 0.5)
    half = quantile * np.where(inside, se, 0.0) / np.abs(p * np.log(p))
    ends = np.stack([p ** np.exp(half), p ** np.exp(-half)])
    low, high = np.where(inside, ends, estimate)
    return low, high


def restricted_mean(time: np.ndarray, event: np.ndarray, horizon: float) -> RestrictedMean:
    """The area under the Kaplan-Meier curve of one arm up to ``horizon``.

    Variance: the sum over event times of the area from there to the horizon, squared, times
    d / (n (n - d)) (Greenwood's; Royston & Parmar 2013, BMC Med Res Methodol 13:152). ``horizon``
    must not be after the last time of the arm.
    """
    times, survival, d, at_risk = kaplan_meier(time, event)
    inside = times < horizon
    edges = np.concatenate([[0.0], times[inside], [horizon]])
    areas = np.diff(edges) * np.concatenate([[1.0], survival[inside]])
    ahead = np.cumsum(areas[::-1])[::-1][1:]  # from each time to the horizon
    d, n = d[inside], at_risk[inside]
    # Where all of those at risk have the event nothing lies ahead, and the term is 0.
    terms = np.divide(d, n * (n - d), out=np.zeros(len(d)), where=n > d)
    return RestrictedMean(mean=float(areas.sum()), variance=float((ahead**2 * terms).sum()))


def km_scale(time: np.ndarray, event: np.ndarray) -> np.ndarray:
    """1 - the Kaplan-Meier curve just before each time: the scale of `proportional_hazards`."""
    times, survival, _, _ = kaplan_meier(time, event)
    before = np.concatenate([[1.0], survival])[np.searchsorted(times, without_rounding(time))]
    found: np.ndarray = 1.0 - before
    return found


def proportional_hazards(
    strata: Sequence[tuple[RiskSets, np.ndarray]],
    coefficients: Sequence[np.ndarray],
    places: Sequence[np.ndarray],
    column: int,
) -> float | None:
    """The score test, chi² with 1 df, that a log hazard ratio does not change over time.

    Each stratum's risk sets with the scale of time ``[events]`` in their order; its coefficients;
    and ``places``, where each of them is among all of the model. ``column`` is the one tested, of
    all. The test of R's `cox.zph` (survival 3; Grambsch & Therneau 1994, Biometrika 81:515). None
    where time and effect cannot be separated.
    """
    size = 1 + max(int(place.max()) for place in places)
    score, cross, own = 0.0, np.zeros(size), 0.0
    information = np.zeros((size, size))
    middle = np.concatenate([scale for _, scale in strata]).mean()
    for (sets, scale), beta, place in zip(strata, coefficients, places, strict=True):
        at = np.flatnonzero(place == column)
        residuals, variances = hazards_over_time(sets, beta)
        information[np.ix_(place, place)] += variances.sum(axis=0)
        if not len(at):
            continue
        g = scale - middle
        score += float(g @ residuals[:, at[0]])
        cross[place] += g @ variances[:, at[0], :]
        own += float(g**2 @ variances[:, at[0], at[0]])
    try:
        left = own - float(cross @ np.linalg.solve(information, cross))
    except np.linalg.LinAlgError:
        return None
    return score**2 / left if left > 1e-10 * max(own, 1e-300) else None
