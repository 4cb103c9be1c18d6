"""Egger's test: whether small trials show other effects than large ones (k >= 10 only)."""

from __future__ import annotations

import numpy as np

from .random_effects import Interval, t_interval

LEAST_TRIALS = 10


def egger(y: np.ndarray, v: np.ndarray, level_percent: float = 95.0) -> tuple[float, Interval]:
    """The change of the effect per unit of its standard error, with its interval and test.

    The intercept of y / se on 1 / se by least squares, t with k - 2 df (Egger et al. 1997;
    metafor's ``regtest(model = "lm")``).
    """
    se = np.sqrt(v)
    design = np.column_stack([np.ones(len(y)), 1.0 / se])
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ (y / se)
    residual = y / se - design @ coefficients
    df = len(y) - 2
    error = float(np.sqrt(residual @ residual / df * inverse[0, 0]))
    estimate = float(coefficients[0])
    return estimate, t_interval(estimate, error, df, level_percent, "")
