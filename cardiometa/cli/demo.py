"""``cardiometa demo``: the whole way on a synthetic cohort, offline, with the truth beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import JsonOption, QuietOption, guard
from .output import say, show_json


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path(
        "cardiometa-demo"
    ),
    *,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 1,
    workers: Annotated[int, typer.Option(help="0: one a core.", min=0)] = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a synthetic cohort (images too), run all three commands, compare with the truth."""
    with guard():
        from ..demo.run import run_demo

        outcome = run_demo(out, seed=seed, workers=workers, say=lambda line: say(line, quiet=quiet))
        lines = [(c.what, c.found, c.truth) for c in outcome.comparisons]
        if json:
            show_json(
                {
                    "seconds": outcome.seconds,
                    "report": "report.html",
                    "comparisons": [{"what": w, "found": f, "truth": t} for w, f, t in lines],
                }
            )
        say("found in the synthetic data, and what is true:", quiet=quiet)
        for what, found, truth in lines:
            say(f"  {what}: {found} (truth: {truth})", quiet=quiet)
        say(f"done in {outcome.seconds:.0f} s; report: {out / 'report.html'}", quiet=quiet)
