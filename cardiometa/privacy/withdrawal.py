"""The withdrawals of an output: who, by keyed hash alone, and the mark on what was derived.

``OUT/withdrawals.json`` has a hash (HMAC-SHA256) of each withdrawn participant. Ids are easily
guessed (001 to 300), so a hash is not a secret where its key is known: the key is next to the
output, in ``<OUT>.withdrawals.key``, readable by its owner alone, and does not travel with a copy
of OUT. Without the key nothing shows who was withdrawn; `segment` then refuses to continue, because
it could bring a withdrawn participant back.

``stale.json`` in a folder says that its ranges or effects were computed from data that must no
longer be used. Computing the output again removes it (`files.write_all`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError
from ..files import (
    STALE_NAME,
    canonical_json,
    create_new,
    inside,
    is_safe_name,
    read_json,
    remove_tree,
    write_text,
)
from ..manifest import made_from, read_run_record

LIST_NAME = "withdrawals.json"
_KIND = "cardiometa withdrawals"
_VERSION = 1
_KEY_BYTES = 32

Mode = Literal["erased", "no-new-data"]
Participant = tuple[str, str]  # trial and participant_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawals:
    """The list of an output: hash to mode, and the hashes of its former ``measurements.csv``.

    ``key`` is empty where no participant was ever withdrawn.
    """

    key: bytes = b""
    modes: Mapping[str, Mode] = field(default_factory=dict)
    tables: tuple[str, ...] = ()

    def mode(self, participant: Participant) -> Mode | None:
        """How a participant was withdrawn, None where not."""
        return self.modes.get(self.hash(participant)) if self.key else None

    def hash(self, participant: Participant) -> str:
        """The keyed hash in the list; the length keeps trial and id apart."""
        trial, identity = participant
        message = f"withdrawn {len(trial)}:{trial}{identity}".encode()
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()


def key_path(out: Path) -> Path:
    """Where the key of an output's list is: next to OUT, so that a copy of OUT has none."""
    folder = out.resolve()
    return folder.parent / f"{folder.name}.withdrawals.key"


def count_erased(out: Path) -> int:
    """How many participants were erased from an output; needs no key."""
    return sum(mode == "erased" for mode in _document(out)["people"].values())


def former_tables(out: Path) -> tuple[str, ...]:
    """The hashes of the tables that an output had before an erasure; needs no key."""
    return tuple(_document(out)["tables"])


def read_withdrawals(out: Path) -> Withdrawals:
    """The list of an output with its key; InputError where there is a list and no key."""
    document = _document(out)
    if not document["people"]:
        return Withdrawals(tables=tuple(document["tables"]))
    key = _read_key(key_path(out))
    if document["key_check"] != _key_check(key):
        raise InputError(
            f"Participants were withdrawn from {out.name}, and the key that identifies them, "
            f"{key_path(out).name}, is missing next to it or is another one.",
            hint="Without it a withdrawn participant could come back. Put the key next to the "
            "folder; if it is lost, start a new output from a cohort without those who withdrew.",
        )
    return Withdrawals(key=key, modes=document["people"], tables=tuple(document["tables"]))


def _read_key(path: Path) -> bytes:
    """The key in a file, empty where it is missing or not a key."""
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return b""
    return key if len(key) == _KEY_BYTES else b""


def _key_check(key: bytes) -> str:
    return hmac.new(key, b"cardiometa: which key", hashlib.sha256).hexdigest()[:16]


def _document(out: Path) -> dict[str, Any]:
    path = out / LIST_NAME
    if not path.is_file():
        return {"people": {}, "tables": []}
    document = read_json(path)
    try:
        sound = (
            (document["kind"], document["version"]) == (_KIND, _VERSION)
            and set(document["people"].values()) <= {"erased", "no-new-data"}
            and isinstance(document["tables"], list)
            and isinstance(document["key_check"], str)
        )
    except (KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise InputError(
            f"{LIST_NAME} in {out.name} is damaged.",
            hint="It says who must not come back. Restore it from a copy before continuing.",
        )
    return dict(document)


def with_key(out: Path, withdrawals: Withdrawals) -> Withdrawals:
    """The list with a key to add participants by: its own, or a new one that is written first."""
    if withdrawals.key:
        return withdrawals
    path = key_path(out)
    create_new(path, f"{secrets.token_hex(_KEY_BYTES)}\n".encode(), secret=True)
    key = _read_key(path)
    if not key:
        raise InputError(
            f"{path.name} next to the output is not a key.",
            hint="Move it away; a new one is made.",
        )
    return replace(withdrawals, key=key)


def write_withdrawals(out: Path, withdrawals: Withdrawals) -> None:
    """Write the list; from here on a participant on it does not come back."""
    document = {
        "kind": _KIND,
        "version": _VERSION,
        "key_check": _key_check(withdrawals.key),
        "people": dict(withdrawals.modes),
        "tables": sorted(set(withdrawals.tables)),
    }
    write_text(out / LIST_NAME, canonical_json(document))


def remove_erased(out: Path, withdrawals: Withdrawals) -> int:
    """Remove the scans of all who were erased, also what a killed run left; how many participants.

    All of ``OUT/scans/<trial>/<participant>`` is tried, since the list does not say who they are.
    """
    count = 0
    if "erased" not in withdrawals.modes.values():
        return count
    for folder in sorted((out / "scans").glob("*/*")):
        if withdrawals.mode((folder.parent.name, folder.name)) == "erased":
            remove_tree(folder)
            count += 1
    return count


# ------------------------------------------------------------------ derived outputs

OUTDATED = (
    "Participants who withdrew were erased from the data that this was computed from. Do not use "
    "or publish it; compute it again from the present table."
)
_BANNER = (
    '<p role="alert" style="border:3px solid #b00020;padding:0.6em;font-weight:bold" '
    f'id="stale">{OUTDATED}</p>'
)
_BODY = re.compile(r"<body[^>]*>")


def is_outdated(folder: Path) -> bool:
    """True for an output that was marked since it was computed."""
    return (folder / STALE_NAME).is_file()


def derived_outputs(out: Path, tables: Collection[str]) -> list[Path]:
    """Outputs in the same folder as ``out`` that were made from one of its tables."""
    own = out.resolve()
    try:
        folders = sorted(path for path in own.parent.iterdir() if path.is_dir())
    except OSError:
        return []
    return [path for path in folders if path != own and made_from(path, tables)]


def mark_outdated(folder: Path, participants: Iterable[Participant]) -> None:
    """Mark an output, on its pages too, and remove masks of ``participants``; repeatable."""
    read_run_record(folder)
    write_text(
        folder / STALE_NAME,
        canonical_json({"kind": "cardiometa stale", "why": "withdrawal", "sentence": OUTDATED}),
    )
    places = [folder / "corrections", folder / "labels", *(folder / "labels").glob("*/")]
    for (trial, participant), place in product(participants, places):
        if is_safe_name(trial) and is_safe_name(participant):
            masks = inside(place, trial, participant)
            if masks.is_dir():
                remove_tree(masks)
    for path in sorted(folder.glob("*.html")):
        text = path.read_text(encoding="utf-8")
        found = _BODY.search(text)
        if found and _BANNER not in text:
            write_text(path, text[: found.end()] + _BANNER + text[found.end() :])
