"""Overlap of masks against sets of points, by hand, and under turns and flips."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cardiometa.evaluation.overlap import BOTH_EMPTY, ONE_EMPTY, overlap

SPACING = (8.0, 1.5, 1.25)
MASKS = arrays(bool, (3, 5, 6), elements=st.booleans())


def border(mask: np.ndarray) -> np.ndarray:
    """Surface voxels in mm, found voxel by voxel."""
    points = []
    for place in zip(*np.nonzero(mask), strict=True):
        for axis, step in itertools.product(range(3), (-1, 1)):
            near = list(place)
            near[axis] += step
            inside = 0 <= near[axis] < mask.shape[axis]
            if not inside or not mask[tuple(near)]:
                points.append(np.array(place) * SPACING)
                break
    return np.array(points)


def by_points(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Hausdorff 95 and mean surface distance from all pairs of surface points."""
    one, other = border(a), border(b)
    far = np.linalg.norm(one[:, None] - other[None], axis=2)
    there, back = far.min(axis=1), far.min(axis=0)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return hd95, np.concatenate([there, back]).mean()


@settings(max_examples=60, deadline=None)
@given(MASKS, MASKS)
def test_against_all_pairs_of_points(a: np.ndarray, b: np.ndarray) -> None:
    found = overlap(a, b, SPACING)
    if not a.any() and not b.any():
        assert (found.dice, found.hd95_mm, found.note) == (None, None, BOTH_EMPTY)
    elif not a.any() or not b.any():
        assert (found.dice, found.assd_mm, found.note) == (0.0, None, ONE_EMPTY)
    else:
        hd95, assd = by_points(a, b)
        assert found.dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert found.hd95_mm == pytest.approx(hd95)
        assert found.assd_mm == pytest.approx(assd)


@settings(max_examples=30, deadline=None)
@given(MASKS, MASKS)
def test_symmetric_and_blind_to_flips(a: np.ndarray, b: np.ndarray) -> None:
    here, there = overlap(a, b, SPACING), overlap(b, a, SPACING)
    flipped = overlap(a[::-1, :, ::-1], b[::-1, :, ::-1], SPACING)
    turned = overlap(
        a.transpose(0, 2, 1), b.transpose(0, 2, 1), (SPACING[0], SPACING[2], SPACING[1])
    )
    for other in (there, flipped, turned):
        for name in ("dice", "hd95_mm", "assd_mm"):
            value = getattr(here, name)
            assert getattr(other, name) == (value if value is None else pytest.approx(value))


def test_one_slice_more_is_a_slice_distance_away() -> None:
    a = np.zeros((6, 20, 20), dtype=bool)
    a[1:4, 5:15, 5:15] = True
    b = a.copy()
    b[4, 5:15, 5:15] = True
    found = overlap(a, b, SPACING)
    assert found.dice == pytest.approx(2 * 300 / 700)
    assert found.hd95_mm == pytest.approx(SPACING[0])


def test_a_disc_against_a_wider_disc() -> None:
    y, x = np.mgrid[:80, :80]
    distance = np.hypot(y - 40, x - 40)
    a, b = (np.repeat((distance < r)[None], 5, axis=0) for r in (20, 24))
    found = overlap(a, b, (10.0, 1.0, 1.0))
    # In the plane the borders are 4 mm apart; the flat ends coincide but for the ring.
    assert found.hd95_mm == pytest.approx(4, abs=0.8)
    assert found.dice == pytest.approx(2 * 20**2 / (20**2 + 24**2), abs=0.01)
