"""What a forest plot shows: its rows, its words, and the checks they must pass.

The axis of a forest plot: limits that hold what matters, ticks that do not collide.

Where everything of a forest plot stands: texts are measured, then columns and lines placed.

Lengths are points (1/72 inch) from the upper left corner. Nothing is drawn here.

Drawing a forest plot whose layout is known, in points from the upper left corner.

Forest plots in the manner of the BMJ and the Lancet, with a layout of their own.

``forest_plot(ForestSpec(rows=(...), effect_label="Mean difference, mL"))`` measures every text
before it places anything, so that nothing overlaps whatever the number of trials or the length of
their names. Estimates, limits and ``null_value`` are on the scale shown: ratios are given as
ratios (not logs) together with ``log_scale=True``.

Squares have areas proportional to weight; intervals that leave the axis end in arrows; pooled
effects are diamonds, prediction intervals bars. All parts stay apart in black and white.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Final, Literal, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Polygon, Rectangle
from matplotlib.ticker import MaxNLocator

from ..style import (
    HAIR,
    INK,
    MINUS,
    POINTS_PER_MM,
    SOFT,
    figure_png,
    figure_style,
    figure_svg,
    new_figure,
    shown,
    shown_estimate,
    shown_interval,
)

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


class _Ruler(Protocol):
    def width(self, text: str, *, size: float = ..., bold: bool = ...) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A value's place in points: linear, or linear in the logarithm."""

    left: float
    right: float
    low: float
    high: float
    log_scale: bool
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Points from the figure's left edge; values beyond the limits lie beyond the plot."""
        low, at, high = (_scaled(x, log=self.log_scale) for x in (self.low, value, self.high))
        return self.left + (at - low) / (high - low) * (self.right - self.left)

    def clipped(self, value: float) -> float:
        """The place, held inside the plot."""
        return min(max(self.place(value), self.left), self.right)


def choose_axis(spec: ForestSpec, left: float, right: float, ruler: _Ruler) -> Axis:
    """Limits and ticks for the rows of a plot, between ``left`` and ``right`` points."""
    low, high = spec.axis_limits or _limits(spec)
    values = _log_ticks(low, high) if spec.log_scale else _linear_ticks(low, high)
    axis = Axis(left=left, right=right, low=low, high=high, log_scale=spec.log_scale, ticks=())
    labels = _labels(values)
    ticks = tuple(zip(values, labels, strict=True))
    step = 1
    while not _fit(axis, ticks[::step], ruler) and step < len(ticks):
        step += 1
    return Axis(
        left=left,
        right=right,
        low=low,
        high=high,
        log_scale=spec.log_scale,
        ticks=_around(ticks, spec.null_value, step),
    )


def _scaled(value: float, *, log: bool) -> float:
    return math.log(value) if log else value


def _limits(spec: ForestSpec) -> tuple[float, float]:
    """The estimates, the null and the pooled intervals whole; others up to three usual widths.

    Without this rule one tiny trial presses all the others into a line.
    """
    points = [_scaled(spec.null_value, log=spec.log_scale)]
    spans: list[tuple[float, float, float, str]] = []
    for row in spec.rows:
        if row.ci_low is None or row.ci_high is None:
            continue
        low = _scaled(row.ci_low, log=spec.log_scale)
        high = _scaled(row.ci_high, log=spec.log_scale)
        middle = (
            (low + high) / 2 if row.estimate is None else _scaled(row.estimate, log=spec.log_scale)
        )
        spans.append((low, middle, high, row.kind))
    usual = median([high - low for low, _, high, _ in spans]) if spans else 1.0
    for low, middle, high, kind in spans:
        reach = math.inf if kind in ("pooled", "subgroup-pooled") else 1.5 * usual
        points += [middle, max(low, middle - reach), min(high, middle + reach)]
    span = (max(points) - min(points)) or 1.0
    null = points[0]
    # Room on both sides of the null, where the reader looks for "favours".
    low = min(min(points) - 0.04 * span, null - 0.15 * span)
    high = max(max(points) + 0.04 * span, null + 0.15 * span)
    return (math.exp(low), math.exp(high)) if spec.log_scale else (low, high)


def _linear_ticks(low: float, high: float) -> list[float]:
    found = MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(x) for x in found if low <= x <= high]


def _log_ticks(low: float, high: float) -> list[float]:
    """1-2-5 in each decade; where these are fewer than three, nice linear ones."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
    if len(found) > 9:
        found = [10.0**d for d in decades if low <= 10.0**d <= high]
    return found if len(found) >= 3 else [x for x in _linear_ticks(low, high) if x > 0]


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """The ticks of a log axis between two ratios, with their labels."""
    values = _log_ticks(low, high)
    return list(zip(values, _labels(values), strict=True))


def _labels(values: Sequence[float]) -> list[str]:
    """As many decimals as tell the ticks from one another, and no more."""
    if not values:
        return []
    texts = [np.format_float_positional(round(x, 12) + 0.0, trim="-") for x in values]
    return [text.replace("-", MINUS) for text in texts]


def _fit(axis: Axis, ticks: Iterable[tuple[float, str]], ruler: _Ruler) -> bool:
    last = -math.inf
    for value, label in ticks:
        half = ruler.width(label, size=8.0) / 2
        if axis.place(value) - half < last + 5:
            return False
        last = axis.place(value) + half
    return True


def _around(
    ticks: Sequence[tuple[float, str]], null: float, step: int
) -> tuple[tuple[float, str], ...]:
    """Every ``step``-th tick, such that the one at the null value stays."""
    at = next((i for i, (value, _) in enumerate(ticks) if math.isclose(value, null)), 0)
    return tuple(ticks[at % step :: step])


SIZE: Final = 8.5
SMALL: Final = 7.5
LINE: Final = 11.0  # from baseline to baseline inside one row
SMALL_LINE: Final = 9.8
ROW_GAP: Final = 3.2  # between two rows
MARGIN: Final = 6.0
GAP: Final = 12.0  # between two columns
INDENT: Final = 9.0
LABEL_LEAST: Final = 84.0  # leaves room for "Favours ..." left of a null near the edge
LABEL_MOST: Final = 190.0
HEADING_MOST: Final = 120.0
PLOT_LEAST: Final = 150.0


class Ruler:
    """Measures text as it will be drawn; words and widths are in points."""

    def __init__(self) -> None:
        untyped: Any = RendererAgg
        self._renderer = untyped(16, 16, 72)

    def width(self, text: str, *, size: float = SIZE, bold: bool = False) -> float:
        """Width of one line."""
        if not text:
            return 0.0
        font = FontProperties(size=size, weight="bold" if bold else "normal")
        return float(self._renderer.get_text_width_height_descent(text, font, ismath=False)[0])

    def wrap(
        self, text: str, most: float, *, size: float = SIZE, bold: bool = False
    ) -> tuple[str, ...]:
        """Lines no wider than ``most``, broken at spaces, within a word only where one is wider."""
        lines: list[str] = []
        for paragraph in text.splitlines() or [""]:
            line = ""
            # At plain spaces alone: those within a number must not break.
            for word in filter(None, paragraph.split(" ")):
                trial = f"{line} {word}".strip()
                if not line or self.width(trial, size=size, bold=bold) <= most:
                    line = trial
                else:
                    lines.append(line)
                    line = word
                while self.width(line, size=size, bold=bold) > most and len(line) > 1:
                    keep = len(line) - 1
                    while keep > 1 and self.width(line[:keep], size=size, bold=bold) > most:
                        keep -= 1
                    lines.append(line[:keep])
                    line = line[keep:]
            lines.append(line)
        return tuple(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRow:
    """A row's place: ``top`` and ``height`` of its band, its label in lines, its numbers."""

    row: ForestRow
    lines: tuple[str, ...]
    numbers: str
    weight: str
    top: float
    height: float

    @property
    def middle(self) -> float:
        """Where the square or diamond stands."""
        return self.top + self.height / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The whole plot; columns are given by their right edges except the label's left one."""

    width: float
    height: float
    rows: tuple[PlacedRow, ...]
    header_lines: int
    header_bottom: float
    rows_bottom: float
    label_heading: tuple[str, ...]
    column_rights: tuple[float, ...]
    column_headings: tuple[tuple[str, ...], ...]
    axis: Axis
    numbers_right: float
    numbers_heading: tuple[str, ...]
    weight_right: float | None
    ticks_top: float
    favours_top: float
    left_label: tuple[str, ...]
    right_label: tuple[str, ...]
    axis_label_top: float
    axis_label: tuple[str, ...]
    foot_top: float
    foot: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    label_heading: tuple[str, ...]
    label_right: float
    headings: tuple[tuple[str, ...], ...]
    rights: tuple[float, ...]
    plot_left: float
    plot_right: float
    numbers_heading: tuple[str, ...]
    numbers_right: float
    weight_right: float | None
    width: float


def arrange(spec: ForestSpec) -> Layout:
    """Measure every text and place every part; the figure grows where the texts need it."""
    ruler = Ruler()
    texts = [_RowText(spec, row, ruler) for row in spec.rows]
    columns = _columns(spec, texts, ruler)
    header_lines = max(
        len(lines) for lines in (columns.label_heading, columns.numbers_heading, *columns.headings)
    )
    header_bottom = MARGIN + header_lines * LINE + 5
    rows, rows_bottom = _rows(texts, ruler, columns, header_bottom + 3)
    axis = choose_axis(spec, columns.plot_left, columns.plot_right, ruler)
    null = axis.clipped(spec.null_value)
    left = ruler.wrap(spec.left_label, null - MARGIN - 8, size=SMALL)
    right = ruler.wrap(spec.right_label, columns.width - null - MARGIN - 8, size=SMALL)
    ticks_top = rows_bottom + 4
    favours_top = ticks_top + 15
    favours = max(len(left) * bool(spec.left_label), len(right) * bool(spec.right_label))
    axis_label_top = favours_top + favours * SMALL_LINE + (3 if favours else 0)
    centre = (columns.plot_left + columns.plot_right) / 2
    most = 2 * min(centre - MARGIN, columns.width - MARGIN - centre)
    axis_label = ruler.wrap(spec.effect_label, most)
    foot_top = axis_label_top + len(axis_label) * LINE + 6
    foot_text = spec.heterogeneity_text
    foot = ruler.wrap(foot_text, columns.width - 2 * MARGIN, size=SMALL) if foot_text else ()
    return Layout(
        width=columns.width,
        height=foot_top + len(foot) * SMALL_LINE + MARGIN,
        rows=rows,
        header_lines=header_lines,
        header_bottom=header_bottom,
        rows_bottom=rows_bottom,
        label_heading=columns.label_heading,
        column_rights=columns.rights,
        column_headings=columns.headings,
        axis=axis,
        numbers_right=columns.numbers_right,
        numbers_heading=columns.numbers_heading,
        weight_right=columns.weight_right,
        ticks_top=ticks_top,
        favours_top=favours_top,
        left_label=left if spec.left_label else (),
        right_label=right if spec.right_label else (),
        axis_label_top=axis_label_top,
        axis_label=axis_label,
        foot_top=foot_top,
        foot=foot,
    )


class _RowText:
    """The texts of a row before they are placed."""

    def __init__(self, spec: ForestSpec, row: ForestRow, ruler: Ruler) -> None:
        self.row = row
        self.bold = row.kind in ("pooled", "subgroup-heading")
        self.small = row.kind == "text"
        self.spans = row.kind in ("text", "subgroup-heading") and not any(row.cells)
        self.numbers = numbers_text(row, spec.decimals)
        weight = row.weight_percent
        self.weight = "" if weight is None else shown(weight, 1)
        self.size = SMALL if self.small else SIZE
        self.label_width = ruler.width(row.label, size=self.size, bold=self.bold)


def _columns(spec: ForestSpec, texts: Sequence[_RowText], ruler: Ruler) -> _Columns:
    label_heading = ruler.wrap(spec.label_heading, LABEL_MOST, bold=True)
    label_width = max(ruler.width(line, bold=True) for line in label_heading)
    for text in texts:
        if not text.spans:
            label_width = max(label_width, text.row.indent * INDENT + text.label_width)
    label_width = min(max(label_width, LABEL_LEAST), LABEL_MOST)
    at = MARGIN + label_width
    headings, rights = [], []
    for index, heading in enumerate(spec.columns):
        lines = ruler.wrap(heading, HEADING_MOST, bold=True)
        cells = [text.row.cells[index] for text in texts if text.row.cells]
        width = max(
            *(ruler.width(line, bold=True) for line in lines),
            *(ruler.width(cell, bold=True) for cell in cells),
            0.0,
        )
        at += GAP + width
        headings.append(lines)
        rights.append(at)
    plot_left = at + GAP + 4
    numbers_heading = (
        *ruler.wrap(spec.effect_label, HEADING_MOST, bold=True),
        f"({spec.level_percent:g}% CI)",
    )
    numbers = max(
        *(ruler.width(line, bold=True) for line in numbers_heading),
        *(ruler.width(text.numbers, bold=text.bold) for text in texts),
    )
    weights = [text.weight for text in texts if text.weight]
    weight = max(ruler.width(word, bold=True) for word in [*weights, "Weight", "(%)"])
    after = GAP + numbers + (GAP + weight if weights else 0.0) + MARGIN
    width = math.ceil(max(spec.width_mm * POINTS_PER_MM, plot_left + PLOT_LEAST + after))
    weight_right = width - MARGIN if weights else None
    return _Columns(
        label_heading=label_heading,
        label_right=MARGIN + label_width,
        headings=tuple(headings),
        rights=tuple(rights),
        plot_left=plot_left,
        plot_right=width - after,
        numbers_heading=numbers_heading,
        numbers_right=width - MARGIN - (GAP + weight if weights else 0.0),
        weight_right=weight_right,
        width=width,
    )


def _rows(
    texts: Sequence[_RowText], ruler: Ruler, columns: _Columns, top: float
) -> tuple[tuple[PlacedRow, ...], float]:
    placed: list[PlacedRow] = []
    for text in texts:
        row = text.row
        indent = row.indent * INDENT
        # A heading may run over the columns of text, but not into the plot.
        right = columns.plot_left - GAP if text.spans else columns.label_right
        most = max(right - MARGIN - indent, 40.0)
        lines = ruler.wrap(row.label, most, size=text.size, bold=text.bold)
        before = 4.0 if row.kind in ("pooled", "subgroup-heading") and placed else 0.0
        height = len(lines) * (SMALL_LINE if text.small else LINE) + ROW_GAP
        if row.kind == "space":
            lines, height = (), LINE * 0.6
        placed.append(
            PlacedRow(
                row=row,
                lines=lines,
                numbers=text.numbers,
                weight=text.weight,
                top=top + before,
                height=height,
            )
        )
        top += before + height
    return tuple(placed), top


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


__all__ = ["ForestFigure", "ForestRow", "ForestSpec", "RowKind", "forest_plot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestFigure:
    """A drawn forest plot: SVG text and PNG bytes (300 dpi)."""

    svg: str
    png: bytes


def forest_plot(spec: ForestSpec) -> ForestFigure:
    """Draw a forest plot.

    Raises ValueError where a row has other cells than there are columns, a value is not finite, an
    interval runs backwards or does not hold its estimate, or a log axis is given a value that is
    not positive.
    """
    check(spec)
    with figure_style():
        layout = arrange(spec)
        figure = draw(spec, layout)
    return ForestFigure(
        svg=figure_svg(figure, title=spec.title, description=describe(spec)),
        png=figure_png(figure, dpi=300),
    )
