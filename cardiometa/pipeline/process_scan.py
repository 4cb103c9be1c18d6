"""One scan's way: read → segment → measure → files. Three steps, so that they can overlap."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CardiometaError, ImageError
from ..files import sha256_bytes
from ..imaging.nifti_write import nifti_bytes
from ..records import (
    BodySize,
    CineStack,
    Flag,
    LabelStack,
    Predictor,
    ScanKey,
    ScanResult,
    ScanSource,
)
from .result_file import (
    FAULT_CODE,
    MODEL_OVERLAY_NAME,
    MODEL_SEGMENTATION_NAME,
    OVERLAY_NAME,
    SEGMENTATION_NAME,
    failed_document,
    finished_document,
    flag_json,
)
from .results_store import StoredModel, base_options, commit
from .source_changed import source_block

if TYPE_CHECKING:
    from ..reading.label_file import ScanGrid
    from ..segmentation.card import ModelCard
    from .apply_correction import Mended
    from .corrections import Correction


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanJob:
    """One scan to do: what it is, where it lies, whose body, and the options that matter.

    ``stored`` is the model's own result where OUT has it; ``correction`` a reader's mask;
    ``source_stat`` the state of the images' files when the run was planned (`source_state`).
    """

    key: ScanKey
    source: ScanSource
    body: BodySize
    options: Mapping[str, Any]
    series_regex: str | None = None
    correction: Correction | None = None
    stored: StoredModel | None = None
    source_stat: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The network, loaded when a scan first needs it, with the facts of its file."""

    open: Callable[[], Predictor]
    card: ModelCard
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResult:
    """The model's own labels and record of a scan; the indices of ED and ES are for the overlay.

    ``files`` are the written forms where OUT has them already.
    """

    labels: np.ndarray
    document: dict[str, Any]
    ed: int = 0
    es: int = 0
    files: Mapping[str, bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmented:
    """What the network step hands to the writing step."""

    job: ScanJob
    cine: CineStack
    model: ModelResult
    mended: Mended | None
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


def segment_and_measure(job: ScanJob, cine: CineStack, network: Network) -> Segmented:
    """Labels and numbers of one cine: the model's, and by a reader's mask where there is one."""
    begun = time.monotonic()
    seconds: dict[str, float] = {}
    stored = _stored(job, cine) if job.stored else None
    if stored is None:
        cine, model, seconds = _by_network(job, cine, network)
    else:
        cine, model = stored
    mended = None
    if job.correction is not None:
        from .apply_correction import mend
        from .corrections import mended_labels

        labels = mended_labels(job.correction, _grid(cine))
        formula = str(job.options["bsa_formula"])
        mended = mend(cine, labels, (model.labels, model.document), job.body, formula)
    between = sum(seconds.values())
    seconds["measure"] = seconds.get("measure", 0.0) + time.monotonic() - begun - between
    return Segmented(job=job, cine=cine, model=model, mended=mended, seconds=seconds)


def _grid(cine: CineStack) -> ScanGrid:
    from ..reading.label_file import ScanGrid

    phases, slices, rows, columns = cine.pixels.shape
    return ScanGrid(shape=(phases, slices, rows, columns), affine=cine.affine)


def _stored(job: ScanJob, cine: CineStack) -> tuple[CineStack, ModelResult] | None:
    """The model's result from OUT; None where the images are no longer those it was made from."""
    from ..imaging.cine import ed_es_alone
    from ..reading.label_file import LabelFileError, read_labels

    stored = job.stored
    assert stored is not None
    if stored.document["source"]["sha256"] != cine.source.sha256:
        return None
    data = stored.segmentation.read_bytes()
    numbers = [int(number) for number in cine.frame_numbers]
    try:
        if "segmented_frames" in stored.document:
            ed, es = (numbers.index(int(n)) for n in stored.document["segmented_frames"])
            cine = ed_es_alone(cine, ed, es)
        labels = read_labels(data, _grid(cine))
    except (LabelFileError, ValueError):
        return None
    model = ModelResult(
        labels=labels,
        document=dict(stored.document),
        files={SEGMENTATION_NAME: data, OVERLAY_NAME: stored.overlay.read_bytes()},
    )
    return cine, model


def _by_network(
    job: ScanJob, cine: CineStack, network: Network
) -> tuple[CineStack, ModelResult, dict[str, float]]:
    """The phases that were segmented, what the model made of them, and the seconds."""
    from ..measurement.measure import measure_scan
    from ..measurement.quality import status_of, vendor_flags

    predictor = network.open()
    begun = time.monotonic()
    cine, labels = _labels(job, cine, predictor, network)
    between = time.monotonic()
    unvalidated = vendor_flags(cine.source.vendor, network.card.rv_vendors)
    labels = replace(labels, flags=(*labels.flags, *unvalidated))
    measured = measure_scan(cine, labels, job.body, str(job.options["bsa_formula"]))
    document = finished_document(
        key=job.key,
        status=status_of(measured.flags),
        options=base_options(job.options),
        cine=cine,
        labels=labels,
        measured=measured,
    )
    model = ModelResult(
        labels=labels.labels, document=document, ed=measured.ed_frame, es=measured.es_frame
    )
    return cine, model, {"segment": between - begun, "measure": time.monotonic() - between}


def _labels(
    job: ScanJob, cine: CineStack, predictor: Predictor, network: Network
) -> tuple[CineStack, LabelStack]:
    """The labels of all phases, or of ED and ES alone, with the phases they are of."""
    from ..segmentation.segment import segment_cine, segment_ed_es

    card, sha256 = network.card, network.sha256
    if job.options["frames"] == "all":
        return cine, segment_cine(cine, predictor, card, sha256)
    from ..measurement.checks import curve_flags
    from ..measurement.measure import lv_extremes

    found: list[Flag] = []

    def choose(labels: np.ndarray) -> tuple[int, int]:
        lv = lv_extremes(cine, labels)
        if lv is None:  # the checks will tell that there is no LV
            return 0, 0
        found.extend(curve_flags(lv, [int(number) for number in cine.frame_numbers]))
        return lv.largest, lv.smallest

    two, labels = segment_ed_es(cine, predictor, card, sha256, choose)
    return two, replace(labels, flags=(*labels.flags, *found))


def _files(cine: CineStack, labels: np.ndarray, ed: int, es: int) -> dict[str, bytes]:
    """Mask and picture of one set of labels."""
    from ..reports.figures.overlay import overlay_png

    return {
        SEGMENTATION_NAME: nifti_bytes(labels, cine.affine, frame_ms=cine.source.frame_ms or 1.0),
        OVERLAY_NAME: overlay_png(cine.pixels, labels, ed, es, cine.spacing_mm),
    }


def _hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: sha256_bytes(data) for name, data in files.items()}


def write_finished(out: Path, done: Segmented, read_seconds: float) -> ScanResult:
    """Masks, picture, then the record, staged together and renamed in that order."""
    begun = time.monotonic()
    job, cine, model = done.job, done.cine, done.model
    files = dict(model.files or _files(cine, model.labels, model.ed, model.es))
    document = model.document
    if model.files is None:
        document["outputs"] = _hashes(files)
    document, files = _with_correction(done, document, files)
    document = {**document, "options": dict(job.options)}
    if "dicom_seg" in job.options:
        from .dicom_output import seg_files

        mended = done.mended.labels if done.mended else None
        labels = model.labels if mended is None else mended.labels
        objects, document["dicom_seg"] = seg_files(job.key, job.source, cine, labels, document)
        files |= objects
    document["outputs"] = _hashes(files)
    stages = {"read": read_seconds, **done.seconds, "write": time.monotonic() - begun}
    document["run"] = {
        "seconds": sum(stages.values()),
        "stages": stages,
        "source": source_block(job),
    }
    if "model_result" in document:
        document["model_result"].setdefault("run", document["run"])
    return commit(out, job.key, files, document)


def _with_correction(
    done: Segmented, own: dict[str, Any], files: dict[str, bytes]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Record and files as they stand with the reader's mask, the model's own kept whole."""
    from ..measurement.quality import merge_flags, status_of

    job, cine, mended = done.job, done.cine, done.mended
    if mended is None or job.correction is None:
        return own, files
    block = {"sha256": job.correction.sha256, **mended.correction}
    extra = {"correction": block, "model_result": own}
    own_files = {
        MODEL_SEGMENTATION_NAME: files[SEGMENTATION_NAME],
        MODEL_OVERLAY_NAME: files[OVERLAY_NAME],
    }
    if mended.labels is None or mended.measured is None:
        flags = merge_flags((Flag(**flag) for flag in own["flags"]), mended.flags)
        document = {**own, "flags": [flag_json(flag) for flag in flags], **extra}
        return document, {**own_files, **files}
    measured = mended.measured
    document = finished_document(
        key=job.key,
        status=status_of(measured.flags),
        options=job.options,
        cine=cine,
        labels=mended.labels,
        measured=measured,
    )
    new_files = _files(cine, mended.labels.labels, measured.ed_frame, measured.es_frame)
    return {**document, **extra}, {**own_files, **new_files}


def write_failure(
    out: Path, failure: Failure, *, run: Mapping[str, Any] | None = None
) -> ScanResult:
    """The record of a failed scan; masks of an earlier run, if any, go.

    ``run``: what may differ between two equal runs.
    """
    job = failure.job
    document = failed_document(job.key, job.options, code=failure.code, sentence=failure.sentence)
    document["run"] = {**(run or {}), "source": {"stat": job.source_stat, "content": None}}
    return commit(out, job.key, {}, document)


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
