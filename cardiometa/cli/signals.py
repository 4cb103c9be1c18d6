"""The outermost border of the command line: signals, and what goes wrong outside a command."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_EXIT_CODE = 130  # of errors.StoppedError, which is imported only when it is needed
_STOPPED = "stopped; what was finished stays, the same command goes on."


@contextmanager
def edge() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP all end a command in the same way: exit 130, nothing half-written.

    The first signal lets the command put things in order; a second one ends it at once, which
    loses no finished work either, because files get their names only when they are whole.
    """
    came: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        if came:
            os._exit(_EXIT_CODE)
        came.append(number)
        raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # A signal that the caller ignores (nohup, a shell's background job) stays ignored.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    except KeyboardInterrupt:
        _stopped()
    except SystemExit as error:
        # A command's own way to end after the signal, or a library's with another code (1).
        if error.code == _EXIT_CODE or (came and error.code == 1):
            _stopped()
        raise


def _stopped() -> None:
    from ..errors import StoppedError
    from .output import show_error

    show_error(StoppedError(_STOPPED))
    sys.exit(StoppedError.exit_code)
