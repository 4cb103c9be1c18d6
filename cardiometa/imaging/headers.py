"""Reading DICOM headers by an allow-list of tags, quietly, without trusting any value.

Values are parsed here from their raw bytes: a malformed value becomes None, never an exception or a
warning that repeats it. Names, ids, birth dates, institutions and comments are not on the list.
"""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Iterable
from functools import cache
from typing import Any, BinaryIO

from .archive import MAX_RATIO, SMALL_BYTES, DamagedFileError

# Everything the reader knows of a scan comes from these elements.
# fmt: off
TAGS = (
    "MediaStorageSOPClassUID", "TransferSyntaxUID", "SOPClassUID", "SOPInstanceUID",
    "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "SeriesDate",
    "SeriesTime", "FrameOfReferenceUID", "Modality", "Manufacturer", "ProtocolName",
    "MagneticFieldStrength", "ImageType", "FrameType", "MRImageFrameTypeSequence",
    "ComplexImageComponent", "BurnedInAnnotation", "ScanningSequence", "SequenceVariant",
    "SequenceName", "PulseSequenceName", "EchoPulseSequence", "SteadyStatePulseSequence",
    "PhaseContrast", "Tagging", "MRAcquisitionType", "EchoTime", "InversionTime", "AcquisitionDate",
    "AcquisitionTime", "AcquisitionDateTime", "ContentDate", "ContentTime", "AcquisitionNumber",
    "InstanceNumber", "FrameAcquisitionDateTime", "FrameContentSequence", "TriggerTime",
    "NominalInterval", "HeartRate", "CardiacNumberOfImages", "CardiacSynchronizationSequence",
    "NominalCardiacTriggerDelayTime", "ActualCardiacTriggerDelayTime",
    "NominalPercentageOfCardiacPhase", "RRIntervalTimeNominal", "TemporalPositionIdentifier",
    "TemporalPositionIndex", "TemporalPositionTimeOffset", "TemporalPositionSequence",
    "DimensionIndexSequence", "DimensionIndexPointer", "DimensionIndexValues",
    "UnassignedPerFrameConvertedAttributesSequence", "UnassignedSharedConvertedAttributesSequence",
    "ImagePositionPatient", "ImageOrientationPatient",
    "PlanePositionSequence", "PlaneOrientationSequence", "SliceThickness", "SpacingBetweenSlices",
    "PixelSpacing", "PixelMeasuresSequence", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope",
    "PixelValueTransformationSequence", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
# fmt: on
# Only for comparing with folder names (`discovery.header_identity`); never kept, logged or written.
IDENTITY_TAGS = (
    *("PatientName", "PatientID", "PatientBirthDate"),
    *("OtherPatientIDs", "OtherPatientNames", "AccessionNumber"),
)
DEFLATED = "1.2.840.10008.1.2.1.99"

_NUMERIC = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "SV": "q", "UV": "Q"}


def quiet() -> None:
    """Keep pydicom, nibabel and the decoders from printing: their texts may contain header values.

    Idempotent settings rather than a context manager, which is not safe between threads.
    """
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    warnings.filterwarnings("ignore", module=r"(pydicom|nibabel)(\.|$)")


@cache
def tag_of(keyword: str) -> Any:
    """The tag as pydicom's own type, which it need not convert for every element."""
    from pydicom.tag import Tag

    return Tag(keyword)


_PIECE = 1024**2
_MOST_META = 1000  # elements of a file's meta header; there are about ten
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


def _inflates_too_far(stream: BinaryIO) -> bool:
    """True for a deflated file that expands far beyond any image: pydicom inflates all at once."""
    # The meta header (PS3.10, 7.1) is explicit little endian; what is deflated follows it.
    stream.seek(128)
    if stream.read(4) != b"DICM":
        stream.seek(0)
    deflated = False
    for _ in range(_MOST_META):
        head = stream.read(8)
        if head[:2] != b"\x02\x00" or len(head) < 8:
            stream.seek(-len(head), 1)
            break
        long = head[4:6] in _LONG_VRS
        length = int.from_bytes(stream.read(4) if long else head[6:8], "little")
        if head[2:4] == b"\x10\x00":
            deflated = stream.read(length).strip(b"\x00 ") == DEFLATED.encode()
        else:
            stream.seek(length, 1)
    if not deflated:
        return False
    inflater, taken, given = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
    while piece := stream.read(_PIECE):
        taken += len(piece)
        while piece:
            try:
                given += len(inflater.decompress(piece, _PIECE))
            except zlib.error:
                return False  # the parser reports that it is damaged
            if given > max(SMALL_BYTES, MAX_RATIO * taken):
                return True
            piece = inflater.unconsumed_tail
    return False


def read_dataset(stream: BinaryIO, keywords: Iterable[str], *, pixels: bool = False) -> Any:
    """A pydicom data set with just these tags; raises DamagedFileError for what cannot be parsed.

    Without ``pixels`` the stream is left where the pixel data would begin.
    """
    import pydicom

    quiet()
    too_far = _inflates_too_far(stream)
    stream.seek(0)
    if too_far:
        raise DamagedFileError("oversized")
    tags = [tag_of(keyword) for keyword in keywords]
    try:
        return pydicom.dcmread(
            stream, specific_tags=tags, stop_before_pixels=not pixels, force=True
        )
    except MemoryError:
        raise DamagedFileError("oversized") from None
    except Exception:  # noqa: BLE001 - pydicom raises any kind on hostile bytes
        raise DamagedFileError("damaged") from None


# ------------------------------------------------------------------ values


def _raw(dataset: Any, keyword: str) -> tuple[Any, str, bool] | None:
    """Value, VR and little-endian of an element as the file has it, or None."""
    tag = tag_of(keyword)
    if tag not in dataset:
        return None
    try:
        element = dataset.get_item(tag)
        vr = element.VR
        if vr is None or vr == "UN":
            from pydicom.datadict import dictionary_VR

            vr = dictionary_VR(tag)
        return element.value, str(vr), bool(getattr(element, "is_little_endian", True))
    except Exception:  # noqa: BLE001 - pydicom raises any kind on hostile bytes
        return None


def texts(dataset: Any, keyword: str) -> tuple[str, ...]:
    """The values of a text element, stripped; empty where it is absent."""
    found = _raw(dataset, keyword)
    if found is None or found[0] is None:
        return ()
    value = found[0]
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            value = value.decode("latin-1")
    if isinstance(value, str):
        value = value.split("\\")
    elif not isinstance(value, list | tuple) and not hasattr(value, "__iter__"):
        value = [value]
    return tuple(str(part).strip(" \x00\t\r\n") for part in value)


def text(dataset: Any, keyword: str) -> str:
    """All of a text element as one string, empty where it is absent."""
    return "\\".join(texts(dataset, keyword))


def numbers(dataset: Any, keyword: str) -> tuple[float, ...]:
    """The numbers of an element; empty where it is absent or any value is malformed or absurd."""
    found = _raw(dataset, keyword)
    if found is None or found[0] is None:
        return ()
    value, vr, little = found
    try:
        if isinstance(value, bytes) and vr.split(" ")[0] in _NUMERIC:
            code = _NUMERIC[vr.split(" ")[0]]
            count = len(value) // struct.calcsize(code)
            result = tuple(
                float(v) for v in struct.unpack(("<" if little else ">") + code * count, value)
            )
        else:
            result = tuple(float(part) for part in texts(dataset, keyword))
    except (ValueError, struct.error):
        return ()
    # NaN compares false; nothing that a header of an image counts or measures is larger.
    return result if all(abs(value) < 1e12 for value in result) else ()


def number(dataset: Any, keyword: str) -> float | None:
    """The first number of an element, None where it is absent or malformed."""
    values = numbers(dataset, keyword)
    return values[0] if values else None


def integer(dataset: Any, keyword: str) -> int | None:
    """The first number of an element as an integer, None where it is absent or has a fraction."""
    value = number(dataset, keyword)
    return int(value) if value is not None and value == int(value) else None


def items(dataset: Any, keyword: str) -> list[Any]:
    """The items of a sequence; empty where it is absent or cannot be parsed."""
    from pydicom.dataset import Dataset

    if tag_of(keyword) not in dataset:
        return []
    try:
        value = dataset[tag_of(keyword)].value
        # Of another representation, a sequence's tag has texts or numbers.
        return [entry for entry in value or () if isinstance(entry, Dataset)]
    except Exception:  # noqa: BLE001 - pydicom raises any kind on hostile bytes
        return []


def item(dataset: Any, keyword: str) -> Any | None:
    """The first item of a sequence, None where there is none."""
    found = items(dataset, keyword)
    return found[0] if found else None


def pointers(dataset: Any, keyword: str) -> list[int]:
    """The tags that an element of tags (AT) names, as numbers; empty where it is malformed."""
    found = _raw(dataset, keyword)
    if found is None or not isinstance(found[0], bytes | int):
        return []
    value, _, little = found
    if isinstance(value, int):
        return [int(value)]
    pairs = struct.iter_unpack("<HH" if little else ">HH", value[: len(value) // 4 * 4])
    return [group << 16 | element for group, element in pairs]


def seconds_of_day(value: str) -> float | None:
    """Seconds since midnight of a DICOM time (``HHMMSS.FFFFFF``, also ``HH:MM:SS``)."""
    digits = value.replace(":", "")
    try:
        hours, minutes = int(digits[0:2]), int(digits[2:4] or 0)
        seconds = float(digits[4:] or 0)
    except ValueError:
        return None
    sound = 0 <= hours < 24 and 0 <= minutes < 60 and 0 <= seconds < 61
    return hours * 3600 + minutes * 60 + seconds if sound else None


def seconds_of_datetime(value: str) -> float | None:
    """Seconds since midnight of a DICOM date-time (``YYYYMMDDHHMMSS.FFFFFF±ZZZZ``)."""
    body = re.split(r"[+-]", value, maxsplit=1)[0]
    return seconds_of_day(body[8:]) if len(body) > 8 else None


def decimal(value: float) -> str:
    """A DICOM decimal string: at most 16 characters."""
    for digits in range(12, 5, -1):
        written = f"{float(value):.{digits}g}"
        if len(written) <= 16:
            return written
    raise ValueError(f"{value} does not fit a decimal string")
