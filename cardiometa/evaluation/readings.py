"""Which scans go into a blind package, and how often readers corrected them, by group."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import pandas as pd

from ..privacy.suppression import hidden_counts

FLAGGED: Final = "flagged"
RANDOM: Final = "random"
RATE_GROUPS: Final = ("arm", "sex", "ethnicity")

Kind = Literal["correction", "failure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRow:
    """One row of ``rates.csv``: how often masks were corrected, or scans failed, in a group.

    ``sample``: ``flagged`` (all scans for review), ``random`` (a random share of the others, so
    what holds of all others), or ``all`` scans for failures. ``n_people`` of ``n_scans``; the
    interval is Wilson's over scans, at 95 %.
    """

    kind: Kind
    sample: str
    group_by: str
    group: str
    n_people: int | None
    n_scans: int | None = None
    n_events: int | None = None
    percent: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    note: str = ""


def choose(status: np.ndarray, share_percent: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the flagged scans and of a random share of the others, at least one.

    ``status`` ``[n]`` of scans in a fixed order: ``review`` is flagged, ``ok`` is other.
    """
    flagged = np.flatnonzero(status == "review")
    others = np.flatnonzero(status == "ok")
    count = min(len(others), max(1, math.ceil(len(others) * share_percent / 100 - 1e-9)))
    drawn = np.random.default_rng(seed).choice(others, size=count, replace=False)
    return flagged, np.sort(drawn)


def wilson(events: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, in per cent (Wilson 1927)."""
    z = 1.959963984540054
    p = events / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # The ends are 0 and 1 exactly where nobody or everybody has the event.
    low = 0.0 if events == 0 else max(0.0, middle - half)
    high = 1.0 if events == n else min(1.0, middle + half)
    return 100 * low, 100 * high


def rate_rows(rows: pd.DataFrame, kind: Kind, sample: str, least: int) -> Iterator[RateRow]:
    """Rates of ``event`` (boolean) over scans: everybody, then by arm, sex and ethnicity.

    Arms stand within their trial, because one word means another treatment elsewhere.
    """
    if rows.empty:
        return
    yield _rate(kind, sample, ("all", "all"), rows, least)
    for by in RATE_GROUPS:
        values = _group_values(rows, by)
        names = sorted(set(values.dropna()))
        parts = [rows[(values == name).to_numpy(dtype=bool)] for name in names]
        counts = [_people(part) for part in parts]
        hidden = hidden_counts(counts, _people(rows), least)
        for name, part, count, hide in zip(names, parts, counts, hidden, strict=True):
            if hide:
                note = f"n<{least}" if count < least else "counts withheld"
                yield RateRow(
                    kind=kind, sample=sample, group_by=by, group=name, n_people=None, note=note
                )
            else:
                yield _rate(kind, sample, (by, name), part, least)


def _group_values(rows: pd.DataFrame, by: str) -> pd.Series:
    if by not in rows:
        return pd.Series(None, index=rows.index, dtype=object)
    values = rows[by].astype(object)
    values = values.where(values.notna() & (values != ""), None)
    if by != "arm":
        return values
    named = rows["trial"].astype(str) + ": " + values.astype(str)
    return named.where(values.notna(), None)


def _people(rows: pd.DataFrame) -> int:
    return len(rows[["trial", "participant_id"]].drop_duplicates())


def _rate(
    kind: Kind, sample: str, group: tuple[str, str], rows: pd.DataFrame, least: int
) -> RateRow:
    people, n = _people(rows), len(rows)
    row = RateRow(kind=kind, sample=sample, group_by=group[0], group=group[1], n_people=None)
    if people < least:
        return _with(row, note=f"n<{least}")
    events = int(rows["event"].sum())
    low, high = wilson(events, n)
    few = 0 < events < least
    return _with(
        row,
        n_people=people,
        n_scans=n,
        n_events=None if few else events,
        percent=None if few else 100 * events / n,
        ci_low=None if few else low,
        ci_high=None if few else high,
        note=f"events<{least}" if few else "",
    )


def _with(row: RateRow, **cells: object) -> RateRow:
    return replace(row, **cells)  # type: ignore[arg-type]
