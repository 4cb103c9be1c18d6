"""Which frames are the short-axis cine: candidate stacks, the choice and its reason.

A short-axis cine has at least 4 parallel places with at least 8 phases each. Axial, coronal and
sagittal stacks are recognised by their normal, real-time ones and perfusion by their timing.
Descriptions break ties only; ``--series-regex`` overrides. The recorded reason never repeats a
header's text.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageError
from ..flags import limit_of, raised
from ..records import Flag
from .archive import FileSet
from .exclusions import refusal, summary
from .frames import Frame, FrameTable
from .geometry import (
    Plane,
    Slice,
    acquisition_order,
    centre_of,
    drop_copies,
    examinations,
    frames_of_reference,
    grouped,
    is_copy,
    is_parallel,
    median_rr_ms,
    planes,
    same_grid,
    same_state,
)
from .timing import MIN_PHASES, slice_rr_ms, time_key

MIN_POSITIONS = 4
# The base-to-apex axis of upright hearts points left, forward and down (LPS). Short-axis normals
# lie within about 35 degrees of it, long-axis normals across it.
_USUAL_AXIS = np.array([0.65, -0.60, -0.46])
_CARDINAL_ANGLE = 10.0
_CARDINAL = ("sagittal", "coronal", "axial")

SHORT_AXIS = re.compile(
    r"(^|[^a-z])(sa|sax|short|shortaxis|kurz|kurzachse|petit|pa|corto)([^a-z]|$)", re.IGNORECASE
)
_LONG = re.compile(
    r"[234] ?(ch|kv|cav)|lax|long|lvot|rvot|aort|(^|[^a-z])(ax|tra|cor|sag)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenStack:
    """The stack to read: slices by depth, the time key, why it was chosen, what was left out."""

    plane: Plane
    key: str
    reason: str
    refused: Counter[str]
    flags: tuple[Flag, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Candidate:
    plane: Plane
    key: str | None = None
    rejection: str = ""

    @property
    def frames(self) -> list[Frame]:
        return [frame for item in self.plane.slices for frame in item.frames]

    @property
    def repeats(self) -> int:
        return sum(len(item.repeats) for item in self.plane.slices)

    @property
    def rr_ms(self) -> float | None:
        return median_rr_ms(item.frames for item in self.plane.slices)


def choose_stack(table: FrameTable, files: FileSet, series_regex: str | None) -> ChosenStack:
    """The short-axis cine among all frames of a source; raises ImageError where there is none."""
    refused = Counter(table.refused)
    # In an order that does not depend on file names.
    frames = sorted(
        drop_copies(table.frames, files, refused),
        key=lambda f: (f.position, f.row_direction, sorted(f.times.items()), f.facts.uid, f.index),
    )
    if series_regex is not None:
        frames = _matching(frames, series_regex, refused)
    examination = examinations(frames)
    found = planes(frames, refused)
    candidates = []
    for plane in found:
        for part in _interleaved_stacks(plane):
            key = time_key([item.frames for item in part.slices])
            candidates.append(_Candidate(plane=part, key=key))
            # A regex is the reader's own choice of series: what a plane or name suggests yields.
            candidates[-1].rejection = _rejection(
                candidates[-1], by_choice=series_regex is not None
            )
    _mark_fans(candidates, examination)
    sound = [item for item in candidates if not item.rejection]
    if not sound:
        for item in candidates:
            refused[item.rejection] += len(item.frames) + item.repeats
        raise _no_cine(refused)
    best = max(sound, key=_rank)
    similar = [item for item in candidates if _is_similar(item, best, examination)]
    attached = _attach(best, similar)
    key = time_key([item.frames for item in (*best.plane.slices, *attached)])
    if key is None:
        attached, key = [], best.key
    assert key is not None
    used = {id(item.frames) for item in attached}
    for item in candidates:
        refused["repeated-slices"] += item.repeats
        refused["other-state"] += sum(map(len, item.plane.other_state))
        if item is not best:
            gone = sum(len(s.frames) for s in item.plane.slices if id(s.frames) not in used)
            refused[item.rejection or "other-stack"] += gone
    best.plane = best.plane.with_slices([*best.plane.slices, *attached])
    # Slices at the stack's places on another grid or tilt that are not used.
    parts = (own.frames for item in similar for own in item.plane.slices)
    unused = (part[0] for part in parts if id(part) not in used)
    again = sum(_place_in(best.plane, frame) is not None for frame in unused)
    rivals = _rival_folders(best, candidates, examination)
    flags = (
        *_flags(best, sound, examination),
        *((raised("several-cines", count=rivals),) if rivals else ()),
        *_state_flags(best, sound),
        *_lost_flags(best.plane, table),
        *((raised("repeated-other-geometry", count=again),) if again else ()),
    )
    reason = _reason(best, candidates, by_regex=series_regex is not None)
    return ChosenStack(plane=best.plane, key=key, reason=reason, refused=refused, flags=flags)


def _matching(frames: list[Frame], series_regex: str, refused: Counter[str]) -> list[Frame]:
    try:
        pattern = re.compile(series_regex)
    except re.error:
        raise ImageError(
            "series-regex",
            "The value of --series-regex is not a regular expression.",
            hint="Give a Python regular expression such as '(?i)short axis|SAX'.",
        ) from None
    kept = [frame for frame in frames if pattern.search(frame.facts.description)]
    refused["regex"] += len(frames) - len(kept)
    return kept


def _rejection(candidate: _Candidate, *, by_choice: bool) -> str:
    plane = candidate.plane
    if candidate.key is None:
        return "ambiguous-phases"
    if len(plane.slices) < MIN_POSITIONS:
        return "too-few-positions"
    cardinal = _cardinal(plane.normal)
    if cardinal and not by_choice:
        return cardinal
    if "3D" in plane.model.facts.acquisition_type and np.median(_gaps(plane.slices)) < 4:
        return "thin-volume"
    return ""


def _mark_fans(candidates: Sequence[_Candidate], examination: dict[str, str]) -> None:
    """Name stacks whose slices are not parallel, since each is tilted against the one before.

    At least `MIN_POSITIONS` slices of one examination and matrix, one behind another, each at most
    15 degrees from the next. Long-axis views cross each other instead.
    """
    few = [item for item in candidates if item.rejection == "too-few-positions"]
    for group in grouped(
        few, lambda item: (examination[item.plane.model.facts.study], item.plane.matrix)
    ):
        for base in group:
            near = [item for item in group if _angle(item.plane.normal, base.plane.normal) <= 45.0]
            placed = sorted(
                (
                    (float(centre_of(own.frames[0]) @ base.plane.normal), number)
                    for number, item in enumerate(near)
                    for own in item.plane.slices
                )
            )
            depths = np.array([depth for depth, _ in placed])
            normals = [near[number].plane.normal for _, number in placed]
            if (
                len(placed) >= MIN_POSITIONS
                and np.diff(depths).min() >= 3.0
                and max(map(_angle, normals, normals[1:])) <= 15.0
                and _angle(normals[0], normals[-1]) > 1.0
            ):
                for item in near:
                    item.rejection = "not-parallel"


def _angle(one: np.ndarray, other: np.ndarray) -> float:
    """Degrees between two planes by their unit normals, 0 to 90."""
    return float(np.rad2deg(np.arccos(min(1.0, abs(float(one @ other))))))


def _cardinal(normal: np.ndarray) -> str:
    """``axial``, ``coronal`` or ``sagittal`` within 10 degrees, else empty."""
    axis = int(np.argmax(np.abs(normal)))
    return _CARDINAL[axis] if _angle(normal, np.eye(3)[axis]) <= _CARDINAL_ANGLE else ""


def axis_angle(normal: np.ndarray) -> float:
    """Degrees between a normal and the usual long axis of the left ventricle."""
    return _angle(normal, _USUAL_AXIS / np.linalg.norm(_USUAL_AXIS))


def _gaps(slices: Sequence[Slice]) -> np.ndarray:
    return np.diff(sorted(item.depth_mm for item in slices))


# ------------------------------------------------------------------ stacks within stacks


def _interleaved_stacks(plane: Plane) -> list[Plane]:
    """Two interleaved stacks of the same plane apart; other planes as they are.

    Places nearer than the slices are thick are those of a stack that was planned again a few
    millimetres away. They are separated by series, by shift in the plane, or where the order of
    acquisition turns back.
    """
    plane = plane.with_slices(plane.slices)
    if not _has_dense_slices(plane.slices):
        return [plane]
    by_series = grouped(plane.slices, lambda item: item.frames[0].facts.series)
    for parts in (by_series, _split_by_shift(plane), _split_by_turn(plane)):
        sound = len(parts) > 1 and max(map(len, parts)) >= MIN_POSITIONS
        if sound and not any(_has_dense_slices(part) for part in parts):
            return [plane.with_slices(part) for part in parts]
    return [plane]


def _has_dense_slices(slices: Sequence[Slice]) -> bool:
    if len(slices) < 3:
        return False
    gaps = _gaps(slices)
    if np.ptp(gaps) <= max(0.1 * float(np.median(gaps)), 1.0):
        return False  # slices that overlap evenly were planned so
    thick = [f.thickness_mm for s in slices for f in s.frames[:1] if f.thickness_mm]
    usual = float(np.median(thick)) if thick else float(np.quantile(gaps, 0.75))
    return bool(gaps.min() < 0.8 * usual)


def _split_by_shift(plane: Plane) -> list[list[Slice]]:
    parts: list[tuple[np.ndarray, list[Slice]]] = []
    for item in plane.slices:
        centre = centre_of(item.frames[0])
        flat = centre - plane.normal * float(centre @ plane.normal)
        near = [part for place, part in parts if np.linalg.norm(place - flat) <= 1.0]
        if near:
            near[0].append(item)
        else:
            parts.append((flat, [item]))
    return [part for _, part in parts]


def _split_by_turn(plane: Plane) -> list[list[Slice]]:
    ordered = sorted(plane.slices, key=lambda item: max(map(acquisition_order, item.frames)))
    steps = np.diff([item.depth_mm for item in ordered])
    direction = np.sign(np.median(steps))
    parts: list[list[Slice]] = [[ordered[0]]]
    for item, step in zip(ordered[1:], steps, strict=True):
        if np.sign(step) != direction:
            parts.append([])
        parts[-1].append(item)
    return parts


def _attach(best: _Candidate, similar: Sequence[_Candidate]) -> list[Slice]:
    """Slices of other grids or tilts that fill gaps or lengthen the stack by its own distance."""
    plane = best.plane
    distance = float(np.median(_gaps(plane.slices)))
    depths = [item.depth_mm for item in plane.slices]
    waiting = []
    for item in similar:
        if not same_state(item.rr_ms, best.rr_ms):
            continue
        at = [_depth_along(plane, own.frames[0]) for own in item.plane.slices]
        placed = [
            Slice(depth_mm=depth, frames=own.frames)
            for own, depth in zip(item.plane.slices, at, strict=True)
            if depth is not None
        ]
        if len(placed) < len(at):
            continue
        fitting = [own for own in placed if _nearest(own, depths) >= 0.6 * distance]
        # Another complete stack lengthens this one or is an alternative to it, never both.
        if item.rejection or len(fitting) == len(placed):
            waiting.extend(fitting)
    added: list[Slice] = []
    while waiting:
        near = [
            item
            for item in waiting
            if _nearest(item, depths) >= 0.6 * distance
            and min(depths) - 1.6 * distance <= item.depth_mm <= max(depths) + 1.6 * distance
        ]
        if not near:
            break
        # The nearest first: a slice beyond it may then be within reach.
        pick = min(near, key=lambda item: _nearest(item, depths))
        waiting = [item for item in waiting if item is not pick]
        depths.append(pick.depth_mm)
        added.append(pick)
    return added


def _nearest(item: Slice, depths: Sequence[float]) -> float:
    return min(abs(item.depth_mm - depth) for depth in depths)


def _depth_along(plane: Plane, frame: Frame) -> float | None:
    """Depth of a frame along the normal of a stack; None where it lies far aside of it."""
    middle = np.mean([centre_of(item.frames[0]) for item in plane.slices], axis=0)
    offset = centre_of(frame) - middle
    depth = float(offset @ plane.normal)
    aside = float(np.linalg.norm(offset - depth * plane.normal))
    return depth + float(middle @ plane.normal) if aside <= 100.0 else None


def _place_in(plane: Plane, frame: Frame) -> int | None:
    """The slice of a stack at whose place a frame lies; None where it lies at none."""
    depth = _depth_along(plane, frame)
    own = [float(centre_of(item.frames[0]) @ plane.normal) for item in plane.slices]
    apart = [np.inf if depth is None else abs(depth - other) for other in own]
    near = int(np.argmin(apart))
    return near if apart[near] < 0.6 * float(np.median(_gaps(plane.slices))) else None


def _is_similar(item: _Candidate, best: _Candidate, examination: dict[str, str]) -> bool:
    """True for slices of the same examination, within 10 degrees, on another grid or tilt.

    Slices of the same grid and tilt that lie apart are another planning of the stack.
    """
    one, other = item.plane, best.plane
    studies = {examination[plane.model.facts.study] for plane in (one, other)}
    return (
        item is not best
        and item.rejection in ("", "too-few-positions", "not-parallel")
        and one.normal is not other.normal
        and len(studies) == 1
        and _angle(one.normal, other.normal) <= 10.0
    )


def _rival_folders(
    best: _Candidate, candidates: Sequence[_Candidate], examination: dict[str, str]
) -> int:
    """How many folders have a cine of their own at the same places of the stack; 0 if but one.

    Folders are those where the images' paths part; an acquisition joined from two is of neither.
    """
    parts: list[tuple[bool, tuple[Frame, ...]]] = []  # is it one acquisition?
    for item in candidates:
        near = _angle(item.plane.normal, best.plane.normal) <= 25.0
        study = examination[item.plane.model.facts.study]
        if near and not item.rejection and study == examination[best.plane.model.facts.study]:
            for own in item.plane.slices:
                parts += [(True, own.frames), (False, own.repeats)]
            parts += [(True, part) for part in item.plane.other_state]
    names = {frame.facts.file.folder for _, part in parts for frame in part}
    paths = {name: Path(name).parts for name in names}
    levels = takewhile(lambda level: len(set(level)) == 1, zip(*paths.values(), strict=False))
    shared = len(list(levels))
    places: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for single, part in parts:
        folders = Counter(paths[frame.facts.file.folder][shared : shared + 1] for frame in part)
        joined = single and len(folders) > 1
        # Rest and stress of one participant, where the series say so, are no rivals.
        apart = joined or not part or _is_stress(part) != _is_stress(best.frames)
        place = None if apart else _place_in(best.plane, part[0])
        for folder, count in folders.items():
            if place is not None and count >= MIN_PHASES:
                places[folder].add(place)
    found = list(places.values())
    rivals = [one for one in found if sum(len(one & other) >= MIN_POSITIONS for other in found) > 1]
    return len(rivals)


# ------------------------------------------------------------------ the choice


def _rank(candidate: _Candidate) -> Any:
    plane = candidate.plane
    frames = candidate.frames
    text = " ".join({f"{f.facts.description} {f.facts.sequence_texts[2]}" for f in frames})
    hint = bool(SHORT_AXIS.search(text)) - bool(_LONG.search(text))
    return (
        axis_angle(plane.normal) <= limit_of("unusual-plane"),
        not is_copy(plane.model),
        len(plane.slices) * plane.phases,
        hint,
        max(map(acquisition_order, frames)),
        plane.model.position,
    )


def _no_cine(refused: Counter[str]) -> ImageError:
    found = summary(refused)
    usual = (
        "A short-axis cine has at least 4 parallel slices with at least 8 phases each. "
        "If it is there, name its series with --series-regex."
    )
    code, hint = refusal(refused, "no-short-axis-cine", usual)
    return ImageError(
        code,
        f"No short-axis cine was found. {'Left out: ' + found if found else 'Nothing is there'}.",
        hint=hint,
    )


def _reason(best: _Candidate, candidates: Sequence[_Candidate], *, by_regex: bool) -> str:
    """Why this stack, in words that repeat nothing of a header."""
    plane = best.plane
    size = f"{len(plane.slices)} slices of {plane.phases} phases"
    how = "the series that match --series-regex" if by_regex else "all series"
    others = Counter(item.rejection or "other-stack" for item in candidates if item is not best)
    text = f"{size}, chosen from {how} by geometry and timing"
    if others:
        listed = ", ".join(f"{n} {code}" for code, n in sorted(others.items()))
        text += f"; further stacks: {listed}"
    return text


def _flags(
    best: _Candidate, sound: Sequence[_Candidate], examination: dict[str, str]
) -> list[Flag]:
    flags = []
    found = {examination[item.plane.model.facts.study] for item in sound}
    studies = {frame.facts.study for frame in best.frames}
    parts = [list(item.frames) for item in best.plane.slices]
    places = set(frames_of_reference(parts).values()) - {""}
    if len(found) > 1:
        flags.append(raised("several-studies", count=len(found)))
    elif len(studies) > 1 and not places and examination[best.plane.model.facts.study]:
        flags.append(raised("several-studies", count=len(studies)))
    elif len(studies) > 1:
        flags.append(raised("studies-joined", count=len(studies)))
    if len(places) > 1:
        flags.append(raised("several-frames-of-reference", count=len(places)))
    if best.repeats:
        flags.append(raised("repeated-slices"))
    forced = _cardinal(best.plane.normal)
    angle = axis_angle(best.plane.normal)
    if forced:
        flags.append(raised("plane-forced", where=forced))
    elif angle > limit_of("unusual-plane"):
        flags.append(raised("unusual-plane", value=angle))
    return flags


_STRESS = re.compile(r"stress|dobut|adenos|regaden|persantin|exercise", re.IGNORECASE)


def _state(frames: Sequence[Frame], rr: float | None) -> str:
    """``stress, 120 bpm``: what is known of the state of acquisitions."""
    rate = "" if rr is None else f"{60_000 / rr:.0f} bpm"
    return ", ".join(filter(None, ("stress" if _is_stress(frames) else "", rate)))


def _is_stress(frames: Sequence[Frame]) -> bool:
    return any(_STRESS.search(frame.facts.description) for frame in frames)


def _state_flags(best: _Candidate, sound: Sequence[_Candidate]) -> list[Flag]:
    """What was left out as of another state, and slices that may be of one."""
    flags, own = [], best.rr_ms
    left = list(best.plane.other_state)
    for item in sound:
        near = _angle(item.plane.normal, best.plane.normal) <= 10.0
        if item is not best and near and not same_state(item.rr_ms, own):
            left += [part.frames for part in item.plane.slices]
    if left:
        others = _state([frame for part in left for frame in part], median_rr_ms(left))
        where = f"{others}, where {_state(best.frames, own)} is read"
        flags.append(raised("other-state", count=len(left), where=where))
    known = [rr for rr in (slice_rr_ms(part.frames) for part in best.plane.slices) if rr]
    odd = [rr for rr in known if own is not None and not same_state(rr, own)]
    if odd:
        where = f"{min(known):.0f} to {max(known):.0f} ms"
        flags.append(raised("heart-rate-varies", count=len(odd), where=where))
    return flags


def _lost_flags(plane: Plane, table: FrameTable) -> list[Flag]:
    """Images that belong to the stack and cannot be read.

    They lie on its grid; or their file is one of those read, or is called like them in one of
    their folders, or, where each slice has a folder, in a folder like theirs with no other image.
    """
    model, frames = plane.model, [frame for item in plane.slices for frame in item.frames]
    depths = [float(centre_of(item.frames[0]) @ plane.normal) for item in plane.slices]
    studies = {frame.facts.study for frame in frames}
    sound = {(frame.facts.uid or id(frame.facts), frame.index) for frame in table.frames}
    lost = [
        frame
        for frame in table.lost
        if frame.facts.study in studies
        and same_grid(frame, model)
        and is_parallel(frame, model)
        and (frame.facts.uid or id(frame.facts), frame.index) not in sound  # no copy of it
    ]
    half = 0.5 * float(np.median(_gaps(plane.slices)))
    gone: list[float] = []
    for frame in lost:
        depth = float(centre_of(frame) @ plane.normal)
        if min(abs(depth - other) for other in (*depths, *gone)) > half:
            gone.append(depth)
    facts = {id(frame.facts): frame.facts.file for frame in frames}
    names = {(file.folder, kind_of_name(file.name)) for file in facts.values()}
    count = len(lost) + sum(table.without_place[identity] for identity in facts)
    count += sum((file.folder, kind_of_name(file.name)) in names for file in table.lost_files)
    alike = {(kind_of_name(folder), name) for folder, name in names}
    read = {frame.facts.file.folder for frame in (*table.frames, *table.lost)}
    per_slice = len({folder for folder, _ in names}) >= MIN_POSITIONS
    folders = Counter(
        file.folder
        for file in table.lost_files
        if per_slice
        and file.folder not in read
        and (kind_of_name(file.folder), kind_of_name(file.name)) in alike
    )
    count += folders.total()
    if not count:
        return []
    slices = len(gone) + len(folders)
    where = f"; {slices} slices are lost altogether" if slices else ""
    return [raised("lost-images", count=count, where=where)]


def kind_of_name(name: str) -> str:
    """A file's name without its numbers: ``IM_0012.dcm`` is named as ``IM_0001.dcm`` is."""
    return re.sub(r"[\d.]+", "0", name.lower())
