"""Tests of fixed effects in one-stage models: Kenward-Roger, Satterthwaite, Wald.

Kenward & Roger 1997 in the original convention (that of pbkrtest): the adjusted covariance for the
standard error, the unadjusted one for the degrees of freedom (``pooling.md`` 7.3). V is linear in
its parameters, so the terms of second derivatives are zero.
"""

from __future__ import annotations

import math

import numpy as np

from .one_stage import OneStageFit
from .random_effects import Interval, t_interval

METHODS = ("kenward-roger", "satterthwaite", "wald")


def adjusted_covariance(fit: OneStageFit) -> np.ndarray:
    """Kenward and Roger's small-sample covariance of the fixed effects."""
    pieces, f = fit.pieces, fit.covariance
    w = pieces.expected.solver(fit.estimated)
    middle = np.einsum("krs,krspt->pt", w.local(), pieces.q_rs)
    moved = w.solve(pieces.p_r.reshape(len(pieces.p_r), -1)).reshape(pieces.p_r.shape)
    middle -= np.einsum("rpt,ts,rsa->pa", pieces.p_r, f, moved, optimize=True)
    adjusted: np.ndarray = f + 2.0 * f @ middle @ f
    symmetric: np.ndarray = 0.5 * (adjusted + adjusted.T)
    return symmetric


def contrast_interval(
    fit: OneStageFit, contrast: np.ndarray, method: str, level_percent: float = 95.0
) -> Interval:
    """Interval and test of ``contrast @ beta`` by one of `METHODS`.

    Degrees of freedom are never below 1. At tau² = 0 Kenward-Roger keeps the information of all
    parameters; Satterthwaite asks what can move (as lmerTest does, which has roots too).
    ArithmeticError where variances are so far apart that rounding leaves no number.
    """
    estimate = float(contrast @ fit.beta)
    plain = float(contrast @ fit.covariance @ contrast)
    if method == "wald":
        return t_interval(estimate, _root(plain), float("inf"), level_percent, method)
    pieces = fit.pieces
    along = fit.covariance @ contrast
    gradient = np.einsum("p,rpt,t->r", along, pieces.p_r, along)
    if method == "kenward-roger":
        spread = float(gradient @ pieces.expected.solver(fit.estimated).solve(gradient))
        df = max(2.0 * plain**2 / spread, 1.0)
        se = _root(float(contrast @ adjusted_covariance(fit) @ contrast))
        return t_interval(estimate, se, _known(df), level_percent, method)
    d, tangent = len(fit.theta), fit.tangent
    free = fit.estimated.copy()
    free[:d] &= tangent.inner
    gradient = np.concatenate([tangent.slopes.T @ gradient[:d], gradient[d:]])
    observed = pieces.observed.turned(tangent.slopes, -tangent.bend)
    df = max(2.0 * plain**2 / float(gradient @ observed.solver(free).solve(gradient)), 1.0)
    return t_interval(estimate, _root(plain), _known(df), level_percent, method)


def _root(variance: float) -> float:
    if not variance > 0:
        raise FloatingPointError("a variance is not positive")
    return float(variance**0.5)


def _known(df: float) -> float:
    if not math.isfinite(df):
        raise FloatingPointError("degrees of freedom are not a number")
    return df
