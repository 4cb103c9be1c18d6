"""Tables of the model's errors: end slices, large errors of EF, the model's intervals, its lines.

The lines (`measurement_error`) are what other commands need to correct an effect or a limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from ..measurement.measures import definition
from ..privacy.suppression import is_small, suppress_groups
from ..statistics.measurement_error import (
    ALL,
    FORMAT,
    ErrorLine,
    MeasureError,
    MeasurementError,
    line_of,
    partially_pooled,
)
from . import agreement
from .groups import Group, groups_of, participant_codes, tables_of
from .options import EvaluationOptions
from .overlap import CONTOURED
from .results import Compared, CoverageRow, LargeErrorRow, SliceErrorRow

LARGE_POINTS: Final = 10.0
EF_MEASURES: Final = ("lv_ef_percent", "rv_ef_percent")
LEVEL: Final = 95.0
LEVELS: Final = (50.0, 60.0, 70.0, 80.0, 90.0, LEVEL, 99.0)
LINE_GROUPS: Final = ("trial", "vendor", "arm", "sex", "ethnicity")
ERRORS: Final = {"false-positive": "false_positive", "false-negative": "false_negative"}


def _cells(group: Group) -> dict[str, Any]:
    return {
        "group_by": group.by,
        "group": group.name,
        "n_people": group.participants,
        "n_scans": int(group.mask.sum()),
    }


def _share(events: int, n: int) -> dict[str, Any]:
    low, high = agreement.wilson(events, n)
    return {"percent": 100 * events / n, "ci_low": low, "ci_high": high}


def slice_error_rows(compared: Compared, least: int) -> tuple[SliceErrorRow, ...]:
    """Rows of ``slice_errors.csv``: each structure, phase and end, all scans and groups."""
    found: list[SliceErrorRow] = []
    slices: dict[int, int] = {}
    for key, rows in tables_of(compared, compared.slices, ["structure", "phase", "end"]):
        for error, column in ERRORS.items():
            counts = rows[column].to_numpy(dtype=int)
            for group in groups_of(rows):
                inside = counts[group.mask]
                events = int(np.count_nonzero(inside))
                row = SliceErrorRow(
                    **dict(zip(("structure", "phase", "end"), key, strict=True)),  # type: ignore[arg-type]
                    error=error,  # type: ignore[arg-type]
                    n_reference=int(rows["n_reference"].to_numpy(dtype=int)[group.mask].sum()),
                    n_events=events,
                    **_share(events, len(inside)),
                    **_cells(group),
                )
                slices[len(found)] = int(inside.sum())
                found.append(row)
    shown = suppress_groups(found, least)
    # Slices are counted where the scans that have them are.
    return tuple(
        row if row.n_events is None else replace(row, n_slices=slices[at])
        for at, row in enumerate(shown)
    )


def large_error_rows(compared: Compared, least: int) -> tuple[LargeErrorRow, ...]:
    """Rows of ``large_errors.csv``: EF errors above 10 points, and those among scans ``ok``."""
    found: list[LargeErrorRow] = []
    were_ok: dict[int, int] = {}
    pairs = compared.pairs[compared.pairs["measure"].isin(EF_MEASURES)]
    for (measure, scope), rows in tables_of(compared, pairs, ["measure", "scope"]):
        far = np.abs(_errors(rows)) > LARGE_POINTS
        ok = (rows["status"] == "ok").to_numpy(dtype=bool)
        for group in groups_of(rows):
            events = int(np.count_nonzero(far & group.mask))
            were_ok[len(found)] = int(np.count_nonzero(far & ok & group.mask))
            found.append(
                LargeErrorRow(
                    measure=measure,
                    scope=scope,
                    limit=LARGE_POINTS,
                    n_events=events,
                    **_share(events, int(group.mask.sum())),
                    **_cells(group),
                )
            )
    shown = []
    for at, row in enumerate(suppress_groups(found, least)):
        n_ok = were_ok[at]
        if row.n_events is None or is_small(n_ok, least) or is_small(row.n_events - n_ok, least):
            shown.append(row)
        else:
            shown.append(replace(row, n_ok=n_ok))
    return tuple(shown)


def _errors(rows: pd.DataFrame) -> np.ndarray:
    """Model less reference ``[n]``."""
    return (rows["model"] - rows["reference"]).to_numpy(dtype=float)


def coverage_rows(compared: Compared, least: int) -> tuple[CoverageRow, ...]:
    """Rows of ``interval_coverage.csv``: all scans at several levels, groups at 95 %.

    Of scans that have an SD. Wilson's interval takes scans as independent.
    """
    found = []
    known = compared.pairs[compared.pairs["model_sd"].astype(float) > 0]
    for (measure, scope), rows in tables_of(compared, known, ["measure", "scope"]):
        sd = rows["model_sd"].to_numpy(dtype=float)
        ratio = np.abs(_errors(rows)) / sd
        for group in groups_of(rows):
            inside = ratio[group.mask]
            for level in LEVELS if group.by == ALL else (LEVEL,):
                within = int(np.count_nonzero(inside <= agreement.two_sided_z(level)))
                found.append(
                    CoverageRow(
                        measure=measure,
                        unit=definition(measure).unit,
                        scope=scope,
                        level=level,
                        mean_sd=float(np.sqrt((sd[group.mask] ** 2).mean())),
                        sd_ratio=float(np.sqrt((inside**2).mean())),
                        **_share(within, len(inside)),
                        **_cells(group),
                    )
                )
    return suppress_groups(found, least)


# ------------------------------------------------------------------ the section for other commands


def measurement_error(
    compared: Compared, name: str, model: Mapping[str, str], options: EvaluationOptions
) -> MeasurementError | None:
    """The lines of each measure: all hearts, then groups of at least the smallest cell.

    Participants that the model was trained on are left out where enough others remain. None where
    nothing is compared.
    """
    pairs, trained = compared.pairs, compared.scans["trained_on"].to_numpy(dtype=bool)
    least = max(options.min_cell, 2)
    use, trained_on = np.ones(len(trained), dtype=bool), "none"
    if trained.any():
        left = len(np.unique(participant_codes(compared.scans[~trained])))
        use, trained_on = (~trained, "excluded") if left >= least else (use, "included")
    elif not compared.training_known:
        trained_on = "unknown"
    pairs = pairs[use[pairs["scan"].to_numpy(dtype=int)]] if len(pairs) else pairs
    measures: list[MeasureError] = []
    tables = tables_of(compared, pairs, ["measure", "scope"])
    # Where some scans have whole stacks and others contours, the whole stacks are the measure.
    for (measure, scope), rows in sorted(tables, key=lambda table: table[0][1] == CONTOURED):
        found = _lines(rows, least)
        if found and measure not in {one.measure for one in measures}:
            pooled, between = partially_pooled([one for one in found if one.group_by == "trial"])
            measures.append(
                MeasureError(
                    measure=measure,
                    unit=definition(measure).unit,
                    scope=scope,
                    lines=(*found, *pooled),
                    between_trials=between,
                )
            )
    if not measures:
        return None
    return MeasurementError(
        format=FORMAT,
        source="evaluation",
        against=str(options.against),
        cohort=name,
        model_id=model.get("id", ""),
        model_sha256=model.get("sha256", ""),
        min_cell=options.min_cell,
        trained_on=trained_on,  # type: ignore[arg-type]
        measures=tuple(measures),
    )


def _lines(rows: pd.DataFrame, least: int) -> list[ErrorLine]:
    """The line of all hearts and of each group that may be shown; none without that of all."""
    model, reference = (rows[n].to_numpy(dtype=float) for n in ("model", "reference"))
    codes = participant_codes(rows)
    found = []
    for group in groups_of(rows, LINE_GROUPS):
        if group.participants.is_hidden(least):
            continue
        at = group.mask
        line = line_of(model[at], reference[at], codes[at], group_by=group.by, group=group.name)
        # A slope of 0 or less is of values that do not measure the same.
        if line is not None and line.slope > 0:
            found.append(line)
    return found if found and found[0].group_by == ALL else []
