"""Geometry of a stack: order, distance, gaps, tilt, other grids; flags for all that is uneven."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.imaging.geometry import slice_weights
from tests.kit.tiny_dicom import (
    COLUMN,
    NORMAL,
    ORIGIN,
    ROW,
    Shape,
    codes,
    each,
    left,
    move,
    read_images,
    set_pixels,
    tiny,
    which,
)


def _without(images, *gone):
    return {key: ds for key, ds in images.items() if key[0] not in gone}


def test_a_stack_written_backwards_stands_the_same_way(tmp_path):
    images = tiny()

    def change(z, t, ds):
        ds.InstanceNumber = (6 - z) * 20 - t

    cine = read_images(tmp_path, each(images, change))
    assert which(cine) == [[(z, t) for z in range(6)] for t in range(20)]


def test_slice_thickness_and_stated_spacing_are_not_the_distance(tmp_path):
    def change(_z, _t, ds):
        ds.SliceThickness, ds.SpacingBetweenSlices = "6", "2"

    cine = read_images(tmp_path, each(tiny(), change))
    assert cine.slice_distance_mm == pytest.approx(10.0)
    assert codes(cine) == {"slice-distance-conflict": "info", "sparse-stack": "review"}


def test_a_missing_slice_is_weighed_and_flagged(tmp_path):
    cine = read_images(tmp_path, _without(tiny(Shape(slices=8)), 4))
    assert cine.slice_weights_mm == pytest.approx([10, 10, 10, 15, 15, 10, 10])
    assert cine.slice_distance_mm == pytest.approx(10.0)
    assert codes(cine) == {"irregular-gaps": "review", "missing-slices": "review"}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(4, 16), min_size=3, max_size=20))
def test_weights_stand_for_the_whole_length(gaps):
    depths = np.concatenate([[0], np.cumsum(gaps)])
    weights, distance, flags = slice_weights(depths)
    assert distance == pytest.approx(np.median(gaps))
    assert weights.min() > 0
    if flags:
        # The span of the centres plus half a distance at each end: nothing lost, nothing twice.
        assert weights.sum() == pytest.approx(depths[-1] + distance)
    else:
        assert weights == pytest.approx(np.full(len(depths), distance))


def test_rounded_positions_are_even(tmp_path):
    rng = np.random.default_rng(3)
    jitter = {z: rng.uniform(-0.2, 0.2) for z in range(6)}
    cine = read_images(tmp_path, each(tiny(), lambda z, _t, ds: move(ds, jitter[z] * NORMAL)))
    assert codes(cine) == {}
    assert np.ptp(cine.slice_weights_mm) == 0


def test_half_a_degree_of_tilt_is_borne(tmp_path):
    angle = np.deg2rad(0.5)

    def change(z, _t, ds):
        if z == 2:
            row = np.cos(angle) * ROW + np.sin(angle) * NORMAL
            ds.ImageOrientationPatient = [f"{v:.8f}" for v in (*row, *COLUMN)]

    cine = read_images(tmp_path, each(tiny(), change))
    assert codes(cine) == {}
    assert which(cine)[3] == [(z, 3) for z in range(6)]


def _ramp(points: np.ndarray) -> np.ndarray:
    # A linear field in the patient: linear interpolation must give it back exactly.
    return 500.0 + points @ np.array([3.0, -2.0, 4.0])


def _points(ds) -> np.ndarray:
    position = np.array(ds.ImagePositionPatient, dtype=float)
    orientation = np.array(ds.ImageOrientationPatient, dtype=float)
    between_rows, between_columns = (float(v) for v in ds.PixelSpacing)
    y, x = np.mgrid[: ds.Rows, : ds.Columns]
    along_row = x[..., None] * between_columns * orientation[:3]
    return position + along_row + y[..., None] * between_rows * orientation[3:]


def _painted(images):
    for ds in images.values():
        ds.BitsStored, ds.HighBit, ds.RescaleSlope, ds.RescaleIntercept = 16, 15, "0.01", "0"
        set_pixels(ds, np.round(100 * _ramp(_points(ds))))
    return images


def _inside(array: np.ndarray) -> np.ndarray:
    return array[..., 3:-3, 3:-3]


@pytest.mark.parametrize("case", ["shift", "pixel size", "in-plane turn"])
def test_slices_off_the_grid_are_resampled_onto_it(tmp_path, case):
    images = tiny()

    def change(z, _t, ds):
        if z != 3:
            return
        if case == "shift":
            move(ds, 4.0 * ROW - 3.5 * COLUMN)
        elif case == "pixel size":
            ds.PixelSpacing = [2.0, 2.0]
            ds.Rows, ds.Columns = 30, 32
            move(ds, -15.0 * COLUMN - 20.0 * ROW)
        else:
            turn = np.deg2rad(8)
            row = np.cos(turn) * ROW + np.sin(turn) * COLUMN
            column = -np.sin(turn) * ROW + np.cos(turn) * COLUMN
            middle = ROW * 2.5 * 4.5 + COLUMN * 3.0 * 5.5
            move(ds, middle - (row * 2.5 * 4.5 + column * 3.0 * 5.5))
            ds.ImageOrientationPatient = [f"{v:.10f}" for v in (*row, *column)]

    cine = read_images(tmp_path, _painted(each(images, change)))
    assert cine.pixels.shape == (20, 6, 12, 10)
    y, x = np.mgrid[:12, :10]
    voxels = np.stack([x, y, np.full_like(x, 3), np.ones_like(x)], axis=-1)
    want = _ramp((voxels @ cine.affine.T)[..., :3] * [-1, -1, 1])
    assert np.allclose(_inside(cine.pixels[5, 3]), _inside(want), atol=0.05)
    code = {"shift": "shifted-slices", "pixel size": "resampled-slices"}
    assert set(codes(cine)) == {code.get(case, "tilted-slices")}
    assert left(cine) == {}


def test_a_tilted_slice_lands_where_the_grid_drops_on_its_plane(tmp_path):
    angle = np.deg2rad(4)
    images = tiny()

    def change(z, _t, ds):
        if z == 3:
            row = np.cos(angle) * ROW + np.sin(angle) * NORMAL
            centre = 2.5 * 4.5
            move(ds, centre * (ROW - row))
            ds.ImageOrientationPatient = [f"{v:.10f}" for v in (*row, *COLUMN)]

    cine = read_images(tmp_path, _painted(each(images, change)))
    assert set(codes(cine)) == {"tilted-slices"}
    assert cine.slice_distance_mm == pytest.approx(10.0)
    # The plane drops by sin(4°) × the distance from its centre: look at the pixel columns' ends.
    row = np.cos(angle) * ROW + np.sin(angle) * NORMAL
    tilted_normal = np.cross(row, COLUMN)
    for x in (3, 6):
        grid = ORIGIN + 30.0 * NORMAL + ROW * 2.5 * x + COLUMN * 3.0 * 5
        corner = np.array(images[3, 0].ImagePositionPatient, dtype=float)
        on_plane = grid - tilted_normal * float((grid - corner) @ tilted_normal)
        assert cine.pixels[0, 3, 5, x] == pytest.approx(_ramp(on_plane), abs=0.05)


def test_slices_far_from_the_stack_are_not_attached(tmp_path):
    stray = _without(tiny(Shape(slices=1), series="2"), 9)

    def change(_z, _t, ds):
        ds.PixelSpacing = [2.0, 2.0]
        move(ds, 95.0 * NORMAL)

    cine = read_images(tmp_path, [*tiny().values(), *each(stray, change).values()])
    assert cine.pixels.shape[1] == 6
    assert left(cine) == {"too-few-positions": 20}


def test_mixed_sequences_are_reviewed(tmp_path):
    def change(z, _t, ds):
        if z == 5:
            ds.SequenceVariant = ["SK", "SP"]

    cine = read_images(tmp_path, each(tiny(), change))
    assert codes(cine) == {"mixed-sequences": "review"}
    assert cine.source.sequence is None


@pytest.mark.parametrize("order", ["one series a slice", "odd slices first"])
def test_slices_planned_to_overlap_are_one_stack(tmp_path, order):
    def change(z, _t, ds):
        ds.SliceThickness = "10"
        if order == "one series a slice":
            ds.SeriesInstanceUID = f"2.25.9.{z}"
        else:
            ds.AcquisitionTime = f"10{z % 2}{z // 2}00"

    cine = read_images(tmp_path, each(tiny(Shape(slices=10, distance_mm=5.0)), change))
    assert cine.pixels.shape[1] == 10
    assert cine.slice_distance_mm == pytest.approx(5.0)
    assert codes(cine) == {}


def test_one_slice_planned_again_beside_its_place_is_left_out(tmp_path):
    extra = {k: ds for k, ds in tiny(series="2", number=30).items() if k[0] == 3}

    def change(z, t, ds):
        move(ds, 4.0 * NORMAL)
        ds.AcquisitionTime = "115500"

    cine = read_images(tmp_path, [*tiny().values(), *each(extra, change).values()])
    assert which(cine) == [[(z, t) for z in range(6)] for t in range(20)]
    assert codes(cine) == {}
    assert left(cine) == {"too-few-positions": 20}


def test_half_a_stack_with_another_field_of_view_is_one_stack(tmp_path):
    def change(z, _t, ds):
        if z >= 5:
            ds.PixelSpacing = [2.8, 2.4]
            move(ds, 5.5 * 0.2 * COLUMN + 4.5 * 0.1 * ROW)

    cine = read_images(tmp_path, _painted(each(tiny(Shape(slices=9)), change)))
    assert cine.pixels.shape[1] == 9
    assert cine.spacing_mm == (3.0, 2.5)
    assert set(codes(cine)) == {"resampled-slices"}
    assert cine.slice_weights_mm == pytest.approx([10.0] * 9)


def test_the_end_of_another_planning_is_not_added(tmp_path):
    again = tiny(Shape(slices=6), series="2", number=7)
    late = each(again, lambda _z, _t, ds: move(ds, 24.0 * NORMAL))
    cine = read_images(tmp_path, [*tiny(Shape(slices=7)).values(), *late.values()])
    assert cine.pixels.shape[1] == 7
    assert left(cine) == {"other-stack": 120}
