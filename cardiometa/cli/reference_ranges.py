"""``cardiometa reference-ranges``: limits of healthy people by sex, ethnicity and age."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .options import (
    AgeColumn,
    ArmColumn,
    ConfigOption,
    EthnicityColumn,
    InternalOption,
    JsonOption,
    OutOption,
    OverwriteOption,
    ParticipantColumn,
    QuietOption,
    SexColumn,
    TrialColumn,
    VerboseOption,
    VisitColumn,
    VisitDayColumn,
    comma_list,
    departures,
    guard,
    one_of,
    plan_of,
)
from .output import say, show_json, show_table

if TYPE_CHECKING:
    from ..reference.results import ReferenceLimit, ReferenceRanges

_MOST_SHOWN = 40


def _ages(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in comma_list(text))
    except ValueError:
        raise UsageError(
            f"{option} {text} holds something that is not an age.",
            hint=f"Say {option} 18,30,40,50.",
        ) from None


def _by(text: str | None) -> Any:
    if text is None:
        return None
    return tuple(one_of("--by", name, ("sex", "ethnicity", "age")) for name in comma_list(text))


def _show(result: ReferenceRanges, out: Path, *, quiet: bool) -> None:
    for warning in result.warnings:
        say(f"note: {warning}", quiet=quiet)
    groups: dict[tuple[Any, ...], list[ReferenceLimit]] = {}
    for row in result.rows:
        if (row.ethnicity == "all" and row.kind != "conditional") or _alone(row, result):
            key = (row.measure, row.method, row.limits, row.kind, row.sex, row.age_low, row.age)
            groups.setdefault(key, []).append(row)
    show_table(
        ("measure", "method", "sex", "age", "n", "limits", "status"),
        [_line(rows) for rows in list(groups.values())[:_MOST_SHOWN]],
        title=result.title,
        quiet=quiet,
    )
    if len(groups) > _MOST_SHOWN:
        say(f"… and {len(groups) - _MOST_SHOWN} more groups in the table", quiet=quiet)
    empty = {
        (r.measure, r.method, r.sex, r.ethnicity, r.age_low)
        for r in result.rows
        if r.status == "suppressed"
    }
    say(
        f"{result.people} people of {len(result.trials)} trial{'s' * (len(result.trials) > 1)}; "
        f"{len(empty)} groups without a limit (too few people)",
        quiet=quiet,
    )
    say(f"limits: {out / 'reference_ranges.csv'}", quiet=quiet)
    say(f"report: {out / 'report.html'}", quiet=quiet)


def _alone(row: ReferenceLimit, result: ReferenceRanges) -> bool:
    """True for a conditional limit of everybody that has no marginal one beside it."""
    return row.ethnicity == "all" and not any(r.kind == "marginal" for r in result.rows)


def _line(rows: list[ReferenceLimit]) -> tuple[str, ...]:
    """One line of the table on the screen, everybody of a sex and age band."""
    first = rows[0]
    if first.age is not None:
        ages = f"{first.age:g}"
    elif first.age_low is None:
        ages = "all"
    else:
        ages = f"{first.age_low:g}-" + ("" if first.age_high is None else f"{first.age_high:g}")
    limits = [row.limit for row in rows if row.centile != 50]
    known = [f"{limit:.4g}" for limit in limits if limit is not None]
    return (
        first.measure,
        first.limits if first.method == "meta" else first.method,
        first.sex,
        ages,
        "few" if first.n is None else str(first.n),
        " to ".join(known) if len(known) == len(limits) else "-",
        first.status,
    )


def reference_ranges(
    ctx: typer.Context,
    table: Annotated[
        Path,
        typer.Argument(help="OUT of segment, its measurements.csv, or any table.", exists=True),
    ],
    out: OutOption,
    *,
    measure: Annotated[
        list[str] | None, typer.Option(help="A measure (repeat); default all known ones.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Of sex,ethnicity,age; default those the table has.")
    ] = None,
    age_bands: Annotated[
        str, typer.Option(help="Lower ends in years, [lo, hi); the last band is open.")
    ] = "18,30,40,50,60,70",
    method: Annotated[
        str | None,
        typer.Option(
            help="strata, lms, gaussian, linear, quantile, fractional-polynomial or meta. "
            "Default: strata and, where there are ages, lms.",
            show_default=False,
        ),
    ] = None,
    at_ages: Annotated[
        str | None,
        typer.Option(help="Ages of a curve's limits; default every 5 years observed."),
    ] = None,
    trial_effect: Annotated[
        str, typer.Option(help="Trials in a curve: auto, random, fixed or none.")
    ] = "auto",
    limits: Annotated[
        str | None,
        typer.Option(
            help="nonparametric, nonparametric-ranks, parametric, prediction, log, boxcox or "
            "robust. Default: nonparametric, robust below 120 people. With --method meta: log or "
            "parametric.",
            show_default=False,
        ),
    ] = None,
    meta: Annotated[
        str, typer.Option(help="For --method meta: frequentist,empirical, or one of them.")
    ] = "frequentist,empirical",
    level: Annotated[float, typer.Option(help="Per cent of people inside the interval.")] = 95,
    ci_level: Annotated[float, typer.Option(help="Level of each limit's own CI.")] = 90,
    sided: Annotated[str, typer.Option(help="two, lower or upper.")] = "two",
    healthy_only: Annotated[
        bool, typer.Option("--healthy-only/--all", help="Only rows marked healthy, or everybody.")
    ] = True,
    healthy_rule: Annotated[
        str, typer.Option(help="Who counts as healthy; printed with the ranges.")
    ] = "",
    use_visit: Annotated[
        str | None, typer.Option(help="Visit to use; else baseline, else the earliest.")
    ] = None,
    repeated: Annotated[
        bool, typer.Option("--repeated", help="Keep all scans of a person; resample people.")
    ] = False,
    status: Annotated[str, typer.Option(help="all, or ok: leave out scans for review.")] = "all",
    min_n: Annotated[int, typer.Option(help="Fewest people of a group with limits.")] = 40,
    min_cell: Annotated[int, typer.Option(help="Counts below it are not told.")] = 10,
    outliers: Annotated[str, typer.Option(help="list (keep), tukey (drop) or none.")] = "list",
    bootstrap: Annotated[
        int, typer.Option(help="Samples for intervals of robust limits and quantiles.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 1,
    trial: TrialColumn = None,
    participant: ParticipantColumn = None,
    age: AgeColumn = None,
    sex: SexColumn = None,
    ethnicity: EthnicityColumn = None,
    arm: ArmColumn = None,
    visit: VisitColumn = None,
    visit_day: VisitDayColumn = None,
    internal: InternalOption = False,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Reference ranges by sex and ethnicity, by age band and as curves over age.

    Every limit has an interval. Strata are the table of a paper, curves use every age.
    """
    del config
    with guard(verbose=verbose):
        from ..cohort.models import TableOptions
        from ..commands.reference_ranges import ReferenceRequest, check_method, run_reference_ranges
        from ..measurement.measures import MEASURES, derived_measure
        from ..reference.options import TRIAL_EFFECTS, ReferenceOptions

        check_method(method, limits)
        known = {definition.name for definition in MEASURES}
        options = ReferenceOptions(
            measures=tuple(measure) if measure else None,
            by=_by(by),
            age_bands=_ages("--age-bands", age_bands),
            method=method,  # type: ignore[arg-type]  # check_method has seen it
            limits=limits,  # type: ignore[arg-type]  # check_method has seen it
            meta=comma_list(meta),  # type: ignore[arg-type]  # the options check it
            at_ages=_ages("--at-ages", at_ages) if at_ages is not None else None,
            trial_effect=one_of("--trial-effect", trial_effect, TRIAL_EFFECTS),  # type: ignore[arg-type]
            level=level,
            ci_level=ci_level,
            sided=one_of("--sided", sided, ("two", "lower", "upper")),  # type: ignore[arg-type]
            healthy_only=healthy_only,
            healthy_rule=healthy_rule,
            use_visit=use_visit,
            repeated=repeated,
            status=one_of("--status", status, ("all", "ok")),  # type: ignore[arg-type]
            min_n=min_n,
            min_cell=min_cell,
            outliers=one_of("--outliers", outliers, ("list", "tukey", "none")),  # type: ignore[arg-type]
            bootstrap=bootstrap,
            seed=seed,
            internal=internal,
        )
        plan = plan_of(ctx)
        columns = TableOptions(
            trial=trial,
            participant=participant,
            age=age,
            sex=sex,
            ethnicity=ethnicity,
            arm=arm,
            visit=visit,
            visit_day=visit_day,
            columns=plan.columns if plan else {},
            numeric=tuple(
                name for name in measure or () if name not in known and not derived_measure(name)
            ),
        )
        changed = tuple(
            f"{name}: planned {planned}, used {used}"
            for name, (planned, used) in departures(ctx).items()
        )
        result = run_reference_ranges(
            ReferenceRequest(
                table=table,
                out=out,
                options=options,
                table_options=columns,
                plan_sha256=plan.sha256 if plan else None,
                departures=changed,
                overwrite=overwrite,
            )
        )
        if plan is not None:
            say(f"plan: sha256 {plan.sha256}", quiet=quiet)
        for change in changed:
            say(f"departure from the plan: {change}", quiet=quiet)
        if json:
            show_json(_document(result))
            return
        _show(result, out, quiet=quiet)


def _document(result: ReferenceRanges) -> dict[str, Any]:
    """What --json prints: the limits, the accounting, what to know."""
    from ..files import record_columns
    from ..privacy.suppression import suppress_account
    from ..reference.results import ReferenceLimit

    names = record_columns(ReferenceLimit)
    few = 1 if result.options.internal else result.options.min_cell
    return {
        "title": result.title,
        "people": result.people,
        "trials": list(result.trials),
        "warnings": list(result.warnings),
        "limits": [{name: getattr(row, name) for name in names} for row in result.rows],
        "accounting": [suppress_account(account, few) for account in result.accounts],
    }
