"""``evaluate --against reported`` refuses values that a measure cannot have, as the others do."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from cardiometa.cli.main import app


def measurements(**changes: object) -> pd.DataFrame:
    draw = np.random.default_rng(2)
    ef = draw.uniform(35, 65, 30).round(1)
    rows = pd.DataFrame(
        {
            "trial": np.where(np.arange(30) < 15, "A", "B"),
            "participant_id": np.arange(30).astype(str),
            "visit": "baseline",
            "status": "ok",
            "lv_ef_percent": ef,
            "reported_lv_ef_percent": (ef + draw.normal(1, 2, 30)).round(1),
        }
    )
    return rows.assign(**changes)


def run(folder: Path, rows: pd.DataFrame, *options: str) -> Result:
    (folder / "seg").mkdir(exist_ok=True)
    rows.to_csv(folder / "seg" / "measurements.csv", index=False)
    words = ["evaluate", str(folder / "seg"), "--against", "reported", "--bootstrap", "50"]
    return CliRunner().invoke(app, [*words, "--out", str(folder / "out"), *options])


def pairs(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "pairs.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    ("column", "change", "said", "way_on"),
    [
        ("reported_lv_ef_percent", lambda v: v / 100, "fractions", "--accept unit"),
        ("reported_lv_ef_percent", lambda v: v.where(v.index != 3, -99), "-99", "--missing -99"),
        ("lv_ef_percent", lambda v: v.where(v.index != 3, 9999), "9999", "--missing 9999"),
    ],
)
def test_a_lie_is_refused_until_it_is_declared(column, change, said, way_on, tmp_path):
    rows = measurements()
    rows[column] = change(rows[column])
    refused = run(tmp_path, rows)
    assert refused.exit_code == 3, refused.output
    assert said in refused.stderr
    assert way_on in refused.stderr
    assert not (tmp_path / "out").exists()
    done = run(tmp_path, rows, *way_on.split())
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    if way_on.startswith("--missing"):
        assert len(pairs(tmp_path)) == len(rows) - 1
        assert document["scans"]["excluded"] == {"no-reported": 1}
    else:
        assert len(pairs(tmp_path)) == len(rows)
        assert document["warnings"][0].startswith("Accepted, unit")
        assert "warning: Accepted, unit" in done.stderr


def test_a_column_that_is_not_compared_never_refuses(tmp_path):
    assert run(tmp_path, measurements(age_years=40.0, memo=-99, visit_day=-99)).exit_code == 0


def test_codes_of_accept_are_known(tmp_path):
    found = run(tmp_path, measurements(), "--accept", "units")
    assert found.exit_code == 2
    assert "--accept units is not known" in found.output
