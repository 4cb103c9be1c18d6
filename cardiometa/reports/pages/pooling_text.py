"""The print-out of ``pool-trials``: plain text that can be pasted into a paper."""

from __future__ import annotations

import textwrap

from ...pooling.results import PoolingResult
from ...records import Table
from ..figures.pooling_forest import heterogeneity_sentence, result_sentence, small_study_sentence
from ..page import is_numeric_column
from .pooling_harmonisation import compared_arms, comparison_table
from .pooling_regression import groups_table, regression_sentences, slopes_table, spline_table
from .pooling_subgroups import (
    ecological_table,
    interaction_sentences,
    interactions_table,
    subgroups_table,
)
from .pooling_tables import by_arm_table, delta_table, pooled_table, trials_table

_WIDTH = 100


def pooling_text(result: PoolingResult) -> str:
    """Trials, pooled effects, heterogeneity, participants, methods and warnings as text."""
    parts: list[str] = []
    for arm in result.arms:
        parts += [
            text_table(trials_table(result, arm)),
            text_table(pooled_table(result, arm)),
            _wrapped(heterogeneity_sentence(result, arm)),
        ]
        more = (
            interactions_table(result, arm),
            subgroups_table(result, arm),
            ecological_table(result, arm),
            spline_table(result, arm),
            slopes_table(result, arm),
            groups_table(result, arm),
        )
        parts += [text_table(table) for table in more if table is not None]
        if arm in compared_arms(result):
            parts.append(text_table(comparison_table(result, arm)))
    if result.by_arm:
        parts.append(text_table(by_arm_table(result)))
    shifted = [delta_table(result, arm) for arm in result.arms]
    parts += [text_table(table) for table in shifted if table is not None]
    for arm in result.arms:
        parts.append(_wrapped(result_sentence(result, arm)))
        parts += map(_wrapped, interaction_sentences(result, arm))
        parts += map(_wrapped, regression_sentences(result, arm))
        parts += [_wrapped(text) for text in (small_study_sentence(result, arm),) if text]
    parts.append(_wrapped(f"Methods: {result.methods}"))
    parts += [_wrapped(f"Warning: {sentence}") for sentence in result.warnings]
    return "\n\n".join(parts) + "\n"


def text_table(table: Table) -> str:
    """A table in aligned columns: words to the left, numbers to the right."""
    columns = list(zip(table.columns, *table.rows, strict=True))
    lines = [""] * (len(table.rows) + 1)
    for number, cells in enumerate(columns):
        width = max(map(len, cells))
        right = number > 0 and is_numeric_column(cells[1:])
        for i, cell in enumerate(cells):
            lines[i] += (cell.rjust(width) if right else cell.ljust(width)) + "   "
    lines = [line.rstrip() for line in lines]
    rule = "-" * max(map(len, lines))
    return "\n".join([table.title, rule, lines[0], rule, *lines[1:], rule])


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
