"""The packed training file: slices, labels and where each came from.

A ``.npz`` with ``images`` uint8 ``[n, s, s]`` and ``labels`` uint8 ``[n, s, s]`` (0 background,
1 LV cavity, 2 myocardium, 3 RV cavity) at one spacing; ``volume`` int ``[n]`` (slices of one
volume are consecutive, in spatial order); ``kind`` int ``[n]`` (0 all three structures, 1 LV
cavity only, 2 phantom); ``patient`` str ``[n]``; ``phase`` str ``[n]`` (``ED``/``ES``);
``group`` str ``[n]``; ``fold`` int ``[n]`` (-1: always trained on, -2: never);
``spacing_mm`` float; ``slice_mm`` float ``[n]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

FULL, LV_ONLY, PHANTOM = 0, 1, 2
# A pixel that nobody labelled and the network is not sure of: it counts in no loss.
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
