"""Suppression of small counts on finished rows: primary, and secondary against subtraction.

Primary: no number about fewer participants (or events) than ``min_cell`` is shown. Secondary: what
a reader could recover by subtracting what is shown from a total is not shown either, down to the
smallest further count that has to go. The functions take rows (any dataclass with the columns of
its table) and return rows with cells emptied and the reason in ``note``; estimation does not know
of them. Individual extremes: a limit or interval end that is one participant's value is withheld or
moved outward to a round number (`without_extremes`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from itertools import combinations
from typing import Any, Final, Self, TypeVar

import numpy as np

CI_AT_EXTREME = "ci-at-extreme"
LIMIT_AT_EXTREME = "limit-at-extreme"
LIMITS_WITHHELD = "limits-withheld"
N_WITHHELD = "n-withheld"
WITHHELD = "counts withheld"
# The values of ``suppressed`` in the rows of pooling.
BELOW_THRESHOLD: Final = "below-threshold"
COMPLEMENTARY: Final = "complementary"
Result = TypeVar("Result")
_MOST_TOGETHER = 3  # classes of participants that are few even together


def is_small(count: int | None, min_cell: int) -> bool:
    """True for a count of some participants, but fewer than the cell."""
    return count is not None and 0 < count < min_cell


def hidden_counts(counts: Sequence[int], total: int, min_cell: int) -> tuple[bool, ...]:
    """True for each count that must not be shown where ``total`` is.

    Counts from 1 to ``min_cell`` - 1 are hidden; while the rest of the total would still be a small
    count, the smallest shown count is hidden as well (secondary suppression).
    """
    hidden = [count < min_cell for count in counts]
    if not any(h and c > 0 for h, c in zip(hidden, counts, strict=True)):
        return tuple(hidden)
    while True:
        rest = total - sum(c for c, h in zip(counts, hidden, strict=True) if not h)
        shown = [i for i, h in enumerate(hidden) if not h]
        if rest <= 0 or rest >= min_cell or not shown:
            return tuple(hidden)
        hidden[min(shown, key=lambda i: (counts[i], i))] = True


def suppressed_counts(
    counts: Mapping[str, int], total: int, min_cell: int
) -> dict[str, int | None]:
    """Counts by name as they may be shown with their ``total``; None for a suppressed one."""
    hidden = hidden_counts(list(counts.values()), total, min_cell)
    return {
        name: None if hide and count else count
        for (name, count), hide in zip(counts.items(), hidden, strict=True)
    }


def suppress_account(account: Any, min_cell: int) -> dict[str, Any]:
    """The row counts of one measure of reference ranges (``Account``), small ones suppressed."""
    unknown, outliers = account.ethnicity_unknown, account.outliers
    gone = account.rows_in - account.analysed
    return {
        "measure": account.measure,
        "rows_in": account.rows_in,
        "excluded": suppressed_counts(account.excluded, gone, min_cell),
        "analysed": account.analysed,
        "ethnicity_unknown": None if is_small(unknown, min_cell) else unknown,
        "outliers": None if is_small(outliers, min_cell) else outliers,
    }


class Count(int):
    """A number of participants in a finished row, with what it can be worked out from.

    ``siblings`` are the counts that are shown with their ``total``, this one (or that of which this
    one is a part) at ``place``. ``left_out`` more participants of the group are in no number.
    """

    siblings: tuple[int, ...]
    total: int
    place: int
    left_out: int

    def __new__(
        cls, n: int, siblings: Sequence[int] = (), total: int = 0, place: int = 0, left_out: int = 0
    ) -> Self:
        """The count ``n``."""
        count = super().__new__(cls, n)
        count.siblings, count.total, count.place = tuple(siblings), total, place
        count.left_out = left_out
        return count

    def part(self, n: int) -> Count:
        """The count ``n`` of some of these participants."""
        return Count(n, self.siblings, self.total, self.place, self.left_out)

    def is_few(self, min_cell: int) -> bool:
        """True where the group has fewer participants than the cell."""
        return self + self.left_out < min_cell

    def is_hidden(self, min_cell: int) -> bool:
        """True where the count must not be shown: small, or given back by what is shown."""
        if self < min_cell or is_small(self.left_out, min_cell):
            return True
        hidden = hidden_counts(self.siblings, self.total, min_cell)
        return bool(hidden) and hidden[self.place]


def is_disclosive(sets: Collection[frozenset[Any]], min_cell: int) -> bool:
    """True where sums over ``sets``, added and subtracted, give one over fewer than ``min_cell``.

    Participants in the same sets cannot be separated: they are one class, and what can be worked
    out is the row space of the sets over the classes. It contains a sum over the classes T alone
    exactly where the rank falls when the columns of T are deleted.
    """
    masks: Counter[int] = Counter()
    member: dict[Any, int] = {}
    for number, participants in enumerate(sorted(sets, key=sorted)):
        for one in participants:
            member[one] = member.get(one, 0) | 1 << number
    masks.update(member.values())
    classes = sorted(masks)
    few = [k for k, mask in enumerate(classes) if masks[mask] < min_cell]
    if not few:
        return False
    matrix = np.array([[mask >> n & 1 for mask in classes] for n in range(len(sets))], dtype=float)
    rank = np.linalg.matrix_rank(matrix)
    for together in range(1, min(_MOST_TOGETHER, len(few)) + 1):
        for part in combinations(few, together):
            if sum(masks[classes[k]] for k in part) < min_cell:
                rest = np.delete(matrix, part, axis=1)
                if not rest.size or np.linalg.matrix_rank(rest) < rank:
                    return True
    return False


# ------------------------------------------------------------------ evaluation


def suppress_groups(rows: Iterable[Result], min_cell: int) -> tuple[Result, ...]:
    """The finished rows of an evaluation, by group; ``n_people`` is a `Count`.

    A group of fewer participants than the cell, and one that the others and their total give
    back, keeps its name and says why. Where only those left out of it are few, its numbers are
    shown and its counts are not.
    """
    return tuple(_shown_group(row, min_cell) for row in rows)


def _shown_group(row: Any, min_cell: int) -> Any:
    n, small = row.n_people, f"n<{min_cell}"
    rest, events = getattr(row, "n_rest", None), getattr(row, "n_events", None)
    hidden = hidden_counts(n.siblings, n.total, min_cell)
    if hidden and hidden[n.place] and n.siblings[n.place] >= min_cell:
        return _without_numbers(row, WITHHELD)
    if n < min_cell and min_cell > 1:
        return _without_numbers(row, small)
    if rest is not None and rest < min_cell:
        return _without_numbers(row, f"{small} in the rest")
    cells: dict[str, Any] = {"n_people": int(n)}
    if is_small(n.left_out, min_cell):
        cells = {name: None for name in ("n_people", "n_scans", "n_without") if hasattr(row, name)}
        cells["note"] = row.note or WITHHELD
    elif is_small(getattr(row, "n_without", None), min_cell):
        cells["n_without"] = None
    if is_small(events, min_cell):
        cells |= {"n_events": None, "percent": None, "ci_low": None, "ci_high": None}
        cells["note"] = f"events<{min_cell}"
    return replace(row, **cells)


def _without_numbers(row: Any, why: str) -> Any:
    """The row with the cells that identify it alone."""
    kept = ("group_by", "group", "ci_level", "margin_source")
    empty = {f.name: f.default for f in fields(row) if f.default is not MISSING}
    return replace(row, **{k: v for k, v in empty.items() if k not in kept} | {"note": why})


def without_extremes(limits: Sequence[Any]) -> tuple[Any, ...]:
    """The limits of one cell without any participant's own value.

    A limit that leans by more than half on an extreme value (a rank method on fewer than 59
    participants) is withheld. The smallest or largest value as an interval end (119 to about 185
    participants) is moved outward, so the interval only becomes wider.
    """
    known = [found.limit for found in limits if found.limit is not None]
    width = max(known) - min(known) if known else 0.0
    shown = []
    for found in limits:
        low, high = found.ci_low, found.ci_high
        if found.limit_at_extreme:
            notes = (*found.notes, LIMIT_AT_EXTREME)
            shown.append(replace(found, limit=None, ci_low=None, ci_high=None, notes=notes))
            continue
        if low is not None and found.low_at_extreme:
            low = round_outward(low, width, up=False)
        if high is not None and found.high_at_extreme:
            high = round_outward(high, width, up=True)
        moved = (low, high) != (found.ci_low, found.ci_high)
        notes = (*found.notes, CI_AT_EXTREME) if moved else found.notes
        shown.append(replace(found, ci_low=low, ci_high=high, notes=notes))
    return tuple(shown)


def round_outward(value: float, width: float, *, up: bool) -> float:
    """The next multiple of a round step beyond ``value``, never ``value`` itself.

    The step is the largest of 1, 2, 5 × 10^k that is at most a tenth of ``width``, the distance
    between the cell's outer limits.
    """
    if width <= 0:
        return value
    power = math.floor(math.log10(width / 10))
    step = max(
        (digit * 10.0**k for k in (power - 1, power) for digit in (1, 2, 5)),
        key=lambda s: s if s <= width / 10 * (1 + 1e-12) else -s,
    )
    decimals = max(0, 1 - power)
    count = math.floor(value / step) if up else math.ceil(value / step)
    while True:
        count += 1 if up else -1
        # 10**-1 is not exact: the product is rounded to the step's own decimals, and may then
        # be the value itself.
        moved = round(count * step, decimals)
        if moved > value if up else moved < value:
            return moved


# ------------------------------------------------------------------ reference ranges


def suppress_tables(
    tables: Mapping[str, Sequence[Any]], min_cell: int, *, internal: bool
) -> dict[str, list[Any]]:
    """The finished tables of reference ranges by name, every `Count` in them shown or suppressed.

    A row of fewer participants than the cell says so; a count that is hidden because others would
    give it back is ``n-withheld``.
    """
    found = {name: [_shown(row, min_cell) for row in rows] for name, rows in tables.items()}
    if "by_trial" in tables:
        found["by_trial"] = _shown_trials(tables["by_trial"], min_cell, internal=internal)
    return found


def _shown(row: Any, min_cell: int) -> Any:
    if isinstance(row, Mapping):
        return {
            name: (None if value.is_hidden(min_cell) else int(value))
            if isinstance(value, Count)
            else value
            for name, value in row.items()
        }
    names = [field.name for field in fields(row)] if is_dataclass(row) else []
    counts = {n: count for n in names if isinstance(count := getattr(row, n), Count)}
    if not counts:
        return row
    cells: dict[str, Any] = {
        name: None if count.is_hidden(min_cell) else int(count) for name, count in counts.items()
    }
    if any(count.is_few(min_cell) for count in counts.values()):
        cells |= {"n_trials": None} if "n_trials" in names else {}
        if row.below_n is not None:
            notes = [n for n in row.notes if n != f"n<{row.below_n}"]
            cells |= {"notes": (f"n<{min_cell}", *notes), "below_n": min_cell}
    elif None in cells.values() and "centile" in names:
        first = int(row.below_n is not None or row.notes[:1] == (LIMITS_WITHHELD,))
        cells["notes"] = (*row.notes[:first], N_WITHHELD, *row.notes[first:])
    return replace(row, **cells)


def _shown_trials(rows: Sequence[Any], min_cell: int, *, internal: bool) -> list[Any]:
    """Each trial's limits and those without it, but of hidden trials.

    The limits with and without a small trial, taken together, are its participants' values; the
    span over left-out trials would give one of them away too.
    """

    def cell(row: Any) -> tuple[Any, ...]:
        return (row.measure, row.sex, row.ethnicity, row.age_low, row.centile)

    shown: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        rest = shown.setdefault(cell(row), [])
        if row.limit_without is not None and (internal or not row.n.is_hidden(min_cell)):
            rest.append(row.limit_without)
    found = []
    for row in rows:
        few = row.n < min_cell
        cells: dict[str, Any] = {"n": int(row.n)}
        if row.n.is_hidden(min_cell):
            own = row.notes[:1] if row.below_n is not None and not few else ()
            note = f"n<{min_cell}" if few else N_WITHHELD
            cells = {"n": None, "n_without": None, "below_n": min_cell if few else row.below_n}
            if internal:
                own = row.notes[1:] if few else row.notes
            else:
                cells |= dict.fromkeys(("limit", "ci_low", "ci_high", "limit_without"))
                cells |= {"limits": "", "status": "suppressed"}
            cells["notes"] = (*own, note)
        rest = shown[cell(row)]
        cells |= {"span_low": min(rest, default=None), "span_high": max(rest, default=None)}
        found.append(replace(row, **cells))
    return found


# ------------------------------------------------------------------ pooling


def suppress_pooling(
    pooled: Result,
    studies: Mapping[str, Sequence[Any]],
    level_events: Mapping[tuple[str, str, str, str, str], int],
) -> Result:
    """A finished ``PoolingResult`` as it may be shown: the one place where pooling suppresses.

    ``studies`` by arm; ``level_events`` as of `suppress_levels`.
    """
    result: Any = pooled
    min_cell = result.options.min_cell
    few_events = few_event_trials(studies, min_cell)
    main = [row for row in result.effects if row.source != "reported" and row.variant == "main"]
    second = [row for row in result.effects if row.source == "reported"]
    reported = iter(suppress_small_differences(second, main, min_cell))
    effects = [next(reported) if row.source == "reported" else row for row in result.effects]
    effects = suppress_levels(effects, min_cell, level_events)
    shown = suppress_effects(effects, min_cell, few_events)
    notes = {(r.arm, r.trial): r.note for r in shown if r.analysis == "trial" and r.se is None}
    hidden = few_events | {
        (study.arm, study.trial)
        for members in studies.values()
        for study in members
        if study.n_control is not None
        and is_small(study.n_control + (study.n_active or 0), min_cell)
    }
    shown_result: Result = replace(
        result,
        **_of_events(result, notes, {arm for arm, _ in few_events}),
        effects=shown,
        by_arm=suppress_arm_counts(result.by_arm, min_cell, few_events),
        integrity=suppress_integrity(result.integrity, min_cell),
        compared=suppress_effects(result.compared, min_cell),
        influence=tuple(
            without_numbers(row, notes[row.arm, row.trial], k=row.k)
            if (row.arm, row.trial) in notes
            else row
            for row in result.influence
        ),
        # A group of trials with one hidden trial: its other trials would give it back.
        regression=tuple(
            without_numbers(
                row, f"{WITHHELD}: one of its trials alone is not shown", k=row.k, trials=row.trials
            )
            if row.k > 1 and sum((row.arm, trial) in hidden for trial in row.trials) == 1
            else row
            for row in result.regression
        ),
        points=tuple(
            point
            for point in result.points
            if (point.arm, point.trial) not in notes
            and min(point.counts[:2]) >= min_cell
            and not any(is_small(count, min_cell) for count in point.counts[2:])
        ),
    )
    return shown_result


def _of_events(
    result: Any, notes: Mapping[tuple[str, str], str], few: Collection[str]
) -> dict[str, tuple[Any, ...]]:
    """`rmst`, `proportional` and `survival`: no numbers of a trial whose effect has none."""
    few_note = f"n<{result.options.min_cell} (events)"

    def shown(row: Any) -> Any:
        if not row.trial and getattr(row, "k", 2) == 1 and row.arm in few:  # one trial's own
            return without_numbers(row, few_note, k=1)
        note = notes.get((row.arm, row.trial), "")
        return without_numbers(row, note) if note else row

    curves = tuple(
        row
        for row in result.survival
        if (row.arm, row.trial) not in notes
        and not (not row.trial and row.k == 1 and row.arm in few)
    )
    tables = {name: tuple(map(shown, getattr(result, name))) for name in ("proportional", "rmst")}
    return {**tables, "survival": curves}


_IDENTITY = (
    *("analysis", "source", "model", "outcome", "effect", "arm", "control", "term", "trial"),
    *("level", "headline", "ci_method", "covariate", "kind", "tau2_model", "time"),
    *("variant", "label", "aggregate"),
)


def without_numbers(row: Any, note: str, *small_counts: str, **kept: Any) -> Any:
    """The row with its identity alone, ``note`` as the reason, and the values ``kept``."""
    empty: dict[str, Any] = {
        field.name: "" if isinstance(getattr(row, field.name), str) else None
        for field in fields(row)
        if field.name not in _IDENTITY
    }
    if "suppressed" in empty:
        status = COMPLEMENTARY if note == WITHHELD else BELOW_THRESHOLD
        empty |= {"suppressed": status, "small_counts": small_counts}
    return replace(row, **{**empty, "note": note, **kept})


def few_event_trials(
    studies: Mapping[str, Sequence[Any]], min_cell: int
) -> frozenset[tuple[str, str]]:
    """The (arm, trial) with fewer events than the cell in an arm.

    Estimate, SE and n give such a count back, so the trial's numbers are not shown. Where one trial
    alone is so, the next smallest is withheld too: else the pooled effect less the others would
    give it back.
    """
    found: set[tuple[str, str]] = set()
    for arm, members in studies.items():
        known = [s for s in members if s.estimable and s.events_control is not None]
        known.sort(key=lambda s: (s.events_control + (s.events_active or 0), s.trial))
        few = [
            s
            for s in known
            if is_small(s.events_control, min_cell) or is_small(s.events_active, min_cell)
        ]
        if len(few) == 1:
            few += [s for s in known if s is not few[0]][:1]
        found |= {(arm, study.trial) for study in few}
    return frozenset(found)


def suppress_effects(
    rows: Sequence[Any], min_cell: int, few_events: Collection[tuple[str, str]] = ()
) -> tuple[Any, ...]:
    """The rows of ``effects.csv`` (not by level) without small counts and what gives them back.

    A trial with fewer participants than the cell in all keeps its row, without numbers, and so does
    what is left without it; it stays among the pooled. Where one trial alone is so, the numbers of
    the next smallest are withheld too: else the pooled effect less the others would be its own.
    The numbers of ``few_events`` (`few_event_trials`) are withheld.
    """
    sizes: dict[str, dict[str, int]] = {}
    for row in rows:
        if row.analysis == "trial" and row.se is not None and row.n_control is not None:
            sizes.setdefault(row.arm, {})[row.trial] = row.n_control + (row.n_active or 0)
    few, next_smallest = set(), set()
    for arm, found in sizes.items():
        ordered = sorted((n, trial) for trial, n in found.items())
        small = [trial for n, trial in ordered if n < min_cell]
        few |= {(arm, trial) for trial in small}
        if len(small) == 1:
            next_smallest |= {(arm, trial) for _, trial in ordered[1:2]}

    def shown(row: Any) -> Any:
        key, note = (row.arm, row.trial), f"n<{min_cell} (events)"
        counts = {"n_control": row.n_control, "n_active": row.n_active}
        if row.analysis == "leave-one-out":
            if key in few or key in next_smallest:
                return without_numbers(row, f"n<{min_cell}" if key in few else WITHHELD)
            return without_numbers(row, note, "events") if key in few_events else row
        if row.analysis == "trial" and key in next_smallest:
            return without_numbers(row, WITHHELD, **counts)
        single = row.analysis == "pooled" and row.k == 1
        if row.analysis == "trial" and key in few_events:
            return without_numbers(row, note, "events", **counts, k=row.k)
        if single and any(arm == row.arm for arm, _ in few_events):
            return without_numbers(row, note, "events", **counts, k=row.k)
        return row

    return _without_small_arms([shown(row) for row in rows], min_cell)


def _without_small_arms(rows: Sequence[Any], min_cell: int) -> tuple[Any, ...]:
    """The rows without a trial's counts where one arm's is small, nor pooled counts that give it.

    The df goes too where it gives the size of a trial.
    """
    small = [row for row in rows if row.analysis == "trial" and _small_arms(row, min_cell)]
    arms = {(row.arm, row.control) for row in small}
    trials = {row.trial for row in small}
    found = []
    for row in rows:
        own = _small_arms(row, min_cell)
        if (
            row.trial in trials
            if row.analysis == "trial"
            else own or (row.arm, row.control) in arms
        ):
            by_trial = row.analysis == "trial"
            if by_trial and own and (row.n_control or 0) + (row.n_active or 0) < min_cell:
                found.append(without_numbers(row, f"n<{min_cell}", ci_method=""))
                continue
            # Another arm of the trial may be the small one; the interval gives its size back.
            own = own if by_trial else []
            note = f"n<{min_cell} ({', '.join(own)})" if own else WITHHELD
            row = replace(  # noqa: PLW2901
                row,
                n_control=None,
                n_active=None,
                df=None if by_trial or row.k == 1 else row.df,
                note="; ".join(filter(None, (note, row.note))),
                suppressed=BELOW_THRESHOLD if own else row.suppressed or COMPLEMENTARY,
                small_counts=tuple(own) or row.small_counts,
            )
        found.append(row)
    return tuple(found)


def _small_arms(row: Any, min_cell: int) -> list[str]:
    return [arm for arm in ("control", "active") if is_small(getattr(row, f"n_{arm}"), min_cell)]


def suppress_levels(
    rows: Sequence[Any], min_cell: int, events: Mapping[tuple[str, str, str, str, str], int]
) -> list[Any]:
    """Rows of subgroups and interactions without what rests on small cells.

    A trial's effect in a small level, and its contrasts with it, are not shown; they stay among the
    pooled. Where a trial's count of a level is hidden, the level's total is too. Where a level of a
    trial has fewer ``events`` (by arm, term, trial, level, side) than the cell, none of the trial's
    levels is shown, because its other levels and its total would give them back.
    """
    few_events = {key[:3] for key, count in events.items() if is_small(count, min_cell)}
    small = {
        (row.arm, row.term, row.trial, row.level)
        for row in rows
        if row.analysis == "subgroup" and row.trial and _small_arms(row, min_cell)
    }
    hidden = {(arm, term, level) for arm, term, _, level in small}
    shown = []
    for row in rows:
        if row.trial:
            few = (row.arm, row.term, row.trial) in few_events
        else:
            few = row.k == 1 and any(key[:2] == (row.arm, row.term) for key in few_events)
        levels = row.level.split(" vs ") if row.analysis == "interaction" else [row.level]
        if row.estimate is not None and few:
            row = without_numbers(row, f"n<{min_cell} (events)", "events")  # noqa: PLW2901
        elif row.analysis not in ("subgroup", "interaction"):
            pass
        elif row.trial and any((row.arm, row.term, row.trial, one) in small for one in levels):
            row = without_numbers(row, f"n<{min_cell}", headline=True, ci_method="")  # noqa: PLW2901
        elif any((row.arm, row.term, one) in hidden for one in levels):
            note = (
                row.note if WITHHELD in row.note else "; ".join(filter(None, (WITHHELD, row.note)))
            )
            empty = {"n_control": None, "n_active": None, "suppressed": COMPLEMENTARY}
            row = replace(row, **empty, note=note)  # noqa: PLW2901
        shown.append(row)
    return shown


def suppress_small_differences(
    rows: Sequence[Any], main: Sequence[Any], min_cell: int
) -> list[Any]:
    """Rows of a second analysis without counts where these, less those of ``main``, are small."""
    counts = {(r.arm, r.trial): (r.n_control, r.n_active) for r in main if r.analysis == "trial"}
    few = any(
        is_small(abs((a or 0) - (b or 0)), min_cell)
        for row in rows
        if row.analysis == "trial" and (row.arm, row.trial) in counts
        for a, b in zip(counts[row.arm, row.trial], (row.n_control, row.n_active), strict=True)
    )
    return [replace(row, n_control=None, n_active=None) if few else row for row in rows]


_COUNTS = (
    *("randomised", "died", "withdrew", "alive", "scanned", "no_outcome", "no_baseline", "paired"),
    *("baseline_only", "followup_only", "analysed", "events", "n_baseline_others"),
)
# Sums that are true in every row: a total and its parts. A total of two with "" (scanned and
# analysed, …) has a part that is not shown, and so is always hidden.
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
# How many were randomised and analysed is in any report of a trial.
_ALWAYS_SHOWN = ("randomised", "analysed")


def suppress_arm_counts(
    rows: Sequence[Any], min_cell: int, few_events: Collection[tuple[str, str]] = ()
) -> tuple[Any, ...]:
    """The rows of ``participants_by_arm.csv`` without small counts, and without means of so few.

    Where one arm's analysed are too few, those of the trial's other arms are withheld too; so are
    all events of a trial of ``few_events`` (`few_event_trials`), whose effect they would give.
    """
    trials_with_few_events = {trial for _, trial in few_events}
    trials = {row.trial for row in rows if is_small(row.analysed, min_cell)}
    shown = []
    for row in rows:
        small = [name for name in _COUNTS if is_small(getattr(row, name), min_cell)]
        hidden = {*small, *(["baseline_others"] if "n_baseline_others" in small else [])}
        if "analysed" in small:
            hidden |= {"baseline_analysed", "outcome_mean", "outcome_sd"}
        notes = [f"n<{min_cell} ({', '.join(small)})"] if small else []
        further = _recoverable(row, hidden, min_cell)
        if further:
            hidden |= further
            notes.append(WITHHELD)
        if row.trial in trials and "analysed" not in hidden:
            hidden |= {"analysed", "outcome_mean", "outcome_sd"}
            notes.insert(0, WITHHELD)
        if row.trial in trials_with_few_events and "events" not in hidden:
            hidden.add("events")
            notes.insert(0, WITHHELD)
        note = "; ".join(dict.fromkeys(filter(None, (*notes, row.note))))
        if hidden:
            status = BELOW_THRESHOLD if small else COMPLEMENTARY
            facts = {"note": note, "suppressed": status, "small_counts": tuple(small)}
            row = replace(row, **dict.fromkeys(hidden), **facts)  # noqa: PLW2901
        shown.append(row)
    return tuple(shown)


def _recoverable(row: Any, hidden: Collection[str], min_cell: int) -> set[str]:
    """Further counts to empty: the least free one of each sum that gives its hidden part back."""
    gone = {name for name in _COUNTS if name in hidden or getattr(row, name) is None}
    further: set[str] = set()
    while True:
        for total, parts in _SUMS:
            shown = {n: int(getattr(row, n)) for n in (total, *parts) if n and n not in gone}
            if len(shown) != len(parts) or total not in shown:
                continue
            rest = abs(2 * shown[total] - sum(shown.values()))
            free = [name for name in shown if name not in _ALWAYS_SHOWN]
            if 0 < rest < min_cell and free:
                found = min(free, key=lambda name: (shown[name], name))
                break
        else:
            return further
        gone.add(found)
        further.add(found)


def suppress_integrity(rows: Sequence[Any], min_cell: int) -> tuple[Any, ...]:
    """Integrity findings without small counts; that there are some stays known."""
    shown = []
    for row in rows:
        small = [n for n in ("n_checked", "n_found") if is_small(getattr(row, n), min_cell)]
        text = f"{row.sentence} (n<{min_cell})" if small else row.sentence
        status = BELOW_THRESHOLD if small else ""
        shown.append(replace(row, **dict.fromkeys(small), sentence=text, suppressed=status))
    return tuple(shown)
