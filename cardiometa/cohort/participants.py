"""One trial's roster: one row per participant, harmonised; and units of heights and weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import product

import pandas as pd

from ..errors import InputError, Problem, Problems, nearest
from ..files import NAME_RULE, is_safe_name
from .models import PARTICIPANT_COLUMNS, ColumnRule, ReadingLog, TrialDefinition
from .read_table import read_any_table
from .recode import ROSTER_COLUMNS, as_numbers, as_text, harmonise, kind_of, rows_text

# A weight in pounds is 2.2 times that in kilograms, an inch is 0.39 of a centimetre;
# populations differ by less than these factors (a trial of obesity against one of slim adults
# is about 1.7).
_FAR = {"height_cm": 1.15, "weight_kg": 1.8}
_ORDINARY = {"height_cm": 170.0, "weight_kg": 75.0}
_UNITS = {"height_cm": "in", "weight_kg": "lb"}
_FEWEST = 5
# Median body mass index of a trial, kg/m2: weights in pounds give 50 and more.
_BMI = (14.0, 48.0)


def check_body_sizes(
    participants: pd.DataFrame, declared: Collection[tuple[str, str]], log: ReadingLog
) -> None:
    """Problems, and warnings for columns whose unit was ``declared`` (trial, column)."""
    groups = {str(name): rows for name, rows in participants.groupby("trial", sort=True)}
    for (trial, rows), column in product(groups.items(), _FAR):
        reason = _far_from_others(rows[column], participants, trial, column)
        bmi = (rows["weight_kg"] / (rows["height_cm"] / 100) ** 2).dropna()
        if not reason and column == "weight_kg" and len(bmi) >= _FEWEST:
            low, high = _BMI
            if not low <= bmi.median() <= high:
                reason = f"the median body mass index is {bmi.median():.4g} kg/m2"
        if not reason:
            continue
        if (trial, column) in declared:
            log.warnings.append(f"{trial}: {reason}; taken as it is, since its unit is declared.")
        else:
            log.problems.append(
                Problem(
                    where=f"{trial}, {column}",
                    what=reason,
                    why="A wrong unit would distort every index of the trial.",
                    fix=f'Declare the unit under columns: unit = "{_UNITS[column]}", '
                    f'or unit = "{column.rpartition("_")[2]}" if it is right as it is.',
                )
            )


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


FORMULA_SIGNS = ("=", "+", "-", "@")


def read_roster(
    trial: TrialDefinition, log: ReadingLog, *, show: Callable[[str], str] = repr
) -> pd.DataFrame:
    """The participants of ``trial`` (`PARTICIPANT_COLUMNS`, then carried) on the row numbers.

    Empty where the roster cannot be read. ``show`` puts an id into a message (it may withhold it).
    """
    assert trial.participants is not None
    where = f"{trial.name}: {trial.participants.name}"
    try:
        table = read_any_table(trial.participants)
    except InputError as error:
        log.problems += error.listed(where)
        return empty_roster(trial.carry)
    problems = Problems(where)
    columns = [str(column) for column in table.columns]
    for name in sorted(set(trial.columns) - set(ROSTER_COLUMNS)):
        problems.add(f"columns.{name} is for a cohort without images")
    rules = resolve_columns(columns, trial.columns, ROSTER_COLUMNS, problems)
    if "participant_id" not in rules:
        fix = f'Add participant_id = "COLUMN" under columns; the table has {", ".join(columns)}.'
        problems.add("no column contains the participant_id", fix=fix)
        log.problems += problems
        return empty_roster(trial.carry)
    rows = empty_roster(trial.carry).reindex(table.index)
    rows["trial"] = pd.Series(trial.name, index=table.index, dtype=object)
    rows["randomised"] = pd.Series([trial.randomised] * len(table), index=table.index, dtype=object)
    for name, rule in rules.items():
        rows[name] = harmonise(table[rule.column], rule, problems)
    for name in trial.carry:
        if name in table.columns:
            rows[name] = carried_cells(table[name])
        else:
            fix = nearest(name, columns)
            problems.add(f"the carried column {name!r} is not in it", fix=fix)
    check_ids(rows["participant_id"], problems, show)
    if trial.randomised and not rows["arm"].notna().any():
        what = "its column arm is empty" if "arm" in rules else "no column contains the arm"
        problems.add(
            f"the trial is randomised, but {what}",
            why="Without arms no effect can be pooled.",
            fix='Add arm = "COLUMN" under columns, or set randomised = false.',
        )
    used = {rule.column for rule in rules.values()} | set(trial.carry)
    dropped = [column for column in columns if column not in used]
    log.problems += problems
    log.notes += [f"{where}: {len(dropped)} further columns are dropped."] if dropped else []
    if not trial.randomised:
        return rows
    missing, arms = int(rows["arm"].isna().sum()), rows["arm"].dropna().unique()
    if 0 < missing < len(rows):
        log.warnings.append(f"{where}: {missing} of {len(rows)} participants have no arm.")
    if trial.n_randomised is not None and len(rows) != trial.n_randomised:
        log.warnings.append(
            f"{where}: {len(rows)} rows, but n_randomised is {trial.n_randomised}; "
            "the roster should have all randomised participants."
        )
    if len(arms) == 1:
        log.warnings.append(f"{where}: only one arm ({arms[0]}).")
    return rows


def empty_roster(carry: Sequence[str] = ()) -> pd.DataFrame:
    """A roster without rows, its columns of the right types."""
    return pd.DataFrame(
        {
            name: pd.Series(
                dtype="float64"
                if kind_of(name) in ("age", "length", "mass", "day") and name not in carry
                else object
            )
            for name in (*PARTICIPANT_COLUMNS, *carry)
        }
    )


def resolve_columns(
    header: Sequence[str],
    rules: Mapping[str, ColumnRule],
    names: Iterable[str],
    problems: Problems,
) -> dict[str, ColumnRule]:
    """The rule of each harmonised column that the table has; a column named in vain is a problem.

    A harmonised name without a rule is taken from the table as it is.
    """
    found: dict[str, ColumnRule] = {}
    for name in names:
        rule = rules.get(name)
        if rule is None:
            if name in header:
                found[name] = ColumnRule(name=name, column=name)
        elif rule.column in header:
            found[name] = rule
        else:
            fix = nearest(rule.column, header)
            problems.add(f"there is no column {rule.column!r} (for {name})", fix=fix)
    return found


def carried_cells(values: pd.Series) -> pd.Series:
    """A carried column as it is: text, None where blank; signed numbers as numbers.

    Text that starts with a sign is escaped in a CSV; a column of numbers must not be.
    """
    text = as_text(values)
    if text.str.startswith(FORMULA_SIGNS).any():
        numbers, bad = as_numbers(values)
        if not bad.any():
            return numbers
    return text.where(text.ne(""), None)


def check_ids(ids: pd.Series, problems: Problems, show: Callable[[str], str]) -> None:
    """Problems for blank, repeated and unsafe ids, with their rows."""
    blank = ids.eq("")
    if blank.any():
        problems.add("there is no participant_id", at=rows_text(ids.index[blank]))
    folded = ids[~blank].map(str.casefold)
    for _, group in folded[folded.duplicated(keep=False)].groupby(folded, sort=True):
        same = ids[group.index]
        kind = "appears" if len(set(same)) == 1 else "differs only in upper and lower case"
        problems.add(
            f"the participant_id {show(same.iloc[0])} {kind} {len(group)} times",
            at=rows_text(group.index),
            why="A roster has one row per participant.",
            fix="Keep one row; values of visits belong into the scans table.",
        )
    for row, name in ids[~blank].items():
        formula = name.startswith(FORMULA_SIGNS)
        if formula or not is_safe_name(name):
            problems.add(
                f"the participant_id {show(name)} cannot be used",
                at=f"row {row}",
                why="A spreadsheet would interpret it as a formula."
                if formula
                else "It becomes the name of a folder.",
                fix=NAME_RULE,
            )
