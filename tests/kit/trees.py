"""All files of an output, without what may differ between equal runs (contract, section 3)."""

from __future__ import annotations

import csv
import json
from pathlib import Path

VOLATILE = ("seconds", "run")


def stable(path: Path) -> object:
    """A file without what may differ between equal runs."""
    if path.suffix == ".csv" and path.name == "measurements.csv":
        with path.open(newline="") as stream:
            return [{k: v for k, v in r.items() if k != "seconds"} for r in csv.DictReader(stream)]
    if path.suffix == ".json":
        return without_run(json.loads(path.read_text()))
    return path.read_bytes()


def without_run(value: object) -> object:
    if isinstance(value, dict):
        return {k: without_run(v) for k, v in value.items() if k not in VOLATILE}
    return [without_run(v) for v in value] if isinstance(value, list) else value


def tree(out: Path, *, but: tuple[str, ...] = ()) -> dict[str, object]:
    """Every file by its path; Parquet, whose bytes hold the seconds, and ``but`` left out."""
    return {
        str(path.relative_to(out)): stable(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.suffix != ".parquet" and path.name not in but
    }
