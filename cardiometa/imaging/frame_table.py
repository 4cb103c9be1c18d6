"""One frame table for classic and enhanced DICOM: every image with its place, time and nature.

A classic file gives one `Frame`, an enhanced multi-frame file one for each of its frames. What
cannot be an image of a cine is counted by its reason instead (`left_out.REASONS`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from .archive import DamagedFileError, FileSet, ImageFile
from .frames import FileFacts, Frame, FrameTable, Vector
from .headers import (
    TAGS,
    item,
    items,
    number,
    numbers,
    read_dataset,
    seconds_of_datetime,
    seconds_of_day,
    text,
    texts,
    whole,
)
from .image_type import nature_of

MAX_SIDE = 4096
MAX_FRAMES = 10_000
MAX_POSITION_MM = 5_000.0
MAX_PIXEL_BYTES = 2 * 1024**3
_DEFLATED = "1.2.840.10008.1.2.1.99"
_NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", ""})
# Storage classes of images: CR and DX, CT, ultrasound, MR, secondary capture, X-ray, nuclear, PET.
_IMAGE_CLASSES = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(1|2|3|4|6|7|12|13|20|77|128)(\.|$)")


def frame_table(files: FileSet) -> FrameTable:
    """Read the header of every DICOM file of a source; bad files are counted, never fatal."""
    table = FrameTable(refused=Counter(files.refused))
    for file in files.files("dicom"):
        try:
            frames = list(_frames_of(files, file, table.refused))
        except DamagedFileError as error:
            table.refused[error.code] += 1
        else:
            table.frames.extend(frames)
    return table


def _frames_of(files: FileSet, file: ImageFile, refused: Counter[str]) -> Iterator[Frame]:
    with files.open(file) as stream:
        dataset = read_dataset(stream, TAGS)
        left = file.size - stream.tell()
    transfer = text(getattr(dataset, "file_meta", {}) or {}, "TransferSyntaxUID")
    reason = _refusal(dataset, transfer, left)
    if reason:
        raise DamagedFileError(reason)
    facts = _facts(dataset, file)
    if facts.enhanced:
        yield from _enhanced_frames(dataset, facts, refused)
        return
    if (whole(dataset, "NumberOfFrames") or 1) > 1:
        raise DamagedFileError("multi-frame")
    found = _frame(facts, 0, [dataset], _classic_times(dataset))
    if isinstance(found, str):
        refused[found] += 1
    else:
        yield found


def _refusal(dataset: Any, transfer: str, bytes_left: int) -> str:
    """Why a file holds no image that could belong to a cine; empty where it may."""
    rows, columns = whole(dataset, "Rows"), whole(dataset, "Columns")
    frames = whole(dataset, "NumberOfFrames") or 1
    if not rows or not columns:
        return "not-an-image" if _is_other_object(dataset) else "damaged"
    allocated = whole(dataset, "BitsAllocated") or 16
    samples = whole(dataset, "SamplesPerPixel") or 1
    if min(rows, columns, allocated, samples) < 1:
        return "damaged"
    size = rows * columns * frames * samples * math.ceil(allocated / 8)
    sides = max(rows, columns)
    if sides > MAX_SIDE or not 0 < frames <= MAX_FRAMES or size > MAX_PIXEL_BYTES:
        return "oversized"
    # Before the pixels stand their tag, representation and length.
    bytes_left -= 8 if dataset.original_encoding[0] else 12
    if transfer != _DEFLATED and (bytes_left <= 0 or (transfer in _NATIVE and bytes_left < size)):
        return "damaged"
    if text(dataset, "Modality").upper() != "MR":
        return "not-mr"
    if samples != 1:
        return "not-grey"
    return nature_of(dataset, texts(dataset, "ImageType"))


def _is_other_object(dataset: Any) -> bool:
    """True for objects that have no pixels by their class; an image without size is cut off."""
    meta = getattr(dataset, "file_meta", None) or {}
    kind = text(dataset, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID")
    return bool(kind) and not _IMAGE_CLASSES.match(kind)


# ------------------------------------------------------------------ facts of a file


def vendor_of(manufacturer: str) -> str | None:
    """``Siemens, GE, Philips, Canon`` or ``other``; None where the header has none."""
    name = manufacturer.lower().strip()
    if not name:
        return None
    for mark, vendor in (
        ("siemens", "Siemens"),
        ("philips", "Philips"),
        ("canon", "Canon"),
        ("toshiba", "Canon"),
        ("general electric", "GE"),
    ):
        if mark in name:
            return vendor
    return "GE" if re.match(r"ge\b", name) else "other"


def _field_strength(value: float | None) -> float | None:
    if value is None:
        return None
    tesla = value / 10_000 if value > 100 else value  # some headers hold gauss
    return tesla if 0.1 <= tesla <= 12 else None


def _facts(dataset: Any, file: ImageFile) -> FileFacts:
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    # GE writes an empty per-frame sequence into classic images.
    enhanced = any(len(group) for group in groups[:1]) or (
        (whole(dataset, "NumberOfFrames") or 1) > 1
        and item(dataset, "SharedFunctionalGroupsSequence") is not None
    )
    number_of_series = number(dataset, "SeriesNumber")
    return FileFacts(
        file=file,
        study=text(dataset, "StudyInstanceUID"),
        series=text(dataset, "SeriesInstanceUID"),
        uid=text(dataset, "SOPInstanceUID"),
        enhanced=enhanced,
        rows=whole(dataset, "Rows") or 0,
        columns=whole(dataset, "Columns") or 0,
        vendor=vendor_of(text(dataset, "Manufacturer")),
        description=text(dataset, "SeriesDescription"),
        sequence_texts=tuple(
            text(dataset, key) for key in ("SequenceName", "PulseSequenceName", "ProtocolName")
        ),
        scanning_sequence=frozenset(texts(dataset, "ScanningSequence")),
        sequence_variant=frozenset(texts(dataset, "SequenceVariant")),
        steady_state=text(dataset, "SteadyStatePulseSequence").upper(),
        echo_pulse=text(dataset, "EchoPulseSequence").upper(),
        acquisition_type=text(dataset, "MRAcquisitionType").upper(),
        field_strength_t=_field_strength(number(dataset, "MagneticFieldStrength")),
        series_number=-1.0 if number_of_series is None else number_of_series,
        series_seconds=_moment(dataset, "SeriesDate", "SeriesTime"),
        declared_phases=whole(dataset, "CardiacNumberOfImages"),
        sop_class=text(dataset, "SOPClassUID")
        or text(getattr(dataset, "file_meta", None) or {}, "MediaStorageSOPClassUID"),
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
    )


def _moment(dataset: Any, date: str, time: str) -> float:
    """A date and time as one growing number of seconds, -1 where the header has no time."""
    seconds = seconds_of_day(text(dataset, time))
    if seconds is None:
        return -1.0
    return _day(text(dataset, date)) * 100_000 + seconds


def _day(date: str) -> float:
    """A date ``YYYYMMDD`` as a number that grows with it, 0 for anything else."""
    return float(date) if re.fullmatch(r"[0-9]{8}", date) else 0.0


# ------------------------------------------------------------------ frames


def _classic_times(dataset: Any) -> dict[str, float]:
    """Times of a classic file, from its top level."""
    return _present(
        {
            "TriggerTime": number(dataset, "TriggerTime"),
            "NominalCardiacTriggerDelayTime": number(dataset, "NominalCardiacTriggerDelayTime"),
            "TemporalPosition": number(dataset, "TemporalPositionIdentifier"),
            "AcquisitionTime": seconds_of_day(text(dataset, "AcquisitionTime")),
            "ContentTime": seconds_of_day(text(dataset, "ContentTime")),
            "InstanceNumber": number(dataset, "InstanceNumber"),
        }
    )


def _present(values: Mapping[str, float | None]) -> dict[str, float]:
    return {k: v for k, v in values.items() if v is not None and abs(v) < 1e9}


def _enhanced_frames(dataset: Any, facts: FileFacts, refused: Counter[str]) -> Iterator[Frame]:
    shared = item(dataset, "SharedFunctionalGroupsSequence")
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    declared = whole(dataset, "NumberOfFrames") or 1
    for index in range(declared):
        levels = [level for level in (groups[index : index + 1] or [None]) + [shared] if level]
        levels.append(dataset)
        found = _frame(facts, index, levels, _enhanced_times(levels, index))
        if isinstance(found, str):
            refused[found] += 1
        else:
            yield found


def _within(levels: list[Any], group: str, read: Any, keyword: str) -> Any:
    """A value from a functional group of the frame, then of all frames, then the top level."""
    for level in levels:
        holder = item(level, group)
        value = read(holder, keyword) if holder is not None else None
        if value not in (None, (), ""):
            return value
    return read(levels[-1], keyword)


def _frame(
    facts: FileFacts, index: int, levels: list[Any], times: Mapping[str, float]
) -> Frame | str:
    """One `Frame`, or the reason why the image cannot be used."""
    orientation = _within(levels, "PlaneOrientationSequence", numbers, "ImageOrientationPatient")
    position = _within(levels, "PlanePositionSequence", numbers, "ImagePositionPatient")
    spacing = _within(levels, "PixelMeasuresSequence", numbers, "PixelSpacing")
    image_type = _within(levels, "MRImageFrameTypeSequence", texts, "FrameType")
    image_type = image_type or texts(levels[-1], "ImageType")
    directions = _directions(orientation)
    if directions is None:
        return "no-orientation"
    if len(position) != 3 or max(map(abs, position)) > MAX_POSITION_MM:
        return "no-position"
    if len(spacing) != 2:
        return "no-pixel-spacing"
    # 0.3 to 5 mm: nothing outside has ever been a cardiac MR image.
    if not all(0.3 <= length <= 5 for length in spacing):
        return "pixel-spacing"
    top = levels[-1]
    if facts.enhanced:
        nature = nature_of(top, image_type)
        if nature:
            return nature
    acquired = number(top, "AcquisitionNumber")
    return Frame(
        facts=facts,
        index=index,
        position=position,
        row_direction=directions[0],
        column_direction=directions[1],
        spacing_mm=spacing,
        times=times,
        image_type=image_type,
        acquisition_number=-1.0 if acquired is None else acquired,
        acquired_seconds=_acquired(top, facts),
        rr_ms=_rr_ms(levels),
        thickness_mm=_within(levels, "PixelMeasuresSequence", number, "SliceThickness"),
        slice_spacing_mm=_within(levels, "PixelMeasuresSequence", number, "SpacingBetweenSlices"),
        echo_ms=number(top, "EchoTime"),
        inversion_ms=number(top, "InversionTime"),
    )


def _acquired(top: Any, facts: FileFacts) -> float:
    acquired = _moment(top, "AcquisitionDate", "AcquisitionTime")
    if acquired >= 0:
        return acquired
    stamp = text(top, "AcquisitionDateTime")
    seconds = seconds_of_datetime(stamp)
    if seconds is not None:
        return _day(stamp[:8]) * 100_000 + seconds
    content = _moment(top, "ContentDate", "ContentTime")
    return content if content >= 0 else facts.series_seconds


def _enhanced_times(levels: list[Any], index: int) -> dict[str, float]:
    stamp = _within(levels, "FrameContentSequence", text, "FrameAcquisitionDateTime")
    return _present(
        {
            "NominalCardiacTriggerDelayTime": _within(
                levels, "CardiacSynchronizationSequence", number, "NominalCardiacTriggerDelayTime"
            ),
            "TemporalPosition": _within(
                levels, "FrameContentSequence", number, "TemporalPositionIndex"
            ),
            "AcquisitionTime": seconds_of_datetime(stamp) if stamp else None,
            "InstanceNumber": float(index + 1),
        }
    )


def _rr_ms(levels: list[Any]) -> float | None:
    """RR interval of 250 to 2500 ms from NominalInterval, its enhanced form, or HeartRate."""
    nominal = _within(levels, "CardiacSynchronizationSequence", number, "RRIntervalTimeNominal")
    rate = number(levels[-1], "HeartRate")
    for value in (number(levels[-1], "NominalInterval"), nominal, 60_000 / rate if rate else None):
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
    unit_row = tuple(value / lengths[0] for value in row)
    unit_column = tuple(value / lengths[1] for value in column)
    return (unit_row[0], unit_row[1], unit_row[2]), (unit_column[0], unit_column[1], unit_column[2])
