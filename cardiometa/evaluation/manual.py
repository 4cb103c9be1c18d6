"""What a reader drew on one scan, on the model's own grid, and how the labels are numbered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from ..records import LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY

Phase = Literal["ED", "ES", "other"]
LabelOrder = Literal["cardiometa", "acdc"]

STRUCTURES: Final[Mapping[str, int]] = {
    "lv_cavity": LV_CAVITY,
    "lv_myocardium": LV_MYOCARDIUM,
    "rv_cavity": RV_CAVITY,
}
# The label of each order in ours: ACDC numbers 1 RV, 2 myocardium, 3 LV.
ORDERS: Final[Mapping[str, tuple[int, int, int, int]]] = {
    "cardiometa": (0, LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY),
    "acdc": (0, RV_CAVITY, LV_MYOCARDIUM, LV_CAVITY),
}

WHOLE: Final = "whole-stack"
CONTOURED: Final = "contoured-slices"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualPhase:
    """A reader's masks of one phase, on the grid of the model's mask.

    ``masks`` boolean ``[z, y, x]`` by structure, only of structures that were drawn; ``slices``
    by structure: the slices in which it was looked for, None for all; ``volumes_ml`` of the drawn
    polygons where the masks come from polygons. ``frame`` is an index into the model's mask, None
    where the labels do not say (the model's own phase is then compared).
    """

    phase: Phase
    frame: int | None
    masks: Mapping[str, np.ndarray]
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)
    volumes_ml: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualScan:
    """All phases that a reader drew of one scan; ``sha256`` of each file, in order."""

    phases: tuple[ManualPhase, ...]
    scope: str = WHOLE
    sha256: tuple[str, ...] = ()
    kind: str = "nifti"
    notes: tuple[str, ...] = ()


def masks_of(labels: np.ndarray, order: LabelOrder) -> dict[str, np.ndarray]:
    """Boolean masks of whole labels ``[z, y, x]`` numbered in ``order``, in our structures."""
    ours = np.array(ORDERS[order], dtype=np.uint8)[labels]
    return {name: ours == label for name, label in STRUCTURES.items()}


def enclosure(labels: np.ndarray, cavity: int) -> float | None:
    """Share of a cavity's in-plane border that touches myocardium (label 2); None without any.

    The LV cavity lies inside the myocardium, the RV beside it, so that this tells which is which.
    """
    inside = labels == cavity
    padded = np.pad(labels, ((0, 0), (1, 1), (1, 1)))
    wall = border = 0
    for axis in (1, 2):
        for step in (1, -1):
            near = np.roll(padded, step, axis)[:, 1:-1, 1:-1]
            wall += int(np.count_nonzero(inside & (near == LV_MYOCARDIUM)))
            border += int(np.count_nonzero(inside & (near != cavity)))
    return wall / border if border else None


def likely_order(labels: np.ndarray) -> LabelOrder | None:
    """The order that fits the shape of labels ``[z, y, x]``; None where both cavities are alike."""
    one, three = enclosure(labels, 1), enclosure(labels, 3)
    if one is None or three is None or abs(one - three) < 0.2:
        return None
    return "cardiometa" if one > three else "acdc"
