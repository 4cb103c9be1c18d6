"""Agreement of two methods: bias and limits, reliability, equivalence, repeatability, grades.

All intervals respect that one participant may have several scans. Bootstraps draw participants,
each with all their scans; what they need of the scans are sums, so that they are matrix products.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import numpy as np
from scipy import special, stats

from ..statistics.measurement_error import LEAST_TRIALS, shrunken
from .options import EvaluationOptions

LEAST_PARTICIPANTS: Final = 3
Z: Final = 1.959963984540054  # 95 % of a normal distribution lie within ± Z
_CELLS = 4_000_000  # of the matrix of draws that is made at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its interval; ``low`` and ``high`` None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def around(cls, value: float, half: float) -> Estimate:
        """With an interval of that half width."""
        return cls(value=value, low=value - half, high=value + half)


def flat(kind: type[Any], record: Any = None) -> dict[str, Any]:
    """The cells of a record by column; an `Estimate` fills NAME, NAME_low and NAME_high."""
    cells: dict[str, Any] = {}
    for field in fields(kind):
        value = cells[field.name] = getattr(record, field.name, None)
        if "Estimate" in str(field.type):
            cells[field.name] = getattr(value, "value", None)
            for end in ("low", "high"):
                cells[f"{field.name}_{end}"] = getattr(value, end, None)
    return cells


# ------------------------------------------------------------------ bootstrap over participants


def interval(
    terms: np.ndarray,
    participants: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    options: EvaluationOptions,
    *,
    name: str,
) -> tuple[float, float] | None:
    """Percentile interval of a statistic of sums; None below 3 participants.

    ``terms`` ``[n, k]`` are summed over the scans drawn, and ``statistic`` maps sums ``[b, k]`` to
    values ``[b]``. Each ``name`` has its own random numbers, so that no result depends on the order
    of the work.
    """
    _, index = np.unique(participants, return_inverse=True)
    n = int(index.max()) + 1 if len(index) else 0
    if n < LEAST_PARTICIPANTS or options.bootstrap < 1:
        return None
    by_participant = np.zeros((n, terms.shape[1]))
    np.add.at(by_participant, index, terms)
    generator = np.random.default_rng([options.seed, zlib.crc32(name.encode())])
    values = []
    left = options.bootstrap
    while left > 0:
        size = min(left, max(1, _CELLS // n))
        draws = generator.multinomial(n, np.full(n, 1 / n), size=size)
        values.append(statistic(draws @ by_participant))
        left -= size
    drawn = np.concatenate(values)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < options.bootstrap / 2:
        return None
    outside = (100 - options.ci_level) / 2
    low, high = np.percentile(drawn, [outside, 100 - outside])
    return float(low), float(high)


def mean_interval(
    values: np.ndarray, participants: np.ndarray, options: EvaluationOptions, *, name: str
) -> tuple[float, float] | None:
    """Percentile interval of the mean over scans."""
    terms = np.stack([np.ones_like(values), values], axis=1)
    return interval(terms, participants, lambda s: s[:, 1] / s[:, 0], options, name=name)


# ------------------------------------------------------------------ bias and limits of agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class BlandAltman:
    """Bias and limits of agreement (model - reference), each with its interval.

    ``sd`` is of a single difference; ``loa_method`` is ``carkeet-2015`` or ``zou-2013``.
    """

    bias: Estimate
    sd: float
    loa_lower: Estimate
    loa_upper: Estimate
    loa_method: str


def bland_altman(
    difference: np.ndarray, participants: np.ndarray, level: float = 95.0
) -> BlandAltman | None:
    """Bias and limits of agreement of differences ``[n]``; None below 3 participants.

    ``participants`` ``[n]`` are integers, equal for the scans of one participant. One scan each:
    bias with its t interval, limits bias ± 1.96 SD (Bland & Altman 1986), each limit's exact
    interval by noncentral t (Carkeet 2015, Optom Vis Sci 92:e71). Several: bias is the mean of the
    participants' means, the SD is that of a single difference from the variances between and within
    participants (Bland & Altman 2007, "true value varies"), intervals of the limits as Zou 2013
    (Stat Methods Med Res 22:630).
    """
    means, counts = participant_means(difference, participants)
    n = len(means)
    if n < LEAST_PARTICIPANTS:
        return None
    alpha = 1 - level / 100
    bias, between = float(means.mean()), float(means.std(ddof=1))
    half = _t(1 - alpha / 2, n - 1) * between / math.sqrt(n)
    if counts.max() == 1:
        sd, method = between, "carkeet-2015"
        # Quantiles of (limit - mean) / SD: t'(p; n - 1, z √n) / √n.
        ends = stats.nct.ppf([1 - alpha / 2, alpha / 2], n - 1, Z * math.sqrt(n)) / math.sqrt(n)
        outer, inner = (float(end) * sd for end in ends)
    else:
        sd, outer, inner = _zou(difference, means, counts, alpha)
        method = "zou-2013"
    return BlandAltman(
        bias=Estimate.around(bias, half),
        sd=sd,
        loa_lower=Estimate(value=bias - Z * sd, low=bias - outer, high=bias - inner),
        loa_upper=Estimate(value=bias + Z * sd, low=bias + inner, high=bias + outer),
        loa_method=method,
    )


def _t(p: float, df: float) -> float:
    """Student's quantile; of the normal law for infinite ``df``."""
    return float(special.ndtri(p) if math.isinf(df) else special.stdtrit(df, p))


def participant_means(
    values: np.ndarray, participants: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each participant's mean value and number of values."""
    _, index = np.unique(participants, return_inverse=True)
    counts = np.bincount(index)
    return np.bincount(index, weights=values) / counts, counts


def _zou(
    difference: np.ndarray, means: np.ndarray, counts: np.ndarray, alpha: float
) -> tuple[float, float, float]:
    """SD of a single difference; distances of the limit's outer and inner ends from the bias.

    Zou 2013, section 3: s² = s²_means + (1 - 1/m_h) s²_within, m_h the harmonic mean of the counts;
    the chi-square intervals of both parts and that of the bias are joined by MOVER.
    """
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
    model: np.ndarray, reference: np.ndarray, participants: np.ndarray, level: float = 95.0
) -> Estimate | None:
    """Least-squares slope of participants' mean differences on their mean values, t interval.

    None below 4 participants or where all have one value. Bland & Altman 1999, section 3.2.
    """
    x, _ = participant_means((model + reference) / 2, participants)
    y, _ = participant_means(model - reference, participants)
    n = len(x)
    spread = float(((x - x.mean()) ** 2).sum())
    if n < LEAST_PARTICIPANTS + 1 or spread <= 1e-12 * max(float((x**2).sum()), 1e-300):
        return None
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    rest = y - y.mean() - slope * (x - x.mean())
    se = math.sqrt(float((rest**2).sum()) / (n - 2) / spread)
    half = _t(0.5 + level / 200, n - 2) * se
    return Estimate.around(slope, half)


# ------------------------------------------------------------------ reliability


def sums_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The six sums' terms of each scan, ``[n, 6]``: 1, x, y, x², y², xy."""
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def icc_from_sums(sums: np.ndarray) -> np.ndarray:
    """ICC(2,1) of sums ``[..., 6]``: (MSR - MSE) / (MSR + MSE + 2/n (MSC - MSE)).

    Mean squares between rows (scans), columns (methods) and of the error: Shrout & Fleiss 1979;
    ICC(A,1) of McGraw & Wong 1996, table 4, with k = 2.
    """
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    grand = (x + y) ** 2 / (2 * n)
    total = xx + yy - grand
    rows = (xx + yy + 2 * xy) / 2 - grand
    msc = (x**2 + y**2) / n - grand
    msr, mse = rows / (n - 1), (total - rows - msc) / (n - 1)
    below = msr + mse + 2 / n * (msc - mse)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, (msr - mse) / below, np.nan)


def icc(*methods: np.ndarray, level: float = 95.0) -> Estimate | None:
    """ICC(2,1), absolute agreement, of the values ``[n]`` of two or more methods.

    The interval is McGraw & Wong's (1996, table 7). None below 3 rows or where nothing varies.
    """
    ratings = np.stack(methods, axis=1)
    n, k = ratings.shape
    if n < 3:
        return None
    centred = ratings - ratings.mean()
    rows = k * float((centred.mean(axis=1) ** 2).sum())
    columns = n * float((centred.mean(axis=0) ** 2).sum())
    error = float((centred**2).sum()) - rows - columns
    msr, msc = rows / (n - 1), columns / (k - 1)
    mse = max(error, 0.0) / ((n - 1) * (k - 1))
    below = msr + (k - 1) * mse + k / n * (msc - mse)
    if below <= 0 or msr <= 0:
        return None
    value = (msr - mse) / below
    if mse <= 1e-12 * msr or value >= 1:
        return Estimate(value=value)
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    v = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))
    p = 0.5 + level / 200
    f_low, f_high = stats.f.ppf(p, n - 1, v), stats.f.ppf(p, v, n - 1)
    rest = k * msc + (k * n - k - n) * mse
    low = n * (msr - f_low * mse) / (f_low * rest + n * msr)
    high = n * (f_high * msr - mse) / (rest + n * f_high * msr)
    return Estimate(value=value, low=float(low), high=float(high))


def ccc_from_sums(sums: np.ndarray) -> np.ndarray:
    """Lin's concordance of sums ``[..., 6]``: 2 s_xy / (s_x² + s_y² + (x̄ - ȳ)²), divisor n."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    sxx, syy, sxy = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2, xy / n - x * y / n**2
    below = sxx + syy + ((x - y) / n) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, 2 * sxy / below, np.nan)


def ccc(x: np.ndarray, y: np.ndarray, level: float = 95.0) -> Estimate | None:
    """Lin's concordance coefficient with the interval of its Fisher z (Lin 1989, corrected 2000).

    None below 4 scans or where nothing varies.
    """
    n = len(x)
    value = float(ccc_from_sums(sums_of(x - x.mean(), y - x.mean()).sum(axis=0))) if n > 3 else 0.0
    sx, sy = (float(v.std()) for v in (x, y))
    if n <= 3 or sx <= 0 or sy <= 0 or not math.isfinite(value):
        return None
    r = float(((x - x.mean()) * (y - y.mean())).mean()) / (sx * sy)
    if abs(value) >= 1 - 1e-12 or r == 0:
        return Estimate(value=value)
    u = (float(y.mean()) - float(x.mean())) / math.sqrt(sx * sy)
    variance = (
        (1 - r**2) * value**2 * (1 - value**2) / r**2
        + 2 * value**3 * (1 - value) * u**2 / r
        - value**4 * u**4 / (2 * r**2)
    ) / (n - 2)
    half = two_sided_z(level) * math.sqrt(max(variance, 0.0)) / (1 - value**2)
    z = math.atanh(value)
    return Estimate(value=value, low=math.tanh(z - half), high=math.tanh(z + half))


def cov_percent(x: np.ndarray, y: np.ndarray) -> float | None:
    """Within-participant coefficient of variation of pairs in per cent (root mean square).

    100 √ mean((d²/2) / m²), d the difference and m the mean of a pair (Quan & Shih 1996). None
    where a pair's mean is not above 0.
    """
    middle = (x + y) / 2
    if not len(x) or middle.min() <= 0:
        return None
    return 100 * math.sqrt(float(((x - y) ** 2 / 2 / middle**2).mean()))


# ------------------------------------------------------------------ grades

EF_SCHEME: Final = "heart-failure-2021"
EF_GRADES: Final = ("reduced", "mildly-reduced", "preserved")

Weights = Literal["none", "linear", "quadratic"]


def ef_grade(ef_percent: np.ndarray) -> np.ndarray:
    """The index in `EF_GRADES` of each ejection fraction in per cent.

    The universal definition of heart failure (Bozkurt 2021): reduced up to 40 %, mildly reduced
    above 40 and below 50 %, preserved from 50 %.
    """
    grades: np.ndarray = np.where(ef_percent <= 40, 0, np.where(ef_percent < 50, 1, 2))
    return grades


def cross_table(model: np.ndarray, reference: np.ndarray, grades: int) -> np.ndarray:
    """Counts ``[grades, grades]``: rows the model's grade, columns the reference's."""
    table = np.zeros((grades, grades))
    np.add.at(table, (model, reference), 1)
    return table


def kappa_values(tables: np.ndarray, weights: Weights) -> np.ndarray:
    """Kappa of tables of counts ``[..., k, k]``; NaN where both gave one and the same grade to all.

    Weights are 1 on the diagonal; off it 0, 1 - d/(k-1) (Cicchetti) or 1 - (d/(k-1))²
    (Fleiss-Cohen).
    """
    grades = tables.shape[-1]
    distance = np.abs(np.subtract.outer(np.arange(grades), np.arange(grades))) / (grades - 1)
    away = {"none": distance > 0, "linear": distance, "quadratic": distance**2}[weights]
    p = tables / tables.sum(axis=(-2, -1), keepdims=True)
    chance = np.einsum("...i,...j,ij", p.sum(axis=-1), p.sum(axis=-2), 1 - away)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = ((p * (1 - away)).sum(axis=(-2, -1)) - chance) / (1 - chance)
    return np.where(chance < 1 - 1e-12, found, np.nan)


def kappa(table: np.ndarray, weights: Weights = "none", level: float = 95.0) -> Estimate | None:
    """Kappa of a table of counts; None where undefined.

    The interval is by the standard error of Fleiss, Cohen & Everitt 1969, equation 13.
    """
    from statsmodels.stats.inter_rater import cohens_kappa

    if not table.sum() or np.isnan(kappa_values(table, weights)):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):  # its tests, where all agree
        found = cohens_kappa(table, wt=None if weights == "none" else weights)
    value, variance = float(found.kappa), float(found.var_kappa)
    if variance <= 0:
        return Estimate(value=value)
    half = two_sided_z(level) * math.sqrt(variance)
    return Estimate(value=value, low=max(value - half, -1.0), high=min(value + half, 1.0))


# ------------------------------------------------------------------ equivalence

Verdict = Literal["equivalent", "not shown", "different beyond margin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """An estimate with its 90 % interval, and its result; one-sided p."""

    estimate: float
    ci_low: float
    ci_high: float
    result: Verdict
    p_equivalence: float


def verdict_of(low: float, high: float, margin: float) -> Verdict:
    """What an interval says about a margin: two one-sided tests (Schuirmann 1987; Westlake 1981).

    Equivalent at 5 % where the 90 % interval lies inside ± margin; entirely outside, different
    beyond the margin; all else is not shown, whatever the p of a difference from zero.
    """
    if -margin < low and high < margin:
        return "equivalent"
    if low > margin or high < -margin:
        return "different beyond margin"
    return "not shown"


def bias_equivalence(means: np.ndarray, margin: float) -> Equivalence | None:
    """Mean of participants' mean differences ``[n]`` against a margin, by t; None below 3."""
    n = len(means)
    if n < LEAST_PARTICIPANTS:
        return None
    se = float(means.std(ddof=1)) / math.sqrt(n)
    return _tested(float(means.mean()), se, n - 1, margin)


def pooled_bias_equivalence(groups: Sequence[np.ndarray], margin: float) -> list[Equivalence]:
    """The bias of each group partially pooled over the groups, against a margin.

    ``groups`` are participants' mean differences. Each mean, with the variance within all groups
    over its number, is shrunk towards the mean of the groups (`shrunken`); the interval is normal.
    Nothing below 3 groups, or where nothing varies within them.
    """
    n = np.array([len(one) for one in groups])
    free = int(n.sum()) - len(n)
    within = sum(float(((one - one.mean()) ** 2).sum()) for one in groups)
    if len(n) < LEAST_TRIALS or free < len(n) or within <= 0:
        return []
    y = np.array([one.mean() for one in groups])
    values, errors, _, _ = shrunken(y, within / free / n)
    return [
        _tested(float(value), math.sqrt(error), math.inf, margin)
        for value, error in zip(values, errors, strict=True)
    ]


def difference_equivalence(
    group: np.ndarray, rest: np.ndarray, margin: float
) -> Equivalence | None:
    """Mean of a group less that of the rest against a margin, by Welch's t; None below 3 each."""
    if min(len(group), len(rest)) < LEAST_PARTICIPANTS:
        return None
    a, b = (float(v.var(ddof=1)) / len(v) for v in (group, rest))
    if a + b <= 0:
        df = float(len(group) + len(rest) - 2)
    else:
        df = (a + b) ** 2 / (a**2 / (len(group) - 1) + b**2 / (len(rest) - 1))
    return _tested(float(group.mean() - rest.mean()), math.sqrt(a + b), df, margin)


def _tested(estimate: float, se: float, df: float, margin: float) -> Equivalence:
    half = _t(0.95, df) * se  # both one-sided tests at 5 %: a 90 % interval
    if se > 0:
        p = float(stats.t.sf((margin - abs(estimate)) / se, df))
    else:
        p = 0.0 if abs(estimate) < margin else 1.0
    low, high = estimate - half, estimate + half
    return Equivalence(
        estimate=estimate,
        ci_low=low,
        ci_high=high,
        result=verdict_of(low, high, margin),
        p_equivalence=p,
    )


# ------------------------------------------------------------------ repeatability


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeatability:
    """Scan-rescan of one measure: mean of both, bias (second - first) with t interval.

    SEM is the within-participant SD √(Σd²/2n), which includes a shift between the scans, with its
    chi-square interval; the smallest detectable change is 1.96 √2 SEM (Bland & Altman 1996; de Vet
    2006); CoV is the root-mean-square one.
    """

    mean: float
    bias: Estimate
    cov_percent: float | None
    sem: Estimate
    sdc: Estimate
    icc: Estimate | None


def repeatability(
    first: np.ndarray, second: np.ndarray, level: float = 95.0
) -> Repeatability | None:
    """Repeatability of pairs ``[n]``, one per participant; None below 3 participants."""
    n = len(first)
    if n < LEAST_PARTICIPANTS:
        return None
    difference = second - first
    p = 0.5 + level / 200
    half = _t(p, n - 1) * float(difference.std(ddof=1)) / math.sqrt(n)
    squares = float((difference**2).sum())
    sem = math.sqrt(squares / (2 * n))
    low, high = (math.sqrt(squares / 2 / stats.chi2.ppf(q, n)) for q in (p, 1 - p))
    bias, factor = float(difference.mean()), Z * math.sqrt(2)
    return Repeatability(
        mean=float((first + second).mean() / 2),
        bias=Estimate.around(bias, half),
        cov_percent=cov_percent(first, second),
        sem=Estimate(value=sem, low=low, high=high),
        sdc=Estimate(value=factor * sem, low=factor * low, high=factor * high),
        icc=icc(first, second, level=level),
    )


def two_sided_z(level: float) -> float:
    """The quantile of the normal law of a two-sided interval of ``level`` per cent."""
    return float(special.ndtri(0.5 + level / 200))


def wilson(events: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, in per cent (Wilson 1927, JASA 22:209)."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(events, n, alpha=0.05, method="wilson")
    return 100 * float(low), 100.0 if events == n else 100 * float(high)
