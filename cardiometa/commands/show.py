"""``cardiometa show``: what an output is, from its own record."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import RECORD_NAME, read_json, sha256_file
from ..pipeline.withdrawal_registry import count_erased, former_tables
from .outdated import SENTENCE, is_marked, made_from, record_of

MEASUREMENTS = "measurements.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a person should know of an output; ``stale`` says why it must not be used, or is empty.

    ``state``: complete, running, writing or shards (not all is there yet), or marked.
    """

    command: str
    version: str
    format_version: int
    state: str
    finished: str
    record_sha256: str
    options: Mapping[str, Any]
    inputs: Mapping[str, str]
    model: Mapping[str, str]
    counts: Mapping[str, Any]
    libraries: Mapping[str, str] = field(default_factory=dict)
    withdrawn: int = 0
    stale: str = ""
    inside: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {name: getattr(self, name) for name in self.__slots__}


def show(out: Path, table: Path | None = None) -> Shown:
    """Describe an output; ``table`` is what it was made from, where that is known.

    Raises InputError where OUT holds no record of this program.
    """
    record = record_of(out)
    run = record.get("run", {})
    return Shown(
        command=record["command"],
        version=str(record.get("cardiometa_version", "")),
        format_version=int(record.get("format_version", 0)),
        state=str(run.get("state", "complete" if run else "running")),
        finished=str(run.get("finished_utc", "")),
        record_sha256=sha256_file(out / RECORD_NAME),
        options=record.get("options", {}),
        inputs=record.get("inputs", {}),
        model=record.get("model", {}),
        counts=counts_of(out, record["command"]),
        libraries=run.get("libraries", {}),
        withdrawn=count_erased(out),
        stale=staleness(out, record, table),
        inside=tuple(path.name for path in parts_of(out)),
    )


def parts_of(out: Path) -> list[Path]:
    """Outputs inside an output, as those of the demo."""
    folders = sorted(path for path in out.iterdir() if path.is_dir())
    return [path for path in folders if (path / RECORD_NAME).is_file()]


def counts_of(out: Path, command: str) -> dict[str, Any]:
    """How much an output holds: people and scans, or rows of its tables."""
    if command == "segment":
        path = out / "flow.json"
        flow = read_json(path) if path.is_file() else {}
        return {
            level: {name: n for name, n in flow[level].items() if n is not None}
            for level in ("trials", "participants", "scans")
            if isinstance(flow, dict) and isinstance(flow.get(level), dict)
        }
    counts = {}
    for path in sorted(out.glob("*.csv")):
        with path.open(newline="", encoding="utf-8", errors="replace") as stream:
            counts[path.name] = max(0, sum(1 for _ in csv.reader(stream)) - 1)
    return {"rows": counts}


def staleness(out: Path, record: Mapping[str, Any], table: Path | None = None) -> str:
    """Why an output is not to be used any more, empty where nothing says so.

    Told by its own mark, by an output of `segment` beside it that people were erased from since,
    and by the table itself where it is given.
    """
    if is_marked(out):
        return SENTENCE
    if record["command"] == "segment":
        return ""
    if table is not None:
        return _other_table(record, table)
    try:
        beside = [path for path in out.resolve().parent.iterdir() if path.is_dir()]
    except OSError:
        return ""
    for folder in beside:
        try:
            tables = former_tables(folder)
        except InputError:
            continue
        if tables and made_from(out, tables):
            return SENTENCE
    return ""


def _other_table(record: Mapping[str, Any], table: Path) -> str:
    path = table / MEASUREMENTS if table.is_dir() else table
    if not path.is_file():
        raise InputError(f"{table.name} holds no {MEASUREMENTS}.")
    known = {v for n, v in record["inputs"].items() if n in ("table", "measurements")}
    if not known or sha256_file(path) in known:
        return ""
    return f"{path.name} is not the table that this was computed from: compute it again."
