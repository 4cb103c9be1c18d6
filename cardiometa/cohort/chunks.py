"""A table too large for memory, part by part: the same cells as `read_any_table` gives, checked.

Only plain tables are read so: UTF-8 text with rows of equal width, or Parquet.
Anything else raises `NotPlainError`, and the caller reads the table whole, with its messages.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import Problem
from .parsing import as_numbers, no_number
from .read_table import _MISSING_NUMBERS, _check_header, _delimiter

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
_BLOCK = 24_000_000  # bytes of text, some million cells
_LONGEST_RECORD = 4 * _BLOCK
_ROWS = 500_000  # of Parquet
_SHOWN = 20


class NotPlainError(Exception):
    """The table must be read whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns are wanted, and as what: few different texts, any text, or numbers."""

    categories: Sequence[str]
    texts: Sequence[str]
    numbers: Sequence[str]

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that is read."""
        return (*self.categories, *self.texts, *self.numbers)


def header_of(path: Path) -> tuple[str, ...]:
    """The column names; `NotPlainError` where the file is of no kind that is read in parts."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return tuple(map(str, _parquet(path).schema_arrow.names))
    if suffix not in TEXT_SUFFIXES:
        raise NotPlainError
    with path.open("rb") as stream:
        line = stream.readline(1 << 20)
    names, _ = _header(line, suffix)
    _check_header(list(names), path.name)
    return names


def rows_of(path: Path) -> int:
    """How many rows the file has; of text about how many, by the length of its first lines."""
    if path.suffix.lower() == ".parquet":
        return int(_parquet(path).metadata.num_rows)
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(1 << 18)
    return size * (1 + start.count(b"\n")) // max(len(start), 1)


def _header(line: bytes, suffix: str) -> tuple[tuple[str, ...], str]:
    line = line.removeprefix(b"\xef\xbb\xbf")
    if b"\x00" in line or line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise NotPlainError
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise NotPlainError from error
    delimiter = _delimiter(text, suffix)
    if text.count('"') % 2:  # a name over two lines
        raise NotPlainError
    try:
        names = next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error as error:
        raise NotPlainError from error
    return tuple(name.strip() for name in names), delimiter


def read_chunks(path: Path, columns: Columns, problems: list[Problem]) -> Iterator[pd.DataFrame]:
    """The wanted columns of the table in parts, indexed by the row numbers people see.

    Numbers are float64; cells that are no number are added to ``problems`` and are NaN.
    """
    if path.suffix.lower() == ".parquet":
        yield from _parquet_chunks(path, columns, problems)
    else:
        yield from _text_chunks(path, columns, problems)


# ------------------------------------------------------------------ text


def _text_chunks(path: Path, columns: Columns, problems: list[Problem]) -> Iterator[pd.DataFrame]:
    with path.open("rb") as stream:
        names, delimiter = _header(stream.readline(1 << 20), path.suffix.lower())
        row = 2
        rest = b""
        while True:
            block = stream.read(_BLOCK)
            data = rest + block
            if not data:
                return
            cut = _last_end(data) if block else len(data)
            # Empty lines at the end are no records; before others they are the next part's fault.
            last = len(data[:cut].rstrip(b"\r\n"))
            cut = last + 1 + data.startswith(b"\r\n", last) if last else 0
            data, rest = data[:cut], data[cut:]
            if not (data or block):
                return
            if len(rest) > _LONGEST_RECORD:
                raise NotPlainError
            if not data:
                continue
            data = _plain(data, delimiter, len(names))
            chunk = _parsed(data, delimiter, names, columns, (path.name, row, problems))
            row += len(chunk)
            yield chunk
            if not block:
                return


def _last_end(data: bytes) -> int:
    """Where the last whole record ends: a line end that is not between quotes."""
    cut = data.rfind(b"\n") + 1
    while cut and data.count(b'"', 0, cut) % 2:
        cut = data.rfind(b"\n", 0, cut - 1) + 1
    return cut


def _plain(data: bytes, delimiter: str, width: int) -> bytes:
    """The block with LF line ends, every record of ``width`` cells; else `NotPlainError`."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    if b"\x00" in data or b"\r" in data or width == 1:
        raise NotPlainError
    if not data.endswith(b"\n"):
        data += b"\n"
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise NotPlainError from error
    signs = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(signs == ord("\n"))
    marks = np.flatnonzero(signs == ord(delimiter))
    if b'"' in data:
        quotes = np.flatnonzero(signs == ord('"'))
        _check_quotes(signs, quotes, delimiter)
        ends, marks = (at[np.searchsorted(quotes, at) % 2 == 0] for at in (ends, marks))
    if len(marks) != len(ends) * (width - 1):
        raise NotPlainError
    by_line = marks.reshape(len(ends), width - 1)
    starts = np.concatenate([[-1], ends[:-1]])
    if not ((by_line[:, 0] > starts) & (by_line[:, -1] < ends)).all():
        raise NotPlainError
    return data


def _check_quotes(signs: np.ndarray, quotes: np.ndarray, delimiter: str) -> None:
    """Quotes must open at a cell's start and close at its end, or stand doubled."""
    if len(quotes) % 2:
        raise NotPlainError
    edges = (ord(delimiter), ord("\n"), ord('"'))
    opening, closing = quotes[::2], quotes[1::2]
    before = signs[opening[opening > 0] - 1]
    after = signs[closing + 1]  # the block ends in a line end
    if not (np.isin(before, edges).all() and np.isin(after, edges).all()):
        raise NotPlainError


def _parsed(
    data: bytes,
    delimiter: str,
    names: Sequence[str],
    columns: Columns,
    place: tuple[str, int, list[Problem]],
) -> pd.DataFrame:
    file, row, problems = place
    options: dict[str, Any] = {
        "sep": delimiter,
        "header": None,
        "names": list(names),
        "usecols": list(columns.all),
        "index_col": False,
        "skip_blank_lines": False,
        "keep_default_na": False,
        "low_memory": False,
    }
    # pandas would make numbers of categories such as 001: they are made of texts afterwards.
    kinds: dict[str, Any] = dict.fromkeys((*columns.texts, *columns.categories), str)
    fast = {
        **options,
        "dtype": kinds | dict.fromkeys(columns.numbers, float),
        "na_values": dict.fromkeys(columns.numbers, _MISSING_NUMBERS),
    }
    if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):
        fast["float_precision"] = "round_trip"
    try:
        table: pd.DataFrame = pd.read_csv(io.BytesIO(data), **fast)
    except ValueError:
        kinds |= dict.fromkeys(columns.numbers, str)
        table = pd.read_csv(io.BytesIO(data), **options, dtype=kinds, na_filter=False)
    table.index = pd.RangeIndex(row, row + len(table))
    for name in columns.categories:
        table[name] = table[name].astype("category")
    return _with_numbers(table, columns, file, problems)


def _with_numbers(
    table: pd.DataFrame, columns: Columns, file: str, problems: list[Problem]
) -> pd.DataFrame:
    for name in columns.numbers:
        numbers, bad = as_numbers(table[name])
        if bad.any() and len(problems) < _SHOWN:
            problems.append(no_number(f"{file}, column {name!r}", table[name], bad))
        table[name] = numbers
    return table


# ------------------------------------------------------------------ Parquet


def _parquet(path: Path, dictionaries: Sequence[str] = ()) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise NotPlainError from error
    try:
        return parquet.ParquetFile(path, read_dictionary=list(dictionaries))
    except (ArrowException, OSError) as error:
        raise NotPlainError from error


def _parquet_chunks(
    path: Path, columns: Columns, problems: list[Problem]
) -> Iterator[pd.DataFrame]:
    row = 1
    file = _parquet(path, columns.categories)
    for batch in file.iter_batches(batch_size=_ROWS, columns=list(columns.all)):
        table: pd.DataFrame = batch.to_pandas(ignore_metadata=True)
        table.columns = pd.Index([str(name) for name in table.columns])
        table.index = pd.RangeIndex(row, row + len(table))
        row += len(table)
        for name in columns.categories:
            if not isinstance(table[name].dtype, pd.CategoricalDtype):
                table[name] = table[name].astype("category")
        yield _with_numbers(table, columns, path.name, problems)
