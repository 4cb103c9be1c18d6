"""How numbers are shown: roundings of the CSV value, with the signs that journals print."""

from __future__ import annotations

import math

MINUS, DASH = "−", "–"


def shown(value: float | None, decimals: int = 1) -> str:
    """``-3.14`` as ``−3.1``: a true minus, no ``−0.0``; a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def shown_interval(low: float | None, high: float | None, decimals: int = 1) -> str:
    """``−5.1 to −1.3``: *to*, because a dash between negative numbers misleads the eye."""
    return f"{shown(low, decimals)} to {shown(high, decimals)}"


def shown_estimate(
    estimate: float | None, low: float | None, high: float | None, decimals: int = 1
) -> str:
    """``−3.2 (−5.1 to −1.3)``."""
    return f"{shown(estimate, decimals)} ({shown_interval(low, high, decimals)})"


def shown_count(value: float | None) -> str:
    """``12345`` as ``12 345`` with a no-break thin space; four digits stay together."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{round(value):d}"
    if len(text.lstrip("-")) > 4:
        text = f"{round(value):,d}".replace(",", "\u202f")
    return text.replace("-", MINUS)
