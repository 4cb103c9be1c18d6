"""The predictor: one loaded network, fixed padded batches, one intra-op thread a worker.

On CPUs every batch has the same shape and runs on one thread, several batches side by side: a
label then never depends on the batch, the number of workers or what else is in the batch.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ..errors import ModelError, UsageError
from .model import Model, tensors_of
from .network import HeartUNet, fold_batch_norm

# Each crop is seen as it is and mirrored, and the probabilities are averaged: what the network says
# of a slice then depends less on how the scanner laid the field of view.
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))

# The one batch shape. Not an option on CPUs: another shape may round differently.
BATCH = 8


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
        self._batch = BATCH if self.device == "cpu" else max(batch or 64, 1)
        self._workers = max(1, workers or available_cores()) if self.device == "cpu" else 1
        network = HeartUNet(card.widths, card.context_slices, len(card.classes))
        state = {name: torch.from_numpy(value.copy()) for name, value in tensors_of(model).items()}
        try:
            network.load_state_dict(state)
        except RuntimeError:
            raise ModelError("The model's weights do not fit the network of its card.") from None
        network.eval()
        fold_batch_norm(network)
        self._network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._pool = ThreadPoolExecutor(self._workers, initializer=_one_thread)
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
        axes = FLIPS[: views or self._views]

        def one_batch(start: int) -> None:
            part = slice(start, min(start + self._batch, n))
            probability[part], agreement[part] = self._one_batch(crops[part], axes)

        list(self._pool.map(one_batch, range(0, n, self._batch)))
        return probability, agreement

    def _one_batch(
        self, part: np.ndarray, flips: tuple[tuple[int, ...], ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        padded = np.zeros((self._batch, *part.shape[1:]), dtype=np.float32)
        padded[: len(part)] = part
        with torch.inference_mode():
            x = torch.from_numpy(padded).to(self.device)
            seen = []
            for axes in flips:
                view = x.flip(axes).contiguous(memory_format=torch.channels_last)
                seen.append(torch.softmax(self._network(view), dim=1).flip(axes)[:, self._order])
            total = torch.zeros_like(seen[0])
            for view in seen:
                total += view
            mean = total / len(seen)
            agreement = _agreement(seen, mean).cpu().numpy()[: len(part)]
            return mean.cpu().numpy()[: len(part)], agreement

    def close(self) -> None:
        """End the worker threads."""
        self._pool.shutdown(wait=True)


def _agreement(seen: list[torch.Tensor], mean: torch.Tensor) -> torch.Tensor:
    """The sums of `TorchPredictor.seen` ``[n, 3, 2]``; the whole padded batch, so one shape."""
    both = torch.zeros((*mean.shape[:1], 3), device=mean.device)
    sums = torch.zeros_like(both)
    for view in seen:
        both += 2 * torch.minimum(view[:, 1:], mean[:, 1:]).sum(dim=(2, 3))
        sums += (view[:, 1:] + mean[:, 1:]).sum(dim=(2, 3))
    return torch.stack([both, sums], dim=2)


def _one_thread() -> None:
    torch.set_num_threads(1)
