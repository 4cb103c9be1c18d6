"""Augmentation by anatomy and by tissue changes what it names, images and labels alike."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from cardiometa.segmentation.augment import anatomy, sampling_grid, tissue
from cardiometa.segmentation.training_data import Recipe

SIZE = 96
STILL = Recipe(
    crop=SIZE, rotation_deg=0, scale=0, elastic_px=0, shift_px=0, anatomy=1.0, tissue=1.0
)


def heart(n: int = 40) -> torch.Tensor:
    """Labels ``[n, 96, 96]``: cavity of radius 12 at (54, 44), wall to 19, RV beside it."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    radius = torch.hypot((y - 44.0), (x - 54.0))
    labels = torch.zeros(SIZE, SIZE)
    labels[torch.hypot(y - 44.0, x - 28.0) < 13] = 3
    labels[radius < 19] = 2
    labels[radius < 12] = 1
    return labels.expand(n, SIZE, SIZE).clone()


def positions(n: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return torch.stack([x, y], dim=-1).float().expand(n, SIZE, SIZE, 2)


def warped(labels: torch.Tensor, recipe: Recipe, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    grid = anatomy(positions(len(labels)), labels, recipe, rng)
    grid = grid / ((SIZE - 1) / 2) - 1
    return functional.grid_sample(labels[:, None], grid, mode="nearest", align_corners=True)[:, 0]


def radii(labels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    cavity = (labels == 1).sum(dim=(1, 2)).numpy()
    ventricle = ((labels == 1) | (labels == 2)).sum(dim=(1, 2)).numpy()
    return np.sqrt(cavity / math.pi), np.sqrt(ventricle / math.pi)


def test_cavities_shrink_to_almost_nothing_and_walls_thicken_within_the_stated_bounds() -> None:
    labels = heart()
    labels[labels == 3] = 0
    cavity, ventricle = radii(warped(labels, STILL))
    assert cavity.min() < 0.4 * 12
    assert cavity.min() > 0.2 * 12
    assert cavity.max() < 1.2 * 12
    assert ventricle.min() > 0.88 * 19
    assert 1.15 * 19 < ventricle.max() < 1.29 * 19
    assert (cavity < ventricle).all()


def test_nothing_moves_far_from_the_heart_nor_at_its_centre() -> None:
    labels = heart(8)
    labels[labels == 3] = 0
    grid = anatomy(positions(8), labels, STILL, torch.Generator().manual_seed(1))
    moved = (grid - positions(8)).norm(dim=-1)
    far = (positions(8) - torch.tensor([54.0, 44.0])).norm(dim=-1) > 1.72 * 19
    assert moved[far].max() < 1e-3
    assert moved[:, 44, 54].max() < 0.2
    assert moved.amax(dim=(1, 2)).min() > 0.5


def test_the_right_ventricle_is_widened_and_narrowed() -> None:
    labels = heart()
    labels[(labels == 1) | (labels == 2)] = 0
    area = (warped(labels, STILL) == 3).sum(dim=(1, 2)) / (labels == 3).sum(dim=(1, 2))
    unchanged = (area > 0.99) & (area < 1.01)
    assert 0.2 < unchanged.float().mean() < 0.8  # half the share of the LV
    assert area.min() < 0.75
    assert area.max() > 1.4
    assert area.max() < 1.36**2


@pytest.mark.parametrize("change", ["share 0", "cavity alone", "empty"])
def test_slices_without_a_known_wall_or_without_a_heart_stay(change: str) -> None:
    labels = heart(6)
    labels[labels == 3] = 0
    recipe = replace(STILL, anatomy=0.0) if change == "share 0" else STILL
    if change == "cavity alone":
        labels[labels == 2] = 0
    if change == "empty":
        labels[:] = 0
    grid = anatomy(positions(6), labels, recipe, torch.Generator().manual_seed(2))
    assert torch.equal(grid, positions(6))


def test_a_still_grid_is_the_crop_around_its_centre_up_to_turns_and_mirroring() -> None:
    recipe = replace(STILL, crop=32)
    grid = sampling_grid(torch.tensor([[40.0, 50.0]]), recipe, torch.Generator().manual_seed(3))
    assert grid.mean(dim=(0, 1, 2)).tolist() == pytest.approx([50, 40], abs=1e-3)
    assert grid.shape == (1, 32, 32, 2)


def test_tissues_change_as_a_whole_and_the_background_stays() -> None:
    labels = heart(60)
    labels[labels == 2] = 0  # apart, so that blurred borders do not mix
    images = torch.full((60, 3, SIZE, SIZE), 0.5)
    found = tissue(images, labels, STILL, torch.Generator().manual_seed(4)) - 0.5
    assert found[:, :, :5].abs().max() < 1e-6
    middle = found[:, 1, 44, 54].numpy()
    assert 0.08 < middle.std() < 0.17
    assert found[:, 0, 44, 54].numpy() == pytest.approx(0.8 * middle, abs=1e-5)
    assert abs(np.corrcoef(middle, found[:, 1, 44, 28].numpy())[0, 1]) < 0.4
    unchanged = tissue(images, labels, replace(STILL, tissue=0.0), torch.Generator())
    assert torch.equal(unchanged, images)
