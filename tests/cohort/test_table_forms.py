"""The same participants in every form that people send: the same frame, and what was found out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cardiometa.cohort.analysis_table import read_analysis_table
from cardiometa.cohort.models import TableFormat, TableOptions
from cardiometa.cohort.read_table import SUFFIXES, read_raw, table_header
from cardiometa.errors import TableError, UsageError
from tests.kit.cohorts import write
from tests.kit.table_files import cells_of, write_table, write_text_table, write_xlsx

DATA = Path(__file__).parent / "data"
BINARY = (".xlsx", ".ods", ".parquet", ".sav", ".dta", ".xpt")


def people(count=24, seed=1):
    """Two trials at two visits, in harmonised names and values, with blanks."""
    draw = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "trial": np.repeat(["ALPHA", "BETA"], count // 2),
            "participant_id": [f"{n // 2:03d}" for n in range(count)],
            "visit": ["BL", "M12"] * (count // 2),
            "arm": np.repeat(["Placebo", "Drug é"], 2).tolist() * (count // 4),
            "age_years": draw.integers(40, 80, count).astype(float),
            "sex": np.repeat(["male", "female"], 2).tolist() * (count // 4),
            "lv_edv_ml": draw.uniform(90, 240, count).round(1),
            "lv_ef_percent": draw.uniform(25, 65, count).round(2),
        }
    )
    rows.loc[[3, 10], "lv_ef_percent"] = np.nan
    rows.loc[[6, 7], "sex"] = None
    return rows


def same(found, rows):
    """The harmonised columns are equal, whatever the order of rows and columns."""

    def cells(table):
        table = table[list(rows.columns)].sort_values(["trial", "participant_id", "visit"])
        return table.astype(object).where(table.notna(), None).to_numpy().tolist()

    assert cells(found) == cells(rows)


@pytest.mark.parametrize("suffix", BINARY)
def test_every_program_gives_the_same(tmp_path, suffix):
    path = write_table(people(), tmp_path / f"t{suffix}")
    table = read_analysis_table(path)
    same(table.rows, people())
    assert table_header(path) == list(people().columns)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"separator": ";", "decimal": ",", "encoding": "utf-8-sig"}, ["byte-order", "semicolon"]),
        ({"separator": ";", "decimal": ",", "encoding": "cp1252"}, ["Windows-1252", "comma in"]),
        ({"separator": "\t", "encoding": "utf-16"}, ["UTF-16", "tab"]),
        ({"separator": "\t", "encoding": "utf-16-le"}, ["UTF-16", "tab"]),
        ({"separator": "|", "newline": "\r\n", "missing": "."}, ["|"]),
        ({"decimal": ",", "missing": "NA"}, ["decimal comma"]),
        ({"newline": "\r", "missing": "missing"}, []),
    ],
)
def test_text_of_every_kind(tmp_path, how, said):
    path = write_text_table(people(), tmp_path / "t.csv", **how)
    table = read_analysis_table(path)
    same(table.rows, people())
    assert all(any(word in line for line in table.warnings) for word in said)
    assert table_header(path) == list(people().columns)
    if not said:
        assert table.warnings == ()


@pytest.mark.parametrize("line", ["sep=;\n", '"sep=;"\n'])
def test_the_line_of_excel_that_names_the_separator(tmp_path, line):
    path = write(tmp_path / "t.csv", f"{line}id;x,y\n1;2\n2;low\n")
    table = read_raw(path)
    assert list(table.rows.columns) == ["id", "x,y"]
    assert list(table.rows.index) == [3, 4]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"separator": ";"}, "a;b,c\n1;2\n"),
        ({"separator": "tab"}, "a\tb,c\n1\t2\n"),
        ({"separator": ":"}, "a:b,c\n1:2\n"),
    ],
)
def test_a_separator_that_is_said_is_taken(tmp_path, options, text):
    table = read_raw(write(tmp_path / "t.csv", text), TableFormat(**options))
    assert list(table.rows.columns) == ["a", "b,c"]


def test_an_encoding_that_is_said_is_taken(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("id,city\n1,Łódź\n".encode("cp1250"))
    assert read_raw(path, TableFormat(encoding="cp1250")).rows["city"].tolist() == ["Łódź"]
    for options in ({"encoding": "klingon"}, {"separator": "::"}):
        with pytest.raises(UsageError):
            TableFormat(**options)


def test_sheets(tmp_path):
    rows, note = cells_of(people()), [["made in 2020"]]
    empty = write_xlsx({"info": [], "Data": rows}, tmp_path / "a.xlsx")
    table = read_analysis_table(empty)
    same(table.rows, people())
    assert any("'Data' is read" in line for line in table.warnings)
    several = write_xlsx({"info": note, "Data": rows}, tmp_path / "b.xlsx")
    with pytest.raises(TableError, match=r"2 sheets: 'info' .*'Data'") as caught:
        read_analysis_table(several)
    assert "--sheet" in caught.value.hint
    same(read_analysis_table(several, TableOptions(sheet="Data")).rows, people())
    with pytest.raises(TableError, match="no sheet 'Daten'"):
        read_analysis_table(several, TableOptions(sheet="Daten"))


@pytest.mark.parametrize("name", ["roster.xls", "roster.sas7bdat"])
def test_old_excel_and_sas_files(name):
    table = read_analysis_table(DATA / name, TableOptions(needed=("trial", "lv_ef_percent")))
    rows = table.rows
    assert rows["participant_id"].tolist() == ["001", "002", "003", "007"]
    assert rows["trial"].tolist() == ["ALPHA", "ALPHA", "BETA", "BETA"]
    assert rows["sex"].tolist() == ["male", "female", "female", "male"]
    assert rows["age_years"].tolist() == [61.0, 48.5, 70.0, 55.0]
    np.testing.assert_array_equal(rows["lv_ef_percent"], [54.5, 61.0, np.nan, 47.25])
    # A spreadsheet's rows are counted with its header, those of a statistics program without.
    assert list(rows.index) == ([2, 3, 4, 5] if name.endswith("xls") else [1, 2, 3, 4])


def test_one_sheet_per_trial(tmp_path):
    head, *rows = cells_of(people())
    parts = {"ALPHA": [head, *rows[:3]], "BETA": [head[::-1], *(row[::-1] for row in rows[3:])]}
    book = write_xlsx(parts, tmp_path / "trials.xlsx")
    with pytest.raises(TableError) as caught:
        read_analysis_table(book)
    assert "--sheet 'ALPHA,BETA' --trial sheet" in caught.value.hint
    table = read_analysis_table(book, TableOptions(sheet="ALPHA, BETA", trial="sheet")).rows
    assert table["trial"].tolist() == ["ALPHA"] * 3 + ["BETA"] * (len(rows) - 3)
    assert list(table.index[[0, 3]]) == ["ALPHA:2", "BETA:2"]
    same(table, people().assign(trial=table["trial"].to_numpy()))
    # Values of one trial must not end up in another's column.
    parts["BETA"][0] = [*parts["BETA"][0][:-1], "other"]
    odd = write_xlsx(parts, tmp_path / "odd.xlsx")
    with pytest.raises(TableError, match=r"'ALPHA' and 'BETA' of .* have different columns"):
        read_raw(odd, TableFormat(sheet="ALPHA,BETA"))


def test_rows_of_a_spreadsheet_have_its_numbers(tmp_path):
    rows = [[], ["id", "LVEF"], ["1", 50.0], [], ["2", "low"]]
    path = write_xlsx({"S": rows}, tmp_path / "t.xlsx")
    with pytest.raises(TableError) as caught:
        read_analysis_table(path)
    assert "row 5: not a number: 'low' (1)" in str(caught.value.problems[0])


@pytest.mark.parametrize("suffix", [".sav", ".dta"])
def test_value_labels_are_used_where_every_value_has_one(tmp_path, suffix):
    frame = pd.DataFrame(
        {"id": ["1", "2", "3"], "SEX": [1.0, 2.0, np.nan], "EF": [50.0, -99.0, 60.0]}
    )
    labels = {"SEX": {1: "Male", 2: "Female"}, "EF": {-99: "not done"}}
    writer = {".sav": pyreadstat.write_sav, ".dta": pyreadstat.write_dta}[suffix]
    writer(frame, str(tmp_path / f"t{suffix}"), variable_value_labels=labels)
    table = read_analysis_table(tmp_path / f"t{suffix}")
    assert table.rows["sex"].tolist() == ["male", "female", None]
    assert table.rows["lv_ef_percent"].tolist() == [50, -99, 60]
    assert any("labels are used for SEX" in line for line in table.warnings)
    assert any("EF keeps its numbers" in line and "not done" in line for line in table.warnings)


def test_missing_values_that_spss_declares_are_missing(tmp_path):
    frame = pd.DataFrame({"id": ["1", "2"], "EF": [50.0, -99.0]})
    path = str(tmp_path / "t.sav")
    pyreadstat.write_sav(frame, path, missing_ranges={"EF": [-99]})
    np.testing.assert_array_equal(
        read_analysis_table(tmp_path / "t.sav").rows["lv_ef_percent"], [50, np.nan]
    )


def test_two_codes_with_one_label_stay_codes(tmp_path):
    frame = pd.DataFrame({"id": ["1", "2"], "site": [1.0, 2.0]})
    labels = {"site": {1: "London", 2: "London"}}
    pyreadstat.write_dta(frame, str(tmp_path / "t.dta"), variable_value_labels=labels)
    assert read_raw(tmp_path / "t.dta").rows["site"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("suffix", "package"),
    [
        (".parquet", "pyarrow"),
        (".xlsx", "python_calamine"),
        (".ods", "python_calamine"),
        (".sav", "pyreadstat"),
        (".xpt", "pyreadstat"),
    ],
)
def test_without_the_extra_the_command_to_install_it_is_said(
    tmp_path, monkeypatch, suffix, package
):
    path = write_table(people(), tmp_path / f"t{suffix}")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(TableError, match=package) as caught:
        read_raw(path)
    assert "pip install 'cardiometa[tables]'" in caught.value.hint
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "suffix", [s for s in SUFFIXES if s not in (".csv", ".tsv", ".tab", ".txt")]
)
def test_a_damaged_file_of_every_kind_is_refused(tmp_path, suffix):
    (tmp_path / f"t{suffix}").write_bytes(b"not what the ending says" * 20)
    with pytest.raises(TableError, match="cannot be read"):
        read_raw(tmp_path / f"t{suffix}")


def test_columns_without_a_name_that_contain_nothing(tmp_path):
    table = read_raw(write(tmp_path / "t.csv", ",id,x,\n1,a,2,\n2,b,3,\n"))
    assert table.rows.to_dict("list") == {"id": ["a", "b"], "x": ["2", "3"]}
    with pytest.raises(TableError, match="cannot be used"):
        read_raw(write(tmp_path / "u.csv", ",id\nx,a\ny,b\n"))


# ------------------------------------------------------------------ everything changed at once

NAMES = {
    "trial": ("Study", "TRIAL", "study_name", "trial"),
    "participant_id": ("PatID", "SUBJID", "record_id", "Subject", "participant_id"),
    "visit": ("Visit", "AVISIT", "redcap_event_name", "visit"),
    "arm": ("Treatment", "TRT01P", "Arm", "arm"),
    "age_years": ("Age", "AGE", "Age (years)", "age_years"),
    "sex": ("Gender", "SEX", "sex"),
    "lv_edv_ml": ("LVEDV", "EDV (ml)", "lvedv_ml"),
    "lv_ef_percent": ("LVEF", "EF", "LVEF (%)", "ejection_fraction"),
}
CODES = (("M", "F"), ("male", "female"), ("MALE", "FEMALE"), ("1", "2"), ("H", "W"))


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_names_forms_codes_marks_and_order_change_nothing(data, tmp_path_factory):
    rows, choose = people(), data.draw
    names = {name: choose(st.sampled_from(forms)) for name, forms in NAMES.items()}
    codes = dict(zip(("male", "female"), choose(st.sampled_from(CODES)), strict=True))
    order = choose(st.permutations(range(len(rows))))
    shown = rows.assign(sex=rows["sex"].map(codes)).iloc[list(order)]
    columns = choose(st.permutations(list(rows.columns)))
    shown = shown[columns].rename(columns=names).reset_index(drop=True)
    folder = tmp_path_factory.mktemp("any")
    suffix = choose(st.sampled_from((".csv", ".csv", ".tsv", ".xlsx", ".parquet", ".sav")))
    if suffix == ".sav":  # its names have no brackets and blanks
        plain_names = {old: "".join(c if c.isalnum() else "_" for c in old) for old in shown}
        shown = shown.rename(columns=plain_names)
    path = folder / f"t{suffix}"
    if suffix == ".csv":
        decimal = choose(st.sampled_from(".,"))
        write_text_table(
            shown,
            path,
            decimal=decimal,
            separator=choose(st.sampled_from(";,\t|")),
            encoding=choose(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "cp1252"))),
            missing=choose(st.sampled_from(("", ".", "NA", "N/A", "NaN", "null", "missing"))),
            newline=choose(st.sampled_from(("\n", "\r\n"))),
        )
    else:
        write_table(shown, path)
    rule = {"column": names["sex"], "map": {code: name for name, code in codes.items()}}
    options = TableOptions() if codes["male"] in ("M", "male", "MALE") else None
    if options is None:
        with pytest.raises(TableError, match="1 problem"):
            read_analysis_table(path)
        options = TableOptions(columns={"sex": rule})
    same(read_analysis_table(path, options).rows, rows)
