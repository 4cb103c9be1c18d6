"""``cardiometa compare-limits``: a reference's limits against published ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import UsageError
from ..options import Option, Options, Output
from .command import Reference, command
from .output import say, show_json, show_table, show_warnings

if TYPE_CHECKING:
    from ..commands.compare_limits import CompareOutcome
    from ..reference.compare_published import Comparison

_MOST_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonOptions(Options):
    """What the limits are compared with."""

    against: Annotated[
        Path | None,
        Option(help="Table of published limits.", exists="file", metavar="FILE"),
    ] = None
    preset: Annotated[
        Literal["hhc2024"] | None,
        Option(help="Healthy Hearts Consortium 2024, from FOLDER."),
    ] = None
    out: Annotated[Path | None, Option(help="CSV file of the comparison.", metavar="FILE")] = None
    kind: Annotated[
        Literal["marginal", "conditional", "population"], Option(help="Limits to compare.")
    ] = "marginal"
    same_conventions: Annotated[
        bool, Option(help="Assume the other side's conventions where one side states none.")
    ] = False
    accept: Annotated[
        tuple[Literal["modified-input"], ...],
        Option(help="Continue with a reference that was changed by hand."),
    ] = ()

    def source(self, folder: Path | None) -> Path:
        """The file or folder of published limits; raises UsageError."""
        if (self.against is None) == (self.preset is None):
            raise UsageError("Use either --against FILE or --preset hhc2024 FOLDER.")
        if self.against is not None:
            if folder is not None:
                raise UsageError("--against takes no folder argument.")
            return self.against
        if folder is None or not folder.is_dir():
            raise UsageError(
                f"--preset {self.preset} needs the folder of the transcription.",
                hint=f"Use --preset {self.preset} FOLDER, which contains {self.preset}.csv.",
            )
        return folder


@command
def compare_limits(
    reference: Reference,
    folder: Annotated[
        Path | None, typer.Argument(help="With --preset: folder of the transcription.")
    ],
    options: ComparisonOptions,
    output: Output,
) -> None:
    """Compare reference limits with published ones of the same convention.

    Differences within the combined uncertainty are reported as equivalent; where the uncertainty
    is large, the comparison is inconclusive.
    """
    from ..commands.compare_limits import CompareRequest, run_compare_limits

    found = run_compare_limits(
        CompareRequest(
            reference=reference,
            against=options.source(folder),
            preset=options.preset,
            out=options.out,
            kind=options.kind,
            same_conventions=options.same_conventions,
            accept=options.accept,
            overwrite=output.overwrite,
        )
    )
    show_warnings(found.warnings, quiet=output.quiet)
    if output.json:
        show_json(found.document())
    else:
        _show(found, options.out, quiet=output.quiet)


def _show(found: CompareOutcome, out: Path | None, *, quiet: bool) -> None:
    compared = [row for row in found.rows if row.verdict != "not-compared"]
    show_table(
        ("measure", "group", "published", "ours", "lower", "upper", "verdict"),
        [_line(row) for row in compared[:_MOST_SHOWN]],
        title="Difference from the published limit ± combined uncertainty",
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


def _line(row: Comparison) -> tuple[str, ...]:
    ages = "all" if row.age_low is None else f"{row.age_low:g}-"
    ages += "" if row.age_high is None else f"{row.age_high:g}"
    lower, upper = (
        (row.difference_lower, row.margin_lower),
        (row.difference_upper, row.margin_upper),
    )
    return (
        row.measure,
        f"{row.sex} {row.ethnicity} {ages}",
        f"{row.lower:g}-{row.upper:g}",
        "-" if row.our_lower is None else f"{row.our_lower:.1f}-{row.our_upper:.1f}",
        *("-" if d is None else f"{d:+.1f} ±{m:.1f}" for d, m in (lower, upper)),
        row.verdict,
    )
