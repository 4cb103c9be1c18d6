"""Which processes run in a session, from /proc alone."""

from __future__ import annotations

import time
from pathlib import Path


def of_session(session: int) -> dict[int, str]:
    """The command of each living process of a session, by number."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        state, member = fields[0], int(fields[3])
        if member == session and state not in "ZX":
            found[int(folder.name)] = words.replace(b"\0", b" ").decode(errors="replace")
    return found


def none_left(session: int, seconds: float = 20) -> bool:
    """True once no process of a session is left; False where some still are after a while."""
    until = time.monotonic() + seconds
    while of_session(session) and time.monotonic() < until:
        time.sleep(0.1)
    return not of_session(session)
