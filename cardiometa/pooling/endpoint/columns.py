"""Columns of the user's table as numbers, truths and texts, or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from ...cohort.recode import as_booleans, as_numbers, by_value, is_unknown, text_of, values_text
from ...errors import Problem, TableError

KEY = ["trial", "participant_id"]
_MOST_LISTED = 20


def text_column(rows: pd.DataFrame, name: str) -> pd.Series[str]:
    """A column as stripped text, unknown as ``""``; a column that is absent is all unknown."""
    if name not in rows.columns:
        return pd.Series("", index=rows.index, dtype=object)
    return pd.Series(by_value(rows[name], text_of), index=rows.index, dtype=object)


def known_text(rows: pd.DataFrame, name: str) -> pd.Series[str]:
    """Like `text_column`, the usual signs of a missing value (``NA``, ``.``) too being ``""``."""
    text = text_column(rows, name)
    blank = pd.Series(by_value(text, lambda item: is_unknown(text_of(item))), index=text.index)
    return text.mask(blank.eq(True), "")


def number_column(rows: pd.DataFrame, name: str) -> pd.Series[float]:
    """A column that must be of finite numbers; TableError names the cells that are not."""
    numbers, wrong = as_numbers(rows[name])
    if wrong.any():
        counts = text_column(rows, name)[wrong].value_counts().head(_MOST_LISTED)
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
            hint=f"It contains {values_text(rows.loc[wrong, name])}.",
        )
    return truths.astype(object).where(truths.notna(), None)


def covariate_numbers(text: pd.Series[str]) -> pd.Series[float] | None:
    """A covariate that enters linearly; None where it has words and enters as categories."""
    numbers, wrong = as_numbers(text)
    return None if wrong.any() else numbers


def require_columns(rows: pd.DataFrame, names: Sequence[str], option: str) -> None:
    """TableError that lists the table's columns where one of ``names`` is not among them."""
    missing = [name for name in names if name not in rows.columns]
    if missing:
        present = ", ".join(map(str, rows.columns[:60]))
        raise TableError(
            f"The table has no column {', '.join(missing)} ({option}).",
            hint=f"It has: {present}.",
        )


# ------------------------------------------------------------------ one value per participant


def participant_values(
    sources: Sequence[pd.DataFrame | None],
    name: str,
    read: Callable[[pd.DataFrame, str], pd.Series],
) -> pd.DataFrame:
    """The distinct known values of each participant: ``trial, participant_id, value``."""
    parts = []
    for source in sources:
        if source is not None and name in source:
            keys = {column: text_column(source, column) for column in KEY}
            parts.append(pd.DataFrame({**keys, "value": read(source, name)}))
    if not parts:
        return pd.DataFrame(columns=[*KEY, "value"])
    found = pd.concat(parts, ignore_index=True)
    known = found["value"].notna() & found["value"].astype(object).ne("")
    return found[known].drop_duplicates().reset_index(drop=True)


def merged(people: pd.DataFrame, values: pd.DataFrame, name: str = "value") -> pd.Series:
    """The value of each participant, one row of ``values`` each; NaN unknown."""
    found = people[KEY].merge(values[[*KEY, name]], on=KEY, how="left")[name]
    found.index = people.index
    return found


def refuse_changes(found: pd.DataFrame, message: str, hint: str, what: str = "values") -> None:
    """TableError where a participant has several rows in ``found``, with their number by trial."""
    several = found[found.duplicated(KEY)].drop_duplicates(KEY)
    if len(several):
        raise TableError(
            message, hint=hint, problems=problems_by_trial(several, f"with several {what}")
        )


def problems_by_trial(rows: pd.DataFrame, what: str, why: str = "") -> list[Problem]:
    """How many participants of each trial are among ``rows``."""
    counts = rows.groupby("trial")["participant_id"].nunique()
    return [
        Problem(
            where=f"trial {trial}",
            what=f"{count} participant{'s' * (count > 1)} {what}",
            why=why,
        )
        for trial, count in counts.items()
    ][:_MOST_LISTED]
