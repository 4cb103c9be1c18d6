"""Values that no heart has, and values that a method cannot take: refused before anything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..errors import Problem, TableError
from ..measurement.measures import definition
from .options import Method, ReferenceOptions
from .people import People

NEEDS_POSITIVE = ("lms",)
# A volume or mass below it is one in litres or kilograms.
_LITRES = {"mL": 2.0, "mL/m2": 1.0, "g": 2.0, "g/m2": 1.0}
_NEVER_NEGATIVE = (*_LITRES, "%", "bpm", "L/min", "L/min/m2", "m2", "cm", "kg")
_FEW = 3
_MOST_NAMED = 200


def check_values(people: People, measures: Sequence[str]) -> None:
    """Refuse negative values and those in litres or kilograms; raises TableError with all of them.

    Of the measures known by name: a column of the user's own may hold anything.
    """
    negative = [p for measure in measures for p in _negative(people, measure)]
    if negative:
        raise TableError(
            "A measure has negative values.",
            hint="Correct them, or leave them blank: an unknown value is left out and counted.",
            problems=negative,
        )
    litres = [p for measure in measures for p in _litres(people, measure)]
    if litres:
        raise TableError(
            "The unit of a measure is wrong.",
            hint="Give volumes in mL and masses in g, or map the unit in [columns] of --config.",
            problems=litres,
        )


def _negative(people: People, measure: str) -> Iterator[Problem]:
    known = definition(measure)
    if known.unit not in _NEVER_NEGATIVE:
        return
    values = people.values(measure)
    for row in np.flatnonzero(values < 0)[:_MOST_NAMED].tolist():
        keys = people.keys
        names = (keys.trial[row], keys.participant[row], keys.visit[row])
        yield Problem(
            where=f"{measure}, {'/'.join(name for name in names if name)}",
            what=f"{values[row]:g} {known.unit}",
            why="It cannot be below 0.",
        )


def _litres(people: People, measure: str) -> Iterator[Problem]:
    """A trial's values in litres or kilograms: half of them, or some that 1,000 times would fit.

    No trial of adults has a median LV or RV volume of 2 mL or a mass of 2 g.
    """
    unit = definition(measure).unit
    least = _LITRES.get(unit)
    if least is None:
        return
    values = people.values(measure)
    for number, trial in enumerate(people.trials):
        mine = values[(people.trial == number) & np.isfinite(values) & (values != 0)]
        if len(mine) < _FEW:
            continue
        small, rest = mine[mine < least], mine[mine >= least]
        many = bool(np.median(mine) < least)
        fit = 0
        if len(rest) and not many:
            low, high = np.quantile(rest, [0.01, 0.99])
            fit = int(np.sum((1000 * small >= low) & (1000 * small <= high)))
        if many or fit >= _FEW:
            yield Problem(
                where=f"{measure}, trial {trial}",
                what=f"{'half of the' if many else fit} values are below {least:g} {unit}",
                why="They look like litres or kilograms.",
            )


def check_positive(
    people: People, measures: Sequence[str], methods: Sequence[Method], options: ReferenceOptions
) -> None:
    """Refuse values that the method named cannot take; raises TableError with their counts."""
    by_name = options.method in NEEDS_POSITIVE
    what = f"--method {options.method}" if by_name else f"--limits {options.limits}"
    banded = "strata" in methods or "meta" in methods
    if not by_name and (options.limits not in ("log", "boxcox") or not banded):
        return
    problems = [
        Problem(where=name, what=f"{count} values are 0 or less")
        for name in measures
        if (count := int(np.sum(people.values(name) <= 0)))
    ]
    if problems:
        other = "another --method" if by_name else "other --limits"
        raise TableError(
            f"{what} needs positive values.",
            hint=f"Choose {other}, or name the measures that are positive with --measure.",
            problems=problems,
        )
