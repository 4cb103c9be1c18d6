"""A real scheduler and real workers, as processes on this machine's loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.kit.processes import of_session

# A lost worker fails all that it had: what it did not kill must be done again, and each worker that
# starts again takes seconds.
_ENVIRONMENT = {
    "PYTHONWARNINGS": "ignore",
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
}


class Cluster:
    """``with Cluster(folder) as cluster: cluster.worker("one")``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "scheduler.json"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self._start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0")
        until = time.monotonic() + 60
        while not self._file.exists() and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(0.2)  # the file is written in one go, but not by a rename
        self.address: str = json.loads(self._file.read_text())["address"]
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def worker(self, name: str, *options: str, env: Mapping[str, str] | None = None) -> None:
        """A worker for one scan at a time, with its nanny."""
        self._start(name, "worker", "--nthreads", "1", "--name", name, *options, env=env)

    def _start(
        self, name: str, kind: str, *options: str, env: Mapping[str, str] | None = None
    ) -> None:
        where = ["--scheduler-file", str(self._file), "--no-dashboard"]
        if kind == "worker":
            where += ["--local-directory", str(self._folder / "local")]
        with (self._folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "dask", kind, *where, *options],
                env={**os.environ, **_ENVIRONMENT, **(env or {})},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def processes(self, name: str) -> dict[int, str]:
        """Every process of a worker, by number."""
        return of_session(self._running[name].pid)

    def lose(self, name: str) -> None:
        """Kill a worker and its nanny at once."""
        for pid in self.processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._running[name].wait()

    def logs(self) -> str:
        """What scheduler and workers said."""
        return "\n".join(path.read_text() for path in sorted(self._folder.glob("*.log")))
