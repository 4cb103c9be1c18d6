"""A chosen stack becomes a `CineStack`: geometry, phases, pixels, facts and flags."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import ImageError
from ..records import CineSource, CineStack, Flag
from .archive import DamagedFileError, FileSet
from .dicom import Frame
from .flags import timing_flags
from .left_out import left_out
from .pixels import decode
from .places import ANGLE_TOLERANCE, SHIFT_TOLERANCE_MM, Slice, normal_of
from .series import ChosenStack
from .timing import Alignment, align

MAX_STACK_BYTES = 4 * 1024**3
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class UndecodableError(Exception):
    """Frames whose pixels cannot be decoded: the stack is to be planned again without them."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        super().__init__(len(frames))
        self.frames = frames


# ------------------------------------------------------------------ geometry


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The common grid of a stack: ``affine_lps`` from voxel (x, y, z), weights and distance in mm.

    ``source_affines`` per slice, its own plane's affine from (x, y, 0) to LPS, None where the slice
    lies on the grid and needs no resampling.
    """

    rows: int
    columns: int
    spacing_mm: tuple[float, float]
    affine_lps: np.ndarray
    slice_weights_mm: np.ndarray
    slice_distance_mm: float
    source_affines: tuple[np.ndarray | None, ...]
    origins: np.ndarray
    flags: tuple[Flag, ...]


def frame_affine(frame: Frame) -> np.ndarray:
    """4×4 from (column, row, depth) of one frame to LPS mm (DICOM PS3.3 C.7.6.2.1.1)."""
    between_rows, between_columns = frame.spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = np.array(frame.row_direction) * between_columns
    affine[:3, 1] = np.array(frame.column_direction) * between_rows
    affine[:3, 2] = normal_of(frame)
    affine[:3, 3] = frame.position
    return affine


def _grid_key(frame: Frame) -> tuple[int, int, float, float]:
    rows_mm, columns_mm = frame.spacing_mm
    return frame.facts.rows, frame.facts.columns, round(rows_mm, 3), round(columns_mm, 3)


def grid_of(chosen: ChosenStack) -> Grid:
    """The grid of most slices, and which slices must be resampled to it."""
    plane = chosen.plane
    slices = plane.slices
    keys = [_grid_key(item.frames[0]) for item in slices]
    usual = Counter(keys).most_common(1)[0][0]
    alike = [
        item.frames[0]
        for item, key in zip(slices, keys, strict=True)
        if key == usual and float(normal_of(item.frames[0]) @ plane.normal) >= ANGLE_TOLERANCE
    ]
    model = alike[len(alike) // 2]
    base = frame_affine(model)
    normal = base[:3, 2].copy()
    depths = np.array([item.depth_mm for item in slices])
    positions = np.array([frame.position for frame in alike])
    flat = positions - np.outer(positions @ normal, normal)
    corner = np.median(flat, axis=0)
    model_depth = float(np.median(positions @ normal - _depths_of(slices, alike)))
    origins = corner + np.outer(depths + model_depth, normal)
    sources, tilted, other_grid, shifted = [], 0, 0, 0
    for item, key, origin in zip(slices, keys, origins, strict=True):
        frame = item.frames[0]
        turned = not _is_parallel(frame, model)
        off = float(np.linalg.norm(np.array(frame.position) - origin)) > SHIFT_TOLERANCE_MM
        tilted += turned
        other_grid += key != usual
        shifted += off and key == usual and not turned
        sources.append(frame_affine(frame) if turned or off or key != usual else None)
    weights, distance, flags = slice_weights(depths)
    base[:3, 2] = normal * distance
    base[:3, 3] = origins[0]
    flags += _grid_flags(tilted, other_grid, shifted)
    flags += _distance_flags(slices, distance)
    return Grid(
        rows=model.facts.rows,
        columns=model.facts.columns,
        spacing_mm=model.spacing_mm,
        affine_lps=base,
        slice_weights_mm=weights,
        slice_distance_mm=distance,
        source_affines=tuple(sources),
        origins=origins,
        flags=flags,
    )


def _depths_of(slices: Sequence[Slice], frames: Sequence[Frame]) -> np.ndarray:
    return np.array([s.depth_mm for s in slices if any(s.frames[0] is frame for frame in frames)])


def _is_parallel(frame: Frame, model: Frame) -> bool:
    pairs = (
        (frame.row_direction, model.row_direction),
        (frame.column_direction, model.column_direction),
    )
    return all(float(np.dot(a, b)) >= ANGLE_TOLERANCE for a, b in pairs)


def slice_weights(depths_mm: np.ndarray) -> tuple[np.ndarray, float, tuple[Flag, ...]]:
    """Length of heart each slice stands for, the median distance, and flags for uneven gaps.

    Even gaps (within 5 % or 0.5 mm of the median): every slice weighs the distance. Otherwise half
    of the two gaps beside it, an end slice taking half the median on its outer side.
    """
    gaps = np.diff(depths_mm)
    distance = float(np.median(gaps))
    if np.all(np.abs(gaps - distance) <= max(0.05 * distance, 0.5)):
        return np.full(len(depths_mm), distance), distance, ()
    outer = np.concatenate([[distance], gaps, [distance]])
    weights = (outer[:-1] + outer[1:]) / 2
    flags = [
        Flag(
            code="irregular_gaps",
            level="review",
            sentence=f"Slice gaps run from {gaps.min():.1f} to {gaps.max():.1f} mm; each slice "
            "is weighted by half the gaps beside it.",
        )
    ]
    missing = int(sum(round(gap / distance) - 1 for gap in gaps if gap >= 1.75 * distance))
    if missing:
        flags.append(
            Flag(
                code="missing_slices",
                level="review",
                sentence=f"About {missing} slices seem to be missing inside the stack.",
            )
        )
    return weights, distance, tuple(flags)


def _grid_flags(tilted: int, other_grid: int, shifted: int) -> tuple[Flag, ...]:
    flags = []
    if tilted:
        text = f"{tilted} slices are tilted by more than 1 degree and were resampled."
        flags.append(Flag(code="tilted_slices", level="review", sentence=text))
    if other_grid:
        text = f"{other_grid} slices of another matrix or pixel size were resampled."
        flags.append(Flag(code="resampled_slices", level="review", sentence=text))
    if shifted:
        text = f"{shifted} slices are shifted by more than 1 mm in the plane and were resampled."
        flags.append(Flag(code="shifted_slices", level="info", sentence=text))
    return tuple(flags)


def _distance_flags(slices: Sequence[Slice], distance: float) -> tuple[Flag, ...]:
    stated = [s.frames[0].slice_spacing_mm for s in slices]
    known = [value for value in stated if value is not None and value > 0]
    if known and abs(float(np.median(known)) - distance) > 0.1 * distance:
        text = (
            f"SpacingBetweenSlices says {np.median(known):.1f} mm, the positions say "
            f"{distance:.1f} mm; the positions are used."
        )
        return (Flag(code="slice_distance_conflict", level="info", sentence=text),)
    return ()


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
                pixels[phase, k] = _on_grid(array, grid, k)
    if failed:
        raise UndecodableError(failed)
    digest = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    return pixels, digest, len(digests)


def _on_grid(array: np.ndarray, grid: Grid, k: int) -> np.ndarray:
    """The image of slice ``k`` on the common grid, interpolated linearly where it lies off it."""
    source = grid.source_affines[k]
    if source is None:
        return array
    from scipy.ndimage import map_coordinates

    target = grid.affine_lps.copy()
    target[:3, 3] = grid.origins[k]
    rows, columns = np.mgrid[0 : grid.rows, 0 : grid.columns].astype(float)
    flat = np.stack([columns, rows, np.zeros_like(rows), np.ones_like(rows)]).reshape(4, -1)
    # Points of the grid, dropped along the slice's own normal onto its plane.
    x, y, _, _ = np.linalg.solve(source, target @ flat)
    shape = (grid.rows, grid.columns)
    sampled = map_coordinates(array, [y.reshape(shape), x.reshape(shape)], order=1, mode="nearest")
    return np.asarray(sampled, dtype=np.float32)


# ------------------------------------------------------------------ facts and flags


_BSSFP = re.compile(
    r"tru_?fi|true_?fisp|fiesta|b-?tfe|b-?ffe|balanced|ssfp|(^|[^a-z])tfi", re.IGNORECASE
)
_GRE = re.compile(
    r"flash|spgr|fgre|(^|[^a-z])fl[23]d|turbo_?flash|(^|[^a-z])t1-?tfe", re.IGNORECASE
)


def sequence_of(frame: Frame) -> Literal["bssfp", "gre"] | None:
    """Balanced SSFP or gradient echo, by the standard's tags, then by names; None where unknown."""
    facts = frame.facts
    if facts.steady_state == "FREE_PRECESSION":
        return "bssfp"
    if facts.steady_state == "NONE" and facts.echo_pulse == "GRADIENT":
        return "gre"
    names = "|".join(facts.sequence_texts)
    if _BSSFP.search(names):
        return "bssfp"
    if _GRE.search(names):
        return "gre"
    if "GR" in facts.scanning_sequence:
        if "SP" in facts.sequence_variant:
            return "gre"
        if "SS" in facts.sequence_variant:
            return "bssfp"
    if _BSSFP.search(facts.description):
        return "bssfp"
    return "gre" if _GRE.search(facts.description) else None


def plan_cine(chosen: ChosenStack) -> tuple[Grid, Alignment]:
    """The grid and the phases of a stack, from headers alone; raises ImageError."""
    grid = grid_of(chosen)
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
    if chosen.refused["repeated-slices"]:
        text = "Some slices were acquired again; the complete and latest ones are used."
        flags.append(Flag(code="repeated_slices", level="info", sentence=text))
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
    )
