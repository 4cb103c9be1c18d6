"""Who was withdrawn from an output, by keyed hash alone, and what that does to a cohort.

``OUT/withdrawals.json`` holds a hash (HMAC-SHA256) for each person. Ids are easily guessed (001 to
300), so a hash is no secret where its key is known: the key lies beside the output, in
``<OUT>.withdrawals.key``, readable by its owner alone, and does not travel with a copy of OUT.
Without the key nobody can tell who was withdrawn; nor can `segment`, which then refuses to go on
rather than bring somebody back.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InputError
from ..files import canonical_json, create_new, read_json, remove_tree, write_text
from .cohort_snapshot import read_snapshot

if TYPE_CHECKING:
    import pandas as pd

    from ..cohort.models import Cohort


LIST_NAME = "withdrawals.json"
_KIND = "cardiometa withdrawals"
_VERSION = 1
_KEY_BYTES = 32

Mode = Literal["erased", "no-new-data"]
Person = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawals:
    """The list of an output: hash to mode, and the hashes of its former ``measurements.csv``.

    ``key`` is empty where nobody was ever withdrawn.
    """

    key: bytes = b""
    people: Mapping[str, Mode] = field(default_factory=dict)
    tables: tuple[str, ...] = ()

    def mode(self, person: Person) -> Mode | None:
        """How a person was withdrawn, None where not at all."""
        return self.people.get(self.hash(person)) if self.key else None

    def hash(self, person: Person) -> str:
        """What stands for a person in the list; the lengths keep trial and id apart."""
        trial, participant = person
        message = f"withdrawn {len(trial)}:{trial}{participant}".encode()
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()

    @property
    def erased(self) -> int:
        """How many people were erased."""
        return sum(mode == "erased" for mode in self.people.values())


def key_path(out: Path) -> Path:
    """Where the key of an output's list lies: beside it, so that a copy of OUT has none."""
    whole = out.resolve()
    return whole.parent / f"{whole.name}.withdrawals.key"


def count_erased(out: Path) -> int:
    """How many people were erased from an output; needs no key."""
    return sum(mode == "erased" for mode in _document(out)["people"].values())


def former_tables(out: Path) -> tuple[str, ...]:
    """The hashes of the tables that an output had before somebody was erased; needs no key."""
    return tuple(_document(out)["tables"])


def read_withdrawals(out: Path) -> Withdrawals:
    """The list of an output with its key; InputError where there is a list and no key."""
    document = _document(out)
    path = key_path(out)
    if not document["people"]:
        return Withdrawals(tables=tuple(document["tables"]))
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        key = b""
    if len(key) != _KEY_BYTES or document["key_check"] != _check(key):
        raise InputError(
            f"People were withdrawn from {out.name}, and the key that tells who, {path.name}, is "
            "not beside it or is another one.",
            hint="Without it a withdrawn person would come back. Put the key where the folder is; "
            "if it is lost, start a new output from a cohort without the people who withdrew.",
        )
    return Withdrawals(key=key, people=document["people"], tables=tuple(document["tables"]))


def _check(key: bytes) -> str:
    return hmac.new(key, b"cardiometa: which key", hashlib.sha256).hexdigest()[:16]


def _document(out: Path) -> dict[str, Any]:
    path = out / LIST_NAME
    if not path.is_file():
        return {"people": {}, "tables": []}
    document = read_json(path)
    try:
        sound = document["kind"] == _KIND and document["version"] == _VERSION
        sound = sound and set(document["people"].values()) <= {"erased", "no-new-data"}
        sound = sound and isinstance(document["tables"], list)
        sound = sound and isinstance(document["key_check"], str)
    except (KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise InputError(
            f"{LIST_NAME} in {out.name} is damaged.",
            hint="It says who must not come back. Restore it from a copy before going on.",
        )
    return dict(document)


def with_key(out: Path, withdrawals: Withdrawals) -> Withdrawals:
    """The list with a key to add people by: its own, or a new one that is written first."""
    if withdrawals.key:
        return withdrawals
    path = key_path(out)
    create_new(path, f"{secrets.token_hex(_KEY_BYTES)}\n".encode(), secret=True)
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise InputError(
            f"{path.name} beside the output is no key.", hint="Move it away; a new one is made."
        )
    return replace(withdrawals, key=key)


def write_withdrawals(out: Path, withdrawals: Withdrawals) -> None:
    """Write the list; from here on a person on it does not come back."""
    document = {
        "kind": _KIND,
        "version": _VERSION,
        "key_check": _check(withdrawals.key),
        "people": dict(withdrawals.people),
        "tables": sorted(set(withdrawals.tables)),
    }
    write_text(out / LIST_NAME, canonical_json(document))


# ------------------------------------------------------------------ what it does to a cohort


def without_withdrawn(out: Path, cohort: Cohort) -> Cohort:
    """The cohort as an output may have it: nobody who was erased, nothing new of the others.

    Nothing is written. Raises InputError where the list or its key cannot be read.
    """
    withdrawals = read_withdrawals(out)
    if not withdrawals.people:
        return cohort
    people = _people_of(cohort)
    erased = {who for who in people if withdrawals.mode(who) == "erased"}
    kept = {who for who in people if withdrawals.mode(who) == "no-new-data"}
    if erased:
        cohort = without_people(cohort, erased)
    return _as_before(out, cohort, kept) if kept else cohort


def _people_of(cohort: Cohort) -> set[Person]:
    rows = cohort.participants
    people = set(zip(rows["trial"].map(str), rows["participant_id"].map(str), strict=True))
    return people | {(scan.key.trial, scan.key.participant) for scan in cohort.scans}


def without_people(cohort: Cohort, people: Iterable[Person]) -> Cohort:
    """The cohort without some people: their rows, scans and visits."""
    gone = frozenset(people)
    rows = cohort.participants
    stays = [
        (str(trial), str(person)) not in gone
        for trial, person in zip(rows["trial"], rows["participant_id"], strict=True)
    ]
    return replace(
        cohort,
        participants=rows[stays].reset_index(drop=True),
        scans=tuple(s for s in cohort.scans if (s.key.trial, s.key.participant) not in gone),
        visits_without_images=tuple(
            key for key in cohort.visits_without_images if (key.trial, key.participant) not in gone
        ),
    )


def _as_before(out: Path, cohort: Cohort, kept: set[Person]) -> Cohort:
    """The cohort with what is new of some people left out: scans, visits and columns.

    What was there when they withdrew stands in the output's own snapshot.
    """
    before = read_snapshot(out).cohort
    known = {scan.key: scan for scan in before.scans}
    scans = []
    for scan in cohort.scans:
        if (scan.key.trial, scan.key.participant) not in kept:
            scans.append(scan)
        elif scan.key in known:
            old = known[scan.key]
            scans.append(replace(scan, visit_day=old.visit_day, reported=old.reported))
    blank = [
        *(v for v in cohort.visits_without_images if (v.trial, v.participant) not in kept),
        *(v for v in before.visits_without_images if (v.trial, v.participant) in kept),
    ]
    return replace(
        cohort,
        participants=_rows_as_before(cohort, before, kept),
        scans=tuple(scans),
        visits_without_images=tuple(sorted(blank)),
    )


def _rows_as_before(cohort: Cohort, before: Cohort, kept: set[Person]) -> pd.DataFrame:
    """The roster with the old rows of some people; a column that is new is empty for them."""
    rows, old = cohort.participants.copy(), before.participants
    places = {
        (str(trial), str(person)): place
        for place, (trial, person) in enumerate(
            zip(old["trial"], old["participant_id"], strict=True)
        )
    }
    for at, (trial, person) in enumerate(zip(rows["trial"], rows["participant_id"], strict=True)):
        who = (str(trial), str(person))
        if who not in kept or who not in places:
            continue
        for number, name in enumerate(rows.columns):
            value = old[name].iloc[places[who]] if name in old else None
            rows.iloc[at, number] = value
    return rows


def remove_erased(out: Path, withdrawals: Withdrawals) -> int:
    """Remove the scans of everybody who was erased, also what a killed run left; how many people.

    ``OUT/scans/<trial>/<participant>`` is looked through, since the list does not say who they are.
    """
    top, count = out / "scans", 0
    if not top.is_dir() or not withdrawals.erased:
        return 0
    for trial in sorted(path for path in top.iterdir() if path.is_dir()):
        for person in sorted(trial.iterdir()):
            if withdrawals.mode((trial.name, person.name)) == "erased":
                remove_tree(person)
                count += 1
    return count
