"""What may leave the house: no count of a few people, and nobody's own extreme value.

A smallest or largest value is one person's. Rank intervals of 119 to about 185 people end there, so
for release such an end is moved outward to a round number (`outward`): the interval only becomes
wider and its coverage is at least the exact one. A limit that leans by more than half on an extreme
value (a rank method on fewer than 59 people) is withheld. With ``--internal`` both are given as
they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .results import Account
from .strata.limits import Limit

AT_EXTREME = "ci-at-extreme"
WITHHELD = "limit-at-extreme"


def hidden_counts(counts: Sequence[int], total: int, min_cell: int) -> tuple[bool, ...]:
    """True for each count that must not be printed, where ``total`` is printed beside them.

    Counts from 1 to ``min_cell`` - 1 are hidden; if what is left of the total would then still be
    a few people, the smallest shown count is hidden as well (complementary suppression).
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


def released_counts(counts: Mapping[str, int], total: int, min_cell: int) -> dict[str, int | None]:
    """Counts by name as they may be told beside their ``total``; None for one that is withheld."""
    hidden = hidden_counts(list(counts.values()), total, min_cell)
    return {
        name: None if hide and count else count
        for (name, count), hide in zip(counts.items(), hidden, strict=True)
    }


def released_account(account: Account, min_cell: int) -> dict[str, Any]:
    """What became of the rows for one measure, without the counts of a few people."""

    def told(count: int | None) -> int | None:
        return None if count is not None and 0 < count < min_cell else count

    gone = account.rows_in - account.analysed
    return {
        "measure": account.measure,
        "rows_in": account.rows_in,
        "excluded": released_counts(account.excluded, gone, min_cell),
        "analysed": account.analysed,
        "ethnicity_unknown": told(account.ethnicity_unknown),
        "outliers": told(account.outliers),
    }


def released(limits: Sequence[Limit]) -> tuple[Limit, ...]:
    """The limits of one cell as they may be printed in a page for release."""
    known = [found.limit for found in limits if found.limit is not None]
    width = max(known) - min(known) if known else 0.0
    return tuple(_released(found, width) for found in limits)


def _released(found: Limit, width: float) -> Limit:
    if found.limit_at_extreme:
        return replace(found, limit=None, ci_low=None, ci_high=None, notes=(*found.notes, WITHHELD))
    low, high = found.ci_low, found.ci_high
    if low is not None and found.low_at_extreme:
        low = outward(low, width, up=False)
    if high is not None and found.high_at_extreme:
        high = outward(high, width, up=True)
    if (low, high) == (found.ci_low, found.ci_high):
        return found
    return replace(found, ci_low=low, ci_high=high, notes=(*found.notes, AT_EXTREME))


def outward(value: float, width: float, *, up: bool) -> float:
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
