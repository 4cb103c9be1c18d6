"""Export of blinded reading packages and import of the results.

Export: the scans for review and a random share of the others, in random order under neutral codes,
each with its ED and ES image and the model's masks. Nothing in the package reveals trial,
participant, visit, arm, group, the model's numbers or which scans were flagged; ``key.csv`` does
and is kept elsewhere. Import: masks that a reader changed, for ``segment --corrections``.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from nibabel.nifti1 import Nifti1Image

from ..cohort.analysis_table import MEASUREMENTS_NAME, read_analysis_table
from ..cohort.load import load_cohort
from ..errors import InputError, Problem, UsageError
from ..evaluation.overlap import STRUCTURES, dice
from ..evaluation.results import RateRow
from ..evaluation.tables import FLAGGED, RANDOM, RATE_GROUPS, choose, rate_rows
from ..files import (
    canonical_json,
    check_output,
    csv_text,
    is_safe_name,
    read_json,
    records_csv,
    remove,
    sha256_bytes,
    sha256_file,
    write_all,
    write_text,
)
from ..imaging.nifti import nifti_bytes
from ..imaging.read import ReadOptions, read_cine
from ..manifest import FORMAT_VERSION, RunRecord, run_block, write_output
from ..pipeline.corrections import ACCEPTED, CORRECTED
from ..pipeline.result_file import SEGMENTATION_NAME, read_segmented, scan_folder
from ..reading.decisions import DECISIONS_NAME, REQUIRED
from ..reading.label_file import LabelFileError, ScanGrid, UnusableError, grid_of_mask, read_labels
from ..records import ScanKey
from .evaluate import KEYS, keys_of

if TYPE_CHECKING:
    from ..cohort.models import CohortOptions
    from ..evaluation.options import ReadingOptions
    from ..records import ScanSource


PACKAGE_RECORD: Final = "package.json"
CORRECTIONS: Final = "corrections"
PHASES: Final = ("ED", "ES")
_KEY_COLUMNS: Final = (
    "code",
    *KEYS,
    "sample",
    "ed_index",
    "es_index",
    "ed_mask_sha256",
    "es_mask_sha256",
    "segmentation_sha256",
)
_README: Final = """\
Short-axis hearts for reading
=============================

Each folder case-NNN is one scan: the images ED.nii.gz (end-diastole) and ES.nii.gz
(end-systole){masks}.
Scans come in random order. Who they are, which treatment they had and what the model measured
is withheld; please do not try to find out.

Labels of the masks
  0 background
  1 LV cavity (papillary muscles and trabeculae belong to it)
  2 LV myocardium
  3 RV cavity

{task}

ITK-SNAP: open ED.nii.gz as the main image, then Segmentation > Open Segmentation: ED_mask.nii.gz.
{save}
3D Slicer: load ED.nii.gz as a volume and ED_mask.nii.gz as a segmentation; afterwards export the
segments as a labelmap with the values above, on the geometry of ED.nii.gz.
Then the same with ES. Keep the names of folders and files; do not resample or crop.

Send the complete folder back to whoever has the key. Research use only; not a medical device.
"""
_TASKS: Final = {
    True: {
        "masks": ", and a model's masks ED_mask.nii.gz and ES_mask.nii.gz",
        "task": "Correct each mask where it is wrong, and leave it untouched where it is right.",
        "save": "Correct it, then save the segmentation under its old name.",
    },
    False: {
        "masks": "",
        "task": "Draw both masks from scratch and save them as ED_mask.nii.gz and ES_mask.nii.gz.",
        "save": "There is none yet: draw it, and save it under that name.",
    },
}


# ------------------------------------------------------------------ export


def export_package(
    segmented: Path,
    reading: ReadingOptions,
    source: CohortOptions,
    *,
    seed: int,
    overwrite: bool,
    planned: Callable[[int], None],
    done: Callable[[], None],
) -> dict[str, int]:
    """Write a package and its key; returns counts. Raises UsageError and InputError."""
    cohort, package, key_file = reading.cohort, reading.export_for_reading, reading.key
    assert cohort is not None
    assert package is not None
    assert key_file is not None
    _check_export(segmented, package, key_file, reading.share, overwrite=overwrite)
    masks = not reading.without_masks
    chosen, counts = _sample(segmented, reading.share, seed)
    sources = {scan.key: scan.source for scan in load_cohort(cohort, source).scans}
    problems = [
        Problem(where=str(key), what="the cohort has no such scan")
        for key, _ in chosen
        if key not in sources
    ]
    if problems:
        hint = "Give the same COHORT (and --pseudonymise) as to `segment`."
        what = "The cohort is not the one that OUT was made from."
        raise InputError(what, hint=hint, problems=problems)
    # Another stream than the one that drew the sample: the order reveals nothing of the draw.
    order = np.random.default_rng([seed, 1]).permutation(len(chosen))
    planned(len(chosen))
    key_rows, written = [], []
    for number, place in enumerate(order, start=1):
        (key, sample), code = chosen[place], f"case-{number:03d}"
        done()
        try:
            files, cells = _case(segmented, key, sources[key], masks=masks)
        except InputError as error:
            problems.append(Problem(where=str(key), what=error.message, fix=error.hint))
            continue
        write_all(package / code, files)
        written += [f"{code}/{name}" for name in files]
        key_rows.append((code, key.trial, key.participant, key.visit, sample, *cells))
    if problems:
        # A part of a package must not be taken for one.
        remove(package, written)
        raise InputError("The package cannot be made; nothing was kept.", problems=problems)
    write_text(key_file, csv_text(_KEY_COLUMNS, key_rows), secret=True)
    record = {
        "format_version": FORMAT_VERSION,
        "cases": len(key_rows),
        "masks": masks,
        "key_sha256": sha256_file(key_file),
    }
    # The record last: it says that the package is complete.
    texts = {"README.txt": _README.format(**_TASKS[masks])}
    write_all(package, {**texts, PACKAGE_RECORD: canonical_json(record)})
    return counts


def _sample(
    segmented: Path, share: float, seed: int
) -> tuple[list[tuple[ScanKey, str]], dict[str, int]]:
    """The scans to read, each with the sample it is of; and the counts."""
    rows = read_analysis_table(segmented).rows
    if "flags" in rows:  # scans that a reader has checked already are not read again
        flags = rows["flags"].fillna("").astype(str)
        rows = rows[[not {CORRECTED, ACCEPTED} & set(text.split(";")) for text in flags]]
    rows = rows.sort_values(list(KEYS), kind="stable")
    keys = keys_of(rows)
    flagged, drawn = choose(rows["status"].to_numpy(dtype=object), share, seed)
    chosen = [(keys[n], FLAGGED) for n in flagged] + [(keys[n], RANDOM) for n in drawn]
    if not chosen:
        raise InputError("OUT has no scan that could be read.")
    return chosen, {"scans": len(rows), "flagged": len(flagged), "random": len(drawn)}


def _check_export(
    segmented: Path, package: Path, key: Path, share: float, *, overwrite: bool
) -> None:
    """Every check that needs no reading; raises UsageError."""
    if not 0 <= share <= 100:
        raise UsageError("--share must be a percentage from 0 to 100.")
    if key.resolve().is_relative_to(package.resolve()):
        hint = "Keep it where the reader cannot see it."
        raise UsageError("The key is inside the package.", hint=hint)
    is_empty = package.is_dir() and not any(path.is_file() for path in package.rglob("*"))
    if package.exists() and not is_empty:
        hint = "Give a new folder: two packages must not mix."
        raise UsageError(f"{package.name} is not an empty folder.", hint=hint)
    if key.exists() and not overwrite:
        what = f"{key.name} exists already: it may be another package's key."
        raise UsageError(what, hint="Name another file, or say --overwrite.")
    if not segmented.is_dir():
        hint = "Give OUT of `cardiometa segment`."
        raise UsageError(f"{segmented.name} is not a folder.", hint=hint)


def _case(
    segmented: Path, key: ScanKey, source: ScanSource, *, masks: bool
) -> tuple[dict[str, bytes | str], tuple[Any, ...]]:
    """The files of one case, and the cells of its line in the key after ``sample``."""
    try:
        scan = read_segmented(segmented, key)
    except UnusableError as error:
        raise InputError(error.sentence) from None
    cine = read_cine(source, ReadOptions(series_regex=scan.series_regex))
    if scan.segmented_frames is not None:
        numbers = [int(number) for number in cine.frame_numbers]
        if set(scan.segmented_frames) <= set(numbers):
            cine = cine.ed_es_only(*(numbers.index(n) for n in scan.segmented_frames))
    if cine.pixels.shape != scan.grid.shape:
        raise InputError(
            "The images are not those that were segmented.",
            hint="Run `segment` again, or give the cohort that OUT was made from.",
        )
    frames = (scan.model.ed_frame, scan.model.es_frame)
    files: dict[str, bytes | str] = {}
    digests = []
    for phase, frame in zip(PHASES, frames, strict=True):
        files[f"{phase}.nii.gz"] = nifti_bytes(cine.pixels[frame], scan.grid.affine)
        mask = nifti_bytes(scan.model.labels[frame], scan.grid.affine)
        digests.append(sha256_bytes(mask) if masks else "")
        if masks:
            files[f"{phase}_mask.nii.gz"] = mask
    complete = sha256_file(scan_folder(segmented, key) / SEGMENTATION_NAME)
    return files, (*frames, *digests, complete)


# ------------------------------------------------------------------ import


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingRow:
    """One row of ``readings.csv``: a scan that was read, and how far its masks were changed.

    Dice of the read mask with the model's, by phase and structure; empty where neither has it.
    """

    code: str
    trial: str
    participant_id: str
    visit: str
    sample: str
    changed: bool
    voxels_changed: int
    dice_lv_cavity_ed: float | None
    dice_lv_myocardium_ed: float | None
    dice_rv_cavity_ed: float | None
    dice_lv_cavity_es: float | None
    dice_lv_myocardium_es: float | None
    dice_rv_cavity_es: float | None
    sha256: str


def import_package(
    segmented: Path, reading: ReadingOptions, *, least: int, overwrite: bool
) -> dict[str, Any]:
    """Import a completed reading package; returns counts. Raises UsageError and InputError.

    Writes ``corrections/`` for ``segment --corrections`` (complete 4-D masks of changed scans, and
    ``decisions.csv`` that accepts the others),
    ``labels.csv`` with ``labels/`` (each read mask, for ``evaluate --against labels``),
    ``readings.csv`` and ``rates.csv``.
    """
    package, key_file, out = reading.import_reading, reading.key, reading.out
    assert package is not None
    assert key_file is not None
    assert out is not None
    key_sha256 = _hash(key_file)
    said = {"import": "reading", "least": least, "key_sha256": key_sha256}
    check_output(out, command="evaluate", options=said, overwrite=overwrite)
    record, key_rows = _package(package, key_file)
    files: dict[str, bytes | str] = {}
    readings: list[ReadingRow] = []
    label_rows: list[tuple[str, ...]] = []
    problems: list[Problem] = []
    for row in key_rows:
        try:
            read, own = _import_case(segmented, package, row, masks=bool(record["masks"]))
        except LabelFileError as error:
            problems += [replace(problem, where=row["code"]) for problem in error.faults]
        except InputError as error:
            problems.append(Problem(where=row["code"], what=error.message, fix=error.hint))
        else:
            readings.append(read)
            files |= own
            label_rows += [
                (*(row[name] for name in KEYS), phase, f"labels/{_key_of(row)}/{phase}_gt.nii.gz")
                for phase in PHASES
            ]
    if problems:
        what = f"The reading package cannot be imported ({len(problems)} problems)."
        raise InputError(what, problems=problems)
    rates = _rates(segmented, readings, least, masks=bool(record["masks"]))
    files["readings.csv"] = records_csv(ReadingRow, readings)
    if record["masks"] and (unchanged := [read for read in readings if not read.changed]):
        rows = [(*(getattr(read, name) for name in KEYS), ACCEPTED) for read in unchanged]
        files[f"{CORRECTIONS}/{DECISIONS_NAME}"] = csv_text(REQUIRED, rows)
    files["rates.csv"] = records_csv(RateRow, rates)
    files["labels.csv"] = csv_text((*KEYS, "phase", "labels"), label_rows)
    inputs = {"key": key_sha256, "measurements": sha256_file(segmented / MEASUREMENTS_NAME)}
    run = RunRecord(command="evaluate", options=said, inputs=inputs, run=run_block())
    write_output(out, files, run, overwrite=overwrite)
    return {
        "read": len(readings),
        "changed": sum(r.changed for r in readings),
        "corrections": CORRECTIONS if record["masks"] else "",
        "rates": [
            {f.name: getattr(row, f.name) for f in fields(RateRow)}
            for row in rates
            if row.group_by == "all"
        ],
    }


def _hash(path: Path) -> str:
    if not path.is_file():
        raise UsageError(f"Key {path.name} not found.", hint="It was written with the package.")
    return sha256_file(path)


def _package(package: Path, key: Path) -> tuple[Mapping[str, Any], list[dict[str, str]]]:
    """The package's record and the rows of its key, checked against each other."""
    path = package / PACKAGE_RECORD
    if not path.is_file():
        raise InputError(
            f"{package.name} is not a complete package: {PACKAGE_RECORD} is missing.",
            hint="Give the folder that --export-for-reading wrote.",
        )
    record = read_json(path)
    if not isinstance(record, dict) or record.get("key_sha256") != _hash(key):
        raise InputError(
            f"{key.name} is not this package's key, or one of both was changed.",
            hint="Give the key.csv that was written with this package.",
        )
    with key.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        for part in (row["trial"], row["participant_id"], row["visit"], row["code"]):
            if not is_safe_name(part):
                raise InputError(f"The key names {part!r}, which cannot be a folder.")
    return record, rows


def _key_of(row: Mapping[str, str]) -> ScanKey:
    return ScanKey(trial=row["trial"], participant=row["participant_id"], visit=row["visit"])


def _import_case(
    segmented: Path, package: Path, row: Mapping[str, str], *, masks: bool
) -> tuple[ReadingRow, dict[str, bytes | str]]:
    """One case: its row, and its files by name."""
    key = _key_of(row)
    path = scan_folder(segmented, key) / SEGMENTATION_NAME
    if not path.is_file() or sha256_file(path) != row["segmentation_sha256"]:
        raise InputError(
            "The mask in OUT is not the one that was given to the reader.",
            hint="Import a package before `segment` is run again with other options.",
        )
    data = path.read_bytes()
    grid = grid_of_mask(data)
    model = read_labels(data, grid)
    read = model.copy()
    single = ScanGrid(shape=(1, *grid.shape[1:]), affine=grid.affine)
    files: dict[str, bytes | str] = {}
    for phase, column in zip(PHASES, ("ed_index", "es_index"), strict=True):
        frame = int(row[column])
        names = (f"{phase}_mask.nii.gz", f"{phase}_mask.nii")
        masks_here = [p for p in (package / row["code"] / n for n in names) if p.is_file()]
        if not masks_here:
            raise InputError(
                f"There is no {names[0]}.",
                hint="Keep the folders and names of masks; leave an untouched mask where it was.",
            )
        read[frame] = read_labels(masks_here[0].read_bytes(), single)[0]
        files[f"labels/{key}/{phase}_gt.nii.gz"] = nifti_bytes(read[frame], grid.affine)
    changed = int(np.count_nonzero(read != model))
    if changed and masks:
        source: Any = Nifti1Image.from_bytes(gzip.decompress(data))
        complete = nifti_bytes(read, source.affine, header=source.header)
        files[f"{CORRECTIONS}/{key}/{SEGMENTATION_NAME}"] = complete
    frames = {"ed": int(row["ed_index"]), "es": int(row["es_index"])}
    overlap = {
        f"dice_{name}_{phase}": dice(read[frame] == label, model[frame] == label)
        for phase, frame in frames.items()
        for name, label in STRUCTURES.items()
    }
    reading = ReadingRow(
        code=row["code"],
        trial=key.trial,
        participant_id=key.participant,
        visit=key.visit,
        sample=row["sample"],
        changed=bool(changed),
        voxels_changed=changed,
        sha256=sha256_bytes(read.tobytes()),
        **overlap,
    )
    return reading, files


def _rates(
    segmented: Path, readings: list[ReadingRow], least: int, *, masks: bool
) -> list[RateRow]:
    """Correction rates of either sample, and failure rates of all scans."""
    scans = scans_of(segmented)
    rates: list[RateRow] = []
    if masks:
        rows = pd.DataFrame([{f: getattr(r, f) for f in (*KEYS, "sample")} for r in readings])
        rows["event"] = [r.changed for r in readings]
        rows = rows.join(groups_of(scans), on=list(KEYS))
        for sample in (FLAGGED, RANDOM):
            part = rows[rows["sample"] == sample]
            rates += rate_rows(part, "correction", sample, least)
    return [*rates, *rate_rows(scans, "failure", "all", least)]


def scans_of(segmented: Path) -> pd.DataFrame:
    """All scans of OUT; ``event``: the scan failed."""
    table = read_analysis_table(segmented)
    unused = table.unused if table.unused is not None else table.rows.iloc[:0]
    scans = pd.concat([part for part in (table.rows, unused) if len(part)])
    return scans.assign(event=scans.index.isin(unused.index))


def groups_of(scans: pd.DataFrame) -> pd.DataFrame:
    """Arm, sex, ethnicity and vendor of every scan, by its keys."""
    names = [name for name in RATE_GROUPS if name in scans]
    return scans.drop_duplicates(list(KEYS)).set_index(list(KEYS))[names]
