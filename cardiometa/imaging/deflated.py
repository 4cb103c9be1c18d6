"""Deflated DICOM is inflated whole by the parser: what would become too large is found before."""

from __future__ import annotations

import zlib
from typing import BinaryIO

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
