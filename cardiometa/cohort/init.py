"""Write the first cohort.toml for a folder, every guess commented."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..errors import CohortError, InputError
from .infer_columns import GuessedColumn, guess_columns, id_column, plain_name, quoted, toml_key
from .parsing import as_text
from .read_table import SUFFIXES, read_any_table

_DEPTH = 3
_IMAGE_FOLDERS = ("images", "image", "dicom", "dicoms", "nifti", "scans", "mri")
_TRIAL_WORDS = ("participants", "participant", "roster", "subjects", "baseline", "adsl", "dm")
_HEAD = """\
# A first definition of this cohort, guessed from its files. Every line that ends in "guessed"
# wants a look; then run: cardiometa check COHORT
"""
_EMPTY = """\
# No table with a row for each participant was found, so no trial is defined yet.
# Make one table a trial and fill this in:
#
# [trials.ALPHA]
# participants = "alpha/participants.csv"   # one row a participant, all who were randomised
# scans        = "alpha/scans.csv"          # participant_id, visit, images
# root         = "alpha/images"             # where the image paths start
# randomised   = true
#
# Folders trial/participant/visit/images need no cohort.toml: give the folder itself to segment.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    path: Path
    table: pd.DataFrame


def first_definition(folder: Path, base: Path | None = None) -> str:
    """The text of a first cohort.toml for ``folder``; paths in it start in ``base``.

    Valid TOML always. Codes that cannot be guessed are ``"?"``, which `check` refuses until
    somebody has said what they are.
    """
    if not folder.is_dir():
        raise CohortError(f"There is no folder {folder.name}.", hint="Check the path.")
    base = base or folder
    rosters, scans, unread = _sort_tables(folder)
    lines = [_HEAD, f"name = {quoted(folder.resolve().name)}  # guessed\n"]
    lines += [f"# Not read: {quoted(name)} ({reason})" for name, reason in unread]
    if not rosters:
        return "\n".join([*lines, "", _EMPTY])
    names: set[str] = set()
    for roster in rosters:
        name = _trial_name(roster.path, folder, names)
        names.add(name)
        beside = [s for s in scans if s.path.parent == roster.path.parent]
        lines += _trial_lines(name, roster, beside, base)
    return "\n".join(lines) + "\n"


def _sort_tables(folder: Path) -> tuple[list[_Found], list[_Found], list[tuple[str, str]]]:
    """Rosters, scans tables, and the tables that could not be read with the reason."""
    rosters, scans, unread = [], [], []
    for path in _tables(folder, _DEPTH):
        try:
            table = read_any_table(path)
        except InputError as error:
            unread.append((path.name, error.message.rstrip(".")))
            continue
        found = _Found(path=path, table=table)
        columns = {str(column) for column in table.columns}
        if columns & {"images", "ed_images"}:
            scans.append(found)
        elif id_column(table) is not None:
            rosters.append(found)
    return rosters, scans, unread


def _tables(folder: Path, depth: int) -> Iterator[Path]:
    for child in sorted(folder.iterdir()):
        if child.name.startswith("."):
            continue
        if child.is_file() and child.suffix.lower() in SUFFIXES and child.suffix != ".txt":
            yield child
        elif child.is_dir() and depth > 1:
            yield from _tables(child, depth - 1)


def _trial_name(path: Path, folder: Path, taken: set[str]) -> str:
    """The folder's name, or for tables that lie together what tells their names apart."""
    name = path.parent.resolve().name
    if path.parent == folder or name in taken:
        words = [w for w in path.stem.replace("-", "_").split("_") if w.lower() not in _TRIAL_WORDS]
        name = "_".join(words) or name
    number, first = 2, name
    while name in taken:
        name, number = f"{first}_{number}", number + 1
    return name


def _trial_lines(name: str, roster: _Found, scans: list[_Found], base: Path) -> list[str]:
    guesses = guess_columns(roster.table)
    arm = next((guess for guess in guesses if guess.name == "arm"), None)
    randomised = arm is not None and len(set(as_text(roster.table[arm.column])) - {""}) > 1
    root = _root(roster.path.parent, scans)
    lines = [
        "",
        f"[trials.{toml_key(name)}]  # guessed from where its table lies",
        f"participants = {quoted(_relative(roster.path, base))}  # {len(roster.table)} rows",
    ]
    if scans:
        lines.append(f"scans = {quoted(_relative(scans[0].path, base))}  # guessed: beside it")
        lines += [f"# also there: {quoted(_relative(s.path, base))}" for s in scans[1:]]
    else:
        lines.append("# no scans table: scans are folders participant/visit/images below root")
    why = "it has arms" if randomised else "no column of several arms was found"
    lines += [
        f"root = {quoted(_relative(root, base))}  # guessed: where image paths start",
        f"randomised = {str(randomised).lower()}  # guessed: {why}",
    ]
    if any(str(c).startswith("reported_") for s in scans for c in s.table.columns):
        lines.append('papillary = "?"  # of the reported_ values: blood-pool or myocardium')
    used = {guess.column for guess in guesses}
    others = [str(column) for column in roster.table.columns if column not in used]
    lines.append("carry = []  # columns that go on; the others are dropped")
    if others:
        lines.append(f"# it could carry: {', '.join(quoted(column) for column in others)}")
    lines += ["", f"[trials.{toml_key(name)}.columns]"]
    lines += [_column_line(guess) for guess in guesses]
    return lines


def _column_line(guess: GuessedColumn) -> str:
    # A remark stays on one line, whatever signs the codes hold.
    remark = " ".join(guess.remark.split())
    return f"{guess.name} = {guess.text}  # guessed: {remark}"


def _root(folder: Path, scans: list[_Found]) -> Path:
    """Where the first image path of the scans table leads somewhere, else a folder's name."""
    named = [c for c in sorted(folder.iterdir()) if c.is_dir()]
    likely = [c for c in named if plain_name(c.name) in _IMAGE_FOLDERS]
    for scan in scans[:1]:
        column = "images" if "images" in scan.table.columns else "ed_images"
        first = next((cell for cell in as_text(scan.table[column]) if cell), "")
        places = [folder, *likely, *named, folder.parent]
        return next((place for place in places if first and (place / first).exists()), folder)
    return likely[0] if likely else folder


def _relative(path: Path, base: Path) -> str:
    """The path from ``base``, with forward slashes on every system."""
    return Path(os.path.relpath(path.resolve(), base.resolve())).as_posix()
