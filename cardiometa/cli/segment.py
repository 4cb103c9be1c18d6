"""``cardiometa segment`` and ``merge``: images of pooled trials to one table of measures."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..cohort.models import CohortOptions
from ..options import Output
from ..pipeline.options import DicomOutput, SegmentOptions
from .command import CohortArgument, Only, Out, Run, Segmented, command
from .output import Progress, duration, say, show_json, show_table, show_warnings

if TYPE_CHECKING:
    from ..pipeline.plan import Estimate
    from ..pipeline.segment import SegmentOutcome

_COUNTS = ("scans", "ok", "review", "failed")
_MOST_REASONS = 10


@command
def segment(
    cohort: CohortArgument,
    out: Out,
    options: SegmentOptions,
    source: CohortOptions,
    dicom: DicomOutput,
    run: Run,
    output: Output,
) -> None:
    """Segment every scan of a cohort with one model and write volumes, mass and EF.

    Runs can be interrupted at any time; rerun the same command to resume. Exit code 4: done, but
    some scans failed or need review.
    """
    from ..cohort.pseudonyms import key_warning
    from ..pipeline.segment import Watch, run_segment

    quiet, key = output.quiet, source.pseudonymise_key
    if key is not None and (note := key_warning(key)):
        say(f"note: {note}", quiet=quiet)
    options = replace(options, dicom_seg=dicom.identity, overwrite=output.overwrite)
    with Progress("scans", quiet=quiet) as progress:
        watch = Watch(
            planned=progress.planned,
            finished=lambda scan: progress.done("" if scan.status == "ok" else f"({scan.status})"),
        )
        outcome = run_segment(cohort, out, source, options, watch)
    run.report(quiet=quiet)
    if output.json:
        _show_json(outcome, *_COUNTS, "already_done", "corrected", "flow")
    if outcome.estimate is not None:
        show_warnings(outcome.warnings, quiet=quiet)
        _show_estimate(outcome.estimate, out, quiet=quiet)
    else:
        _show(outcome, already_done=outcome.already_done, quiet=quiet)
        stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in outcome.stages.items())
        if stages:
            say(f"time by stage, summed over scans (stages overlap): {stages}", quiet=quiet)
        if options.shard is None:
            _show_files(out, quiet=quiet)
        else:
            shard = options.shard_text
            say(f"shard {shard} is done; once all are: cardiometa merge {out}", quiet=quiet)
    _exit_with_status(outcome, out, sharded=options.shard is not None)


@command
def merge(out: Segmented, output: Annotated[Output, Only("json", "quiet", "verbose")]) -> None:
    """Merge the shards of a run: write its tables, participant flow and report.

    The result equals that of one run over all scans. Exit code 3: some scans are not done yet
    (named). Exit code 4: done, but some scans failed or need review.
    """
    from ..commands.merge import run_merge

    found = run_merge(out)
    if output.json:
        _show_json(found, *_COUNTS, "flow")
    _show(found, quiet=output.quiet)
    _show_files(out, quiet=output.quiet)
    _exit_with_status(found, out)


def _show_json(outcome: SegmentOutcome, *names: str) -> None:
    found: dict[str, Any] = {name: getattr(outcome, name) for name in names}
    warnings = list(outcome.warnings)
    if outcome.estimate is not None:
        found["estimate"] = asdict(outcome.estimate)
    show_json({**found, "warnings": warnings, "measurements": "measurements.csv"})


def _show(outcome: SegmentOutcome, *, quiet: bool, **others: int) -> None:
    for note in outcome.notes:
        say(note, quiet=quiet)
    show_warnings(outcome.warnings, quiet=quiet)
    counts = {**{name: getattr(outcome, name) for name in _COUNTS}, **others}
    names = [name.replace("_", " ") for name in counts]
    cells = [str(count) for count in counts.values()]
    show_table([*names, "seconds"], [[*cells, f"{outcome.seconds:.1f}"]], quiet=quiet)


def _show_estimate(found: Estimate, out: Path, *, quiet: bool) -> None:
    cores = f"{found.cores} core{'s' * (found.cores != 1)}"
    basis = f"as {found.measured} finished scans of this output"
    if not found.measured:
        basis = "at the rate of examples/scale.md, without a GPU"
    say(f"dry run: {found.scans} scans to segment, about {found.images:,} images", quiet=quiet)
    say(f"  time: about {duration(found.seconds)} on {cores}, {basis}", quiet=quiet)
    disk, free = (f"{n / 1e6:,.0f} MB" for n in (found.disk_bytes, found.free_bytes))
    say(f"  disk: about {disk} in {out}, where {free} are free", quiet=quiet)
    if found.disk_bytes > found.free_bytes:
        say("warning: The disk is too small for this run.")


def _show_files(out: Path, *, quiet: bool) -> None:
    say(f"measurements: {out / 'measurements.csv'}", quiet=quiet)
    say(f"report:       {out / 'report.html'}", quiet=quiet)


def _exit_with_status(outcome: SegmentOutcome, out: Path, *, sharded: bool = False) -> None:
    """Exit code 4, with the reasons, where scans failed or need review."""
    if not (outcome.failed or outcome.review):
        return
    for reason in outcome.failures[:_MOST_REASONS]:
        say(f"failed: {reason}")
    if len(outcome.failures) > _MOST_REASONS:
        say(f"failed: {len(outcome.failures) - _MOST_REASONS} further reasons in exclusions.csv")
    where = f"the columns status and flags in {out / 'measurements.csv'}"
    if sharded:
        where = "the table that `cardiometa merge` makes"
    say(f"{outcome.failed} failed and {outcome.review} to review: see {where}")
    raise typer.Exit(4)
