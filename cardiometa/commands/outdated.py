"""Outputs that were made from a table which has changed since a person withdrew.

``stale.json`` in a folder says that its ranges or effects stand on data that are no longer to be
used; computing the output again takes it away (`files.write_all`). Where rows of single people are
in such an output (lists of exclusions, outliers, readings), those of the people who withdrew are
removed at once; pages made with ``--internal`` draw people as points and go whole.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import (
    RECORD_NAME,
    STALE_NAME,
    canonical_json,
    inside,
    is_safe_name,
    read_json,
    remove,
    remove_tree,
    write_text,
)

Person = tuple[str, str]

SENTENCE = (
    "People who withdrew were erased from the data that this was computed from. Do not use or "
    "publish it; compute it again from the present table."
)
_BANNER = (
    '<p role="alert" style="border:3px solid #b00020;padding:0.6em;font-weight:bold" '
    f'id="stale">{SENTENCE}</p>'
)
_BODY = re.compile(r"<body[^>]*>")


def record_of(folder: Path) -> dict[str, Any]:
    """The record of an output; InputError where there is none or it is damaged."""
    path = folder / RECORD_NAME
    if not path.is_file():
        raise InputError(
            f"The folder {folder.name} holds no {RECORD_NAME}.",
            hint="Give a folder that a command of this program wrote.",
        )
    record = read_json(path)
    if not (
        isinstance(record, dict)
        and isinstance(record.get("command"), str)
        and all(isinstance(record.get(name, {}), dict) for name in ("inputs", "options", "run"))
    ):
        raise InputError(f"{RECORD_NAME} in {folder.name} is damaged.")
    return record


def made_from(folder: Path, tables: Collection[str]) -> bool:
    """True for a folder whose record names one of the tables by its hash."""
    try:
        record = record_of(folder)
    except InputError:
        return False
    return not set(tables).isdisjoint(map(str, record["inputs"].values()))


def beside(out: Path, tables: Collection[str]) -> list[Path]:
    """Outputs in the same folder as ``out`` that were made from one of its tables."""
    whole = out.resolve()
    try:
        folders = sorted(path for path in whole.parent.iterdir() if path.is_dir())
    except OSError:
        return []
    return [path for path in folders if path != whole and made_from(path, tables)]


def is_marked(folder: Path) -> bool:
    """True for an output that was marked since it was computed."""
    return (folder / STALE_NAME).is_file()


def mark_stale(folder: Path, people: Iterable[Person]) -> None:
    """Mark an output and take rows of ``people`` out of it; doing it again changes nothing."""
    record = record_of(folder)
    write_text(
        folder / STALE_NAME,
        canonical_json({"kind": "cardiometa stale", "why": "withdrawal", "sentence": SENTENCE}),
    )
    gone = frozenset(people)
    for path in sorted(folder.rglob("*.csv")):
        _without_rows(folder, path, gone)
    for trial, person in gone:
        # Masks that came home from a reader.
        if is_safe_name(trial) and is_safe_name(person):
            own = inside(folder / "corrections", trial, person)
            if own.is_dir():
                remove_tree(own)
    if record.get("options", {}).get("internal") is True:
        drawn = [f"figures/{path.name}" for path in sorted(folder.glob("figures/*"))]
        remove(folder, ["report.html", *drawn])
    for path in sorted(folder.glob("*.html")):
        _with_banner(path)


def _without_rows(folder: Path, path: Path, people: Collection[Person]) -> None:
    """A table of ours without the rows of some people; files that the rows name go too."""
    text = path.read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    if not rows or not {"trial", "participant_id"} <= set(rows[0]):
        return
    at = [rows[0].index(name) for name in ("trial", "participant_id")]
    kept = [rows[0]]
    files = []
    for row in rows[1:]:
        if len(row) == len(rows[0]) and (row[at[0]], row[at[1]]) in people:
            if "labels" in rows[0]:
                files.append(row[rows[0].index("labels")])
        else:
            kept.append(row)
    if len(kept) == len(rows):
        return
    for name in files:
        target = (path.parent / name).resolve()
        if target.is_file() and target.is_relative_to(folder.resolve()):
            remove(target.parent, [target.name])
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(kept)
    write_text(path, buffer.getvalue())


def _with_banner(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = _BODY.search(text)
    if found and _BANNER not in text:
        write_text(path, text[: found.end()] + _BANNER + text[found.end() :])
