"""``cardiometa review``: readers check, edit, accept and reject contours in the browser."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..cohort.models import CohortOptions
from ..errors import UsageError
from ..options import Option, Options, Output
from .command import Only, Segmented, command
from .output import say

_HERE = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewOptions(Options):
    """Who reviews what, and where the page is served."""

    cohort: Annotated[Path, Option(help="Cohort with the images.", exists="any", metavar="COHORT")]
    reader: Annotated[
        str, Option(help="Initials or code of the reader; kept with each decision.", metavar="NAME")
    ] = "reader-1"
    blind: Annotated[
        bool, Option(help="Hide ids, visits, arms and the model's numbers; random order.")
    ] = False
    measure: Annotated[
        str, Option(help="Measure whose error decides the order of the queue.", metavar="MEASURE")
    ] = "lv_ef_percent"
    port: Annotated[int, Option(help="Port (0: a free one).", minimum=0)] = 0
    host: Annotated[
        str, Option(help="Address to serve; any other than 127.0.0.1 opens it to the network.")
    ] = _HERE


@command
def review(
    out: Segmented,
    options: ReviewOptions,
    source: CohortOptions,
    output: Annotated[Output, Only("quiet", "verbose")],
) -> None:
    """Review contours in the browser: play the cine, edit, accept or reject; Ctrl-C ends it.

    Decisions and masks go to OUT/review as they are made. Then `cardiometa segment COHORT --out
    OUT --corrections OUT/review` brings them into the tables.
    """
    try:
        from ..review.server import Server
    except ImportError:
        raise UsageError(
            "`review` needs Starlette and uvicorn, which are not installed.",
            hint="pip install 'cardiometa[review]'",
        ) from None
    from ..cohort.load import load_cohort
    from ..review.session import Session

    sources = {scan.key: scan.source for scan in load_cohort(options.cohort, source).scans}
    session = Session(
        out, sources, reader=options.reader, blind=options.blind, measure=options.measure
    )
    with session:
        server = Server(session, options.host, options.port)
        if options.host != _HERE:
            say(
                f"warning: the page is served on {options.host}, unencrypted: whoever can read "
                "the network sees images and can use the address below."
            )
        say(f"review: {server.address}")
        say("Open this address in a browser on this machine. Ctrl-C ends the review.")
        # uvicorn ends on the first Ctrl-C, and passes it on when all is closed.
        with suppress(KeyboardInterrupt):
            server.run()
    say(f"decisions: {out / 'review' / 'decisions.csv'}", quiet=output.quiet)
    say(
        f"next: cardiometa segment {options.cohort} --out {out} --corrections {out / 'review'}",
        quiet=output.quiet,
    )
