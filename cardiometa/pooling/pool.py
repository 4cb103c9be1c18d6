"""Pool trials: one call from a table to every row of the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from ..errors import CardiometaError, Problem, TableError, UsageError
from ..measurement.measures import definition
from ..privacy.suppression import (
    few_event_trials,
    hidden_trials,
    suppress_arm_counts,
    suppress_effects,
    suppress_integrity,
    suppress_levels,
    suppress_small_differences,
)
from ..records import CohortTable
from .aggregate_effects import read_summaries, source_rows
from .endpoint.analysis_set import (
    WORSE,
    WORST_RANK,
    as_worst_rank,
    participant_exclusions,
    participants_by_arm,
    refuse_without_deaths,
    with_estimand,
)
from .endpoint.columns import text_column
from .first_stage.first_stage import FirstStage, analysis_stage, first_copy
from .harmonisation import compare_reported
from .integrity import (
    TrialFacts,
    cohort_checks,
    design_warnings,
    integrity_checks,
    refuse_unmodelled,
    selection_checks,
    stated_checks,
    unit_warnings,
)
from .meta_regression import trial_regression
from .methods import (
    few_trials,
    integrity_warning,
    methods_of_rows,
    second_stage_sentence,
    warnings_of_rows,
)
from .options import DIFFERENCES, EVENTS, STANDARDISED, WIN_ODDS, PoolingOptions
from .results import (
    DeltaRow,
    EffectRow,
    FlowCounts,
    HeterogeneityRow,
    InfluenceRow,
    PoolingResult,
    Study,
)
from .second_stage.events import event_rows
from .second_stage.one_stage import (
    FEW_TRIALS,
    OneStage,
    joint_fit,
    joint_one_stage_rows,
    joint_rows,
    one_stage,
)
from .second_stage.two_stage import (
    WITHOUT_REVIEW,
    as_sensitivity,
    effect_rows,
    heterogeneity_rows,
    sensitivity_row,
    total,
)
from .sensitivity import delta_rows, influence_rows, tipping_sentences
from .subgroups.rows import interaction_rows, modifiers_of
from .subgroups.spline import spline_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryTable:
    """A table of published effects as it was read, with its file's name for messages."""

    rows: pd.DataFrame
    name: str


JOINT_MODEL = (
    "The rows of all arms in one model take the shared control into account: compare the active "
    "arms by them."
)
CLUSTERS_LEFT_OUT = (
    "With --cluster the two-stage model alone is given: each cluster-randomised trial has its own "
    "mixed model, and no one-stage model of this version has clusters within trials."
)
ONE_STAGE_LEFT_OUT = (
    "With imputed outcomes the trials' estimates are combined by Rubin's rules before pooling: the "
    "two-stage model alone is given."
)


def pool_trials(
    table: CohortTable,
    options: PoolingOptions,
    *,
    roster: pd.DataFrame | None = None,
    summaries: SummaryTable | None = None,
    facts: Mapping[str, TrialFacts] | None = None,
) -> PoolingResult:
    """Pool the trials of ``table``; ``roster`` is ``participants.csv``, ``summaries`` more trials.

    ``facts`` are what the cohort's definition states of the trials, by name.

    Raises TableError (exit 3) for input that cannot be compared, EstimationError (exit 5) where
    no trial gives an effect, UsageError for an effect that rows cannot give.
    """
    if options.effect == "hazard-ratio" and not options.time:
        raise UsageError(
            "--effect hazard-ratio of participants' rows needs --time and --event.",
            hint="For example --time mace_day --event mace.",
        )
    facts = facts or {}
    refuse_unmodelled(table, facts, options)
    options = with_estimand(options, summaries is not None)
    stage = analysis_stage(table, options, roster)
    refuse_without_deaths(stage.people, options)
    if stage.imputations and (options.by or options.model == "one-stage"):
        raise UsageError(
            f"{'--by' if options.by else '--model one-stage'} does not go with imputed outcomes "
            "in this version."
        )
    studies = with_summaries(stage, summaries, options)
    effects: list[EffectRow] = []
    heterogeneity: list[HeterogeneityRow] = []
    single: list[OneStage] = []
    for arm in stage.arms:
        both = both_stages(stage, studies[arm], options)
        effects += both[0]
        single.append(both[1])
        heterogeneity += heterogeneity_rows(studies[arm], options)
    by_level = [
        interaction_rows(
            modifiers_of(stage.trials, stage.people, arm, options), options, stage.trials
        )
        for arm in (stage.arms if options.by else ())
    ]
    levels = [row for one in by_level for row in one.rows]
    splines = [
        spline_rows(stage.trials, stage.people, arm, options)
        for arm in (stage.arms if options.spline else ())
    ]
    compared = compare_reported(table, options, roster) if options.compare_reported else None
    reported = (
        []
        if compared is None
        else suppress_small_differences(compared.effects, effects, options.min_cell)
    )
    beside = [row for arm in stage.arms for row in source_rows(studies[arm], options)]
    if options.effect in DIFFERENCES and not (stage.imputations or options.cluster):
        beside += joint_rows(joint_fit(stage.sums, studies, options), options)
        if options.model != "two-stage":
            beside += joint_one_stage_rows(stage.sums, studies, options)
    extra, extra_warnings = _sensitivity(table, options, roster, stage, summaries)
    chosen, missing = selection_checks(stage.people, options)
    delta = _delta(stage, options)
    once = first_copy(table)
    least = options.min_cell
    scarce = few_event_trials(studies, least)
    regressions = [
        trial_regression(
            studies[arm], stage.people, options, hidden_trials(studies[arm], scarce, least)
        )
        for arm in (stage.arms if options.meta_regression else ())
    ]
    events = {key: count for one in by_level for key, count in one.events.items()}
    released = suppress_effects(
        [*effects, *beside, *extra, *reported, *suppress_levels(levels, least, events)],
        least,
        scarce,
    )
    hidden = {(r.arm, r.trial) for r in released if r.analysis == "trial" and r.se is None}
    integrity = (
        *integrity_checks(once, stage.people),
        *cohort_checks(once, stage.people, options),
        *stated_checks(stage.people, facts),
        *chosen,
    )
    endpoint = stage.endpoint
    warnings = [
        *warnings_of_rows(table, replace(stage, studies=studies), options),
        *(sentence for one in single for sentence in one.warnings),
        *(sentence for one in by_level for sentence in one.warnings),
        *(sentence for one in splines for sentence in one.warnings),
        *(sentence for one in regressions for sentence in one.warnings),
        *missing,
        *design_warnings(table, facts),
        *unit_warnings(integrity),
        *tipping_sentences(delta, stage.arms, definition(options.outcome).unit),
        *([ONE_STAGE_LEFT_OUT] if stage.imputations and options.model == "both" else []),
        *([CLUSTERS_LEFT_OUT] if options.cluster and options.model == "both" else []),
        *([JOINT_MODEL] if any(row.variant == "joint-model" for row in beside) else []),
        *extra_warnings,
        *(() if compared is None else compared.warnings),
        *integrity_warning(integrity),
    ]
    return PoolingResult(
        options=options,
        name=table.name,
        unit="" if options.effect == STANDARDISED else definition(options.outcome).unit,
        control=options.control,
        arms=stage.arms,
        effects=released,
        heterogeneity=tuple(heterogeneity),
        by_arm=suppress_arm_counts(participants_by_arm(stage.people, options), least, scarce),
        integrity=suppress_integrity(integrity, options.min_cell),
        exclusions=(*endpoint.exclusions, *participant_exclusions(stage.people)),
        accounting=stage.accounting(),
        methods=methods_of_rows(stage, options) + summaries_sentence(summaries),
        warnings=tuple(warnings),
        endpoint=f"{options.outcome} at {endpoint.followup}",
        review_rows=_review_rows(first_copy(table)),
        checks=tuple(one.check for one in single if one.check is not None),
        comparison=() if compared is None else compared.rows,
        compared=() if compared is None else suppress_effects(compared.compared, options.min_cell),
        delta=delta,
        influence=influence_of(studies, released, options),
        flow=_flow_counts(stage.people, studies),
        spline=tuple(row for one in splines for row in one.rows),
        regression=tuple(row for one in regressions for row in one.rows),
        points=tuple(
            point
            for one in regressions
            for point in one.points
            if (point.arm, point.trial) not in hidden
        ),
        lines=tuple(line for one in regressions for line in one.lines),
    )


def influence_of(
    studies: Mapping[str, Sequence[Study]], released: Sequence[EffectRow], options: PoolingOptions
) -> tuple[InfluenceRow, ...]:
    """The influence of every trial; none where leaving one out was not wanted."""
    if not options.leave_one_out:
        return ()
    return tuple(
        row
        for arm, members in studies.items()
        if any(study.estimable for study in members)
        for row in influence_rows(members, [r for r in released if r.arm == arm], options)
    )


def _delta(stage: FirstStage, options: PoolingOptions) -> tuple[DeltaRow, ...]:
    """The delta-adjusted analysis of every arm; of differences of participants' rows only."""
    if options.effect not in DIFFERENCES:
        return ()
    return tuple(
        row for arm in stage.arms for row in delta_rows(stage.studies[arm], stage.people, options)
    )


def both_stages(
    stage: FirstStage, studies: Sequence[Study], options: PoolingOptions
) -> tuple[list[EffectRow], OneStage]:
    """The rows of the models asked for; below five trials the two-stage ones always stand."""
    if options.effect in EVENTS:
        rows, sentences = event_rows(stage.trials, studies, options)
        return rows, OneStage(rows=(), check=None, warnings=tuple(sentences))
    if options.effect in (WIN_ODDS, STANDARDISED) or stage.imputations or options.cluster:
        return list(effect_rows(studies, options)), OneStage(rows=(), check=None)
    rows = list(effect_rows(studies, options))
    if options.model == "two-stage":
        return rows, OneStage(rows=(), check=None)
    single = one_stage(stage.sums, studies, options)
    if options.model == "one-stage" and single.check is not None and single.check.k >= FEW_TRIALS:
        rows = [row for row in rows if row.analysis == "trial"]
    return [*rows, *single.rows], single


def pool_summaries(summaries: SummaryTable, options: PoolingOptions) -> PoolingResult:
    """Pool a table ``trial, estimate, se[, n]``: the second stage alone."""
    if options.model == "one-stage":
        raise UsageError(
            "--model one-stage needs participants' rows, not summaries.",
            hint="Use --model two-stage.",
        )
    if options.adjust or options.baseline_column or options.meta_regression:
        raise UsageError(
            "--adjust, --baseline and --meta-regression need participants' rows, not summaries."
        )
    studies = read_summaries(summaries.rows, options, name=summaries.name)
    by_arm: dict[str, list[Study]] = {}
    for study in sorted(studies, key=lambda item: item.arm):  # trials in the order of the file
        by_arm.setdefault(study.arm, []).append(study)
    effects = suppress_effects(
        [row for members in by_arm.values() for row in effect_rows(members, options)],
        options.min_cell,
    )
    return PoolingResult(
        options=options,
        name=summaries.name,
        unit=definition(options.outcome).unit,
        control=options.control,
        arms=tuple(by_arm),
        effects=effects,
        influence=influence_of(by_arm, effects, options),
        heterogeneity=tuple(
            row for members in by_arm.values() for row in heterogeneity_rows(members, options)
        ),
        by_arm=(),
        integrity=(),
        exclusions=(),
        accounting=None,
        methods="The trials' published effects were taken as they are. "
        + second_stage_sentence(options),
        warnings=tuple(w for arm, members in by_arm.items() for w in few_trials(arm, members)),
        endpoint=options.outcome or "the outcome of the summaries",
    )


def summaries_sentence(summaries: SummaryTable | None) -> str:
    """How trials without participants' data entered; empty without any."""
    if summaries is None:
        return ""
    return (
        " Trials without participants' data entered with their published effect; the pooled effect "
        "of the trials with participants' data alone is given beside it."
    )


def with_summaries(
    stage: FirstStage, summaries: SummaryTable | None, options: PoolingOptions
) -> dict[str, tuple[Study, ...]]:
    """The stage's studies by arm and those of ``summaries``; TableError for a trial in both."""
    studies = dict(stage.studies)
    if summaries is None:
        return studies
    more = read_summaries(summaries.rows, options, name=summaries.name, arms=stage.arms)
    known = {study.trial for members in studies.values() for study in members}
    twice = sorted({study.trial for study in more} & known)
    if twice:
        raise TableError(
            f"{summaries.name} and the participants' table name the same trials.",
            hint="A trial counts once: remove it from one of the two.",
            problems=[
                Problem(where=f"{summaries.name}, trial {t}", what="its rows are pooled too")
                for t in twice
            ],
        )
    for study in more:
        studies[study.arm] = (*studies[study.arm], study)
    return studies


def _review_rows(table: CohortTable) -> int | None:
    """How many rows are marked for review; None for a table without a status."""
    if "status" not in table.rows:
        return None
    return int(text_column(table.rows, "status").str.lower().eq("review").sum())


def _sensitivity(
    table: CohortTable,
    options: PoolingOptions,
    roster: pd.DataFrame | None,
    stage: FirstStage,
    summaries: SummaryTable | None,
) -> tuple[list[EffectRow], list[str]]:
    """The headline without rows under review, and by change and follow-up beside ANCOVA."""
    wanted: list[tuple[PoolingOptions, str]] = []
    warnings: list[str] = []
    if options.effect in EVENTS:  # known of everyone, whatever became of the scan
        return [], []
    if options.status == "all" and (_review_rows(table) or 0) > 0:
        wanted.append((replace(options, status="ok"), WITHOUT_REVIEW))
    if options.effect in DIFFERENCES and stage.people["died"].any() and summaries is None:
        if options.cluster:
            warnings.append("No worst-rank sensitivity analysis: it takes people for independent.")
        elif options.worse or options.outcome in WORSE:
            wanted.append((as_worst_rank(options), WORST_RANK))
        else:
            warnings.append(
                f"No worst-rank sensitivity analysis: which values of {options.outcome} are the "
                "worse ones is not known (--worse)."
            )
    if options.missing_outcome == "impute":
        wanted.append((replace(options, missing_outcome="complete"), "complete cases"))
    if options.effect == "mean-difference" and summaries is None:
        wanted.append((replace(options, effect="change"), "change score"))
        wanted.append((replace(options, effect="follow-up"), "follow-up only"))
    rows: list[EffectRow] = []
    for other, label in wanted:
        try:
            again = analysis_stage(table, other, roster)
        except CardiometaError as error:
            warnings.append(f"No sensitivity analysis {label}: {error.message}")
            continue
        studies = with_summaries(again, summaries, other)
        for arm in again.arms:
            if arm in stage.arms:
                rows += headlines_again(again, studies[arm], other, label)
    return rows, warnings


def headlines_again(
    stage: FirstStage, studies: Sequence[Study], options: PoolingOptions, label: str
) -> list[EffectRow]:
    """The headline of each model asked for, marked as a sensitivity analysis."""
    two_stage = sensitivity_row(studies, options, label)
    if options.model == "two-stage":
        return [two_stage]
    if options.effect in (WIN_ODDS, STANDARDISED) or stage.imputations or options.cluster:
        return [two_stage]
    single = [row for row in one_stage(stage.sums, studies, options).rows if row.headline]
    again = [as_sensitivity(row, label) for row in single]
    return again if options.model == "one-stage" and again else [two_stage, *again]


def _flow_counts(people: pd.DataFrame, studies: Mapping[str, Sequence[Study]]) -> FlowCounts:
    """Trials and participants; a published trial of several arms counts once.

    ``people`` has ``trial`` and ``code`` (empty: analysed); ``studies`` by arm.
    """
    analysed = people[people["code"] == ""]
    sizes: dict[str, int | None] = {}
    for members in studies.values():
        for study in members:
            if study.aggregate:
                known = [n for n in (sizes.get(study.trial), study.n) if n is not None]
                sizes[study.trial] = max(known, default=None)
    counts = list(sizes.values())
    return FlowCounts(
        provided_trials=int(people["trial"].nunique()),
        provided_participants=len(people),
        analysed_trials=int(analysed["trial"].nunique()),
        analysed_participants=len(analysed),
        aggregate_trials=len(counts),
        aggregate_participants=total(counts) if counts else None,
    )
