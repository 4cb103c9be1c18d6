"""One frame table for classic and enhanced DICOM: every image with its place, time and type.

A classic file gives one `Frame`, an enhanced multi-frame file one for each of its frames. What
cannot be an image of a cine (flow, tagging, perfusion, maps, screenshots …) is counted by its
reason instead (`exclusions.REASONS`).
"""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .archive import DamagedFileError, FileSet, ImageFile
from .exclusions import reason_of_uids
from .headers import (
    DEFLATED,
    TAGS,
    integer,
    item,
    items,
    number,
    numbers,
    pointers,
    read_dataset,
    seconds_of_datetime,
    seconds_of_day,
    tag_of,
    text,
    texts,
)

Vector = tuple[float, float, float]

# Time keys in the order in which they are tried (imaging.md, 1: time).
TIME_KEYS = (
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "ActualCardiacTriggerDelayTime",
    "NominalPercentageOfCardiacPhase",
    "TemporalPosition",
    "AcquisitionTime",
    "ContentTime",
    "InstanceNumber",
)
MAX_SIDE = 4096
MAX_FRAMES = 10_000
MAX_POSITION_MM = 5_000.0
MAX_PIXEL_BYTES = 2 * 1024**3
_ENCAPSULATED = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", ""})
# Storage classes of images: CR and DX, CT, ultrasound, MR, secondary capture, X-ray, nuclear, PET.
_IMAGE_CLASSES = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(1|2|3|4|6|7|12|13|20|77|128)(\.|$)")
# Images that belong to the cine by their header, but cannot be decoded; counted as the second.
_LOST = {"cut-off": "damaged", "htj2k": "htj2k", "jpeg-xl": "jpeg-xl"}
_LOST |= {"pixels-elsewhere": "pixels-elsewhere"}


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
    sop_class: str
    frame_of_reference: str
    time_dimension: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One image: place in patient mm (LPS), ``spacing_mm`` (between rows, between columns).

    ``times`` has each key of `TIME_KEYS` that the header gives (ms, seconds of day, counts);
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

    @property
    def identity(self) -> tuple[int, int]:
        """Distinguishes the frame from all others of a source."""
        return id(self.facts), self.index


@dataclass(slots=True)
class FrameTable:
    """All frames of a source, and how many images or files were not usable, by reason.

    ``lost`` are frames whose header is sound and whose pixels cannot be read; ``lost_files`` are
    files that cannot be read at all, and ``without_place`` counts the frames of a multi-frame file
    (by the identity of its facts) for which it has no functional groups. ``unended``: a file with
    compressed pixels lacks their end, so that only decoding says whether they are complete.
    """

    frames: list[Frame] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    lost: list[Frame] = field(default_factory=list)
    lost_files: list[ImageFile] = field(default_factory=list)
    without_place: Counter[int] = field(default_factory=Counter)
    unended: bool = False


def frame_table(files: FileSet) -> FrameTable:
    """Read the header of every DICOM file of a source; bad files are counted, never fatal."""
    table = FrameTable(refused=Counter(files.refused), lost_files=list(files.lost))
    for file in files.files("dicom"):
        try:
            with files.open(file) as stream:
                dataset = read_dataset(stream, TAGS)
                left = file.size - stream.tell()
                if text(_meta(dataset), "TransferSyntaxUID").startswith(_ENCAPSULATED):
                    end = stream.seek(0, io.SEEK_END)
                    stream.seek(max(0, end - 4096))
                    table.unended |= _SEQUENCE_END not in stream.read()
            reason = _refusal(dataset, left)
            frames = list(_frames_of(dataset, file)) if reason in ("", *_LOST) else []
            sound = not reason or any(isinstance(found, Frame) for found in frames)
            code = "" if sound else _LOST.get(reason, reason)
        except DamagedFileError as error:
            code = error.code
        if not code:
            _add_frames(table, frames, reason)
            continue
        table.refused[code] += 1
        if code in ("damaged", "unreadable"):
            table.lost_files.append(file)
    return table


def _add_frames(table: FrameTable, frames: Sequence[Frame | str], reason: str) -> None:
    """The frames of a file, or why each is not used; ``reason``: all their pixels are lost."""
    for found in frames:
        if isinstance(found, Frame) and not reason:
            table.frames.append(found)
        elif isinstance(found, Frame):
            table.lost.append(found)
            table.refused[_LOST[reason]] += 1
        else:
            table.refused[found] += 1
    if "no-frame-group" in frames:
        known = next((id(found.facts) for found in frames if isinstance(found, Frame)), 0)
        table.without_place[known] += frames.count("no-frame-group")


def _frames_of(dataset: Any, file: ImageFile) -> Iterator[Frame | str]:
    """Each frame of a file, or the reason why it cannot be used."""
    facts = _facts(dataset, file)
    declared = integer(dataset, "NumberOfFrames") or 1
    if not facts.enhanced:
        if declared > 1:
            raise DamagedFileError("multi-frame")
        yield _frame(facts, 0, [dataset])
        return
    shared = item(dataset, "SharedFunctionalGroupsSequence")
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    for index in range(declared):
        if groups and index >= len(groups):
            yield "no-frame-group"
            continue
        levels = [level for level in (*groups[index : index + 1], shared) if level]
        yield _frame(facts, index, [*levels, dataset])


def _meta(dataset: Any) -> Any:
    return getattr(dataset, "file_meta", None) or {}


def _refusal(dataset: Any, bytes_left: int) -> str:
    """Why a file has no image that could belong to a cine; empty where it may.

    Those of `_LOST` are images that could, but for their pixels: ``cut-off`` where the file does
    not have them.
    """
    kind = text(dataset, "SOPClassUID") or text(_meta(dataset), "MediaStorageSOPClassUID")
    transfer = text(_meta(dataset), "TransferSyntaxUID")
    undecodable = reason_of_uids(kind, transfer)
    if undecodable and undecodable not in _LOST:
        return undecodable
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    frames = integer(dataset, "NumberOfFrames") or 1
    if not rows or not columns:
        # Some objects have no pixels by their class; an image without size is cut off.
        return "not-an-image" if kind and not _IMAGE_CLASSES.match(kind) else "damaged"
    allocated = integer(dataset, "BitsAllocated") or 16
    samples = integer(dataset, "SamplesPerPixel") or 1
    if min(rows, columns, allocated, samples) < 1:
        return "damaged"
    size = rows * columns * frames * samples * math.ceil(allocated / 8)
    sides = max(rows, columns)
    if sides > MAX_SIDE or not 0 < frames <= MAX_FRAMES or size > MAX_PIXEL_BYTES:
        return "oversized"
    # Before the pixels come their tag, representation and length.
    bytes_left -= 8 if dataset.original_encoding[0] else 12
    short = bytes_left <= 0 or (transfer in _NATIVE and bytes_left < size)
    cut_off = transfer != DEFLATED and short
    if text(dataset, "Modality").upper() != "MR":
        return "damaged" if cut_off and not text(dataset, "Modality") else "not-mr"
    if samples != 1:
        return "damaged" if cut_off else "not-grey"
    lost = undecodable or ("cut-off" if cut_off else "")
    return non_cine_reason(dataset, texts(dataset, "ImageType")) or lost


_PHASE = {"P", "PHASE", "PHASE MAP", "PHASE CONTRAST M", "PCA", "M_PCA", "VELOCITY", "VELOCITY MAP"}
_PHASE |= {"FLOW_ENCODED"}
_MAPS = {"T1 MAP", "T2 MAP", "T1_MAP", "T2_MAP", "T2_STAR_MAP", "T2_STAR MAP", "R2_MAP", "MAP"}
# Not T1 or T2 alone: enhanced images name their contrast so.
_MAPS |= {"ECV", "ECV MAP", "ECV_MAP", "ADC", "ADC MAP"}
_REFORMATS = {"MPR", "REFORMATTED", "MIP", "PROJECTION IMAGE", "MIN IP", "MAX IP"}
_VELOCITY_NAME = re.compile(
    r"_v\d+(in|through|rl|ap|fh)|(^|[^a-z])(pc|venc|flow|qflow)", re.IGNORECASE
)
_TAG_NAME = re.compile(r"(^|[^a-z])(tag|tagging|tagged|cspamm|spamm)([^a-z]|$)", re.IGNORECASE)


def non_cine_reason(dataset: Any, image_type: tuple[str, ...]) -> str:
    """The reason why an MR image is not a magnitude image of a cine, by its declared type."""
    kinds = {value.upper() for value in image_type[2:]}
    names = " ".join(text(dataset, k) for k in ("SequenceName", "PulseSequenceName"))
    component = text(dataset, "ComplexImageComponent").upper()
    velocity = _VELOCITY_NAME.search(names) or text(dataset, "PhaseContrast") == "YES"
    tagged = _TAG_NAME.search(names) or text(dataset, "Tagging") not in {"", "NONE"}
    rules: tuple[tuple[str, object], ...] = (
        ("screenshot", any("SCREEN" in k or k.startswith("CSA ") for k in kinds)),
        ("burned-in", text(dataset, "BurnedInAnnotation").upper() == "YES"),
        ("flow", kinds & _PHASE or velocity),
        ("not-magnitude", kinds & {"R", "I", "REAL", "IMAGINARY"}),
        ("not-magnitude", component in {"REAL", "IMAGINARY", "PHASE"}),
        ("tagging", tagged or "TAGGING" in kinds),
        ("real-time", "REALTIME" in kinds),
        ("perfusion", any("PERFUSION" in kind for kind in kinds)),
        ("late-enhancement", kinds & {"PSIR", "PS_IR"}),
        ("map", kinds & _MAPS),
        ("reformat", kinds & _REFORMATS),
    )
    return next((reason for reason, applies in rules if applies), "")


_BSSFP = re.compile(
    r"tru_?fi|true_?fisp|fiesta|b-?tfe|b-?ffe|balanced|ssfp|(^|[^a-z])tfi", re.IGNORECASE
)
_GRE = re.compile(
    r"flash|spgr|fgre|(^|[^a-z])fl[23]d|turbo_?flash|(^|[^a-z])t1-?tfe", re.IGNORECASE
)


def sequence_of(facts: FileFacts) -> Literal["bssfp", "gre"] | None:
    """Balanced SSFP or gradient echo, by the standard's tags, then by names; None where unknown.

    They read volumes differently.
    """
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
        spoiled, steady = "SP" in facts.sequence_variant, "SS" in facts.sequence_variant
        # GE writes both for spoiled echoes; elsewhere both together say nothing.
        if spoiled and (not steady or facts.vendor == "GE"):
            return "gre"
        if steady and not spoiled:
            return "bssfp"
    if _BSSFP.search(facts.description):
        return "bssfp"
    return "gre" if _GRE.search(facts.description) else None


_VENDORS = {
    "siemens": "Siemens",
    "philips": "Philips",
    "canon": "Canon",
    "toshiba": "Canon",
    "general electric": "GE",
}


def vendor_of(manufacturer: str) -> str | None:
    """``Siemens, GE, Philips, Canon`` or ``other``; None where the header has none."""
    name = manufacturer.lower().strip()
    if not name:
        return None
    other = "GE" if re.match(r"ge\b", name) else "other"
    return next((vendor for mark, vendor in _VENDORS.items() if mark in name), other)


def _facts(dataset: Any, file: ImageFile) -> FileFacts:
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    # GE writes an empty per-frame sequence into classic images.
    enhanced = any(len(group) for group in groups[:1]) or (
        (integer(dataset, "NumberOfFrames") or 1) > 1
        and item(dataset, "SharedFunctionalGroupsSequence") is not None
    )
    tesla = number(dataset, "MagneticFieldStrength") or 0.0
    tesla = tesla / 10_000 if tesla > 100 else tesla  # some headers state gauss
    series_number = number(dataset, "SeriesNumber")
    names = ("SequenceName", "PulseSequenceName", "ProtocolName")
    phase_tags = {int(tag_of(keyword)) for keyword in _PHASE_POINTERS}
    return FileFacts(
        file=file,
        study=text(dataset, "StudyInstanceUID"),
        series=text(dataset, "SeriesInstanceUID"),
        uid=text(dataset, "SOPInstanceUID"),
        enhanced=enhanced,
        rows=integer(dataset, "Rows") or 0,
        columns=integer(dataset, "Columns") or 0,
        vendor=vendor_of(text(dataset, "Manufacturer")),
        description=text(dataset, "SeriesDescription"),
        sequence_texts=tuple(text(dataset, key) for key in names),
        scanning_sequence=frozenset(texts(dataset, "ScanningSequence")),
        sequence_variant=frozenset(texts(dataset, "SequenceVariant")),
        steady_state=text(dataset, "SteadyStatePulseSequence").upper(),
        echo_pulse=text(dataset, "EchoPulseSequence").upper(),
        acquisition_type=text(dataset, "MRAcquisitionType").upper(),
        field_strength_t=tesla if 0.1 <= tesla <= 12 else None,
        series_number=-1.0 if series_number is None else series_number,
        series_seconds=_moment(dataset, "SeriesDate", "SeriesTime"),
        declared_phases=integer(dataset, "CardiacNumberOfImages"),
        sop_class=text(dataset, "SOPClassUID") or text(_meta(dataset), "MediaStorageSOPClassUID"),
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
        time_dimension=next(
            (
                place  # of the DimensionIndexValues that count the phases
                for place, entry in enumerate(items(dataset, "DimensionIndexSequence"))
                if phase_tags.intersection(pointers(entry, "DimensionIndexPointer"))
            ),
            None,
        ),
    )


# What a dimension of an enhanced object points to where it counts the phases.
_PHASE_POINTERS = (
    "NominalCardiacTriggerDelayTime",
    "ActualCardiacTriggerDelayTime",
    "NominalPercentageOfCardiacPhase",
    "TemporalPositionIndex",
    "TemporalPositionTimeOffset",
    "TriggerTime",
)


def _moment(dataset: Any, date: str, time: str) -> float:
    """A date and time as one growing number of seconds, -1 where the header has no time."""
    seconds = seconds_of_day(text(dataset, time))
    return -1.0 if seconds is None else _day(text(dataset, date)) * 100_000 + seconds


def _day(date: str) -> float:
    """A date ``YYYYMMDD`` as a number that grows with it, 0 for anything else."""
    return float(date) if re.fullmatch(r"[0-9]{8}", date) else 0.0


# Where the converter of classic images keeps what has no functional group of its own.
_CONVERTED = (
    "UnassignedPerFrameConvertedAttributesSequence",
    "UnassignedSharedConvertedAttributesSequence",
)


def _within(levels: list[Any], group: str, read: Callable[[Any, str], Any], keyword: str) -> Any:
    """A value from a functional group of the frame, then of all frames, then the top level.

    Objects converted from classic images may have it among their unassigned attributes.
    """
    for name in (group, *_CONVERTED):
        for level in levels[:-1] if name in _CONVERTED else levels:
            found = item(level, name)
            value = read(found, keyword) if found is not None else None
            if value not in (None, (), ""):
                return value
    return read(levels[-1], keyword)


def _frame(facts: FileFacts, index: int, levels: list[Any]) -> Frame | str:
    """One `Frame`, or the reason why the image cannot be used."""
    position = _within(levels, "PlanePositionSequence", numbers, "ImagePositionPatient")
    spacing = _within(levels, "PixelMeasuresSequence", numbers, "PixelSpacing")
    image_type = _within(levels, "MRImageFrameTypeSequence", texts, "FrameType")
    top = levels[-1]
    image_type = image_type or texts(top, "ImageType")
    directions = _directions(
        _within(levels, "PlaneOrientationSequence", numbers, "ImageOrientationPatient")
    )
    if directions is None:
        return "no-orientation"
    if len(position) != 3 or max(map(abs, position)) > MAX_POSITION_MM:
        return "no-position"
    if len(spacing) != 2:
        return "no-pixel-spacing"
    # 0.3 to 5 mm: nothing outside has ever been a cardiac MR image.
    if not all(0.3 <= length <= 5 for length in spacing):
        return "pixel-spacing"
    reason = non_cine_reason(top, image_type) if facts.enhanced else ""
    if reason:
        return reason
    acquired, stamp = number(top, "AcquisitionNumber"), text(top, "AcquisitionDateTime")
    seconds = seconds_of_datetime(stamp)
    moments = (
        _moment(top, "AcquisitionDate", "AcquisitionTime"),
        -1.0 if seconds is None else _day(stamp[:8]) * 100_000 + seconds,
        _moment(top, "ContentDate", "ContentTime"),
    )
    return Frame(
        facts=facts,
        index=index,
        position=position,
        row_direction=directions[0],
        column_direction=directions[1],
        spacing_mm=spacing,
        times=_times(facts, index, levels),
        image_type=image_type,
        acquisition_number=-1.0 if acquired is None else acquired,
        acquired_seconds=next((time for time in moments if time >= 0), facts.series_seconds),
        rr_ms=_rr_ms(levels),
        thickness_mm=_within(levels, "PixelMeasuresSequence", number, "SliceThickness"),
        slice_spacing_mm=_within(levels, "PixelMeasuresSequence", number, "SpacingBetweenSlices"),
        echo_ms=number(top, "EchoTime"),
        inversion_ms=number(top, "InversionTime"),
    )


def _times(facts: FileFacts, index: int, levels: list[Any]) -> dict[str, float]:
    top = levels[-1]
    values: dict[str, float | None] = {
        "TriggerTime": number(top, "TriggerTime"),
        "NominalCardiacTriggerDelayTime": number(top, "NominalCardiacTriggerDelayTime"),
        "TemporalPosition": number(top, "TemporalPositionIdentifier"),
        "AcquisitionTime": seconds_of_day(text(top, "AcquisitionTime")),
        "ContentTime": seconds_of_day(text(top, "ContentTime")),
        "InstanceNumber": number(top, "InstanceNumber"),
    }
    if facts.enhanced:
        own = _enhanced_times(facts, levels)
        if (integer(top, "NumberOfFrames") or 1) > 1:
            # What the top level says is then of all frames alike.
            values = {"InstanceNumber": float(index + 1)}
        values |= {name: value for name, value in own.items() if value is not None}
    return {k: v for k, v in values.items() if v is not None and abs(v) < 1e9}


def _enhanced_times(facts: FileFacts, levels: list[Any]) -> dict[str, float | None]:
    """The times of a frame in its functional groups, or among its converted attributes."""
    heart, content = "CardiacSynchronizationSequence", "FrameContentSequence"
    stamp = _within(levels[:-1] or levels, content, text, "FrameAcquisitionDateTime")
    position = _within(levels, content, number, "TemporalPositionIndex")
    dimensions = _within(levels, content, numbers, "DimensionIndexValues")
    percentage = _within(levels, heart, number, "NominalPercentageOfCardiacPhase")
    offset = _within(levels, "TemporalPositionSequence", number, "TemporalPositionTimeOffset")
    if facts.time_dimension is not None and facts.time_dimension < len(dimensions):
        position = dimensions[facts.time_dimension]
    rr_ms = _rr_ms(levels)
    found = {
        name: _within(levels, heart, number, name)
        for name in ("NominalCardiacTriggerDelayTime", "ActualCardiacTriggerDelayTime")
    }
    # In ms from the R wave, where the length of the beat is known; else it orders the phases.
    if percentage is not None and rr_ms is not None:
        found["NominalPercentageOfCardiacPhase"] = percentage / 100 * rr_ms
    known = (value for value in (position, percentage, offset) if value is not None)
    found["TemporalPosition"] = next(known, None)
    found["AcquisitionTime"] = seconds_of_datetime(stamp) if stamp else None
    for level in levels[:-1]:
        converted = item(level, _CONVERTED[0])
        if converted is not None:
            found["TriggerTime"] = number(converted, "TriggerTime")
    return found


def _rr_ms(levels: list[Any]) -> float | None:
    """RR interval of 250 to 2500 ms from NominalInterval, its enhanced form, or HeartRate."""
    nominal = _within(levels, "CardiacSynchronizationSequence", number, "RRIntervalTimeNominal")
    rate, interval = (
        _within(levels, "CardiacSynchronizationSequence", number, name)
        for name in ("HeartRate", "NominalInterval")
    )
    for value in (interval, nominal, 60_000 / rate if rate else None):
        if value is not None and 250 <= value <= 2500:
            return float(value)
    return None


def _directions(orientation: tuple[float, ...]) -> tuple[Vector, Vector] | None:
    """Unit row and column directions; None where the six cosines are not a plane."""
    if len(orientation) != 6:
        return None
    row, column = orientation[:3], orientation[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    if not all(0.9 <= length <= 1.1 for length in lengths):
        return None
    if abs(sum(a * b for a, b in zip(row, column, strict=True))) > 0.02:
        return None
    x, y, z = (value / lengths[0] for value in row)
    u, v, w = (value / lengths[1] for value in column)
    return (x, y, z), (u, v, w)
