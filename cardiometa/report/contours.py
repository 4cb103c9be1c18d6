"""Smooth, anti-aliased outlines of masks, and the resampling they and the pictures share.

A mask is smoothed by the taps of a cubic B-spline and enlarged by a cubic, so that its half-height
line is smooth; a pixel's share of the line is its distance from that line, taken from the value
and the slope. Pillow enlarges, not a matrix product: BLAS threads would fight with the network's.
"""

from __future__ import annotations

import numpy as np
from PIL import Image


def resampled(stack: np.ndarray, height: int, width: int) -> np.ndarray:
    """``[n, y, x]`` to float32 ``[n, height, width]`` by cubic convolution (Keys 1981, a = -1/2).

    Where an axis shrinks the kernel is widened: fine detail is averaged, not skipped.
    """
    result = np.empty((len(stack), height, width), dtype=np.float32)
    for index, picture in enumerate(np.ascontiguousarray(stack, dtype=np.float32)):
        image = Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)
        result[index] = np.asarray(image)
    return result


def outlines(masks: np.ndarray, height: int, width: int, thickness: float = 1.4) -> np.ndarray:
    """Opacity 0 to 1, float32 ``[n, height, width]``, of the outlines of boolean ``[n, y, x]``.

    Every mask that is not empty gets an outline: one too small to reach half height after
    smoothing is outlined at three fifths of its own height.
    """
    opacity = np.zeros((len(masks), height, width), dtype=np.float32)
    filled = np.flatnonzero(masks.any(axis=(1, 2)))
    if not len(filled):
        return opacity
    field = resampled(_smoothed(masks[filled]), height, width)
    level = np.minimum(0.5, 0.6 * field.max(axis=(1, 2)))[:, None, None]
    slope = np.hypot(_slope(field, 1), _slope(field, 2))
    distance = np.abs(field - level) / np.maximum(slope, 1e-6)
    opacity[filled] = np.clip(thickness / 2 + 0.5 - distance, 0, 1)
    return opacity


def _smoothed(masks: np.ndarray) -> np.ndarray:
    """The masks after the taps 1/6, 4/6, 1/6 along both axes; the edge is repeated outwards."""
    field: np.ndarray = np.pad(masks.astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    field = (field[:, :-2] + 4 * field[:, 1:-1] + field[:, 2:]) / 6
    return np.asarray((field[:, :, :-2] + 4 * field[:, :, 1:-1] + field[:, :, 2:]) / 6)


def _slope(field: np.ndarray, axis: int) -> np.ndarray:
    """Central differences, one-sided at the edges; 0 along an axis of one pixel."""
    if field.shape[axis] < 2:
        return np.zeros_like(field)
    return np.asarray(np.gradient(field, axis=axis))
