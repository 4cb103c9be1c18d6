"""Randomised, alive, scanned and analysed by arm: scans are of those who lived and came."""

from __future__ import annotations

import pandas as pd

from .columns import number_column, text_column
from .endpoint import KEY
from .first_stage import natural
from .records import ArmCount

NO_DEATHS = "deaths not recorded"


def participants_by_arm(
    people: pd.DataFrame, roster: pd.DataFrame, followup_day: float | None = None
) -> tuple[ArmCount, ...]:
    """Counts of each arm of each trial.

    ``people`` has ``code`` (empty: analysed); ``roster`` is the table that may have a
    ``death_day`` for each of them. *Alive* is without a death before the follow-up:
    the person's own scan day, else the day asked for, else the median scan day of the trial; it
    is unknown where the trial has no death day at all.
    """
    randomised = people[
        people["randomised"].map(lambda item: item is not False) & (people["arm"] != "")
    ].copy()
    randomised["death_day"] = _death_days(randomised, roster)
    rows = []
    for trial, part in randomised.groupby("trial", sort=True):
        recorded = bool(part["death_day"].notna().any())
        alive = ~_died_before(part, followup_day)
        for arm, members in part.groupby("arm", sort=True):
            rows.append(
                ArmCount(
                    trial=str(trial),
                    arm=str(arm),
                    randomised=len(members),
                    alive=int(alive[members.index].sum()) if recorded else None,
                    scanned=int(members["came"].sum()),
                    analysed=int((members["code"] == "").sum()),
                    note="" if recorded else NO_DEATHS,
                )
            )
    return tuple(sorted(rows, key=lambda row: natural(row.trial)))


def _death_days(people: pd.DataFrame, roster: pd.DataFrame) -> pd.Series[float]:
    if "death_day" not in roster:
        return pd.Series(float("nan"), index=people.index)
    days = pd.DataFrame({name: text_column(roster, name) for name in KEY})
    days["death_day"] = number_column(roster, "death_day")
    days = days.dropna().drop_duplicates(KEY)
    merged = people[KEY].merge(days, on=KEY, how="left")["death_day"]
    merged.index = people.index
    return merged


def _died_before(part: pd.DataFrame, followup_day: float | None) -> pd.Series[bool]:
    scan_day = part["visit_day"].astype(float)
    typical = followup_day if followup_day is not None else float(scan_day.median())
    planned = scan_day.fillna(typical)
    # Without any day a recorded death of someone who was not scanned counts as before the scan.
    before = (part["death_day"] < planned) | (planned.isna() & part["death_day"].notna())
    return before & ~part["came"]
