"""Errors become a message and the contract's exit code; no traceback reaches a user."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from ..errors import CardiometaError, InputError, StoppedError
from ..files import write_text
from ..manifest import version
from .output import say, show_error


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
