"""Which scan to review first, and how much the scans that are left could change the result.

The queue is in order of doubt × influence. *Doubt* is the standard deviation of the model's error
in the measure, where the table has it (``<measure>_sd``), else 1 - quality. *Influence* is the
weight of the participant in the pooled difference between arms: a trial with ``n`` participants in
each arm ``a`` has the precision ``w = 1 / Σ 1/n_a`` (equal residual variances), so the derivative
of the pooled effect with respect to one participant's outcome is ``(w / Σw) / n_a``. Without arms
it is ``1/n``, that of the mean over all participants.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WORST_SD = 2.0  # an error that large in every scan, all in one direction
_95 = 1.959964


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """By scan ``[n]``: doubt, influence and their product; ``unit`` of doubt, empty without SD."""

    doubt: np.ndarray
    influence: np.ndarray
    priority: np.ndarray
    measure: str
    unit: str

    @property
    def name(self) -> str:
        """``LV EF`` of ``lv_ef_percent``; another name as it is."""
        parts = self.measure.split("_")
        return " ".join(part.upper() for part in parts[:2]) if len(parts) == 3 else self.measure

    def stopping_rule(self, left: Sequence[int]) -> str:
        """A sentence on what the scans that are not yet reviewed could change."""
        if not len(left):
            return "Every scan has been reviewed."
        count = f"{len(left):,} scan{'s' if len(left) > 1 else ''} left"
        if not self.unit:
            total = float(self.priority.sum())
            share = float(self.priority[list(left)].sum()) / total if total else 1.0
            return f"{count}: {share:.0%} of all doubt × influence (no SD of {self.name} is known)."
        shift = self.priority[list(left)]
        worst = WORST_SD * float(shift.sum())
        likely = _95 * math.sqrt(float((shift**2).sum()))
        unit = "percentage points" if self.unit == "%" else self.unit
        return (
            f"{count}: errors of {WORST_SD:g} SD in all of them, in one direction, would change "
            f"the pooled effect on {self.name} by {_shown(worst)} {unit}; independent errors by "
            f"at most {_shown(likely)} (95 %)."
        )


def _shown(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def queue_of(rows: Sequence[Mapping[str, str]], measure: str, unit: str) -> Queue:
    """The queue of the rows of ``measurements.csv`` (text cells), in their order."""
    spread = np.array([number(row.get(f"{measure}_sd")) for row in rows], dtype=np.float64)
    has_sd = bool(np.isfinite(spread).any())
    doubt = spread if has_sd else 1 - np.array([number(row.get("quality")) for row in rows])
    known = doubt[np.isfinite(doubt)]
    # A scan without a number is in as much doubt as the worst one that has it.
    doubt = np.where(np.isfinite(doubt), doubt, known.max() if len(known) else 1.0)
    weights = influence(rows)
    return Queue(
        doubt=doubt,
        influence=weights,
        priority=doubt * weights,
        measure=measure,
        unit=unit if has_sd else "",
    )


def influence(rows: Sequence[Mapping[str, str]]) -> np.ndarray:
    """The weight of each row's participant in the pooled difference between arms ``[n]``."""
    participants = {(row["trial"], row["participant_id"]): row.get("arm") or "" for row in rows}
    sizes = Counter((trial, arm) for (trial, _), arm in participants.items() if arm)
    arms: dict[str, list[int]] = defaultdict(list)
    for (trial, _), count in sizes.items():
        arms[trial].append(count)
    precision = {
        trial: 1 / sum(1 / count for count in counts)
        for trial, counts in arms.items()
        if len(counts) > 1
    }
    total = sum(precision.values())
    if not total:
        return np.full(len(rows), 1 / max(len(participants), 1))
    weights = []
    for row in rows:
        count = sizes.get((row["trial"], row.get("arm") or ""), 0)
        weights.append(precision.get(row["trial"], 0.0) / total / count if count else 0.0)
    return np.array(weights)


def number(text: str | None) -> float:
    """The number in a cell, NaN where it is empty."""
    return float(text) if text else math.nan
