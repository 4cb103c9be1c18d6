"""The sums of each arm of each trial: all that the Gaussian models of pooling need of the rows.

Within an arm the treatment is constant, so the sums of baseline, covariates and outcome by arm give
the treatment, its products with any covariate, and models of any coding, exactly. The same sums
feed the two-stage and one-stage models and the files of federated pooling.

The first stage is each trial's ANCOVA ``follow-up ~ arm + baseline + covariates``, all arms of a
trial in one model, so that comparisons with a shared control use one residual variance. The same as
R's ``lm`` on the rows: intercept, baseline and covariates are absorbed (Frisch, Waugh, Lovell),
then the arms are solved for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd

from ...statistics.mixed.sufficient_statistics import (
    ALIAS_TOLERANCE,
    INTERCEPT,
    AbsorbedSums,
    ModelColumns,
    TrialBlock,
    TrialSummary,
    absorb,
    constant_columns,
    merge_summaries,
    summarise_rows,
    transform_summary,
    trial_block,
)
from ..results import Study

OUTCOME = "outcome"
ARM_PREFIX = "arm:"
PRODUCT = "treat*"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSums:
    """One trial's arms in order (the control first where there is one), each with its sums.

    ``nuisance`` are the columns of every model of the trial; the others are the outcome and the
    covariates that may modify the effect.
    """

    trial: str
    control: str
    nuisance: tuple[str, ...]
    arms: Mapping[str, TrialSummary]

    @property
    def active(self) -> tuple[str, ...]:
        """The arms that are not the control."""
        return tuple(arm for arm in self.arms if arm != self.control)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the sums."""
        return next(iter(self.arms.values())).columns

    def count(self, arm: str) -> int:
        """Participants of one arm, 0 where the trial has none."""
        return self.arms[arm].n if arm in self.arms else 0


def arm_column(arm: str) -> str:
    """The name of an arm's indicator among a model's columns."""
    return f"{ARM_PREFIX}{arm}"


def arm_sums(
    trial: str,
    rows: pd.DataFrame,
    *,
    nuisance: pd.DataFrame,
    control: str,
    modifiers: pd.DataFrame | None = None,
) -> ArmSums:
    """The sums of one trial's rows by arm.

    ``rows`` has ``arm`` and ``outcome``; ``nuisance`` and ``modifiers`` the same index, complete,
    numeric, with different names.
    """
    parts = [nuisance] if modifiers is None else [nuisance, modifiers]
    names = [str(name) for part in parts for name in part.columns]
    values = [part[name].to_numpy(dtype=float) for part in parts for name in part.columns]
    table = np.array([*values, rows["outcome"].to_numpy(dtype=float)])
    order = sorted(set(rows["arm"].unique()), key=lambda name: (name != control, name))
    return ArmSums(
        trial=trial,
        control=control,
        nuisance=tuple(map(str, nuisance.columns)),
        arms={
            str(name): summarise_rows(
                trial, [*names, OUTCOME], table[:, (rows["arm"] == name).to_numpy()].T
            )
            for name in order
        },
    )


def form_of(sums: ArmSums, arm: str, column: str, centres: Mapping[str, float]) -> np.ndarray:
    """A model's column as a linear form in (1, the sums' columns) within one arm.

    ``arm:<name>`` is that arm's indicator less its centre; ``treat*<column>`` is (indicator of any
    active arm) x (column - its centre); ``""`` the intercept; other names are the sums' columns,
    less their centres.
    """
    form = np.zeros(1 + len(sums.columns))
    if column == INTERCEPT:
        form[0] = 1.0
    elif column.startswith(ARM_PREFIX):
        form[0] = float(arm == column.removeprefix(ARM_PREFIX)) - centres.get(column, 0.0)
    elif column.startswith(PRODUCT):
        name = column.removeprefix(PRODUCT)
        if arm != sums.control:
            form[1 + sums.columns.index(name)] = 1.0
            form[0] = -centres.get(name, 0.0)
    else:
        form[1 + sums.columns.index(column)] = 1.0
        form[0] = -centres.get(column, 0.0)
    return form


def whole_trial(
    sums: ArmSums, columns: Sequence[str], centres: Mapping[str, float] | None = None
) -> TrialSummary:
    """The sums of an entire trial for a model's ``columns``, all arms merged."""
    parts = []
    for arm, summary in sums.arms.items():
        forms = np.column_stack([form_of(sums, arm, name, centres or {}) for name in columns])
        parts.append(transform_summary(summary, columns, forms))
    return reduce(merge_summaries, parts)


def centre(sums: ArmSums, name: str) -> float:
    """The mean of a column over all participants of the trial."""
    position = sums.columns.index(name)
    total = sum(summary.n for summary in sums.arms.values())
    return sum(s.n * float(s.means[position]) for s in sums.arms.values()) / total


def model_block(
    sums: ArmSums,
    columns: ModelColumns,
    *,
    residual: str,
    centres: Mapping[str, float] | None = None,
) -> TrialBlock:
    """One trial's block of a one-stage model."""
    names = {*columns.nuisance, *columns.fixed, *columns.random, columns.outcome}
    maps = [{name: form_of(sums, arm, name, centres or {}) for name in names} for arm in sums.arms]
    return trial_block(sums.trial, list(sums.arms.values()), maps, columns, residual=residual)


# Less than this share of the outcome's sum of squares left over is rounding, not variation: ten
# times the share at which the sums of an arm take a column as explained by the others.
_NO_RESIDUAL = 10 * ALIAS_TOLERANCE


def effects_of_trial(sums: ArmSums) -> tuple[Study, ...]:
    """One `Study` per active arm of the trial against its control.

    Own code, not an OLS of rows (statsmodels): the sums are all that federated pooling has, and
    arms that cannot be estimated need a reason each.

    A comparison that the trial's data cannot give (an empty arm, an arm that a covariate explains
    completely, no residual degrees of freedom, an outcome without variation) has no estimate
    and a note that says why. Nothing is guessed.
    """
    arm_names = [arm_column(arm) for arm in sums.active]
    n_control = sums.count(sums.control)
    summary = whole_trial(sums, [*sums.nuisance, *arm_names, OUTCOME])
    left = absorb(summary, sums.nuisance)
    fit: ArmFit | str
    if n_control <= 0:
        fit = "no participant analysed in the control arm"
    elif OUTCOME in constant_columns(summary):
        fit = "the outcome does not vary: no standard error"
    else:
        fit = solve_effects(left, arm_names)
    names = ", ".join(left.aliased)
    alias = f"not adjusted for {names} (constant or explained by the others here)" if names else ""
    studies = []
    for position, arm in enumerate(sums.active):
        named, n = (summary.trial, arm, sums.control), (n_control, sums.count(arm))
        reason = fit if isinstance(fit, str) else fit.reasons[position]
        if isinstance(fit, str) or reason:
            studies.append(Study.of_rows(named, n, "; ".join(filter(None, (reason, alias)))))
            continue
        se = float(fit.covariance[position, position]) ** 0.5
        found = (float(fit.estimates[position]), se, alias)
        df = float(fit.df)
        studies.append(Study.of_rows(named, n, found, df=df, residual_sd=fit.residual_sd))
    return tuple(studies)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFit:
    """Estimates and covariance of the effects; ``reasons`` is empty where one can be given."""

    estimates: np.ndarray
    covariance: np.ndarray
    df: int
    residual_sd: float
    reasons: tuple[str, ...]


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
        return "the model explains the outcome completely: no standard error"
    # An arm is estimable where no direction without information touches it.
    blocked = (np.abs(vectors[:, ~present]) > 1e-6).any(axis=1)
    return ArmFit(
        estimates=estimates,
        covariance=rss / df * inverse,
        df=df,
        residual_sd=float(np.sqrt(rss / df)),
        reasons=tuple(
            "no participant analysed in the active arm"
            if is_empty
            else "the covariates explain this arm completely: no separate effect" * bool(explained)
            for explained, is_empty in zip(blocked, empty, strict=True)
        ),
    )
