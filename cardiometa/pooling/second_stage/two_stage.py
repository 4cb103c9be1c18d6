"""The second stage as rows: each trial, the pooled effect by every interval, leave-one-out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from ...statistics.meta import (
    CI_METHODS,
    LEAST_TRIALS_EGGER,
    Interval,
    LinearFit,
    RandomEffects,
    egger,
    leave_one_out,
    pool_estimates,
    pooled_interval,
    prediction_interval,
    q_profile,
    t_interval,
    tau2_standard_error,
)
from ...statistics.meta import METHODS as TAU2_METHODS
from ..options import RATIOS, PoolingOptions
from ..results import EffectRow, HeterogeneityRow, Study

ONE_TRIAL = "one trial: its own interval, no heterogeneity can be estimated"
COMMON_EFFECT = "common effect (tau2 = 0)"
WITHOUT_REVIEW = "without rows marked for review"
PARTICIPANTS_ONLY = "trials with participants' data only"
SMALL_STUDY = "Egger's test: change of the effect per unit of its standard error"
_COUNTS = ("n_control", "n_active")
NO_WIDTH = "estimates equal: the interval has no width and must not be used"


def estimates_of(studies: Sequence[Study]) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and variances of the studies that have one."""
    usable = [study for study in studies if study.estimable]
    y = np.array([study.estimate for study in usable], dtype=float)
    return y, np.array([study.se for study in usable], dtype=float) ** 2


def effect_rows(studies: Sequence[Study], options: PoolingOptions) -> tuple[EffectRow, ...]:
    """Every row of ``effects.csv`` for one arm: trials, pooled, sensitivity, leave-one-out.

    At least one study must be estimable.
    """
    usable = [study for study in studies if study.estimable]
    fit = pool_estimates(*estimates_of(usable), options.tau2)
    weights = dict(zip((study.trial for study in usable), fit.weights, strict=True))
    rows = [_trial_row(study, weights.get(study.trial), options) for study in studies]
    rows += pooled_rows(usable, options)
    if len(usable) > 1 and options.tau2 != "fe":
        common = pool_estimates(*estimates_of(usable), "fe")
        interval = pooled_interval(common, "wald", options.level)
        row = _pooled_row(usable[0], common, interval, options)
        rows.append(as_sensitivity(replace(row, **_counts(usable)), COMMON_EFFECT))
    with_rows = [study for study in usable if not study.aggregate]
    if 0 < len(with_rows) < len(usable):
        rows.append(sensitivity_row(with_rows, options, PARTICIPANTS_ONLY))
    y, v = estimates_of(usable)
    # Egger's test needs standard errors that differ.
    if len(usable) >= LEAST_TRIALS_EGGER and float(np.ptp(v)) >= 1e-9 * float(v.max()):
        rows.append(
            EffectRow(
                analysis="small-study",
                **comparison_cells(options, usable[0].arm, usable[0].control),
                **interval_cells(*egger(y, v, options.level), options, ratio=False),
                k=len(usable),
                headline=True,
                variant="small-study",
                note=SMALL_STUDY,
            )
        )
    if options.leave_one_out and len(usable) >= 3:
        n = {name: [getattr(s, name) for s in usable] for name in _COUNTS}
        lacking = {name: counts.count(None) for name, counts in n.items()}
        known = {name: sum(filter(None, counts)) for name, counts in n.items()}
        for study, without in zip(usable, deleted_fits(tuple(usable), options.tau2), strict=True):
            own = {name: getattr(study, name) for name in _COUNTS}
            cells: dict[str, Any] = {
                name: known[name] - (count or 0) if lacking[name] == (count is None) else None
                for name, count in own.items()
            }
            cells |= {"analysis": "leave-one-out", "trial": study.trial}
            rows += [
                replace(row, **cells, pi_low=None, pi_high=None)
                for row in _rows_of_fit(without, study, options)
            ]
    return tuple(rows)


@lru_cache(maxsize=8)
def deleted_fits(usable: tuple[Study, ...], tau2: str) -> Sequence[RandomEffects]:
    """The fits without each study in turn: of the leave-one-out rows and of the influence."""
    return leave_one_out(*estimates_of(usable), tau2)


def sensitivity_row(studies: Sequence[Study], options: PoolingOptions, label: str) -> EffectRow:
    """The headline of another set of studies, marked as a sensitivity analysis."""
    headline = next(row for row in pooled_rows(studies, options) if row.headline)
    return as_sensitivity(headline, label)


def as_sensitivity(row: EffectRow, label: str) -> EffectRow:
    """A row marked as a sensitivity analysis, ``label`` naming what is different."""
    note = "; ".join(part for part in (f"sensitivity: {label}", row.note) if part)
    return replace(row, headline=False, variant="sensitivity", label=label, note=note)


def pooled_rows(studies: Sequence[Study], options: PoolingOptions) -> list[EffectRow]:
    """One row for each interval of one pooled estimate, one of them the headline.

    One trial is given with its own interval: it gives neither heterogeneity nor HKSJ.
    """
    usable = [study for study in studies if study.estimable]
    fit = pool_estimates(*estimates_of(usable), options.tau2)
    counts = _counts(usable)
    if fit.k == 1:
        own = t_interval(fit.estimate, fit.se_wald, usable[0].df, options.level)
        row = _pooled_row(usable[0], fit, own, options)
        return [replace(row, **counts, headline=True, note=ONE_TRIAL)]
    return [replace(row, **counts) for row in _rows_of_fit(fit, usable[0], options)]


def _counts(studies: Sequence[Study]) -> dict[str, Any]:
    """Participants of both arms."""
    return {name: total([getattr(s, name) for s in studies]) for name in _COUNTS}


def _rows_of_fit(fit: RandomEffects, of: Study, options: PoolingOptions) -> list[EffectRow]:
    """One row for each interval of a fit of several studies like ``of``, without their counts."""
    rows = []
    for method in CI_METHODS:
        interval = pooled_interval(fit, method, options.level)
        row = _pooled_row(of, fit, interval, options)
        note = NO_WIDTH if interval.se == 0 else ""
        rows.append(replace(row, headline=method == options.headline_ci, note=note))
    return rows


def comparison_cells(options: PoolingOptions, arm: str, control: str) -> dict[str, Any]:
    """The cells that say which comparison a row is of."""
    return {"outcome": options.outcome, "effect": options.effect, "arm": arm, "control": control}


def contrast_interval_of(
    fit: LinearFit, contrast: np.ndarray, ci: str, options: PoolingOptions
) -> tuple[float, Interval]:
    """Estimate and interval of a contrast of a model of the trials' effects."""
    se = float(np.sqrt(contrast @ fit.scaled(ci) @ contrast))
    df = float("inf") if ci == "wald" else fit.df
    estimate = float(contrast @ fit.coefficients)
    return estimate, t_interval(estimate, se, df, options.level, ci)


def coefficient_cells(
    fit: LinearFit, place: int, ci: str, options: PoolingOptions
) -> dict[str, Any]:
    """The cells of one coefficient of a model of the trials' effects, its interval by ``ci``."""
    contrast = np.eye(len(fit.coefficients))[place]
    return interval_cells(*contrast_interval_of(fit, contrast, ci, options), options)


def heterogeneity_cells(fit: RandomEffects) -> dict[str, Any]:
    """The cells of tau², I² and Q of a pooled row."""
    cells = {"tau2": fit.tau2, "i2_percent": fit.i2_percent, "q": fit.q, "q_df": fit.q_df}
    return {**cells, "q_p": fit.q_p, "k": fit.k, "tau2_method": fit.tau2_method}


def _exp(value: float) -> float | None:
    """The ratio of a log; None beyond the largest number (two trials, one df, a high level)."""
    try:
        return math.exp(value)
    except OverflowError:
        return None


def interval_cells(
    estimate: float, interval: Interval, options: PoolingOptions, *, ratio: bool = True
) -> dict[str, Any]:
    """The cells of a row that an estimate and its interval fill.

    Without ``ratio`` the estimate is not the log of one, whatever the effect measure.
    """
    cells = {
        "estimate": estimate,
        "se": interval.se,
        "df": interval.df if math.isfinite(interval.df) else None,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "p": interval.p,
        "ci_method": interval.method,
    }
    if ratio and options.effect in RATIOS:
        cells["exp_estimate"] = _exp(estimate)
        cells["exp_ci_low"] = _exp(interval.low)
        cells["exp_ci_high"] = _exp(interval.high)
    return cells


def _trial_row(study: Study, weight: float | None, options: PoolingOptions) -> EffectRow:
    notes = [study.note]
    if study.aggregate:
        notes = ["summary data", f"n = {study.n}" * (study.n is not None), study.note]
    row = EffectRow(
        analysis="trial",
        trial=study.trial,
        **comparison_cells(options, study.arm, study.control),
        n_control=study.n_control,
        n_active=study.n_active,
        note="; ".join(filter(None, notes)),
        aggregate=study.aggregate,
    )
    if study.estimate is None or study.se is None:
        return row
    interval = t_interval(study.estimate, study.se, study.df, options.level)
    return replace(
        row,
        **interval_cells(study.estimate, interval, options),
        weight_percent=None if weight is None else 100.0 * float(weight),
        headline=True,
    )


def prediction_of(
    estimate: float, tau2: float, se: float, k: int, options: PoolingOptions
) -> dict[str, Any]:
    """The cells of the prediction interval; none for fewer than three trials."""
    if k < 3 or options.tau2 == "fe":
        return {}
    df = {"k-1": k - 1, "k-2": k - 2}[options.pi_df]
    wide = t_interval(estimate, math.sqrt(tau2 + se**2), df, options.level)
    return {"pi_low": wide.low, "pi_high": wide.high}


def total(counts: Sequence[int | None]) -> int | None:
    """The sum of counts, None where one is not known."""
    return None if any(count is None for count in counts) else sum(c for c in counts if c)


def pooled_effect(
    studies: Sequence[Study],
    found: tuple[float, Interval],
    options: PoolingOptions,
    **cells: Any,
) -> EffectRow:
    """The row of ``studies`` pooled: their comparison and counts, the estimate and its interval."""
    return EffectRow(
        analysis="pooled",
        **comparison_cells(options, studies[0].arm, studies[0].control),
        **_counts(studies),
        **interval_cells(*found, options),
        k=len(studies),
        **cells,
    )


def _pooled_row(
    of: Study, fit: RandomEffects, interval: Interval, options: PoolingOptions
) -> EffectRow:
    limits = prediction_interval(fit, interval.se, options.pi_df, options.level)
    return EffectRow(
        analysis="pooled",
        **comparison_cells(options, of.arm, of.control),
        **interval_cells(fit.estimate, interval, options),
        pi_low=None if limits is None else limits[0],
        pi_high=None if limits is None else limits[1],
        **(heterogeneity_cells(fit) if fit.k > 1 else {"k": 1}),
    )


def heterogeneity_rows(
    studies: Sequence[Study], options: PoolingOptions
) -> tuple[HeterogeneityRow, ...]:
    """tau², tau, I² and H² by every estimator with Q-profile limits; none for one trial."""
    usable = [study for study in studies if study.estimable]
    y, v = estimates_of(usable)
    if len(y) < 2:
        return ()
    limits = q_profile(y, v, options.level)
    tau2 = limits.tau2 or (None, None)
    i2 = limits.i2_percent or (None, None)
    h2 = limits.h2 or (None, None)
    rows = []
    for method in sorted(TAU2_METHODS, key=lambda name: name != options.tau2):
        fit = pool_estimates(y, v, method)
        rows.append(
            HeterogeneityRow(
                **comparison_cells(options, usable[0].arm, usable[0].control),
                k=fit.k,
                tau2_method=method,
                headline=method == options.tau2,
                tau2=fit.tau2,
                tau2_se=tau2_standard_error(fit, v),
                tau2_low=tau2[0],
                tau2_high=tau2[1],
                tau=math.sqrt(fit.tau2),
                tau_low=None if tau2[0] is None else math.sqrt(tau2[0]),
                tau_high=None if tau2[1] is None else math.sqrt(tau2[1]),
                i2_percent=fit.i2_percent,
                i2_low=i2[0],
                i2_high=i2[1],
                h2=fit.h2,
                h2_low=h2[0],
                h2_high=h2[1],
                i2_q_percent=max(0.0, 100.0 * (1 - fit.q_df / fit.q)) if fit.q > 0 else 0.0,
                q=fit.q,
                q_df=fit.q_df,
                q_p=fit.q_p,
                note="no tau2 fits: the estimates are closer to each other than chance allows"
                if limits.empty
                else "",
            )
        )
    return tuple(rows)
