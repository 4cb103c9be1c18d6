"""The tables of the shared folder, as people send them; skipped where the folder is absent."""

from __future__ import annotations

import tomllib

import pytest

from cardiometa.api import pool_trials
from cardiometa.cohort.analysis_table import read_analysis_table
from cardiometa.cohort.init import first_config
from cardiometa.cohort.models import TableOptions
from cardiometa.errors import TableError
from tests.kit.cohorts import write
from tests.kit.data import shared_data

NEEDED = ("trial", "participant_id", "arm", "visit", "lv_ef_percent")
FORMS = ("long.xlsx", "long.sav", "long.xpt", "long_excel_bom.csv", "long_latin1.csv", "long.dta")


@pytest.fixture(scope="module")
def folder():
    found = shared_data() / "messy_tables"
    if not found.is_dir():
        pytest.skip("the folder messy_tables is absent")
    return found


def cells(path):
    table = read_analysis_table(path, TableOptions(missing=("-99",), needed=NEEDED))
    rows = table.rows[list(NEEDED)].astype(object)
    return rows.where(rows.notna(), None).to_numpy().tolist()


def test_every_form_gives_the_same_rows(folder):
    first = cells(folder / "long_plain.csv")
    assert len(first) == 1455
    for name in FORMS:
        assert cells(folder / name) == first, name


@pytest.mark.parametrize("name", ["long.xlsx", "long_latin1.csv"])
def test_the_pooled_effect_of_a_form(folder, name):
    found = pool_trials(
        folder / name,
        outcome="LVEF",
        control="Placebo",
        baseline_visit="BL",
        missing=["-99"],
        leave_one_out=False,
    ).effects
    alpha = found[(found["analysis"] == "trial") & (found["trial"] == "ALPHA")].iloc[0]
    pooled = found[(found["analysis"] == "pooled") & found["headline"]].iloc[0]
    assert (round(alpha["se"], 2), round(pooled["estimate"], 2)) == (0.53, 2.70)


def test_one_file_per_trial_and_one_table_are_the_same(folder):
    needed = ("trial", "participant_id", "arm", "EF_BL", "EF_M12")
    options = TableOptions(needed=needed, numeric=needed[-2:])
    files = sorted((folder / "one_csv_per_trial").iterdir())
    several = read_analysis_table(files, options).rows[list(needed)]
    single = read_analysis_table(folder / "wide.csv", options).rows[list(needed)]
    order = ["trial", "participant_id"]
    one, two = (t.sort_values(order).astype(object).fillna("") for t in (several, single))
    assert one.to_numpy().tolist() == two.to_numpy().tolist()


def test_a_written_config_makes_ranges_possible(folder, tmp_path):
    text = first_config([folder / "controls.csv"])

    columns = tomllib.loads(text)["columns"]
    assert "?" not in str(columns)
    table = read_analysis_table(folder / "controls.csv", TableOptions(columns=columns))
    assert table.measures == ("lv_edv_ml", "lv_ef_percent")
    assert set(table.rows["ethnicity"].dropna()) == {"white", "black", "south-asian", "chinese"}
    assert table.rows["sex"].notna().all()
    with pytest.raises(TableError) as caught:
        read_analysis_table(folder / "controls.csv")
    assert "map = {" in str(caught.value.problems[0])
    write(tmp_path / "c.toml", text)
