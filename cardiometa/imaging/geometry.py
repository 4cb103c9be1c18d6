"""Geometry of a stack: the common grid, slice weights, and slices that lie off it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..records import Flag
from .frames import Frame
from .planes import ANGLE_TOLERANCE, SHIFT_TOLERANCE_MM, Plane, Slice, centre_of, normal_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The common grid of a stack: ``affine_lps`` from voxel (x, y, z), weights and distance in mm.

    ``source_affines`` per slice, its own plane's affine from (x, y, 0) to LPS, None where the slice
    lies on the grid and needs no resampling.
    """

    rows: int
    columns: int
    spacing_mm: tuple[float, float]
    affine_lps: np.ndarray
    slice_weights_mm: np.ndarray
    slice_distance_mm: float
    source_affines: tuple[np.ndarray | None, ...]
    origins: np.ndarray
    flags: tuple[Flag, ...]


def frame_affine(frame: Frame) -> np.ndarray:
    """4×4 from (column, row, depth) of one frame to LPS mm (DICOM PS3.3 C.7.6.2.1.1)."""
    between_rows, between_columns = frame.spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = np.array(frame.row_direction) * between_columns
    affine[:3, 1] = np.array(frame.column_direction) * between_rows
    affine[:3, 2] = normal_of(frame)
    affine[:3, 3] = frame.position
    return affine


def _grid_key(frame: Frame) -> tuple[int, int, float, float]:
    rows_mm, columns_mm = frame.spacing_mm
    return frame.facts.rows, frame.facts.columns, round(rows_mm, 3), round(columns_mm, 3)


def grid_of(plane: Plane) -> Grid:
    """The grid of most slices of a stack, and which slices must be resampled to it."""
    frames = [item.frames[0] for item in plane.slices]
    model = _usual(frames, plane.normal)
    alike = np.array([_is_alike(frame, model) for frame in frames])
    base = frame_affine(model)
    normal = base[:3, 2].copy()
    centres = np.array([centre_of(frame) for frame in frames])
    depths = centres @ normal
    flat = centres - np.outer(depths, normal)
    line = np.median(flat[alike], axis=0)
    half = centre_of(model) - np.array(model.position)
    origins = line + np.outer(depths, normal) - half
    sources, tilted, other_grid, shifted = [], 0, 0, 0
    for frame, place in zip(frames, flat, strict=True):
        turned = not _is_parallel(frame, model)
        other = _grid_key(frame) != _grid_key(model)
        off = float(np.linalg.norm(place - line)) > SHIFT_TOLERANCE_MM
        tilted += turned
        other_grid += other
        shifted += off and not other and not turned
        sources.append(frame_affine(frame) if turned or off or other else None)
    weights, distance, flags = slice_weights(depths)
    base[:3, 2] = normal * distance
    base[:3, 3] = origins[0]
    flags += _grid_flags(tilted, other_grid, shifted)
    flags += _distance_flags(plane.slices, distance)
    return Grid(
        rows=model.facts.rows,
        columns=model.facts.columns,
        spacing_mm=model.spacing_mm,
        affine_lps=base,
        slice_weights_mm=weights,
        slice_distance_mm=distance,
        source_affines=tuple(sources),
        origins=origins,
        flags=flags,
    )


def _usual(frames: Sequence[Frame], normal: np.ndarray) -> Frame:
    """The frame along the stack's normal whose grid most others share; of equals the middle one."""
    along = [frame for frame in frames if float(normal_of(frame) @ normal) >= ANGLE_TOLERANCE]
    votes = [sum(_is_alike(frame, other) for other in frames) for frame in along]
    best = [frame for frame, n in zip(along, votes, strict=True) if n == max(votes)]
    return best[len(best) // 2]


def _is_alike(frame: Frame, model: Frame) -> bool:
    return _grid_key(frame) == _grid_key(model) and _is_parallel(frame, model)


def _is_parallel(frame: Frame, model: Frame) -> bool:
    pairs = (
        (frame.row_direction, model.row_direction),
        (frame.column_direction, model.column_direction),
    )
    return all(float(np.dot(a, b)) >= ANGLE_TOLERANCE for a, b in pairs)


def slice_weights(depths_mm: np.ndarray) -> tuple[np.ndarray, float, tuple[Flag, ...]]:
    """Length of heart each slice stands for, the median distance, and flags for uneven gaps.

    Even gaps (within 5 % or 0.5 mm of the median): every slice weighs the distance. Otherwise half
    of the two gaps beside it, an end slice taking half the median on its outer side.
    """
    gaps = np.diff(depths_mm)
    distance = float(np.median(gaps))
    if np.all(np.abs(gaps - distance) <= max(0.05 * distance, 0.5)):
        return np.full(len(depths_mm), distance), distance, ()
    outer = np.concatenate([[distance], gaps, [distance]])
    weights = (outer[:-1] + outer[1:]) / 2
    flags = [
        Flag(
            code="irregular_gaps",
            level="review",
            sentence=f"Slice gaps run from {gaps.min():.1f} to {gaps.max():.1f} mm; each slice "
            "is weighted by half the gaps beside it.",
        )
    ]
    missing = int(sum(round(gap / distance) - 1 for gap in gaps if gap >= 1.75 * distance))
    if missing:
        flags.append(
            Flag(
                code="missing_slices",
                level="review",
                sentence=f"About {missing} slices seem to be missing inside the stack.",
            )
        )
    return weights, distance, tuple(flags)


def _grid_flags(tilted: int, other_grid: int, shifted: int) -> tuple[Flag, ...]:
    flags = []
    if tilted:
        text = f"{tilted} slices are tilted by more than 1 degree and were resampled."
        flags.append(Flag(code="tilted_slices", level="review", sentence=text))
    if other_grid:
        text = f"{other_grid} slices of another matrix or pixel size were resampled."
        flags.append(Flag(code="resampled_slices", level="review", sentence=text))
    if shifted:
        text = f"{shifted} slices are shifted by more than 1 mm in the plane and were resampled."
        flags.append(Flag(code="shifted_slices", level="info", sentence=text))
    return tuple(flags)


def _distance_flags(slices: Sequence[Slice], distance: float) -> tuple[Flag, ...]:
    stated = [s.frames[0].slice_spacing_mm for s in slices]
    known = [value for value in stated if value is not None and value > 0]
    if known and abs(float(np.median(known)) - distance) > 0.1 * distance:
        text = (
            f"SpacingBetweenSlices says {np.median(known):.1f} mm, the positions say "
            f"{distance:.1f} mm; the positions are used."
        )
        return (Flag(code="slice_distance_conflict", level="info", sentence=text),)
    return ()


def on_grid(array: np.ndarray, grid: Grid, k: int) -> np.ndarray:
    """The image of slice ``k`` on the common grid, interpolated linearly where it lies off it."""
    source = grid.source_affines[k]
    if source is None:
        return array
    from scipy.ndimage import map_coordinates

    target = grid.affine_lps.copy()
    target[:3, 3] = grid.origins[k]
    rows, columns = np.mgrid[0 : grid.rows, 0 : grid.columns].astype(float)
    flat = np.stack([columns, rows, np.zeros_like(rows), np.ones_like(rows)]).reshape(4, -1)
    # Points of the grid, dropped along the slice's own normal onto its plane.
    x, y, _, _ = np.linalg.solve(source, target @ flat)
    shape = (grid.rows, grid.columns)
    sampled = map_coordinates(array, [y.reshape(shape), x.reshape(shape)], order=1, mode="constant")
    return np.asarray(sampled, dtype=np.float32)
