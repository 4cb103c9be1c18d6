"""How a short-axis stack is laid through the phantom: matrix, spacing, orientation, timing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CineGrid:
    """A stack of parallel slices across the long axis of a heart, in patient space (LPS, mm).

    ``apex_lps`` is the direction from base to apex and ``anterior_lps`` a hint at the anterior
    wall; ``base_lps_mm`` the mitral plane's centre at end diastole. Unturned, columns run to the
    lateral wall and rows to the inferior wall. ``in_plane_deg`` turns the field around the heart,
    ``flip_columns`` and ``flip_rows`` reverse its axes, ``shift_mm`` moves it (columns, rows).
    ``slices_above_base`` whole slices lie above the base, plus ``base_offset_mm``;
    ``apex_first`` starts the stack at the apex.
    """

    rows: int = 128
    columns: int = 128
    row_spacing_mm: float = 2.0
    column_spacing_mm: float = 2.0
    slices: int = 10
    thickness_mm: float = 8.0
    slice_distance_mm: float = 10.0
    slices_above_base: int = 1
    base_offset_mm: float = 0.0
    frames: int = 20
    apex_lps: Vector = (0.67, -0.67, -0.32)
    anterior_lps: Vector = (0.0, 0.0, 1.0)
    base_lps_mm: Vector = (30.0, -20.0, 25.0)
    in_plane_deg: float = 0.0
    flip_columns: bool = False
    flip_rows: bool = False
    shift_mm: tuple[float, float] = (0.0, 0.0)
    apex_first: bool = False

    def __post_init__(self) -> None:
        """Refuse grids that no scanner would make."""
        lengths = (
            self.row_spacing_mm,
            self.column_spacing_mm,
            self.thickness_mm,
            self.slice_distance_mm,
        )
        if min(lengths) <= 0 or min(self.rows, self.columns, self.slices, self.frames) < 1:
            raise InputError("A phantom's grid needs sizes and spacings above zero.")
        if np.linalg.norm(np.cross(self.apex_lps, self.anterior_lps)) < 1e-3:
            raise InputError("apex_lps and anterior_lps of a phantom's grid are parallel.")

    @property
    def heart_axes(self) -> np.ndarray:
        """Unit vectors (lateral, anterior, apex) in LPS, as rows; right-handed."""
        apex = np.asarray(self.apex_lps) / np.linalg.norm(self.apex_lps)
        anterior = np.asarray(self.anterior_lps) - np.dot(self.anterior_lps, apex) * apex
        anterior /= np.linalg.norm(anterior)
        return np.stack([np.cross(anterior, apex), anterior, apex])

    @property
    def directions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit vectors in LPS: along a row (columns grow), along a column, slice to slice."""
        lateral, anterior, apex = self.heart_axes
        turn = math.radians(self.in_plane_deg)
        along_row = math.cos(turn) * lateral + math.sin(turn) * anterior
        along_column = math.sin(turn) * lateral - math.cos(turn) * anterior
        return (
            -along_row if self.flip_columns else along_row,
            -along_column if self.flip_rows else along_column,
            -apex if self.apex_first else apex,
        )

    @property
    def long_axis_mm(self) -> np.ndarray:
        """Centre of each slice along the long axis ``[z]``, 0 at the base at end diastole."""
        index = np.arange(self.slices) - self.slices_above_base
        places = (index + 0.5) * self.slice_distance_mm + self.base_offset_mm
        return places[::-1] if self.apex_first else places

    def position_lps_mm(self, z: int) -> np.ndarray:
        """Centre of the first pixel of slice ``z`` (ImagePositionPatient)."""
        along_row, along_column, _ = self.directions
        apex = self.heart_axes[2]
        centre = np.asarray(self.base_lps_mm) + self.long_axis_mm[z] * apex
        half_row = (self.columns - 1) / 2 * self.column_spacing_mm - self.shift_mm[0]
        half_column = (self.rows - 1) / 2 * self.row_spacing_mm - self.shift_mm[1]
        return np.asarray(centre - half_row * along_row - half_column * along_column)

    @property
    def affine_ras(self) -> np.ndarray:
        """Voxel (x, y, z) to RAS mm, 4 × 4."""
        along_row, along_column, along_stack = self.directions
        affine = np.eye(4)
        affine[:3, 0] = along_row * self.column_spacing_mm
        affine[:3, 1] = along_column * self.row_spacing_mm
        affine[:3, 2] = along_stack * self.slice_distance_mm
        affine[:3, 3] = self.position_lps_mm(0)
        return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)

    def in_plane_mm(self) -> tuple[np.ndarray, np.ndarray]:
        """Lateral and anterior coordinate of every pixel from the long axis ``[y, x]``."""
        along_row, along_column, _ = self.directions
        lateral, anterior, _ = self.heart_axes
        u = (np.arange(self.columns) - (self.columns - 1) / 2) * self.column_spacing_mm
        v = (np.arange(self.rows) - (self.rows - 1) / 2) * self.row_spacing_mm
        u, v = u[None, :] + self.shift_mm[0], v[:, None] + self.shift_mm[1]
        across = u * (along_row @ lateral) + v * (along_column @ lateral)
        up = u * (along_row @ anterior) + v * (along_column @ anterior)
        return across.astype(np.float32), up.astype(np.float32)
