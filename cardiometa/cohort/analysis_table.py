"""Read a table for the statistics commands: OUT of ``segment``, its CSV, or any table.

Cells are made the contract's (codes, units, ids as text); failed rows go out with their reason;
what cannot be understood is a problem with its rows. Works by column, so that a million rows take
seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import InputError, Problem, Problems, TableError, nearest
from ..files import RECORD_NAME, read_json, sha256_file
from ..measurement.measures import COLUMNS, MEASURES
from ..records import CohortTable, Exclusion
from .models import ColumnRule, TableOptions
from .participants import resolve_columns
from .plausibility import CheckedColumns, Findings, check_plausible, declared_missing
from .read_table import read_any_table
from .recode import (
    COLUMN_KINDS,
    as_numbers,
    harmonise,
    kind_of,
    no_number,
    parse_columns,
    rows_text,
    values_text,
)

MEASUREMENTS_NAME = "measurements.csv"
ONE_TRIAL = "all"
IMPUTATION = ".imp"
_MEASURE_NAMES = tuple(measure.name for measure in MEASURES)
_NUMBER_NAMES = frozenset(c.name for c in COLUMNS if c.type in ("number", "integer"))
CONVENTIONS = ("model_id", "model_sha256", "papillary", "bsa_formula", "sequence")
_STATUSES = frozenset({"ok", "review", "failed"})
_REASONS = {
    "failed": "The scan could not be measured.",
    "review": "The scan is marked for review and --status ok leaves it out.",
}
# Options of the commands, and names of the same thing that tables often have.
_OPTIONS = {
    "trial": ("--trial", ("study", "site")),
    "participant_id": ("--participant", ("participant", "id", "subject", "patient", "subjid")),
    "age_years": ("--age", ("age",)),
    "sex": ("--sex", ("gender",)),
    "ethnicity": ("--ethnicity", ("race",)),
    "arm": ("--arm", ("treatment", "group", "trt")),
    "visit": ("--visit", ("timepoint", "session")),
    "visit_day": ("--visit-day", ("day",)),
}


def read_analysis_table(path: Path, options: TableOptions | None = None) -> CohortTable:
    """The harmonised table at ``path``; TableError lists every problem.

    ``rows`` is indexed by the row numbers of the file. It always has ``trial``,
    ``participant_id`` and ``status``; any other column only where the table has it, harmonised
    under the contract's name. ``participant_id`` is the row number where the table has none.
    """
    options = options or TableOptions()
    file, name = _locate(path)
    where = file.name
    problems = Problems(where)
    rules, found_problems = column_rules(options)
    problems += found_problems
    table = read_any_table(file, numeric=_numeric_columns(rules, options))
    if table.empty:
        raise TableError(f"{where} has a header, but no rows.")
    found, missing = resolve_columns(table, rules, (*COLUMN_KINDS, *_MEASURE_NAMES), where)
    problems += missing
    table, declared = _without_declared(table, found, options, where)
    rows, warnings = _harmonised(table, found, problems)
    _other_numbers(rows, table, options, problems)
    _check_keys(rows, problems)
    rows, unused, exclusions = _usable(rows, options, problems)
    if options.needed is not None:
        check_plausible(
            CheckedColumns(
                rows=rows,
                where=where,
                needed=options.needed,
                names={name: rule.column for name, rule in found.items()},
                baseline_visit=options.baseline_visit,
                time=options.time,
            ),
            declared,
        )
    problems += declared.problems
    if problems:
        raise TableError(
            f"{where} cannot be used: {len(problems)} problem{'s' * (len(problems) > 1)}.",
            hint=declared.hint(),
            problems=problems,
        )
    return CohortTable(
        rows=rows,
        name=name,
        sha256=sha256_file(file),
        measures=tuple(n for n in _MEASURE_NAMES if n in rows and rows[n].notna().any()),
        conventions=_conventions(rows),
        exclusions=tuple(exclusions),
        warnings=(*declared.warnings, *warnings, *suggest_columns(table, found)),
        unused=unused,
    )


def _without_declared(
    table: pd.DataFrame, rules: Mapping[str, ColumnRule], options: TableOptions, where: str
) -> tuple[pd.DataFrame, Findings]:
    """The table without the codes of ``--missing`` in the needed columns."""
    found = Findings(accept=options.accept)
    if not options.missing:
        return table, found
    names = {rule.column: name for name, rule in rules.items()}
    changed = {}
    for column in map(str, table.columns):
        name = names.get(column, column)
        needed = options.needed is None or {name, column} & {*options.needed}
        if needed and kind_of(name) != "id":
            changed[column] = declared_missing(table[column], options.missing, where, found)
    return table.assign(**changed), found


# ------------------------------------------------------------------ which file, which columns


def _locate(path: Path) -> tuple[Path, str]:
    """The table's file, and the name of the cohort (or of the file)."""
    if not path.is_dir():
        return path, path.stem
    file = path / MEASUREMENTS_NAME
    if not file.is_file():
        raise TableError(
            f"The folder {path.name} has no {MEASUREMENTS_NAME}.",
            hint="Give the OUT folder of a complete `segment` run, or a table.",
        )
    name = path.name
    record = path / RECORD_NAME
    if record.is_file():
        try:
            document = read_json(record)
            name = str(document["options"]["cohort"])
            state = document.get("run", {}).get("state")
        except (InputError, KeyError, TypeError, AttributeError):
            return file, path.name
        _check_finished(path.name, state)
    return file, name


def _check_finished(name: str, state: object) -> None:
    """A run in progress, or a stopped one, still has the table of the run before: an error."""
    hints = {
        "running": "Run the same `segment` command to its end.",
        "writing": "Run the same `segment` command to its end.",
        "shards": "Once all shards are done, run `cardiometa merge` on it.",
    }
    if isinstance(state, str) and state in hints:
        raise TableError(
            f"The output {name} is not finished: {MEASUREMENTS_NAME} is older than its scans, or "
            "lacks some.",
            hint=hints[state],
        )


def column_rules(options: TableOptions) -> tuple[dict[str, ColumnRule], list[Problem]]:
    """The rules of ``--config``, the columns named by flags winning."""
    allowed = (*COLUMN_KINDS, *_MEASURE_NAMES)
    rules, problems = parse_columns(options.columns, "--config", allowed)
    flags: Mapping[str, str | None] = {
        "trial": options.trial,
        "participant_id": options.participant,
        "age_years": options.age,
        "sex": options.sex,
        "ethnicity": options.ethnicity,
        "arm": options.arm,
        "visit": options.visit,
        "visit_day": options.visit_day,
    }
    for name, column in flags.items():
        if column is not None:
            rule = rules.get(name, ColumnRule(name=name, column=column))
            rules[name] = replace(rule, column=column)
    return rules, problems


def _numeric_columns(
    rules: Mapping[str, ColumnRule], options: TableOptions
) -> Callable[[str], bool]:
    """Which columns of the file should contain nothing but numbers."""
    mapped = {rule.column for rule in rules.values() if rule.map is not None}
    named = {
        rule.column
        for rule in rules.values()
        if kind_of(rule.name) in ("number", "age", "length", "mass", "day")
    }
    others = {rule.column for rule in rules.values()} - named
    wanted = (named | set(options.numeric) | _NUMBER_NAMES) - mapped - others
    return lambda column: column in wanted or _is_reported(column)


def _is_reported(column: str) -> bool:
    return column.startswith("reported_") and column != "reported_papillary"


def suggest_columns(table: pd.DataFrame, found: Mapping[str, ColumnRule]) -> list[str]:
    """A hint for each harmonised column that the table seems to have under another name."""
    used = {rule.column for rule in found.values()}
    free = {str(column).casefold(): str(column) for column in table.columns if column not in used}
    hints = []
    for name, (option, words) in _OPTIONS.items():
        if name in found:
            continue
        hints += [
            f"The table has no column {name}, but {free[word]!r}: if that is it, say "
            f"{option} {free[word]}."
            for word in (name, *words)
            if word in free
        ][:1]
    return hints


# ------------------------------------------------------------------ cells


def _harmonised(
    table: pd.DataFrame, rules: Mapping[str, ColumnRule], problems: Problems
) -> tuple[pd.DataFrame, list[str]]:
    """The harmonised columns first, then all others as they are (blank is NaN)."""
    warnings: list[str] = []
    data: dict[str, pd.Series] = {}
    for name, rule in rules.items():
        data[name], found = harmonise(
            unescaped(table[rule.column]), rule, problems.where, adults=False
        )
        problems += found
    if "trial" not in data:
        data["trial"] = pd.Series(ONE_TRIAL, index=table.index, dtype=object)
    if "participant_id" not in data:
        visits = data.get("visit")
        if visits is not None and visits.nunique() >= 2:
            problems.add(
                "there are several visits, but no column contains the participant_id",
                why="The visits of a participant cannot be linked.",
                fix="Name the column with --participant.",
            )
        numbers = [str(row) for row in table.index]
        data["participant_id"] = pd.Series(numbers, index=table.index, dtype=object)
        warnings.append(
            "The table has no participant_id (--participant): each row is taken as one participant."
        )
    warnings += _check_status(data)
    if "status" not in data:
        data["status"] = pd.Series("ok", index=table.index, dtype=object)
    used = {rule.column for rule in rules.values()}
    for column in table.columns:
        if column not in used and column not in data:
            cells = table[column]
            blank = cells.isna() | cells.astype(object).eq("") if cells.dtype != float else None
            data[str(column)] = cells if blank is None else cells.mask(blank)
    order = [name for name in (*COLUMN_KINDS, *_MEASURE_NAMES) if name in data]
    rest = [name for name in data if name not in order]
    return pd.DataFrame({name: data[name] for name in (*order, *rest)}), warnings


def unescaped(cells: pd.Series) -> pd.Series:
    """Text without the apostrophe that keeps a spreadsheet from reading it as a formula."""
    if pd.api.types.is_numeric_dtype(cells):
        return cells
    text = cells.astype("str") if cells.dtype != object else cells
    escaped = text.str.startswith(("'=", "'+", "'-", "'@")).eq(True)
    return cells.mask(escaped, text.str[1:]) if escaped.any() else cells


def _check_status(data: dict[str, pd.Series]) -> list[str]:
    """A column ``status`` of other words than ours is the user's own and is left alone."""
    status = data.get("status")
    if status is None:
        return []
    words = set(status.dropna())
    if words & _STATUSES or not words:
        return []
    own = data.pop("status")
    data["status_of_table"] = own
    held = values_text(own.dropna(), 5)
    return [f"The column status contains {held}: it is not read as ok, review or failed."]


def _other_numbers(
    rows: pd.DataFrame, table: pd.DataFrame, options: TableOptions, problems: Problems
) -> None:
    """Make numbers of the further columns that must be; those asked for must exist."""
    columns = [str(column) for column in table.columns]
    for name in options.numeric:
        if name not in rows:
            problems.add(f"there is no column {name!r}", fix=nearest(name, columns))
    known = (*COLUMN_KINDS, *_MEASURE_NAMES)
    wanted = [
        name
        for name in rows.columns
        if name not in known
        and (name in options.numeric or name in _NUMBER_NAMES or _is_reported(name))
    ]
    for name in wanted:
        numbers, bad = as_numbers(rows[name])
        if bad.any():
            where = f"{problems.where}, column {name!r}"
            problems.append(no_number(where, rows[name], bad))
        rows[name] = numbers


# ------------------------------------------------------------------ rows


def _check_keys(rows: pd.DataFrame, problems: Problems) -> None:
    """Problems for rows without a trial or participant, and for two rows of one visit."""
    for name in ("trial", "participant_id"):
        blank = rows[name].eq("")
        if blank.any():
            fix = "Fill it in, or remove the rows."
            problems.add(f"there is no {name}", at=rows_text(rows.index[blank]), fix=fix)
    if "visit" not in rows:
        return
    # Visits without a name are distinguished by their day, where there is one.
    keys = [rows["trial"], rows["participant_id"], rows["visit"]]
    if IMPUTATION in rows:  # completed copies of one table, one below the other
        keys.append(rows[IMPUTATION])
    unnamed = rows["visit"].isna()
    if unnamed.any():
        if "visit_day" not in rows:
            keys.append(pd.Series(np.where(unnamed, np.arange(len(rows)), -1), index=rows.index))
        else:
            keys.append(rows["visit_day"].where(unnamed, np.inf))
    codes = pd.DataFrame({n: pd.factorize(key)[0] for n, key in enumerate(keys)}, index=rows.index)
    twice = codes.duplicated(keep=False)
    groups = list(codes[twice].groupby(list(codes.columns), sort=False)) if twice.any() else []
    for _, group in groups[:_MOST_LISTED]:
        problems.add(
            f"one participant has {len(group)} rows of one visit",
            at=rows_text(group.index),
            why="It is unknown which value counts.",
            fix="Keep one, or give the visits different names (--visit).",
        )
    if len(groups) > _MOST_LISTED:
        problems.add(f"{len(groups) - _MOST_LISTED} more visits appear twice")


_MOST_LISTED = 50


def _usable(
    rows: pd.DataFrame, options: TableOptions, problems: Problems
) -> tuple[pd.DataFrame, pd.DataFrame, list[Exclusion]]:
    """The rows to use, and the others with their reasons; a foreign status is a problem."""
    status = rows["status"].fillna("ok")
    foreign = ~status.isin(_STATUSES)
    if foreign.any():
        problems.add(
            f"unknown {values_text(status[foreign])}",
            at=f"column 'status', {rows_text(rows.index[foreign])}",
            why="Known are ok, review and failed; failed rows are never used.",
            fix="Map the column status under [columns] of --config, or rename it.",
        )
    dropped = status.eq("failed") | (status.eq("review") & (options.status == "ok"))
    gone = rows[dropped]
    visits = gone["visit"].fillna("") if "visit" in gone else pd.Series("", index=gone.index)
    exclusions = [
        Exclusion(
            stage="scan",
            trial=trial,
            participant_id=person,
            visit=visit,
            code=word,
            sentence=_REASONS[word],
        )
        for trial, person, visit, word in zip(
            gone["trial"], gone["participant_id"], visits, status[dropped], strict=True
        )
    ]
    return rows[~dropped].assign(status=status[~dropped]), gone, exclusions


def _conventions(rows: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """The values met of the facts that must not be mixed; a column without values is empty."""
    return {
        name: tuple(sorted({str(value) for value in rows[name].dropna().unique()}))
        for name in CONVENTIONS
        if name in rows
    }
