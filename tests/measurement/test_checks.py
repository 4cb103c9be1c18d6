"""Checks of labels and numbers: each fault in a good heart raises its own flag and no other."""

import numpy as np
import pytest

from cardiometa.measurement.checks import (
    base_at_stack_end,
    curve_flags,
    extent_flags,
    missing_frame_flags,
    open_border_share,
    physiology_flags,
    shape_flags,
    share_apart,
    share_beyond_gap,
)
from cardiometa.measurement.phases import Extremes
from cardiometa.measurement.volumes import structure_areas
from tests.kit.labelled import disc_heart

SPACING = (1.5, 1.5)


def heart():
    return disc_heart(np.array([1.0, 0.0]))


def extent(labels, slice_mm=10.0):
    areas = structure_areas(labels, SPACING, np.full(labels.shape[1], slice_mm))
    return {flag.code: flag.level for flag in extent_flags(areas, 0, 1)}


def shape(labels):
    return {flag.code: flag.level for flag in shape_flags(labels, 0, 1, SPACING)}


def test_a_good_heart_raises_nothing():
    assert extent(heart()) == {}
    assert shape(heart()) == {}


@pytest.mark.parametrize(
    ("slice_mm", "raised"),
    [
        (10.0, {}),  # 7 slices, 70 mm
        (7.0, {"few-lv-slices": "review"}),  # as many slices, 49 mm: the length decides
        (4.0, {"lv-too-short": "reject"}),
    ],
)
def test_length_of_the_ventricle_in_mm(slice_mm, raised):
    assert extent(heart(), slice_mm) == raised


@pytest.mark.parametrize("frame", [0, 1])
def test_gap_between_slices(frame):
    labels = heart()
    labels[frame, 4] = 0
    assert extent(labels) == {"lv-slice-gap": "review", "rv-slice-gap": "review"}


@pytest.mark.parametrize(
    ("frame", "slices", "raised"),
    [(0, 1, False), (0, 2, True), (1, 2, False), (1, 3, True)],
)
def test_rv_lost_in_basal_slices(frame, slices, raised):
    """Readers leave one basal slice without RV, at ES two."""
    labels = heart()
    basal = labels[frame, 1 : 1 + slices]
    basal[basal == 3] = 0
    found = {"rv-basal-slices-missing": "review"} if raised else {}
    assert extent(labels) == found
    assert extent(labels[:, ::-1]) == found


def test_a_speck_of_rv_beyond_a_gap_asks_nobody():
    labels = heart()
    labels[0, 6:][labels[0, 6:] == 3] = 0
    labels[0, 7, 40, 40:44] = 3  # four pixels of some thousands
    assert extent(labels) == {}
    assert extent(np.where(labels == 3, 1, labels * (labels == 2)))["lv-slice-gap"] == "review"
    assert share_beyond_gap(np.array([0.0, 6.0, 0.0, 3.0, 1.0])) == pytest.approx(0.4)
    assert share_beyond_gap(np.zeros(3)) == 0


def test_a_sliver_of_wall_is_no_slice_of_the_ventricle():
    labels = heart()
    labels[0, 0, 80:84, 20:40] = 2  # 80 pixels of wall, 45 mm off the axis
    assert shape(labels) == {}
    labels[0, 0, 84:86, 20:40] = 1  # with cavity it claims to be a slice
    assert shape(labels)["end-slice-jump"] == "review"


def test_more_slices_at_es_than_at_ed():
    labels = heart()
    labels[0, 1] = 0  # the base, at ED alone
    assert extent(labels) == {"more-slices-at-es": "review"}
    labels = heart()
    labels[1, 1] = 0  # as it should be: the base moves down in systole
    assert extent(labels) == {}


@pytest.mark.parametrize("order", [1, -1])
def test_base_and_apex_at_the_end_of_the_stack(order):
    labels = heart()
    assert extent(labels[:, 1:][:, ::order]) == {"base-at-stack-end": "info"}
    moves_down = labels[:, 1:].copy()
    moves_down[1, 0][moves_down[1, 0] == 3] = 0  # at ES no RV there any more: the base is seen
    assert extent(moves_down[:, ::order]) == {}
    for stack, found in ((labels, False), (moves_down, True), (labels * 0, None)):
        areas = structure_areas(stack[:, ::order], SPACING, np.full(stack.shape[1], 10.0))
        assert base_at_stack_end(areas, 0, 1) is found
    # The cavity tapers to 16, 25, 36 and 49 % of its largest area towards the apex.
    assert extent(labels[:, :8][:, ::order]) == {}
    few = {"few-slices-with-lv": "review"}
    assert extent(labels[:, :6][:, ::order], 12.0) == few | {"apex-at-stack-end": "info"}
    assert extent(labels[:, :5][:, ::order], 15.0) == few | {"apex-cut": "review"}


def test_open_wall():
    labels = heart()
    labels[1][:, :, 60:][labels[1][:, :, 60:] == 2] = 0
    assert shape(labels) == {"cavity-not-enclosed": "review"}


def test_heart_cut_by_the_image_edge():
    labels = heart()
    first = int(np.flatnonzero(labels.any(axis=(0, 1, 2)))[0])
    assert shape(labels[..., first:]) == {"cut-by-image-edge": "review"}  # 9 pixels of 1.5 mm
    assert shape(labels[..., first - 1 :]) == {}
    for turned in (labels.swapaxes(2, 3), labels[..., ::-1], labels.swapaxes(2, 3)[..., ::-1, :]):
        there = np.flatnonzero(turned.any(axis=(0, 1, 3)))
        across = np.flatnonzero(turned.any(axis=(0, 1, 2)))
        cut = turned[..., there[0] + 12 : there[-1] + 1, across[0] : across[-1] + 1]
        assert shape(cut)["cut-by-image-edge"] == "review"


def test_second_part_of_a_structure():
    labels = heart()
    labels[0, 1:8, 2:15, 2:15] = 3
    assert shape(labels) == {"several-components": "review"}


def test_shifted_slice_inside_and_at_the_end():
    inside, at_end = heart(), heart()
    inside[0, 4] = np.roll(inside[0, 4], 12, axis=0)  # 18 mm
    at_end[0, 1] = np.roll(at_end[0, 1], 18, axis=0)  # 27 mm
    assert shape(inside) == {"centroid-jump": "review"}
    assert shape(at_end)["end-slice-jump"] == "review"


def test_tilted_stack_is_no_jump():
    labels = heart()
    for z in range(9):
        labels[:, z] = np.roll(labels[:, z], 2 * (z - 4), axis=1)
    assert shape(labels) == {}


def test_atrium_labelled_as_ventricle():
    labels = heart()
    y, x = np.mgrid[:96, :96]
    labels[0, 1] = 0
    labels[0, 1][np.hypot(y - 48, x - 56) < 32] = 2
    labels[0, 1][np.hypot(y - 48, x - 56) < 27] = 1
    assert shape(labels)["lv-area-jump"] == "review"


def test_empty_phase_does_not_break_the_checks():
    labels = heart()
    labels[1] = 0
    assert shape(labels) == {}


def test_border_and_parts_by_hand():
    volume = np.zeros((1, 6, 6), dtype=np.uint8)
    volume[0, 2:4, 2:4] = 1  # eight pixels lie beside these four
    volume[0, 1, 2:4] = 2
    assert open_border_share(volume) == 6 / 8
    mask = np.zeros((2, 5, 5), dtype=bool)
    mask[0, 0, :3] = True
    mask[1, 1, 3] = True  # touches by a corner, so it is no part of its own
    mask[1, 4, 4] = True
    assert share_apart(mask) == 1 / 5


def test_missing_frames_by_structure():
    lv = Extremes(largest=0, smallest=8, missing=(3,))
    codes = [flag.code for flag in missing_frame_flags(lv, lv, 20)]
    assert codes == ["lv-frames-missing", "rv-frames-missing"]
    whole = Extremes(largest=0, smallest=8)
    assert list(missing_frame_flags(whole, None, 20)) == []


GOOD = {"lv_ef_percent": 60.0, "lv_sv_ml": 90.0, "rv_sv_ml": 85.0, "lv_mass_g": 100.0}


@pytest.mark.parametrize(
    ("change", "mass_at_es", "raised"),
    [
        ({}, 105.0, []),
        ({"lv_ef_percent": 9.9}, 105.0, ["ef-low"]),
        ({"lv_ef_percent": 10.0}, 105.0, []),
        ({"lv_ef_percent": 85.1}, 105.0, ["ef-high"]),
        ({"rv_sv_ml": 60.0}, 105.0, ["sv-mismatch"]),
        ({"rv_sv_ml": 30.0}, 105.0, ["sv-mismatch-large"]),
        ({"rv_sv_ml": 240.0}, 105.0, ["sv-mismatch-large"]),
        ({"rv_sv_ml": None}, 105.0, []),
        ({}, 125.0, ["mass-change"]),
        ({}, 60.0, ["mass-change-large"]),
        ({"lv_mass_g": None}, 105.0, []),
        ({"lv_ef_percent": None, "lv_sv_ml": None}, 105.0, []),
    ],
)
def test_physiology(change, mass_at_es, raised):
    flags = list(physiology_flags(GOOD | change, mass_at_es))
    assert [flag.code for flag in flags] == raised
    assert {flag.level for flag in flags} <= {"info", "review"}


def test_curve():
    rough = Extremes(largest=0, smallest=8, roughness=0.2, spikes=(2,))
    flags = list(curve_flags(rough, [10, 11, 12]))
    assert [(flag.code, flag.level) for flag in flags] == [
        ("curve-rough", "review"),
        ("curve-spike", "info"),
    ]
    assert "(12)" in flags[1].sentence
    assert list(curve_flags(Extremes(largest=0, smallest=8), [0])) == []
