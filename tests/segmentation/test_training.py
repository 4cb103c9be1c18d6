from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cardiometa.commands.train import card_document, train
from cardiometa.segmentation import training_data as packing
from cardiometa.segmentation.model import load_model, tensors_of
from cardiometa.segmentation.options import TrainOptions
from cardiometa.segmentation.training import (
    Batches,
    Trainer,
    completed,
    dice,
    heart_centres,
    mean_probability,
    segmentation_loss,
)
from cardiometa.segmentation.training_data import (
    FULL,
    LV_ONLY,
    UNKNOWN,
    Recipe,
    load,
    neighbours,
)
from tests.kit.data import shared_data

TINY = Recipe(
    widths=(4, 8, 8, 8, 8, 8),
    crop=64,
    epochs=10,
    batch=8,
    share_partial=0.25,
    elastic_px=2.0,
    learning_rate=8e-3,
)


def discs(patients: int, kind: int, fold: int) -> list[packing.Volume]:
    """Bright discs in grey rings beside bright crescents: a toy heart."""
    rng = np.random.default_rng(3)
    y, x = np.meshgrid(np.arange(packing.SIZE), np.arange(packing.SIZE), indexing="ij")
    volumes = []
    for number in range(patients):
        radius = np.hypot(y - 96, x - 96)
        labels = np.zeros((3, packing.SIZE, packing.SIZE), dtype=np.uint8)
        labels[:, (radius < 30) & (x > 100)] = 3
        labels[:, radius < 22] = 2
        labels[:, radius < 14] = 1
        images = np.array([40, 220, 90, 200], dtype=np.float32)[labels]
        images = np.clip(images + rng.normal(0, 8, images.shape), 0, 255).astype(np.uint8)
        if kind == LV_ONLY:
            labels = (labels == 1).astype(np.uint8)
        volumes.append(
            packing.Volume(
                images=images,
                labels=labels,
                kind=kind,
                patient=f"p{kind}{number}",
                phase="ED",
                group="toy",
                fold=fold if number else 0,
                slice_mm=8.0,
            )
        )
    return volumes


@pytest.fixture
def pack_path(tmp_path: Path) -> Path:
    path = tmp_path / "pack.npz"
    path.write_bytes(packing.pack_bytes([*discs(6, FULL, 1), *discs(3, LV_ONLY, -1)]))
    return path


def test_neighbours_stay_in_their_volume() -> None:
    below, above = neighbours(np.array([0, 0, 0, 1, 2, 2]))
    assert below.tolist() == [0, 0, 1, 3, 4, 4]
    assert above.tolist() == [1, 2, 2, 3, 5, 5]


def test_held_out_patients_are_never_drawn(pack_path: Path) -> None:
    pack = load([pack_path])
    batches = Batches(pack, TINY)
    rows = np.concatenate(batches.epoch(5))
    assert "p00" not in set(pack.patient[rows])
    assert {"p01", "p11"} <= set(pack.patient[rows])
    assert all((pack.kind[batch] == LV_ONLY).sum() == 2 for batch in batches.epoch(6))
    without = {folds: replace(TINY, folds=folds) for folds in ((), (0, 1))}
    assert set(pack.patient[Batches(pack, without[()]).rows[FULL]]) == {f"p0{n}" for n in range(6)}
    with pytest.raises(ValueError, match="no fully labelled slice"):
        Batches(pack, without[0, 1])


def test_the_card_names_who_was_trained_on_and_who_was_not(pack_path: Path, tmp_path: Path) -> None:
    options = TrainOptions(
        pairs=tmp_path / "toy", slices=tmp_path / "lv", folder=tmp_path, out=tmp_path / "own"
    )
    training = card_document(options, TINY, load([pack_path]), {}, "ab")["training"]
    assert training["participants"] == {
        "toy": ["p01", "p02", "p03", "p04", "p05"],
        "lv": ["p11", "p12"],
    }
    assert "p00" in training["held_out"]


@pytest.mark.parametrize("unshuffle", [1, 2])
def test_the_background_s_offset_is_in_the_model_file(
    pack_path: Path, tmp_path: Path, unshuffle: int
) -> None:
    bias = {}
    for offset in (0.0, 0.4):
        settings = {"epochs": 0, "widths": [4, 8, 8], "unshuffle": unshuffle, "background": offset}
        out, run = tmp_path / f"{offset}.safetensors", tmp_path / "run"
        options = TrainOptions(pairs=run, packed=pack_path, folder=run, out=out, settings=settings)
        train(options)
        bias[offset] = tensors_of(load_model(out))["head.bias"]
    wanted = np.repeat([0.4, 0, 0, 0], unshuffle**2)
    np.testing.assert_allclose(bias[0.4] - bias[0.0], wanted, atol=1e-6)


def test_training_learns_and_a_resumed_run_is_the_same_run(pack_path: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    pack = load([pack_path])
    straight = Trainer(pack, TINY, tmp_path / "a")
    last = straight.run(every=10)
    assert last["loss"] < 0.8 * straight.history[0]["loss"]
    assert last["epoch"] == 10
    halves = Trainer(pack, TINY, tmp_path / "b")
    halves.folder.mkdir()
    for _ in range(5):
        halves.history.append(halves.train_epoch())
    halves.save()
    resumed = Trainer(pack, TINY, tmp_path / "b")
    assert resumed.resume()
    resumed.run(every=10)
    for name, value in straight.average.state_dict().items():
        assert torch.allclose(value, resumed.average.state_dict()[name], atol=1e-5), name
    other = Trainer(pack, Recipe.from_dict({**TINY.to_dict(), "seed": 9}), tmp_path / "b")
    with pytest.raises(ValueError, match="another recipe"):
        other.resume()


def test_where_only_the_cavity_is_known_the_rest_is_free() -> None:
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[:, 8:16, 8:16] = 1
    base = torch.full((1, 4, 32, 32), -5.0)
    base[:, 0] = 5.0
    base[:, :, 8:16, 8:16] = -5.0
    base[:, 1, 8:16, 8:16] = 5.0
    as_rv = base.clone()
    as_rv[:, 0, 20:, 20:] = -5.0
    as_rv[:, 3, 20:, 20:] = 5.0
    partial, full = torch.ones(1), torch.zeros(1)
    free = segmentation_loss(as_rv, labels, partial) - segmentation_loss(base, labels, partial)
    paid = segmentation_loss(as_rv, labels, full) - segmentation_loss(base, labels, full)
    assert abs(float(free)) < 1e-3
    assert float(paid) > 0.5


def test_pixels_nobody_knows_cost_nothing() -> None:
    rng = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 4, 32, 32, generator=rng)
    labels = torch.randint(0, 4, (2, 32, 32), generator=rng)
    labels[:, :10] = UNKNOWN
    elsewhere = logits.clone()
    elsewhere[:, :, :10] = torch.randn(2, 4, 10, 32, generator=rng)
    full = torch.zeros(2)
    kept = segmentation_loss(logits, labels, full)
    assert float(segmentation_loss(elsewhere, labels, full)) == pytest.approx(float(kept))
    # And what is known counts as it does alone.
    alone = segmentation_loss(logits[:, :, 10:], labels[:, 10:], full)
    assert float(kept) == pytest.approx(float(alone), rel=1e-6)


def test_readers_cavity_stands_and_doubt_stays_unknown() -> None:
    # Pixels: cavity by the reader; the network's cavity that the reader denies, myocardium
    # surest of the rest; sure RV; doubt between myocardium and RV.
    probability = np.array(
        [[0.9, 0, 0, 0.1], [0.0, 0.8, 0.19, 0.01], [0.02, 0, 0.02, 0.96], [0.1, 0, 0.45, 0.45]]
    ).T.reshape(1, 4, 1, 4)
    labels = np.array([[[1, 0, 0, 0]]], dtype=np.uint8)
    assert completed(probability, labels, least=0.75).tolist() == [[[1, 2, 3, UNKNOWN]]]


def test_views_turn_back_to_where_they_were() -> None:
    class Bright(torch.nn.Module):
        """Logits that follow the pixels: the same labels from every side."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(5.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            middle = x[:, 1:2] * self.scale
            return torch.cat([-middle, middle, 0 * middle, 0 * middle], dim=1)

    stack = np.random.default_rng(4).normal(size=(3, 3, 32, 32)).astype(np.float32)
    network = Bright()
    with torch.no_grad():
        once = network(torch.from_numpy(stack)).softmax(dim=1).numpy()
    np.testing.assert_allclose(mean_probability(network, stack), once, atol=1e-6)


def test_a_run_completes_lv_only_slices_once_and_resumes_with_them(
    pack_path: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    pack = load([pack_path])
    recipe = Recipe.from_dict({**TINY.to_dict(), "epochs": 3, "self_label_epoch": 2})
    trainer = Trainer(pack, recipe, tmp_path / "own")
    trainer.run(every=10)
    assert trainer.own_labels is not None
    rows = trainer.batches.rows[LV_ONLY]
    truth = pack.labels[rows] == 1
    assert (trainer.own_labels[truth] == 1).all()
    assert not (trainer.own_labels[~truth] == 1).any()
    assert not trainer.batches.lv_only[rows].any()
    again = Trainer(pack, recipe, tmp_path / "own")
    assert again.resume()
    np.testing.assert_array_equal(again.own_labels, trainer.own_labels)
    np.testing.assert_array_equal(again.batches.labels, trainer.batches.labels)


def test_dice_and_centres() -> None:
    a = np.zeros((2, 8, 8), dtype=np.uint8)
    a[0, 2:4, 2:6] = 1
    b = np.roll(a, 1, axis=1)
    assert dice(a, b, 1) == pytest.approx(0.5)
    assert np.isnan(dice(a, b, 3))
    assert heart_centres(a).tolist() == [[2.5, 3.5], [3.5, 3.5]]


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="epoch_count"):
        Recipe.from_dict({"epoch_count": 3})


def test_real_pairs_are_packed_by_patient_with_our_labels() -> None:
    folder = shared_data() / "acdc"
    groups = packing.read_groups(folder)
    folds = packing.assign_folds(groups)
    for group in set(groups.values()):
        own = [folds[p] for p in groups if groups[p] == group]
        assert max(np.bincount(own)) - min(np.bincount(own)) <= 1
    first = next(iter(packing.read_pairs(folder, "acdc")))
    assert first.images.shape == first.labels.shape
    # The cavity lies inside the myocardium, the RV outside: ACDC's order was turned into ours.
    cavity = first.labels[len(first.labels) // 2] == 1
    brightness = [first.images[first.labels == label].mean() for label in (1, 2, 3)]
    assert cavity.any()
    assert brightness[1] < min(brightness[0], brightness[2])
