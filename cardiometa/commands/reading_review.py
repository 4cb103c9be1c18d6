"""Import of a review: how often readers corrected and rejected, and how far they agree.

From ``OUT/review`` (`reading.decisions`): a row for each scan and reader, rates by arm, sex,
ethnicity and vendor, agreement of each pair of readers, and the labels of each reader for
``evaluate --against labels``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import pandas as pd

from ..cohort.analysis_table import MEASUREMENTS_NAME
from ..errors import InputError, Problem
from ..evaluation.agreement import wilson
from ..evaluation.options import ReadingOptions
from ..evaluation.overlap import STRUCTURES, dice
from ..evaluation.results import RateKind, RateRow
from ..evaluation.tables import rate_rows
from ..files import check_output, csv_text, is_safe_name, records_csv, sha256_bytes, sha256_file
from ..imaging.nifti import nifti_bytes
from ..manifest import RunRecord, run_block, write_output
from ..pipeline.corrections import model_measures
from ..pipeline.result_file import SEGMENTATION_NAME, read_result, scan_folder
from ..reading.decisions import DECISIONS_NAME, Decision, last_decisions, read_decisions
from ..reading.label_file import LabelFileError, ScanGrid, grid_of_mask, read_labels
from ..records import ScanKey, Status
from .evaluate import KEYS
from .reading_package import PHASES, groups_of, scans_of

_WORDS: Final = ("accepted", "edited", "rejected")
# Which scans a rate is of, by the model's own status: those of ``ok`` are no random sample, since
# a review begins with the scans in most doubt.
_SAMPLES: Final[Mapping[Status, str]] = {"review": "flagged", "ok": "others", "failed": "failed"}
_KINDS: Final[Mapping[RateKind, str]] = {"correction": "edited", "rejection": "rejected"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedRow:
    """One row of ``readings.csv``: what a reader decided on a scan.

    Dice of the reader's mask with the model's, at the model's ED and ES; empty for a rejected scan
    and where neither has the structure. ``seconds`` are all that the reader spent on the scan.
    """

    reader: str
    trial: str
    participant_id: str
    visit: str
    status: str
    decision: str
    reason: str
    seconds: float
    phases_moved: bool
    voxels_changed: int | None = None
    dice_lv_cavity_ed: float | None = None
    dice_lv_myocardium_ed: float | None = None
    dice_rv_cavity_ed: float | None = None
    dice_lv_cavity_es: float | None = None
    dice_lv_myocardium_es: float | None = None
    dice_rv_cavity_es: float | None = None

    @property
    def key(self) -> ScanKey:
        """The scan."""
        return ScanKey(trial=self.trial, participant=self.participant_id, visit=self.visit)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderPairRow:
    """One row of ``readers.csv``: two readers on the scans that both decided on.

    ``kappa`` is Cohen's, of accepted, edited and rejected; Dice is the mean over scans that neither
    rejected, at the model's ED and ES. The interval is Wilson's at 95 %.
    """

    reader_a: str
    reader_b: str
    n_people: int | None = None
    n_scans: int | None = None
    percent_same: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    kappa: float | None = None
    dice_lv_cavity: float | None = None
    dice_lv_myocardium: float | None = None
    dice_rv_cavity: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """A row and the reader's labels ``[2, z, y, x]`` at the model's ED and ES (None: rejected)."""

    row: ReviewedRow
    labels: np.ndarray | None = None
    affine: np.ndarray | None = None


def import_review(
    segmented: Path, reading: ReadingOptions, *, least: int, overwrite: bool
) -> dict[str, Any]:
    """Read the decisions and masks of a review; returns counts.

    Writes ``readings.csv``, ``readers.csv`` and of each reader ``rates_<reader>.csv`` and
    ``labels_<reader>.csv`` with ``labels/``. Raises UsageError and InputError.
    """
    folder, out = reading.import_review, reading.out
    assert folder is not None
    assert out is not None
    table = folder / DECISIONS_NAME
    if not table.is_file():
        hint = "Give OUT/review, which `cardiometa review` writes."
        raise InputError(f"{folder.name} has no {DECISIONS_NAME}.", hint=hint)
    said = {"import": "review", "least": least}
    named = {"decisions": table, "measurements": segmented / MEASUREMENTS_NAME}
    inputs = {name: sha256_file(path) for name, path in named.items()}
    check_output(out, command="evaluate", options=said, overwrite=overwrite, inputs=inputs)
    readings = _readings(segmented, folder, table)
    by_reader: dict[str, list[_Reading]] = defaultdict(list)
    for one in readings:
        by_reader[one.row.reader].append(one)
    groups = groups_of(scans_of(segmented))
    files: dict[str, bytes | str] = {}
    for reader, own in by_reader.items():
        rates = [row for part in _rates(own, groups, least) for row in part]
        files[f"rates_{reader or 'reader'}.csv"] = records_csv(RateRow, rates)
        files |= _labels(reader or "reader", own)
    pairs = [
        _pair(a, b, by_reader[a], by_reader[b], least)
        for a, b in combinations(sorted(by_reader), 2)
    ]
    files["readers.csv"] = records_csv(ReaderPairRow, pairs)
    files["readings.csv"] = records_csv(ReviewedRow, [one.row for one in readings])
    run = RunRecord(command="evaluate", options=said, inputs=inputs, run=run_block())
    write_output(out, files, run, overwrite=overwrite)
    decided = [one.row.decision for one in readings]
    return {
        "readers": sorted(by_reader),
        "read": len(readings),
        **{word: decided.count(word) for word in _WORDS},
        "seconds_per_scan": float(np.median([one.row.seconds for one in readings])),
    }


def _readings(segmented: Path, folder: Path, table: Path) -> list[_Reading]:
    """Every reader's last decision on each scan; InputError with every problem."""
    rows, problems = read_decisions(table)
    seconds: dict[tuple[ScanKey, str], float] = defaultdict(float)
    for row in rows:
        seconds[row.key, row.reader] += row.seconds or 0.0
    found = []
    for key, by_reader in sorted(last_decisions(rows).items()):
        for reader, decision in sorted(by_reader.items()):
            try:
                found.append(_reading(segmented, folder, decision, seconds[key, reader]))
            except LabelFileError as error:
                where = f"{table.name}, row {decision.line}"
                problems += [replace(problem, where=where) for problem in error.faults]
            except InputError as error:
                where = f"{table.name}, row {decision.line}"
                problems.append(Problem(where=where, what=error.message, fix=error.hint))
    if problems:
        raise InputError(
            f"The review cannot be imported ({len(problems)} problems).", problems=problems
        )
    if not found:
        raise InputError(f"{table.name} has no decision yet.")
    return found


def _reading(segmented: Path, folder: Path, decision: Decision, seconds: float) -> _Reading:
    """One decision compared with the model's own mask; raises InputError and LabelFileError."""
    if not is_safe_name(decision.reader or "reader"):
        raise InputError(f"{decision.reader!r} cannot be the name of a reader here.")
    place = scan_folder(segmented, decision.key)
    result = read_result(place, decision.key)
    if result is None:
        raise InputError("OUT has no such scan.")
    row = ReviewedRow(
        reader=decision.reader,
        trial=decision.trial,
        participant_id=decision.participant_id,
        visit=decision.visit,
        status=result.status,
        decision=decision.decision,
        reason=decision.reason,
        seconds=seconds,
        phases_moved=bool(decision.frames),
    )
    if decision.decision == "rejected":
        return _Reading(row=row)
    data = (place / SEGMENTATION_NAME).read_bytes()
    if decision.before and decision.before != sha256_bytes(data):
        raise InputError(
            "The decision was made on another mask than OUT has now.", hint="Review the scan again."
        )
    grid = grid_of_mask(data)
    model = read_labels(data, grid)
    drawn = _drawn(folder, decision, model, grid)
    # Indices of the model's ED and ES in its mask; the first frames where it found none.
    values = model_measures(result.document)
    numbers = result.document.get("segmented_frames") or range(len(model))
    found = (values.get(name) for name in ("ed_frame", "es_frame"))
    frames = [0 if frame is None else [*numbers].index(int(frame)) for frame in found]
    overlap: dict[str, Any] = {
        f"dice_{name}_{phase.lower()}": dice(drawn[frame] == label, model[frame] == label)
        for phase, frame in zip(PHASES, frames, strict=True)
        for name, label in STRUCTURES.items()
    }
    changed = int(np.count_nonzero(drawn != model))
    row = replace(row, voxels_changed=changed, **overlap)
    return _Reading(row=row, labels=drawn[frames], affine=grid.affine)


def _drawn(folder: Path, decision: Decision, model: np.ndarray, grid: ScanGrid) -> np.ndarray:
    if decision.decision == "accepted" or (decision.frames and not decision.mask):
        return model
    path = folder.joinpath(*(decision.mask or f"{decision.key}/{SEGMENTATION_NAME}").split("/"))
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise InputError("The mask of an edited scan is missing.")
    data = path.read_bytes()
    if decision.after and decision.after != sha256_bytes(data):
        raise InputError("The mask is not the one that was decided on.")
    return read_labels(data, grid)


def _rates(
    readings: Sequence[_Reading], groups: pd.DataFrame, least: int
) -> Iterator[Sequence[RateRow]]:
    """Rates of corrections and rejections of one reader, by the model's own status."""
    rows = pd.DataFrame(
        {
            **{name: [getattr(one.row, name) for one in readings] for name in KEYS},
            "status": [one.row.status for one in readings],
            "decision": [one.row.decision for one in readings],
        }
    ).join(groups, on=list(KEYS))
    for status in get_args(Status):
        part = rows[rows["status"] == status]
        for kind, word in _KINDS.items():
            events = part.assign(event=part["decision"] == word)
            yield rate_rows(events, kind, _SAMPLES[status], least)


def _labels(reader: str, readings: Sequence[_Reading]) -> dict[str, bytes | str]:
    """The reader's labels at ED and ES, and their table."""
    files: dict[str, bytes | str] = {}
    rows = []
    for one in readings:
        if one.labels is None or one.affine is None:
            continue
        for phase, labels in zip(PHASES, one.labels, strict=True):
            path = f"labels/{reader}/{one.row.key}/{phase}_gt.nii.gz"
            files[path] = nifti_bytes(labels, one.affine)
            rows.append((*(getattr(one.row, name) for name in KEYS), phase, path))
    return {**files, f"labels_{reader}.csv": csv_text((*KEYS, "phase", "labels"), rows)}


def _pair(
    a: str, b: str, first: Sequence[_Reading], second: Sequence[_Reading], least: int
) -> ReaderPairRow:
    """How far two readers agree."""
    from statsmodels.stats.inter_rater import cohens_kappa

    others = {one.row.key: one for one in second}
    both = [(one, others[one.row.key]) for one in first if one.row.key in others]
    people = len({(one.row.trial, one.row.participant_id) for one, _ in both})
    if people < least:
        return ReaderPairRow(reader_a=a, reader_b=b, note=f"n<{least}")
    counts = np.zeros((3, 3))
    for one, other in both:
        counts[_WORDS.index(one.row.decision), _WORDS.index(other.row.decision)] += 1
    same, total = int(np.trace(counts)), len(both)
    low, high = wilson(same, total)
    overlap: dict[str, list[float]] = {name: [] for name in STRUCTURES}
    for one, other in both:
        if one.labels is not None and other.labels is not None:
            for name, label in STRUCTURES.items():
                found = dice(one.labels == label, other.labels == label)
                overlap[name] += [] if found is None else [found]
    spread = np.count_nonzero(counts.sum(axis=0)) > 1 or np.count_nonzero(counts.sum(axis=1)) > 1
    kappa = float(cohens_kappa(counts, return_results=False)) if spread else None
    means: dict[str, Any] = {
        f"dice_{n}": float(np.mean(values)) for n, values in overlap.items() if values
    }
    return ReaderPairRow(
        reader_a=a,
        reader_b=b,
        n_people=people,
        n_scans=total,
        percent_same=100 * same / total,
        ci_low=low,
        ci_high=high,
        kappa=kappa,
        **means,
    )
