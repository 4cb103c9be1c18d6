"""Fractional polynomials of age, and the closed test that chooses them.

Royston P, Altman DG. Appl Stat 1994;43:429-67; the closed test: Royston P, Sauerbrei W.
Multivariable Model-building. Wiley 2008, section 4.10.
Royston P, Wright EM. JRSS A 1998;161:79-101: mean and SD by age, normal about them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from scipy import special

_ALPHA = 0.05
POWERS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)


def fractional_columns(x: np.ndarray, powers: Sequence[float]) -> np.ndarray:
    """``[n, len(powers)]``: x^p, ln x for 0; a power that comes again is multiplied by ln x.

    ``x`` ``[n]`` positive.
    """
    log = np.log(x)
    columns: list[np.ndarray] = []
    for index, power in enumerate(powers):
        if index and power == powers[index - 1]:
            columns.append(columns[-1] * log)
        else:
            columns.append(log if power == 0 else x**power)
    return np.column_stack(columns) if columns else np.empty((len(x), 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The powers chosen and the deviance of every polynomial tried, by its powers."""

    powers: tuple[float, ...]
    deviances: dict[tuple[float, ...], float]


def choose_powers(
    x: np.ndarray,
    y: np.ndarray,
    others: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    alpha: float = _ALPHA,
    degree: int = 2,
) -> Choice:
    """The closed test: nothing, a line, one power or two, each against the best of two (or one).

    ``others`` ``[n, r]`` are columns of every model (an intercept, trials). Deviances are those of
    a normal law; differences are judged by chi² with a degree for each power and coefficient.
    """
    w = np.ones(len(y)) if weights is None else weights
    tried = [()] + [
        powers
        for size in range(1, degree + 1)
        for powers in combinations_with_replacement(POWERS, size)
    ]
    found = {powers: _deviance(x, y, others, w, powers) for powers in tried}
    best = {
        size: min((p for p in tried if len(p) == size), key=lambda p: found[p])
        for size in range(1, degree + 1)
    }
    top = best[degree]

    def enough(smaller: tuple[float, ...], df: int) -> bool:
        return bool(special.chdtrc(df, max(found[smaller] - found[top], 0.0)) > alpha)

    if enough((), 2 * degree):
        return Choice(powers=(), deviances=found)
    if enough((1.0,), 2 * degree - 1):
        return Choice(powers=(1.0,), deviances=found)
    if degree == 2 and enough(best[1], 2):
        return Choice(powers=best[1], deviances=found)
    return Choice(powers=top, deviances=found)


def choice_weights(deviances: Mapping[tuple[float, ...], float]) -> dict[tuple[float, ...], float]:
    """How much each polynomial is worth, adding up to 1: exp(-(deviance + 3.84·df)/2).

    As Akaike's weights, at the price of a 5 % test for a degree of freedom, by which the closed
    test chooses. A power and its coefficient cost one each; the power of a line is given.
    """
    price = float(special.chdtri(1, _ALPHA))
    score = {
        powers: deviance + price * (1 if powers == (1.0,) else 2 * len(powers))
        for powers, deviance in deviances.items()
    }
    best = min(score.values())
    worth = {powers: math.exp((best - value) / 2) for powers, value in score.items()}
    total = sum(worth.values())
    return {powers: value / total for powers, value in worth.items()}


def _deviance(
    x: np.ndarray, y: np.ndarray, others: np.ndarray, w: np.ndarray, powers: tuple[float, ...]
) -> float:
    """-2 log likelihood of weighted least squares at its own variance, as R's logLik has it."""
    X = np.hstack([others, fractional_columns(x, powers)])
    root = np.sqrt(w)
    b, *_ = np.linalg.lstsq(X * root[:, None], y * root, rcond=1e-12)
    rest = float(np.sum(w * (y - X @ b) ** 2))
    n = len(y)
    if rest <= 0:
        return -math.inf
    return n * (math.log(2 * math.pi * rest / n) + 1) - float(np.log(w).sum())
