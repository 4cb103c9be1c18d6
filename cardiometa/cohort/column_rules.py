"""The harmonised columns, their kinds and units, and the rules that make them.

`COLUMN_KINDS` and `UNITS` are the tables; `parse_columns` reads a ``[columns]`` table of a
cohort.toml or of ``--config`` into `ColumnRule` records.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from ..errors import Problem, nearest
from ..records import ETHNICITIES, SEXES
from .ethnicity import SCHEMES
from .models import ColumnRule
from .parsing import FALSE_WORDS, TRUE_WORDS, is_unknown, text_of

Kind = Literal[
    "id", "text", "sex", "ethnicity", "boolean", "number", "age", "length", "mass", "day"
]

COLUMN_KINDS: Mapping[str, Kind] = {
    "trial": "id",
    "participant_id": "id",
    "visit": "text",
    "visit_day": "day",
    "status": "text",
    "age_years": "age",
    "sex": "sex",
    "ethnicity": "ethnicity",
    "height_cm": "length",
    "weight_kg": "mass",
    "arm": "text",
    "randomised": "boolean",
    "healthy": "boolean",
    "death_day": "day",
    "withdrawal_day": "day",
    "reason_no_scan": "text",
}

# What a roster may give: the trial and whether it is randomised are said in cohort.toml.
ROSTER_COLUMNS = (
    "participant_id",
    "age_years",
    "sex",
    "ethnicity",
    "height_cm",
    "weight_kg",
    "arm",
    "healthy",
    "death_day",
    "withdrawal_day",
    "reason_no_scan",
)

# Factor to the harmonised unit, the first being that unit. Inch, foot and pound are exact by the
# international agreement of 1959; a month is a twelfth of 365.25 days.
UNITS: Mapping[Kind, Mapping[str, float]] = {
    "length": {"cm": 1.0, "m": 100.0, "mm": 0.1, "in": 2.54, "ft": 30.48},
    "mass": {"kg": 1.0, "g": 0.001, "lb": 0.45359237},
    "age": {"years": 1.0, "months": 1 / 12, "weeks": 7 / 365.25, "days": 1 / 365.25},
    "day": {"days": 1.0, "weeks": 7.0, "months": 365.25 / 12, "years": 365.25},
}


def kind_of(name: str) -> Kind:
    """The kind of a harmonised column; any other name is a number (a measure)."""
    return COLUMN_KINDS.get(name, "number")


def parse_columns(
    raw: Any, where: str, allowed: Collection[str]
) -> tuple[dict[str, ColumnRule], list[Problem]]:
    """The rules of a ``[columns]`` table and everything that is wrong with it."""
    if not isinstance(raw, Mapping):
        return {}, [Problem(where=where, what="columns is no table", fix="See the contract.")]
    rules: dict[str, ColumnRule] = {}
    problems: list[Problem] = []
    for name, value in raw.items():
        if name not in allowed:
            problems.append(
                Problem(
                    where=where, what=f"unknown column {name!r}", fix=nearest(str(name), allowed)
                )
            )
            continue
        rule, found = _parse_rule(str(name), value, f"{where}, columns.{name}")
        problems += found
        if rule is not None:
            rules[rule.name] = rule
    return rules, problems


def _parse_rule(name: str, value: Any, where: str) -> tuple[ColumnRule | None, list[Problem]]:
    if isinstance(value, str):
        value = {"column": value}
    if not isinstance(value, Mapping):
        return None, [
            Problem(
                where=where,
                what="neither the name of a column nor a table",
                fix='Write "AGE" or { column = "AGE", ... }.',
            )
        ]
    problems = [
        Problem(where=where, what=f"unknown key {key!r}", fix=nearest(key, _RULE_KEYS))
        for key in value
        if key not in _RULE_KEYS
    ]
    column = value.get("column")
    if not isinstance(column, str) or not column.strip():
        return None, [*problems, Problem(where=where, what="it names no column")]
    kind = kind_of(name)
    codes, found = _parse_map(value.get("map"), kind, where)
    problems += found
    wrong_unit = _check_unit(value.get("unit"), kind, where)
    wrong_scheme = _check_scheme(value.get("scheme"), kind, where)
    # A wrong one is said once and then left out, so that reading can go on to the next problem.
    rule = ColumnRule(
        name=name,
        column=column.strip(),
        map=codes,
        unit=None if wrong_unit else value.get("unit"),
        scheme=None if wrong_scheme else value.get("scheme"),
    )
    return rule, [*problems, *wrong_unit, *wrong_scheme]


_RULE_KEYS = ("column", "map", "unit", "scheme")


def _parse_map(
    raw: Any, kind: Kind, where: str
) -> tuple[dict[str, str | bool | None] | None, list[Problem]]:
    if raw is None:
        return None, []
    if not isinstance(raw, Mapping):
        return None, [Problem(where=where, what="map is no table", fix='Write { M = "male" }.')]
    if kind == "id":
        return None, [Problem(where=where, what="an id takes no map", why="Ids go on as they are.")]
    codes: dict[str, str | bool | None] = {}
    problems: list[Problem] = []
    for code, target in raw.items():
        key = text_of(str(code))
        value, problem = _target(target, kind)
        if problem:
            problems.append(Problem(where=where, what=f"map turns {key!r} into {problem}"))
            codes[key] = None  # said once: not again as a code that the map lacks
        elif key in codes:
            problems.append(Problem(where=where, what=f"map has {key!r} twice"))
        else:
            codes[key] = value
    return codes, problems


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
        return None, f"{target!r}, which is no text"
    return text_of(target), ""


def _check_unit(unit: Any, kind: Kind, where: str) -> list[Problem]:
    if unit is None:
        return []
    if kind not in UNITS:
        return [Problem(where=where, what="this column takes no unit")]
    if unit not in UNITS[kind]:
        return [
            Problem(
                where=where, what=f"unknown unit {unit!r}", fix=f"Use {', '.join(UNITS[kind])}."
            )
        ]
    return []


def _check_scheme(scheme: Any, kind: Kind, where: str) -> list[Problem]:
    if scheme is None:
        return []
    if kind != "ethnicity":
        return [Problem(where=where, what="only ethnicity takes a scheme")]
    if scheme not in SCHEMES:
        return [
            Problem(
                where=where, what=f"unknown scheme {scheme!r}", fix=f"Use {', '.join(SCHEMES)}."
            )
        ]
    return []
