"""Drawing a forest plot whose layout is known, in points from the upper left corner."""

from __future__ import annotations

import math
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from .forest_layout import INDENT, LINE, MARGIN, SIZE, SMALL, SMALL_LINE, Layout, PlacedRow
from .forest_spec import ForestSpec
from .style import HAIR, INK, POINTS_PER_MM, SOFT, new_figure

MARK: Final = "#3b6ea5"  # mid-grey in print
DIAMOND: Final = "#12304f"  # nearly black in print
SQUARE_MOST: Final = 10.5
SQUARE_LEAST: Final = 2.6


def draw(spec: ForestSpec, layout: Layout) -> Figure:
    """A figure whose one axes has a unit of one point; call inside `figure_style`."""
    figure = new_figure(layout.width / POINTS_PER_MM, layout.height / POINTS_PER_MM)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, layout.width)
    axes.set_ylim(layout.height, 0)
    paint(axes, spec, layout)
    return figure


def paint(axes: Axes, spec: ForestSpec, layout: Layout) -> None:
    """Draw on axes whose unit is one point, the upper left corner of the layout at (0, 0)."""
    axes.axis("off")
    _header(axes, layout)
    _reference_lines(axes, spec, layout)
    shares = [row.weight_percent or 0.0 for row in spec.rows if row.kind in ("trial", "aggregate")]
    largest = max(shares, default=0.0)
    for placed in layout.rows:
        _texts(axes, layout, placed)
        _mark(axes, layout, placed, largest)
    _axis(axes, spec, layout)
    _foot(axes, layout)


def _write(axes: Axes, x: float, y: float, text: str, **how: Any) -> None:
    if text:
        axes.text(x, y, text, **{"fontsize": SIZE, "va": "baseline", "ha": "left", **how})


def _lines(axes: Axes, x: float, top: float, lines: tuple[str, ...], **how: Any) -> None:
    """Several lines from ``top`` down."""
    step = SMALL_LINE if how.get("fontsize") == SMALL else LINE
    for index, line in enumerate(lines):
        _write(axes, x, top + index * step + 0.78 * step, line, **how)


def _rule(axes: Axes, xs: tuple[float, float], ys: tuple[float, float], **how: Any) -> None:
    axes.plot(xs, ys, **{"color": INK, "linewidth": 0.8, "solid_capstyle": "butt", **how})


def _header(axes: Axes, layout: Layout) -> None:
    bottom = layout.header_bottom - 5

    def heading(x: float, lines: tuple[str, ...], ha: str) -> None:
        _lines(axes, x, bottom - len(lines) * LINE, lines, ha=ha, weight="bold")

    heading(MARGIN, layout.label_heading, "left")
    for right, lines in zip(layout.column_rights, layout.column_headings, strict=True):
        heading(right, lines, "right")
    heading(layout.numbers_right, layout.numbers_heading, "right")
    if layout.weight_right is not None:
        heading(layout.weight_right, ("Weight", "(%)"), "right")
    y = layout.header_bottom
    _rule(axes, (MARGIN, layout.width - MARGIN), (y, y))


def _reference_lines(axes: Axes, spec: ForestSpec, layout: Layout) -> None:
    top, bottom = layout.header_bottom, layout.ticks_top
    null = layout.axis.place(spec.null_value)
    if layout.axis.left <= null <= layout.axis.right:
        _rule(axes, (null, null), (top, bottom), linewidth=0.8, zorder=1)
    for placed in layout.rows:
        if placed.row.kind == "pooled" and placed.row.estimate is not None:
            x = layout.axis.place(placed.row.estimate)
            _rule(axes, (x, x), (top, bottom), color=SOFT, linewidth=0.8, dashes=(3, 2), zorder=1)
            return


def _texts(axes: Axes, layout: Layout, placed: PlacedRow) -> None:
    row = placed.row
    weight = "bold" if row.kind in ("pooled", "subgroup-heading") else "normal"
    small = row.kind == "text"
    size, step = (SMALL, SMALL_LINE) if small else (SIZE, LINE)
    top = placed.middle - len(placed.lines) * step / 2
    style: dict[str, Any] = {"fontsize": size, "weight": weight}
    if small:
        style["color"] = SOFT
    _lines(axes, MARGIN + row.indent * INDENT, top, placed.lines, **style)
    y = placed.middle - LINE / 2 + 0.78 * LINE
    for right, cell in zip(layout.column_rights, row.cells, strict=False):
        _write(axes, right, y, cell, ha="right", weight=weight)
    _write(axes, layout.numbers_right, y, placed.numbers, ha="right", weight=weight)
    if layout.weight_right is not None:
        _write(axes, layout.weight_right, y, placed.weight, ha="right", weight=weight)


def _mark(axes: Axes, layout: Layout, placed: PlacedRow, largest: float) -> None:
    row = placed.row
    if row.ci_low is None or row.ci_high is None:
        return
    if row.kind == "prediction":
        _prediction(axes, layout, placed)
    elif row.estimate is None:
        return
    elif row.kind in ("pooled", "subgroup-pooled"):
        _diamond(axes, layout, placed)
    elif row.kind in ("trial", "aggregate"):
        _interval(axes, layout, placed)
        share = 0.35 if not largest else (row.weight_percent or 0.0) / largest
        side = max(SQUARE_MOST * math.sqrt(share), SQUARE_LEAST)
        _square(axes, layout, placed, side)


def _interval(axes: Axes, layout: Layout, placed: PlacedRow) -> None:
    """The whiskers, with an arrow at an end that lies beyond the axis."""
    axis, y = layout.axis, placed.middle
    low, high = placed.row.ci_low or 0.0, placed.row.ci_high or 0.0
    _rule(axes, (axis.clipped(low), axis.clipped(high)), (y, y), linewidth=0.9, zorder=2)
    if axis.place(low) < axis.left:
        _arrow(axes, axis.left, y, -1)
    if axis.place(high) > axis.right:
        _arrow(axes, axis.right, y, 1)


def _arrow(axes: Axes, x: float, y: float, way: int) -> None:
    points = [(x + way * 2.5, y), (x - way * 2.5, y - 2.4), (x - way * 2.5, y + 2.4)]
    axes.add_patch(Polygon(points, closed=True, facecolor=INK, edgecolor="none", zorder=3))


def _square(axes: Axes, layout: Layout, placed: PlacedRow, side: float) -> None:
    x, y = layout.axis.place(placed.row.estimate or 0.0), placed.middle
    if not layout.axis.left <= x <= layout.axis.right:
        return  # outside limits the user chose: the arrow says where it lies
    hollow = placed.row.kind == "aggregate"
    axes.add_patch(
        Rectangle(
            (x - side / 2, y - side / 2),
            side,
            side,
            facecolor="white" if hollow else MARK,
            edgecolor=MARK if hollow else "none",
            linewidth=1.0,
            zorder=3,
            gid=f"mark-{placed.row.kind}",
        )
    )
    centre = MARK if hollow else "white"
    _rule(axes, (x, x), (y - side * 0.28, y + side * 0.28), color=centre, zorder=4)


def _diamond(axes: Axes, layout: Layout, placed: PlacedRow) -> None:
    axis, y = layout.axis, placed.middle
    low, high = axis.clipped(placed.row.ci_low or 0.0), axis.clipped(placed.row.ci_high or 0.0)
    middle = axis.clipped(placed.row.estimate or 0.0)
    half = 4.6 if placed.row.kind == "pooled" else 3.8
    points = [(low, y), (middle, y - half), (high, y), (middle, y + half)]
    filled = placed.row.kind == "pooled"
    axes.add_patch(
        Polygon(
            points,
            closed=True,
            facecolor=DIAMOND if filled else "white",
            edgecolor=DIAMOND,
            linewidth=0.9,
            zorder=3,
            gid=f"mark-{placed.row.kind}",
        )
    )


def _prediction(axes: Axes, layout: Layout, placed: PlacedRow) -> None:
    """A bar with end ticks; an arrow where it leaves the axis."""
    axis, y = layout.axis, placed.middle
    low, high = placed.row.ci_low or 0.0, placed.row.ci_high or 0.0
    _rule(
        axes,
        (axis.clipped(low), axis.clipped(high)),
        (y, y),
        color=DIAMOND,
        linewidth=2.6,
        zorder=3,
        gid="mark-prediction",
    )
    for value, edge, way in ((low, axis.left, -1), (high, axis.right, 1)):
        if (axis.place(value) - edge) * way > 0:
            _arrow(axes, edge, y, way)
        else:
            x = axis.place(value)
            _rule(axes, (x, x), (y - 3.4, y + 3.4), color=DIAMOND, linewidth=1.1, zorder=3)


def _axis(axes: Axes, spec: ForestSpec, layout: Layout) -> None:
    axis, y = layout.axis, layout.ticks_top
    _rule(axes, (axis.left, axis.right), (y, y), linewidth=0.7)
    for value, label in axis.ticks:
        x = axis.place(value)
        _rule(axes, (x, x), (y, y + 3), linewidth=0.7)
        _write(axes, x, y + 11, label, ha="center", fontsize=8.0)
    null = axis.clipped(spec.null_value)
    top = layout.favours_top
    if layout.left_label:
        _lines(axes, null - 8, top, layout.left_label, ha="right", fontsize=SMALL, color=SOFT)
    if layout.right_label:
        _lines(axes, null + 8, top, layout.right_label, ha="left", fontsize=SMALL, color=SOFT)
    _lines(
        axes, (axis.left + axis.right) / 2, layout.axis_label_top, layout.axis_label, ha="center"
    )


def _foot(axes: Axes, layout: Layout) -> None:
    if layout.foot:
        _rule(
            axes,
            (MARGIN, layout.width - MARGIN),
            (layout.foot_top - 2, layout.foot_top - 2),
            color=HAIR,
            linewidth=0.6,
        )
    _lines(axes, MARGIN, layout.foot_top + 1, layout.foot, fontsize=SMALL)
