"""Models of events over trials in one stage: a random treatment effect, all else of each trial.

Logistic: intercept and covariates of each trial are parameters of its own, the random effect is
integrated out by adaptive Gauss-Hermite quadrature about each trial's mode (Pinheiro & Bates 1995;
Liu & Pierce 1994), and score and curvature come from the same nodes (Louis 1982). Cox: the trial's
partial likelihood with the random effect penalised; its variance maximises Laplace's approximation
of the integrated likelihood (Ripatti & Palmgren 2000, Biometrics 56:1016), as in R's coxme.

What is a trial's own meets what all share in one arrow-shaped matrix, so a step costs the number of
trials, not its cube.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from .event_models import RiskSets, partial_likelihood

NODES = 15
_MOST_STEPS = 80
_HALVINGS = 30
_TOLERANCE = 1e-7  # of a step of Newton's method: what is left is its square
_LARGEST_STEP = 3.0
_LARGEST_TAU = 20.0
_AT_BOUND = 1e-4  # of tau: below it the variance is 0
_INFINITE = 30.0  # a log odds or hazard beyond it, of a column of size 1, has no maximum


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTrial:
    """One trial: ``own`` columns of its own, then the shared ones, treatment the first of them.

    Logistic: ``x`` ``[n, p]`` with the intercept among its own, ``y`` ``[n]`` 0 or 1 and
    ``weight`` ``[n]``. Cox: ``sets`` with the same columns, no intercept.
    """

    own: int
    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    sets: RiskSets | None = None

    @classmethod
    def logistic(cls, own: np.ndarray, shared: np.ndarray, y: np.ndarray) -> EventTrial:
        """From the rows; equal rows are counted, so that a table without numbers is a few lines."""
        rows, weight = np.column_stack([own, shared, y]), np.ones(len(y))
        distinct, counts = np.unique(rows, axis=0, return_counts=True)
        if len(distinct) < len(rows):
            rows, weight = distinct, counts.astype(float)
        return cls(own=own.shape[1], x=rows[:, :-1], y=rows[:, -1], weight=weight)

    @classmethod
    def cox(cls, own: int, sets: RiskSets) -> EventTrial:
        """From the risk sets of one stratum."""
        none = np.empty(0)
        return cls(own=own, x=sets.x, y=none, weight=none, sets=sets)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedEventFit:
    """``shared`` coefficients ``[m]``, the treatment's first, with their ``covariance``.

    ``tau2`` is the variance of the treatment effect between trials; ``own`` the coefficients of
    each trial; ``log_likelihood`` is the integrated one, ``common`` that at tau² = 0.
    """

    shared: np.ndarray
    covariance: np.ndarray
    tau2: float
    log_likelihood: float
    common: float
    own: tuple[np.ndarray, ...]
    steps: int


_Part = tuple[float, np.ndarray, np.ndarray]  # value, score and information of own and shared


@dataclass(slots=True)
class _Point:
    """Where Newton's method is, and what it found there."""

    own: list[np.ndarray]
    shared: np.ndarray
    value: float = -math.inf
    score: np.ndarray | None = None
    matrix: np.ndarray | None = None
    steps: int = 0
    parts: list[_Part] = field(default_factory=list)


_Parts = Callable[[list[np.ndarray], np.ndarray], list[_Part]]


def _maximise(parts: _Parts, start: _Point) -> _Point | None:
    """Newton's method with step halving; None where there is no finite maximum.

    The information of what is shared may have a wrong sign far from the maximum (the variance):
    its eigenvalues are made positive, so that each step is uphill.
    """
    now, found = start, parts(start.own, start.shared)
    value = sum(part[0] for part in found)
    for number in range(1, _MOST_STEPS):
        step = _step(found, now.own, now.shared)
        if step is None:
            return None
        own, shared, score, matrix = step
        largest = max(float(np.abs(one).max(initial=0.0)) for one in [shared, *own])
        factor = min(1.0, _LARGEST_STEP / max(largest, 1e-300))
        for _ in range(_HALVINGS):
            new_own = [a + factor * b for a, b in zip(now.own, own, strict=True)]
            new_shared = now.shared + factor * shared
            again = parts(new_own, new_shared)
            new = sum(part[0] for part in again)
            if new >= value - 1e-9 * (1.0 + abs(value)):
                break
            factor /= 2.0
        now, found, value = _Point(new_own, new_shared), again, new
        sizes = [float(np.abs(one).max(initial=0.0)) for one in [now.shared, *now.own]]
        if max(sizes) > _INFINITE or not math.isfinite(value):
            return None
        if factor * largest < _TOLERANCE:
            return _Point(now.own, now.shared, value, score, matrix, number, found)
    return None


def _step(
    found: Sequence[_Part], own: Sequence[np.ndarray], shared: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray] | None:
    """Newton's step of own and shared; the score and information of the shared ones alone."""
    m = len(shared)
    score, matrix = np.zeros(m), np.zeros((m, m))
    solved = []
    for (_, g, info), mine in zip(found, own, strict=True):
        o = len(mine)
        block, cross = info[:o, :o], info[:o, o:]
        if o and np.linalg.cond(block) > 1e13:
            return None
        both = np.linalg.solve(block, np.column_stack([cross, g[:o]])) if o else info[:0, : m + 1]
        both = both.reshape(o, m + 1)
        solved.append(both)
        matrix += info[o:, o:] - cross.T @ both[:, :m]
        score += g[o:] - cross.T @ both[:, m]
    if not (np.isfinite(matrix).all() and np.isfinite(score).all()):
        return None
    roots, vectors = np.linalg.eigh(matrix)
    size = np.abs(roots)
    if size.max() == 0 or size.min() < 1e-12 * size.max():
        return None
    step = vectors @ ((vectors.T @ score) / size)
    return [both[:, m] - both[:, :m] @ step for both in solved], step, score, matrix


# ------------------------------------------------------------------ logistic


def fit_logistic_mixed(
    trials: Sequence[EventTrial], *, tau: float = 0.3, nodes: int = NODES, common: bool = False
) -> MixedEventFit | None:
    """The logistic model with a random treatment effect (or a common one) by maximum likelihood.

    ``tau`` starts the search. The covariance is the inverse of the observed information, tau's
    included where it is above 0. None where there is no finite maximum: arms or covariates predict
    the events of a trial, or of all trials, perfectly.
    """
    m = trials[0].x.shape[1] - trials[0].own
    grid = np.polynomial.hermite.hermgauss(nodes)
    modes = np.zeros(len(trials))

    def parts(own: list[np.ndarray], shared: np.ndarray, *, random: bool) -> list[_Part]:
        found = []
        for place, (trial, mine) in enumerate(zip(trials, own, strict=True)):
            b, tau_now = np.concatenate([mine, shared[:m]]), shared[m] if random else 0.0
            modes[place] = _mode(trial, b, tau_now, modes[place])
            value, g, info = _integrated(trial, b, tau_now, modes[place], grid)
            keep = slice(None) if random else slice(0, len(b))
            found.append((value, g[keep], info[keep, keep]))
        return found

    start = _Point([np.zeros(trial.own) for trial in trials], np.zeros(m))
    least = _maximise(lambda own, shared: parts(own, shared, random=False), start)
    if least is None:
        return None
    best = None
    for first in () if common else (tau, tau / 6.0):
        begin = _Point(least.own, np.append(least.shared, first))
        best = _maximise(lambda own, shared: parts(own, shared, random=True), begin)
        if best is not None and abs(best.shared[m]) > _AT_BOUND and best.value >= least.value:
            break
        best = None
    found = least if best is None else best
    assert found.matrix is not None
    return MixedEventFit(
        shared=found.shared[:m],
        covariance=np.linalg.inv(found.matrix)[:m, :m],
        tau2=0.0 if best is None else float(best.shared[m]) ** 2,
        log_likelihood=found.value,
        common=least.value,
        own=tuple(found.own),
        steps=found.steps,
    )


def _mode(trial: EventTrial, b: np.ndarray, tau: float, start: float) -> float:
    """The most likely standardised random effect of a trial."""
    if tau == 0.0:
        return 0.0
    eta, t, v = trial.x @ b, tau * trial.x[:, trial.own], start
    for _ in range(60):
        p = expit(eta + v * t)
        slope = float(trial.weight * t @ (trial.y - p)) - v
        step = slope / (1.0 + float(trial.weight * t**2 @ (p * (1 - p))))
        v += max(-2.0, min(2.0, step))
        if abs(step) < 1e-11:
            break
    return v


def _integrated(
    trial: EventTrial,
    b: np.ndarray,
    tau: float,
    mode: float,
    grid: tuple[np.ndarray, np.ndarray],
) -> _Part:
    """Log likelihood of a trial, its score and information by all coefficients and by tau."""
    x, y, weight, at = trial.x, trial.y, trial.weight[:, None], trial.own
    eta = (x @ b)[:, None]
    t = x[:, [at]]
    if tau == 0.0:  # nothing depends on the random effect but the curvature in tau
        grid = np.zeros(1), np.ones(1)
    p = expit(eta + tau * mode * t)
    scale = math.sqrt(2.0 / (1.0 + tau**2 * float((weight * t**2 * p * (1 - p)).sum())))
    v = mode + scale * grid[0]
    eta = eta + tau * t * v
    p = expit(eta)
    logs = (weight * (y[:, None] * eta - np.logaddexp(0.0, eta))).sum(axis=0)
    logs = logs - 0.5 * v**2 + np.log(grid[1]) + grid[0] ** 2 if tau else logs
    top = float(logs.max())
    share = np.exp(logs - top)
    value = top + math.log(float(share.sum()))
    value += math.log(scale / math.sqrt(2.0 * math.pi)) if tau else 0.0
    share /= share.sum()
    k = x.shape[1]
    scores = np.empty((len(v), k + 1))
    scores[:, :k] = (weight * (y[:, None] - p)).T @ x
    scores[:, k] = v * scores[:, at]
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    inner = ((weight * p * (1 - p)).T @ products).reshape(-1, k, k)
    info = np.empty((k + 1, k + 1))
    info[:k, :k] = np.einsum("q,qij->ij", share, inner)
    info[k, :k] = info[:k, k] = np.einsum("q,qj->j", share * v, inner[:, at])
    info[k, k] = float((share * v**2) @ inner[:, at, at])
    mean = share @ scores
    apart = scores - mean
    return value, mean, info - (apart.T * share) @ apart


# ------------------------------------------------------------------ Cox


def fit_cox_mixed(trials: Sequence[EventTrial], *, tau: float = 0.3) -> MixedEventFit | None:
    """The Cox model with a random treatment effect, baseline hazards and covariates by trial.

    ``tau`` starts the search. The covariance is of the penalised likelihood at the tau² found, as
    in coxme. None where there is no finite maximum.
    """
    m = trials[0].x.shape[1] - trials[0].own
    point = _Point([np.zeros(trial.own + 1) for trial in trials], np.zeros(m))
    evaluated: dict[float, tuple[float, _Point]] = {}

    def loss(at: float) -> float:
        nonlocal point
        fit = _maximise(lambda own, shared: _penalised(trials, own, shared, at), point)
        if fit is None:
            return math.inf
        point = _Point(fit.own, fit.shared)
        logs = [
            math.log(info[len(own) - 1, len(own) - 1])
            for (_, _, info), own in zip(fit.parts, fit.own, strict=True)
        ]
        evaluated[at] = (fit.value - 0.5 * sum(logs), fit)
        return -evaluated[at][0]

    if not math.isfinite(loss(0.0)):
        return None
    high = max(2.0 * tau, 0.2)
    while high < _LARGEST_TAU and loss(high) < loss(high / 2.0):
        high *= 2.0
    minimize_scalar(loss, bounds=(0.0, high), method="bounded", options={"xatol": 1e-6})
    common = evaluated[0.0][0]
    best = max(evaluated, key=lambda at: evaluated[at][0])
    best = best if best > _AT_BOUND and evaluated[best][0] > common else 0.0
    value, fit = evaluated[best]
    assert fit.matrix is not None
    return MixedEventFit(
        shared=fit.shared,
        covariance=np.linalg.inv(fit.matrix),
        tau2=best**2,
        log_likelihood=value,
        common=common,
        own=tuple(own[:-1] for own in fit.own),
        steps=len(evaluated),
    )


def _penalised(
    trials: Sequence[EventTrial], own: list[np.ndarray], shared: np.ndarray, tau: float
) -> list[_Part]:
    """Penalised partial likelihood of each trial; its last own parameter is the random effect."""
    found = []
    for trial, mine in zip(trials, own, strict=True):
        assert trial.sets is not None
        o, v = trial.own, float(mine[-1])
        b = np.concatenate([mine[:-1], shared])
        b[o] += tau * v
        part = partial_likelihood(trial.sets, b)
        # Own columns, then the random effect (tau times treatment), then the shared ones.
        place = np.insert(np.arange(len(b)), o, o)
        factor = np.ones(len(place))
        factor[o] = tau
        score = part.score[place] * factor
        info = part.information[np.ix_(place, place)] * np.outer(factor, factor)
        score[o] -= v
        info[o, o] += 1.0
        found.append((part.value - 0.5 * v**2, score, info))
    return found
