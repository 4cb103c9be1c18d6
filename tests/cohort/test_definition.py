"""cohort.toml: the contract's example is read completely; each problem is reported, all at once."""

from __future__ import annotations

import pytest

from cardiometa.cohort.definition import DEFINED_COLUMNS, parse_columns, parse_definition
from cardiometa.cohort.load import load_cohort
from cardiometa.errors import CohortError, Problems
from tests.kit.cohorts import read_definition, trial_toml, write

CONTRACT = """
name = "remodelling-ipd"

[trials.ALPHA]
participants = "alpha/participants.csv"
scans        = "alpha/scans.csv"
root         = "alpha/images"
randomised   = true
papillary    = "blood-pool"
carry        = ["nyha_class"]
healthy_rule = "no CVD, hypertension or diabetes; BMI < 30"
registry_id = "NCT00000000"
design = "parallel"
n_sought = 400
n_randomised = 380
cluster = "site"
strata = ["site", "sex"]
permission = "agreement 7"

[trials.ALPHA.columns]
participant_id = "SUBJID"
age_years      = "AGE"
sex            = { column = "SEX",  map = { M = "male", F = "female", 9 = "NA" } }
ethnicity      = { column = "RACE", map = { WHITE = "white", "BLACK OR AFRICAN AMERICAN" = "black" }, scheme = "cdisc" }
height_cm      = { column = "HT_IN", unit = "in" }
weight_kg      = "WT"
arm            = { column = "TRT01P", map = { Placebo = "control", "Drug 10 mg" = "active" } }
healthy        = { column = "HVFL", map = { Y = true, N = false } }

[[not_obtained]]
trial = "OMEGA"
n_participants = 210
reason = "no reply"
"""  # noqa: E501 - an inline table is one line


def test_the_contracts_example(tmp_path):
    definition = read_definition(write(tmp_path / "cohort.toml", CONTRACT))
    assert definition.name == "remodelling-ipd"
    (trial,) = definition.trials
    assert trial.participants == tmp_path / "alpha/participants.csv"
    assert trial.root == tmp_path / "alpha/images"
    assert (trial.randomised, trial.papillary, trial.carry) == (True, "blood-pool", ("nyha_class",))
    assert (trial.n_sought, trial.n_randomised, trial.strata) == (400, 380, ("site", "sex"))
    assert trial.columns["sex"].map == {"M": "male", "F": "female", "9": None}
    assert trial.columns["healthy"].map == {"Y": True, "N": False}
    assert trial.columns["height_cm"].unit == "in"
    assert trial.columns["ethnicity"].scheme == "cdisc"
    assert definition.not_obtained[0].n_participants == 210
    assert len(definition.sha256) == 64


def test_absent_counts_are_none(tmp_path):
    text = 'name = "x"\n' + trial_toml("A")
    (trial,) = read_definition(write(tmp_path / "c.toml", text)).trials
    assert (trial.n_sought, trial.n_randomised, trial.registry_id) == (None, None, None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("randomized = true", "Did you mean 'randomised'"),
        ('carry = ["lv_edv_ml"]', "collides"),
        ('carry = ["sex"]', "collides"),
        ('carry = ["lv_ef_percent_sd"]', "collides"),
        ('carry = ["scans"]', "collides"),
        ('carry = ["reported_x"]', "collides"),
        ('carry = ["Date_of_Birth"]', "identities"),
        ('carry = ["a", "a"]', "carried twice"),
        ('carry = "a"', "not a list"),
        ('papillary = "mass"', "'blood-pool' or 'myocardium'"),
        ("n_sought = -1", "not at least 0"),
        ("n_sought = true", "not a whole number"),
        ("design = 3", "not text"),
        ('permission = " "', "not text"),
        ('name = "B"', "unknown key 'name'"),
        ("foo = 1", "unknown key 'foo'. Known are root, participants, scans,"),
        ("n_randomised = 1.5", "not a whole number"),
    ],
)
def test_faults_of_a_trial(tmp_path, line, message):
    path = write(tmp_path / "c.toml", 'name = "x"\n' + trial_toml("A", line))
    definition, problems = parse_definition(path)
    assert len(problems) == 1
    assert message in str(problems[0])
    # The tables are looked at all the same.
    assert definition is not None
    assert len(definition.trials) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "cannot be read as TOML"),
        ('name = "x"', "defines no trial"),
        ('name = "x"\n[trials]\n', "defines no trial"),
        (trial_toml("A"), "no name"),
        ('nme = "y"\nname = "x"\n' + trial_toml("A"), "Did you mean 'name'"),
        ('name = "x"\n' + trial_toml("A") + trial_toml("a"), "upper and lower case"),
        (
            'name = "x"\n' + trial_toml("A").replace("trials.A", "trials.'A/B'"),
            "cannot be the name of a folder",
        ),
        ('name = "x"\n[trials.A]\nrandomised = true', "participants is missing"),
        ('name = "x"\n[trials.A]\nparticipants = "p.csv"', "randomised is missing"),
        ('name = "x"\n' + trial_toml("A") + '[[not_obtained]]\ntrial = "O"', "reason is missing"),
        (
            'name = "x"\n' + trial_toml("A") + '[[not_obtained]]\ntrial = "a"\nreason = "r"',
            "also under trials",
        ),
    ],
)
def test_faults_of_the_file(tmp_path, text, message):
    _, problems = parse_definition(write(tmp_path / "c.toml", text))
    assert message in " ".join(map(str, problems))
    assert len(problems) == 1


def test_all_problems_come_at_once(tmp_path):
    text = "\n".join(
        [
            "nme = 1",
            trial_toml("A", "n_sought = -1", 'carry = ["sex"]', "extra = 1"),
            "[trials.A.columns]",
            'sexx = "S"',
        ]
    )
    with pytest.raises(CohortError) as caught:
        read_definition(write(tmp_path / "c.toml", text))
    assert len(caught.value.problems) == 6


def test_paths_start_in_the_folder_of_the_file(tmp_path):
    text = 'name = "x"\n' + trial_toml("A")
    (trial,) = read_definition(write(tmp_path / "in" / "c.toml", text)).trials
    assert trial.participants == tmp_path / "in" / "A" / "participants.csv"
    assert trial.scans == tmp_path / "in" / "A" / "scans.csv"
    assert trial.root == tmp_path / "in" / "A" / "images"
    bare = 'name = "x"\n[trials.A]\nparticipants = "p.csv"\nrandomised = true\n'
    (trial,) = read_definition(write(tmp_path / "in" / "c.toml", bare)).trials
    assert (trial.root, trial.scans) == (tmp_path / "in", None)


@pytest.mark.parametrize("value", ['""', '"  "', "3", "[]"])
def test_a_table_that_is_not_named_is_a_problem(tmp_path, value):
    text = f'name = "x"\n[trials.A]\nparticipants = {value}\nrandomised = false\n'
    path = write(tmp_path / "c.toml", text)
    definition, problems = parse_definition(path)
    if value[0] == '"':  # a path that leads to no table is found where it is read
        with pytest.raises(CohortError) as caught:
            load_cohort(path)
        problems = caught.value.problems
    assert problems
    assert definition is not None


def test_a_file_that_cannot_be_opened_is_a_problem(tmp_path):
    definition, problems = parse_definition(tmp_path / "none.toml")
    assert definition is None
    assert "it cannot be opened" in str(problems[0])


RULES = [
    ({"EF_M12": {"column": "EF12", "unit": "fraction"}}, ("lv_ef_percent", "EF12", "fraction")),
    ({"lv edv m6": "EDV6"}, ("lv_edv_ml", "EDV6", None)),
    ({"reported_lv_mass_g": {"column": "M", "unit": "kg"}}, ("lv_mass_g", "M", "kg")),
]


@pytest.mark.parametrize(("raw", "wanted"), RULES)
def test_a_column_of_the_user_s_own_has_the_rule_of_its_measure(raw, wanted):
    problems = Problems("--config")
    (pair,) = parse_columns(raw, problems, DEFINED_COLUMNS).items()
    assert problems == []
    assert pair[0] == next(iter(raw))
    assert (pair[1].name, pair[1].column, pair[1].unit) == wanted


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"EF_M12": {"column": "E", "unit": "ml"}}, "columns.EF_M12: unknown unit 'ml'"),
        ({"hr_m12": {"column": "H", "unit": "bpm"}}, "this column cannot have a unit"),
        ({"troponin": "T"}, "unknown column 'troponin'"),
        ({"change_ef": "C"}, "unknown column 'change_ef'"),
        ({"sex": {"column": "S", "name": "arm"}}, "unknown key 'name'"),
        ({"sex": {"column": "S", "map": {"1": "male", "1.0": "female"}}}, "map has '1' twice"),
        ({"arm": {"column": "A", "map": {"1": True}}}, "which is not text"),
        ({"healthy": {"column": "H", "map": {"1": "maybe"}}}, "true, false"),
        ([], "columns must be a table"),
    ],
)
def test_faults_of_rules(raw, message):
    problems = Problems("--config")
    parse_columns(raw, problems, DEFINED_COLUMNS)
    assert len(problems) == 1
    assert message in str(problems[0])


def test_words_of_a_map_are_harmonised():
    raw = {
        "healthy": {"column": "H", "map": {"1": "yes", "2": False, "3": "NA", "4": 1}},
        "sex": {"column": "S", "map": {"x": "male", "y": "unknown"}},
    }
    problems = Problems("--config")
    rules = parse_columns(raw, problems, DEFINED_COLUMNS)
    assert rules["healthy"].map == {"1": True, "2": False, "3": None, "4": True}
    assert [one.what for one in problems] == [
        "map turns 'y' into 'unknown'; it can be male, female or \"NA\""
    ]
    # What was said once is not said again as a code that the map lacks.
    assert rules["sex"].map == {"x": "male", "y": None}
