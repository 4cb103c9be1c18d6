"""The flow of trials and participants into one pooled analysis, after PRISMA-IPD.

``report.html`` of ``pool-trials``: the effect, its trials, what could be wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...pooling.results import FlowCounts, PoolingResult
from ...records import Figure
from ..figures.flow import Box, boxes_figure
from ..figures.forest import ForestFigure
from ..figures.pooling_forest import result_sentence, small_study_sentence
from ..page import Block, Bullets, Facts, Notice, Paragraph, Section, page_html
from ..style import ABBREVIATIONS, shown_count
from .pooling_harmonisation import comparison_table
from .pooling_regression import (
    groups_table,
    influence_table,
    regression_sentences,
    slopes_table,
    spline_table,
)
from .pooling_subgroups import (
    ecological_table,
    interaction_sentences,
    interactions_table,
    subgroups_table,
)
from .pooling_tables import (
    by_arm_table,
    check_table,
    delta_table,
    effect_label,
    excluded_reasons,
    exclusions_table,
    heterogeneity_table,
    integrity_tables,
    leave_one_out_table,
    pooled_table,
    trials_table,
)


def pooling_flow(result: PoolingResult) -> Figure | None:
    """The diagram; None for summaries and files of sites, which name nobody."""
    flow = result.flow
    if flow is None:
        return None
    return boxes_figure(
        [
            (
                Box(
                    title="Individual participant data sought",
                    lines=_lines(flow.sought_trials, flow.sought_participants) or ("not stated",),
                ),
                _not_provided(flow, result.options.min_cell),
            ),
            (
                Box(
                    title="Individual participant data provided",
                    lines=_lines(flow.provided_trials, flow.provided_participants),
                ),
                _left_out(flow, result),
            ),
            (Box(title="Analysed", lines=(result.endpoint, *_analysed(flow))), None),
        ],
        "Flow of trials and participants",
    )


def _lines(trials: int | None, people: int | None) -> tuple[str, ...]:
    parts = ((trials, "trial"), (people, "participant"))
    return tuple(
        f"{shown_count(count)} {name}{'' if count == 1 else 's'}"
        for count, name in parts
        if count is not None
    )


def _not_provided(flow: FlowCounts, least: int) -> Box | None:
    """Of trials alone, and of people where so many are missing that nobody can be known."""
    trials = None if flow.sought_trials is None else flow.sought_trials - flow.provided_trials
    people = (
        None
        if flow.sought_participants is None
        else flow.sought_participants - flow.provided_participants
    )
    lines = _lines(trials or None, people if people is not None and people >= least else None)
    return Box(title="Not provided", lines=lines) if lines else None


def _left_out(flow: FlowCounts, result: PoolingResult) -> Box | None:
    reasons = excluded_reasons(result)
    if not reasons:
        return None
    trials = flow.provided_trials - flow.analysed_trials
    lines = [f"{sentence.rstrip('.')}: {count}" for sentence, count in reasons]
    return Box(title="Not analysed", lines=(*_lines(trials or None, None), *lines))


def _analysed(flow: FlowCounts) -> tuple[str, ...]:
    own = ", ".join(_lines(flow.analysed_trials, flow.analysed_participants))
    if not flow.aggregate_trials:
        return _lines(flow.analysed_trials, flow.analysed_participants)
    more = ", ".join(_lines(flow.aggregate_trials, flow.aggregate_participants))
    return (f"participants' data: {own}", f"published effects: {more}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherFigures:
    """Figures of trials as points: funnels by arm, regressions by arm and covariate.

    ``splines`` are curves within trials, by arm and covariate.
    """

    splines: Mapping[tuple[str, str], ForestFigure] = field(default_factory=dict)
    funnels: Mapping[str, ForestFigure] = field(default_factory=dict)
    regressions: Mapping[tuple[str, str], ForestFigure] = field(default_factory=dict)


def pooling_page(
    result: PoolingResult,
    figures: Mapping[str, ForestFigure],
    record: Mapping[str, Any],
    by_level: Mapping[tuple[str, str], ForestFigure] | None = None,
    beside: Mapping[str, ForestFigure] | None = None,
    others: OtherFigures | None = None,
) -> str:
    """The whole page as text.

    ``figures`` by arm, ``by_level`` by arm and term of the modifier, ``record`` facts of the run.
    """
    others = others or OtherFigures()
    sections = [
        _effect_section(result, figures),
        _reported_section(result, beside or {}),
        _levels_section(result, by_level or {}, others),
        *_trial_sections(result, others),
        _between_section(result, others),
        _people_section(result),
        _integrity_section(result),
        _methods_section(result, record),
    ]
    return page_html(
        f"Pooled effect: {result.name}",
        _subtitle(result),
        [section for section in sections if section is not None],
    )


def _subtitle(result: PoolingResult) -> str:
    trials = {row.trial for row in result.effects if row.analysis == "trial"}
    parts = [
        effect_label(result),
        f"{len(trials)} trial{'s' if len(trials) != 1 else ''}",
    ]
    if result.accounting is not None:
        parts.append(f"{shown_count(result.accounting.analysed)} participants analysed")
    # How many were tested is what a p value must be read against.
    arms = len(result.arms)
    parts.append(
        f"tested: 1 outcome, {arms} active arm{'s' if arms != 1 else ''}, {_modifiers(result)}"
        + _between(result)
    )
    return " · ".join(parts)


def _modifiers(result: PoolingResult) -> str:
    """How many modifiers were tested, and how many of them the plan named."""
    asked = result.options.by_columns
    if not asked:
        return "no modifier"
    planned = len(set(asked) & set(result.options.prespecified_columns))
    plural = "s" if len(asked) != 1 else ""
    return f"{len(asked)} modifier{plural}, {planned} of them pre-specified"


def _between(result: PoolingResult) -> str:
    """How many covariates of trials were looked at; empty where none was."""
    count = len(result.options.regression_columns)
    return f", {count} covariate{'s' * (count != 1)} of trials" if count else ""


def _reported_section(result: PoolingResult, figures: Mapping[str, ForestFigure]) -> Section | None:
    """Harmonised against reported values on the same people."""
    if not figures:
        return None
    blocks: list[Block] = []
    for arm, figure in figures.items():
        blocks.append(comparison_table(result, arm))
        blocks.append(
            Figure(
                title=f"Harmonised and reported values: {arm} versus {result.control}",
                caption="The same participants, trials and model; filled: harmonised, hollow: as "
                "the trials reported. A constant bias of a core laboratory cancels within its "
                "trial; another scale or convention does not.",
                svg=figure.svg,
            )
        )
    return Section("Harmonised and reported values", "reported", tuple(blocks))


def _levels_section(
    result: PoolingResult, figures: Mapping[tuple[str, str], ForestFigure], others: OtherFigures
) -> Section | None:
    if not result.options.by:
        return None
    blocks: list[Block] = []
    for arm in result.arms:
        blocks += [Paragraph(sentence) for sentence in interaction_sentences(result, arm)]
        tables = (interactions_table(result, arm), subgroups_table(result, arm))
        blocks += [table for table in tables if table is not None]
        blocks += [
            Figure(
                title=f"By {term.partition(':')[2]}: {arm} versus {result.control}",
                caption="Left: effects by level in each trial; hollow diamonds are the effects "
                "by level that fit the interactions. Right: interactions within each trial and "
                "pooled. Both axes have one scale.",
                svg=figure.svg,
            )
            for (of, term), figure in figures.items()
            if of == arm
        ]
        curves = spline_table(result, arm)
        if curves is not None:
            blocks.append(curves)
        blocks += [
            Figure(
                title=f"Effect over {covariate}: {arm} versus {result.control}",
                caption="From within the trials alone: the effect at each value against that at "
                "the dot, with its interval. Dashed: the straight line; ticks: the knots.",
                svg=figure.svg,
            )
            for (of, covariate), figure in others.splines.items()
            if of == arm
        ]
        ecological = ecological_table(result, arm)
        if ecological is not None:
            blocks.append(ecological)
    if not blocks:
        return None
    return Section("By participants' characteristics", "by-level", tuple(blocks))


def _effect_section(result: PoolingResult, figures: Mapping[str, ForestFigure]) -> Section:
    blocks: list[Block] = [Paragraph(result_sentence(result, arm)) for arm in result.arms]
    if result.warnings:
        blocks += [Notice(sentence) for sentence in result.warnings]
    for arm in result.arms:
        figure = figures.get(arm)
        if figure is not None:
            blocks.append(
                Figure(
                    title=f"{effect_label(result)}: {arm} versus {result.control}",
                    caption="Squares are the trials, their area proportional to weight; the "
                    "diamond is the pooled effect with its interval. Hollow squares are trials "
                    "known by a published effect only."
                    if any(row.note.startswith("summary data") for row in result.effects)
                    else "Squares are the trials, their area proportional to weight; the diamond "
                    "is the pooled effect with its interval, the bar below it the prediction "
                    "interval for the effect in a new trial.",
                    svg=figure.svg,
                )
            )
        blocks.append(pooled_table(result, arm))
    blocks.append(_review_note(result))
    return Section("Pooled effect", "effect", tuple(blocks))


def _review_note(result: PoolingResult) -> Block:
    if result.options.status == "ok":
        return Paragraph("Rows marked for review were left out (--status ok).")
    if result.review_rows is None:
        return Paragraph("The summaries carry no status of scans.")
    if result.review_rows == 0:
        return Paragraph(
            "No row is marked for review, so the effect without such rows is the same."
        )
    return Paragraph(
        "Some rows are marked for review; they are used, and the table gives the headline without "
        "them too."
    )


def _between_section(result: PoolingResult, others: OtherFigures) -> Section | None:
    """Meta-regression and groups of trials; None where none was asked for or can be had."""
    blocks: list[Block] = []
    for arm in result.arms:
        blocks += [Paragraph(sentence) for sentence in regression_sentences(result, arm)]
        tables = (slopes_table(result, arm), groups_table(result, arm))
        blocks += [table for table in tables if table is not None]
        blocks += [
            Figure(
                title=f"Meta-regression on {covariate}: {arm} versus {result.control}",
                caption="Bubbles are trials, their area proportional to weight; line and field are "
                "the fitted effect with its interval. Trials that may not be shown are in the line "
                "alone.",
                svg=figure.svg,
            )
            for (of, covariate), figure in others.regressions.items()
            if of == arm
        ]
    if not blocks:
        return None
    notice = Notice(
        "Between trials: people were not randomised to a trial, and trials differ in much else. "
        "Nothing about people can be concluded from this section (ecological bias); effects in "
        "people of an age, a sex or an ethnicity are those within trials (--by).",
        kind="note",
    )
    return Section("What trials differ in", "between-trials", (notice, *blocks))


def _trial_sections(result: PoolingResult, others: OtherFigures) -> list[Section]:
    trials = Section("Trials", "trials", tuple(trials_table(result, arm) for arm in result.arms))
    blocks: list[Block] = [
        heterogeneity_table(result, arm)
        for arm in result.arms
        if any(row.arm == arm for row in result.heterogeneity)
    ]
    blocks += [
        Paragraph(text) for arm in result.arms if (text := small_study_sentence(result, arm))
    ]
    blocks += [
        Figure(
            title=f"Funnel plot: {arm} versus {result.control}",
            caption="Each trial's effect against its standard error; dashed: the pooled effect; "
            "the field holds the trials if chance alone moves them. Asymmetry has many causes.",
            svg=figure.svg,
        )
        for arm, figure in others.funnels.items()
    ]
    checks = check_table(result)
    if checks is not None:
        blocks.append(checks)
    left_out = [leave_one_out_table(result, arm) for arm in result.arms]
    blocks += [table for table in left_out if table is not None]
    influences = [influence_table(result, arm) for arm in result.arms]
    blocks += [table for table in influences if table is not None]
    if not blocks:
        return [trials]
    return [trials, Section("Heterogeneity and influence", "heterogeneity", tuple(blocks))]


def _people_section(result: PoolingResult) -> Section | None:
    if result.accounting is None:
        return None
    blocks: list[Block] = [
        Paragraph(
            "Scans are of those who lived and came. A difference between the arms below in who was "
            "scanned can make or hide an effect."
        ),
        by_arm_table(result),
    ]
    shifted = [delta_table(result, arm) for arm in result.arms]
    blocks += [one for one in shifted if one is not None]
    flow = pooling_flow(result)
    blocks += [flow] if flow is not None else []
    table = exclusions_table(result)
    blocks.append(
        table
        if table is not None
        else Paragraph(
            f"All {shown_count(result.accounting.participants)} participants of the table are "
            "analysed."
        )
    )
    return Section("Participants", "participants", tuple(blocks))


def _integrity_section(result: PoolingResult) -> Section | None:
    if not result.integrity:
        return None
    intro = Paragraph(
        "First checks of each trial's data. They change and leave out nothing; a finding asks a "
        "person to look."
    )
    return Section("Integrity of the data", "integrity", (intro, *integrity_tables(result)))


def _methods_section(result: PoolingResult, record: Mapping[str, Any]) -> Section:
    least = result.options.min_cell
    notes = (
        "effects.csv holds every number in full; a number here is a rounding of it.",
        ABBREVIATIONS,
    )
    cells = (f"Counts of fewer than {least} people, and those that give them back, are not shown.",)
    return Section(
        "Methods",
        "methods",
        (
            Paragraph(result.methods),
            Facts(tuple((name, str(value)) for name, value in record.items())),
            Bullets((cells if least else ()) + notes),
        ),
    )
