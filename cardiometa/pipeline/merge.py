"""All scans' records → the tables, the account and the page of OUT."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import canonical_json, cell, csv_text, sha256_bytes, write_all
from ..manifest import RESEARCH_USE, file_marks
from ..privacy.withdrawal import count_erased
from ..records import Flag, ScanResult, Status
from .cohort_snapshot import SNAPSHOT_NAME
from .result_file import read_record, record_sha256

if TYPE_CHECKING:
    import pandas as pd

    from ..cohort.models import Cohort, TrialDefinition
    from ..reports.pages.segment import Gallery
    from ..segmentation.card import ModelCard


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The results as the table has them (cohort flags added), the account, marks of the files."""

    results: tuple[ScanResult, ...]
    flow: Mapping[str, Any]
    outputs: Mapping[str, Any]


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def with_cohort_flags(results: Sequence[ScanResult]) -> list[ScanResult]:
    """Results with the flags that need the other scans; they stand in the table only."""
    from ..measurement.quality import COHORT_MEASURES, cohort_flags, status_of, visit_flags

    usable = [result for result in results if result.status != "failed"]
    found: dict[int, tuple[Flag, ...]] = {}
    values = {
        name: np.array([_number(result.measures.get(name)) for result in usable])
        for name in COHORT_MEASURES
    }
    flags = cohort_flags([result.key.trial for result in usable], values)
    slices, distance = (
        np.array([_number(result.measures.get(name)) for result in usable], dtype=np.float64)
        for name in ("lv_slices_ed", "slice_distance_mm")
    )
    people = [(result.key.trial, result.key.participant) for result in usable]
    between = visit_flags(people, slices * distance, distance)
    for result, own, moved in zip(usable, flags, between, strict=True):
        found[id(result)] = (*own, *moved)
    updated = []
    for result in results:
        extra = found.get(id(result), ())
        status: Status = status_of((*result.flags, *extra)) if extra else result.status
        updated.append(replace(result, flags=(*result.flags, *extra), status=status))
    return updated


def frame_csv(frame: pd.DataFrame) -> str:
    """A DataFrame by the contract's cell rules."""
    columns = [frame[name].astype(object).to_list() for name in frame.columns]
    return csv_text(list(frame.columns), zip(*columns, strict=True))


PARQUET_NAME = "measurements.parquet"
RECORDS_NAME = "records.json"


def frame_parquet(frame: pd.DataFrame) -> bytes | None:
    """The table as Parquet with the types of its data dictionary; None without pyarrow.

    Ids and codes are text here too; nothing is escaped, as no spreadsheet reads it.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return None
    from ..measurement.measures import definition

    kinds = {"text": pa.string(), "integer": pa.int64(), "boolean": pa.bool_()}
    arrays, fields = [], []
    for name in frame.columns:
        column = definition(str(name))
        numbers = column.kind == "carried" and _all_numbers(frame[name])
        kind = pa.float64() if numbers else kinds.get(column.type, pa.float64())
        known = frame[name].notna()
        values = frame[name].astype(object).where(known, None).to_list()
        if kind == pa.string():
            values = [None if value is None else _plain_text(value) for value in values]
        arrays.append(pa.array(values, type=kind))
        fields.append(pa.field(str(name), kind))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), buffer)
    return buffer.getvalue()


def _all_numbers(column: pd.Series[Any]) -> bool:
    """True for a carried column of numbers: as text it would be taken for words."""
    known = column.dropna()
    return len(known) > 0 and all(
        isinstance(value, (int, float)) and not isinstance(value, bool)
        for value in known.astype(object)
    )


def _plain_text(value: Any) -> str:
    return value if isinstance(value, str) else cell(value)


# What the definition says of a trial and a reader of the table needs; never its paths.
_TRIAL_FACTS = (
    "randomised",
    "papillary",
    "healthy_rule",
    "registry_id",
    "design",
    "n_sought",
    "n_randomised",
    "permission",
)


def _trial_facts(trial: TrialDefinition) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in _TRIAL_FACTS}


def dictionary_json(measurements: pd.DataFrame, cohort: Cohort) -> str:
    """``measurements.json``: each column's definition, each trial's, the hash of the content."""
    from ..measurement.measures import data_dictionary

    stable = measurements.drop(columns="seconds")
    return canonical_json(
        {
            "notice": RESEARCH_USE,
            "columns": data_dictionary([str(name) for name in measurements.columns]),
            "rows": len(measurements),
            "trials": {trial.name: _trial_facts(trial) for trial in cohort.trials},
            "sha256_without_seconds": sha256_bytes(frame_csv(stable).encode()),
        }
    )


def gather(
    out: Path,
    cohort: Cohort,
    results: Sequence[ScanResult],
    *,
    card: ModelCard,
    model_sha256: str,
) -> Gathered:
    """Write ``measurements.csv`` and its dictionary, the roster, the account and the page.

    ``results`` may be slim (`scan_record.slim`): what the gallery shows is read from OUT.
    """
    from ..cohort.tables import build_tables
    from ..reports.pages.segment import gallery_items, segment_page
    from .dicom_output import identity_kept

    cohort = _with_withdrawals(out, cohort)
    flagged = with_cohort_flags(results)
    tables = build_tables(cohort, flagged)
    pictures = {result.key: (out / "scans" / str(result.key) / "overlay.png") for result in flagged}
    page = segment_page(
        tables,
        cohort=cohort,
        items=_whole(out, gallery_items(flagged, pictures)),
        card=card,
        model_sha256=model_sha256,
        identity_kept=identity_kept(flagged),
        ed_es_alone=any(r.document.get("options", {}).get("frames") == "ed-es" for r in flagged),
    )
    contents: dict[str, bytes | str] = {
        "participants.csv": frame_csv(tables.participants),
        "exclusions.csv": frame_csv(tables.exclusions),
        "flow.json": canonical_json(json.loads(canonical_json(tables.flow))),
        "measurements.json": dictionary_json(tables.measurements, cohort),
        RECORDS_NAME: _records_json(results),
        "report.html": page,
    }
    parquet = frame_parquet(tables.measurements)
    if parquet is not None:
        contents[PARQUET_NAME] = parquet
    contents["measurements.csv"] = frame_csv(tables.measurements)
    # The Parquet of a run that could write one would be another table's.
    write_all(out, contents, old=() if PARQUET_NAME in contents else (PARQUET_NAME,))
    snapshot = {SNAPSHOT_NAME: (out / SNAPSHOT_NAME).read_bytes()}
    outputs = file_marks({**contents, **snapshot})
    return Gathered(results=tuple(flagged), flow=tables.flow, outputs=outputs)


def _records_json(results: Sequence[ScanResult]) -> str:
    """The hash of each scan's record by its key, which ties the table to the records."""
    return canonical_json({str(r.key): record_sha256(r.document) for r in results})


def _with_withdrawals(out: Path, cohort: Cohort) -> Cohort:
    """The cohort with the number of people who were erased from OUT, said on the page too."""
    count = count_erased(out)
    if not count:
        return cohort
    who = "1 participant" if count == 1 else f"{count} participants"
    sentence = f"{who} withdrew; their data were erased from this output and are in no count."
    return replace(cohort, withdrawn=count, warnings=(*cohort.warnings, sentence))


def _whole(out: Path, gallery: Gallery) -> Gallery:
    """The gallery with the whole records of the scans that it shows."""
    items = []
    for item in gallery.items:
        whole = read_record(out, item.result.key)
        document = item.result.document if whole is None else whole.document
        items.append(replace(item, result=replace(item.result, document=document)))
    return replace(gallery, items=tuple(items))
