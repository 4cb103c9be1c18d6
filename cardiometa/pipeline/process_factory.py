"""Starts the processes that work on scans, and tells how one ended.

On Linux one process imports the libraries (torch takes a second and 200 MB) and is forked for
each worker, which then shares them and starts at once, also in place of one that died. Elsewhere
each worker is a process of its own. Neither needs anything of the caller's main module, so this
works inside a Dask worker too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Protocol

from ..errors import EngineError
from .worker import Channel, preload, preload_network, serve

_END_S = 5.0
# One thread in every library: a number never depends on the cores of the machine.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Process(Protocol):
    """A running worker."""

    channel: Channel

    def kill(self) -> None:
        """End it now, whatever it does."""
        ...

    def ended(self) -> str:
        """Wait for its end and say how it ended."""
        ...


def _python(module: str, *arguments: str) -> list[str]:
    """The command of a module's ``main`` with this process's copy of the program.

    Without ``-m``, which would take a ``numpy.py`` in the user's folder for the library.
    """
    top = str(Path(__file__).resolve().parents[2])
    # After the standard library, before what else is installed.
    start = (
        "import sys; "
        "at = [n for n, p in enumerate(sys.path) if p.endswith('-packages')] or [len(sys.path)]; "
        f"sys.path.insert(at[0], {top!r}); from {module} import main; main()"
    )
    return [sys.executable, "-P", "-c", start, *arguments]


def how_it_ended(status: int | None) -> str:
    """``signal SIGSEGV`` or ``exit code 3``, from a code as `subprocess` gives it."""
    if status is None:
        return "no exit code"
    if status >= 0:
        return f"exit code {status}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-status).name}"
    return f"signal {-status}"


class Nursery:
    """``Nursery(network=True).start()`` is a new worker; ``close`` ends all of them.

    ``network``: the workers will need torch. ``fork`` False makes each a process of its own.
    """

    def __init__(self, *, network: bool, fork: bool | None = None) -> None:
        self._network = network
        self._fork = sys.platform == "linux" if fork is None else fork
        self._lock = threading.Lock()
        self._parent: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._own: list[_Spawned] = []

    def warm(self) -> None:
        """Begin to import the libraries, so that the first worker need not wait for them."""
        if self._fork:
            with self._lock:
                self._running()

    def start(self) -> Process:
        """A new worker, which waits for its setup."""
        if not self._fork:
            spawned = _Spawned()
            self._own.append(spawned)
            return spawned
        ours, theirs = socket.socketpair()
        with self._lock:
            control = self._running()
            try:
                socket.send_fds(control, [b"fork"], [theirs.fileno()])
                pid = int(control.recv(64))
            except (OSError, ValueError):
                ours.close()
                raise EngineError(
                    "The process that starts workers ended by itself.",
                    hint="Often too little memory. The same command goes on; try fewer --workers.",
                ) from None
            finally:
                theirs.close()
        return _Forked(self, pid, ours)

    def ended(self, pid: int) -> str:
        """Wait for a forked worker and say how it ended."""
        with self._lock:
            if self._control is None:
                return how_it_ended(None)
            try:
                self._control.sendall(f"wait {pid}".encode())
                return how_it_ended(int(self._control.recv(64)))
            except (OSError, ValueError):  # who could tell is gone itself
                return how_it_ended(None)

    def close(self) -> None:
        """End the workers and what starts them."""
        for spawned in self._own:
            spawned.kill()
            spawned.ended()
        self._own.clear()
        with self._lock:
            if self._parent is not None and self._control is not None:
                self._control.close()
                try:
                    self._parent.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    self._parent.kill()
                    self._parent.wait()
            self._parent = self._control = None

    def _running(self) -> socket.socket:
        if not self._fork:
            raise OSError("nothing is forked here")
        if self._control is not None and self._parent is not None and self._parent.poll() is None:
            return self._control
        if self._control is not None:
            self._control.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._parent = subprocess.Popen(  # noqa: S603 - this program's own module
            _python(__name__, str(theirs.fileno()), *(["network"] if self._network else [])),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **_ONE_THREAD},
        )
        theirs.close()
        self._control = ours
        return ours


class _Forked:
    def __init__(self, nursery: Nursery, pid: int, link: socket.socket) -> None:
        self._nursery, self._pid = nursery, pid
        self.channel = Channel(link.makefile("rb"), link.makefile("wb"))
        link.close()  # the two streams keep it open

    def kill(self) -> None:
        # Not yet waited for, so the number is still its own.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def ended(self) -> str:
        return self._nursery.ended(self._pid)


class _Spawned:
    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this program's own module
            _python(f"{__package__}.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ONE_THREAD},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Typed as IO[bytes]; both are binary streams.
        self.channel = Channel(self._process.stdout, self._process.stdin)  # type: ignore[arg-type]

    def kill(self) -> None:
        self._process.kill()

    def ended(self) -> str:
        return how_it_ended(self._process.wait())


# ------------------------------------------------------------------ in the process that forks


def _child(link: int) -> None:
    stream = socket.socket(fileno=link)
    channel = Channel(stream.makefile("rb"), stream.makefile("wb"))
    try:
        serve(channel)
    finally:
        os._exit(0)


def _exit_code(pid: int) -> int | None:
    """How a child ended; None where it does not within some seconds, stuck in the kernel."""
    until = time.monotonic() + _END_S
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


def main() -> None:
    """Fork on request until the other side goes; then end every worker."""
    descriptor, network = int(sys.argv[1]), "network" in sys.argv[2:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=descriptor)
    os.dup2(2, 1)
    preload()
    if network:
        preload_network()
    children: set[int] = set()
    # The run may be killed between its request and the answer.
    with contextlib.suppress(ConnectionError):
        _answer(control, children)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _answer(control: socket.socket, children: set[int]) -> None:
    """Fork and wait as asked, until the other side goes."""
    while True:
        request, links, _, _ = socket.recv_fds(control, 64, 1)
        if request == b"fork":
            pid = os.fork()
            if pid == 0:
                control.close()
                _child(links[0])
            os.close(links[0])
            children.add(pid)
            control.sendall(str(pid).encode())
        elif request.startswith(b"wait "):
            pid = int(request[5:])
            code = _exit_code(pid) if pid in children else None
            if code is not None:
                children.discard(pid)
            control.sendall(b"?" if code is None else str(code).encode())
        elif not request:
            return
