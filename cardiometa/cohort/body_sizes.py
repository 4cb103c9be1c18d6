"""Find trials whose heights or weights are in another unit than they say."""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import product

import pandas as pd

from ..errors import Problem

# A person in pounds weighs 2.2 times what one in kilograms does, an inch is 0.39 of a centimetre;
# populations differ by less than these factors (a trial of obesity against one of slim adults
# is about 1.7).
_FAR = {"height_cm": 1.15, "weight_kg": 1.8}
_ORDINARY = {"height_cm": 170.0, "weight_kg": 75.0}
_UNITS = {"height_cm": "in", "weight_kg": "lb"}
_FEWEST = 5
# Median body mass index of a trial, kg/m2: weights in pounds give 50 and more.
_BMI = (14.0, 48.0)


def check_body_sizes(
    participants: pd.DataFrame, declared: Collection[tuple[str, str]]
) -> tuple[list[Problem], list[str]]:
    """Problems, and warnings for columns whose unit was ``declared`` (trial, column)."""
    problems: list[Problem] = []
    warnings: list[str] = []
    groups = {str(name): rows for name, rows in participants.groupby("trial", sort=True)}
    for (trial, rows), column in product(groups.items(), _FAR):
        reason = _far_from_others(rows[column], participants, trial, column)
        if not reason and column == "weight_kg":
            reason = _odd_bmi(rows)
        if not reason:
            continue
        if (trial, column) in declared:
            warnings.append(f"{trial}: {reason}; taken as it is, since its unit is declared.")
        else:
            problems.append(
                Problem(
                    where=f"{trial}, {column}",
                    what=reason,
                    why="A wrong unit would spoil every index of the trial.",
                    fix=f'Declare the unit under columns: unit = "{_UNITS[column]}", '
                    f'or unit = "{column.rpartition("_")[2]}" if it is right as it stands.',
                )
            )
    return problems, warnings


def _far_from_others(values: pd.Series, participants: pd.DataFrame, trial: str, column: str) -> str:
    others = participants.loc[participants["trial"].ne(trial)]
    medians = others[column].groupby(others["trial"]).agg(["median", "count"])
    medians = medians[medians["count"] >= _FEWEST]
    if values.count() < _FEWEST or medians.empty:
        return ""
    own, other = float(values.median()), float(medians["median"].median())
    if max(own / other, other / own) < _FAR[column]:
        return ""
    # Of two trials that differ, the one further from an ordinary adult is asked about.
    if abs(math.log(own / _ORDINARY[column])) < abs(math.log(other / _ORDINARY[column])):
        return ""
    return f"the median is {own:.4g}, that of the other trials {other:.4g}"


def _odd_bmi(rows: pd.DataFrame) -> str:
    bmi = rows["weight_kg"] / (rows["height_cm"] / 100) ** 2
    if bmi.count() < _FEWEST:
        return ""
    median = float(bmi.median())
    if _BMI[0] <= median <= _BMI[1]:
        return ""
    return f"the median body mass index is {median:.4g} kg/m2"
