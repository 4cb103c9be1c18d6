"""What a run says by default, serious warnings, other inputs and inputs changed by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from cardiometa.cli.main import app
from cardiometa.files import RECORD_NAME, canonical_json
from cardiometa.manifest import file_marks, refuse_modified
from cardiometa.records import severity
from tests.kit.pooling_tables import simulate_wide

POOL = (
    *("--outcome", "lv_ef_percent", "--baseline", "lv_ef_baseline"),
    *("--model", "two-stage", "--no-leave-one-out"),
)
RANGES = ("--all", "--by", "sex", "--method", "strata", "--bootstrap", "200")


def run(command: str, table: Path, out: Path, *options: str) -> Result:
    words = [command, str(table), "--out", str(out), *options]
    return CliRunner().invoke(app, words, env={"COLUMNS": "80"})


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five trials; two follow-up values that cannot be."""
    path = tmp_path_factory.mktemp("table") / "trials.csv"
    rows = simulate_wide(5)
    rows.loc[[3, 70], "lv_ef_percent"] = 101.5
    rows.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("command", "options"), [("pool-trials", POOL), ("reference-ranges", RANGES)]
)
def test_a_screen_of_text_and_serious_warnings_always(
    command: str, options: tuple[str, ...], table: Path, tmp_path: Path
) -> None:
    refused = run(command, table, tmp_path / "out", *options)
    assert refused.exit_code == 3
    assert "--accept impossible-value" in refused.stderr
    assert not (tmp_path / "out").exists()
    accepted = (*options, "--accept", "impossible-value")
    plain = run(command, table, tmp_path / "out", *accepted)
    assert plain.exit_code == 0, plain.output
    lines = plain.output.splitlines()
    assert len(lines) <= 24
    assert max(len(line) for line in lines if "/" not in line and "warning" not in line) <= 80
    serious = "warning: Accepted, impossible-value: values that the measure cannot have are used"
    assert serious in plain.stderr
    assert "101.5" not in plain.output  # the value of a participant
    told = run(command, table, tmp_path / "out", *accepted, "--json", "--quiet")
    assert serious in told.stderr
    document = json.loads(told.stdout)
    assert document["warnings"][0] == document["serious_warnings"][0]
    assert "impossible-value" in document["serious_warnings"][0]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Accepted, impossible-value" in page
    assert page.index("Accepted, impossible-value") < page.index("<svg")
    more = run(command, table, tmp_path / "out", *accepted, "--verbose")
    assert ("Methods: " in more.output) == (command == "pool-trials")
    assert ("ote: " in more.output) == bool(re.search(r"\d+ notes?: ", plain.output))


@pytest.mark.parametrize(
    ("command", "options"), [("pool-trials", POOL), ("reference-ranges", RANGES)]
)
def test_another_input_needs_overwrite(
    command: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    rows = simulate_wide(3, people=45)
    first, second, out = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "out"
    rows.to_csv(first, index=False)
    assert run(command, first, out, *options).exit_code == 0
    assert run(command, first, out, *options).exit_code == 0
    rows.assign(lv_ef_percent=rows["lv_ef_percent"] + 1).to_csv(second, index=False)
    before = (out / RECORD_NAME).read_bytes()
    refused = run(command, second, out, *options)
    assert refused.exit_code == 2
    assert "made from another input (table)" in refused.stderr
    assert (out / RECORD_NAME).read_bytes() == before
    assert run(command, second, out, *options, "--overwrite").exit_code == 0


def segmented(folder: Path) -> Path:
    """A folder like an output of `segment`, as far as the statistics commands read it."""
    draw = np.random.default_rng(4)
    n = 130
    rows = pd.DataFrame(
        {
            "trial": "ALPHA",
            "participant_id": [f"{i:03d}" for i in range(n)],
            "visit": "baseline",
            "status": "ok",
            "lv_edv_ml": draw.normal(150, 20, n).round(2),
            "sex": draw.choice(["male", "female"], n),
        }
    )
    text = rows.to_csv(index=False)
    record = {
        "command": "segment",
        "options": {"cohort": "c"},
        "inputs": {},
        "run": {"state": "complete", "outputs": file_marks({"measurements.csv": text})},
    }
    folder.mkdir()
    (folder / "measurements.csv").write_text(text)
    (folder / RECORD_NAME).write_text(canonical_json(record))
    return folder


def test_an_output_changed_by_hand_is_refused(tmp_path: Path) -> None:
    out = segmented(tmp_path / "seg")
    assert run("reference-ranges", out, tmp_path / "a", *RANGES).exit_code == 0
    table = out / "measurements.csv"
    table.write_text(table.read_text().replace("ALPHA,005", "ALPHA,9005"))
    for source in (out, table):
        refused = run("reference-ranges", source, tmp_path / "b", *RANGES)
        assert refused.exit_code == 3
        assert "--accept modified-input" in refused.stderr
    accepted = (*RANGES, "--accept", "modified-input", "--quiet")
    done = run("reference-ranges", out, tmp_path / "b", *accepted)
    assert done.exit_code == 0, done.output
    assert "warning: Accepted, modified-input" in done.stderr
    assert "modified-input" in (tmp_path / "b" / "report.html").read_text()
    copy = tmp_path / "mine.csv"
    copy.write_text(table.read_text())
    assert run("reference-ranges", copy, tmp_path / "c", *RANGES).exit_code == 0


def test_a_reference_changed_by_hand_is_refused(tmp_path: Path) -> None:
    out = segmented(tmp_path / "seg")
    assert run("reference-ranges", out, tmp_path / "ranges", *RANGES).exit_code == 0
    reference = tmp_path / "ranges" / "reference_ranges.json"
    assert refuse_modified([reference], ()) == ()
    reference.write_text(reference.read_text().replace('"level": 95', '"level": 96'))
    words = ["score", str(reference), str(out), "--out", str(tmp_path / "z.csv")]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 3
    assert "--accept modified-input" in refused.stderr
    (warning,) = refuse_modified([reference], ("modified-input",))
    assert severity(warning) == "serious"
