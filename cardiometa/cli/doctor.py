"""``cardiometa doctor``: what this machine has, and what to do about what it lacks."""

from __future__ import annotations

from .options import JsonOption, guard
from .output import show_json, show_table


def doctor(*, json: JsonOption = False) -> None:
    """Look at torch, device, decoders and memory, with advice for each."""
    with guard():
        from ..commands.doctor import examine

        findings = examine()
        if json:
            show_json([{"what": f.what, "found": f.found, "advice": f.advice} for f in findings])
            return
        show_table(
            ("what", "found", "advice"), [(f.what, f.found, f.advice or "fine") for f in findings]
        )
