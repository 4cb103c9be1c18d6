"""Scans on a dask.distributed cluster that runs already: ``--scheduler tls://host:8786``.

Each scan is one task, done in the Dask worker itself by the functions that one machine uses, so the
files are the same. A scan that exceeds ``--timeout`` or crashes takes its worker process along: the
nanny restarts it, and the scheduler does its other scans elsewhere. OUT and the images must be on
storage that every worker sees under the same path. Needs the extra ``dask``.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import count
from typing import Any

import distributed
from distributed.scheduler import KilledWorker

from ..errors import CardiometaError, EngineError, UsageError
from ..files import LOCK_PREFIX
from ..imaging.discovery import source_state
from ..manifest import version
from ..records import ScanResult
from .jobs import EngineSetup, ScanFailure, ScanJob
from .result_file import KILLED_CODE, TIMEOUT_CODE, read_record, slim, write_failure

_dask: Any = distributed  # its functions have no types
_CONNECT_S = 30
_FIRST_WORKER_S = 600
_ADDRESS = re.compile(r"(?:(tcp|tls|ws|wss|ucx|ucxx)://)?([^/\s]+:\d{1,5})")
_ENCRYPTED = ("tls", "wss")
_LOOPBACK = ("127.", "localhost", "[::1]")
_WINDOW = 2000  # scans known to the scheduler at once: enough for it to call for more workers
_SHARED = (
    "Give --out and the images as paths on storage that every worker sees under the same name."
)


class DaskEngine:
    """An `Engine` on the cluster of a scheduler; ``address`` as ``tls://host:8786``."""

    def __init__(self, setup: EngineSetup, address: str) -> None:
        self.notes: list[str] = []
        self._setup, self._address = replace(setup, out=setup.out.absolute()), address
        self._client: Any = None

    def warm(self) -> None:
        """Connect, and check the workers, before anything is written."""
        if self._client is not None:
            return
        self._check_address()
        try:
            self._client = _dask.Client(
                self._address, timeout=_CONNECT_S, set_as_default=False, name="cardiometa"
            )
        except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
            raise UsageError(
                f"The scheduler {self._address} cannot be reached ({type(error).__name__}).",
                hint="Check the address, that `dask scheduler` runs there, and for tls:// the "
                "certificates in Dask's own configuration (examples/dask).",
            ) from None
        self._check_workers()

    def close(self) -> None:
        """Leave the cluster, which continues without this run."""
        if self._client is not None:
            with suppress(Exception):
                self._client.close(timeout=5)
            self._client = None

    def run(
        self, jobs: Sequence[ScanJob], on_result: Callable[[ScanResult], None]
    ) -> list[ScanResult]:
        """See `Engine.run`."""
        if not jobs:
            return []
        self.warm()
        client, name = self._client, f"cardiometa-{secrets.token_hex(6)}"
        device = self._device()
        # Every worker, present or to come, knows the run by this name.
        client.register_plugin(
            ScanPlugin(replace(self._setup, device=device), self._proof(), name), name=name
        )
        waiting = deque(job.with_absolute_paths() for job in jobs)
        # Lost with their workers, to be done alone when no other is left: the scheduler blames all
        # scans that a lost worker had, those that waited there too.
        suspects = deque[ScanJob]()
        running: dict[str, tuple[Any, ScanJob, bool]] = {}
        numbers = count()
        ended = _dask.as_completed(loop=client.loop, raise_errors=False)

        def submit(job: ScanJob, *, alone: bool = False) -> None:
            # Keys appear in the scheduler's logs: numbers, no ids.
            future = client.submit(
                run_scan,
                TaskPayload(job),
                name,
                key=f"{name}-{next(numbers)}",
                resources={"GPU": 1} if device == "cuda" else None,
                pure=False,
            )
            running[future.key] = (future, job, alone)
            ended.add(future)

        results: list[ScanResult] = []
        try:
            problems = sorted({p for p in client.run(incompatibility, name=name).values() if p})
            if problems:
                raise UsageError(f"{'; '.join(problems).capitalize()}.", hint=_SHARED)
            while waiting and len(running) < _WINDOW:
                submit(waiting.popleft())
            for future in ended:
                _, job, alone = running.pop(future.key)
                result = self._result(future, job, alone=alone)
                future.release()
                if result is None:
                    suspects.append(job)
                else:
                    results.append(result)
                    on_result(result)
                if waiting:
                    submit(waiting.popleft())
                elif suspects and not running:
                    submit(suspects.popleft(), alone=True)
        finally:
            with suppress(Exception):
                client.cancel([future for future, *_ in running.values()], force=True)
            with suppress(Exception):
                client.unregister_worker_plugin(name)
        return results

    def _check_address(self) -> None:
        found = _ADDRESS.fullmatch(self._address)
        if found is None:
            raise UsageError(
                f"--scheduler: {self._address!r} is not a valid address.",
                hint="Use --scheduler tls://host:8786.",
            )
        kind, host = found.groups()
        if kind in _ENCRYPTED:
            try:
                context = _dask.Security().get_connection_args("client").get("ssl_context")
            except OSError:  # of ssl too
                context = None
            if context is None:
                raise UsageError(
                    f"The scheduler {self._address} requires TLS, and no usable certificate is "
                    "configured.",
                    hint="Set ca-file, cert and key in Dask's own configuration (examples/dask).",
                )
        elif not host.startswith(_LOOPBACK):
            self.notes.append(
                "the scheduler is open: whoever reaches its port can run code as you and read "
                "what you may read; use tls:// (examples/dask)"
            )

    def _check_workers(self) -> None:
        client = self._client
        try:
            client.wait_for_workers(1, timeout=_FIRST_WORKER_S)
        except TimeoutError:
            raise EngineError(
                f"The scheduler {self._address} has had no worker for {_FIRST_WORKER_S} s.",
                hint="Start `dask worker` with its address, then rerun the command.",
            ) from None
        # Asked through the standard library: a worker may lack this program.
        found = client.run(metadata.version, "cardiometa", on_error="return")
        if {str(v) for v in found.values()} - {version()}:
            lacking = any(isinstance(v, Exception) for v in found.values())
            other = ", ".join(sorted({str(v) for v in found.values()} - {version()}))
            raise UsageError(
                f"Workers have another version of cardiometa ({'none' if lacking else other}) than "
                f"this machine ({version()}).",
                hint="Install the same version everywhere: results must not depend on the worker.",
            )
        torch = {str(v) for v in client.run(metadata.version, "torch", on_error="return").values()}
        if len(torch) > 1:
            self.notes.append(
                f"workers have different versions of torch ({', '.join(sorted(torch))}): masks may "
                "differ in single voxels between their scans"
            )

    def _device(self) -> str:
        if self._setup.device not in ("auto", "cuda"):
            return self._setup.device
        counts = list(self._client.run(gpus).values())
        if self._setup.device == "cuda" and not any(counts):
            raise UsageError(
                "--device cuda: no worker reports a GPU.",
                hint="Start workers on GPU nodes with --resources 'GPU=1'.",
            )
        if any(counts) and not all(counts):
            self.notes.append("workers without a GPU got no scan (--device cpu uses all alike)")
        return "cuda" if any(counts) else "cpu"

    def _proof(self) -> tuple[str, bytes]:
        """A file in OUT that only this storage has, and its content: the lock of this run."""
        found = sorted(self._setup.out.glob(f"{LOCK_PREFIX}*"))
        if not found:
            raise EngineError("The lock of this run is gone.")
        path = max(found, key=lambda path: path.stat().st_mtime_ns)
        return path.name, path.read_bytes()

    def _result(self, future: Any, job: ScanJob, *, alone: bool) -> ScanResult | None:
        """What became of a scan; None where it was lost with others and is to be done alone."""
        try:
            # Waits where the worker that had it was lost: the scheduler gives it to another one.
            outcome: TaskResult = future.result()
        except KilledWorker:
            if not alone:
                return None
            sentence = (
                "Every worker that had this scan was lost: the file may be corrupt, memory ran "
                "out, or machines went away. It will be retried on the next run."
            )
            failure = ScanFailure(code=KILLED_CODE, sentence=sentence)
            return slim(write_failure(self._setup.out, job, failure))
        except Exception as error:
            raise EngineError(
                f"The cluster gave no answer for a scan ({type(error).__name__}).",
                hint="The scheduler or the connection to it was lost. Scans finished so far are "
                "kept; rerun the command to resume.",
            ) from error
        if outcome.incompatible:
            raise UsageError(f"{outcome.incompatible.capitalize()}.", hint=_SHARED)
        if outcome.error is not None:
            raise outcome.error
        assert outcome.result is not None
        return outcome.result


# ------------------------------------------------------------------ in the Dask worker


class TaskPayload:
    """A scan on its way to a worker; prints as nothing, since Dask logs what it carries."""

    def __init__(self, job: ScanJob) -> None:
        self.job = job

    def __repr__(self) -> str:
        """No id and no path."""
        return "<scan>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TaskResult:
    """A scan's result, or what stops the whole run."""

    result: ScanResult | None = None
    error: CardiometaError | None = None
    incompatible: str = ""


class ScanPlugin(distributed.WorkerPlugin):
    """One run in one Dask worker: its setup, its network, why the worker cannot take part.

    ``proof`` is a file in OUT with its content: a worker that sees it sees the same storage.
    """

    def __init__(self, setup: EngineSetup, proof: tuple[str, bytes], run: str) -> None:
        self._setup, self._proof, self._run = setup, proof, run
        self._version = version()
        self.problem = ""

    def setup(self, worker: Any) -> None:
        """Note why this worker cannot take part; must not fail, other runs use it too."""
        del worker
        self._computing = threading.Lock()
        self._network: Any = None
        name, content = self._proof
        try:
            seen = (self._setup.out / name).read_bytes() == content
        except OSError:
            seen = False
        if version() != self._version:
            self.problem = f"a worker has cardiometa {version()}, this machine {self._version}"
        elif not seen:
            self.problem = "a worker does not see the folder given with --out"

    def process(self, job: ScanJob) -> TaskResult:
        """One scan; what stops the run comes back as a value, since Dask logs errors."""
        from .process_scan import Network, ScanWork, measure, read, write

        if self.problem:
            return TaskResult(incompatible=self.problem)
        known = read_record(self._setup.out, job.key)
        if known is not None and known.document.get("run", {}).get("dask") == self._run:
            return TaskResult(result=slim(known))  # it was ended after --timeout
        wanted = (job.options.get("source_files"), job.options.get("source_bytes"))
        state = source_state(job.source)
        if (state.files, state.size) != wanted:
            return TaskResult(incompatible="a worker sees other images of a scan than this machine")
        out, limit, work = self._setup.out, self._setup.timeout_s, ScanWork(job=job)
        watchdog = threading.Timer(limit, self._end_overdue, (job,))
        watchdog.daemon = True
        if limit > 0:
            watchdog.start()
        try:
            read(out, work)
            with self._computing:  # one network for all threads of the worker
                self._network = self._network or Network(self._setup)
                measure(out, work, self._network)
            return TaskResult(result=slim(write(out, work)))
        except CardiometaError as error:
            return TaskResult(error=error)
        finally:
            watchdog.cancel()

    def _end_overdue(self, job: ScanJob) -> None:
        """Record the failure and end this process, which nothing else can interrupt."""
        limit = self._setup.timeout_s
        sentence = f"Not finished within {limit:g} s (--timeout), so it was ended."
        failure = ScanFailure(code=TIMEOUT_CODE, sentence=sentence)
        run = {"timeout_s": limit, "dask": self._run}
        try:
            write_failure(self._setup.out, job, failure, run=run)
        finally:
            os._exit(1)


def _plugin(worker: Any, name: str) -> ScanPlugin | None:
    plugin = worker.plugins.get(name)
    return plugin if isinstance(plugin, ScanPlugin) else None


def run_scan(payload: TaskPayload, name: str) -> TaskResult:
    """The task: one scan by this worker's plugin ``name``."""
    plugin = _plugin(_dask.get_worker(), name)
    if plugin is None:
        return TaskResult(incompatible="a worker does not know this run")
    return plugin.process(payload.job)


def incompatibility(name: str, dask_worker: Any) -> str:
    """Why this worker cannot take part, empty where it can."""
    plugin = _plugin(dask_worker, name)
    return "a worker does not know this run" if plugin is None else plugin.problem


def gpus(dask_worker: Any) -> float:
    """How many GPU tasks this worker takes at once, as it was started with."""
    return float(dask_worker.state.total_resources.get("GPU", 0))
