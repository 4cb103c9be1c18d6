"""The effect over a number without a straight line: splines within each trial, pooled together.

Each trial's model has the restricted cubic spline of the number and its product with treatment, on
knots common to all trials; the products' coefficients are pooled as one vector with an unstructured
between-trial covariance (Riley et al. 2020, Stat Med 39:2115; ``pooling.md`` 2.3). What is shown is
the difference in effect from a reference value, which no difference between trials touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ...statistics.basis_functions import common_knots, restricted_cubic
from ...statistics.meta import t_interval
from ...statistics.mixed.sufficient_statistics import absorb
from ...statistics.multivariate import UnstructuredFit, fit_unstructured
from ..endpoint.analysis_set import Analysed
from ..endpoint.columns import covariate_numbers
from ..first_stage.arm_sums import (
    OUTCOME,
    PRODUCT,
    ArmFit,
    arm_column,
    centre,
    solve_effects,
    whole_trial,
)
from ..options import EVENTS, PoolingOptions
from ..results import SplineRow
from ..second_stage.one_stage import likelihood_name
from ..second_stage.two_stage import comparison_cells, interval_cells
from .interaction import fit_event_columns, nuisance_of
from .modifiers import VALUE, both_arms, sums_with

OVERALL, NON_LINEAR = "overall", "non-linear"
COMMON = "common effect: too few trials for a between-trial covariance"
_LEAST_TRIALS = 2
_POINTS = 41
_EDGE = 0.025  # the curve ends where this share of participants are beyond


@dataclass(frozen=True, slots=True, kw_only=True)
class Splines:
    """The rows of every number of ``--by`` for one arm, and sentences for the report."""

    rows: tuple[SplineRow, ...]
    warnings: tuple[str, ...]


def spline_rows(
    trials: Sequence[Analysed], people: pd.DataFrame, arm: str, options: PoolingOptions
) -> Splines:
    """The curve and its tests of each number among the modifiers."""
    rows: list[SplineRow] = []
    warnings: list[str] = []
    every = {name: covariate_numbers(people[f"covariate {name}"]) for name in options.by_columns}
    if all(numbers is None for numbers in every.values()):
        warnings.append(f"{arm}: --spline is of numbers, and --by names none.")
    for name, numbers in every.items():
        if numbers is None:
            continue
        found = _of_number(trials, numbers, name, arm, options)
        if isinstance(found, str):
            warnings.append(f"{arm}: no spline of {name}: {found}.")
            continue
        rows += found.rows
        warnings += found.warnings
    return Splines(rows=tuple(rows), warnings=tuple(warnings))


def _of_number(
    trials: Sequence[Analysed],
    numbers: pd.Series[float],
    name: str,
    arm: str,
    options: PoolingOptions,
) -> Splines | str:
    """The rows of one number, or why there are none."""
    own = {
        trial.trial: numbers.loc[both_arms(trial, arm, options.control)].dropna()
        for trial in trials
    }
    values = np.concatenate([part.to_numpy(dtype=float) for part in own.values()] or [np.empty(0)])
    if not len(values):
        return "no participant has a value"
    step = _step(values)
    knots = common_knots(values, options.spline, step)
    if knots is None:
        return "its values do not spread over the knots"
    estimates, covariances, lost = [], [], []
    for trial in trials:
        found = _trial_curve(trial, own[trial.trial], (name, arm), knots, options)
        if isinstance(found, str):
            lost.append(f"{trial.trial} ({found})")
        else:
            estimates.append(found[0])
            covariances.append(found[1])
    if len(estimates) < _LEAST_TRIALS:
        return f"fewer than two trials can show it; {'; '.join(lost)}"
    fit = fit_unstructured(np.array(estimates), np.array(covariances), likelihood_name(options))
    grid = _grid(values, step)
    reference = float(round(float(np.median(values)) / step) * step)
    common = {
        **comparison_cells(options, arm, options.control),
        "covariate": name,
        "k": fit.k,
        "knots": ";".join(f"{knot:g}" for knot in knots),
        "tau2_method": likelihood_name(options),
        "note": COMMON if fit.common and options.tau2 != "fe" else "",
    }
    warnings = [f"{arm}: not in the spline of {name}: {', '.join(lost)}."] if lost else []
    rows = [*_tests(fit, common, options), *_curve(fit, knots, (grid, reference), common, options)]
    return Splines(rows=tuple(rows), warnings=tuple(warnings))


def _step(values: np.ndarray) -> float:
    """Rounding of knots and ends: about a tenth of the SD, 1, 2 or 5 times a power of ten."""
    size = max(float(values.std()) / 8.0, 1e-12)
    power = 10.0 ** np.floor(np.log10(size))
    return float(power * max(m for m in (1.0, 2.0, 5.0) if m * power <= size * (1 + 1e-12)))


def _grid(values: np.ndarray, step: float) -> np.ndarray:
    low, high = np.quantile(values, (_EDGE, 1.0 - _EDGE))
    ends = (np.ceil(low / step) * step, np.floor(high / step) * step)
    return np.linspace(ends[0], ends[1], _POINTS)


def _trial_curve(
    trial: Analysed,
    values: pd.Series[float],
    named: tuple[str, str],
    knots: tuple[float, ...],
    options: PoolingOptions,
) -> tuple[np.ndarray, np.ndarray] | str:
    """The coefficients of treatment x spline of one trial with their covariance, or the reason."""
    name, arm = named
    part = trial.rows.loc[values.index]
    if part["arm"].nunique() < 2:
        return "no participant with a value in an arm"
    basis = restricted_cubic(values.to_numpy(dtype=float), knots)
    names = [f"{VALUE}{j}" for j in range(basis.shape[1])]
    frame = pd.DataFrame(basis, columns=pd.Index(names), index=values.index)
    if options.effect in EVENTS:
        return _event_curve(trial, part, frame, named, options)
    sums = sums_with(trial, part, name, frame, options)
    wanted = [arm_column(arm), *(f"{PRODUCT}{column}" for column in names)]
    nuisance = [*sums.nuisance, *names]
    centres = {column: centre(sums, column) for column in names}
    left = absorb(whole_trial(sums, [*nuisance, *wanted, OUTCOME], centres), nuisance)
    fit = solve_effects(left, wanted)
    if not isinstance(fit, ArmFit):
        return fit
    if any(fit.reasons[1:]) or set(names) & set(left.aliased):
        return "its values do not reach over the knots"
    return fit.estimates[1:], fit.covariance[1:, 1:]


def _event_curve(
    trial: Analysed,
    rows: pd.DataFrame,
    frame: pd.DataFrame,
    named: tuple[str, str],
    options: PoolingOptions,
) -> tuple[np.ndarray, np.ndarray] | str:
    name, arm = named
    if not 0 < rows["outcome"].sum() < len(rows):
        return "no events, or events of everyone"
    treat = (rows["arm"] == arm).to_numpy(dtype=float)
    others = [column - column.mean() for column in frame.to_numpy(dtype=float).T]
    wanted = [treat, *(treat * column for column in others)]
    fit = fit_event_columns(rows, (wanted, others), nuisance_of(trial, rows, name), options)
    if fit is None:
        return "its values do not reach over the knots, or its events are too few"
    size = len(others)
    return fit[0][1 : 1 + size], fit[1][1 : 1 + size, 1 : 1 + size]


def _tests(
    fit: UnstructuredFit, common: dict[str, Any], options: PoolingOptions
) -> list[SplineRow]:
    p = len(fit.coefficients)
    rows = []
    for level, places in ((OVERALL, list(range(p))), (NON_LINEAR, list(range(1, p)))):
        statistic, m, df, value = fit.test(places, options.headline_ci)
        rows.append(
            SplineRow(
                **common,
                kind="test",
                level=level,
                test=statistic,
                test_df=m,
                df=df if np.isfinite(df) else None,
                p=value,
                ci_method=options.headline_ci,
            )
        )
    return rows


def _curve(
    fit: UnstructuredFit,
    knots: tuple[float, ...],
    at: tuple[np.ndarray, float],
    common: dict[str, Any],
    options: PoolingOptions,
) -> list[SplineRow]:
    """The difference in effect from the reference over the grid; no p at single values."""
    grid, reference = at
    contrast = restricted_cubic(grid, knots) - restricted_cubic(np.array([reference]), knots)
    covariance = fit.scaled(options.headline_ci)
    df = float("inf") if options.headline_ci == "wald" else fit.df
    rows = []
    for value, row in zip(grid, contrast, strict=True):
        estimate, se = float(row @ fit.coefficients), float(np.sqrt(row @ covariance @ row))
        interval = t_interval(estimate, se, df, options.level, options.headline_ci)
        cells = interval_cells(estimate, interval, options) | {"p": None}
        rows.append(
            SplineRow(
                **common,
                kind="curve",
                level="",
                value=float(value),
                reference=reference,
                **cells,
            )
        )
    return rows
