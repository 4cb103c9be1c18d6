"""One-stage Gaussian models: all trials in one likelihood, fitted from their sums.

``y_i = A_i a_i + X_i b + Z_i u_i + e_i`` with u_i ~ N(0, D), D a sum of ``theta * basis``, and
residual variances common, by trial, or by trial and arm (``pooling.md`` 7.1, 7.2). The criterion is
-2 log of the (restricted) likelihood of the rows, constants included, so that it equals lme4's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .blocks import Stack, TrialBlock, stack
from .information import Information, Layout

_MOST_STEPS = 200
_SCAN = 40
_LEAST = 1e-10  # a residual variance below this share of its start is zero: not a model of data


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
    """

    beta: np.ndarray
    covariance: np.ndarray
    theta: np.ndarray
    variances: np.ndarray
    criterion: float
    restricted: bool
    at_zero: np.ndarray
    estimated: np.ndarray
    checks: Checks
    pieces: Pieces
    data: Stack
    basis: np.ndarray


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
    return OneStageFit(
        beta=best.pieces.beta,
        covariance=best.pieces.covariance,
        theta=best.parameters[:d],
        variances=best.parameters[d:],
        criterion=best.pieces.criterion,
        restricted=restricted,
        at_zero=best.parameters[:d] <= 0,
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
    excess = np.maximum(seen - size, 0.0).sum() / max(float((size**2).sum()), 1e-300)
    theta = np.array([float(np.trace(b) > 0) for b in model.basis]) * excess
    return np.concatenate([theta, variances])


def _other_starts(model: _Model, best: _Reached, free: np.ndarray) -> list[np.ndarray]:
    """Where else an optimum might be: from the profile scan for one theta, else five restarts."""
    d = len(model.basis)
    scale = float(np.trace(best.pieces.covariance)) * len(model.data.y)
    if d > 1:
        found = []
        for factor in (0.0, 0.1, 1.0, 10.0):
            other = best.parameters.copy()
            other[:d] = [
                factor * scale / d if np.allclose(b, np.diag(np.diag(b))) else 0.0
                for b in model.basis
            ]
            found.append(other)
        return found
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


# ------------------------------------------------------------------ climbing


def _climb(model: _Model, start: np.ndarray, free: np.ndarray, most: int = _MOST_STEPS) -> _Reached:
    """Scoring, then Newton, with step halving; thetas stay at or above zero.

    Variances move on the log scale, so that they stay positive.
    """
    d = len(model.basis)
    parameters = start.copy()
    pieces = pieces_at(model, parameters)
    decrement = np.inf
    steps = 0
    for steps in range(1, most + 1):
        active = free.copy()
        active[:d] &= (parameters[:d] > 0) | (pieces.score[:d] > 0)
        if not active.any():
            return _Reached(parameters=parameters, pieces=pieces, decrement=0.0, steps=steps)
        move, decrement = _direction(pieces, parameters, active, d)
        if decrement < 1e-10:
            break
        halved = _halve(model, parameters, pieces, move, d)
        if halved is None:
            break
        parameters, pieces = halved
    return _Reached(parameters=parameters, pieces=pieces, decrement=decrement, steps=steps)


def _direction(
    pieces: Pieces, parameters: np.ndarray, active: np.ndarray, d: int
) -> tuple[np.ndarray, float]:
    """The step (thetas as they are, variances as logs) and its length in standard errors."""
    jacobian = np.concatenate([np.ones(d), parameters[d:]])
    score = pieces.score * jacobian * active
    curvature = np.concatenate([np.zeros(d), pieces.score[d:] * parameters[d:]])
    expected = pieces.expected.scaled(jacobian)
    observed = pieces.observed.scaled(jacobian).plus_diagonal(-curvature)
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
    model: _Model, parameters: np.ndarray, pieces: Pieces, move: np.ndarray, d: int
) -> tuple[np.ndarray, Pieces] | None:
    """The longest halving of the step that does not make the criterion worse."""
    slack = 1e-11 * (1.0 + abs(pieces.criterion))
    for halvings in range(40):
        part = move * 0.5**halvings
        tried = parameters.copy()
        tried[:d] = _inside(model, parameters[:d], part[:d])
        tried[d:] = parameters[d:] * np.exp(np.clip(part[d:], -5.0, 5.0))
        try:
            reached = pieces_at(model, tried)
        except (FloatingPointError, np.linalg.LinAlgError):
            continue
        if reached.criterion <= pieces.criterion + slack:
            return tried, reached
    return None


def _inside(model: _Model, theta: np.ndarray, step: np.ndarray) -> np.ndarray:
    """``theta + step`` kept where D is a covariance: each diagonal basis at or above zero."""
    moved: np.ndarray = theta + step
    diagonal = np.array([np.trace(b) > 0 for b in model.basis])
    return np.where(diagonal, np.maximum(moved, 0.0), moved)
