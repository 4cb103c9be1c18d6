"""Where the ``cardiometa`` script comes in: signals first, so that Ctrl-C is heard at once."""

from __future__ import annotations

from typing import Any


def main() -> None:
    """Entry point of the ``cardiometa`` script."""
    from .signals import edge

    with edge():
        _one_thread_of_algebra()
        from .app import app

        app()


def _one_thread_of_algebra() -> None:
    """Before numpy is imported: how many threads add up a sum decides its last digit.

    The same command must give the same bytes on every machine. The network's threads are its own.
    """
    import os

    names = ("OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    os.environ.update(dict.fromkeys(names, "1"))


def __getattr__(name: str) -> Any:
    """``app`` for tests and documentation, without typer being imported before the signals."""
    if name == "app":
        from .app import app

        return app
    raise AttributeError(name)
