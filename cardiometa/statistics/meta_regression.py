"""Meta-regression: the second stage with covariates of the trials, tau² by every estimator.

With X = 1 it is `random_effects`. Notation of ``pooling.md`` 2.1: W = diag(1 / (v + tau²)),
P = W - W X (X'WX)^-1 X'W, e the weighted residuals. P is never formed: its traces are sums over
trials. Graded against metafor's ``rma(mods = )`` in ``tests/golden/pooling``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import brentq

_GRID = 240
_DEPENDENT = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaRegression:
    """``k`` estimates regressed on ``x`` ``[k, p]`` with one tau².

    ``covariance`` ``[p, p]`` is (X'WX)^-1; ``q_ratio`` Knapp and Hartung's y'Py / (k - p), which
    scales it; ``q`` the residual Q on ``df`` = k - p degrees of freedom.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    q_ratio: float
    df: int
    tau2: float
    i2_percent: float
    h2: float
    q: float
    q_p: float
    k: int

    def scaled(self, ci: str) -> np.ndarray:
        """The covariance by ``wald``, ``hksj`` or ``hksj-truncated`` (ratio never below 1)."""
        ratio = {"wald": 1.0, "hksj": self.q_ratio, "hksj-truncated": max(1.0, self.q_ratio)}[ci]
        return self.covariance * ratio

    def test(self, places: list[int], ci: str) -> tuple[float, int, float, float]:
        """Whether all ``places`` are 0: statistic, its df, the second df, p.

        F(m, k - p) of the scaled covariance, or chi²(m) (second df infinite) for ``wald``.
        """
        m = len(places)
        b = self.coefficients[places]
        square = float(b @ np.linalg.solve(self.scaled(ci)[np.ix_(places, places)], b))
        if ci == "wald":
            return square, m, float("inf"), float(stats.chi2.sf(square, m))
        return square / m, m, self.df, float(stats.f.sf(square / m, m, self.df))


class _Problem:
    """The sums at one tau², on an orthonormal basis of the columns of ``x``."""

    def __init__(self, y: np.ndarray, v: np.ndarray, x: np.ndarray) -> None:
        self.y, self.v, self.x = y, v, x
        self.k, self.p = int(x.shape[0]), int(x.shape[1])

    def at(self, tau2: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Weights, (X'WX)^-1, coefficients and residuals."""
        w = 1.0 / (self.v + tau2)
        inverse = np.linalg.inv(self.x.T @ (self.x * w[:, None]))
        beta = inverse @ (self.x.T @ (w * self.y))
        return w, inverse, beta, self.y - self.x @ beta

    def q(self, tau2: float) -> float:
        """y'Py, falling in tau²."""
        w, _, _, residual = self.at(tau2)
        return float(w @ residual**2)

    def trace(self, tau2: float) -> float:
        """The trace of P."""
        w, inverse, _, _ = self.at(tau2)
        return float(w.sum() - np.trace(inverse @ (self.x.T @ (self.x * w[:, None] ** 2))))

    def score(self, tau2: float, *, restricted: bool) -> float:
        """The derivative of the (restricted) log-likelihood in tau²."""
        w, inverse, _, residual = self.at(tau2)
        trace = float(w.sum())
        if restricted:
            trace -= float(np.trace(inverse @ (self.x.T @ (self.x * w[:, None] ** 2))))
        return -0.5 * (trace - float((w * residual) @ (w * residual)))

    def log_likelihood(self, tau2: float, *, restricted: bool) -> float:
        """The (restricted) log-likelihood, constants left out."""
        w, inverse, _, residual = self.at(tau2)
        value = 0.5 * float(np.log(w).sum() - w @ residual**2)
        return value + 0.5 * float(np.linalg.slogdet(inverse)[1]) if restricted else value


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(
        brentq(function, low, high, xtol=1e-300, rtol=4 * np.finfo(float).eps, maxiter=1000)
    )


def _maximum(problem: _Problem, *, restricted: bool) -> float:
    """The highest maximum over tau² >= 0: a grid brackets each root of the score."""

    def score(tau2: float) -> float:
        return problem.score(tau2, restricted=restricted)

    high = float(problem.v.max()) + float(((problem.y - problem.y.mean()) ** 2).sum())
    while score(high) > 0:
        high *= 4.0
    grid = [0.0, *np.geomspace(float(problem.v.min()) * 1e-6, high, _GRID)]
    scores = [score(float(t)) for t in grid]
    found = [0.0] if scores[0] <= 0 else []
    found += [
        _root(score, float(grid[j]), float(grid[j + 1]))
        for j in range(len(grid) - 1)
        if scores[j] > 0 >= scores[j + 1]
    ]
    values = [problem.log_likelihood(t, restricted=restricted) for t in found]
    return found[int(np.argmax(values))]


def _paule_mandel(problem: _Problem) -> float:
    target = problem.k - problem.p
    if problem.q(0.0) < target:
        return 0.0
    high = float(problem.v.max()) + float(np.var(problem.y))
    while problem.q(high) > target:
        high *= 4.0
    return _root(lambda t: problem.q(t) - target, 0.0, high)


def _hedges(problem: _Problem) -> float:
    """Ordinary least squares; the columns are orthonormal, so their hat values are x²."""
    residual = problem.y - problem.x @ (problem.x.T @ problem.y)
    left = 1.0 - (problem.x**2).sum(axis=1)
    value = float(residual @ residual) - float(left @ problem.v)
    return value / float(problem.k - problem.p)


def _sidik_jonkman(problem: _Problem) -> float:
    start = float(np.mean((problem.y - problem.y.mean()) ** 2))
    return start * problem.q(start) / (problem.k - problem.p) if start > 0 else 0.0


def _tau2(problem: _Problem, method: str) -> float:
    match method:
        case "fe":
            value = 0.0
        case "reml" | "ml":
            value = _maximum(problem, restricted=method == "reml")
        case "pm" | "eb":
            value = _paule_mandel(problem)
        case "dl":
            value = (problem.q(0.0) - (problem.k - problem.p)) / problem.trace(0.0)
        case "he":
            value = _hedges(problem)
        case "hs":
            value = (problem.q(0.0) - problem.k) / float((1.0 / problem.v).sum())
        case "sj":
            value = _sidik_jonkman(problem)
        case _:
            raise ValueError(f"unknown estimator {method!r}")
    return max(0.0, float(value))


def regress_estimates(
    y: np.ndarray, v: np.ndarray, x: np.ndarray, method: str
) -> MetaRegression | None:
    """Regress estimates ``y`` ``[k]`` with variances ``v`` on ``x`` ``[k, p]`` (with intercept).

    None where the columns cannot be told apart or no degree of freedom is left. Estimators of tau²
    as `tau2.METHODS` (Viechtbauer et al. 2015, Psychol Methods 20:360, for their residual forms).
    """
    y, v, x = (np.asarray(item, dtype=float) for item in (y, v, x))
    k, p = x.shape
    size = np.sqrt((x**2).sum(axis=0))
    if k <= p or (size == 0).any():
        return None
    basis, triangle = np.linalg.qr(x / size)
    if np.abs(np.diag(triangle)).min() < _DEPENDENT:
        return None
    problem = _Problem(y, v, basis)
    tau2 = _tau2(problem, method)
    w, inverse, beta, residual = problem.at(tau2)
    back = np.linalg.inv(triangle) / size[:, None]
    q, typical = problem.q(0.0), (k - p) / problem.trace(0.0)
    h2 = q / (k - p) if method == "fe" else (tau2 + typical) / typical
    return MetaRegression(
        coefficients=back @ beta,
        covariance=back @ inverse @ back.T,
        q_ratio=float(w @ residual**2) / (k - p),
        df=k - p,
        tau2=tau2,
        i2_percent=100.0 * max(0.0, 1.0 - 1.0 / h2) if h2 > 0 else 0.0,
        h2=h2,
        q=q,
        q_p=float(stats.chi2.sf(q, k - p)),
        k=k,
    )


def r2_percent(tau2_without: float, tau2_with: float) -> float | None:
    """The share of tau² that covariates explain, never below 0; None where there is none.

    Raudenbush 2009, in Cooper et al., eq. 16.32; poorly known below 30 or so trials (López-López
    et al. 2014, Br J Math Stat Psychol 67:30).
    """
    if tau2_without <= 0:
        return None
    return 100.0 * max(0.0, (tau2_without - tau2_with) / tau2_without)


def between_groups(estimates: np.ndarray, errors: np.ndarray) -> tuple[float, int, float]:
    """Whether pooled effects of separate groups of trials differ: Q, its df and p (chi²).

    Each group has its own tau², so the test is Wald's (Borenstein & Higgins 2013, Prev Sci 14:134).
    """
    weight = 1.0 / errors**2
    mean = float(weight @ estimates / weight.sum())
    q = float(weight @ (estimates - mean) ** 2)
    return q, len(estimates) - 1, float(stats.chi2.sf(q, len(estimates) - 1))
