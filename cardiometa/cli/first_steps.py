"""First steps: ``cardiometa demo``, ``init``, ``check`` and ``doctor``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..cohort.models import CohortOptions
from ..errors import UsageError
from ..files import write_text
from ..options import Output
from .command import Only, command
from .output import Progress, say, show_json, show_table, show_text

if TYPE_CHECKING:
    from ..cohort.load import CheckReport

_Printing = Annotated[Output, Only("json", "quiet", "verbose")]


@command
def demo(
    output: _Printing,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the results.", metavar="FOLDER")
    ] = Path("cardiometa-demo"),
    seed: Annotated[int, typer.Option(help="Random seed.", metavar="N")] = 1,
    workers: Annotated[
        int,
        typer.Option(
            help="Worker processes (0: one per core). Does not change results.", min=0, metavar="N"
        ),
    ] = 0,
    examples: Annotated[
        Path | None,
        typer.Option(
            "--examples",
            help="Write the worked examples and tutorials to this folder, and nothing else.",
            metavar="FOLDER",
        ),
    ] = None,
) -> None:
    """Make a synthetic cohort with images, run the main commands, compare with the truth."""
    from ..demo.run import run_demo, write_examples

    quiet = output.quiet
    if examples is not None:
        names = write_examples(examples)
        if output.json:
            show_json({"examples": names})
        say(f"Wrote {', '.join(names)} to {examples}.", quiet=quiet)
        say(f"A page for a start: {examples / 'tutorials'}", quiet=quiet)
        return
    outcome = run_demo(out, seed=seed, workers=workers, say=lambda line: say(line, quiet=quiet))
    lines = [(c.what, c.found, c.truth) for c in outcome.comparisons]
    if output.json:
        show_json(
            {
                "seconds": outcome.seconds,
                "report": "report.html",
                "comparisons": [{"what": w, "found": f, "truth": t} for w, f, t in lines],
            }
        )
    say("estimates from the synthetic data, and the truth:", quiet=quiet)
    for what, found, truth in lines:
        say(f"  {what}: {found} (truth: {truth})", quiet=quiet)
    say("What they teach, and why an interval can be wider: in the report.", quiet=quiet)
    say(f"done in {outcome.seconds:.0f} s; report: {out / 'report.html'}", quiet=quiet)


@command
def init(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Folder with the tables and images of the trials; or a table, or one per trial.",
            metavar="FOLDER|TABLE",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="File to write, such as cohort.toml or columns.toml.", metavar="FILE"
        ),
    ],
    output: Annotated[Output, Only("quiet", "verbose")],
) -> None:
    """Print or write a first cohort.toml, or for a table a --config; every guess has a comment."""
    from ..cohort.init import first_config, first_definition

    is_folder = len(paths) == 1 and not paths[0].is_file()
    if out is not None and out.exists():
        raise UsageError(
            f"{out.name} already exists.", hint="Name another file, or remove it first."
        )
    if is_folder:
        text = first_definition(paths[0], None if out is None else out.parent)
    else:
        text = first_config(paths, out)
    if out is None:
        show_text(text)
        return
    write_text(out, text)
    then = f"run: cardiometa check {out}" if is_folder else "use it as its first lines say"
    say(f"Wrote {out.name}. Check each guess, then {then}.", quiet=output.quiet)


@command
def check(
    cohort: Annotated[
        Path,
        typer.Argument(
            help="cohort.toml, a folder of trials, one scan, or a table.", metavar="COHORT"
        ),
    ],
    source: CohortOptions,
    output: _Printing,
) -> None:
    """Read all tables and image headers of a cohort and print every problem at once."""
    from ..cohort.load import check_cohort

    with Progress("headers", quiet=output.quiet or output.json) as progress:
        report = check_cohort(cohort, source, watch=progress.step)
    if output.json:
        show_json({"usable": not report.problems, **asdict(report)})
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
    if count := len(report.problems):
        say(f"{count} problem{'' if count == 1 else 's'}: the cohort cannot be used as it is.")
    else:
        say("No problem found; nothing was written.", quiet=quiet)


@command
def doctor(output: Annotated[Output, Only("json", "verbose")]) -> None:
    """Check this machine's setup: torch, device, decoders and memory, with advice for each."""
    from ..commands.doctor import examine

    findings = examine()
    if output.json:
        show_json([asdict(finding) for finding in findings])
        return
    show_table(("what", "found"), [(f.what, f.found) for f in findings])
    for one in findings:
        if one.advice:
            say(f"{one.what}: {one.advice}")
    if not any(one.advice for one in findings):
        say("All is well.")
