"""``reference-ranges`` from a table to a folder: read, compute, render, write once."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..cohort.analysis_table import read_analysis_table
from ..cohort.infer_columns import recognise
from ..cohort.models import TableOptions
from ..cohort.read_table import SUFFIXES, read_any_table, table_header
from ..cohort.segment_output import SegmentOutput
from ..errors import Problem, TableError, UsageError
from ..files import (
    canonical_json,
    check_output,
    record_columns,
    records_csv,
    sha256_file,
)
from ..manifest import (
    RunRecord,
    library_versions,
    model_of,
    notice_for,
    refuse_modified,
    run_block,
    write_output,
)
from ..privacy.characteristics import Characteristic
from ..privacy.suppression import suppress_account
from ..records import Exclusion, Table, serious_first, severity
from ..reference.meta import META, is_summaries, summary_ranges, summary_rows
from ..reference.options import ReferenceOptions
from ..reference.ranges import reference_ranges
from ..reference.results import (
    Allometry,
    Calibration,
    Contrast,
    DistributionFit,
    ErrorAdjustedLimit,
    MetaEstimate,
    Outlier,
    PartitionTest,
    ReferenceLimit,
    ReferenceRanges,
    ReportedWidth,
    TrialLimit,
)
from ..reference.select import rows_options, with_derived, with_healthy
from ..reports.export import baseline_tables, export_files, export_names, need_export
from ..reports.figures.reference import limits_figure, meta_headlines
from ..reports.page import where
from ..reports.pages.reference import (
    TABLE_CSV,
    TABLE_HTML,
    methods_text,
    paper_table_csv,
    paper_table_html,
    reference_page,
)
from ..reports.references import paper_files
from ..reports.style import measure_name
from .error_input import error_document, error_of_table

COMMAND = "reference-ranges"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRequest:
    """What is estimated and how to read the tables (one per trial, or one of all).

    ``plan_sha256`` is of the file given with --config, ``departures`` the options that differ
    from it, in words.
    """

    tables: tuple[Path, ...]
    options: ReferenceOptions
    table_options: TableOptions
    error_model: str | None = None
    plan_sha256: str | None = None
    departures: tuple[str, ...] = ()


def run_reference_ranges(
    request: ReferenceRequest, out: Path, *, overwrite: bool = False, export: Sequence[str] = ()
) -> ReferenceRanges:
    """Compute the ranges of a table and write every file of ``out``.

    ``export``: formats of `export_files` for the tables of a paper.

    Nothing is written where the table cannot be used. Raises UsageError (exit 2) and InputError
    (exit 3).
    """
    need_export(export)
    asked = _result_options(request)
    check_output(out, command=COMMAND, options=asked, overwrite=overwrite)
    result = estimate_ranges(request)
    record = RunRecord(
        command=COMMAND,
        options=asked,
        inputs={"table": result.input_sha256},
        model=model_of(result.conventions),
        run=run_block(libraries=library_versions("numpy", "scipy", "pandas", "matplotlib")),
    )
    # A list of outliers by name, or a figure under another title, must not remain.
    # Figures of curves had files of their own once.
    figures = (
        f"figures/{path.name}"
        for kind in ("limits", "curves")
        for path in out.glob(f"figures/{kind}_*.svg")
    )
    old = (*(name for name, *_ in _TABLES), *figures, *export_names())
    contents = render(result) | exported(result, export)
    write_output(out, contents, record, overwrite=overwrite, old=old)
    return result


def estimate_ranges(request: ReferenceRequest) -> ReferenceRanges:
    """The ranges, from participants' rows or from summaries."""
    first, chosen, form = request.tables[0], request.options, request.table_options
    is_file = first.is_file() and first.suffix.lower() in SUFFIXES
    if is_file and len(request.tables) == 1 and is_summaries(table_header(first, form)):
        raw, sha256 = read_any_table(first, form=form), sha256_file(first)
        if request.error_model is not None:
            raise UsageError("--error-model needs participants' rows.")
        rows = summary_rows(raw, first.name)
        return summary_ranges(rows, chosen, name=first.stem, sha256=sha256)
    output = SegmentOutput.of(request.tables)
    columns = rows_options(chosen, request.table_options)
    try:
        table = read_analysis_table(list(request.tables), columns)
    except TableError as error:
        raise _with_proposals(error, request) from None
    accepted = refuse_modified(output.read_files, columns.accept)
    table = replace(table, warnings=(*accepted, *table.warnings))
    if chosen.measures is not None:
        chosen = replace(chosen, measures=tuple(map(table.name_of, chosen.measures)))
    table = with_healthy(table, chosen.healthy_rule if chosen.healthy_only else "")
    table = with_derived(table, chosen.measures)
    if not chosen.healthy_rule:
        chosen = replace(chosen, healthy_rule=table.healthy_rule or output.healthy_rule)
    known = None
    if request.error_model is not None:
        measures = chosen.measures or table.measures
        known = error_of_table(request.error_model, first, table, *measures)
    result = reference_ranges(table, chosen, known)
    licence = dict.fromkeys(table.conventions.get("model_licence", ()), result.participants)
    stated = {"model_licence": licence} if licence else {}
    return replace(result, conventions={**result.conventions, **stated})


def _with_proposals(error: TableError, request: ReferenceRequest) -> TableError:
    """The error with what else the command lacks, and with ways to go on."""
    if not error.problems:  # the file itself cannot be read
        return error
    first, options = request.tables[0], request.options
    is_file = first.is_file() and first.suffix.lower() in SUFFIXES
    header = table_header(first, request.table_options) if is_file else ["healthy"]
    known = {*request.table_options.columns, *recognise(header, {}).rules}
    problems, hints = list(error.problems), [error.hint]
    if options.healthy_only and not options.healthy_rule and "healthy" not in known:
        problems.append(
            Problem(
                where="--healthy-rule",
                what="no column says who is healthy",
                fix='State how all rows are: --healthy-rule "TEXT"; or --all for a population.',
            )
        )
    if options.by is None and any("(ethnicity)" in one.where for one in problems):
        hints.append("Or leave ethnicity out: --by sex,age")
    name = first.name if len(request.tables) == 1 else f"{len(request.tables)} tables"
    return TableError(
        f"{name} cannot be used: {len(problems)} problem{'s' * (len(problems) > 1)}.",
        hint="\n  ".join(filter(None, hints)),
        problems=problems,
        missing=error.missing,
    )


def _result_options(request: ReferenceRequest) -> dict[str, Any]:
    """Everything asked for that decides the result; no path, because it may contain a name."""
    options = asdict(request.options)
    options.pop("quick")  # a setting of refits, not an option
    return {
        **options,
        **request.table_options.document(),
        **error_document(request.error_model),
        "plan_sha256": request.plan_sha256,
        "departures_from_plan": list(request.departures),
    }


def json_document(result: ReferenceRanges) -> dict[str, Any]:
    """What --json prints: the limits, the accounting, the warnings."""
    names = record_columns(ReferenceLimit)
    few = 1 if result.options.internal else result.options.min_cell
    return {
        "title": result.title,
        "people": result.participants,
        "trials": list(result.trials),
        "warnings": list(serious_first(result.warnings)),
        "serious_warnings": [w for w in result.warnings if severity(w) == "serious"],
        "limits": [{name: getattr(row, name) for name in names} for row in result.rows],
        "accounting": [suppress_account(account, few) for account in result.accounts],
    }


# ------------------------------------------------------------------ files

# The tables: file, the kind of its rows, the field of the result.
_TABLES: tuple[tuple[str, type[Any], str], ...] = (
    ("reference_ranges.csv", ReferenceLimit, "rows"),
    ("by_trial.csv", TrialLimit, "by_trial"),
    ("table1.csv", Characteristic, "table1"),
    ("partition.csv", PartitionTest, "partition"),
    ("contrasts.csv", Contrast, "contrasts"),
    ("calibration.csv", Calibration, "calibration"),
    ("distributions.csv", DistributionFit, "distributions"),
    ("exclusions.csv", Exclusion, "exclusions"),
    ("reference_ranges_without_review.csv", ReferenceLimit, "without_review"),
    ("outliers.csv", Outlier, "outliers"),
    ("indexing.csv", Allometry, "indexing"),
    ("meta.csv", MetaEstimate, "meta"),
    ("error_adjusted.csv", ErrorAdjustedLimit, "error_adjusted"),
    ("compare_reported.csv", ReportedWidth, "reported_widths"),
)


def draw_figures(result: ReferenceRanges) -> dict[str, str]:
    """The SVG of each measure with limits or curves: bands and curves together."""
    title = "" if result.options.healthy_only else result.title
    figures: dict[str, str] = {}
    for measure in result.measures:
        rows = where(result.rows, measure=measure)
        bands = where(rows, method="strata") or meta_headlines(where(rows, method=META))
        lines = where(result.curve_lines, measure=measure)
        participants = where(result.curve_participants, measure=measure)
        if bands or lines:
            drawn = limits_figure(bands, lines, participants, population_title=title)
            figures[measure] = drawn.svg
    return figures


def render(result: ReferenceRanges) -> dict[str, bytes | str]:
    """Every file of the output but its record, by name."""
    figures = draw_figures(result)
    # Not every run has these; an empty list is still written.
    written = {"without_review": result.without_review is not None}
    written |= {"outliers": result.options.internal}
    optional = ("distributions", "indexing", "meta", "error_adjusted", "reported_widths", "table1")
    written |= {name: bool(getattr(result, name)) for name in optional}
    contents: dict[str, bytes | str] = {
        name: records_csv(kind, getattr(result, field))
        for name, kind, field in _TABLES
        if written.get(field, True)
    }
    contents["reference_ranges.json"] = canonical_json(result.model)
    contents[TABLE_CSV] = paper_table_csv(result)
    contents[TABLE_HTML] = paper_table_html(result)
    names = figure_names(result.measures)
    contents |= {names[measure]: svg for measure, svg in figures.items()}
    contents["report.html"] = reference_page(result, figures)
    contents |= paper_files(f"{result.title}\n\n{methods_text(result)}")
    return contents


def exported(result: ReferenceRanges, formats: Sequence[str]) -> dict[str, bytes | str]:
    """The table of a paper, by measure and method, in each of the formats."""
    heads, *lines = csv.reader(io.StringIO(paper_table_csv(result)))
    tables: dict[tuple[str, str, str], list[tuple[str, ...]]] = {}
    for measure, unit, method, *cells in lines:
        tables.setdefault((measure, unit, method), []).append(tuple(cells[:-1]))
    columns = tuple(f"n, {h.removesuffix('_n')}" if h.endswith("_n") else h for h in heads[3:-1])
    level = f"{result.options.level:g} % limits" if result.options.healthy_only else result.title
    return export_files(
        [
            *baseline_tables(result.table1, "sex"),
            *(
                Table(
                    title=f"{measure_name(measure)}, {unit}: {method}".replace(", :", ":"),
                    columns=columns,
                    rows=tuple(rows),
                    caption=f"{level}; – or an empty cell: no limit, or n suppressed.",
                )
                for (measure, unit, method), rows in tables.items()
            ),
        ],
        formats,
        f"{result.title}: {result.name}",
        notice_for("; ".join(result.conventions.get("model_licence", ()))),
    )


def figure_names(measures: Sequence[str]) -> dict[str, str]:
    """``figures/limits_lv_edv_ml.svg`` for each measure.

    Characters that a file name cannot have become ``_``; equal names get a number.
    """
    names: dict[str, str] = {}
    for number, measure in enumerate(measures, start=1):
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in measure)
        name = f"figures/limits_{safe[:80]}.svg"
        taken = name.casefold() in {n.casefold() for n in names.values()}
        names[measure] = f"figures/limits_{safe[:80]}_{number}.svg" if taken else name
    return names
