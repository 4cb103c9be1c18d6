"""The likelihood of one-stage Gaussian models at one value of the parameters, and its derivatives.

Score and information as in ``pooling.md`` 7.2 and 7.3, with what Kenward-Roger needs of them. A
trial's residual variances meet those of other trials through the common fixed effects alone, so the
information is an arrow (few common parameters, a small block for each trial) plus terms of the rank
of the fixed effects. It is solved as a dense matrix: time grows with the cube of the number of
residual variances, seconds for 300.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .sufficient_statistics import PaddedTrials


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which parameters are common and which a trial's own.

    The first ``top`` are common; ``own`` ``[k, g]`` numbers the trials' own where ``used``.
    """

    top: int
    own: np.ndarray
    used: np.ndarray
    size: int

    def gathered(self, values: np.ndarray) -> np.ndarray:
        """Rows of ``values`` ``[R, ...]`` of each trial's own parameters, zero where unused."""
        found: np.ndarray = values[self.own]
        found[~self.used] = 0.0
        return found

    def joined(self, top: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Rows ``[R, ...]`` from the common ones and each trial's ``[k, g, ...]``."""
        values = np.zeros((self.size, *top.shape[1:]))
        values[: self.top] = top
        values[self.own[self.used]] = own[self.used]
        return values

    def summed(self, local: np.ndarray) -> np.ndarray:
        """``local`` ``[k, top + g, ...]`` of all trials together, ``[R, ...]``."""
        return self.joined(local[:, : self.top].sum(axis=0), local[:, self.top :])

    def local(self, values: np.ndarray) -> np.ndarray:
        """``values`` ``[R, ...]`` as each trial sees them, ``[k, top + g, ...]``."""
        k = len(self.own)
        top = np.broadcast_to(values[: self.top], (k, self.top, *values.shape[1:]))
        return np.concatenate([top, self.gathered(values)], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Information:
    """``arrow + factor diag(sign) factor'``, sign ±1; symmetric ``[R, R]``.

    ``top`` ``[t, t]``, ``side`` ``[k, g, t]`` and ``blocks`` ``[k, g, g]`` are the arrow.
    """

    layout: Layout
    top: np.ndarray
    side: np.ndarray
    blocks: np.ndarray
    factor: np.ndarray
    sign: np.ndarray

    def scaled(self, by: np.ndarray) -> Information:
        """Rows and columns times ``by`` ``[R]``."""
        t, own = self.layout.top, self.layout.gathered(by)
        return replace(
            self,
            top=self.top * np.outer(by[:t], by[:t]),
            side=self.side * own[:, :, None] * by[:t],
            blocks=self.blocks * own[:, :, None] * own[:, None, :],
            factor=self.factor * by[:, None],
        )

    def turned(self, by: np.ndarray, plus: np.ndarray) -> Information:
        """``J' I J + plus`` where ``by`` and ``plus`` ``[c, c]`` are of the first common ones."""
        c, t = len(by), self.layout.top
        whole, more = np.eye(t), np.zeros((t, t))
        whole[:c, :c], more[:c, :c] = by, plus
        factor = self.factor.copy()
        factor[:t] = whole.T @ factor[:t]
        return replace(
            self,
            top=whole.T @ self.top @ whole + more,
            side=self.side @ whole,
            factor=factor,
        )

    def plus_diagonal(self, values: np.ndarray) -> Information:
        """With ``values`` ``[R]`` added to the diagonal."""
        blocks = self.blocks.copy()
        at = np.arange(blocks.shape[1])
        blocks[:, at, at] += self.layout.gathered(values)
        return replace(self, top=self.top + np.diag(values[: self.layout.top]), blocks=blocks)

    def diagonal(self) -> np.ndarray:
        """The diagonal ``[R]``."""
        own = np.diagonal(self.blocks, axis1=1, axis2=2)
        whole: np.ndarray = self.layout.joined(np.diag(self.top), own)
        found: np.ndarray = whole + self.factor**2 @ self.sign
        return found

    def dense(self) -> np.ndarray:
        """The matrix itself."""
        layout, t = self.layout, self.layout.top
        matrix: np.ndarray = (self.factor * self.sign) @ self.factor.T
        matrix[:t, :t] += self.top
        trial, group = np.nonzero(layout.used)
        number = layout.own[trial, group]
        matrix[number, :t] += self.side[trial, group]
        matrix[:t, number] += self.side[trial, group].T
        for other in range(layout.own.shape[1]):
            both = layout.used[trial, other]
            first, second = number[both], layout.own[trial[both], other]
            matrix[first, second] += self.blocks[trial[both], group[both], other]
        return matrix

    def solver(self, free: np.ndarray) -> Solver:
        """The inverse over the ``free`` ``[R]`` parameters; LinAlgError where it is singular."""
        at = np.ix_(free, free)
        matrix = self.dense()[at]
        try:
            np.linalg.cholesky(matrix)
            positive = True
        except np.linalg.LinAlgError:
            positive = False
        inverse = np.zeros((len(free), len(free)))
        inverse[at] = np.linalg.inv(matrix)
        return Solver(layout=self.layout, inverse=inverse, positive=positive)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solver:
    """The ``inverse`` ``[R, R]`` of an `Information` over its free parameters, else zero.

    ``positive`` where the information of these parameters is positive definite.
    """

    layout: Layout
    inverse: np.ndarray
    positive: bool

    def solve(self, right: np.ndarray) -> np.ndarray:
        """``inverse @ right``, ``right`` ``[R]`` or ``[R, c]``."""
        found: np.ndarray = self.inverse @ right
        return found

    def local(self) -> np.ndarray:
        """Each trial's part of the inverse, ``[k, L, L]`` over its local parameters."""
        layout = self.layout
        rows = layout.local(self.inverse)
        own = np.take_along_axis(rows, layout.own[:, None, :], axis=2) * layout.used[:, None, :]
        return np.concatenate([rows[:, :, : layout.top], own], axis=2)


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
    return LikelihoodTerms(
        criterion=least["criterion"],
        beta=least["beta"],
        covariance=cov,
        score=score,
        expected=expected,
        observed=observed,
        p_r=p_r,
        q_rs=q_rs,
    )


def layout_of(data: PaddedTrials, thetas: int) -> Layout:
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
