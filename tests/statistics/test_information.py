"""The information of a one-stage model: its arrow against the dense matrix, and its inverse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.statistics.mixed.likelihood import Information, Layout

few = settings(max_examples=25, deadline=None)


def random_information(seed, shift):
    """Two common parameters, seven trials of one to three own ones, three more terms."""
    draw = np.random.default_rng(seed)
    k, g, t = 7, 3, 2
    used = np.arange(g)[None, :] < draw.integers(1, g + 1, k)[:, None]
    own = np.zeros((k, g), dtype=int)
    own[used] = t + np.arange(used.sum())
    root = draw.normal(size=(k, g, g)) * used[:, :, None] * used[:, None, :]
    blocks = root @ root.transpose(0, 2, 1)
    blocks[:, range(g), range(g)] += shift * used
    return Information(
        layout=Layout(top=t, own=own, used=used, size=t + int(used.sum())),
        top=np.eye(t) * 40.0,
        side=draw.normal(size=(k, g, t)) * used[:, :, None],
        blocks=blocks,
        factor=draw.normal(size=(t + int(used.sum()), 3)),
        sign=np.array([1.0, -1.0, -1.0]),
    )


@few
@given(st.integers(0, 10_000), st.sampled_from([-1.0, 2.0, 30.0]))
def test_scaling_diagonal_and_inverse_are_those_of_the_dense_matrix(seed, shift):
    given_information = random_information(seed, shift)
    draw = np.random.default_rng(seed)
    by = draw.uniform(0.5, 2, given_information.layout.size)
    one = given_information.scaled(by).plus_diagonal(by)
    matrix = np.diag(by) @ given_information.dense() @ np.diag(by) + np.diag(by)
    assert one.dense() == pytest.approx(matrix)
    assert one.diagonal() == pytest.approx(np.diag(matrix))
    free = draw.random(len(by)) < 0.8
    free[:2] |= not free[:2].any()
    part = matrix[np.ix_(free, free)]
    inverse = np.zeros_like(matrix)
    inverse[np.ix_(free, free)] = np.linalg.inv(part)
    scale = np.abs(inverse).max()
    right = draw.normal(size=(len(by), 4))
    own, used, top = one.layout.own, one.layout.used, one.layout.top
    solver = one.solver(free)
    assert solver.positive == bool((np.linalg.eigvalsh(part) > 0).all())
    assert np.abs(solver.solve(right) - inverse @ right).max() < 1e-7 * scale
    assert solver.solve(right[:, 0]).shape == (len(by),)
    for trial, found in enumerate(solver.local()):
        where = np.concatenate([np.arange(top), own[trial]])
        mask = np.concatenate([np.ones(top, dtype=bool), used[trial]])
        wanted = inverse[np.ix_(where, where)] * np.outer(mask, mask)
        assert np.abs(found - wanted).max() < 1e-7 * scale
