"""tau² solvers: what must hold for any data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.statistics.meta import (
    METHODS,
    between_trial_variance,
    pool_estimates,
    pooled_interval,
    prediction_interval,
    q_profile,
    solve_q,
)

trials = st.lists(st.tuples(st.floats(-50, 50), st.floats(0.05, 20)), min_size=2, max_size=12).map(
    lambda pairs: (np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]) ** 2)
)
common = settings(max_examples=60, deadline=None)


def log_restricted_likelihood(y, v, tau2):
    """Written apart from the package: the density of the error contrasts, by its matrix form."""
    variance = np.diag(v + tau2)
    x = np.ones((len(y), 1))
    inverse = np.linalg.inv(variance)
    information = x.T @ inverse @ x
    beta = np.linalg.solve(information, x.T @ inverse @ y)
    r = y - x @ beta
    return -0.5 * (
        np.linalg.slogdet(variance)[1] + np.linalg.slogdet(information)[1] + r @ inverse @ r
    )


@common
@given(trials)
def test_reml_is_the_global_maximum(data):
    y, v = data
    ours = between_trial_variance(y, v, "reml")
    best = log_restricted_likelihood(y, v, ours)
    for other in np.concatenate([[0.0], np.geomspace(1e-4, 1e4, 200)]):
        assert best >= log_restricted_likelihood(y, v, float(other)) - 1e-8


def test_reml_takes_the_higher_of_two_maxima():
    """Two maxima in the interior: one precise cluster and far imprecise trials."""
    y = np.array([0.0, 0.3, 9.0, -9.0, 10.0, -10.0])
    v = np.array([1e-3, 1e-3, 30.0, 30.0, 40.0, 40.0])
    grid = np.concatenate([[0.0], np.geomspace(1e-6, 1e4, 4000)])
    values = [log_restricted_likelihood(y, v, float(t)) for t in grid]
    ours = between_trial_variance(y, v, "reml")
    assert log_restricted_likelihood(y, v, ours) >= max(values) - 1e-10


@common
@given(trials, st.sampled_from(METHODS), st.floats(0.01, 100), st.floats(-100, 100))
def test_shift_and_scale(data, method, factor, offset):
    y, v = data
    first = pool_estimates(y, v, method)
    second = pool_estimates(offset + factor * y, factor**2 * v, method)
    scale = max(1.0, float(np.abs(y).max()))
    assert second.estimate == pytest.approx(
        offset + factor * first.estimate, rel=1e-6, abs=1e-6 * factor * scale + 1e-9 * abs(offset)
    )
    # Shifting far costs digits of y itself; tau2 is compared on the scale of the variances.
    size = factor**2 * (first.tau2 + float(v.min()))
    assert second.tau2 == pytest.approx(factor**2 * first.tau2, rel=1e-5, abs=1e-5 * size)


@common
@given(trials, st.sampled_from(METHODS), st.randoms(use_true_random=False))
def test_the_order_of_trials_does_not_matter(data, method, random):
    y, v = data
    order = list(range(len(y)))
    random.shuffle(order)
    first, second = pool_estimates(y, v, method), pool_estimates(y[order], v[order], method)
    assert second.estimate == pytest.approx(first.estimate, rel=1e-8, abs=1e-9)
    assert second.tau2 == pytest.approx(first.tau2, rel=1e-6, abs=1e-8)
    assert second.weights == pytest.approx(first.weights[order], rel=1e-6)


@common
@given(trials, st.sampled_from(METHODS))
def test_never_negative_and_always_finite(data, method):
    y, v = data
    tau2 = between_trial_variance(y, v, method)
    assert np.isfinite(tau2)
    assert tau2 >= 0


@common
@given(trials)
def test_paule_mandel_solves_its_equation(data):
    y, v = data
    tau2 = between_trial_variance(y, v, "pm")
    if tau2 > 0:
        assert pool_estimates(y, v + tau2, "fe").q == pytest.approx(len(y) - 1, rel=1e-7)
    else:
        assert pool_estimates(y, v, "fe").q <= (len(y) - 1) * (1 + 1e-9)


@common
@given(trials)
def test_truncated_is_never_narrower_than_hksj_or_its_own_t(data):
    y, v = data
    fit = pool_estimates(y, v, "reml")
    plain, truncated = (pooled_interval(fit, m) for m in ("hksj", "hksj-truncated"))
    assert truncated.high - truncated.low >= (plain.high - plain.low) * (1 - 1e-12)
    assert truncated.se >= fit.se_wald * (1 - 1e-12)


@common
@given(trials)
def test_q_profile_limits_are_ordered_and_hold_paule_mandel(data):
    y, v = data
    limits = q_profile(y, v)
    if limits.tau2 is None:
        assert limits.empty
        return
    low, high = limits.tau2
    pm = between_trial_variance(y, v, "pm")
    assert 0 <= low <= high
    assert low * (1 - 1e-9) <= pm <= high * (1 + 1e-9) or pm == 0


def test_one_trial():
    fit = pool_estimates(np.array([2.0]), np.array([0.25]), "reml")
    assert (fit.estimate, fit.se_wald, fit.tau2, fit.k) == (2.0, 0.5, 0.0, 1)
    assert fit.q_p is None
    assert fit.i2_percent is None
    with pytest.raises(ValueError, match="two trials"):
        pooled_interval(fit, "hksj")
    assert prediction_interval(fit, 0.5, "k-1") is None
    assert q_profile(np.array([2.0]), np.array([0.25])).tau2 is None


def test_equal_estimates_have_no_hksj_width_but_a_truncated_one():
    fit = pool_estimates(np.full(4, 2.0), np.full(4, 0.25), "reml")
    plain, truncated = (pooled_interval(fit, m) for m in ("hksj", "hksj-truncated"))
    assert plain.se == 0
    assert plain.p is None
    assert truncated.se == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("y", "v"), [([1.0, np.nan], [1.0, 1.0]), ([1.0, 2.0], [1.0, 0.0]), ([], [])]
)
def test_what_cannot_be_pooled_is_refused(y, v):
    with pytest.raises(ValueError, match="finite"):
        between_trial_variance(np.array(y), np.array(v), "reml")


def test_unknown_method_lists_the_known():
    with pytest.raises(ValueError, match="reml, ml, dl"):
        between_trial_variance(np.array([1.0, 2.0]), np.array([1.0, 1.0]), "reml2")


def test_solve_q_has_no_answer_below():
    assert solve_q(np.array([1.0, 1.1]), np.array([1.0, 1.0]), 3.0) is None
