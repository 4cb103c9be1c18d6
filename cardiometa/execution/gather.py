"""All scans' records → the tables, the account and the page of OUT."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import canonical_json, csv_text, sha256_bytes, write_all
from ..provenance import RESEARCH_USE
from ..records import Flag, ScanResult, Status

if TYPE_CHECKING:
    import pandas as pd

    from ..cohort.records import Cohort
    from ..segmentation.model import Model

# Cohort flags look at these; physiology never removes a scan, it asks for review.
COHORT_MEASURES = ("lv_edv_ml", "lv_esv_ml", "lv_ef_percent", "lv_mass_g", "rv_edv_ml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The results as they stand in the table (cohort flags added) and the account."""

    results: tuple[ScanResult, ...]
    flow: Mapping[str, Any]


def with_cohort_flags(results: Sequence[ScanResult]) -> list[ScanResult]:
    """Results with the flags that need the other scans; they stand in the table only."""
    from ..measurement.quality import cohort_flags, status_of

    usable = [result for result in results if result.status != "failed"]
    found: dict[int, tuple[Flag, ...]] = {}
    flags = cohort_flags(
        [result.key.trial for result in usable],
        {name: [result.measures.get(name) for result in usable] for name in COHORT_MEASURES},
    )
    for result, own in zip(usable, flags, strict=True):
        found[id(result)] = tuple(own)
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


def data_dictionary(measurements: pd.DataFrame) -> str:
    """``measurements.json``: each column's definition, and the hash of the table's content."""
    from ..measurement.measures import column_definition

    stable = measurements.drop(columns="seconds")
    columns = []
    for name in measurements.columns:
        definition = column_definition(str(name))
        columns.append(
            {
                "name": str(name),
                "unit": definition.unit,
                "definition": definition.definition,
                "code": definition.code,
            }
        )
    return canonical_json(
        {
            "notice": RESEARCH_USE,
            "columns": columns,
            "rows": len(measurements),
            "sha256_without_seconds": sha256_bytes(frame_csv(stable).encode()),
        }
    )


def gather(out: Path, cohort: Cohort, results: Sequence[ScanResult], model: Model) -> Gathered:
    """Write ``measurements.csv`` and its dictionary, the roster, the account and the page."""
    from ..cohort.table import build_tables
    from ..report.gallery import gallery_items
    from ..report.segment_page import segment_page

    flagged = with_cohort_flags(results)
    tables = build_tables(cohort, flagged)
    pictures = {result.key: (out / "scans" / str(result.key) / "overlay.png") for result in flagged}
    page = segment_page(
        tables,
        cohort=cohort,
        items=gallery_items(flagged, pictures),
        card=model.card,
        model_sha256=model.sha256,
    )
    contents: dict[str, bytes | str] = {
        "participants.csv": frame_csv(tables.participants),
        "exclusions.csv": frame_csv(tables.exclusions),
        "flow.json": canonical_json(json.loads(canonical_json(tables.flow))),
        "measurements.json": data_dictionary(tables.measurements),
        "report.html": page,
        "measurements.csv": frame_csv(tables.measurements),
    }
    write_all(out, contents)
    return Gathered(results=tuple(flagged), flow=tables.flow)
