"""Read a table of any kind a trial sends: text, spreadsheet, Parquet, SPSS, Stata, SAS.

What a file does not say (separator, decimal sign, encoding, sheet) is found out and reported; what
cannot be known is asked. Cells of text files stay text (an id ``001`` stays ``001``). The index of
the result is the row number a user sees: in text files and spreadsheets the header is row 1 and
the first record row 2; in the other formats the first record is row 1.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from ..errors import Problems, TableError
from .models import TableFormat
from .recode import UNKNOWN, as_text, is_unknown, rows_text

TEXT = (".csv", ".tsv", ".tab", ".txt")
SHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods")
# Endings of statistics programs, each with its reader in pyreadstat.
_STATISTICS = {
    ".sav": "read_sav",
    ".zsav": "read_sav",
    ".dta": "read_dta",
    ".sas7bdat": "read_sas7bdat",
    ".xpt": "read_xport",
}
SUFFIXES = (*TEXT, *SHEETS, ".parquet", *_STATISTICS)
_CHUNK = 1 << 18  # rows of a text file parsed at a time
_MOST_WORDS = 1000  # distinct values of a part, up to which text is kept as codes
_SEPARATORS = (",", "\t", ";", "|")
_SEPARATOR_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "|"}
_MISSING_NUMBERS = sorted({form for word in UNKNOWN for form in (word, word.upper())} | {"NaN"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which columns of a file are read; of these, which should be numbers, and which are text.

    ``numbers`` come as float64 where every cell of all of them is a number, and as text otherwise;
    ``texts`` (ids) stay as they are. In all other columns the decimal sign is found out.
    """

    columns: Sequence[str]
    numbers: Collection[str] = ()
    texts: Collection[str] = ()


Choose = Callable[[Sequence[str]], Wanted]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTable:
    """The cells of a file: ``rows`` indexed by row number, and ``notices`` of what was found out.

    ``ambiguous`` has a cell of each column whose decimal sign cannot be known (1,234); ``header``
    has all columns of the file, also those that were not read.
    """

    rows: pd.DataFrame
    notices: tuple[str, ...] = ()
    ambiguous: Mapping[str, str] = field(default_factory=dict)
    header: tuple[str, ...] = ()


def read_any_table(path: Path, form: TableFormat | None = None) -> pd.DataFrame:
    """The rows of a table with all its columns; TableError where it cannot be read."""
    return read_raw(path, form).rows


def read_raw(path: Path, form: TableFormat | None = None, choose: Choose | None = None) -> RawTable:
    """The table at ``path``, indexed by row number; TableError where it cannot be read.

    ``choose`` tells what is wanted of the columns in the header: all of them by default.
    """
    chosen: list[Wanted] = []

    def choose_once(header: Sequence[str]) -> Wanted:
        _check_header(header, path.name)
        chosen.append(Wanted(columns=header) if choose is None else choose(header))
        return chosen[-1]

    form = form or TableFormat()
    size = _size(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise TableError(
            f"{path.name}: unsupported table format.", hint=f"Known are {', '.join(SUFFIXES)}."
        )
    if size == 0:
        raise TableError(f"{path.name} is empty.")
    notices: list[str] = []
    if suffix in TEXT:
        rows, header = _read_text(path, form, choose_once, notices)
    elif suffix in SHEETS:
        rows, header = _decoded(path, lambda: _read_sheet(path, form, choose_once, notices))
    else:
        reader = _read_parquet if suffix == ".parquet" else _read_statistics
        rows, header = _decoded(path, lambda: reader(path, choose_once, notices))
        rows.index = pd.RangeIndex(1, len(rows) + 1)
    names = [str(name) for name in rows.columns if name not in chosen[0].texts]
    rows, ambiguous = plain_decimals(rows, names, form.decimal, notices)
    return RawTable(rows=rows, notices=tuple(notices), ambiguous=ambiguous, header=tuple(header))


def table_header(path: Path, form: TableFormat | None = None) -> list[str]:
    """The column names; no row of a text file or a Parquet file is read for them."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        with suppress(ImportError, OSError, ValueError):  # pyarrow's own errors are of these
            from pyarrow import parquet

            return [str(name) for name in parquet.read_schema(path).names]
    if suffix in TEXT and _size(path):
        text = _Text.read(path, form or TableFormat(), [], most=1 << 20)
        return next(iter(text.records()), [])
    return list(read_raw(path, form).header)


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


def _check_header(header: Sequence[str], name: str) -> None:
    problems = Problems(name)
    blanks = [str(place) for place, column in enumerate(header, 1) if not column]
    if blanks:
        problems.add(f"column {', '.join(blanks)} has no name", at="row 1")
    for column in sorted({column for column in header if column and header.count(column) > 1}):
        problems.add(
            f"the column {column!r} appears {header.count(column)} times",
            at="row 1",
            why="It cannot be known which one is meant.",
            fix="Rename or remove one.",
        )
    if not header:
        problems.add("there is no header")
    if problems:
        raise TableError(f"The header of {name} cannot be used.", problems=problems)


# ------------------------------------------------------------------ text


@dataclass(frozen=True, slots=True)
class _Text:
    """A text file: UTF-8 with LF line ends, its separator, and the number of its first line."""

    data: bytes
    separator: str
    first_row: int
    name: str

    @classmethod
    def read(cls, path: Path, form: TableFormat, notices: list[str], most: int = -1) -> _Text:
        """The file; what was found out about it goes to ``notices``."""
        try:
            with path.open("rb") as stream:
                raw = stream.read(most)
        except OSError as error:
            raise TableError(
                f"{path.name} cannot be opened ({error.strerror or type(error).__name__}).",
                hint="Ask for the right to read it.",
            ) from error
        data = _utf8(raw, path.name, form.encoding, notices, cut=0 <= most <= len(raw))
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data
        # Excel's own note of the separator, above the header.
        stated = re.match(rb'"?sep=(.)"?\n', data)
        separator = stated.group(1).decode() if stated else ""
        data = data[stated.end() :] if stated else data
        if form.separator is not None:
            separator = "\t" if form.separator == "tab" else form.separator
        elif not separator:
            separator = _separator(data, path.suffix.lower())
            if separator != ("\t" if path.suffix.lower() in (".tsv", ".tab") else ","):
                shown = _SEPARATOR_NAMES[separator]
                notices.append(f"the cells are separated by {shown} (--separator).")
        return cls(data, separator, 2 if stated else 1, path.name)

    def records(self) -> Iterator[list[str]]:
        """The cells of each line, stripped in the header."""
        text = io.TextIOWrapper(io.BytesIO(self.data), encoding="utf-8", newline="")
        try:
            for number, record in enumerate(csv.reader(text, delimiter=self.separator)):
                yield [cell.strip() for cell in record] if number == 0 else record
        except csv.Error as error:
            raise TableError(f"{self.name} cannot be read as a table ({error}).") from error


def _read_text(
    path: Path, form: TableFormat, choose: Choose, notices: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    text = _Text.read(path, form, notices)
    header = next(iter(text.records()), [])
    _check_widths(text, len(header))
    named = _named(header, lambda: list(text.records())[1:], notices)
    chosen = choose([*named.values()])
    wanted = {place: name for place, name in named.items() if name in chosen.columns}
    # Where a cell may contain a comma, numbers have to be looked at as text.
    fast = b"," not in text.data or (text.separator == "," and b'"' not in text.data)
    numbers = [name for name in wanted.values() if fast and name in chosen.numbers]
    try:
        table = _parse(text, header, wanted, numbers)
    except ValueError as error:  # of pandas: its parser and csv differ on quotes left open
        raise TableError(
            f"{path.name} cannot be read as a table.",
            hint="A double quote may be left open in it.",
        ) from error
    table.index = pd.RangeIndex(text.first_row + 1, len(table) + text.first_row + 1)
    # Spreadsheets leave rows of empty cells at the end; they are no records.
    blank = np.ones(len(table), dtype=bool)
    for column in table.columns:
        values = table[column]
        if not blank.any():
            break
        is_number = values.dtype == np.float64
        blank &= (values.isna() if is_number else values.str.strip().eq("")).to_numpy()
    return (table.loc[~blank] if blank.any() else table), list(named.values())


def _utf8(data: bytes, name: str, encoding: str | None, notices: list[str], *, cut: bool) -> bytes:
    """The file as UTF-8 without byte-order mark; ``cut`` where only its beginning was read."""
    found = encoding
    if found is None and data.startswith(b"\xef\xbb\xbf"):
        found = "utf-8-sig"
    elif found is None and data.startswith((b"\xff\xfe", b"\xfe\xff")):
        found = "utf-16"
    elif found is None and b"\x00" in data:
        # UTF-16 without a mark: every other byte of the header is zero.
        halves = {"utf-16-le": data[1:64:2], "utf-16-be": data[:64:2]}
        found = next((e for e, half in halves.items() if half and not half.strip(b"\0")), None)
    elif found is None:
        found = "utf-8"
        try:
            codecs.getincrementaldecoder("utf-8")().decode(data, final=not cut)
        except UnicodeDecodeError:
            found = "cp1252"  # which European spreadsheets write
    if found is None:
        raise TableError(
            f"{name} is not text (it contains zero bytes).",
            hint="If it is a spreadsheet, save it as CSV UTF-8, or with its own ending.",
        )
    errors = "ignore" if cut else "strict"
    try:
        text = data.decode(found, errors)
    except (UnicodeDecodeError, LookupError, ValueError) as error:
        place = getattr(error, "start", 0)
        line = data.count(b"\n", 0, place) + 1
        raise TableError(
            f"{name} is not text in {found}: line {line} contains "
            f"the byte 0x{data[place : place + 1].hex()}.",
            hint="Save the file as CSV UTF-8, or name its encoding with --encoding.",
        ) from error
    if encoding is None and found != "utf-8":
        shown = {"utf-8-sig": "UTF-8 with a byte-order mark", "cp1252": "Windows-1252"}.get(found)
        notices.append(f"read as {shown or 'UTF-16'} (--encoding).")
    return data if found == "utf-8" else text.removeprefix("\ufeff").encode("utf-8")


def _separator(data: bytes, suffix: str) -> str:
    """The sign that divides the first lines most evenly, quotes respected."""
    if suffix in (".tsv", ".tab"):
        return "\t"
    lines = data[: 1 << 16].decode("utf-8", "ignore").split("\n")[:20]
    lines = [line for line in lines if line.strip()]
    best, score = ",", (0.0, 0)
    for sign in _SEPARATORS:
        with suppress(csv.Error):
            widths = [len(record) for record in csv.reader(lines, delimiter=sign) if record]
            if widths and widths[0] > 1:
                even = sum(width == widths[0] for width in widths) / len(widths)
                if (even, widths[0]) > score:
                    best, score = sign, (even, widths[0])
    return best


def _named(
    header: Sequence[str],
    records: Callable[[], list[list[Any]]],
    notices: list[str],
) -> dict[int, str]:
    """The columns with a name by their place; a nameless one is dropped where it contains nothing.

    That is an empty column, or a first one that counts the rows, as R and pandas write it.
    """
    named = {place: column for place, column in enumerate(header) if column}
    nameless = [place for place, column in enumerate(header) if not column]
    if not nameless or not named:
        return dict(enumerate(header))
    body = records()
    for place in nameless:
        cells = [str(row[place]).strip() for row in body if len(row) > place]
        counts = [str(start + n) for start in (0, 1) for n in range(len(cells))]
        is_count = place == 0 and cells in (counts[: len(cells)], counts[len(cells) :])
        if is_count or not any(cells):
            notices.append(f"column {place + 1} has no name and is not read.")
        else:
            named[place] = ""
    return dict(sorted(named.items()))


def _check_widths(text: _Text, width: int) -> None:
    """Refuse rows with another number of cells than the header: columns would be shifted."""
    name, first = text.name, text.first_row
    if b'"' in text.data:
        wrong = [
            (row, len(record))
            for row, record in enumerate(text.records(), first)
            if record and len(record) != width
        ]
    else:
        sign = text.separator.encode()
        wrong = [
            (row, line.count(sign) + 1)
            for row, line in enumerate(io.BytesIO(text.data), first)
            if line.count(sign) != width - 1 and line.strip()
        ]
    problems = Problems(name)
    for cells in sorted({found for _, found in wrong}):
        problems.add(
            f"{cells} cells, but the header has {width}",
            at=rows_text([row for row, found in wrong if found == cells]),
            why="Values would stand in the wrong column.",
            fix="Put cells that contain the separator between double quotes.",
        )
    if problems:
        raise TableError(f"{name} has rows of uneven length.", problems=problems)


def _parse(
    text: _Text, header: Sequence[str], wanted: Mapping[int, str], numeric: Sequence[str]
) -> pd.DataFrame:
    names = [wanted.get(place, f"\0{place}") for place in range(len(header))]
    options: dict[str, Any] = {
        "sep": text.separator,
        "header": 0,
        "names": names,
        "usecols": list(wanted),
        "index_col": False,
        "skip_blank_lines": False,
        "keep_default_na": False,
        "low_memory": False,
    }
    if numeric:
        # Since pandas 3.1 the default reads every number exactly; before it had to be asked for.
        fast = {
            **options,
            "dtype": {name: float if name in numeric else str for name in wanted.values()},
            "na_values": dict.fromkeys(numeric, _MISSING_NUMBERS),
        }
        if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):
            fast["float_precision"] = "round_trip"
        # A cell is not a number: all are read as text, and the caller reports which it was.
        with suppress(ValueError):
            chunks = pd.read_csv(io.BytesIO(text.data), chunksize=_CHUNK, **fast)
            return _stacked([*map(partial(_compact, numeric=numeric), chunks)])
    cells: pd.DataFrame = pd.read_csv(io.BytesIO(text.data), dtype=str, na_filter=False, **options)
    return cells


def _compact(chunk: pd.DataFrame, numeric: Sequence[str]) -> dict[str, pd.Series]:
    """The columns of a part of a file; text that repeats is codes in large files."""
    columns = {}
    for name in map(str, chunk.columns):
        cells = chunk[name] if name in numeric else chunk[name].fillna("")
        is_word = name not in numeric and len(chunk) == _CHUNK and cells.nunique() < _MOST_WORDS
        columns[name] = cells.astype("category") if is_word else cells
    return columns


def _stacked(parts: Sequence[dict[str, pd.Series]]) -> pd.DataFrame:
    """The parts one below the other, column by column, so that only one is in memory twice."""
    columns = {}
    for name in [*parts[0]] if parts else ():
        cells = [part.pop(name) for part in parts]
        if isinstance(cells[0].dtype, pd.CategoricalDtype) and len(cells) > 1:
            coded = union_categoricals([one.astype("category") for one in cells])
            columns[name] = pd.Series(coded)
        else:
            columns[name] = cells[0] if len(cells) == 1 else pd.concat(cells, ignore_index=True)
    return pd.DataFrame(columns, copy=False)


# ------------------------------------------------------------------ other formats


def _decoded(
    path: Path, read: Callable[[], tuple[pd.DataFrame, list[str]]]
) -> tuple[pd.DataFrame, list[str]]:
    """Any error of a decoder is a damaged file to the user: decoders raise whatever they meet."""
    kind = path.suffix[1:].lower()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except TableError:
        raise
    except ImportError as error:
        raise TableError(
            f"{path.name} cannot be read: {kind} files need {error.name or 'another package'}.",
            hint="Install it: pip install 'cardiometa[tables]'. Or save the table as CSV.",
        ) from error
    except MemoryError as error:
        raise TableError(
            f"{path.name} claims more cells than fit into this machine's memory.",
            hint="If it is not damaged, save what is needed of it as CSV.",
        ) from error
    except Exception as error:
        raise TableError(
            f"{path.name} cannot be read as {kind} ({type(error).__name__}).",
            hint="The file may be damaged or of another kind than its ending says.",
        ) from error


def _read_parquet(path: Path, choose: Choose, _: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """One column after the other, so that a large table is not in memory twice.

    Text that repeats its values, so that it takes less than two bytes a row, stays codes.
    """
    from pyarrow import parquet

    facts = parquet.read_metadata(path)
    schema = facts.schema.to_arrow_schema()
    header = [str(name) for name in schema.names]
    sizes: Counter[str] = Counter()
    for group in map(facts.row_group, range(facts.num_row_groups)):
        for part in map(group.column, range(group.num_columns)):
            sizes[part.path_in_schema] += part.total_uncompressed_size
    columns = {}
    for name in choose(header).columns:
        is_text = schema.field(name).type in ("string", "large_string")
        codes = [name] if is_text and sizes[name] < 2 * facts.num_rows else []
        table = parquet.read_table(path, columns=[name], read_dictionary=codes, pre_buffer=False)
        table.validate(full=True)  # text that is not UTF-8 would fail much later
        columns[name] = table.to_pandas(ignore_metadata=True, self_destruct=True)[name]
    return pd.DataFrame(columns, copy=False), header


def _read_sheet(
    path: Path, form: TableFormat, choose: Choose, notices: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    import python_calamine as calamine

    book = calamine.CalamineWorkbook.from_path(str(path))
    asked = form.sheet or _only_sheet(book, path.name, notices)
    names = [asked] if asked in book.sheet_names else [one.strip() for one in asked.split(",")]
    unknown = [name for name in names if name not in book.sheet_names]
    if unknown:
        raise TableError(
            f"{path.name} has no sheet {unknown[0]!r}.",
            hint=f"It has {', '.join(book.sheet_names)}.",
        )
    header: list[str] = []
    parts = []
    for name in names:
        cells = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
        filled = [number for number, row in enumerate(cells) if any(cell != "" for cell in row)]
        if not filled:
            raise TableError(f"The sheet {name!r} of {path.name} is empty.")
        first, body = as_text(pd.Series(cells[filled[0]], dtype=object)), filled[1:]
        named = _named(list(first), partial(list, map(cells.__getitem__, body)), notices)
        if not header:
            header = [*named.values(), *(["sheet"] if len(names) > 1 else [])]
            wanted = choose(header).columns
        elif sorted([*named.values(), "sheet"]) != sorted(header):
            raise TableError(
                f"The sheets {names[0]!r} and {name!r} of {path.name} have different columns.",
                hint="Save each as a file of its own, and give all files: one per trial.",
            )
        rows = {c: [cells[n][place] for n in body] for place, c in named.items() if c in wanted}
        labels = [n + 1 if len(names) == 1 else f"{name}:{n + 1}" for n in body]
        parts.append(pd.DataFrame(rows, index=labels, dtype=object))
        if "sheet" in wanted and len(names) > 1:
            parts[-1]["sheet"] = name
    return pd.concat(parts).infer_objects(), header


def _only_sheet(book: Any, name: str, notices: list[str]) -> str:
    """The one sheet that contains a table; TableError where there are several."""
    sizes: dict[str, str] = {}
    for sheet in book.sheets_metadata:
        is_shown = str(sheet.visible).endswith(".Visible") and str(sheet.typ).endswith("WorkSheet")
        part = book.get_sheet_by_name(sheet.name) if is_shown else None
        if part is not None and part.height and part.width:
            sizes[sheet.name] = f"{sheet.name!r} ({part.height} × {part.width} cells)"
    if not sizes:
        raise TableError(f"{name} has no sheet with cells.")
    if len(sizes) > 1:
        raise TableError(
            f"{name} has {len(sizes)} sheets: {', '.join(sizes.values())}.",
            hint=f"Name the one to read: --sheet {next(iter(sizes))!r}. If each is a trial with "
            f"the same columns: --sheet {','.join(sizes)!r} --trial sheet.",
        )
    found = next(iter(sizes))
    if len(book.sheet_names) > 1:
        notices.append(f"the sheet {found!r} is read; the others are empty or hidden (--sheet).")
    return found


def _read_statistics(
    path: Path, choose: Choose, notices: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    """SPSS, Stata and SAS: user-missing values are missing, value labels replace their codes."""
    import pyreadstat

    read = getattr(pyreadstat, _STATISTICS[path.suffix.lower()])
    options: dict[str, Any] = {"filename_path": str(path)}
    try:
        _, facts = read(**options, metadataonly=True)
    except pyreadstat.ReadstatError:
        # Files of old versions carry the writer's code page without naming it.
        options["encoding"] = "WINDOWS-1252"
        _, facts = read(**options, metadataonly=True)
        notices.append("read as Windows-1252.")
    header = [str(name) for name in facts.column_names]
    wanted = list(choose(header).columns)
    try:
        rows, facts = read(**options, usecols=wanted)
    except (pyreadstat.ReadstatError, UnicodeDecodeError):
        if "encoding" in options:
            raise
        rows, facts = read(**options, usecols=wanted, encoding="WINDOWS-1252")
        notices.append("read as Windows-1252.")
    labels: dict[str, Mapping[Any, str]] = dict(facts.variable_value_labels)
    # SAS keeps value labels in a file of its own, of the table's name or called formats.
    places = (path.with_suffix(".sas7bcat"), path.with_name("formats.sas7bcat"))
    catalogue = next((place for place in places if place.is_file()), None)
    if catalogue is not None and path.suffix.lower() == ".sas7bdat":
        _, formats = pyreadstat.read_sas7bcat(str(catalogue))
        notices.append(f"value labels from {catalogue.name}.")
        for column, name in facts.variable_to_label.items():
            labels[column] = formats.value_labels.get(name) or {}
    return _labelled(rows[wanted], labels, notices), header


def _labelled(
    rows: pd.DataFrame, labels: Mapping[str, Mapping[Any, str]], notices: list[str]
) -> pd.DataFrame:
    """The rows with labels for codes, where every value has a label of its own.

    A measure whose label names a code among its numbers (-99 "not done") stays numbers, as does a
    column two of whose codes have one label; both are reported.
    """
    replaced = []
    for column, words in labels.items():
        if column not in rows or not words:
            continue
        values = rows[column]
        known = values.dropna().unique()
        if not len(known):
            continue
        if all(value in words for value in known) and len(set(words.values())) == len(words):
            rows = rows.assign(**{column: values.map(dict(words)).astype(object)})
            replaced.append(column)
        elif any(value in words for value in known):
            shown = ", ".join(
                f"{code:g} {word!r}" if isinstance(code, float) else f"{code} {word!r}"
                for code, word in list(words.items())[:12]
            )
            notices.append(f"{column} keeps its numbers; labels say {shown}.")
    if replaced:
        notices.append(f"value labels are used for {', '.join(replaced)}.")
    return rows


# ------------------------------------------------------------------ decimal signs

# Of numbers that are text, each column's own cells decide the sign, or the user is asked: ``35,5``
# can only be a decimal comma and ``1,234,567`` only thousands; ``1,234`` may be either, and is not
# read until another cell of its column (``0,961`` or ``1,234.5``) or --decimal decides.
Sign = Literal[".", ","]

_LEAD = r"[+-]?[1-9]\d{0,2}"
_EXPONENT = r"([eE][+-]?\d+)?"
# What a cell can be only with this decimal sign; "{p}" is the sign, "{t}" that of thousands.
_SURE = r"[+-]?(\d*{p}\d+{e}|[1-9]\d{{0,2}}({t}\d{{3}})+{p}\d+|[1-9]\d{{0,2}}({t}\d{{3}}){{2,}})"
_FULL = r"[+-]?(\d*{p}?\d+{e}|\d+{p}|[1-9]\d{{0,2}}({t}\d{{3}})+({p}\d*)?)"


def _compiled(pattern: str) -> dict[Sign, re.Pattern[str]]:
    signs: dict[Sign, tuple[str, str]] = {".": (r"\.", ","), ",": (",", r"\.")}
    return {s: re.compile(pattern.format(p=p, t=t, e=_EXPONENT)) for s, (p, t) in signs.items()}


_IS_SURE, _IS_NUMBER = _compiled(_SURE), _compiled(_FULL)
_EITHER: dict[Sign, re.Pattern[str]] = {
    ".": re.compile(_LEAD + r"\.\d{3}"),
    ",": re.compile(_LEAD + r",\d{3}"),
}
_SAMPLE = 300  # distinct cells that show whether a column is of words
_DIGITS = re.compile(r"[+-]?\d+")


def plain_decimals(
    rows: pd.DataFrame, names: Collection[str], decimal: Sign | None, notices: list[str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The rows with decimal points in ``names``; a cell of each column whose sign is not known.

    Only columns of text in which most cells are numbers are looked at; cells that are not numbers
    stay as they are, as do columns that mix both signs. ``decimal`` decides for all columns.
    """
    texts = {name: found for name in names if (found := _texts(rows[name]))}
    # The decimal signs that some cell can only have.
    proofs: dict[str, set[Sign]] = {
        name: {decimal} if decimal else {s for s in _IS_SURE if any(_certain(c, s) for c in cells)}
        for name, cells in texts.items()
    }
    ambiguous: dict[str, str] = {}
    signs: dict[str, Sign] = {}
    for name, cells in texts.items():
        unclear = [] if decimal else _unclear(cells, proofs[name])
        # Next to decimal commas in other columns, 1.234 may be thousands.
        doubted = any("," in cell for cell in unclear) or {","} in proofs.values()
        if unclear and (proofs[name] or doubted):
            ambiguous[name] = min(unclear)
        elif len(proofs[name]) == 1:
            signs[name] = next(iter(proofs[name]))
    converted = {
        name: _with_points(rows[name], sign)
        for name, sign in signs.items()
        if sign == "," or any("," in cell for cell in texts[name])
    }
    for sign, shown in ((",", "decimal comma"), (".", "comma as the sign of thousands")):
        found = [name for name in converted if signs[name] == sign]
        if found:
            notices.append(f"{shown} in {', '.join(found)} (--decimal).")
    return (rows.assign(**converted) if converted else rows), ambiguous


def _texts(values: pd.Series) -> list[str]:
    """The distinct texts with a point or comma of a column that is mostly numbers; else none."""
    if pd.api.types.is_numeric_dtype(values) or isinstance(values.dtype, pd.CategoricalDtype):
        return []
    distinct = [str(cell).strip() for cell in values.unique() if isinstance(cell, str)]
    if not _are_numbers(distinct[:_SAMPLE]):
        return []
    marked = [cell for cell in distinct if "," in cell or "." in cell]
    if not any("," in cell for cell in marked) and not any(
        _EITHER["."].fullmatch(cell) for cell in marked
    ):
        return []
    return [cell for cell in marked if _is_number(cell)] if _are_numbers(distinct) else []


def _are_numbers(cells: list[str]) -> bool:
    """True where more than half of the cells that are not blank are numbers."""
    known = [cell for cell in cells if not is_unknown(cell)]
    return 2 * sum(map(_is_number, known)) > len(known)


def _is_number(cell: str) -> bool:
    return bool(_DIGITS.fullmatch(cell)) or any(p.fullmatch(cell) for p in _IS_NUMBER.values())


def _certain(cell: str, sign: Sign) -> bool:
    return bool(_IS_SURE[sign].fullmatch(cell)) and not _EITHER[sign].fullmatch(cell)


def _unclear(cells: list[str], proofs: set[Sign]) -> list[str]:
    """The cells such as 1,234 that no cell of the column explains as thousands or as decimals."""
    if len(proofs) > 1:  # mixed: left as it is
        return []
    sign = next(iter(proofs), None)
    if sign is None:
        commas = [cell for cell in cells if "," in cell]
        return commas or cells
    other: Sign = "." if sign == "," else ","
    if any(other in cell and _certain(cell, sign) for cell in cells):
        return []
    return [cell for cell in cells if _EITHER[other].fullmatch(cell)]


def _with_points(values: pd.Series, sign: Sign) -> pd.Series:
    """Numbers with the decimal ``sign`` as numbers with a point and without thousands."""
    other = "." if sign == "," else ","

    def convert(cell: object) -> object:
        text = cell.strip() if isinstance(cell, str) else ""
        if not _IS_NUMBER[sign].fullmatch(text):
            return cell
        return text.replace(other, "").replace(sign, ".")

    codes, distinct = pd.factorize(values.astype(object), use_na_sentinel=True)
    found = np.empty(len(distinct) + 1, dtype=object)
    found[:-1] = [convert(cell) for cell in distinct]
    found[-1] = None
    return pd.Series(found[codes], index=values.index, dtype=object)
