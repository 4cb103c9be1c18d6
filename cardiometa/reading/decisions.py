"""``decisions.csv``: what readers decided about scans, one row per decision, the last one counts.

``review`` appends to it; a table written by hand needs `REQUIRED` only. ``mask`` is the path of an
edited mask below the folder of the table; ``before`` and ``after`` are SHA-256 of the mask file
that the reader was shown and of the one that was decided on.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from ..errors import InputError, Problem
from ..files import append_text, csv_text, is_safe_name, remove_tree, write_text
from ..records import ScanKey

DECISIONS_NAME = "decisions.csv"
MASKS_FOLDER = "masks"
REVIEW_FOLDER = "review"  # below OUT
REQUIRED = ("trial", "participant_id", "visit", "decision")

Word = Literal["accepted", "edited", "rejected", "reopened", "saved"]
WORDS = get_args(Word)
# A row that takes an earlier decision back, and one that only keeps a mask for later.
_OPEN, _DRAFT = "reopened", "saved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One row: frames in the source's numbering from 0, ``seconds`` spent on the scan.

    ``line`` is the row's number in the file, the header being 1.
    """

    trial: str
    participant_id: str
    visit: str
    reader: str = ""
    time: str = ""
    decision: str
    reason: str = ""
    comment: str = ""
    seconds: float | None = None
    ed_frame: int | None = None
    es_frame: int | None = None
    before: str = ""
    after: str = ""
    mask: str = ""
    line: int = 0

    @property
    def key(self) -> ScanKey:
        """The scan."""
        return ScanKey(trial=self.trial, participant=self.participant_id, visit=self.visit)

    @property
    def frames(self) -> dict[str, int]:
        """The frames that the reader chose, by the name of their column."""
        chosen = {"ed_frame": self.ed_frame, "es_frame": self.es_frame}
        return {name: frame for name, frame in chosen.items() if frame is not None}


COLUMNS = tuple(field.name for field in fields(Decision) if field.name != "line")
_NUMBERS = {"seconds": float, "ed_frame": int, "es_frame": int}


def read_decisions(path: Path) -> tuple[list[Decision], list[Problem]]:
    """Every row of a table, and all problems of the rows that cannot be used.

    Comma, semicolon or tab; a last row that a killed program left unfinished is not a decision.
    Raises InputError where the file is not such a table.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path.name} cannot be read as UTF-8 text ({type(error).__name__}).",
            hint="Save it as CSV with the encoding UTF-8.",
        ) from None
    rows, header, _ = _cells(text)
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise InputError(
            f"{path.name} has no column {', '.join(missing)}.",
            hint=f"It needs {', '.join(REQUIRED)}; optional are reader, reason, mask and others "
            "that `cardiometa review` writes.",
        )
    if len(rows) > 1 and not text.endswith("\n") and len(rows[-1]) < len(header):
        rows.pop()
    decisions, problems = [], []
    for line, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        cells = {n: _plain(c) for n, c in zip(header, row, strict=False) if n in COLUMNS}
        where = f"{path.name}, row {line}"
        if len(row) != len(header):
            what = f"there are {len(row)} cells, the header has {len(header)}"
            problems.append(Problem(where=where, what=what, fix="Quote cells that contain commas."))
            continue
        found = _decision(cells, line)
        if isinstance(found, Decision):
            decisions.append(found)
        else:
            problems += [replace(problem, where=where) for problem in found]
    return decisions, problems


def _cells(text: str) -> tuple[list[list[str]], list[str], str]:
    """The rows of a table, the first one's cells as names of columns, and the separator."""
    separator = max(",;\t", key=text.partition("\n")[0].count)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    return rows, [name.strip().lower() for name in rows[0]] if rows else [], separator


def _plain(text: str) -> str:
    """A cell without the apostrophe that keeps a spreadsheet from computing it."""
    text = text.strip()
    return text[1:] if text[:1] == "'" and text[1:2] in ("=", "+", "-", "@") else text


def _decision(cells: Mapping[str, str], line: int) -> Decision | list[Problem]:
    problems = []
    values: dict[str, object] = dict(cells)
    for name, kind in _NUMBERS.items():
        text = cells.get(name, "")
        try:
            number = kind(text) if text else None
        except ValueError:
            number = -1
        values[name] = number
        if number is not None and not 0 <= number < 1e9:
            problems.append(Problem(where="", what=f"{name} is not a number from 0: {text!r}"))
    word = cells["decision"].lower()
    values["decision"] = word
    if word not in WORDS:
        fix = f"Use {', '.join(WORDS)}."
        problems.append(Problem(where="", what=f"the decision {word!r} is not known", fix=fix))
    if word == "rejected" and not cells.get("reason"):
        what, why = "a rejected scan has no reason", "The reason is reported with the exclusions."
        problems.append(Problem(where="", what=what, why=why, fix="Fill in the column reason."))
    return problems or Decision(**values, line=line)  # type: ignore[arg-type]


def last_decisions(decisions: Iterable[Decision]) -> dict[ScanKey, dict[str, Decision]]:
    """The decision of each reader on each scan that counts: the last, if not taken back."""
    found: dict[ScanKey, dict[str, Decision]] = {}
    for decision in decisions:
        if decision.decision == _OPEN:
            found.get(decision.key, {}).pop(decision.reader, None)
        elif decision.decision != _DRAFT:
            found.setdefault(decision.key, {})[decision.reader] = decision
    return {key: by_reader for key, by_reader in found.items() if by_reader}


def chosen_decisions(
    by_scan: Mapping[ScanKey, Mapping[str, Decision]], reader: str | None
) -> tuple[dict[ScanKey, Decision], list[Problem]]:
    """One decision per scan: ``reader``'s, or the one on which all agree; else a problem."""
    chosen: dict[ScanKey, Decision] = {}
    problems: list[Problem] = []
    if reader is not None and not any(reader in found for found in by_scan.values()):
        known = sorted({name for found in by_scan.values() for name in found})
        what = f"there is no decision of the reader {reader!r}"
        fix = f"Readers: {', '.join(map(repr, known)) or 'none'}."
        problems.append(Problem(where="--reader", what=what, fix=fix))
    for key, found in sorted(by_scan.items()):
        if reader is not None:
            if reader in found:
                chosen[key] = found[reader]
            continue
        said = list(found.values())
        if len({(d.decision, d.after or d.mask, d.ed_frame, d.es_frame) for d in said}) > 1:
            words = ", ".join(f"{d.reader or 'no name'}: {d.decision}" for d in said)
            problems.append(
                Problem(
                    where=str(key),
                    what=f"the readers differ ({words})",
                    why="Which result counts must be decided by a person.",
                    fix="Say whose decisions to take with --reader NAME.",
                )
            )
        else:
            chosen[key] = said[-1]
    return chosen, problems


def masks_of_reader(decisions: Sequence[Decision], reader: str) -> dict[ScanKey, Decision]:
    """The last row of a reader on each scan, drafts included, unless the decision was reopened.

    A reopened scan keeps the mask of the row before.
    """
    found: dict[ScanKey, Decision] = {}
    for decision in decisions:
        if decision.reader == reader:
            before = found.get(decision.key)
            if decision.decision != _OPEN or before is None:
                before = decision
            found[decision.key] = replace(before, decision=decision.decision)
    return found


# ------------------------------------------------------------------ writing


def _table(decisions: Iterable[Decision]) -> str:
    return csv_text(COLUMNS, ([getattr(one, name) for name in COLUMNS] for one in decisions))


def append_decision(path: Path, decision: Decision) -> None:
    """Add a row, on disk when this returns; the header too in a new file. Raises OutputError."""
    if not path.exists():
        write_text(path, _table([]))
    append_text(path, _table([decision]).partition("\n")[2])


def make_appendable(path: Path) -> None:
    """Remove a last row that a killed program left unfinished; give a table by hand our columns.

    A row that is appended is then its own and fits the header. Raises InputError and OutputError.
    """
    if not path.exists():
        return
    decisions, problems = read_decisions(path)
    text = path.read_text(encoding="utf-8-sig")
    if unknown := sorted({*_cells(text)[1]} - {*COLUMNS}):
        raise InputError(
            f"{path.name} has columns that a review would lose: {', '.join(unknown)}.",
            hint="Remove them, or keep the table elsewhere and give it with --corrections.",
        )
    if not problems and not (text.startswith(_table([])) and text.endswith("\n")):
        write_text(path, _table(decisions))


def remove_participants(review: Path, is_gone: Callable[[tuple[str, str]], bool]) -> None:
    """Remove masks and rows of participants (trial, id) from a review; raises OutputError."""
    for folder in sorted((review / MASKS_FOLDER).glob("*/*")):
        if is_gone((folder.parent.name, folder.name)):
            remove_tree(folder)
    path = review / DECISIONS_NAME
    if not path.is_file():
        return
    rows, header, separator = _cells(path.read_text(encoding="utf-8-sig"))
    if not {"trial", "participant_id"} <= set(header):
        return
    own = [header.index(name) for name in ("trial", "participant_id")]
    kept = [
        row
        for row in rows
        if len(row) <= max(own) or not is_gone((_plain(row[own[0]]), _plain(row[own[1]])))
    ]
    if len(kept) < len(rows):
        buffer = io.StringIO(newline="")
        csv.writer(buffer, delimiter=separator, lineterminator="\n").writerows(kept)
        write_text(path, buffer.getvalue())


def is_reader_name(name: str) -> bool:
    """True for a name that may be a folder's: letters, digits, dot, dash, underscore."""
    return is_safe_name(name) and len(name) <= 40
