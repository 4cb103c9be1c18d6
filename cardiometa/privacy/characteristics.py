"""Baseline characteristics by trial and group, table 1 of a paper, without small counts.

Numbers are described by mean and SD and by median and quartiles (type 7 of Hyndman & Fan 1996, as
R's ``quantile``), categories by count and percentage of all participants of the group, the unknown
ones among them, so that the percentages of the shown levels give no hidden count back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import null_space

from ..measurement.indexing import body_sizes
from .suppression import WITHHELD, hidden_counts, is_small

UNKNOWN = "unknown"
PERSON = ("age_years", "sex", "ethnicity", "height_cm", "weight_kg")
MEASURES = (
    *("lv_edv_ml", "lv_esv_ml", "lv_ef_percent", "lv_mass_g"),
    *("rv_edv_ml", "rv_esv_ml", "rv_ef_percent", "heart_rate_bpm"),
)
_SKEWED = 1.0  # |skewness| above which a mean and an SD describe badly


@dataclass(frozen=True, slots=True, kw_only=True)
class Characteristic:
    """A line of ``table1.csv``: one variable (and level) of one group of a trial.

    ``trial`` is empty for all trials, ``group`` is the arm or the sex. ``n`` are the participants
    of the group, ``missing`` those without the variable; ``shown`` says which of the numbers a
    page prints: ``mean``, ``median`` or ``count``. ``note`` says why cells are empty.
    """

    trial: str
    group: str
    variable: str
    level: str = ""
    n: int | None = None
    missing: int | None = None
    count: int | None = None
    percent: float | None = None
    mean: float | None = None
    sd: float | None = None
    median: float | None = None
    q1: float | None = None
    q3: float | None = None
    shown: str = ""
    note: str = ""


def with_body_size(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with numbers as floats, and BMI and BSA (Mosteller) after height and weight.

    A size outside what adults can have is unknown.
    """
    words = ("trial", "group", "sex", "ethnicity")
    numbers = [name for name in frame.columns if name not in words]
    found = frame.assign(
        **{n: pd.to_numeric(frame[n], errors="coerce").astype(float) for n in numbers}
    )
    if not {"height_cm", "weight_kg"} <= set(numbers):
        return found
    sizes = [found[name].to_numpy() for name in ("height_cm", "weight_kg")]
    height, weight, area = (body_sizes(s, *sizes) for s in ("height", "weight", "bsa_mosteller"))
    at = list(found.columns).index("weight_kg") + 1
    found.insert(at, "bmi_kg_m2", weight / height**2)
    if "bsa_m2" not in found:
        found.insert(at + 1, "bsa_m2", area)
    return found


def characteristics(frame: pd.DataFrame, min_cell: int) -> tuple[Characteristic, ...]:
    """The lines of ``frame``: ``trial, group`` and a column for each variable, a participant a row.

    Columns of numbers are described as numbers (NaN unknown), all others as categories ("" or NaN
    unknown). A group of fewer than ``min_cell`` participants has no numbers, nor has the trial's
    next smallest one where the trial's size would give it back; a count below ``min_cell`` is
    empty, and so is the next one of its group where the rest would give it back. The totals over
    trials are empty where they, less what is shown of the trials, would tell of fewer than
    ``min_cell``.
    """
    few = max(min_cell, 1)
    variables = [str(name) for name in frame.columns if name not in ("trial", "group")]
    frame = frame.assign(**{name: frame[name].astype(str) for name in ("trial", "group")})
    parts = {
        (str(trial), str(group)): part
        for (trial, group), part in frame.groupby(["trial", "group"], sort=True)
    }
    trials = sorted({trial for trial, _ in parts})
    small: set[tuple[str, str]] = set()
    for trial in trials:
        keys = [key for key in parts if key[0] == trial]
        sizes = [len(parts[key]) for key in keys]
        gone = hidden_counts(sizes, sum(sizes), few)
        small |= {key for key, is_gone in zip(keys, gone, strict=True) if is_gone}
    lines: dict[tuple[str, str], list[Characteristic]] = {key: [] for key in parts}
    groups = sorted({group for _, group in parts}) if len(trials) > 1 else []
    totals: dict[tuple[str, str], list[Characteristic]] = {("", group): [] for group in groups}
    for name in variables:
        describe = _numbers if pd.api.types.is_numeric_dtype(frame[name]) else _levels
        for key, found in describe(frame[name], parts, small, few).items():
            (lines if key in lines else totals).setdefault(key, []).extend(found)
    if not groups:
        totals = {}
    return tuple(
        replace(line, trial=trial, group=group)
        for (trial, group), found in {**lines, **totals}.items()
        for line in found
    )


_Parts = Mapping[tuple[str, str], pd.DataFrame]
_Lines = dict[tuple[str, str], list[Characteristic]]


def _numbers(
    column: pd.Series[float], parts: _Parts, small: Collection[tuple[str, str]], few: int
) -> _Lines:
    """One line for each group of each trial, and of each group (trial "") over all."""
    name, form = str(column.name), _form(column)
    lines: _Lines = {}
    every: dict[str, list[np.ndarray]] = {}
    hidden, not_counted = Counter[str](), Counter[str]()  # participants, by group
    sizes = Counter[str]()
    for (trial, group), part in parts.items():
        values = part[name].dropna().to_numpy(dtype=float)
        missing, note = len(part) - len(values), ""
        every.setdefault(group, []).append(values)
        sizes[group] += len(part)
        gone = (trial, group) in small or is_small(len(values), few)
        if gone or is_small(missing, few):
            note = f"n<{few}" if (gone and len(part) < few) or not gone else WITHHELD
            note = f"n<{few}" if is_small(len(values), few) else note
            not_counted[group] += missing
            hidden[group] += len(values) * gone
        line = _described(np.empty(0) if gone else values, name, form)
        n = None if (trial, group) in small else len(part)
        lines[trial, group] = [replace(line, n=n, missing=None if note else missing, note=note)]
    for group, found in every.items():
        values = np.concatenate(found)
        missing = sizes[group] - len(values)
        gone = is_small(hidden[group], few) or is_small(len(values), few)
        unclear = gone or is_small(not_counted[group], few) or is_small(missing, few)
        line = _described(np.empty(0) if gone else values, name, form)
        n = _total(parts, small, group, few)
        missing_shown = None if unclear else missing
        lines["", group] = [
            replace(line, n=n, missing=missing_shown, note=WITHHELD if unclear else "")
        ]
    return lines


def _total(parts: _Parts, small: Collection[tuple[str, str]], group: str, few: int) -> int | None:
    """The participants of a group over all trials; None where that would tell of a small one."""
    sizes = {key: len(part) for key, part in parts.items() if key[1] == group}
    every, hidden = sum(sizes.values()), sum(n for key, n in sizes.items() if key in small)
    return None if every < few or is_small(hidden, few) else every


def _described(values: np.ndarray, name: str, form: str) -> Characteristic:
    empty = Characteristic(trial="", group="", variable=name, shown=form)
    if not len(values):
        return empty
    q1, median, q3 = map(float, np.percentile(values, (25, 50, 75)))
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return replace(empty, mean=float(values.mean()), sd=sd, median=median, q1=q1, q3=q3)


def _levels(
    column: pd.Series[Any], parts: _Parts, small: Collection[tuple[str, str]], few: int
) -> _Lines:
    """A line for each level that any participant has, the unknown ones last."""
    words = column.astype(object)
    words = words.where(words.notna() & (words != ""), UNKNOWN).astype(str)
    levels = sorted(set(words) - {UNKNOWN}) + [UNKNOWN] * (UNKNOWN in set(words))
    empty = Characteristic(trial="", group="", variable=str(column.name), shown="count")
    lines: _Lines = {}

    def add(key: tuple[str, str], counts: np.ndarray, gone: np.ndarray, *, sized: bool) -> None:
        n = int(counts.sum())
        for level, count, is_gone in zip(levels, counts.tolist(), gone.tolist(), strict=True):
            line = replace(empty, level=level, n=n if sized else None)
            note = (f"n<{few}" if count < few else WITHHELD) if is_gone else ""
            shown = {"note": note} if note else {"count": count, "percent": 100 * count / n}
            lines.setdefault(key, []).append(replace(line, **shown))

    for group in sorted({group for _, group in parts}):
        keys = [key for key in parts if key[1] == group]
        found = [words.loc[parts[key].index].value_counts() for key in keys]
        table = np.array([[int(one.get(level, 0)) for level in levels] for one in found])
        gone = np.array(
            [
                [True] * len(levels)
                if key in small
                else hidden_counts(row.tolist(), row.sum(), few)
                for key, row in zip(keys, table, strict=True)
            ]
        ) & ((table > 0) | np.array([[key in small] for key in keys]))
        for key, row, is_gone in zip(keys, table, gone, strict=True):
            add(key, row, is_gone, sized=key not in small)
        total = table.sum(axis=0)
        hide = np.array(hidden_counts(total.tolist(), int(total.sum()), few)) & (total > 0)
        if _gives_back(table, gone, few):
            hide = np.ones(len(levels), dtype=bool)
        add(("", group), total, hide, sized=_total(parts, small, group, few) is not None)
    return lines


def _gives_back(table: np.ndarray, gone: np.ndarray, few: int) -> bool:
    """True where sums of rows and columns of ``table`` ``[trials, levels]`` tell hidden cells.

    What the sums leave open is the null space of their matrix over the hidden cells: a cell, or
    two together, without a part in it is known (Cox 1980 on two-way tables).
    """
    rows, columns = np.nonzero(gone & (table > 0))
    counts = table[rows, columns]
    if not (counts < few).any():
        return False
    sums = np.vstack([rows == row for row in set(rows)] + [columns == one for one in set(columns)])
    free = null_space(sums.astype(float))
    alone = np.abs(free).max(axis=1, initial=0.0) < 1e-9
    if (alone & (counts < few)).any():
        return True
    two = np.abs(free[:, None] + free[None]).max(axis=2, initial=0.0) < 1e-9
    return bool((two & (counts[:, None] + counts < few) & ~np.eye(len(counts), dtype=bool)).any())


def _form(values: pd.Series[float]) -> str:
    """``median`` for a skewed variable, else ``mean``; all groups of a variable have one form."""
    skewness: Any = values.astype(float).skew()
    return "median" if abs(skewness) > _SKEWED else "mean"
