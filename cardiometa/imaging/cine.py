"""Flags of tier 1: what the geometry and timing of a cine ask a reader to look at.

ED and ES alone of a cine.

A chosen stack becomes a `CineStack`: geometry, phases, pixels, facts and flags.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from ..errors import ImageError
from ..records import CineSource, CineStack, DicomOrigin, Flag, SourceImage
from .archive import DamagedFileError, FileSet
from .exclusions import left_out
from .frames import Frame
from .geometry import Grid, grid_of, on_grid
from .image_type import sequence_of
from .pixels import decode
from .series import ChosenStack
from .timing import CARDIAC_KEYS, Alignment, align


def timing_flags(timing: Alignment, key: str, declared: int | None) -> list[Flag]:
    """What the phases of a cine ask a reader to look at (imaging.md, 1)."""
    phases = len(timing.index)
    flags = list(phase_count_flags(phases, timing.frame_ms))
    if timing.missing:
        text = (
            f"{timing.missing} frames are missing from the series; the nearest phase of the same "
            "slice stands in their place."
        )
        flags.append(Flag(code="missing_frames", level="review", sentence=text))
    if timing.mismatched_slices:
        text = (
            f"{timing.mismatched_slices} slices have other phases than the rest; the nearest by "
            f"fraction of the RR interval is used (at most {timing.worst_error:.1f} frames away)."
        )
        # Without trigger times, a slice with fewer phases may as well have lost one.
        sound = key in CARDIAC_KEYS and timing.worst_error <= 0.75
        level: Literal["info", "review"] = "info" if sound else "review"
        flags.append(Flag(code="phase_mismatch", level=level, sentence=text))
    if key not in CARDIAC_KEYS:
        text = f"The phases are ordered by {key}: the header gives no usable trigger times."
        flags.append(Flag(code="time_from_order", level="info", sentence=text))
    if declared is not None and declared > 1 and declared != phases:
        text = f"The header announces {declared} phases; {phases} were found and used."
        flags.append(Flag(code="phase_count", level="info", sentence=text))
    share = _coverage(timing)
    if share is not None and share < 0.9:
        text = (
            f"The frames cover {100 * share:.0f} % of the RR interval: late filling is not imaged, "
            "so EDV and SV may read low."
        )
        flags.append(Flag(code="prospective", level="info", sentence=text))
    return flags


def _coverage(timing: Alignment) -> float | None:
    """Share of the RR interval between the first frame's start and the last one's end."""
    if timing.frame_ms is None or timing.rr_ms is None:
        return None
    first, last = timing.times_ms[0], timing.times_ms[-1]
    if last >= first:  # known: NaN compares false
        return float((last - first + timing.frame_ms) / timing.rr_ms)
    return len(timing.index) * timing.frame_ms / timing.rr_ms


def phase_count_flags(phases: int, frame_ms: float | None) -> tuple[Flag, ...]:
    """Few or slow phases read EDV and EF low: below 20 or above 50 ms review, below 12 more so."""
    flags = []
    if phases < 20:
        text = f"The cine has {phases} phases; below 20, EDV and EF read low."
        flags.append(Flag(code="few_phases", level="review", sentence=text))
    if phases < 12:
        text = f"The cine has {phases} phases; below 12 it is not for reference ranges."
        flags.append(Flag(code="very_few_phases", level="review", sentence=text))
    if phases > 60:
        text = f"The cine has {phases} phases; more than 60 may be several beats in one."
        flags.append(Flag(code="many_phases", level="review", sentence=text))
    if frame_ms is not None and frame_ms > 50:
        text = f"A frame lasts {frame_ms:.0f} ms; above 50 ms end systole may be missed."
        flags.append(Flag(code="slow_frames", level="review", sentence=text))
    return tuple(flags)


def ed_es_alone(cine: CineStack, ed: int, es: int) -> CineStack:
    """The cine with the phases ``ed`` and ``es`` (indices) alone, in that order.

    They keep the source's numbers and times. A cine that is such a pair already stays as it is.
    """
    if cine.is_ed_es_pair:
        return cine
    two = [ed, es]
    origin = cine.origin
    if origin is not None:
        origin = replace(origin, images=tuple(origin.images[t] for t in two))
    return replace(
        cine,
        pixels=cine.pixels[two],
        frame_times_ms=cine.frame_times_ms[two],
        frame_numbers=cine.frame_numbers[two],
        origin=origin,
        phases_of_source=cine.pixels.shape[0],
    )


MAX_STACK_BYTES = 4 * 1024**3
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class UndecodableError(Exception):
    """Frames whose pixels cannot be decoded: the stack is to be planned again without them."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        super().__init__(len(frames))
        self.frames = frames


# ------------------------------------------------------------------ pixels


def read_pixels(
    chosen: ChosenStack, timing: Alignment, grid: Grid, files: FileSet
) -> tuple[np.ndarray, str, int]:
    """Float32 ``[t, z, y, x]``, sha256 and count of the files; raises UndecodableError."""
    t, z = timing.index.shape
    slots: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    by_file: dict[int, list[Frame]] = defaultdict(list)
    for k, item in enumerate(chosen.plane.slices):
        for phase, place in enumerate(timing.index[:, k]):
            frame = item.frames[timing.order[k][place]]
            slots[id(frame.facts), frame.index].append((phase, k))
        for frame in item.frames:
            by_file[id(frame.facts)].append(frame)
    pixels = np.zeros((t, z, grid.rows, grid.columns), dtype=np.float32)
    digests, failed = [], []
    for frames in by_file.values():
        wanted = [f for f in frames if (id(f.facts), f.index) in slots]
        try:
            data = files.read(frames[0].facts.file)
            arrays = decode(data, wanted)
        except DamagedFileError:
            failed.extend(frames)
            continue
        digests.append(hashlib.sha256(data).hexdigest())
        for frame, array in zip(wanted, arrays, strict=True):
            for phase, k in slots[id(frame.facts), frame.index]:
                pixels[phase, k] = on_grid(array, grid, k)
    if failed:
        raise UndecodableError(failed)
    digest = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    return pixels, digest, len(digests)


# ------------------------------------------------------------------ the cine


def _origin(chosen: ChosenStack, timing: Alignment, grid: Grid) -> DicomOrigin:
    """Which image each phase of each slice is, and the planes of the common grid."""
    slices = chosen.plane.slices
    files: dict[int, int] = {}

    def image(phase: int, k: int) -> SourceImage:
        frame = slices[k].frames[timing.order[k][timing.index[phase, k]]]
        facts = frame.facts
        return SourceImage(
            file=files.setdefault(id(facts), len(files)),
            sop_class=facts.sop_class,
            sop_instance=facts.uid,
            series=facts.series,
            frame=frame.index + 1 if facts.enhanced else None,
        )

    phases = range(len(timing.index))
    facts = slices[len(slices) // 2].frames[0].facts
    columns = grid.affine_lps[:3, :2] / np.linalg.norm(grid.affine_lps[:3, :2], axis=0)
    return DicomOrigin(
        study=facts.study,
        frame_of_reference=facts.frame_of_reference,
        images=tuple(tuple(image(t, k) for k in range(len(slices))) for t in phases),
        directions=columns.T,
        slice_origins_mm=np.asarray(grid.origins),
        resampled=tuple(source is not None for source in grid.source_affines),
    )


def plan_cine(chosen: ChosenStack) -> tuple[Grid, Alignment]:
    """The grid and the phases of a stack, from headers alone; raises ImageError."""
    grid = grid_of(chosen.plane)
    timing = align([item.frames for item in chosen.plane.slices], chosen.key)
    phases, slices = timing.index.shape
    if phases * slices * grid.rows * grid.columns * 4 > MAX_STACK_BYTES:
        raise ImageError(
            "oversized",
            f"A cine of {phases} phases and {slices} slices of {grid.rows} × {grid.columns} pixels "
            "is larger than any cardiac cine.",
            hint="Check that the folder holds one scan.",
        )
    return grid, timing


def build_cine(chosen: ChosenStack, files: FileSet) -> CineStack:
    """Assemble the chosen stack; raises UndecodableError with the frames that cannot be decoded."""
    slices = chosen.plane.slices
    grid, timing = plan_cine(chosen)
    pixels, digest, count = read_pixels(chosen, timing, grid, files)
    facts = slices[len(slices) // 2].frames[0].facts
    declared = [f.facts.declared_phases for s in slices for f in s.frames[:1]]
    known = [n for n in declared if n is not None]
    sequences = {sequence_of(item.frames[0]) for item in slices}
    flags = [*chosen.flags, *grid.flags]
    flags += timing_flags(timing, chosen.key, max(known) if known else None)
    if len(sequences) > 1:
        text = "Slices of this stack were acquired with different kinds of sequence."
        flags.append(Flag(code="mixed_sequences", level="review", sentence=text))
    thick = [f.thickness_mm for s in slices for f in s.frames[:1] if f.thickness_mm]
    return CineStack(
        pixels=pixels,
        affine=LPS_TO_RAS @ grid.affine_lps,
        spacing_mm=grid.spacing_mm,
        slice_weights_mm=grid.slice_weights_mm,
        slice_distance_mm=grid.slice_distance_mm,
        frame_times_ms=timing.times_ms,
        frame_numbers=np.arange(len(pixels)),
        source=CineSource(
            format="dicom-enhanced" if facts.enhanced else "dicom",
            sha256=digest,
            files=count,
            vendor=facts.vendor,
            field_strength_t=facts.field_strength_t,
            sequence=next(iter(sequences)) if len(sequences) == 1 else None,
            heart_rate_bpm=60_000 / timing.rr_ms if timing.rr_ms else None,
            rr_ms=timing.rr_ms,
            thickness_mm=float(np.median(thick)) if thick else None,
            frame_ms=timing.frame_ms,
            time_key=chosen.key,
            spacing_source="PixelSpacing",
            series_reason=chosen.reason,
            left_out=left_out(chosen.refused),
            flags=tuple(flags),
        ),
        origin=_origin(chosen, timing, grid),
    )
