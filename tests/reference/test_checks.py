"""Partition, outliers, calibration and contrasts by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cardiometa.reference.strata.checks import (
    between_trial_difference,
    harris_boyd,
    lahti_shares,
    lahti_verdict,
    within_trial_difference,
)
from cardiometa.reference.strata.groups import Cell, StratumKey, outlying, suspects
from cardiometa.statistics.lms import box_cox, box_cox_power, inverse_box_cox
from cardiometa.statistics.robust import horn_fences, symmetry_power, tukey_fences


def test_harris_boyd_by_hand():
    # Means 4 and 10; variances 10/3·… : a = 1, 3, 5, 7 (var 20/3), b = 8, 10, 12 (var 4).
    z, critical, ratio = harris_boyd(np.array([1.0, 3, 5, 7]), np.array([8.0, 10, 12]))
    assert z == pytest.approx(6 / math.sqrt(20 / 3 / 4 + 4 / 3))
    assert critical == pytest.approx(3 * math.sqrt(3.5 / 120))
    assert ratio == pytest.approx(math.sqrt(20 / 3 / 4))


def test_harris_boyd_of_equal_groups():
    same = np.array([1.0, 2, 3])
    assert harris_boyd(same, same)[0] == 0
    assert harris_boyd(same, same)[2] == 1
    assert harris_boyd(np.array([2.0, 2]), np.array([2.0, 2])) == pytest.approx(
        (0, 3 * math.sqrt(2 / 120), 1)
    )


def test_lahti_by_hand():
    # 400 people: the limits of both lie between ranks 10 and 11, 390 and 391.
    both = np.arange(1.0, 401.0)
    a, b = both[:200], both[200:]
    assert lahti_shares(a, b) == (5.0, 0.0, 0.0, 5.0)
    odd, even = both[::2], both[1::2]
    assert lahti_shares(odd, even) == (2.5, 2.5, 2.5, 2.5)


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ((2.5, 2.5, 2.5, 4.1), "partition"),
        ((2.5, 2.5, 0.9, 2.5), "partition"),
        ((1.8, 3.2, 2.5, 2.5), "pool"),
        ((1.7, 2.5, 2.5, 2.5), "judgement"),
        ((3.3, 2.5, 2.5, 2.5), "judgement"),
    ],
)
def test_lahti_verdict(shares, verdict):
    assert lahti_verdict(shares) == verdict


def test_symmetry_power():
    rng = np.random.default_rng(2)
    normal = np.sort(rng.normal(100, 15, 4000))
    assert symmetry_power(np.sort(np.exp(normal / 30))) == pytest.approx(0, abs=0.25)
    assert symmetry_power(np.sort(normal**2)) == pytest.approx(0.5, abs=0.25)
    assert symmetry_power(np.sort(normal - 100)) == 1.0  # not all positive


def test_fences_do_not_move_with_the_outliers():
    values = np.sort(np.random.default_rng(1).lognormal(4.5, 0.3, 300))
    low, high = tukey_fences(values)
    spoilt = values.copy()
    spoilt[-3:] *= 10
    assert tukey_fences(spoilt) == (low, high)
    assert np.mean((values < low) | (values > high)) < 0.03
    assert np.all(spoilt[-3:] > high)
    assert tukey_fences(values[:19]) == (-math.inf, math.inf)


def test_horns_fences_are_tukeys_after_the_likeliest_power():
    rng = np.random.default_rng(4)
    values = np.sort(np.exp(rng.normal(4, 0.3, 400)))
    power = box_cox_power(values)
    moved = box_cox(values, power)
    q1, q3 = np.quantile(moved, [0.25, 0.75], method="weibull")
    expected = inverse_box_cox(np.array([q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)]), power)
    # Quartiles between two values are interpolated before the power, not after it.
    assert horn_fences(values) == pytest.approx(tuple(expected), rel=1e-6)
    assert horn_fences(values[:19]) == (-math.inf, math.inf)
    assert horn_fences(np.full(30, 5.0)) == (-math.inf, math.inf)
    # Many values: the power of 2,000 of them is nearly that of all.
    many = np.sort(np.exp(rng.normal(4, 0.3, 60_000)))
    assert symmetry_power(many) == pytest.approx(0, abs=0.05)
    assert horn_fences(many) == pytest.approx(tukey_fences(many), rel=0.03)


def test_each_rule_that_calls_a_value_an_outlier_is_named():
    rng = np.random.default_rng(4)
    values = np.sort(np.append(np.exp(rng.normal(4, 0.2, 300)), [400.0]))
    cell = Cell(
        key=StratumKey(sex="male", ethnicity="all", age_low=None, age_high=None),
        ordered=values,
        members=np.arange(301)[::-1],
        trial=np.zeros(301, dtype=int),
        trial_counts={0: 301},
    )
    found = {member: (rules, fences) for member, rules, fences in suspects(cell)}
    assert found[0] == (("tukey", "horn", "dixon"), tukey_fences(values))
    assert set(outlying(cell)) == {m for m, (rules, _) in found.items() if "tukey" in rules}


def test_untransformed_fences_by_hand():
    # Negative values: no power. Quartiles at 5.25 and 15.75 of 0..20 (n = 21: ranks 5.5, 16.5).
    values = np.arange(21.0) - 10
    low, high = tukey_fences(values)
    assert (low, high) == pytest.approx((-5.5 - 16.5, 5.5 + 16.5))


def _trials(within, between, n=300):
    """Trials with a group share of 0.2, 0.5, 0.8 whose level falls or rises with the share."""
    rng = np.random.default_rng(6)
    trial = np.repeat([0, 1, 2], n)
    share = np.array([0.2, 0.5, 0.8])[trial]
    group = (np.tile(np.arange(n) / n, 3) < share).astype(float)
    y = within * group + (between - within) * share + rng.normal(0, 1, 3 * n)
    return y, group, trial


def test_within_and_between_are_told_apart():
    y, group, trial = _trials(within=5.0, between=-20.0)
    assert within_trial_difference(y, group, None, trial).difference == pytest.approx(5, abs=0.4)
    assert between_trial_difference(y, group, None, trial).difference == pytest.approx(-20, abs=1)
    mixed = within_trial_difference(y, group, None, np.zeros_like(trial)).difference
    assert -20 < mixed < 5


def test_trial_labels_play_no_part():
    y, group, trial = _trials(within=5.0, between=2.0)
    other = np.array([7, 0, 3])[trial]
    for function in (within_trial_difference, between_trial_difference):
        one, two = function(y, group, None, trial), function(y, group, None, other)
        assert one.difference == pytest.approx(two.difference, rel=1e-12)
        assert one.se == pytest.approx(two.se, rel=1e-12)


def test_what_cannot_be_estimated_is_none():
    y, group, trial = _trials(within=1.0, between=1.0)
    assert within_trial_difference(y, (trial == 2).astype(float), None, trial) is None
    assert between_trial_difference(y, group, None, np.minimum(trial, 1)) is None
    assert between_trial_difference(y, np.ones_like(y), None, trial) is None
    assert within_trial_difference(y[:0], group[:0], None, trial[:0]) is None


def test_a_trial_of_one_person_changes_nothing():
    y, group, trial = _trials(within=3.0, between=3.0)
    age = np.random.default_rng(1).normal(50, 9, len(y))
    plain = within_trial_difference(y, group, age, trial)
    more = within_trial_difference(
        np.append(y, 999.0), np.append(group, 1.0), np.append(age, 20.0), np.append(trial, 3)
    )
    assert (more.difference, more.se, more.df) == pytest.approx(
        (plain.difference, plain.se, plain.df)
    )
