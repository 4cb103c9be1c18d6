"""The same table gives the same result as CSV, Parquet, and with quoted cells."""

import csv

import numpy as np
import pandas as pd
import pytest

from cardiometa.cohort.analysis_table import read_analysis_table
from cardiometa.cohort.models import TableOptions
from cardiometa.errors import TableError
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from tests.kit.pooling_tables import simulate_wide

READ = TableOptions(numeric=("lv_ef_percent", "lv_ef_baseline"))


def table(seed=3):
    """Three-armed, one-armed and thin trials, missing values of every kind, odd ids."""
    draw = np.random.default_rng(seed)
    rows = simulate_wide(7, seed, people=40, tau=2)
    rows["arm"] = np.where((rows["trial"] == "T2") & (rows.index % 3 == 0), "high", rows["arm"])
    rows["arm"] = np.where(rows["trial"] == "T6", "control", rows["arm"])
    rows.loc[draw.random(len(rows)) < 0.1, "lv_ef_percent"] = np.nan
    rows.loc[draw.random(len(rows)) < 0.1, "lv_ef_baseline"] = np.nan
    rows.loc[rows["trial"] == "T3", "lv_ef_baseline"] = np.nan
    rows.loc[draw.random(len(rows)) < 0.1, "age_years"] = np.nan
    rows.loc[draw.random(len(rows)) < 0.05, "sex"] = None
    rows.loc[(rows["trial"] == "T5") & (rows["arm"] == "active"), "lv_ef_percent"] = np.nan
    rows.loc[draw.random(len(rows)) < 0.03, "arm"] = None
    rows["randomised"] = np.where(draw.random(len(rows)) < 0.05, "no", "yes")
    rows["participant_id"] = np.where(
        rows.index % 5 == 0, " " + rows["participant_id"], rows.index.astype(str)
    )
    return rows.sample(frac=1, random_state=seed)


def pool(path, **changes):
    options = PoolingOptions(
        outcome="lv_ef_percent", **{"baseline_column": "lv_ef_baseline", "min_cell": 0, **changes}
    )
    return pool_trials(read_analysis_table(path, READ), options)


@pytest.mark.parametrize(
    "changes",
    [
        {"adjust": ("age", "sex"), "by": ("sex",)},
        {"adjust": ("sex",), "missing_baseline": "complete", "tau2": "ml"},
        {"effect": "change", "model": "two-stage"},
    ],
)
def test_parquet_gives_what_csv_gives(tmp_path, changes):
    rows = table()
    rows.to_csv(tmp_path / "people.csv", index=False)
    rows.to_parquet(tmp_path / "people.parquet", index=False)
    text, binary = (pool(tmp_path / f"people.{kind}", **changes) for kind in ("csv", "parquet"))
    for part in ("effects", "heterogeneity", "by_arm", "delta", "integrity", "accounting"):
        assert getattr(text, part) == getattr(binary, part), part
    assert [e.code for e in text.exclusions] == [e.code for e in binary.exclusions]


def test_ids_are_the_same_text_in_every_kind_of_file(tmp_path):
    rows = table()
    rows["participant_id"] = np.arange(1000, 1000 + len(rows))
    rows.to_parquet(tmp_path / "people.parquet", index=False)
    rows.to_csv(tmp_path / "people.csv", index=False)
    found = [
        pool(tmp_path / f"people.{kind}", model="two-stage", leave_one_out=False).exclusions
        for kind in ("parquet", "csv")
    ]
    assert found[0] == found[1]
    rows["participant_id"] = rows["participant_id"].astype(float)
    rows.iloc[3, rows.columns.get_loc("participant_id")] = np.nan
    rows.to_parquet(tmp_path / "people.parquet", index=False)
    with pytest.raises(TableError) as caught:
        pool(tmp_path / "people.parquet")
    assert "row 4" in str(caught.value.problems)


def test_trials_with_numbers_for_names_stay_apart(tmp_path):
    rows = table()
    rows["trial"] = rows["trial"].replace({"T1": "01", "T2": "1", "T3": "1e0", "T4": "001"})
    rows.to_csv(tmp_path / "people.csv", index=False)
    effects = pool(tmp_path / "people.csv", model="two-stage").effects
    assert {"01", "1", "001"} <= {row.trial for row in effects}


def test_faults_are_reported_with_their_rows(tmp_path):
    path = tmp_path / "people.csv"
    rows = table()
    text = rows.astype({"lv_ef_percent": object})
    text.iloc[200, text.columns.get_loc("lv_ef_percent")] = "about 50"
    text.iloc[210, text.columns.get_loc("participant_id")] = "NA"
    text.to_csv(path, index=False)
    with pytest.raises(TableError) as caught:
        pool(path)
    said = str(caught.value) + " ".join(map(str, caught.value.problems))
    assert "row 202" in said
    assert "'about 50' (1)" in said
    assert "row 212" in said
    twice = pd.concat([rows, rows.iloc[[5]], rows.iloc[[9]]])
    twice.to_csv(path, index=False)
    with pytest.raises(TableError, match="several rows") as caught:
        pool(path)
    assert sum("1 participant " in str(p) for p in caught.value.problems) >= 1
    rows.assign(arm=rows["arm"].replace("active", "drug")).replace("control", "placebo").to_csv(
        path, index=False
    )
    with pytest.raises(TableError, match="none called 'control'"):
        pool(path)


def test_quoted_cells_change_nothing(tmp_path):
    path = tmp_path / "people.csv"
    rows = table()
    rows["arm"] = rows["arm"].replace("high", 'high, "10" mg')
    rows.to_csv(path, index=False)
    plain = pool(path, model="two-stage", leave_one_out=False)
    rows["comment"] = np.where(rows.index % 7 == 0, 'said "no",\nthen left', "")
    for quoting in (csv.QUOTE_ALL, csv.QUOTE_MINIMAL):
        rows.to_csv(path, index=False, quoting=quoting)
        with path.open("a") as stream:
            stream.write("\n\n")
        quoted = pool(path, model="two-stage", leave_one_out=False)
        assert quoted.effects == plain.effects
        assert quoted.exclusions == plain.exclusions
        assert 'high, "10" mg' in quoted.arms
