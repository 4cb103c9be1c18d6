"""Limits by age as curves: for each measure and sex, everybody and each ethnicity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import EstimationError
from ...records import ETHNICITIES, SEXES, ReferenceLimit
from ..disclosure import hidden_counts
from ..options import NOT_A_REFERENCE, Method, ReferenceOptions
from ..select import People
from ..strata.groups import ALL
from .curve import curve_document
from .data import RANDOM_FROM, CurveData, FittedCurve, GroupCurves, curve_data
from .limits import CurveLimits, curve_limits
from .location_scale import location_scale_curves
from .per_group import separate_curves

_EVERY = 5.0
REARRANGED = "rearranged"
UNLINKED = "level-of-all: no trial has this group and another"
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
            notes=(f"n<{bound}",),
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
            "note": "; ".join(notes),
            **values,
        }
    )


# ------------------------------------------------------------------ lines and documents


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveLine:
    """A group's curve as it is drawn: arrays ``[ages]`` and ``[ages, centiles]``."""

    measure: str
    unit: str
    method: str
    sex: str
    ethnicity: str
    kind: str
    thin: bool
    ages: np.ndarray
    centiles: tuple[float, ...]
    limits: CurveLimits


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


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePeople:
    """The people behind a sex's curves, for internal pages alone: arrays ``[n]``."""

    measure: str
    method: str
    sex: str
    age: np.ndarray
    value: np.ndarray


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
