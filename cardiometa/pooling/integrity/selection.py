"""Whether those without a follow-up are like the others: by arm, and by their baseline.

A trial whose sickest are missing in one arm has an effect of its own making. Both checks are rows
of the integrity table and sentences of the report.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd
from scipy import stats

from ..endpoint.arm_counts import compared
from ..first_stage.first_stage import natural
from ..options import EVENTS, PoolingOptions
from ..results import IntegrityRow

_UNLIKELY = 0.01  # a share that differs between the arms by chance once in a hundred trials
_LARGE = 0.3  # of a standard deviation: a small difference of the baseline is no finding
_LARGE_Z = 2.5758
_FEW = 5


def selection_checks(
    people: pd.DataFrame, options: PoolingOptions
) -> tuple[tuple[IntegrityRow, ...], tuple[str, ...]]:
    """Rows for ``integrity.csv`` and sentences, of every trial with two arms or more."""
    if options.effect in EVENTS:
        return (), ()
    rows: list[IntegrityRow] = []
    sentences: list[str] = []
    everyone = compared(people)
    for trial in sorted(set(everyone["trial"]), key=natural):
        part = everyone[everyone["trial"] == trial]
        arms = {str(arm): members for arm, members in part.groupby("arm", sort=True)}
        if len(arms) < 2:
            continue
        share = _share_check(str(trial), arms)
        baseline = list(_baseline_checks(str(trial), arms))
        rows += [share, *(row for row, _ in baseline)]
        if share.result == "look":
            sentences.append(_share_sentence(str(trial), arms, options))
        sentences += [
            _baseline_sentence(str(trial), arm, arms[arm], options)
            for row, arm in baseline
            if row.result == "look"
        ]
    return tuple(rows), tuple(sentences)


def _share_check(trial: str, arms: dict[str, pd.DataFrame]) -> IntegrityRow:
    """The share with the outcome, compared over the arms (Fisher; chi-squared for more arms)."""
    counts = [
        (int(m["outcome"].notna().sum()), int(m["outcome"].isna().sum())) for m in arms.values()
    ]
    shares = [have / (have + lack) for have, lack in counts]
    p = 1.0
    if any(lack for _, lack in counts) and any(have for have, _ in counts):
        if len(counts) == 2:
            p = float(stats.fisher_exact(counts)[1])
        else:
            p = float(stats.chi2_contingency(counts)[1])
    return IntegrityRow(
        trial=trial,
        check="outcome-known-by-arm",
        result="look" if p < _UNLIKELY else "ok",
        n_checked=sum(have + lack for have, lack in counts),
        n_found=None,
        value=max(shares) - min(shares),
        sentence="difference between arms in the share whose outcome is known"
        + (": larger than chance gives once in 100 trials" if p < _UNLIKELY else ""),
    )


def _baseline_checks(
    trial: str, arms: dict[str, pd.DataFrame]
) -> Iterable[tuple[IntegrityRow, str]]:
    """The baseline of those without the outcome against those with it, within each arm."""
    for arm, members in arms.items():
        known = members[members["baseline"].notna()]
        lack = known.loc[known["outcome"].isna(), "baseline"]
        have = known.loc[known["outcome"].notna(), "baseline"]
        if min(len(lack), len(have)) < _FEW:
            continue
        spread = math.sqrt((have.var(ddof=1) + lack.var(ddof=1)) / 2)
        difference = (lack.mean() - have.mean()) / spread if spread > 0 else 0.0
        z = difference / math.sqrt(1 / len(lack) + 1 / len(have))
        look = abs(difference) > _LARGE and abs(z) > _LARGE_Z
        yield (
            IntegrityRow(
                trial=trial,
                check=f"baseline-of-the-missing-{arm}",
                result="look" if look else "ok",
                n_checked=len(known),
                n_found=None,
                value=abs(float(difference)),
                sentence=f"standardised baseline difference in arm {arm} between those without "
                "the outcome and those with it",
            ),
            arm,
        )


def _percent(members: pd.DataFrame) -> str:
    return f"{100 * members['outcome'].isna().mean():.0f} %"


def _small(members: pd.DataFrame, options: PoolingOptions) -> bool:
    return 0 < int(members["outcome"].isna().sum()) < options.min_cell


def _share_sentence(trial: str, arms: dict[str, pd.DataFrame], options: PoolingOptions) -> str:
    if any(_small(members, options) for members in arms.values()):
        numbers = "how many, is too few to be shown"
    else:
        numbers = ", ".join(f"{arm} {_percent(members)}" for arm, members in arms.items())
    return (
        f"{trial}: the arms differ in how many have no outcome ({numbers}). The effect is of those "
        "who came: read the table by arm, the worst-rank and the delta-adjusted analysis."
    )


def _baseline_sentence(trial: str, arm: str, members: pd.DataFrame, options: PoolingOptions) -> str:
    lack = members.loc[members["outcome"].isna(), "baseline"].dropna()
    have = members.loc[members["outcome"].notna(), "baseline"].dropna()
    side = "lower" if lack.mean() < have.mean() else "higher"
    numbers = (
        ""
        if len(lack) < options.min_cell
        else f" ({lack.mean():.4g} against {have.mean():.4g}, {_percent(members)} of the arm)"
    )
    return (
        f"{trial}, arm {arm}: those without the outcome had a {side} baseline than those with "
        f"it{numbers}: they are missing not at random as far as the baseline tells."
    )
