"""The likelihood of one-stage Gaussian models at one value of the parameters, and its derivatives.

Score and information as in ``pooling.md`` 7.2 and 7.3, with what Kenward-Roger needs of them. The
information is a dense matrix: time grows with the cube of the number of residual variances, one
Cholesky factor a step (a second for 600).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from .sufficient_statistics import PaddedTrials


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a trial's parameters (thetas, then its residual variances) are among all.

    ``numbers`` ``[k, L]`` where ``used`` ``[k, L]``; ``size`` R is the number of all.
    """

    numbers: np.ndarray
    used: np.ndarray
    size: int

    def summed(self, local: np.ndarray) -> np.ndarray:
        """``local`` ``[k, L, ...]`` of all trials together, ``[R, ...]``."""
        total = np.zeros((self.size, *local.shape[2:]))
        np.add.at(total, self.numbers[self.used], local[self.used])
        return total

    def matrix(self, local: np.ndarray) -> np.ndarray:
        """The trials' ``local`` ``[k, L, L]`` in one matrix ``[R, R]``."""
        total = np.zeros((self.size, self.size))
        both = self.used[:, :, None] & self.used[:, None, :]
        np.add.at(total, (self.numbers[:, :, None], self.numbers[:, None, :]), local * both)
        return total

    def blocks(self, matrix: np.ndarray) -> np.ndarray:
        """Each trial's part of ``matrix`` ``[R, R]``: ``[k, L, L]``, zero where not used."""
        both = self.used[:, :, None] & self.used[:, None, :]
        found: np.ndarray = matrix[self.numbers[:, :, None], self.numbers[:, None, :]] * both
        return found


def turned(matrix: np.ndarray, by: np.ndarray) -> np.ndarray:
    """``J' M J`` for ``by`` ``[c, c]``, the derivatives of the first ``c`` parameters."""
    found = matrix.copy()
    c = len(by)
    found[:c] = by.T @ found[:c]
    found[:, :c] = found[:, :c] @ by
    return found


class Solver:
    """The inverse of a symmetric ``matrix`` ``[R, R]`` over its ``free`` ``[R]`` parameters.

    Elsewhere it is zero. ``positive`` where that part of the matrix is positive definite.
    """

    def __init__(self, matrix: np.ndarray, free: np.ndarray) -> None:
        self._free, self._part = free, matrix[np.ix_(free, free)]
        self._factor: Any = None
        try:
            self._factor = cho_factor(self._part, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            self.positive = False
        else:
            self.positive = True

    def solve(self, right: np.ndarray) -> np.ndarray:
        """``inverse @ right``, ``right`` ``[R]`` or ``[R, c]``; LinAlgError where singular."""
        found = np.zeros(right.shape)
        if self.positive:
            found[self._free] = cho_solve(self._factor, right[self._free], check_finite=False)
        else:
            found[self._free] = np.linalg.solve(self._part, right[self._free])
        return found


# Of two random effects with a covariance: variances of both, then the covariance.
CORRELATED = np.array(
    [[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Jacobian:
    """Derivatives of the thetas in what is free to move (D's root where D is any covariance).

    ``slopes`` ``[d, d]``; ``bend`` ``[d, d]`` second derivatives weighted by the score; ``inner``
    ``[d]`` what does not stand on its boundary.
    """

    slopes: np.ndarray
    bend: np.ndarray
    inner: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodTerms:
    """Everything of the likelihood at one value of the parameters.

    Local parameters of a trial are the thetas, then its residual groups. ``score`` ``[R]`` is of
    log-likelihood; ``expected`` and ``observed`` ``[R, R]`` its information; ``p_r`` ``[R, p, p]``
    and ``q_rs`` ``[k, L, L, p, p]`` (same trial only) the terms of ``pooling.md`` 7.3.
    """

    criterion: float
    beta: np.ndarray
    covariance: np.ndarray
    score: np.ndarray
    expected: np.ndarray
    observed: np.ndarray
    layout: Layout
    p_r: np.ndarray
    q_rs: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model to be fitted: its data, the basis of D, and which likelihood."""

    data: PaddedTrials
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
        """Thetas and variances from what the maximise moves."""
        values = unknown.copy()
        if self.correlated:
            a, b, c = unknown[:3]
            values[:3] = a * a, b * b + c * c, a * b
        return values

    def unknown(self, values: np.ndarray) -> np.ndarray:
        """What the maximise moves, the root of D."""
        found = values.copy()
        if self.correlated:
            a = max(values[0], 0.0) ** 0.5
            b = values[2] / a if a > 0 else 0.0
            found[:3] = a, b, max(values[1] - b * b, 0.0) ** 0.5
        return found

    def jacobian(self, values: np.ndarray, score: np.ndarray) -> Jacobian:
        """Where D can move from ``values``."""
        unknown = self.unknown(values)
        slopes, bend = self.slopes(unknown, score)
        return Jacobian(slopes=slopes, bend=bend, inner=unknown[: len(self.basis)] != 0)

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
    data: PaddedTrials, parameters: np.ndarray, by_theta: np.ndarray, spread: np.ndarray
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


def likelihood_terms(model: Model, parameters: np.ndarray) -> LikelihoodTerms:
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
    half_cov = np.linalg.cholesky(cov)
    expected = layout.matrix(local)
    # y'P V_r P V_s P y, P with the common fixed effects taken out too.
    seen = np.einsum("krm,kmn,ksn->krs", vd_w, vi, vd_w)
    pulled = layout.summed(np.einsum("kmp,krm->krp", vix, vd_w)) @ half_cov
    observed = layout.matrix(seen - local) - pulled @ pulled.T
    if model.restricted:  # tr(F P_r F P_s) / 2
        cross = (half_cov.T @ p_r @ half_cov).reshape(layout.size, -1)
        shared = 0.5 * (cross @ cross.T)
        expected += shared
        observed -= shared
    return LikelihoodTerms(
        criterion=least["criterion"],
        beta=least["beta"],
        covariance=cov,
        score=score,
        expected=expected,
        observed=observed,
        layout=layout,
        p_r=p_r,
        q_rs=q_rs,
    )


def layout_of(data: PaddedTrials, thetas: int) -> Layout:
    """The order of the parameters: thetas, then residual variances."""
    k = len(data.y)
    top = np.broadcast_to(np.arange(thetas), (k, thetas))
    return Layout(
        numbers=np.concatenate([top, thetas + data.index], axis=1),
        used=np.concatenate([np.ones((k, thetas), dtype=bool), data.used], axis=1),
        size=thetas + data.variances,
    )
