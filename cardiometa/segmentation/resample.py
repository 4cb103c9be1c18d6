"""Intensity scaling as in training, and in-plane resampling by separable kernels.

Each output sample is a weighted sum of a few input samples: exact, deterministic, the same bytes on
any thread count. The kernel is a triangle as wide as the coarser of the two grids: linear
interpolation when sampling up, area-like averaging (no aliasing) when sampling down. Outside the
image the value is 0 (pixels) or background (labels).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Clip to the 1st and 99th percentile of a full stack and z-score it (as in training)."""

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
        rows, columns = (
            np.flatnonzero(np.isin(np.arange(length) % 4, (0, 3))) for length in images.shape[-2:]
        )
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Input ``indices`` ``[out, k]`` and ``weights`` ``[out, k]`` of one axis."""

    indices: np.ndarray
    weights: np.ndarray


def interpolation_weights(positions: np.ndarray, length: int, step: float) -> Kernel:
    """Kernel that sample an axis of ``length`` at ``positions`` (in input samples).

    ``step`` is the distance between outputs in input samples: above 1 the triangle is widened.
    """
    width = max(step, 1.0)
    first = np.ceil(positions - width).astype(np.int64)
    count = int(np.ceil(2 * width)) + 1
    indices = first[:, None] + np.arange(count)
    weights = np.maximum(0.0, 1.0 - np.abs(indices - positions[:, None]) / width)
    weights /= weights.sum(axis=1, keepdims=True)
    weights[(indices < 0) | (indices >= length)] = 0.0
    return Kernel(indices=np.clip(indices, 0, length - 1), weights=weights.astype(np.float32))


def _apply(images: np.ndarray, kernel: Kernel, axis: int) -> np.ndarray:
    moved = kernel.weights.T
    shape = [1] * images.ndim
    shape[axis] = -1
    total: np.ndarray | None = None
    for number in range(kernel.indices.shape[1]):
        weight = moved[number]
        if not weight.any():
            continue
        part = np.take(images, kernel.indices[:, number], axis=axis)
        part *= weight.reshape(shape)
        total = part if total is None else np.add(total, part, out=total)
    if total is None:
        size = list(images.shape)
        size[axis] = len(kernel.indices)
        return np.zeros(size, dtype=np.float32)
    return total


def resample(images: np.ndarray, rows: Kernel, columns: Kernel) -> np.ndarray:
    """Float32 images ``[..., y, x]`` sampled along both axes."""
    return _apply(_apply(images, rows, images.ndim - 2), columns, images.ndim - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A square of ``size`` samples of ``spacing_mm`` around a point of the source grid.

    ``centre`` is (row, column) in source pixels; ``source_spacing_mm`` (between rows, between
    columns).
    """

    centre: tuple[float, float]
    size: int
    spacing_mm: float
    source_spacing_mm: tuple[float, float]
    source_shape: tuple[int, int]

    def to_window(self) -> tuple[Kernel, Kernel]:
        """Kernels from the source grid to the window."""
        offsets = (np.arange(self.size) - (self.size - 1) / 2) * self.spacing_mm
        row, column = (
            interpolation_weights(c + offsets / s, n, self.spacing_mm / s)
            for c, s, n in zip(self.centre, self.source_spacing_mm, self.source_shape, strict=True)
        )
        return row, column

    def source_box(self) -> tuple[slice, slice]:
        """The part of the source grid whose pixel centres lie in the window."""
        reach = (self.size - 1) / 2 * self.spacing_mm
        edges = []
        for c, s, n in zip(self.centre, self.source_spacing_mm, self.source_shape, strict=True):
            low, high = int(np.ceil(c - reach / s)), int(np.floor(c + reach / s)) + 1
            edges.append(slice(min(max(low, 0), n), max(min(high, n), 0)))
        return edges[0], edges[1]

    def to_source(self) -> tuple[Kernel, Kernel]:
        """Kernels from the window back to the pixels of `source_box`."""
        kernels = []
        for box, c, s in zip(self.source_box(), self.centre, self.source_spacing_mm, strict=True):
            positions = (np.arange(box.start, box.stop) - c) * s / self.spacing_mm
            positions += (self.size - 1) / 2
            kernels.append(interpolation_weights(positions, self.size, s / self.spacing_mm))
        return kernels[0], kernels[1]
