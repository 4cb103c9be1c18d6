"""How far to trust the labels of a scan: the network's own uncertainty, as one number.

Features of the frames of the largest and the smallest LV, each in 0 to 1, higher is better:

- ``expected_dice_*``: the Dice that the probabilities themselves expect of the labels made from
  them, 2 Σ p over the labelled pixels / (Σ p + their number), by structure;
- ``view_dice_*``: overlap of each mirrored view of the network with their mean;
- ``shift_dice_*``: overlap of one extra view, its crop moved by a few pixels, with that mean;
- ``border_confidence``: mean largest probability in the border band;
- ``kept_share``: Dice of the labels before and after cleaning;
- ``neighbour_overlap``: overlap of the LV (cavity and wall) of neighbouring slices;
- ``enclosed_share``: share of the cavity's border that is myocardium.

The model's card says how they add up to a predicted Dice (`model.QualityCalibration`), fitted on
hearts it was not trained on, with images made worse on purpose (``tests/bench``). Overlap of
augmented views as a predictor of Dice: Wang 2019 (doi:10.1016/j.neucom.2019.01.103).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from ..records import LV_CAVITY, LV_MYOCARDIUM, Predictor, ScanQuality
from .cleaning import enclosed_share
from .model import ModelCard

STRUCTURES = ("lv", "myo", "rv")
# The extra view: rows and columns of the crop's grid it is moved by. Odd and unequal, so that
# every level of the network meets the heart at another place of its own grid.
SHIFT = (5, -3)


@runtime_checkable
class TestTimeAugmentation(Protocol):
    """A predictor that also gives how far its views agree (as `inference.TorchPredictor`)."""

    def predict_views(self, crops: np.ndarray, *, views: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities ``[n, 4, s, s]``, sums of the views' agreement ``[n, 3, 2]`` or wider.

        What follows the two sums is the area of each view (`inference.agreement_sums`).
        """


def predict_views(
    predictor: Predictor, crops: np.ndarray, *, views: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and agreement of the views; NaN for a predictor without views."""
    if isinstance(predictor, TestTimeAugmentation):
        return predictor.predict_views(crops, views=views)
    return predictor.probabilities(crops), np.full((len(crops), 3, 2), np.nan, dtype=np.float32)


def extreme_frames(labels: np.ndarray) -> tuple[int, int]:
    """Frames of the largest and the smallest LV of labels ``[t, z, y, x]``, smoothed from 12 on.

    The measurement chooses ED and ES by stricter rules; a neighbouring frame has the same quality.
    """
    size = (labels == LV_CAVITY).sum(axis=(1, 2, 3)).astype(np.float64)
    if len(size) >= 12:
        size = (np.roll(size, 1) + 2 * size + np.roll(size, -1)) / 4
    present = np.flatnonzero(size > 0)
    if len(size) == 2 or len(present) == 0:
        return 0, min(1, len(size) - 1)
    return int(present[size[present].argmax()]), int(present[size[present].argmin()])


def shift_overlap(still: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Sums ``[z, 3, 2]`` of the Dice of labels ``[z, s, s]`` and those of a crop moved by `SHIFT`.

    Pixel (y, x) of the moved crop is (y + 5, x - 3) of the still one.
    """
    size = still.shape[-1]
    down, right = SHIFT
    one = still[:, max(down, 0) : size + min(down, 0), max(right, 0) : size + min(right, 0)]
    other = moved[:, max(-down, 0) : size - max(down, 0), max(-right, 0) : size - max(right, 0)]
    sums = np.empty((len(still), 3, 2), dtype=np.float32)
    for row, label in enumerate((1, 2, 3)):
        here, there = one == label, other == label
        sums[:, row, 0] = 2 * (here & there).sum(axis=(1, 2))
        sums[:, row, 1] = here.sum(axis=(1, 2)) + there.sum(axis=(1, 2))
    return sums


def label_features(raw: np.ndarray, cleaned: np.ndarray) -> dict[str, float]:
    """Plausibility of one frame's labels ``[z, y, x]`` before and after cleaning."""
    both = 2 * np.count_nonzero((raw == cleaned) & (raw > 0))
    either = np.count_nonzero(raw) + np.count_nonzero(cleaned)
    # Shared pixels of the LV in neighbouring slices over those of the smaller; mean of pairs.
    ventricle = (cleaned == LV_CAVITY) | (cleaned == LV_MYOCARDIUM)
    pixels = ventricle.sum(axis=(1, 2))
    pairs = np.flatnonzero((pixels[:-1] > 0) & (pixels[1:] > 0))
    overlap = 0.0
    if len(pairs):
        shared = (ventricle[pairs] & ventricle[pairs + 1]).sum(axis=(1, 2))
        overlap = float((shared / np.minimum(pixels[pairs], pixels[pairs + 1])).mean())
    share = enclosed_share(cleaned)
    border = np.isfinite(share)
    return {
        "kept_share": both / either if either else 0.0,
        "neighbour_overlap": overlap,
        "enclosed_share": float(share[border].mean()) if border.any() else 0.0,
    }


def scan_quality(
    card: ModelCard, frames: tuple[int, int], by_frame: Sequence[Mapping[str, float]]
) -> ScanQuality:
    """The features of both frames averaged, and the Dice the card's calibration predicts.

    A feature that is unknown (NaN) is left out, and with it what would be predicted from it.
    """
    means = {name: float(np.mean([one[name] for one in by_frame])) for name in sorted(by_frame[0])}
    features = {name: value for name, value in means.items() if np.isfinite(value)}
    predicted = card.quality.predict(features) if card.quality is not None else None
    return ScanQuality(frames=frames, features=features, predicted_dice=predicted)


def named(kind: str, sums: np.ndarray) -> dict[str, float]:
    """``kind_lv``, ``kind_myo``, ``kind_rv``: ratios of the sums of one frame ``[z, 3, 2]``.

    0 where a structure is nowhere, NaN where unknown.
    """
    total = sums.astype(np.float64).sum(axis=0)
    # Below one pixel of probability there is nothing to agree about.
    ratios = np.where(total[:, 1] < 1, 0.0, total[:, 0] / np.maximum(total[:, 1], 1))
    return {f"{kind}_{name}": float(ratios[row]) for row, name in enumerate(STRUCTURES)}
