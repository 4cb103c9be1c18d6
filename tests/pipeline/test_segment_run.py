"""``cardiometa segment`` from the command line on phantoms, one failure among them."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cardiometa.phantom.image import CineGrid, HeartPhantom, render
from cardiometa.phantom.write import PhantomHeader, dicom_files, nifti_4d, nifti_ed_es
from tests.kit.pairs import cardiometa, same_tables
from tests.kit.processes import none_left

EDV = {"P001": 160.0, "P002": 220.0, "P003": 130.0}


def phantom_files(participant: str, form: str) -> dict[str, bytes]:
    edv = EDV[participant]
    phantom = HeartPhantom(lv_edv_ml=edv, lv_ef_percent=55, rv_edv_ml=edv, seed=len(form))
    cine = render(phantom, CineGrid(slices=12, frames=8, rows=112, columns=112))
    if form == "dicom":
        return dicom_files(cine, PhantomHeader(pseudonym=f"secret-{participant}"))
    return nifti_4d(cine) if form == "nifti" else nifti_ed_es(cine)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """trial/participant/images: a DICOM heart, a NIfTI heart, an ED/ES heart, and garbage."""
    top = tmp_path_factory.mktemp("cohort")
    for participant, form in (("P001", "dicom"), ("P002", "nifti"), ("P003", "ed-es")):
        folder = top / "ALPHA" / participant
        folder.mkdir(parents=True)
        for name, data in phantom_files(participant, form).items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    garbage = top / "ALPHA" / "P004"
    garbage.mkdir()
    (garbage / "empty.dcm").write_bytes(b"")
    (garbage / "notes.dcm").write_text("this is no image")
    return top


def tree_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "measurements.csv").open(newline="") as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def finished(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "out"
    before = tree_hash(cohort)
    done = cardiometa("segment", str(cohort), "--out", str(out))
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    assert tree_hash(cohort) == before, "inputs are read-only"
    return out


def test_every_scan_is_accounted_for(finished: Path) -> None:
    rows = rows_of(finished)
    assert [row["participant_id"] for row in rows] == ["P001", "P002", "P003", "P004"]
    status = {row["participant_id"]: row["status"] for row in rows}
    assert status["P004"] == "failed"
    assert rows[3]["lv_edv_ml"] == ""
    flow = json.loads((finished / "flow.json").read_text())
    scans = flow["scans"]
    by_status = [sum(row["status"] == s for row in rows) for s in ("ok", "review", "failed")]
    assert sum(by_status) == 4
    assert scans["failed"] == by_status[2] == 1
    people = flow["participants"]
    assert people["analysed"] + people["excluded"] == people["obtained"] == 4
    with (finished / "exclusions.csv").open(newline="") as stream:
        excluded = [r for r in csv.DictReader(stream) if r["stage"] == "participant"]
    assert [row["participant_id"] for row in excluded] == ["P004"]


def test_phantom_volumes_come_out_near_the_truth(finished: Path) -> None:
    """Through reader, network, cleaning and measurement; phantoms of this seed are unseen."""
    for row in rows_of(finished)[:3]:
        true = EDV[row["participant_id"]]
        assert float(row["lv_edv_ml"]) == pytest.approx(true, rel=0.15), row["participant_id"]
        assert float(row["lv_ef_percent"]) == pytest.approx(55, abs=8), row["participant_id"]
        assert 0.5 * true < float(row["rv_edv_ml"]) < 1.5 * true, row["participant_id"]


def test_masks_keep_the_sources_grid(finished: Path, cohort: Path) -> None:
    source = nib.load(cohort / "ALPHA" / "P002" / "cine.nii.gz")
    mask = nib.load(finished / "scans/ALPHA/P002/baseline/segmentation.nii.gz")
    assert mask.shape == source.shape
    assert np.allclose(mask.affine, source.affine)
    assert set(np.unique(np.asarray(mask.dataobj))) == {0, 1, 2, 3}
    pair = nib.load(finished / "scans/ALPHA/P003/baseline/segmentation.nii.gz")
    assert pair.shape[3] == 2
    row = rows_of(finished)[2]
    assert (row["ed_frame"], row["es_frame"], row["frames"]) == ("0", "1", "2")


def test_no_header_identity_reaches_an_output(finished: Path) -> None:
    for path in finished.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"secret-" not in data, path.name


def test_a_second_run_does_nothing(finished: Path, cohort: Path) -> None:
    record = finished / "scans/ALPHA/P001/baseline/result.json"
    stamp = record.stat().st_mtime_ns
    table = (finished / "measurements.csv").read_bytes()
    again = cardiometa("segment", str(cohort), "--out", str(finished))
    assert again.returncode == 4
    assert "4 already done" in again.stderr
    assert record.stat().st_mtime_ns == stamp
    assert (finished / "measurements.csv").read_bytes() == table


def test_other_options_are_refused_and_damage_is_mended(finished: Path, cohort: Path) -> None:
    refused = cardiometa("segment", str(cohort), "--out", str(finished), "--bsa", "dubois")
    assert refused.returncode == 2
    assert "other options (bsa)" in refused.stderr
    overlay = finished / "scans/ALPHA/P003/baseline/overlay.png"
    whole = overlay.read_bytes()
    overlay.write_bytes(whole[:100])
    mended = cardiometa("segment", str(cohort), "--out", str(finished), "--quiet")
    assert mended.returncode == 4
    assert overlay.read_bytes() == whole


@pytest.mark.parametrize("records", [0, 2])
def test_a_killed_run_resumes_to_the_same_bytes(
    pairs: Path, whole: Path, tmp_path: Path, records: int
) -> None:
    """Killed as soon as OUT exists, or when a number of its four scans are done."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "cardiometa", "segment", str(pairs), "--out", str(out)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    until = time.monotonic() + 120
    while time.monotonic() < until and not (
        (out / "cardiometa.json").exists()
        and len(list(out.glob("scans/*/*/*/result.json"))) >= records
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert none_left(process.pid)
    for path in out.rglob("*"):
        # Whatever has its final name is whole.
        if path.is_file() and path.suffix == ".json":
            json.loads(path.read_text())
    resumed = cardiometa("segment", str(pairs), "--out", str(out), "--workers", str(records + 1))
    assert resumed.returncode in (0, 4), resumed.stderr
    done = re.search(r"(\d+) already done", resumed.stderr)
    assert done is not None
    assert int(done[1]) >= records
    same_tables(whole, out)
    assert not list(out.rglob("*.tmp"))


def test_a_folder_of_garbage_is_one_failed_scan_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "letter.txt").write_text("dear sir")
    out = tmp_path / "out"
    done = cardiometa("segment", str(tmp_path / "in"), "--out", str(out))
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert [row["status"] for row in rows_of(out)] == ["failed"]
    with (out / "exclusions.csv").open(newline="") as stream:
        sentences = [row["sentence"] for row in csv.DictReader(stream)]
    assert any("text files" in sentence for sentence in sentences)
    assert f"failed: single/scan-1/baseline: {sentences[0]}" in done.stderr
    assert not any("dear sir" in sentence or "letter" in sentence for sentence in sentences)


def test_a_cohort_that_is_none_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    toml = tmp_path / "cohort.toml"
    toml.write_text('name = "x"\n[trials.A]\nscans = "absent.csv"\n')
    done = cardiometa("segment", str(toml), "--out", str(tmp_path / "out"))
    assert done.returncode == 3
    assert "trials.A" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
