"""The columns of people in a forest plot: n, mean (SD), or events of n, by arm."""

from __future__ import annotations

from collections.abc import Callable

from ..measurement.measures import definition
from ..pooling.options import EVENTS
from ..pooling.records import ArmCount, EffectRow, PoolingResult
from .numbers import DASH, shown, shown_count
from .pooling_tables import count_text, of_arm, thin_text

Cells = Callable[[EffectRow], tuple[str, ...]]


def people_columns(result: PoolingResult, arm: str) -> tuple[tuple[str, ...], Cells]:
    """The headings, and a function from a row of ``effects.csv`` to its cells."""
    trials = of_arm(result, arm, "trial")
    if not any(row.n_control is not None or row.n_active is not None for row in trials):
        return (), lambda _: ()
    names = {"control": result.control, "active": arm}
    counts = {(row.trial, row.arm): row for row in result.by_arm}
    if result.options.effect in EVENTS and result.by_arm:
        headings = tuple(f"Events / n {name}" for name in names.values())

        def events(row: EffectRow) -> tuple[str, ...]:
            return tuple(
                _events_of(result, counts, row, side, name) for side, name in names.items()
            )

        return headings, events
    if not any(row.outcome_mean is not None for row in result.by_arm):
        headings = tuple(f"n {name}" for name in names.values())
        return headings, lambda row: tuple(count_text(row, side) for side in names)
    headings = tuple(part for name in names.values() for part in (f"n {name}", "mean (SD)"))
    decimals = max(definition(result.options.outcome).decimals or 0, 1)

    def means(row: EffectRow) -> tuple[str, ...]:
        cells: list[str] = []
        for side, name in names.items():
            found = counts.get((row.trial, name))
            cells += [count_text(row, side), _mean_sd(found, decimals)]
        return tuple(cells)

    return headings, means


def _mean_sd(row: ArmCount | None, decimals: int) -> str:
    if row is None or row.outcome_mean is None:
        return ""
    spread = "" if row.outcome_sd is None else f" ({shown(row.outcome_sd, decimals)})"
    return shown(row.outcome_mean, decimals) + spread


def _events_of(
    result: PoolingResult,
    counts: dict[tuple[str, str], ArmCount],
    row: EffectRow,
    side: str,
    name: str,
) -> str:
    """``12 / 340`` of one trial, or of all trials that are pooled."""
    if row.analysis == "trial":
        found = counts.get((row.trial, name))
        if found is None:
            return count_text(row, side)
        number = (
            shown_count(found.events)
            if found.events is not None
            else thin_text(found.note, "events")
        )
        return f"{number} / {count_text(row, side)}"
    pooled = {
        one.trial
        for one in of_arm(result, row.arm, "trial")
        if one.estimate is not None or one.note.startswith("n<")
    }
    events = [counts[trial, name].events for trial in pooled if (trial, name) in counts]
    total = sum(one for one in events if one is not None)
    known = len(events) == len(pooled) and None not in events
    return f"{shown_count(total) if known else DASH} / {count_text(row, side)}"
