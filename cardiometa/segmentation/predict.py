"""The predictor: one loaded network, fixed padded batches, one intra-op thread a worker.

On CPUs every batch has the same shape and runs on one thread, several batches side by side: a
label then never depends on the batch, the number of workers or what else is in the batch.
A graphics card gets a scan's slices once, from pinned memory; scaling, views, labels and their
sums are made there, and only they come back.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from ..errors import ModelError, UsageError
from .inference import InferenceUNet
from .model import Model, tensors_of
from .network import HeartUNet
from .slices import (
    SliceReading,
    SliceTask,
    agreement_sums,
    matrix,
    neighbours,
    scaled,
    summary_of,
)

# Each crop is seen as it is and mirrored, and the probabilities are averaged: what the network says
# of a slice then depends less on how the scanner laid the field of view.
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))

# The one batch shape. Not an option on CPUs: another shape may round differently. Small enough
# that a scan of two phases keeps several cores busy, and 4 costs no more a slice than 8.
BATCH = 4
BATCH_OF_AN_ACCELERATOR = 64


def available_cores() -> int:
    """Cores this process may use."""
    import os

    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_device(wanted: str) -> str:
    """``auto`` to cuda, mps or cpu; UsageError for a device that is not here."""
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
        self, model: Model, *, device: str = "auto", batch: int = 0, workers: int = 0
    ) -> None:
        card = model.card
        self.device = choose_device(device)
        self._context = card.context_slices
        self._views = card.views
        self._order = card.label_order()
        # A larger batch only helps accelerators; a CPU keeps the one shape.
        on_cpu = self.device == "cpu"
        self.batch = BATCH if on_cpu else max(batch or BATCH_OF_AN_ACCELERATOR, 1)
        network = HeartUNet(card.widths, card.context_slices, len(card.classes))
        state = {name: torch.from_numpy(value.copy()) for name, value in tensors_of(model).items()}
        try:
            network.load_state_dict(state)
        except RuntimeError:
            raise ModelError("The model's weights do not fit the network of its card.") from None
        fast = InferenceUNet(network)
        self._network = fast.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        threads = max(1, workers or available_cores()) if on_cpu else 1
        self._pool = ThreadPoolExecutor(threads, initializer=_one_thread)
        _one_thread()

    @property
    def context_slices(self) -> int:
        """Channels a slice is given."""
        return self._context

    def probabilities(self, crops: np.ndarray) -> np.ndarray:
        """``[n, context, s, s]`` float32 to ``[n, 4, s, s]``, labels in our order."""
        return self.seen(crops)[0]

    def seen(self, crops: np.ndarray, *, views: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities as above, and how far the mirrored views agree: ``[n, 3, 2]`` float32.

        For LV cavity, myocardium and RV cavity the two sums of a Dice of probabilities between
        each view and their mean: twice the smaller of both, and both together. ``views`` below
        the card's makes a cheaper, coarser look; 0 takes the card's.
        """
        n, size = crops.shape[0], crops.shape[-1]
        probability = np.empty((n, 4, size, size), dtype=np.float32)
        agreement = np.empty((n, 3, 2), dtype=np.float32)
        source = torch.from_numpy(np.ascontiguousarray(crops, dtype=np.float32))

        def one_batch(part: slice) -> None:
            mean, agreed = self._look(source[part].to(self.device), views)
            count = part.stop - part.start
            probability[part] = mean[:count].cpu().numpy()
            agreement[part] = agreed[:count].cpu().numpy()

        self._in_batches(n, one_batch)
        return probability, agreement

    def read(self, task: SliceTask) -> SliceReading:
        """Labels, confidence and sums of every slice (see `slices`); raises MemoryError."""
        phases, slices, size = task.images.shape[:3]
        images = self._on_device(task.images.reshape(-1, size, size))
        back = None
        if task.back is not None:
            rows, columns = (matrix(taps, size).to(self.device) for taps in task.back)
            back = (rows, columns)
        indices = torch.from_numpy(neighbours(phases, slices, self._context))
        reading = SliceReading.empty(task)

        def one_batch(part: slice) -> None:
            crops = scaled(images[indices[part].to(self.device)], task.scaling)
            mean, agreement = self._look(crops, task.views)
            reading.fill(part, summary_of(mean, back), agreement)

        self._in_batches(len(indices), one_batch)
        return reading

    def _on_device(self, images: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))
        try:
            if self.device == "cuda":
                return tensor.pin_memory().to(self.device, non_blocking=True)
            return tensor.to(self.device)
        except torch.OutOfMemoryError:
            raise MemoryError("a scan's slices do not fit the memory of the device") from None

    def _in_batches(self, n: int, work: Callable[[slice], None]) -> None:
        """Do ``work`` on parts of ``n`` slices: side by side on a CPU, else one after the other.

        Where an accelerator's memory does not hold a batch, this and all later ones are halved.
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
                self._halve()
            else:
                start = part.stop

    def _halve(self) -> None:
        if self.batch == 1:
            raise MemoryError("not one slice fits the memory of the device") from None
        self.batch //= 2
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def _look(self, part: torch.Tensor, views: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean probability of the views and their agreement, of the padded batch: one shape."""
        x = part.new_zeros((self.batch, *part.shape[1:]))
        x[: len(part)] = part
        seen = []
        for axes in FLIPS[: views or self._views]:
            view = x.flip(axes).contiguous(memory_format=torch.channels_last)
            with self._precision():
                logits = self._network(view)
            seen.append(torch.softmax(logits.float(), dim=1).flip(axes)[:, self._order])
        total = torch.zeros_like(seen[0])
        for one in seen:
            total += one
        mean = total / len(seen)
        return mean, agreement_sums(seen, mean)

    def _precision(self) -> AbstractContextManager[object]:
        """Half precision where the hardware is made for it."""
        if self.device == "cuda":
            return torch.autocast("cuda", dtype=torch.float16)
        return nullcontext()

    def close(self) -> None:
        """End the worker threads."""
        self._pool.shutdown(wait=True)


def _one_thread() -> None:
    torch.set_num_threads(1)
