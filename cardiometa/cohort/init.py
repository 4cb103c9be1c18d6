"""A first cohort.toml for a folder: columns, units and codes are guessed, each with a comment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..errors import CohortError, InputError
from .ethnicity import group_of
from .read_table import SUFFIXES, read_any_table
from .recode import (
    FALSE_WORDS,
    ROSTER_COLUMNS,
    TRUE_WORDS,
    UNITS,
    as_numbers,
    as_text,
    is_unknown,
    kind_of,
)

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NAMES: dict[str, tuple[str, ...]] = {
    "participant_id": (
        *("participantid", "participant", "subjid", "usubjid", "subjectid", "subject", "subj"),
        *("patientid", "patient", "pid", "id", "studyid"),
    ),
    "age_years": ("ageyears", "age", "ageyr", "ageyrs", "ageatbaseline"),
    "sex": ("sex", "gender"),
    "ethnicity": ("ethnicity", "race", "ethnicgroup", "ethnic"),
    "height_cm": ("heightcm", "height", "ht", "heightin", "htin", "heightm", "htm", "htcm"),
    "weight_kg": ("weightkg", "weight", "wt", "weightlb", "wtlb", "weightlbs", "wtkg"),
    "arm": ("arm", "trt01p", "trt01a", "treatment", "trt", "allocation", "armcd", "group"),
    "healthy": ("healthy", "hvfl", "healthyvolunteer"),
    "death_day": ("deathday",),
    "withdrawal_day": ("withdrawalday",),
    "reason_no_scan": ("reasonnoscan",),
}
_CONTROL_WORDS = frozenset({"placebo", "control", "usual care", "standard care", "standard"})
# Words that need no map, and what the user chooses from otherwise.
_UNDERSTOOD: dict[str, tuple[frozenset[str], str]] = {
    "sex": (frozenset({"m", "f", "male", "female"}), "male, female"),
    "boolean": (TRUE_WORDS | FALSE_WORDS, "true, false"),
    "ethnicity": (frozenset(), "the group"),
}
_SCHEMES = ("hhc", "cdisc", "ons2021", "ukb21000", "omb1997", "spd15-2024")
# Units by the median that adults have in them, and what a name may say.
_MEDIANS: dict[str, dict[str, tuple[float, float]]] = {
    "height_cm": {"cm": (130, 210), "m": (1.3, 2.1), "in": (51, 83), "ft": (4.3, 6.9)},
    "weight_kg": {"kg": (40, 130), "lb": (130, 290), "g": (40_000, 130_000)},
}
_MOST_CODES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessedColumn:
    """One line of a ``[columns]`` table and the remark behind it."""

    name: str
    column: str
    text: str
    remark: str


def quoted(text: str) -> str:
    """A TOML string: its escapes are those of JSON, and it has none for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(text: str) -> str:
    """A TOML key, quoted where it must be."""
    return text if _BARE_KEY.fullmatch(text) else quoted(text)


def plain_name(column: str) -> str:
    """A column's name without case and signs, as it is looked up."""
    return "".join(sign for sign in column.casefold() if sign.isalnum())


def id_column(table: pd.DataFrame) -> str | None:
    """The column that looks like the participants' id."""
    return _column_of("participant_id", table)


def guess_columns(table: pd.DataFrame) -> list[GuessedColumn]:
    """A guess for each harmonised column that the roster seems to have."""
    guesses = []
    taken: set[str] = set()
    for name in ROSTER_COLUMNS:
        column = _column_of(name, table)
        if column is not None and column not in taken:
            taken.add(column)
            guesses.append(_guess(name, column, table[column]))
    return guesses


def _column_of(name: str, table: pd.DataFrame) -> str | None:
    # Read from the right, so that the first of two alike is taken.
    by_plain = {plain_name(str(c)): str(c) for c in reversed(list(table.columns))}
    return next((by_plain[word] for word in _NAMES[name] if word in by_plain), None)


def _guess(name: str, column: str, values: pd.Series) -> GuessedColumn:
    kind, extra, remark = kind_of(name), "", "by its name"
    if kind in ("length", "mass"):
        extra, remark = _guess_unit(name, values)
    elif name == "arm":
        extra, remark = _guess_arm(_counts(values))
    elif kind in _UNDERSTOOD:
        words, choices = _UNDERSTOOD[kind]
        counts = _counts(values)
        listed = _listed(counts)
        fits = (s for s in _SCHEMES if counts and all(group_of(s, v)[1] for v, _ in counts))
        scheme = next(fits, None) if kind == "ethnicity" else None
        if scheme is not None:
            extra, remark = f"scheme = {quoted(scheme)}", f"all terms are of {scheme}: {listed}"
        elif words and all(value.casefold() in words for value, _ in counts):
            remark = f"understood: {listed}"
        else:
            # Values that the user must give: "?" is refused until then.
            pairs = ", ".join(f'{toml_key(value)} = "?"' for value, _ in counts[:_MOST_CODES])
            extra, remark = f"map = {{ {pairs} }}", f"choose {choices} or NA for each: {listed}"
    text = quoted(column) if not extra else f"{{ column = {quoted(column)}, {extra} }}"
    return GuessedColumn(name=name, column=column, text=text, remark=remark)


def _counts(values: pd.Series) -> list[tuple[str, int]]:
    text = as_text(values)
    counts = pd.Series(text[~text.map(is_unknown).astype(bool)]).value_counts()
    return sorted((str(value), int(count)) for value, count in counts.items())


def _listed(counts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{value!r} {count}" for value, count in counts[:_MOST_CODES])


def _guess_unit(name: str, values: pd.Series) -> tuple[str, str]:
    numbers, bad = as_numbers(values)
    if bad.any() or not numbers.notna().any():
        return "", "by its name; not all cells are numbers"
    median = float(numbers.median())
    home = next(iter(UNITS[kind_of(name)]))
    for unit, (low, high) in _MEDIANS[name].items():
        if low <= median < high:
            remark = f"by its median {median:.4g}"
            return (f"unit = {quoted(unit)}" if unit != home else ""), f"{remark}: {unit}"
    return "", f"the median {median:.4g} fits no unit: check it"


def _guess_arm(counts: Sequence[tuple[str, int]]) -> tuple[str, str]:
    control = [value for value, _ in counts if value.casefold() in _CONTROL_WORDS]
    if len(control) != 1 or control[0] == "control" or len(counts) > _MOST_CODES:
        return "", f"its arms: {_listed(counts)}; the reference arm should become control"
    pairs = ", ".join(
        f'{toml_key(value)} = "control"'
        if value == control[0]
        else f"{toml_key(value)} = {quoted(value)}"
        for value, _ in counts
    )
    return f"map = {{ {pairs} }}", f"its arms: {_listed(counts)}"


_DEPTH = 3
_IMAGE_FOLDERS = ("images", "image", "dicom", "dicoms", "nifti", "scans", "mri")
_TRIAL_WORDS = ("participants", "participant", "roster", "subjects", "baseline", "adsl", "dm")
_HEAD = """\
# A first definition of this cohort, guessed from its files. Every line that ends in "guessed"
# needs a check; then run: cardiometa check COHORT
"""
_EMPTY = """\
# No table with a row for each participant was found, so no trial is defined yet.
# Make one table a trial and fill this in:
#
# [trials.ALPHA]
# participants = "alpha/participants.csv"   # one row per participant, all who were randomised
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
    the user has filled them in.
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
        siblings = [s for s in scans if s.path.parent == roster.path.parent]
        lines += _trial_lines(name, roster, siblings, base)
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
        lines.append(
            f"scans = {quoted(_relative(scans[0].path, base))}  # guessed: in the same folder"
        )
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
    lines.append("carry = []  # columns to keep; the others are dropped")
    if others:
        lines.append(f"# it could carry: {', '.join(quoted(column) for column in others)}")
    lines += ["", f"[trials.{toml_key(name)}.columns]"]
    lines += [_column_line(guess) for guess in guesses]
    return lines


def _column_line(guess: GuessedColumn) -> str:
    # A remark stays on one line, whatever characters the codes contain.
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
