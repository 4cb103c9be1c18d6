"""The effect over a number without a straight line: splines within each trial, pooled together.

Each trial's model has the restricted cubic spline of the number and its product with treatment, on
knots common to all trials; the products' coefficients are pooled as one vector with an unstructured
between-trial covariance (Riley et al. 2020, Stat Med 39:2115; ``pooling.md`` 2.3). What is shown is
the difference in effect from a reference value, which no difference between trials touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ...statistics.basis_functions import common_knots, restricted_cubic
from ...statistics.multivariate import fit_unstructured
from ..endpoint.analysis_set import Analysed
from ..endpoint.columns import covariate_numbers
from ..first_stage.arm_sums import ArmFit
from ..options import EVENTS, PoolingOptions
from ..results import SplineRow
from ..second_stage.one_stage import likelihood_name
from ..second_stage.two_stage import comparison_cells, contrast_interval_of, interval_cells
from .interaction import fit_event_numbers, nuisance_of, products_with_numbers
from .modifiers import VALUE, both_arms, sums_with

OVERALL, NON_LINEAR = "overall", "non-linear"
COMMON = "common effect: too few trials for a between-trial covariance"
_LEAST_TRIALS = 2
_POINTS = 41
_EDGE = 0.025  # the curve ends where this share of participants are beyond


def spline_rows(
    trials: Sequence[Analysed], people: pd.DataFrame, arm: str, options: PoolingOptions
) -> tuple[list[SplineRow], list[str]]:
    """The curve and its tests of each number among the modifiers, and sentences for the report."""
    rows: list[SplineRow] = []
    warnings: list[str] = []
    if not options.spline:
        return rows, warnings
    every = {name: covariate_numbers(people[f"covariate {name}"]) for name in options.by_columns}
    if all(numbers is None for numbers in every.values()):
        warnings.append(f"{arm}: --spline is of numbers, and --by names none.")
    for name, numbers in every.items():
        if numbers is not None:
            found, sentences = _of_number(trials, numbers, name, arm, options)
            rows += found
            warnings += sentences
    return rows, warnings


def _of_number(
    trials: Sequence[Analysed],
    numbers: pd.Series[float],
    name: str,
    arm: str,
    options: PoolingOptions,
) -> tuple[list[SplineRow], list[str]]:
    """The rows of one number; a sentence says why there are none, or which trials are left out."""
    none = f"{arm}: no spline of {name}:"
    own = [numbers.loc[both_arms(t, arm, options.control)].dropna() for t in trials]
    values = np.concatenate([part.to_numpy(dtype=float) for part in own] or [np.empty(0)])
    if not len(values):
        return [], [f"{none} no participant has a value."]
    # Knots and ends are rounded to about a tenth of the SD: 1, 2 or 5 times a power of ten.
    size = max(float(values.std()) / 8.0, 1e-12)
    power = 10.0 ** np.floor(np.log10(size))
    step = float(power * max(m for m in (1.0, 2.0, 5.0) if m * power <= size * (1 + 1e-12)))
    knots = common_knots(values, options.spline, step)
    if knots is None:
        return [], [f"{none} its values do not spread over the knots."]
    curves = [
        _trial_curve(trial, part, (name, arm), knots, options)
        for trial, part in zip(trials, own, strict=True)
    ]
    given = [curve for curve in curves if not isinstance(curve, str)]
    lost = [f"{t.trial} ({c})" for t, c in zip(trials, curves, strict=True) if isinstance(c, str)]
    if len(given) < _LEAST_TRIALS:
        return [], [f"{none} fewer than two trials can show it; {'; '.join(lost)}."]
    estimates, covariances = (np.array(part) for part in zip(*given, strict=True))
    fit = fit_unstructured(estimates, covariances, likelihood_name(options))
    grid = _grid(values, step)
    reference = float(round(float(np.median(values)) / step) * step)
    row = SplineRow(
        **comparison_cells(options, arm, options.control),
        covariate=name,
        kind="test",
        level="",
        k=fit.k,
        knots=";".join(f"{knot:g}" for knot in knots),
        tau2_method=likelihood_name(options),
        ci_method=options.headline_ci,
        note=COMMON if fit.common and options.tau2 != "fe" else "",
    )
    rows = []
    for level, first in ((OVERALL, 0), (NON_LINEAR, 1)):
        places = list(range(first, len(fit.coefficients)))
        test, m, df, p = fit.test(places, options.headline_ci)
        known = df if np.isfinite(df) else None
        rows.append(replace(row, level=level, test=test, test_df=m, df=known, p=p))
    # The curve: the difference in effect from the reference; no p at single values.
    contrasts = restricted_cubic(grid, knots) - restricted_cubic(np.array([reference]), knots)
    for value, contrast in zip(grid, contrasts, strict=True):
        found = contrast_interval_of(fit, contrast, options.headline_ci, options)
        cells = interval_cells(*found, options) | {"p": None}
        rows.append(replace(row, kind="curve", value=float(value), reference=reference, **cells))
    return rows, [f"{arm}: not in the spline of {name}: {', '.join(lost)}."] if lost else []


def _grid(values: np.ndarray, step: float) -> np.ndarray:
    low, high = np.quantile(values, (_EDGE, 1.0 - _EDGE)) / step
    return np.linspace(np.ceil(low) * step, np.floor(high) * step, _POINTS)


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
    frame = pd.DataFrame(basis, index=values.index).add_prefix(VALUE)
    if options.effect in EVENTS:
        if not 0 < part["outcome"].sum() < len(part):
            return "no events, or events of everyone"
        nuisance = nuisance_of(trial, part, name)
        fit = fit_event_numbers(part, frame, arm, nuisance, options)
        if fit is None:
            return "its values do not reach over the knots, or its events are too few"
        return fit[0], fit[1]
    sums = sums_with(trial, part, name, frame, options)
    found = products_with_numbers(sums, list(frame.columns), arm)
    if isinstance(found, ArmFit):
        return found.estimates, found.covariance
    return found or "its values do not reach over the knots"
