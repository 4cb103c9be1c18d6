"""``--frames ed-es``: ED and ES found by a coarse look at all phases and read in full alone."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cardiometa.errors import UsageError
from tests.kit.small_runs import MASK, contents, load, record, run, save, scan, table

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
    with pytest.raises(UsageError, match="--frames none is unknown"):
        run(cohort, two, frames="none")


@pytest.mark.usefixtures("no_network")
def test_a_mended_mask_of_two_phases_comes_in(two: Path, cohort: Path, tmp_path: Path) -> None:
    labels, affine = load(scan(two, "P001") / MASK)
    mended = labels.copy()
    z, y, x = (int(np.median(axis)) for axis in np.nonzero(labels[1] == 1))
    mended[1, z, y, x] = 2
    save(mended, affine, tmp_path / "mended/ALPHA/P001/baseline" / MASK)
    run(cohort, two, tmp_path / "mended", frames="ed-es")
    own = record(two, "P001")
    assert own["correction"]["frames_changed"] == [own["segmented_frames"][1]]
    assert own["segmented_frames"] == own["model_result"]["segmented_frames"]
    assert nib.load(scan(two, "P001") / MASK).shape[3] == 2
    assert own["measures"]["lv_esv_ml"] < own["model_result"]["measures"]["lv_esv_ml"]
