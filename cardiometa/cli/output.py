"""What a person sees: the only user of rich. Results go to stdout, all the rest to stderr."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Self

from ..errors import CardiometaError, InputError, OutputError
from ..files import canonical_json

MAX_PROBLEMS_SHOWN = 200


def harmless(text: str) -> str:
    """``text`` with signs that steer a terminal or turn the writing round as escapes.

    Column names and codes of a foreign table stand in messages.
    """
    return "".join(
        sign
        if sign in {"\n", "\t"} or unicodedata.category(sign) not in _STEERING
        else sign.encode("unicode_escape").decode("ascii")
        for sign in text
    )


# Control and format characters, halves of a character.
_STEERING = ("Cc", "Cf", "Cs")


def say(text: str = "", *, quiet: bool = False) -> None:
    """A line to stderr."""
    if not quiet:
        # A closed or full stderr has nobody to be told of; the work goes on.
        with suppress(OSError):
            print(harmless(text), file=sys.stderr, flush=True)  # noqa: T201 - this is the console


def show_json(value: Any) -> None:
    """The result as JSON on stdout, nothing else there; raises OutputError."""
    text = canonical_json(value)
    try:
        text.encode(_letters())
    except UnicodeEncodeError:  # a terminal of few letters; \\u escapes say the same
        text = json.dumps(json.loads(text), sort_keys=True, indent=2) + "\n"
    _print(text)


def show_text(text: str) -> None:
    """Plain text on stdout; raises OutputError."""
    letters = _letters()
    shown = harmless(text).encode(letters, errors="backslashreplace").decode(letters)
    _print(shown if shown.endswith("\n") else shown + "\n")


def _letters() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _print(text: str) -> None:
    if sys.stdout is None:  # started without one
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer must not come up again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # a reader that has seen enough, as `head`
            reason = (error.strerror or type(error).__name__).lower()
            raise OutputError(f"The result cannot be printed: {reason}.") from error


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", quiet: bool = False
) -> None:
    """A table on stderr: first column to the left, the others to the right."""
    if quiet:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, box=None, pad_edge=False, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=number == 0)
    for row in rows:
        # Text keeps "[x]" in an id from being read as markup.
        table.add_row(*(Text(harmless(str(value))) for value in row))
    with suppress(OSError):
        Console(stderr=True, highlight=False).print(table)


def show_error(error: CardiometaError) -> None:
    """An error: the sentence, then every problem, then what to do."""
    say(f"cardiometa: {error.message}")
    if isinstance(error, InputError):
        for problem in error.problems[:MAX_PROBLEMS_SHOWN]:
            say(f"  - {problem}")
        hidden = len(error.problems) - MAX_PROBLEMS_SHOWN
        if hidden > 0:
            say(f"  … and {hidden} more (--json lists all)")
    if error.hint:
        say(f"  {error.hint}")


class Progress:
    """Counts, rate and time left: a bar on a terminal, a plain line now and then otherwise."""

    def __init__(self, total: int, unit: str, *, quiet: bool = False) -> None:
        self._total, self._unit, self._quiet = total, unit, quiet
        self._done = 0
        self._bar: Any = None
        self._next_line = 0.0

    def __enter__(self) -> Self:
        """Start the clock and, on a terminal, the bar."""
        import time

        self._begun = time.monotonic()
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn(self._unit),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self._unit, total=self._total, note="")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the bar."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self, note: str = "") -> None:
        """One more is done; ``note`` is shown beside the counts."""
        import time

        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, advance=1, note=note)
            return
        passed = time.monotonic() - self._begun
        if self._quiet or (passed < self._next_line and self._done < self._total):
            return
        self._next_line = passed + 15
        rate = self._done / passed if passed > 0 else 0.0
        left = (self._total - self._done) / rate if rate > 0 else 0.0
        say(
            f"{self._unit}: {self._done}/{self._total}, {rate * 60:.1f} a minute, "
            f"{left:.0f} s left {note}".rstrip()
        )
