"""The people of a curve, and the curve once it is fitted, with what its intervals need.

LMS and normal curves: one model over all ethnicities of a sex, and one free of ethnicity.

log M (or the mean) = smooth of age + trial + ethnicity, log S (or log SD) = smooth of age +
ethnicity, L constant or bending slowly. An ethnicity's two effects are random: a group of many
people keeps its own level, a thin one is drawn to the others, and its interval says how unsure that
is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from ...errors import EstimationError
from ...statistics.location_scale import LAWS, FitSettings, LocationScaleFit, fit_location_scale
from ...statistics.splines import (
    SplineBasis,
    Term,
    fixed_term,
    group_contrasts,
    random_term,
    smooth_term,
)
from ..options import ReferenceOptions
from ..select import People
from .curve import AgeFunction, Curve, FamilyName, FittedCurve, GroupCurves, Kind

TrialPlan = Literal["none", "fixed", "random"]
RANDOM_FROM = 5  # trials: fewer say nothing of how trials differ
KEPT_RANDOM: Final = "random-kept"  # a refit without one trial of a model that had random effects
_EDGE = 3  # people beyond each end of a curve, so that no end is a person's age


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveData:
    """People with a value and an age, arrays ``[n]``: of one sex, or of both.

    ``ethnicity`` counts into `ETHNICITIES`, -1 unknown or not asked for; ``trial`` counts into the
    table's trials.
    """

    y: np.ndarray
    age: np.ndarray
    ethnicity: np.ndarray
    trial: np.ndarray

    @property
    def n(self) -> int:
        """People."""
        return len(self.y)

    @property
    def trials(self) -> int:
        """Trials that these people come from."""
        return len(np.unique(self.trial))

    def at(self, rows: np.ndarray) -> CurveData:
        """Some of the people."""
        return CurveData(
            y=self.y[rows],
            age=self.age[rows],
            ethnicity=self.ethnicity[rows],
            trial=self.trial[rows],
        )

    def age_range(self) -> tuple[float, float]:
        """Whole years between which at least three people on each side bear the curve."""
        ordered = np.sort(self.age)
        edge = min(_EDGE, len(ordered)) - 1
        return math.ceil(ordered[edge]), math.floor(ordered[len(ordered) - 1 - edge])


def curve_data(people: People, values: np.ndarray, sex: int) -> tuple[CurveData, np.ndarray]:
    """The people of a sex (-1: all) with a value and an age, and their numbers in ``people``."""
    usable = np.isfinite(values) & np.isfinite(people.age_years)
    if sex >= 0:
        usable &= people.sex == sex
    members = np.flatnonzero(usable)
    by_ethnicity = "ethnicity" in people.by
    return (
        CurveData(
            y=values[members],
            age=people.age_years[members],
            ethnicity=people.ethnicity[members] if by_ethnicity else np.full(len(members), -1),
            trial=people.trial[members],
        ),
        members,
    )


def linked_groups(
    data: CurveData, groups: Sequence[int], plan: TrialPlan, least: int
) -> tuple[int, ...]:
    """The groups that can be told from trials: joined to the largest by people in its trials.

    A group is joined when at least ``least`` of its people are in trials that hold as many of the
    groups joined before. The others differ by their trials as much as by themselves, and nothing
    can tell which. Where trials are ignored all count.
    """
    if plan == "none" or len(groups) < 2:
        return tuple(groups)
    size = int(data.trial.max()) + 1
    counts = {g: np.bincount(data.trial[data.ethnicity == g], minlength=size) for g in groups}
    joined = {max(groups, key=lambda g: (int(counts[g].sum()), -g))}
    while True:
        held = np.sum([counts[g] for g in joined], axis=0) >= least
        more = {g for g in groups if g not in joined and counts[g][held].sum() >= least}
        if not more:
            return tuple(g for g in groups if g in joined)
        joined |= more


def plan_for(wish: str, trials: int) -> TrialPlan:
    """How trials enter a model of so many: ``auto`` is none, fixed from 2, random from 5.

    A random effect asked for is fixed where a group has fewer than 5 trials.
    """
    if trials < 2 or wish == "none":
        return "none"
    if wish == KEPT_RANDOM:
        return "random"
    if wish == "fixed" or trials < RANDOM_FROM:
        return "fixed"
    return "random"


SEGMENTS = 17  # 20 B-splines
_SHAPE_SEGMENTS = 5
_SHAPE_BENDS_FROM = 1000  # people: below it L is one number
_BEND_SHOWN_FROM = 5000  # people
_MOST_CELLS = 20_000
_LEAST_AGES = 5
_ETHNICITY, _TRIAL, _AGE = "ethnicity", "trial", "age"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joint:
    """A fitted model and what its columns mean.

    ``groups`` are the ethnicities with an effect on the scale, ``linked`` on the location too.
    """

    family: FamilyName
    fit: LocationScaleFit
    basis: SplineBasis
    shape: SplineBasis | None
    plan: TrialPlan
    groups: tuple[int, ...]
    linked: tuple[int, ...]
    trials: int
    trial_effects: dict[int, float]


def location_scale_curves(
    family: FamilyName, data: CurveData, groups: Sequence[int], options: ReferenceOptions
) -> tuple[GroupCurves, ...]:
    """The curves of everybody (ethnicity -1), then those of ``groups``.

    Raises EstimationError where a model cannot be fitted.
    """
    joint = _fit(family, data, (), options)
    found = [_group(-1, data, joint)]
    known = data.at(np.isin(data.ethnicity, groups)) if groups else data
    if len(groups) > 1 or known.n < data.n:
        joint = _fit(family, known, tuple(groups) if len(groups) > 1 else (), options)
    found += [_group(g, data.at(data.ethnicity == g), joint) for g in groups]
    return tuple(found)


def observed_basis(age: np.ndarray, segments: int) -> SplineBasis:
    """Equal knots over the ages, the ends at whole five years so that they are nobody's age."""
    low, high = 5 * math.floor(age.min() / 5), 5 * math.ceil(age.max() / 5)
    if len(np.unique(age)) < _LEAST_AGES or high <= low:
        raise EstimationError(
            f"A curve needs at least {_LEAST_AGES} different ages.",
            hint="Use --method strata, or check the age column.",
        )
    return SplineBasis(low=float(low), high=float(high), segments=segments)


def _fit(
    family: FamilyName, data: CurveData, groups: tuple[int, ...], options: ReferenceOptions
) -> _Joint:
    basis = observed_basis(data.age, SEGMENTS)
    bends = family == "lms" and data.n >= _SHAPE_BENDS_FROM
    shape = observed_basis(data.age, _SHAPE_SEGMENTS) if bends else None
    _, trial = np.unique(data.trial, return_inverse=True)
    plan = plan_for(options.trial_effect, data.trials)
    linked = linked_groups(data, groups, plan, options.min_cell)
    ages, ethnicity, trials, cell = _cells(data, groups, trial, plan)
    # 90 % intervals of limits at n = 600 hold the truth in 89 % so, in 84 to 87 % otherwise; many
    # people show the bend themselves, and the curve is then calmer without.
    location = [smooth_term(_AGE, basis, ages, avoid_zero=data.n < _BEND_SHOWN_FROM)]
    scale = [smooth_term(_AGE, basis, ages)]
    if groups:
        scale.append(random_term(_ETHNICITY, ethnicity, len(groups), avoid_zero=True))
    if len(linked) > 1:
        code = np.array([linked.index(g) if g in linked else -1 for g in groups])[ethnicity]
        location.append(random_term(_ETHNICITY, code, len(linked), avoid_zero=True))
    if plan == "fixed":
        location.append(fixed_term(_TRIAL, group_contrasts(trials, np.bincount(trial))))
    elif plan == "random":
        location.append(random_term(_TRIAL, trials, data.trials))
    predictors: list[list[Term]] = [location, scale]
    if family == "lms":
        predictors.append(
            [
                smooth_term(_AGE, shape, ages, order=1)
                if shape
                else fixed_term(_AGE, np.ones((len(ages), 1)))
            ]
        )
    y = np.log(data.y) if family == "lms" else data.y
    # A refit for calibration counts people outside: the fifth digit of a limit moves nobody.
    settings = FitSettings(tolerance=1e-5) if options.quick else None
    fit = fit_location_scale(LAWS[family], y, cell, predictors, settings)
    return _Joint(
        family=family,
        fit=fit,
        basis=basis,
        shape=shape,
        plan=plan,
        groups=groups,
        linked=linked,
        trials=data.trials,
        trial_effects=_trial_effects(fit, data, plan),
    )


def _trial_effects(fit: LocationScaleFit, data: CurveData, plan: TrialPlan) -> dict[int, float]:
    """Each trial's effect on the location, by its number in the table."""
    term = fit.term(0, _TRIAL)
    if term is None:
        return {}
    numbers, trial = np.unique(data.trial, return_inverse=True)
    b = fit.coefficients[term.place]
    if plan == "fixed":
        b = group_contrasts(np.arange(len(numbers)), np.bincount(trial)) @ b
    return {int(k): float(v) for k, v in zip(numbers, b, strict=True)}


def _cells(
    data: CurveData, groups: tuple[int, ...], trial: np.ndarray, plan: TrialPlan
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ages, ethnicities and trials of the cells, and each person's cell.

    Ages are exact where that leaves few cells, else rounded to 0.1 year.
    """
    ethnicity = np.searchsorted(groups, data.ethnicity) if groups else np.zeros(data.n, dtype=int)
    mine = trial if plan != "none" else np.zeros(data.n, dtype=int)
    sizes = (int(ethnicity.max()) + 1, int(mine.max()) + 1)
    for age in (data.age, np.round(data.age, 1), np.round(data.age * 2) / 2):
        ages, code = np.unique(age, return_inverse=True)
        key = (code * sizes[0] + ethnicity) * sizes[1] + mine
        keys, cell = np.unique(key, return_inverse=True)
        if len(keys) <= _MOST_CELLS:
            break
    rest, trials = np.divmod(keys, sizes[1])
    code, ethnicities = np.divmod(rest, sizes[0])
    return ages[code], ethnicities, trials, cell


# ------------------------------------------------------------------ one group


def kinds_of(plan: TrialPlan, tau: float) -> tuple[tuple[Kind, float], ...]:
    """The kinds of curve that a plan gives, each with the tau of its law."""
    if plan == "none":
        return (("population", 0.0),)
    if plan == "fixed":
        return (("conditional", 0.0),)
    return (("marginal", tau), ("conditional", 0.0))


def _group(ethnicity: int, data: CurveData, joint: _Joint) -> GroupCurves:
    low, high = data.age_range()
    trial = joint.fit.term(0, _TRIAL)
    variance = (trial.variance or 0.0) if trial and joint.plan == "random" else 0.0
    tau, tau_df = math.sqrt(variance), (trial.variance_df or 0.0) if trial else 0.0
    kinds = kinds_of(joint.plan, tau)
    functions = _functions(joint, ethnicity)
    return GroupCurves(
        ethnicity=ethnicity,
        n=data.n,
        trials=data.trials,
        age_low=low,
        age_high=high,
        pooled=len(joint.groups) > 1,
        linked=ethnicity < 0 or not joint.groups or ethnicity in joint.linked,
        trial_effects=joint.trial_effects,
        edf=tuple(joint.fit.term(number, _AGE).edf for number in range(2)),  # type: ignore[union-attr]
        curves=tuple(
            FittedCurve(
                kind=kind,
                curve=Curve(
                    family=joint.family,
                    functions=functions,
                    age_low=low,
                    age_high=high,
                    tau=used,
                ),
                jacobian=_jacobian(joint, ethnicity),
                covariance=joint.fit.covariance,
                tau_df=tau_df if kind == "marginal" else 0.0,
                tau=tau,
                trials=joint.trials,
            )
            for kind, used in kinds
        ),
    )


def _functions(joint: _Joint, ethnicity: int) -> dict[str, AgeFunction]:
    b = joint.fit.coefficients
    found = {}
    for number, name in enumerate(LAWS[joint.family].names):
        age = joint.fit.term(number, _AGE)
        assert age is not None
        basis = joint.shape if number == 2 else joint.basis
        coefficients = tuple(float(v) for v in b[age.place])
        offset = 0.0
        own = joint.fit.term(number, _ETHNICITY)
        members = joint.linked if number == 0 else joint.groups
        if own is not None and ethnicity in members:
            offset = float(b[own.place][members.index(ethnicity)])
        if basis is None:
            found[name] = AgeFunction(basis="polynomial", coefficients=coefficients, offset=offset)
        else:
            found[name] = AgeFunction(
                basis="spline",
                coefficients=coefficients,
                offset=offset,
                low=basis.low,
                high=basis.high,
                segments=basis.segments,
            )
    return found


def _jacobian(joint: _Joint, ethnicity: int) -> Callable[[np.ndarray], np.ndarray]:
    functions = _functions(joint, ethnicity)

    def rows(ages: np.ndarray) -> np.ndarray:
        found = np.zeros((len(functions), len(ages), len(joint.fit.coefficients)))
        for number, function in enumerate(functions.values()):
            age = joint.fit.term(number, _AGE)
            assert age is not None
            found[number][:, age.place] = function.columns(ages)
            own = joint.fit.term(number, _ETHNICITY)
            members = joint.linked if number == 0 else joint.groups
            if own is not None and ethnicity in members:
                found[number, :, own.place.start + members.index(ethnicity)] = 1.0
        return found

    return rows
