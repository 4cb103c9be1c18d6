"""Tables for the statistics commands: OUT of segment, its CSV, or the user's own."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.cohort.analysis_table import read_analysis_table
from cardiometa.cohort.load import load_cohort
from cardiometa.cohort.models import TableOptions
from cardiometa.cohort.tables import build_tables
from cardiometa.errors import TableError
from cardiometa.files import canonical_json, csv_text, sha256_file
from tests.kit.cohorts import cohort_folder, results, write


def own(tmp_path, text, **options):
    return read_analysis_table(write(tmp_path / "t.csv", text), TableOptions(**options))


def problems_of(tmp_path, text, **options):
    with pytest.raises(TableError) as caught:
        own(tmp_path, text, **options)
    return [str(problem) for problem in caught.value.problems]


def out_folder(tmp_path):
    """An OUT as `segment` leaves it, with one failed and one review row a participant."""
    cohort = load_cohort(cohort_folder(tmp_path / "in", visits=("baseline", "m06", "m12")))
    tables = build_tables(cohort, results(cohort, ["ok", "review", "failed"] * 12))
    frame = tables.measurements
    cells = [frame[name].astype(object).tolist() for name in frame.columns]
    out = tmp_path / "out"
    write(out / "measurements.csv", csv_text(list(frame.columns), zip(*cells, strict=True)))
    write(out / "cardiometa.json", canonical_json({"options": {"cohort": cohort.name}}))
    return out, frame


def test_out_of_segment(tmp_path):
    out, frame = out_folder(tmp_path)
    table = read_analysis_table(out)
    assert table.name == "test cohort"
    assert table.sha256 == sha256_file(out / "measurements.csv")
    assert len(table.rows) == 24
    assert len(table.exclusions) == 12
    assert {(e.stage, e.code, e.visit) for e in table.exclusions} == {("scan", "failed", "m12")}
    assert table.conventions["model_id"] == ("m1",)
    assert table.conventions["papillary"] == ("blood-pool",)
    assert table.measures == ("lv_edv_ml",)
    kept = frame[frame["status"] != "failed"].reset_index(drop=True)
    rows = table.rows.reset_index(drop=True)
    for name in ("trial", "participant_id", "visit", "sex", "arm", "status", "randomised"):
        assert rows[name].tolist() == kept[name].tolist(), name
    for name in ("lv_edv_ml", "age_years", "height_cm", "frames"):
        np.testing.assert_array_equal(rows[name].astype(float), kept[name].astype(float))
    same = read_analysis_table(out / "measurements.csv")
    pd.testing.assert_frame_equal(same.rows, table.rows)
    assert same.name == "measurements"


def test_standard_deviations_of_errors_are_numbers_and_no_measures(tmp_path):
    out, _ = out_folder(tmp_path)
    path = out / "measurements.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame["lv_edv_ml_sd"] = ["", *map(str, range(1, len(frame)))]
    write(path, csv_text(list(frame.columns), frame.to_numpy().tolist()))
    table = read_analysis_table(out)
    assert table.measures == ("lv_edv_ml",)
    assert table.rows["lv_edv_ml_sd"].dtype == float
    assert table.columns == {}  # taken for no other column
    # In a table of one's own too.
    mine = own(tmp_path, "id,sex,LVEF,lv_ef_percent_sd\n1,male,55,3\n2,female,60,4\n")
    assert mine.measures == ("lv_ef_percent",)
    assert mine.columns["lv_ef_percent"] == "LVEF"


def test_status_ok_leaves_review_rows_out(tmp_path):
    out, _ = out_folder(tmp_path)
    table = read_analysis_table(out, TableOptions(status="ok"))
    assert len(table.rows) == 12
    assert {e.code for e in table.exclusions} == {"failed", "review"}
    assert len(table.exclusions) == 24


def test_a_table_of_ones_own(tmp_path):
    table = own(
        tmp_path,
        "ID,AGE,SEX,GRP,EDV\n001,50,M,a,150\n002,61.5,F,b,\n",
        participant="ID",
        age="AGE",
        sex="SEX",
        arm="GRP",
        columns={"lv_edv_ml": "EDV"},
    )
    rows = table.rows
    assert rows["trial"].tolist() == ["all", "all"]
    assert rows["participant_id"].tolist() == ["001", "002"]
    assert rows["sex"].tolist() == ["male", "female"]
    assert rows["status"].tolist() == ["ok", "ok"]
    assert list(rows.index) == [2, 3]
    assert table.measures == ("lv_edv_ml",)
    np.testing.assert_array_equal(rows["lv_edv_ml"], [150, np.nan])
    assert "randomised" not in rows
    assert "healthy" not in rows
    assert table.conventions == {}


def test_config_maps_codes_and_flags_win(tmp_path):
    columns = {
        "sex": {"column": "S", "map": {"1": "male", "2": "female"}},
        "age_years": {"column": "A", "unit": "months"},
        "arm": "OLD",
        "ethnicity": {"column": "R", "scheme": "cdisc"},
        "healthy": {"column": "H", "map": {"patient": False, "control": True}},
    }
    text = "participant_id,S,A,NEW,R,H\n1,1,600,x,ASIAN,control\n2,2,660,y,WHITE,patient\n"
    rows = own(tmp_path, text, columns=columns, arm="NEW").rows
    assert rows["sex"].tolist() == ["male", "female"]
    assert rows["age_years"].tolist() == [50.0, 55.0]
    assert rows["arm"].tolist() == ["x", "y"]
    assert rows["ethnicity"].tolist() == ["asian-unspecified", "white"]
    assert rows["healthy"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("participant_id,sex\n1,1\n2,2\n", "'1' (1), '2' (1)"),
        ("participant_id,lv_edv_ml\n1,150\n2,low\n", "row 3: not a number: 'low' (1)"),
        ("participant_id,lv_edv_ml\n1,inf\n", "not a number"),
        ("participant_id,age_years\n1,-4\n", "age_years is outside"),
        ("participant_id,healthy\n1,perhaps\n", "'perhaps' (1)"),
        ("participant_id,ethnicity\n1,Caucasian\n", "'Caucasian' (1)"),
        ("participant_id,visit\n1,a\n2,a\n1,a\n", "rows 2, 4: one participant has 2 rows"),
        ("trial,participant_id,x\n,1,2\nA,2,2\n", "row 2: there is no trial"),
        ("participant_id,x\n1,3\nNA,3\n", "row 3: there is no participant_id"),
        ("visit,x\na,1\nb,2\n", "no column contains the participant_id"),
        ("participant_id,status\n1,ok\n2,odd\n", "unknown 'odd' (1)"),
        ("participant_id,reported_lv_edv_ml\n1,x\n", "not a number: 'x' (1)"),
    ],
)
def test_faults_of_a_table(tmp_path, text, message):
    problems = problems_of(tmp_path, text)
    assert len(problems) == 1
    assert message in problems[0]


def test_columns_asked_for_must_be_there(tmp_path):
    text = "participant_id,sbp\n1,120\n2,high\n"
    (problem,) = problems_of(tmp_path, text, numeric=("sbp",))
    assert "row 3: not a number: 'high' (1)" in problem
    assert any("'sbp'" in p for p in problems_of(tmp_path, text, numeric=("spb",)))
    (problem,) = problems_of(tmp_path, text, age="AGE")
    assert "no column 'AGE'" in problem
    (problem,) = problems_of(tmp_path, text, columns={"sexx": "S"})
    assert "Did you mean 'sex'" in problem
    good = own(tmp_path, "participant_id,sbp\n1,120\n2,\n", numeric=("sbp",))
    np.testing.assert_array_equal(good.rows["sbp"], [120, np.nan])


def test_everything_wrong_is_said_at_once(tmp_path):
    text = "participant_id,sex,lv_edv_ml,visit\n1,9,low,a\n1,M,150,a\n"
    assert len(problems_of(tmp_path, text)) == 3


def test_several_rows_of_a_person_without_visits_are_for_the_command(tmp_path):
    assert len(own(tmp_path, "participant_id,x\n1,1\n1,2\n").rows) == 2


def test_unnamed_visits_are_told_by_their_day(tmp_path):
    assert len(own(tmp_path, "participant_id,visit,visit_day\n1,,1\n1,,30\n").rows) == 2
    text = "participant_id,visit,visit_day\n1,,1\n1,,1\n"
    assert "2 rows of one visit" in problems_of(tmp_path, text)[0]


def test_one_participant_id_in_two_trials_is_two_people(tmp_path):
    text = "trial,participant_id,visit\nA,1,v\nB,1,v\n"
    assert len(own(tmp_path, text).rows) == 2


def test_without_participants_each_row_is_one_person(tmp_path):
    table = own(tmp_path, "age,lv_edv_ml\n50,150\n60,160\n")
    assert table.rows["participant_id"].tolist() == ["2", "3"]
    assert any("each row is taken as one participant" in w for w in table.warnings)
    assert table.rows["age_years"].tolist() == [50, 60]
    assert any("age_years = age" in notice for notice in table.warnings)


def test_a_status_of_the_users_own_is_left_alone(tmp_path):
    table = own(tmp_path, "participant_id,status\n1,alive\n2,dead\n")
    assert table.rows["status"].tolist() == ["ok", "ok"]
    assert table.rows["status_of_table"].tolist() == ["alive", "dead"]
    assert any("'alive'" in w for w in table.warnings)


def test_text_escaped_for_spreadsheets_comes_back(tmp_path):
    table = own(tmp_path, csv_text(["participant_id", "arm"], [["1", "+drug"], ["2", "'quoted"]]))
    assert table.rows["arm"].tolist() == ["+drug", "'quoted"]


def test_other_columns_stay_as_they_are(tmp_path):
    rows = own(tmp_path, "participant_id,nyha,site\n1,02,\n2,01,b\n").rows
    assert rows["nyha"].tolist() == ["02", "01"]
    assert pd.isna(rows["site"].iloc[0])


def test_stata_and_parquet_give_what_csv_gives(tmp_path):
    frame = pd.DataFrame(
        {"participant_id": ["01", "02"], "sex": ["M", "F"], "lv_edv_ml": [150.5, 161.25]}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_stata(tmp_path / "t.dta", write_index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    tables = [read_analysis_table(tmp_path / f"t.{k}").rows for k in ("csv", "dta", "parquet")]
    for rows in tables[1:]:
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), tables[0].reset_index(drop=True))


def test_empty_tables_and_folders(tmp_path):
    with pytest.raises(TableError, match="no rows"):
        own(tmp_path, "participant_id,sex\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match=r"no measurements\.csv"):
        read_analysis_table(tmp_path / "empty")


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(12)), data=st.data())
def test_the_order_of_rows_decides_nothing(order, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("order")
    statuses = data.draw(
        st.lists(st.sampled_from(["ok", "review", "failed"]), min_size=12, max_size=12)
    )
    lines = [f"{n // 2},v{n % 2},{s},{100 + n}" for n, s in enumerate(statuses)]
    head = "participant_id,visit,status,lv_edv_ml\n"
    one = own(folder, head + "\n".join(lines))
    two = own(folder, head + "\n".join(lines[n] for n in order))

    def plain(table):
        return table.rows.sort_values(["participant_id", "visit"], ignore_index=True)

    pd.testing.assert_frame_equal(plain(one), plain(two))
    assert sorted(map(repr, one.exclusions)) == sorted(map(repr, two.exclusions))
    assert len(one.rows) + len(one.exclusions) == 12


def test_reading_a_table_imports_no_images_and_no_network(tmp_path):
    path = write(tmp_path / "t.csv", "participant_id,sex,lv_edv_ml\n1,M,150\n")
    code = (
        "import sys, pathlib\n"
        "for name in ('torch', 'pydicom', 'nibabel'): sys.modules[name] = None\n"
        "from cardiometa.cohort.analysis_table import read_analysis_table\n"
        "import cardiometa.cohort.load, cardiometa.cohort.tables, cardiometa.cohort.load\n"
        f"print(len(read_analysis_table(pathlib.Path({str(path)!r})).rows))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "1\n", done.stderr


@pytest.mark.parametrize(("state", "way"), [("running", "segment"), ("shards", "merge")])
def test_the_table_of_an_output_that_is_not_finished_is_refused(tmp_path, state, way):
    (tmp_path / "measurements.csv").write_text("trial,participant_id,lv_edv_ml\nA,1,150\n")
    record = {"options": {"cohort": "c"}, "run": {"state": state}}
    (tmp_path / "cardiometa.json").write_text(json.dumps(record))
    with pytest.raises(TableError, match="is not finished") as caught:
        read_analysis_table(tmp_path)
    assert way in caught.value.hint
    record["run"]["state"] = "complete"
    (tmp_path / "cardiometa.json").write_text(json.dumps(record))
    assert read_analysis_table(tmp_path).name == "c"
