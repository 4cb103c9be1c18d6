"""Mantel-Haenszel pooling of 2 × 2 tables: needs no correction of empty cells.

Variances: odds ratio Robins, Breslow & Greenland (1986), risk ratio Greenland & Robins (1985), risk
difference Sato, Greenland & Robins (1989). One common effect. With few events inverse-variance
weights come from the same few events as the estimates; these do not.

All rows of an endpoint of events: two-stage, Mantel-Haenszel in addition, models in one stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import UsageError
from ...statistics.event_models import RiskSets, fit_cox
from ...statistics.meta import t_interval
from ..endpoint.analysis_set import Analysed
from ..first_stage.events import trial_design, trial_risk_sets
from ..options import PoolingOptions
from ..results import EffectRow, Study
from .one_stage import FEW_TRIALS
from .one_stage_events import random_effect_rows
from .two_stage import as_sensitivity, effect_rows, pooled_effect

MANTEL_HAENSZEL = "Mantel-Haenszel, common effect, no cell corrected"
UNADJUSTED = "covariates not used"
_RARE = 0.01


def tables_of(studies: Sequence[Study]) -> np.ndarray:
    """``[k, 4]``: events and n of the active arm, events and n of the control."""
    known = [
        (s.events_active, s.n_active, s.events_control, s.n_control)
        for s in studies
        if s.events_active is not None and s.n_active and s.n_control
    ]
    return np.array(known, dtype=float).reshape(-1, 4)


def is_sparse(studies: Sequence[Study]) -> bool:
    """True where at least half of the trials have an arm without events, or events are rare."""
    tables = tables_of(studies)
    if not len(tables):
        return False
    a, n1, c, n2 = tables.T
    empty = (a == 0) | (c == 0)
    return bool(2 * empty.sum() >= len(tables) or (a + c).sum() < _RARE * (n1 + n2).sum())


def mantel_haenszel(tables: np.ndarray, effect: str) -> tuple[float, float] | None:
    """Estimate (ratios: log) and standard error; None where no table says anything."""
    a, n1, c, n2 = tables.T
    n = n1 + n2
    if effect == "risk-difference":
        weight = (n1 * n2 / n).sum()
        estimate = float((a * n2 / n - c * n1 / n).sum() / weight)
        # Sato, Greenland & Robins 1989.
        b, d = n1 - a, n2 - c
        p = (c * (n1 / n) ** 2 - a * (n2 / n) ** 2 + (n1 / n) * (n2 / n) * (n2 - n1) / 2).sum()
        q = ((a * d + b * c) / n / 2).sum()
        variance = (estimate * p + q) / weight**2
        return (estimate, float(np.sqrt(variance))) if variance > 0 else None
    b, d = n1 - a, n2 - c
    if effect == "odds-ratio":
        r, s = a * d / n, b * c / n
        if r.sum() == 0 or s.sum() == 0:
            return None
        p, q = (a + d) / n, (b + c) / n
        variance = (
            (p * r).sum() / (2 * r.sum() ** 2)
            + (p * s + q * r).sum() / (2 * r.sum() * s.sum())
            + (q * s).sum() / (2 * s.sum() ** 2)
        )
        return float(np.log(r.sum() / s.sum())), float(np.sqrt(variance))
    r, s = a * n2 / n, c * n1 / n
    if r.sum() == 0 or s.sum() == 0:
        return None
    variance = ((n1 * n2 * (a + c) - a * c * n) / n**2).sum() / (r.sum() * s.sum())
    return float(np.log(r.sum() / s.sum())), float(np.sqrt(variance))


def mantel_haenszel_row(studies: Sequence[Study], options: PoolingOptions) -> EffectRow | None:
    """The row of the pooled 2 × 2 tables of one arm; None where there are fewer than two."""
    usable = [s for s in studies if s.events_active is not None and s.n_active and s.n_control]
    if options.effect != "risk-difference":
        usable = [s for s in usable if (s.events_active or 0) + (s.events_control or 0) > 0]
    if len(usable) < 2:
        return None
    found = mantel_haenszel(tables_of(usable), options.effect)
    if found is None:
        return None
    interval = t_interval(*found, float("inf"), options.level)
    return pooled_effect(
        usable,
        (found[0], interval),
        options,
        tau2=0.0,
        tau2_method="fe",
        variant="mantel-haenszel",
        label=MANTEL_HAENSZEL,
        note="; ".join(
            [f"sensitivity: {MANTEL_HAENSZEL}", *([UNADJUSTED] if options.adjust else [])]
        ),
    )


HEADLINE = "Mantel-Haenszel, common effect, no cell corrected (events are few)"


def event_rows(
    trials: Sequence[Analysed], studies: Sequence[Study], options: PoolingOptions
) -> tuple[list[EffectRow], list[str]]:
    """The rows of one active arm and sentences for the report.

    Where events are few (`is_sparse`) the Mantel-Haenszel row is the headline: inverse-variance
    pooling of corrected cells is biased towards no effect (Bradburn et al. 2007).
    """
    if options.effect == "hazard-ratio":
        rows = list(effect_rows(studies, options))
        if options.model == "two-stage":
            return rows, []
        random, sentences = random_effect_rows(trials, studies, options)
        common = stratified_rows(trials, studies, options)
        # With few trials the spread between them is hardly known: both models are shown.
        enough = sum(study.estimable for study in studies) >= FEW_TRIALS if random else common
        if options.model == "one-stage" and enough:
            rows = [row for row in rows if row.analysis == "trial"]
        if random:
            common = [as_sensitivity(row, STRATIFIED) for row in common]
        return [*rows, *random, *common], sentences
    if options.effect == "odds-ratio":
        rows, warnings = _binary_rows(studies, options)
        if options.model == "two-stage":
            return rows, warnings
        random, sentences = random_effect_rows(trials, studies, options)
        enough = sum(study.estimable for study in studies) >= FEW_TRIALS
        if options.model == "one-stage" and random and enough:
            # The model replaces pooling, and with it what is said of pooling few events.
            return [*(row for row in rows if row.analysis == "trial"), *random], sentences
        return [*rows, *random], [*warnings, *sentences]
    if options.model == "one-stage":
        raise UsageError(
            f"--model one-stage is not available for --effect {options.effect}.",
            hint="Use --model two-stage; events that are few are pooled by Mantel-Haenszel.",
        )
    return _binary_rows(studies, options)


def _binary_rows(
    studies: Sequence[Study], options: PoolingOptions
) -> tuple[list[EffectRow], list[str]]:
    """The two-stage rows of 2 × 2 tables, Mantel-Haenszel among them."""
    rows = list(effect_rows(studies, options))
    extra = mantel_haenszel_row(studies, options)
    if extra is None:
        return rows, []
    warnings = []
    sparse = is_sparse(studies)
    aggregates = any(s.estimable and s.events_active is None for s in studies)
    if sparse and not aggregates and not options.adjust:
        pooled = ("pooled", "leave-one-out")
        rows = [replace(row, headline=False) if row.analysis in pooled else row for row in rows]
        usable = [study for study in studies if study.estimable]
        for study in usable if options.leave_one_out and len(usable) >= 3 else ():
            others = [other for other in studies if other is not study]
            row = mantel_haenszel_row(others, options)
            if row is not None:
                again = replace(row, analysis="leave-one-out", trial=study.trial)
                rows.append(replace(again, headline=True, note=HEADLINE))
        extra = replace(extra, headline=True, label="Mantel-Haenszel", note=HEADLINE)
        warnings.append(
            f"{extra.arm}: events are few (half of the trials or more have an arm without any, or "
            "less than 1 % of participants had one): the headline is Mantel-Haenszel's common "
            "effect; inverse-variance rows rest on corrected cells and tau2 is hardly known."
        )
    elif sparse:
        warnings.append(
            f"{extra.arm}: events are few: compare the headline with the Mantel-Haenszel row, "
            "because it rests on corrected cells."
        )
    return [*rows, extra], warnings


STRATIFIED = "Cox model stratified by trial, common effect"


@dataclass(frozen=True, slots=True, kw_only=True)
class StratifiedFit:
    """The Cox model over trials as strata, the active ``arms`` first among its ``coefficients``.

    ``places`` are where the coefficients of each trial's ``sets`` are among them.
    """

    arms: tuple[str, ...]
    coefficients: np.ndarray
    covariance: np.ndarray
    log_likelihood: float
    sets: tuple[RiskSets, ...]
    places: tuple[np.ndarray, ...]


def trials_with_events(trials: Sequence[Analysed], arm: str, control: str) -> list[Analysed]:
    """The trials that have both arms and an event in any."""
    return [
        trial
        for trial in trials
        if {arm, control} <= set(trial.rows["arm"]) and (trial.rows["outcome"] > 0).any()
    ]


def stratified_rows(
    trials: Sequence[Analysed], studies: Sequence[Study], options: PoolingOptions
) -> list[EffectRow]:
    """The common-effect model of one active arm; none for fewer than two trials with events.

    Baseline hazards and covariate effects are each trial's own (strata), the effect of every arm
    is common: the headline of the one-stage model only where no random effect was fitted. Trials
    that say nothing alone (an arm without events) enter as they are.
    """
    arm = studies[0].arm
    chosen = trials_with_events(trials, arm, options.control)
    fit = fit_stratified(chosen, options.control) if len(chosen) > 1 else None
    if fit is None:
        return []
    place = fit.arms.index(arm)
    estimate, se = fit.coefficients[place], np.sqrt(fit.covariance[place, place])
    interval = t_interval(float(estimate), float(se), float("inf"), options.level)
    names = {trial.trial for trial in chosen}
    mine = [study for study in studies if study.trial in names]
    return [
        pooled_effect(
            mine,
            (float(estimate), interval),
            options,
            model="one-stage",
            tau2=0.0,
            tau2_method="fe",
            headline=True,
            variant="stratified-cox",
            note=STRATIFIED,
        ),
    ]


def fit_stratified(trials: Sequence[Analysed], control: str) -> StratifiedFit | None:
    """The Cox model over trials as strata; None without a finite maximum.

    The covariates' coefficients are of each trial.
    """
    arms = tuple(sorted({name for trial in trials for name in trial.rows["arm"]} - {control}))
    designs = [trial_design(trial, control) for trial in trials]
    widths = [design.x.shape[1] - len(design.active) for design in designs]
    places = [[arms.index(name) for name in design.active] for design in designs]
    starts = len(arms) + np.concatenate([[0], np.cumsum(widths)]).astype(int)
    sets = [trial_risk_sets(trial, design) for trial, design in zip(trials, designs, strict=True)]
    indices = [
        np.array([*place, *range(start, start + width)], dtype=int)
        for place, start, width in zip(places, starts[:-1], widths, strict=True)
    ]
    fit = fit_cox(sets, places=indices)
    if fit is None:
        return None
    return StratifiedFit(
        arms=arms,
        coefficients=fit.coefficients,
        covariance=fit.covariance,
        log_likelihood=fit.log_likelihood,
        sets=tuple(sets),
        places=tuple(indices),
    )
