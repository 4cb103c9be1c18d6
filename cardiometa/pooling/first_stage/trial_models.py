"""Each trial's own effects, by the model that the effect measure and the design ask for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import gammaln

from ...statistics.event_models import without_rounding
from ...statistics.mixed.one_stage import OneStageFit, contrast_interval, fit_one_stage
from ...statistics.mixed.sufficient_statistics import (
    INTERCEPT,
    ModelColumns,
    summarise_rows,
    trial_block,
)
from ..endpoint.analysis_set import Analysed, worse_direction
from ..endpoint.endpoint import CLUSTER
from ..options import EVENTS, STANDARDISED, WIN_ODDS, PoolingOptions
from ..results import Study
from .arm_sums import OUTCOME, ArmSums, arm_column, arm_sums, effects_of_trial
from .events import TrialDesign, binary_studies, hazard_studies, trial_design

_SINGULAR = "the model with clusters could not be fitted"


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
    if options.effect in (*EVENTS, WIN_ODDS):
        models = {"hazard-ratio": hazard_studies, WIN_ODDS: win_odds_studies}
        model = models.get(options.effect, binary_studies)
        return [study for trial in trials for study in model(trial, options)]
    studies: list[Study] = []
    for trial, one in zip(trials, sums, strict=True):
        clustered = CLUSTER in trial.rows and bool((trial.rows[CLUSTER] != "").any())
        studies += cluster_studies(trial, options) if clustered else effects_of_trial(one)
    return _standardised(trials, studies) if options.effect == STANDARDISED else studies


# ------------------------------------------------------------------ cluster-randomised trials


def cluster_studies(trial: Analysed, options: PoolingOptions) -> list[Study]:
    """One `Study` per active arm of a cluster-randomised trial: a random intercept of the cluster.

    Participants of one cluster are alike, so a model that takes them as independent has too small
    a standard error. REML from the sums of the clusters, ``outcome ~ arm + baseline + covariates +
    (1 | cluster)``; tested by Kenward-Roger, because clusters are few (Kahan et al. 2016, Trials
    17:438).
    """
    design = trial_design(trial, options.control)
    arm = trial.rows["arm"].to_numpy()
    n_control = int((arm == options.control).sum())
    fitted = _cluster_fit(trial, design, n_control)
    studies = []
    for place, name in enumerate(design.active):
        found: tuple[float, float, str] | str
        more: dict[str, float] = {}
        if isinstance(fitted, str):
            found = fitted
        else:
            fit, note = fitted
            contrast = np.eye(len(fit.beta))[1 + place]
            try:
                interval = contrast_interval(fit, contrast, "kenward-roger")
            except (ArithmeticError, np.linalg.LinAlgError):
                found = _SINGULAR
            else:
                found = (float(contrast @ fit.beta), interval.se, note)
                spread = float(np.sqrt(fit.theta[0] + fit.variances[0]))
                more = {"df": interval.df, "residual_sd": spread}
        named, n = (trial.trial, name, options.control), (n_control, int((arm == name).sum()))
        studies.append(Study.of_rows(named, n, found, **more))
    return studies


def _cluster_fit(
    trial: Analysed, design: TrialDesign, n_control: int
) -> tuple[OneStageFit, str] | str:
    """The fit (coefficients: intercept, arms, covariates) and a note; or why there is none."""
    rows = trial.rows
    if not n_control:
        return "no participant analysed in the control arm"
    if not design.active:
        return "no participant analysed in the active arm"
    if float(rows["outcome"].std(ddof=0)) == 0:
        return "the outcome does not vary: no standard error"
    if int(rows.groupby("arm", observed=True)[CLUSTER].nunique().min()) < 2:
        return "fewer than two clusters in an arm: its effect and its cluster's are the same"
    covariates = int(design.x.shape[1]) - len(design.active)
    names = [*map(arm_column, design.active), *(f"x{j}" for j in range(covariates))]
    if len(rows) <= len(names) + 2:
        return "too few participants for the model: no residual degrees of freedom"
    values = np.column_stack([design.x, rows["outcome"].to_numpy(dtype=float)])
    # Each column as a form in (1, the sums' columns).
    forms = dict(zip((INTERCEPT, *names, OUTCOME), np.eye(2 + len(names)), strict=True))
    columns = ModelColumns(
        nuisance=(), fixed=(INTERCEPT, *names), random=(INTERCEPT,), outcome=OUTCOME
    )
    cluster = rows[CLUSTER].to_numpy()
    blocks = []
    for name in sorted(set(cluster)):
        summary = summarise_rows(str(name), [*names, OUTCOME], values[cluster == name])
        blocks.append(trial_block(str(name), [summary], [forms], columns, residual="common"))
    try:
        fit = fit_one_stage(blocks, np.ones((1, 1, 1)), residual="common")
    except (ArithmeticError, np.linalg.LinAlgError):
        return _SINGULAR
    if not fit.checks.converged:
        return _SINGULAR
    between, within = float(fit.theta[0]), float(fit.variances[0])
    icc = between / (between + within)
    words = f"cluster-randomised: {len(blocks)} clusters, ICC {icc:.3f}, Kenward-Roger"
    note = "; ".join(part for part in (words, design.note) if part)
    return fit, note


# ------------------------------------------------------------------ standardised differences


def _standardised(trials: Sequence[Analysed], studies: Sequence[Study]) -> list[Study]:
    """The studies with estimate and SE in SDs of the outcome within their two arms (Hedges' g).

    g = J b / s with b the trial's (ANCOVA) difference, s the SD of the outcome within the two arms
    and J of `hedges_factor`; variance (SE of b / s)² + g² / 2N. Without a
    baseline this is metafor's ``SMD`` to the last digit (Hedges & Olkin 1985, p. 86). Trials that
    measure in another unit become comparable, and trials with more varied participants get smaller
    effects: a sensitivity analysis, not a rescue.
    """
    rows = {trial.trial: trial.rows for trial in trials}
    found = []
    for study in studies:
        if study.estimate is None or study.se is None:
            found.append(study)
            continue
        part = rows[study.trial]
        arms = [part.loc[part["arm"] == arm, "outcome"] for arm in (study.control, study.arm)]
        n = sum(map(len, arms))
        squares = sum(float(((one - one.mean()) ** 2).sum()) for one in arms)
        if n < 4 or squares == 0:
            note = "too few participants for a standard deviation within the arms"
            note = note if n < 4 else "the outcome does not vary in these arms: no standard error"
            found.append(replace(study, estimate=None, se=None, note=note))
            continue
        spread = math.sqrt(squares / (n - 2))
        g = hedges_factor(n - 2) * study.estimate / spread
        variance = (study.se / spread) ** 2 + g**2 / (2 * n)
        found.append(replace(study, estimate=g, se=math.sqrt(variance), df=float("inf")))
    return found


def hedges_factor(m: float) -> float:
    """J(m) = Γ(m/2) / (√(m/2) Γ((m - 1)/2)) of ``m`` degrees of freedom, exact."""
    return float(np.exp(gammaln(m / 2) - gammaln(m / 2 - 0.5)) / math.sqrt(m / 2))


# ------------------------------------------------------------------ deaths as the worst outcome


def win_odds_studies(trial: Analysed, options: PoolingOptions) -> tuple[Study, ...]:
    """One `Study` per active arm: the log win odds, a death ranked below any survivor.

    Worst-rank scores keep everyone whose outcome or death is known in the arm they were randomised
    to (Lachin 1999, Control Clin Trials 20:408); deaths are ranked by their day, the earlier the
    worse (the untied scores of Matsouaka & Betensky 2015, Stat Med 34:1334). Odds of the
    Mann-Whitney probability, pooled as logs (win odds: Brunner, Vandemeulebroecke & Muetze 2021,
    Stat Med 40:3367).
    """
    score = worst_rank_scores(trial.rows, worse_direction(options))
    arm = trial.rows["arm"].to_numpy()
    died = trial.rows["died"].to_numpy(dtype=bool)
    reference = score[arm == options.control]
    studies = []
    for name in sorted(set(arm) - {options.control}):
        mine = score[arm == name]
        found: tuple[float, float, str] | str
        if min(len(mine), len(reference)) < 2:
            found = "fewer than two participants in an arm"
        else:
            theta, se = mann_whitney(mine, reference)
            if theta in (0.0, 1.0):
                found = "all of one arm did better than all of the other: no finite odds"
            elif se == 0:
                found = "all outcomes are equal: no standard error"
            else:
                deaths = died[(arm == name) | (arm == options.control)].any()
                log_odds = float(np.log(theta / (1.0 - theta)))
                note = "" if deaths else "no deaths recorded"
                found = (log_odds, se / (theta * (1.0 - theta)), note)
        named = (trial.trial, name, options.control)
        studies.append(Study.of_rows(named, (len(reference), len(mine)), found))
    return tuple(studies)


def worst_rank_scores(rows: pd.DataFrame, worse: str) -> np.ndarray:
    """Scores ``[n]``, higher is better: deaths first by day, then survivors by outcome."""
    from scipy.stats import rankdata

    died = rows["died"].to_numpy(dtype=bool)
    value = rows["outcome"].to_numpy(dtype=float) * (1.0 if worse == "lower" else -1.0)
    value = value / max(float(np.abs(value[~died]).mean() if not died.all() else 1.0), 1e-300)
    day = rows["death_day"].to_numpy(dtype=float)
    score = np.empty(len(rows))
    score[died] = rankdata(without_rounding(day[died]), method="dense")
    score[~died] = len(rows) + rankdata(without_rounding(value[~died]), method="dense")
    return score


def mann_whitney(active: np.ndarray, control: np.ndarray) -> tuple[float, float]:
    """P(active better) + P(equal)/2 and its SE (DeLong et al. 1988, placements by midranks)."""
    from scipy.stats import rankdata

    n, m = len(active), len(control)
    together = rankdata(np.concatenate([active, control]))
    above = (together[:n] - rankdata(active)) / m
    below = (together[n:] - rankdata(control)) / n
    theta = float(above.mean())
    variance = above.var(ddof=1) / n + below.var(ddof=1) / m
    return theta, float(np.sqrt(variance))
