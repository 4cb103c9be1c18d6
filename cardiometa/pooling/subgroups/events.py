"""Effect modification of events: each trial's logistic or Cox model with the interaction.

The first stage of `interaction` where the outcome is an event. Levels in which nobody, or
everybody, had the event say nothing about a ratio and are left out of their trial; where one arm
of a level has none, Firth's penalty gives a finite estimate, and the note says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...statistics.cox import fit_cox, risk_sets
from ...statistics.firth import fit_logistic
from ..endpoint.analysis_set import Analysed
from ..first_stage.binary import FIRTH, is_explained
from ..options import PoolingOptions
from .interaction import TrialInteraction
from .modifiers import VALUE, ModifierSums, level_column

NO_EVENTS = "no events, or nobody without one, at its levels"
SINGULAR = "the interaction cannot be told from arms and covariates"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventModifier:
    """Each trial's interaction, and its events by (trial, level, arm); level ``""`` of a number."""

    trials: tuple[TrialInteraction, ...]
    events: Mapping[tuple[str, str, str], int]


def event_modifier(
    modifier: ModifierSums, trials: Sequence[Analysed], options: PoolingOptions
) -> EventModifier:
    """The first stage of one modifier over the trials that have it."""
    known = {trial.trial: trial for trial in trials}
    events: dict[tuple[str, str, str], int] = {}
    found = []
    for name, own in modifier.own.items():
        trial = known[name]
        rows = trial.rows.loc[own.index]
        columns = {"": own[VALUE]} if modifier.numeric else _levels(modifier, own)
        for level, indicator in columns.items():
            inside = rows if modifier.numeric else rows[indicator > 0]
            sums = inside["outcome"].groupby(inside["arm"]).sum()
            events |= {(name, level, str(arm)): int(n) for arm, n in sums.items()}
        found.append(_of_trial(trial, rows, columns, modifier, options))
    return EventModifier(trials=tuple(found), events=events)


def _levels(modifier: ModifierSums, own: pd.DataFrame) -> dict[str, pd.Series[float]]:
    return {v: own[level_column(v)] for v in modifier.levels if level_column(v) in own}


def _of_trial(
    trial: Analysed,
    rows: pd.DataFrame,
    columns: Mapping[str, pd.Series[float]],
    modifier: ModifierSums,
    options: PoolingOptions,
) -> TrialInteraction:
    levels: tuple[str, ...] = ()
    if not modifier.numeric:
        informative = [v for v, at in columns.items() if _varies(rows.loc[at > 0, "outcome"])]
        inside = sum((columns[v] for v in informative), start=pd.Series(0.0, index=rows.index))
        rows = rows[inside > 0]
        levels = tuple(informative)
    if not len(rows) or not _varies(rows["outcome"]):
        return TrialInteraction(trial=trial.trial, levels=levels, note=NO_EVENTS)
    treat = (rows["arm"] == modifier.arm).to_numpy(dtype=float)
    if modifier.numeric:
        x = columns[""].loc[rows.index].to_numpy(dtype=float)
        x = x - x.mean()
        wanted, others = [treat, treat * x], [x]
    else:
        own = [columns[v].loc[rows.index].to_numpy(dtype=float) for v in levels]
        wanted, others = [treat * one for one in own], own[1:]
    nuisance = nuisance_of(trial, rows, modifier.name)
    fit = fit_event_columns(rows, (wanted, others), nuisance, options)
    if fit is None:
        return TrialInteraction(trial=trial.trial, levels=levels, note=SINGULAR)
    places = [1] if modifier.numeric else list(range(len(levels)))
    return TrialInteraction(
        trial=trial.trial,
        levels=levels,
        estimates=fit[0][places],
        covariance=fit[1][np.ix_(places, places)],
        note=fit[2],
    )


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

    ``columns`` are those wanted and their main effects; None where they cannot be told apart.
    """
    design = _independent(*columns, nuisance)
    return None if design is None else _fit(rows, design, options)


def _varies(outcome: pd.Series[float]) -> bool:
    return bool(0 < outcome.sum() < len(outcome))


def _independent(
    wanted: list[np.ndarray], others: list[np.ndarray], nuisance: list[np.ndarray]
) -> np.ndarray | None:
    """The design: treatment by level or number, main effects, covariates that add something.

    None where a column that the interaction needs is explained by the others.
    """
    columns: list[np.ndarray] = []
    for column in (*wanted, *others):
        if is_explained(column, columns):
            return None
        columns.append(column)
    for column in nuisance:
        if not is_explained(column, columns):
            columns.append(column)
    return np.column_stack(columns)


def _fit(
    rows: pd.DataFrame, design: np.ndarray, options: PoolingOptions
) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Coefficients and covariance of the design's columns, and a note on the penalty."""
    y = rows["outcome"].to_numpy(dtype=float)
    if options.effect == "hazard-ratio":
        sets = risk_sets(rows["time"].to_numpy(dtype=float), y > 0, design)
        fit, note = fit_cox([sets]), ""
        if fit is None:
            fit, note = fit_cox([sets], penalised=True), FIRTH
        return None if fit is None else (fit.coefficients, fit.covariance, note)
    x = np.column_stack([np.ones(len(y)), design])
    fit, note = fit_logistic(x, y), ""
    if fit is None:
        fit, note = fit_logistic(x, y, penalised=True), FIRTH
    return None if fit is None else (fit.coefficients[1:], fit.covariance[1:, 1:], note)
