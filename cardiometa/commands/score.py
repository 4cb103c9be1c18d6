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
from ..cohort.parsing import as_text
from ..cohort.read_table import read_any_table
from ..errors import Problem, TableError, UsageError
from ..files import csv_text, read_json, write_text
from ..manifest import RESEARCH_USE
from ..measurement.measures import MEASURES, derived_measure
from ..reference.model import NewPeople, ReferenceModel, Scores, reference_model, score_people
from ..reference.options import ScoreOptions
from ..reference.select import CONVENTIONS, with_derived

if TYPE_CHECKING:
    import pandas as pd


Z, CENTILE, NOTE = "z", "centile", "score_note"
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
    """Score the rows of a table and write it with the scores beside them.

    Raises UsageError (exit 2) and InputError (exit 3: nothing is written, all reasons counted).
    """
    out = request.out
    if out.suffix.lower() != ".csv":
        raise UsageError(f"--out {out.name} is no .csv file.", hint="Say --out scored.csv.")
    if out.exists() and not request.overwrite:
        raise UsageError(f"{out.name} exists.", hint="Choose another name, or say --overwrite.")
    if out.exists() and out.samefile(request.table):
        raise UsageError(f"--out {out.name} is the table itself.", hint="Inputs are not changed.")
    model = reference_model(read_json(request.reference), request.reference.name)
    file = request.table / MEASUREMENTS_NAME if request.table.is_dir() else request.table
    raw = read_any_table(file)
    measures = _measures(model, raw, request)
    known = {definition.name for definition in MEASURES}
    numeric = tuple(m for m in measures if m not in known and not derived_measure(m))
    table = read_analysis_table(request.table, replace(request.table_options, numeric=numeric))
    table = with_derived(table, measures)
    frame = table.rows
    people = _people(frame)
    found: dict[str, Scores] = {}
    for measure in measures:
        values = frame[measure].to_numpy(dtype=np.float64, na_value=np.nan)
        found[measure] = score_people(model, measure, values, people, request.options)
    _check_any(found, model, request)
    columns = _columns(raw, frame.index, found)
    write_text(out, _csv(raw, columns))
    reasons = {m: _reasons(s, len(raw) - len(frame)) for m, s in found.items()}
    return ScoreOutcome(
        rows=len(raw),
        scored={measure: scores.scored for measure, scores in found.items()},
        reasons=reasons,
        notice=model.notice,
        warnings=(*table.warnings, *_unstated(model)),
    )


def _measures(model: ReferenceModel, raw: pd.DataFrame, request: ScoreRequest) -> tuple[str, ...]:
    """The measures of the reference that the table has, harmonised names of --config included."""
    mapped = request.table_options.columns
    there = {str(c) for c in raw.columns} | set(mapped)
    # An index by body size is made from its measure.
    there |= {m for m in model.measures if (d := derived_measure(m)) and d.of in there}
    wanted = request.measures or tuple(m for m in model.measures if m in there)
    problems = [
        Problem(where=name, what="the reference has no such measure")
        for name in wanted
        if name not in model.measures
    ]
    problems += [
        Problem(where=name, what="the table has no such column")
        for name in wanted
        if name in model.measures and name not in there
    ]
    taken = [f"{m}_{end}" for m in wanted for end in (Z, CENTILE, NOTE) if f"{m}_{end}" in there]
    problems += [
        Problem(where=name, what="the table already has this column", fix="Rename or remove it.")
        for name in taken
    ]
    if problems or not wanted:
        raise TableError(
            f"{request.table.name} cannot be scored by {request.reference.name}.",
            hint=f"The reference has {', '.join(model.measures) or 'no measure with limits'}.",
            problems=problems,
        )
    return wanted


def _people(frame: pd.DataFrame) -> NewPeople:
    def text(name: str) -> np.ndarray:
        if name not in frame:
            return np.full(len(frame), "", dtype=object)
        return as_text(frame[name]).to_numpy(dtype=object)

    ages = np.full(len(frame), np.nan)
    if "age_years" in frame:
        ages = frame["age_years"].to_numpy(dtype=np.float64, na_value=np.nan)
    return NewPeople(
        sex=text("sex"),
        ethnicity=text("ethnicity"),
        age_years=ages,
        conventions={name: text(name) for name in CONVENTIONS if name in frame},
    )


def _check_any(found: Mapping[str, Scores], model: ReferenceModel, request: ScoreRequest) -> None:
    """Refuse where not one row can be scored, with every reason and its count."""
    # A value beyond the outer centiles of a nonparametric limit is an answer.
    answered = sum(
        s.scored + sum(str(n).startswith(("below centile", "above centile")) for n in s.note)
        for s in found.values()
    )
    if answered:
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
            "were, say --same-conventions."
            if unstated
            else f"The reference is {model.name!r}."
        ),
        problems=problems,
    )


def _reasons(scores: Scores, failed: int) -> dict[str, int]:
    """Rows without a score by reason; ages are not told apart, so that reasons stay few."""
    gone = ~np.isfinite(scores.z)
    counts = Counter(str(note) for note in scores.note[gone])
    if failed:
        counts[FAILED] += failed
    return dict(sorted(counts.items()))


def _unstated(model: ReferenceModel) -> list[str]:
    missing = [name for name in ("papillary", "model_id") if not model.conventions.get(name)]
    if not missing:
        return []
    return [f"The reference does not state {' and '.join(missing)}: that could not be checked."]


def _columns(
    raw: pd.DataFrame, rows: pd.Index, found: Mapping[str, Scores]
) -> dict[str, np.ndarray]:
    """The new columns ``[rows of the file]``; ``rows`` are the numbers of the rows scored."""
    place = raw.index.get_indexer(rows)
    columns: dict[str, np.ndarray] = {}
    for measure, scores in found.items():
        for end, values, empty in (
            (Z, scores.z, None),
            (CENTILE, scores.centile, None),
            (NOTE, scores.note, FAILED),
        ):
            column = np.full(len(raw), empty, dtype=object)
            column[place] = values
            columns[f"{measure}_{end}"] = column
    return columns


def _csv(raw: pd.DataFrame, columns: Mapping[str, np.ndarray]) -> str:
    """The table's own cells as they were, then the new columns."""
    own = [[_kept(value) for value in raw[name]] for name in raw.columns]
    new = [list(column) for column in columns.values()]
    names = [*(str(name) for name in raw.columns), *columns]
    return csv_text(names, zip(*own, *new, strict=True))


def _kept(value: Any) -> Any:
    """A cell of the table as it was; ``-5.20`` is a number, which needs no escape."""
    if isinstance(value, str) and value.startswith(("-", "+")):
        try:
            return float(value)
        except ValueError:
            return value
    return value
