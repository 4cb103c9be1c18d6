"""Finding the optimum of a one-stage model: starts, scoring and Newton steps, the edges of D.

One-stage Gaussian models: all trials in one likelihood, fitted from their sums.

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
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from ..meta import Interval, t_interval
from .likelihood import (
    CORRELATED,
    Jacobian,
    LikelihoodTerms,
    Model,
    Solver,
    gls,
    likelihood_terms,
    turned,
)
from .sufficient_statistics import PaddedTrials, TrialBlock, pad_trials

_MOST_STEPS = 200
_SCAN = 40
_FAR = 0.1  # standard errors from where Newton's steps are good
_NO_VARIANCE = 1e-9  # of the sampling variance of one trial's effect: zero
# Residual variances further apart leave fewer than eight digits, and which differs by processor.
_MOST_VARIANCE_RATIO = 1e8


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserState:
    """Where a maximise came to, and how far from the top that is in standard errors."""

    parameters: np.ndarray
    terms: LikelihoodTerms
    decrement: float
    steps: int


# ------------------------------------------------------------------ starts


def start_of(model: Model) -> np.ndarray:
    """Residual variances of each trial's own least squares; D from the spread of what is left."""
    data = model.data
    x, y = data.x, data.y
    own_sum, own_df = np.zeros(data.variances), np.zeros(data.variances)
    residual = y - (x @ (np.linalg.pinv(x) @ y[:, :, None]))[:, :, 0]
    rank = np.linalg.matrix_rank(x)
    # Rows of padding and spare contrasts are counted as the model counts them.
    sizes = data.spare + np.trace(data.spread, axis1=2, axis2=3)
    count = sizes.sum(axis=1)
    shares = np.einsum("kgmn,km,kn->kg", data.spread, residual, residual)
    left = np.maximum(count - rank, 0.0) / np.maximum(count, 1.0)
    np.add.at(own_sum, data.index, shares)
    np.add.at(own_df, data.index, sizes * left[:, None])
    overall = own_sum.sum() / max(own_df.sum(), 1.0)
    variances = np.where(own_sum > 0, own_sum / np.maximum(own_df, 1.0), overall)
    d = len(model.basis)
    theta = np.zeros(d)
    within = gls(model, np.concatenate([theta, variances]))
    size = np.einsum("kmq,kmn,knq->kq", data.z, within["vi"], data.z)
    seen = np.einsum("kmq,km->kq", data.z, within["weighted"]) ** 2
    excess = np.maximum(seen - size, 0.0).sum(axis=0)
    scale = np.maximum((size**2).sum(axis=0), 1e-300)
    of = [np.diag(b) > 0 for b in model.basis]
    theta = np.array([excess[z].sum() / scale[z].sum() if z.any() else 0.0 for z in of])
    if model.correlated:  # a root without a slope is no start
        typical = _typical(model, np.concatenate([theta, variances]))
        theta = np.maximum(theta, 0.01 * typical)
    return np.concatenate([theta, variances])


def other_starts(model: Model, best: OptimiserState, free: np.ndarray) -> list[np.ndarray]:
    """Where else an optimum might be: from the profile scan for one theta, else five restarts."""
    d = len(model.basis)
    if d > 1:
        typical = np.maximum(_typical(model, best.parameters), best.parameters[:d])
        found = []
        for factors in ((0.01, 0.01), (10.0, 10.0), (0.01, 10.0), (10.0, 0.01)):
            other = best.parameters.copy()
            other[:d] = typical * np.array([factors[min(a, 1)] for a in range(d)])
            found.append(other)
        return found
    scale = float(np.trace(best.terms.covariance)) * len(model.data.y)
    tau = np.sqrt(max(best.parameters[0], 0.0))
    grid = np.linspace(0.0, 10.0 * max(tau, np.sqrt(scale)), _SCAN) ** 2
    others = free.copy()
    others[0] = False
    values = []
    current = best.parameters.copy()
    for theta in grid:
        current[0] = theta
        reached = maximise(model, current, others, most=2)
        values.append((reached.terms.criterion, reached.parameters))
        current = reached.parameters.copy()
    criteria = np.array([value for value, _ in values])
    dips = [
        i
        for i in range(_SCAN)
        if criteria[i] <= criteria[max(i - 1, 0)] and criteria[i] <= criteria[min(i + 1, _SCAN - 1)]
    ]
    # The dip that holds the optimum already found is not another one.
    own = int(np.abs(np.sqrt(grid) - tau).argmin())
    return [values[i][1] for i in dips if abs(i - own) > 1]


def _typical(model: Model, parameters: np.ndarray) -> np.ndarray:
    """For each theta the sampling variance of one trial's effect; 0 for covariances."""
    d = len(model.basis)
    within = gls(model, np.concatenate([np.zeros(d), parameters[d:]]))
    size = np.einsum("kmq,kmn,knq->q", model.data.z, within["vi"], model.data.z)
    size = np.maximum(size / len(model.data.y), 1e-300)
    of = [np.diag(b) > 0 for b in model.basis]
    return np.array([float((1.0 / size[z]).mean()) if z.any() else 0.0 for z in of])


# ------------------------------------------------------------------ climbing


def maximise(
    model: Model, start: np.ndarray, free: np.ndarray, most: int = _MOST_STEPS
) -> OptimiserState:
    """Scoring, then Newton, with step halving; D stays a covariance.

    Variances move on the log scale, so that they stay positive.
    """
    d = len(model.basis)
    unknown = model.unknown(start)
    terms = likelihood_terms(model, model.natural(unknown))
    decrement = np.inf
    steps = 0
    while steps < most:
        steps += 1
        active = free.copy()
        if not model.correlated:
            active[:d] &= (unknown[:d] > 0) | (terms.score[:d] > 0)
        if not active.any():
            decrement = 0.0
            break
        move, decrement = _direction(terms, unknown, active, *model.slopes(unknown, terms.score))
        if decrement < 1e-10:
            break
        far = model.correlated and decrement > _FAR
        halved = _levenberg_step(model, unknown, terms, active) if far else None
        halved = halved or _line_search(model, unknown, terms, move)
        if halved is None:
            break
        unknown, terms = halved
    return OptimiserState(
        parameters=model.natural(unknown), terms=terms, decrement=decrement, steps=steps
    )


def at_boundary(model: Model, reached: OptimiserState) -> OptimiserState:
    """A root whose variance is nothing, set to nothing: it is reached in the limit alone."""
    if not model.correlated:
        return reached
    parameters = reached.parameters.copy()
    gone = parameters[:2] < _NO_VARIANCE * _typical(model, parameters)[:2]
    if not gone.any():
        return reached
    parameters[:2][gone] = 0.0
    parameters[2] = 0.0
    return replace(reached, parameters=parameters, terms=likelihood_terms(model, parameters))


def _levenberg_step(
    model: Model, unknown: np.ndarray, terms: LikelihoodTerms, active: np.ndarray
) -> tuple[np.ndarray, LikelihoodTerms] | None:
    """The best of several steps of D's root, from short to long; None where none is better.

    Near a singular root, whose slope vanishes, scoring steps are far too long and lead nowhere;
    damped by the inverse of a typical variance (Levenberg's way) they are not.
    """
    d = len(model.basis)
    slopes, _ = model.slopes(unknown, terms.score)
    own = 1.0 / np.maximum(_typical(model, unknown)[[0, 1, 1]], 1e-300)
    scale = np.concatenate([np.ones(d), unknown[d:]])
    score = np.concatenate([slopes.T @ terms.score[:d], terms.score[d:] * unknown[d:]]) * active
    expected = turned(terms.expected, slopes) * np.outer(scale, scale)
    best: tuple[np.ndarray, LikelihoodTerms] | None = None
    for damping in (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0):
        more = np.concatenate([damping * own, np.zeros(len(unknown) - d)])
        with suppress(FloatingPointError, np.linalg.LinAlgError):
            move = Solver(expected + np.diag(more), active).solve(score)
            tried = _moved(model, unknown, move)
            reached = likelihood_terms(model, model.natural(tried))
            if reached.criterion < (best[1] if best else terms).criterion:
                best = tried, reached
    return best


def _direction(
    terms: LikelihoodTerms,
    unknown: np.ndarray,
    active: np.ndarray,
    slopes: np.ndarray,
    bend: np.ndarray,
) -> tuple[np.ndarray, float]:
    """The step (variances as logs) and its length in standard errors.

    ``slopes`` and ``bend`` are the thetas' derivatives in the unknowns, as `Model.slopes` gives.
    """
    d = len(slopes)
    scale = np.concatenate([np.ones(d), unknown[d:]])
    score = np.concatenate([slopes.T @ terms.score[:d], terms.score[d:] * unknown[d:]]) * active
    expected = turned(terms.expected, slopes) * np.outer(scale, scale)
    observed = turned(terms.observed, slopes) * np.outer(scale, scale)
    observed[:d, :d] -= bend
    observed[range(d, len(score)), range(d, len(score))] -= score[d:]
    step = None
    for matrix in (observed, expected):
        solver = Solver(matrix, active)
        if not solver.positive:
            continue
        step = solver.solve(score)
        if matrix is expected or float(score @ step) < 4.0:
            break
    if step is None:
        step = score / np.maximum(np.abs(np.diag(expected)), 1e-300)
    return step, float(np.sqrt(max(float(score @ step), 0.0)))


def _line_search(
    model: Model, unknown: np.ndarray, terms: LikelihoodTerms, move: np.ndarray
) -> tuple[np.ndarray, LikelihoodTerms] | None:
    """The longest halving of the step that does not make the criterion worse."""
    slack = 1e-11 * (1.0 + abs(terms.criterion))
    for halvings in range(40):
        tried = _moved(model, unknown, move * 0.5**halvings)
        try:
            reached = likelihood_terms(model, model.natural(tried))
        except (FloatingPointError, np.linalg.LinAlgError):
            continue
        if reached.criterion <= terms.criterion + slack:
            return tried, reached
    return None


def _moved(model: Model, unknown: np.ndarray, move: np.ndarray) -> np.ndarray:
    """The unknowns after a step; where D is a sum of bases each variance stays at or above zero."""
    d = len(model.basis)
    found = unknown.copy()
    found[:d] += move[:d]
    found[d:] *= np.exp(np.clip(move[d:], -5.0, 5.0))
    if not model.correlated:
        variance = np.array([np.trace(b) > 0 for b in model.basis])
        found[:d] = np.where(variance, np.maximum(found[:d], 0.0), found[:d])
    return found


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

    ``criterion`` is -2 log-likelihood; ``covariance`` ``[p, p]`` = (X'V^-1X)^-1;
    ``estimated`` ``[d + g]`` the parameters that were not held; ``jacobian`` has the directions in
    which D can move.
    """

    beta: np.ndarray
    covariance: np.ndarray
    theta: np.ndarray
    variances: np.ndarray
    criterion: float
    restricted: bool
    estimated: np.ndarray
    jacobian: Jacobian
    checks: Checks
    terms: LikelihoodTerms
    data: PaddedTrials
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
    scan: bool = True,
) -> OneStageFit:
    """Fit by REML (``restricted``) or ML; ``basis`` ``[d, q, q]`` spans D.

    With the basis `CORRELATED` D is any covariance of two random effects, found through its root.
    ``common_effect`` keeps D at zero; ``held`` are residual variances taken as known; without
    ``scan`` no other start is tried (simulations). Every trial needs residual degrees of freedom
    of its own.
    Raises ArithmeticError where the fixed effects are not identifiable, or where trials' residual
    variances are more than 1e8-fold apart.
    """
    data = pad_trials(blocks, residual=residual, restricted=restricted)
    model = Model(data=data, basis=basis, restricted=restricted)
    start = start_of(model)
    variances = start[len(basis) :]
    if held is None and not variances.max() < _MOST_VARIANCE_RATIO * variances.min():
        raise FloatingPointError("residual variances are too far apart")
    free = np.ones(len(start), dtype=bool)
    if common_effect:
        free[: len(basis)] = False
        start[: len(basis)] = 0.0
    if held is not None:
        free[len(basis) :] = False
        start[len(basis) :] = held
    best = maximise(model, start, free)
    first = best.terms.criterion
    starts = 1
    if not common_effect and scan:
        for other in other_starts(model, best, free):
            starts += 1
            again = maximise(model, other, free)
            if again.terms.criterion < best.terms.criterion - 1e-8:
                best = again
    d = len(basis)
    gain = max(0.0, first - best.terms.criterion)
    best = at_boundary(model, best)
    return OneStageFit(
        beta=best.terms.beta,
        covariance=best.terms.covariance,
        theta=best.parameters[:d],
        variances=best.parameters[d:],
        criterion=best.terms.criterion,
        restricted=restricted,
        jacobian=model.jacobian(best.parameters, best.terms.score),
        estimated=free,
        checks=Checks(
            gradient=best.decrement,
            scan_gain=gain,
            starts=starts,
            steps=best.steps,
            converged=best.decrement < 1e-6,
        ),
        terms=best.terms,
        data=data,
        basis=basis,
    )


METHODS = ("kenward-roger", "satterthwaite", "wald")


def adjusted_covariance(fit: OneStageFit) -> np.ndarray:
    """Kenward and Roger's small-sample covariance of the fixed effects."""
    terms, f = fit.terms, fit.covariance
    w = Solver(terms.expected, fit.estimated).solve(np.eye(len(terms.expected)))
    middle = np.einsum("krs,krspt->pt", terms.layout.blocks(w), terms.q_rs)
    moved = np.tensordot(w, terms.p_r, axes=1)
    middle -= np.einsum("rpt,ts,rsa->pa", terms.p_r, f, moved, optimize=True)
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
    terms = fit.terms
    along = fit.covariance @ contrast
    gradient = np.einsum("p,rpt,t->r", along, terms.p_r, along)
    if method == "kenward-roger":
        spread = float(gradient @ Solver(terms.expected, fit.estimated).solve(gradient))
        df = max(2.0 * plain**2 / spread, 1.0)
        se = _root(float(contrast @ adjusted_covariance(fit) @ contrast))
        return t_interval(estimate, se, _known(df), level_percent, method)
    d, jacobian = len(fit.theta), fit.jacobian
    free = fit.estimated.copy()
    free[:d] &= jacobian.inner
    gradient = np.concatenate([jacobian.slopes.T @ gradient[:d], gradient[d:]])
    observed = turned(terms.observed, jacobian.slopes)
    observed[:d, :d] -= jacobian.bend
    df = max(2.0 * plain**2 / float(gradient @ Solver(observed, free).solve(gradient)), 1.0)
    return t_interval(estimate, _root(plain), _known(df), level_percent, method)


def _root(variance: float) -> float:
    if not variance > 0:
        raise FloatingPointError("a variance is not positive")
    return float(variance**0.5)


def _known(df: float) -> float:
    if not math.isfinite(df):
        raise FloatingPointError("degrees of freedom are not a number")
    return df
