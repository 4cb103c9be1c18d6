"""``cardiometa show``: what an output is, and whether it still is what was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .options import JsonOption, VerboseOption, guard, root_folders
from .output import say, show_json, show_text

if TYPE_CHECKING:
    from ..commands.show import Shown
    from ..commands.verify_output import Verified

_MOST_SHOWN = 200


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


def _text(shown: Shown, out: Path) -> str:
    lines = [
        f"{out.resolve().name}: an output of `{shown.command}`, {shown.state}",
        f"  made by    cardiometa {shown.version}, {shown.finished or 'time unknown'}",
        f"  options    {_flat(shown.options)}",
        *(f"  input      {name} {digest}" for name, digest in sorted(shown.inputs.items())),
    ]
    if shown.model:
        lines.append(f"  model      {_flat(shown.model)}")
    if shown.libraries:
        lines.append(f"  libraries  {_flat(shown.libraries)}")
    lines += [f"  {name:<10} {_flat(counts)}" for name, counts in shown.counts.items() if counts]
    if shown.inside:
        lines.append(f"  holds      {', '.join(shown.inside)}")
    if shown.withdrawn:
        people = "1 participant" if shown.withdrawn == 1 else f"{shown.withdrawn} participants"
        lines.append(f"  withdrawn  {people} erased")
    lines.append(f"  record     sha256 {shown.record_sha256}")
    if shown.stale:
        lines.append(f"  STALE      {shown.stale}")
    return "\n".join(lines)


def _show_verified(found: Verified) -> None:
    for text in found.not_checked:
        say(f"not looked at: {text}")
    for difference in found.differences[:_MOST_SHOWN]:
        say(f"  - {difference}")
    hidden = len(found.differences) - _MOST_SHOWN
    if hidden > 0:
        say(f"  … and {hidden} more (--json lists all)")
    looked = f"{found.files} files, {found.scans} scans, {found.sources} sources of images"
    if found.differences:
        say(f"{len(found.differences)} differences in {looked}")
    else:
        say(f"nothing differs: {looked}")


def show(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder of results.", exists=True)],
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every file with what it was made from.")
    ] = False,
    cohort: Annotated[
        Path | None,
        typer.Option(
            help="With --verify: the input of segment, to compare its hashes.", exists=True
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="With --verify: a model file of its own.", exists=True)
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--input", help="The table (or OUT of segment) it was made from.", exists=True
        ),
    ] = None,
    root: Annotated[
        list[str] | None, typer.Option(help="With --cohort: TRIAL=DIR, where images lie now.")
    ] = None,
    ids_are_pseudonyms: Annotated[
        bool, typer.Option("--ids-are-pseudonyms", help="With --cohort: as for segment.")
    ] = False,
    pseudonymise: Annotated[
        Path | None, typer.Option(help="With --cohort: key file, as for segment.")
    ] = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Say what OUT is: command, options, versions, model, inputs, counts, and whether it is stale.

    --verify walks from the page over the tables, the records and the masks to the model and the
    images, and names what differs first. Exit code 3: something differs, or OUT is stale or
    unfinished.
    """
    with guard(verbose=verbose):
        from ..commands.show import show as describe

        if not verify and (cohort is not None or model is not None):
            raise UsageError("--cohort and --model go with --verify.")
        shown = describe(out, table)
        found = None
        if verify:
            from ..cohort.models import CohortOptions
            from ..commands.verify_output import VerifyRequest
            from ..commands.verify_output import verify as compare

            found = compare(
                VerifyRequest(
                    out=out,
                    cohort=cohort,
                    cohort_options=CohortOptions(
                        root_overrides=root_folders(root or []),
                        ids_are_pseudonyms=ids_are_pseudonyms,
                        pseudonymise_key=pseudonymise,
                    ),
                    model=model,
                    table=table,
                )
            )
        if json:
            verified = {} if found is None else {"verify": found.document()}
            show_json({**shown.document(), **verified})
        else:
            show_text(_text(shown, out))
        if found is not None:
            _show_verified(found)
            if found.differences:
                raise typer.Exit(3)
