"""What OUT already holds of a scan, and how a scan's folder goes from one state to the next.

The model's own result is kept whole under a correction (``model_result`` in the record,
``segmentation_model.nii.gz``, ``overlay_model.png``), so that a correction can come, change or go
without the network, and go to the very bytes of a run that never had one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, Problem
from ..files import canonical_json, read_json, sha256_file, write_all
from ..manifest import FORMAT_VERSION
from ..reading.label_file import LabelFileError, grid_of_mask, read_labels
from ..records import ScanKey, ScanResult
from .result_file import (
    FAULT_CODE,
    MODEL_OVERLAY_NAME,
    MODEL_SEGMENTATION_NAME,
    OUTPUT_NAMES,
    OVERLAY_NAME,
    RESULT_NAME,
    SEGMENTATION_NAME,
    scan_folder,
    to_result,
)

# Options of a scan that the network and its labels do not depend on.
DRESSING = ("correction_sha256", "dicom_seg")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """The model's own result of a scan, whole in OUT: its record and where its files lie."""

    document: Mapping[str, Any]
    segmentation: Path
    overlay: Path


def base_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a scan that decide what the model makes of it."""
    return {name: value for name, value in options.items() if name not in DRESSING}


def model_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """The record that a run without correction and DICOM objects would have written."""
    if "model_result" in document:
        return dict(document["model_result"])
    plain = {name: value for name, value in document.items() if name != "dicom_seg"}
    plain["options"] = base_options(document["options"])
    outputs = document["outputs"]
    plain["outputs"] = {n: outputs[n] for n in (SEGMENTATION_NAME, OVERLAY_NAME) if n in outputs}
    return plain


def _record(out: Path, key: ScanKey) -> Mapping[str, Any] | None:
    path = scan_folder(out, key) / RESULT_NAME
    if not path.is_file():
        return None
    try:
        document = read_json(path)
        to_result(document)
        dict(document["outputs"])
    except (InputError, KeyError, TypeError, AttributeError, ValueError):
        return None
    same = document.get("format_version") == FORMAT_VERSION
    return document if same and to_result(document).key == key else None


def recorded_model(out: Path, key: ScanKey) -> str | None:
    """The hash of the model that a scan's record names, None without a record."""
    document = _record(out, key)
    value = None if document is None else document["options"].get("model_sha256")
    return value if isinstance(value, str) else None


def is_corrected(out: Path, key: ScanKey) -> bool:
    """True where the scan's record stands on a reader's mask."""
    document = _record(out, key)
    return document is not None and "correction_sha256" in document["options"]


def stored_model(out: Path, key: ScanKey, options: Mapping[str, Any]) -> StoredModel | None:
    """The model's own result with these base options, None where the network must run."""
    document = _record(out, key)
    if document is None:
        return None
    try:
        own = model_document(document)
        sound = own["options"] == base_options(options) and SEGMENTATION_NAME in own["outputs"]
        retry = any(flag["code"] == FAULT_CODE for flag in own["flags"])
        outputs = own["outputs"]
    except KeyError:
        return None
    if not sound or retry:
        return None
    folder = scan_folder(out, key)
    files = []
    for names in (
        (MODEL_SEGMENTATION_NAME, SEGMENTATION_NAME),
        (MODEL_OVERLAY_NAME, OVERLAY_NAME),
    ):
        digest = outputs.get(names[1])
        whole = [folder / n for n in names if _has_hash(folder / n, digest)]
        if not whole:
            return None
        files.append(whole[0])
    return StoredModel(document=own, segmentation=files[0], overlay=files[1])


def _has_hash(path: Path, digest: str | None) -> bool:
    return path.is_file() and sha256_file(path) == digest


def commit(
    out: Path, key: ScanKey, files: Mapping[str, bytes], document: Mapping[str, Any]
) -> ScanResult:
    """Put a scan's files and then its record in place of what was there.

    The old record goes first, once all is staged: a full disk changes nothing, and a kill on the
    way leaves a scan to be done, never a record beside files that are not its own.
    """
    old = (RESULT_NAME, *(name for name in OUTPUT_NAMES if name not in files))
    text = canonical_json(document)
    result = to_result(json.loads(text))  # as a resumed run reads it
    write_all(scan_folder(out, key), {**files, RESULT_NAME: text}, old=old)
    return result


def restore(out: Path, key: ScanKey, stored: StoredModel) -> ScanResult:
    """Back to the model's own result, byte for byte; nothing is computed."""
    files = {
        SEGMENTATION_NAME: stored.segmentation.read_bytes(),
        OVERLAY_NAME: stored.overlay.read_bytes(),
    }
    return commit(out, key, files, stored.document)


def edited_by_hand(out: Path, key: ScanKey) -> Problem | None:
    """The problem of a mask that someone mended inside OUT: going on would write over their work.

    Damage is told from work by the file being whole and on the scan's grid.
    """
    document = _record(out, key)
    if document is None or SEGMENTATION_NAME not in document["outputs"]:
        return None
    path = scan_folder(out, key) / SEGMENTATION_NAME
    if not path.is_file() or sha256_file(path) == document["outputs"][SEGMENTATION_NAME]:
        return None
    try:
        data = path.read_bytes()
        read_labels(data, grid_of_mask(data))
    except (LabelFileError, OSError):
        return None
    return Problem(
        where=str(key),
        what="segmentation.nii.gz was changed inside the output",
        why="This run would write over that work.",
        fix="Move it to a folder of its own and give that with --corrections; "
        "or say --restart to have the model's masks again.",
    )
