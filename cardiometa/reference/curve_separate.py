"""Curves that are fitted to each group alone: linear, fractional polynomials, quantiles.

A group too thin for a curve of its own is given everybody's, moved by its own level: the group's
mean distance from the curve of all, drawn to 0 as a random effect (variance by the
boundary-avoiding EM of Chung et al. 2013).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import EstimationError
from ..estimation.fractional import choose_powers
from ..estimation.quantile import fit_quantile, sandwich_covariance
from ..estimation.random_intercept import RandomIntercept, fit_random_intercept
from ..estimation.splines import group_contrasts
from .curve import AgeFunction, Curve, Kind, fractional_age_columns, polynomial_columns
from .curve_data import CurveData, FittedCurve, GroupCurves, TrialPlan, linked_groups, plan_for
from .curve_fit import kinds_of, observed_basis
from .options import ReferenceOptions

_PER_COEFFICIENT = 5  # people beyond the outermost centile for each coefficient
_MOST_SEGMENTS = 5
_PER_KNOT = 250  # people beyond the outermost centile for each knot: the curve stays calm
_HALF_NORMAL = math.sqrt(math.pi / 2)
_EM_STEPS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """A group's curves, its trials' effects on the mean, and the coefficients spent on age."""

    curves: tuple[FittedCurve, ...]
    trial_effects: Mapping[int, float] = field(default_factory=dict)
    edf: tuple[float, ...] = ()


Fitter = Callable[[CurveData, ReferenceOptions], _Fitted]


def separate_curves(
    method: str, data: CurveData, groups: Sequence[int], options: ReferenceOptions
) -> tuple[GroupCurves, ...]:
    """The curves of everybody (ethnicity -1), then those of ``groups``."""
    fitter = _FITTERS[method]
    needed = least_people(method, options)
    if data.n < needed:
        raise EstimationError(
            f"--method {method} needs {needed} people at these centiles; here are {data.n}.",
            hint="Use lms, or centiles further in (--level).",
        )
    everybody = _group(-1, data, fitter(data, options))
    plan = plan_for(options.trial_effect, data.trials)
    linked = linked_groups(data, groups, plan, options.min_cell)
    shifts = _shifts(data, groups, everybody)
    found = [everybody]
    for number in groups:
        mine = data.at(data.ethnicity == number)
        if mine.n >= needed and number in linked:
            found.append(_group(number, mine, fitter(mine, options)))
        else:
            moved = tuple(_moved(c, *shifts[number]) for c in everybody.curves)
            group = _group(number, mine, _Fitted(curves=moved))
            found.append(replace(group, pooled=True, linked=number in linked))
    return tuple(found)


def least_people(method: str, options: ReferenceOptions) -> int:
    """People that a curve of its own needs: for quantiles so many that two coefficients hold."""
    if method != "quantile":
        return options.smallest_n
    tail = min(min(c, 100 - c) for c in options.centiles) / 100
    return max(options.smallest_n, math.ceil(round(2 * _PER_COEFFICIENT / tail, 9)))


def _group(ethnicity: int, data: CurveData, fitted: _Fitted) -> GroupCurves:
    low, high = data.age_range()
    return GroupCurves(
        ethnicity=ethnicity,
        n=data.n,
        trials=data.trials,
        age_low=low,
        age_high=high,
        trial_effects=fitted.trial_effects,
        edf=fitted.edf,
        curves=tuple(
            replace(c, curve=replace(c.curve, age_low=low, age_high=high)) for c in fitted.curves
        ),
    )


# ------------------------------------------------------------------ normal laws


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mean:
    """The mean's regression on its own columns and the trials'."""

    fit: RandomIntercept
    size: int
    plan: TrialPlan
    residuals: np.ndarray
    trial_effects: Mapping[int, float]


def _mean(
    data: CurveData, columns: np.ndarray, options: ReferenceOptions, weights: np.ndarray | None
) -> _Mean:
    """Age columns with trials as fixed contrasts, as a random intercept, or not at all."""
    plan = plan_for(options.trial_effect, data.trials)
    numbers, trial = np.unique(data.trial, return_inverse=True)
    sizes, size = np.bincount(trial), columns.shape[1]
    X = columns
    if plan == "fixed":
        X = np.hstack([columns, group_contrasts(trial, sizes)])
    fit = fit_random_intercept(X, data.y, trial, weights, random=plan == "random")
    effects = np.zeros(len(numbers))
    if plan == "random":
        effects = fit.effects
    elif plan == "fixed":
        effects = group_contrasts(np.arange(len(numbers)), sizes) @ fit.coefficients[size:]
    return _Mean(
        fit=fit,
        size=size,
        plan=plan,
        residuals=data.y - columns @ fit.coefficients[:size] - effects[trial],
        trial_effects={int(k): float(e) for k, e in zip(numbers, effects, strict=True)},
    )


def _linear(data: CurveData, options: ReferenceOptions) -> _Fitted:
    """Mean linear in age, one SD (the model of the Healthy Hearts Consortium, 2024)."""
    _needs_ages(data)
    found = _mean(data, polynomial_columns(data.age, 2), options, None)
    sd = math.sqrt(found.fit.sigma2)
    spread = AgeFunction(basis="polynomial", coefficients=(sd,))
    mean = AgeFunction(
        basis="polynomial", coefficients=tuple(float(b) for b in found.fit.coefficients[:2])
    )
    variance = np.array([[found.fit.sigma2 / (2 * found.fit.df)]])
    return _normal_curves(found, mean, spread, variance, data)


def _needs_ages(data: CurveData) -> None:
    if len(np.unique(data.age)) < 3:
        raise EstimationError(
            "A curve needs people of different ages.", hint="Use --method strata."
        )


def _normal_curves(
    found: _Mean, mean: AgeFunction, spread: AgeFunction, spread_cov: np.ndarray, data: CurveData
) -> _Fitted:
    tau = math.sqrt(found.fit.tau2)
    kinds = kinds_of(found.plan, tau)
    size, other = found.size, len(spread.coefficients)
    covariance = np.zeros((size + other, size + other))
    covariance[:size, :size] = found.fit.covariance[:size, :size]
    covariance[size:, size:] = spread_cov

    def jacobian(ages: np.ndarray) -> np.ndarray:
        rows = np.zeros((2, len(ages), size + other))
        rows[0, :, :size] = mean.columns(ages)
        rows[1, :, size:] = spread.columns(ages)
        return rows

    low, high = data.age_range()
    curves = tuple(
        FittedCurve(
            kind=kind,
            curve=Curve(
                family="normal",
                functions={"mean": mean, "sd": spread},
                age_low=low,
                age_high=high,
                tau=used,
            ),
            jacobian=jacobian,
            covariance=covariance,
            tau_df=found.fit.tau2_df if kind == "marginal" else 0.0,
            tau=tau,
            trials=data.trials,
        )
        for kind, used in kinds
    )
    edf = (float(size), float(other))
    return _Fitted(curves=curves, trial_effects=found.trial_effects, edf=edf)


def _fractional(data: CurveData, options: ReferenceOptions) -> _Fitted:
    """Royston & Wright: FP mean, FP of the SD from absolute residuals, weighted, three rounds."""
    _needs_ages(data)
    if data.age.min() <= 0:
        raise EstimationError("Fractional polynomials need ages above 0.")
    x = data.age / 50
    others = _trial_columns(data, options)
    weights: np.ndarray | None = None
    for _ in range(3):
        powers = choose_powers(x, data.y, others, weights).powers
        columns = fractional_age_columns(data.age, powers)
        found = _mean(data, columns, options, weights)
        spread, spread_cov = _spread(data, found)
        weights = 1 / spread.at(data.age) ** 2
    found = _mean(data, columns, options, weights)
    mean = AgeFunction(
        basis="fractional-polynomial",
        powers=powers,
        coefficients=tuple(float(b) for b in found.fit.coefficients[: found.size]),
    )
    # The weighted fit's own sigma, near 1, takes the mean's degrees of freedom into the SD.
    sigma = math.sqrt(found.fit.sigma2)
    spread = replace(spread, coefficients=tuple(sigma * c for c in spread.coefficients))
    return _normal_curves(found, mean, spread, spread_cov * sigma**2, data)


def _trial_columns(data: CurveData, options: ReferenceOptions) -> np.ndarray:
    """A constant, and the trials as fixed columns: powers are chosen within trials."""
    one = np.ones((data.n, 1))
    if plan_for(options.trial_effect, data.trials) == "none":
        return one
    _, trial = np.unique(data.trial, return_inverse=True)
    return np.hstack([one, group_contrasts(trial, np.bincount(trial))])


def _spread(data: CurveData, found: _Mean) -> tuple[AgeFunction, np.ndarray]:
    """The SD as a fractional polynomial of degree 1 at most, positive at every age met."""
    scaled = _HALF_NORMAL * np.abs(found.residuals)
    powers = choose_powers(data.age / 50, scaled, np.ones((data.n, 1)), degree=1).powers
    for tried in (powers, ()):
        X = fractional_age_columns(data.age, tried)
        b, *_ = np.linalg.lstsq(X, scaled, rcond=1e-12)
        fitted = X @ b
        if fitted.min() > 0.2 * fitted.mean():
            break
    rest = float(np.sum((scaled - fitted) ** 2)) / max(data.n - X.shape[1], 1)
    function = AgeFunction(
        basis="fractional-polynomial", powers=tried, coefficients=tuple(float(v) for v in b)
    )
    return function, rest * np.linalg.inv(X.T @ X)


# ------------------------------------------------------------------ quantiles


def _quantiles(data: CurveData, options: ReferenceOptions) -> _Fitted:
    """Each centile by quantile regression on B-splines, trials kept as fixed columns.

    As many coefficients as the people in the outer tail allow, two (a line) to eight; the intervals
    are the sandwich's of the fit with trials fixed.
    """
    _needs_ages(data)
    tail = min(min(c, 100 - c) for c in options.centiles) / 100
    allowed = math.floor(data.n * tail / _PER_COEFFICIENT)
    segments = min(allowed - 3, 1 + math.floor(data.n * tail / _PER_KNOT), _MOST_SEGMENTS)
    basis = observed_basis(data.age, segments) if segments >= 1 else None
    columns = basis.at(data.age) if basis else polynomial_columns(data.age, 2)
    size = columns.shape[1]
    fixed = plan_for("none" if options.trial_effect == "none" else "fixed", data.trials)
    X = np.hstack([columns, _contrasts(data)]) if fixed == "fixed" else columns
    functions, covariances = {}, []
    for centile in options.centiles:
        fit = fit_quantile(X, data.y, centile / 100)
        part = tuple(float(b) for b in fit.coefficients[:size])
        functions[f"{centile:g}"] = (
            AgeFunction(
                basis="spline",
                coefficients=part,
                low=basis.low,
                high=basis.high,
                segments=basis.segments,
            )
            if basis
            else AgeFunction(basis="polynomial", coefficients=part)
        )
        covariances.append(sandwich_covariance(X, data.y, centile / 100)[:size, :size])
    covariance = np.zeros((size * len(covariances),) * 2)
    for index, block in enumerate(covariances):
        covariance[index * size : (index + 1) * size, index * size : (index + 1) * size] = block

    def jacobian(ages: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(functions), len(ages), len(covariance)))
        for index, function in enumerate(functions.values()):
            rows[index, :, index * size : (index + 1) * size] = function.columns(ages)
        return rows

    low, high = data.age_range()
    curve = Curve(family="quantile", functions=functions, age_low=low, age_high=high)
    kind: Kind = "conditional" if fixed == "fixed" else "population"
    fitted = FittedCurve(
        kind=kind, curve=curve, jacobian=jacobian, covariance=covariance, trials=data.trials
    )
    return _Fitted(curves=(fitted,))


def _contrasts(data: CurveData) -> np.ndarray:
    _, trial = np.unique(data.trial, return_inverse=True)
    return group_contrasts(trial, np.bincount(trial))


# ------------------------------------------------------------------ thin groups


def _shifts(
    data: CurveData, groups: Sequence[int], everybody: GroupCurves
) -> dict[int, tuple[float, float]]:
    """How far each group lies from the curve of all, shrunk, and its variance.

    Distances are taken within trials: from the curve of all plus the trial's own mean distance.
    """
    if not groups:
        return {}
    centre = everybody.curves[-1].curve.limits(data.age, (50.0,))[:, 0]
    residual = data.y - centre
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
        group: (float(share[i] * d[i]), float(share[i] * v[i])) for i, group in enumerate(groups)
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


def _moved(fitted: FittedCurve, shift: float, variance: float) -> FittedCurve:
    """The curve moved by ``shift``, whose variance joins the covariance as one more coefficient."""
    curve = fitted.curve
    moved = range(len(curve.functions)) if curve.family == "quantile" else range(1)
    functions = {
        name: replace(f, offset=f.offset + shift) if index in moved else f
        for index, (name, f) in enumerate(curve.functions.items())
    }
    p = len(fitted.covariance)
    covariance = np.zeros((p + 1, p + 1))
    covariance[:p, :p] = fitted.covariance
    covariance[p, p] = variance
    inner = fitted.jacobian

    def jacobian(ages: np.ndarray) -> np.ndarray:
        rows = inner(ages)
        more = np.zeros((*rows.shape[:2], 1))
        more[list(moved)] = 1.0
        return np.concatenate([rows, more], axis=2)

    return replace(
        fitted,
        curve=replace(curve, functions=functions),
        jacobian=jacobian,
        covariance=covariance,
    )


_FITTERS: dict[str, Fitter] = {
    "linear": _linear,
    "fractional-polynomial": _fractional,
    "quantile": _quantiles,
}
