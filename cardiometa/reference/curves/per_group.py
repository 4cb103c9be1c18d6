"""Curves that are fitted to each group alone: linear, fractional polynomials, quantiles.

A group too small for a curve of its own is given that of all participants, moved by the group's
distance. The distance is the group's mean one from the curve of all (a ratio for quantiles of
positive values), drawn to 0 as a random effect (variance by the boundary-avoiding EM of Chung et
al. 2013).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import linalg

from ...errors import EstimationError
from ...statistics.basis_functions import (
    choice_weights,
    choose_powers,
    group_contrasts,
    natural_coefficients,
)
from ...statistics.mixed.random_intercept import fit_random_intercept
from ...statistics.quantile import (
    QuantileFit,
    QuantileProblem,
    fit_quantile,
    resampled_quantiles,
    sandwich_covariance,
)
from ..options import ReferenceOptions
from .curve import (
    AgeFunction,
    Curve,
    FittedCurve,
    GroupCurves,
    fractional_age_columns,
    polynomial_columns,
)
from .fit import (
    CurveData,
    TrialPlan,
    fitted_curves,
    linked_groups,
    observed_basis,
    plan_for,
    spline_function,
)

PER_COEFFICIENT = 5  # participants beyond the outermost centile for each coefficient
_MOST_SEGMENTS = 5
_PER_KNOT = 600  # participants beyond the outermost centile for each knot: the curve stays calm
_RESAMPLED_UP_TO = 50_000  # participants: above it a bootstrap takes minutes and says the same
_LEAST_USABLE = 0.95
_HALF_NORMAL = math.sqrt(math.pi / 2)
_LEAST_WEIGHT = 0.002  # of a fractional polynomial that was not chosen
_EM_STEPS = 2000

# What a fitter gives: the fields of `GroupCurves` that depend on the method.
Fitted = dict[str, Any]


def separate_curves(
    method: str, data: CurveData, groups: Sequence[int], options: ReferenceOptions
) -> tuple[GroupCurves, ...]:
    """The curves of all participants (ethnicity -1), then those of ``groups``."""

    def fitted(part: CurveData) -> Fitted:
        if len(np.unique(part.age)) < 3:
            raise EstimationError(
                "A curve needs participants of different ages.", hint="Use --method strata."
            )
        return _FITTERS[method](part, options)

    # A curve of its own needs enough for two coefficients of each quantile.
    needed = options.smallest_n
    if method == "quantile":
        needed = max(needed, math.ceil(round(2 * PER_COEFFICIENT / options.tail, 9)))
    if data.n < needed:
        raise EstimationError(
            f"--method {method} needs {needed} participants at these centiles; here are {data.n}.",
            hint="Use lms, or centiles further in (--level).",
        )
    overall = data.group(-1, **fitted(data))
    plan = plan_for(options.trial_effect, data.trials)
    linked = linked_groups(data, groups, plan, options.min_cell)
    apart = {g: data.at(data.ethnicity == g) for g in groups}
    own = [g for g in groups if apart[g].n >= needed and g in linked]
    shared, shifts = overall, dict[int, GroupShift]()
    if len(own) < len(groups):
        if method == "quantile" and len(linked) > 1:
            # Small groups are moved from a curve of participants within a group: the spread of all
            # includes the differences between groups. The SD of other curves hardly changes.
            with suppress(EstimationError):
                shared = replace(overall, curves=(quantile_curve(data, options, linked),))
        shifts = group_shifts(data, groups, shared, options.seed)
    found = [overall]
    for number in groups:
        mine = apart[number]
        if number in own:
            found.append(mine.group(number, **fitted(mine)))
            continue
        low, high = mine.age_range()
        moved = (moved_curve(c, shifts[number]) for c in shared.curves)
        curves = tuple(
            replace(c, curve=replace(c.curve, age_low=low, age_high=high)) for c in moved
        )
        found.append(mine.group(number, curves=curves, pooled=True, linked=number in linked))
    return tuple(found)


# ------------------------------------------------------------------ small groups


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupShift:
    """A group's distance from all, its variance, and whether it is a ratio's logarithm."""

    distance: float
    variance: float
    by_ratio: bool
    seed: tuple[int, int]


def group_shifts(
    data: CurveData, groups: Sequence[int], overall: GroupCurves, seed: int
) -> dict[int, GroupShift]:
    """How far each group lies from the curve of all, shrunk, and its variance.

    Distances are taken within trials: from the curve of all plus the trial's own mean distance.
    Those of quantile curves of positive values are ratios (differences of logarithms).
    """
    if not groups:
        return {}
    curve = overall.curves[-1].curve
    centre = curve.limits(data.age, (50.0,))[:, 0]
    by_ratio = (
        curve.family == "quantile"
        and "50" in curve.functions
        and data.y.min() > 0
        and bool(curve.parameters(np.unique(data.age)).min() > 0)
    )
    residual = np.log(data.y / centre) if by_ratio else data.y - centre
    if overall.curves[-1].kind == "conditional":
        mean = np.bincount(data.trial, residual) / np.maximum(np.bincount(data.trial), 1)
        residual = residual - mean[data.trial]
    else:
        residual = residual - residual.mean()
    parts = [residual[data.ethnicity == group] for group in groups]
    d = np.array([float(part.mean()) for part in parts])
    v = np.array([float(residual.var()) / len(part) for part in parts])
    tau2 = max(float(np.mean(d**2)), 1e-12 * float(v.mean()))
    for _ in range(_EM_STEPS):
        share = tau2 / (tau2 + v)
        new = float(np.sum((share * d) ** 2 + share * v)) / max(len(d) - 1, 0.5)
        if abs(new - tau2) < 1e-10 * tau2:
            break
        tau2 = new
    share = tau2 / (tau2 + v)
    return {
        group: GroupShift(
            distance=float(share[i] * d[i]),
            variance=float(share[i] * v[i]),
            by_ratio=by_ratio,
            seed=(seed, group),
        )
        for i, group in enumerate(groups)
    }


def moved_curve(fitted: FittedCurve, shift: GroupShift) -> FittedCurve:
    """The curve moved by a shift, whose uncertainty joins the covariance as further coefficients.

    A normal distribution's mean, or every centile of a quantile curve, moves by the distance. By a
    ratio, so few participants do not show whether their SD goes with their level: a centile moves
    half as the median does and half in proportion to itself, and the interval counts both as
    possible: centile c is L_c + (e^d - 1)·((1 - w)·L_50 + w·L_c), w = 1/2 with variance 1/4 (0 or
    1).
    """
    old = fitted.curve.functions
    size = len(old)
    # ``mixing`` of the old functions; ``slopes`` [functions, ages, terms] of new terms.
    if shift.by_ratio:
        middle, more = list(old).index("50"), math.expm1(shift.distance)
        mixing = (1 + more / 2) * np.eye(size)
        mixing[:, middle] += more / 2
        table = mixing @ np.array([f.coefficients for f in old.values()])
        functions = {
            name: replace(f, coefficients=tuple(float(c) for c in row))
            for (name, f), row in zip(old.items(), table, strict=True)
        }
        variances = np.array([shift.variance, 0.25])

        def slopes(ages: np.ndarray) -> np.ndarray:
            before = np.stack([f.at(ages) for f in old.values()])
            by_distance = (1 + more) * (before + before[middle]) / 2
            return np.stack([by_distance, more * (before - before[middle])], axis=2)

    else:
        moved = np.arange(size) < (size if fitted.curve.family == "quantile" else 1)
        functions = {
            name: replace(f, offset=f.offset + shift.distance) if moves else f
            for (name, f), moves in zip(old.items(), moved, strict=True)
        }
        mixing, variances = np.eye(size), np.array([shift.variance])

        def slopes(ages: np.ndarray) -> np.ndarray:
            return np.repeat(moved.astype(float)[:, None, None], len(ages), axis=1)

    p, terms = len(fitted.covariance), len(variances)
    covariance = np.zeros((p + terms, p + terms))
    covariance[:p, :p] = fitted.covariance
    covariance[p:, p:] = np.diag(variances)

    def jacobian(ages: np.ndarray) -> np.ndarray:
        rows = np.einsum("fg,gap->fap", mixing, fitted.jacobian(ages))
        return np.concatenate([rows, slopes(ages)], axis=2)

    deviations = fitted.deviations
    if deviations is not None:
        noise = np.random.default_rng(shift.seed).standard_normal((len(deviations), terms))
        deviations = np.hstack([deviations, noise * np.sqrt(variances)])
    return replace(
        fitted,
        curve=replace(fitted.curve, functions=functions),
        jacobian=jacobian,
        covariance=covariance,
        deviations=deviations,
    )


# ------------------------------------------------------------------ quantiles


def quantile_curve(
    data: CurveData, options: ReferenceOptions, groups: Sequence[int] = ()
) -> FittedCurve:
    """Each centile by quantile regression on natural splines, trials kept as fixed columns.

    As many coefficients as the participants in the outer tail allow, two (a line) to six; the
    intervals are those of a bootstrap within trials, above 50,000 participants the sandwich's. With
    ``groups`` the curve is that of an average of these ethnicities (and all others), whose levels
    are fixed columns too: its centiles are of participants within a group. Raises EstimationError
    where the data determine none.
    """
    allowed = math.floor(data.n * options.tail / PER_COEFFICIENT)
    bend = 2 + math.floor(data.n * options.tail / _PER_KNOT)
    segments = min(allowed - 1, bend, _MOST_SEGMENTS)
    basis = observed_basis(data.age, segments) if segments >= 2 else None
    # The function's coefficients from those that are estimated.
    spread = natural_coefficients(basis.size) if basis else np.eye(2)
    columns = (basis.at(data.age) if basis else polynomial_columns(data.age, 2)) @ spread
    size = columns.shape[1]
    fixed = plan_for("none" if options.trial_effect == "none" else "fixed", data.trials) == "fixed"
    X = np.hstack([columns, _contrasts(data.trial)]) if fixed else columns
    if groups:
        own = np.where(np.isin(data.ethnicity, groups), data.ethnicity, -1)
        X = np.hstack([X, _contrasts(own)])
    functions, problems = {}, []
    for centile in options.centiles:
        tau = centile / 100
        fit = fit_quantile(X, data.y, tau)
        functions[f"{centile:g}"] = spline_function(basis, spread @ fit.coefficients[:size])
        if not options.quick:
            V = _covariance(X, data, fit, tau)
            problems.append(QuantileProblem(X=X, y=data.y, tau=tau, fit=fit, covariance=V))
    blocks = [p.covariance[:size, :size] for p in problems]
    covariance = linalg.block_diag(*(blocks or [np.zeros((size, size))] * len(functions)))

    def jacobian(ages: np.ndarray) -> np.ndarray:
        mine = next(iter(functions.values())).columns(ages) @ spread  # one basis for all
        each = np.einsum("fg,ap->fagp", np.eye(len(functions)), mine)
        return np.asarray(each.reshape(len(functions), len(ages), -1))

    low, high = data.age_range()
    return FittedCurve(
        kind="conditional" if fixed else "population",
        curve=Curve(family="quantile", functions=functions, age_low=low, age_high=high),
        jacobian=jacobian,
        covariance=covariance,
        deviations=_deviations(problems, data, size, options),
        trials=data.trials,
    )


def _covariance(X: np.ndarray, data: CurveData, fit: QuantileFit, tau: float) -> np.ndarray:
    """The sandwich; where so many values are equal that it fails, a wide guess for the bootstrap.

    There it only says near which values a sample's curve is searched first.
    """
    try:
        return sandwich_covariance(X, data.y, tau)
    except EstimationError:
        if data.n > _RESAMPLED_UP_TO:
            raise
    spread = float(np.abs(data.y - X @ fit.coefficients).max())
    return np.asarray(max(spread, 1e-300) ** 2 * np.linalg.inv(X.T @ X))


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
            "A quantile curve has no interval: most bootstrap samples determine none.",
            hint="Use another method, or fewer groups.",
        )
    return np.asarray(moves[usable])


def _contrasts(group: np.ndarray) -> np.ndarray:
    _, code = np.unique(group, return_inverse=True)
    return group_contrasts(code, np.bincount(code))


# ------------------------------------------------------------------ normal distributions


class _Mean:
    """The mean's regression on age ``columns`` ``[n, size]`` and trials.

    Trials are fixed contrasts, a random intercept, or left out.
    """

    def __init__(
        self,
        data: CurveData,
        columns: np.ndarray,
        options: ReferenceOptions,
        weights: np.ndarray | None = None,
    ) -> None:
        self.plan: TrialPlan = plan_for(options.trial_effect, data.trials)
        numbers, trial = np.unique(data.trial, return_inverse=True)
        sizes, self.size = np.bincount(trial), columns.shape[1]
        X = np.hstack([columns, group_contrasts(trial, sizes)]) if self.plan == "fixed" else columns
        self.fit = fit_random_intercept(X, data.y, trial, weights, random=self.plan == "random")
        effects = np.zeros(len(numbers))
        if self.plan == "random":
            effects = self.fit.effects
        elif self.plan == "fixed":
            contrasts = group_contrasts(np.arange(len(numbers)), sizes)
            effects = contrasts @ self.fit.coefficients[self.size :]
        self.trial_effects = dict(zip(numbers.tolist(), effects.tolist(), strict=True))
        self.residuals = data.y - columns @ self.fit.coefficients[: self.size] - effects[trial]


def _normal_curves(
    found: _Mean,
    mean: AgeFunction,
    spread: AgeFunction,
    spread_covariance: np.ndarray,
    data: CurveData,
    rivals: Sequence[tuple[float, AgeFunction]] = (),
) -> Fitted:
    """The curves; where ``rivals`` (weights, other means) are, their distance counts too.

    It is the uncertainty of the choice: Var = Var of the chosen mean + Σ weight·(other - chosen)²
    (Buckland ST, Burnham KP, Augustin NH. Biometrics 1997;53:603-18, eq. 9 with the chosen curve in
    the average's place).
    """
    size, other = found.size, len(spread.coefficients)
    total = size + other + len(rivals)
    covariance = np.eye(total)
    covariance[:size, :size] = found.fit.covariance[:size, :size]
    covariance[size : size + other, size : size + other] = spread_covariance

    def jacobian(ages: np.ndarray) -> np.ndarray:
        rows = np.zeros((2, len(ages), total))
        rows[0, :, :size] = mean.columns(ages)
        rows[1, :, size : size + other] = spread.columns(ages)
        for index, (weight, function) in enumerate(rivals, start=size + other):
            rows[0, :, index] = math.sqrt(weight) * (function.at(ages) - mean.at(ages))
        return rows

    curves = fitted_curves(
        "normal",
        {"mean": mean, "sd": spread},
        data,
        found.plan,
        jacobian=jacobian,
        covariance=covariance,
        tau_df=found.fit.tau2_df,
        tau=math.sqrt(found.fit.tau2),
        trials=data.trials,
    )
    edf = (float(size), float(other))
    return {"curves": curves, "trial_effects": found.trial_effects, "edf": edf}


def _linear(data: CurveData, options: ReferenceOptions) -> Fitted:
    """Mean linear in age, one SD (the model of the Healthy Hearts Consortium, 2024)."""
    found = _Mean(data, polynomial_columns(data.age, 2), options)
    spread = spline_function(None, np.array([math.sqrt(found.fit.sigma2)]))
    mean = spline_function(None, found.fit.coefficients[:2])
    variance = np.array([[found.fit.sigma2 / (2 * found.fit.df)]])
    return _normal_curves(found, mean, spread, variance, data)


def _fractional(data: CurveData, options: ReferenceOptions) -> Fitted:
    """Royston & Wright: FP mean, FP of the SD from absolute residuals, weighted, three rounds."""
    if data.age.min() <= 0:
        raise EstimationError("Fractional polynomials need ages above 0.")
    x = data.age / 50
    # A constant, and the trials as fixed columns: powers are chosen within trials.
    others = np.ones((data.n, 1))
    if plan_for(options.trial_effect, data.trials) != "none":
        others = np.hstack([others, _contrasts(data.trial)])
    weights: np.ndarray | None = None
    for _ in range(3):
        choice = choose_powers(x, data.y, others, weights)
        columns = fractional_age_columns(data.age, choice.powers)
        spread, spread_covariance = _spread(data, _Mean(data, columns, options, weights))
        weights = 1 / spread.at(data.age) ** 2
    found = _Mean(data, columns, options, weights)
    root = np.sqrt(np.ones(data.n) if weights is None else weights)[:, None]
    rivals = []
    # The other polynomials that the data leave possible, each with its weight.
    for powers, weight in () if options.quick else choice_weights(choice.deviances).items():
        if powers != choice.powers and weight >= _LEAST_WEIGHT:
            # The constant, which `others` has first, belongs to the curve.
            X = np.hstack([fractional_age_columns(data.age, powers), others[:, 1:]])
            b, *_ = np.linalg.lstsq(X * root, data.y * root[:, 0], rcond=1e-12)
            rivals.append((weight, _fractional_function(powers, b)))
    # The weighted fit's own sigma, near 1, takes the mean's degrees of freedom into the SD.
    sigma = math.sqrt(found.fit.sigma2)
    spread = replace(spread, coefficients=tuple(sigma * c for c in spread.coefficients))
    mean = _fractional_function(choice.powers, found.fit.coefficients)
    return _normal_curves(found, mean, spread, spread_covariance * sigma**2, data, rivals)


def _fractional_function(powers: tuple[float, ...], coefficients: np.ndarray) -> AgeFunction:
    part = tuple(float(b) for b in coefficients[: len(powers) + 1])
    return AgeFunction(basis="fractional-polynomial", powers=powers, coefficients=part)


def _spread(data: CurveData, found: _Mean) -> tuple[AgeFunction, np.ndarray]:
    """The SD as a fractional polynomial of degree 1 at most, positive at every age in the data."""
    scaled = _HALF_NORMAL * np.abs(found.residuals)
    powers = choose_powers(data.age / 50, scaled, np.ones((data.n, 1)), degree=1).powers
    for tried in (powers, ()):
        X = fractional_age_columns(data.age, tried)
        b, *_ = np.linalg.lstsq(X, scaled, rcond=1e-12)
        fitted = X @ b
        if fitted.min() > 0.2 * fitted.mean():
            break
    rest = float(np.sum((scaled - fitted) ** 2)) / max(data.n - X.shape[1], 1)
    return _fractional_function(tried, b), rest * np.linalg.inv(X.T @ X)


_FITTERS: dict[str, Callable[[CurveData, ReferenceOptions], Fitted]] = {
    "linear": _linear,
    "fractional-polynomial": _fractional,
    "quantile": lambda data, options: {"curves": (quantile_curve(data, options),)},
}
