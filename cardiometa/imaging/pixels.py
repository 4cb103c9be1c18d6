"""Pixels of chosen frames: decompressed, signed, inverted and rescaled as the header says.

Transfer syntaxes go through pydicom with the gdcm plug-in (free licence) for JPEG, JPEG-LS and
JPEG 2000; RLE, deflated and big endian are pydicom's own. The plug-in is named, so that the same
file gives the same pixels whatever else is installed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from .archive import DamagedFileError
from .frames import Frame
from .headers import integer, item, items, number, read_dataset, tag_of, text

# fmt: off
_PIXEL_TAGS = (
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "PixelData",
)
# fmt: on
_MAX_RESCALE = 1e6
_RLE = "1.2.840.10008.1.2.5"


def decode(data: bytes, frames: Sequence[Frame]) -> list[np.ndarray]:
    """Float32 ``[y, x]`` arrays of ``frames``, all of the file whose bytes are ``data``.

    Raises DamagedFileError (``undecodable``) where the pixels are cut off or no decoder fits.
    """
    from pydicom.pixels.decoders.base import get_decoder

    dataset = read_dataset(io.BytesIO(data), _PIXEL_TAGS, pixels=True)
    try:
        values = _stored_values(dataset, get_decoder, [frame.index for frame in frames])
        return [
            _real_values(dataset, frame, array) for frame, array in zip(frames, values, strict=True)
        ]
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - decoders raise any kind on hostile bytes
        raise DamagedFileError("undecodable") from None


def _stored_values(dataset: Any, get_decoder: Any, indices: Sequence[int]) -> list[np.ndarray]:
    """Integer arrays as the file stores them, with sign and unused bits corrected."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or not get_decoder(syntax).is_encapsulated:
        native = _native_frames(dataset)
        return [_integers(dataset, native[index]) for index in indices]
    with suppress(ImportError):  # gdcm's own messages stay off stderr
        import gdcm

        for messages in (gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff, gdcm.Trace.DebugOff):
            messages()
    if integer(dataset, "SamplesPerPixel") is None:
        dataset.SamplesPerPixel = 1
    if not text(dataset, "PhotometricInterpretation"):
        dataset.PhotometricInterpretation = "MONOCHROME2"
    decoder = get_decoder(syntax)
    options = {"raw": True, "decoding_plugin": "pydicom" if str(syntax) == _RLE else "gdcm"}
    arrays = [decoder.as_array(dataset, index=index, **options)[0] for index in indices]
    # Decoders give values in the low bits already.
    return [_integers(dataset, array, high_bit=False) for array in arrays]


def _native_frames(dataset: Any) -> np.ndarray:
    """Uncompressed frames ``[n, y, x]`` with every bit as stored; raises where they are cut off.

    Read here because pydicom drops the upper bits of values that end at another bit than the first.
    """
    element = dataset.get_item(tag_of("PixelData"))
    little = dataset.original_encoding[1] is not False
    allocated = integer(dataset, "BitsAllocated") or 16
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    data = element.value
    if allocated == 8 and not little and element.VR == "OW":
        # Big-endian words have their two bytes in reverse order.
        data = np.frombuffer(data, dtype=">u2").astype("<u2").tobytes()
    kind = np.dtype({8: "u1", 16: "u2", 32: "u4"}[allocated]).newbyteorder("<" if little else ">")
    frames = integer(dataset, "NumberOfFrames") or 1
    values = np.frombuffer(data, dtype=kind, count=frames * rows * columns)
    return values.reshape(frames, rows, columns)


def _bits(dataset: Any) -> tuple[int, int]:
    """Bits stored and the highest of them; raises where a header's numbers cannot be."""
    allocated = integer(dataset, "BitsAllocated") or 16
    stored = integer(dataset, "BitsStored") or allocated
    high = integer(dataset, "HighBit")
    high = stored - 1 if high is None else high
    # Checked before they are used: two to the power of a header's number may fill the memory.
    if not 1 <= stored <= allocated <= 32 or not 0 <= high < allocated:
        raise ValueError("bits beyond those allocated")
    return stored, high


def _integers(dataset: Any, array: np.ndarray, *, high_bit: bool = True) -> np.ndarray:
    """Integer values: shifted to the low bit, other bits (old overlays) masked, sign extended."""
    stored, high = _bits(dataset)
    shift = max(0, high + 1 - stored) if high_bit else 0
    values = (array.astype(np.int64) >> shift) & ((1 << stored) - 1)
    if integer(dataset, "PixelRepresentation") == 1:
        sign = 1 << (stored - 1)
        values = (values ^ sign) - sign
    return values


def _real_values(dataset: Any, frame: Frame, values: np.ndarray) -> np.ndarray:
    """Float32 values: padding replaced by the least real value, inverted, rescaled."""
    first = number(dataset, "PixelPaddingValue")
    if first is not None:
        last = number(dataset, "PixelPaddingRangeLimit")
        low, high = sorted((first, first if last is None else last))
        padded = (values >= low) & (values <= high)
        if padded.any() and not padded.all():
            values = np.where(padded, values[~padded].min(), values)
    if text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        signed = integer(dataset, "PixelRepresentation") == 1
        # Inversion over the full range of the header is the same for all frames of a cine.
        values = (-1 if signed else (1 << _bits(dataset)[0]) - 1) - values
    slope, intercept = _rescale(dataset, frame)
    real = values.astype(np.float32)
    if slope != 1.0 or intercept != 0.0:
        real = real * np.float32(slope) + np.float32(intercept)
    return np.ascontiguousarray(real, dtype=np.float32)


def _rescale(dataset: Any, frame: Frame) -> tuple[float, float]:
    """Slope and intercept of the frame, then of all frames, then of the file; default 1 and 0."""
    levels = [dataset]
    if frame.facts.enhanced:
        shared = item(dataset, "SharedFunctionalGroupsSequence")
        own = items(dataset, "PerFrameFunctionalGroupsSequence")[frame.index : frame.index + 1]
        groups = [group for group in (*own, shared) if group is not None]
        found = [item(group, "PixelValueTransformationSequence") for group in groups]
        levels = [*(level for level in found if level is not None), dataset]
    for level in levels:
        slope, intercept = number(level, "RescaleSlope"), number(level, "RescaleIntercept")
        if slope is None and text(level, "RescaleSlope"):
            raise ValueError("the slope is not a number")
        if slope:
            if abs(slope) > _MAX_RESCALE or abs(intercept or 0.0) > _MAX_RESCALE:
                raise ValueError("rescaling beyond any image")
            return slope, intercept or 0.0
    return 1.0, 0.0
