"""``cardiometa adapt``: a reference and a site's healthy controls in, the site's reference out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..cohort.analysis_table import MEASUREMENTS_NAME, read_analysis_table
from ..cohort.models import TableOptions
from ..cohort.read_table import read_any_table
from ..errors import Problem, TableError, UsageError
from ..files import canonical_json, read_json, write_text
from ..manifest import RESEARCH_USE, refuse_modified
from ..measurement.indexing import derived_measure
from ..reference.adapt import Adaptation, adapt_reference
from ..reference.model import NewParticipants, reference_model
from ..reference.options import AdaptOptions, ReferenceOptions
from ..reference.select import rows_options, select_participants, with_derived, with_healthy


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptRequest:
    """What a user asks for."""

    reference: Path
    table: Path
    out: Path
    options: AdaptOptions
    table_options: TableOptions
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptOutcome:
    """How far each measure moved; ``notice`` of a reference that is not of healthy participants."""

    measures: tuple[Adaptation, ...]
    ci_level: float
    notice: str
    warnings: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "measures": [asdict(one) for one in self.measures],
            "ci_level": self.ci_level,
            "notice": self.notice,
            "warnings": list(self.warnings),
            "research_use": RESEARCH_USE,
        }


def run_adapt(request: AdaptRequest) -> AdaptOutcome:
    """Adapt the reference to the controls of a table and write it.

    Raises UsageError (exit 2) and InputError (exit 3: nothing is written, all reasons given).
    """
    out, asked = request.out, request.options
    if out.suffix.lower() != ".json":
        raise UsageError(f"--out {out.name} is not a .json file.", hint="Use --out NAME.json.")
    if out.exists() and out.samefile(request.reference):
        raise UsageError(f"--out {out.name} is the reference.", hint="Inputs are not changed.")
    if out.exists() and not request.overwrite:
        raise UsageError(f"{out.name} exists.", hint="Choose another name, or use --overwrite.")
    file = request.table / MEASUREMENTS_NAME if request.table.is_dir() else request.table
    accepted = refuse_modified([request.reference, file], request.table_options.accept)
    document = read_json(request.reference)
    model = reference_model(document, request.reference.name)
    columns = {str(name) for name in read_any_table(file, form=request.table_options).columns}
    options = ReferenceOptions(
        measures=asked.measures or model.measures,
        healthy_rule=asked.healthy_rule,
        use_visit=asked.use_visit,
        status=asked.status,
    )
    form = rows_options(options, request.table_options)
    known = columns | set(request.table_options.columns)
    form = replace(form, numeric=tuple(name for name in form.numeric if name in known))
    table = read_analysis_table(request.table, form)
    table = with_derived(with_healthy(table, asked.healthy_rule), None)
    measures = _measures(model.measures, known | {str(name) for name in table.rows}, request)
    table = with_derived(table, measures)
    if "healthy" not in table.rows or not table.rows["healthy"].notna().any():
        raise TableError(
            f"No row of {request.table.name} says whether its participant is healthy.",
            hint="A reference is adapted to healthy controls: map a column to `healthy`, or say by "
            "which rule all of them are: --healthy-rule TEXT.",
        )
    controls = select_participants(table, options)
    adapted, found, warnings = adapt_reference(
        document,
        request.reference.name,
        NewParticipants.of(controls.frame),
        {measure: controls.values(measure) for measure in measures},
        same_conventions=asked.same_conventions,
        by_name=asked.measures is not None,
        site=table.name,
    )
    adapted["healthy_rule"] = asked.healthy_rule or table.healthy_rule or model.healthy_rule
    write_text(out, canonical_json(adapted))
    return AdaptOutcome(
        measures=found,
        ci_level=model.ci_level,
        notice=model.notice,
        warnings=(*accepted, *table.warnings, *controls.warnings, *warnings),
    )


def _measures(known: tuple[str, ...], columns: set[str], request: AdaptRequest) -> tuple[str, ...]:
    """The measures of the reference that the table has; TableError where one asked for is not."""
    columns |= {m for m in known if (d := derived_measure(m)) and d.of in columns}
    wanted = request.options.measures or tuple(m for m in known if m in columns)
    problems = [
        Problem(where=name, what=f"the {who} has no such measure")
        for name in wanted
        for who, there in (("reference", known), ("table", columns))
        if name not in there
    ]
    if problems or not wanted:
        raise TableError(
            f"{request.reference.name} cannot be adapted to {request.table.name}.",
            hint=f"The reference has {', '.join(known) or 'no measure with limits'}.",
            problems=problems,
        )
    return wanted
