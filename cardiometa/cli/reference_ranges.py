"""``reference-ranges``, ``score``, ``adapt`` and ``compare-limits``: limits and what they say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..cohort.models import TableOptions
from ..errors import UsageError
from ..options import ErrorModel, Export, Option, Options, Output
from ..records import severity
from ..reference.options import AdaptOptions, ReferenceOptions, ScoreOptions
from .command import Out, OutFile, Reference, Run, Table, Tables, command
from .output import say, show_json, show_table, show_warnings

if TYPE_CHECKING:
    from ..commands.apply_reference import CompareOutcome
    from ..reference.adapt import Adaptation
    from ..reference.compare_published import Comparison
    from ..reference.results import ReferenceLimit, ReferenceRanges

_MOST_SHOWN = 12
_MOST_COMPARED = 60


@command
def reference_ranges(
    tables: Tables,
    out: Out,
    options: ReferenceOptions,
    error: ErrorModel,
    columns: TableOptions,
    run: Run,
    *,
    export: Export,
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
            error_model=error.error_model,
        ),
        out,
        overwrite=output.overwrite,
        export=export.export,
    )
    run.report(quiet=output.quiet)
    show_warnings(result.warnings, quiet=output.quiet, verbose=output.verbose)
    if output.json:
        show_json(json_document(result))
    else:
        _show_ranges(result, out, quiet=output.quiet, most=None if output.verbose else _MOST_SHOWN)


def _show_ranges(result: ReferenceRanges, out: Path, *, quiet: bool, most: int | None) -> None:
    # Where there are no marginal limits, the conditional ones are the headline.
    conditional = not any(row.kind == "marginal" for row in result.rows)
    groups: dict[tuple[Any, ...], list[ReferenceLimit]] = {}
    for row in result.rows:
        if row.ethnicity == "all" and (row.kind != "conditional" or conditional):
            key = (row.measure, row.method, row.limits, row.kind, row.sex, row.age_low, row.age)
            groups.setdefault(key, []).append(row)
    show_table(
        ("measure", "method", "sex", "age", "n", "limits", "status"),
        [_range_line(rows) for rows in list(groups.values())[:most]],
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
    if result.error_adjusted:
        say(f"limits of true values: {out / 'error_adjusted.csv'}", quiet=quiet)
    say(f"report: {out / 'report.html'}", quiet=quiet)


def _range_line(rows: list[ReferenceLimit]) -> tuple[str, ...]:
    """One line of the printed table: all participants of a sex and age band."""
    first = rows[0]
    band = _ages(first.age_low, first.age_high)
    limits = [row.limit for row in rows if row.centile != 50]
    known = [f"{limit:.4g}" for limit in limits if limit is not None]
    return (
        first.measure,
        first.limits if first.method == "meta" else first.method,
        first.sex,
        band if first.age is None else f"{first.age:g}",
        "few" if first.n is None else str(first.n),
        " to ".join(known) if len(known) == len(limits) else "-",
        first.status,
    )


def _ages(low: float | None, high: float | None) -> str:
    return "all" if low is None else f"{low:g}-" + ("" if high is None else f"{high:g}")


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
    from ..commands.apply_reference import run_score

    columns = replace(columns, columns=run.columns)
    measures, overwrite = tuple(measure or ()) or None, output.overwrite
    found = run_score(
        reference, table, out, options, columns, measures=measures, overwrite=overwrite
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


@command
def adapt(
    reference: Reference,
    table: Table,
    out: Annotated[
        Path, typer.Option("--out", help="JSON file to write. \\[required]", metavar="FILE")
    ],
    options: AdaptOptions,
    columns: TableOptions,
    run: Run,
    output: Output,
) -> None:
    """Adapt a reference to a site from 25 or more of its healthy controls.

    Level and spread become the site's, shrunk by the variance between the reference's trials; shape
    and age course stay. The file scores like any other. Research use only.
    """
    from ..commands.apply_reference import run_adapt

    columns = replace(columns, columns=run.columns)
    found = run_adapt(reference, table, out, options, columns, overwrite=output.overwrite)
    if output.json:
        show_json(found.document())
        return
    quiet = output.quiet
    show_warnings(found.warnings, quiet=quiet, verbose=output.verbose)
    if found.notice:
        say(f"note: the reference is a {found.notice}.", quiet=quiet)
    show_table(
        ("measure", "n", "level moved", "spread ratio", "own kept", "miscalibration left"),
        [_adapted_line(one) for one in found.measures],
        title=f"Distance from the reference ({found.ci_level:g} % interval)",
        quiet=quiet,
    )
    say(f"adapted reference: {out}", quiet=quiet)
    say("Research use only; not a medical device.", quiet=quiet)


def _adapted_line(one: Adaptation) -> tuple[str, ...]:
    unit = "%" if one.location_unit == "percent" else one.location_unit
    return (
        one.measure,
        str(one.n),
        f"{one.location:+.1f} {unit} ({one.location_low:+.1f} to {one.location_high:+.1f})",
        f"{one.spread_ratio:.2f} ({one.spread_ratio_low:.2f} to {one.spread_ratio_high:.2f})",
        f"{100 * one.kept_location:.0f} % / {100 * one.kept_spread:.0f} %",
        f"±{one.miscalibration:.1f} points (95 %: {one.miscalibration_high:.1f})",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonOptions(Options):
    """What the limits are compared with."""

    against: Annotated[
        Path | None,
        Option(help="Table of published limits.", exists="file", metavar="FILE"),
    ] = None
    preset: Annotated[
        Literal["hhc2024"] | None,
        Option(help="Healthy Hearts Consortium 2024, from FOLDER."),
    ] = None
    out: Annotated[Path | None, Option(help="CSV file of the comparison.", metavar="FILE")] = None
    kind: Annotated[
        Literal["marginal", "conditional", "population"], Option(help="Limits to compare.")
    ] = "marginal"
    same_conventions: Annotated[
        bool, Option(help="Assume the other side's conventions where one side states none.")
    ] = False
    accept: Annotated[
        tuple[Literal["modified-input"], ...],
        Option(help="Continue with a reference that was changed by hand."),
    ] = ()

    def source(self, folder: Path | None) -> Path:
        """The file or folder of published limits; raises UsageError."""
        if (self.against is None) == (self.preset is None):
            raise UsageError("Use either --against FILE or --preset hhc2024 FOLDER.")
        if self.against is not None:
            if folder is not None:
                raise UsageError("--against takes no folder argument.")
            return self.against
        if folder is None or not folder.is_dir():
            raise UsageError(
                f"--preset {self.preset} needs the folder of the transcription.",
                hint=f"Use --preset {self.preset} FOLDER, which contains {self.preset}.csv.",
            )
        return folder


@command
def compare_limits(
    reference: Reference,
    folder: Annotated[
        Path | None, typer.Argument(help="With --preset: folder of the transcription.")
    ],
    options: ComparisonOptions,
    output: Output,
) -> None:
    """Compare reference limits with published ones of the same convention.

    Differences within the combined uncertainty are reported as equivalent; where the uncertainty
    is large, the comparison is inconclusive.
    """
    from ..commands.apply_reference import run_compare_limits

    found = run_compare_limits(
        reference,
        options.source(folder),
        preset=options.preset,
        out=options.out,
        kind=options.kind,
        same_conventions=options.same_conventions,
        accept=options.accept,
        overwrite=output.overwrite,
    )
    show_warnings(found.warnings, quiet=output.quiet)
    if output.json:
        show_json(found.document())
    else:
        _show_comparison(found, options.out, quiet=output.quiet)


def _show_comparison(found: CompareOutcome, out: Path | None, *, quiet: bool) -> None:
    compared = [row for row in found.rows if row.verdict != "not-compared"]
    show_table(
        ("measure", "group", "published", "ours", "lower", "upper", "verdict"),
        [_comparison_line(row) for row in compared[:_MOST_COMPARED]],
        title="Difference from the published limit ± combined uncertainty",
        quiet=quiet,
    )
    if len(compared) > _MOST_COMPARED:
        more = f" (all in {out})" if out else " (--out FILE.csv has all)"
        say(f"… and {len(compared) - _MOST_COMPARED} more{more}", quiet=quiet)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(found.counts().items()))
    say(f"{len(found.rows)} published intervals: {counts}", quiet=quiet)
    for reason, count in found.reasons().items():
        say(f"not compared: {count}, {reason}", quiet=quiet)
    for source in dict.fromkeys(row.source for row in found.rows if row.source):
        say(f"source: {source} (second hand: confirm in the paper)", quiet=quiet)
    if found.notice:
        say(f"note: the reference is a {found.notice}.", quiet=quiet)
    if out is not None:
        say(f"comparison: {out}", quiet=quiet)


def _comparison_line(row: Comparison) -> tuple[str, ...]:
    differences = (row.difference_lower, row.difference_upper)
    margins = (row.margin_lower, row.margin_upper)
    return (
        row.measure,
        f"{row.sex} {row.ethnicity} {_ages(row.age_low, row.age_high)}",
        f"{row.lower:g}-{row.upper:g}",
        "-" if row.our_lower is None else f"{row.our_lower:.1f}-{row.our_upper:.1f}",
        *(
            "-" if d is None else f"{d:+.1f} ±{m:.1f}"
            for d, m in zip(differences, margins, strict=True)
        ),
        row.verdict,
    )
