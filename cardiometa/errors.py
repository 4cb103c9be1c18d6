"""Every error a caller can meet, as one tree.

::

    CardiometaError            exit 1   (never raised itself)
     ├── UsageError            exit 2   wrong options, or an output made with others
     ├── InputError            exit 3   input not usable: every problem at once
     │    ├── CohortError               cohort.toml, rosters, folders
     │    ├── TableError                a table for the statistics commands
     │    ├── ImageError                one scan cannot be read (the others continue)
     │    └── ModelError                a model file or its card
     ├── OutputError           exit 1   the output cannot be written: disk full, permissions, I/O
     ├── EstimationError       exit 5   the statistical model could not be estimated
     ├── EngineError           exit 1   what the scans ran on was lost; finished work stays
     └── StoppedError          exit 130 the user stopped the run; finished work stays

An error says what is wrong (value, file, row), why it matters and what to do. Its text never
contains a name, birth date or other identity from a header.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with the input.

    ``Problem(where="participants.csv, row 7", what="height_cm is 1.7", why="...", fix="...")``
    """

    where: str
    what: str
    why: str = ""
    fix: str = ""

    def __str__(self) -> str:
        """``where: what. why fix`` on one line."""
        return " ".join(
            part for part in (f"{self.where}: {self.what}.", self.why, self.fix) if part
        )


class Problems(list[Problem]):
    """The problems of one table or document, collected while it is read."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def add(self, what: str, *, at: str = "", why: str = "", fix: str = "") -> None:
        """One more problem, ``at`` a place in the table."""
        where = f"{self.where}, {at}" if at else self.where
        self.append(Problem(where=where, what=what, why=why, fix=fix))


def nearest(name: str, known: Collection[str]) -> str:
    """``Did you mean 'height_cm'?`` or the list of what is known."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(known)}."


class CardiometaError(Exception):
    """Base of the tree: a message, a hint of what to do, and the exit code."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """The message, then the hint."""
        return f"{self.message} {self.hint}".strip()


class UsageError(CardiometaError):
    """Wrong use: an option, or an output folder made with other options."""

    exit_code = 2


class InputError(CardiometaError):
    """Input that cannot be used; ``problems`` lists all of them, nothing was written.

    ``missing`` are codes that seem to be of missing values, for ``--missing``.
    """

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        problems: Iterable[Problem] = (),
        missing: Iterable[str] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)
        self.missing = tuple(missing)

    def listed(self, where: str) -> tuple[Problem, ...]:
        """Its problems; where it has none, itself as the one problem of ``where``."""
        itself = Problem(where=where, what=self.message.rstrip("."), fix=self.hint)
        return self.problems or (itself,)


class CohortError(InputError):
    """A cohort definition, roster or folder that cannot be used."""


class TableError(InputError):
    """A table that the statistics commands cannot use."""


class ModelError(InputError):
    """A model file that is damaged, has no card, or does not fit."""


class ImageError(InputError):
    """One scan that cannot be read; ``code`` is the reason's short name (``no-images``)."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        problems: Iterable[Problem] = (),
    ) -> None:
        super().__init__(message, hint=hint, problems=problems)
        self.code = code


class OutputError(CardiometaError):
    """The output cannot be written; what was finished before stays complete and resumes."""


class EstimationError(CardiometaError):
    """A statistical model that these data cannot estimate, and why."""

    exit_code = 5


class EngineError(CardiometaError):
    """The processes, the cluster or the folder a run works with were lost; finished work stays."""


class StoppedError(CardiometaError):
    """The user stopped the run."""

    exit_code = 130
