"""``cardiometa show``: what an output is, from its record; ``--verify``: whether it still is that.

Verification follows the hashes: from the record to page, tables and ``records.json``, from there to
each scan's record and its masks, and where they are given to the model's file and to the tables and
images of the site. What cannot be checked is listed.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cohort.analysis_table import MEASUREMENTS_NAME
from ..errors import InputError
from ..files import RECORD_NAME, read_json, sha256_file
from ..locking import is_being_written
from ..manifest import FORMAT_VERSION, change_of, made_from, read_run_record
from ..pipeline.cohort_snapshot import SNAPSHOT_NAME, Snapshot, read_snapshot
from ..pipeline.merge import RECORDS_NAME
from ..pipeline.result_file import (
    RESULT_NAME,
    damaged_outputs,
    read_record,
    read_result,
    record_sha256,
    scan_folder,
    shown_scans,
    used_folder,
)
from ..privacy.withdrawal import (
    OUTDATED,
    count_erased,
    former_tables,
    is_outdated,
    read_withdrawals,
)

if TYPE_CHECKING:
    from ..cohort.models import CohortOptions
    from ..records import ScanKey


def describe(out: Path, table: Path | None = None) -> dict[str, Any]:
    """What an output is, as ``--json`` prints it; ``table`` is what it was made from, if known.

    ``state``: complete, running, writing, interrupted (the same command again resumes), shards
    (not all is there yet) or marked; ``stale`` says why the output must not be used, or is empty.
    Raises InputError where OUT has no record.
    """
    record = read_run_record(out)
    run = record.get("run", {})
    # Participants and scans of an output of `segment`; rows of the tables of any other.
    counts: dict[str, dict[str, Any]] = {}
    if record["command"] == "segment":
        flow = read_json(out / "flow.json") if (out / "flow.json").is_file() else {}
        for level in ("trials", "participants", "scans"):
            if isinstance(flow, dict) and isinstance(flow.get(level), dict):
                counts[level] = {name: n for name, n in flow[level].items() if n is not None}
    else:
        counts["rows"] = {}
        for path in sorted(out.glob("*.csv")):
            with path.open(newline="", encoding="utf-8", errors="replace") as stream:
                counts["rows"][path.name] = max(0, sum(1 for _ in csv.reader(stream)) - 1)
    return {
        "command": record["command"],
        "version": str(record.get("cardiometa_version", "")),
        "format_version": int(record.get("format_version", 0)),
        "state": _state(out, record),
        "finished": str(run.get("finished_utc", "")),
        "record_sha256": sha256_file(out / RECORD_NAME),
        "options": record.get("options", {}),
        "inputs": record.get("inputs", {}),
        "model": record.get("model", {}),
        "counts": counts,
        "libraries": run.get("libraries", {}),
        "withdrawn": count_erased(out),
        "stale": _outdated(out, record, table),
        "inside": [path.name for path in _outputs_inside(out)],
    }


def _state(out: Path, record: Mapping[str, Any]) -> str:
    run = record.get("run", {})
    state = str(run.get("state", "complete" if run else "running"))
    unfinished = state in ("running", "writing")
    return "interrupted" if unfinished and not is_being_written(out) else state


def _outputs_inside(out: Path) -> list[Path]:
    """Outputs inside an output, as those of the demo."""
    folders = sorted(path for path in out.iterdir() if path.is_dir())
    return [path for path in folders if (path / RECORD_NAME).is_file()]


def _outdated(out: Path, record: Mapping[str, Any], table: Path | None) -> str:
    """Why an output must not be used any more: its mark, its table, or a withdrawal next to it."""
    if is_outdated(out):
        return OUTDATED
    if record["command"] == "segment":
        return ""
    if table is not None:
        path = table / MEASUREMENTS_NAME if table.is_dir() else table
        if not path.is_file():
            raise InputError(f"{table.name} has no {MEASUREMENTS_NAME}.")
        known = {v for n, v in record["inputs"].items() if n in ("table", "measurements")}
        if not known or sha256_file(path) in known:
            return ""
        return f"{path.name} is not the table that this was computed from: compute it again."
    try:
        siblings = [path for path in out.resolve().parent.iterdir() if path.is_dir()]
    except OSError:
        return ""
    for folder in siblings:
        try:
            tables = former_tables(folder)
        except InputError:
            continue
        if tables and made_from(out, tables):
            return OUTDATED
    return ""


@dataclass(slots=True, kw_only=True)
class Verified:
    """What was compared, what differs (``where``, ``what``) and what could not be checked."""

    files: int = 0
    scans: int = 0
    sources: int = 0
    differences: list[dict[str, str]] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)

    def differs(self, where: str, what: str) -> None:
        """One more difference."""
        self.differences.append({"where": where, "what": what})

    def check(self, where: str, problem: str) -> None:
        """One more file, with its ``problem`` or empty."""
        self.files += 1
        if problem:
            self.differs(where, problem)

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return asdict(self)


def verify(
    out: Path,
    *,
    cohort: Path | None = None,
    cohort_options: CohortOptions | None = None,
    model: Path | None = None,
    table: Path | None = None,
) -> Verified:
    """Compare an output with its hashes and with what it was made from; nothing is written.

    ``cohort`` is the input of `segment`, ``model`` its model file where that was not the bundled
    one, ``table`` the input of any other command. Raises InputError where OUT has no record.
    """
    found = Verified()
    record = read_run_record(out)
    if record.get("format_version") != FORMAT_VERSION:
        found.differs(RECORD_NAME, f"its format is not {FORMAT_VERSION}: nothing else was compared")
        return found
    state = _state(out, record)
    if state != "complete":
        found.differs(RECORD_NAME, f"the output is not finished (its state is {state})")
    outdated = _outdated(out, record, table)
    if outdated:
        found.differs(out.name, outdated)
    marks = record.get("run", {}).get("outputs")
    if isinstance(marks, dict) and marks:
        for name, mark in marks.items():
            # The mark of an outdated output is in its pages as well.
            if not (name.endswith(".html") and is_outdated(out)):
                found.check(name, change_of(out / name, mark))
    elif record["command"] != "demo":
        found.not_checked.append("the files: this version or command records no hashes of them")
    if record["command"] == "segment":
        _segment_output(out, record, cohort, cohort_options, model, found)
    elif table is None and record["command"] != "demo":
        found.not_checked.append("the table it was computed from: say --input TABLE")
    for part in _outputs_inside(out):
        inside = verify(part)
        found.files, found.scans = found.files + inside.files, found.scans + inside.scans
        found.not_checked += inside.not_checked
        for one in inside.differences:
            found.differs(f"{part.name}/{one['where']}", one["what"])
    return found


def _segment_output(
    out: Path,
    record: Mapping[str, Any],
    cohort: Path | None,
    cohort_options: CohortOptions | None,
    model: Path | None,
    found: Verified,
) -> None:
    from ..segmentation.model import bundled_path

    try:
        snapshot = read_snapshot(out)
    except InputError as error:
        found.differs(SNAPSHOT_NAME, error.message)
        return
    recorded = record.get("model", {}).get("sha256")
    if snapshot.model_sha256 != recorded:
        found.differs(SNAPSHOT_NAME, "it names another model than the record")
    path = model or bundled_path()
    if path.is_file() and sha256_file(path) == recorded:
        found.files += 1
    elif model is not None:
        found.differs(path.name, "it is not the model that the output names")
    else:
        found.not_checked.append(
            "the model's file: it is not the bundled one of this version; say --model FILE"
        )
    contents = _scans(out, record, snapshot, found)
    # Scans that are in no table: unknown ones, or those of participants who withdrew.
    present = {"/".join(p.parent.parts[-3:]) for p in (out / "scans").glob("*/*/*/*")}
    try:
        withdrawals = read_withdrawals(out)
    except InputError as error:
        found.not_checked.append(error.message)
        withdrawals = None
    for key in sorted(present - {str(scan.key) for scan in snapshot.cohort.scans}):
        trial, participant, _ = key.split("/")
        if withdrawals is not None and withdrawals.mode((trial, participant)) == "erased":
            what = "images of a withdrawn participant remain: run the withdrawal again"
            found.differs("scans", what)
        else:
            found.differs(f"scans/{key}", "it is in no table of this output")
    if cohort is None:
        found.not_checked.append("the site's tables and images: say --cohort COHORT")
    else:
        _sources(out, record, cohort, cohort_options, contents, found)


def _scans(
    out: Path, record: Mapping[str, Any], snapshot: Snapshot, found: Verified
) -> dict[ScanKey, str | None]:
    """Check records and masks; the hash of each scan's images, None where it was not recorded."""
    path = out / RECORDS_NAME
    try:
        known = read_json(path) if path.is_file() else None
    except InputError:
        known = None  # damaged: it differs from its own hash already
    if not isinstance(known, dict):
        known = {}
        found.not_checked.append(f"the records of the scans: there is no usable {RECORDS_NAME}")
    model = record.get("options", {}).get("model_sha256")
    contents: dict[ScanKey, str | None] = {}
    for scan in snapshot.cohort.scans:
        found.scans += 1
        result = read_record(out, scan.key)
        where = f"scans/{scan.key}"
        if result is None:
            found.differs(f"{where}/{RESULT_NAME}", "the record is missing or damaged")
            continue
        digest = known.get(str(scan.key))
        if digest is not None and digest != record_sha256(result.document):
            what = "it is not the record that the tables were made from"
            found.differs(f"{where}/{RESULT_NAME}", what)
        elif known and digest is None:
            found.differs(RECORDS_NAME, f"it has no hash of {scan.key}")
        if model not in (None, result.document.get("options", {}).get("model_sha256")):
            what = "the scan was segmented by another model than the output names"
            found.differs(f"{where}/{RESULT_NAME}", what)
        # Next to a reader's correction is the model's own result.
        for folder in dict.fromkeys((used_folder(out, scan.key), scan_folder(out, scan.key))):
            where = folder.relative_to(out).as_posix()
            one = read_result(folder, scan.key)
            if one is None:
                found.differs(f"{where}/{RESULT_NAME}", "the record is missing or damaged")
                continue
            damaged = damaged_outputs(folder, one)
            for name in sorted(one.document["outputs"]):
                what = f"it is not the file that its {RESULT_NAME} names"
                what = what if (folder / name).is_file() else "the file is missing"
                found.check(f"{where}/{name}", what if name in damaged else "")
        source: Any = result.document.get("run", {}).get("source")
        content = source.get("content") if isinstance(source, dict) else None
        contents[scan.key] = content if isinstance(content, str) else None
    return contents


def _sources(
    out: Path,
    record: Mapping[str, Any],
    cohort: Path,
    options: CohortOptions | None,
    contents: Mapping[ScanKey, str | None],
    found: Verified,
) -> None:
    """The site's tables and images against their hashes."""
    from ..cohort.load import load_cohort
    from ..imaging.discovery import content_sha256
    from ..pipeline.cohort_snapshot import without_withdrawn

    site = without_withdrawn(out, load_cohort(cohort, options))
    inputs = record.get("inputs", {})
    for name, digest in sorted(site.input_sha256.items()):
        same = inputs.get(name) == digest
        what = "" if same else "it is not the table that the output was made from"
        found.check(f"input {name}", what)
    sources = {scan.key: scan.source for scan in site.scans}
    for key, content in contents.items():
        if key not in sources:
            found.differs(f"images of {key}", "the cohort has no such scan")
        elif content is not None:
            found.sources += 1
            if content_sha256(sources[key]) != content:
                found.differs(f"images of {key}", "they are not those that were segmented")
    unknown = sum(content is None and key in sources for key, content in contents.items())
    if unknown:
        found.not_checked.append(
            f"the images of {shown_scans(unknown)}: the record has no hash of all their bytes"
        )
