"""The range of a meta-analysis against metafor and the published formulas, and its intervals."""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from cardiometa.statistics.meta import pool_estimates
from cardiometa.statistics.meta_range import (
    TrialMoments,
    empirical_range,
    fixed_draws,
    frequentist_range,
    mixture_interval,
    mixture_limits,
    pivotal_draws,
)
from tests.kit.delta_method import delta_se

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "reference" / "meta"
OUTER = np.array([2.5, 97.5])


def _read(name):
    with (GOLDEN / name).open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@lru_cache
def _trials(name):
    rows = [r for r in _read("trials.csv") if r["set"] == name]
    return TrialMoments(**{c: np.array([float(r[c]) for r in rows]) for c in ("n", "mean", "sd")})


@pytest.mark.parametrize("row", _read("meta.csv"), ids=lambda r: f"{r['set']}-{r['centile']}")
def test_limits_against_metafor(row):
    trials, at = _trials(row["set"]), np.array([float(row["centile"])])
    fit, empirical = frequentist_range(trials), empirical_range(trials)
    want = {k: float(v) for k, v in row.items() if k != "set"}
    assert fit.mean == pytest.approx(want["mean"], rel=1e-6)
    assert fit.tau**2 == pytest.approx(want["tau2"], rel=1e-6, abs=1e-6)
    assert fit.sigma**2 == pytest.approx(want["sigma2"], rel=1e-12)
    assert fit.limits(at, marginal=True)[0] == pytest.approx(want["marginal"], rel=1e-6)
    assert fit.limits(at, marginal=False)[0] == pytest.approx(want["conditional"], rel=1e-6)
    assert delta_se(trials, fit, at)[0] == pytest.approx(want["delta_se"], rel=1e-5)
    assert empirical.mean == pytest.approx(want["empirical_mean"], rel=1e-12)
    assert empirical.limits(at, marginal=True)[0] == pytest.approx(want["empirical"], rel=1e-12)
    assert mixture_limits(trials, at)[0] == pytest.approx(want["mixture"], rel=1e-9)


def test_pivots_agree_with_the_delta_method_where_trials_are_many():
    rng = np.random.default_rng(2)
    n = rng.integers(100, 900, 300).astype(float)
    sd = 25 * np.sqrt(rng.chisquare(n - 1) / (n - 1))
    trials = TrialMoments(n=n, mean=rng.normal(150, np.sqrt(36 + 625 / n)), sd=sd)
    fit = frequentist_range(trials)
    low, high = pivotal_draws(trials, 4000, 1).interval(OUTER, 0.9, marginal=True)
    limits, half = fit.limits(OUTER, marginal=True), 1.645 * delta_se(trials, fit, OUTER)
    assert low == pytest.approx(limits - half, abs=0.12 * half[0])
    assert high == pytest.approx(limits + half, abs=0.12 * half[0])


def test_the_pivot_of_tau_is_that_of_q_profile():
    trials = _trials("twelve")
    draws = pivotal_draws(trials, 50, 3)
    for tau, sigma in zip(draws.tau, draws.sigma, strict=True):
        v = sigma**2 / trials.n
        q = pool_estimates(trials.mean, v + tau**2, "fe").q
        zero = pool_estimates(trials.mean, v, "fe").q
        assert tau > 0 or q == zero
        assert q <= zero + 1e-9


@pytest.mark.parametrize("weights", ["precision", "people"])
def test_coverage_with_six_trials(weights):
    rng = np.random.default_rng(7)
    truth = 150 + special.ndtri(OUTER / 100) * np.hypot(25, 8)
    hits = np.zeros(2)
    runs = 200
    for run in range(runs):
        n = rng.integers(40, 700, 6).astype(float)
        mean = rng.normal(150, np.sqrt(64 + 625 / n))
        sd = 25 * np.sqrt(rng.chisquare(n - 1) / (n - 1))
        draws = pivotal_draws(TrialMoments(n=n, mean=mean, sd=sd), 400, run, weights)
        low, high = draws.interval(OUTER, 0.9, marginal=True)
        hits += (low < truth) & (truth < high)
    # Binomial SD of 0.9 in 200 is 0.021.
    assert (hits / runs > 0.83).all()
    assert (hits / runs < 0.97).all()


def test_fixed_trials_and_their_mixture_cover_what_they_are_of():
    rng = np.random.default_rng(9)
    n, mean, sd = np.array([200.0, 150, 90]), np.array([140.0, 150, 165]), np.array([20.0, 24, 22])
    law = TrialMoments(n=n, mean=mean, sd=sd)
    truth = mixture_limits(law, OUTER)
    centre = float(n @ mean / n.sum())
    sigma = float(np.sqrt((n - 1) @ sd**2 / (n - 1).sum()))
    hits = np.zeros((2, 2))
    runs = 200
    for run in range(runs):
        found = TrialMoments(
            n=n,
            mean=rng.normal(mean, sd / np.sqrt(n)),
            sd=sd * np.sqrt(rng.chisquare(n - 1) / (n - 1)),
        )
        low, high = mixture_interval(found, OUTER, 0.9, draws=400, seed=run)
        hits[0] += (low < truth) & (truth < high)
        low, high = fixed_draws(found, 400, run).interval(OUTER, 0.9, marginal=False)
        wanted = centre + special.ndtri(OUTER / 100) * sigma
        hits[1] += (low < wanted) & (wanted < high)
    assert (hits / runs > 0.83).all()
    assert (hits / runs < 0.97).all()


def test_one_trial_is_the_parametric_range():
    trials = TrialMoments(n=np.array([120.0]), mean=np.array([150.0]), sd=np.array([20.0]))
    for fit in (frequentist_range(trials), empirical_range(trials)):
        assert fit.tau == 0
        assert fit.limits(OUTER, marginal=True) == pytest.approx([110.8007, 189.1993], abs=1e-4)
    assert mixture_limits(trials, OUTER) == pytest.approx([110.8007, 189.1993], abs=1e-4)
    assert (pivotal_draws(trials, 100, 1).tau == 0).all()


@settings(deadline=None, max_examples=30)
@given(shift=st.floats(-500, 500), scale=st.floats(0.01, 100))
def test_limits_move_with_the_unit(shift, scale):
    trials = _trials("six")
    moved = TrialMoments(n=trials.n, mean=trials.mean * scale + shift, sd=trials.sd * scale)
    tolerance = {"rel": 1e-6, "abs": 1e-6 * (abs(shift) + scale)}
    for limits in (
        lambda t: frequentist_range(t).limits(OUTER, marginal=True),
        lambda t: empirical_range(t).limits(OUTER, marginal=True),
        lambda t: mixture_limits(t, OUTER),
        lambda t: pivotal_draws(t, 200, 5).interval(OUTER, 0.9, marginal=True)[0],
    ):
        assert limits(moved) == pytest.approx(limits(trials) * scale + shift, **tolerance)


def test_a_seed_gives_the_same_interval():
    trials = _trials("six")
    one = pivotal_draws(trials, 300, 4).interval(OUTER, 0.9, marginal=True)
    again = pivotal_draws(trials, 300, 4).interval(OUTER, 0.9, marginal=True)
    assert np.array_equal(one, again)
