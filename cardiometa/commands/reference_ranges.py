"""``reference-ranges`` from a table to a folder: read, compute, render, write once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..cohort.analysis_table import MEASUREMENTS_NAME, read_analysis_table
from ..cohort.models import TableOptions
from ..cohort.read_table import read_any_table
from ..files import (
    RECORD_NAME,
    canonical_json,
    check_output,
    read_json,
    record_columns,
    records_csv,
    sha256_file,
    write_all,
)
from ..locking import writing
from ..manifest import FORMAT_VERSION, file_marks, library_versions, record_text, run_block
from ..measurement.measures import MEASURES, derived_measure
from ..privacy.suppression import suppress_account
from ..records import Exclusion, RunRecord
from ..reference.meta import is_summaries, refuse_other_method, summary_ranges, summary_rows
from ..reference.options import ReferenceOptions
from ..reference.ranges import reference_ranges
from ..reference.results import (
    Allometry,
    Calibration,
    Contrast,
    MetaEstimate,
    Outlier,
    PartitionTest,
    ReferenceLimit,
    ReferenceRanges,
    TrialLimit,
)
from ..reference.select import with_derived
from ..reports.figures.reference_curves import curve_figure
from ..reports.figures.reference_strata import limits_figure
from ..reports.pages.reference import reference_page
from ..reports.pages.reference_meta import META, meta_headlines
from ..reports.pages.reference_table import TABLE_CSV, TABLE_HTML, paper_table_csv, paper_table_html

COMMAND = "reference-ranges"
WITHOUT_REVIEW = "reference_ranges_without_review.csv"
OUTLIERS = "outliers.csv"
META_NAME = "meta.csv"
INDEXING = "indexing.csv"
_MOST_SUMMARIES = 2_000_000  # bytes: larger tables are of people
_OPTIONAL = (WITHOUT_REVIEW, OUTLIERS, INDEXING, META_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRequest:
    """What is estimated and how to read the table.

    ``plan_sha256`` is of the file given with --config, ``departures`` the options that differ
    from it, in words.
    """

    table: Path
    options: ReferenceOptions
    table_options: TableOptions
    plan_sha256: str | None = None
    departures: tuple[str, ...] = ()


def run_reference_ranges(
    request: ReferenceRequest, out: Path, *, overwrite: bool = False
) -> ReferenceRanges:
    """Compute the ranges of a table and write every file of ``out``.

    Nothing is written where the table cannot be used. Raises UsageError (exit 2) and InputError
    (exit 3).
    """
    said = _result_options(request)
    check_output(out, command=COMMAND, options=said, overwrite=overwrite)
    result, sha256 = estimate_ranges(request)
    contents = render(result)
    record = RunRecord(
        command=COMMAND,
        format_version=FORMAT_VERSION,
        options=said,
        inputs={"table": sha256},
        model={
            name.removeprefix("model_"): ", ".join(values)
            for name, values in result.conventions.items()
            if name in ("model_id", "model_sha256")
        },
        run=run_block(
            libraries=library_versions("numpy", "scipy", "pandas", "matplotlib"),
            outputs=file_marks(contents),
        ),
    )
    with writing(out, command=COMMAND, options=said, overwrite=overwrite):
        # The record is last: it says that all is there.
        whole = {**contents, RECORD_NAME: record_text(record)}
        write_all(out, whole, old=_old_files(out, contents))
    return result


def numeric_columns(options: ReferenceOptions) -> tuple[str, ...]:
    """The measures asked for that are the user's own: they have to be numbers."""
    known = {definition.name for definition in MEASURES}
    return tuple(
        name for name in options.measures or () if name not in known and not derived_measure(name)
    )


def estimate_ranges(request: ReferenceRequest) -> tuple[ReferenceRanges, str]:
    """The ranges, from participants' rows or from summaries, and the hash of the table."""
    path, chosen = request.table, request.options
    if path.is_file() and path.stat().st_size <= _MOST_SUMMARIES:
        raw = read_any_table(path)
        if is_summaries(str(column) for column in raw.columns):
            refuse_other_method(chosen, path.name)
            rows, sha256 = summary_rows(raw, path.name), sha256_file(path)
            return summary_ranges(rows, chosen, name=path.stem, sha256=sha256), sha256
    table = with_derived(read_analysis_table(path, request.table_options), chosen.measures)
    if not chosen.healthy_rule:
        chosen = replace(chosen, healthy_rule=_stated_rules(path))
    return reference_ranges(table, chosen), table.sha256


def _stated_rules(table: Path) -> str:
    """The trials' own healthy rules, where ``segment`` left them beside its table.

    A table of another name that lies in the same folder is of other people.
    """
    if table.is_file() and table.name != MEASUREMENTS_NAME:
        return ""
    folder = table if table.is_dir() else table.parent
    path = folder / "measurements.json"
    if not path.is_file():
        return ""
    document = read_json(path)
    trials = document.get("trials") if isinstance(document, dict) else None
    if not isinstance(trials, dict):
        return ""
    rules: dict[str, str] = {
        name: facts["healthy_rule"]
        for name, facts in trials.items()
        if isinstance(facts, dict) and isinstance(facts.get("healthy_rule"), str)
    }
    if len(set(rules.values())) == 1:
        return next(iter(rules.values()))
    return "; ".join(f"{name}: {rule}" for name, rule in sorted(rules.items()))


def _result_options(request: ReferenceRequest) -> dict[str, Any]:
    """Everything asked for that decides the result; no path, because it may hold a name."""
    read = asdict(request.table_options)
    options = asdict(request.options)
    options.pop("quick")  # a setting of refits, nobody's wish
    columns = read.pop("columns")
    for name in ("numeric", "status"):  # both follow from the options above
        read.pop(name)
    return {
        **options,
        "columns": columns,
        "column_names": {name: value for name, value in read.items() if value is not None},
        "plan_sha256": request.plan_sha256,
        "departures_from_plan": list(request.departures),
    }


def _old_files(out: Path, contents: Mapping[str, Any]) -> list[str]:
    """The files that an earlier run wrote and this one does not.

    A list of outliers by name, or a figure under another title, must not stay behind.
    """
    old = [*_OPTIONAL, *(f"figures/{p.name}" for p in _old_figures(out))]
    return [name for name in old if name not in contents]


def _old_figures(out: Path) -> list[Path]:
    return sorted([*out.glob("figures/limits_*.svg"), *out.glob("figures/curves_*.svg")])


def json_document(result: ReferenceRanges) -> dict[str, Any]:
    """What --json prints: the limits, the accounting, the warnings."""
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


# ------------------------------------------------------------------ files


def draw_figures(result: ReferenceRanges) -> dict[tuple[str, str], str]:
    """The SVG of each measure and method."""
    title = "" if result.options.healthy_only else result.title
    figures = {
        (measure, "strata"): limits_figure(rows, population_title=title)
        for measure in result.measures
        if (rows := [r for r in result.rows if (r.measure, r.method) == (measure, "strata")])
    }
    for measure in result.measures:
        if rows := [r for r in result.rows if (r.measure, r.method) == (measure, META)]:
            figures[measure, META] = limits_figure(meta_headlines(rows), population_title=title)
    for key in dict.fromkeys((line.measure, line.method) for line in result.curve_lines):
        figures[key] = curve_figure(
            [line for line in result.curve_lines if (line.measure, line.method) == key],
            [p for p in result.curve_people if (p.measure, p.method) == key],
            population_title=title,
        )
    return figures


def render(result: ReferenceRanges) -> dict[str, bytes | str]:
    """Every file of the output but its record, by name."""
    figures = draw_figures(result)
    contents: dict[str, bytes | str] = {
        "reference_ranges.csv": records_csv(ReferenceLimit, result.rows),
        "reference_ranges.json": canonical_json(result.model),
        "by_trial.csv": records_csv(TrialLimit, result.by_trial),
        "partition.csv": records_csv(PartitionTest, result.partition),
        "contrasts.csv": records_csv(Contrast, result.contrasts),
        "calibration.csv": records_csv(Calibration, result.calibration),
        "exclusions.csv": records_csv(Exclusion, result.exclusions),
    }
    contents[TABLE_CSV] = paper_table_csv(result)
    contents[TABLE_HTML] = paper_table_html(result)
    if result.without_review is not None:
        contents[WITHOUT_REVIEW] = records_csv(ReferenceLimit, result.without_review)
    if result.options.internal:
        contents[OUTLIERS] = records_csv(Outlier, result.outliers)
    if result.indexing:
        contents[INDEXING] = records_csv(Allometry, result.indexing)
    if result.meta:
        contents[META_NAME] = records_csv(MetaEstimate, result.meta)
    names = figure_names(result.measures)
    for (measure, method), svg in figures.items():
        name = names[measure]
        of_bands = method in ("strata", META)
        contents[name if of_bands else name.replace("/limits_", "/curves_", 1)] = svg
    contents["report.html"] = reference_page(result, figures)
    return contents


def figure_names(measures: Sequence[str]) -> dict[str, str]:
    """``figures/limits_lv_edv_ml.svg`` for each measure.

    Signs that a file name cannot have become ``_``; where two names then agree, a number follows.
    """
    names: dict[str, str] = {}
    for number, measure in enumerate(measures, start=1):
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in measure)
        name = f"figures/limits_{safe[:80]}.svg"
        taken = name.casefold() in {n.casefold() for n in names.values()}
        names[measure] = f"figures/limits_{safe[:80]}_{number}.svg" if taken else name
    return names
