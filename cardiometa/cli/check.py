"""``cardiometa check``: every problem of a cohort at once, nothing written."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import JsonOption, QuietOption, VerboseOption, guard, root_folders
from .output import Progress, say, show_json, show_table

if TYPE_CHECKING:
    from ..cohort.check import CheckReport


def check(
    cohort: Annotated[
        Path, typer.Argument(help="cohort.toml, a folder of trials, or one scan.", exists=False)
    ],
    *,
    root: Annotated[
        list[str] | None,
        typer.Option("--root", help="TRIAL=DIR: where its image paths start.", show_default=False),
    ] = None,
    ids_are_pseudonyms: Annotated[
        bool, typer.Option("--ids-are-pseudonyms", help="The folders' names are no identities.")
    ] = False,
    pseudonymise: Annotated[
        Path | None,
        typer.Option("--pseudonymise", help="Key file: ids become a keyed HMAC."),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Read all tables and image headers of a cohort and print every problem at once."""
    with guard(verbose=verbose):
        from ..cohort.check import check_cohort
        from ..cohort.models import CohortOptions

        with ExitStack() as stack:
            bar: list[Progress] = []

            def watch(_done: int, total: int) -> None:
                if not bar:
                    progress = Progress(total, "headers", quiet=quiet or json)
                    bar.append(stack.enter_context(progress))
                bar[0].advance()

            report = check_cohort(
                cohort,
                CohortOptions(
                    root_overrides=root_folders(root or []),
                    ids_are_pseudonyms=ids_are_pseudonyms,
                    pseudonymise_key=pseudonymise,
                ),
                watch=watch,
            )
        if json:
            show_json(_plain(report))
        else:
            _show(report, quiet=quiet)
        if report.problems:
            raise typer.Exit(3)


def _plain(report: CheckReport) -> dict[str, object]:
    return {
        "usable": not report.problems,
        "problems": [
            {"where": p.where, "what": p.what, "why": p.why, "fix": p.fix} for p in report.problems
        ],
        "warnings": list(report.warnings),
        "notes": list(report.notes),
        "summary": report.summary,
    }


def _show(report: CheckReport, *, quiet: bool) -> None:
    for problem in report.problems:
        say(f"problem: {problem}")
    for warning in report.warnings:
        say(f"look at: {warning}", quiet=quiet)
    for note in report.notes:
        say(f"note: {note}", quiet=quiet)
    trials = report.summary.get("trials", [])
    if trials:
        show_table(
            ("trial", "participants", "scanned", "scans", "visits", "arms"),
            [
                (
                    trial["trial"],
                    str(trial["participants"]),
                    str(trial["scanned"]),
                    str(trial["scans"]),
                    ", ".join(f"{name} {count}" for name, count in trial["visits"].items()),
                    ", ".join(f"{name} {count}" for name, count in trial["arms"].items()),
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
