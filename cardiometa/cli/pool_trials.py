"""``pool-trials``: trials to one pooled effect; ``summarise``: a site's sums; ``plan``: power."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from ..cohort.models import TableOptions
from ..options import ErrorModel, Export, Option, Output
from ..pooling.options import MODEL_FIELDS, PlanInput, PlanOptions, PoolingOptions, Presentation
from .command import Only, Out, Run, Table, command
from .output import say, show_json, show_text, show_warnings, terminal_width

_Summarised = Annotated[PoolingOptions, Only(*MODEL_FIELDS, "min_cell", required=("outcome",))]


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherInput(ErrorModel):
    """What is pooled besides the table."""

    also_summaries: Annotated[
        Path | None,
        Option(
            help="Further trials as a table: trial,estimate,se[,n] (or ci_low,ci_high).",
            exists="file",
            metavar="FILE",
        ),
    ] = None


@command
def pool_trials(
    tables: Annotated[
        list[Path],
        typer.Argument(
            help="Output folder of segment, a participant table (or several, one per trial), a "
            "cohort.toml without images, a table of trial estimates (trial, estimate, se), or "
            "site summaries (*.json).",
            exists=True,
            metavar="TABLE",
        ),
    ],
    out: Out,
    options: PoolingOptions,
    other: OtherInput,
    presentation: Presentation,
    columns: TableOptions,
    run: Run,
    *,
    export: Export,
    output: Output,
) -> None:
    """Pool a randomised treatment effect over trials, in two stages and in one.

    Prints a table for a paper. The results are effects.csv, heterogeneity.csv, forest plots and
    report.html. Research use only.
    """
    from ..commands.pool_trials import PoolRequest, run_pool_trials

    by = run.prespecified.get("by", ())
    names = by.split(",") if isinstance(by, str) else by
    # The sites' summaries decide some options themselves.
    asked = (name for name in MODEL_FIELDS if {name, name.removesuffix("_column")} & run.given)
    request = PoolRequest.of_rows(
        tables,
        replace(options, prespecified=tuple(str(name).strip() for name in names)),
        replace(columns, columns=run.columns),
        asked=tuple(asked),
        also_summaries=other.also_summaries,
        error_model=other.error_model,
        presentation=presentation,
        plan_sha256=run.sha256,
        departures=run.departures,
    )
    found = run_pool_trials(request, out, overwrite=output.overwrite, export=export.export)
    quiet = output.quiet
    run.report(quiet=quiet)
    if output.json:
        show_json(found.document())
    elif not quiet:
        show_text(found.text(verbose=output.verbose, width=terminal_width()))
    show_warnings(found.warnings, quiet=quiet, verbose=False)
    say(f"effects: {out / 'effects.csv'}", quiet=quiet)
    say(f"report:  {out / 'report.html'}", quiet=quiet)


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
    from ..commands.summarise import run_summarise

    done = run_summarise(
        table,
        out,
        options,
        replace(columns, columns=run.columns),
        ledger_path=ledger,
        plan_sha256=run.sha256,
        overwrite=output.overwrite,
    )
    show_warnings(done.warnings, quiet=output.quiet)
    if output.json:
        show_json(done.document)
    elif not output.quiet:
        show_text(done.text)
    say(f"summary: {out}", quiet=output.quiet)


@command
def plan(
    source: Annotated[
        Path,
        typer.Argument(
            help="Table of planned trials (trial, n_control, n_active, sd, correlation; "
            "modifier_sd or modifier_share; tau), or an output folder of pool-trials.",
            exists=True,
            metavar="TABLE",
        ),
    ],
    out: Out,
    options: Annotated[PlanOptions, Only(required=("difference",))],
    read: PlanInput,
    run: Run,
    output: Output,
) -> None:
    """Power and expected width of a planned pooled analysis: main effect and interaction.

    From a table of trials, or from an output: what one more trial would add. With and without the
    model's error. Writes plan.csv, plan_trials.csv and report.html. Research use only.
    """
    from ..commands.plan import plan_text, run_plan

    found = run_plan(source, options, read, out, overwrite=output.overwrite)
    run.report(quiet=output.quiet)
    show_warnings(found.warnings, quiet=output.quiet)
    if output.json:
        show_json(found.document())
    elif not output.quiet:
        show_text(plan_text(found))
    say(f"plan:   {out / 'plan.csv'}", quiet=output.quiet)
    say(f"report: {out / 'report.html'}", quiet=output.quiet)
