"""Read one trial's scans table: which images were made of whom at which visit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError, Problems, nearest
from ..files import is_safe_name
from ..measurement.measures import COLUMN_NAMES
from ..records import ScanKey, ScanSource
from .models import CohortScan, ReadingLog, TrialDefinition
from .participants import problems_of
from .read_table import is_there, read_any_table
from .recode import add_no_number, as_numbers, as_text, rows_text

_QUESTIONS = 8  # to the file system at once
_IMAGE_COLUMNS = ("images", "ed_images", "es_images")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanList:
    """One trial's scans, the visits without images, and the ``reported_`` columns."""

    scans: tuple[CohortScan, ...] = ()
    without_images: tuple[ScanKey, ...] = ()
    reported: tuple[str, ...] = ()


def read_scans(
    trial: TrialDefinition,
    participants: Collection[str],
    log: ReadingLog,
    *,
    show: Callable[[str], str] = repr,
) -> ScanList:
    """The scans of ``trial``, whose roster has ``participants``."""
    assert trial.scans is not None
    where = f"{trial.name}: {trial.scans.name}"
    try:
        table = read_any_table(trial.scans)
    except InputError as error:
        log.problems += problems_of(error, where)
        return ScanList()
    problems = Problems(where)
    id_column = _check_columns(table, trial, problems)
    if problems:
        log.problems += problems
        return ScanList()
    numbers = _numbers(table, problems)
    reported = [name for name in numbers if name != "visit_day"]
    ids, visits = as_text(table[id_column]), as_text(table["visit"])
    _check_keys(ids, visits, frozenset(participants), problems, show)
    sources = _sources(table, trial.root, problems)
    keys = [
        ScanKey(trial=trial.name, participant=str(p), visit=str(v))
        for p, v in zip(ids, visits, strict=True)
    ]

    def cell(name: str, row: Any) -> float | None:
        value = numbers[name].loc[row] if name in numbers else None
        return None if pd.isna(value) else float(value)

    scans = tuple(
        CohortScan(
            key=key,
            source=source,
            visit_day=cell("visit_day", row),
            reported={name: cell(name, row) for name in reported},
        )
        for key, row, source in zip(keys, table.index, sources, strict=True)
        if source is not None
    )
    present = [as_text(table[name]) for name in _IMAGE_COLUMNS if name in table.columns]
    blank = [not any(cells) for cells in zip(*present, strict=True)]
    known = {id_column, "visit", "visit_day", *_IMAGE_COLUMNS, *reported}
    dropped = sum(column not in known for column in table.columns)
    log.problems += problems
    log.notes += [f"{where}: {dropped} further columns are dropped."] if dropped else []
    log.warnings += [
        f"{where}: {name!r} is not reported_ and the name of a measure, so it is not compared."
        for name in reported
        if name.removeprefix("reported_") not in COLUMN_NAMES
    ]
    return ScanList(
        scans=scans,
        without_images=tuple(key for key, empty in zip(keys, blank, strict=True) if empty),
        reported=tuple(reported),
    )


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


# ------------------------------------------------------------------ the table


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


def _numbers(table: pd.DataFrame, problems: Problems) -> dict[str, pd.Series]:
    """The day of the visit and the trial's own values."""
    numbers: dict[str, pd.Series] = {}
    for name in map(str, table.columns):
        if name == "visit_day" or name.startswith("reported_"):
            numbers[name], bad = as_numbers(table[name])
            if bad.any():
                add_no_number(problems, f"column {name!r}", table[name], bad)
    return numbers


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


# ------------------------------------------------------------------ images


def _look_at(paths: Sequence[Path]) -> dict[Path, ScanSource]:
    """What is at each path that is there: shared storage answers many questions as fast as one."""
    with ThreadPoolExecutor(_QUESTIONS) as pool:
        found = pool.map(lambda path: source_of(path) if is_there(path) else None, paths)
        return {path: one for path, one in zip(paths, found, strict=True) if one is not None}


def _sources(table: pd.DataFrame, root: Path, problems: Problems) -> list[ScanSource | None]:
    """The images of each row (None: the cells are blank); problems for paths that do not exist."""
    blank = pd.Series("", index=table.index, dtype=object)
    images, ed, es = (
        as_text(table[name]) if name in table.columns else blank for name in _IMAGE_COLUMNS
    )
    found = _look_at([root / cell for cell in images if cell])
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
