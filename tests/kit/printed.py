"""Printed numbers of a page as the tests themselves would round the cells of a CSV file."""

from __future__ import annotations

import math

MINUS, DASH = "−", "–"


def printed(cell: str, decimals: int) -> str:
    """``-3.14`` as ``−3.1``; an empty cell as a dash."""
    if cell == "":
        return DASH
    text = f"{float(cell):.{decimals}f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", MINUS)


def interval(low: str, high: str, decimals: int) -> str:
    return f"{printed(low, decimals)} to {printed(high, decimals)}"


def estimate(row: dict[str, str], decimals: int, names: tuple[str, str, str] | None = None) -> str:
    """``−3.2 (−5.1 to −1.3)`` of a row; a dash without an estimate."""
    value, low, high = (row[name] for name in names or ("estimate", "ci_low", "ci_high"))
    return DASH if value == "" else f"{printed(value, decimals)} ({interval(low, high, decimals)})"


def ratio(row: dict[str, str], decimals: int) -> str:
    """The same of a ratio, from the columns of its exponent."""
    return estimate(row, decimals, ("exp_estimate", "exp_ci_low", "exp_ci_high"))


def root(cell: str, decimals: int) -> str:
    """The square root of a variance."""
    return DASH if cell == "" else printed(str(math.sqrt(float(cell))), decimals)


def p_value(cell: str) -> str:
    if cell == "":
        return DASH
    p = float(cell)
    return "<0.001" if p < 0.001 else printed(cell, 3 if p < 0.1 else 2)
