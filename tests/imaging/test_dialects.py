import dataclasses

import numpy as np
import pytest

from cardiometa.errors import ImageError
from cardiometa.imaging.read import ReadOptions, read_cine
from cardiometa.phantom.image import CineGrid, HeartPhantom, render
from cardiometa.phantom.write import encode, frame_dataset, nifti_4d, nifti_ed_es
from cardiometa.records import ScanSource
from tests.kit.dialects import (
    DIALECTS,
    HEADER,
    label_stack,
    nifti_frames,
    source_index,
    volumes_ml,
    write_files,
)
from tests.kit.orientations import ORIENTATIONS


def read(folder):
    return read_cine(ScanSource(kind="images", paths=(folder,)), ReadOptions())


def stack_volumes(cine, stack):
    area = stack.spacing_mm[0] * stack.spacing_mm[1]
    return volumes_ml(label_stack(cine, stack.pixels), area, stack.slice_weights_mm)


def flags_of(stack):
    return {flag.code for flag in stack.source.flags}


T, Z = 12, 7
PLAIN = {"few-phases", "slow-frames"}  # twelve phases are few, and nothing else is odd
GRID = CineGrid(
    rows=64,
    columns=56,
    row_spacing_mm=3.2,
    column_spacing_mm=3.4,
    slices=Z,
    frames=T,
    in_plane_deg=25.0,
)


@pytest.fixture(scope="module")
def cine():
    return render(HeartPhantom(seed=12, heart_rate_bpm=72), GRID)


@pytest.fixture(scope="module")
def fine_cine():
    """Twenty phases, so that half of them are still a cine."""
    return render(
        HeartPhantom(seed=12, heart_rate_bpm=72), dataclasses.replace(GRID, frames=20, slices=6)
    )


def expected_volumes(cine):
    return volumes_ml(cine.labels, 3.2 * 3.4, np.full(cine.grid.slices, 10.0))


def check_geometry(cine, stack):
    """Every voxel stands where the phantom put it, whichever way the reader orders slices."""
    index = source_index(cine, stack.pixels)
    assert (index[..., 0] == np.arange(cine.grid.frames)[:, None]).all(), "phases out of order"
    assert (index[..., 1] == index[:1, :, 1]).all(), "a slice changes its place between phases"
    for k, z in enumerate(index[0, :, 1]):
        for x, y in ((0, 0), (cine.grid.columns - 1, cine.grid.rows - 1)):
            expected = cine.grid.affine_ras @ [x, y, z, 1]
            assert stack.affine @ [x, y, k, 1] == pytest.approx(expected, abs=0.01)
    assert stack.spacing_mm == pytest.approx(
        (cine.grid.row_spacing_mm, cine.grid.column_spacing_mm)
    )
    assert stack.slice_distance_mm == pytest.approx(cine.grid.slice_distance_mm, abs=1e-3)
    assert stack.slice_weights_mm == pytest.approx(
        np.full(cine.grid.slices, cine.grid.slice_distance_mm), abs=1e-3
    )


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_gives_the_same_heart(name, cine, tmp_path):
    stack = read(write_files(tmp_path, DIALECTS[name](cine)))
    shape = (cine.grid.frames, cine.grid.slices, cine.grid.rows, cine.grid.columns)
    assert stack.pixels.shape == shape
    check_geometry(cine, stack)
    assert stack_volumes(cine, stack) == pytest.approx(expected_volumes(cine), rel=1e-4)
    # Whole milliseconds in NominalInterval: 833 for 72 beats a minute.
    assert stack.source.heart_rate_bpm == pytest.approx(72, abs=0.1)
    assert not {f.level for f in stack.source.flags} & {"reject"}


@pytest.mark.parametrize(
    ("name", "key", "vendor"),
    [
        ("siemens", "TriggerTime", "Siemens"),
        ("philips", "TemporalPosition", "Philips"),
        ("philips_trigger_zero", "TemporalPosition", "Philips"),
        ("ge", "TriggerTime", "GE"),
        ("enhanced", "NominalCardiacTriggerDelayTime", "Siemens"),
        ("no_trigger_time", "InstanceNumber", "Siemens"),
        ("anonymised", "TriggerTime", None),
    ],
)
def test_time_key_vendor_and_sequence_are_recorded(name, key, vendor, cine, tmp_path):
    stack = read(write_files(tmp_path, DIALECTS[name](cine)))
    assert stack.source.time_key == key
    assert stack.source.vendor == vendor
    assert stack.source.sequence == "bssfp"
    assert stack.source.field_strength_t == 1.5
    if key in ("TriggerTime", "NominalCardiacTriggerDelayTime"):
        assert stack.frame_times_ms == pytest.approx(cine.frame_times_ms, abs=0.01)
        assert stack.source.frame_ms == pytest.approx(cine.phantom.rr_ms / T, rel=0.01)
    else:
        assert np.isnan(stack.frame_times_ms).all()


def test_what_is_odd_is_said(cine, tmp_path):
    said = {
        name: read(write_files(tmp_path / name, DIALECTS[name](cine)))
        for name in (
            "siemens",
            "wrong_spacing_between_slices",
            "repeated_slice",
            "same_files_twice",
        )
    }
    assert flags_of(said["siemens"]) == PLAIN
    assert said["siemens"].source.left_out == ()
    assert "slice-distance-conflict" in flags_of(said["wrong_spacing_between_slices"])
    assert "repeated-slices" in flags_of(said["repeated_slice"])
    assert {x.code: x.count for x in said["repeated_slice"].source.left_out} == {
        "repeated-slices": T + T * 3 // 4
    }
    assert {x.code: x.count for x in said["same_files_twice"].source.left_out} == {
        "duplicate-file": T * Z
    }


def test_look_alikes_beside_the_cine_are_counted(cine, tmp_path):
    stack = read(write_files(tmp_path, DIALECTS["with_other_things"](cine)))
    left = {item.code: item.count for item in stack.source.left_out}
    assert sum(left.values()) == T + Z + 2
    assert left["empty-file"] == 1
    assert left["text-file"] == 1


def test_no_identity_leaves_the_reader(cine, tmp_path):
    stack = read(write_files(tmp_path, DIALECTS["siemens"](cine)))
    assert HEADER.pseudonym not in repr(stack.source)
    assert str(tmp_path) not in repr(stack.source)


# ------------------------------------------------------------------ phases that differ


def test_a_slice_with_half_the_phases_is_aligned_and_flagged(fine_cine, tmp_path):
    files = {}
    for z in range(fine_cine.grid.slices):
        for t in range(0, fine_cine.grid.frames, 2 if z == 4 else 1):
            files[f"{z}/{t:02d}"] = encode(frame_dataset(fine_cine, HEADER, z, t))
    stack = read(write_files(tmp_path, files))
    assert stack.pixels.shape[:2] == (20, 6)
    assert "phase-mismatch" in flags_of(stack)
    index = source_index(fine_cine, stack.pixels)
    sparse = int(np.flatnonzero(index[0, :, 1] == 4)[0])
    others = np.delete(index[..., 0], sparse, axis=1)
    assert (others == np.arange(20)[:, None]).all()
    late = np.abs(index[:, sparse, 0] - np.arange(20))
    assert np.minimum(late, 20 - late).max() <= 1  # the nearest phase, cyclic


def test_slices_of_another_heart_rate_align_by_fraction_of_rr(cine, tmp_path):
    def slower(dataset):
        dataset.TriggerTime = str(round(float(dataset.TriggerTime) * 1.2, 3))
        dataset.NominalInterval = round(cine.phantom.rr_ms * 1.2)
        return dataset

    files = {}
    for z in range(cine.grid.slices):
        for t in range(cine.grid.frames):
            dataset = frame_dataset(cine, HEADER, z, t)
            files[f"{z}/{t:02d}"] = encode(slower(dataset) if z == 3 else dataset)
    stack = read(write_files(tmp_path, files))
    check_geometry(cine, stack)


def test_a_missing_frame_is_said_and_not_silently_filled(cine, tmp_path):
    files = {}
    for z in range(cine.grid.slices):
        for t in range(cine.grid.frames):
            if (z, t) != (5, 8):
                files[f"{z}/{t:02d}"] = encode(frame_dataset(cine, HEADER, z, t))
    stack = read(write_files(tmp_path, files))
    assert stack.pixels.shape[0] == T
    worst = [f for f in stack.source.flags if f.level in ("review", "reject")]
    assert any("missing" in flag.code for flag in worst)


def test_a_triggered_series_that_stops_early_is_flagged(fine_cine, tmp_path):
    files = {
        f"{z}/{t:02d}": encode(frame_dataset(fine_cine, HEADER, z, t))
        for z in range(fine_cine.grid.slices)
        for t in range(16)
    }
    stack = read(write_files(tmp_path, files))
    assert stack.pixels.shape[0] == 16
    assert "prospective" in flags_of(stack)


def test_a_missing_slice_is_weighted_and_flagged(cine, tmp_path):
    files = {
        f"{z}/{t:02d}": encode(frame_dataset(cine, HEADER, z, t))
        for z in range(cine.grid.slices)
        for t in range(cine.grid.frames)
        if z != 4
    }
    stack = read(write_files(tmp_path, files))
    assert sorted(stack.slice_weights_mm) == pytest.approx([10.0] * 4 + [15.0] * 2)
    assert {"missing-slices", "irregular-gaps"} & flags_of(stack)


def test_a_few_slices_are_no_short_axis_stack(cine, tmp_path):
    files = {
        f"{z}/{t:02d}": encode(frame_dataset(cine, HEADER, z, t))
        for z in range(3)
        for t in range(cine.grid.frames)
    }
    with pytest.raises(ImageError) as caught:
        read(write_files(tmp_path, files))
    assert caught.value.code == "too-few-positions"
    assert HEADER.pseudonym not in str(caught.value)


# ------------------------------------------------------------------ NIfTI


def test_nifti_4d_keeps_shape_affine_and_pixels(cine, tmp_path):
    stack = read(write_files(tmp_path, nifti_4d(cine)) / "cine.nii.gz")
    check_geometry(cine, stack)
    assert stack.affine == pytest.approx(cine.grid.affine_ras, abs=1e-3)
    assert stack_volumes(cine, stack) == pytest.approx(expected_volumes(cine), rel=1e-4)


def test_one_nifti_a_frame_is_the_same_cine(cine, tmp_path):
    stack = read(write_files(tmp_path, nifti_frames(cine)))
    check_geometry(cine, stack)


def test_an_ed_es_pair_is_two_phases_in_that_order(cine, tmp_path):
    folder = write_files(tmp_path, nifti_ed_es(cine, "heart", labels=True))
    pair = (folder / "heart_ED.nii.gz", folder / "heart_ES.nii.gz")
    stack = read_cine(ScanSource(kind="ed-es", paths=pair), ReadOptions())
    assert stack.is_ed_es_pair
    index = source_index(cine, stack.pixels)
    assert index[0, :, 0].tolist() == [cine.truth.ed_frame] * Z
    assert index[1, :, 0].tolist() == [cine.truth.es_frame] * Z
    assert stack.affine == pytest.approx(cine.grid.affine_ras, abs=1e-3)


# ------------------------------------------------------------------ the truth, end to end


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_volumes_through_dicom_are_within_three_percent_of_the_truth(name, tmp_path):
    changes = {"row_spacing_mm": 2.0, "column_spacing_mm": 2.0} | ORIENTATIONS[name]
    grid = CineGrid(slices=13, slice_distance_mm=10.0, thickness_mm=8.0, frames=8, **changes)
    number = list(ORIENTATIONS).index(name)
    heart = HeartPhantom(
        lv_edv_ml=120 + 20 * number,
        lv_ef_percent=70 - 6 * number,
        lv_mass_g=90 + 15 * number,
        rv_edv_ml=230 - 15 * number,
        seed=40 + number,
    )
    cine = render(heart, grid)
    writer = list(DIALECTS.values())[number % 4]
    stack = read(write_files(tmp_path, writer(cine)))
    check_geometry(cine, stack)
    lv, muscle, rv = stack_volumes(cine, stack)
    truth = cine.truth
    assert lv[truth.ed_frame] == pytest.approx(truth.lv_edv_ml, rel=0.03)
    assert lv[truth.es_frame] == pytest.approx(truth.lv_esv_ml, rel=0.03)
    assert rv[truth.ed_frame] == pytest.approx(truth.rv_edv_ml, rel=0.03)
    assert rv[truth.es_frame] == pytest.approx(truth.rv_esv_ml, rel=0.03)
    assert muscle[truth.ed_frame] * 1.05 == pytest.approx(truth.lv_mass_g, rel=0.03)
    assert int(lv.argmax()) == truth.ed_frame
    assert int(lv.argmin()) == truth.es_frame


def test_a_base_between_slices_costs_no_more_than_half_a_slice(tmp_path):
    # The honest worst case of any stack: the base anywhere within a slice.
    for offset in (-4.9, 2.5):
        grid = CineGrid(slices=11, base_offset_mm=offset, frames=8)
        cine = render(HeartPhantom(seed=9), grid)
        stack = read(write_files(tmp_path / f"{offset}", DIALECTS["enhanced"](cine)))
        lv = stack_volumes(cine, stack)[0]
        basal_ml = (cine.labels[0] == 1).sum(axis=(1, 2)).max() * 4 * 5.0 / 1000
        assert abs(lv[0] - 150) <= basal_ml + 2


def test_grids_can_be_changed_one_field_at_a_time():
    grid = dataclasses.replace(CineGrid(), slices=4)
    assert grid.long_axis_mm.tolist() == [-5.0, 5.0, 15.0, 25.0]
