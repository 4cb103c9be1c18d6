"""``partition.csv``: whether two groups differ enough to need limits of their own.

Harris EK, Boyd JC. Clin Chem 1990;36:265-70; Lahti A et al., Clin Chem 2002;48:338-52; EP28-A3c.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...records import ETHNICITIES, SEXES
from ...statistics.order_statistics import interpolated_quantile
from ..disclosure import hidden_counts
from ..options import Factor, ReferenceOptions
from ..results import PartitionTest
from .contrasts import MAY_BE_TRIALS
from .groups import ALL, Cell
from .stratum_fit import FittedCell

# Lahti: a tail holding 2.5 % of both together; shares of one group that part or pool.
_PART_ABOVE, _PART_BELOW = 4.1, 0.9
_POOL_LOW, _POOL_HIGH = 1.8, 3.2


def harris_boyd(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """z, its critical value 3·√(n̄/120) with n̄ the mean of both sizes, and the SD ratio (≥ 1).

    ``a``, ``b``: the values of each group; z is 0 where neither varies and the means agree.
    """
    difference = abs(float(a.mean()) - float(b.mean()))
    var_a, var_b = float(a.var(ddof=1)), float(b.var(ddof=1))
    error = math.sqrt(var_a / len(a) + var_b / len(b))
    z = difference / error if error > 0 else (math.inf if difference > 0 else 0.0)
    critical = 3 * math.sqrt((len(a) + len(b)) / 2 / 120)
    small, large = sorted((math.sqrt(var_a), math.sqrt(var_b)))
    ratio = large / small if small > 0 else (math.inf if large > 0 else 1.0)
    return z, critical, ratio


def lahti_shares(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    """Percent of ``a`` below and above, of ``b`` below and above, the 95 % limits of both."""
    both = np.sort(np.concatenate([a, b]))
    low, high = interpolated_quantile(both, 0.025), interpolated_quantile(both, 0.975)
    return (
        100 * float(np.mean(a < low)),
        100 * float(np.mean(a > high)),
        100 * float(np.mean(b < low)),
        100 * float(np.mean(b > high)),
    )


def lahti_verdict(shares: Sequence[float]) -> str:
    """``partition``: a tail ≥ 4.1 % or ≤ 0.9 %; ``pool``: all within 1.8 to 3.2 %; else judge."""
    if any(s >= _PART_ABOVE or s <= _PART_BELOW for s in shares):
        return "partition"
    if all(_POOL_LOW <= s <= _POOL_HIGH for s in shares):
        return "pool"
    return "judgement"


def partition_tests(
    measure: str, unit: str, fitted: Sequence[FittedCell], options: ReferenceOptions
) -> Iterator[PartitionTest]:
    """Male against female in each age band; each ethnicity against the largest, by sex and band."""
    by_key = {
        (f.cell.key.age_low, f.cell.key.age_high, f.cell.key.sex, f.cell.key.ethnicity): f.cell
        for f in fitted
    }
    withheld = {id(f.cell) for f in fitted if f.withheld}
    bands = list(dict.fromkeys((k[0], k[1]) for k in by_key))
    sexes = list(dict.fromkeys(k[2] for k in by_key))
    ethnicities = [e for e in ETHNICITIES if any(k[3] == e for k in by_key)]
    largest = _largest(fitted, ethnicities)
    for band in bands:
        if all(sex in sexes for sex in SEXES):
            pair = (by_key[*band, SEXES[0], ALL], by_key[*band, SEXES[1], ALL])
            row = _test(measure, unit, "sex", pair, options, hide=None)
            yield _without_moments(row) if withheld & {id(c) for c in pair} else row
        for sex in sexes:
            groups = [by_key[*band, sex, e] for e in ethnicities]
            # The reference range prints the n of `all` beside these: hide here what it hides.
            total = by_key[*band, sex, ALL].n
            hidden = hidden_counts([g.n for g in groups], total, options.min_cell)
            hide = dict(zip(ethnicities, hidden, strict=True))
            for cell in groups:
                if largest is not None and cell.key.ethnicity != largest:
                    pair = (cell, by_key[*band, sex, largest])
                    yield _test(measure, unit, "ethnicity", pair, options, hide=hide)


def _largest(fitted: Sequence[FittedCell], ethnicities: Sequence[str]) -> str | None:
    if len(ethnicities) < 2:
        return None
    total = {e: sum(f.cell.n for f in fitted if f.cell.key.ethnicity == e) for e in ethnicities}
    return max(ethnicities, key=lambda e: total[e])


def _test(
    measure: str,
    unit: str,
    factor: Factor,
    pair: tuple[Cell, Cell],
    options: ReferenceOptions,
    *,
    hide: dict[str, bool] | None,
) -> PartitionTest:
    cell_a, cell_b = pair
    a, b = cell_a.ordered, cell_b.ordered
    enough = min(len(a), len(b)) >= options.smallest_n
    z, critical, ratio = harris_boyd(a, b) if enough else (None, None, None)
    shares = lahti_shares(a, b) if enough else (None, None, None, None)
    hidden = [
        c.n < options.min_cell or bool(hide and hide.get(c.key.ethnicity)) for c in (cell_a, cell_b)
    ]
    few = min(len(a), len(b))
    bound = options.min_cell if few < options.min_cell else options.smallest_n
    return PartitionTest(
        measure=measure,
        unit=unit,
        factor=factor,
        group_a=cell_a.key.sex if factor == "sex" else cell_a.key.ethnicity,
        group_b=cell_b.key.sex if factor == "sex" else cell_b.key.ethnicity,
        sex=ALL if factor == "sex" else cell_a.key.sex,
        age_low=cell_a.key.age_low,
        age_high=cell_a.key.age_high,
        n_a=None if hidden[0] else len(a),
        n_b=None if hidden[1] else len(b),
        mean_a=float(a.mean()) if enough else None,
        mean_b=float(b.mean()) if enough else None,
        sd_a=float(a.std(ddof=1)) if enough else None,
        sd_b=float(b.std(ddof=1)) if enough else None,
        z=z,
        z_critical=critical,
        sd_ratio=ratio,
        harris_boyd=_harris_boyd_verdict(z, critical, ratio),
        below_percent_a=shares[0],
        above_percent_a=shares[1],
        below_percent_b=shares[2],
        above_percent_b=shares[3],
        lahti=lahti_verdict([s for s in shares if s is not None]) if enough else "",
        note=f"n<{bound}" if not enough else MAY_BE_TRIALS if _apart(cell_a, cell_b) else "",
    )


def _without_moments(row: PartitionTest) -> PartitionTest:
    """The verdicts alone: means and SDs beside those of the groups would tell of a few people."""
    told = ("mean_a", "mean_b", "sd_a", "sd_b", "z", "sd_ratio")
    shares = ("below_percent_a", "above_percent_a", "below_percent_b", "above_percent_b")
    note = "; ".join(filter(None, ("limits-withheld", row.note)))
    nothing: dict[str, Any] = dict.fromkeys((*told, *shares))
    return replace(row, **nothing, note=note)


def _apart(a: Cell, b: Cell) -> bool:
    """True where most people of one group are in trials that the other is hardly in.

    Hardly: with less than a twentieth of its people.
    """
    for mine, other in ((a, b), (b, a)):
        least = other.n / 20
        shared = sum(
            n for t, n in mine.trial_counts.items() if other.trial_counts.get(t, 0) >= least
        )
        if 2 * shared < mine.n:
            return True
    return False


def _harris_boyd_verdict(z: float | None, critical: float | None, ratio: float | None) -> str:
    if z is None or critical is None or ratio is None:
        return ""
    return "partition" if z > critical or ratio > 1.5 else "pool"
