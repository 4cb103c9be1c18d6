"""A reader's mask takes the place of the model's: measures, flags and what is said of the change.

What the model alone can be asked about goes with the model's labels: how sure it was, how much was
cleaned, its predicted Dice. What the images say stays. Codes and limits of the flags a correction
gives stand here, as cleaning's do in `segmentation.clean`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..measurement.flags import FLAG_RULES
from ..measurement.measure import measure_scan
from ..records import BodySize, CineStack, Flag, LabelStack, Measurement

CORRECTED = "corrected"
UNCHANGED = "correction-unchanged"
PHASE_KEPT = "correction-phase-kept"
FAR = "correction-far-from-model"
# Dice of the whole heart (all labels) at the model's ED between the model's mask and the mended
# one. Two readers of one heart stay above 0.8; another scan's mask falls far below.
LEAST_DICE = 0.5

_RV_UNVALIDATED = "rv-unvalidated"
_NAMES = {1: "lv_cavity", 2: "lv_myocardium", 3: "rv_cavity"}
_PHASES = {
    "ed_frame": "LV end-diastole",
    "es_frame": "LV end-systole",
    "rv_ed_frame": "RV end-diastole",
    "rv_es_frame": "RV end-systole",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """A corrected scan: labels and numbers, and the block ``correction`` of its record.

    ``labels`` and ``measured`` are None where the reader's labels are the model's to the voxel.
    """

    correction: Mapping[str, Any]
    flags: tuple[Flag, ...]
    labels: LabelStack | None = None
    measured: Measurement | None = None


def model_measures(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the model's labels measured, those of a rejected scan included."""
    rejected = document.get("details", {}).get("rejected_measures", {})
    return {**document["measures"], **rejected}


def mend(
    cine: CineStack,
    mended: np.ndarray,
    model: tuple[np.ndarray, Mapping[str, Any]],
    body: BodySize,
    bsa_formula: str,
) -> Mended:
    """Measure a scan by mended labels ``[t, z, y, x]``.

    ``model`` is the model's own labels and record. The reader's frames alone differ: the others
    are the model's, because they are the same voxels.
    """
    own, document = model
    changed = mended != own
    summary = _summary(cine, mended, own, changed)
    if not changed.any():
        text = "A reader's mask is there; it equals the model's in every voxel."
        flag = Flag(code=UNCHANGED, level="info", sentence=text)
        return Mended(correction=summary, flags=(flag,))
    confidence = np.array(document["confidence_by_frame"], dtype=np.float32)
    # How sure the model was says nothing of a slice that a person drew.
    confidence[changed.any(axis=(2, 3))] = np.nan
    labels = LabelStack(
        labels=mended,
        confidence=np.full_like(confidence, np.nan),
        model_id=document["model"]["id"],
        model_sha256=document["model"]["sha256"],
        flags=tuple(_first_flags(document, mended, own, summary)),
    )
    measured = measure_scan(cine, labels, body, bsa_formula)
    kept, sentence = _left_phases(document, measured, summary["frames_changed"])
    if kept:
        flag = Flag(code=PHASE_KEPT, level="info", sentence=sentence)
        labels = replace(labels, flags=(*labels.flags, flag))
        numbers = [int(number) for number in cine.frame_numbers]
        indices = {name: numbers.index(frame) for name, frame in kept.items()}
        measured = measure_scan(cine, labels, body, bsa_formula, kept=indices)
    measured = _without_model(measured)
    summary["phases_kept"] = kept
    return Mended(
        correction=summary,
        flags=measured.flags,
        labels=replace(labels, confidence=confidence),
        measured=measured,
    )


def _summary(
    cine: CineStack, mended: np.ndarray, own: np.ndarray, changed: np.ndarray
) -> dict[str, Any]:
    """How much a reader changed; frames in the source's numbering."""
    frames = np.flatnonzero(changed.any(axis=(1, 2, 3)))
    slices = changed.any(axis=(2, 3))
    return {
        "voxels_changed": int(np.count_nonzero(changed)),
        "frames_changed": [int(cine.frame_numbers[t]) for t in frames],
        "slices_changed": int(np.count_nonzero(slices)),
        "voxels_by_structure": {
            name: {
                "model": int(np.count_nonzero(own == label)),
                "mended": int(np.count_nonzero(mended == label)),
            }
            for label, name in _NAMES.items()
        },
    }


def _first_flags(
    document: Mapping[str, Any], mended: np.ndarray, own: np.ndarray, summary: Mapping[str, Any]
) -> Iterator[Flag]:
    frames = summary["frames_changed"]
    yield Flag(
        code=CORRECTED,
        level="info",
        sentence=f"A reader changed {summary['voxels_changed']} voxels in "
        f"{summary['slices_changed']} images of {len(frames)} frames; the measures are those of "
        "the mended mask.",
    )
    dice = _heart_dice(mended, own)
    if dice is not None and dice < LEAST_DICE:
        yield Flag(
            code=FAR,
            level="review",
            sentence=f"The mended heart and the model's share little (Dice {dice:.2f}, below "
            f"{LEAST_DICE:g}): check that the mask is this scan's.",
        )
    # A reader who drew the RV has looked at it; one who did not leaves it as the model's.
    if not np.any((mended == 3) != (own == 3)):
        for flag in document["flags"]:
            if flag["code"] == _RV_UNVALIDATED:
                yield Flag(**flag)


def _heart_dice(mended: np.ndarray, own: np.ndarray) -> float | None:
    """Dice of all labels in the frame where the model's heart is largest; None without one."""
    sizes = np.count_nonzero(own, axis=(1, 2, 3))
    largest = int(np.argmax(sizes))
    a, b = mended[largest] > 0, own[largest] > 0
    if not (a.any() and b.any()):
        return None
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


def _without_model(measured: Measurement) -> Measurement:
    """Without the predicted Dice and the flags of tier 4 that are about the model's labels."""
    return replace(
        measured,
        measures=tuple(
            replace(measure, value=None) if measure.name == "quality" else measure
            for measure in measured.measures
        ),
        flags=tuple(
            flag
            for flag in measured.flags
            if flag.code == _RV_UNVALIDATED
            or flag.code not in FLAG_RULES
            or FLAG_RULES[flag.code].tier != 4
        ),
    )


def _left_phases(
    document: Mapping[str, Any], measured: Measurement, changed: list[int]
) -> tuple[dict[str, int], str]:
    """Frames of ED and ES that the reader mended and the curve then left, and a sentence of them.

    A reader who mends ED and ES alone moves their volumes against those of the frames beside
    them, which are still the model's. The extreme of the curve may then be such a neighbour, and
    the reader's own frame would not count: it is held in place.
    """
    before = model_measures(document)
    after = {measure.name: measure.value for measure in measured.measures}
    after |= measured.details.get("rejected_measures", {})
    kept: dict[str, int] = {}
    moves = []
    for name, phase in _PHASES.items():
        was, now = before.get(name), after.get(name)
        if was is None or now is None or was == now:
            continue
        if int(was) in changed and int(now) not in changed:
            kept[name] = int(was)
            moves.append(f"{phase} at frame {int(was)} (the curve's extreme is frame {int(now)})")
    sentence = (
        f"Held at frames that the reader mended: {', '.join(moves)}; frames that were not mended "
        "are the model's."
    )
    return kept, sentence
