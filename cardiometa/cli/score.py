"""``cardiometa score``: z scores and centiles of new participants from a reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from ..cohort.models import TableOptions
from ..options import Output
from ..reference.options import ScoreOptions
from .command import OutFile, Reference, Run, Table, command
from .output import say, show_json, show_table, show_warnings


@command
def score(
    reference: Reference,
    table: Table,
    out: OutFile,
    *,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="Measure (default: all of the reference). Repeatable.", metavar="TEXT"),
    ],
    options: ScoreOptions,
    columns: TableOptions,
    run: Run,
    output: Output,
) -> None:
    """Add z score and centile of every measure to a table, by the curve, else by the age band.

    Outside the ages of the reference, or for values of another model or convention, the score is
    empty and the column MEASURE_score_note gives the reason. Research use only.
    """
    from ..commands.score import ScoreRequest, run_score

    found = run_score(
        ScoreRequest(
            reference=reference,
            table=table,
            out=out,
            options=options,
            table_options=replace(columns, columns=run.columns),
            measures=tuple(measure) if measure else None,
            overwrite=output.overwrite,
        )
    )
    if output.json:
        show_json(found.document())
        return
    quiet = output.quiet
    show_warnings(found.warnings, quiet=quiet)
    if found.notice:
        say(f"note: the reference is a {found.notice}.", quiet=quiet)
    show_table(
        ("measure", "rows", "scored"),
        [(m, str(found.rows), str(scored)) for m, scored in found.scored.items()],
        quiet=quiet,
    )
    for name, reasons in found.reasons.items():
        for reason, count in reasons.items():
            say(f"{name}: {count} row{'s' * (count > 1)} without a score: {reason}", quiet=quiet)
    say(f"scores: {out}", quiet=quiet)
    say("Research use only; not a medical device.", quiet=quiet)
