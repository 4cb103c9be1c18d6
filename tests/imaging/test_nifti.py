"""NIfTI cine in its three forms: axes, lengths, time, refusals."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

from cardiometa.errors import ImageError
from cardiometa.imaging.discovery import find_scan_source
from cardiometa.imaging.read import ReadOptions, read_cine
from cardiometa.records import ScanSource
from tests.kit.data import shared_data
from tests.kit.tiny_dicom import codes, left, put, read

# x, y, z of different lengths, so that a swap of axes is seen.
SHAPE = (7, 9, 5)
ZOOMS = (1.4, 1.6, 8.0)


def _values(phases: int | None = None) -> np.ndarray:
    shape = SHAPE if phases is None else (*SHAPE, phases)
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def _affine(zooms=ZOOMS) -> np.ndarray:
    turn = np.deg2rad(30)
    rotation = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * zooms
    affine[:3, 3] = [-80, 20, 5]
    return affine


def _nifti(data, affine=None, change=None, kind=nib.Nifti1Image, units=("mm", "msec"), step=40.0):
    image = kind(data, _affine() if affine is None else affine)
    image.set_sform(image.affine, 1)
    image.header.set_xyzt_units(*units)
    if data.ndim > 3:
        image.header["pixdim"][4] = step
    if change:
        change(image.header)
    return image.to_bytes()


def _refusal(path):
    with pytest.raises(ImageError) as caught:
        read(path)
    return caught.value.code


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_four_dimensions_keep_axes_shape_and_affine(tmp_path, packed, kind):
    data = _nifti(_values(20), kind=kind)
    put(tmp_path, {"cine": gzip.compress(data) if packed else data})
    cine = read(tmp_path / "cine")
    assert cine.source.format == "nifti-4d"
    assert np.array_equal(cine.pixels, _values(20).transpose(3, 2, 1, 0))
    assert np.allclose(cine.affine, _affine(), atol=1e-5)
    assert cine.spacing_mm == pytest.approx((1.6, 1.4))
    assert cine.slice_distance_mm == pytest.approx(8.0)
    assert cine.slice_weights_mm == pytest.approx([8.0] * 5)
    assert cine.source.frame_ms == pytest.approx(40.0)
    assert np.isnan(cine.frame_times_ms).all()
    assert (cine.source.vendor, cine.source.heart_rate_bpm) == (None, None)
    assert codes(cine) == {}


def test_big_endian_values(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">i2"))
    image = nib.Nifti1Image(_values(20).astype(">i2"), _affine(), header)
    put(tmp_path, {"cine.nii": image.to_bytes()})
    assert image.to_bytes()[:4] == b"\0\0\x01\x5c"
    assert np.array_equal(read(tmp_path).pixels, _values(20).transpose(3, 2, 1, 0))


def test_slope_in_the_file_is_applied(tmp_path):
    data = bytearray(_nifti(_values(20)))
    data[112:120] = np.array([0.5, -3.0], dtype="<f4").tobytes()
    put(tmp_path, {"cine.nii": bytes(data)})
    assert np.allclose(read(tmp_path).pixels, _values(20).transpose(3, 2, 1, 0) * 0.5 - 3)


@pytest.mark.parametrize("form", ["folder", "source"])
def test_an_ed_and_es_pair_stays_in_that_order(tmp_path, form):
    put(
        tmp_path,
        {
            "p1_ES.nii.gz": gzip.compress(_nifti(_values() + 1)),
            "p1_ED.nii.gz": gzip.compress(_nifti(_values())),
            "p1_ED_gt.nii.gz": gzip.compress(_nifti(_values())),
            "p1_ES_gt.nii.gz": gzip.compress(_nifti(_values())),
        },
    )
    source = find_scan_source(tmp_path)
    assert source == ScanSource(
        kind="ed-es", paths=(tmp_path / "p1_ED.nii.gz", tmp_path / "p1_ES.nii.gz")
    )
    cine = read(tmp_path) if form == "folder" else read_cine(source, ReadOptions())
    assert cine.is_ed_es_pair
    assert np.array_equal(cine.pixels[0], _values().T)
    assert np.array_equal(cine.pixels[1], _values().T + 1)
    assert codes(cine) == {}
    assert left(cine) == ({"mask-file": 2} if form == "folder" else {})


def test_pair_hash_depends_on_the_order_of_phases_only(tmp_path):
    a, b = _nifti(_values()), _nifti(_values() + 1)
    for name, (ed, es) in {"one": (a, b), "renamed": (a, b), "swapped": (b, a)}.items():
        put(tmp_path / name, {f"{name}_ED.nii": ed, f"{name}_ES.nii": es})
    hashes = [read(tmp_path / n).source.sha256 for n in ("one", "renamed", "swapped")]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    "other", [_values()[:, :, :4], _values()[:6]], ids=["fewer slices", "fewer columns"]
)
def test_a_pair_on_two_grids_is_refused(tmp_path, other):
    put(tmp_path, {"a_ED.nii": _nifti(_values()), "a_ES.nii": _nifti(other)})
    assert _refusal(tmp_path) == "phases-differ"


def test_a_pair_with_two_voxel_sizes_is_refused(tmp_path):
    es = _nifti(_values(), _affine((1.4, 1.6, 10.0)))
    put(tmp_path, {"a_ED.nii": _nifti(_values()), "a_ES.nii": es})
    assert _refusal(tmp_path) == "phases-differ"


def test_an_absent_half_of_a_pair_is_named(tmp_path):
    put(tmp_path, {"a_ED.nii": _nifti(_values())})
    pair = ScanSource(kind="ed-es", paths=(tmp_path / "a_ED.nii", tmp_path / "a_ES.nii"))
    with pytest.raises(ImageError, match="ES image not found"):
        read_cine(pair, ReadOptions())


def test_one_file_a_phase_is_ordered_by_number_not_by_letter(tmp_path):
    put(tmp_path, {f"s1_frame{t}.nii": _nifti(_values() + t) for t in range(1, 21)})
    cine = read(tmp_path)
    assert cine.source.format == "nifti-frames"
    assert [int(p[0, 0, 0]) for p in cine.pixels] == list(range(1, 21))
    assert codes(cine) == {}


def test_a_missing_number_is_flagged(tmp_path):
    frames = [t for t in range(1, 26) if t not in (4, 5)]
    put(tmp_path, {f"frame{t:02d}.nii": _nifti(_values()) for t in frames})
    cine = read(tmp_path)
    assert codes(cine) == {"missing-frames": "review"}
    assert "2 frames" in cine.source.flags[0].sentence


def test_names_that_do_not_number_the_phases_are_refused(tmp_path):
    put(tmp_path, {f"{name}.nii": _nifti(_values()) for name in "abcdefghij"})
    assert _refusal(tmp_path) == "frame-order"


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        (SHAPE, "not-a-cine"),
        ((*SHAPE, 1), "not-a-cine"),
        ((*SHAPE, 2), "too-few-phases"),
        ((*SHAPE, 7), "too-few-phases"),
        ((7, 9, 1, 20), "too-few-positions"),
        ((7, 9, 3, 20), "too-few-positions"),
        ((7, 9), "not-a-cine"),
    ],
)
def test_what_is_no_short_axis_cine_is_refused(tmp_path, shape, code):
    put(tmp_path, {"a.nii": _nifti(np.zeros(shape, dtype=np.int16))})
    assert _refusal(tmp_path) == code


def test_a_fifth_axis_behind_an_empty_fourth_is_time(tmp_path):
    data = _values(20).reshape(*SHAPE, 1, 20)
    put(tmp_path, {"a.nii": _nifti(data)})
    assert read(tmp_path).pixels.shape == (20, 5, 9, 7)


def test_two_cines_in_a_folder_are_refused_and_one_beside_frames_wins(tmp_path):
    put(tmp_path / "two", {n: _nifti(_values(20)) for n in ("a.nii", "b.nii")})
    assert _refusal(tmp_path / "two") == "several-images"
    # As ACDC ships: the cine, two frames, their masks.
    acdc = {
        "p_4d.nii": _nifti(_values(20)),
        "p_frame01.nii": _nifti(_values()),
        "p_frame12.nii": _nifti(_values()),
        "p_frame01_gt.nii": _nifti(_values()),
        "p_frame12_gt.nii": _nifti(_values()),
    }
    cine = read(put(tmp_path / "acdc", acdc))
    assert cine.pixels.shape[0] == 20
    assert left(cine) == {"other-nifti": 2, "mask-file": 2}


def test_masks_alone_are_no_scan(tmp_path):
    put(tmp_path, {"a_gt.nii": _nifti(_values(20))})
    assert _refusal(tmp_path) == "mask-file"


# ------------------------------------------------------------------ lengths


def test_pixdim_measures_and_the_affine_directs_where_they_disagree(tmp_path):
    affine = _affine((1.4, 1.6, 80.0))

    def change(header):
        header["pixdim"][1:4] = ZOOMS

    put(tmp_path, {"a.nii": _nifti(_values(20), affine, change)})
    cine = read(tmp_path)
    assert codes(cine) == {"spacing-conflict": "review"}
    assert cine.slice_distance_mm == pytest.approx(8.0)
    assert np.allclose(cine.affine, affine, atol=1e-5)


def test_an_sform_that_was_never_filled_in_yields_to_the_qform(tmp_path):
    def change(header):
        header.set_qform(_affine(), 1)
        header.set_sform(np.eye(4), 2)

    put(tmp_path, {"cine.nii": _nifti(_values(20), change=change)})
    cine = read(tmp_path)
    assert codes(cine) == {}
    assert cine.spacing_mm == pytest.approx((1.6, 1.4))
    assert cine.affine == pytest.approx(_affine(), abs=1e-4)


def test_a_conflict_that_pixdim_cannot_win_is_refused(tmp_path):
    def change(header):
        header["pixdim"][1:4] = (1, 1, 1)

    put(tmp_path, {"a.nii": _nifti(_values(20), change=change)})
    assert _refusal(tmp_path) == "spacing-conflict"


@pytest.mark.parametrize(
    ("zooms", "code"),
    [
        ((8.0, 1.5, 1.5), "slice-axis"),
        ((1.5, 1.5, 0.5), "pixel-spacing"),
        ((15, 15, 80), "pixel-spacing"),
    ],
)
def test_lengths_of_no_short_axis_are_refused(tmp_path, zooms, code):
    put(tmp_path, {"a.nii": _nifti(_values(20), _affine(zooms))})
    assert _refusal(tmp_path) == code


def test_metres_are_converted_and_flagged(tmp_path):
    affine = _affine(tuple(z / 1000 for z in ZOOMS))
    put(tmp_path, {"a.nii": _nifti(_values(20), affine, units=("meter", "sec"), step=0.04)})
    cine = read(tmp_path)
    assert cine.spacing_mm == pytest.approx((1.6, 1.4))
    assert cine.slice_distance_mm == pytest.approx(8.0)
    assert codes(cine) == {"length-unit": "info"}


def test_a_header_without_a_place_is_measured_by_pixdim(tmp_path):
    def change(header):
        header["sform_code"] = header["qform_code"] = 0

    put(tmp_path, {"a.nii": _nifti(_values(20), change=change)})
    cine = read(tmp_path)
    assert cine.spacing_mm == pytest.approx((1.6, 1.4))
    assert codes(cine) == {}


def test_leaning_slices_are_measured_along_the_normal(tmp_path):
    affine = _affine()
    affine[:3, 2] += 0.2 * 8 * affine[:3, 0] / 1.4
    length = np.linalg.norm(affine[:3, 2])

    put(tmp_path, {"a.nii": _nifti(_values(20), affine)})
    cine = read(tmp_path)
    assert length == pytest.approx(8.0 * np.sqrt(1.04))
    assert cine.slice_distance_mm == pytest.approx(8.0, rel=1e-4)
    assert codes(cine) == {"sheared": "review"}


# ------------------------------------------------------------------ time and values


@pytest.mark.parametrize(
    ("step", "unit", "frame_ms"),
    [
        (40.0, "msec", 40.0),
        (0.04, "sec", 40.0),
        (40_000.0, "usec", 40.0),
        (1.0, "sec", None),
        (0.04, "msec", None),
        (40.0, "unknown", None),
        (0.0, "msec", None),
    ],
)
def test_time_steps_are_checked_with_their_unit(tmp_path, step, unit, frame_ms):
    put(tmp_path, {"a.nii": _nifti(_values(20), units=("mm", unit), step=step)})
    cine = read(tmp_path)
    assert cine.source.frame_ms == (None if frame_ms is None else pytest.approx(frame_ms))
    assert codes(cine) == ({"time-unknown": "info"} if frame_ms is None else {})


def test_values_that_are_no_numbers_are_zero_and_flagged(tmp_path):
    data = _values(20).astype(np.float32)
    data[0, 0, 0, 0], data[1, 1, 1, 1], data[2, 2, 2, 2] = np.nan, np.inf, -np.inf
    put(tmp_path, {"a.nii": _nifti(data)})
    cine = read(tmp_path)
    assert np.isfinite(cine.pixels).all()
    assert cine.pixels[1, 1, 1, 1] == 0
    assert codes(cine) == {"non-finite": "review"}
    assert cine.source.flags[0].sentence.startswith("3 voxels")


def test_colours_and_complex_numbers_are_refused(tmp_path):
    put(tmp_path, {"a.nii": _nifti(np.zeros((*SHAPE, 20), dtype=np.complex64))})
    assert _refusal(tmp_path) == "not-grey"


@pytest.mark.parametrize("keep", [400, 2000, -1])
@pytest.mark.parametrize("packed", [False, True])
def test_truncated_files_are_refused(tmp_path, keep, packed):
    rng = np.random.default_rng(0)
    data = _nifti(rng.integers(0, 1000, (*SHAPE, 20)).astype(np.int16))
    data = gzip.compress(data) if packed else data
    put(tmp_path, {"a.nii": data[:keep]})
    assert _refusal(tmp_path) == "damaged"


def test_a_header_that_lies_about_its_size_allocates_nothing(tmp_path):
    data = bytearray(_nifti(_values(20)))
    data[40:56] = np.array([4, 30000, 30000, 300, 30, 1, 1, 1], dtype="<i2").tobytes()
    put(tmp_path, {"a.nii": bytes(data)})
    assert _refusal(tmp_path) == "oversized"


def test_acdc_pairs_read_as_published(tmp_path):
    folder = shared_data() / "acdc" / "patient001"
    source = find_scan_source(folder)
    assert source is not None
    assert source.kind == "ed-es"
    cine = read_cine(source, ReadOptions())
    assert cine.pixels.shape == (2, 10, 256, 216)
    assert cine.spacing_mm == pytest.approx((1.5625, 1.5625))
    assert cine.slice_distance_mm == pytest.approx(10.0)
    ed = nib.load(folder / "patient001_ED.nii.gz")
    assert np.array_equal(cine.pixels[0].T, ed.get_fdata(dtype=np.float32))
    assert np.array_equal(cine.affine, ed.affine)
