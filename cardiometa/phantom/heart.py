"""The beating heart of the phantom: parameters, motion, and its true volumes in closed form.

Heart coordinates in mm: x lateral, y anterior, w along the long axis from the mitral plane at end
diastole (w = 0) to the apex; x × y = w is right-handed, as in a body. In each plane the heart is
star-shaped around the LV axis, so every area is an integral over the angle and every volume one
over w: the truth needs no voxels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from ..errors import InputError

MYOCARDIUM_G_PER_ML = 1.05
_BULGE = 0.25  # widest plane of the LV, as a share of its length below the base
_ANGLES = np.linspace(-math.pi, math.pi, 721)[:-1]
_PLANES = 401
# Parameter, least, largest: what the shapes stay anatomical for.
_BOUNDS = {
    "lv_edv_ml": (40.0, 500.0),
    "lv_ef_percent": (5.0, 85.0),
    "lv_mass_g": (30.0, 450.0),
    "rv_edv_ml": (40.0, 500.0),
    "rv_ef_percent": (5.0, 85.0),
    "heart_rate_bpm": (30.0, 180.0),
    "lv_length_mm": (50.0, 140.0),
    "base_descent_mm": (0.0, 25.0),
    "rv_base_descent_mm": (0.0, 35.0),
    "trabeculation": (0.0, 1.0),
    "papillary_g": (0.0, 20.0),
    "es_fraction": (0.2, 0.6),
    "seed": (0, 2**32 - 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartPhantom:
    """A heart by the numbers a reader would report; ``seed`` varies all that they leave open.

    ``HeartPhantom(lv_edv_ml=180, lv_ef_percent=35, lv_mass_g=140, seed=7)``

    ``lv_length_mm`` is the cavity from base to apex at end diastole (None: by the cube root of
    the volume); ``base_descent_mm`` how far the mitral plane moves to the apex in systole, the
    tricuspid plane by ``rv_base_descent_mm``. The base is a plane, so summing slices rounds it to
    full slices unless both are multiples of the slice distance (the defaults, for 10 mm).
    Papillary muscles (``papillary_g``) and trabeculae (0 to 1) lie inside the cavity and count as
    cavity. Raises InputError for a heart that cannot be built.
    """

    lv_edv_ml: float = 150.0
    lv_ef_percent: float = 60.0
    lv_mass_g: float = 110.0
    rv_edv_ml: float = 160.0
    rv_ef_percent: float = 55.0
    heart_rate_bpm: float = 65.0
    lv_length_mm: float | None = None
    base_descent_mm: float = 10.0
    rv_base_descent_mm: float = 10.0
    trabeculation: float = 0.5
    papillary_g: float = 5.0
    es_fraction: float = 0.36
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that every parameter lies where the shapes stay anatomical."""
        wrong = []
        for item in fields(self):
            low, high = _BOUNDS.get(item.name, (-math.inf, math.inf))
            value = getattr(self, item.name)
            if value is not None and not low <= value <= high:
                wrong.append(f"{item.name} is {value:g}, not {low:g} to {high:g}")
        if wrong:
            raise InputError("This heart cannot be built: " + "; ".join(wrong) + ".")

    @property
    def rr_ms(self) -> float:
        """Length of one heartbeat."""
        return 60000.0 / self.heart_rate_bpm

    @property
    def length_mm(self) -> float:
        """LV cavity from base to apex at end diastole."""
        if self.lv_length_mm is not None:
            return self.lv_length_mm
        return 88.0 * math.pow(self.lv_edv_ml / 150.0, 1 / 3)


class HeartShape:
    """What the seed decides: angles in radians from lateral towards anterior, lengths in mm."""

    def __init__(self, phantom: HeartPhantom) -> None:
        rng = np.random.default_rng([phantom.seed, 1])
        self.septum_angle = math.pi + rng.uniform(-0.4, 0.4)
        self.ovality = rng.uniform(0.0, 0.06)
        self.ovality_angle = rng.uniform(0, math.pi)
        self.rv_half_angle = rng.uniform(1.3, 1.65)
        self.rv_power = rng.uniform(0.95, 1.3)
        self.rv_skew = rng.uniform(-0.3, 0.3)
        self.septal_excess = rng.uniform(-0.1, 0.25)
        self.apical_wall_mm = 3.0 + 0.02 * phantom.lv_mass_g
        self.axis_slope = (rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08))
        self.swing_mm = (rng.uniform(-2.0, 3.0), rng.uniform(-2.0, 2.0))
        self.rv_wall_mm = rng.uniform(2.5, 4.0)

    def outline(self, angle: np.ndarray) -> np.ndarray:
        """Radius of the LV outlines by angle, as a share of the equal-area circle's."""
        lobed = 1 + self.ovality * np.cos(2 * (angle - self.ovality_angle))
        return lobed / math.sqrt(1 + self.ovality**2 / 2)

    def crescent(self, angle: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Depth of the RV beyond the septum by angle, 0 to 1; ``depth`` 0 at base, 1 at apex."""
        half = (self.rv_half_angle * (1 - 0.35 * depth)).astype(angle.dtype)
        offset = (angle - self.septum_angle + math.pi) % (2 * math.pi) - math.pi
        share = offset / half
        inside = np.clip(1 - share * share, 0, None) ** self.rv_power
        return np.asarray(inside * (1 + self.rv_skew * share))


def ellipsoid_profile(depth: np.ndarray) -> np.ndarray:
    """R/R_max at ``depth`` (0 base, 1 apex) of an ellipsoid cut above its widest plane, else 0."""
    inside = 1 - ((depth - _BULGE) / (1 - _BULGE)) ** 2
    return np.where((depth >= 0) & (depth <= 1), np.sqrt(np.clip(inside, 0, None)), 0.0)


# The integral of `ellipsoid_profile` squared from 0 to 1.
_ELLIPSOID_SHARE = 1 - ((1 - _BULGE) ** 3 + _BULGE**3) / (3 * (1 - _BULGE) ** 2)


def rv_profile(depth: np.ndarray) -> np.ndarray:
    """Depth of the RV at ``depth`` along its length (0 tricuspid plane, 1 RV apex); 0 outside."""
    inside = np.clip(1 - np.clip(depth, 0, None) ** 2, 0, None) ** 0.8
    return np.where(depth >= 0, inside, 0.0)


def filled_fraction(phase: np.ndarray, es_fraction: float, early: float = 0.68) -> np.ndarray:
    """Share of the stroke volume in the ventricle at ``phase`` (0 to 1 of RR): 1 at ED, 0 at ES.

    Ejection, a short isovolumic pause, rapid filling (E, the share ``early`` of the stroke volume),
    diastasis, atrial kick (A).
    """

    def ramp(start: float, end: float) -> np.ndarray:
        x = np.clip((phase - start) / (end - start), 0, 1)
        return x * x * (3 - 2 * x)

    diastole = 1 - es_fraction
    wave = ramp(es_fraction + 0.03 * diastole, es_fraction + 0.45 * diastole)
    slow = np.clip((phase - es_fraction) / diastole, 0, 1)
    kick = ramp(es_fraction + 0.76 * diastole, 1.0)
    filling = early * wave + 0.08 * slow + (0.92 - early) * kick
    return np.where(phase <= es_fraction, 1 - ramp(0.0, es_fraction), filling)


class HeartMotion:
    """The heart at ``frames`` equal steps of the RR interval, all arrays ``[t]``, lengths in mm.

    ``endo_mm`` and ``epi_mm`` are the largest equal-area radii; ``rv_mm`` the depth of the RV at
    its base. ``lv_ml`` and ``rv_ml`` are the true volumes, ``contraction`` 0 at ED and 1 at ES.
    The myocardium keeps its volume; the apex stays in place and the base descends. End systole is
    set on the nearest frame, so that the sampled extremes are the volumes asked for.
    """

    def __init__(self, phantom: HeartPhantom, shape: HeartShape, frames: int) -> None:
        self.phase = np.arange(frames) / frames
        es_fraction = max(1, round(phantom.es_fraction * frames)) / frames if frames > 1 else 0.5
        self.contraction = 1 - filled_fraction(self.phase, es_fraction)
        self.lv_ml = phantom.lv_edv_ml * (1 - phantom.lv_ef_percent / 100 * self.contraction)
        self.rv_ml = phantom.rv_edv_ml * (1 - phantom.rv_ef_percent / 100 * self.contraction)
        self.base_mm = phantom.base_descent_mm * self.contraction
        self.rv_base_mm = np.maximum(self.base_mm, phantom.rv_base_descent_mm * self.contraction)
        wall = shape.apical_wall_mm * (1 + 0.4 * self.contraction)
        apex = phantom.length_mm + shape.apical_wall_mm
        self.endo_length_mm = apex - wall - self.base_mm
        self.epi_length_mm = apex - self.base_mm
        share = math.pi * _ELLIPSOID_SHARE
        muscle_ml = phantom.lv_mass_g / MYOCARDIUM_G_PER_ML
        self.endo_mm = np.sqrt(self.lv_ml * 1000 / (share * self.endo_length_mm))
        self.epi_mm = np.sqrt((self.lv_ml + muscle_ml) * 1000 / (share * self.epi_length_mm))
        self.rv_length_mm = 0.9 * phantom.length_mm - self.rv_base_mm
        # A plane's crescent is ½∫((R s + D f)² − (R s)²)dθ, D = D0 g(w): a quadratic in D0.
        depth = np.linspace(0, 1, _PLANES)
        crescent = shape.crescent(_ANGLES[None, :], depth[:, None])
        step = 2 * math.pi / len(_ANGLES)
        linear = (crescent * shape.outline(_ANGLES)).sum(axis=1) * step
        square = (crescent**2).sum(axis=1) * step
        g = rv_profile(depth)
        self.rv_mm = np.empty(frames)
        for t, start in enumerate(self.rv_base_mm):
            planes = np.linspace(start, start + self.rv_length_mm[t], _PLANES)
            depths = (planes - self.base_mm[t]) / self.epi_length_mm[t]
            radii = self.epi_mm[t] * ellipsoid_profile(depths)
            b = float(np.trapezoid(radii * g * linear, planes))
            a = float(np.trapezoid(g**2 * square, planes)) / 2
            root = math.sqrt(b * b + 4 * a * float(self.rv_ml[t]) * 1000)
            self.rv_mm[t] = (-b + root) / (2 * a)
