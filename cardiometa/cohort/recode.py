"""Make one harmonised column: codes by maps and schemes, units, and what adults can be.

A code that neither a map, a scheme nor the understood words know is a problem that lists each
value with its count; it is never guessed and never dropped. Blank is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..errors import Problem
from ..records import ETHNICITIES
from .column_rules import UNITS, Kind, kind_of
from .ethnicity import contradiction, group_of
from .models import ColumnRule
from .parsing import (
    UNKNOWN,
    as_booleans,
    as_numbers,
    by_value,
    is_unknown,
    no_number,
    rows_text,
    text_of,
    values_text,
)

# Adults: heights of the smallest and tallest measured, weights a scanner's table can carry.
ADULT_BOUNDS: Mapping[str, tuple[float, float]] = {
    "height_cm": (100.0, 250.0),
    "weight_kg": (25.0, 350.0),
}
_OLDEST_YEARS = 120.0
_LONGEST = max(map(len, UNKNOWN))
_SEX_WORDS = {"m": "male", "male": "male", "f": "female", "female": "female"}
_UNMAPPED = object()


def harmonise(
    values: pd.Series, rule: ColumnRule, where: str, *, adults: bool = True
) -> tuple[pd.Series, list[Problem]]:
    """The column by ``rule``: float64 for numbers, else object with None for unknown.

    ``values`` is indexed by the row numbers that problems name; ``where`` is the file's name;
    ``adults``: heights and weights that are no adult's are problems. Unknown ids are ``""``.
    """
    kind = kind_of(rule.name)
    if kind in ("number", "age", "length", "mass", "day"):
        numbers, problems = _numbers(values, rule, kind, where)
        if adults or rule.name not in ADULT_BOUNDS:
            problems += _check_bounds(numbers, rule, kind, f"{where}, {_column(rule)}")
        return numbers, problems
    if kind == "id":
        texts = pd.Series(by_value(values, text_of), index=values.index, dtype=object)
        return texts.mask(texts.isin(_unknown_among(texts)), ""), []
    if kind == "boolean" and rule.map is None:
        coded, bad = as_booleans(values)
        return coded, _unread(values[bad], rule, where, "true/false, yes/no, Y/N or 1/0")
    return _codes(values, rule, kind, where)


# ------------------------------------------------------------------ codes


def _codes(
    values: pd.Series, rule: ColumnRule, kind: Kind, where: str
) -> tuple[pd.Series, list[Problem]]:
    problems = []
    if kind == "ethnicity" and rule.map is not None:
        problems = [
            Problem(
                where=f"{where}, columns.ethnicity",
                what=reason,
                why="A wrong group would shift the ranges of two groups.",
                fix='Map it as the scheme says, or to "NA".',
            )
            for code, group in rule.map.items()
            if (reason := contradiction(rule.scheme, code, group if group is None else str(group)))
        ]
    decode = _decoder(rule, kind)

    def convert(value: Any) -> Any:
        text = text_of(value)
        if rule.map is not None and text in rule.map:
            return rule.map[text]
        return None if is_unknown(text) else decode(text)

    converted = by_value(values, convert)
    unread = np.array([value is _UNMAPPED for value in converted], dtype=bool)
    converted[unread] = None
    expected = {
        "sex": "M, F, male or female",
        "ethnicity": f"{', '.join(ETHNICITIES)}, or terms of a scheme",
    }.get(kind, "")
    problems += _unread(values[unread], rule, where, expected)
    return pd.Series(converted, index=values.index, dtype=object), problems


def _decoder(rule: ColumnRule, kind: Kind) -> Callable[[str], Any]:
    """What a text means that the map does not hold; `_UNMAPPED` where nothing knows it."""
    if rule.map is not None:
        return lambda _: _UNMAPPED
    if kind == "sex":
        return lambda text: _SEX_WORDS.get(text.casefold(), _UNMAPPED)
    if kind == "ethnicity":
        return lambda text: _ethnicity_of(text, rule.scheme)
    return lambda text: text


def _ethnicity_of(text: str, scheme: str | None) -> Any:
    if scheme is not None:
        group, known = group_of(scheme, text)
        return group if known else _UNMAPPED
    folded = text.casefold()
    return folded if folded in ETHNICITIES else _UNMAPPED


def _unread(cells: pd.Series, rule: ColumnRule, where: str, expected: str) -> list[Problem]:
    if cells.empty:
        return []
    lacking = "the map lacks" if rule.map is not None else "nothing says what this means:"
    say = f"Understood without a map: {expected}. " if expected and rule.map is None else ""
    return [
        Problem(
            where=f"{where}, {_column(rule)}",
            what=f"{lacking} {values_text(cells)}",
            why="A code is never guessed.",
            fix=f'{say}Add each to the map of columns.{rule.name}; "NA" is unknown.',
        )
    ]


# ------------------------------------------------------------------ numbers


def _numbers(
    values: pd.Series, rule: ColumnRule, kind: Kind, where: str
) -> tuple[pd.Series, list[Problem]]:
    if rule.map is not None:
        # A map of a number's column holds the codes among the numbers (999 = "NA").
        codes = rule.map
        mapped = by_value(values, lambda v: codes.get(text_of(v), v))
        values = pd.Series(mapped, index=values.index, dtype=object)
    numbers, bad = as_numbers(values)
    at = f"{where}, {_column(rule)}"
    problems = []
    if bad.any():
        problems.append(no_number(at, values, bad))
    units = UNITS.get(kind)
    if units is not None and rule.unit is not None:
        numbers = numbers * units[rule.unit]
    return numbers, problems


def _column(rule: ColumnRule) -> str:
    same = rule.column == rule.name
    return f"column {rule.column!r}" if same else f"column {rule.column!r} ({rule.name})"


def _unknown_among(texts: pd.Series) -> list[str]:
    """The texts that are signs of a missing value."""
    return [text for text in texts[texts.str.len() <= _LONGEST].unique() if is_unknown(text)]


def _check_bounds(numbers: pd.Series, rule: ColumnRule, kind: Kind, at: str) -> list[Problem]:
    low, high = {
        "age_years": (0.0, _OLDEST_YEARS),
        "death_day": (0.0, np.inf),
        "withdrawal_day": (0.0, np.inf),
        **ADULT_BOUNDS,
    }.get(rule.name, (-np.inf, np.inf))
    outside = (numbers < low) | (numbers > high)
    if not outside.any():
        return []
    found = numbers[outside]
    span = f"below {low:g}" if np.isinf(high) else f"outside {low:g} to {high:g}"
    return [
        Problem(
            where=f"{at}, {rows_text(found.index)}",
            what=f"{rule.name} is {span}: {', '.join(f'{v:g}' for v in found.head(12))}",
            why="It is no adult's value; a wrong unit would spoil every index.",
            fix=_unit_hint(numbers, rule, kind, low, high),
        )
    ]


def _unit_hint(numbers: pd.Series, rule: ColumnRule, kind: Kind, low: float, high: float) -> str:
    """The unit in which the column's median would be an adult's, if there is one."""
    median = float(numbers.median())
    if rule.unit is None and not low <= median <= high:
        for unit, factor in UNITS.get(kind, {}).items():
            if low <= median * factor <= high:
                return f'Is the column in {unit}? Then add unit = "{unit}".'
    return "Correct the value, or leave it blank if it is unknown."
