"""Pooling the files of sites: the same rows as from the participants, from their sums alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import EstimationError, UsageError
from ...records import SeriousWarning
from ...statistics.measurement_error import ErrorInput
from ...statistics.mixed.sufficient_statistics import transform_summary
from ..error_model import with_error_rows
from ..first_stage.arm_sums import OUTCOME, ArmSums, effects_of_trial
from ..methods import interaction_sentence, one_stage_sentence, second_stage_sentence
from ..options import PoolingOptions
from ..pool import UNADJUSTED, headlines, pool
from ..results import EffectRow, PoolingResult, Study, natural
from .site import SiteSummary, join_sites, options_of

_BASELINE = "baseline"


def pool_sites(
    sites: Sequence[SiteSummary],
    options: PoolingOptions,
    *,
    asked: Sequence[str] = (),
    error: ErrorInput | None = None,
) -> PoolingResult:
    """Pool sites' files; what the sums are of comes from the files, the second stage from here.

    ``asked`` names options that the user gave although the files decide them: UsageError where
    they say something else. ``error`` is what is known of the measurement's error.
    """
    joined = join_sites(sites)
    chosen = options_of(joined.model, options)
    other = [n for n in asked if getattr(options, n) != getattr(chosen, n)]
    if other:
        raise UsageError(
            f"The sites' files were made with other values of {', '.join(other)}.",
            hint="Leave these options out: the files decide them.",
        )
    studies = _studies(joined.trials)
    if not studies:
        raise EstimationError("No trial of the sites gives an effect.")
    mixed = [
        SeriousWarning(f"The sites mix values of {name}: {', '.join(values)}.")
        for name, values in joined.conventions.items()
        if len(values) > 1
    ]
    extra, not_done = _sensitivity(joined, studies, chosen)
    modifiers = {arm: [m for m in joined.modifiers if m.arm == arm] for arm in studies}
    result = pool(
        studies,
        chosen,
        sums=joined.trials,
        extra=extra,
        modifiers=modifiers,
        warnings=(
            (),
            [
                *(SeriousWarning(f"A site refused: {text}") for text in joined.refused),
                *mixed,
                *not_done,
            ],
        ),
        conventions=joined.conventions,
        name=f"{len(sites)} site{'s' if len(sites) != 1 else ''}",
        methods=_methods(chosen, len(sites)),
        endpoint=f"{chosen.outcome} at {chosen.followup_visit or 'the follow-up'}",
    )
    if error is None:
        return result
    return with_error_rows(result, studies, joined.trials, modifiers, error)


def _studies(trials: Sequence[ArmSums]) -> dict[str, list[Study]]:
    """The studies of each active arm with an estimate, trials in order of name."""
    studies: dict[str, list[Study]] = {}
    for sums in sorted(trials, key=lambda one: natural(one.trial)):
        for study in effects_of_trial(sums):
            studies.setdefault(study.arm, []).append(study)
    return {
        arm: members
        for arm, members in sorted(studies.items())
        if any(study.estimable for study in members)
    }


def _sensitivity(
    joined: SiteSummary, studies: Mapping[str, Sequence[Study]], options: PoolingOptions
) -> tuple[list[EffectRow], list[str]]:
    """Besides ANCOVA the change score and the follow-up alone, which are linear in its sums.

    Only where they are of the same participants: a change needs each baseline as it was
    measured, and complete cases of the baseline are not those of the follow-up.
    """
    if options.effect != "mean-difference":
        return [], []
    rows: list[EffectRow] = []
    not_done = []
    complete = options.missing_baseline == "complete"
    for effect, label in UNADJUSTED.items():
        if effect == "change" and joined.imputed:
            not_done.append(
                f"No sensitivity analysis {label}: values of {', '.join(sorted(joined.imputed))} "
                "were replaced by the trial's mean. The sites would have to use --missing-baseline "
                "complete, or to send a summary of --effect change."
            )
        elif effect == "follow-up" and complete:
            not_done.append(
                f"No sensitivity analysis {label}: the sums are of participants with a baseline. "
                "The sites would have to send a summary of --effect follow-up."
            )
        else:
            changes: dict[str, Any] = {"effect": effect}
            other, sums = replace(options, **changes), []
            for one in joined.trials:
                kept = [name for name in one.columns if name != _BASELINE]
                forms = np.zeros((1 + len(one.columns), len(kept)))
                forms[[1 + one.columns.index(name) for name in kept], range(len(kept))] = 1.0
                if effect == "change":
                    forms[1 + one.columns.index(_BASELINE), kept.index(OUTCOME)] = -1.0
                arms = {arm: transform_summary(s, kept, forms) for arm, s in one.arms.items()}
                nuisance = tuple(name for name in one.nuisance if name != _BASELINE)
                sums.append(replace(one, nuisance=nuisance, arms=arms))
            again = _studies(sums)
            for arm in again:
                rows += headlines(sums, again[arm], other, label) if arm in studies else []
    return rows, not_done


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
