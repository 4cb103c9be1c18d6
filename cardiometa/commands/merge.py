"""``cardiometa gather OUT``: the tables, the account and the page of scans done in shards.

Everything is made from OUT alone: ``cohort.json`` says who there is, each ``result.json`` what was
found. It is what one run over all scans would have written.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, Problem, UsageError
from ..files import RECORD_NAME, read_json, write_text
from ..locking import Claim, OutputLock
from ..manifest import FORMAT_VERSION, record_text, run_block
from ..pipeline.cohort_snapshot import Snapshot, read_snapshot, without_withdrawn
from ..pipeline.merge import gather
from ..pipeline.plan import bodies_of
from ..pipeline.result_file import read_record, scan_folder, shown_scans, slim
from ..pipeline.segment import models_of
from ..records import RunRecord, ScanKey, ScanResult

_READERS = 8
_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherOutcome:
    """What was gathered: counts for the print-out and the account."""

    scans: int
    ok: int
    review: int
    failed: int
    flow: Mapping[str, Any]
    notes: Sequence[str]
    warnings: Sequence[str]
    seconds: float


def run_gather(out: Path) -> GatherOutcome:
    """Make the tables of OUT from its records.

    Raises UsageError where OUT is no output of ``segment`` or another run writes to it, InputError
    where scans are not done; then nothing is written.
    """
    begun = time.monotonic()
    record = _record_of(out)
    with OutputLock(out, Claim(command="gather")):
        snapshot = read_snapshot(out)
        snapshot = replace(snapshot, cohort=without_withdrawn(out, snapshot.cohort))
        found = _read_all(out, snapshot, _expected(snapshot, record))
        gathered = gather(
            out,
            snapshot.cohort,
            found,
            card=snapshot.card,
            model_sha256=snapshot.model_sha256,
        )
        seconds = time.monotonic() - begun
        block = run_block(
            state="complete",
            seconds=seconds,
            gathered=len(found),
            models=models_of(found),
            outputs=gathered.outputs,
        )
        write_text(out / RECORD_NAME, record_text(_with_run(record, block)))
    statuses = Counter(result.status for result in gathered.results)
    extra = _others(out, snapshot)
    notes = list(snapshot.cohort.notes)
    if extra:
        notes.append(
            f"{shown_scans(extra)} below scans/ not in the cohort: left as they are, in no table"
        )
    return GatherOutcome(
        scans=len(found),
        ok=statuses["ok"],
        review=statuses["review"],
        failed=statuses["failed"],
        flow=gathered.flow,
        notes=notes,
        warnings=snapshot.cohort.warnings,
        seconds=seconds,
    )


def _record_of(out: Path) -> Mapping[str, Any]:
    path = out / RECORD_NAME
    if not path.is_file():
        raise UsageError(
            f"The folder {out.name} holds no output of `segment`.",
            hint="Give the folder that `segment --out` wrote to.",
        )
    record = read_json(path)
    if not isinstance(record, dict) or record.get("command") != "segment":
        raise UsageError(
            f"The folder {out.name} holds an output of another command.",
            hint="Give the folder that `segment --out` wrote to.",
        )
    return record


def _with_run(record: Mapping[str, Any], block: Mapping[str, Any]) -> RunRecord:
    return RunRecord(
        command="segment",
        format_version=FORMAT_VERSION,
        options=record["options"],
        inputs=record["inputs"],
        model=record["model"],
        run=block,
    )


# ------------------------------------------------------------------ the scans


def _expected(snapshot: Snapshot, record: Mapping[str, Any]) -> Callable[[ScanKey], dict[str, Any]]:
    """The options that a scan of this cohort and these options must have been done with.

    All but the number and bytes of its images, which only a run of ``segment`` can see.
    """
    given: dict[str, Any] = dict(record["options"])
    common = {"bsa_formula": given.pop("bsa", None)}
    for of_the_cohort in ("cohort", "pseudonymise"):
        given.pop(of_the_cohort, None)
    common |= given
    corrections: Mapping[str, str] = record["inputs"]
    bodies = bodies_of(snapshot.cohort)

    def expected(key: ScanKey) -> dict[str, Any]:
        options = dict(common)
        body = bodies.get((key.trial, key.participant))
        options["height_cm"] = body.height_cm if body else None
        options["weight_kg"] = body.weight_kg if body else None
        options["correction_sha256"] = corrections.get(f"correction {key}")
        return options

    return expected


def _fits(result: ScanResult, expected: Mapping[str, Any]) -> bool:
    options = result.document["options"]
    return all(_same(options.get(name), value) for name, value in expected.items())


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, float) and isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=0, abs_tol=0)
    return bool(found == wanted)


def _read_all(
    out: Path, snapshot: Snapshot, expected: Callable[[ScanKey], dict[str, Any]]
) -> list[ScanResult]:
    """Every scan's result; InputError that names those that are not done."""

    def read(key: ScanKey) -> ScanResult | str:
        result = read_record(out, key)
        if result is None:
            return "it is not done"
        if not _fits(result, expected(key)):
            return "it was done with other options, body size or correction"
        folder = scan_folder(out, key)
        if not all((folder / name).is_file() for name in result.document["outputs"]):
            return "files that its record names are missing"
        return slim(result)

    keys = [scan.key for scan in snapshot.cohort.scans]
    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(read, keys))
    undone = [(key, why) for key, why in zip(keys, found, strict=True) if isinstance(why, str)]
    if undone:
        raise InputError(
            f"{shown_scans(len(undone))} of {len(keys)} not done; no table is written, "
            "since it would lack them in silence.",
            hint="Run `segment` with the same options for the shards that are missing, or without "
            "--shard for all that is left; then gather again.",
            problems=[Problem(where=str(key), what=why) for key, why in undone[:_SHOWN]]
            + _and_more(len(undone) - _SHOWN),
        )
    return [result for result in found if isinstance(result, ScanResult)]


def _and_more(count: int) -> list[Problem]:
    return [Problem(where="others", what=f"{count} more")] if count > 0 else []


def _others(out: Path, snapshot: Snapshot) -> int:
    """Scans that lie in OUT and are in no table: of people no longer in the cohort."""
    known = {str(scan.key) for scan in snapshot.cohort.scans}
    top = out / "scans"
    there = (path.parent for path in top.glob("*/*/*/result.json"))
    return sum("/".join(path.relative_to(top).parts) not in known for path in there)
