"""The curve of a group too thin for its own: everybody's, moved by the group's distance.

The distance is the group's mean one from the curve of all (a ratio for quantiles of positive
values), drawn to 0 as a random effect (variance by the boundary-avoiding EM of Chung et al. 2013).

Quantile curves of one group: a regression for each centile, with a bootstrap within trials.

Curves that are fitted to each group alone: linear, fractional polynomials, quantiles.

A group too thin for a curve of its own is given everybody's, moved by its own level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...errors import EstimationError
from ...statistics.fractional_polynomials import Choice, choice_weights, choose_powers
from ...statistics.mixed.random_intercept import RandomIntercept, fit_random_intercept
from ...statistics.quantile import QuantileFit, fit_quantile, sandwich_covariance
from ...statistics.quantile_bootstrap import QuantileProblem, resampled_quantiles
from ...statistics.splines import SplineBasis, group_contrasts, natural_coefficients
from ..options import ReferenceOptions
from .curve import (
    AgeFunction,
    Curve,
    FittedCurve,
    GroupCurves,
    Kind,
    fractional_age_columns,
    polynomial_columns,
)
from .fit import CurveData, TrialPlan, kinds_of, linked_groups, observed_basis, plan_for

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


_HALF_NORMAL = math.sqrt(math.pi / 2)
_LEAST_WEIGHT = 0.002  # of a fractional polynomial that was not chosen


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
    apart = {g: data.at(data.ethnicity == g) for g in groups}
    own = [g for g in groups if apart[g].n >= needed and g in linked]
    shared, shifts = everybody, dict[int, ThinShift]()
    if len(own) < len(groups):
        shared = _within_groups(method, data, linked, everybody, options)
        shifts = thin_shifts(data, groups, shared, options.seed)
    found = [everybody]
    for number in groups:
        mine = apart[number]
        if number in own:
            found.append(_group(number, mine, fitter(mine, options)))
        else:
            moved = tuple(moved_curve(c, shifts[number]) for c in shared.curves)
            group = _group(number, mine, _Fitted(curves=moved))
            found.append(replace(group, pooled=True, linked=number in linked))
    return tuple(found)


def _within_groups(
    method: str,
    data: CurveData,
    linked: Sequence[int],
    everybody: GroupCurves,
    options: ReferenceOptions,
) -> GroupCurves:
    """The curve that thin groups are moved from: of people within a group, not of their mixture.

    The spread of everybody holds the differences between groups as well. Of quantile curves alone:
    the others' SD hardly tells, and where the groups cannot be told apart it is everybody's.
    """
    if method != "quantile" or len(linked) < 2:
        return everybody
    try:
        curve = quantile_curve(data, options, linked)
    except EstimationError:
        return everybody
    return replace(everybody, curves=(curve,))


def least_people(method: str, options: ReferenceOptions) -> int:
    """People that a curve of its own needs: for quantiles so many that two coefficients hold."""
    if method != "quantile":
        return options.smallest_n
    tail = min(min(c, 100 - c) for c in options.centiles) / 100
    return max(options.smallest_n, math.ceil(round(2 * PER_COEFFICIENT / tail, 9)))


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
    return _normal_curves(found, _Normal(mean=mean, spread=spread, spread_cov=variance), data)


def _needs_ages(data: CurveData) -> None:
    if len(np.unique(data.age)) < 3:
        raise EstimationError(
            "A curve needs people of different ages.", hint="Use --method strata."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Normal:
    """A mean, an SD with its coefficients' covariance, and other means with their weights."""

    mean: AgeFunction
    spread: AgeFunction
    spread_cov: np.ndarray
    others: tuple[tuple[float, AgeFunction], ...] = ()


def _normal_curves(found: _Mean, law: _Normal, data: CurveData) -> _Fitted:
    """The curves; where others were tried, their distance counts as the choice's uncertainty.

    Var = Var of the chosen mean + Σ weight·(other - chosen)² (Buckland ST, Burnham KP, Augustin NH.
    Biometrics 1997;53:603-18, eq. 9 with the chosen curve in the average's place).
    """
    mean, spread = law.mean, law.spread
    tau = math.sqrt(found.fit.tau2)
    kinds = kinds_of(found.plan, tau)
    size, other, more = found.size, len(spread.coefficients), len(law.others)
    covariance = np.eye(size + other + more)
    covariance[:size, :size] = found.fit.covariance[:size, :size]
    covariance[size : size + other, size : size + other] = law.spread_cov

    def jacobian(ages: np.ndarray) -> np.ndarray:
        rows = np.zeros((2, len(ages), size + other + more))
        rows[0, :, :size] = mean.columns(ages)
        rows[1, :, size : size + other] = spread.columns(ages)
        for index, (weight, function) in enumerate(law.others, start=size + other):
            rows[0, :, index] = math.sqrt(weight) * (function.at(ages) - mean.at(ages))
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
        choice = choose_powers(x, data.y, others, weights)
        columns = fractional_age_columns(data.age, choice.powers)
        found = _mean(data, columns, options, weights)
        spread, spread_cov = _spread(data, found)
        weights = 1 / spread.at(data.age) ** 2
    found = _mean(data, columns, options, weights)
    mean = _fractional_mean(choice.powers, found.fit.coefficients)
    rivals = () if options.quick else _rivals(data, choice, others, weights)
    # The weighted fit's own sigma, near 1, takes the mean's degrees of freedom into the SD.
    sigma = math.sqrt(found.fit.sigma2)
    spread = replace(spread, coefficients=tuple(sigma * c for c in spread.coefficients))
    law = _Normal(mean=mean, spread=spread, spread_cov=spread_cov * sigma**2, others=rivals)
    return _normal_curves(found, law, data)


def _fractional_mean(powers: tuple[float, ...], coefficients: np.ndarray) -> AgeFunction:
    return AgeFunction(
        basis="fractional-polynomial",
        powers=powers,
        coefficients=tuple(float(b) for b in coefficients[: len(powers) + 1]),
    )


def _rivals(
    data: CurveData, choice: Choice, others: np.ndarray, weights: np.ndarray | None
) -> tuple[tuple[float, AgeFunction], ...]:
    """The other polynomials that the data leave possible, each with its weight."""
    root = np.sqrt(np.ones(data.n) if weights is None else weights)[:, None]
    found = []
    for powers, weight in choice_weights(choice.deviances).items():
        if powers == choice.powers or weight < _LEAST_WEIGHT:
            continue
        # The constant, which `others` has first, belongs to the curve.
        X = np.hstack([fractional_age_columns(data.age, powers), others[:, 1:]])
        b, *_ = np.linalg.lstsq(X * root, data.y * root[:, 0], rcond=1e-12)
        found.append((weight, _fractional_mean(powers, b)))
    return tuple(found)


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


# ------------------------------------------------------------------ all methods


def _quantiles(data: CurveData, options: ReferenceOptions) -> _Fitted:
    _needs_ages(data)
    return _Fitted(curves=(quantile_curve(data, options),))


_FITTERS: dict[str, Fitter] = {
    "linear": _linear,
    "fractional-polynomial": _fractional,
    "quantile": _quantiles,
}
