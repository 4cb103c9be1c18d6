"""Several scans of one person: intervals that resample people, one mean a person for the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .strata.limits import Limit, LimitRequest


BY_PERSON = "resampled-by-person"
# What a method says of an interval that is not the one given here.
_OF_OTHER_INTERVALS = ("no-rank-interval", "no-bootstrap-interval")


def resampled_by_person(
    estimate: Callable[[np.ndarray, LimitRequest], tuple[Limit, ...]],
    ordered: np.ndarray,
    request: LimitRequest,
) -> tuple[Limit, ...]:
    """The limits of all values ``[n]``, with percentile intervals from samples of people.

    Each sample draws as many people as there are, each with all of their values (cluster
    bootstrap). No interval where more than 5 % of the samples have no limit, or none is asked for.
    """
    assert request.person is not None
    plain = replace(request, person=None, bootstrap=0)
    found = estimate(ordered, plain)
    ends = _interval(estimate, ordered, request, plain)
    return tuple(
        _limit(limit, ordered, request, None if ends is None else ends[:, index])
        for index, limit in enumerate(found)
    )


def _interval(
    estimate: Callable[[np.ndarray, LimitRequest], tuple[Limit, ...]],
    ordered: np.ndarray,
    request: LimitRequest,
    plain: LimitRequest,
) -> np.ndarray | None:
    if request.bootstrap == 0 or request.person is None:
        return None
    _, code = np.unique(request.person, return_inverse=True)
    people = int(code.max()) + 1
    rng = np.random.default_rng(request.seed)
    samples = np.full((request.bootstrap, len(request.centiles)), np.nan)
    for number in range(request.bootstrap):
        times = np.bincount(rng.integers(0, people, people), minlength=people)
        # Repeating keeps the order: no sort.
        drawn = np.repeat(ordered, times[code])
        if len(drawn) > 1:
            limits = [limit.limit for limit in estimate(drawn, plain)]
            samples[number] = [np.nan if limit is None else limit for limit in limits]
    usable = np.isfinite(samples).all(axis=1)
    if usable.mean() < 0.95:
        return None
    tail = (1 - request.ci_level) / 2
    ends = np.quantile(samples[usable], [tail, 1 - tail], axis=0, method="weibull")
    return np.asarray(ends)


def _limit(
    found: Limit, ordered: np.ndarray, request: LimitRequest, ends: np.ndarray | None
) -> Limit:
    notes = tuple(note for note in found.notes if note not in _OF_OTHER_INTERVALS)
    low, high = (None, None) if ends is None else (float(ends[0]), float(ends[1]))

    def ones(value: float | None) -> bool:
        """True where only one person lies at or beyond the value on either side."""
        # Values of a model are nobody's; one made of ranks may lean on one person's scans.
        if value is None or not request.of_ranks or request.person is None:
            return False
        sides = (ordered <= value, ordered >= value)
        return min(len(np.unique(request.person[side])) for side in sides) < 2

    return replace(
        found,
        ci_low=low,
        ci_high=high,
        limit_at_extreme=found.limit_at_extreme or ones(found.limit),
        low_at_extreme=ones(low),
        high_at_extreme=ones(high),
        notes=(*notes, *(() if ends is None else (BY_PERSON,))),
    )


def person_means(person: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Each person's mean at the first row with a value, NaN at the others, ``[rows]``."""
    known = np.flatnonzero(np.isfinite(values))
    found = np.full(len(values), np.nan)
    if not len(known):
        return found
    _, first, code = np.unique(person[known], return_index=True, return_inverse=True)
    found[known[first]] = np.bincount(code, values[known]) / np.bincount(code)
    return found
