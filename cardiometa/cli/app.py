"""The command line: each command's module holds one thin function and imports its work lazily."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

# Name, module, help panel: the order of the help page.
_COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("segment", "segment", "The work"),
    ("reference-ranges", "reference_ranges", "The work"),
    ("pool-trials", "pool_trials", "The work"),
    ("demo", "demo", "The work"),
    ("summarise", "summarise", "Around it"),
    ("init", "init", "Around it"),
    ("check", "check", "Around it"),
    ("evaluate", "evaluate", "Around it"),
    ("score", "score", "Around it"),
    ("verify", "compare_limits", "Around it"),
    ("model", "model", "Around it"),
    ("gather", "merge", "Around it"),
    ("withdraw", "withdraw", "Around it"),
    ("show", "show", "Around it"),
    ("doctor", "doctor", "Around it"),
)


class _LazyGroup(TyperGroup):
    """A group that imports a command's module when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, in the order of the help page."""
        del ctx
        return [name for name, _, _ in _COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, built from its module's function (or its group of commands)."""
        del ctx
        for name, module_name, panel in _COMMANDS:
            if name == cmd_name:
                module = import_module(f".{module_name}", __package__)
                app = getattr(module, "app", None)
                if app is None:
                    app = typer.Typer(add_completion=False, rich_markup_mode=None)
                    app.command(name=name, rich_help_panel=panel)(getattr(module, module_name))
                command = typer.main.get_command(app)
                command.name = name
                return command
        return None


def _print_version(value: bool) -> None:
    if value:
        from ..manifest import version

        typer.echo(f"cardiometa {version()}")
        raise typer.Exit


app = typer.Typer(
    cls=_LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Pool trials of cardiac MRI: segment all images with one model, then ranges and effects.

    Research use only; not a medical device.
    """
    del version
