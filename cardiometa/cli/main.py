"""Entry point of the ``cardiometa`` script: signals first, so that Ctrl-C works during start-up."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_EXIT_CODE = 130  # of errors.StoppedError, which is imported only when it is needed
_STOPPED = "Stopped. Finished work is kept; rerun the same command to resume."


def main() -> None:
    """Run the command line."""
    with handle_signals():
        # Before numpy is imported: the number of threads that add up a sum decides its last digit,
        # and the same command must give the same bytes everywhere. The network has its own threads.
        names = ("OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
        os.environ.update(dict.fromkeys(names, "1"))
        # Memory that pyarrow no longer needs goes back to the system.
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
        from .app import app

        app()


@contextmanager
def handle_signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP all end a command in the same way: exit 130, nothing half-written.

    The first signal lets the command clean up; a second one ends it at once, which loses no
    finished work either, because files get their names only when they are complete.
    """
    received: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        if received:
            os._exit(_EXIT_CODE)
        received.append(number)
        raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # A signal that the caller ignores (nohup, a shell's background job) stays ignored.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    except KeyboardInterrupt:
        _exit_stopped()
    except SystemExit as error:
        # A command's own way to end after the signal, or a library's with another code (1).
        if error.code == _EXIT_CODE or (received and error.code == 1):
            _exit_stopped()
        raise


def _exit_stopped() -> None:
    from ..errors import StoppedError
    from .output import show_error

    show_error(StoppedError(_STOPPED))
    sys.exit(_EXIT_CODE)


def __getattr__(name: str) -> Any:
    """``app`` for tests and documentation, without typer being imported before the signals."""
    if name == "app":
        from .app import app

        return app
    raise AttributeError(name)
