"""Forest plots in the manner of the BMJ and the Lancet, with a layout of their own.

``forest_plot(ForestSpec(rows=(...), effect_label="Mean difference, mL"))`` measures every text
before it places anything, so that nothing overlaps whatever the number of trials or the length of
their names. Estimates, limits and ``null_value`` are on the scale shown: ratios are given as
ratios (not logs) together with ``log_scale=True``.

Squares have areas proportional to weight; intervals that leave the axis end in arrows; pooled
effects are diamonds, prediction intervals bars. All parts stay apart in black and white.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from .forest_draw import draw
from .forest_layout import arrange
from .numbers import shown_estimate, shown_interval
from .style import figure_png, figure_style, figure_svg

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestFigure:
    """A drawn forest plot: SVG text and PNG bytes (300 dpi)."""

    svg: str
    png: bytes


def forest_plot(spec: ForestSpec) -> ForestFigure:
    """Draw a forest plot.

    Raises ValueError where a row has other cells than there are columns, an interval runs
    backwards or does not hold its estimate, or a log axis is given a value that is not positive.
    """
    _check(spec)
    with figure_style():
        layout = arrange(spec)
        figure = draw(spec, layout)
    return ForestFigure(
        svg=figure_svg(figure, title=spec.title, description=describe(spec)),
        png=figure_png(figure, dpi=300),
    )


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


def _check(spec: ForestSpec) -> None:
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
        if not all(low <= high for low, high in pairwise(numbers)):
            raise ValueError(f"{row.label!r} has an interval that does not hold its estimate")
        if spec.log_scale and any(n <= 0 for n in numbers):
            raise ValueError(f"{row.label!r} has a value that a log axis cannot show")
    if spec.log_scale and spec.null_value <= 0:
        raise ValueError("the null value of a log axis must be positive")
