"""``segment --corrections``: a reader's result next to the model's, which stays as it is."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cardiometa.errors import InputError, OutputError, UsageError
from cardiometa.reading.label_file import grid_of_mask, read_labels
from tests.kit.broken_workers import broken_workers
from tests.kit.labelled import BEAT, disc_heart
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


def mend(out: Path, folder: Path, person: str = "P001") -> np.ndarray:
    """A reader takes the outer LV cavity off in every frame and saves; the mended labels."""
    labels, affine = load(scan(out, person) / MASK)
    from scipy import ndimage

    cavity = labels == 1
    inner = ndimage.binary_erosion(cavity, np.ones((1, 1, 3, 3)))
    mended = labels.copy()
    mended[cavity & ~inner] = 2
    save(mended, affine, folder / "ALPHA" / person / "baseline" / MASK)
    return mended


@pytest.mark.usefixtures("no_network")
def test_measures_are_those_of_the_mended_mask(
    cohort: Path, plain: Path, out: Path, tmp_path: Path
) -> None:
    mended = mend(out, tmp_path / "mended")
    outcome = run(cohort, out, tmp_path / "mended")
    assert (outcome.corrected, outcome.already_done) == (1, 2)
    row, before = table(out)["P001"], table(plain)["P001"]
    voxel_ml = float(row["spacing_mm"]) ** 2 * float(row["slice_distance_mm"]) / 1000
    cavity = np.count_nonzero(mended == 1, axis=(1, 2, 3))
    wall = np.count_nonzero(mended == 2, axis=(1, 2, 3))
    ed, es = int(row["ed_frame"]), int(row["es_frame"])
    assert float(row["lv_edv_ml"]) == pytest.approx(cavity[ed] * voxel_ml, rel=1e-6)
    assert float(row["lv_esv_ml"]) == pytest.approx(cavity[es] * voxel_ml, rel=1e-6)
    assert float(row["lv_mass_g"]) == pytest.approx(wall[ed] * voxel_ml * 1.05, rel=1e-6)
    assert float(row["lv_edv_ml"]) < float(before["lv_edv_ml"])
    assert row["rv_edv_ml"] == before["rv_edv_ml"]
    assert "corrected" in row["flags"].split(";")
    # The others are untouched, in files and in the table.
    for person in ("P002", "P003"):
        assert table(out)[person] == table(plain)[person]
    for name in (MASK, "overlay.png", "result.json"):
        own = (scan(plain, "P001") / name).read_bytes()
        assert (scan(out, "P001") / name).read_bytes() == own
    assert np.array_equal(load(correction(out, "P001") / MASK)[0], mended)
    assert (correction(out, "P001") / "overlay.png").read_bytes() != (
        scan(plain, "P001") / "overlay.png"
    ).read_bytes()


@pytest.mark.usefixtures("no_network")
def test_the_record_says_what_was_changed_and_by_which_file(
    cohort: Path, plain: Path, out: Path, tmp_path: Path
) -> None:
    from hashlib import sha256

    labels, affine = load(scan(out, "P001") / MASK)
    mended = labels.copy()
    mended[4, 4, 40:43, 40:42] = 3 - mended[4, 4, 40:43, 40:42]
    path = save(mended, affine, tmp_path / "mended" / "ALPHA" / "P001" / "baseline" / MASK)
    run(cohort, out, tmp_path / "mended")
    document, own = corrected_record(out, "P001"), record(plain, "P001")
    digest = sha256(path.read_bytes()).hexdigest()
    block = document["correction"]
    assert block["sha256"] == document["options"]["correction_sha256"] == digest
    assert (block["voxels_changed"], block["slices_changed"]) == (6, 1)
    assert block["frames_changed"] == [4]
    assert record(out, "P001") == own
    assert document["model"] == own["model"]
    assert document["measures"]["quality"] is None
    # What the model was sure of says nothing of the slice that was drawn.
    known, now = own["confidence_by_frame"], document["confidence_by_frame"]
    assert now[4][4] is None
    assert [v for t, z in enumerate(now) for i, v in enumerate(z) if (t, i) != (4, 4)] == [
        v for t, z in enumerate(known) for i, v in enumerate(z) if (t, i) != (4, 4)
    ]
    for name, value in document["outputs"].items():
        assert sha256((correction(out, "P001") / name).read_bytes()).hexdigest() == value
    assert (
        json.loads((out / "cardiometa.json").read_text())["inputs"][
            "correction ALPHA/P001/baseline"
        ]
        == digest
    )


@pytest.mark.usefixtures("no_network")
def test_taking_a_correction_away_gives_the_models_bytes_back(
    cohort: Path, plain: Path, out: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mended"
    mend(out, folder)
    run(cohort, out, folder)
    corrected = contents(out)
    labels, affine = load(scan(out, "P001") / MASK)
    other = np.where(labels == 3, 0, labels)
    shutil.copytree(folder, tmp_path / "kept")
    save(other, affine, folder / "ALPHA" / "P001" / "baseline" / MASK)
    run(cohort, out, folder)
    assert table(out)["P001"]["rv_edv_ml"] == ""
    run(cohort, out, tmp_path / "kept")
    assert contents(out) == corrected
    shutil.rmtree(folder / "ALPHA")
    outcome = run(cohort, out, folder)
    assert "corrections: 1 scan back to the model's own results" in outcome.notes
    for path in plain.rglob("scans/**/*"):
        if path.is_file():
            assert (out / path.relative_to(plain)).read_bytes() == path.read_bytes(), path.name
    assert contents(out) == contents(plain)
    assert (out / "measurements.csv").read_bytes() == (plain / "measurements.csv").read_bytes()
    again = run(cohort, out, folder)
    assert again.already_done == 3


def test_a_first_run_with_corrections_is_the_same(
    cohort: Path, out: Path, tmp_path: Path, plain: Path
) -> None:
    mend(plain, tmp_path / "mended", "P002")
    run(cohort, out, tmp_path / "mended")
    run(cohort, tmp_path / "fresh", tmp_path / "mended")
    assert contents(tmp_path / "fresh") == contents(out)
    assert table(tmp_path / "fresh") == table(out)


@pytest.mark.usefixtures("no_network")
def test_a_failed_scan_that_a_reader_drew_is_usable(
    cohort: Path, plain: Path, out: Path, tmp_path: Path
) -> None:
    before = table(plain)["P003"]
    assert (before["status"], before["lv_edv_ml"]) == ("failed", "")
    _, affine = load(scan(out, "P003") / MASK)
    save(
        disc_heart(BEAT[[0, 2, 4, 6, 8, 11, 14, 17]]),
        affine,
        tmp_path / "mended" / "ALPHA" / "P003" / "baseline" / MASK,
    )
    run(cohort, out, tmp_path / "mended")
    row = table(out)["P003"]
    assert row["status"] != "failed"
    assert float(row["lv_edv_ml"]) > 50
    gone = {"lv-missing", "heart-not-found"}
    assert not gone & set(row["flags"].split(";"))
    assert gone & set(before["flags"].split(";"))
    flow = json.loads((out / "flow.json").read_text())
    assert flow["scans"]["failed"] == 0
    assert "P003" not in (out / "exclusions.csv").read_text()


@pytest.mark.usefixtures("no_network")
def test_what_viewers_rewrite_is_undone(cohort: Path, out: Path, tmp_path: Path) -> None:
    mended = mend(out, tmp_path / "first", "P002")
    image = nib.load(tmp_path / "first" / "ALPHA" / "P002" / "baseline" / MASK)
    array, affine = np.asarray(image.dataobj), image.affine
    by_qform = nib.Nifti1Image(array.astype(np.int16), None)
    by_qform.header.set_qform(affine, code=1)
    by_qform.header.set_sform(None, code=0)
    flip = np.diag([-1.0, 1.0, -1.0, 1.0])
    flip[0, 3], flip[2, 3] = array.shape[0] - 1, array.shape[2] - 1
    made = {
        "float": nib.Nifti1Image(array.astype(np.float64) + 1e-7, affine),
        "wide": nib.Nifti2Image(array.astype(np.int32), affine),
        "qform": nib.Nifti1Image(by_qform.dataobj, None, by_qform.header),
        "turned": nib.Nifti1Image(array.transpose(1, 2, 0, 3), affine[:, [1, 2, 0, 3]]),
        "mirrored": nib.Nifti1Image(array[::-1, :, ::-1], affine @ flip),
    }
    grid = grid_of_mask((scan(out, "P002") / MASK).read_bytes())
    for viewer, rewritten in made.items():
        assert np.array_equal(read_labels(rewritten.to_bytes(), grid), mended), viewer
    path = tmp_path / "mended" / "ALPHA" / "P002" / "baseline" / "segmentation.nii"
    path.parent.mkdir(parents=True)
    nib.save(made["turned"], path)  # not compressed either
    run(cohort, out, tmp_path / "mended")
    stored, grid = load(correction(out, "P002") / MASK)
    assert np.array_equal(stored, mended)
    assert np.allclose(grid, affine)


@pytest.mark.usefixtures("no_network")
def test_a_mask_saved_unchanged_is_accepted(cohort: Path, out: Path, tmp_path: Path) -> None:
    labels, affine = load(scan(out, "P001") / MASK)
    before = table(out)["P001"]
    assert before["status"] == "review"
    save(labels, affine, tmp_path / "mended" / "ALPHA" / "P001" / "baseline" / MASK)
    outcome = run(cohort, out, tmp_path / "mended")
    assert outcome.corrected == 0
    row = table(out)["P001"]
    flags = [code for code in row.pop("flags").split(";") if code != "accepted"]
    assert flags == before.pop("flags").split(";")
    assert (row.pop("status"), before.pop("status")) == ("ok", "review")
    assert row == before
    unchanged = (correction(out, "P001") / MASK).read_bytes()
    assert unchanged == (scan(out, "P001") / MASK).read_bytes()
    assert run(cohort, out, tmp_path / "mended").already_done == 3


@pytest.mark.usefixtures("no_network")
def test_every_problem_is_told_at_once_and_nothing_is_written(
    cohort: Path, out: Path, tmp_path: Path
) -> None:
    labels, affine = load(scan(out, "P001") / MASK)
    folder = tmp_path / "mended"

    def put(person: str, data: np.ndarray, place: np.ndarray = affine, name: str = MASK) -> Path:
        return save(data, place, folder / "ALPHA" / person / "baseline" / name)

    wrong = labels.copy()
    wrong[0, 0, 0, :3] = 7
    shifted = affine.copy()
    shifted[:3, 3] += 3
    put("P001", wrong[:5], shifted)
    put("P002", labels[:, :, :-2], affine)
    put("P003", labels, affine, "mended.nii.gz")
    put("P999", labels)
    (folder / "loose").mkdir()
    save(labels, affine, folder / "loose" / MASK)
    (folder / "notes.txt").write_text("read on Tuesday")
    before = contents(out)
    with pytest.raises(InputError) as caught:
        run(cohort, out, folder)
    told = [str(problem) for problem in caught.value.problems]
    expected = [
        ("folder 4 of masks in the order of names (ALPHA/…)", "no such scan"),
        ("ALPHA/P003/baseline", "there is no segmentation.nii.gz, but another file"),
        ("folder 5 of masks in the order of names (…)", "wrong depth"),
        ("P001", "unknown labels: 7 (3 voxels)"),
        ("P001", "5 frames, the scan has 8"),
        ("P001", "elsewhere in the patient"),
        ("P002", "96 × 94 × 9 voxels, the scan has"),
    ]
    for person, text in expected:
        assert any(person in line and text in line for line in told), (person, text, told)
    for word in ("Tuesday", "notes", "P999", "loose"):
        # A folder that is none of the cohort's may bear a person's name.
        assert not any(word in line for line in told), word
    assert contents(out) == before


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("keep", ["half", "nothing", "text"])
def test_damaged_masks_are_told(cohort: Path, out: Path, tmp_path: Path, keep: str) -> None:
    mend(out, tmp_path / "mended")
    path = tmp_path / "mended" / "ALPHA" / "P001" / "baseline" / MASK
    whole = path.read_bytes()
    damaged = {"half": whole[: len(whole) // 2], "nothing": b"", "text": b"no mask"}
    path.write_bytes(damaged[keep])
    with pytest.raises(InputError) as caught:
        run(cohort, out, tmp_path / "mended")
    assert "cannot be read as NIfTI" in str(caught.value.problems[0])


@pytest.mark.usefixtures("no_network")
def test_interpolated_labels_and_one_file_for_two_scans_are_told(
    cohort: Path, out: Path, tmp_path: Path
) -> None:
    labels, affine = load(scan(out, "P001") / MASK)
    path = save(
        labels * np.float32(0.5), affine, tmp_path / "a" / "ALPHA" / "P001" / "baseline" / MASK
    )
    twin = tmp_path / "a" / "ALPHA" / "P002" / "baseline" / MASK
    twin.parent.mkdir(parents=True)
    shutil.copy(path, twin)
    with pytest.raises(InputError) as caught:
        run(cohort, out, tmp_path / "a")
    told = " ".join(str(problem) for problem in caught.value.problems)
    assert "values between labels (0.5, 1.5)" in told
    assert "the same file is given for ALPHA/P002/baseline too" in told


@pytest.mark.usefixtures("no_network")
def test_forgetting_the_folder_is_refused(cohort: Path, out: Path, tmp_path: Path) -> None:
    mend(out, tmp_path / "mended")
    run(cohort, out, tmp_path / "mended")
    with pytest.raises(UsageError, match="1 scan of out corrected or decided on by a reader"):
        run(cohort, out)
    assert run(cohort, out, overwrite=True).corrected == 0
    with pytest.raises(UsageError, match="inside --out"):
        run(cohort, out, out / "scans")


@pytest.mark.usefixtures("no_network")
def test_a_mask_mended_inside_the_output_is_not_written_over(
    cohort: Path, out: Path, tmp_path: Path
) -> None:
    labels, affine = load(scan(out, "P002") / MASK)
    labels[labels == 3] = 0
    path = save(labels, affine, scan(out, "P002") / MASK)
    work = path.read_bytes()
    with pytest.raises(InputError) as caught:
        run(cohort, out)
    assert "changed inside the output" in str(caught.value.problems[0])
    assert path.read_bytes() == work


@pytest.mark.usefixtures("no_network")
def test_a_correction_changed_inside_the_output_is_not_written_over(
    cohort: Path, out: Path, tmp_path: Path
) -> None:
    mend(out, tmp_path / "mended")
    run(cohort, out, tmp_path / "mended")
    path = correction(out, "P001") / MASK
    labels, affine = load(path)
    labels[labels == 3] = 0
    work = save(labels, affine, path).read_bytes()
    shutil.rmtree(tmp_path / "mended" / "ALPHA")
    for options in ({"corrections": tmp_path / "mended"}, {"overwrite": True}):
        with pytest.raises(InputError) as caught:
            run(cohort, out, **options)
        assert "changed inside the output" in str(caught.value.problems[0])
        assert path.read_bytes() == work


def failing_replace(last: int) -> str:
    return f"""
import os
count, replace = 0, os.replace
def failing(source, target):
    global count
    count += "scans" in str(target)
    if count > {last}:
        raise OSError("no disk")
    replace(source, target)
os.replace = failing
"""


@pytest.mark.parametrize("last", [1, 3])
def test_a_kill_on_the_way_resumes_to_the_same_bytes(
    cohort: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """The disk goes away after ``last`` renames, in both directions."""
    folder = tmp_path / "mended"
    mend(out, folder, "P002")
    whole = Path(shutil.copytree(out, tmp_path / "whole"))
    run(cohort, whole, folder)
    replace = os.replace
    monkeypatch.setattr(os, "replace", replace)  # so that it is this one again at the end
    (tmp_path / "none").mkdir()
    for wanted, corrections in ((contents(whole), folder), (contents(out), tmp_path / "none")):
        # Here, where scans are put back, and in the processes that measure them.
        exec(code := failing_replace(last), {})
        with broken_workers(tmp_path / "site", code), contextlib.suppress(OutputError):
            run(cohort, out, corrections)
        monkeypatch.setattr(os, "replace", replace)
        run(cohort, out, corrections)
        assert contents(out) == wanted
        assert not list(out.rglob("*.tmp"))
