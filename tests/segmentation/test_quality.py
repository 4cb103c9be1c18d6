"""The features of doubt by hand, and the calibration that adds them up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.errors import ModelError
from cardiometa.segmentation.inference import border_confidence, expectation_sums
from cardiometa.segmentation.model import QUALITY_KIND, load_model, parse_quality
from cardiometa.segmentation.quality import (
    SHIFT,
    extreme_frames,
    label_features,
    named,
    predict_views,
    scan_quality,
    shift_overlap,
)
from tests.bench.calibrate_quality import add_block, auc, fit, left_out, logit, predict
from tests.kit.labelled import disc_heart
from tests.segmentation.test_model import DOCUMENT, crops, write_model

BLOCK = {
    "kind": QUALITY_KIND,
    "weights": {"view_dice_lv": 0.5, "expected_dice_rv": 0.25},
    "intercept": -0.5,
    "clip": 0.01,
}


def sums_of(labels: np.ndarray, sure: float) -> np.ndarray:
    """The expectation of probabilities that give each label ``sure`` and share the rest."""
    each = [np.where(labels == k, sure, (1 - sure) / 3) for k in range(4)]
    probability = np.stack(each, axis=1).astype(np.float32)
    return expectation_sums(torch.from_numpy(probability), torch.from_numpy(labels)).numpy()


def test_expected_dice_of_sure_and_unsure_labels() -> None:
    labels = np.zeros((2, 8, 8), dtype=int)
    labels[:, 2:4, 2:4] = 1
    labels[:, 5:7, 2:6] = 3
    sure = named("expected_dice", sums_of(labels, 1.0))
    assert sure == {"expected_dice_lv": 1, "expected_dice_myo": 0, "expected_dice_rv": 1}
    unsure = named("expected_dice", sums_of(labels, 0.7))
    # 4 labelled pixels of 64: their probability is 2.8, that of all others 6.
    assert unsure["expected_dice_lv"] == pytest.approx(2 * 2.8 / (2.8 + 6 + 4), rel=1e-5)


def test_confidence_is_that_of_the_border_alone() -> None:
    labels = torch.zeros((2, 9, 9), dtype=torch.uint8)
    labels[0, 3:6, 3:6] = 1
    best = torch.full((2, 9, 9), 1.0)
    best[0, 2:7, 2:7] = 0.5  # the square, and the ring around it but for its corners
    best[0, 4, 4] = 0.9  # its middle lies off the border
    best[0, 2, 2] = 0.1  # so does a corner of the ring
    found = border_confidence(best, labels).numpy()
    assert found[0] == pytest.approx(0.5)
    assert np.isnan(found[1])


def test_a_moved_crop_agrees_where_the_network_does() -> None:
    rng = np.random.default_rng(0)
    field = rng.integers(0, 4, (3, 80, 80)).astype(np.uint8)
    still, moved = field[:, 8:72, 8:72], field[:, 8 + SHIFT[0] : 72 + SHIFT[0], 5:69]
    assert SHIFT[1] == -3
    assert set(named("shift_dice", shift_overlap(still, moved)).values()) == {1.0}
    other = np.where(moved == 2, 0, moved)
    assert named("shift_dice", shift_overlap(still, other)) == {
        "shift_dice_lv": 1.0,
        "shift_dice_myo": 0.0,
        "shift_dice_rv": 1.0,
    }


def test_frames_that_are_looked_at() -> None:
    heart = disc_heart()
    assert extreme_frames(heart) == (0, 8)
    assert extreme_frames(heart[[8, 0]]) == (0, 1)  # a pair keeps its order
    assert extreme_frames(np.zeros_like(heart)) == (0, 1)
    assert extreme_frames(heart[:1]) == (0, 0)


def test_plausibility_of_labels() -> None:
    volume = disc_heart()[0]
    good = label_features(volume, volume)
    assert good["kept_share"] == good["enclosed_share"] == good["neighbour_overlap"] == 1
    slipped = volume.copy()
    slipped[4] = np.roll(slipped[4], 20, axis=0)
    raw = volume.copy()
    raw[:, :10, :10] = 3
    worse = label_features(raw, slipped)
    assert all(0 < worse[name] < good[name] for name in ("kept_share", "neighbour_overlap"))
    open_wall = np.where((volume == 2) & (np.arange(96) > 56), 0, volume)
    assert label_features(volume, open_wall)["enclosed_share"] < 0.6
    assert set(label_features(volume * 0, volume * 0).values()) == {0.0}


def test_views_agree_with_themselves_and_not_with_others(tmp_path: Path) -> None:
    one = load_model(write_model(tmp_path)).predictor(device="cpu", workers=1)
    probability, agreement = one.predict_views(crops(11))
    one.close()
    assert np.array_equal(agreement[..., 0], agreement[..., 1])  # one view: its own mean
    four = load_model(write_model(tmp_path, {**DOCUMENT, "views": 4}))
    predictor = four.predictor(device="cpu", workers=2)
    mean, apart = predictor.predict_views(crops(11))
    single, _ = predictor.predict_views(crops(11), views=1)
    alone = [predictor.predict_views(crops(11)[i : i + 1])[1][0] for i in range(11)]
    predictor.close()
    assert np.array_equal(single, probability)
    assert np.array_equal(apart, np.stack(alone))  # whatever else is in the batch
    assert (apart[..., 0] < apart[..., 1]).all()
    # By hand, from the views themselves.
    both = 0.0
    reference = load_model(write_model(tmp_path)).predictor(device="cpu", workers=1)
    for axes in ((), (-1,), (-2,), (-1, -2)):
        view = np.flip(
            reference.probabilities(np.ascontiguousarray(np.flip(crops(11), axes))), axes
        )
        both += 2 * np.minimum(view, mean)[:, 1:].sum(axis=(2, 3))
    reference.close()
    assert apart[..., 0] == pytest.approx(both, rel=1e-4)


class Plain:
    """A predictor that cannot tell how far its views agree."""

    context_slices = 3

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        return np.full((len(x), 4, *x.shape[2:]), 0.25, dtype=np.float32)


def test_without_views_there_is_no_prediction(tmp_path: Path) -> None:
    card = load_model(write_model(tmp_path, {**DOCUMENT, "quality": BLOCK})).card
    _, agreement = predict_views(Plain(), crops(2))
    features = named("view_dice", agreement) | {"expected_dice_rv": 0.9}
    quality = scan_quality(card, (0, 1), [features, features])
    assert dict(quality.features) == {"expected_dice_rv": 0.9}
    assert quality.predicted_dice is None


def test_a_card_predicts_by_its_block_alone(tmp_path: Path) -> None:
    features = {"view_dice_lv": 0.9, "expected_dice_rv": 0.999, "kept_share": 1.0}
    plain = load_model(write_model(tmp_path)).card
    assert plain.quality is None
    assert scan_quality(plain, (0, 1), [features, features]).predicted_dice is None
    card = load_model(write_model(tmp_path, {**DOCUMENT, "quality": BLOCK})).card
    eta = -0.5 + 0.5 * np.log(9) + 0.25 * np.log(99)  # the second is clipped to 0.99
    found = scan_quality(card, (0, 1), [features, features]).predicted_dice
    assert found == pytest.approx(1 / (1 + np.exp(-eta)))


@settings(max_examples=50, deadline=None)
@given(low=st.floats(0, 1), high=st.floats(0, 1), name=st.sampled_from(sorted(BLOCK["weights"])))
def test_a_better_feature_never_gives_a_worse_score(low: float, high: float, name: str) -> None:
    calibration = parse_quality(BLOCK)
    others = dict.fromkeys(BLOCK["weights"], 0.8)
    worse, better = (
        calibration.predict(others | {name: value}) for value in (min(low, high), max(low, high))
    )
    assert 0 < worse <= better < 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "forest"}, "kind"),
        ({"weights": {}}, "no usable numbers"),
        ({"weights": {"view_dice_lv": True}}, "no usable numbers"),
        ({"weights": {"view_dice_lv": float("nan")}}, "no usable numbers"),
        ({"weights": {"view_dice_lv": -0.1}}, "negative weight"),
        ({"intercept": None}, "no usable numbers"),
        ({"clip": 0.5}, "no usable numbers"),
    ],
)
def test_a_block_that_cannot_be_used_is_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        write_model(tmp_path, {**DOCUMENT, "quality": {**BLOCK, **change}})


def test_a_block_is_added_without_touching_the_weights(tmp_path: Path) -> None:
    source = write_model(tmp_path)
    before = load_model(source)
    add_block(source, BLOCK, tmp_path / "new.safetensors")
    after = load_model(tmp_path / "new.safetensors")
    assert after.card.quality is not None
    assert dict(after.card.quality.weights) == BLOCK["weights"]
    assert after.sha256 != before.sha256
    assert after.card.tensors_sha256 == before.card.tensors_sha256
    documents = [json.loads(json.dumps(dict(m.card.document))) for m in (before, after)]
    assert documents[1].pop("quality") == BLOCK
    assert documents[0] == documents[1]


def test_the_fit_finds_the_curve_that_made_the_data() -> None:
    rng = np.random.default_rng(3)
    x = logit(rng.uniform(0.3, 0.99, (600, 3)))
    y = predict(x, np.array([0.6, 0.3, 0.0]), -0.4)
    weights, intercept = fit(x, y)
    assert weights == pytest.approx([0.6, 0.3, 0.0], abs=0.05)
    assert intercept == pytest.approx(-0.4, abs=0.1)
    falling, _ = fit(x, predict(x, np.array([0.6, 0.3, -0.5]), 0.0))
    assert falling[2] == 0  # a feature that speaks against all sense is left out


def test_patients_are_left_out_whole() -> None:
    """A patient with Dice unlike the others must not have taught its own prediction."""
    rng = np.random.default_rng(4)
    x = logit(rng.uniform(0.3, 0.99, (90, 2)))
    patient = np.repeat(["a", "b", "c"], 30)
    y = predict(x, np.array([0.5, 0.5]), 0.0)
    changed = np.where(patient == "c", 1 - y, y)
    own = patient == "c"
    assert left_out(x, changed, patient)[own] == pytest.approx(
        left_out(x, y, patient)[own], abs=1e-9
    )


def test_auc_by_hand() -> None:
    score = np.array([0.1, 0.4, 0.4, 0.8])
    assert auc(score, np.array([True, True, False, False])) == (2 + 1 + 0.5) / 4
    assert np.isnan(auc(score, np.zeros(4, dtype=bool)))
