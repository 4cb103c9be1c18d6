"""The information of a one-stage model: trials' parts in one matrix, and its inverse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.statistics.mixed.likelihood import Layout, Solver, turned

few = settings(max_examples=25, deadline=None)


def random_layout(draw):
    """Two common parameters, seven trials of one to three own ones."""
    k, g, t = 7, 3, 2
    used = np.arange(g)[None, :] < draw.integers(1, g + 1, k)[:, None]
    own = np.zeros((k, g), dtype=int)
    own[used] = t + np.arange(used.sum())
    return Layout(
        numbers=np.concatenate([np.tile(np.arange(t), (k, 1)), own], axis=1),
        used=np.concatenate([np.ones((k, t), dtype=bool), used], axis=1),
        size=t + int(used.sum()),
    )


@few
@given(st.integers(0, 10_000))
def test_the_parts_of_the_trials_add_up_and_come_back(seed):
    draw = np.random.default_rng(seed)
    layout = random_layout(draw)
    local = draw.normal(size=(7, 5, 5))
    vectors, matrix = np.zeros((layout.size, 5)), np.zeros((layout.size, layout.size))
    for part, numbers, used in zip(local, layout.numbers, layout.used, strict=True):
        own = numbers[used]
        vectors[own] += part[used]
        matrix[np.ix_(own, own)] += part[np.ix_(used, used)]
    assert layout.summed(local) == pytest.approx(vectors)
    assert layout.matrix(local) == pytest.approx(matrix)
    for block, numbers, used in zip(
        layout.blocks(matrix), layout.numbers, layout.used, strict=True
    ):
        assert block == pytest.approx(matrix[np.ix_(numbers, numbers)] * np.outer(used, used))


@few
@given(st.integers(0, 10_000), st.sampled_from([-1.0, 2.0, 30.0]))
def test_the_inverse_over_the_free_parameters(seed, shift):
    draw = np.random.default_rng(seed)
    root = draw.normal(size=(9, 9))
    matrix = root @ root.T + shift * np.eye(9)
    free = draw.random(9) < 0.8
    free[:2] |= not free[:2].any()
    part = matrix[np.ix_(free, free)]
    inverse = np.zeros_like(matrix)
    inverse[np.ix_(free, free)] = np.linalg.inv(part)
    right = draw.normal(size=(9, 4))
    solver = Solver(matrix, free)
    assert solver.positive == bool((np.linalg.eigvalsh(part) > 0).all())
    assert np.abs(solver.solve(right) - inverse @ right).max() < 1e-7 * np.abs(inverse).max()
    assert solver.solve(right[:, 0]).shape == (9,)
    by = draw.normal(size=(2, 2))
    jacobian = np.eye(9)
    jacobian[:2, :2] = by
    assert turned(matrix, by) == pytest.approx(jacobian.T @ matrix @ jacobian)
