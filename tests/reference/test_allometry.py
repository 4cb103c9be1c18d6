"""Exponents of body size against R, and indices that a name makes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.measurement.indexing import (
    FORMULAS,
    body_sizes,
    body_surface_area_m2,
    derived_measure,
    derived_values,
)
from cardiometa.measurement.measures import definition
from cardiometa.reference.ranges import log_log_slope
from tests.kit.reference_tables import people_frame

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "reference" / "allometry"


def _read(path):
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("row", _read(GOLDEN / "exponents.csv"), ids=lambda r: r["size"])
def test_exponents_against_lm(row):
    people = pd.read_csv(GOLDEN / "people.csv")
    sizes = body_sizes(row["size"], people["height"].to_numpy(), people["weight"].to_numpy())
    mass, male = people["mass"].to_numpy(), people["male"].to_numpy()
    by_sex = log_log_slope(mass, sizes, male)
    plain = log_log_slope(mass, sizes, None)
    assert by_sex[:2] == pytest.approx((float(row["exponent"]), float(row["se"])), rel=1e-9)
    assert plain[:2] == pytest.approx((float(row["plain"]), float(row["plain_se"])), rel=1e-9)
    assert (by_sex[2], plain[2]) == (297, 298)


def test_a_power_law_is_found_exactly():
    size = np.linspace(1.4, 2.0, 50)
    assert log_log_slope(70 * size**1.7, size, None)[0] == pytest.approx(1.7, rel=1e-12)
    assert log_log_slope(size, np.full(50, 1.7), None) is None


@pytest.mark.parametrize("formula", FORMULAS)
def test_surfaces_are_those_of_segment(formula):
    height, weight = np.array([176.5, 160.0]), np.array([77.3, 120.0])
    wanted = [body_surface_area_m2(h, w, formula) for h, w in zip(height, weight, strict=True)]
    assert body_sizes(f"bsa_{formula}", height, weight) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "of", "size", "power", "unit"),
    [
        ("lv_mass_g_per_height_1.7", "lv_mass_g", "height", 1.7, "g/m^1.7"),
        ("lv_mass_g_per_height", "lv_mass_g", "height", 1.0, "g/m"),
        ("lv_edv_ml_per_bsa_dubois", "lv_edv_ml", "bsa_dubois", 1.0, "mL/m2"),
        ("rv_esv_ml_per_bsa_mosteller_1.35", "rv_esv_ml", "bsa_mosteller", 1.35, "mL/(m2)^1.35"),
        ("lv_mass_g_per_weight_0.5", "lv_mass_g", "weight", 0.5, "g/kg^0.5"),
    ],
)
def test_a_name_says_what_it_is(name, of, size, power, unit):
    found = derived_measure(name)
    assert (found.of, found.size, found.power) == (of, size, power)
    assert definition(name).unit == unit


@pytest.mark.parametrize(
    "name",
    [
        "lv_mass_g",
        "lv_ef_percent_per_height",
        "lv_mass_g_per_bsa_unknown",
        "lv_mass_g_per_height_9",
        "lv_mass_g_per_height_0",
        "lv_mass_g_per_age",
    ],
)
def test_other_names_are_none(name):
    assert derived_measure(name) is None


def test_sizes_of_no_human_give_no_number():
    measure = derived_measure("lv_mass_g_per_height_2")
    found = derived_values(
        measure, np.full(4, 100.0), np.array([170.0, 1.7, np.nan, 400.0]), np.full(4, 70.0)
    )
    assert found[0] == pytest.approx(100 / 1.7**2)
    assert np.isnan(found[1:]).all()


def test_an_index_from_the_command_line(tmp_path):
    frame = people_frame(800)
    rng = np.random.default_rng(2)
    male = frame["sex"] == "male"
    frame["height_cm"] = np.round(np.where(male, 176, 163) + rng.normal(0, 7, len(frame)), 1)
    frame["weight_kg"] = np.round(np.where(male, 82, 68) * np.exp(rng.normal(0, 0.15, 800)), 1)
    frame["lv_mass_g"] = 60 * (frame["height_cm"] / 170) ** 2 * np.exp(rng.normal(0, 0.1, 800))
    path, out = tmp_path / "t.csv", tmp_path / "out"
    frame.to_csv(path, index=False)
    name = "lv_mass_g_per_height_2"
    run = CliRunner()
    options = ["--method", "strata", "--by", "sex", "--bootstrap", "200"]
    measures = ["--measure", "lv_mass_g", "--measure", name]
    found = run.invoke(app, ["reference-ranges", str(path), "--out", str(out), *measures, *options])
    assert found.exit_code == 0, found.output
    rows = [r for r in _read(out / "reference_ranges.csv") if r["measure"] == name]
    assert {r["unit"] for r in rows} == {"g/m^2"}
    assert 15 < float(rows[1]["limit"]) < 25
    exponents = {r["size"]: r for r in _read(out / "indexing.csv")}
    assert float(exponents["height"]["exponent"]) == pytest.approx(2, abs=0.25)
    assert exponents["height"]["index"].startswith("lv_mass_g_per_height_")
    assert "indexing.csv" in (out / "report.html").read_text(encoding="utf-8")
    scored = run.invoke(
        app,
        ["score", str(out / "reference_ranges.json"), str(path), "--out", str(tmp_path / "s.csv")],
    )
    assert scored.exit_code == 0, scored.output
    assert pd.read_csv(tmp_path / "s.csv")[f"{name}_z"].notna().mean() > 0.9
    missing = tmp_path / "m.csv"
    frame.drop(columns="height_cm").to_csv(missing, index=False)
    refused = run.invoke(
        app,
        ["reference-ranges", str(missing), "--out", str(tmp_path / "o2"), *measures, *options],
    )
    assert refused.exit_code == 3
    assert "height_cm" in refused.output
    document = json.loads((out / "reference_ranges.json").read_text(encoding="utf-8"))
    assert name in {entry["measure"] for entry in document["strata"]}
