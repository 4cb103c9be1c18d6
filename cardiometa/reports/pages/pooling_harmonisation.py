"""Harmonised against reported values: the table, the figure, and what may be said of them."""

from __future__ import annotations

from ...pooling.results import ComparisonRow, EffectRow, PoolingResult
from ...records import Table
from ..figures.forest import ForestFigure, ForestRow, ForestSpec, RowKind, forest_plot
from ..style import shown, shown_interval, unit_name
from .pooling_tables import decimals_of, effect_label

_SOURCES = {"harmonised": "Harmonised", "reported": "As reported"}


def compared_arms(result: PoolingResult) -> list[str]:
    """The arms that were compared, in the result's order."""
    return list(dict.fromkeys(row.arm for row in result.comparison))


def comparison_table(result: PoolingResult, arm: str) -> Table:
    """Four quantities of both sources with paired-bootstrap intervals, in the outcome's unit."""
    decimals = decimals_of(result) + 1
    rows = [row for row in result.comparison if row.arm == arm]
    unit = unit_name(result.unit)
    return Table(
        title=f"Harmonised and reported values, the same participants: {arm}",
        columns=("Quantity", "Harmonised", "As reported", "Reported less harmonised"),
        rows=tuple(
            (row.quantity[0].upper() + row.quantity[1:], *_cells(row, decimals)) for row in rows
        ),
        caption=(f"In {unit}. " if unit else "")
        + f"{rows[0].k} trials; {result.options.level:g}% intervals by one bootstrap of the same "
        "participants within trial and arm (sampling error within these trials, not of new ones), "
        "moved so that their median is the estimate. The standard error is that of the pooled "
        "effect by REML. I² is not compared: it rises when measurement noise falls.",
    )


def _cells(row: ComparisonRow, decimals: int) -> tuple[str, str, str]:
    values = (
        (row.harmonised, row.harmonised_low, row.harmonised_high),
        (row.reported, row.reported_low, row.reported_high),
        (row.difference, row.difference_low, row.difference_high),
    )
    first, second, third = (
        f"{shown(value, decimals)} ({shown_interval(low, high, decimals)})"
        for value, low, high in values
    )
    return first, second, third


def draw_comparison(result: PoolingResult, arm: str) -> ForestFigure:
    """Each trial's effect and the pooled one from both sources, one under the other."""
    rows: list[ForestRow] = []
    pairs = _pairs(result, arm)
    for trial in [*[name for name in pairs if name], ""]:
        label = trial or "All trials"
        rows.append(ForestRow(label=label, kind="subgroup-heading"))
        rows += [
            _row(pairs[trial][source], source) for source in _SOURCES if source in pairs[trial]
        ]
    lines = [row for row in result.comparison if row.arm == arm]
    decimals = decimals_of(result) + 1
    foot = "; ".join(
        f"{row.quantity} {shown(row.harmonised, decimals)} harmonised, "
        f"{shown(row.reported, decimals)} as reported"
        for row in lines
        if row.quantity in ("residual SD", "tau")
    ).replace("tau", "τ")
    return forest_plot(
        ForestSpec(
            rows=tuple(rows),
            effect_label=effect_label(result),
            left_label=f"Lower with {arm}",
            right_label=f"Higher with {arm}",
            decimals=decimals_of(result),
            level_percent=result.options.level,
            heterogeneity_text=f"The same participants: {foot}." if foot else "",
            title=f"Harmonised and reported values: {arm} versus {result.control}",
        )
    )


def _pairs(result: PoolingResult, arm: str) -> dict[str, dict[str, EffectRow]]:
    """Rows by trial (``""`` pooled) and source: those of trials with both, and both headlines."""
    found: dict[str, dict[str, EffectRow]] = {}
    for row in result.compared:
        if row.arm == arm:
            found.setdefault(row.trial, {})[row.source] = row
    return {trial: pair for trial, pair in found.items() if len(pair) == 2 or not trial}


def _row(row: EffectRow, source: str) -> ForestRow:
    kind: RowKind
    if source == "reported":
        kind = "aggregate" if row.trial else "subgroup-pooled"
    else:
        kind = "trial" if row.trial else "pooled"
    return ForestRow(
        label=_SOURCES[source],
        kind=kind,
        estimate=row.estimate,
        ci_low=row.ci_low,
        ci_high=row.ci_high,
        indent=1,
        note="" if row.estimate is not None else "not estimable",
    )
