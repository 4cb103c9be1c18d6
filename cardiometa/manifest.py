"""What made an output: command, options, versions, model and input hashes.

``options`` and ``inputs`` decide the result and are the same bytes on every rerun; everything that
may differ between two equal runs (time, host class, workers) stands in the ``run`` block; so do the
hashes of the files written (``outputs``), since a column of seconds may be among them.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from .files import canonical_json, sha256_bytes
from .records import RunRecord

FORMAT_VERSION = 1
BLOCK_BYTES = 1024

RESEARCH_USE = (
    "Research use only; not a medical device. "
    "The bundled weights were trained on ACDC and are CC BY-NC-SA 4.0."
)


def version() -> str:
    """The installed version of cardiometa."""
    try:
        return metadata.version("cardiometa")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def library_versions(*names: str) -> dict[str, str]:
    """Installed versions of the named distributions; absent ones are left out."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


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
    """What tells each written file from a changed one, for the run block: by name.

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
        "notice": RESEARCH_USE,
        "command": record.command,
        "options": record.options,
        "inputs": record.inputs,
        "model": record.model,
        "run": record.run,
    }
    return canonical_json(document)
