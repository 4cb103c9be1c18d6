"""Do the curves fit? Shares outside, Q statistics and worms by age.

Royston P, Wright EM. Stat Med 2000;19:2943-62 (Q); van Buuren S, Fredriks M. Stat Med 2001;20:
1259-77 (worm). All are computed from z scores within the person's own trial; nothing printed is
one person's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from ...errors import EstimationError
from ..options import ReferenceOptions
from ..results import Calibration
from ..strata.calibration import age_thirds, filled
from .curves import SexCurves, estimate_groups, ethnicity_name, headline
from .data import KEPT_RANDOM, CurveData, FittedCurve, GroupCurves

_GROUPS = 10
_PER_GROUP = 50
_WORM_CENTILES = (2.5, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 97.5)


# ------------------------------------------------------------------ shares outside


def calibrate_curves(
    found: SexCurves, trials: Sequence[str], options: ReferenceOptions
) -> Iterator[Calibration]:
    """The people fitted, by age third, and those of each trial by curves made without it."""
    data = found.data
    left = tuple(_left_out(found, options)) if len(trials) > 1 else ()
    for group in found.groups:
        if not group.curves:
            continue
        name = ethnicity_name(group.ethnicity)
        empty = Calibration(
            measure=found.measure,
            unit=found.unit,
            method=found.method,
            sex=found.sex,
            ethnicity=name,
            check="fitted",
            group="all",
            n=None,
            below_percent=None,
            above_percent=None,
            expected_below_percent=None,
            expected_above_percent=None,
            note=headline(group).kind,
        )
        mine = data.at(_of_group(data, group.ethnicity))
        sides = outside(headline(group), mine, options)
        yield filled(empty, *sides, options)
        for third, inside in age_thirds(mine.age):
            row = replace(empty, check="age-third", group=third)
            yield filled(row, sides[0][inside], sides[1][inside], options)
        for trial, people, groups in left:
            other = groups.get(group.ethnicity)
            his = people.at(_of_group(people, group.ethnicity))
            if other is None or not his.n:
                continue
            row = replace(
                empty, check="left-out-trial", group=trials[trial], note=headline(other).kind
            )
            yield filled(row, *outside(headline(other), his, options), options)


def _of_group(data: CurveData, ethnicity: int) -> np.ndarray:
    return np.ones(data.n, dtype=bool) if ethnicity < 0 else data.ethnicity == ethnicity


def outside(
    fitted: FittedCurve, data: CurveData, options: ReferenceOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Who lies strictly below the lower and above the upper limit at their own age.

    People beyond the curve's ages are judged by the limit at its end.
    """
    ages, code = np.unique(np.round(data.age, 1), return_inverse=True)
    inside = np.clip(ages, fitted.curve.age_low, fitted.curve.age_high)
    outer = [c for c in options.centiles if c != 50]
    limits = np.sort(fitted.curve.limits(inside, outer), axis=1)[code]
    nobody = np.zeros(data.n, dtype=bool)
    below = data.y < limits[:, 0] if options.sided != "upper" else nobody
    above = data.y > limits[:, -1] if options.sided != "lower" else nobody
    return below, above


def _left_out(
    found: SexCurves, options: ReferenceOptions
) -> Iterator[tuple[int, CurveData, dict[int, GroupCurves]]]:
    """Each trial, its people, and the curves of all others (by the same kind of trial effect)."""
    data = found.data
    everybody = found.groups[0]
    if not everybody.curves:
        return
    options = replace(options, quick=True)
    if headline(everybody).kind == "marginal":
        options = replace(options, trial_effect=KEPT_RANDOM)
    for trial in np.unique(data.trial).tolist():
        mine = data.trial == trial
        rest = data.at(~mine)
        if rest.n < options.smallest_n:
            continue
        groups = [
            g.ethnicity
            for g in found.groups
            if g.ethnicity >= 0 and np.sum(rest.ethnicity == g.ethnicity) >= options.min_cell
        ]
        try:
            fits = estimate_groups(rest, groups, options)
        except EstimationError:
            continue  # too few others to say anything of this trial
        yield trial, data.at(mine), {g.ethnicity: g for g in fits}


# ------------------------------------------------------------------ Q statistics and worms


@dataclass(frozen=True, slots=True, kw_only=True)
class QStatistics:
    """A row of the table of fit: chi² with its p for mean, variance, skewness and kurtosis of z.

    ``groups`` age groups of about equal size; everybody of one sex.
    """

    measure: str
    method: str
    sex: str
    n: int
    groups: int
    q_mean: float
    p_mean: float
    q_variance: float
    p_variance: float
    q_skewness: float
    p_skewness: float
    q_kurtosis: float
    p_kurtosis: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Worm:
    """One age group's worm: the observed less the expected z at centiles, ``[centiles]``.

    ``half_width`` is that of the point-wise 95 % band.
    """

    measure: str
    method: str
    sex: str
    ages: str
    n: int
    expected: np.ndarray
    deviation: np.ndarray
    half_width: np.ndarray


def own_z_scores(found: SexCurves) -> np.ndarray | None:
    """The z of everybody of a sex within their own trial; None for a method without z."""
    everybody = found.groups[0]
    if not everybody.curves or everybody.curves[-1].curve.family == "quantile":
        return None
    curve = everybody.curves[-1].curve
    data = found.data
    first, function = next(iter(curve.functions.items()))
    z = np.empty(data.n)
    for trial in np.unique(data.trial).tolist():
        mine = data.trial == trial
        moved = replace(function, offset=function.offset + everybody.trial_effects.get(trial, 0.0))
        his = replace(curve, tau=0.0, functions={**curve.functions, first: moved})
        z[mine] = his.z_scores(data.y[mine], data.age[mine])
    return z


def q_statistics(found: SexCurves) -> QStatistics | None:
    """Royston & Wright's Q over up to ten age groups; None for fewer than three groups of 50."""
    z = own_z_scores(found)
    if z is None:
        return None
    groups = min(_GROUPS, found.data.n // _PER_GROUP)
    if groups < 3:
        return None
    order = np.argsort(found.data.age, kind="stable")
    parts = [z[rows] for rows in np.array_split(order, groups)]
    squares = np.array([_normal_scores(part) for part in parts]) ** 2
    q = squares.sum(axis=0)
    # The smooths have taken some of the mean's and the variance's (half: Royston & Wright).
    edf = found.groups[0].edf or (1.0, 1.0)
    freedom = [max(groups - edf[0], 1.0), max(groups - (edf[1] + 1) / 2, 1.0), groups, groups]
    p = [float(special.chdtrc(df, value)) for df, value in zip(freedom, q, strict=True)]
    return QStatistics(
        measure=found.measure,
        method=found.method,
        sex=found.sex,
        n=found.data.n,
        groups=groups,
        q_mean=float(q[0]),
        p_mean=p[0],
        q_variance=float(q[1]),
        p_variance=p[1],
        q_skewness=float(q[2]),
        p_skewness=p[2],
        q_kurtosis=float(q[3]),
        p_kurtosis=p[3],
    )


def _normal_scores(z: np.ndarray) -> tuple[float, float, float, float]:
    """Standard normal statistics of a group's mean, variance, skewness and kurtosis.

    Variance by Wilson & Hilferty's cube root, skewness by D'Agostino's, kurtosis by Anscombe &
    Glynn's transformation.
    """
    n = len(z)
    mean = float(z.mean()) * np.sqrt(n)
    spread = float(z.var(ddof=1))
    share = 2 / (9 * (n - 1))
    variance = (spread ** (1 / 3) - (1 - share)) / np.sqrt(share)
    return (
        float(mean),
        float(variance),
        skewness_score(z),
        kurtosis_score(z),
    )


def skewness_score(z: np.ndarray) -> float:
    """D'Agostino's normal score of the sample skewness (Biometrika 1970;57:679-81); n ≥ 8."""
    n, c = len(z), z - z.mean()
    skewness = float(np.mean(c**3) / np.mean(c**2) ** 1.5)
    y = skewness * np.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    beta2 = 3.0 * (n**2 + 27 * n - 70) * (n + 1) * (n + 3)
    beta2 /= (n - 2) * (n + 5) * (n + 7) * (n + 9)
    w2 = np.sqrt(2 * (beta2 - 1)) - 1
    return float(np.arcsinh(y / np.sqrt(2 / (w2 - 1))) / np.sqrt(0.5 * np.log(w2)))


def kurtosis_score(z: np.ndarray) -> float:
    """Anscombe and Glynn's normal score of the kurtosis (Biometrika 1983;70:227-34); n ≥ 20."""
    n, c = len(z), z - z.mean()
    kurtosis = float(np.mean(c**4) / np.mean(c**2) ** 2)
    mean = 3 * (n - 1) / (n + 1)
    variance = 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    x = (kurtosis - mean) / np.sqrt(variance)
    skew = 6.0 * (n**2 - 5 * n + 2) / ((n + 7) * (n + 9))
    skew *= np.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    a = 6 + 8 / skew * (2 / skew + np.sqrt(1 + 4 / skew**2))
    root = (1 - 2 / a) / (1 + x * np.sqrt(2 / (a - 4)))
    return float((1 - 2 / (9 * a) - np.cbrt(root)) / np.sqrt(2 / (9 * a)))


def worms(found: SexCurves, options: ReferenceOptions) -> Iterator[Worm]:
    """A worm for each age third (all ages where there are too few people)."""
    z = own_z_scores(found)
    if z is None:
        return
    thirds = list(age_thirds(found.data.age)) or [("all ages", np.ones(len(z), dtype=bool))]
    for name, inside in thirds:
        part = np.sort(z[inside])
        n = len(part)
        # At least as many people beyond each point as may be told of.
        usable = [c for c in _WORM_CENTILES if min(c, 100 - c) / 100 * (n + 1) >= options.min_cell]
        if len(usable) < 3:
            continue
        p = np.array(usable) / 100
        expected = special.ndtri(p)
        density = np.exp(-(expected**2) / 2) / np.sqrt(2 * np.pi)
        yield Worm(
            measure=found.measure,
            method=found.method,
            sex=found.sex,
            ages=name,
            n=n,
            expected=expected,
            deviation=np.quantile(part, p, method="weibull") - expected,
            half_width=1.96 * np.sqrt(p * (1 - p) / n) / density,
        )
