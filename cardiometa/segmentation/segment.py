"""One cine through the network: find the heart, crop, segment, back to the source grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from ..flags import raised
from ..records import CineStack, Flag, LabelStack, Predictor
from .base import drop_slices_above_base
from .cleaning import clean_labels
from .doubt import scan_doubt
from .inference import SliceReader, SliceReading, SliceTask, matrix, neighbours, summary_of
from .model import ModelCard
from .quality import (
    SHIFT,
    extreme_frames,
    label_features,
    named,
    predict_views,
    scan_quality,
    shift_overlap,
)
from .resample import Scaling, Window, resample

# The full field of view is searched in at most this many slices of two phases: one batch.
_SEARCH_SLICES = 4
_SEARCH_LIMIT = 320
_MARGIN_MM = 15.0
_LARGEST_CROP = 192
_SLICES_AT_A_TIME = 64


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

    Outside the source the value is then that of its darkest tissue, whatever their offset.
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

    The network reads the full field of view in the middle slices of two phases; the largest
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
    searched = cine.pixels[np.ix_(chosen_t, needed)]
    images = _through(window, searched, searched.min())
    position = np.searchsorted(needed, chosen_z)
    around = neighbours(len(chosen_t), len(needed), predictor.context_slices)
    around = around.reshape(len(chosen_t), len(needed), -1)[:, position]
    scaled = Scaling.of(images).apply(images).reshape(-1, *images.shape[2:])
    probability = predictor.probabilities(scaled[around.reshape(-1, around.shape[-1])])
    heart = 1 - probability[:, 0]
    score = heart.mean(axis=0)
    regions, found = ndimage.label(score > 0.2)
    if not found:
        return None
    weights = ndimage.sum_labels(score, regions, np.arange(1, found + 1))
    best = regions == int(np.argmax(weights)) + 1
    # A region of less than 4 cm² is not a heart.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the heart lies in a cine and how its intensities are scaled, with flags.

    ``least`` is the cine's darkest value (see `_through`).
    """

    window: Window
    scaling: Scaling
    least: np.float32
    flags: tuple[Flag, ...] = ()


def _place(cine: CineStack, predictor: Predictor, card: ModelCard) -> tuple[_Place, np.ndarray]:
    """The heart's place, and the crops ``[t, z, s, s]`` of the cine."""
    height, width = cine.pixels.shape[2:]
    flags: tuple[Flag, ...] = ()
    found = find_heart(cine, predictor, card)
    if found is None:
        flags = (raised("heart-not-found"),)
        found = ((height - 1) / 2, (width - 1) / 2), 0.0
    centre, extent_mm = found
    wanted = -(-((extent_mm + 2 * _MARGIN_MM) / card.spacing_mm) // 32) * 32
    size = int(min(max(card.crop, wanted), max(card.crop, _LARGEST_CROP)))
    window = _window(cine, centre, size, card.spacing_mm)
    least = cine.pixels.min()
    images = _through(window, cine.pixels, least)
    return _Place(window=window, scaling=Scaling.of(images), least=least, flags=flags), images


def segment_cine(
    cine: CineStack, predictor: Predictor, card: ModelCard, model_sha256: str
) -> LabelStack:
    """Labels of every slice and phase of a cine, on its own grid, with their quality."""
    place, images = _place(cine, predictor, card)
    return _segmented(cine, images, place, predictor, (card, model_sha256))


def segment_ed_es(
    cine: CineStack,
    predictor: Predictor,
    card: ModelCard,
    model_sha256: str,
    choose: Callable[[np.ndarray], tuple[int, int]],
) -> tuple[CineStack, LabelStack]:
    """ED and ES of a cine alone, and their labels with their quality.

    ``choose`` picks the two phases from labels of all of them by one view of the network: a
    quarter of the work or less. Both are then read as `segment_cine` reads them, at the same
    place and scaling. A pair is segmented as it is.
    """
    place, images = _place(cine, predictor, card)
    if not cine.is_ed_es_pair:
        task = SliceTask(
            images=images, scaling=place.scaling, back=place.window.to_source(), views=1
        )
        coarse = _on_source(cine, place, read_slices(predictor, task))
        two = choose(_cleaned(coarse, cine)[1])
        cine, images = cine.ed_es_only(*two), images[list(two)]
    return cine, _segmented(cine, images, place, predictor, (card, model_sha256))


def _cleaned(
    labels: np.ndarray, cine: CineStack
) -> tuple[np.ndarray, np.ndarray, tuple[Flag, ...]]:
    """Labels of one heart, the same where it ends at its base, and what was removed."""
    heart, clean_flags = clean_labels(labels, cine.spacing_mm)
    cleaned, base_flags = drop_slices_above_base(heart)
    return heart, cleaned, (*clean_flags, *base_flags)


def _on_source(cine: CineStack, place: _Place, reading: SliceReading) -> np.ndarray:
    """Labels uint8 ``[t, z, y, x]`` of the full field of view."""
    labels = np.zeros(cine.pixels.shape, dtype=np.uint8)
    rows, columns = place.window.source_box()
    inside = labels[:, :, rows, columns]
    inside[:] = reading.labels.reshape(inside.shape)
    return labels


def _segmented(
    cine: CineStack,
    images: np.ndarray,
    place: _Place,
    predictor: Predictor,
    model: tuple[ModelCard, str],
) -> LabelStack:
    """The labels of crops ``images`` of a cine; ``model`` is the card and the file's hash."""
    card, model_sha256 = model
    task = SliceTask(images=images, scaling=place.scaling, back=place.window.to_source())
    reading = read_slices(predictor, task)
    labels = _on_source(cine, place, reading)
    heart, cleaned, flags = _cleaned(labels, cine)
    frames = extreme_frames(cleaned)
    shifted = _extra_view(cine, predictor, place, frames)
    phases = len(cine.pixels)
    # The reading's arrays as ``[t, z, …]``.
    on_crop, confidence, agreement, expectation, presence = (
        values.reshape(phases, -1, *values.shape[1:])
        for values in (
            *(reading.on_crop, reading.confidence, reading.agreement, reading.expectation),
            reading.presence,
        )
    )
    two = list(frames)
    features = []
    for t, moved in zip(frames, shifted.on_crop.reshape(2, *on_crop.shape[1:]), strict=True):
        known = confidence[t][np.isfinite(confidence[t])]
        features.append(
            {
                **named("view_dice", agreement[t]),
                **named("expected_dice", expectation[t]),
                **named("shift_dice", shift_overlap(on_crop[t], moved)),
                **label_features(labels[t], cleaned[t]),
                "border_confidence": float(known.mean()) if len(known) else 0.0,
            }
        )
    moved_areas = shifted.agreement.reshape(2, -1, *agreement.shape[2:])[..., 2:3]
    areas = np.concatenate([agreement[two][..., 2:], moved_areas], axis=3)
    return LabelStack(
        labels=cleaned,
        confidence=confidence,
        model_id=card.model_id,
        model_sha256=model_sha256,
        flags=(*place.flags, *flags),
        quality=scan_quality(card, frames, features),
        doubt=scan_doubt(
            cine, frames, (heart[two], cleaned[two]), (areas, presence[two]), card.spacing_mm
        ),
    )


def read_slices(predictor: Predictor, task: SliceTask) -> SliceReading:
    """The reading of every slice; a predictor of probabilities alone is called in parts."""
    if isinstance(predictor, SliceReader):
        return predictor.read(task)
    phases, slices, size = task.images.shape[:3]
    images = task.scaling.apply(task.images).reshape(-1, size, size)
    around = neighbours(phases, slices, predictor.context_slices)
    back = None
    if task.back is not None:
        rows, columns = (matrix(kernel, size) for kernel in task.back)
        back = (rows, columns)
    reading = SliceReading.empty(task)
    for first in range(0, len(around), _SLICES_AT_A_TIME):
        part = slice(first, min(first + _SLICES_AT_A_TIME, len(around)))
        probability, agreement = predict_views(predictor, images[around[part]], views=task.views)
        summary = summary_of(torch.from_numpy(probability), back)
        reading.fill(part, summary, torch.from_numpy(agreement))
    return reading


def _extra_view(
    cine: CineStack, predictor: Predictor, place: _Place, frames: tuple[int, int]
) -> SliceReading:
    """Two frames by one view of the crop moved by `SHIFT`."""
    window = place.window
    centre = (
        window.centre[0] + SHIFT[0] * window.spacing_mm / window.source_spacing_mm[0],
        window.centre[1] + SHIFT[1] * window.spacing_mm / window.source_spacing_mm[1],
    )
    moved = replace(window, centre=centre)
    crops = _through(moved, cine.pixels[list(frames)], place.least)
    return read_slices(predictor, SliceTask(images=crops, scaling=place.scaling, views=1))
