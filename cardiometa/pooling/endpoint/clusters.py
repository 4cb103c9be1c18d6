"""Who belongs to which randomised cluster, where a trial randomised clusters and not persons."""

from __future__ import annotations

import pandas as pd

from ...errors import Problem, TableError
from ...records import CohortTable
from ..options import PoolingOptions
from .accessors import known_text, require_columns, text_column

KEY = ["trial", "participant_id"]
CLUSTER = "cluster"
_SHOWN = 20


def with_clusters(
    people: pd.DataFrame, table: CohortTable, options: PoolingOptions, roster: pd.DataFrame | None
) -> pd.DataFrame:
    """``people`` with their cluster as text, empty throughout in trials randomised by person.

    TableError where a person has several clusters, or some of a trial's people have none.
    """
    if options.cluster is None:
        return people
    require_columns(table.rows, [options.cluster], "--cluster")
    sources = [s for s in (table.rows, table.unused, roster) if s is not None]
    parts = [
        pd.DataFrame({name: text_column(source, name) for name in KEY}).assign(
            cluster=known_text(source, options.cluster)
        )
        for source in sources
        if options.cluster in source
    ]
    known = pd.concat(parts, ignore_index=True)
    known = known[known[CLUSTER] != ""].drop_duplicates()
    twice = known[known.duplicated(KEY)].drop_duplicates(KEY)
    if len(twice):
        raise TableError(
            f"--cluster {options.cluster}: the cluster changes within a participant.",
            hint="The cluster is the one that was randomised: one value in all rows of a person.",
            problems=[
                Problem(where=f"trial {trial}", what=f"{len(part)} participants with several")
                for trial, part in twice.groupby("trial")
            ][:_SHOWN],
        )
    people = people.merge(known, on=KEY, how="left")
    people[CLUSTER] = people[CLUSTER].fillna("")
    _refuse_gaps(people, options.cluster)
    return people


def _refuse_gaps(people: pd.DataFrame, column: str) -> None:
    compared = people[people["randomised"].map(lambda item: item is not False)]
    compared = compared[compared["arm"] != ""]
    problems = []
    for trial, part in compared.groupby("trial"):
        lacking = int((part[CLUSTER] == "").sum())
        if 0 < lacking < len(part):
            problems.append(
                Problem(
                    where=f"trial {trial}",
                    what=f"{lacking} of {len(part)} participants have no cluster",
                    why="A person without one cannot be put into the trial's model.",
                )
            )
    if problems:
        raise TableError(
            f"--cluster {column}: some clusters are unknown.",
            hint="Fill them in; leave the column empty in all rows of a trial that randomised "
            "persons.",
            problems=problems[:_SHOWN],
        )
