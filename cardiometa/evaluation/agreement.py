"""Percentile bootstrap over people: a person comes with all their scans.

Bias and limits of agreement with their intervals, one or several scans a person.

One scan a person: bias with its t interval; limits bias ± 1.96 SD (Bland & Altman 1986) with the
exact intervals of Carkeet 2015 (Optom Vis Sci 92:e71) for each limit by itself: noncentral t.
Several: bias is the mean of the people's means, the SD is that of a single difference from the
variance between and within people (Bland & Altman 2007, "true value varies"), and the limits'
intervals are Zou's 2013 (Stat Methods Med Res 22:630), the method of variance estimates recovery.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

_CELLS = 4_000_000  # of the matrix of draws that is made at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """How to draw: number of samples, seed, level of the interval in per cent."""

    samples: int = 2000
    seed: int = 1
    level: float = 95.0


def interval(
    terms: np.ndarray,
    people: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    options: Bootstrap,
    *,
    name: str,
) -> tuple[float, float] | None:
    """Percentile interval of a statistic of sums.

    ``terms`` ``[n, k]`` are summed over the scans drawn, and ``statistic`` maps sums ``[b, k]`` to
    values ``[b]``. ``name`` parts the random numbers of one quantity from another's, so that no
    result depends on the order of the work. None below 3 people.
    """
    _, index = np.unique(people, return_inverse=True)
    n = int(index.max()) + 1 if len(index) else 0
    if n < 3 or options.samples < 1:
        return None
    by_person = np.zeros((n, terms.shape[1]))
    np.add.at(by_person, index, terms)
    generator = np.random.default_rng([options.seed, zlib.crc32(name.encode())])
    values = []
    left = options.samples
    while left > 0:
        size = min(left, max(1, _CELLS // n))
        draws = generator.multinomial(n, np.full(n, 1 / n), size=size)
        values.append(statistic(draws @ by_person))
        left -= size
    drawn = np.concatenate(values)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < options.samples / 2:
        return None
    outside = (100 - options.level) / 2
    low, high = np.percentile(drawn, [outside, 100 - outside])
    return float(low), float(high)


def mean_interval(
    values: np.ndarray, people: np.ndarray, options: Bootstrap, *, name: str
) -> tuple[float, float] | None:
    """Percentile interval of the mean over scans."""
    terms = np.stack([np.ones_like(values), values], axis=1)
    return interval(terms, people, lambda s: s[:, 1] / s[:, 0], options, name=name)


LEAST_PEOPLE: Final = 3
Z: Final = 1.959963984540054  # of limits that hold 95 % of the differences


@dataclass(frozen=True, slots=True, kw_only=True)
class BlandAltman:
    """Differences (model - reference) in words of Bland and Altman, each with its interval.

    ``sd`` is of a single difference; ``method`` is ``carkeet-2015`` or ``zou-2013``.
    """

    people: int
    scans: int
    bias: float
    bias_low: float
    bias_high: float
    sd: float
    lower: float
    lower_low: float
    lower_high: float
    upper: float
    upper_low: float
    upper_high: float
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Proportional bias: the slope of the difference on the mean of both methods."""

    slope: float
    low: float
    high: float


def bland_altman(
    difference: np.ndarray, people: np.ndarray, level: float = 95.0
) -> BlandAltman | None:
    """Bias and limits of differences ``[n]`` of ``people`` ``[n]``; None below 3 people.

    ``people`` are whole numbers, equal for the scans of one person.
    """
    means, counts = person_means(difference, people)
    n = len(means)
    if n < LEAST_PEOPLE:
        return None
    alpha = 1 - level / 100
    bias, between = float(means.mean()), float(means.std(ddof=1))
    half = _t(1 - alpha / 2, n - 1) * between / math.sqrt(n)
    if counts.max() == 1:
        sd, method = between, "carkeet-2015"
        outer, inner = (_carkeet(n, p) * sd for p in (1 - alpha / 2, alpha / 2))
    else:
        sd, outer, inner = _zou(difference, means, counts, alpha)
        method = "zou-2013"
    return BlandAltman(
        people=n,
        scans=len(difference),
        bias=bias,
        bias_low=bias - half,
        bias_high=bias + half,
        sd=sd,
        lower=bias - Z * sd,
        lower_low=bias - outer,
        lower_high=bias - inner,
        upper=bias + Z * sd,
        upper_low=bias + inner,
        upper_high=bias + outer,
        method=method,
    )


def person_means(values: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each person's mean value and number of values."""
    _, index = np.unique(people, return_inverse=True)
    counts = np.bincount(index)
    return np.bincount(index, weights=values) / counts, counts


def _t(p: float, df: float) -> float:
    from scipy import stats

    return float(stats.t.ppf(p, df))


def _carkeet(n: int, p: float) -> float:
    """Quantile of (limit - mean) / SD: t'(p; n - 1, z √n) / √n (Carkeet 2015)."""
    from scipy import stats

    return float(stats.nct.ppf(p, n - 1, Z * math.sqrt(n)) / math.sqrt(n))


def _zou(
    difference: np.ndarray, means: np.ndarray, counts: np.ndarray, alpha: float
) -> tuple[float, float, float]:
    """SD of a single difference, and how far the limit's outer and inner ends lie from the bias.

    Zou 2013, section 3: s² = s²_means + (1 - 1/m_h) s²_within, m_h the harmonic mean of the counts;
    each part's chi-square interval and the bias's are joined by MOVER.
    """
    from scipy import stats

    n, total = len(means), int(counts.sum())
    harmonic = n / float((1 / counts).sum())
    between = float(means.var(ddof=1))
    squares = float((difference**2).sum() - (counts * means**2).sum())
    within = max(squares, 0.0) / (total - n)
    parts = ((between, n - 1), ((1 - 1 / harmonic) * within, total - n))
    variance = sum(part for part, _ in parts)
    low = high = 0.0
    for part, df in parts:
        low += (part * (1 - df / stats.chi2.ppf(1 - alpha / 2, df))) ** 2
        high += (part * (df / stats.chi2.ppf(alpha / 2, df) - 1)) ** 2
    sd = math.sqrt(variance)
    sd_low = math.sqrt(max(variance - math.sqrt(low), 0.0))
    sd_high = math.sqrt(variance + math.sqrt(high))
    of_bias = _t(1 - alpha / 2, n - 1) * math.sqrt(between / n)
    outer = Z * sd + math.hypot(of_bias, Z * (sd_high - sd))
    inner = Z * sd - math.hypot(of_bias, Z * (sd - sd_low))
    return sd, outer, inner


def proportional_bias(
    model: np.ndarray, reference: np.ndarray, people: np.ndarray, level: float = 95.0
) -> Slope | None:
    """Least-squares slope of the people's mean differences on their mean values, with t interval.

    None below 4 people or where everybody has one value. Bland & Altman 1999, section 3.2.
    """
    x, _ = person_means((model + reference) / 2, people)
    y, _ = person_means(model - reference, people)
    n = len(x)
    spread = float(((x - x.mean()) ** 2).sum())
    if n < LEAST_PEOPLE + 1 or spread <= 1e-12 * max(float((x**2).sum()), 1e-300):
        return None
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    rest = y - y.mean() - slope * (x - x.mean())
    se = math.sqrt(float((rest**2).sum()) / (n - 2) / spread)
    half = _t(0.5 + level / 200, n - 2) * se
    return Slope(slope=slope, low=slope - half, high=slope + half)
