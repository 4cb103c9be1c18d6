"""Cohen's kappa of graded values, plain and weighted, with the interval of Fleiss et al. 1969.

EF is graded as the universal definition of heart failure does (Bozkurt 2021): reduced up to 40 %,
mildly reduced above 40 and below 50 %, preserved from 50 %.
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
