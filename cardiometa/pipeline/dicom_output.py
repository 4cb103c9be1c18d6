"""ED and ES of a scan as DICOM SEG objects beside its masks, where the source is DICOM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import ImageError
from ..imaging.dicom_seg import (
    Identity,
    Segment,
    SegPhase,
    kept_patient,
    scrubbed_patient,
    segmentation_object,
)
from ..measurement.measures import STRUCTURES
from ..records import CineStack, ScanKey, ScanResult, ScanSource
from .result_file import SEG_NAMES, shown_scans

_NIFTI = "The source is NIfTI: there is no DICOM image to refer to."
_FAILED = "The scan failed: its mask is not to be filed."

# The code's own meaning and, near the overlay's colours, CIELab for viewers.
_SHOWN: Mapping[str, tuple[str, str, tuple[float, float, float]]] = {
    "87878005": ("LV cavity", "Left ventricle", (62.0, 60.0, 43.0)),
    "49848007": ("LV myocardium", "Myocardium of left ventricle", (80.0, -27.0, -25.0)),
    "53085002": ("RV cavity", "Right ventricle", (87.0, 2.0, 78.0)),
}


def segments() -> tuple[Segment, ...]:
    """The labels of a mask as segments, with the codes of the table of measures."""
    found = []
    for structure in STRUCTURES:
        code = structure.code.removeprefix("SNOMED CT ")
        name, meaning, colour = _SHOWN[code]
        found.append(
            Segment(label=structure.label, name=name, code=code, meaning=meaning, colour=colour)
        )
    return tuple(found)


def seg_files(
    key: ScanKey,
    source: ScanSource,
    cine: CineStack,
    labels: np.ndarray,
    document: Mapping[str, Any],
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The objects of a scan by file name, and the block ``dicom_seg`` of its record.

    ``document`` is the record of the labels ``[t, z, y, x]`` as they stand, a reader's where there
    is one; its option ``dicom_seg`` says whose identity the objects carry.
    """
    if cine.origin is None:
        return {}, {"identity": None, "reason": _NIFTI}
    if document["status"] == "failed":
        return {}, {"identity": None, "reason": _FAILED}
    identity: Identity = document["options"]["dicom_seg"]
    try:
        patient = (
            kept_patient(source, cine.origin)
            if identity == "keep"
            else scrubbed_patient(key, cine.origin)
        )
    except ImageError as error:
        return {}, {"identity": None, "reason": error.message}
    numbers = [int(number) for number in cine.frame_numbers]
    corrected = any(flag["code"] == "corrected" for flag in document["flags"])
    files = {}
    for name, column in (("ed", "ed_frame"), ("es", "es_frame")):
        phase = SegPhase(
            index=numbers.index(int(document["measures"][column])),
            name="ed" if name == "ed" else "es",
            model_id=document["model"]["id"],
            model_sha256=document["model"]["sha256"],
            corrected=corrected,
        )
        files[SEG_NAMES[name]] = segmentation_object(
            cine, labels[phase.index], phase, patient, segments()
        )
    return files, {"identity": identity, "reason": None}


def identity_kept(results: Iterable[ScanResult]) -> bool:
    """True where objects carry the identity of their source, as was asked for."""
    return any(r.document.get("dicom_seg", {}).get("identity") == "keep" for r in results)


def seg_notes(results: Iterable[ScanResult]) -> list[str]:
    """How many scans have no object although they were asked for, by reason."""
    reasons = Counter(
        result.document["dicom_seg"]["reason"]
        for result in results
        if "dicom_seg" in result.document
    )
    written = reasons.pop(None, 0)
    told = [f"DICOM SEG: ed.seg.dcm and es.seg.dcm of {shown_scans(written)}"] if written else []
    return told + [
        f"DICOM SEG: none of {shown_scans(count)}. {reason}"
        for reason, count in sorted(reasons.items())
    ]
