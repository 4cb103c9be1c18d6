"""The figures of reference ranges: limits by age band, centile curves and worm plots, by sex."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from ...records import ETHNICITIES
from ..page import grouped, where
from ..style import HAIR, INK, PALETTE, SOFT, Drawing, drawing, measure_label, measure_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...reference.results import (
        CurveLine,
        CurveParticipants,
        ErrorAdjustedLimit,
        ReferenceLimit,
        WormPlot,
    )


ALL: Final = "all"
META: Final = "meta"
STRATA: Final = "strata"
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
METHOD_NAMES: Final = {
    STRATA: "strata",
    "lms": "LMS curves",
    "bct": "Box-Cox t curves",
    "bcpe": "Box-Cox power exponential curves",
    "gaussian": "normal curves",
    "linear": "linear, one SD",
    "quantile": "quantile regression",
    "fractional-polynomial": "fractional polynomials",
    META: "meta-analytic range",
}
_KINDS: Final = ("marginal", "conditional", "population")
_MARKERS: Final = ("o", "s", "^", "D", "v", "P")
_SPREAD: Final = 0.62  # of the distance between two bands
_HALF_BAND: Final = 0.46
_FIELD: Final = "#eef0f2"
# Points: around a figure, a line of text, a tick with its distance from its label.
_PAD: Final = 7.0
_LINE: Final = 11.0
_TICK: Final = 6.5
_TITLE: Final = 15.0
_LONGEST_STEP: Final = 2.0  # years from one age of a curve to the next; a longer one is a gap

_Band = tuple[float | None, float | None]
_Item = TypeVar("_Item", "ReferenceLimit", "CurveLine", "ErrorAdjustedLimit")


def band_name(age_low: float | None, age_high: float | None) -> str:
    """``18–29`` for [18, 30), ``≥70`` for an open band, ``All ages`` where not banded.

    Bands that do not end at integer years are shown as they are: ``17.5 to <30``.
    """
    if age_low is None:
        return "All ages"
    if age_high is None:
        return f"≥{age_low:g}"
    if float(age_low).is_integer() and float(age_high).is_integer():
        return f"{age_low:g}–{age_high - 1:g}"
    return f"{age_low:g} to <{age_high:g}"


def ethnicities_of(rows: Iterable[Any]) -> list[str]:
    """Those of the rows, all together first."""
    found = {row.ethnicity for row in rows}
    return [e for e in (ALL, *ETHNICITIES) if e in found]


def headlines(items: Sequence[_Item]) -> list[_Item]:
    """Of each group the curves to show: marginal ones where there are any, else what it has."""
    best: dict[tuple[str, str], str] = {}
    for item in sorted(items, key=lambda item: _KINDS.index(item.kind)):
        best.setdefault((item.sex, item.ethnicity), item.kind)
    return [item for item in items if best[item.sex, item.ethnicity] == item.kind]


def meta_headlines(rows: Sequence[ReferenceLimit]) -> list[ReferenceLimit]:
    """Of each group the rows of the first rule, marginal where there are any."""
    # In the order of the rules, the marginal kind first.
    groups = grouped(rows, "sex ethnicity age_low age_high").values()
    kept = [where(group, limits=group[0].limits, kind=group[0].kind) for group in groups]
    return [row for group in kept for row in group]


# ------------------------------------------------------------------ panels by sex


def _by_sex(
    rows: Sequence[Any],
    size_mm: tuple[float, float],
    draw: Callable[[Axes, str, Sequence[str]], None],
    population_title: str,
    title: str,
) -> Drawing:
    """One panel per sex with a common legend of the ethnicities of ``rows``."""
    sexes = list(dict.fromkeys(row.sex for row in rows))
    ethnicities = ethnicities_of(rows)
    label = measure_label(rows[0].measure, rows[0].unit)

    def on_figure(figure: Figure) -> None:
        panels = figure.subplots(1, len(sexes), sharey=True, sharex=True, squeeze=False)[0]
        for panel, sex in zip(panels, sexes, strict=True):
            draw(panel, sex, ethnicities)
            panel.set_title(SEX_NAMES[sex], loc="left", y=1.0)
        panels[0].set_ylabel(label)
        if population_title:
            figure.suptitle(population_title, x=0.01, ha="left", fontsize=8, color=SOFT)
        lines = 1 if len(ethnicities) <= 4 or len(sexes) > 1 else 2
        below = (0.06 * lines + 0.01) * figure.bbox.height
        _set_margins(figure, panels[None], below, _TITLE if population_title else 0.0)
        handles, labels = panels[0].get_legend_handles_labels()
        if labels:
            style = {"ncols": -(-len(labels) // lines), "columnspacing": 1.4, "handletextpad": 0.5}
            figure.legend(handles, labels, loc="lower center", **style)

    description = (
        f"{label}: lower and upper limits with intervals; the numbers are in the table of this "
        "measure."
    )
    return drawing(
        size_mm, on_figure, f"{title} of {measure_name(rows[0].measure)} by age", description
    )


def _set_margins(figure: Figure, panels: np.ndarray, below: float, above: float = 0.0) -> None:
    """Margins of ``panels`` ``[rows, columns]``, in points; ``below`` and ``above`` are kept free.

    Only the tick labels of the y axis are measured, and all labels are put in their places: where
    matplotlib lays a figure out itself, this takes longer than all else that is drawn.
    """
    rows, columns = panels.shape
    width, height = figure.bbox.width, figure.bbox.height
    under = below + _PAD + 2 * _LINE * bool(panels[-1, 0].get_xlabel()) + _LINE
    over = height - above - _PAD - _LINE
    between = {"hspace": 2.4 * _LINE, "wspace": 1.5 * _LINE}
    tall = (over - under - (rows - 1) * between["hspace"]) / rows
    figure.subplots_adjust(bottom=under / height, top=over / height)
    first = panels[:, 0]
    labels = [label for panel in first for label in panel.get_yticklabels() if label.get_text()]
    widest = max((label.get_window_extent().width for label in labels), default=0.0) + _TICK
    left = _PAD + _LINE + widest
    wide = (width - _PAD - left - (columns - 1) * between["wspace"]) / columns
    figure.subplots_adjust(
        left=left / width,
        right=1 - _PAD / width,
        hspace=between["hspace"] / tall,
        wspace=between["wspace"] / wide,
    )
    for panel in first:
        panel.yaxis.set_label_coords(-(widest + 2) / wide, 0.5)
    for panel in panels[-1]:
        panel.xaxis.set_label_coords(0.5, -(_TICK + _LINE + 2) / tall)


def _style(ethnicity: str) -> dict[str, Any]:
    """Colour, marker and line width of an ethnicity; of all together black and stronger."""
    if ethnicity == ALL:
        return {"color": PALETTE[-1], "marker": "o", "markersize": 4, "linewidth": 1.2}
    place = ETHNICITIES.index(ethnicity) % (len(PALETTE) - 1)
    marker = _MARKERS[place % len(_MARKERS)]
    return {"color": PALETTE[place], "marker": marker, "markersize": 3.6, "linewidth": 0.7}


# ------------------------------------------------------------------ limits by age band


def limits_figure(rows: Sequence[ReferenceLimit], *, population_title: str = "") -> Drawing:
    """One measure's limits ``rows``.

    ``population_title`` is printed above where the rows are not a reference interval.
    """
    bands = list(dict.fromkeys((row.age_low, row.age_high) for row in rows))
    centiles = sorted({row.centile for row in rows})
    place = {band: float(number) for number, band in enumerate(bands)}
    sexes = len({row.sex for row in rows})
    width = 88.0 * sexes if len(bands) > 1 else 62.0 * sexes + 12

    def draw(panel: Axes, sex: str, ethnicities: Sequence[str]) -> None:
        mine = where(rows, sex=sex)
        _shade(panel, where(mine, ethnicity=ALL), place, centiles)
        shown = [
            e for e in ethnicities if any(r.limit is not None for r in where(rows, ethnicity=e))
        ]
        for number, ethnicity in enumerate(shown):
            offset = 0.0 if len(shown) == 1 else (number / (len(shown) - 1) - 0.5) * _SPREAD
            for centile in (c for c in centiles if c != 50):
                line = where(mine, ethnicity=ethnicity, centile=centile)
                _limit_line(panel, line, place, offset, _style(ethnicity))
            # The legend's entry, also where this panel has no such limit.
            width = 1.4 if ethnicity == ALL else 0.9
            name = ETHNICITY_NAMES[ethnicity]
            panel.plot([], [], label=name, **{**_style(ethnicity), "linewidth": width})
        panel.set_xticks(list(place.values()), [band_name(*band) for band in bands])
        panel.set_xlim(-0.5, len(bands) - 0.5)
        if len(bands) > 1:
            panel.set_xlabel("Age, years")
        panel.margins(y=0.06)

    return _by_sex(rows, (max(width, 100.0), 84.0), draw, population_title, "Limits")


def _shade(
    panel: Axes,
    rows: Sequence[ReferenceLimit],
    place: dict[_Band, float],
    centiles: Sequence[float],
) -> None:
    """The interval of all ethnicities in each band as a grey field, the median dashed."""
    found = {(r.age_low, r.age_high, r.centile): r.limit for r in rows}
    low, median, high = (
        np.array([found.get((*band, c)) for band in place], dtype=float).repeat(3)
        for c in (centiles[0], 50, centiles[-1])
    )
    # Both edges of each band, and a break before the next.
    x = np.ravel([[at - _HALF_BAND, at + _HALF_BAND, np.nan] for at in place.values()])
    if centiles[0] < 50 < centiles[-1]:
        panel.fill_between(x, low, high, color=_FIELD, linewidth=0)
    if 50 in centiles:
        panel.plot(x, median, color=SOFT, linewidth=0.8, dashes=(3, 2))


def _limit_line(
    panel: Axes,
    rows: Sequence[ReferenceLimit],
    place: dict[_Band, float],
    offset: float,
    style: dict[str, Any],
) -> None:
    """The limits of one group at one centile, each with its interval; a missing one is a gap."""
    by_band = {(r.age_low, r.age_high): r for r in rows}
    mine = [by_band[band] for band in place]
    x = np.array(list(place.values())) + offset
    limits, low, high = (
        np.array([getattr(r, name) for r in mine], dtype=float)
        for name in ("limit", "ci_low", "ci_high")
    )
    alpha = 1.0 if mine[0].ethnicity == ALL else 0.7
    panel.plot(x, limits, alpha=alpha, color=style["color"], linewidth=style["linewidth"])
    ends = np.column_stack([low, high, np.full_like(low, np.nan)])
    panel.plot(x.repeat(3), ends.ravel(), color=style["color"], linewidth=0.9)
    panel.plot(x, limits, markeredgewidth=0, **{**style, "linestyle": ""})


# ------------------------------------------------------------------ centile curves


def curve_figure(
    lines: Sequence[CurveLine],
    participants: Sequence[CurveParticipants],
    *,
    population_title: str = "",
) -> Drawing:
    """One measure's curves by one method; ``participants`` only for internal pages."""
    used = headlines(lines)

    def draw(panel: Axes, sex: str, ethnicities: Sequence[str]) -> None:
        dots: dict[str, Any] = {"linestyle": "", "marker": ".", "markersize": 1.6, "zorder": 0}
        for part in where(participants, sex=sex):
            panel.plot(part.age, part.value, color="#b8b8b8", rasterized=True, **dots)
        for line in where(used, sex=sex):
            _draw_curve(panel, line)
        for ethnicity in ethnicities:
            colour, name = _style(ethnicity)["color"], ETHNICITY_NAMES[ethnicity]
            panel.plot([], [], color=colour, label=name)
        panel.set_xlabel("Age, years")

    width = max(88.0 * len({line.sex for line in lines}), 110.0)
    return _by_sex(used, (width, 92.0), draw, population_title, "Centiles")


def has_gap(line: CurveLine) -> bool:
    """True where the curve is not given at all ages between its ends, so that it breaks."""
    return bool((np.diff(line.ages) > _LONGEST_STEP).any() or np.isnan(line.limits.limit).any())


def _draw_curve(panel: Axes, line: CurveLine) -> None:
    colour, everyone = _style(line.ethnicity)["color"], line.ethnicity == ALL
    breaks = np.flatnonzero(np.diff(line.ages) > _LONGEST_STEP) + 1
    # A line ends at a value that is not a number.
    ages = np.insert(line.ages, breaks, np.nan)
    for index, centile in enumerate(line.centiles):
        limit, low, high = (
            np.insert(values[:, index], breaks, np.nan)
            for values in (line.limits.limit, line.limits.low, line.limits.high)
        )
        if centile == 50:
            if everyone:
                panel.plot(ages, limit, color=colour, linewidth=0.9, dashes=(4, 2.5))
            continue
        alpha = 0.16 if everyone else 0.1
        panel.fill_between(ages, low, high, color=colour, alpha=alpha, linewidth=0)
        style: dict[str, Any] = {"linestyle": ":" if line.thin else "-"}
        panel.plot(ages, limit, color=colour, linewidth=1.5 if everyone else 0.9, **style)


# ------------------------------------------------------------------ the measurement's error


def error_groups(rows: Sequence[ErrorAdjustedLimit]) -> list[list[ErrorAdjustedLimit]]:
    """For each measure and sex the outer limits of all ethnicities that stand for the others.

    Those of the first method: of the age band with most participants, or of the curve near 50.
    """
    first = where(rows, ethnicity=ALL, method=rows[0].method) if rows else []
    shown = (r for r in headlines(first) if r.centile != 50)
    best: dict[tuple[str, str], list[ErrorAdjustedLimit]] = {}
    for (measure, sex, *_), found in grouped(shown, "measure sex age_low age").items():
        best.setdefault((measure, sex), found)
        known = best[measure, sex][0]
        if abs((found[0].age or 50) - 50) < abs((known.age or 50) - 50) or (
            found[0].age is None and (found[0].n or 0) > (known.n or 0)
        ):
            best[measure, sex] = found
    return [group for group in best.values() if any(r.true_limit is not None for r in group)]


def error_figure(groups: Sequence[Sequence[ErrorAdjustedLimit]]) -> Drawing:
    """The interval of true values of each group within the measured one, which is 0 to 100 %."""
    names = [f"{measure_name(g[0].measure)}, {SEX_NAMES[g[0].sex].lower()}" for g in groups]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for at, group in enumerate(groups):
            start = group[0].limit
            unit = (group[-1].limit - start) / 100 if len(group) > 1 else abs(start) / 100
            measured, true, low, high = (
                (np.array([getattr(row, name) for row in group], dtype=float) - start) / unit
                for name in ("limit", "true_limit", "true_ci_low", "true_ci_high")
            )
            grey: dict[str, Any] = {"linewidth": 5, "solid_capstyle": "butt", "color": HAIR}
            axes.plot(measured, np.full(len(group), -at + 0.14), **grey)
            axes.plot(true, np.full(len(group), -at - 0.14), **{**grey, "color": PALETTE[0]})
            for ends in zip(low, high, strict=True):
                axes.plot(ends, [-at - 0.14] * 2, color=INK, linewidth=0.9)
        axes.set_yticks([-at for at in range(len(names))], names)
        axes.set_ylim(-len(names) + 0.4, 0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("Percent of the measured interval")
        figure.tight_layout()

    return drawing(
        (150.0, 7.0 * len(names) + 18),
        draw,
        "Intervals of measured and of true values",
        "Each interval of true values within the measured one; the numbers are in the table.",
    )


def worm_figure(worms: Sequence[WormPlot]) -> Drawing:
    """One measure's worm plots: a row per sex, a column per age group."""
    by_sex = [where(worms, sex=sex) for sex in dict.fromkeys(worm.sex for worm in worms)]
    columns = max(map(len, by_sex))

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(by_sex), columns, sharex=True, sharey=True, squeeze=False)
        for row, mine in zip(axes, by_sex, strict=True):
            for panel in row[len(mine) :]:
                panel.set_visible(False)
            for panel, worm in zip(row, mine, strict=False):
                half = worm.half_width
                panel.fill_between(worm.expected, -half, half, color=_FIELD, linewidth=0)
                panel.axhline(0, color=SOFT, linewidth=0.6)
                style: dict[str, Any] = {"color": PALETTE[0], "marker": "o", "markersize": 2.6}
                panel.plot(worm.expected, worm.deviation, **style)
                ages = worm.ages.replace("-", "–").replace(">=", "≥")
                title = f"{SEX_NAMES[worm.sex]}, {ages}"
                panel.set_title(title, loc="left", fontsize=8, y=1.0)
            row[0].set_ylabel("Deviation")
        for panel in axes[-1]:
            panel.set_xlabel("Expected z")
        _set_margins(figure, axes, 0.0)

    return drawing(
        (58.0 * max(columns, 2), 46.0 * len(by_sex) + 8),
        draw,
        f"Worm plots of {measure_name(worms[0].measure)}",
        "Observed minus expected z scores at centiles, by sex and age group.",
    )
