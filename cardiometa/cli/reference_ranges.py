"""``cardiometa reference-ranges``: limits of healthy participants by sex, ethnicity and age."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cohort.models import TableOptions
from ..options import Output
from ..records import severity
from ..reference.options import ReferenceOptions
from .command import Out, Run, Tables, command
from .output import say, show_json, show_table, show_warnings

if TYPE_CHECKING:
    from ..reference.results import ReferenceLimit, ReferenceRanges

_MOST_SHOWN = 12


@command
def reference_ranges(
    tables: Tables,
    out: Out,
    options: ReferenceOptions,
    columns: TableOptions,
    run: Run,
    output: Output,
) -> None:
    """Estimate reference ranges by sex and ethnicity, by age band and as curves over age.

    Every limit has a confidence interval. Strata are the table of a paper, curves use every age.
    """
    from ..commands.reference_ranges import (
        ReferenceRequest,
        json_document,
        run_reference_ranges,
    )

    result = run_reference_ranges(
        ReferenceRequest(
            tables=tuple(tables),
            options=options,
            table_options=replace(columns, columns=run.columns),
            plan_sha256=run.sha256,
            departures=run.departures,
        ),
        out,
        overwrite=output.overwrite,
    )
    run.report(quiet=output.quiet)
    show_warnings(result.warnings, quiet=output.quiet, verbose=output.verbose)
    if output.json:
        show_json(json_document(result))
    else:
        _show(result, out, quiet=output.quiet, most=None if output.verbose else _MOST_SHOWN)


def _show(result: ReferenceRanges, out: Path, *, quiet: bool, most: int | None) -> None:
    # Where there are no marginal limits, the conditional ones are the headline.
    conditional = not any(row.kind == "marginal" for row in result.rows)
    groups: dict[tuple[Any, ...], list[ReferenceLimit]] = {}
    for row in result.rows:
        if row.ethnicity == "all" and (row.kind != "conditional" or conditional):
            key = (row.measure, row.method, row.limits, row.kind, row.sex, row.age_low, row.age)
            groups.setdefault(key, []).append(row)
    show_table(
        ("measure", "method", "sex", "age", "n", "limits", "status"),
        [_line(rows) for rows in list(groups.values())[:most]],
        title=result.title,
        quiet=quiet,
    )
    if most is not None and len(groups) > most:
        say(f"… and {len(groups) - most} more groups in the table, or --verbose", quiet=quiet)
    empty = {
        (r.measure, r.method, r.sex, r.ethnicity, r.age_low)
        for r in result.rows
        if r.status == "suppressed" and r.age is None
    }
    say(
        f"{result.participants} participants of {len(result.trials)} "
        f"trial{'s' * (len(result.trials) > 1)}; "
        f"{len(empty)} groups without a limit (the notes say why)",
        quiet=quiet,
    )
    notes = sum(severity(one) == "note" for one in set(result.warnings))
    if notes and most is not None:
        more = "see the report, or --verbose"
        say(f"{notes} note{'s' * (notes > 1)}: {more}", quiet=quiet)
    say(f"limits: {out / 'reference_ranges.csv'}", quiet=quiet)
    say(f"report: {out / 'report.html'}", quiet=quiet)


def _line(rows: list[ReferenceLimit]) -> tuple[str, ...]:
    """One line of the printed table: all participants of a sex and age band."""
    first = rows[0]
    ages = "all" if first.age is None else f"{first.age:g}"
    if first.age is None and first.age_low is not None:
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
