"""What runs inside a Dask worker: this run's plugin, with processes that work on scans.

A scan runs in a process beside the Dask worker, as on one machine: what hangs or crashes there
does not take the worker along, and the network is loaded once. Needs the extra ``dask``.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import Any

from distributed import WorkerPlugin, get_worker

from ..errors import CardiometaError, EngineError
from ..imaging.source_state import source_state
from ..manifest import version
from ..records import ScanResult
from .engine import EngineSetup
from .process_factory import Nursery
from .process_scan import ScanJob
from .workers import Crew

_IDLE_S = 60.0


class Parcel:
    """A scan on its way to a worker; prints as nothing, since Dask logs what it carries."""

    def __init__(self, job: ScanJob) -> None:
        self.job = job

    def __repr__(self) -> str:
        """No id and no path."""
        return "<scan>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a scan: its result, or what stops the whole run."""

    result: ScanResult | None = None
    error: CardiometaError | None = None
    unfit: str = ""

    def __repr__(self) -> str:
        """Nothing of the scan."""
        return "<outcome>"


class ScanPlugin(WorkerPlugin):
    """Holds the processes of one run in one Dask worker.

    ``proof`` is the name of a file in OUT: a worker that sees it sees the same storage.
    """

    def __init__(self, setup: EngineSetup, proof: str) -> None:
        self._given, self._proof = setup, proof
        self._version = version()

    def setup(self, worker: Any) -> None:
        """Make ready, or note why this worker is unfit; must not fail, others use it too."""
        del worker
        # One scan a task: Dask's own threads are the scans side by side.
        self._setup = replace(self._given, workers=1)
        self._guard = threading.Lock()
        self._crews: set[Crew] = set()
        self._idle: list[tuple[Crew, float]] = []
        self._nursery: Nursery | None = None
        self._over = threading.Event()
        self.unfit = self._why_unfit()
        threading.Thread(target=self._send_home, daemon=True).start()

    def _why_unfit(self) -> str:
        if version() != self._version:
            return f"a worker has cardiometa {version()}, this machine {self._version}"
        try:
            seen = (self._setup.out / self._proof).is_file()
        except OSError:
            seen = False
        return "" if seen else "a worker does not see the folder given with --out"

    def teardown(self, worker: Any) -> None:
        """End every process."""
        del worker
        self._over.set()
        with self._guard:
            crews, self._crews, self._idle = set(self._crews), set(), []
            nursery, self._nursery = self._nursery, None
        for crew in crews:
            crew.close()
        if nursery is not None:
            nursery.close()

    def do(self, job: ScanJob) -> Outcome:
        """One scan, wholly; what stops the run comes back as a value, since Dask logs errors."""
        if self.unfit:
            return Outcome(unfit=self.unfit)
        wanted = (job.options.get("source_files"), job.options.get("source_bytes"))
        state = source_state(job.source)
        if (state.files, state.size) != wanted:
            return Outcome(unfit="a worker sees other images of a scan than this machine")
        try:
            crew = self._take()
            (result,) = crew.run([job], lambda _: None)
        except CardiometaError as error:
            return Outcome(error=error)
        with self._guard:
            self._idle.append((crew, time.monotonic()))
        return Outcome(result=result)

    def _take(self) -> Crew:
        with self._guard:
            if self._over.is_set():
                raise EngineError("The run was ended.")
            if self._idle:
                return self._idle.pop()[0]
            if self._nursery is None:
                self._nursery = Nursery(network=True)
            crew = Crew(self._setup, self._nursery)
            self._crews.add(crew)
            return crew

    def _send_home(self) -> None:
        """End processes without work for a while: the run may be over, its end unheard."""
        while not self._over.wait(_IDLE_S / 2):
            with self._guard:
                late = [crew for crew, since in self._idle if time.monotonic() - since > _IDLE_S]
                self._idle = [pair for pair in self._idle if pair[0] not in late]
                self._crews.difference_update(late)
                nursery = None
                if not self._crews:
                    nursery, self._nursery = self._nursery, None
            for crew in late:
                crew.close()
            if nursery is not None:
                nursery.close()


def _plugin(worker: Any, name: str) -> ScanPlugin | None:
    plugin = worker.plugins.get(name)
    return plugin if isinstance(plugin, ScanPlugin) else None


def run_scan(parcel: Parcel, name: str) -> Outcome:
    """The task: one scan by this worker's plugin ``name``."""
    plugin = _plugin(get_worker(), name)
    if plugin is None:
        return Outcome(unfit="a worker was not told of this run")
    return plugin.do(parcel.job)


def unfit(name: str, dask_worker: Any) -> str:
    """Why this worker cannot take part, empty where it can."""
    plugin = _plugin(dask_worker, name)
    return "a worker was not told of this run" if plugin is None else plugin.unfit


def gpus(dask_worker: Any) -> float:
    """How many GPU tasks this worker takes at once, as it was started with."""
    return float(dask_worker.state.total_resources.get("GPU", 0))
