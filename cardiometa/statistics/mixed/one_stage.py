"""One-stage Gaussian models: all trials in one likelihood, fitted from their sums.

``y_i = A_i a_i + X_i b + Z_i u_i + e_i`` with u_i ~ N(0, D), D a sum of ``theta * basis`` (or any
covariance of two random effects), and residual variances common, by trial, or by trial and arm
(``pooling.md`` 7.1, 7.2). The criterion is -2 log of the (restricted) likelihood of the rows,
constants included, so that it equals lme4's.

Tests of fixed effects in one-stage models: Kenward-Roger, Satterthwaite, Wald.

Kenward & Roger 1997 in the original convention (that of pbkrtest): the adjusted covariance for the
standard error, the unadjusted one for the degrees of freedom (``pooling.md`` 7.3). V is linear in
its parameters, so the terms of second derivatives are zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..meta import Interval, t_interval
from .likelihood import CORRELATED, Model, Pieces, Tangent
from .optimise import at_boundary, climb, other_starts, start_of, zero_thetas
from .trial_contrasts import Stack, TrialBlock, stack

__all__ = ["CORRELATED", "Checks", "OneStageFit", "fit_one_stage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What was looked at after the fit.

    ``gradient`` is the Newton decrement sqrt(g' H^-1 g) of what is free, in standard errors;
    ``scan_gain`` by how much a better optimum than the first was found by the profile scan and the
    restarts (0: none); ``starts`` how many were tried.
    """

    gradient: float
    scan_gain: float
    starts: int
    steps: int
    converged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OneStageFit:
    """A fitted model: ``beta`` ``[p]``, ``theta`` of D, residual ``variances``.

    ``criterion`` is -2 log-likelihood; ``covariance`` ``[p, p]`` = (X'V^-1X)^-1; ``at_zero`` marks
    the thetas on their boundary, ``estimated`` ``[d + g]`` the parameters that were not held.
    ``tangent`` has the directions in which D can move.
    """

    beta: np.ndarray
    covariance: np.ndarray
    theta: np.ndarray
    variances: np.ndarray
    criterion: float
    restricted: bool
    at_zero: np.ndarray
    estimated: np.ndarray
    tangent: Tangent
    checks: Checks
    pieces: Pieces
    data: Stack
    basis: np.ndarray


# A step into variances too far apart gives infinite or undefined terms: it is rejected.
@np.errstate(all="ignore")
def fit_one_stage(
    blocks: Sequence[TrialBlock],
    basis: np.ndarray,
    *,
    residual: str = "by-trial",
    restricted: bool = True,
    common_effect: bool = False,
    held: np.ndarray | None = None,
) -> OneStageFit:
    """Fit by REML (``restricted``) or ML; ``basis`` ``[d, q, q]`` spans D.

    With the basis `CORRELATED` D is any covariance of two random effects, found through its root.
    ``common_effect`` keeps D at zero; ``held`` are residual variances taken as known. Every trial
    needs residual degrees of freedom of its own.
    Raises ArithmeticError where the fixed effects cannot be told apart.
    """
    data = stack(blocks, residual=residual, restricted=restricted)
    model = Model(data=data, basis=basis, restricted=restricted)
    start = start_of(model)
    free = np.ones(len(start), dtype=bool)
    if common_effect:
        free[: len(basis)] = False
        start[: len(basis)] = 0.0
    if held is not None:
        free[len(basis) :] = False
        start[len(basis) :] = held
    best = climb(model, start, free)
    first = best.pieces.criterion
    starts = 1
    if not common_effect:
        for other in other_starts(model, best, free):
            starts += 1
            again = climb(model, other, free)
            if again.pieces.criterion < best.pieces.criterion - 1e-8:
                best = again
    d = len(basis)
    gain = max(0.0, first - best.pieces.criterion)
    best = at_boundary(model, best)
    return OneStageFit(
        beta=best.pieces.beta,
        covariance=best.pieces.covariance,
        theta=best.parameters[:d],
        variances=best.parameters[d:],
        criterion=best.pieces.criterion,
        restricted=restricted,
        at_zero=zero_thetas(model, best.parameters[:d]),
        tangent=model.tangent(best.parameters, best.pieces.score),
        estimated=free,
        checks=Checks(
            gradient=best.decrement,
            scan_gain=gain,
            starts=starts,
            steps=best.steps,
            converged=best.decrement < 1e-6,
        ),
        pieces=best.pieces,
        data=data,
        basis=basis,
    )


METHODS = ("kenward-roger", "satterthwaite", "wald")


def adjusted_covariance(fit: OneStageFit) -> np.ndarray:
    """Kenward and Roger's small-sample covariance of the fixed effects."""
    pieces, f = fit.pieces, fit.covariance
    w = pieces.expected.solver(fit.estimated)
    middle = np.einsum("krs,krspt->pt", w.local(), pieces.q_rs)
    moved = w.solve(pieces.p_r.reshape(len(pieces.p_r), -1)).reshape(pieces.p_r.shape)
    middle -= np.einsum("rpt,ts,rsa->pa", pieces.p_r, f, moved, optimize=True)
    adjusted: np.ndarray = f + 2.0 * f @ middle @ f
    symmetric: np.ndarray = 0.5 * (adjusted + adjusted.T)
    return symmetric


@np.errstate(all="ignore")  # what is not finite is refused below
def contrast_interval(
    fit: OneStageFit, contrast: np.ndarray, method: str, level_percent: float = 95.0
) -> Interval:
    """Interval and test of ``contrast @ beta`` by one of `METHODS`.

    Degrees of freedom are never below 1. At tau² = 0 Kenward-Roger keeps the information of all
    parameters; Satterthwaite asks what can move (as lmerTest does, which has roots too).
    ArithmeticError where variances are so far apart that rounding leaves no number.
    """
    estimate = float(contrast @ fit.beta)
    plain = float(contrast @ fit.covariance @ contrast)
    if method == "wald":
        return t_interval(estimate, _root(plain), float("inf"), level_percent, method)
    pieces = fit.pieces
    along = fit.covariance @ contrast
    gradient = np.einsum("p,rpt,t->r", along, pieces.p_r, along)
    if method == "kenward-roger":
        spread = float(gradient @ pieces.expected.solver(fit.estimated).solve(gradient))
        df = max(2.0 * plain**2 / spread, 1.0)
        se = _root(float(contrast @ adjusted_covariance(fit) @ contrast))
        return t_interval(estimate, se, _known(df), level_percent, method)
    d, tangent = len(fit.theta), fit.tangent
    free = fit.estimated.copy()
    free[:d] &= tangent.inner
    gradient = np.concatenate([tangent.slopes.T @ gradient[:d], gradient[d:]])
    observed = pieces.observed.turned(tangent.slopes, -tangent.bend)
    df = max(2.0 * plain**2 / float(gradient @ observed.solver(free).solve(gradient)), 1.0)
    return t_interval(estimate, _root(plain), _known(df), level_percent, method)


def _root(variance: float) -> float:
    if not variance > 0:
        raise FloatingPointError("a variance is not positive")
    return float(variance**0.5)


def _known(df: float) -> float:
    if not math.isfinite(df):
        raise FloatingPointError("degrees of freedom are not a number")
    return df
