"""``OUT/bids``: the masks of a run under the names of a BIDS derivative (``segment --bids``).

    bids/dataset_description.json, participants.tsv, desc-cardiometa_dseg.tsv
    bids/sub-TRIALPERSON/ses-VISIT/anat/sub-TRIALPERSON_ses-VISIT_desc-cardiometa_dseg.nii.gz

BIDS 1.10 (Gorgolewski 2016, doi:10.1038/sdata.2016.44): labels are letters and digits, so that of a
subject is trial and participant id without other characters. A mask is a second name (hard link) of
the one that the tables take, a copy only where the file system has no links. The folder is written
anew with the tables; once it is there, later runs, `merge` and `withdraw` keep it up to date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path

from ..errors import InputError, Problem
from ..files import canonical_json, link, remove_tree, write_all, write_text
from ..manifest import version
from ..measurement.measures import STRUCTURES
from ..records import ScanKey, ScanResult
from ..segmentation.model import ModelCard
from .result_file import SEGMENTATION_NAME, used_folder

BIDS_FOLDER = "bids"
BIDS_VERSION = "1.10.0"
_PEOPLE = "participants.tsv"
_HEADING = ("participant_id", "trial", "source_id")
_MASK = "desc-cardiometa_dseg.nii.gz"


def bids_subjects(keys: Iterable[ScanKey]) -> dict[ScanKey, tuple[str, str]]:
    """``sub-…`` and ``ses-…`` of each scan.

    Raises InputError with every id that has no letter or digit and all that would share a name.
    """
    names: dict[ScanKey, tuple[str, str]] = {}
    taken: dict[str, str] = {}
    problems = []
    for key in keys:
        trial, person, visit = ("".join(re.findall("[A-Za-z0-9]", text)) for text in astuple(key))
        names[key] = f"sub-{trial}{person}", f"ses-{visit}"
        # File systems may not distinguish capitals.
        places = {names[key][0].lower(): f"{key.trial}/{key.participant}"}
        places["/".join(names[key]).lower()] = str(key)
        shared = {taken.setdefault(place, owner) for place, owner in places.items()}
        others = sorted(shared - {*places.values()})
        if others or not (trial and person and visit):
            problems.append(
                Problem(
                    where=str(key),
                    what=f"its name would be that of {others[0]}" if others else "an empty name",
                    why="BIDS allows only the letters A to Z and digits in names.",
                    fix="Rename it in the cohort, or run without --bids.",
                )
            )
    if problems:
        raise InputError("The masks cannot have BIDS names.", problems=problems)
    return names


def write_bids(out: Path, results: Sequence[ScanResult], name: str, card: ModelCard) -> None:
    """Write the folder anew where there is one; failed scans have no mask. Raises OutputError."""
    folder = out / BIDS_FOLDER
    if not folder.is_dir():
        return
    clear_bids(out)
    kept = [result.key for result in results if result.status != "failed"]
    subjects = bids_subjects(kept)
    people = sorted({(subjects[k][0], k.trial, k.participant) for k in kept})
    colours = [(str(s.label), s.name, s.code) for s in STRUCTURES]
    described = {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {"Name": "cardiometa", "Version": version(), "Description": f"Model {card.model_id}"}
        ],
    }
    write_all(
        folder,
        {
            _PEOPLE: _tsv([_HEADING, *people]),
            "desc-cardiometa_dseg.tsv": _tsv([("index", "name", "code"), *colours]),
            "dataset_description.json": canonical_json(described),
        },
    )
    for key, (subject, session) in subjects.items():
        target = folder / subject / session / "anat" / f"{subject}_{session}_{_MASK}"
        link(used_folder(out, key) / SEGMENTATION_NAME, target)


def clear_bids(out: Path, *, begin: bool = False) -> None:
    """Remove every mask and every id of the folder, by which `write_bids` knows that it is wanted.

    With ``begin`` it is made where there is none.
    """
    folder = out / BIDS_FOLDER
    if begin or folder.is_dir():
        write_text(folder / _PEOPLE, _tsv([_HEADING]))
        for path in folder.glob("sub-*"):
            remove_tree(path)


def _tsv(lines: Iterable[Sequence[str]]) -> str:
    return "".join("\t".join(line) + "\n" for line in lines)
