"""Treatment by covariate interactions from within the trials alone, in two stages and in one.

Each trial gives its own interaction, from its own participants; between-trial differences in the
covariate never enter (``pooling.md`` 2.3; Fisher et al. 2017, doi:10.1136/bmj.j573). Where the
outcome is an event, the trial's logistic or Cox model has the interaction: levels in which no or
all participants had the event say nothing about a ratio and are left out of their trial; where one
arm of a level has none, Firth's penalty gives a finite estimate, and the note says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ...statistics.event_models import fit_cox, fit_logistic, risk_sets
from ...statistics.mixed.one_stage import OneStageFit, fit_one_stage
from ...statistics.mixed.sufficient_statistics import (
    INTERCEPT,
    ModelColumns,
    TrialBlock,
    absorb,
    trial_block,
)
from ...statistics.multivariate import (
    FloatingEffects,
    LevelEffects,
    MultivariateFit,
    contrasts_of,
    fit_parts,
    floating_effects,
)
from ..endpoint.analysis_set import Analysed
from ..first_stage.arm_sums import (
    OUTCOME,
    PRODUCT,
    ArmFit,
    ArmSums,
    arm_column,
    centre,
    form_of,
    solve_effects,
    whole_trial,
)
from ..first_stage.events import FIRTH, independent
from ..options import PoolingOptions
from ..results import natural
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
    """The interactions of one modifier from ``k`` trials.

    ``fit`` has the contrasts of ``levels`` with the first, ``floating`` their effects; both None
    for a number. ``apart`` are levels that no trial compares with the reference.
    """

    modifier: ModifierSums
    trials: tuple[TrialInteraction, ...]
    levels: tuple[str, ...]
    fit: MultivariateFit | None = None
    floating: FloatingEffects | None = None
    k: int = 0
    apart: tuple[str, ...] = ()


def pool_interaction(
    modifier: ModifierSums,
    method: str,
    trials: tuple[TrialInteraction, ...] | None = None,
    *,
    ci: str = "hksj-truncated",
) -> PooledInteraction:
    """Both stages for one modifier; ``method`` as in `fit_parts`, ``ci`` in `floating_effects`.

    ``trials`` are the first stage where the sums do not give it (events).
    """
    if trials is None:
        trials = tuple(trial_interaction(sums, modifier) for sums in modifier.sums)
    trials = tuple(sorted(trials, key=lambda trial: natural(trial.trial)))
    found = PooledInteraction(modifier=modifier, trials=trials, levels=())
    given = [
        (trial.levels, trial.estimates, trial.covariance)
        for trial in trials
        if trial.estimates is not None and trial.covariance is not None
    ]
    if modifier.numeric:
        return replace(found, k=len(given))
    levels, apart = connected_levels(modifier.levels, [own for own, *_ in given])
    found = replace(found, levels=levels, apart=apart)
    effects = []
    for own, b, v in given:
        keep = [i for i, level in enumerate(own) if level in levels]
        at = tuple(levels.index(own[i]) for i in keep)
        if keep:
            effects.append(LevelEffects(levels=at, b=b[keep], covariance=v[np.ix_(keep, keep)]))
    contrasts = [part for e in effects if (part := contrasts_of(e, len(levels))) is not None]
    if len(levels) < 2 or not contrasts:
        return found
    fit = fit_parts(contrasts, method=method)
    floating = floating_effects(effects, fit, method=method, ci=ci)
    return replace(found, fit=fit, floating=floating, k=len(contrasts))


def trial_interaction(sums: ArmSums, modifier: ModifierSums) -> TrialInteraction:
    """One trial's own model: ``outcome ~ treat * x + baseline + covariates``."""
    levels = () if modifier.numeric else modifier.levels_of(sums)
    found = TrialInteraction(trial=sums.trial, levels=levels)
    if modifier.numeric:
        fit = products_with_numbers(sums, [VALUE], modifier.arm)
    else:
        wanted = [f"{PRODUCT}{level_column(level)}" for level in levels]
        nuisance = [*sums.nuisance, *map(level_column, levels[1:])]
        left = absorb(whole_trial(sums, [*nuisance, *wanted, OUTCOME]), nuisance)
        fit = solve_effects(left, wanted)
        if isinstance(fit, ArmFit) and any(fit.reasons):
            fit = next(filter(None, fit.reasons))
    if not isinstance(fit, ArmFit):
        return replace(found, note=fit or "the covariate does not vary enough")
    return replace(found, estimates=fit.estimates, covariance=fit.covariance, df=fit.df)


def products_with_numbers(sums: ArmSums, names: Sequence[str], arm: str) -> ArmFit | str:
    """The products of treatment with the numbers ``names``, centred in the trial.

    The reason where there is no fit; empty where a number varies too little.
    """
    wanted = [arm_column(arm), *(f"{PRODUCT}{name}" for name in names)]
    nuisance = [*sums.nuisance, *names]
    centres = {name: centre(sums, name) for name in names}
    left = absorb(whole_trial(sums, [*nuisance, *wanted, OUTCOME], centres), nuisance)
    fit = solve_effects(left, wanted)
    if not isinstance(fit, ArmFit):
        return fit
    if any(fit.reasons[1:]) or set(names) & set(left.aliased):
        return ""
    return replace(fit, estimates=fit.estimates[1:], covariance=fit.covariance[1:, 1:])


def connected_levels(
    levels: Sequence[str], trials: Sequence[Sequence[str]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The levels that trials compare, directly or through others, with the reference; the rest.

    ``trials`` are the levels of each trial.
    """
    reached = set(levels[:1])
    for _ in levels:
        for own in trials:
            if reached & set(own):
                reached |= set(own)
    inside = tuple(level for level in levels if level in reached)
    return inside, tuple(level for level in levels if level not in reached)


# ------------------------------------------------------------------ events


def event_modifier(
    modifier: ModifierSums, trials: Sequence[Analysed], options: PoolingOptions
) -> tuple[tuple[TrialInteraction, ...], dict[tuple[str, str, str], int]]:
    """Each trial's interaction, and its events by (trial, level, arm); level ``""`` of a number."""
    known = {trial.trial: trial for trial in trials}
    events: dict[tuple[str, str, str], int] = {}
    found = []
    for name, own in modifier.own.items():
        rows = known[name].rows.loc[own.index]
        columns = (
            {"": own[VALUE]}
            if modifier.numeric
            else {v: own[level_column(v)] for v in modifier.levels if level_column(v) in own}
        )
        for level, indicator in columns.items():
            inside = rows if modifier.numeric else rows[indicator > 0]
            sums = inside["outcome"].groupby(inside["arm"], observed=True).sum()
            events |= {(name, level, str(arm)): int(n) for arm, n in sums.items()}
        found.append(_event_interaction(known[name], rows, columns, modifier, options))
    return tuple(found), events


def _event_interaction(
    trial: Analysed,
    rows: pd.DataFrame,
    columns: Mapping[str, pd.Series[float]],
    modifier: ModifierSums,
    options: PoolingOptions,
) -> TrialInteraction:
    levels: tuple[str, ...] = ()
    if not modifier.numeric:
        levels = tuple(v for v, at in columns.items() if _varies(rows.loc[at > 0, "outcome"]))
        inside = sum((columns[v] for v in levels), start=pd.Series(0.0, index=rows.index))
        rows = rows[inside > 0]
    found = TrialInteraction(trial=trial.trial, levels=levels)
    if not len(rows) or not _varies(rows["outcome"]):
        return replace(found, note="no events, or events of everyone, at its levels")
    nuisance = nuisance_of(trial, rows, modifier.name)
    if modifier.numeric:
        number = columns[""].loc[rows.index].to_frame()
        fit = fit_event_numbers(rows, number, modifier.arm, nuisance, options)
    else:
        treat = (rows["arm"] == modifier.arm).to_numpy(dtype=float)
        own = [columns[v].loc[rows.index].to_numpy(dtype=float) for v in levels]
        fit = fit_event_columns(rows, ([treat * one for one in own], own[1:]), nuisance, options)
    if fit is None:
        note = "the interaction cannot be separated from arms and covariates"
        return replace(found, note=note)
    size = max(len(levels), 1)
    covariance = fit[1][:size, :size]
    return replace(found, estimates=fit[0][:size], covariance=covariance, note=fit[2])


def fit_event_numbers(
    rows: pd.DataFrame,
    numbers: pd.DataFrame,
    arm: str,
    nuisance: list[np.ndarray],
    options: PoolingOptions,
) -> tuple[np.ndarray, np.ndarray, str] | None:
    """The products of treatment with ``numbers``, their covariance and a note; None without."""
    treat = (rows["arm"] == arm).to_numpy(dtype=float)
    own = [column - column.mean() for column in numbers.to_numpy(dtype=float).T]
    wanted = [treat, *(treat * column for column in own)]
    fit = fit_event_columns(rows, (wanted, own), nuisance, options)
    if fit is None:
        return None
    at = slice(1, 1 + len(own))
    return fit[0][at], fit[1][at, at], fit[2]


def _varies(outcome: pd.Series[float]) -> bool:
    return bool(0 < outcome.sum() < len(outcome))


def nuisance_of(trial: Analysed, rows: pd.DataFrame, modifier: str) -> list[np.ndarray]:
    """The covariates of the trial's model at ``rows``, the modifier itself not among them."""
    return [
        trial.nuisance.loc[rows.index, name].to_numpy(dtype=float)
        for name in trial.nuisance.columns
        if str(name).partition("=")[0] != modifier
    ]


def fit_event_columns(
    rows: pd.DataFrame,
    columns: tuple[list[np.ndarray], list[np.ndarray]],
    nuisance: list[np.ndarray],
    options: PoolingOptions,
) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Coefficients and covariance, the wanted columns first, and a note on the penalty.

    ``columns`` are those wanted and their main effects; None where they cannot be separated: a
    column that the interaction needs is explained by the others, or there is no fit.
    """
    needed = np.column_stack([*columns[0], *columns[1]])
    if independent(needed)[1]:
        return None
    others = np.column_stack([needed[:, :0], *nuisance])
    others = others[:, independent(others, needed)[0]]
    design = np.column_stack([needed, others - others.mean(axis=0)])
    y = rows["outcome"].to_numpy(dtype=float)
    if options.effect == "hazard-ratio":
        sets = [risk_sets(rows["time"].to_numpy(dtype=float), y > 0, design)]
        plain = fit_cox(sets)
        fit = plain or fit_cox(sets, penalised=True)
        first = 0
    else:
        x = np.column_stack([np.ones(len(y)), design])
        plain = fit_logistic(x, y)
        fit = plain or fit_logistic(x, y, penalised=True)
        first = 1
    if fit is None:
        return None
    note = "" if plain is not None else FIRTH
    return fit.coefficients[first:], fit.covariance[first:, first:], note


# ------------------------------------------------------------------ one stage


_ACROSS = "across:"


@dataclass(frozen=True, slots=True, kw_only=True)
class OneStageInteraction:
    """The fit, where in ``beta`` the within-trial interactions are, and the across-trial ones."""

    fit: OneStageFit
    within: tuple[int, ...]
    across: tuple[int, ...]
    k: int


def one_stage_interaction(
    pooled: PooledInteraction, options: PoolingOptions
) -> OneStageInteraction | None:
    """The one-stage model of the trials that the two-stage interaction uses; None below two.

    ``y ~ 0 + trial + trial:baseline + trial:x + treat + treat:(x - xbar_i) + treat:xbar_i`` with
    random ``treat`` and ``treat:(x - xbar_i)``: the covariate is centred by trial, and what is
    between trials is kept apart (``pooling.md`` 2.3; Hua et al. 2017).

    Across-trial terms are left out where there are not at least two more trials than fixed
    effects; within-trial ones do not depend on them. ArithmeticError or LinAlgError where it
    cannot be fitted.
    """
    modifier = pooled.modifier
    names = [VALUE] if modifier.numeric else [level_column(v) for v in pooled.levels[1:]]
    given = {trial.trial for trial in pooled.trials if trial.estimates is not None}
    sums = [
        one
        for one in modifier.sums
        if one.trial in given
        and (modifier.numeric or len(set(modifier.levels_of(one)) & set(pooled.levels)) > 1)
    ]
    if len(sums) < 2 or not names:
        return None
    means = np.array([[_mean(one, name) for name in names] for one in sums])
    centres = {name: float(np.mean(column)) for name, column in zip(names, means.T, strict=True)}
    across: list[str] = []
    centred = means - means.mean(axis=0)
    spread = np.linalg.norm(centred, axis=0)
    # Where the trials' means do not differ nothing is between them.
    if len(sums) >= 3 + 2 * len(names) and (spread > 1e-10 * np.abs(means).max(axis=0)).all():
        rank = np.linalg.matrix_rank(centred / spread, tol=1e-8)
        across = [f"{_ACROSS}{name}" for name in names] if rank == len(names) else []
    blocks = [_block(one, pooled, centres, across, options.residual) for one in sums]
    size = len(names)
    basis = np.zeros((2, 1 + size, 1 + size))
    basis[0, 0, 0] = 1.0
    basis[1, 1:, 1:] = 0.5 * (np.eye(size) + np.ones((size, size)))
    fit = fit_one_stage(
        blocks,
        basis,
        residual=options.residual,
        restricted=options.tau2 != "ml",
        common_effect=options.tau2 == "fe",
    )
    return OneStageInteraction(
        fit=fit,
        within=tuple(range(1, 1 + size)),
        across=tuple(range(1 + size, 1 + size + len(across))),
        k=len(sums),
    )


def _mean(sums: ArmSums, name: str) -> float:
    return centre(sums, name) if name in sums.columns else 0.0


def _block(
    sums: ArmSums,
    pooled: PooledInteraction,
    centres: dict[str, float],
    across: list[str],
    residual: str,
) -> TrialBlock:
    """A trial's block; ``centres`` of the trials' means, which are taken out of what is across."""
    treat = arm_column(pooled.modifier.arm)
    own = [name for name in centres if name in sums.columns]
    means = {name: _mean(sums, name) for name in centres}
    products = [f"{PRODUCT}{name}" for name in centres]
    columns = ModelColumns(
        nuisance=(INTERCEPT, *sums.nuisance, *own),
        fixed=(treat, *products, *across),
        random=(treat, *products),
        outcome=OUTCOME,
    )
    every = {*columns.nuisance, *columns.fixed, OUTCOME}

    def form(arm: str, column: str) -> np.ndarray:
        """Like `form_of`, with the trial's means times treatment, and zeros for levels it lacks."""
        found = np.zeros(1 + len(sums.columns))
        if column.startswith(_ACROSS):
            name = column.removeprefix(_ACROSS)
            found[0] = means[name] - centres[name] if arm != sums.control else 0.0
            return found
        if column.startswith(PRODUCT) and column.removeprefix(PRODUCT) not in sums.columns:
            return found
        return form_of(sums, arm, column, means if column.startswith(PRODUCT) else {})

    maps = [{name: form(arm, name) for name in every} for arm in sums.arms]
    return trial_block(sums.trial, list(sums.arms.values()), maps, columns, residual=residual)
