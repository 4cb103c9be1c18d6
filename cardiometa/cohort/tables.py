"""Join a cohort with the results of its scans: the tables and the account of ``segment``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..errors import CohortError
from ..measurement.measures import COLUMNS, PAPILLARY, SCAN_COLUMNS, CellType
from ..records import ScanResult
from .flow import exclusions_of, flow_of
from .models import PARTICIPANT_COLUMNS, Cohort, CohortScan, CohortTables

_EXCLUSION_COLUMNS = ("stage", "trial", "participant_id", "visit", "code", "sentence")
_PERSON_COLUMNS = tuple(column.name for column in COLUMNS if column.kind == "person")
_SCAN_NAMES = frozenset(column.name for column in SCAN_COLUMNS)


def build_tables(cohort: Cohort, results: Sequence[ScanResult]) -> CohortTables:
    """The tables of OUT; the order of ``results`` decides nothing.

    Every scan of the cohort has exactly one result; CohortError otherwise, since an account that
    does not close must not be written.
    """
    by_key = {result.key: result for result in results}
    _check_complete(cohort, results)
    ordered = [by_key[scan.key] for scan in cohort.scans]
    return CohortTables(
        measurements=_measurements(cohort, ordered),
        participants=_participants(cohort, ordered),
        exclusions=_exclusions(cohort, ordered),
        flow=flow_of(cohort, ordered),
    )


def _check_complete(cohort: Cohort, results: Sequence[ScanResult]) -> None:
    wanted = {scan.key for scan in cohort.scans}
    found = Counter(result.key for result in results)
    missing, foreign = len(wanted - found.keys()), len(found.keys() - wanted)
    twice = sum(count > 1 for count in found.values())
    if missing or foreign or twice:
        raise CohortError(
            f"The account does not close: {missing} scans have no result, {foreign} results "
            f"belong to no scan of the cohort, {twice} scans have several.",
            hint="Run segment on the same cohort until it is complete.",
        )


# ------------------------------------------------------------------ measurements


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
        data["reported_papillary"] = _series(
            [conventions[scan.key.trial] if _has_reported(scan) else None for scan in cohort.scans],
            "text",
        )
    return pd.DataFrame(data)


def _has_reported(scan: CohortScan) -> bool:
    return any(value is not None for value in scan.reported.values())


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


# ------------------------------------------------------------------ people and account


def _participants(cohort: Cohort, results: Sequence[ScanResult]) -> pd.DataFrame:
    scans = Counter((result.key.trial, result.key.participant) for result in results)
    analysed = {(r.key.trial, r.key.participant) for r in results if r.status != "failed"}
    table = cohort.participants[[*PARTICIPANT_COLUMNS, *cohort.carried]].copy()
    people = list(zip(table["trial"], table["participant_id"], strict=True))
    table["scans"] = pd.Series([scans[who] for who in people], dtype="int64")
    table["status"] = pd.Series(
        ["analysed" if who in analysed else "excluded" for who in people], dtype=object
    )
    # The contract's order: harmonised, days and reason, scans, status; then what is carried.
    return table[[*PARTICIPANT_COLUMNS, "scans", "status", *cohort.carried]]


def _exclusions(cohort: Cohort, results: Sequence[ScanResult]) -> pd.DataFrame:
    rows = exclusions_of(cohort, results)
    return pd.DataFrame(
        {
            name: pd.Series([getattr(row, name) for row in rows], dtype=object)
            for name in _EXCLUSION_COLUMNS
        }
    )
