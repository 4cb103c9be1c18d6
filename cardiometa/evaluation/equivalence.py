"""Equivalence of a bias to zero within a margin: two one-sided tests by their interval.

The bias is equivalent to zero at 5 % where its 90 % interval lies inside ± margin (Schuirmann 1987;
Westlake 1981). An interval that lies wholly outside is a difference beyond the margin; all else is
not shown, whatever the p of a difference from zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["equivalent", "not shown", "different beyond margin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """An estimate with the interval of level 100 - 2 alpha, and what it says."""

    estimate: float
    low: float
    high: float
    verdict: Verdict
    p: float


def verdict_of(low: float, high: float, margin: float) -> Verdict:
    """What an interval says about a margin."""
    if -margin < low and high < margin:
        return "equivalent"
    if low > margin or high < -margin:
        return "different beyond margin"
    return "not shown"


def bias_equivalence(
    means: np.ndarray, margin: float, ci_level: float = 90.0
) -> Equivalence | None:
    """Mean of the people's mean differences ``[n]`` against a margin, by t; None below 3."""
    n = len(means)
    if n < 3:
        return None
    se = float(means.std(ddof=1)) / math.sqrt(n)
    return _tested(float(means.mean()), se, n - 1, margin, ci_level)


def difference_equivalence(
    group: np.ndarray, rest: np.ndarray, margin: float, ci_level: float = 90.0
) -> Equivalence | None:
    """Mean of a group less that of the rest against a margin, by Welch's t; None below 3 each."""
    if min(len(group), len(rest)) < 3:
        return None
    a, b = (float(v.var(ddof=1)) / len(v) for v in (group, rest))
    if a + b <= 0:
        df = float(len(group) + len(rest) - 2)
    else:
        df = (a + b) ** 2 / (a**2 / (len(group) - 1) + b**2 / (len(rest) - 1))
    return _tested(float(group.mean() - rest.mean()), math.sqrt(a + b), df, margin, ci_level)


def _tested(estimate: float, se: float, df: float, margin: float, ci_level: float) -> Equivalence:
    from scipy import stats

    half = float(stats.t.ppf(0.5 + ci_level / 200, df)) * se
    if se > 0:
        p = float(stats.t.sf((margin - abs(estimate)) / se, df))
    else:
        p = 0.0 if abs(estimate) < margin else 1.0
    low, high = estimate - half, estimate + half
    return Equivalence(
        estimate=estimate, low=low, high=high, verdict=verdict_of(low, high, margin), p=p
    )
