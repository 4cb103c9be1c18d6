"""A beating heart with known volumes, imaged as a short-axis bSSFP cine.

``render(HeartPhantom(lv_edv_ml=180, lv_ef_percent=35), CineGrid(slices=9))`` gives pixels, labels
and the true volumes: the heart (`heart`) painted over a resting body, through the thickness of each
slice, then coil sensitivity and noise. A rendering depends on its arguments alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..records import LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY
from .heart import (
    MYOCARDIUM_G_PER_ML,
    HeartMotion,
    HeartPhantom,
    HeartShape,
    ellipsoid_profile,
    rv_profile,
)

__all__ = ["Bssfp", "CineGrid", "HeartPhantom", "PhantomCine", "PhantomTruth", "render"]

Vector = tuple[float, float, float]

_NOWHERE = -1000.0  # a radius that covers nothing
_RIDGES = (3, 8, 11, 16, 21, 29)  # waves around the rim: trabeculae of several widths
_BLOOD = 300.0  # stored units of blood where the coil's sensitivity is 1
_SUB_SAMPLES = 6


# ------------------------------------------------------------------ acquisition


@dataclass(frozen=True, slots=True, kw_only=True)
class CineGrid:
    """A stack of parallel slices across the long axis of a heart, in patient space (LPS, mm).

    ``apex_lps`` is the direction from base to apex and ``anterior_lps`` a hint at the anterior
    wall; ``base_lps_mm`` the mitral plane's centre at end diastole. Unturned, columns run to the
    lateral wall and rows to the inferior wall. ``in_plane_deg`` turns the field around the heart,
    ``flip_columns`` and ``flip_rows`` reverse its axes, ``shift_mm`` moves it (columns, rows).
    ``slices_above_base`` full slices lie above the base, plus ``base_offset_mm``;
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
        spacings = (self.row_spacing_mm, self.column_spacing_mm)
        lengths = (*spacings, self.thickness_mm, self.slice_distance_mm)
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
        centre = np.asarray(self.base_lps_mm) + self.long_axis_mm[z] * self.heart_axes[2]
        half_row = (self.columns - 1) / 2 * self.column_spacing_mm - self.shift_mm[0]
        half_column = (self.rows - 1) / 2 * self.row_spacing_mm - self.shift_mm[1]
        return np.asarray(centre - half_row * along_row - half_column * along_column)

    @property
    def affine_ras(self) -> np.ndarray:
        """Voxel (x, y, z) to RAS mm, 4 × 4."""
        lengths = (self.column_spacing_mm, self.row_spacing_mm, self.slice_distance_mm)
        affine = np.eye(4)
        affine[:3, :3] = np.stack(self.directions, axis=1) * lengths
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
    typical = bssfp_signal(*TISSUES["blood"], sequence)
    signals = {}
    for name, (t1, t2, density) in TISSUES.items():
        drawn = np.exp(sequence.tissue_spread * np.clip(rng.standard_normal(2), -2, 2))
        signals[name] = bssfp_signal(t1 * drawn[0], t2 * drawn[1], density, sequence) / typical
    return signals


def waves(
    shape: tuple[int, ...], cycles: float, rng: np.random.Generator, count: int = 1
) -> np.ndarray:
    """``count`` smooth random fields ``[count, y, x]`` of unit variance, up to ``cycles`` a field.

    Sums of separable cosines, so that they cost two small matrix products.
    """
    orders = np.arange(max(2, math.ceil(2 * cycles)))
    weight = np.exp(-((orders[:, None] ** 2 + orders**2) / (2 * cycles**2)))
    weight[0, 0] = 0.0
    rows, columns = (
        np.cos(math.pi * (np.arange(n) + 0.5)[:, None] / n * orders).astype(np.float32)
        for n in shape
    )
    scale = 1 / math.sqrt(float((weight**2).sum()) / 4)
    mixes = rng.standard_normal((count, len(orders), len(orders))) * weight * scale
    return np.asarray(rows @ mixes.astype(np.float32) @ columns.T)


def coil_sensitivity(
    across_mm: np.ndarray, up_mm: np.ndarray, bias: float, rng: np.random.Generator
) -> np.ndarray:
    """Sensitivity of an anterior coil array ``[y, x]``, about 1 at the heart."""
    angle = math.pi + rng.uniform(-0.9, 0.5)
    towards = (across_mm * math.cos(angle) + up_mm * math.sin(angle)) / 120.0
    log = bias * (0.5 * towards + 0.15 * waves(across_mm.shape, 1.2, rng)[0])
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


# ------------------------------------------------------------------ painting


def coverage(distance_mm: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Share of a pixel inside a boundary at signed ``distance_mm`` (negative inside)."""
    share = distance_mm * np.float32(-1.0 / pixel_mm)
    share += np.float32(0.5)
    return np.clip(share, 0.0, 1.0, out=share)


def ellipse_mm(
    x: np.ndarray, y: np.ndarray, semi: tuple[float | np.ndarray, float | np.ndarray]
) -> np.ndarray:
    """Approximate signed distance to an ellipse at the origin, negative inside (first order)."""
    a, b = semi
    q = np.sqrt((x / a) ** 2 + (y / b) ** 2) + np.float32(1e-4)
    slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2) / q + np.float32(1e-4)
    return np.asarray((q - 1) / slope, dtype=np.float32)


def _paint(image: np.ndarray, share: np.ndarray, signal: np.ndarray | float) -> None:
    """Paint ``signal`` over ``image`` where ``share`` covers it."""
    image += share * (signal - image)


class Body:
    """The resting body around the heart: chest wall, lungs, diaphragm, liver, spine.

    A chest drawn by the seed that has room for a heart of this reach from the LV axis (septal,
    lateral); pixels at ``across_mm`` and ``up_mm`` ``[y, x]``. Lengths in mm, angles in radians.
    """

    def __init__(
        self,
        field_mm: tuple[np.ndarray, np.ndarray],
        pixel_mm: float,
        signals: dict[str, float],
        seed: int,
        reach_mm: tuple[float, float],
    ) -> None:
        self.across_mm, self.up_mm = field_mm
        self.size = self.across_mm.shape
        self.pixel_mm, self.signals, self.seed = pixel_mm, signals, seed
        rng = np.random.default_rng([seed, 4])
        septal, lateral = reach_mm
        self.fat_mm = rng.uniform(5.0, 26.0)
        self.muscle_mm = rng.uniform(9.0, 16.0)
        near = septal + self.fat_mm + self.muscle_mm + rng.uniform(0.0, 14.0)
        far = lateral + self.fat_mm + self.muscle_mm + rng.uniform(35.0, 95.0)
        self.semi_mm = ((near + far) / 2, rng.uniform(140.0, 210.0))
        self.centre_mm = ((far - near) / 2, rng.uniform(-20.0, 40.0))
        self.turn = rng.uniform(-0.5, 0.35)
        self.rib_phase = rng.uniform(0, 6.28)
        self.diaphragm_mm = -lateral - rng.uniform(-2.0, 10.0)
        self.dome_mm = rng.uniform(5.0, 30.0)
        self.liver_end_mm = rng.uniform(-25.0, 40.0)
        limits = ((35.0, 60.0), (-40.0, -25.0), (22.0, 38.0), (18.0, 30.0))
        self.stomach_mm = [rng.uniform(low, high) for low, high in limits]
        self.stomach_signal = rng.choice([0.1, 0.35, 0.5, 0.9])
        self.spine_mm = (rng.uniform(70.0, 95.0), rng.uniform(-55.0, -25.0))
        self.vessels = int(rng.integers(25, 60))

    def _abdomen(self, x: np.ndarray, below: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Signal at the depth ``below`` the diaphragm."""
        s, pixel = self.signals, self.pixel_mm
        texture = waves(self.size, 14, rng, 2)
        out = np.full(x.shape, s["fat"] * 0.8, np.float32) * (1 + 0.25 * texture[0])
        _paint(out, coverage(10 - 14 * np.abs(texture[1]), pixel * 4), s["muscle"])
        px, py, a, b = self.stomach_mm
        inside = ellipse_mm(x - px, -below - py, (a, b))
        _paint(out, coverage(inside - 4, pixel), s["muscle"])
        _paint(out, coverage(inside, pixel), self.stomach_signal * (1 + 0.4 * texture[1]))
        spleen = ellipse_mm(x - px - 45, -below - py + 8, (24, 38))
        _paint(out, coverage(spleen, pixel), s["spleen"] * (1 + 0.05 * texture[0]))
        edge = x - self.liver_end_mm + 0.5 * below + 6 * waves(self.size, 2, rng)[0]
        liver = s["liver"] * (1 + 0.05 * texture[0])
        vessels = coverage(3.0 * np.abs(waves(self.size, 7, rng)[0] + 0.3) - 0.3, 0.6)
        _paint(liver, vessels * 0.35, s["blood"])
        _paint(out, coverage(edge, pixel), liver)
        _paint(out, coverage(below - 3, pixel), s["muscle"])
        return np.asarray(out)

    def _lungs(self, rng: np.random.Generator) -> np.ndarray:
        out = self.signals["lung"] * (1 + 0.3 * waves(self.size, 10, rng)[0])
        spread = rng.normal(0, 1, (self.vessels, 2)) * (55, 55) + (20, 45)
        radii = rng.gamma(2.0, 0.55, self.vessels)
        for (x, y), radius in zip(spread, radii, strict=True):
            near = np.hypot(self.across_mm - x, self.up_mm - y) - radius
            _paint(out, coverage(near, self.pixel_mm), 0.7 * self.signals["blood"])
        return np.asarray(out, np.float32)

    def _chest_wall(
        self, depth: np.ndarray, around: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Signal at ``depth`` below the skin and angle ``around``, and the depth of the ribcage."""
        s, pixel = self.signals, self.pixel_mm
        texture = waves(self.size, 9, rng, 2)
        phases = rng.uniform(0, 6.28, 3)
        lobes = sum(np.sin((k + 1) * around + phases[k]) / (k + 1) for k in range(3))
        fat = np.clip(self.fat_mm * (1 + 0.35 * lobes), 3.0, None)
        out = s["fat"] * (1 + 0.06 * texture[0])
        _paint(out, coverage(depth - 1.5, pixel), 0.5 * s["muscle"])
        _paint(out, coverage(fat - depth, pixel), s["muscle"] * (1 + 0.1 * texture[1]))
        streaks = coverage(0.5 - texture[1], 0.5)
        _paint(out, streaks * coverage(fat + 2 - depth, pixel), 0.7 * s["fat"])
        middle = fat + 0.62 * self.muscle_mm
        rib = np.hypot((depth - middle) / 4.5, 2.6 * np.sin(9 * around + self.rib_phase)) - 1
        _paint(out, coverage(3 * rib - 1.5, pixel), 0.1)
        _paint(out, coverage(3 * rib, pixel), s["marrow"] * 1.1)
        return out, fat + self.muscle_mm

    def plane(self, long_axis_mm: float) -> np.ndarray:
        """Signal of the body without the heart ``[y, x]`` in one plane, float32, 0 in air."""
        pixel = self.pixel_mm
        # Coarse shapes follow the body from slice to slice; texture is drawn anew.
        same = np.random.default_rng([self.seed, 5])
        rng = np.random.default_rng([self.seed, 6, round(long_axis_mm * 10) + 100_000])
        bend = np.zeros((2, *self.size), np.float32)
        for _ in range(5):
            k = same.normal(0, 1 / 45.0, 2)
            phase, size_mm = same.uniform(0, 6.28), same.normal(0, 2.2, 2)
            wave = np.sin(self.across_mm * k[0] + self.up_mm * k[1] + phase + long_axis_mm / 50)
            bend += wave * size_mm[:, None, None].astype(np.float32)
        x, y = self.across_mm + bend[0], self.up_mm + bend[1]
        # Towards the apex the anterior wall comes nearer and the abdomen higher.
        cx, cy = self.centre_mm[0] - 0.12 * long_axis_mm, self.centre_mm[1]
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        bx, by = cos * (x - cx) + sin * (y - cy), -sin * (x - cx) + cos * (y - cy)
        semi = (self.semi_mm[0] - 0.1 * long_axis_mm, self.semi_mm[1])
        skin = ellipse_mm(bx, by, semi)
        around = np.arctan2(by / semi[1], bx / semi[0])
        out, ribcage = self._chest_wall(-skin, around, same)
        lungs = self._lungs(rng)
        dome = self.diaphragm_mm + 0.28 * long_axis_mm - self.dome_mm * ((x - 10) / 90) ** 2
        below = dome - y
        _paint(lungs, coverage(-below, pixel), self._abdomen(x, below, same))
        spine = (self.spine_mm[0] - 0.2 * long_axis_mm, self.spine_mm[1])
        for dx, dy, radius, tissue in (
            (14, -10, 34, "muscle"),
            (0, 0, 21, "marrow"),
            (19, -11, 9, "fluid"),
            (-28, -4, 13, "fat"),
            (-28, -4, 11.5, "blood"),
        ):
            near = np.hypot(x - spine[0] - dx, y - spine[1] - dy) - radius
            _paint(lungs, coverage(near, pixel), self.signals[tissue])
        _paint(out, coverage(ribcage + skin, pixel), lungs)
        return np.asarray(out * coverage(skin, pixel))


class _Polar(NamedTuple):
    """Pixels of one slice around the LV axis: offsets, radius, angle, outline share ``[n]``."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    outline: np.ndarray

    @classmethod
    def around(cls, x: np.ndarray, y: np.ndarray, shape: HeartShape) -> _Polar:
        angle = np.arctan2(y, x)
        return cls(x, y, np.hypot(x, y), angle, shape.outline(angle))


class _Planes(NamedTuple):
    """The planes of one slice that cut the ventricles at one phase, all ``[m, 1]`` float32.

    Equal-area radii of epi- and endocardium and the RV's greatest depth in mm, 0 where there is
    none; ``lv_depth`` and ``rv_depth`` 0 at the valve plane, 1 at the apex, negative above.
    """

    w: np.ndarray
    epi: np.ndarray
    endo: np.ndarray
    rv: np.ndarray
    lv_depth: np.ndarray
    rv_depth: np.ndarray

    @classmethod
    def cut(cls, motion: HeartMotion, planes: np.ndarray, t: int) -> _Planes:
        w = planes[:, None].astype(np.float32)
        below = w - motion.base_mm[t]
        lv_depth = below / motion.endo_length_mm[t]
        rv_depth = (w - motion.rv_base_mm[t]) / motion.rv_length_mm[t]
        epi = motion.epi_mm[t] * ellipsoid_profile(below / motion.epi_length_mm[t])
        endo = motion.endo_mm[t] * ellipsoid_profile(lv_depth)
        rv = motion.rv_mm[t] * rv_profile(rv_depth)
        return cls(*(a.astype(np.float32) for a in (w, epi, endo, rv, lv_depth, rv_depth)))


class HeartPainter:
    """Paints the heart of one phantom over the body, at any phase; mm and radians."""

    def __init__(self, phantom: HeartPhantom, grid: CineGrid, sequence: Bssfp) -> None:
        self.phantom, self.shape = phantom, HeartShape(phantom)
        self.motion = HeartMotion(phantom, self.shape, grid.frames)
        self.signals = tissue_signals(sequence, phantom.seed)
        self.pixel_mm = math.sqrt(grid.row_spacing_mm * grid.column_spacing_mm)
        rng = np.random.default_rng([phantom.seed, 7])
        self.papillary_angles = (rng.uniform(0.3, 1.1), rng.uniform(-1.9, -1.1))
        self.papillary_span = (rng.uniform(0.22, 0.34), rng.uniform(0.66, 0.8))
        self.fat_mm = rng.uniform(0.5, 4.0)
        self.fat_phase = rng.uniform(0, 6.28)
        self.groove_mm = rng.uniform(2.0, 7.0)
        self.rv_blood = rng.uniform(0.8, 1.0)
        self.ridges = rng.uniform(0, 6.28, 6)
        # No heart muscle, cavity or fat lies farther from the long axis.
        self.reach_mm = float(self.motion.epi_mm.max() * 1.1 + self.motion.rv_mm.max() * 1.3) + 40

    def _atria(self, polar: _Polar, background: np.ndarray, t: int) -> np.ndarray:
        """Signal above the base ``[n]``: atria, aortic root, outflow tract and the fat between."""
        s, pixel = self.signals, self.pixel_mm
        epi = float(self.motion.epi_mm[t])
        septum = self.shape.septum_angle
        fill = 1 + 0.12 * float(self.motion.contraction[t])
        out = background.copy()
        _paint(out, coverage(polar.radius - 1.05 * epi * polar.outline, pixel), s["fat"])
        for angle, away, radius in (
            (septum + 2.4, 0.3 * epi, 0.66 * epi * fill),
            (septum + 0.35, 1.55 * epi, 0.8 * epi * fill),
            (septum - 0.95, 0.75 * epi, 14.0),
            (septum - 0.85, 1.5 * epi, 16.0),
        ):
            x, y = polar.x - away * math.cos(angle), polar.y - away * math.sin(angle)
            distance = np.hypot(x, y) - np.float32(radius)
            _paint(out, coverage(distance - 4, pixel) * 0.8, s["fat"])
            _paint(out, coverage(distance - 1.8, pixel), s["myocardium"])
            _paint(out, coverage(distance, pixel), s["blood"])
        return out

    def _walls_and_right_ventricle(
        self, polar: _Polar, planes: _Planes, background: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Signal ``[m, n]`` with a solid LV, and the shares of the LV and of the RV cavity.

        Nested shells: LV in RV cavity in RV wall in fat. Each fills what the one inside leaves,
        so that shared borders are counted once.
        """
        s, pixel = self.signals, self.pixel_mm
        depth = np.clip(planes.rv_depth, 0, 1)
        crescent = self.shape.crescent(polar.angle, depth)
        # The outline is steep at the insertions: measure across it, not along the radius.
        turned = self.shape.crescent(polar.angle + np.float32(0.03), depth)
        slope = planes.rv * (turned - crescent) / (0.03 * np.maximum(polar.radius, 5.0))
        edge = planes.epi * polar.outline + planes.rv * crescent
        beyond = (polar.radius - edge) / np.sqrt(1 + slope * slope)
        wall = self.shape.rv_wall_mm * np.minimum(1, crescent * np.minimum(6, planes.rv))
        lobes = self.fat_mm * (1 + 0.8 * np.sin(2 * polar.angle + self.fat_phase))
        groove = self.groove_mm * crescent * np.exp(1 - crescent / 0.2) / 0.2 * (planes.rv > 3)
        present = (planes.epi > 1).astype(np.float32)
        left = coverage(polar.radius - planes.epi * polar.outline, pixel)
        both = np.maximum(left, coverage(beyond, pixel) * (planes.rv > 0))
        walled = np.maximum(both, coverage(beyond - wall, pixel) * present)
        wrapped = np.maximum(walled, coverage(beyond - wall - lobes - groove, pixel) * present)
        waved = (np.sin((9 + 5 * k) * polar.angle + p) for k, p in enumerate(self.ridges[:3]))
        rim = np.exp(-np.square((beyond + 3) / 4)) * np.clip(sum(waved) / 3, 0, 1)
        blood = s["blood"] * self.rv_blood
        darker = 0.9 * self.phantom.trabeculation * (s["myocardium"] - blood)
        signal = background * (1 - wrapped) + s["fat"] * (wrapped - walled)
        signal += s["myocardium"] * (walled - both + left) + (blood + darker * rim) * (both - left)
        return signal, left, both - left

    def _cavity(self, polar: _Polar, planes: _Planes, signal: np.ndarray, t: int) -> np.ndarray:
        """Hollow the LV of ``signal`` ``[m, n]``; return the share of the cavity ``[m, n]``.

        Inside are blood, trabeculae at the rim and papillary muscles.
        """
        s, pixel, motion, phantom = self.signals, self.pixel_mm, self.motion, self.phantom
        cavity = np.zeros_like(signal)
        largest = float(planes.endo.max())
        if largest <= 0:
            return cavity
        # A thicker septum: the cavity's axis moves to the lateral wall and no volume changes.
        wall = float((planes.epi - planes.endo).mean())
        moved = self.shape.septal_excess * wall * min(1.0, largest / 15)
        x = polar.x + np.float32(moved * math.cos(self.shape.septum_angle))
        y = polar.y + np.float32(moved * math.sin(self.shape.septum_angle))
        near = np.flatnonzero(np.hypot(x, y) < 1.07 * largest + pixel)
        inner = _Polar.around(x[near], y[near], self.shape)
        radii = np.where(planes.endo > 0, planes.endo, np.float32(_NOWHERE))
        cavity[:, near] = coverage(inner.radius - radii * inner.outline, pixel)
        ridge = np.zeros((len(planes.w), len(inner.angle)), np.float32)
        for order, phase in zip(_RIDGES, self.ridges, strict=True):
            ridge += np.sin(order * inner.angle + (planes.w / 9 + np.float32(phase)))
        # Trabeculae are denser towards the apex.
        dense = 0.3 * phantom.trabeculation * (0.3 + 0.7 * np.clip(planes.lv_depth, 0, 1))
        rim = planes.endo * (1 - dense * np.clip(0.3 + 0.28 * ridge, 0, None))
        out = np.full(rim.shape, s["myocardium"], np.float32)
        _paint(out, coverage(inner.radius - rim * inner.outline, pixel), s["blood"])
        low, high = self.papillary_span
        middle = (2 * planes.lv_depth - low - high) / (high - low)
        thick = np.sqrt(np.clip(1 - middle * middle, 0, None))
        # Two spindles share the mass, each of volume (2/3) π a b length.
        length = float((high - low) * motion.endo_length_mm[t])
        area = 1.5 * phantom.papillary_g / 2 * 1000 / MYOCARDIUM_G_PER_ML / (math.pi * length)
        a, b = (
            np.minimum(math.sqrt(size) * thick, 0.45 * planes.endo) + np.float32(1e-3)
            for size in (area * 1.4, area / 1.4)
        )
        for angle in self.papillary_angles:
            turned = angle + 0.15 * float(motion.contraction[t])
            cos, sin = math.cos(turned), math.sin(turned)
            along = inner.x * cos + inner.y * sin - (0.92 * planes.endo - a)
            share = coverage(ellipse_mm(along, inner.y * cos - inner.x * sin, (a, b)), pixel)
            _paint(out, share * (thick > 0), s["myocardium"])
        signal[:, near] += cavity[:, near] * (out - s["myocardium"])
        return cavity

    def _ventricles(
        self, polar: _Polar, background: np.ndarray, planes: _Planes, t: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Signal ``[n]`` and shares ``[4, n]`` summed over the planes."""
        motion, shape = self.motion, self.shape
        signal = background * np.float32(len(planes.w))
        shares = np.zeros((4, len(background)), np.float32)
        # The tricuspid plane may have come below the mitral one: the right atrium is cut too.
        above = planes.rv_depth < 0
        margin = shape.rv_wall_mm + 1.8 * self.fat_mm + self.groove_mm
        widest = float((1.07 * planes.epi + 1.31 * planes.rv).max())
        reach = 2 * self.reach_mm if above.any() else widest + margin + 2 * self.pixel_mm
        near = np.flatnonzero(polar.radius < reach)
        close = _Polar(*(values[near] for values in polar))
        out, left, right = self._walls_and_right_ventricle(close, planes, background[near])
        cavity = self._cavity(close, planes, out, t)
        if above.any():
            radius = float(0.55 * motion.rv_mm[t])
            away = float(motion.epi_mm[t]) + radius + 5
            angle = shape.septum_angle + 0.25
            x, y = close.x - away * math.cos(angle), close.y - away * math.sin(angle)
            ring = np.hypot(x, y) - radius
            for outside, tissue in ((5.0, "fat"), (1.8, "myocardium"), (0.0, "blood")):
                share = coverage(ring - outside, self.pixel_mm) * above
                _paint(out, share, self.signals[tissue])
        signal[near] = out.sum(axis=0)
        shares[LV_CAVITY, near] = cavity.sum(axis=0)
        shares[LV_MYOCARDIUM, near] = (left - cavity).sum(axis=0)
        shares[RV_CAVITY, near] = right.sum(axis=0)
        return signal, shares

    def paint_slice(
        self, pixels: tuple[np.ndarray, np.ndarray, np.ndarray], planes: np.ndarray, t: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Signal ``[n]`` and label ``[n]`` of one slice at phase ``t``.

        ``pixels`` are x, y and the body's signal, each ``[n]``; ``planes`` ``[m]`` are the
        sub-samples through the slice, averaged with equal weight (an ideal slice profile).
        The label is the structure that fills most of the voxel.
        """
        x, y, background = pixels
        motion, w = self.motion, float(planes.mean())
        # The LV axis in this plane at this phase.
        pull = float(motion.contraction[t])
        (sx, sy), (mx, my) = self.shape.axis_slope, self.shape.swing_mm
        cx, cy = sx * w + mx * pull, sy * w + my * pull
        polar = _Polar.around(x - np.float32(cx), y - np.float32(cy), self.shape)
        base = motion.base_mm[t]
        above, beyond = planes < base, planes >= base + motion.epi_length_mm[t]
        signal = np.float32(beyond.sum()) * background
        shares = np.zeros((4, len(x)), np.float32)
        if above.any():
            signal += np.float32(above.sum()) * self._atria(polar, background, t)
        cut = planes[~above & ~beyond]
        if len(cut):
            cut_planes = _Planes.cut(motion, cut, t)
            painted, shares = self._ventricles(polar, background, cut_planes, t)
            signal += painted
        shares[0] = len(planes) - shares[1:].sum(axis=0)
        return signal / np.float32(len(planes)), shares.argmax(axis=0).astype(np.uint8)


# ------------------------------------------------------------------ the cine


class PhantomTruth:
    """True volumes: curves ``[t]`` at the sampled phases and their extremes; frames from 0."""

    def __init__(self, lv_ml: np.ndarray, rv_ml: np.ndarray, lv_mass_g: float) -> None:
        self.lv_ml, self.rv_ml, self.lv_mass_g = lv_ml, rv_ml, lv_mass_g
        self.ed_frame, self.es_frame = int(lv_ml.argmax()), int(lv_ml.argmin())
        self.lv_edv_ml, self.lv_esv_ml = float(lv_ml.max()), float(lv_ml.min())
        self.rv_edv_ml, self.rv_esv_ml = float(rv_ml.max()), float(rv_ml.min())
        self.lv_ef_percent = 100 * (1 - self.lv_esv_ml / self.lv_edv_ml)
        self.rv_ef_percent = 100 * (1 - self.rv_esv_ml / self.rv_edv_ml)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomCine:
    """A rendered cine: ``pixels`` uint16 and ``labels`` uint8 ``[t, z, y, x]``, and the truth.

    ``frame_times_ms`` ``[t]`` from the R wave. Slices are in the grid's order.
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
    painter = HeartPainter(phantom, grid, sequence)
    motion = painter.motion
    shape = (grid.frames, grid.slices, grid.rows, grid.columns)
    pixels, labels = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    across, up = grid.in_plane_mm()
    reach = float(motion.epi_mm[0] + motion.rv_mm[0]) + 6, float(motion.epi_mm[0]) + 4
    body = Body((across, up), painter.pixel_mm, painter.signals, phantom.seed, reach)
    near = np.hypot(across, up) < painter.reach_mm
    offsets = (np.arange(_SUB_SAMPLES) + 0.5) / _SUB_SAMPLES - 0.5
    for z, w in enumerate(grid.long_axis_mm):
        rng = np.random.default_rng([phantom.seed, 8, z])
        resting = body.plane(float(w))
        mottle = 1 + 0.06 * waves((grid.rows, grid.columns), 20, rng)[0]
        pixels[:, z] = resting
        heart = (across[near], up[near], resting[near])
        planes = w + offsets * grid.thickness_mm
        for t in range(grid.frames):
            pixels[t, z][near], labels[t, z][near] = painter.paint_slice(heart, planes, t)
        pixels[:, z] *= mottle
    rng = np.random.default_rng([phantom.seed, 9])
    pixels *= coil_sensitivity(across, up, sequence.bias, rng)
    pixels = add_noise(pixels, sequence.snr, phantom.seed)
    return PhantomCine(
        pixels=np.clip(np.rint(pixels * _BLOOD), 0, 4095).astype(np.uint16),
        labels=labels,
        frame_times_ms=motion.phase * phantom.rr_ms,
        truth=PhantomTruth(motion.lv_ml, motion.rv_ml, phantom.lv_mass_g),
        phantom=phantom,
        grid=grid,
        sequence=sequence,
    )
