"""From the images of one scan to a `CineStack`: ``read_cine``.

>>> cine = read_cine(ScanSource(kind="images", paths=(folder,)), ReadOptions())
>>> cine.pixels.shape  # phases, slices, rows, columns
(20, 12, 256, 256)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ImageError
from ..records import CineStack, ScanSource
from .archive import FileSet, open_files
from .cine import LPS_TO_RAS, UndecodableError, build_cine, plan_cine
from .exclusions import hint_for, main_reason, summary
from .frame_table import frame_table
from .frames import FrameTable
from .nifti import NiftiPlan, inspect_pair, pair_plan, plan_nifti, read_nifti, read_pair
from .series import choose_stack


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read: ``series_regex`` is searched in SeriesDescription and overrides the choice."""

    series_regex: str | None = None


def read_cine(source: ScanSource, options: ReadOptions) -> CineStack:
    """The short-axis cine of one scan; raises ImageError with a code and every reason found."""
    if source.kind == "ed-es":
        return read_pair(source.paths)
    path = source.paths[0]
    if not path.exists():
        raise _absent()
    with open_files(path) as files:
        if files.files("dicom"):
            return _read_dicom(files, options)
        if files.files("nifti"):
            return read_nifti(files)
        raise _no_images(files)


def inspect_scan(source: ScanSource, options: ReadOptions) -> None:
    """What `read_cine` checks before pixels: raises the ImageError that headers alone give away."""
    if source.kind == "ed-es":
        inspect_pair(source.paths)
        return
    path = source.paths[0]
    if not path.exists():
        raise _absent()
    with open_files(path) as files:
        if files.files("dicom"):
            plan_cine(choose_stack(_table(files), files, options.series_regex))
        elif files.files("nifti"):
            plan_nifti(files)
        else:
            raise _no_images(files)


def scan_grid(
    source: ScanSource, options: ReadOptions
) -> tuple[tuple[int, int, int, int], np.ndarray]:
    """Shape ``(t, z, y, x)`` and affine to RAS mm that `read_cine` would give, from headers alone.

    Raises ImageError as `inspect_scan` does.
    """
    if source.kind == "ed-es":
        with pair_plan(source.paths) as plan:
            return _nifti_grid(plan)
    path = source.paths[0]
    if not path.exists():
        raise _absent()
    with open_files(path) as files:
        if files.files("dicom"):
            grid, timing = plan_cine(choose_stack(_table(files), files, options.series_regex))
            phases, slices = timing.index.shape
            return (phases, slices, grid.rows, grid.columns), LPS_TO_RAS @ grid.affine_lps
        if files.files("nifti"):
            return _nifti_grid(plan_nifti(files))
        raise _no_images(files)


def _nifti_grid(plan: NiftiPlan) -> tuple[tuple[int, int, int, int], np.ndarray]:
    header = plan.phases[0][1]
    x, y, z = header.shape[:3]
    phases = header.shape[3] if len(header.shape) == 4 else len(plan.phases)
    return (phases, z, y, x), header.affine


def _absent() -> ImageError:
    return ImageError(
        "no-images",
        "The images of this scan are not there.",
        hint="Check the path in the table of scans, or fetch the data.",
    )


def _no_images(files: FileSet) -> ImageError:
    """The refusal of a source without a single readable image, with what was there instead."""
    found = summary(files.refused)
    code = main_reason(files.refused, "no-images")
    usual = "Give a folder or zip of DICOM files, a 4-D NIfTI, or an ED and ES pair of NIfTIs."
    return ImageError(
        code,
        f"No image that can be read. {'Found: ' + found if found else 'Nothing is there'}.",
        hint=hint_for(code, usual),
    )


def _table(files: FileSet) -> FrameTable:
    table = frame_table(files)
    table.refused["nifti-beside-dicom"] += len(files.files("nifti"))
    table.refused["archive-beside-images"] += len(files.files("zip"))
    return table


def _read_dicom(files: FileSet, options: ReadOptions) -> CineStack:
    table = _table(files)
    while True:
        chosen = choose_stack(table, files, options.series_regex)
        try:
            return build_cine(chosen, files)
        except UndecodableError as error:
            # Plan again without what cannot be decoded: a missing frame is then seen as missing.
            lost = {(id(frame.facts), frame.index) for frame in error.frames}
            table.frames = [f for f in table.frames if (id(f.facts), f.index) not in lost]
            table.refused["undecodable"] += len(lost)
