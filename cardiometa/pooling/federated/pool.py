"""Pooling the files of sites: the same rows as from the participants, from their sums alone."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import EstimationError, UsageError
from ...measurement.measures import definition
from ...privacy.suppression import suppress_effects, suppress_levels
from ..first_stage.arm_sums import effects_of_trial
from ..methods import few_trials, interaction_sentence, one_stage_sentence, second_stage_sentence
from ..options import PoolingOptions
from ..pool import JOINT_MODEL
from ..results import EffectRow, PoolingResult, Study, natural
from ..second_stage.one_stage import (
    FEW_TRIALS,
    OneStage,
    joint_fit,
    joint_one_stage_rows,
    joint_rows,
    one_stage,
)
from ..second_stage.two_stage import effect_rows, heterogeneity_rows
from ..subgroups.rows import Interactions, interaction_rows
from .site import SiteSummary, join_sites, options_of


def pool_sites(
    sites: Sequence[SiteSummary], options: PoolingOptions, *, asked: Sequence[str] = ()
) -> PoolingResult:
    """Pool sites' files; what the sums are of comes from the files, the second stage from here.

    ``asked`` names options that the user gave although the files decide them: UsageError where
    they say something else.
    """
    whole = join_sites(sites)
    chosen = options_of(whole.model, options)
    other = [n for n in asked if getattr(options, n) != getattr(chosen, n)]
    if other:
        raise UsageError(
            f"The sites' files were made with other values of {', '.join(other)}.",
            hint="Leave these options out: the files decide them.",
        )
    studies: dict[str, list[Study]] = {}
    for sums in sorted(whole.trials, key=lambda one: natural(one.trial)):
        for study in effects_of_trial(sums):
            studies.setdefault(study.arm, []).append(study)
    studies = {
        arm: members
        for arm, members in sorted(studies.items())
        if any(study.estimable for study in members)
    }
    if not studies:
        raise EstimationError("No trial of the sites gives an effect.")
    effects: list[EffectRow] = []
    single: list[OneStage] = []
    levels: list[Interactions] = []
    for arm, members in studies.items():
        rows = list(effect_rows(members, chosen))
        one = OneStage(rows=(), check=None)
        if chosen.model != "two-stage":
            one = one_stage(whole.trials, members, chosen)
            if chosen.model == "one-stage" and one.check and one.check.k >= FEW_TRIALS:
                rows = [row for row in rows if row.analysis == "trial"]
        effects += [*rows, *one.rows]
        single.append(one)
        levels.append(interaction_rows([m for m in whole.modifiers if m.arm == arm], chosen))
    by_level = [row for one in levels for row in one.rows]
    beside = joint_rows(joint_fit(whole.trials, studies, chosen), chosen)
    if chosen.model != "two-stage":
        beside += joint_one_stage_rows(whole.trials, studies, chosen)
    warnings = [
        *(text for arm, members in studies.items() for text in few_trials(arm, members)),
        *(text for one in single for text in one.warnings),
        *(text for one in levels for text in one.warnings),
        *([JOINT_MODEL] if any(row.variant == "joint-model" for row in beside) else []),
        *(f"A site refused: {text}" for text in whole.refused),
        *(
            f"The sites mix values of {name}: {', '.join(values)}."
            for name, values in whole.conventions.items()
            if len(values) > 1
        ),
    ]
    return PoolingResult(
        options=chosen,
        name=f"{len(sites)} site{'s' if len(sites) != 1 else ''}",
        unit=definition(chosen.outcome).unit,
        control=chosen.control,
        arms=tuple(studies),
        effects=suppress_effects(
            [*effects, *beside, *suppress_levels(by_level, chosen.min_cell, {})], chosen.min_cell
        ),
        heterogeneity=tuple(
            row for members in studies.values() for row in heterogeneity_rows(members, chosen)
        ),
        by_arm=(),
        integrity=(),
        exclusions=(),
        accounting=None,
        methods=_methods(chosen, len(sites)),
        warnings=tuple(warnings),
        endpoint=f"{chosen.outcome} at {chosen.followup_visit or 'the follow-up'}",
        checks=tuple(one.check for one in single if one.check is not None),
    )


def _methods(options: PoolingOptions, count: int) -> str:
    parts = [
        f"Sums by trial and arm of {count} sites were pooled; no participant's values left a site. "
        f"Each trial's model of {options.outcome} ({options.effect}"
        + (f", adjusted for {', '.join(options.adjust)}" if options.adjust else "")
        + ") is the same function of its sums as of its rows."
    ]
    if options.model != "one-stage":
        parts.append(second_stage_sentence(options))
    if options.model != "two-stage":
        parts.append(one_stage_sentence(options))
    if options.by:
        parts.append(interaction_sentence(options))
    return " ".join(parts)
