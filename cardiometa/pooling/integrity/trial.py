"""First checks of each trial's data, before anyone believes its effect.

Each check is ``ok``, ``look`` or ``not-checked`` with what it lacked; nothing is changed or left
out by them. After the IPD Integrity Tool (Hunter et al. 2024), for values of cardiac MRI.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from ...records import CohortTable
from ..endpoint.accessors import number_column, text_column
from ..endpoint.analysis_set import covariate_numbers
from ..first_stage.first_stage import natural
from ..results import IntegrityRow

# What an adult heart can be; a value beyond is an error of unit or of reading more often than not.
PLAUSIBLE = {
    "lv_edv_ml": (30.0, 700.0),
    "lv_esv_ml": (5.0, 650.0),
    "lv_ef_percent": (5.0, 85.0),
    "lv_mass_g": (25.0, 600.0),
    "rv_edv_ml": (30.0, 700.0),
    "rv_esv_ml": (5.0, 650.0),
    "rv_ef_percent": (5.0, 85.0),
}
_EF_POINTS = 1.0  # pooling.md section 6: EF = SV / EDV within 1 %
_SV_ML = 1.0
_BALANCE_Z = 3.2905  # two-sided p < 0.001: with some forty comparisons chance alone seldom does it
_LEAST_MEASURES = 3  # two people may share a number, not three
_FEW = 8  # a standardised difference of fewer people an arm says nothing

_Finding = tuple[int, int]  # checked, found


def integrity_checks(table: CohortTable, people: pd.DataFrame) -> tuple[IntegrityRow, ...]:
    """Every check of every trial; ``people`` is the endpoint's with ``code`` and baseline."""
    rows: list[IntegrityRow] = []
    trials = text_column(table.rows, "trial")
    for trial in sorted(set(trials), key=natural):
        part = table.rows[trials == trial]
        rows += _value_checks(trial, part, table.measures)
        rows += _balance(trial, people[people["trial"] == trial])
    return tuple(rows)


def _value_checks(
    trial: str, rows: pd.DataFrame, measures: tuple[str, ...]
) -> Iterable[IntegrityRow]:
    yield _repeats(trial, rows, measures)
    for side in ("lv", "rv"):
        edv, esv, sv, ef = (
            f"{side}_{name}" for name in ("edv_ml", "esv_ml", "sv_ml", "ef_percent")
        )
        name = side.upper()
        yield _check(
            trial,
            f"{side}-edv-above-esv",
            rows,
            (edv, esv),
            _edv_not_above_esv,
            f"{name} EDV is not above ESV",
        )
        yield _check(
            trial,
            f"{side}-sv-consistent",
            rows,
            (edv, esv, sv),
            _sv_off,
            f"{name} SV differs from EDV - ESV by more than {_SV_ML:g} mL",
        )
        yield _check(
            trial,
            f"{side}-ef-consistent",
            rows,
            (edv, esv, ef),
            _ef_off,
            f"{name} EF differs from (EDV - ESV) / EDV by more than {_EF_POINTS:g} point",
        )
    for column, (low, high) in PLAUSIBLE.items():
        yield _check(
            trial,
            f"plausible-{column.replace('_', '-')}",
            rows,
            (column,),
            lambda v, low=low, high=high: (v < low) | (v > high),
            f"{column} is outside {low:g} to {high:g}",
        )


def _edv_not_above_esv(edv: np.ndarray, esv: np.ndarray) -> np.ndarray:
    wrong: np.ndarray = edv <= esv
    return wrong


def _sv_off(edv: np.ndarray, esv: np.ndarray, sv: np.ndarray) -> np.ndarray:
    wrong: np.ndarray = np.abs(sv - (edv - esv)) > _SV_ML
    return wrong


def _ef_off(edv: np.ndarray, esv: np.ndarray, ef: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.abs(ef - 100.0 * (edv - esv) / edv)
    # An EDV of 0 gives no number, which is wrong too.
    wrong: np.ndarray = ~(off <= _EF_POINTS)
    return wrong


def _check(
    trial: str,
    check: str,
    rows: pd.DataFrame,
    columns: tuple[str, ...],
    is_wrong: Callable[..., np.ndarray],
    sentence: str,
) -> IntegrityRow:
    """Run one row-wise check over the rows that have all its columns."""
    missing = [name for name in columns if name not in rows]
    if not missing:
        values = pd.DataFrame({name: number_column(rows, name) for name in columns}).dropna()
        missing = [] if len(values) else list(columns)
    if missing:
        return _not_checked(trial, check, f"no values of {', '.join(missing)}")
    found = int(is_wrong(*(values[name].to_numpy() for name in columns)).sum())
    return _found(trial, check, (len(values), found), f"rows where {sentence}")


def _not_checked(trial: str, check: str, reason: str) -> IntegrityRow:
    return IntegrityRow(
        trial=trial,
        check=check,
        result="not-checked",
        n_checked=None,
        n_found=None,
        value=None,
        sentence=reason,
    )


def _found(trial: str, check: str, counts: _Finding, sentence: str) -> IntegrityRow:
    return IntegrityRow(
        trial=trial,
        check=check,
        result="look" if counts[1] else "ok",
        n_checked=counts[0],
        n_found=counts[1],
        value=None,
        sentence=sentence,
    )


def _repeats(trial: str, rows: pd.DataFrame, measures: tuple[str, ...]) -> IntegrityRow:
    """Rows whose every measure is that of another row: copied, or one person twice."""
    present = [name for name in measures if name in rows]
    values = pd.DataFrame({name: number_column(rows, name) for name in present}, index=rows.index)
    values = values.dropna(axis=1, how="all").dropna()
    if len(values.columns) < _LEAST_MEASURES or values.empty:
        reason = f"fewer than {_LEAST_MEASURES} measures to compare rows by"
        return _not_checked(trial, "repeated-rows", reason)
    found = int(values.duplicated(keep=False).sum())
    sentence = "rows that equal another row in every measure"
    return _found(trial, "repeated-rows", (len(values), found), sentence)


# ------------------------------------------------------------------ balance at baseline


def _balance(trial: str, people: pd.DataFrame) -> Iterable[IntegrityRow]:
    """Standardised differences between the arms of the randomised, before treatment."""
    randomised = people[~people["code"].isin(["not-randomised", "no-arm", "one-arm-trial"])]
    if randomised.empty:
        return
    columns = {"outcome": randomised["baseline"]}
    for name in randomised.columns:
        if name.startswith("covariate "):
            numbers = covariate_numbers(randomised[name])
            if numbers is not None:
                columns[name.removeprefix("covariate ")] = numbers
    for name, values in columns.items():
        check = f"balance-{name.replace('_', '-')}"
        groups = [
            values[randomised["arm"] == arm].dropna().to_numpy()
            for arm in sorted(set(randomised["arm"]))
        ]
        if min(len(group) for group in groups) < _FEW:
            yield _not_checked(trial, check, f"fewer than {_FEW} values in an arm")
            continue
        yield _worst_balance(trial, check, groups)


def _worst_balance(trial: str, check: str, groups: list[np.ndarray]) -> IntegrityRow:
    worst, worst_z = 0.0, 0.0
    for i, first in enumerate(groups):
        for second in groups[i + 1 :]:
            pooled = math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2)
            if pooled == 0:
                continue
            difference = float(first.mean() - second.mean()) / pooled
            z = difference / math.sqrt(1 / len(first) + 1 / len(second))
            if abs(z) > abs(worst_z):
                worst, worst_z = difference, z
    unlikely = abs(worst_z) > _BALANCE_Z
    return IntegrityRow(
        trial=trial,
        check=check,
        result="look" if unlikely else "ok",
        n_checked=sum(map(len, groups)),
        n_found=None,
        value=abs(worst),
        sentence="largest standardised difference between arms before treatment"
        + (": larger than chance gives once in 1000 trials" if unlikely else ""),
    )
