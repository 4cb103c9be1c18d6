"""``cardiometa demo``: the full pipeline on a synthetic cohort, compared with the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Output
from .command import Only, command
from .output import say, show_json


@command
def demo(
    output: Annotated[Output, Only("json", "quiet", "verbose")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the results.", metavar="FOLDER")
    ] = Path("cardiometa-demo"),
    seed: Annotated[int, typer.Option(help="Random seed.", metavar="N")] = 1,
    workers: Annotated[
        int,
        typer.Option(
            help="Worker processes (0: one per core). Does not change results.", min=0, metavar="N"
        ),
    ] = 0,
) -> None:
    """Make a synthetic cohort with images, run the main commands, compare with the truth."""
    from ..demo.run import run_demo

    quiet = output.quiet
    outcome = run_demo(out, seed=seed, workers=workers, say=lambda line: say(line, quiet=quiet))
    lines = [(c.what, c.found, c.truth) for c in outcome.comparisons]
    if output.json:
        show_json(
            {
                "seconds": outcome.seconds,
                "report": "report.html",
                "comparisons": [{"what": w, "found": f, "truth": t} for w, f, t in lines],
            }
        )
    say("estimates from the synthetic data, and the truth:", quiet=quiet)
    for what, found, truth in lines:
        say(f"  {what}: {found} (truth: {truth})", quiet=quiet)
    say(f"done in {outcome.seconds:.0f} s; report: {out / 'report.html'}", quiet=quiet)
