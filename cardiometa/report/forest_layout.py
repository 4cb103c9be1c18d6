"""Where everything of a forest plot stands: texts are measured, then columns and lines placed.

Lengths are points (1/72 inch) from the upper left corner. Nothing is drawn here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

from .forest_axis import Axis, choose_axis
from .forest_spec import ForestRow, ForestSpec, numbers_text
from .numbers import shown
from .style import POINTS_PER_MM

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
