"""Percentile bootstrap over people: a person comes with all their scans.

Bias and limits of agreement with their intervals, one or several scans a person.

One scan a person: bias with its t interval; limits bias ± 1.96 SD (Bland & Altman 1986) with the
exact intervals of Carkeet 2015 (Optom Vis Sci 92:e71) for each limit by itself: noncentral t.
Several: bias is the mean of the people's means, the SD is that of a single difference from the
variance between and within people (Bland & Altman 2007, "true value varies"), and the limits'
intervals are Zou's 2013 (Stat Methods Med Res 22:630), the method of variance estimates recovery.

How large a bias may be and still not matter: margins set before the comparison.

The default margins are what a second scan of the same heart changes. For volumes and mass: the
upper end of the interstudy coefficients of variability of 20 healthy people, 20 with heart failure
and 20 with hypertrophy (Grothues 2002, Am J Cardiol 90:29: EDV 4.9, ESV 9.2, mass 4.8 %), and for
the right ventricle those of Grothues 2004 (Am Heart J 147:218: EDV 6.2, ESV 14.1 %), each in per
cent of the reference mean. For ejection fractions 3 points, half of the reader-to-reader difference
of Suinesiaputra 2015 (J Cardiovasc Magn Reson 17:63: 4.6 to 7.5 points), rounded.

Equivalence of a bias to zero within a margin: two one-sided tests by their interval.

The bias is equivalent to zero at 5 % where its 90 % interval lies inside ± margin (Schuirmann 1987;
Westlake 1981). An interval that lies wholly outside is a difference beyond the margin; all else is
not shown, whatever the p of a difference from zero.

Cohen's kappa of graded values, plain and weighted, with the interval of Fleiss et al. 1969.

EF is graded as the universal definition of heart failure does (Bozkurt 2021): reduced up to 40 %,
mildly reduced above 40 and below 50 %, preserved from 50 %.

Reliability of two methods: ICC(2,1), Lin's concordance, within-person CoV, from six sums.

All are functions of n, Σx, Σy, Σx², Σy², Σxy, so that a bootstrap over people is a product of
matrices.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import numpy as np

from ..errors import UsageError

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


LEAST_PEOPLE: Final = 3
Z: Final = 1.959963984540054  # of limits that hold 95 % of the differences


@dataclass(frozen=True, slots=True, kw_only=True)
class BlandAltman:
    """Differences (model - reference) in words of Bland and Altman, each with its interval.

    ``sd`` is of a single difference; ``method`` is ``carkeet-2015`` or ``zou-2013``.
    """

    people: int
    scans: int
    bias: float
    bias_low: float
    bias_high: float
    sd: float
    lower: float
    lower_low: float
    lower_high: float
    upper: float
    upper_low: float
    upper_high: float
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Proportional bias: the slope of the difference on the mean of both methods."""

    slope: float
    low: float
    high: float


def bland_altman(
    difference: np.ndarray, people: np.ndarray, level: float = 95.0
) -> BlandAltman | None:
    """Bias and limits of differences ``[n]`` of ``people`` ``[n]``; None below 3 people.

    ``people`` are whole numbers, equal for the scans of one person.
    """
    means, counts = person_means(difference, people)
    n = len(means)
    if n < LEAST_PEOPLE:
        return None
    alpha = 1 - level / 100
    bias, between = float(means.mean()), float(means.std(ddof=1))
    half = _t(1 - alpha / 2, n - 1) * between / math.sqrt(n)
    if counts.max() == 1:
        sd, method = between, "carkeet-2015"
        outer, inner = (_carkeet(n, p) * sd for p in (1 - alpha / 2, alpha / 2))
    else:
        sd, outer, inner = _zou(difference, means, counts, alpha)
        method = "zou-2013"
    return BlandAltman(
        people=n,
        scans=len(difference),
        bias=bias,
        bias_low=bias - half,
        bias_high=bias + half,
        sd=sd,
        lower=bias - Z * sd,
        lower_low=bias - outer,
        lower_high=bias - inner,
        upper=bias + Z * sd,
        upper_low=bias + inner,
        upper_high=bias + outer,
        method=method,
    )


def person_means(values: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each person's mean value and number of values."""
    _, index = np.unique(people, return_inverse=True)
    counts = np.bincount(index)
    return np.bincount(index, weights=values) / counts, counts


def _t(p: float, df: float) -> float:
    from scipy import stats

    return float(stats.t.ppf(p, df))


def _carkeet(n: int, p: float) -> float:
    """Quantile of (limit - mean) / SD: t'(p; n - 1, z √n) / √n (Carkeet 2015)."""
    from scipy import stats

    return float(stats.nct.ppf(p, n - 1, Z * math.sqrt(n)) / math.sqrt(n))


def _zou(
    difference: np.ndarray, means: np.ndarray, counts: np.ndarray, alpha: float
) -> tuple[float, float, float]:
    """SD of a single difference, and how far the limit's outer and inner ends lie from the bias.

    Zou 2013, section 3: s² = s²_means + (1 - 1/m_h) s²_within, m_h the harmonic mean of the counts;
    each part's chi-square interval and the bias's are joined by MOVER.
    """
    from scipy import stats

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
    model: np.ndarray, reference: np.ndarray, people: np.ndarray, level: float = 95.0
) -> Slope | None:
    """Least-squares slope of the people's mean differences on their mean values, with t interval.

    None below 4 people or where everybody has one value. Bland & Altman 1999, section 3.2.
    """
    x, _ = person_means((model + reference) / 2, people)
    y, _ = person_means(model - reference, people)
    n = len(x)
    spread = float(((x - x.mean()) ** 2).sum())
    if n < LEAST_PEOPLE + 1 or spread <= 1e-12 * max(float((x**2).sum()), 1e-300):
        return None
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    rest = y - y.mean() - slope * (x - x.mean())
    se = math.sqrt(float((rest**2).sum()) / (n - 2) / spread)
    half = _t(0.5 + level / 200, n - 2) * se
    return Slope(slope=slope, low=slope - half, high=slope + half)


USER: Final = "set by --margin"
# Of differences in Dice between groups; there is no default, for want of a published one.
DICE: Final = "dice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """The largest bias that does not matter: in the measure's unit, or ``percent`` of the mean."""

    value: float
    percent: bool
    source: str

    def of(self, mean_reference: float) -> float:
        """The margin in the measure's unit, given the mean of the reference values."""
        return abs(mean_reference) * self.value / 100 if self.percent else self.value


def _percent(value: float, source: str) -> Margin:
    return Margin(value=value, percent=True, source=source)


def _points(value: float, source: str) -> Margin:
    return Margin(value=value, percent=False, source=source)


_LV, _RV, _EF = "Grothues 2002", "Grothues 2004", "Suinesiaputra 2015"
DEFAULT_MARGINS: Final[Mapping[str, Margin]] = MappingProxyType(
    {
        "lv_edv_ml": _percent(4.9, _LV),
        "lv_esv_ml": _percent(9.2, _LV),
        "lv_mass_g": _percent(4.8, _LV),
        "lv_ef_percent": _points(3.0, _EF),
        "rv_edv_ml": _percent(6.2, _RV),
        "rv_esv_ml": _percent(14.1, _RV),
        "rv_ef_percent": _points(3.0, _EF),
    }
)


def margins_of(texts: Sequence[str], known: Sequence[str]) -> dict[str, Margin]:
    """The default margins with those of ``["lv_ef_percent=3", "lv_edv_ml=5%"]`` in their place.

    Raises UsageError for anything else.
    """
    margins = dict(DEFAULT_MARGINS)
    for text in texts:
        name, sign, number = text.partition("=")
        name = name.strip()
        percent = number.strip().endswith("%")
        try:
            value = float(number.strip().removesuffix("%"))
        except ValueError:
            value = -1.0
        if not sign or not 0 < value < float("inf"):
            raise UsageError(
                f"--margin {text} is not MEASURE=NUMBER.",
                hint="Say --margin lv_ef_percent=3, or --margin lv_edv_ml=5% of the mean.",
            )
        if name not in known:
            raise UsageError(
                f"--margin names the unknown measure {name}.", hint=f"Known: {', '.join(known)}."
            )
        margins[name] = Margin(value=value, percent=percent, source=USER)
    return margins


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


EF_SCHEME: Final = "heart-failure-2021"
EF_GRADES: Final = ("reduced", "mildly-reduced", "preserved")

Weights = Literal["none", "linear", "quadratic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kappa:
    """Agreement beyond chance; ``low`` and ``high`` None where there is no interval."""

    value: float
    se: float | None
    low: float | None
    high: float | None


def ef_grade(ef_percent: np.ndarray) -> np.ndarray:
    """The index in `EF_GRADES` of each ejection fraction in per cent."""
    grades: np.ndarray = np.where(ef_percent <= 40, 0, np.where(ef_percent < 50, 1, 2))
    return grades


def cross_table(model: np.ndarray, reference: np.ndarray, grades: int) -> np.ndarray:
    """Counts ``[grades, grades]``: rows the model's grade, columns the reference's."""
    table = np.zeros((grades, grades))
    np.add.at(table, (model, reference), 1)
    return table


def agreement_weights(grades: int, weights: Weights) -> np.ndarray:
    """1 on the diagonal; off it 0, 1 - d/(k-1) (Cicchetti) or 1 - (d/(k-1))² (Fleiss-Cohen)."""
    distance = np.abs(np.subtract.outer(np.arange(grades), np.arange(grades))) / (grades - 1)
    if weights == "none":
        return np.asarray(distance == 0, dtype=float)
    away = distance if weights == "linear" else distance**2
    return np.asarray(1 - away, dtype=float)


def kappa_value(table: np.ndarray, weights: Weights) -> float | None:
    """Kappa of a table of counts; None where both gave everybody one and the same grade."""
    w = agreement_weights(len(table), weights)
    p = table / table.sum()
    chance = float((w * np.outer(p.sum(axis=1), p.sum(axis=0))).sum())
    if chance >= 1 - 1e-12:
        return None
    return (float((w * p).sum()) - chance) / (1 - chance)


def kappa(table: np.ndarray, weights: Weights = "none", level: float = 95.0) -> Kappa | None:
    """Kappa of a table of counts with its large-sample standard error (Fleiss, Cohen, Everitt).

    None where it is not defined. Equation 13 of Fleiss 1969 (weighted; plain is the case of an
    identity matrix).
    """
    from scipy import stats

    n = float(table.sum())
    value = kappa_value(table, weights) if n else None
    if value is None:
        return None
    w = agreement_weights(len(table), weights)
    p = table / n
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    chance = float((w * np.outer(rows, columns)).sum())
    row_weights, column_weights = w @ columns, rows @ w
    mean = np.add.outer(row_weights, column_weights)
    spread = float((p * (w - mean * (1 - value)) ** 2).sum())
    variance = (spread - (value - chance * (1 - value)) ** 2) / (n * (1 - chance) ** 2)
    if variance <= 0:
        return Kappa(value=value, se=None, low=None, high=None)
    se = math.sqrt(variance)
    half = float(stats.norm.ppf(0.5 + level / 200)) * se
    return Kappa(value=value, se=se, low=max(value - half, -1.0), high=min(value + half, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient:
    """A coefficient with its interval; ``low`` and ``high`` None where there is none."""

    value: float
    low: float | None
    high: float | None


def sums_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The six sums' terms of each scan, ``[n, 6]``: 1, x, y, x², y², xy."""
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def _mean_squares(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean squares between rows (scans), columns (methods) and of the error; and n."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    grand = (x + y) ** 2 / (2 * n)
    total = xx + yy - grand
    rows = (xx + yy + 2 * xy) / 2 - grand
    columns = (x**2 + y**2) / n - grand
    return rows / (n - 1), columns, (total - rows - columns) / (n - 1), n


def icc_from_sums(sums: np.ndarray) -> np.ndarray:
    """ICC(2,1) of sums ``[..., 6]``: (MSR - MSE) / (MSR + MSE + 2/n (MSC - MSE)).

    Shrout & Fleiss 1979; ICC(A,1) of McGraw & Wong 1996, table 4, with k = 2.
    """
    msr, msc, mse, n = _mean_squares(sums)
    below = msr + mse + 2 / n * (msc - mse)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, (msr - mse) / below, np.nan)


def icc(x: np.ndarray, y: np.ndarray, level: float = 95.0) -> Coefficient | None:
    """ICC(2,1), two methods, absolute agreement, with McGraw & Wong's interval (1996, table 7)."""
    return icc_of_ratings(np.stack([x, y], axis=1), level)


def icc_of_ratings(ratings: np.ndarray, level: float = 95.0) -> Coefficient | None:
    """ICC(2,1) of ratings ``[n, k]``; None below 3 rows or where nothing varies."""
    from scipy import stats

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
        return Coefficient(value=value, low=None, high=None)
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    v = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))
    p = 0.5 + level / 200
    f_low, f_high = stats.f.ppf(p, n - 1, v), stats.f.ppf(p, v, n - 1)
    rest = k * msc + (k * n - k - n) * mse
    low = n * (msr - f_low * mse) / (f_low * rest + n * msr)
    high = n * (f_high * msr - mse) / (rest + n * f_high * msr)
    return Coefficient(value=value, low=float(low), high=float(high))


def ccc_from_sums(sums: np.ndarray) -> np.ndarray:
    """Lin's concordance of sums ``[..., 6]``: 2 s_xy / (s_x² + s_y² + (x̄ - ȳ)²), divisor n."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    sxx, syy, sxy = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2, xy / n - x * y / n**2
    below = sxx + syy + ((x - y) / n) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, 2 * sxy / below, np.nan)


def ccc(x: np.ndarray, y: np.ndarray, level: float = 95.0) -> Coefficient | None:
    """Lin's concordance coefficient with the interval of its Fisher z (Lin 1989, corrected 2000).

    None below 4 scans or where nothing varies.
    """
    from scipy import stats

    n = len(x)
    value = float(ccc_from_sums(sums_of(x - x.mean(), y - x.mean()).sum(axis=0))) if n > 3 else 0.0
    sx, sy = (float(v.std()) for v in (x, y))
    if n <= 3 or sx <= 0 or sy <= 0 or not math.isfinite(value):
        return None
    r = float(((x - x.mean()) * (y - y.mean())).mean()) / (sx * sy)
    if abs(value) >= 1 - 1e-12 or r == 0:
        return Coefficient(value=value, low=None, high=None)
    u = (float(y.mean()) - float(x.mean())) / math.sqrt(sx * sy)
    variance = (
        (1 - r**2) * value**2 * (1 - value**2) / r**2
        + 2 * value**3 * (1 - value) * u**2 / r
        - value**4 * u**4 / (2 * r**2)
    ) / (n - 2)
    half = float(stats.norm.ppf(0.5 + level / 200)) * math.sqrt(max(variance, 0.0))
    half /= 1 - value**2
    z = math.atanh(value)
    return Coefficient(value=value, low=math.tanh(z - half), high=math.tanh(z + half))


def cov_percent(x: np.ndarray, y: np.ndarray) -> float | None:
    """Within-person coefficient of variation of pairs in per cent, by the root-mean-square method.

    100 √ mean((d²/2) / m²), d the difference and m the mean of a pair (Quan & Shih 1996). None
    where a pair's mean is not above 0.
    """
    middle = (x + y) / 2
    if not len(x) or middle.min() <= 0:
        return None
    return 100 * math.sqrt(float(((x - y) ** 2 / 2 / middle**2).mean()))
