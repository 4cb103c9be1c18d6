"""Rows, values and codes as messages show them, and lines to paste that TOML reads back."""

from __future__ import annotations

import tomllib

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiometa.cohort.recode import (
    add_no_number,
    map_text,
    proposed_map,
    quoted,
    rows_text,
    toml_key,
    values_text,
)
from cardiometa.errors import InputError, Problem, Problems, nearest


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        ([7], "row 7"),
        ([3, 7], "rows 3, 7"),
        ([3, 4], "rows 3, 4"),
        ([3, 4, 5], "rows 3-5"),
        ([2, 4, 5, 6, 9], "rows 2, 4-6, 9"),
        (list(range(2, 200)), "rows 2-199"),
        (list(range(2, 42, 2)), "rows 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24 and 8 more"),
        (["A.csv:2", "A.csv:3", "A.csv:4"], "rows A.csv:2, A.csv:3, A.csv:4"),
    ],
)
def test_rows_as_a_spreadsheet_numbers_them(rows, shown):
    assert rows_text(rows) == shown


@given(st.lists(st.integers(2, 400), min_size=2, max_size=60, unique=True).map(sorted))
def test_all_rows_are_shown_or_counted(rows):
    shown = rows_text(rows, most=5)
    parts, _, more = shown.removeprefix("rows ").partition(" and ")
    count = sum(
        int(part.partition("-")[2] or part.partition("-")[0]) - int(part.partition("-")[0]) + 1
        for part in parts.split(", ")
    )
    assert count + int(more.removesuffix(" more") or 0) == len(rows)


def test_values_with_their_counts_whatever_the_order_of_rows():
    values = ["b", "a", "b", 1.0, "1", None, "c"]
    shown = values_text(pd.Series(values, dtype=object))
    assert shown == "'1' (2), 'b' (2), '' (1), 'a' (1), 'c' (1)"
    assert values_text(pd.Series(values[::-1], dtype=object)) == shown
    many = pd.Series([f"v{n:02d}" for n in range(25)], dtype=object)
    assert values_text(many).endswith("'v19' (1) and 5 more values")


@pytest.mark.parametrize(
    ("cells", "fix"),
    [
        (["low", "1"], "Write decimals with a point; leave an unknown value blank."),
        (["1,5", "2"], "Use one decimal sign in the column, and --decimal to say which."),
    ],
)
def test_cells_that_are_no_numbers(cells, fix):
    problems = Problems("t.csv")
    values = pd.Series(cells, index=[2, 3], dtype=object)
    add_no_number(problems, "column 'LVEF'", values, pd.Series([True, False], index=[2, 3]))
    (problem,) = problems
    assert problem.where == "t.csv, column 'LVEF', row 2"
    assert problem.what == f"not a number: {cells[0]!r} (1)"
    assert problem.fix == fix


@given(st.dictionaries(st.text(max_size=9), st.sampled_from(["male", "?", "NA"]), max_size=5))
def test_a_map_to_paste_is_toml(codes):
    assert tomllib.loads(map_text(codes))["map"] == codes


@given(st.text(max_size=9), st.text(max_size=9))
def test_keys_and_texts_are_toml(key, text):
    assert tomllib.loads(f"{toml_key(key)} = {quoted(text)}") == {key: text}


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [
        ("sex", "Frau", "female"),
        ("sex", " MANN ", "male"),
        ("sex", "1", "?"),
        ("sex", "not  stated", "NA"),
        ("ethnicity", "Caucasian", "white"),
        ("ethnicity", "Asian", "asian-unspecified"),
        ("ethnicity", "Han", "chinese"),
        ("ethnicity", "south-asian", "south-asian"),
        ("ethnicity", "martian", "?"),
        ("arm", "male", "?"),
    ],
)
def test_a_proposal_is_of_usual_words_only(name, code, word):
    assert proposed_map(name, [code]) == {code: word}


def test_an_error_lists_its_problems_or_itself():
    first = Problem(where="row 2", what="x", fix="y")
    assert InputError("Bad table.", problems=[first]).listed("t.csv") == (first,)
    alone = InputError("There is no file t.csv.", hint="Check the path.").listed("roster")
    assert alone == (Problem(where="roster", what="There is no file t.csv", fix="Check the path."),)


def test_the_nearest_name_or_all_that_are_known():
    assert nearest("hieght_cm", ["height_cm", "sex"]) == "Did you mean 'height_cm'?"
    assert nearest("xyz", ["height_cm", "sex"]) == "Known are height_cm, sex."
