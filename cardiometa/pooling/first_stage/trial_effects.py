"""The first stage: each trial's own model, from its sums alone.

ANCOVA ``follow-up ~ arm + baseline + covariates`` with all arms of the trial in one model, so
that comparisons with a shared control use one residual variance. The same as R's ``lm`` on the
rows: intercept, baseline and covariates are absorbed (Frisch, Waugh, Lovell), then the arms are
solved for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...records import TrialSummary
from ...statistics.mixed.sufficient_statistics import (
    ALIAS_TOLERANCE,
    AbsorbedSums,
    absorb,
    constant_columns,
)
from ..results import Study
from .arm_sums import OUTCOME, ArmSums, arm_column, whole_trial

# Less than this share of the outcome's sum of squares left over is rounding, not variation.
_NO_RESIDUAL = 1e-12


def effects_of_trial(sums: ArmSums) -> tuple[Study, ...]:
    """One `Study` for each active arm of the trial against its control.

    A comparison that the trial's data cannot give (an arm without people, an arm that a covariate
    explains wholly, no residual degrees of freedom, an outcome without variation) has no estimate
    and a note that says why. Nothing is guessed.
    """
    arm_names = [arm_column(arm) for arm in sums.active]
    n_control = sums.count(sums.control)
    summary = whole_trial(sums, [*sums.nuisance, *arm_names, OUTCOME])
    left = absorb(summary, sums.nuisance)
    fit = _reason_without_fit(summary, n_control) or solve_effects(left, arm_names)
    studies = []
    for position, arm in enumerate(sums.active):
        reason = fit if isinstance(fit, str) else fit.reasons[position]
        given = fit if isinstance(fit, ArmFit) and not reason else None
        studies.append(
            Study(
                trial=summary.trial,
                arm=arm,
                control=sums.control,
                n_control=n_control,
                n_active=sums.count(arm),
                n=n_control + sums.count(arm),
                estimate=float(given.estimates[position]) if given else None,
                se=float(given.covariance[position, position]) ** 0.5 if given else None,
                df=float(given.df) if given else float("inf"),
                residual_sd=given.residual_sd if given else None,
                note="; ".join(part for part in (reason, _alias_note(left.aliased)) if part),
            )
        )
    return tuple(studies)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFit:
    """Estimates and covariance of the effects; ``reasons`` is empty where one can be given."""

    estimates: np.ndarray
    covariance: np.ndarray
    df: int
    residual_sd: float
    reasons: tuple[str, ...]


def _alias_note(aliased: Sequence[str]) -> str:
    if not aliased:
        return ""
    return f"not adjusted for {', '.join(aliased)} (constant or explained by the others here)"


def _reason_without_fit(summary: TrialSummary, n_control: int) -> str:
    if n_control <= 0:
        return "no participant analysed in the control arm"
    if OUTCOME in constant_columns(summary):
        return "the outcome does not vary: no standard error"
    return ""


def solve_effects(left: AbsorbedSums, arm_names: Sequence[str]) -> ArmFit | str:
    """Estimates of the arms from the absorbed sums, or the reason there are none."""
    r = len(arm_names)
    treat, cross = left.cross_products[:r, :r], left.cross_products[:r, r]
    # Arms are compared on the scale of their own variation before the nuisance was taken out.
    scale = np.sqrt(left.original[:r])
    empty = scale == 0
    if empty.all():
        return "no participant analysed in the active arm"
    scale = np.where(empty, 1.0, scale)
    values, vectors = np.linalg.eigh(treat / np.outer(scale, scale))
    present = values > ALIAS_TOLERANCE * r
    rank = int(present.sum())
    df = left.contrasts - rank
    if df < 1:
        return "too few participants for the model: no residual degrees of freedom"
    inverse = (vectors[:, present] / values[present]) @ vectors[:, present].T
    inverse = inverse / np.outer(scale, scale)
    estimates = inverse @ cross
    rss = float(left.cross_products[r, r] - cross @ estimates)
    if rss <= _NO_RESIDUAL * float(left.original[r]):
        return "the model explains the outcome wholly: no standard error"
    # An arm is estimable where no direction without information touches it.
    blocked = (np.abs(vectors[:, ~present]) > 1e-6).any(axis=1)
    return ArmFit(
        estimates=estimates,
        covariance=rss / df * inverse,
        df=df,
        residual_sd=float(np.sqrt(rss / df)),
        reasons=tuple(_blocked_reason(b, e) for b, e in zip(blocked, empty, strict=True)),
    )


def _blocked_reason(blocked: bool, empty: bool) -> str:  # noqa: FBT001 - two facts of one arm
    if empty:
        return "no participant analysed in the active arm"
    return "the covariates explain this arm wholly: no effect to tell apart" if blocked else ""
