"""Treatment by covariate interactions from within the trials alone, in two stages.

Each trial gives its own interaction, from its own people; between-trial differences in the
covariate never enter (``pooling.md`` 2.3; Fisher et al. 2017, doi:10.1136/bmj.j573).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...statistics.mixed.sufficient_statistics import absorb
from ...statistics.multivariate import (
    FloatingEffects,
    LevelEffects,
    MultivariateFit,
    Part,
    contrasts_of,
    fit_parts,
    floating_effects,
)
from ..first_stage.arm_sums import OUTCOME, PRODUCT, ArmSums, arm_column, centre, whole_trial
from ..first_stage.first_stage import natural
from ..first_stage.trial_effects import ArmFit, solve_effects
from .modifiers import VALUE, ModifierSums, level_column


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialInteraction:
    """One trial's part: a slope's interaction (``levels`` empty), or effects of its levels.

    ``note`` says why there is none.
    """

    trial: str
    levels: tuple[str, ...] = ()
    estimates: np.ndarray | None = None
    covariance: np.ndarray | None = None
    df: float = float("inf")
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledInteraction:
    """The interactions of one modifier; ``contrasts`` name them, in the order of ``fit``.

    ``floating`` are the effects of ``levels``; None for a number. ``apart`` are levels that no
    trial compares with the reference.
    """

    modifier: ModifierSums
    trials: tuple[TrialInteraction, ...]
    levels: tuple[str, ...]
    fit: MultivariateFit | None
    floating: FloatingEffects | None
    k: int
    apart: tuple[str, ...] = ()


def pool_interaction(
    modifier: ModifierSums, method: str, trials: tuple[TrialInteraction, ...] | None = None
) -> PooledInteraction:
    """Both stages for one modifier; ``method`` as in `fit_parts`.

    ``trials`` are the first stage where the sums do not give it (events).
    """
    if trials is None:
        trials = tuple(trial_interaction(sums, modifier) for sums in modifier.sums)
    trials = tuple(sorted(trials, key=lambda trial: natural(trial.trial)))
    usable = [trial for trial in trials if trial.estimates is not None]
    if modifier.numeric:
        parts = [_slope(trial) for trial in usable]
        fit = fit_parts(parts, method=method) if parts else None
        return PooledInteraction(
            modifier=modifier, trials=trials, levels=(), fit=fit, floating=None, k=len(parts)
        )
    levels, apart = connected_levels(modifier.levels, usable)
    effects = [e for e in (_of_levels(trial, levels) for trial in usable) if e is not None]
    contrasts = [part for e in effects if (part := contrasts_of(e, len(levels))) is not None]
    if len(levels) < 2 or not contrasts:
        return PooledInteraction(
            modifier=modifier,
            trials=trials,
            levels=levels,
            fit=None,
            floating=None,
            k=0,
            apart=apart,
        )
    fit = fit_parts(contrasts, method=method)
    return PooledInteraction(
        modifier=modifier,
        trials=trials,
        levels=levels,
        fit=fit,
        floating=floating_effects(effects, fit, method=method),
        k=len(contrasts),
        apart=apart,
    )


def _slope(trial: TrialInteraction) -> Part:
    assert trial.estimates is not None
    assert trial.covariance is not None
    return Part(
        y=trial.estimates, within=trial.covariance, between=np.ones((1, 1)), x=np.ones((1, 1))
    )


def _of_levels(trial: TrialInteraction, levels: Sequence[str]) -> LevelEffects | None:
    """A trial's effects of the levels that are pooled."""
    assert trial.estimates is not None
    assert trial.covariance is not None
    keep = [i for i, level in enumerate(trial.levels) if level in levels]
    if not keep:
        return None
    return LevelEffects(
        levels=tuple(levels.index(trial.levels[i]) for i in keep),
        b=trial.estimates[keep],
        covariance=trial.covariance[np.ix_(keep, keep)],
    )


def trial_interaction(sums: ArmSums, modifier: ModifierSums) -> TrialInteraction:
    """One trial's own model: ``outcome ~ treat * x + baseline + covariates``."""
    arm = modifier.arm
    if modifier.numeric:
        wanted = [arm_column(arm), f"{PRODUCT}{VALUE}"]
        nuisance = [*sums.nuisance, VALUE]
        centres = {VALUE: centre(sums, VALUE)}
        levels: tuple[str, ...] = ()
    else:
        levels = modifier.levels_of(sums)
        wanted = [f"{PRODUCT}{level_column(level)}" for level in levels]
        nuisance = [*sums.nuisance, *map(level_column, levels[1:])]
        centres = {}
    left = absorb(whole_trial(sums, [*nuisance, *wanted, OUTCOME], centres), nuisance)
    fit = solve_effects(left, wanted)
    if not isinstance(fit, ArmFit):
        return TrialInteraction(trial=sums.trial, levels=levels, note=fit)
    blocked = [reason for reason in fit.reasons if reason]
    if modifier.numeric:
        if fit.reasons[1] or VALUE in left.aliased:
            return TrialInteraction(trial=sums.trial, note="the covariate does not vary enough")
        return TrialInteraction(
            trial=sums.trial,
            estimates=fit.estimates[1:],
            covariance=fit.covariance[1:, 1:],
            df=fit.df,
        )
    if blocked:
        return TrialInteraction(trial=sums.trial, levels=levels, note=blocked[0])
    return TrialInteraction(
        trial=sums.trial,
        levels=levels,
        estimates=fit.estimates,
        covariance=fit.covariance,
        df=fit.df,
    )


def connected_levels(
    levels: Sequence[str], trials: Sequence[TrialInteraction]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The levels that trials compare, directly or through others, with the reference; the rest."""
    if not levels:
        return (), ()
    reached = {levels[0]}
    for _ in levels:
        for trial in trials:
            if reached & set(trial.levels):
                reached |= set(trial.levels)
    return (
        tuple(level for level in levels if level in reached),
        tuple(level for level in levels if level not in reached),
    )
