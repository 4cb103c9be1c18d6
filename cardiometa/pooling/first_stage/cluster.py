"""Cluster-randomised trials: a random intercept of the cluster in the trial's own model.

People of one cluster are alike, so a model that takes them for independent has too small a standard
error. Each such trial is fitted by REML from the sums of its clusters, ``outcome ~ arm + baseline +
covariates + (1 | cluster)``, its effect tested by Kenward-Roger, because clusters are few (Kahan et
al. 2016, Trials 17:438). The estimate then enters the second stage as any other trial's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...statistics.mixed.one_stage import OneStageFit, contrast_interval, fit_one_stage
from ...statistics.mixed.sufficient_statistics import summarise_rows
from ...statistics.mixed.trial_contrasts import ModelColumns, TrialBlock, trial_block
from ..endpoint.analysis_set import Analysed
from ..endpoint.clusters import CLUSTER
from ..options import PoolingOptions
from ..results import Study
from .arm_sums import INTERCEPT, OUTCOME, arm_column
from .binary import TrialDesign, trial_design

FEW = "fewer than two clusters in an arm: its effect cannot be told from its cluster's"
SINGULAR = "the model with clusters could not be fitted"


def is_clustered(trial: Analysed) -> bool:
    """True for a trial whose people have clusters."""
    return CLUSTER in trial.rows and bool((trial.rows[CLUSTER] != "").any())


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFit:
    """The model of one trial; ``arms`` stand first among the fixed effects after the intercept."""

    fit: OneStageFit
    arms: tuple[str, ...]
    clusters: int

    @property
    def icc(self) -> float:
        """The share of the residual variance that is between clusters."""
        between, within = float(self.fit.theta[0]), float(self.fit.variances[0])
        return between / (between + within)


def cluster_studies(trial: Analysed, options: PoolingOptions) -> list[Study]:
    """One `Study` for each active arm of a cluster-randomised trial."""
    design = trial_design(trial, options.control)
    arm = trial.rows["arm"].to_numpy()
    found = _fit(trial, design, options)
    studies = []
    for place, name in enumerate(design.active):
        n_control, n_active = int((arm == options.control).sum()), int((arm == name).sum())
        study = Study(
            trial=trial.trial,
            arm=name,
            control=options.control,
            estimate=None,
            se=None,
            n_control=n_control,
            n_active=n_active,
            n=n_control + n_active,
            note=found if isinstance(found, str) else "",
        )
        studies.append(study if isinstance(found, str) else _estimated(study, found, place, design))
    return studies


def _estimated(study: Study, model: ClusterFit, place: int, design: TrialDesign) -> Study:
    contrast = np.eye(len(model.fit.beta))[1 + place]
    try:
        interval = contrast_interval(model.fit, contrast, "kenward-roger")
    except (ArithmeticError, np.linalg.LinAlgError):
        return replace(study, note=SINGULAR)
    words = f"cluster-randomised: {model.clusters} clusters, ICC {model.icc:.3f}, Kenward-Roger"
    return replace(
        study,
        estimate=float(contrast @ model.fit.beta),
        se=interval.se,
        df=interval.df,
        residual_sd=float(np.sqrt(model.fit.theta[0] + model.fit.variances[0])),
        note="; ".join(part for part in (words, design.note) if part),
    )


def _fit(trial: Analysed, design: TrialDesign, options: PoolingOptions) -> ClusterFit | str:
    rows = trial.rows
    if not (rows["arm"] == options.control).any():
        return "no participant analysed in the control arm"
    if not design.active:
        return "no participant analysed in the active arm"
    if float(rows["outcome"].std(ddof=0)) == 0:
        return "the outcome does not vary: no standard error"
    per_arm = rows.groupby("arm")[CLUSTER].nunique()
    if int(per_arm.min()) < 2:
        return FEW
    names = [*map(arm_column, design.active), *(f"x{j}" for j in range(_others(design)))]
    values = np.column_stack([design.x, rows["outcome"].to_numpy(dtype=float)])
    if len(rows) <= len(names) + 2:
        return "too few participants for the model: no residual degrees of freedom"
    maps = _forms(names)
    columns = ModelColumns(
        nuisance=(), fixed=(INTERCEPT, *names), random=(INTERCEPT,), outcome=OUTCOME
    )
    cluster = rows[CLUSTER].to_numpy()
    blocks: list[TrialBlock] = []
    for name in sorted(set(cluster)):
        summary = summarise_rows(str(name), [*names, OUTCOME], values[cluster == name])
        blocks.append(trial_block(str(name), [summary], [maps], columns, residual="common"))
    try:
        fit = fit_one_stage(blocks, np.ones((1, 1, 1)), residual="common")
    except (ArithmeticError, np.linalg.LinAlgError):
        return SINGULAR
    if not fit.checks.converged:
        return SINGULAR
    return ClusterFit(fit=fit, arms=design.active, clusters=len(blocks))


def _others(design: TrialDesign) -> int:
    return int(design.x.shape[1]) - len(design.active)


def _forms(names: list[str]) -> Mapping[str, np.ndarray]:
    """Each column as a form in (1, the sums' columns)."""
    unit = np.eye(2 + len(names))
    forms = {INTERCEPT: unit[0], OUTCOME: unit[1 + len(names)]}
    return forms | {name: unit[1 + j] for j, name in enumerate(names)}
