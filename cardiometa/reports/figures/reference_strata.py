"""A figure for each measure: its limits with their intervals by age band, one panel a sex."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from ...records import ETHNICITIES
from ...reference.results import ReferenceLimit
from ..style import PALETTE, SOFT, figure_style, figure_svg, measure_label, measure_name, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


ALL: Final = "all"
SEX_NAMES: Final = {"male": "Men", "female": "Women", ALL: "Men and women"}
ETHNICITY_NAMES: Final = {
    ALL: "All",
    "white": "White",
    "black": "Black",
    "south-asian": "South Asian",
    "chinese": "Chinese",
    "mixed-other": "Mixed or other",
    "asian-unspecified": "Asian, unspecified",
}
_MARKERS: Final = ("o", "s", "^", "D", "v", "P")
_SPREAD: Final = 0.62  # of the distance between two bands


def band_name(age_low: float | None, age_high: float | None, *, unit: str = "") -> str:
    """``18–29`` for [18, 30), ``≥70`` for an open band, ``All ages`` where not banded.

    Bands that do not end at whole years are shown as they are: ``17.5 to <30``.
    """
    end = f" {unit}" if unit else ""
    if age_low is None:
        return "All ages"
    if age_high is None:
        return f"≥{age_low:g}{end}"
    if float(age_low).is_integer() and float(age_high).is_integer():
        return f"{age_low:g}–{age_high - 1:g}{end}"
    return f"{age_low:g} to <{age_high:g}{end}"


def limits_figure(rows: Sequence[ReferenceLimit], *, population_title: str = "") -> str:
    """The SVG of one measure's limits ``rows``.

    ``population_title`` stands above where the rows are no reference interval.
    """
    sexes = list(dict.fromkeys(row.sex for row in rows))
    bands = list(dict.fromkeys((row.age_low, row.age_high) for row in rows))
    shown = [
        e
        for e in (ALL, *ETHNICITIES)
        if any(r.ethnicity == e and r.limit is not None for r in rows)
    ]
    label = measure_label(rows[0].measure, rows[0].unit)
    with figure_style():
        width = 88.0 * len(sexes) if len(bands) > 1 else 62.0 * len(sexes) + 12
        figure = new_figure(max(width, 100.0), 84.0)
        axes = figure.subplots(1, len(sexes), sharey=True, squeeze=False)[0]
        for panel, sex in zip(axes, sexes, strict=True):
            _panel(panel, [r for r in rows if r.sex == sex], bands, shown)
            panel.set_title(SEX_NAMES[sex], loc="left")
        axes[0].set_ylabel(label)
        if population_title:
            figure.suptitle(population_title, x=0.01, ha="left", fontsize=8, color=SOFT)
        lines = 1 if len(shown) <= 4 or len(sexes) > 1 else 2
        figure.tight_layout(rect=(0, 0.06 * lines + 0.01, 1, 0.95 if population_title else 1))
        _legend(figure, axes[0], lines)
        return figure_svg(
            figure,
            title=f"Limits of {measure_name(rows[0].measure)} by age",
            description=f"{label}: lower and upper limits with intervals; the numbers stand in "
            "the table of this measure.",
        )


def _legend(figure: Any, panel: Axes, lines: int) -> None:
    handles, labels = panel.get_legend_handles_labels()
    if labels:
        columns = -(-len(labels) // lines)
        figure.legend(
            handles,
            labels,
            loc="lower center",
            ncols=columns,
            columnspacing=1.4,
            handletextpad=0.5,
        )


def _panel(
    panel: Axes,
    rows: Sequence[ReferenceLimit],
    bands: Sequence[tuple[float | None, float | None]],
    shown: Sequence[str],
) -> None:
    place = {band: float(number) for number, band in enumerate(bands)}
    centiles = sorted({row.centile for row in rows})
    _shade(panel, rows, place, (centiles[0], centiles[-1]))
    for number, ethnicity in enumerate(shown):
        offset = 0.0 if len(shown) == 1 else (number / (len(shown) - 1) - 0.5) * _SPREAD
        colour = PALETTE[-1] if ethnicity == ALL else PALETTE[ethnicity_colour(ethnicity)]
        for centile in centiles:
            line = [r for r in rows if r.ethnicity == ethnicity and r.centile == centile]
            if centile == 50:
                if ethnicity == ALL:
                    _median(panel, line, place)
                continue
            _limit_line(panel, line, place, offset, colour)
        _label(panel, ethnicity, colour)
    panel.set_xticks(list(place.values()), [band_name(*band) for band in bands])
    panel.set_xlim(-0.5, len(bands) - 0.5)
    if len(bands) > 1:
        panel.set_xlabel("Age, years")
    panel.margins(y=0.06)


def ethnicity_colour(ethnicity: str) -> int:
    """The place of an ethnicity's colour in the palette."""
    return ETHNICITIES.index(ethnicity) % (len(PALETTE) - 1)


def _label(panel: Axes, ethnicity: str, colour: str) -> None:
    """The legend's entry, also where this panel has no such limit."""
    panel.plot(
        [],
        [],
        color=colour,
        marker="o" if ethnicity == ALL else _MARKERS[ethnicity_colour(ethnicity) % len(_MARKERS)],
        markersize=4 if ethnicity == ALL else 3.6,
        linewidth=1.4 if ethnicity == ALL else 0.9,
        label=ETHNICITY_NAMES[ethnicity],
    )


def _shade(
    panel: Axes,
    rows: Sequence[ReferenceLimit],
    place: dict[tuple[float | None, float | None], float],
    ends: tuple[float, float],
) -> None:
    """The interval of everybody in each band as a grey field."""
    for band, x in place.items():
        found = {
            r.centile: r.limit
            for r in rows
            if r.ethnicity == ALL and (r.age_low, r.age_high) == band
        }
        low, high = found.get(ends[0]), found.get(ends[1])
        if low is not None and high is not None and ends[0] < 50 < ends[1]:
            panel.fill_between([x - 0.46, x + 0.46], low, high, color="#eef0f2", linewidth=0)


def _median(
    panel: Axes,
    rows: Sequence[ReferenceLimit],
    place: dict[tuple[float | None, float | None], float],
) -> None:
    for row in rows:
        if row.limit is not None:
            x = place[row.age_low, row.age_high]
            panel.plot(
                [x - 0.46, x + 0.46], [row.limit] * 2, color=SOFT, linewidth=0.8, dashes=(3, 2)
            )


def _limit_line(
    panel: Axes,
    rows: Sequence[ReferenceLimit],
    place: dict[tuple[float | None, float | None], float],
    offset: float,
    colour: str,
) -> None:
    everybody = bool(rows) and rows[0].ethnicity == ALL
    known = [
        (place[r.age_low, r.age_high], r.limit, r.ci_low, r.ci_high)
        for r in rows
        if r.limit is not None
    ]
    # A line joins neighbouring bands alone: a suppressed cell leaves a gap.
    for (x, limit, _, _), (after, next_limit, _, _) in pairwise(known):
        if after - x == 1:
            panel.plot(
                [x + offset, after + offset],
                [limit, next_limit],
                color=colour,
                linewidth=1.2 if everybody else 0.7,
                alpha=1.0 if everybody else 0.7,
            )
    for x, limit, low, high in known:
        if low is not None and high is not None:
            panel.plot([x + offset] * 2, [low, high], color=colour, linewidth=0.9)
        panel.plot(
            [x + offset],
            [limit],
            color=colour,
            marker="o"
            if everybody
            else _MARKERS[ethnicity_colour(rows[0].ethnicity) % len(_MARKERS)],
            markersize=4 if everybody else 3.6,
            markeredgewidth=0,
        )
