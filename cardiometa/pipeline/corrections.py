"""Masks and decisions of readers: found below ``--corrections DIR``, checked, measured.

``DIR/<trial>/<participant>/<visit>/segmentation.nii.gz`` (or ``.nii``), the folders being those of
``OUT/scans``, and ``DIR/decisions.csv`` (`reading.decisions`), as ``OUT/review`` has it. A file or
row that fits no scan is an error: a reader's work must not be lost in silence.

What only the model can report goes with the model's labels: how sure it was, how much was cleaned,
its predicted Dice. What the images say stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import ImageError, InputError, Problem, UsageError
from ..evaluation.overlap import dice
from ..files import canonical_json, sha256_bytes, sha256_file
from ..flags import FLAGS, limit_of, merge_flags, raised, status_of
from ..measurement.measure import measure_scan, without_label_measures
from ..reading.decisions import (
    DECISIONS_NAME,
    MASKS_FOLDER,
    REVIEW_FOLDER,
    Decision,
    chosen_decisions,
    last_decisions,
    read_decisions,
)
from ..reading.label_file import LabelFileError, ScanGrid, read_labels
from ..records import BodySize, CineStack, Flag, LabelStack, Measurement, ScanKey
from .jobs import Correction

CORRECTED = "corrected"
ACCEPTED = "accepted"
REJECTED = "rejected"
OUTDATED = "decision-outdated"
PHASES_CHOSEN = "phases-chosen"
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
    folder: Path, out: Path, keys: Iterable[ScanKey], reader: str | None = None
) -> tuple[dict[ScanKey, Correction], list[Problem]]:
    """The corrected masks and decisions below ``folder`` by scan, and all problems of the layout.

    ``reader``: whose decisions are taken; None where all agree. Raises UsageError for a folder
    inside OUT, which this program writes to, unless it is that of ``review``; InputError for a
    decisions.csv that is not a table of decisions.
    """
    place = folder.resolve()
    if place.is_relative_to(out.resolve()) and place != (out / REVIEW_FOLDER).resolve():
        raise UsageError(
            "--corrections is inside --out, whose masks are written by this program.",
            hint="Copy the corrected masks to a separate folder.",
        )
    known = set(keys)
    found: dict[ScanKey, Correction] = {}
    problems: list[Problem] = []
    table = folder / DECISIONS_NAME
    decided: dict[ScanKey, Correction] = {}
    if table.is_file():
        decided, problems = _decided(table, known, reader)
    elif reader is not None:
        raise UsageError(f"--reader needs a folder with {DECISIONS_NAME}.")
    folders: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        hidden |= table.is_file() and parts[0] == MASKS_FOLDER
        if not hidden and path.name.lower().endswith(_MASK_SUFFIXES) and path.is_file():
            folders[parts[:-1]].append(parts[-1])
    for number, (parts, names) in enumerate(folders.items(), start=1):
        key = None
        if len(parts) == 3:
            key = ScanKey(trial=parts[0], participant=parts[1], visit=parts[2])
        masks = [name for name in _MASK_NAMES if name in names]
        problem = _layout_problem(key, masks, names, known)
        if problem is not None:
            problems.append(replace(problem, where=_place(number, parts, known)))
        elif key is not None:
            path = folder.joinpath(*parts, masks[0])
            digest = sha256_file(path)
            found[key] = Correction(key=key, path=path, sha256=digest, mask_sha256=digest)
    for key, one in decided.items():
        if key in found and one.decision != REJECTED and one.path != found[key].path:
            what = f"it is {one.decision} in {DECISIONS_NAME}, and there is another mask"
            why = "It is unclear which one the reader meant."
            fix = "Remove the mask, or write edited with the mask's path."
            problems.append(Problem(where=str(key), what=what, why=why, fix=fix))
        found[key] = one
    return found, problems + _shared_files(found)


def _shared_files(found: Mapping[ScanKey, Correction]) -> list[Problem]:
    by_hash: dict[str, list[ScanKey]] = defaultdict(list)
    for key, correction in sorted(found.items()):
        if correction.mask_sha256:
            by_hash[correction.mask_sha256].append(key)
    return [
        Problem(
            where=str(keys[0]),
            what=f"the same file is given for {', '.join(map(str, keys[1:]))} too",
            why="Two scans cannot have one mask.",
            fix="Remove it where it does not belong.",
        )
        for keys in by_hash.values()
        if len(keys) > 1
    ]


def _decided(
    table: Path, known: set[ScanKey], reader: str | None
) -> tuple[dict[ScanKey, Correction], list[Problem]]:
    """What ``decisions.csv`` says of each scan, and all problems of its rows."""
    rows, problems = read_decisions(table)
    for row in rows:
        if row.key not in known:
            where, why = f"{table.name}, row {row.line}", "The decision would be lost."
            fix = "Use trial, participant_id and visit of measurements.csv."
            what = "the cohort has no such scan"
            problems.append(Problem(where=where, what=what, why=why, fix=fix))
    last = last_decisions(row for row in rows if row.key in known)
    chosen, differing = chosen_decisions(last, reader)
    found = {}
    for key, decision in chosen.items():
        made = _correction_of(table.parent, decision)
        if isinstance(made, Problem):
            problems.append(replace(made, where=f"{table.name}, row {decision.line}"))
        else:
            found[key] = made
    return found, problems + differing


def _correction_of(folder: Path, decision: Decision) -> Correction | Problem:
    """A decision with the mask that it names; a problem, without its place, where that is wrong."""
    path, digest = None, ""
    if decision.decision == "edited":
        parts = PurePosixPath(decision.mask or f"{decision.key}/{_MASK_NAMES[0]}").parts
        path = folder.joinpath(*parts)
        if not path.resolve().is_relative_to(folder.resolve()):
            return Problem(where="", what=f"the mask is outside the folder: {decision.mask!r}")
        if path.is_file():
            digest = sha256_file(path)
        elif decision.mask or not decision.frames:
            what = "the scan is edited, and its mask does not exist"
            fix = "Write the path of the mask below this folder into the column mask."
            return Problem(where="", what=what, why="The reader's work would be lost.", fix=fix)
        else:
            path = None  # only ED or ES was moved
        if digest and decision.after and digest != decision.after:
            what = "the mask is not the one that was decided on (column after)"
            fix = "Put the mask back, or review the scan again."
            return Problem(where="", what=what, why="It was changed or replaced since.", fix=fix)
    said: dict[str, Any] = {n: getattr(decision, n) for n in ("decision", "reader", "reason")}
    said["frames"] = decision.frames if decision.decision == "edited" else {}
    said["before"] = decision.before
    return Correction(
        key=decision.key,
        path=path,
        sha256=sha256_bytes(canonical_json({**said, "mask": digest}).encode()),
        mask_sha256=digest,
        **said,
    )


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
        if correction.path is None and not correction.frames:
            continue
        where = str(correction.key)
        try:
            grid = grid_of(correction.key)
            late = {n: f for n, f in correction.frames.items() if f >= grid.shape[0]}
            for name, frame in late.items():
                what = f"{name} is {frame}, the scan has {grid.shape[0]} frames, counted from 0"
                problems.append(Problem(where=where, what=what))
            if correction.path is not None:
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


def corrected_labels(correction: Correction, grid: ScanGrid) -> np.ndarray | None:
    """The labels ``[t, z, y, x]`` of a checked correction, None of a decision without a mask.

    Raises ImageError where the mask changed since it was checked.
    """
    if correction.path is None:
        return None
    try:
        data = correction.path.read_bytes()
        if sha256_bytes(data) == correction.mask_sha256:
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
    """A scan that a reader corrected or decided on, and the block ``correction`` of its record.

    With ``labels`` and ``measured`` where its numbers are new; else ``document`` is the model's
    record with what the reader's decision changes in it.
    """

    correction: dict[str, Any]
    flags: tuple[Flag, ...]
    labels: LabelStack | None = None
    measured: Measurement | None = None
    document: Mapping[str, Any] | None = None


def model_measures(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the model's labels measured, those of a rejected scan included."""
    rejected = document.get("details", {}).get("rejected_measures", {})
    return {**document["measures"], **rejected}


def apply_correction(
    cine: CineStack,
    drawn: np.ndarray | None,
    model: tuple[np.ndarray, Mapping[str, Any]],
    body: BodySize,
    bsa_formula: str,
    correction: Correction | None = None,
) -> CorrectedScan:
    """Measure a scan by a reader's labels ``[t, z, y, x]``, None where a decision has no mask.

    ``model`` is the model's own labels and record. Only frames that the reader changed differ: in
    the others the voxels are the model's. ``correction`` without a decision, or None, is a mask
    alone: one that equals the model's counts as accepted. Raises ImageError where a frame that was
    chosen is not in the scan.
    """
    own, document = model
    drawn = own if drawn is None else drawn
    changed = drawn != own
    summary = _summary(cine, changed, drawn, own)
    decision = correction.decision if correction is not None else ""
    chosen = _chosen_frames(cine, correction)
    if decision == REJECTED:
        assert correction is not None
        return _rejected(document, summary, correction.reason)
    if not changed.any() and not chosen:
        return _accepted(document, summary)
    stack = LabelStack(
        labels=drawn,
        # How sure the model was says nothing about a slice that a reader drew.
        confidence=np.full(drawn.shape[:2], np.nan, dtype=np.float32),
        model_id=document["model"]["id"],
        model_sha256=document["model"]["sha256"],
        flags=tuple(_correction_flags(drawn, own, summary)),
    )
    if chosen:
        names = ", ".join(f"{_PHASES[name]} {cine.frame_numbers[t]}" for name, t in chosen.items())
        stack = replace(stack, flags=(*stack.flags, raised(PHASES_CHOSEN, where=names)))
    if decision:
        # The reader saw the measures and flags of this mask before deciding.
        stack = replace(stack, flags=(*stack.flags, raised(ACCEPTED)))
    measured = measure_scan(cine, stack, body, bsa_formula, kept=chosen)
    kept, moves = _left_phases(document, measured, summary["frames_changed"])
    kept = {name: frame for name, frame in kept.items() if name not in chosen}
    if kept:
        stack = replace(stack, flags=(*stack.flags, raised(PHASE_KEPT, where=moves)))
        numbers = [int(number) for number in cine.frame_numbers]
        indices = {name: numbers.index(frame) for name, frame in kept.items()}
        measured = measure_scan(cine, stack, body, bsa_formula, kept={**indices, **chosen})
    summary["phases_kept"] = kept
    summary["phases_chosen"] = {name: int(cine.frame_numbers[t]) for name, t in chosen.items()}
    measured = _without_model_quality(measured)
    confidence = np.array(document["confidence_by_frame"], dtype=np.float32)
    confidence[changed.any(axis=(2, 3))] = np.nan
    return CorrectedScan(
        correction=summary,
        flags=measured.flags,
        labels=replace(stack, confidence=confidence),
        measured=measured,
    )


def _summary(
    cine: CineStack, changed: np.ndarray, drawn: np.ndarray, own: np.ndarray
) -> dict[str, Any]:
    """How much a reader changed; frames in the source's numbering."""
    by_slice = changed.any(axis=(2, 3))
    frames = np.flatnonzero(changed.any(axis=(1, 2, 3)))
    return {
        "voxels_changed": int(np.count_nonzero(changed)),
        "frames_changed": [int(cine.frame_numbers[t]) for t in frames],
        "slices_changed": int(np.count_nonzero(by_slice)),
        "voxels_by_structure": {
            name: {
                "model": int(np.count_nonzero(own == label)),
                "reader": int(np.count_nonzero(drawn == label)),
            }
            for label, name in _STRUCTURES.items()
        },
    }


def _chosen_frames(cine: CineStack, correction: Correction | None) -> dict[str, int]:
    """Indices of the frames that a reader chose; an ED/ES pair keeps its order."""
    if correction is None or cine.is_ed_es_pair:
        return {}
    numbers = [int(number) for number in cine.frame_numbers]
    missing = [frame for frame in correction.frames.values() if frame not in numbers]
    if missing:
        raise ImageError("correction-frame", f"The scan has no frame {missing[0]}.")
    return {name: numbers.index(frame) for name, frame in correction.frames.items()}


def _with_flags(
    document: Mapping[str, Any], flags: tuple[Flag, ...], **changes: Any
) -> dict[str, Any]:
    """A record with other flags and the status that follows from them."""
    found = [asdict(flag) for flag in flags]
    return {**document, "flags": found, "status": status_of(flags), **changes}


def flags_of(document: Mapping[str, Any]) -> tuple[Flag, ...]:
    """The flags of a record."""
    return tuple(Flag(**flag) for flag in document["flags"])


def _rejected(document: Mapping[str, Any], summary: dict[str, Any], reason: str) -> CorrectedScan:
    """The scan fails with the reader's reason, which comes before any other."""
    flags = merge_flags((raised(REJECTED, reason=reason.rstrip(".")),), flags_of(document))
    values, rejected = without_label_measures(model_measures(document))
    changes = {
        "measures": {name: values.get(name) for name in document["measures"]},
        "details": {**document.get("details", {}), "rejected_measures": rejected},
    }
    return CorrectedScan(
        correction=summary, flags=flags, document=_with_flags(document, flags, **changes)
    )


def _accepted(document: Mapping[str, Any], summary: dict[str, Any]) -> CorrectedScan:
    """The model's result, accepted: its doubts of itself no longer reject, other checks do."""
    flags = tuple(
        replace(flag, level="review") if flag.level == "reject" and _is_doubt(flag) else flag
        for flag in flags_of(document)
    )
    if status_of(flags) == "failed":
        flags = merge_flags(flags_of(document), (raised(UNCHANGED),))
        return CorrectedScan(correction=summary, flags=flags, document=_with_flags(document, flags))
    flags = merge_flags(flags, (raised(ACCEPTED),))
    details = {k: v for k, v in document.get("details", {}).items() if k != "rejected_measures"}
    changes = {"measures": model_measures(document), "details": details}
    return CorrectedScan(
        correction=summary, flags=flags, document=_with_flags(document, flags, **changes)
    )


def outdated(document: Mapping[str, Any], correction: Correction) -> CorrectedScan:
    """The model's result where a reader decided on another mask than it has now."""
    flag = raised(OUTDATED, decision=correction.decision)
    flags = merge_flags(flags_of(document), (flag,))
    return CorrectedScan(correction={}, flags=flags, document=_with_flags(document, flags))


def can_be_accepted(document: Mapping[str, Any]) -> bool:
    """False where a check of images or labels rejects the model's result, whoever accepts it."""
    return not any(flag.level == "reject" and not _is_doubt(flag) for flag in flags_of(document))


def _is_doubt(flag: Flag) -> bool:
    return flag.code in FLAGS and FLAGS[flag.code].tier == 4


def _without_model_quality(measured: Measurement) -> Measurement:
    """Without the predicted Dice and the flags of tier 4, which are about the model's labels."""
    return replace(
        measured,
        measures=tuple(
            replace(measure, value=None) if measure.name == "quality" else measure
            for measure in measured.measures
        ),
        flags=tuple(flag for flag in measured.flags if not _is_doubt(flag)),
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
