"""``cardiometa doctor``: this machine's setup, with advice on what is missing."""

from __future__ import annotations

from typing import Annotated

from ..options import Output
from .command import Only, command
from .output import show_json, show_table


@command
def doctor(output: Annotated[Output, Only("json", "verbose")]) -> None:
    """Check this machine's setup: torch, device, decoders and memory, with advice for each."""
    from ..commands.doctor import examine

    findings = examine()
    if output.json:
        show_json([{"what": f.what, "found": f.found, "advice": f.advice} for f in findings])
        return
    show_table(("what", "found", "advice"), [(f.what, f.found, f.advice or "ok") for f in findings])
