"""The curve of a group too thin for its own: everybody's, moved by the group's distance.

The distance is the group's mean one from the curve of all (a ratio for quantiles of positive
values), drawn to 0 as a random effect (variance by the boundary-avoiding EM of Chung et al. 2013).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .curve import AgeFunction, Curve
from .data import CurveData, FittedCurve, GroupCurves

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
    """Whether a group's distance is a ratio: of quantile curves of positive values."""
    if curve.family != "quantile" or "50" not in curve.functions or data.y.min() <= 0:
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
    """The curve moved by a shift, whose uncertainty joins the covariance as further coefficients.

    A normal law's mean, or every centile of a quantile curve, moves by the distance. By a ratio,
    nobody knows of so few people whether their SD goes with their level: a centile moves half as
    the median does and half in proportion to itself, and the interval counts both as possible.
    """
    moves = _ratio_moves(fitted, shift) if shift.by_ratio else _plain_moves(fitted, shift)
    p, more = len(fitted.covariance), len(moves.variances)
    covariance = np.zeros((p + more, p + more))
    covariance[:p, :p] = fitted.covariance
    covariance[p:, p:] = np.diag(moves.variances)
    inner = fitted.jacobian

    def jacobian(ages: np.ndarray) -> np.ndarray:
        rows = np.einsum("fg,gap->fap", moves.mixing, inner(ages))
        return np.concatenate([rows, moves.slopes(ages)], axis=2)

    deviations = fitted.deviations
    if deviations is not None:
        noise = np.random.default_rng(shift.seed).standard_normal((len(deviations), more))
        deviations = np.hstack([deviations, noise * np.sqrt(moves.variances)])
    return replace(
        fitted,
        curve=replace(fitted.curve, functions=moves.functions),
        jacobian=jacobian,
        covariance=covariance,
        deviations=deviations,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moves:
    """Moved functions: ``mixing`` ``[functions, functions]`` of the old ones, and the new terms.

    ``slopes`` gives ``[functions, ages, terms]``, the terms having ``variances``.
    """

    functions: Mapping[str, AgeFunction]
    mixing: np.ndarray
    slopes: Callable[[np.ndarray], np.ndarray]
    variances: tuple[float, ...]


def _plain_moves(fitted: FittedCurve, shift: ThinShift) -> _Moves:
    """The mean, or every centile, by the same distance."""
    curve = fitted.curve
    size = len(curve.functions)
    moved = np.arange(size) < (size if curve.family == "quantile" else 1)
    functions = {
        name: replace(f, offset=f.offset + shift.distance) if moves else f
        for (name, f), moves in zip(curve.functions.items(), moved, strict=True)
    }

    def slopes(ages: np.ndarray) -> np.ndarray:
        return np.repeat(moved.astype(float)[:, None, None], len(ages), axis=1)

    return _Moves(
        functions=functions, mixing=np.eye(size), slopes=slopes, variances=(shift.variance,)
    )


def _ratio_moves(fitted: FittedCurve, shift: ThinShift) -> _Moves:
    """Centile c: L_c + (e^d - 1)·((1 - w)·L_50 + w·L_c), w = 1/2 with variance 1/4 (0 or 1)."""
    old = fitted.curve.functions
    size, middle = len(old), list(old).index("50")
    more = math.expm1(shift.distance)
    mixing = (1 + more / 2) * np.eye(size)
    mixing[:, middle] += more / 2
    table = mixing @ np.array([f.coefficients for f in old.values()])
    functions = {
        name: replace(f, coefficients=tuple(float(c) for c in row))
        for (name, f), row in zip(old.items(), table, strict=True)
    }

    def slopes(ages: np.ndarray) -> np.ndarray:
        before = np.stack([f.at(ages) for f in old.values()])
        by_distance = (1 + more) * (before + before[middle]) / 2
        by_share = more * (before - before[middle])
        return np.stack([by_distance, by_share], axis=2)

    return _Moves(
        functions=functions, mixing=mixing, slopes=slopes, variances=(shift.variance, 0.25)
    )
