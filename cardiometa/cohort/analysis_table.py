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

from ..errors import InputError, Problems, TableError, UsageError, nearest
from ..files import RECORD_NAME, read_json, sha256_bytes, sha256_file
from ..manifest import licence_of
from ..measurement.measures import COLUMN_NAMES, COLUMNS, LATER_COLUMNS, MEASURES
from ..measurement.radiomics import TABLE_NAME as RADIOMICS_NAME
from ..records import CohortTable, Exclusion, InputNotice, SeriousWarning
from .definition import DEFINED_COLUMNS, parse_columns, parse_definition
from .infer_columns import FLAGS, Recognised, recognise
from .models import CohortDefinition, ColumnRule, TableOptions, TrialDefinition
from .participants import resolve_columns
from .plausibility import CheckedColumns, Findings, check_plausible, declared_missing
from .read_table import RawTable, Wanted, read_raw, table_header
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
_NUMBER_NAMES = frozenset(
    c.name for c in (*COLUMNS, *LATER_COLUMNS) if c.type in ("number", "integer")
)
CONVENTIONS = ("model_id", "model_sha256", "papillary", "bsa_formula", "sequence")
_STATUSES = frozenset({"ok", "review", "failed"})
_UNFINISHED = {
    **dict.fromkeys(("running", "writing"), "Run the same `segment` command to its end."),
    "shards": "Once all shards are done, run `cardiometa merge` on it.",
}
_REASONS = {
    "failed": "The scan could not be measured.",
    "review": "The scan is marked for review and --status ok leaves it out.",
}


@dataclass(slots=True, kw_only=True)
class _File:
    """A file to read, and what was understood of it.

    ``given`` are rules of columns; ``trial`` is its trial where no column says it; ``definition``
    is that of a cohort.toml, which decides the trial. ``rules`` are of the columns used;
    ``features``: the table of radiomic features that was joined.
    """

    path: Path
    options: TableOptions
    given: Mapping[str, ColumnRule]
    trial: str | None = None
    definition: TrialDefinition | None = None
    recognised: Recognised = field(default_factory=Recognised)
    rules: dict[str, ColumnRule] = field(default_factory=dict)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    notices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    features: Path | None = None

    def choose(self, header: Sequence[str]) -> Wanted:
        """The columns to read, once the header is known: all where it is not known which."""
        options = self.options
        self.recognised = recognise(header, {n: rule.column for n, rule in self.given.items()})
        self.rules = rules = {**self.recognised.rules, **self.given}
        used = {rule.column for rule in rules.values()}
        mapped = {rule.column for rule in rules.values() if rule.map is not None}
        numbers = {r.column for name, r in rules.items() if kind_of(name) not in CODES} - mapped
        others = used - numbers
        measured = {c for c in header if c in _NUMBER_NAMES or _is_reported(c)}
        numbers |= ({*header} & {*options.numeric} | measured) - others
        asked = {*(header if options.needed is None else options.needed), *options.numeric}
        read = used | asked | {*COLUMN_NAMES, IMPUTATION, "status"}
        return Wanted(
            columns=[c for c in header if c in read or _is_reported(c)],
            numbers=numbers,
            texts={rule.column for name, rule in rules.items() if kind_of(name) == "id"},
        )

    def needs(self, name: str) -> bool:
        """True where the analysis uses a harmonised column, by this name or the user's."""
        needed = self.options.needed
        rule = self.rules.get(name)
        return needed is None or name in needed or (rule is not None and rule.column in needed)

    def read(self, problems: Problems, findings: Findings) -> None:
        """Make the rows harmonised: these columns first, all others as they are (blank is NaN)."""
        own = Problems(self.path.name)
        try:
            raw = read_raw(self.path, self.options, self.choose)
        except TableError as error:
            if self.trial is None:
                raise
            problems += error.listed(own.where)
            return
        if raw.rows.empty:
            raise TableError(f"{own.where} has a header, but no rows.")
        raw = self._with_features(raw)
        self.notices += raw.notices
        names = dict.fromkeys((*DEFINED_COLUMNS, *self.rules))
        self.rules = resolve_columns(raw.header, self.rules, names, own)
        self._ask_which(own)
        named = [
            f"{name} = {rule.column}{f' in {rule.unit}' if rule.unit else ''}"
            for name, rule in self.rules.items()
            if name not in self.given and rule.column != name
        ]
        self.notices += [f"by their names, {', '.join(named)}."] if named else []
        self._harmonise(raw, own, findings)
        # The further columns that must be numbers; those asked for must exist.
        numeric, used = self.options.numeric, {rule.column for rule in self.rules.values()}
        for name in numeric:
            if name not in self.rows and name not in used and name not in raw.header:
                own.add(f"there is no column {name!r}", fix=nearest(name, raw.header))
        for name in self.rows.columns:
            if name not in DEFINED_COLUMNS and (
                name in numeric or name in _NUMBER_NAMES or _is_reported(name)
            ):
                numbers, bad = as_numbers(self.rows[name])
                if bad.any():
                    add_no_number(own, f"column {name!r}", self.rows[name], bad)
                self.rows[name] = numbers
        problems += own

    def _with_features(self, raw: RawTable) -> RawTable:
        """The table of an output with the radiomic features that the analysis names."""
        path, keys = self.path.with_name(RADIOMICS_NAME), ["trial", "participant_id", "visit"]
        asked = {*(self.options.needed or ()), *self.options.numeric} - {*raw.header}
        if self.path.name != MEASUREMENTS_NAME or not asked or not path.is_file():
            return raw
        header = table_header(path)
        named = [name for name in header if name in asked - {*keys}]
        if not named:
            return raw
        self.features = path
        wanted = Wanted(columns=[*keys, *named], numbers=named, texts=keys)
        found = read_raw(path, None, lambda _header: wanted).rows.astype(dict.fromkeys(keys, str))
        ids = raw.rows[keys].astype(str)
        joined = ids.merge(found, on=keys, how="left", validate="one_to_one")[named]
        rows = raw.rows.assign(**joined.set_index(raw.rows.index))
        return replace(raw, rows=rows, header=(*raw.header, *named))

    def _ask_which(self, problems: Problems) -> None:
        """A column that two fit is a question where the analysis uses it, else a notice."""
        asked = {*(self.options.needed or ()), *self.options.numeric}
        for name, columns in self.recognised.several.items():
            if asked.issuperset(columns) or (name == "trial" and self.definition is not None):
                continue
            flag = FLAGS.get(name)
            ways = [f"{flag} {column!r}" if flag else f"{name} = {column!r}" for column in columns]
            where = "" if flag else " under [columns] of --config"
            what = f"{' and '.join(map(repr, columns))} could "
            if len(columns) == 1:
                what += "be the trial or the participant"
            else:
                what += f"{'both' if len(columns) == 2 else 'each'} be the column {name}"
            if self.needs(name):
                problems.add(what, fix=f"Say which: {' or '.join(ways)}{where}.")
            else:
                self.notices.append(f"{name} is not used: {what}.")

    def _harmonise(self, raw: RawTable, problems: Problems, findings: Findings) -> None:
        table = self._without_declared(raw.rows, problems.where, findings)
        data: dict[str, pd.Series] = {}
        columns = [rule.column for rule in self.rules.values()]
        for name, rule in self.rules.items():
            found = Problems(problems.where)
            example = raw.ambiguous.get(rule.column)
            if example is not None and kind_of(name) not in CODES:
                _ask_decimal(found, rule.column, example)
            else:
                # A column that is done is let go, so that a large table is not in memory twice.
                take = table.pop if columns.count(rule.column) == 1 else table.__getitem__
                data[name] = harmonise(unescaped(take(rule.column)), rule, found, adults=False)
            if found and not self.needs(name):
                data.pop(name, None)
                # Not which values: the page may be released.
                self.notices.append(
                    f"{rule.column} ({name}) is not used: some of its cells are not understood."
                )
            else:
                problems += found
        self._add_trial(data, table, problems)
        self._add_participants(data, table, problems)
        # A column of other words than ours is the user's own and is left alone.
        words = data["status"].dropna() if "status" in data else pd.Series(dtype=object)
        if not words.empty and not words.isin(_STATUSES).any():
            data["status_of_table"] = data.pop("status")
            shown = values_text(words, 5)
            self.warnings.append(
                f"The column status contains {shown}: it is not read as ok, review or failed."
            )
        if "status" not in data:
            data["status"] = pd.Series("ok", index=table.index, dtype="category")
        for column in table.columns:
            if column not in columns and column not in data:
                cells = table[column]
                if column in raw.ambiguous and column in (self.options.needed or ()):
                    _ask_decimal(problems, str(column), raw.ambiguous[str(column)])
                if isinstance(cells.dtype, pd.CategoricalDtype):
                    cells = cells.astype(object)
                blank = cells.isna() | cells.astype(object).eq("") if cells.dtype != float else None
                data[str(column)] = cells if blank is None else cells.mask(blank)
        self.rules = {name: rule for name, rule in self.rules.items() if name in data}
        order = dict.fromkeys((*(name for name in DEFINED_COLUMNS if name in data), *data))
        self.rows = pd.DataFrame({name: data[name] for name in order}, copy=False)

    def _without_declared(
        self, table: pd.DataFrame, where: str, findings: Findings
    ) -> pd.DataFrame:
        """The table without the codes of ``--missing`` in the needed columns."""
        codes, needed = self.options.missing, self.options.needed
        names = {rule.column: name for name, rule in self.rules.items()}
        changed = {}
        for column in map(str, table.columns) if codes else ():
            name = names.get(column, column)
            if kind_of(name) != "id" and (needed is None or {name, column} & {*needed}):
                changed[column] = declared_missing(table[column], codes, where, findings)
        return table.assign(**changed) if changed else table

    def _add_trial(
        self, data: dict[str, pd.Series], table: pd.DataFrame, problems: Problems
    ) -> None:
        """The trial: of the definition, a column, the file's name, ``--single-trial``, or one."""
        single = self.options.single_trial
        if self.definition is not None:
            names = sorted(set(data["trial"]) - {""}) if "trial" in data else []
            if len(names) > 1:
                column = self.rules["trial"].column
                problems.add(
                    f"the table of the trial {self.trial} has {len(names)} trials in {column!r}",
                    fix="Make one table for each trial.",
                )
            data.pop("trial", None)
            if self.definition.randomised is False or "randomised" not in data:
                stated = [self.definition.randomised] * len(table)
                data["randomised"] = pd.Series(stated, index=table.index, dtype=object)
            single = None
        elif "trial" in data:
            if single is not None:
                column = self.rules["trial"].column
                problems.add(
                    f"--single-trial {single}, but the column {column!r} contains the trial",
                    fix="Leave it out, or remove the column.",
                )
            return
        name, like = single or self.trial, ", ".join(map(repr, self.recognised.like_trial))
        asked = "trial" in self.recognised.several
        if name is not None and name == self.trial and self.definition is None:
            self.notices.append(f"the trial is the file's name, {name}.")
        elif name is None and not asked and "trial" in (self.options.needed or ()):
            problems.add(
                "no column contains the trial" + (f"; {like} may be it" if like else ""),
                why="Trials pooled as if they were one give a wrong effect and a wrong interval.",
                fix="Name it with --trial, or state with --single-trial NAME that there is only "
                "one.",
            )
        elif name is None and like:
            self.warnings.append(
                SeriousWarning(
                    f"No column was taken for the trial, although {like} may be it: all rows are "
                    "taken as one trial. Name it with --trial."
                )
            )
        data["trial"] = pd.Series(name or ONE_TRIAL, index=table.index, dtype=object)

    def _add_participants(
        self, data: dict[str, pd.Series], table: pd.DataFrame, problems: Problems
    ) -> None:
        """The row number as id where the table has no participants."""
        if "participant_id" in data:
            return
        if "visit" in data and data["visit"].nunique() >= 2:
            problems.add(
                "there are several visits, but no column contains the participant_id",
                why="The visits of a participant cannot be linked.",
                fix="Name the column with --participant.",
            )
        numbers = [str(row) for row in table.index]
        data["participant_id"] = pd.Series(numbers, index=table.index, dtype=object)
        self.warnings.append(
            "The table has no participant_id (--participant): each row is taken as one participant."
        )


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
    files, name, definition = _files(tables, options, column_rules(options, problems))
    findings = Findings(accept=options.accept)
    for file in files:
        file.read(problems, findings)
    first = files[0].path
    problems.where = first.name if len(files) == 1 else name
    rows = _joined(files)
    _check_keys(rows, problems)
    rows, unused, exclusions = _usable(rows, options, problems)
    names = {name: rule.column for file in files for name, rule in file.rules.items()}
    if options.needed is not None or options.check_all:
        is_output = first.name == MEASUREMENTS_NAME and (first.parent / RECORD_NAME).is_file()
        columns = CheckedColumns(
            rows=rows,
            where=problems.where,
            needed=options.needed,
            names=names,
            baseline_visit=options.baseline_visit,
            time=options.time,
            roles=options.roles,
            measured=is_output and len(files) == 1,
        )
        check_plausible(columns, findings)
    _refuse(problems, findings, "" if definition is not None else first.name)
    trials = () if definition is None else definition.trials
    notices: dict[str, list[str]] = {}
    for file in files:
        for line in file.notices:
            notices.setdefault(line, []).append(file.path.name)
    return CohortTable(
        rows=rows,
        name=name,
        sha256=_digest(files, definition),
        measures=tuple(m.name for m in MEASURES if m.name in rows and rows[m.name].notna().any()),
        conventions=_conventions(rows, files),
        exclusions=tuple(exclusions),
        warnings=(
            *findings.warnings,
            *dict.fromkeys(line for file in files for line in file.warnings),
            *(InputNotice(f"{', '.join(where)}: {line}") for line, where in notices.items()),
        ),
        unused=unused,
        columns={name: column for name, column in names.items() if name != column},
        healthy_rule=joined_rules(
            {t.name: t.healthy_rule for t in trials if t.healthy_rule}, len(trials)
        ),
    )


def _refuse(problems: Problems, findings: Findings, table: str) -> None:
    """TableError with everything found; ``table`` is one that `init` can write a --config for."""
    found = list(dict.fromkeys([*problems, *findings.problems]))
    hints = [findings.hint()]
    if table and any("[columns]" in problem.fix for problem in found):
        hints.append(
            f"`cardiometa init {table} --out columns.toml` writes the lines of [columns]; check "
            "them, then add --config columns.toml."
        )
    if found:
        raise TableError(
            f"{problems.where} cannot be used: {len(found)} problem{'s' * (len(found) > 1)}.",
            hint="\n  ".join(filter(None, hints)),
            problems=found,
            missing=findings.missing,
        )


# ------------------------------------------------------------------ which files


def _files(
    tables: Path | Sequence[Path], options: TableOptions, rules: Mapping[str, ColumnRule]
) -> tuple[list[_File], str, CohortDefinition | None]:
    """The files, the name of the cohort, and its cohort.toml where that is the table."""
    paths = [tables] if isinstance(tables, Path) else list(tables)
    if len(paths) == 1 and paths[0].suffix.lower() == ".toml":
        definition, found = parse_definition(paths[0])
        if definition is None or found:
            raise TableError(f"{paths[0].name} cannot be used.", problems=found)
        if any(trial.scans is not None for trial in definition.trials):
            raise TableError(
                f"{paths[0].name} is a cohort with images.",
                hint="Run `cardiometa segment` on it and give its OUT folder.",
            )
        files = [
            _File(
                path=trial.participants,
                options=options,
                given=trial.columns,
                trial=trial.name,
                definition=trial,
            )
            for trial in definition.trials
            if trial.participants is not None
        ]
        return files, definition.name, definition
    if len(paths) == 1:
        path, name = _locate(paths[0])
        return [_File(path=path, options=options, given=rules)], name, None
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
    files = [_File(path=path, options=options, given=rules, trial=path.stem) for path in paths]
    return files, f"{len(paths)} tables", None


def _digest(files: Sequence[_File], definition: CohortDefinition | None) -> str:
    """The SHA-256 of a file, or of the hashes of all and the names of their trials."""
    if definition is None and len(files) == 1:
        own, features = sha256_file(files[0].path), files[0].features
        return own if features is None else sha256_bytes(f"{own} {sha256_file(features)}".encode())
    hashes = sorted(f"{file.trial} {sha256_file(file.path)}" for file in files)
    stated = [] if definition is None else [definition.sha256]
    return sha256_bytes("\n".join([*stated, *hashes]).encode())


def joined_rules(rules: Mapping[str, str], trials: int) -> str:
    """The rules of who is healthy, each with its trial unless all ``trials`` have one."""
    if len(rules) == trials and len(set(rules.values())) == 1:
        return next(iter(rules.values()))
    return "; ".join(f"{name}: {rule}" for name, rule in sorted(rules.items()))


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
        # A run in progress, or a stopped one, still has the table of the run before.
        if (hint := _UNFINISHED.get(str(state))) is not None:
            raise TableError(
                f"The output {path.name} is not finished: {MEASUREMENTS_NAME} is older than its "
                "scans, or lacks some.",
                hint=hint,
            )
    return file, name


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


# ------------------------------------------------------------------ cells and rows


def _is_reported(column: str) -> bool:
    return column.startswith("reported_") and column != "reported_papillary"


def _ask_decimal(problems: Problems, column: str, example: str) -> None:
    sign = "," if "," in example else "."
    problems.add(
        f"{example!r} may be {example.replace(sign, '')} or {example.replace(sign, '.')}",
        at=f"column {column!r}",
        why="No cell of the column shows which sign is the decimal one.",
        fix="Say it with --decimal . or --decimal , (a comma).",
    )


def unescaped(cells: pd.Series) -> pd.Series:
    """Text without the apostrophe that keeps a spreadsheet from reading it as a formula."""
    if pd.api.types.is_numeric_dtype(cells):
        return cells
    if isinstance(cells.dtype, pd.CategoricalDtype):
        found = any(str(one).startswith(("'=", "'+", "'-", "'@")) for one in cells.cat.categories)
        return unescaped(cells.astype(object)) if found else cells
    text = cells.astype("str") if cells.dtype != object else cells
    escaped = text.str.startswith(("'=", "'+", "'-", "'@")).eq(True)
    return cells.mask(escaped, text.str[1:]) if escaped.any() else cells


def _joined(files: Sequence[_File]) -> pd.DataFrame:
    """The rows of all files; of several files each row is called by its file and its number."""
    if len(files) == 1:
        return files[0].rows
    frames = []
    for file in files:
        if not file.rows.empty:
            labels = [f"{file.path.name}:{row}" for row in file.rows.index]
            frames.append(file.rows.set_axis(pd.Index(labels, dtype=object), axis=0))
    if not frames:
        return pd.DataFrame({name: [] for name in ("trial", "participant_id", "status")})
    rows = pd.concat(frames)
    rows["status"] = rows["status"].fillna("ok")
    return rows


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
        Exclusion("scan", trial, person, visit, word, _REASONS[word])
        for trial, person, visit, word in zip(
            gone["trial"], gone["participant_id"], visits, status[dropped], strict=True
        )
    ]
    if not dropped.any():  # not copied: it may be large
        return rows.assign(status=status), gone, []
    return rows[~dropped].assign(status=status[~dropped]), gone, exclusions


def _conventions(rows: pd.DataFrame, files: Sequence[_File]) -> dict[str, tuple[str, ...]]:
    """The values met of the facts that must not be mixed; a column without values is empty.

    ``model_licence`` is of the weights of all models together, where it is known.
    """
    found = {
        name: tuple(sorted({str(value) for value in rows[name].dropna().unique()}))
        for name in CONVENTIONS
        if name in rows
    }
    licence = licence_of(found.get("model_id", ()), [file.path.parent for file in files])
    return {**found, "model_licence": (licence,)} if licence else found
