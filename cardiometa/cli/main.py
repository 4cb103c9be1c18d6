"""Where the ``cardiometa`` script comes in: signals first, so that Ctrl-C is heard at once."""

from __future__ import annotations

from typing import Any


def main() -> None:
    """Entry point of the ``cardiometa`` script."""
    from .edge import edge

    with edge():
        from .app import app

        app()


def __getattr__(name: str) -> Any:
    """``app`` for tests and documentation, without typer being imported before the signals."""
    if name == "app":
        from .app import app

        return app
    raise AttributeError(name)
