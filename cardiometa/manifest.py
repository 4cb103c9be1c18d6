"""What made an output and what it wrote: the run record with the hash of every file.

``options`` and ``inputs`` decide the result and are the same bytes on every rerun; everything that
may differ between two equal runs (time, host class, workers) is in the ``run`` block, and so are
the hashes of the files written (``outputs``), since a column of seconds may be among them. The
files of a scan are hashed in its ``result.json``, whose own hash is in ``records.json``.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .errors import InputError, Problem
from .files import RECORD_NAME, canonical_json, read_json, sha256_bytes, write_all
from .locking import writing
from .records import SeriousWarning

FORMAT_VERSION = 1
BLOCK_BYTES = 1024

RESEARCH_USE = "Research use only; not a medical device."
_BUNDLED_CARD = Path(__file__).parent / "segmentation" / "weights" / "model.json"


def notice_for(licence: str) -> str:
    """Research use, and the licence of the weights where a model made the numbers."""
    text = licence.removeprefix("Weights: ")
    return f"{RESEARCH_USE} Licence of the model's weights: {text}" if text else RESEARCH_USE


def bundled_card() -> Any:
    """The card of the bundled model."""
    return read_json(_BUNDLED_CARD)


def licence_of(model_ids: Iterable[object], folders: Iterable[Path] = ()) -> str:
    """The licence of the weights of these models in the words of their cards; empty if unknown.

    Known are the bundled model, and the model in the run record of each of the ``folders``.
    """
    card = bundled_card()
    known = {card["id"]: card["licence"]}
    for folder in dict.fromkeys(folders):
        try:
            model = read_run_record(folder).get("model")
        except InputError:
            continue
        if isinstance(model, dict) and isinstance(model.get("licence"), str):
            known[model.get("id")] = model["licence"]
    named = [known[name] for name in dict.fromkeys(map(str, model_ids)) if name in known]
    return "; ".join(dict.fromkeys(named))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What made an output: the part that matters to the result, and the rest in ``run``."""

    command: str
    options: Mapping[str, Any]
    inputs: Mapping[str, str]
    format_version: int = FORMAT_VERSION
    model: Mapping[str, str] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)


def model_of(conventions: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """The segmentation model of a table's rows, for the record; empty where none is named."""
    names = ("id", "sha256", "licence")
    found = {name: ", ".join(conventions.get(f"model_{name}", ())) for name in names}
    return {name: value for name, value in found.items() if value}


@cache
def _installed(name: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def version() -> str:
    """The installed version of cardiometa."""
    return _installed("cardiometa") or "0+unknown"


def library_versions(*names: str) -> dict[str, str]:
    """Installed versions of the named distributions; absent ones are left out."""
    return {name: found for name in names if (found := _installed(name))}


# What the user typed, without paths and ids; empty where a program calls this one.
COMMAND_LINE: ContextVar[str] = ContextVar("COMMAND_LINE", default="")
_NAMED = ("numpy", "scipy", "pandas", "statsmodels", "matplotlib")


def _now() -> datetime:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)


def made_by(*, day: bool = True) -> str:
    """Day, version and libraries, for the foot of a page; without ``day`` the version alone.

    The day is that of SOURCE_DATE_EPOCH (reproducible-builds.org) where the environment has it.
    """
    if not day:
        return f"Made by cardiometa {version()}, format {FORMAT_VERSION}."
    libraries = ", ".join(f"{k} {v}" for k, v in library_versions(*_NAMED).items())
    return (
        f"Made on {_now():%Y-%m-%d} by cardiometa {version()}, format {FORMAT_VERSION} (Python "
        f"{platform.python_version()}, {libraries})."
    )


def run_block(**extra: Any) -> dict[str, Any]:
    """The part of a record that may differ between equal runs; no host or user name in it."""
    return {
        "finished_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.system(),
        "machine": platform.machine(),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        **extra,
    }


def file_marks(contents: Mapping[str, bytes | str]) -> dict[str, dict[str, Any]]:
    """The size and hashes of each written file, by name, for the run block.

    ``blocks`` has the first 8 hex digits of the SHA-256 of every `BLOCK_BYTES` bytes, so that the
    place of a change can be named without the file as it was.
    """
    marks = {}
    for name, data in contents.items():
        raw = data.encode("utf-8") if isinstance(data, str) else data
        marks[name] = {"bytes": len(raw), "sha256": sha256_bytes(raw), "blocks": blocks_of(raw)}
    return marks


def blocks_of(data: bytes) -> str:
    """The blocks of a file: eight hex digits each, one after the other."""
    starts = range(0, len(data), BLOCK_BYTES)
    return "".join(sha256_bytes(data[start : start + BLOCK_BYTES])[:8] for start in starts)


def record_text(record: RunRecord) -> str:
    """The text of ``cardiometa.json``."""
    document: Mapping[str, Any] = {
        "format_version": record.format_version,
        "cardiometa_version": version(),
        "notice": notice_for(record.model.get("licence", "")),
        "command": record.command,
        "options": record.options,
        "inputs": record.inputs,
        "model": record.model,
        "run": record.run,
    }
    return canonical_json(document)


_APACHE = {"@id": "https://spdx.org/licenses/Apache-2.0"}
CRATE_NAME = "ro-crate-metadata.json"
_MEDIA_TYPES = {
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain",
}


def crate_text(record: RunRecord, marks: Mapping[str, Mapping[str, Any]]) -> str:
    """An output as a research object (RO-Crate 1.1): its files, the run, and what it was made with.

    ``marks`` are those of `file_marks`. Inputs are their hashes alone: a name may identify someone.
    Equal runs of `segment` give equal bytes, so its date is the year, and the tables that have a
    column of seconds are without their hash, which the run record has.
    """
    is_segment = record.command == "segment"
    files: list[dict[str, Any]] = []
    for name, mark in sorted(marks.items()):
        one: dict[str, Any] = {"@id": quote(name), "@type": "File", "name": name}
        if kind := _MEDIA_TYPES.get(name.rpartition(".")[2]):
            one["encodingFormat"] = kind
        if is_segment and name in ("measurements.csv", "measurements.parquet"):
            one["description"] = f"Its SHA-256 is in {RECORD_NAME}."
        else:
            one |= {"contentSize": str(mark["bytes"]), "sha256": mark["sha256"]}
        files.append(one)
    files.append({"@id": RECORD_NAME, "@type": "File", "name": "Run record"})
    if is_segment:
        files.append({"@id": "scans/", "@type": "Dataset", "name": "One folder for each scan"})
    used = [
        {"@id": f"urn:sha256:{sha256}", "@type": "CreativeWork", "sha256": sha256}
        for sha256 in sorted(set(record.inputs.values()))
    ]
    program: dict[str, Any] = {"@id": "#cardiometa", "@type": "SoftwareApplication"}
    program |= {"name": "cardiometa", "softwareVersion": version(), "license": _APACHE}
    tools = [program]
    if record.model:
        model = {"@id": "#model", "@type": "CreativeWork", "name": record.model.get("id", "")}
        tools.append({**model, "sha256": record.model.get("sha256", "")})
    action = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"cardiometa {record.command}",
        "instrument": _references(tools),
        "object": _references(used),
        "result": _references(files),
    }
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Output of cardiometa {record.command}",
        "description": notice_for(record.model.get("licence", "")),
        "datePublished": f"{_now():%Y}" if is_segment else f"{_now():%Y-%m-%d}",
        "license": {"@id": "#licence"},
        "hasPart": _references(files),
        "mentions": {"@id": "#run"},
    }
    licence = {"@id": "#licence", "@type": "CreativeWork", "name": "To be set by who publishes it"}
    about = {"conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"}, "about": {"@id": "./"}}
    graph = [{"@id": CRATE_NAME, "@type": "CreativeWork", **about}, root, *files, action, *tools]
    graph += [*used, licence, {**_APACHE, "@type": "CreativeWork", "name": "Apache License 2.0"}]
    context = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://schema.org/sha256"}]
    return canonical_json({"@context": context, "@graph": graph})


def _references(entities: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"@id": one["@id"]} for one in entities]


def write_output(
    out: Path,
    contents: Mapping[str, bytes | str],
    record: RunRecord,
    *,
    overwrite: bool,
    old: Iterable[str] = (),
) -> None:
    """Put all of an output in place under its lock, the record with the files' hashes last.

    ``old`` are files of an earlier run with other options, which go unless they are written again.
    Raises UsageError as `check_output` does, and OutputError.
    """
    shared = {name: data for name, data in contents.items() if not name.startswith("internal/")}
    contents = {**contents, CRATE_NAME: crate_text(record, file_marks(shared))}
    record = replace(record, run={**record.run, "outputs": file_marks(contents)})
    ordered = {**contents, RECORD_NAME: record_text(record)}
    with writing(
        out,
        command=record.command,
        options=record.options,
        inputs=record.inputs,
        overwrite=overwrite,
    ):
        write_all(out, ordered, old=sorted({*old} - {*ordered}))


def read_run_record(folder: Path) -> dict[str, Any]:
    """The record of an output; InputError where there is none or it is damaged."""
    path = folder / RECORD_NAME
    if not path.is_file():
        raise InputError(
            f"The folder {folder.name} has no {RECORD_NAME}.",
            hint="Give a folder that a command of this program wrote.",
        )
    record = read_json(path)
    if not (
        isinstance(record, dict)
        and isinstance(record.get("command"), str)
        and all(isinstance(record.get(name, {}), dict) for name in ("inputs", "options", "run"))
    ):
        raise InputError(f"{RECORD_NAME} in {folder.name} is damaged.")
    return record


def made_from(folder: Path, tables: Collection[str]) -> bool:
    """True for an output whose record names one of the tables (SHA-256) as its input."""
    try:
        record = read_run_record(folder)
    except InputError:
        return False
    return not set(tables).isdisjoint(map(str, record["inputs"].values()))


def refuse_modified(files: Iterable[Path], accept: Collection[str]) -> tuple[str, ...]:
    """Serious warnings about files that were changed after a command had written them.

    A file is known by the record of the folder it lies in; any other is the user's own. Raises
    InputError unless ``accept`` has ``modified-input``.
    """
    problems = []
    for path in files:
        try:
            marks = read_run_record(path.parent).get("run", {}).get("outputs", {})
        except InputError:
            continue
        mark = marks.get(path.name) if isinstance(marks, dict) else None
        change = change_of(path, mark) if isinstance(mark, dict) else ""
        if change:
            where = f"{path.parent.name}/{path.name}"
            problems.append(
                Problem(
                    where=where,
                    what=f"it was changed after it had been written: {change}",
                    why="The results would not be of what the command measured.",
                    fix="Run the command that wrote it again, or copy the file to another folder.",
                )
            )
    if problems and "modified-input" not in accept:
        raise InputError(
            "An input was changed by hand.",
            hint="To continue all the same, which the report then says: --accept modified-input",
            problems=problems,
        )
    return tuple(
        SeriousWarning(f"Accepted, modified-input: {p.where}: {p.what}.") for p in problems
    )


def change_of(path: Path, mark: Mapping[str, Any]) -> str:
    """How a file differs from its mark (`file_marks`), empty where it is the file written."""
    if not path.is_file():
        return "the file is missing"
    data = path.read_bytes()
    if sha256_bytes(data) == mark.get("sha256"):
        return ""
    known, found = str(mark.get("blocks", "")), blocks_of(data)
    size = int(mark.get("bytes", 0))
    for number in range(max(len(known), len(found)) // 8):
        at = slice(8 * number, 8 * number + 8)
        if known[at] != found[at]:
            first = number * BLOCK_BYTES
            line = data[:first].count(b"\n") + 1
            last = min(first + BLOCK_BYTES, max(size, len(data))) - 1
            length = "" if size == len(data) else f"; it has {len(data)} bytes, not {size}"
            return f"the first changed byte is one of {first} to {last}, from line {line}{length}"
    return "it is not the file that was written"
