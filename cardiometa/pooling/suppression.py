"""What may be released: no number about fewer people than the least cell.

A count below the cell is emptied with a note. Where one trial's count is emptied, the counts of
pooled and leave-one-out rows are too, because their differences would give it back; so is the df
of the trial, from which its size could be read.

What may be released of subgroups: nothing about a level with fewer people than the cell.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .results import ArmCount, EffectRow, IntegrityRow, Study, Suppressed

WITHHELD = "counts withheld"


def small(count: int | None, min_cell: int) -> bool:
    """True for a count of some people, but fewer than the cell."""
    return count is not None and 0 < count < min_cell


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def few_events(studies: Mapping[str, Sequence[Study]], min_cell: int) -> frozenset[tuple[str, str]]:
    """The (arm, trial) whose events are fewer than the cell in an arm.

    Estimate, SE and n give such a count back, so the trial's numbers are not released. Where one
    trial alone is so, the next smallest is withheld too: else the pooled effect less the others
    would give it back.
    """
    found: set[tuple[str, str]] = set()
    for arm, members in studies.items():
        known = [s for s in members if s.estimable and s.events_control is not None]
        known.sort(key=lambda s: ((s.events_control or 0) + (s.events_active or 0), s.trial))
        thin = [
            s
            for s in known
            if small(s.events_control, min_cell) or small(s.events_active, min_cell)
        ]
        if len(thin) == 1:
            thin += [s for s in known if s is not thin[0]][:1]
        found |= {(arm, study.trial) for study in thin}
    return frozenset(found)


def unshown(
    studies: Sequence[Study], thin_events: Collection[tuple[str, str]], min_cell: int
) -> frozenset[str]:
    """The trials of one arm whose effects are not shown, for their events or their people."""
    return frozenset(
        study.trial
        for study in studies
        if (study.arm, study.trial) in thin_events
        or (
            study.n_control is not None and small(study.n_control + (study.n_active or 0), min_cell)
        )
    )


_SHOWN = ("analysis", "source", "model", "outcome", "effect", "arm", "control", "term", "trial")
_FACTS = ("variant", "label", "aggregate")


def without_numbers(row: EffectRow, note: str, *small_counts: str) -> EffectRow:
    """The row with its place and its headline, and a note for its numbers."""
    shown = (*_SHOWN, "level", "headline", "ci_method", *_FACTS)
    kept = {name: getattr(row, name) for name in shown}
    suppressed: Suppressed = "complementary" if note == WITHHELD else "below-threshold"
    return EffectRow(**kept, note=note, suppressed=suppressed, small_counts=small_counts)


def _release_events(row: EffectRow, thin: Collection[tuple[str, str]], min_cell: int) -> EffectRow:
    """A trial's own row, what is left without it, and a trial that stands alone."""
    note = f"n<{min_cell} (events)"
    own = row.analysis in ("trial", "leave-one-out") and (row.arm, row.trial) in thin
    alone = row.analysis == "pooled" and row.k == 1 and any(arm == row.arm for arm, _ in thin)
    if not (own or alone):
        return row
    bare = without_numbers(row, note, "events")
    if row.analysis == "leave-one-out":
        return bare
    return replace(bare, n_control=row.n_control, n_active=row.n_active, k=row.k)


def release_effects(
    rows: Sequence[EffectRow], min_cell: int, thin_events: Collection[tuple[str, str]] = ()
) -> tuple[EffectRow, ...]:
    """The rows with counts below the cell emptied.

    A trial with fewer people than the cell in all is not shown at all (its row stays, with the
    note), nor what is left without it; it is still among the pooled. Where one trial alone is so,
    the numbers of the next smallest are withheld too: else the pooled effect less the others would
    be its own. So are the numbers of ``thin_events`` (`few_events`).
    """
    few, beside = _few_people(rows, min_cell)
    rows = [_release_events(row, thin_events, min_cell) for row in rows]
    rows = [_release_few(row, few, beside, min_cell) for row in rows]
    thin = [row for row in rows if row.analysis == "trial" and _is_thin(row, min_cell)]
    arms = {(row.arm, row.control) for row in thin}
    trials = {row.trial for row in thin}
    return tuple(
        _release_trial(row, trials, min_cell)
        if row.analysis == "trial"
        else _release_pooled(row, arms, min_cell)
        for row in rows
    )


def _few_people(
    rows: Sequence[EffectRow], min_cell: int
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The (arm, trial) of fewer people than the cell in all, and those to be withheld with them."""
    sizes: dict[str, dict[str, int]] = {}
    for row in rows:
        if row.analysis == "trial" and row.se is not None and row.n_control is not None:
            sizes.setdefault(row.arm, {})[row.trial] = row.n_control + (row.n_active or 0)
    few = {(arm, t) for arm, found in sizes.items() for t, n in found.items() if n < min_cell}
    beside = set()
    for arm, found in sizes.items():
        if sum(a == arm for a, _ in few) == 1:
            others = sorted((n, trial) for trial, n in found.items() if (arm, trial) not in few)
            beside |= {(arm, trial) for _, trial in others[:1]}
    return few, beside


def _release_few(
    row: EffectRow,
    few: Collection[tuple[str, str]],
    beside: Collection[tuple[str, str]],
    min_cell: int,
) -> EffectRow:
    """What is left without a trial of a few people, and the numbers of the one beside it."""
    key = (row.arm, row.trial)
    if row.analysis == "leave-one-out" and (key in few or key in beside):
        return without_numbers(row, f"n<{min_cell}" if key in few else WITHHELD)
    if row.analysis == "trial" and key in beside:
        return replace(
            without_numbers(row, WITHHELD), n_control=row.n_control, n_active=row.n_active
        )
    return row


def _is_thin(row: EffectRow, min_cell: int) -> bool:
    return small(row.n_control, min_cell) or small(row.n_active, min_cell)


def _release_pooled(row: EffectRow, arms: set[tuple[str, str]], min_cell: int) -> EffectRow:
    if (row.arm, row.control) not in arms and not _is_thin(row, min_cell):
        return row
    df = None if row.k == 1 else row.df  # the residual df of a single trial
    return replace(
        row,
        n_control=None,
        n_active=None,
        df=df,
        note=_joined(WITHHELD, row.note),
        suppressed=row.suppressed or "complementary",
    )


def _release_trial(row: EffectRow, trials: set[str], min_cell: int) -> EffectRow:
    if row.trial not in trials:
        return row
    if (row.n_control or 0) + (row.n_active or 0) < min_cell and _is_thin(row, min_cell):
        kept = ("analysis", "source", "outcome", "effect", "arm", "control", "trial", "headline")
        cells = {name: getattr(row, name) for name in (*kept, *_FACTS)}
        return EffectRow(**cells, note=f"n<{min_cell}", suppressed="below-threshold")
    thin = [name for name in ("control", "active") if small(getattr(row, f"n_{name}"), min_cell)]
    # Another arm of the trial may be the thin one; the interval gives the trial's size back.
    note = f"n<{min_cell} ({', '.join(thin)})" if thin else WITHHELD
    return replace(
        row,
        n_control=None,
        n_active=None,
        df=None,
        note=_joined(note, row.note),
        suppressed="below-threshold" if thin else row.suppressed or "complementary",
        small_counts=tuple(thin) or row.small_counts,
    )


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


# Sums that hold in every row: a whole and its parts. A whole of two that stand below each other
# (scanned and analysed, …) has a part that is not printed, and so is always hidden.
_SUMS = (
    ("randomised", ("died", "alive")),
    ("randomised", ("no_outcome", "paired", "followup_only")),
    ("randomised", ("no_baseline", "paired", "baseline_only")),
    ("randomised", ("scanned", "")),
    ("alive", ("scanned", "")),
    ("alive", ("withdrew", "scanned")),
    ("scanned", ("analysed", "")),
    ("analysed", ("paired", "")),
    ("analysed", ("paired", "followup_only")),
)
# How many were randomised and analysed is told by any report of a trial.
_KEPT = ("randomised", "analysed")


def _complement(row: ArmCount, hidden: Collection[str], min_cell: int) -> list[str]:
    """Further counts to empty, so that no sum gives a few people back."""
    gone = [name for name in _COUNTS if name in hidden or getattr(row, name) is None]
    further: list[str] = []
    while True:
        found = next(
            (
                name
                for whole, parts in _SUMS
                if (name := _telling(row, whole, parts, gone, min_cell))
            ),
            None,
        )
        if found is None:
            return further
        gone.append(found)
        further.append(found)


def _telling(
    row: ArmCount, whole: str, parts: Sequence[str], gone: Sequence[str], min_cell: int
) -> str | None:
    """The least count of a sum to empty, where its one hidden part is known and few; else None."""
    shown = [name for name in (whole, *parts) if name and name not in gone]
    if len(shown) != len(parts) or whole not in shown:
        return None
    values = {name: int(getattr(row, name)) for name in shown}
    rest = abs(values[whole] - sum(n for name, n in values.items() if name != whole))
    free = [name for name in shown if name not in _KEPT]
    if not 0 < rest < min_cell or not free:
        return None
    return min(free, key=lambda name: (values[name], name))


def release_counts(
    rows: Sequence[ArmCount], min_cell: int, thin_events: Collection[tuple[str, str]] = ()
) -> tuple[ArmCount, ...]:
    """Participants by arm with counts below the cell emptied, and means of so few.

    Where one arm's analysed are too few, those of the trial's other arms are withheld too; so are
    all events of a trial of ``thin_events`` (`few_events`), whose effect they would give.
    """
    quiet = {trial for _, trial in thin_events}
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
        further = _complement(row, hidden, min_cell)
        if further:
            hidden |= dict.fromkeys(further)
            note = _joined(note, WITHHELD)
        if row.trial in trials and "analysed" not in hidden:
            hidden |= dict.fromkeys(("analysed", "outcome_mean", "outcome_sd"))
            note = _joined(WITHHELD, note)
        if row.trial in quiet and "events" not in hidden:
            hidden["events"] = None
            note = _joined(WITHHELD, note)
        if hidden:
            row = replace(  # noqa: PLW2901
                row,
                **hidden,
                note=_joined(note, row.note),
                suppressed="below-threshold" if thin else "complementary",
                small_counts=tuple(thin),
            )
        released.append(row)
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
            suppressed="below-threshold"
            if small(row.n_found, min_cell) or small(row.n_checked, min_cell)
            else "",
        )
        for row in rows
    )


_KEPT_release_levels = (
    "analysis",
    "source",
    "model",
    "outcome",
    "effect",
    "arm",
    "control",
    "term",
    "trial",
)


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
            released.append(without_numbers(row, f"n<{min_cell} (events)", "events"))
        elif row.analysis not in ("subgroup", "interaction"):
            released.append(row)
        elif row.trial and _rests_on(row, thin):
            kept = {name: getattr(row, name) for name in (*_KEPT_release_levels, *_FACTS)}
            bare = EffectRow(**kept, level=row.level, note=f"n<{min_cell}", headline=True)
            released.append(replace(bare, suppressed="below-threshold"))
        elif any((row.arm, row.term, level) in hidden for level in _levels(row)):
            note = "; ".join(part for part in (WITHHELD, row.note) if part)
            bare = replace(row, n_control=None, n_active=None, note=note)
            released.append(replace(bare, suppressed="complementary"))
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
