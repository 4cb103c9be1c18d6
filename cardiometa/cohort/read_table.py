"""Read a table of any kind a trial sends: CSV, TSV, Parquet, SAS, Stata.

Cells of text files stay text (an id ``001`` stays ``001``). The index of the result is the row
number a user sees: in text files the header is row 1 and the first record row 2; in the other
formats the first record is row 1.
"""

from __future__ import annotations

import csv
import io
import stat
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import Problem, TableError
from .recode import as_text, rows_text

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".parquet", ".sas7bdat", ".xpt", ".dta")
_DELIMITERS = (",", "\t", ";", "|")
_MISSING_NUMBERS = ["", "NA", "N/A", "NaN", "nan", "<NA>", ".", "null", "NULL"]


def read_any_table(path: Path, *, numeric: Callable[[str], bool] = lambda _: False) -> pd.DataFrame:
    """The table at ``path``, indexed by row number; TableError where it cannot be read.

    ``numeric`` tells the columns expected to be numbers: where every cell of all of them is one
    they come as float64 (much faster for a large table), otherwise as text like the rest.
    """
    size = _size(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise TableError(
            f"{path.name} is of no kind of table that is read here.",
            hint=f"Known are {', '.join(SUFFIXES)}.",
        )
    if size == 0:
        raise TableError(f"{path.name} is empty.")
    if suffix in (".csv", ".tsv", ".tab", ".txt"):
        return _read_text(path, numeric)
    table = _read_binary(path, suffix)
    _check_header([str(name) for name in table.columns], path.name)
    table.columns = pd.Index([str(name) for name in table.columns])
    table.index = pd.RangeIndex(1, len(table) + 1)
    return table


def is_there(path: Path) -> bool:
    """True where a path leads to something; False also for one that no system can have."""
    try:
        return path.exists()
    except OSError:
        return False


def _size(path: Path) -> int:
    """Bytes of the file; TableError where it is none that can be opened."""
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise TableError(
            f"There is no file {path.name}.", hint="Check the path and where it starts."
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such name can be"
        raise TableError(f"{path.name[:80]!r} cannot be opened ({reason}).") from error
    if stat.S_ISDIR(facts.st_mode):
        raise TableError(f"{path.name} is a folder, not a table.")
    if not stat.S_ISREG(facts.st_mode):
        raise TableError(
            f"{path.name} is not a regular file.", hint="Save the table as a file first."
        )
    return facts.st_size


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TableError(
            f"{path.name} cannot be opened ({error.strerror or type(error).__name__}).",
            hint="Ask for the right to read it.",
        ) from error


# ------------------------------------------------------------------ text


def _read_text(path: Path, numeric: Callable[[str], bool]) -> pd.DataFrame:
    data = _utf8(_bytes(path), path.name)
    first_line = data.partition(b"\n")[0].decode("utf-8")
    delimiter = _delimiter(first_line, path.suffix.lower())
    header = _header(data, delimiter, path.name)
    _check_header(header, path.name)
    _check_widths(data, delimiter, len(header), path.name)
    try:
        table = _parse(data, delimiter, header, [name for name in header if numeric(name)])
    except ValueError as error:  # of pandas: its parser and csv differ on quotes left open
        raise TableError(
            f"{path.name} cannot be read as a table.",
            hint="A double quote may be left open in it.",
        ) from error
    table.index = pd.RangeIndex(2, len(table) + 2)
    # Spreadsheets leave rows of empty cells at the end; they are no records.
    blank = np.logical_and.reduce(
        [
            (values.isna() if values.dtype == np.float64 else values.str.strip().eq("")).to_numpy()
            for _, values in table.items()
        ]
    )
    kept: pd.DataFrame = table.loc[~blank]
    return kept


def _utf8(data: bytes, name: str) -> bytes:
    """The file as UTF-8 with LF line ends and no byte-order mark."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            data = data.decode("utf-16").encode("utf-8")
        except UnicodeDecodeError as error:
            raise TableError(f"{name} is damaged UTF-16 text.") from error
    if b"\x00" in data:
        raise TableError(
            f"{name} is not text (it contains zero bytes).",
            hint="If it is a spreadsheet, save it as CSV UTF-8.",
        )
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TableError(
            f"{name} is not UTF-8: line {line} contains the byte 0x{data[error.start]:02x}.",
            hint="Letters could be read wrongly. Save the file as CSV UTF-8.",
        ) from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _delimiter(first_line: str, suffix: str) -> str:
    if suffix in (".tsv", ".tab"):
        return "\t"
    counts = {sign: first_line.count(sign) for sign in _DELIMITERS}
    best = max(_DELIMITERS, key=lambda sign: counts[sign])
    return best if counts[best] else ","


def _records(data: bytes, delimiter: str) -> Iterator[list[str]]:
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")
    return csv.reader(text, delimiter=delimiter)


def _header(data: bytes, delimiter: str, name: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(_records(data, delimiter), [])]
    except csv.Error as error:
        raise TableError(f"{name} cannot be read as a table ({error}).") from error


def _check_header(header: Sequence[str], name: str) -> None:
    problems = []
    blanks = [str(place) for place, column in enumerate(header, 1) if not column]
    if blanks:
        problems.append(
            Problem(where=f"{name}, row 1", what=f"column {', '.join(blanks)} has no name")
        )
    problems += [
        Problem(
            where=f"{name}, row 1",
            what=f"the column {column!r} appears {header.count(column)} times",
            why="It cannot be known which one is meant.",
            fix="Rename or remove one.",
        )
        for column in sorted({column for column in header if column and header.count(column) > 1})
    ]
    if not header:
        problems.append(Problem(where=name, what="there is no header"))
    if problems:
        raise TableError(f"The header of {name} cannot be used.", problems=problems)


def _check_widths(data: bytes, delimiter: str, width: int, name: str) -> None:
    """Refuse rows with another number of cells than the header: columns would be shifted."""
    wrong: list[tuple[int, int]] = []
    if b'"' in data:
        try:
            wrong = [
                (row, len(record))
                for row, record in enumerate(_records(data, delimiter), 1)
                if record and len(record) != width
            ]
        except csv.Error as error:
            raise TableError(f"{name} cannot be read as a table ({error}).") from error
    else:
        sign = delimiter.encode()
        wrong = [
            (row, line.count(sign) + 1)
            for row, line in enumerate(io.BytesIO(data), 1)
            if line.count(sign) != width - 1 and line.strip()
        ]
    if wrong:
        problems = [
            Problem(
                where=f"{name}, {rows_text([row for row, found in wrong if found == cells])}",
                what=f"{cells} cells, but the header has {width}",
                why="Values would stand in the wrong column.",
                fix="Put cells that contain the delimiter between double quotes.",
            )
            for cells in sorted({found for _, found in wrong})
        ]
        raise TableError(f"{name} has rows of uneven length.", problems=problems)


def _parse(
    data: bytes, delimiter: str, header: Sequence[str], numeric: Sequence[str]
) -> pd.DataFrame:
    options: dict[str, Any] = {
        "sep": delimiter,
        "header": 0,
        "names": list(header),
        "index_col": False,
        "skip_blank_lines": False,
        "keep_default_na": False,
        "low_memory": False,
    }
    if numeric:
        # Since pandas 3.1 the default reads every number exactly; before it had to be asked for.
        fast = {
            **options,
            "dtype": {name: float if name in numeric else str for name in header},
            "na_values": dict.fromkeys(numeric, _MISSING_NUMBERS),
        }
        if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):
            fast["float_precision"] = "round_trip"
        # A cell is not a number: all are read as text, and the caller reports which it was.
        with suppress(ValueError):
            table: pd.DataFrame = pd.read_csv(io.BytesIO(data), **fast)
            others = dict.fromkeys([name for name in header if name not in numeric], "")
            return table.fillna(others) if others else table
    text: pd.DataFrame = pd.read_csv(io.BytesIO(data), dtype=str, na_filter=False, **options)
    return text


# ------------------------------------------------------------------ other formats


def _read_binary(path: Path, suffix: str) -> pd.DataFrame:
    """Any error of a decoder is a damaged file to the user: decoders raise whatever they meet."""
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".parquet": _read_parquet,
        ".sas7bdat": _read_sas,
        ".xpt": _read_sas,
        ".dta": _read_stata,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return readers[suffix](path)
    except TableError:
        raise
    except MemoryError as error:
        raise TableError(
            f"{path.name} claims more cells than fit into this machine's memory.",
            hint="If it is not damaged, save what is needed of it as CSV.",
        ) from error
    except Exception as error:
        raise TableError(
            f"{path.name} cannot be read as {suffix[1:]} ({type(error).__name__}).",
            hint="The file may be damaged or of another kind than its ending says.",
        ) from error


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise TableError(
            f"{path.name} is Parquet, which needs pyarrow.",
            hint="Install it: pip install 'cardiometa[tables]'. Or save the table as CSV.",
        ) from error
    frame: pd.DataFrame = parquet.read_table(path).to_pandas(ignore_metadata=True)
    return frame


def parquet_header(path: Path) -> list[str] | None:
    """The column names, without reading any row; None where the file cannot be read so."""
    try:
        from pyarrow import ArrowException, parquet

        return [str(name) for name in parquet.read_schema(path).names]
    except (ImportError, ArrowException, OSError):
        return None


def _read_sas(path: Path) -> pd.DataFrame:
    kind: Any = "xport" if path.suffix.lower() == ".xpt" else "sas7bdat"
    encoding = None if kind == "xport" else "infer"
    frame = pd.read_sas(path, format=kind, encoding=encoding)
    assert isinstance(frame, pd.DataFrame)
    # Transport files give bytes; `text_of` knows their code pages.
    return frame.assign(**{str(n): as_text(v) for n, v in frame.select_dtypes(object).items()})


def _read_stata(path: Path) -> pd.DataFrame:
    """Value labels where they are (``Male``), else the codes; labels given twice leave codes."""
    try:
        return pd.read_stata(path, convert_categoricals=True, preserve_dtypes=True)
    except ValueError as error:
        if "label" not in str(error).lower():
            raise
        return pd.read_stata(path, convert_categoricals=False, preserve_dtypes=True)
