"""The scans of a cohort: by a trial's scans table, or by folders alone.

Folders are ``trial/participant/visit/images``, BIDS-like, or one scan; the ids are their names. A
name that is a name, id or birth date in the images' headers is refused unless the user says that
the ids are pseudonyms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from ..errors import CohortError, InputError, Problem, Problems, nearest
from ..files import NAME_RULE, is_safe_name
from ..measurement.measures import COLUMN_NAMES
from ..records import ScanKey, ScanSource
from .models import CohortOptions, CohortScan, ReadingLog, TrialDefinition
from .read_table import is_there, read_any_table
from .recode import add_no_number, as_numbers, as_text, rows_text

if TYPE_CHECKING:
    from ..imaging.discovery import HeaderIdentity

Form = Literal["single", "tree", "bids", "bids-trials"]
BASELINE = "baseline"
# A stack has at least four positions (imaging.md 1), so fewer folders are no series of slices.
_FEWEST_SLICES = 4
_SINGLE_IDS = ("single", "scan-1", BASELINE)
_QUESTIONS = 8  # to the file system at once
_IMAGE_COLUMNS = ("images", "ed_images", "es_images")


def read_scans(
    trial: TrialDefinition,
    participants: Collection[str],
    log: ReadingLog,
    *,
    show: Callable[[str], str] = repr,
) -> None:
    """Add the scans of ``trial``, whose roster has ``participants``, to ``log``."""
    assert trial.scans is not None
    where = f"{trial.name}: {trial.scans.name}"
    try:
        table = read_any_table(trial.scans)
    except InputError as error:
        log.problems += error.listed(where)
        return
    problems = Problems(where)
    id_column = _check_columns(table, trial, problems)
    if problems:
        log.problems += problems
        return
    numbers: dict[str, pd.Series] = {}
    for name in map(str, table.columns):
        if name == "visit_day" or name.startswith("reported_"):
            numbers[name], bad = as_numbers(table[name])
            if bad.any():
                add_no_number(problems, f"column {name!r}", table[name], bad)
    reported = [name for name in numbers if name != "visit_day"]
    ids, visits = as_text(table[id_column]), as_text(table["visit"])
    _check_keys(ids, visits, frozenset(participants), problems, show)
    sources = _sources(table, trial.root, problems)
    keys = [
        ScanKey(trial=trial.name, participant=str(p), visit=str(v))
        for p, v in zip(ids, visits, strict=True)
    ]
    cells = pd.DataFrame(numbers, index=table.index).astype(object)
    stated: list[Any] = cells.where(cells.notna(), None).to_dict("records")
    log.scans += [
        CohortScan(key=key, source=source, visit_day=row.pop("visit_day", None), reported=row)
        for key, row, source in zip(keys, stated, sources, strict=True)
        if source is not None
    ]
    present = [as_text(table[name]) for name in _IMAGE_COLUMNS if name in table.columns]
    blank = [not any(cells) for cells in zip(*present, strict=True)]
    known = {id_column, "visit", "visit_day", *_IMAGE_COLUMNS, *reported}
    dropped = sum(column not in known for column in table.columns)
    log.without_images += [key for key, empty in zip(keys, blank, strict=True) if empty]
    log.reported += [name for name in reported if name not in log.reported]
    log.problems += problems
    log.notes += [f"{where}: {dropped} further columns are dropped."] if dropped else []
    log.warnings += [
        f"{where}: {name!r} is not reported_ and the name of a measure, so it is not compared."
        for name in reported
        if name.removeprefix("reported_") not in COLUMN_NAMES
    ]


def source_of(path: Path) -> ScanSource:
    """The images at ``path``: ED/ES pairs are recognised, one folder below is searched (BIDS).

    A path without a scan is returned as it is: reading it fails with the reason, others continue.
    """
    plain = ScanSource(kind="images", paths=(path,))
    if not path.is_dir():
        return plain
    from ..imaging.discovery import find_scan_source

    source = find_scan_source(path)
    if source is not None:
        return source
    try:
        children = sorted(path.iterdir())
    except OSError:  # reading the scan reports it, the others continue
        return plain
    inner = [find_scan_source(child) for child in children if child.is_dir()]
    found = [source for source in inner if source is not None]
    return found[0] if len(found) == 1 else plain


def _check_columns(table: pd.DataFrame, trial: TrialDefinition, problems: Problems) -> str:
    """The column of the ids; problems for the columns that the table lacks."""
    columns = [str(column) for column in table.columns]
    rule = trial.columns.get("participant_id")
    id_column = "participant_id"
    if id_column not in columns and rule is not None and rule.column in columns:
        id_column = rule.column
    for name, column in (("participant_id", id_column), ("visit", "visit")):
        if column not in columns:
            problems.add(f"there is no column {name!r}", fix=nearest(name, columns))
    if "images" not in columns and not {"ed_images", "es_images"} <= set(columns):
        fix = "Add the column images, or ed_images and es_images."
        problems.add("no column says where the images are", fix=fix)
    if "reported_papillary" in columns:
        problems.add(
            "reported_papillary is the same for a trial",
            fix=f"State papillary under trials.{trial.name} in the cohort.toml.",
        )
    elif trial.papillary is None and any(c.startswith("reported_") for c in columns):
        problems.add(
            "it has reported_ values, but their papillary convention is not stated",
            why="It changes mass and volumes by more than most treatments do.",
            fix='Add papillary = "blood-pool" or "myocardium" to the trial.',
        )
    return id_column


def _check_keys(
    ids: pd.Series,
    visits: pd.Series,
    participants: frozenset[str],
    problems: Problems,
    show: Callable[[str], str],
) -> None:
    for row, name in ids.items():
        if name not in participants:
            problems.add(
                f"the participant {show(name)} is not in the roster" if name else "no id",
                at=f"row {row}",
                why="A scan without a participant cannot be analysed.",
                fix="Add the participant to the roster, or correct the id.",
            )
    for row, visit in visits.items():
        if not is_safe_name(visit):
            what = f"the visit {visit!r} cannot be the name of a folder" if visit else "no visit"
            fix = "Use names such as baseline or followup_12m."
            problems.add(what, at=f"row {row}", fix=fix)
    pairs = (ids + "/" + visits).map(str.casefold)
    for _, group in pairs[pairs.duplicated(keep=False)].groupby(pairs, sort=True):
        first = group.index[0]
        problems.add(
            f"{show(ids[first])} has the visit {visits[first]!r} {len(group)} times",
            at=rows_text(group.index),
            why="Only one scan per visit can be analysed.",
            fix="Keep one row, or give the visits different names.",
        )


def _sources(table: pd.DataFrame, root: Path, problems: Problems) -> list[ScanSource | None]:
    """The images of each row (None: the cells are blank); problems for paths that do not exist."""
    blank = pd.Series("", index=table.index, dtype=object)
    images, ed, es = (
        as_text(table[name]) if name in table.columns else blank for name in _IMAGE_COLUMNS
    )
    # What is at each path: shared storage answers many questions as fast as one.
    places = [root / cell for cell in images if cell]
    with ThreadPoolExecutor(_QUESTIONS) as pool:
        looked = pool.map(lambda path: source_of(path) if is_there(path) else None, places)
        found = {path: one for path, one in zip(places, looked, strict=True) if one is not None}
    sources: list[ScanSource | None] = []
    wrong = Problems(problems.where)
    used: dict[tuple[Path, ...], list[Any]] = {}
    for row, one, first, second in zip(table.index, images, ed, es, strict=True):
        named = [pair for pair in zip(_IMAGE_COLUMNS, (one, first, second), strict=True) if pair[1]]
        paths = tuple(root / cell for _, cell in named)
        missing = [name for (name, _), path in zip(named, paths, strict=True) if not is_there(path)]
        source = None
        if bool(first) != bool(second) or (one and first):
            fix = "Fill images, or both ed_images and es_images."
            wrong.add("its image cells do not fit", at=f"row {row}", fix=fix)
        elif missing:
            # Not the path itself: archives name folders after patients.
            wrong.add(
                f"there is no file or folder at the path in {' and '.join(missing)}",
                at=f"row {row}",
                fix="Image paths start in the trial's root (segment --root TRIAL=DIR).",
            )
        elif named:
            used.setdefault(paths, []).append(row)
            pair = len(paths) == 2
            source = ScanSource(kind="ed-es", paths=paths) if pair else found[paths[0]]
        sources.append(source)
    if len(wrong) > 1 and not used:
        # A wrong root makes every path wrong: one line is clearer than thousands.
        problems.append(replace(wrong[0], fix=""))
        problems.add(
            f"none of the {len(wrong)} image paths can be used below {root.name or root}",
            fix="State root in the cohort.toml, or use segment --root TRIAL=DIR.",
        )
    else:
        problems += wrong
    for rows in used.values():
        if len(rows) > 1:
            problems.add(
                "they name the same images",
                at=rows_text(rows),
                why="One scan would count as several.",
                fix="Correct the paths.",
            )
    return sources


# ------------------------------------------------------------------ folders


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundScan:
    """A scan found by its folder; ``names`` are the folders' names its key was made from."""

    key: ScanKey
    source: ScanSource
    names: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class FolderTree:
    """What folders contain: participants (also those without images), scans, rosters of BIDS."""

    participants: list[tuple[str, str]] = field(default_factory=list)
    scans: list[FoundScan] = field(default_factory=list)
    tables: dict[str, Path] = field(default_factory=dict)


def folder_form(path: Path, options: CohortOptions) -> Form:
    """Which of the contract's forms the folder or file at ``path`` has."""
    if not path.is_dir() or options.participant_id or options.visit_id:
        return "single"
    children = _folders(path)
    if any(child.name.startswith("sub-") for child in children):
        return "bids"
    if any(inner.name.startswith("sub-") for child in children for inner in _folders(child)):
        return "bids-trials"
    if _holds_images(path):
        return "single"
    # PATIENT/STUDY/SERIES of a PACS export is one study in several folders, and no trial.
    if len(children) == 1 and len(_folders(children[0])) > 1 and _is_one_study(path):
        _refuse_several_cines(children[0])
        return "single"
    # trial/participant/... has folders in folders; the series folders of one scan have none.
    return "tree" if any(_folders(child) for child in children) else "single"


def read_single(path: Path, options: CohortOptions) -> FolderTree:
    """One scan, with the ids that the options give or ``single``, ``scan-1``, ``baseline``."""
    given = (options.trial_id, options.participant_id, options.visit_id)
    ids = [said or default for said, default in zip(given, _SINGLE_IDS, strict=True)]
    bad = [name for name in ids if not is_safe_name(name)]
    if bad:
        raise CohortError(
            f"{', '.join(map(repr, bad))} cannot be the name of a folder.",
            hint=NAME_RULE,
        )
    if path.is_dir() and not _listed(path):
        raise CohortError(f"The folder {path.name} is empty.")
    # A folder of zips is several scans: which one is whose cannot be known.
    zips = [child for child in _listed(path) if child.suffix == ".zip"] if path.is_dir() else []
    if len(zips) > 1:
        raise CohortError(
            f"The folder {path.name} contains {len(zips)} zips, which are several scans.",
            hint="Give one of them; or put each in a folder trial/participant/visit; or list them "
            "in the scans table of a cohort.toml.",
        )
    if path.is_dir() and not (options.participant_id or options.visit_id):
        _refuse_several_cines(path)
    key = ScanKey(trial=ids[0], participant=ids[1], visit=ids[2])
    found = FoundScan(key=key, source=source_of(path), names=())
    return FolderTree(participants=[(ids[0], ids[1])], scans=[found])


_SEVERAL_CINES = (
    "several folders below each contain a complete short-axis cine at the same places, and all "
    "headers name one StudyInstanceUID or none"
)


def _refuse_several_cines(path: Path) -> None:
    """Folders of which each could be a participant's are not read as one scan by a guess."""
    from ..imaging.discovery import has_several_cines

    if has_several_cines(path):
        raise CohortError(
            f"These images may be of several participants: {_SEVERAL_CINES}.",
            hint="If they are repeats or states of one participant, name it with --participant-id. "
            "If not, list each folder with its participant in the scans table of a cohort.toml.",
        )


def read_tree(path: Path, form: Form, options: CohortOptions, log: ReadingLog) -> FolderTree:
    """Every trial of a folder."""
    if form == "bids":
        trials = [(options.trial_id or path.resolve().name, path)]
    else:
        trials = [(folder.name, folder) for folder in _folders(path)]
        if options.trial_id:
            raise CohortError(
                "--trial-id names one scan or one BIDS tree, but this folder contains trials.",
                hint="Leave it out: the trials are named after their folders.",
            )
    tree = FolderTree()
    for name, folder in trials:
        read_trial_folder(folder, name, tree, log)
    return tree


def read_trial_folder(folder: Path, trial: str, tree: FolderTree, log: ReadingLog) -> None:
    """Add the participants and scans below one trial's folder to ``tree``."""
    children = _folders(folder)
    bids = [child for child in children if child.name.startswith("sub-")]
    if not is_safe_name(trial):
        log.problems.append(_unsafe("a trial's folder", trial))
    for number, person in enumerate(bids or children, 1):
        if not is_safe_name(person.name):
            log.problems.append(_unsafe(f"{trial}: a participant's folder", person.name))
            continue
        tree.participants.append((trial, person.name))
        where = f"{trial}: participant {number} in the order of the folders"
        for visit, place in _visits(person, where, log):
            if not is_safe_name(visit):
                log.problems.append(_unsafe(f"{trial}: a visit's folder", visit))
                continue
            tree.scans.append(
                FoundScan(
                    key=ScanKey(trial=trial, participant=person.name, visit=visit),
                    source=source_of(place),
                    names=(trial, person.name, *([] if place == person else [place.name])),
                )
            )
    table = folder / "participants.tsv"
    loose = sum(
        child.is_file() and not child.name.startswith(".") and child.suffix not in _SIDE_FILES
        for child in _listed(folder)
    )
    if loose:
        log.notes.append(f"{trial}: {loose} files next to the participants' folders are not read.")
    if bids and table.is_file():
        tree.tables[trial] = table


_SIDE_FILES = (".json", ".tsv", ".md", ".txt", "")


def _visits(person: Path, where: str, log: ReadingLog) -> list[tuple[str, Path]]:
    """The visits of a participant's folder, each with the folder of its images."""
    from ..imaging.discovery import find_scan_source, has_several_cines

    inner = _folders(person)
    sessions = [folder for folder in inner if folder.name.startswith("ses-")]
    if sessions:
        return [(folder.name.removeprefix("ses-"), folder) for folder in sessions]
    files = any(not child.name.startswith(".") for child in _listed(person) if child.is_file())
    if person.name.startswith("sub-") or (files and _holds_images(person)) or not inner:
        # BIDS without sessions: the folders below are kinds of data, not visits.
        return [(BASELINE, person)] if files or inner else []
    # One examination in many folders: one per series, or {SAX,2CH,4CH}.
    if len(inner) >= _FEWEST_SLICES and find_scan_source(person) is not None:
        return [(BASELINE, person)]
    if len(inner) > 1 and _is_one_study(person, documents=True):
        if has_several_cines(person):
            log.problems.append(
                Problem(
                    where=where,
                    what=_SEVERAL_CINES,
                    why="They may be visits, or repeats of one examination.",
                    fix="Leave one of the repeats, or list the visits in the scans table of a "
                    "cohort.toml.",
                )
            )
        return [(BASELINE, person)]
    return [(folder.name, folder) for folder in inner]


def _folders(path: Path) -> list[Path]:
    hidden = (".", "__MACOSX")
    return [
        child for child in _listed(path) if child.is_dir() and not child.name.startswith(hidden)
    ]


def _listed(folder: Path) -> list[Path]:
    """The content of a folder, in the order of names; CohortError where it cannot be opened."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        # Not its name: archives name folders after patients.
        raise CohortError(
            f"A folder of the cohort cannot be opened ({error.strerror}).",
            hint="Ask for the right to read it (find COHORT -type d ! -readable names it), or "
            "leave it out.",
        ) from error


def _holds_images(folder: Path) -> bool:
    from ..imaging.discovery import sniff

    return any(
        sniff(child) in ("dicom", "nifti", "zip")
        for child in _listed(folder)
        if child.is_file() and not child.name.startswith(".")
    )


def _is_one_study(folder: Path, *, documents: bool = False) -> bool:
    """True where all images below have one StudyInstanceUID: folders are then no visits."""
    from ..imaging.discovery import is_single_study

    return is_single_study(folder, named=True, documents=documents)


def _unsafe(where: str, name: str) -> Problem:
    return Problem(
        where=where,
        what=f"the name {name!r} cannot be an id",
        fix=NAME_RULE,
    )


def check_identities(
    scans: Sequence[FoundScan],
    identities: Mapping[ScanKey, HeaderIdentity],
    options: CohortOptions,
    log: ReadingLog,
) -> None:
    """Problems for folder names that are a name, id or birth date in the images' headers.

    The problem names the place by number, never by the name itself.
    """
    if options.ids_are_pseudonyms:
        return
    for number, scan in enumerate(scans, 1):
        # A participant's name is replaced by --pseudonymise; the others are not.
        names = [
            name
            for place, name in enumerate(scan.names)
            if not (place == 1 and options.pseudonymise_key is not None)
        ]
        known = {form for value in identities[scan.key].texts for form in _forms(value)}
        if any(form in known for name in names for form in _forms(name)):
            log.names_persons = True
            log.problems.append(
                Problem(
                    where=f"scan {number} in the order of the folders",
                    what="a folder is named by the patient's name, id or birth date in its headers",
                    why="The ids of the outputs are the folders' names.",
                    fix="Use --pseudonymise KEYFILE, or --ids-are-pseudonyms if they are.",
                )
            )


def _forms(value: str) -> set[str]:
    """Ways to write the same name: ``DOE^JANE`` is ``Jane_Doe`` and ``doe jane``."""
    words = [word for word in re.split(r"[\W_]+", value.casefold()) if word]
    if words[:1] == ["sub"] and len(words) > 1:
        words = words[1:]
    return {"".join(words), " ".join(sorted(words))} if words else set()
