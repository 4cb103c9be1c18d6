"""One writer to an output at a time, across machines, without a lock service.

Each run has a file of its own in OUT, ``.cardiometa.<run>.lock``: what runs there, and by the
file's time when it last gave a sign of life. A run first writes its file, then looks at the
others', and goes on only where none is in its way; two that start together both see each other
and try again. Names are never used twice, so that clearing an abandoned file cannot hit a new
owner. Nothing but creating, listing and the time of a file is used, so this holds on NFS, Lustre
and the like; ``flock`` does not on all of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import random
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from . import files
from .errors import EngineError, OutputError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds between signs of life, and without one until a run counts as gone."""

    beat_s: float = 10.0
    stale_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a run wants of an output: all of it, or shard ``shard`` = (number, of how many)."""

    command: str
    shard: tuple[int, int] | None = None

    def bars(self, other: Claim) -> bool:
        """True where both cannot run at once: only different shards of one split can."""
        if self.shard is None or other.shard is None:
            return True
        return self.shard == other.shard or self.shard[1] != other.shard[1]

    def __str__(self) -> str:
        """``segment --shard 3/16``."""
        return self.command + (f" --shard {self.shard[0]}/{self.shard[1]}" if self.shard else "")


def _machine() -> str:
    """A word that is the same for processes that see each other's numbers, and names nobody."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        # A container counts its processes from 1 again.
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _born(pid: int) -> str:
    """When a process began, in the kernel's ticks; empty where that is not to be had."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return fields.rpartition(")")[2].split()[19]


def _is_gone(owner: dict[str, Any]) -> bool:
    """True where the owner surely ended: it ran here, and its process is no more."""
    if os.name != "posix" or owner.get("machine") != _machine():
        return False
    pid = int(owner["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _born(pid) != owner.get("born")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Other:
    """Another run's file: its content, its time as the file system tells it."""

    path: Path
    owner: dict[str, Any]
    time_ns: int

    @property
    def claim(self) -> Claim:
        shard = self.owner.get("shard")
        return Claim(
            command=str(self.owner.get("command", "a command")),
            shard=(int(shard[0]), int(shard[1])) if shard else None,
        )


def _time_of(path: Path) -> int:
    # Opening asks a network file system anew; a plain stat may be answered from memory.
    with path.open("rb") as stream:
        return os.fstat(stream.fileno()).st_mtime_ns


def _look(path: Path) -> _Other | None:
    try:
        with path.open("rb") as stream:
            time_ns = os.fstat(stream.fileno()).st_mtime_ns
            owner = json.loads(stream.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        owner, time_ns = {}, 0
    return _Other(path=path, owner=owner if isinstance(owner, dict) else {}, time_ns=time_ns)


@contextmanager
def writing(
    out: Path, *, command: str, options: Mapping[str, Any], overwrite: bool
) -> Iterator[None]:
    """Hold OUT while all of an output is put in place; raises UsageError as `check_output` does.

    For a command that computes first and writes at the end: what another run wrote meanwhile is
    seen, and two that end together do not mix their files.
    """
    with OutputLock(out, Claim(command=command)):
        files.check_output(out, command=command, options=options, overwrite=overwrite)
        files.remove_leftovers(out)
        yield


class OutputLock:
    """Holds an output: ``with OutputLock(out, Claim(command="segment")): ...``.

    Raises UsageError where another run has it. ``check`` raises EngineError once it was lost
    (this process slept for long and another took over).
    """

    def __init__(self, out: Path, claim: Claim, pace: Pace | None = None) -> None:
        self._out, self._claim, self._pace = out, claim, pace or Pace()
        self.run = secrets.token_hex(6)
        name = f"{files.LOCK_PREFIX}{self.run}{files.LOCK_SUFFIX}"
        self.path = out / name
        self._end = threading.Event()
        self._lost = False
        self._beat: threading.Thread | None = None
        self._made_folder = False

    def __enter__(self) -> Self:
        """Take the output or raise UsageError; an abandoned lock is cleared away."""
        self._made_folder = not self._out.exists()
        try:
            self._take()
        except BaseException:
            self._leave()
            raise
        self._beat = threading.Thread(target=self._keep, daemon=True)
        self._beat.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the output back."""
        self._end.set()
        if self._beat is not None:
            self._beat.join(timeout=5)
        self._leave()

    def _leave(self) -> None:
        with contextlib.suppress(OutputError):
            files.remove(self._out, (self.path.name,))
        if self._made_folder:
            files.remove_empty(self._out)  # nothing was written: it stays as it was

    def check(self) -> None:
        """Raise EngineError where the output is no longer this run's."""
        if self._lost:
            raise EngineError(
                f"The lock of this run on {self._out.name} was taken away.",
                hint="Another run took the folder over. Scans finished so far stay.",
            )

    def _keep(self) -> None:
        while not self._end.wait(self._pace.beat_s):
            try:
                files.refresh(self.path)
            except FileNotFoundError:
                self._lost = not self._end.is_set()
                return
            except OSError:
                continue  # the file system does not answer: nobody else can take over either

    def _write(self, state: str) -> None:
        owner = {
            "command": self._claim.command,
            "shard": list(self._claim.shard) if self._claim.shard else None,
            "state": state,
            "machine": _machine(),
            "pid": os.getpid(),
            "born": _born(os.getpid()),
        }
        text = files.canonical_json(owner)
        try:
            files.write_text(self.path, text)
        except OutputError:
            # The run in the way may just have cleared temporary files away, this one's too.
            files.write_text(self.path, text)

    def _in_the_way(self) -> list[_Other]:
        """Files of runs that bar this one; those of runs surely ended are cleared away."""
        found = []
        for path in sorted(self._out.glob(f"{files.LOCK_PREFIX}*{files.LOCK_SUFFIX}")):
            other = None if path == self.path else _look(path)
            if other is None or not self._claim.bars(other.claim):
                continue
            if other.owner and _is_gone(other.owner):
                files.remove(self._out, (path.name,))
            else:
                found.append(other)
        return found

    def _take(self) -> None:
        for _ in range(20):
            self._write("asking")
            others = self._in_the_way()
            for other in others:
                self._outlive(other)
            if not self._in_the_way():
                self._write("held")
                return
            # Two began at the same moment: both step back, for times that differ.
            files.remove(self._out, (self.path.name,))
            time.sleep(random.uniform(0.05, 0.6))  # noqa: S311 - no secret
        raise self._refused(Claim(command="another run"), None)

    def _outlive(self, other: _Other) -> None:
        """Return once ``other`` is gone, cleared as abandoned, or only asking too; else raise."""
        files.refresh(self.path)
        age_s = (_time_of(self.path) - other.time_ns) / 1e9
        quiet_s = 3 * self._pace.beat_s
        if 0 <= age_s < quiet_s and other.owner:
            if other.owner.get("state") == "held":
                raise self._refused(other.claim, age_s)
            return
        # No sign of life for some beats. Clocks may differ, so it is watched by this one's.
        left_s = quiet_s if age_s >= self._pace.stale_s else self._pace.stale_s - max(age_s, 0)
        until = time.monotonic() + max(left_s, quiet_s)
        while time.monotonic() < until:
            time.sleep(min(1.0, self._pace.beat_s))
            seen = _look(other.path)
            if seen is None:
                return
            if seen.time_ns != other.time_ns:
                raise self._refused(other.claim, 0.0)
            files.refresh(self.path)
        files.remove(self._out, (other.path.name,))

    def _refused(self, other: Claim, age_s: float | None) -> UsageError:
        seen = "" if age_s is None else f", last sign of life {age_s:.0f} s ago"
        why = (
            "is split into another number of shards"
            if self._claim.shard and other.shard and self._claim.shard[1] != other.shard[1]
            else "is being written by another run"
        )
        return UsageError(
            f"The folder {self._out.name} {why} (`{other}`{seen}).",
            hint="Two at once would mix their results. Wait for it or stop it; a run that was "
            f"killed frees the folder by itself, elsewhere after {self._pace.stale_s:.0f} s.",
        )
