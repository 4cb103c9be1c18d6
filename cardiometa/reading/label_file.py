"""A mask that a reader edited: a NIfTI of labels, checked and brought back to the scan's own grid.

Viewers rewrite what they save: another type of number, compressed or not, qform instead of sform,
axes reordered with an affine to match. All of that is undone here without touching a label;
whatever would change one (another size, another place, values between labels) is refused.

Also: where a reader's labels of a scan are, what grid they must fit, and why they cannot be used.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import Problem
from ..evaluation.overlap import LabelOrder, Phase
from ..records import ScanKey

# A corner of the volume may be this far from where it was: rounding of a header, never a voxel.
PLACE_TOLERANCE_MM = 0.1
MAX_BYTES = 2 * 1024**3
LABELS = (0, 1, 2, 3)
_NAMES = "0 background, 1 LV cavity, 2 LV myocardium, 3 RV cavity"


def _fault(what: str, why: str, fix: str) -> list[Problem]:
    """A problem whose place the caller knows."""
    return [Problem(where="", what=what, why=why, fix=fix)]


class LabelFileError(Exception):
    """A mask that cannot be used; ``faults`` has every reason, its place left to the caller."""

    def __init__(self, faults: Sequence[Problem]) -> None:
        super().__init__("; ".join(fault.what for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanGrid:
    """The grid of a scan's mask: ``shape`` ``(t, z, y, x)`` and the affine to RAS mm."""

    shape: tuple[int, int, int, int]
    affine: np.ndarray


def _unreadable(reason: str) -> LabelFileError:
    faults = _fault(
        f"the file cannot be read as NIfTI ({reason})",
        "Without complete labels nothing can be measured.",
        "Save it again as NIfTI (.nii.gz).",
    )
    return LabelFileError(faults)


def _image(data: bytes) -> Any:
    from nibabel.nifti1 import Nifti1Image
    from nibabel.nifti2 import Nifti2Image

    raw = data
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                raw = stream.read(MAX_BYTES + 1)
        except (EOFError, zlib.error, OSError):
            raise _unreadable("the compressed data are damaged") from None
    if len(raw) > MAX_BYTES:
        raise _unreadable("it is larger than any mask")
    kind: Any = Nifti2Image if raw[4:7] == b"n+2" else Nifti1Image
    try:
        image = kind.from_bytes(raw)
        voxels = math.prod(int(n) for n in image.shape)
        end = int(image.header.get_data_offset()) + voxels * image.get_data_dtype().itemsize
    except Exception:  # noqa: BLE001 - nibabel raises any kind on hostile bytes
        raise _unreadable("the header is damaged") from None
    # Asked before anything is allocated: a header may claim any size.
    if not 0 < voxels <= end <= len(raw):
        raise _unreadable("the data are cut off")
    return image


def grid_of_mask(data: bytes) -> ScanGrid:
    """The grid of a mask that this program wrote; raises LabelFileError."""
    image = _image(data)
    if len(image.shape) != 4:
        raise _unreadable("it does not have 4 dimensions")
    x, y, z, t = (int(n) for n in image.shape)
    return ScanGrid(shape=(t, z, y, x), affine=np.asarray(image.affine, dtype=np.float64))


def read_labels(data: bytes, grid: ScanGrid) -> np.ndarray:
    """Labels uint8 ``[t, z, y, x]`` of a corrected mask on the scan's grid; raises LabelFileError.

    Every fault of the file is in the error, not only the first.
    """
    image = _image(data)
    faults: list[Problem] = []
    turn = _turn(image, grid, faults)
    values = _values(image, faults)
    if faults or turn is None:
        raise LabelFileError(faults)
    axes, flips = turn
    turned = values.reshape(*values.shape[:3], -1).transpose(*axes, 3)
    for axis, flipped in enumerate(flips):
        if flipped:
            turned = np.flip(turned, axis)
    return np.ascontiguousarray(turned.transpose(3, 2, 1, 0), dtype=np.uint8)


def _values(image: Any, faults: list[Problem]) -> np.ndarray:
    """The labels in the file's own axes, as far as they are labels."""
    try:
        with np.errstate(all="ignore"):
            values = np.asanyarray(image.dataobj)
    except Exception:  # noqa: BLE001 - nibabel raises any kind on hostile bytes
        raise _unreadable("the data are cut off or damaged") from None
    if values.dtype.kind not in "iuf":
        raise _unreadable("its voxels are not plain numbers")
    if values.dtype == np.uint8 and values.max(initial=0) <= max(LABELS):
        return np.array(values)  # as this program writes them: nothing to check or to round
    found = np.unique(values)
    whole = np.rint(found)
    sound = np.isfinite(found) & (np.abs(found - whole) < 1e-4)
    if not sound.all():
        examples = ", ".join(f"{value:g}" for value in found[~sound][:5])
        faults += _fault(
            f"there are values between labels ({examples})",
            "Labels were interpolated, so borders are no longer those that were drawn.",
            "Save the segmentation itself, or resample with nearest neighbour.",
        )
    wrong = sorted({int(value) for value in whole[sound]} - set(LABELS))
    if wrong:
        counts = ", ".join(f"{v} ({int((values == v).sum())} voxels)" for v in wrong[:8])
        faults += _fault(
            f"there are unknown labels: {counts}",
            f"Only these are known: {_NAMES}.",
            "Give those voxels one of the four labels.",
        )
    if faults:
        return np.zeros(values.shape, dtype=np.uint8)
    labels: np.ndarray = np.rint(values).astype(np.uint8)
    return labels


_Turn = tuple[tuple[int, int, int], tuple[bool, bool, bool]]


def _turn(image: Any, grid: ScanGrid, faults: list[Problem]) -> _Turn | None:
    """Order and direction of the file's axes on the scan's grid; None, with faults, if neither."""
    t, z, y, x = grid.shape
    shape = tuple(int(n) for n in image.shape)
    frames = shape[3] if len(shape) == 4 else 1
    if len(shape) not in (3, 4) or frames != t:
        faults += _fault(
            f"it has {frames if len(shape) in (3, 4) else len(shape)} "
            f"{'frames' if len(shape) in (3, 4) else 'dimensions'}, the scan has {t} frames",
            "Volumes over the cycle need the labels of every frame.",
            "Edit the 4-D segmentation.nii.gz of the output and save all of its frames.",
        )
    placed = _place(np.asarray(image.affine, dtype=np.float64), grid)
    size = shape[:3] if len(shape) >= 3 else shape
    if placed is not None and len(size) == 3:
        axes, flips = placed
        if tuple(size[axis] for axis in axes) == (x, y, z) and _same_corners(
            image.affine, grid, size, placed
        ):
            return None if faults else (axes, flips)
    if sorted(size) != sorted((x, y, z)):
        faults += _fault(
            f"it has {' × '.join(map(str, size))} voxels, the scan has {x} × {y} × {z}",
            "It was drawn on another grid, so areas and slices would not be the scan's.",
            "Draw on the scan's own images, without resampling or cropping.",
        )
    else:
        faults += _fault(
            "its voxels are elsewhere in the patient than the scan's (another affine)",
            "It may be another scan's, or turned or shifted when it was saved.",
            "Start from the segmentation.nii.gz of the output, and keep its header.",
        )
    return None


def _place(affine: np.ndarray, grid: ScanGrid) -> _Turn | None:
    """Which axis of the file is which of the grid's, and whether it runs backwards."""
    try:
        step = np.linalg.solve(grid.affine[:3, :3], affine[:3, :3])
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(step).all():
        return None
    nearest = np.rint(step)
    once = np.abs(nearest).sum(axis=0), np.abs(nearest).sum(axis=1)
    if not (np.all(once[0] == 1) and np.all(once[1] == 1)):
        return None
    order = [int(np.argmax(np.abs(nearest[row]))) for row in range(3)]
    flips = [bool(nearest[row, order[row]] < 0) for row in range(3)]
    return (order[0], order[1], order[2]), (flips[0], flips[1], flips[2])


def _same_corners(affine: Any, grid: ScanGrid, size: Sequence[int], turn: _Turn) -> bool:
    """True where every corner of the file's volume is the same corner of the scan's."""
    axes, flips = turn
    _, z, y, x = grid.shape
    ends = np.array([x, y, z]) - 1
    corners = np.array(np.meshgrid(*([0, end] for end in ends), indexing="ij")).reshape(3, -1)
    own = np.empty_like(corners)
    for axis, (source, flipped) in enumerate(zip(axes, flips, strict=True)):
        own[source] = size[source] - 1 - corners[axis] if flipped else corners[axis]
    matrix = np.asarray(affine, dtype=np.float64)
    expected = grid.affine[:3, :3] @ corners + grid.affine[:3, 3:]
    found = matrix[:3, :3] @ own + matrix[:3, 3:]
    return bool(np.linalg.norm(found - expected, axis=0).max() <= PLACE_TOLERANCE_MM)


Kind = Literal["nifti", "dicom-seg", "contours"]


class UnusableError(Exception):
    """Labels of one scan that cannot be used; the other scans continue."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFile:
    """One file (or folder or zip of contours) with a reader's labels.

    ``frame``: the frame of the scan, from 0, where the table says it; contours tell their own.
    """

    kind: Kind
    path: Path
    phase: Phase = "other"
    frame: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanTarget:
    """The scan that labels must fit.

    ``grid`` of the model's mask; ``even`` False where the gaps between slices are irregular, so
    that the affine does not tell a slice's place; ``series_regex`` the one of the run;
    ``segmented_frames`` the source's frames that the mask holds, where it has ED and ES alone.
    """

    key: ScanKey
    grid: ScanGrid
    even: bool = True
    order: LabelOrder = "cardiometa"
    series_regex: str | None = None
    segmented_frames: tuple[int, ...] | None = None
