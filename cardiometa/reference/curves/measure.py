"""Limits by age as curves: for each measure and sex, everybody and each ethnicity.

Do the curves fit? Shares outside, Q statistics and worms by age.

Royston P, Wright EM. Stat Med 2000;19:2943-62 (Q); van Buuren S, Fredriks M. Stat Med 2001;20:
1259-77 (worm). All are computed from z scores within the person's own trial; nothing printed is
one person's.

Everything that curves give for one measure, and what is said where they cannot be given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from ...errors import EstimationError, TableError
from ...privacy.suppression import hidden_counts
from ...records import ETHNICITIES, SEXES, CohortTable
from ..options import NOT_A_REFERENCE, Method, ReferenceOptions
from ..results import (
    UNLINKED,
    Calibration,
    CurveLine,
    CurvePeople,
    QStatistics,
    ReferenceLimit,
    Worm,
)
from ..select import NEEDS_POSITIVE, People
from ..strata.checks import age_thirds, filled
from ..strata.groups import ALL
from .curve import FittedCurve, GroupCurves, curve_document, curve_limits
from .fit import KEPT_RANDOM, RANDOM_FROM, CurveData, curve_data, location_scale_curves
from .per_group import separate_curves

_EVERY = 5.0
REARRANGED = "rearranged"
_FAMILIES = {"lms": "lms", "gaussian": "normal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SexCurves:
    """The curves of one measure and sex by one method; ``members`` count into the people.

    ``hidden``: for each of ``groups``, whether its n must not be told. Groups too thin for a curve
    have none.
    """

    measure: str
    unit: str
    method: Method
    sex: str
    data: CurveData
    members: np.ndarray
    groups: tuple[GroupCurves, ...]
    hidden: tuple[bool, ...]


def fit_curves(
    measure: str, unit: str, people: People, values: np.ndarray, options: ReferenceOptions
) -> tuple[SexCurves, ...]:
    """The curves of a measure by ``options.method`` (a curve's).

    Raises EstimationError where a sex with enough people has no curve.
    """
    sexes = range(len(SEXES)) if "sex" in people.by else (-1,)
    return tuple(_of_sex(measure, unit, people, values, sex, options) for sex in sexes)


def _of_sex(
    measure: str,
    unit: str,
    people: People,
    values: np.ndarray,
    sex: int,
    options: ReferenceOptions,
) -> SexCurves:
    data, members = curve_data(people, values, sex)
    assert options.method is not None
    met = [int(g) for g in np.unique(data.ethnicity) if g >= 0]
    counts = [int(np.sum(data.ethnicity == g)) for g in met]
    groups: tuple[GroupCurves, ...] = ()
    if data.n < options.smallest_n:
        groups = (_empty(-1, data),)
    else:
        usable = [g for g, n in zip(met, counts, strict=True) if n >= options.min_cell]
        fitted = _estimated(measure, sex, data, usable, options)
        by_number = {g.ethnicity: g for g in fitted}
        groups = tuple(
            by_number.get(g) or _empty(g, data.at(data.ethnicity == g)) for g in (-1, *met)
        )
    few = data.n < options.min_cell
    return SexCurves(
        measure=measure,
        unit=unit,
        method=options.method,
        sex=ALL if sex < 0 else SEXES[sex],
        data=data,
        members=members,
        groups=groups,
        hidden=(few, *hidden_counts(counts, data.n, options.min_cell))[: len(groups)],
    )


def _estimated(
    measure: str, sex: int, data: CurveData, usable: Sequence[int], options: ReferenceOptions
) -> tuple[GroupCurves, ...]:
    """The fits, an error saying whose curve it was."""
    try:
        return estimate_groups(data, usable, options)
    except EstimationError as error:
        who = "everybody" if sex < 0 else {"male": "men", "female": "women"}[SEXES[sex]]
        raise EstimationError(
            f"{measure}, {who}, method {options.method}: {error.message}", hint=error.hint
        ) from None


def estimate_groups(
    data: CurveData, groups: Sequence[int], options: ReferenceOptions
) -> tuple[GroupCurves, ...]:
    """Everybody's curves and those of ``groups`` by the options' method."""
    method = options.method
    assert method is not None
    spread = float(np.std(data.y))
    if not spread > 1e-12 * max(float(np.abs(data.y).max()), 1e-300):
        raise EstimationError("Everybody has the same value.", hint="Leave this measure out.")
    if method in _FAMILIES:
        family: Any = _FAMILIES[method]
        return location_scale_curves(family, data, groups, options)
    return separate_curves(method, data, groups, options)


def _empty(ethnicity: int, data: CurveData) -> GroupCurves:
    return GroupCurves(
        ethnicity=ethnicity, n=data.n, trials=data.trials, age_low=math.nan, age_high=math.nan
    )


def too_few_trials(options: ReferenceOptions, trials: int) -> str | None:
    """Why a random trial effect asked for cannot be given, None where it can."""
    if options.trial_effect != "random" or trials >= RANDOM_FROM:
        return None
    return (
        f"--trial-effect random with {trials} trial{'s' * (trials != 1)}: how trials differ cannot "
        f"be told from fewer than {RANDOM_FROM}"
    )


# ------------------------------------------------------------------ rows


def limit_rows(found: SexCurves, options: ReferenceOptions) -> Iterator[ReferenceLimit]:
    """The rows of ``reference_ranges.csv``; one empty row a centile for a group without a curve."""
    for group, hide in zip(found.groups, found.hidden, strict=True):
        if not group.curves:
            yield from _suppressed(found, group, options, hide=hide)
        for fitted in group.curves:
            ages = ages_of(group, options)
            if not len(ages):
                continue
            limits = curve_limits(fitted, ages, options.centiles, options.ci_level / 100)
            for index, age in enumerate(ages):
                for number, centile in enumerate(options.centiles):
                    yield _row(
                        found,
                        group,
                        options,
                        hide=hide,
                        kind=fitted.kind,
                        age=float(age),
                        centile=centile,
                        limit=float(limits.limit[index, number]),
                        ci_low=float(limits.low[index, number]),
                        ci_high=float(limits.high[index, number]),
                        notes=(REARRANGED,) if limits.repaired[index] else (),
                    )


def ages_of(group: GroupCurves, options: ReferenceOptions) -> np.ndarray:
    """The ages to print: those asked for, or every 5 years, inside the observed ones."""
    if options.at_ages is not None:
        ages = np.array(sorted(set(options.at_ages)))
    else:
        ages = np.arange(math.ceil(group.age_low / _EVERY) * _EVERY, group.age_high + 1e-9, _EVERY)
    return ages[(ages >= group.age_low) & (ages <= group.age_high)]


def ethnicity_name(number: int) -> str:
    """``all`` for -1."""
    return ALL if number < 0 else ETHNICITIES[number]


def is_thin(group: GroupCurves, method: str, options: ReferenceOptions) -> bool:
    """True where the group's curve is drawn to the others' because it has too few people."""
    if group.ethnicity < 0:
        return False
    alone = method not in _FAMILIES and group.pooled and group.linked
    return group.n < options.min_n or alone


def _suppressed(
    found: SexCurves, group: GroupCurves, options: ReferenceOptions, *, hide: bool
) -> Iterator[ReferenceLimit]:
    bound = options.min_cell if group.n < options.min_cell else options.smallest_n
    for centile in options.centiles:
        yield _row(
            found, group, options, hide=hide, kind="population", centile=centile,
            notes=(f"n<{bound}",), below_n=bound,
        )  # fmt: skip


def _row(
    found: SexCurves, group: GroupCurves, options: ReferenceOptions, *, hide: bool, **values: Any
) -> ReferenceLimit:
    notes = list(values.pop("notes"))
    if hide and group.n >= options.min_cell:
        notes.append("n-withheld")
    status = "ok"
    if values.get("limit") is None:
        status = "suppressed"
    elif is_thin(group, found.method, options):
        status = "pooled-thin"
    elif group.trials == 1:
        status = "single-trial"
    if not group.linked:
        notes.append(UNLINKED)
    if status == "pooled-thin" and group.trials == 1:
        notes.append("single-trial")
    if not options.healthy_only:
        notes.append(NOT_A_REFERENCE)
    return ReferenceLimit(
        **{
            "measure": found.measure,
            "unit": found.unit,
            "method": found.method,
            "limits": "",
            "sex": found.sex,
            "ethnicity": ethnicity_name(group.ethnicity),
            "age_low": None,
            "age_high": None,
            "age": None,
            "n": None if hide else group.n,
            "n_trials": None if group.n < options.min_cell else group.trials,
            "limit": None,
            "ci_low": None,
            "ci_high": None,
            "ci_level": options.ci_level,
            "status": status,
            "notes": tuple(notes),
            **values,
        }
    )


# ------------------------------------------------------------------ lines and documents


def curve_lines(found: SexCurves, options: ReferenceOptions) -> Iterator[CurveLine]:
    """Every curve at half years."""
    for group in found.groups:
        for fitted in group.curves:
            if group.age_high <= group.age_low:
                continue
            ages = np.linspace(
                group.age_low, group.age_high, int(2 * (group.age_high - group.age_low)) + 1
            )
            yield CurveLine(
                measure=found.measure,
                unit=found.unit,
                method=found.method,
                sex=found.sex,
                ethnicity=ethnicity_name(group.ethnicity),
                kind=fitted.kind,
                thin=is_thin(group, found.method, options),
                ages=ages,
                centiles=options.centiles,
                limits=curve_limits(fitted, ages, options.centiles, options.ci_level / 100),
            )


def curve_models(found: SexCurves, options: ReferenceOptions) -> Iterator[dict[str, Any]]:
    """The curves for ``reference_ranges.json``."""
    for group, hide in zip(found.groups, found.hidden, strict=True):
        for fitted in group.curves:
            yield {
                "printed": _printed(fitted, ages_of(group, options), options),
                "measure": found.measure,
                "unit": found.unit,
                "method": found.method,
                "kind": fitted.kind,
                "sex": found.sex,
                "ethnicity": ethnicity_name(group.ethnicity),
                "n": None if hide else group.n,
                "n_trials": group.trials,
                "pooled_thin": is_thin(group, found.method, options),
                "provisional": group.ethnicity >= 0,
                **curve_document(fitted.curve),
            }


def _printed(
    fitted: FittedCurve, ages: np.ndarray, options: ReferenceOptions
) -> dict[str, Any] | None:
    """The intervals of the limits at the printed ages, None where no age is printed."""
    if not len(ages):
        return None
    limits = curve_limits(fitted, ages, options.centiles, options.ci_level / 100)
    return {
        "ages": ages.tolist(),
        "centiles": list(options.centiles),
        "ci_low": limits.low.tolist(),
        "ci_high": limits.high.tolist(),
    }


def headline(group: GroupCurves) -> FittedCurve:
    """The curve that judges people of any trial: marginal where there is one."""
    return group.curves[0]


_GROUPS = 10
_PER_GROUP = 50
_WORM_CENTILES = (2.5, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 97.5)


# ------------------------------------------------------------------ shares outside


def calibrate_curves(
    found: SexCurves, trials: Sequence[str], options: ReferenceOptions
) -> Iterator[Calibration]:
    """The people fitted, by age third, and those of each trial by curves made without it."""
    data = found.data
    left = tuple(_left_out(found, options)) if len(trials) > 1 else ()
    for group in found.groups:
        if not group.curves:
            continue
        name = ethnicity_name(group.ethnicity)
        empty = Calibration(
            measure=found.measure,
            unit=found.unit,
            method=found.method,
            sex=found.sex,
            ethnicity=name,
            check="fitted",
            group="all",
            n=None,
            below_percent=None,
            above_percent=None,
            expected_below_percent=None,
            expected_above_percent=None,
            notes=(headline(group).kind,),
        )
        mine = data.at(_of_group(data, group.ethnicity))
        sides = outside(headline(group), mine, options)
        yield filled(empty, *sides, options)
        for third, inside in age_thirds(mine.age):
            row = replace(empty, check="age-third", group=third)
            yield filled(row, sides[0][inside], sides[1][inside], options)
        for trial, people, groups in left:
            other = groups.get(group.ethnicity)
            his = people.at(_of_group(people, group.ethnicity))
            if other is None or not his.n:
                continue
            row = replace(
                empty, check="left-out-trial", group=trials[trial], notes=(headline(other).kind,)
            )
            yield filled(row, *outside(headline(other), his, options), options)


def _of_group(data: CurveData, ethnicity: int) -> np.ndarray:
    return np.ones(data.n, dtype=bool) if ethnicity < 0 else data.ethnicity == ethnicity


def outside(
    fitted: FittedCurve, data: CurveData, options: ReferenceOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Who lies strictly below the lower and above the upper limit at their own age.

    People beyond the curve's ages are judged by the limit at its end.
    """
    ages, code = np.unique(np.round(data.age, 1), return_inverse=True)
    inside = np.clip(ages, fitted.curve.age_low, fitted.curve.age_high)
    outer = [c for c in options.centiles if c != 50]
    limits = np.sort(fitted.curve.limits(inside, outer), axis=1)[code]
    nobody = np.zeros(data.n, dtype=bool)
    below = data.y < limits[:, 0] if options.sided != "upper" else nobody
    above = data.y > limits[:, -1] if options.sided != "lower" else nobody
    return below, above


def _left_out(
    found: SexCurves, options: ReferenceOptions
) -> Iterator[tuple[int, CurveData, dict[int, GroupCurves]]]:
    """Each trial, its people, and the curves of all others (by the same kind of trial effect)."""
    data = found.data
    everybody = found.groups[0]
    if not everybody.curves:
        return
    options = replace(options, quick=True)
    if headline(everybody).kind == "marginal":
        options = replace(options, trial_effect=KEPT_RANDOM)
    for trial in np.unique(data.trial).tolist():
        mine = data.trial == trial
        rest = data.at(~mine)
        if rest.n < options.smallest_n:
            continue
        groups = [
            g.ethnicity
            for g in found.groups
            if g.ethnicity >= 0 and np.sum(rest.ethnicity == g.ethnicity) >= options.min_cell
        ]
        try:
            fits = estimate_groups(rest, groups, options)
        except EstimationError:
            continue  # too few others to say anything of this trial
        yield trial, data.at(mine), {g.ethnicity: g for g in fits}


# ------------------------------------------------------------------ Q statistics and worms


def own_z_scores(found: SexCurves) -> np.ndarray | None:
    """The z of everybody of a sex within their own trial; None for a method without z."""
    everybody = found.groups[0]
    if not everybody.curves or everybody.curves[-1].curve.family == "quantile":
        return None
    curve = everybody.curves[-1].curve
    data = found.data
    first, function = next(iter(curve.functions.items()))
    z = np.empty(data.n)
    for trial in np.unique(data.trial).tolist():
        mine = data.trial == trial
        moved = replace(function, offset=function.offset + everybody.trial_effects.get(trial, 0.0))
        his = replace(curve, tau=0.0, functions={**curve.functions, first: moved})
        z[mine] = his.z_scores(data.y[mine], data.age[mine])
    return z


def q_statistics(found: SexCurves) -> QStatistics | None:
    """Royston & Wright's Q over up to ten age groups; None for fewer than three groups of 50."""
    z = own_z_scores(found)
    if z is None:
        return None
    groups = min(_GROUPS, found.data.n // _PER_GROUP)
    if groups < 3:
        return None
    order = np.argsort(found.data.age, kind="stable")
    parts = [z[rows] for rows in np.array_split(order, groups)]
    squares = np.array([_normal_scores(part) for part in parts]) ** 2
    q = squares.sum(axis=0)
    # The smooths have taken some of the mean's and the variance's (half: Royston & Wright).
    edf = found.groups[0].edf or (1.0, 1.0)
    freedom = [max(groups - edf[0], 1.0), max(groups - (edf[1] + 1) / 2, 1.0), groups, groups]
    p = [float(special.chdtrc(df, value)) for df, value in zip(freedom, q, strict=True)]
    return QStatistics(
        measure=found.measure,
        method=found.method,
        sex=found.sex,
        n=found.data.n,
        groups=groups,
        q_mean=float(q[0]),
        p_mean=p[0],
        q_variance=float(q[1]),
        p_variance=p[1],
        q_skewness=float(q[2]),
        p_skewness=p[2],
        q_kurtosis=float(q[3]),
        p_kurtosis=p[3],
    )


def _normal_scores(z: np.ndarray) -> tuple[float, float, float, float]:
    """Standard normal statistics of a group's mean, variance, skewness and kurtosis.

    Variance by Wilson & Hilferty's cube root, skewness by D'Agostino's, kurtosis by Anscombe &
    Glynn's transformation.
    """
    n = len(z)
    mean = float(z.mean()) * np.sqrt(n)
    spread = float(z.var(ddof=1))
    share = 2 / (9 * (n - 1))
    variance = (spread ** (1 / 3) - (1 - share)) / np.sqrt(share)
    return (
        float(mean),
        float(variance),
        skewness_score(z),
        kurtosis_score(z),
    )


def skewness_score(z: np.ndarray) -> float:
    """D'Agostino's normal score of the sample skewness (Biometrika 1970;57:679-81); n ≥ 8."""
    n, c = len(z), z - z.mean()
    skewness = float(np.mean(c**3) / np.mean(c**2) ** 1.5)
    y = skewness * np.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    beta2 = 3.0 * (n**2 + 27 * n - 70) * (n + 1) * (n + 3)
    beta2 /= (n - 2) * (n + 5) * (n + 7) * (n + 9)
    w2 = np.sqrt(2 * (beta2 - 1)) - 1
    return float(np.arcsinh(y / np.sqrt(2 / (w2 - 1))) / np.sqrt(0.5 * np.log(w2)))


def kurtosis_score(z: np.ndarray) -> float:
    """Anscombe and Glynn's normal score of the kurtosis (Biometrika 1983;70:227-34); n ≥ 20."""
    n, c = len(z), z - z.mean()
    kurtosis = float(np.mean(c**4) / np.mean(c**2) ** 2)
    mean = 3 * (n - 1) / (n + 1)
    variance = 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    x = (kurtosis - mean) / np.sqrt(variance)
    skew = 6.0 * (n**2 - 5 * n + 2) / ((n + 7) * (n + 9))
    skew *= np.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    a = 6 + 8 / skew * (2 / skew + np.sqrt(1 + 4 / skew**2))
    root = (1 - 2 / a) / (1 + x * np.sqrt(2 / (a - 4)))
    return float((1 - 2 / (9 * a) - np.cbrt(root)) / np.sqrt(2 / (9 * a)))


def worms(found: SexCurves, options: ReferenceOptions) -> Iterator[Worm]:
    """A worm for each age third (all ages where there are too few people)."""
    z = own_z_scores(found)
    if z is None:
        return
    thirds = list(age_thirds(found.data.age)) or [("all ages", np.ones(len(z), dtype=bool))]
    for name, inside in thirds:
        part = np.sort(z[inside])
        n = len(part)
        # At least as many people beyond each point as may be told of.
        usable = [c for c in _WORM_CENTILES if min(c, 100 - c) / 100 * (n + 1) >= options.min_cell]
        if len(usable) < 3:
            continue
        p = np.array(usable) / 100
        expected = special.ndtri(p)
        density = np.exp(-(expected**2) / 2) / np.sqrt(2 * np.pi)
        yield Worm(
            measure=found.measure,
            method=found.method,
            sex=found.sex,
            ages=name,
            n=n,
            expected=expected,
            deviation=np.quantile(part, p, method="weibull") - expected,
            half_width=1.96 * np.sqrt(p * (1 - p) / n) / density,
        )


STRATA: Method = "strata"
DEFAULT_CURVE: Method = "lms"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureCurves:
    """The curves' part of every output for one measure; ``warnings`` say what is missing."""

    limits: tuple[ReferenceLimit, ...] = ()
    calibration: tuple[Calibration, ...] = ()
    models: tuple[Mapping[str, Any], ...] = ()
    lines: tuple[CurveLine, ...] = ()
    people: tuple[CurvePeople, ...] = ()
    q_statistics: tuple[QStatistics, ...] = ()
    worms: tuple[Worm, ...] = ()
    warnings: tuple[str, ...] = ()
    failed: EstimationError | None = None


def methods_of(options: ReferenceOptions, people: People) -> tuple[Method, ...]:
    """The method asked for; without one, strata and, where ages vary, LMS curves."""
    if options.method is not None:
        return (options.method,)
    if options.repeated:
        return (STRATA,)
    ages = people.age_years[np.isfinite(people.age_years)]
    return (STRATA, DEFAULT_CURVE) if len(np.unique(ages)) >= 5 else (STRATA,)


def with_ages(options: ReferenceOptions, table: CohortTable) -> ReferenceOptions:
    """The options of a curve, whose people must have an age; TableError where nobody has one."""
    if options.method in (None, STRATA, "meta"):
        return options
    if "age_years" not in table.rows or not table.rows["age_years"].notna().any():
        raise TableError(
            f"--method {options.method} needs ages, and the table has none.",
            hint="Name the column with --age, or use --method strata.",
        )
    if options.by is None or "age" in options.by:
        return options
    return replace(options, by=(*options.by, "age"))


def check_trials(people: People, methods: Sequence[Method], options: ReferenceOptions) -> None:
    """Refuse a random trial effect of a few trials; raises EstimationError."""
    if methods == (STRATA,):
        return
    why = too_few_trials(options, len(people.trials))
    if why is not None:
        raise EstimationError(
            f"{why}.", hint="Use --trial-effect fixed (or auto), which keeps these trials as such."
        )


def measure_curves(
    measure: str, unit: str, people: People, values: np.ndarray, options: ReferenceOptions
) -> MeasureCurves:
    """The curves of ``options.method`` and their checks."""
    if options.method in NEEDS_POSITIVE and np.any(values <= 0):
        few = int(np.sum(values <= 0))
        how_many = f"fewer than {options.min_cell}" if few < options.min_cell else str(few)
        return MeasureCurves(
            warnings=(
                f"{measure} has no {options.method} curves: {how_many} values are 0 or less.",
            )
        )
    try:
        found = fit_curves(measure, unit, people, values, options)
    except EstimationError as error:
        warning = f"{measure} has no {options.method} curves. {error}"
        return MeasureCurves(warnings=(warning,), failed=error)
    return MeasureCurves(
        limits=tuple(row for f in found for row in limit_rows(f, options)),
        calibration=tuple(
            row for f in found for row in calibrate_curves(f, people.trials, options)
        ),
        models=tuple(model for f in found for model in curve_models(f, options)),
        lines=tuple(line for f in found for line in curve_lines(f, options)),
        people=tuple(_people_behind(found)) if options.internal else (),
        q_statistics=tuple(q for f in found if (q := q_statistics(f)) is not None),
        worms=tuple(worm for f in found for worm in worms(f, options)),
        warnings=tuple(_warnings(found, options)),
    )


def _people_behind(found: Sequence[SexCurves]) -> Iterator[CurvePeople]:
    for curves in found:
        yield CurvePeople(
            measure=curves.measure,
            method=curves.method,
            sex=curves.sex,
            age=curves.data.age,
            value=curves.data.y,
        )


def curve_rows_alone(
    measure: str, unit: str, people: People, values: np.ndarray, options: ReferenceOptions
) -> tuple[ReferenceLimit, ...]:
    """Just the limits, for a sensitivity; none where the model cannot be fitted."""
    if options.method in NEEDS_POSITIVE and np.any(values <= 0):
        return ()
    try:
        found = fit_curves(measure, unit, people, values, options)
    except EstimationError:
        return ()
    return tuple(row for f in found for row in limit_rows(f, options))


def _warnings(found: Sequence[SexCurves], options: ReferenceOptions) -> list[str]:
    said = []
    asked = options.at_ages or ()
    for curves in found:
        everybody = curves.groups[0]
        if not everybody.curves:
            who = {"male": "men", "female": "women"}.get(curves.sex, "everybody")
            said.append(f"{curves.measure}: too few {who} for a curve.")
            continue
        low, high = everybody.age_low, everybody.age_high
        outside = [f"{age:g}" for age in asked if not low <= age <= high]
        if outside:
            who = {"male": " in men", "female": " in women"}.get(curves.sex, "")
            said.append(
                f"{curves.measure}: no curve at {', '.join(outside)} years{who}, where nobody (or "
                f"hardly anybody) was observed; observed are {low:g} to {high:g}."
            )
    return said
