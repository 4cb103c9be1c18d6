"""``cardiometa score``: a reference and a table in, the table with z scores and centiles out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cohort.analysis_table import MEASUREMENTS_NAME, read_analysis_table
from ..cohort.models import TableOptions
from ..cohort.read_table import read_any_table
from ..errors import Problem, TableError
from ..files import check_csv, csv_text, read_json, write_text
from ..manifest import RESEARCH_USE, refuse_modified
from ..measurement.indexing import derived_measure
from ..records import SeriousWarning
from ..reference.model import (
    FAR_Z,
    NewParticipants,
    ReferenceModel,
    Scores,
    reference_model,
    score_names,
    score_participants,
)
from ..reference.options import ReferenceOptions, ScoreOptions
from ..reference.select import rows_options, with_derived

if TYPE_CHECKING:
    import pandas as pd


FAILED = "the scan failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """What a user asks for."""

    reference: Path
    table: Path
    out: Path
    options: ScoreOptions
    table_options: TableOptions
    measures: tuple[str, ...] | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOutcome:
    """Rows in; for each measure how many have a score, and the others by reason."""

    rows: int
    scored: Mapping[str, int]
    reasons: Mapping[str, Mapping[str, int]]
    notice: str
    warnings: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "rows": self.rows,
            "scored": dict(self.scored),
            "not_scored": {name: dict(counts) for name, counts in self.reasons.items()},
            "notice": self.notice,
            "warnings": list(self.warnings),
            "research_use": RESEARCH_USE,
        }


def run_score(request: ScoreRequest) -> ScoreOutcome:
    """Score the rows of a table and write it with the scores added.

    Raises UsageError (exit 2) and InputError (exit 3: nothing is written, all reasons counted).
    """
    out = request.out
    check_csv(out, request.table, overwrite=request.overwrite)
    file = request.table / MEASUREMENTS_NAME if request.table.is_dir() else request.table
    accepted = refuse_modified([request.reference, file], request.table_options.accept)
    model = reference_model(read_json(request.reference), request.reference.name)
    raw = read_any_table(file, form=request.table_options)
    columns = {str(name) for name in raw.columns} | set(request.table_options.columns)
    # What is scored is checked as a reference's own values are.
    used = ReferenceOptions(measures=request.measures or model.measures)
    form = rows_options(used, request.table_options)
    form = replace(form, numeric=tuple(name for name in form.numeric if name in columns))
    table = with_derived(read_analysis_table(request.table, form), None)
    measures = _measures(model, columns | {str(name) for name in table.rows}, request)
    table = with_derived(table, measures)
    frame = table.rows
    participants = NewParticipants.of(frame)
    found: dict[str, Scores] = {}
    for measure in measures:
        values = frame[measure].to_numpy(dtype=np.float64, na_value=np.nan)
        found[measure] = score_participants(model, measure, values, participants, request.options)
    _check_any(found, model, request)
    write_text(out, _csv(raw, frame.index, found))
    reasons = {m: _reasons(s, len(raw) - len(frame)) for m, s in found.items()}
    unstated = [name for name in ("papillary", "model_id") if not model.conventions.get(name)]
    warning = f"The reference does not state {' and '.join(unstated)}: that could not be checked."
    return ScoreOutcome(
        rows=len(raw),
        scored={measure: scores.scored for measure, scores in found.items()},
        reasons=reasons,
        notice=model.notice,
        warnings=(
            *accepted,
            *table.warnings,
            *_far_values(found),
            *([warning] if unstated else []),
        ),
    )


def _far_values(found: Mapping[str, Scores]) -> list[SeriousWarning]:
    counts = {m: int(np.sum(np.abs(s.z) > FAR_Z)) for m, s in found.items()}
    return [
        SeriousWarning(f"{measure}: {count} rows have |z| > {FAR_Z:g}: check value and unit.")
        for measure, count in counts.items()
        if count
    ]


def _measures(model: ReferenceModel, columns: set[str], request: ScoreRequest) -> tuple[str, ...]:
    """The measures of the reference that the table has, as it stands or harmonised."""
    # An index by body size is made from its measure.
    columns |= {m for m in model.measures if (d := derived_measure(m)) and d.of in columns}
    wanted = request.measures or tuple(m for m in model.measures if m in columns)
    problems = []
    for name in wanted:
        if name not in model.measures:
            problems.append(Problem(where=name, what="the reference has no such measure"))
        elif name not in columns:
            problems.append(Problem(where=name, what="the table has no such column"))
        problems += [
            Problem(where=new, what="the table already has this column", fix="Rename or remove it.")
            for new in score_names(name)
            if new in columns
        ]
    if problems or not wanted:
        raise TableError(
            f"{request.table.name} cannot be scored by {request.reference.name}.",
            hint=f"The reference has {', '.join(model.measures) or 'no measure with limits'}.",
            problems=problems,
        )
    return wanted


def _check_any(found: Mapping[str, Scores], model: ReferenceModel, request: ScoreRequest) -> None:
    """Refuse where not one row can be scored, with every reason and its count."""
    # A value beyond the outer centiles of a nonparametric limit is an answer.
    if any(s.scored or s.beyond.any() for s in found.values()):
        return
    problems = [
        Problem(where=measure, what=f"{count} rows: {reason}")
        for measure, scores in found.items()
        for reason, count in _reasons(scores, 0).items()
    ]
    unstated = any("is not stated" in p.what for p in problems)
    raise TableError(
        f"No row of {request.table.name} can be scored.",
        hint=(
            "A score means something only for values measured as the reference's were. If yours "
            "were, use --same-conventions."
            if unstated
            else f"The reference is {model.name!r}."
        ),
        problems=problems,
    )


def _reasons(scores: Scores, failed: int) -> dict[str, int]:
    """Rows without a score by reason; ages are not listed, so that reasons stay few."""
    counts = Counter(str(note) for note in scores.note[~np.isfinite(scores.z)])
    if failed:
        counts[FAILED] += failed
    return dict(sorted(counts.items()))


def _csv(raw: pd.DataFrame, rows: pd.Index, found: Mapping[str, Scores]) -> str:
    """The table's own cells as they were, then the new columns; ``rows`` are those scored."""
    place = raw.index.get_indexer(rows)
    names = [str(name) for name in raw.columns]
    columns = [[_own_cell(value) for value in raw[name]] for name in raw.columns]
    for measure, scores in found.items():
        new = ((scores.z, None), (scores.centile, None), (scores.note, FAILED))
        for name, (values, empty) in zip(score_names(measure), new, strict=True):
            column = np.full(len(raw), empty, dtype=object)
            column[place] = values
            names.append(name)
            columns.append(list(column))
    return csv_text(names, zip(*columns, strict=True))


def _own_cell(value: Any) -> Any:
    """A cell of the table as it was; ``-5.20`` is a number, which needs no escape."""
    if isinstance(value, str) and value.startswith(("-", "+")):
        try:
            return float(value)
        except ValueError:
            return value
    return value
