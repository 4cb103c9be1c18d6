"""Equivalence tests, intervals of means and options against scipy, statsmodels and formulas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from cardiometa.errors import UsageError
from cardiometa.evaluation.agreement import (
    Estimate,
    bias_equivalence,
    difference_equivalence,
    flat,
    interval,
    mean_interval,
    participant_means,
)
from cardiometa.evaluation.groups import add_group_columns, groups_of
from cardiometa.evaluation.options import DICE, EvaluationOptions
from cardiometa.evaluation.results import AgreementRow


def values(seed: int, n: int, mean: float = 0.0, sd: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, sd, n)


@given(st.integers(0, 500), st.integers(4, 40), st.floats(-3, 3), st.floats(0.5, 6))
@settings(max_examples=40, deadline=None)
def test_a_bias_is_judged_by_two_one_sided_t_tests(seed, n, mean, margin):
    sample = values(seed, n, mean)
    found = bias_equivalence(sample, margin)
    p, *_ = DescrStatsW(sample).ttost_mean(-margin, margin)
    low, high = DescrStatsW(sample).tconfint_mean(alpha=0.1)
    assert found.p_equivalence == pytest.approx(p, abs=1e-12)
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high))
    # The interval of 90 % inside the margin and p < 0.05 are one statement.
    assert (found.result == "equivalent") == (p < 0.05)


@given(st.integers(0, 500), st.integers(3, 30), st.integers(3, 30), st.floats(0.5, 6))
@settings(max_examples=40, deadline=None)
def test_a_difference_between_groups_is_welch_s(seed, n, m, margin):
    group, rest = values(seed, n, 1.0, 2.0), values(seed + 1, m, 0.0, 5.0)
    found = difference_equivalence(group, rest, margin)
    both = CompareMeans(DescrStatsW(group), DescrStatsW(rest))
    low, high = both.tconfint_diff(alpha=0.1, usevar="unequal")
    p, *_ = both.ttost_ind(-margin, margin, usevar="unequal")
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high))
    assert found.p_equivalence == pytest.approx(p, abs=1e-12)
    turned = difference_equivalence(rest, group, margin)
    assert turned.estimate == pytest.approx(-found.estimate)
    assert turned.result == found.result


def test_values_without_scatter_are_judged_by_their_mean_alone():
    same = np.full(5, 2.0)
    assert bias_equivalence(same, 3.0).p_equivalence == 0.0
    assert bias_equivalence(same, 1.0).p_equivalence == 1.0
    assert bias_equivalence(same, 1.0).result == "different beyond margin"
    assert difference_equivalence(same, np.full(4, 1.5), 1.0).estimate == 0.5
    assert bias_equivalence(same[:2], 3.0) is None
    assert difference_equivalence(same, same[:2], 3.0) is None


def test_participants_means_and_counts():
    means, counts = participant_means(np.array([1.0, 5.0, 3.0, 7.0]), np.array([4, 2, 4, 9]))
    assert means.tolist() == [5.0, 2.0, 7.0]
    assert counts.tolist() == [1, 2, 1]


def test_a_bootstrap_of_means_is_as_wide_as_student_s():
    sample, options = values(3, 200, 10.0), EvaluationOptions(bootstrap=4000)
    low, high = mean_interval(sample, np.arange(200), options, name="x")
    half = stats.t.ppf(0.975, 199) * sample.std(ddof=1) / np.sqrt(200)
    assert (low, high) == pytest.approx(
        (sample.mean() - half, sample.mean() + half), abs=0.1 * half
    )


def test_an_interval_needs_three_participants_and_samples_with_a_value():
    few = np.array([0, 0, 1, 1])
    options = EvaluationOptions(bootstrap=100)
    assert mean_interval(np.ones(4), few, options, name="x") is None
    assert mean_interval(np.ones(4), np.arange(4), EvaluationOptions(bootstrap=0), name="x") is None
    terms = np.ones((4, 1))
    none = interval(terms, np.arange(4), lambda s: np.full(len(s), np.nan), options, name="x")
    assert none is None


def test_all_scans_of_a_participant_are_drawn_together():
    """Of one participant with a far value in 4: each sample has it 0, 1, 2 … times."""
    participants = np.repeat(np.arange(4), 3)
    far = np.where(participants == 0, 12.0, 0.0)
    seen: list[float] = []

    def statistic(sums: np.ndarray) -> np.ndarray:
        seen.extend((sums[:, 1] / 36).tolist())
        return sums[:, 1]

    terms = np.column_stack([np.ones(12), far])
    interval(terms, participants, statistic, EvaluationOptions(bootstrap=300), name="x")
    assert {round(v, 9) for v in seen} <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert np.mean(seen) == pytest.approx(1, abs=0.2)


# ------------------------------------------------------------------ options, rows, groups


def test_margins_in_percent_are_of_the_mean_and_say_so():
    margins = EvaluationOptions(margin=("lv_edv_ml=5%", "dice=0.02")).margins
    assert margins["lv_edv_ml"].of(-80.0) == pytest.approx(4.0)
    assert str(margins["lv_edv_ml"]) == "5% of the mean, set by --margin"
    assert str(margins[DICE]) == "set by --margin"
    assert DICE not in EvaluationOptions().margins


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"repeat_visits": ("a",)}, "is not two visits"),
        ({"repeat_visits": ("a", "a")}, "is not two visits"),
        ({"age_bands": ()}, "increasing ages"),
        ({"age_bands": (40.0, 30.0)}, "increasing ages"),
        ({"age_bands": (18.0, float("inf"))}, "increasing ages"),
    ],
)
def test_problems_of_options_are_named(change, said):
    with pytest.raises(UsageError, match=said):
        EvaluationOptions(**change)
    assert EvaluationOptions(repeat_visits=("a", "b")).other_problems() == []


def test_an_estimate_fills_three_columns():
    row = AgreementRow(
        against="labels", measure="x", unit="", scope="s", scans_used="ok", group_by="all",
        group="all", bias=Estimate.around(2.0, 0.5), sd=3.0,
    )  # fmt: skip
    cells = flat(AgreementRow, row)
    assert (cells["bias"], cells["bias_low"], cells["bias_high"]) == (2.0, 1.5, 2.5)
    assert (cells["icc"], cells["icc_low"], cells["sd"]) == (None, None, 3.0)
    assert list(flat(AgreementRow)) == list(cells)


def test_an_unknown_group_is_in_all_alone_and_counts_add_up():
    rows = pd.DataFrame(
        {
            "trial": list("AABBB"),
            "participant_id": list("12345"),
            "sex": ["male", "", None, "female", "male"],
            "age_years": [17.0, 18.0, 39.9, np.nan, 75.0],
            "field_strength_t": [1.5, 3.0, np.nan, 1.5, 1.5],
        }
    )
    found = add_group_columns(rows, (18.0, 40.0, 60.0))
    assert found["age_band"].tolist()[:3] == ["<18", "18-39", "18-39"]
    assert pd.isna(found["age_band"][3])
    assert found["age_band"][4] == "60+"
    groups = list(groups_of(found))
    assert groups[0].participants == 5
    for by, known in (("sex", 3), ("age_band", 4), ("field_strength", 4), ("trial", 5)):
        mine = [g for g in groups if g.by == by]
        assert sum(int(g.mask.sum()) for g in mine) == known
        assert all(g.participants == g.mask.sum() for g in mine)
    assert [g.name for g in groups if g.by == "sex"] == ["male", "female"]
    assert [g.name for g in groups if g.by == "field_strength"] == ["1.5 T", "3 T"]
