"""Ways in which an image of a heart is worse than those a model learned from, each by degrees.

Each takes a heart (an ED/ES cine with its true labels) and a severity and gives a heart: pixels
change, and the truth with them where the geometry does. Everything is a function of the heart and
the severity; what is random comes from a generator seeded by both.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from cardiometa.records import CineStack


@dataclass(frozen=True, slots=True, kw_only=True)
class Heart:
    """An ED/ES cine, its true labels ``[2, z, y, x]`` (ours), and the EF and EDV they give."""

    name: str
    group: str
    cine: CineStack
    truth: np.ndarray
    ef_percent: float
    edv_ml: float


Change = Callable[[Heart, float, np.random.Generator], Heart]


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """``title`` and ``unit`` stand on the figure; ``severities`` from mild to bad."""

    title: str
    unit: str
    severities: tuple[float, ...]
    change: Change


def perturbed(heart: Heart, name: str, severity: float) -> Heart:
    """The heart made worse; the same arguments give the same bytes."""
    seed = zlib.crc32(f"{heart.name}|{name}|{severity:g}".encode())
    return PERTURBATIONS[name].change(heart, severity, np.random.default_rng(seed))


def _with_pixels(heart: Heart, pixels: np.ndarray) -> Heart:
    return replace(heart, cine=replace(heart.cine, pixels=pixels.astype(np.float32)))


def _with_grid(heart: Heart, act: Callable[[np.ndarray], np.ndarray]) -> Heart:
    """The same change of rows and columns for pixels and truth."""
    pixels, truth = (np.ascontiguousarray(act(a)) for a in (heart.cine.pixels, heart.truth))
    return replace(heart, cine=replace(heart.cine, pixels=pixels), truth=truth)


# ------------------------------------------------------------------ signal


def noise(heart: Heart, snr: float, rng: np.random.Generator) -> Heart:
    """Rician noise; SNR is the blood's signal in the LV at ED over the deviation per channel."""
    pixels = heart.cine.pixels
    sigma = float(np.median(pixels[0][heart.truth[0] == 1])) / snr
    real, imaginary = rng.normal(0, sigma, (2, *pixels.shape))
    return _with_pixels(heart, np.hypot(pixels + real, imaginary))


def bias_field(heart: Heart, strength: float, rng: np.random.Generator) -> Heart:
    """A smooth coil sensitivity from exp(-strength) to exp(+strength) across the field of view."""
    height, width = heart.cine.pixels.shape[-2:]
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    field = along + 0.5 * rng.normal() * x * y + 0.5 * rng.normal() * (x**2 - 0.33)
    field = 2 * (field - field.min()) / np.ptp(field) - 1
    return _with_pixels(heart, heart.cine.pixels * np.exp(strength * field))


def low_resolution(heart: Heart, factor: float, _rng: np.random.Generator) -> Heart:
    """Only the inner 1/factor of k-space in both directions, zero-filled, as scanners do."""
    pixels = heart.cine.pixels
    k_space = np.fft.fftshift(np.fft.fft2(pixels), axes=(-2, -1))
    for axis in (-2, -1):
        n = pixels.shape[axis]
        distance = np.abs(np.arange(n) - n // 2)
        shape = [1] * pixels.ndim
        shape[axis] = n
        k_space = k_space * (distance <= n / (2 * factor)).reshape(shape)
    return _with_pixels(heart, np.abs(np.fft.ifft2(np.fft.ifftshift(k_space, axes=(-2, -1)))))


def ghosting(heart: Heart, share: float, _rng: np.random.Generator) -> Heart:
    """Ghosts a quarter of the field of view away along the rows, each of that share of signal."""
    pixels = heart.cine.pixels
    quarter = pixels.shape[-2] // 4
    ghosts = np.roll(pixels, quarter, axis=-2) + np.roll(pixels, -quarter, axis=-2)
    return _with_pixels(heart, pixels + share * ghosts)


def motion_blur(heart: Heart, reach_mm: float, _rng: np.random.Generator) -> Heart:
    """The mean of five images moved along the rows by up to ± reach (breathing in the slice)."""
    pixels = heart.cine.pixels
    total = np.zeros_like(pixels)
    for step in np.linspace(-1, 1, 5) * reach_mm / heart.cine.spacing_mm[0]:
        whole = int(np.floor(step))
        part = np.float32(step - whole)
        total += (1 - part) * np.roll(pixels, whole, axis=-2)
        total += part * np.roll(pixels, whole + 1, axis=-2)
    return _with_pixels(heart, total / 5)


def contrast_inverted(heart: Heart, share: float, _rng: np.random.Generator) -> Heart:
    """From the image (0) over none left (0.5) to its negative (1)."""
    pixels = heart.cine.pixels
    return _with_pixels(heart, (1 - share) * pixels + share * (pixels.max() - pixels))


def gamma(heart: Heart, exponent: float, _rng: np.random.Generator) -> Heart:
    """Intensities of the stack, scaled to 0 to 1, to that power."""
    pixels = heart.cine.pixels - heart.cine.pixels.min()
    return _with_pixels(heart, 1000 * (pixels / pixels.max()) ** exponent)


def intensity_scale(heart: Heart, factor: float, _rng: np.random.Generator) -> Heart:
    """All intensities times a factor."""
    return _with_pixels(heart, heart.cine.pixels * np.float32(factor))


def intensity_offset(heart: Heart, offset: float, _rng: np.random.Generator) -> Heart:
    """A constant added to all intensities, background too."""
    return _with_pixels(heart, heart.cine.pixels + np.float32(offset))


def all_at_once(heart: Heart, degree: float, rng: np.random.Generator) -> Heart:
    """A bad scan: bias field, motion, ghosts, low resolution and noise together."""
    heart = bias_field(heart, 0.4 * degree, rng)
    heart = motion_blur(heart, 2.5 * degree, rng)
    heart = ghosting(heart, 0.1 * degree, rng)
    heart = low_resolution(heart, 1 + 0.5 * degree, rng)
    return noise(heart, 12 / degree, rng)


# ------------------------------------------------------------------ field of view

DIHEDRAL: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
    ("plain", lambda a: a),
    ("turned 90°", lambda a: np.rot90(a, 1, (-2, -1))),
    ("turned 180°", lambda a: np.rot90(a, 2, (-2, -1))),
    ("turned 270°", lambda a: np.rot90(a, 3, (-2, -1))),
    ("rows reversed", lambda a: a[..., ::-1, :]),
    ("columns reversed", lambda a: a[..., ::-1]),
    ("transposed", lambda a: np.swapaxes(a, -2, -1)),
    ("transposed, turned", lambda a: np.rot90(np.swapaxes(a, -2, -1), 2, (-2, -1))),
)
_BACK = (0, 3, 2, 1, 4, 5, 6, 7)
_TURNS_AXES = (1, 3, 6, 7)


def orientation(heart: Heart, number: float, _rng: np.random.Generator) -> Heart:
    """One of the eight ways to lay rows and columns."""
    changed = _with_grid(heart, DIHEDRAL[int(number)][1])
    if int(number) not in _TURNS_AXES:
        return changed
    rows_mm, columns_mm = heart.cine.spacing_mm
    return replace(changed, cine=replace(changed.cine, spacing_mm=(columns_mm, rows_mm)))


def turned_back(labels: np.ndarray, number: float) -> np.ndarray:
    """Labels of a turned heart on the grid of the plain one."""
    return DIHEDRAL[_BACK[int(number)]][1](labels)


def _box(heart: Heart) -> list[tuple[int, int]]:
    """First and last row, and column, of the true heart."""
    there = heart.truth.any(axis=(0, 1))
    found = []
    for axis in (1, 0):
        index = np.flatnonzero(there.any(axis=axis))
        found.append((int(index[0]), int(index[-1])))
    return found


def cropped(heart: Heart, margin_mm: float, _rng: np.random.Generator) -> Heart:
    """The field of view cropped to the heart and a margin around it."""
    keep = []
    for (first, last), mm, n in zip(
        _box(heart), heart.cine.spacing_mm, heart.truth.shape[-2:], strict=True
    ):
        margin = round(margin_mm / mm)
        keep.append(slice(max(first - margin, 0), min(last + margin + 1, n)))
    return _with_grid(heart, lambda a: a[..., keep[0], keep[1]])


def cut(heart: Heart, share: float, rng: np.random.Generator) -> Heart:
    """The field of view ends inside the heart: one side loses that share of the heart's width."""
    side = int(rng.integers(4))
    first, last = _box(heart)[side // 2]
    lost = round(share * (last - first + 1))
    keep = slice(first + lost, None) if side % 2 else slice(0, last + 1 - lost)
    where = (slice(None),) * 2 + ((keep, slice(None)) if side < 2 else (slice(None), keep))
    return _with_grid(heart, lambda a: a[where])


def _padded(heart: Heart, factor: float, mode: str) -> Heart:
    """Rows and columns widened around the middle; the truth is background there."""
    pads = [(0, 0), (0, 0)]
    for n in heart.truth.shape[-2:]:
        extra = min(round((factor - 1) * n / 2), n - 1)
        pads.append((extra, extra))
    pixels = np.pad(heart.cine.pixels, pads, mode=mode)
    truth = np.pad(heart.truth, pads)
    return replace(heart, cine=replace(heart.cine, pixels=pixels), truth=truth)


def widened_dark(heart: Heart, factor: float, _rng: np.random.Generator) -> Heart:
    """The field of view widened by zeros."""
    return _padded(heart, factor, "constant")


def widened_mirrored(heart: Heart, factor: float, _rng: np.random.Generator) -> Heart:
    """The field of view widened by its own mirror image, with parts of mirrored hearts in it."""
    return _padded(heart, factor, "reflect")


# ------------------------------------------------------------------ slices


def thick_slices(heart: Heart, share: float, _rng: np.random.Generator) -> Heart:
    """Each slice holds that share of each of its neighbours' signal (partial volume)."""
    pixels = heart.cine.pixels
    below = np.concatenate([pixels[:, :1], pixels[:, :-1]], axis=1)
    above = np.concatenate([pixels[:, 1:], pixels[:, -1:]], axis=1)
    return _with_pixels(heart, (1 - 2 * share) * pixels + share * (below + above))


def slices_moved(heart: Heart, reach_mm: float, rng: np.random.Generator) -> Heart:
    """Each slice moved by that distance in a direction of its own (other breath-holds)."""
    pixels, truth = heart.cine.pixels.copy(), heart.truth.copy()
    for z in range(pixels.shape[1]):
        angle = rng.uniform(0, 2 * np.pi)
        along = np.array([np.sin(angle), np.cos(angle)]) * reach_mm
        steps = tuple(round(s / mm) for s, mm in zip(along, heart.cine.spacing_mm, strict=True))
        pixels[:, z] = np.roll(pixels[:, z], steps, axis=(-2, -1))
        truth[:, z] = np.roll(truth[:, z], steps, axis=(-2, -1))
    return replace(heart, cine=replace(heart.cine, pixels=pixels), truth=truth)


def _without_slices(heart: Heart, lost: np.ndarray) -> Heart:
    """Slices taken out; each of the others stands for half the two gaps beside it."""
    cine = heart.cine
    kept = np.setdiff1d(np.arange(cine.pixels.shape[1]), lost)
    places = kept * cine.slice_distance_mm
    gaps = np.diff(places)
    edges = np.r_[gaps[0], gaps, gaps[-1]]
    changed = replace(
        cine, pixels=cine.pixels[:, kept], slice_weights_mm=(edges[:-1] + edges[1:]) / 2
    )
    return replace(heart, cine=changed, truth=heart.truth[:, kept])


def middle_slices_lost(heart: Heart, count: float, _rng: np.random.Generator) -> Heart:
    """That many slices missing in the middle of the true LV."""
    there = np.flatnonzero((heart.truth == 1).any(axis=(0, 2, 3)))
    first = int(there[len(there) // 2]) - int(count) // 2
    return _without_slices(heart, np.arange(first, first + int(count)))


def end_slices_lost(heart: Heart, count: float, _rng: np.random.Generator) -> Heart:
    """The stack begins that many slices inside the true LV (first end of the stack)."""
    there = np.flatnonzero((heart.truth == 1).any(axis=(0, 2, 3)))
    return _without_slices(heart, np.arange(int(there[0]) + int(count)))


PERTURBATIONS: Mapping[str, Perturbation] = {
    "noise": Perturbation(
        title="Rician noise", unit="SNR", severities=(10, 5, 2.5, 1.5), change=noise
    ),
    "bias-field": Perturbation(
        title="Bias field", unit="log strength", severities=(0.8, 1.4, 2.2), change=bias_field
    ),
    "low-resolution": Perturbation(
        title="Lower resolution", unit="factor", severities=(2.5, 4, 6), change=low_resolution
    ),
    "ghosting": Perturbation(
        title="Ghosting", unit="share", severities=(0.25, 0.5, 0.8), change=ghosting
    ),
    "motion-blur": Perturbation(
        title="Motion blur", unit="± mm", severities=(6, 12, 20), change=motion_blur
    ),
    "all-at-once": Perturbation(
        title="All at once", unit="degree", severities=(1, 2, 3, 4), change=all_at_once
    ),
    "contrast": Perturbation(
        title="Contrast inverted", unit="share", severities=(0.45, 0.6, 1),
        change=contrast_inverted,
    ),
    "gamma": Perturbation(
        title="Gamma", unit="exponent", severities=(0.25, 0.5, 2, 4), change=gamma
    ),
    "scale": Perturbation(
        title="Intensity scale", unit="factor", severities=(0.1, 1000), change=intensity_scale
    ),
    "offset": Perturbation(
        title="Intensity offset", unit="added", severities=(500,), change=intensity_offset
    ),
    "orientation": Perturbation(
        title="Rotations, flips",
        unit="number",
        severities=(1, 2, 3, 4, 5, 6, 7),
        change=orientation,
    ),
    "cropped": Perturbation(
        title="View cropped", unit="margin mm", severities=(15, 5, 0), change=cropped
    ),
    "cut": Perturbation(
        title="Heart cut", unit="share", severities=(0.15, 0.3, 0.5), change=cut
    ),
    "widened-dark": Perturbation(
        title="Widened, zeros", unit="factor", severities=(1.5, 3), change=widened_dark
    ),
    "widened-mirrored": Perturbation(
        title="Widened, mirrored", unit="factor", severities=(1.5, 2.2), change=widened_mirrored
    ),
    "thick-slices": Perturbation(
        title="Thick slices", unit="neighbours' share", severities=(0.15, 0.25, 0.33),
        change=thick_slices,
    ),
    "slices-moved": Perturbation(
        title="Slices moved", unit="mm", severities=(5, 10, 20), change=slices_moved
    ),
    "middle-lost": Perturbation(
        title="Middle slices lost", unit="slices", severities=(1, 2, 3), change=middle_slices_lost
    ),
    "end-lost": Perturbation(
        title="End slices lost", unit="slices", severities=(1, 2, 3), change=end_slices_lost
    ),
}  # fmt: skip
