"""Each trial's own effects, by the model that the effect measure asks for."""

from __future__ import annotations

from collections.abc import Sequence

from ..endpoint.analysis_set import Analysed
from ..options import EVENTS, STANDARDISED, WIN_ODDS, PoolingOptions
from ..results import Study
from .arm_sums import ArmSums, arm_sums
from .binary import binary_studies
from .cluster import cluster_studies, is_clustered
from .standardised import standardised
from .survival import hazard_studies
from .trial_effects import effects_of_trial
from .worst_rank import win_odds_studies


def sums_of(trials: Sequence[Analysed], options: PoolingOptions) -> tuple[ArmSums, ...]:
    """The sums of each trial's arms; none where the model needs the rows themselves."""
    if options.effect in (*EVENTS, WIN_ODDS):
        return ()
    return tuple(
        arm_sums(trial.trial, trial.rows, nuisance=trial.nuisance, control=options.control)
        for trial in trials
    )


def studies_of(
    trials: Sequence[Analysed], sums: Sequence[ArmSums], options: PoolingOptions
) -> list[Study]:
    """Each trial's effects: of its sums, or of its rows where the outcome is an event."""
    if options.effect == "hazard-ratio":
        return [study for trial in trials for study in hazard_studies(trial, options)]
    if options.effect == WIN_ODDS:
        return [study for trial in trials for study in win_odds_studies(trial, options)]
    if options.effect in EVENTS:
        return [study for trial in trials for study in binary_studies(trial, options)]
    studies: list[Study] = []
    for trial, one in zip(trials, sums, strict=True):
        clustered = is_clustered(trial)
        studies += cluster_studies(trial, options) if clustered else effects_of_trial(one)
    return standardised(trials, studies) if options.effect == STANDARDISED else studies
