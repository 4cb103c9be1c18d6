"""Pixels of chosen frames: decompressed, signed, inverted and rescaled as the header says.

Transfer syntaxes go through pydicom with the gdcm plug-in (free licence) for JPEG, JPEG-LS and
JPEG 2000; RLE, deflated and big endian are pydicom's own. The plug-in is named, so that the same
file gives the same pixels whatever else is installed.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .archive import DamagedFileError
from .frame import FileFacts, Frame
from .headers import PIXEL_DATA, TAGS, item, number, read_dataset, text, whole

_PIXEL_TAGS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleIntercept",
    "RescaleSlope",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_RLE = "1.2.840.10008.1.2.5"


def decode(data: bytes, frames: Sequence[Frame]) -> list[np.ndarray]:
    """Float32 ``[y, x]`` arrays of ``frames``, all of the file whose bytes are ``data``.

    Raises DamagedFileError (``undecodable``) where the pixels are cut off or no decoder fits.
    """
    from pydicom.pixels.decoders.base import get_decoder

    tags = [*(TAGS[keyword] for keyword in _PIXEL_TAGS), PIXEL_DATA]
    dataset = read_dataset(io.BytesIO(data), tags, pixels=True)
    try:
        values = _stored_values(dataset, get_decoder, [frame.index for frame in frames])
        return [
            _real_values(dataset, frame, array) for frame, array in zip(frames, values, strict=True)
        ]
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - decoders raise any kind on hostile bytes
        raise DamagedFileError("undecodable") from None


def _stored_values(dataset: Any, get_decoder: Any, indices: Iterable[int]) -> list[np.ndarray]:
    """Whole-number arrays as the file stores them, sign and unused bits put right."""
    _hush_gdcm()
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        syntax = _bare_syntax(dataset)
    decoder = get_decoder(syntax)
    options: dict[str, Any] = {}
    if decoder.is_encapsulated:
        options["decoding_plugin"] = "pydicom" if str(syntax) == _RLE else "gdcm"
    if whole(dataset, "SamplesPerPixel") is None:
        dataset.SamplesPerPixel = 1
    if not text(dataset, "PhotometricInterpretation"):
        dataset.PhotometricInterpretation = "MONOCHROME2"
    found = []
    for index in indices:
        array, _ = decoder.as_array(dataset, index=index, raw=True, **options)
        found.append(_whole_numbers(dataset, array, encapsulated=decoder.is_encapsulated))
    return found


def _bare_syntax(dataset: Any) -> Any:
    """The native syntax of a data set that came without a file header."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little is not False else ExplicitVRBigEndian


def _hush_gdcm() -> None:
    """Keep gdcm's own messages off stderr."""
    try:
        import gdcm
    except ImportError:  # pragma: no cover - a core dependency
        return
    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    gdcm.Trace.DebugOff()


def _whole_numbers(dataset: Any, array: np.ndarray, *, encapsulated: bool) -> np.ndarray:
    """int32 values: shifted to the low bit, other bits (old overlays) masked, sign extended."""
    if array.dtype.kind == "f":
        return np.asarray(array)
    allocated = whole(dataset, "BitsAllocated") or 16
    stored = whole(dataset, "BitsStored") or allocated
    high = whole(dataset, "HighBit")
    shift = 0 if encapsulated or high is None else max(0, high + 1 - stored)
    values = (array.astype(np.int64) >> shift) & ((1 << stored) - 1)
    if whole(dataset, "PixelRepresentation") == 1:
        sign = 1 << (stored - 1)
        values = (values ^ sign) - sign
    return values


def _real_values(dataset: Any, frame: Frame, values: np.ndarray) -> np.ndarray:
    """Float32 values: padding replaced by the least real value, inverted, rescaled."""
    values = _without_padding(dataset, values)
    if text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        stored = whole(dataset, "BitsStored") or 16
        signed = whole(dataset, "PixelRepresentation") == 1
        # Inversion over the whole range of the header is the same for all frames of a cine.
        values = (-1 if signed else (1 << stored) - 1) - values
    slope, intercept = _rescale(dataset, frame)
    real = values.astype(np.float32)
    if slope != 1.0 or intercept != 0.0:
        real = real * np.float32(slope) + np.float32(intercept)
    return np.ascontiguousarray(real, dtype=np.float32)


def _without_padding(dataset: Any, values: np.ndarray) -> np.ndarray:
    first = number(dataset, "PixelPaddingValue")
    if first is None:
        return values
    last = number(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    padded = (values >= low) & (values <= high)
    if not padded.any() or padded.all():
        return values
    return np.where(padded, values[~padded].min(), values)


def _rescale(dataset: Any, frame: Frame) -> tuple[float, float]:
    """Slope and intercept of the frame, then of all frames, then of the file; default 1 and 0."""
    levels = [dataset]
    if frame.facts.enhanced:
        from .headers import items

        shared = item(dataset, "SharedFunctionalGroupsSequence")
        own = items(dataset, "PerFrameFunctionalGroupsSequence")[frame.index : frame.index + 1]
        groups = [group for group in (*own, shared) if group is not None]
        found = [item(group, "PixelValueTransformationSequence") for group in groups]
        levels = [*(level for level in found if level is not None), dataset]
    for level in levels:
        slope, intercept = number(level, "RescaleSlope"), number(level, "RescaleIntercept")
        if slope:
            return slope, intercept or 0.0
    return 1.0, 0.0


def bytes_needed(facts: FileFacts, frames: int) -> int:
    """Bytes of the float32 arrays of ``frames`` frames."""
    return facts.rows * facts.columns * frames * 4
