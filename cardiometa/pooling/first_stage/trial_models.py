"""Cluster-randomised trials: a random intercept of the cluster in the trial's own model.

People of one cluster are alike, so a model that takes them for independent has too small a standard
error. Each such trial is fitted by REML from the sums of its clusters, ``outcome ~ arm + baseline +
covariates + (1 | cluster)``, its effect tested by Kenward-Roger, because clusters are few (Kahan et
al. 2016, Trials 17:438). The estimate then enters the second stage as any other trial's.

Standardised mean differences: each trial's effect in its own within-arm SDs (Hedges' g).

g = J b / s with b the trial's (ANCOVA) difference, s the SD of the outcome within the two arms and
J Hedges' exact correction; variance (SE of b / s)² + g² / 2N. Without a baseline this is metafor's
``SMD`` to the last digit (Hedges & Olkin 1985, p. 86). Trials that measure in another unit become
comparable, and trials whose people differ more from each other get smaller effects: a sensitivity
analysis, not a rescue.

Deaths as the worst outcome: the win odds of the active arm, a death ranked below any survivor.

Worst-rank scores keep everyone whose fate is known in the arm they were randomised to (Lachin 1999,
Control Clin Trials 20:408); deaths are ranked among themselves by their day, the earlier the worse
(the untied scores of Matsouaka & Betensky 2015, Stat Med 34:1334). The Mann-Whitney probability
theta = P(better) + P(equal)/2 has the variance of DeLong et al. 1988 (placements, unequal spreads
allowed); its odds theta/(1 - theta) are pooled as logs (win odds: Brunner, Vandemeulebroecke &
Muetze 2021, Stat Med 40:3367).

Each trial's own effects, by the model that the effect measure asks for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import gammaln
from scipy.stats import rankdata

from ...statistics.mixed.one_stage import OneStageFit, contrast_interval, fit_one_stage
from ...statistics.mixed.sufficient_statistics import summarise_rows
from ...statistics.mixed.trial_contrasts import ModelColumns, TrialBlock, trial_block
from ..endpoint.analysis_set import Analysed, worse_direction
from ..endpoint.endpoint import CLUSTER
from ..options import EVENTS, STANDARDISED, WIN_ODDS, PoolingOptions
from ..results import Study
from .arm_sums import INTERCEPT, OUTCOME, ArmSums, arm_column, arm_sums, effects_of_trial
from .events import TrialDesign, binary_studies, hazard_studies, trial_design

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


NO_SPREAD = "too few participants for a standard deviation within the arms"


def standardised(trials: Sequence[Analysed], studies: Sequence[Study]) -> list[Study]:
    """The studies with estimate and SE in SDs of the outcome within their two arms."""
    rows = {trial.trial: trial.rows for trial in trials}
    found = []
    for study in studies:
        if study.estimate is None or study.se is None:
            found.append(study)
            continue
        part = rows[study.trial]
        arms = [part.loc[part["arm"] == arm, "outcome"] for arm in (study.control, study.arm)]
        n = sum(map(len, arms))
        if n < 4:
            found.append(replace(study, estimate=None, se=None, note=NO_SPREAD))
            continue
        squares = sum(float(((one - one.mean()) ** 2).sum()) for one in arms)
        spread = math.sqrt(squares / (n - 2))
        g = hedges_correction(n - 2) * study.estimate / spread
        variance = (study.se / spread) ** 2 + g**2 / (2 * n)
        found.append(replace(study, estimate=g, se=math.sqrt(variance), df=float("inf")))
    return found


def hedges_correction(df: int) -> float:
    """Hedges' J(m) = Γ(m/2) / (√(m/2) Γ((m - 1)/2)), exact."""
    half = df / 2
    return float(np.exp(gammaln(half) - gammaln(half - 0.5)) / math.sqrt(half))


ALL_ONE_SIDED = "every one of one arm did better than every one of the other: no finite odds"
_LEAST = 2


def win_odds_studies(trial: Analysed, options: PoolingOptions) -> tuple[Study, ...]:
    """One `Study` for each active arm: the log win odds against the control."""
    score = worst_rank_scores(trial.rows, worse_direction(options))
    arm = trial.rows["arm"].to_numpy()
    died = trial.rows["died"].to_numpy(dtype=bool)
    reference = score[arm == options.control]
    studies = []
    for name in sorted(set(arm) - {options.control}):
        mine = score[arm == name]
        found: tuple[float, float] | str
        if min(len(mine), len(reference)) < _LEAST:
            found = "fewer than two participants in an arm"
        else:
            found = _log_odds(*mann_whitney(mine, reference))
        given = found if isinstance(found, tuple) else (None, None)
        n_died = int(died[(arm == name) | (arm == options.control)].sum())
        studies.append(
            Study(
                trial=trial.trial,
                arm=name,
                control=options.control,
                estimate=given[0],
                se=given[1],
                n_control=len(reference),
                n_active=len(mine),
                n=len(mine) + len(reference),
                note=found if isinstance(found, str) else "" if n_died else "no deaths recorded",
            )
        )
    return tuple(studies)


def worst_rank_scores(rows: pd.DataFrame, worse: str) -> np.ndarray:
    """Scores ``[n]``, higher is better: deaths first by day, then the living by outcome."""
    died = rows["died"].to_numpy(dtype=bool)
    value = rows["outcome"].to_numpy(dtype=float) * (1.0 if worse == "lower" else -1.0)
    score = np.empty(len(rows))
    if died.any():
        score[died] = rankdata(rows["death_day"].to_numpy(dtype=float)[died], method="dense")
    score[~died] = len(rows) + rankdata(value[~died], method="dense")
    return score


def mann_whitney(active: np.ndarray, control: np.ndarray) -> tuple[float, float]:
    """P(active better) + P(equal)/2 and its standard error (DeLong, placements by midranks)."""
    n, m = len(active), len(control)
    together = rankdata(np.concatenate([active, control]))
    above = (together[:n] - rankdata(active)) / m
    below = (together[n:] - rankdata(control)) / n
    theta = float(above.mean())
    variance = above.var(ddof=1) / n + below.var(ddof=1) / m
    return theta, float(np.sqrt(variance))


def _log_odds(theta: float, se: float) -> tuple[float, float] | str:
    if theta in (0.0, 1.0):
        return ALL_ONE_SIDED
    if se == 0:
        return "all outcomes are equal: no standard error"
    return float(np.log(theta / (1.0 - theta))), se / (theta * (1.0 - theta))


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
