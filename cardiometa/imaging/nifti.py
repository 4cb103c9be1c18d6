"""NIfTI cine: a 4-D file, a folder of one 3-D file a phase, or an ED and an ES volume.

Masks go back with the source's own shape and affine.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import ImageError
from ..records import CineSource, CineStack, Flag
from .archive import DamagedFileError, FileSet, open_files
from .flags import phase_count_flags
from .headers import quiet
from .left_out import left_out
from .nifti_header import (
    Lengths,
    NiftiHeader,
    damaged,
    frame_ms_of,
    frame_numbers,
    is_mask_name,
    lengths_of,
    pair_of,
    read_header,
)
from .series import MIN_POSITIONS
from .timing import MIN_PHASES

_MOST_BEHIND = 16 * 1024**2  # bytes that may follow the voxels of a compressed file

Format = Literal["nifti-4d", "nifti-frames", "nifti-ed-es"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NiftiPlan:
    """What headers say of a NIfTI cine: the files in order of phase, and all that goes with it."""

    format: Format
    phases: tuple[tuple[FileSet, NiftiHeader], ...]
    lengths: Lengths
    frame_ms: float | None
    time_key: str | None
    reason: str
    refused: Counter[str]
    flags: tuple[Flag, ...]


# ------------------------------------------------------------------ planning


def plan_nifti(files: FileSet) -> NiftiPlan:
    """A 4-D file, else a pair, else one 3-D file a phase; raises ImageError."""
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
    pair = pair_of([file.name for file in images])
    if pair is not None and len(images) == 2:
        by_name = {header.file.name: header for header in headers}
        return _plan_pair([(files, by_name[name]) for name in pair], refused)
    cines = [header for header in headers if len(header.shape) == 4]
    if len(cines) > 1:
        raise ImageError(
            "several-images",
            f"There are {len(cines)} 4-D NIfTI files; which is the short-axis cine?",
            hint="Name the file itself, or leave one in the folder.",
        )
    if cines:
        refused["other-nifti"] += len(headers) - 1
        return _plan_4d(files, cines[0], refused)
    return _plan_frames(files, headers, refused)


@contextmanager
def pair_plan(paths: Sequence[Path]) -> Iterator[NiftiPlan]:
    """The plan of an ED and an ES file, open while it is used; raises ImageError."""
    with ExitStack() as stack:
        phases = []
        for name, path in zip(("ED", "ES"), paths, strict=True):
            if not path.is_file():
                raise ImageError(
                    "no-images",
                    f"The {name} image of this scan is not there.",
                    hint="Check the path in the table of scans, or fetch the data.",
                )
            files = stack.enter_context(open_files(path))
            if len(files.files("nifti")) != 1:
                raise ImageError(
                    "not-nifti",
                    f"The {name} image is not a NIfTI file.",
                    hint="An ED and ES pair is two 3-D NIfTI files.",
                )
            phases.append((files, read_header(files, files.files("nifti")[0])))
        yield _plan_pair(phases, Counter())


def _plan_pair(phases: Sequence[tuple[FileSet, NiftiHeader]], refused: Counter[str]) -> NiftiPlan:
    lengths = _common_grid([header for _, header in phases])
    return NiftiPlan(
        format="nifti-ed-es",
        phases=tuple(phases),
        lengths=lengths,
        frame_ms=None,
        time_key=None,
        reason="an ED and an ES image",
        refused=refused,
        flags=lengths.flags,
    )


def _plan_4d(files: FileSet, header: NiftiHeader, refused: Counter[str]) -> NiftiPlan:
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


def _plan_frames(
    files: FileSet, headers: Sequence[NiftiHeader], refused: Counter[str]
) -> NiftiPlan:
    """One 3-D file a phase, ordered by the number that differs between their names."""
    if len(headers) == 1:
        raise ImageError(
            "not-a-cine",
            f"The NIfTI has {len(headers[0].shape)} dimensions: it is not a cine.",
            hint="Give a 4-D file, one 3-D file a phase, or *_ED and *_ES files together.",
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
        text = f"The numbers in the files' names leave out {lost} phases; they are not filled."
        flags.append(Flag(code="missing_frames", level="review", sentence=text))
    return NiftiPlan(
        format="nifti-frames",
        phases=tuple((files, header) for header in ordered),
        lengths=lengths,
        frame_ms=None,
        time_key="file number",
        reason="one NIfTI a phase",
        refused=refused,
        flags=tuple(flags),
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


def read_nifti(files: FileSet) -> CineStack:
    """The cine among the NIfTI files of a source; raises ImageError."""
    return _read(plan_nifti(files))


def read_pair(paths: Sequence[Path]) -> CineStack:
    """An ED and an ES NIfTI, in that order: two phases, never swapped; raises ImageError."""
    with pair_plan(paths) as plan:
        return _read(plan)


def inspect_pair(paths: Sequence[Path]) -> None:
    """Raise what `read_pair` would raise from headers alone."""
    with pair_plan(paths):
        pass


def _read(plan: NiftiPlan) -> CineStack:
    header = plan.phases[0][1]
    shape = (
        header.shape[::-1] if len(header.shape) == 4 else (len(plan.phases), *header.shape[::-1])
    )
    pixels = np.empty(shape, dtype=np.float32)
    digests, bad = [], 0
    for index, (files, phase) in enumerate(plan.phases):
        values, digest = _values(files, phase)
        finite = np.isfinite(values)
        bad += int(values.size - finite.sum())
        values[~finite] = 0
        if values.ndim == 4:
            pixels[:] = values.transpose(3, 2, 1, 0)
        else:
            pixels[index] = values.transpose(2, 1, 0)
        digests.append(digest)
    flags = list(plan.flags)
    if bad:
        text = f"{bad} voxels were not numbers and are read as 0."
        flags.append(Flag(code="non_finite", level="review", sentence=text))
    # One file: its own hash. Several: the hash of their hashes, in order of phase.
    digest = hashlib.sha256("".join(digests).encode()).hexdigest()
    return CineStack(
        pixels=pixels,
        affine=header.affine,
        spacing_mm=plan.lengths.spacing_mm,
        slice_weights_mm=np.full(pixels.shape[1], plan.lengths.slice_distance_mm),
        slice_distance_mm=plan.lengths.slice_distance_mm,
        frame_times_ms=np.full(len(pixels), np.nan),
        frame_numbers=np.arange(len(pixels)),
        source=CineSource(
            format=plan.format,
            sha256=digests[0] if len(digests) == 1 else digest,
            files=len(digests),
            frame_ms=plan.frame_ms,
            time_key=plan.time_key,
            spacing_source=plan.lengths.source,
            series_reason=plan.reason,
            left_out=left_out(plan.refused),
            flags=tuple(flags),
        ),
    )


def _values(files: FileSet, header: NiftiHeader) -> tuple[np.ndarray, str]:
    """Writable float32 data in the file's axes, rescaled, and the sha256 of the file."""
    import nibabel as nib

    quiet()
    try:
        data = files.read(header.file)
        raw = _gunzip(data, header.stored_bytes) if data[:2] == b"\x1f\x8b" else data
        kind = nib.Nifti2Image if raw[4:7] == b"n+2" else nib.Nifti1Image
        with np.errstate(all="ignore"):
            values = kind.from_bytes(raw).get_fdata(dtype=np.float32, caching="unchanged")
    except DamagedFileError as error:
        raise damaged(error.code) from None
    except Exception:  # noqa: BLE001 - nibabel raises any kind on hostile bytes
        raise damaged("damaged") from None
    return np.array(values.reshape(header.shape)), hashlib.sha256(data).hexdigest()


def _gunzip(data: bytes, size: int) -> bytes:
    """The file uncompressed and checked; ``size`` is what its own header says it needs."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        try:
            raw = stream.read(size)
            behind = len(stream.read(_MOST_BEHIND + 1))  # to the end, where the checksum stands
        except (EOFError, zlib.error, OSError):
            raise DamagedFileError("damaged") from None
    if behind > _MOST_BEHIND:
        raise DamagedFileError("oversized")
    if len(raw) < size:
        raise DamagedFileError("damaged")
    return raw
