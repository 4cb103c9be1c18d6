"""What ``--error-model`` names: an evaluation, the model's card, or the SDs of the scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError, UsageError
from ..files import read_json, sha256_file
from ..manifest import bundled_card
from ..options import ERROR_SOURCES
from ..pipeline.cohort_snapshot import SNAPSHOT_NAME
from ..pooling.federated.site import SiteSummary
from ..records import CohortTable
from ..statistics.measurement_error import (
    ErrorInput,
    MeasurementError,
    measurement_error_of,
    read_measurement_error,
)


def error_document(named: str | None) -> dict[str, Any]:
    """The option as a run records it: the hash of the file, or which other source."""
    if named is None:
        return {}
    return {"error_model": named if named in ERROR_SOURCES else sha256_file(Path(named))}


def error_of_table(named: str, first: Path, table: CohortTable, *measures: str) -> ErrorInput:
    """What --error-model names for the rows of a table; ``first`` is what the user gave.

    Raises InputError where the file cannot be used, or no measure has a column of SDs.
    """
    rows = table.rows
    trials = rows["trial"].astype(str)
    vendors = {}
    if "vendor" in rows:
        makers = rows["vendor"].where(rows["vendor"].notna(), "").astype(str)
        one = makers.groupby(trials).agg(["nunique", "first"])
        vendors = {str(t): str(v) for t, (n, v) in one.iterrows() if n == 1 and v}
    known = ErrorInput(
        vendors=vendors, model_sha256=tuple(table.conventions.get("model_sha256", ()))
    )
    if named != "scan-sd":
        return replace(known, evaluated=evaluated_error(named, first))
    for column in (f"{measure}_sd" for measure in measures):
        sd = (
            pd.to_numeric(rows[column], errors="coerce")
            if column in rows
            else pd.Series(dtype=float)
        )
        usable = sd[sd > 0]
        if len(usable):
            mean = (usable**2).groupby(trials.loc[usable.index]).mean()
            return replace(known, scan_sd={str(t): float(v) ** 0.5 for t, v in mean.items()})
    columns = " or ".join(f"{measure}_sd" for measure in measures)
    raise InputError(
        f"--error-model scan-sd needs the column {columns}, and the table has no value of it.",
        hint="segment writes it for models whose card has the errors of scans.",
    )


def error_of_sites(named: str, sites: Sequence[SiteSummary]) -> ErrorInput:
    """What --error-model names for site files, which have no SDs of scans and no vendors."""
    if named == "scan-sd":
        raise UsageError(
            "Site files have no SDs of scans: --error-model scan-sd needs participants' rows.",
            hint="Each site can run `cardiometa evaluate` and send evaluation.json, whose lines "
            "--error-model takes.",
        )
    models = {one for site in sites for one in site.conventions.get("model_sha256", ())}
    return ErrorInput(evaluated=evaluated_error(named, None), model_sha256=tuple(sorted(models)))


def evaluated_error(named: str, first: Path | None) -> MeasurementError:
    """The section of a file, or of the card: that in OUT of segment, else the bundled model's."""
    if named != "card":
        return read_measurement_error(Path(named))
    snapshot = None if first is None else first / SNAPSHOT_NAME
    if snapshot is not None and snapshot.is_file():
        model = read_json(snapshot).get("model")
        card = model.get("card") if isinstance(model, dict) else None
        found = measurement_error_of(card, f"the model's card in {SNAPSHOT_NAME}")
    else:
        found = measurement_error_of(bundled_card(), "the card of the bundled model")
    return replace(found, source="card")
