"""The arrow solver against the whole matrix, and one-stage fits by either."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.statistics.mixed import likelihood as information
from cardiometa.statistics.mixed.likelihood import Information, Layout
from cardiometa.statistics.mixed.sufficient_statistics import RESIDUALS
from tests.kit.one_stage import fit_of, sums_by_trial
from tests.statistics.test_one_stage import numbers, people

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
def test_arrow_is_the_whole_matrix(seed, shift):
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
    whole = np.zeros_like(matrix)
    whole[np.ix_(free, free)] = np.linalg.inv(part)
    scale = np.abs(whole).max()
    right = draw.normal(size=(len(by), 4))
    own, used, top = one.layout.own, one.layout.used, one.layout.top
    for make in (information._dense_solver, information._arrow_solver):
        solver = make(one, free)
        assert solver.positive == bool((np.linalg.eigvalsh(part) > 0).all())
        assert np.abs(solver.solve(right) - whole @ right).max() < 1e-7 * scale
        assert solver.solve(right[:, 0]).shape == (len(by),)
        for trial, found in enumerate(solver.local()):
            where = np.concatenate([np.arange(top), own[trial]])
            mask = np.concatenate([np.ones(top, dtype=bool), used[trial]])
            wanted = whole[np.ix_(where, where)] * np.outer(mask, mask)
            assert np.abs(found - wanted).max() < 1e-7 * scale


@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("restricted", [True, False])
def test_fits_do_not_depend_on_the_solver(monkeypatch, residual, restricted):
    sums = sums_by_trial(people(3, trials=12), ["baseline"])
    options = {"residual": residual, "restricted": restricted, "centred": not restricted}
    dense = numbers(fit_of(sums, **options))
    monkeypatch.setattr(information, "DENSE_UP_TO", 0)
    arrow = numbers(fit_of(sums, **options))
    for name, value in dense.items():
        assert arrow[name] == pytest.approx(value, rel=1e-9), name
