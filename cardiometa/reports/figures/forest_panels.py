"""Two forest plots side by side whose rows stand level and whose axes have one scale."""

from __future__ import annotations

import math
from dataclasses import replace

from ..style import POINTS_PER_MM, figure_png, figure_style, figure_svg, new_figure
from .forest import ForestFigure, ForestSpec, Layout, PlacedRow, arrange, check, describe, paint

GAP = 14.0  # points between the panels


def two_panels(left: ForestSpec, right: ForestSpec, *, title: str) -> ForestFigure:
    """Draw two plots with as many rows each; ValueError as `forest_plot`, or for other rows."""
    if len(left.rows) != len(right.rows):
        raise ValueError("the panels of a figure need as many rows each")
    check(left)
    check(right)
    with figure_style():
        specs = _one_scale(left, right)
        first, second = _level(arrange(specs[0]), arrange(specs[1]))
        width = first.width + GAP + second.width
        height = max(first.height, second.height)
        figure = new_figure(width / POINTS_PER_MM, height / POINTS_PER_MM)
        places = ((specs[0], first, 0.0), (specs[1], second, first.width + GAP))
        for spec, layout, start in places:
            axes = figure.add_axes((start / width, 0, layout.width / width, 1))
            axes.set_xlim(0, layout.width)
            axes.set_ylim(height, 0)
            paint(axes, spec, layout)
    description = f"Left: {describe(left)} Right: {describe(right)}"
    return ForestFigure(
        svg=figure_svg(figure, title=title, description=description),
        png=figure_png(figure, dpi=300),
    )


def _one_scale(left: ForestSpec, right: ForestSpec) -> tuple[ForestSpec, ForestSpec]:
    """Both axes the same length in the outcome's unit, so that widths can be compared.

    Of ratios the same length of the logarithm.
    """
    axes = [arrange(spec).axis for spec in (left, right)]
    limits = [
        (math.log(axis.low), math.log(axis.high)) if axis.log_scale else (axis.low, axis.high)
        for axis in axes
    ]
    span = max(high - low for low, high in limits)
    specs = []
    for spec, (low, high) in zip((left, right), limits, strict=True):
        extra = (span - (high - low)) / 2
        ends = (low - extra, high + extra)
        if spec.log_scale:
            ends = (math.exp(ends[0]), math.exp(ends[1]))
        specs.append(replace(spec, axis_limits=ends))
    return specs[0], specs[1]


def _level(left: Layout, right: Layout) -> tuple[Layout, Layout]:
    """Give both layouts one header and, row by row, one height."""
    header = max(left.header_bottom, right.header_bottom)
    heights = [max(a.height, b.height) for a, b in zip(left.rows, right.rows, strict=True)]
    gaps = [max(_before(left, i), _before(right, i)) for i in range(len(heights))]
    return _moved(left, header, heights, gaps), _moved(right, header, heights, gaps)


def _before(layout: Layout, index: int) -> float:
    """The empty space above a row."""
    above = layout.rows[index - 1] if index else None
    start = above.top + above.height if above else layout.header_bottom + 3
    return layout.rows[index].top - start


def _moved(layout: Layout, header: float, heights: list[float], gaps: list[float]) -> Layout:
    top = header + 3
    rows: list[PlacedRow] = []
    for row, height, gap in zip(layout.rows, heights, gaps, strict=True):
        rows.append(replace(row, top=top + gap, height=height))
        top += gap + height
    down = top - layout.rows_bottom
    names = ("rows_bottom", "ticks_top", "favours_top", "axis_label_top", "foot_top", "height")
    moved = {name: getattr(layout, name) + down for name in names}
    return replace(layout, rows=tuple(rows), header_bottom=header, **moved)
