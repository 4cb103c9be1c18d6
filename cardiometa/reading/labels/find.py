"""Find each scan's labels: in folders named after trial, participant and visit, or by a table.

Folders (the first that holds labels counts), below LABELS or LABELS/scans: ``trial/participant/
visit``, ``participant/visit``, ``trial/participant``, ``participant``; for contours also a zip of
that name. In it: ``*_ED_gt.nii[.gz]`` and ``*_ES_gt.nii[.gz]`` (ACDC), ``ed.seg.dcm`` and
``es.seg.dcm`` (DICOM SEG), or ``*-icontour-manual.txt`` and ``*-ocontour-manual.txt`` (Sunnybrook).
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...cohort.read_table import read_any_table
from ...errors import InputError, Problem
from ...evaluation.overlap import Phase
from ...records import ScanKey
from .contours import CONTOUR_NAME
from .targets import Kind, LabelFile, UnusableError

_NIFTI = re.compile(r"(?:^|.*[_.-])(ed|es)_gt\.nii(?:\.gz)?", re.IGNORECASE)
_SEG = re.compile(r"(?:.*[_.-])?(ed|es)\.seg\.dcm", re.IGNORECASE)
_COLUMNS = ("trial", "participant_id", "visit", "phase", "labels")

Found = dict[ScanKey, tuple[LabelFile, ...] | UnusableError]


def find_labels(labels: Path, keys: Sequence[ScanKey]) -> Found:
    """The label files of each scan that has some; raises InputError for a table with faults."""
    if labels.is_dir():
        return _in_folders(labels, keys)
    if labels.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise InputError(
            f"{labels.name} is neither a folder nor a table.",
            hint=f"Give a folder of labels, or a CSV of {', '.join(_COLUMNS)}.",
        )
    return _by_table(labels, keys)


# ------------------------------------------------------------------ folders


def _in_folders(top: Path, keys: Sequence[ScanKey]) -> Found:
    scans = Counter((key.trial, key.participant) for key in keys)
    trials = Counter(participant for _, participant in {(k.trial, k.participant) for k in keys})
    found: Found = {}
    for key in keys:
        for folder, named in _places(top, key):
            files = _files_of(folder)
            if isinstance(files, UnusableError):
                found[key] = files
                break
            if not files:
                continue
            # A folder that names no visit, or no trial, may be of another scan.
            clear = ("visit" in named or scans[key.trial, key.participant] == 1) and (
                "trial" in named or trials[key.participant] == 1
            )
            found[key] = files if clear else _ambiguous(named)
            break
    return found


def _ambiguous(named: frozenset[str]) -> UnusableError:
    lacking = " and ".join(part for part in ("trial", "visit") if part not in named)
    return UnusableError(
        "labels-ambiguous",
        f"The labels' folder names no {lacking}, and more than one scan could be meant. Put them "
        "in trial/participant/visit, or give a table.",
    )


def _places(top: Path, key: ScanKey) -> Iterator[tuple[Path, frozenset[str]]]:
    trial, person, visit = key.trial, key.participant, key.visit
    for root in (top, top / "scans"):
        yield root / trial / person / visit, frozenset({"trial", "visit"})
        yield root / person / visit, frozenset({"visit"})
        yield root / trial / person, frozenset({"trial"})
        yield root / person, frozenset()
        yield root / trial / f"{person}.zip", frozenset({"trial"})
        yield root / f"{person}.zip", frozenset()


def _files_of(place: Path) -> tuple[LabelFile, ...] | UnusableError:
    """The labels directly in a folder, or the contours below it or in a zip."""
    if place.is_file():
        held = place.suffix == ".zip" and _zip_has_contours(place)
        return (LabelFile(kind="contours", path=place),) if held else ()
    if not place.is_dir():
        return ()
    names = sorted(p for p in place.iterdir() if p.is_file())
    kinds: tuple[tuple[Kind, re.Pattern[str]], ...] = (("nifti", _NIFTI), ("dicom-seg", _SEG))
    for kind, pattern in kinds:
        files = [
            LabelFile(kind=kind, path=path, phase=_phase(match[1]))
            for path in names
            if (match := pattern.fullmatch(path.name))
        ]
        if len({f.phase for f in files}) < len(files):
            return UnusableError(
                "labels-ambiguous", "There are several label files of one phase in its folder."
            )
        if files:
            return tuple(files)
    if any(CONTOUR_NAME.fullmatch(path.name) for path in place.rglob("*.txt")):
        return (LabelFile(kind="contours", path=place),)
    return ()


def _phase(text: str) -> Phase:
    return "ED" if text.upper() == "ED" else "ES"


def _zip_has_contours(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.replace("\\", "/").rpartition("/")[2] for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return False
    return any(CONTOUR_NAME.fullmatch(name) for name in names)


# ------------------------------------------------------------------ table


def _by_table(table: Path, keys: Sequence[ScanKey]) -> Found:
    """A row a file: `_COLUMNS`; ``phase`` is ED, ES or a frame from 0 (blank for contours)."""
    rows = read_any_table(table)
    missing = [name for name in _COLUMNS if name not in rows.columns]
    if missing:
        raise InputError(
            f"{table.name} has no column {', '.join(missing)}.",
            hint=f"It needs {', '.join(_COLUMNS)}: a row for each label file.",
        )
    known = set(keys)
    found: dict[ScanKey, list[LabelFile]] = {}
    problems: list[Problem] = []
    cells = rows[list(_COLUMNS)].astype(object).where(rows[list(_COLUMNS)].notna(), "")
    for number, row in zip(rows.index, cells.itertuples(index=False), strict=True):
        trial, person, visit, phase, path = (str(cell).strip() for cell in row)
        where = f"{table.name}, row {number}"
        key = ScanKey(trial=trial, participant=person, visit=visit)
        if key not in known:
            problems.append(
                Problem(
                    where=where,
                    what="OUT has no such scan",
                    fix="Use trial, participant_id and visit of its measurements.csv.",
                )
            )
            continue
        file = _file_of(table.parent / path, phase)
        if isinstance(file, str):
            problems.append(Problem(where=where, what=file))
        elif any(f.phase == file.phase and f.frame == file.frame for f in found.get(key, ())):
            problems.append(Problem(where=where, what=f"{key} has two rows of the phase {phase}"))
        else:
            found.setdefault(key, []).append(file)
    if problems:
        raise InputError(
            f"{table.name} cannot be used: {len(problems)} problems.", problems=problems
        )
    return {key: tuple(files) for key, files in found.items()}


def _file_of(path: Path, phase: str) -> LabelFile | str:
    """The label file of a row, or what is wrong with it."""
    if not path.exists():
        return "the file in the column labels is not there"
    number = phase.removesuffix(".0")
    if phase and phase.upper() not in ("ED", "ES") and not number.isdecimal():
        return f"the phase {phase!r} is neither ED, ES nor a frame from 0"
    if path.is_dir() or path.suffix.lower() == ".zip":
        return LabelFile(kind="contours", path=path)
    if not phase:
        return "the phase is blank: ED, ES or a frame from 0"
    kind: Kind = "dicom-seg" if path.suffix.lower() == ".dcm" else "nifti"
    if number.isdecimal():
        return LabelFile(kind=kind, path=path, frame=int(number))
    return LabelFile(kind=kind, path=path, phase=_phase(phase))
