"""What the trials differ in: a covariate's mean, its share, or its one word, of each trial.

Aggregates of people say nothing about people (ecological); they may say where trials differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from ..errors import TableError
from .eligible import covariate_numbers
from .modifiers import PER, per_text
from .options import PoolingOptions
from .release import small

SHARE_UNIT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialValues:
    """One covariate of the trials, of those analysed in one active arm and control.

    ``numbers`` by trial where it is a mean or a share in percent, else ``words`` by trial. A slope
    is read per ``unit``, ``per`` in words; ``what`` names the aggregate. ``shown`` are the trials
    whose number may be shown: a share of few people would give their count.
    """

    name: str
    what: str
    numbers: Mapping[str, float]
    words: Mapping[str, str]
    unit: float
    per: str
    shown: frozenset[str]


def trial_values(people: pd.DataFrame, name: str, arm: str, options: PoolingOptions) -> TrialValues:
    """The values of one covariate; TableError for words that differ within trials.

    Numbers become means. Words that are one in each trial part the trials into groups; two words
    that mix within trials (sex) become the share of the second in percent.
    """
    chosen = people[(people["code"] == "") & people["arm"].isin([arm, options.control])]
    text = chosen[f"covariate {name}"]
    known = text != ""
    text, trial = text[known], chosen.loc[known, "trial"].astype(str)
    sizes = trial.value_counts()
    different = text.groupby(trial).nunique()
    numbers = covariate_numbers(text)
    if numbers is not None:
        return TrialValues(
            name=name,
            what=name if (different <= 1).all() else f"mean {name}",
            numbers={str(t): float(x) for t, x in numbers.groupby(trial).mean().items()},
            words={},
            unit=PER.get(name, (1.0, ""))[0],
            per=per_text(name),
            shown=frozenset(
                str(t) for t, n in sizes.items() if not small(int(n), options.min_cell)
            ),
        )
    if (different <= 1).all():
        return TrialValues(
            name=name,
            what=name,
            numbers={},
            words={str(t): str(v) for t, v in text.groupby(trial).first().items()},
            unit=1.0,
            per="",
            shown=frozenset(),
        )
    levels = sorted(set(text), key=lambda word: (word == "female", word))
    if len(levels) != 2:
        raise TableError(
            f"--meta-regression {name}: its words differ within trials: "
            f"{', '.join(levels[:8])}{', …' if len(levels) > 8 else ''}.",
            hint=f"A trial has no one value of it. Use --by {name} for the effect in people of "
            "each level, or a column with one word a trial.",
        )
    second = (text == levels[1]).groupby(trial).agg(["sum", "size"])
    share = 100.0 * second["sum"] / second["size"]
    return TrialValues(
        name=name,
        what=f"percent {levels[1]}",
        numbers={str(t): float(x) for t, x in share.items()},
        words={},
        unit=SHARE_UNIT,
        per=f"per {SHARE_UNIT:g} percentage points {levels[1]}",
        shown=frozenset(
            str(t)
            for t, row in second.iterrows()
            if not small(int(row["sum"]), options.min_cell)
            and not small(int(row["size"] - row["sum"]), options.min_cell)
        ),
    )
