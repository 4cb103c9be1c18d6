"""From a cine to its labels: what must not matter does not, whatever the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cardiometa.records import CineStack
from cardiometa.segmentation.model import ModelCard, load_model
from cardiometa.segmentation.resample import Scaling
from cardiometa.segmentation.segment import find_heart, segment_cine
from tests.bench.perturbations import DIHEDRAL, PERTURBATIONS, Heart, perturbed, turned_back
from tests.kit.labelled import cine_of, disc_heart
from tests.segmentation.test_model import DOCUMENT, write_model

# Signal of background, LV cavity, myocardium and RV cavity.
SIGNAL = np.array([10.0, 300.0, 100.0, 200.0])


class ByBrightness:
    """A predictor that knows each tissue by its z-scored signal: pixel by pixel, so any
    difference between orientations is the program's own.
    """

    context_slices = 3

    def __init__(self, levels: np.ndarray) -> None:
        self.levels = levels

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        return self.predict_views(x)[0]

    def predict_views(self, x: np.ndarray, *, views: int = 0) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG002
        far = (x[:, 1, None] - self.levels[None, :, None, None]) ** 2
        score = np.exp(-30 * far)
        probability = (score / score.sum(axis=1, keepdims=True)).astype(np.float32)
        sums = probability[:, 1:].sum(axis=(2, 3))
        return probability, np.stack([2 * sums, 2 * sums], axis=2)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    folder: Path = tmp_path_factory.mktemp("model")
    return load_model(write_model(folder, {**DOCUMENT, "crop": 128})).card


def heart() -> Heart:
    """A disc heart off the middle of an oblong field of view with unequal spacing."""
    truth = disc_heart(np.array([1.0, 0.0]))
    truth = np.pad(truth, ((0, 0), (0, 0), (9, 30), (40, 13)))
    # A smooth shading, so that no two pixels have quite the same signal.
    y, x = np.mgrid[: truth.shape[2], : truth.shape[3]]
    pixels = (SIGNAL[truth] * (1 + 0.0007 * x + 0.0003 * y)).astype(np.float32)
    cine = replace(cine_of(truth, spacing_mm=(1.7, 1.3), pair=True), pixels=pixels)
    return Heart(name="disc", group="disc", cine=cine, truth=truth, ef_percent=60, edv_ml=100)


def predictor_for(cine: CineStack) -> ByBrightness:
    scaling = Scaling.of(cine.pixels)
    return ByBrightness(scaling.apply(SIGNAL * 1.06))


def labels_of(cine: CineStack, predictor: ByBrightness, card: ModelCard) -> np.ndarray:
    return segment_cine(cine, predictor, card, "0" * 64).labels


def test_labels_and_quality_of_a_heart_that_is_easy(card: ModelCard) -> None:
    image = heart()
    result = segment_cine(image.cine, predictor_for(image.cine), card, "0" * 64)
    assert (result.labels == image.truth).mean() > 0.97  # borders are mixed signal
    assert result.quality is not None
    assert result.quality.frames == (0, 1)
    assert result.quality.predicted_dice is None  # the card has no calibration
    kinds = [f"{kind}_dice" for kind in ("view", "expected", "shift")]
    wanted = {f"{kind}_{name}" for kind in kinds for name in ("lv", "myo", "rv")}
    assert wanted < set(result.quality.features)
    assert min(result.quality.features[name] for name in wanted) > 0.95


@pytest.mark.parametrize("number", range(1, 8))
def test_turned_and_mirrored_images_give_the_same_labels(card: ModelCard, number: int) -> None:
    image = heart()
    predictor = predictor_for(image.cine)
    plain = labels_of(image.cine, predictor, card)
    turned = labels_of(perturbed(image, "orientation", number).cine, predictor, card)
    assert np.array_equal(turned_back(turned, number), plain), DIHEDRAL[number][0]


@pytest.mark.parametrize(
    ("name", "severity"), [("scale", 0.1), ("scale", 1000), ("scale", 1e-6), ("offset", 500)]
)
def test_the_unit_of_intensity_does_not_matter(card: ModelCard, name: str, severity: float) -> None:
    image = heart()
    predictor = predictor_for(image.cine)
    changed = perturbed(image, name, severity)
    assert not np.array_equal(changed.cine.pixels, image.cine.pixels)
    # The crop reaches beyond the field of view, where a fixed 0 would be another tissue.
    assert np.array_equal(
        labels_of(changed.cine, predictor, card), labels_of(image.cine, predictor, card)
    )


def test_labels_and_quality_are_the_same_bytes_with_more_workers(tmp_path: Path) -> None:
    document = {**DOCUMENT, "views": 4, "crop": 96}
    model = load_model(write_model(tmp_path, document))
    results = []
    for workers in (1, 3):
        predictor = model.predictor(device="cpu", workers=workers)
        results.append(segment_cine(heart().cine, predictor, model.card, model.sha256))
        predictor.close()
    one, three = results
    assert np.array_equal(one.labels, three.labels)
    assert one.quality == three.quality
    assert one.quality is not None
    assert len(one.quality.features) == 13


def test_a_mirrored_stack_is_scaled_alike() -> None:
    images = np.random.default_rng(0).gamma(2, 100, (2, 3, 64, 96)).astype(np.float32)
    plain = Scaling.of(images)
    for _, turn in DIHEDRAL:
        other = Scaling.of(turn(images))
        assert (other.low, other.high) == (plain.low, plain.high)
        assert other.mean == pytest.approx(plain.mean, rel=1e-12)
    flat = Scaling.of(np.full((1, 1, 8, 8), 7.0, dtype=np.float32))
    assert np.array_equal(flat.apply(np.full((8, 8), 7.0)), np.zeros((8, 8)))


def test_no_heart_is_told(card: ModelCard) -> None:
    image = heart()
    nothing = replace(image.cine, pixels=np.full_like(image.cine.pixels, 10))
    predictor = ByBrightness(np.array([0.0, 50.0, 60.0, 70.0]))
    assert find_heart(nothing, predictor, card) is None
    result = segment_cine(nothing, predictor, card, "0" * 64)
    assert [(f.code, f.level) for f in result.flags] == [("heart-not-found", "review")]
    assert not result.labels.any()


@pytest.mark.parametrize("name", sorted(PERTURBATIONS))
def test_a_perturbation_keeps_what_it_should(name: str) -> None:
    """Bytes repeat, shapes fit, and the truth moves with the pixels."""
    image = heart()
    severities = PERTURBATIONS[name].severities
    for severity in {severities[0], severities[-1]}:
        one, again = (perturbed(image, name, severity) for _ in range(2))
        assert np.array_equal(one.cine.pixels, again.cine.pixels)
        assert one.cine.pixels.shape == one.truth.shape
        assert len(one.cine.slice_weights_mm) == one.truth.shape[1]
        assert np.isfinite(one.cine.pixels).all()
        assert one.cine.pixels.dtype == np.float32
        geometric = name in {
            "orientation", "cropped", "cut", "widened-dark", "slices-moved", "middle-lost",
            "end-lost",
        }  # fmt: skip
        if geometric:  # every tissue still has its own brightness
            for label, level in enumerate(SIGNAL[1:], start=1):
                own = one.cine.pixels[one.truth == label]
                assert len(own)
                assert own == pytest.approx(1.06 * level, rel=0.07)
        elif name != "widened-mirrored":
            assert np.array_equal(one.truth, image.truth)
