"""``cardiometa gather``: the tables of an output whose scans were done in shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import JsonOption, QuietOption, guard
from .output import say, show_json, show_table


def merge(
    out: Annotated[
        Path,
        typer.Argument(help="The folder given to segment --out.", exists=True, file_okay=False),
    ],
    *,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make the tables, the account and the page of an output whose scans were done in shards.

    They are what one run over all scans writes. Exit code 3: scans are not done yet, named.
    Exit code 4: done, but some scans failed or need review.
    """
    with guard():
        from ..commands.merge import run_gather

        found = run_gather(out)
        if json:
            show_json(
                {
                    "scans": found.scans,
                    "ok": found.ok,
                    "review": found.review,
                    "failed": found.failed,
                    "flow": found.flow,
                    "warnings": list(found.warnings),
                    "measurements": "measurements.csv",
                }
            )
        for note in found.notes:
            say(note, quiet=quiet)
        for warning in found.warnings:
            say(f"note: {warning}", quiet=quiet)
        cells = (found.scans, found.ok, found.review, found.failed, f"{found.seconds:.1f}")
        show_table(
            ("scans", "ok", "review", "failed", "seconds"),
            [tuple(str(cell) for cell in cells)],
            quiet=quiet,
        )
        say(f"measurements: {out / 'measurements.csv'}", quiet=quiet)
        say(f"report:       {out / 'report.html'}", quiet=quiet)
        if found.failed or found.review:
            say(
                f"{found.failed} failed and {found.review} to review: "
                f"see the columns status and flags in {out / 'measurements.csv'}",
            )
            raise typer.Exit(4)
