"""What the cohort's definition states of a trial, held against its data: its design, its size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from ...errors import Problem, TableError
from ...records import CohortTable
from ..endpoint.accessors import known_text, text_column
from ..endpoint.arm_counts import compared
from ..options import PoolingOptions
from ..results import IntegrityRow

CHECK = "n-randomised"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFacts:
    """``design`` in the cohort's own words, and how many the trial says it randomised."""

    design: str = ""
    n_randomised: int | None = None


def refuse_unmodelled(
    table: CohortTable, facts: Mapping[str, TrialFacts], options: PoolingOptions
) -> None:
    """TableError where a trial is known to have randomised clusters and none are given."""
    trials = text_column(table.rows, "trial")
    given: set[str] = set()
    if options.cluster and options.cluster in table.rows:
        given = set(trials[known_text(table.rows, options.cluster) != ""])
    lacking = [
        trial
        for trial in sorted(set(trials))
        if "cluster" in facts.get(trial, TrialFacts()).design.lower() and trial not in given
    ]
    if lacking:
        raise TableError(
            "Cluster-randomised trials would be analysed as if persons had been randomised.",
            hint="Name the column of the cluster with --cluster (carry it in cohort.toml), or give "
            "the trial randomised = false to leave it out.",
            problems=[
                Problem(
                    where=f"trial {trial}",
                    what=f"its design is {facts[trial].design!r}, and it has no cluster",
                    why="Its standard error would be too small.",
                )
                for trial in lacking
            ],
        )


def design_warnings(table: CohortTable, facts: Mapping[str, TrialFacts]) -> list[str]:
    """Designs that the model of a parallel trial fits only in part."""
    crossed = [
        trial
        for trial in sorted(set(text_column(table.rows, "trial")))
        if "cross" in facts.get(trial, TrialFacts()).design.lower()
    ]
    if not crossed:
        return []
    sentence = (
        f"Crossover by its design: {', '.join(crossed)}. Persons are compared with persons here, "
        "which is right for the first period alone; a paired analysis can enter as a summary "
        "(--also-summaries)."
    )
    return [sentence]


def stated_checks(people: pd.DataFrame, facts: Mapping[str, TrialFacts]) -> Iterable[IntegrityRow]:
    """Each trial's randomised against the number that it states."""
    found = compared(people).groupby("trial").size()
    for trial, fact in sorted(facts.items()):
        if fact.n_randomised is None or trial not in set(people["trial"]):
            continue
        here = int(found.get(trial, 0))
        away = abs(here - fact.n_randomised)
        yield IntegrityRow(
            trial=trial,
            check=CHECK,
            result="look" if away else "ok",
            n_checked=here,
            n_found=away,
            value=None,
            sentence=f"randomised participants {'more' if here > fact.n_randomised else 'fewer'} "
            f"than the {fact.n_randomised} stated"
            if away
            else "as many participants randomised as stated",
        )
