"""``cardiometa withdraw``: participants removed from an output, permanently."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..cohort.models import CohortOptions
from ..options import Output
from .command import Only, Segmented, command
from .output import say, show_json


@command
def withdraw(
    out: Segmented,
    participant: Annotated[
        list[str],
        typer.Option(
            "--participant",
            help="TRIAL/ID as in participants.csv. Repeatable. \\[required]",
            metavar="TRIAL/ID",
        ),
    ],
    keep_data: Annotated[
        bool, typer.Option("--keep-data", help="Keep rows and images, but add no new data.")
    ],
    derived: Annotated[
        list[Path] | None,
        typer.Option(
            help="Output made from this one, to be marked as outdated; those in the same folder "
            "are found. Repeatable.",
            exists=True,
            file_okay=False,
            metavar="FOLDER",
        ),
    ],
    source: Annotated[CohortOptions, Only("pseudonymise_key")],
    output: Annotated[Output, Only("json", "quiet", "verbose")],
) -> None:
    """Remove participants from an output of segment: images, masks, rows and reports.

    Their identity is kept only as a keyed hash, so that later runs do not add them again. Ranges
    and effects computed with them are marked as outdated. With --keep-data nothing is erased and
    nothing new is added.
    """
    from ..commands.withdraw import run_withdraw

    done = run_withdraw(
        out,
        participant,
        keep_data=keep_data,
        derived=derived or (),
        pseudonymise_key=source.pseudonymise_key,
    )
    if output.json:
        show_json(done)
    _show(done, out, quiet=output.quiet)


def _show(done: Mapping[str, Any], out: Path, *, quiet: bool) -> None:
    if done["mode"] == "no-new-data":
        say(f"{done['people']} marked: their rows stay, nothing new is added", quiet=quiet)
    else:
        scans = f"{done['scans_removed']} scan{'s' * (done['scans_removed'] != 1)}"
        say(f"{done['people']} erased, {scans} removed", quiet=quiet)
    if done["already_withdrawn"]:
        say(f"{done['already_withdrawn']} withdrawn before", quiet=quiet)
    if not done["tables_made_again"]:
        say(f"{out.name} has no tables until its `segment` run is complete", quiet=quiet)
    for name in done["marked_stale"]:
        say(f"outdated until computed again, with rows of the participants: {name}", quiet=quiet)
    if done["mode"] == "erased":
        say(
            "Not erased: the site's own images and tables, masks of --corrections, reading "
            "packages and their keys, files of `summarise` and `score`, copies and backups of "
            "these folders, and what is published. See README, Privacy.",
            quiet=quiet,
        )
