from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from cardiometa.errors import ModelError, UsageError
from cardiometa.segmentation.inference import choose_device
from cardiometa.segmentation.model import (
    CLASS_LABELS,
    ERROR_MEASURES,
    ERROR_TERMS,
    FORMAT,
    bundled_path,
    card_markdown,
    load_model,
    model_bytes,
    parse_card,
    parse_error,
    tensors_of,
)
from cardiometa.segmentation.network import HeartUNet, fold_batch_norm

NETWORK = {"name": "heart-unet", "widths": [4, 8, 8, 8, 8, 8], "context_slices": 3}
DOCUMENT = {
    "format": FORMAT,
    "id": "tiny",
    "classes": list(CLASS_LABELS),
    "network": NETWORK,
    "spacing_mm": 1.5,
    "crop": 64,
    "normalisation": "clip-1-99-zscore",
    "rv_vendors": ["Siemens"],
}


def tiny_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    network = HeartUNet([4, 8, 8, 8, 8, 8], 3)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
    state = network.state_dict()
    return {k: v.numpy() for k, v in state.items() if not k.endswith("num_batches_tracked")}


def write_model(folder: Path, document: dict[str, object] | None = None) -> Path:
    path = folder / "tiny.safetensors"
    path.write_bytes(model_bytes(tiny_tensors(), document or DOCUMENT))
    return path


def crops(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3, 64, 64)).astype(np.float32)


def test_a_model_file_holds_its_card_and_round_trips(tmp_path: Path) -> None:
    model = load_model(write_model(tmp_path))
    assert model.card.model_id == "tiny"
    assert model.card.rv_vendors == ("Siemens",)
    for name, value in tiny_tensors().items():
        assert np.array_equal(tensors_of(model)[name], value)
    assert "CC BY" in card_markdown(load_model().card)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_probabilities_do_not_depend_on_batch_mates_or_workers(
    tmp_path: Path, workers: int
) -> None:
    predictor = load_model(write_model(tmp_path)).predictor(device="cpu", workers=workers)
    x = crops(21)
    together = predictor.probabilities(x)
    alone = np.concatenate([predictor.probabilities(x[i : i + 1]) for i in range(21)])
    predictor.close()
    reference = load_model(write_model(tmp_path)).predictor(device="cpu", workers=1)
    assert np.array_equal(together, alone)
    assert np.array_equal(together, reference.probabilities(x[::-1])[::-1])
    reference.close()
    assert together.shape == (21, 4, 64, 64)
    assert np.allclose(together.sum(axis=1), 1, atol=1e-5)


def test_classes_are_taken_by_name(tmp_path: Path) -> None:
    """ACDC's order (RV first) in the card moves the network's outputs to ours."""
    x = crops(2)
    ours = load_model(write_model(tmp_path)).predictor(device="cpu", workers=1)
    wanted = ours.probabilities(x)
    ours.close()
    order = ["background", "rv_cavity", "lv_myocardium", "lv_cavity"]
    theirs = load_model(write_model(tmp_path, {**DOCUMENT, "classes": order}))
    predictor = theirs.predictor(device="cpu", workers=1)
    assert np.array_equal(predictor.probabilities(x)[:, [0, 3, 2, 1]], wanted)
    predictor.close()


def test_folding_batch_norm_changes_nothing_but_rounding() -> None:
    network = HeartUNet([4, 8, 8, 8, 8, 8], 3)
    network.load_state_dict(
        {k: torch.from_numpy(v) for k, v in tiny_tensors().items()}, strict=False
    )
    network.eval()
    x = torch.from_numpy(crops(2))
    with torch.inference_mode():
        before = network(x)
        after = fold_batch_norm(network)(x)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    assert torch.allclose(before, after, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ["a", "b", "c", "d"]}, "names the classes"),
        ({"classes": None}, "classes"),
        ({"format": "other/1"}, "format"),
        ({"spacing_mm": 15.0}, "spacing"),
        ({"normalisation": "minmax"}, "normalisation"),
        ({"network": {"name": "resnet"}}, "unknown to this version"),
        ({"network": {**NETWORK, "unshuffle": 3}}, "unshuffle 3"),
        ({"network": {**NETWORK, "unshuffle": 2}}, "unshuffle 2 and 6 widths"),
        ({"network": {**NETWORK, "widths": [4] * 7}}, "7 widths"),
    ],
)
def test_a_card_that_does_not_say_enough_is_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        write_model(tmp_path, {**DOCUMENT, **change})


def test_weights_without_a_card_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save

    path = tmp_path / "bare.safetensors"
    path.write_bytes(save(tiny_tensors()))
    with pytest.raises(ModelError, match="no card"):
        load_model(path)


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = write_model(tmp_path)
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", bytes(data[:8]))
    data[8 + length + 100] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(ModelError, match="not those"):
        load_model(path).predictor(device="cpu", workers=1)
    for bad in (b"", b"PK\3\4 not a model", bytes(data[:40]), struct.pack("<Q", 2**60)):
        path.write_bytes(bad)
        with pytest.raises(ModelError):
            load_model(path)
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(tmp_path / "absent.safetensors")


def test_an_unknown_device_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="unknown"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="has none"):
            choose_device("cuda")


def test_the_bundled_model_and_its_card_agree() -> None:
    model = load_model()
    tensors_of(model)
    folder = bundled_path().parent
    assert (folder / "MODEL_CARD.md").read_text() == card_markdown(model.card)
    assert json.loads((folder / "model.json").read_text()) == json.loads(
        json.dumps(model.card.document)
    )
    assert bundled_path().stat().st_size <= 10_000_000
    assert "CC BY-NC-SA 4.0" in str(model.card.document["licence"])


def test_four_views_see_a_mirrored_slice_alike(tmp_path: Path) -> None:
    """With 4 views the probabilities of a mirrored crop are the mirrored probabilities."""
    path = write_model(tmp_path, {**DOCUMENT, "views": 4})
    predictor = load_model(path).predictor(device="cpu", workers=1)
    x = crops(3)
    straight = predictor.probabilities(x)
    mirrored = predictor.probabilities(np.ascontiguousarray(x[..., ::-1]))[..., ::-1]
    predictor.close()
    assert np.allclose(straight, mirrored, atol=1e-5)
    one = load_model(write_model(tmp_path)).predictor(device="cpu", workers=1)
    assert not np.allclose(straight, one.probabilities(x), atol=1e-3)
    one.close()
    with pytest.raises(ModelError, match="views"):
        write_model(tmp_path, {**DOCUMENT, "views": 3})


ERROR = {
    "kind": "root-sum-of-squares",
    "measures": {
        name: {**dict.fromkeys(ERROR_TERMS, 0.5), "scale": 1.2} for name in ERROR_MEASURES
    },
    "vendors": ["Siemens"],
    "elsewhere": {"lv": 1.5, "rv": 2},
    "sentence": "Fitted on no heart at all.",
}


NEGATIVE = {**dict.fromkeys(ERROR_TERMS, -0.1), "scale": 1}


def test_an_error_section_is_read_and_shown() -> None:
    error = parse_error(ERROR)
    assert error.measures["lv_ef_percent"]["scale"] == 1.2
    assert error.elsewhere == {"lv": 1.5, "rv": 2.0}
    card = parse_card({**DOCUMENT, "tensors_sha256": "0", "error": ERROR})
    page = card_markdown(card)
    assert "## Error of each measure\n\nFitted on no heart at all." in page
    assert "| rv_sv_ml | 0.5 | 0.5 | 0.5 | 0.5 | 0.5 | 1.2 |" in page
    assert parse_card({**DOCUMENT, "tensors_sha256": "0"}).error is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "other"}, "kind"),
        ({"vendors": "Siemens"}, "vendors"),
        ({"measures": {}}, "lv_edv_ml"),
        ({"measures": {**ERROR["measures"], "rv_ef_percent": {"scale": 1}}}, "rv_ef_percent"),
        ({"measures": {**ERROR["measures"], "lv_mass_g": NEGATIVE}}, "lv_mass_g"),
        ({"elsewhere": {"lv": 0.9, "rv": 1}}, "elsewhere"),
        ({"elsewhere": {"lv": float("nan"), "rv": 1}}, "elsewhere"),
        ({"elsewhere": {"lv": True, "rv": 1}}, "elsewhere"),
    ],
)  # fmt: skip
def test_an_error_section_that_cannot_be_used_is_refused(change: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        parse_card({**DOCUMENT, "tensors_sha256": "0", "error": {**ERROR, **change}})
