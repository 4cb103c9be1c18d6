"""The packed training file, and the recipe: every number that shapes the weights.

A pack is a ``.npz`` with ``images`` uint8 ``[n, s, s]`` and ``labels`` uint8 ``[n, s, s]`` (0
background, 1 LV cavity, 2 myocardium, 3 RV cavity) at one spacing; ``volume`` int ``[n]`` (slices
of one volume are consecutive, in spatial order); ``kind`` int ``[n]`` (0 all three structures, 1 LV
cavity only, 2 phantom); ``patient`` str ``[n]``; ``phase`` str ``[n]`` (``ED``/``ES``);
``group`` str ``[n]``; ``fold`` int ``[n]`` (-1: always trained on, -2: never);
``spacing_mm`` float; ``slice_mm`` float ``[n]``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..network import DEFAULT_WIDTHS

FULL, LV_ONLY, PHANTOM = 0, 1, 2
# A pixel without a label of which the network is not sure: it counts in no loss.
UNKNOWN = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """The arrays of one packed file, with the row of each slice's neighbours."""

    images: np.ndarray
    labels: np.ndarray
    volume: np.ndarray
    kind: np.ndarray
    patient: np.ndarray
    phase: np.ndarray
    group: np.ndarray
    fold: np.ndarray
    slice_mm: np.ndarray
    spacing_mm: float
    below: np.ndarray
    above: np.ndarray

    def training_rows(self, fold: int, kind: int) -> np.ndarray:
        """Rows to train on when ``fold`` is held out."""
        mask = (self.kind == kind) & (self.fold != fold) & (self.fold != -2)
        return np.flatnonzero(mask)

    def held_out_rows(self, fold: int, kind: int) -> np.ndarray:
        """Rows of patients that are not trained on when ``fold`` is held out."""
        return np.flatnonzero((self.kind == kind) & ((self.fold == fold) | (self.fold == -2)))


def neighbours(volume: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the slice before and after each slice; itself at the end of a volume."""
    rows = np.arange(len(volume))
    before, after = np.maximum(rows - 1, 0), np.minimum(rows + 1, len(rows) - 1)
    below = np.where(volume[before] == volume, before, rows)
    above = np.where(volume[after] == volume, after, rows)
    return below, above


def load(paths: list[Path]) -> Pack:
    """Read and join packed files of one spacing and size (hearts, phantoms)."""
    parts = [dict(np.load(path, allow_pickle=False)) for path in paths]
    spacings = {float(part["spacing_mm"]) for part in parts}
    if len(spacings) != 1:
        raise ValueError(f"packed files differ in spacing: {sorted(spacings)} mm")
    offset = 0
    for part in parts:
        part["volume"] = part["volume"] + offset
        offset = int(part["volume"].max()) + 1
    names = ("images", "labels", "volume", "kind", "patient", "phase", "group", "fold", "slice_mm")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in names}
    below, above = neighbours(joined["volume"])
    return Pack(**joined, spacing_mm=spacings.pop(), below=below, above=above)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a training run does; two runs of one recipe and seed differ only by rounding."""

    widths: tuple[int, ...] = DEFAULT_WIDTHS
    context_slices: int = 3
    crop: int = 128
    spacing_mm: float = 1.5
    epochs: int = 60
    batch: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup_fraction: float = 0.1
    ema_decay: float = 0.998
    fold: int = 0
    seed: int = 1
    # Shares of a batch by kind of label: fully labelled hearts, LV cavity only, phantoms.
    share_partial: float = 0.12
    share_phantom: float = 0.0
    # From this epoch on the network's own labels complete the LV-only slices; 0: never.
    self_label_epoch: int = 0
    self_label_least: float = 0.75
    # Without fully labelled hearts (pre-training on phantoms and LV-only slices).
    pretrain: bool = False
    bias_field: float = 0.45
    # Geometry: the full dihedral group, so that no orientation of the source matters.
    rotation_deg: float = 30.0
    scale: float = 0.25
    shift_px: float = 22.0
    elastic_px: float = 5.0
    away_from_heart: float = 0.06
    drop_neighbours: float = 0.2

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the checkpoint and the card."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """The recipe a checkpoint was made with; names it does not know are an error."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"recipe has unknown settings: {', '.join(unknown)}")
        return cls(**{**values, "widths": tuple(values.get("widths", DEFAULT_WIDTHS))})
