"""Who was provided and who is analysed, for the flow diagram (PRISMA-IPD, Stewart 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from .results import FlowCounts, Study
from .second_stage.two_stage import total


def flow_counts(people: pd.DataFrame, studies: Mapping[str, Sequence[Study]]) -> FlowCounts:
    """Trials and participants; a published trial of several arms counts once.

    ``people`` has ``trial`` and ``code`` (empty: analysed); ``studies`` by arm.
    """
    analysed = people[people["code"] == ""]
    sizes: dict[str, int | None] = {}
    for members in studies.values():
        for study in members:
            if study.aggregate:
                known = [n for n in (sizes.get(study.trial), study.n) if n is not None]
                sizes[study.trial] = max(known, default=None)
    counts = list(sizes.values())
    return FlowCounts(
        provided_trials=int(people["trial"].nunique()),
        provided_participants=len(people),
        analysed_trials=int(analysed["trial"].nunique()),
        analysed_participants=len(analysed),
        aggregate_trials=len(counts),
        aggregate_participants=total(counts) if counts else None,
    )
