"""One process's way through its scans: it reads ahead and writes behind while the network runs.

Each scan goes wholly through here, whatever engine sent it: read, segment, measure, commit. One
scan's failure never stops the others, and its files depend on that scan alone. How many scans are
on the way at once is decided by who feeds it, so memory stays flat.
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import CardiometaError, ModelError, UsageError
from ..files import remove_leftovers
from ..records import ScanResult
from .process_scan import (
    Failure,
    Network,
    ScanJob,
    Segmented,
    failure_of,
    read,
    segment_and_measure,
    write_failure,
    write_finished,
)
from .result_file import scan_folder, slim


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a pipeline tells of a scan: work on it began (``busy``) or paused, it is ``done``.

    ``fatal`` is what would fail every scan alike: no network, a disk that cannot be written.
    """

    kind: Literal["ready", "busy", "pause", "done", "fatal"]
    ticket: int = -1
    result: ScanResult | None = None
    error: BaseException | None = None
    device: str = ""


class Pipeline:
    """Runs the scans it is fed through read → network → write; ``tell`` gets every event."""

    def __init__(
        self, out: Path, network: Network, tell: Callable[[Event], None], *, readers: int = 1
    ) -> None:
        self._out, self._network, self._tell = out, network, tell
        self._jobs: queue.Queue[Any] = queue.Queue()
        self._decoded: queue.Queue[Any] = queue.Queue()
        self._segmented: queue.Queue[Any] = queue.Queue()
        for step in (*[self._read] * max(1, readers), self._compute, self._write):
            threading.Thread(target=self._guarded, args=(step,), daemon=True).start()

    def feed(self, ticket: int, job: ScanJob) -> None:
        """One more scan; its ``done`` event carries the ticket."""
        self._jobs.put((ticket, job))

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            while True:
                step()
        except Exception as error:  # noqa: BLE001 - told to who feeds the pipeline
            # The frames do not travel between processes; where they were, for the log of a fault.
            for frame in traceback.extract_tb(error.__traceback__):
                error.add_note(f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}")
            self._tell(Event(kind="fatal", error=error))

    @contextmanager
    def _busy(self, ticket: int) -> Iterator[None]:
        self._tell(Event(kind="busy", ticket=ticket))
        yield
        self._tell(Event(kind="pause", ticket=ticket))

    def _read(self) -> None:
        ticket, job = self._jobs.get()
        failure: Failure | None = None
        with self._busy(ticket):
            # Of a process that died on this scan, here or on a machine that was lost.
            remove_leftovers(scan_folder(self._out, job.key))
            try:
                cine, seconds = read(job)
            except Exception as error:  # noqa: BLE001 - one scan's failure stays its own
                failure = failure_of(job, error)
        # Handed on when all is told of this step: what comes after ``done`` is of another scan.
        if failure is not None:
            self._segmented.put((ticket, failure, 0.0))
        else:
            self._decoded.put((ticket, job, cine, seconds))

    def _compute(self) -> None:
        ticket, job, cine, seconds = self._decoded.get()
        done: Segmented | Failure
        with self._busy(ticket):
            try:
                done = segment_and_measure(job, cine, self._network)
            except (ModelError, UsageError):
                # The network cannot be loaded: every scan would fail alike.
                raise
            except Exception as error:  # noqa: BLE001 - one scan's failure stays its own
                done = failure_of(job, error)
        self._segmented.put((ticket, done, seconds))

    def _write(self) -> None:
        ticket, done, seconds = self._segmented.get()
        self._tell(Event(kind="busy", ticket=ticket))
        if isinstance(done, Failure):
            result = write_failure(self._out, done)
        else:
            try:
                result = write_finished(self._out, done, seconds)
            except (OSError, CardiometaError):
                # A disk that cannot be written stops the run: every scan would fail alike.
                raise
            except Exception as error:  # noqa: BLE001 - one scan's failure stays its own
                result = write_failure(self._out, failure_of(done.job, error))
        self._tell(Event(kind="done", ticket=ticket, result=slim(result)))
