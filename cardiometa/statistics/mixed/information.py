"""Information matrices of one-stage models: an arrow and a few rank-one terms, solved in O(k).

A trial's residual variances meet those of other trials through the common fixed effects alone. So
the information of all variance parameters is an arrow (few common parameters, a small block for
each trial) plus terms of the rank of the fixed effects; Woodbury's identity solves it in time
proportional to the number of trials (``pooling.md`` 7.4). Few parameters are solved as they stand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# Up to here LAPACK on the whole matrix is as fast, and loses nothing where the arrow alone is
# singular (two trials alike).
DENSE_UP_TO = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which parameters are common and which a trial's own.

    The first ``top`` are common; ``own`` ``[k, g]`` numbers the trials' own where ``used``.
    """

    top: int
    own: np.ndarray
    used: np.ndarray
    size: int

    def gathered(self, values: np.ndarray) -> np.ndarray:
        """Rows of ``values`` ``[R, ...]`` of each trial's own parameters, zero where unused."""
        found: np.ndarray = values[self.own]
        found[~self.used] = 0.0
        return found

    def joined(self, top: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Rows ``[R, ...]`` from the common ones and each trial's ``[k, g, ...]``."""
        values = np.zeros((self.size, *top.shape[1:]))
        values[: self.top] = top
        values[self.own[self.used]] = own[self.used]
        return values

    def summed(self, local: np.ndarray) -> np.ndarray:
        """``local`` ``[k, top + g, ...]`` of all trials together, ``[R, ...]``."""
        return self.joined(local[:, : self.top].sum(axis=0), local[:, self.top :])

    def local(self, values: np.ndarray) -> np.ndarray:
        """``values`` ``[R, ...]`` as each trial sees them, ``[k, top + g, ...]``."""
        k = len(self.own)
        top = np.broadcast_to(values[: self.top], (k, self.top, *values.shape[1:]))
        return np.concatenate([top, self.gathered(values)], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Information:
    """``arrow + factor diag(sign) factor'``, sign ±1; symmetric ``[R, R]``.

    ``top`` ``[t, t]``, ``side`` ``[k, g, t]`` and ``blocks`` ``[k, g, g]`` are the arrow.
    """

    layout: Layout
    top: np.ndarray
    side: np.ndarray
    blocks: np.ndarray
    factor: np.ndarray
    sign: np.ndarray

    def scaled(self, by: np.ndarray) -> Information:
        """Rows and columns times ``by`` ``[R]``."""
        t, own = self.layout.top, self.layout.gathered(by)
        return replace(
            self,
            top=self.top * np.outer(by[:t], by[:t]),
            side=self.side * own[:, :, None] * by[:t],
            blocks=self.blocks * own[:, :, None] * own[:, None, :],
            factor=self.factor * by[:, None],
        )

    def turned(self, by: np.ndarray, plus: np.ndarray) -> Information:
        """``J' I J + plus`` where ``by`` and ``plus`` ``[c, c]`` are of the first common ones."""
        c, t = len(by), self.layout.top
        whole, more = np.eye(t), np.zeros((t, t))
        whole[:c, :c], more[:c, :c] = by, plus
        factor = self.factor.copy()
        factor[:t] = whole.T @ factor[:t]
        return replace(
            self,
            top=whole.T @ self.top @ whole + more,
            side=self.side @ whole,
            factor=factor,
        )

    def plus_diagonal(self, values: np.ndarray) -> Information:
        """With ``values`` ``[R]`` added to the diagonal."""
        blocks = self.blocks.copy()
        at = np.arange(blocks.shape[1])
        blocks[:, at, at] += self.layout.gathered(values)
        return replace(self, top=self.top + np.diag(values[: self.layout.top]), blocks=blocks)

    def diagonal(self) -> np.ndarray:
        """The diagonal ``[R]``."""
        own = np.diagonal(self.blocks, axis1=1, axis2=2)
        whole: np.ndarray = self.layout.joined(np.diag(self.top), own)
        found: np.ndarray = whole + self.factor**2 @ self.sign
        return found

    def dense(self) -> np.ndarray:
        """The matrix itself."""
        layout, t = self.layout, self.layout.top
        matrix: np.ndarray = (self.factor * self.sign) @ self.factor.T
        matrix[:t, :t] += self.top
        trial, group = np.nonzero(layout.used)
        number = layout.own[trial, group]
        matrix[number, :t] += self.side[trial, group]
        matrix[:t, number] += self.side[trial, group].T
        for other in range(layout.own.shape[1]):
            both = layout.used[trial, other]
            first, second = number[both], layout.own[trial[both], other]
            matrix[first, second] += self.blocks[trial[both], group[both], other]
        return matrix

    def solver(self, free: np.ndarray) -> Solver:
        """What solves with the ``free`` ``[R]`` parameters; LinAlgError where it is singular."""
        if self.layout.size <= DENSE_UP_TO:
            return _dense_solver(self, free)
        return _arrow_solver(self, free)


class Solver:
    """The inverse of an `Information` over its free parameters; zero for the others."""

    positive: bool

    def solve(self, right: np.ndarray) -> np.ndarray:
        """``inverse @ right``, ``right`` ``[R]`` or ``[R, c]``."""
        raise NotImplementedError

    def local(self) -> np.ndarray:
        """Each trial's part of the inverse, ``[k, L, L]`` over its local parameters."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class _DenseSolver(Solver):
    layout: Layout
    inverse: np.ndarray
    positive: bool

    def solve(self, right: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.inverse @ right
        return found

    def local(self) -> np.ndarray:
        rows = self.layout.local(self.inverse)
        return np.concatenate(
            [
                rows[:, :, : self.layout.top],
                np.take_along_axis(rows, self.layout.own[:, None, :], axis=2)
                * self.layout.used[:, None, :],
            ],
            axis=2,
        )


def _dense_solver(information: Information, free: np.ndarray) -> _DenseSolver:
    at = np.ix_(free, free)
    matrix = information.dense()[at]
    try:
        np.linalg.cholesky(matrix)
        positive = True
    except np.linalg.LinAlgError:
        positive = False
    inverse = np.zeros((len(free), len(free)))
    inverse[at] = np.linalg.inv(matrix)
    return _DenseSolver(layout=information.layout, inverse=inverse, positive=positive)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ArrowSolver(Solver):
    layout: Layout
    free: np.ndarray
    own: np.ndarray  # inverses of the blocks
    lever: np.ndarray  # own @ side
    top: np.ndarray  # the inverse of the Schur complement of the blocks
    moved: np.ndarray  # the arrow's inverse times the factor
    core: np.ndarray  # the inverse of diag(sign) + factor' moved
    factor: np.ndarray
    positive: bool

    def solve(self, right: np.ndarray) -> np.ndarray:
        one = right[:, None] if right.ndim == 1 else right
        one = one * self.free[:, None]
        found = _arrow_solve(self.layout, self.own, self.lever, self.top, one)
        found -= self.moved @ (self.core @ (self.factor.T @ found))
        return found[:, 0] if right.ndim == 1 else found

    def local(self) -> np.ndarray:
        k, t = len(self.lever), self.layout.top
        cross = -self.lever @ self.top
        corner = np.broadcast_to(self.top, (k, t, t))
        own = self.own - cross @ self.lever.transpose(0, 2, 1)
        upper = np.concatenate([corner, cross.transpose(0, 2, 1)], axis=2)
        whole = np.concatenate([upper, np.concatenate([cross, own], axis=2)], axis=1)
        moved = self.layout.local(self.moved)
        whole -= moved @ self.core @ moved.transpose(0, 2, 1)
        mask = self.layout.local(self.free.astype(float))
        found: np.ndarray = whole * mask[:, :, None] * mask[:, None, :]
        return found


def _arrow_solve(
    layout: Layout, own: np.ndarray, lever: np.ndarray, top: np.ndarray, right: np.ndarray
) -> np.ndarray:
    mine = layout.gathered(right)
    first = top @ (right[: layout.top] - np.einsum("kgt,kgc->tc", lever, mine))
    return layout.joined(first, own @ mine - lever @ first)


def _arrow_solver(information: Information, free: np.ndarray) -> _ArrowSolver:
    layout = information.layout
    # A parameter that is not free has a row and column of the unit matrix.
    kept = information.scaled(free.astype(float)).plus_diagonal((~free).astype(float))
    blocks = kept.blocks.copy()
    at = np.arange(blocks.shape[1])
    blocks[:, at, at] += ~layout.used
    own = np.linalg.inv(blocks)
    lever = own @ kept.side
    schur = kept.top - np.einsum("kgt,kgs->ts", kept.side, lever)
    top = np.linalg.inv(schur)
    moved = _arrow_solve(layout, own, lever, top, kept.factor)
    capacity = np.diag(kept.sign) + kept.factor.T @ moved
    return _ArrowSolver(
        layout=layout,
        free=free,
        own=own,
        lever=lever,
        top=top,
        moved=moved,
        core=np.linalg.inv(capacity),
        factor=kept.factor,
        # Haynsworth: negative eigenvalues of a bordered matrix add up over Schur complements.
        positive=_negative(blocks) + _negative(schur) + _negative(-capacity)
        == int((kept.sign > 0).sum()),
    )


def _negative(matrices: np.ndarray) -> int:
    """How many eigenvalues are below zero."""
    if matrices.shape[-1] == 0:
        return 0
    return int((np.linalg.eigvalsh(matrices) < 0).sum())
