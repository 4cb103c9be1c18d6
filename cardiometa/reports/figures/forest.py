"""Forest plots in the style of the BMJ and the Lancet, with their own layout engine.

``forest_plot(ForestSpec(rows=(...), effect_label="Mean difference, mL"))`` measures every text
before it places anything, so that nothing overlaps whatever the number of trials or the length of
their names. Estimates, limits and ``null_value`` are on the scale shown: ratios are given as ratios
(not logs) together with ``log_scale=True``. Lengths are points (1/72 inch) from the upper left
corner.

Squares have areas proportional to weight; intervals that leave the axis end in arrows; pooled
effects are diamonds, prediction intervals bars. All parts are distinct in black and white.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import accumulate, compress, pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ..style import (
    HAIR,
    INK,
    MEASURED_FONT,
    MINUS,
    SOFT,
    Drawing,
    drawing,
    figure_style,
    shown,
    shown_estimate,
    shown_interval,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE: Final = 8.0  # of all text: what journals ask for
LINE: Final = 10.4  # from baseline to baseline inside one row
ROW_GAP: Final = 3.2  # between two rows
MARGIN: Final = 3.0
GAP: Final = 8.0  # between two columns
INDENT: Final = 8.0
LABEL_LEAST: Final = 70.0  # leaves room for "Favours ..." left of a null near the edge
LABEL_MOST: Final = 130.0
WORD_MOST: Final = 60.0  # a longer word of a heading is broken
PLOT_WANTED: Final = 105.0  # labels are wrapped to leave it
PLOT_LEAST: Final = 74.0
PANEL_GAP: Final = 12.0
MM: Final = 25.4 / 72  # of a point
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
    def spans(self) -> bool:
        """True where the label may run over the columns of text."""
        return self.kind in ("text", "subgroup-heading") and not any(self.cells)

    @property
    def weight(self) -> str:
        """The weight as printed."""
        return "" if self.weight_percent is None else shown(self.weight_percent)

    def numbers(self, decimals: int) -> str:
        """The numbers at the right."""
        if self.kind in ("subgroup-heading", "text", "space"):
            return ""
        if self.kind == "prediction" and self.ci_low is not None:
            return f"({shown_interval(self.ci_low, self.ci_high, decimals)})"
        if self.estimate is None:
            return self.note or "not estimable"
        return shown_estimate(self.estimate, self.ci_low, self.ci_high, decimals)


@dataclass(frozen=True, kw_only=True)
class ForestSpec:
    """What a forest plot shows.

    ``effect_label`` has the unit ("Mean difference, g/m²"); ``left_label`` and ``right_label``
    are below the axis on either side of ``null_value`` ("Favours active"); ``width_mm`` is the
    least width, 180 being the two columns of a journal.
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
    width_mm: float = 180.0
    show_weight: bool = True
    colour: str = MARK


def forest_plot(*specs: ForestSpec, title: str = "Forest plot") -> Drawing:
    """Draw a forest plot, or two as panels with aligned rows and axes of one scale.

    Raises ValueError where a row has other cells than there are columns, a value is not finite, an
    interval runs backwards or does not contain its estimate, a log axis is given a value that is
    not positive, or the panels have unequal numbers of rows.
    """
    for spec in specs:
        _check(spec)
    if len({len(spec.rows) for spec in specs}) > 1:
        raise ValueError("the panels of a figure need the same number of rows")
    texts = [_describe(spec) for spec in specs]
    names = ("Left: ", "Right: ") if len(specs) > 1 else ("",)
    description = " ".join(name + text for name, text in zip(names, texts, strict=True))
    panels = arrange(*specs)
    width = panels[0].width + sum(PANEL_GAP + panel.width for panel in panels[1:])
    height = max(panel.height for panel in panels)

    def draw(figure: Figure) -> None:
        """Axes whose unit is one point, the upper left corner at (0, 0)."""
        left = 0.0
        for panel in panels:
            axes = figure.add_axes((left / width, 0, panel.width / width, 1))
            axes.set_xlim(0, panel.width)
            axes.set_ylim(height, 0)
            panel.paint(axes)
            left += panel.width + PANEL_GAP

    return drawing((width * MM, height * MM), draw, title, description)


def narrowed(spec: ForestSpec) -> ForestSpec:
    """Without the columns that the width has no room for: means, then weights, then counts."""
    left_out: list[str] = []
    for word, name in (("mean", "means"), ("Weight", "weights"), ("n ", "counts")):
        if arrange(spec)[0].width <= spec.width_mm / MM + 0.5:
            break
        kept = [not heading.startswith(word) for heading in spec.columns]
        if all(kept) and (word != "Weight" or not spec.show_weight):
            continue
        left_out.append(name)
        spec = replace(
            spec,
            columns=tuple(compress(spec.columns, kept)),
            show_weight=spec.show_weight and word != "Weight",
            rows=tuple(replace(row, cells=tuple(compress(row.cells, kept))) for row in spec.rows),
        )
    foot = f" Not shown for want of width: {', '.join(left_out)}; see the tables."
    return replace(spec, heterogeneity_text=spec.heterogeneity_text + foot * bool(left_out))


def _describe(spec: ForestSpec) -> str:
    """Every row in words, for screen readers."""
    sentences = [f"{spec.effect_label}, {spec.level_percent:g}% confidence intervals."]
    for row in spec.rows:
        if row.kind == "space":
            continue
        words = row.numbers(spec.decimals)
        weight = "" if row.weight_percent is None else f", weight {row.weight_percent:.1f}%"
        sentences.append(f"{row.label}: {words}{weight}." if words else f"{row.label}.")
    return " ".join([*sentences, spec.heterogeneity_text]).strip()


def _check(spec: ForestSpec) -> None:
    """Raise ValueError where a plot could not be drawn correctly."""
    if not spec.rows:
        raise ValueError("a forest plot needs at least one row")
    for row in spec.rows:
        numbers = [n for n in (row.ci_low, row.estimate, row.ci_high) if n is not None]
        cells, columns = len(row.cells), len(spec.columns)
        wrong = {
            f"{cells} cells for {columns} columns": cells not in (0, columns),
            "an estimate without its interval": row.estimate is not None and len(numbers) != 3,
            "a value that is not finite: give a note instead": not all(map(math.isfinite, numbers)),
            "an interval that does not contain its estimate": numbers != sorted(numbers),
            "a value that a log axis cannot show": spec.log_scale and min(numbers, default=1) <= 0,
        }
        for what, is_wrong in wrong.items():
            if is_wrong:
                raise ValueError(f"{row.label!r} has {what}")
    if spec.log_scale and spec.null_value <= 0:
        raise ValueError("the null value of a log axis must be positive")


# ------------------------------------------------------------------ text


@lru_cache(maxsize=4096)
def text_width(text: str, *, bold: bool = False) -> float:
    """Width in points of one line as printed: on a screen's grid it may be a tenth off."""
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family=MEASURED_FONT, size=SIZE, weight="bold" if bold else "normal")
    return float(_renderer().get_text_width_height_descent(text, font, ismath=False)[0]) / 10


@lru_cache(maxsize=1)
def _renderer() -> Any:
    from matplotlib.backends.backend_agg import RendererAgg

    untyped: Any = RendererAgg
    return untyped(16, 16, 720)


def _widest(lines: Iterable[str]) -> float:
    """Width of the widest of bold lines."""
    return max((text_width(line, bold=True) for line in lines if line), default=0.0)


def wrap(text: str, most: float, *, bold: bool = False) -> tuple[str, ...]:
    """Lines no wider than ``most``, broken at spaces, within a word only where one is wider."""

    def longest(parts: Sequence[str], joint: str) -> int:
        """How many parts fit, at least one; by bisection, because measuring is slow."""

        def too_wide(count: int) -> bool:
            return text_width(joint.join(parts[:count]), bold=bold) > most

        if not too_wide(len(parts)):
            return len(parts)
        return max(bisect(range(1, len(parts)), x=False, key=too_wide), 1)

    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        # At plain spaces alone: those within a number must not break.
        words = [word for word in paragraph.split(" ") if word]
        if not words:
            lines.append("")
        while words:
            count = longest(words, " ")
            line, words = " ".join(words[:count]), words[count:]
            if count == 1 and (letters := longest(line, "")) < len(line):
                letters = max(line.rfind(sign, 0, letters) for sign in "_-/") + 1 or letters
                line, words = line[:letters], [line[letters:], *words]
            lines.append(line)
    return tuple(lines)


# ------------------------------------------------------------------ axis


def _scaled(value: float, *, log: bool) -> float:
    return math.log(value) if log else value


def _limits(spec: ForestSpec) -> tuple[float, float]:
    """The ends of the axis, logarithms on a log axis.

    The estimates, the null and the complete pooled intervals; others up to three usual widths:
    without this rule one tiny trial would compress all the others into a line.
    """
    scaled = partial(_scaled, log=spec.log_scale)
    null = scaled(spec.null_value)
    points = [null]
    spans: list[tuple[float, float, float, str]] = []
    for row in spec.rows:
        if row.ci_low is None or row.ci_high is None:
            continue
        low, high = scaled(row.ci_low), scaled(row.ci_high)
        middle = (low + high) / 2 if row.estimate is None else scaled(row.estimate)
        spans.append((low, middle, high, row.kind))
    usual = median([high - low for low, _, high, _ in spans]) if spans else 1.0
    for low, middle, high, kind in spans:
        reach = math.inf if kind in ("pooled", "subgroup-pooled") else 1.5 * usual
        points += [middle, max(low, middle - reach), min(high, middle + reach)]
    span = (max(points) - min(points)) or 1.0
    # Room on both sides of the null, for "favours".
    lowest = min(min(points) - 0.04 * span, null - 0.15 * span)
    return lowest, max(max(points) + 0.04 * span, null + 0.15 * span)


def _linear_ticks(low: float, high: float) -> list[tuple[float, str]]:
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return _labelled([float(x) for x in found if low <= x <= high])


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Labelled ticks of a log axis between two ratios.

    1-2-5 in each decade; where these are fewer than three, linear ones.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
    if len(found) > 9:
        found = [10.0**d for d in decades if low <= 10.0**d <= high]
    if len(found) < 3:
        return [tick for tick in _linear_ticks(low, high) if tick[0] > 0]
    return _labelled(found)


def _labelled(values: Sequence[float]) -> list[tuple[float, str]]:
    """As many decimals as distinguish the ticks, and no more."""
    texts = [np.format_float_positional(round(x, 12) + 0.0, trim="-") for x in values]
    return [(x, text.replace("-", MINUS)) for x, text in zip(values, texts, strict=True)]


# ------------------------------------------------------------------ layout and drawing


@figure_style()
def arrange(*specs: ForestSpec) -> list[Panel]:
    """The plots measured and placed, with axes of one scale and rows at the same heights."""
    ends = [_limits(spec) for spec in specs]
    # The same length in the outcome's unit (of ratios: of the logarithm).
    span = max(high - low for low, high in ends)
    panels = [
        Panel(spec, (low + high - span) / 2, (low + high + span) / 2)
        for spec, (low, high) in zip(specs, ends, strict=True)
    ]
    header = MARGIN + max(panel.header_lines for panel in panels) * LINE + 5
    top, bands = header + 3, []
    for number, rows in enumerate(zip(*(spec.rows for spec in specs), strict=True)):
        top += 4.0 if number and any(row.bold for row in rows) else 0.0
        height = max(panel.row_height(number) for panel in panels)
        bands.append((top, height))
        top += height
    for panel in panels:
        panel.header_bottom, panel.bands, panel.ticks_top = header, bands, top + 4
        panel.height = panel.ticks_top + panel.below
    return panels


_Column = tuple[float, tuple[str, ...], list[str]]  # width or right edge, heading, cells


class Panel:
    """One plot as measured: columns with right edge, heading and cells; axis; lines of text.

    `arrange` sets where the rows (``bands``: top and height) and the axis are.
    """

    header_bottom: float
    bands: list[tuple[float, float]]
    ticks_top: float
    height: float
    axes: Axes

    def __init__(self, spec: ForestSpec, low: float, high: float) -> None:
        self.spec, self.low, self.high = spec, low, high
        self._columns()
        self.labels = []
        for row in spec.rows:
            # A heading may run over the columns of text, but not into the plot.
            right = self.left - GAP if row.spans else self.label_right
            most = max(right - MARGIN - row.indent * INDENT, 40.0)
            lines = wrap(row.label, most, bold=row.bold)
            self.labels.append(() if row.kind == "space" else lines)

        def small(text: str, most: float) -> tuple[str, ...]:
            return wrap(text, most) if text else ()

        null = self.place(spec.null_value)
        self.favours = (
            small(spec.left_label, null - MARGIN - 8),
            small(spec.right_label, self.width - null - MARGIN - 8),
        )
        favours = max(map(len, self.favours))
        self.axis_label_at = 15 + favours * LINE + (3 if favours else 0)
        centre = (self.left + self.right) / 2
        self.axis_label = wrap(
            spec.effect_label, 2 * min(centre - MARGIN, self.width - MARGIN - centre)
        )
        self.foot_at = self.axis_label_at + len(self.axis_label) * LINE + 6
        self.foot = small(spec.heterogeneity_text, self.width - 2 * MARGIN)
        self.below = self.foot_at + len(self.foot) * LINE + MARGIN

    def _columns(self) -> None:
        """Place the columns and the plot; the figure grows where the texts need it.

        Headings are wrapped to their cells, labels to what a plot of `PLOT_WANTED` leaves.
        """
        spec, rows = self.spec, self.spec.rows
        bold = [row.bold for row in rows]

        def column(heading: str, cells: list[str], last: str = "") -> _Column:
            widest = max(text_width(cell, bold=b) for cell, b in zip(cells, bold, strict=True))
            word = min(_widest(heading.split(" ")), WORD_MOST)
            lines = (*wrap(heading, max(widest, word), bold=True), *filter(None, [last]))
            return max(widest, _widest(lines)), lines, cells

        texts = [
            column(heading, [row.cells[index] if row.cells else "" for row in rows])
            for index, heading in enumerate(spec.columns)
        ]
        numbers = [row.numbers(spec.decimals) for row in rows]
        after = [column(spec.effect_label, numbers, f"({spec.level_percent:g}% CI)")]
        weights = [row.weight * spec.show_weight for row in rows]
        after += [column("Weight (%)", weights)] * any(weights)
        taken = [sum(GAP + width for width, _, _ in columns) for columns in (texts, after)]
        room = spec.width_mm / MM - sum(taken) - 2 * MARGIN - GAP
        labels = [
            row.indent * INDENT + text_width(row.label, bold=row.bold)
            for row in rows
            if not row.spans
        ]
        most = min(max(room - PLOT_WANTED, LABEL_LEAST), LABEL_MOST)
        self.label_heading = wrap(spec.label_heading, most, bold=True)
        widest = max(LABEL_LEAST, _widest(self.label_heading), *labels)
        self.label_right = MARGIN + min(widest, most)
        self.left = self.label_right + taken[0] + GAP
        self.right = self.left + max(room - self.label_right + MARGIN, PLOT_LEAST)
        self.width = self.right + taken[1] + MARGIN
        self.columns: list[_Column] = []
        for start, columns in ((self.label_right, texts), (self.right, after)):
            ends = accumulate((GAP + width for width, _, _ in columns), initial=start)
            next(ends)
            self.columns += [(end, *one[1:]) for end, one in zip(ends, columns, strict=True)]

    def place(self, value: float) -> float:
        """Points from the panel's left edge; values beyond the limits lie beyond the plot."""
        share = (_scaled(value, log=self.spec.log_scale) - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)

    def clipped(self, value: float) -> float:
        """The place, limited to the plot."""
        return min(max(self.place(value), self.left), self.right)

    def ticks(self) -> list[tuple[float, str]]:
        """Ticks whose labels do not touch, one of them at the null value where it has a tick."""
        if self.spec.log_scale:
            ticks = log_ticks(math.exp(self.low), math.exp(self.high))
        else:
            ticks = _linear_ticks(self.low, self.high)
        labels = [(self.place(x), text_width(label) / 2) for x, label in ticks]

        def apart(some: Sequence[tuple[float, float]]) -> bool:
            return all(a + half + 5 <= b - other for (a, half), (b, other) in pairwise(some))

        step = next((n for n in range(1, len(ticks)) if apart(labels[::n])), len(ticks) or 1)
        is_null = [math.isclose(x, self.spec.null_value) for x, _ in ticks]
        return ticks[(is_null.index(True) if any(is_null) else 0) % step :: step]

    @property
    def header_lines(self) -> int:
        """Lines of the highest heading."""
        return max(len(self.label_heading), *(len(lines) for _, lines, _ in self.columns))

    def row_height(self, number: int) -> float:
        """The height that a row needs."""
        row = self.spec.rows[number]
        return LINE * 0.6 if row.kind == "space" else len(self.labels[number]) * LINE + ROW_GAP

    def paint(self, axes: Axes) -> None:
        """Draw every part on axes whose unit is one point."""
        self.axes = axes
        axes.axis("off")
        bottom, ends = self.header_bottom, (MARGIN, self.width - MARGIN)
        headings = [(MARGIN, self.label_heading, "left")]
        headings += [(right, lines, "right") for right, lines, _ in self.columns]
        for x, lines, ha in headings:
            self._lines(x, bottom - 5 - len(lines) * LINE, lines, ha=ha, weight="bold")
        self._rule(ends, (bottom, bottom))
        # The null, and dashed the first pooled effect.
        ys, rows = (bottom, self.ticks_top), self.spec.rows
        null = self.place(self.spec.null_value)
        self._rule((null, null), ys, zorder=1)
        pooled = [r.estimate for r in rows if r.kind == "pooled" and r.estimate is not None]
        for x in map(self.place, pooled[:1]):
            self._rule((x, x), ys, color=SOFT, dashes=(3, 2), zorder=1)
        kinds = ("trial", "aggregate")
        shares = [row.weight_percent or 0.0 for row in rows if row.kind in kinds]
        for number, row in enumerate(rows):
            top, height = self.bands[number]
            self._texts(number, row, top + height / 2)
            self._mark(row, top + height / 2, max(shares, default=0.0))
        self._scale()
        if self.foot:
            y = self.ticks_top + self.foot_at
            self._rule(ends, (y - 2, y - 2), color=HAIR, linewidth=0.6)
            self._lines(MARGIN, y + 1, self.foot)

    def _write(self, x: float, y: float, text: str, **how: Any) -> None:
        if text:
            self.axes.text(x, y, text, **{"fontsize": SIZE, "va": "baseline", "ha": "left", **how})

    def _lines(self, x: float, top: float, lines: tuple[str, ...], **how: Any) -> None:
        """Several lines from ``top`` down."""
        for index, line in enumerate(lines):
            self._write(x, top + (index + 0.78) * LINE, line, **how)

    def _rule(self, xs: tuple[float, float], ys: tuple[float, float], **how: Any) -> None:
        style = {"color": INK, "linewidth": 0.8, "solid_capstyle": "butt", **how}
        self.axes.plot(xs, ys, **style)

    def _polygon(self, points: list[tuple[float, float]], **how: Any) -> None:
        from matplotlib.patches import Polygon

        self.axes.add_patch(Polygon(points, closed=True, zorder=3, **how))

    def _texts(self, number: int, row: ForestRow, middle: float) -> None:
        weight = "bold" if row.bold else "normal"
        colour = SOFT if row.kind == "text" else INK
        lines = self.labels[number]
        top = middle - len(lines) * LINE / 2
        self._lines(MARGIN + row.indent * INDENT, top, lines, weight=weight, color=colour)
        for right, _, cells in self.columns:
            self._write(right, middle + 0.28 * LINE, cells[number], ha="right", weight=weight)

    def _mark(self, row: ForestRow, y: float, largest: float) -> None:
        """The square with its whiskers, the diamond or the bar of a row."""
        if row.ci_low is None or row.ci_high is None:
            return
        if row.kind == "prediction":
            self._interval(row, y, color=DIAMOND, linewidth=2.6, gid="mark-prediction")
            for value in (row.ci_low, row.ci_high):
                x = self.place(value)
                if x == self.clipped(value):
                    self._rule((x, x), (y - 3.4, y + 3.4), color=DIAMOND, linewidth=1.1, zorder=3)
        elif row.estimate is not None and row.kind in ("pooled", "subgroup-pooled"):
            low, middle, high = map(self.clipped, (row.ci_low, row.estimate, row.ci_high))
            filled = row.kind == "pooled"
            half = 4.6 if filled else 3.8
            self._polygon(
                [(low, y), (middle, y - half), (high, y), (middle, y + half)],
                facecolor=DIAMOND if filled else "white",
                edgecolor=DIAMOND,
                linewidth=0.9,
                gid=f"mark-{row.kind}",
            )
        elif row.estimate is not None and row.kind in ("trial", "aggregate"):
            self._interval(row, y, linewidth=0.9, zorder=2)
            share = 0.35 if not largest else (row.weight_percent or 0.0) / largest
            self._square(row, y, max(SQUARE_MOST * math.sqrt(share), SQUARE_LEAST))

    def _interval(self, row: ForestRow, y: float, **how: Any) -> None:
        """A line from limit to limit, with an arrow at an end that lies beyond the axis."""
        low, high = row.ci_low or 0.0, row.ci_high or 0.0
        xs = (self.clipped(low), self.clipped(high))
        self._rule(xs, (y, y), **{"zorder": 3, **how})
        for value, x, side in ((low, self.left, -1), (high, self.right, 1)):
            if (self.place(value) - x) * side > 0:
                back = x - side * 2.5
                points = [(x + side * 2.5, y), (back, y - 2.4), (back, y + 2.4)]
                self._polygon(points, facecolor=INK, edgecolor="none")

    def _square(self, row: ForestRow, y: float, side: float) -> None:
        from matplotlib.patches import Rectangle

        x = self.place(row.estimate or 0.0)
        face, centre = self.spec.colour, "white"
        style: dict[str, Any] = {"edgecolor": "none", "linewidth": 1.0, "gid": f"mark-{row.kind}"}
        if row.kind == "aggregate":
            face, centre, style["edgecolor"] = "white", self.spec.colour, self.spec.colour
        corner = (x - side / 2, y - side / 2)
        self.axes.add_patch(Rectangle(corner, side, side, zorder=3, facecolor=face, **style))
        self._rule((x, x), (y - side * 0.28, y + side * 0.28), color=centre, zorder=4)

    def _scale(self) -> None:
        """The axis with its ticks, what either side favours, and its label."""
        y = self.ticks_top
        self._rule((self.left, self.right), (y, y), linewidth=0.7)
        for value, label in self.ticks():
            x = self.place(value)
            self._rule((x, x), (y, y + 3), linewidth=0.7)
            self._write(x, y + 11, label, ha="center")
        null = self.place(self.spec.null_value)
        for side, lines in zip((-1, 1), self.favours, strict=True):
            ha = "right" if side < 0 else "left"
            self._lines(null + 8 * side, y + 15, lines, ha=ha, color=SOFT)
        centre = (self.left + self.right) / 2
        self._lines(centre, y + self.axis_label_at, self.axis_label, ha="center")
