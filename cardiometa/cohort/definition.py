"""Read a cohort.toml: every key is checked, and all that is wrong with it is said at once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CohortError, Problem, nearest
from ..files import is_safe_name, sha256_bytes
from ..measurement.measures import COLUMN_NAMES
from .models import PARTICIPANT_COLUMNS, CohortDefinition, NotObtained, TrialDefinition
from .recode import ROSTER_COLUMNS, parse_columns

_TOP_KEYS = ("name", "trials", "not_obtained")
_TEXT_KEYS = ("healthy_rule", "registry_id", "design", "cluster", "permission")
_PATH_KEYS = ("participants", "scans", "root")
_COUNT_KEYS = ("n_sought", "n_randomised")
_LIST_KEYS = ("carry", "strata")
_TRIAL_KEYS = (
    *_PATH_KEYS,
    "randomised",
    "papillary",
    "columns",
    *_LIST_KEYS,
    *_TEXT_KEYS,
    *_COUNT_KEYS,
)
_NOT_OBTAINED_KEYS = ("trial", "n_participants", "reason")
_PAPILLARY = ("blood-pool", "myocardium")

# Names of a measurements.csv or participants.csv: a carried column may have none of them.
RESERVED_NAMES = frozenset({*COLUMN_NAMES, *PARTICIPANT_COLUMNS, "scans"})
# Columns that say who a person is have no business in a pooled table.
_IDENTIFYING = frozenset(
    {
        *("name", "patientname", "firstname", "lastname", "surname", "givenname", "fullname"),
        *("initials", "dob", "dateofbirth", "birthdate", "mrn", "nhsnumber", "ssn"),
        *("address", "postcode", "zipcode", "phone", "email"),
    }
)


def read_definition(path: Path) -> CohortDefinition:
    """The cohort that ``path`` (a cohort.toml) defines; CohortError lists every problem."""
    definition, problems = parse_definition(path)
    if problems or definition is None:
        raise CohortError(f"{path.name} cannot be used.", problems=problems)
    return definition


def parse_definition(path: Path) -> tuple[CohortDefinition | None, list[Problem]]:
    """What can be read of a cohort.toml, and every problem met."""
    try:
        raw = path.read_bytes()
        document = tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return None, [Problem(where=path.name, what=f"it cannot be opened ({reason})")]
    except UnicodeDecodeError:
        return None, [Problem(where=path.name, what="it is not UTF-8")]
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
        return None, [Problem(where=path.name, what=f"it is no TOML: {error}")]
    return _parse(document, path.name, path.parent, sha256_bytes(raw))


def _parse(
    document: Mapping[str, Any], where: str, folder: Path, sha256: str
) -> tuple[CohortDefinition | None, list[Problem]]:
    problems = _unknown_keys(document, _TOP_KEYS, where)
    name = document.get("name")
    if not isinstance(name, str) or not name.strip():
        problems.append(Problem(where=where, what="the cohort has no name", fix='name = "..."'))
        name = "cohort"
    raw_trials = document.get("trials")
    if not isinstance(raw_trials, Mapping) or not raw_trials:
        fix = "Add a table [trials.NAME] for each trial."
        return None, [*problems, Problem(where=where, what="it defines no trial", fix=fix)]
    trials = []
    for trial_name, raw in raw_trials.items():
        trial, found = _parse_trial(trial_name, raw, f"{where}, trials.{trial_name}", folder)
        problems += found
        if trial is not None:
            trials.append(trial)
    folded = [trial.name.casefold() for trial in trials]
    problems += [
        Problem(where=where, what=f"two trials are named {name!r} but for the case of letters")
        for name in sorted({name for name in folded if folded.count(name) > 1})
    ]
    not_obtained, found = _parse_not_obtained(document.get("not_obtained", []), where, folded)
    definition = CohortDefinition(
        name=name.strip(), trials=tuple(trials), not_obtained=not_obtained, sha256=sha256
    )
    return definition, [*problems, *found]


def _unknown_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> list[Problem]:
    return [
        Problem(where=where, what=f"unknown key {key!r}", fix=nearest(key, known))
        for key in table
        if key not in known
    ]


def _parse_trial(
    name: str, raw: Any, where: str, folder: Path
) -> tuple[TrialDefinition | None, list[Problem]]:
    if not isinstance(raw, Mapping):
        return None, [Problem(where=where, what="it is no table", fix=f"Write [trials.{name}].")]
    problems = _unknown_keys(raw, _TRIAL_KEYS, where)
    if not is_safe_name(name):
        problems.append(
            Problem(
                where=where,
                what=f"the trial's name {name!r} cannot be the name of a folder",
                fix="Use letters, digits, dot, dash, underscore; a letter or digit first.",
            )
        )
    wrong = _check_types(raw, where)
    rules, found = parse_columns(raw.get("columns", {}), where, ROSTER_COLUMNS)
    problems += [*wrong.values(), *found]
    # What is wrong is left out, so that the tables are looked at all the same.
    raw = {key: value for key, value in raw.items() if key not in wrong}
    if "participants" not in raw:
        return None, problems
    carry, scans = tuple(raw.get("carry", ())), raw.get("scans")
    problems += _check_carry(carry, where)
    trial = TrialDefinition(
        name=name,
        root=folder / raw.get("root", "."),
        participants=folder / raw["participants"],
        scans=folder / scans if scans is not None else None,
        randomised=raw.get("randomised"),
        papillary=raw.get("papillary"),
        carry=carry,
        columns=rules,
        strata=tuple(raw.get("strata", ())),
        **{key: raw.get(key) for key in (*_TEXT_KEYS, *_COUNT_KEYS)},
    )
    return trial, problems


def _check_types(raw: Mapping[str, Any], where: str) -> dict[str, Problem]:
    """What is wrong with the value of a key, by key."""
    problems: dict[str, Problem] = {}

    def wrong(key: str, what: str, fix: str = "") -> None:
        problems[key] = Problem(where=where, what=what, fix=fix)

    if "participants" not in raw:
        fix = 'Add participants = "FILE": one row a participant.'
        wrong("participants", "no participants table is named", fix)
    if "randomised" not in raw:
        fix = "Add randomised = true or randomised = false (reference ranges only)."
        wrong("randomised", "it is not said whether the trial is randomised", fix)
    elif not isinstance(raw["randomised"], bool):
        fix = "Write true or false without quotes."
        wrong("randomised", f"randomised is {raw['randomised']!r}", fix)
    for key in (*_PATH_KEYS, *_TEXT_KEYS):
        if key in raw and (not isinstance(raw[key], str) or not raw[key].strip()):
            wrong(key, f"{key} is no text")
    for key in _COUNT_KEYS:
        if key in raw and not _is_count(raw[key]):
            wrong(key, f"{key} is {raw[key]!r}, not a count of people")
    for key in _LIST_KEYS:
        items = raw.get(key, [])
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            wrong(key, f"{key} is no list of column names", f'Write {key} = ["NAME"].')
    if "papillary" in raw and raw["papillary"] not in _PAPILLARY:
        fix = f"Use {' or '.join(_PAPILLARY)}."
        wrong("papillary", f"papillary is {raw['papillary']!r}", fix)
    return problems


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_carry(carry: tuple[str, ...], where: str) -> list[Problem]:
    problems = [
        Problem(
            where=where,
            what=f"the carried column {name!r} collides with a column of the output",
            why="Two columns of one name could not be told apart.",
            fix="Rename it in the table, or map it under columns.",
        )
        for name in carry
        if name in RESERVED_NAMES or name.startswith("reported_")
    ]
    problems += [
        Problem(where=where, what=f"the column {name!r} is carried twice")
        for name in sorted({name for name in carry if carry.count(name) > 1})
    ]
    problems += [
        Problem(
            where=where,
            what=f"the column {name!r} would carry who a person is into every output",
            fix="Leave it out, or rename it if it is something else.",
        )
        for name in carry
        if "".join(sign for sign in name.casefold() if sign.isalnum()) in _IDENTIFYING
    ]
    return problems


def _parse_not_obtained(
    raw: Any, where: str, obtained: list[str]
) -> tuple[tuple[NotObtained, ...], list[Problem]]:
    if not isinstance(raw, list):
        fix = "Write [[not_obtained]] with trial, n_participants and reason."
        return (), [Problem(where=where, what="not_obtained is no list", fix=fix)]
    entries, problems = [], []
    for number, item in enumerate(raw, 1):
        at = f"{where}, not_obtained {number}"
        if not isinstance(item, Mapping):
            problems.append(Problem(where=at, what="it is no table"))
            continue
        problems += _unknown_keys(item, _NOT_OBTAINED_KEYS, at)
        trial, reason, count = item.get("trial"), item.get("reason"), item.get("n_participants")
        if not isinstance(trial, str) or not trial.strip():
            problems.append(Problem(where=at, what="it names no trial"))
        elif trial.casefold() in obtained:
            problems.append(Problem(where=at, what=f"the trial {trial!r} is also under trials"))
        if not isinstance(reason, str) or not reason.strip():
            problems.append(Problem(where=at, what="no reason is given", fix='reason = "no reply"'))
        if count is not None and not _is_count(count):
            problems.append(
                Problem(where=at, what=f"n_participants is {count!r}, not a count of people")
            )
        entries.append(NotObtained(trial=str(trial), reason=str(reason), n_participants=count))
    return (() if problems else tuple(entries)), problems
