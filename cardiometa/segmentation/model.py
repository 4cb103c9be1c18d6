"""A model file: safetensors weights with the card, what the model says of itself, in its header.

Weights and card travel as one file, so that one SHA-256 covers class names, spacing and
normalisation as well as the numbers. The page for readers, ``MODEL_CARD.md``, is made from the
card. torch is imported when a network is built.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError, UsageError
from ..files import canonical_json, sha256_bytes

if TYPE_CHECKING:
    from .inference import TorchPredictor
    from .network import HeartUNet

FORMAT = "cardiometa-model/1"
QUALITY_KIND = "rising-logistic"
ERROR_KIND = "root-sum-of-squares"
ERROR_TERMS = ("constant", "size", "views", "basal", "apical")
ERROR_MEASURES = (
    *("lv_edv_ml", "lv_esv_ml", "lv_sv_ml", "lv_ef_percent", "lv_mass_g"),
    *("rv_edv_ml", "rv_esv_ml", "rv_sv_ml", "rv_ef_percent"),
)
# Their SDs follow from those of mass and EF (`measurement.error.wall_deviations`).
PROPAGATED_MEASURES = ("lv_wall_thickness_max_mm", "lv_gcs_percent")
BUNDLED = "cardiometa-sax.safetensors"
CLASS_LABELS: Mapping[str, int] = {
    "background": 0,
    "lv_cavity": 1,
    "lv_myocardium": 2,
    "rv_cavity": 3,
}
_WIDEST = 4096  # channels of a stage
_MAX_HEADER = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityCalibration:
    """How a scan's features add up to its predicted mean Dice: a logistic curve that only rises.

    ``predict`` gives 1 / (1 + exp(-(intercept + Σ weight · logit(feature)))), the features (names
    in `segmentation.quality`) clipped to ``clip`` … 1 - ``clip``. No weight is negative: a worse
    feature never gives a better score. ``document`` is the card's full block (training, AUC …).
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
class ErrorModel:
    """How a scan's doubts add up to the SD of each measure's error (`measurement.error`).

    ``measures``: by measure the coefficient of each of `ERROR_TERMS` and the ``scale`` that makes
    95 % intervals cover; ``vendors``: makers of the scanners of the hearts they were fitted on;
    ``elsewhere``: the factor of the SD for other makers, of ``lv`` and of ``rv`` measures;
    ``propagated``: the scale of the SDs that follow from others' (wall thickness, strain), 1 where
    a card has none.
    ``document`` is the card's full section (evidence …).
    """

    measures: Mapping[str, Mapping[str, float]]
    vendors: tuple[str, ...]
    elsewhere: Mapping[str, float]
    document: Mapping[str, Any] = field(repr=False)
    propagated: Mapping[str, float] = field(default_factory=dict)

    def knows(self, vendor: str | None) -> bool:
        """True for a maker of the scanners that the coefficients were fitted on."""
        return vendor_listed(vendor, self.vendors)


def vendor_listed(vendor: str | None, known: Iterable[str]) -> bool:
    """True where the makers ``known`` have this one.

    Names are compared without case, and a longer name passes (``SIEMENS Healthineers`` for
    ``Siemens``). An unknown maker is none of them.
    """
    words = (vendor or "").casefold().split()
    wanted = (name.casefold().split() for name in known)
    return any(one and words[: len(one)] == one for one in wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """The facts a run needs from a card, and the complete document.

    ``classes`` names the network's outputs in order: label order differs between data sets (ACDC
    has the RV first), so a card without names is refused.
    """

    model_id: str
    classes: tuple[str, ...]
    widths: tuple[int, ...]
    context_slices: int
    unshuffle: int = 1
    spacing_mm: float
    crop: int
    views: int = 1
    rv_vendors: tuple[str, ...]
    tensors_sha256: str
    quality: QualityCalibration | None = None
    error: ErrorModel | None = None
    document: Mapping[str, Any] = field(repr=False)

    def label_order(self) -> list[int]:
        """Position in the network's output of labels 0, 1, 2, 3."""
        return [self.classes.index(name) for name in CLASS_LABELS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A checked model file in memory: the card, the file's hash, its bytes."""

    card: ModelCard
    sha256: str
    data: bytes

    def network(self) -> HeartUNet:
        """The network with its weights, as it was trained."""
        import torch

        from .network import HeartUNet

        card = self.card
        network = HeartUNet(
            card.widths, card.context_slices, len(card.classes), unshuffle=card.unshuffle
        )
        state = {name: torch.from_numpy(value.copy()) for name, value in tensors_of(self).items()}
        try:
            network.load_state_dict(state)
        except RuntimeError:
            raise ModelError("The model's weights do not fit the network of its card.") from None
        return network.eval()

    def predictor(
        self, *, device: str = "auto", batch: int = 0, workers: int = 0
    ) -> TorchPredictor:
        """The loaded network; ``batch`` and ``workers`` change speed only."""
        need_torch()
        from .inference import TorchPredictor

        card = self.card
        return TorchPredictor(
            self.network(),
            card.label_order(),
            context_slices=card.context_slices,
            views=card.views,
            device=device,
            batch=batch,
            workers=workers,
        )


def need_torch() -> None:
    """UsageError where torch is not installed: what to install, and what works without it."""
    if find_spec("torch") is None:
        raise UsageError(
            "torch is not installed, and the segmentation network runs on it.",
            hint="pip install torch (the README names the tested version). All commands but "
            "segment, demo, model verify and model train work without it.",
        )


# ------------------------------------------------------------------ the card


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
    weights: Any = block.get("weights")
    numbers = [block.get("intercept"), block.get("clip")]
    if isinstance(weights, Mapping):
        numbers += list(weights.values())
    sound = isinstance(weights, Mapping) and len(weights) > 0
    for n in numbers:
        sound &= isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) < 1e300
    if not sound or not 0 < float(block["clip"]) < 0.5:
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


def parse_error(block: Any) -> ErrorModel:
    """The errors of a card's ``error`` section; raises ModelError where it is not one."""
    hint = "Make the section with examples/acdc/fit_error.py, or leave it out."
    if not isinstance(block, Mapping) or block.get("kind") != ERROR_KIND:
        raise ModelError(f"The card's error section is not of the kind {ERROR_KIND}.", hint=hint)
    vendors = block.get("vendors")
    if not isinstance(vendors, list) or not all(isinstance(name, str) for name in vendors):
        raise ModelError(
            "The card's error section has no list of names under 'vendors'.", hint=hint
        )

    def numbers(what: str, own: Any, names: Iterable[str], least: float = 0.0) -> dict[str, float]:
        found = {}
        for name in names:
            value = own.get(name) if isinstance(own, Mapping) else None
            known = isinstance(value, (int, float)) and not isinstance(value, bool)
            found[name] = float(value) if known and value is not None else math.nan
            if not least <= found[name] < 1e300:
                raise ModelError(
                    f"The card's error section has no usable {name} for {what}: it must be a "
                    f"number of at least {least:g}.",
                    hint=hint,
                )
        return found

    measures = block.get("measures")
    by_measure = measures if isinstance(measures, Mapping) else {}
    return ErrorModel(
        measures={
            name: numbers(name, by_measure.get(name), (*ERROR_TERMS, "scale"))
            for name in ERROR_MEASURES
        },
        vendors=tuple(vendors),
        # An unknown scanner is never thought to be more accurate.
        elsewhere=numbers("elsewhere", block.get("elsewhere"), ("lv", "rv"), least=1.0),
        propagated=numbers("propagated", block["propagated"], PROPAGATED_MEASURES)
        if "propagated" in block
        else {},
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
    if document.get("normalisation") != "clip-1-99-zscore":
        raise ModelError(f"The normalisation {document.get('normalisation')!r} is unknown.")
    spacing, crop = _need(document, "spacing_mm", (int, float)), _need(document, "crop", int)
    widths, context = _need(network, "widths", list), _need(network, "context_slices", int)
    vendors, views = document.get("rv_vendors", []), document.get("views", 1)
    if not widths or not all(type(width) is int and 0 < width <= _WIDEST for width in widths):
        raise ModelError(f"The model's card has the widths {widths!r}.")
    unshuffle = network.get("unshuffle", 1)
    if unshuffle not in (1, 2) or unshuffle * 2 ** (len(widths) - 1) > 32:
        raise ModelError(
            f"The model's card has unshuffle {unshuffle!r} and {len(widths)} widths.",
            hint="Unshuffle is 1 with at most 6 widths, or 2 with at most 5: crops are multiples "
            "of 32 pixels.",
        )
    if not isinstance(vendors, list) or not all(isinstance(name, str) for name in vendors):
        raise ModelError("The model's card has no list of names under 'rv_vendors'.")
    if views not in (1, 2, 4):
        raise ModelError(f"The model's card has views {views!r}.", hint="Use 1, 2 or 4.")
    if not 0.5 <= spacing <= 4 or crop % 32 or not 64 <= crop <= 512 or context not in (1, 3):
        raise ModelError(
            f"The model's card has spacing {spacing} mm, crop {crop}, context {context}.",
            hint="Spacing must be 0.5 to 4 mm, the crop a multiple of 32, the context 1 or 3.",
        )
    return ModelCard(
        model_id=str(_need(document, "id", str)),
        classes=classes,
        widths=tuple(widths),
        context_slices=int(context),
        unshuffle=unshuffle,
        spacing_mm=float(spacing),
        crop=crop,
        views=int(views),
        rv_vendors=tuple(vendors),
        tensors_sha256=str(_need(document, "tensors_sha256", str)),
        quality=parse_quality(document["quality"]) if "quality" in document else None,
        error=parse_error(document["error"]) if "error" in document else None,
        document=document,
    )


# ------------------------------------------------------------------ the file


def tensors_digest(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, shapes and values of the weights, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}|{value.dtype}|{value.shape}|".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def bundled_path() -> Path:
    """Where the model of the package lies."""
    return Path(str(resources.files(__package__).joinpath("weights", BUNDLED)))


def load_model(path: Path | None = None) -> Model:
    """Read and check a model file; None is the bundled one. Raises ModelError."""
    source = bundled_path() if path is None else path
    name = source.name
    try:
        data = source.read_bytes()
    except OSError as error:
        raise ModelError(f"{name} cannot be read ({type(error).__name__}).") from error
    try:
        # The header of safetensors: 8 bytes of length, then JSON.
        (length,) = struct.unpack("<Q", data[:8])
        header = data[8 : 8 + length] if length <= _MAX_HEADER else b""
        document = json.loads(json.loads(header).get("__metadata__", {})["card"])
    except KeyError:
        raise ModelError(
            f"{name} contains weights but no card.",
            hint="Class names, spacing and normalisation come from the card; it is refused.",
        ) from None
    except (struct.error, ValueError, AttributeError, TypeError, RecursionError):
        raise ModelError(
            f"{name} is not a model file.", hint="It must be safetensors with a card."
        ) from None
    return Model(card=parse_card(document), sha256=sha256_bytes(data), data=data)


def tensors_of(model: Model) -> dict[str, np.ndarray]:
    """The weights by name; raises ModelError where they are not those the card was made for."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors: dict[str, np.ndarray] = load(model.data)
    except SafetensorError:
        raise ModelError("The model file's weights are damaged.") from None
    if tensors_digest(tensors) != model.card.tensors_sha256:
        raise ModelError(
            "The model file's weights are not those its card was made for.",
            hint="The file is damaged or was changed; get it again.",
        )
    return tensors


def model_bytes(tensors: Mapping[str, np.ndarray], document: Mapping[str, Any]) -> bytes:
    """The bytes of a model file; adds the digest of the weights to the card."""
    from safetensors.numpy import save

    plain = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    card = {**document, "tensors_sha256": tensors_digest(plain)}
    parse_card(card)
    data: bytes = save(plain, metadata={"card": canonical_json(card)})
    return data


# ------------------------------------------------------------------ the page

_ON_GRID = "at the network's grid before any cleaning"
_STRUCTURES = (("lv", "LV cavity"), ("myo", "LV myocardium"), ("rv", "RV cavity"))


def _sections(card: ModelCard) -> Iterator[tuple[str, list[str]]]:
    """Heading and lines of each section."""
    document = card.document
    training = document.get("training", {})
    yield (
        f"# Model card: {card.model_id}",
        [
            str(document.get("description", "")),
            "",
            f"Classes, in the network's order: {', '.join(card.classes)}.",
            (
                f"Input: short-axis slices at {card.spacing_mm} mm, {card.context_slices} slices "
                f"deep, crops of {card.crop} pixels, clipped to percentiles 1 to 99 and z-scored "
                "by scan."
            ),
            f"Weights: SHA-256 of the tensors {card.tensors_sha256}.",
        ],
    )
    licence, use = (str(document.get(key, "")) for key in ("licence", "intended_use"))
    yield "## Licence and use", [licence, "", use]
    held_out = ", ".join(training.get("held_out", []))
    yield (
        "## Training data",
        [
            *(f"- {item}" for item in training.get("data", [])),
            "",
            f"Patients held out (never trained on): {held_out}.",
            "",
            *(f"- stage {stage}" for stage in training.get("stages", [])),
        ],
    )
    accuracy = document.get("accuracy", {})
    how = document.get("accuracy_how", _ON_GRID)
    lines = [f"Dice of whole volumes, mean over patients, {how}:", ""]
    lines += ["| structure | ED | ES | mean |", "|---|---|---|---|"]
    for key, name in _STRUCTURES:
        cells = [accuracy.get(f"{key}_{phase}") for phase in ("ED", "ES", "mean")]
        lines.append(f"| {name} | {' | '.join('' if v is None else f'{v:.3f}' for v in cells)} |")
    lines += ["", *(f"- {k}: {v}" for k, v in document.get("accuracy_notes", {}).items())]
    for table in document.get("tables", []):
        lines += ["", *_table_lines(table)]
    for picture in document.get("pictures", []):
        lines += ["", f"![{picture['title']}]({picture['file']})", ""]
        lines.append(str(picture.get("caption", "")))
    yield "## Accuracy on patients not trained on", lines
    if document.get("quality"):
        yield "## Quality score", [str(document["quality"]["sentence"])]
    if card.error is not None:
        yield "## Error of each measure", list(_error_lines(card.error))
    yield "## Limits", [f"- {item}" for item in document.get("limits", [])]
    yield "## Recipe", [f"- {k}: {v}" for k, v in sorted(training.get("recipe", {}).items())]


def _error_lines(error: ErrorModel) -> Iterator[str]:
    """The sentence, the evidence and the coefficients of the error section."""
    yield str(error.document.get("sentence", ""))
    for table in error.document.get("tables", []):
        yield from ("", *_table_lines(table))
    rows = [
        [name, *(f"{value:.3g}" for value in own.values())] for name, own in error.measures.items()
    ]
    coefficients = {"title": "Coefficients", "columns": ["measure", *ERROR_TERMS, "scale"]}
    yield from ("", *_table_lines({**coefficients, "rows": rows}))


def _table_lines(table: Mapping[str, Any]) -> list[str]:
    """A table of the card in Markdown, with its heading."""
    rows = [[str(cell) for cell in row] for row in (table["columns"], *table["rows"])]
    shown = [f"| {' | '.join(row)} |" for row in rows]
    rule = f"|{'---|' * len(rows[0])}"
    return [f"### {table['title']}", "", str(table.get("how", "")), "", shown[0], rule, *shown[1:]]


def card_markdown(card: ModelCard) -> str:
    """``MODEL_CARD.md`` of a model."""
    blocks = ("\n".join([heading, "", *lines]) for heading, lines in _sections(card))
    return "\n\n".join(blocks).rstrip() + "\n"
