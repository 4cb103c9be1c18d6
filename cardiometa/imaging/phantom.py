"""A beating heart with known volumes, imaged as a short-axis bSSFP cine.

``render(HeartPhantom(lv_edv_ml=180, lv_ef_percent=35), CineGrid(slices=9))`` gives pixels, labels
and the true volumes. The parts: ``phantom_heart`` (shape, motion, truth in closed form),
``phantom_body`` (what lies around), ``phantom_paint`` (both into pixels, with partial volume),
``phantom_signal`` (contrast, coil, noise), ``phantom_grid`` (geometry); ``phantom_dicom`` and
``phantom_nifti`` write it. A rendering depends on its arguments alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .phantom_body import BodyShape, BodyView, paint_body
from .phantom_grid import CineGrid
from .phantom_heart import HeartPhantom, HeartShape, heart_motion
from .phantom_paint import Inside, Painter, paint_slice
from .phantom_signal import Bssfp, add_noise, coil_sensitivity, tissue_signals, waves

__all__ = ["Bssfp", "CineGrid", "HeartPhantom", "PhantomCine", "PhantomTruth", "render"]

_BLOOD = 300.0  # stored units of blood where the coil's sensitivity is 1
_SUB_SAMPLES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomTruth:
    """True volumes: curves ``[t]`` at the sampled phases and their extremes; frames from 0."""

    lv_ml: np.ndarray
    rv_ml: np.ndarray
    lv_mass_g: float
    ed_frame: int
    es_frame: int

    @property
    def lv_edv_ml(self) -> float:
        """Largest LV volume."""
        return float(self.lv_ml.max())

    @property
    def lv_esv_ml(self) -> float:
        """Least LV volume."""
        return float(self.lv_ml.min())

    @property
    def lv_ef_percent(self) -> float:
        """Share of the LV's volume ejected."""
        return 100 * (1 - self.lv_esv_ml / self.lv_edv_ml)

    @property
    def rv_edv_ml(self) -> float:
        """Largest RV volume."""
        return float(self.rv_ml.max())

    @property
    def rv_esv_ml(self) -> float:
        """Least RV volume."""
        return float(self.rv_ml.min())

    @property
    def rv_ef_percent(self) -> float:
        """Share of the RV's volume ejected."""
        return 100 * (1 - self.rv_esv_ml / self.rv_edv_ml)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomCine:
    """A rendered cine: ``pixels`` uint16 and ``labels`` uint8 ``[t, z, y, x]``, and the truth.

    ``frame_times_ms`` ``[t]`` from the R wave. Slices stand in the grid's order.
    """

    pixels: np.ndarray
    labels: np.ndarray
    frame_times_ms: np.ndarray
    truth: PhantomTruth
    phantom: HeartPhantom
    grid: CineGrid
    sequence: Bssfp


def render(
    phantom: HeartPhantom, grid: CineGrid | None = None, sequence: Bssfp | None = None
) -> PhantomCine:
    """Image a phantom; about a second for 128² × 10 slices × 20 phases on one core.

    The same arguments give the same pixels. Signal is averaged over six planes through each
    slice and over each pixel's area; labels are the structure that fills most of the voxel.
    """
    grid, sequence = grid or CineGrid(), sequence or Bssfp()
    motion = heart_motion(phantom, grid.frames)
    painter = Painter(
        phantom=phantom,
        shape=HeartShape.of(phantom),
        inside=Inside.of(phantom),
        motion=motion,
        signals=tissue_signals(sequence, phantom.seed),
        pixel_mm=math.sqrt(grid.row_spacing_mm * grid.column_spacing_mm),
    )
    shape = (grid.frames, grid.slices, grid.rows, grid.columns)
    pixels, labels = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    across, up = grid.in_plane_mm()
    view = BodyView(across_mm=across, up_mm=up, pixel_mm=painter.pixel_mm, signals=painter.signals)
    body = BodyShape.of(
        phantom.seed,
        float(motion.epi_mm[0] + motion.rv_mm[0]) + 6,
        float(motion.epi_mm[0]) + 4,
    )
    near = np.hypot(across, up) < painter.reach_mm()
    offsets = (np.arange(_SUB_SAMPLES) + 0.5) / _SUB_SAMPLES - 0.5
    for z, w in enumerate(grid.long_axis_mm):
        rng = np.random.default_rng([phantom.seed, 8, z])
        resting = paint_body(view, float(w), body, phantom.seed)
        mottle = 1 + 0.06 * waves((grid.rows, grid.columns), 20, rng)[0]
        pixels[:, z] = resting
        heart = (across[near], up[near], resting[near])
        planes = w + offsets * grid.thickness_mm
        for t in range(grid.frames):
            signal, label = paint_slice(painter, heart, planes, t)
            pixels[t, z][near] = signal
            labels[t, z][near] = label
        pixels[:, z] *= mottle
    rng = np.random.default_rng([phantom.seed, 9])
    pixels *= coil_sensitivity(across, up, sequence.bias, rng)
    pixels = add_noise(pixels, sequence.snr, phantom.seed)
    return PhantomCine(
        pixels=np.clip(np.rint(pixels * _BLOOD), 0, 4095).astype(np.uint16),
        labels=labels,
        frame_times_ms=motion.phase * phantom.rr_ms,
        truth=PhantomTruth(
            lv_ml=motion.lv_ml,
            rv_ml=motion.rv_ml,
            lv_mass_g=phantom.lv_mass_g,
            ed_frame=int(motion.lv_ml.argmax()),
            es_frame=int(motion.lv_ml.argmin()),
        ),
        phantom=phantom,
        grid=grid,
        sequence=sequence,
    )
