"""Where a file differs: from the bytes it should hold, or from the marks of its record."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import sha256_bytes
from ..provenance import BLOCK_BYTES, blocks_of

_SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not as it was written: which file or scan, and what differs first."""

    where: str
    what: str

    def __str__(self) -> str:
        """``where: what``."""
        return f"{self.where}: {self.what}"


def against_mark(name: str, path: Path, mark: Mapping[str, Any]) -> Difference | None:
    """A file beside what its record says of it; None where it is the very file."""
    if not path.is_file():
        return Difference(where=name, what="the file is missing")
    data = path.read_bytes()
    if sha256_bytes(data) == mark.get("sha256"):
        return None
    return Difference(where=name, what=_first_block(data, mark))


def _first_block(data: bytes, mark: Mapping[str, Any]) -> str:
    known, found = str(mark.get("blocks", "")), blocks_of(data)
    size = int(mark.get("bytes", 0))
    for number in range(max(len(known), len(found)) // 8):
        at = slice(8 * number, 8 * number + 8)
        if known[at] != found[at]:
            first = number * BLOCK_BYTES
            line = data[:first].count(b"\n") + 1
            last = min(first + BLOCK_BYTES, max(size, len(data))) - 1
            length = "" if size == len(data) else f"; it has {len(data)} bytes, not {size}"
            return (
                f"the first byte that differs is one of {first} to {last}, line {line} on{length}"
            )
    return "it is not the file that was written"


def against_bytes(name: str, path: Path, expected: bytes) -> Difference | None:
    """A file beside the bytes that it should hold: the first one that differs, with its place."""
    if not path.is_file():
        return Difference(where=name, what="the file is missing")
    found = path.read_bytes()
    if found == expected:
        return None
    at = first_difference(found, expected)
    line = expected[:at].count(b"\n") + 1
    place = f"byte {at}, line {line}"
    if name.endswith(".csv"):
        place += _cell(found, expected)
    return Difference(where=name, what=f"the first byte that differs is {place}")


def first_difference(found: bytes, expected: bytes) -> int:
    """The index of the first byte in which two texts differ."""
    shorter = min(len(found), len(expected))
    low, high = 0, shorter
    while low < high:  # equal up to ``low``; halving compares long stretches at once
        middle = (low + high + 1) // 2
        if found[low:middle] == expected[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _cell(found: bytes, expected: bytes) -> str:
    """The row and column of the first cell that differs, and both values."""
    try:
        tables = [list(csv.reader(io.StringIO(d.decode("utf-8")))) for d in (found, expected)]
    except (UnicodeDecodeError, csv.Error):
        return ""
    ours, theirs = tables
    for number, (row, wanted) in enumerate(zip(ours, theirs, strict=False), start=1):
        for column, (value, right) in enumerate(zip(row, wanted, strict=False)):
            if value != right:
                name = theirs[0][column] if column < len(theirs[0]) else f"column {column + 1}"
                return f" (row {number}, {name}: {_short(value)}, should be {_short(right)})"
        if len(row) != len(wanted):
            return f" (row {number} has {len(row)} cells, should have {len(wanted)})"
    return f" ({len(ours)} rows, should be {len(theirs)})" if len(ours) != len(theirs) else ""


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
