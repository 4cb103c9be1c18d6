from __future__ import annotations

import numpy as np
import pytest

from cardiometa.segmentation.cleaning import drop_unenclosed_end_slices, enclosed_share


def heart(slices: int = 6, phases: int = 2) -> np.ndarray:
    y, x = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    radius = np.hypot(y - 32, x - 30)
    plane = np.zeros((64, 64), dtype=np.uint8)
    plane[(radius < 24) & (x > 40)] = 3
    plane[radius < 16] = 2
    plane[radius < 10] = 1
    return np.broadcast_to(plane, (phases, slices, 64, 64)).copy()


def test_the_share_is_the_part_of_the_border_with_wall() -> None:
    whole = heart()
    assert np.allclose(enclosed_share(whole), 1)
    half = heart()
    half[..., 32:, :][half[..., 32:, :] == 2] = 0
    assert enclosed_share(half)[0, 0] == pytest.approx(0.5, abs=0.03)
    bare = heart()
    bare[bare == 2] = 0
    assert np.allclose(enclosed_share(bare), 0)
    assert np.isnan(enclosed_share(np.zeros((1, 1, 8, 8), dtype=np.uint8))).all()


def test_open_end_slices_go_with_their_wall_and_the_rv_stays() -> None:
    labels = heart()
    open_slice = labels[1, 0]
    open_slice[:, :36][open_slice[:, :36] == 2] = 0
    cleaned, flags = drop_unenclosed_end_slices(labels)
    assert (cleaned[1, 0] == 1).sum() == (cleaned[1, 0] == 2).sum() == 0
    assert (cleaned[1, 0] == 3).sum() == (labels[1, 0] == 3).sum() > 0
    assert np.array_equal(cleaned[0], labels[0])
    assert np.array_equal(cleaned[1, 1:], labels[1, 1:])
    assert [flag.code for flag in flags] == ["open-end-slices"]
    assert "1 of 2 phases" in flags[0].sentence


def test_an_open_slice_inside_the_stack_is_left_to_the_checks() -> None:
    labels = heart()
    labels[0, 3][labels[0, 3] == 2] = 0
    cleaned, flags = drop_unenclosed_end_slices(labels)
    assert np.array_equal(cleaned, labels)
    assert flags == ()


def test_three_slices_always_stay() -> None:
    labels = heart(slices=5)
    labels[labels == 2] = 0
    cleaned, _ = drop_unenclosed_end_slices(labels)
    assert (cleaned == 1).any(axis=(2, 3)).sum(axis=1).tolist() == [3, 3]


def test_slice_order_does_not_matter() -> None:
    labels = heart()
    labels[:, 0][labels[:, 0] == 2] = 0
    forward, _ = drop_unenclosed_end_slices(labels)
    backward, _ = drop_unenclosed_end_slices(labels[:, ::-1])
    assert np.array_equal(forward, backward[:, ::-1])
