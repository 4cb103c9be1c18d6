"""Load or check a cohort: every table read and harmonised, every problem reported at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import CohortError, ImageError, InputError, Problem, TableError, UsageError
from ..files import sha256_file
from ..flags import status_of
from ..measurement.checks import shared_between, shared_marks
from ..records import Flag, ScanKey, Status
from .analysis_table import read_analysis_table
from .definition import DEFINED_COLUMNS, parse_definition
from .models import (
    Cohort,
    CohortOptions,
    CohortScan,
    ColumnRule,
    ReadingLog,
    TableOptions,
    TrialDefinition,
)
from .participants import check_body_sizes, empty_roster, read_roster
from .plausibility import CheckedColumns, Findings, check_plausible
from .pseudonyms import key_check, pseudonym, read_key
from .read_table import SUFFIXES, is_there, table_header
from .recode import ROSTER_COLUMNS
from .scans import (
    FolderTree,
    FoundScan,
    check_identities,
    folder_form,
    read_scans,
    read_single,
    read_tree,
    read_trial_folder,
)

if TYPE_CHECKING:
    from ..imaging.discovery import HeaderIdentity

_QUESTIONS = 8  # to the file system at once


@dataclass(slots=True, kw_only=True)
class PartialCohort(ReadingLog):
    """A cohort as far as it could be read, and everything that is wrong with it."""

    cohort: Cohort | None = None
    frames: list[pd.DataFrame] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    same_person: list[tuple[ScanKey, ...]] = field(default_factory=list)

    def add_identities(self) -> dict[ScanKey, HeaderIdentity]:
        """Who the headers of the scans name; they are compared in memory and kept nowhere."""
        from ..imaging.discovery import header_identity

        with ThreadPoolExecutor(_QUESTIONS) as pool:
            found = list(pool.map(header_identity, [scan.source for scan in self.scans]))
        keys = [scan.key for scan in self.scans]
        marks = [_person_mark(k.trial, one.person) for k, one in zip(keys, found, strict=True)]
        groups = shared_marks([(key.trial, key.participant) for key in keys], marks)
        self.same_person = [tuple(keys[row] for row in group.rows) for group in groups]
        return dict(zip(keys, found, strict=True))

    def build(
        self, name: str, trials: Sequence[TrialDefinition], key: bytes | None, **others: Any
    ) -> None:
        """Join the trials; the order of rows in their tables decides nothing."""
        carried = tuple(dict.fromkeys(column for trial in trials for column in trial.carry))
        rows = empty = empty_roster(carried)
        filled = [frame.reindex(columns=empty.columns) for frame in self.frames if not frame.empty]
        if filled:
            rows = pd.concat(filled, ignore_index=True)
            for column in empty.select_dtypes(object):
                cells = rows[column].astype(object)
                rows[column] = cells.where(cells.notna(), None)
        if others:  # only a definition has heights and weights
            rules = ((trial.name, rule) for trial in trials for rule in trial.columns.values())
            declared = {(trial, rule.name) for trial, rule in rules if rule.unit is not None}
            check_body_sizes(rows, declared, self)
        cohort = Cohort(
            name=name,
            trials=tuple(trials),
            participants=rows,
            scans=tuple(self.scans),
            visits_without_images=tuple(self.without_images),
            carried=carried,
            reported=tuple(self.reported),
            input_sha256=self.inputs,
            notes=tuple(self.notes),
            warnings=tuple(self.warnings),
            same_person=tuple(self.same_person),
            **others,
        )
        if key is not None:
            cohort = _pseudonymised(cohort, key)
        order = ["trial", "participant_id"]
        self.cohort = replace(
            cohort,
            participants=cohort.participants.sort_values(order, kind="stable", ignore_index=True),
            scans=tuple(sorted(cohort.scans, key=lambda scan: scan.key)),
            visits_without_images=tuple(sorted(cohort.visits_without_images)),
        )


def load_cohort(path: Path, options: CohortOptions | None = None) -> Cohort:
    """The cohort at ``path``: a cohort.toml, a folder of trials, or one scan.

    Raises CohortError with every problem, UsageError for a wrong option.
    """
    draft = draft_cohort(path, options or CohortOptions())
    if draft.problems or draft.cohort is None:
        count = len(draft.problems)
        raise CohortError(
            f"{path.name} cannot be used: {count} problem{'' if count == 1 else 's'}.",
            hint="Nothing was written.",
            problems=draft.problems,
        )
    return draft.cohort


def draft_cohort(path: Path, options: CohortOptions) -> PartialCohort:
    """What can be read of the cohort at ``path``, with every problem."""
    if not path.exists():
        raise CohortError(f"There is no file or folder {path.name}.", hint="Check the path.")
    key = read_key(options.pseudonymise_key) if options.pseudonymise_key else None
    inner = path / "cohort.toml"
    if path.is_dir() and inner.is_file():
        path = inner
    if path.suffix.lower() == ".toml":
        return _from_definition(path, options, key)
    if options.root_overrides:
        raise UsageError("--root is for a cohort.toml.", hint="Name the folder itself.")
    return _from_folder(path, options, key)


def _from_definition(path: Path, options: CohortOptions, key: bytes | None) -> PartialCohort:
    definition, problems = parse_definition(path)
    parts = PartialCohort(problems=problems)
    if definition is None:
        return parts
    roots, names = options.root_overrides, [trial.name for trial in definition.trials]
    if unknown := sorted(roots.keys() - names):
        raise UsageError(
            f"--root names {', '.join(unknown)}, which is not a trial of this cohort.",
            hint=f"Its trials are {', '.join(names)}.",
        )
    trials = tuple(replace(t, root=roots.get(t.name, t.root)) for t in definition.trials)
    parts.inputs["cohort.toml"] = definition.sha256
    # An id is not put into a message at all where pseudonyms are asked for.
    show = repr if options.pseudonymise_key is None else lambda _: "(withheld)"
    folders: list[list[FoundScan]] = []
    for trial in trials:
        assert trial.participants is not None
        roster = read_roster(trial, parts, show=show)
        parts.frames.append(roster)
        ids = frozenset(roster["participant_id"])
        if trial.scans is not None:
            read_scans(trial, ids, parts, show=show)
        else:
            folders.append(_add_folders(trial, ids, parts))
        for kind, table in (("participants", trial.participants), ("scans", trial.scans)):
            if table is not None and is_there(table) and table.is_file():
                with suppress(InputError):  # a table that cannot be read is among the problems
                    parts.inputs[f"{trial.name}.{kind}"] = sha256_file(table)
    identities = parts.add_identities()
    for found in folders:
        check_identities(found, identities, options, parts)
    parts.build(definition.name, trials, key, not_obtained=definition.not_obtained)
    return parts


def _add_folders(
    trial: TrialDefinition, ids: frozenset[str], parts: PartialCohort
) -> list[FoundScan]:
    """The scans of a trial without a scans table: ``participant/visit/images`` below its root."""
    where = f"{trial.name}: the folder {trial.root.name}"
    if not (is_there(trial.root) and trial.root.is_dir()):
        parts.problems.append(Problem(where=where, what="it does not exist"))
        return []
    tree = FolderTree()
    read_trial_folder(trial.root, trial.name, tree, parts)
    # A folder that belongs to no participant is as often another kind of data: counted, not used.
    known = [scan for scan in tree.scans if scan.key.participant in ids]
    others = len({name for _, name in tree.participants} - ids)
    if not known:
        fix = 'Add scans = "FILE" to the trial, or name the folders after the participants.'
        what = "no folder is named as a participant"
        parts.problems.append(Problem(where=where, what=what, fix=fix))
    if others:
        parts.warnings.append(
            f"{where}: {others} folders are named as no participant and are not read."
        )
    parts.scans += [CohortScan(key=scan.key, source=scan.source) for scan in known]
    return known


# ------------------------------------------------------------------ folders


def _from_folder(path: Path, options: CohortOptions, key: bytes | None) -> PartialCohort:
    form = folder_form(path, options)
    parts = PartialCohort()
    is_single = form == "single"
    tree = read_single(path, options) if is_single else read_tree(path, form, options, parts)
    parts.scans = [CohortScan(key=scan.key, source=scan.source) for scan in tree.scans]
    check_identities(tree.scans, parts.add_identities(), options, parts)
    if not tree.scans:
        parts.problems.append(
            Problem(
                where=path.name,
                what="no scan was found",
                fix="Expected are trial/participant/visit/images, a cohort.toml, or one scan.",
            )
        )
    trials = []
    for name in dict.fromkeys(trial for trial, _ in tree.participants):
        ids = [person for trial, person in tree.participants if trial == name]
        trial = TrialDefinition(name=name, root=path, participants=tree.tables.get(name))
        parts.frames.append(_folder_roster(trial, ids, parts))
        trials.append(trial)
    shape = "BIDS-like folders" if form.startswith("bids") else "folders trial/participant/visit"
    parts.notes.append(
        "Read as one scan."
        if is_single
        else f"Read as {shape}: {len(trials)} trials, {len(tree.participants)} participants, "
        f"{len(tree.scans)} scans."
    )
    # A name of bytes that are not UTF-8 could not be written again.
    name = path.resolve().name.encode("utf-8", "replace").decode("utf-8")
    parts.build("single scan" if is_single else name, trials, key)
    return parts


def _folder_roster(trial: TrialDefinition, ids: list[str], parts: PartialCohort) -> pd.DataFrame:
    """The ids of the folders, with age and sex of a BIDS participants.tsv where there is one."""
    rows = empty_roster().reindex(range(len(ids)))
    rows["trial"] = pd.Series(trial.name, index=rows.index, dtype=object)
    rows["participant_id"] = pd.Series(ids, index=rows.index, dtype=object)
    if trial.participants is None:
        return rows
    # BIDS: age in years, sex as M, F or words; a table without these columns gives the ids alone.
    names = pd.Series(ids, dtype=object)
    header: list[str] = []
    with suppress(InputError):  # a table that cannot be read is among the problems
        header = table_header(trial.participants)
    rules = {
        name: ColumnRule(name=name, column=column)
        for name, column in (("age_years", "age"), ("sex", "sex"))
        if column in header
    }
    roster = read_roster(replace(trial, columns=rules, randomised=None), parts)
    parts.inputs[f"{trial.name}.participants"] = sha256_file(trial.participants)
    listed = roster.set_index("participant_id")
    if listed.index.has_duplicates:
        return rows
    for name in ROSTER_COLUMNS[1:]:
        rows[name] = listed[name].reindex(names).to_numpy()
    return rows


# What anonymisers write in place of a name or an id.
_PLACEHOLDER = re.compile(
    r"anon|anonym|anonymi[sz]ed|anonymous|unknown|no[ _]?name|removed|de-?identified|none|null|"
    r"0+|19000101|[x^*_.-]+"
)


def _person_mark(trial: str, person: tuple[str, str, str]) -> dict[str, str]:
    """What two scans of one person share; a bare id counts within a trial alone."""
    known = ["" if _PLACEHOLDER.fullmatch(value) else value for value in person]
    name, number, birth = known
    if not number and not (name and birth):
        return {}
    everywhere = birth or (name and name != number)
    return {"header": "\n".join(["" if everywhere else trial, *known])}


def _pseudonymised(cohort: Cohort, key: bytes) -> Cohort:
    """Every participant id replaced; trials and visits keep their names."""

    def of(scan_key: ScanKey) -> ScanKey:
        return replace(scan_key, participant=pseudonym(key, scan_key.trial, scan_key.participant))

    rows = cohort.participants.copy()
    ids = [
        pseudonym(key, trial, person)
        for trial, person in zip(rows["trial"], rows["participant_id"], strict=True)
    ]
    rows["participant_id"] = pd.Series(ids, index=rows.index, dtype=object)
    return replace(
        cohort,
        participants=rows,
        scans=tuple(replace(scan, key=of(scan.key)) for scan in cohort.scans),
        visits_without_images=tuple(of(k) for k in cohort.visits_without_images),
        same_person=tuple(tuple(map(of, group)) for group in cohort.same_person),
        key_check=key_check(key),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanVerdict:
    """The status that `segment` will give a scan by its images' headers, and the flags."""

    where: str
    status: Status
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """Every problem of a cohort; ``summary`` has plain values (counts by trial)."""

    problems: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)
    scans: tuple[ScanVerdict, ...] = ()


def check_cohort(
    path: Path,
    options: CohortOptions | None = None,
    *,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> CheckReport:
    """Read all of the cohort but the pixels; ``watch`` gets (scans checked, all scans).

    Tables that cannot be used do not keep the images from being looked at. A table of its own is
    checked as the statistics commands check it, with all of its columns.
    """
    options = options or CohortOptions()
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        try:
            # A table without trials is one of volunteers, as far as is known here.
            needed = {*DEFINED_COLUMNS, *table_header(path)} - {"trial"}
            table = read_analysis_table(path, TableOptions(needed=tuple(needed)))
        except TableError as error:
            return CheckReport(problems=error.listed(path.name))
        return CheckReport(problems=(), warnings=table.warnings)
    try:
        draft = draft_cohort(path, options)
    except CohortError as error:
        return CheckReport(problems=error.listed(path.name))
    problems = list(draft.problems)
    cohort = draft.cohort
    if cohort is None:
        return CheckReport(problems=tuple(problems))
    # Ids that are names of persons must not be shown, nor what else the folders are called.
    named = draft.names_persons
    places = [
        f"scan {number} in the order of the ids" if named else str(scan.key)
        for number, scan in enumerate(cohort.scans, 1)
    ]
    found, verdicts = _inspected(cohort, places, watch)
    problems += found
    reviews: dict[str, list[str]] = {}
    for verdict in verdicts:
        for flag in verdict.flags:
            if flag.level == "review":
                reviews.setdefault(flag.code, []).append(f"{verdict.where}: {flag.sentence}")
    findings = Findings()
    columns = CheckedColumns(rows=cohort.participants, where=path.name, needed=("arm", "age_years"))
    check_plausible(columns, findings)
    problems += findings.problems
    return CheckReport(
        problems=tuple(problems),
        warnings=(
            *cohort.warnings,
            *(
                own[0]
                + (f" The same holds for {len(own) - 1} more scans ({code})." if own[1:] else "")
                for code, own in reviews.items()
            ),
        ),
        notes=cohort.notes,
        summary={} if named else _summary(cohort),
        scans=tuple(verdicts),
    )


def _inspected(
    cohort: Cohort, places: Sequence[str], watch: Callable[[int, int], None]
) -> tuple[list[Problem], list[ScanVerdict]]:
    """What prevents using the scans, and what `segment` will make of each by its headers.

    ``places`` are the scans as messages call them.
    """
    from ..imaging.read import ReadOptions, inspect_scan

    problems: list[Problem] = []
    verdicts: list[ScanVerdict] = []
    marks: list[Mapping[str, str]] = []
    for scan, where in zip(cohort.scans, places, strict=True):
        own: Mapping[str, str] = {}
        try:
            found = inspect_scan(scan.source, ReadOptions())
            flags, own = found.flags, found.marks
        except ImageError as error:
            problems += error.listed(where)
            flags = (Flag(code=error.code, level="reject", sentence=error.message),)
        verdicts.append(ScanVerdict(where=where, status=status_of(flags), flags=flags))
        marks.append(own)
        watch(len(marks), len(places))
    groups = shared_between([scan.key for scan in cohort.scans], marks, cohort.same_person)
    problems += [
        Problem(
            where=", ".join(places[row] for row in group.rows),
            what=f"these {group.participants} participants have {group.what}",
            why="One heart would be counted as several, or a participant have another's images.",
            fix="Find out whose images they are and correct the folders or the table of scans; "
            "where both are one person, give one participant id and two visits.",
        )
        for group in groups
    ]
    return problems, verdicts


def _summary(cohort: Cohort) -> dict[str, Any]:
    people = cohort.participants
    trials = []
    for trial in cohort.trials:
        rows = people[people["trial"].eq(trial.name)]
        scans = [scan for scan in cohort.scans if scan.key.trial == trial.name]
        visits: dict[str, int] = {}
        for scan in scans:
            visits[scan.key.visit] = visits.get(scan.key.visit, 0) + 1
        trials.append(
            {
                "trial": trial.name,
                "randomised": trial.randomised,
                "participants": len(rows),
                "scanned": len({scan.key.participant for scan in scans}),
                "scans": len(scans),
                "visits": visits,
                "arms": {str(k): int(v) for k, v in rows["arm"].value_counts().items()},
                "unknown": {
                    name: int(rows[name].isna().sum())
                    for name in ("age_years", "sex", "ethnicity", "height_cm", "weight_kg")
                },
            }
        )
    return {
        "cohort": cohort.name,
        "trials": trials,
        "participants": len(people),
        "scans": len(cohort.scans),
        "not_obtained": len(cohort.not_obtained),
    }
