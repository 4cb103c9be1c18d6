"""The figures of reference ranges: limits by ethnicity, of true values, and worm plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

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
# Of each sex: colour, line, line of a small group drawn towards the others, mark.
_SEX_STYLES: Final = {
    "male": (PALETTE[0], "-", ":", "o"),
    "female": (PALETTE[1], (0, (4.5, 1.5)), "-.", "s"),
    ALL: (INK, "-", ":", "o"),
}
_GREY: Final = "#9a9a9a"
_FIELD: Final = "#eef0f2"
_ABREAST: Final = 4  # panels in a row
_WIDE_MM: Final = (92.0, 130.0, 178.0, 178.0)  # of a figure with so many panels in a row
# Points: around a figure, a line of text, a tick with its distance from its label, the labels of
# centiles beside a panel and the least distance of two.
_PAD: Final = 7.0
_LINE: Final = 11.0
_TICK: Final = 6.5
_TITLE: Final = 15.0
_BESIDE: Final = 24.0
_APART: Final = 7.4
_LONGEST_STEP: Final = 2.0  # years from one age of a curve to the next; a longer one is a gap

_Item = TypeVar("_Item", "ReferenceLimit", "CurveLine", "ErrorAdjustedLimit")
_Row = TypeVar("_Row", "ReferenceLimit", "ErrorAdjustedLimit")


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


def typical_ages(rows: Sequence[_Row]) -> list[_Row]:
    """Of one group's rows those of the age band with most participants, or the age nearest 50."""
    groups = grouped(rows, "age_low age_high age").values()
    return max(groups, key=lambda g: (-abs((g[0].age or 50) - 50), g[0].n or 0))


# ------------------------------------------------------------------ a panel per ethnicity


class _Limits(NamedTuple):
    """A group's limits along x ``[n]``: ``values`` ``[limit low high, n, centiles]``."""

    x: np.ndarray
    centiles: Sequence[float]
    values: np.ndarray
    thin: bool = False


_Groups = dict[tuple[str, str], _Limits]  # by sex and ethnicity


def limits_figure(
    rows: Sequence[ReferenceLimit],
    lines: Sequence[CurveLine] = (),
    participants: Sequence[CurveParticipants] = (),
    *,
    population_title: str = "",
) -> Drawing:
    """One measure's limits: a panel per ethnicity on the same axes, both sexes in each.

    ``rows`` by age band are marks, ``lines`` curves; without curves the marks are connected and
    have their intervals. All ethnicities are grey in each panel. ``participants`` only for internal
    pages; ``population_title`` is printed above where these are no reference intervals.
    """
    every: list[CurveLine | ReferenceLimit] = [*headlines(lines), *rows]
    rows = [row for row in rows if not lines or row.age_low is not None]  # all ages: no place
    label = measure_label(every[0].measure, every[0].unit)
    used = [one for one in every if getattr(one, "limit", 0.0) is not None] or every
    sexes = [sex for sex in SEX_NAMES if any(one.sex == sex for one in used)]
    ethnicities = ethnicities_of(used)
    curves = {(line.sex, line.ethnicity): _curve(line) for line in headlines(lines)}
    marks, by_age = _bands(rows, sexes), bool(lines) or rows[0].age_low is not None
    panel_rows = -(-len(ethnicities) // _ABREAST)
    columns = -(-len(ethnicities) // panel_rows)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(panel_rows, columns, sharex=True, sharey=True, squeeze=False)
        for at in range(len(ethnicities), grid.size):
            grid.flat[at].set_visible(False)
            grid.flat[at - columns].tick_params(labelbottom=True)
        for panel, ethnicity in zip(grid.flat, ethnicities, strict=False):
            panel.set_title(ETHNICITY_NAMES[ethnicity], loc="left", y=1.0)
            for sex in sexes:
                _draw_group(panel, sex, ethnicity, curves, marks)
        for part in participants:
            dots: dict[str, Any] = {"color": HAIR, "markersize": 1.6, "zorder": 0}
            grid[0, 0].plot(part.age, part.value, ".", rasterized=True, **dots)
        grid[0, 0].margins(y=0.06)
        if by_age:
            grid[0, 0].xaxis.get_major_locator().set_params(nbins=4, steps=[1, 2, 5, 10])
        else:
            grid[0, 0].set_xticks(range(len(sexes)), [SEX_NAMES[sex] for sex in sexes])
            grid[0, 0].set_xlim(-0.5, len(sexes) - 0.5)
        grid[panel_rows // 2, 0].set_ylabel(fill(label, 24))
        if population_title:
            figure.suptitle(population_title, x=0.01, ha="left", fontsize=8, color=SOFT)
        _set_margins(
            figure, grid, _LINE * by_age, _TITLE * bool(population_title), _BESIDE * by_age
        )
        for panel, ethnicity in zip(grid.flat, ethnicities * by_age, strict=False):
            shown = {sex: (curves or marks).get((sex, ethnicity)) for sex in sexes}
            _label_ends(panel, {sex: limits for sex, limits in shown.items() if limits})
        if by_age:
            _legend(figure, grid[0, 0], sexes, marks=bool(marks), grey=len(ethnicities) > 1)

    return drawing(
        (_WIDE_MM[columns - 1], 46.0 if panel_rows == 1 else 34.0 * panel_rows),
        draw,
        f"Limits of {measure_name(every[0].measure)}{' by age' * by_age}",
        f"{label}: lower and upper limits of each ethnicity; the numbers are in its table.",
    )


def _legend(figure: Figure, panel: Axes, sexes: Sequence[str], *, marks: bool, grey: bool) -> None:
    """The name of the age axis at the left, the sexes and the ``grey`` lines at the right."""
    for sex in sexes:
        colour, line, _, mark = _SEX_STYLES[sex]
        style: dict[str, Any] = {"linestyle": line, "linewidth": 1.2, "marker": mark * marks}
        style |= {"markersize": 3, "markerfacecolor": colour if mark == "o" else "white"}
        panel.plot([], [], color=colour, label=SEX_NAMES[sex], **style)
    if grey:
        panel.plot([], [], color=_GREY, linewidth=1, label="All ethnicities")
    low, right = _PAD / figure.bbox.height, 1 - _BESIDE / figure.bbox.width
    figure.text(panel.get_position().x0, low, "Age, years", va="baseline", fontsize=8.5)
    space = {"borderpad": 0, "borderaxespad": 0.6, "columnspacing": 1.4, "handlelength": 2.4}
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (right, 0.0), **space}
    figure.legend(ncols=len(sexes) + 1, **place)


def has_gap(line: CurveLine) -> bool:
    """True where the curve is not given at all ages between its ends, so that it breaks."""
    return bool((np.diff(line.ages) > _LONGEST_STEP).any() or np.isnan(line.limits.limit).any())


def _curve(line: CurveLine) -> _Limits:
    """A curve, broken at gaps by values that are no numbers."""
    breaks = np.flatnonzero(np.diff(line.ages) > _LONGEST_STEP) + 1
    values = np.stack([line.limits.limit, line.limits.low, line.limits.high])
    values = np.insert(values, breaks, np.nan, axis=1)
    return _Limits(np.insert(line.ages, breaks, np.nan), line.centiles, values, line.thin)


def _bands(rows: Sequence[ReferenceLimit], sexes: Sequence[str]) -> _Groups:
    """Limits by age band at the middle of each (an open one as wide as that before it).

    The sexes are a little apart; without bands at 0, 1, ….
    """
    bands = sorted({(row.age_low, row.age_high) for row in rows}, key=lambda band: band[0] or 0.0)
    centiles = sorted({row.centile for row in rows})
    widths = [10.0, *(high - low for low, high in bands if low is not None and high is not None)]
    found: _Groups = {}
    for (sex, ethnicity), mine in grouped(rows, "sex ethnicity").items():
        number = sexes.index(sex) if sex in sexes else 0
        by_place = {(row.age_low, row.age_high, row.centile): row for row in mine}
        x = [
            float(number)
            if low is None
            else low + (high - low if high is not None else widths[-1]) * (0.42 + 0.16 * number)
            for low, high in bands
        ]
        values = [
            [[getattr(by_place.get((*band, c)), name, None) for c in centiles] for band in bands]
            for name in ("limit", "ci_low", "ci_high")
        ]
        found[sex, ethnicity] = _Limits(np.array(x), centiles, np.array(values, dtype=float))
    return found


def _draw_group(panel: Axes, sex: str, ethnicity: str, curves: _Groups, bands: _Groups) -> None:
    """One sex of one ethnicity, before it the limits of all ethnicities in grey."""
    colour, line, thin_line, mark = _SEX_STYLES[sex]
    everyone = (curves or bands).get((sex, ALL))
    if everyone and ethnicity != ALL:
        panel.plot(everyone.x, everyone.values[0], color=_GREY, linewidth=0.6, zorder=1.5)
    curve, marks = curves.get((sex, ethnicity)), bands.get((sex, ethnicity))
    for limits in filter(None, (curve, marks)):
        is_curve = limits is curve
        for at, centile in enumerate(limits.centiles):
            limit, low, high = limits.values[:, :, at]
            style: dict[str, Any] = {"color": colour, "linewidth": 0.7 if centile == 50 else 1.2}
            style["linestyle"] = thin_line if limits.thin else line
            if is_curve or not curves:
                panel.plot(limits.x, limit, **style)
            if centile == 50:
                continue
            if is_curve:
                panel.fill_between(limits.x, low, high, color=colour, alpha=0.16, linewidth=0)
                continue
            if not curves:
                ends = np.column_stack([low, high, np.full_like(low, np.nan)])
                panel.plot(limits.x.repeat(3), ends.ravel(), color=colour, linewidth=0.9)
            face = colour if mark == "o" else "white"
            style = {"color": colour, "markersize": 2.6, "markeredgewidth": 0.7}
            panel.plot(limits.x, limit, mark, markerfacecolor=face, **style)


def _label_ends(panel: Axes, groups: Mapping[str, _Limits]) -> None:
    """The centile of each line beside its right end, moved up or down where two would touch."""
    ends = []
    for sex, limits in groups.items():
        for at, centile in enumerate(limits.centiles):
            known = np.flatnonzero(np.isfinite(limits.values[0, :, at]))
            if len(known):
                value = limits.values[0, known[-1], at]
                ends.append((value, limits.x[known[-1]], f"{centile:g}", _SEX_STYLES[sex][0]))
    ends.sort(key=lambda end: end[0])
    # In points; of places in order the mean of those moved only up and of those moved only down.
    steps = _APART * np.arange(len(ends))
    places = panel.transData.transform([(x, y) for y, x, *_ in ends] or np.zeros((0, 2)))[:, 1]
    free = places - steps
    up, down = np.maximum.accumulate(free), np.minimum.accumulate(free[::-1])[::-1]
    right, bottom = panel.bbox.x1, panel.bbox.y0
    for (value, x, text, colour), y in zip(ends, (up + down) / 2 + steps, strict=True):
        panel.annotate(
            text,
            (x, value),
            xytext=(right + 4.0, max(y, bottom)),
            textcoords="figure pixels",
            fontsize=7,
            color=colour,
            va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": colour, "shrinkA": 0},
        )


def _set_margins(
    figure: Figure, panels: np.ndarray, below: float, above: float = 0.0, beside: float = 0.0
) -> None:
    """Margins of ``panels`` ``[rows, columns]``; ``below``, ``above`` and ``beside`` each are free.

    In points. Only the tick labels of the y axis are measured, and all labels are put in their
    places: where matplotlib lays a figure out itself, this takes longer than all else that is
    drawn.
    """
    rows, columns = panels.shape
    width, height = figure.bbox.width, figure.bbox.height
    under = below + _PAD + _TICK + _LINE + _LINE * bool(panels[-1, 0].get_xlabel())
    over = height - above - _PAD - _LINE
    between = {"hspace": 2.4 * _LINE, "wspace": max(1.5 * _LINE, beside + 3)}
    tall = (over - under - (rows - 1) * between["hspace"]) / rows
    figure.subplots_adjust(bottom=under / height, top=over / height)
    first = panels[:, 0]
    labels = [label for panel in first for label in panel.get_yticklabels() if label.get_text()]
    widest = max((label.get_window_extent().width for label in labels), default=0.0) + _TICK
    left = _PAD + widest + _LINE * (1 + max(p.get_ylabel().count("\n") for p in first))
    wide = (width - _PAD - beside - left - (columns - 1) * between["wspace"]) / columns
    figure.subplots_adjust(
        left=left / width,
        right=1 - (_PAD + beside) / width,
        hspace=between["hspace"] / tall,
        wspace=between["wspace"] / wide,
    )
    for panel in first:
        panel.yaxis.set_label_coords(-(widest + 2) / wide, 0.5)
    for panel in panels[-1]:
        panel.xaxis.set_label_coords(0.5, -(_TICK + _LINE + 2) / tall)


# ------------------------------------------------------------------ the measurement's error


def error_groups(rows: Sequence[ErrorAdjustedLimit]) -> list[list[ErrorAdjustedLimit]]:
    """For each measure and sex the outer limits of all ethnicities that stand for the others.

    Those of the first method and of `typical_ages`.
    """
    first = where(rows, ethnicity=ALL, method=rows[0].method) if rows else []
    outer = [row for row in headlines(first) if row.centile != 50]
    best = map(typical_ages, grouped(outer, "measure sex").values())
    return [group for group in best if any(row.true_limit is not None for row in group)]


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
