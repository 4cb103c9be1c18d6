"""One-stage Gaussian models: all trials in one likelihood, fitted from their sums.

``y_i = A_i a_i + X_i b + Z_i u_i + e_i`` with u_i ~ N(0, D), D a sum of ``theta * basis`` (or any
covariance of two random effects), and residual variances common, by trial, or by trial and arm
(``pooling.md`` 7.1, 7.2). The criterion is
-2 log of the (restricted) likelihood of the rows, constants included, so that it equals lme4's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from .blocks import Stack, TrialBlock, stack
from .information import Information, Layout

_MOST_STEPS = 200
_SCAN = 40
# Of two random effects with a covariance: variances of both, then the covariance.
CORRELATED = np.array(
    [[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]
)
_FAR = 0.1  # standard errors from where Newton's steps are good
_NO_VARIANCE = 1e-9  # of the sampling variance of one trial's effect: zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What was looked at after the fit.

    ``gradient`` is the Newton decrement sqrt(g' H^-1 g) of what is free, in standard errors;
    ``scan_gain`` by how much a better optimum than the first was found by the profile scan and the
    restarts (0: none); ``starts`` how many were tried.
    """

    gradient: float
    scan_gain: float
    starts: int
    steps: int
    converged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OneStageFit:
    """A fitted model: ``beta`` ``[p]``, ``theta`` of D, residual ``variances``.

    ``criterion`` is -2 log-likelihood; ``covariance`` ``[p, p]`` = (X'V^-1X)^-1; ``at_zero`` marks
    the thetas on their boundary, ``estimated`` ``[d + g]`` the parameters that were not held.
    ``tangent`` has the directions in which D can move.
    """

    beta: np.ndarray
    covariance: np.ndarray
    theta: np.ndarray
    variances: np.ndarray
    criterion: float
    restricted: bool
    at_zero: np.ndarray
    estimated: np.ndarray
    tangent: Tangent
    checks: Checks
    pieces: Pieces
    data: Stack
    basis: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Tangent:
    """Derivatives of the thetas in what is free to move (D's root where D is any covariance).

    ``slopes`` ``[d, d]``; ``bend`` ``[d, d]`` second derivatives weighted by the score; ``inner``
    ``[d]`` what does not stand on its boundary.
    """

    slopes: np.ndarray
    bend: np.ndarray
    inner: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Everything of the likelihood at one value of the parameters.

    Local parameters of a trial are the thetas, then its residual groups. ``score`` ``[R]`` is of
    log-likelihood; ``expected`` and ``observed`` its information; ``p_r`` ``[R, p, p]`` and
    ``q_rs`` ``[k, L, L, p, p]`` (same trial only) the terms of ``pooling.md`` 7.3.
    """

    criterion: float
    beta: np.ndarray
    covariance: np.ndarray
    score: np.ndarray
    expected: Information
    observed: Information
    p_r: np.ndarray
    q_rs: np.ndarray


def fit_one_stage(
    blocks: Sequence[TrialBlock],
    basis: np.ndarray,
    *,
    residual: str = "by-trial",
    restricted: bool = True,
    common_effect: bool = False,
    held: np.ndarray | None = None,
) -> OneStageFit:
    """Fit by REML (``restricted``) or ML; ``basis`` ``[d, q, q]`` spans D.

    With the basis `CORRELATED` D is any covariance of two random effects, found through its root.
    ``common_effect`` keeps D at zero; ``held`` are residual variances taken as known. Every trial
    needs residual degrees of freedom of its own.
    Raises ArithmeticError where the fixed effects cannot be told apart.
    """
    data = stack(blocks, residual=residual, restricted=restricted)
    model = _Model(data=data, basis=basis, restricted=restricted)
    start = _start(model)
    free = np.ones(len(start), dtype=bool)
    if common_effect:
        free[: len(basis)] = False
        start[: len(basis)] = 0.0
    if held is not None:
        free[len(basis) :] = False
        start[len(basis) :] = held
    best = _climb(model, start, free)
    first = best.pieces.criterion
    starts = 1
    if not common_effect:
        for other in _other_starts(model, best, free):
            starts += 1
            again = _climb(model, other, free)
            if again.pieces.criterion < best.pieces.criterion - 1e-8:
                best = again
    d = len(basis)
    gain = max(0.0, first - best.pieces.criterion)
    best = _at_boundary(model, best)
    return OneStageFit(
        beta=best.pieces.beta,
        covariance=best.pieces.covariance,
        theta=best.parameters[:d],
        variances=best.parameters[d:],
        criterion=best.pieces.criterion,
        restricted=restricted,
        at_zero=_zero(model, best.parameters[:d]),
        tangent=model.tangent(best.parameters, best.pieces.score),
        estimated=free,
        checks=Checks(
            gradient=best.decrement,
            scan_gain=gain,
            starts=starts,
            steps=best.steps,
            converged=best.decrement < 1e-6,
        ),
        pieces=best.pieces,
        data=data,
        basis=basis,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    data: Stack
    basis: np.ndarray
    restricted: bool

    def spread_of_theta(self, z: np.ndarray) -> np.ndarray:
        """``Z E Z'`` of each theta, ``[k, d, m, m]``."""
        moved = np.einsum("kmq,dqr->kdmr", z, self.basis)
        spread: np.ndarray = moved @ z.transpose(0, 2, 1)[:, None]
        return spread

    @property
    def correlated(self) -> bool:
        """True where D is found through its root: ``D = L L'``, L = [[a, 0], [b, c]]."""
        return np.array_equal(self.basis, CORRELATED)

    def natural(self, unknown: np.ndarray) -> np.ndarray:
        """Thetas and variances from what the climb moves."""
        values = unknown.copy()
        if self.correlated:
            a, b, c = unknown[:3]
            values[:3] = a * a, b * b + c * c, a * b
        return values

    def unknown(self, values: np.ndarray) -> np.ndarray:
        """What the climb moves, the root of D."""
        found = values.copy()
        if self.correlated:
            a = max(values[0], 0.0) ** 0.5
            b = values[2] / a if a > 0 else 0.0
            found[:3] = a, b, max(values[1] - b * b, 0.0) ** 0.5
        return found

    def tangent(self, values: np.ndarray, score: np.ndarray) -> Tangent:
        """Where D can move from ``values``."""
        unknown = self.unknown(values)
        slopes, bend = self.slopes(unknown, score)
        return Tangent(slopes=slopes, bend=bend, inner=unknown[: len(self.basis)] != 0)

    def slopes(self, unknown: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of the thetas in the unknowns, and second ones weighted by ``score``."""
        d = len(self.basis)
        if not self.correlated:
            return np.eye(d), np.zeros((d, d))
        a, b, c = unknown[:3]
        first = np.array([[2 * a, 0.0, 0.0], [0.0, 2 * b, 2 * c], [b, a, 0.0]])
        second = np.diag([2 * score[0], 2 * score[1], 2 * score[1]])
        second[0, 1] = second[1, 0] = score[2]
        return first, second


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reached:
    parameters: np.ndarray
    pieces: Pieces
    decrement: float
    steps: int


def _covariance_of(
    data: Stack, parameters: np.ndarray, by_theta: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    d = by_theta.shape[1]
    own = parameters[d:][data.index]
    v: np.ndarray = np.einsum("d,kdmn->kmn", parameters[:d], by_theta)
    v += np.einsum("kg,kgmn->kmn", own, spread)
    return v


def _gls(model: _Model, parameters: np.ndarray) -> dict[str, Any]:
    """Criterion, estimates and the inverse covariances at ``parameters``."""
    data = model.data
    d = len(model.basis)
    by_theta = model.spread_of_theta(data.z)
    v = _covariance_of(data, parameters, by_theta, data.spread)
    sign, log_det = np.linalg.slogdet(v)
    if not (sign > 0).all():
        raise FloatingPointError("a covariance is not positive definite")
    vi = np.linalg.inv(v)
    vix = vi @ data.x
    viy = np.einsum("kmn,kn->km", vi, data.y)
    information = np.einsum("kmp,kmr->pr", data.x, vix)
    covariance = np.linalg.inv(information)
    beta = covariance @ np.einsum("kmp,km->p", vix, data.y)
    residual = data.y - data.x @ beta
    weighted = viy - vix @ beta
    own = np.log(parameters[d:][data.index])
    criterion = data.constant + float((residual * weighted).sum())
    if model.restricted:
        criterion += float(log_det.sum() + (data.spare * own).sum())
        criterion += float(np.linalg.slogdet(information)[1])
    else:
        full = _covariance_of(
            data, parameters, model.spread_of_theta(data.z_full), data.spread_full
        )
        criterion += float(np.linalg.slogdet(full)[1].sum() + (data.spare_full * own).sum())
    return {
        "criterion": criterion,
        "vi": vi,
        "vix": vix,
        "weighted": weighted,
        "beta": beta,
        "covariance": covariance,
        "by_theta": by_theta,
    }


def _log_det_parts(
    model: _Model, parameters: np.ndarray, reduced: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """``tr(V^-1 V_r)`` ``[k, L]`` and ``tr(V^-1 V_r V^-1 V_s)`` ``[k, L, L]`` of log|V|."""
    data = model.data
    d = len(model.basis)
    if model.restricted:
        vi, by_theta, spread, spare = reduced["vi"], reduced["by_theta"], data.spread, data.spare
    else:
        by_theta, spread = model.spread_of_theta(data.z_full), data.spread_full
        vi = np.linalg.inv(_covariance_of(data, parameters, by_theta, spread))
        spare = data.spare_full
    moved = vi[:, None] @ np.concatenate([by_theta, spread], axis=1)
    first = np.trace(moved, axis1=2, axis2=3)
    second = np.einsum("krmn,ksnm->krs", moved, moved)
    own = parameters[d:][data.index]
    first[:, d:] += spare / own
    rows = np.arange(d, d + spare.shape[1])
    second[:, rows, rows] += spare / own**2
    return first, second


def pieces_at(model: Any, parameters: np.ndarray) -> Pieces:
    """Criterion, score and information (``pooling.md`` 7.2, 7.3) at ``parameters``."""
    data, d = model.data, len(model.basis)
    gls = _gls(model, parameters)
    vd = np.concatenate([gls["by_theta"], data.spread], axis=1)
    first, second = _log_det_parts(model, parameters, gls)
    cov, vi, vix, w = gls["covariance"], gls["vi"], gls["vix"], gls["weighted"]
    vd_vix = vd @ vix[:, None]  # [k, L, m, p]
    p_local = vix.transpose(0, 2, 1)[:, None] @ vd_vix
    half = vi[:, None] @ vd_vix  # V^-1 V_r V^-1 X
    q_rs = np.einsum("krmp,ksmt->krspt", vd_vix, half)
    vd_w = np.einsum("krmn,kn->krm", vd, w)
    layout = layout_of(data, d)
    p_r = layout.summed(p_local)
    fit = np.einsum("krm,km->kr", vd_w, w)
    score = layout.summed(-0.5 * (first - fit))
    local = 0.5 * second
    if model.restricted:
        score += 0.5 * np.einsum("pt,rtp->r", cov, p_r)
        local = local - np.einsum("pt,krstp->krs", cov, q_rs)
    expected = _information(layout, local, *_cross(cov, p_r, restricted=model.restricted))
    # y'P V_r P V_s P y, P with the common fixed effects taken out too.
    seen = np.einsum("krm,kmn,ksn->krs", vd_w, vi, vd_w)
    pulled = layout.summed(np.einsum("kmp,krm->krp", vix, vd_w)) @ np.linalg.cholesky(cov)
    observed = _information(
        layout,
        seen - local,
        np.concatenate([expected.factor, pulled], axis=1),
        -np.ones(expected.factor.shape[1] + pulled.shape[1]),
    )
    return Pieces(
        criterion=gls["criterion"],
        beta=gls["beta"],
        covariance=cov,
        score=score,
        expected=expected,
        observed=observed,
        p_r=p_r,
        q_rs=q_rs,
    )


def layout_of(data: Stack, thetas: int) -> Layout:
    """The order of the parameters: thetas, then residual variances."""
    if data.shared:
        none = np.zeros((len(data.y), 0), dtype=int)
        return Layout(top=thetas + 1, own=none, used=none.astype(bool), size=thetas + 1)
    return Layout(top=thetas, own=thetas + data.index, used=data.used, size=thetas + data.variances)


def _information(
    layout: Layout, local: np.ndarray, factor: np.ndarray, sign: np.ndarray
) -> Information:
    t = layout.top
    return Information(
        layout=layout,
        top=local[:, :t, :t].sum(axis=0),
        side=local[:, t:, :t],
        blocks=local[:, t:, t:],
        factor=factor,
        sign=sign,
    )


def _cross(
    covariance: np.ndarray, p_r: np.ndarray, *, restricted: bool
) -> tuple[np.ndarray, np.ndarray]:
    """``tr(F P_r F P_s) / 2`` as ``factor factor'``: the lower triangles of L' P_r L, F = L L'."""
    if not restricted:
        return np.zeros((len(p_r), 0)), np.zeros(0)
    half = np.linalg.cholesky(covariance)
    turned = half.T @ p_r @ half
    rows, columns = np.tril_indices(len(covariance))
    weight = np.where(rows == columns, 0.5**0.5, 1.0)
    return turned[:, rows, columns] * weight, np.ones(len(rows))


# ------------------------------------------------------------------ starts


def _start(model: _Model) -> np.ndarray:
    """Residual variances of each trial's own least squares; D from the spread of what is left."""
    data = model.data
    x, y = data.x, data.y
    own_sum, own_df = np.zeros(data.variances), np.zeros(data.variances)
    residual = y - (x @ (np.linalg.pinv(x) @ y[:, :, None]))[:, :, 0]
    rank = np.linalg.matrix_rank(x)
    # Rows of padding and spare contrasts are counted as the model counts them.
    sizes = data.spare + np.trace(data.spread, axis1=2, axis2=3)
    count = sizes.sum(axis=1)
    shares = np.einsum("kgmn,km,kn->kg", data.spread, residual, residual)
    left = np.maximum(count - rank, 0.0) / np.maximum(count, 1.0)
    np.add.at(own_sum, data.index, shares)
    np.add.at(own_df, data.index, sizes * left[:, None])
    overall = own_sum.sum() / max(own_df.sum(), 1.0)
    variances = np.where(own_sum > 0, own_sum / np.maximum(own_df, 1.0), overall)
    d = len(model.basis)
    theta = np.zeros(d)
    within = _gls(model, np.concatenate([theta, variances]))
    size = np.einsum("kmq,kmn,knq->kq", data.z, within["vi"], data.z)
    seen = np.einsum("kmq,km->kq", data.z, within["weighted"]) ** 2
    excess = np.maximum(seen - size, 0.0).sum(axis=0)
    scale = np.maximum((size**2).sum(axis=0), 1e-300)
    of = [np.diag(b) > 0 for b in model.basis]
    theta = np.array([excess[z].sum() / scale[z].sum() if z.any() else 0.0 for z in of])
    if model.correlated:  # a root without a slope is no start
        typical = _typical(model, np.concatenate([theta, variances]))
        theta = np.maximum(theta, 0.01 * typical)
    return np.concatenate([theta, variances])


def _other_starts(model: _Model, best: _Reached, free: np.ndarray) -> list[np.ndarray]:
    """Where else an optimum might be: from the profile scan for one theta, else five restarts."""
    d = len(model.basis)
    if d > 1:
        typical = np.maximum(_typical(model, best.parameters), best.parameters[:d])
        found = []
        for factors in ((0.01, 0.01), (10.0, 10.0), (0.01, 10.0), (10.0, 0.01)):
            other = best.parameters.copy()
            other[:d] = typical * np.array([factors[min(a, 1)] for a in range(d)])
            found.append(other)
        return found
    scale = float(np.trace(best.pieces.covariance)) * len(model.data.y)
    tau = np.sqrt(max(best.parameters[0], 0.0))
    grid = np.linspace(0.0, 10.0 * max(tau, np.sqrt(scale)), _SCAN) ** 2
    others = free.copy()
    others[0] = False
    values = []
    current = best.parameters.copy()
    for theta in grid:
        current[0] = theta
        reached = _climb(model, current, others, most=2)
        values.append((reached.pieces.criterion, reached.parameters))
        current = reached.parameters.copy()
    criteria = np.array([value for value, _ in values])
    dips = [
        i
        for i in range(_SCAN)
        if criteria[i] <= criteria[max(i - 1, 0)] and criteria[i] <= criteria[min(i + 1, _SCAN - 1)]
    ]
    # The dip that holds the optimum already found is not another one.
    own = int(np.abs(np.sqrt(grid) - tau).argmin())
    return [values[i][1] for i in dips if abs(i - own) > 1]


def _typical(model: _Model, parameters: np.ndarray) -> np.ndarray:
    """For each theta the sampling variance of one trial's effect; 0 for covariances."""
    d = len(model.basis)
    within = _gls(model, np.concatenate([np.zeros(d), parameters[d:]]))
    size = np.einsum("kmq,kmn,knq->q", model.data.z, within["vi"], model.data.z)
    size = np.maximum(size / len(model.data.y), 1e-300)
    of = [np.diag(b) > 0 for b in model.basis]
    return np.array([float((1.0 / size[z]).mean()) if z.any() else 0.0 for z in of])


# ------------------------------------------------------------------ climbing


def _climb(model: _Model, start: np.ndarray, free: np.ndarray, most: int = _MOST_STEPS) -> _Reached:
    """Scoring, then Newton, with step halving; D stays a covariance.

    Variances move on the log scale, so that they stay positive.
    """
    d = len(model.basis)
    unknown = model.unknown(start)
    pieces = pieces_at(model, model.natural(unknown))
    decrement = np.inf
    steps = 0
    while steps < most:
        steps += 1
        active = free.copy()
        if not model.correlated:
            active[:d] &= (unknown[:d] > 0) | (pieces.score[:d] > 0)
        if not active.any():
            decrement = 0.0
            break
        move, decrement = _direction(pieces, unknown, active, *model.slopes(unknown, pieces.score))
        if decrement < 1e-10:
            break
        far = model.correlated and decrement > _FAR
        halved = _damped(model, unknown, pieces, active) if far else None
        halved = halved or _halve(model, unknown, pieces, move)
        if halved is None:
            break
        unknown, pieces = halved
    return _Reached(
        parameters=model.natural(unknown), pieces=pieces, decrement=decrement, steps=steps
    )


def _zero(model: _Model, theta: np.ndarray) -> np.ndarray:
    """Which thetas are on their boundary; a covariance is, where one of its variances is."""
    zero: np.ndarray = theta <= 0
    if model.correlated:
        zero[2] = zero[:2].any()
    return zero


def _at_boundary(model: _Model, reached: _Reached) -> _Reached:
    """A root whose variance is nothing, set to nothing: it is reached in the limit alone."""
    if not model.correlated:
        return reached
    parameters = reached.parameters.copy()
    gone = parameters[:2] < _NO_VARIANCE * _typical(model, parameters)[:2]
    if not gone.any():
        return reached
    parameters[:2][gone] = 0.0
    parameters[2] = 0.0
    return _Reached(
        parameters=parameters,
        pieces=pieces_at(model, parameters),
        decrement=reached.decrement,
        steps=reached.steps,
    )


def _damped(
    model: _Model, unknown: np.ndarray, pieces: Pieces, active: np.ndarray
) -> tuple[np.ndarray, Pieces] | None:
    """The best of several steps of D's root, from short to long; None where none is better.

    Near a singular root, whose slope vanishes, scoring steps are far too long and lead nowhere;
    damped by the inverse of a typical variance (Levenberg's way) they are not.
    """
    d = len(model.basis)
    slopes, _ = model.slopes(unknown, pieces.score)
    own = 1.0 / np.maximum(_typical(model, unknown)[[0, 1, 1]], 1e-300)
    scale = np.concatenate([np.ones(d), unknown[d:]])
    score = np.concatenate([slopes.T @ pieces.score[:d], pieces.score[d:] * unknown[d:]]) * active
    expected = pieces.expected.turned(slopes, np.zeros((d, d))).scaled(scale)
    best: tuple[np.ndarray, Pieces] | None = None
    for damping in (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0):
        more = np.concatenate([damping * own, np.zeros(len(unknown) - d)])
        with suppress(FloatingPointError, np.linalg.LinAlgError):
            move = expected.plus_diagonal(more).solver(active).solve(score)
            tried = _moved(model, unknown, move)
            reached = pieces_at(model, model.natural(tried))
            if reached.criterion < (best[1] if best else pieces).criterion:
                best = tried, reached
    return best


def _direction(
    pieces: Pieces,
    unknown: np.ndarray,
    active: np.ndarray,
    slopes: np.ndarray,
    bend: np.ndarray,
) -> tuple[np.ndarray, float]:
    """The step (variances as logs) and its length in standard errors.

    ``slopes`` and ``bend`` are the thetas' derivatives in the unknowns, as `_Model.slopes` gives.
    """
    d = len(slopes)
    scale = np.concatenate([np.ones(d), unknown[d:]])
    score = np.concatenate([slopes.T @ pieces.score[:d], pieces.score[d:] * unknown[d:]]) * active
    curvature = np.concatenate([np.zeros(d), score[d:]])
    expected = pieces.expected.turned(slopes, np.zeros((d, d))).scaled(scale)
    observed = pieces.observed.turned(slopes, -bend).scaled(scale).plus_diagonal(-curvature)
    step = None
    for matrix in (observed, expected):
        try:
            solver = matrix.solver(active)
        except np.linalg.LinAlgError:
            continue
        if not solver.positive:
            continue
        step = solver.solve(score)
        if matrix is expected or float(score @ step) < 4.0:
            break
    if step is None:
        step = score / np.maximum(np.abs(expected.diagonal()), 1e-300)
    return step, float(np.sqrt(max(float(score @ step), 0.0)))


def _halve(
    model: _Model, unknown: np.ndarray, pieces: Pieces, move: np.ndarray
) -> tuple[np.ndarray, Pieces] | None:
    """The longest halving of the step that does not make the criterion worse."""
    slack = 1e-11 * (1.0 + abs(pieces.criterion))
    for halvings in range(40):
        tried = _moved(model, unknown, move * 0.5**halvings)
        try:
            reached = pieces_at(model, model.natural(tried))
        except (FloatingPointError, np.linalg.LinAlgError):
            continue
        if reached.criterion <= pieces.criterion + slack:
            return tried, reached
    return None


def _moved(model: _Model, unknown: np.ndarray, move: np.ndarray) -> np.ndarray:
    """The unknowns after a step; where D is a sum of bases each variance stays at or above zero."""
    d = len(model.basis)
    found = unknown.copy()
    found[:d] += move[:d]
    found[d:] *= np.exp(np.clip(move[d:], -5.0, 5.0))
    if not model.correlated:
        variance = np.array([np.trace(b) > 0 for b in model.basis])
        found[:d] = np.where(variance, np.maximum(found[:d], 0.0), found[:d])
    return found
