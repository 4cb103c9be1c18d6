"""``cardiometa pool-trials``: randomised trials to one pooled effect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
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
    OutOption,
    OverwriteOption,
    ParticipantColumn,
    Plan,
    QuietOption,
    SexColumn,
    TrialColumn,
    VerboseOption,
    VisitColumn,
    VisitDayColumn,
    WindowOption,
    comma_list,
    departures,
    guard,
    plan_of,
)
from .output import say, show_json, show_text


def _are_sites(tables: list[Path]) -> bool:
    return all(path.suffix.lower() == ".json" for path in tables)


def _one_table(tables: list[Path]) -> Path:
    """The only table; the first of several files of sites."""
    if len(tables) > 1 and not _are_sites(tables):
        raise UsageError(
            f"{len(tables)} tables were given.",
            hint="Put all trials into one table; only files of sites (*.json) are pooled together.",
        )
    return tables[0]


def _asked(ctx: typer.Context) -> tuple[str, ...]:
    """The options on the command line that the files of sites decide themselves."""
    from ..pooling.federated.site import MODEL_FIELDS

    names = {"baseline": "baseline_column"} | {name: name for name in MODEL_FIELDS}
    given = [
        name
        for parameter, name in names.items()
        if parameter in ctx.params
        and getattr(ctx.get_parameter_source(parameter), "name", "") == "COMMANDLINE"
    ]
    return tuple(dict.fromkeys(given))


def ages(text: str) -> tuple[float, ...]:
    """``"18,40,60"`` as numbers; UsageError for anything else."""
    try:
        return tuple(float(part) for part in comma_list(text))
    except ValueError:
        raise UsageError(
            f"--age-bands {text} is not a list of ages.", hint="For example 18,40,60,70."
        ) from None


def _prespecified(plan: Plan | None) -> tuple[str, ...]:
    """The modifiers under ``[prespecified]`` of the plan: ``by = ["sex", "age"]``."""
    named = {} if plan is None else plan.prespecified
    by = named.get("by", ())
    return comma_list(by) if isinstance(by, str) else tuple(map(str, by))


def pool_trials(
    ctx: typer.Context,
    tables: Annotated[
        list[Path],
        typer.Argument(
            help="OUT of segment, its measurements.csv, any table, trial,estimate,se[,n], or the "
            "files of sites (summarise).",
            exists=True,
        ),
    ],
    out: OutOption,
    *,
    outcome: Annotated[
        str, typer.Option(help="The measure to pool, such as lv_ef_percent.", show_default=False)
    ] = "",
    effect: Annotated[
        str,
        typer.Option(
            help="mean-difference (ANCOVA), change, follow-up, standardised-mean-difference; of "
            "events odds-ratio, risk-ratio, risk-difference, hazard-ratio (--time --event)."
        ),
    ] = "mean-difference",
    model: Annotated[
        str, typer.Option(help="two-stage, one-stage (participants' rows only), or both.")
    ] = "both",
    baseline_visit: BaselineVisitOption = "baseline",
    followup_visit: FollowupVisitOption = None,
    followup_day: FollowupDayOption = None,
    window: WindowOption = None,
    baseline: BaselineColumn = None,
    time: Annotated[
        str | None, typer.Option(help="hazard-ratio: the column of days to event or censoring.")
    ] = None,
    event: Annotated[
        str | None, typer.Option(help="hazard-ratio: the column of whether it happened.")
    ] = None,
    estimand: Annotated[
        str,
        typer.Option(help="Deaths before the scan: while-alive, worst-rank or hypothetical."),
    ] = "while-alive",
    worse: Annotated[
        str | None,
        typer.Option(
            help="worst-rank: which outcomes are worse, lower or higher (known for LV and RV).",
            show_default=False,
        ),
    ] = None,
    adjust: Annotated[
        str, typer.Option(help="Covariates of each trial's model: age,sex,…", show_default=False)
    ] = "",
    cluster: Annotated[
        str | None,
        typer.Option(
            help="The column of the randomised cluster (ward, hospital); empty where persons were.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            help="Effect modifiers: sex,ethnicity,age,… (interactions, then effects by level).",
            show_default=False,
        ),
    ] = "",
    spline: Annotated[
        int,
        typer.Option(
            help="Knots (3, 4 or 5) of the effect over each number of --by; 0: straight lines."
        ),
    ] = 0,
    meta_regression: Annotated[
        str,
        typer.Option(
            help="What trials differ in: age,sex,year,… (a trial's mean, share or word; between "
            "trials, so ecological).",
            show_default=False,
        ),
    ] = "",
    age_bands: Annotated[
        str, typer.Option(help="Bands of ages for --by age; the last is open.")
    ] = "18,30,40,50,60,70",
    missing_outcome: Annotated[
        str,
        typer.Option(help="complete cases, or impute within trial and arm (Rubin's rules)."),
    ] = "complete",
    imputations: Annotated[int, typer.Option(help="Data sets of --missing-outcome impute.")] = 20,
    compare_reported: Annotated[
        bool,
        typer.Option(
            "--compare-reported",
            help="The same people with the trials' own reported_ values beside the harmonised.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn at random.")] = 1,
    missing_baseline: Annotated[
        str, typer.Option(help="mean of the trial over both arms, or complete cases.")
    ] = "mean",
    status: Annotated[
        str, typer.Option(help="all; ok leaves out the rows marked for review.")
    ] = "all",
    control: Annotated[str, typer.Option(help="The reference arm.")] = "control",
    tau2: Annotated[
        str, typer.Option(help="reml, ml, dl, pm, eb, he, hs, sj, or fe (common effect).")
    ] = "reml",
    ci: Annotated[
        str | None,
        typer.Option(
            help="Headline interval: hksj or wald (hksj; wald with --tau2 fe).", show_default=False
        ),
    ] = None,
    hksj_adhoc: Annotated[
        bool, typer.Option(help="Headline HKSJ with the variance ratio never below 1.")
    ] = True,
    ci_one_stage: Annotated[
        str, typer.Option(help="One-stage headline: kenward-roger, satterthwaite or wald.")
    ] = "kenward-roger",
    residual: Annotated[
        str,
        typer.Option(help="One-stage residual variance: by-trial, common or by-trial-and-arm."),
    ] = "by-trial",
    random_effects: Annotated[
        str,
        typer.Option(
            help="One-stage: random effect with stratified trial intercepts (effect), random "
            "intercept beside it, or both correlated."
        ),
    ] = "effect",
    pi_df: Annotated[
        str, typer.Option(help="Degrees of freedom of the prediction interval: k-1 or k-2.")
    ] = "k-1",
    also_summaries: Annotated[
        Path | None,
        typer.Option(
            help="More trials: trial,estimate,se[,n] (or ci_low,ci_high).",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    leave_one_out: Annotated[
        bool, typer.Option(help="The pooled effect without each trial in turn.")
    ] = True,
    level: Annotated[float, typer.Option(help="Level of all intervals, percent.")] = 95.0,
    min_cell: Annotated[int, typer.Option(help="No count of fewer people is shown.", min=0)] = 10,
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
    """Pool a randomised effect over trials: each trial by its own ANCOVA, then random effects.

    Prints a table for a paper; OUT gets effects.csv, heterogeneity.csv, the forest plot and
    report.html. Research use only.
    """
    del config
    with guard(verbose=verbose):
        # Late, so that --help needs neither pandas nor scipy.
        from ..cohort.models import TableOptions
        from ..commands.pool_trials import PoolRequest, run_pool_trials
        from ..pooling.options import EVENTS, PoolingOptions

        plan = plan_of(ctx)
        changed = tuple(
            f"{name}: planned {planned}, used {used}"
            for name, (planned, used) in departures(ctx).items()
        )
        outcome_run = run_pool_trials(
            PoolRequest(
                table=_one_table(tables),
                sites=tuple(tables) if _are_sites(tables) else (),
                asked=_asked(ctx) if _are_sites(tables) else (),
                out=out,
                options=PoolingOptions(
                    outcome=outcome or event or "",
                    effect=effect,
                    baseline_visit=baseline_visit,
                    followup_visit=followup_visit,
                    followup_day=followup_day,
                    window=window,
                    baseline_column=baseline,
                    estimand=estimand,
                    worse=worse,
                    time=time,
                    event=event,
                    adjust=comma_list(adjust),
                    cluster=cluster,
                    by=comma_list(by),
                    spline=spline,
                    meta_regression=comma_list(meta_regression),
                    age_bands=ages(age_bands),
                    prespecified=_prespecified(plan),
                    model=model,
                    residual=residual,
                    random_effects=random_effects,
                    ci_one_stage=ci_one_stage,
                    tau2=tau2,
                    ci=ci,
                    hksj_adhoc=hksj_adhoc,
                    pi_df=pi_df,
                    control=control,
                    missing_baseline=missing_baseline,
                    missing_outcome=missing_outcome,
                    imputations=imputations,
                    seed=seed,
                    compare_reported=compare_reported,
                    status=status,
                    min_cell=min_cell,
                    leave_one_out=leave_one_out,
                    level=level,
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
                    numeric=tuple(
                        name
                        for name in ("" if effect in EVENTS else outcome, baseline, time)
                        if name
                    ),
                ),
                also_summaries=also_summaries,
                plan_sha256=None if plan is None else plan.sha256,
                departures=changed,
                overwrite=overwrite,
            )
        )
        if plan is not None:
            say(f"plan {plan.sha256}", quiet=quiet)
            for line in changed:
                say(f"departure from the plan: {line}", quiet=quiet)
        if json:
            show_json(outcome_run.document)
        elif not quiet:
            show_text(outcome_run.text)
        say(f"effects: {out / 'effects.csv'}", quiet=quiet)
        say(f"report:  {out / 'report.html'}", quiet=quiet)
