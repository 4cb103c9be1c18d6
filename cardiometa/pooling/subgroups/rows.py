"""Interactions and subgroups as rows: within trials first, then by level, then between trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from ...statistics.meta import CI_METHODS, pool_estimates, pooled_interval, t_interval
from ..endpoint.analysis_set import Analysed
from ..options import EVENTS, PoolingOptions
from ..results import EffectRow
from ..second_stage.one_stage import headline_method, intervals_of, likelihood_name
from ..second_stage.one_stage_events import interaction_fit, interaction_row
from ..second_stage.two_stage import (
    coefficient_cells,
    comparison_cells,
    heterogeneity_cells,
    interval_cells,
)
from .interaction import (
    PooledInteraction,
    TrialInteraction,
    event_modifier,
    nuisance_of,
    one_stage_interaction,
    pool_interaction,
)
from .modifiers import (
    AGE,
    LEAST_IN_CELL,
    VALUE,
    ModifierSums,
    banded_ages,
    level_column,
    modifier_sums,
    per_text,
)

ALL_LEVELS = "all levels"
ECOLOGICAL = "ecological: between trials, not within; no effect modification can be read from it"
_FEW = "not pooled: fewer than two trials or 20 participants per arm"
_LEAST_TRIALS, _LEAST_PARTICIPANTS = 2, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Interactions:
    """The rows of all modifiers of one arm, and sentences for the report.

    ``events`` are those of (arm, term, trial, level, arm of the count), where outcomes are events.
    """

    rows: tuple[EffectRow, ...]
    warnings: tuple[str, ...]
    events: Mapping[tuple[str, str, str, str, str], int] = field(default_factory=dict)


def modifiers_of(
    trials: Sequence[Analysed],
    people: pd.DataFrame,
    arm: str,
    options: PoolingOptions,
    *,
    least: int = LEAST_IN_CELL,
) -> list[ModifierSums]:
    """The sums of every modifier of ``--by``; ages also in bands, for display."""
    found = []
    for name in options.by_columns:
        values = people[f"covariate {name}"]
        found.append(modifier_sums(trials, values, name, arm, options, least=least))
        if name == AGE and found[-1].numeric:
            banded = banded_ages(trials, values, arm, options, least=least)
            if banded is not None:
                found.append(banded)
    return found


def interaction_rows(
    modifiers: Sequence[ModifierSums],
    options: PoolingOptions,
    trials: Sequence[Analysed] = (),
) -> Interactions:
    """Rows of ``effects.csv`` for one arm: interactions, then subgroups; Holm's p at the end.

    ``trials`` are the analysed rows, which only events need.
    """
    rows: list[EffectRow] = []
    warnings: list[str] = []
    events: dict[tuple[str, str, str, str, str], int] = {}
    for modifier in modifiers:
        first = None
        if options.effect in EVENTS:
            first, counts = event_modifier(modifier, trials, options)
            term = f"treatment:{modifier.name}"
            events |= {(modifier.arm, term, *key): n for key, n in counts.items()}
        method, ci = likelihood_name(options), options.headline_ci
        pooled = pool_interaction(modifier, method, first, ci=ci)
        warnings += _warnings(pooled)
        if not modifier.banded:
            # Each trial's own; a level against its first one where it lacks the reference.
            for trial in pooled.trials:
                row = EffectRow(
                    **_common(pooled, options, "interaction"),
                    trial=trial.trial,
                    **_counts(modifier, trial.trial),
                    note=trial.note,
                )
                if trial.estimates is None:
                    rows.append(replace(row, level=per_text(modifier.name) * modifier.numeric))
                for name, estimate, se in _own_contrasts(trial, modifier):
                    interval = t_interval(estimate, se, trial.df, options.level)
                    cells = interval_cells(estimate, interval, options)
                    rows.append(replace(row, level=name, **cells, headline=True))
            rows += _pooled_rows(pooled, options)
            if options.model != "two-stage":
                is_event = options.effect in EVENTS
                single, sentences = (
                    _event_one_stage_rows(pooled, trials, options)
                    if is_event
                    else _one_stage_rows(pooled, options)
                )
                rows += single
                warnings += sentences
        if not modifier.numeric:
            rows += _subgroup_rows(pooled, options)
    return Interactions(
        rows=tuple(with_holm(rows, options)), warnings=tuple(warnings), events=events
    )


def _common(pooled: PooledInteraction, options: PoolingOptions, analysis: str) -> dict[str, Any]:
    modifier = pooled.modifier
    cells = comparison_cells(options, modifier.arm, modifier.control)
    return {"analysis": analysis, "term": f"treatment:{modifier.name}", **cells}


def _contrast_names(pooled: PooledInteraction) -> list[str]:
    if pooled.modifier.numeric:
        return [per_text(pooled.modifier.name)]
    return [f"{level} vs {pooled.levels[0]}" for level in pooled.levels[1:]]


# ------------------------------------------------------------------ interactions, two-stage


def _own_contrasts(
    trial: TrialInteraction, modifier: ModifierSums
) -> list[tuple[str, float, float]]:
    """Name, estimate and SE of a trial's interactions."""
    b, v = trial.estimates, trial.covariance
    if b is None or v is None:
        return []
    if modifier.numeric:
        return [(per_text(modifier.name), float(b[0]), math.sqrt(float(v[0, 0])))]
    return [
        (
            f"{level} vs {trial.levels[0]}",
            float(b[i] - b[0]),
            math.sqrt(float(v[i, i] + v[0, 0] - 2 * v[0, i])),
        )
        for i, level in enumerate(trial.levels[1:], start=1)
    ]


def _counts(
    modifier: ModifierSums, trial: str | None = None, level: str | None = None
) -> dict[str, Any]:
    sums: dict[str, Any] = {"n_control": 0, "n_active": 0}
    for (name, at, arm), count in modifier.counts.items():
        if (trial is None or name == trial) and (level is None or at == level):
            sums["n_control" if arm == modifier.control else "n_active"] += count
    return sums


def _pooled_rows(pooled: PooledInteraction, options: PoolingOptions) -> list[EffectRow]:
    """Every contrast by every interval, and one test of all where there are several."""
    if not pooled.k:
        return []
    common = {**_common(pooled, options, "interaction"), **_counts(pooled.modifier)}
    names = _contrast_names(pooled)
    if len(names) == 1:  # the second stage of the main effect, heterogeneity included
        # Trials of levels that none compares with the reference have contrasts of other names.
        own = [
            (trial.df, *contrast[1:])
            for trial in pooled.trials
            for contrast in _own_contrasts(trial, pooled.modifier)
            if contrast[0] == names[0]
        ]
        y, se = np.array([contrast[1:] for contrast in own]).T
        single, common["level"] = pool_estimates(y, se**2, options.tau2), names[0]
        if single.k == 1:
            interval = t_interval(single.estimate, single.se_wald, own[0][0], options.level)
            cells = interval_cells(single.estimate, interval, options)
            note = "one trial: its own interaction"
            return [EffectRow(**common, k=1, **cells, headline=True, note=note)]
        return [
            EffectRow(
                **common,
                **interval_cells(
                    single.estimate, pooled_interval(single, ci, options.level), options
                ),
                **heterogeneity_cells(single),
                headline=ci == options.headline_ci,
            )
            for ci in CI_METHODS
        ]
    fit = pooled.fit
    assert fit is not None
    common |= {"k": pooled.k, "tau2": fit.tau2, "tau2_method": likelihood_name(options)}
    headline = options.headline_ci if fit.df > 0 else "wald"
    rows = []
    for j, name in enumerate(names):
        for ci in CI_METHODS if fit.df > 0 else ("wald",):
            cells = coefficient_cells(fit, j, ci, options)
            rows.append(EffectRow(**common, level=name, **cells, headline=ci == headline))
    # Whether any level differs: F of the scaled covariance, or chi² of the Wald one.
    test, m, df, p = fit.test(list(range(len(names))), headline)
    rows.append(
        EffectRow(
            **common,
            level=ALL_LEVELS,
            q=test if headline == "wald" else test * m,
            q_df=m,
            p=p,
            df=None if headline == "wald" else df,
            ci_method=headline,
            headline=True,
            variant="joint-test",
            note="test that the effect is the same at all levels",
        )
    )
    return rows


# ------------------------------------------------------------------ interactions, one-stage


def _one_stage_rows(
    pooled: PooledInteraction, options: PoolingOptions
) -> tuple[list[EffectRow], list[str]]:
    name = pooled.modifier.name
    try:
        single = one_stage_interaction(pooled, options)
        if single is None:
            return [], []
        fit = single.fit
        every = [intervals_of(fit, contrast, options) for contrast in np.eye(len(fit.beta))]
    except (ArithmeticError, np.linalg.LinAlgError):
        return [], [f"{pooled.modifier.arm}: no one-stage interaction with {name}: not estimable."]
    if not fit.checks.converged:
        sentence = f"{pooled.modifier.arm}: the one-stage interaction with {name} did not "
        return [], [f"{sentence}converge and is not given."]
    names = _contrast_names(pooled)
    common = {"model": "one-stage", **_common(pooled, options, "interaction")}
    common |= {"k": single.k, "tau2": float(fit.theta[1]), "tau2_method": likelihood_name(options)}
    rows = []
    for places, note in ((single.within, ""), (single.across, ECOLOGICAL)):
        for place, level in zip(places, names, strict=False):
            for interval in every[place]:
                head = interval.method == headline_method(fit, options)
                if note and not head:
                    continue
                cells = interval_cells(float(fit.beta[place]), interval, options)
                rows.append(
                    EffectRow(
                        **(common | ({"tau2": float(fit.theta[0])} if note else {})),
                        level=level,
                        **cells,
                        headline=head and not note,
                        variant="ecological" if note else "main",
                        note=note,
                    )
                )
    return rows, []


def _event_one_stage_rows(
    pooled: PooledInteraction, trials: Sequence[Analysed], options: PoolingOptions
) -> tuple[list[EffectRow], list[str]]:
    """The within-trial interactions of events from the trials that the two-stage ones use."""
    modifier, known = pooled.modifier, {trial.trial: trial for trial in trials}
    if not modifier.numeric and len(pooled.levels) < 2:
        return [], []
    columns = [VALUE] if modifier.numeric else [level_column(v) for v in pooled.levels[1:]]
    parts = []
    for own in pooled.trials:
        if own.estimates is None:
            continue
        numbers = modifier.own[own.trial]
        if not modifier.numeric:
            inside = [level_column(v) for v in own.levels if v in pooled.levels]
            numbers = numbers[numbers[inside].sum(axis=1) > 0]
        rows = known[own.trial].rows.loc[numbers.index]
        centred = {c: (numbers[c] - numbers[c].mean()).to_numpy() for c in columns if c in numbers}
        parts.append((rows, nuisance_of(known[own.trial], rows, modifier.name), centred))
    found = interaction_fit(parts, modifier.arm, columns, options)
    if found is None:
        return [], (
            [f"{modifier.arm}: no one-stage interaction with {modifier.name}: not estimable."]
            if pooled.k > 1
            else []
        )
    cells = _common(pooled, options, "interaction")
    return [
        interaction_row(found[0], place, found[1], {**cells, "level": name}, options)
        for place, name in enumerate(_contrast_names(pooled), start=1)
    ], []


# ------------------------------------------------------------------ subgroups


def _subgroup_rows(pooled: PooledInteraction, options: PoolingOptions) -> list[EffectRow]:
    """Effects by level: each trial's own, then the floating ones, which fit the interactions."""
    modifier = pooled.modifier
    common = _common(pooled, options, "subgroup")
    rows = []
    for trial in pooled.trials:
        for i, level in enumerate(trial.levels):
            counts = _counts(modifier, trial.trial, level)
            row = EffectRow(**common, trial=trial.trial, level=level, **counts, note=trial.note)
            if trial.estimates is not None and trial.covariance is not None:
                se = math.sqrt(float(trial.covariance[i, i]))
                interval = t_interval(float(trial.estimates[i]), se, trial.df, options.level)
                cells = interval_cells(float(trial.estimates[i]), interval, options)
                # No p for a single level: levels are compared, not tested one by one.
                row = replace(row, **(cells | {"p": None}), headline=True)
            rows.append(row)
    floating = pooled.floating
    for level in modifier.levels:
        counts = _counts(modifier, None, level)
        holders = {trial for (trial, at, _) in modifier.counts if at == level}
        row = EffectRow(**common, level=level, **counts, k=len(holders), headline=True)
        enough = len(holders) >= _LEAST_TRIALS and min(counts.values()) >= _LEAST_PARTICIPANTS
        if floating is None or level not in pooled.levels:
            rows.append(replace(row, note="no trial compares this level with another"))
        elif not enough:
            rows.append(replace(row, variant="not-pooled", note=_FEW))
        else:
            j = pooled.levels.index(level)
            se = math.sqrt(float(floating.covariance[j, j]))
            beta, ci = float(floating.beta[j]), options.headline_ci
            cells = interval_cells(
                beta, t_interval(beta, se, floating.df, options.level, ci), options
            )
            rows.append(replace(row, **(cells | {"p": None}), tau2_method=likelihood_name(options)))
    return rows


# ------------------------------------------------------------------ Holm, warnings


def with_holm(rows: Sequence[EffectRow], options: PoolingOptions) -> list[EffectRow]:
    """Holm's p over all exploratory interactions of one model, next to the raw one.

    A modifier with several levels counts once, by its joint test where there is one; what the plan
    names beforehand is not adjusted.
    """
    joint = {row.term for row in rows if row.variant == "joint-test"}
    adjusted = list(rows)
    for model in ("two-stage", "one-stage"):
        tested = [
            i
            for i, row in enumerate(rows)
            if row.analysis == "interaction"
            and row.model == model
            and row.headline
            and not row.trial
            and row.p is not None
            and row.term.partition(":")[2] not in options.prespecified_columns
            and (row.term not in joint or model == "one-stage" or row.variant == "joint-test")
        ]
        tested.sort(key=lambda i: rows[i].p or 0.0)
        running = 0.0
        for rank, i in enumerate(tested):
            running = max(running, min(1.0, (len(tested) - rank) * (rows[i].p or 0.0)))
            adjusted[i] = replace(rows[i], p_holm=running)
    return adjusted


def _warnings(pooled: PooledInteraction) -> list[str]:
    modifier = pooled.modifier
    if modifier.banded:
        return []
    name, arm = modifier.name, modifier.arm
    found: list[str] = []
    if not pooled.k:
        found.append(f"{arm}: no trial gives an interaction with {name}.")
    elif pooled.k == 1:
        found.append(f"{arm}: one trial alone gives an interaction with {name}.")
    if modifier.left_out:
        cells = ", ".join(f"{level} in {trial}" for trial, level in modifier.left_out[:12])
        found.append(f"{arm}: too few participants per arm for an effect by {name}: {cells}.")
    if pooled.apart:
        found.append(
            f"{arm}: no trial compares {', '.join(pooled.apart)} with {modifier.levels[0]}: no "
            "interaction with it is given."
        )
    return found
