"""The network rewritten for speed is the trained one, and an accelerator's memory may be small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cardiometa.segmentation.inference import (
    InferenceUNet,
    SliceReading,
    SliceTask,
    TorchPredictor,
    matrix,
    neighbours,
    scaled,
    transposed_kernel,
)
from cardiometa.segmentation.model import load_model
from cardiometa.segmentation.network import HeartUNet
from cardiometa.segmentation.resample import Scaling, Window
from cardiometa.segmentation.segment import read_slices
from tests.kit.labelled import disc_heart
from tests.segmentation.test_model import DOCUMENT, crops, tiny_tensors, write_model

SCALING = Scaling(low=-2.0, high=2.5, mean=0.3, deviation=1.2)


def trained() -> HeartUNet:
    network = HeartUNet([4, 8, 8, 8, 8, 8], 3)
    state = {name: torch.from_numpy(value) for name, value in tiny_tensors().items()}
    network.load_state_dict(state, strict=False)
    network.eval()
    return network


def test_the_fast_network_is_the_trained_one_but_for_rounding() -> None:
    x = torch.from_numpy(crops(2))
    with torch.inference_mode():
        wanted = trained()(x)
        found = InferenceUNet(trained())(x)
    assert torch.allclose(found, wanted, atol=1e-4)
    assert wanted.std() > 0.1


def test_the_fast_network_with_squares_of_pixels_as_channels_is_the_trained_one() -> None:
    torch.manual_seed(4)
    network = HeartUNet([4, 8, 8, 8, 8], 3, unshuffle=2)
    network(torch.randn(2, 3, 64, 64))  # statistics of batch norm that are not 0 and 1
    network.eval()
    x = torch.from_numpy(crops(2))
    with torch.inference_mode():
        wanted = network(x)
        found = InferenceUNet(network)(x)
    assert wanted.shape == (2, 4, 64, 64)
    assert torch.allclose(found, wanted, atol=1e-4)
    assert wanted.std() > 0.01


def test_a_transposed_convolution_enlarges_and_convolves_at_once() -> None:
    """At the border too, where both see zeros outside."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((1, 5, 4, 6), generator=generator)
    weight = torch.randn((3, 5, 3, 3), generator=generator)
    wanted = nn.functional.conv2d(nn.functional.interpolate(x, scale_factor=2.0), weight, padding=1)
    found = nn.functional.conv_transpose2d(x, transposed_kernel(weight), stride=2, padding=1)
    assert torch.allclose(found, wanted, atol=1e-5)


def task(phases: int = 2, slices: int = 5) -> SliceTask:
    window = Window(
        centre=(40.3, 51.2),
        size=64,
        spacing_mm=1.5,
        source_spacing_mm=(1.7, 1.3),
        source_shape=(90, 100),
    )
    images = np.random.default_rng(5).normal(size=(phases, slices, 64, 64)).astype(np.float32)
    return SliceTask(images=images, scaling=SCALING, back=window.to_source())


def arrays(reading: SliceReading) -> list[np.ndarray]:
    return [getattr(reading, name) for name in SliceReading.__slots__]


class Bare:
    """A predictor that gives probabilities and agreement alone."""

    def __init__(self, predictor: TorchPredictor) -> None:
        self.context_slices = predictor.context_slices
        self.probabilities, self.predict_views = predictor.probabilities, predictor.predict_views


def test_a_predictor_that_gives_probabilities_alone_is_read_alike() -> None:
    """The bundled model on a drawn heart, in four views and back on the source's grid."""
    truth = disc_heart()[:1]
    window = Window(
        centre=(50.3, 41.2),
        size=truth.shape[-1],
        spacing_mm=1.5,
        source_spacing_mm=(1.7, 1.3),
        source_shape=(90, 100),
    )
    images = np.array([10.0, 300.0, 100.0, 200.0], dtype=np.float32)[truth]
    own_task = SliceTask(images=images, scaling=Scaling.of(images), back=window.to_source())
    predictor = load_model().predictor(device="cpu")
    own = predictor.read(own_task)
    # Scaled by numpy, and more slices in a batch of the sums: equal but for rounding.
    other = read_slices(Bare(predictor), own_task)
    predictor.close()
    box = window.source_box()
    assert own.labels.shape == (truth.shape[1], *(part.stop - part.start for part in box))
    assert set(np.unique(own.labels)) == {0, 1, 2, 3}
    for a, b in zip(arrays(own), arrays(other), strict=True):
        if a.dtype == np.uint8:
            assert (a != b).mean() < 1e-4
        else:
            assert np.allclose(a, b, rtol=1e-4, equal_nan=True)


@pytest.mark.parametrize(("phases", "slices"), [(1, 1), (1, 4), (3, 3)])
def test_a_reading_is_the_same_bytes_whatever_the_workers(
    tmp_path: Path, phases: int, slices: int
) -> None:
    model = load_model(write_model(tmp_path, {**DOCUMENT, "views": 2}))
    readings = []
    for workers in (1, 2, 5):
        predictor = model.predictor(device="cpu", workers=workers, batch=workers)
        readings.append(predictor.read(task(phases, slices)))
        predictor.close()
    for other in readings[1:]:
        for a, b in zip(arrays(readings[0]), arrays(other), strict=True):
            assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def test_neighbours_stay_in_their_phase() -> None:
    assert neighbours(2, 3, 3).tolist() == [
        [0, 0, 1], [0, 1, 2], [1, 2, 2], [3, 3, 4], [3, 4, 5], [4, 5, 5],
    ]  # fmt: skip
    assert neighbours(2, 2, 1).tolist() == [[0], [1], [2], [3]]


def test_scaling_on_the_device_is_the_scaling() -> None:
    images = np.random.default_rng(2).gamma(2, 2, (3, 8, 8)).astype(np.float32)
    assert np.array_equal(scaled(torch.from_numpy(images), SCALING).numpy(), SCALING.apply(images))


def test_a_kernel_as_a_matrix_is_the_kernel() -> None:
    rows, _ = task().back or (None, None)
    assert rows is not None
    dense = matrix(rows, 64).numpy()
    signal = np.random.default_rng(3).normal(size=64)
    assert dense @ signal == pytest.approx((signal[rows.indices] * rows.weights).sum(axis=1))


# ------------------------------------------------------------------ an accelerator that is full


class SmallDevice:
    """A predictor whose device holds ``room`` slices: it takes the way of an accelerator."""

    def __init__(self, folder: Path, room: int) -> None:
        self.predictor = load_model(write_model(folder)).predictor(device="cpu", workers=1)
        self.predictor.batch = 64
        self.tried: list[int] = []
        inner: Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]] = (
            self.predictor._mean_of_views
        )

        def look(part: torch.Tensor, views: int) -> tuple[torch.Tensor, torch.Tensor]:
            self.tried.append(self.predictor.batch)
            if self.predictor.batch > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return inner(part, views)

        self.predictor._mean_of_views = look  # type: ignore[method-assign]
        # Neither cpu nor cuda: the way of an accelerator, without CUDA's own calls.
        self.predictor._on_device = torch.from_numpy  # type: ignore[method-assign,assignment]
        self.predictor._in_batches = self._in_batches  # type: ignore[method-assign]

    def _in_batches(self, n: int, work: Callable[[slice], None]) -> None:
        device, self.predictor.device = self.predictor.device, "accelerator"

        def on_cpu(part: slice) -> None:
            self.predictor.device = device
            try:
                work(part)
            finally:
                self.predictor.device = "accelerator"

        try:
            TorchPredictor._in_batches(self.predictor, n, on_cpu)
        finally:
            self.predictor.device = device


@pytest.mark.parametrize("room", [64, 10, 3, 1])
def test_a_batch_that_does_not_fit_is_halved_and_the_scan_goes_on(
    tmp_path: Path, room: int
) -> None:
    plain = load_model(write_model(tmp_path)).predictor(device="cpu", workers=1)
    wanted = plain.read(task(3, 7))
    plain.close()
    small = SmallDevice(tmp_path, room)
    found = small.predictor.read(task(3, 7))
    largest = {64: 64, 10: 8, 3: 2, 1: 1}[room]
    assert small.predictor.batch == largest
    failed = [batch for batch in small.tried if batch > room]
    assert failed == [64, 32, 16, 8, 4, 2][: len(failed)]
    assert small.tried[len(failed) :] == [largest] * -(-21 // largest)
    for a, b in zip(arrays(wanted), arrays(found), strict=True):
        assert np.allclose(a, b, rtol=1e-4, equal_nan=True)
    again = len(small.tried)
    small.predictor.read(task(3, 7))  # the next scan starts with what fitted
    assert small.tried[again:] == [largest] * -(-21 // largest)
    small.predictor.close()


def test_a_device_that_holds_not_one_slice_is_a_failure_of_the_scan(tmp_path: Path) -> None:
    small = SmallDevice(tmp_path, 0)
    with pytest.raises(MemoryError):
        small.predictor.read(task())
    assert small.tried == [64, 32, 16, 8, 4, 2, 1]
    small.predictor.close()
