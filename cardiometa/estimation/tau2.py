"""Between-trial variance: nine estimators, each with a solver that cannot fail.

Notation of ``pooling.md`` 2.1: y estimates, v their variances, w = 1/(v + tau2), W1, W2 sums of w
and w², u = 1/v. Iterative estimators are roots of a monotone function or of a score between
brackets; none steps without a bracket.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

METHODS = ("reml", "ml", "dl", "pm", "eb", "he", "hs", "sj", "fe")
# The grid of tau²: its step and its start (a share of the least variance), and how many weights
# are held at once.
_STEP = 0.2
_NOTHING = 1e-3
_CELLS = 200_000


def generalised_q(y: np.ndarray, v: np.ndarray, tau2: float) -> float:
    """``Q(tau2) = sum w (y - mu)^2``, falling in tau2 from Cochran's Q towards 0."""
    w = 1.0 / (v + tau2)
    mu = (w @ y) / w.sum()
    return float(w @ (y - mu) ** 2)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    # The relative tolerance is the smallest that brentq takes.
    return float(
        brentq(function, low, high, xtol=1e-300, rtol=4 * np.finfo(float).eps, maxiter=1000)
    )


def solve_q(y: np.ndarray, v: np.ndarray, target: float) -> float | None:
    """The tau2 >= 0 with ``Q(tau2) = target``; None where Q(0) is already below the target."""
    if generalised_q(y, v, 0.0) < target:
        return None
    high = float(v.max()) + float(np.var(y))
    while generalised_q(y, v, high) > target:
        high *= 4.0
    return _root(lambda t: generalised_q(y, v, t) - target, 0.0, high)


class _Likelihood:
    """The (restricted) log-likelihood of tau² and its score, at many values at once.

    Estimates are centred at their common-effect mean, so that sums of ``w² y²`` lose no digits:
    where the pooled mean has moved away from it, the estimates that moved it dominate the sums.
    """

    def __init__(self, y: np.ndarray, v: np.ndarray, *, restricted: bool) -> None:
        u = 1.0 / v
        self.v, self.restricted = v, restricted
        self.y = y - (u @ y) / u.sum()
        self.powers = np.stack([np.ones_like(y), self.y, self.y**2], axis=1)

    def score(self, tau2: np.ndarray) -> np.ndarray:
        """The derivative at each ``tau2`` ``[g]``."""
        w = 1.0 / (self.v[None, :] + tau2[:, None])
        w1, wy = (w @ self.powers[:, :2]).T
        np.multiply(w, w, out=w)
        w2, w2y, w2yy = (w @ self.powers).T
        mu = wy / w1
        trace = w1 - w2 / w1 if self.restricted else w1
        value: np.ndarray = -0.5 * (trace - (w2yy - 2.0 * mu * w2y + mu**2 * w2))
        return value

    def value(self, tau2: float) -> float:
        """The log-likelihood, constants left out."""
        w = 1.0 / (self.v + tau2)
        w1 = w.sum()
        residual = self.y - (w @ self.y) / w1
        value = np.log(w).sum() - w @ residual**2 - (np.log(w1) if self.restricted else 0.0)
        return 0.5 * float(value)


def _maximum_likelihood(y: np.ndarray, v: np.ndarray, *, restricted: bool) -> float:
    """The global maximum of the (restricted) likelihood over tau2 >= 0.

    Several maxima exist in some data, so a grid over the whole range brackets each change of the
    score from plus to minus; Brent finds every one and the highest wins. In log tau² the weights
    are logistic curves some four units wide, so that steps of a fifth miss no maximum; below a
    hundredth of the least variance they no longer change.
    """
    likelihood = _Likelihood(y, v, restricted=restricted)

    def score(t: float) -> float:
        return float(likelihood.score(np.array([t]))[0])

    # Above both, w lies within 1/(2 tau²) and 1/tau², and the score's bound by them is negative.
    high = max(float(v.max()), 4.0 * float(np.var(y, ddof=1)))
    low = min(float(v.min()), high) * _NOTHING
    count = 2 + math.ceil(math.log(high / low) / _STEP)
    grid = np.concatenate([[0.0], np.geomspace(low, high, count)])
    scores = np.concatenate(
        [likelihood.score(part) for part in np.array_split(grid, 1 + len(grid) * len(y) // _CELLS)]
    )
    maxima = [0.0] if scores[0] <= 0 else []
    for a, b, left, right in zip(grid, grid[1:], scores, scores[1:], strict=False):
        if left > 0 >= right:
            maxima.append(_root(score, float(a), float(b)))
    if len(maxima) == 1:
        return maxima[0]
    return max(maxima, key=likelihood.value)


def products_of_pairs(u: np.ndarray) -> float:
    """``(sum u)² - sum u²`` without the difference: one huge weight would leave nothing of it."""
    later = np.cumsum(u[::-1])[::-1]
    return 2.0 * float(u[:-1] @ later[1:])


def _dersimonian_laird(y: np.ndarray, v: np.ndarray) -> float:
    u = 1.0 / v
    q = generalised_q(y, v, 0.0)
    return (q - (len(y) - 1)) * float(u.sum()) / products_of_pairs(u)


def _sidik_jonkman(y: np.ndarray, v: np.ndarray) -> float:
    start = float(np.mean((y - y.mean()) ** 2))
    if start == 0:
        return 0.0
    return start * generalised_q(y, v, start) / (len(y) - 1)


def between_trial_variance(y: np.ndarray, v: np.ndarray, method: str) -> float:
    """tau² >= 0 of estimates ``y`` ``[k]`` with variances ``v`` ``[k]`` by one of `METHODS`.

    One trial carries no information about it: 0. ``eb`` and ``pm`` are one root (Morris 1983,
    Paule & Mandel 1982). Sources: DerSimonian & Laird 1986; Hedges 1983; Hunter & Schmidt (hs);
    Sidik & Jonkman 2005; Viechtbauer 2005 (ml, reml).
    """
    y, v = np.asarray(y, dtype=float), np.asarray(v, dtype=float)
    if not (len(y) and np.isfinite(y).all() and np.isfinite(v).all() and (v > 0).all()):
        raise ValueError("estimates must be finite and variances positive")
    k = len(y)
    if k == 1 or method == "fe":
        return 0.0
    match method:
        case "reml":
            value = _maximum_likelihood(y, v, restricted=True)
        case "ml":
            value = _maximum_likelihood(y, v, restricted=False)
        case "dl":
            value = _dersimonian_laird(y, v)
        case "pm" | "eb":
            value = solve_q(y, v, k - 1) or 0.0
        case "he":
            value = float(np.var(y, ddof=1) - v.mean())
        case "hs":
            value = (generalised_q(y, v, 0.0) - k) / float((1.0 / v).sum())
        case "sj":
            value = _sidik_jonkman(y, v)
        case _:
            raise ValueError(f"unknown estimator {method!r}: one of {', '.join(METHODS)}")
    return max(0.0, float(value))


def likelihood_se(v: np.ndarray, tau2: float, method: str) -> float | None:
    """Standard error of a REML or ML tau² from the expected information; None for the others."""
    w = 1.0 / (np.asarray(v, dtype=float) + tau2)
    w1, w2, w3 = float(w.sum()), float((w**2).sum()), float((w**3).sum())
    if method == "ml":
        information = 0.5 * w2
    elif method == "reml":
        information = 0.5 * (w2 - 2 * w3 / w1 + (w2 / w1) ** 2)
    else:
        return None
    return information**-0.5 if information > 0 else None
