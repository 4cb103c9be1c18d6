"""Restricted cubic splines: cubic between knots, straight beyond the outer ones.

The truncated power basis of Harrell (Regression Modeling Strategies, 2nd ed., eq. 2.24 to 2.26),
on the scale of the distance of the outer knots.
"""

from __future__ import annotations

import numpy as np

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

    Rounded, because a quantile of people is a person's own value.
    """
    found = np.quantile(values, QUANTILES[count])
    knots = tuple(float(round(q / step) * step) for q in found)
    return knots if len(set(knots)) == count else None
