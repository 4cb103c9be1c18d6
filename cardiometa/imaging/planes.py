"""Frames by place: planes, positions along the normal, and the acquisition used at each.

Grouping is by geometry (study, plane, matrix, spacing), never by series: Siemens writes one series
a slice, GE and Philips one for all, anonymisers repeat or drop UIDs. Series, numbers and times only
tell repeated acquisitions of one place apart.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .archive import DamagedFileError, FileSet
from .frames import Frame
from .timing import (
    CARDIAC_KEYS,
    MIN_PHASES,
    is_single_acquisition,
    long_runs,
    runs,
    runs_over_beats,
    span_reason,
)

ANGLE_TOLERANCE = np.cos(np.deg2rad(1.0))
SHIFT_TOLERANCE_MM = 1.0


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

    @property
    def model(self) -> Frame:
        """A frame that stands for the geometry of all."""
        return self.slices[0].frames[0]

    @property
    def phases(self) -> int:
        """The most frequent number of phases; of equally frequent ones the larger."""
        counts = Counter(len(item.frames) for item in self.slices)
        return max(counts, key=lambda n: (counts[n], n))


# ------------------------------------------------------------------ geometry of a frame


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


# ------------------------------------------------------------------ copies


def drop_copies(frames: Sequence[Frame], files: FileSet, refused: Counter[str]) -> list[Frame]:
    """Frames without exact copies: repeated UIDs, or equal place, times and numbers, are hashed.

    A repeated UID with other content is another image and stays.
    """
    suspects: set[int] = set()
    for key in (_uid, _slot):
        groups: dict[Any, list[int]] = defaultdict(list)
        for number, frame in enumerate(frames):
            groups[key(frame)].append(number)
        suspects.update(n for g in groups.values() if len(g) > 1 for n in g)
    if not suspects:
        return list(frames)
    digests: dict[int, str] = {}
    seen: set[tuple[str, int]] = set()
    kept = []
    for number, frame in enumerate(frames):
        if number in suspects:
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


def _uid(frame: Frame) -> Any:
    # Frames without a UID are told apart by their slot alone.
    return (frame.facts.uid, frame.index) if frame.facts.uid else (id(frame.facts), frame.index)


def _slot(frame: Frame) -> Any:
    return frame.position, frame.row_direction, frame.spacing_mm, tuple(frame.times.items())


# ------------------------------------------------------------------ planes


def planes(frames: Sequence[Frame], refused: Counter[str]) -> list[Plane]:
    """All planes with their slices of at least `MIN_PHASES` phases; the rest is counted."""
    found = []
    for members in _by_plane(frames):
        normal = normal_of(members[0])
        slices = []
        for place in _by_depth(members, normal):
            parts = _acquisitions(place, refused)
            if parts:
                slices.append(parts)
        if slices:
            found.append(Plane(normal=normal, slices=_best_of_each(slices, normal)))
    return found


def _by_plane(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames of one study, matrix, spacing and, within 1 degree, orientation."""
    studies = Counter(frame.facts.study for frame in frames)
    # An anonymiser that gave every file a study of its own has left no study at all.
    use_study = max(studies.values(), default=0) >= MIN_PHASES
    exact: dict[Any, list[Frame]] = defaultdict(list)
    for frame in frames:
        spacing = tuple(round(length, 3) for length in frame.spacing_mm)
        grid = (frame.facts.rows, frame.facts.columns, spacing)
        directions = (*frame.row_direction, *frame.column_direction)
        turn = tuple(round(value, 4) for value in directions)
        exact[(frame.facts.study if use_study else "", grid, turn)].append(frame)
    merged: list[tuple[Any, np.ndarray, list[Frame]]] = []
    # The most frequent orientation first, so that stray ones join it and not the reverse.
    for (study, grid, turn), members in sorted(exact.items(), key=lambda kv: (-len(kv[1]), kv[0])):
        axes = np.array(turn).reshape(2, 3)
        for key, other, group in merged:
            if key == (study, grid) and np.all((axes * other).sum(axis=1) >= ANGLE_TOLERANCE):
                group.extend(members)
                break
        else:
            merged.append(((study, grid), axes, list(members)))
    return [group for _, _, group in merged]


def _by_depth(frames: Sequence[Frame], normal: np.ndarray) -> list[list[Frame]]:
    """Frames by depth along the normal, cut where it grows by more than 1 mm."""
    depths = {frame.position: float(centre_of(frame) @ normal) for frame in frames}
    ordered = sorted(frames, key=lambda frame: (depths[frame.position], frame.position))
    places: list[list[Frame]] = []
    start = -np.inf
    for frame in ordered:
        depth = depths[frame.position]
        if depth - start > SHIFT_TOLERANCE_MM:
            places.append([])
            start = depth
        places[-1].append(frame)
    return places


# ------------------------------------------------------------------ acquisitions of one place


def _acquisitions(place: Sequence[Frame], refused: Counter[str]) -> list[list[Frame]]:
    """All acquisitions of one place with enough phases; counts what is left over."""
    for split in _SPLITS:
        parts = list(split(place))
        sound = [p for p in parts if len(p) >= MIN_PHASES and is_single_acquisition(p)]
        doubtful = [p for p in parts if len(p) >= MIN_PHASES and not is_single_acquisition(p)]
        if sound and not doubtful:
            if split is _by_runs and runs_over_beats(place):
                refused["real-time"] += len(place)
                return []
            usable = []
            for part in sound:
                reason = _unlike_cine(part)
                if reason:
                    refused[reason] += len(part)
                else:
                    usable.append(part)
            refused["too-few-phases"] += len(place) - sum(map(len, sound))
            return usable
    enough = len(place) >= MIN_PHASES
    refused["ambiguous-phases" if enough else "too-few-phases"] += len(place)
    return []


def _parts(place: Iterable[Frame], key: Callable[[Frame], Any]) -> list[list[Frame]]:
    groups: dict[Any, list[Frame]] = defaultdict(list)
    for frame in place:
        groups[key(frame)].append(frame)
    return list(groups.values())


def _shift(frame: Frame) -> tuple[int, ...]:
    return tuple(round(value) for value in frame.position)


def _by_runs(place: Sequence[Frame]) -> list[list[Frame]]:
    for key in CARDIAC_KEYS:
        if len(long_runs(place, key)) > 1:
            return runs(place, key)
    return [list(place)]


# From the finest honest grouping to none: the first that gives single acquisitions is used.
_SPLITS: tuple[Callable[[Sequence[Frame]], list[list[Frame]]], ...] = (
    lambda place: _parts(place, lambda f: (f.facts.series, f.image_type)),
    lambda place: _parts(place, lambda f: (f.facts.series, f.image_type, f.acquisition_number)),
    lambda place: _parts(place, lambda f: (f.facts.series, f.image_type, f.acquired_seconds)),
    lambda place: _parts(place, lambda f: (f.image_type, f.acquisition_number)),
    lambda place: _parts(place, lambda f: (f.image_type, f.acquired_seconds)),
    lambda place: _parts(place, lambda f: (f.image_type, _shift(f))),
    _by_runs,
    lambda place: _parts(place, lambda f: f.image_type),
    lambda place: [list(place)],
)


def _unlike_cine(frames: Sequence[Frame]) -> str:
    """Why phases at one place are no cine: they vary echo or inversion time, or last for beats."""
    for values in ({f.echo_ms for f in frames}, {f.inversion_ms for f in frames}):
        if len(values) >= MIN_PHASES:
            return "map"
    return span_reason(frames)


def _best_of_each(slices: Sequence[Sequence[list[Frame]]], normal: np.ndarray) -> tuple[Slice, ...]:
    """At each place the acquisition of the stack's sequence that is complete and latest."""
    largest = [max(map(len, parts)) for parts in slices]
    counts = Counter(largest)
    modal = max(counts, key=lambda n: (counts[n], n))
    kinds = Counter(signature(part[0]) for parts in slices for part in parts)
    usual = max(kinds, key=lambda kind: (kinds[kind], repr(kind)))

    def rank(part: list[Frame]) -> Any:
        latest = max(acquisition_order(frame) for frame in part)
        complete = len(part) >= modal
        instance = max(frame.times.get("InstanceNumber", -1.0) for frame in part)
        own = len(part) if not complete else modal
        return signature(part[0]) == usual, complete, own, latest, instance, part[0].facts.uid

    chosen = []
    for parts in slices:
        best = max(parts, key=rank)
        rest = tuple(frame for part in parts if part is not best for frame in part)
        depth = float(centre_of(best[0]) @ normal)
        chosen.append(Slice(depth_mm=depth, frames=tuple(best), repeats=rest))
    return tuple(chosen)


def with_slices(plane: Plane, slices: Iterable[Slice]) -> Plane:
    """The same plane with other slices, ordered by depth."""
    return replace(plane, slices=tuple(sorted(slices, key=lambda item: item.depth_mm)))
