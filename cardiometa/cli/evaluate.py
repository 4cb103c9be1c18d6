"""``cardiometa evaluate``: the model against readers or reported values, by group."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from ..cohort.models import CohortOptions
from ..errors import UsageError
from ..evaluation.options import EvaluationOptions, ReadingOptions
from ..options import Output
from .command import Run, Segmented, command
from .output import Progress, say, show_json, show_table, show_warnings

if TYPE_CHECKING:
    from ..evaluation.agreement import Estimate
    from ..evaluation.results import EvaluationResult


@command
def evaluate(
    segmented: Segmented,
    reading: ReadingOptions,
    options: EvaluationOptions,
    source: CohortOptions,
    run: Run,
    output: Output,
) -> None:
    """Compare an output of segment with readers' labels or reported values, by group.

    Four uses: --against labels --labels FOLDER or --against reported (and --repeat-visits), with
    --out; --export-for-reading FOLDER --cohort COHORT --key FILE; --import-reading FOLDER --key
    FILE --out FOLDER; --import-review OUT/review --out FOLDER. Exit code 4: done, but some labels
    could not be used.
    """
    compares = options.against is not None or options.repeat_visits is not None
    parts = (reading.export_for_reading, reading.import_reading, reading.import_review)
    if any(part is not None for part in parts):
        if compares:
            raise UsageError("--against and --repeat-visits do not go with a reading package.")
        if reading.export_for_reading is not None:
            _export(segmented, reading, options.seed, source, output)
        else:
            _import(segmented, reading, options.least, output)
        return
    problems = []
    if reading.out is None:
        problems.append("Missing: --out.")
    if not compares:
        problems.append(
            "Nothing to compare with: use --against labels --labels FOLDER, --against reported or "
            "--repeat-visits."
        )
    if (options.against == "labels") != (reading.labels is not None):
        problems.append("--against labels and --labels FOLDER_OR_CSV need each other.")
    if problems or reading.out is None:
        raise UsageError("\n  ".join(problems))
    _compare(segmented, reading.out, reading, options, run, output)


def _compare(
    segmented: Path,
    out: Path,
    reading: ReadingOptions,
    options: EvaluationOptions,
    run: Run,
    output: Output,
) -> None:
    from ..commands.evaluate import EvaluateRequest, Watch, document, run_evaluate, unusable_labels

    run.report(quiet=output.quiet)
    request = EvaluateRequest(
        segmented=segmented,
        out=out,
        options=options,
        labels=reading.labels,
        label_order=reading.label_order,
        plan_sha256=run.sha256,
        departures=run.departures,
        table_options=reading.table,
        overwrite=output.overwrite,
    )
    with Progress("labels", quiet=output.quiet) as progress:
        result = run_evaluate(request, Watch(planned=progress.planned, read=progress.done))
    show_warnings(result.warnings, quiet=output.quiet)
    if output.json:
        show_json(document(result, {}))
    else:
        _show(result, out, quiet=output.quiet)
    unusable = unusable_labels(result)
    if unusable:
        say(f"labels of {unusable} scans could not be used: see {out / 'exclusions.csv'}")
        raise typer.Exit(4)


def _export(
    segmented: Path, reading: ReadingOptions, seed: int, source: CohortOptions, output: Output
) -> None:
    from ..commands.reading_package import export_package

    with Progress("scans", quiet=output.quiet) as progress:
        outcome = export_package(
            segmented,
            reading,
            source,
            seed=seed,
            overwrite=output.overwrite,
            planned=progress.planned,
            done=progress.done,
        )
    if output.json:
        show_json(outcome)
        return
    say(
        f"{outcome['flagged']} flagged and {outcome['random']} other scans of "
        f"{outcome['scans']}: {reading.export_for_reading}",
        quiet=output.quiet,
    )
    say(f"key, not for the reader: {reading.key}", quiet=output.quiet)


def _import(segmented: Path, reading: ReadingOptions, least: int, output: Output) -> None:
    """A completed package, or the decisions of `review`."""
    if reading.import_review is None:
        from ..commands.reading_package import import_package as import_
    else:
        from ..commands.reading_review import import_review as import_

    outcome = import_(segmented, reading, least=least, overwrite=output.overwrite)
    out, quiet = reading.out, output.quiet
    assert out is not None
    if output.json:
        show_json(outcome)
    elif reading.import_review is not None:
        words = ", ".join(f"{outcome[word]} {word}" for word in ("accepted", "edited", "rejected"))
        say(
            f"{outcome['read']} decisions of {', '.join(outcome['readers'])}: {words}; median time "
            f"per scan {outcome['seconds_per_scan']:.0f} s: {out}",
            quiet=quiet,
        )
    else:
        say(f"{outcome['read']} scans read, {outcome['changed']} changed: {out}", quiet=quiet)
        if outcome["read"] and outcome["corrections"]:
            folder = out / outcome["corrections"]
            say(f"next: cardiometa segment COHORT --out OUT --corrections {folder}", quiet=quiet)


def _cell(value: float | None, decimals: int = 1) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _of(estimate: Estimate | Literal[False] | None, shown: str = "{0.value:.1f}") -> str:
    """What ``shown`` prints of an estimate; a dash where there is none."""
    return shown.format(estimate) if estimate else "-"


def _show(result: EvaluationResult, out: Path, *, quiet: bool) -> None:
    compared = result.compared
    say(
        f"scans: {compared.scans_in} in, {len(compared.scans)} compared, "
        f"{len(compared.exclusions)} excluded",
        quiet=quiet,
    )
    dice = [
        (
            r.structure if r.scope == "whole-stack" else f"{r.structure} ({r.scope})",
            r.phase,
            r.scans_used,
            r.note if r.n_people is None else str(r.n_people),
            _cell(r.mean, 3),
            f"{_cell(r.ci_low, 3)} to {_cell(r.ci_high, 3)}",
        )
        for r in result.overlap
        if r.group_by == "all" and r.metric == "dice"
    ]
    rows = [
        (
            r.measure if r.scope != "contoured-slices" else f"{r.measure} ({r.scope})",
            r.scans_used,
            r.note if r.n_people is None else str(r.n_people),
            _of(r.bias),
            _of(r.bias and r.bias.low is not None and r.bias, "{0.low:.1f} to {0.high:.1f}"),
            f"{_of(r.loa_lower)} to {_of(r.loa_upper)}",
            _of(r.mae),
            _of(r.icc, "{0.value:.3f}"),
        )
        for r in result.agreement
        if r.group_by == "all"
    ]
    counted = ("scans used", "participants")
    for heading, cells in (
        (("structure", "phase", *counted, "Dice", "95% interval"), dice),
        (("measure", *counted, "bias", "95% interval", "limits", "MAE", "ICC"), rows),
    ):
        if cells:
            show_table(heading, cells, quiet=quiet)
    for name in ("agreement.csv", "overlap.csv", "repeatability.csv", "report.html"):
        if (out / name).is_file():
            say(f"{name}: {out / name}", quiet=quiet)
