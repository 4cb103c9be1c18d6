"""Newton's method with step halving, for log-likelihoods that are concave or nearly so.

Logistic regression by Newton's method, plain or with Firth's penalty.

Plain maximum likelihood does not exist where an arm or a covariate tells the outcome wholly
("separation": an arm without events). Firth's penalised likelihood has a finite maximum and is
nearly unbiased (Firth 1993, Biometrika 80:27; Heinze & Schemper 2002, Stat Med 21:2409).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

_LARGEST_STEP = 5.0
_HALVINGS = 40
# Less than this share of the information at the start left: the maximum is at infinity, and only
# rounding made the steps small.
_NO_INFORMATION = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class NewtonFit:
    """A fitted model: ``coefficients`` ``[p]``, their ``covariance`` (inverse information).

    ``log_likelihood`` has the penalty in it where the fit is ``penalised``.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    log_likelihood: float
    steps: int
    penalised: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """A log-likelihood at one point: ``value``, ``score`` ``[p]``, ``information`` ``[p, p]``."""

    value: float
    score: np.ndarray
    information: np.ndarray


def maximise(
    pieces: Callable[[np.ndarray], Pieces],
    start: np.ndarray,
    *,
    most_steps: int = 60,
    tolerance: float = 1e-10,
    penalised: bool = False,
) -> NewtonFit | None:
    """The maximum of a log-likelihood from ``start``; None where the steps never become small.

    Coefficients are compared with ``tolerance`` as they are: the caller scales its columns. A
    likelihood without a finite maximum (separation) moves on by about one unit a step for ever,
    or its information becomes singular: both give None.
    """
    beta = np.asarray(start, dtype=float)
    now = pieces(beta)
    least = _NO_INFORMATION * np.diag(now.information)
    for number in range(1, most_steps):
        step = _solved(now.information, now.score)
        if step is None:
            return None
        step = step * min(1.0, _LARGEST_STEP / max(float(np.max(np.abs(step))), 1e-300))
        for _ in range(_HALVINGS):
            new = pieces(beta + step)
            if new.value >= now.value - 1e-11 * (1.0 + abs(now.value)):
                break
            step = step / 2.0
        beta, now = beta + step, new
        if np.max(np.abs(step)) < tolerance:
            covariance = _inverse(now.information)
            if covariance is None or (np.diag(now.information) < least).any():
                return None
            return NewtonFit(
                coefficients=beta,
                covariance=covariance,
                log_likelihood=now.value,
                steps=number,
                penalised=penalised,
            )
    return None


def _inverse(information: np.ndarray) -> np.ndarray | None:
    return _solved(information, np.eye(len(information)))


def _solved(information: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    diagonal = np.diag(information)
    if not (np.isfinite(information).all() and (diagonal > 0).all()):
        return None
    scale = 1.0 / np.sqrt(diagonal)
    scaled = information * np.outer(scale, scale)
    if np.linalg.cond(scaled) > 1e13:
        return None
    solution: np.ndarray = (np.linalg.solve(scaled, (right.T * scale).T).T * scale).T
    return solution


# Firth's steps use the information without the penalty's own curvature: more, smaller steps.
_PENALISED_STEPS = 1000


def fit_logistic(x: np.ndarray, y: np.ndarray, *, penalised: bool = False) -> NewtonFit | None:
    """Fit ``logit P(y = 1) = x b``; ``x`` ``[n, p]`` with its intercept, ``y`` ``[n]`` 0 or 1.

    None where there is no finite maximum; penalised, only where the columns are dependent.
    """
    scale = np.sqrt((x**2).mean(axis=0))
    if (scale == 0).any():
        return None
    z = x / scale
    fit = maximise(
        lambda b: _pieces(z, y, b, penalised=penalised),
        np.zeros(x.shape[1]),
        most_steps=_PENALISED_STEPS if penalised else 60,
        penalised=penalised,
    )
    if fit is None:
        return None
    return NewtonFit(
        coefficients=fit.coefficients / scale,
        covariance=fit.covariance / np.outer(scale, scale),
        # The penalty is of the information on the user's scale.
        log_likelihood=fit.log_likelihood + (np.log(scale).sum() if penalised else 0.0),
        steps=fit.steps,
        penalised=penalised,
    )


def _pieces(x: np.ndarray, y: np.ndarray, beta: np.ndarray, *, penalised: bool) -> Pieces:
    """Log-likelihood, score and information; penalised, Firth's: X'(y - p + h (1/2 - p))."""
    eta = x @ beta
    p = expit(eta)
    weight = p * (1.0 - p)
    information = x.T @ (x * weight[:, None])
    value = float(y @ eta - np.logaddexp(0.0, eta).sum())
    residual = y - p
    if penalised:
        sign, logdet = np.linalg.slogdet(information)
        if sign <= 0:
            return Pieces(value=-np.inf, score=np.zeros_like(beta), information=information)
        value += 0.5 * float(logdet)
        hat = weight * np.einsum("ij,ij->i", x @ np.linalg.inv(information), x)
        residual = residual + hat * (0.5 - p)
    return Pieces(value=value, score=x.T @ residual, information=information)
