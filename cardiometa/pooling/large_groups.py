"""Everyone of a large table in one pass: counts and sums of groups of people, no row kept.

People of one trial, arm and set of categories, with the same numbers missing, are one group; its
count, means and centred cross-products are all that the Gaussian models and the accounting need.
Groups of several parts of the table merge exactly (Chan, Golub & LeVeque 1979).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..cohort.analysis_table import unescaped
from ..cohort.cells import UNKNOWN, by_value, rows_text, text_of
from ..cohort.chunks import Columns, NotPlainError, read_chunks
from ..cohort.coding import harmonise
from ..cohort.records import ColumnRule
from ..errors import Problem, TableError

_MIX = np.uint64(0x9E3779B97F4A7C15)
_LONGEST_UNKNOWN = max(map(len, UNKNOWN))


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeColumns:
    """Which columns of the file are what.

    ``categories`` and ``numbers`` by harmonised name; the first categories are ``trial``, ``arm``
    and (where the table has it) ``randomised``, the first number is the outcome, the second the
    baseline where there is one. ``hints`` are sentences about columns under other names.
    """

    path: Path
    participant: ColumnRule
    categories: Mapping[str, ColumnRule]
    numbers: Mapping[str, ColumnRule]
    hints: tuple[str, ...] = ()

    @property
    def wanted(self) -> Columns:
        """The columns of the file to read."""
        return Columns(
            categories=[rule.column for rule in self.categories.values()],
            texts=[self.participant.column],
            numbers=[rule.column for rule in self.numbers.values()],
        )


@dataclass(slots=True, kw_only=True)
class Groups:
    """Groups as they are met: ``keys`` (category values, then which numbers are missing) to sums.

    ``n`` ``[K]``, ``means`` ``[K, p]`` and ``products`` ``[K, p, p]``, zero where missing;
    ``books`` number the values of each category.
    """

    columns: LargeColumns
    books: list[dict[object, int]]
    keys: dict[tuple[int, ...], int] = field(default_factory=dict)
    n: np.ndarray = field(default_factory=lambda: np.zeros(0))
    means: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    products: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0)))

    def table(self) -> pd.DataFrame:
        """One row a group: its categories, ``n``, and whether each number is ``missing``."""
        values = [list(book) for book in self.books]
        names = list(self.columns.categories)
        rows = [
            [values[place][code] for place, code in enumerate(key[: len(names)])]
            + [bool(code) for code in key[len(names) :]]
            for key in self.keys
        ]
        missing = [f"missing {name}" for name in self.columns.numbers]
        found = pd.DataFrame(rows, columns=pd.Index([*names, *missing]), dtype=object)
        return found.assign(n=self.n.astype(int))


def read_groups(
    columns: LargeColumns, suspicious: Callable[[pd.DataFrame], pd.Series]
) -> tuple[Groups, dict[int, list[str]]]:
    """All groups, and the ids of those in groups that `suspicious` picks from ``Groups.table()``.

    Raises TableError for cells that cannot be understood, and for a person with several rows.
    """
    groups = Groups(columns=columns, books=[{} for _ in columns.categories])
    held: dict[int, list[str]] = {}
    hashes: list[np.ndarray] = []
    problems: list[Problem] = []
    doubtful = np.zeros(0, dtype=bool)
    for part in _parts(groups, problems):
        _add(groups, part)
        hashes.append(part.hashes)
        if len(groups.keys) > len(doubtful):
            doubtful = suspicious(groups.table()).to_numpy(dtype=bool)
        picked = doubtful[part.group]
        if picked.any():
            _hold(held, part, picked)
    if problems:
        raise TableError(
            f"{columns.path.name} cannot be used: {len(problems)} "
            f"problem{'s' * (len(problems) > 1)}.",
            problems=problems,
        )
    _refuse_repeated(groups, hashes)
    return groups, held


def ids_of(groups: Groups, wanted: np.ndarray) -> dict[int, list[str]]:
    """The ids of the groups where ``wanted`` ``[K]``, by another pass over the table."""
    held: dict[int, list[str]] = {}
    for part in _parts(groups, []):
        picked = wanted[part.group]
        if picked.any():
            _hold(held, part, picked)
    return held


# ------------------------------------------------------------------ one part of the table


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    group: np.ndarray  # of each row, among all groups
    ids: pd.Series
    hashes: np.ndarray
    numbers: np.ndarray  # [n, p]


def _parts(groups: Groups, problems: list[Problem]) -> Iterator[_Part]:
    columns = groups.columns
    for chunk in read_chunks(columns.path, columns.wanted, problems):
        codes = [
            _codes(chunk[rule.column], rule, book, (columns.path.name, problems))
            for rule, book in zip(columns.categories.values(), groups.books, strict=True)
        ]
        numbers = np.column_stack(
            [
                _numbers(chunk[rule.column], rule, (columns.path.name, problems))
                for rule in columns.numbers.values()
            ]
        )
        ids = _ids(chunk[columns.participant.column])
        _check_keys(ids, codes[0], groups.books[0], (columns.path.name, problems))
        missing = np.isnan(numbers)
        group = _group_of(groups, [*codes, *missing.T.astype(np.int64)])
        hashes = pd.util.hash_array(ids.array, categorize=False)
        hashes = (hashes ^ (codes[0].astype(np.uint64) * _MIX)) * _MIX
        yield _Part(group=group, ids=ids, hashes=hashes, numbers=numbers)


def _codes(
    cells: pd.Series,
    rule: ColumnRule,
    book: dict[object, int],
    place: tuple[str, list[Problem]],
) -> np.ndarray:
    """The number of each cell's value, harmonised; new values are entered in the book."""
    distinct = pd.Series(cells.cat.categories, dtype=object)
    values, wrong = harmonise(unescaped(distinct), rule, place[0], adults=False)
    if wrong:  # once more over all rows, so that the message counts them
        place[1].extend(harmonise(unescaped(cells.astype(object)), rule, *place[:1])[1])
    known: list[object] = [
        value
        if isinstance(value, bool) or (value is None and rule.name == "randomised")
        else text_of(value)
        for value in values
    ]
    known.append(None if rule.name == "randomised" else "")
    numbers = np.array([book.setdefault(value, len(book)) for value in known], dtype=np.int64)
    found: np.ndarray = numbers[cells.cat.codes.to_numpy()]  # -1: the last, unknown
    return found


def _numbers(cells: pd.Series, rule: ColumnRule, place: tuple[str, list[Problem]]) -> np.ndarray:
    if rule.map is not None:
        raise NotPlainError
    values, wrong = harmonise(cells, rule, place[0], adults=False)
    place[1].extend(wrong)
    return values.to_numpy(dtype=float)


def _ids(cells: pd.Series) -> pd.Series:
    """Ids as text, as the table read whole has them: stripped, unknown ``""``."""
    if pd.api.types.is_integer_dtype(cells) and cells.notna().all():
        return cells.astype("str")
    if pd.api.types.is_numeric_dtype(cells) or cells.dtype == object:
        text = pd.Series(by_value(unescaped(cells), text_of), index=cells.index).astype("str")
    else:
        text = cells.str.strip().fillna("")
        if text.str.startswith("'").any():
            text = unescaped(text)
        if text.str.contains(".0", regex=False).any():
            text = pd.Series(by_value(text, text_of), index=cells.index).astype("str")
    short = text.str.len() <= _LONGEST_UNKNOWN
    if short.any():
        unknown = short & text.str.lower().isin(list(UNKNOWN))
        text = text.mask(unknown, "")
    return text


def _check_keys(
    ids: pd.Series, trial: np.ndarray, book: Mapping[object, int], place: tuple[str, list[Problem]]
) -> None:
    blank_id = ids.eq("").to_numpy()
    blank_trial = trial == book.get("", -1)
    if (blank_id & blank_trial).any():  # perhaps an empty row of a spreadsheet
        raise NotPlainError
    for name, blank in (("trial", blank_trial), ("participant_id", blank_id)):
        if blank.any() and len(place[1]) < 20:
            place[1].append(
                Problem(
                    where=f"{place[0]}, {rows_text(ids.index[blank])}",
                    what=f"there is no {name}",
                    fix="Fill it in, or remove the rows.",
                )
            )


def _group_of(groups: Groups, codes: Sequence[np.ndarray]) -> np.ndarray:
    """The group of each row; new ones are entered."""
    sizes = [int(code.max(initial=0)) + 1 for code in codes]
    combined = np.zeros(len(codes[0]), dtype=np.int64)
    for code, size in zip(codes, sizes, strict=True):
        combined = combined * size + code
    local, distinct = pd.factorize(combined)
    numbers = np.zeros(len(distinct), dtype=np.int64)
    for place, value in enumerate(distinct):
        key: list[int] = []
        rest = int(value)
        for size in reversed(sizes):
            rest, digit = divmod(rest, size)
            key.append(digit)
        numbers[place] = groups.keys.setdefault(tuple(reversed(key)), len(groups.keys))
    found: np.ndarray = numbers[local]
    return found


def _add(groups: Groups, part: _Part) -> None:
    """Merge a part's sums into those of the groups."""
    size, p = len(groups.keys), part.numbers.shape[1]
    if len(groups.n) < size:
        more = size - len(groups.n)
        groups.n = np.concatenate([groups.n, np.zeros(more)])
        groups.means = np.concatenate([groups.means.reshape(-1, p), np.zeros((more, p))])
        groups.products = np.concatenate(
            [groups.products.reshape(-1, p, p), np.zeros((more, p, p))]
        )
    local, met = pd.factorize(part.group)
    count = np.bincount(local, minlength=len(met)).astype(float)

    def mean(values: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.bincount(local, values, len(met)) / count
        return found

    means, centred = np.zeros((len(met), p)), []
    for j in range(p):
        values = np.nan_to_num(part.numbers[:, j], nan=0.0)
        means[:, j] = mean(values)
        left = values - means[local, j]
        rest = mean(left)  # what rounding left of the mean
        means[:, j] += rest
        centred.append(left - rest[local])
    products = np.zeros((len(met), p, p))
    for i in range(p):
        for j in range(i + 1):
            products[:, i, j] = np.bincount(local, centred[i] * centred[j], len(met))
            products[:, j, i] = products[:, i, j]
    before, total = groups.n[met], groups.n[met] + count
    step = means - groups.means[met]
    groups.products[met] += products + (before * count / total)[:, None, None] * (
        step[:, :, None] * step[:, None, :]
    )
    groups.means[met] += step * (count / total)[:, None]
    groups.n[met] = total


def _hold(held: dict[int, list[str]], part: _Part, picked: np.ndarray) -> None:
    ids, of = part.ids[picked].to_numpy(dtype=object), part.group[picked]
    for group in np.unique(of):
        held.setdefault(int(group), []).extend(ids[of == group])


def _refuse_repeated(groups: Groups, hashes: list[np.ndarray]) -> None:
    """TableError where a person of a trial has several rows; equal hashes are looked up."""
    every = np.concatenate(hashes)
    hashes.clear()
    every.sort()
    twice = np.unique(every[1:][every[1:] == every[:-1]])
    if not len(twice):
        return
    trials = list(groups.books[0])
    where = list(groups.keys)
    met: dict[tuple[str, str], int] = {}
    for part in _parts(groups, []):
        picked = np.isin(part.hashes, twice)
        for person, group in zip(part.ids[picked], part.group[picked], strict=True):
            key = (str(trials[where[group][0]]), str(person))
            met[key] = met.get(key, 0) + 1
    people: dict[str, int] = {}
    for (trial, _), count in met.items():
        if count > 1:
            people[trial] = people.get(trial, 0) + 1
    if people:
        raise TableError(
            "Participants have several rows at the table's one row a participant.",
            hint="One row a participant and visit is needed: remove the repeats, or tell visits "
            "apart with --visit, --followup-visit or --followup-day.",
            problems=[
                Problem(
                    where=f"trial {trial}",
                    what=f"{count} participant{'s' if count > 1 else ''} with more than one row",
                    why="It cannot be known which row is the right one.",
                )
                for trial, count in people.items()
            ],
        )
