"""The delta-adjusted effects of an arm as a table."""

from __future__ import annotations

from ..pooling.records import PoolingResult
from ..records import Table
from .names import unit_name
from .numbers import shown, shown_estimate
from .pooling_tables import decimals_of, effect_label, shown_p


def delta_table(result: PoolingResult, arm: str) -> Table | None:
    """The pooled effect by delta and at the tipping points; None where there is none."""
    rows = sorted((row for row in result.delta if row.arm == arm), key=lambda row: row.delta)
    if not rows:
        return None
    decimals = decimals_of(result)
    unit = unit_name(result.unit)
    return Table(
        title=f"If those of {arm} without the outcome did otherwise",
        columns=(
            f"Delta, {unit}" if unit else "Delta",
            f"Pooled estimate ({result.options.level:g}% CI)",
            "p",
            "",
        ),
        rows=tuple(
            (
                shown(row.delta, decimals),
                shown_estimate(row.estimate, row.ci_low, row.ci_high, decimals),
                shown_p(row.p),
                "tipping point" if row.kind == "tipping-point" else "",
            )
            for row in rows
        ),
        caption=f"{effect_label(result)}. Delta: how far those of this arm whose outcome is "
        "missing are, on average, from people like them who have it; 0 is the analysis itself. A "
        "tipping point is the delta at which the interval begins to hold 0.",
    )
