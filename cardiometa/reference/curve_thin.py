"""The curve of a group too thin for its own: everybody's, moved by the group's distance.

The distance is the group's mean one from the curve of all (a ratio for quantiles of positive
values), drawn to 0 as a random effect (variance by the boundary-avoiding EM of Chung et al. 2013).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .curve import AgeFunction, Curve
from .curve_data import CurveData, FittedCurve, GroupCurves

_EM_STEPS = 2000


def thin_shifts(
    data: CurveData, groups: Sequence[int], everybody: GroupCurves, seed: int
) -> dict[int, ThinShift]:
    """How far each group lies from the curve of all, shrunk, and its variance.

    Distances are taken within trials: from the curve of all plus the trial's own mean distance.
    Those of quantile curves of positive values are ratios (differences of logarithms).
    """
    if not groups:
        return {}
    curve = everybody.curves[-1].curve
    centre = curve.limits(data.age, (50.0,))[:, 0]
    by_ratio = _by_ratio(curve, data)
    residual = np.log(data.y / centre) if by_ratio else data.y - centre
    if everybody.curves[-1].kind == "conditional":
        mean = np.bincount(data.trial, residual) / np.maximum(np.bincount(data.trial), 1)
        residual = residual - mean[data.trial]
    else:
        residual = residual - residual.mean()
    distances, variances = [], []
    for group in groups:
        mine = residual[data.ethnicity == group]
        distances.append(float(mine.mean()))
        variances.append(float(residual.var()) / len(mine))
    d, v = np.array(distances), np.array(variances)
    tau2 = _between(d, v)
    share = tau2 / (tau2 + v)
    return {
        group: ThinShift(
            distance=float(share[i] * d[i]),
            variance=float(share[i] * v[i]),
            by_ratio=by_ratio,
            seed=(seed, group),
        )
        for i, group in enumerate(groups)
    }


def _between(d: np.ndarray, v: np.ndarray) -> float:
    tau2 = max(float(np.mean(d**2)), 1e-12 * float(v.mean()))
    for _ in range(_EM_STEPS):
        share = tau2 / (tau2 + v)
        new = float(np.sum((share * d) ** 2 + share * v)) / max(len(d) - 1, 0.5)
        if abs(new - tau2) < 1e-10 * tau2:
            break
        tau2 = new
    return tau2


def _by_ratio(curve: Curve, data: CurveData) -> bool:
    """Whether groups differ by a factor: as larger hearts do, whose limits all move with it."""
    if curve.family != "quantile" or data.y.min() <= 0:
        return False
    return bool(curve.parameters(np.unique(data.age)).min() > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinShift:
    """A group's distance from everybody, its variance, and whether it is a ratio's logarithm."""

    distance: float
    variance: float
    by_ratio: bool
    seed: tuple[int, int]


def moved_curve(fitted: FittedCurve, shift: ThinShift) -> FittedCurve:
    """The curve moved by a shift, whose variance joins the covariance as one more coefficient."""
    curve, p = fitted.curve, len(fitted.covariance)
    moved = tuple(range(len(curve.functions))) if curve.family == "quantile" else (0,)
    factor = math.exp(shift.distance) if shift.by_ratio else 1.0
    functions = {
        name: _moved_function(f, shift) if index in moved else f
        for index, (name, f) in enumerate(curve.functions.items())
    }
    covariance = np.zeros((p + 1, p + 1))
    covariance[:p, :p] = fitted.covariance
    covariance[p, p] = shift.variance
    inner = fitted.jacobian

    def jacobian(ages: np.ndarray) -> np.ndarray:
        rows = inner(ages)
        more = np.zeros((*rows.shape[:2], 1))
        for index in moved:
            rows[index] *= factor
            more[index, :, 0] = list(functions.values())[index].at(ages) if shift.by_ratio else 1.0
        return np.concatenate([rows, more], axis=2)

    deviations = fitted.deviations
    if deviations is not None:
        noise = np.random.default_rng(shift.seed).standard_normal((len(deviations), 1))
        deviations = np.hstack([deviations, math.sqrt(shift.variance) * noise])
    return replace(
        fitted,
        curve=replace(curve, functions=functions),
        jacobian=jacobian,
        covariance=covariance,
        deviations=deviations,
    )


def _moved_function(function: AgeFunction, shift: ThinShift) -> AgeFunction:
    if not shift.by_ratio:
        return replace(function, offset=function.offset + shift.distance)
    factor = math.exp(shift.distance)
    return replace(
        function,
        offset=factor * function.offset,
        coefficients=tuple(factor * c for c in function.coefficients),
    )
