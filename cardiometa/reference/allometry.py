"""How a volume or mass grows with body size: log(measure) on log(size), by least squares.

``exponent`` b of measure = a·size^b, men and women with a level each (Dewey FE et al., Circulation
2008;117:2279-87). An index that divides by size^1 where b is far from 1 still depends on size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..measurement.measures import MEASURES, body_sizes
from .select import People

SIZES = ("height", "bsa_mosteller", "bsa_dubois", "weight")
_ABSOLUTE = ("_ml", "_g")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allometry:
    """A row of ``indexing.csv``: the exponent with its SE and interval; None with too few people.

    ``index`` is the name to give ``--measure`` for the measure divided by size to that exponent.
    """

    measure: str
    unit: str
    size: str
    adjusted_for: str
    n: int | None
    exponent: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None
    ci_level: float
    index: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """A least-squares slope: its SE and residual degrees of freedom."""

    value: float
    se: float
    df: int


def log_log_slope(y: np.ndarray, x: np.ndarray, group: np.ndarray | None) -> Slope | None:
    """The slope of ln ``y`` on ln ``x`` ``[n]``, with an intercept for each level of ``group``.

    None where the sizes do not vary within groups.
    """
    ly, lx = np.log(y), np.log(x)
    codes = np.zeros(len(y), dtype=int)
    if group is not None:
        codes = np.unique(group, return_inverse=True)[1]
    sizes = np.bincount(codes)
    lx = lx - (np.bincount(codes, lx) / sizes)[codes]
    ly = ly - (np.bincount(codes, ly) / sizes)[codes]
    spread, df = float(lx @ lx), len(y) - len(sizes) - 1
    if spread < 1e-12 * len(y) or df < 1:
        return None
    slope = float(lx @ ly) / spread
    residual = ly - slope * lx
    return Slope(value=slope, se=float(np.sqrt(residual @ residual / df / spread)), df=df)


def allometry(
    people: People, measures: tuple[str, ...], *, ci_level: float, smallest_n: int, min_cell: int
) -> Iterator[Allometry]:
    """The exponents of every absolute volume and mass; none without heights or weights."""
    from scipy import special

    height, weight = people.values("height_cm"), people.values("weight_kg")
    if not np.isfinite(height).any():
        return
    by_sex = bool((people.sex >= 0).any())
    units = {m.name: m.unit for m in MEASURES}
    for measure in measures:
        if measure not in units or not measure.endswith(_ABSOLUTE):
            continue
        values = people.values(measure)
        for size in SIZES:
            sizes = body_sizes(size, height, weight)
            usable = np.isfinite(values) & (values > 0) & np.isfinite(sizes)
            if by_sex:
                usable &= people.sex >= 0
            n = int(usable.sum())
            if not n:
                continue
            found = None
            if n >= smallest_n:
                group = people.sex[usable] if by_sex else None
                found = log_log_slope(values[usable], sizes[usable], group)
            half = 0.0
            if found is not None:
                half = float(special.stdtrit(found.df, (1 + ci_level / 100) / 2)) * found.se
            usable_index = found is not None and 0.005 <= found.value <= 5
            yield Allometry(
                measure=measure,
                unit=units[measure],
                size=size,
                adjusted_for="sex" if by_sex else "",
                n=n if n >= min_cell else None,
                exponent=found.value if found else None,
                se=found.se if found else None,
                ci_low=found.value - half if found else None,
                ci_high=found.value + half if found else None,
                ci_level=ci_level,
                index=f"{measure}_per_{size}_{found.value:.2f}" if found and usable_index else "",
                note="" if found else f"n<{smallest_n}" if n < smallest_n else "size-constant",
            )
