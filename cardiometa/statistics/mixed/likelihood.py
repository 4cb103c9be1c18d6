"""The likelihood of one-stage Gaussian models at one value of the parameters, and its derivatives.

Score and information as in ``pooling.md`` 7.2 and 7.3, with what Kenward-Roger needs of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .information import Information, Layout
from .trial_contrasts import Stack

# Of two random effects with a covariance: variances of both, then the covariance.
CORRELATED = np.array(
    [[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model to be fitted: its data, the basis of D, and which likelihood."""

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


def _covariance_of(
    data: Stack, parameters: np.ndarray, by_theta: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    d = by_theta.shape[1]
    own = parameters[d:][data.index]
    v: np.ndarray = np.einsum("d,kdmn->kmn", parameters[:d], by_theta)
    v += np.einsum("kg,kgmn->kmn", own, spread)
    return v


def gls(model: Model, parameters: np.ndarray) -> dict[str, Any]:
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
    model: Model, parameters: np.ndarray, reduced: dict[str, Any]
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


def pieces_at(model: Model, parameters: np.ndarray) -> Pieces:
    """Criterion, score and information (``pooling.md`` 7.2, 7.3) at ``parameters``."""
    data, d = model.data, len(model.basis)
    least = gls(model, parameters)
    vd = np.concatenate([least["by_theta"], data.spread], axis=1)
    first, second = _log_det_parts(model, parameters, least)
    cov, vi, vix, w = least["covariance"], least["vi"], least["vix"], least["weighted"]
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
        criterion=least["criterion"],
        beta=least["beta"],
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
