"""What may be released: no number about fewer people than the least cell.

A count below the cell is emptied with a note. Where one trial's count is emptied, the counts of
pooled and leave-one-out rows are too, because their differences would give it back; so is the df
of the trial, from which its size could be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .records import ArmCount, EffectRow, IntegrityRow

WITHHELD = "counts withheld"


def small(count: int | None, min_cell: int) -> bool:
    """True for a count of some people, but fewer than the cell."""
    return count is not None and 0 < count < min_cell


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def release_effects(rows: Sequence[EffectRow], min_cell: int) -> tuple[EffectRow, ...]:
    """The rows with counts below the cell emptied.

    A trial with fewer people than the cell in all is not shown at all (its row stays, with the
    note); it is still among the pooled.
    """
    thin = [row for row in rows if row.analysis == "trial" and _is_thin(row, min_cell)]
    arms = {(row.arm, row.control) for row in thin}
    trials = {row.trial for row in thin}
    return tuple(
        _release_trial(row, trials, min_cell)
        if row.analysis == "trial"
        else _release_pooled(row, arms, min_cell)
        for row in rows
    )


def _is_thin(row: EffectRow, min_cell: int) -> bool:
    return small(row.n_control, min_cell) or small(row.n_active, min_cell)


def _release_pooled(row: EffectRow, arms: set[tuple[str, str]], min_cell: int) -> EffectRow:
    if (row.arm, row.control) not in arms and not _is_thin(row, min_cell):
        return row
    df = None if row.k == 1 else row.df  # the residual df of a single trial
    return replace(row, n_control=None, n_active=None, df=df, note=_joined(WITHHELD, row.note))


def _release_trial(row: EffectRow, trials: set[str], min_cell: int) -> EffectRow:
    if row.trial not in trials:
        return row
    if (row.n_control or 0) + (row.n_active or 0) < min_cell and _is_thin(row, min_cell):
        kept = ("analysis", "source", "outcome", "effect", "arm", "control", "trial", "headline")
        cells = {name: getattr(row, name) for name in kept}
        return EffectRow(**cells, note=f"n<{min_cell}")
    thin = [name for name in ("control", "active") if small(getattr(row, f"n_{name}"), min_cell)]
    # Another arm of the trial may be the thin one; the interval gives the trial's size back.
    note = f"n<{min_cell} ({', '.join(thin)})" if thin else WITHHELD
    return replace(row, n_control=None, n_active=None, df=None, note=_joined(note, row.note))


_COUNTS = (
    "randomised",
    "died",
    "withdrew",
    "alive",
    "scanned",
    "no_outcome",
    "no_baseline",
    "paired",
    "baseline_only",
    "followup_only",
    "analysed",
    "events",
    "n_baseline_others",
)


def release_counts(rows: Sequence[ArmCount], min_cell: int) -> tuple[ArmCount, ...]:
    """Participants by arm with counts below the cell emptied, and means of so few.

    Where one arm's analysed are too few, those of the trial's other arms are withheld too.
    """
    trials = {row.trial for row in rows if small(row.analysed, min_cell)}
    released = []
    for row in rows:
        thin = [name for name in _COUNTS if small(getattr(row, name), min_cell)]
        hidden: dict[str, Any] = dict.fromkeys(thin)
        if "n_baseline_others" in hidden:
            hidden["baseline_others"] = None
        if "analysed" in hidden:
            hidden |= dict.fromkeys(("baseline_analysed", "outcome_mean", "outcome_sd"))
        note = f"n<{min_cell} ({', '.join(thin)})" if thin else ""
        if row.trial in trials and "analysed" not in hidden:
            hidden |= dict.fromkeys(("analysed", "outcome_mean", "outcome_sd"))
            note = _joined(WITHHELD, note)
        released.append(replace(row, **hidden, note=_joined(note, row.note)) if hidden else row)
    return tuple(released)


def release_integrity(rows: Sequence[IntegrityRow], min_cell: int) -> tuple[IntegrityRow, ...]:
    """Integrity findings with counts below the cell emptied; that there are some stays known."""
    return tuple(
        replace(
            row,
            n_checked=None if small(row.n_checked, min_cell) else row.n_checked,
            n_found=None if small(row.n_found, min_cell) else row.n_found,
            sentence=f"{row.sentence} (n<{min_cell})"
            if small(row.n_found, min_cell) or small(row.n_checked, min_cell)
            else row.sentence,
        )
        for row in rows
    )
