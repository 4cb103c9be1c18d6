"""Read tables for the statistics commands: OUT of ``segment``, its CSV, or any tables.

Columns are recognised, cells are made the contract's (codes, units, ids as text); failed rows go
out with their reason; what cannot be understood is a problem with its rows. Works by column, so
that a million rows take seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import InputError, Problem, Problems, TableError, UsageError, nearest
from ..files import RECORD_NAME, read_json, sha256_bytes, sha256_file
from ..measurement.measures import COLUMN_NAMES, COLUMNS, MEASURES
from ..records import CohortTable, Exclusion, InputNotice, SeriousWarning
from .definition import DEFINED_COLUMNS, parse_columns, parse_definition
from .infer_columns import FLAGS, Recognised, recognise
from .models import CohortDefinition, ColumnRule, TableOptions, TrialDefinition
from .participants import resolve_columns
from .plausibility import CheckedColumns, Findings, check_plausible, declared_missing
from .read_table import RawTable, Wanted, read_raw
from .recode import (
    CODES,
    add_no_number,
    as_numbers,
    harmonise,
    kind_of,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A file to read: its trial where the file does not say it, and the rules of its columns.

    ``definition`` is of a cohort.toml; it decides the trial.
    """

    file: Path
    rules: Mapping[str, ColumnRule]
    trial: str | None = None
    definition: TrialDefinition | None = None


@dataclass(slots=True, kw_only=True)
class _Part:
    """One file as it was understood."""

    rows: pd.DataFrame
    rules: Mapping[str, ColumnRule] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_analysis_table(
    tables: Path | Sequence[Path], options: TableOptions | None = None
) -> CohortTable:
    """The harmonised table of a file, of an output of ``segment``, of a cohort.toml or of files.

    ``rows`` is indexed by the row numbers of the file (``BETA.csv:7`` where there are several). It
    always has ``trial``, ``participant_id`` and ``status``; any other column only where the table
    has it, harmonised under the contract's name. ``participant_id`` is the row number where the
    table has none; the trial is the file's name where several files are read and no column says
    it. TableError lists every problem.
    """
    options = options or TableOptions()
    problems = Problems("--config")
    rules = column_rules(options, problems)
    sources, name, definition = _sources(tables, rules)
    findings = Findings(accept=options.accept)
    parts = [_read_part(source, options, problems, findings) for source in sources]
    problems.where = sources[0].file.name if len(sources) == 1 else name
    rows = _joined(parts, sources)
    _check_keys(rows, problems)
    rows, unused, exclusions = _usable(rows, options, problems)
    names = {name: rule.column for part in parts for name, rule in part.rules.items()}
    if options.needed is not None:
        check_plausible(
            CheckedColumns(
                rows=rows,
                where=problems.where,
                needed=options.needed,
                names=names,
                baseline_visit=options.baseline_visit,
                time=options.time,
                measured=_is_measured(sources),
            ),
            findings,
        )
    found = list(dict.fromkeys([*problems, *findings.problems]))
    if found:
        raise TableError(
            f"{problems.where} cannot be used: {len(found)} problem{'s' * (len(found) > 1)}.",
            hint="\n  ".join(filter(None, (findings.hint(), _config_hint(found, sources)))),
            problems=found,
            missing=findings.missing,
        )
    return CohortTable(
        rows=rows,
        name=name,
        sha256=_digest(sources, definition),
        measures=tuple(n for n in _MEASURE_NAMES if n in rows and rows[n].notna().any()),
        conventions=_conventions(rows),
        exclusions=tuple(exclusions),
        warnings=(
            *findings.warnings,
            *dict.fromkeys(line for part in parts for line in part.warnings),
            *_notices(parts, sources),
        ),
        unused=unused,
        columns={name: column for name, column in names.items() if name != column},
        healthy_rule="" if definition is None else _healthy_rule(definition),
    )


def _config_hint(problems: Sequence[Problem], sources: Sequence[_Source]) -> str:
    """Who writes the lines that some problems ask for."""
    if not any("[columns]" in problem.fix for problem in problems) or sources[0].definition:
        return ""
    return (
        f"`cardiometa init {sources[0].file.name} --out columns.toml` writes the lines of "
        "[columns]; check them, then add --config columns.toml."
    )


def _is_measured(sources: Sequence[_Source]) -> bool:
    """True for the table of an output of ``segment``, in its place."""
    files = [source.file for source in sources if source.file.name == MEASUREMENTS_NAME]
    return len(sources) == 1 and any((path.parent / RECORD_NAME).is_file() for path in files)


# ------------------------------------------------------------------ which files


def _sources(
    tables: Path | Sequence[Path], rules: Mapping[str, ColumnRule]
) -> tuple[list[_Source], str, CohortDefinition | None]:
    """The files, the name of the cohort, and its cohort.toml where that is the table."""
    paths = [tables] if isinstance(tables, Path) else list(tables)
    if len(paths) == 1 and paths[0].suffix.lower() == ".toml":
        return _defined_sources(paths[0])
    if len(paths) == 1:
        file, name = _locate(paths[0])
        return [_Source(file=file, rules=rules)], name, None
    wrong = [path.name for path in paths if path.is_dir() or path.suffix.lower() == ".toml"]
    if wrong:
        raise TableError(
            f"{', '.join(wrong)} cannot be read together with other tables.",
            hint="Give several tables, one per trial; or one output of segment; or a cohort.toml.",
        )
    names = [path.stem for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"Several tables are named {', '.join(twice)}.",
            hint="A table's name is its trial: give each trial's table a name of its own.",
        )
    sources = [_Source(file=path, rules=rules, trial=path.stem) for path in paths]
    return sources, f"{len(paths)} tables", None


def _digest(sources: Sequence[_Source], definition: CohortDefinition | None) -> str:
    """The SHA-256 of a file, or of the hashes of all and the names of their trials."""
    if definition is None and len(sources) == 1:
        return sha256_file(sources[0].file)
    hashes = sorted(f"{source.trial} {sha256_file(source.file)}" for source in sources)
    stated = [] if definition is None else [definition.sha256]
    return sha256_bytes("\n".join([*stated, *hashes]).encode())


def _healthy_rule(definition: CohortDefinition) -> str:
    """The trials' own rules of who is healthy, each with its trial unless all are one."""
    rules = {trial.name: trial.healthy_rule for trial in definition.trials if trial.healthy_rule}
    if len(rules) == len(definition.trials) and len(set(rules.values())) == 1:
        return next(iter(rules.values()))
    return "; ".join(f"{name}: {rule}" for name, rule in sorted(rules.items()))


def _defined_sources(path: Path) -> tuple[list[_Source], str, CohortDefinition]:
    """The trials' tables of a cohort.toml without images."""
    definition, found = parse_definition(path)
    if definition is None or found:
        raise TableError(f"{path.name} cannot be used.", problems=found)
    if any(trial.scans is not None for trial in definition.trials):
        raise TableError(
            f"{path.name} is a cohort with images.",
            hint="Run `cardiometa segment` on it and give its OUT folder.",
        )
    sources = []
    for trial in definition.trials:
        assert trial.participants is not None
        sources.append(
            _Source(
                file=trial.participants, rules=trial.columns, trial=trial.name, definition=trial
            )
        )
    return sources, definition.name, definition


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


def column_rules(options: TableOptions, problems: Problems) -> dict[str, ColumnRule]:
    """The rules of ``--config``, the columns named by flags winning.

    A faulty rule of a column that the analysis does not use is left out.
    """
    faults = Problems(problems.where)
    rules = parse_columns(options.columns, faults, DEFINED_COLUMNS)
    names = {*DEFINED_COLUMNS, *map(str, options.columns)}
    spared = names - {*(options.needed or names)}
    for name in [*rules]:
        if name in spared and any(f"columns.{name}" in fault.where for fault in faults):
            del rules[name]
    problems += [
        fault
        for fault in faults
        if not any(fault.where.endswith(f"columns.{name}") for name in spared)
    ]
    for name, flag in FLAGS.items():
        column = getattr(options, flag.removeprefix("--").replace("-", "_"))
        if column is not None:
            rule = rules.get(name, ColumnRule(name=name, column=column))
            rules[name] = replace(rule, column=column)
    return rules


# ------------------------------------------------------------------ which columns


@dataclass(slots=True, kw_only=True)
class _Reader:
    """One file while it is read: what its header said, and what the analysis needs of it."""

    source: _Source
    options: TableOptions
    problems: Problems
    findings: Findings
    recognised: Recognised = field(default_factory=Recognised)

    def choose(self, header: Sequence[str]) -> Wanted:
        """The columns to read, once the header is known."""
        given = self.source.rules
        self.recognised = recognise(header, {n: rule.column for n, rule in given.items()})
        rules = self.rules
        mapped = {rule.column for rule in rules.values() if rule.map is not None}
        numbers = {r.column for name, r in rules.items() if kind_of(name) not in CODES} - mapped
        others = {rule.column for rule in rules.values()} - numbers
        numbers |= {
            c for c in header if c in self.options.numeric or c in _NUMBER_NAMES or _is_reported(c)
        } - others
        return Wanted(
            columns=[column for column in header if column in others or self._is_wanted(column)],
            numbers=numbers,
            texts={rule.column for name, rule in rules.items() if kind_of(name) == "id"},
        )

    @property
    def rules(self) -> dict[str, ColumnRule]:
        """The rules given, and those of the columns recognised."""
        return {**self.recognised.rules, **self.source.rules}

    def needs(self, name: str) -> bool:
        """True where the analysis uses a harmonised column, by this name or the user's."""
        needed = self.options.needed
        rule = self.rules.get(name)
        return needed is None or name in needed or (rule is not None and rule.column in needed)

    def _is_wanted(self, column: str) -> bool:
        """All columns are read where it is not known which are needed."""
        needed = self.options.needed
        if needed is None or column in needed or column in self.options.numeric:
            return True
        used = {rule.column for rule in self.rules.values()}
        return (
            column in used
            or column in COLUMN_NAMES
            or _is_reported(column)
            or (column in (IMPUTATION, "status"))
        )

    def fault(self, name: str, what: str, why: str = "", fix: str = "") -> list[str]:
        """A problem where the column is needed, else a notice that it is not used."""
        if self.needs(name):
            self.problems.add(what, why=why, fix=fix)
            return []
        return [f"{name} is not used: {what}."]


def _is_reported(column: str) -> bool:
    return column.startswith("reported_") and column != "reported_papillary"


def _read_part(
    source: _Source, options: TableOptions, problems: Problems, findings: Findings
) -> _Part:
    """One file, harmonised; its problems are added to ``problems``."""
    own = Problems(source.file.name)
    reader = _Reader(source=source, options=options, problems=own, findings=findings)
    try:
        raw = read_raw(source.file, options, reader.choose)
    except TableError as error:
        if source.trial is None:
            raise
        first = Problem(where=own.where, what=error.message.rstrip("."), fix=error.hint)
        problems += error.problems or (first,)
        return _Part(rows=pd.DataFrame())
    if raw.rows.empty:
        raise TableError(f"{own.where} has a header, but no rows.")
    part = _Part(rows=raw.rows, notices=list(raw.notices))
    names = dict.fromkeys((*DEFINED_COLUMNS, *reader.rules))
    found = resolve_columns(raw.header, reader.rules, names, own)
    _ask_which(reader, part)
    part.notices += _recognitions(reader, found)
    part.rules = _harmonised(raw, found, reader, part)
    _other_numbers(part, raw, reader)
    problems += own
    return part


def _ask_which(reader: _Reader, part: _Part) -> None:
    """A column that two fit is a question; so is a trial that no column tells, where it matters."""
    for name, columns in reader.recognised.several.items():
        if name == "trial" and reader.source.definition is not None:
            continue
        chosen = {*(reader.options.needed or ()), *reader.options.numeric}
        if chosen.issuperset(columns):
            continue
        shown = " and ".join(map(repr, columns))
        flag = FLAGS.get(name)
        ways = [f"{flag} {column!r}" if flag else f"{name} = {column!r}" for column in columns]
        where = "" if flag else " under [columns] of --config"
        part.notices += reader.fault(
            name,
            f"{shown} could {'both' if len(columns) == 2 else 'each'} be the column {name}"
            if len(columns) > 1
            else f"{shown} could be the trial or the participant",
            fix=f"Say which: {' or '.join(ways)}{where}.",
        )


def _recognitions(reader: _Reader, found: Mapping[str, ColumnRule]) -> list[str]:
    """Every column that was recognised by its name, on one line."""
    named = [
        f"{name} = {rule.column}{f' in {rule.unit}' if rule.unit else ''}"
        for name, rule in found.items()
        if name not in reader.source.rules and rule.column != name
    ]
    return [f"by their names, {', '.join(named)}."] if named else []


# ------------------------------------------------------------------ cells


def _harmonised(
    raw: RawTable, rules: Mapping[str, ColumnRule], reader: _Reader, part: _Part
) -> dict[str, ColumnRule]:
    """Make the rows harmonised: these columns first, all others as they are (blank is NaN).

    Gives back the rules of the columns that could be used.
    """
    table, where = _without_declared(raw.rows, rules, reader), reader.problems.where
    data: dict[str, pd.Series] = {}
    columns = [rule.column for rule in rules.values()]
    for name, rule in rules.items():
        found = Problems(where)
        example = raw.ambiguous.get(rule.column)
        if example is not None and kind_of(name) not in CODES:
            _ask_decimal(found, rule.column, example)
        else:
            # A column that is done is let go, so that a large table is not in memory twice.
            cells = (
                table.pop(rule.column) if columns.count(rule.column) == 1 else table[rule.column]
            )
            data[name] = harmonise(unescaped(cells), rule, found, adults=False)
        if found and not reader.needs(name):
            data.pop(name, None)
            # Not which values: the page may be released.
            part.notices.append(
                f"{rule.column} ({name}) is not used: some of its cells are not understood."
            )
        else:
            reader.problems += found
    used = {rule.column for rule in rules.values()}
    _add_trial(data, table, reader, part)
    _add_participants(data, table, reader, part)
    part.warnings += _check_status(data)
    if "status" not in data:
        data["status"] = pd.Series("ok", index=table.index, dtype=object)
    for column in table.columns:
        if column not in used and column not in data:
            cells = table[column]
            if column in raw.ambiguous and column in (reader.options.needed or ()):
                _ask_decimal(reader.problems, str(column), raw.ambiguous[str(column)])
            blank = cells.isna() | cells.astype(object).eq("") if cells.dtype != float else None
            data[str(column)] = cells if blank is None else cells.mask(blank)
    order = [name for name in DEFINED_COLUMNS if name in data]
    rest = [name for name in data if name not in order]
    part.rows = pd.DataFrame({name: data[name] for name in (*order, *rest)})
    return {name: rule for name, rule in rules.items() if name in data}


def _without_declared(
    table: pd.DataFrame, rules: Mapping[str, ColumnRule], reader: _Reader
) -> pd.DataFrame:
    """The table without the codes of ``--missing`` in the needed columns."""
    options, where = reader.options, reader.problems.where
    names = {rule.column: name for name, rule in rules.items()}
    changed = {}
    for column in map(str, table.columns) if options.missing else ():
        name = names.get(column, column)
        needed = options.needed is None or {name, column} & {*options.needed}
        if needed and kind_of(name) != "id":
            cells = table[column]
            changed[column] = declared_missing(cells, options.missing, where, reader.findings)
    return table.assign(**changed) if changed else table


def _ask_decimal(problems: Problems, column: str, example: str) -> None:
    sign = "," if "," in example else "."
    problems.add(
        f"{example!r} may be {example.replace(sign, '')} or {example.replace(sign, '.')}",
        at=f"column {column!r}",
        why="No cell of the column shows which sign is the decimal one.",
        fix="Say it with --decimal . or --decimal , (a comma).",
    )


def _add_trial(
    data: dict[str, pd.Series], table: pd.DataFrame, reader: _Reader, part: _Part
) -> None:
    """The trial: of the definition, a column, the file's name, ``--single-trial``, or one."""
    source, options, problems = reader.source, reader.options, reader.problems
    if source.definition is not None:
        names = sorted(set(data["trial"]) - {""}) if "trial" in data else []
        if len(names) > 1:
            column = reader.rules["trial"].column
            problems.add(
                f"the table of the trial {source.trial} has {len(names)} trials in {column!r}",
                fix="Make one table for each trial.",
            )
        data.pop("trial", None)
        if source.definition.randomised is False or "randomised" not in data:
            stated = [source.definition.randomised] * len(table)
            data["randomised"] = pd.Series(stated, index=table.index, dtype=object)
    if "trial" in data:
        if options.single_trial is not None:
            named = reader.rules["trial"].column
            problems.add(
                f"--single-trial {options.single_trial}, but the column {named!r} contains the "
                "trial",
                fix="Leave it out, or remove the column.",
            )
        return
    like = ", ".join(map(repr, reader.recognised.like_trial))
    asked = "trial" in reader.recognised.several
    name = options.single_trial if source.definition is None else None
    name = name or source.trial
    if name is not None and name == source.trial and source.definition is None:
        part.notices.append(f"the trial is the file's name, {name}.")
    elif name is None and not asked and options.needed and "trial" in options.needed:
        problems.add(
            "no column contains the trial" + (f"; {like} may be it" if like else ""),
            why="Trials pooled as if they were one give a wrong effect and a wrong interval.",
            fix="Name it with --trial, or state with --single-trial NAME that there is only one.",
        )
    elif name is None and like:
        part.warnings.append(
            SeriousWarning(
                f"No column was taken for the trial, although {like} may be it: all rows are "
                "taken as one trial. Name it with --trial."
            )
        )
    data["trial"] = pd.Series(name or ONE_TRIAL, index=table.index, dtype=object)


def _add_participants(
    data: dict[str, pd.Series], table: pd.DataFrame, reader: _Reader, part: _Part
) -> None:
    """The row number as id where the table has no participants."""
    if "participant_id" in data:
        return
    visits = data.get("visit")
    if visits is not None and visits.nunique() >= 2:
        reader.problems.add(
            "there are several visits, but no column contains the participant_id",
            why="The visits of a participant cannot be linked.",
            fix="Name the column with --participant.",
        )
    numbers = [str(row) for row in table.index]
    data["participant_id"] = pd.Series(numbers, index=table.index, dtype=object)
    part.warnings.append(
        "The table has no participant_id (--participant): each row is taken as one participant."
    )


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


def _other_numbers(part: _Part, raw: RawTable, reader: _Reader) -> None:
    """Make numbers of the further columns that must be; those asked for must exist."""
    rows, options, problems = part.rows, reader.options, reader.problems
    own = {rule.column for rule in part.rules.values()}
    for name in options.numeric:
        if name not in rows and name not in own and name not in raw.header:
            problems.add(f"there is no column {name!r}", fix=nearest(name, raw.header))
    wanted = [
        name
        for name in rows.columns
        if name not in DEFINED_COLUMNS
        and (name in options.numeric or name in _NUMBER_NAMES or _is_reported(name))
    ]
    for name in wanted:
        numbers, bad = as_numbers(rows[name])
        if bad.any():
            add_no_number(problems, f"column {name!r}", rows[name], bad)
        rows[name] = numbers


def _notices(parts: Sequence[_Part], sources: Sequence[_Source]) -> list[InputNotice]:
    """Each notice once, after the files that it is true of."""
    files: dict[str, list[str]] = {}
    for part, source in zip(parts, sources, strict=True):
        for line in part.notices:
            files.setdefault(line, []).append(source.file.name)
    return [InputNotice(f"{', '.join(names)}: {line}") for line, names in files.items()]


def _joined(parts: Sequence[_Part], sources: Sequence[_Source]) -> pd.DataFrame:
    """The rows of all files; of several files each row is called by its file and its number."""
    if len(parts) == 1:
        return parts[0].rows
    frames = []
    for part, source in zip(parts, sources, strict=True):
        if not part.rows.empty:
            labels = [f"{source.file.name}:{row}" for row in part.rows.index]
            frames.append(part.rows.set_axis(pd.Index(labels, dtype=object), axis=0))
    if not frames:
        return pd.DataFrame({name: [] for name in ("trial", "participant_id", "status")})
    rows = pd.concat(frames)
    rows["status"] = rows["status"].fillna("ok")
    return rows


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
