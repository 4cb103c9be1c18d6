"""Wall thickness, thickening and radial motion by AHA segment, and circumferential strain.

In each slice rays run from the centroid of the LV cavity. The radius of a border along a ray is
√(2∫r dr) over the mask, which a pixel cut by the border changes by its share; squared radii are
averaged over 20° or so. Thickness is taken across the wall, not along the ray.

A slice counts where myocardium lies on 95 % of its rays or more: a ring that the outflow tract or
the base opens has no thickness there (Cerqueira 2002: myocardium in all 360°). Basal, middle and
apical are the thirds of the slices that have LV cavity at ED. The septum lies between the insertion
points of the RV at ED, the ends of the arc on which the RV cavity touches the wall; it is halved
into segments 2 and 3 (8 and 9), and the free wall is quartered. Apical segments are quarters about
the middle of the septum (Cerqueira et al., Circulation 105:539, 2002; segment 17, the apex itself,
is in no short-axis slice). Which insertion point is the anterior one follows from the directions
from septum to free wall and from base to apex, so it is as good as the orientation in the header
(`_turn`): a file that mirrors the heart swaps anterior and inferior.

Radial motion is that of the endocardium towards the centroid of the same phase. Strain is the
change of the length of the endocardial contour from ED to ES in the middle third: a contour-based
surrogate of the strain that feature tracking measures, since no point of the wall is followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from ..records import LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY

_SIX = ("anterior", "anteroseptal", "inferoseptal", "inferior", "inferolateral", "anterolateral")
SEGMENTS: Final = (
    *(f"{level} {wall}" for level in ("basal", "mid") for wall in _SIX),
    *(f"apical {wall}" for wall in ("anterior", "septal", "inferior", "lateral")),
)
_RAYS = 48
_STEP_MM = 1.0
_ANGLES = np.arange(_RAYS) * (2 * np.pi / _RAYS)
_KERNEL = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9
_LEAST_WALL_MM = 1.0
_CLOSED = 0.95  # of the rays of a slice
_TOUCH_MM = np.array([1.0, 2.0, 3.0])  # beyond the wall, where the RV cavity is looked for
_FEWEST_SLICES = 3
_LEFTWARDS = 0.2  # share of the long axis, less than any heart's


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall:
    """What the wall of one heart measures; a value that cannot be given is NaN or None.

    The arrays are ``[16]``, segment 1 first: ``thickness_ed_mm``, ``thickening_percent`` of it from
    ED to ES and ``radial_motion_mm`` of the endocardium, inwards above 0.
    """

    thickness_ed_mm: np.ndarray
    thickening_percent: np.ndarray
    radial_motion_mm: np.ndarray
    thickness_max_mm: float | None
    gcs_percent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rings:
    """Borders by phase (ED, ES), slice and ray, ``[2, z, k]`` in mm; ``closed`` ``[2, z]``.

    ``septal`` ``[z, k]``: rays of ED beyond which the RV cavity touches the wall.
    """

    inner_mm: np.ndarray
    thickness_mm: np.ndarray
    closed: np.ndarray
    septal: np.ndarray


def measure_wall(
    frames: np.ndarray,
    spacing_mm: tuple[float, float],
    affine: np.ndarray,
    base: Literal["first", "last"],
) -> Wall | None:
    """Measure the wall of labels ``[2, z, y, x]`` of ED and ES; ``base`` is an end of the stack.

    None where fewer than three slices have LV cavity at ED or the RV touches the wall in none.
    """
    lv = np.flatnonzero((frames[0] == LV_CAVITY).any(axis=(1, 2)))
    if len(lv) < _FEWEST_SLICES:
        return None
    order = np.arange(lv[0], lv[-1] + 1)[:: 1 if base == "first" else -1]
    rings = _rings(frames[:, order], spacing_mm)
    level = np.arange(rings.closed.shape[1]) * 3 // rings.closed.shape[1]
    chosen = _segments_of_rays(rings, level, _turn(affine, base))
    if chosen is None:
        return None
    ed = rings.closed[0]
    both = ed & rings.closed[1]

    def mean(values: np.ndarray, slices: np.ndarray) -> np.ndarray:
        used = np.where(slices[:, np.newaxis], chosen, 0)
        count = np.bincount(used.ravel(), minlength=17)[1:]
        total = np.bincount(used.ravel(), weights=values.ravel(), minlength=17)[1:]
        return np.asarray(total / np.where(count, count, np.nan))

    thickness = rings.thickness_mm
    shorter = rings.inner_mm[0] - rings.inner_mm[1]
    # The wall of the most apical slice is cut along its curve and looks thicker than it is.
    above = ed & (np.arange(len(ed)) < len(ed) - 1)
    # Each ray with its neighbours: the largest single one is the noisiest.
    arcs = np.mean([np.roll(thickness[0, above], k, axis=1) for k in (-1, 0, 1)], axis=0)
    middle = both & (level == 1)
    length = _contour_mm(rings.inner_mm[:, middle])
    return Wall(
        thickness_ed_mm=mean(thickness[0], ed),
        thickening_percent=100 * (mean(thickness[1], both) / mean(thickness[0], both) - 1),
        radial_motion_mm=mean(shorter, both),
        thickness_max_mm=float(arcs.max()) if above.any() else None,
        gcs_percent=float(100 * (length[1] / length[0] - 1)) if middle.any() else None,
    )


def _rings(frames: np.ndarray, spacing_mm: tuple[float, float]) -> _Rings:
    """Borders of ``[2, z, y, x]``, the slices from base to apex."""
    from scipy.ndimage import correlate1d, map_coordinates

    ventricle = (frames == LV_CAVITY) | (frames == LV_MYOCARDIUM)
    rows, columns = (np.flatnonzero(ventricle.any(axis=axes)) for axes in ((0, 1, 3), (0, 1, 2)))
    spare = int(np.ceil(_TOUCH_MM[-1] / min(spacing_mm))) + 1
    top, left = max(rows[0] - spare, 0), max(columns[0] - spare, 0)
    box = (..., slice(top, rows[-1] + spare + 1), slice(left, columns[-1] + spare + 1))
    stack = frames[box].reshape(-1, *frames[box].shape[2:])
    cavity, ventricle = stack == LV_CAVITY, ventricle[box].reshape(stack.shape)
    # A slice that has lost its cavity keeps the centre of its wall: it is not closed, and unused.
    inside = np.where(cavity.any(axis=(1, 2))[:, np.newaxis, np.newaxis], cavity, ventricle)
    pixels = np.maximum(inside.sum(axis=(1, 2)), 1)
    centre = np.stack(
        [
            inside.sum(axis=2) @ np.arange(stack.shape[1]) / pixels,
            inside.sum(axis=1) @ np.arange(stack.shape[2]) / pixels,
        ]
    )
    direction = np.stack([np.sin(_ANGLES), np.cos(_ANGLES)]) / np.array(spacing_mm)[:, np.newaxis]
    reach = np.hypot(stack.shape[1] * spacing_mm[0], stack.shape[2] * spacing_mm[1]) / 2
    radius = np.arange(0.5 * _STEP_MM, reach + 12, _STEP_MM)
    number = np.arange(len(stack))[:, np.newaxis, np.newaxis]

    def along(mask: np.ndarray, distance: np.ndarray, order: int) -> np.ndarray:
        """``mask`` at ``distance`` (broadcast to ``[n, ray, step]``) from each slice's centre."""
        y, x = (
            centre[axis][:, np.newaxis, np.newaxis] + direction[axis][:, np.newaxis] * distance
            for axis in (0, 1)
        )
        places = np.broadcast_arrays(number, y, x)
        return np.asarray(map_coordinates(mask, places, order=order, output=np.float32))

    squared = [
        2 * _STEP_MM * along(mask.astype(np.float32), radius, 1) @ radius.astype(np.float32)
        for mask in (cavity, ventricle)
    ]
    wall = np.sqrt(squared[1]) - np.sqrt(squared[0])
    closed = cavity.any(axis=(1, 2)) & ((wall > _LEAST_WALL_MM).mean(axis=1) >= _CLOSED)
    inner, outer = (np.sqrt(correlate1d(one, _KERNEL, axis=1, mode="wrap")) for one in squared)
    middle = (inner + outer) / 2
    lean = (np.roll(middle, -1, axis=1) - np.roll(middle, 1, axis=1)) / (2 * _ANGLES[1])
    across = middle / np.hypot(middle, lean).clip(1e-6)
    n_slices = len(stack) // 2
    right = (stack[:n_slices] == RV_CAVITY).astype(np.uint8)
    number, centre = number[:n_slices], centre[:, :n_slices]
    beyond = np.sqrt(squared[1][:n_slices])[:, :, np.newaxis] + _TOUCH_MM
    shape = (2, n_slices, _RAYS)
    return _Rings(
        inner_mm=inner.reshape(shape),
        thickness_mm=((outer - inner) * across).reshape(shape),
        closed=closed.reshape(shape[:2]),
        septal=along(right, beyond, 0).max(axis=2) > 0,
    )


def _turn(affine: np.ndarray, base: str) -> int:
    """1 where angles grow from the anterior wall over the septum to the inferior one, else -1.

    ``affine`` voxel to RAS. Lateral, anterior and apex are right-handed in a body, as x, y, z are.
    An axis from base to apex that does not point to the left is no body's (ACDC's files): then the
    image is taken as it is shown, seen from the apex, as scanners write it.
    """
    to_apex = affine[:3, 2] * (1 if base == "first" else -1)
    if -to_apex[0] < _LEFTWARDS * np.linalg.norm(to_apex):
        return -1
    return 1 if (np.linalg.det(affine[:3, :3]) > 0) == (base == "first") else -1


def _segments_of_rays(rings: _Rings, level: np.ndarray, turn: int) -> np.ndarray | None:
    """Segment (1 to 16) of each slice and ray ``[z, k]``; None where no slice shows a septum."""
    share = rings.septal.mean(axis=1)
    usable = (level < 2) & (share > 0.08) & (share < 0.6)
    if not usable.any():
        return None
    septal = rings.septal[usable]
    middle = np.angle((septal @ np.exp(1j * _ANGLES)).sum())
    offset = turn * ((_ANGLES - middle + np.pi) % (2 * np.pi) - np.pi)
    within = septal & (abs(offset) < np.pi / 2)
    reach = np.where(within, offset, np.nan)
    known = within.any(axis=1)
    # Insertion points on either side of the middle, half a ray beyond the last that touches.
    half = _ANGLES[1] / 2
    first = np.median(np.nanmin(reach[known], axis=1)) - half
    last = np.median(np.nanmax(reach[known], axis=1)) + half
    along = (offset - first) % (2 * np.pi)
    width = last - first
    free = (2 * np.pi - width) / 4
    ring = np.where(
        along < width, 2 + (along >= width / 2), 4 + np.minimum((along - width) // free, 3)
    ).astype(int)
    ring[ring == 7] = 1
    quarter = ((along - width / 2 + np.pi / 4) // (np.pi / 2)).astype(int) % 4
    apical = np.array([14, 15, 16, 13])[quarter]
    return np.asarray(np.stack([ring, ring + 6, apical])[level])


def _contour_mm(radius_mm: np.ndarray) -> np.ndarray:
    """Length of the closed contours of ``[2, z, k]``, summed over the slices, ``[2]``."""
    after = np.roll(radius_mm, -1, axis=2)
    chord = radius_mm**2 + after**2 - 2 * radius_mm * after * np.cos(_ANGLES[1])
    return np.asarray(np.sqrt(chord.clip(0)).sum(axis=(1, 2)))
