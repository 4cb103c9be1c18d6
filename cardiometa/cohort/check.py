"""Check a cohort without writing anything: all tables, and the headers of all images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import CohortError, Problem
from .load import draft_cohort
from .models import Cohort, CohortOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """Every problem of a cohort; ``summary`` has plain values (counts by trial)."""

    problems: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)


def check_cohort(
    path: Path,
    options: CohortOptions | None = None,
    *,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> CheckReport:
    """Read all of the cohort but the pixels; ``watch`` is told (scans looked at, all scans).

    Tables that cannot be used do not keep the images from being looked at.
    """
    options = options or CohortOptions()
    try:
        draft = draft_cohort(path, options)
    except CohortError as error:
        single = Problem(where=path.name, what=error.message.rstrip("."), fix=error.hint)
        return CheckReport(problems=error.problems or (single,))
    problems = list(draft.problems)
    cohort = draft.cohort
    if cohort is None:
        return CheckReport(problems=tuple(problems))
    problems += _header_problems(cohort, watch)
    return CheckReport(
        problems=tuple(problems),
        warnings=cohort.warnings,
        notes=cohort.notes,
        summary=_summary(cohort),
    )


def _header_problems(cohort: Cohort, watch: Callable[[int, int], None]) -> list[Problem]:
    from ..imaging.discovery import inspect_headers

    problems = []
    for number, scan in enumerate(cohort.scans, 1):
        problems += [
            replace(problem, where=f"{scan.key}") for problem in inspect_headers(scan.source)
        ]
        watch(number, len(cohort.scans))
    return problems


def _summary(cohort: Cohort) -> dict[str, Any]:
    people = cohort.participants
    trials = []
    for trial in cohort.trials:
        rows = people[people["trial"].eq(trial.name)]
        scans = [scan for scan in cohort.scans if scan.key.trial == trial.name]
        visits: dict[str, int] = {}
        for scan in scans:
            visits[scan.key.visit] = visits.get(scan.key.visit, 0) + 1
        trials.append(
            {
                "trial": trial.name,
                "randomised": trial.randomised,
                "participants": len(rows),
                "scanned": len({scan.key.participant for scan in scans}),
                "scans": len(scans),
                "visits": visits,
                "arms": {str(k): int(v) for k, v in rows["arm"].value_counts().items()},
                "unknown": {
                    name: int(rows[name].isna().sum())
                    for name in ("age_years", "sex", "ethnicity", "height_cm", "weight_kg")
                },
            }
        )
    return {
        "cohort": cohort.name,
        "trials": trials,
        "participants": len(people),
        "scans": len(cohort.scans),
        "not_obtained": len(cohort.not_obtained),
    }
