"""One cine through the network: find the heart, crop, segment, back to the source grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ..records import CineStack, Flag, LabelStack, Predictor
from .card import ModelCard
from .clean import clean_labels
from .quality import (
    SHIFT,
    ViewingPredictor,
    expectation_sums,
    extreme_frames,
    label_features,
    look,
    named,
    scan_quality,
    shift_overlap,
)
from .resample import Window, resample

# The whole field of view is looked at in at most this many slices of two phases: one batch.
_SEARCH_SLICES = 4
_SEARCH_LIMIT = 320
_MARGIN_MM = 15.0
_LARGEST_CROP = 192


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Clip to the 1st and 99th percentile of a whole stack and z-score it (as in training)."""

    low: float
    high: float
    mean: float
    deviation: float

    @classmethod
    def of(cls, images: np.ndarray) -> Scaling:
        """The scaling of a stack ``[..., y, x]``.

        Read from a quarter of the pixels: their error is far below the noise. Of four rows (and
        columns) the two outer ones are taken, so that a mirrored or turned image gives the same.
        """
        rows, columns = (_outer_of_four(length) for length in images.shape[-2:])
        sample = images[..., rows, :][..., columns]
        low, high = (float(v) for v in np.percentile(sample, (1, 99)))
        small = np.clip(sample, low, high)
        deviation = float(small.std(dtype=np.float64))
        return cls(
            low=low,
            high=high,
            mean=float(small.mean(dtype=np.float64)),
            deviation=deviation if deviation > 0 else 1.0,
        )

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Scaled float32 images; the input is left as it is."""
        scaled: np.ndarray = np.clip(images, self.low, self.high).astype(np.float32, copy=False)
        scaled -= np.float32(self.mean)
        scaled *= np.float32(1 / self.deviation)
        return scaled


def _outer_of_four(length: int) -> np.ndarray:
    return np.flatnonzero(np.isin(np.arange(length) % 4, (0, 3)))


def _with_context(stack: np.ndarray, context_slices: int) -> np.ndarray:
    """``[t, z, s, s]`` to ``[t·z, context, s, s]``: each slice between its neighbours."""
    if context_slices == 1:
        channels = stack[:, :, None]
    else:
        below = np.concatenate([stack[:, :1], stack[:, :-1]], axis=1)
        above = np.concatenate([stack[:, 1:], stack[:, -1:]], axis=1)
        channels = np.stack([below, stack, above], axis=2)
    return channels.reshape(-1, channels.shape[2], *stack.shape[2:])


def _window(cine: CineStack, centre: tuple[float, float], size: int, spacing: float) -> Window:
    height, width = cine.pixels.shape[2:]
    return Window(
        centre=centre,
        size=size,
        spacing_mm=spacing,
        source_spacing_mm=cine.spacing_mm,
        source_shape=(height, width),
    )


def _through(window: Window, pixels: np.ndarray, least: np.float32) -> np.ndarray:
    """Pixels ``[..., y, x]`` on the window's grid, counted from the cine's ``least`` value.

    Outside the source then lies its darkest tissue, whatever is added to all intensities.
    """
    rows, columns = window.to_window()
    images = resample(pixels, rows, columns)
    if least != 0:
        covered = np.outer(rows.weights.sum(axis=1), columns.weights.sum(axis=1))
        images -= least * covered.astype(np.float32)
    return images


def find_heart(
    cine: CineStack, predictor: Predictor, card: ModelCard
) -> tuple[tuple[float, float], float] | None:
    """Centre (row, column in source pixels) and extent in mm of the heart; None where unseen.

    The network reads the whole field of view in the middle slices of two phases; the largest
    connected region of what it takes for heart wins.
    """
    phases, slices, height, width = cine.pixels.shape
    chosen_t = np.unique([0, min(phases - 1, round(phases * 0.4))])
    low, high = slices * 0.15, (slices - 1) - slices * 0.15
    count = min(_SEARCH_SLICES, slices)
    chosen_z = np.unique(np.round(np.linspace(max(low, 0), max(high, 0), count)).astype(int))
    largest_mm = max(height * cine.spacing_mm[0], width * cine.spacing_mm[1])
    size = min(_SEARCH_LIMIT, -(-int(np.ceil(largest_mm / card.spacing_mm)) // 32) * 32)
    middle = ((height - 1) / 2, (width - 1) / 2)
    window = _window(cine, middle, max(size, card.crop), card.spacing_mm)
    # Neighbours are those of the source stack, so that the network sees what it knows.
    needed = np.unique(np.clip(chosen_z[:, None] + [-1, 0, 1], 0, slices - 1))
    looked_at = cine.pixels[np.ix_(chosen_t, needed)]
    images = _through(window, looked_at, looked_at.min())
    position = np.searchsorted(needed, chosen_z)
    all_rows = _with_context(Scaling.of(images).apply(images), predictor.context_slices)
    rows = all_rows.reshape(len(chosen_t), len(needed), *all_rows.shape[1:])[:, position]
    probability = predictor.probabilities(rows.reshape(-1, *all_rows.shape[1:]))
    heart = 1 - probability[:, 0]
    score = heart.mean(axis=0)
    regions, found = ndimage.label(score > 0.2)
    if not found:
        return None
    weights = ndimage.sum_labels(score, regions, np.arange(1, found + 1))
    best = regions == int(np.argmax(weights)) + 1
    # A region of less than 4 cm² is no heart.
    if best.sum() * card.spacing_mm**2 < 400:
        return None
    row, column = ndimage.center_of_mass(score * best)
    span = [np.ptp(np.flatnonzero(best.any(axis=axis))) for axis in (0, 1)]
    half = (window.size - 1) / 2
    centre = (
        middle[0] + (row - half) * card.spacing_mm / cine.spacing_mm[0],
        middle[1] + (column - half) * card.spacing_mm / cine.spacing_mm[1],
    )
    return centre, float(max(span)) * card.spacing_mm


def border_confidence(probability: np.ndarray) -> np.ndarray:
    """Mean largest probability ``[n]`` within two pixels of a predicted border; NaN without one."""
    labels = probability.argmax(axis=1)
    edge = np.zeros(labels.shape, dtype=bool)
    across = labels[:, :, 1:] != labels[:, :, :-1]
    down = labels[:, 1:] != labels[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    best = probability.max(axis=1)
    total, count = (best * edge).sum(axis=(1, 2)), edge.sum(axis=(1, 2))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _crop_size(card: ModelCard, extent_mm: float) -> int:
    wanted = (extent_mm + 2 * _MARGIN_MM) / card.spacing_mm
    return int(min(max(card.crop, -(-wanted // 32) * 32), max(card.crop, _LARGEST_CROP)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What the network said of every frame: source-grid ``labels``, and on the crop's grid labels.

    ``confidence`` ``[t, z]``; ``agreement`` and ``expectation`` ``[t, z, 3, 2]`` (see `quality`).
    """

    labels: np.ndarray
    on_crop: np.ndarray
    confidence: np.ndarray
    agreement: np.ndarray
    expectation: np.ndarray


def segment_cine(
    cine: CineStack, predictor: Predictor, card: ModelCard, model_sha256: str
) -> LabelStack:
    """Labels of every slice and phase of a cine, on its own grid, with their quality."""
    height, width = cine.pixels.shape[2:]
    flags: list[Flag] = []
    found = find_heart(cine, predictor, card)
    if found is None:
        flags.append(
            Flag(
                code="heart-not-found",
                level="review",
                sentence="The heart was not found in the field of view; its centre was used.",
            )
        )
        found = ((height - 1) / 2, (width - 1) / 2), 0.0
    centre, extent_mm = found
    window = _window(cine, centre, _crop_size(card, extent_mm), card.spacing_mm)
    images = _through(window, cine.pixels, cine.pixels.min())
    scaling = Scaling.of(images)
    reading = _read_frames(cine, predictor, scaling.apply(images), window)
    cleaned, clean_flags = clean_labels(reading.labels, cine.spacing_mm)
    frames = extreme_frames(cleaned)
    shifted = _further_look(cine, predictor, scaling, window, frames)
    features = [
        {
            **named("view_dice", reading.agreement[t]),
            **named("expected_dice", reading.expectation[t]),
            **named("shift_dice", shift_overlap(reading.on_crop[t], labels)),
            **label_features(reading.labels[t], cleaned[t]),
            "border_confidence": _mean_known(reading.confidence[t]),
        }
        for t, labels in zip(frames, shifted, strict=True)
    ]
    return LabelStack(
        labels=cleaned,
        confidence=reading.confidence,
        model_id=card.model_id,
        model_sha256=model_sha256,
        flags=(*flags, *clean_flags),
        quality=scan_quality(card, frames, features),
    )


def _read_frames(
    cine: CineStack, predictor: Predictor, crops: np.ndarray, window: Window
) -> _Reading:
    phases, slices = crops.shape[:2]
    box, back = window.source_box(), window.to_source()
    reading = _Reading(
        labels=np.zeros(cine.pixels.shape, dtype=np.uint8),
        on_crop=np.zeros(crops.shape, dtype=np.uint8),
        confidence=np.full((phases, slices), np.nan, dtype=np.float32),
        agreement=np.zeros((phases, slices, 3, 2), dtype=np.float32),
        expectation=np.zeros((phases, slices, 3, 2), dtype=np.float32),
    )
    # A few phases at a time keep the memory flat whatever the length of the cine.
    step = max(1, 64 // slices)
    for first in range(0, phases, step):
        part = slice(first, min(first + step, phases))
        rows = _with_context(crops[part], predictor.context_slices)
        probability, agreement = look(predictor, rows)
        reading.confidence[part] = border_confidence(probability).reshape(-1, slices)
        reading.agreement[part] = agreement.reshape(-1, slices, 3, 2)
        reading.expectation[part] = expectation_sums(probability).reshape(-1, slices, 3, 2)
        labels = probability.argmax(axis=1).astype(np.uint8)
        reading.on_crop[part] = labels.reshape(-1, slices, *labels.shape[1:])
        own = resample(probability, *back).argmax(axis=1).astype(np.uint8)
        reading.labels[part, :, box[0], box[1]] = own.reshape(-1, slices, *own.shape[1:])
    return reading


def _further_look(
    cine: CineStack,
    predictor: Predictor,
    scaling: Scaling,
    window: Window,
    frames: tuple[int, int],
) -> np.ndarray:
    """Labels ``[2, z, s, s]`` of two frames by one view of the crop moved by `SHIFT`."""
    centre = (
        window.centre[0] + SHIFT[0] * window.spacing_mm / window.source_spacing_mm[0],
        window.centre[1] + SHIFT[1] * window.spacing_mm / window.source_spacing_mm[1],
    )
    moved = replace(window, centre=centre)
    two = cine.pixels[list(frames)]
    crops = scaling.apply(_through(moved, two, cine.pixels.min()))
    rows = _with_context(crops, predictor.context_slices)
    if isinstance(predictor, ViewingPredictor):
        probability, _ = predictor.seen(rows, views=1)
    else:
        probability = predictor.probabilities(rows)
    labels: np.ndarray = probability.argmax(axis=1).reshape(crops.shape)
    return labels


def _mean_known(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0
