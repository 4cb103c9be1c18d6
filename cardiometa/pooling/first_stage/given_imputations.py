"""Imputations made elsewhere: a table with a column ``.imp`` (mice's long form).

``.imp`` 0 is the data as they were, 1 to m the completed copies. Each copy is analysed as a table
of its own; the trials' estimates are combined by Rubin's rules before pooling.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from ...errors import Problem, TableError
from ...records import CohortTable
from ..endpoint.accessors import number_column
from ..endpoint.endpoint import KEY, build_endpoint
from ..options import PoolingOptions
from .first_stage import FirstStage, first_stage
from .imputation import combine_sets

IMP = ".imp"
GIVEN = "given imputations"
_LEAST = 2


def analysis_stage(
    table: CohortTable, options: PoolingOptions, roster: pd.DataFrame | None = None
) -> FirstStage:
    """The first stage of a table, or of each of its imputed copies combined."""
    if IMP not in table.rows:
        return first_stage(table, options, roster)
    copies = imputed_copies(table)
    if options.missing_outcome == "impute":
        raise TableError(
            f"The table holds imputations ({IMP}): --missing-outcome impute does not go with it.",
            hint=f"Leave the option out, or give the table without the copies of {IMP} above 0.",
        )
    stage = _combined([first_stage(copy, options, roster) for copy in copies.values()])
    before = original(table)
    if before is None:
        return stage
    # What was missing stays known: the table by arm and the delta-adjusted analysis need it.
    unfilled = build_endpoint(before, options, roster).people[[*KEY, "outcome"]]
    people = stage.people
    merged = people[KEY].merge(unfilled, on=KEY, how="left")["outcome"]
    merged.index = people.index
    return replace(stage, people=people.assign(outcome=people["outcome"].mask(merged.isna())))


def original(table: CohortTable) -> CohortTable | None:
    """The data as they were before imputation (``.imp`` 0); None where they are not given."""
    if IMP not in table.rows:
        return table
    number = number_column(table.rows, IMP)
    return replace(table, rows=table.rows[number == 0]) if (number == 0).any() else None


def first_copy(table: CohortTable) -> CohortTable:
    """A table that holds every participant once: the data as they were, else the first copy."""
    before = original(table)
    return before if before is not None else next(iter(imputed_copies(table).values()))


def imputed_copies(table: CohortTable) -> dict[int, CohortTable]:
    """Each completed copy by its number; TableError unless they hold the same rows."""
    number = number_column(table.rows, IMP)
    problems = []
    if number.isna().any():
        problems.append(Problem(where=f"column {IMP}", what="some cells are empty"))
    if ((number < 0) | (number % 1 != 0)).any():
        problems.append(Problem(where=f"column {IMP}", what="some values are no whole number"))
    chosen = sorted({int(n) for n in number[(number >= 1) & (number % 1 == 0)]})
    if len(chosen) < _LEAST:
        problems.append(
            Problem(
                where=f"column {IMP}",
                what=f"it holds {len(chosen)} completed cop{'y' if len(chosen) == 1 else 'ies'}",
                why="The spread between imputations needs two or more.",
            )
        )
    copies = {n: replace(table, rows=table.rows[number == n]) for n in chosen}
    keys = {n: _keys(copy.rows) for n, copy in copies.items()}
    problems += [
        Problem(
            where=f"{IMP} {n}",
            what=f"its rows are not those of {IMP} {chosen[0]}",
            why="Each copy must hold the same participants and visits.",
        )
        for n in chosen[1:]
        if keys[n] != keys[chosen[0]]
    ]
    if problems:
        raise TableError(f"The imputations of the column {IMP} cannot be used.", problems=problems)
    return copies


def _keys(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    names = [name for name in (*KEY, "visit") if name in rows]
    return sorted(zip(*(rows[name].astype(str) for name in names), strict=True))


def _combined(stages: list[FirstStage]) -> FirstStage:
    first = stages[0]
    sets = [[study for members in s.studies.values() for study in members] for s in stages]
    found = {(study.arm, study.trial): study for study in combine_sets(sets, GIVEN)}
    studies = {
        arm: tuple(found[arm, study.trial] for study in members)
        for arm, members in first.studies.items()
    }
    return replace(first, studies=studies, imputations=len(stages))
