"""``cardiometa init``: a first cohort.toml for a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..options import Output
from .command import Only, command
from .output import say, show_text


@command
def init(
    folder: Annotated[Path, typer.Argument(help="Folder with the tables of the trials.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File to write, such as cohort.toml.", metavar="FILE"),
    ],
    output: Annotated[Output, Only("quiet", "verbose")],
) -> None:
    """Print or write a first cohort.toml; every guess in it has a comment."""
    from ..cohort.init import first_definition
    from ..files import write_text

    if out is not None and out.exists():
        raise UsageError(
            f"{out.name} already exists.", hint="Name another file, or remove it first."
        )
    text = first_definition(folder, out.parent if out is not None else None)
    if out is None:
        show_text(text)
        return
    write_text(out, text)
    say(f"Wrote {out.name}. Check each guess, then run: cardiometa check {out}", quiet=output.quiet)
