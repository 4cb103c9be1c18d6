"""What is printed: results on stdout, everything else on stderr; the only user of rich."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Self

from ..errors import CardiometaError, InputError, OutputError
from ..files import canonical_json
from ..records import InputNotice, serious_first, severity

MAX_PROBLEMS_SHOWN = 200
_MOST_NOTICES = 4
# Control and format characters, halves of a character.
_CONTROL = ("Cc", "Cf", "Cs")


def escape_control(text: str) -> str:
    """``text`` with characters that control a terminal or its text direction as escapes.

    Messages quote column names and codes of foreign tables.
    """
    return "".join(
        sign
        if sign in {"\n", "\t"} or unicodedata.category(sign) not in _CONTROL
        else sign.encode("unicode_escape").decode("ascii")
        for sign in text
    )


def say(text: str = "", *, quiet: bool = False) -> None:
    """A line to stderr."""
    if not quiet:
        # With stderr closed or full the work still continues.
        with suppress(OSError):
            print(escape_control(text), file=sys.stderr, flush=True)  # noqa: T201 - this is the console


def show_warnings(warnings: Iterable[str], *, quiet: bool, verbose: bool = True) -> None:
    """Warnings on stderr: serious ones always, the others by ``quiet`` and ``verbose``.

    How the input was understood is said in a few lines of three, in full with ``verbose``.
    """
    notices = 0
    for warning in serious_first(warnings):
        if severity(warning) == "serious":
            say(f"warning: {warning}")
        elif verbose:
            say(f"note: {warning}", quiet=quiet)
        elif isinstance(warning, InputNotice):
            notices += 1
            width = terminal_width()
            text = textwrap.shorten(f"note: {warning}", 3 * width, placeholder="…")
            shown = textwrap.fill(text, width, subsequent_indent="  ")
            say(shown, quiet=quiet or notices > _MOST_NOTICES)
    if notices > _MOST_NOTICES:
        say(f"… and more with --verbose: {notices - _MOST_NOTICES}", quiet=quiet)


def terminal_width(least: int = 60, most: int = 100) -> int:
    """Columns of the terminal; 80 where there is none."""
    return max(least, min(most, shutil.get_terminal_size().columns))


def show_json(value: Any) -> None:
    """The result as JSON on stdout, nothing else there; raises OutputError."""
    text = canonical_json(value)
    try:
        text.encode(_encoding())
    except UnicodeEncodeError:  # a terminal with a small character set
        text = json.dumps(json.loads(text), sort_keys=True, indent=2) + "\n"
    _print(text)


def show_text(text: str) -> None:
    """Plain text on stdout; raises OutputError."""
    encoding = _encoding()
    shown = escape_control(text).encode(encoding, errors="backslashreplace").decode(encoding)
    _print(shown if shown.endswith("\n") else shown + "\n")


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _print(text: str) -> None:
    if sys.stdout is None:  # started without one
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # The rest of the buffer must not be written when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # a reader that stopped early, such as `head`
            reason = (error.strerror or type(error).__name__).lower()
            raise OutputError(f"The result cannot be printed: {reason}.") from error


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", quiet: bool = False
) -> None:
    """A table on stderr: first column to the left, the others to the right; no cell is cut.

    Wider than the terminal, each row is a block of lines; a file or a pipe has no width.
    """
    if quiet:
        return
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[escape_control(str(value)) for value in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    natural = sum(widths) + 2 * (len(widths) - 1)
    if sys.stderr.isatty() and natural > shutil.get_terminal_size().columns:
        if title:
            say(title)
        for first, *others in cells:
            say(f"{columns[0]} {first}")
            for name, value in zip(columns[1:], others, strict=True):
                say(f"  {name}: {value}")
        return

    table = Table(title=title or None, box=None, pad_edge=False, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=number == 0)
    for row in cells:
        # Text keeps "[x]" in an id from being interpreted as markup.
        table.add_row(*map(Text, row))
    with suppress(OSError):
        Console(stderr=True, highlight=False, width=max(natural, len(title))).print(table)


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


def duration(seconds: float) -> str:
    """``45 s``, ``12 min 5 s``, ``3 h 20 min``."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


class Progress:
    """Counts, rate and time left: a bar on a terminal, a plain line now and then otherwise.

    Used as a context; it starts once the number of items is known.
    """

    def __init__(self, unit: str, *, quiet: bool = False) -> None:
        self._unit, self._quiet = unit, quiet
        self._total = self._done = 0
        self._begun = self._next_line = 0.0
        self._bar: Any = None

    def __enter__(self) -> Self:
        """Nothing is shown yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the bar."""
        if self._bar is not None:
            self._bar.stop()

    def planned(self, total: int, finished: int | None = None) -> None:
        """There are ``total`` items, of which ``finished`` were done before."""
        if finished is not None:
            say(f"{total} {self._unit}, {finished} already done", quiet=self._quiet)
        self._total, self._begun = total - (finished or 0), time.monotonic()
        if self._quiet or self._total < 1 or not sys.stderr.isatty():
            return
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn(self._unit),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[note]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._bar.start()
        self._task = self._bar.add_task(self._unit, total=self._total, note="")

    def done(self, note: str = "") -> None:
        """One more item is done; ``note`` is shown next to the counts."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, advance=1, note=note)
            return
        passed = time.monotonic() - self._begun
        is_due = passed >= self._next_line or self._done >= self._total
        if self._quiet or self._total < 1 or not is_due:
            return
        self._next_line = passed + 15
        pace = ""
        if passed >= 1:  # before, a rate says nothing
            rate = self._done / passed
            left = duration((self._total - self._done) / rate)
            pace = f", {duration(passed)} elapsed, {left} left, {rate * 60:.1f} per minute"
        say(f"{self._unit}: {self._done}/{self._total}{pace} {note}".rstrip())

    def step(self, _done: int, total: int) -> None:
        """One more of ``total`` items is done."""
        if not self._total:
            self.planned(total)
        self.done()
