"""From option records to a command: its parameters, the plan of ``--config``, errors and exits."""

from __future__ import annotations

import inspect
import shlex
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field
from functools import wraps
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import typer

from ..errors import CardiometaError, InputError, StoppedError, UsageError, nearest
from ..files import sha256_bytes, write_text
from ..manifest import COMMAND_LINE
from ..options import Declared, Options, options_of
from ..validation import load_toml
from .output import say, show_error

_PLAN = "cardiometa.plan"
Out = Annotated[
    Path, typer.Option("--out", help="Folder for the results. \\[required]", metavar="FOLDER")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a command knows of its call: the options given, and of the file of --config its hash.

    ``columns`` and ``prespecified`` are tables of that file; ``departures`` from it are in words.
    """

    given: frozenset[str]
    sha256: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    prespecified: Mapping[str, Any] = field(default_factory=dict)
    departures: tuple[str, ...] = ()

    def report(self, *, quiet: bool) -> None:
        """Print the plan's hash and the departures from it."""
        if self.sha256 is not None:
            say(f"plan: sha256 {self.sha256}", quiet=quiet)
        for departure in self.departures:
            say(f"departure from the plan: {departure}", quiet=quiet)


Table = Annotated[
    Path,
    typer.Argument(
        help="Output folder of segment, its measurements.csv, or any table.",
        exists=True,
        metavar="TABLE",
    ),
]
Tables = Annotated[
    list[Path],
    typer.Argument(
        help="Output folder of segment, its measurements.csv, any table (or several, one per "
        "trial), or a cohort.toml without images.",
        exists=True,
        metavar="TABLE",
    ),
]
CohortArgument = Annotated[
    Path,
    typer.Argument(
        help="cohort.toml, a folder of trials, or one scan.", exists=True, metavar="COHORT"
    ),
]
Segmented = Annotated[
    Path, typer.Argument(help="Output folder of segment.", exists=True, metavar="OUT")
]
Reference = Annotated[
    Path,
    typer.Argument(help="reference_ranges.json.", exists=True, dir_okay=False, metavar="REFERENCE"),
]
OutFile = Annotated[
    Path, typer.Option("--out", help="CSV file to write. \\[required]", metavar="FILE")
]


class Only:
    """A part of a record's options, of which ``required`` have no default in this command."""

    def __init__(self, *names: str, required: tuple[str, ...] = ()) -> None:
        self.names, self.required = frozenset(names), frozenset(required)

    def takes(self, one: Declared) -> bool:
        """True where the command has this option."""
        return not self.names or one.field in self.names


def command(function: Callable[..., None]) -> Callable[..., None]:
    """The Typer command of a function whose parameters are option records.

    A parameter annotated with an `Options` record (or ``Annotated[record, Only(...)]``) becomes
    the record's options and receives the filled record; one annotated with `Run` adds
    ``--config``; any other is a parameter of Typer. All missing options are reported together.
    """
    taken = list(inspect.signature(function, eval_str=True).parameters.values())
    parameters: list[inspect.Parameter] = [
        inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    ]
    required: dict[str, str] = {}
    for one in taken:
        record, only = _record_of(one)
        if record is Run:
            parameters.append(_keyword("config", _CONFIG, None))
        elif record is not None:
            for option in filter(only.takes, options_of(record)):
                if option.default is MISSING or option.field in only.required:
                    required[option.name] = option.flag
                parameters.append(_parameter(option, required=option.name in required))
        else:
            kind, info, *others = get_args(one.annotation)
            default, is_optional = one.default, kind is bool or NoneType in get_args(kind)
            if default is inspect.Parameter.empty:
                default = False if kind is bool else None
                if not is_optional:
                    is_argument = isinstance(info, typer.models.ArgumentInfo)
                    named = info.metavar if is_argument else info.default
                    required[one.name] = named if isinstance(named, str) else f"--{one.name}"
            # Every parameter can be missing for Typer, so that all missing ones are named at once.
            annotation: Any = Annotated[(kind if is_optional else kind | None, info, *others)]
            parameters.append(_keyword(one.name, annotation, default))

    @wraps(function)
    def call(ctx: typer.Context, **values: Any) -> None:
        with handle_errors(verbose=bool(values.get("verbose"))):
            filled = _filled(ctx, taken, values, required)
            typed = COMMAND_LINE.set(_typed(ctx))
            try:
                function(**filled)
            finally:
                COMMAND_LINE.reset(typed)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    return call


def _filled(
    ctx: typer.Context,
    taken: list[inspect.Parameter],
    values: Mapping[str, Any],
    required: Mapping[str, str],
) -> dict[str, Any]:
    """The function's arguments; UsageError with all that is missing and wrong in all records."""
    missing = {name: flag for name, flag in required.items() if values[name] in (None, [])}
    problems = [f"Missing: {', '.join(missing.values())}."] if missing else []
    hints = []
    filled: dict[str, Any] = {}
    for one in taken:
        record, only = _record_of(one)
        if record is None:
            filled[one.name] = values[one.name]
        elif record is Run:
            filled[one.name] = _run_of(ctx)
        else:
            names = {option.name for option in options_of(record) if only.takes(option)}
            try:
                filled[one.name] = record.of({k: values[k] for k in names - missing.keys()})
            except UsageError as error:
                problems.append(error.message)
                hints.append(error.hint)
            except TypeError:  # the record has no default for an option that is missing
                assert missing
    if problems:
        hint = " ".join(dict.fromkeys(filter(None, hints)))
        raise UsageError("\n  ".join(problems), hint=hint or f"See {ctx.command_path} --help.")
    return filled


def _record_of(parameter: inspect.Parameter) -> tuple[Any, Only]:
    hint, only = parameter.annotation, Only()
    if get_origin(hint) is Annotated:
        only = next((x for x in get_args(hint)[1:] if isinstance(x, Only)), only)
        hint = get_args(hint)[0]
    is_record = isinstance(hint, type) and (hint is Run or issubclass(hint, Options))
    return (hint if is_record else None), only


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, annotation=annotation, default=default)


def _parameter(one: Declared, *, required: bool) -> inspect.Parameter:
    """An option of Typer; the record checks its choices, so that all errors are reported."""
    option = one.option
    kind: Any = str if one.choices else one.kind
    default = None if required else one.default
    if one.is_list:
        kind = list[str] if option.repeat else str
        default = (
            None
            if not default
            else ",".join(f"{v:g}" if one.kind is float else str(v) for v in default)
        )
    shown = [option.help]
    if one.choices:
        shown.append(f"One of: {', '.join(str(choice) for choice in one.choices)}.")
    if option.repeat:
        shown.append("Repeatable.")
    if required:
        shown.append("[required]")
    elif default not in (None, "", False, True):
        text = f"{default:g}" if isinstance(default, float) else default
        shown.append(f"[default: {text}]")
    kinds = {str: "TEXT", int: "N", float: "NUMBER", Path: "PATH", bool: None}
    metavar = "NAME" if one.choices else kinds[one.kind]
    if one.is_list and not option.repeat:
        metavar = "LIST"
    info = typer.Option(
        *one.flags,
        help=" ".join(shown).replace("[", r"\["),
        show_default=False,
        rich_help_panel=None if option.group == "Options" else option.group,
        metavar=option.metavar or metavar,
        autocompletion=(lambda: [str(choice) for choice in one.choices]) if one.choices else None,
        exists=bool(option.exists),
        file_okay=option.exists != "folder",
        dir_okay=option.exists != "file",
    )
    return _keyword(one.name, Annotated[kind if kind is bool else kind | None, info], default)


# Ids of persons; how fast a run is, and where, which no result depends on.
_NOT_SHOWN = frozenset(
    (
        *("participant", "participants", "device", "batch", "workers", "timeout_s", "shard"),
        *("scheduler", "log_file", "overwrite", "restart", "quiet", "verbose", "json", "out"),
    )
)


def _typed(ctx: typer.Context) -> str:
    """The command as it was given, for the page: paths, which may contain names, by their kind."""
    words = [f"cardiometa{ctx.command_path.partition('cardiometa')[2]}"]
    for parameter in ctx.command.params:
        name, value = str(parameter.name), ctx.params.get(str(parameter.name))
        source = getattr(ctx.get_parameter_source(name), "name", "")
        if source != "COMMANDLINE" or name in _NOT_SHOWN or value in (None, []):
            continue
        flag = parameter.opts[0] if parameter.param_type_name == "option" else ""
        for one in value if isinstance(value, list | tuple) else [value]:
            text = shlex.quote(f"{one:g}" if isinstance(one, float) else str(one))
            if isinstance(one, Path) or Path(str(one)).exists() or "/" in str(one):
                text = str(parameter.metavar or "FILE").upper().strip("[].")
            words += [w for w in (flag, "" if one is True else text) if w]
    return " ".join(words)


def _load_plan(ctx: typer.Context, value: Path | None) -> Path | None:
    """Make the file's values the defaults of this command, so that flags win."""
    if value is None or ctx.resilient_parsing:
        return value
    try:
        raw = value.read_bytes()
        document = load_toml(raw, value.name)
    except (OSError, InputError) as error:
        problems = getattr(error, "problems", ())
        reason = problems[0].what if problems else type(error).__name__
        raise typer.BadParameter(f"{value.name}: {reason}") from error
    tables = {name: document.pop(name, {}) for name in ("columns", "prespecified")}
    options = {key.replace("-", "_"): item for key, item in document.items()}
    known = {parameter.name: parameter for parameter in ctx.command.params}
    unknown = sorted(set(options) - set(known) - {"config"})
    wrong = [
        f"{name} must be a table" for name, table in tables.items() if not isinstance(table, dict)
    ]
    wrong += [
        f"unknown option {name}. {nearest(name, [str(k) for k in known])}" for name in unknown
    ]
    if wrong:
        raise typer.BadParameter(f"{value.name}: {'; '.join(wrong)}")
    for key, item in options.items():
        # A list of a comma-separated option: by = ["sex", "age"].
        if isinstance(item, list) and not getattr(known[key], "multiple", False):
            options[key] = ",".join(str(part) for part in item)
    ctx.default_map = {**(ctx.default_map or {}), **options}
    ctx.meta[_PLAN] = {"sha256": sha256_bytes(raw), "options": options, **tables}
    return value


_CONFIG = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML of options (flags win) and a \\[columns] table; may be the pre-specified plan.",
        is_eager=True,
        callback=_load_plan,
        show_default=False,
        metavar="FILE",
        rich_help_panel="Output",
    ),
]


def _run_of(ctx: typer.Context) -> Run:
    plan: dict[str, Any] = {**ctx.meta.get(_PLAN, {})}
    departures = tuple(
        f"{name}: planned {planned}, used {ctx.params[name]}"
        for name, planned in plan.pop("options", {}).items()
        if name in ctx.params
        and ctx.params[name] != planned
        and str(ctx.params[name]) != str(planned)
    )
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    given = (n for n, source in sources.items() if getattr(source, "name", "") == "COMMANDLINE")
    return Run(given=frozenset(given), departures=departures, **plan)


# ------------------------------------------------------------------ errors and exits


@contextmanager
def handle_errors(*, verbose: bool = False) -> Iterator[None]:
    """Turn errors into a message and an exit code; ``verbose`` adds the traceback of a bug."""
    try:
        yield
    except CardiometaError as error:
        show_error(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(StoppedError.exit_code) from None  # `handle_signals` prints the message
    except (typer.Exit, typer.Abort):
        raise
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        # What is written raises OutputError; this is an input that is closed or has gone.
        reason = (error.strerror or type(error).__name__).lower()
        say(f"cardiometa: An input file or folder cannot be read: {reason}.")
        say("  Check its permissions, and that it was not moved while the command ran.")
        say(f"  Log: {_write_log(error)}")
        raise typer.Exit(InputError.exit_code) from None
    except MemoryError:
        say("cardiometa: Not enough memory. Use fewer --workers or a machine with more.")
        raise typer.Exit(1) from None
    except Exception as error:  # noqa: BLE001 - the last line of defence
        if verbose:
            traceback.print_exc()
        kind = type(error).__name__
        # What the system says (no such device, permission denied) contains no data.
        kind += f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
        say(f"cardiometa: Internal error ({kind}). Log: {_write_log(error)}")
        raise typer.Exit(1) from None


def _write_log(error: BaseException) -> str:
    """The path of a log of the error: its frames and type, no message and so no data."""
    from ..manifest import version

    lines = [f"cardiometa {version()}: {type(error).__name__}"]
    frames = traceback.extract_tb(error.__traceback__)
    lines += [f"{Path(f.filename).name}:{f.lineno} in {f.name}" for f in frames]
    lines += getattr(error, "__notes__", [])  # of another process: where it was
    try:
        path = Path(tempfile.mkdtemp(prefix="cardiometa-error-")) / "error.log"
        write_text(path, "\n".join(lines) + "\n")
    except (OSError, CardiometaError):
        return "could not be written"
    return str(path)
