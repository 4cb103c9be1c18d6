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

from .forest_draw import draw
from .forest_layout import arrange
from .forest_spec import ForestRow, ForestSpec, RowKind, check, describe
from .style import figure_png, figure_style, figure_svg

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
