"""A model file: safetensors weights with the card in the file's own header.

Weights and card travel as one file, so that one SHA-256 covers class names, spacing and
normalisation as well as the numbers.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from ..files import canonical_json, sha256_bytes
from .card import ModelCard, parse_card

if TYPE_CHECKING:
    from .inference import TorchPredictor

BUNDLED = "cardiometa-sax.safetensors"
_MAX_HEADER = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A checked model file in memory: the card, the file's hash, its bytes."""

    card: ModelCard
    sha256: str
    data: bytes

    def predictor(
        self, *, device: str = "auto", batch: int = 0, workers: int = 0
    ) -> TorchPredictor:
        """The loaded network; ``batch`` and ``workers`` change speed only."""
        from .inference import TorchPredictor

        return TorchPredictor(self, device=device, batch=batch, workers=workers)


def tensors_digest(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, shapes and values of the weights, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}|{value.dtype}|{value.shape}|".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _card_of(data: bytes, name: str) -> ModelCard:
    """The card in a safetensors header (8 bytes of length, then JSON)."""
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = data[8 : 8 + length] if length <= _MAX_HEADER else b""
        metadata = json.loads(header).get("__metadata__", {})
        document = json.loads(metadata["card"])
    except KeyError:
        raise ModelError(
            f"{name} holds weights but no card.",
            hint="Class names, spacing and normalisation come from the card; it is refused.",
        ) from None
    except (struct.error, ValueError, AttributeError, TypeError, RecursionError):
        raise ModelError(
            f"{name} is not a model file.", hint="It must be safetensors with a card."
        ) from None
    return parse_card(document)


def bundled_path() -> Path:
    """Where the model of the package lies."""
    return Path(str(resources.files(__package__).joinpath("weights", BUNDLED)))


def load_model(path: Path | None = None) -> Model:
    """Read and check a model file; None is the bundled one. Raises ModelError."""
    source = bundled_path() if path is None else path
    try:
        data = source.read_bytes()
    except OSError as error:
        raise ModelError(f"{source.name} cannot be read ({type(error).__name__}).") from error
    card = _card_of(data, source.name)
    return Model(card=card, sha256=sha256_bytes(data), data=data)


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
