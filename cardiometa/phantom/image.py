"""Paint the beating heart over the resting body, through the thickness of each slice.

A beating heart with known volumes, imaged as a short-axis bSSFP cine.

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

from ..records import LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY
from .acquisition import Bssfp, CineGrid, add_noise, coil_sensitivity, tissue_signals, waves
from .body import BodyShape, BodyView, coverage, ellipse_mm, paint_body
from .heart import (
    MYOCARDIUM_G_PER_ML,
    HeartMotion,
    HeartPhantom,
    HeartShape,
    ellipsoid_profile,
    heart_motion,
    rv_profile,
)

_NOWHERE = -1000.0  # a radius that covers nothing
_RIDGES = (3, 8, 11, 16, 21, 29)  # waves around the rim: trabeculae of several widths


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """What the seed decides inside the heart and close around it; mm and radians."""

    papillary_angles: tuple[float, float]
    papillary_span: tuple[float, float]
    fat_mm: float
    fat_phase: float
    groove_mm: float
    rv_blood: float
    ridges: np.ndarray

    @classmethod
    def of(cls, phantom: HeartPhantom) -> Inside:
        """Draw one heart's details."""
        rng = np.random.default_rng([phantom.seed, 7])
        return cls(
            papillary_angles=(rng.uniform(0.3, 1.1), rng.uniform(-1.9, -1.1)),
            papillary_span=(rng.uniform(0.22, 0.34), rng.uniform(0.66, 0.8)),
            fat_mm=rng.uniform(0.5, 4.0),
            fat_phase=rng.uniform(0, 6.28),
            groove_mm=rng.uniform(2.0, 7.0),
            rv_blood=rng.uniform(0.8, 1.0),
            ridges=rng.uniform(0, 6.28, 6),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Painter:
    """All that stays the same from phase to phase for one heart and grid."""

    phantom: HeartPhantom
    shape: HeartShape
    inside: Inside
    motion: HeartMotion
    signals: dict[str, float]
    pixel_mm: float

    def centre_mm(self, w: float, t: int) -> tuple[float, float]:
        """The LV axis in the plane ``w`` at phase ``t``."""
        pull = float(self.motion.contraction[t])
        (sx, sy), (mx, my) = self.shape.axis_slope, self.shape.swing_mm
        return sx * w + mx * pull, sy * w + my * pull

    def reach_mm(self) -> float:
        """No heart muscle, cavity or fat lies farther from the long axis."""
        return float(self.motion.epi_mm.max() * 1.1 + self.motion.rv_mm.max() * 1.3) + 40


@dataclass(frozen=True, slots=True, kw_only=True)
class _Polar:
    """Pixels of one slice around the LV axis: offsets, radius, angle, outline share ``[n]``."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    outline: np.ndarray

    @classmethod
    def around(cls, x: np.ndarray, y: np.ndarray, shape: HeartShape) -> _Polar:
        angle = np.arctan2(y, x)
        return cls(x=x, y=y, radius=np.hypot(x, y), angle=angle, outline=shape.outline(angle))

    def only(self, chosen: np.ndarray) -> _Polar:
        """The chosen pixels."""
        return _Polar(
            x=self.x[chosen],
            y=self.y[chosen],
            radius=self.radius[chosen],
            angle=self.angle[chosen],
            outline=self.outline[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planes:
    """The planes of one slice that cut the ventricles at one phase, all ``[m, 1]`` float32.

    Equal-area radii of epi- and endocardium and the RV's greatest depth in mm, 0 where there is
    none; ``lv_depth`` and ``rv_depth`` 0 at the valve plane, 1 at the apex, negative above.
    """

    w: np.ndarray
    t: int
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
        arrays = (a.astype(np.float32) for a in (w, epi, endo, rv, lv_depth, rv_depth))
        names = ("w", "epi", "endo", "rv", "lv_depth", "rv_depth")
        return cls(t=t, **dict(zip(names, arrays, strict=True)))


def _paint(image: np.ndarray, share: np.ndarray, signal: np.ndarray | float) -> None:
    image += share * (signal - image)


def _atria(painter: Painter, polar: _Polar, background: np.ndarray, t: int) -> np.ndarray:
    """Signal above the base ``[n]``: atria, aortic root, outflow tract and the fat between."""
    s, pixel = painter.signals, painter.pixel_mm
    epi = float(painter.motion.epi_mm[t])
    septum = painter.shape.septum_angle
    fill = 1 + 0.12 * float(painter.motion.contraction[t])
    out = background.copy()
    _paint(out, coverage(polar.radius - 1.05 * epi * polar.outline, pixel), s["fat"])
    chambers = (
        (septum + 2.4, 0.3 * epi, 0.66 * epi * fill),
        (septum + 0.35, 1.55 * epi, 0.8 * epi * fill),
        (septum - 0.95, 0.75 * epi, 14.0),
        (septum - 0.85, 1.5 * epi, 16.0),
    )
    for angle, away, radius in chambers:
        x, y = polar.x - away * math.cos(angle), polar.y - away * math.sin(angle)
        distance = np.hypot(x, y) - np.float32(radius)
        _paint(out, coverage(distance - 4, pixel) * 0.8, s["fat"])
        _paint(out, coverage(distance - 1.8, pixel), s["myocardium"])
        _paint(out, coverage(distance, pixel), s["blood"])
    return out


def _walls_and_right_ventricle(
    painter: Painter, polar: _Polar, planes: _Planes, background: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signal ``[m, n]`` with a solid LV, and the shares of the LV and of the RV cavity.

    Shells that hold each other: LV in RV cavity in RV wall in fat. Each fills what the one inside
    leaves, so that shared borders are counted once.
    """
    s, pixel, inside = painter.signals, painter.pixel_mm, painter.inside
    depth = np.clip(planes.rv_depth, 0, 1)
    crescent = painter.shape.crescent(polar.angle, depth)
    # The outline is steep at the insertions: measure across it, not along the radius.
    turned = painter.shape.crescent(polar.angle + np.float32(0.03), depth)
    slope = planes.rv * (turned - crescent) / (0.03 * np.maximum(polar.radius, 5.0))
    edge = planes.epi * polar.outline + planes.rv * crescent
    beyond = (polar.radius - edge) / np.sqrt(1 + slope * slope)
    wall = painter.shape.rv_wall_mm * np.minimum(1, crescent * np.minimum(6, planes.rv))
    lobes = inside.fat_mm * (1 + 0.8 * np.sin(2 * polar.angle + inside.fat_phase))
    groove = inside.groove_mm * crescent * np.exp(1 - crescent / 0.2) / 0.2 * (planes.rv > 3)
    present = (planes.epi > 1).astype(np.float32)
    left = coverage(polar.radius - planes.epi * polar.outline, pixel)
    both = np.maximum(left, coverage(beyond, pixel) * (planes.rv > 0))
    walled = np.maximum(both, coverage(beyond - wall, pixel) * present)
    wrapped = np.maximum(walled, coverage(beyond - wall - lobes - groove, pixel) * present)
    ridge = sum(np.sin((9 + 5 * k) * polar.angle + p) for k, p in enumerate(inside.ridges[:3])) / 3
    rim = np.exp(-np.square((beyond + 3) / 4)) * np.clip(ridge, 0, 1)
    blood = s["blood"] * inside.rv_blood
    darker = 0.9 * painter.phantom.trabeculation * (s["myocardium"] - blood)
    signal = background * (1 - wrapped) + s["fat"] * (wrapped - walled)
    signal += s["myocardium"] * (walled - both + left) + (blood + darker * rim) * (both - left)
    return signal, left, both - left


def _right_atrium(painter: Painter, polar: _Polar, planes: _Planes, out: np.ndarray) -> None:
    """Paint the right atrium where the tricuspid plane has come below the mitral one."""
    above = planes.rv_depth < 0
    if not above.any():
        return
    motion, t = painter.motion, planes.t
    radius = float(0.55 * motion.rv_mm[t])
    away = float(motion.epi_mm[t]) + radius + 5
    angle = painter.shape.septum_angle + 0.25
    ring = np.hypot(polar.x - away * math.cos(angle), polar.y - away * math.sin(angle)) - radius
    for margin, tissue in ((5.0, "fat"), (1.8, "myocardium"), (0.0, "blood")):
        share = coverage(ring - margin, painter.pixel_mm) * above
        _paint(out, share, painter.signals[tissue])


def _cavity_inside(painter: Painter, polar: _Polar, planes: _Planes) -> np.ndarray:
    """Signal inside the LV cavity ``[m, n]``: blood, trabeculae at the rim, papillary muscles."""
    s, pixel, inside = painter.signals, painter.pixel_mm, painter.inside
    motion, phantom, t = painter.motion, painter.phantom, planes.t
    ridge = np.zeros((len(planes.w), len(polar.angle)), np.float32)
    for order, phase in zip(_RIDGES, inside.ridges, strict=True):
        ridge += np.sin(order * polar.angle + (planes.w / 9 + np.float32(phase)))
    # Trabeculae are denser towards the apex.
    dense = 0.3 * phantom.trabeculation * (0.3 + 0.7 * np.clip(planes.lv_depth, 0, 1))
    rim = planes.endo * (1 - dense * np.clip(0.3 + 0.28 * ridge, 0, None))
    out = np.full(rim.shape, s["myocardium"], np.float32)
    _paint(out, coverage(polar.radius - rim * polar.outline, pixel), s["blood"])
    low, high = inside.papillary_span
    middle = (2 * planes.lv_depth - low - high) / (high - low)
    thick = np.sqrt(np.clip(1 - middle * middle, 0, None))
    # Two spindles share the mass, each of volume (2/3) π a b length.
    length = float((high - low) * motion.endo_length_mm[t])
    area = 1.5 * phantom.papillary_g / 2 * 1000 / MYOCARDIUM_G_PER_ML / (math.pi * length)
    a = np.minimum(math.sqrt(area * 1.4) * thick, 0.45 * planes.endo) + np.float32(1e-3)
    b = np.minimum(math.sqrt(area / 1.4) * thick, 0.45 * planes.endo) + np.float32(1e-3)
    for angle in inside.papillary_angles:
        turned = angle + 0.15 * float(motion.contraction[t])
        cos, sin = math.cos(turned), math.sin(turned)
        along = polar.x * cos + polar.y * sin - (0.92 * planes.endo - a)
        share = coverage(ellipse_mm(along, polar.y * cos - polar.x * sin, (a, b)), pixel)
        _paint(out, share * (thick > 0), s["myocardium"])
    return out


def _cavity(painter: Painter, polar: _Polar, planes: _Planes, signal: np.ndarray) -> np.ndarray:
    """Hollow the LV of ``signal`` ``[m, n]``; return the share of the cavity ``[m, n]``."""
    shape, pixel = painter.shape, painter.pixel_mm
    share = np.zeros_like(signal)
    largest = float(planes.endo.max())
    if largest <= 0:
        return share
    # A thicker septum: the cavity's axis moves to the lateral wall and no volume changes.
    wall = float((planes.epi - planes.endo).mean())
    moved = shape.septal_excess * wall * min(1.0, largest / 15)
    x = polar.x + np.float32(moved * math.cos(shape.septum_angle))
    y = polar.y + np.float32(moved * math.sin(shape.septum_angle))
    near = np.flatnonzero(np.hypot(x, y) < 1.07 * largest + pixel)
    inner = _Polar.around(x[near], y[near], shape)
    radii = np.where(planes.endo > 0, planes.endo, np.float32(_NOWHERE))
    share[:, near] = coverage(inner.radius - radii * inner.outline, pixel)
    hollow = _cavity_inside(painter, inner, planes) - painter.signals["myocardium"]
    signal[:, near] += share[:, near] * hollow
    return share


def _ventricles(
    painter: Painter, polar: _Polar, background: np.ndarray, planes: _Planes
) -> tuple[np.ndarray, np.ndarray]:
    """Signal ``[n]`` and shares ``[4, n]`` summed over the planes."""
    signal = background * np.float32(len(planes.w))
    shares = np.zeros((4, len(background)), np.float32)
    widest = 1.07 * planes.epi + 1.31 * planes.rv
    margin = painter.shape.rv_wall_mm + 1.8 * painter.inside.fat_mm + painter.inside.groove_mm
    reach = float(widest.max()) + margin + 2 * painter.pixel_mm
    if (planes.rv_depth < 0).any():
        reach = 2 * painter.reach_mm()
    near = np.flatnonzero(polar.radius < reach)
    close = polar.only(near)
    out, left, right = _walls_and_right_ventricle(painter, close, planes, background[near])
    cavity = _cavity(painter, close, planes, out)
    _right_atrium(painter, close, planes, out)
    signal[near] = out.sum(axis=0)
    shares[LV_CAVITY, near] = cavity.sum(axis=0)
    shares[LV_MYOCARDIUM, near] = (left - cavity).sum(axis=0)
    shares[RV_CAVITY, near] = right.sum(axis=0)
    return signal, shares


def paint_slice(
    painter: Painter, pixels: tuple[np.ndarray, np.ndarray, np.ndarray], planes: np.ndarray, t: int
) -> tuple[np.ndarray, np.ndarray]:
    """Signal ``[n]`` and label ``[n]`` of one slice at phase ``t``.

    ``pixels`` holds x, y and the body's signal, each ``[n]``; ``planes`` ``[m]`` are the
    sub-samples through the slice, averaged with equal weight (an ideal slice profile).
    The label is the structure that fills most of the voxel.
    """
    x, y, background = pixels
    motion = painter.motion
    cx, cy = painter.centre_mm(float(planes.mean()), t)
    polar = _Polar.around(x - np.float32(cx), y - np.float32(cy), painter.shape)
    base = motion.base_mm[t]
    above, beyond = planes < base, planes >= base + motion.epi_length_mm[t]
    signal = np.float32(beyond.sum()) * background
    shares = np.zeros((4, len(x)), np.float32)
    if above.any():
        signal += np.float32(above.sum()) * _atria(painter, polar, background, t)
    cut = planes[~above & ~beyond]
    if len(cut):
        painted, shares = _ventricles(painter, polar, background, _Planes.cut(motion, cut, t))
        signal += painted
    shares[0] = len(planes) - shares[1:].sum(axis=0)
    return signal / np.float32(len(planes)), shares.argmax(axis=0).astype(np.uint8)


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
