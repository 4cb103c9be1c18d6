"""``result.json``: the commit record of one scan, written last, read on resume.

A scan is finished when its record exists, names the same options, and every file it names has the
hash it names. Anything less is done again.

A reader's correction never replaces the model's result: it has its own record and files in the
folder ``correction`` next to it, and goes by removing that folder. Tables take the correction.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from sys import intern
from typing import Any, get_args

import numpy as np

from ..errors import InputError, Problem
from ..evaluation.overlap import ModelScan
from ..files import (
    canonical_json,
    inside,
    read_json,
    remove_tree,
    sha256_bytes,
    sha256_file,
    write_all,
    write_text,
)
from ..imaging.discovery import content_sha256, source_state
from ..manifest import FORMAT_VERSION, library_versions, version
from ..measurement.measures import MEASURES
from ..reading.label_file import LabelFileError, ScanGrid, UnusableError, grid_of_mask, read_labels
from ..records import CineStack, Flag, LabelStack, Level, Measurement, ScanKey, ScanResult, Status
from ..segmentation.base import BASE_RULE
from .jobs import ScanFailure, ScanJob

RESULT_NAME = "result.json"
SEGMENTATION_NAME = "segmentation.nii.gz"
OVERLAY_NAME = "overlay.png"
CORRECTION_FOLDER = "correction"
SEG_NAMES = {"ed": "ed.seg.dcm", "es": "es.seg.dcm"}
SR_NAME = "measures.sr.dcm"
RADIOMICS_NAME = "radiomics.json"
OUTPUT_NAMES = (SEGMENTATION_NAME, OVERLAY_NAME, *SEG_NAMES.values(), SR_NAME, RADIOMICS_NAME)

# A fault of the program is tried again on the next run; bad input is not.
FAULT_CODE = "program-fault"
# The process that worked on the scan crashed twice, or had to be ended after --timeout.
KILLED_CODE = "worker-killed"
TIMEOUT_CODE = "timeout"
# Files that this user may not read: a permission given later leaves no mark on them.
UNREADABLE_CODE = "unreadable"
# Of a reader's mask: the next run may have another one or none, and the images are sound.
CORRECTION_CODES = ("correction-changed", "correction-does-not-fit", "correction-frame")
# What of a record the tables and the account need; the rest is read again where it is shown.
_SLIM = ("model", "run", "dicom_seg")
_SLIM_OPTIONS = ("bsa_formula", "frames", "model_sha256", "radiomics")
_HASH = "record_sha256"  # of the complete record, in a slim one

FACT_NAMES = ("vendor", "field_strength_t", "sequence")


def scan_folder(out: Path, key: ScanKey) -> Path:
    """``OUT/scans/<trial>/<participant>/<visit>``: the model's own result."""
    return inside(out / "scans", key.trial, key.participant, key.visit)


def correction_folder(out: Path, key: ScanKey) -> Path:
    """The folder of a reader's correction of a scan, which may not exist."""
    return scan_folder(out, key) / CORRECTION_FOLDER


def used_folder(out: Path, key: ScanKey) -> Path:
    """The folder whose result the tables take: the correction's where there is one."""
    corrected = correction_folder(out, key)
    return corrected if (corrected / RESULT_NAME).is_file() else scan_folder(out, key)


def is_corrected(out: Path, key: ScanKey) -> bool:
    """True where the tables take a reader's mask for this scan."""
    return used_folder(out, key).name == CORRECTION_FOLDER


def shown_scans(count: int) -> str:
    """``1 scan``, ``2 scans``."""
    return f"{count} scan{'' if count == 1 else 's'}"


# ------------------------------------------------------------------ documents


def _base_document(
    key: ScanKey, status: Status, options: Mapping[str, Any], flags: tuple[Flag, ...]
) -> dict[str, Any]:
    """What every record has, finished or failed."""
    libraries = library_versions("numpy", "scipy", "torch", "pydicom", "python-gdcm", "nibabel")
    return {
        "format_version": FORMAT_VERSION,
        "key": {"trial": key.trial, "participant_id": key.participant, "visit": key.visit},
        "status": status,
        "options": dict(options),
        "flags": [asdict(flag) for flag in flags],
        "versions": {"cardiometa": version(), **libraries},
    }


def finished_document(
    *,
    key: ScanKey,
    status: Status,
    options: Mapping[str, Any],
    cine: CineStack,
    labels: LabelStack,
    measured: Measurement,
) -> dict[str, Any]:
    """The record of a measured scan, without the hashes of its files and its run block."""
    chosen = {}
    if cine.phases_of_source is not None:
        chosen["segmented_frames"] = [int(number) for number in cine.frame_numbers]
    source = cine.source
    names = (
        *("format", "sha256", "files", "time_key", "spacing_source", "series_reason"),
        *("rr_ms", "marks"),
    )
    return {
        **_base_document(key, status, options, measured.flags),
        **chosen,
        "facts": {name: getattr(source, name) for name in FACT_NAMES},
        "source": {
            **{name: getattr(source, name) for name in names},
            "left_out": [asdict(left) for left in source.left_out],
        },
        "model": {"id": labels.model_id, "sha256": labels.model_sha256},
        "base_rule": BASE_RULE,
        "measures": {measure.name: measure.value for measure in measured.measures},
        "curves": {name: [float(v) for v in curve] for name, curve in measured.curves.items()},
        "confidence_by_frame": [[float(v) for v in phase] for phase in labels.confidence.round(4)],
        "frame_times_ms": [float(v) for v in cine.frame_times_ms],
        "details": dict(measured.details),
    }


def failed_document(
    key: ScanKey, options: Mapping[str, Any], failure: ScanFailure
) -> dict[str, Any]:
    """The record of a scan that could not be measured, with its one reason."""
    reason = asdict(failure)
    return {
        **_base_document(key, "failed", options, (Flag(level="reject", **reason),)),
        "error": reason,
        "source": {"left_out": []},
        "facts": {},
        "measures": {},
        "outputs": {},
    }


def to_result(document: Mapping[str, Any]) -> ScanResult:
    """The record of a document; InputError where it is not one of ours."""
    try:
        _check(document)
        key = document["key"]
        return ScanResult(
            key=ScanKey(trial=key["trial"], participant=key["participant_id"], visit=key["visit"]),
            status=document["status"],
            measures=document["measures"],
            facts=document["facts"],
            flags=tuple(Flag(**flag) for flag in document["flags"]),
            document=document,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError("A result.json is not a record of this program.") from error


def _check(document: Any) -> None:
    """Raise ValueError where a part of a record cannot have been written by this program."""
    parts = ("key", "options", "measures", "facts")
    optional = ("outputs", "run", "model", "correction", "source", "details")
    sound = isinstance(document, dict) and all(isinstance(document[name], dict) for name in parts)
    sound = sound and all(isinstance(document.get(name, {}), dict) for name in optional)
    if not sound or document["status"] not in get_args(Status):
        raise ValueError("parts")
    numbers = [*document["measures"].values(), *document.get("run", {}).get("stages", {}).values()]
    numbers.append(document.get("run", {}).get("seconds"))
    for value in numbers:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (value is None or (number and abs(value) < 1e300)):
            raise ValueError("numbers")
    texts = [*document["key"].values(), *document.get("outputs", {}).values()]
    texts += document.get("source", {}).get("marks", {}).values()
    for flag in document["flags"]:
        if flag["level"] not in get_args(Level):
            raise ValueError("a level")
        texts += flag.values()
    simple = (type(None), str, int, float)
    if not all(isinstance(value, str) for value in texts) or not all(
        isinstance(value, simple) for value in document["facts"].values()
    ):
        raise ValueError("texts")
    if not set(document.get("outputs", {})) <= set(OUTPUT_NAMES):
        raise ValueError("outputs")


def slim(result: ScanResult) -> ScanResult:
    """The result without curves and details: 100,000 of these fit into memory."""
    document = {name: result.document[name] for name in _SLIM if name in result.document}
    document["source"] = {"marks": result.document.get("source", {}).get("marks", {})}
    at_end = result.document.get("details", {}).get("base_at_stack_end")
    segments = result.document.get("details", {}).get("segments") or {}
    document["details"] = {
        "base_at_stack_end": at_end,
        # Arrays, a quarter of the size of lists.
        "segments": {
            name: array("d", (np.nan if v is None else v for v in of))
            for name, of in segments.items()
        },
    }
    options = result.document.get("options", {})
    document["options"] = {name: options[name] for name in _SLIM_OPTIONS if name in options}
    document[_HASH] = record_sha256(result.document)
    return replace(
        result,
        measures=_interned(result.measures),
        facts=_interned(result.facts),
        flags=tuple(
            Flag(code=intern(flag.code), level=flag.level, sentence=intern(flag.sentence))
            for flag in result.flags
        ),
        document=_interned(document),
    )


def _interned(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values; names and words that all scans have are kept once for all."""
    return {
        intern(name): intern(value)
        if isinstance(value, str)
        else _interned(value)
        if isinstance(value, dict)
        else value
        for name, value in values.items()
    }


def record_sha256(document: Mapping[str, Any]) -> str:
    """The hash of a record without what may differ between equal runs; a slim one has its own."""
    if _HASH in document:
        return str(document[_HASH])
    stable = {name: value for name, value in document.items() if name != "run"}
    return sha256_bytes(canonical_json(stable).encode())


# ------------------------------------------------------------------ reading


def read_result(folder: Path, key: ScanKey) -> ScanResult | None:
    """The committed result in a folder whatever its options, None where there is none."""
    path = folder / RESULT_NAME
    if not path.is_file():
        return None
    try:
        result = to_result(read_json(path))
    except InputError:
        return None
    document = result.document
    complete = all(isinstance(document.get(name), dict) for name in ("outputs", "options"))
    same = document.get("format_version") == FORMAT_VERSION and result.key == key
    return result if complete and same else None


def read_record(out: Path, key: ScanKey) -> ScanResult | None:
    """The result that the tables take: the correction's where there is one; None without any."""
    return read_result(used_folder(out, key), key)


def damaged_outputs(folder: Path, result: ScanResult) -> list[str]:
    """The files that a record names and that do not have the hash it names."""
    return [
        name
        for name, digest in result.document["outputs"].items()
        if not (folder / name).is_file() or sha256_file(folder / name) != digest
    ]


def read_finished(folder: Path, key: ScanKey, *, timeout_s: float = 0.0) -> ScanResult | None:
    """The finished result in a folder, or None where it must be done (again).

    ``timeout_s``: how long a scan may take now, 0 without a limit; one that was ended earlier is
    tried again.
    """
    result = read_result(folder, key)
    if result is None:
        return None
    # A failure that a larger machine or more time may not meet.
    codes = {flag.code for flag in result.flags}
    retry = bool(codes & {FAULT_CODE, KILLED_CODE, UNREADABLE_CODE, *CORRECTION_CODES})
    if TIMEOUT_CODE in codes:
        given = float(result.document.get("run", {}).get("timeout_s", 0.0))
        retry = timeout_s == 0 or timeout_s > given
    return None if retry or damaged_outputs(folder, result) else result


def edited_in_output(out: Path, key: ScanKey) -> list[Problem]:
    """The masks of a scan that someone edited inside OUT: a run would overwrite that work.

    A file that is complete and a mask of labels was edited; anything else is damage.
    """
    problems = []
    for folder in (scan_folder(out, key), correction_folder(out, key)):
        result, path = read_result(folder, key), folder / SEGMENTATION_NAME
        if result is None or SEGMENTATION_NAME not in damaged_outputs(folder, result):
            continue
        try:
            data = path.read_bytes()
            read_labels(data, grid_of_mask(data))
        except (LabelFileError, OSError):
            continue
        problems.append(
            Problem(
                where=str(key),
                what="segmentation.nii.gz was changed inside the output",
                why="This run would overwrite that work.",
                fix="Move it to a separate folder and give that with --corrections; "
                "or say --restart to have the model's masks again.",
            )
        )
    return problems


# ------------------------------------------------------------------ writing


def commit(folder: Path, files: Mapping[str, bytes], document: Mapping[str, Any]) -> ScanResult:
    """Put a scan's files and then its record in place of what was there.

    The old record goes first, once all is staged: a full disk changes nothing, and a kill on the
    way leaves a scan to be done, never a record with files that are not its own.
    """
    old = (RESULT_NAME, *(name for name in OUTPUT_NAMES if name not in files))
    hashes = {name: sha256_bytes(data) for name, data in files.items()}
    text = canonical_json({**document, "outputs": hashes})
    result = to_result(json.loads(text))  # as a resumed run reads it
    write_all(folder, {**files, RESULT_NAME: text}, old=old)
    return result


def write_failure(
    out: Path, job: ScanJob, failure: ScanFailure, *, run: Mapping[str, Any] | None = None
) -> ScanResult:
    """The record of a failed scan; masks of an earlier run, if any, go.

    Where OUT has the model's own result, only the correction failed. ``run``: what may differ
    between two equal runs.
    """
    folder = correction_folder(out, job.key) if job.stored else scan_folder(out, job.key)
    options = job.options if job.stored else job.model_options
    document = failed_document(job.key, options, failure)
    document["run"] = {**(run or {}), "source": {"stat": job.source_stat, "content": None}}
    if not job.stored:
        remove_correction(out, job.key)
    return commit(folder, {}, document)


def remove_correction(out: Path, key: ScanKey) -> None:
    """Remove a correction, so that the scan has the model's own result again."""
    if correction_folder(out, key).exists():
        remove_tree(correction_folder(out, key))


# ------------------------------------------------------------------ the images of a scan


def source_block(job: ScanJob) -> dict[str, str | None]:
    """State and content of a job's images, to be recorded after they were read.

    Without content where they changed since the run was planned: what was read is then unknown,
    and the next run does the scan again.
    """
    content = content_sha256(job.source)
    if source_state(job.source).stat_sha256 != job.source_stat:
        content = None
    return {"stat": job.source_stat, "content": content}


def same_images(out: Path, job: ScanJob, document: Mapping[str, Any], *, write: bool) -> bool:
    """True where size and time of every file, or else the bytes, are those of the model's record.

    With ``write`` new times of the same bytes go into the record, to be hashed only once: the
    ``run`` block is not part of what two equal runs share, so times may be in it.
    """
    known: Any = document.get("run", {}).get("source")
    if not isinstance(known, dict) or known.get("stat") == job.source_stat:
        return True
    content = content_sha256(job.source)
    if content is None or content != known.get("content"):
        return False
    if write:
        path = scan_folder(out, job.key) / RESULT_NAME
        record = read_json(path)
        record["run"]["source"] = {"stat": job.source_stat, "content": content}
        write_text(path, canonical_json(record))
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentedScan:
    """The model's result of one scan; ``corrected``: the tables take a reader's mask instead.

    ``segmented_frames``: of a run with ``--frames ed-es``, which of the source's the mask has.
    """

    model: ModelScan
    grid: ScanGrid
    corrected: bool
    series_regex: str | None
    segmented_frames: tuple[int, ...] | None = None


def read_segmented(out: Path, key: ScanKey) -> SegmentedScan:
    """The model's result of a scan; raises UnusableError.

    The mask must be the very file that the record names: a mask changed in place is not the
    model's.
    """
    folder = scan_folder(out, key)
    try:
        own = read_json(folder / RESULT_NAME)
        data = (folder / SEGMENTATION_NAME).read_bytes()
        expected = own["outputs"][SEGMENTATION_NAME]
    except (InputError, OSError, KeyError, TypeError):
        raise UnusableError(
            "no-mask", "The scan's record or mask is missing from OUT or damaged."
        ) from None
    if sha256_bytes(data) != expected:
        raise UnusableError(
            "mask-changed",
            "The scan's mask is not the one that its record names. Run `segment` again; corrected "
            "masks are given with its option --corrections.",
        )
    try:
        grid = grid_of_mask(data)
        labels = read_labels(data, grid)
        if own["status"] == "failed":
            raise UnusableError("failed", "The model's own result was rejected by the checks.")
        frames = own.get("segmented_frames")
        # Labels that a reader changed, not only a reader's decision.
        used = read_record(out, key) if is_corrected(out, key) else None
        return SegmentedScan(
            model=_model(own, grid, labels),
            grid=grid,
            corrected=used is not None and any(flag.code == "corrected" for flag in used.flags),
            series_regex=own.get("options", {}).get("series_regex"),
            segmented_frames=None if frames is None else tuple(int(number) for number in frames),
        )
    except (LabelFileError, KeyError, TypeError, ValueError):
        raise UnusableError("no-mask", "The scan's record or mask is damaged.") from None


def _model(own: Mapping[str, Any], grid: ScanGrid, labels: np.ndarray) -> ModelScan:
    """Geometry and phases from the record; frames there are in the source's numbering."""
    facts = own["measures"]
    # The record's spacing is what was measured with; the header shows pixels that are not square.
    columns, rows = (float(np.linalg.norm(grid.affine[:3, axis])) for axis in (0, 1))
    stretch = float(np.sqrt(rows / columns))
    spacing = float(facts["spacing_mm"])
    frames = [int(f) for f in own.get("segmented_frames") or ()]
    ed, es = (
        frames.index(int(facts[name])) if frames else int(facts[name])
        for name in ("ed_frame", "es_frame")
    )
    values = {m.name: facts.get(m.name) for m in MEASURES}
    return ModelScan(
        labels=labels,
        spacing_mm=(spacing * stretch, spacing / stretch),
        slice_distance_mm=float(facts["slice_distance_mm"]),
        ed_frame=ed,
        es_frame=es,
        measures={k: None if v is None else float(v) for k, v in values.items()},
        rv_at_lv_phases=own.get("details", {}).get("rv_at_lv_phases") or {},
        even_slices=all(flag["code"] != "irregular-gaps" for flag in own["flags"]),
    )


def seg_notes(results: Iterable[ScanResult]) -> list[str]:
    """How many scans have DICOM SEG objects, and how many not, by reason."""
    reasons = Counter(
        result.document["dicom_seg"]["reason"]
        for result in results
        if "dicom_seg" in result.document
    )
    written = reasons.pop(None, 0)
    names = "ed.seg.dcm and es.seg.dcm, and DICOM SR measures.sr.dcm,"
    shown = [f"DICOM SEG: {names} of {shown_scans(written)}"] if written else []
    return shown + [
        f"DICOM SEG: none of {shown_scans(count)}. {reason}"
        for reason, count in sorted(reasons.items())
    ]
