"""Cohen's kappa of graded values, plain and weighted, with the interval of Fleiss et al. 1969.

EF is graded as the universal definition of heart failure does (Bozkurt 2021): reduced up to 40 %,
mildly reduced above 40 and below 50 %, preserved from 50 %.

Reliability of two methods: ICC(2,1), Lin's concordance, within-person CoV, from six sums.

All are functions of n, Σx, Σy, Σx², Σy², Σxy, so that a bootstrap over people is a product of
matrices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

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
