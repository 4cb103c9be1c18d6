"""No number across ages where nobody was observed: rows, lines, scores and the document say so."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cardiometa.errors import TableError
from cardiometa.files import canonical_json
from cardiometa.reference.curves.fit import CurveData
from cardiometa.reference.model import NewParticipants, reference_model, score_participants
from cardiometa.reference.options import ReferenceOptions, ScoreOptions
from cardiometa.reference.ranges import reference_ranges
from tests.kit.reference_tables import table

MEASURE = "lv_edvi_ml_m2"


def _frame(low=40.0, high=65.0, n=500, seed=1):
    """Half of the participants on each side of a gap, in two trials."""
    rng = np.random.default_rng(seed)
    age = np.where(np.arange(n) % 2, rng.uniform(20, low, n), rng.uniform(high, 80, n))
    return pd.DataFrame(
        {
            "trial": np.where(rng.random(n) < 0.5, "A", "B"),
            "participant_id": [f"P{i}" for i in range(n)],
            "age_years": age,
            "sex": np.where(rng.random(n) < 0.5, "male", "female"),
            MEASURE: np.exp(4.4 - 0.004 * (age - 50) + rng.normal(0, 0.15, n)),
            "healthy": True,
        }
    )


def _ranges(frame, method="lms", **options):
    chosen = ReferenceOptions(method=method, bootstrap=200, **options)
    return reference_ranges(table(frame), chosen)


@pytest.fixture(scope="module", params=["lms", "linear", "fractional-polynomial", "quantile"])
def found(request):
    return _ranges(_frame(n=1000), request.param)


def test_rows_in_the_gap_have_no_limit_and_say_why(found):
    rows = [row for row in found.rows if row.ethnicity == "all"]
    inside = [row for row in rows if 40 <= row.age <= 65]
    assert {row.age for row in inside} >= {40.0, 50.0, 65.0}
    assert all((row.limit, row.ci_low, row.ci_high) == (None, None, None) for row in inside)
    assert all(row.status == "suppressed" for row in inside)
    assert all("almost no participants between" in row.note for row in inside)
    assert all(row.limit is not None for row in rows if row not in inside)
    assert sum("gap" in warning for warning in found.warnings) == 2  # men and women


def test_the_line_is_broken_and_the_document_has_the_intervals(found):
    for line in found.curve_lines:
        gap = (line.ages > 40) & (line.ages < 65)
        assert np.isnan(line.limits.limit[gap]).all()
        assert np.isfinite(line.limits.limit[(line.ages < 39) | (line.ages > 66)]).all()
    for curve in found.model["curves"]:
        (_, first), (second, _) = curve["observed_ages"]
        assert 30 < first <= 40
        assert 65 <= second < 75
        assert not [age for age in curve["printed"]["ages"] if first < age < second]


def test_no_score_inside_the_gap(found):
    model = reference_model(json.loads(canonical_json(found.model)), "ref.json")
    ages = np.array([30.0, 41.0, 52.0, 64.0, 75.0, 95.0])
    people = NewParticipants(
        sex=np.array(["male"] * 6, dtype=object),
        ethnicity=np.array([""] * 6, dtype=object),
        age_years=ages,
        conventions={},
    )
    options = ScoreOptions(same_conventions=True)
    scores = score_participants(model, MEASURE, np.full(6, 80.0), people, options)
    assert np.isfinite(scores.z).tolist() == [True, False, False, False, True, False]
    assert all("gap of the reference" in note for note in scores.note[1:4])
    assert "age outside the reference" in scores.note[5]
    group = model.distributions(MEASURE, "male", "all")[0]
    assert group.covers(ages).tolist() == [True, False, False, False, True, False]


def _data(age):
    none = np.full(len(age), -1)
    return CurveData(y=np.ones(len(age)), age=np.sort(age), ethnicity=none, trial=none + 1)


RNG = np.random.default_rng(3)


@pytest.mark.parametrize(
    ("age", "intervals"),
    [
        (RNG.uniform(20, 80, 300), 1),
        (np.r_[RNG.uniform(20, 40, 200), RNG.uniform(44.5, 60, 200)], 1),
        (np.r_[RNG.uniform(20, 40, 200), RNG.uniform(46, 60, 200)], 2),
        (np.r_[RNG.uniform(20, 30, 99), RNG.uniform(36, 45, 99), RNG.uniform(60, 70, 99)], 3),
        (np.repeat(np.arange(20.0, 80), 3), 1),  # completed years
        (np.repeat(np.r_[np.arange(20.0, 40), np.arange(46.0, 80)], 3), 2),
        (np.repeat(np.arange(20.0, 80, 5), 9), 1),  # rounded to five years: no gaps
        (np.r_[RNG.uniform(20, 40, 200), 48.0, 55.0], 1),  # two participants support no curve
    ],
    ids=["even", "4.5 years", "6 years", "three", "whole years", "whole gap", "by five", "lonely"],
)
def test_intervals_of_observed_ages(age, intervals):
    found = _data(age).observed_ages()
    assert len(found) == intervals
    assert all(low <= high for low, high in found)
    # No end is a participant's own age, and at least three are beyond each.
    assert all(end == int(end) for ends in found for end in ends)


def test_a_gap_of_one_sex_is_that_of_one_sex():
    frame = _frame()
    men = frame["sex"] == "male"
    frame.loc[men, "age_years"] = np.linspace(20, 80, men.sum())
    rows = [row for row in _ranges(frame).rows if row.age == 50 and row.ethnicity == "all"]
    assert {row.sex: row.limit is not None for row in rows} == {"male": True, "female": False}


def test_a_small_ethnic_group_has_the_gaps_of_all_and_a_large_one_its_own():
    frame = _frame(50.0, 50.0, 900)
    frame["ethnicity"] = "white"
    few = frame.index[:36:2]  # 18 participants over 60 years have gaps by chance
    frame.loc[few, "ethnicity"] = "black"
    many = frame.index[(frame["age_years"] < 35) | (frame["age_years"] > 60)][100:400]
    frame.loc[many.difference(few), "ethnicity"] = "chinese"
    rows = [row for row in _ranges(frame, by=("ethnicity", "age")).rows if row.age == 45]
    given = {row.ethnicity: row.limit is not None for row in rows}
    assert given["white"]
    assert not given["chinese"]
    assert given.get("black", True)


def test_ages_asked_for_inside_a_gap_alone():
    with pytest.raises(TableError, match="no curve has participants"):
        _ranges(_frame(), at_ages=(50.0, 55.0))
