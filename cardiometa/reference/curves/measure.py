"""Everything that curves give for one measure, and what is said where they cannot be given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import EstimationError, TableError
from ...records import CohortTable, ReferenceLimit
from ..options import Method, ReferenceOptions
from ..results import Calibration
from ..select import NEEDS_POSITIVE, People
from .checks import QStatistics, Worm, calibrate_curves, q_statistics, worms
from .curves import (
    CurveLine,
    CurvePeople,
    SexCurves,
    curve_lines,
    curve_models,
    fit_curves,
    limit_rows,
    too_few_trials,
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
