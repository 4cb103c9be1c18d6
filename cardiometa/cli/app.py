"""The commands: thin functions, whose module is imported when its command is called."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..errors import UsageError
from .output import say, show_error

_ClickUsageError: Any = typer.BadParameter.__base__  # typer has click inside, and does not name it

# Command: its module and an example, in the order of the help page.
_COMMANDS: dict[str, tuple[str, str]] = {
    "segment": ("segment", "cohort.toml --out segmented"),
    "reference-ranges": ("reference_ranges", "segmented --out ranges --by sex,ethnicity"),
    "pool-trials": ("pool_trials", "segmented --out pooled --outcome lv_ef_percent --by sex"),
    "demo": ("first_steps", "--out cardiometa-demo"),
    "init": ("first_steps", "data --out cohort.toml"),
    "check": ("first_steps", "cohort.toml"),
    "evaluate": ("evaluate", "segmented --against labels --labels readers --out found"),
    "model": ("model", ""),
    "score": ("reference_ranges", "ranges/reference_ranges.json patients.csv --out scores.csv"),
    "adapt": ("reference_ranges", "ranges/reference_ranges.json controls.csv --out site.json"),
    "compare-limits": (
        "reference_ranges",
        "ranges/reference_ranges.json --against published.csv",
    ),
    "plan": ("pool_trials", "trials.csv --out planned --difference 3 --tau 1"),
    "summarise": ("pool_trials", "segmented --out site.json --outcome lv_ef_percent"),
    "review": ("outputs", "segmented --cohort cohort.toml --reader AB"),
    "merge": ("segment", "segmented"),
    "withdraw": ("outputs", "segmented --participant ALPHA/001"),
    "show": ("outputs", "segmented --verify"),
    "doctor": ("first_steps", ""),
}
_MAIN = frozenset(("segment", "reference-ranges", "pool-trials", "demo"))
_RENAMED = {"gather": "merge", "verify": "compare-limits"}
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


class _LazyGroup(TyperGroup):
    """A group that imports a command's module when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, in the order of the help page."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, built from its module's function (or its group of commands)."""
        name = _RENAMED.get(cmd_name, cmd_name)
        if name not in _COMMANDS:
            return None
        if name != cmd_name and not ctx.resilient_parsing:
            say(f"note: `cardiometa {cmd_name}` is now `cardiometa {name}`.")
        module_name, example = _COMMANDS[name]
        module = import_module(f".{module_name}", __package__)
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer(add_completion=False, context_settings=CONTEXT)
            line = f"cardiometa {name} {example}".strip()
            app.command(name=name, epilog=f"Example: {line}")(
                getattr(module, name.replace("-", "_"))
            )
        command: Any = typer.main.get_command(app)
        command.name = name
        command.rich_help_panel = "Main commands" if name in _MAIN else "Utilities"
        return command

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run a command; an error of its use is printed as all others are (exit code 2)."""
        run: Any = super().main
        if not standalone_mode:
            return run(*args, standalone_mode=False, **extra)
        try:
            code = run(*args, standalone_mode=False, **extra)
        except _ClickUsageError as error:
            context = getattr(error, "ctx", None)
            text = error.format_message()
            if text:  # none where the help page was shown instead
                hint = f"See {context.command_path} --help." if context is not None else ""
                show_error(UsageError(text, hint=hint))
            sys.exit(error.exit_code)
        sys.exit(code if isinstance(code, int) else 0)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Suggest names for a command that is not known, without building each of them."""
        self.commands: Any = dict.fromkeys(_COMMANDS)
        return super().resolve_command(ctx, args)


def _print_version(value: bool) -> None:
    if value:
        from ..manifest import version

        typer.echo(f"cardiometa {version()}")
        raise typer.Exit


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
    epilog="Example: cardiometa demo. Each command has its own --help.",
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
    """Pool trials of cardiac MRI: one segmentation model, reference ranges, treatment effects.

    Research use only; not a medical device.
    """
    del version
