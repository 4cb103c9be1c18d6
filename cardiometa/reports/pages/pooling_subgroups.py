"""Tables and the section of the page on age, sex, ethnicity and other effect modifiers."""

from __future__ import annotations

from ...pooling.methods import EFFECT_NAMES
from ...pooling.options import RATIOS
from ...pooling.results import EffectRow, PoolingResult
from ...pooling.subgroups.rows import ALL_LEVELS
from ...records import Table
from ..figures.pooling_levels import interaction_p, modifiers_shown, p_sentence
from ..style import DASH, shown, shown_estimate
from .pooling_tables import (
    CI_LABELS,
    MODEL_NAMES,
    count_text,
    decimals_of,
    effect_label,
    law_text,
    scaled,
    shown_p,
)


def interactions_table(result: PoolingResult, arm: str) -> Table | None:
    """Every pooled within-trial interaction of one arm; None without any."""
    decimals = decimals_of(result)
    rows = []
    for row in result.effects:
        if row.analysis != "interaction" or row.arm != arm or row.trial or not row.headline:
            continue
        rows.append(
            (
                row.term.partition(":")[2],
                row.level,
                MODEL_NAMES[row.model],
                DASH if row.k is None else str(row.k),
                _estimate(row, decimals),
                "" if row.estimate is None else shown(row.se, decimals + 1),
                f"F({row.q_df}, {shown(row.df, 0)})"
                if row.level == ALL_LEVELS and row.df is not None
                else f"χ²({row.q_df})"
                if row.level == ALL_LEVELS
                else law_text(row),
                shown_p(row.p),
                DASH if row.p_holm is None else shown_p(row.p_holm),
            )
        )
    if not rows:
        return None
    return Table(
        title=f"Interactions within trials: {arm} versus {result.control}",
        columns=(
            "Modifier",
            "Contrast",
            "Model",
            "Trials",
            f"{difference_name(result)} ({result.options.level:g}% CI)",
            "SE of log" if result.options.effect in RATIOS else "SE",
            "Law",
            "p",
            "p (Holm)",
        ),
        rows=tuple(rows),
        caption=f"{effect_label(result)}. From contrasts within each trial alone. Holm: over the "
        "exploratory modifiers of one model; the plan's own are not adjusted.",
    )


def _estimate(row: EffectRow, decimals: int) -> str:
    if row.estimate is None:
        return DASH
    return shown_estimate(*scaled(row), decimals)


def difference_name(result: PoolingResult) -> str:
    """What an interaction is: a difference in effect, or a ratio of ratios."""
    if result.options.effect in RATIOS:
        return f"Ratio of {EFFECT_NAMES[result.options.effect]}s"
    return "Difference in effect"


def subgroups_table(result: PoolingResult, arm: str) -> Table | None:
    """The floating effects by level; None without any."""
    decimals = decimals_of(result)
    rows = [
        (
            row.term.partition(":")[2],
            row.level,
            str(row.k),
            count_text(row, "control"),
            count_text(row, "active"),
            _estimate(row, decimals),
            row.note,
        )
        for row in result.effects
        if row.analysis == "subgroup" and row.arm == arm and not row.trial
    ]
    if not rows:
        return None
    keep = 7 if any(row[-1] for row in rows) else 6
    columns = (
        "Modifier",
        "Level",
        "Trials",
        f"n {result.control}",
        f"n {arm}",
        f"Effect ({result.options.level:g}% CI)",
        "Note",
    )
    return Table(
        title=f"Effects by level: {arm} versus {result.control}",
        columns=columns[:keep],
        rows=tuple(row[:keep] for row in rows),
        caption="Floating effects: their differences are the within-trial interactions (Godolphin "
        "2023), so that subgroups and interactions cannot tell two stories. Intervals: "
        f"{CI_LABELS['hksj-truncated']}. No p value belongs to a single level.",
    )


def ecological_table(result: PoolingResult, arm: str) -> Table | None:
    """What is between trials, apart and labelled; None without any."""
    decimals = decimals_of(result)
    rows = [
        (row.term.partition(":")[2], row.level, str(row.k), _estimate(row, decimals))
        for row in result.effects
        if row.analysis == "interaction" and row.arm == arm and row.note.startswith("ecological")
    ]
    if not rows:
        return None
    return Table(
        title="Between trials: ecological, not effect modification",
        columns=(
            "Covariate",
            "Of the trials' means",
            "Trials",
            f"Association ({result.options.level:g}% CI)",
        ),
        rows=tuple(rows),
        caption="How effects differ between trials whose participants differ on average. Trials "
        "differ in much else: no conclusion about people can be drawn from this.",
    )


def interaction_sentences(result: PoolingResult, arm: str) -> list[str]:
    """One sentence a modifier, as an abstract says it."""
    decimals = decimals_of(result)
    found = []
    for term in modifiers_shown(result, arm):
        row = interaction_p(result, arm, term)
        if row is None:
            continue
        name = term.partition(":")[2]
        what = "" if row.estimate is None else f" {row.level}: {_estimate(row, decimals)},"
        found.append(f"Interaction with {name} within trials, {arm}:{what} {p_sentence(row)}.")
    return found
