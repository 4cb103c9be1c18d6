"""The table that papers print, as CSV and as a page for a word processor."""

from __future__ import annotations

import csv
import io

import pytest

import cardiometa
from cardiometa.errors import TableError
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.ranges import reference_ranges
from cardiometa.reports.pages.reference import paper_table_csv, paper_table_html
from cardiometa.statistics.robust import dixon_extremes
from tests.kit.reference_tables import people_frame, table
from tests.kit.report_page import assert_self_contained

OPTIONS = ReferenceOptions(bootstrap=200, measures=("lv_edv_ml",))


@pytest.fixture(scope="module")
def result():
    return reference_ranges(table(people_frame(700)), OPTIONS)


def test_every_range_of_the_table_is_one_of_the_limits(result):
    rows = list(csv.DictReader(io.StringIO(paper_table_csv(result))))
    assert {row["method"] for row in rows} == {"strata", "lms"}
    bands = [row for row in rows if row["method"] == "strata"]
    assert len(bands) == 2 * 6
    first = bands[0]
    assert (first["sex"], first["age"]) == ("male", "18–29")
    # Four trials: fixed effects, and one kind of curve.
    limits = {
        (r.sex, r.ethnicity, r.age, r.centile): r.limit for r in result.rows if r.method == "lms"
    }
    for row in rows:
        if row["method"] == "lms" and row["all"]:
            low, high = row["all"].split("–")
            key = (row["sex"], "all", float(row["age"]))
            assert float(low) == pytest.approx(limits[*key, 2.5], abs=0.5)
            assert float(high) == pytest.approx(limits[*key, 97.5], abs=0.5)


def test_limits_of_few_people_and_kinds_are_marked_on_the_page(result):
    text = assert_self_contained(paper_table_html(result)).text
    small = [r for r in result.rows if r.status == "small-n" and r.limit is not None]
    assert small
    assert "†" in text
    assert "fewer than 120 participants: robust limits (Horn) with a bootstrap interval" in text
    assert "average of these trials" in text or "average trial" in text
    assert "Limits by ethnicity are provisional" in text
    assert "in brackets" not in text
    assert "§" not in text


def test_no_count_of_a_few_is_told(result):
    for row in csv.DictReader(io.StringIO(paper_table_csv(result))):
        for name, cell in row.items():
            if name.endswith("_n") and cell.isdigit():
                assert int(cell) >= 10


def test_page_stands_alone(result):
    html = paper_table_html(result)
    page = assert_self_contained(html)
    assert page.text.count("Men") == 2
    assert "Lower–upper limit (n)" in page.text
    assert "blood-pool" in page.text


def test_litres_are_refused():
    frame = people_frame(300)
    frame.loc[frame["trial"] == "BETA", "lv_edv_ml"] /= 1000
    with pytest.raises(TableError, match="cannot be used") as caught:
        cardiometa.reference_ranges(frame, method="strata")
    assert "BETA" in str(caught.value.problems[0])
    assert "litres" in str(caught.value.problems[0])


@pytest.mark.parametrize(
    ("values", "apart"),
    [
        ([1, 2, 3, 4, 5], (False, False)),
        ([1, 2, 3, 4, 9], (False, True)),
        ([-9, 2, 3, 4, 5], (True, False)),
        ([3, 3, 3], (False, False)),
        ([3, 4], (False, False)),
    ],
)
def test_dixon(values, apart):
    assert dixon_extremes(values) == apart
