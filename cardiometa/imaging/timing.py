"""Order in time: which header key orders a cine's phases, and how slices with other phases align.

Times are compared within a slice first, then as fractions of the RR interval between slices.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..flags import limit_of, raised
from ..records import Flag
from .frames import TIME_KEYS, Frame

MIN_PHASES = 8
CARDIAC_KEYS = (
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "ActualCardiacTriggerDelayTime",
    "NominalPercentageOfCardiacPhase",
)
# Clocks order the phases, but their steps are those of the computer as much as of the heart.
_CLOCKS = ("AcquisitionTime", "ContentTime")
_GAP = 1.6  # a step this many times the modal one contains a missing frame


def mode_of(counts: Iterable[int]) -> int:
    """The most frequent number; of equally frequent ones the larger."""
    found = Counter(counts)
    return max(found, key=lambda n: (found[n], n))


def key_values(frames: Sequence[Frame], key: str) -> np.ndarray | None:
    """The frames' values of one time key, None unless every frame has it."""
    values = [frame.times.get(key) for frame in frames]
    if not values or any(value is None for value in values):
        return None
    return np.array(values, dtype=float)


def is_single_acquisition(frames: Sequence[Frame]) -> bool:
    """True where frames of one place can be the phases of one acquisition.

    The first key with at least `MIN_PHASES` distinct times must have all distinct, the frames in
    instance order must not run through the cycle twice, and no two folders may have the same
    instance numbers at overlapping times.
    """
    for key in TIME_KEYS:
        values = key_values(frames, key)
        if values is None:
            continue
        distinct = len(np.unique(values))
        if distinct < min(MIN_PHASES, len(frames)) or _is_rounded(frames, values):
            continue
        single = distinct == len(values) and len(long_runs(frames, key)) < 2
        return single and not _is_in_two_folders(frames, values)
    return False


def _is_in_two_folders(frames: Sequence[Frame], values: np.ndarray) -> bool:
    """True where another folder has the same instance numbers at times in between."""
    folders: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for frame, value in zip(frames, values, strict=True):
        number = frame.times.get("InstanceNumber", np.nan)  # equals no other where it is absent
        folders[frame.facts.file.folder].append((value, number))
    for one, other in combinations(folders.values(), 2):
        shared = {number for _, number in one} & {number for _, number in other}
        overlap = max(min(one), min(other))[0] < min(max(one), max(other))[0]
        if overlap and len(shared) >= MIN_PHASES:
            return True
    return False


def _is_rounded(frames: Sequence[Frame], values: np.ndarray) -> bool:
    """True where equal times are adjacent in instance order: rounding, not a repeat."""
    instances = key_values(frames, "InstanceNumber")
    if instances is None or len(np.unique(values)) == len(values):
        return False
    steps = np.diff(values[np.argsort(instances)])
    return bool(np.all(steps >= 0) or np.all(steps <= 0))


def runs(frames: Sequence[Frame], key: str) -> list[list[Frame]]:
    """Frames in instance order, cut wherever the time goes back."""
    values = key_values(frames, key)
    instances = key_values(frames, "InstanceNumber")
    if values is None or instances is None:
        return [list(frames)]
    order = np.lexsort((values, instances))
    pieces: list[list[Frame]] = []
    last = np.inf
    for index in order:
        if values[index] <= last:
            pieces.append([])
        pieces[-1].append(frames[index])
        last = values[index]
    return pieces


def long_runs(frames: Sequence[Frame], key: str) -> list[list[Frame]]:
    """The runs that are long enough to be an acquisition of their own."""
    return [piece for piece in runs(frames, key) if len(piece) >= MIN_PHASES]


def cycle_runs(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The runs through the cycle, by the first cardiac key that has several long ones."""
    for key in CARDIAC_KEYS:
        if len(long_runs(frames, key)) > 1:
            return runs(frames, key)
    return [list(frames)]


def runs_over_beats(frames: Sequence[Frame]) -> bool:
    """True where one series runs through the cycle again and again: real time, not a repeat.

    Repeats of a segmented cine are breath-holds apart; beats of a real-time one follow at once.
    """
    for key in CARDIAC_KEYS:
        pieces = long_runs(frames, key)
        if len(pieces) > 2:
            return True
        if len(pieces) == 2:
            starts = [min(f.acquired_seconds for f in piece) for piece in pieces]
            return min(starts) >= 0 and 0 < abs(starts[1] - starts[0]) < 3.0
    return False


def span_reason(frames: Sequence[Frame]) -> str:
    """``real-time`` or ``time-span`` where the frames of one place run over more than a beat."""
    key = time_key([frames])
    if key is None:
        return ""
    ordering = key_values(frames, key)
    assert ordering is not None
    rr = slice_rr_ms(frames) or 1500.0  # 40 beats a minute where the header gives none
    for clock in (*CARDIAC_KEYS, "AcquisitionTime"):
        values = key_values(frames, clock)
        if values is None:
            continue
        steps = np.diff(values[np.argsort(ordering)])
        # A clock that does not follow the phases says when they were computed, not acquired.
        if np.any(steps <= 0):
            continue
        step = float(np.median(steps)) * (1.0 if clock in CARDIAC_KEYS else 1000.0)
        if (len(steps) + 1) * step <= 1.5 * rr:
            return ""
        return "real-time" if step < 150.0 else "time-span"
    return ""


def time_key(slices: Sequence[Sequence[Frame]]) -> str | None:
    """The first key that is unique and monotone in every slice and consistent between slices."""
    for key in TIME_KEYS:
        values = [key_values(frames, key) for frames in slices]
        if any(v is None or len(np.unique(v)) < len(v) for v in values):
            continue
        known = [v for v in values if v is not None]
        if key in ("TemporalPosition", "InstanceNumber"):
            return key
        if not all(_is_monotone(frames, v, key) for frames, v in zip(slices, known, strict=True)):
            continue
        if key in CARDIAC_KEYS:
            # Other clocks run on from slice to slice: all must start within half a beat.
            starts = np.array([v.min() for v in known])
            spans = np.array([np.ptp(v) for v in known])
            if np.any(np.abs(starts - np.median(starts)) > 0.5 * np.median(spans)):
                continue
        return key
    return None


def _is_monotone(frames: Sequence[Frame], values: np.ndarray, key: str) -> bool:
    """True where the times follow the instance numbers (either way, wrapped) or are even."""
    instances = key_values(frames, "InstanceNumber")
    if instances is not None and len(np.unique(instances)) == len(instances):
        steps = np.sign(np.diff(instances[np.argsort(values)]))
        if min((steps > 0).sum(), (steps < 0).sum()) <= 1:
            return True
    elif key not in CARDIAC_KEYS:
        return True
    gaps = np.diff(np.sort(values))
    usual = np.median(gaps)
    # The number of a frame in its file need not follow the phases.
    timed = key in CARDIAC_KEYS or (key == "AcquisitionTime" and frames[0].facts.enhanced)
    return timed and bool(gaps.max() <= 2.5 * usual and gaps.min() >= 0.3 * usual)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Which frame of each slice represents each phase.

    ``index`` ``[t, z]`` into each slice's frames in time order; ``order`` per slice, the frames'
    time order; ``times_ms`` ``[t]`` from the R wave or NaN; ``missing`` counts absent frames;
    ``mismatched_slices`` have other phases than most; ``worst_error`` in frames.
    """

    index: np.ndarray
    order: tuple[np.ndarray, ...]
    times_ms: np.ndarray
    frame_ms: float | None
    rr_ms: float | None
    missing: int
    mismatched_slices: int
    worst_error: float


def slice_rr_ms(frames: Sequence[Frame]) -> float | None:
    """Median RR interval of one slice, None where no frame has one."""
    known = [frame.rr_ms for frame in frames if frame.rr_ms is not None]
    return float(np.median(known)) if known else None


def modal_interval(values: np.ndarray) -> float:
    """Median step between sorted values."""
    return float(np.median(np.diff(values)))


def align(slices: Sequence[Sequence[Frame]], key: str) -> Alignment:
    """Align the phases of all slices by fraction of RR, to the most frequent number of phases."""
    keyed = [key_values(frames, key) for frames in slices]
    order = tuple(np.argsort(v, kind="stable") for v in keyed if v is not None)
    values = [v[o] for v, o in zip(keyed, order, strict=True) if v is not None]
    frame_ms = _frame_ms(values, key)
    if key in _CLOCKS:
        values = [np.arange(len(v), dtype=float) for v in values]
    rr = [slice_rr_ms(frames) for frames in slices]
    known_rr = [value for value in rr if value is not None]
    rr_ms = float(np.median(known_rr)) if known_rr else None
    counts = np.array([len(v) for v in values])
    modal = mode_of(counts.tolist())
    # Frames missing between the first and last of each slice.
    steps = [np.diff(v) / modal_interval(v) for v in values]
    inner = [int(np.sum(np.round(own[own > _GAP]) - 1)) for own in steps]
    reference = [i for i in range(len(values)) if counts[i] == modal]
    complete = [i for i in reference if inner[i] == 0] or reference
    # A slice whose header lacks the interval has that of the others: on its own span alone its
    # phases would be stretched against theirs where the frames do not cover the beat.
    fractions = [_fractions(v, r or rr_ms, key) for v, r in zip(values, rr, strict=True)]
    target = np.median([fractions[i] for i in complete], axis=0)
    step = 1.0 / modal
    index = np.empty((modal, len(values)), dtype=int)
    worst, mismatched, missing = 0.0, 0, 0
    for z, own in enumerate(fractions):
        # Equal counts mean equal phases unless a slice starts more than a frame away.
        same = counts[z] == modal and inner[z] == 0
        if same and (key not in CARDIAC_KEYS or np.abs(np.median(own - target)) <= step):
            index[:, z] = np.arange(modal)
            continue
        distance = np.abs(own[None, :] - target[:, None])
        distance = np.minimum(distance, np.abs(1.0 - distance))
        index[:, z] = np.argmin(distance, axis=1)
        worst = max(worst, float(distance.min(axis=1).max()) / step)
        lost = inner[z]
        if not lost and len(own) < len(target):
            # Lost at the start or end where the steps are those of the others.
            usual = modal_interval(target)
            if abs(modal_interval(own) - usual) <= 0.03 * usual:
                lost = len(target) - len(own)
        missing += lost
        mismatched += not lost
    times_ms = np.full(modal, np.nan)
    if key in CARDIAC_KEYS:
        aligned = np.stack([v[index[:, z]] for z, v in enumerate(values)])
        times_ms = np.array(np.median(aligned, axis=0), dtype=float)
    return Alignment(
        index=index,
        order=order,
        times_ms=times_ms,
        frame_ms=frame_ms or _unanchored_frame_ms(slices, order, rr),
        rr_ms=rr_ms,
        missing=missing,
        mismatched_slices=mismatched,
        worst_error=worst,
    )


def _fractions(values: np.ndarray, rr: float | None, key: str) -> np.ndarray:
    """Where in the cycle each sorted value lies, 0 to 1."""
    if key in CARDIAC_KEYS and rr is not None:
        return np.asarray(values / rr)
    step = modal_interval(values)
    return np.asarray((values - values[0]) / (values[-1] - values[0] + step))


def _frame_ms(values: Sequence[np.ndarray], key: str) -> float | None:
    step = float(np.median([modal_interval(v) for v in values]))
    if key == "AcquisitionTime":
        step *= 1000.0
    elif key not in CARDIAC_KEYS:
        return None
    return step if 1.0 <= step <= 1000.0 else None


def _unanchored_frame_ms(
    slices: Sequence[Sequence[Frame]], order: Sequence[np.ndarray], rr: Sequence[float | None]
) -> float | None:
    """Frame length from trigger times that run on from slice to slice: steps without a zero.

    Taken only where they follow the phases of every slice and fit the RR interval.
    """
    steps = []
    for frames, places, beat in zip(slices, order, rr, strict=True):
        values = key_values(frames, "TriggerTime")
        if values is None or beat is None or np.any(np.diff(values[places]) <= 0):
            return None
        step = modal_interval(values[places])
        if not 0.5 * beat <= len(values) * step <= 1.15 * beat:
            return None
        steps.append(step)
    return float(np.median(steps))


def timing_flags(timing: Alignment, key: str, declared: int | None) -> list[Flag]:
    """What a reader should check about the phases of a cine (imaging.md, 1)."""
    phases = len(timing.index)
    flags = list(phase_count_flags(phases, timing.frame_ms))
    if timing.missing:
        instead = "the nearest phase of the same slice is used instead"
        flags.append(raised("missing-frames", count=timing.missing, where=instead))
    if timing.mismatched_slices:
        # Without trigger times, a slice with fewer phases may as well have lost one.
        sound = key in CARDIAC_KEYS and timing.worst_error <= limit_of("phase-mismatch")
        found = {"count": timing.mismatched_slices, "value": timing.worst_error}
        flags.append(raised("phase-mismatch", level="info" if sound else "review", **found))
    if key not in CARDIAC_KEYS:
        flags.append(raised("time-from-order", where=key))
    if declared is not None and declared > 1 and declared != phases:
        flags.append(raised("phase-count", declared=declared, count=phases))
    if timing.frame_ms is not None and timing.rr_ms is not None:
        # Share of the RR interval between the first frame's start and the last one's end.
        first, last = timing.times_ms[0], timing.times_ms[-1]
        if last >= first:  # known: NaN compares false
            share = float((last - first + timing.frame_ms) / timing.rr_ms)
        else:
            share = phases * timing.frame_ms / timing.rr_ms
        if share < limit_of("prospective"):
            flags.append(raised("prospective", value=share))
    return flags


def phase_count_flags(phases: int, frame_ms: float | None) -> Iterator[Flag]:
    """Few or slow phases read EDV and EF low; very many may be several beats."""
    for code in ("few-phases", "very-few-phases"):
        if phases < limit_of(code):
            yield raised(code, value=phases)
    if phases > limit_of("many-phases"):
        yield raised("many-phases", value=phases)
    if frame_ms is not None and frame_ms > limit_of("slow-frames"):
        yield raised("slow-frames", value=frame_ms)
