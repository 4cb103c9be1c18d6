"""``cardiometa init``: the first cohort.toml of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import QuietOption, guard
from .output import say, show_text


def init(
    folder: Annotated[Path, typer.Argument(help="Folder with the trials' tables.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File to write, such as cohort.toml.", show_default=False),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Print or write a first cohort.toml; every guess in it is commented."""
    with guard():
        from ..cohort.init import first_definition
        from ..errors import UsageError
        from ..files import write_text

        if out is not None and out.exists():
            raise UsageError(
                f"{out.name} is there already.", hint="Name another file, or remove it first."
            )
        text = first_definition(folder, out.parent if out is not None else None)
        if out is None:
            show_text(text)
            return
        write_text(out, text)
        say(f"Wrote {out.name}. Look at each guess, then: cardiometa check {out}", quiet=quiet)
