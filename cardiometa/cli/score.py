"""``cardiometa score``: z scores and centiles of new people from a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    AgeColumn,
    ConfigOption,
    EthnicityColumn,
    JsonOption,
    OverwriteOption,
    ParticipantColumn,
    QuietOption,
    SexColumn,
    TrialColumn,
    VerboseOption,
    VisitColumn,
    VisitDayColumn,
    guard,
    one_of,
    plan_of,
)
from .output import say, show_json, show_table

if TYPE_CHECKING:
    from ..commands.score import ScoreOutcome


def _show(found: ScoreOutcome, out: Path, *, quiet: bool) -> None:
    for warning in found.warnings:
        say(f"note: {warning}", quiet=quiet)
    if found.notice:
        say(f"note: the reference is a {found.notice}.", quiet=quiet)
    show_table(
        ("measure", "rows", "scored"),
        [(m, str(found.rows), str(scored)) for m, scored in found.scored.items()],
        quiet=quiet,
    )
    for measure, reasons in found.reasons.items():
        for reason, count in reasons.items():
            say(f"{measure}: {count} row{'s' * (count > 1)} without a score: {reason}", quiet=quiet)
    say(f"scores: {out}", quiet=quiet)
    say("Research use only; not a medical device.", quiet=quiet)


def score(
    ctx: typer.Context,
    reference: Annotated[
        Path, typer.Argument(help="reference_ranges.json.", exists=True, dir_okay=False)
    ],
    table: Annotated[
        Path,
        typer.Argument(help="OUT of segment, its measurements.csv, or any table.", exists=True),
    ],
    out: Annotated[Path, typer.Option("--out", help="CSV to write.", show_default=False)],
    *,
    measure: Annotated[
        list[str] | None, typer.Option(help="A measure (repeat); default all of the reference.")
    ] = None,
    kind: Annotated[
        str, typer.Option(help="marginal (a person of any trial), conditional or population.")
    ] = "marginal",
    limits_of: Annotated[
        str, typer.Option(help="own: by the person's ethnicity; all: by everybody's limits.")
    ] = "own",
    same_conventions: Annotated[
        bool,
        typer.Option(
            "--same-conventions",
            help="What the table does not state (papillary, model …) is as in the reference.",
        ),
    ] = False,
    trial: TrialColumn = None,
    participant: ParticipantColumn = None,
    age: AgeColumn = None,
    sex: SexColumn = None,
    ethnicity: EthnicityColumn = None,
    visit: VisitColumn = None,
    visit_day: VisitDayColumn = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Add z score and centile of every measure to a table, by the curve, else by the age band.

    Outside the ages of the reference, or for values of another model or convention, there is no
    number, and the column MEASURE_score_note says why. Research use only.
    """
    del config
    with guard(verbose=verbose):
        from ..cohort.models import TableOptions
        from ..commands.score import ScoreRequest, run_score
        from ..reference.model import ScoreOptions

        plan = plan_of(ctx)
        found = run_score(
            ScoreRequest(
                reference=reference,
                table=table,
                out=out,
                options=ScoreOptions(
                    kind=one_of("--kind", kind, ("marginal", "conditional", "population")),  # type: ignore[arg-type]
                    ethnicity=one_of("--limits-of", limits_of, ("own", "all")),  # type: ignore[arg-type]
                    same_conventions=same_conventions,
                ),
                table_options=TableOptions(
                    trial=trial,
                    participant=participant,
                    age=age,
                    sex=sex,
                    ethnicity=ethnicity,
                    visit=visit,
                    visit_day=visit_day,
                    columns=plan.columns if plan else {},
                ),
                measures=tuple(measure) if measure else None,
                overwrite=overwrite,
            )
        )
        if json:
            show_json(found.document())
            return
        _show(found, out, quiet=quiet)
