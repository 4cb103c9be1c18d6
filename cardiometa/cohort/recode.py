"""Harmonised columns: cells as text and numbers, the rules of ``[columns]``, codes and units.

`COLUMN_KINDS` and `UNITS` are the tables, `parse_columns` reads rules, `harmonise` makes a column.
A code that neither a map, a scheme nor the understood words know is a problem that lists each
value with its count; it is never guessed and never dropped. Blank is unknown. Text columns are
processed by their distinct values, so that a million rows cost as much as their codes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from ..errors import Problems
from ..records import ETHNICITIES, SEXES
from .ethnicity import by_term, contradiction, group_of
from .models import PARTICIPANT_COLUMNS, ColumnRule

UNKNOWN = frozenset({"", "na", "n/a", "nan", "<na>", ".", "null", "missing"})
TRUE_WORDS = frozenset({"true", "t", "yes", "y", "1"})
FALSE_WORDS = frozenset({"false", "f", "no", "n", "0"})

_MANY_ROWS = 1 << 18  # converted at a time where every row has a text of its own
_MANY = 1000  # distinct values, from which converting them all at once is faster

# No quantity of medicine is larger; the square of one that is would no longer be a number.
LARGEST = 1e100

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_INTEGRAL = re.compile(r"(-?\d+)\.0+")


def is_unknown(text: str) -> bool:
    """True for an empty cell and the usual signs of a missing value."""
    return text.strip().casefold() in UNKNOWN


def text_of(value: Any) -> str:
    """One cell as text: stripped, missing as ``""``, an integral float without its ``.0``."""
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, bytes):
        # SAS transport files carry the writer's 8-bit code page; UTF-8 is tried first.
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            value = value.decode("latin-1")
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        number = float(value)
        if np.isnan(number):
            return ""
        return str(int(number)) if number.is_integer() else repr(number)
    text = str(value).strip()
    whole = _INTEGRAL.fullmatch(text)
    return whole.group(1) if whole else text


def by_value(values: pd.Series, convert: Callable[[Any], Any]) -> np.ndarray:
    """``convert`` of every cell, called once a distinct value; an object array as long."""
    codes, converted = by_code(values, convert)
    cells: np.ndarray = converted[codes]
    return cells


def by_code(values: pd.Series, convert: Callable[[Any], Any]) -> tuple[np.ndarray, np.ndarray]:
    """The place of each cell's value among the distinct ones, and ``convert`` of each of these.

    The last is of the missing, whose place is -1.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, distinct = values.cat.codes.to_numpy(), values.cat.categories
    else:
        codes, distinct = pd.factorize(values, use_na_sentinel=True)
    converted = np.empty(len(distinct) + 1, dtype=object)
    texts = None
    if convert is text_of and len(distinct) > _MANY:
        texts = texts_of(pd.Series(distinct))
    if texts is not None:
        converted[:-1] = texts.to_numpy(dtype=object)
    else:
        for place, value in enumerate(distinct):
            converted[place] = convert(value)
    converted[-1] = convert(None)
    return codes, converted


def texts_of(values: pd.Series) -> pd.Series | None:
    """`text_of` of many texts at once (ids); None where not all are texts.

    A part at a time, and the values themselves where nothing changes: a large table's ids would
    take most of the memory twice.
    """
    if values.dtype == object and pd.api.types.infer_dtype(values, skipna=False) != "string":
        return None
    if values.dtype != object and not pd.api.types.is_string_dtype(values):
        return None
    parts = []
    changed = values.dtype == object
    for start in range(0, max(len(values), 1), _MANY_ROWS):
        part = values.iloc[start : start + _MANY_ROWS].astype("str")
        stripped = part.str.strip()
        if part.isna().any() or stripped.str.contains(".0", regex=False).any():
            return None
        is_same = stripped.equals(part)
        changed |= not is_same
        parts.append(part if is_same else stripped)
    if not changed:
        return values
    return parts[0] if len(parts) == 1 else pd.concat(parts)


def as_text(values: pd.Series) -> pd.Series:
    """The column as text on the same index: missing is ``""``, ``001`` stays ``001``."""
    return pd.Series(by_value(values, text_of), index=values.index, dtype=object)


def _number_of(value: Any) -> float | None:
    text = text_of(value)
    if is_unknown(text):
        return float("nan")
    # float() would also take "1_000" and "infinity", and makes infinity of "1e999".
    number = float(text) if _NUMBER.fullmatch(text) else float("inf")
    return None if abs(number) > LARGEST else number


def as_numbers(values: pd.Series) -> tuple[pd.Series, pd.Series]:
    """The column as float64 (unknown is NaN), and a mask of the cells that are not numbers.

    Numbers beyond `LARGEST` are not numbers.
    """
    if pd.api.types.is_numeric_dtype(values):
        is_float = values.dtype == np.float64
        numbers = values.to_numpy() if is_float else values.to_numpy(np.float64, na_value=np.nan)
        bad = np.abs(numbers) > LARGEST
    else:
        codes, converted = by_code(values, _number_of)
        is_bad = np.array([value is None for value in converted], dtype=bool)
        bad = is_bad[codes]
        numbers = np.where(is_bad, np.nan, converted).astype(np.float64)[codes]
    numbers = np.where(bad, np.nan, numbers) if bad.any() else numbers
    index = values.index
    return pd.Series(numbers, index, copy=False), pd.Series(bad, index, copy=False)


def _boolean_of(value: Any) -> bool | str | None:
    text = text_of(value).casefold()
    if is_unknown(text):
        return None
    if text in TRUE_WORDS or text in FALSE_WORDS:
        return text in TRUE_WORDS
    return "?"


def as_booleans(values: pd.Series) -> tuple[pd.Series, pd.Series]:
    """The column as True, False or None (object), and a mask of the cells that are neither."""
    codes, converted = by_code(values, _boolean_of)
    bad = np.array([value == "?" for value in converted], dtype=bool)
    converted[bad] = None
    return (
        pd.Series(converted[codes], index=values.index, dtype=object),
        pd.Series(bad[codes], index=values.index),
    )


# ------------------------------------------------------------------ wording


def rows_text(rows: Iterable[Any], most: int = 12) -> str:
    """``row 7`` or ``rows 3, 7, 12-15 and 40 more``: rows as a spreadsheet numbers them."""
    listed = list(rows)
    if len(listed) == 1:
        return f"row {listed[0]}"
    runs: list[list[Any]] = []
    for row in listed:
        is_next = bool(runs) and not isinstance(row, str) and row == runs[-1][-1] + 1
        runs = [*runs[:-1], [*runs[-1], row]] if is_next else [*runs, [row]]
    parts: list[str] = []
    shown = 0
    for run in runs:
        if len(parts) >= most:
            break
        shown += len(run)
        parts += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(row) for row in run]
    more = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return f"rows {', '.join(parts)}{more}"


def values_text(values: pd.Series, most: int = 20) -> str:
    """Each distinct value with its count, the most frequent first: ``'X' (12), 'Y' (3)``."""
    counts = as_text(values).value_counts()
    # Equal counts are in the order of the values, so that the text does not depend on row order.
    pairs = sorted(((str(v), int(n)) for v, n in counts.items()), key=lambda p: (-p[1], p[0]))
    listed = ", ".join(f"{value!r} ({count})" for value, count in pairs[:most])
    return listed + (f" and {len(pairs) - most} more values" if len(pairs) > most else "")


def add_no_number(problems: Problems, at: str, values: pd.Series, bad: Any) -> None:
    """Report cells that are not numbers, once and with all rows: those that ``bad`` marks."""
    cells = values[bad]
    has_comma = any("," in text and any(map(str.isdigit, text)) for text in as_text(cells).unique())
    problems.add(
        f"not a number: {values_text(cells)}",
        at=f"{at}, {rows_text(cells.index, _MOST_ROWS)}",
        fix="Use one decimal sign in the column, and --decimal to say which."
        if has_comma
        else "Write decimals with a point; leave an unknown value blank.",
    )


_MOST_ROWS = 200  # runs of rows, for what has to be corrected one by one


def quoted(text: str) -> str:
    """A TOML string: its escapes are those of JSON, and it has none for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(text: str) -> str:
    """A TOML key, quoted where it must be."""
    return text if _BARE_KEY.fullmatch(text) else quoted(text)


def map_text(codes: Mapping[str, str]) -> str:
    """``map = { 1 = "male", 2 = "?" }``: a line to paste; ``?`` is refused until it is replaced."""
    pairs = ", ".join(f"{toml_key(code)} = {quoted(word)}" for code, word in codes.items())
    return f"map = {{ {pairs} }}"


_Codes = Literal["id", "text", "sex", "ethnicity", "boolean"]
Kind = _Codes | Literal["number", "age", "length", "mass", "day", "volume", "grams", "percent"]
CODES: frozenset[Kind] = frozenset(get_args(_Codes))

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
ROSTER_COLUMNS = tuple(n for n in PARTICIPANT_COLUMNS if n not in ("trial", "randomised"))

# Factor to the harmonised unit, the first being that unit. Inch, foot and pound are exact by the
# international agreement of 1959; a month is a twelfth of 365.25 days.
UNITS: Mapping[Kind, Mapping[str, float]] = {
    "length": {"cm": 1.0, "m": 100.0, "mm": 0.1, "in": 2.54, "ft": 30.48},
    "mass": {"kg": 1.0, "g": 0.001, "lb": 0.45359237},
    "age": {"years": 1.0, "months": 1 / 12, "weeks": 7 / 365.25, "days": 1 / 365.25},
    "day": {"days": 1.0, "weeks": 7.0, "months": 365.25 / 12, "years": 365.25},
    "volume": {"ml": 1.0, "l": 1000.0},
    "grams": {"g": 1.0, "kg": 1000.0},
    "percent": {"percent": 1.0, "fraction": 100.0},
}
_MEASURE_KINDS: Mapping[str, Kind] = {"_ml": "volume", "_mass_g": "grams", "_percent": "percent"}


def kind_of(name: str) -> Kind:
    """The kind of a harmonised column; any other name is a number (a measure)."""
    if name in COLUMN_KINDS:
        return COLUMN_KINDS[name]
    ends = (kind for end, kind in _MEASURE_KINDS.items() if name.endswith(end))
    return next(ends, "number")


# Adults: heights of the smallest and tallest measured, weights a scanner's table can carry.
ADULT_BOUNDS: Mapping[str, tuple[float, float]] = {
    "height_cm": (100.0, 250.0),
    "weight_kg": (25.0, 350.0),
}
_OLDEST_YEARS = 120.0
_SEX_WORDS = {"m": "male", "male": "male", "f": "female", "female": "female"}
_UNMAPPED = object()
_MOST_CODES = 40
_UNKNOWN_WORDS = frozenset({"unknown", "not known", "not reported", "not stated", "undisclosed"})
# What is understood without a map.
_WORDS: Mapping[Kind, Mapping[str, str | None]] = {
    "sex": {**_SEX_WORDS, **dict.fromkeys(_UNKNOWN_WORDS)},
    "ethnicity": {**{word: word for word in ETHNICITIES}, **dict.fromkeys(_UNKNOWN_WORDS)},
}
# What usual words mean, as a proposal that the user confirms; never applied by itself.
_USUAL_WORDS: Mapping[Kind, Mapping[str, str]] = {
    "sex": by_term(
        {
            "male": "man; men; boy; homme; mann; männlich; h",
            "female": "woman; women; girl; femme; frau; weiblich; w",
        }
    ),
    "ethnicity": by_term(
        {
            "white": "caucasian; european; weiß; weiss; white british; white european; "
            "white other; white irish",
            "black": "african american; black african; black caribbean; african; "
            "afro-caribbean; black british",
            "south-asian": "indian; pakistani; bangladeshi; sri lankan; south asian; asian indian",
            "chinese": "han chinese; han",
            "mixed-other": "mixed; other; mixed/other; multiple",
            "asian-unspecified": "asian; asian or asian british",
        }
    ),
}


def proposed_map(name: str, codes: Iterable[str]) -> dict[str, str]:
    """A map for the codes of a column: usual words have their group, all others ``?``."""
    kind = kind_of(name)
    harmonised = {"sex": SEXES, "ethnicity": ETHNICITIES}.get(kind, ())
    words = {**dict.fromkeys(_UNKNOWN_WORDS, "NA"), **_USUAL_WORDS.get(kind, {})}
    words |= {word: word for word in harmonised} | (_SEX_WORDS if kind == "sex" else {})
    return {code: words.get(" ".join(code.casefold().split()), "?") for code in codes}


def harmonise(
    values: pd.Series, rule: ColumnRule, problems: Problems, *, adults: bool = True
) -> pd.Series:
    """The column by ``rule``: float64 for numbers, else object with None for unknown.

    ``values`` is indexed by the row numbers that ``problems`` name; ``adults``: heights and
    weights that are no adult's are problems. Unknown ids are ``""``.
    """
    kind = kind_of(rule.name)
    if kind not in CODES:
        if rule.map is not None:
            # The map of a numeric column has the codes among the numbers (999 = "NA").
            mapped = by_value(values, lambda v: (rule.map or {}).get(text_of(v), v))
            values = pd.Series(mapped, index=values.index, dtype=object)
        numbers, bad = as_numbers(values)
        if bad.any():
            add_no_number(problems, _column(rule), values, bad)
        if kind in UNITS and rule.unit is not None:
            numbers = numbers * UNITS[kind][rule.unit]
        if adults or rule.name not in ADULT_BOUNDS:
            _check_bounds(numbers, rule, kind, problems)
        return numbers
    if kind == "id":
        return _ids(values, many=rule.name == "participant_id")
    if kind == "boolean" and rule.map is None:
        coded, bad = as_booleans(values)
        _add_unread(problems, values, bad, rule)
        return coded
    return _coded(values, rule, kind, problems)


def _ids(values: pd.Series, *, many: bool) -> pd.Series:
    """Ids as text, unknown as ``""``; those of participants differ from row to row (``many``)."""

    def known(value: Any) -> str:
        text = text_of(value)
        return "" if is_unknown(text) else text

    texts = texts_of(values) if many else None
    if texts is None:
        return pd.Series(by_value(values, known), index=values.index, dtype=object)
    unknown = np.concatenate(
        [
            texts.iloc[start : start + _MANY_ROWS].str.lower().isin(UNKNOWN).to_numpy(dtype=bool)
            for start in range(0, max(len(texts), 1), _MANY_ROWS)
        ]
    )
    return texts.mask(unknown, "") if unknown.any() else texts


def _coded(values: pd.Series, rule: ColumnRule, kind: Kind, problems: Problems) -> pd.Series:
    if kind == "ethnicity" and rule.map is not None:
        for code, group in rule.map.items():
            reason = contradiction(rule.scheme, code, group if group is None else str(group))
            if reason:
                problems.add(
                    reason,
                    at="columns.ethnicity",
                    why="A wrong group would shift the ranges of two groups.",
                    fix='Map it as the scheme says, or to "NA".',
                )

    def convert(value: Any) -> Any:
        text = text_of(value)
        if rule.map is not None and text in rule.map:
            return rule.map[text]
        if is_unknown(text):
            return None
        if rule.map is not None:
            return _UNMAPPED
        if kind == "ethnicity" and rule.scheme is not None:
            group, known = group_of(rule.scheme, text)
            return group if known else _UNMAPPED
        return text if kind == "text" else _WORDS[kind].get(text.casefold(), _UNMAPPED)

    codes, converted = by_code(values, convert)
    unread = np.array([value is _UNMAPPED for value in converted], dtype=bool)
    converted[unread] = None
    _add_unread(problems, values, unread[codes], rule)
    return pd.Series(converted[codes], index=values.index, dtype=object)


_UNDERSTOOD: Mapping[Kind, str] = {
    "sex": "M, F, male or female",
    "ethnicity": f"{', '.join(ETHNICITIES)}, or terms of a scheme",
    "boolean": "true/false, yes/no, Y/N or 1/0",
}


def _add_unread(problems: Problems, values: pd.Series, unread: Any, rule: ColumnRule) -> None:
    cells = values[unread]
    if cells.empty:
        return
    expected = _UNDERSTOOD.get(kind_of(rule.name), "")
    # A new map needs every code of the column, also those understood without one.
    texts = as_text(values if rule.map is None else cells).drop_duplicates().sort_values()
    codes = proposed_map(rule.name, (text for text in texts if not is_unknown(text)))
    pasted = map_text(dict(list(codes.items())[:_MOST_CODES]))
    line = f"{rule.name} = {{ column = {quoted(rule.column)}, {pasted} }}"
    problems.add(
        f"{'the map lacks' if rule.map is not None else 'nothing says what this means:'} "
        f"{values_text(cells)}",
        at=_column(rule),
        why="A code is never guessed.",
        fix=f'Add each to the map of columns.{rule.name} ("NA" is unknown): {pasted}.'
        if rule.map is not None
        else f"{f'Understood without a map: {expected}. ' if expected else ''}"
        f'Say it under [columns], each ? replaced and each word checked ("NA" is unknown): {line}',
    )


def _column(rule: ColumnRule) -> str:
    same = rule.column == rule.name
    return f"column {rule.column!r}" if same else f"column {rule.column!r} ({rule.name})"


def _check_bounds(numbers: pd.Series, rule: ColumnRule, kind: Kind, problems: Problems) -> None:
    low, high = {
        "age_years": (0.0, _OLDEST_YEARS),
        "death_day": (0.0, np.inf),
        "withdrawal_day": (0.0, np.inf),
        **ADULT_BOUNDS,
    }.get(rule.name, (-np.inf, np.inf))
    found = numbers[(numbers < low) | (numbers > high)]
    if found.empty:
        return
    span = f"below {low:g}" if np.isinf(high) else f"outside {low:g} to {high:g}"
    fix, median = "Correct the value, or leave it blank if it is unknown.", float(numbers.median())
    if rule.unit is None and not low <= median <= high:
        for unit, factor in UNITS.get(kind, {}).items():
            if low <= median * factor <= high:
                fix = f'Is the column in {unit}? Then add unit = "{unit}".'
                break
    problems.add(
        f"{rule.name} is {span}: {', '.join(f'{v:g}' for v in found.head(12))}",
        at=f"{_column(rule)}, {rows_text(found.index)}",
        why="It is not an adult's value; a wrong unit would distort every index.",
        fix=fix,
    )
