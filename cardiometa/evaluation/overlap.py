"""Overlap of two masks: Dice, Hausdorff 95 and mean surface distance, in three dimensions.

The surface of a mask are its voxels with a face on the outside (also across slices and at the edge
of the image); distances are between voxel centres in mm, slice distance included. With slices 8 to
10 mm apart a structure that is one slice longer in one mask is one slice distance away there.

Choices that differ between programs (Maier-Hein 2024, Metrics Reloaded): Hausdorff 95 is the
larger of the two directed 95th percentiles, the mean distance pools both surfaces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BOTH_EMPTY = "absent-in-both"
ONE_EMPTY = "absent-in-one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Overlap of one structure; None where it cannot be given, ``note`` says why.

    In neither mask: no value at all. In one alone: Dice 0 and no distance.
    """

    dice: float | None
    hd95_mm: float | None
    assd_mm: float | None
    voxels_model: int
    voxels_reference: int
    note: str = ""


def overlap(
    model: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, float, float]
) -> Overlap:
    """Overlap of two boolean masks ``[z, y, x]``; ``spacing_mm`` (slices, rows, columns)."""
    if model.shape != reference.shape or model.ndim != 3:
        raise ValueError(f"masks {model.shape} and {reference.shape} do not fit together")
    ours, theirs = int(np.count_nonzero(model)), int(np.count_nonzero(reference))
    if not ours or not theirs:
        dice = None if ours == theirs else 0.0
        note = BOTH_EMPTY if ours == theirs else ONE_EMPTY
        return Overlap(
            dice=dice,
            hd95_mm=None,
            assd_mm=None,
            voxels_model=ours,
            voxels_reference=theirs,
            note=note,
        )
    both = int(np.count_nonzero(model & reference))
    to_reference, to_model = surface_distances(model, reference, spacing_mm)
    return Overlap(
        dice=2 * both / (ours + theirs),
        hd95_mm=float(max(np.percentile(to_reference, 95), np.percentile(to_model, 95))),
        assd_mm=float((to_reference.sum() + to_model.sum()) / (to_reference.size + to_model.size)),
        voxels_model=ours,
        voxels_reference=theirs,
    )


def surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask ``[z, y, x]`` with at least one of six faces on the outside."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis in range(3):
        inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    result: np.ndarray = mask & ~inner[1:-1, 1:-1, 1:-1]
    return result


def surface_distances(
    model: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Distances in mm from each surface voxel of either mask to the other's surface.

    Both masks hold something. Model to reference first.
    """
    from scipy.ndimage import distance_transform_edt

    box = _box(model | reference)
    one, other = surface(model[box]), surface(reference[box])
    to_other = distance_transform_edt(~other, sampling=spacing_mm)
    to_one = distance_transform_edt(~one, sampling=spacing_mm)
    return np.asarray(to_other[one]), np.asarray(to_one[other])


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around a mask; what lies outside it cannot change a distance."""
    box = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)
