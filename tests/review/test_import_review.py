"""``evaluate --import-review``: rates, agreement with the model and between readers, labels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.files import sha256_file
from cardiometa.manifest import made_from
from cardiometa.privacy.withdrawal import mark_outdated
from tests.kit.small_runs import load
from tests.review.conftest import Opened, number_of


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def evaluate(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *(str(a) for a in arguments)])


@pytest.fixture
def reviewed(out: Path, opened: Opened) -> Path:
    """AB edits 001 (no RV at ED), accepts 002, rejects 003; CD accepts all three."""
    first, second = opened("AB"), opened("CD")
    for session in (first, second):
        for person, word in (("001", "accepted"), ("002", "accepted"), ("003", "rejected")):
            n = number_of(session, person)
            scan = session.scan(n)
            if session is first and person == "001":
                places = [(0, z) for z in range(scan.labels.shape[1])]
                plane = np.where(scan.labels[0] == 3, 0, scan.labels[0]).astype(np.uint8)
                session.put_labels(n, places, plane.tobytes(), scan.revision)
                session.save(n, 20.0, "")
            said = "accepted" if session is second else word
            session.decide(n, said, scan.revision, reason="motion", comment="", seconds=10.0)
    return out


def test_rates_readers_and_labels_of_a_review(reviewed: Path, tmp_path: Path) -> None:
    found = tmp_path / "found"
    review = reviewed / "review"
    done = evaluate(reviewed, "--import-review", review, "--out", found, "--min-cell", 1)
    assert done.exit_code == 0, done.output
    assert "6 decisions of AB, CD: 4 accepted, 1 edited, 1 rejected" in done.output
    read = {(r["reader"], r["participant_id"]): r for r in rows(found / "readings.csv")}
    edited = read["AB", "001"]
    assert (edited["decision"], float(edited["seconds"])) == ("edited", 30.0)
    assert (float(edited["dice_rv_cavity_ed"]), float(edited["dice_rv_cavity_es"])) == (0, 1)
    assert float(edited["dice_lv_cavity_ed"]) == 1
    own, _ = load(reviewed / "scans" / "ALPHA" / "001" / "baseline" / "segmentation.nii.gz")
    assert int(edited["voxels_changed"]) == np.count_nonzero(own[0] == 3)
    assert read["AB", "003"]["dice_lv_cavity_ed"] == ""
    assert read["AB", "003"]["reason"] == "motion"
    pair = rows(found / "readers.csv")[0]
    assert (pair["reader_a"], pair["reader_b"], pair["n_scans"]) == ("AB", "CD", "3")
    assert float(pair["percent_same"]) == pytest.approx(100 / 3)
    assert float(pair["dice_rv_cavity"]) < 1
    assert float(pair["dice_lv_cavity"]) == 1
    events: dict[str, int] = {}
    for row in rows(found / "rates_AB.csv"):
        if row["group_by"] == "all":
            events[row["kind"]] = events.get(row["kind"], 0) + int(row["n_events"])
    assert events == {"correction": 1, "rejection": 1}
    assert {"arm", "sex"} <= {r["group_by"] for r in rows(found / "rates_AB.csv")}
    # The reader's labels are compared with the model by the command that compares labels.
    done = evaluate(
        reviewed, "--against", "labels", "--labels", found / "labels_AB.csv", "--out",
        tmp_path / "ev", "--bootstrap", 5, "--min-cell", 1, "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    compared = rows(tmp_path / "ev" / "pairs.csv")
    ed = {r["participant_id"]: r for r in compared if r["measure"] == "lv_edv_ml"}
    assert sorted(ed) == ["001", "002"]
    assert all(float(r["model"]) == pytest.approx(float(r["reference"])) for r in ed.values())
    # A withdrawal finds the folder by the table that it was made from, and the masks in it.
    assert made_from(found, [sha256_file(reviewed / "measurements.csv")])
    mark_outdated(found, [("ALPHA", "001")])
    assert sorted(p.parts[-2:] for p in found.glob("labels/*/*/*")) == [
        ("ALPHA", "002"), ("ALPHA", "002"), ("ALPHA", "003"),
    ]  # fmt: skip


def test_small_counts_are_suppressed_and_bad_input_is_named(reviewed: Path, tmp_path: Path) -> None:
    review = reviewed / "review"
    done = evaluate(reviewed, "--import-review", review, "--out", tmp_path / "a")
    assert done.exit_code == 0, done.output
    assert rows(tmp_path / "a" / "readers.csv")[0]["note"] == "n<10"
    assert not any(r["n_events"] for r in rows(tmp_path / "a" / "rates_AB.csv"))
    next((review / "masks").rglob("*.nii.gz")).write_bytes(b"no mask")
    done = evaluate(reviewed, "--import-review", review, "--out", tmp_path / "b")
    assert done.exit_code == 3
    assert "not the one that was decided on" in done.output
    assert not (tmp_path / "b").exists()
    for wrong in (
        ("--import-review", review),
        ("--import-review", reviewed / "scans", "--out", "c"),
    ):
        assert evaluate(reviewed, *wrong).exit_code in (2, 3)
