"""Sums of one trial: means and centred cross-products, merged exactly, nuisance absorbed.

A Gaussian model with the trial as its group needs no more of the rows than these sums
(``pooling.md`` 7.1). They are centred before they are multiplied: with an offset of 1e7 raw
cross-products lose four digits, centred ones none.

One trial as a few rows: what a Gaussian mixed model needs of it, in orthonormal coordinates.

Turning the rows of one arm by an orthogonal matrix leaves independent errors of one variance as
they are, and can make all but a few rows zero. So an arm's sums stand for its rows: ``sqrt(n)
(1, means)``, a triangular root of the centred cross-products, and rows of zeros which enter the
log-determinant alone. The nuisance columns are then taken out by going over to the contrasts that
are orthogonal to them, on which REML is defined (``pooling.md`` 7.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# A column is aliased when the others explain all but this share of its sum of squares. The square
# root, 3e-6, is the smallest norm of a residual column; R's lm() works with 1e-7 on rows, which
# sums in double precision cannot promise.
ALIAS_TOLERANCE = 1e-11
# A column is constant when its standard deviation is below this share of its mean: rounding.
CONSTANT_TOLERANCE = 1e-13
INTERCEPT = ""  # its name among a model's columns


def summarise_rows(trial: str, columns: Sequence[str], values: np.ndarray) -> TrialSummary:
    """The sums of one trial's rows, ``values`` ``[n, p]`` without missing values."""
    rows = np.asarray(values, dtype=float, order="F")  # sums over columns that lie in one piece
    if rows.ndim != 2 or rows.shape[1] != len(columns):
        raise ValueError(f"{rows.shape} values do not fit {len(columns)} columns")
    if not np.isfinite(rows).all():
        raise ValueError("sums take complete rows only")
    means = rows.mean(axis=0) if len(rows) else np.zeros(len(columns))
    centred = rows - means
    # A second pass takes out what rounding left of the mean.
    rest = centred.mean(axis=0) if len(rows) else 0.0
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
class TrialSummary:
    """Sufficient statistics of one trial (``pooling.md`` 7.1): what federated pooling sends.

    ``columns`` names the variables; ``means`` ``[p]``; ``cross_products`` ``[p, p]`` centred.
    """

    trial: str
    n: int
    columns: tuple[str, ...]
    means: np.ndarray
    cross_products: np.ndarray


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


RESIDUALS = ("by-trial", "common", "by-trial-and-arm")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelColumns:
    """The columns of a model by role; `INTERCEPT` is one of them.

    ``nuisance`` is the trial's own and taken out, ``fixed`` is common to all trials, ``random``
    varies between them.
    """

    nuisance: tuple[str, ...]
    fixed: tuple[str, ...]
    random: tuple[str, ...]
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialBlock:
    """A trial's contrasts: ``x`` ``[m, p]``, ``z`` ``[m, q]``, ``y`` ``[m]``.

    The errors' covariance is the sum of ``variance * spread`` over the residual groups, ``spread``
    ``[g, m, m]``; ``spare`` ``[g]`` counts further contrasts of each group on which everything is
    zero. ``log_nuisance`` = log|A'A|; ``n`` participants, ``rank`` nuisance columns.
    ``z_full`` ``[M, q]``, ``group_of`` ``[M]`` and ``spare_full`` ``[g]`` are the same before the
    nuisance was taken out, which maximum likelihood needs.
    """

    trial: str
    x: np.ndarray
    z: np.ndarray
    y: np.ndarray
    spread: np.ndarray
    spare: np.ndarray
    log_nuisance: float
    n: int
    rank: int
    z_full: np.ndarray
    group_of: np.ndarray
    spare_full: np.ndarray


def rows_of_sums(summary: TrialSummary) -> np.ndarray:
    """Rows ``[r, 1 + p]`` of (intercept, columns) that have the sums of ``summary``.

    Below the first an upper triangular root of the cross-products, aliased columns without a row.
    """
    gram = summary.cross_products
    scale = np.sqrt(np.maximum(np.diag(gram), 0.0))
    safe = np.where(scale > 0, scale, 1.0)
    left = gram / np.outer(safe, safe)
    root = np.zeros_like(left)
    for j in range(len(gram)):
        if scale[j] > 0 and left[j, j] > ALIAS_TOLERANCE:
            root[j, j:] = left[j, j:] / np.sqrt(left[j, j])
            left = left - np.outer(root[j], root[j])
    root = (root * safe)[root.any(axis=1)]
    first = np.sqrt(summary.n) * np.concatenate([[1.0], summary.means])
    return np.vstack([first, np.column_stack([np.zeros(len(root)), root])])


def trial_block(
    trial: str,
    arms: Sequence[TrialSummary],
    maps: Sequence[Mapping[str, np.ndarray]],
    columns: ModelColumns,
    *,
    residual: str,
) -> TrialBlock:
    """The contrasts of one trial from the sums of its arms.

    ``maps`` gives for each arm and each column of the model its linear form in (1, the sums'
    columns). ``residual`` is one of `RESIDUALS`. Nuisance columns that others explain are dropped.
    """
    names = (*columns.nuisance, *columns.fixed, *columns.random, columns.outcome)
    a, p, q = len(columns.nuisance), len(columns.fixed), len(columns.random)
    parts, group_of = [], []
    sizes = np.zeros(len(names))
    for index, (summary, forms) in enumerate(zip(arms, maps, strict=True)):
        base = rows_of_sums(summary)
        matrix = np.column_stack([forms[name] for name in names])
        parts.append(base @ matrix)
        group_of += [index if residual == "by-trial-and-arm" else 0] * len(base)
        sizes += summary.n * (np.abs(matrix[0]) + np.abs(summary.means) @ np.abs(matrix[1:])) ** 2
    rows, groups = np.vstack(parts), np.array(group_of)
    if INTERCEPT in columns.nuisance:
        # Centring what goes with an intercept changes nothing but the digits: a column of large
        # values that hardly vary would look like the intercept. Random columns stay (z_full).
        first = columns.nuisance.index(INTERCEPT)
        ones = rows[:, first]
        means = ones @ rows / (ones @ ones)
        means[[first, *range(a, a + p + q)]] = 0.0
        rows = rows - np.outer(ones, means)
    is_rounding = (rows[:, :a] ** 2).sum(axis=0) <= CONSTANT_TOLERANCE**2 * sizes[:a]
    rows[:, :a][:, is_rounding] = 0.0
    counts = np.zeros(int(groups.max()) + 1, dtype=int)
    for index, summary in enumerate(arms):
        counts[index if residual == "by-trial-and-arm" else 0] += summary.n
    basis, log_nuisance, rank = _complement(rows[:, :a])
    kept = basis.T @ rows[:, a:]
    spread = np.stack([(basis.T * (groups == g)) @ basis for g in range(len(counts))])
    spare_full = counts - np.bincount(groups, minlength=len(counts))
    spare = spare_full.copy()
    if len(counts) == 1:  # one variance: the contrasts may be turned once more
        kept = np.linalg.qr(kept, mode="r")
        spare = np.array([counts[0] - rank - len(kept)])
        spread = np.eye(len(kept))[None]
    return TrialBlock(
        trial=trial,
        x=kept[:, :p],
        z=kept[:, p : p + q],
        y=kept[:, -1],
        spread=spread,
        spare=spare,
        log_nuisance=log_nuisance,
        n=int(counts.sum()),
        rank=rank,
        z_full=rows[:, a + p : a + p + q],
        group_of=groups,
        spare_full=spare_full,
    )


def _complement(nuisance: np.ndarray) -> tuple[np.ndarray, float, int]:
    """An orthonormal basis of what is orthogonal to the columns, log|A'A| and their rank."""
    m = len(nuisance)
    kept: list[int] = []
    directions = np.zeros((m, 0))
    for j in range(nuisance.shape[1]):
        column = nuisance[:, j]
        size = float(column @ column)
        rest = column - directions @ (directions.T @ column)
        rest = rest - directions @ (directions.T @ rest)
        if size == 0 or float(rest @ rest) <= ALIAS_TOLERANCE * size:
            continue
        kept.append(j)
        directions = np.column_stack([directions, rest / np.linalg.norm(rest)])
    if not kept:
        return np.eye(m), 0.0, 0
    q, r = np.linalg.qr(nuisance[:, kept], mode="complete")
    log_det = 2.0 * float(np.log(np.abs(np.diag(r[: len(kept)]))).sum())
    return q[:, len(kept) :], log_det, len(kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedTrials:
    """All trials of a model as arrays of one shape, short trials padded with empty rows.

    ``x`` ``[k, m, p]``, ``z`` ``[k, m, q]``, ``y`` ``[k, m]``, ``spread`` ``[k, g, m, m]``,
    ``spare`` ``[k, g]``; ``index`` ``[k, g]`` numbers each group's variance, where ``used``.
    ``constant`` is what makes the criterion that of the rows; ``shared``: one variance for all.
    """

    x: np.ndarray
    z: np.ndarray
    y: np.ndarray
    spread: np.ndarray
    spare: np.ndarray
    index: np.ndarray
    used: np.ndarray
    shared: bool
    variances: int
    constant: float
    z_full: np.ndarray
    spread_full: np.ndarray
    spare_full: np.ndarray
    n: int
    rank: int


def pad_trials(blocks: Sequence[TrialBlock], *, residual: str, restricted: bool) -> PaddedTrials:
    """Pad the blocks to one shape and number the residual variances."""
    k = len(blocks)
    m = max(len(block.y) for block in blocks)
    m_full = max(len(block.group_of) for block in blocks) if not restricted else 0
    g = max(len(block.spare) for block in blocks)
    p, q = blocks[0].x.shape[1], blocks[0].z.shape[1]
    x, z, y = np.zeros((k, m, p)), np.zeros((k, m, q)), np.zeros((k, m))
    spread, spare = np.zeros((k, g, m, m)), np.zeros((k, g))
    z_full, spread_full = np.zeros((k, m_full, q)), np.zeros((k, g, m_full, m_full))
    spare_full = np.zeros((k, g))
    index, used = np.zeros((k, g), dtype=int), np.zeros((k, g), dtype=bool)
    variances = 0
    for i, block in enumerate(blocks):
        size, groups = len(block.y), len(block.spare)
        x[i, :size], z[i, :size], y[i, :size] = block.x, block.z, block.y
        spread[i, :groups, :size, :size] = block.spread
        spread[i, 0, range(size, m), range(size, m)] = 1.0
        spare[i, :groups] = block.spare
        used[i, :groups] = True
        spare[i, 0] -= m - size
        if not restricted:
            full = len(block.group_of)
            z_full[i, :full] = block.z_full
            spread_full[i, block.group_of, range(full), range(full)] = 1.0
            spread_full[i, 0, range(full, m_full), range(full, m_full)] = 1.0
            spare_full[i, :groups] = block.spare_full
            spare_full[i, 0] -= m_full - full
        if residual != "common":
            index[i, :groups] = range(variances, variances + groups)
            variances += groups
    n, rank = sum(block.n for block in blocks), sum(block.rank for block in blocks) + p
    constant = (n - rank if restricted else n) * float(np.log(2 * np.pi))
    if restricted:
        constant += sum(block.log_nuisance for block in blocks)
    return PaddedTrials(
        x=x,
        z=z,
        y=y,
        spread=spread,
        spare=spare,
        index=index,
        used=used,
        shared=residual == "common",
        variances=max(variances, 1),
        constant=constant,
        z_full=z_full,
        spread_full=spread_full,
        spare_full=spare_full,
        n=n,
        rank=rank,
    )
