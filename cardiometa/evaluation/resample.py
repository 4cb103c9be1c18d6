"""Percentile bootstrap over people: a person comes with all their scans."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

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
