"""Tables of many rows: read and numbered in parts, with the same effects as in one piece."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import cardiometa as cm
from cardiometa.cohort import read_table, recode
from cardiometa.pooling.endpoint import columns
from tests.kit.pooling_tables import simulate_wide

OPTIONS = {"outcome": "lv_ef_percent", "baseline": "lv_ef_baseline", "min_cell": 0}


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Three trials whose rows are mixed, with ids that every trial uses and some outcomes lost."""
    wide = simulate_wide(3, 11, people=30).round(2)
    wide["participant_id"] = wide.groupby("trial").cumcount().astype(str).radd("P")
    wide.loc[[4, 50], "lv_ef_percent"] = np.nan
    return wide.sample(frac=1, random_state=1, ignore_index=True)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_read_in_parts_gives_the_same_effects(rows, ending, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    path = tmp_path / f"rows.{ending}"
    rows.to_csv(path, index=False) if ending == "csv" else rows.to_parquet(path, index=False)
    whole = cm.pool_trials(path, **OPTIONS)
    for module, name in ((read_table, "_CHUNK"), (recode, "_MANY_ROWS"), (columns, "_PART")):
        monkeypatch.setattr(module, name, 7)
    parts = cm.pool_trials(path, **OPTIONS)
    for table in ("effects", "heterogeneity", "integrity", "exclusions", "participants_by_arm"):
        pd.testing.assert_frame_equal(parts.table(table), whole.table(table))
    assert len(parts.table("exclusions")) == 2


def test_the_order_of_the_rows_does_not_matter(rows, tmp_path):
    effects = []
    for name, table in (("mixed", rows), ("sorted", rows.sort_values(["trial", "arm"]))):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        effects.append(cm.pool_trials(tmp_path / f"{name}.csv", **OPTIONS).effects)
    pd.testing.assert_frame_equal(*effects, rtol=1e-9)


def test_participants_are_numbered_by_trial_over_all_tables():
    scans = pd.DataFrame({"trial": ["B", "A", "B"], "participant_id": ["1", "1", "1"]})
    roster = pd.DataFrame({"trial": ["A", "B"], "participant_id": ["2", "1"]})
    people, (first, second) = columns.numbered([scans, roster])
    assert people["trial"].astype(str).tolist() == ["A", "A", "B"]
    assert people["participant_id"].tolist() == ["1", "2", "1"]
    assert first["person"].tolist() == [2, 0, 2]
    assert second["person"].tolist() == [1, 2]
    assert columns.repeated_people(first).tolist() == [2]


def test_equal_hashes_are_compared_by_their_texts(monkeypatch):
    monkeypatch.setattr(pd.util, "hash_array", lambda values, **_: np.zeros(len(values), "uint64"))
    keys = pd.DataFrame({"trial": ["A"] * 3, "participant_id": ["1", "2", "1"]})
    people, (rows,) = columns.numbered([keys])
    assert people["participant_id"].tolist() == ["1", "2"]
    assert rows["person"].tolist() == [0, 1, 0]


def test_rows_are_sorted_by_trial_in_place_and_keep_their_order_within_it():
    rows = pd.DataFrame({"trial": ["B", "A", "B"], "x": [1.0, 2.0, 3.0]}, index=[2, 3, 4])
    columns.by_trial(rows)
    assert rows["x"].tolist() == [2.0, 1.0, 3.0]
    parts = {trial: part["x"].tolist() for trial, part in columns.each_trial(rows)}
    assert parts == {"A": [2.0], "B": [1.0, 3.0]}
    mixed = rows.iloc[[1, 0, 2]]
    assert {trial: part["x"].tolist() for trial, part in columns.each_trial(mixed)} == parts


def test_words_keep_a_missing_value_and_their_codes():
    rows = pd.DataFrame({"arm": ["b", None, " a "]})
    words = columns.words_column(rows, "arm")
    assert words.tolist() == ["b", "", "a"]
    assert words.cat.categories.tolist() == ["", "a", "b"]
    again = pd.DataFrame({"arm": words})
    assert columns.words_column(again, "arm") is not None
    assert columns.words_column(again, "arm").tolist() == words.tolist()
    assert columns.words_column(again, "visit").tolist() == [""] * 3
