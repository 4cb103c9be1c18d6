"""What is kept of the network's probabilities, made where they are: on the device, batch by batch.

Probabilities are sixteen times as large as labels; they never leave a graphics card, and on CPUs
never pile up. Shapes: ``n`` slices, crops of ``s`` × ``s``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from .resample import Taps
from .scaling import Scaling


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceTask:
    """Crops to read: ``images`` float32 ``[t, z, s, s]`` as measured, their scaling, the way back.

    ``back``: taps of rows and columns from the crop to the pixels of the source that it covers;
    None where labels on the crop are enough. ``views``: mirrored views, 0 for the card's number.
    """

    images: np.ndarray
    scaling: Scaling
    back: tuple[Taps, Taps] | None = None
    views: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceReading:
    """What the network said of ``n = t · z`` slices.

    ``on_crop`` uint8 ``[n, s, s]`` and ``labels`` uint8 ``[n, rows, columns]`` (the source's; empty
    without a way back); ``confidence`` ``[n]`` (`border_confidence`); ``agreement`` and
    ``expectation`` ``[n, 3, 2]`` (see `quality`).
    """

    on_crop: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray
    agreement: np.ndarray
    expectation: np.ndarray

    @classmethod
    def empty(cls, task: SliceTask) -> SliceReading:
        """Arrays of the task's shapes, to be filled in parts."""
        phases, slices, size = task.images.shape[:3]
        n = phases * slices
        rows, columns = (len(t.indices) for t in task.back) if task.back else (0, 0)
        return cls(
            on_crop=np.empty((n, size, size), dtype=np.uint8),
            labels=np.empty((n, rows, columns), dtype=np.uint8),
            confidence=np.empty(n, dtype=np.float32),
            agreement=np.empty((n, 3, 2), dtype=np.float32),
            expectation=np.empty((n, 3, 2), dtype=np.float32),
        )

    def fill(self, part: slice, summary: tuple[torch.Tensor, ...], agreement: torch.Tensor) -> None:
        """Take over one batch: the tensors of `summary_of`, of which the first are real."""
        count = part.stop - part.start
        own = (self.on_crop, self.labels, self.confidence, self.expectation, self.agreement)
        for target, value in zip(own, (*summary, agreement), strict=True):
            target[part] = value[:count].cpu().numpy()


@runtime_checkable
class SliceReader(Protocol):
    """A predictor that reads whole crops itself (`predict.TorchPredictor.read`)."""

    def read(self, task: SliceTask) -> SliceReading:
        """The reading of every slice of the task."""


def matrix(taps: Taps, length: int) -> torch.Tensor:
    """The taps as a matrix float32 ``[out, length]``."""
    dense = np.zeros((len(taps.indices), length), dtype=np.float32)
    np.add.at(dense, (np.arange(len(dense))[:, None], taps.indices), taps.weights)
    return torch.from_numpy(dense)


def neighbours(phases: int, slices: int, context_slices: int) -> np.ndarray:
    """Indices ``[t·z, context]`` of each slice of ``[t·z]`` between its neighbours of one phase."""
    own = np.arange(slices)
    if context_slices == 1:
        places = own[:, None]
    else:
        places = np.stack([np.maximum(own - 1, 0), own, np.minimum(own + 1, slices - 1)], axis=1)
    first = np.arange(phases)[:, None, None] * slices
    return (first + places).reshape(-1, places.shape[1])


def scaled(images: torch.Tensor, scaling: Scaling) -> torch.Tensor:
    """`Scaling.apply` on the device; the input is left as it is."""
    result = images.clamp(scaling.low, scaling.high)
    return result.sub_(scaling.mean).mul_(1 / scaling.deviation)


def summary_of(
    probability: torch.Tensor, back: tuple[torch.Tensor, torch.Tensor] | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Labels on the crop and on the source, border confidence and expectation of a batch.

    ``probability`` float32 ``[n, 4, s, s]``; ``back`` matrices of rows and columns.
    """
    best, labels = probability.max(dim=1)
    if back is None:
        own = labels.new_empty((len(labels), 0, 0), dtype=torch.uint8)
    else:
        rows, columns = back
        # `max` finds the same index as `argmax`, in a tenth of its time along this axis.
        own = (rows @ probability @ columns.T).max(dim=1).indices.to(torch.uint8)
    on_crop = labels.to(torch.uint8)
    return on_crop, own, border_confidence(best, on_crop), expectation_sums(probability, on_crop)


def border_confidence(best: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean largest probability ``[n]`` within two pixels of a predicted border; NaN without one.

    ``best`` the largest probability and ``labels`` ``[n, s, s]``.
    """
    edge = torch.zeros_like(labels, dtype=torch.bool)
    across = labels[:, :, 1:] != labels[:, :, :-1]
    down = labels[:, 1:] != labels[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    # Where nothing is a border this is 0 / 0, a NaN.
    return (best * edge).sum(dim=(1, 2)) / edge.sum(dim=(1, 2))


def expectation_sums(probability: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sums ``[n, 3, 2]`` of the Dice that probabilities ``[n, 4, s, s]`` expect of their labels."""
    sums = []
    for label in (1, 2, 3):
        mask, own = labels == label, probability[:, label]
        both = 2 * (own * mask).sum(dim=(1, 2))
        sums.append(torch.stack([both, own.sum(dim=(1, 2)) + mask.sum(dim=(1, 2))], dim=1))
    return torch.stack(sums, dim=1)


def agreement_sums(views: list[torch.Tensor], mean: torch.Tensor) -> torch.Tensor:
    """For LV, myocardium and RV the sums of a Dice of probabilities of each view and their mean.

    ``views`` and ``mean`` ``[n, 4, s, s]``; ``[n, 3, 2]``: twice the smaller of both, and both
    together, over all views.
    """
    both = torch.zeros((*mean.shape[:1], 3), device=mean.device)
    sums = torch.zeros_like(both)
    for view in views:
        both += 2 * torch.minimum(view[:, 1:], mean[:, 1:]).sum(dim=(2, 3))
        sums += (view[:, 1:] + mean[:, 1:]).sum(dim=(2, 3))
    return torch.stack([both, sums], dim=2)
