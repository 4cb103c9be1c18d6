"""``segment --dicom-seg``: objects beside the masks, added and taken away without the network."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from cardiometa.errors import UsageError
from tests.kit.small_runs import MASK, contents, correction, load, record, run, save, scan, table

hd = pytest.importorskip("highdicom")


def objects(out: Path, person: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in scan(out, person).glob("*.dcm")}


def voxels(data: bytes) -> dict[int, int]:
    """How many voxels each segment has."""
    dataset = dcmread(io.BytesIO(data))
    counts = {1: 0, 2: 0, 3: 0}
    frames = zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True)
    for mask, group in frames:
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        counts[number] += int(mask.sum())
    return counts


def counted(labels: np.ndarray) -> dict[int, int]:
    return {label: int((labels == label).sum()) for label in (1, 2, 3)}


@pytest.mark.usefixtures("no_network")
def test_objects_hold_ed_and_es_of_dicom_scans_and_reruns_give_their_bytes(
    cohort: Path, out: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(out, tmp_path / "other"))
    before = contents(out)
    with pytest.raises(UsageError, match="dicom_seg"):
        run(cohort, out, dicom_seg="scrub")
    outcome = run(cohort, out, dicom_seg="scrub", overwrite=True)
    names = "ed.seg.dcm and es.seg.dcm, and DICOM SR measures.sr.dcm,"
    assert f"DICOM SEG: {names} of 1 scan" in outcome.notes
    assert any("none of 2 scans. The source is NIfTI" in note for note in outcome.notes)
    labels, _ = load(scan(out, "P001") / MASK)
    row = table(out)["P001"]
    made = objects(out, "P001")
    assert set(made) == {"ed.seg.dcm", "es.seg.dcm", "measures.sr.dcm"}
    report = dcmread(io.BytesIO(made["measures.sr.dcm"]))
    values = [float(e.value) for e in report.iterall() if e.keyword == "NumericValue"]
    assert pytest.approx(float(row["lv_edv_ml"]), rel=1e-12) in values
    assert voxels(made["ed.seg.dcm"]) == counted(labels[int(row["ed_frame"])])
    assert voxels(made["es.seg.dcm"]) == counted(labels[int(row["es_frame"])])
    assert objects(out, "P002") == objects(out, "P003") == {}
    assert set(record(out, "P001")["outputs"]) == {*record(other, "P001")["outputs"], *made}
    run(cohort, other, dicom_seg="scrub", overwrite=True)
    assert objects(other, "P001") == made
    assert run(cohort, out, dicom_seg="scrub").already_done == 3
    # And away again, to the bytes of a run that never had them.
    run(cohort, out, overwrite=True)
    assert contents(out) == before


@pytest.mark.usefixtures("no_network")
def test_a_readers_mask_is_the_one_that_is_filed(cohort: Path, out: Path, tmp_path: Path) -> None:
    labels, affine = load(scan(out, "P001") / MASK)
    labels[labels == 3] = 0
    save(labels, affine, tmp_path / "mended" / "ALPHA" / "P001" / "baseline" / MASK)
    run(cohort, out, tmp_path / "mended", dicom_seg="scrub", overwrite=True)
    data = (correction(out, "P001") / "ed.seg.dcm").read_bytes()
    assert voxels(data) == counted(labels[int(table(out)["P001"]["ed_frame"])])
    kinds = {segment.SegmentAlgorithmType for segment in dcmread(io.BytesIO(data)).SegmentSequence}
    assert kinds == {"SEMIAUTOMATIC"}


@pytest.mark.usefixtures("no_network")
def test_kept_identity_is_said_on_the_page(cohort: Path, out: Path) -> None:
    run(cohort, out, dicom_seg="keep", overwrite=True)
    source = dcmread(next((cohort / "ALPHA" / "P001").rglob("*.dcm")))
    made = dcmread(io.BytesIO(objects(out, "P001")["ed.seg.dcm"]))
    assert made.StudyInstanceUID == source.StudyInstanceUID
    page = (out / "report.html").read_text()
    assert "carry the identity of patient" in page
    assert "any output except the DICOM SEG objects" in page
    assert json.loads((out / "cardiometa.json").read_text())["options"]["dicom_seg"] == "keep"
