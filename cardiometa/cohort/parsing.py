"""Cells of foreign tables as text, numbers and booleans, with what could not be read.

A text column is worked on by its distinct values, so that a million rows cost as much as the
codes they hold. "Unknown" is an empty cell or one of the usual signs for it (``NA``, ``.``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from ..errors import Problem

UNKNOWN = frozenset({"", "na", "n/a", "nan", "<na>", ".", "null"})
TRUE_WORDS = frozenset({"true", "t", "yes", "y", "1"})
FALSE_WORDS = frozenset({"false", "f", "no", "n", "0"})

_MANY = 1000  # distinct values, from which converting them all at once is faster

# No quantity of medicine is larger; the square of one that is would no longer be a number.
LARGEST = 1e100

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
    codes, distinct = pd.factorize(values, use_na_sentinel=True)
    converted = np.empty(len(distinct) + 1, dtype=object)
    texts = _texts(distinct) if convert is text_of and len(distinct) > _MANY else None
    if texts is not None:
        converted[:-1] = texts
    else:
        for place, value in enumerate(distinct):
            converted[place] = convert(value)
    converted[-1] = convert(None)
    return converted[codes]


def _texts(distinct: Any) -> np.ndarray | None:
    """`text_of` of many texts at once (ids); None where not all are texts."""
    values = pd.Series(distinct)
    if values.dtype == object and pd.api.types.infer_dtype(values, skipna=False) != "string":
        return None
    if values.dtype != object and not pd.api.types.is_string_dtype(values):
        return None
    stripped = values.astype("str").str.strip()
    if stripped.str.contains(".0", regex=False).any():
        return None
    texts: np.ndarray = stripped.to_numpy(dtype=object)
    return texts


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
    """The column as float64 (unknown is NaN), and a mask of the cells that are no number.

    One beyond `LARGEST` is none.
    """
    if pd.api.types.is_numeric_dtype(values):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        bad = np.abs(numbers) > LARGEST
    else:
        converted = by_value(values, _number_of)
        bad = np.array([value is None for value in converted], dtype=bool)
        numbers = np.where(bad, np.nan, converted).astype(np.float64)
    return (
        pd.Series(np.where(bad, np.nan, numbers), index=values.index),
        pd.Series(bad.astype(bool), index=values.index),
    )


def _boolean_of(value: Any) -> bool | str | None:
    text = text_of(value).casefold()
    if is_unknown(text):
        return None
    if text in TRUE_WORDS or text in FALSE_WORDS:
        return text in TRUE_WORDS
    return "?"


def as_booleans(values: pd.Series) -> tuple[pd.Series, pd.Series]:
    """The column as True, False or None (object), and a mask of the cells that are neither."""
    converted = by_value(values, _boolean_of)
    bad = np.array([value == "?" for value in converted], dtype=bool)
    converted[bad] = None
    return (
        pd.Series(converted, index=values.index, dtype=object),
        pd.Series(bad, index=values.index),
    )


# ------------------------------------------------------------------ wording


def rows_text(rows: Iterable[Any], most: int = 12) -> str:
    """``row 7`` or ``rows 3, 7, 12 and 40 more``: rows as a spreadsheet numbers them."""
    listed = [str(row) for row in rows]
    if len(listed) == 1:
        return f"row {listed[0]}"
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return f"rows {', '.join(listed[:most])}{more}"


def values_text(values: pd.Series, most: int = 20) -> str:
    """Each distinct value with its count, the most frequent first: ``'X' (12), 'Y' (3)``."""
    counts = as_text(values).value_counts()
    # Equal counts stand in the order of the values, so that the text does not hang on row order.
    pairs = sorted(((str(v), int(n)) for v, n in counts.items()), key=lambda p: (-p[1], p[0]))
    listed = ", ".join(f"{value!r} ({count})" for value, count in pairs[:most])
    return listed + (f" and {len(pairs) - most} more values" if len(pairs) > most else "")


def no_number(place: str, values: pd.Series, bad: Any) -> Problem:
    """The problem of cells that are no number: ``bad`` marks them among ``values`` of ``place``."""
    return Problem(
        where=f"{place}, {rows_text(values.index[bad])}",
        what=f"no number: {values_text(values[bad])}",
        fix="Write decimals with a point; leave an unknown value blank.",
    )
