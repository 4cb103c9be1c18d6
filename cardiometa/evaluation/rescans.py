"""Scan-rescan rows: people with both repeat visits, by the model and by the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from ..measurement.measures import MEASURES
from .groups import person_codes
from .options import EvaluationOptions
from .records import Compared, RepeatabilityRow
from .repeatability import repeatability
from .summaries import FEW


def model_values(measurements: pd.DataFrame) -> pd.DataFrame:
    """The model's measures one a row: trial, participant_id, visit, measure, value."""
    keys = ["trial", "participant_id", "visit"]
    names = [m.name for m in MEASURES if m.name in measurements]
    return measurements.melt(id_vars=keys, value_vars=names, var_name="measure")


def reference_values(compared: Compared) -> pd.DataFrame:
    """The reference's values likewise, of the scans that were compared."""
    keys = ["trial", "participant_id", "visit"]
    if compared.pairs.empty:
        return pd.DataFrame(columns=[*keys, "measure", "value"])
    joined = compared.pairs.join(compared.scans[keys], on="scan")
    return joined.assign(value=joined["reference"])[[*keys, "measure", "value"]]


def repeatability_rows(
    measurements: pd.DataFrame, compared: Compared, options: EvaluationOptions
) -> Iterator[RepeatabilityRow]:
    """Rows of ``repeatability.csv``; none without ``repeat_visits``."""
    if options.repeat_visits is None:
        return
    first, second = options.repeat_visits
    sources = (
        ("model", model_values(measurements)),
        ("reference", reference_values(compared)),
    )
    for source, values in sources:
        for measure in MEASURES:
            rows = values[values["measure"] == measure.name]
            both = _both_visits(rows, first, second)
            if not len(both):
                continue
            row = RepeatabilityRow(
                source=source,  # type: ignore[arg-type]
                measure=measure.name,
                unit=measure.unit,
                visit_a=first,
                visit_b=second,
                n_people=len(both),
                ci_level=options.ci_level,
            )
            yield _filled(row, both, options)


def _both_visits(rows: pd.DataFrame, first: str, second: str) -> np.ndarray:
    """The values at both visits of each person who has them, ``[n, 2]``."""
    known = rows[np.isfinite(rows["value"].to_numpy(dtype=float))]
    codes = person_codes(known) if len(known) else np.zeros(0, dtype=int)
    by_visit = [
        pd.Series(known["value"].to_numpy(dtype=float)[mask], index=codes[mask])
        for mask in (
            (known["visit"] == first).to_numpy(dtype=bool),
            (known["visit"] == second).to_numpy(dtype=bool),
        )
    ]
    return pd.concat(by_visit, axis=1, join="inner").to_numpy(dtype=float)


def _filled(
    row: RepeatabilityRow, both: np.ndarray, options: EvaluationOptions
) -> RepeatabilityRow:
    if len(both) < options.least:
        return replace(row, n_people=None, note=f"n<{options.least}")
    found = repeatability(both[:, 0], both[:, 1], options.ci_level)
    if found is None:
        return replace(row, note=FEW)
    return replace(
        row,
        mean=found.mean,
        bias=found.bias,
        bias_low=found.bias_low,
        bias_high=found.bias_high,
        cov_percent=found.cov_percent,
        sem=found.sem,
        sem_low=found.sem_low,
        sem_high=found.sem_high,
        sdc=found.sdc,
        sdc_low=found.sdc_low,
        sdc_high=found.sdc_high,
        icc=found.icc.value if found.icc else None,
        icc_low=found.icc.low if found.icc else None,
        icc_high=found.icc.high if found.icc else None,
    )
