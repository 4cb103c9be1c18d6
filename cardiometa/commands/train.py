"""``cardiometa model train``: labelled hearts in, one model file with its card out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from ..files import canonical_json, read_json, sha256_bytes, write_bytes, write_text
from ..segmentation.model import CLASS_LABELS, FORMAT, model_bytes
from ..segmentation.options import TrainOptions
from ..segmentation.training import Trainer
from ..segmentation.training_data import (
    Pack,
    Recipe,
    Volume,
    load,
    pack_bytes,
    phantoms,
    read_pairs,
    read_slices,
)

INTENDED_USE = (
    "Research use: harmonised measurement of short-axis cine MRI of adults for pooled analyses. "
    "Not a medical device; not for the care of a patient."
)


def pack(options: TrainOptions) -> Path:
    """The packed file in the run's folder; made once, kept for a resumed run."""
    if options.packed is not None:
        return options.packed
    plan = {
        "label_order": options.label_order,
        "hold_out": sorted(options.hold_out),
        "exclude": sorted(options.exclude),
        "phantoms": options.phantoms,
        "slices": options.slices is not None,
    }
    path, note = options.folder / "pack.npz", options.folder / "pack.json"
    if path.exists() and note.exists():
        if read_json(note) != plan:
            raise UsageError(
                "The folder contains slices packed with other options.",
                hint="Choose another --folder for another training set.",
            )
        return path
    volumes: list[Iterable[Volume]] = [read_pairs(options.pairs, options.label_order)]
    if options.slices is not None:
        volumes.append(read_slices(options.slices, options.hold_out, options.exclude))
    if options.phantoms:
        volumes.append(phantoms(options.phantoms, seed=1, held_out=options.phantoms // 5))
    write_bytes(path, pack_bytes(itertools.chain.from_iterable(volumes)))
    write_text(note, canonical_json(plan))
    return path


def card_document(
    options: TrainOptions, recipe: Recipe, data: Pack, last: Mapping[str, Any], data_hash: str
) -> dict[str, Any]:
    """The card of a trained network: data, held-out patients, recipe, accuracy, limits."""
    folds = recipe.folds
    held_out = sorted(
        {str(p) for kind in (0, 1) for p in data.patient[data.held_out_rows(folds, kind)]}
    )
    counts = {
        name: len(np.unique(data.patient[data.training_rows(folds, kind)]))
        for kind, name in enumerate(("all three structures", "LV cavity only", "phantoms"))
    }
    scores = {key: round(float(v), 4) for key, v in last.items() if "_" in key}
    return {
        "format": FORMAT,
        "id": options.model_id,
        "description": "Short-axis cine MRI: LV cavity (papillary muscles inside), LV "
        "myocardium and RV cavity, by one 2-D U-Net that sees each slice between its neighbours.",
        "classes": list(CLASS_LABELS),
        "network": {
            "name": "heart-unet",
            "widths": list(recipe.widths),
            "context_slices": recipe.context_slices,
            "unshuffle": recipe.unshuffle,
        },
        "spacing_mm": recipe.spacing_mm,
        "crop": recipe.crop,
        "views": 2,
        "normalisation": "clip-1-99-zscore",
        "licence": options.licence,
        "intended_use": INTENDED_USE,
        "rv_vendors": list(options.vendors),
        "training": {
            "data": [f"{count} patients labelled with {name}" for name, count in counts.items()],
            "pack_sha256": data_hash,
            "held_out": held_out,
            # By which `evaluate` recognises participants that the model was trained on.
            "participants": {
                folder.name: sorted(set(map(str, data.patient[data.training_rows(folds, kind)])))
                for kind, folder in enumerate((options.pairs, options.slices))
                if folder is not None
            },
            "recipe": recipe.to_dict(),
            "epochs_done": int(last.get("epoch", 0)),
            "loss": round(float(last.get("loss", 0.0)), 4),
        },
        "accuracy": scores,
        "limits": [
            (
                "RV labels come from one hospital's scanners of one vendor; of other vendors the "
                "RV is unvalidated, and a run with such scans says so."
            ),
            (
                "Trained on patients and volunteers of one European hospital; accuracy by "
                "ethnicity is unknown."
            ),
            "Base and apex: the choice of the last slice is that of the training labels.",
            "No congenital disease, no severe artefacts, no late enhancement images.",
        ],
    }


def train(options: TrainOptions, device: str = "cpu") -> dict[str, Any]:
    """Pack, train (or resume), validate, write the model file; returns the last record."""
    try:
        recipe = Recipe.from_dict(dict(options.settings or {}))
    except (TypeError, ValueError) as error:
        raise UsageError(f"The recipe cannot be used: {error}") from error
    path = pack(options)
    data = load([path])
    trainer = Trainer(data, recipe, options.folder, device)
    try:
        resumed = trainer.resume()
    except ValueError as error:
        raise UsageError(f"{error}.") from error
    if not resumed and options.start_from is not None:
        state = torch.load(options.start_from, map_location="cpu", weights_only=True)
        trainer.start_from(state["average"])
    last = trainer.run(every=options.validate_every)
    tensors = {
        name: value.detach().cpu().numpy()
        for name, value in trainer.average.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    # The first class is the background, of which each square of pixels has one logit a pixel.
    bias = tensors["head.bias"].copy()
    bias[: recipe.unshuffle**2] += recipe.background
    tensors["head.bias"] = bias
    document = card_document(options, recipe, data, last, sha256_bytes(path.read_bytes()))
    write_bytes(options.out, model_bytes(tensors, document))
    return {**last, "model": options.out.name}
