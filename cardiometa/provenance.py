"""What made an output: command, options, versions, model and input hashes.

``options`` and ``inputs`` decide the result and are the same bytes on every rerun; everything that
may differ between two equal runs (time, host class, workers) stands in the ``run`` block.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from .files import canonical_json
from .records import RunRecord

FORMAT_VERSION = 1

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
