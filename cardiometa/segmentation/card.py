"""The model card: what a model file says about itself. No torch here.

The model card for people: Markdown made from the card in the model file, never by hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ModelError

FORMAT = "cardiometa-model/1"
_WIDEST = 4096  # channels of a stage
QUALITY_KIND = "rising-logistic"
CLASS_LABELS: Mapping[str, int] = {
    "background": 0,
    "lv_cavity": 1,
    "lv_myocardium": 2,
    "rv_cavity": 3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityCalibration:
    """How a scan's features add up to its predicted mean Dice: a logistic curve that only rises.

    ``predict`` gives 1 / (1 + exp(-(intercept + Σ weight · logit(feature)))), the features (names
    in `segmentation.quality`) clipped to ``clip`` … 1 - ``clip``. No weight is negative: a worse
    feature never gives a better score. ``document`` is the card's whole block (training, AUC …).
    """

    weights: Mapping[str, float]
    intercept: float
    clip: float
    document: Mapping[str, Any] = field(repr=False)

    def predict(self, features: Mapping[str, float]) -> float | None:
        """The predicted mean Dice; None where a feature is missing or unknown."""
        total = self.intercept
        for name, weight in self.weights.items():
            value = features.get(name, math.nan)
            if math.isnan(value):
                return None
            share = min(max(value, self.clip), 1 - self.clip)
            total += weight * math.log(share / (1 - share))
        return 1 / (1 + math.exp(-total))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """The facts a run needs from a card, and the whole document.

    ``classes`` names the network's outputs in order: label order differs between data sets (ACDC
    has the RV first), so a card without names is refused.
    """

    model_id: str
    classes: tuple[str, ...]
    widths: tuple[int, ...]
    context_slices: int
    spacing_mm: float
    crop: int
    views: int = 1
    rv_vendors: tuple[str, ...]
    tensors_sha256: str
    quality: QualityCalibration | None = None
    document: Mapping[str, Any] = field(repr=False)

    def label_order(self) -> list[int]:
        """Position in the network's output of labels 0, 1, 2, 3."""
        return [self.classes.index(name) for name in CLASS_LABELS]


def _need(document: Mapping[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    value = document.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ModelError(
            f"The model's card has no usable {key!r}.",
            hint="Use a file written by `cardiometa model train`, which writes the card.",
        )
    return value


def parse_quality(block: Any) -> QualityCalibration:
    """The calibration of a card's ``quality`` block; raises ModelError where it is not one."""
    hint = "Make the block with tests/bench/calibrate_quality.py, or leave it out."
    if not isinstance(block, Mapping) or block.get("kind") != QUALITY_KIND:
        raise ModelError(f"The card's quality block is not of the kind {QUALITY_KIND}.", hint=hint)
    weights = block.get("weights")
    numbers = [block.get("intercept"), block.get("clip")]
    if isinstance(weights, Mapping):
        numbers += list(weights.values())
    sound = all(
        isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) < 1e300 for n in numbers
    )
    if (
        not (sound and isinstance(weights, Mapping) and weights)
        or not 0 < float(block["clip"]) < 0.5
    ):
        raise ModelError("The card's quality block has no usable numbers.", hint=hint)
    if min(weights.values()) < 0:
        raise ModelError(
            "The card's quality block has a negative weight: a worse feature would give a better "
            "score.",
            hint=hint,
        )
    return QualityCalibration(
        weights={str(name): float(weight) for name, weight in weights.items()},
        intercept=float(block["intercept"]),
        clip=float(block["clip"]),
        document=block,
    )


def parse_card(document: Any) -> ModelCard:
    """A card from its JSON document; raises ModelError naming what is missing or wrong."""
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise ModelError(f"The model file's card is not of the format {FORMAT}.")
    classes = tuple(str(name) for name in _need(document, "classes", list))
    if sorted(classes) != sorted(CLASS_LABELS):
        raise ModelError(
            f"The model's card names the classes {', '.join(classes) or '(none)'}.",
            hint=f"It must name exactly {', '.join(CLASS_LABELS)}, in the network's order.",
        )
    network = _need(document, "network", dict)
    if network.get("name") != "heart-unet":
        raise ModelError(f"The network {network.get('name')!r} is unknown to this version.")
    spacing, crop = _need(document, "spacing_mm", (int, float)), _need(document, "crop", int)
    widths = tuple(_need(network, "widths", list))
    vendors = document.get("rv_vendors", [])
    if not widths or not all(type(width) is int and 0 < width <= _WIDEST for width in widths):
        raise ModelError(f"The model's card has the widths {list(widths)!r}.")
    if not isinstance(vendors, list) or not all(isinstance(name, str) for name in vendors):
        raise ModelError("The model's card has no list of names under 'rv_vendors'.")
    context = int(_need(network, "context_slices", int))
    views = document.get("views", 1)
    if views not in (1, 2, 4):
        raise ModelError(f"The model's card has views {views!r}.", hint="Use 1, 2 or 4.")
    if not 0.5 <= spacing <= 4 or crop % 32 or not 64 <= crop <= 512 or context not in (1, 3):
        raise ModelError(
            f"The model's card has spacing {spacing} mm, crop {crop}, context {context}.",
            hint="Spacing must be 0.5 to 4 mm, the crop a multiple of 32, the context 1 or 3.",
        )
    if document.get("normalisation") != "clip-1-99-zscore":
        raise ModelError(f"The normalisation {document.get('normalisation')!r} is unknown.")
    return ModelCard(
        model_id=str(_need(document, "id", str)),
        classes=classes,
        widths=widths,
        context_slices=context,
        spacing_mm=float(spacing),
        crop=crop,
        views=int(views),
        rv_vendors=tuple(vendors),
        tensors_sha256=str(_need(document, "tensors_sha256", str)),
        quality=parse_quality(document["quality"]) if "quality" in document else None,
        document=document,
    )


_ON_GRID = "at the network's grid before any cleaning"
_STRUCTURES = (("lv", "LV cavity"), ("myo", "LV myocardium"), ("rv", "RV cavity"))


def _list(items: Iterable[Any]) -> list[str]:
    return [f"- {item}" for item in items]


def _accuracy(accuracy: Mapping[str, Any]) -> list[str]:
    lines = ["| structure | ED | ES | mean |", "|---|---|---|---|"]
    for key, name in _STRUCTURES:
        cells = [accuracy.get(f"{key}_{phase}") for phase in ("ED", "ES", "mean")]
        shown = " | ".join("" if v is None else f"{v:.3f}" for v in cells)
        lines.append(f"| {name} | {shown} |")
    return lines


def _table(table: Mapping[str, Any]) -> list[str]:
    """One table of the card: its title, how it was made, columns and rows of text."""
    columns = [str(name) for name in table["columns"]]
    rows = [[str(cell) for cell in row] for row in table["rows"]]
    return [
        f"### {table['title']}",
        "",
        str(table.get("how", "")),
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def _picture(picture: Mapping[str, Any]) -> list[str]:
    return [f"![{picture['title']}]({picture['file']})", "", str(picture.get("caption", "")), ""]


def _quality(document: Mapping[str, Any]) -> list[str]:
    block = document.get("quality")
    return ["## Quality score", "", str(block["sentence"]), ""] if block else []


def card_markdown(card: ModelCard) -> str:
    """``MODEL_CARD.md`` of a model."""
    document = card.document
    training = document.get("training", {})
    lines = [
        f"# Model card: {card.model_id}",
        "",
        str(document.get("description", "")),
        "",
        f"Classes, in the network's order: {', '.join(card.classes)}.",
        (
            f"Input: short-axis slices at {card.spacing_mm} mm, {card.context_slices} slices deep, "
            f"crops of {card.crop} pixels, clipped to percentiles 1 to 99 and z-scored by scan."
        ),
        f"Weights: SHA-256 of the tensors {card.tensors_sha256}.",
        "",
        "## Licence and use",
        "",
        str(document.get("licence", "")),
        "",
        str(document.get("intended_use", "")),
        "",
        "## Training data",
        "",
        *_list(training.get("data", [])),
        "",
        "Patients held out (never trained on): " + ", ".join(training.get("held_out", [])) + ".",
        "",
        *_list(f"stage {stage}" for stage in training.get("stages", [])),
        "",
        "## Accuracy on the patients held out",
        "",
        f"Dice of whole volumes, mean over patients, {document.get('accuracy_how', _ON_GRID)}:",
        "",
        *_accuracy(document.get("accuracy", {})),
        "",
        *_list(f"{key}: {value}" for key, value in document.get("accuracy_notes", {}).items()),
        "",
        *(line for table in document.get("tables", []) for line in _table(table)),
        *(line for picture in document.get("pictures", []) for line in _picture(picture)),
        *_quality(document),
        "## Limits",
        "",
        *_list(document.get("limits", [])),
        "",
        "## Recipe",
        "",
        *_list(f"{key}: {value}" for key, value in sorted(training.get("recipe", {}).items())),
    ]
    return "\n".join(lines).rstrip() + "\n"
