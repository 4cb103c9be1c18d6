"""How a short-axis stack is laid through the phantom: matrix, spacing, orientation, timing.

What the scanner makes of tissue: bSSFP signal, coil sensitivity, noise.
"""

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


# T1 ms, T2 ms, proton density at 1.5 T: Stanisz 2005 (MRM 54:507), de Bazelaire 2004 (Radiology
# 230:652), myocardium and blood von Knobelsdorff-Brenkenhoff 2013 (JCMR 15:53).
TISSUES: dict[str, tuple[float, float, float]] = {
    "air": (1000.0, 50.0, 0.0),
    "blood": (1550.0, 230.0, 0.95),
    "myocardium": (980.0, 50.0, 0.85),
    "muscle": (1010.0, 40.0, 0.8),
    "fat": (290.0, 85.0, 0.65),  # off resonance: part of its signal is lost
    "liver": (590.0, 46.0, 0.8),
    "spleen": (1060.0, 79.0, 0.8),
    "lung": (1200.0, 40.0, 0.15),
    "marrow": (550.0, 49.0, 0.7),
    "fluid": (3000.0, 1200.0, 1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bssfp:
    """The sequence and its imperfections.

    ``snr`` is blood over the noise of one channel (0: none); ``bias`` the log range of the coil
    sensitivity over the field; ``tissue_spread`` the relative spread of T1 and T2 by seed.
    """

    tr_ms: float = 3.0
    flip_deg: float = 55.0
    field_strength_t: float = 1.5
    snr: float = 30.0
    bias: float = 0.5
    tissue_spread: float = 0.08


def bssfp_signal(t1_ms: float, t2_ms: float, density: float, sequence: Bssfp) -> float:
    """Steady-state transverse magnetisation at TE = TR/2, on resonance, RF phase alternating.

    M0 sin α (1 − E1) √E2 / (1 − (E1 − E2) cos α − E1 E2): Scheffler & Lehnhardt 2003
    (Eur Radiol 13:2409), after Freeman & Hill 1971.
    """
    e1, e2 = math.exp(-sequence.tr_ms / t1_ms), math.exp(-sequence.tr_ms / t2_ms)
    alpha = math.radians(sequence.flip_deg)
    below = 1 - (e1 - e2) * math.cos(alpha) - e1 * e2
    return density * math.sin(alpha) * (1 - e1) * math.sqrt(e2) / below


def tissue_signals(sequence: Bssfp, seed: int) -> dict[str, float]:
    """Signal of each tissue with blood near 1, T1 and T2 drawn around the published values."""
    rng = np.random.default_rng([seed, 2])
    spread = sequence.tissue_spread
    typical = bssfp_signal(*TISSUES["blood"], sequence)
    signals = {}
    for name, (t1, t2, density) in TISSUES.items():
        drawn = np.exp(spread * np.clip(rng.standard_normal(2), -2, 2))
        signals[name] = bssfp_signal(t1 * drawn[0], t2 * drawn[1], density, sequence) / typical
    return signals


def waves(
    shape: tuple[int, int], cycles: float, rng: np.random.Generator, count: int = 1
) -> np.ndarray:
    """``count`` smooth random fields ``[count, y, x]`` of unit variance, up to ``cycles`` a field.

    Sums of separable cosines, so that they cost two small matrix products.
    """
    orders = np.arange(max(2, math.ceil(2 * cycles)))
    weight = np.exp(-((orders[:, None] ** 2 + orders**2) / (2 * cycles**2)))
    weight[0, 0] = 0.0
    basis = [
        np.cos(math.pi * (np.arange(n) + 0.5)[:, None] / n * orders).astype(np.float32)
        for n in shape
    ]
    scale = 1 / math.sqrt(float((weight**2).sum()) / 4)
    mixes = rng.standard_normal((count, len(orders), len(orders))) * weight * scale
    return np.asarray(basis[0] @ mixes.astype(np.float32) @ basis[1].T)


def coil_sensitivity(
    across_mm: np.ndarray, up_mm: np.ndarray, bias: float, rng: np.random.Generator
) -> np.ndarray:
    """Sensitivity of an anterior coil array ``[y, x]``, about 1 at the heart."""
    angle = math.pi + rng.uniform(-0.9, 0.5)
    towards = (across_mm * math.cos(angle) + up_mm * math.sin(angle)) / 120.0
    smooth = waves((across_mm.shape[0], across_mm.shape[1]), 1.2, rng)[0]
    log = bias * (0.5 * towards + 0.15 * smooth)
    # Sensitivity levels off close to the coil and far from it.
    return np.asarray(np.exp(1.2 * np.tanh(log / 1.2)), dtype=np.float32)


def add_noise(pixels: np.ndarray, snr: float, seed: int) -> np.ndarray:
    """Magnitude of signal plus complex Gaussian noise (Rician): Gudbjartsson 1995, MRM 34:910."""
    if snr <= 0:
        return pixels
    rng = np.random.default_rng([seed, 3])
    sigma = np.float32(1 / snr)
    real = rng.standard_normal(pixels.shape, dtype=np.float32)
    real *= sigma
    real += pixels
    imaginary = rng.standard_normal(pixels.shape, dtype=np.float32)
    imaginary *= sigma
    np.hypot(real, imaginary, out=real)
    return real
