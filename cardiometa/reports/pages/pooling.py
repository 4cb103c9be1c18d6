"""``report.html`` of ``pool-trials``, and its text for the terminal.

The pooled effect, its trials, the flow of participants after PRISMA-IPD, and the checks.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from ...manifest import notice_for
from ...pooling.results import Accounting, PoolingResult
from ...records import Figure, Table, severity
from ..figures.flow import Box, boxes_figure
from ..figures.pooling import (
    PoolingFigure,
    effect_label,
    heterogeneity_sentence,
    result_sentence,
    scaled_prediction,
    small_study_sentence,
)
from ..page import (
    Block,
    Bullets,
    Facts,
    Notice,
    Paragraph,
    Section,
    is_numeric_column,
    notes_section,
    page_html,
    section,
)
from ..style import abbreviations, counted
from . import pooling_tables as tables

_WIDTH = 100
text = tables.text
_Maker = Callable[[PoolingResult, str], Table | None]
# What sections show of each arm: kinds of figures, and functions of the result and the arm.
_BY_ARM: Final[tuple[tuple[str, str, tuple[str | Callable[..., Any], ...]], ...]] = (
    ("Harmonised and reported values", "reported", (tables.comparison_table, "reported")),
    (
        "By participants' characteristics",
        "by-level",
        (
            tables.interaction_sentences,
            tables.interactions_table,
            tables.subgroups_table,
            "levels",
            tables.spline_table,
            "spline",
            tables.ecological_table,
        ),
    ),
    ("Trials", "trials", (tables.trials_table,)),
)
_BETWEEN: Final = (
    tables.regression_sentences,
    tables.slopes_table,
    tables.groups_table,
    "regression",
)


def pooling_page(
    result: PoolingResult, figures: Sequence[PoolingFigure], record: Mapping[str, Any]
) -> str:
    """The complete page as text; ``figures`` as drawn, ``record`` facts of the run."""
    arms = partial(_by_arm, result, figures)
    account, options = result.accounting, result.options
    reviewed = bool(result.review_rows) or options.status == "ok"
    between = arms(*_BETWEEN)
    sections = [
        section(
            tables.effect_title(result),
            "effect",
            *arms(result_sentence),
            *arms("forest", tables.pooled_table),
            Paragraph(text("review_note", options=options)) if reviewed else None,
        ),
        *(section(title, anchor, *arms(*parts)) for title, anchor, parts in _BY_ARM),
        section(
            "Heterogeneity and influence",
            "heterogeneity",
            *arms(tables.heterogeneity_table),
            *arms(small_study_sentence),
            *arms("funnel"),
            tables.check_table(result),
            *arms(tables.leave_one_out_table),
            *arms(tables.influence_table),
        ),
        section(
            "Meta-regression (between trials)",
            "between-trials",
            Notice(text("between_notice"), kind="note"),
            *between,
        )
        if between
        else None,
        None if account is None else _participants_section(result, account),
        section(
            "Integrity of the data",
            "integrity",
            Paragraph(text("integrity_intro")),
            *tables.integrity_tables(result),
        )
        if result.integrity
        else None,
        notes_section(result.warnings),
        _methods_section(result, record),
    ]
    return page_html(
        f"{tables.effect_title(result)}: {result.name}",
        _subtitle(result),
        sections,
        warnings=result.warnings,
        foot=notice_for(result.conventions.get("model_id", ())),
    )


def _subtitle(result: PoolingResult) -> str:
    """What was pooled, and how much was tested, against which a p value must be read."""
    options = result.options
    return text(
        "subtitle",
        label=effect_label(result),
        trials=len({row.trial for row in result.effects if row.analysis == "trial"}),
        accounting=result.accounting,
        arms=len(result.arms),
        options=options,
        planned=len(set(options.by_columns) & set(options.prespecified_columns)),
    )


def _drawn(
    result: PoolingResult, figures: Sequence[PoolingFigure], kind: str, arm: str
) -> list[Figure]:
    """The figures of a kind and arm with the caption of the template."""
    own = [row for row in result.effects if row.arm == arm]
    caption = text(
        f"figure_{kind}",
        options=result.options,
        aggregate=any(row.aggregate for row in own),
        pooled=any(row.analysis == "pooled" and (row.k or 0) > 1 for row in own),
        prediction=any(row.headline and scaled_prediction(row) for row in own),
    )
    return [
        Figure(title=one.drawing.title, caption=caption, svg=one.drawing.svg)
        for one in figures
        if (one.kind, one.arm) == (kind, arm)
    ]


def _by_arm(
    result: PoolingResult, figures: Sequence[PoolingFigure], *parts: str | Callable[..., Any]
) -> list[Block]:
    """Of each arm its ``parts``: the figures of a kind, or what a function of the arm gives."""
    blocks: list[Block] = []
    for arm in result.arms:
        for part in parts:
            if isinstance(part, str):
                blocks += _drawn(result, figures, part, arm)
                continue
            found = part(result, arm)
            blocks += [
                Paragraph(one) if isinstance(one, str) else one
                for one in (found if isinstance(found, list) else [found])
                if one
            ]
    return blocks


def _participants_section(result: PoolingResult, account: Accounting) -> Section | None:
    intro = text(
        "participants_intro",
        deaths=any(row.deaths_recorded for row in result.by_arm),
        all_analysed=account.analysed == account.participants,
    )
    return section(
        "Participants",
        "participants",
        Paragraph(intro) if intro else None,
        tables.by_arm_table(result),
        *(tables.delta_table(result, arm) for arm in result.arms),
        pooling_flow(result),
        tables.exclusions_table(result) or Paragraph(text("all_analysed", account=account)),
    )


def _methods_section(result: PoolingResult, record: Mapping[str, Any]) -> Section | None:
    notes = [text("rounding"), abbreviations([result.options.outcome])]
    counted_rows = any(row.n_control is not None or row.suppressed for row in result.effects)
    if result.options.min_cell and (result.by_arm or counted_rows):
        notes.insert(0, text("suppression", options=result.options))
    return section(
        "Methods",
        "methods",
        Paragraph(result.methods),
        Facts(tuple((name, str(value)) for name, value in record.items())),
        Bullets(tuple(filter(None, notes))),
    )


# ------------------------------------------------------------------ participant flow


def pooling_flow(result: PoolingResult) -> Figure | None:
    """The diagram; None for summaries and site files, which identify no participants."""
    flow = result.flow
    if flow is None:
        return None
    trials = None if flow.sought_trials is None else flow.sought_trials - flow.provided_trials
    missing = (
        None
        if flow.sought_participants is None
        else flow.sought_participants - flow.provided_participants
    )
    if missing is not None and missing < result.options.min_cell:
        missing = None  # so few could be identified
    reasons = tables.excluded_reasons(result)
    excluded = [f"{sentence.rstrip('.')}: {count}" for sentence, count in reasons]
    left_out = _counts(flow.provided_trials - flow.analysed_trials or None, None)
    analysed = _counts(flow.analysed_trials, flow.analysed_participants)
    if flow.aggregate_trials:
        more = _counts(flow.aggregate_trials, flow.aggregate_participants)
        analysed = (
            f"participants' data: {', '.join(analysed)}",
            f"published effects: {', '.join(more)}",
        )
    sought = _counts(flow.sought_trials, flow.sought_participants) or ("not stated",)
    provided = _counts(flow.provided_trials, flow.provided_participants)
    not_provided = _counts(trials or None, missing)
    return boxes_figure(
        [
            (
                Box("Individual participant data sought", sought),
                Box("Not provided", not_provided) if not_provided else None,
            ),
            (
                Box("Individual participant data provided", provided),
                Box("Not analysed", (*left_out, *excluded)) if excluded else None,
            ),
            (Box("Analysed", (result.endpoint, *analysed)), None),
        ],
        "Flow of trials and participants",
    )


def _counts(trials: int | None, participants: int | None) -> tuple[str, ...]:
    pairs = ((trials, "trial"), (participants, "participant"))
    return tuple(counted(count, name) for count, name in pairs if count is not None)


# ------------------------------------------------------------------ text for the terminal


def pooling_text(result: PoolingResult) -> str:
    """Trials, pooled effects, heterogeneity, participants and methods as tables and text."""
    parts: list[str | Table | None] = []
    more: tuple[_Maker, ...] = (
        tables.interactions_table,
        tables.subgroups_table,
        tables.ecological_table,
        tables.spline_table,
        tables.slopes_table,
        tables.groups_table,
        tables.comparison_table,
    )
    for arm in result.arms:
        parts += [tables.trials_table(result, arm), tables.pooled_table(result, arm)]
        parts.append(heterogeneity_sentence(result, arm))
        parts += [make(result, arm) for make in more]
    parts += [
        tables.by_arm_table(result),
        *(tables.delta_table(result, arm) for arm in result.arms),
    ]
    for arm in result.arms:
        parts += [*_found(result, arm), small_study_sentence(result, arm)]
    parts.append(f"Methods: {result.methods}")
    notes = [one for one in dict.fromkeys(result.warnings) if severity(one) == "note"]
    parts += [f"Note: {sentence}" for sentence in notes]
    return _joined(parts, _WIDTH)


def pooling_brief(result: PoolingResult, width: int = _WIDTH) -> str:
    """What fits on a screen: headline, heterogeneity, participants, the number of notes."""
    parts: list[str | Table | None] = []
    for arm in result.arms:
        parts += [*_found(result, arm), heterogeneity_sentence(result, arm)]
    flow = result.flow
    if flow is not None:
        analysed = counted(flow.analysed_participants, "participant")
        trials = counted(flow.analysed_trials, "trial")
        reasons = tables.excluded_reasons(result)
        excluded = "; ".join(f"{sentence.rstrip('.')}: {count}" for sentence, count in reasons)
        parts.append(
            f"Participants: {analysed} of {trials} analysed, of {flow.provided_participants} in "
            f"the table.{f' Not analysed: {excluded}.' if excluded else ''}"
        )
    notes = sum(severity(one) == "note" for one in set(result.warnings))
    if notes:
        parts.append(f"{counted(notes, 'note')}: see the report, or --verbose.")
    return _joined(parts, width)


def _found(result: PoolingResult, arm: str) -> list[str]:
    """The headline of an arm, its interactions and meta-regressions, a sentence each."""
    sentences = tables.interaction_sentences(result, arm) + tables.regression_sentences(result, arm)
    return [result_sentence(result, arm), *sentences]


def _joined(parts: Sequence[str | Table | None], width: int) -> str:
    texts = (
        text_table(part)
        if isinstance(part, Table)
        else textwrap.fill(part, width, break_long_words=False, break_on_hyphens=False)
        for part in parts
        if part
    )
    return "\n\n".join(texts) + "\n"


def text_table(table: Table) -> str:
    """A table in aligned columns: text to the left, numbers to the right."""
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
