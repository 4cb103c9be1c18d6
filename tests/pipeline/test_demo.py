from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.demo import run, truth
from cardiometa.demo.run import run_demo
from cardiometa.errors import UsageError
from cardiometa.files import RECORD_NAME, canonical_json
from cardiometa.pipeline.merge import frame_csv


def test_a_demo_of_another_seed_and_a_foreign_folder_are_refused(tmp_path: Path) -> None:
    record = {"command": "demo", "options": {"seed": 1}}
    (tmp_path / RECORD_NAME).write_text(canonical_json(record))
    with pytest.raises(UsageError, match="seed"):
        run_demo(tmp_path, seed=2, workers=1, say=lambda _: None)
    (tmp_path / RECORD_NAME).unlink()
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(UsageError, match="other files"):
        run_demo(tmp_path, seed=1, workers=1, say=lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_examples_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    done = CliRunner().invoke(app, ["demo", "--examples", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    names = json.loads(done.stdout)["examples"]
    assert {"own_table", "tutorials", "container", "privacy.md"} <= set(names)
    assert sorted(path.name for path in folder.iterdir()) == names
    source = Path(__file__).resolve().parents[2] / "examples" / "own_table" / "columns.toml"
    assert (folder / "own_table" / "columns.toml").read_bytes() == source.read_bytes()
    again = CliRunner().invoke(app, ["demo", "--examples", str(folder)])
    assert again.exit_code == 2
    assert "already exists" in again.stderr


def test_effects_stand_in_three_columns_with_their_truth(tmp_path: Path) -> None:
    (tmp_path / run.TABLE_NAME).write_text(frame_csv(truth.synthetic_measurements(1)))
    pooled = run._effects(tmp_path, 1)
    lines = run._effect_lines(pooled)
    sources = ("as reported", "reported, after ComBat", "measured anew by one model")
    corrected = "measured anew and corrected for the model's error"
    named = [line.what.split(", ", 2)[2] for line in lines]
    assert named == [*sources, corrected, *sources, *sources]
    assert [line.truth for line in lines] == ["3"] * 4 + ["0.58"] * 3 + ["4"] * 3
    measured, whole = (float(line.found.split()[0]) for line in lines[2:4])
    assert whole == pytest.approx(measured / truth.evaluated_hearts(1).slope, abs=0.01)
    assert abs(whole - 3) < abs(measured - 3)
    residual = [float(line.found.split()[0]) for line in lines[7:]]
    assert 4.0 < residual[2] / truth.evaluated_hearts(1).slope < residual[1]
    taught = run.lessons(pooled)
    effects = pooled.table("effects")
    chosen = (effects["analysis"] == "pooled") & (effects["model"] == "two-stage")
    rows = effects[chosen & effects["headline"]].set_index("source")
    widths = rows["ci_high"] - rows["ci_low"]
    assert widths["harmonised"] > widths["reported"]
    shown = "{:.2f} points wide from measured values and {:.2f} from reported ones"
    assert shown.format(widths["harmonised"], widths["reported"]) in taught
    assert "GAMMA 0.88" in taught
    assert f"it is {truth.effect_sd():.2f}" in taught
    page = (tmp_path / run.POOLED_REPORT).read_text()
    assert "It is a comparison, not the method" in page
