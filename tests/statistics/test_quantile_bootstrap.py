"""Many resampled quantile fits at once: each is the ordinary fit of its sample."""

from __future__ import annotations

import numpy as np
import pytest

from cardiometa.statistics.basis_functions import SplineBasis
from cardiometa.statistics.quantile import (
    QuantileProblem,
    _drawn,
    check_loss,
    fit_quantile,
    resampled_quantiles,
    sandwich_covariance,
)


def _people(n, seed=1):
    rng = np.random.default_rng(seed)
    age = np.round(rng.uniform(20, 80, n), 1)
    y = 150 * np.exp((0.15 + 0.002 * (age - 50)) * rng.standard_normal(n))
    return SplineBasis(low=20.0, high=80.0, segments=1).at(age), y, rng.integers(0, 3, n)


def _problem(X, y, tau, *, width=1.0):
    V = sandwich_covariance(X, y, tau)
    return QuantileProblem(X=X, y=y, tau=tau, fit=fit_quantile(X, y, tau), covariance=width * V)


@pytest.mark.parametrize("tau", [0.025, 0.5, 0.9])
@pytest.mark.parametrize("width", [1.0, 1e-4])
def test_a_sample_has_its_own_fit_however_narrow_the_band_was(tau, width):
    X, y, trial = _people(600)
    (planes,) = resampled_quantiles([_problem(X, y, tau, width=width)], trial, 20, seed=5)
    counts = _drawn(np.random.default_rng(5), trial, 20).astype(int)
    for plane, count in zip(planes, counts, strict=True):
        rows = np.repeat(np.arange(len(y)), count)
        best = fit_quantile(X[rows], y[rows], tau)
        loss = check_loss(y[rows] - X[rows] @ plane, tau)
        assert best.loss <= loss * (1 + 1e-12) + 1e-9
        assert loss == pytest.approx(best.loss, rel=1e-6)


def test_trials_keep_their_size_and_samples_are_the_same_for_every_centile():
    trial = np.array([0] * 5 + [7] * 90 + [3] * 25)
    counts = _drawn(np.random.default_rng(2), trial, 300)
    for number, size in ((0, 5), (7, 90), (3, 25)):
        assert (counts[:, trial == number].sum(axis=1) == size).all()
    # Each person is drawn once on average, and is left out with (1 - 1/n)^n.
    assert counts.mean(axis=0) == pytest.approx(np.ones(120), abs=0.25)
    X, y, group = _people(400)
    low, high = (_problem(X, y, tau) for tau in (0.25, 0.75))
    both = resampled_quantiles([low, high], group, 30, seed=9)
    assert (both[1] == resampled_quantiles([high], group, 30, seed=9)[0]).all()


def test_its_spread_is_on_average_that_of_repeated_studies():
    at = SplineBasis(low=20.0, high=80.0, segments=1).at(np.array([30.0, 50.0, 70.0]))
    spread, planes = [], []
    for seed in range(100):
        X, y, trial = _people(1000, seed=100 + seed)
        problem = _problem(X, y, 0.5)
        planes.append(at @ problem.fit.coefficients)
        if seed < 15:
            (found,) = resampled_quantiles([problem], trial, 200, seed=1)
            spread.append((found @ at.T).std(axis=0))
    ratio = np.mean(spread, axis=0) / np.std(planes, axis=0)
    assert ratio == pytest.approx(np.ones(3), abs=0.2)


def test_people_who_determine_nothing_give_no_plane():
    X, y, _ = _people(200)
    # One person bears a column: every sample without them has no plane.
    alone = np.zeros((200, 1))
    alone[17] = 1.0
    wide = np.hstack([X, alone])
    fit = fit_quantile(wide, y, 0.5)
    problem = QuantileProblem(X=wide, y=y, tau=0.5, fit=fit, covariance=np.eye(wide.shape[1]))
    (planes,) = resampled_quantiles([problem], np.zeros(200, dtype=int), 60, seed=1)
    drawn = _drawn(np.random.default_rng(1), np.zeros(200, dtype=int), 60)[:, 17] > 0
    assert 0.4 < drawn.mean() < 0.9
    assert np.isfinite(planes[drawn]).all()
    assert np.isnan(planes[~drawn]).any(axis=1).all()
