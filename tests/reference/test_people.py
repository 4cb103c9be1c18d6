"""Who is used, which row of theirs, and the reason of every other row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cardiometa.errors import TableError
from cardiometa.records import Exclusion
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.select import age_band, select_participants
from tests.kit.reference_tables import people_frame, table


def _frame(*rows, **same):
    base = {"trial": "T", "status": "ok", "healthy": True, "lv_edv_ml": 100.0, "sex": "male"}
    base |= {"age_years": 50.0, "ethnicity": "white"}
    return pd.DataFrame([{**base, **same, **row} for row in rows])


def _codes(people):
    return sorted((e.participant_id, e.code) for e in people.exclusions)


def test_every_row_is_used_or_excluded_once():
    frame = _frame(
        {"participant_id": "a", "status": "failed"},
        {"participant_id": "b", "status": "review"},
        {"participant_id": "c", "healthy": False},
        {"participant_id": "d", "healthy": None},
        {"participant_id": "e", "sex": None},
        {"participant_id": "f", "age_years": np.nan},
        {"participant_id": "g", "age_years": 17.999},
        {"participant_id": "h", "age_years": 18.0},
        {"participant_id": "i", "ethnicity": None},
    )
    failed = Exclusion(
        stage="scan", trial="T", participant_id="z", visit="", code="failed", sentence="no"
    )
    people = select_participants(table(frame, exclusions=(failed,)), ReferenceOptions(status="ok"))
    assert _codes(people) == [
        ("a", "failed"),
        ("b", "review"),
        ("c", "not-healthy"),
        ("d", "healthy-unknown"),
        ("e", "sex-unknown"),
        ("f", "age-unknown"),
        ("g", "age-below-bands"),
        ("z", "failed"),
    ]
    assert list(people.keys.participant) == ["h", "i"]
    assert people.rows_in == 10 == len(people.exclusions) + 2
    assert list(people.ethnicity) == [0, -1]


def test_scans_of_very_few_phases_are_left_out_with_their_reason():
    frame = _frame(
        {"participant_id": "a", "flags": "few_phases;very_few_phases", "visit": "baseline"},
        {"participant_id": "b", "flags": "few-phases", "visit": "baseline"},
        {"participant_id": "c", "flags": None, "visit": "baseline"},
        {"participant_id": "d", "flags": "very-few-phases", "visit": "baseline"},
        {"participant_id": "d", "flags": "", "visit": "later", "visit_day": 90},
    )
    people = select_participants(table(frame), ReferenceOptions())
    assert _codes(people) == [("a", "very-few-phases"), ("d", "very-few-phases")]
    assert list(zip(people.keys.participant, people.keys.visit, strict=True)) == [
        ("b", "baseline"),
        ("c", "baseline"),
        ("d", "later"),
    ]
    assert people.rows_in == 5 == len(people.exclusions) + 3


def test_review_rows_are_used_unless_asked():
    frame = _frame({"participant_id": "a", "status": "review"}, {"participant_id": "b"})
    people = select_participants(table(frame), ReferenceOptions())
    assert (len(people.trial), people.review_rows) == (2, 1)


def test_bands_are_half_open_on_the_exact_age():
    ages = np.array([17.99, 18, 29.999, 30, 69.999, 70, 101, np.nan])
    assert age_band(ages, (18, 30, 70)).tolist() == [-1, 0, 0, 1, 1, 2, 2, -1]


def test_age_is_free_where_it_is_not_asked_for():
    frame = _frame({"participant_id": "a", "age_years": 12.0}, {"participant_id": "b", "sex": None})
    people = select_participants(table(frame), ReferenceOptions(by=("ethnicity",)))
    assert len(people.trial) == 2


VISITS = (
    {"participant_id": "a", "visit": "baseline", "visit_day": 9.0},
    {"participant_id": "a", "visit": "late", "visit_day": 1.0},
    {"participant_id": "b", "visit": "late", "visit_day": 300.0},
    {"participant_id": "b", "visit": "early", "visit_day": -5.0},
    {"participant_id": "c", "visit": "late", "visit_day": np.nan},
)


def test_baseline_else_least_day():
    people = select_participants(table(_frame(*VISITS)), ReferenceOptions())
    assert list(people.keys.visit) == ["baseline", "early", "late"]
    assert _codes(people) == [("a", "other-visit"), ("b", "other-visit")]
    assert people.visits == (("baseline", 1), ("early", 1), ("late", 1))


def test_named_visit_with_a_word_about_the_others():
    people = select_participants(table(_frame(*VISITS)), ReferenceOptions(use_visit="early"))
    assert list(people.keys.visit) == ["baseline", "early", "late"]
    assert "2 of 3 participants have no visit early" in people.warnings[0]
    with pytest.raises(TableError, match="No row has the visit never"):
        select_participants(table(_frame(*VISITS)), ReferenceOptions(use_visit="never"))


@pytest.mark.parametrize(
    "days", [(np.nan, 4.0), (4.0, 4.0), (np.nan, np.nan)], ids=["one", "tie", "none"]
)
def test_rows_that_cannot_be_told_apart(days):
    rows = [{"participant_id": "a", "visit": f"v{i}", "visit_day": d} for i, d in enumerate(days)]
    frame = _frame(*rows, {"participant_id": "b", "visit": "v0", "visit_day": 1.0})
    with pytest.raises(TableError, match="1 participants have several rows") as caught:
        select_participants(table(frame), ReferenceOptions())
    assert [p.where for p in caught.value.problems] == ["T/a"]


def test_two_baselines_are_refused():
    rows = [{"participant_id": "a", "visit": "baseline", "visit_day": float(d)} for d in (1, 2)]
    with pytest.raises(TableError, match="several rows"):
        select_participants(table(_frame(*rows)), ReferenceOptions())


def test_one_id_in_two_trials_is_two_people():
    frame = _frame({"participant_id": "1"}, {"participant_id": "1", "trial": "U"})
    assert len(select_participants(table(frame), ReferenceOptions()).trial) == 2


def test_no_healthy_value_is_refused_unless_all():
    frame = _frame({"participant_id": "a", "healthy": None})
    for bad in (frame, frame.drop(columns="healthy")):
        with pytest.raises(TableError, match="healthy"):
            select_participants(table(bad), ReferenceOptions())
        assert len(select_participants(table(bad), ReferenceOptions(healthy_only=False)).trial) == 1


def test_nobody_left_says_why():
    frame = _frame({"participant_id": "a", "healthy": False})
    with pytest.raises(TableError, match="No participants are left") as caught:
        select_participants(table(frame), ReferenceOptions())
    assert str(caught.value.problems[0]) == "not-healthy: 1 rows excluded."


def test_absent_factor_is_a_warning_by_default_and_an_error_by_name():
    frame = _frame({"participant_id": "a", "ethnicity": None})
    people = select_participants(table(frame), ReferenceOptions())
    assert people.by == ("sex", "age")
    assert people.warnings == (
        "The table has no ethnicity: the limits are not stratified by ethnicity.",
    )
    with pytest.raises(TableError, match="no ethnicity"):
        select_participants(table(frame), ReferenceOptions(by=("sex", "ethnicity")))


def test_a_factor_known_of_others_alone_does_not_empty_the_table():
    frame = _frame(
        {"participant_id": "a", "sex": None},
        {"participant_id": "b", "sex": None},
        {"participant_id": "c", "healthy": False},
    )
    people = select_participants(table(frame), ReferenceOptions())
    assert people.keys.participant.tolist() == ["a", "b"]
    assert "sex" not in people.by
    assert "No participant selected has a known sex: the limits are not stratified by sex." in (
        people.warnings
    )
    with pytest.raises(TableError, match="no participant selected has a known sex"):
        select_participants(table(frame), ReferenceOptions(by=("sex",)))


def test_order_of_rows_plays_no_part():
    frame = people_frame(200)
    people = select_participants(table(frame), ReferenceOptions())
    shuffled = select_participants(table(frame.sample(frac=1, random_state=1)), ReferenceOptions())
    np.testing.assert_array_equal(people.keys.participant, shuffled.keys.participant)
    np.testing.assert_array_equal(people.values("lv_edv_ml"), shuffled.values("lv_edv_ml"))
