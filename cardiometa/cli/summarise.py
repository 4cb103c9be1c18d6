"""``cardiometa summarise``: a site's sums for federated pooling, nothing of a single person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    AgeColumn,
    ArmColumn,
    BaselineColumn,
    BaselineVisitOption,
    ConfigOption,
    EthnicityColumn,
    FollowupDayOption,
    FollowupVisitOption,
    JsonOption,
    OverwriteOption,
    ParticipantColumn,
    QuietOption,
    SexColumn,
    TrialColumn,
    VerboseOption,
    VisitColumn,
    VisitDayColumn,
    WindowOption,
    comma_list,
    guard,
    plan_of,
)
from .output import say, show_json, show_text
from .pool_trials import ages


def summarise(
    ctx: typer.Context,
    table: Annotated[
        Path,
        typer.Argument(help="OUT of segment, its measurements.csv, or any table.", exists=True),
    ],
    out: Annotated[Path, typer.Option("--out", help="The file to write: site.json.")],
    *,
    outcome: Annotated[str, typer.Option(help="The measure, such as lv_ef_percent.")],
    effect: Annotated[
        str, typer.Option(help="mean-difference (ANCOVA), change or follow-up.")
    ] = "mean-difference",
    baseline_visit: BaselineVisitOption = "baseline",
    followup_visit: FollowupVisitOption = None,
    followup_day: FollowupDayOption = None,
    window: WindowOption = None,
    baseline: BaselineColumn = None,
    adjust: Annotated[
        str, typer.Option(help="Covariates of each trial's model: age,sex,…", show_default=False)
    ] = "",
    by: Annotated[
        str, typer.Option(help="Effect modifiers: sex,ethnicity,age,…", show_default=False)
    ] = "",
    age_bands: Annotated[
        str, typer.Option(help="Bands of ages for --by age; the last is open.")
    ] = "18,30,40,50,60,70",
    missing_baseline: Annotated[
        str, typer.Option(help="mean of the trial over both arms, or complete cases.")
    ] = "mean",
    status: Annotated[
        str, typer.Option(help="all; ok leaves out the rows marked for review.")
    ] = "all",
    control: Annotated[str, typer.Option(help="The reference arm.")] = "control",
    min_cell: Annotated[
        int, typer.Option(help="No cell of fewer people leaves the site.", min=1)
    ] = 10,
    ledger: Annotated[
        Path | None,
        typer.Option(
            help="The site's ledger (cardiometa-ledger.json beside --out).", show_default=False
        ),
    ] = None,
    trial: TrialColumn = None,
    participant: ParticipantColumn = None,
    age: AgeColumn = None,
    sex: SexColumn = None,
    ethnicity: EthnicityColumn = None,
    arm: ArmColumn = None,
    visit: VisitColumn = None,
    visit_day: VisitDayColumn = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write the sums of this site's trials, to be pooled elsewhere without their rows.

    Cells of few people are refused and listed; a ledger at the site refuses a second summary that
    would tell about a few people by subtraction. Research use only.
    """
    del config
    with guard(verbose=verbose):
        from ..cohort.models import TableOptions
        from ..commands.summarise import SummariseRequest, run_summarise
        from ..pooling.options import PoolingOptions

        plan = plan_of(ctx)
        done = run_summarise(
            SummariseRequest(
                table=table,
                out=out,
                options=PoolingOptions(
                    outcome=outcome,
                    effect=effect,
                    baseline_visit=baseline_visit,
                    followup_visit=followup_visit,
                    followup_day=followup_day,
                    window=window,
                    baseline_column=baseline,
                    adjust=comma_list(adjust),
                    by=comma_list(by),
                    age_bands=ages(age_bands),
                    missing_baseline=missing_baseline,
                    status=status,
                    control=control,
                    min_cell=min_cell,
                ),
                table_options=TableOptions(
                    trial=trial,
                    participant=participant,
                    age=age,
                    sex=sex,
                    ethnicity=ethnicity,
                    arm=arm,
                    visit=visit,
                    visit_day=visit_day,
                    columns={} if plan is None else plan.columns,
                    numeric=tuple(name for name in (outcome, baseline) if name),
                ),
                ledger=ledger,
                plan_sha256=None if plan is None else plan.sha256,
                overwrite=overwrite,
            )
        )
        if json:
            show_json(done.document)
        elif not quiet:
            show_text(done.text)
        say(f"summary: {out}", quiet=quiet)
