"""``cardiometa merge OUT``: the tables, the account and the page of scans done in shards.

Everything is made from OUT alone: ``cohort.json`` has the cohort, each ``result.json`` what was
found. It is what one run over all scans would have written.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError, Problem, UsageError
from ..files import RECORD_NAME, read_json, write_text
from ..locking import OutputLock
from ..manifest import FORMAT_VERSION, RunRecord, record_text, run_block
from ..pipeline.cohort_snapshot import Snapshot, read_snapshot, without_withdrawn
from ..pipeline.merge import failure_reasons, write_tables
from ..pipeline.plan import bodies_of
from ..pipeline.result_file import SEGMENTATION_NAME, read_record, shown_scans, slim, used_folder
from ..pipeline.segment import SegmentOutcome, models_of, status_counts
from ..records import ScanKey, ScanResult

_READERS = 8
_SHOWN = 200


def run_merge(out: Path) -> SegmentOutcome:
    """Make the tables of OUT from its records.

    Raises UsageError where OUT is not an output of ``segment`` or another run writes to it,
    InputError where scans are not done; then nothing is written.
    """
    begun = time.monotonic()
    path = out / RECORD_NAME
    record = read_json(path) if path.is_file() else None
    if not isinstance(record, dict) or record.get("command") != "segment":
        raise UsageError(
            f"The folder {out.name} is not an output of `segment`.",
            hint="Give the folder that `segment --out` wrote to.",
        )
    with OutputLock(out):
        snapshot = read_snapshot(out)
        snapshot = replace(snapshot, cohort=without_withdrawn(out, snapshot.cohort))
        found = _read_all(out, snapshot, record)
        card, sha256 = snapshot.card, snapshot.model_sha256
        merged = write_tables(out, snapshot.cohort, found, card=card, model_sha256=sha256)
        seconds = time.monotonic() - begun
        run = RunRecord(
            command="segment",
            format_version=FORMAT_VERSION,
            options=record["options"],
            inputs=record["inputs"],
            model=record["model"],
            run=run_block(
                state="complete",
                seconds=seconds,
                gathered=len(found),
                models=models_of(found),
                facts=merged.facts,
                outputs=merged.outputs,
            ),
        )
        write_text(path, record_text(run))
    notes = [*snapshot.cohort.notes, *merged.notes]
    # Scans of participants who are no longer in the cohort.
    known = {str(scan.key) for scan in snapshot.cohort.scans}
    top = out / "scans"
    present = (found.parent.relative_to(top).parts for found in top.glob("*/*/*/result.json"))
    if extra := sum("/".join(parts) not in known for parts in present):
        notes.append(
            f"{shown_scans(extra)} below scans/ not in the cohort: left as they are, in no table"
        )
    return SegmentOutcome(
        scans=len(found),
        **status_counts(merged.results),
        failures=failure_reasons(merged.results),
        flow=merged.flow,
        notes=notes,
        warnings=snapshot.cohort.warnings,
        seconds=seconds,
    )


def _read_all(out: Path, snapshot: Snapshot, record: Mapping[str, Any]) -> list[ScanResult]:
    """Every scan's result; InputError that names those that are not done.

    A scan must have been done with the options of the record and the cohort's body sizes; the
    number and bytes of its images only a run of ``segment`` can see.
    """
    of_run = ("cohort", "part", "pseudonymise")
    common = {k: v for k, v in record["options"].items() if k not in of_run}
    common["bsa_formula"] = common.pop("bsa", None)
    bodies = bodies_of(snapshot.cohort)

    def read(key: ScanKey) -> ScanResult | str:
        result = read_record(out, key)
        if result is None:
            return "it is not done"
        body, options = bodies.get((key.trial, key.participant)), result.document["options"]
        wanted = {
            **common,
            "height_cm": body.height_cm if body else None,
            "weight_kg": body.weight_kg if body else None,
            "correction_sha256": record["inputs"].get(f"correction {key}"),
        }
        if SEGMENTATION_NAME not in result.document["outputs"]:
            wanted.pop("correction_sha256")  # a scan that failed has no mask to correct
        if any(options.get(name) != value for name, value in wanted.items()):
            return "it was done with other options, body size or correction"
        folder = used_folder(out, key)
        if not all((folder / name).is_file() for name in result.document["outputs"]):
            return "files that its record names are missing"
        return slim(result)

    keys = [scan.key for scan in snapshot.cohort.scans]
    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(read, keys))
    undone = [(key, why) for key, why in zip(keys, found, strict=True) if isinstance(why, str)]
    if undone:
        problems = [Problem(where=str(key), what=why) for key, why in undone[:_SHOWN]]
        if len(undone) > _SHOWN:
            problems.append(Problem(where="others", what=f"{len(undone) - _SHOWN} more"))
        raise InputError(
            f"{shown_scans(len(undone))} of {len(keys)} not done; no table is written, "
            "since it would omit them silently.",
            hint="Run `segment` with the same options for the shards that are missing, or without "
            "--shard for all that is left; then merge again.",
            problems=problems,
        )
    return [result for result in found if isinstance(result, ScanResult)]
