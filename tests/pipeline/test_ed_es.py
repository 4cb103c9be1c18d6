"""``--frames ed-es``: ED and ES found by a coarse look at all phases and read in full alone."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import UsageError
from cardiometa.reading.contours import read_contours
from cardiometa.reading.label_file import LabelFile, ScanTarget, UnusableError
from cardiometa.reading.manual_labels import read_manual
from tests.kit.small_runs import (
    MASK,
    contents,
    corrected_record,
    correction,
    load,
    record,
    run,
    save,
    scan,
    table,
)
from tests.kit.tiny_dicom import put, read
from tests.pipeline.test_manual_labels import KEY, contour_files, numbered, target_of

CINES = ("P001", "P002")


@pytest.fixture(scope="module")
def two(small_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ed-es") / "out"
    run(small_cohort, out, frames="ed-es")
    return out


@pytest.mark.parametrize("person", CINES)
def test_both_phases_are_those_of_the_whole_cine(two: Path, plain: Path, person: str) -> None:
    """And so are the volumes; the RV is measured at the LV's phases."""
    own, whole = record(two, person), record(plain, person)
    assert own["segmented_frames"] == [
        own["measures"]["ed_frame"],
        own["measures"]["es_frame"],
    ]
    assert "segmented_frames" not in whole
    for name in ("ed_frame", "es_frame", "frames", "frame_ms", "slices", "heart_rate_bpm"):
        assert own["measures"][name] == whole["measures"][name], name
    for name in ("lv_edv_ml", "lv_esv_ml", "lv_mass_g"):
        assert own["measures"][name] == pytest.approx(whole["measures"][name], rel=0.02), name
    at_lv = whole["details"]["rv_at_lv_phases"]
    for name in ("rv_edv_ml", "rv_esv_ml"):
        assert own["measures"][name] == pytest.approx(at_lv[name], rel=0.03), name
    assert own["measures"]["rv_ed_frame"] == own["measures"]["ed_frame"]
    assert own["measures"]["rv_es_frame"] == own["measures"]["es_frame"]
    assert [len(own["curves"][name]) for name in ("lv_ml", "rv_ml")] == [2, 2]


@pytest.mark.parametrize("person", CINES)
def test_the_mask_holds_ed_then_es(two: Path, plain: Path, person: str) -> None:
    labels, affine = load(scan(two, person) / MASK)
    whole, wanted = load(scan(plain, person) / MASK)
    assert labels.shape == (2, *whole.shape[1:])
    assert np.array_equal(affine, wanted)
    frames = record(two, person)["segmented_frames"]
    same = whole[frames]
    assert (labels != same).mean() < 0.001
    assert np.count_nonzero(labels[0] == 1) > np.count_nonzero(labels[1] == 1)


def test_the_page_says_how_phases_were_found(two: Path, plain: Path) -> None:
    told = "only these two phases were segmented in full, and the RV was measured at the same two"
    other = "the extremes of each ventricle&#39;s volume over the cycle"
    for out, here, absent in ((two, told, other), (plain, other, told)):
        page = (out / "report.html").read_text(encoding="utf-8").replace("&#x27;", "&#39;")
        assert here in page
        assert absent not in page


def test_a_cine_of_nothing_fails_alike(two: Path, plain: Path) -> None:
    assert table(two)["P003"]["status"] == table(plain)["P003"]["status"] == "failed"


def test_it_matters_to_the_result_and_resumes(two: Path, cohort: Path) -> None:
    with pytest.raises(UsageError, match="other options \\(frames\\)"):
        run(cohort, two)
    before = contents(two)
    assert run(cohort, two, frames="ed-es", workers=2).already_done == 3
    (scan(two, "P001") / MASK).unlink()
    assert run(cohort, two, frames="ed-es", workers=2).already_done == 2
    assert contents(two) == before
    with pytest.raises(UsageError, match="--frames none is not known"):
        run(cohort, two, frames="none")


@pytest.mark.usefixtures("no_network")
def test_a_mended_mask_of_two_phases_comes_in(two: Path, cohort: Path, tmp_path: Path) -> None:
    labels, affine = load(scan(two, "P001") / MASK)
    mended = labels.copy()
    z, y, x = (int(np.median(axis)) for axis in np.nonzero(labels[1] == 1))
    mended[1, z, y, x] = 2
    save(mended, affine, tmp_path / "mended/ALPHA/P001/baseline" / MASK)
    run(cohort, two, tmp_path / "mended", frames="ed-es")
    own, reader = record(two, "P001"), corrected_record(two, "P001")
    assert reader["correction"]["frames_changed"] == [own["segmented_frames"][1]]
    assert own["segmented_frames"] == reader["segmented_frames"]
    assert nib.load(correction(two, "P001") / MASK).shape[3] == 2
    assert reader["measures"]["lv_esv_ml"] < own["measures"]["lv_esv_ml"]


def test_a_blind_package_holds_the_phases_that_were_segmented(
    two: Path, cohort: Path, tmp_path: Path
) -> None:
    words = ("--cohort", cohort, "--key", tmp_path / "key.csv", "--share", 100)
    done = CliRunner().invoke(
        app, ["evaluate", str(two), "--export-for-reading", str(tmp_path / "p"), *map(str, words)]
    )
    assert done.exit_code == 0, done.output
    with (tmp_path / "key.csv").open(newline="") as stream:
        rows = {row["participant_id"]: row for row in csv.DictReader(stream)}
    source = np.asarray(nib.load(cohort / "ALPHA" / "P002" / "cine.nii.gz").dataobj)
    frames = record(two, "P002")["segmented_frames"]
    labels, _ = load(scan(two, "P002") / MASK)
    for place, phase in enumerate(("ED", "ES")):
        case = tmp_path / "p" / rows["P002"]["code"]
        pixels = np.asarray(nib.load(case / f"{phase}.nii.gz").dataobj)
        assert np.array_equal(pixels, source[..., frames[place]])
        mask = np.asarray(nib.load(case / f"{phase}_mask.nii.gz").dataobj)
        assert np.array_equal(mask.transpose(2, 1, 0), labels[place])


def test_labels_are_compared_with_the_phases_there_are(tmp_path: Path) -> None:
    """A frame is named by the source's number; a reader's ED beside ours is compared with ours."""
    put(tmp_path, {**numbered("dicom/"), **contour_files()})  # ED at phase 3, ES at phase 11
    grid = target_of(read(tmp_path / "dicom")).grid
    target = ScanTarget(
        key=KEY, grid=replace(grid, shape=(2, *grid.shape[1:])), segmented_frames=(4, 11)
    )
    ed, es = read_contours(tmp_path, target).phases
    assert (ed.frame, es.frame) == (None, 1)
    labels = np.zeros(grid.shape[1:], dtype=np.uint8)
    labels[2, 3:6, 3:6] = 1
    save(labels[None], grid.affine, tmp_path / "labels.nii.gz")
    file = LabelFile(kind="nifti", path=tmp_path / "labels.nii.gz", phase="ES", frame=11)
    found, _ = read_manual((file,), target)
    assert [phase.frame for phase in found.phases] == [1]
    for frame in (1, 3):  # 1 is a place in the mask, but not a frame that was segmented
        with pytest.raises(UnusableError, match=f"of frame {frame}; of this scan frames 4 and 11"):
            read_manual((replace(file, frame=frame),), target)
