"""A cohort from its toml: rosters, scans and their problems; order of rows decides nothing."""

from __future__ import annotations

import random
import shutil

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.cohort.load import draft_cohort, load_cohort
from cardiometa.cohort.models import PARTICIPANT_COLUMNS, CohortOptions
from cardiometa.errors import CohortError, UsageError
from cardiometa.records import ScanKey, ScanSource
from tests.kit.cohorts import PAIR, cohort_folder, pairs, people, roster, trial_toml, write
from tests.kit.data import shared_data


def problems_of(path, **options):
    with pytest.raises(CohortError) as caught:
        load_cohort(path, CohortOptions(**options))
    return [str(problem) for problem in caught.value.problems]


def one_problem(path, **options):
    problems = problems_of(path, **options)
    assert len(problems) == 1, problems
    return problems[0]


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_whole_cohort(tmp_path):
    cohort = load_cohort(cohort_folder(tmp_path))
    assert tuple(cohort.participants.columns) == PARTICIPANT_COLUMNS
    assert len(cohort.participants) == 12
    assert len(cohort.scans) == 24
    first = cohort.scans[0]
    assert first.key == ScanKey(trial="ALPHA", participant="001", visit="baseline")
    assert first.source == ScanSource(
        kind="ed-es",
        paths=tuple(tmp_path / f"ALPHA/images/001_baseline_{p}.nii.gz" for p in ("ED", "ES")),
    )
    row = cohort.participants.iloc[0]
    assert (row["participant_id"], row["sex"], row["height_cm"]) == ("001", "female", 166.0)
    assert row["randomised"] is True
    assert row["ethnicity"] is None
    assert set(cohort.input_sha256) == {
        "cohort.toml",
        *(f"{t}.{k}" for t in ("ALPHA", "BETA") for k in ("participants", "scans")),
    }


def test_a_folder_with_a_definition_is_that_definition(tmp_path):
    path = cohort_folder(tmp_path)
    assert load_cohort(tmp_path).name == load_cohort(path).name == "test cohort"


def test_carried_columns_go_on_and_the_others_are_counted(tmp_path):
    path = cohort_folder(tmp_path, trials=("ALPHA", "BETA"))
    edit(path, "randomised = true\n", 'randomised = true\ncarry = ["nyha", "shift"]\n')
    write(
        tmp_path / "ALPHA/participants.csv",
        roster([{**p, "nyha": "02", "shift": -3.5, "junk": 1, "more": 2} for p in people(6)]),
    )
    cohort = load_cohort(path)
    rows = cohort.participants
    assert cohort.carried == ("nyha", "shift")
    assert rows.loc[rows["trial"].eq("ALPHA"), "nyha"].tolist() == ["02"] * 6
    assert rows.loc[rows["trial"].eq("ALPHA"), "shift"].tolist() == [-3.5] * 6
    assert rows.loc[rows["trial"].eq("BETA"), "nyha"].tolist() == [None] * 6
    assert any("2 further columns are dropped" in note for note in cohort.notes)


def test_mapped_names_and_units(tmp_path):
    path = cohort_folder(tmp_path, trials=("ALPHA",))
    persons = [
        {"SUBJ": f"{n:03}", "HT": 70, "S": n % 2, "TRT": "AB"[n % 2], "AGEM": 600}
        for n in range(1, 7)
    ]
    write(tmp_path / "ALPHA/participants.csv", roster(persons))
    text = """
[trials.ALPHA.columns]
participant_id = "SUBJ"
height_cm = { column = "HT", unit = "in" }
age_years = { column = "AGEM", unit = "months" }
sex = { column = "S", map = { 0 = "male", 1 = "female" } }
arm = { column = "TRT", map = { A = "control", B = "active" } }
"""
    text = path.read_text() + text
    rows = load_cohort(write(path, text)).participants
    assert set(rows["height_cm"]) == {177.8}
    assert set(rows["age_years"]) == {50.0}
    assert rows["sex"].tolist() == ["female", "male"] * 3
    assert rows["arm"].tolist() == ["active", "control"] * 3


# ------------------------------------------------------------------ rosters


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n002,", "\n001,", "rows 2, 3: the participant_id '001' appears 2 times"),
        ("\n002,", "\n,", "row 3: there is no participant_id"),
        ("\n002,", "\n=1+1,", "formula"),
        ("\n002,", "\n../x,", "folder"),
        ("\n002,", "\n-5,", "formula"),
        (",41,", ",-41,", "age_years is outside"),
        (",41,", ",old,", "not a number: 'old' (1)"),
        (",F,", ",X,", "'X' (1)"),
        (",166,", ",1.66,", "height_cm is outside"),
    ],
)
def test_faults_of_a_roster(tmp_path, old, new, message):
    path = cohort_folder(tmp_path, trials=("ALPHA",))
    # No scans, so that only the roster can be wrong.
    write(tmp_path / "ALPHA/scans.csv", PAIR + "\n")
    edit(tmp_path / "ALPHA/participants.csv", old, new)
    assert message in one_problem(path)


def test_ids_that_differ_in_case_alone_are_one_folder_on_some_systems(tmp_path):
    path = cohort_folder(tmp_path, trials=("ALPHA",))
    write(tmp_path / "ALPHA/scans.csv", PAIR + "\n")
    persons = [{**p, "participant_id": i} for p, i in zip(people(2), ("a1", "A1"), strict=True)]
    write(tmp_path / "ALPHA/participants.csv", roster(persons))
    assert "upper and lower case" in one_problem(path)


def test_a_randomised_trial_needs_arms(tmp_path):
    path = cohort_folder(tmp_path, trials=("ALPHA",))
    persons = [{k: v for k, v in p.items() if k != "arm"} for p in people(6)]
    write(tmp_path / "ALPHA/participants.csv", roster(persons))
    assert "no column contains the arm" in one_problem(path)
    edit(path, "randomised = true", "randomised = false")
    assert load_cohort(path).participants["arm"].tolist() == [None] * 6


def test_pounds_as_kilograms_are_found(tmp_path):
    path = cohort_folder(tmp_path)
    heavy = [{**p, "weight_kg": round(float(str(p["weight_kg"])) * 2.2)} for p in people(6)]
    write(tmp_path / "BETA/participants.csv", roster(heavy))
    assert 'unit = "lb"' in one_problem(path)
    # A declared unit is believed, with a warning.
    text = (
        path.read_text()
        + '[trials.BETA.columns]\nweight_kg = { column = "weight_kg", unit = "kg" }'
    )
    cohort = load_cohort(write(path, text))
    assert any("median" in warning for warning in cohort.warnings)


def test_a_single_trial_in_pounds_is_found_by_its_body_mass_index(tmp_path):
    path = cohort_folder(tmp_path, trials=("ALPHA",))
    write(tmp_path / "ALPHA/participants.csv", roster([{**p, "weight_kg": 170} for p in people(6)]))
    assert "body mass index" in one_problem(path)


def test_a_trial_of_obesity_is_not_taken_for_pounds(tmp_path):
    path = cohort_folder(tmp_path)
    write(tmp_path / "BETA/participants.csv", roster([{**p, "weight_kg": 115} for p in people(6)]))
    assert len(load_cohort(path).participants) == 12


# ------------------------------------------------------------------ scans


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["999,baseline,a,b"], "row 2: the participant '999' is not in the roster"),
        (["001,,a,b"], "no visit"),
        (["001,a/b,a,b"], "cannot be the name of a folder"),
        (["001,baseline,a,"], "do not fit"),
        (["001,baseline,a,zz"], "no file or folder at the path in es_images"),
        (["001,baseline,a,b", "001,Baseline,c,d"], "rows 2, 3: '001' has the visit 'baseline' 2"),
        (["001,baseline,a,b", "002,baseline,a,b"], "rows 2, 3: they name the same images"),
    ],
)
def test_faults_of_a_scans_table(tmp_path, lines, message):
    path = cohort_folder(tmp_path, trials=("ALPHA",))
    for name in "abcd":
        write(tmp_path / "ALPHA/images" / name, "")
    write(tmp_path / "ALPHA/scans.csv", "\n".join([PAIR, *lines]) + "\n")
    assert message in one_problem(path)


def test_days_and_reported_values(tmp_path):
    path = cohort_folder(tmp_path, trials=("ALPHA",), visits=("baseline",))
    table = tmp_path / "ALPHA/scans.csv"
    lines = table.read_text().splitlines()
    extra = ["visit_day,reported_lv_edv_ml,reported_odd,junk"] + [
        f"-3,{100 + n},,x" for n in range(6)
    ]
    write(table, "\n".join(f"{a},{b}" for a, b in zip(lines, extra, strict=True)))
    assert "papillary convention" in one_problem(path)
    edit(path, "randomised = true", 'randomised = true\npapillary = "myocardium"')
    cohort = load_cohort(path)
    assert cohort.scans[1].visit_day == -3.0
    assert cohort.scans[1].reported == {"reported_lv_edv_ml": 101.0, "reported_odd": None}
    assert cohort.reported == ("reported_lv_edv_ml", "reported_odd")
    assert any("reported_odd" in warning for warning in cohort.warnings)
    write(table, table.read_text().replace("102", "about 102"))
    assert "not a number: 'about 102' (1)" in one_problem(path)


def test_a_visit_without_images_is_no_scan(tmp_path):
    path = cohort_folder(tmp_path, trials=("ALPHA",), visits=("baseline",))
    edit(
        tmp_path / "ALPHA/scans.csv",
        "002,baseline,002_baseline_ED.nii.gz,002_baseline_ES.nii.gz",
        "002,baseline,,",
    )
    cohort = load_cohort(path)
    assert len(cohort.scans) == 5
    assert cohort.visits_without_images == (
        ScanKey(trial="ALPHA", participant="002", visit="baseline"),
    )


def test_a_wrong_root_is_one_problem_not_thousands(tmp_path):
    path = cohort_folder(tmp_path, trials=("ALPHA",))
    shutil.move(tmp_path / "ALPHA/images", tmp_path / "elsewhere")
    problems = problems_of(path)
    assert len(problems) == 2
    assert "none of the 12 image paths" in problems[1]
    cohort = load_cohort(path, CohortOptions(roots=(f"ALPHA={tmp_path / 'elsewhere'}",)))
    assert len(cohort.scans) == 12
    with pytest.raises(UsageError, match="GAMMA"):
        load_cohort(path, CohortOptions(roots=(f"GAMMA={tmp_path}",)))


def test_scans_table_may_name_ids_as_the_roster_does(tmp_path):
    path = cohort_folder(tmp_path, trials=("ALPHA",))
    for table in ("participants", "scans"):
        edit(tmp_path / f"ALPHA/{table}.csv", "participant_id", "SUBJ")
    write(path, path.read_text() + '[trials.ALPHA.columns]\nparticipant_id = "SUBJ"')
    assert len(load_cohort(path).scans) == 12


def test_ids_meet_across_formats(tmp_path):
    path = cohort_folder(tmp_path, trials=("ALPHA",), visits=("baseline",))
    frame = pd.DataFrame(people(6)).assign(participant_id=[float(n) for n in range(1, 7)])
    frame.to_stata(tmp_path / "ALPHA/participants.dta", write_index=False)
    edit(path, "participants.csv", "participants.dta")
    keys = [(str(n), "baseline") for n in range(1, 7)]
    write(tmp_path / "ALPHA/scans.csv", pairs(tmp_path / "ALPHA/images", keys))
    assert [scan.key.participant for scan in load_cohort(path).scans] == list("123456")


def test_everything_wrong_is_said_at_once(tmp_path):
    path = cohort_folder(tmp_path)
    edit(path, "randomised = true", "randomised = true\nextra = 1")
    edit(tmp_path / "ALPHA/participants.csv", ",F,", ",X,")
    edit(tmp_path / "ALPHA/scans.csv", "001,", "777,")
    (tmp_path / "BETA/participants.csv").unlink()
    text = " | ".join(problems_of(path))
    for part in ("unknown key 'extra'", "'X' (1)", "'777'", "no file participants.csv"):
        assert part in text


def test_tables_of_sorts_that_are_missing(tmp_path):
    path = cohort_folder(tmp_path, trials=("ALPHA",))
    edit(tmp_path / "ALPHA/scans.csv", "visit", "vist")
    assert "no column 'visit'" in one_problem(path)
    write(tmp_path / "ALPHA/scans.csv", "participant_id,visit\n001,baseline\n")
    assert "where the images are" in one_problem(path)
    edit(tmp_path / "ALPHA/participants.csv", "participant_id", "who")
    assert any("no column contains the participant_id" in p for p in problems_of(path))


# ------------------------------------------------------------------ order, pseudonyms, real hearts


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_rows_decides_nothing(seed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    path = cohort_folder(folder)
    before = load_cohort(path)
    order = random.Random(seed)
    for table in folder.glob("*/*.csv"):
        header, *lines = table.read_text().splitlines()
        order.shuffle(lines)
        write(table, "\n".join([header, *lines]) + "\n")
    after = load_cohort(path)
    pd.testing.assert_frame_equal(before.participants, after.participants)
    assert before.scans == after.scans


def test_pseudonyms_replace_every_id(tmp_path):
    path = cohort_folder(tmp_path)
    key = write(tmp_path / "key", "0123456789abcdef")
    cohort = load_cohort(path, CohortOptions(pseudonymise_key=key))
    again = load_cohort(path, CohortOptions(pseudonymise_key=key))
    plain = load_cohort(path)
    assert [s.key for s in cohort.scans] == [s.key for s in again.scans]
    ids = set(cohort.participants["participant_id"])
    assert len(ids) == 12  # 001 of two trials are two people
    assert not ids & set(plain.participants["participant_id"])
    assert {s.key.participant for s in cohort.scans} == ids
    pseudonym = {s.source: s.key.participant for s in cohort.scans}
    assert all(pseudonym[s.source] != s.key.participant for s in plain.scans)


def test_no_id_is_printed_where_pseudonyms_are_asked_for(tmp_path):
    path = cohort_folder(tmp_path, trials=("ALPHA",))
    write(tmp_path / "ALPHA/scans.csv", PAIR + "\nSMITH01,baseline,,\nSMITH01,baseline,,\n")
    write(
        tmp_path / "ALPHA/participants.csv",
        roster([{**p, "participant_id": "@DOE"} for p in people(2)]),
    )
    key = write(tmp_path / "key", "0123456789abcdef")
    text = " ".join(problems_of(path, pseudonymise_key=key))
    assert "SMITH" not in text
    assert "DOE" not in text
    assert "withheld" in text


def test_a_draft_keeps_what_can_be_read(tmp_path):
    path = cohort_folder(tmp_path)
    edit(tmp_path / "ALPHA/participants.csv", ",F,", ",X,")
    draft = draft_cohort(path, CohortOptions())
    assert len(draft.problems) == 1
    assert draft.cohort is not None
    assert len(draft.cohort.scans) == 24


def test_real_pairs_of_acdc(tmp_path):
    acdc = shared_data() / "acdc"
    reference = pd.read_csv(acdc / "reference_volumes.csv", dtype=str).head(6)
    lines = [
        f"{p},baseline,{p}/{p}_ED.nii.gz,{p}/{p}_ES.nii.gz,{edv}"
        for p, edv in zip(reference["participant_id"], reference["lv_edv_ml"], strict=True)
    ]
    write(tmp_path / "A/scans.csv", "\n".join([f"{PAIR},reported_lv_edv_ml", *lines]))
    reference[["participant_id", "group"]].to_csv(tmp_path / "A/participants.csv", index=False)
    columns = (
        '[trials.A.columns]\nhealthy = { column = "group", map = { NOR = true, DCM = false } }\n'
    )
    toml = trial_toml("A", 'papillary = "blood-pool"', columns, randomised=False)
    path = write(tmp_path / "cohort.toml", 'name = "acdc"\n' + toml)
    cohort = load_cohort(path, CohortOptions(roots=(f"A={acdc}",)))
    assert [scan.source.kind for scan in cohort.scans] == ["ed-es"] * 6
    assert cohort.scans[0].reported == {"reported_lv_edv_ml": float(reference["lv_edv_ml"][0])}
    assert cohort.participants["healthy"].tolist() == [False] * 6


@pytest.mark.parametrize("name", ["height_cm", "weight_kg", "sex", "trial", "reported_lv_edv_ml"])
def test_a_carried_column_that_collides_is_a_problem_and_not_carried(tmp_path, name):
    path = cohort_folder(tmp_path)
    edit(path, "randomised = true", f'randomised = true\ncarry = ["{name}"]')
    assert "collides with a column of the output" in one_problem(path)
