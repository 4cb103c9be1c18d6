"""Scan-rescan: how far two scans of one unchanged heart differ.

SEM is the within-person SD √(Σd²/2n), which holds a shift between the scans too, with its
chi-square interval; the smallest detectable change is 1.96 √2 SEM (Bland & Altman 1996; de Vet
2006); CoV is the root-mean-square one.

Scan-rescan rows: people with both repeat visits, by the model and by the reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..measurement.measures import MEASURES
from .groups import person_codes
from .options import EvaluationOptions
from .reliability import Coefficient, cov_percent, icc
from .results import Compared, RepeatabilityRow
from .tables import FEW


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeatability:
    """Scan-rescan of one measure: people, mean of both, bias (second - first) with t interval."""

    people: int
    mean: float
    bias: float
    bias_low: float
    bias_high: float
    cov_percent: float | None
    sem: float
    sem_low: float
    sem_high: float
    sdc: float
    sdc_low: float
    sdc_high: float
    icc: Coefficient | None


def repeatability(
    first: np.ndarray, second: np.ndarray, level: float = 95.0
) -> Repeatability | None:
    """Repeatability of pairs ``[n]``, one a person; None below 3 people."""
    from scipy import stats

    n = len(first)
    if n < 3:
        return None
    difference = second - first
    p = 0.5 + level / 200
    half = float(stats.t.ppf(p, n - 1)) * float(difference.std(ddof=1)) / math.sqrt(n)
    squares = float((difference**2).sum())
    sem = math.sqrt(squares / (2 * n))
    low, high = (math.sqrt(squares / 2 / stats.chi2.ppf(q, n)) for q in (p, 1 - p))
    factor = 1.959963984540054 * math.sqrt(2)
    bias = float(difference.mean())
    return Repeatability(
        people=n,
        mean=float((first + second).mean() / 2),
        bias=bias,
        bias_low=bias - half,
        bias_high=bias + half,
        cov_percent=cov_percent(first, second),
        sem=sem,
        sem_low=low,
        sem_high=high,
        sdc=factor * sem,
        sdc_low=factor * low,
        sdc_high=factor * high,
        icc=icc(first, second, level),
    )


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
