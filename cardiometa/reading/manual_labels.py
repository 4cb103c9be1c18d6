"""Find each scan's labels: in folders named after trial, participant and visit, or by a table.

Folders (the first with labels counts), below LABELS or LABELS/scans: ``trial/participant/
visit``, ``participant/visit``, ``trial/participant``, ``participant``; for contours also a zip of
that name. In it: ``*_ED_gt.nii[.gz]`` and ``*_ES_gt.nii[.gz]`` (ACDC), ``ed.seg.dcm`` and
``es.seg.dcm`` (DICOM SEG), or ``*-icontour-manual.txt`` and ``*-ocontour-manual.txt`` (Sunnybrook).

DICOM Segmentation objects are BINARY, each frame put where its ImagePositionPatient says.
Segments are identified by their SNOMED CT code (87878005 LV, 49848007 LV myocardium, 53085002 RV)
in SegmentedPropertyTypeCodeSequence or else AnatomicRegionSequence, never by number or label text.
Absent frames are empty (DICOM PS3.3 C.8.20.2). pydicom alone is needed.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..cohort.read_table import read_any_table
from ..errors import InputError, Problem
from ..evaluation.overlap import (
    STRUCTURES,
    LabelOrder,
    ManualPhase,
    ManualScan,
    Phase,
    likely_order,
    masks_of,
)
from ..files import sha256_bytes
from ..imaging.headers import quiet
from ..imaging.read import LPS_TO_RAS
from ..measurement.measures import STRUCTURES as CODED
from ..records import ScanKey
from .contours import has_contours, read_contours
from .label_file import Kind, LabelFile, LabelFileError, ScanTarget, UnusableError, read_labels

_NIFTI = re.compile(r"(?:^|.*[_.-])(ed|es)_gt\.nii(?:\.gz)?", re.IGNORECASE)
_SEG = re.compile(r"(?:.*[_.-])?(ed|es)\.seg\.dcm", re.IGNORECASE)
_COLUMNS = ("trial", "participant_id", "visit", "phase", "labels")

Found = dict[ScanKey, tuple[LabelFile, ...] | UnusableError]


def find_labels(labels: Path, keys: Sequence[ScanKey]) -> Found:
    """The label files of each scan that has some; raises InputError for a table with faults."""
    if labels.is_dir():
        return _in_folders(labels, keys)
    if labels.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise InputError(
            f"{labels.name} is neither a folder nor a table.",
            hint=f"Give a folder of labels, or a CSV of {', '.join(_COLUMNS)}.",
        )
    return _by_table(labels, keys)


def _in_folders(top: Path, keys: Sequence[ScanKey]) -> Found:
    scans = Counter((key.trial, key.participant) for key in keys)
    trials = Counter(participant for _, participant in {(k.trial, k.participant) for k in keys})
    found: Found = {}
    for key in keys:
        trial, person, visit = key.trial, key.participant, key.visit
        places = (
            (f"{trial}/{person}/{visit}", ("trial", "visit")),
            (f"{person}/{visit}", ("visit",)),
            (f"{trial}/{person}", ("trial",)),
            (person, ()),
            (f"{trial}/{person}.zip", ("trial",)),
            (f"{person}.zip", ()),
        )
        for root, (place, named) in product((top, top / "scans"), places):
            files = _files_of(root / place)
            if not isinstance(files, UnusableError) and not files:
                continue
            found[key] = files
            # A folder that names no visit, or no trial, may be of another scan.
            clear = ("visit" in named or scans[trial, person] == 1) and (
                "trial" in named or trials[person] == 1
            )
            if not clear and not isinstance(files, UnusableError):
                lacking = " and ".join(part for part in ("trial", "visit") if part not in named)
                found[key] = UnusableError(
                    "labels-ambiguous",
                    f"The labels' folder names no {lacking}, and more than one scan could be "
                    "meant. Put them in trial/participant/visit, or give a table.",
                )
            break
    return found


def _files_of(place: Path) -> tuple[LabelFile, ...] | UnusableError:
    """The labels directly in a folder, or the contours below it or in a zip."""
    if place.is_file():
        found = place.suffix == ".zip" and has_contours(place)
        return (LabelFile(kind="contours", path=place),) if found else ()
    if not place.is_dir():
        return ()
    names = sorted(p for p in place.iterdir() if p.is_file())
    kinds: tuple[tuple[Kind, re.Pattern[str]], ...] = (("nifti", _NIFTI), ("dicom-seg", _SEG))
    for kind, pattern in kinds:
        files = [
            LabelFile(kind=kind, path=path, phase=_phase(match[1]))
            for path in names
            if (match := pattern.fullmatch(path.name))
        ]
        if len({f.phase for f in files}) < len(files):
            return UnusableError(
                "labels-ambiguous", "There are several label files of one phase in its folder."
            )
        if files:
            return tuple(files)
    return (LabelFile(kind="contours", path=place),) if has_contours(place) else ()


def _phase(text: str) -> Phase:
    return "ED" if text.upper() == "ED" else "ES"


def _by_table(table: Path, keys: Sequence[ScanKey]) -> Found:
    """One row per file: `_COLUMNS`; ``phase`` is ED, ES or a frame from 0 (blank for contours)."""
    rows = read_any_table(table)
    missing = [name for name in _COLUMNS if name not in rows.columns]
    if missing:
        raise InputError(
            f"{table.name} has no column {', '.join(missing)}.",
            hint=f"It needs {', '.join(_COLUMNS)}: a row for each label file.",
        )
    known = set(keys)
    found: dict[ScanKey, list[LabelFile]] = {}
    problems: list[Problem] = []
    cells = rows[list(_COLUMNS)].astype(object).where(rows[list(_COLUMNS)].notna(), "")
    for number, row in zip(rows.index, cells.itertuples(index=False), strict=True):
        trial, person, visit, phase, path = (str(cell).strip() for cell in row)
        where = f"{table.name}, row {number}"
        key = ScanKey(trial=trial, participant=person, visit=visit)
        if key not in known:
            fix = "Use trial, participant_id and visit of its measurements.csv."
            problems.append(Problem(where=where, what="OUT has no such scan", fix=fix))
            continue
        file = _file_of(table.parent / path, phase)
        if isinstance(file, str):
            problems.append(Problem(where=where, what=file))
        elif any(f.phase == file.phase and f.frame == file.frame for f in found.get(key, ())):
            problems.append(Problem(where=where, what=f"{key} has two rows of the phase {phase}"))
        else:
            found.setdefault(key, []).append(file)
    if problems:
        raise InputError(
            f"{table.name} cannot be used: {len(problems)} problems.", problems=problems
        )
    return {key: tuple(files) for key, files in found.items()}


def _file_of(path: Path, phase: str) -> LabelFile | str:
    """The label file of a row, or what is wrong with it."""
    if not path.exists():
        return "the file in the column labels does not exist"
    number = phase.removesuffix(".0")
    if phase and phase.upper() not in ("ED", "ES") and not number.isdecimal():
        return f"the phase {phase!r} is neither ED, ES nor a frame from 0"
    if path.is_dir() or path.suffix.lower() == ".zip":
        return LabelFile(kind="contours", path=path)
    if not phase:
        return "the phase is blank: ED, ES or a frame from 0"
    kind: Kind = "dicom-seg" if path.suffix.lower() == ".dcm" else "nifti"
    if number.isdecimal():
        return LabelFile(kind=kind, path=path, frame=int(number))
    return LabelFile(kind=kind, path=path, phase=_phase(phase))


STORAGE: Final = "1.2.840.10008.5.1.4.1.1.66.4"
_BY_LABEL = {label: name for name, label in STRUCTURES.items()}
CODES: Final = {item.code.rpartition(" ")[2]: _BY_LABEL[item.label] for item in CODED}
# A voxel's centre may lie this far (in voxels) from a centre of the model's grid.
_IN_PLANE, _ACROSS = 0.1, 0.25


def read_seg(data: bytes, target: ScanTarget) -> dict[str, np.ndarray]:
    """Boolean masks ``[z, y, x]`` of the structures that a SEG has; raises UnusableError."""
    import pydicom

    quiet()
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        return _masks(dataset, target)
    except UnusableError:
        raise
    except Exception:  # noqa: BLE001 - pydicom raises any kind on hostile bytes
        raise UnusableError(
            "labels-unreadable", "The label file cannot be read as a DICOM SEG."
        ) from None


def _masks(dataset: Any, target: ScanTarget) -> dict[str, np.ndarray]:
    if str(dataset.get("SOPClassUID", "")) != STORAGE:
        raise UnusableError("labels-not-seg", "The DICOM file is not a Segmentation object.")
    if str(dataset.get("SegmentationType", "")) != "BINARY":
        raise UnusableError("labels-not-binary", "The DICOM SEG is not BINARY.")
    if not target.even:
        raise UnusableError(
            "labels-irregular-gaps",
            "The scan's slices have irregular gaps: a SEG cannot be placed on its mask's grid.",
        )
    where = ("SegmentedPropertyTypeCodeSequence", "AnatomicRegionSequence")
    names: dict[int, str | None] = {}
    for segment in dataset.SegmentSequence:
        codes = (str(item.get("CodeValue", "")) for tag in where for item in segment.get(tag) or ())
        names[int(segment.SegmentNumber)] = next((CODES[c] for c in codes if c in CODES), None)
    if not any(names.values()):
        raise UnusableError(
            "labels-without-codes",
            f"No segment has one of the SNOMED CT codes {', '.join(CODES)}.",
        )
    twice = [n for n in names.values() if n and list(names.values()).count(n) > 1]
    if twice:
        raise UnusableError("labels-ambiguous", f"Two segments are coded as {twice[0]}.")
    _, z, y, x = target.grid.shape
    masks = {name: np.zeros((z, y, x), dtype=bool) for name in names.values() if name}
    pixels = dataset.pixel_array
    if pixels.ndim == 2:
        pixels = pixels[None]
    for index, (number, place) in enumerate(_frames(dataset)):
        name = names.get(number)
        if name:
            _put(masks[name], pixels[index].astype(bool), place, target)
    return masks


def _frames(dataset: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Segment number and 3 × 3 place (origin, a column's step, a row's step; RAS mm) of frames."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        levels = [level for level in (frame, shared) if level is not None]

        def group(name: str, levels: list[Any] = levels) -> Any:
            return next(level.get(name)[0] for level in levels if level.get(name))

        number = int(group("SegmentIdentificationSequence").ReferencedSegmentNumber)
        position = np.array(group("PlanePositionSequence").ImagePositionPatient, dtype=float)
        cosines = np.array(
            group("PlaneOrientationSequence").ImageOrientationPatient, dtype=float
        ).reshape(2, 3)
        rows_mm, columns_mm = (float(v) for v in group("PixelMeasuresSequence").PixelSpacing)
        place = np.stack([position, cosines[0] * columns_mm, cosines[1] * rows_mm])
        yield number, place @ LPS_TO_RAS[:3, :3].T


def _put(mask: np.ndarray, image: np.ndarray, place: np.ndarray, target: ScanTarget) -> None:
    """Add a frame to a mask ``[z, y, x]`` at its place on the grid; raises UnusableError."""
    rows, columns = np.nonzero(image)
    if not len(rows):
        return
    affine = target.grid.affine
    origin = np.linalg.solve(affine[:3, :3], place[0] - affine[:3, 3])
    steps = np.linalg.solve(affine[:3, :3], place[1:].T)
    points = origin[:, None] + steps @ np.stack([columns, rows]).astype(float)
    voxels = np.rint(points)
    off = np.abs(points - voxels).max(axis=1)
    size = np.array(mask.shape[::-1])
    if max(off[:2]) > _IN_PLANE or off[2] > _ACROSS:
        raise UnusableError(
            "labels-other-grid", "The DICOM SEG lies on another grid than the scan's images."
        )
    if np.any(voxels < 0) or np.any(voxels >= size[:, None]):
        raise UnusableError("labels-outside", "The DICOM SEG reaches outside the scan.")
    i, j, k = voxels.astype(int)
    mask[k, j, i] = True


def read_manual(
    files: tuple[LabelFile, ...], target: ScanTarget
) -> tuple[ManualScan, tuple[LabelOrder, ...]]:
    """What a reader drew of a scan, and the order of labels that each NIfTI's shapes suggest.

    Raises UnusableError.
    """
    if files[0].kind == "contours":
        return read_contours(files[0].path, target), ()
    phases, digests, orders = [], [], []
    for file in files:
        frame = _frame(file, target)
        try:
            data = file.path.read_bytes()
        except OSError:
            raise UnusableError("labels-unreadable", "The label file cannot be read.") from None
        digests.append(sha256_bytes(data))
        if file.kind == "dicom-seg":
            masks = read_seg(data, target)
        else:
            labels = _labels(data, frame, target)
            order = likely_order(labels)
            orders += [order] if order else []
            masks = masks_of(labels, target.order)
        phases.append(ManualPhase(phase=file.phase, frame=frame, masks=masks))
    scan = ManualScan(phases=tuple(phases), sha256=tuple(digests), kind=files[0].kind)
    return scan, tuple(orders)


def _frame(file: LabelFile, target: ScanTarget) -> int | None:
    """The place in the mask of the frame that is meant: the one named; of a pair its own.

    Raises UnusableError for a frame that the mask does not have.
    """
    frames, own = target.grid.shape[0], target.segmented_frames
    if file.frame is None:
        return ("ED", "ES").index(file.phase) if frames == 2 and file.phase != "other" else None
    known = range(frames) if own is None else own
    if file.frame not in known:
        has = f"the scan has {frames}"
        if own is not None:
            shown = " and ".join(map(str, own))
            has = f"of this scan frames {shown} alone were segmented (--frames ed-es)"
        raise UnusableError("labels-other-frame", f"The labels are of frame {file.frame}; {has}.")
    return known.index(file.frame)


def _labels(data: bytes, frame: int | None, target: ScanTarget) -> np.ndarray:
    """Labels ``[z, y, x]`` of a 3-D NIfTI, or of the frame of a 4-D one."""
    single = replace(target.grid, shape=(1, *target.grid.shape[1:]))
    try:
        return np.asarray(read_labels(data, single)[0])
    except LabelFileError as error:
        if frame is not None and target.grid.shape[0] > 1:
            try:
                return np.asarray(read_labels(data, target.grid)[frame])
            except LabelFileError:
                pass
        what = "; ".join(fault.what for fault in error.faults)
        raise UnusableError("labels-unusable", f"The labels cannot be used: {what}.") from None
