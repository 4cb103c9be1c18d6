"""Read a cohort from folders alone: ``trial/participant/visit/images``, BIDS-like, or one scan.

The ids are the folders' names. A name that is a name, id or birth date in the images' headers
is refused unless the user says that the ids are pseudonyms.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import CohortError, Problem
from ..files import is_safe_name
from ..records import ScanKey, ScanSource
from .models import CohortOptions, ReadingLog
from .scans import source_of

Form = Literal["single", "tree", "bids", "bids-trials"]
BASELINE = "baseline"
# A stack has at least four positions (imaging.md 1), so fewer folders are no series of slices.
_FEWEST_SLICES = 4
_SINGLE_IDS = ("single", "scan-1", BASELINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundScan:
    """A scan found by its folder; ``names`` are the folders' names its key was made from."""

    key: ScanKey
    source: ScanSource
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderTree:
    """What folders contain: participants (also those without images), scans, rosters of BIDS."""

    participants: tuple[tuple[str, str], ...]
    scans: tuple[FoundScan, ...]
    tables: tuple[tuple[str, Path], ...] = ()


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
            hint="Use letters, digits, dot, dash, underscore; a letter or digit first.",
        )
    if path.is_dir() and not _listed(path):
        raise CohortError(f"The folder {path.name} is empty.")
    _refuse_several(path)
    key = ScanKey(trial=ids[0], participant=ids[1], visit=ids[2])
    found = FoundScan(key=key, source=source_of(path), names=())
    return FolderTree(participants=((ids[0], ids[1]),), scans=(found,))


def _refuse_several(path: Path) -> None:
    """A folder of zips is several scans: which one is whose cannot be known."""
    zips = [child for child in _listed(path) if child.suffix == ".zip"] if path.is_dir() else []
    if len(zips) > 1:
        raise CohortError(
            f"The folder {path.name} contains {len(zips)} zips, which are several scans.",
            hint="Give one of them; or put each in a folder trial/participant/visit; or list them "
            "in the scans table of a cohort.toml.",
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
    trees = [read_trial_folder(folder, name, log) for name, folder in trials]
    return FolderTree(
        participants=tuple(person for tree in trees for person in tree.participants),
        scans=tuple(scan for tree in trees for scan in tree.scans),
        tables=tuple(table for tree in trees for table in tree.tables),
    )


def read_trial_folder(folder: Path, trial: str, log: ReadingLog) -> FolderTree:
    """The participants and scans below one trial's folder."""
    children = _folders(folder)
    bids = [child for child in children if child.name.startswith("sub-")]
    people, scans = [], []
    if not is_safe_name(trial):
        log.problems.append(_unsafe("a trial's folder", trial))
    for person in bids or children:
        if not is_safe_name(person.name):
            log.problems.append(_unsafe(f"{trial}: a participant's folder", person.name))
            continue
        people.append((trial, person.name))
        for visit, place in _visits(person):
            if not is_safe_name(visit):
                log.problems.append(_unsafe(f"{trial}: a visit's folder", visit))
                continue
            scans.append(
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
    return FolderTree(
        participants=tuple(people),
        scans=tuple(scans),
        tables=((trial, table),) if bids and table.is_file() else (),
    )


_SIDE_FILES = (".json", ".tsv", ".md", ".txt", "")


def _visits(person: Path) -> list[tuple[str, Path]]:
    """The visits of a participant's folder, each with the folder of its images."""
    from ..imaging.discovery import find_scan_source

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
    if len(inner) > 1 and _is_one_study(person):
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


def _is_one_study(folder: Path) -> bool:
    """True where all images below have one StudyInstanceUID: folders are then no visits."""
    from ..imaging.discovery import is_single_study

    return is_single_study(folder, named=True)


def _unsafe(where: str, name: str) -> Problem:
    return Problem(
        where=where,
        what=f"the name {name!r} cannot be an id",
        fix="Use letters, digits, dot, dash, underscore; a letter or digit first.",
    )


# ------------------------------------------------------------------ who is in the headers


def check_identities(scans: Sequence[FoundScan], options: CohortOptions, log: ReadingLog) -> None:
    """Problems for folder names that are a name, id or birth date in the images' headers.

    The problem names the place by number, never by the name itself.
    """
    if options.ids_are_pseudonyms:
        return
    from ..imaging.discovery import identity_values

    for number, scan in enumerate(scans, 1):
        # A participant's name is replaced by --pseudonymise; the others are not.
        names = [
            name
            for place, name in enumerate(scan.names)
            if not (place == 1 and options.pseudonymise_key is not None)
        ]
        if not names:
            continue
        known = {form for value in identity_values(scan.source) for form in _forms(value)}
        if any(form in known for name in names for form in _forms(name)):
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
