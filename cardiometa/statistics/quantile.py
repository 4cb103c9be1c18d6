"""Linear quantile regression: an exact interior-point fit, alone or of many bootstrap samples.

Koenker R, Bassett G. Econometrica 1978;46:33-50. The fit is Frisch-Newton's (Portnoy S, Koenker R.
Stat Sci 1997;12:279-300, with Mehrotra's corrector), ended at a vertex of the linear programme. Of
many participants only those near the plane can change sides; the others enter as sums (same paper,
section 5). Bootstrap samples draw participants within their trial (Jiang et al. 2024); their planes
lie near that of all, so that one interior-point run solves a block of samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields

import numpy as np
from scipy import linalg, special

from ..errors import EstimationError

_MAX_STEPS = 100
_BACK_OFF = 0.99995
_MANY = 20_000  # participants from which the preprocessing pays
_MAX_REPAIRS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileFit:
    """``coefficients`` ``[p]`` and their check loss Σ rho(y - X·b)."""

    coefficients: np.ndarray
    loss: float
    steps: int


def check_loss(residual: np.ndarray, tau: float) -> float:
    """Σ r·(tau - [r < 0])."""
    return float(residual @ (tau - (residual < 0)))


def fit_quantile(X: np.ndarray, y: np.ndarray, tau: float) -> QuantileFit:
    """The ``tau`` quantile of ``y`` ``[n]`` as linear in ``X`` ``[n, p]`` of full column rank.

    Raises EstimationError where the columns are dependent or the fit does not end.
    """
    X, y = np.ascontiguousarray(X, dtype=float), np.asarray(y, dtype=float)
    n, p = X.shape
    if n <= p or np.linalg.matrix_rank(X.T @ X) < p:
        raise EstimationError(
            f"{n} participants cannot determine a quantile curve of {p} coefficients."
        )
    if n < _MANY:
        return _fit_all(X, y, tau)
    return _fit_many(X, y, tau)


def _fit_all(X: np.ndarray, y: np.ndarray, tau: float) -> QuantileFit:
    b, steps = _interior_point(X, y, (1 - tau) * X.sum(axis=0), 1 - tau)
    b = _at_vertex(X, y, tau, b)
    return QuantileFit(coefficients=b, loss=check_loss(y - X @ b, tau), steps=steps)


# ------------------------------------------------------------------ interior point


@dataclass(slots=True)
class _Iterate:
    """x and its slack s in (0, 1), their multipliers z and w, the coefficients b."""

    x: np.ndarray
    s: np.ndarray
    z: np.ndarray
    w: np.ndarray
    b: np.ndarray


def _interior_point(
    X: np.ndarray, y: np.ndarray, target: np.ndarray, share: float
) -> tuple[np.ndarray, int]:
    """The coefficients through the dual programme: max y'x with X'x = ``target``, 0 <= x <= 1.

    ``share`` is a guess of the mean of x. With all participants in it the target is (1 - tau)X'1;
    those known to lie above the plane are subtracted from it with x = 1, those below with x = 0.
    """
    n = len(y)
    centre, size = float(np.median(y)), float(np.abs(y - np.median(y)).mean()) or 1.0
    # A constant is in the span of X, or the values are not shifted.
    shift, *_ = np.linalg.lstsq(X.T @ X, X.sum(axis=0), rcond=None)
    if np.abs(X @ shift - 1).max() > 1e-8:
        centre = 0.0
    now = _first(X, (y - centre) / size, share)
    steps = 0
    while steps < _MAX_STEPS:
        steps += 1
        missing = target - X.T @ now.x
        gap = float(now.z @ now.x + now.w @ now.s)
        if gap < 1e-11 * n and np.abs(missing).max() < 1e-9 * n:
            break
        if not _step(X, now, missing):
            break
    return now.b * size + centre * shift, steps


def _first(X: np.ndarray, y: np.ndarray, share: float) -> _Iterate:
    b, *_ = np.linalg.lstsq(X.T @ X, X.T @ y, rcond=None)
    r = y - X @ b
    r = np.where(np.abs(r) < 1e-3, np.where(r < 0, -1e-3, 1e-3), r)
    # Dual feasible: z - w = -r, so that positive residuals push x to 1.
    z, w = np.maximum(-r, 0) + 1e-3, np.maximum(r, 0) + 1e-3
    x = np.full(len(y), min(max(share, 0.01), 0.99))
    return _Iterate(x=x, s=1 - x, z=z, w=w, b=b)


def _step(X: np.ndarray, now: _Iterate, missing: np.ndarray) -> bool:
    """One predictor-corrector step in place; False where the normal equations break down."""
    n = len(now.x)
    z_over_x, w_over_s = now.z / now.x, now.w / now.s
    q = 1 / (z_over_x + w_over_s)
    slack = now.z - now.w
    try:
        factor = linalg.cho_factor(X.T @ (X * q[:, None]), lower=True, check_finite=False)
    except linalg.LinAlgError:
        return False
    # With r = w - z the residuals at b: dx = q(r - X·db), X'dx = missing.
    db = linalg.cho_solve(factor, X.T @ (q * -slack) - missing, check_finite=False)
    dx = q * (-slack - X @ db)
    dz, dw = -now.z - z_over_x * dx, -now.w + w_over_s * dx
    primal, dual = _longest(now.x, dx, now.s, -dx), _longest(now.z, dz, now.w, dw)
    if min(primal, dual) < 1:
        mu = float(now.z @ now.x + now.w @ now.s)
        g = float(
            (now.z + dual * dz) @ (now.x + primal * dx)
            + (now.w + dual * dw) @ (now.s - primal * dx)
        )
        mu *= (g / mu) ** 3 / (2 * n)
        xi = (mu - dx * dz) / now.x - (mu + dx * dw) / now.s
        db = linalg.cho_solve(factor, X.T @ (q * (xi - slack)) - missing, check_finite=False)
        first = dx
        dx = q * (xi - slack - X @ db)
        dz, dw = (
            (mu - first * dz) / now.x - now.z - z_over_x * dx,
            (mu + first * dw) / now.s - now.w + w_over_s * dx,
        )
        primal, dual = _longest(now.x, dx, now.s, -dx), _longest(now.z, dz, now.w, dw)
    now.x += primal * dx
    now.s -= primal * dx
    now.z += dual * dz
    now.w += dual * dw
    now.b = now.b + dual * db
    return True


def _longest(a: np.ndarray, da: np.ndarray, b: np.ndarray, db: np.ndarray) -> float:
    """The step, at most 1, that keeps both positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        fastest = max(float(np.max(-da / a)), float(np.max(-db / b)))
    return 1.0 if fastest <= _BACK_OFF else _BACK_OFF / fastest


def _at_vertex(X: np.ndarray, y: np.ndarray, tau: float, b: np.ndarray) -> np.ndarray:
    """The fit through the p rows nearest to the plane, where that is better than ``b``."""
    p = X.shape[1]
    residual = y - X @ b
    near = np.argpartition(np.abs(residual), min(4 * p, len(y) - 1))[: 4 * p + 1]
    near = near[np.argsort(np.abs(residual[near]), kind="stable")]
    chosen = _first_independent(X[near], p)
    if chosen is None:
        return b
    rows = near[chosen]
    try:
        vertex = np.linalg.solve(X[rows], y[rows])
    except np.linalg.LinAlgError:
        return b
    better = check_loss(y - X @ vertex, tau) <= check_loss(residual, tau)
    return vertex if better else b


def _first_independent(rows: np.ndarray, p: int) -> np.ndarray | None:
    """The first p rows that are independent, in the order given."""
    basis: list[np.ndarray] = []
    chosen: list[int] = []
    for index, row in enumerate(rows):
        rest = row.astype(float)
        for _ in range(2):
            for direction in basis:
                rest = rest - (rest @ direction) * direction
        size = float(np.linalg.norm(rest))
        if size > 1e-7 * float(np.linalg.norm(row)):
            basis.append(rest / size)
            chosen.append(index)
        if len(chosen) == p:
            return np.array(chosen)
    return None


# ------------------------------------------------------------------ many participants


def _fit_many(X: np.ndarray, y: np.ndarray, tau: float) -> QuantileFit:
    """Portnoy & Koenker's preprocessing: exact, because every sign is checked at the end."""
    n, p = X.shape
    rng = np.random.default_rng(0)  # only which participants come first
    size = min(int(2 * ((p + 1) * n) ** (2 / 3)), n)
    while size < n:
        drawn = rng.choice(n, size, replace=False)
        first = _fit_all(X[drawn], y[drawn], tau)
        inverse = np.linalg.inv(linalg.cholesky(X[drawn].T @ X[drawn]))
        band = np.sqrt(np.einsum("ij,ij->i", X @ inverse, X @ inverse))
        residual = y - X @ first.coefficients
        ratio = residual / np.maximum(band, 1e-12)
        inside = 0.8 * size
        low, high = np.quantile(
            ratio, [max(1 / n, tau - inside / (2 * n)), min(tau + inside / (2 * n), 1 - 1 / n)]
        )
        found = _repaired(X, y, tau, (ratio < low, ratio > high))
        if found is not None:
            loss = check_loss(y - X @ found, tau)
            return QuantileFit(coefficients=found, loss=loss, steps=first.steps)
        size *= 2
    return _fit_all(X, y, tau)


def _repaired(
    X: np.ndarray, y: np.ndarray, tau: float, sides: tuple[np.ndarray, np.ndarray]
) -> np.ndarray | None:
    """The fit with those surely below and above added up; None where too many were misjudged."""
    below, above = sides[0].copy(), sides[1].copy()
    allowed = 0.1 * np.sum(~below & ~above)
    total = (1 - tau) * X.sum(axis=0)
    for _ in range(_MAX_REPAIRS):
        middle = ~below & ~above
        target = total - X[above].sum(axis=0)
        share = ((1 - tau) * len(y) - above.sum()) / middle.sum()
        b, _ = _interior_point(X[middle], y[middle], target, float(share))
        b = _at_vertex(X, y, tau, b)
        residual = y - X @ b
        wrong_below, wrong_above = below & (residual > 0), above & (residual < 0)
        wrong = int(wrong_below.sum() + wrong_above.sum())
        if wrong == 0:
            return b
        if wrong > allowed:
            return None
        below &= ~wrong_below
        above &= ~wrong_above
    return None


# ------------------------------------------------------------------ standard errors


def sandwich_covariance(X: np.ndarray, y: np.ndarray, tau: float) -> np.ndarray:
    """tau(1 - tau)·H⁻¹(X'X)H⁻¹ of the fit's coefficients, H = Σ f_i x_i x_i'.

    Hendricks W, Koenker R. JASA 1992;87:58-68. The densities come from the fits at tau ± h, h of
    Hall & Sheather (1988), halved until both lie inside (0, 1).
    """
    n = len(y)
    h = bandwidth(n, tau)
    while tau - h <= 0 or tau + h >= 1:
        h /= 2
    low, high = fit_quantile(X, y, tau - h), fit_quantile(X, y, tau + h)
    rise = X @ (high.coefficients - low.coefficients)
    tiny = np.finfo(float).eps ** (2 / 3)
    density = np.maximum(0.0, 2 * h / (rise - tiny))
    H = X.T @ (X * density[:, None])
    try:
        inverse = np.linalg.inv(H)
    except np.linalg.LinAlgError:
        raise EstimationError(
            "A quantile curve has no interval: no participant lies near it.",
            hint="Use another method, or fewer groups.",
        ) from None
    return np.asarray(tau * (1 - tau) * inverse @ (X.T @ X) @ inverse)


def bandwidth(n: int, tau: float, alpha: float = 0.05) -> float:
    """Hall & Sheather's bandwidth for the sparsity at ``tau``, as quantreg has it."""
    x = float(special.ndtri(tau))
    density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    z = float(special.ndtri(1 - alpha / 2))
    return float(n ** (-1 / 3) * z ** (2 / 3) * (1.5 * density**2 / (2 * x**2 + 1)) ** (1 / 3))


_BAND = 5.0  # standard errors of the plane on each side
_WIDER = 3.0  # by how much the band grows where a participant outside was misjudged
_TRIES = 4
_STEPS = 60
_BOOTSTRAP_BACK_OFF = 0.9995
_GAP = 1e-5  # of the mean absolute deviation: about 1 % of a standard error
_SINGULAR = 1e-9  # least eigenvalue of the columns' correlations
_BLOCK = 4_000_000  # numbers held at once


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileProblem:
    """``X`` ``[n, p]``, ``y`` ``[n]``, the quantile, its fit and the fit's covariance ``[p, p]``.

    ``covariance`` says only how wide a band to search.
    """

    X: np.ndarray
    y: np.ndarray
    tau: float
    fit: QuantileFit
    covariance: np.ndarray


def resampled_quantiles(
    problems: Sequence[QuantileProblem], group: np.ndarray, samples: int, seed: int
) -> tuple[np.ndarray, ...]:
    """Each problem's planes ``[samples, p]`` of samples, drawn within ``group`` ``[n]``.

    The problems are of the same participants, and a sample is the same for all of them. A row that
    its participants do not determine is NaN.
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
    """How often each participant is drawn, ``[samples, n]``."""
    n = len(group)
    counts = np.zeros((samples, n))
    for number in np.unique(group):
        members = np.flatnonzero(group == number)
        size = len(members)
        drawn = rng.integers(0, size, size=(samples, size))
        drawn += np.arange(samples)[:, None] * size
        counts[:, members] = np.bincount(drawn.ravel(), minlength=samples * size).reshape(
            samples, size
        )
    return counts


def _undetermined(X: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """True for samples that do not determine every coefficient, ``[samples]``."""
    p = X.shape[1]
    gram = (counts @ (X[:, :, None] * X[:, None, :]).reshape(len(X), -1)).reshape(-1, p, p)
    size = np.sqrt(np.diagonal(gram, axis1=1, axis2=2))
    unit = gram / np.maximum(size[:, :, None] * size[:, None, :], 1e-300)
    return np.asarray(np.linalg.eigvalsh(unit)[:, 0] < _SINGULAR)


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
    for sample in left:  # by the ordinary fit, rows repeated as often as they were drawn
        rows = np.repeat(np.arange(len(X)), counts[sample].astype(int))
        with suppress(EstimationError):
            found[sample] = fit_quantile(X[rows], y[rows], problem.tau).coefficients
    return found


@dataclass(slots=True)
class _Block(_Iterate):
    """The iterates of the samples still moving, arrays ``[samples, n]``."""

    weight: np.ndarray
    target: np.ndarray


def _solved(
    problem: QuantileProblem, counts: np.ndarray, below: np.ndarray, above: np.ndarray
) -> np.ndarray:
    """The planes ``[samples, p]`` with those surely below and above taken for granted.

    A participant drawn c times is the row c·(x, y), since the check loss is homogeneous; those not
    drawn are rows of zeros. The plane is sought in residuals of the fit of all, in units of their
    mean size.
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
    return _Block(**{field.name: getattr(now, field.name)[rows] for field in fields(now)})


@np.errstate(all="ignore")
def _advance(X: np.ndarray, products: np.ndarray, now: _Block, missing: np.ndarray) -> None:
    """One predictor-corrector step of every sample, in place.

    Where those taken for granted leave a sample no plane its numbers run away: it is lost as NaN.
    """
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
    primal, dual = (
        _longest_of_each(now.x, dx, now.s, -dx),
        _longest_of_each(now.z, dz, now.w, dw),
    )
    mu = np.einsum("ij,ij->i", now.z, now.x) + np.einsum("ij,ij->i", now.w, now.s)
    ahead = np.einsum("ij,ij->i", now.z + dual * dz, now.x + primal * dx)
    ahead += np.einsum("ij,ij->i", now.w + dual * dw, now.s - primal * dx)
    mu = (mu * (ahead / mu) ** 3 / (2 * X.shape[0]))[:, None]
    xi = (mu - dx * dz) / now.x - (mu + dx * dw) / now.s
    first = dx
    db, dx = solved(xi - slack)
    dz = (mu - first * dz) / now.x - now.z - z_over_x * dx
    dw = (mu + first * dw) / now.s - now.w + w_over_s * dx
    primal, dual = (
        _longest_of_each(now.x, dx, now.s, -dx),
        _longest_of_each(now.z, dz, now.w, dw),
    )
    now.x += primal * dx
    now.s -= primal * dx
    now.z += dual * dz
    now.w += dual * dw
    now.b += dual * db


def _longest_of_each(a: np.ndarray, da: np.ndarray, b: np.ndarray, db: np.ndarray) -> np.ndarray:
    """The step, at most 1, that keeps both positive, ``[samples, 1]``."""
    fastest = np.maximum((-da / a).max(axis=1), (-db / b).max(axis=1))
    return np.asarray(_BOOTSTRAP_BACK_OFF / np.maximum(fastest, _BOOTSTRAP_BACK_OFF))[:, None]
