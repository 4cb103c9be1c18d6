"""One writer to an output at a time, across processes and machines, without a lock service.

A run holds a `filelock.SoftFileLease` in OUT: a file that it touches every few seconds. On the same
machine the lock of a killed run is free at once (its process is gone); elsewhere it expires when
it has not been touched for a while. Nothing but creating, listing and the time of a file is used,
so this works on NFS, Lustre and the like; ``flock`` does not on all of them.

Different shards of one split run together: each holds a lock of its own, and the folder's only for
the moment in which it checks the others. Any other command holds the folder's lock.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from filelock import SoftFileLease, Timeout

from . import files
from .errors import EngineError, OutputError, UsageError

LEASE_S = 120.0
_WAIT_S = 2.0  # of two that start together one gets through
_SHARD_LOCK = re.compile(re.escape(files.LOCK_PREFIX) + r"shard-\d+-of-(\d+)\.lock")


@contextmanager
def writing(
    out: Path,
    *,
    command: str,
    options: Mapping[str, Any],
    overwrite: bool,
    inputs: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Lock OUT while all of an output is put in place; raises UsageError as `check_output` does.

    For a command that computes first and writes at the end: what another run wrote meanwhile is
    seen, and two that end together do not mix their files.
    """
    with OutputLock(out):
        files.check_output(
            out, command=command, options=options, overwrite=overwrite, inputs=inputs
        )
        files.remove_leftovers(out)
        yield


def is_being_written(out: Path) -> bool:
    """True where a run holds a lock on OUT: it has touched it in its last three beats."""
    youngest = 0.0
    for path in out.glob(f"{files.LOCK_PREFIX}*.lock"):
        with suppress(OSError):  # freed meanwhile
            youngest = max(youngest, path.stat().st_mtime)
    return time.time() - youngest < LEASE_S / 4


class OutputLock:
    """Locks an output, or of a split into shards only its own: ``with OutputLock(out, (3, 16)):``.

    Raises UsageError where another run has it. `check` raises EngineError once it was lost (this
    process slept for long and another run took over).
    """

    def __init__(
        self, out: Path, shard: tuple[int, int] | None = None, *, lease_s: float = LEASE_S
    ) -> None:
        self._out, self._shard, self._lease_s = out, shard, lease_s
        self._held = ExitStack()
        self._lease: SoftFileLease | None = None

    def __enter__(self) -> Self:
        """Take the output; the lock of a run that was killed is cleared."""
        if not self._out.exists():
            self._held.callback(files.remove_empty, self._out)  # nothing written: as it was
        folder = f"{files.LOCK_PREFIX}folder.lock"
        try:
            if self._shard is None:
                self._lease = self._take(self._held, folder)
                self._check_shards()
            else:
                number, of = self._shard
                own = f"{files.LOCK_PREFIX}shard-{number}-of-{of}.lock"
                self._lease = self._take(self._held, own)
                with ExitStack() as moment:
                    self._take(moment, folder)
                    self._check_shards()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Free the output."""
        self._held.close()

    def check(self) -> None:
        """Raise EngineError where the output is no longer this run's."""
        if self._lease is not None and self._lease.compromise is not None:
            raise EngineError(
                f"This run lost its lock on {self._out.name}.",
                hint="Another run took the folder over. Scans finished so far are kept.",
            )

    def _check_shards(self) -> None:
        """Refuse where shards run: any of them, or for a shard those of another split."""
        for path in sorted(self._out.glob(f"{files.LOCK_PREFIX}shard-*.lock")):
            match = _SHARD_LOCK.fullmatch(path.name)
            if match and (self._shard is None or int(match[1]) != self._shard[1]):
                with ExitStack() as moment:
                    self._take(moment, path.name)

    def _take(self, stack: ExitStack, name: str) -> SoftFileLease:
        path = self._out / name
        lease = SoftFileLease(
            path,
            lease_duration=self._lease_s,
            heartbeat_interval=self._lease_s / 12,
            thread_local=False,
        )
        try:
            try:
                lease.acquire(timeout=_WAIT_S, poll_interval=0.1)
            except Timeout:
                # Silent for some beats: watched until it expires by this machine's own clock.
                if time.time() - path.stat().st_mtime < self._lease_s / 4:
                    raise
                lease.acquire(timeout=self._lease_s + _WAIT_S, poll_interval=self._lease_s / 60)
        except (Timeout, FileNotFoundError):
            split = _SHARD_LOCK.fullmatch(name)
            of = f" in {split[1]} shards" if split else ""
            raise UsageError(
                f"Another run is writing to the folder {self._out.name}{of}.",
                hint="Two at once would mix their results. Wait or stop it; locks of killed runs "
                f"expire after {self._lease_s:.0f} s.",
            ) from None
        except OSError as error:
            raise OutputError(
                f"{self._out.name} cannot be written: {(error.strerror or str(error)).lower()}.",
                hint="Free disk space or fix permissions, then rerun the command.",
            ) from error

        def release() -> None:
            with suppress(OSError):  # the next run clears it
                lease.release()

        stack.callback(release)
        return lease
