"""Figures of agreement: of an evaluation by group, and of a run with reported values.

Without ``internal`` an evaluation shows no individuals: means, intervals, and bins of at least the
smallest cell. The Bland-Altman plots of a run's own page show one mark per scan.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ...evaluation.agreement import BlandAltman, Estimate, bland_altman
from ...evaluation.groups import ALL, participant_codes
from ...evaluation.overlap import CONTOURED
from ...evaluation.tables import LEVEL
from ...measurement.measures import MEASURES, MeasureDefinition
from ..page import where, words
from ..style import (
    DASH,
    HAIR,
    INK,
    PALETTE,
    SOFT,
    Drawing,
    drawing,
    measure_label,
    measure_name,
    note_at_right,
    shown,
    shown_count,
    shown_estimate,
    shown_interval,
    unit_name,
)
from .reference import ETHNICITY_NAMES, SEX_NAMES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...evaluation.results import (
        AgreementRow,
        CoverageRow,
        EquivalenceRow,
        EvaluationResult,
        OverlapSummary,
    )


STRUCTURE_NAMES: Final = {
    "lv_cavity": "LV cavity",
    "lv_myocardium": "LV myocardium",
    "rv_cavity": "RV cavity",
}
PHASE_ORDER: Final = ("ED", "ES", "ED+ES", "other")
GROUP_NAMES: Final = {
    "sex": "sex",
    "age_band": "age, years",
    "ethnicity": "ethnicity",
    "vendor": "vendor",
    "field_strength": "field strength",
    "trial": "trial",
}
_METRICS: Final = {
    "dice": "Dice",
    "hd95_mm": "Hausdorff 95, mm",
    "assd_mm": "Mean surface distance, mm",
}
_BINS: Final = 6
_PANELS: Final = 9  # of a figure
_COLOURS: Final = {"equivalent": PALETTE[2], "different beyond margin": PALETTE[1]}
_STRUCTURE_COLOURS: Final = dict(zip(STRUCTURE_NAMES, PALETTE, strict=False))
_DOTS: Final[dict[str, Any]] = {"linestyle": "none", "markeredgewidth": 0}


def group_label(by: str, name: str) -> str:
    """A group as a line of a figure or table."""
    if by == ALL:
        return "All"
    if by == "age_band":
        return f"{name.replace('-', '–')} years"
    return {"sex": SEX_NAMES, "ethnicity": ETHNICITY_NAMES}.get(by, {}).get(name, name)


def scope_words(scope: str) -> str:
    """What part of the heart was compared, where it is not the complete stack."""
    return ", contoured slices" if scope == CONTOURED else ""


def headline_phase(rows: Iterable[OverlapSummary]) -> str:
    """Both phases together where the rows have them, else the first of them; empty for none."""
    phases = {row.phase for row in rows}
    return next((p for p in ("ED+ES", *PHASE_ORDER) if p in phases), "")


def figures_of(result: EvaluationResult) -> dict[str, Drawing]:
    """Every figure by the name of its file, in the order of the page."""
    scopes = {row.scope for row in result.agreement} | {row.scope for row in result.overlap}
    figures: dict[str, Drawing] = {}

    def add(stem: str, scope: str, figure: Drawing) -> None:
        figures[f"{stem}_{scope.replace('-', '_')}" if len(scopes) > 1 else stem] = figure

    for scope in dict.fromkeys(row.scope for row in result.overlap):
        rows = where(result.overlap, scope=scope, scans_used="ok+review")
        known = [r for r in rows if r.mean is not None]
        overall = where(known, group_by=ALL)
        if overall:
            add("overlap", scope, _overlap(result, overall, scope))
            add("dice_by_group", scope, _dice_by_group(result, known, scope))
    for scope in dict.fromkeys(row.scope for row in result.agreement):
        agreeing = where(result.agreement, group_by=ALL, scope=scope, scans_used="ok+review")
        agreeing = [row for row in agreeing if row.sd is not None]
        for first in range(0, len(agreeing), _PANELS):
            name = "bland_altman" if not first else f"bland_altman_further_{first // _PANELS}"
            add(name, scope, _bland_altman(result, agreeing[first : first + _PANELS]))
    for row in where(result.agreement, group_by=ALL):
        if row.scans_used != "ok+review" or row.bias is None:
            continue
        judged = where(result.equivalence, measure=row.measure, scope=row.scope, kind="bias")
        judged = [e for e in judged if e.estimate is not None]
        if judged:
            add(f"groups_{row.measure}", row.scope, _groups(row, judged))
    for scope in dict.fromkeys(row.scope for row in result.coverage):
        shown_rows = where(result.coverage, scope=scope, group_by=ALL)
        shown_rows = [row for row in shown_rows if row.percent is not None]
        if shown_rows:
            add("interval_calibration", scope, _calibration(result, shown_rows, scope))
    return figures


def _text(block: str, result: EvaluationResult, **facts: Any) -> str:
    return words("evaluation", block, options=result.options, **facts)


# ------------------------------------------------------------------ overlap


def _overlap(result: EvaluationResult, rows: Sequence[OverlapSummary], scope: str) -> Drawing:
    lines = [
        (structure, phase)
        for structure in STRUCTURE_NAMES
        for phase in PHASE_ORDER
        if phase != "ED+ES" and where(rows, structure=structure, phase=phase)
    ]
    lines.reverse()

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 3, sharey=True)
        for panel, metric in zip(panels, _METRICS, strict=True):
            for y, (structure, phase) in enumerate(lines):
                for row in where(rows, metric=metric, structure=structure, phase=phase):
                    _mean_mark(panel, row, y)
                    if result.options.internal:
                        _points(panel, result, row, y)
            panel.set_title(_METRICS[metric], loc="left")
            panel.grid(axis="x", color=HAIR, linewidth=0.5)
            panel.set_axisbelow(True)
        panels[0].set_yticks(range(len(lines)), [f"{STRUCTURE_NAMES[s]}, {p}" for s, p in lines])
        panels[0].set_ylim(-0.6, len(lines) - 0.4)
        lows = [(r.mean or 0) - (r.sd or 0) for r in where(rows, metric="dice")]
        low = math.floor(10 * (min(lows, default=0.5) - 0.02)) / 10
        panels[0].set_xlim(max(0.0, min(low, panels[0].get_xlim()[0])), 1.0)
        for panel in panels[1:]:
            panel.set_xlim(left=0)
        figure.tight_layout(w_pad=1.5)

    description = " ".join(
        f"{STRUCTURE_NAMES[r.structure]} {r.phase}, {_METRICS[r.metric]}: mean "
        f"{shown_estimate(r.mean, r.ci_low, r.ci_high, 3 if r.metric == 'dice' else 1)}."
        for r in rows
    )
    title = f"Overlap with the reader's labels{scope_words(scope)}"
    size = (180, 8.0 * len(lines) + 22)
    return drawing(size, draw, title, description, _text("figure_overlap", result))


def _mean_mark(panel: Axes, row: OverlapSummary, y: float) -> None:
    """Mean with its interval, and ± SD as a thin line."""
    colour, mean = _STRUCTURE_COLOURS[row.structure], row.mean or 0.0
    if row.sd is not None:
        most = 1.0 if row.metric == "dice" else math.inf
        ends = [max(mean - row.sd, 0.0), min(mean + row.sd, most)]
        panel.plot(ends, [y, y], color=colour, linewidth=0.8)
    if row.ci_low is not None and row.ci_high is not None:
        panel.plot([row.ci_low, row.ci_high], [y, y], color=colour, linewidth=3.2, alpha=0.55)
    panel.plot([mean], [y], marker="o", color=colour, markersize=4.5)


def _points(panel: Axes, result: EvaluationResult, row: OverlapSummary, y: float) -> None:
    frame = result.compared.overlaps
    keys = (frame["structure"] == row.structure) & (frame["phase"] == row.phase)
    values = frame.loc[keys & (frame["scope"] == row.scope), row.metric].dropna().to_numpy()
    # A fixed scatter across the line: equal input, equal bytes.
    spread = (np.arange(len(values)) * 0.618034) % 1 * 0.3 + 0.12
    panel.plot(values, y + spread, marker="o", color=SOFT, markersize=1.6, alpha=0.7, **_DOTS)


def _dice_by_group(result: EvaluationResult, rows: Sequence[OverlapSummary], scope: str) -> Drawing:
    phase = headline_phase(where(result.overlap, scope=scope))
    rows = where(rows, metric="dice", phase=phase)
    places = _places(list(dict.fromkeys((r.group_by, r.group) for r in rows)))
    structures = [s for s in STRUCTURE_NAMES if where(rows, structure=s)]
    height = 5.6 * len(places) + 24

    def draw(figure: Figure) -> None:
        panel = figure.subplots()
        for number, structure in enumerate(structures):
            colour = _STRUCTURE_COLOURS[structure]
            style: dict[str, Any] = {"marker": "osD"[number], "color": colour}
            for row in where(rows, structure=structure):
                y = places[row.group_by, row.group] + 0.22 * ((len(structures) - 1) / 2 - number)
                if row.ci_low is not None and row.ci_high is not None:
                    panel.plot([row.ci_low, row.ci_high], [y, y], color=colour, linewidth=1.4)
                if row.mean is not None:
                    panel.plot([row.mean], [y], markersize=3.6, **style)
            panel.plot([], [], markersize=4, label=STRUCTURE_NAMES[structure], **style)
        _group_axis(panel, places)
        panel.set_xlabel(f"Mean Dice ({phase})")
        panel.grid(axis="x", color=HAIR, linewidth=0.5)
        figure.legend(loc="lower center", ncols=3)
        figure.tight_layout(rect=(0, 7 / height, 1, 1))

    description = " ".join(
        f"{group_label(r.group_by, r.group)}, {STRUCTURE_NAMES[r.structure]}: "
        f"{shown_estimate(r.mean, r.ci_low, r.ci_high, 3)}."
        for r in rows
    )
    title = f"Dice by group{scope_words(scope)}"
    return drawing((150, height), draw, title, description, _text("figure_dice", result))


# ------------------------------------------------------------------ Bland-Altman


def _bland_altman(result: EvaluationResult, rows: Sequence[AgreementRow]) -> Drawing:
    """A panel for each measure, three in a line."""
    pairs = result.compared.pairs.join(result.compared.scans, on="scan")
    pairs["middle"] = (pairs["model"] + pairs["reference"]) / 2
    pairs["difference"] = pairs["model"] - pairs["reference"]
    lines = math.ceil(len(rows) / 3)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(lines, min(3, len(rows)), squeeze=False)
        for panel in panels.flat[len(rows) :]:
            panel.axis("off")
        for panel, row in zip(panels.flat, rows, strict=False):
            chosen = (pairs["measure"] == row.measure) & (pairs["scope"] == row.scope)
            _bland_altman_panel(panel, result, row, pairs[chosen])
        for panel in panels[:, 0]:
            panel.set_ylabel("Model − reference")
        for panel in panels.flat[max(0, len(rows) - 3) : len(rows)]:
            panel.set_xlabel("Mean of both")
        figure.tight_layout(w_pad=0.4, h_pad=1.2)

    described = "; ".join(
        f"{measure_name(row.measure)} {shown_of(row.bias)} {unit_name(row.unit)}, "
        f"limits of agreement {shown_of(row.loa_lower)} and {shown_of(row.loa_upper)}"
        for row in rows
    )
    title = f"Agreement of model and reference{scope_words(rows[0].scope)}"
    caption = _text("figure_bland_altman", result, rows=rows)
    size = (60.0 * min(3, len(rows)) if len(rows) > 1 else 90.0, 50.0 * lines + 4)
    return drawing(size, draw, title, f"Bias {described}.", caption)


def _bland_altman_panel(
    panel: Axes, result: EvaluationResult, row: AgreementRow, pairs: pd.DataFrame
) -> None:
    panel.axhline(0, color=SOFT, linewidth=0.5)
    for line, dash in ((row.bias, "-"), (row.loa_lower, "--"), (row.loa_upper, "--")):
        if line is not None and line.low is not None and line.high is not None:
            panel.axhspan(line.low, line.high, color=PALETTE[0], alpha=0.13, linewidth=0)
            panel.axhline(line.value, color=INK, linewidth=0.9, linestyle=dash)
            note_at_right(panel, line.value, shown(line.value), INK, x=1.01)
    if result.options.internal:
        style: dict[str, Any] = {"color": PALETTE[0], "markersize": 3, "alpha": 0.6}
        panel.plot(pairs["middle"], pairs["difference"], marker="o", **style, **_DOTS)
    else:
        _binned(panel, pairs, result.options.least)
    panel.set_title(measure_label(row.measure, row.unit), loc="left")
    panel.locator_params(nbins=5)


def _binned(panel: Axes, joined: pd.DataFrame, least: int) -> None:
    """Means ± SD of participants sorted by size, in bins of at least ``least``."""
    means = joined.groupby(participant_codes(joined))[["middle", "difference"]].mean()
    x, y = means["middle"].to_numpy(), means["difference"].to_numpy()
    order = np.argsort(x, kind="stable")
    bins = min(_BINS, len(x) // max(least, 2))
    style: dict[str, Any] = {"fmt": "o", "color": PALETTE[0], "markersize": 4, "linewidth": 1}
    for part in np.array_split(order, max(bins, 1)):
        spread = [float(y[part].std(ddof=1))]
        panel.errorbar(x[part].mean(), y[part].mean(), yerr=spread, capsize=2, **style)
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


def _group_axis(panel: Axes, places: dict[tuple[str, str], float]) -> None:
    panel.set_yticks(list(places.values()), [group_label(*line) for line in places])
    panel.set_ylim(min(places.values()) - 0.7, -0.3)
    panel.spines["left"].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.set_axisbelow(True)


def _groups(row: AgreementRow, rows: Sequence[EquivalenceRow]) -> Drawing:
    """Bias of each group with the interval of the equivalence test, and the margin."""
    places = _places([(r.group_by, r.group) for r in rows])
    margin, unit = rows[0].margin or 0.0, unit_name(row.unit)

    def draw(figure: Figure) -> None:
        panel = figure.subplots()
        panel.axvspan(-margin, margin, color=PALETTE[2], alpha=0.12, linewidth=0)
        panel.axvline(0, color=SOFT, linewidth=0.5)
        for r in rows:
            if r.estimate is None or r.ci_low is None or r.ci_high is None:
                continue
            y, colour = places[r.group_by, r.group], _COLOURS.get(r.result, INK)
            panel.plot([r.ci_low, r.ci_high], [y, y], color=colour, linewidth=1.4)
            panel.plot([r.estimate], [y], marker="s", color=colour, markersize=4)
            text = shown_estimate(r.estimate, r.ci_low, r.ci_high)
            note_at_right(panel, y, f"{text}, n = {shown_count(r.n_people)}", colour)
        ends = [abs(e) for r in rows for e in (r.ci_low or 0, r.ci_high or 0)]
        reach = 1.08 * max(margin, *ends)
        panel.set_xlim(-reach, reach)
        _group_axis(panel, places)
        panel.set_xlabel(f"Bias (model − reference), {unit}")
        figure.tight_layout(rect=(0, 0, 0.78, 1))

    stated = f"± {shown(margin)} {unit} ({rows[0].margin_source})"
    description = f"Margin {stated}. " + " ".join(
        f"{group_label(r.group_by, r.group)}: "
        f"{shown_estimate(r.estimate, r.ci_low, r.ci_high)}, {r.result}."
        for r in rows
    )
    grouped = ", ".join(dict.fromkeys(GROUP_NAMES[by] for by, _ in places if by != ALL))
    facts = {"level": rows[0].ci_level, "margin": stated, "groups": grouped}
    title = f"Bias by group: {measure_name(row.measure)}{scope_words(row.scope)}"
    caption = words("evaluation", "figure_groups", **facts)
    return drawing((150, 5.2 * len(rows) + 26), draw, title, description, caption)


def _calibration(result: EvaluationResult, rows: Sequence[CoverageRow], scope: str) -> Drawing:
    """Observed against nominal coverage of the model's intervals, a panel for each chamber."""
    chambers = [c for c in ("lv", "rv") if any(r.measure.startswith(c) for r in rows)]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(chambers), sharey=True, squeeze=False)[0]
        for panel, chamber in zip(panels, chambers, strict=True):
            panel.plot([45, 100], [45, 100], color=SOFT, linewidth=0.8)
            names = dict.fromkeys(r.measure for r in rows if r.measure.startswith(chamber))
            for number, name in enumerate(names):
                style: dict[str, Any] = {"color": PALETTE[number], "marker": "osD^v"[number % 5]}
                points = where(rows, measure=name)
                # Beside each other: the intervals of measures would hide each other.
                x = [r.level + 0.9 * (number - (len(names) - 1) / 2) for r in points]
                y = [r.percent or 0.0 for r in points]
                panel.plot(x, y, linewidth=0.9, markersize=3.4, label=measure_name(name), **style)
                for at, r in zip(x, points, strict=True):
                    ends = [r.ci_low or 0.0, r.ci_high or 100.0]
                    panel.plot([at, at], ends, color=PALETTE[number], linewidth=0.7, alpha=0.7)
            panel.set_xlim(45, 102)
            panel.set_ylim(min([40.0, *(r.ci_low or 40.0 for r in rows)]), 101)
            panel.set_xlabel("Nominal level of the interval, %")
            panel.set_title(chamber.upper(), loc="left")
            panel.legend(loc="lower right", frameon=False)
        panels[0].set_ylabel("Intervals with the reference value, %")
        figure.tight_layout(w_pad=1.5)

    description = " ".join(
        f"{measure_name(r.measure)}, {shown(r.level, 0)}%: "
        f"{shown_estimate(r.percent, r.ci_low, r.ci_high)}."
        for r in rows
        if r.level == LEVEL
    )
    title = f"Calibration of the model's intervals{scope_words(scope)}"
    size = (20 + 70 * len(chambers), 80)
    return drawing(size, draw, title, description, _text("figure_calibration", result))


# ------------------------------------------------------------------ harmonised and reported


MOST_PANELS: Final = 6
# More marks than this are drawn as one picture: 100,000 single ones make a page no browser opens.
_MOST_MARKS: Final = 3000
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")


def compared_measures(measurements: pd.DataFrame) -> tuple[MeasureDefinition, ...]:
    """Measures that at least one scan has both harmonised and reported."""
    columns = set(measurements.columns)
    return tuple(
        measure
        for measure in MEASURES
        if {measure.name, f"reported_{measure.name}"} <= columns
        and len(reported_pairs(measurements, measure.name))
    )


def reported_pairs(measurements: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows that have both values, as numbers in columns ``harmonised`` and ``reported``."""
    import pandas as pd

    rows = measurements[measurements["status"] != "failed"]
    pair = pd.DataFrame(
        {
            "trial": rows["trial"].astype(str),
            "harmonised": pd.to_numeric(rows[name], errors="coerce").astype(float),
            "reported": pd.to_numeric(rows[f"reported_{name}"], errors="coerce").astype(float),
        }
    )
    return pair.dropna()


def agreement_of(pair: pd.DataFrame) -> BlandAltman | None:
    """Bias and limits of agreement of `reported_pairs`, each scan by itself; None below 3."""
    difference = (pair["harmonised"] - pair["reported"]).to_numpy()
    return bland_altman(difference, np.arange(len(difference)))


def shown_of(estimate: Estimate | None, decimals: int = 1) -> str:
    """An estimate with its interval."""
    if estimate is None:
        return DASH
    return shown_estimate(estimate.value, estimate.low, estimate.high, decimals)


def signed(value: float | None) -> str:
    """``+1.2``, ``−1.2`` or ``0.0``."""
    text = shown(value)
    return f"+{text}" if value is not None and value > 0 and float(f"{value:.1f}") else text


def agreement_figure(measurements: pd.DataFrame, measures: Sequence[MeasureDefinition]) -> Drawing:
    """Bland-Altman plots, one panel per measure, one mark per scan: it shows individuals."""
    chosen = {m: reported_pairs(measurements, m.name) for m in list(measures)[:MOST_PANELS]}
    trials = sorted(measurements["trial"].astype(str).unique())
    columns = min(len(chosen), 3)
    lines = math.ceil(len(chosen) / columns)
    legend_mm = 5.0 * math.ceil(len(trials) / 5) + 4
    height = 58.0 * lines + legend_mm

    def draw(figure: Figure) -> None:
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for panel in axes[len(chosen) :]:
            panel.axis("off")
        for panel, (measure, pair) in zip(axes, chosen.items(), strict=False):
            _agreement_panel(panel, measure, pair, trials)
        figure.tight_layout(rect=(0, legend_mm / height, 1, 1), w_pad=1.2, h_pad=1.4)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=min(len(trials), 5))

    sentences = []
    for measure, pair in chosen.items():
        text, found = f"{measure_name(measure.name)}: {len(pair)} scans", agreement_of(pair)
        if found is not None:
            limits = shown_interval(found.loa_lower.value, found.loa_upper.value)
            text += (
                f", bias {signed(found.bias.value)} {measure.unit}, limits of agreement {limits}"
            )
        sentences.append(f"{text}.")
    caption = words("segment", "figure_agreement", hidden=len(measures) - len(chosen))
    title = "Agreement with the values that the trials reported"
    size = (60.0 * columns if columns > 1 else 90.0, height)
    return drawing(size, draw, title, " ".join(sentences), caption)


_STATUS_COLOURS: Final = {"ok": PALETTE[0], "review": PALETTE[1]}


def quality_figure(measurements: pd.DataFrame) -> Drawing | None:
    """Histogram of the predicted Dice of measured scans by status; None for fewer than 2."""
    import pandas as pd

    if "quality" not in measurements:
        return None
    quality = pd.to_numeric(measurements["quality"], errors="coerce").astype(float)
    groups = {s: quality[measurements["status"] == s].dropna() for s in _STATUS_COLOURS}
    scores = {status: values.to_numpy() for status, values in groups.items() if len(values)}
    known = np.concatenate([*scores.values(), np.empty(0)])
    if len(known) < 2:
        return None
    # Bins of 0.02 from below the lowest score, which stays in the picture.
    edges = np.arange(math.floor(min(known.min(), 0.8) * 50), 51) / 50
    bars = {status: np.histogram(values, edges)[0] for status, values in scores.items()}

    def draw(figure: Figure) -> None:
        panel = figure.subplots()
        below = np.zeros(len(edges) - 1)
        for status, counts in bars.items():
            style: dict[str, Any] = {"color": _STATUS_COLOURS[status], "label": status}
            panel.bar(edges[:-1], counts, 0.018, below, align="edge", **style)
            below += counts
        panel.set_xlabel("Predicted Dice (quality)")
        panel.set_ylabel("Scans")
        panel.locator_params(axis="y", integer=True)
        panel.legend(loc="upper left")
        figure.tight_layout()

    described = "; ".join(
        f"{status}: {len(values)} scans, median {shown(float(np.median(values)), 2)}, "
        f"lowest {shown(float(values.min()), 2)}"
        for status, values in scores.items()
    )
    caption = words("segment", "figure_quality")
    return drawing((150, 52), draw, "Quality of the measured scans", f"{described}.", caption)


def _agreement_panel(
    panel: Axes, measure: MeasureDefinition, pair: pd.DataFrame, trials: Sequence[str]
) -> None:
    # Six colours and seven marks distinguish 42 trials.
    for index, trial in enumerate(trials):
        rows = pair[pair["trial"] == trial]
        panel.plot(
            (rows["harmonised"] + rows["reported"]) / 2,
            rows["harmonised"] - rows["reported"],
            marker=_MARKERS[index % len(_MARKERS)],
            color=PALETTE[index % (len(PALETTE) - 1)],
            markersize=3.6,
            alpha=0.75,
            label=trial,
            rasterized=len(pair) > _MOST_MARKS,
            **_DOTS,
        )
    panel.axhline(0, color=SOFT, linewidth=0.5)
    found = agreement_of(pair)
    if found is not None:
        panel.axhline(found.bias.value, color="black", linewidth=0.9)
        for limit in (found.loa_lower, found.loa_upper):
            panel.axhline(limit.value, color="black", linewidth=0.8, dashes=(4, 2.5))
    panel.set_title(measure_label(measure.name, measure.unit), loc="left")
    panel.set_xlabel("Mean of both")
    panel.set_ylabel("Difference")
