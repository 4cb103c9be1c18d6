"""Usual names of columns: recognised where one column fits, asked where two do, never ignored."""

from __future__ import annotations

import pytest

from cardiometa.cohort.analysis_table import read_analysis_table
from cardiometa.cohort.infer_columns import NAMES, candidates, measure_of, recognise
from cardiometa.cohort.models import TableOptions
from cardiometa.errors import TableError
from cardiometa.records import SeriousWarning
from tests.kit.cohorts import write


@pytest.mark.parametrize(
    ("column", "name", "unit"),
    [
        ("SUBJID", "participant_id", None),
        ("USUBJID", "participant_id", None),
        ("Patient ID", "participant_id", None),
        ("pat-no.", "participant_id", None),
        ("record_id", "participant_id", None),
        ("Study", "trial", None),
        ("TRIAL_NAME", "trial", None),
        ("TRT01P", "arm", None),
        ("Treatment Group", "arm", None),
        ("redcap_event_name", "visit", None),
        ("AVISIT", "visit", None),
        ("Gender", "sex", None),
        ("RACE", "ethnicity", None),
        ("Age (years)", "age_years", "years"),
        ("age_months", "age_years", "months"),
        ("HT_IN", "height_cm", "in"),
        ("Weight [lbs]", "weight_kg", "lb"),
        ("heightcm", "height_cm", "cm"),
        ("EF", "lv_ef_percent", None),
        ("LVEF (%)", "lv_ef_percent", "percent"),
        ("LVEF%", "lv_ef_percent", "percent"),
        ("lvef_fraction", "lv_ef_percent", "fraction"),
        ("LVEDV (ml)", "lv_edv_ml", "ml"),
        ("LVEDV [L]", "lv_edv_ml", "l"),
        ("LVEDV (mL/m²)", "lv_edvi_ml_m2", None),
        ("LVEDVi", "lv_edvi_ml_m2", None),
        ("LV mass (g/m2)", "lv_massi_g_m2", None),
        ("LV_MASS_G", "lv_mass_g", "g"),
        ("RVEF", "rv_ef_percent", None),
        ("BSA", "bsa_m2", None),
        ("Heart rate (bpm)", "heart_rate_bpm", None),
    ],
)
def test_usual_names(column, name, unit):
    assert candidates(column) == {name: unit}
    assert candidates(column.swapcase()) == {name: unit}


@pytest.mark.parametrize(
    "column",
    ["LVEF change", "EF_M12", "Age group", "site", "x", "LVEDVi (ml)", "LVEF (mm)", "Study arm 2"],
)
def test_names_that_say_something_else(column):
    assert candidates(column) == {}


def test_no_name_means_two_things_but_study_id():
    forms = [form for words in NAMES.values() for form in words]
    assert {form for form in forms if forms.count(form) > 1} == {"studyid"}


@pytest.mark.parametrize(
    ("header", "trial", "participant"),
    [
        (["STUDYID", "USUBJID", "SUBJID"], "STUDYID", "USUBJID"),
        (["Study", "study_id"], "Study", "study_id"),
        (["trial", "study_id"], "trial", "study_id"),
        (["study_id", "record_id"], "study_id", "record_id"),
    ],
)
def test_study_id_is_what_nothing_else_is(header, trial, participant):
    found = recognise(header, {}).rules
    assert (found["trial"].column, found["participant_id"].column) == (trial, participant)
    assert set(recognise(["study_id", "EF"], {}).several) == {"trial", "participant_id"}


@pytest.mark.parametrize(
    ("column", "measure"),
    [
        ("EF_BL", "lv_ef_percent"),
        ("LVEDV M12", "lv_edv_ml"),
        ("baseline_lvef", "lv_ef_percent"),
        ("ef0", "lv_ef_percent"),
        ("change_EF", "change_EF"),
        ("score", "score"),
    ],
)
def test_the_measure_behind_a_name_with_a_visit(column, measure):
    assert measure_of(column) == measure


def own(tmp_path, text, **options):
    return read_analysis_table(write(tmp_path / "t.csv", text), TableOptions(**options))


def test_every_recognition_is_said_and_exact_names_win(tmp_path):
    table = own(tmp_path, "PATIENT,sex,Gender,Age,LVEF\n1,M,x,50,55\n")
    (line,) = [text for text in table.warnings if "by their names" in text]
    assert "participant_id = PATIENT, age_years = Age, lv_ef_percent = LVEF" in line
    assert table.rows["sex"].tolist() == ["male"]
    assert table.columns["lv_ef_percent"] == "LVEF"
    assert table.name_of("LVEF") == "lv_ef_percent"


@pytest.mark.parametrize(
    ("columns", "named", "flags"),
    [
        ("Sex,Gender", "'Sex' and 'Gender'", {"sex": "Sex"}),
        ("Study,Protocol", "'Study' and 'Protocol'", {"trial": "Study"}),
        ("Arm,Treatment", "'Arm' and 'Treatment'", {"arm": "Arm"}),
        ("LVEF,EF", "'LVEF' and 'EF'", {"columns": {"lv_ef_percent": "EF"}}),
    ],
)
def test_two_columns_that_fit_are_a_question(tmp_path, columns, named, flags):
    text = f"id,{columns}\n1,M,M\n2,F,F\n".replace("M,M", "1,1").replace("F,F", "2,2")
    text = text.replace("1,1", "M,M").replace("2,2", "F,F") if "Sex" in columns else text
    with pytest.raises(TableError) as caught:
        own(tmp_path, text)
    (problem,) = caught.value.problems
    assert named in problem.what
    assert all(column in problem.fix for column in columns.split(","))
    own(tmp_path, text, **flags)
    # Where the analysis does not use it, it is only said.
    table = own(tmp_path, text, needed=("participant_id",))
    assert any(named in line for line in table.warnings)


@pytest.mark.parametrize("column", ["Site", "study_centre", "Cohort", "data source"])
def test_a_column_that_looks_like_the_trial_is_never_ignored(tmp_path, column):
    text = f"id,{column},LVEF\n1,A,50\n2,B,60\n"
    table = own(tmp_path, text)
    (warning,) = [w for w in table.warnings if isinstance(w, SeriousWarning)]
    assert repr(column) in warning
    with pytest.raises(TableError) as caught:
        own(tmp_path, text, needed=("trial",))
    (problem,) = caught.value.problems
    assert repr(column) in problem.what
    assert "--single-trial" in problem.fix
    assert own(tmp_path, text, needed=("trial",), trial=column).rows["trial"].tolist() == ["A", "B"]
    alone = own(tmp_path, text, needed=("trial",), single_trial="ALPHA")
    assert alone.rows["trial"].tolist() == ["ALPHA", "ALPHA"]


def test_a_single_trial_contradicts_a_column_of_trials(tmp_path):
    with pytest.raises(TableError, match="1 problem"):
        own(tmp_path, "id,Study\n1,A\n2,B\n", single_trial="A")


@pytest.mark.parametrize("codes", ["1,2", "m,x", "Homme,Femme"])
def test_codes_of_a_column_that_is_not_used(tmp_path, codes):
    one, two = codes.split(",")
    text = f"id,SEX,LVEF\n1,{one},50\n2,{two},60\n3,,55\n"
    with pytest.raises(TableError) as caught:
        own(tmp_path, text, needed=("sex", "lv_ef_percent"))
    assert "map = {" in str(caught.value.problems[0])
    table = own(tmp_path, text, needed=("lv_ef_percent",))
    assert "sex" not in table.rows
    assert any("SEX (sex) is not used" in line for line in table.warnings)
    # A map that is not filled in yet is no reason either.
    rule = {"sex": {"column": "SEX", "map": {one: "?", two: "?"}}}
    assert "sex" not in own(tmp_path, text, needed=("lv_ef_percent",), columns=rule).rows


def test_the_line_to_paste_has_every_code(tmp_path):
    text = "id,RACE\n1,white\n2,Caucasian\n3,Klingon\n4,unknown\n"
    with pytest.raises(TableError) as caught:
        own(tmp_path, text)
    (problem,) = caught.value.problems
    assert 'Caucasian = "white", Klingon = "?", unknown = "NA", white = "white"' in problem.fix


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("LVEF (fraction)", "0.55,0.6", [55, 60]),
        ("LVEDV (L)", "0.15,0.2", [150, 200]),
        ("LV mass (kg)", "0.1,0.2", [100, 200]),
    ],
)
def test_units_in_names_are_applied(tmp_path, column, values, expected):
    one, two = values.split(",")
    table = own(tmp_path, f"id,{column}\n1,{one}\n2,{two}\n")
    (name,) = table.measures
    assert table.rows[name].round(9).tolist() == expected
