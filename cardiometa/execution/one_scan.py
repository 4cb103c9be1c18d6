"""One scan's way: read → segment → measure → files. Three steps, so that they can overlap."""

from __future__ import annotations

import gzip
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CardiometaError, ImageError
from ..files import canonical_json, remove, sha256_bytes, write_all
from ..records import (
    BodySize,
    CineStack,
    LabelStack,
    Measurement,
    Predictor,
    ScanKey,
    ScanResult,
    ScanSource,
)
from .scan_record import (
    FAULT_CODE,
    OVERLAY_NAME,
    RESULT_NAME,
    SEGMENTATION_NAME,
    failed_document,
    finished_document,
    scan_folder,
    to_result,
)

if TYPE_CHECKING:
    from ..segmentation.card import ModelCard


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanJob:
    """One scan to do: what it is, where it lies, whose body, and the options that matter."""

    key: ScanKey
    source: ScanSource
    body: BodySize
    options: Mapping[str, Any]
    series_regex: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmented:
    """What the network step hands to the writing step."""

    job: ScanJob
    cine: CineStack
    labels: LabelStack
    measured: Measurement
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A scan that could not be measured, with its one reason."""

    job: ScanJob
    code: str
    sentence: str


def read(job: ScanJob) -> tuple[CineStack, float]:
    """The cine and the seconds it took; raises ImageError."""
    from ..imaging.read import ReadOptions, read_cine

    begun = time.monotonic()
    cine = read_cine(job.source, ReadOptions(series_regex=job.series_regex))
    return cine, time.monotonic() - begun


def segment_and_measure(
    job: ScanJob, cine: CineStack, predictor: Predictor, card: ModelCard, model_sha256: str
) -> Segmented:
    """Labels and numbers of one cine."""
    from ..measurement.measure import measure_scan
    from ..measurement.quality import vendor_flags
    from ..segmentation.segment import segment_cine

    begun = time.monotonic()
    labels = segment_cine(cine, predictor, card, model_sha256)
    between = time.monotonic()
    unvalidated = vendor_flags(cine.source.vendor, card.rv_vendors)
    labels = replace(labels, flags=(*labels.flags, *unvalidated))
    measured = measure_scan(cine, labels, job.body, str(job.options["bsa_formula"]))
    seconds = {"segment": between - begun, "measure": time.monotonic() - between}
    return Segmented(job=job, cine=cine, labels=labels, measured=measured, seconds=seconds)


def segmentation_bytes(cine: CineStack, labels: np.ndarray) -> bytes:
    """``segmentation.nii.gz``: labels ``[t, z, y, x]`` as (x, y, z, t), the cine's own affine."""
    from nibabel.nifti1 import Nifti1Image

    # nibabel's headers carry no types.
    image: Any = Nifti1Image(labels.transpose(3, 2, 1, 0), cine.affine)  # type: ignore[no-untyped-call]
    frame_ms = cine.source.frame_ms or 1.0
    zooms = [*image.header.get_zooms()[:3], frame_ms]
    image.header.set_zooms(zooms)
    image.header.set_xyzt_units("mm", "msec")
    buffer = io.BytesIO()
    # Level 1 costs a tenth of a second where level 9 costs 15; no time stamp, equal bytes.
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=1, mtime=0) as stream:
        stream.write(image.to_bytes())
    return buffer.getvalue()


def write_finished(out: Path, done: Segmented, read_seconds: float) -> ScanResult:
    """Masks, picture, then the record, staged together and renamed in that order."""
    from ..measurement.quality import status_of
    from ..report.overlay import overlay_png

    begun = time.monotonic()
    job, cine, labels, measured = done.job, done.cine, done.labels, done.measured
    document = finished_document(
        key=job.key,
        status=status_of(measured.flags),
        options=job.options,
        cine=cine,
        labels=labels,
        measured=measured,
    )
    files = {
        SEGMENTATION_NAME: segmentation_bytes(cine, labels.labels),
        OVERLAY_NAME: overlay_png(
            cine.pixels,
            labels.labels,
            measured.ed_frame,
            measured.es_frame,
            cine.spacing_mm,
        ),
    }
    document["outputs"] = {name: sha256_bytes(data) for name, data in files.items()}
    stages = {"read": read_seconds, **done.seconds, "write": time.monotonic() - begun}
    document["run"] = {"seconds": sum(stages.values()), "stages": stages}
    write_all(scan_folder(out, job.key), {**files, RESULT_NAME: canonical_json(document)})
    return to_result(document)


def write_failure(out: Path, failure: Failure) -> ScanResult:
    """The record of a failed scan; masks of an earlier run, if any, go."""
    job = failure.job
    document = failed_document(job.key, job.options, code=failure.code, sentence=failure.sentence)
    folder = scan_folder(out, job.key)
    write_all(folder, {RESULT_NAME: canonical_json(document)})
    remove(folder, (SEGMENTATION_NAME, OVERLAY_NAME))
    return to_result(document)


def failure_of(job: ScanJob, error: BaseException) -> Failure:
    """The reason of a failed scan in words that hold no header text."""
    if isinstance(error, ImageError):
        details = "; ".join(str(problem) for problem in error.problems[:20])
        sentence = f"{error.message} {details}".strip()
        return Failure(job=job, code=error.code, sentence=sentence)
    if isinstance(error, CardiometaError):
        return Failure(job=job, code="unusable", sentence=error.message)
    if isinstance(error, MemoryError):
        return Failure(job=job, code=FAULT_CODE, sentence="Not enough memory for this scan.")
    return Failure(
        job=job,
        code=FAULT_CODE,
        sentence=f"A fault of the program ({type(error).__name__}); it is tried again next time.",
    )
