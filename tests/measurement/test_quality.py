"""The table of flags, the status they add up to, and the flags of a whole cohort."""

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.flags import FLAGS, limit_of, merge_flags, raised, status_of
from cardiometa.measurement.checks import (
    COHORT_MEASURES,
    cohort_flags,
    predicted_dice_flags,
    robust_z,
    visit_flags,
)
from cardiometa.measurement.measures import COLUMN_NAMES
from cardiometa.records import Flag
from cardiometa.segmentation.model import vendor_listed
from tests.kit.labelled import expert_pairs


def flag(code, level):
    return Flag(code=code, level=level, sentence="")


@pytest.mark.parametrize("rule", FLAGS.values(), ids=lambda rule: rule.code)
def test_rules_keep_the_contract(rule):
    # Section 3: flags are separated by ";", and only tiers 1, 2 and 4 may reject.
    assert set(rule.code) <= set(string.ascii_lowercase + "-")
    assert rule.level != "reject" or rule.tier in (1, 2, 4)
    fields = {name for _, name, _, _ in string.Formatter().parse(rule.sentence) if name}
    numbers = dict.fromkeys(fields - {"where", "limit"}, 1.0)
    told = raised(rule.code, where="ED", **numbers)
    assert (told.code, told.level) == (rule.code, rule.level)
    assert "{" not in told.sentence
    assert told.sentence.endswith(".")


def test_no_code_stands_for_two_rules():
    assert all(code == rule.code for code, rule in FLAGS.items())


def test_limit_of_a_finding_without_one():
    with pytest.raises(ValueError, match="lv-missing"):
        limit_of("lv-missing")


def test_status_by_the_contract():
    assert status_of([]) == "ok"
    assert status_of([flag("a", "info")]) == "ok"
    assert status_of([flag("a", "info"), flag("b", "review")]) == "review"
    assert status_of([flag("b", "review"), flag("c", "reject"), flag("a", "info")]) == "failed"


def test_merging_keeps_order_and_the_most_severe():
    merged = merge_flags(
        [flag("gap", "info"), flag("tilt", "review")],
        [flag("gap", "reject"), flag("tilt", "info")],
        [flag("ef-low", "review")],
    )
    assert [(f.code, f.level) for f in merged] == [
        ("gap", "reject"),
        ("tilt", "review"),
        ("ef-low", "review"),
    ]


@pytest.mark.parametrize("vendor", ["Siemens", "SIEMENS", "Siemens Healthineers", "GE"])
def test_makers_on_the_card_have_rv_evidence(vendor):
    assert vendor_listed(vendor, ["Siemens", "ge"])


@pytest.mark.parametrize("vendor", ["Philips", "Gemstone", "", None])
def test_other_and_unknown_makers_have_none(vendor):
    assert not vendor_listed(vendor, ["Siemens", "GE", ""])


def test_robust_z_is_normal_scaled():
    rng = np.random.default_rng(0)
    z = robust_z(rng.normal(150, 30, 20_000))
    assert abs(np.nanstd(z) - 1) < 0.03
    assert np.isnan(robust_z(np.full(5, 3.0))).all()
    assert np.isnan(robust_z(np.full(5, np.nan))).all()


def cohort(n=40, seed=1):
    rng = np.random.default_rng(seed)
    return {
        "lv_edv_ml": rng.lognormal(5, 0.25, n),
        "lv_ef_percent": rng.normal(60, 6, n),
    }


def test_cohort_outlier_is_judged_within_its_trial():
    small, large = cohort(seed=1), cohort(seed=2)
    small["lv_edv_ml"][7] = 700
    # 700 mL is ordinary where every volume is five times as large.
    values = {
        "lv_edv_ml": np.r_[small["lv_edv_ml"], 5 * large["lv_edv_ml"]],
        "lv_ef_percent": np.r_[small["lv_ef_percent"], large["lv_ef_percent"]],
    }
    flags = cohort_flags(["A"] * 40 + ["B"] * 40, values)
    assert [row for row, told in enumerate(flags) if told] == [7]
    assert flags[7][0].level == "review"
    assert "lv_edv_ml" in flags[7][0].sentence
    assert "lv_ef_percent" not in flags[7][0].sentence


def test_cohort_flags_pass_missing_values_and_thin_trials():
    values = cohort(9)
    values["lv_edv_ml"][0] = 2000
    assert cohort_flags(["A"] * 9, values) == ((),) * 9
    values = cohort(40)
    values["lv_edv_ml"][3] = np.nan
    values["lv_edv_ml"][4] = 0  # no volume at all: the scan's own flags tell that
    values["nyha_class"] = np.full(40, 1e6)
    assert cohort_flags(["A"] * 40, values) == ((),) * 40


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10))
def test_cohort_flags_follow_the_rows_and_no_unit(seed, scale):
    values = cohort(30, seed)
    values["lv_edv_ml"][2] = 8 * values["lv_edv_ml"].max()
    order = np.random.default_rng(seed).permutation(30)
    flags = cohort_flags(["A"] * 30, values)
    moved = cohort_flags(
        ["A"] * 30,
        {
            "lv_edv_ml": scale * values["lv_edv_ml"][order],
            "lv_ef_percent": values["lv_ef_percent"][order],
        },
    )
    assert flags[2]
    assert [bool(told) for told in moved] == [bool(flags[row]) for row in order]


def test_cohort_measures_are_columns():
    assert set(COHORT_MEASURES) <= set(COLUMN_NAMES)


@pytest.mark.data
def test_no_expert_read_heart_is_a_cohort_outlier():
    rows = [pair.reference for pair in expert_pairs()]
    values = {name: np.array([float(row[name]) for row in rows]) for name in COHORT_MEASURES}
    assert not any(cohort_flags(["ACDC"] * len(rows), values))


def test_predicted_dice_at_its_limits():
    assert predicted_dice_flags(None) == ()
    assert predicted_dice_flags(limit_of("low-quality")) == ()
    for code, level in (("low-quality", "review"), ("very-low-quality", "reject")):
        (told,) = predicted_dice_flags(limit_of(code) - 1e-6)
        assert (told.code, told.level) == (code, level)
    (told,) = predicted_dice_flags(limit_of("very-low-quality"))
    assert told.code == "low-quality"


def test_visits_of_a_person_two_slices_apart():
    people = [("A", "1"), ("A", "1"), ("A", "2"), ("A", "2"), ("B", "1"), ("A", "3"), ("A", "3")]
    length = np.array([90.0, 70.0, 90.0, 80.0, 50.0, 100.0, np.nan])
    flags = visit_flags(people, length, np.full(7, 10.0))
    assert [[f.code for f in row] for row in flags] == [
        ["slices-differ-between-visits"],
        ["slices-differ-between-visits"],
        [],  # one slice is the play of the stack
        [],
        [],  # the same number in another trial is another person
        [],
        [],
    ]
    assert {f.level for row in flags for f in row} == {"info"}
    assert "90 mm here and 70 mm" in flags[0][0].sentence
    # Thinner slices: as many mm are more slices.
    thin = visit_flags(people, length, np.full(7, 6.0))
    assert [bool(row) for row in thin] == [True, True, True, True, False, False, False]
    # Of three visits the one that differs is told.
    three = visit_flags(["p"] * 3, np.array([90.0, 92.0, 60.0]), np.full(3, 10.0))
    assert [bool(row) for row in three] == [False, False, True]
