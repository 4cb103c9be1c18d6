"""The two-panel forest plot: effects by level on the left, interactions on the right.

Left are the trials' effects by level with the floating diamonds; right the within-trial
interactions with their pooled diamonds. The only p value is that of the interaction
(``pooling.md`` 2.3).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...pooling.methods import EFFECT_NAMES
from ...pooling.options import RATIOS
from ...pooling.results import EffectRow, PoolingResult
from ...pooling.subgroups.rows import ALL_LEVELS
from ..pages.pooling_tables import decimals_of, effect_label, scaled, shown_p, unbroken
from .forest import ForestFigure, ForestRow, ForestSpec
from .forest_panels import two_panels

_BLANK = ForestRow(label="", kind="text")


def modifiers_shown(result: PoolingResult, arm: str) -> list[str]:
    """The terms of one arm that have subgroups or interactions, in the file's order."""
    terms = [
        row.term
        for row in result.effects
        if row.arm == arm and row.analysis in ("interaction", "subgroup")
    ]
    return list(dict.fromkeys(terms))


def rows_of(result: PoolingResult, arm: str, term: str, analysis: str) -> list[EffectRow]:
    """The two-stage rows of one modifier."""
    return [
        row
        for row in result.effects
        if (row.arm, row.term, row.analysis, row.model) == (arm, term, analysis, "two-stage")
    ]


def interaction_p(result: PoolingResult, arm: str, term: str) -> EffectRow | None:
    """The row whose p stands for the modifier: the joint test, else the one contrast."""
    pooled = [r for r in rows_of(result, arm, term, "interaction") if r.headline and not r.trial]
    joint = [row for row in pooled if row.level == ALL_LEVELS]
    return next(iter(joint or pooled), None)


def p_sentence(row: EffectRow | None) -> str:
    """``p = 0.032 (Holm 0.064)``; empty where there is none."""
    if row is None or row.p is None:
        return ""
    text = f"p = {shown_p(row.p)}"
    if row.p_holm is not None:
        text += f" (after Holm {shown_p(row.p_holm)})"
    return text.replace("= <", "< ")


def draw_levels(result: PoolingResult, arm: str, term: str) -> ForestFigure | None:
    """The figure of one modifier; None where there is nothing to draw."""
    subgroups = rows_of(result, arm, term, "subgroup")
    interactions = [
        row
        for row in rows_of(result, arm, term, "interaction")
        if row.level != ALL_LEVELS and (row.trial or row.headline)
    ]
    if not interactions:
        return None
    trials = list(dict.fromkeys(row.trial for row in [*subgroups, *interactions] if row.trial))
    left: list[ForestRow] = []
    right: list[ForestRow] = []
    for trial in [*trials, ""]:
        heading = ForestRow(label=trial or "All trials", kind="subgroup-heading")
        own = [_row(row, pooled=not trial) for row in subgroups if row.trial == trial]
        across = [_row(row, pooled=not trial) for row in interactions if row.trial == trial]
        size = max(len(own), len(across))
        left += [heading, *own, *[_BLANK] * (size - len(own))]
        right += [heading, *_beside(own, across, size)]
    if sum(row.kind == "pooled" for row in right) > 1:  # no one of them is the line to look along
        right = [replace(r, kind="subgroup-pooled") if r.kind == "pooled" else r for r in right]
    name = term.partition(":")[2]
    ratio = result.options.effect in RATIOS
    kind: dict[str, Any] = {
        "decimals": decimals_of(result),
        "level_percent": result.options.level,
        "log_scale": ratio,
        "null_value": 1.0 if ratio else 0.0,
    }
    label = effect_label(result)
    return two_panels(
        ForestSpec(
            rows=tuple(left),
            effect_label=unbroken(label),
            label_heading=f"Effect by {_plain(name)}",
            left_label=f"Lower with {arm}",
            right_label=f"Higher with {arm}",
            heterogeneity_text="Diamonds: effects by level whose differences are the within-trial "
            "interactions (Godolphin 2023).",
            width_mm=120.0,
            title=f"Effect by {_plain(name)}",
            **kind,
        ),
        ForestSpec(
            rows=tuple(right),
            effect_label=f"Ratio of {EFFECT_NAMES[result.options.effect]}s"
            if ratio
            else "Difference in effect",
            label_heading="Interaction within trials",
            left_label="Effect lower",
            right_label="Effect higher",
            heterogeneity_text=_foot(interaction_p(result, arm, term)),
            width_mm=120.0,
            title=f"Interaction with {_plain(name)}",
            **kind,
        ),
        title=f"{label} by {_plain(name)}: {arm} versus {result.control}",
    )


def _foot(row: EffectRow | None) -> str:
    text = p_sentence(row)
    return f"Interaction within trials: {text}." if text else "No pooled interaction."


def _beside(own: Sequence[ForestRow], across: Sequence[ForestRow], size: int) -> list[ForestRow]:
    """Contrasts beside their level; a slope beside the first band."""
    if not across:
        return [_BLANK] * size
    start = 1 if len(own) == len(across) + 1 and " vs " in across[0].label else 0
    rows = [*[_BLANK] * start, *across]
    return [*rows, *[_BLANK] * (size - len(rows))]


def _row(row: EffectRow, *, pooled: bool) -> ForestRow:
    kind = "subgroup-pooled" if pooled else "trial"
    if pooled and row.analysis == "interaction":
        kind = "pooled"
    if row.estimate is None:
        return ForestRow(label=row.level, kind="trial", indent=1, note=_short(row.note))
    estimate, low, high = scaled(row)
    if estimate is None or low is None or high is None or (row.effect in RATIOS and low <= 0):
        return ForestRow(label=row.level, kind="trial", indent=1, note="too wide to draw")
    return ForestRow(
        label=row.level,
        kind="pooled" if kind == "pooled" else "subgroup-pooled" if pooled else "trial",
        estimate=estimate,
        ci_low=low,
        ci_high=high,
        indent=1,
    )


def _short(note: str) -> str:
    if note.startswith("n<"):
        return note.partition(";")[0]
    return "not pooled" if "not pooled" in note else "not estimable"


def _plain(name: str) -> str:
    return re.sub(r"_(years|percent|ml|g|cm|kg)\b.*", "", name).replace("_", " ")
