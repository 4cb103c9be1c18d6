"""The first cohort.toml: valid TOML always, usable where the codes speak for themselves."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.cohort.analysis_table import read_analysis_table
from cardiometa.cohort.init import first_config, first_definition
from cardiometa.cohort.load import load_cohort
from cardiometa.cohort.models import TableOptions
from cardiometa.errors import CohortError
from tests.kit.cohorts import PAIR, cohort_folder, pairs, people, roster, write


def test_a_folder_whose_codes_are_clear_gives_a_usable_definition(tmp_path):
    cohort_folder(tmp_path).unlink()
    persons = [
        {
            "SUBJID": p["participant_id"],
            "Age": p["age_years"],
            "Gender": p["sex"],
            "HT": round(float(str(p["height_cm"])) / 2.54, 1),
            "WT": round(float(str(p["weight_kg"])) / 0.45359237 * 1.2),
            "RACE": "ASIAN",
            "TRT01P": {"control": "Placebo", "active": "Drug 10 mg"}[str(p["arm"])],
            "site": 7,
        }
        for p in people(6)
    ]
    write(tmp_path / "BETA/participants.csv", roster(persons))
    text = first_definition(tmp_path)
    cohort = load_cohort(write(tmp_path / "cohort.toml", text))
    beta = cohort.participants[cohort.participants["trial"].eq("BETA")]
    assert len(cohort.scans) == 24
    assert set(beta["arm"]) == {"control", "Drug 10 mg"}
    assert set(beta["ethnicity"]) == {"asian-unspecified"}
    assert beta["height_cm"].between(160, 180).all()
    assert beta["weight_kg"].between(80, 110).all()
    assert beta["randomised"].all()
    # Every line of a guess says that it is one.
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    unsaid = [line for line in lines if "guessed" not in line]
    assert all(line.startswith(("participants", "carry")) for line in unsaid)
    assert "site" in text


def test_codes_that_cannot_be_guessed_are_refused_until_said(tmp_path):
    cohort_folder(tmp_path, trials=("ALPHA",)).unlink()
    write(tmp_path / "ALPHA/participants.csv", roster([{**p, "sex": 1} for p in people(6)]))
    text = first_definition(tmp_path)
    path = write(tmp_path / "cohort.toml", text)
    with pytest.raises(CohortError) as caught:
        load_cohort(path)
    assert len(caught.value.problems) == 1
    assert "map turns '1' into '?'" in str(caught.value.problems[0])
    write(path, text.replace('1 = "?"', '1 = "female"'))
    assert set(load_cohort(path).participants["sex"]) == {"female"}


def test_nothing_there_is_a_template(tmp_path):
    text = first_definition(tmp_path)
    assert tomllib.loads(text)["name"] == tmp_path.name
    assert "[trials.ALPHA]" in text
    with pytest.raises(CohortError):
        first_definition(tmp_path / "none")


def test_tables_that_lie_together_and_one_that_is_damaged(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / f"{name}_participants.csv", roster(people(3)))
    write(tmp_path / "broken.csv", "a,b\n1\n")
    parsed = tomllib.loads(first_definition(tmp_path))
    assert set(parsed["trials"]) == {"one", "two"}
    assert '"broken.csv"' in first_definition(tmp_path)


def test_paths_start_where_the_file_will_stand(tmp_path):
    cohort_folder(tmp_path / "data").unlink()
    text = first_definition(tmp_path / "data", tmp_path)
    assert len(load_cohort(write(tmp_path / "cohort.toml", text)).scans) == 24


@settings(max_examples=25, deadline=None)
@given(
    columns=st.lists(
        st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12),
        min_size=1,
        max_size=5,
        unique=True,
    ),
    cells=st.lists(st.text(max_size=8), min_size=5, max_size=5),
)
def test_it_is_always_toml(columns, cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    names = ["SUBJID", "sex", "arm", "race", *columns]
    row = ["x", *cells, *cells][: len(names)]
    lines = [names, row]
    write(
        folder / "t.csv",
        "\n".join(",".join('"' + c.replace('"', '""') + '"' for c in r) for r in lines),
    )
    tomllib.loads(first_definition(folder))


def test_a_scans_table_is_not_a_roster(tmp_path):
    write(tmp_path / "A/people.csv", roster(people(2)))
    write(tmp_path / "A/mri.csv", pairs(tmp_path / "A/pics", [("001", "baseline")]))
    trial = tomllib.loads(first_definition(tmp_path))["trials"]["A"]
    assert (trial["scans"], trial["root"]) == ("A/mri.csv", "A/pics")
    assert PAIR.startswith("participant_id")


def wide(unit: float = 1.0) -> str:
    """A participants' table as a spreadsheet has it; ``unit`` of both measures."""
    lines = ["PatID,Study,Group,LVEF,EF_M12,LVEDV m6,unit"]
    for number in range(12):
        ef, edv = (45 + number) * unit, (150 + number) * (0.001 if unit != 1 else 1)
        arm = ("Placebo", "Drug")[number % 2]
        lines.append(f"{number},A,{arm},{ef:.3f},{ef + unit:.3f},{edv:.3f},{number}")
    return "\n".join([*lines, ""])


def test_a_config_of_a_table_gives_units_of_all_measures(tmp_path):
    path = write(tmp_path / "wide.csv", wide(0.01))
    columns = tomllib.loads(first_config([path]))["columns"]
    assert columns["lv_ef_percent"] == {"column": "LVEF", "unit": "fraction"}
    assert columns["EF_M12"] == {"column": "EF_M12", "unit": "fraction"}
    assert columns["LVEDV m6"] == {"column": "LVEDV m6", "unit": "l"}
    assert "unit" not in columns
    assert columns["arm"]["map"] == {"Drug": "Drug", "Placebo": "control"}
    rows = read_analysis_table(path, TableOptions(columns=columns, numeric=("EF_M12",))).rows
    assert rows["EF_M12"].between(45, 60).all()
    assert rows["LVEDV m6"].between(149, 162).all()


def test_columns_in_the_usual_units_need_no_line(tmp_path):
    path = write(tmp_path / "wide.csv", wide())
    text = first_config([path], tmp_path / "columns.toml")
    columns = tomllib.loads(text)["columns"]
    assert columns["lv_ef_percent"] == "LVEF"
    assert not {"EF_M12", "LVEDV m6"} & set(columns)
    assert '# not recognised, and used under their own names: "EF_M12", "LVEDV m6", "unit"' in text
    assert "pool-trials" in text
    assert "--config" in text


@pytest.mark.parametrize(
    ("name", "median", "line"),
    [
        ("height", 67, 'unit = "in" }  # guessed: by its median 67: in'),
        ("height", 1.7, 'unit = "m" }  # guessed: by its median 1.7: m'),
        ("weight", 165, 'unit = "lb" }  # guessed: by its median 165: lb'),
        ("weight", 75, '"weight"  # guessed: by its median 75: kg'),
        ("AGE", 20000, 'unit = "days" }  # guessed: by its median 2e+04: days'),
        ("LVEDV", 0.16, 'unit = "l" }  # guessed: by its median 0.16: l'),
        ("LVM", 0.12, 'unit = "kg" }  # guessed: by its median 0.12: kg'),
        ("weight", 5000, "the median 5000 fits no unit: check it"),
    ],
)
def test_units_are_guessed_by_the_median(tmp_path, name, median, line):
    text = first_config([write(tmp_path / "t.csv", f"id,{name}\n1,{median}\n2,{median}\n")])
    assert line in text
    tomllib.loads(text)


def test_one_table_per_trial_gives_a_cohort_definition(tmp_path):
    paths = [write(tmp_path / f"{name}.csv", wide(0.01)) for name in ("ALPHA", "B 2")]
    document = tomllib.loads(first_config(paths, tmp_path / "cohort.toml"))
    assert list(document["trials"]) == ["ALPHA", "B 2"]
    trial = document["trials"]["B 2"]
    assert (trial["participants"], trial["randomised"]) == ("B 2.csv", True)
    assert "trial" not in trial["columns"]
    assert trial["columns"]["EF_M12"]["unit"] == "fraction"


def test_codes_that_look_like_missing_values_are_proposed(tmp_path):
    cells = "\n".join(f"{n},{50 + n}" for n in range(10))
    path = write(tmp_path / "t.csv", f"id,LVEF\n{cells}\n10,-99\n11,-99\n12,-99\n")
    assert tomllib.loads(first_config([path]))["missing"] == "-99"


@pytest.mark.parametrize("name", ["death_day", "visit_day", "withdrawal_day"])
def test_a_table_with_days_has_a_config(tmp_path, name):
    rows = "\n".join(f"A,{n},active,{50 + n},{30 * n}" for n in range(8))
    path = write(tmp_path / "t.csv", f"trial,participant_id,arm,lv_ef_percent,{name}\n{rows}\n")
    assert tomllib.loads(first_config([path]))["columns"][name] == name
