"""The figures of a pooled analysis, and what its figures and tables print of a row.

Forest plots of each arm, of effect modifiers (two panels) and of harmonised against reported
values; funnel plots, meta-regressions and splines. Every number is one of the CSV files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ...measurement.measures import definition
from ...pooling.methods import EFFECT_NAMES
from ...pooling.options import EVENTS, RATIOS, STANDARDISED, WIN_ODDS, Presentation
from ...pooling.results import (
    ArmCount,
    EffectRow,
    PoolingResult,
    RegressionLine,
    RegressionRow,
    SplineRow,
    natural,
)
from ...pooling.subgroups.modifiers import PER
from ...statistics.meta import LEAST_TRIALS_EGGER, t_interval
from ..page import where, words
from ..style import (
    DASH,
    HAIR,
    INK,
    PALETTE,
    SOFT,
    Drawing,
    drawing,
    measure_name,
    note_at_right,
    p_equals,
    shown,
    shown_count,
    shown_estimate,
    shown_p,
    unit_name,
)
from .forest import MARK, ForestRow, ForestSpec, RowKind, forest_plot, log_ticks, narrowed
from .survival import CURVES, draw_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CI_LABELS: Final = {
    "wald": "Wald",
    "hksj": "HKSJ",
    "hksj-truncated": "HKSJ, truncated",
    "kenward-roger": "Kenward-Roger",
    "satterthwaite": "Satterthwaite",
}
_MOST_TRIALS: Final = 150  # of a forest plot that can be printed
_BLANK: Final = ForestRow(label="", kind="text")
_FIELD: Final = "#eef2f7"
_SIDES: Final = {WIN_ODDS: ("Worse", "Better")}
_DASHED: Final = (0, (4, 3))


# ------------------------------------------------------------------ what is printed of a result


def of_arm(result: PoolingResult, arm: str, analysis: str, **cells: object) -> list[EffectRow]:
    """The rows of one arm and analysis, in the file's order; of the harmonised values."""
    return where(result.effects, arm=arm, analysis=analysis, source="harmonised", **cells)


def headline_of(result: PoolingResult, arm: str) -> EffectRow:
    """The pooled row that is an arm's headline: the two-stage one where there is one."""
    return of_arm(result, arm, "pooled", headline=True)[0]


def is_pooled(result: PoolingResult) -> bool:
    """True where the effects of several trials were pooled, for some arm."""
    return any((row.k or 0) > 1 for row in where(result.effects, analysis="pooled"))


def modifiers_shown(result: PoolingResult, arm: str) -> list[str]:
    """The terms of one arm that have subgroups or interactions, in the file's order."""
    rows = where(result.effects, arm=arm)
    found = ("interaction", "subgroup")
    return list(dict.fromkeys(row.term for row in rows if row.analysis in found))


def interaction_p(result: PoolingResult, arm: str, term: str) -> EffectRow | None:
    """The row with the p value of the modifier: the joint test, else the single contrast."""
    cells = {"term": term, "model": "two-stage", "headline": True, "trial": ""}
    pooled = of_arm(result, arm, "interaction", **cells)
    return next(iter(where(pooled, variant="joint-test") or pooled), None)


def scaled(
    row: EffectRow | RegressionRow | SplineRow,
) -> tuple[float | None, float | None, float | None]:
    """Estimate and interval on the scale shown: ratios as ratios."""
    if row.effect in RATIOS:
        return row.exp_estimate, row.exp_ci_low, row.exp_ci_high
    return row.estimate, row.ci_low, row.ci_high


def scaled_prediction(row: EffectRow) -> tuple[float, float] | None:
    """The prediction interval on the scale shown; None where there is none."""
    if row.pi_low is None or row.pi_high is None:
        return None
    if row.effect not in RATIOS:
        return row.pi_low, row.pi_high
    try:
        low, high = math.exp(row.pi_low), math.exp(row.pi_high)
    except OverflowError:  # three trials, one df: beyond the largest number
        return None
    return (low, high) if low > 0 else None


def count_text(result: PoolingResult, row: EffectRow | ArmCount, field: str) -> str:
    """A count, ``<10`` where it is suppressed as small, a dash where it would reveal one."""
    count: int | None = getattr(row, field)
    if count is not None:
        return shown_count(count)
    small = row.small_counts or (field,)
    is_small = field in small or field.removeprefix("n_") in small
    shown_small = row.suppressed == "below-threshold" and is_small
    return f"<{result.options.min_cell}" if shown_small else DASH


def decimals_of(result: PoolingResult) -> int:
    """Decimals for effects: those of the measure, more where the SE is small against them."""
    if result.presentation.digits is not None:
        return result.presentation.digits
    known = definition(result.options.outcome).decimals or 0
    if result.options.effect in (*EVENTS, WIN_ODDS):
        return 3 if result.options.effect == "risk-difference" else 2
    if result.options.effect == STANDARDISED:
        return 2
    # A common effect may be far more precise than the effect that is shown.
    errors = [
        row.se
        for row in result.effects
        if row.analysis == "pooled"
        and row.se
        and row.effect != WIN_ODDS
        and (row.tau2_method != "fe" or result.options.tau2 == "fe")
    ]
    if not errors:
        return max(known, 1)
    # Two significant digits of the smallest standard error of a pooled effect.
    needed = 1 - math.floor(math.log10(min(errors)))
    return int(min(max(known, needed, 0), 6))


def effect_label(result: PoolingResult, space: str = " ") -> str:
    """``Mean difference in LV EF, %``; ``space`` between the words of the measure and its unit."""
    effect = EFFECT_NAMES[result.options.effect]
    name = effect[0].upper() + effect[1:]
    if not result.options.outcome:
        return name
    if result.options.effect in (*EVENTS, WIN_ODDS, STANDARDISED):
        return f"{name}, {outcome_name(result)}"
    joint = "in" if result.options.effect == "mean-difference" else "of"
    unit = effect_unit(result)
    measure = f"{outcome_name(result)}{f', {unit}' if unit else ''}"
    # A long name of the user's own must break.
    return f"{name} {joint} {measure.replace(' ', space) if len(measure) < 20 else measure}"


def outcome_name(result: PoolingResult) -> str:
    """The name asked for, a measure's own, or the column of an event."""
    is_event = result.options.effect in EVENTS
    outcome = result.options.event_column if is_event else measure_name(result.options.outcome)
    return result.presentation.label or outcome


def effect_unit(result: PoolingResult) -> str:
    """The unit of a difference: of percentages it is in points, "3 %" would read as a ratio."""
    unit = result.presentation.unit or result.unit
    return "percentage points" if unit == "%" else unit_name(unit)


def versus(result: PoolingResult, arm: str) -> str:
    """``active versus control``."""
    return f"{arm} versus {result.control}"


def difference_name(result: PoolingResult) -> str:
    """What an interaction is: a difference in effect, or a ratio of ratios."""
    if result.options.effect in RATIOS:
        return f"Ratio of {EFFECT_NAMES[result.options.effect]}s"
    return "Difference in effect"


# ------------------------------------------------------------------ sentences


def result_sentence(result: PoolingResult, arm: str) -> str:
    """The headline in one sentence, as an abstract states it."""
    row = headline_of(result, arm)
    return words(
        "pooling",
        "result_sentence",
        label=effect_label(result),
        versus=versus(result, arm),
        row=row,
        level=f"{result.options.level:g}%",
        scaled=scaled(row),
        prediction=scaled_prediction(row),
        decimals=decimals_of(result),
    ).replace(DASH, "not known")


def heterogeneity_sentence(result: PoolingResult, arm: str) -> str:
    """τ, I², Q and the test of the pooled effect, as printed below the plot."""
    line = next(iter(where(result.heterogeneity, arm=arm, headline=True)), None)
    facts = {"row": headline_of(result, arm), "line": line, "decimals": decimals_of(result) + 1}
    return words("pooling", "heterogeneity_sentence", **facts)


def small_study_sentence(result: PoolingResult, arm: str) -> str:
    """Egger's test in words; empty below ten trials."""
    row = next(iter(of_arm(result, arm, "small-study")), None)
    return "" if row is None else words("pooling", "small_study", arm=arm, row=row)


def p_sentence(row: EffectRow | None) -> str:
    """``p = 0.032 (after Holm 0.064)``; empty where there is none."""
    if row is None or row.p is None:
        return ""
    holm = "" if row.p_holm is None else f" (after Holm {shown_p(row.p_holm)})"
    return f"p {p_equals(row.p)}{holm}"


# ------------------------------------------------------------------ all figures of a result


@dataclass(frozen=True, kw_only=True)
class PoolingFigure:
    """A figure with its place in the page; ``name`` is the modifier or covariate it shows."""

    kind: str
    arm: str
    name: str
    drawing: Drawing


def draw_figures(result: PoolingResult) -> list[PoolingFigure]:
    """Draw all that the result has.

    Kinds: ``forest``, ``levels`` (by effect modifier), ``survival`` and ``incidence`` (of all and
    by trial), ``reported`` (harmonised and reported
    values), ``error`` (of the measurement), ``funnel``, ``regression`` and ``spline``.
    """
    found: list[PoolingFigure] = []
    for arm in result.arms:
        title = f"{effect_label(result)}: {versus(result, arm)}"
        curves = dict.fromkeys(r.covariate for r in where(result.spline, arm=arm, kind="curve"))
        drawn: list[tuple[str, str, Drawing | None]] = [
            ("forest", "", forest_plot(forest_spec(result, arm), title=title)),
            *(
                ("levels", term.partition(":")[2], draw_levels(result, arm, term))
                for term in modifiers_shown(result, arm)
            ),
            *(
                (kind, name, draw_curves(result, arm, kinds, by_trial=bool(name)))
                for kind, kinds in CURVES.items()
                for name in ("", "trials")
            ),
            ("reported", "", draw_comparison(result, arm)),
            ("error", "", draw_error(result, arm)),
            ("funnel", "", draw_funnel(result, arm)),
            *(
                ("regression", line.covariate, _draw_regression(result, line))
                for line in where(result.lines, arm=arm)
            ),
            *(("spline", name, _draw_spline(result, arm, name)) for name in curves),
        ]
        found += [
            PoolingFigure(kind=kind, arm=arm, name=name, drawing=one)
            for kind, name, one in drawn
            if one is not None
        ]
    return found


# ------------------------------------------------------------------ the forest plot of an arm


def forest_spec(result: PoolingResult, arm: str) -> ForestSpec:
    """What the forest plot of an arm shows; the numbers are those of ``effects.csv``."""
    headline = headline_of(result, arm)
    columns, cells_of = _participant_columns(result, arm)
    asked = result.presentation
    trials = of_arm(result, arm, "trial")
    heaviest = sorted(trials, key=lambda row: row.weight_percent or 0.0, reverse=True)
    drawn = {row.trial for row in heaviest[:_MOST_TRIALS]}
    rows = []
    for row in _ordered(trials, asked) if asked.forest_order != "table" else trials:
        if row.trial not in drawn:
            continue
        weight = row.weight_percent if _drawable(row) else None
        more = {"cells": cells_of(row), "weight_percent": weight}
        mark: RowKind = "aggregate" if row.aggregate else "trial"
        name = asked.trial_names.get(row.trial, row.trial)
        rows.append(_forest_row(result, row, name, mark, **more))
    if len(trials) > _MOST_TRIALS:
        left = f"The {_MOST_TRIALS} trials of greatest weight, of {len(trials)}: see effects.csv."
        rows.append(ForestRow(label=left, kind="text"))
    rows.append(ForestRow(label="", kind="space"))
    several = (headline.k or 0) > 1
    kind = "Common effect" if headline.tau2_method == "fe" else "Random effects"
    kind = "Mantel-Haenszel" if headline.variant == "mantel-haenszel" else kind
    kind = "One-stage" if headline.model == "one-stage" else kind
    label = f"{kind} ({CI_LABELS[headline.ci_method]})" if several else "One trial, not pooled"
    more = {"cells": cells_of(headline), "weight_percent": 100.0 if several else None}
    rows.append(_forest_row(result, headline, label, "pooled", **more))
    limits = scaled_prediction(headline)
    if limits is not None:
        name = f"{result.options.level:g}% prediction interval"
        rows.append(ForestRow(label=name, kind="prediction", ci_low=limits[0], ci_high=limits[1]))
    for single in of_arm(result, arm, "pooled", headline=True, model="one-stage"):
        if single is headline or not asked.forest_one_stage:
            continue
        common = ", common effect" * (single.tau2_method == "fe")
        label = f"Sensitivity: one-stage{common} ({CI_LABELS[single.ci_method]})"
        rows.append(_forest_row(result, single, label, "subgroup-pooled"))
    spec = _spec(
        result,
        arm,
        rows,
        columns=columns,
        heterogeneity_text=heterogeneity_sentence(result, arm),
        width_mm=asked.forest_width,
        show_weight=not asked.forest_columns or "weight" in asked.forest_columns,
    )
    return spec if asked.forest_columns else narrowed(spec)


def _ordered(trials: Iterable[EffectRow], asked: Presentation) -> list[EffectRow]:
    """The trials by name, effect (those without one last) or weight, the greatest first."""
    keys: dict[str, Callable[[EffectRow], Any]] = {
        "name": lambda row: natural(asked.trial_names.get(row.trial, row.trial)),
        "effect": lambda row: math.inf if row.estimate is None else row.estimate,
        "weight": lambda row: -(row.weight_percent or 0.0),
    }
    return sorted(trials, key=keys[asked.forest_order])


def _spec(result: PoolingResult, arm: str, rows: Iterable[ForestRow], **more: Any) -> ForestSpec:
    """A plot with what follows from the effect measure and the arm, where ``more`` has it not."""
    ratio = result.options.effect in RATIOS
    less, greater = _SIDES.get(result.options.effect, ("Lower", "Higher"))
    favours = result.presentation.favours or (f"{less} with {arm}", f"{greater} with {arm}")
    facts: dict[str, Any] = {
        "effect_label": effect_label(result, "\N{NO-BREAK SPACE}"),
        "left_label": favours[0],
        "right_label": favours[1],
        "colour": result.presentation.forest_colour or MARK,
        "null_value": 1.0 if ratio else 0.0,
        "log_scale": ratio,
        "decimals": decimals_of(result),
        "level_percent": result.options.level,
    }
    return ForestSpec(rows=tuple(rows), **{**facts, **more})


def _drawable(row: EffectRow) -> bool:
    """False for a ratio whose interval reaches 0 or infinity in the computer's numbers."""
    estimate, low, high = scaled(row)
    known = estimate is not None and low is not None and high is not None
    return known and (row.effect not in RATIOS or bool(low and low > 0))


def _forest_row(
    result: PoolingResult, row: EffectRow, label: str, kind: RowKind, **more: Any
) -> ForestRow:
    """The row as drawn; words in place of its numbers where it has none or they are too wide."""
    if _drawable(row):
        estimate, low, high = scaled(row)
        return ForestRow(
            label=label, kind=kind, estimate=estimate, ci_low=low, ci_high=high, **more
        )
    note = "not pooled" if row.variant == "not-pooled" else "not estimable"
    if row.estimate is not None:
        note = "too wide to draw"
    elif row.suppressed == "below-threshold":
        which = f" ({', '.join(row.small_counts)})" if row.small_counts else ""
        note = f"n<{result.options.min_cell}{which}"
    elif row.suppressed:
        note = "withheld"
    return ForestRow(label=label, kind=kind, note=note, **more)


_Cells = Callable[[EffectRow], tuple[str, ...]]


def _participant_columns(result: PoolingResult, arm: str) -> tuple[tuple[str, ...], _Cells]:
    """Headings, and a function from a row to its cells: n, mean (SD), or events of n, by arm."""
    trials = of_arm(result, arm, "trial")
    if not any(row.n_control is not None or row.n_active is not None for row in trials):
        return (), lambda _: ()
    names = {"n_control": result.control, "n_active": arm}
    counts = {(row.trial, row.arm): row for row in result.by_arm}
    decimals = max(definition(result.options.outcome).decimals or 0, 1)
    pooled = [
        row.trial
        for row in trials
        if row.estimate is not None or row.suppressed == "below-threshold"
    ]

    def n(row: EffectRow, field: str, _: str) -> str:
        return count_text(result, row, field)

    def events(row: EffectRow, field: str, name: str) -> str:
        """``12 / 90`` of one trial, or of all trials that are pooled."""
        found = counts.get((row.trial, name))
        if row.analysis == "trial":
            number = "" if found is None else f"{count_text(result, found, 'events')} / "
        else:
            each = [counts[trial, name].events for trial in pooled if (trial, name) in counts]
            known = [one for one in each if one is not None]
            number = f"{shown_count(sum(known)) if len(known) == len(pooled) else DASH} / "
        return number + n(row, field, name)

    def mean_sd(row: EffectRow, _: str, name: str) -> str:
        found = counts.get((row.trial, name))
        if found is None or found.outcome_mean is None:
            return ""
        spread = "" if found.outcome_sd is None else f" ({shown(found.outcome_sd, decimals)})"
        return shown(found.outcome_mean, decimals) + spread

    kinds: dict[str, Callable[[EffectRow, str, str], str]] = {"n {}": n}
    if result.options.effect in EVENTS and result.by_arm:
        kinds = {"Events\u00a0/\u00a0n {}": events}
    elif any(row.outcome_mean is not None for row in result.by_arm):
        kinds["mean (SD)"] = mean_sd
    names_of = {"n {}": "n", "Events\u00a0/\u00a0n {}": "events", "mean (SD)": "mean-sd"}
    asked = result.presentation.forest_columns
    kinds = {head: show for head, show in kinds.items() if not asked or names_of[head] in asked}
    headings = tuple(heading.format(name) for name in names.values() for heading in kinds)
    return headings, lambda row: tuple(
        show(row, field, name) for field, name in names.items() for show in kinds.values()
    )


# ------------------------------------------------------------------ harmonised and reported


def draw_comparison(result: PoolingResult, arm: str) -> Drawing | None:
    """Each trial's effect and the pooled one from both sources, one under the other."""
    pairs: dict[str, dict[str, EffectRow]] = {}
    for row in where(result.compared, arm=arm):
        pairs.setdefault(row.trial, {})[row.source] = row
    compared = where(result.comparison, arm=arm)
    if not compared:
        return None
    sources: tuple[tuple[str, str, RowKind, RowKind], ...] = (
        ("harmonised", "Harmonised", "trial", "pooled"),
        ("reported", "As reported", "aggregate", "subgroup-pooled"),
    )
    rows: list[ForestRow] = []
    # Trials with both sources, then the pooled effects, whose trial is empty.
    for trial in [*(name for name, pair in pairs.items() if name and len(pair) == 2), ""]:
        rows.append(ForestRow(label=trial or "All trials", kind="subgroup-heading"))
        rows += [
            _forest_row(result, pairs[trial][source], name, kind if trial else pooled, indent=1)
            for source, name, kind, pooled in sources
            if source in pairs[trial]
        ]
    decimals = decimals_of(result) + 1
    foot = "; ".join(
        f"{row.quantity} {shown(row.harmonised, decimals)} harmonised, "
        f"{shown(row.reported, decimals)} as reported"
        for row in compared
        if row.quantity in ("residual SD", "tau")
    ).replace("tau", "τ")
    foot = f"The same participants: {foot}." if foot else ""
    return forest_plot(
        _spec(result, arm, rows, heterogeneity_text=foot),
        title=f"Harmonised and reported values: {versus(result, arm)}",
    )


_ERROR_LINES: Final = {
    "effect as measured": "As measured",
    "effect corrected for scale": "Corrected for scale",
    "effect corrected by arm": "Corrected by arm",
}
UNDONE_BY: Final = "difference of error between arms that brings the interval to zero"


def draw_error(result: PoolingResult, arm: str) -> Drawing | None:
    """The effect as measured and corrected, and the differential error that would undo it."""
    rows = where(result.error_adjusted, arm=arm)
    lines = [row for row in rows if row.quantity in _ERROR_LINES and row.ci_low is not None]
    limit = next((row.estimate for row in rows if row.quantity == UNDONE_BY), None)
    if not lines:
        return None
    decimals = decimals_of(result)
    names = [_ERROR_LINES[row.quantity] for row in lines]
    names += ["Differential error\nthat would undo it"] if limit is not None else []

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(0.0, color=INK, linewidth=0.7)
        for at, row in enumerate(lines):
            colour = SOFT if at == 0 else PALETTE[0]
            low, middle, high = (float(v or 0.0) for v in (row.ci_low, row.estimate, row.ci_high))
            axes.plot([low, high], [-at, -at], color=colour, linewidth=1.5)
            axes.plot([middle], [-at], marker="s", color=colour, markersize=5)
            text = shown_estimate(row.estimate, row.ci_low, row.ci_high, decimals)
            note_at_right(axes, -at, text, colour)
        if limit is not None:
            at = len(lines)
            axes.plot([0, limit], [-at, -at], color=PALETTE[1], linewidth=4, solid_capstyle="butt")
            note_at_right(axes, -at, shown(limit, decimals), PALETTE[1])
        axes.set_yticks([-at for at in range(len(names))], names)
        axes.set_ylim(-len(names) + 0.4, 0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        _effect_axis(axes, result, "x")
        figure.tight_layout(rect=(0, 0, 0.8, 1))

    described = [
        f"{_ERROR_LINES[row.quantity]}: "
        f"{shown_estimate(row.estimate, row.ci_low, row.ci_high, decimals)}."
        for row in lines
    ]
    described += [f"Differential error to zero: {shown(limit, decimals)}."] if limit else []
    title = f"The effect and the error of measurement: {versus(result, arm)}"
    return drawing((160.0, 11.0 * len(names) + 20), draw, title, " ".join(described))


# ------------------------------------------------------------------ by effect modifier


def draw_levels(result: PoolingResult, arm: str, term: str) -> Drawing | None:
    """Effects by level at the left, interactions at the right; None where there is nothing.

    The only p value is that of the interaction (``pooling.md`` 2.3).
    """
    subgroups = of_arm(result, arm, "subgroup", term=term, model="two-stage")
    interactions = [
        row
        for row in of_arm(result, arm, "interaction", term=term, model="two-stage")
        if row.variant != "joint-test" and (row.trial or row.headline)
    ]
    if not interactions:
        return None
    left: list[ForestRow] = []
    right: list[ForestRow] = []
    # One pooled contrast carries the dashed line; of several none does.
    several = sum(not row.trial and _drawable(row) for row in interactions) > 1
    for trial in [*dict.fromkeys(r.trial for r in [*subgroups, *interactions] if r.trial), ""]:
        heading = ForestRow(label=trial or "All trials", kind="subgroup-heading")
        pooled: RowKind = "subgroup-pooled" if several else "pooled"
        own = [_level_row(result, r, "subgroup-pooled") for r in where(subgroups, trial=trial)]
        across = [_level_row(result, r, pooled) for r in where(interactions, trial=trial)]
        size = max(len(own), len(across))
        # Contrasts at the height of their level, a slope at that of the first band.
        if across and len(own) == len(across) + 1 and " vs " in across[0].label:
            across.insert(0, _BLANK)
        left += [heading, *own, *[_BLANK] * (size - len(own))]
        right += [heading, *across, *[_BLANK] * (size - len(across))]
    name = re.sub(r"_(years|percent|ml|g|cm|kg)\b.*", "", term.partition(":")[2]).replace("_", " ")
    p = p_sentence(interaction_p(result, arm, term))
    effects = _spec(
        result,
        arm,
        left,
        label_heading=f"Effect by {name}",
        heterogeneity_text=words("pooling", "levels_foot"),
        width_mm=result.presentation.forest_width / 2 - 2.2,  # with the gap between the panels
    )
    contrasts = _spec(
        result,
        arm,
        right,
        effect_label=difference_name(result),
        label_heading="Interaction within trials",
        left_label="Effect lower",
        right_label="Effect higher",
        heterogeneity_text=f"Interaction within trials: {p}." if p else "No pooled interaction.",
        width_mm=result.presentation.forest_width / 2 - 2.2,  # with the gap between the panels
    )
    title = f"{effect_label(result)} by {name}: {versus(result, arm)}"
    return forest_plot(effects, contrasts, title=title)


def _level_row(result: PoolingResult, row: EffectRow, pooled: RowKind) -> ForestRow:
    made = _forest_row(result, row, row.level, "trial", indent=1)
    return made if row.trial or made.estimate is None else replace(made, kind=pooled)


# ------------------------------------------------------------------ trials as points, curves


def _plot(title: str, description: str, draw: Callable[[Axes], None]) -> Drawing:
    def on_figure(figure: Figure) -> None:
        draw(figure.subplots())
        figure.tight_layout()

    return drawing((120.0, 88.0), on_figure, title, description)


def draw_funnel(result: PoolingResult, arm: str) -> Drawing | None:
    """Effects against their standard errors; None below ten trials, where it misleads."""
    trials = [row for row in of_arm(result, arm, "trial") if row.estimate is not None and row.se]
    pooled = headline_of(result, arm)
    if len(trials) < LEAST_TRIALS_EGGER or pooled.estimate is None:
        return None
    x = np.array([row.estimate for row in trials], dtype=float)
    se = np.array([row.se for row in trials], dtype=float)
    hollow = np.array([row.aggregate for row in trials])
    top = 1.06 * float(se.max())
    half = t_interval(0.0, 1.0, math.inf, result.options.level).high
    centre = float(pooled.estimate)

    def draw(axes: Axes) -> None:
        corners = [centre - half * top, centre, centre + half * top]
        axes.fill(corners, [top, 0.0, top], facecolor=_FIELD, edgecolor=HAIR, linewidth=0.7)
        axes.axvline(centre, color=SOFT, linewidth=0.8, linestyle=_DASHED)
        axes.axvline(0.0, color=INK, linewidth=0.7)
        for some, face in ((~hollow, PALETTE[0]), (hollow, "white")):
            style: dict[str, Any] = {"facecolor": face, "edgecolor": PALETTE[0], "linewidth": 0.9}
            axes.scatter(x[some], se[some], s=20, zorder=3, **style)
        axes.set_ylim(top, 0.0)
        _effect_axis(axes, result, "x")
        axes.set_ylabel("Standard error" + " (of log)" * (result.options.effect in RATIOS))

    description = words("pooling", "funnel_description", k=len(trials), options=result.options)
    return _plot(f"Funnel plot: {versus(result, arm)}", description, draw)


def _draw_regression(result: PoolingResult, line: RegressionLine) -> Drawing:
    """The bubble plot of a meta-regression on a number."""
    points = where(result.points, arm=line.arm, covariate=line.covariate)

    def draw(axes: Axes) -> None:
        axes.fill_between(line.x, line.low, line.high, color=_FIELD, linewidth=0)
        axes.plot(line.x, line.estimate, color=INK, linewidth=1.0)
        axes.axhline(0.0, color=SOFT, linewidth=0.7)
        most = max((point.weight for point in points), default=1.0)
        if points:
            axes.scatter(
                [point.value for point in points],
                [point.estimate for point in points],
                s=[max(6.0, 150.0 * point.weight / most) for point in points],
                facecolor=PALETTE[0],
                edgecolor="white",
                linewidth=0.7,
                alpha=0.75,
                zorder=3,
            )
        _effect_axis(axes, result, "y")
        axes.set_xlabel(_trial_covariate(line.label))

    title = f"Meta-regression on {line.label}: {versus(result, line.arm)}"
    return _plot(title, words("pooling", "regression_description"), draw)


def _draw_spline(result: PoolingResult, arm: str, covariate: str) -> Drawing:
    """The effect over a number of ``--by``, against a reference value."""
    rows = where(result.spline, arm=arm, covariate=covariate, kind="curve")
    x, middle, low, high = (
        np.array([getattr(row, name) for row in rows], dtype=float)
        for name in ("value", "estimate", "ci_low", "ci_high")
    )
    reference = float(rows[0].reference or 0.0)
    linear = interaction_p(result, arm, f"treatment:{covariate}")

    def draw(axes: Axes) -> None:
        axes.axhline(0.0, color=SOFT, linewidth=0.7)
        axes.fill_between(x, low, high, color="#dde6f0", linewidth=0)
        axes.plot(x, middle, color=PALETTE[0], linewidth=1.4)
        if linear is not None and linear.estimate is not None:
            slope = linear.estimate / PER.get(covariate, (1.0, ""))[0]
            axes.plot(x, slope * (x - reference), color=INK, linewidth=0.9, linestyle=_DASHED)
        axes.plot([reference], [0.0], marker="o", markersize=3.5, color=INK)
        for knot in map(float, rows[0].knots.split(";")):
            if x[0] <= knot <= x[-1]:
                axes.axvline(knot, ymax=0.025, color=INK, linewidth=0.9)
        _effect_axis(axes, result, "y")
        what = "Ratio to" if result.options.effect in RATIOS else "Difference from"
        axes.set_ylabel(f"{what} the effect at {reference:g}\n({effect_label(result)})")
        axes.set_xlabel(measure_name(covariate) + ", years" * covariate.endswith("_years"))
        axes.margins(x=0.0)

    title = f"Effect over {covariate}: {versus(result, arm)}"
    return _plot(title, words("pooling", "spline_description"), draw)


def _trial_covariate(label: str) -> str:
    """``mean age_years`` as ``Mean age of the trial, years``."""
    head, _, name = label.rpartition(" ")
    known = measure_name(name)
    unit = ", years" if name.endswith("_years") else ""
    if head and known != name and not name.startswith(("lv_", "rv_")):
        known = known.lower()
    text = f"{head} {known}".strip()
    return f"{text[0].upper()}{text[1:]} of the trial{unit}"


def _effect_axis(axes: Axes, result: PoolingResult, which: str) -> None:
    """The effect's label, and ticks of ratios where the scale is a log."""
    untyped: Any = axes
    getattr(untyped, f"set_{which}label")(effect_label(result))
    if result.options.effect not in RATIOS:
        return
    low, high = getattr(untyped, f"get_{which}lim")()
    ticks = log_ticks(math.exp(low), math.exp(high))
    places, labels = [math.log(value) for value, _ in ticks], [label for _, label in ticks]
    getattr(untyped, f"set_{which}ticks")(places, labels)
    getattr(untyped, f"set_{which}lim")(low, high)
