"""``cardiometa merge``: the tables of an output whose scans were done in shards."""

from __future__ import annotations

from typing import Annotated

from ..options import Output
from .command import Only, Segmented, command
from .output import exit_with_status, say, show_json, show_table, show_warnings


@command
def merge(out: Segmented, output: Annotated[Output, Only("json", "quiet", "verbose")]) -> None:
    """Merge the shards of a run: write its tables, participant flow and report.

    The result equals that of one run over all scans. Exit code 3: some scans are not done yet
    (named). Exit code 4: done, but some scans failed or need review.
    """
    from ..commands.merge import run_merge

    found, quiet = run_merge(out), output.quiet
    names = ("scans", "ok", "review", "failed")
    if output.json:
        show_json(
            {
                **{name: getattr(found, name) for name in (*names, "flow")},
                "warnings": list(found.warnings),
                "measurements": "measurements.csv",
            }
        )
    for note in found.notes:
        say(note, quiet=quiet)
    show_warnings(found.warnings, quiet=quiet)
    cells = (*(str(getattr(found, name)) for name in names), f"{found.seconds:.1f}")
    show_table((*names, "seconds"), [cells], quiet=quiet)
    say(f"measurements: {out / 'measurements.csv'}", quiet=quiet)
    say(f"report:       {out / 'report.html'}", quiet=quiet)
    exit_with_status(found, out)
