"""Figures of an evaluation: overlap, Bland-Altman, bias by group against its margin.

Without ``internal`` nobody is in them: means, intervals and bins of at least the least cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from ...evaluation.tables import ALL, person_codes
from ...records import Figure
from ..pages.evaluation import GROUP_NAMES, PHASE_ORDER, STRUCTURE_NAMES, group_label, scope_words
from ..style import (
    HAIR,
    INK,
    PALETTE,
    SOFT,
    figure_style,
    figure_svg,
    measure_label,
    measure_name,
    new_figure,
    shown,
    shown_count,
    shown_estimate,
    unit_name,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from ...evaluation.results import AgreementRow, EquivalenceRow, EvaluationResult, OverlapSummary


_METRIC_NAMES: Final = {
    "dice": "Dice",
    "hd95_mm": "Hausdorff 95, mm",
    "assd_mm": "Mean surface distance, mm",
}
_BINS: Final = 6
_COLOURS: Final = {"equivalent": PALETTE[2], "different beyond margin": PALETTE[1]}


def figures_of(result: EvaluationResult) -> dict[str, Figure]:
    """Every figure by the name of its file, in the order of the page."""
    figures: dict[str, Figure] = {}
    for scope in dict.fromkeys(row.scope for row in result.overlap):
        chosen = _headline(result.overlap, scope)
        if any(row.mean is not None for row in chosen):
            figures[_name("overlap", scope, result)] = _overlap(result, chosen, scope)
            figures[_name("dice_by_group", scope, result)] = _dice_by_group(result, scope)
    for row in result.agreement:
        if row.group_by != ALL or row.scans_used == "ok" or row.bias is None:
            continue
        if row.sd is not None:
            name = _name(f"bland_altman_{row.measure}", row.scope, result)
            figures[name] = _bland_altman(result, row)
        judged = [e for e in result.equivalence if (e.measure, e.scope) == (row.measure, row.scope)]
        if any(e.estimate is not None for e in judged):
            name = _name(f"groups_{row.measure}", row.scope, result)
            figures[name] = _groups(row, judged)
    return figures


def _name(stem: str, scope: str, result: EvaluationResult) -> str:
    scopes = {row.scope for row in result.agreement} | {row.scope for row in result.overlap}
    return stem if len(scopes) < 2 else f"{stem}_{scope.replace('-', '_')}"


def _headline(rows: Sequence[OverlapSummary], scope: str) -> list[OverlapSummary]:
    return [
        r for r in rows if r.scope == scope and r.group_by == ALL and r.scans_used == "ok+review"
    ]


# ------------------------------------------------------------------ overlap


def _overlap(result: EvaluationResult, rows: Sequence[OverlapSummary], scope: str) -> Figure:
    lines = [
        (structure, phase)
        for structure in STRUCTURE_NAMES
        for phase in PHASE_ORDER
        if any((r.structure, r.phase) == (structure, phase) and r.mean is not None for r in rows)
        and phase != "ED+ES"
    ]
    height = 8.0 * len(lines) + 22
    with figure_style():
        figure = new_figure(180, height)
        panels = figure.subplots(1, 3, sharey=True)
        for panel, metric in zip(panels, _METRIC_NAMES, strict=True):
            for y, line in enumerate(lines):
                row = next(r for r in rows if r.metric == metric and (r.structure, r.phase) == line)
                _mean_mark(panel, row, len(lines) - 1 - y)
                if result.options.internal:
                    _points(panel, result, row, len(lines) - 1 - y)
            panel.set_title(_METRIC_NAMES[metric], loc="left")
            panel.grid(axis="x", color=HAIR, linewidth=0.5)
            panel.set_axisbelow(True)
        labels = [f"{STRUCTURE_NAMES[s]}, {p}" for s, p in reversed(lines)]
        panels[0].set_yticks(range(len(lines)), labels)
        panels[0].set_ylim(-0.6, len(lines) - 0.4)
        _dice_axis(panels[0], [r for r in rows if r.metric == "dice"])
        for panel in panels[1:]:
            panel.set_xlim(left=0)
        figure.tight_layout(w_pad=1.5)
        title = f"Overlap with the reader's labels{scope_words(scope)}"
        words = " ".join(
            f"{STRUCTURE_NAMES[r.structure]} {r.phase}, {_METRIC_NAMES[r.metric]}: mean "
            f"{shown_estimate(r.mean, r.ci_low, r.ci_high, 3 if r.metric == 'dice' else 1)}."
            for r in rows
            if r.mean is not None
        )
        svg = figure_svg(figure, title=title, description=words)
    each = " Small dots: scans." if result.options.internal else ""
    return Figure(
        title=f"{title}.",
        caption=f"Dot and bar: mean with {result.options.ci_level:g}% interval (bootstrap over "
        f"people); thin line: mean ± SD. Distances are three-dimensional.{each}",
        svg=svg,
    )


def _dice_axis(panel: Axes, rows: Sequence[OverlapSummary]) -> None:
    lows = [r.mean - (r.sd or 0) for r in rows if r.mean is not None]
    low = math.floor(10 * (min(lows, default=0.5) - 0.02)) / 10
    left = panel.get_xlim()[0]
    panel.set_xlim(max(0.0, min(low, left)), 1.0)


def _mean_mark(panel: Axes, row: OverlapSummary, y: int) -> None:
    if row.mean is None:
        return
    colour = PALETTE[list(STRUCTURE_NAMES).index(row.structure)]
    if row.sd is not None:
        most = 1.0 if row.metric == "dice" else math.inf
        ends = [max(row.mean - row.sd, 0.0), min(row.mean + row.sd, most)]
        panel.plot(ends, [y, y], color=colour, linewidth=0.8)
    if row.ci_low is not None and row.ci_high is not None:
        panel.plot([row.ci_low, row.ci_high], [y, y], color=colour, linewidth=3.2, alpha=0.55)
    panel.plot([row.mean], [y], marker="o", color=colour, markersize=4.5)


def _points(panel: Axes, result: EvaluationResult, row: OverlapSummary, y: int) -> None:
    frame = result.compared.overlaps
    keys = (frame["structure"] == row.structure) & (frame["phase"] == row.phase)
    values = frame.loc[keys & (frame["scope"] == row.scope), row.metric].dropna().to_numpy()
    # A fixed scatter across the line: equal input, equal bytes.
    spread = (np.arange(len(values)) * 0.618034) % 1 * 0.3 + 0.12
    panel.plot(values, y + spread, "o", color=SOFT, markersize=1.6, markeredgewidth=0, alpha=0.7)


def _dice_by_group(result: EvaluationResult, scope: str) -> Figure:
    rows = [
        r
        for r in result.overlap
        if r.scope == scope
        and r.metric == "dice"
        and r.scans_used == "ok+review"
        and r.mean is not None
        and r.phase == _summary_phase(result, scope)
    ]
    lines = list(dict.fromkeys((r.group_by, r.group) for r in rows))
    with figure_style():
        figure = new_figure(150, 5.6 * len(lines) + 24)
        panel = figure.subplots()
        places = _places(lines)
        structures = [s for s in STRUCTURE_NAMES if any(r.structure == s for r in rows)]
        for row in rows:
            number = structures.index(row.structure)
            y = places[row.group_by, row.group] + 0.22 * ((len(structures) - 1) / 2 - number)
            colour = PALETTE[list(STRUCTURE_NAMES).index(row.structure)]
            if row.mean is None:
                continue
            if row.ci_low is not None and row.ci_high is not None:
                panel.plot([row.ci_low, row.ci_high], [y, y], color=colour, linewidth=1.4)
            mark = "osD"[number % 3]
            panel.plot([row.mean], [y], marker=mark, color=colour, markersize=3.6)
        for number, structure in enumerate(structures):
            colour = PALETTE[list(STRUCTURE_NAMES).index(structure)]
            label = STRUCTURE_NAMES[structure]
            panel.plot([], [], marker="osD"[number % 3], color=colour, markersize=4, label=label)
        _group_axis(panel, lines, places)
        panel.set_xlabel(f"Mean Dice ({_summary_phase(result, scope)})")
        panel.grid(axis="x", color=HAIR, linewidth=0.5)
        figure.legend(loc="lower center", ncols=3)
        figure.tight_layout(rect=(0, 7 / (5.6 * len(lines) + 24), 1, 1))
        title = f"Dice by group{scope_words(scope)}"
        words = " ".join(
            f"{group_label(r.group_by, r.group)}, {STRUCTURE_NAMES[r.structure]}: "
            f"{shown_estimate(r.mean, r.ci_low, r.ci_high, 3)}."
            for r in rows
        )
        svg = figure_svg(figure, title=title, description=words)
    return Figure(
        title=f"{title}.",
        caption=f"Mean with {result.options.ci_level:g}% interval (bootstrap over people). Groups "
        "that may not be shown are left out.",
        svg=svg,
    )


def _summary_phase(result: EvaluationResult, scope: str) -> str:
    phases = {r.phase for r in result.overlap if r.scope == scope}
    return next((p for p in ("ED+ES", "ED", "ES", "other") if p in phases), "")


# ------------------------------------------------------------------ Bland-Altman


def _bland_altman(result: EvaluationResult, row: AgreementRow) -> Figure:
    pairs = result.compared.pairs
    part = pairs[(pairs["measure"] == row.measure) & (pairs["scope"] == row.scope)]
    joined = part.join(result.compared.scans, on="scan")
    unit = unit_name(row.unit)
    with figure_style():
        figure = new_figure(110, 78)
        panel = figure.subplots()
        panel.axhline(0, color=SOFT, linewidth=0.5)
        lines = (
            (row.bias, row.bias_low, row.bias_high, "-"),
            (row.loa_lower, row.loa_lower_low, row.loa_lower_high, "--"),
            (row.loa_upper, row.loa_upper_low, row.loa_upper_high, "--"),
        )
        for value, low, high, dash in lines:
            if value is None or low is None or high is None:
                continue
            panel.axhspan(low, high, color=PALETTE[0], alpha=0.13, linewidth=0)
            panel.axhline(value, color=INK, linewidth=0.9, linestyle=dash)
            panel.annotate(
                shown(value),
                (1.01, value),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
            )
        if result.options.internal:
            middle = (joined["model"] + joined["reference"]) / 2
            panel.plot(
                middle,
                joined["model"] - joined["reference"],
                "o",
                color=PALETTE[0],
                markersize=3,
                markeredgewidth=0,
                alpha=0.6,
            )
        else:
            _binned(panel, joined, result.options.least)
        panel.set_xlabel(f"Mean of model and reference, {unit}")
        panel.set_ylabel(f"Model − reference, {unit}")
        panel.set_title(measure_label(row.measure, row.unit), loc="left")
        figure.tight_layout(rect=(0, 0, 0.95, 1))
        title = f"Bland-Altman: {measure_name(row.measure)}{scope_words(row.scope)}"
        words = (
            f"Bias {shown_estimate(row.bias, row.bias_low, row.bias_high)} {unit}; limits of "
            f"agreement {shown_estimate(row.loa_lower, row.loa_lower_low, row.loa_lower_high)} "
            f"and {shown_estimate(row.loa_upper, row.loa_upper_low, row.loa_upper_high)}."
        )
        svg = figure_svg(figure, title=title, description=words)
    dots = (
        "One dot a scan."
        if result.options.internal
        else "Dots: mean difference ± SD of people of similar size "
        f"(bins of at least {result.options.least})."
    )
    return Figure(
        title=f"{title}.",
        caption=f"{words} {shown_count(row.n_people)} people. Bands: {row.ci_level:g}% intervals. "
        f"{dots}{_slope_words(row)}",
        svg=svg,
    )


def _slope_words(row: AgreementRow) -> str:
    """The slope of the difference on the mean: 0 where the bias does not depend on size."""
    if row.slope is None:
        return ""
    slope = shown_estimate(row.slope, row.slope_low, row.slope_high, 3)
    return f" Slope of the difference on the mean: {slope}."


def _binned(panel: Axes, joined: pd.DataFrame, least: int) -> None:
    """Means ± SD of people sorted by size, in bins of at least ``least`` people."""
    codes = person_codes(joined)
    middle = ((joined["model"] + joined["reference"]) / 2).to_numpy(dtype=float)
    difference = (joined["model"] - joined["reference"]).to_numpy(dtype=float)
    count = np.bincount(codes)
    x = np.bincount(codes, weights=middle) / count
    y = np.bincount(codes, weights=difference) / count
    order = np.argsort(x, kind="stable")
    bins = min(_BINS, len(x) // max(least, 2))
    for part in np.array_split(order, max(bins, 1)):
        spread = float(y[part].std(ddof=1))
        panel.errorbar(
            [float(x[part].mean())],
            [float(y[part].mean())],
            yerr=[spread],
            fmt="o",
            color=PALETTE[0],
            markersize=4,
            linewidth=1,
            capsize=2,
        )
    panel.margins(x=0.12)


# ------------------------------------------------------------------ groups


def _places(lines: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """Heights of the lines from the top, with a gap between groupings."""
    y, places, before = 0.0, {}, ""
    for by, name in lines:
        y -= 1.0 if by == before or not before else 1.5
        places[by, name] = y
        before = by
    return places


def _group_axis(
    panel: Axes, lines: Sequence[tuple[str, str]], places: dict[tuple[str, str], float]
) -> None:
    panel.set_yticks([places[line] for line in lines], [group_label(*line) for line in lines])
    panel.set_ylim(min(places.values()) - 0.7, -0.3)
    panel.spines["left"].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.set_axisbelow(True)


def _groups(row: AgreementRow, judged: Sequence[EquivalenceRow]) -> Figure:
    """Bias of each group with the interval of the equivalence test, beside the margin."""
    rows = [r for r in judged if r.kind == "bias" and r.estimate is not None]
    lines = [(r.group_by, r.group) for r in rows]
    places = _places(lines)
    margin = rows[0].margin or 0.0
    unit = unit_name(row.unit)
    with figure_style():
        figure = new_figure(150, 5.2 * len(lines) + 26)
        panel = figure.subplots()
        panel.axvspan(-margin, margin, color=PALETTE[2], alpha=0.12, linewidth=0)
        panel.axvline(0, color=SOFT, linewidth=0.5)
        for r in rows:
            y = places[r.group_by, r.group]
            colour = _COLOURS.get(r.result, INK)
            assert r.estimate is not None
            if r.ci_low is None or r.ci_high is None:
                continue
            panel.plot([r.ci_low, r.ci_high], [y, y], color=colour, linewidth=1.4)
            panel.plot([r.estimate], [y], marker="s", color=colour, markersize=4)
            panel.annotate(
                f"{shown_estimate(r.estimate, r.ci_low, r.ci_high)}, n = {shown_count(r.n_people)}",
                (1.02, y),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                color=colour,
            )
        ends = [abs(e) for r in rows for e in (r.ci_low or 0, r.ci_high or 0)]
        reach = 1.08 * max(margin, *ends)
        panel.set_xlim(-reach, reach)
        _group_axis(panel, lines, places)
        panel.set_xlabel(f"Bias (model − reference), {unit}")
        figure.tight_layout(rect=(0, 0, 0.78, 1))
        title = f"Bias by group: {measure_name(row.measure)}{scope_words(row.scope)}"
        words = f"Margin ± {shown(margin)} {unit} ({rows[0].margin_source}). " + " ".join(
            f"{group_label(r.group_by, r.group)}: "
            f"{shown_estimate(r.estimate, r.ci_low, r.ci_high)}, {r.result}."
            for r in rows
        )
        svg = figure_svg(figure, title=title, description=words)
    grouped = ", ".join(dict.fromkeys(GROUP_NAMES[by] for by, _ in lines if by != ALL))
    return Figure(
        title=f"{title}.",
        caption=f"Square and bar: bias with {rows[0].ci_level:g}% interval, green where it lies "
        f"inside the margin (equivalent), red where it lies wholly outside. Band: margin "
        f"± {shown(margin)} {unit} ({rows[0].margin_source})."
        + (f" Groups: {grouped}." if grouped else ""),
        svg=svg,
    )
