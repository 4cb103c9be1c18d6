"""DICOM Segmentation objects, BINARY: each frame put where its ImagePositionPatient says.

Segments are told by their SNOMED CT code (87878005 LV, 49848007 LV myocardium, 53085002 RV), in
SegmentedPropertyTypeCodeSequence or else AnatomicRegionSequence, never by number or label text.
Frames that are not there are empty (DICOM PS3.3 C.8.20.2). pydicom alone is needed.

The label files of one scan read into what a reader drew, on the grid of the model's mask.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...evaluation.overlap import (
    STRUCTURES,
    LabelOrder,
    ManualPhase,
    ManualScan,
    likely_order,
    masks_of,
)
from ...files import sha256_bytes
from ...imaging.cine import LPS_TO_RAS
from ...imaging.headers import quiet
from ...measurement.measures import STRUCTURES as CODED
from ..label_file import LabelFileError, read_labels
from .contours import read_contours
from .targets import LabelFile, ScanTarget, UnusableError

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
    names = {int(s.SegmentNumber): _structure(s) for s in dataset.SegmentSequence}
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


def _structure(segment: Any) -> str | None:
    for keyword in ("SegmentedPropertyTypeCodeSequence", "AnatomicRegionSequence"):
        for item in segment.get(keyword) or ():
            name = CODES.get(str(item.get("CodeValue", "")))
            if name:
                return name
    return None


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
        _check_frame(file, target)
        data = _bytes(file.path)
        digests.append(sha256_bytes(data))
        if file.kind == "dicom-seg":
            masks = read_seg(data, target)
        else:
            labels = _labels(data, file, target)
            order = likely_order(labels)
            orders += [order] if order else []
            masks = masks_of(labels, target.order)
        phases.append(ManualPhase(phase=file.phase, frame=_frame(file, target), masks=masks))
    scan = ManualScan(phases=tuple(phases), sha256=tuple(digests), kind=files[0].kind)
    return scan, tuple(orders)


def _check_frame(file: LabelFile, target: ScanTarget) -> None:
    """Refuse labels of a frame that the mask does not hold."""
    if file.frame is None:
        return
    if target.segmented_frames is not None:
        known = file.frame in target.segmented_frames
        have = f"of this scan frames {' and '.join(map(str, target.segmented_frames))} alone were"
        has = f"{have} segmented (--frames ed-es)"
    else:
        known = file.frame < target.grid.shape[0]
        has = f"the scan has {target.grid.shape[0]}"
    if not known:
        raise UnusableError("labels-other-frame", f"The labels are of frame {file.frame}; {has}.")


def _frame(file: LabelFile, target: ScanTarget) -> int | None:
    """The place in the mask of the frame that is meant: the one named; of a pair its own."""
    if file.frame is None and target.grid.shape[0] == 2:
        return 0 if file.phase == "ED" else 1
    if file.frame is not None and target.segmented_frames is not None:
        return target.segmented_frames.index(file.frame)
    return file.frame


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise UnusableError("labels-unreadable", "The label file cannot be read.") from None


def _labels(data: bytes, file: LabelFile, target: ScanTarget) -> np.ndarray:
    """Labels ``[z, y, x]`` of a 3-D NIfTI, or of the frame of a 4-D one."""
    single = replace(target.grid, shape=(1, *target.grid.shape[1:]))
    try:
        return np.asarray(read_labels(data, single)[0])
    except LabelFileError as error:
        frame = _frame(file, target)
        if frame is not None and target.grid.shape[0] > 1:
            try:
                return np.asarray(read_labels(data, target.grid)[frame])
            except LabelFileError:
                pass
        what = "; ".join(fault.what for fault in error.faults)
        raise UnusableError("labels-unusable", f"The labels cannot be used: {what}.") from None
