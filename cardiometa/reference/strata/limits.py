"""The limits of one group of participants: an estimator for each value of ``--limits``.

Every estimator takes the sorted values ``[n]`` and the centiles wanted, and gives each centile with
its confidence interval. The CI is the sampling error of the limit, never of a mean.

Where a participant has several scans, intervals resample participants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy import special

from ...statistics.lms import (
    box_cox,
    box_cox_power,
    inverse_box_cox,
    lms_centile,
    profile_log_likelihood,
)
from ...statistics.location_scale import LmsDistribution
from ...statistics.order_statistics import interpolated_quantile, rank_interval, rounded_rank
from ...statistics.robust import MIN_N, resampled_fits, robust_fit, tukey_fences
from ..options import NONPARAMETRIC_MIN_N, LimitsRule

BY_PARTICIPANT = "resampled-by-person"
NOT_POSSIBLE = "outside the possible values of the measure"
# Skewness that makes a symmetric method doubtful: real (1 % level) and not trifling.
_SKEW_Z = 2.576
_SKEW_LEAST = 0.3
_CHI2 = 3.841458820694124  # of one degree of freedom, at 5 %


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRequest:
    """What to estimate: centiles in percent, the CI's level as a fraction, the bootstrap.

    ``person`` ``[n]`` numbers the participants behind the sorted values where one may have several;
    ``of_ranks``: the rule gives participants' own values; ``possible``: the open interval of values
    that the measure can have.
    """

    centiles: tuple[float, ...]
    ci_level: float
    bootstrap: int = 1000
    seed: int = 1
    person: np.ndarray | None = None
    of_ranks: bool = False
    possible: tuple[float, float] = (-math.inf, math.inf)

    def point(self) -> LimitRequest:
        """The same without a bootstrap: for limits that are printed without an interval."""
        return replace(self, bootstrap=0, person=None, of_ranks=False)


@dataclass(frozen=True, slots=True)
class Limit:
    """One centile; None where the method gives nothing.

    ``limit_at_extreme``, ``low_at_extreme`` and ``high_at_extreme``: the number is (for the limit:
    leans by more than half on) the smallest or largest participant's own value.
    """

    centile: float
    limit: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    limit_at_extreme: bool = False
    low_at_extreme: bool = False
    high_at_extreme: bool = False
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a row: the centile, its limit and the interval."""
        return {name: getattr(self, name) for name in ("centile", "limit", "ci_low", "ci_high")}


def default_rule(ordered: np.ndarray, n: int, centiles: Sequence[float]) -> LimitsRule:
    """The rule for sorted values of ``n`` participants.

    Nonparametric with 120 participants (or a tail of three, if that is more): EP28-A3c asks for 120
    at the 2.5th centile, whose rank is then 3; centiles further out need more for the same rank.
    Else robust, which needs symmetric values; boxcox where they are skewed (and positive).
    """
    tail = min(min(c, 100 - c) for c in centiles) / 100
    if n >= nonparametric_min_n(tail):
        return "nonparametric"
    # Values beyond the fences are the robust method's business and no skewness.
    low, high = tukey_fences(ordered)
    inside = ordered[(ordered >= low) & (ordered <= high)]
    return "boxcox" if is_skewed(inside) else "robust"


def is_skewed(ordered: np.ndarray) -> bool:
    """True where a power makes positive values ``[n]`` symmetric and they are not (5 % level).

    The likelihood ratio of the best Box-Cox power against 1, by chi² of one degree of freedom (Box
    & Cox 1964): at n = 40 it finds the skewness of a log-normal SD of 0.5 in 79 % of samples, where
    the test of the third moment finds it in 67 %, and rejects at most 5 % of normal samples.
    """
    if len(ordered) < MIN_N or ordered[0] <= 0 or not ordered.std() > 1e-9 * ordered[-1]:
        return False
    power = box_cox_power(ordered)
    gain = profile_log_likelihood(ordered, power) - profile_log_likelihood(ordered, 1.0)
    return 2 * gain > _CHI2


def nonparametric_min_n(tail: float) -> int:
    """Participants that the nonparametric rule asks for at a tail of that fraction."""
    return max(NONPARAMETRIC_MIN_N, math.ceil(round(3 / tail, 9)))


def estimate_limits(
    ordered: np.ndarray, rule: LimitsRule, request: LimitRequest
) -> tuple[Limit, ...]:
    """The limits of sorted values ``[n]`` (n ≥ 2) by one rule.

    ``log`` and ``boxcox`` need positive values (ValueError otherwise: the caller has checked).
    """
    if request.person is not None:
        ranks = replace(request, of_ranks=rule.startswith("nonparametric"))
        found = _resampled_by_participant(_ESTIMATORS[rule], ordered, request.person, ranks)
    else:
        found = _ESTIMATORS[rule](ordered, request)
    positive = bool(ordered[0] > 0)
    return tuple(possible_limit(limit, request.possible, positive=positive) for limit in found)


def possible_limit(limit: Limit, possible: tuple[float, float], *, positive: bool = False) -> Limit:
    """The limit, withheld where the measure cannot be so small or large.

    An end of its interval beyond what is possible is moved there. A limit below 0 of values that
    are all ``positive`` is marked where nothing is known of the measure.
    """
    low, high = possible
    if positive and limit.limit is not None and low < limit.limit < 0:
        limit = replace(limit, notes=(*limit.notes, "below-zero"))
    if limit.limit is not None and not low < limit.limit < high:
        return Limit(limit.centile, None, notes=(*limit.notes, NOT_POSSIBLE))
    ends = {name: getattr(limit, name) for name in ("ci_low", "ci_high")}
    inside = {name: end and min(max(end, low), high) for name, end in ends.items()}
    return replace(limit, **inside)


# ------------------------------------------------------------------ by rank


def _nonparametric(
    ordered: np.ndarray, request: LimitRequest, *, rounded: bool = False
) -> tuple[Limit, ...]:
    """Type 6 quantiles with exact binomial rank intervals.

    ``rounded``: EP28-A3c's rounded ranks, the centre interpolated.
    """
    n, found = len(ordered), []
    for centile in request.centiles:
        p = centile / 100
        limit, rank = interpolated_quantile(ordered, p), rounded_rank(n, p)
        # At position 1.5 the value is half the extreme participant's and half the next one's.
        at_extreme = min(p, 1 - p) * (n + 1) < 1.5
        if rounded and p != 0.5:
            limit, at_extreme = float(ordered[rank - 1]), rank in (1, n)
        plain = Limit(centile, limit, limit_at_extreme=at_extreme)
        ranks = rank_interval(n, p, request.ci_level)
        # One end alone would read as an interval that these data cannot give.
        more: dict[str, Any] = {"notes": ("no-rank-interval",)}
        if ranks.low is not None and ranks.high is not None:
            ends = {"ci_low": ranks.low, "ci_high": ranks.high}
            more = {name: float(ordered[end - 1]) for name, end in ends.items()}
            more |= {"low_at_extreme": ranks.low == 1, "high_at_extreme": ranks.high == n}
        found.append(replace(plain, **more))
    return tuple(found)


# ------------------------------------------------------------------ by a distribution


def _normal(
    ordered: np.ndarray, request: LimitRequest, *, predict: bool = False
) -> tuple[Limit, ...]:
    """Mean + factor·SD; SE(limit) = s·√(1/n + factor²/(2n)) (EP28-A3c; delta method).

    The factor is z; to ``predict`` a new participant's value t(n-1)·√(1 + 1/n).
    """
    n, p = len(ordered), np.asarray(request.centiles) / 100
    factors = special.stdtrit(n - 1, p) * math.sqrt(1 + 1 / n) if predict else special.ndtri(p)
    mean, sd = float(ordered.mean()), float(ordered.std(ddof=1))
    z_ci = float(special.ndtri((1 + request.ci_level) / 2))
    notes = ("asymmetric",) if is_asymmetric(ordered) else ()
    found = []
    for factor, centile in zip(factors.tolist(), request.centiles, strict=True):
        limit = mean + factor * sd
        half = z_ci * sd * math.sqrt(1 / n + factor**2 / (2 * n))
        found.append(Limit(centile, limit, limit - half, limit + half, notes=notes))
    return tuple(found)


def _log(ordered: np.ndarray, request: LimitRequest) -> tuple[Limit, ...]:
    """The parametric limits of the logarithms, limits and CI ends transformed back."""
    if ordered[0] <= 0:
        raise ValueError("the log of a value that is not positive")

    names = ("limit", "ci_low", "ci_high")
    found = _normal(np.log(ordered), request)
    back: list[dict[str, Any]] = [{n: math.exp(getattr(f, n)) for n in names} for f in found]
    return tuple(replace(f, **cells) for f, cells in zip(found, back, strict=True))


def _boxcox(ordered: np.ndarray, request: LimitRequest) -> tuple[Limit, ...]:
    """The parametric limits after the Box-Cox power of the highest profile likelihood.

    Mean and SD (n - 1) of the transformed values; the CI counts the power's own uncertainty, by
    the expected information of the same distribution written as (M, S, L) (Cole & Green 1992), on
    the log scale of the limit.
    """
    if ordered[0] <= 0:
        raise ValueError("the power of a value that is not positive")
    n, power = len(ordered), box_cox_power(ordered)
    moved = box_cox(ordered, power)
    mean, sd = float(moved.mean()), float(moved.std(ddof=1))
    m = float(inverse_box_cox(np.array(mean), power))
    eta = np.array([math.log(m), math.log(sd * m ** (-power)), power])
    covariance = np.linalg.inv(LmsDistribution().information(list(eta[:, None]))[:, :, 0]) / n
    z_ci = float(special.ndtri((1 + request.ci_level) / 2))
    z = special.ndtri(np.asarray(request.centiles) / 100)

    def logs(at: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(lms_centile(z, np.exp(at[0]), np.exp(at[1]), at[2])))

    # The derivative of each centile's logarithm by log M, log S and L, [centiles, 3].
    step = 1e-5
    gradient = np.column_stack(
        [(logs(eta + step * e) - logs(eta - step * e)) / (2 * step) for e in np.eye(3)]
    )
    found = []
    for index, centile in enumerate(request.centiles):
        limit = float(inverse_box_cox(np.array(mean + z[index] * sd), power))
        if not math.isfinite(limit):
            found.append(Limit(centile, None, notes=("beyond-the-power",)))
            continue
        reach = math.exp(z_ci * math.sqrt(gradient[index] @ covariance @ gradient[index]))
        found.append(Limit(centile, limit, limit / reach, limit * reach))
    return tuple(found)


def is_asymmetric(ordered: np.ndarray) -> bool:
    """True where the sample skewness is beyond 0.3 and differs from 0 at the 1 % level.

    SE of the skewness G1 for normal data: √(6n(n-1)/((n-2)(n+1)(n+3))).
    """
    n = len(ordered)
    if n < 8 or (sd := float(ordered.std())) == 0:
        return False
    g1 = float(np.mean(((ordered - ordered.mean()) / sd) ** 3))
    skewness = g1 * math.sqrt(n * (n - 1)) / (n - 2)
    error = math.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
    return abs(skewness) > max(_SKEW_LEAST, _SKEW_Z * error)


# ------------------------------------------------------------------ robust


def _robust(ordered: np.ndarray, request: LimitRequest) -> tuple[Limit, ...]:
    """Horn's centre ± t(n-1)·spread with the percentile bootstrap interval."""
    factors = special.stdtrit(len(ordered) - 1, np.asarray(request.centiles) / 100)
    fit = robust_fit(ordered[None, :])
    notes = ("asymmetric",) if is_asymmetric(ordered) else ()
    if not np.isfinite(fit.spread[0]):
        return tuple(Limit(c, None, notes=("robust-undefined",)) for c in request.centiles)
    ends = None
    if request.bootstrap:
        again = resampled_fits(ordered, request.bootstrap, request.seed)
        ends = _percentiles(again.centre[:, None] + again.spread[:, None] * factors, request)
    found = []
    for index, centile in enumerate(request.centiles):
        limit = float(fit.centre[0] + factors[index] * fit.spread[0])
        more = notes if ends is not None else (*notes, "no-bootstrap-interval")
        low, high = (None, None) if ends is None else (float(e) for e in ends[:, index])
        found.append(Limit(centile, limit, low, high, notes=more))
    return tuple(found)


def _percentiles(samples: np.ndarray, request: LimitRequest) -> np.ndarray | None:
    """The ends ``[2, centiles]`` of bootstrap intervals from ``samples`` ``[samples, centiles]``.

    Samples without a limit would be dropped one-sidedly: None where they are more than 5 %.
    """
    usable = np.isfinite(samples).all(axis=1)
    if usable.mean() < 0.95:
        return None
    tail = (1 - request.ci_level) / 2
    return np.asarray(np.quantile(samples[usable], [tail, 1 - tail], axis=0, method="weibull"))


# ------------------------------------------------------------------ several scans per participant

Estimator = Callable[[np.ndarray, LimitRequest], tuple[Limit, ...]]


def _resampled_by_participant(
    estimate: Estimator, ordered: np.ndarray, person: np.ndarray, request: LimitRequest
) -> tuple[Limit, ...]:
    """The limits of all values ``[n]``, with percentile intervals from samples of participants.

    Each sample draws as many participants as there are, each with all of their values (cluster
    bootstrap).
    """
    plain = request.point()
    ends = None
    if request.bootstrap:
        _, code = np.unique(person, return_inverse=True)
        size = int(code.max()) + 1
        rng = np.random.default_rng(request.seed)
        samples = np.full((request.bootstrap, len(request.centiles)), np.nan)
        for number in range(request.bootstrap):
            times = np.bincount(rng.integers(0, size, size), minlength=size)
            # Repeating keeps the order: no sort.
            drawn = np.repeat(ordered, times[code])
            if len(drawn) > 1:
                limits = [limit.limit for limit in estimate(drawn, plain)]
                samples[number] = [np.nan if limit is None else limit for limit in limits]
        ends = _percentiles(samples, request)

    def is_own(value: float | None) -> bool:
        """True where a single participant lies at or beyond the value on either side."""
        # Values of a model are no one's own; one made of ranks may lean on one participant's scans.
        if value is None or not request.of_ranks:
            return False
        return min(len(np.unique(person[s])) for s in (ordered <= value, ordered >= value)) < 2

    found = []
    for index, limit in enumerate(estimate(ordered, plain)):
        low, high = (None, None) if ends is None else (float(e) for e in ends[:, index])
        # What the method says of its own interval does not concern this one.
        notes = [n for n in limit.notes if n not in ("no-rank-interval", "no-bootstrap-interval")]
        found.append(
            replace(
                limit,
                ci_low=low,
                ci_high=high,
                limit_at_extreme=limit.limit_at_extreme or is_own(limit.limit),
                low_at_extreme=is_own(low),
                high_at_extreme=is_own(high),
                notes=(*notes, *(() if ends is None else (BY_PARTICIPANT,))),
            )
        )
    return tuple(found)


def participant_means(person: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Each participant's mean at their first row with a value, NaN at the others, ``[rows]``."""
    known = np.flatnonzero(np.isfinite(values))
    found = np.full(len(values), np.nan)
    if not len(known):
        return found
    _, first, code = np.unique(person[known], return_index=True, return_inverse=True)
    found[known[first]] = np.bincount(code, values[known]) / np.bincount(code)
    return found


_ESTIMATORS: dict[LimitsRule, Estimator] = {
    "nonparametric": _nonparametric,
    "nonparametric-ranks": partial(_nonparametric, rounded=True),
    "parametric": _normal,
    "prediction": partial(_normal, predict=True),
    "log": _log,
    "boxcox": _boxcox,
    "robust": _robust,
}
