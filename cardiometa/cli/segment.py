"""``cardiometa segment``: images of pooled trials to one table of volumes, mass and EF."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..cohort.models import CohortOptions
from ..options import Output
from ..pipeline.options import DicomOutput, SegmentOptions
from .command import CohortArgument, Out, Run, command
from .output import ProgressCallbacks, exit_with_status, say, show_json, show_table, show_warnings

if TYPE_CHECKING:
    from ..pipeline.segment import SegmentOutcome


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
    with ProgressCallbacks("scans", quiet=quiet) as progress:
        watch = Watch(
            planned=progress.planned,
            finished=lambda scan: progress.done("" if scan.status == "ok" else f"({scan.status})"),
        )
        outcome = run_segment(cohort, out, source, options, watch)
    run.report(quiet=quiet)
    names = ("scans", "ok", "review", "failed", "already_done", "corrected", "flow")
    if output.json:
        show_json(
            {
                **{name: getattr(outcome, name) for name in names},
                "warnings": list(outcome.warnings),
                "measurements": "measurements.csv",
            }
        )
    if not options.dry_run:
        _show(outcome, out, shard=options.shard_text, quiet=quiet)
    exit_with_status(outcome, out, sharded=options.shard is not None)


def _show(outcome: SegmentOutcome, out: Path, *, shard: str | None, quiet: bool) -> None:
    for note in outcome.notes:
        say(note, quiet=quiet)
    show_warnings(outcome.warnings, quiet=quiet)
    counts = (outcome.scans, outcome.ok, outcome.review, outcome.failed, outcome.already_done)
    show_table(
        ("scans", "ok", "review", "failed", "already done", "seconds"),
        [(*map(str, counts), f"{outcome.seconds:.1f}")],
        quiet=quiet,
    )
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in outcome.stages.items())
    if stages:
        say(f"time by stage, summed over scans (stages overlap): {stages}", quiet=quiet)
    if shard is not None:
        say(f"shard {shard} is done; once all are: cardiometa merge {out}", quiet=quiet)
        return
    say(f"measurements: {out / 'measurements.csv'}", quiet=quiet)
    say(f"report:       {out / 'report.html'}", quiet=quiet)
