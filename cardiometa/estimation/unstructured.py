"""Several estimates a trial with an unstructured between-trial covariance, by REML or ML.

For the coefficients of a curve, whose scales have nothing in common (Jackson, Riley & White 2011,
Stat Med 30:2481). The covariance is a Cholesky product, so it cannot leave its bounds; the gradient
is exact; several starts are tried and the highest likelihood wins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import minimize

_STARTS = (1e-3, 0.1, 1.0, 4.0)
_LEAST_MORE = 3  # trials beyond the coefficients, below which no covariance can be learnt


@dataclass(frozen=True, slots=True, kw_only=True)
class UnstructuredFit:
    """Pooled ``coefficients`` ``[p]`` of ``k`` trials and their ``between`` covariance ``[p, p]``.

    ``covariance`` is the model's; ``q_ratio`` the residual sum of squares over ``df`` = (k - 1) p,
    which scales it as Hartung and Knapp do (Jackson & Riley 2014, doi:10.1002/sim.5957). ``common``
    where there were too few trials for a covariance: it is 0 then.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    between: np.ndarray
    q_ratio: float
    df: int
    k: int
    common: bool

    def scaled(self, ci: str) -> np.ndarray:
        """The covariance by ``wald``, ``hksj`` or ``hksj-truncated`` (ratio never below 1)."""
        ratio = {"wald": 1.0, "hksj": self.q_ratio, "hksj-truncated": max(1.0, self.q_ratio)}[ci]
        return self.covariance * ratio

    def test(self, places: list[int], ci: str) -> tuple[float, int, float, float]:
        """Whether all ``places`` are 0: statistic, its df, the second df, p; chi² for ``wald``."""
        m = len(places)
        b = self.coefficients[places]
        square = float(b @ np.linalg.solve(self.scaled(ci)[np.ix_(places, places)], b))
        if ci == "wald":
            return square, m, float("inf"), float(stats.chi2.sf(square, m))
        return square / m, m, float(self.df), float(stats.f.sf(square / m, m, self.df))


def fit_unstructured(y: np.ndarray, within: np.ndarray, method: str = "reml") -> UnstructuredFit:
    """Pool ``y`` ``[k, p]`` with ``within`` covariances ``[k, p, p]``; k >= 2.

    ``method`` ``reml``, ``ml`` or ``fe``; with fewer than p + 3 trials as ``fe``.
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
