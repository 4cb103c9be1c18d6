"""Deflated DICOM is inflated whole by the parser: what would become too large is found before.

Reading DICOM headers by an allow-list of tags, quietly, without trusting any value.

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

from .archive import DamagedFileError

DEFLATED = b"1.2.840.10008.1.2.1.99"
# Images shrink to a fifth, blank ones to a hundredth: as `archive` has it for members of a zip.
_RATIO, _SMALL = 200, 64 * 1024**2
_PIECE = 1024**2
_MOST_META = 1000  # elements of a file's meta header; there are about ten
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")


def inflates_too_far(stream: BinaryIO) -> bool:
    """True for a deflated file that holds far more than any image; leaves the stream at 0."""
    try:
        return _is_deflated(stream) and _grows(stream)
    finally:
        stream.seek(0)


def _is_deflated(stream: BinaryIO) -> bool:
    """Read the meta header (PS3.10, 7.1: explicit little endian), leaving the stream behind it."""
    stream.seek(128)
    if stream.read(4) != b"DICM":
        stream.seek(0)
    found = False
    for _ in range(_MOST_META):
        head = stream.read(8)
        if len(head) < 8 or head[:2] != b"\x02\x00":
            stream.seek(-len(head), 1)
            return found
        length = int.from_bytes(head[6:8], "little")
        if head[4:6] in _LONG:
            length = int.from_bytes(stream.read(4), "little")
        if head[2:4] == b"\x10\x00":
            found = stream.read(length).strip(b"\x00 ") == DEFLATED
        else:
            stream.seek(length, 1)
    return found


def _grows(stream: BinaryIO) -> bool:
    inflater, taken, given = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
    while piece := stream.read(_PIECE):
        taken += len(piece)
        while piece:
            try:
                given += len(inflater.decompress(piece, _PIECE))
            except zlib.error:
                return False  # the parser says that it is damaged
            if given > max(_SMALL, _RATIO * taken):
                return True
            piece = inflater.unconsumed_tail
    return False


# keyword -> tag; everything the reader knows of a scan comes from these.
TAGS = {
    "MediaStorageSOPClassUID": 0x00020002,
    "TransferSyntaxUID": 0x00020010,
    "ImageType": 0x00080008,
    "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018,
    "SeriesDate": 0x00080021,
    "AcquisitionDate": 0x00080022,
    "ContentDate": 0x00080023,
    "AcquisitionDateTime": 0x0008002A,
    "SeriesTime": 0x00080031,
    "AcquisitionTime": 0x00080032,
    "ContentTime": 0x00080033,
    "Modality": 0x00080060,
    "Manufacturer": 0x00080070,
    "SeriesDescription": 0x0008103E,
    "ComplexImageComponent": 0x00089208,
    "ScanningSequence": 0x00180020,
    "SequenceVariant": 0x00180021,
    "MRAcquisitionType": 0x00180023,
    "SequenceName": 0x00180024,
    "SliceThickness": 0x00180050,
    "EchoTime": 0x00180081,
    "InversionTime": 0x00180082,
    "MagneticFieldStrength": 0x00180087,
    "SpacingBetweenSlices": 0x00180088,
    "ProtocolName": 0x00181030,
    "TriggerTime": 0x00181060,
    "NominalInterval": 0x00181062,
    "HeartRate": 0x00181088,
    "CardiacNumberOfImages": 0x00181090,
    "PulseSequenceName": 0x00189005,
    "EchoPulseSequence": 0x00189008,
    "PhaseContrast": 0x00189014,
    "SteadyStatePulseSequence": 0x00189017,
    "Tagging": 0x00189028,
    "FrameAcquisitionDateTime": 0x00189074,
    "CardiacSynchronizationSequence": 0x00189118,
    "MRImageFrameTypeSequence": 0x00189226,
    "FrameType": 0x00089007,
    "RRIntervalTimeNominal": 0x00209251,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
    "SeriesNumber": 0x00200011,
    "AcquisitionNumber": 0x00200012,
    "InstanceNumber": 0x00200013,
    "ImagePositionPatient": 0x00200032,
    "ImageOrientationPatient": 0x00200037,
    "FrameOfReferenceUID": 0x00200052,
    "TemporalPositionIdentifier": 0x00200100,
    "FrameContentSequence": 0x00209111,
    "PlanePositionSequence": 0x00209113,
    "PlaneOrientationSequence": 0x00209116,
    "TemporalPositionIndex": 0x00209128,
    "NominalCardiacTriggerDelayTime": 0x00209153,
    "SamplesPerPixel": 0x00280002,
    "PhotometricInterpretation": 0x00280004,
    "NumberOfFrames": 0x00280008,
    "Rows": 0x00280010,
    "Columns": 0x00280011,
    "PixelSpacing": 0x00280030,
    "BitsAllocated": 0x00280100,
    "BitsStored": 0x00280101,
    "HighBit": 0x00280102,
    "PixelRepresentation": 0x00280103,
    "PixelPaddingValue": 0x00280120,
    "PixelPaddingRangeLimit": 0x00280121,
    "BurnedInAnnotation": 0x00280301,
    "RescaleIntercept": 0x00281052,
    "RescaleSlope": 0x00281053,
    "PixelMeasuresSequence": 0x00289110,
    "PixelValueTransformationSequence": 0x00289145,
    "SharedFunctionalGroupsSequence": 0x52009229,
    "PerFrameFunctionalGroupsSequence": 0x52009230,
}
PIXEL_DATA = 0x7FE00010

# Only for comparing with folder names (`find.identity_values`); never kept, logged or written.
IDENTITY_TAGS = {
    "PatientName": 0x00100010,
    "PatientID": 0x00100020,
    "PatientBirthDate": 0x00100030,
    "OtherPatientIDs": 0x00101000,
    "OtherPatientNames": 0x00101001,
    "AccessionNumber": 0x00080050,
}

_NUMERIC = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "SV": "q", "UV": "Q"}


def quiet() -> None:
    """Keep pydicom, nibabel and the decoders from printing: their texts may hold header values.

    Idempotent settings rather than a context manager, which is not safe between threads.
    """
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    warnings.filterwarnings("ignore", module=r"(pydicom|nibabel)(\.|$)")


@cache
def _tag(keyword: str) -> Any:
    """The tag as pydicom's own type, which it need not convert for every element."""
    from pydicom.tag import Tag

    return Tag(TAGS.get(keyword) or IDENTITY_TAGS.get(keyword) or PIXEL_DATA)


def read_dataset(stream: BinaryIO, keywords: Iterable[str], *, pixels: bool = False) -> Any:
    """A pydicom data set with just these tags; raises DamagedFileError for what cannot be parsed.

    Without ``pixels`` the stream is left where the pixel data would begin.
    """
    import pydicom

    quiet()
    if inflates_too_far(stream):
        raise DamagedFileError("oversized")
    tags = [_tag(keyword) for keyword in keywords]
    try:
        return pydicom.dcmread(
            stream,
            specific_tags=tags,
            stop_before_pixels=not pixels,
            force=True,
        )
    except MemoryError:
        raise DamagedFileError("oversized") from None
    except Exception:  # noqa: BLE001 - pydicom raises any kind on hostile bytes
        raise DamagedFileError("damaged") from None


# ------------------------------------------------------------------ values


def _raw(dataset: Any, keyword: str) -> tuple[Any, str, bool] | None:
    """Value, VR and little-endian of an element as it stands in the file, or None."""
    tag = _tag(keyword)
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
    """The whole of a text element as one string, empty where it is absent."""
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


def whole(dataset: Any, keyword: str) -> int | None:
    """The first number of an element as an integer, None where it is absent or has a fraction."""
    value = number(dataset, keyword)
    return int(value) if value is not None and value == int(value) else None


def items(dataset: Any, keyword: str) -> list[Any]:
    """The items of a sequence; empty where it is absent or cannot be parsed."""
    from pydicom.dataset import Dataset

    if _tag(keyword) not in dataset:
        return []
    try:
        value = dataset[_tag(keyword)].value
        # Of another representation, a sequence's tag holds texts or numbers.
        return [one for one in value or () if isinstance(one, Dataset)]
    except Exception:  # noqa: BLE001 - pydicom raises any kind on hostile bytes
        return []


def item(dataset: Any, keyword: str) -> Any | None:
    """The first item of a sequence, None where there is none."""
    found = items(dataset, keyword)
    return found[0] if found else None


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
