"""One-stage models of one active arm, and all active arms in one model, in two stages and in one.

``y ~ 0 + trial + trial:baseline + trial:covariates + treat + (0 + treat | trial)``: what each trial
has of its own is stratified, the effect is random (``pooling.md`` section 2, rules 3 to 6). As
options the trials' intercepts are random too, alone or correlated with the effect; then treatment
and covariates are centred by trial, so that no comparison between trials enters the effect.

Several arms: a trial's contrasts with its control are one vector; their covariance within the trial
comes from its own model (the shared control makes them alike), between trials it is tau² (I + J)/2,
which gives every contrast between any two arms the same variance tau² (Higgins & Whitehead 1996;
Salanti et al. 2008). These rows are in addition to the main analysis of each arm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from ...records import SeriousWarning
from ...statistics.meta import Interval, pool_estimates
from ...statistics.mixed.one_stage import (
    CORRELATED,
    METHODS,
    OneStageFit,
    contrast_interval,
    fit_one_stage,
)
from ...statistics.mixed.sufficient_statistics import (
    INTERCEPT,
    RESIDUALS,
    ModelColumns,
    absorb,
)
from ...statistics.multivariate import MultivariateFit, StudyEstimates, fit_parts
from ..first_stage.arm_sums import (
    OUTCOME,
    ArmFit,
    ArmSums,
    arm_column,
    centre,
    model_block,
    solve_effects,
    whole_trial,
)
from ..options import PoolingOptions
from ..results import EffectRow, OneStageCheck, Study
from .two_stage import (
    as_sensitivity,
    comparison_cells,
    contrast_interval_of,
    estimates_of,
    interval_cells,
    pooled_effect,
    prediction_of,
)

FEW_TRIALS = 5
# The fit with the first stage's variances must be the two-stage fit; both are solved to rounding.
_SELF_CHECK = 1e-6
_JOINT = "all arms in one model (shared control)"
_EFFECT = np.ones((1, 1, 1))
# Of effect and intercept: each with a variance of its own, or the intercept's alone.
_APART, _INTERCEPT = CORRELATED[:2], CORRELATED[1:2]
RANDOM_NAMES = {
    "effect": "an intercept of each trial",
    "intercept": "random trial intercepts",
    "correlated": "random trial intercepts correlated with the effect",
}
RESIDUAL_NAMES = {
    "by-trial": "a residual variance of each trial",
    "common": "one residual variance for all trials",
    "by-trial-and-arm": "a residual variance of each trial and arm",
}


def likelihood_name(options: PoolingOptions) -> str:
    """``reml``, ``ml`` or ``fe``: the moment estimators of the second stage have no likelihood."""
    return options.tau2 if options.tau2 in ("ml", "fe") else "reml"


# ------------------------------------------------------------------ one arm


def fit_arm(
    sums: Sequence[ArmSums],
    arm: str,
    options: PoolingOptions,
    *,
    residual: str | None = None,
    known: np.ndarray | None = None,
    scan: bool = True,
) -> OneStageFit:
    """The model of one arm; the other arms of a trial are its own, as in the first stage.

    The effect is the first coefficient, its variance the first theta (unless it is common).
    ``known`` are residual variances that are not estimated, ``scan`` as of `fit_one_stage`.
    """
    residual = residual or options.residual
    common = options.tau2 == "fe"
    basis = {
        "effect": _EFFECT,
        "intercept": _INTERCEPT if common else _APART,
        "correlated": _INTERCEPT if common else CORRELATED,
    }[options.random_effects]
    treat, stratified = arm_column(arm), options.random_effects == "effect"
    random = (treat,) if stratified else (treat, INTERCEPT)
    blocks = []
    for one in sums:
        own = (*one.nuisance, *(arm_column(other) for other in one.active if other != arm))
        n = sum(summary.n for summary in one.arms.values())
        centres = {}
        # Centring by trial is what makes maximum likelihood right (rule 6); REML does not change.
        if options.tau2 == "ml":
            centres = {treat: one.count(arm) / n}
        if not stratified:
            centres = {arm_column(active): one.count(active) / n for active in one.active}
            centres |= {name: centre(one, name) for name in one.nuisance}
        columns = ModelColumns(
            nuisance=(INTERCEPT, *own) if stratified else own,
            fixed=random,
            random=random,
            outcome=OUTCOME,
        )
        blocks.append(model_block(one, columns, residual=residual, centres=centres))
    return fit_one_stage(
        blocks,
        basis,
        residual=residual,
        restricted=options.tau2 != "ml",
        common_effect=common and stratified,
        held=known,
        scan=scan,
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class OneStage:
    """The rows of one arm's one-stage model, its checks, and sentences for the report."""

    rows: tuple[EffectRow, ...]
    check: OneStageCheck | None
    warnings: tuple[str, ...] = ()


def one_stage(
    sums: Sequence[ArmSums], studies: Sequence[Study], options: PoolingOptions
) -> OneStage:
    """The one-stage analysis of one active arm, over the trials that have an estimate of it.

    ``studies`` are those of the first stage; published effects are not among the participants and
    stay out. Without two trials there is nothing to pool, and no rows.
    """
    mine = [study for study in studies if study.estimable and not study.aggregate]
    if len(mine) < 2:
        return OneStage(rows=(), check=None)
    by_trial = {one.trial: one for one in sums}
    chosen = [by_trial[study.trial] for study in mine]
    arm = mine[0].arm
    try:
        fit = fit_arm(chosen, arm, options)
        check = check_of(fit, chosen, mine, options)
        rows = _rows(fit, mine, options)
    except (ArithmeticError, np.linalg.LinAlgError):
        sentence = f"{arm}: the one-stage model could not be fitted; read the two-stage effect."
        return OneStage(rows=(), check=None, warnings=(sentence,))
    if options.tau2 != "fe":
        rows += _sensitivity(chosen, mine, options)
    warnings = _warnings(arm, fit, check, options)
    aggregates = sum(study.estimable and study.aggregate for study in studies)
    if aggregates:
        warnings.append(
            f"{arm}: the one-stage model is of the trials with participants' data alone; "
            f"{aggregates} published effect{'s are' if aggregates > 1 else ' is'} not in it."
        )
    return OneStage(rows=tuple(rows), check=check, warnings=tuple(warnings))


def intervals_of(fit: OneStageFit, contrast: np.ndarray, options: PoolingOptions) -> list[Interval]:
    """Every interval of a contrast; Kenward-Roger is of REML only."""
    methods = [m for m in METHODS if fit.restricted or m != "kenward-roger"]
    return [contrast_interval(fit, contrast, method, options.level) for method in methods]


def headline_method(fit: OneStageFit, options: PoolingOptions) -> str:
    """The ``ci_method`` of the headline: as asked, Satterthwaite where ML has no Kenward-Roger."""
    asked = options.ci_one_stage
    return "satterthwaite" if asked == "kenward-roger" and not fit.restricted else asked


def _rows(fit: OneStageFit, studies: Sequence[Study], options: PoolingOptions) -> list[EffectRow]:
    theta = effect_variance(fit, options)
    notes = ["tau2 is at its limit of 0"] if theta == 0 and options.tau2 != "fe" else []
    deviation, correlation = intercept_spread(fit, options)
    if deviation is not None:
        also = "" if correlation is None else f", correlation with the effect {correlation:.2f}"
        notes.append(f"random trial intercepts (SD {deviation:.3g}{also})")
    contrast = np.eye(len(fit.beta))[0]
    return [
        pooled_effect(
            studies,
            (float(fit.beta[0]), interval),
            options,
            model="one-stage",
            **prediction_of(float(fit.beta[0]), theta, interval.se, len(studies), options),
            tau2=theta,
            tau2_method=likelihood_name(options),
            headline=interval.method == headline_method(fit, options),
            note="; ".join(notes),
        )
        for interval in intervals_of(fit, contrast, options)
    ]


def _sensitivity(
    sums: Sequence[ArmSums], studies: Sequence[Study], options: PoolingOptions
) -> list[EffectRow]:
    """The headline with the other residual variances, and with a common effect."""
    variants = [
        (options, residual, RESIDUAL_NAMES[residual])
        for residual in RESIDUALS
        if residual != options.residual
    ]
    variants += [
        (replace(options, random_effects=name), options.residual, RANDOM_NAMES[name])
        for name in ("effect", "intercept")
        if name != options.random_effects
    ]
    variants.append((replace(options, tau2="fe"), options.residual, "common effect (tau2 = 0)"))
    # An arm with too few participants cannot have a variance of its own.
    few = any(s.n < len(one.nuisance) + 3 for one in sums for s in one.arms.values())
    rows = []
    for other, residual, words in variants:
        if residual == "by-trial-and-arm" and few:
            continue
        try:
            fit = fit_arm(sums, studies[0].arm, other, residual=residual)
            row = next(row for row in _rows(fit, studies, other) if row.headline)
        except (ArithmeticError, np.linalg.LinAlgError):
            continue
        rows.append(as_sensitivity(row, words))
    return rows


# ------------------------------------------------------------------ checks


def check_of(
    fit: OneStageFit,
    sums: Sequence[ArmSums],
    studies: Sequence[Study],
    options: PoolingOptions,
) -> OneStageCheck:
    """Compare the fit with the two-stage one, and say where a difference comes from.

    With the residual variances of the first stage the one-stage model *is* the two-stage one
    (``pooling.md`` 7.1): a fit that breaks this is wrong, whatever it prints.
    """
    y, v = estimates_of(studies)
    method = likelihood_name(options)
    two = pool_estimates(y, v, method)
    known = np.array([study.residual_sd or math.nan for study in studies]) ** 2
    plain = replace(options, tau2="fe" if method == "fe" else "reml", random_effects="effect")
    fixed = fit_arm(sums, studies[0].arm, plain, residual="by-trial", known=known)
    reference = pool_estimates(y, v, plain.tau2)
    gap = abs(float(fixed.beta[0]) - reference.estimate) / reference.se_wald
    gap = max(
        gap, abs(effect_variance(fixed, plain) - reference.tau2) / (reference.tau2 + float(v.min()))
    )
    estimate = float(fit.beta[0])
    deviation, correlation = intercept_spread(fit, options)
    return OneStageCheck(
        arm=studies[0].arm,
        k=len(studies),
        residual=options.residual,
        criterion=fit.criterion,
        steps=fit.checks.steps,
        starts=fit.checks.starts,
        gradient=fit.checks.gradient,
        scan_gain=fit.checks.scan_gain,
        converged=fit.checks.converged,
        self_check=gap,
        two_stage=two.estimate,
        difference=estimate - two.estimate,
        tau2_two_stage=two.tau2,
        tau2_one_stage=effect_variance(fit, options),
        reason=_reason(estimate - two.estimate, two.se_wald, known, options),
        random_effects=options.random_effects,
        intercept_sd=deviation,
        correlation=correlation,
    )


def _reason(difference: float, se: float, variances: np.ndarray, options: PoolingOptions) -> str:
    if abs(difference) < 1e-3 * se:
        return "no relevant difference"
    if options.random_effects == "correlated":
        return (
            "the trials' intercepts are random and correlated with the effect, so that a trial's "
            "level informs its effect"
        )
    if options.residual == "common":
        ratio = math.sqrt(float(variances.max() / variances.min()))
        return (
            "one residual variance is assumed for all trials, while the residual SDs of the trials "
            f"differ by a factor of up to {ratio:.2f}"
        )
    if options.residual == "by-trial-and-arm":
        return "the arms have residual variances of their own; the first stage has one per trial"
    return (
        "the trials' residual variances are estimated together with the effect, not taken from "
        "each trial as known"
    )


def _warnings(
    arm: str, fit: OneStageFit, check: OneStageCheck, options: PoolingOptions
) -> list[str]:
    found: list[str] = []
    if check.k < FEW_TRIALS:
        found.append(
            f"{arm}: with fewer than five trials Kenward-Roger intervals can be very wide or rest "
            "on hardly any degrees of freedom; compare them with the two-stage intervals."
        )
    if not check.converged:
        sentence = f"{arm}: the one-stage fit did not converge (gradient {check.gradient:.1e} "
        found.append(SeriousWarning(f"{sentence}standard errors): do not use its numbers."))
    if check.self_check > _SELF_CHECK:
        sentence = f"{arm}: the one-stage model does not give the two-stage effect where it must "
        off = f"(off by {check.self_check:.1e} standard errors): do not use its numbers."
        found.append(SeriousWarning(sentence + off))
    if check.scan_gain > 0:
        found.append(
            f"{arm}: the likelihood of the one-stage model has several maxima; the highest is used."
        )
    if options.residual != "common" and abs(check.difference) > 0.5 * math.sqrt(
        float(fit.covariance[0, 0])
    ):
        found.append(
            f"{arm}: one- and two-stage effects differ by more than half a standard error: "
            f"{check.reason}."
        )
    return found


# ------------------------------------------------------------------ all arms together


@dataclass(frozen=True, slots=True, kw_only=True)
class JointModel:
    """All active arms in one model: ``arms`` in the order of its coefficients, ``trials`` of each.

    ``fit`` is of two stages or of one.
    """

    arms: tuple[str, ...]
    fit: Any
    trials: Mapping[str, frozenset[str]]


def _joint(given: Mapping[str, Sequence[str]], fit: Any) -> JointModel:
    arms = tuple(sorted({arm for own in given.values() for arm in own}))
    trials = {arm: frozenset(t for t, own in given.items() if arm in own) for arm in arms}
    return JointModel(arms=arms, fit=fit, trials=trials)


def joint_fit(
    sums: Sequence[ArmSums], studies: Mapping[str, Sequence[Study]], options: PoolingOptions
) -> JointModel | None:
    """The two-stage model of all arms; None unless a trial has two, or where it cannot be fitted.

    ``studies`` by arm; published effects enter as trials of one contrast.
    """
    found = {(s.trial, arm): s for arm, own in studies.items() for s in own if s.estimable}
    given: dict[str, list[str]] = {}
    for trial, arm in sorted(found):
        given.setdefault(trial, []).append(arm)
    if not any(len(own) > 1 for own in given.values()):
        return None
    arms = sorted({arm for _, arm in found})
    known = {one.trial: one for one in sums}
    parts = []
    for trial, own in given.items():
        within = np.diag([float(found[trial, arm].se or 0.0) ** 2 for arm in own])
        fit: ArmFit | str = "no sums"
        if trial in known:  # the covariance of its contrasts with the control, of its own model
            sum_, names = known[trial], [arm_column(arm) for arm in known[trial].active]
            left = absorb(whole_trial(sum_, [*sum_.nuisance, *names, OUTCOME]), sum_.nuisance)
            fit = solve_effects(left, names)
            if isinstance(fit, ArmFit):
                at = [sum_.active.index(arm) for arm in own]
                within = fit.covariance[np.ix_(at, at)]
        if len(own) > 1 and not isinstance(fit, ArmFit):
            return None
        parts.append(
            StudyEstimates(
                y=np.array([found[trial, arm].estimate for arm in own], dtype=float),
                within=within,
                between=(np.eye(len(own)) + 1.0) / 2.0,
                x=np.array([[float(arm == name) for name in arms] for arm in own]),
            )
        )
    try:
        joint = fit_parts(parts, method=likelihood_name(options))
    except (ArithmeticError, np.linalg.LinAlgError):
        return None
    return _joint(given, joint) if joint.df > 0 else None


def joint_model(
    sums: Sequence[ArmSums], given: Mapping[str, set[str]], options: PoolingOptions
) -> JointModel | None:
    """The one-stage model of all arms with their shared control; None unless a trial has two.

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
    return _joint({trial: sorted(own) for trial, own in given.items()}, fit)


def all_arm_rows(
    sums: Sequence[ArmSums], studies: Mapping[str, Sequence[Study]], options: PoolingOptions
) -> list[EffectRow]:
    """Each arm against the shared control, and the arms against each other, in two stages and one.

    One stage is of the trials with participants' data. No rows unless a trial has two active arms,
    or where the model cannot be fitted.
    """
    rows: list[EffectRow] = []
    joint = joint_fit(sums, studies, options)
    if joint is not None:
        two: MultivariateFit = joint.fit

        def by_two(contrast: np.ndarray) -> Interval:
            return contrast_interval_of(two, contrast, options.headline_ci, options)[1]

        rows += _contrast_rows(joint, two.coefficients, by_two, options, tau2=two.tau2)
    given: dict[str, set[str]] = {}
    for arm, members in studies.items() if options.model != "two-stage" else ():
        for study in members:
            if study.estimable and not study.aggregate:
                given.setdefault(study.trial, set()).add(arm)
    try:
        joint = joint_model(sums, given, options)
    except (ArithmeticError, np.linalg.LinAlgError):
        return rows
    if joint is not None and joint.fit.checks.converged:
        fit: OneStageFit = joint.fit
        method = headline_method(fit, options)

        def by_one(contrast: np.ndarray) -> Interval:
            return contrast_interval(fit, contrast, method, options.level)

        cells = {"model": "one-stage", "tau2": float(fit.theta[0])}
        rows += _contrast_rows(joint, fit.beta, by_one, options, **cells)
    return rows


def _contrast_rows(
    joint: JointModel,
    coefficients: np.ndarray,
    interval_of: Callable[[np.ndarray], Interval],
    options: PoolingOptions,
    **cells: Any,
) -> list[EffectRow]:
    unit = np.eye(len(joint.arms))
    pairs = [(arm, options.control, unit[i]) for i, arm in enumerate(joint.arms)]
    pairs += [
        (joint.arms[j], joint.arms[i], unit[j] - unit[i])
        for i, j in combinations(range(len(joint.arms)), 2)
    ]
    rows = []
    for arm, control, contrast in pairs:
        try:
            interval = interval_of(contrast)
        except ArithmeticError:
            continue
        label = _JOINT if control == options.control else f"{_JOINT}, {arm} against {control}"
        rows.append(
            EffectRow(
                analysis="pooled",
                **comparison_cells(options, arm, control),
                **interval_cells(float(contrast @ coefficients), interval, options),
                k=len(joint.trials[arm] | joint.trials.get(control, frozenset())),
                tau2_method=likelihood_name(options),
                variant="joint-model",
                label=label,
                note=f"sensitivity: {label}",
                **cells,
            )
        )
    return rows
