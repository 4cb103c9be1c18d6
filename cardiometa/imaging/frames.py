"""One image of a scan as its header tells it: place, time, nature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from .archive import ImageFile

Vector = tuple[float, float, float]


# Time keys in the order in which they are tried (imaging.md, 1: time).
TIME_KEYS = (
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "TemporalPosition",
    "AcquisitionTime",
    "ContentTime",
    "InstanceNumber",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What all frames of one file share; texts stay in memory and are never written out."""

    file: ImageFile
    study: str
    series: str
    uid: str
    enhanced: bool
    rows: int
    columns: int
    vendor: str | None
    description: str
    sequence_texts: tuple[str, ...]
    scanning_sequence: frozenset[str]
    sequence_variant: frozenset[str]
    steady_state: str
    echo_pulse: str
    acquisition_type: str
    field_strength_t: float | None
    series_number: float
    series_seconds: float
    declared_phases: int | None
    sop_class: str = ""
    frame_of_reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One image: place in patient mm (LPS), ``spacing_mm`` (between rows, between columns).

    ``times`` holds each key of `TIME_KEYS` that the header gives (ms, seconds of day, counts);
    ``index`` is the frame's place in its file.
    """

    facts: FileFacts
    index: int
    position: Vector
    row_direction: Vector
    column_direction: Vector
    spacing_mm: tuple[float, float]
    times: Mapping[str, float]
    image_type: tuple[str, ...]
    acquisition_number: float
    acquired_seconds: float
    rr_ms: float | None
    thickness_mm: float | None
    slice_spacing_mm: float | None
    echo_ms: float | None
    inversion_ms: float | None


@dataclass(slots=True)
class FrameTable:
    """All frames of a source, and how many images or files were not usable, by reason."""

    frames: list[Frame] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
