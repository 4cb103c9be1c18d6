"""The rows of `pool-trials` and `summarise`: the columns they use, and what a first command lacks.

A first run on an unknown table names everything that is missing or unclear in one message, with
the columns and values that could be meant, and the complete command to run next.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..cohort.analysis_table import column_rules, read_analysis_table
from ..cohort.infer_columns import Recognised, measure_of, recognise
from ..cohort.models import TableOptions
from ..cohort.read_table import read_any_table, table_header
from ..cohort.recode import as_booleans, as_numbers, as_text, by_value, kind_of, text_of
from ..cohort.segment_output import SegmentOutput
from ..errors import CardiometaError, Problem, Problems, TableError, UsageError
from ..files import return_memory
from ..manifest import refuse_modified
from ..measurement.measures import INDEX_OF, MEASURES
from ..options import options_of
from ..pooling.endpoint.columns import by_trial
from ..pooling.options import EVENTS, PoolingOptions
from ..records import CohortTable
from ..reference.select import with_derived

_CONTROLS = re.compile(r"control|placebo|sham|usual|standard|untreated|comparator|vehicle|^0$|^no")
_BASELINES = re.compile(r"base|^bl|pre|screen|(^|\D)0$|^v1$")
_ARM_WORDS = re.compile(r"arm|treat|trt|group|alloc|random|drug|therapy|intervention")
_EVENT_WORDS = re.compile(r"death|dead|died|event|mace|mort|status")
_MEASURED = ("number", "volume", "grams", "percent")
_TIME_WORDS = re.compile(r"time|day|year|month|fu|follow|surv")
_MOST_SHOWN = 8
_LARGE = 20_000_000  # bytes of tables
_BODY_SIZE = ("bsa_m2", "bsa_formula", "height_cm", "weight_kg")


def rows_options(options: PoolingOptions, columns: TableOptions) -> TableOptions:
    """How to read participants' rows for an analysis: its numbers, and all the columns it uses."""
    is_event = options.effect in EVENTS
    numbers = ("" if is_event else options.outcome, options.baseline_column, options.time)
    participant = ("participant_id", "arm", "randomised", "status", "death_day", "withdrawal_day")
    used = [*participant, options.outcome, options.event, *numbers, options.cluster]
    used += [
        options.competing,
        *options.by_columns,
        *options.regression_columns,
        *options.adjust_columns,
    ]
    if options.baseline_column is None:
        used += ["visit", "visit_day"]
    if options.compare_reported:
        used += [f"reported_{options.outcome}", "reported_papillary"]
    return replace(
        columns,
        numeric=tuple(name for name in numbers if name),
        needed=tuple(dict.fromkeys(name for name in ("trial", *used) if name)),
        baseline_visit=options.baseline_visit,
        time=options.time,
        roles={options.baseline_column: measure_of(options.outcome)}
        if options.baseline_column
        else {},
    )


def read_rows(
    tables: Sequence[Path],
    options: PoolingOptions,
    columns: TableOptions,
    command: str = "pool-trials",
) -> tuple[CohortTable, PoolingOptions, SegmentOutput]:
    """The rows of an analysis, checked; the options in the table's names; what lies next to it.

    Raises UsageError without an outcome and TableError where options or the table must change:
    everything in one message, with the command to run next.
    """
    output = SegmentOutput.of(tables)
    if sum(path.stat().st_size for path in output.files if path.is_file()) > _LARGE:
        return_memory()
    # The volume or mass that an indexed outcome is made of, where no table has the index.
    source, files = INDEX_OF.get(options.outcome), output.files
    if source and not options.baseline_column and all(f.suffix != ".toml" for f in files):
        for header in (table_header(path, columns) for path in files):
            if options.outcome in {*header, *_known_columns(header, columns)[1]}:
                source = None
                break
    else:
        source = None
    columns = rows_options(options, columns)
    try:
        if source is None:
            table = read_analysis_table(list(tables), columns)
        else:
            made_from = rows_options(replace(options, outcome=source), columns)
            needed = (*(made_from.needed or ()), *_BODY_SIZE)
            table = read_analysis_table(list(tables), replace(made_from, needed=needed))
            table = with_derived(table, (options.outcome,))
    except TableError as error:
        raise _first_command(tables, options, columns, error, command) from None
    options = options.renamed(table.name_of)
    if _lacks(table, options, has_roster=output.roster_file is not None):
        raise _first_command(tables, options, columns, None, command)
    accepted = refuse_modified(output.read_files, columns.accept)
    by_trial(table.rows)
    return replace(table, warnings=(*accepted, *table.warnings)), options, output


def _known_columns(
    header: Sequence[str], columns: TableOptions
) -> tuple[Recognised, dict[str, str]]:
    """What is recognised, and the user's column of each harmonised one, named or recognised."""
    given = {name: rule.column for name, rule in column_rules(columns, Problems("")).items()}
    known = recognise(header, given)
    return known, {**{name: rule.column for name, rule in known.rules.items()}, **given}


def _lacks(table: CohortTable, options: PoolingOptions, *, has_roster: bool) -> bool:
    """True where an option must be given before these rows can be pooled."""
    rows = table.rows
    named = [options.outcome, options.baseline_column, options.time, options.event]
    if options.effect in EVENTS and has_roster:
        named = named[:1]  # the others may be columns of participants.csv
    if not options.outcome or not {name for name in named if name} <= {*rows.columns}:
        return not (has_roster and options.outcome)
    has_arms = "arm" in rows and options.control in set(rows["arm"].dropna().unique())
    if not (has_roster or has_arms):
        return True
    if options.effect in EVENTS or options.baseline_column or options.followup_day is not None:
        return False
    visits = set(rows["visit"].dropna().unique()) - {""} if "visit" in rows else set()
    others = visits - {options.baseline_visit}
    lacks_baseline = options.needs_baseline and options.baseline_visit not in visits
    return lacks_baseline or (len(others) > 1 and options.followup_visit is None)


# ------------------------------------------------------------------ what is missing


@dataclass(slots=True, kw_only=True)
class _Proposal:
    """A table without its analysis: what is missing, and what is proposed instead.

    ``frame`` is as read; ``names`` the user's column of each harmonised one.
    """

    frame: pd.DataFrame
    names: dict[str, str]
    options: PoolingOptions
    columns: TableOptions
    problems: list[Problem] = field(default_factory=list)

    def ask(self, flag: str, what: str, fix: str = "") -> None:
        """An option that must be given."""
        self.problems.append(Problem(where=flag, what=what, fix=fix))

    def texts(self, name: str) -> pd.Series:
        """A column's known cells as text, by its harmonised or own name, its map applied."""
        cells = as_text(self.frame[self.names.get(name, name)])
        rule = self.columns.columns.get(name)
        codes = rule.get("map") if isinstance(rule, Mapping) else None
        if codes:
            cells = pd.Series(by_value(cells, lambda v: text_of(codes.get(v, v))), cells.index)
        return cells[cells.ne("")]

    def numbers(self) -> list[str]:
        """The columns of measurements: mostly numbers, of many values, that are nothing else."""
        found = []
        for column in map(str, self.frame.columns):
            name = next((n for n, own in self.names.items() if own == column), column)
            if kind_of(name) not in _MEASURED or name in ("bsa_m2", "heart_rate_bpm"):
                continue
            numbers, bad = as_numbers(self.frame[column])
            if bad.mean() < 0.05 and numbers.nunique() > 10:
                found.append(name)
        return found


def _first_command(
    tables: Sequence[Path],
    options: PoolingOptions,
    columns: TableOptions,
    problem: TableError | None,
    command: str,
) -> CardiometaError:
    """The error that says all that is missing and wrong, and the command to run next."""
    try:
        proposal = _proposal(tables, options, columns)
    except TableError as error:
        return problem or error
    if not proposal.problems and problem is not None:
        return problem
    chosen = proposal.options
    problems: list[Problem] = [*proposal.problems]
    missing: tuple[str, ...] = ()
    try:
        read_analysis_table(list(tables), rows_options(chosen, proposal.columns))
    except TableError as error:
        problems += [p for p in error.problems if p not in problems]
        missing = tuple(dict.fromkeys(error.missing))
    columns = replace(proposal.columns, missing=(*columns.missing, *missing))
    # The command with every option that is not at its default.
    words = ["cardiometa", command, *map(str, tables), "--out", "OUT"]
    for record in (chosen, columns):
        for one in options_of(type(record)):
            value = getattr(record, one.field)
            if value == one.default or (one.field == "outcome" and chosen.event):
                continue
            if one.kind is bool:
                words.append(one.flag if value else one.flag.replace("--", "--no-", 1))
            else:
                shown = ",".join(f"{v}" for v in value) if one.is_list else str(value)
                words += [one.flag, shown]
    name = tables[0].name if len(tables) == 1 else f"{len(tables)} tables"
    count = "1 thing is" if len(problems) == 1 else f"{len(problems)} things are"
    message = f"{name} cannot be pooled yet: {count} missing or unclear."
    hint = f"Run next, once each guess is right: {shlex.join(words)}"
    if options.outcome:
        return TableError(message, hint=hint, problems=problems, missing=missing)
    lines = "\n".join(f"  - {one}" for one in problems)
    return UsageError(f"{message}\n{lines}", hint=hint)


def _proposal(tables: Sequence[Path], options: PoolingOptions, columns: TableOptions) -> _Proposal:
    path = SegmentOutput.of(tables).files[0]
    if path.suffix.lower() == ".toml":
        raise TableError("A cohort.toml names its own columns.")
    frame = read_any_table(path, form=columns)
    known, names = _known_columns([str(column) for column in frame.columns], columns)
    names = {name: column for name, column in names.items() if column in frame}
    found = _Proposal(frame=frame, names=names, options=options, columns=columns)
    if "trial" not in names and len(tables) == 1 and columns.single_trial is None:
        like = known.like_trial or _like_trials(found)
        shown = ", ".join(f"{name!r} ({_values(found.texts(name))})" for name in like)
        found.ask(
            "--trial",
            "no column names the trial of each row",
            f"Columns that may: {shown}."
            if like
            else "If all rows are of one: --single-trial NAME.",
        )
        more: dict[str, Any] = {"trial": like[0]} if like else {"single_trial": "NAME"}
        found.columns = replace(found.columns, **more)
    _ask_arm(found)
    if options.effect in EVENTS:
        _ask_event(found)
    else:
        _ask_outcome(found)
    return found


def _like_trials(found: _Proposal) -> list[str]:
    """Columns of other names whose few words each cover many rows and one group of participants."""
    used = {*found.names.values()}
    person = found.names.get("participant_id")
    columns = []
    for column in map(str, found.frame.columns):
        texts = found.texts(column)
        counts = texts.value_counts()
        if column in used or not 2 <= len(counts) <= 60 or counts.min() < 10:
            continue
        is_own = person is None or texts.groupby(found.frame[person]).nunique().max() == 1
        if is_own and as_numbers(texts)[1].all() and as_booleans(texts)[1].all():
            columns.append(column)
    return [column for column in columns if _ARM_WORDS.search(column.casefold()) is None]


def _ask_arm(found: _Proposal) -> None:
    """The column of the arm, and which arm is the control."""
    if "arm" not in found.names:
        used = set(found.names.values())
        sizes = {
            column: found.texts(column).nunique()
            for column in map(str, found.frame.columns)
            if column not in used
        }
        likely = [column for column, size in sizes.items() if 2 <= size <= 6]
        likely.sort(key=lambda column: _ARM_WORDS.search(column.casefold()) is None)
        shown = "; ".join(f"{c!r} ({_values(found.texts(c))})" for c in likely[:_MOST_SHOWN])
        found.ask(
            "--arm",
            "The table has no column arm",
            f"Columns of a few values: {shown}." if shown else "No column has a few values.",
        )
        if not likely:
            return
        found.names["arm"] = likely[0]
        found.columns = replace(found.columns, arm=likely[0])
    arms = found.texts("arm")
    known = sorted(arms.unique())
    if found.options.control not in known:
        guess = next((arm for arm in known if _CONTROLS.search(arm.casefold())), "NAME")
        found.ask(
            "--control",
            f"no arm is called {found.options.control!r}",
            f"The arms are {', '.join(known[:_MOST_SHOWN])}: {_values(arms)}.",
        )
        found.options = replace(found.options, control=guess)


def _ask_outcome(found: _Proposal) -> None:
    """The outcome and its baseline, from visits or from another column."""
    options, names = found.options, found.names
    numbers = found.numbers()
    known = {*names, *map(str, found.frame.columns)}
    measures = {measure.name for measure in MEASURES}
    visits = sorted(found.texts("visit").unique()) if "visit" in names else []
    likely = [n for n in numbers if _measure(found, n) in measures]
    likely.sort(key=lambda n: "ef_percent" not in _measure(found, n))
    if len(visits) < 2:  # one row per participant: the outcome is not the baseline
        likely.sort(key=_is_baseline)
    if options.outcome not in known:
        if not likely and not options.outcome and _events(found):
            found.ask("--effect", "the table has events, and no measurement to take the mean of")
            found.options = replace(options, effect="hazard-ratio")
            _ask_event(found)
            return
        likely = likely or [n for n in numbers if not _is_baseline(n)]
        shown = ", ".join(_shown_name(n, names) for n in likely[:_MOST_SHOWN]) or "none"
        absent = f"there is no column {options.outcome!r}"
        found.ask(
            "--outcome",
            absent if options.outcome else "the measure to pool is missing",
            f"Columns of measurements: {shown}.",
        )
        options = replace(options, outcome=likely[0] if likely else "COLUMN")
    if len(visits) >= 2 and options.baseline_column is None:
        rows = _values(found.texts("visit"))
        if options.baseline_visit not in visits:
            guess = next((v for v in visits if _BASELINES.search(v.casefold())), visits[0])
            what = f"no visit is called {options.baseline_visit!r}"
            found.ask("--baseline-visit", what, f"The visits are {rows}.")
            options = replace(options, baseline_visit=guess)
        others = [visit for visit in visits if visit != options.baseline_visit]
        if len(others) > 1 and options.followup_visit is None and options.followup_day is None:
            found.ask("--followup-visit", "there are several follow-up visits", f"They are {rows}.")
            options = replace(options, followup_visit=others[-1])
    elif options.needs_baseline and (options.baseline_column or "") not in known:
        # One row per participant: the column of the baseline, or an effect without one.
        measure = _measure(found, options.outcome)
        likely = [n for n in numbers if n != options.outcome and _is_baseline(n)]
        likely.sort(key=lambda n: _measure(found, n) != measure)
        shown = ", ".join(_shown_name(n, found.names) for n in likely[:_MOST_SHOWN])
        found.ask(
            "--baseline",
            f"--effect {options.effect} needs a baseline, and there are no visits",
            f"Columns that may be it: {shown}." if shown else "Without any: --effect follow-up.",
        )
        if likely:
            options = replace(options, baseline_column=likely[0])
        else:
            options = replace(options, effect="follow-up")
    found.options = options


def _shown_name(name: str, names: Mapping[str, str]) -> str:
    return name if names.get(name, name) == name else f"{name} ({names[name]})"


def _is_baseline(name: str) -> bool:
    """True for ``EF_BL``, ``ef0``, ``base``: a word of the name is one of a baseline."""
    words = [word for word in re.split(r"[\W_]+", name.casefold()) if word]
    return any(_BASELINES.search(word) for word in words)


def _measure(found: _Proposal, name: str) -> str:
    return measure_of(found.names.get(name, name), name)


def _ask_event(found: _Proposal) -> None:
    """The column of the event and, for hazard ratios, of its time."""
    options = found.options
    known = {*found.names, *map(str, found.frame.columns)}
    hazard = options.effect == "hazard-ratio"
    more: dict[str, Any] = {}
    if options.event_column not in known:
        likely = _events(found)
        shown = ", ".join(f"{c!r} ({_values(found.texts(c))})" for c in likely[:_MOST_SHOWN])
        found.ask(
            "--event" if hazard else "--outcome",
            "the column of the event is missing",
            f"Columns of yes and no: {shown or 'none'}.",
        )
        name = likely[0] if likely else "COLUMN"
        more = {"event": name, "outcome": name} if hazard else {"outcome": name}
    if hazard and (options.time or "") not in known:
        times = [n for n in found.numbers() if _TIME_WORDS.search(n.casefold())]
        found.ask(
            "--time",
            f"there is no column {options.time!r}"
            if options.time
            else "the column of the time to event or censoring is missing",
            f"Columns that may be it: {', '.join(times) or 'none'}.",
        )
        more["time"] = times[0] if times else "COLUMN"
    found.options = replace(options, **more)


def _events(found: _Proposal) -> list[str]:
    """The columns of yes and no that are nothing else; deaths first."""
    used = set(found.names.values())
    events = []
    for column in map(str, found.frame.columns):
        truths, bad = as_booleans(found.frame[column])
        if column not in used and not bad.any() and truths.dropna().nunique() == 2:
            events.append(column)
    return sorted(events, key=lambda column: _EVENT_WORDS.search(column.casefold()) is None)


def _values(texts: pd.Series) -> str:
    """``Drug X 726, Placebo 729``."""
    counts = texts.value_counts().sort_index()
    shown = ", ".join(f"{value} {count}" for value, count in counts.head(_MOST_SHOWN).items())
    return shown + (f" and {len(counts) - _MOST_SHOWN} more" if len(counts) > _MOST_SHOWN else "")
