"""Sums of one trial: means and centred cross-products, merged exactly, nuisance absorbed.

A Gaussian model with the trial as its group needs no more of the rows than these sums
(``pooling.md`` 7.1). They are centred before they are multiplied: with an offset of 1e7 raw
cross-products lose four digits, centred ones none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...records import TrialSummary

# A column is aliased when the others explain all but this share of its sum of squares. The square
# root, 3e-6, is the smallest norm of a residual column; R's lm() works with 1e-7 on rows, which
# sums in double precision cannot promise.
ALIAS_TOLERANCE = 1e-11
# A column is constant when its standard deviation is below this share of its mean: rounding.
CONSTANT_TOLERANCE = 1e-13


def summarise_rows(trial: str, columns: Sequence[str], values: np.ndarray) -> TrialSummary:
    """The sums of one trial's rows, ``values`` ``[n, p]`` without missing values."""
    rows = np.asarray(values, dtype=float)
    if rows.ndim != 2 or rows.shape[1] != len(columns):
        raise ValueError(f"{rows.shape} values do not fit {len(columns)} columns")
    if not np.isfinite(rows).all():
        raise ValueError("sums take complete rows only")
    if len(rows) == 0:
        p = len(columns)
        return TrialSummary(
            trial=trial,
            n=0,
            columns=tuple(columns),
            means=np.zeros(p),
            cross_products=np.zeros((p, p)),
        )
    means = rows.mean(axis=0)
    centred = rows - means
    # A second pass takes out what rounding left of the mean.
    rest = centred.mean(axis=0)
    centred = centred - rest
    return TrialSummary(
        trial=trial,
        n=len(rows),
        columns=tuple(columns),
        means=means + rest,
        cross_products=centred.T @ centred,
    )


def merge_summaries(first: TrialSummary, second: TrialSummary) -> TrialSummary:
    """The sums of two parts of one trial together (Chan, Golub & LeVeque 1979, eq. 2.1)."""
    if (first.trial, first.columns) != (second.trial, second.columns):
        raise ValueError("only parts of one trial with the same columns can be merged")
    n = first.n + second.n
    if n == 0:
        return first
    step = second.means - first.means
    return TrialSummary(
        trial=first.trial,
        n=n,
        columns=first.columns,
        means=first.means + step * (second.n / n),
        cross_products=first.cross_products
        + second.cross_products
        + np.outer(step, step) * (first.n * second.n / n),
    )


def transform_summary(
    summary: TrialSummary, columns: Sequence[str], forms: np.ndarray
) -> TrialSummary:
    """The sums of ``columns`` that are linear in the summary's own.

    ``forms`` ``[1 + p, q]``: the constant of each new column, then its coefficients.
    """
    slopes = forms[1:]
    return TrialSummary(
        trial=summary.trial,
        n=summary.n,
        columns=tuple(columns),
        means=forms[0] + summary.means @ slopes,
        cross_products=slopes.T @ summary.cross_products @ slopes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsorbedSums:
    """What is left of the sums once the intercept and the nuisance columns are regressed out.

    ``columns`` are those kept, ``cross_products`` ``[r, r]`` theirs; ``original`` ``[r]`` their
    centred sums of squares before; ``contrasts`` = n - 1 - rank of the nuisance, the number of
    error contrasts; ``aliased`` the nuisance columns that others (or the intercept) explain.
    """

    columns: tuple[str, ...]
    cross_products: np.ndarray
    original: np.ndarray
    contrasts: int
    aliased: tuple[str, ...]


def _pivoted_cholesky(correlation: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Lower factor ``[p, r]`` and the columns used, largest remaining diagonal first.

    Ties go to the earlier column, so the same data always drop the same column.
    """
    p = len(correlation)
    factor = np.zeros((p, p))
    left = np.diag(correlation).copy()
    used: list[int] = []
    for _ in range(p):
        candidates = [j for j in range(p) if j not in used]
        # Rounding must not decide between equal columns.
        best = max(candidates, key=lambda j: (round(float(left[j]), 9), -j))
        if left[best] <= ALIAS_TOLERANCE:
            break
        r = len(used)
        column = correlation[:, best] - factor[:, :r] @ factor[best, :r]
        factor[:, r] = column / np.sqrt(left[best])
        left = left - factor[:, r] ** 2
        used.append(best)
    return factor[:, : len(used)], used


def constant_columns(summary: TrialSummary) -> tuple[str, ...]:
    """The columns that do not vary within the trial, rounding aside."""
    squares = np.diag(summary.cross_products)
    floor = summary.n * (CONSTANT_TOLERANCE * np.abs(summary.means)) ** 2
    return tuple(name for name, s, f in zip(summary.columns, squares, floor, strict=True) if s <= f)


def absorb(summary: TrialSummary, nuisance: Sequence[str]) -> AbsorbedSums:
    """Regress intercept and nuisance columns out of the others (Frisch, Waugh, Lovell).

    ``G_kk - G_kn G_nn^-1 G_nk`` through a Cholesky factor with pivoting of the nuisance block
    (``pooling.md`` 7.1); columns without any variation of their own are dropped and recorded.
    """
    index = {name: position for position, name in enumerate(summary.columns)}
    constant = set(constant_columns(summary))
    varying = [name for name in nuisance if name not in constant]
    kept = tuple(name for name in summary.columns if name not in set(nuisance))
    n_index = [index[name] for name in varying]
    k_index = [index[name] for name in kept]
    sums = summary.cross_products
    kept_sums = sums[np.ix_(k_index, k_index)]
    rank = 0
    used: list[int] = []
    if varying:
        scale = np.sqrt(np.diag(sums)[n_index])
        correlation = sums[np.ix_(n_index, n_index)] / np.outer(scale, scale)
        factor, used = _pivoted_cholesky(correlation)
        rank = len(used)
        square = factor[used]  # lower triangular in the order of use
        cross = sums[np.ix_(n_index, k_index)][used] / scale[used][:, None]
        half = np.linalg.solve(square, cross)
        kept_sums = kept_sums - half.T @ half
    aliased = tuple(
        name for name in nuisance if name in constant or varying.index(name) not in used
    )
    return AbsorbedSums(
        columns=kept,
        cross_products=kept_sums,
        original=np.diag(sums)[k_index],
        contrasts=summary.n - 1 - rank,
        aliased=aliased,
    )
