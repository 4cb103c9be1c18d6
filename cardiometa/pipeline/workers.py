"""Worker processes on this machine: what hangs or crashes fails alone, the other scans continue.

A scan that takes too long has its process ended and fails. When a process dies, the scans that it
was working on are tried once more, one at a time at the end, so that the cause is certain; a scan
whose process dies twice has failed.

On Linux the standard library's fork server imports the libraries once (torch takes a second and
200 MB); each worker is forked from it and starts at once. Elsewhere each worker is a new process.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import connection, forkserver, resource_tracker
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import CardiometaError, EngineError
from ..files import remove_leftovers
from ..records import ScanResult
from .jobs import EngineSetup, ScanFailure, ScanJob, available_cores
from .result_file import KILLED_CODE, TIMEOUT_CODE, scan_folder, slim, write_failure

_START_S = 300.0  # torch from a slow network file system
_TICK_S = 0.5
_END_S = 5.0
_MAX_IDLE_DEATHS = 3
_PRELOAD = ("cardiometa.pipeline.process_scan",)
_PRELOAD_NETWORK = ("cardiometa.segmentation.segment",)
# One thread in every library: a number never depends on the cores of the machine. A file numpy.py
# in the user's folder is not taken for the library.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONSAFEPATH": "1",
}
_LEAST_MEMORY = 4 * 1024**3


@dataclass(slots=True, eq=False)
class _Task:
    """A scan given to a worker: since when it is in work (None: it waits), seconds before that."""

    number: int
    job: ScanJob
    since: float | None = None
    spent_s: float = 0.0
    crashes: int = 0

    def seconds(self, now: float) -> float:
        return self.spent_s + (0.0 if self.since is None else now - self.since)

    def reset(self) -> _Task:
        self.since, self.spent_s = None, 0.0
        return self


@dataclass(slots=True, eq=False)
class _Worker:
    """One process; ``device`` is empty until it is ready."""

    process: Any
    connection: Any
    begun: float = field(default_factory=time.monotonic)
    device: str = ""
    alone: bool = False
    tasks: dict[int, _Task] = field(default_factory=dict)


def processes_for(workers: int, scans: int) -> tuple[int, int]:
    """Processes, and concurrent batches in each, on ``workers`` cores."""
    processes = max(1, min(workers, scans))
    return processes, max(1, workers // processes)


class WorkerPool:
    """Worker processes on this machine; an `Engine`."""

    def __init__(self, setup: EngineSetup, start_method: str | None = None) -> None:
        self.notes: Sequence[str] = ()
        self._setup = replace(setup, out=setup.out.absolute())
        self._cores = setup.workers or available_cores()
        method = start_method or ("forkserver" if sys.platform == "linux" else "spawn")
        self._context: Any = multiprocessing.get_context(method)
        self._workers: list[_Worker] = []
        self._pending: deque[_Task] = deque()
        self._suspects: deque[_Task] = deque()
        self._results: list[ScanResult] = []
        self._idle_deaths = 0

    def warm(self) -> None:
        """Import the libraries meanwhile; where OUT exists, all scans may be done already."""
        if not self._setup.out.exists():
            self._start_fork_server(network=True)

    def run(
        self, jobs: Sequence[ScanJob], on_result: Callable[[ScanResult], None]
    ) -> list[ScanResult]:
        """See `Engine.run`; raises EngineError where no worker can be kept alive."""
        if not jobs:
            return []
        network, self._results = any(not job.stored for job in jobs), []
        self._pending.extend(_Task(n, job.with_absolute_paths()) for n, job in enumerate(jobs))
        try:
            self._start_fork_server(network=network)
            reported = 0
            while reported < len(jobs):
                self._start_workers(len(jobs), len(jobs) - reported, network=network)
                self._assign()
                for worker, message in self._messages():
                    self._handle(worker, message)
                self._end_overdue()
                for result in self._results[reported:]:
                    reported += 1
                    on_result(result)
        except BaseException:
            self.close()
            raise
        return self._results

    def close(self) -> None:
        """End every process."""
        for worker in self._workers:
            worker.process.kill()
        for worker in list(self._workers):
            self._stop(worker)

    def _start_fork_server(self, *, network: bool) -> None:
        if self._context.get_start_method() == "forkserver":
            forkserver.set_forkserver_preload([*_PRELOAD, *(_PRELOAD_NETWORK if network else ())])
            with _worker_environment():
                forkserver.ensure_running()

    def _start_workers(self, scans: int, left: int, *, network: bool) -> None:
        """Start what is wanted, the first worker alone: it reports the device.

        An accelerator gets one process, which reads ahead.
        """
        processes, threads = processes_for(self._cores, scans)
        if {worker.device for worker in self._workers if worker.device} != {"cpu"}:
            processes = 1
        while len(self._workers) < min(processes, left):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(
                target=serve,
                args=(theirs, self._setup),
                kwargs={"network": network, "threads": threads, "readers": self._cores},
                daemon=True,
            )
            try:
                with _worker_environment():
                    process.start()
            except (OSError, EOFError) as error:
                raise EngineError(
                    "The process that starts workers ended unexpectedly.",
                    hint="Often too little memory: try --workers 1, then rerun the command.",
                ) from error
            theirs.close()
            self._workers.append(_Worker(process, ours))

    def _stop(self, worker: _Worker) -> str:
        """End a worker and say how it ended."""
        self._workers.remove(worker)
        if worker.process.is_alive():
            worker.process.kill()
        worker.process.join(_END_S)
        worker.connection.close()
        for task in worker.tasks.values():
            remove_leftovers(scan_folder(self._setup.out, task.job.key))
        return exit_description(worker.process.exitcode)

    def _count_idle_death(self, how: str) -> None:
        self._idle_deaths += 1
        if self._idle_deaths >= _MAX_IDLE_DEATHS:
            raise EngineError(
                f"Worker processes exit during start-up ({how}).",
                hint="Often too little memory: try --workers 1. `cardiometa doctor` checks this "
                "machine. Scans finished so far are kept.",
            )

    def _assign(self) -> None:
        ready = [worker for worker in self._workers if worker.device]
        for worker in sorted(ready, key=lambda worker: len(worker.tasks)):
            while self._pending and len(worker.tasks) < self._queue_depth(worker):
                self._give(worker, self._pending.popleft())
        # A scan that may have killed a process runs alone, when all others are done.
        for worker in ready:
            if self._suspects and not self._pending and not worker.tasks:
                worker.alone = True
                self._give(worker, self._suspects.popleft())

    def _queue_depth(self, worker: _Worker) -> int:
        """How many scans a worker may have: one, and some to read ahead while many are left."""
        if worker.alone:
            return 1
        if worker.device != "cpu":
            return self._cores + 2
        return 2 if len(self._pending) > len(self._workers) else 1

    def _give(self, worker: _Worker, task: _Task) -> None:
        worker.tasks[task.number] = task
        with suppress(OSError):  # it died just now: its connection ends
            worker.connection.send((task.number, task.job))

    def _messages(self) -> Iterator[tuple[_Worker, tuple[Any, ...] | None]]:
        """What workers report, None at their end, after waiting a while for the first."""
        by_connection = {worker.connection: worker for worker in self._workers}
        for ready in connection.wait(list(by_connection), _TICK_S):
            try:
                message = by_connection[ready].connection.recv()
            except (EOFError, OSError):
                message = None
            yield by_connection[ready], message

    def _handle(self, worker: _Worker, message: tuple[Any, ...] | None) -> None:
        if message is None:
            self._handle_death(worker)
            return
        kind, value, *more = message
        if kind == "ready":
            worker.device = value
        elif kind == "fatal":
            raise value
        elif kind == "done":
            del worker.tasks[value]
            worker.alone, self._idle_deaths = False, 0
            self._results.append(more[0])
        else:
            task, now = worker.tasks[value], time.monotonic()
            task.spent_s = task.seconds(now)
            task.since = now if kind == "busy" else None

    def _handle_death(self, worker: _Worker) -> None:
        how = self._stop(worker)
        if all(task.since is None for task in worker.tasks.values()):
            self._count_idle_death(how)
        for task in worker.tasks.values():
            if task.since is None:
                self._pending.appendleft(task.reset())
                continue
            task.crashes += 1
            if task.crashes < 2:
                self._suspects.append(task.reset())
            else:
                sentence = (
                    f"The worker crashed twice on this scan ({how}): the file may be corrupt, or "
                    "memory ran out. It will be retried on the next run."
                )
                self._fail(task, KILLED_CODE, sentence)

    def _end_overdue(self) -> None:
        limit, now = self._setup.timeout_s, time.monotonic()
        for worker in list(self._workers):
            if not worker.device and now - worker.begun > _START_S:
                self._stop(worker)
                self._count_idle_death(f"not ready after {_START_S:.0f} s")
            elif any(0 < limit < task.seconds(now) for task in worker.tasks.values()):
                self._stop(worker)
                for task in worker.tasks.values():
                    if 0 < limit < task.seconds(now):
                        sentence = f"Not finished within {limit:g} s (--timeout), so it was ended."
                        self._fail(task, TIMEOUT_CODE, sentence)
                    else:
                        self._pending.appendleft(task.reset())

    def _fail(self, task: _Task, code: str, sentence: str) -> None:
        failure = ScanFailure(code=code, sentence=sentence)
        run = {"timeout_s": self._setup.timeout_s}
        self._results.append(slim(write_failure(self._setup.out, task.job, failure, run=run)))


def exit_description(code: int | None) -> str:
    """``signal SIGSEGV`` or ``exit code 3``, from a code as `subprocess` gives it."""
    if code is None:
        return "no exit code"
    with suppress(ValueError):
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"


@contextmanager
def _worker_environment() -> Iterator[None]:
    """What processes that start meanwhile inherit.

    One thread in every library, no interrupt by Ctrl-C (the run ends its workers), and not the
    caller's main module, which a script without a main guard would run again.
    """
    changes = dict(_ENVIRONMENT)
    top = str(Path(__file__).resolve().parents[2])
    if not top.endswith("-packages"):  # a checkout: Python finds an installed package by itself
        changes["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), top]))
    before = {name: os.environ.get(name) for name in changes}
    main = sys.modules["__main__"]
    resource_tracker.ensure_running()  # it would unblock the signal
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(changes)
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


# ------------------------------------------------------------------ in the worker process


def limit_memory() -> None:
    """Let an allocation of more than half the machine fail (MemoryError) instead of the machine.

    RLIMIT_DATA counts what can be written; RLIMIT_AS would count the address space that CUDA and
    mapped libraries reserve and never use.
    """
    import resource

    with suppress(OSError, ValueError):  # a lower hard limit stays
        half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        resource.setrlimit(resource.RLIMIT_DATA, (max(half, _LEAST_MEMORY),) * 2)


def serve(link: Any, setup: EngineSetup, *, network: bool, threads: int, readers: int) -> None:
    """Work on the scans that come over ``link`` until the other side is gone.

    ``network``: load it before the first scan, else when a scan needs it. ``threads`` are
    concurrent batches on a CPU; ``readers`` read ahead for an accelerator.
    """
    from .process_scan import Network, ScanWork, measure, read, write

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)  # what a library prints must not reach the command's output
    limit_memory()
    sending, model = threading.Lock(), Network(setup, threads=threads)

    def send(*message: Any) -> None:
        try:
            with sending:
                link.send(message)
        except OSError:
            os._exit(0)  # nobody listens any more

    try:
        device = model.predictor.device if network else "cpu"
    except CardiometaError as error:  # of the device or the weights: every scan would fail alike
        send("fatal", error)
        return
    steps: tuple[Callable[[ScanWork], Any], ...] = (
        lambda work: read(setup.out, work),
        lambda work: measure(setup.out, work, model),
        lambda work: write(setup.out, work),
    )
    queues: list[queue.Queue[Any]] = [queue.Queue() for _ in steps]

    def run_step(index: int) -> None:
        """Reading ahead and writing behind, while the network runs, keeps it busy."""
        while True:
            number, work = queues[index].get()
            send("busy", number)
            try:
                result = steps[index](work)
            except Exception as error:  # noqa: BLE001 - reported to the run
                # Frames do not travel between processes; where they were, for the log.
                for frame in traceback.extract_tb(error.__traceback__):
                    error.add_note(f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}")
                send("fatal", error)
                return
            if index + 1 < len(steps):
                # Before it is passed on: what follows ``done`` is about another scan.
                send("pause", number)
                queues[index + 1].put((number, work))
            else:
                send("done", number, slim(result))

    for index in (*[0] * (1 if device == "cpu" else readers), 1, 2):
        threading.Thread(target=run_step, args=(index,), daemon=True).start()
    send("ready", device)
    with suppress(EOFError, OSError):
        while True:
            number, job = link.recv()
            queues[0].put((number, ScanWork(job=job)))
    os._exit(0)  # the run is gone: its scans need no more work
