"""All active arms in one model: a shared control's covariance is used, arms can be compared.

In the second stage a trial's contrasts with its control are one vector; their covariance within the
trial comes from its own model (the shared control makes them alike), between trials it is
tau² (I + J)/2, which gives every contrast between any two arms the same variance tau² (Higgins &
Whitehead 1996; Salanti et al. 2008). One arm alone is pooled by the main analysis; these rows
stand beside it, with the active arms compared with each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ...statistics.meta import t_interval
from ...statistics.mixed.sufficient_statistics import absorb
from ...statistics.multivariate import MultivariateFit, Part, fit_parts
from ..first_stage.arm_sums import OUTCOME, ArmSums, arm_column, whole_trial
from ..first_stage.trial_effects import ArmFit, solve_effects
from ..options import PoolingOptions
from ..results import EffectRow, Study
from .two_stage import interval_cells

JOINT = "all arms in one model (shared control)"


@dataclass(frozen=True, slots=True, kw_only=True)
class JointFit:
    """The joint model: ``arms`` in the order of its coefficients, ``k`` trials of each arm."""

    arms: tuple[str, ...]
    fit: MultivariateFit
    trials: Mapping[str, frozenset[str]]


def joint_fit(
    sums: Sequence[ArmSums], studies: Mapping[str, Sequence[Study]], options: PoolingOptions
) -> JointFit | None:
    """The model of all arms; None unless a trial has two active arms, or where it cannot be fitted.

    ``studies`` by arm; published effects enter as trials of one contrast.
    """
    given = {
        (study.trial, arm): study
        for arm, members in studies.items()
        for study in members
        if study.estimable
    }
    arms = tuple(sorted({arm for _, arm in given}))
    by_trial: dict[str, list[str]] = {}
    for trial, arm in sorted(given):
        by_trial.setdefault(trial, []).append(arm)
    if not any(len(own) > 1 for own in by_trial.values()):
        return None
    known = {one.trial: one for one in sums}
    parts = []
    for trial, own in by_trial.items():
        within = _within(known.get(trial), own)
        if within is None:
            within = np.diag([float(given[trial, arm].se or 0.0) ** 2 for arm in own])
            if len(own) > 1:
                return None
        x = np.array([[float(arm == name) for name in arms] for arm in own])
        parts.append(
            Part(
                y=np.array([given[trial, arm].estimate for arm in own], dtype=float),
                within=within,
                between=(np.eye(len(own)) + 1.0) / 2.0,
                x=x,
            )
        )
    method = options.tau2 if options.tau2 in ("ml", "fe") else "reml"
    try:
        fit = fit_parts(parts, method=method)
    except (ArithmeticError, np.linalg.LinAlgError):
        return None
    trials = {arm: frozenset(t for t, own in by_trial.items() if arm in own) for arm in arms}
    return JointFit(arms=arms, fit=fit, trials=trials) if fit.df > 0 else None


def _within(sums: ArmSums | None, own: Sequence[str]) -> np.ndarray | None:
    """The covariance of the trial's contrasts with its control, of its own model."""
    if sums is None:
        return None
    names = [arm_column(arm) for arm in sums.active]
    fit = solve_effects(
        absorb(whole_trial(sums, [*sums.nuisance, *names, OUTCOME]), sums.nuisance), names
    )
    if not isinstance(fit, ArmFit):
        return None
    at = [sums.active.index(arm) for arm in own]
    return fit.covariance[np.ix_(at, at)]


def joint_rows(joint: JointFit | None, options: PoolingOptions) -> list[EffectRow]:
    """Each arm against the control, and the active arms against each other, of the joint model."""
    if joint is None:
        return []
    size = len(joint.arms)
    rows = [
        _row(joint, arm, options.control, np.eye(size)[i], options)
        for i, arm in enumerate(joint.arms)
    ]
    for i, j in combinations(range(size), 2):
        rows.append(
            _row(joint, joint.arms[j], joint.arms[i], np.eye(size)[j] - np.eye(size)[i], options)
        )
    return rows


def _row(
    joint: JointFit, arm: str, control: str, contrast: np.ndarray, options: PoolingOptions
) -> EffectRow:
    fit = joint.fit
    estimate = float(contrast @ fit.coefficients)
    if options.headline_ci == "wald":
        covariance, df = fit.covariance, float("inf")
    else:
        covariance = fit.scaled(truncated=options.headline_ci == "hksj-truncated")
        df = float(fit.df)
    se = float(np.sqrt(contrast @ covariance @ contrast))
    interval = t_interval(estimate, se, df, options.level, options.headline_ci)
    among = joint.trials[arm] | joint.trials.get(control, frozenset())
    label = JOINT if control == options.control else f"{JOINT}, {arm} against {control}"
    return EffectRow(
        analysis="pooled",
        outcome=options.outcome,
        effect=options.effect,
        arm=arm,
        control=control,
        **interval_cells(estimate, interval, options),
        tau2=fit.tau2,
        k=len(among),
        tau2_method=options.tau2 if options.tau2 in ("ml", "fe") else "reml",
        variant="joint-model",
        label=label,
        note=f"sensitivity: {label}",
    )
