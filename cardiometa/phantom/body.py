"""The resting body around the phantom's heart: chest wall, lungs, diaphragm, liver, spine."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .acquisition import waves


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


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyShape:
    """What the seed decides about the body; mm and radians, heart coordinates."""

    semi_mm: tuple[float, float]
    centre_mm: tuple[float, float]
    turn: float
    fat_mm: float
    muscle_mm: float
    rib_phase: float
    diaphragm_mm: float
    dome_mm: float
    liver_end_mm: float
    stomach_mm: tuple[float, float, float, float]
    stomach_signal: float
    spine_mm: tuple[float, float]
    vessels: int

    @classmethod
    def of(cls, seed: int, septal_reach_mm: float, lateral_reach_mm: float) -> BodyShape:
        """Draw a chest that holds a heart of this reach from the LV axis (septal, lateral)."""
        rng = np.random.default_rng([seed, 4])
        fat = rng.uniform(5.0, 26.0)
        muscle = rng.uniform(9.0, 16.0)
        near = septal_reach_mm + fat + muscle + rng.uniform(0.0, 14.0)
        far = lateral_reach_mm + fat + muscle + rng.uniform(35.0, 95.0)
        return cls(
            semi_mm=((near + far) / 2, rng.uniform(140.0, 210.0)),
            centre_mm=((far - near) / 2, rng.uniform(-20.0, 40.0)),
            turn=rng.uniform(-0.5, 0.35),
            fat_mm=fat,
            muscle_mm=muscle,
            rib_phase=rng.uniform(0, 6.28),
            diaphragm_mm=-lateral_reach_mm - rng.uniform(-2.0, 10.0),
            dome_mm=rng.uniform(5.0, 30.0),
            liver_end_mm=rng.uniform(-25.0, 40.0),
            stomach_mm=(
                rng.uniform(35.0, 60.0),
                rng.uniform(-40.0, -25.0),
                rng.uniform(22.0, 38.0),
                rng.uniform(18.0, 30.0),
            ),
            stomach_signal=rng.choice([0.1, 0.35, 0.5, 0.9]),
            spine_mm=(rng.uniform(70.0, 95.0), rng.uniform(-55.0, -25.0)),
            vessels=int(rng.integers(25, 60)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyView:
    """Where the body is looked at: pixel coordinates ``[y, x]`` in mm and the pixel's size."""

    across_mm: np.ndarray
    up_mm: np.ndarray
    pixel_mm: float
    signals: dict[str, float]


def _over(image: np.ndarray, share: np.ndarray, signal: np.ndarray | float) -> None:
    """Paint ``signal`` over ``image`` where ``share`` covers it."""
    image += share * (signal - image)


def _abdomen(
    view: BodyView,
    x: np.ndarray,
    below: np.ndarray,
    shape: BodyShape,
    rng: np.random.Generator,
) -> np.ndarray:
    # ``below`` is the depth under the diaphragm.
    s, pixel = view.signals, view.pixel_mm
    size = (x.shape[0], x.shape[1])
    texture = waves(size, 14, rng, 2)
    out = np.full(x.shape, s["fat"] * 0.8, np.float32) * (1 + 0.25 * texture[0])
    bowel = coverage(10 - 14 * np.abs(texture[1]), pixel * 4)
    _over(out, bowel, s["muscle"])
    px, py, a, b = shape.stomach_mm
    inside = ellipse_mm(x - px, -below - py, (a, b))
    _over(out, coverage(inside - 4, pixel), s["muscle"])
    content = shape.stomach_signal * (1 + 0.4 * texture[1])
    _over(out, coverage(inside, pixel), content)
    spleen = ellipse_mm(x - px - 45, -below - py + 8, (24, 38))
    _over(out, coverage(spleen, pixel), s["spleen"] * (1 + 0.05 * texture[0]))
    edge = x - shape.liver_end_mm + 0.5 * below + 6 * waves(size, 2, rng)[0]
    liver = s["liver"] * (1 + 0.05 * texture[0])
    vessels = coverage(3.0 * np.abs(waves(size, 7, rng)[0] + 0.3) - 0.3, 0.6)
    _over(liver, vessels * 0.35, s["blood"])
    _over(out, coverage(edge, pixel), liver)
    _over(out, coverage(below - 3, pixel), s["muscle"])
    return np.asarray(out)


def _lungs(view: BodyView, shape: BodyShape, rng: np.random.Generator) -> np.ndarray:
    s = view.signals
    size = (view.across_mm.shape[0], view.across_mm.shape[1])
    out = s["lung"] * (1 + 0.3 * waves(size, 10, rng)[0])
    spread = rng.normal(0, 1, (shape.vessels, 2)) * (55, 55) + (20, 45)
    radii = rng.gamma(2.0, 0.55, shape.vessels)
    for (x, y), radius in zip(spread, radii, strict=True):
        near = np.hypot(view.across_mm - x, view.up_mm - y) - radius
        _over(out, coverage(near, view.pixel_mm), 0.7 * s["blood"])
    return np.asarray(out, np.float32)


def _chest_wall(
    view: BodyView,
    depth: np.ndarray,
    around: np.ndarray,
    shape: BodyShape,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    # ``depth`` below the skin, ``around`` the angle; returns signal and depth of the ribcage.
    s, pixel = view.signals, view.pixel_mm
    size = (depth.shape[0], depth.shape[1])
    texture = waves(size, 9, rng, 2)
    phases = rng.uniform(0, 6.28, 3)
    lobes = sum(np.sin((k + 1) * around + phases[k]) / (k + 1) for k in range(3))
    fat = np.clip(shape.fat_mm * (1 + 0.35 * lobes), 3.0, None)
    out = s["fat"] * (1 + 0.06 * texture[0])
    _over(out, coverage(depth - 1.5, pixel), 0.5 * s["muscle"])
    _over(out, coverage(fat - depth, pixel), s["muscle"] * (1 + 0.1 * texture[1]))
    streaks = coverage(0.5 - texture[1], 0.5)
    _over(out, streaks * coverage(fat + 2 - depth, pixel), 0.7 * s["fat"])
    middle = fat + 0.62 * shape.muscle_mm
    rib = np.hypot((depth - middle) / 4.5, 2.6 * np.sin(9 * around + shape.rib_phase)) - 1
    _over(out, coverage(3 * rib - 1.5, pixel), 0.1)
    _over(out, coverage(3 * rib, pixel), s["marrow"] * 1.1)
    return out, fat + shape.muscle_mm


def paint_body(view: BodyView, long_axis_mm: float, shape: BodyShape, seed: int) -> np.ndarray:
    """Signal of the body without the heart ``[y, x]`` in one plane, float32, 0 in air."""
    s, pixel = view.signals, view.pixel_mm
    size = (view.across_mm.shape[0], view.across_mm.shape[1])
    # Coarse shapes follow the body from slice to slice; texture is drawn anew.
    same = np.random.default_rng([seed, 5])
    rng = np.random.default_rng([seed, 6, round(long_axis_mm * 10) + 100_000])
    bend = np.zeros((2, *size), np.float32)
    for _ in range(5):
        k = same.normal(0, 1 / 45.0, 2)
        phase, size_mm = same.uniform(0, 6.28), same.normal(0, 2.2, 2)
        wave = np.sin(view.across_mm * k[0] + view.up_mm * k[1] + phase + long_axis_mm / 50)
        bend += wave * size_mm[:, None, None].astype(np.float32)
    x, y = view.across_mm + bend[0], view.up_mm + bend[1]
    # Towards the apex the anterior wall comes nearer and the abdomen higher.
    cx, cy = shape.centre_mm[0] - 0.12 * long_axis_mm, shape.centre_mm[1]
    cos, sin = math.cos(shape.turn), math.sin(shape.turn)
    bx, by = cos * (x - cx) + sin * (y - cy), -sin * (x - cx) + cos * (y - cy)
    semi = (shape.semi_mm[0] - 0.1 * long_axis_mm, shape.semi_mm[1])
    skin = ellipse_mm(bx, by, semi)
    around = np.arctan2(by / semi[1], bx / semi[0])
    out, ribcage = _chest_wall(view, -skin, around, shape, same)
    lungs = _lungs(view, shape, rng)
    dome = shape.diaphragm_mm + 0.28 * long_axis_mm - shape.dome_mm * ((x - 10) / 90) ** 2
    below = dome - y
    _over(lungs, coverage(-below, pixel), _abdomen(view, x, below, shape, same))
    spine = (shape.spine_mm[0] - 0.2 * long_axis_mm, shape.spine_mm[1])
    for dx, dy, radius, tissue in (
        (14, -10, 34, "muscle"),
        (0, 0, 21, "marrow"),
        (19, -11, 9, "fluid"),
        (-28, -4, 13, "fat"),
        (-28, -4, 11.5, "blood"),
    ):
        near = np.hypot(x - spine[0] - dx, y - spine[1] - dy) - radius
        _over(lungs, coverage(near, pixel), s[tissue])
    _over(out, coverage(ribcage + skin, pixel), lungs)
    return np.asarray(out * coverage(skin, pixel))
