"""Several tables, one per trial; a cohort.toml without images; a first --config."""

from __future__ import annotations

import tomllib

import pytest
from typer.testing import CliRunner

from cardiometa.api import read_table
from cardiometa.cli.main import app
from cardiometa.cohort.analysis_table import read_analysis_table
from cardiometa.cohort.init import first_config
from cardiometa.cohort.models import TableOptions
from cardiometa.errors import TableError, UsageError
from tests.kit.cohorts import write

ROWS = "id,Sex,Arm,LVEF\n1,M,a,50\n2,F,b,55\n"


def files(folder, **texts):
    return [write(folder / f"{name}.csv", text) for name, text in texts.items()]


@pytest.mark.parametrize(
    ("other", "trials"),
    [
        (ROWS, ["ALPHA", "ALPHA", "BETA", "BETA"]),
        ("Study,PatID,Gender,Arm,EF (%)\nX,1,F,a,50\nY,2,F,b,55\n", ["ALPHA", "ALPHA", "X", "Y"]),
        ("Subject;SEX;Arm;LVEF\n1;F;a;50,5\n2;M;b;55,5\n", ["ALPHA", "ALPHA", "BETA", "BETA"]),
    ],
)
def test_the_files_name_is_the_trial_where_no_column_says_it(tmp_path, other, trials):
    table = read_analysis_table(
        files(tmp_path, ALPHA=ROWS, BETA=other), TableOptions(needed=("trial", "lv_ef_percent"))
    )
    assert table.rows["trial"].tolist() == trials
    assert table.rows["lv_ef_percent"].between(50, 56).all()
    assert list(table.rows.index) == ["ALPHA.csv:2", "ALPHA.csv:3", "BETA.csv:2", "BETA.csv:3"]
    assert any("the trial is the file's name, ALPHA" in line for line in table.warnings)


def test_the_python_functions_take_several_paths(tmp_path):
    rows = read_table(files(tmp_path, ALPHA=ROWS, BETA=ROWS))
    assert rows["trial"].tolist() == ["ALPHA", "ALPHA", "BETA", "BETA"]


def test_the_order_of_the_files_decides_nothing_but_the_order_of_rows(tmp_path):
    one, two = files(tmp_path, ALPHA=ROWS, BETA=ROWS)
    assert read_analysis_table([one, two]).sha256 == read_analysis_table([two, one]).sha256
    assert read_analysis_table([one]).sha256 != read_analysis_table([one, two]).sha256


def test_problems_of_all_files_are_listed_with_their_rows(tmp_path):
    paths = files(tmp_path, A=ROWS.replace("50", "low"), B="a,b\n1\n", C=ROWS.replace(",F,", ",x,"))
    with pytest.raises(TableError) as caught:
        read_analysis_table(paths)
    shown = "\n".join(map(str, caught.value.problems))
    assert "A.csv, column 'LVEF' (lv_ef_percent), row 2: not a number: 'low' (1)" in shown
    assert "B.csv, row 2: 1 cells, but the header has 2" in shown
    assert "C.csv, column 'Sex' (sex): nothing says what this means: 'x' (1)" in shown


def test_what_cannot_be_several_tables(tmp_path):
    (tmp_path / "sub").mkdir()
    one, two = write(tmp_path / "a.csv", ROWS), write(tmp_path / "sub/a.csv", ROWS)
    with pytest.raises(UsageError, match="Several tables are named a"):
        read_analysis_table([one, two])
    with pytest.raises(TableError, match="sub cannot be read together"):
        read_analysis_table([one, tmp_path / "sub"])


# ------------------------------------------------------------------ cohort.toml without images

DEFINED = """\
name = "c"
[trials.ALPHA]
participants = "a.csv"
randomised = true
healthy_rule = "no CVD"
[trials.ALPHA.columns]
sex = { column = "S", map = { 1 = "male", 2 = "female" } }
lv_ef_percent = { column = "frac", unit = "fraction" }
[trials.BETA]
participants = "b.xlsx.csv"
randomised = false
[trials.BETA.columns]
sex = { column = "S", map = { 1 = "female", 2 = "male" } }
"""


def definition(folder, text=DEFINED):
    write(folder / "a.csv", "PatID,S,Arm,frac\n1,1,x,0.5\n2,2,y,0.6\n")
    write(folder / "b.xlsx.csv", "PatID,S,LVEF\n1,1,50\n2,2,60\n")
    return write(folder / "cohort.toml", text)


def test_each_trials_own_columns_codes_and_units(tmp_path):
    table = read_analysis_table(definition(tmp_path))
    assert table.name == "c"
    assert table.healthy_rule == "ALPHA: no CVD"
    rows = table.rows
    assert rows["trial"].tolist() == ["ALPHA", "ALPHA", "BETA", "BETA"]
    assert rows["sex"].tolist() == ["male", "female", "female", "male"]
    assert rows["lv_ef_percent"].tolist() == [50, 60, 50, 60]
    assert rows["randomised"].tolist() == [True, True, False, False]
    before = table.sha256
    changed = read_analysis_table(definition(tmp_path, DEFINED.replace("0.5", "0.5 ")))
    assert changed.sha256 == before
    changed = read_analysis_table(definition(tmp_path, DEFINED.replace('"no CVD"', '"none"')))
    assert changed.sha256 != before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('participants = "a.csv"', 'participants = "a.csv"\nscans = "s.csv"', "with images"),
        ('column = "S", map = { 1 = "male"', 'column = "S", map = { 1 = "man"', "cannot be used"),
        ('"a.csv"', '"none.csv"', "none.csv"),
        ('column = "frac"', 'column = "fraction"', "1 problem"),
    ],
)
def test_definitions_that_cannot_be_read(tmp_path, old, new, message):
    assert old in DEFINED
    with pytest.raises(TableError) as caught:
        read_analysis_table(definition(tmp_path, DEFINED.replace(old, new, 1)))
    assert message in " ".join([str(caught.value), *map(str, caught.value.problems)])


def test_a_defined_trial_is_one_trial(tmp_path):
    path = definition(tmp_path)
    write(tmp_path / "b.xlsx.csv", "PatID,S,Study\n1,1,X\n2,2,Y\n")
    with pytest.raises(TableError) as caught:
        read_analysis_table(path)
    assert "has 2 trials in 'Study'" in str(caught.value.problems[0])


# ------------------------------------------------------------------ init


def test_a_first_config_reads_its_table(tmp_path):
    text = (
        "Study;PatID;Visit;Treatment;SEX;HT;LVEF\n"
        + "".join(f"A;{n};BL;Placebo;M;70,{n};35,{n}\n" for n in range(1, 9))
        + "A;9;BL;Drug;F;69,5;-99\nB;1;V2;Drug;M;71,5;36,5\n"
    )
    path = write(tmp_path / "t.csv", text)
    config = tomllib.loads(first_config([path], tmp_path / "c.toml"))
    assert config["missing"] == "-99"
    table = read_analysis_table(
        path, TableOptions(columns=config["columns"], missing=("-99",), needed=("trial", "sex"))
    )
    assert set(table.rows["arm"]) == {"control", "Drug"}
    assert set(table.rows["visit"]) == {"baseline", "V2"}
    assert table.rows["height_cm"].between(170, 190).all()


def test_a_first_config_asks_for_what_it_cannot_know(tmp_path):
    text = 'id,Sex,Gender,RACE,score,mass\n1,a,M,1,5,"1,234"\n2,b,F,2,6,"2,345"\n'
    path = write(tmp_path / "t.csv", text)
    written = first_config([path])
    assert '# sex = "Sex" or "Gender"  # which one?' in written
    assert 'map = { 1 = "?", 2 = "?" }' in written
    assert 'under their own names: "Sex", "Gender", "score", "mass"' in written
    assert "# 'mass': '1,234' is unclear" in written
    assert "reference-ranges" in written
    tomllib.loads(written)


def test_the_first_refusal_of_ranges_says_all_that_the_second_command_needs(tmp_path):
    rows = "".join(f"{n},{'MF'[n % 2]},{30 + n % 40},Han Chinese,{120 + n}\n" for n in range(90))
    path = write(tmp_path / "t.csv", f"Patient ID,Gender,Age (years),Ethnicity,LVEDV (ml)\n{rows}")
    done = CliRunner().invoke(app, ["reference-ranges", str(path), "--out", str(tmp_path / "o")])
    assert done.exit_code == 3
    for said in ("2 problems", "--healthy-rule", "--by sex,age", "init t.csv", '= "chinese"'):
        assert said in done.stderr
    assert not (tmp_path / "o").exists()
    config = tomllib.loads(first_config([path]))
    table = read_analysis_table(path, TableOptions(columns=config["columns"]))
    assert set(table.rows["ethnicity"]) == {"chinese"}


@pytest.mark.parametrize("column", ["Quelle", "Krankenhaus", "batch"])
def test_a_column_of_any_name_that_may_be_the_trial_is_named(tmp_path, column):
    rows = "".join(
        f"{n},{'XY'[n // 40]}1,{'ab'[n % 2]},{40 + n % 17},{45 + n % 13},{n % 3}\n"
        for n in range(80)
    )
    path = write(tmp_path / "t.csv", f"id,{column},Arm,EF_BL,EF_M12,nyha\n{rows}")
    words = ["--out", str(tmp_path / "o"), "--outcome", "EF_M12", "--baseline", "EF_BL"]
    done = CliRunner().invoke(app, ["pool-trials", str(path), *words, "--control", "a"])
    assert done.exit_code == 3
    assert f"Columns that may: '{column}' (X1 40, Y1 40)" in done.stderr
    assert f"--trial {column}" in done.stderr


def test_a_first_definition_of_several_tables(tmp_path):
    paths = files(tmp_path, ALPHA=ROWS, BETA="Study,PatID,EF\nX,1,50\nX,2,55\n")
    path = write(tmp_path / "cohort.toml", first_config(paths, tmp_path / "cohort.toml"))
    rows = read_analysis_table(path).rows
    assert rows["trial"].tolist() == ["ALPHA", "ALPHA", "BETA", "BETA"]
    assert rows["randomised"].tolist() == [True, True, False, False]
    assert rows["lv_ef_percent"].tolist() == [50, 55, 50, 55]
