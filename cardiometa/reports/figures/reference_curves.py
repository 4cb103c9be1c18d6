"""Centile figures of curves over age, one panel a sex, and the figures of their fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from ...records import ETHNICITIES, Figure, Table
from ...reference.results import ReferenceLimit
from ..page import Block
from ..style import (
    PALETTE,
    SOFT,
    figure_style,
    figure_svg,
    measure_label,
    measure_name,
    new_figure,
    shown,
    shown_count,
)
from .reference_strata import ALL, ETHNICITY_NAMES, SEX_NAMES, ethnicity_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...reference.results import (
        CurveLine,
        CurveParticipants,
        QStatistics,
        ReferenceRanges,
        WormPlot,
    )


METHOD_NAMES: Final = {
    "strata": "strata",
    "lms": "LMS curves",
    "gaussian": "normal curves",
    "linear": "linear, one SD",
    "quantile": "quantile regression",
    "fractional-polynomial": "fractional polynomials",
    "meta": "meta-analytic range",
}
KIND_NOTES: Final = {
    "marginal": (
        "Limits for a person of a new trial like these: the differences between trials are in them "
        "(marginal). Those for an average trial (conditional) are in the CSV."
    ),
    "conditional": (
        "Limits for the average of these trials (conditional): trials differ, and these limits do "
        "not say how a new one would."
    ),
}
_WORMS_SHOWN: Final = 6


def headline_kind(rows: Sequence[ReferenceLimit]) -> str:
    """The kind to show first: marginal where there is one."""
    kinds = {row.kind for row in rows if row.limit is not None}
    return next((k for k in ("marginal", "conditional") if k in kinds), "population")


class _OfGroup(Protocol):
    """A row or line of a group: what tells the group, and its kind."""

    @property
    def sex(self) -> str: ...
    @property
    def ethnicity(self) -> str: ...
    @property
    def kind(self) -> str: ...


_Item = TypeVar("_Item", bound=_OfGroup)


def headlines(items: Sequence[_Item]) -> list[_Item]:
    """Of each group the items to show: the marginal ones where there are any, else what it has."""
    rank = {"marginal": 0, "conditional": 1, "population": 2}
    best: dict[tuple[str, str], int] = {}
    for item in items:
        key = (item.sex, item.ethnicity)
        best[key] = min(best.get(key, 9), rank[item.kind])
    return [item for item in items if rank[item.kind] == best[item.sex, item.ethnicity]]


def curve_caption(rows: Sequence[ReferenceLimit], ci_level: float, *, internal: bool) -> str:
    """What the centile figure shows."""
    kind = headline_kind(rows)
    said = {
        "marginal": "Limits for a new trial. ",
        "conditional": "Limits for the average of these trials. ",
        "population": "",
    }[kind]
    people = "Dots: people. " if internal else ""
    return (
        f"{said}Lines: lower limit, median (dashed, everybody) and upper limit; fields: "
        f"{ci_level:g}% confidence intervals of the limits. Dotted: a thin group drawn to the "
        f"others. {people}Lines end where hardly anybody was observed."
    )


def curve_figure(
    lines: Sequence[CurveLine], people: Sequence[CurveParticipants], *, population_title: str = ""
) -> str:
    """The SVG of one measure's curves by one method; ``people`` only for internal pages."""
    used = headlines(lines)
    sexes = list(dict.fromkeys(line.sex for line in lines))
    label = measure_label(lines[0].measure, lines[0].unit)
    shown_ethnicities = [
        e for e in (ALL, *ETHNICITIES) if any(line.ethnicity == e for line in used)
    ]
    with figure_style():
        figure = new_figure(max(88.0 * len(sexes), 110.0), 92.0)
        axes = figure.subplots(1, len(sexes), sharey=True, sharex=True, squeeze=False)[0]
        for panel, sex in zip(axes, sexes, strict=True):
            for part in (p for p in people if p.sex == sex):
                panel.plot(
                    part.age, part.value, linestyle="", marker=".", markersize=1.6,
                    color="#b8b8b8", rasterized=True, zorder=0,
                )  # fmt: skip
            for line in (line for line in used if line.sex == sex):
                _draw(panel, line)
            for ethnicity in shown_ethnicities:
                panel.plot([], [], color=_colour(ethnicity), label=ETHNICITY_NAMES[ethnicity])
            panel.set_title(SEX_NAMES[sex], loc="left")
            panel.set_xlabel("Age, years")
        axes[0].set_ylabel(label)
        if population_title:
            figure.suptitle(population_title, x=0.01, ha="left", fontsize=8, color=SOFT)
        rows = 1 if len(shown_ethnicities) <= 4 or len(sexes) > 1 else 2
        figure.tight_layout(rect=(0, 0.06 * rows + 0.01, 1, 0.95 if population_title else 1))
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="lower center", ncols=-(-len(labels) // rows), columnspacing=1.4
        )
        return figure_svg(
            figure,
            title=f"Centiles of {measure_name(lines[0].measure)} by age",
            description=f"{label}: lower and upper limit by age with intervals; the numbers stand "
            "in the table of this measure.",
        )


def _colour(ethnicity: str) -> str:
    return PALETTE[-1] if ethnicity == ALL else PALETTE[ethnicity_colour(ethnicity)]


def _draw(panel: Axes, line: CurveLine) -> None:
    colour, everybody = _colour(line.ethnicity), line.ethnicity == ALL
    for index, centile in enumerate(line.centiles):
        limit = line.limits.limit[:, index]
        if centile == 50:
            if everybody:
                panel.plot(line.ages, limit, color=colour, linewidth=0.9, dashes=(4, 2.5))
            continue
        panel.fill_between(
            line.ages,
            line.limits.low[:, index],
            line.limits.high[:, index],
            color=colour,
            alpha=0.16 if everybody else 0.1,
            linewidth=0,
        )
        panel.plot(
            line.ages,
            limit,
            color=colour,
            linewidth=1.5 if everybody else 0.9,
            linestyle=":" if line.thin else "-",
        )


# ------------------------------------------------------------------ fit


def fit_blocks(result: ReferenceRanges) -> tuple[Block, ...]:
    """Q statistics and worms of the curves, where there are any."""
    blocks: list[Block] = []
    if result.q_statistics:
        blocks.append(_q_table(result.q_statistics))
    keys = list(dict.fromkeys((w.measure, w.method) for w in result.worm_plots))
    blocks += [
        _worm_block([w for w in result.worm_plots if (w.measure, w.method) == key])
        for key in keys[:_WORMS_SHOWN]
    ]
    return tuple(blocks)


def _q_table(rows: Sequence[QStatistics]) -> Table:
    def p_value(p: float) -> str:
        return "<0.001" if p < 0.001 else shown(p, 3)

    return Table(
        title="Fit of the curves by age: p of Royston and Wright's Q statistics.",
        columns=("Measure", "Method", "Sex", "n", "Age groups", "Mean", "Variance", "Skewness",
                 "Kurtosis"),
        rows=tuple(
            (
                measure_name(q.measure),
                METHOD_NAMES[q.method],
                SEX_NAMES[q.sex],
                shown_count(q.n),
                shown_count(q.groups),
                *(p_value(p) for p in (q.p_mean, q.p_variance, q.p_skewness, q.p_kurtosis)),
            )
            for q in rows
        ),
        caption=(
            "z scores within each person's own trial, in age groups of equal size; a small p says "
            "that this part of the law does not fit at every age. With thousands of people small p "
            "values come with misfits that no limit shows: look at the shares above and at the "
            "worms."
        ),
    )  # fmt: skip


def _worm_block(worms: Sequence[WormPlot]) -> Figure:
    name = measure_name(worms[0].measure)
    return Figure(
        title=f"Worms of {name}, {METHOD_NAMES[worms[0].method]}, by age third.",
        caption=(
            "Observed less expected z at centiles from 2.5 to 97.5 (fewer where few people lie "
            "beyond); field: where 95% of worms lie if the curve is right. A worm that is raised "
            "shows a mean off, a slope a variance, a bend a skewness."
        ),
        svg=worm_figure(worms),
    )


def worm_figure(worms: Sequence[WormPlot]) -> str:
    """The SVG of one measure's worms: a row a sex, a column an age group; nobody's own value."""
    sexes = list(dict.fromkeys(w.sex for w in worms))
    columns = max(sum(w.sex == sex for w in worms) for sex in sexes)
    with figure_style():
        figure = new_figure(58.0 * max(columns, 2), 46.0 * len(sexes) + 8)
        axes = figure.subplots(len(sexes), columns, sharex=True, sharey=True, squeeze=False)
        for row, sex in zip(axes, sexes, strict=True):
            mine = [w for w in worms if w.sex == sex]
            for panel in row[len(mine) :]:
                panel.set_visible(False)
            for panel, worm in zip(row, mine, strict=False):
                panel.fill_between(
                    worm.expected, -worm.half_width, worm.half_width, color="#eef0f2", linewidth=0
                )
                panel.axhline(0, color=SOFT, linewidth=0.6)
                panel.plot(
                    worm.expected, worm.deviation, color=PALETTE[0], marker="o", markersize=2.6
                )
                panel.set_title(
                    f"{SEX_NAMES[sex]}, {worm.ages.replace('-', '–').replace('>=', '≥')}",
                    loc="left",
                    fontsize=8,
                )
        for panel in axes[-1]:
            panel.set_xlabel("Expected z")
        for row in axes:
            row[0].set_ylabel("Deviation")
        figure.tight_layout()
        return figure_svg(
            figure,
            title=f"WormPlot plots of {measure_name(worms[0].measure)}",
            description="Observed minus expected z scores at centiles, by sex and age group.",
        )
