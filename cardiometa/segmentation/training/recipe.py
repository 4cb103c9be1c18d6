"""The training recipe: every number that shapes the weights, saved in the model card."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from ..network import DEFAULT_WIDTHS


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
    # Geometry: the whole dihedral group, so that no orientation of the source matters.
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
