"""Widths of reference intervals: as the trials reported the values, after ComBat, and re-measured.

The same participants, with both values of a measure. The width is the distance of the outer
centiles in a sex and age group, of all ethnicities (type 6 from 120 participants, z·SD on either
side below), and of a sex the mean of its age groups weighted by participants. Intervals are by one
bootstrap of participants within trials, in which ComBat is fitted anew, moved so that their median
is the estimate. ComBat knows no sex and no age: what trials' participants differ in is removed too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from scipy import special

from ..cohort.plausibility import possible_values
from ..errors import TableError
from ..measurement.measures import MEASURES
from ..statistics.combat import combat, compared_sources
from .options import NONPARAMETRIC_MIN_N, ReferenceOptions
from .results import ReportedWidth
from .select import ALL, MeasureData, Participants
from .strata.groups import Strata

PREFIX: Final = "reported_"


def check_reported(measures: Sequence[str], participants: Participants) -> None:
    """Raise TableError where no measure has reported values of the participants."""
    if any(np.isfinite(participants.values(f"{PREFIX}{name}")).any() for name in measures):
        return
    present = [str(c) for c in participants.frame.columns if str(c).startswith(PREFIX)]
    names = ", ".join(f"{PREFIX}{name}" for name in measures[:3])
    raise TableError(
        f"--compare-reported needs reported values ({names} …), and the table has none.",
        hint=f"Its reported columns: {', '.join(present) or 'none'}.",
    )


def reported_widths(data: MeasureData, groups: Strata) -> list[ReportedWidth]:
    """The rows of a measure: of each group with enough participants, and of each sex."""
    options, participants = data.options, data.participants
    theirs = participants.values(f"{PREFIX}{data.measure}")
    both = np.isfinite(data.values) & np.isfinite(theirs) & (groups.pooled >= 0)
    rows = np.flatnonzero(both)
    code = groups.pooled[rows].astype(int)
    sizes = np.bincount(code, minlength=len(groups.keys))
    kept = np.flatnonzero(sizes >= options.smallest_n)
    if not len(kept):
        return []
    rows, code = rows[np.isin(code, kept)], code[np.isin(code, kept)]
    values = _Values(data, rows)
    draws = np.stack(list(_draws(values, code, kept, options)))  # [1 + draws, sources, groups]
    found = []
    every = np.bincount(groups.pooled[groups.pooled >= 0], minlength=len(groups.keys))
    for sex in dict.fromkeys(groups.keys[at].sex for at in kept.tolist()):
        mine = [place for place, at in enumerate(kept.tolist()) if groups.keys[at].sex == sex]
        weights = sizes[kept[mine]] / sizes[kept[mine]].sum()
        parts = [([place], np.ones(1), groups.keys[kept[place]]) for place in mine]
        if len(mine) > 1:
            parts.append((mine, weights, None))
        for places, weight, key in parts:
            n = int(sizes[kept[places]].sum())
            rest = int(every[kept[places]].sum()) - n
            found.append(
                ReportedWidth(
                    **data.columns,
                    sex=sex,
                    ethnicity=ALL,
                    age_low=key.age_low if key else None,
                    age_high=key.age_high if key else None,
                    # With the group's own n the rest would be a few participants.
                    n=None if 0 < rest < options.min_cell else n,
                    n_trials=len(np.unique(values.trial[np.isin(code, kept[places])])),
                    combat_measures=values.table.shape[1] if values.trials > 1 else None,
                    ci_level=options.ci_level,
                    **compared_sources(
                        draws[:, :, places] @ weight, options.ci_level, positive=True
                    ),
                )
            )
    return found


class _Values:
    """The values ``[n]`` of both sources, and what ComBat takes: ``table`` ``[n, measures]``.

    Of the participants numbered ``rows``. The measure's reported values are first; others are those
    reported for all of them, with values that a heart can have.
    """

    def __init__(self, data: MeasureData, rows: np.ndarray) -> None:
        reported = data.participants.values
        columns = [reported(f"{PREFIX}{data.measure}")[rows]]
        for name in (m.name for m in MEASURES if m.name != data.measure):
            values = reported(f"{PREFIX}{name}")[rows]
            low, high = possible_values(name)
            if ((values > low) & (values < high)).all() and np.ptp(values) > 0:
                columns.append(values)
        self.own, self.table = data.values[rows], np.column_stack(columns)
        self.trial = np.unique(data.participants.trial[rows], return_inverse=True)[1]
        self.trials = int(self.trial.max()) + 1
        self.members = [np.flatnonzero(self.trial == t) for t in range(self.trials)]

    def sources(self, drawn: np.ndarray) -> list[np.ndarray]:
        """The values of those ``drawn`` by source; ComBat of them where there are trials."""
        table, trial = self.table[drawn], self.trial[drawn]
        found = [self.own[drawn], table[:, 0]]
        if self.trials < 2:
            return found
        n = np.bincount(trial, minlength=self.trials)
        order = np.argsort(trial, kind="stable")
        starts = np.cumsum(n) - n
        mean = np.add.reduceat(table[order], starts) / n[:, None]
        squares = np.add.reduceat((table - mean[trial])[order] ** 2, starts)
        fit = combat(n.astype(float), mean, squares)
        return [*found, fit.intercept[trial, 0] + fit.slope[trial, 0] * table[:, 0]]


def _draws(
    values: _Values, code: np.ndarray, kept: np.ndarray, options: ReferenceOptions
) -> Iterator[np.ndarray]:
    """Widths ``[sources, groups]`` of the data themselves, then of each bootstrap sample."""
    rng = np.random.default_rng(options.seed)
    for number in range(options.bootstrap + 1):
        drawn = np.arange(len(code))
        if number:
            drawn = np.concatenate([m[rng.integers(0, len(m), len(m))] for m in values.members])
        group = code[drawn]
        order = np.argsort(group, kind="stable")
        ends = np.searchsorted(group[order], [kept, kept + 1])
        found = [
            [_width(source[order][low:high], options) for low, high in ends.T]
            for source in values.sources(drawn)
        ]
        yield np.array(found)


def _width(values: np.ndarray, options: ReferenceOptions) -> float:
    """The distance of the outermost centiles (with one limit: its distance from the median)."""
    ends = np.array([min(options.centiles), max(options.centiles)]) / 100
    if len(values) < NONPARAMETRIC_MIN_N:
        return float(np.ptp(special.ndtri(ends)) * values.std(ddof=1)) if len(values) > 1 else 0.0
    return float(np.ptp(np.quantile(values, ends, method="weibull")))
