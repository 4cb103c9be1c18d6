"""Columns of the user's table as numbers, truths and texts, or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from ...cohort.recode import (
    as_booleans,
    as_numbers,
    by_code,
    by_value,
    is_unknown,
    text_of,
    texts_of,
    values_text,
)
from ...errors import Problem, TableError

KEY = ["trial", "participant_id"]
_MOST_LISTED = 20
_PART = 1 << 18  # rows whose ids are hashed at a time
_ODD = np.uint64(0x9E3779B97F4A7C15)  # spreads the trials' numbers over the hashes


def text_column(rows: pd.DataFrame, name: str) -> pd.Series[str]:
    """A column as stripped text, unknown as ``""``; a column that is absent is all unknown."""
    if name not in rows.columns:
        return pd.Series("", index=rows.index, dtype=object)
    return pd.Series(by_value(rows[name], text_of), index=rows.index, dtype=object)


def words_column(rows: pd.DataFrame, name: str) -> pd.Series[str]:
    """Like `text_column`, as categories in order: a column of few values takes a byte a row."""
    if name not in rows.columns:
        none = pd.Categorical.from_codes(np.zeros(len(rows), np.int8), pd.Index([""]))
        return pd.Series(none, index=rows.index)
    codes, texts = by_code(rows[name], text_of)
    categories, places = np.unique(texts, return_inverse=True)
    is_coded = isinstance(rows[name].dtype, pd.CategoricalDtype) and codes.min(initial=0) >= 0
    if is_coded and list(rows[name].cat.categories) == list(categories):
        return rows[name]
    coded = pd.Categorical.from_codes(places[codes], pd.Index(categories))
    return pd.Series(coded, index=rows.index)


def id_column(rows: pd.DataFrame) -> pd.Series[str]:
    """The participants' ids as text."""
    texts = texts_of(rows["participant_id"])
    return text_column(rows, "participant_id") if texts is None else texts


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


def numbered(frames: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """All participants, and the frames with the number of each row's as ``person``.

    The participants are sorted by trial and have `KEY` on an index that is their number. The
    frames come back on a new index, their ``trial`` as categories.
    """
    keys = [
        pd.DataFrame(
            {"trial": words_column(one, "trial"), "participant_id": id_column(one)}, copy=False
        )
        for one in frames
    ]
    every = stacked(keys)
    codes = every["trial"].cat.codes.to_numpy()
    hashes = np.empty(len(every), dtype=np.uint64)
    for start in range(0, len(every), _PART):
        at = slice(start, start + _PART)
        texts = every["participant_id"].iloc[at].to_numpy(dtype=object)
        hashes[at] = pd.util.hash_array(texts, categorize=False)
    hashes += codes.astype(np.uint64) * _ODD
    one_row_each = not len(repeated(hashes))
    if one_row_each and (codes[1:] >= codes[:-1]).all():
        people, person = every, np.arange(len(every))
    else:
        number: np.ndarray = np.arange(len(every))
        if not one_row_each:  # by first appearance
            number = every.groupby(KEY, sort=False, observed=True).ngroup().to_numpy()
        first = np.flatnonzero(~pd.Series(number).duplicated().to_numpy())
        order = np.argsort(codes[first], kind="stable")
        person = np.argsort(order)[number]
        people = every.iloc[first[order]].reset_index(drop=True)
    ends = np.cumsum([len(one) for one in frames])[:-1]
    given = zip(frames, keys, np.split(person, ends), strict=True)
    return people, [
        one.reset_index(drop=True).assign(**{name: key[name].array for name in KEY}, person=numbers)
        for one, key, numbers in given
    ]


def repeated(hashes: np.ndarray) -> np.ndarray:
    """The numbers that are there more than once: only their rows can be equal."""
    ordered = np.sort(hashes)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def by_trial(rows: pd.DataFrame) -> None:
    """Sort the rows of a table by trial in place, their words as categories.

    Column by column, so that a large table is not in memory twice; the rows lose their labels.
    """
    for name in ("trial", "arm", "visit", "status"):
        if name in rows:
            rows[name] = words_column(rows, name)
    rows.index = pd.RangeIndex(len(rows))
    codes = rows["trial"].cat.codes.to_numpy()
    if (codes[1:] < codes[:-1]).any():
        order = np.argsort(codes, kind="stable")
        for name in rows.columns:
            rows[name] = rows[name].array.take(order)


def stacked(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all parts on a new index; categories stay categories."""
    parts = [part for part in parts if len(part)] or parts[:1]
    if len(parts) == 1:
        return parts[0].reset_index(drop=True)
    joined = pd.concat(parts, ignore_index=True)
    for name in joined.columns:
        columns = [part[name] for part in parts]
        if all(isinstance(column.dtype, pd.CategoricalDtype) for column in columns):
            joined[name] = union_categoricals(columns, sort_categories=True)
    return joined


def participant_values(
    sources: Sequence[pd.DataFrame],
    name: str,
    read: Callable[[pd.DataFrame, str], pd.Series],
) -> pd.DataFrame:
    """The distinct known values of each participant: ``person, value``."""
    parts = [
        pd.DataFrame({"person": source["person"], "value": read(source, name)}, copy=False)
        for source in sources
        if name in source
    ]
    if not parts:
        return pd.DataFrame({"person": np.empty(0, np.int64), "value": np.empty(0)})
    found = stacked(parts)
    known = found["value"].notna()
    if not pd.api.types.is_numeric_dtype(found["value"]):
        known &= found["value"].ne("")
    found = found if known.all() else found[known]
    return found[~found.duplicated()] if len(repeated_people(found)) else found


def merged(people: pd.DataFrame, values: pd.DataFrame, name: str = "value") -> pd.Series:
    """The value of each participant, one row of ``values`` each; NaN unknown."""
    person = values["person"].to_numpy()
    if len(person) == len(people) and (person == np.arange(len(people))).all():
        return pd.Series(values[name].array, index=people.index, copy=False)
    places = np.full(len(people), -1)
    places[person] = np.arange(len(person))
    found = values[name].reset_index(drop=True).reindex(places)
    found.index = people.index
    return found


def repeated_people(rows: pd.DataFrame) -> np.ndarray:
    """The participants (``person``) of several rows."""
    return np.flatnonzero(np.bincount(rows["person"]) > 1)


def refuse_changes(
    people: pd.DataFrame, found: pd.DataFrame, message: str, hint: str, what: str = "values"
) -> None:
    """TableError where a participant has several rows in ``found``, with their number by trial."""
    several = repeated_people(found)
    if len(several):
        raise TableError(
            message,
            hint=hint,
            problems=problems_by_trial(people.loc[several], f"with several {what}"),
        )


def problems_by_trial(people: pd.DataFrame, what: str, why: str = "") -> list[Problem]:
    """How many participants there are of each trial: one row each."""
    counts = people.groupby("trial", observed=True).size()
    return [
        Problem(
            where=f"trial {trial}",
            what=f"{count} participant{'s' * (count > 1)} {what}",
            why=why,
        )
        for trial, count in counts.items()
    ][:_MOST_LISTED]


def each_trial(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each trial, in order of name; parts of the frame itself where it is sorted."""
    codes = frame["trial"].cat.codes.to_numpy()
    if (codes[1:] < codes[:-1]).any():
        order = np.argsort(codes, kind="stable")
        frame, codes = frame.iloc[order], codes[order]
    ends = [*np.flatnonzero(codes[1:] != codes[:-1]) + 1, len(codes)] if len(codes) else []
    for start, end in pairwise([0, *ends]):
        yield str(frame["trial"].iloc[start]), frame.iloc[start:end]


def present(words: pd.Series[str]) -> list[str]:
    """The values of a column of words, in order, without the unknown."""
    return sorted(set(map(str, words.unique())) - {""})
