"""Masks that readers corrected: found below ``--corrections DIR``, checked, measured.

``DIR/<trial>/<participant>/<visit>/segmentation.nii.gz`` (or ``.nii``), the folders being those of
``OUT/scans``. A file that fits no scan is an error: a reader's work must not be lost in silence.

What only the model can report goes with the model's labels: how sure it was, how much was cleaned,
its predicted Dice. What the images say stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageError, InputError, Problem, UsageError
from ..evaluation.overlap import dice
from ..files import sha256_bytes, sha256_file
from ..flags import FLAGS, limit_of, raised
from ..measurement.measure import measure_scan
from ..reading.label_file import LabelFileError, ScanGrid, read_labels
from ..records import BodySize, CineStack, Flag, LabelStack, Measurement, ScanKey
from .jobs import Correction

CORRECTED = "corrected"
UNCHANGED = "correction-unchanged"
PHASE_KEPT = "correction-phase-kept"
FAR = "correction-far-from-model"

_STRUCTURES = {1: "lv_cavity", 2: "lv_myocardium", 3: "rv_cavity"}
_PHASES = {
    "ed_frame": "LV end-diastole",
    "es_frame": "LV end-systole",
    "rv_ed_frame": "RV end-diastole",
    "rv_es_frame": "RV end-systole",
}
_MASK_NAMES = ("segmentation.nii.gz", "segmentation.nii")
# What viewers save masks as. Any other file (notes, a viewer's workspace) is left alone.
_MASK_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".mgz", ".img", ".gipl", ".dcm")
_LAYOUT = "trial/participant/visit/segmentation.nii.gz, folders as below OUT/scans"


# ------------------------------------------------------------------ finding and checking


def find_corrections(
    folder: Path, out: Path, keys: Iterable[ScanKey]
) -> tuple[dict[ScanKey, Correction], list[Problem]]:
    """The corrected masks below ``folder`` by scan, and all problems of the layout.

    Raises UsageError for a folder inside OUT, which this program writes to.
    """
    if folder.resolve().is_relative_to(out.resolve()):
        raise UsageError(
            "--corrections is inside --out, whose masks are written by this program.",
            hint="Copy the corrected masks to a separate folder.",
        )
    known = set(keys)
    found: dict[ScanKey, Correction] = {}
    problems: list[Problem] = []
    for number, (parts, names) in enumerate(_mask_folders(folder).items(), start=1):
        key = None
        if len(parts) == 3:
            key = ScanKey(trial=parts[0], participant=parts[1], visit=parts[2])
        masks = [name for name in _MASK_NAMES if name in names]
        problem = _layout_problem(key, masks, names, known)
        if problem is not None:
            problems.append(replace(problem, where=_place(number, parts, known)))
        elif key is not None:
            path = folder.joinpath(*parts, masks[0])
            found[key] = Correction(key=key, path=path, sha256=sha256_file(path))
    by_hash: dict[str, list[ScanKey]] = defaultdict(list)
    for key, correction in sorted(found.items()):
        by_hash[correction.sha256].append(key)
    problems += [
        Problem(
            where=str(keys[0]),
            what=f"the same file is given for {', '.join(map(str, keys[1:]))} too",
            why="Two scans cannot have one mask.",
            fix="Remove it where it does not belong.",
        )
        for keys in by_hash.values()
        if len(keys) > 1
    ]
    return found, problems


def _mask_folders(folder: Path) -> dict[tuple[str, ...], list[str]]:
    """Folders below ``folder`` with files of masks, hidden ones excluded."""
    masks: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if not hidden and path.name.lower().endswith(_MASK_SUFFIXES) and path.is_file():
            masks[parts[:-1]].append(parts[-1])
    return masks


def _place(number: int, parts: tuple[str, ...], known: set[ScanKey]) -> str:
    """Where a mask is, in names of the cohort only: other folders may bear names of patients."""
    names = [
        {key.trial for key in known},
        {key.participant for key in known if parts[:1] == (key.trial,)},
        {key.visit for key in known if parts[:2] == (key.trial, key.participant)},
    ]
    shown: list[str] = []
    for depth, part in enumerate(parts):
        if depth >= len(names) or part not in names[depth]:
            shown.append("…")
            break
        shown.append(part)
    return f"folder {number} of masks in the order of names ({'/'.join(shown) or 'the top'})"


def _layout_problem(
    key: ScanKey | None, masks: list[str], names: list[str], known: set[ScanKey]
) -> Problem | None:
    """What is wrong with a folder of masks, without its place; None where it is one scan's."""
    if not masks:
        files = "another file" if len(names) == 1 else f"{len(names)} other files"
        return Problem(
            where="",
            what=f"there is no segmentation.nii.gz, but {files}",
            why="Only that name is read, so a corrected mask here would be lost.",
            fix=f"Save it as NIfTI under {_LAYOUT}.",
        )
    if key is None:
        return Problem(
            where="",
            what="the mask is at the wrong depth",
            why="The folders say which scan it belongs to.",
            fix=f"Use {_LAYOUT}.",
        )
    if key not in known:
        return Problem(
            where="",
            what="the cohort has no such scan",
            why="The corrected mask would be lost.",
            fix="Name the folders as below OUT/scans, or remove the file.",
        )
    if len(masks) > 1:
        return Problem(
            where="",
            what="there are two masks, segmentation.nii.gz and segmentation.nii",
            why="It is unclear which one the reader meant.",
            fix="Leave one of them.",
        )
    return None


def check_corrections(
    corrections: Iterable[Correction], grid_of: Callable[[ScanKey], ScanGrid]
) -> list[Problem]:
    """Every fault of every mask; ``grid_of`` gives a scan's grid or raises ImageError."""
    problems = []
    for correction in corrections:
        where = str(correction.key)
        try:
            grid = grid_of(correction.key)
            read_labels(correction.path.read_bytes(), grid)
        except ImageError as error:
            what = f"the images of this scan cannot be read ({error.code})"
            why = "A mask without its images cannot be measured."
            fix = "Repair the images, or remove the mask."
            problems.append(Problem(where=where, what=what, why=why, fix=fix))
        except LabelFileError as error:
            problems += [replace(problem, where=where) for problem in error.faults]
        except OSError as error:
            what = f"the mask cannot be read ({type(error).__name__})"
            problems.append(Problem(where=where, what=what))
    return problems


def refuse(problems: list[Problem]) -> None:
    """Raise InputError with all problems, where there are any."""
    if problems:
        count = len(problems)
        raise InputError(
            f"The corrections have {count} problem{'s' if count > 1 else ''}; nothing was written.",
            problems=problems,
        )


def corrected_labels(correction: Correction, grid: ScanGrid) -> np.ndarray:
    """The labels ``[t, z, y, x]`` of a checked correction; ImageError where it changed since."""
    try:
        data = correction.path.read_bytes()
        if sha256_bytes(data) == correction.sha256:
            return read_labels(data, grid)
    except OSError:
        pass
    except LabelFileError as error:
        raise ImageError(
            "correction-does-not-fit", f"The corrected mask does not fit the scan: {error}."
        ) from None
    raise ImageError("correction-changed", "The corrected mask was changed during the run.")


# ------------------------------------------------------------------ measuring


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedScan:
    """A corrected scan: labels and numbers, and the block ``correction`` of its record.

    ``labels`` and ``measured`` are None where the reader's labels equal the model's in every voxel.
    """

    correction: dict[str, Any]
    flags: tuple[Flag, ...]
    labels: LabelStack | None = None
    measured: Measurement | None = None


def model_measures(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the model's labels measured, those of a rejected scan included."""
    rejected = document.get("details", {}).get("rejected_measures", {})
    return {**document["measures"], **rejected}


def apply_correction(
    cine: CineStack,
    drawn: np.ndarray,
    model: tuple[np.ndarray, Mapping[str, Any]],
    body: BodySize,
    bsa_formula: str,
) -> CorrectedScan:
    """Measure a scan by a reader's labels ``[t, z, y, x]``.

    ``model`` is the model's own labels and record. Only frames that the reader changed differ: in
    the others the voxels are the model's.
    """
    own, document = model
    changed = drawn != own
    frames = np.flatnonzero(changed.any(axis=(1, 2, 3)))
    slices = changed.any(axis=(2, 3))
    summary: dict[str, Any] = {
        "voxels_changed": int(np.count_nonzero(changed)),
        # In the source's numbering.
        "frames_changed": [int(cine.frame_numbers[t]) for t in frames],
        "slices_changed": int(np.count_nonzero(slices)),
        "voxels_by_structure": {
            name: {
                "model": int(np.count_nonzero(own == label)),
                "reader": int(np.count_nonzero(drawn == label)),
            }
            for label, name in _STRUCTURES.items()
        },
    }
    if not changed.any():
        return CorrectedScan(correction=summary, flags=(raised(UNCHANGED),))
    confidence = np.array(document["confidence_by_frame"], dtype=np.float32)
    # How sure the model was says nothing about a slice that a reader drew.
    confidence[slices] = np.nan
    labels = LabelStack(
        labels=drawn,
        confidence=np.full_like(confidence, np.nan),
        model_id=document["model"]["id"],
        model_sha256=document["model"]["sha256"],
        flags=tuple(_correction_flags(drawn, own, summary)),
    )
    measured = measure_scan(cine, labels, body, bsa_formula)
    kept, moves = _left_phases(document, measured, summary["frames_changed"])
    if kept:
        labels = replace(labels, flags=(*labels.flags, raised(PHASE_KEPT, where=moves)))
        numbers = [int(number) for number in cine.frame_numbers]
        indices = {name: numbers.index(frame) for name, frame in kept.items()}
        measured = measure_scan(cine, labels, body, bsa_formula, kept=indices)
    summary["phases_kept"] = kept
    measured = _without_model_quality(measured)
    return CorrectedScan(
        correction=summary,
        flags=measured.flags,
        labels=replace(labels, confidence=confidence),
        measured=measured,
    )


def _without_model_quality(measured: Measurement) -> Measurement:
    """Without the predicted Dice and the flags of tier 4, which are about the model's labels."""
    return replace(
        measured,
        measures=tuple(
            replace(measure, value=None) if measure.name == "quality" else measure
            for measure in measured.measures
        ),
        flags=tuple(
            flag for flag in measured.flags if flag.code not in FLAGS or FLAGS[flag.code].tier != 4
        ),
    )


def _correction_flags(
    drawn: np.ndarray, own: np.ndarray, summary: Mapping[str, Any]
) -> Iterator[Flag]:
    yield raised(
        CORRECTED,
        voxels=summary["voxels_changed"],
        slices=summary["slices_changed"],
        count=len(summary["frames_changed"]),
    )
    # In the frame where the model's heart is largest.
    largest = int(np.argmax(np.count_nonzero(own, axis=(1, 2, 3))))
    a, b = drawn[largest] > 0, own[largest] > 0
    share = dice(a, b) if a.any() and b.any() else None
    if share is not None and share < limit_of(FAR):
        yield raised(FAR, value=share)


def _left_phases(
    document: Mapping[str, Any], measured: Measurement, changed: list[int]
) -> tuple[dict[str, int], str]:
    """Frames of ED and ES that the reader corrected and the curve then left, and a list of them.

    A reader who corrects only ED and ES moves their volumes against those of the neighbouring
    frames, which are still the model's. The extreme of the curve may then be such a neighbour, and
    the reader's own frame would not count: it is kept.
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
    return kept, ", ".join(moves)
