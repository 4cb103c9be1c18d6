"""NIfTI cine, read and written: a 4-D file, a folder of one 3-D file per phase, an ED and ES pair.

Lengths to measure with come from pixdim; where the affine's lengths disagree, it is trusted for
direction only and the scan is flagged (headers of this kind have made ten-fold errors of volume).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import ImageError
from ..flags import raised
from ..records import CineSource, CineStack, Flag
from .archive import DamagedFileError, FileSet, ImageFile, open_files
from .exclusions import left_out, refusal
from .geometry import sparse_flags
from .headers import quiet
from .series import MIN_POSITIONS, SHORT_AXIS, kind_of_name
from .timing import MIN_PHASES, phase_count_flags

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
    flags: tuple[Flag, ...]


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
    """The one number that differs between names, None unless it alone distinguishes them."""
    tokens = [re.split(r"(\d+)", name) for name in names]
    if len({len(parts) for parts in tokens}) != 1:
        return None
    varying = [i for i, column in enumerate(zip(*tokens, strict=True)) if len(set(column)) > 1]
    if len(varying) != 1 or varying[0] % 2 == 0:
        return None
    numbers = [int(parts[varying[0]]) for parts in tokens]
    return np.array(numbers) if len(set(numbers)) == len(numbers) else None


# ------------------------------------------------------------------ reading


def damaged_error(code: str) -> ImageError:
    """The refusal of a file that cannot be read to its end."""
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
        codes = int(header["sform_code"]), int(header["qform_code"])
        if min(codes) > 0 and np.allclose(affine, np.eye(4)):
            # An sform that was never filled in, as in public sets: the qform has the place.
            with suppress(Exception):
                affine = np.array(header.get_qform(), dtype=float)
        start = int(header.get_data_offset())
    except DamagedFileError as error:
        raise damaged_error(error.code) from None
    except Exception:  # noqa: BLE001 - nibabel raises any kind on hostile bytes
        raise damaged_error("damaged") from None
    if dtype.kind not in "iuf":
        raise ImageError("not-grey", "The NIfTI contains colours or complex numbers, not an image.")
    size = int(np.prod(shape, dtype=object)) if shape and min(shape) > 0 else 0
    if not size or size * max(4, dtype.itemsize) > MAX_VOXEL_BYTES:
        raise damaged_error("oversized" if size else "damaged")
    # A file that is not compressed must be as long as its header says.
    stored = start + size * dtype.itemsize
    if start < 0 or (not packed and file.size < stored):
        raise damaged_error("damaged")
    if not np.isfinite(affine).all():
        raise ImageError("no-position", "The NIfTI's affine contains values that are not numbers.")
    # Empty axes behind the third go; a fifth axis behind an empty fourth is time.
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 5 and shape[3] == 1:
        shape = (*shape[:3], shape[4])
    return NiftiHeader(file=file, header=header, shape=shape, affine=affine, stored_bytes=stored)


def _plausible(lengths: np.ndarray) -> bool:
    """In-plane 0.3 to 5 mm and a slice distance of 2 to 30 mm."""
    return bool(np.all((lengths[:2] >= 0.3) & (lengths[:2] <= 5)) and 2 <= lengths[2] <= 30)


def _shown(lengths: np.ndarray) -> str:
    return " × ".join(f"{value:.4g}" for value in lengths)


def lengths_of(nifti: NiftiHeader) -> Lengths:
    """Lengths from pixdim, checked against the affine; raises ImageError if impossible."""
    unit = nifti.units[0]
    scale = _MM_PER_UNIT.get(unit, 1.0)
    with np.errstate(all="ignore"):  # a header may contain 1e38; what becomes infinite is refused
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
        flags.append(raised("spacing-conflict", pixdim=_shown(pixdim), affine=_shown(norms)))
    elif not _plausible(pixdim):
        raise ImageError(
            "slice-axis" if _plausible(np.sort(pixdim)) else "pixel-spacing",
            f"The voxel size {_shown(pixdim)} mm is not that of a short-axis stack "
            "(columns × rows × slices).",
            hint="The third axis must be the slices, 2 to 30 mm apart, the first two the image.",
        )
    cosine = _shear_cosine(columns, norms) if placed else 1.0
    flags += sparse_flags(float(pixdim[2]) * cosine)
    if unit not in ("mm", "unknown"):
        flags.append(raised("length-unit", where=unit))
    if cosine < np.cos(np.deg2rad(1.0)):
        flags.append(raised("sheared"))
    return Lengths(
        spacing_mm=(float(pixdim[1]), float(pixdim[0])),
        slice_distance_mm=float(pixdim[2]) * cosine,
        flags=tuple(flags),
    )


# Beyond 45 degrees the third axis is not a slice axis; a right angle may be off as in DICOM.
_LEAST_COSINE = np.cos(np.deg2rad(45.0))
_RIGHT_ANGLE = 0.02


def _shear_cosine(columns: np.ndarray, norms: np.ndarray) -> float:
    """Cosine between slice axis and normal of the image plane; exactly 1 within rounding.

    Raises ImageError where the axes cannot be those of a stack of images: volumes would be wrong.
    """
    with np.errstate(all="ignore"):
        x, y, z = (columns / norms).T
        cosine, turned = abs(float(np.cross(x, y) @ z)), abs(float(x @ y))
    # Written so that what is not a number fails as well.
    if not (turned <= _RIGHT_ANGLE and cosine >= _LEAST_COSINE):
        raise ImageError(
            "no-orientation",
            "The axes of the NIfTI's affine are not those of a stack of images.",
            hint="Rows and columns must be at right angles, the slice axis outside their plane.",
        )
    return 1.0 if cosine > 1 - 1e-5 else cosine


def frame_ms_of(nifti: NiftiHeader) -> tuple[float | None, tuple[Flag, ...]]:
    """Milliseconds per frame from pixdim[4] and its unit; None, flagged, if they are impossible."""
    value = float(nifti.header["pixdim"][4])
    unit = nifti.units[1]
    ms = value * _MS_PER_UNIT.get(unit, float("nan"))
    # One beat lasts 0.25 to 2.5 s; a time step outside is a default or another unit.
    if np.isfinite(ms) and 5 <= ms <= 200 and nifti.shape[3] * ms <= 2500:
        return ms, ()
    return None, (raised("time-unknown"),)


_MOST_BEHIND = 16 * 1024**2  # bytes that may follow the voxels of a compressed file

Format = Literal["nifti-4d", "nifti-frames", "nifti-ed-es"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NiftiPlan:
    """What headers say of a NIfTI cine, its files in order of phase."""

    format: Format
    phases: Sequence[tuple[FileSet, NiftiHeader]]
    lengths: Lengths
    reason: str
    refused: Counter[str]
    flags: Sequence[Flag]
    frame_ms: float | None = None
    time_key: str | None = None

    @property
    def affine(self) -> np.ndarray:
        """Voxel (x, y, z) to RAS mm."""
        return self.phases[0][1].affine

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The cine's ``(t, z, y, x)``."""
        shape = self.phases[0][1].shape
        x, y, z = shape[:3]
        return (shape[3] if len(shape) == 4 else len(self.phases)), z, y, x

    def read(self) -> CineStack:
        """The cine; raises ImageError."""
        pixels = np.empty(self.shape, dtype=np.float32)
        digests, bad = [], 0
        for index, (files, phase) in enumerate(self.phases):
            values, digest = _values(files, phase)
            finite = np.isfinite(values)
            bad += int(values.size - finite.sum())
            values[~finite] = 0
            pixels[index if values.ndim == 3 else slice(None)] = values.T
            digests.append(digest)
        flags = (*self.flags, *((raised("non-finite", count=bad),) if bad else ()))
        # One file: its own hash. Several: the hash of their hashes, in order of phase.
        digest = hashlib.sha256("".join(digests).encode()).hexdigest()
        return CineStack(
            pixels=pixels,
            affine=self.affine,
            spacing_mm=self.lengths.spacing_mm,
            slice_weights_mm=np.full(pixels.shape[1], self.lengths.slice_distance_mm),
            slice_distance_mm=self.lengths.slice_distance_mm,
            frame_times_ms=np.full(len(pixels), np.nan),
            frame_numbers=np.arange(len(pixels)),
            source=CineSource(
                format=self.format,
                sha256=digests[0] if len(digests) == 1 else digest,
                files=len(digests),
                frame_ms=self.frame_ms,
                time_key=self.time_key,
                spacing_source="pixdim",
                series_reason=self.reason,
                left_out=left_out(self.refused),
                flags=flags,
            ),
        )


def plan_nifti(files: FileSet) -> NiftiPlan:
    """A 4-D file, else a pair, else one 3-D file per phase; raises ImageError."""
    refused = Counter(files.refused)
    found = files.files("nifti")
    images = [file for file in found if not is_mask_name(file.name)]
    refused["mask-file"] += len(found) - len(images)
    if not images:
        raise ImageError(
            "mask-file",
            "There are segmentations (`_gt`) but no image.",
            hint="Masks alone cannot be measured here.",
        )
    headers = [read_header(files, file) for file in images]
    # M&Ms-2, UK Biobank and others keep long-axis views next to the short axis.
    stacks = [header for header in headers if header.shape[2:3] >= (MIN_POSITIONS,)]
    if stacks and len(stacks) < len(headers):
        refused["long-axis-nifti"] += len(headers) - len(stacks)
        headers = stacks
    named = [header for header in headers if SHORT_AXIS.search(header.file.name)]
    if len([header for header in headers if len(header.shape) == 4]) > 1 and named:
        refused["other-nifti"] += len(headers) - len(named)
        headers = named
    pair = pair_of([header.file.name for header in headers])
    if pair is not None and len(headers) == 2:
        by_name = {header.file.name: header for header in headers}
        return _plan_pair([(files, by_name[name]) for name in pair], refused)
    cines = [header for header in headers if len(header.shape) == 4]
    if len(cines) > 1:
        raise ImageError(
            "several-images",
            f"There are {len(cines)} 4-D NIfTI files; which is the short-axis cine?",
            hint="Name the file itself, or leave one in the folder.",
        )
    if not cines:
        return _plan_frames(files, headers, refused)
    refused["other-nifti"] += len(headers) - 1
    header = cines[0]
    _check_phases(header.shape[3])
    _check_slices(header)
    lengths = lengths_of(header)
    frame_ms, flags = frame_ms_of(header)
    return NiftiPlan(
        format="nifti-4d",
        phases=((files, header),),
        lengths=lengths,
        frame_ms=frame_ms,
        time_key="NIfTI time axis",
        reason="the only 4-D NIfTI",
        refused=refused,
        flags=(*lengths.flags, *flags, *phase_count_flags(header.shape[3], frame_ms)),
    )


@contextmanager
def pair_plan(paths: Sequence[Path]) -> Iterator[NiftiPlan]:
    """The plan of an ED and an ES file, open while it is used; raises ImageError."""
    with ExitStack() as stack:
        phases = []
        for name, path in zip(("ED", "ES"), paths, strict=True):
            if not path.is_file():
                raise ImageError(
                    "no-images",
                    f"{name} image not found.",
                    hint="Check the path in the table of scans, or fetch the data.",
                )
            files = stack.enter_context(open_files(path))
            if len(files.files("nifti")) != 1:
                usual = "An ED and ES pair is two 3-D NIfTI files."
                _, hint = refusal(files.refused, "not-nifti", usual)
                raise ImageError("not-nifti", f"The {name} image is not a NIfTI file.", hint=hint)
            phases.append((files, read_header(files, files.files("nifti")[0])))
        yield _plan_pair(phases, Counter())


def _plan_pair(phases: Sequence[tuple[FileSet, NiftiHeader]], refused: Counter[str]) -> NiftiPlan:
    lengths = _common_grid([header for _, header in phases])
    return NiftiPlan(
        format="nifti-ed-es",
        phases=phases,
        lengths=lengths,
        reason="an ED and an ES image",
        refused=refused,
        flags=lengths.flags,
    )


def _plan_frames(
    files: FileSet, headers: Sequence[NiftiHeader], refused: Counter[str]
) -> NiftiPlan:
    """One 3-D file per phase, ordered by the number that differs between their names."""
    if len(headers) == 1:
        raise ImageError(
            "not-a-cine",
            f"The NIfTI has {len(headers[0].shape)} dimensions: it is not a cine.",
            hint="Give a 4-D file, one 3-D file per phase, or *_ED and *_ES files together.",
        )
    _check_phases(len(headers))
    numbers = frame_numbers([header.file.name for header in headers])
    if numbers is None:
        raise ImageError(
            "frame-order",
            f"There are {len(headers)} NIfTI volumes whose names do not number the phases.",
            hint="Name them frame_01.nii.gz, frame_02.nii.gz and so on.",
        )
    ordered = [headers[i] for i in np.argsort(numbers)]
    lengths = _common_grid(ordered)
    flags = [*lengths.flags, *phase_count_flags(len(ordered), None)]
    steps = np.diff(np.sort(numbers))
    lost = int((steps // steps.min() - 1).sum())
    if lost:
        where = "the numbers in the files' names skip them and they are not filled"
        flags.append(raised("missing-frames", count=lost, where=where))
    names = {kind_of_name(header.file.name) for header in headers}
    if unread := sum(kind_of_name(file.name) in names for file in files.lost):
        flags.append(raised("lost-images", count=unread, where=""))
    return NiftiPlan(
        format="nifti-frames",
        phases=[(files, header) for header in ordered],
        lengths=lengths,
        time_key="file number",
        reason="one NIfTI per phase",
        refused=refused,
        flags=flags,
    )


def _common_grid(headers: Sequence[NiftiHeader]) -> Lengths:
    """The lengths of 3-D files that must lie on one grid; raises ImageError."""
    first = headers[0]
    for header in headers:
        if len(header.shape) != 3:
            raise ImageError(
                "phases-differ",
                f"A single phase must have 3 dimensions, not {len(header.shape)}.",
                hint="Give 3-D volumes, or one 4-D file alone.",
            )
        alike = (
            header.shape == first.shape
            and np.allclose(header.affine, first.affine, rtol=1e-3, atol=1e-2)
            and np.allclose(header.pixdim, first.pixdim, rtol=1e-3)
            and header.units[0] == first.units[0]
        )
        if not alike:
            raise ImageError(
                "phases-differ",
                "The NIfTI files of this scan differ in shape, voxel size or place.",
                hint="All phases of one cine must lie on one grid.",
            )
    _check_slices(first)
    return lengths_of(first)


def _check_phases(phases: int) -> None:
    if phases < MIN_PHASES:
        raise ImageError(
            "too-few-phases",
            f"The NIfTI has {phases} phases; a cine has at least {MIN_PHASES}.",
            hint="Two phases are read as an ED and ES pair: *_ED.nii.gz and *_ES.nii.gz.",
        )


def _check_slices(header: NiftiHeader) -> None:
    slices = header.shape[2] if len(header.shape) > 2 else 1
    if len(header.shape) > 4 or slices < MIN_POSITIONS:
        raise ImageError(
            "too-few-positions" if slices < MIN_POSITIONS else "not-a-cine",
            f"The NIfTI has the shape {' × '.join(map(str, header.shape))}; a short-axis cine has "
            f"columns × rows × at least {MIN_POSITIONS} slices × phases.",
            hint="Long-axis cine cannot be measured here.",
        )


# ------------------------------------------------------------------ reading


def _values(files: FileSet, header: NiftiHeader) -> tuple[np.ndarray, str]:
    """Writable float32 data in the file's axes, rescaled, and the sha256 of the file."""
    import nibabel as nib

    quiet()
    behind = 0
    try:
        data = raw = files.read(header.file)
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                raw = stream.read(header.stored_bytes)
                behind = len(stream.read(_MOST_BEHIND + 1))  # to the end, where the checksum is
        kind = nib.Nifti2Image if raw[4:7] == b"n+2" else nib.Nifti1Image
        with np.errstate(all="ignore"):
            values = kind.from_bytes(raw).get_fdata(dtype=np.float32, caching="unchanged")
    except DamagedFileError as error:
        raise damaged_error(error.code) from None
    except Exception:  # noqa: BLE001 - nibabel raises any kind on hostile bytes
        raise damaged_error("damaged") from None
    if behind > _MOST_BEHIND:
        raise damaged_error("oversized")
    return np.array(values.reshape(header.shape)), hashlib.sha256(data).hexdigest()


# ------------------------------------------------------------------ writing


def nifti_bytes(
    values: np.ndarray,
    affine: np.ndarray,
    *,
    frame_ms: float | None = None,
    description: str = "",
    header: Any = None,
) -> bytes:
    """``.nii.gz`` of a volume ``[z, y, x]`` or cine ``[t, z, y, x]``, stored as (x, y, z[, t]).

    ``affine`` 4×4 from voxel (x, y, z) to RAS mm; ``frame_ms`` the time step of a cine. With the
    nibabel ``header`` of another file, its units and time step are kept instead. The same values
    give the same bytes.
    """
    from nibabel.nifti1 import Nifti1Image

    # nibabel's headers carry no types.
    image: Any = Nifti1Image(values.T, affine, header)  # type: ignore[no-untyped-call]
    if header is None:
        image.header["descrip"] = description.encode()
        image.header.set_xyzt_units("mm", None if frame_ms is None else "msec")
        if frame_ms is not None:
            image.header.set_zooms([*image.header.get_zooms()[:3], frame_ms])
    buffer = io.BytesIO()
    # Level 1 costs a tenth of a second where level 9 costs 15; no time stamp, equal bytes.
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=1, mtime=0) as stream:
        stream.write(image.to_bytes())
    return buffer.getvalue()
