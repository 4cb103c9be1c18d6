"""How far a trial or a site lies from a curve: a shift of the location and of the log spread.

Location is log M (or the mean) and spread log S (or log SD), each moved by one number at every age;
L, the tail and the age course stay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from ...errors import EstimationError
from ...statistics.location_scale import DISTRIBUTIONS
from .curve import POWER_FAMILIES, Curve

LEAST_TRIALS = 5  # fewer do not show how trials differ
_LEAST_PARTICIPANTS = 10
_STEPS = 100
_TAUS, _AS_GIVEN = 121, 70  # points of tau, and which of them is the SD as it is given


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """The shifts (location, log spread) ``[2]`` with their covariance ``[2, 2]``."""

    estimate: np.ndarray
    covariance: np.ndarray


def shift_parameters(curve: Curve, ages: np.ndarray) -> np.ndarray:
    """The curve's parameters at ages ``[n]``, the spread as a logarithm, ``[parameters, n]``."""
    eta = curve.parameters(ages)
    if "sd" in curve.functions:
        eta[1] = np.log(eta[1])
    return eta


def fit_shift(family: str, eta: np.ndarray, values: np.ndarray) -> Shift:
    """The shifts of ``values`` ``[n]`` whose parameters before it are ``eta`` ``[parameters, n]``.

    By maximum likelihood, with the inverse of the information as covariance. Raises
    EstimationError where there is none.
    """
    distribution = DISTRIBUTIONS[family]
    y = np.log(values) if family in POWER_FAMILIES else values
    estimate = np.zeros(2)
    for _ in range(_STEPS):
        moved = [eta[0] + estimate[0], eta[1] + estimate[1], *eta[2:]]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            _, scores = distribution.scores(y, moved)
            total = distribution.information(moved)[:2, :2].sum(axis=2)
        gradient = np.array([scores[0].sum(), scores[1].sum()])
        if not (np.isfinite(gradient).all() and np.isfinite(total).all()):
            break
        step = np.linalg.solve(total, gradient)
        step *= min(1.0, 0.5 / max(abs(float(step[1])), 1e-300))
        estimate = estimate + step
        if float(step @ total @ step) < 1e-14:
            return Shift(estimate=estimate, covariance=np.linalg.inv(total))
    raise EstimationError(
        "The distance of these participants from the curve cannot be estimated.",
        hint="Look for values far from all others.",
    )


def shrink_shift(
    own: Shift, between: np.ndarray, trials: float, error: np.ndarray
) -> tuple[Shift, np.ndarray]:
    """A site's shifts, shrunk by how trials differ, and the share ``[2]`` that is kept of its own.

    ``between`` ``[2]`` are the variances of both shifts between ``trials`` trials, as
    `between_trials` gives them, ``error`` ``[2]`` the sampling variances of one trial's own. A few
    trials do not show how much trials differ: tau has a flat prior (Gelman 2006, Bayesian Anal
    1:515), the trials' sum of squares and the site's own shifts are the data. The shifts are those
    at the variances given, the covariance is about them and that of the mixture over tau. The site
    lies about the mean of the trials, which varies too: its variance is tau² (1 + 1/trials).
    """
    # The sum of squares, from the estimate, which is the mode of the likelihood times tau.
    total = between + error
    squares = total * np.maximum(trials - 1 - total / between, 0.0)
    tau = np.sqrt(between)[:, None] * np.exp(np.linspace(-4.9, 3.5, _TAUS))
    total = tau**2 + error[:, None]
    log = np.log(tau) - ((trials - 1) * np.log(total) + squares[:, None] / total) / 2
    wider = 1 + 1 / trials
    prior = np.zeros((_TAUS, _TAUS, 2, 2))
    prior[..., 0, 0], prior[..., 1, 1] = np.meshgrid(*(wider * tau**2), indexing="ij")
    whole = prior + own.covariance
    shares = np.swapaxes(np.linalg.solve(whole, prior), -1, -2)  # prior / (prior + covariance)
    lack = own.estimate @ np.linalg.solve(whole, own.estimate[:, None]).squeeze(-1)[..., None]
    log = log[0][:, None] + log[1] - (np.log(np.linalg.det(whole)) + lack.squeeze(-1)) / 2
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    at = shares @ own.estimate
    estimate = at[_AS_GIVEN, _AS_GIVEN]
    within = np.einsum("ij,ijab->ab", weight, prior - shares @ prior)
    away = at - estimate
    covariance = within + np.einsum("ij,ija,ijb->ab", weight, away, away)
    kept = wider * between / (wider * between + np.diag(own.covariance))
    return Shift(estimate=estimate, covariance=(covariance + covariance.T) / 2), kept


def between_trials(
    curve: Curve, values: np.ndarray, ages: np.ndarray, trial: np.ndarray
) -> dict[str, float | int] | None:
    """The SD between trials of both shifts; None with fewer than 5 trials of 10 participants.

    From each trial's own shifts by restricted likelihood times the SD, which has no maximum at 0
    (Chung Y et al. Psychometrika 2013;78:685-709): a site may always differ.
    """
    codes, counts = np.unique(trial, return_counts=True)
    used = codes[counts >= _LEAST_PARTICIPANTS]
    if len(used) < LEAST_TRIALS:
        return None
    eta = shift_parameters(curve, ages)
    try:
        found = [fit_shift(curve.family, eta[:, trial == k], values[trial == k]) for k in used]
    except EstimationError:
        return None
    estimates = np.array([shift.estimate for shift in found])
    variances = np.array([np.diag(shift.covariance) for shift in found])
    location, spread = (
        math.sqrt(_variance_between(estimates[:, i], variances[:, i])) for i in range(2)
    )
    return {"trials": len(used), "location_sd": location, "log_spread_sd": spread}


def _variance_between(x: np.ndarray, v: np.ndarray) -> float:
    def loss(log_tau2: float) -> float:
        total = math.exp(log_tau2) + v
        mean = float(np.sum(x / total) / np.sum(1 / total))
        fit = float(np.sum(np.log(total) + (x - mean) ** 2 / total))
        return (fit + math.log(float(np.sum(1 / total))) - log_tau2) / 2

    middle = math.log(float(np.mean(v)) + float(np.var(x)))
    found = optimize.minimize_scalar(loss, bounds=(middle - 12, middle + 6), method="bounded")
    return math.exp(float(found.x))
