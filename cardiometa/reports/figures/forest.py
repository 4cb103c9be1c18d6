"""Forest plots in the style of the BMJ and the Lancet, with their own layout engine.

``forest_plot(ForestSpec(rows=(...), effect_label="Mean difference, mL"))`` measures every text
before it places anything, so that nothing overlaps whatever the number of trials or the length of
their names: spec and checks, axis, layout, drawing, two panels. Estimates, limits and
``null_value`` are on the scale shown: ratios are given as ratios (not logs) together with
``log_scale=True``. Lengths are points (1/72 inch) from the upper left corner.

Squares have areas proportional to weight; intervals that leave the axis end in arrows; pooled
effects are diamonds, prediction intervals bars. All parts are distinct in black and white.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any, Final, Literal

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
    Drawing,
    drawing,
    figure_style,
    new_figure,
    shown,
    shown_estimate,
    shown_interval,
)

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
MARK: Final = "#3b6ea5"  # mid-grey in print
DIAMOND: Final = "#12304f"  # nearly black in print
SQUARE_MOST: Final = 10.5
SQUARE_LEAST: Final = 2.6

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


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One line of the plot.

    ``cells`` are the texts under ``ForestSpec.columns`` (none, or as many as there are columns);
    ``note`` replaces the numbers where ``estimate`` is None ("not estimable").
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

    @property
    def bold(self) -> bool:
        """True for the pooled effect and for headings."""
        return self.kind in ("pooled", "subgroup-heading")

    @property
    def size(self) -> float:
        """The size of its label."""
        return SMALL if self.kind == "text" else SIZE

    @property
    def spans(self) -> bool:
        """True where the label may run over the columns of text."""
        return self.kind in ("text", "subgroup-heading") and not any(self.cells)

    @property
    def weight(self) -> str:
        """The weight as printed."""
        return "" if self.weight_percent is None else shown(self.weight_percent, 1)


@dataclass(frozen=True, kw_only=True)
class ForestSpec:
    """What a forest plot shows.

    ``effect_label`` has the unit ("Mean difference, g/m²"); ``left_label`` and ``right_label``
    are below the axis on either side of ``null_value`` ("Favours active"); ``axis_limits``
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
    """Every row in words, for screen readers."""
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
    """Raise ValueError where a plot could not be drawn correctly."""
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
            raise ValueError(f"{row.label!r} has an interval that does not contain its estimate")
        if spec.log_scale and any(n <= 0 for n in numbers):
            raise ValueError(f"{row.label!r} has a value that a log axis cannot show")
    if spec.log_scale and spec.null_value <= 0:
        raise ValueError("the null value of a log axis must be positive")


@dataclass(frozen=True, kw_only=True)
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
        """The place, limited to the plot."""
        return min(max(self.place(value), self.left), self.right)


def choose_axis(spec: ForestSpec, left: float, right: float, metrics: TextMetrics) -> Axis:
    """Limits and ticks for the rows of a plot, between ``left`` and ``right`` points."""
    low, high = spec.axis_limits or _limits(spec)
    ticks = log_ticks(low, high) if spec.log_scale else _labelled(_linear_ticks(low, high))
    axis = Axis(left=left, right=right, low=low, high=high, log_scale=spec.log_scale, ticks=())

    def fit(some: Sequence[tuple[float, str]]) -> bool:
        last = -math.inf
        for value, label in some:
            half = metrics.width(label, size=8.0) / 2
            if axis.place(value) - half < last + 5:
                return False
            last = axis.place(value) + half
        return True

    step = 1
    while not fit(ticks[::step]) and step < len(ticks):
        step += 1
    # Every ``step``-th tick, such that the one at the null value stays.
    null = next((i for i, (x, _) in enumerate(ticks) if math.isclose(x, spec.null_value)), 0)
    return replace(axis, ticks=tuple(ticks[null % step :: step]))


def _scaled(value: float, *, log: bool) -> float:
    return math.log(value) if log else value


def _limits(spec: ForestSpec) -> tuple[float, float]:
    """The estimates, the null and the complete pooled intervals; others up to three usual widths.

    Without this rule one tiny trial would compress all the others into a line.
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
    # Room on both sides of the null, for "favours".
    low = min(min(points) - 0.04 * span, null - 0.15 * span)
    high = max(max(points) + 0.04 * span, null + 0.15 * span)
    return (math.exp(low), math.exp(high)) if spec.log_scale else (low, high)


def _linear_ticks(low: float, high: float) -> list[float]:
    found = MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(x) for x in found if low <= x <= high]


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Labelled ticks of a log axis between two ratios.

    1-2-5 in each decade; where these are fewer than three, linear ones.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
    if len(found) > 9:
        found = [10.0**d for d in decades if low <= 10.0**d <= high]
    if len(found) < 3:
        found = [x for x in _linear_ticks(low, high) if x > 0]
    return _labelled(found)


def _labelled(values: Sequence[float]) -> list[tuple[float, str]]:
    """As many decimals as distinguish the ticks, and no more."""
    texts = [np.format_float_positional(round(x, 12) + 0.0, trim="-") for x in values]
    return [(x, text.replace("-", MINUS)) for x, text in zip(values, texts, strict=True)]


# ------------------------------------------------------------------ layout


class TextMetrics:
    """Measures text as it will be drawn, in points."""

    def __init__(self) -> None:
        untyped: Any = RendererAgg
        self._renderer = untyped(16, 16, 72)

    def width(self, text: str, *, size: float = SIZE, bold: bool = False) -> float:
        """Width of one line."""
        if not text:
            return 0.0
        font = FontProperties(size=size, weight="bold" if bold else "normal")
        return float(self._renderer.get_text_width_height_descent(text, font, ismath=False)[0])

    def widest(self, lines: Iterable[str]) -> float:
        """Width of the widest of bold lines."""
        return max((self.width(line, bold=True) for line in lines), default=0.0)

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


@dataclass(frozen=True, kw_only=True)
class PlacedRow:
    """A row's place: ``top`` and ``height`` of its band, its label in lines, its numbers."""

    row: ForestRow
    lines: tuple[str, ...]
    numbers: str
    top: float
    height: float

    @property
    def middle(self) -> float:
        """The height of the square or diamond."""
        return self.top + self.height / 2


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What is across the plot: columns by their right edges except the label's left one."""

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


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The complete plot, from the header to the foot."""

    width: float
    height: float
    columns: Columns
    rows: tuple[PlacedRow, ...]
    header_bottom: float
    rows_bottom: float
    axis: Axis
    ticks_top: float
    favours_top: float
    left_label: tuple[str, ...]
    right_label: tuple[str, ...]
    axis_label_top: float
    axis_label: tuple[str, ...]
    foot_top: float
    foot: tuple[str, ...]


def arrange(spec: ForestSpec) -> Layout:
    """Measure every text and place every part; the figure grows where the texts need it."""
    metrics = TextMetrics()
    columns = _columns(spec, metrics)
    header_lines = max(
        map(len, (columns.label_heading, columns.numbers_heading, *columns.headings))
    )
    header_bottom = MARGIN + header_lines * LINE + 5
    rows, rows_bottom = _rows(spec, metrics, columns, header_bottom + 3)
    axis = choose_axis(spec, columns.plot_left, columns.plot_right, metrics)
    null = axis.clipped(spec.null_value)

    def small(text: str, most: float) -> tuple[str, ...]:
        return metrics.wrap(text, most, size=SMALL) if text else ()

    left = small(spec.left_label, null - MARGIN - 8)
    right = small(spec.right_label, columns.width - null - MARGIN - 8)
    ticks_top = rows_bottom + 4
    favours_top = ticks_top + 15
    favours = max(len(left), len(right))
    axis_label_top = favours_top + favours * SMALL_LINE + (3 if favours else 0)
    centre = (columns.plot_left + columns.plot_right) / 2
    most = 2 * min(centre - MARGIN, columns.width - MARGIN - centre)
    axis_label = metrics.wrap(spec.effect_label, most)
    foot_top = axis_label_top + len(axis_label) * LINE + 6
    foot = small(spec.heterogeneity_text, columns.width - 2 * MARGIN)
    return Layout(
        width=columns.width,
        height=foot_top + len(foot) * SMALL_LINE + MARGIN,
        columns=columns,
        rows=rows,
        header_bottom=header_bottom,
        rows_bottom=rows_bottom,
        axis=axis,
        ticks_top=ticks_top,
        favours_top=favours_top,
        left_label=left,
        right_label=right,
        axis_label_top=axis_label_top,
        axis_label=axis_label,
        foot_top=foot_top,
        foot=foot,
    )


def _columns(spec: ForestSpec, metrics: TextMetrics) -> Columns:
    label_heading = metrics.wrap(spec.label_heading, LABEL_MOST, bold=True)
    label_width = metrics.widest(label_heading)
    for row in spec.rows:
        if not row.spans:
            width = metrics.width(row.label, size=row.size, bold=row.bold)
            label_width = max(label_width, row.indent * INDENT + width)
    label_width = min(max(label_width, LABEL_LEAST), LABEL_MOST)
    at = MARGIN + label_width
    headings, rights = [], []
    for index, heading in enumerate(spec.columns):
        lines = metrics.wrap(heading, HEADING_MOST, bold=True)
        cells = [row.cells[index] for row in spec.rows if row.cells]
        at += GAP + metrics.widest([*lines, *cells])
        headings.append(lines)
        rights.append(at)
    plot_left = at + GAP + 4
    effect_lines = metrics.wrap(spec.effect_label, HEADING_MOST, bold=True)
    numbers_heading = (*effect_lines, f"({spec.level_percent:g}% CI)")
    numbers = max(
        metrics.widest(numbers_heading),
        *(metrics.width(numbers_text(row, spec.decimals), bold=row.bold) for row in spec.rows),
    )
    weights = [row.weight for row in spec.rows if row.weight]
    weight = GAP + metrics.widest([*weights, "Weight", "(%)"]) if weights else 0.0
    after = GAP + numbers + weight + MARGIN
    width = math.ceil(max(spec.width_mm * POINTS_PER_MM, plot_left + PLOT_LEAST + after))
    return Columns(
        label_heading=label_heading,
        label_right=MARGIN + label_width,
        headings=tuple(headings),
        rights=tuple(rights),
        plot_left=plot_left,
        plot_right=width - after,
        numbers_heading=numbers_heading,
        numbers_right=width - MARGIN - weight,
        weight_right=width - MARGIN if weights else None,
        width=width,
    )


def _rows(
    spec: ForestSpec, metrics: TextMetrics, columns: Columns, top: float
) -> tuple[tuple[PlacedRow, ...], float]:
    placed: list[PlacedRow] = []
    for row in spec.rows:
        # A heading may run over the columns of text, but not into the plot.
        right = columns.plot_left - GAP if row.spans else columns.label_right
        most = max(right - MARGIN - row.indent * INDENT, 40.0)
        lines = metrics.wrap(row.label, most, size=row.size, bold=row.bold)
        before = 4.0 if row.bold and placed else 0.0
        height = len(lines) * (SMALL_LINE if row.kind == "text" else LINE) + ROW_GAP
        if row.kind == "space":
            lines, height = (), LINE * 0.6
        numbers = numbers_text(row, spec.decimals)
        placed.append(
            PlacedRow(row=row, lines=lines, numbers=numbers, top=top + before, height=height)
        )
        top += before + height
    return tuple(placed), top


# ------------------------------------------------------------------ drawing


def draw(spec: ForestSpec, layout: Layout) -> Figure:
    """A figure whose one axes has a unit of one point; call inside `figure_style`."""
    figure = new_figure(layout.width / POINTS_PER_MM, layout.height / POINTS_PER_MM)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, layout.width)
    axes.set_ylim(layout.height, 0)
    _Painter(axes, spec, layout).paint()
    return figure


class _Painter:
    """Draws on axes whose unit is one point, the upper left corner of the layout at (0, 0)."""

    def __init__(self, axes: Axes, spec: ForestSpec, layout: Layout) -> None:
        self.axes, self.spec, self.layout, self.axis = axes, spec, layout, layout.axis

    def paint(self) -> None:
        """Draw every part."""
        self.axes.axis("off")
        self.header()
        self.reference_lines()
        kinds = ("trial", "aggregate")
        shares = [row.weight_percent or 0.0 for row in self.spec.rows if row.kind in kinds]
        for placed in self.layout.rows:
            self.texts(placed)
            self.mark(placed, max(shares, default=0.0))
        self.scale()
        if self.layout.foot:
            y = self.layout.foot_top - 2
            self.rule((MARGIN, self.layout.width - MARGIN), (y, y), color=HAIR, linewidth=0.6)
            self.lines(MARGIN, self.layout.foot_top + 1, self.layout.foot, fontsize=SMALL)

    def write(self, x: float, y: float, text: str, **how: Any) -> None:
        if text:
            self.axes.text(x, y, text, **{"fontsize": SIZE, "va": "baseline", "ha": "left", **how})

    def lines(self, x: float, top: float, lines: tuple[str, ...], **how: Any) -> None:
        """Several lines from ``top`` down."""
        step = SMALL_LINE if how.get("fontsize") == SMALL else LINE
        for index, line in enumerate(lines):
            self.write(x, top + index * step + 0.78 * step, line, **how)

    def rule(self, xs: tuple[float, float], ys: tuple[float, float], **how: Any) -> None:
        style = {"color": INK, "linewidth": 0.8, "solid_capstyle": "butt", **how}
        self.axes.plot(xs, ys, **style)

    def polygon(self, points: list[tuple[float, float]], **how: Any) -> None:
        self.axes.add_patch(Polygon(points, closed=True, zorder=3, **how))

    def header(self) -> None:
        columns, bottom = self.layout.columns, self.layout.header_bottom
        headings = [(MARGIN, columns.label_heading, "left")]
        headings += [
            (right, lines, "right")
            for right, lines in zip(columns.rights, columns.headings, strict=True)
        ]
        headings.append((columns.numbers_right, columns.numbers_heading, "right"))
        if columns.weight_right is not None:
            headings.append((columns.weight_right, ("Weight", "(%)"), "right"))
        for x, lines, ha in headings:
            self.lines(x, bottom - 5 - len(lines) * LINE, lines, ha=ha, weight="bold")
        self.rule((MARGIN, self.layout.width - MARGIN), (bottom, bottom))

    def reference_lines(self) -> None:
        """The null, and dashed the first pooled effect."""
        ys = (self.layout.header_bottom, self.layout.ticks_top)
        null = self.axis.place(self.spec.null_value)
        if self.axis.left <= null <= self.axis.right:
            self.rule((null, null), ys, zorder=1)
        pooled = (r.estimate for r in self.spec.rows if r.kind == "pooled")
        estimate = next((value for value in pooled if value is not None), None)
        if estimate is not None:
            x = self.axis.place(estimate)
            self.rule((x, x), ys, color=SOFT, dashes=(3, 2), zorder=1)

    def texts(self, placed: PlacedRow) -> None:
        row, columns = placed.row, self.layout.columns
        weight = "bold" if row.bold else "normal"
        small = row.kind == "text"
        style: dict[str, Any] = {"fontsize": row.size, "weight": weight}
        if small:
            style["color"] = SOFT
        top = placed.middle - len(placed.lines) * (SMALL_LINE if small else LINE) / 2
        self.lines(MARGIN + row.indent * INDENT, top, placed.lines, **style)
        y = placed.middle - LINE / 2 + 0.78 * LINE
        cells = [*zip(columns.rights, row.cells, strict=False)]
        cells.append((columns.numbers_right, placed.numbers))
        if columns.weight_right is not None:
            cells.append((columns.weight_right, row.weight))
        for right, cell in cells:
            self.write(right, y, cell, ha="right", weight=weight)

    def mark(self, placed: PlacedRow, largest: float) -> None:
        """The square with its whiskers, the diamond or the bar of a row."""
        row, y = placed.row, placed.middle
        if row.ci_low is None or row.ci_high is None:
            return
        if row.kind == "prediction":
            self.interval(row, y, color=DIAMOND, linewidth=2.6, gid="mark-prediction")
            for value in (row.ci_low, row.ci_high):
                x = self.axis.place(value)
                if x == self.axis.clipped(value):
                    self.rule((x, x), (y - 3.4, y + 3.4), color=DIAMOND, linewidth=1.1, zorder=3)
        elif row.estimate is None:
            return
        elif row.kind in ("pooled", "subgroup-pooled"):
            low, middle, high = map(self.axis.clipped, (row.ci_low, row.estimate, row.ci_high))
            filled = row.kind == "pooled"
            half = 4.6 if filled else 3.8
            self.polygon(
                [(low, y), (middle, y - half), (high, y), (middle, y + half)],
                facecolor=DIAMOND if filled else "white",
                edgecolor=DIAMOND,
                linewidth=0.9,
                gid=f"mark-{row.kind}",
            )
        elif row.kind in ("trial", "aggregate"):
            self.interval(row, y, linewidth=0.9, zorder=2)
            share = 0.35 if not largest else (row.weight_percent or 0.0) / largest
            self.square(row, y, max(SQUARE_MOST * math.sqrt(share), SQUARE_LEAST))

    def interval(self, row: ForestRow, y: float, **how: Any) -> None:
        """A line from limit to limit, with an arrow at an end that lies beyond the axis."""
        low, high = row.ci_low or 0.0, row.ci_high or 0.0
        xs = (self.axis.clipped(low), self.axis.clipped(high))
        self.rule(xs, (y, y), **{"zorder": 3, **how})
        for value, x, side in ((low, self.axis.left, -1), (high, self.axis.right, 1)):
            if (self.axis.place(value) - x) * side > 0:
                back = x - side * 2.5
                points = [(x + side * 2.5, y), (back, y - 2.4), (back, y + 2.4)]
                self.polygon(points, facecolor=INK, edgecolor="none")

    def square(self, row: ForestRow, y: float, side: float) -> None:
        x = self.axis.place(row.estimate or 0.0)
        if not self.axis.left <= x <= self.axis.right:
            return  # outside limits the user chose: the arrow shows where it lies
        hollow = row.kind == "aggregate"
        self.axes.add_patch(
            Rectangle(
                (x - side / 2, y - side / 2),
                side,
                side,
                facecolor="white" if hollow else MARK,
                edgecolor=MARK if hollow else "none",
                linewidth=1.0,
                zorder=3,
                gid=f"mark-{row.kind}",
            )
        )
        centre = MARK if hollow else "white"
        self.rule((x, x), (y - side * 0.28, y + side * 0.28), color=centre, zorder=4)

    def scale(self) -> None:
        """The axis with its ticks, what either side favours, and its label."""
        axis, layout, y = self.axis, self.layout, self.layout.ticks_top
        self.rule((axis.left, axis.right), (y, y), linewidth=0.7)
        for value, label in axis.ticks:
            x = axis.place(value)
            self.rule((x, x), (y, y + 3), linewidth=0.7)
            self.write(x, y + 11, label, ha="center", fontsize=8.0)
        null = axis.clipped(self.spec.null_value)
        style: dict[str, Any] = {"fontsize": SMALL, "color": SOFT}
        self.lines(null - 8, layout.favours_top, layout.left_label, ha="right", **style)
        self.lines(null + 8, layout.favours_top, layout.right_label, ha="left", **style)
        centre = (axis.left + axis.right) / 2
        self.lines(centre, layout.axis_label_top, layout.axis_label, ha="center")


def forest_plot(spec: ForestSpec) -> Drawing:
    """Draw a forest plot.

    Raises ValueError where a row has other cells than there are columns, a value is not finite, an
    interval runs backwards or does not contain its estimate, or a log axis is given a value that
    is not positive.
    """
    check(spec)
    with figure_style():
        figure = draw(spec, arrange(spec))
    return drawing(figure, spec.title, describe(spec))


# ------------------------------------------------------------------ two panels


_PANEL_GAP: Final = 14.0


def two_panels(left: ForestSpec, right: ForestSpec, *, title: str) -> Drawing:
    """Two plots with aligned rows and axes of one scale.

    Raises ValueError as `forest_plot`, and where the plots have unequal numbers of rows.
    """
    if len(left.rows) != len(right.rows):
        raise ValueError("the panels of a figure need the same number of rows")
    check(left)
    check(right)
    with figure_style():
        specs = _one_scale(left, right)
        layouts = _aligned(*(arrange(spec) for spec in specs))
        width = layouts[0].width + _PANEL_GAP + layouts[1].width
        height = max(layout.height for layout in layouts)
        figure = new_figure(width / POINTS_PER_MM, height / POINTS_PER_MM)
        for start, spec, layout in zip(
            (0.0, width - layouts[1].width), specs, layouts, strict=True
        ):
            axes = figure.add_axes((start / width, 0, layout.width / width, 1))
            axes.set_xlim(0, layout.width)
            axes.set_ylim(height, 0)
            _Painter(axes, spec, layout).paint()
    return drawing(figure, title, f"Left: {describe(left)} Right: {describe(right)}")


def _one_scale(left: ForestSpec, right: ForestSpec) -> tuple[ForestSpec, ForestSpec]:
    """Both axes the same length in the outcome's unit (of ratios: of the logarithm)."""
    log = left.log_scale
    axes = [arrange(spec).axis for spec in (left, right)]
    limits = [(_scaled(axis.low, log=log), _scaled(axis.high, log=log)) for axis in axes]
    span = max(high - low for low, high in limits)
    specs = []
    for spec, (low, high) in zip((left, right), limits, strict=True):
        extra = (span - (high - low)) / 2
        ends = (low - extra, high + extra)
        specs.append(
            replace(spec, axis_limits=(math.exp(ends[0]), math.exp(ends[1])) if log else ends)
        )
    return specs[0], specs[1]


def _aligned(*layouts: Layout) -> list[Layout]:
    """The layouts with one header height and, row by row, one height."""

    def gap(layout: Layout, index: int) -> float:
        """The empty space above a row."""
        above = layout.rows[index - 1] if index else None
        start = above.top + above.height if above else layout.header_bottom + 3
        return layout.rows[index].top - start

    header = max(layout.header_bottom for layout in layouts)
    moved = []
    for layout in layouts:
        top, rows = header + 3, []
        for index, row in enumerate(layout.rows):
            top += max(gap(one, index) for one in layouts)
            height = max(one.rows[index].height for one in layouts)
            rows.append(replace(row, top=top, height=height))
            top += height
        down = top - layout.rows_bottom
        names = ("rows_bottom", "ticks_top", "favours_top", "axis_label_top", "foot_top", "height")
        changes: dict[str, Any] = {name: getattr(layout, name) + down for name in names}
        moved.append(replace(layout, rows=tuple(rows), header_bottom=header, **changes))
    return moved
