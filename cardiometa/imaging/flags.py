"""Flags of tier 1: what the geometry and timing of a cine ask a reader to look at."""

from __future__ import annotations

from typing import Literal

from ..records import Flag
from .timing import CARDIAC_KEYS, Alignment


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
