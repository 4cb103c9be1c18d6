"""What became of each participant before the follow-up scan: died, withdrew, or was to come."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from ..errors import Problem, TableError
from ..records import CohortTable
from .columns import number_column, text_column
from .endpoint import KEY, Endpoint
from .options import PoolingOptions


def with_fate(
    endpoint: Endpoint, table: CohortTable, options: PoolingOptions, roster: pd.DataFrame | None
) -> Endpoint:
    """The endpoint with ``death_day, withdrawal_day, died, withdrew, deaths_recorded`` of each.

    *Died* is before the follow-up: the day asked for, else the median scan day of the trial, and
    not scanned then. Without any day of the scans, every recorded death of someone who was not
    scanned counts. Days come from the roster, the table, and rows of failed scans.
    """
    people = endpoint.people.copy()
    for name in ("death_day", "withdrawal_day"):
        people[name] = _days(people, table, roster, name)
    people["deaths_recorded"] = people.groupby("trial")["death_day"].transform(
        lambda days: days.notna().any()
    )
    for day, what in (("death_day", "died"), ("withdrawal_day", "withdrew")):
        people[what] = _before_followup(people, day, options.followup_day) & ~people["came"]
    people["withdrew"] &= ~people["died"]
    return replace(endpoint, people=people)


def _days(
    people: pd.DataFrame, table: CohortTable, roster: pd.DataFrame | None, name: str
) -> pd.Series:
    parts = []
    for source in (roster, table.rows, table.unused):
        if source is not None and name in source:
            keys = {column: text_column(source, column) for column in KEY}
            parts.append(pd.DataFrame({**keys, name: number_column(source, name)}))
    if not parts:
        return pd.Series(float("nan"), index=people.index)
    days = pd.concat(parts).dropna().drop_duplicates()
    twice = days[days.duplicated(KEY)].drop_duplicates(KEY)
    if len(twice):
        raise TableError(
            f"The {name} changes within a participant.",
            hint="A person has one such day: correct the rows.",
            problems=[
                Problem(where=f"trial {trial}", what=f"{len(part)} participants with several days")
                for trial, part in twice.groupby("trial")
            ],
        )
    merged = people[KEY].merge(days, on=KEY, how="left")[name]
    merged.index = people.index
    return merged


def _before_followup(people: pd.DataFrame, day: str, followup_day: float | None) -> pd.Series:
    if followup_day is None:
        typical = people.groupby("trial")["visit_day"].transform("median").astype(float)
    else:
        typical = pd.Series(followup_day, index=people.index)
    return (people[day] < typical) | (typical.isna() & people[day].notna())
