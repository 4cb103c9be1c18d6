"""What a forest plot shows: its rows, its words, and the checks they must pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from .numbers import shown_estimate, shown_interval

RowKind = Literal[
    "trial",  # a square
    "aggregate",  # a trial known by its summary only: a hollow square
    "subgroup-pooled",  # a diamond within a subgroup
    "pooled",  # a diamond; the first one carries the dashed line
    "prediction",  # a bar from ci_low to ci_high
    "subgroup-heading",  # a line of bold text
    "text",  # a line of small text (heterogeneity or interaction of a subgroup)
    "space",  # an empty line
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestRow:
    """One line of the plot.

    ``cells`` are the texts under ``ForestSpec.columns`` (none, or as many as there are columns);
    ``note`` stands in place of the numbers where ``estimate`` is None ("not estimable").
    """

    label: str
    kind: RowKind = "trial"
    estimate: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    weight_percent: float | None = None
    cells: tuple[str, ...] = ()
    note: str = ""
    indent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestSpec:
    """What a forest plot shows.

    ``effect_label`` has the unit ("Mean difference, g/m²"); ``left_label`` and ``right_label``
    stand under the axis on either side of ``null_value`` ("Favours active"); ``axis_limits``
    replaces the limits that are chosen from the data; ``width_mm`` is the least width, 180 being
    the two columns of a journal.
    """

    rows: tuple[ForestRow, ...]
    effect_label: str
    columns: tuple[str, ...] = ()
    label_heading: str = "Trial"
    null_value: float = 0.0
    left_label: str = ""
    right_label: str = ""
    log_scale: bool = False
    decimals: int = 1
    level_percent: float = 95.0
    heterogeneity_text: str = ""
    title: str = "Forest plot"
    axis_limits: tuple[float, float] | None = None
    width_mm: float = 180.0


def describe(spec: ForestSpec) -> str:
    """Every row in words, for people who cannot see the picture."""
    sentences = [f"{spec.effect_label}, {spec.level_percent:g}% confidence intervals."]
    for row in spec.rows:
        if row.kind == "space":
            continue
        words = numbers_text(row, spec.decimals)
        weight = "" if row.weight_percent is None else f", weight {row.weight_percent:.1f}%"
        sentences.append(f"{row.label}: {words}{weight}." if words else f"{row.label}.")
    return " ".join([*sentences, spec.heterogeneity_text]).strip()


def numbers_text(row: ForestRow, decimals: int) -> str:
    """The numbers at the right of a row."""
    if row.kind in ("subgroup-heading", "text", "space"):
        return ""
    if row.kind == "prediction" and row.ci_low is not None:
        return f"({shown_interval(row.ci_low, row.ci_high, decimals)})"
    if row.estimate is None:
        return row.note or "not estimable"
    return shown_estimate(row.estimate, row.ci_low, row.ci_high, decimals)


def check(spec: ForestSpec) -> None:
    """Raise ValueError where a plot could not be drawn truly."""
    if not spec.rows:
        raise ValueError("a forest plot needs at least one row")
    for row in spec.rows:
        if row.cells and len(row.cells) != len(spec.columns):
            raise ValueError(
                f"{row.label!r} has {len(row.cells)} cells for {len(spec.columns)} columns"
            )
        numbers = [n for n in (row.ci_low, row.estimate, row.ci_high) if n is not None]
        if row.estimate is not None and len(numbers) != 3:
            raise ValueError(f"{row.label!r} has an estimate without its interval")
        if not all(math.isfinite(n) for n in numbers):
            raise ValueError(f"{row.label!r} has a value that is not finite: give a note instead")
        if not all(low <= high for low, high in pairwise(numbers)):
            raise ValueError(f"{row.label!r} has an interval that does not hold its estimate")
        if spec.log_scale and any(n <= 0 for n in numbers):
            raise ValueError(f"{row.label!r} has a value that a log axis cannot show")
    if spec.log_scale and spec.null_value <= 0:
        raise ValueError("the null value of a log axis must be positive")
