"""The limits of one group of people: an estimator for each value of ``--limits``.

Every estimator takes the sorted values ``[n]`` and the centiles wanted, and gives each centile with
its confidence interval. The CI is the sampling error of the limit, never of a mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from ..estimation.box_cox import box_cox, box_cox_power, inverse_box_cox
from ..estimation.lms import lms_centile
from ..estimation.location_scale import LmsLaw
from .by_person import resampled_by_person
from .options import NONPARAMETRIC_MIN_N, LimitsRule
from .order import interpolated_quantile, rank_interval, rounded_rank
from .robust import resampled_fits, robust_fit

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
