"""Read a cohort.toml: every key is checked, and all problems are reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ..errors import CohortError, Problem, Problems
from ..files import is_safe_name, sha256_bytes
from ..measurement.measures import COLUMN_NAMES, MEASURES
from ..validation import STRICT, load_toml, validate_partly
from .models import (
    PARTICIPANT_COLUMNS,
    CohortDefinition,
    NotObtained,
    Papillary,
    TrialDefinition,
)
from .recode import COLUMN_KINDS, parse_columns

Text = Annotated[str, Field(pattern=r"\S")]
Count = Annotated[int, Field(ge=0)]

# What a trial's table may give; measures and visits only where it has no images.
DEFINED_COLUMNS = (*COLUMN_KINDS, *(measure.name for measure in MEASURES), "bsa_m2")
# Names of a measurements.csv or participants.csv: a carried column may have none of them.
RESERVED_NAMES = frozenset({*COLUMN_NAMES, *PARTICIPANT_COLUMNS, "scans"})
# Columns that identify a participant must not get into a pooled table.
_IDENTIFYING = frozenset(
    {
        *("name", "patientname", "firstname", "lastname", "surname", "givenname", "fullname"),
        *("initials", "dob", "dateofbirth", "birthdate", "mrn", "nhsnumber", "ssn"),
        *("address", "postcode", "zipcode", "phone", "email"),
    }
)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A table [trials.NAME]."""

    __pydantic_config__ = STRICT

    participants: Text
    scans: Text | None = None
    root: Text = "."
    randomised: bool | None = None
    papillary: Papillary | None = None
    carry: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    healthy_rule: Text | None = None
    registry_id: Text | None = None
    design: Text | None = None
    n_sought: Count | None = None
    n_randomised: Count | None = None
    cluster: Text | None = None
    strata: tuple[str, ...] = ()
    permission: Text | None = None


@dataclass(frozen=True, kw_only=True)
class _NotObtained:
    """A table [[not_obtained]]."""

    __pydantic_config__ = STRICT

    trial: Text
    reason: Text
    n_participants: Count | None = None


@dataclass(frozen=True, kw_only=True)
class _Document:
    """A cohort.toml; its trials are validated one by one, so that the good ones can be read."""

    __pydantic_config__ = STRICT

    name: Text = ""
    trials: Mapping[str, Any] = field(default_factory=dict)
    not_obtained: tuple[_NotObtained, ...] = ()


def read_definition(path: Path) -> CohortDefinition:
    """The cohort that ``path`` (a cohort.toml) defines; CohortError lists every problem."""
    definition, problems = parse_definition(path)
    if problems or definition is None:
        raise CohortError(f"{path.name} cannot be used.", problems=problems)
    return definition


def parse_definition(path: Path) -> tuple[CohortDefinition | None, list[Problem]]:
    """What can be read of a cohort.toml, and every problem found."""
    where = path.name
    problems = Problems(where)
    try:
        raw = path.read_bytes()
        document = load_toml(raw, where, error=CohortError)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        problems.add(f"it cannot be opened ({reason})")
        return None, problems
    except CohortError as error:
        return None, list(error.problems)
    found, wrong = validate_partly(_Document, document, where)
    problems += wrong
    if found is None:
        return None, problems
    if "name" not in document:
        problems.add("the cohort has no name", fix='name = "..."')
    trials = []
    for name, table in found.trials.items():
        trial, wrong_here = _trial(name, table, f"{where}, trials.{name}", path.parent)
        problems += wrong_here
        if trial is not None:
            trials.append(trial)
    if not found.trials and "trials" not in {p.what.split(" ")[0] for p in problems}:
        problems.add("it defines no trial", fix="Add a table [trials.NAME] for each trial.")
        return None, problems
    folded = [trial.name.casefold() for trial in trials]
    for name in sorted({name for name in folded if folded.count(name) > 1}):
        problems.add(f"two trials are named {name!r} except for upper and lower case")
    for one in found.not_obtained:
        if one.trial.casefold() in folded:
            problems.add(f"the trial {one.trial!r} of not_obtained is also under trials")
    definition = CohortDefinition(
        name=found.name.strip() or "cohort",
        trials=tuple(trials),
        not_obtained=tuple(
            NotObtained(trial=one.trial, reason=one.reason, n_participants=one.n_participants)
            for one in found.not_obtained
        ),
        sha256=sha256_bytes(raw),
    )
    return definition, problems


def _trial(
    name: str, table: Any, where: str, folder: Path
) -> tuple[TrialDefinition | None, list[Problem]]:
    problems = Problems(where)
    if not is_safe_name(name):
        problems.add(
            f"the trial's name {name!r} cannot be the name of a folder",
            fix="Use letters, digits, dot, dash, underscore; a letter or digit first.",
        )
    trial, wrong = validate_partly(_Trial, table, where)
    problems += wrong
    if isinstance(table, Mapping) and "randomised" not in table:
        problems.add(
            "randomised is missing",
            fix="Add randomised = true or randomised = false (reference ranges only).",
        )
    if trial is None:
        return None, problems
    rules = parse_columns(trial.columns, problems, DEFINED_COLUMNS)
    _check_carry(trial.carry, problems)
    stated = {name: value for name, value in vars(trial).items() if name not in _READ_HERE}
    definition = TrialDefinition(
        name=name,
        root=folder / trial.root,
        participants=folder / trial.participants,
        scans=None if trial.scans is None else folder / trial.scans,
        columns=rules,
        **stated,
    )
    return definition, problems


_READ_HERE = ("root", "participants", "scans", "columns")


def _check_carry(carry: tuple[str, ...], problems: Problems) -> None:
    for name in carry:
        if name in RESERVED_NAMES or name.startswith("reported_"):
            problems.add(
                f"the carried column {name!r} collides with a column of the output",
                why="Two columns of the same name could not be distinguished.",
                fix="Rename it in the table, or map it under columns.",
            )
        if "".join(sign for sign in name.casefold() if sign.isalnum()) in _IDENTIFYING:
            problems.add(
                f"the column {name!r} would carry identities into every output",
                fix="Omit it, or rename it if it contains something else.",
            )
    for name in sorted({name for name in carry if carry.count(name) > 1}):
        problems.add(f"the column {name!r} is carried twice")
