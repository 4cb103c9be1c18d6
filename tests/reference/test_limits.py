"""Properties of the limits, and what happens at the edges of a sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special

from cardiometa.reference.options import LIMITS
from cardiometa.reference.strata.limits import (
    NOT_POSSIBLE,
    LimitRequest,
    default_rule,
    estimate_limits,
    is_asymmetric,
    is_skewed,
    nonparametric_min_n,
)
from cardiometa.statistics.lms import box_cox, inverse_box_cox
from cardiometa.statistics.order_statistics import (
    interpolated_quantile,
    rank_interval,
    rounded_rank,
)
from cardiometa.statistics.robust import resampled_fits, robust_fit

REQUEST = LimitRequest(centiles=(2.5, 50.0, 97.5), ci_level=0.9, bootstrap=200, seed=5)


def _sample(n=130, seed=1):
    return np.sort(np.random.default_rng(seed).normal(100, 15, n))


def _numbers(found):
    return np.array([(f.limit, f.ci_low, f.ci_high) for f in found], dtype=float)


@pytest.mark.parametrize("rule", [rule for rule in LIMITS if rule not in ("log", "boxcox")])
@given(
    scale=st.floats(0.01, 100),
    shift=st.floats(-1000, 1000),
    seed=st.integers(0, 50),
    n=st.integers(120, 200),
)
@settings(max_examples=10, deadline=None)
def test_scale_and_shift(rule, scale, shift, seed, n):
    values = _sample(n, seed)
    plain = _numbers(estimate_limits(values, rule, REQUEST))
    moved = _numbers(estimate_limits(values * scale + shift, rule, REQUEST))
    np.testing.assert_allclose(moved, plain * scale + shift, rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize(("rule", "rtol"), [("log", 1e-9), ("boxcox", 1e-6)])
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_log_and_power_limits_scale(rule, rtol, scale, seed):
    values = _sample(60, seed)
    plain = _numbers(estimate_limits(values, rule, REQUEST))
    scaled = _numbers(estimate_limits(values * scale, rule, REQUEST))
    np.testing.assert_allclose(scaled, plain * scale, rtol=rtol)


@pytest.mark.parametrize("power", [-0.5, 0.0, 0.6])
def test_box_cox_limits_find_a_power_law(power):
    """Of many people drawn after a power the limits are the law's, within their own intervals."""
    z = np.random.default_rng(8).standard_normal(20_000)
    mean, sd = box_cox(np.array(120.0), power), 0.2 * 120.0**power
    values = np.sort(inverse_box_cox(mean + sd * z, power))
    for found in estimate_limits(values, "boxcox", REQUEST):
        truth = inverse_box_cox(mean + sd * special.ndtri(found.centile / 100), power)
        assert found.limit == pytest.approx(float(truth), rel=0.01)
        assert found.ci_low < found.limit < found.ci_high
        assert found.ci_high / found.ci_low < 1.02


@pytest.mark.parametrize("rule", ["nonparametric", "parametric", "prediction", "robust"])
def test_mirror_image(rule):
    values = _sample()
    plain = _numbers(estimate_limits(values, rule, REQUEST))[:, 0]
    mirrored = _numbers(estimate_limits(np.sort(-values), rule, REQUEST))[:, 0]
    np.testing.assert_allclose(mirrored, -plain[::-1], rtol=1e-9)


@given(n=st.integers(1, 3000), p=st.floats(0.001, 0.999), level=st.floats(0.5, 0.999))
@settings(max_examples=150, deadline=None)
def test_rank_interval_covers_and_is_tight(n, p, level):
    found = rank_interval(n, p, level)
    if found.low is None or found.high is None:
        assert found.coverage is None
        return
    assert 1 <= found.low < found.high <= n
    assert found.coverage >= level - 1e-9
    from scipy.stats import binom

    tail = (1 - level) / 2
    # Each tail holds at most its share, and one rank further in would hold more.
    assert binom.cdf(found.low - 1, n, p) <= tail * (1 + 1e-9)
    assert binom.cdf(found.low, n, p) >= tail * (1 - 1e-9)
    assert binom.sf(found.high - 1, n, p) <= tail * (1 + 1e-9)
    assert binom.sf(found.high - 2, n, p) >= tail * (1 - 1e-9)


def test_rank_interval_coverage_by_simulation():
    rng = np.random.default_rng(8)
    draws = np.sort(rng.random((20000, 150)), axis=1)
    ranks = rank_interval(150, 0.025, 0.9)
    share = np.mean((draws[:, ranks.low - 1] <= 0.025) & (draws[:, ranks.high - 1] >= 0.025))
    assert share == pytest.approx(ranks.coverage, abs=0.006)


def test_robust_interval_covers_the_true_limit():
    rng = np.random.default_rng(4)
    truth, hits, runs = 100 - 1.959964 * 15, 0, 120
    for run in range(runs):
        values = np.sort(rng.normal(100, 15, 80))
        request = LimitRequest(centiles=(2.5,), ci_level=0.9, bootstrap=300, seed=run)
        found = estimate_limits(values, "robust", request)[0]
        hits += found.ci_low <= truth <= found.ci_high
    # Binomial noise of 120 runs at 0.9 is 0.027; the percentile interval is a little narrow.
    assert 0.80 <= hits / runs <= 0.97


def test_bootstrap_is_of_its_seed_alone():
    values = _sample(60)
    one, two = resampled_fits(values, 50, 7), resampled_fits(values, 50, 7)
    np.testing.assert_array_equal(one.spread, two.spread)
    assert not np.array_equal(one.spread, resampled_fits(values, 50, 8).spread)


def test_robust_resists_outliers():
    values = np.sort(np.append(_sample(95), [400, 420, 450, 480, 500]))
    plain, spoilt = robust_fit(_sample(95)[None, :]), robust_fit(values[None, :])
    assert spoilt.centre[0] == pytest.approx(plain.centre[0], abs=1)
    parametric = estimate_limits(values, "parametric", REQUEST)[2].limit
    assert parametric > 250


def test_robust_undefined_where_half_is_one_value():
    values = np.sort(np.append(np.full(40, 60.0), _sample(20)))
    found = estimate_limits(values, "robust", REQUEST)
    assert {f.limit for f in found} == {None}
    assert found[0].notes == ("robust-undefined",)


def test_interpolation_by_hand():
    # n = 9, p = 0.25: position 2.5, half way between the second and third value.
    assert interpolated_quantile(np.array([1, 2, 4, 8, 16, 32, 64, 128, 256.0]), 0.25) == 3
    assert interpolated_quantile(np.array([5.0]), 0.025) == 5
    assert interpolated_quantile(np.array([5.0, 7.0]), 0.975) == 7


def test_rounded_ranks_mirror():
    for n in range(40, 400):
        assert rounded_rank(n, 0.975) == n + 1 - rounded_rank(n, 0.025)
    assert rounded_rank(139, 0.025) == 4  # 3.5, towards the middle
    assert rounded_rank(139, 0.975) == 136


def test_no_rank_interval_below_119():
    found = estimate_limits(_sample(118), "nonparametric", REQUEST)
    assert found[0].limit is not None
    assert (found[0].ci_low, found[0].ci_high, found[0].notes) == (
        None,
        None,
        ("no-rank-interval",),
    )
    assert found[1].ci_low is not None


@pytest.mark.parametrize(("n", "leans"), [(40, True), (58, True), (59, False), (120, False)])
def test_limit_that_leans_on_an_extreme_is_marked(n, leans):
    for rule in ("nonparametric", "nonparametric-ranks"):
        found = estimate_limits(_sample(n), rule, REQUEST)
        assert [f.limit_at_extreme for f in found] == [leans, False, leans]


def test_interval_end_at_an_extreme_is_marked():
    at_120 = estimate_limits(_sample(120), "nonparametric", REQUEST)
    assert [(f.low_at_extreme, f.high_at_extreme) for f in at_120] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    at_200 = estimate_limits(_sample(200), "nonparametric", REQUEST)
    assert not any(f.low_at_extreme or f.high_at_extreme for f in at_200)


def test_default_rule():
    assert default_rule(_sample(120), 120, (2.5, 97.5)) == "nonparametric"
    assert default_rule(_sample(119), 119, (2.5, 97.5)) == "robust"
    assert default_rule(_sample(599), 599, (0.5, 99.5)) == "robust"
    assert nonparametric_min_n(0.005) == 600
    assert nonparametric_min_n(0.025) == 120


def test_log_refuses_what_has_no_logarithm():
    with pytest.raises(ValueError, match="not positive"):
        estimate_limits(np.array([0.0, 1, 2]), "log", REQUEST)


@given(seed=st.integers(0, 200))
@settings(max_examples=20, deadline=None)
def test_asymmetry(seed):
    values = np.random.default_rng(seed).normal(0, 1, 200)
    assume(abs(np.mean(((values - values.mean()) / values.std()) ** 3)) < 0.25)
    assert not is_asymmetric(np.sort(values))
    assert is_asymmetric(np.sort(np.exp(values)))


@pytest.mark.parametrize("rule", ["robust", "parametric", "prediction"])
def test_a_limit_below_zero_of_positive_people_is_marked(rule):
    """A mass or volume cannot be negative: such a limit is the method's, not the people's."""
    ordered = np.sort(np.random.default_rng(3).lognormal(2, 0.9, 100))
    low, middle, high = estimate_limits(ordered, rule, REQUEST)
    assert low.limit < 0 < ordered[0]
    assert "below-zero" in low.notes
    assert "below-zero" not in (*middle.notes, *high.notes)
    shifted = estimate_limits(ordered - 10, rule, REQUEST)
    assert "below-zero" not in shifted[0].notes


@pytest.mark.parametrize("n", [40, 70, 119])
@pytest.mark.parametrize("power", [-1.0, 0.0, 0.3])
def test_symmetry_decides_in_small_groups(n, power):
    """Values that a power makes normal: robust limits leave far more than 2.5 % outside."""
    rng, chosen, outside = np.random.default_rng(7), [], []
    for _ in range(60):
        values = np.sort(inverse_box_cox(rng.normal(0, 0.25, n), power)) * 100
        chosen.append(default_rule(values, n, (2.5, 97.5)))
        assert default_rule(values - 1e6, n, (2.5, 97.5)) == "robust"  # no power of negative values
        assert default_rule(_sample(n), n, (2.5, 97.5)) == "robust"
        high = estimate_limits(values, chosen[-1], REQUEST.point())[2].limit
        truth = inverse_box_cox(np.array(0.25 * special.ndtri(0.975)), power) * 100
        # A power that reaches no such value gives no limit.
        outside += [] if high is None else [high / truth - 1]
    assert np.mean([rule == "boxcox" for rule in chosen]) > 0.2
    assert abs(np.median(outside)) < 0.05


def test_an_outlier_of_symmetric_values_is_not_skewness():
    values = np.sort(np.append(_sample(80), [9999.0, 5000.0]))
    assert is_asymmetric(values)
    assert is_skewed(values)
    assert default_rule(values, 82, (2.5, 97.5)) == "robust"


@pytest.mark.parametrize("n", [40, 119])
def test_symmetric_values_are_rarely_called_skewed(n):
    samples = [np.random.default_rng(seed).normal(150, 25, n) for seed in range(200)]
    assert sum(is_skewed(np.sort(values)) for values in samples) <= 20  # 5 % of 200, and 3 SD
    skewed = [np.sort(np.exp(values / 75)) for values in samples]  # log-normal, SD 1/3
    assert sum(map(is_skewed, skewed)) >= (80 if n == 40 else 170)


@pytest.mark.parametrize("values", [[0.0, *range(1, 60)], [5.0] * 60, range(1, 8)])
def test_what_no_power_can_judge_is_not_called_skewed(values):
    assert not is_skewed(np.array(values, dtype=float))


@pytest.mark.parametrize("rule", ["robust", "parametric", "prediction"])
@pytest.mark.parametrize(("low", "high", "given"), [(0, np.inf, 2), (0, 30, 1), (-1e3, 1e3, 3)])
def test_a_limit_that_the_measure_cannot_have_is_withheld(rule, low, high, given):
    ordered = np.sort(np.random.default_rng(3).lognormal(2, 0.9, 100))
    plain = estimate_limits(ordered, rule, REQUEST)
    found = estimate_limits(ordered, rule, replace(REQUEST, possible=(low, high)))
    assert sum(f.limit is not None for f in found) == given
    for before, now in zip(plain, found, strict=True):
        if low < before.limit < high:
            assert now.limit == before.limit
            assert low <= now.ci_low <= now.limit <= now.ci_high <= high
        else:
            assert (now.limit, now.ci_low, now.ci_high) == (None, None, None)
            assert NOT_POSSIBLE in now.notes


def test_prediction_limits_are_of_t():
    """Mean ± t·SD·√(1 + 1/n) by hand: 2, 4, 4, 4, 5, 5, 7, 9 has mean 5 and SD √(32/7)."""
    ordered = np.array([2.0, 4, 4, 4, 5, 5, 7, 9])
    low, middle, high = estimate_limits(ordered, "prediction", REQUEST)
    half = 2.364624251592785 * np.sqrt(32 / 7) * np.sqrt(9 / 8)
    assert (low.limit, middle.limit, high.limit) == pytest.approx((5 - half, 5, 5 + half))
