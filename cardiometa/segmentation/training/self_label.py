"""Labels that complete what readers left out: the network's own, where its views agree.

Of the LV-only slices of other scanners nobody drew myocardium and RV. Half-way through a run the
averaged network draws them, in several orientations; where the mean is sure the label is trained
on under full augmentation, elsewhere the pixel counts nowhere, and the reader's cavity always
stands (self-training with a noisy student: Xie 2020, doi:10.1109/CVPR42600.2020.01070).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .data import UNKNOWN, Pack

# The orientations that are averaged: as it is, mirrored, turned by 90 and 270 degrees.
_VIEWS = ((0, False), (0, True), (1, False), (3, False))


def normalise(images: np.ndarray) -> np.ndarray:
    """Clip a volume to its 1st and 99th percentile and z-score it."""
    low, high = (float(value) for value in np.percentile(images, (1, 99)))
    clipped = np.clip(images.astype(np.float32), low, max(high, low + 1e-6))
    scaled: np.ndarray = (clipped - float(clipped.mean())) / max(float(clipped.std()), 1e-6)
    return scaled.astype(np.float32)


def with_context(images: np.ndarray, context_slices: int) -> np.ndarray:
    """``[z, y, x]`` normalised as one volume, each slice between its neighbours."""
    x = normalise(images)
    if context_slices == 1:
        return x[:, None]
    return np.stack([np.r_[x[:1], x[:-1]], x, np.r_[x[1:], x[-1:]]], axis=1)


@torch.inference_mode()
def mean_probability(network: nn.Module, stack: np.ndarray) -> np.ndarray:
    """Class probabilities ``[z, 4, y, x]`` of a stack with context, averaged over the views."""
    device = next(network.parameters()).device
    x = torch.from_numpy(np.ascontiguousarray(stack)).to(device)
    total = torch.zeros((len(x), 4, *x.shape[2:]), device=device)
    for turns, mirror in _VIEWS:
        view = torch.rot90(x, turns, (2, 3))
        view = view.flip(3) if mirror else view
        seen = network(view.contiguous(memory_format=torch.channels_last)).softmax(dim=1)
        seen = seen.flip(3) if mirror else seen
        total += torch.rot90(seen, -turns, (2, 3))
    result: np.ndarray = (total / len(_VIEWS)).cpu().numpy()
    return result


def completed(probability: np.ndarray, labels: np.ndarray, least: float) -> np.ndarray:
    """Labels of slices whose reader drew the cavity alone, ``[z, y, x]`` with `UNKNOWN`.

    Outside the reader's cavity the other three classes share what is left; the largest stands
    where it has at least ``least`` of it.
    """
    others = probability[:, [0, 2, 3]]
    share = others / np.maximum(others.sum(axis=1, keepdims=True), 1e-6)
    names = np.array([0, 2, 3], dtype=np.uint8)[share.argmax(axis=1)]
    sure = share.max(axis=1) >= least
    return np.where(labels == 1, 1, np.where(sure, names, UNKNOWN)).astype(np.uint8)


def complete_rows(
    network: nn.Module, pack: Pack, rows: np.ndarray, context_slices: int, least: float
) -> np.ndarray:
    """Completed labels ``[len(rows), y, x]`` of whole volumes, in the order of ``rows``."""
    network.eval()
    result = np.empty((len(rows), *pack.labels.shape[1:]), dtype=np.uint8)
    for volume in np.unique(pack.volume[rows]):
        mine = np.flatnonzero(pack.volume[rows] == volume)
        own = rows[mine]
        probability = mean_probability(network, with_context(pack.images[own], context_slices))
        result[mine] = completed(probability, pack.labels[own], least)
    return result
