"""Linear quantile regression: an exact interior-point fit, and what makes it fast for many people.

Koenker R, Bassett G. Econometrica 1978;46:33-50. The fit is Frisch-Newton's (Portnoy S, Koenker R.
Stat Sci 1997;12:279-300, with Mehrotra's corrector), ended at a vertex of the linear programme; for
many people it works on the few near the plane, the rest being added up (same paper, section 5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg, special

from ..errors import EstimationError

_MAX_STEPS = 100
_BACK_OFF = 0.99995
_MANY = 20_000  # people from which the preprocessing pays
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
        raise EstimationError(f"{n} people cannot determine a quantile curve of {p} coefficients.")
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

    ``share`` is a guess of the mean of x. With everybody in it the target is (1 - tau)X'1; people
    known to lie above the plane are taken off it with x = 1, those below with x = 0.
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
    """The fit through p people nearest to the plane, where that is better than ``b``."""
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


# ------------------------------------------------------------------ many people


def _fit_many(X: np.ndarray, y: np.ndarray, tau: float) -> QuantileFit:
    """Portnoy & Koenker's preprocessing: exact, because every sign is checked at the end."""
    n, p = X.shape
    rng = np.random.default_rng(0)  # only which people are looked at first
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
    """The fit with people surely below and above added up; None where too many were misjudged."""
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
            "A quantile curve has no interval: nobody lies near it.",
            hint="Use another method, or fewer groups.",
        ) from None
    return np.asarray(tau * (1 - tau) * inverse @ (X.T @ X) @ inverse)


def bandwidth(n: int, tau: float, alpha: float = 0.05) -> float:
    """Hall & Sheather's bandwidth for the sparsity at ``tau``, as quantreg has it."""
    x = float(special.ndtri(tau))
    density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    z = float(special.ndtri(1 - alpha / 2))
    return float(n ** (-1 / 3) * z ** (2 / 3) * (1.5 * density**2 / (2 * x**2 + 1)) ** (1 / 3))
