"""The label files of one scan read into what a reader drew, on the grid of the model's mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...evaluation.manual import LabelOrder, ManualPhase, ManualScan, likely_order, masks_of
from ...files import sha256_bytes
from ..label_file import LabelFileError, read_labels
from .contours import read_contours
from .records import LabelFile, ScanTarget, UnusableError
from .seg import read_seg


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
