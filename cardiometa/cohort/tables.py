"""The tables of ``segment``, and the participant flow (PRISMA-IPD, Stewart 2015).

Each level closes: ``obtained = analysed + excluded``. What was not stated is None, never guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from typing import Any

import pandas as pd

from ..errors import CohortError
from ..measurement.measures import COLUMNS, LATER_COLUMNS, PAPILLARY, SCAN_COLUMNS, CellType
from ..records import Exclusion, ScanKey, ScanResult
from .models import PARTICIPANT_COLUMNS, Cohort, CohortScan, CohortTables

Flow = dict[str, dict[str, int | None]]
Person = tuple[str, str]
_NO_IMAGES = "The scans table names no images for this visit."


def exclusions_of(cohort: Cohort, results: Sequence[ScanResult]) -> list[Exclusion]:
    """One row for each failed scan, each visit without images, each participant not analysed."""
    rows = [scan_exclusion(result) for result in results if result.status == "failed"]
    rows += [
        Exclusion("scan", key.trial, key.participant, key.visit, "no-images", _NO_IMAGES)
        for key in cohort.visits_without_images
    ]
    analysed = _people(result.key for result in results if result.status != "failed")
    failed = Counter((r.key.trial, r.key.participant) for r in results if r.status == "failed")
    blank = _people(cohort.visits_without_images)
    people = cohort.participants
    columns = ("trial", "participant_id", "death_day", "withdrawal_day", "reason_no_scan")
    for trial, person, death, withdrawal, reason in zip(
        *(people[name] for name in columns), strict=True
    ):
        who = (trial, person)
        if who in analysed:
            continue
        code, sentence = _why_not(failed[who], reason, (death, withdrawal), visit=who in blank)
        rows.append(Exclusion("participant", trial, person, "", code, sentence))
    order = {"scan": 0, "participant": 1}
    return sorted(rows, key=lambda e: (order[e.stage], e.trial, e.participant_id, e.visit))


def flow_of(cohort: Cohort, results: Sequence[ScanResult]) -> Flow:
    """The value of ``flow.json``: counts by level and step."""
    obtained = {
        "trials": len(cohort.trials),
        "participants": len(cohort.participants),
        "scans": len(results) + len(cohort.visits_without_images),
    }
    # Without a list of what was not obtained it is unknown how many trials were sought.
    trials = len(cohort.trials) + len(cohort.not_obtained) if cohort.not_obtained else None
    stated = [trial.n_sought for trial in cohort.trials]
    stated += [trial.n_participants for trial in cohort.not_obtained]
    known = [count for count in stated if count is not None]
    people = sum(known) if known and len(known) == len(stated) else None
    sought = {"trials": trials, "participants": people, "scans": None}
    flow: Flow = {}
    for level, parts in (("trials", 1), ("participants", 2), ("scans", 3)):
        units: dict[str, set[tuple[str, ...]]] = {"ok": set(), "review": set(), "failed": set()}
        for result in results:
            key = result.key
            units[result.status].add((key.trial, key.participant, key.visit)[:parts])
        used = units["ok"] | units["review"]
        flow[level] = {
            "sought": sought[level],
            "obtained": obtained[level],
            "with_images": len(used | units["failed"]),
            "segmented": len(used),
            "review": len(units["review"]),
            "failed": len(units["failed"] - used),
            "analysed": len(used),
            "excluded": obtained[level] - len(used),
        }
    if cohort.withdrawn:  # erased from the output, so in none of the other counts
        flow["participants"]["withdrawn"] = cohort.withdrawn
    return flow


def _people(keys: Iterable[ScanKey]) -> set[Person]:
    return {(key.trial, key.participant) for key in keys}


def scan_exclusion(result: ScanResult) -> Exclusion:
    """Why a failed scan has no measures: its first flag that rejects."""
    key, reasons = result.key, [flag for flag in result.flags if flag.level == "reject"]
    code = reasons[0].code if reasons else "scan-failed"
    sentence = reasons[0].sentence if reasons else "The scan could not be measured."
    return Exclusion("scan", key.trial, key.participant, key.visit, code, sentence)


def _why_not(
    failed: int, reason: str | None, days: tuple[float, float], *, visit: bool
) -> tuple[str, str]:
    """Code and sentence of a participant without a usable scan: the first reason that holds.

    A scan that was made and failed comes before any reason for having none; a reason that the
    trial states comes before one inferred from a day. A NaN day is unknown.
    """
    death, withdrawal = days
    if failed:
        scans = "The one scan" if failed == 1 else f"Each of the {failed} scans"
        return "scan-failed", f"{scans} failed."
    if reason:
        return "reason-no-scan", f"No scan: {reason}"
    if death == death:  # noqa: PLR0124 - NaN is the one value that differs from itself
        return "died-before-scan", f"No scan; died on day {death:g}."
    if withdrawal == withdrawal:  # noqa: PLR0124 - as above
        return "withdrawn", f"No scan; withdrew on day {withdrawal:g}."
    if visit:
        return "no-images", "The scans table has a visit, but no images."
    return "no-scan", "The roster has the participant, the scans have no visit; no reason is given."


_PERSON_COLUMNS = tuple(column.name for column in COLUMNS if column.kind == "person")
_SCAN_NAMES = frozenset(column.name for column in (*SCAN_COLUMNS, *LATER_COLUMNS))


def build_tables(cohort: Cohort, results: Sequence[ScanResult]) -> CohortTables:
    """The tables of OUT; the order of ``results`` decides nothing.

    Every scan of the cohort has exactly one result; CohortError otherwise, since an account that
    does not close must not be written.
    """
    wanted, found = {scan.key for scan in cohort.scans}, Counter(result.key for result in results)
    missing, foreign = len(wanted - found.keys()), len(found.keys() - wanted)
    twice = sum(count > 1 for count in found.values())
    if missing or foreign or twice:
        raise CohortError(
            f"The account does not close: {missing} scans have no result, {foreign} results "
            f"belong to no scan of the cohort, {twice} scans have several.",
            hint="Run segment on the same cohort until it is complete.",
        )
    by_key = {result.key: result for result in results}
    ordered = [by_key[scan.key] for scan in cohort.scans]
    scans = Counter((key.trial, key.participant) for key in by_key)
    analysed = _people(result.key for result in results if result.status != "failed")
    table = cohort.participants[[*PARTICIPANT_COLUMNS, *cohort.carried]].copy()
    people = list(zip(table["trial"], table["participant_id"], strict=True))
    table["scans"] = pd.Series([scans[who] for who in people], dtype="int64")
    words = ["analysed" if who in analysed else "excluded" for who in people]
    table["status"] = pd.Series(words, dtype=object)
    return CohortTables(
        measurements=_measurements(cohort, ordered),
        # The contract's order: harmonised, days and reason, scans, status; then what is carried.
        participants=table[[*PARTICIPANT_COLUMNS, "scans", "status", *cohort.carried]],
        exclusions=pd.DataFrame(
            map(astuple, exclusions_of(cohort, ordered)),
            columns=[one.name for one in fields(Exclusion)],
            dtype=object,
        ),
        flow=flow_of(cohort, ordered),
    )


def _measurements(cohort: Cohort, results: Sequence[ScanResult]) -> pd.DataFrame:
    people = cohort.participants.set_index(["trial", "participant_id"], drop=False)
    keys = [(scan.key.trial, scan.key.participant) for scan in cohort.scans]
    persons = people.loc[keys] if keys else people.iloc[:0]
    rows = [_scan_row(s, r) for s, r in zip(cohort.scans, results, strict=True)]
    data: dict[str, pd.Series] = {}
    for column in COLUMNS:
        if column.name in _PERSON_COLUMNS:
            data[column.name] = persons[column.name].reset_index(drop=True)
        else:
            data[column.name] = _series([row.get(column.name) for row in rows], column.type)
    for name in cohort.carried:
        data[name] = persons[name].reset_index(drop=True)
    for name in cohort.reported:
        values = [scan.reported.get(name) for scan in cohort.scans]
        data[name] = _series(values, "number")
    if cohort.reported:
        conventions = {trial.name: trial.papillary for trial in cohort.trials}
        stated = [
            conventions[scan.key.trial] if set(scan.reported.values()) - {None} else None
            for scan in cohort.scans
        ]
        data["reported_papillary"] = _series(stated, "text")
    for column in LATER_COLUMNS:
        data[column.name] = _series([row.get(column.name) for row in rows], column.type)
    return pd.DataFrame(data)


def _scan_row(scan: CohortScan, result: ScanResult) -> dict[str, Any]:
    """What the scan itself gives to its row; a failed scan gives no measures."""
    document: Mapping[str, Any] = result.document
    model = document.get("model", {})
    options = document.get("options", {})
    failed = result.status == "failed"
    row = {
        # Thickness and the like may stand among the facts.
        **{name: value for name, value in result.facts.items() if not failed},
        **({} if failed else {n: v for n, v in result.measures.items() if n in _SCAN_NAMES}),
    }
    return {
        **row,
        **{name: result.facts.get(name) for name in ("vendor", "field_strength_t", "sequence")},
        "trial": scan.key.trial,
        "participant_id": scan.key.participant,
        "visit": scan.key.visit,
        "visit_day": scan.visit_day,
        "status": result.status,
        "flags": ";".join(dict.fromkeys(flag.code for flag in result.flags)) or None,
        "papillary": None if failed else PAPILLARY,
        "bsa_formula": None if failed else options.get("bsa_formula"),
        "model_id": model.get("id"),
        "model_sha256": model.get("sha256", options.get("model_sha256")),
        "seconds": document.get("run", {}).get("seconds"),
    }


def _series(values: Sequence[Any], kind: CellType) -> pd.Series:
    if kind == "number":
        return pd.Series([None if v is None else float(v) for v in values], dtype="float64")
    if kind == "integer":
        return pd.Series([None if v is None else int(v) for v in values], dtype="Int64")
    return pd.Series(list(values), dtype=object)
