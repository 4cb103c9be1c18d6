"""Where a file differs: from the bytes it should hold, or from the marks of its record.

``cardiometa show --verify``: the chain from the page back to the images, link by link.

An output of `segment`: page and tables are made again from the scans' records and compared byte by
byte; each record with its hash, each mask with its record, the model with its file, the tables and
images of the site with their hashes where COHORT is given. Any other output: each file with its
mark in the record, and the table it was computed from. What cannot be looked at is said.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CardiometaError, InputError
from ..files import RECORD_NAME, read_json, sha256_bytes, sha256_file
from ..manifest import BLOCK_BYTES, FORMAT_VERSION, blocks_of, version
from ..pipeline.cohort_snapshot import read_snapshot
from ..pipeline.merge import PARQUET_NAME, RECORDS_NAME, contents_of
from ..pipeline.result_file import (
    RESULT_NAME,
    read_record,
    record_sha256,
    scan_folder,
    shown_scans,
    slim,
)
from ..pipeline.withdrawal_registry import read_withdrawals, without_withdrawn
from ..records import ScanKey, ScanResult
from .outdated import is_marked, record_of
from .show import parts_of, staleness

if TYPE_CHECKING:
    from ..cohort.models import CohortOptions
    from ..pipeline.cohort_snapshot import Snapshot


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


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """What to verify, and what beside the output itself is at hand.

    ``cohort`` with its options: the input of `segment`; ``model``: its model file, where it was not
    the bundled one; ``table``: the input of any other command.
    """

    out: Path
    cohort: Path | None = None
    cohort_options: CohortOptions | None = None
    model: Path | None = None
    table: Path | None = None


@dataclass(slots=True, kw_only=True)
class Verified:
    """What was compared, what differs and what could not be looked at."""

    files: int = 0
    scans: int = 0
    sources: int = 0
    differences: list[Difference] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)

    def differs(self, where: str, what: str) -> None:
        """One more difference."""
        self.differences.append(Difference(where=where, what=what))

    def add(self, found: Difference | None) -> None:
        """A file was compared."""
        self.files += 1
        if found is not None:
            self.differences.append(found)

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "files": self.files,
            "scans": self.scans,
            "sources": self.sources,
            "differences": [{"where": d.where, "what": d.what} for d in self.differences],
            "not_checked": self.not_checked,
        }


def verify(request: VerifyRequest) -> Verified:
    """Compare an output with itself and with what it was made from; nothing is written.

    Raises InputError where OUT holds no record of this program.
    """
    found = Verified()
    _verify(request, found)
    return found


def _verify(request: VerifyRequest, found: Verified) -> None:
    out = request.out
    record = record_of(out)
    if record.get("format_version") != FORMAT_VERSION:
        found.differs(RECORD_NAME, f"its format is not {FORMAT_VERSION}: nothing else was compared")
        return
    state = record.get("run", {}).get("state", "complete" if record.get("run") else "running")
    if state != "complete":
        found.differs(RECORD_NAME, f"the output is not finished (its state is {state})")
    stale = staleness(out, record, request.table)
    if stale:
        found.differs(out.name, stale)
    if record["command"] == "segment":
        _segment(request, record, found)
    else:
        _marks(out, record, found)
        if request.table is None and record["command"] != "demo":
            found.not_checked.append("the table it was computed from: say --input TABLE")
    for part in parts_of(out):
        if part.name != "scans":
            before = len(found.differences)
            _verify(VerifyRequest(out=part), found)
            found.differences[before:] = [
                Difference(where=f"{part.name}/{d.where}", what=d.what)
                for d in found.differences[before:]
            ]


def _marks(out: Path, record: Mapping[str, Any], found: Verified) -> None:
    """Each file beside its mark in the record, and files that are nobody's."""
    marks = record.get("run", {}).get("outputs")
    if not isinstance(marks, dict) or not marks:
        if record["command"] != "demo":
            found.not_checked.append("the files: this version or command keeps no marks of them")
        return
    marked = is_marked(out)
    for name, mark in marks.items():
        # A mark of staleness changes pages and takes rows out; that it is stale is said already.
        if not (marked and name.endswith((".html", ".csv", ".svg", ".png"))):
            found.add(against_mark(name, out / name, mark))


# ------------------------------------------------------------------ an output of segment


def _segment(request: VerifyRequest, record: Mapping[str, Any], found: Verified) -> None:
    out = request.out
    try:
        snapshot = read_snapshot(out)
    except InputError as error:
        found.differs("cohort.json", error.message)
        _marks(out, record, found)
        return
    _model(request, record, snapshot, found)
    results = _scans(out, record, snapshot, found)
    _left_behind(out, snapshot, found)
    _tables(out, record, snapshot, results, found)
    _sources(request, record, results, found)


def _scans(
    out: Path, record: Mapping[str, Any], snapshot: Snapshot, found: Verified
) -> list[ScanResult] | None:
    """Records and masks; the results where all can be read, else None."""
    path = out / RECORDS_NAME
    try:
        known = read_json(path) if path.is_file() else None
    except InputError as error:
        found.differs(RECORDS_NAME, error.message)
        known = None
    if not isinstance(known, dict):
        known = {}
        found.not_checked.append(f"the records of the scans: there is no {RECORDS_NAME}")
    wanted = record.get("options", {}).get("model_sha256")
    results: list[ScanResult] = []
    for scan in snapshot.cohort.scans:
        found.scans += 1
        result = read_record(out, scan.key)
        where = f"scans/{scan.key}/{RESULT_NAME}"
        if result is None:
            found.differs(where, "the record is missing or damaged")
            continue
        digest = known.get(str(scan.key))
        if digest is not None and digest != record_sha256(result.document):
            found.differs(where, "it is not the record that the tables were made from")
        elif known and digest is None:
            found.differs(RECORDS_NAME, f"it has no hash of {scan.key}")
        model = result.document.get("options", {}).get("model_sha256")
        if wanted is not None and model != wanted:
            found.differs(where, "the scan was segmented by another model than the output names")
        _masks(scan_folder(out, scan.key), scan.key, result, found)
        results.append(slim(result))
    return results if len(results) == len(snapshot.cohort.scans) else None


def _masks(folder: Path, key: ScanKey, result: ScanResult, found: Verified) -> None:
    for name, digest in sorted(result.document["outputs"].items()):
        found.files += 1
        path = folder / name
        if not path.is_file():
            found.differs(f"scans/{key}/{name}", "the file is missing")
        elif sha256_file(path) != digest:
            found.differs(f"scans/{key}/{name}", "it is not the file that its result.json names")


def _left_behind(out: Path, snapshot: Snapshot, found: Verified) -> None:
    """Scans that are in no table: of nobody, or of somebody who withdrew."""
    known = {str(scan.key) for scan in snapshot.cohort.scans}
    there = ("/".join(p.parent.parts[-3:]) for p in (out / "scans").glob("*/*/*/*"))
    foreign = sorted(set(there) - known)
    try:
        withdrawals = read_withdrawals(out)
    except InputError as error:
        found.not_checked.append(error.message)
        withdrawals = None
    for key in foreign:
        trial, person, _ = key.split("/")
        erased = withdrawals is not None and withdrawals.mode((trial, person)) == "erased"
        if erased:
            found.differs(
                "scans", "images of somebody who withdrew are left: run the withdrawal again"
            )
        else:
            found.differs(f"scans/{key}", "it is in no table of this output")


def _tables(
    out: Path,
    record: Mapping[str, Any],
    snapshot: Snapshot,
    results: list[ScanResult] | None,
    found: Verified,
) -> None:
    """Tables and page, made again from the records; by their marks where that cannot be."""
    marks = record.get("run", {}).get("outputs", {})
    expected: dict[str, bytes | str] = {}
    if results is not None:
        try:
            expected, _ = contents_of(
                out,
                snapshot.cohort,
                results,
                card=snapshot.card,
                model_sha256=snapshot.model_sha256,
            )
        except CardiometaError as error:
            found.differs("measurements.csv", error.message)
    same_program = record.get("cardiometa_version") == version()
    for name in dict.fromkeys([*expected, *marks]):
        mark = marks.get(name)
        if name == PARQUET_NAME and name not in marks and not (out / name).exists():
            continue  # of a program without pyarrow
        text = expected.get(name)
        broken = None if mark is None else against_mark(name, out / name, mark)
        if text is None or (broken is None and mark is not None and not same_program):
            # Another version may write the page otherwise: what was written is what counts.
            found.add(broken)
            continue
        raw = text.encode("utf-8") if isinstance(text, str) else text
        found.add(against_bytes(name, out / name, raw) or broken)


def _model(
    request: VerifyRequest, record: Mapping[str, Any], snapshot: Snapshot, found: Verified
) -> None:
    from ..segmentation.model import bundled_path

    said = record.get("model", {}).get("sha256")
    if snapshot.model_sha256 != said:
        found.differs("cohort.json", "it names another model than the record")
    path = request.model or bundled_path()
    if path.is_file() and sha256_file(path) == said:
        found.files += 1
    elif request.model is not None:
        found.differs(path.name, "it is not the model that the output names")
    else:
        found.not_checked.append(
            "the model's file: it is not the bundled one of this version; say --model FILE"
        )


def _sources(
    request: VerifyRequest,
    record: Mapping[str, Any],
    results: list[ScanResult] | None,
    found: Verified,
) -> None:
    """The site's tables and images beside their hashes."""
    if request.cohort is None:
        found.not_checked.append("the site's tables and images: say --cohort COHORT")
        return
    from ..cohort.load import load_cohort
    from ..imaging.source_state import content_sha256

    cohort = without_withdrawn(request.out, load_cohort(request.cohort, request.cohort_options))
    inputs = record.get("inputs", {})
    for name, digest in sorted(cohort.input_sha256.items()):
        found.files += 1
        if inputs.get(name) != digest:
            found.differs(f"input {name}", "it is not the table that the output was made from")
    sources = {scan.key: scan.source for scan in cohort.scans}
    unknown = 0
    for result in results or ():
        known = _content(result)
        if result.key not in sources:
            found.differs(f"images of {result.key}", "the cohort has no such scan")
        elif known is None:
            unknown += 1
        else:
            found.sources += 1
            if content_sha256(sources[result.key]) != known:
                found.differs(f"images of {result.key}", "they are not those that were segmented")
    if unknown:
        found.not_checked.append(
            f"the images of {shown_scans(unknown)}: the record has no hash of all their bytes"
        )


def _content(result: ScanResult) -> str | None:
    source: Any = result.document.get("run", {}).get("source")
    value = source.get("content") if isinstance(source, dict) else None
    return value if isinstance(value, str) else None
