"""``cardiometa verify``: a reference's limits beside published ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from .options import JsonOption, OverwriteOption, QuietOption, VerboseOption, guard, one_of
from .output import say, show_json, show_table

if TYPE_CHECKING:
    from ..commands.compare_limits import VerifyOutcome
    from ..reference.compare_published import Comparison


_MOST_SHOWN = 60


def _line(row: Comparison) -> tuple[str, ...]:
    ages = "all" if row.age_low is None else f"{row.age_low:g}-"
    ages += "" if row.age_high is None else f"{row.age_high:g}"
    differences = (
        (row.difference_lower, row.margin_lower),
        (row.difference_upper, row.margin_upper),
    )
    return (
        row.measure,
        f"{row.sex} {row.ethnicity} {ages}",
        f"{row.lower:g}-{row.upper:g}",
        "-" if row.our_lower is None else f"{row.our_lower:.1f}-{row.our_upper:.1f}",
        *("-" if d is None else f"{d:+.1f} ±{m:.1f}" for d, m in differences),
        row.verdict,
    )


def _show(found: VerifyOutcome, out: Path | None, *, quiet: bool) -> None:
    compared = [row for row in found.rows if row.verdict != "not-compared"]
    show_table(
        ("measure", "group", "published", "ours", "lower", "upper", "verdict"),
        [_line(row) for row in compared[:_MOST_SHOWN]],
        title="Ours less published, with the margin for the uncertainty of both",
        quiet=quiet,
    )
    if len(compared) > _MOST_SHOWN:
        more = f" (all in {out})" if out else " (--out FILE.csv has all)"
        say(f"… and {len(compared) - _MOST_SHOWN} more{more}", quiet=quiet)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(found.counts().items()))
    say(f"{len(found.rows)} published intervals: {counts}", quiet=quiet)
    for reason, count in found.reasons().items():
        say(f"not compared: {count}, {reason}", quiet=quiet)
    for source in dict.fromkeys(row.source for row in found.rows if row.source):
        say(f"source: {source} (second hand: confirm in the paper)", quiet=quiet)
    if found.notice:
        say(f"note: the reference is a {found.notice}.", quiet=quiet)
    if out is not None:
        say(f"comparison: {out}", quiet=quiet)


def compare_limits(
    reference: Annotated[
        Path, typer.Argument(help="reference_ranges.json.", exists=True, dir_okay=False)
    ],
    folder: Annotated[
        Path | None, typer.Argument(help="With --preset: the folder of the transcription.")
    ] = None,
    *,
    against: Annotated[
        Path | None,
        typer.Option(help="A table of published limits.", exists=True, dir_okay=False),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="hhc2024: Healthy Hearts Consortium, from a folder.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="CSV of the comparison.", show_default=False)
    ] = None,
    kind: Annotated[str, typer.Option(help="marginal, conditional or population.")] = "marginal",
    same_conventions: Annotated[
        bool,
        typer.Option("--same-conventions", help="What one side does not state is as the other's."),
    ] = False,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Hold a reference against published limits of the same convention.

    Say --against FILE, or --preset hhc2024 DIR. A difference within the margin for the uncertainty
    of both is no difference; where the margin is wide the comparison is inconclusive.
    """
    with guard(verbose=verbose):
        from ..commands.compare_limits import PRESETS, VerifyRequest, run_verify

        if (against is None) == (preset is None):
            raise UsageError("Say either --against FILE or --preset hhc2024 DIR.")
        if preset is not None:
            one_of("--preset", preset, PRESETS)
            if folder is None or not folder.is_dir():
                raise UsageError(
                    f"--preset {preset} needs the folder of the transcription.",
                    hint=f"Say --preset {preset} DIR, DIR holding {preset}.csv.",
                )
        elif folder is not None:
            raise UsageError(f"{folder.name} is one argument too many with --against.")
        source = folder if preset is not None else against
        assert source is not None
        found = run_verify(
            VerifyRequest(
                reference=reference,
                against=source,
                preset=preset,
                out=out,
                kind=one_of("--kind", kind, ("marginal", "conditional", "population")),  # type: ignore[arg-type]
                same_conventions=same_conventions,
                overwrite=overwrite,
            )
        )
        if json:
            show_json(found.document())
            return
        _show(found, out, quiet=quiet)
