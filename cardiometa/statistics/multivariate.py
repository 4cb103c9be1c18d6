"""Several estimates per trial, pooled together.

`fit_parts` has one between-trial variance: contrasts between levels and arms. `fit_unstructured`
has a between-trial covariance: coefficients of a curve, whose scales have nothing in common
(Jackson, Riley & White 2011, Stat Med 30:2481). `floating_effects` places the effects of the levels
around the interactions, which come from within trials alone (Godolphin et al. 2023,
doi:10.1002/jrsm.1590; ``pooling.md`` 2.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.optimize import minimize

from .meta import LinearFit, root

_STARTS = (1e-3, 0.1, 1.0, 4.0)
_LEAST_MORE = 3  # trials beyond the coefficients, below which no covariance can be learnt


@dataclass(frozen=True, slots=True, kw_only=True)
class UnstructuredFit(LinearFit):
    """Pooled ``coefficients`` ``[p]`` of ``k`` trials and their ``between`` covariance ``[p, p]``.

    ``df`` = (k - 1) p. ``common`` where there were too few trials for a covariance: it is 0 then.
    """

    between: np.ndarray
    k: int
    common: bool


def fit_unstructured(y: np.ndarray, within: np.ndarray, method: str = "reml") -> UnstructuredFit:
    """Pool ``y`` ``[k, p]`` with ``within`` covariances ``[k, p, p]``; k >= 2.

    ``method`` ``reml``, ``ml`` or ``fe``; with fewer than p + 3 trials as ``fe``. The covariance is
    a Cholesky product, so it cannot leave its bounds; the highest of several optima is taken.
    """
    k, p = y.shape
    # Columns on one scale, so that one start serves all of them.
    scale = np.sqrt(np.median(np.diagonal(within, axis1=1, axis2=2), axis=0))
    u, s = y / scale, within / np.outer(scale, scale)
    common = method == "fe" or k < p + _LEAST_MORE
    sigma = np.zeros((p, p)) if common else _best(u, s, restricted=method != "ml")
    w = np.linalg.inv(s + sigma)
    covariance = np.linalg.inv(w.sum(axis=0))
    beta = covariance @ np.einsum("kij,kj->i", w, u)
    residual = u - beta
    df = (k - 1) * p
    return UnstructuredFit(
        coefficients=beta * scale,
        covariance=covariance * np.outer(scale, scale),
        between=sigma * np.outer(scale, scale),
        q_ratio=float(np.einsum("ki,kij,kj->", residual, w, residual)) / df,
        df=df,
        k=k,
        common=common,
    )


def _best(y: np.ndarray, within: np.ndarray, *, restricted: bool) -> np.ndarray:
    p = y.shape[1]
    low = np.tril_indices(p)
    spread = np.atleast_2d(np.cov(y.T))

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        root = np.zeros((p, p))
        root[low] = flat
        found, slope = criterion(y, within, root @ root.T, restricted=restricted)
        return found, 2.0 * (slope @ root)[low]

    best, lowest = (
        np.zeros((p, p)),
        criterion(y, within, np.zeros((p, p)), restricted=restricted)[0],
    )
    for size in _STARTS:
        for shape in (np.eye(p), spread / max(float(np.trace(spread)) / p, 1e-300)):
            start = np.linalg.cholesky(size * shape + 1e-6 * np.eye(p))[low]
            found = minimize(
                value, start, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 500}
            )
            if found.fun < lowest - 1e-12:
                root = np.zeros((p, p))
                root[low] = found.x
                best, lowest = root @ root.T, float(found.fun)
    return best


def criterion(
    y: np.ndarray, within: np.ndarray, sigma: np.ndarray, *, restricted: bool
) -> tuple[float, np.ndarray]:
    """-2 log (restricted) likelihood, constants left out, and its derivative in ``sigma``."""
    v = within + sigma
    w = np.linalg.inv(v)
    information = w.sum(axis=0)
    covariance = np.linalg.inv(information)
    beta = covariance @ np.einsum("kij,kj->i", w, y)
    pull = np.einsum("kij,kj->ki", w, y - beta)
    value = float(np.linalg.slogdet(v)[1].sum() + np.einsum("ki,ki->", pull, y - beta))
    slope = information - np.einsum("ki,kj->ij", pull, pull)
    if restricted:
        value += float(np.linalg.slogdet(information)[1])
        slope = slope - np.einsum("kij,jl,klm->im", w, covariance, w)
    return value, slope


_GRID = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyEstimates:
    """One trial: ``y`` ``[m]`` ~ N(x coefficients, within + tau2 * between), ``x`` ``[m, p]``."""

    y: np.ndarray
    within: np.ndarray
    between: np.ndarray
    x: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class MultivariateFit(LinearFit):
    """Generalised least squares at the REML (or given) tau²; ``df`` = N - p."""

    tau2: float


def fit_parts(parts: Sequence[StudyEstimates], *, method: str = "reml") -> MultivariateFit:
    """Pool the parts; ``method`` ``reml``, ``ml`` or ``fe`` (tau² = 0).

    LinAlgError where the coefficients are not identifiable.
    """
    tau2 = 0.0 if method == "fe" else _best_tau2(parts, restricted=method != "ml")
    information, right, square = _sums(parts, np.array([tau2]))[:3]
    covariance = np.linalg.inv(information[0])
    coefficients = covariance @ right[0]
    count = sum(len(part.y) for part in parts)
    df = count - len(coefficients)
    residual = float(square[0] - right[0] @ coefficients)
    return MultivariateFit(
        coefficients=coefficients,
        covariance=covariance,
        tau2=tau2,
        q_ratio=max(residual, 0.0) / df if df > 0 else 1.0,
        df=df,
    )


def _sums(
    parts: Sequence[StudyEstimates], tau2: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``X'WX``, ``X'Wy``, ``y'Wy`` and log|V| at each tau²."""
    p = parts[0].x.shape[1]
    information, right = np.zeros((len(tau2), p, p)), np.zeros((len(tau2), p))
    square, log_det = np.zeros(len(tau2)), np.zeros(len(tau2))
    for part in parts:
        v = part.within + tau2[:, None, None] * part.between
        w = np.linalg.inv(v)
        information += part.x.T @ w @ part.x
        right += (w @ part.y) @ part.x
        square += np.einsum("gij,i,j->g", w, part.y, part.y)
        log_det += np.linalg.slogdet(v)[1]
    return information, right, square, log_det


def _score(parts: Sequence[StudyEstimates], tau2: float, *, restricted: bool) -> float:
    """The derivative of the log-likelihood in tau²."""
    information, right, _, _ = _sums(parts, np.array([tau2]))
    covariance = np.linalg.inv(information[0])
    beta = covariance @ right[0]
    total = 0.0
    for part in parts:
        w = np.linalg.inv(part.within + tau2 * part.between)
        pull = w @ (part.y - part.x @ beta)
        total += float(pull @ part.between @ pull) - float(np.trace(w @ part.between))
        if restricted:
            wx = w @ part.x
            total += float(np.trace(covariance @ wx.T @ part.between @ wx))
    return 0.5 * total


def _best_tau2(parts: Sequence[StudyEstimates], *, restricted: bool) -> float:
    """The highest maximum over tau² >= 0: a grid brackets each one, Brent finds it."""
    spread = np.concatenate([part.y for part in parts])
    size = max(float(np.trace(part.within)) / len(part.y) for part in parts)
    scale = size + float(((spread - spread.mean()) ** 2).sum())
    grid = np.concatenate([[0.0], np.geomspace(1e-8 * size, 10.0 * scale, _GRID)])
    score = partial(_score, parts, restricted=restricted)
    scores = [score(float(t)) for t in grid]
    found = [0.0]
    found += [
        root(score, low, high)
        for low, high, a, b in zip(grid, grid[1:], scores, scores[1:], strict=False)
        if a > 0 >= b
    ]
    information, right, square, log_det = _sums(parts, np.array(found))
    solved = np.linalg.solve(information, right[:, :, None])[:, :, 0]
    values = log_det + square - np.einsum("gp,gp->g", right, solved)
    values += np.linalg.slogdet(information)[1] if restricted else 0.0
    return found[int(np.argmin(values))]


# ------------------------------------------------------------------ floating effects


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelEffects:
    """One trial's effects ``b`` ``[m]`` of the levels it has, with ``covariance`` ``[m, m]``.

    ``levels`` ``[m]`` are their numbers, 0 the reference.
    """

    levels: tuple[int, ...]
    b: np.ndarray
    covariance: np.ndarray


def contrasts_of(effects: LevelEffects, count: int) -> StudyEstimates | None:
    """The trial's contrasts against its first level, in terms of the ``count`` - 1 interactions.

    Their true values differ between trials as if each level's effect did so independently, with
    variance tau² / 2; so a contrast has variance tau², whatever the reference. None for one level.
    """
    m = len(effects.levels)
    if m < 2:
        return None
    difference = np.column_stack([-np.ones(m - 1), np.eye(m - 1)])
    return StudyEstimates(
        y=difference @ effects.b,
        within=difference @ effects.covariance @ difference.T,
        between=0.5 * difference @ difference.T,
        x=difference @ levels_matrix(effects.levels, count),
    )


def levels_matrix(levels: Sequence[int], count: int) -> np.ndarray:
    """``Z`` ``[m, count - 1]``: interactions to levels; the reference has a row of zeros."""
    z = np.zeros((len(levels), count - 1))
    for row, level in enumerate(levels):
        if level:
            z[row, level - 1] = 1.0
    return z


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatingEffects:
    """Effects ``beta`` ``[J]`` of all levels, whose differences are the pooled interactions.

    ``tau2_mean`` is the between-trial variance that all levels of a trial share.
    """

    beta: np.ndarray
    covariance: np.ndarray
    tau2_mean: float
    df: float


def floating_effects(
    trials: Sequence[LevelEffects],
    interaction: MultivariateFit,
    *,
    method: str = "reml",
    ci: str = "hksj-truncated",
) -> FloatingEffects:
    """Step 2 of Godolphin et al. 2023, given the interactions of step 1.

    The between-trial covariance of a trial's levels is a 11' + (tau²/2) I: its contrasts are those
    of step 1, and ``a``, which no contrast tells, is found here by REML. Covariances are scaled by
    ``ci`` as `LinearFit.scaled` does; ``df`` is the smaller of both steps', infinite for ``wald``.
    """
    count = len(interaction.coefficients) + 1
    parts, maps = [], []
    for trial in trials:
        m = len(trial.levels)
        z = levels_matrix(trial.levels, count)
        maps.append(z)
        parts.append(
            StudyEstimates(
                y=trial.b - z @ interaction.coefficients,
                within=trial.covariance + 0.5 * interaction.tau2 * np.eye(m),
                between=np.ones((m, m)),
                x=np.ones((m, 1)),
            )
        )
    tau2 = 0.0 if method == "fe" else _best_tau2(parts, restricted=method != "ml")
    total, weighted, sums, square = 0.0, np.zeros(count - 1), 0.0, 0.0
    for part, z in zip(parts, maps, strict=True):
        row = np.linalg.inv(part.within + tau2 * part.between).sum(axis=0)
        own = float(row @ part.y)
        total += float(row.sum())
        weighted += row @ z
        sums += own
        square += own**2 / float(row.sum())
    theta = sums / total
    k = len(parts)
    spread = square - theta * sums  # of the trials' own means, one each
    ratio = spread / (k - 1) if k > 1 else 1.0
    variance = {"wald": 1.0, "hksj": ratio, "hksj-truncated": max(1.0, ratio)}[ci] / total
    every = levels_matrix(range(count), count)
    a = every - np.outer(np.ones(count), weighted / total)
    covariance = variance * np.ones((count, count))
    covariance += a @ interaction.scaled(ci) @ a.T
    df = min(k - 1, interaction.df) if interaction.df > 0 else k - 1
    return FloatingEffects(
        beta=theta + every @ interaction.coefficients,
        covariance=covariance,
        tau2_mean=tau2,
        df=float("inf") if ci == "wald" else max(df, 1),
    )
