"""``cardiometa segment``: images of pooled trials to one table of volumes, mass and EF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from .options import (
    ConfigOption,
    JsonOption,
    OutOption,
    OverwriteOption,
    QuietOption,
    guard,
    one_of,
    root_folders,
)
from .output import Progress, say, show_json, show_table

if TYPE_CHECKING:
    from ..pipeline.segment import SegmentOutcome
    from ..records import ScanResult


class _Watcher:
    """Shows progress once the number of scans is known."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._progress: Progress | None = None

    def planned(self, total: int, done: int) -> None:
        """The run knows its scans: ``done`` of ``total`` are there already."""
        say(f"{total} scans, {done} already done", quiet=self._quiet)
        if total > done:
            self._progress = Progress(total - done, "scans", quiet=self._quiet)
            self._progress.__enter__()

    def finished(self, result: ScanResult) -> None:
        """One scan is committed."""
        if self._progress is not None:
            self._progress.advance("" if result.status == "ok" else f"({result.status})")

    def close(self) -> None:
        """Take the bar down."""
        if self._progress is not None:
            self._progress.__exit__()


def _show(outcome: SegmentOutcome, out: Path, *, shard: str | None, quiet: bool) -> None:
    for note in outcome.notes:
        say(note, quiet=quiet)
    for warning in outcome.warnings:
        say(f"note: {warning}", quiet=quiet)
    show_table(
        ("scans", "ok", "review", "failed", "already done", "seconds"),
        [
            (
                str(outcome.scans),
                str(outcome.ok),
                str(outcome.review),
                str(outcome.failed),
                str(outcome.already_done),
                f"{outcome.seconds:.1f}",
            )
        ],
        quiet=quiet,
    )
    where = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in outcome.stages.items())
    if where:
        say(f"time by stage, summed over scans (stages overlap): {where}", quiet=quiet)
    if shard is not None:
        say(f"shard {shard} is done; once all are: cardiometa gather {out}", quiet=quiet)
        return
    say(f"measurements: {out / 'measurements.csv'}", quiet=quiet)
    say(f"report:       {out / 'report.html'}", quiet=quiet)


def segment(
    cohort: Annotated[
        Path, typer.Argument(help="cohort.toml, a folder of trials, or one scan.", exists=True)
    ],
    out: OutOption,
    *,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps; speed only.")] = "auto",
    batch: Annotated[int, typer.Option(help="Slices a batch on a GPU; speed only.", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="0: one a core; speed only.", min=0)] = 0,
    model: Annotated[Path | None, typer.Option(help="A model file with its card.")] = None,
    bsa: Annotated[str, typer.Option(help="Body surface area: mosteller or dubois.")] = "mosteller",
    frames: Annotated[
        str,
        typer.Option(help="all phases, or ed-es: ED and ES alone, found by a coarse look at all."),
    ] = "all",
    root: Annotated[
        list[str] | None, typer.Option(help="TRIAL=DIR: where a trial's images lie now.")
    ] = None,
    series_regex: Annotated[
        str | None, typer.Option(help="Only series whose description matches.")
    ] = None,
    trial_id: Annotated[
        str | None, typer.Option(help="Trial id of a single scan (single).")
    ] = None,
    participant_id: Annotated[str | None, typer.Option(help="Its participant id (scan-1).")] = None,
    visit_id: Annotated[str | None, typer.Option(help="Its visit (baseline).")] = None,
    ids_are_pseudonyms: Annotated[
        bool, typer.Option("--ids-are-pseudonyms", help="Folder names may equal header ids.")
    ] = False,
    pseudonymise: Annotated[
        Path | None, typer.Option(help="Key file: ids become a keyed HMAC.")
    ] = None,
    allow_mixed_models: Annotated[
        bool, typer.Option("--allow-mixed-models", help="Keep scans of another model in OUT.")
    ] = False,
    corrections: Annotated[
        Path | None,
        typer.Option(
            help="Folder of masks mended by a reader: trial/participant/visit/segmentation.nii.gz.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    dicom_seg: Annotated[
        bool, typer.Option("--dicom-seg", help="ED and ES of DICOM sources as DICOM SEG too.")
    ] = False,
    dicom_identity: Annotated[
        str,
        typer.Option(help="Whose identity they carry: scrub (the cohort's own id) or keep."),
    ] = "scrub",
    timeout: Annotated[
        float,
        typer.Option(help="Seconds a scan may take before it is ended and failed; 0: none.", min=0),
    ] = 600,
    shard: Annotated[
        str | None,
        typer.Option(help="I/N: only this shard of the scans; then `cardiometa gather OUT`."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of a Dask scheduler, as tls://host:8786 (extra `dask`)."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Do every scan again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count only.")] = False,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Segment every scan of a cohort with one model and write volumes, mass and EF.

    Run the same command again to go on after a stop. Exit code 4: done, but some scans failed or
    need review.
    """
    del config
    with guard():
        from ..cohort.models import CohortOptions
        from ..cohort.pseudonyms import key_warning
        from ..pipeline.plan import Shard
        from ..pipeline.segment import SegmentOptions, Watch, run_segment

        one_of("--dicom-identity", dicom_identity, ("scrub", "keep"))
        if dicom_identity == "keep" and not dicom_seg:
            raise UsageError(
                "--dicom-identity keep needs --dicom-seg.", hint="Say both, or neither."
            )
        if pseudonymise is not None and (note := key_warning(pseudonymise)):
            say(f"note: {note}", quiet=quiet)
        watcher = _Watcher(quiet=quiet)
        try:
            outcome = run_segment(
                cohort,
                out,
                CohortOptions(
                    root_overrides=root_folders(root or []),
                    trial_id=trial_id,
                    participant_id=participant_id,
                    visit_id=visit_id,
                    ids_are_pseudonyms=ids_are_pseudonyms,
                    pseudonymise_key=pseudonymise,
                ),
                SegmentOptions(
                    bsa_formula=bsa,
                    frames=frames,
                    model=model,
                    series_regex=series_regex,
                    corrections=corrections,
                    dicom_seg=dicom_identity if dicom_seg else None,
                    device=device,
                    batch=batch,
                    workers=workers,
                    overwrite=overwrite,
                    restart=restart,
                    allow_mixed_models=allow_mixed_models,
                    dry_run=dry_run,
                    timeout_s=timeout,
                    shard=Shard.parse(shard) if shard is not None else None,
                    scheduler=scheduler,
                ),
                Watch(planned=watcher.planned, finished=watcher.finished),
            )
        finally:
            watcher.close()
        if json:
            show_json(
                {
                    "scans": outcome.scans,
                    "ok": outcome.ok,
                    "review": outcome.review,
                    "failed": outcome.failed,
                    "already_done": outcome.already_done,
                    "corrected": outcome.corrected,
                    "flow": outcome.flow,
                    "warnings": list(outcome.warnings),
                    "measurements": "measurements.csv",
                }
            )
        if not dry_run:
            _show(outcome, out, shard=shard, quiet=quiet)
        if outcome.failed or outcome.review:
            where = f"the columns status and flags in {out / 'measurements.csv'}"
            if shard is not None:
                where = "the table that `cardiometa gather` makes"
            say(f"{outcome.failed} failed and {outcome.review} to review: see {where}")
            raise typer.Exit(4)
