"""Which one-stage model is fitted: of one active arm, or of all arms with their shared control.

``y ~ 0 + trial + trial:baseline + trial:covariates + treat + (0 + treat | trial)``: what each trial
has of its own is stratified, the effect is random (``pooling.md`` section 2, rules 3 to 6). As
options the trials' intercepts are random too, alone or correlated with the effect; then treatment
and covariates are centred by trial, so that no comparison between trials enters the effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..estimation.blocks import ModelColumns, TrialBlock
from ..estimation.one_stage import CORRELATED, OneStageFit, fit_one_stage
from .arm_sums import INTERCEPT, OUTCOME, ArmSums, arm_column, centre, model_block
from .options import PoolingOptions

_EFFECT = np.ones((1, 1, 1))
# Of effect and intercept: each with a variance of its own, or the intercept's alone.
_APART, _INTERCEPT = CORRELATED[:2], CORRELATED[1:2]
RANDOM_NAMES = {
    "effect": "an intercept of each trial",
    "intercept": "random trial intercepts",
    "correlated": "random trial intercepts correlated with the effect",
}


def fit_arm(
    sums: Sequence[ArmSums],
    arm: str,
    options: PoolingOptions,
    *,
    residual: str | None = None,
    held: np.ndarray | None = None,
) -> OneStageFit:
    """The model of one arm; the other arms of a trial are its own, as in the first stage.

    The effect is the first coefficient, its variance the first theta (unless it is common).
    ``held`` are residual variances that are taken as known.
    """
    residual = residual or options.residual
    common = options.tau2 == "fe"
    basis = {
        "effect": _EFFECT,
        "intercept": _INTERCEPT if common else _APART,
        "correlated": _INTERCEPT if common else CORRELATED,
    }[options.random_effects]
    return fit_one_stage(
        [_block(one, arm, options, residual) for one in sums],
        basis,
        residual=residual,
        restricted=options.tau2 != "ml",
        common_effect=common and options.random_effects == "effect",
        held=held,
    )


def _block(sums: ArmSums, arm: str, options: PoolingOptions, residual: str) -> TrialBlock:
    treat = arm_column(arm)
    others = tuple(arm_column(other) for other in sums.active if other != arm)
    own = (*sums.nuisance, *others)
    n = sum(summary.n for summary in sums.arms.values())
    stratified = options.random_effects == "effect"
    # Centring by trial is what makes maximum likelihood right (rule 6); REML does not change.
    centred = () if stratified and options.tau2 != "ml" else (treat,)
    centres = {name: sums.count(name.removeprefix(arm_column(""))) / n for name in centred}
    if not stratified:
        centres |= {arm_column(other): sums.count(other) / n for other in sums.active}
        centres |= {name: centre(sums, name) for name in sums.nuisance}
    random = (treat,) if stratified else (treat, INTERCEPT)
    columns = ModelColumns(
        nuisance=(INTERCEPT, *own) if stratified else own,
        fixed=random,
        random=random,
        outcome=OUTCOME,
    )
    return model_block(sums, columns, residual=residual, centres=centres)


def effect_variance(fit: OneStageFit, options: PoolingOptions) -> float:
    """tau² of the effect; 0 where it is common."""
    return 0.0 if options.tau2 == "fe" else float(fit.theta[0])


def intercept_spread(
    fit: OneStageFit, options: PoolingOptions
) -> tuple[float | None, float | None]:
    """SD of the random intercepts, and their correlation with the effect; None without."""
    if options.random_effects == "effect":
        return None, None
    if options.tau2 == "fe":
        return float(fit.theta[0]) ** 0.5, None
    effect, intercept = (float(value) for value in fit.theta[:2])
    if options.random_effects == "intercept" or effect == 0 or intercept == 0:
        return intercept**0.5, None
    return intercept**0.5, float(fit.theta[2]) / (effect * intercept) ** 0.5


# ------------------------------------------------------------------ several arms


@dataclass(frozen=True, slots=True, kw_only=True)
class JointOneStage:
    """All active arms in one model: ``arms`` by coefficient, ``trials`` of each."""

    arms: tuple[str, ...]
    fit: OneStageFit
    trials: dict[str, frozenset[str]]


def joint_model(
    sums: Sequence[ArmSums], given: dict[str, set[str]], options: PoolingOptions
) -> JointOneStage | None:
    """The model of all arms with their shared control; None unless a trial has two active arms.

    ``given`` names each trial's active arms that have an estimate. Between trials the effects have
    covariance tau² (I + J)/2, so that any two arms differ with variance tau² (``pooling.md`` 7.5).
    """
    arms = tuple(sorted({arm for own in given.values() for arm in own}))
    if len(arms) < 2 or len(given) < 2 or not any(len(own) > 1 for own in given.values()):
        return None
    columns = tuple(arm_column(arm) for arm in arms)
    blocks = []
    for one in sums:
        if one.trial not in given:
            continue
        others = tuple(arm_column(a) for a in one.active if a not in given[one.trial])
        model = ModelColumns(
            nuisance=(INTERCEPT, *one.nuisance, *others),
            fixed=columns,
            random=columns,
            outcome=OUTCOME,
        )
        n = sum(summary.n for summary in one.arms.values())
        ml = options.tau2 == "ml"
        centres = {arm_column(a): one.count(a) / n for a in given[one.trial]} if ml else {}
        blocks.append(model_block(one, model, residual=options.residual, centres=centres))
    fit = fit_one_stage(
        blocks,
        0.5 * (np.eye(len(arms)) + 1.0)[None],
        residual=options.residual,
        restricted=options.tau2 != "ml",
        common_effect=options.tau2 == "fe",
    )
    trials = {arm: frozenset(t for t, own in given.items() if arm in own) for arm in arms}
    return JointOneStage(arms=arms, fit=fit, trials=trials)
