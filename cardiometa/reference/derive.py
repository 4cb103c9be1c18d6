"""Columns of measures divided by a power of body size, where the user names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ..errors import Problem, TableError
from ..measurement.derived import derived_measure, derived_values
from ..records import CohortTable


def with_derived(table: CohortTable, names: Sequence[str] | None) -> CohortTable:
    """The table with a column for each derived measure among ``names``.

    TableError where the measure or the body size that it needs is not in the table.
    """
    columns, problems = {}, []
    for name in names or ():
        measure = derived_measure(name)
        if measure is None or name in table.rows:
            continue
        missing = [c for c in (measure.of, *measure.needs) if c not in table.rows]
        if missing:
            problems.append(
                Problem(where=name, what=f"the table has no column {' and no '.join(missing)}")
            )
            continue
        columns[name] = derived_values(
            measure,
            _numbers(table.rows, measure.of),
            _numbers(table.rows, "height_cm"),
            _numbers(table.rows, "weight_kg"),
        )
    if problems:
        raise TableError("An index needs a column that is not there.", problems=problems)
    return replace(table, rows=table.rows.assign(**columns)) if columns else table


def _numbers(rows: pd.DataFrame, name: str) -> np.ndarray:
    if name not in rows:
        return np.full(len(rows), np.nan)
    numbers = pd.to_numeric(rows[name], errors="coerce")
    return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))
