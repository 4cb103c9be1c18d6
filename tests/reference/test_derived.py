"""Healthy by a rule, body surface area and indexed measures that the table does not have."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

import cardiometa
from cardiometa.cli.main import app
from cardiometa.errors import TableError
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.ranges import reference_ranges
from cardiometa.reference.select import with_derived, with_healthy
from tests.frozen.runs import draw_nothing
from tests.kit.reference_tables import table


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing takes half the time of a run, and no test here looks at a figure."""
    monkeypatch.setattr(Figure, "savefig", draw_nothing)


def _frame(n=300, seed=2):
    rng = np.random.default_rng(seed)
    height, weight = rng.normal(172, 9, n), rng.normal(76, 12, n)
    return pd.DataFrame(
        {
            "trial": np.where(rng.random(n) < 0.5, "A", "B"),
            "participant_id": [f"P{i}" for i in range(n)],
            "sex": np.where(rng.random(n) < 0.5, "male", "female"),
            "age_years": rng.uniform(20, 80, n).round(1),
            "height_cm": height.round(1),
            "weight_kg": weight.round(1),
            "lv_edv_ml": (78 * np.sqrt(height * weight / 3600) * np.exp(rng.normal(0, 0.15, n))),
            "lv_ef_percent": rng.normal(62, 5, n),
        }
    )


def _table(frame, measures=("lv_edv_ml", "lv_ef_percent")):
    return table(frame, measures=measures)


def test_indices_are_made_of_height_and_weight_and_it_is_said():
    found = with_derived(_table(_frame()), None)
    assert found.measures == ("lv_edv_ml", "lv_ef_percent", "lv_edvi_ml_m2")
    rows = found.rows
    np.testing.assert_allclose(rows["bsa_m2"] ** 2 * 3600, rows["height_cm"] * rows["weight_kg"])
    np.testing.assert_allclose(rows["lv_edvi_ml_m2"] * rows["bsa_m2"], rows["lv_edv_ml"])
    assert set(rows["bsa_formula"]) == {"mosteller"}
    assert "height and weight" in found.warnings[0]
    assert "lv_edvi_ml_m2" in found.warnings[1]


@pytest.mark.parametrize("formula", ["dubois", "haycock"])
def test_a_stated_formula_is_kept(formula):
    rows = with_derived(_table(_frame().assign(bsa_formula=formula)), None).rows
    other = with_derived(_table(_frame()), None).rows
    assert set(rows["bsa_formula"]) == {formula}
    assert abs(rows["bsa_m2"] / other["bsa_m2"] - 1).max() > 1e-4


def test_an_own_bsa_is_used_and_an_own_index_is_left():
    frame = _frame().assign(bsa_m2=2.0)
    found = with_derived(_table(frame), None)
    np.testing.assert_allclose(found.rows["lv_edvi_ml_m2"], frame["lv_edv_ml"] / 2)
    assert "bsa_formula" not in found.rows
    assert len(found.warnings) == 1
    own = frame.assign(lv_edvi_ml_m2=80.0)
    assert with_derived(_table(own), None).rows is own


@pytest.mark.parametrize(
    "frame",
    [
        _frame().drop(columns="height_cm"),
        _frame().assign(weight_kg=np.nan),
        _frame().assign(height_cm=1.7),  # metres: no human's height in cm
    ],
    ids=["no height", "no weight", "metres"],
)
def test_without_a_body_size_there_is_no_index(frame):
    found = with_derived(_table(frame), None)
    assert "lv_edvi_ml_m2" not in found.measures
    assert found.warnings == ()


def test_only_named_measures_are_made():
    assert "lv_edvi_ml_m2" not in with_derived(_table(_frame()), ("lv_edv_ml",)).rows
    assert "lv_edvi_ml_m2" in with_derived(_table(_frame()), ("lv_edvi_ml_m2",)).rows


def test_a_rule_declares_all_rows_healthy_only_where_no_row_says_so():
    found = with_healthy(_table(_frame()), "no known disease")
    assert found.rows["healthy"].all()
    assert "no known disease" in found.warnings[0]
    frame = _frame()
    frame["healthy"] = [None, False, *[True] * (len(frame) - 2)]
    assert with_healthy(_table(frame), "a rule").rows is frame
    assert "healthy" not in with_healthy(_table(_frame()), "").rows


def test_neither_a_rule_nor_a_column_is_refused_with_both_ways_out():
    with pytest.raises(TableError) as caught:
        reference_ranges(_table(_frame()), ReferenceOptions(method="strata"))
    for word in ("--healthy-rule", "--all", "healthy"):
        assert word in caught.value.hint


def test_first_indexed_range_of_a_plain_table(tmp_path):
    path, out = tmp_path / "controls.csv", tmp_path / "out"
    _frame().to_csv(path, index=False)
    arguments = ["reference-ranges", str(path), "--out", str(out), "--healthy-rule", "volunteers"]
    done = CliRunner().invoke(app, [*arguments, "--method", "strata", "--by", "sex"])
    assert done.exit_code == 0, done.output
    limits = pd.read_csv(out / "reference_ranges.csv")
    indexed = limits[limits["measure"] == "lv_edvi_ml_m2"]
    assert indexed["limit"].notna().all()
    assert "Computed from volume or mass and BSA" in done.output
    document = json.loads((out / "reference_ranges.json").read_text(encoding="utf-8"))
    assert document["conventions"]["bsa_formula"] == ["mosteller"]
    assert document["healthy_rule"] == "volunteers"


def test_all_rows_are_not_called_healthy(tmp_path):
    found = cardiometa.reference_ranges(
        _frame(), by=["sex"], method="strata", healthy_rule="volunteers", healthy_only=False
    )
    assert not any("taken as healthy" in text for text in found.result.warnings)


def test_the_api_makes_them_too():
    found = cardiometa.reference_ranges(
        _frame(), by=["sex"], method="strata", healthy_rule="volunteers"
    )
    assert "lv_edvi_ml_m2" in set(found.limits["measure"])
