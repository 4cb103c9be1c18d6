"""What the commands share: options, the plan file, and errors turned into exit codes."""

from __future__ import annotations

import tempfile
import tomllib
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import CardiometaError, InputError, StoppedError, UsageError
from .output import say, show_error

OutOption = Annotated[Path, typer.Option("--out", help="Folder to write to.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress, no summary.")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Say more on stderr.")]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace an output made with other options.")
]
InternalOption = Annotated[
    bool, typer.Option("--internal", help="Pages may show single people; says so at the top.")
]

# Where a table of the user's own names a column otherwise.
TrialColumn = Annotated[str | None, typer.Option(help="Column of the trial.")]
ParticipantColumn = Annotated[str | None, typer.Option(help="Column of the participant id.")]
AgeColumn = Annotated[str | None, typer.Option(help="Column of the age in years.")]
SexColumn = Annotated[str | None, typer.Option(help="Column of the sex.")]
EthnicityColumn = Annotated[str | None, typer.Option(help="Column of the ethnicity.")]
ArmColumn = Annotated[str | None, typer.Option(help="Column of the randomised arm.")]
VisitColumn = Annotated[str | None, typer.Option(help="Column of the visit.")]
VisitDayColumn = Annotated[
    str | None, typer.Option(help="Column of the visit's day from randomisation.")
]

# Which scans of a person are the endpoint and its baseline.
BaselineVisitOption = Annotated[str, typer.Option(help="Long form: the visit before.")]
FollowupVisitOption = Annotated[
    str | None, typer.Option(help="Long form: the visit after (the only other one).")
]
FollowupDayOption = Annotated[
    float | None, typer.Option(help="Or the scan nearest to this day, with --window.")
]
WindowOption = Annotated[float | None, typer.Option(help="Days either side of --followup-day.")]
BaselineColumn = Annotated[
    str | None, typer.Option(help="Wide form: the column of the baseline value.")
]

_PLAN = "cardiometa.plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The file given with --config: its hash, its options, its ``[columns]`` table."""

    sha256: str
    options: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)
    prespecified: Mapping[str, Any] = field(default_factory=dict)


def _load_plan(ctx: typer.Context, value: Path | None) -> Path | None:
    """Make the file's values the defaults of this command, so that flags win."""
    if value is None or ctx.resilient_parsing:
        return value
    from ..files import sha256_bytes

    try:
        raw = value.read_bytes()
        document = tomllib.loads(raw.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else type(error).__name__
        raise typer.BadParameter(f"{value.name} cannot be read as TOML: {reason}") from error
    columns = document.pop("columns", {})
    prespecified = document.pop("prespecified", {})
    options = {key.replace("-", "_"): item for key, item in document.items()}
    known = {parameter.name: parameter for parameter in ctx.command.params}
    unknown = sorted(set(options) - set(known) - {"config"})
    if unknown:
        raise typer.BadParameter(f"{value.name} sets options unknown here: {', '.join(unknown)}")
    for key, item in options.items():
        # A list of a comma-separated option: by = ["sex", "age"].
        if isinstance(item, list) and not getattr(known[key], "multiple", False):
            options[key] = ",".join(str(part) for part in item)
    ctx.default_map = {**(ctx.default_map or {}), **options}
    ctx.meta[_PLAN] = Plan(
        sha256=sha256_bytes(raw), options=options, columns=columns, prespecified=prespecified
    )
    return value


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML of options (flags win) and a [columns] table; may be the pre-specified plan.",
        is_eager=True,
        callback=_load_plan,
        show_default=False,
    ),
]


def plan_of(ctx: typer.Context) -> Plan | None:
    """The plan given with --config, or None."""
    plan: Plan | None = ctx.meta.get(_PLAN)
    return plan


def departures(ctx: typer.Context) -> dict[str, tuple[Any, Any]]:
    """Options whose value differs from the plan's: name to (planned, used)."""
    plan = plan_of(ctx)
    if plan is None:
        return {}
    used = ctx.params
    return {
        name: (planned, used[name])
        for name, planned in plan.options.items()
        if name in used and str(used[name]) != str(planned) and used[name] != planned
    }


def comma_list(text: str) -> tuple[str, ...]:
    """``"sex, age"`` to ``("sex", "age")``."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def root_folders(texts: list[str]) -> dict[str, Path]:
    """``["ALPHA=/data/alpha"]`` as a mapping; UsageError for anything else."""
    roots = {}
    for text in texts:
        trial, sign, folder = text.partition("=")
        if not (trial and sign and folder):
            raise UsageError(f"--root {text} is not TRIAL=DIR.", hint="Say --root ALPHA=/images.")
        roots[trial] = Path(folder)
    return roots


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> str:
    """``value`` where it is allowed; UsageError that lists the allowed values otherwise."""
    if value not in allowed:
        raise UsageError(
            f"{option} {value} is not known.", hint=f"Use one of {', '.join(allowed)}."
        )
    return value


def _write_fault(error: BaseException) -> str:
    """Where a log says how the program failed: frames and the error's type, no message, no data."""
    from ..files import write_text
    from ..manifest import version

    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"cardiometa {version()}: {type(error).__name__}"]
    lines += [f"{Path(f.filename).name}:{f.lineno} in {f.name}" for f in frames]
    lines += getattr(error, "__notes__", [])  # of another process: where it was
    try:
        path = Path(tempfile.mkdtemp(prefix="cardiometa-fault-")) / "fault.log"
        write_text(path, "\n".join(lines) + "\n")
    except (OSError, CardiometaError):
        return "none could be written"
    return str(path)


@contextmanager
def guard(*, verbose: bool = False) -> Iterator[None]:
    """Turn errors into a message and the contract's exit code; no traceback reaches the user."""
    try:
        yield
    except CardiometaError as error:
        show_error(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(StoppedError.exit_code) from None  # `edge` says so
    except (typer.Exit, typer.Abort):
        raise
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        # What is written raises OutputError; this is an input that is closed or has gone.
        reason = (error.strerror or type(error).__name__).lower()
        say(f"cardiometa: A file or folder of the input cannot be read: {reason}.")
        say("  It may be closed to this user, or was moved while the command ran.")
        say(f"  Where in the program: {_write_fault(error)}")
        raise typer.Exit(InputError.exit_code) from None
    except MemoryError:
        say("cardiometa: not enough memory. Use fewer --workers or a machine with more.")
        raise typer.Exit(1) from None
    except Exception as error:  # noqa: BLE001 - the last line of defence
        if verbose:
            traceback.print_exc()
        kind = type(error).__name__
        # What the system says (no such device, permission denied) holds no data.
        kind += f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
        say(f"cardiometa: a fault of the program ({kind}). Its log: {_write_fault(error)}")
        raise typer.Exit(1) from None
