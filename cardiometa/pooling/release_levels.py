"""What may be released of subgroups: nothing about a level with fewer people than the cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from .records import EffectRow
from .release import WITHHELD, small, without_numbers

_KEPT = ("analysis", "source", "model", "outcome", "effect", "arm", "control", "term", "trial")


def release_levels(
    rows: Sequence[EffectRow],
    min_cell: int,
    events: Mapping[tuple[str, str, str, str, str], int] | None = None,
) -> list[EffectRow]:
    """Rows of subgroups and interactions with what rests on thin cells taken out.

    A trial's effect of a thin level, and its contrasts with it, are not shown; they are among the
    pooled. Where a trial's count of a level is hidden, the level's total is too. Where a level of
    a trial has fewer ``events`` than the cell, none of the trial's levels is shown, because its
    other levels and its whole would give them back.
    """
    scarce = {key[:3] for key, count in (events or {}).items() if small(count, min_cell)}
    thin = {
        (row.arm, row.term, row.trial, row.level)
        for row in rows
        if row.analysis == "subgroup"
        and row.trial
        and (small(row.n_control, min_cell) or small(row.n_active, min_cell))
    }
    hidden = {(arm, term, level) for arm, term, _, level in thin}
    released = []
    for row in rows:
        if row.estimate is not None and _is_scarce(row, scarce):
            released.append(without_numbers(row, f"n<{min_cell} (events)"))
        elif row.analysis not in ("subgroup", "interaction"):
            released.append(row)
        elif row.trial and _rests_on(row, thin):
            kept = {name: getattr(row, name) for name in _KEPT}
            released.append(EffectRow(**kept, level=row.level, note=f"n<{min_cell}", headline=True))
        elif any((row.arm, row.term, level) in hidden for level in _levels(row)):
            note = "; ".join(part for part in (WITHHELD, row.note) if part)
            released.append(replace(row, n_control=None, n_active=None, note=note))
        else:
            released.append(row)
    return released


def _is_scarce(row: EffectRow, scarce: Collection[tuple[str, str, str]]) -> bool:
    """A row of a trial with few events in a level, or of such a trial alone."""
    if row.trial:
        return (row.arm, row.term, row.trial) in scarce
    return row.k == 1 and any(key[:2] == (row.arm, row.term) for key in scarce)


def _levels(row: EffectRow) -> list[str]:
    return row.level.split(" vs ") if row.analysis == "interaction" else [row.level]


def _rests_on(row: EffectRow, thin: set[tuple[str, str, str, str]]) -> bool:
    return any((row.arm, row.term, row.trial, level) in thin for level in _levels(row))
