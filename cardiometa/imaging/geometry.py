"""From frames to planes, slices and the common grid of a stack.

Grouping is by geometry (study, plane, matrix, spacing), never by series: Siemens writes one series
per slice, GE and Philips one for all, anonymisers repeat or drop UIDs. Series, numbers and times
only distinguish repeated acquisitions of one place. A stack's slices then share one grid; those
that lie off it are resampled.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from ..flags import limit_of, raised
from ..records import Flag
from .archive import DamagedFileError, FileSet
from .frames import Frame
from .timing import (
    CARDIAC_KEYS,
    MIN_PHASES,
    cycle_runs,
    is_single_acquisition,
    key_values,
    mode_of,
    runs_over_beats,
    slice_rr_ms,
    span_reason,
)

ANGLE_TOLERANCE = np.cos(np.deg2rad(1.0))
SHIFT_TOLERANCE_MM = 1.0
SPACING_TOLERANCE = 0.005  # relative: 2.000 and 2.003 mm are one grid
STATE_RATIO = 1.15  # RR intervals that differ by as much are of another state, such as stress
_PAUSE_S = 300.0  # a longer pause parts two passes through the heart
_SAME_DAY_S = 6 * 3600.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The frames of one acquisition at one place; ``depth_mm`` of its centre along a normal."""

    depth_mm: float
    frames: tuple[Frame, ...]
    repeats: tuple[Frame, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Slices of one study, plane, matrix and spacing, by depth along ``normal`` (LPS)."""

    normal: np.ndarray
    slices: tuple[Slice, ...]
    # Acquisitions at these places in another state (rest, stress): never mixed with the others.
    other_state: tuple[tuple[Frame, ...], ...] = ()

    @property
    def model(self) -> Frame:
        """A frame that represents the geometry of all."""
        return self.slices[0].frames[0]

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of its images."""
        return self.model.facts.rows, self.model.facts.columns

    @property
    def phases(self) -> int:
        """The most frequent number of phases; of equally frequent ones the larger."""
        return mode_of(len(item.frames) for item in self.slices)

    def with_slices(self, slices: Iterable[Slice]) -> Plane:
        """The same plane with other slices, ordered by depth."""
        return replace(self, slices=tuple(sorted(slices, key=lambda item: item.depth_mm)))


def grouped(members: Iterable[T], key: Callable[[T], Any]) -> list[list[T]]:
    """The members with equal keys together, in order of first appearance."""
    groups: dict[Any, list[T]] = {}
    for member in members:
        groups.setdefault(key(member), []).append(member)
    return list(groups.values())


def normal_of(frame: Frame) -> np.ndarray:
    """Unit normal of a frame: row direction × column direction, LPS."""
    normal = np.cross(frame.row_direction, frame.column_direction)
    return np.asarray(normal / np.linalg.norm(normal))


def centre_of(frame: Frame) -> np.ndarray:
    """The centre of a frame in LPS mm: steadier under tilt than its corner."""
    rows, columns = frame.facts.rows, frame.facts.columns
    between_rows, between_columns = frame.spacing_mm
    return np.asarray(
        np.array(frame.position)
        + np.array(frame.row_direction) * between_columns * (columns - 1) / 2
        + np.array(frame.column_direction) * between_rows * (rows - 1) / 2
    )


def acquisition_order(frame: Frame) -> tuple[float, float, float]:
    """Sorts acquisitions of one place: the latest last."""
    return frame.acquired_seconds, frame.facts.series_number, frame.acquisition_number


def signature(frame: Frame) -> tuple[Any, ...]:
    """The kind of sequence; slices of one stack should share it."""
    facts = frame.facts
    name = re.sub(r"[\d.]+", "", "|".join(facts.sequence_texts[:2]))
    return (
        tuple(sorted(facts.scanning_sequence)),
        tuple(sorted(facts.sequence_variant)),
        facts.steady_state,
        name,
    )


def drop_copies(frames: Sequence[Frame], files: FileSet, refused: Counter[str]) -> list[Frame]:
    """Frames without exact copies: repeated UIDs, or equal place, times and numbers, are hashed.

    A repeated UID with other content is another image and stays.
    """
    suspects: set[int] = set()
    for key in (
        # Frames without a UID are distinguished by place and time alone.
        lambda f: (f.facts.uid or id(f.facts), f.index),
        lambda f: (f.position, f.row_direction, f.spacing_mm, tuple(f.times.items())),
    ):
        for group in grouped(frames, key):
            if len(group) > 1:
                suspects.update(id(frame) for frame in group)
    if not suspects:
        return list(frames)
    digests: dict[int, str] = {}
    seen: set[tuple[str, int]] = set()
    kept = []
    for frame in frames:
        if id(frame) in suspects:
            identity = id(frame.facts)
            if identity not in digests:
                try:
                    digests[identity] = hashlib.sha256(files.read(frame.facts.file)).hexdigest()
                except DamagedFileError:
                    digests[identity] = f"unreadable-{identity}"
            mark = (digests[identity], frame.index)
            if mark in seen:
                refused["duplicate-file"] += 1
                continue
            seen.add(mark)
        kept.append(frame)
    return kept


def planes(frames: Sequence[Frame], refused: Counter[str]) -> list[Plane]:
    """All planes with their slices of at least `MIN_PHASES` phases; the rest is counted."""
    found = []
    for members in _by_plane(frames):
        normal = normal_of(members[0])
        depths = {frame.position: float(centre_of(frame) @ normal) for frame in members}
        places: list[list[Frame]] = []  # cut where the depth grows by more than 1 mm
        start = -np.inf
        for frame in sorted(members, key=lambda f: (depths[f.position], f.position)):
            if depths[frame.position] - start > SHIFT_TOLERANCE_MM:
                places.append([])
                start = depths[frame.position]
            places[-1].append(frame)
        slices = [parts for place in places if (parts := _acquisitions(place, refused))]
        if slices:
            found.append(_best_of_each(slices, normal))
    return found


def examinations(frames: Iterable[Frame]) -> dict[str, str]:
    """The examination of each StudyInstanceUID, named by one of its studies.

    Exports and anonymisers split an examination over studies, by slice or by phase. Studies within
    six hours are one examination where they share a frame of reference, or where none has one.
    """
    studies: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        studies[frame.facts.study].append(frame)
    # An anonymiser that gave every file its own study has left no study at all.
    if max(map(len, studies.values()), default=0) < MIN_PHASES:
        return dict.fromkeys(studies, "")
    known: dict[str, tuple[str, list[float]]] = {}  # by frame of reference
    found = {}
    for study, members in sorted(studies.items()):
        places = sorted({frame.facts.frame_of_reference for frame in members})
        times = [frame.acquired_seconds for frame in members if frame.acquired_seconds >= 0]
        found[study] = study
        for place in places:
            other, seen = known.setdefault(place, (study, list(times)))
            timed = times and seen
            # Seconds between the two spans of time, below 0 where they overlap.
            apart = max(min(times) - max(seen), min(seen) - max(times)) if timed else np.inf
            if apart <= _SAME_DAY_S or (place and not timed):
                found[study] = found.get(other, study)
                seen += times
    return found


def _by_plane(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames of one examination and matrix; spacing within 0.5 %, orientation within 1 degree."""
    examination = examinations(frames)
    exact: dict[Any, list[Frame]] = defaultdict(list)
    for frame in frames:
        spacing = tuple(round(length, 3) for length in frame.spacing_mm)
        directions = (*frame.row_direction, *frame.column_direction)
        turn = tuple(round(value, 4) for value in directions)
        matrix = (frame.facts.rows, frame.facts.columns)
        exact[((examination[frame.facts.study], matrix), spacing, turn)].append(frame)
    merged: list[tuple[Any, Any, np.ndarray, list[Frame]]] = []
    # The most frequent orientation first, so that stray ones join it and not the reverse.
    for (own, spacing, turn), members in sorted(exact.items(), key=lambda kv: (-len(kv[1]), kv[0])):
        axes = np.array(turn).reshape(2, 3)
        for key, length, other, group in merged:
            near = key == own and np.allclose(spacing, length, rtol=SPACING_TOLERANCE, atol=0)
            if near and np.all((axes * other).sum(axis=1) >= ANGLE_TOLERANCE):
                group.extend(members)
                break
        else:
            merged.append((own, spacing, axes, list(members)))
    return [group for *_, group in merged]


# ------------------------------------------------------------------ acquisitions of one place


# From the finest honest grouping to none: the first that gives single acquisitions is used. None
# is by runs through the cycle.
_SPLITS: tuple[Callable[[Frame], Any] | None, ...] = (
    lambda f: (f.facts.series, f.image_type),
    lambda f: (f.facts.series, f.image_type, f.acquisition_number),
    lambda f: (f.facts.series, f.image_type, f.acquired_seconds),
    lambda f: (f.image_type, f.acquisition_number),
    lambda f: (f.image_type, f.acquired_seconds),
    lambda f: (f.image_type, tuple(round(value) for value in f.position)),
    lambda f: (f.image_type, f.facts.file.folder),
    None,
    lambda f: f.image_type,
    lambda _: None,
)


def _acquisitions(place: Sequence[Frame], refused: Counter[str]) -> list[list[Frame]]:
    """All acquisitions of one place with enough phases; counts what is left over."""
    for key in _SPLITS:
        parts = cycle_runs(place) if key is None else _joined(grouped(place, key))
        long = [part for part in parts if len(part) >= MIN_PHASES]
        if not long or not all(map(is_single_acquisition, long)):
            continue
        if key is None and runs_over_beats(place):
            refused["real-time"] += len(place)
            return []
        usable = []
        for part in long:
            # Phases that vary echo or inversion time, or last for beats, are not a cine.
            varied = ({f.echo_ms for f in part}, {f.inversion_ms for f in part})
            is_map = any(len(values) >= MIN_PHASES for values in varied)
            reason = "map" if is_map else span_reason(part)
            if reason:
                refused[reason] += len(part)
            else:
                usable.append(part)
        refused["too-few-phases"] += len(place) - sum(map(len, long))
        return usable
    enough = len(place) >= MIN_PHASES
    refused["ambiguous-phases" if enough else "too-few-phases"] += len(place)
    return []


def _joined(parts: Sequence[list[Frame]]) -> list[list[Frame]]:
    """Parts of one acquisition that was stored apart by phase, put together; others as they are.

    One acquisition: the trigger times of one part go on where those of the other end, and both
    together last one beat.
    """
    for key in CARDIAC_KEYS:
        keyed = [(key_values(part, key), part) for part in parts]
        timed = [(values, part) for values, part in keyed if values is not None]
        if len(timed) < 2:
            continue
        joined: list[list[Frame]] = []
        for values, part in sorted(timed, key=lambda pair: float(pair[0].min())):
            group = next((g for g in joined if _continues(g, part, values, key)), None)
            if group is None:
                joined.append(list(part))
            else:
                group.extend(part)
        return [*joined, *(part for values, part in keyed if values is None)]
    return list(parts)


def _continues(group: Sequence[Frame], part: Sequence[Frame], times: np.ndarray, key: str) -> bool:
    """True where ``part`` has the phases that follow those of ``group``."""
    before = key_values(group, key)
    assert before is not None
    steps = np.concatenate([np.diff(np.sort(values)) for values in (before, times)])
    alike = signature(group[0]) == signature(part[0]) and group[0].image_type == part[0].image_type
    if len(steps) == 0 or not alike or not same_state(slice_rr_ms(group), slice_rr_ms(part)):
        return False
    step = float(np.median(steps))
    beat = slice_rr_ms([*group, *part]) or 1500.0  # 40 beats a minute where no header says
    gap = float(times.min() - before.max())
    return 0.3 * step <= gap <= 1.6 * step and times.max() - before.min() + step <= 1.15 * beat


def same_state(one: float | None, other: float | None) -> bool:
    """False where two RR intervals differ by 15 % or more, as under stress."""
    return one is None or other is None or max(one, other) < (STATE_RATIO - 1e-9) * min(one, other)


def median_rr_ms(parts: Iterable[Sequence[Frame]]) -> float | None:
    """Median RR interval of acquisitions; None where no header states one."""
    known = [rr for rr in map(slice_rr_ms, parts) if rr is not None]
    return float(np.median(known)) if known else None


def is_copy(frame: Frame) -> bool:
    """True for images computed from others (DERIVED, SECONDARY; motion corrected)."""
    kinds = [value.upper() for value in frame.image_type]
    return kinds[:2] == ["DERIVED", "SECONDARY"] or any("MOCO" in kind for kind in kinds)


def frames_of_reference(parts: Sequence[list[Frame]]) -> dict[int, str]:
    """The FrameOfReferenceUID of each acquisition by its identity; empty where it says nothing.

    It does not where an anonymiser gave each file or each series one of its own.
    """
    found = {id(part): {frame.facts.frame_of_reference for frame in part} for part in parts}
    alone = {key: next(iter(places)) if len(places) == 1 else "" for key, places in found.items()}
    useful = 2 * len(set(alone.values())) <= len(parts)
    return alone if useful else dict.fromkeys(alone, "")


def _main_pass(slices: Sequence[Sequence[list[Frame]]]) -> list[list[Frame]]:
    """The acquisitions of the pass through the heart with most places, of equal ones the latest.

    A pass has one frame of reference and one state.
    """
    passes: list[list[tuple[int, list[Frame]]]] = []
    parts = [(place, part) for place, parts in enumerate(slices) for part in parts]
    references = frames_of_reference([part for _, part in parts])
    for place, part in sorted(parts, key=lambda pair: min(map(acquisition_order, pair[1]))):
        for members in passes:
            rr = median_rr_ms(own for _, own in members)
            same = references[id(members[0][1])] == references[id(part)]
            if same and same_state(slice_rr_ms(part), rr):
                members.append((place, part))
                break
        else:
            passes.append([(place, part)])

    def rank(members: list[tuple[int, list[Frame]]]) -> Any:
        latest = max(acquisition_order(frame) for _, part in members for frame in part)
        return len({place for place, _ in members}), latest

    return [part for _, part in max(passes, key=rank)]


def _is_other_pass(part: Sequence[Frame], main: Sequence[Sequence[Frame]]) -> bool:
    """True for a slice of another name or time than those of a pass.

    A heart that beats irregularly has slices of other RR intervals within one pass.
    """
    if part[0].facts.description not in {frames[0].facts.description for frames in main}:
        return True
    times = [f.acquired_seconds for f in part if f.acquired_seconds >= 0]
    usual = [f.acquired_seconds for frames in main for f in frames if f.acquired_seconds >= 0]
    return bool(times and usual) and min(abs(t - u) for t in times for u in usual) > _PAUSE_S


def _best_of_each(places: Sequence[Sequence[list[Frame]]], normal: np.ndarray) -> Plane:
    """At each place the acquisition of the stack's sequence that is complete and latest.

    Of several passes (rest and stress, before and after the participant was moved) one is read;
    another one fills places that it lacks, where it is of the same state, and replaces none.
    """
    main = _main_pass(places)
    inside, rr = {id(part) for part in main}, median_rr_ms(main)
    other_state: list[tuple[Frame, ...]] = []
    slices: list[list[list[Frame]]] = []
    for parts in places:
        has_own = any(id(part) in inside for part in parts)
        kept = []
        for part in parts:
            strange = id(part) not in inside and not same_state(slice_rr_ms(part), rr)
            if strange and (has_own or _is_other_pass(part, main)):
                other_state.append(tuple(part))
            else:
                kept.append(part)
        if kept:
            slices.append(kept)
    modal = mode_of(max(map(len, parts)) for parts in slices)
    kinds = Counter(signature(part[0]) for parts in slices for part in parts)
    usual = max(kinds, key=lambda kind: (kinds[kind], repr(kind)))

    def rank(part: list[Frame]) -> Any:
        latest = max(acquisition_order(frame) for frame in part)
        complete = len(part) >= modal
        kind = signature(part[0]) == usual, not is_copy(part[0]), id(part) in inside
        instance = max(frame.times.get("InstanceNumber", -1.0) for frame in part)
        own = len(part) if not complete else modal
        # Of equal ones those of one folder, which may be of one participant.
        return kind, complete, own, latest, instance, part[0].facts.file.folder, part[0].facts.uid

    chosen = []
    for parts in slices:
        best = max(parts, key=rank)
        rest = tuple(frame for part in parts if part is not best for frame in part)
        depth = float(centre_of(best[0]) @ normal)
        chosen.append(Slice(depth_mm=depth, frames=tuple(best), repeats=rest))
    return Plane(normal=normal, slices=tuple(chosen), other_state=tuple(other_state))


# ------------------------------------------------------------------ the common grid


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


def same_grid(frame: Frame, other: Frame) -> bool:
    """True for images of one matrix whose pixel sizes differ by no more than 0.5 %."""
    matrix = (frame.facts.rows, frame.facts.columns) == (other.facts.rows, other.facts.columns)
    pairs = zip(frame.spacing_mm, other.spacing_mm, strict=True)
    return matrix and all(abs(a - b) <= SPACING_TOLERANCE * b for a, b in pairs)


def grid_of(plane: Plane) -> Grid:
    """The grid of most slices of a stack, and which slices must be resampled to it."""
    frames = [item.frames[0] for item in plane.slices]
    # The frame along the stack's normal whose grid most others share; of equals the middle one.
    along = [f for f in frames if float(normal_of(f) @ plane.normal) >= ANGLE_TOLERANCE]
    votes = [sum(_is_alike(frame, other) for other in frames) for frame in along]
    best = [frame for frame, n in zip(along, votes, strict=True) if n == max(votes)]
    model = best[len(best) // 2]
    alike = np.array([_is_alike(frame, model) for frame in frames])
    base = frame_affine(model)
    normal = base[:3, 2].copy()
    centres = np.array([centre_of(frame) for frame in frames])
    depths = centres @ normal
    flat = centres - np.outer(depths, normal)
    line = np.median(flat[alike], axis=0)
    half = centre_of(model) - np.array(model.position)
    origins = line + np.outer(depths, normal) - half
    sources, tilted, other_grid, shifted = [], 0, 0, 0
    for frame, place in zip(frames, flat, strict=True):
        turned = not is_parallel(frame, model)
        other = not same_grid(frame, model)
        off = float(np.linalg.norm(place - line)) > SHIFT_TOLERANCE_MM
        tilted += turned
        other_grid += other
        shifted += off and not other and not turned
        sources.append(frame_affine(frame) if turned or off or other else None)
    weights, distance, flags = slice_weights(depths)
    base[:3, 2] = normal * distance
    base[:3, 3] = origins[0]
    for code, count in (
        ("tilted-slices", tilted),
        ("resampled-slices", other_grid),
        ("shifted-slices", shifted),
    ):
        if count:
            flags.append(raised(code, count=count))
    stated = [v for v in (frame.slice_spacing_mm for frame in frames) if v is not None and v > 0]
    said = float(np.median(stated)) if stated else None
    if said is not None and abs(said - distance) > limit_of("slice-distance-conflict") * distance:
        flags.append(raised("slice-distance-conflict", stated=said, value=distance))
    thick = [v for v in (frame.thickness_mm for frame in frames) if v is not None and v > 0]
    flags += sparse_flags(distance, float(np.median(thick)) if thick else None, said)
    return Grid(
        rows=model.facts.rows,
        columns=model.facts.columns,
        spacing_mm=model.spacing_mm,
        affine_lps=base,
        slice_weights_mm=weights,
        slice_distance_mm=distance,
        source_affines=tuple(sources),
        origins=origins,
        flags=tuple(flags),
    )


def _is_alike(frame: Frame, model: Frame) -> bool:
    return same_grid(frame, model) and is_parallel(frame, model)


def is_parallel(frame: Frame, model: Frame) -> bool:
    """True where rows and columns of two images run alike within 1 degree."""
    pairs = (
        (frame.row_direction, model.row_direction),
        (frame.column_direction, model.column_direction),
    )
    return all(float(np.dot(a, b)) >= ANGLE_TOLERANCE for a, b in pairs)


def sparse_flags(
    distance_mm: float, thickness_mm: float | None = None, stated_mm: float | None = None
) -> list[Flag]:
    """``sparse-stack`` where the distance is large by itself, for the thickness or as stated."""
    most, rounding = limit_of("sparse-stack"), 0.01
    reasons = []
    if distance_mm > most + rounding:
        reasons.append(f"more than {most:g} mm")
    if thickness_mm is not None and distance_mm > 1.5 * thickness_mm + rounding:
        reasons.append(f"more than 1.5 times their thickness of {thickness_mm:.1f} mm")
    if stated_mm is not None and distance_mm > 1.8 * stated_mm:
        reasons.append(f"about twice the {stated_mm:.1f} mm that the header states")
    return [raised("sparse-stack", value=distance_mm, where="; ".join(reasons))] if reasons else []


def slice_weights(depths_mm: np.ndarray) -> tuple[np.ndarray, float, list[Flag]]:
    """Length of heart that each slice represents, the median distance, and flags for uneven gaps.

    Even gaps (within 5 % or 0.5 mm of the median): every slice weighs the distance. Otherwise half
    of the two gaps next to it, an end slice taking half the median on its outer side.
    """
    gaps = np.diff(depths_mm)
    distance = float(np.median(gaps))
    if np.all(np.abs(gaps - distance) <= max(limit_of("irregular-gaps") * distance, 0.5)):
        return np.full(len(depths_mm), distance), distance, []
    outer = np.concatenate([[distance], gaps, [distance]])
    weights = (outer[:-1] + outer[1:]) / 2
    flags = [raised("irregular-gaps", low=gaps.min(), high=gaps.max())]
    wide = gaps[gaps >= limit_of("missing-slices") * distance]
    missing = int(sum(round(gap / distance) - 1 for gap in wide))
    if missing:
        flags.append(raised("missing-slices", count=missing))
    return weights, distance, flags


def on_grid(array: np.ndarray, grid: Grid, k: int) -> np.ndarray:
    """The image of slice ``k`` on the common grid, interpolated linearly where it lies off it."""
    source = grid.source_affines[k]
    if source is None:
        return array
    from scipy.ndimage import map_coordinates

    target = grid.affine_lps.copy()
    target[:3, 3] = grid.origins[k]
    rows, columns = np.mgrid[0 : grid.rows, 0 : grid.columns].astype(float)
    flat = np.stack([columns, rows, np.zeros_like(rows), np.ones_like(rows)]).reshape(4, -1)
    # Points of the grid, projected along the slice's own normal onto its plane.
    x, y, _, _ = np.linalg.solve(source, target @ flat)
    shape = (grid.rows, grid.columns)
    sampled = map_coordinates(array, [y.reshape(shape), x.reshape(shape)], order=1, mode="constant")
    return np.asarray(sampled, dtype=np.float32)
