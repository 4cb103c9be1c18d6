"""Paint the beating heart over the resting body, through the thickness of each slice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..records import LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY
from .phantom_body import coverage, ellipse_mm
from .phantom_heart import (
    HeartMotion,
    HeartPhantom,
    HeartShape,
    ellipsoid_profile,
    rv_profile,
)

_NOWHERE = -1000.0  # a radius that covers nothing


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
        swing = max(abs(v) for v in (*self.shape.swing_mm, *self.shape.axis_slope)) * 3 + 12
        return float(self.motion.epi_mm.max() * 1.1 + self.motion.rv_mm.max() * 1.3 + swing + 20)


def _paint(image: np.ndarray, share: np.ndarray, signal: np.ndarray | float) -> None:
    image += share * (signal - image)


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
        outline = shape.outline(angle).astype(np.float32)
        return cls(x=x, y=y, radius=np.hypot(x, y), angle=angle, outline=outline)


def _atria(painter: Painter, polar: _Polar, background: np.ndarray, t: int) -> np.ndarray:
    """Signal above the base: left and right atrium, aortic root, outflow tract, fat between."""
    s, pixel = painter.signals, painter.pixel_mm
    epi = float(painter.motion.epi_mm[t])
    septum = painter.shape.septum_angle
    fill = 1 + 0.12 * float(painter.motion.contraction[t])
    out = background.copy()
    near = polar.radius - 1.05 * epi * polar.outline
    _paint(out, coverage(near, pixel), s["fat"])
    chambers = (
        (septum + 2.4, 0.3 * epi, 0.66 * epi * fill),
        (septum + 0.35, 1.55 * epi, 0.8 * epi * fill),
        (septum - 0.95, 0.75 * epi, 14.0),
        (septum - 0.85, 1.5 * epi, 16.0),
    )
    for angle, away, radius in chambers:
        distance = np.hypot(
            polar.x - away * math.cos(angle), polar.y - away * math.sin(angle)
        ) - np.float32(radius)
        _paint(out, coverage(distance - 4, pixel) * 0.8, s["fat"])
        _paint(out, coverage(distance - 1.8, pixel), s["myocardium"])
        _paint(out, coverage(distance, pixel), s["blood"])
    return out


def _right_ventricle(
    painter: Painter, polar: _Polar, out: np.ndarray, planes: np.ndarray, t: int
) -> np.ndarray:
    """Paint the RV with its wall and fat over ``out`` ``[m, n]``; return its coverage."""
    s, pixel, motion, inside = painter.signals, painter.pixel_mm, painter.motion, painter.inside
    epi = motion.epi_mm[t] * ellipsoid_profile(
        (planes - motion.base_mm[t]) / motion.epi_length_mm[t]
    )
    depth = (planes - motion.rv_base_mm[t]) / motion.rv_length_mm[t]
    reach = motion.rv_mm[t] * rv_profile(depth)
    crescent = painter.shape.crescent(polar.angle[None, :], np.clip(depth, 0, 1)[:, None])
    edge = epi[:, None] * polar.outline + reach[:, None] * crescent
    edge = edge.astype(np.float32)
    # The outline is steep at the insertions: measure across it, not along the radius.
    turned = painter.shape.crescent(polar.angle[None, :] + 0.03, np.clip(depth, 0, 1)[:, None])
    slope = reach[:, None] * (turned - crescent) / 0.03 / np.maximum(polar.radius, 5.0)
    across = 1 / np.sqrt(1 + slope.astype(np.float32) ** 2)
    beyond = (polar.radius - edge) * across
    walled = np.minimum(1, 6 * crescent * np.minimum(1, reach / 6)[:, None]).astype(np.float32)
    wall = np.float32(painter.shape.rv_wall_mm) * walled
    lobes = 1 + 0.8 * np.sin(2 * polar.angle + inside.fat_phase)
    groove = inside.groove_mm * crescent * np.exp(1 - crescent / 0.2) / 0.2 * (reach > 3)[:, None]
    fat = inside.fat_mm * lobes + groove
    present = (epi > 1)[:, None].astype(np.float32)
    _paint(out, coverage(beyond - wall - fat.astype(np.float32), pixel) * present, s["fat"])
    _paint(out, coverage(beyond - wall, pixel) * present, s["myocardium"])
    rv = coverage(beyond, pixel) * (reach > 0)[:, None]
    ridge = sum(np.sin((9 + 5 * k) * polar.angle + p) for k, p in enumerate(inside.ridges[:3])) / 3
    rim = np.exp(-np.square((beyond + 3) / 4)) * np.clip(ridge, 0, 1)
    blood = s["blood"] * inside.rv_blood
    blood = blood + (0.9 * painter.phantom.trabeculation * (s["myocardium"] - blood)) * rim
    _paint(out, rv, blood)
    # Above the tricuspid plane lies the right atrium: blood behind a wall and groove fat.
    atrium = ((planes >= motion.base_mm[t]) & (depth < 0))[:, None]
    if atrium.any():
        round_mm = np.float32(0.55 * motion.rv_mm[t])
        away = float(motion.epi_mm[t]) + round_mm + 5
        angle = painter.shape.septum_angle + 0.25
        ring = np.hypot(polar.x - away * math.cos(angle), polar.y - away * math.sin(angle))
        for margin, tissue in ((5.0, "fat"), (1.8, "myocardium"), (0.0, "blood")):
            _paint(out, coverage(ring - round_mm - margin, pixel)[None, :] * atrium, s[tissue])
    return rv


def _cavity_inside(
    painter: Painter, polar: _Polar, planes: np.ndarray, radii: np.ndarray, t: int
) -> np.ndarray:
    """Signal inside the LV cavity ``[m, n]``: blood, trabeculae at the rim, papillary muscles."""
    s, pixel, inside = painter.signals, painter.pixel_mm, painter.inside
    motion, phantom = painter.motion, painter.phantom
    ridge = sum(
        np.sin((7 + 4 * k) * polar.angle[None, :] + p + planes[:, None] / 9)
        for k, p in enumerate(inside.ridges)
    ) * np.float32(1 / 3)
    depth = (planes - motion.base_mm[t]) / motion.endo_length_mm[t]
    # Trabeculae are denser towards the apex and crowd together as the cavity empties.
    dense = phantom.trabeculation * (0.3 + 0.7 * np.clip(depth, 0, 1)) * 0.3
    rim = radii[:, None] * (1 - dense[:, None] * np.clip(0.3 + 0.7 * ridge, 0, None))
    out = np.full(rim.shape, s["myocardium"], np.float32)
    _paint(
        out, coverage((polar.radius - rim * polar.outline).astype(np.float32), pixel), s["blood"]
    )
    low, high = inside.papillary_span
    thick = np.sqrt(np.clip(1 - ((2 * depth - low - high) / (high - low)) ** 2, 0, None))
    length = (high - low) * motion.endo_length_mm[t]
    # Two spindles of the given mass: volume of one is (2/3) π a b length.
    area = phantom.papillary_g / 2 * 1000 / 1.05 * 1.5 / (math.pi * length)
    cap = 0.45 * radii
    for angle in inside.papillary_angles:
        turned = angle + 0.15 * float(motion.contraction[t])
        a = np.minimum(math.sqrt(area * 1.4) * thick, cap)[:, None] + 1e-3
        b = np.minimum(math.sqrt(area / 1.4) * thick, cap)[:, None] + 1e-3
        away = 0.92 * radii[:, None] - a
        dx = polar.x - away * math.cos(turned)
        dy = polar.y - away * math.sin(turned)
        u = dx * math.cos(turned) + dy * math.sin(turned)
        v = dy * math.cos(turned) - dx * math.sin(turned)
        share = coverage(ellipse_mm(u, v, (a, b)), pixel) * (thick > 0)[:, None]
        _paint(out, share, s["myocardium"])
    return out


def paint_slice(
    painter: Painter, pixels: tuple[np.ndarray, np.ndarray, np.ndarray], planes: np.ndarray, t: int
) -> tuple[np.ndarray, np.ndarray]:
    """Signal ``[n]`` and label ``[n]`` of one slice at phase ``t``.

    ``pixels`` holds x, y and the body's signal, each ``[n]``; ``planes`` ``[m]`` are the
    sub-samples through the slice, averaged with equal weight (an ideal slice profile).
    The label is the structure that covers most of the pixel's volume.
    """
    x, y, background = pixels
    motion, shape = painter.motion, painter.shape
    middle = float(planes.mean())
    cx, cy = painter.centre_mm(middle, t)
    polar = _Polar.around(x - np.float32(cx), y - np.float32(cy), shape)
    base = motion.base_mm[t]
    signal = np.zeros_like(background)
    shares = np.zeros((4, len(x)), np.float32)
    apex = base + motion.epi_length_mm[t]
    above = int((planes < base).sum())
    beyond = int((planes >= apex).sum())
    if above:
        signal += above * _atria(painter, polar, background, t)
    if beyond:
        signal += beyond * background
    planes = planes[(planes >= base) & (planes < apex)]
    if len(planes):
        out = np.repeat(background[None, :], len(planes), axis=0)
        rv = _right_ventricle(painter, polar, out, planes, t)
        epi, endo = _outlines(motion, planes, t)
        pixel = painter.pixel_mm
        muscle = coverage((polar.radius - epi * polar.outline).astype(np.float32), pixel)
        _paint(out, muscle, painter.signals["myocardium"])
        # A thicker septum: the cavity's axis moves to the lateral wall, no volume changes.
        moved = shape.septal_excess * float((epi - endo).mean()) * min(1.0, float(endo.max()) / 15)
        if len(planes) and endo.max() > 0:
            inner = _Polar.around(
                polar.x + np.float32(moved * math.cos(shape.septum_angle)),
                polar.y + np.float32(moved * math.sin(shape.septum_angle)),
                shape,
            )
            radii = np.where(endo[:, 0] > 0, endo[:, 0], _NOWHERE)
            cavity = coverage(
                (inner.radius - radii[:, None] * inner.outline).astype(np.float32), pixel
            )
            _paint(out, cavity, _cavity_inside(painter, inner, planes, endo[:, 0], t))
            shares[LV_CAVITY] = cavity.sum(axis=0)
        signal += out.sum(axis=0)
        shares[LV_MYOCARDIUM] = muscle.sum(axis=0) - shares[LV_CAVITY]
        shares[RV_CAVITY] = (rv * (1 - muscle)).sum(axis=0)
    count = above + beyond + len(planes)
    shares[0] = count - shares[1:].sum(axis=0)
    return signal / count, shares.argmax(axis=0).astype(np.uint8)


def _outlines(motion: HeartMotion, planes: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Equal-area radii of epicardium and endocardium in each plane ``[m, 1]``."""
    from_base = planes - motion.base_mm[t]
    epi = motion.epi_mm[t] * ellipsoid_profile(from_base / motion.epi_length_mm[t])
    endo = motion.endo_mm[t] * ellipsoid_profile(from_base / motion.endo_length_mm[t])
    return epi[:, None], endo[:, None]
