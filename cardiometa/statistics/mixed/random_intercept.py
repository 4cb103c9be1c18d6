"""REML of a linear model with one random intercept: exact, over one scalar.

With lambda = tau²/sigma², c_k = lambda/(1 + lambda·W_k) and W_k, s_k, t_k the sums of weights,
weighted columns and weighted response of group k, the generalised least squares need only
A = X'WX - Σ c_k s_k s_k', b = X'Wy - Σ c_k s_k t_k, q = y'Wy - Σ c_k t_k²; the restricted
likelihood is then minimised over lambda (Bates D et al. J Stat Softw 2015;67(1), eq. 42).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from ...errors import EstimationError

_GRID = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomIntercept:
    """``coefficients`` ``[p]`` with ``covariance`` ``[p, p]``; variances between and within.

    ``effects`` ``[groups]`` are the predicted intercepts; ``tau2_df`` the degrees of freedom that
    tau² is estimated on (groups less what the fixed part takes), 0 without groups.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    sigma2: float
    tau2: float
    tau2_df: float
    effects: np.ndarray
    df: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    XX: np.ndarray
    Xy: np.ndarray
    yy: float
    weight: np.ndarray
    columns: np.ndarray
    response: np.ndarray
    n: int


def fit_random_intercept(
    X: np.ndarray,
    y: np.ndarray,
    group: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    random: bool = True,
) -> RandomIntercept:
    """Fit y = X·b + u_group + e, Var(e) = sigma²/weight, by REML.

    ``X`` ``[n, p]`` with its intercept, ``group`` ``[n]`` small integers. Without ``random`` there
    is no u. Raises EstimationError where X is not of full rank or nothing is left over.
    """
    n, p = X.shape
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    if n - p < 1:
        raise EstimationError(f"{n} people cannot determine {p} coefficients and a spread.")
    scale = np.sqrt(np.einsum("ij,ij,i->j", X, X, w) / w.sum())
    scale = np.where(scale > 0, scale, 1.0)
    centre = float(w @ y / w.sum())
    unit, rest, groups = X / scale, y - centre, int(group.max()) + 1
    sums = _Sums(
        XX=unit.T @ (unit * w[:, None]),
        Xy=unit.T @ (w * rest),
        yy=float(w @ (rest * rest)),
        weight=np.bincount(group, w, groups),
        columns=np.column_stack([np.bincount(group, c * w, groups) for c in unit.T]),
        response=np.bincount(group, w * rest, groups),
        n=n,
    )
    if np.linalg.matrix_rank(sums.XX / np.sqrt(np.outer(*[np.diag(sums.XX)] * 2))) < p:
        raise EstimationError("The columns of the model are not independent.")
    ratio = _best_ratio(sums, p) if random and len(np.unique(group)) > 1 else 0.0
    A, b, q = _system(sums, ratio)
    beta = np.linalg.solve(A, b)
    sigma2 = max(q - float(b @ beta), 0.0) / (n - p)
    # The centre goes back into the intercept: the columns that make a constant.
    shift, *_ = np.linalg.lstsq(sums.XX, (X / scale).T @ w, rcond=1e-12)
    covariance = sigma2 * np.linalg.inv(A) / np.outer(scale, scale)
    c = ratio / (1 + ratio * sums.weight)
    effects = c * (sums.response - sums.columns @ beta)
    tau2_df = 0.0
    if ratio > 0:  # groups less the trace of the effects' posterior covariance over tau²
        met = sums.weight > 0
        H = sums.columns[met] * c[met, None]
        extra = np.einsum("ij,ij->i", H @ np.linalg.inv(A), H) / ratio
        shrink = 1 / (1 + ratio * sums.weight[met])
        tau2_df = max(float(met.sum() - np.sum(shrink + extra)), 0.0)
    return RandomIntercept(
        coefficients=(beta + centre * shift) / scale,
        covariance=covariance,
        sigma2=sigma2,
        tau2=ratio * sigma2,
        tau2_df=tau2_df,
        effects=effects,
        df=n - p,
    )


def _system(sums: _Sums, ratio: float) -> tuple[np.ndarray, np.ndarray, float]:
    c = ratio / (1 + ratio * sums.weight)
    A = sums.XX - (sums.columns * c[:, None]).T @ sums.columns
    b = sums.Xy - sums.columns.T @ (c * sums.response)
    return A, b, sums.yy - float(c @ sums.response**2)


def _criterion(sums: _Sums, ratio: float, p: int) -> float:
    """-2 restricted log likelihood, constants left out."""
    A, b, q = _system(sums, ratio)
    rest = q - float(b @ np.linalg.solve(A, b))
    if rest <= 0:
        return -math.inf
    determinant = float(np.linalg.slogdet(A)[1])
    return (sums.n - p) * math.log(rest) + float(np.log1p(ratio * sums.weight).sum()) + determinant


def _best_ratio(sums: _Sums, p: int) -> float:
    """The lambda of the least criterion; a grid first, because there may be two valleys."""
    typical = 1 / float(np.mean(sums.weight[sums.weight > 0]))
    grid = typical * np.logspace(-6, 6, _GRID)
    values = [_criterion(sums, r, p) for r in grid]
    best = int(np.argmin(values))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    found = optimize.minimize_scalar(
        lambda t: _criterion(sums, math.exp(t), p),
        bounds=(math.log(low), math.log(high)),
        method="bounded",
        options={"xatol": 1e-11},
    )

    def slope(t: float) -> float:
        ratio = math.exp(t)
        A, b, q = _system(sums, ratio)
        beta = np.linalg.solve(A, b)
        rest = q - float(b @ beta)
        # dc/dlambda = 1/(1 + lambda W)²
        d = 1 / (1 + ratio * sums.weight) ** 2
        residual = sums.response - sums.columns @ beta
        drest = -float(d @ residual**2)
        dA = -(sums.columns * d[:, None]).T @ sums.columns
        trace = float(np.trace(np.linalg.solve(A, dA)))
        grown = float(np.sum(sums.weight / (1 + ratio * sums.weight)))
        return ratio * ((sums.n - p) * drest / rest + grown + trace)

    # The valley's floor is flat: the root of the slope near it is better known.
    log_ratio, low, high = float(found.x), float(found.x) - 1e-3, float(found.x) + 1e-3
    if slope(low) * slope(high) < 0:
        log_ratio = float(optimize.brentq(slope, low, high, xtol=1e-14, rtol=1e-15))
    ratio = math.exp(log_ratio)
    return ratio if _criterion(sums, ratio, p) < _criterion(sums, 0.0, p) - 1e-10 else 0.0
