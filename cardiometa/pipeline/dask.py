"""Scans on a dask.distributed cluster that runs already: ``--scheduler tls://host:8786``.

Each scan is one task, done by the same processes as on one machine, so the files are the same. A
worker that is lost has its scans done elsewhere by the scheduler. OUT and the images must be on
storage that every worker sees under the same path.
"""

from __future__ import annotations

import re
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import metadata
from typing import Any

from ..errors import EngineError, UsageError
from ..files import LOCK_PREFIX, LOCK_SUFFIX
from ..manifest import version
from ..records import ScanResult
from .engine import EngineSetup, absolute
from .process_scan import Failure, ScanJob, write_failure
from .result_file import KILLED_CODE, slim

_CONNECT_S = 30
_FIRST_WORKER_S = 600
_ADDRESS = re.compile(r"(?:(tcp|tls|ws|wss|ucx|ucxx)://)?([^/\s]+:\d{1,5})")
_ENCRYPTED = ("tls", "wss")
_LOOPBACK = ("127.", "localhost", "[::1]")
_WINDOW = 2000  # scans known to the scheduler at once: enough for it to call for more workers
_SHARED = (
    "Give --out and the images as paths on storage that every worker sees under the same name."
)


def need_distributed() -> Any:
    """The library; raises UsageError that says how to install it."""
    try:
        import distributed
    except ImportError:
        raise UsageError(
            "--scheduler needs Dask, which is not installed.",
            hint="pip install 'cardiometa[dask]', here and where the workers run.",
        ) from None
    return distributed


class DaskEngine:
    """An `Engine` on the cluster of a scheduler; ``address`` as ``tls://host:8786``."""

    def __init__(self, setup: EngineSetup, address: str) -> None:
        need_distributed()
        self.notes: list[str] = []
        self._setup, self._address = setup, address
        self._client: Any = None

    def warm(self) -> None:
        """Connect, and check who is there, before anything is written."""
        if self._client is None:
            self._client = self._connect()
            self._check_versions(self._client)

    def close(self) -> None:
        """Leave the cluster; it goes on without this run."""
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
        client = self._client
        device = self._device(client)
        with self._told(client, device) as name:
            flights = _Flights(client, name, {"GPU": 1} if device == "cuda" else None)
            try:
                return self._collect(flights, [absolute(job) for job in jobs], on_result)
            finally:
                flights.drop()

    # ---------------------------------------------------------- the cluster

    def _connect(self) -> Any:
        distributed = need_distributed()
        self._check_address(distributed)
        try:
            return distributed.Client(
                self._address, timeout=_CONNECT_S, set_as_default=False, name="cardiometa"
            )
        except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
            raise UsageError(
                f"The scheduler {self._address} cannot be reached ({type(error).__name__}).",
                hint="Check the address, that `dask scheduler` runs there, and for tls:// the "
                "certificates in Dask's own configuration (examples/dask).",
            ) from None

    def _check_address(self, distributed: Any) -> None:
        found = _ADDRESS.fullmatch(self._address)
        if found is None:
            raise UsageError(
                f"--scheduler {self._address} is no address of a scheduler.",
                hint="Say --scheduler tls://host:8786.",
            )
        kind, host = found.groups()
        if kind in _ENCRYPTED:
            try:
                context = distributed.Security().get_connection_args("client").get("ssl_context")
            except OSError:  # of ssl too
                context = None
            if context is None:
                raise UsageError(
                    f"The scheduler {self._address} wants TLS, and no certificate that can be "
                    "used is configured.",
                    hint="Set ca-file, cert and key in Dask's own configuration (examples/dask).",
                )
        elif not host.startswith(_LOOPBACK):
            self.notes.append(
                "the scheduler is open: whoever reaches its port can run code as you and read "
                "what you may read; use tls:// (examples/dask)"
            )

    def _check_versions(self, client: Any) -> None:
        try:
            client.wait_for_workers(1, timeout=_FIRST_WORKER_S)
        except TimeoutError:
            raise EngineError(
                f"The scheduler {self._address} has had no worker for {_FIRST_WORKER_S} s.",
                hint="Start `dask worker` with its address; the same command goes on.",
            ) from None
        # Asked through the standard library: a worker may lack this program.
        found = client.run(metadata.version, "cardiometa", on_error="return")
        odd = sorted({str(v) for v in found.values() if v != version()} - {version()})
        lacking = any(isinstance(v, Exception) for v in found.values())
        if odd:
            what = "none" if lacking else ", ".join(odd)
            raise UsageError(
                f"Workers have another version of cardiometa ({what}) than this machine "
                f"({version()}).",
                hint="Install the same version everywhere: results must not depend on who does "
                "a scan.",
            )
        torch = {str(v) for v in client.run(metadata.version, "torch", on_error="return").values()}
        if len(torch) > 1:
            self.notes.append(
                f"workers have different versions of torch ({', '.join(sorted(torch))}): masks may "
                "differ in single voxels between their scans"
            )

    def _device(self, client: Any) -> str:
        from .dask_worker import gpus

        if self._setup.device not in ("auto", "cuda"):
            return self._setup.device
        counts = list(client.run(gpus).values())
        some = any(counts)
        if self._setup.device == "cuda" and not some:
            raise UsageError(
                "--device cuda: no worker says that it has a GPU.",
                hint="Start workers on GPU nodes with --resources 'GPU=1'.",
            )
        if some and not all(counts):
            self.notes.append("workers without a GPU got no scan (--device cpu uses all alike)")
        return "cuda" if some else "cpu"

    @contextmanager
    def _told(self, client: Any, device: str) -> Iterator[str]:
        """Every worker, present or to come, knows the run under the name that is given."""
        from .dask_worker import ScanPlugin, unfit

        name = f"cardiometa-{secrets.token_hex(6)}"
        setup = replace(self._setup, device=device, out=self._setup.out.absolute())
        client.register_plugin(ScanPlugin(setup, self._proof()), name=name)
        try:
            problems = sorted({text for text in client.run(unfit, name=name).values() if text})
            if problems:
                raise UsageError(f"{'; '.join(problems).capitalize()}.", hint=_SHARED)
            yield name
        finally:
            with suppress(Exception):
                client.unregister_worker_plugin(name)

    def _proof(self) -> str:
        """A file in OUT that only this storage has: the lock of this run."""
        found = sorted(self._setup.out.glob(f"{LOCK_PREFIX}*{LOCK_SUFFIX}"))
        if not found:
            raise EngineError("The lock of this run is gone.")
        return max(found, key=lambda path: path.stat().st_mtime_ns).name

    # ---------------------------------------------------------- the scans

    def _collect(
        self,
        flights: _Flights,
        jobs: Sequence[ScanJob],
        on_result: Callable[[ScanResult], None],
    ) -> list[ScanResult]:
        waiting = deque(jobs)
        while waiting and len(flights) < _WINDOW:
            flights.send(waiting.popleft())
        results: list[ScanResult] = []
        for future, job in flights.landed():
            result = self._result(future, job)
            results.append(result)
            on_result(result)
            if waiting:
                flights.send(waiting.popleft())
        return results

    def _result(self, future: Any, job: ScanJob) -> ScanResult:
        from distributed.scheduler import KilledWorker

        if future.status == "finished":
            outcome = future.result()
            if outcome.unfit:
                raise UsageError(f"{outcome.unfit.capitalize()}.", hint=_SHARED)
            if outcome.error is not None:
                raise outcome.error
            result: ScanResult = outcome.result
            return result
        error = future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker):
            sentence = (
                "The workers that had this scan were lost one after the other: too little "
                "memory for it, or machines that went away. It is tried again next time."
            )
            failure = Failure(job=job, code=KILLED_CODE, sentence=sentence)
            return slim(write_failure(self._setup.out, failure))
        what = future.status if error is None else type(error).__name__
        raise EngineError(
            f"The cluster gave no answer for a scan ({what}).",
            hint="The scheduler or the connection to it was lost. Scans finished so far stay; "
            "the same command goes on.",
        )


class _Flights:
    """The scans that the scheduler knows of."""

    def __init__(self, client: Any, name: str, resources: dict[str, int] | None) -> None:
        self._client, self._name, self._resources = client, name, resources
        self._jobs: dict[str, tuple[Any, ScanJob]] = {}
        self._landed = need_distributed().as_completed(loop=client.loop, raise_errors=False)
        self._sent = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def send(self, job: ScanJob) -> None:
        from .dask_worker import Parcel, run_scan

        self._sent += 1
        # Keys stand in the scheduler's logs: numbers, no ids.
        future = self._client.submit(
            run_scan,
            Parcel(job),
            self._name,
            key=f"{self._name}-{self._sent}",
            resources=self._resources,
            pure=False,
        )
        self._jobs[future.key] = (future, job)
        self._landed.add(future)

    def landed(self) -> Iterator[tuple[Any, ScanJob]]:
        """Each scan as it ends, also those sent meanwhile."""
        for future in self._landed:
            _, job = self._jobs.pop(future.key)
            yield future, job
            future.release()

    def drop(self) -> None:
        """Let go of what is under way."""
        with suppress(Exception):
            self._client.cancel([future for future, _ in self._jobs.values()], force=True)
        self._jobs.clear()
