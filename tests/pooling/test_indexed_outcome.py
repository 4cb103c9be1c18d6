"""An indexed outcome is made from volume or mass and body size where a table has no index."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import cardiometa as cm
from cardiometa.errors import TableError
from cardiometa.measurement.indexing import body_surface_area_m2
from tests.kit.pooling_tables import simulate_wide, to_long

OPTIONS = {"outcome": "lv_edvi_ml_m2", "model": "two-stage", "leave_one_out": False}


def volumes(**names: str) -> pd.DataFrame:
    """Volumes of a long table with each participant's height and weight."""
    rows = to_long(simulate_wide(3, 5, people=40)).rename(columns={"lv_ef_percent": "lv_edv_ml"})
    number = rows.groupby("participant_id").ngroup()
    rows["lv_edv_ml"] = 60 + 2 * rows["lv_edv_ml"]
    rows["height_cm"] = 155.0 + number % 31
    rows["weight_kg"] = 55.0 + number % 37
    return rows.drop(columns=["sex", "age_years"]).rename(columns=names)


def with_index(formula: str) -> pd.DataFrame:
    rows = volumes()
    bsa = [
        body_surface_area_m2(h, w, formula)
        for h, w in zip(rows["height_cm"], rows["weight_kg"], strict=True)
    ]
    return rows.assign(lv_edvi_ml_m2=rows["lv_edv_ml"] / np.array(bsa), bsa_m2=bsa)


def effect(rows: pd.DataFrame, folder) -> list[float]:
    path = folder / "t.csv"
    rows.to_csv(path, index=False)
    found = cm.pool_trials(path, **OPTIONS).effects
    return found.loc[found["analysis"].eq("pooled"), ["estimate", "se"]].to_numpy().ravel().tolist()


@pytest.mark.parametrize("formula", ["mosteller", "dubois"])
@pytest.mark.parametrize("names", [{}, {"lv_edv_ml": "LVEDV", "height_cm": "Height (cm)"}])
def test_height_and_weight_give_the_index(formula, names, tmp_path):
    wanted = effect(with_index(formula).drop(columns=["height_cm", "weight_kg"]), tmp_path)
    rows = volumes(**names).assign(bsa_formula=formula)
    assert effect(rows, tmp_path) == pytest.approx(wanted, rel=1e-9)


def test_a_stated_surface_area_is_used_and_it_is_said(tmp_path):
    rows = with_index("dubois").drop(columns=["height_cm", "weight_kg"])
    wanted = effect(rows, tmp_path)
    assert effect(rows.drop(columns="lv_edvi_ml_m2"), tmp_path) == pytest.approx(wanted, rel=1e-9)
    path = tmp_path / "v.csv"
    volumes().to_csv(path, index=False)
    said = " ".join(cm.pool_trials(path, **OPTIONS).result.warnings)
    assert "BSA was computed from height and weight (formula: mosteller)" in said
    assert "Computed from volume or mass and BSA: lv_edvi_ml_m2" in said


def test_an_index_of_the_table_is_never_replaced(tmp_path):
    rows = with_index("mosteller")
    rows["lv_edvi_ml_m2"] += 5 * rows["arm"].eq("active") * rows["visit"].ne("baseline")
    bare = rows.drop(columns=["height_cm", "weight_kg", "lv_edv_ml"])
    assert effect(rows, tmp_path) == effect(bare, tmp_path)


@pytest.mark.parametrize("lost", [["height_cm"], ["weight_kg"], ["height_cm", "weight_kg"]])
def test_without_body_size_the_outcome_is_asked_for(lost, tmp_path):
    with pytest.raises(TableError, match="cannot be pooled yet"):
        effect(volumes().drop(columns=lost), tmp_path)
