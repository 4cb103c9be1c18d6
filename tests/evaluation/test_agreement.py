"""Coverage of intervals, invariances, grades, margins and draws."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.errors import UsageError
from cardiometa.evaluation.agreement import (
    EF_GRADES,
    Z,
    bias_equivalence,
    bland_altman,
    ccc,
    cov_percent,
    cross_table,
    ef_grade,
    icc,
    kappa,
    kappa_values,
    mean_interval,
    repeatability,
    verdict_of,
    wilson,
)
from cardiometa.evaluation.options import DEFAULT_MARGINS, EvaluationOptions, margins_of
from cardiometa.evaluation.tables import choose, rate_rows


def covered(seed: int, samples: int, scans: int) -> tuple[float, float]:
    """Share of samples whose intervals hold the true bias and the true upper limit."""
    generator = np.random.default_rng(seed)
    people = np.repeat(np.arange(25), scans)
    true = 2 + Z * math.hypot(4, 3)
    bias = limit = 0
    for _ in range(samples):
        difference = 2 + generator.normal(0, 4, 25)[people] + generator.normal(0, 3, len(people))
        found = bland_altman(difference, people)
        assert found is not None
        bias += found.bias.low <= 2 <= found.bias.high
        limit += found.loa_upper.low <= true <= found.loa_upper.high
    return bias / samples, limit / samples


@pytest.mark.parametrize("scans", [1, 3])
def test_intervals_hold_the_truth_as_often_as_they_say(scans: int) -> None:
    # 400 samples: standard error of the share 1.1 points.
    bias, limit = covered(7, 400, scans)
    assert 0.915 <= bias <= 0.985
    assert 0.915 <= limit <= 0.985


def test_limits_hold_95_percent_of_single_differences() -> None:
    generator = np.random.default_rng(3)
    people = np.repeat(np.arange(3000), 2)
    difference = generator.normal(0, 4, 3000)[people] + generator.normal(0, 3, 6000)
    found = bland_altman(difference, people)
    assert found is not None
    assert found.sd == pytest.approx(5, rel=0.03)
    inside = (difference > found.loa_lower.value) & (difference < found.loa_upper.value)
    assert inside.mean() == pytest.approx(0.95, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(10, 300), st.floats(-20, 20)), min_size=5, max_size=30),
    st.floats(0.1, 10),
)
def test_units_and_order_do_not_matter(pairs: list[tuple[float, float]], scale: float) -> None:
    y = np.array([a for a, _ in pairs])
    x = y + np.array([b for _, b in pairs])
    people = np.arange(len(x))
    found, scaled = bland_altman(x - y, people), bland_altman(scale * (x - y), people[::-1])
    assert found is not None
    assert scaled is not None
    assert scaled.loa_upper.high == pytest.approx(scale * found.loa_upper.high, rel=1e-6, abs=1e-6)
    for function in (icc, ccc):
        one, other = function(x, y), function(scale * x[::-1], scale * y[::-1])
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert other.value == pytest.approx(one.value, abs=1e-6)


def test_perfect_agreement_needs_no_interval() -> None:
    values = np.array([100.0, 120.0, 150.0, 90.0])
    for function in (icc, ccc):
        found = function(values, values)
        assert found is not None
        assert found.value == pytest.approx(1)
    assert bland_altman(np.zeros(2), np.arange(2)) is None
    assert cov_percent(values, values) == 0
    assert cov_percent(values - 200, values - 200) is None


def test_cov_of_known_pairs() -> None:
    # Each pair's SD is 5 and mean 100: 5 %.
    x, y = np.full(6, 100 - 5 / math.sqrt(2)), np.full(6, 100 + 5 / math.sqrt(2))
    assert cov_percent(x, y) == pytest.approx(5)


def test_grades_at_their_ends() -> None:
    values = np.array([10, 40, 40.01, 49.99, 50, 70])
    assert [EF_GRADES[g] for g in ef_grade(values)] == [
        "reduced",
        "reduced",
        "mildly-reduced",
        "mildly-reduced",
        "preserved",
        "preserved",
    ]


def test_kappa_of_one_grade_is_not_defined() -> None:
    table = cross_table(np.array([2, 2, 2]), np.array([2, 2, 2]), 3)
    assert kappa(table) is None
    assert kappa_values(np.diag([3.0, 4.0, 5.0]), "linear") == pytest.approx(1)


def test_verdicts() -> None:
    assert verdict_of(-2, 2, 3) == "equivalent"
    assert verdict_of(-2, 4, 3) == "not shown"
    assert verdict_of(3.5, 5, 3) == "different beyond margin"
    assert verdict_of(-9, -3.5, 3) == "different beyond margin"
    # Significantly different from zero, and yet equivalent.
    found = bias_equivalence(np.full(50, 1.0) + np.linspace(-0.1, 0.1, 50), 3)
    assert found is not None
    assert found.ci_low > 0
    assert found.result == "equivalent"


def test_margins() -> None:
    known = list(DEFAULT_MARGINS)
    found = margins_of(["lv_ef_percent=2.5", "lv_edv_ml=5%"], known)
    assert found["lv_ef_percent"].of(60) == 2.5
    assert found["lv_edv_ml"].of(150) == pytest.approx(7.5)
    assert found["lv_mass_g"] == DEFAULT_MARGINS["lv_mass_g"]
    for text in ("lv_ef_percent", "lv_ef_percent=-1", "lv_ef_percent=nan", "height=3", "=3"):
        with pytest.raises(UsageError):
            margins_of([text], known)


def test_draws_do_not_depend_on_order_and_come_by_person() -> None:
    generator = np.random.default_rng(0)
    people = np.repeat(np.arange(30), 4)
    values = generator.normal(0, 5, 30)[people] + generator.normal(0, 0.1, 120)
    options = EvaluationOptions(bootstrap=1000)
    first = mean_interval(values, people, options, name="a")
    assert first is not None
    assert mean_interval(values, people, options, name="a") == first
    assert mean_interval(values, people, options, name="b") != first
    # As wide as 30 people, not as 120 scans.
    sd = pd.Series(values).groupby(people).mean().std()
    assert first[1] - first[0] == pytest.approx(2 * 1.96 * sd / math.sqrt(30), rel=0.15)


def test_repeatability_of_known_error() -> None:
    generator = np.random.default_rng(5)
    truth = generator.normal(60, 8, 4000)
    found = repeatability(*(truth + generator.normal(0, 2, 4000) for _ in range(2)))
    assert found is not None
    assert found.sem.value == pytest.approx(2, rel=0.05)
    assert found.sdc.value == pytest.approx(1.96 * math.sqrt(2) * found.sem.value, rel=1e-4)
    assert found.sem.low < 2 < found.sem.high
    assert found.icc is not None
    assert found.icc.value == pytest.approx(64 / 68, abs=0.02)


# ------------------------------------------------------------------ blind reading


def test_choice_takes_all_flagged_and_a_share_of_the_others() -> None:
    status = np.array(["ok"] * 100 + ["review"] * 7, dtype=object)
    flagged, drawn = choose(status, 5, seed=4)
    assert list(flagged) == list(range(100, 107))
    assert len(drawn) == 5
    assert set(drawn) <= set(range(100))
    assert list(choose(status, 5, seed=4)[1]) == list(drawn)
    assert list(choose(status, 5, seed=5)[1]) != list(drawn)
    # At least one, however few.
    assert len(choose(np.array(["ok", "ok"], dtype=object), 5, seed=1)[1]) == 1
    assert len(choose(np.array(["review"], dtype=object), 5, seed=1)[1]) == 0


def test_wilson_of_newcombe_1998() -> None:
    # Newcombe, Stat Med 17:857, table I: 81/263, 15/148, 0/20, 1/29.
    for events, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (5, 5, 0.5655, 1.0),
    ):
        assert wilson(events, n) == pytest.approx((100 * low, 100 * high), abs=0.006)
    # The ends are exact, so that no share of 99.99 % is printed.
    assert wilson(0, 12)[0] == 0.0
    assert wilson(12, 12)[1] == 100.0


def test_rates_withhold_small_groups_and_what_would_give_them_away() -> None:
    rows = pd.DataFrame(
        {
            "trial": "A",
            "participant_id": [f"{n}" for n in range(40)],
            "arm": ["control"] * 20 + ["active"] * 20,
            "sex": ["male"] * 35 + ["female"] * 5,
            "event": [True] * 12 + [False] * 28,
        }
    )
    found = {(r.group_by, r.group): r for r in rate_rows(rows, "correction", "flagged", 10)}
    assert found["all", "all"].percent == pytest.approx(30)
    assert found["arm", "A: control"].percent == pytest.approx(60)
    assert found["arm", "A: active"].n_events == 0
    assert found["sex", "female"].note == "n<10"
    assert found["sex", "male"].note == "counts withheld"
    assert found["sex", "male"].percent is None
