"""Quantile regression of many bootstrap samples at once.

People are drawn with replacement within their trial, every trial keeping its size (Jiang et al.
2024, whose simulations keep trials fixed and resample participants). A sample's plane lies near
that of all, so that only people near it can change sides; the others enter as sums (Portnoy S,
Koenker R. Stat Sci 1997;12:279-300, section 5). What is left is small, and one interior point run
solves a whole block of samples, whose normal equations are one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import EstimationError
from .quantile import QuantileFit, fit_quantile

_BAND = 5.0  # standard errors of the plane on each side
_WIDER = 3.0  # by how much the band grows where somebody outside was misjudged
_TRIES = 4
_STEPS = 60
_BACK_OFF = 0.9995
_GAP = 1e-5  # of the mean absolute deviation: about 1 % of a standard error
_SINGULAR = 1e-9  # least eigenvalue of the columns' correlations
_BLOCK = 4_000_000  # numbers held at once


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileProblem:
    """``X`` ``[n, p]``, ``y`` ``[n]``, the quantile, its fit and the fit's covariance ``[p, p]``.

    ``covariance`` says only how wide a band of people to look at.
    """

    X: np.ndarray
    y: np.ndarray
    tau: float
    fit: QuantileFit
    covariance: np.ndarray


def resampled_quantiles(
    problems: Sequence[QuantileProblem], group: np.ndarray, samples: int, seed: int
) -> tuple[np.ndarray, ...]:
    """Each problem's planes ``[samples, p]`` of samples of people, drawn within ``group`` ``[n]``.

    The problems are of the same people, and a sample is the same for all of them. A row that its
    people do not determine is NaN.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, min(samples, _BLOCK // len(group)))
    found: list[list[np.ndarray]] = [[] for _ in problems]
    for start in range(0, samples, at_once):
        counts = _drawn(rng, group, min(at_once, samples - start))
        lost = _undetermined(problems[0].X, counts)
        for number, problem in enumerate(problems):
            planes = _planes(problem, counts)
            planes[lost] = np.nan
            found[number].append(planes)
    return tuple(np.concatenate(parts) for parts in found)


def _drawn(rng: np.random.Generator, group: np.ndarray, samples: int) -> np.ndarray:
    """How often each person is drawn, ``[samples, n]``."""
    n = len(group)
    counts = np.zeros((samples, n))
    for members in _members(group):
        size = len(members)
        drawn = rng.integers(0, size, size=(samples, size))
        drawn += np.arange(samples)[:, None] * size
        counts[:, members] = np.bincount(drawn.ravel(), minlength=samples * size).reshape(
            samples, size
        )
    return counts


def _undetermined(X: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """True for samples whose people do not determine every coefficient, ``[samples]``."""
    p = X.shape[1]
    gram = (counts @ (X[:, :, None] * X[:, None, :]).reshape(len(X), -1)).reshape(-1, p, p)
    size = np.sqrt(np.diagonal(gram, axis1=1, axis2=2))
    unit = gram / np.maximum(size[:, :, None] * size[:, None, :], 1e-300)
    return np.asarray(np.linalg.eigvalsh(unit)[:, 0] < _SINGULAR)


def _members(group: np.ndarray) -> Iterator[np.ndarray]:
    for number in np.unique(group):
        yield np.flatnonzero(group == number)


def _planes(problem: QuantileProblem, counts: np.ndarray) -> np.ndarray:
    """The planes of one block of samples, the band widened for those whom it misled."""
    X, y = problem.X, problem.y
    error = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", X, problem.covariance, X), 0.0))
    residual = y - X @ problem.fit.coefficients
    found = np.full((len(counts), X.shape[1]), np.nan)
    left = np.arange(len(counts))
    reach = _BAND
    for _ in range(_TRIES):
        below, above = residual < -reach * error, residual > reach * error
        planes = _solved(problem, counts[left], below, above)
        over = planes @ X.T  # [samples, n]
        drawn = counts[left] > 0
        wrong = (drawn[:, below] & (y[below] > over[:, below])).any(axis=1)
        wrong |= (drawn[:, above] & (y[above] < over[:, above])).any(axis=1)
        bad = wrong | ~np.isfinite(planes).all(axis=1)
        found[left[~bad]] = planes[~bad]
        left = left[bad]
        if not len(left):
            break
        reach *= _WIDER
    for sample in left:
        found[sample] = _alone(problem, counts[sample])
    return found


def _alone(problem: QuantileProblem, counts: np.ndarray) -> np.ndarray:
    """One sample by the ordinary fit, people repeated as often as they were drawn."""
    rows = np.repeat(np.arange(len(counts)), counts.astype(int))
    try:
        return fit_quantile(problem.X[rows], problem.y[rows], problem.tau).coefficients
    except EstimationError:
        return np.full(problem.X.shape[1], np.nan)


@dataclass(slots=True)
class _Block:
    """The iterates of the samples still moving, arrays ``[samples, people]``; see `quantile`."""

    x: np.ndarray
    s: np.ndarray
    z: np.ndarray
    w: np.ndarray
    b: np.ndarray
    weight: np.ndarray
    target: np.ndarray


def _solved(
    problem: QuantileProblem, counts: np.ndarray, below: np.ndarray, above: np.ndarray
) -> np.ndarray:
    """The planes ``[samples, p]`` with people surely below and above taken for granted.

    A person drawn c times is the row c·(x, y), since the check loss is homogeneous; people not
    drawn are rows of zeros. Working on residuals of the fit of all, in units of their mean size,
    the plane sought is a small one.
    """
    middle = ~below & ~above
    X = problem.X[middle]
    residual = problem.y - problem.X @ problem.fit.coefficients
    unit = float(np.abs(residual).mean()) or 1.0
    target = (1 - problem.tau) * (counts @ problem.X) - counts[:, above] @ problem.X[above]
    weight = counts[:, middle]
    size = np.maximum(weight.sum(axis=1), 1.0)
    share = ((1 - problem.tau) * counts.sum(axis=1) - counts[:, above].sum(axis=1)) / size
    r = weight * (residual[middle] / unit)
    level = np.clip(share, 0.01, 0.99)[:, None]
    x = np.broadcast_to(level, r.shape).copy()
    start = 0.1 * float(np.abs(r).mean()) + 1e-6
    now = _Block(
        x=x,
        s=1 - x,
        z=np.maximum(-r, 0) + start,
        w=np.maximum(r, 0) + start,
        b=np.zeros((len(r), X.shape[1])),
        weight=weight,
        target=target,
    )
    products = (X[:, :, None] * X[:, None, :]).reshape(len(X), -1)
    found = np.full(now.b.shape, np.nan)
    moving = np.arange(len(r))
    for _ in range(_STEPS):
        lost = ~np.isfinite(now.b).all(axis=1)
        if lost.any():
            moving, now = moving[~lost], _kept(now, ~lost)
        missing = now.target - (now.x * now.weight) @ X
        gap = np.einsum("ij,ij->i", now.z, now.x) + np.einsum("ij,ij->i", now.w, now.s)
        done = (gap < _GAP) & (np.abs(missing).max(axis=1) < 1e-6 * size[moving])
        if done.any():
            found[moving[done]] = now.b[done]
            moving, missing = moving[~done], missing[~done]
            now = _kept(now, ~done)
        if not len(moving):
            break
        _advance(X, products, now, missing)
    return np.asarray(problem.fit.coefficients + unit * found)


def _kept(now: _Block, rows: np.ndarray) -> _Block:
    return _Block(
        x=now.x[rows],
        s=now.s[rows],
        z=now.z[rows],
        w=now.w[rows],
        b=now.b[rows],
        weight=now.weight[rows],
        target=now.target[rows],
    )


def _advance(X: np.ndarray, products: np.ndarray, now: _Block, missing: np.ndarray) -> None:
    """One predictor-corrector step of every sample, in place.

    Where those taken for granted leave a sample no plane its numbers run away: it is lost as NaN.
    """
    with np.errstate(all="ignore"):
        _advance_all(X, products, now, missing)


def _advance_all(X: np.ndarray, products: np.ndarray, now: _Block, missing: np.ndarray) -> None:
    p = X.shape[1]
    z_over_x, w_over_s = now.z / now.x, now.w / now.s
    q = 1 / (z_over_x + w_over_s)
    slack = now.z - now.w
    scaled = q * now.weight
    normal = ((scaled * now.weight) @ products).reshape(-1, p, p)
    normal += 1e-12 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(p) / p
    normal += 1e-300 * np.eye(p)
    run_away = ~np.isfinite(normal).all(axis=(1, 2))
    normal[run_away] = np.eye(p)
    now.b[run_away] = np.nan

    def solved(pull: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The steps db and dx of the right-hand side q·pull."""
        right = (scaled * pull) @ X - missing
        db = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
        return db, q * (pull - now.weight * (db @ X.T))

    db, dx = solved(-slack)
    dz, dw = -now.z - z_over_x * dx, -now.w + w_over_s * dx
    primal, dual = _longest(now.x, dx, now.s, -dx), _longest(now.z, dz, now.w, dw)
    mu = np.einsum("ij,ij->i", now.z, now.x) + np.einsum("ij,ij->i", now.w, now.s)
    ahead = np.einsum("ij,ij->i", now.z + dual * dz, now.x + primal * dx)
    ahead += np.einsum("ij,ij->i", now.w + dual * dw, now.s - primal * dx)
    mu = (mu * (ahead / mu) ** 3 / (2 * X.shape[0]))[:, None]
    xi = (mu - dx * dz) / now.x - (mu + dx * dw) / now.s
    first = dx
    db, dx = solved(xi - slack)
    dz = (mu - first * dz) / now.x - now.z - z_over_x * dx
    dw = (mu + first * dw) / now.s - now.w + w_over_s * dx
    primal, dual = _longest(now.x, dx, now.s, -dx), _longest(now.z, dz, now.w, dw)
    now.x += primal * dx
    now.s -= primal * dx
    now.z += dual * dz
    now.w += dual * dw
    now.b += dual * db


def _longest(a: np.ndarray, da: np.ndarray, b: np.ndarray, db: np.ndarray) -> np.ndarray:
    """The step, at most 1, that keeps both positive, ``[samples, 1]``."""
    fastest = np.maximum((-da / a).max(axis=1), (-db / b).max(axis=1))
    return np.asarray(_BACK_OFF / np.maximum(fastest, _BACK_OFF))[:, None]
