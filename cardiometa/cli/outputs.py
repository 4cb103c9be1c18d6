"""``cardiometa show``, ``review`` and ``withdraw``: what is done with an output of `segment`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from ..cohort.models import CohortOptions
from ..errors import UsageError
from ..options import Conflict, Needs, Option, Options, Output, is_given
from .command import Only, Segmented, command
from .output import say, show_json, show_text

_MOST_SHOWN = 200
_HERE = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowOptions(Options):
    """What is compared, and with what."""

    verify: Annotated[bool, Option(help="Compare every file with its recorded hash.")] = False
    cohort: Annotated[
        Path | None,
        Option(help="With --verify: input of segment, to compare its hashes.", exists="any"),
    ] = None
    model: Annotated[
        Path | None,
        Option(help="With --verify: model file, if not the bundled one.", exists="any"),
    ] = None
    table: Annotated[
        Path | None,
        Option(flag="--input", help="Table (or OUT of segment) it was made from.", exists="any"),
    ] = None

    RULES: ClassVar[tuple[Conflict | Needs, ...]] = (
        Needs({"cohort": is_given}, ("verify",)),
        Needs({"model": is_given}, ("verify",)),
    )


@command
def show(
    out: Segmented,
    options: ShowOptions,
    source: CohortOptions,
    output: Annotated[Output, Only("json", "verbose")],
) -> None:
    """Describe an output: command, options, versions, model, inputs, counts, whether outdated.

    --verify compares report, tables, records, masks, model and images, and names what differs.
    Exit code 3: something differs, or the output is outdated or unfinished.
    """
    from ..commands.show import describe, verify

    shown = describe(out, options.table)
    found = None
    if options.verify:
        found = verify(
            out,
            cohort=options.cohort,
            cohort_options=source,
            model=options.model,
            table=options.table,
        )
    if output.json:
        show_json({**shown, **({} if found is None else {"verify": found.document()})})
    else:
        show_text(_text(shown, out))
    if found is None:
        return
    for text in found.not_checked:
        say(f"not checked: {text}")
    for one in found.differences[:_MOST_SHOWN]:
        say(f"  - {one['where']}: {one['what']}")
    hidden = len(found.differences) - _MOST_SHOWN
    if hidden > 0:
        say(f"  … and {hidden} more (--json lists all)")
    compared = f"{found.files} files, {found.scans} scans, {found.sources} sources of images"
    if found.differences:
        say(f"{len(found.differences)} differences in {compared}")
        raise typer.Exit(3)
    say(f"no differences: {compared}")


def _text(shown: Mapping[str, Any], out: Path) -> str:
    erased = shown["withdrawn"]
    lines = [
        f"{out.resolve().name}: output of `{shown['command']}`, {shown['state']}",
        f"  made by    cardiometa {shown['version']}, {shown['finished'] or 'time unknown'}",
        f"  options    {_flat(shown['options'])}",
        *(f"  input      {name} {digest}" for name, digest in sorted(shown["inputs"].items())),
        f"  model      {_flat(shown['model'])}" if shown["model"] else "",
        f"  libraries  {_flat(shown['libraries'])}" if shown["libraries"] else "",
        *(f"  {name:<10} {_flat(counts)}" for name, counts in shown["counts"].items() if counts),
        f"  contains   {', '.join(shown['inside'])}" if shown["inside"] else "",
        f"  withdrawn  {erased} participant{'s' * (erased != 1)} erased" if erased else "",
        f"  record     sha256 {shown['record_sha256']}",
        f"  OUTDATED   {shown['stale']}" if shown["stale"] else "",
        "  to resume  rerun the command that wrote it" if shown["state"] == "interrupted" else "",
    ]
    return "\n".join(line for line in lines if line)


def _flat(values: Any) -> str:
    """Options and counts on one line; what is not set is left out."""
    parts = []
    for name, value in values.items():
        if value in (None, "", [], {}):
            continue
        if isinstance(value, dict):
            text = f"({_flat(value)})"
        elif isinstance(value, list):
            text = ",".join(str(part) for part in value)
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
        parts.append(f"{name} {text}")
    return ", ".join(parts)


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
    _show_withdrawn(done, out, quiet=output.quiet)


def _show_withdrawn(done: Mapping[str, Any], out: Path, *, quiet: bool) -> None:
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
