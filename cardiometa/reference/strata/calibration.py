"""``calibration.csv``: how many people lie outside their own stratum's limits.

Right limits leave the same share outside at every age and in a trial that they were not made of;
a share that drifts over the age thirds shows a band that hides a trend, one that leaps in a
left-out trial shows a difference between trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np

from ..options import Method, ReferenceOptions
from ..results import Calibration
from ..select import People
from .limits import Limit
from .stratum_fit import FittedCell

_Check = Literal["fitted", "age-third", "left-out-trial"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outside:
    """People of one cell, ``[n]``: who they are and on which side of the limits they lie."""

    members: np.ndarray
    below: np.ndarray
    above: np.ndarray


def calibrate(
    measure: str,
    unit: str,
    fitted: Sequence[FittedCell],
    people: People,
    options: ReferenceOptions,
    *,
    method: Method = "strata",
) -> Iterator[Calibration]:
    """Rows for each sex and ethnicity, age bands together; groups below ``min_n`` stay empty."""
    has_limits = [f for f in fitted if f.rule is not None]
    for (sex, ethnicity), group in groupby(
        has_limits, key=lambda f: (f.cell.key.sex, f.cell.key.ethnicity)
    ):
        cells = list(group)
        empty = Calibration(
            measure=measure,
            unit=unit,
            method=method,
            sex=sex,
            ethnicity=ethnicity,
            check="fitted",
            group="all",
            n=None,
            below_percent=None,
            above_percent=None,
            expected_below_percent=None,
            expected_above_percent=None,
        )
        for check, name, outside in _checks(cells, people, options):
            row = replace(empty, check=check, group=name)
            n = people.count_of(outside.members)
            yield filled(row, outside.below, outside.above, options, people=n)


def _checks(
    cells: Sequence[FittedCell], people: People, options: ReferenceOptions
) -> Iterator[tuple[_Check, str, _Outside]]:
    together = _joined([_sides(f, f.limits, None, options) for f in cells])
    yield "fitted", "all", together
    for name, inside in age_thirds(people.age_years[together.members]):
        yield "age-third", name, _subset(together, inside)
    if len(people.trials) < 2:
        return
    for trial, name in enumerate(people.trials):
        parts = [_sides(f, f.without[trial], trial, options) for f in cells if trial in f.without]
        if parts:
            yield "left-out-trial", name, _joined(parts)


def _sides(
    fitted: FittedCell, limits: Sequence[Limit], trial: int | None, options: ReferenceOptions
) -> _Outside:
    """Who of a cell (of one trial, or all) lies strictly outside ``limits``."""
    cell = fitted.cell
    mine = np.ones(len(cell.ordered), dtype=bool) if trial is None else cell.trial == trial
    values = cell.ordered[mine]
    low, high = _lower_upper(limits)
    nobody = np.zeros(len(values), dtype=bool)
    return _Outside(
        members=cell.members[mine],
        below=nobody if low is None or options.sided == "upper" else values < low,
        above=nobody if high is None or options.sided == "lower" else values > high,
    )


def _lower_upper(limits: Sequence[Limit]) -> tuple[float | None, float | None]:
    low = next((found.limit for found in limits if found.centile < 50), None)
    high = next((found.limit for found in limits if found.centile > 50), None)
    return low, high


def _joined(parts: Sequence[_Outside]) -> _Outside:
    return _Outside(
        members=np.concatenate([p.members for p in parts]),
        below=np.concatenate([p.below for p in parts]),
        above=np.concatenate([p.above for p in parts]),
    )


def _subset(outside: _Outside, inside: np.ndarray) -> _Outside:
    return _Outside(
        members=outside.members[inside], below=outside.below[inside], above=outside.above[inside]
    )


def age_thirds(age_years: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Thirds of the known ages, cut at whole years (an exact cut would be a person's age)."""
    known = age_years[np.isfinite(age_years)]
    if not len(known):
        return
    first, second = np.round(np.quantile(known, [1 / 3, 2 / 3], method="weibull"))
    if first == second:
        return
    yield f"<{first:g}", age_years < first
    yield f"{first:g}-{second:g}", (age_years >= first) & (age_years < second)
    yield f">={second:g}", age_years >= second


def filled(
    empty: Calibration,
    below: np.ndarray,
    above: np.ndarray,
    options: ReferenceOptions,
    *,
    people: int | None = None,
) -> Calibration:
    """The row with its shares: ``below`` and ``above`` ``[n]`` tell who lies outside.

    ``people``: how many they are, where one may stand there several times.
    """
    n = len(below) if people is None else people
    if n < options.smallest_n:
        few = n < options.min_cell
        note = f"n<{options.min_cell}" if few else f"n<{options.smallest_n}"
        return replace(
            empty, n=None if few else n, note="; ".join(filter(None, (empty.note, note)))
        )
    expected = 100 - options.level if options.sided != "two" else (100 - options.level) / 2
    has_low, has_high = options.sided != "upper", options.sided != "lower"
    return replace(
        empty,
        n=n,
        below_percent=100 * float(below.mean()) if has_low else None,
        above_percent=100 * float(above.mean()) if has_high else None,
        expected_below_percent=expected if has_low else None,
        expected_above_percent=expected if has_high else None,
    )
