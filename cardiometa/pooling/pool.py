"""Pool trials: from participants' rows, from published effects or from sites' sums to a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd

from ..cohort.plausibility import folded
from ..errors import CardiometaError, Problem, TableError, UsageError
from ..measurement.measures import definition
from ..privacy.characteristics import characteristics
from ..privacy.suppression import suppress_pooling
from ..records import CohortTable, SeriousWarning
from ..statistics.measurement_error import ErrorInput
from .aggregate_effects import read_summaries, source_rows, unlike_spreads
from .endpoint.analysis_set import (
    WORSE,
    WORST_RANK,
    Analysed,
    as_worst_rank,
    baseline_frame,
    participant_exclusions,
    participants_by_arm,
    refuse_without_deaths,
    with_estimand,
)
from .endpoint.columns import words_column
from .error_model import with_error_rows
from .first_stage.arm_sums import ArmSums
from .first_stage.first_stage import FirstStage, analysis_stage, first_copy, no_effect
from .harmonisation import compare_reported
from .hazards import hazard_tables
from .integrity import TrialFacts, check_trials, refuse_unmodelled
from .meta_regression import trial_regression, trial_values, values_of_table
from .methods import (
    few_trials,
    integrity_warning,
    methods_of_rows,
    second_stage_sentence,
    warnings_of_rows,
)
from .options import DIFFERENCES, EVENTS, STANDARDISED, PoolingOptions
from .published_tables import form_of_table, harmonised, recognised, with_measure
from .results import (
    EffectRow,
    FlowCounts,
    OneStageCheck,
    PoolingResult,
    Study,
)
from .second_stage.events import event_rows
from .second_stage.one_stage import (
    FEW_TRIALS,
    all_arm_rows,
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
from .sensitivity import delta_rows, influence_rows
from .subgroups.modifiers import ModifierSums
from .subgroups.rows import interaction_rows, modifiers_of
from .subgroups.spline import spline_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryTable:
    """A table of published effects as it was read, with its file's name for messages."""

    rows: pd.DataFrame
    name: str


_JOINT_MODEL = (
    "The rows of all arms in one model take the shared control into account: compare the active "
    "arms by them."
)
_CLUSTERS = (
    "With --cluster only the two-stage model is fitted: each cluster-randomised trial has its own "
    "mixed model, and no one-stage model of this version has clusters within trials."
)
_IMPUTED = (
    "With imputed outcomes the trials' estimates are combined by Rubin's rules before pooling: "
    "only the two-stage model is fitted."
)
_PUBLISHED = {
    True: "The trials' published effects were taken as they are. ",
    False: "Each trial's effect was computed from its published numbers by arm. ",
}
# Besides ANCOVA: other effects of the same endpoint, and the label of their rows.
UNADJUSTED = {"change": "change score", "follow-up": "follow-up only"}
_BESIDE_SUMMARIES = (
    " Trials without participants' data entered with their published effect; the pooled effect "
    "of the trials with participants' data alone is given as well."
)


def pool(
    studies: Mapping[str, Sequence[Study]],
    options: PoolingOptions,
    *,
    sums: Sequence[ArmSums] = (),
    trials: Sequence[Analysed] = (),
    modifiers: Mapping[str, Sequence[ModifierSums]] | None = None,
    extra: Sequence[EffectRow] = (),
    warnings: tuple[Sequence[str], Sequence[str]] = ((), ()),
    **about: Any,
) -> PoolingResult:
    """The second stage of ``studies`` by active arm, and the one-stage models of ``sums``.

    ``trials`` are the analysed rows, which events need; ``modifiers`` by arm those of ``--by``;
    ``extra`` rows of other analyses of the same trials. ``warnings`` come before and after those
    of the models; ``about`` are further fields of the result. Small counts are suppressed here.
    """
    arms = [arm for arm, members in studies.items() if any(s.estimable for s in members)]
    effects: list[EffectRow] = []
    checks: list[OneStageCheck] = []
    found = [sentence for arm in arms for sentence in few_trials(arm, studies[arm])]
    found += warnings[0]
    for arm in arms:
        rows, check, sentences = _rows_of_arm(studies[arm], options, sums, trials)
        effects += rows
        checks += [check] if check is not None else []
        found += sentences
    effects += [row for arm in arms for row in source_rows(studies[arm], options)]
    joint = all_arm_rows(sums, studies, options) if sums else []
    found += [_JOINT_MODEL] if joint else []
    hazards = hazard_tables(trials, [studies[arm] for arm in arms], options)
    found += hazards.warnings
    by_level = [interaction_rows((modifiers or {}).get(arm, ()), options, trials) for arm in arms]
    levels = [row for one in by_level for row in one.rows]
    spread = [row for arm in arms for row in heterogeneity_rows(studies[arm], options)]
    left_out = arms if options.leave_one_out else ()
    result = PoolingResult(
        options=options,
        unit="" if options.effect == STANDARDISED else definition(options.outcome).unit,
        control=options.control,
        arms=tuple(arms),
        effects=(*effects, *joint, *extra, *levels),
        heterogeneity=tuple(spread),
        influence=tuple(row for arm in left_out for row in influence_rows(studies[arm], options)),
        checks=tuple(checks),
        proportional=hazards.proportional,
        rmst=hazards.rmst,
        survival=hazards.survival,
        warnings=(*found, *(text for one in by_level for text in one.warnings), *warnings[1]),
        **about,
    )
    events = {key: count for one in by_level for key, count in one.events.items()}
    return suppress_pooling(result, studies, events)


def _rows_of_arm(
    studies: Sequence[Study],
    options: PoolingOptions,
    sums: Sequence[ArmSums],
    trials: Sequence[Analysed],
) -> tuple[list[EffectRow], OneStageCheck | None, list[str]]:
    """The rows of one arm in both stages, the check of its one-stage fit, and sentences."""
    if options.effect in EVENTS:
        rows, found = event_rows(trials, studies, options)
        return rows, None, found
    rows = list(effect_rows(studies, options))
    if not sums or options.model == "two-stage":
        return rows, None, []
    single = one_stage(sums, studies, options)
    enough = single.check is not None and single.check.k >= FEW_TRIALS
    if options.model == "one-stage" and enough:  # with fewer trials both are shown
        rows = [row for row in rows if row.analysis == "trial"]
    return [*rows, *single.rows], single.check, list(single.warnings)


def pool_trials(
    table: CohortTable,
    options: PoolingOptions,
    *,
    roster: pd.DataFrame | None = None,
    summaries: SummaryTable | None = None,
    facts: Mapping[str, TrialFacts] | None = None,
    error: ErrorInput | None = None,
) -> PoolingResult:
    """Pool the trials of ``table``; ``roster`` is ``participants.csv``, ``summaries`` more trials.

    ``facts`` are what the cohort's definition states of the trials, by name; ``error`` is what is
    known of the measurement's error.

    Raises TableError (exit 3) for input that cannot be compared, EstimationError (exit 5) where
    no trial gives an effect, UsageError for an effect that rows cannot give.
    """
    facts = facts or {}
    refuse_unmodelled(table, facts, options)
    options = with_estimand(options, summaries is not None)
    stage = analysis_stage(table, options, roster)
    people, arms = stage.people, stage.arms
    refuse_without_deaths(people, options)
    studies = _with_summaries(stage, summaries, options)
    own = {arm: studies[arm] for arm in arms}
    modifiers = {arm: modifiers_of(stage.trials, people, arm, options) for arm in arms}
    reported = compare_reported(table, options, roster)
    sensitivity, not_done = _sensitivity(table, options, roster, stage, summaries)
    splines = [spline_rows(stage.trials, people, arm, options) for arm in arms]
    regression = trial_regression(own, partial(trial_values, people, options), options)
    integrity, findings = check_trials(first_copy(table), people, options, facts)
    delta, tipping = delta_rows({arm: stage.studies[arm] for arm in arms}, people, options)
    after = [
        *(text for _, sentences in splines for text in sentences),
        *(*regression.warnings, *findings, *tipping),
        *([_IMPUTED] if stage.imputations and options.model == "both" else []),
        *([_CLUSTERS] if options.cluster and options.model == "both" else []),
        *(*not_done, *reported.warnings, *integrity_warning(integrity)),
        *(text for arm in arms for text in unlike_spreads(studies[arm], options)),
    ]
    result = pool(
        studies,
        options,
        sums=_one_stage_sums(stage, options),
        trials=stage.trials,
        modifiers=modifiers,
        extra=[*sensitivity, *reported.effects],
        warnings=(warnings_of_rows(table, replace(stage, studies=studies), options), after),
        name=table.name,
        conventions=table.conventions,
        by_arm=participants_by_arm(people, options),
        table1=characteristics(
            baseline_frame(first_copy(table).rows, people, options, roster), options.min_cell
        ),
        integrity=integrity,
        exclusions=(*stage.endpoint.exclusions, *participant_exclusions(people)),
        accounting=stage.accounting(),
        methods=methods_of_rows(
            stage,
            options,
            several=_several(studies),
            worst_rank=any(row.label == WORST_RANK for row in sensitivity),
        )
        + _BESIDE_SUMMARIES * (summaries is not None),
        endpoint=f"{options.outcome} at {stage.endpoint.followup}",
        review_rows=_review_rows(first_copy(table)),
        comparison=tuple(reported.rows),
        compared=tuple(reported.compared),
        delta=tuple(delta),
        flow=_flow_counts(people, studies),
        spline=tuple(row for rows, _ in splines for row in rows),
        regression=tuple(regression.rows),
        points=tuple(regression.points),
        lines=tuple(regression.lines),
    )
    if error is None:
        return result
    return with_error_rows(result, studies, stage.sums, modifiers, error)


def pool_summaries(summaries: SummaryTable, options: PoolingOptions) -> PoolingResult:
    """Pool published trials: the second stage alone.

    Counts without an effect measure are pooled as odds ratios, log-rank sums as hazard ratios.
    What is published is not suppressed.
    """
    if options.model == "one-stage":
        raise UsageError(
            "--model one-stage needs participants' rows, not summaries.",
            hint="Use --model two-stage.",
        )
    if options.adjust or options.baseline_column or options.by or options.rmst:
        raise UsageError(
            "--adjust, --baseline, --by and --rmst need participants' rows, not summaries."
        )
    rows, name = summaries.rows, summaries.name
    form = form_of_table(rows.columns)
    asked, options = options.effect, replace(with_measure(form, options, name), min_cell=0)
    by_arm: dict[str, list[Study]] = {}
    studies = read_summaries(rows, options, name=name)
    for study in sorted(studies, key=lambda item: item.arm):  # trials in the order of the file
        by_arm.setdefault(study.arm, []).append(study)
    if not any(study.estimable for study in studies):
        raise no_effect({arm: tuple(members) for arm, members in by_arm.items()}, options)
    values = {
        column: values_of_table(harmonised(rows, name), column, name)
        for column in options.regression_columns
    }
    regression = trial_regression(by_arm, lambda column, _: values[column], options)
    found = [*filter(None, [recognised(rows)]), *regression.warnings]
    found += [text for members in by_arm.values() for text in unlike_spreads(members, options)]
    if options.effect != asked:
        sentence = f"{name} has {form}: the {options.effect} is pooled, the active arm against the "
        found.append(SeriousWarning(f"{sentence}control. --effect asks for another measure."))
    return pool(
        by_arm,
        options,
        warnings=((), found),
        name=name,
        methods=_PUBLISHED[form == "effects"]
        + (second_stage_sentence(options) if _several(by_arm) else ""),
        endpoint=options.outcome or "the outcome of the summaries",
        regression=tuple(regression.rows),
        points=tuple(regression.points),
        lines=tuple(regression.lines),
    )


def _several(studies: Mapping[str, Sequence[Study]]) -> bool:
    """True where the effects of two trials or more are pooled for some arm."""
    return any(sum(one.estimable for one in members) > 1 for members in studies.values())


def _one_stage_sums(stage: FirstStage, options: PoolingOptions) -> tuple[ArmSums, ...]:
    """The sums that one-stage models take; none where there is no such model."""
    has_model = options.effect in DIFFERENCES and not (stage.imputations or options.cluster)
    return stage.sums if has_model else ()


def _with_summaries(
    stage: FirstStage, summaries: SummaryTable | None, options: PoolingOptions
) -> dict[str, tuple[Study, ...]]:
    """The stage's studies by arm and those of ``summaries``; TableError for a trial in both."""
    studies = dict(stage.studies)
    if summaries is None:
        return studies
    more = read_summaries(summaries.rows, options, name=summaries.name, arms=stage.arms)
    known = {folded(study.trial) for members in studies.values() for study in members}
    twice = sorted({study.trial for study in more if folded(study.trial) in known})
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
    status = words_column(table.rows, "status")
    return int(status.isin([w for w in status.cat.categories if w.lower() == "review"]).sum())


def _sensitivity(
    table: CohortTable,
    options: PoolingOptions,
    roster: pd.DataFrame | None,
    stage: FirstStage,
    summaries: SummaryTable | None,
) -> tuple[list[EffectRow], list[str]]:
    """The headline without rows under review, and besides ANCOVA by change and by follow-up."""
    wanted: list[tuple[PoolingOptions, str]] = []
    warnings: list[str] = []
    if options.effect in EVENTS:  # known whether the scan is usable or not
        return [], []
    if options.status == "all" and (_review_rows(table) or 0) > 0:
        wanted.append((replace(options, status="ok"), WITHOUT_REVIEW))
    if options.effect in DIFFERENCES and stage.people["died"].any() and summaries is None:
        if options.cluster:
            warnings.append(
                "No worst-rank sensitivity analysis: it assumes independent participants."
            )
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
        changes: list[dict[str, Any]] = [{"effect": name} for name in UNADJUSTED]
        wanted += [(replace(options, **one), UNADJUSTED[one["effect"]]) for one in changes]
    rows: list[EffectRow] = []
    for other, label in wanted:
        try:
            same = (other.status, other.adjust, other.by) == (
                options.status,
                options.adjust,
                options.by,
            )
            again = analysis_stage(table, other, roster, stage.endpoint if same else None)
        except CardiometaError as error:
            warnings.append(f"No sensitivity analysis {label}: {error.message}")
            continue
        studies = _with_summaries(again, summaries, other)
        for arm in again.arms:
            if arm in stage.arms:
                rows += headlines(_one_stage_sums(again, other), studies[arm], other, label)
    return rows, warnings


def headlines(
    sums: Sequence[ArmSums], studies: Sequence[Study], options: PoolingOptions, label: str
) -> list[EffectRow]:
    """The headline of each model asked for, marked as a sensitivity analysis.

    Without ``sums`` there is no one-stage model.
    """
    two_stage = sensitivity_row(studies, options, label)
    if options.model == "two-stage" or not sums:
        return [two_stage]
    single = [row for row in one_stage(sums, studies, options).rows if row.headline]
    again = [as_sensitivity(row, label) for row in single]
    return again if options.model == "one-stage" and again else [two_stage, *again]


def _flow_counts(people: pd.DataFrame, studies: Mapping[str, Sequence[Study]]) -> FlowCounts:
    """Trials and participants; a published trial of several arms counts once.

    ``people`` has ``trial`` and ``code`` (empty: analysed); ``studies`` by arm.
    """
    analysed = people.loc[people["code"] == "", "trial"]
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
        analysed_trials=int(analysed.nunique()),
        analysed_participants=len(analysed),
        aggregate_trials=len(counts),
        aggregate_participants=total(counts) if counts else None,
    )
