"""Tables of every kind come as they are; damage is said with its row."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.cohort.read_table import read_any_table
from cardiometa.cohort.recode import LARGEST, as_numbers, as_text
from cardiometa.errors import TableError
from cardiometa.files import csv_text
from tests.kit.cohorts import read_numbers, write

DATA = Path(__file__).parent / "data"


def test_ids_stay_text_and_rows_are_numbered_as_a_spreadsheet_does(tmp_path):
    table = read_any_table(write(tmp_path / "t.csv", "id,x\n001,1.50\n002,\n"))
    assert list(table["id"]) == ["001", "002"]
    assert list(table["x"]) == ["1.50", ""]
    assert list(table.index) == [2, 3]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.tsv", "id\tx\n001\t2\n"),
        ("t.csv", "id;x\n001;2\n"),
        ("t.csv", "id,x\r\n001,2\r\n"),
        ("t.csv", "id,x\r001,2\r"),
        ("t.csv", "\ufeffid,x\n001,2\n"),
        ("t.csv", 'id,x\n"001","2"\n\n,\n'),
        ("t.csv", "id,x\n001,2"),
    ],
)
def test_delimiters_line_ends_marks_and_blank_rows(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode("utf-8"))
    table = read_any_table(tmp_path / name)
    assert table.to_dict("list") == {"id": ["001"], "x": ["2"]}


def test_utf16_of_a_spreadsheet_is_read(tmp_path):
    (tmp_path / "t.tsv").write_bytes("id\tcity\n001\tZürich\n".encode("utf-16"))
    assert list(read_any_table(tmp_path / "t.tsv")["city"]) == ["Zürich"]


def test_quoted_delimiters_and_newlines(tmp_path):
    table = read_any_table(write(tmp_path / "t.csv", 'id,note\n1,"a,b\nc"\n2,d\n'))
    assert list(table["note"]) == ["a,b\nc", "d"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"id,x\n1,2\n1,2,3\n4\n", "row 3"),
        (b'id,x\n"1",2\n"1",2,3\n', "row 3"),
        (b"id,x,x\n1,2,3\n", "'x' appears 2 times"),
        (b"id,,x\n1,2,3\n", "column 2 has no name"),
        (b"id,name\n1,M\x81ller\n", "line 2 contains the byte 0x81"),
        (b"id\x00,x\n", "zero bytes"),
        (b"", "empty"),
    ],
)
def test_damage_is_named(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_bytes(text)
    with pytest.raises(TableError) as caught:
        read_any_table(path)
    assert message in " ".join([str(caught.value), *map(str, caught.value.problems)])


def test_every_ragged_length_is_listed(tmp_path):
    path = write(tmp_path / "t.csv", "a,b\n1,2\n1\n1,2,3\n4,5\n6\n")
    with pytest.raises(TableError) as caught:
        read_any_table(path)
    assert [problem.where for problem in caught.value.problems] == [
        "t.csv, rows 3, 6",
        "t.csv, row 4",
    ]


def test_absent_folder_and_unknown_kinds(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path, write(tmp_path / "t.xlsx", "x")):
        with pytest.raises(TableError):
            read_any_table(path)


def test_parquet_keeps_text_and_codes(tmp_path):
    frame = pd.DataFrame(
        {
            "id": ["001", "002"],
            "arm": pd.Categorical(["a", "b"]),
            "n": [1.0, None],
            "y": [True, False],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_any_table(tmp_path / "t.parquet")
    assert list(as_text(table["id"])) == ["001", "002"]
    assert list(as_text(table["arm"])) == ["a", "b"]
    assert list(as_text(table["n"])) == ["1", ""]
    assert list(as_text(table["y"])) == ["true", "false"]
    assert list(table.index) == [1, 2]


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    write(tmp_path / "t.parquet", "PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TableError, match=r"cardiometa\[tables\]"):
        read_any_table(tmp_path / "t.parquet")


def test_stata_gives_labels_where_there_are_any(tmp_path):
    frame = pd.DataFrame({"id": ["01", "02"], "sex": [1, 2], "age": [50.5, 61.0]})
    frame.to_stata(
        tmp_path / "t.dta", write_index=False, value_labels={"sex": {1: "Male", 2: "Female"}}
    )
    table = read_any_table(tmp_path / "t.dta")
    assert list(as_text(table["sex"])) == ["Male", "Female"]
    assert list(as_text(table["id"])) == ["01", "02"]
    assert list(as_numbers(table["age"])[0]) == [50.5, 61.0]


def test_sas_transport(tmp_path):
    table = read_any_table(DATA / "roster.xpt")
    assert list(table["SUBJID"]) == ["001", "002", "010"]
    assert list(table["SEX"]) == ["M", "F", ""]
    np.testing.assert_array_equal(as_numbers(table["AGE"])[0], [61.5, 47.0, np.nan])


@pytest.mark.parametrize("name", ["t.sas7bdat", "t.xpt", "t.dta", "t.parquet"])
def test_a_damaged_file_is_no_traceback(tmp_path, name):
    (tmp_path / name).write_bytes(b"not what the ending says" * 20)
    with pytest.raises(TableError, match="cannot be read"):
        read_any_table(tmp_path / name)


def test_numeric_columns_come_fast_or_as_text(tmp_path):
    good = write(tmp_path / "a.csv", "id,x,y\n001,0.1,1e-3\n002,NA,\n\n")
    table = read_numbers(good, lambda name: name in "xy")
    assert table["x"].dtype == np.float64
    np.testing.assert_array_equal(table["x"], [0.1, np.nan])
    assert list(table["id"]) == ["001", "002"]
    bad = write(tmp_path / "b.csv", "id,x\n001,0.1\n002,low\n")
    assert list(read_numbers(bad, lambda name: name == "x")["x"]) == ["0.1", "low"]


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(-LARGEST, LARGEST), min_size=1, max_size=20))
def test_numbers_come_back_to_the_bit(values, tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    path = write(folder / "t.csv", csv_text(["id", "x"], [["a", v] for v in values]))
    fast = read_numbers(path, lambda name: name == "x")["x"]
    slow, bad = as_numbers(read_any_table(path)["x"])
    assert not bad.any()
    assert list(fast) == values
    assert list(slow) == values
