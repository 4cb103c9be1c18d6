"""Rosters: ids, carried columns, and heights and weights against those of the other trials."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cardiometa.cohort.models import PARTICIPANT_COLUMNS, ColumnRule, ReadingLog, TrialDefinition
from cardiometa.cohort.participants import (
    carried_cells,
    check_body_sizes,
    check_ids,
    empty_roster,
    read_roster,
    resolve_columns,
)
from cardiometa.cohort.recode import ROSTER_COLUMNS
from cardiometa.errors import Problems
from tests.kit.cohorts import people, roster, write

IDS = ["001", "002", "003"]


def trial(tmp_path, text, **facts):
    path = write(tmp_path / "alpha.csv", text)
    return TrialDefinition(name="ALPHA", participants=path, **facts)


def bodies(**medians):
    """Six adults of each trial, ``trial=(height, weight)`` in the middle."""
    rows = []
    for name, (height, weight) in medians.items():
        spread = np.linspace(0.94, 1.06, 6)
        part = pd.DataFrame({"height_cm": height * spread, "weight_kg": weight * spread})
        rows.append(part.assign(trial=name))
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize(
    ("odd", "column", "said"),
    [
        ((67.0, 75.0), "height_cm", "the median is 67, that of the other trials 170"),
        ((170.0, 165.0), "weight_kg", "the median is 165, that of the other trials 75"),
    ],
)
def test_a_trial_in_inches_or_pounds_is_asked_about(odd, column, said):
    log = ReadingLog()
    check_body_sizes(bodies(A=(170, 75), B=(170, 75), C=odd), set(), log)
    (problem,) = [one for one in log.problems if one.where == f"C, {column}"]
    assert problem.what == said
    assert 'unit = "' in problem.fix
    assert log.warnings == []
    # A unit that was declared is taken, and said.
    declared = ReadingLog()
    check_body_sizes(bodies(A=(170, 75), B=(170, 75), C=odd), {("C", column)}, declared)
    assert not [one for one in declared.problems if one.where == f"C, {column}"]
    assert any("taken as it is" in line for line in declared.warnings)


def test_of_two_trials_the_one_further_from_an_ordinary_adult_is_asked_about():
    log = ReadingLog()
    check_body_sizes(bodies(A=(170, 75), B=(170, 160)), set(), log)
    assert {one.where for one in log.problems} == {"B, weight_kg"}


def test_pounds_in_the_only_trial_are_seen_by_the_body_mass_index():
    log = ReadingLog()
    check_body_sizes(bodies(A=(170, 165)), set(), log)
    (problem,) = log.problems
    assert "body mass index is 57" in problem.what
    fine = ReadingLog()
    check_body_sizes(bodies(A=(170, 110), B=(168, 70)), set(), fine)
    assert fine.problems == []


def test_fewer_than_five_participants_say_nothing_of_a_unit():
    log = ReadingLog()
    few = bodies(C=(67, 165)).head(4)
    check_body_sizes(pd.concat([bodies(A=(170, 75)), few]), set(), log)
    assert log.problems == []


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["1", "", "2"], "there is no participant_id"),
        (["a", "b", "a"], "the participant_id 'a' appears 2 times"),
        (["ab", "AB", "c"], "'ab' differs only in upper and lower case 2 times"),
        (["=1", "2", "3"], "the participant_id '=1' cannot be used"),
        (["../x", "2", "3"], "the participant_id '../x' cannot be used"),
    ],
)
def test_ids_that_cannot_be_used(ids, said):
    problems = Problems("t.csv")
    check_ids(pd.Series(ids, index=[2, 3, 4]), problems, repr)
    assert said in str(problems[0])
    assert "row" in problems[0].where
    withheld = Problems("t.csv")
    check_ids(pd.Series(ids, index=[2, 3, 4]), withheld, lambda _: "(withheld)")
    assert not any(repr(name) in one.what for one in withheld for name in ids if name)


def test_usable_ids_have_no_problem():
    problems = Problems("t.csv")
    check_ids(pd.Series(IDS), problems, repr)
    assert problems == []


def test_carried_cells_are_text_but_signed_numbers_are_numbers():
    text = carried_cells(pd.Series(["II", "", "001", " x "], dtype=object))
    assert text.tolist() == ["II", None, "001", "x"]
    signed = carried_cells(pd.Series(["-1.5", "2", ""], dtype=object))
    np.testing.assert_array_equal(signed, [-1.5, 2.0, np.nan])
    # Text of another meaning stays text, and is escaped where a CSV is written.
    assert carried_cells(pd.Series(["-", "+1"], dtype=object)).tolist() == ["-", "+1"]


def test_columns_named_in_vain_are_problems_and_harmonised_names_are_taken():
    problems = Problems("t.csv")
    rules = {"sex": ColumnRule(name="sex", column="SEX"), "arm": ColumnRule(name="arm", column="T")}
    found = resolve_columns(["participant_id", "SEX", "TRT"], rules, ROSTER_COLUMNS, problems)
    assert {name: rule.column for name, rule in found.items()} == {
        "participant_id": "participant_id",
        "sex": "SEX",
    }
    assert [one.what for one in problems] == ["there is no column 'T' (for arm)"]


def test_a_roster_is_harmonised_and_says_what_it_drops(tmp_path):
    rows = [{**person, "note": "x", "nyha": "II"} for person in people(6)]
    log = ReadingLog()
    found = read_roster(trial(tmp_path, roster(rows), randomised=True, carry=("nyha",)), log)
    assert log.problems == []
    assert list(found.columns) == [*PARTICIPANT_COLUMNS, "nyha"]
    assert found["trial"].unique().tolist() == ["ALPHA"]
    assert set(found["sex"]) == {"male", "female"}
    assert found["nyha"].tolist() == ["II"] * 6
    assert log.notes == ["ALPHA: alpha.csv: 1 further columns are dropped."]


def test_warnings_of_a_roster(tmp_path):
    rows = people(6)
    for person in rows:
        person["arm"] = "active"
    rows[0]["arm"] = ""
    log = ReadingLog()
    facts = {"randomised": True, "n_randomised": 9}
    read_roster(trial(tmp_path, roster(rows), **facts), log)
    assert log.problems == []
    said = "\n".join(log.warnings)
    assert "1 of 6 participants have no arm" in said
    assert "6 rows, but n_randomised is 9" in said
    assert "only one arm (active)" in said


def test_a_randomised_trial_without_arms_is_a_problem(tmp_path):
    rows = [{k: v for k, v in person.items() if k != "arm"} for person in people(4)]
    log = ReadingLog()
    read_roster(trial(tmp_path, roster(rows), randomised=True), log)
    assert any(
        "the trial is randomised, but no column contains the arm" in one.what
        for one in log.problems
    )
    assert not empty_roster(("x",)).select_dtypes("float64").columns.isin(["x"]).any()


def test_measures_are_not_taken_from_the_roster_of_a_cohort_with_images(tmp_path):
    rule = ColumnRule(name="lv_ef_percent", column="LVEF")
    log = ReadingLog()
    read_roster(trial(tmp_path, roster(people(4)), columns={"lv_ef_percent": rule}), log)
    assert any("lv_ef_percent is for a cohort without images" in one.what for one in log.problems)
