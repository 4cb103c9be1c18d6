"""Quantile curves of one group: a regression for each centile, with a bootstrap within trials."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import EstimationError
from ..estimation.quantile import QuantileFit, fit_quantile, sandwich_covariance
from ..estimation.quantile_bootstrap import QuantileProblem, resampled_quantiles
from ..estimation.splines import SplineBasis, group_contrasts, natural_coefficients
from .curve import AgeFunction, Curve, Kind, polynomial_columns
from .curve_data import CurveData, FittedCurve, plan_for
from .curve_fit import observed_basis
from .options import ReferenceOptions

PER_COEFFICIENT = 5  # people beyond the outermost centile for each coefficient
_MOST_SEGMENTS = 5
_PER_KNOT = 600  # people beyond the outermost centile for each knot: the curve stays calm
_RESAMPLED_UP_TO = 50_000  # people: above it a bootstrap takes minutes and says the same
_LEAST_USABLE = 0.95


def quantile_curve(
    data: CurveData, options: ReferenceOptions, groups: Sequence[int] = ()
) -> FittedCurve:
    """Each centile by quantile regression on natural splines, trials kept as fixed columns.

    As many coefficients as the people in the outer tail allow, two (a line) to six; the intervals
    are those of a bootstrap within trials, above 50,000 people the sandwich's. With ``groups`` the
    curve is that of an average of these ethnicities (and all others), whose levels are fixed
    columns too: its centiles are of people within a group. Raises EstimationError where these
    people determine none.
    """
    basis = _quantile_basis(data, options)
    # The function's coefficients from those that are estimated.
    spread = natural_coefficients(basis.size) if basis else np.eye(2)
    columns = (basis.at(data.age) if basis else polynomial_columns(data.age, 2)) @ spread
    size = columns.shape[1]
    fixed = plan_for("none" if options.trial_effect == "none" else "fixed", data.trials)
    X = np.hstack([columns, _contrasts(data.trial)]) if fixed == "fixed" else columns
    if groups:
        own = np.where(np.isin(data.ethnicity, groups), data.ethnicity, -1)
        X = np.hstack([X, _contrasts(own)])
    functions, problems = {}, []
    for centile in options.centiles:
        fit = fit_quantile(X, data.y, centile / 100)
        functions[f"{centile:g}"] = _quantile_function(basis, spread @ fit.coefficients[:size])
        if not options.quick:
            V = _covariance(X, data, fit, centile / 100)
            problems.append(
                QuantileProblem(X=X, y=data.y, tau=centile / 100, fit=fit, covariance=V)
            )
    covariance = np.zeros((size * len(functions),) * 2)
    for index, problem in enumerate(problems):
        place = slice(index * size, (index + 1) * size)
        covariance[place, place] = problem.covariance[:size, :size]

    def jacobian(ages: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(functions), len(ages), len(covariance)))
        for index, function in enumerate(functions.values()):
            rows[index, :, index * size : (index + 1) * size] = function.columns(ages) @ spread
        return rows

    low, high = data.age_range()
    kind: Kind = "conditional" if fixed == "fixed" else "population"
    return FittedCurve(
        kind=kind,
        curve=Curve(family="quantile", functions=functions, age_low=low, age_high=high),
        jacobian=jacobian,
        covariance=covariance,
        deviations=_deviations(problems, data, size, options),
        trials=data.trials,
    )


def _covariance(X: np.ndarray, data: CurveData, fit: QuantileFit, tau: float) -> np.ndarray:
    """The sandwich; where so many values are equal that it fails, a wide guess for the bootstrap.

    There it only says near which people a sample's curve is looked for first.
    """
    try:
        return sandwich_covariance(X, data.y, tau)
    except EstimationError:
        if data.n > _RESAMPLED_UP_TO:
            raise
    spread = float(np.abs(data.y - X @ fit.coefficients).max())
    return np.asarray(max(spread, 1e-300) ** 2 * np.linalg.inv(X.T @ X))


def _quantile_basis(data: CurveData, options: ReferenceOptions) -> SplineBasis | None:
    """The B-splines that the people beyond the outermost centile bear, None for a line."""
    tail = min(min(c, 100 - c) for c in options.centiles) / 100
    allowed = math.floor(data.n * tail / PER_COEFFICIENT)
    segments = min(allowed - 1, 2 + math.floor(data.n * tail / _PER_KNOT), _MOST_SEGMENTS)
    return observed_basis(data.age, segments) if segments >= 2 else None


def _quantile_function(basis: SplineBasis | None, coefficients: np.ndarray) -> AgeFunction:
    part = tuple(float(b) for b in coefficients)
    if basis is None:
        return AgeFunction(basis="polynomial", coefficients=part)
    return AgeFunction(
        basis="spline",
        coefficients=part,
        low=basis.low,
        high=basis.high,
        segments=basis.segments,
    )


def _deviations(
    problems: Sequence[QuantileProblem], data: CurveData, size: int, options: ReferenceOptions
) -> np.ndarray | None:
    """How the age coefficients of all centiles move from sample to sample, ``[samples, p]``."""
    if not problems or data.n > _RESAMPLED_UP_TO:
        return None
    planes = resampled_quantiles(problems, data.trial, options.bootstrap, options.seed)
    moves = np.hstack(
        [
            found[:, :size] - problem.fit.coefficients[:size]
            for found, problem in zip(planes, problems, strict=True)
        ]
    )
    usable = np.isfinite(moves).all(axis=1)
    if usable.mean() < _LEAST_USABLE:
        raise EstimationError(
            "A quantile curve has no interval: most samples of these people determine none.",
            hint="Use another method, or fewer groups.",
        )
    return np.asarray(moves[usable])


def _contrasts(group: np.ndarray) -> np.ndarray:
    _, code = np.unique(group, return_inverse=True)
    return group_contrasts(code, np.bincount(code))
