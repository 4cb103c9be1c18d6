"""Groups of people that an agreement is looked at in, and which of them may be shown.

A group of fewer people than the least cell is withheld; where it could be had by difference from
what is shown, the smallest shown group is withheld with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd

from ..privacy.suppression import hidden_counts
from ..records import ETHNICITIES, SEXES

ALL: Final = "all"
GROUPINGS: Final = ("sex", "age_band", "ethnicity", "vendor", "field_strength", "trial")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows of one group: ``mask`` over the rows given.

    ``hidden`` says why nothing is shown of it; ``uncounted``: its numbers are, its counts are not.
    """

    by: str
    name: str
    mask: np.ndarray
    people: int
    hidden: str = ""
    uncounted: bool = False


def add_group_columns(rows: pd.DataFrame, age_bands: Sequence[float]) -> pd.DataFrame:
    """The rows with a text column for each of `GROUPINGS`; None where unknown."""
    result = rows.copy()
    for name in ("sex", "ethnicity", "vendor"):
        result[name] = _text(rows, name)
    result["trial"] = rows["trial"].astype(str)
    result["age_band"] = _bands(rows, age_bands)
    strength = _numbers(rows, "field_strength_t")
    result["field_strength"] = [f"{v:g} T" if np.isfinite(v) else None for v in strength]
    return result


def _text(rows: pd.DataFrame, name: str) -> list[str | None]:
    if name not in rows:
        return [None] * len(rows)
    return [str(v) if isinstance(v, str) and v else None for v in rows[name].astype(object)]


def _numbers(rows: pd.DataFrame, name: str) -> np.ndarray:
    if name not in rows:
        return np.full(len(rows), np.nan)
    return np.asarray(pd.to_numeric(rows[name], errors="coerce").astype(float))


def _bands(rows: pd.DataFrame, age_bands: Sequence[float]) -> list[str | None]:
    ages = _numbers(rows, "age_years")
    ends = [_band(low, high) for low, high in pairwise(age_bands)]
    names = [f"<{age_bands[0]:g}", *ends, f"{age_bands[-1]:g}+"]
    return [
        None if not np.isfinite(age) else names[int(np.searchsorted(age_bands, age, "right"))]
        for age in ages
    ]


def person_codes(rows: pd.DataFrame) -> np.ndarray:
    """A whole number for each person (a trial's participant), equal for all their scans."""
    keys = pd.MultiIndex.from_frame(rows[["trial", "participant_id"]].astype(str))
    return np.asarray(pd.factorize(keys)[0])


def groups_of(rows: pd.DataFrame, least: int) -> Iterator[Group]:
    """Everybody, then each group of each of `GROUPINGS` that the rows are in.

    ``rows`` has the columns of `add_group_columns`.
    """
    codes = person_codes(rows)
    everybody = np.ones(len(rows), dtype=bool)
    total = len(np.unique(codes))
    yield Group(
        by=ALL, name=ALL, mask=everybody, people=total, hidden=f"n<{least}" * (total < least)
    )
    for by in GROUPINGS:
        # A join makes NaN of an unknown None.
        values = np.array([v if isinstance(v, str) else None for v in rows[by]], dtype=object)
        names = _in_order(by, {v for v in values if v is not None})
        masks = [values == name for name in names]
        counts = [len(np.unique(codes[mask])) for mask in masks]
        hidden = hidden_counts(counts, total, least)
        for name, mask, count, hide in zip(names, masks, counts, hidden, strict=True):
            why = "" if not hide else f"n<{least}" if count < least else "counts withheld"
            yield Group(by=by, name=name, mask=mask, people=count, hidden=why)


def _band(low: float, high: float) -> str:
    """``30-39`` for [30, 40); ``17.5-<30`` where the ends are not whole years."""
    whole = float(low).is_integer() and float(high).is_integer()
    return f"{low:g}-{high - 1:g}" if whole else f"{low:g}-<{high:g}"


def _first_age(band: str) -> float:
    return -1.0 if band.startswith("<") else float(band.rstrip("+").partition("-")[0])


def _in_order(by: str, names: set[str]) -> list[str]:
    """Sexes and ethnicities as the contract lists them, ages by age, all else by name."""
    if by == "age_band":
        return sorted(names, key=_first_age)
    fixed = SEXES if by == "sex" else ETHNICITIES if by == "ethnicity" else ()
    known = [name for name in fixed if name in names]
    return known + sorted(names - set(known))
