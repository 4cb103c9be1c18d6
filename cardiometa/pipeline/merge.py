"""From all scans' records to the tables, the account and the page of OUT."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..cohort.models import Cohort
from ..cohort.tables import build_tables, scan_exclusion
from ..evaluation.agreement import icc
from ..files import canonical_json, cell, csv_text, read_json, sha256_bytes, write_all
from ..flags import status_of
from ..manifest import CRATE_NAME, RunRecord, crate_text, file_marks, notice_for
from ..measurement.checks import (
    COHORT_MEASURES,
    cohort_flags,
    shared_between,
    shared_flags,
    visit_flags,
)
from ..measurement.measures import SEGMENT_COLUMNS, data_dictionary, definition
from ..measurement.radiomics import COLUMNS as RADIOMICS
from ..measurement.radiomics import SETTINGS, VIEWS
from ..measurement.radiomics import TABLE_NAME as RADIOMICS_TABLE
from ..measurement.wall_thickness import SEGMENTS
from ..privacy.withdrawal import count_erased
from ..records import ScanKey, ScanResult
from ..segmentation.model import ModelCard, vendor_listed
from ..statistics.combat import combat
from .bids import write_bids
from .cohort_snapshot import SHOWN_FACTS, SNAPSHOT_NAME
from .result_file import (
    OVERLAY_NAME,
    RADIOMICS_NAME,
    is_corrected,
    read_record,
    read_result,
    record_sha256,
    scan_folder,
    used_folder,
)

if TYPE_CHECKING:
    from ..reports.pages.segment import Gallery


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedTables:
    """The results as the table has them (cohort flags added), the account, marks of the files.

    ``facts`` are those of the whole run (`run_facts`), ``notes`` the same in sentences.
    """

    results: tuple[ScanResult, ...]
    flow: Mapping[str, Any]
    outputs: Mapping[str, Any]
    facts: Mapping[str, Any]
    notes: Sequence[str]


def with_cohort_flags(
    results: Sequence[ScanResult], same_person: Iterable[Iterable[ScanKey]] = ()
) -> list[ScanResult]:
    """Results with the flags that need the other scans; these are in the table only.

    ``same_person``: see `models.Cohort`.
    """
    usable = [result for result in results if result.status != "failed"]

    def values(name: str) -> np.ndarray:  # a missing measure is NaN
        return np.array([result.measures.get(name) for result in usable], dtype=np.float64)

    flags = cohort_flags(
        [result.key.trial for result in usable], {name: values(name) for name in COHORT_MEASURES}
    )
    distance = values("slice_distance_mm")
    participants = [(result.key.trial, result.key.participant) for result in usable]
    between = visit_flags(participants, values("lv_slices_ed") * distance, distance)
    keys = [result.key for result in usable]
    marks = [result.document.get("source", {}).get("marks", {}) for result in usable]
    shared = shared_flags(keys, shared_between(keys, marks, same_person))
    found = {
        id(result): (*result.flags, *own, *moved, *([shared[row]] if row in shared else ()))
        for row, (result, own, moved) in enumerate(zip(usable, flags, between, strict=True))
        if own or moved or row in shared
    }
    return [
        replace(result, flags=found[id(result)], status=status_of(found[id(result)]))
        if id(result) in found
        else result
        for result in results
    ]


def run_facts(results: Iterable[ScanResult], card: ModelCard) -> dict[str, dict[str, int]]:
    """What holds for many scans, and is said once instead of flagged on each.

    ``rv_without_evidence``: measured scans by maker, where the model's card has no evidence for the
    RV on its scanners. ``base_at_stack_end``: scans by trial whose most basal slice has LV cavity
    at ED; ``base_known``: those of which it is known.
    """
    makers, known, at_end = Counter[str](), Counter[str](), Counter[str]()
    for result in results:
        if result.status == "failed":
            continue
        vendor = str(result.facts.get("vendor") or "")
        if not vendor_listed(vendor, card.rv_vendors):
            makers[vendor or UNKNOWN_MAKER] += 1
        found = result.document.get("details", {}).get("base_at_stack_end")
        if found is not None:
            known[result.key.trial] += 1
            at_end[result.key.trial] += bool(found)
    return {
        "rv_without_evidence": dict(sorted(makers.items())),
        "base_at_stack_end": dict(sorted(at_end.items())),
        "base_known": dict(sorted(known.items())),
    }


def frame_csv(frame: pd.DataFrame) -> str:
    """A DataFrame by the contract's cell rules."""
    columns = [frame[name].astype(object).to_list() for name in frame.columns]
    return csv_text(list(frame.columns), zip(*columns, strict=True))


PARQUET_NAME = "measurements.parquet"
UNKNOWN_MAKER = "unknown maker"
RECORDS_NAME = "records.json"
SEGMENTS_NAME = "segments.csv"
STABILITY_TABLE = "radiomics_stability.csv"
LEAST_ICC = 0.75
FEWEST_FOR_STABILITY = 10
_FEWEST_OF_MAKER = 3
_SHARES = ("vendor_share", "vendor_share_combat")


def frame_parquet(frame: pd.DataFrame) -> bytes | None:
    """The table as Parquet with the types of its data dictionary; None without pyarrow.

    Ids and codes are text here too; nothing is escaped, as no spreadsheet reads it.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return None
    kinds = {"text": pa.string(), "integer": pa.int64(), "boolean": pa.bool_()}
    arrays, fields = [], []
    for name in frame.columns:
        column = definition(str(name))
        known = frame[name].notna()
        # As text, a carried column of numbers would be taken for codes.
        numbers = column.kind == "carried" and all(
            isinstance(value, (int, float)) and not isinstance(value, bool)
            for value in frame[name][known].astype(object)
        )
        kind = pa.float64() if numbers and known.any() else kinds.get(column.type, pa.float64())
        values = frame[name].astype(object).where(known, None).to_list()
        if kind == pa.string():
            values = [v if v is None or isinstance(v, str) else cell(v) for v in values]
        arrays.append(pa.array(values, type=kind))
        fields.append(pa.field(str(name), kind))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), buffer)
    return buffer.getvalue()


def dictionary_json(
    measurements: pd.DataFrame, cohort: Cohort, card: ModelCard, features: Collection[str] = ()
) -> str:
    """``measurements.json``: each column's definition, each trial's, the hash of the content."""
    stable = measurements.drop(columns="seconds")
    return canonical_json(
        {
            "notice": notice_for(str(card.document.get("licence", ""))),
            "columns": data_dictionary([str(name) for name in measurements.columns]),
            SEGMENTS_NAME: data_dictionary(SEGMENT_COLUMNS),
            **(
                {RADIOMICS_TABLE: {"settings": SETTINGS, "columns": data_dictionary(RADIOMICS)}}
                if features
                else {}
            ),
            "rows": len(measurements),
            "trials": {
                trial.name: {name: getattr(trial, name) for name in SHOWN_FACTS}
                for trial in cohort.trials
            },
            "sha256_without_seconds": sha256_bytes(frame_csv(stable).encode()),
        }
    )


def segments_table(results: Iterable[ScanResult]) -> pd.DataFrame:
    """``segments.csv``: 16 rows per scan whose wall was measured, failed scans left out."""
    measured = [
        (result.key, segments)
        for result in sorted(results, key=lambda result: result.key)
        if result.status != "failed"
        and (segments := result.document.get("details", {}).get("segments"))
    ]
    data: dict[str, Any] = {
        "trial": [key.trial for key, _ in measured for _ in SEGMENTS],
        "participant_id": [key.participant for key, _ in measured for _ in SEGMENTS],
        "visit": [key.visit for key, _ in measured for _ in SEGMENTS],
        "segment": [*range(1, len(SEGMENTS) + 1)] * len(measured),
        "segment_name": SEGMENTS * len(measured),
    }
    for column in SEGMENT_COLUMNS[len(data) :]:
        values = [np.asarray(of[column.name], dtype=np.float64) for _, of in measured]
        data[column.name] = np.concatenate(values) if values else np.empty(0)
    return pd.DataFrame(data)


def radiomics_tables(out: Path, results: Iterable[ScanResult]) -> dict[str, pd.DataFrame]:
    """``radiomics.csv``: a row per scan, and ``radiomics_stability.csv``: a row per feature.

    Empty unless the run asked for them. ``icc`` is ICC(2,1) of the views of `measurement.radiomics`
    over the scans, one of 0.75 or more making a feature ``stable`` (empty below 10 scans).
    ``vendor_share`` is the share of its variance between makers of scanners (η², of makers with 3
    scans or more), as it is and after ComBat with the makers as batches. ComBat knows nothing of
    patients: where makers scanned different ones, it takes that difference away too.
    """
    asked = [r for r in results if r.document.get("options", {}).get("radiomics")]
    if not asked:
        return {}
    keys, vendors, values = [], [], []
    for result in sorted(asked, key=lambda r: r.key):
        path = used_folder(out, result.key) / RADIOMICS_NAME
        if result.status == "failed" or not path.is_file():
            continue
        found = read_json(path)["features"]
        keys.append((result.key.trial, result.key.participant, result.key.visit))
        vendors.append(str(result.facts.get("vendor") or ""))
        values.append([found.get(column.name, [np.nan] * len(VIEWS)) for column in RADIOMICS])
    every = np.array(values, dtype=np.float64).reshape(len(keys), len(RADIOMICS), len(VIEWS))
    names = [column.name for column in RADIOMICS]
    rows = []
    for i, column in enumerate(RADIOMICS):
        own = every[np.isfinite(every[:, i]).all(axis=1), i]
        agreement = icc(*own.T) if len(own) else None
        value = None if agreement is None else agreement.value
        enough = len(own) >= FEWEST_FOR_STABILITY and value is not None
        rows.append(
            {
                "feature": column.name,
                "ibsi_code": column.code.removeprefix("IBSI "),
                "definition": column.definition,
                "n_scans": len(own),
                "icc": value,
                "icc_low": None if agreement is None else agreement.low,
                "icc_high": None if agreement is None else agreement.high,
                "stable": value is not None and value >= LEAST_ICC if enough else None,
            }
        )
    shares = _vendor_shares(every[:, :, 0], np.array(vendors))
    table = pd.DataFrame(keys, columns=["trial", "participant_id", "visit"])
    return {
        RADIOMICS_TABLE: table.join(pd.DataFrame(every[:, :, 0], columns=names)),
        STABILITY_TABLE: pd.DataFrame(rows).assign(**shares),
    }


def _vendor_shares(values: np.ndarray, vendors: np.ndarray) -> dict[str, np.ndarray]:
    """Share of the variance of each column of ``[scan, feature]`` between makers, twice."""
    shares = {name: np.full(values.shape[1], np.nan) for name in _SHARES}
    kept = [v for v in sorted(set(vendors)) if v and (vendors == v).sum() >= _FEWEST_OF_MAKER]
    if len(kept) < 2:
        return shares
    groups = [values[vendors == v] for v in kept]
    spread = np.array([group.var(axis=0) for group in groups])
    used = np.isfinite(spread).all(axis=0) & (spread > 0).all(axis=0)  # known in every scan
    groups = [group[:, used] for group in groups]
    if not used.any():
        return shares
    n = np.array([len(group) for group in groups])
    found = combat(n, np.array([g.mean(axis=0) for g in groups]), n[:, None] * spread[:, used])
    moved = [g * found.slope[i] + found.intercept[i] for i, g in enumerate(groups)]
    for name, those in zip(_SHARES, (groups, moved), strict=True):
        total = np.concatenate(those).var(axis=0) * n.sum()
        within = sum(g.var(axis=0) * len(g) for g in those)
        shares[name][used] = 1 - within / total
    return shares


def failure_reasons(results: Sequence[ScanResult]) -> list[str]:
    """Each reason that scans failed for, with the first of them, the most frequent reason first."""
    reasons: dict[str, list[ScanKey]] = {}
    for result in results:
        if result.status == "failed":
            reasons.setdefault(scan_exclusion(result).sentence, []).append(result.key)
    most = sorted(reasons.items(), key=lambda item: -len(item[1]))
    return [
        f"{', '.join(map(str, keys[:3]))}"
        + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        + f": {sentence}"
        for sentence, keys in most
    ]


def write_tables(
    out: Path,
    cohort: Cohort,
    results: Sequence[ScanResult],
    *,
    card: ModelCard,
    model_sha256: str,
) -> MergedTables:
    """Write ``measurements.csv`` and its dictionary, the roster, the account and the page.

    ``results`` may be slim (`result_file.slim`): what the gallery shows is read from OUT.
    """
    from ..reports.pages.segment import gallery_items, run_sentences, segment_page

    if erased := count_erased(out):
        who = "1 participant" if erased == 1 else f"{erased} participants"
        sentence = f"{who} withdrew; their data were erased from this output and are in no count."
        cohort = replace(cohort, withdrawn=erased, warnings=(*cohort.warnings, sentence))
    flagged = with_cohort_flags(results, cohort.same_person)
    segments, features = segments_table(flagged), radiomics_tables(out, flagged)
    tables = replace(build_tables(cohort, flagged), segments=segments)
    facts = run_facts(flagged, card)
    notes = run_sentences(facts, card)
    cohort = replace(cohort, warnings=(*cohort.warnings, *notes))
    pictures = {r.key: used_folder(out, r.key) / OVERLAY_NAME for r in flagged}
    page = segment_page(
        tables,
        cohort=cohort,
        items=_complete(out, gallery_items(flagged, pictures)),
        card=card,
        model_sha256=model_sha256,
        # DICOM SEG objects may carry the identity of their source, where that was requested.
        identity_kept=any(
            r.document.get("dicom_seg", {}).get("identity") == "keep" for r in flagged
        ),
        ed_es_alone=any(r.document.get("options", {}).get("frames") == "ed-es" for r in flagged),
    )
    contents: dict[str, bytes | str] = {
        "participants.csv": frame_csv(tables.participants),
        "exclusions.csv": frame_csv(tables.exclusions),
        "flow.json": canonical_json(json.loads(canonical_json(tables.flow))),
        "measurements.json": dictionary_json(tables.measurements, cohort, card, features),
        # The hash of each scan's record by its key, which ties the table to the records.
        RECORDS_NAME: canonical_json({str(r.key): record_sha256(r.document) for r in results}),
        SEGMENTS_NAME: frame_csv(segments),
        "report.html": page,
    }
    contents |= {name: frame_csv(table) for name, table in features.items()}
    if (parquet := frame_parquet(tables.measurements)) is not None:
        contents[PARQUET_NAME] = parquet
    contents["measurements.csv"] = frame_csv(tables.measurements)
    # Such a file of an earlier run would be another table's.
    optional = (PARQUET_NAME, RADIOMICS_TABLE, STABILITY_TABLE)
    write_all(out, contents, old=tuple(name for name in optional if name not in contents))
    write_bids(out, flagged, cohort.name, card)
    outputs = file_marks({**contents, SNAPSHOT_NAME: (out / SNAPSHOT_NAME).read_bytes()})
    outputs |= _write_crate(out, cohort, card, model_sha256, outputs)
    return MergedTables(
        results=tuple(flagged), flow=tables.flow, outputs=outputs, facts=facts, notes=notes
    )


def _write_crate(
    out: Path, cohort: Cohort, card: ModelCard, model_sha256: str, outputs: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Write the RO-Crate of the files ``outputs``; its own mark."""
    licence = str(card.document.get("licence", ""))
    model = {"id": card.model_id, "sha256": model_sha256, "licence": licence}
    made = RunRecord(command="segment", options={}, inputs=cohort.input_sha256, model=model)
    crate = {CRATE_NAME: crate_text(made, outputs)}
    write_all(out, crate)
    return file_marks(crate)


def _complete(out: Path, gallery: Gallery) -> Gallery:
    """The gallery with the complete records of its scans; a corrected one with the model's too."""
    items = []
    for item in gallery.items:
        key = item.result.key
        complete = read_record(out, key)
        document = dict(item.result.document if complete is None else complete.document)
        own = read_result(scan_folder(out, key), key) if is_corrected(out, key) else None
        if own is not None:
            document["model_result"] = own.document
        items.append(replace(item, result=replace(item.result, document=document)))
    return replace(gallery, items=tuple(items))
