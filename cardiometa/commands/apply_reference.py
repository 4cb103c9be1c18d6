"""``score``, ``adapt`` and ``compare-limits``: what a portable reference says of other data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cohort.analysis_table import MEASUREMENTS_NAME, read_analysis_table
from ..cohort.models import TableOptions
from ..cohort.read_table import read_any_table, table_header
from ..errors import Problem, TableError
from ..files import (
    canonical_json,
    check_file,
    csv_text,
    read_json,
    record_columns,
    records_csv,
    write_text,
)
from ..manifest import RESEARCH_USE, refuse_modified
from ..measurement.indexing import derived_measure
from ..records import CohortTable, SeriousWarning
from ..reference.adapt import Adaptation, adapt_reference
from ..reference.compare_published import (
    HHC2024,
    LEVEL,
    Comparison,
    compare_limits,
    hhc2024,
    published_limits,
)
from ..reference.model import (
    FAR_Z,
    NewParticipants,
    ReferenceModel,
    Scores,
    reference_model,
    score_names,
    score_participants,
)
from ..reference.options import AdaptOptions, Kind, ReferenceOptions, ScoreOptions
from ..reference.select import rows_options, select_participants, with_derived, with_healthy

if TYPE_CHECKING:
    import pandas as pd

FAILED = "the scan failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Applied:
    """A reference and the table that it is applied to, as read and harmonised.

    ``accepted``: what is said of inputs that were changed.
    """

    document: Mapping[str, Any]
    model: ReferenceModel
    table: CohortTable
    accepted: tuple[str, ...]

    def measures(
        self,
        asked: tuple[str, ...] | None,
        message: str,
        has: set[str],
        new_names: Callable[[str], Any] = lambda _: (),
    ) -> tuple[str, ...]:
        """The measures of the reference that the table has; TableError for one asked in vain.

        ``has`` are its columns; ``new_names``: those to be added, which it must not have.
        """
        known = self.model.measures
        # An index by body size is made from its measure.
        columns = has | {m for m in known if (d := derived_measure(m)) and d.of in has}
        wanted = asked or tuple(m for m in known if m in columns)
        problems = []
        for name in wanted:
            if name not in known:
                problems.append(Problem(where=name, what="the reference has no such measure"))
            elif name not in columns:
                problems.append(Problem(where=name, what="the table has no such column"))
            problems += [
                Problem(
                    where=new, what="the table already has this column", fix="Rename or remove it."
                )
                for new in new_names(name)
                if new in columns
            ]
        if problems or not wanted:
            hint = f"The reference has {', '.join(known) or 'no measure with limits'}."
            raise TableError(message, hint=hint, problems=problems)
        return wanted


def _applied(
    reference: Path,
    table: Path,
    form: TableOptions,
    options: Callable[[ReferenceModel], ReferenceOptions],
) -> _Applied:
    """Read both; ``options`` of the reference say what of the table is checked and how."""
    file = table / MEASUREMENTS_NAME if table.is_dir() else table
    accepted = refuse_modified([reference, file], form.accept)
    document = read_json(reference)
    model = reference_model(document, reference.name)
    used = rows_options(options(model), form)
    # A measure of the user's own need not be in the table, unless it is named.
    columns = {*table_header(file, form), *form.columns} if used.numeric else ()
    used = replace(used, numeric=tuple(name for name in used.numeric if name in columns))
    rows = read_analysis_table(table, used)
    return _Applied(document=document, model=model, table=rows, accepted=accepted)


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


def run_score(
    reference: Path,
    table: Path,
    out: Path,
    options: ScoreOptions,
    columns: TableOptions,
    *,
    measures: tuple[str, ...] | None = None,
    overwrite: bool = False,
) -> ScoreOutcome:
    """Score the rows of a table and write it with the scores added.

    Raises UsageError (exit 2) and InputError (exit 3: nothing is written, all reasons counted).
    """
    check_file(out, table, suffix=".csv", overwrite=overwrite)
    # What is scored is checked as a reference's own values are.
    read = _applied(
        reference, table, columns, lambda m: ReferenceOptions(measures=measures or m.measures)
    )
    model, harmonised = read.model, with_derived(read.table, None)
    # The cells as they are in the file: harmonised ones are not written back.
    raw = read_any_table(table / MEASUREMENTS_NAME if table.is_dir() else table, form=columns)
    message = f"{table.name} cannot be scored by {reference.name}."
    has = {*map(str, harmonised.rows), *map(str, raw.columns)}
    measures = read.measures(measures, message, has, score_names)
    frame = with_derived(harmonised, measures).rows
    participants = NewParticipants.of(frame)
    found: dict[str, Scores] = {}
    for measure in measures:
        values = frame[measure].to_numpy(dtype=np.float64, na_value=np.nan)
        found[measure] = score_participants(model, measure, values, participants, options)
    # A value beyond the outer centiles of a nonparametric limit is an answer.
    if not any(s.scored or s.beyond.any() for s in found.values()):
        raise _no_score(found, model, table.name)
    write_text(out, _csv(raw, frame.index, found))
    failed = len(raw) - len(frame)
    far = {m: int(np.sum(np.abs(s.z) > FAR_Z)) for m, s in found.items()}
    unstated = [name for name in ("papillary", "model_id") if not model.conventions.get(name)]
    warning = f"The reference does not state {' and '.join(unstated)}: that could not be checked."
    return ScoreOutcome(
        rows=len(raw),
        scored={measure: scores.scored for measure, scores in found.items()},
        reasons={m: _reasons(s, failed) for m, s in found.items()},
        notice=model.notice,
        warnings=(
            *read.accepted,
            *harmonised.warnings,
            *(
                SeriousWarning(f"{m}: {count} rows have |z| > {FAR_Z:g}: check value and unit.")
                for m, count in far.items()
                if count
            ),
            *([warning] if unstated else []),
        ),
    )


def _no_score(found: Mapping[str, Scores], model: ReferenceModel, table: str) -> TableError:
    """The refusal where not one row can be scored, with every reason and its count."""
    problems = [
        Problem(where=measure, what=f"{count} rows: {reason}")
        for measure, scores in found.items()
        for reason, count in _reasons(scores, 0).items()
    ]
    hint = f"The reference is {model.name!r}."
    if any("is not stated" in p.what for p in problems):
        hint = (
            "A score means something only for values measured as the reference's were. If yours "
            "were, use --same-conventions."
        )
    return TableError(f"No row of {table} can be scored.", hint=hint, problems=problems)


def _reasons(scores: Scores, failed: int) -> dict[str, int]:
    """Rows without a score by reason; ages are not listed, so that reasons stay few."""
    counts = Counter(str(note) for note in scores.note[~np.isfinite(scores.z)])
    if failed:
        counts[FAILED] += failed
    return dict(sorted(counts.items()))


def _csv(raw: pd.DataFrame, rows: pd.Index, found: Mapping[str, Scores]) -> str:
    """The table's own cells as they were, then the new columns; ``rows`` are those scored."""

    def own(value: Any) -> Any:  # ``-5.20`` is a number, which needs no escape
        if isinstance(value, str) and value.startswith(("-", "+")):
            try:
                return float(value)
            except ValueError:
                return value
        return value

    place = raw.index.get_indexer(rows)
    names = [str(name) for name in raw.columns]
    columns = [[own(value) for value in raw[name]] for name in raw.columns]
    for measure, scores in found.items():
        new = ((scores.z, None), (scores.centile, None), (scores.note, FAILED))
        for name, (values, empty) in zip(score_names(measure), new, strict=True):
            column = np.full(len(raw), empty, dtype=object)
            column[place] = values
            names.append(name)
            columns.append(list(column))
    return csv_text(names, zip(*columns, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptOutcome:
    """How far each measure moved; ``notice`` of a reference that is not of healthy participants."""

    measures: tuple[Adaptation, ...]
    ci_level: float
    notice: str
    warnings: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {**asdict(self), "research_use": RESEARCH_USE}


def run_adapt(
    reference: Path,
    table: Path,
    out: Path,
    asked: AdaptOptions,
    columns: TableOptions,
    *,
    overwrite: bool = False,
) -> AdaptOutcome:
    """Adapt the reference to the controls of a table and write it.

    Raises UsageError (exit 2) and InputError (exit 3: nothing is written, all reasons given).
    """
    check_file(out, reference, suffix=".json", overwrite=overwrite)

    def options(model: ReferenceModel) -> ReferenceOptions:
        # The reference's own ages count, and not its groups.
        return ReferenceOptions(
            by=(),
            measures=asked.measures or model.measures,
            healthy_rule=asked.healthy_rule,
            use_visit=asked.use_visit,
            status=asked.status,
        )

    read = _applied(reference, table, columns, options)
    model, rows = read.model, with_derived(with_healthy(read.table, asked.healthy_rule), None)
    message = f"{reference.name} cannot be adapted to {table.name}."
    measures = read.measures(asked.measures, message, {*map(str, rows.rows)})
    rows = with_derived(rows, measures)
    if "healthy" not in rows.rows or not rows.rows["healthy"].notna().any():
        raise TableError(
            f"No row of {table.name} says whether its participant is healthy.",
            hint="A reference is adapted to healthy controls: map a column to `healthy`, or say by "
            "which rule all of them are: --healthy-rule TEXT.",
        )
    controls = select_participants(rows, options(model))
    adapted, found, warnings = adapt_reference(
        read.document,
        reference.name,
        NewParticipants.of(controls.frame),
        {measure: controls.values(measure) for measure in measures},
        same_conventions=asked.same_conventions,
        by_name=asked.measures is not None,
        site=rows.name,
    )
    adapted["healthy_rule"] = asked.healthy_rule or rows.healthy_rule or model.healthy_rule
    write_text(out, canonical_json(adapted))
    return AdaptOutcome(
        measures=found,
        ci_level=model.ci_level,
        notice=model.notice,
        warnings=(*read.accepted, *rows.warnings, *controls.warnings, *warnings),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOutcome:
    """Every published interval of our measures, with ours."""

    rows: tuple[Comparison, ...]
    notice: str
    warnings: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Intervals by verdict."""
        return dict(Counter(row.verdict for row in self.rows))

    def reasons(self) -> dict[str, int]:
        """Why intervals were not compared."""
        return dict(Counter(row.note for row in self.rows if row.verdict == "not-compared"))

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        names = record_columns(Comparison)
        return {
            "counts": self.counts(),
            "not_compared": self.reasons(),
            "rows": [{name: getattr(row, name) for name in names} for row in self.rows],
            "notice": self.notice,
            "warnings": self.warnings,
            "research_use": RESEARCH_USE,
        }


def run_compare_limits(  # noqa: PLR0913 - the options of the command
    reference: Path,
    against: Path,
    *,
    preset: str | None = None,
    out: Path | None = None,
    kind: Kind = "marginal",
    same_conventions: bool = False,
    accept: tuple[str, ...] = (),
    overwrite: bool = False,
) -> CompareOutcome:
    """Compare with a file of published limits, or the folder of a ``preset``; only ``out`` is new.

    Raises UsageError (exit 2) and InputError (3: nothing could be compared, and why).
    """
    file = against if preset is None else against / f"{preset}.csv"
    if out is not None:
        check_file(out, file, suffix=".csv", overwrite=overwrite)
    accepted = refuse_modified([reference], accept)
    model = reference_model(read_json(reference), reference.name)
    read = hhc2024 if preset == HHC2024 else published_limits
    published = read(read_any_table(file), file.name)
    if (model.level, model.sided) != (LEVEL, "two"):
        raise TableError(
            f"{reference.name} has {model.sided}-sided limits at level {model.level:g}.",
            hint=f"Published intervals are two-sided at {LEVEL:g}: make the reference so.",
        )
    rows = compare_limits(model, published, kind=kind, same_conventions=same_conventions)
    found = CompareOutcome(rows=rows, notice=model.notice, warnings=accepted)
    reasons = found.reasons()
    if not rows:
        theirs = ", ".join(sorted({row.measure for row in published}))
        raise TableError(
            f"{reference.name} has none of the published measures.", hint=f"Published: {theirs}."
        )
    if set(found.counts()) == {"not-compared"}:
        unstated = any("is not stated" in reason for reason in reasons)
        raise TableError(
            f"Not one published interval can be compared with {reference.name}.",
            hint="Limits of unknown conventions are not comparable. If yours are as theirs, use "
            "--same-conventions."
            if unstated
            else "See the reasons above.",
            problems=[Problem(where=f"{n} intervals", what=why) for why, n in reasons.items()],
        )
    if out is not None:
        write_text(out, records_csv(Comparison, rows))
    return found
