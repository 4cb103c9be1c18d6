"""Columns of the user's table as numbers, truths and texts, or a clear refusal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ...cohort.parsing import as_booleans, as_numbers, by_value, is_unknown, text_of, values_text
from ...errors import Problem, TableError
from ..options import ALIASES


def text_column(rows: pd.DataFrame, name: str) -> pd.Series[str]:
    """A column as stripped text, unknown as ``""``; a column that is absent is all unknown."""
    if name not in rows.columns:
        return pd.Series("", index=rows.index, dtype=object)
    return pd.Series(by_value(rows[name], text_of), index=rows.index, dtype=object)


def _is_blank(text: pd.Series[str]) -> pd.Series[bool]:
    return pd.Series(by_value(text, lambda item: is_unknown(text_of(item))), index=text.index).eq(
        True
    )


def known_text(rows: pd.DataFrame, name: str) -> pd.Series[str]:
    """Like `text_column`, the usual signs of a missing value (``NA``, ``.``) too being ``""``."""
    text = text_column(rows, name)
    return text.mask(_is_blank(text), "")


def number_column(rows: pd.DataFrame, name: str) -> pd.Series[float]:
    """A column that must be of finite numbers; TableError names the cells that are not."""
    numbers, wrong = as_numbers(rows[name])
    if wrong.any():
        counts = text_column(rows, name)[wrong].value_counts().head(20)
        raise TableError(
            f"The column {name} must be numbers.",
            problems=[
                Problem(
                    where=f"column {name}",
                    what=f"{value!r} in {count} row{'s' if count > 1 else ''}",
                    why="It is not a finite number.",
                    fix="Leave the cell empty where the value is unknown.",
                )
                for value, count in counts.items()
            ],
        )
    return numbers


def truth_column(rows: pd.DataFrame, name: str) -> pd.Series[bool]:
    """A column of true and false as True, False, None (unknown); TableError on other values."""
    if name not in rows.columns:
        return pd.Series(None, index=rows.index, dtype=object)
    truths, wrong = as_booleans(rows[name])
    if wrong.any():
        raise TableError(
            f"The column {name} must be true or false.",
            hint=f"It holds {values_text(rows.loc[wrong, name])}.",
        )
    return truths.astype(object).where(truths.notna(), None)


def require_columns(rows: pd.DataFrame, names: Sequence[str], option: str) -> None:
    """TableError that lists the table's columns where one of ``names`` is not among them."""
    missing = [name for name in names if name not in rows.columns]
    if missing:
        present = ", ".join(map(str, rows.columns[:60]))
        raise TableError(
            f"The table has no column {', '.join(missing)} ({option}).",
            hint=f"It has: {present}.",
        )


def harmonised_name(name: str) -> str:
    """The column that a short covariate name stands for (``age``: ``age_years``)."""
    return ALIASES.get(name, name)
