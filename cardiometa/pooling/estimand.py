"""What is asked about those who died before the scan (ICH E9(R1)): the choice and its words."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from ..errors import TableError, UsageError
from .options import DIFFERENCES, WIN_ODDS, PoolingOptions
from .worst_rank import worse_direction

WORST_RANK_NOTE = "sensitivity: win odds, deaths the worst rank"
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
