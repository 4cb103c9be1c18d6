"""Splines and fractional polynomials, and what a smooth, random or fixed term is made of.

P-splines: many B-splines and a penalty on the differences of neighbouring coefficients (Eilers PHC,
Marx BD. Stat Sci 1996;11:89-121). A random effect is a term whose penalty is a ridge.

Restricted cubic splines: cubic between knots, straight beyond the outer ones, by the truncated
power basis of Harrell (Regression Modeling Strategies, 2nd ed., eq. 2.24 to 2.26).

Fractional polynomials: Royston P, Altman DG. Appl Stat 1994;43:429-67; the closed test that chooses
them: Royston P, Sauerbrei W. Multivariable Model-building. Wiley 2008, section 4.10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from scipy import linalg, special
from scipy.interpolate import BSpline

DEGREE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SplineBasis:
    """B-splines of degree 3 on ``segments`` equal pieces of [``low``, ``high``].

    There are ``segments`` + 3 of them and they add up to 1, so an intercept is within.
    """

    low: float
    high: float
    segments: int

    @property
    def size(self) -> int:
        """Number of basis functions."""
        return self.segments + DEGREE

    def at(self, x: np.ndarray) -> np.ndarray:
        """The basis at ``x`` ``[n]`` as ``[n, size]``; values outside count as at the border."""
        step = (self.high - self.low) / self.segments
        knots = self.low + step * np.arange(-DEGREE, self.segments + DEGREE + 1)
        inside = np.clip(np.asarray(x, dtype=float), self.low, self.high)
        # The last knot belongs to the last piece, and rounding must not push it out.
        inside = np.minimum(inside, np.nextafter(knots[-DEGREE - 1], -np.inf))
        inside = np.maximum(inside, knots[DEGREE])
        return np.asarray(BSpline.design_matrix(inside, knots, DEGREE).toarray())


def difference_penalty(size: int, order: int) -> np.ndarray:
    """``D'D`` of differences of that order, ``[size, size]`` of rank ``size - order``."""
    D = np.diff(np.eye(size), order, axis=0)
    return np.asarray(D.T @ D)


def natural_coefficients(size: int) -> np.ndarray:
    """``[size, size - 2]``: B-spline coefficients whose curve is straight at both ends.

    The second derivative at an end of equal knots is the second difference of the three
    coefficients there (Eilers & Marx 1996, appendix). The columns are orthonormal.
    """
    ends = np.zeros((2, size))
    ends[0, :3] = ends[1, -3:] = (1.0, -2.0, 1.0)
    return np.asarray(linalg.null_space(ends))


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """Neighbouring columns of a predictor with one penalty.

    ``penalty`` ``[p, p]`` of ``rank``, None for columns that are free. A ``random`` term is a set
    of effects with one variance, 1/lambda; with ``avoid_zero`` its variance is the
    boundary-avoiding estimate, which needs three effects. A ``held`` penalty is not estimated: it
    is so small that it only makes effects beside an intercept unique.
    """

    name: str
    columns: np.ndarray
    penalty: np.ndarray | None = None
    rank: int = 0
    random: bool = False
    avoid_zero: bool = False
    held: bool = False

    @property
    def size(self) -> int:
        """Number of columns."""
        return int(self.columns.shape[1])


def smooth_term(
    name: str, basis: SplineBasis, x: np.ndarray, *, order: int = 2, avoid_zero: bool = False
) -> Term:
    """A P-spline of ``x``; differences of that order are penalised.

    With ``avoid_zero`` the curve is never taken for sure to be a straight line: its intervals then
    allow for the bend that few participants cannot show.
    """
    order = min(order, basis.size - 1)
    return Term(
        name=name,
        columns=basis.at(x),
        penalty=difference_penalty(basis.size, order),
        rank=basis.size - order,
        avoid_zero=avoid_zero,
    )


def random_term(name: str, code: np.ndarray, groups: int, *, avoid_zero: bool = False) -> Term:
    """An effect for each of ``groups``; ``code`` ``[n]``, -1 belongs to none.

    Two effects have no variance to estimate without a zero: with ``avoid_zero`` they are held.
    """
    columns = np.zeros((len(code), groups))
    known = code >= 0
    columns[np.flatnonzero(known), code[known]] = 1.0
    return Term(
        name=name,
        columns=columns,
        penalty=np.eye(groups),
        rank=groups,
        random=True,
        avoid_zero=avoid_zero and groups > 2,
        held=avoid_zero and groups <= 2,
    )


def fixed_term(name: str, columns: np.ndarray) -> Term:
    """Free columns ``[n, p]``."""
    return Term(name=name, columns=np.asarray(columns, dtype=float))


def group_contrasts(code: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Columns ``[n, groups - 1]`` of fixed group effects whose ``weights``-ed mean is 0.

    ``code`` ``[n]`` counts into the weights (all above 0); the last group's effect follows from
    the others.
    """
    share = np.asarray(weights, dtype=float) / np.sum(weights)
    table = np.vstack([np.eye(len(share) - 1), -share[:-1] / share[-1]])
    return np.asarray(table[code])


# Harrell's table 2.3: quantiles of the knots.
QUANTILES = {
    3: (0.10, 0.50, 0.90),
    4: (0.05, 0.35, 0.65, 0.95),
    5: (0.05, 0.275, 0.50, 0.725, 0.95),
}


def restricted_cubic(x: np.ndarray, knots: tuple[float, ...]) -> np.ndarray:
    """The basis at ``x`` ``[n]`` as ``[n, knots - 1]``: x itself, then the bent columns.

    All are divided by the distance of the outer knots, so that no column is large.
    """
    first, before, last = knots[0], knots[-2], knots[-1]
    size = last - first
    t = (np.asarray(x, dtype=float) - first) / size
    place = [(knot - first) / size for knot in knots]
    a, b = (before - first) / size, 1.0

    def cube(at: float) -> np.ndarray:
        return np.maximum(t - at, 0.0) ** 3

    columns = [t]
    columns += [
        cube(own) - cube(a) * (b - own) / (b - a) + cube(b) * (a - own) / (b - a)
        for own in place[:-2]
    ]
    return np.column_stack(columns)


def common_knots(values: np.ndarray, count: int, step: float) -> tuple[float, ...] | None:
    """Knots at Harrell's quantiles of all ``values``, rounded to ``step``; None if they coincide.

    Rounded, because a quantile is a participant's own value.
    """
    found = np.quantile(values, QUANTILES[count])
    knots = tuple(float(round(q / step) * step) for q in found)
    return knots if len(set(knots)) == count else None


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
    """The closed test: nothing, a line, one power or two, each against the best of two.

    With ``degree`` 1 upwards instead: a line against nothing, the best power against the line, so
    that a power is chosen only where a line is needed and does not do.
    ``others`` ``[n, r]`` are columns of every model (an intercept, trials). Deviances are those of
    a normal distribution; differences are judged by chi² with a degree for each power and
    coefficient.
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
    # The smaller polynomial, which is kept if p > alpha, the larger, their degrees of freedom.
    none: tuple[float, ...] = ()
    line, one, two = (1.0,), best[1], best[degree]
    order = [(none, line, 1), (line, one, 1)]
    if degree == 2:
        order = [(none, two, 4), (line, two, 3), (one, two, 2)]
    for smaller, larger, df in order:
        if special.chdtrc(df, max(found[smaller] - found[larger], 0.0)) > alpha:
            return Choice(powers=smaller, deviances=found)
    return Choice(powers=two, deviances=found)


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
