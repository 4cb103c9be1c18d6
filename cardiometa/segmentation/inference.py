"""Inference: the network rewritten for speed, and the predictor that reads a scan's slices with it.

Batch norm is folded into the convolutions. A decoder stage of `HeartUNet` enlarges its input by
nearest neighbour, joins the skip connection and convolves; here the two halves of that convolution
are apart. The enlarged half, nearest neighbour and then 3 × 3, is one transposed convolution of
4 × 4 and stride 2, whose weights are sums of the old ones: each output then takes 4 products per
channel instead of 9, and neither the enlarged nor the joined image is ever written.

On CPUs every batch has the same shape and runs on one thread, several batches side by side: a
label then never depends on the batch, the number of workers or what else is in the batch.
A graphics card gets a scan's slices once, from pinned memory; scaling, views, labels and their
sums are made there, and only they come back: probabilities are sixteen times as large as labels.
Shapes: ``n`` slices, crops of ``s`` × ``s``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from ..errors import UsageError
from .network import HeartUNet, fold_batch_norm
from .resample import Kernel, Scaling


class InferenceUNet(nn.Module):
    """`HeartUNet` for inference; equal to it but for rounding. The network given is used up."""

    def __init__(self, network: HeartUNet) -> None:
        super().__init__()
        fold_batch_norm(network.eval())
        self.unshuffle = network.unshuffle
        self.stem = network.stem
        self.down = network.down
        self.skip, self.up = nn.ModuleList(), nn.ModuleList()
        for stage in network.up:
            # The part of the convolution that sees the skip, with the bias, and the other one.
            convolution: nn.Conv2d = stage[0]  # type: ignore[index]
            out = convolution.out_channels
            enlarged = convolution.in_channels - out
            weight = convolution.weight.detach()
            skip = nn.Conv2d(out, out, 3, 1, 1)
            skip.weight = nn.Parameter(weight[:, enlarged:].clone())
            assert convolution.bias is not None  # folded
            skip.bias = nn.Parameter(convolution.bias.detach().clone())
            up = nn.ConvTranspose2d(enlarged, out, 4, 2, 1, bias=False)
            up.weight = nn.Parameter(transposed_kernel(weight[:, :enlarged]))
            self.skip.append(skip)
            self.up.append(up)
        self.head = network.head
        self.requires_grad_(requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``[n, classes, size, size]`` of a batch ``[n, context_slices, size, size]``."""
        features = [self.stem(nn.functional.pixel_unshuffle(x, self.unshuffle))]
        for stage in self.down:
            features.append(stage(features[-1]))
        y = features.pop()
        for up, skip in zip(reversed(self.up), reversed(self.skip), strict=True):
            y = skip(features.pop()).add_(up(y)).relu_()
        return nn.functional.pixel_shuffle(self.head(y), self.unshuffle)


def transposed_kernel(weight: torch.Tensor) -> torch.Tensor:
    """Kernel ``[in, out, 4, 4]`` of nearest-neighbour doubling and then 3 × 3 ``[out, in, 3, 3]``.

    An input pixel fills two enlarged ones; position ``s`` of the transposed kernel lands one
    pixel before the first of them (``s`` = 0) to one behind the second (``s`` = 3), where position
    ``t`` of the old one reaches them if ``s + t`` is 2 or 3.
    """
    spread = torch.zeros(4, 3, dtype=torch.float64)
    for s, t in ((0, 2), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0)):
        spread[s, t] = 1
    kernel = torch.einsum("st,oitu,ru->iosr", spread, weight.double(), spread)
    return kernel.to(weight.dtype).contiguous()


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceTask:
    """Crops to read: ``images`` float32 ``[t, z, s, s]`` as measured, their scaling, the way back.

    ``back``: kernels of rows and columns from the crop to the pixels of the source that it covers;
    None where labels on the crop are enough. ``views``: mirrored views, 0 for the card's number.
    """

    images: np.ndarray
    scaling: Scaling
    back: tuple[Kernel, Kernel] | None = None
    views: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceReading:
    """What the network predicts for ``n = t · z`` slices.

    ``on_crop`` uint8 ``[n, s, s]`` and ``labels`` uint8 ``[n, rows, columns]`` (the source's; empty
    without a way back); ``confidence`` ``[n]`` (`border_confidence`); ``expectation`` ``[n, 3, 2]``
    (see `quality`); ``presence`` ``[n, 2, 2]`` (`presence_of`); ``agreement`` ``[n, 3, 6]``
    (`agreement_sums`, NaN for views that were not made).
    """

    on_crop: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray
    agreement: np.ndarray
    expectation: np.ndarray
    presence: np.ndarray

    @classmethod
    def empty(cls, task: SliceTask) -> SliceReading:
        """Arrays of the task's shapes, to be filled in parts."""
        phases, slices, size = task.images.shape[:3]
        n = phases * slices
        rows, columns = (len(k.indices) for k in task.back) if task.back else (0, 0)
        return cls(
            on_crop=np.empty((n, size, size), dtype=np.uint8),
            labels=np.empty((n, rows, columns), dtype=np.uint8),
            confidence=np.empty(n, dtype=np.float32),
            agreement=np.full((n, 3, 2 + len(FLIPS)), np.nan, dtype=np.float32),
            expectation=np.empty((n, 3, 2), dtype=np.float32),
            presence=np.empty((n, 2, 2), dtype=np.float32),
        )

    def fill(self, part: slice, summary: tuple[torch.Tensor, ...], agreement: torch.Tensor) -> None:
        """Store one batch: the tensors of `summary_of`, of which the first are real."""
        count = part.stop - part.start
        own = (self.on_crop, self.labels, self.confidence, self.expectation, self.presence)
        for target, value in zip(own, summary, strict=True):
            target[part] = value[:count].cpu().numpy()
        self.agreement[part, :, : agreement.shape[2]] = agreement[:count].cpu().numpy()


@runtime_checkable
class SliceReader(Protocol):
    """A predictor that reads the crops of a scan itself (`TorchPredictor.read`)."""

    def read(self, task: SliceTask) -> SliceReading:
        """The reading of every slice of the task."""


def matrix(kernel: Kernel, length: int) -> torch.Tensor:
    """The kernel as a matrix float32 ``[out, length]``."""
    dense = np.zeros((len(kernel.indices), length), dtype=np.float32)
    np.add.at(dense, (np.arange(len(dense))[:, None], kernel.indices), kernel.weights)
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
) -> tuple[torch.Tensor, ...]:
    """Labels on the crop and on the source, border confidence, expectation, presence of a batch.

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
    expectation = expectation_sums(probability, on_crop)
    return on_crop, own, border_confidence(best, on_crop), expectation, presence_of(probability)


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


def presence_of(probability: torch.Tensor) -> torch.Tensor:
    """How likely each slice has a cavity, and how large it would be: ``[n, 2, 2]`` for LV and RV.

    The probability is the highest mean of the network's own in a square of 5 × 5 pixels; the size
    is the number of pixels above half of it. ``probability`` ``[n, 4, s, s]``.
    """
    cavities = probability[:, 1::2]
    likely = nn.functional.avg_pool2d(cavities, 5, stride=1).amax(dim=(2, 3))
    size = (cavities > likely[:, :, None, None] / 2).sum(dim=(2, 3))
    return torch.stack([likely, size.to(likely.dtype)], dim=2)


def agreement_sums(views: list[torch.Tensor], mean: torch.Tensor) -> torch.Tensor:
    """For LV, myocardium and RV the sums of a Dice of probabilities of each view and their mean.

    ``views`` and ``mean`` ``[n, 4, s, s]``; ``[n, 3, 2 + views]``: twice the smaller of both, and
    both together, over all views; then the area of each view, the sum of its probabilities.
    """
    both = torch.zeros((*mean.shape[:1], 3), device=mean.device)
    sums = torch.zeros_like(both)
    for view in views:
        both += 2 * torch.minimum(view[:, 1:], mean[:, 1:]).sum(dim=(2, 3))
        sums += (view[:, 1:] + mean[:, 1:]).sum(dim=(2, 3))
    areas = [view[:, 1:].sum(dim=(2, 3)) for view in views]
    return torch.stack([both, sums, *areas], dim=2)


# Each crop is predicted as it is and mirrored, and the probabilities are averaged: the result then
# depends less on how the scanner placed the field of view.
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))

# The one batch shape. Not an option on CPUs: another shape may round differently. Small enough
# that a scan of two phases keeps several cores busy, and 4 costs no more per slice than 8.
BATCH = 4
BATCH_OF_AN_ACCELERATOR = 64


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_device(wanted: str) -> str:
    """``auto`` to cuda, mps or cpu; UsageError for a device that is not available."""
    has = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if wanted == "auto":
        return "cuda" if has["cuda"] else "mps" if has["mps"] else "cpu"
    if wanted not in has:
        raise UsageError(f"--device {wanted} is unknown.", hint="Use auto, cpu, cuda or mps.")
    if not has[wanted]:
        raise UsageError(
            f"--device {wanted}: this machine, or this build of torch, has none.",
            hint="Use --device cpu, or install a build of torch for it (`cardiometa doctor`).",
        )
    return wanted


class TorchPredictor:
    """A network in memory. Example: ``load_model().predictor(device="cpu").probabilities(x)``."""

    def __init__(
        self,
        network: HeartUNet,
        order: Sequence[int],
        *,
        context_slices: int,
        views: int,
        device: str = "auto",
        batch: int = 0,
        workers: int = 0,
    ) -> None:
        """``order``: position of labels 0 to 3 in the network's output; the network is used up."""
        self.device = choose_device(device)
        self._context, self._views, self._order = context_slices, views, list(order)
        # A larger batch only helps accelerators; a CPU keeps the one shape.
        on_cpu = self.device == "cpu"
        self.batch = BATCH if on_cpu else max(batch or BATCH_OF_AN_ACCELERATOR, 1)
        fast = InferenceUNet(network)
        self._network = fast.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        threads = max(1, workers or available_cores()) if on_cpu else 1
        self._pool = ThreadPoolExecutor(threads, initializer=_one_thread)
        _one_thread()

    @property
    def context_slices(self) -> int:
        """Channels per slice."""
        return self._context

    def probabilities(self, crops: np.ndarray) -> np.ndarray:
        """``[n, context, s, s]`` float32 to ``[n, 4, s, s]``, labels in our order."""
        return self.predict_views(crops)[0]

    def predict_views(self, crops: np.ndarray, *, views: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities as above, and how far the mirrored views agree (`agreement_sums`), float32.

        Fewer ``views`` than the card's are cheaper and coarser; 0 takes the card's.
        """
        n, size = crops.shape[0], crops.shape[-1]
        probability = np.empty((n, 4, size, size), dtype=np.float32)
        made = min(views or self._views, len(FLIPS))
        agreement = np.empty((n, 3, 2 + made), dtype=np.float32)
        source = torch.from_numpy(np.ascontiguousarray(crops, dtype=np.float32))

        def one_batch(part: slice) -> None:
            mean, agreed = self._mean_of_views(source[part].to(self.device), views)
            count = part.stop - part.start
            probability[part] = mean[:count].cpu().numpy()
            agreement[part] = agreed[:count].cpu().numpy()

        self._in_batches(n, one_batch)
        return probability, agreement

    def read(self, task: SliceTask) -> SliceReading:
        """Labels, confidence and sums of every slice (`SliceReading`); raises MemoryError."""
        phases, slices, size = task.images.shape[:3]
        tensor = torch.from_numpy(
            np.ascontiguousarray(task.images.reshape(-1, size, size), dtype=np.float32)
        )
        on_cuda = self.device == "cuda"
        try:
            pinned = tensor.pin_memory() if on_cuda else tensor
            images = pinned.to(self.device, non_blocking=on_cuda)
        except torch.OutOfMemoryError:
            raise MemoryError("a scan's slices do not fit the memory of the device") from None
        back = None
        if task.back is not None:
            rows, columns = (matrix(kernel, size).to(self.device) for kernel in task.back)
            back = (rows, columns)
        indices = torch.from_numpy(neighbours(phases, slices, self._context))
        reading = SliceReading.empty(task)

        def one_batch(part: slice) -> None:
            crops = scaled(images[indices[part].to(self.device)], task.scaling)
            mean, agreement = self._mean_of_views(crops, task.views)
            reading.fill(part, summary_of(mean, back), agreement)

        self._in_batches(len(indices), one_batch)
        return reading

    def _in_batches(self, n: int, work: Callable[[slice], None]) -> None:
        """Do ``work`` on parts of ``n`` slices: side by side on a CPU, else one after the other.

        Where a batch does not fit an accelerator's memory, this and all later ones are halved.
        """

        def on_this_thread(part: slice) -> None:
            with torch.inference_mode():
                work(part)

        if self.device == "cpu":
            parts = [slice(a, min(a + self.batch, n)) for a in range(0, n, self.batch)]
            list(self._pool.map(on_this_thread, parts))
            return
        start = 0
        while start < n:
            part = slice(start, min(start + self.batch, n))
            try:
                on_this_thread(part)
            except torch.OutOfMemoryError:
                if self.batch == 1:
                    raise MemoryError("not one slice fits the memory of the device") from None
                self.batch //= 2
                if self.device == "cuda":
                    torch.cuda.empty_cache()
            else:
                start = part.stop

    def _mean_of_views(self, part: torch.Tensor, views: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean probability of the views and their agreement, of the padded batch: one shape."""
        x = part.new_zeros((self.batch, *part.shape[1:]))
        x[: len(part)] = part
        # Half precision where the hardware is made for it.
        half = torch.autocast("cuda", dtype=torch.float16) if self.device == "cuda" else None
        seen = []
        for axes in FLIPS[: views or self._views]:
            view = x.flip(axes).contiguous(memory_format=torch.channels_last)
            with half or nullcontext():
                logits = self._network(view)
            seen.append(torch.softmax(logits.float(), dim=1).flip(axes)[:, self._order])
        total = torch.zeros_like(seen[0])
        for one in seen:
            total += one
        mean = total / len(seen)
        return mean, agreement_sums(seen, mean)

    def close(self) -> None:
        """End the worker threads."""
        self._pool.shutdown(wait=True)


def _one_thread() -> None:
    torch.set_num_threads(1)
