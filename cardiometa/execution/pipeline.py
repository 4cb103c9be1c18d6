"""One machine's pipeline: reading and writing overlap with the network by bounded queues.

Readers decode ahead, the compute threads share one loaded network, one writer commits. One scan's
failure never stops the others. The order of completion does not matter: each scan's files depend
on that scan alone.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import CardiometaError, ModelError, UsageError
from ..records import CineStack, ScanResult
from .one_scan import (
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


def available_cores() -> int:
    """Cores this process may use; asked here without torch, which masks alone do not need."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Stop(Exception):  # noqa: N818 - a signal between threads, not an error
    pass


class Pipeline:
    """Runs scan jobs through read → network → write; example in `segment_run`."""

    def __init__(self, out: Path, network: Network, *, workers: int) -> None:
        self._out, self._network = out, network
        self._workers = max(1, workers)
        self._stop = threading.Event()
        self._jobs: queue.Queue[Any] = queue.Queue()
        # Bounded: one decoded cine waits at each border, so memory stays flat.
        self._decoded: queue.Queue[Any] = queue.Queue(maxsize=1)
        self._segmented: queue.Queue[Any] = queue.Queue(maxsize=1)
        self._results: queue.Queue[Any] = queue.Queue()

    def run(
        self, jobs: Sequence[ScanJob], on_result: Callable[[ScanResult], None]
    ) -> list[ScanResult]:
        """Every job's result, in the order of completion; raises what a full disk raises."""
        for job in jobs:
            self._jobs.put(job)
        # Reading takes a fraction of the network's time: half the threads keep it fed.
        readers = max(1, self._workers // 2)
        threads = [self._start(self._read_jobs) for _ in range(readers)]
        threads += [self._start(self._compute) for _ in range(self._workers)]
        threads.append(self._start(self._write))
        results: list[ScanResult] = []
        try:
            while len(results) < len(jobs):
                item = self._results.get()
                if isinstance(item, BaseException):
                    raise item
                results.append(item)
                on_result(item)
        finally:
            self._stop.set()
            self._drain(threads)
        return results

    def _start(self, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._guarded, args=(target,), daemon=True)
        thread.start()
        return thread

    def _guarded(self, target: Callable[[], None]) -> None:
        try:
            target()
        except _Stop:
            return
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            self._results.put(error)

    def _drain(self, threads: Sequence[threading.Thread]) -> None:
        for thread in threads:
            thread.join(timeout=60)

    def _put(self, target: queue.Queue[Any], item: Any) -> None:
        while not self._stop.is_set():
            try:
                target.put(item, timeout=0.2)
            except queue.Full:
                continue
            return
        raise _Stop

    def _get(self, source: queue.Queue[Any]) -> Any:
        while not self._stop.is_set():
            try:
                return source.get(timeout=0.2)
            except queue.Empty:
                continue
        raise _Stop

    def _read_jobs(self) -> None:
        while not self._stop.is_set():
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            try:
                cine, seconds = read(job)
            except Exception as error:  # noqa: BLE001 - one scan's failure stays its own
                self._put(self._segmented, (failure_of(job, error), 0.0))
                continue
            self._put(self._decoded, (job, cine, seconds))

    def _compute(self) -> None:
        network = self._network
        while True:
            item: tuple[ScanJob, CineStack, float] = self._get(self._decoded)
            job, cine, seconds = item
            done: Segmented | Failure
            try:
                done = segment_and_measure(job, cine, network)
            except (ModelError, UsageError):
                # The network cannot be loaded: every scan would fail alike.
                raise
            except Exception as error:  # noqa: BLE001 - one scan's failure stays its own
                done = failure_of(job, error)
            self._put(self._segmented, (done, seconds))

    def _write(self) -> None:
        while True:
            done, seconds = self._get(self._segmented)
            if isinstance(done, Failure):
                self._results.put(write_failure(self._out, done))
                continue
            try:
                result = write_finished(self._out, done, seconds)
            except (OSError, CardiometaError):
                # A disk that cannot be written stops the run: every scan would fail alike.
                raise
            except Exception as error:  # noqa: BLE001 - one scan's failure stays its own
                result = write_failure(self._out, failure_of(done.job, error))
            self._results.put(result)
