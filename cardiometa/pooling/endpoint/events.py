"""Binary and time-to-event endpoints: one row a participant, whether they were scanned or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from ...cohort.parsing import as_booleans, values_text
from ...errors import Problem, TableError
from ...records import CohortTable
from ..options import PoolingOptions
from .accessors import number_column, require_columns, text_column

KEY = ["trial", "participant_id"]
_SHOWN = 20


def event_values(
    table: CohortTable,
    options: PoolingOptions,
    roster: pd.DataFrame | None,
    people: pd.DataFrame,
    followup_rows: Callable[[], tuple[pd.DataFrame, str]],
) -> tuple[pd.DataFrame, str]:
    """``people`` with ``outcome`` 0 or 1 (NaN unknown), ``time`` for hazards, and where from.

    An event is of the person: its column is read from every row of theirs, scans that failed and
    the roster included, so that those who died unscanned count. Only a column that changes from
    visit to visit is read at the follow-up. TableError for values that are no event or no time.
    """
    sources = [table.rows, *(s for s in (table.unused, roster) if s is not None)]
    name = options.event_column
    option = "--event" if options.effect == "hazard-ratio" else "--outcome"
    _require_somewhere(sources, name, option)
    found = _by_person(sources, name, _event_column)
    changes = bool(found.duplicated(KEY).any())
    where = f"{name} of each participant"
    if changes and options.effect == "hazard-ratio":
        raise _changing(found, option, name)
    if changes:
        rows, followup = followup_rows()
        found = _by_person([rows], name, _event_column)
        where = f"{name} at {followup}"
        if found.duplicated(KEY).any():
            raise _changing(found, option, name)
    found["outcome"] = found.pop("value").astype(float)
    people = people.merge(found, on=KEY, how="left")
    if options.effect == "hazard-ratio":
        assert options.time is not None
        _require_somewhere(sources, options.time, "--time")
        times = _by_person(sources, options.time, number_column)
        if times.duplicated(KEY).any():
            raise _changing(times, "--time", options.time)
        _refuse_negative(times, options.time)
        times["time"] = times.pop("value")
        people = people.merge(times, on=KEY, how="left")
        people["outcome"] = people["outcome"].mask(people["time"].isna())
    for column, value in (("visit", ""), ("visit_day", float("nan")), ("baseline", float("nan"))):
        people[column] = value
    return people.assign(scanned=True, came=people["outcome"].notna()), where


def _event_column(rows: pd.DataFrame, name: str) -> pd.Series:
    """An event as True, False, None; TableError where the column holds anything else."""
    truths, wrong = as_booleans(rows[name])
    if wrong.any():
        raise TableError(
            f"The column {name} is no event: it must be 1 or 0, true or false, yes or no.",
            hint=f"It also holds {values_text(rows.loc[wrong, name], 8)}. Other codes are not "
            "guessed: make a column of 0 and 1 of them.",
        )
    return truths


def _require_somewhere(sources: Sequence[pd.DataFrame], name: str, option: str) -> None:
    if not any(name in source for source in sources):
        require_columns(sources[0], [name], option)


def _by_person(
    sources: Sequence[pd.DataFrame],
    name: str,
    read: Callable[[pd.DataFrame, str], pd.Series],
) -> pd.DataFrame:
    """The distinct known values of each person: ``trial, participant_id, value``."""
    parts = []
    for source in sources:
        if name not in source:
            continue
        keys = {column: text_column(source, column) for column in KEY}
        parts.append(pd.DataFrame({**keys, "value": read(source, name)}))
    every = pd.concat(parts, ignore_index=True)
    return every[every["value"].notna()].drop_duplicates().reset_index(drop=True)


def _changing(found: pd.DataFrame, option: str, name: str) -> TableError:
    twice = found[found.duplicated(KEY)].drop_duplicates(KEY)
    return TableError(
        f"{option} {name}: the value changes within a participant.",
        hint="An event and its time are of the person: one value in all rows of theirs.",
        problems=[
            Problem(where=f"trial {trial}", what=f"{len(part)} participants with several values")
            for trial, part in twice.groupby("trial")
        ][:_SHOWN],
    )


def _refuse_negative(times: pd.DataFrame, name: str) -> None:
    negative = times[times["value"] < 0]
    if len(negative):
        raise TableError(
            f"--time {name}: times before randomisation.",
            hint="Times count from randomisation; a person whose event came before it was not at "
            "risk. Leave the cell empty, or correct it.",
            problems=[
                Problem(where=f"trial {trial}", what=f"{len(part)} negative times")
                for trial, part in negative.groupby("trial")
            ][:_SHOWN],
        )
