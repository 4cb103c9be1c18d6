"""Nothing of a few people, nobody's extreme value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.privacy.suppression import (
    Count,
    hidden_counts,
    round_outward,
    suppress_account,
    suppress_tables,
    without_extremes,
)
from cardiometa.reference.results import Account, Calibration
from cardiometa.reference.strata.limits import LimitRequest, estimate_limits

REQUEST = LimitRequest(centiles=(2.5, 50.0, 97.5), ci_level=0.9)


@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=7),
    unknown=st.integers(0, 30),
    few=st.integers(1, 15),
)
@settings(max_examples=300, deadline=None)
def test_hidden_people_cannot_be_told_by_subtraction(counts, unknown, few):
    hidden = hidden_counts(counts, sum(counts) + unknown, few)
    for count, hide in zip(counts, hidden, strict=True):
        assert hide or count >= few
    someone = any(0 < c < few for c in counts)
    left = sum(c for c, h in zip(counts, hidden, strict=True) if h) + unknown
    # What a reader can subtract is many people, nobody at all, or there is nothing left to show.
    assert not someone or left >= few or all(hidden)


def test_complementary_count_is_the_smallest():
    assert hidden_counts([100, 30, 5], 135, 10) == (False, True, True)
    assert hidden_counts([100, 30, 5], 145, 10) == (False, False, True)
    assert hidden_counts([100, 30, 0], 130, 10) == (False, False, True)


@given(
    value=st.floats(-500, 500),
    width=st.floats(0.5, 400),
    up=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_outward_moves_outward_by_at_most_a_tenth(value, width, up):
    moved = round_outward(value, width, up=up)
    assert moved > value if up else moved < value
    assert abs(moved - value) <= width / 10 * (1 + 1e-9) + 1e-9


def test_outward_is_round():
    assert round_outward(71.3, 120, up=False) == 70
    assert round_outward(70.0, 120, up=False) == 60
    assert round_outward(213.2, 120, up=True) == 220
    assert round_outward(52.34, 20, up=False) == 52
    assert round_outward(5.123, 2.6, up=True) == 5.2


@pytest.mark.parametrize("n", [40, 58, 59, 80, 119, 120, 150, 184, 200, 400])
@pytest.mark.parametrize("rule", ["nonparametric", "nonparametric-ranks"])
def test_released_limits_hold_no_extreme(n, rule):
    values = np.sort(np.random.default_rng(n).normal(100, 15, n))
    exact = estimate_limits(values, rule, REQUEST)
    for before, after in zip(exact, without_extremes(exact), strict=True):
        for number in (after.limit, after.ci_low, after.ci_high):
            assert number not in (values[0], values[-1])
        assert (after.limit is None) == before.limit_at_extreme
        if after.ci_low is not None:
            assert after.ci_low <= before.ci_low
            assert after.ci_high >= before.ci_high
            moved = (after.ci_low, after.ci_high) != (before.ci_low, before.ci_high)
            assert moved == ("ci-at-extreme" in after.notes)


def test_the_account_tells_no_count_of_a_few():
    account = Account(
        measure="lv_edv_ml",
        rows_in=200,
        excluded={"failed": 3, "sex-unknown": 12, "not-healthy": 40},
        analysed=145,
        ethnicity_unknown=4,
        outliers=0,
    )
    told = suppress_account(account, 10)
    # 55 - 12 - 40 would tell the 3, so that the smaller of the others is withheld too.
    assert told["excluded"] == {"failed": None, "sex-unknown": None, "not-healthy": 40}
    assert told["ethnicity_unknown"] is None
    assert told["outliers"] == 0
    assert suppress_account(account, 1)["excluded"] == account.excluded


def test_a_count_is_hidden_where_what_is_shown_gives_it_back():
    sizes = [100, 30, 5]
    hidden = [Count(n, sizes, 135, place).is_hidden(10) for place, n in enumerate(sizes)]
    assert hidden == [False, True, True]
    assert not Count(50).is_hidden(10)
    assert Count(50, left_out=4).is_hidden(10)
    assert not Count(50, left_out=14).is_hidden(10)
    assert Count(3, left_out=4).is_few(10)
    assert not Count(3, left_out=8).is_few(10)


def test_a_row_of_few_says_so_and_one_that_gives_them_back_withholds_its_count():
    columns = {"measure": "m", "unit": "ml", "method": "strata", "sex": "male", "ethnicity": "all"}
    columns |= {"check": "fitted", "group": "all"} | dict.fromkeys(
        ("below_percent", "above_percent", "expected_below_percent", "expected_above_percent")
    )
    few = Calibration(n=Count(5), notes=("n<40",), below_n=40, **columns)
    many = Calibration(n=Count(50), **columns)
    models = [{"n": Count(7), "n_trials": 2}, {"n": Count(70), "n_trials": 2}]
    shown = suppress_tables(
        {"calibration": [few, many], "strata_models": models}, 10, internal=False
    )
    assert [row.n for row in shown["calibration"]] == [None, 50]
    assert [row.note for row in shown["calibration"]] == ["n<10", ""]
    assert shown["calibration"][0].below_n == 10
    assert [model["n"] for model in shown["strata_models"]] == [None, 70]
    assert not any(isinstance(model["n"], Count) for model in shown["strata_models"])
