"""``segment --model``: a group's own weights, what comes from their card, and two models in OUT."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cardiometa.errors import ModelError, UsageError
from cardiometa.segmentation.model import CLASS_LABELS, FORMAT, load_model, model_bytes, parse_card
from cardiometa.segmentation.network import HeartUNet
from cardiometa.segmentation.segment import segment_cine
from tests.kit.labelled import cine_of
from tests.kit.small_runs import MASK, corrected_record, load, record, run, save, scan, table

CARD = {
    "format": FORMAT,
    "id": "a",
    "classes": list(CLASS_LABELS),
    "network": {"name": "heart-unet", "widths": [4, 8, 8, 8, 8, 8], "context_slices": 1},
    "spacing_mm": 1.5,
    "crop": 64,
    "normalisation": "clip-1-99-zscore",
    "rv_vendors": [],
}


def model_file(folder: Path, name: str, **changes) -> Path:
    """Weights of zeros, so that each class has its bias: background everywhere."""
    state = HeartUNet([4, 8, 8, 8, 8, 8], 1).state_dict()
    tensors = {k: v.numpy() * 0 for k, v in state.items() if not k.endswith("num_batches_tracked")}
    tensors = {k: v + 1 if k.endswith("running_var") else v for k, v in tensors.items()}
    classes = changes.get("classes", CARD["classes"])
    tensors["head.bias"][classes.index("background")] = 3.0
    path = folder / f"{name}.safetensors"
    path.write_bytes(model_bytes(tensors, {**CARD, "id": name, **changes}))
    return path


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A cohort of two small cines of noise."""
    random = np.random.default_rng(2)
    for person in ("P001", "P002"):
        path = tmp_path / "cohort" / "ALPHA" / person / "cine.nii.gz"
        path.parent.mkdir(parents=True)
        values = random.normal(100, 5, (40, 36, 5, 8)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.diag([2.0, 2.0, 10.0, 1.0])), path)
    return tmp_path / "cohort"


def test_two_models_meet_in_one_output_only_when_asked_for(two: Path, tmp_path: Path) -> None:
    a, b = model_file(tmp_path, "a"), model_file(tmp_path, "b", spacing_mm=2.0)
    out, kept = tmp_path / "out", tmp_path / "kept"
    kept.mkdir()
    shutil.move(two / "ALPHA" / "P002", kept)
    run(two, out, model=a)
    shutil.move(kept / "P002", two / "ALPHA")
    before = (scan(out, "P001") / "result.json").read_bytes()
    with pytest.raises(UsageError, match="model_sha256"):
        run(two, out, model=b)
    assert (scan(out, "P001") / "result.json").read_bytes() == before
    outcome = run(two, out, model=b, allow_mixed_models=True)
    assert outcome.already_done == 1
    assert (scan(out, "P001") / "result.json").read_bytes() == before
    rows = table(out)
    hashes = {name: load_model(path).sha256 for name, path in (("a", a), ("b", b))}
    assert {p: (r["model_id"], r["model_sha256"]) for p, r in rows.items()} == {
        "P001": ("a", hashes["a"]),
        "P002": ("b", hashes["b"]),
    }
    for person, name in (("P001", "a"), ("P002", "b")):
        document = record(out, person)
        assert document["model"] == {"id": name, "sha256": hashes[name]}
    assert "segmented with 2 models" in (out / "report.html").read_text()
    whole = json.loads((out / "cardiometa.json").read_text())
    assert whole["run"]["models"] == sorted(hashes.values())
    assert "model_sha256" not in whole["options"]
    # From here on both kinds stay, whichever model is named, and only while it is asked for.
    assert run(two, out, model=a, allow_mixed_models=True).already_done == 2
    with pytest.raises(UsageError, match="model_sha256"):
        run(two, out, model=a)
    assert run(two, out, model=a, overwrite=True).already_done == 1
    assert {row["model_id"] for row in table(out).values()} == {"a"}


def test_a_correction_keeps_the_model_it_was_made_on(two: Path, tmp_path: Path) -> None:
    a, b = model_file(tmp_path, "a"), model_file(tmp_path, "b", spacing_mm=2.0)
    out = tmp_path / "out"
    run(two, out, model=a)
    labels, affine = load(scan(out, "P001") / MASK)
    labels[:, 1:4, 10:20, 10:20] = 2
    labels[:, 1:4, 13:17, 13:17] = 1
    save(labels, affine, tmp_path / "mended" / "ALPHA" / "P001" / "baseline" / MASK)
    run(two, out, tmp_path / "mended", model=b, allow_mixed_models=True)
    document = corrected_record(out, "P001")
    assert document["model"]["id"] == "a"
    assert document["options"]["model_sha256"] == load_model(a).sha256
    assert document["correction"]["voxels_changed"] == 8 * 3 * 100


class Watching:
    """A predictor that keeps what it was shown and finds one disc of heart in it."""

    context_slices = 1

    def __init__(self) -> None:
        self.shown: list[np.ndarray] = []

    def probabilities(self, crops: np.ndarray) -> np.ndarray:
        self.shown.append(crops)
        probability = np.zeros((len(crops), 4, *crops.shape[2:]), dtype=np.float32)
        bright = crops[:, 0] > 1
        probability[:, 1], probability[:, 0] = bright, ~bright
        return probability


def bright_disc(radius_mm: float = 24.0):
    labels = np.zeros((8, 5, 96, 96), dtype=np.uint8)
    cine = cine_of(labels, spacing_mm=(1.5, 1.5))
    rows, columns = np.mgrid[:96, :96] * 1.5
    cine.pixels[...] = np.hypot(rows - 72, columns - 72) < radius_mm
    return cine


@pytest.mark.parametrize("spacing", [1.0, 1.5, 2.5])
def test_the_network_sees_the_heart_at_the_cards_spacing(spacing: float) -> None:
    card = parse_card({**CARD, "spacing_mm": spacing, "tensors_sha256": "0"})
    network = Watching()
    segment_cine(bright_disc(), network, card, "0" * 64)
    last = network.shown[-1][0, 0]
    radius_mm = np.sqrt((last > (last.min() + last.max()) / 2).sum() / np.pi) * spacing
    assert radius_mm == pytest.approx(24, abs=1.5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"normalisation": "none"}, "normalisation"),
        ({"classes": ["background", "lv_cavity", "lv_myocardium", "aorta"]}, "aorta"),
        ({"classes": None}, "classes"),
        ({"spacing_mm": None}, "spacing_mm"),
    ],
)
def test_a_card_that_does_not_say_how_is_refused_before_anything_is_written(
    two: Path, tmp_path: Path, changes: dict, named: str
) -> None:
    whole = model_file(tmp_path, "whole")
    data = whole.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    card = {**json.loads(header["__metadata__"]["card"]), **changes}
    header["__metadata__"]["card"] = json.dumps({k: v for k, v in card.items() if v is not None})
    raw = json.dumps(header).encode()
    whole.write_bytes(len(raw).to_bytes(8, "little") + raw + data[8 + length :])
    with pytest.raises(ModelError, match=named):
        run(two, tmp_path / "out", model=whole)
    assert not (tmp_path / "out").exists()


def test_outputs_in_another_order_are_taken_by_name(two: Path, tmp_path: Path) -> None:
    order = ["rv_cavity", "lv_myocardium", "lv_cavity", "background"]
    run(two, tmp_path / "out", model=model_file(tmp_path, "turned", classes=order))
    labels, _ = load(scan(tmp_path / "out", "P001") / MASK)
    assert not labels.any(), "the fourth output is the background here"
