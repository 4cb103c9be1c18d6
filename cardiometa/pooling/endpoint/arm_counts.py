"""Randomised, dead, scanned and analysed by arm: scans are of those who lived and came."""

from __future__ import annotations

import pandas as pd

from ..first_stage.first_stage import natural
from ..options import EVENTS, PoolingOptions
from ..results import ArmCount

NO_DEATHS = "deaths not recorded"


def compared(people: pd.DataFrame) -> pd.DataFrame:
    """The randomised whose arm is known."""
    return people[people["randomised"].map(lambda item: item is not False) & (people["arm"] != "")]


def participants_by_arm(people: pd.DataFrame, options: PoolingOptions) -> tuple[ArmCount, ...]:
    """Counts of each arm of each trial.

    ``people`` has ``code`` (empty: analysed) and the columns of `with_fate`. Who was alive is
    unknown where the trial has no death day at all. An event needs no scan: nothing is said of
    scans then. Means of the baseline tell whether those not analysed were the sicker.
    """
    rows = []
    events = options.effect in EVENTS
    for trial, part in compared(people).groupby("trial", sort=True):
        recorded = bool(part["deaths_recorded"].any())
        withdrawals = bool(part["withdrawal_day"].notna().any())
        for arm, members in part.groupby("arm", sort=True):
            analysed = members["code"] == ""
            rows.append(
                ArmCount(
                    trial=str(trial),
                    arm=str(arm),
                    randomised=len(members),
                    died=int(members["died"].sum()) if recorded else None,
                    withdrew=int(members["withdrew"].sum()) if withdrawals else None,
                    alive=int((~members["died"]).sum()) if recorded else None,
                    scanned=None if events else int(members["came"].sum()),
                    no_outcome=int(members["outcome"].isna().sum()),
                    no_baseline=int(members["baseline"].isna().sum()) if not events else None,
                    **_pairs(members, events=events),
                    analysed=int(analysed.sum()),
                    events=int(members.loc[analysed, "outcome"].sum()) if events else None,
                    outcome_mean=None if events else _mean(members.loc[analysed, "outcome"]),
                    outcome_sd=None if events else _sd(members.loc[analysed, "outcome"]),
                    n_baseline_others=int(members.loc[~analysed, "baseline"].notna().sum()),
                    baseline_analysed=_mean(members.loc[analysed, "baseline"]),
                    baseline_others=_mean(members.loc[~analysed, "baseline"]),
                    note="" if recorded else NO_DEATHS,
                    deaths_recorded=recorded,
                )
            )
    return tuple(sorted(rows, key=lambda row: natural(row.trial)))


def _pairs(members: pd.DataFrame, *, events: bool) -> dict[str, int | None]:
    """How many have both values, the baseline alone, the follow-up alone."""
    if events:
        return dict.fromkeys(("paired", "baseline_only", "followup_only"))
    before, after = members["baseline"].notna(), members["outcome"].notna()
    return {
        "paired": int((before & after).sum()),
        "baseline_only": int((before & ~after).sum()),
        "followup_only": int((~before & after).sum()),
    }


def _mean(values: pd.Series) -> float | None:
    return float(values.mean()) if values.notna().any() else None


def _sd(values: pd.Series) -> float | None:
    return float(values.std(ddof=1)) if values.notna().sum() > 1 else None
