"""Codes, units and bounds: understood, mapped, or refused with each value and its count."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cardiometa.cohort import recode as cells
from cardiometa.cohort.definition import parse_columns
from cardiometa.cohort.models import ColumnRule
from cardiometa.cohort.recode import (
    COLUMN_KINDS,
    as_booleans,
    as_numbers,
    as_text,
    by_value,
    harmonise,
    text_of,
)
from cardiometa.errors import Problems


def column(name, values, **rule):
    series = pd.Series(values, index=range(2, len(values) + 2), dtype=object)
    problems = Problems("t.csv")
    harmonised = harmonise(series, ColumnRule(name=name, column=name.upper(), **rule), problems)
    return harmonised, problems


def test_text_of_cells():
    values = pd.Series(
        [" 001 ", 12.0, 1.5, None, np.nan, True, b"caf\xe9", "7.0", 10**18], dtype=object
    )
    assert list(as_text(values)) == ["001", "12", "1.5", "", "", "true", "café", "7", str(10**18)]


@pytest.mark.parametrize(
    "cell", ["1,5", "1_000", "inf", "nan1", "0x10", "1 2", "<5", "12 kg", "--1"]
)
def test_what_is_no_number(cell):
    numbers, bad = as_numbers(pd.Series([cell, "2"], dtype=object))
    assert list(bad) == [True, False]
    assert np.isnan(numbers.iloc[0])


def test_numbers_and_their_blanks():
    numbers, bad = as_numbers(
        pd.Series([" 1.5 ", "+2", "-3e2", ".5", "4.", "", "NA", "."], dtype=object)
    )
    assert not bad.any()
    np.testing.assert_array_equal(numbers, [1.5, 2, -300, 0.5, 4, np.nan, np.nan, np.nan])


def test_infinite_numbers_are_no_values():
    assert list(as_numbers(pd.Series([np.inf, 1.0]))[1]) == [True, False]


def test_booleans():
    values, bad = as_booleans(pd.Series(["Y", "no", "1", "0.0", "", "maybe", "TRUE"], dtype=object))
    assert list(values) == [True, False, True, False, None, None, True]
    assert list(bad) == [False] * 5 + [True, False]


def test_sex_is_understood_without_a_map():
    values, problems = column("sex", ["M", "f", "Male", "FEMALE", "", "NA"])
    assert list(values) == ["male", "female", "male", "female", None, None]
    assert problems == []


def test_sex_in_numbers_is_never_guessed():
    values, problems = column("sex", ["1", "2", "1", "M", ""])
    assert len(problems) == 1
    assert "'1' (2), '2' (1)" in problems[0].what
    assert list(values) == [None, None, None, "male", None]


def test_a_code_the_map_lacks_is_listed_with_its_count():
    _, problems = column("arm", ["P", "P", "X", "Q", "X", "X", ""], map={"P": "control"})
    assert len(problems) == 1
    assert "'X' (3), 'Q' (1)" in problems[0].what


def test_a_map_may_say_unknown_and_decides_alone():
    values, problems = column("sex", ["1", "9", ""], map={"1": "male", "9": None})
    assert (list(values), problems) == (["male", None, None], [])
    # With a map, M is no longer understood by itself.
    assert column("sex", ["M"], map={"1": "male"})[1]


def test_integral_floats_meet_the_codes_of_a_map():
    values, problems = column("sex", [1.0, 2.0], map={"1": "male", "2": "female"})
    assert (list(values), problems) == (["male", "female"], [])


@pytest.mark.parametrize(
    ("name", "unit", "given", "expected"),
    [
        ("height_cm", "in", 70, 177.8),
        ("height_cm", "ft", 5.5, 167.64),
        ("height_cm", "m", 1.7, 170),
        ("height_cm", None, 170, 170),
        ("weight_kg", "lb", 100, 45.359237),
        ("weight_kg", "g", 70000, 70),
        ("age_years", "months", 600, 50),
        ("age_years", "days", 365.25 * 50, 50),
        ("death_day", "weeks", 2, 14),
    ],
)
def test_units(name, unit, given, expected):
    values, problems = column(name, [given, ""], unit=unit)
    assert problems == []
    assert values.iloc[0] == pytest.approx(expected, rel=1e-12)
    assert np.isnan(values.iloc[1])


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("height_cm", "68", 'unit = "in"'),
        ("height_cm", "1.75", 'unit = "m"'),
        ("height_cm", "5.9", 'unit = "ft"'),
        ("weight_kg", "70000", 'unit = "g"'),
        ("age_years", "700", 'unit = "months"'),
        ("age_years", "-1", "Correct"),
        ("death_day", "-3", "Correct"),
    ],
)
def test_values_no_adult_has_name_the_likely_unit(name, value, hint):
    _, problems = column(name, [value, value])
    assert len(problems) == 1
    assert "rows 2, 3" in problems[0].where
    assert hint in problems[0].fix


def test_one_odd_height_among_good_ones_is_no_unit():
    _, problems = column("height_cm", ["170", "17", "180"])
    assert "row 3" in problems[0].where
    assert "unit" not in problems[0].fix


def test_numbers_with_codes_among_them():
    values, problems = column("age_years", ["50", "999"], map={"999": None})
    assert problems == []
    assert np.isnan(values.iloc[1])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"sexx": "SEX"}, "Did you mean 'sex'"),
        ({"sex": {"column": "S", "maps": {}}}, "Did you mean 'map'"),
        ({"sex": {"map": {}}}, "names no column"),
        ({"sex": 3}, "neither the name"),
        ({"sex": {"column": "S", "map": {"1": "man"}}}, "male, female"),
        ({"healthy": {"column": "S", "map": {"1": "fine"}}}, "true, false"),
        ({"height_cm": {"column": "H", "unit": "inch"}}, "Use cm, m, mm, in, ft"),
        ({"sex": {"column": "S", "unit": "cm"}}, "cannot have a unit"),
        ({"sex": {"column": "S", "scheme": "cdisc"}}, "only ethnicity"),
        ({"ethnicity": {"column": "S", "scheme": "cdsc"}}, "unknown scheme"),
        ({"participant_id": {"column": "S", "map": {"1": "2"}}}, "an id cannot have a map"),
    ],
)
def test_rules_are_checked(raw, message):
    problems = Problems("cohort.toml")
    parse_columns(raw, problems, tuple(COLUMN_KINDS))
    assert len(problems) == 1
    assert message in str(problems[0])


@pytest.mark.parametrize("dtype", [object, "str"])
@pytest.mark.parametrize("odd", [[], ["12.0"], [None, " NA ", ""]])
def test_many_ids_are_read_as_few_are(monkeypatch, dtype, odd):
    ids = pd.Series([*[f" P{i}" if i % 3 else f"00{i}" for i in range(60)], *odd], dtype=dtype)
    few = by_value(ids, text_of)
    rule = ColumnRule(name="participant_id", column="id")
    harmonised = harmonise(ids, rule, Problems("t.csv"))
    monkeypatch.setattr(cells, "_MANY", 5)
    assert by_value(ids, text_of).tolist() == few.tolist()
    assert harmonise(ids, rule, Problems("t.csv")).tolist() == harmonised.tolist()
    assert few[0] == "000"
    if " NA " in odd:
        assert harmonised.tolist()[-3:] == ["", "", ""]
