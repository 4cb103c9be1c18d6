"""Scan-rescan: how far two scans of one unchanged heart differ.

SEM is the within-person SD √(Σd²/2n), which holds a shift between the scans too, with its
chi-square interval; the smallest detectable change is 1.96 √2 SEM (Bland & Altman 1996; de Vet
2006); CoV is the root-mean-square one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .reliability import Coefficient, cov_percent, icc


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeatability:
    """Scan-rescan of one measure: people, mean of both, bias (second - first) with t interval."""

    people: int
    mean: float
    bias: float
    bias_low: float
    bias_high: float
    cov_percent: float | None
    sem: float
    sem_low: float
    sem_high: float
    sdc: float
    sdc_low: float
    sdc_high: float
    icc: Coefficient | None


def repeatability(
    first: np.ndarray, second: np.ndarray, level: float = 95.0
) -> Repeatability | None:
    """Repeatability of pairs ``[n]``, one a person; None below 3 people."""
    from scipy import stats

    n = len(first)
    if n < 3:
        return None
    difference = second - first
    p = 0.5 + level / 200
    half = float(stats.t.ppf(p, n - 1)) * float(difference.std(ddof=1)) / math.sqrt(n)
    squares = float((difference**2).sum())
    sem = math.sqrt(squares / (2 * n))
    low, high = (math.sqrt(squares / 2 / stats.chi2.ppf(q, n)) for q in (p, 1 - p))
    factor = 1.959963984540054 * math.sqrt(2)
    bias = float(difference.mean())
    return Repeatability(
        people=n,
        mean=float((first + second).mean() / 2),
        bias=bias,
        bias_low=bias - half,
        bias_high=bias + half,
        cov_percent=cov_percent(first, second),
        sem=sem,
        sem_low=low,
        sem_high=high,
        sdc=factor * sem,
        sdc_low=factor * low,
        sdc_high=factor * high,
        icc=icc(first, second, level),
    )
