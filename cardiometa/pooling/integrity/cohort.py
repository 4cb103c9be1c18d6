"""Checks of a trial against the others, of its days, its allocation and its last digits.

Like those of `integrity` they change nothing: a finding asks a person to look (IPD Integrity Tool,
Hunter et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from ...records import CohortTable
from ..endpoint.accessors import number_column, text_column
from ..endpoint.arm_counts import compared
from ..first_stage.first_stage import natural
from ..options import EVENTS, PoolingOptions
from ..results import IntegrityRow

_RATIOS = ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2))
_UNLIKELY = 0.001
_SPREAD = 2.0
_UNIT = 5.0
_LEAST_DIGITS = 100
_MOST_DECIMALS = 3
_COPIED = 0.99
_FEW = 8
_FINGERPRINT = ("age_years", "height_cm", "weight_kg")
_LEAST_COLUMNS = 3


def cohort_checks(
    table: CohortTable, people: pd.DataFrame, options: PoolingOptions
) -> tuple[IntegrityRow, ...]:
    """Every check of every trial; ``people`` is the endpoint's with `with_fate`."""
    randomised = compared(people)
    rows: list[IntegrityRow] = [*_spreads(randomised, options), *_duplicates(table, options)]
    trials = text_column(table.rows, "trial")
    for trial in sorted(set(trials), key=natural):
        part = table.rows[trials == trial]
        mine = randomised[randomised["trial"] == trial]
        rows += _allocation(trial, mine)
        rows += _copied_followup(trial, mine)
        rows += _days(trial, part, people[people["trial"] == trial], options)
        rows += _last_digits(trial, part, options)
    return tuple(rows)


def unit_warnings(rows: Sequence[IntegrityRow]) -> list[str]:
    """One sentence for each trial whose outcome looks as if in another unit."""
    return [
        f"{row.trial}: the outcome's spread is {row.value:.3g} times that of the other trials, and "
        "so is its mean: is it in another unit? Pooling it as it is would make no sense."
        for row in rows
        if row.other_unit
    ]


def _row(
    trial: str, check: str, *, look: bool, sentence: str, **cells: float | None
) -> IntegrityRow:
    checked, found = cells.get("checked"), cells.get("found")
    return IntegrityRow(
        trial=trial,
        check=check,
        result="look" if look else "ok",
        n_checked=None if checked is None else int(checked),
        n_found=None if found is None else int(found),
        value=cells.get("value"),
        sentence=sentence,
    )


def _spreads(people: pd.DataFrame, options: PoolingOptions) -> Iterable[IntegrityRow]:
    """Within-arm SD of the outcome of each trial against the median of the others."""
    if options.effect in EVENTS:
        return
    known = people[people["outcome"].notna()]
    found: dict[str, Spread] = {}
    for trial, part in known.groupby("trial"):
        inner = part["outcome"] - part.groupby("arm")["outcome"].transform("mean")
        found[str(trial)] = Spread(
            squares=float((inner**2).sum()),
            df=len(part) - part["arm"].nunique(),
            mean=float(part["outcome"].mean()),
            n=len(part),
        )
    yield from spread_rows(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A trial's outcome: sum of squares within arms with its ``df``, mean, people."""

    squares: float
    df: int
    mean: float
    n: int


def spread_rows(trials: Mapping[str, Spread]) -> Iterable[IntegrityRow]:
    """Each trial's SD within arms against the median of the others."""
    usable = {t: one for t, one in trials.items() if one.df >= _FEW and one.squares > 0}
    spread = {trial: math.sqrt(one.squares / one.df) for trial, one in usable.items()}
    mean = {trial: one.mean for trial, one in usable.items()}
    size = {trial: one.n for trial, one in usable.items()}
    for trial in sorted(spread, key=natural):
        others = [spread[name] for name in spread if name != trial]
        if not others:
            continue
        ratio = spread[trial] / float(np.median(others))
        middle = float(np.median([mean[name] for name in spread if name != trial]))
        shift = mean[trial] / middle if middle else math.nan
        look = ratio > _SPREAD or ratio < 1 / _SPREAD
        unit = all(x > _UNIT or 0 < x < 1 / _UNIT for x in (ratio, shift))
        row = _row(
            trial,
            "sd-ratio",
            look=look,
            sentence="SD of the outcome within arms, over the median of the other trials"
            + (": another unit?" if unit and look else ""),
            value=ratio,
            checked=size[trial],
        )
        yield replace(row, other_unit=unit and look)


def _duplicates(table: CohortTable, options: PoolingOptions) -> Iterable[IntegrityRow]:
    """Rows of one trial that stand in another trial too, number for number."""
    wanted = [*table.measures, options.baseline_column, options.outcome, *_FINGERPRINT]
    names = [name for name in dict.fromkeys(wanted) if name and name in table.rows]
    if options.effect in EVENTS:
        names = [name for name in names if name != options.event_column]
    values = pd.DataFrame({name: number_column(table.rows, name) for name in names})
    values = values.dropna(axis=1, how="all").dropna()
    trials = text_column(table.rows, "trial")
    if len(values.columns) < _LEAST_COLUMNS or trials.nunique() < 2:
        return
    keys = values.assign(trial=trials[values.index])
    several = keys.groupby(list(values.columns))["trial"].transform("nunique") > 1
    for trial, part in several.groupby(keys["trial"]):
        yield _row(
            str(trial),
            "duplicates-across-trials",
            look=bool(part.any()),
            sentence="rows that stand in another trial too, number for number",
            checked=len(part),
            found=int(part.sum()),
        )


def _copied_followup(trial: str, people: pd.DataFrame) -> Iterable[IntegrityRow]:
    """Follow-up values that are the baseline over again: nobody is measured so exactly."""
    both = people[people["baseline"].notna() & people["outcome"].notna()]
    if len(both) < _FEW or both["baseline"].std() == 0 or both["outcome"].std() == 0:
        return
    r = float(both["baseline"].corr(both["outcome"]))
    look = r > _COPIED
    yield _row(
        trial,
        "followup-like-baseline",
        look=look,
        sentence="correlation of baseline and follow-up"
        + (": were values carried forward or copied?" if look else ""),
        value=r,
        checked=len(both),
    )


def _allocation(trial: str, people: pd.DataFrame) -> Iterable[IntegrityRow]:
    """The sizes of the arms against the usual allocation ratios."""
    counts = people["arm"].value_counts().sort_index()
    if len(counts) < 2:
        return
    if len(counts) > 2:
        p = float(stats.chisquare(counts).pvalue)
    else:
        first, n = int(counts.iloc[0]), int(counts.sum())
        p = max(float(stats.binomtest(first, n, a / (a + b)).pvalue) for a, b in _RATIOS)
    look = p < _UNLIKELY
    yield _row(
        trial,
        "allocation",
        look=look,
        sentence="largest arm over smallest"
        + (": no usual allocation ratio gives such numbers by chance" if look else ""),
        value=float(counts.max() / counts.min()),
        checked=int(counts.sum()),
    )


def _days(
    trial: str, rows: pd.DataFrame, people: pd.DataFrame, options: PoolingOptions
) -> Iterable[IntegrityRow]:
    """Baseline scans after randomisation, follow-up before baseline, scans after death."""
    if "visit_day" not in rows or "visit" not in rows:
        return
    day = number_column(rows, "visit_day")
    visit = text_column(rows, "visit")
    before = day[visit == options.baseline_visit]
    if before.notna().any():
        late = int((before > 0).sum())
        yield _row(
            trial,
            "baseline-before-treatment",
            look=late > 0,
            sentence="baseline scans on a day after randomisation",
            checked=int(before.notna().sum()),
            found=late,
        )
    person = text_column(rows, "participant_id")
    first = before.groupby(person[before.index]).min()
    later = people.set_index("participant_id")["visit_day"].astype(float)
    both = pd.DataFrame({"first": first, "later": later}).dropna()
    if len(both):
        wrong = int((both["later"] <= both["first"]).sum())
        yield _row(
            trial,
            "date-order",
            look=wrong > 0,
            sentence="people whose follow-up is not after their baseline",
            checked=len(both),
            found=wrong,
        )
    died = people[people["death_day"].notna() & people["visit_day"].notna()]
    if len(died):
        wrong = int((died["visit_day"].astype(float) > died["death_day"]).sum())
        yield _row(
            trial,
            "scan-after-death",
            look=wrong > 0,
            sentence="people scanned after the day of their death",
            checked=len(died),
            found=wrong,
        )


def _last_digits(trial: str, rows: pd.DataFrame, options: PoolingOptions) -> Iterable[IntegrityRow]:
    """Whether the last digits of rounded values are equally frequent (chi-squared, 9 df)."""
    for name in dict.fromkeys([options.outcome, options.baseline_column or ""]):
        if options.effect in EVENTS or name not in rows:
            continue
        values = number_column(rows, name).dropna().to_numpy()
        decimals = _decimals(values)
        if decimals is None or len(values) < _LEAST_DIGITS:
            continue
        digits = np.round(np.abs(values) * 10**decimals).astype(np.int64) % 10
        counts = np.bincount(digits, minlength=10)
        p = float(stats.chisquare(counts).pvalue)
        yield _row(
            trial,
            f"last-digits-{name.replace('_', '-')}",
            look=p < _UNLIKELY,
            sentence=f"share of the commonest last digit of {name}"
            + (": some digits are preferred" if p < _UNLIKELY else ""),
            value=float(counts.max() / counts.sum()),
            checked=len(values),
        )


def _decimals(values: np.ndarray) -> int | None:
    """How many decimals the values are rounded to; None for more than three."""
    for decimals in range(_MOST_DECIMALS + 1):
        scaled = values * 10**decimals
        if np.allclose(scaled, np.round(scaled), rtol=0, atol=1e-6):
            return decimals
    return None
