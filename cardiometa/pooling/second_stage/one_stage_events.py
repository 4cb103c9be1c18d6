"""One-stage models of events with a random treatment effect, and their interactions of --by.

Odds ratio: logistic, with intercept and covariates of each trial and the treatment centred by
trial, because it is fitted by maximum likelihood (``pooling.md`` 2, rule 6). Hazard ratio: Cox,
with baseline hazard and covariates of each trial. A within-trial interaction is treatment by
covariate less the trial's mean; it is common to the trials, the treatment effect random. Wald
intervals: the variance between trials is that of maximum likelihood, which with few trials is too
small, so the two-stage intervals are read first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ...errors import EstimationError
from ...statistics.event_mixed import (
    EventTrial,
    MixedEventFit,
    fit_cox_mixed,
    fit_logistic_mixed,
)
from ...statistics.event_models import risk_sets
from ...statistics.meta import t_interval
from ..endpoint.analysis_set import Analysed
from ..first_stage.events import independent
from ..options import PoolingOptions
from ..results import EffectRow, Study
from .two_stage import (
    COMMON_EFFECT,
    as_sensitivity,
    interval_cells,
    pooled_effect,
    prediction_of,
)

MODELS = {
    "odds-ratio": "logistic model with a random treatment effect",
    "hazard-ratio": "Cox model with a random treatment effect, penalised partial likelihood",
}
AT_BOUND = "tau2 = 0: the fit is that of a common effect"
COMMON_INTERACTION = "treatment effect random, interaction common to the trials"


def random_effect_rows(
    trials: Sequence[Analysed], studies: Sequence[Study], options: PoolingOptions
) -> tuple[list[EffectRow], list[str]]:
    """The one-stage rows of one active arm and sentences for the report; none below two trials.

    They are the headline of the one-stage model of odds and hazard ratios, the common effect is
    sensitivity; `methods` says why. The common hazard ratio is that of the model stratified by
    trial (`events`). Trials in which no or all participants had the event say nothing and are left
    out; an arm without events is used as it is. EstimationError where --model one-stage has no fit.
    """
    arm, hazard = studies[0].arm, options.effect == "hazard-ratio"
    used, blocks = [], []  # the trials that say something of the arm
    for trial in trials:
        arms = trial.rows["arm"].to_numpy()
        others = [arms == name for name in sorted(set(arms) - {options.control, arm})]
        own = [*others, *trial.nuisance.to_numpy(dtype=float).T]
        block = _block(trial.rows, own, (arm, {}, []), options)
        if block is not None:
            used.append(trial.trial)
            blocks.append(block)
    if len(blocks) < 2:
        return [], []
    mine = [study for study in studies if study.trial in used]
    fit = _fit(blocks, options)
    if fit is None:
        why = "its likelihood has no finite maximum, or the search did not converge."
        perfect = [study.trial for study in mine if "perfectly" in study.note]
        if perfect:
            why = f"covariates predict the events of {', '.join(perfect)} perfectly."
        for words in ("control", "active"):
            if not any(getattr(study, f"events_{words}") for study in mine):
                why = f"no participant of the {words} arms had the event."
        sentence = f"{arm}: no one-stage {MODELS[options.effect]}: {why}"
        if options.model == "one-stage" and not hazard:
            raise EstimationError(sentence, hint="Use --model two-stage, or fewer --adjust.")
        return [], [sentence]
    rows = [_row(fit, mine, options)] if options.tau2 != "fe" else []
    if hazard:
        return rows, []
    common = _fit(blocks, replace(options, tau2="fe"))
    if common is not None:
        single = replace(_row(common, mine, options), tau2_method="fe", note="")
        rows.append(as_sensitivity(single, COMMON_EFFECT) if rows else single)
    return rows, []


def _row(fit: MixedEventFit, studies: Sequence[Study], options: PoolingOptions) -> EffectRow:
    estimate, se = float(fit.shared[0]), float(np.sqrt(fit.covariance[0, 0]))
    interval = t_interval(estimate, se, float("inf"), options.level)
    return pooled_effect(
        studies,
        (estimate, interval),
        options,
        model="one-stage",
        **(prediction_of(estimate, fit.tau2, se, len(studies), options) if fit.tau2 else {}),
        tau2=fit.tau2,
        tau2_method="ml",
        headline=True,
        note="" if fit.tau2 else AT_BOUND,
    )


def _fit(blocks: Sequence[EventTrial], options: PoolingOptions) -> MixedEventFit | None:
    try:
        if options.effect == "hazard-ratio":
            return fit_cox_mixed(blocks)
        return fit_logistic_mixed(blocks, common=options.tau2 == "fe")
    except (ArithmeticError, np.linalg.LinAlgError):
        return None


def _block(
    rows: pd.DataFrame,
    own: Sequence[np.ndarray],
    wanted: tuple[str, Mapping[str, np.ndarray], Sequence[str]],
    options: PoolingOptions,
) -> EventTrial | None:
    """One trial's columns; None where it says nothing of the arm.

    ``wanted`` are the active arm, the centred columns of a modifier by name, and the names of all
    products with treatment in the model: those the trial lacks are 0.
    """
    arm, modifier, products = wanted
    arms, y = rows["arm"].to_numpy(), rows["outcome"].to_numpy(dtype=float) > 0
    pair = (arms == arm) | (arms == options.control)
    hazard = options.effect == "hazard-ratio"
    if not (arms == arm)[pair].any() or (arms == arm)[pair].all():
        return None
    if not y[pair].any() or (y[pair].all() and not hazard):
        return None
    # Other arms of the trial are its own and have no random part.
    treat = np.where(pair, (arms == arm) - (arms == arm)[pair].mean(), 0.0)
    columns = np.column_stack([np.zeros((len(y), 0)), *own, *modifier.values()])
    columns = columns[:, independent(columns, treat[:, None])[0]].astype(float)
    columns = columns - columns.mean(axis=0)
    columns = columns / np.sqrt((columns**2).mean(axis=0))
    zero = np.zeros(len(y))
    shared = np.column_stack([treat, *(treat * modifier.get(name, zero) for name in products)])
    if not hazard:
        return EventTrial.logistic(
            np.column_stack([np.ones(len(y)), columns]), shared, y.astype(float)
        )
    time = rows["time"].to_numpy(dtype=float)
    sets = risk_sets(time, y, np.column_stack([columns, shared]))
    return EventTrial.cox(columns.shape[1], sets)


# ------------------------------------------------------------------ interactions


def interaction_fit(
    parts: Sequence[tuple[pd.DataFrame, Sequence[np.ndarray], Mapping[str, np.ndarray]]],
    arm: str,
    products: Sequence[str],
    options: PoolingOptions,
) -> tuple[MixedEventFit, int] | None:
    """The model with treatment by each of ``products``, and its number of trials.

    ``parts`` are rows of the active arm and control, covariates of its own and the centred columns
    of the modifier, for each trial. The interactions are the shared coefficients after the first.
    None below two trials or without a finite maximum.
    """
    blocks = [_block(rows, own, (arm, columns, products), options) for rows, own, columns in parts]
    usable = [block for block in blocks if block is not None]
    if len(usable) < 2:
        return None
    fit = _fit(usable, options)
    return None if fit is None else (fit, len(usable))


def interaction_row(
    fit: MixedEventFit, place: int, k: int, cells: Mapping[str, Any], options: PoolingOptions
) -> EffectRow:
    """The row of one interaction of `interaction_fit`; ``cells`` say which it is."""
    estimate = float(fit.shared[place])
    se = float(np.sqrt(fit.covariance[place, place]))
    interval = t_interval(estimate, se, float("inf"), options.level)
    return EffectRow(
        **cells,
        model="one-stage",
        **interval_cells(estimate, interval, options),
        k=k,
        tau2=fit.tau2,
        tau2_method="ml",
        headline=True,
        note=COMMON_INTERACTION,
    )
