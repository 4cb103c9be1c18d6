"""``cardiometa withdraw``: people out of an output, for good."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import JsonOption, QuietOption, VerboseOption, guard
from .output import say, show_json

if TYPE_CHECKING:
    from ..commands.withdraw import WithdrawOutcome


def _show(outcome: WithdrawOutcome, out: Path, *, quiet: bool) -> None:
    if outcome.mode == "no-new-data":
        say(f"{outcome.people} marked: their rows stay, nothing new is added", quiet=quiet)
    else:
        scans = f"{outcome.scans_removed} scan{'' if outcome.scans_removed == 1 else 's'}"
        say(f"{outcome.people} erased, {scans} removed", quiet=quiet)
    if outcome.already:
        say(f"{outcome.already} withdrawn before", quiet=quiet)
    if not outcome.tables:
        say(f"{out.name} has no tables until its `segment` run is complete", quiet=quiet)
    for name in outcome.marked:
        say(f"stale until computed again: {name}", quiet=quiet)
    if outcome.mode == "erased":
        say(
            "Not reached: the site's own images and tables, masks of --corrections, reading "
            "packages and their keys, files of `summarise` and `score`, copies and backups of "
            "these folders, and what is published. See README, Privacy.",
            quiet=quiet,
        )


def withdraw(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="OUT of segment.", exists=True)],
    *,
    participant: Annotated[
        list[str], typer.Option(help="TRIAL/ID as in participants.csv (repeat).")
    ],
    keep_data: Annotated[
        bool,
        typer.Option("--keep-data", help="No new data: rows and images stay, nothing is added."),
    ] = False,
    derived: Annotated[
        list[Path] | None,
        typer.Option(
            help="An output made from OUT's table, to be marked stale (repeat); those beside OUT "
            "are found.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    pseudonymise: Annotated[
        Path | None, typer.Option(help="Key file of OUT: the ids given are the cohort's own.")
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Erase people from OUT: images, masks, rows and pages; they do not come back.

    Who they were stands nowhere but as a keyed hash. Ranges and effects computed with them are
    marked stale. With --keep-data nothing is erased and nothing new is taken.
    """
    with guard(verbose=verbose):
        from ..commands.withdraw import WithdrawRequest, run_withdraw

        outcome = run_withdraw(
            WithdrawRequest(
                out=out,
                people=tuple(participant),
                keep_data=keep_data,
                derived=tuple(derived or ()),
                pseudonymise_key=pseudonymise,
            )
        )
        if json:
            show_json(outcome.document())
        _show(outcome, out, quiet=quiet)
