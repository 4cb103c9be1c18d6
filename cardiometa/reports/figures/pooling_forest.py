"""The columns of people in a forest plot: n, mean (SD), or events of n, by arm.

The forest plot of one arm: trials, pooled effect, prediction interval, heterogeneity.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ...measurement.measures import definition
from ...pooling.options import EVENTS, RATIOS, WIN_ODDS
from ...pooling.results import ArmCount, EffectRow, PoolingResult
from ..pages.pooling_tables import (
    CI_LABELS,
    count_text,
    decimals_of,
    effect_label,
    headline_of,
    of_arm,
    one_stage_headline,
    scaled,
    scaled_prediction,
    shown_p,
    thin_text,
    unbroken,
)
from ..style import DASH, shown, shown_count, shown_interval
from .forest import ForestFigure, ForestRow, ForestSpec, forest_plot

Cells = Callable[[EffectRow], tuple[str, ...]]


def people_columns(result: PoolingResult, arm: str) -> tuple[tuple[str, ...], Cells]:
    """The headings, and a function from a row of ``effects.csv`` to its cells."""
    trials = of_arm(result, arm, "trial")
    if not any(row.n_control is not None or row.n_active is not None for row in trials):
        return (), lambda _: ()
    names = {"control": result.control, "active": arm}
    counts = {(row.trial, row.arm): row for row in result.by_arm}
    if result.options.effect in EVENTS and result.by_arm:
        headings = tuple(f"Events / n {name}" for name in names.values())

        def events(row: EffectRow) -> tuple[str, ...]:
            return tuple(
                _events_of(result, counts, row, side, name) for side, name in names.items()
            )

        return headings, events
    if not any(row.outcome_mean is not None for row in result.by_arm):
        headings = tuple(f"n {name}" for name in names.values())
        return headings, lambda row: tuple(count_text(row, side) for side in names)
    headings = tuple(part for name in names.values() for part in (f"n {name}", "mean (SD)"))
    decimals = max(definition(result.options.outcome).decimals or 0, 1)

    def means(row: EffectRow) -> tuple[str, ...]:
        cells: list[str] = []
        for side, name in names.items():
            found = counts.get((row.trial, name))
            cells += [count_text(row, side), _mean_sd(found, decimals)]
        return tuple(cells)

    return headings, means


def _mean_sd(row: ArmCount | None, decimals: int) -> str:
    if row is None or row.outcome_mean is None:
        return ""
    spread = "" if row.outcome_sd is None else f" ({shown(row.outcome_sd, decimals)})"
    return shown(row.outcome_mean, decimals) + spread


def _events_of(
    result: PoolingResult,
    counts: dict[tuple[str, str], ArmCount],
    row: EffectRow,
    side: str,
    name: str,
) -> str:
    """``12 / 340`` of one trial, or of all trials that are pooled."""
    if row.analysis == "trial":
        found = counts.get((row.trial, name))
        if found is None:
            return count_text(row, side)
        number = (
            shown_count(found.events)
            if found.events is not None
            else thin_text(found.note, "events")
        )
        return f"{number} / {count_text(row, side)}"
    pooled = {
        one.trial
        for one in of_arm(result, row.arm, "trial")
        if one.estimate is not None or one.note.startswith("n<")
    }
    events = [counts[trial, name].events for trial in pooled if (trial, name) in counts]
    total = sum(one for one in events if one is not None)
    known = len(events) == len(pooled) and None not in events
    return f"{shown_count(total) if known else DASH} / {count_text(row, side)}"


_TOO_WIDE = "too wide to draw"


def forest_spec(result: PoolingResult, arm: str) -> ForestSpec:
    """What the forest plot of an arm shows; the numbers are those of ``effects.csv``."""
    headline = headline_of(result, arm)
    trials = of_arm(result, arm, "trial")
    columns, cells_of = people_columns(result, arm)
    rows = [_trial_row(row, cells_of(row)) for row in trials]
    rows.append(ForestRow(label="", kind="space"))
    rows += _pooled_rows(result, headline, cells_of(headline))
    ratio = result.options.effect in RATIOS
    ranked = result.options.effect == WIN_ODDS
    return ForestSpec(
        rows=tuple(rows),
        effect_label=unbroken(effect_label(result)),
        columns=columns,
        null_value=1.0 if ratio else 0.0,
        left_label=f"{'Worse' if ranked else 'Lower'} with {arm}",
        right_label=f"{'Better' if ranked else 'Higher'} with {arm}",
        log_scale=ratio,
        decimals=decimals_of(result),
        level_percent=result.options.level,
        heterogeneity_text=heterogeneity_sentence(result, arm),
        title=f"{effect_label(result)}: {arm} versus {result.control}",
    )


def draw_forest(result: PoolingResult, arm: str) -> ForestFigure:
    """The drawn forest plot of an arm."""
    return forest_plot(forest_spec(result, arm))


def _trial_row(row: EffectRow, cells: tuple[str, ...]) -> ForestRow:
    estimate, low, high = scaled(row)
    if estimate is not None and not _drawable(row, low, high):
        return ForestRow(label=row.trial, cells=cells, note=_TOO_WIDE)
    aggregate = row.note.startswith("summary data")
    return ForestRow(
        label=row.trial,
        kind="aggregate" if aggregate else "trial",
        estimate=estimate,
        ci_low=low,
        ci_high=high,
        weight_percent=row.weight_percent,
        cells=cells,
        note="" if estimate is not None else _short(row.note),
    )


def _drawn(row: EffectRow) -> tuple[float | None, float | None, float | None]:
    """Estimate and interval on the scale shown, all None where they cannot be drawn."""
    estimate, low, high = scaled(row)
    return (estimate, low, high) if _drawable(row, low, high) else (None, None, None)


def _drawable(row: EffectRow, low: float | None, high: float | None) -> bool:
    """False for a ratio whose interval reaches 0 or infinity in the computer's numbers."""
    return low is not None and high is not None and (row.effect not in RATIOS or low > 0)


def _short(note: str) -> str:
    return note if note.startswith("n<") else "not estimable"


def _pooled_rows(result: PoolingResult, row: EffectRow, cells: tuple[str, ...]) -> list[ForestRow]:
    estimate, low, high = _drawn(row)
    several = (row.k or 0) > 1
    if several:
        kind = "Common effect" if row.tau2_method == "fe" else "Random effects"
        kind = "Mantel-Haenszel" if row.note.startswith("Mantel-Haenszel") else kind
        stage = "One-stage" if row.model == "one-stage" else kind
        label = f"{stage} ({CI_LABELS[row.ci_method]})"
    else:
        label = "One trial, not pooled"
    rows = [
        ForestRow(
            label=label,
            kind="pooled",
            estimate=estimate,
            ci_low=low,
            ci_high=high,
            weight_percent=100.0 if several else None,
            cells=cells,
            note=_TOO_WIDE if row.estimate is not None and estimate is None else "",
        )
    ]
    limits = scaled_prediction(row)
    if limits is not None:
        rows.append(
            ForestRow(
                label=f"{result.options.level:g}% prediction interval",
                kind="prediction",
                ci_low=limits[0],
                ci_high=limits[1],
            )
        )
    single = one_stage_headline(result, row.arm)
    if single is not None and single is not row:
        rows.append(_one_stage_row(single, ("",) * len(cells)))
    return rows


def _one_stage_row(row: EffectRow, cells: tuple[str, ...]) -> ForestRow:
    estimate, low, high = _drawn(row)
    return ForestRow(
        label=f"One-stage{', common effect' * (row.tau2_method == 'fe')} "
        f"({CI_LABELS[row.ci_method]})",
        kind="pooled",
        estimate=estimate,
        ci_low=low,
        ci_high=high,
        cells=cells,
        note="" if estimate is not None else _TOO_WIDE,
    )


def heterogeneity_sentence(result: PoolingResult, arm: str) -> str:
    """τ, I², Q and the test of the pooled effect, as they stand below the plot."""
    row = headline_of(result, arm)
    line = next((r for r in result.heterogeneity if r.arm == arm and r.headline), None)
    word = "pooled effect" if (row.k or 0) > 1 else "effect"
    test = f"Test of the {word}: p = {shown_p(row.p)}".replace("p = <", "p < ")
    if line is None:
        return f"{test}." if row.p is not None else "The effect is not shown."
    decimals = decimals_of(result) + 1
    tau = shown(line.tau, decimals)
    i2 = f"{shown(line.i2_percent, 0)}%"
    if line.tau_low is not None:
        tau += f" ({shown_interval(line.tau_low, line.tau_high, decimals)})"
        i2 += f" ({shown_interval(line.i2_low, line.i2_high, 0)}%)"
    q = f"Q = {shown(line.q, 1)}, df = {line.q_df}, p = {shown_p(line.q_p)}".replace(
        "p = <", "p < "
    )
    between = "" if row.tau2_method == "fe" else f"τ = {tau}; "
    return f"Heterogeneity: {between}I² = {i2}; {q}. {test}."


def small_study_sentence(result: PoolingResult, arm: str) -> str:
    """Egger's test in words; empty below ten trials."""
    row = next(iter(of_arm(result, arm, "small-study")), None)
    if row is None:
        return ""
    return (
        f"Small-study effects, {arm}: Egger's test p = {shown_p(row.p)} ({row.k} trials, t with "
        f"{shown(row.df, 0)} df). It tells asymmetry, not its cause."
    ).replace("p = <", "p < ")


def result_sentence(result: PoolingResult, arm: str) -> str:
    """The headline in one sentence, as an abstract says it."""
    row = headline_of(result, arm)
    estimate, low, high = scaled(row)
    if estimate is None:
        return f"{effect_label(result)}, {arm} versus {result.control}: not shown ({row.note})."
    decimals = decimals_of(result)
    level = f"{result.options.level:g}%"
    trials = f"{row.k} trial{'s' if row.k != 1 else ''}"
    people = ""
    if row.n_control is not None and row.n_active is not None:
        people = f", {row.n_control + row.n_active} participants"
    sentence = (
        f"{effect_label(result)}, {arm} versus {result.control}: {shown(estimate, decimals)} "
        f"({level} CI {shown_interval(low, high, decimals)}; p = {shown_p(row.p)}; "
        f"{trials}{people})."
    ).replace("p = <", "p < ")
    limits = scaled_prediction(row)
    if limits is not None:
        sentence += f" {level} prediction interval {shown_interval(*limits, decimals)}."
    if row.tau2 is not None and row.tau2_method != "fe":
        sentence += f" τ = {shown(math.sqrt(row.tau2), decimals + 1)}."
    return sentence.replace(DASH, "not known")
