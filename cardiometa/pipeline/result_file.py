"""``result.json``: the commit record of one scan, written last, read on resume.

A scan is finished when its record is there, says the same options, and every file it names has
the hash it names. Anything less is done again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from sys import intern
from typing import Any, get_args

from ..errors import InputError
from ..files import canonical_json, inside, read_json, sha256_bytes, sha256_file
from ..manifest import FORMAT_VERSION, library_versions, version
from ..records import (
    CineSource,
    CineStack,
    Flag,
    LabelStack,
    LeftOut,
    Level,
    Measurement,
    ScanKey,
    ScanResult,
    Status,
)

RESULT_NAME = "result.json"
SEGMENTATION_NAME = "segmentation.nii.gz"
OVERLAY_NAME = "overlay.png"
# Under a correction, the model's own.
MODEL_SEGMENTATION_NAME = "segmentation_model.nii.gz"
MODEL_OVERLAY_NAME = "overlay_model.png"
SEG_NAMES = {"ed": "ed.seg.dcm", "es": "es.seg.dcm"}
OUTPUT_NAMES = (
    SEGMENTATION_NAME,
    OVERLAY_NAME,
    MODEL_SEGMENTATION_NAME,
    MODEL_OVERLAY_NAME,
    *SEG_NAMES.values(),
)

# A fault of the program is tried again on the next run; bad input is not.
FAULT_CODE = "program-fault"
# The process that worked on the scan died of it twice, or had to be ended after --timeout.
KILLED_CODE = "worker-killed"
TIMEOUT_CODE = "timeout"
# Files that this user may not read: a right given later leaves no mark on them.
UNREADABLE_CODE = "unreadable"
# What of a record the tables and the account need; the rest is read again where it is shown.
_SLIM = ("model", "run", "dicom_seg")
_SLIM_OPTIONS = ("bsa_formula", "frames", "model_sha256")
_HASH = "record_sha256"  # of the whole record, in a slim one

FACT_NAMES = ("vendor", "field_strength_t", "sequence")


def scan_folder(out: Path, key: ScanKey) -> Path:
    """``OUT/scans/<trial>/<participant>/<visit>``."""
    return inside(out / "scans", key.trial, key.participant, key.visit)


def shown_scans(count: int) -> str:
    """``1 scan``, ``2 scans``."""
    return f"{count} scan{'' if count == 1 else 's'}"


def flag_json(flag: Flag) -> dict[str, str]:
    """One flag as the record holds it."""
    return {"code": flag.code, "level": flag.level, "sentence": flag.sentence}


def _left_out_json(left: LeftOut) -> dict[str, Any]:
    return {"code": left.code, "count": left.count, "sentence": left.sentence}


def _source_json(source: CineSource) -> dict[str, Any]:
    return {
        "format": source.format,
        "sha256": source.sha256,
        "files": source.files,
        "time_key": source.time_key,
        "spacing_source": source.spacing_source,
        "series_reason": source.series_reason,
        "rr_ms": source.rr_ms,
        "left_out": [_left_out_json(left) for left in source.left_out],
    }


def base_document(
    key: ScanKey, status: Status, options: Mapping[str, Any], flags: tuple[Flag, ...]
) -> dict[str, Any]:
    """What every record has, finished or failed."""
    return {
        "format_version": FORMAT_VERSION,
        "key": {"trial": key.trial, "participant_id": key.participant, "visit": key.visit},
        "status": status,
        "options": dict(options),
        "flags": [flag_json(flag) for flag in flags],
        "versions": {
            "cardiometa": version(),
            **library_versions("numpy", "scipy", "torch", "pydicom", "python-gdcm", "nibabel"),
        },
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
    facts = {name: getattr(cine.source, name) for name in FACT_NAMES}
    chosen = {}
    if cine.phases_of_source is not None:
        chosen["segmented_frames"] = [int(number) for number in cine.frame_numbers]
    return {
        **base_document(key, status, options, measured.flags),
        **chosen,
        "facts": facts,
        "source": _source_json(cine.source),
        "model": {"id": labels.model_id, "sha256": labels.model_sha256},
        "measures": {measure.name: measure.value for measure in measured.measures},
        "curves": {name: [float(v) for v in curve] for name, curve in measured.curves.items()},
        "confidence_by_frame": [[float(v) for v in phase] for phase in labels.confidence.round(4)],
        "frame_times_ms": [float(v) for v in cine.frame_times_ms],
        "details": dict(measured.details),
    }


def failed_document(
    key: ScanKey,
    options: Mapping[str, Any],
    *,
    code: str,
    sentence: str,
    left_out: tuple[LeftOut, ...] = (),
) -> dict[str, Any]:
    """The record of a scan that could not be measured, with its one reason."""
    flag = Flag(code=code, level="reject", sentence=sentence)
    return {
        **base_document(key, "failed", options, (flag,)),
        "error": {"code": code, "sentence": sentence},
        "source": {"left_out": [_left_out_json(left) for left in left_out]},
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
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("A result.json is not a record of this program.") from error


def _check(document: Any) -> None:
    """Raise ValueError where a part of a record cannot have been written by this program."""
    parts = ("key", "options", "measures", "facts")
    may = ("outputs", "run", "model", "model_result", "correction")
    sound = isinstance(document, dict) and all(isinstance(document[name], dict) for name in parts)
    sound = sound and all(isinstance(document.get(name, {}), dict) for name in may)
    if not sound or document["status"] not in get_args(Status):
        raise ValueError("parts")
    numbers = [*document["measures"].values(), *document.get("run", {}).get("stages", {}).values()]
    numbers.append(document.get("run", {}).get("seconds"))
    if not all(_is_number(value) for value in numbers):
        raise ValueError("numbers")
    texts = [*document["key"].values(), *document.get("outputs", {}).values()]
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
    if "model_result" in document:
        _check(document["model_result"])


def _is_number(value: Any) -> bool:
    """True for what a measure may be: a finite number or nothing."""
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def slim(result: ScanResult) -> ScanResult:
    """The result without curves and details: 100,000 of these fit into memory."""
    document = {name: result.document[name] for name in _SLIM if name in result.document}
    options = result.document.get("options", {})
    document["options"] = {name: options[name] for name in _SLIM_OPTIONS if name in options}
    document[_HASH] = record_sha256(result.document)
    return replace(
        result,
        measures=_shared(result.measures),
        facts=_shared(result.facts),
        flags=tuple(
            Flag(code=intern(flag.code), level=flag.level, sentence=intern(flag.sentence))
            for flag in result.flags
        ),
        document=_shared(document),
    )


def _shared(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values; names and words that all scans have are kept once for all."""
    return {
        intern(name): intern(value)
        if isinstance(value, str)
        else _shared(value)
        if isinstance(value, dict)
        else value
        for name, value in values.items()
    }


def record_sha256(document: Mapping[str, Any]) -> str:
    """The hash of a record without what may differ between equal runs; a slim one knows its own."""
    if _HASH in document:
        return str(document[_HASH])
    stable = {name: value for name, value in document.items() if name != "run"}
    if "model_result" in stable:
        own = stable["model_result"]
        stable["model_result"] = {name: value for name, value in own.items() if name != "run"}
    return sha256_bytes(canonical_json(stable).encode())


def read_record(out: Path, key: ScanKey) -> ScanResult | None:
    """The committed result of a scan whatever its options, None where there is none."""
    path = scan_folder(out, key) / RESULT_NAME
    if not path.is_file():
        return None
    try:
        document = read_json(path)
        result = to_result(document)
    except (InputError, KeyError, TypeError, AttributeError, ValueError):
        return None
    whole = all(isinstance(document.get(name), dict) for name in ("outputs", "options"))
    same = document.get("format_version") == FORMAT_VERSION
    return result if whole and same and result.key == key else None


def _goes_better(result: ScanResult, timeout_s: float) -> bool:
    """True for a failure that the next run, on a larger machine or with more time, may not meet."""
    codes = {flag.code for flag in result.flags}
    if TIMEOUT_CODE in codes:
        given = float(result.document.get("run", {}).get("timeout_s", 0.0))
        return timeout_s == 0 or timeout_s > given
    return bool(codes & {FAULT_CODE, KILLED_CODE, UNREADABLE_CODE})


def read_finished(
    out: Path, key: ScanKey, options: Mapping[str, Any], *, timeout_s: float = 0.0
) -> ScanResult | None:
    """The finished result of a scan, or None where it must be done (again).

    ``timeout_s``: how long a scan may take now, 0 for ever; one that was ended earlier is tried
    again.
    """
    result = read_record(out, key)
    if result is None:
        return None
    folder, outputs = scan_folder(out, key), result.document["outputs"]
    if dict(result.document["options"]) != dict(options) or _goes_better(result, timeout_s):
        return None
    for name, digest in outputs.items():
        file = folder / name
        if not file.is_file() or sha256_file(file) != digest:
            return None
    return result
