"""``cardiometa summarise``: a site's sums for federated pooling, without individual-level data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..cohort.models import TableOptions
from ..options import Output
from ..pooling.options import MODEL_FIELDS, PoolingOptions
from .command import Only, Run, Table, command
from .output import say, show_json, show_text, show_warnings

_Summarised = Annotated[PoolingOptions, Only(*MODEL_FIELDS, "min_cell", required=("outcome",))]


@command
def summarise(
    table: Table,
    out: Annotated[
        Path, typer.Option("--out", help="File to write: site.json. \\[required]", metavar="FILE")
    ],
    options: _Summarised,
    ledger: Annotated[
        Path | None,
        typer.Option(
            help="Ledger of the site (default: cardiometa-ledger.json in the folder of --out).",
            show_default=False,
            metavar="FILE",
        ),
    ],
    columns: TableOptions,
    run: Run,
    output: Output,
) -> None:
    """Write the sums of this site's trials, to be pooled elsewhere without their rows.

    Small cells are refused and listed; the site's ledger refuses a second summary that would
    disclose a few participants by subtraction. Research use only.
    """
    from ..commands.summarise import SummariseRequest, run_summarise

    done = run_summarise(
        SummariseRequest(
            table=table,
            out=out,
            options=options,
            table_options=replace(columns, columns=run.columns),
            ledger=ledger,
            plan_sha256=run.sha256,
            overwrite=output.overwrite,
        )
    )
    show_warnings(done.warnings, quiet=output.quiet)
    if output.json:
        show_json(done.document)
    elif not output.quiet:
        show_text(done.text)
    say(f"summary: {out}", quiet=output.quiet)
