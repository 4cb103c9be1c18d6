"""``cardiometa check``: every problem of a cohort at once, nothing written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..cohort.models import CohortOptions
from ..options import Output
from .command import CohortArgument, Only, command
from .output import ProgressCallbacks, say, show_json, show_table

if TYPE_CHECKING:
    from ..cohort.load import CheckReport


@command
def check(
    cohort: CohortArgument,
    source: CohortOptions,
    output: Annotated[Output, Only("json", "quiet", "verbose")],
) -> None:
    """Read all tables and image headers of a cohort and print every problem at once."""
    from ..cohort.load import check_cohort

    with ProgressCallbacks("headers", quiet=output.quiet or output.json) as progress:
        report = check_cohort(cohort, source, watch=progress.step)
    if output.json:
        show_json(
            {
                "usable": not report.problems,
                "problems": [
                    {"where": p.where, "what": p.what, "why": p.why, "fix": p.fix}
                    for p in report.problems
                ],
                "warnings": list(report.warnings),
                "notes": list(report.notes),
                "summary": report.summary,
            }
        )
    else:
        _show(report, quiet=output.quiet)
    if report.problems:
        raise typer.Exit(3)


def _show(report: CheckReport, *, quiet: bool) -> None:
    for problem in report.problems:
        say(f"problem: {problem}")
    for warning in report.warnings:
        say(f"warning: {warning}", quiet=quiet)
    for note in report.notes:
        say(f"note: {note}", quiet=quiet)
    trials = report.summary.get("trials", [])
    if trials:
        names = ("trial", "participants", "scanned", "scans")
        show_table(
            (*names, "visits", "arms"),
            [
                (
                    *(str(trial[name]) for name in names),
                    *(
                        ", ".join(f"{name} {count}" for name, count in trial[key].items())
                        for key in ("visits", "arms")
                    ),
                )
                for trial in trials
            ],
            quiet=quiet,
        )
    count = len(report.problems)
    if count:
        say(f"{count} problem{'' if count == 1 else 's'}: the cohort cannot be used as it is.")
    else:
        say("No problem found; nothing was written.", quiet=quiet)
