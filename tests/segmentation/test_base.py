"""Slices above the base are told by their wall and by the time course, and by nothing else."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

from cardiometa.segmentation.base import drop_slices_above_base
from cardiometa.segmentation.training_data import LABEL_ORDERS
from tests.kit.data import shared_data

SIZE = 72


def plane(cavity: float, wall: float, *, rv: bool = True) -> np.ndarray:
    y, x = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    radius = np.hypot(y - 36, x - 30)
    labels = np.zeros((SIZE, SIZE), dtype=np.uint8)
    labels[(np.hypot(y - 36, x - 48) < 16) & rv] = 3
    labels[radius < cavity + wall] = 2
    labels[radius < cavity] = 1
    return labels


def stack(phases: int, atria: int = 1, wall: float = 3.0) -> np.ndarray:
    """Empty slice, slices of atrium, then seven of a ventricle that ends in a small apex."""
    slices = [np.zeros((SIZE, SIZE), np.uint8), *[plane(13, wall)] * atria]
    slices += [plane(14 - k, 8) for k in range(6)] + [plane(4, 8, rv=False)]
    small = slices[: 1 + atria] + [plane(11 - k, 8) for k in range(6)] + [plane(2, 8, rv=False)]
    return np.stack([np.stack(slices), *[np.stack(small)] * (phases - 1)])


def lv(labels: np.ndarray) -> np.ndarray:
    return np.asarray((labels == 1).any(axis=(2, 3)))


@pytest.mark.parametrize("base_first", [True, False])
@pytest.mark.parametrize("atria", [1, 2, 3])
def test_thin_walled_slices_above_the_base_go_and_their_rv_stays(
    base_first: bool, atria: int
) -> None:
    labels = stack(2, atria)[:, :: 1 if base_first else -1]
    before = labels.copy()
    found, flags = drop_slices_above_base(labels)
    found, labels = (a[:, :: 1 if base_first else -1] for a in (found, labels))
    assert not lv(found)[:, : 1 + atria].any()
    assert lv(found)[:, 1 + atria :].all()
    assert np.array_equal(found == 3, labels == 3)
    assert np.array_equal(labels, before[:, :: 1 if base_first else -1])
    assert [flag.code for flag in flags] == ["slices-above-base"]
    assert "2 of 2 phases" in flags[0].sentence


def test_a_wall_a_little_thinner_than_the_next_one_is_a_ventricle() -> None:
    labels = stack(2, wall=6.0)
    found, flags = drop_slices_above_base(labels)
    assert np.array_equal(found, labels)
    assert flags == ()


def test_a_thick_slice_above_a_thin_one_keeps_both() -> None:
    labels = stack(2, atria=2)
    labels[:, 1] = plane(12, 8)
    assert np.array_equal(drop_slices_above_base(labels)[0], labels)


@pytest.mark.parametrize(("radius", "goes"), [(9.0, True), (11.0, False)])
def test_a_sliver_of_cavity_above_the_base_goes_whatever_its_wall(
    radius: float, goes: bool
) -> None:
    """Cavities of 254 and 380 pixels above one of 616: 0.41 and 0.62 of it."""
    labels = stack(2, atria=1)
    labels[:, 1] = plane(radius, 8)
    labels[:, 2] = plane(14, 8)
    assert lv(drop_slices_above_base(labels)[0])[:, 1].all() != goes


@pytest.mark.parametrize("base_first", [True, False])
@pytest.mark.parametrize(("share", "goes"), [(0.07, True), (0.15, False)])
def test_a_sliver_of_rv_above_the_base_goes_and_nothing_else(
    base_first: bool, share: float, goes: bool
) -> None:
    labels = stack(2, atria=0)
    of_next = np.flatnonzero(labels[1, 2] == 3)
    labels[1, 1][labels[1, 1] == 3] = 0
    labels[1, 1].flat[of_next[: round(share * len(of_next))]] = 3
    expected = labels.copy()
    expected[1, 1][(expected[1, 1] == 3) & goes] = 0
    order = slice(None, None, 1 if base_first else -1)
    found, flags = drop_slices_above_base(labels[:, order])
    assert np.array_equal(found[:, order], expected)
    assert flags == ()


def test_the_outermost_slice_of_the_stack_is_left_to_the_network() -> None:
    labels = stack(2)[:, 1:]
    found, flags = drop_slices_above_base(labels)
    assert np.array_equal(found, labels)
    assert flags == ()


def test_a_heart_that_hardly_contracts_keeps_its_base_at_es() -> None:
    """Its base comes down by less than a slice: one lost at ES would be an error of the EF."""
    for smaller, wanted in ((0.0, True), (2.5, False)):
        labels = stack(2)
        labels[1, 2:] = [plane(14 - k - smaller, 8) for k in range(6)] + [plane(2, 8, rv=False)]
        found, _ = drop_slices_above_base(labels)
        assert lv(found)[:, 1].all() == wanted


def test_three_slices_always_stay_and_without_a_base_nothing_goes() -> None:
    short = stack(2)[:, [0, 1, 2, 3]]
    assert np.array_equal(drop_slices_above_base(short)[0], short)
    even = np.stack([np.stack([plane(0, 0), plane(10, 3), *[plane(10, 8)] * 5, plane(0, 0)])] * 2)
    assert np.array_equal(drop_slices_above_base(even)[0], even)
    nothing = np.zeros((2, 5, SIZE, SIZE), dtype=np.uint8)
    assert np.array_equal(drop_slices_above_base(nothing)[0], nothing)


def beat(
    thin: set[int],
    absent: set[int] = frozenset(),  # type: ignore[assignment]
    deepest: float = 3.0,
) -> np.ndarray:
    """Sixteen phases, the smallest ventricle at 6; the basal slice thin or absent in some."""
    phases = []
    for t in range(16):
        smaller = deepest * (1 - np.cos(2 * np.pi * min(t, 12) / 12)) / 2
        base = plane(0, 0) if t in absent else plane(13, 3 if t in thin else 8)
        inner = [plane(14 - k - smaller, 8) for k in range(6)] + [plane(3, 8, rv=False)]
        phases.append(np.stack([np.zeros((SIZE, SIZE), np.uint8), base, *inner]))
    return np.stack(phases)


@pytest.mark.parametrize(
    ("thin", "absent", "gone"),
    [
        ({4, 5, 7, 8}, set(), {4, 5, 6, 7, 8}),  # one phase missed inside the stretch
        ({4, 5}, {6, 7, 8}, {4, 5, 6, 7, 8}),  # the network loses it later than the rule
        ({11}, set(), set()),  # one thin phase far from ES: noise of the outline
        ({6}, set(), {6}),
        (set(range(16)) - {0}, set(), set(range(16))),  # one phase alone
        (set(), {5, 6, 7}, {5, 6, 7}),
        (set(), set(), set()),
    ],
)
def test_in_a_cine_a_basal_slice_is_gone_in_one_stretch_around_es(
    thin: set[int], absent: set[int], gone: set[int]
) -> None:
    found, _ = drop_slices_above_base(beat(thin, absent))
    assert set(np.flatnonzero(~lv(found)[:, 1]).tolist()) == gone
    assert lv(found)[:, 2:].all()


@pytest.mark.parametrize(
    ("absent", "gone"),
    [
        ({5, 6, 7}, {5, 6, 7}),  # the network's own: nothing is made, and no other phase follows
        (set(range(16)) - {0, 8}, set(range(16))),
    ],
)
def test_where_the_base_hardly_moves_a_slice_is_ventricle_in_all_phases_or_none(
    absent: set[int], gone: set[int]
) -> None:
    found, _ = drop_slices_above_base(beat({4, 8}, absent, deepest=1.0))
    assert set(np.flatnonzero(~lv(found)[:, 1]).tolist()) == gone


def test_the_first_phase_of_a_beat_may_be_any() -> None:
    labels = beat({4, 5, 7, 8})
    for shift in (3, 9, 12):
        found, _ = drop_slices_above_base(np.roll(labels, shift, axis=0))
        wanted = np.roll(drop_slices_above_base(labels)[0], shift, axis=0)
        assert np.array_equal(found, wanted)


def test_of_the_experts_basal_slices_four_of_160_go() -> None:
    """Readers' habits at ES differ; what the rule would take from ACDC's own is known."""
    nibabel = import_module("nibabel")
    folder = shared_data() / "acdc"
    order = np.array(LABEL_ORDERS["acdc"], dtype=np.uint8)
    lost, lost_rv = np.zeros(2, dtype=int), np.zeros(2, dtype=int)
    for path in sorted(folder.glob("patient*/*_ED_gt.nii.gz")):
        pair = [path, path.with_name(path.name.replace("_ED_", "_ES_"))]
        labels = np.stack([order[np.asarray(nibabel.load(p).dataobj).astype(int)] for p in pair])
        labels = labels.transpose(0, 3, 2, 1)
        found, _ = drop_slices_above_base(labels)
        lost += (lv(labels) & ~lv(found)).sum(axis=1)
        lost_rv += ((labels == 3) & (found != 3)).any(axis=(2, 3)).sum(axis=1)
    assert lost.tolist() == [0, 4]
    assert lost_rv.tolist() == [1, 0]
