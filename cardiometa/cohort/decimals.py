"""The decimal sign of numbers that are text: each column's own cells decide, or the user is asked.

``35,5`` can only be a decimal comma and ``1,234,567`` only thousands; ``1,234`` may be either, and
is not read until another cell of its column (``0,961`` or ``1,234.5``) or ``--decimal`` decides.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

import numpy as np
import pandas as pd

from .recode import is_unknown

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
    proofs = {name: {decimal} if decimal else _proofs(cells) for name, cells in texts.items()}
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


def _proofs(cells: list[str]) -> set[Sign]:
    """The decimal signs that some cell can only have."""
    return {sign for sign in _IS_SURE if any(_certain(cell, sign) for cell in cells)}


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
