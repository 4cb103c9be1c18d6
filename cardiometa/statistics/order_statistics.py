"""Order statistics: sample quantiles, and the ranks whose values bound a population quantile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special


@dataclass(frozen=True, slots=True, kw_only=True)
class RankInterval:
    """Ranks (from 1) whose values hold the population quantile between them.

    ``low`` or ``high`` is None where no rank of this sample is far enough out; ``coverage`` is the
    exact probability for a continuous distribution, None where an end is missing.
    """

    low: int | None
    high: int | None
    coverage: float | None


def interpolated_quantile(ordered: np.ndarray, p: float) -> float:
    """The quantile at position p(n + 1), linear between ranks (Hyndman & Fan's type 6).

    ``ordered`` ``[n]`` ascending, n ≥ 1. Positions below 1 and above n give the end values.
    """
    n = len(ordered)
    position = min(max(p * (n + 1), 1.0), float(n))
    below = min(math.floor(position), n - 1) if n > 1 else 1
    fraction = position - below
    low = float(ordered[below - 1])
    if n == 1:
        return low
    return low + fraction * (float(ordered[below]) - low)


def rounded_rank(n: int, p: float) -> int:
    """The rank p(n + 1) rounded to the nearest, halves towards the middle (EP28-A3c).

    Taken from the nearer end, so that the ranks of p and 1 - p mirror each other; at least 1.
    """
    tail = min(p, 1 - p)
    # 0.025 × 140 is 3.5000000000000004: the decimals beyond the ninth are not the user's.
    rank = max(1, math.floor(round(tail * (n + 1), 9) + 0.5))
    return rank if p <= 0.5 else n + 1 - rank


@lru_cache(maxsize=8192)  # the same for every measure of the same participants
def rank_interval(n: int, p: float, level: float) -> RankInterval:
    """The equal-tailed exact interval of ranks for the ``p`` quantile, any n.

    P(X₍low₎ ≤ q ≤ X₍high₎) = P(low ≤ B ≤ high - 1), B binomial(n, p); each tail at most
    (1 - level)/2. ``level`` is a fraction. At n = 120, p = 0.025, level 0.90: ranks 1 and 7.
    """
    tail = (1 - level) / 2
    low = _binomial_quantile(tail, n, p)
    # By the mirror image: rank r from below for p is rank n + 1 - r for 1 - p.
    high = n + 1 - _binomial_quantile(tail, n, 1 - p)
    if low < 1 or high > n:
        return RankInterval(
            low=low if low >= 1 else None, high=high if high <= n else None, coverage=None
        )
    coverage = special.bdtr(high - 1, n, p) - special.bdtr(low - 1, n, p)
    return RankInterval(low=low, high=high, coverage=float(coverage))


def _binomial_quantile(q: float, n: int, p: float) -> int:
    """The smallest k with P(B ≤ k) ≥ q."""
    k = max(math.ceil(float(special.bdtrik(q, n, p))), 0)
    # The inverse is found by root search: step to the exact integer on either side.
    while k > 0 and special.bdtr(k - 1, n, p) >= q:
        k -= 1
    while special.bdtr(k, n, p) < q:
        k += 1
    return k
