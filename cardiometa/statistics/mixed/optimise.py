"""Finding the optimum of a one-stage model: starts, scoring and Newton steps, the edges of D."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from .likelihood import Model, Pieces, gls, pieces_at

_MOST_STEPS = 200
_SCAN = 40
_FAR = 0.1  # standard errors from where Newton's steps are good
_NO_VARIANCE = 1e-9  # of the sampling variance of one trial's effect: zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """Where a climb came to, and how far from the top that is in standard errors."""

    parameters: np.ndarray
    pieces: Pieces
    decrement: float
    steps: int


# ------------------------------------------------------------------ starts


def start_of(model: Model) -> np.ndarray:
    """Residual variances of each trial's own least squares; D from the spread of what is left."""
    data = model.data
    x, y = data.x, data.y
    own_sum, own_df = np.zeros(data.variances), np.zeros(data.variances)
    residual = y - (x @ (np.linalg.pinv(x) @ y[:, :, None]))[:, :, 0]
    rank = np.linalg.matrix_rank(x)
    # Rows of padding and spare contrasts are counted as the model counts them.
    sizes = data.spare + np.trace(data.spread, axis1=2, axis2=3)
    count = sizes.sum(axis=1)
    shares = np.einsum("kgmn,km,kn->kg", data.spread, residual, residual)
    left = np.maximum(count - rank, 0.0) / np.maximum(count, 1.0)
    np.add.at(own_sum, data.index, shares)
    np.add.at(own_df, data.index, sizes * left[:, None])
    overall = own_sum.sum() / max(own_df.sum(), 1.0)
    variances = np.where(own_sum > 0, own_sum / np.maximum(own_df, 1.0), overall)
    d = len(model.basis)
    theta = np.zeros(d)
    within = gls(model, np.concatenate([theta, variances]))
    size = np.einsum("kmq,kmn,knq->kq", data.z, within["vi"], data.z)
    seen = np.einsum("kmq,km->kq", data.z, within["weighted"]) ** 2
    excess = np.maximum(seen - size, 0.0).sum(axis=0)
    scale = np.maximum((size**2).sum(axis=0), 1e-300)
    of = [np.diag(b) > 0 for b in model.basis]
    theta = np.array([excess[z].sum() / scale[z].sum() if z.any() else 0.0 for z in of])
    if model.correlated:  # a root without a slope is no start
        typical = _typical(model, np.concatenate([theta, variances]))
        theta = np.maximum(theta, 0.01 * typical)
    return np.concatenate([theta, variances])


def other_starts(model: Model, best: Reached, free: np.ndarray) -> list[np.ndarray]:
    """Where else an optimum might be: from the profile scan for one theta, else five restarts."""
    d = len(model.basis)
    if d > 1:
        typical = np.maximum(_typical(model, best.parameters), best.parameters[:d])
        found = []
        for factors in ((0.01, 0.01), (10.0, 10.0), (0.01, 10.0), (10.0, 0.01)):
            other = best.parameters.copy()
            other[:d] = typical * np.array([factors[min(a, 1)] for a in range(d)])
            found.append(other)
        return found
    scale = float(np.trace(best.pieces.covariance)) * len(model.data.y)
    tau = np.sqrt(max(best.parameters[0], 0.0))
    grid = np.linspace(0.0, 10.0 * max(tau, np.sqrt(scale)), _SCAN) ** 2
    others = free.copy()
    others[0] = False
    values = []
    current = best.parameters.copy()
    for theta in grid:
        current[0] = theta
        reached = climb(model, current, others, most=2)
        values.append((reached.pieces.criterion, reached.parameters))
        current = reached.parameters.copy()
    criteria = np.array([value for value, _ in values])
    dips = [
        i
        for i in range(_SCAN)
        if criteria[i] <= criteria[max(i - 1, 0)] and criteria[i] <= criteria[min(i + 1, _SCAN - 1)]
    ]
    # The dip that holds the optimum already found is not another one.
    own = int(np.abs(np.sqrt(grid) - tau).argmin())
    return [values[i][1] for i in dips if abs(i - own) > 1]


def _typical(model: Model, parameters: np.ndarray) -> np.ndarray:
    """For each theta the sampling variance of one trial's effect; 0 for covariances."""
    d = len(model.basis)
    within = gls(model, np.concatenate([np.zeros(d), parameters[d:]]))
    size = np.einsum("kmq,kmn,knq->q", model.data.z, within["vi"], model.data.z)
    size = np.maximum(size / len(model.data.y), 1e-300)
    of = [np.diag(b) > 0 for b in model.basis]
    return np.array([float((1.0 / size[z]).mean()) if z.any() else 0.0 for z in of])


# ------------------------------------------------------------------ climbing


def climb(model: Model, start: np.ndarray, free: np.ndarray, most: int = _MOST_STEPS) -> Reached:
    """Scoring, then Newton, with step halving; D stays a covariance.

    Variances move on the log scale, so that they stay positive.
    """
    d = len(model.basis)
    unknown = model.unknown(start)
    pieces = pieces_at(model, model.natural(unknown))
    decrement = np.inf
    steps = 0
    while steps < most:
        steps += 1
        active = free.copy()
        if not model.correlated:
            active[:d] &= (unknown[:d] > 0) | (pieces.score[:d] > 0)
        if not active.any():
            decrement = 0.0
            break
        move, decrement = _direction(pieces, unknown, active, *model.slopes(unknown, pieces.score))
        if decrement < 1e-10:
            break
        far = model.correlated and decrement > _FAR
        halved = _damped(model, unknown, pieces, active) if far else None
        halved = halved or _halve(model, unknown, pieces, move)
        if halved is None:
            break
        unknown, pieces = halved
    return Reached(
        parameters=model.natural(unknown), pieces=pieces, decrement=decrement, steps=steps
    )


def zero_thetas(model: Model, theta: np.ndarray) -> np.ndarray:
    """Which thetas are on their boundary; a covariance is, where one of its variances is."""
    zero: np.ndarray = theta <= 0
    if model.correlated:
        zero[2] = zero[:2].any()
    return zero


def at_boundary(model: Model, reached: Reached) -> Reached:
    """A root whose variance is nothing, set to nothing: it is reached in the limit alone."""
    if not model.correlated:
        return reached
    parameters = reached.parameters.copy()
    gone = parameters[:2] < _NO_VARIANCE * _typical(model, parameters)[:2]
    if not gone.any():
        return reached
    parameters[:2][gone] = 0.0
    parameters[2] = 0.0
    return Reached(
        parameters=parameters,
        pieces=pieces_at(model, parameters),
        decrement=reached.decrement,
        steps=reached.steps,
    )


def _damped(
    model: Model, unknown: np.ndarray, pieces: Pieces, active: np.ndarray
) -> tuple[np.ndarray, Pieces] | None:
    """The best of several steps of D's root, from short to long; None where none is better.

    Near a singular root, whose slope vanishes, scoring steps are far too long and lead nowhere;
    damped by the inverse of a typical variance (Levenberg's way) they are not.
    """
    d = len(model.basis)
    slopes, _ = model.slopes(unknown, pieces.score)
    own = 1.0 / np.maximum(_typical(model, unknown)[[0, 1, 1]], 1e-300)
    scale = np.concatenate([np.ones(d), unknown[d:]])
    score = np.concatenate([slopes.T @ pieces.score[:d], pieces.score[d:] * unknown[d:]]) * active
    expected = pieces.expected.turned(slopes, np.zeros((d, d))).scaled(scale)
    best: tuple[np.ndarray, Pieces] | None = None
    for damping in (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0):
        more = np.concatenate([damping * own, np.zeros(len(unknown) - d)])
        with suppress(FloatingPointError, np.linalg.LinAlgError):
            move = expected.plus_diagonal(more).solver(active).solve(score)
            tried = _moved(model, unknown, move)
            reached = pieces_at(model, model.natural(tried))
            if reached.criterion < (best[1] if best else pieces).criterion:
                best = tried, reached
    return best


def _direction(
    pieces: Pieces,
    unknown: np.ndarray,
    active: np.ndarray,
    slopes: np.ndarray,
    bend: np.ndarray,
) -> tuple[np.ndarray, float]:
    """The step (variances as logs) and its length in standard errors.

    ``slopes`` and ``bend`` are the thetas' derivatives in the unknowns, as `Model.slopes` gives.
    """
    d = len(slopes)
    scale = np.concatenate([np.ones(d), unknown[d:]])
    score = np.concatenate([slopes.T @ pieces.score[:d], pieces.score[d:] * unknown[d:]]) * active
    curvature = np.concatenate([np.zeros(d), score[d:]])
    expected = pieces.expected.turned(slopes, np.zeros((d, d))).scaled(scale)
    observed = pieces.observed.turned(slopes, -bend).scaled(scale).plus_diagonal(-curvature)
    step = None
    for matrix in (observed, expected):
        try:
            solver = matrix.solver(active)
        except np.linalg.LinAlgError:
            continue
        if not solver.positive:
            continue
        step = solver.solve(score)
        if matrix is expected or float(score @ step) < 4.0:
            break
    if step is None:
        step = score / np.maximum(np.abs(expected.diagonal()), 1e-300)
    return step, float(np.sqrt(max(float(score @ step), 0.0)))


def _halve(
    model: Model, unknown: np.ndarray, pieces: Pieces, move: np.ndarray
) -> tuple[np.ndarray, Pieces] | None:
    """The longest halving of the step that does not make the criterion worse."""
    slack = 1e-11 * (1.0 + abs(pieces.criterion))
    for halvings in range(40):
        tried = _moved(model, unknown, move * 0.5**halvings)
        try:
            reached = pieces_at(model, model.natural(tried))
        except (FloatingPointError, np.linalg.LinAlgError):
            continue
        if reached.criterion <= pieces.criterion + slack:
            return tried, reached
    return None


def _moved(model: Model, unknown: np.ndarray, move: np.ndarray) -> np.ndarray:
    """The unknowns after a step; where D is a sum of bases each variance stays at or above zero."""
    d = len(model.basis)
    found = unknown.copy()
    found[:d] += move[:d]
    found[d:] *= np.exp(np.clip(move[d:], -5.0, 5.0))
    if not model.correlated:
        variance = np.array([np.trace(b) > 0 for b in model.basis])
        found[:d] = np.where(variance, np.maximum(found[:d], 0.0), found[:d])
    return found
