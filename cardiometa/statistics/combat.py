"""ComBat: values of several trials moved to one location and scale (Johnson, Li & Rabinovic 2007).

``y = m + s (gamma + sqrt(delta) e)`` for each trial and measure, m and s of all trials together.
Empirical Bayes draws gamma and delta of a trial towards their mean over the measures, as
neuroCombat does for features of images (Johnson 2007, Biostatistics 8:118; Fortin 2018, NeuroImage
167:104). Counts, means and sums of squares are all it needs: many bootstrap draws are one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SOURCES = ("harmonised", "reported", "combat")  # of the same values, in this order
_TOLERANCE = 1e-13
_MOST_STEPS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Combat:
    """The line of each trial and measure: harmonised = ``intercept`` + ``slope`` × value.

    Both ``[..., trials, measures]``; ``gamma`` and ``delta`` are the shift and the variance ratio
    they come from.
    """

    gamma: np.ndarray
    delta: np.ndarray
    intercept: np.ndarray
    slope: np.ndarray


def combat(n: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> Combat:
    """Fit ComBat without covariates from the sums of each trial.

    ``n`` ``[..., trials]`` values of each measure (2 or more), ``mean`` and ``squares`` (about the
    mean) ``[..., trials, measures]``. With one measure there is nothing to learn a prior from, and
    each trial has its own location and scale.
    """
    count = n[..., None]
    everyone = count.sum(axis=-2, keepdims=True)
    middle = (count * mean).sum(axis=-2, keepdims=True) / everyone
    spread = np.sqrt(squares.sum(axis=-2, keepdims=True) / everyone)
    own = (mean - middle) / spread
    within = squares / spread**2
    ratio = np.where(within > 0, within / (count - 1), 1.0)
    gamma, delta = own, ratio
    if mean.shape[-1] > 1:
        gamma, delta = _shrunk(count, own, within, ratio)
    slope = 1.0 / np.sqrt(delta)
    return Combat(
        gamma=gamma,
        delta=delta,
        intercept=middle - slope * (middle + gamma * spread),
        slope=slope,
    )


def _shrunk(
    n: np.ndarray, own: np.ndarray, within: np.ndarray, ratio: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The posterior gamma and delta of a normal and an inverse gamma prior over the measures.

    The prior's moments are those of ``own`` and ``ratio``; a and b are infinite where the ratios
    are equal, so both are multiplied by the variance of the ratios.
    """
    centre, between = own.mean(axis=-1, keepdims=True), own.var(axis=-1, ddof=1, keepdims=True)
    m, v = ratio.mean(axis=-1, keepdims=True), ratio.var(axis=-1, ddof=1, keepdims=True)
    gamma, delta = own, ratio
    for _ in range(_MOST_STEPS):
        gamma = (between * n * own + delta * centre) / (between * n + delta)
        squares = within + n * (own - gamma) ** 2
        new = (v * (0.5 * squares + m) + m**3) / (v * (0.5 * n + 1.0) + m**2)
        change = float(np.max(np.abs(new - delta) / delta))
        delta = new
        if change < _TOLERANCE:
            break
    return gamma, delta


def compared_sources(found: np.ndarray, level: float, *, positive: bool) -> dict[str, Any]:
    """A quantity of each of `SOURCES` and its differences from the harmonised one, with intervals.

    ``found`` ``[1 + draws, sources]`` has the estimates first; ``positive`` quantities have no
    interval below 0. Columns ``reported, reported_low, reported_high``, …, ``combat_difference``.
    Drawing adds its own noise to a spread once more, so each percentile interval (``level``
    percent) is moved until the median of its draws is the estimate.
    """
    named = dict(zip(SOURCES, found.T, strict=False))
    for source, name in (("reported", "difference"), ("combat", "combat_difference")):
        if source in named:
            named[name] = named[source] - named["harmonised"]
    cells: dict[str, Any] = {}
    tails = [0.5 - level / 200, 0.5, 0.5 + level / 200]
    for name, values in named.items():
        estimate = float(values[0])
        low, middle, high = (float(value) for value in np.quantile(values[1:], tails))
        low = estimate + (low - middle)
        low = max(low, 0.0) if positive and name in SOURCES else low
        cells |= {name: estimate, f"{name}_low": low, f"{name}_high": estimate + (high - middle)}
    return cells
