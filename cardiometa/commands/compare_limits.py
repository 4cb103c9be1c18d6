"""``cardiometa compare-limits``: a reference and published limits in, the comparison out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cohort.read_table import read_any_table
from ..errors import Problem, TableError
from ..files import check_csv, read_json, record_columns, records_csv, write_text
from ..manifest import RESEARCH_USE, refuse_modified
from ..reference.compare_published import (
    HHC2024,
    LEVEL,
    Comparison,
    compare_limits,
    hhc2024,
    published_limits,
)
from ..reference.model import reference_model
from ..reference.options import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """What a user asks for: ``against`` a file of published limits, or a folder by ``preset``."""

    reference: Path
    against: Path
    preset: str | None = None
    out: Path | None = None
    kind: Kind = "marginal"
    same_conventions: bool = False
    accept: tuple[str, ...] = ()
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOutcome:
    """Every published interval of our measures, with ours."""

    rows: tuple[Comparison, ...]
    level: float
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


def run_compare_limits(request: CompareRequest) -> CompareOutcome:
    """Compare; nothing is written but ``out``.

    Raises UsageError (exit 2) and InputError (3: nothing could be compared, and why).
    """
    out = request.out
    file = request.against
    if request.preset is not None:
        file = file / f"{request.preset}.csv"
    if out is not None:
        check_csv(out, file, overwrite=request.overwrite)
    accepted = refuse_modified([request.reference], request.accept)
    model = reference_model(read_json(request.reference), request.reference.name)
    table = read_any_table(file)
    read = hhc2024 if request.preset == HHC2024 else published_limits
    published = read(table, file.name)
    if (model.level, model.sided) != (LEVEL, "two"):
        raise TableError(
            f"{request.reference.name} has {model.sided}-sided limits at level {model.level:g}.",
            hint=f"Published intervals are two-sided at {LEVEL:g}: make the reference so.",
        )
    rows = compare_limits(
        model, published, kind=request.kind, same_conventions=request.same_conventions
    )
    found = CompareOutcome(rows=rows, level=model.level, notice=model.notice, warnings=accepted)
    _check_any(found, request, {row.measure for row in published})
    if out is not None:
        write_text(out, records_csv(Comparison, rows))
    return found


def _check_any(found: CompareOutcome, request: CompareRequest, theirs: set[str]) -> None:
    if any(row.verdict != "not-compared" for row in found.rows):
        return
    reasons = found.reasons()
    name = request.reference.name
    if not reasons:
        raise TableError(
            f"{name} has none of the published measures.",
            hint=f"Published: {', '.join(sorted(theirs))}.",
        )
    unstated = any("is not stated" in reason for reason in reasons)
    raise TableError(
        f"Not one published interval can be compared with {name}.",
        hint=(
            "Limits of unknown conventions are not comparable. If yours are as theirs, use "
            "--same-conventions."
            if unstated
            else "See the reasons above."
        ),
        problems=[
            Problem(where=f"{count} intervals", what=reason) for reason, count in reasons.items()
        ],
    )
