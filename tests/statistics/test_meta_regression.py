"""Meta-regression and influence against R's metafor, and what must hold of them without it."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.statistics.meta import (
    METHODS,
    influence,
    pool_estimates,
    r2_percent,
    regress_estimates,
    t_interval,
)

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "pooling" / "meta_regression.json").read_text()
)
CIS = ("wald", "hksj", "hksj-truncated")


def close(value, expected, rel=1e-8):
    return value == pytest.approx(expected, rel=rel, abs=1e-11)


def slope_of(name, method):
    entry = GOLDEN["slopes"][name]
    y, v, x = (np.array(entry[key], dtype=float) for key in ("yi", "vi", "x"))
    design = np.column_stack([np.ones(len(x)), x])
    return y, v, regress_estimates(y, v, design, method), entry["methods"][method]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", sorted(GOLDEN["slopes"]))
def test_slopes_equal_metafor(name, method):
    y, v, fit, expected = slope_of(name, method)
    assert close(fit.tau2, expected["tau2"])
    assert close(fit.coefficients, expected["coefficients"])
    assert close((fit.q, fit.q_p), (expected["q"], expected["q_p"]))
    assert close((fit.i2_percent, fit.h2), (expected["i2"], expected["h2"]))
    ours = r2_percent(pool_estimates(y, v, method).tau2, fit.tau2)
    if isinstance(expected["r2"], float) and ours is not None:
        assert close(ours, expected["r2"])
    for ci in CIS:
        golden = expected["ci"][ci]
        df = float("inf") if ci == "wald" else fit.df
        for place in (0, 1):
            se = float(np.sqrt(fit.scaled(ci)[place, place]))
            interval = t_interval(float(fit.coefficients[place]), se, df, 95.0)
            assert close(se, golden["se"][place])
            assert close(
                (interval.low, interval.high), (golden["low"][place], golden["high"][place])
            )
            assert close(interval.p, golden["p"][place])
        statistic, m, _, p = fit.test([1], ci)
        assert close((statistic, p), (golden["qm"], golden["qm_p"]))
        assert m == 1


@pytest.mark.parametrize("method", ["reml", "dl", "pm"])
@pytest.mark.parametrize("name", sorted(GOLDEN["groups"]))
def test_groups_of_trials_with_one_tau2_equal_metafor(name, method):
    entry = GOLDEN["groups"][name]
    y, v, g = np.array(entry["yi"]), np.array(entry["vi"]), np.array(entry["g"])
    levels = sorted(set(g))
    means = regress_estimates(y, v, np.column_stack([g == one for one in levels]), method)
    against = np.column_stack([np.ones(len(y)), *(g == one for one in levels[1:])])
    fit = regress_estimates(y, v, against, method)
    for ci in CIS:
        golden = entry["methods"][method]["common"][ci]
        assert close(means.coefficients, golden["estimate"])
        assert close(np.sqrt(np.diag(means.scaled(ci))), golden["se"])
        assert close(means.tau2, golden["tau2"])
        statistic, m, _, p = fit.test(list(range(1, len(levels))), ci)
        assert close((statistic, p), (golden["qm"], golden["qm_p"]))
        assert m == len(levels) - 1


@pytest.mark.parametrize("method", ["reml", "dl", "pm", "fe"])
@pytest.mark.parametrize("name", sorted(GOLDEN["influence"]))
def test_influence_equals_metafor(name, method):
    entry = GOLDEN["influence"][name]
    found = influence(np.array(entry["yi"]), np.array(entry["vi"]), method)
    expected = entry["methods"][method]
    for ours, theirs in (
        ("rstudent", "rstudent"),
        ("dffits", "dffits"),
        ("cook_d", "cook.d"),
        ("cov_ratio", "cov.r"),
        ("tau2_deleted", "tau2.del"),
        ("q_deleted", "QE.del"),
        ("hat", "hat"),
        ("dfbetas", "dfbetas"),
    ):
        assert close([getattr(one, ours) for one in found], expected[theirs]), ours
    assert [one.influential for one in found] == expected["influential"]


trials = st.integers(4, 12).flatmap(
    lambda k: st.tuples(
        st.lists(st.floats(-5, 5), min_size=k, max_size=k),
        st.lists(st.floats(0.05, 4), min_size=k, max_size=k),
        st.permutations(range(k)),
    )
)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=15, deadline=None)
@given(data=trials)
def test_an_intercept_alone_is_the_second_stage(method, data):
    y, v = np.array(data[0]), np.array(data[1])
    fit = regress_estimates(y, v, np.ones((len(y), 1)), method)
    pooled = pool_estimates(y, v, method)
    assert fit.tau2 == pytest.approx(pooled.tau2, rel=1e-6, abs=1e-8)
    assert fit.coefficients[0] == pytest.approx(pooled.estimate, rel=1e-6, abs=1e-7)
    assert fit.i2_percent == pytest.approx(pooled.i2_percent, rel=1e-6, abs=1e-5)
    assert fit.q == pytest.approx(pooled.q)


@settings(max_examples=15, deadline=None)
@given(data=trials, shift=st.floats(-1e3, 1e3), factor=st.floats(0.01, 100))
def test_the_slope_does_not_know_the_covariate_s_unit_or_origin(data, shift, factor):
    y, v, x = (np.array(item, dtype=float) for item in data)
    one = np.ones(len(y))
    base = regress_estimates(y, v, np.column_stack([one, x]), "reml")
    moved = regress_estimates(y, v, np.column_stack([one, shift + factor * x]), "reml")
    assert moved.coefficients[1] * factor == pytest.approx(base.coefficients[1], rel=1e-5, abs=1e-7)
    assert moved.tau2 == pytest.approx(base.tau2, rel=1e-5, abs=1e-7)
    exact = regress_estimates(2 + 3 * x, v, np.column_stack([one, x]), "reml")
    assert exact.tau2 == 0
    assert exact.coefficients == pytest.approx([2, 3])


def test_columns_that_cannot_be_told_apart_give_nothing():
    y, v, one = np.arange(4.0), np.ones(4), np.ones(4)
    assert regress_estimates(y, v, np.column_stack([one, one]), "reml") is None
    assert regress_estimates(y[:2], v[:2], np.array([[1, 0], [1, 1.0]]), "reml") is None
    assert regress_estimates(y, v, np.column_stack([one, 0 * one]), "reml") is None
    assert r2_percent(0.0, 0.0) is None
    assert r2_percent(1.0, 2.0) == 0


def test_one_huge_weight_leaves_i2_and_tau2_numbers():
    """Variances 1e20 apart: a difference of squares of weights would be 0."""
    y, v = np.array([1.0, 3.0, 2.0]), np.array([1e-20, 1.0, 2.0])
    for method in METHODS:
        fit = pool_estimates(y, v, method)
        assert np.isfinite(fit.tau2)
        assert 0 <= fit.i2_percent <= 100
