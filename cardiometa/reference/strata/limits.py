"""Several scans of one person: intervals that resample people, one mean a person for the tests.

The robust limits of Horn: biweight location and spread, with a bootstrap interval.

Horn PS, Pesce AJ, Copeland BE. Clin Chem 1998;44:622-31; CLSI EP28-A3c, appendix B.

The limits of one group of people: an estimator for each value of ``--limits``.

Every estimator takes the sorted values ``[n]`` and the centiles wanted, and gives each centile with
its confidence interval. The CI is the sampling error of the limit, never of a mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from ...statistics.lms import box_cox, box_cox_power, inverse_box_cox, lms_centile
from ...statistics.location_scale import LmsLaw
from ...statistics.order_statistics import interpolated_quantile, rank_interval, rounded_rank
from ..options import NONPARAMETRIC_MIN_N, LimitsRule

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


_LOCATION_C = 3.7
_SPREAD_C = 205.6
_MAD_TO_SD = 0.6745
_MAX_STEPS = 500
_CHUNK = 2_000_000  # numbers held at once while resampling


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustFit:
    """``centre`` and ``spread`` ``[samples]``: a limit is centre + t·spread, t on n - 1 df.

    NaN where more than half of a sample is one value (its MAD is 0).
    """

    centre: np.ndarray
    spread: np.ndarray


def robust_fit(samples: np.ndarray, *, tolerance: float = 1e-12) -> RobustFit:
    """Horn's location and spread of each row of ``samples`` ``[samples, n]``.

    With median M, s = MAD/0.6745: T is the biweight location (c = 3.7) iterated from M until it
    moves by less than ``tolerance`` × s; the spread is √(s_bi(205.6)² + S_T(3.7)²), s_bi the
    biweight scale about M, S_T the standard error of T in units of s_bi(3.7).
    """
    n = samples.shape[1]
    median = np.median(samples, axis=1)
    unit = np.median(np.abs(samples - median[:, None]), axis=1) / _MAD_TO_SD
    unit = np.where(unit > 0, unit, np.nan)
    centre = _biweight_location(samples, median, unit, tolerance)
    wide = _biweight_scale(samples, median, unit, _SPREAD_C) * np.sqrt(n)
    narrow = _biweight_scale(samples, median, unit, _LOCATION_C) * np.sqrt(n)
    error = _biweight_scale(samples, centre, narrow, _LOCATION_C)
    return RobustFit(centre=centre, spread=np.sqrt(wide**2 + error**2))


def _biweight_location(
    samples: np.ndarray, start: np.ndarray, unit: np.ndarray, tolerance: float
) -> np.ndarray:
    centre = start.copy()
    moving = np.isfinite(unit)
    centre[~moving] = np.nan
    for _ in range(_MAX_STEPS):
        rows = np.flatnonzero(moving)
        if not len(rows):
            break
        u = (samples[rows] - centre[rows, None]) / (_LOCATION_C * unit[rows, None])
        u *= u
        weight = np.square(1 - np.minimum(u, 1.0))
        step = np.einsum("ij,ij->i", samples[rows] - centre[rows, None], weight)
        step /= weight.sum(axis=1)
        centre[rows] += step
        moving[rows] = np.abs(step) >= tolerance * unit[rows]
    return centre


def _biweight_scale(
    samples: np.ndarray, centre: np.ndarray, unit: np.ndarray, c: float
) -> np.ndarray:
    """c·s·√(Σ(1-u²)⁴u² / (D·max(1, D-1))), D = Σ(1-u²)(1-5u²), sums over |u| < 1.

    This is S_T; times √n it is s_bi.
    """
    u2 = np.square((samples - centre[:, None]) / (c * unit[:, None]))
    inside = np.where(u2 < 1, 1 - u2, 0.0)
    above = np.einsum("ij,ij->i", inside**4, u2)
    below = np.einsum("ij,ij->i", inside, 1 - 5 * u2)
    product = below * np.maximum(1.0, below - 1.0)
    ratio = np.divide(above, product, out=np.full_like(above, np.nan), where=product > 0)
    return np.asarray(c * unit * np.sqrt(ratio))


def resampled_fits(ordered: np.ndarray, samples: int, seed: int) -> RobustFit:
    """`robust_fit` of ``samples`` bootstrap samples of people; the same for one seed.

    ``ordered`` ``[n]`` must be sorted, so that the order of rows in a file plays no part.
    """
    rng = np.random.default_rng(seed)
    n = len(ordered)
    at_once = max(1, min(samples, _CHUNK // n))
    centres, spreads = [], []
    for start in range(0, samples, at_once):
        drawn = ordered[rng.integers(0, n, size=(min(at_once, samples - start), n))]
        # Bootstrap noise is far above 1e-6 of the spread.
        fit = robust_fit(drawn, tolerance=1e-6)
        centres.append(fit.centre)
        spreads.append(fit.spread)
    return RobustFit(centre=np.concatenate(centres), spread=np.concatenate(spreads))


# Skewness that makes a symmetric method doubtful: real (1 % level) and not trifling.
_SKEW_Z = 2.576
_SKEW_LEAST = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRequest:
    """What to estimate: centiles in percent, the CI's level as a fraction, the bootstrap.

    ``person`` ``[n]`` numbers the people behind the sorted values where one may have several;
    ``of_ranks``: the rule gives people's own values.
    """

    centiles: tuple[float, ...]
    ci_level: float
    bootstrap: int = 1000
    seed: int = 1
    person: np.ndarray | None = None
    of_ranks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One centile; None where the method gives nothing.

    ``limit_at_extreme``, ``low_at_extreme`` and ``high_at_extreme`` say that the number is (for the
    limit: leans by more than half on) the smallest or largest person's own value.
    """

    centile: float
    limit: float | None
    ci_low: float | None
    ci_high: float | None
    limit_at_extreme: bool = False
    low_at_extreme: bool = False
    high_at_extreme: bool = False
    notes: tuple[str, ...] = ()


Estimator = Callable[[np.ndarray, LimitRequest], tuple[Limit, ...]]


def default_rule(n: int, centiles: Sequence[float]) -> LimitsRule:
    """Nonparametric with 120 people (or three people's worth of tail, if more), else robust.

    EP28-A3c asks for 120 at the 2.5th centile, whose rank is then 3; centiles further out need
    more for the same rank.
    """
    tail = min(min(c, 100 - c) for c in centiles) / 100
    return "nonparametric" if n >= nonparametric_min_n(tail) else "robust"


def nonparametric_min_n(tail: float) -> int:
    """People that the nonparametric rule asks for at a tail of that fraction."""
    return max(NONPARAMETRIC_MIN_N, math.ceil(round(3 / tail, 9)))


def estimate_limits(
    ordered: np.ndarray, rule: LimitsRule, request: LimitRequest
) -> tuple[Limit, ...]:
    """The limits of sorted values ``[n]`` (n ≥ 2) by one rule.

    ``log`` and ``boxcox`` need positive values (ValueError otherwise: the caller has checked).
    """
    if request.person is not None:
        ranks = replace(request, of_ranks=rule.startswith("nonparametric"))
        return resampled_by_person(_ESTIMATORS[rule], ordered, ranks)
    return _ESTIMATORS[rule](ordered, request)


def _nonparametric(ordered: np.ndarray, request: LimitRequest) -> tuple[Limit, ...]:
    """Type 6 quantiles with exact binomial rank intervals."""
    n = len(ordered)
    found = []
    for centile in request.centiles:
        p = centile / 100
        limit = interpolated_quantile(ordered, p)
        # At position 1.5 the value is half the extreme person's and half the next one's.
        at_extreme = min(p, 1 - p) * (n + 1) < 1.5
        found.append(_with_ranks(ordered, centile, limit, request.ci_level, at_extreme=at_extreme))
    return tuple(found)


def _nonparametric_ranks(ordered: np.ndarray, request: LimitRequest) -> tuple[Limit, ...]:
    """EP28-A3c's rounded ranks (the centre interpolated) with exact binomial rank intervals."""
    n = len(ordered)
    found = []
    for centile in request.centiles:
        p = centile / 100
        rank = rounded_rank(n, p)
        limit = interpolated_quantile(ordered, p) if p == 0.5 else float(ordered[rank - 1])
        at_extreme = rank in (1, n)
        found.append(_with_ranks(ordered, centile, limit, request.ci_level, at_extreme=at_extreme))
    return tuple(found)


def _with_ranks(
    ordered: np.ndarray, centile: float, limit: float, ci_level: float, *, at_extreme: bool
) -> Limit:
    n = len(ordered)
    ranks = rank_interval(n, centile / 100, ci_level)
    if ranks.low is None or ranks.high is None:
        # One end alone would read as an interval that these data cannot give.
        return Limit(
            centile=centile,
            limit=limit,
            ci_low=None,
            ci_high=None,
            limit_at_extreme=at_extreme,
            notes=("no-rank-interval",),
        )
    return Limit(
        centile=centile,
        limit=limit,
        ci_low=float(ordered[ranks.low - 1]),
        ci_high=float(ordered[ranks.high - 1]),
        limit_at_extreme=at_extreme,
        low_at_extreme=ranks.low == 1,
        high_at_extreme=ranks.high == n,
    )


def _parametric(ordered: np.ndarray, request: LimitRequest) -> tuple[Limit, ...]:
    """Mean ± z·SD; SE(limit) = s·√(1/n + z²/(2n)) (EP28-A3c)."""
    factors = [(special.ndtri(c / 100), c) for c in request.centiles]
    return _normal_limits(ordered, factors, request.ci_level)


def _prediction(ordered: np.ndarray, request: LimitRequest) -> tuple[Limit, ...]:
    """Mean ± t(n-1)·SD·√(1 + 1/n): the interval that holds a new person's value.

    SE by the delta method with the factor in the place of z.
    """
    n = len(ordered)
    factors = [
        (float(special.stdtrit(n - 1, c / 100)) * math.sqrt(1 + 1 / n), c) for c in request.centiles
    ]
    return _normal_limits(ordered, factors, request.ci_level)


def _log(ordered: np.ndarray, request: LimitRequest) -> tuple[Limit, ...]:
    """The parametric limits of the logarithms, limits and CI ends transformed back."""
    if ordered[0] <= 0:
        raise ValueError("the log of a value that is not positive")
    return tuple(
        Limit(
            centile=found.centile,
            limit=_exp(found.limit),
            ci_low=_exp(found.ci_low),
            ci_high=_exp(found.ci_high),
            notes=found.notes,
        )
        for found in _parametric(np.log(ordered), request)
    )


def _boxcox(ordered: np.ndarray, request: LimitRequest) -> tuple[Limit, ...]:
    """The parametric limits after the Box-Cox power of the highest profile likelihood.

    Mean and SD (n - 1) of the transformed values; the CI counts the power's own uncertainty, by
    the expected information of the same law written as (M, S, L) (Cole & Green 1992), on the log
    scale of the limit.
    """
    if ordered[0] <= 0:
        raise ValueError("the power of a value that is not positive")
    n, power = len(ordered), box_cox_power(ordered)
    moved = box_cox(ordered, power)
    mean, sd = float(moved.mean()), float(moved.std(ddof=1))
    m = float(inverse_box_cox(np.array(mean), power))
    eta = np.array([math.log(m), math.log(sd * m ** (-power)), power])
    covariance = np.linalg.inv(LmsLaw().information(list(eta[:, None]))[:, :, 0]) / n
    z_ci = float(special.ndtri((1 + request.ci_level) / 2))
    z = special.ndtri(np.asarray(request.centiles) / 100)
    gradient = _lms_gradient(eta, z)
    found = []
    for index, centile in enumerate(request.centiles):
        limit = float(inverse_box_cox(np.array(mean + z[index] * sd), power))
        if not math.isfinite(limit):
            beyond = ("beyond-the-power",)
            found.append(
                Limit(centile=centile, limit=None, ci_low=None, ci_high=None, notes=beyond)
            )
            continue
        reach = math.exp(z_ci * math.sqrt(gradient[index] @ covariance @ gradient[index]))
        found.append(
            Limit(centile=centile, limit=limit, ci_low=limit / reach, ci_high=limit * reach)
        )
    return tuple(found)


def _lms_gradient(eta: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The derivative of each centile's logarithm by log M, log S and L, ``[centiles, 3]``."""

    def logs(at: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(lms_centile(z, np.exp(at[0]), np.exp(at[1]), at[2])))

    step = 1e-5
    columns = [(logs(eta + step * e) - logs(eta - step * e)) / (2 * step) for e in np.eye(3)]
    return np.column_stack(columns)


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(value)


def _normal_limits(
    ordered: np.ndarray, factors: Sequence[tuple[float, float]], ci_level: float
) -> tuple[Limit, ...]:
    n = len(ordered)
    mean, sd = float(ordered.mean()), float(ordered.std(ddof=1))
    z_ci = float(special.ndtri((1 + ci_level) / 2))
    notes = ("asymmetric",) if is_asymmetric(ordered) else ()
    found = []
    for factor, centile in factors:
        limit = mean + factor * sd
        half = z_ci * sd * math.sqrt(1 / n + factor**2 / (2 * n))
        found.append(
            Limit(
                centile=centile,
                limit=limit,
                ci_low=limit - half,
                ci_high=limit + half,
                notes=(*notes, *_impossible(limit, ordered)),
            )
        )
    return tuple(found)


def _robust(ordered: np.ndarray, request: LimitRequest) -> tuple[Limit, ...]:
    """Horn's centre ± t(n-1)·spread with the percentile bootstrap interval (people resampled)."""
    n = len(ordered)
    factors = special.stdtrit(n - 1, np.asarray(request.centiles) / 100)
    fit = robust_fit(ordered[None, :])
    notes = ("asymmetric",) if is_asymmetric(ordered) else ()
    if not np.isfinite(fit.spread[0]):
        return tuple(
            Limit(centile=c, limit=None, ci_low=None, ci_high=None, notes=("robust-undefined",))
            for c in request.centiles
        )
    limits = fit.centre[0] + factors * fit.spread[0]
    low, high = _bootstrap_interval(ordered, factors, request)
    return tuple(
        Limit(
            centile=centile,
            limit=float(limits[index]),
            ci_low=None if low is None else float(low[index]),
            ci_high=None if high is None else float(high[index]),
            notes=(
                *notes,
                *_impossible(float(limits[index]), ordered),
                *(() if low is not None else ("no-bootstrap-interval",)),
            ),
        )
        for index, centile in enumerate(request.centiles)
    )


def _bootstrap_interval(
    ordered: np.ndarray, factors: np.ndarray, request: LimitRequest
) -> tuple[np.ndarray | None, np.ndarray | None]:
    if request.bootstrap == 0:
        return None, None
    again = resampled_fits(ordered, request.bootstrap, request.seed)
    usable = np.isfinite(again.spread)
    # Samples without a spread would be dropped one-sidedly: more than 5 % and no interval is given.
    if usable.mean() < 0.95:
        return None, None
    replicates = again.centre[usable, None] + again.spread[usable, None] * factors
    tail = (1 - request.ci_level) / 2
    ends = np.quantile(replicates, [tail, 1 - tail], axis=0, method="weibull")
    return ends[0], ends[1]


def _impossible(limit: float, ordered: np.ndarray) -> tuple[str, ...]:
    """A note where a symmetric method puts a limit below 0 though everybody is above it."""
    return ("below-zero",) if limit < 0 < ordered[0] else ()


def is_asymmetric(ordered: np.ndarray) -> bool:
    """True where the sample skewness is beyond 0.3 and differs from 0 at the 1 % level.

    SE of the skewness G1 for normal data: √(6n(n-1)/((n-2)(n+1)(n+3))).
    """
    n = len(ordered)
    sd = float(ordered.std())
    if n < 8 or sd == 0:
        return False
    g1 = float(np.mean(((ordered - ordered.mean()) / sd) ** 3))
    skewness = g1 * math.sqrt(n * (n - 1)) / (n - 2)
    error = math.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
    return abs(skewness) > max(_SKEW_LEAST, _SKEW_Z * error)


_ESTIMATORS: dict[LimitsRule, Estimator] = {
    "nonparametric": _nonparametric,
    "nonparametric-ranks": _nonparametric_ranks,
    "parametric": _parametric,
    "prediction": _prediction,
    "log": _log,
    "boxcox": _boxcox,
    "robust": _robust,
}
