"""The second stage: between-trial variance, pooled estimate, intervals, meta-regression, influence.

Notation of ``pooling.md`` 2.1: y estimates, v their variances, W = diag(1 / (v + tau2)), X the
design ``[k, p]`` (a column of ones unless the trials have covariates), P = W - W X (X'WX)^-1 X'W,
u = 1/v. P is never formed: what is needed of it are sums over trials. Nine estimators of tau2, each
with a solver that cannot fail: roots of a monotone function or of a score between brackets. Checked
against R's metafor in ``tests/golden/pooling``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy.optimize import brentq

METHODS = ("reml", "ml", "dl", "pm", "eb", "he", "hs", "sj", "fe")
# The grid of tau²: its step and its start (a share of the least variance), and how many weights
# are held at once.
_STEP = 0.2
_NOTHING = 1e-3
_CELLS = 200_000
_DEPENDENT = 1e-8  # the least pivot of linearly independent scaled columns


class _Sums:
    """The sums over trials at one or many values of tau².

    Estimates are centred at their common-effect fit, so that sums of ``w² y²`` lose no digits:
    where the fit has moved away from it, the estimates that moved it dominate the sums.
    """

    def __init__(self, y: np.ndarray, v: np.ndarray, x: np.ndarray | None = None) -> None:
        self.v, self.x = v, np.ones((len(y), 1)) if x is None else x
        self.k, self.p = int(self.x.shape[0]), int(self.x.shape[1])
        self.start = self.fit(0.0, y)[2]
        self.y = y - self.x @ self.start
        pairs = (self.x[:, :, None] * self.x[:, None, :]).reshape(self.k, -1)
        self.powers = np.column_stack([pairs, self.x * self.y[:, None], self.y**2])

    def fit(
        self, tau2: float, y: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Weights, (X'WX)^-1, coefficients (of centred ``y``) and residuals."""
        y = self.y if y is None else y
        w = 1.0 / (self.v + tau2)
        inverse = np.linalg.inv(self.x.T @ (self.x * w[:, None]))
        beta = inverse @ (self.x.T @ (w * y))
        return w, inverse, beta, y - self.x @ beta

    def q(self, tau2: float) -> float:
        """``Q(tau2) = y'Py``, falling in tau2 from Cochran's Q towards 0."""
        w, _, _, residual = self.fit(tau2)
        return float(w @ residual**2)

    def trace(self) -> float:
        """The trace of P at tau² = 0, without differences where X = 1.

        ``(sum u)² - sum u²`` as a sum of products: one huge weight would leave nothing of it.
        """
        w, inverse, _, _ = self.fit(0.0)
        if self.p > 1:
            return float(w.sum() - np.trace(inverse @ (self.x.T @ (self.x * w[:, None] ** 2))))
        later = np.cumsum(w[::-1])[::-1]
        return 2.0 * float(w[:-1] @ later[1:]) / float(w.sum())

    def score(self, tau2: np.ndarray, *, restricted: bool) -> np.ndarray:
        """The derivative of the (restricted) log-likelihood at each ``tau2`` ``[g]``."""
        p = self.p
        w = 1.0 / (self.v[None, :] + tau2[:, None])
        total = w.sum(axis=1)
        first = w @ self.powers[:, : p * p + p]
        np.multiply(w, w, out=w)
        second = w @ self.powers
        if p == 1:  # the same in numbers: ten times faster in small meta-analyses
            mu, xwwx = first[:, 1] / first[:, 0], second[:, 0]
            loss = second[:, 2] - 2.0 * mu * second[:, 1] + mu**2 * xwwx
            trace = total - xwwx / first[:, 0] if restricted else total
            value: np.ndarray = -0.5 * (trace - loss)
            return value
        xwx, xwwx = (item[:, : p * p].reshape(-1, p, p) for item in (first, second))
        beta = np.linalg.solve(xwx, first[:, p * p :, None])[:, :, 0]
        if restricted:
            total = total - np.trace(np.linalg.solve(xwx, xwwx), axis1=1, axis2=2)
        cross = np.einsum("gp,gp->g", beta, second[:, p * p : -1])
        square = np.einsum("gp,gpq,gq->g", beta, xwwx, beta)
        value = total - (second[:, -1] - 2.0 * cross + square)
        return -0.5 * value

    def log_likelihood(self, tau2: float, *, restricted: bool) -> float:
        """The (restricted) log-likelihood, constants left out."""
        w, inverse, _, residual = self.fit(tau2)
        value = float(np.log(w).sum() - w @ residual**2)
        return 0.5 * (value + float(np.linalg.slogdet(inverse)[1]) if restricted else value)


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """The root between two brackets to the smallest relative tolerance that brentq takes."""
    return float(
        brentq(function, low, high, xtol=1e-300, rtol=4 * np.finfo(float).eps, maxiter=1000)
    )


def solve_q(
    y: np.ndarray, v: np.ndarray, target: float, x: np.ndarray | None = None
) -> float | None:
    """The tau2 >= 0 with ``Q(tau2) = target``; None where Q(0) is already below the target."""
    sums = _Sums(y, v, x)
    if sums.q(0.0) < target:
        return None
    high = float(v.max()) + float(np.var(y))
    while sums.q(high) > target:
        high *= 4.0
    return root(lambda t: sums.q(t) - target, 0.0, high)


def _grid_of_tau2(v: np.ndarray, spread: float) -> np.ndarray:
    """The grid on which no maximum of the likelihood is missed.

    ``spread`` is the least-squares residual variance. In log tau² the weights are logistic curves
    some four units wide, so that steps of a fifth miss no maximum; below a hundredth of the least
    variance they no longer change.
    """
    # Above both, w lies within 1/(2 tau²) and 1/tau², and the score's bound by them is negative.
    high = max(float(v.max()), 4.0 * spread)
    low = min(float(v.min()), high) * _NOTHING
    count = 2 + math.ceil(math.log(high / low) / _STEP)
    return np.concatenate([[0.0], np.geomspace(low, high, count)])


def _maximum_likelihood(
    sums: _Sums, grid: np.ndarray, scores: np.ndarray, *, restricted: bool
) -> float:
    """The global maximum of the (restricted) likelihood over tau2 >= 0.

    Several maxima exist in some data: each change of the ``scores`` on the ``grid`` from plus to
    minus brackets one, Brent finds it, and the highest wins.
    """

    def score(t: float) -> float:
        return float(sums.score(np.array([t]), restricted=restricted)[0])

    maxima = [0.0] if scores[0] <= 0 else []
    falls = np.flatnonzero((scores[:-1] > 0) & (scores[1:] <= 0))
    maxima += [root(score, float(grid[i]), float(grid[i + 1])) for i in falls]
    if len(maxima) == 1:
        return maxima[0]
    return max(maxima, key=lambda t: sums.log_likelihood(t, restricted=restricted))


def between_trial_variance(
    y: np.ndarray, v: np.ndarray, method: str, x: np.ndarray | None = None
) -> float:
    """tau² >= 0 of estimates ``y`` ``[k]`` with variances ``v`` ``[k]`` by one of `METHODS`.

    ``x`` ``[k, p]`` are the covariates of a meta-regression (of full rank, with the intercept).
    One trial carries no information about it: 0. ``eb`` and ``pm`` are one root (Morris 1983,
    Paule & Mandel 1982). Sources: DerSimonian & Laird 1986; Hedges 1983; Hunter & Schmidt (hs);
    Sidik & Jonkman 2005; Viechtbauer 2005 (ml, reml); their residual forms Viechtbauer et al. 2015
    (Psychol Methods 20:360).
    """
    y, v = np.asarray(y, dtype=float), np.asarray(v, dtype=float)
    if not (len(y) and np.isfinite(y).all() and np.isfinite(v).all() and (v > 0).all()):
        raise ValueError("estimates must be finite and variances positive")
    sums = _Sums(y, v, x)
    k, free = sums.k, sums.k - sums.p
    if k == 1 or method == "fe":
        return 0.0
    basis = sums.x / math.sqrt(k) if x is None else np.linalg.qr(x)[0]
    residual = y - basis @ (basis.T @ y)
    spread = float(residual @ residual) / free
    match method:
        case "reml" | "ml":
            grid, restricted = _grid_of_tau2(v, spread), method == "reml"
            parts = np.array_split(grid, 1 + len(grid) * k // _CELLS)
            scores = np.concatenate([sums.score(part, restricted=restricted) for part in parts])
            value = _maximum_likelihood(sums, grid, scores, restricted=restricted)
        case "dl":
            value = (sums.q(0.0) - free) / sums.trace()
        case "pm" | "eb":
            value = solve_q(y, v, free, x) or 0.0
        case "he":
            value = spread - float((1.0 - (basis**2).sum(axis=1)) @ v) / free
        case "hs":
            value = (sums.q(0.0) - k) / float((1.0 / v).sum())
        case "sj":
            start = float(np.mean((y - y.mean()) ** 2))
            value = start * sums.q(start) / free if start > 0 else 0.0
        case _:
            raise ValueError(f"unknown estimator {method!r}: one of {', '.join(METHODS)}")
    return max(0.0, float(value))


def leave_one_out(y: np.ndarray, v: np.ndarray, method: str) -> Sequence[RandomEffects]:
    """The ``k`` >= 3 trials pooled without each in turn.

    For the likelihood the scores of all deletions on one grid come from the sums over all trials
    less the trial's own terms, which makes thousands of trials a matter of seconds; where a trial
    has most of the weight, its subtraction would leave no digits, and each fit stands alone.
    """
    y, v = np.asarray(y, dtype=float), np.asarray(v, dtype=float)
    k = len(y)
    shared = method in ("reml", "ml") and 2.0 * (1.0 / v).max() < (1.0 / v).sum()
    if shared:
        restricted = method == "reml"
        # Of the deletions no residual variance is larger, and no variance outside the range.
        grid = _grid_of_tau2(v, float(y.var()) * k / (k - 2))
        z = y - float((y / v).sum() / (1.0 / v).sum())
        scores = np.empty((len(grid), k))
        for place, tau2 in enumerate(grid):
            w = 1.0 / (v + tau2)
            one, two = w.sum() - w, (w**2).sum() - w**2
            wz, w2z = w @ z - w * z, w**2 @ z - w**2 * z
            mu = wz / one
            loss = w**2 @ z**2 - (w * z) ** 2 - 2.0 * mu * w2z + mu**2 * two
            scores[place] = -0.5 * (one - (two / one if restricted else 0.0) - loss)
    fits = []
    for i in range(k):
        rest, errors = np.delete(y, i), np.delete(v, i)
        tau2 = None
        if shared:
            sums = _Sums(rest, errors)
            tau2 = _maximum_likelihood(sums, grid, scores[:, i], restricted=restricted)
        fits.append(pool_estimates(rest, errors, method, tau2))
    return fits


_GRID = 48
_HALVINGS = 60


def reml_batch(y: np.ndarray, v: np.ndarray) -> np.ndarray:
    """tau² ``[b]`` of estimates ``y`` ``[b, k]`` with variances ``v`` ``[b, k]``.

    The highest point of a grid over the whole range, then bisection of the score in the cells
    beside it: the same optimum as `between_trial_variance` finds, to 1e-9 of the range.
    """

    def parts(tau2: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        w = 1.0 / (v + tau2[:, None])
        total = w.sum(axis=1)
        return w, total, (y - ((w * y).sum(axis=1) / total)[:, None]) ** 2

    def likelihood(tau2: np.ndarray) -> np.ndarray:
        w, total, squares = parts(tau2)
        value: np.ndarray = np.log(w).sum(axis=1) - (w * squares).sum(axis=1) - np.log(total)
        return value

    size = v.max(axis=1) + y.var(axis=1) * y.shape[1]
    steps = np.concatenate([[0.0], np.geomspace(1e-6, 4.0, _GRID)])
    grid = steps[None, :] * size[:, None]
    values = np.stack([likelihood(grid[:, g]) for g in range(grid.shape[1])], axis=1)
    best = values.argmax(axis=1)
    rows = np.arange(len(y))
    low = grid[rows, np.maximum(best - 1, 0)]
    high = grid[rows, np.minimum(best + 1, _GRID)]
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        w, total, squares = parts(middle)
        rising = total - (w**2).sum(axis=1) / total - (w**2 * squares).sum(axis=1) < 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    found = 0.5 * (low + high)
    return np.where(found < 1e-12 * size, 0.0, found)


def pooled_batch(y: np.ndarray, v: np.ndarray, tau2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pooled estimates and their standard errors ``W1^-1/2``, each ``[b]``."""
    w = 1.0 / (v + tau2[:, None])
    total = w.sum(axis=1)
    estimate: np.ndarray = (w * y).sum(axis=1) / total
    return estimate, total**-0.5


CI_METHODS = ("wald", "hksj", "hksj-truncated")


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomEffects:
    """Inverse-variance pooling of ``k`` estimates with one tau².

    ``weights`` ``[k]`` sum to 1; ``se_wald`` = W1^-1/2; ``q_ratio`` is Hartung and Knapp's
    q = sum w (y - mu)² / (k - 1), None for one trial; ``q`` is Cochran's.
    """

    estimate: float
    se_wald: float
    q_ratio: float | None
    tau2: float
    tau2_method: str
    weights: np.ndarray
    q: float
    q_df: int
    q_p: float | None
    i2_percent: float | None
    h2: float | None
    k: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One interval and test of a pooled estimate; ``df`` is infinite for the normal law."""

    method: str
    se: float
    df: float
    low: float
    high: float
    p: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeterogeneityInterval:
    """Q-profile limits of tau² and what follows for I² (percent) and H²; None without any.

    ``empty`` where the data are so much alike that no tau² >= 0 is compatible with them.
    """

    tau2: tuple[float, float] | None
    i2_percent: tuple[float, float] | None
    h2: tuple[float, float] | None
    empty: bool = False


def typical_variance(v: np.ndarray) -> float:
    """The typical within-trial variance of Higgins & Thompson 2002, eq. 9; needs k >= 2."""
    return (len(v) - 1) / _Sums(np.zeros_like(v), v).trace()


def pool_estimates(
    y: np.ndarray, v: np.ndarray, method: str, tau2: float | None = None
) -> RandomEffects:
    """Pool estimates ``y`` ``[k]`` with variances ``v``; tau² by ``method`` unless it is given."""
    y, v = np.asarray(y, dtype=float), np.asarray(v, dtype=float)
    k = len(y)
    tau2 = between_trial_variance(y, v, method) if tau2 is None else tau2
    w = 1.0 / (v + tau2)
    total = float(w.sum())
    mu = float((w @ y) / total)
    sums = _Sums(y, v)
    q = sums.q(0.0)
    i2 = h2 = None
    if k > 1 and method == "fe":  # no tau² to speak of: Q itself (Higgins & Thompson 2002)
        h2 = q / (k - 1)
        i2 = 100.0 * max(0.0, 1.0 - 1.0 / h2) if h2 > 0 else 0.0
    elif k > 1:
        s2 = (k - 1) / sums.trace()
        i2, h2 = 100.0 * tau2 / (tau2 + s2), (tau2 + s2) / s2
    return RandomEffects(
        estimate=mu,
        se_wald=total**-0.5,
        q_ratio=float(w @ (y - mu) ** 2) / (k - 1) if k > 1 else None,
        tau2=tau2,
        tau2_method=method,
        weights=w / total,
        q=q,
        q_df=k - 1,
        q_p=float(special.chdtrc(k - 1, q)) if k > 1 else None,
        i2_percent=i2,
        h2=h2,
        k=k,
    )


def t_interval(
    estimate: float, se: float, df: float, level_percent: float, method: str = "wald"
) -> Interval:
    """Estimate and SE to interval and two-sided p; ``df`` infinite gives the normal law.

    An SE of 0 (all estimates equal, plain HKSJ) has an interval without width and no p.
    """
    quantile = 0.5 + level_percent / 200.0
    half = float(special.ndtri(quantile) if math.isinf(df) else special.stdtrit(df, quantile)) * se
    p = None
    if se > 0:
        ratio = -abs(estimate) / se
        p = 2.0 * float(special.ndtr(ratio) if math.isinf(df) else special.stdtr(df, ratio))
    return Interval(method=method, se=se, df=df, low=estimate - half, high=estimate + half, p=p)


def pooled_interval(fit: RandomEffects, method: str, level_percent: float = 95.0) -> Interval:
    """The interval of a pooled estimate by one of `CI_METHODS`.

    ``hksj`` (Hartung & Knapp 2001; Sidik & Jonkman 2002): SE sqrt(q / W1), t with k - 1 df;
    ``hksj-truncated``: q never below 1 (Knapp & Hartung 2003). Both need k >= 2.
    """
    if method == "wald":
        return t_interval(fit.estimate, fit.se_wald, float("inf"), level_percent, method)
    if fit.q_ratio is None:
        raise ValueError("HKSJ needs two trials")
    ratio = fit.q_ratio if method == "hksj" else max(1.0, fit.q_ratio)
    se = fit.se_wald * ratio**0.5
    return t_interval(fit.estimate, se, fit.k - 1, level_percent, method)


def prediction_interval(
    fit: RandomEffects, se: float, pi_df: str, level_percent: float = 95.0
) -> tuple[float, float] | None:
    """Where the true effect of a new trial may lie; None for fewer than three trials.

    mu ± t(df) sqrt(tau² + SE²); ``pi_df`` ``k-1`` (as metafor does beside HKSJ) or ``k-2``
    (Higgins, Thompson & Spiegelhalter 2009). A common-effect model has none.
    """
    if fit.k < 3 or fit.tau2_method == "fe":
        return None
    df = {"k-1": fit.k - 1, "k-2": fit.k - 2}[pi_df]
    wide = t_interval(fit.estimate, (fit.tau2 + se**2) ** 0.5, df, level_percent)
    return wide.low, wide.high


def q_profile(y: np.ndarray, v: np.ndarray, level_percent: float = 95.0) -> HeterogeneityInterval:
    """Q-profile limits of tau² (Viechtbauer 2007) and of I² and H² at those limits."""
    y, v = np.asarray(y, dtype=float), np.asarray(v, dtype=float)
    k = len(y)
    if k < 2:
        return HeterogeneityInterval(tau2=None, i2_percent=None, h2=None)
    tail = 0.5 - level_percent / 200.0
    high = solve_q(y, v, float(2 * special.gammaincinv((k - 1) / 2, tail)))
    if high is None:
        return HeterogeneityInterval(tau2=None, i2_percent=None, h2=None, empty=True)
    low = solve_q(y, v, float(special.chdtri(k - 1, tail))) or 0.0
    s2 = typical_variance(v)
    return HeterogeneityInterval(
        tau2=(low, high),
        i2_percent=(100.0 * low / (low + s2), 100.0 * high / (high + s2)),
        h2=((low + s2) / s2, (high + s2) / s2),
    )


def tau2_standard_error(fit: RandomEffects, v: np.ndarray) -> float | None:
    """Standard error of tau² where the likelihood gives one; None for moment estimators."""
    return likelihood_se(v, fit.tau2, fit.tau2_method) if fit.k > 1 else None


def likelihood_se(v: np.ndarray, tau2: float, method: str) -> float | None:
    """Standard error of a REML or ML tau² from the expected information; None for the others."""
    if method not in ("ml", "reml"):
        return None
    w = 1.0 / (np.asarray(v, dtype=float) + tau2)
    w1, w2, w3 = float(w.sum()), float((w**2).sum()), float((w**3).sum())
    information = 0.5 * w2
    if method == "reml":
        information = 0.5 * (w2 - 2 * w3 / w1 + (w2 / w1) ** 2)
    return information**-0.5 if information > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearFit:
    """Coefficients of a second stage with their model covariance, and what scales it.

    ``q_ratio`` is Knapp and Hartung's residual sum of squares over ``df`` (Jackson & Riley 2014,
    doi:10.1002/sim.5957, for several estimates per trial), 1 where there are no degrees of freedom.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    q_ratio: float
    df: int

    def scaled(self, ci: str) -> np.ndarray:
        """The covariance by ``wald``, ``hksj`` or ``hksj-truncated`` (ratio never below 1)."""
        ratio = {"wald": 1.0, "hksj": self.q_ratio, "hksj-truncated": max(1.0, self.q_ratio)}[ci]
        return self.covariance * ratio

    def test(self, places: list[int], ci: str) -> tuple[float, int, float, float]:
        """Whether all ``places`` are 0: statistic, its df, the second df, p.

        F(m, df) of the scaled covariance, or chi²(m) (second df infinite) for ``wald``.
        """
        m = len(places)
        b = self.coefficients[places]
        square = max(0.0, float(b @ np.linalg.solve(self.scaled(ci)[np.ix_(places, places)], b)))
        if ci == "wald":
            return square, m, float("inf"), float(special.chdtrc(m, square))
        return square / m, m, float(self.df), float(special.fdtrc(m, self.df, square / m))


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaRegression(LinearFit):
    """``k`` estimates regressed on ``x`` ``[k, p]`` with one tau²; ``q`` the residual Q."""

    tau2: float
    i2_percent: float
    h2: float
    q: float
    q_p: float
    k: int


def regress_estimates(
    y: np.ndarray, v: np.ndarray, x: np.ndarray, method: str
) -> MetaRegression | None:
    """Regress estimates ``y`` ``[k]`` with variances ``v`` on ``x`` ``[k, p]`` (with intercept).

    None where the columns are linearly dependent or no degree of freedom is left.
    """
    y, v, x = (np.asarray(item, dtype=float) for item in (y, v, x))
    k, p = x.shape
    size = np.sqrt((x**2).sum(axis=0))
    if k <= p or (size == 0).any():
        return None
    basis, triangle = np.linalg.qr(x / size)
    if np.abs(np.diag(triangle)).min() < _DEPENDENT:
        return None
    tau2 = between_trial_variance(y, v, method, basis)
    sums = _Sums(y, v, basis)
    w, inverse, beta, residual = sums.fit(tau2)
    back = np.linalg.inv(triangle) / size[:, None]
    q, typical = sums.q(0.0), (k - p) / sums.trace()
    h2 = q / (k - p) if method == "fe" else (tau2 + typical) / typical
    return MetaRegression(
        coefficients=back @ (beta + sums.start),
        covariance=back @ inverse @ back.T,
        q_ratio=float(w @ residual**2) / (k - p),
        df=k - p,
        tau2=tau2,
        i2_percent=100.0 * max(0.0, 1.0 - 1.0 / h2) if h2 > 0 else 0.0,
        h2=h2,
        q=q,
        q_p=float(special.chdtrc(k - p, q)),
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
    return q, len(estimates) - 1, float(special.chdtrc(len(estimates) - 1, q))


LEAST_TRIALS_EGGER = 10


def egger(y: np.ndarray, v: np.ndarray, level_percent: float = 95.0) -> tuple[float, Interval]:
    """The change of the effect per unit of its standard error, with its interval and test.

    The intercept of y / se on 1 / se by least squares, t with k - 2 df (Egger et al. 1997;
    metafor's ``regtest(model = "lm")``).
    """
    se = np.sqrt(v)
    design = np.column_stack([np.ones(len(y)), 1.0 / se])
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ (y / se)
    residual = y / se - design @ coefficients
    df = len(y) - 2
    error = float(np.sqrt(residual @ residual / df * inverse[0, 0]))
    estimate = float(coefficients[0])
    return estimate, t_interval(estimate, error, df, level_percent, "")


LEAST_TRIALS_INFLUENCE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """One trial: how far it is from the others, and how the fit changes without it.

    ``rstudent`` the studentised deleted residual; ``dffits`` and ``dfbetas`` the change of the
    pooled effect in standard errors; ``cook_d`` the same squared by the whole fit's; ``cov_ratio``
    the ratio of variances; ``hat`` the share of weight. ``influential`` by metafor's rules.
    """

    rstudent: float
    dffits: float
    cook_d: float
    cov_ratio: float
    tau2_deleted: float
    q_deleted: float
    hat: float
    dfbetas: float
    influential: bool


def influence(
    y: np.ndarray, v: np.ndarray, method: str, deleted: Sequence[RandomEffects] | None = None
) -> Sequence[Influence]:
    """The measures of each of ``k`` >= 3 trials, tau² estimated anew without it.

    ``deleted`` are the fits of `leave_one_out` where they are already there.
    """
    y, v = np.asarray(y, dtype=float), np.asarray(v, dtype=float)
    whole, k = pool_estimates(y, v, method), len(y)
    found = []
    for i, without in enumerate(deleted or leave_one_out(y, v, method)):
        change = whole.estimate - without.estimate
        hat = float(whole.weights[i])
        own = without.tau2 + float(v[i])
        dffits = change / (hat * own) ** 0.5
        # The variance that all trials together would have with the deleted fit's tau².
        dfbetas = change / float((1.0 / (v + without.tau2)).sum()) ** -0.5
        cook_d = (change / whole.se_wald) ** 2
        influential = (
            abs(dffits) > 3.0 * (1.0 / (k - 1)) ** 0.5
            or special.chdtr(1, cook_d) > 0.5
            or hat > 3.0 / k
            or abs(dfbetas) > 1.0
        )
        found.append(
            Influence(
                rstudent=(float(y[i]) - without.estimate) / (own + without.se_wald**2) ** 0.5,
                dffits=dffits,
                cook_d=cook_d,
                cov_ratio=(without.se_wald / whole.se_wald) ** 2,
                tau2_deleted=without.tau2,
                q_deleted=without.q,
                hat=hat,
                dfbetas=dfbetas,
                influential=bool(influential),
            )
        )
    return found
