"""What became of each participant before the follow-up scan: died, withdrew, or was to come.

What is asked about those who died before the scan (ICH E9(R1)): the choice and its words.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from ...errors import Problem, TableError, UsageError
from ...records import CohortTable
from ..first_stage.worst_rank import worse_direction
from ..options import DIFFERENCES, WIN_ODDS, PoolingOptions
from .accessors import number_column, text_column
from .endpoint import KEY, Endpoint


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


WORST_RANK = "win odds, deaths the worst rank"
_WORDS = {
    "while-alive": "Estimand: the difference among those alive at the follow-up; it compares "
    "groups that survival may have made unlike, so deaths by arm and the worst-rank analysis stand "
    "beside it.",
    "hypothetical": "Estimand: the difference had nobody died before the follow-up; those who died "
    "are taken to have had the outcomes of the living who were like them.",
    "worst-rank": "Estimand: a death before the follow-up is the worst outcome, an earlier one "
    "the worse (Lachin 1999; Matsouaka & Betensky 2015).",
}


def with_estimand(options: PoolingOptions, has_summaries: bool) -> PoolingOptions:  # noqa: FBT001
    """The options of the analysis that the estimand asks for; UsageError where it cannot be."""
    if options.estimand != "worst-rank":
        return options
    if options.effect not in (*DIFFERENCES, WIN_ODDS):
        raise UsageError(f"--estimand worst-rank does not go with --effect {options.effect}.")
    refused = {
        "--adjust": bool(options.adjust),
        "--by": bool(options.by),
        "--model one-stage": options.model == "one-stage",
        "--also-summaries": has_summaries,
    }
    asked = [name for name, given in refused.items() if given]
    if asked:
        raise UsageError(
            f"--estimand worst-rank compares ranks in each trial: {asked[0]} does not go with it."
        )
    worse_direction(options)
    return as_worst_rank(options)


def as_worst_rank(options: PoolingOptions) -> PoolingOptions:
    """The worst-rank analysis of the same endpoint."""
    return replace(
        options,
        estimand="worst-rank",
        effect=WIN_ODDS,
        model="two-stage",
        adjust=(),
        by=(),
        spline=0,
        missing_outcome="complete",
    )


def refuse_without_deaths(people: pd.DataFrame, options: PoolingOptions) -> None:
    """TableError where deaths matter to the estimand and none is recorded in any trial."""
    if options.estimand != "while-alive" and not people["deaths_recorded"].any():
        raise TableError(
            f"--estimand {options.estimand} needs to know who died, and no death is recorded.",
            hint="Give the day of death as death_day in the table, or in the participants table "
            "of cohort.toml.",
        )


def estimand_sentence(options: PoolingOptions) -> str:
    """What the effect is an effect of, for the methods."""
    return _WORDS[options.estimand]
