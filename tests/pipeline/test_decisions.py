"""``segment --corrections`` with decisions: accepted, edited and rejected scans in the tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cardiometa.errors import InputError, UsageError
from cardiometa.files import sha256_file
from cardiometa.reading.decisions import Decision, append_decision
from tests.kit.small_runs import (
    MASK,
    corrected_record,
    correction,
    load,
    record,
    run,
    save,
    scan,
    table,
)

pytestmark = pytest.mark.usefixtures("no_network")


def decide(folder: Path, person: str, word: str, **more) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    row = Decision(
        trial="ALPHA", participant_id=person, visit="baseline", decision=word, reader="R1", **more
    )
    append_decision(folder / "decisions.csv", row)


def edited_mask(out: Path, review: Path, person: str) -> tuple[np.ndarray, str]:
    """A mask with the RV removed below ``review/masks``, and its path there."""
    labels, affine = load(scan(out, person) / MASK)
    drawn = np.where(labels == 3, 0, labels)
    name = f"masks/ALPHA/{person}/baseline/R1-1.nii.gz"
    save(drawn, affine, review / name)
    return drawn, name


def test_decisions_of_a_review_are_taken(cohort: Path, out: Path) -> None:
    review, before = out / "review", table(out)
    assert [before[p]["status"] for p in ("P001", "P002", "P003")] == ["review", "review", "failed"]
    drawn, name = edited_mask(out, review, "P002")
    shown = sha256_file(scan(out, "P001") / MASK)
    decide(review, "P001", "accepted", before=shown, after=shown)
    decide(review, "P002", "edited", mask=name, after=sha256_file(review / name), ed_frame=1)
    decide(review, "P003", "rejected", reason="no heart in the images, only noise")
    outcome = run(cohort, out, review)
    assert outcome.corrected == 1
    assert "corrections: 1 scan measured on a reader's mask, 2 accepted, 1 rejected" in (
        outcome.notes
    )
    rows = table(out)
    accepted = rows["P001"]
    assert accepted["status"] == "ok"
    assert accepted["flags"] == before["P001"]["flags"] + ";accepted"
    assert accepted["lv_edv_ml"] == before["P001"]["lv_edv_ml"]
    edited = rows["P002"]
    assert edited["status"] == "ok"
    assert {"corrected", "accepted", "phases-chosen"} <= set(edited["flags"].split(";"))
    assert (edited["rv_edv_ml"], edited["ed_frame"]) == ("", "1")
    voxel_ml = float(edited["spacing_mm"]) ** 2 * float(edited["slice_distance_mm"]) / 1000
    assert float(edited["lv_edv_ml"]) == pytest.approx(np.sum(drawn[1] == 1) * voxel_ml, rel=1e-6)
    block = corrected_record(out, "P002")["correction"]
    assert (block["decision"], block["reader"], block["phases_chosen"]) == (
        "edited",
        "R1",
        {"ed_frame": 1},
    )
    assert rows["P003"]["status"] == "failed"
    with (out / "exclusions.csv").open(newline="") as stream:
        found = [r for r in csv.DictReader(stream) if r["stage"] == "scan"]
    assert [(r["code"], r["sentence"]) for r in found] == [
        ("rejected", "A reader rejected the scan: no heart in the images, only noise.")
    ]
    flow = json.loads((out / "flow.json").read_text())["scans"]
    assert (flow["analysed"], flow["failed"], flow["review"]) == (2, 1, 0)
    # The model's own records are as they were, and nothing is left to do.
    assert "correction" not in record(out, "P001")
    assert run(cohort, out, review).already_done == 3
    # A decision that is taken back gives the model's result back.
    decide(review, "P001", "reopened")
    run(cohort, out, review)
    assert table(out)["P001"] == before["P001"]
    assert not correction(out, "P001").exists()


def test_a_rejected_scan_has_no_measures_and_a_decision_on_another_mask_does_not_count(
    cohort: Path, out: Path, tmp_path: Path
) -> None:
    decide(tmp_path / "r", "P001", "rejected", reason="motion")
    decide(tmp_path / "r", "P002", "accepted", before="0" * 64)
    run(cohort, out, tmp_path / "r")
    rows = table(out)
    assert (rows["P001"]["status"], rows["P001"]["lv_edv_ml"]) == ("failed", "")
    assert rows["P001"]["flags"].split(";")[0] == "rejected"
    assert corrected_record(out, "P001")["details"]["rejected_measures"]["lv_edv_ml"] > 50
    assert rows["P002"]["status"] == "review"
    assert "decision-outdated" in rows["P002"]["flags"].split(";")


def test_accepting_does_not_make_a_heart_of_noise(cohort: Path, out: Path, tmp_path: Path) -> None:
    decide(tmp_path / "r", "P003", "accepted")
    run(cohort, out, tmp_path / "r")
    row = table(out)["P003"]
    assert (row["status"], row["lv_edv_ml"]) == ("failed", "")
    assert "correction-unchanged" in row["flags"].split(";")


def test_every_problem_of_decisions_is_named_and_nothing_is_written(
    cohort: Path, out: Path, tmp_path: Path
) -> None:
    review = tmp_path / "r"
    decide(review, "P001", "edited", mask="masks/gone.nii.gz")
    decide(review, "P002", "edited", ed_frame=50)
    decide(review, "P999", "accepted")
    decide(review, "P003", "edited", mask="../../etc/passwd")
    before = (out / "measurements.csv").read_bytes()
    with pytest.raises(InputError) as caught:
        run(cohort, out, review)
    shown = [str(problem) for problem in caught.value.problems]
    for where, what in (
        ("row 2", "its mask does not exist"),
        ("ALPHA/P002/baseline", "ed_frame is 50, the scan has 8 frames"),
        ("row 4", "no such scan"),
        ("row 5", "outside the folder"),
    ):
        assert any(where in line and what in line for line in shown), (where, what, shown)
    assert (out / "measurements.csv").read_bytes() == before
    assert not correction(out, "P002").exists()


def test_a_reader_is_named_where_readers_differ(cohort: Path, out: Path, tmp_path: Path) -> None:
    review = tmp_path / "r"
    decide(review, "P001", "accepted")
    row = Decision(
        trial="ALPHA", participant_id="P001", visit="baseline", decision="rejected", reader="R2",
        reason="motion",
    )  # fmt: skip
    append_decision(review / "decisions.csv", row)
    with pytest.raises(InputError) as caught:
        run(cohort, out, review)
    assert "R1: accepted, R2: rejected" in str(caught.value.problems[0])
    run(cohort, out, review, reader="R2")
    assert table(out)["P001"]["status"] == "failed"
    run(cohort, out, review, reader="R1")
    assert table(out)["P001"]["status"] == "ok"
    with pytest.raises(UsageError, match="--reader"):
        run(cohort, out, tmp_path, reader="R1")
