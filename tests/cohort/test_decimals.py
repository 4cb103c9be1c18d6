"""Decimal signs: found in the cells, or asked for; never a thousand read as a one."""

from __future__ import annotations

import numpy as np
import pytest

from cardiometa.cohort.analysis_table import read_analysis_table
from cardiometa.cohort.models import TableOptions
from cardiometa.cohort.read_table import read_raw
from cardiometa.errors import TableError
from tests.kit.cohorts import write
from tests.kit.table_files import write_xlsx


def read(folder, cells, other="1", **options):
    """The column ``lv_mass_g`` of a table with semicolons, next to a column of ``other``."""
    rows = "".join(f"{n};{cell};{other}\n" for n, cell in enumerate(cells))
    path = write(folder / "t.csv", f"participant_id;lv_mass_g;x\n{rows}")
    return read_analysis_table(path, TableOptions(**options))


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["289,8", "35,5", ""], [289.8, 35.5, np.nan]),
        (["1.234,5", "12,25", "7"], [1234.5, 12.25, 7]),
        (["0,961", "1,234", "-5,739"], [0.961, 1.234, -5.739]),
        (["1.234.567", "1,5", "."], [1234567, 1.5, np.nan]),
        (["35,5", "NA", "missing"], [35.5, np.nan, np.nan]),
        (["3,5e1", ",5", "12"], [35, 0.5, 12]),
        (["1,234.5", "1,234", "567.8"], [1234.5, 1234, 567.8]),
        (["1,234,567", "1,234", "5"], [1234567, 1234, 5]),
        (["289.8", "35.5", "1.234"], [289.8, 35.5, 1.234]),
        (["1.234", "2.345", "3.456"], [1.234, 2.345, 3.456]),
    ],
)
def test_cells_that_prove_the_sign(tmp_path, cells, numbers):
    table = read(tmp_path, cells)
    np.testing.assert_array_equal(table.rows["lv_mass_g"], numbers)
    said = [line for line in table.warnings if "--decimal" in line]
    assert len(said) == any("," in cell for cell in cells)


@pytest.mark.parametrize("cells", [["1,234"], ["1,234", "999"], ["1,234", "12,345", "n/a"]])
def test_what_may_be_thousands_is_asked(tmp_path, cells):
    with pytest.raises(TableError) as caught:
        read(tmp_path, cells)
    (problem,) = caught.value.problems
    assert "'1,234' may be 1234 or 1.234" in str(problem)
    assert "--decimal" in problem.fix
    values = {".": 1234.0, ",": 1.234}
    for sign, value in values.items():
        assert read(tmp_path, cells, decimal=sign).rows["lv_mass_g"].iloc[0] == value


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        (["36.5", "36,125"], "'36,125' may be 36125 or 36.125"),
        (["35,5", "45.125"], "'45.125' may be 45125 or 45.125"),
        (["567.8", "1,234"], "'1,234' may be 1234 or 1.234"),
    ],
)
def test_a_cell_that_its_column_does_not_explain_is_asked(tmp_path, cells, shown):
    with pytest.raises(TableError) as caught:
        read(tmp_path, cells)
    assert shown in str(caught.value.problems[0])


def test_points_beside_decimal_commas_are_asked(tmp_path):
    """1.234 next to 35,5 in another column is as likely 1234."""
    with pytest.raises(TableError, match="1 problem") as caught:
        read(tmp_path, ["1.234", "2.345"], other="35,5")
    assert "'1.234' may be 1234 or 1.234" in str(caught.value.problems[0])
    assert list(read(tmp_path, ["1.234"], "35,5", decimal=",").rows["lv_mass_g"]) == [1234]
    # Where the column proves its own sign, nothing is asked.
    assert list(read(tmp_path, ["1.234", "2.3"], "35,5").rows["lv_mass_g"]) == [1.234, 2.3]


@pytest.mark.parametrize("cells", [["1,234"], ["35,5", "36.5"], ["low", "35,5"]])
def test_columns_that_are_not_used_are_no_reason_to_refuse(tmp_path, cells):
    table = read(tmp_path, cells, needed=("x",))
    assert "lv_mass_g" not in table.rows
    assert any("lv_mass_g" in line and "not used" in line for line in table.warnings)


def test_two_signs_in_one_column_are_listed_with_all_rows(tmp_path):
    cells = ["35.5", "36,5", *["37.5"] * 40, *["38,5"] * 30]
    with pytest.raises(TableError) as caught:
        read(tmp_path, cells)
    (problem,) = caught.value.problems
    assert "rows 3, 44-73" in problem.where
    assert "'38,5' (30), '36,5' (1)" in problem.what
    assert "--decimal" in problem.fix


def test_ids_and_words_keep_their_signs(tmp_path):
    path = write(
        tmp_path / "t.csv", "PatID;LVEF;note\n1.001;35,5;a 1,5\n1.010;36,5;b\n1.100;37,5;c\n"
    )
    rows = read_analysis_table(path).rows
    assert list(rows["participant_id"]) == ["1.001", "1.010", "1.100"]
    assert list(rows["note"]) == ["a 1,5", "b", "c"]


def test_quoted_numbers_and_text_cells_of_a_spreadsheet(tmp_path):
    path = write(tmp_path / "t.csv", 'id,LVEF,LVEDV\n1,"35,5","150,25"\n2,"36,5",151\n')
    assert list(read_raw(path).rows["LVEF"]) == ["35.5", "36.5"]
    sheet = write_xlsx(
        {"S": [["id", "LVEF"], ["1", "35,5"], ["2", 36.5], ["3", "37,25"]]}, tmp_path / "t.xlsx"
    )
    np.testing.assert_array_equal(
        read_analysis_table(sheet).rows["lv_ef_percent"], [35.5, 36.5, 37.25]
    )
