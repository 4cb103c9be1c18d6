"""The parts of a curve: functions of age, limits and scores, observed ages, linked groups."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special, stats

from cardiometa.reference.curves.curve import AgeFunction, Curve, FittedCurve, curve_limits
from cardiometa.reference.curves.fit import GAP_YEARS, CurveData, linked_groups, plan_for
from cardiometa.reference.curves.per_group import group_shifts

CENTILES = (2.5, 10.0, 50.0, 90.0, 97.5)
AGES = np.array([20.0, 35.5, 50.0, 64.0, 80.0])


def line(*coefficients: float, offset: float = 0.0) -> AgeFunction:
    return AgeFunction(basis="polynomial", coefficients=coefficients, offset=offset)


def curve(family: str, functions: dict[str, AgeFunction], tau: float = 0.0) -> Curve:
    return Curve(family=family, functions=functions, age_low=18.0, age_high=85.0, tau=tau)


LMS = {"log_m": line(5.0, -0.03), "log_s": line(-1.8, 0.05), "l": line(0.4)}
CURVES = {
    "lms": curve("lms", LMS),
    "lms of a new trial": curve("lms", LMS, tau=0.1),
    "log-normal": curve("lms", {**LMS, "l": line(0.0)}),
    "heavy tails": curve("bct", {**LMS, "log_tail": line(1.4)}),
    "heavy tails of a new trial": curve("bct", {**LMS, "log_tail": line(1.4)}, tau=0.1),
    "light tails": curve("bcpe", {**LMS, "l": line(-0.6), "log_tail": line(1.2)}),
    "light tails of a new trial": curve("bcpe", {**LMS, "log_tail": line(1.2)}, tau=0.1),
    "normal": curve("normal", {"mean": line(60.0, 1.5), "log_sd": line(1.6, 0.1)}),
    "normal of a new trial": curve("normal", {"mean": line(60.0), "sd": line(5.0, 0.2)}, tau=2.0),
}


# ------------------------------------------------------------------ functions of age


def test_polynomials_are_of_decades_from_50():
    assert line(1.0, 2.0, 3.0).at(AGES) == pytest.approx(
        np.polyval([3.0, 2.0, 1.0], (AGES - 50) / 10)
    )
    assert line(1.0, offset=2.5).at(AGES) == pytest.approx(np.full(5, 3.5))


def test_fractional_polynomials_and_their_repeated_power():
    once = AgeFunction(
        basis="fractional-polynomial", powers=(-1.0, 0.5), coefficients=(1.0, 2.0, 3.0)
    )
    x = AGES / 50
    assert once.at(AGES) == pytest.approx(1 + 2 / x + 3 * np.sqrt(x))
    twice = AgeFunction(
        basis="fractional-polynomial", powers=(2.0, 2.0), coefficients=(0.0, 1.0, 1.0)
    )
    assert twice.at(AGES) == pytest.approx(x**2 + x**2 * np.log(x))


def test_splines_of_equal_coefficients_are_constant():
    function = AgeFunction(
        basis="spline", coefficients=(2.0,) * 9, low=15.0, high=85.0, segments=6, offset=1.0
    )
    assert function.at(AGES) == pytest.approx(np.full(5, 3.0))


# ------------------------------------------------------------------ limits and scores


@pytest.mark.parametrize("name", CURVES)
def test_a_limit_scores_as_its_centile(name):
    found = CURVES[name]
    limits = found.limits(AGES, CENTILES)
    assert (np.diff(limits, axis=1) > 0).all()
    for column, centile in zip(limits.T, CENTILES, strict=True):
        z = found.z_scores(column, AGES)
        assert z == pytest.approx(special.ndtri(centile / 100), abs=1e-7)


def test_the_mixture_over_trials_is_that_of_simulated_trials():
    draw = np.random.default_rng(1)
    plain, marginal = CURVES["lms"], CURVES["lms of a new trial"]
    m, s, ell = (function.at(np.array([50.0]))[0] for function in LMS.values())
    z, shift = draw.standard_normal(400_000), draw.normal(0, 0.1, 400_000)
    values = np.exp(m + shift) * (1 + ell * np.exp(s) * z) ** (1 / ell)
    expected = np.quantile(values, [0.025, 0.5, 0.975])
    assert marginal.limits(np.array([50.0]), (2.5, 50.0, 97.5))[0] == pytest.approx(
        expected, rel=0.005
    )
    wide, narrow = (np.ptp(c.limits(AGES, (2.5, 97.5)), axis=1) for c in (marginal, plain))
    assert (wide > narrow).all()


def test_values_that_a_distribution_does_not_have_get_no_score():
    assert np.isnan(CURVES["lms"].z_scores(np.array([0.0, -5.0]), AGES[:2])).all()
    assert np.isfinite(CURVES["normal"].z_scores(np.array([0.0, -5.0]), AGES[:2])).all()


def test_between_known_centiles_a_score_is_linear_and_beyond_them_a_side():
    found = curve("quantile", {"2.5": line(10.0), "50": line(20.0), "97.5": line(40.0)})
    values = np.array([9.9, 10.0, 15.0, 20.0, 30.0, 40.0, 40.1])
    z = found.z_scores(values, np.full(7, 50.0))
    end = special.ndtri(0.975)
    assert z.tolist() == pytest.approx([-np.inf, -end, -end / 2, 0.0, end / 2, end, np.inf])


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_the_interval_of_a_normal_limit_is_that_of_mean_and_sd(level):
    """Var(mean + z·SD) = Var(mean) + z²·Var(SD) (Altman 1993)."""
    covariance = np.diag([0.3**2, 0.2**2])

    def jacobian(ages: np.ndarray) -> np.ndarray:
        found = np.zeros((2, len(ages), 2))
        found[0, :, 0] = found[1, :, 1] = 1.0
        return found

    fitted = FittedCurve(
        kind="population",
        curve=curve("normal", {"mean": line(60.0), "sd": line(5.0)}),
        jacobian=jacobian,
        covariance=covariance,
    )
    found = curve_limits(fitted, AGES, CENTILES, level)
    z = special.ndtri(np.array(CENTILES) / 100)
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt(0.3**2 + z**2 * 0.2**2)
    assert found.limit[2] == pytest.approx(60 + 5 * z)
    assert found.high[2] - found.limit[2] == pytest.approx(half, rel=1e-6)
    assert found.limit[2] - found.low[2] == pytest.approx(half, rel=1e-6)
    assert not found.repaired.any()


# ------------------------------------------------------------------ participants


def data(age: np.ndarray, **more: np.ndarray) -> CurveData:
    n = len(age)
    values = {"y": np.ones(n), "ethnicity": np.full(n, -1), "trial": np.zeros(n, dtype=int)}
    return CurveData(age=np.asarray(age, dtype=float), **{**values, **more})


@given(st.lists(st.floats(18, 90), min_size=6, max_size=60))
@settings(max_examples=150, deadline=None)
def test_observed_ages_are_supported_and_without_gaps(ages):
    ordered = np.sort(ages)
    assume(np.diff(ordered)[np.diff(ordered) > 0].size)
    for low, high in data(np.array(ages)).observed_ages():
        assert low == math.ceil(low)
        assert high == math.floor(high)
        inside = ordered[(ordered >= low) & (ordered <= high)]
        # Three participants at or beyond either end, and never a gap between neighbours.
        assert np.sum(ordered <= low) >= 3
        assert np.sum(ordered >= high) >= 3
        usual = np.median(np.diff(ordered)[np.diff(ordered) > 0])
        assert (np.diff(inside) < GAP_YEARS + (usual if usual >= 1 else 0)).all()


def test_a_gap_parts_the_observed_ages():
    ages = np.concatenate([np.arange(20, 40, 0.5), np.arange(60, 80, 0.5)])
    assert data(ages).observed_ages() == ((21.0, 38.0), (61.0, 78.0))


@pytest.mark.parametrize(
    ("wish", "trials", "plan"),
    [
        ("auto", 1, "none"), ("auto", 2, "fixed"), ("auto", 4, "fixed"), ("auto", 5, "random"),
        ("random", 4, "fixed"), ("random", 5, "random"), ("random-kept", 4, "random"),
        ("random-kept", 1, "none"), ("fixed", 9, "fixed"), ("none", 9, "none"),
    ],
)  # fmt: skip
def test_how_trials_enter_a_model(wish, trials, plan):
    assert plan_for(wish, trials) == plan


def test_groups_are_linked_by_trials_with_enough_of_both():
    # Trial 0: groups 0 and 1; trial 1: groups 1 and 2; trial 2: group 3 alone.
    trial = np.repeat([0, 0, 1, 1, 2], [30, 20, 20, 15, 40])
    ethnicity = np.repeat([0, 1, 1, 2, 3], [30, 20, 20, 15, 40])
    found = data(np.full(125, 50.0), trial=trial, ethnicity=ethnicity)
    assert linked_groups(found, (0, 1, 2, 3), "fixed", 10) == (0, 1, 2)
    # With 18 needed, trial 1 has too few of group 2.
    assert linked_groups(found, (0, 1, 2, 3), "fixed", 18) == (0, 1)
    assert linked_groups(found, (0, 1, 2, 3), "none", 10) == (0, 1, 2, 3)
    renamed = data(np.full(125, 50.0), trial=2 - trial, ethnicity=ethnicity)
    assert linked_groups(renamed, (0, 1, 2, 3), "random", 10) == (0, 1, 2)


@given(st.integers(0, 300), st.floats(-8, 8))
@settings(max_examples=40, deadline=None)
def test_the_distance_of_a_small_group_is_drawn_towards_all(seed, distance):
    draw = np.random.default_rng(seed)
    ethnicity = np.repeat([0, 1, 2], [200, 25, 12])
    y = 60 + draw.normal(0, 5, 237) + np.where(ethnicity == 1, distance, 0.0)
    mine = data(draw.uniform(30, 70, 237), y=y, ethnicity=ethnicity)
    fitted = FittedCurve(
        kind="population",
        curve=curve("normal", {"mean": line(float(y.mean())), "sd": line(5.0)}),
        jacobian=lambda ages: np.zeros((2, len(ages), 2)),
        covariance=np.eye(2),
    )
    found = group_shifts(mine, (1, 2), mine.group(-1, curves=(fitted,)), seed=1)
    residual = y - y.mean()
    for group, shift in found.items():
        part = residual[ethnicity == group]
        raw, variance = part.mean(), residual.var() / len(part)
        assert shift.distance * raw >= 0
        assert abs(shift.distance) <= abs(raw) + 1e-12
        assert 0 < shift.variance <= variance
        # Both are shrunk by one share.
        assert shift.distance / raw == pytest.approx(shift.variance / variance, rel=1e-9)
        assert not shift.by_ratio
