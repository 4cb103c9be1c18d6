"""Headers of NIfTI files: shape, voxel lengths, time step, and which file plays which part.

Lengths to measure with come from pixdim; where the affine's lengths disagree, it is trusted for
direction only and the scan is flagged (headers of this kind have made ten-fold errors of volume).
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ImageError
from ..records import Flag
from .archive import DamagedFileError, FileSet, ImageFile
from .headers import quiet

MAX_VOXEL_BYTES = 4 * 1024**3
_HEADER_BYTES = 540  # NIfTI-2; NIfTI-1 has 348

_MASK = re.compile(r"_gt\.nii(\.gz)?$", re.IGNORECASE)
_ED = re.compile(r"_ed\.nii(\.gz)?$", re.IGNORECASE)
_ES = re.compile(r"_es\.nii(\.gz)?$", re.IGNORECASE)
_MS_PER_UNIT = {"sec": 1000.0, "msec": 1.0, "usec": 0.001}
_MM_PER_UNIT = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}


@dataclass(frozen=True, slots=True, kw_only=True)
class NiftiHeader:
    """One NIfTI's header: ``shape`` ``(x, y, z[, t])`` and its affine in the file's own unit.

    ``stored_bytes``: where the voxels end in the file, uncompressed.
    """

    file: ImageFile
    header: Any
    shape: tuple[int, ...]
    affine: np.ndarray
    stored_bytes: int

    @property
    def units(self) -> tuple[str, str]:
        """Units of length and time; ``unknown`` also for a code that the format does not have."""
        try:
            length, time = self.header.get_xyzt_units()
        except KeyError:
            return "unknown", "unknown"
        return str(length), str(time)

    @property
    def pixdim(self) -> np.ndarray:
        """Lengths of the three axes as pixdim states them, in the file's unit."""
        return np.asarray(np.abs(np.array(self.header["pixdim"][1:4], dtype=float)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Voxel lengths to measure with: ``spacing_mm`` (between rows, between columns), distance."""

    spacing_mm: tuple[float, float]
    slice_distance_mm: float
    source: str
    flags: tuple[Flag, ...]


# ------------------------------------------------------------------ names


def is_mask_name(name: str) -> bool:
    """True for ``*_gt.nii[.gz]``: a segmentation, which is never an image."""
    return bool(_MASK.search(name))


def pair_of(names: Sequence[str]) -> tuple[str, str] | None:
    """The names of an ED and an ES image among those of a folder, None unless one of each."""
    images = [name for name in names if not is_mask_name(name)]
    ed = [name for name in images if _ED.search(name)]
    es = [name for name in images if _ES.search(name)]
    return (ed[0], es[0]) if len(ed) == 1 and len(es) == 1 else None


def frame_numbers(names: Sequence[str]) -> np.ndarray | None:
    """The one number that differs between names, None unless it alone tells them apart."""
    tokens = [re.split(r"(\d+)", name) for name in names]
    if len({len(parts) for parts in tokens}) != 1:
        return None
    varying = [i for i, column in enumerate(zip(*tokens, strict=True)) if len(set(column)) > 1]
    if len(varying) != 1 or varying[0] % 2 == 0:
        return None
    numbers = [int(parts[varying[0]]) for parts in tokens]
    return np.array(numbers) if len(set(numbers)) == len(numbers) else None


# ------------------------------------------------------------------ reading


def damaged(code: str) -> ImageError:
    """The refusal of a file that cannot be read whole."""
    text = {
        "damaged": "The NIfTI file is damaged or cut off.",
        "oversized": "The NIfTI header claims a size that no cardiac cine has.",
    }
    hint = "Fetch or export the file again."
    return ImageError(code, text.get(code, "The NIfTI file cannot be read."), hint=hint)


def read_header(files: FileSet, file: ImageFile) -> NiftiHeader:
    """The header of one NIfTI from its first bytes; raises ImageError before any allocation."""
    import nibabel as nib

    quiet()
    try:
        with files.open(file) as stream:
            head = stream.read(65_536)
        packed = head[:2] == b"\x1f\x8b"
        if packed:
            head = zlib.decompressobj(wbits=31).decompress(head, _HEADER_BYTES)
        kind: Any = nib.Nifti2Header if head[4:7] == b"n+2" else nib.Nifti1Header
        # `check=False`: repairs are reported through a logger, with values of the header.
        header = kind.from_fileobj(io.BytesIO(head), check=False)
        shape = tuple(int(n) for n in header.get_data_shape())
        dtype = header.get_data_dtype()
        affine = np.array(header.get_best_affine(), dtype=float)
        start = int(header.get_data_offset())
    except DamagedFileError as error:
        raise damaged(error.code) from None
    except Exception:  # noqa: BLE001 - nibabel raises any kind on hostile bytes
        raise damaged("damaged") from None
    if dtype.kind not in "iuf":
        raise ImageError("not-grey", "The NIfTI holds colours or complex numbers, not an image.")
    size = int(np.prod(shape, dtype=object)) if shape and min(shape) > 0 else 0
    if not size or size * max(4, dtype.itemsize) > MAX_VOXEL_BYTES:
        raise damaged("oversized" if size else "damaged")
    # A file that is not compressed must be as long as its header says.
    stored = start + size * dtype.itemsize
    if start < 0 or (not packed and file.size < stored):
        raise damaged("damaged")
    if not np.isfinite(affine).all():
        raise ImageError("no-position", "The NIfTI's affine holds values that are not numbers.")
    return NiftiHeader(
        file=file, header=header, shape=_squeezed(shape), affine=affine, stored_bytes=stored
    )


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape without empty axes behind the third; a fifth axis behind an empty fourth is time."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 5 and shape[3] == 1:
        shape = (*shape[:3], shape[4])
    return shape


# ------------------------------------------------------------------ lengths and time


def _plausible(lengths: np.ndarray) -> bool:
    """In-plane 0.3 to 5 mm and a slice distance of 2 to 30 mm."""
    return bool(np.all((lengths[:2] >= 0.3) & (lengths[:2] <= 5)) and 2 <= lengths[2] <= 30)


def _shown(lengths: np.ndarray) -> str:
    return " × ".join(f"{value:.4g}" for value in lengths)


def lengths_of(nifti: NiftiHeader) -> Lengths:
    """Lengths from pixdim, checked against the affine; raises ImageError if impossible."""
    unit = nifti.units[0]
    scale = _MM_PER_UNIT.get(unit, 1.0)
    with np.errstate(all="ignore"):  # a header may hold 1e38; what becomes infinite is refused
        pixdim = nifti.pixdim * scale
        columns = nifti.affine[:3, :3] * scale
        norms = np.linalg.norm(columns, axis=0)
    placed = bool(nifti.header["sform_code"] > 0 or nifti.header["qform_code"] > 0)
    flags: list[Flag] = []
    if placed and not np.allclose(pixdim, norms, rtol=0.01, atol=0.005):
        if not _plausible(pixdim):
            raise ImageError(
                "spacing-conflict",
                f"The voxel size is {_shown(pixdim)} mm by pixdim and {_shown(norms)} mm by the "
                "affine, and the first cannot be that of a short-axis stack.",
                hint="Correct the header: a wrong voxel size is a wrong volume.",
            )
        text = (
            f"The voxel size is {_shown(pixdim)} mm by pixdim and {_shown(norms)} mm by the "
            "affine; pixdim is used."
        )
        flags.append(Flag(code="spacing_conflict", level="review", sentence=text))
    elif not _plausible(pixdim):
        raise ImageError(
            "slice-axis" if _plausible(np.sort(pixdim)) else "pixel-spacing",
            f"The voxel size {_shown(pixdim)} mm is not that of a short-axis stack "
            "(columns × rows × slices).",
            hint="The third axis must be the slices, 2 to 30 mm apart, the first two the image.",
        )
    if unit not in ("mm", "unknown"):
        text = f"The header gives lengths in {unit}; they were converted to mm."
        flags.append(Flag(code="length_unit", level="info", sentence=text))
    lean = _lean(columns, norms) if placed else 1.0
    if lean < np.cos(np.deg2rad(1.0)):
        text = "The slices lean against their normal; distances are taken along the normal."
        flags.append(Flag(code="sheared", level="review", sentence=text))
    return Lengths(
        spacing_mm=(float(pixdim[1]), float(pixdim[0])),
        slice_distance_mm=float(pixdim[2]) * lean,
        source="pixdim",
        flags=tuple(flags),
    )


# Beyond 45 degrees the slice axis is no longer one; a right angle may be off as in DICOM.
_LEAST_LEAN = np.cos(np.deg2rad(45.0))
_RIGHT_ANGLE = 0.02


def _lean(columns: np.ndarray, norms: np.ndarray) -> float:
    """Cosine between slice axis and normal of the image plane; exactly 1 within rounding.

    Raises ImageError where the axes cannot be those of a stack of images: the volume would be
    that of another body.
    """
    with np.errstate(all="ignore"):
        x, y, z = (columns / norms).T
        lean, turned = abs(float(np.cross(x, y) @ z)), abs(float(x @ y))
    # Written so that what is not a number fails as well.
    if not (turned <= _RIGHT_ANGLE and lean >= _LEAST_LEAN):
        raise ImageError(
            "no-orientation",
            "The axes of the NIfTI's affine are not those of a stack of images.",
            hint="Rows and columns must be at right angles and the slices apart from their plane.",
        )
    return 1.0 if lean > 1 - 1e-5 else lean


def frame_ms_of(nifti: NiftiHeader) -> tuple[float | None, tuple[Flag, ...]]:
    """Milliseconds a frame from pixdim[4] and its unit; None, flagged, if they cannot be right."""
    value = float(nifti.header["pixdim"][4])
    unit = nifti.units[1]
    ms = value * _MS_PER_UNIT.get(unit, float("nan"))
    # One beat lasts 0.25 to 2.5 s; a time step outside is a default or another unit.
    if np.isfinite(ms) and 5 <= ms <= 200 and nifti.shape[3] * ms <= 2500:
        return ms, ()
    text = "The header's time step or its unit cannot be that of a cine; frame times are unknown."
    return None, (Flag(code="time_unknown", level="info", sentence=text),)
