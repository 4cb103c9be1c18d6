"""The marks of a printed limit and the notes that explain them, for the page and the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ..records import ReferenceLimit
from .numbers import DASH
from .reference_curves import KIND_NOTES
from .reference_figures import ETHNICITY_NAMES
from .reference_meta import META

if TYPE_CHECKING:
    from ..reference.records import ReferenceResult

SMALL: Final = "†"
ONE_TRIAL: Final = "‡"
MOVED: Final = "§"
PROVISIONAL: Final = (
    "Limits by ethnicity are provisional: the model's own error may differ between groups, and "
    "until it has been measured against readers in each of them a difference between groups may be "
    "a difference of the measurement."
)


def marks(row: ReferenceLimit, *, many: bool) -> str:
    """The marks behind a group's limits; ``many``: the table is of more than one trial."""
    return SMALL * (row.status in ("small-n", "pooled-thin")) + ONE_TRIAL * (
        many and _one_trial(row)
    )


def footnote(rows: Sequence[ReferenceLimit], result: ReferenceResult, *, brackets: bool) -> str:
    """What the table's dashes and marks mean; ``brackets``: it shows the limits' intervals."""
    options = result.options
    curve = rows[0].method not in ("strata", META)
    why = (
        "no such people at that age, or too few"
        if curve
        else f"fewer than {options.smallest_n} people"
    )
    notes = [f"{DASH}: {why}."]
    kinds = {r.kind for r in rows if r.limit is not None}
    if kinds & {"marginal", "conditional"}:
        notes.append(KIND_NOTES["marginal" if "marginal" in kinds else "conditional"])
    if {"marginal", "conditional"} <= kinds:
        notes.append("Groups of fewer than five trials have those of the average of their trials.")
    if any(r.status == "pooled-thin" for r in rows):
        notes.append(
            f"{SMALL} fewer than {options.min_n} people, or too few for a curve of their own: the "
            "age shape is that of all ethnicities, the level is drawn to theirs."
        )
    if any("level-of-all" in r.note for r in rows):
        names = ", ".join(
            dict.fromkeys(ETHNICITY_NAMES[r.ethnicity] for r in rows if "level-of-all" in r.note)
        )
        notes.append(
            f"{names}: no trial has these people beside others, so that nothing tells them from "
            "their trials; they are given the level of all."
        )
    if any(r.status == "small-n" for r in rows):
        robust = options.limits is None and rows[0].method == "strata"
        how = "robust limits (Horn) with a bootstrap interval" if robust else ""
        few = f"{SMALL} fewer than 120 people"
        notes.append(f"{few}: {how}." if how else f"{few}.")
    if any(_one_trial(r) for r in rows) and len(result.trials) > 1:
        notes.append(f"{ONE_TRIAL} all from one trial: a difference may be its scanner's.")
    if brackets and any("ci-at-extreme" in r.note for r in rows):
        notes.append(
            f"{MOVED} the interval ends at the smallest or largest value; that end was moved "
            "outward to a round number, so that nobody's value is shown."
        )
    if any("limits-withheld" in r.note for r in rows):
        notes.append(
            "Limits of all ethnicities that, beside those of the groups, would tell the values of "
            "a few people are not given."
        )
    if any("limit-at-extreme" in r.note for r in rows):
        notes.append("Limits that would be nearly one person's value are not given.")
    if brackets and any("no-rank-interval" in r.note for r in rows):
        notes.append("Too few people for a rank interval where the brackets are missing.")
    if any(r.n is None and r.limit is not None for r in rows):
        notes.append(f"n {DASH}: withheld, since it would reveal a group of a few people.")
    also = "The centre" if brackets else "The limits' confidence intervals, the centre"
    notes.append(f"{also} and all digits are in reference_ranges.csv.")
    return " ".join(notes)


def _one_trial(row: ReferenceLimit) -> bool:
    return row.status == "single-trial" or "single-trial" in row.note
