"""Read a cohort.toml and the rules of [columns]: all problems are reported at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import CohortError, Problem, Problems, nearest
from ..files import NAME_RULE, is_safe_name, sha256_bytes
from ..measurement.measures import COLUMN_NAMES, MEASURES
from ..records import ETHNICITIES, SEXES
from ..validation import STRICT, Text, load_toml, validate_partly
from .ethnicity import SCHEMES
from .infer_columns import measure_of, plain_name
from .models import PARTICIPANT_COLUMNS, CohortDefinition, ColumnRule, NotObtained, TrialDefinition
from .recode import COLUMN_KINDS, FALSE_WORDS, TRUE_WORDS, UNITS, Kind, is_unknown, kind_of, text_of

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
class _Document:
    """A cohort.toml; its trials are validated one by one, so that the good ones can be read."""

    __pydantic_config__ = STRICT

    name: Text = ""
    trials: Mapping[str, Any] = field(default_factory=dict)
    not_obtained: tuple[NotObtained, ...] = ()


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
        not_obtained=found.not_obtained,
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
            fix=NAME_RULE,
        )
    raw = {**table} if isinstance(table, Mapping) else table
    columns = raw.pop("columns", {}) if isinstance(raw, dict) else {}
    trial, wrong = validate_partly(TrialDefinition, raw, where, name=name)
    problems += wrong
    if isinstance(raw, dict):
        if "participants" not in raw:
            problems.add("participants is missing")
        if "randomised" not in raw:
            problems.add(
                "randomised is missing",
                fix="Add randomised = true or randomised = false (reference ranges only).",
            )
    if trial is None or trial.participants is None:
        return None, problems
    rules = parse_columns(columns, problems, DEFINED_COLUMNS)
    definition = replace(
        trial,
        root=folder / trial.root,
        participants=folder / trial.participants,
        scans=None if trial.scans is None else folder / trial.scans,
        columns=rules,
        carry=_usable_carry(trial.carry, problems),
    )
    return definition, problems


def _usable_carry(carry: tuple[str, ...], problems: Problems) -> tuple[str, ...]:
    """The columns that can be carried; problems for the others."""
    usable = []
    for name in dict.fromkeys(carry):
        if name in RESERVED_NAMES or name.startswith("reported_"):
            problems.add(
                f"the carried column {name!r} collides with a column of the output",
                why="Two columns of the same name could not be distinguished.",
                fix="Rename it in the table, or map it under columns.",
            )
        elif plain_name(name) in _IDENTIFYING:
            problems.add(
                f"the column {name!r} would carry identities into every output",
                fix="Omit it, or rename it if it contains something else.",
            )
        else:
            usable.append(name)
        if carry.count(name) > 1:
            problems.add(f"the column {name!r} is carried twice")
    return tuple(usable)


def parse_columns(raw: Any, problems: Problems, allowed: Collection[str]) -> dict[str, ColumnRule]:
    """The rules of a ``[columns]`` table by column; everything that is wrong with it is added.

    A column of the user's own may have a rule where its name says the measure (``EF_M12``): it
    keeps its name, and the rule is that of the measure.
    """
    if not isinstance(raw, Mapping):
        problems.add("columns must be a table", fix="See the contract.")
        return {}
    rules: dict[str, ColumnRule] = {}
    for name, value in raw.items():
        harmonised = name if name in allowed else measure_of(str(name))
        if harmonised not in allowed:
            problems.add(f"unknown column {name!r}", fix=nearest(str(name), allowed))
        elif (rule := _parse_rule(harmonised, value, problems, f"columns.{name}")) is not None:
            rules[str(name)] = rule
    return rules


def _parse_rule(name: str, value: Any, problems: Problems, at: str) -> ColumnRule | None:
    if not isinstance(value, str | Mapping):
        fix = 'Write "AGE" or { column = "AGE", ... }.'
        problems.add("neither the name of a column nor a table", at=at, fix=fix)
        return None
    table = {"column": value} if isinstance(value, str) else {"column": "", **value}
    rule, wrong = validate_partly(ColumnRule, table, f"{problems.where}, {at}", name=name)
    problems += wrong
    if rule is None or not rule.column.strip():
        if not wrong:
            problems.add("it names no column", at=at)
        return None
    kind = kind_of(name)
    # A wrong unit or scheme is reported once and then omitted, so that reading can continue.
    chosen: dict[str, str | None] = {}
    for key, known in (("unit", UNITS.get(kind)), ("scheme", SCHEMES)):
        named = getattr(rule, key)
        if named is not None and (known is None or (key == "scheme" and kind != "ethnicity")):
            is_unit = key == "unit"
            fault = "this column cannot have a unit" if is_unit else "only ethnicity has a scheme"
            problems.add(fault, at=at)
        elif named is not None and known is not None and named not in known:
            problems.add(f"unknown {key} {named!r}", at=at, fix=f"Use {', '.join(known)}.")
        else:
            chosen[key] = named
    codes = _parse_map(rule.map, kind, problems, at)
    return ColumnRule(name=name, column=rule.column.strip(), map=codes, **chosen)


def _parse_map(
    raw: Mapping[str, Any] | None, kind: Kind, problems: Problems, at: str
) -> dict[str, str | bool | None] | None:
    if raw is None:
        return None
    if kind == "id":
        problems.add("an id cannot have a map", at=at, why="Ids are kept as they are.")
        return None
    codes: dict[str, str | bool | None] = {}
    for code, target in raw.items():
        key = text_of(str(code))
        value, fault = _target(target, kind)
        if fault:
            problems.add(f"map turns {key!r} into {fault}", at=at)
            codes[key] = None  # said once: not again as a code that the map lacks
        elif key in codes:
            problems.add(f"map has {key!r} twice", at=at)
        else:
            codes[key] = value
    return codes


def _target(target: Any, kind: Kind) -> tuple[str | bool | None, str]:
    """The harmonised value that a map gives, or what is wrong with it."""
    if isinstance(target, str) and is_unknown(target):
        return None, ""
    if kind == "boolean":
        if isinstance(target, bool):
            return target, ""
        word = text_of(target).casefold()
        if word in TRUE_WORDS | FALSE_WORDS:
            return word in TRUE_WORDS, ""
        return None, f'{target!r}; it can be true, false or "NA"'
    allowed = {"sex": SEXES, "ethnicity": ETHNICITIES}.get(kind)
    if allowed and target not in allowed:
        return None, f'{target!r}; it can be {", ".join(allowed)} or "NA"'
    if isinstance(target, bool) or not isinstance(target, str | int | float):
        return None, f"{target!r}, which is not text"
    return text_of(target), ""
