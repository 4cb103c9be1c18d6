"""The participants of a curve, and LMS, BCT, BCPE and normal curves fitted to them.

There is one model over all ethnicities of a sex, and one free of ethnicity: log M (or the mean) =
smooth of age + trial + ethnicity, log S (or log SD) = smooth of age + ethnicity, L constant or
bending slowly, the tail of BCT and BCPE one number. An ethnicity's two effects are random: a large
group keeps its own level, a small one is drawn to the others, and its interval says how uncertain
that is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal

import numpy as np

from ...errors import EstimationError
from ...statistics.basis_functions import (
    SplineBasis,
    Term,
    fixed_term,
    group_contrasts,
    random_term,
    smooth_term,
)
from ...statistics.box_cox_tails import TAILS
from ...statistics.location_scale import (
    DISTRIBUTIONS,
    FitSettings,
    LocationScaleFit,
    fit_location_scale,
)
from ..options import Kind, ReferenceOptions
from ..select import Participants
from .curve import POWER_FAMILIES, AgeFunction, Curve, FamilyName, FittedCurve, GroupCurves

TrialPlan = Literal["none", "fixed", "random"]
RANDOM_FROM = 5  # trials: fewer say nothing of how trials differ
KEPT_RANDOM: Final = "random-kept"  # a refit without one trial of a model that had random effects
GAP_YEARS = 5.0  # without a participant: nothing is said of these ages
_EDGE = 3  # participants beyond each end of a curve, so that no end is one's own age


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveData:
    """Participants with a value and an age, arrays ``[n]``: of one sex, or of both.

    ``ethnicity`` counts into `ETHNICITIES`, -1 unknown or not asked for; ``trial`` counts into the
    table's trials.
    """

    y: np.ndarray
    age: np.ndarray
    ethnicity: np.ndarray
    trial: np.ndarray

    @property
    def n(self) -> int:
        """Participants."""
        return len(self.y)

    @property
    def trials(self) -> int:
        """Trials that these participants come from."""
        return len(np.unique(self.trial))

    def at(self, rows: np.ndarray) -> CurveData:
        """Some of the participants."""
        return CurveData(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def age_range(self) -> tuple[float, float]:
        """Years between which at least three participants on each side support the curve."""
        return _supported(np.sort(self.age))

    def observed_ages(self) -> tuple[tuple[float, float], ...]:
        """The age range in intervals, parted where 5 years or more have no participant.

        Rounded ages leave their own distance between neighbours. Each interval ends as
        `age_range` does; those of too few participants are left out.
        """
        ordered = np.sort(self.age)
        apart = np.diff(ordered)
        usual = float(np.median(apart[apart > 0])) if (apart > 0).any() else 0.0
        cuts = np.flatnonzero(apart >= GAP_YEARS + (usual if usual >= 1 else 0.0)) + 1
        parts = [_supported(p) for p in np.split(ordered, cuts) if len(p) >= 2 * _EDGE]
        return tuple((low, high) for low, high in parts if low <= high)

    def group(self, ethnicity: int, **more: Any) -> GroupCurves:
        """The curves of a group of these participants."""
        low, high = self.age_range()
        more |= {"n": self.n, "trials": self.trials, "age_low": low, "age_high": high}
        return GroupCurves(ethnicity=ethnicity, **more)


def _supported(ordered: np.ndarray) -> tuple[float, float]:
    edge = min(_EDGE, len(ordered)) - 1
    return math.ceil(ordered[edge]), math.floor(ordered[len(ordered) - 1 - edge])


def curve_data(participants: Participants, values: np.ndarray, sex: int) -> CurveData:
    """The participants of a sex (-1: all) with a value and an age."""
    usable = np.isfinite(values) & np.isfinite(participants.age_years)
    if sex >= 0:
        usable &= participants.sex == sex
    rows = np.flatnonzero(usable)
    by_ethnicity = "ethnicity" in participants.by
    return CurveData(
        y=values[rows],
        age=participants.age_years[rows],
        ethnicity=participants.ethnicity[rows] if by_ethnicity else np.full(len(rows), -1),
        trial=participants.trial[rows],
    )


def linked_groups(
    data: CurveData, groups: Sequence[int], plan: TrialPlan, least: int
) -> tuple[int, ...]:
    """The groups that can be separated from trials: joined to the largest by shared trials.

    A group is joined when at least ``least`` of its participants are in trials with as many of the
    groups joined before. The others differ by their trials as much as by themselves, and nothing
    separates the two. Where trials are ignored all count.
    """
    if plan == "none" or len(groups) < 2:
        return tuple(groups)
    size = int(data.trial.max()) + 1
    counts = {g: np.bincount(data.trial[data.ethnicity == g], minlength=size) for g in groups}
    joined = {max(groups, key=lambda g: (int(counts[g].sum()), -g))}
    while True:
        shared = np.sum([counts[g] for g in joined], axis=0) >= least
        more = {g for g in groups if g not in joined and counts[g][shared].sum() >= least}
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
    return "fixed" if wish == "fixed" or trials < RANDOM_FROM else "random"


def check_trials(options: ReferenceOptions, trials: int) -> None:
    """Raise EstimationError where a random trial effect asked for cannot be given."""
    if options.trial_effect == "random" and trials < RANDOM_FROM:
        raise EstimationError(
            f"--trial-effect random with {trials} trial{'s' * (trials != 1)}: differences between "
            f"trials cannot be estimated from fewer than {RANDOM_FROM}.",
            hint="Use --trial-effect fixed (or auto), which keeps these trials as such.",
        )


SEGMENTS = 17  # 20 B-splines
_SHAPE_SEGMENTS = 5
_SHAPE_BENDS_FROM = 1000  # participants: below it L is one number
_BEND_SHOWN_FROM = 5000  # participants
_MOST_CELLS = 20_000
_LEAST_AGES = 5
_ETHNICITY, _TRIAL, _AGE = "ethnicity", "trial", "age"


def location_scale_curves(
    family: FamilyName, data: CurveData, groups: Sequence[int], options: ReferenceOptions
) -> tuple[GroupCurves, ...]:
    """The curves of all (ethnicity -1), then those of ``groups``.

    Raises EstimationError where a model cannot be fitted.
    """
    joint = _JointModel(family, data, (), options)
    found = [joint.group(-1, data)]
    known = data.at(np.isin(data.ethnicity, groups)) if groups else data
    if len(groups) > 1 or known.n < data.n:
        joint = _JointModel(family, known, tuple(groups) if len(groups) > 1 else (), options)
    found += [joint.group(g, data.at(data.ethnicity == g)) for g in groups]
    return tuple(found)


def overall_curves(
    family: FamilyName,
    data: CurveData,
    options: ReferenceOptions,
    like: tuple[FamilyName, LocationScaleFit] | None = None,
) -> GroupCurves:
    """The curves of all participants, as smooth as those of another family (``like``).

    Raises EstimationError.
    """
    settings = FitSettings(tolerance=1e-5 if options.quick else 1e-9)
    if like is not None:
        other, fit = like
        scale = 1.0
        if (other == "normal") != (family == "normal"):
            # A location in log M has coefficients smaller by M than one of the mean.
            scale = float(np.exp(2 * np.mean(np.log(data.y)))) ** (1 if other == "normal" else -1)
        penalties = {
            (term.predictor, term.name): term.penalty * (scale if term.predictor == 0 else 1.0)
            for term in fit.terms
            if term.penalty > 0
        }
        shared = max(term.place.stop for term in fit.terms if term.predictor < 3)  # not the tail
        start = None if "normal" in (other, family) else fit.coefficients[:shared]
        settings = FitSettings(tolerance=1e-4, penalties=penalties, start=start)
    return _JointModel(family, data, (), options, settings).group(-1, data)


def observed_basis(age: np.ndarray, segments: int) -> SplineBasis:
    """Equal knots over the ages, the ends at multiples of five years so that none is an own age."""
    low, high = 5 * math.floor(age.min() / 5), 5 * math.ceil(age.max() / 5)
    if len(np.unique(age)) < _LEAST_AGES or high <= low:
        raise EstimationError(
            f"A curve needs at least {_LEAST_AGES} different ages.",
            hint="Use --method strata, or check the age column.",
        )
    return SplineBasis(low=float(low), high=float(high), segments=segments)


class _JointModel:
    """A model of all ``groups``, ethnicities with an effect on the scale.

    ``linked`` have one on the location too.
    """

    def __init__(
        self,
        family: FamilyName,
        data: CurveData,
        groups: tuple[int, ...],
        options: ReferenceOptions,
        settings: FitSettings | None = None,
    ) -> None:
        self.family, self.groups, self.trials = family, groups, data.trials
        self.basis = observed_basis(data.age, SEGMENTS)
        power = family in POWER_FAMILIES
        bends = power and data.n >= _SHAPE_BENDS_FROM
        self.shape = observed_basis(data.age, _SHAPE_SEGMENTS) if bends else None
        numbers, trial = np.unique(data.trial, return_inverse=True)
        self.plan = plan_for(options.trial_effect, data.trials)
        self.linked = linked_groups(data, groups, self.plan, options.min_cell)
        ages, ethnicity, trials, cell = _cells(data, groups, trial, self.plan)
        # 90 % intervals of limits at n = 600 cover the truth in 89 % so, in 84 to 87 % otherwise; a
        # large sample shows the bend itself, and the curve is then calmer without.
        calm = data.n < _BEND_SHOWN_FROM
        location = [smooth_term(_AGE, self.basis, ages, avoid_zero=calm)]
        scale = [smooth_term(_AGE, self.basis, ages)]
        if groups:
            scale.append(random_term(_ETHNICITY, ethnicity, len(groups), avoid_zero=True))
        if len(self.linked) > 1:
            places = [self.linked.index(g) if g in self.linked else -1 for g in groups]
            code = np.array(places)[ethnicity]
            location.append(random_term(_ETHNICITY, code, len(self.linked), avoid_zero=True))
        if self.plan == "fixed":
            location.append(fixed_term(_TRIAL, group_contrasts(trials, np.bincount(trial))))
        elif self.plan == "random":
            location.append(random_term(_TRIAL, trials, data.trials))
        predictors: list[list[Term]] = [location, scale]
        if power:
            constant, shape = fixed_term(_AGE, np.ones((len(ages), 1))), self.shape
            predictors.append([smooth_term(_AGE, shape, ages, order=1) if shape else constant])
        if family in TAILS:
            predictors.append([fixed_term(_AGE, np.ones((len(ages), 1)))])
        y = np.log(data.y) if power else data.y
        # A refit for calibration counts participants outside: a limit's fifth digit moves none.
        settings = settings or FitSettings(tolerance=1e-5 if options.quick else 1e-9)
        self.fit = fit_location_scale(DISTRIBUTIONS[family], y, cell, predictors, settings)
        self.trial_term = self.fit.term(0, _TRIAL)
        effects = np.zeros(0)
        if self.trial_term is not None:
            effects = self.fit.coefficients[self.trial_term.place]
            if self.plan == "fixed":
                effects = group_contrasts(np.arange(len(numbers)), np.bincount(trial)) @ effects
        self.trial_effects = dict(zip(numbers.tolist(), effects.tolist(), strict=False))

    def group(self, ethnicity: int, data: CurveData) -> GroupCurves:
        """The curves of one of the groups (-1: all), whose participants are ``data``."""
        b, trial = self.fit.coefficients, self.trial_term
        functions: dict[str, AgeFunction] = {}
        places: list[tuple[slice, int | None]] = []
        edf = []
        for number, name in enumerate(DISTRIBUTIONS[self.family].names):
            age, own = self.fit.term(number, _AGE), self.fit.term(number, _ETHNICITY)
            assert age is not None
            members = self.linked if number == 0 else self.groups
            effect = None
            if own is not None and ethnicity in members:
                effect = own.place.start + members.index(ethnicity)
            basis = (self.basis, self.basis, self.shape, None)[number]
            function = spline_function(basis, b[age.place])
            offset = 0.0 if effect is None else float(b[effect])
            functions[name] = replace(function, offset=offset)
            places.append((age.place, effect))
            edf.append(age.edf)

        def jacobian(ages: np.ndarray) -> np.ndarray:
            found = np.zeros((len(functions), len(ages), len(b)))
            for row, function, (age, effect) in zip(found, functions.values(), places, strict=True):
                row[:, age] = function.columns(ages)
                if effect is not None:
                    row[:, effect] = 1.0
            return found

        variance = (trial.variance or 0.0) if trial and self.plan == "random" else 0.0
        return data.group(
            ethnicity,
            pooled=len(self.groups) > 1,
            linked=ethnicity < 0 or not self.groups or ethnicity in self.linked,
            trial_effects=self.trial_effects,
            edf=tuple(edf[:2]),
            fit=self.fit,
            curves=fitted_curves(
                self.family,
                functions,
                data,
                self.plan,
                jacobian=jacobian,
                covariance=self.fit.covariance,
                tau_df=(trial.variance_df or 0.0) if trial else 0.0,
                tau=math.sqrt(variance),
                trials=self.trials,
            ),
        )


def _cells(
    data: CurveData, groups: tuple[int, ...], trial: np.ndarray, plan: TrialPlan
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ages, ethnicities and trials of the cells, and each participant's cell.

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


def fitted_curves(
    family: FamilyName,
    functions: Mapping[str, AgeFunction],
    data: CurveData,
    plan: TrialPlan,
    **uncertainty: Any,
) -> tuple[FittedCurve, ...]:
    """The kinds of curve that a plan gives, marginal first; ``uncertainty`` as in `FittedCurve`."""
    tau, tau_df = uncertainty["tau"], uncertainty.pop("tau_df")
    kinds: dict[TrialPlan, tuple[tuple[Kind, float], ...]] = {
        "none": (("population", 0.0),),
        "fixed": (("conditional", 0.0),),
        "random": (("marginal", tau), ("conditional", 0.0)),
    }
    low, high = data.age_range()
    return tuple(
        FittedCurve(
            kind=kind,
            curve=Curve(family=family, functions=functions, age_low=low, age_high=high, tau=used),
            tau_df=tau_df if kind == "marginal" else 0.0,
            **uncertainty,
        )
        for kind, used in kinds[plan]
    )


def spline_function(basis: SplineBasis | None, coefficients: np.ndarray) -> AgeFunction:
    """The function of age with these coefficients: of a spline basis, or of a polynomial."""
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
