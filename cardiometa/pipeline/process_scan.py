"""One scan from images to files: read, measure, write. Three steps, so that they can overlap.

One scan's failure never stops the others, and its files depend on that scan alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import CardiometaError, ImageError, ModelError, UsageError
from ..files import canonical_json, remove_leftovers, sha256_bytes
from ..flags import status_of
from ..imaging.dicom_seg import (
    CodedMeasure,
    Identity,
    Segment,
    SegPhase,
    kept_patient,
    measurement_report,
    scrubbed_patient,
    segmentation_object,
)
from ..imaging.nifti import nifti_bytes
from ..imaging.read import ReadOptions, read_cine
from ..measurement.checks import curve_flags
from ..measurement.measure import lv_extremes, measure_scan
from ..measurement.measures import STRUCTURES, definition
from ..measurement.radiomics import SETTINGS, radiomics
from ..reading.label_file import LabelFileError, ScanGrid, read_labels
from ..records import CineStack, Flag, ScanResult
from ..reports.figures.overlay import overlay_png
from .corrections import CorrectedScan, apply_correction, corrected_labels, outdated
from .jobs import EngineSetup, ScanFailure, ScanJob
from .result_file import (
    FAULT_CODE,
    OVERLAY_NAME,
    RADIOMICS_NAME,
    SEG_NAMES,
    SEGMENTATION_NAME,
    SR_NAME,
    commit,
    correction_folder,
    finished_document,
    read_result,
    remove_correction,
    scan_folder,
    source_block,
    write_failure,
)

if TYPE_CHECKING:
    from ..segmentation.inference import TorchPredictor


class Network:
    """The network of a run, loaded when a scan first needs it, with the facts of its file."""

    def __init__(self, setup: EngineSetup, *, threads: int = 1) -> None:
        self._setup, self._threads = setup, threads
        self.card, self.sha256 = setup.model.card, setup.model.sha256

    @cached_property
    def predictor(self) -> TorchPredictor:
        """Raises ModelError for the weights and UsageError for the device."""
        setup = self._setup
        return setup.model.predictor(device=setup.device, batch=setup.batch, workers=self._threads)


@dataclass(slots=True, kw_only=True)
class ScanWork:
    """A scan on its way through the three steps, and the seconds of each.

    ``labels`` ``[t, z, y, x]`` and ``document`` are the model's own; ``phases``: the indices of ED
    and ES for the overlay. With ``failure`` the further steps only record it.
    """

    job: ScanJob
    cine: CineStack | None = None
    labels: np.ndarray | None = None
    document: dict[str, Any] = field(default_factory=dict)
    phases: tuple[int, int] = (0, 0)
    corrected: CorrectedScan | None = None
    failure: ScanFailure | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def process(out: Path, job: ScanJob, network: Network) -> ScanResult:
    """All three steps. Raises what would fail every scan alike: no network, a full disk."""
    work = ScanWork(job=job)
    read(out, work)
    measure(out, work, network)
    return write(out, work)


def read(out: Path, work: ScanWork) -> None:
    """The cine of a scan."""
    # Of a process that died on this scan, here or on a machine that was lost.
    remove_leftovers(scan_folder(out, work.job.key))
    begun = time.monotonic()
    try:
        work.cine = read_cine(work.job.source, ReadOptions(series_regex=work.job.series_regex))
    except Exception as error:  # noqa: BLE001 - one scan's failure stays its own
        work.failure = failure_of(error)
    work.seconds["read"] = time.monotonic() - begun


def measure(out: Path, work: ScanWork, network: Network) -> None:
    """Labels and numbers of the cine: the model's, and a reader's where there is a correction."""
    if work.failure is not None:
        return
    job = work.job
    try:
        if not (job.stored and _take_stored(out, work)):
            work.job = job = replace(job, stored=False)
            _segment(work, network)
        begun = time.monotonic()
        correction, cine, labels = job.correction, work.cine, work.labels
        if correction is not None and cine is not None and labels is not None:
            shown = work.document.get("outputs", {}).get(SEGMENTATION_NAME)
            if correction.before and correction.before != (
                shown or sha256_bytes(_mask_bytes(cine, labels))
            ):
                work.corrected = outdated(work.document, correction)
            else:
                drawn, model = corrected_labels(correction, _grid(cine)), (labels, work.document)
                formula = str(job.options["bsa_formula"])
                work.corrected = apply_correction(cine, drawn, model, job.body, formula, correction)
        spent = time.monotonic() - begun
        work.seconds["measure"] = work.seconds.get("measure", 0.0) + spent
    except (ModelError, UsageError):
        raise  # the network cannot be loaded: every scan would fail alike
    except Exception as error:  # noqa: BLE001 - one scan's failure stays its own
        work.failure = failure_of(error)


def write(out: Path, work: ScanWork) -> ScanResult:
    """Masks, picture, then the record, staged together and renamed in that order."""
    if work.failure is not None:
        return write_failure(out, work.job, work.failure)
    try:
        return _write_finished(out, work)
    except (OSError, CardiometaError):
        raise  # a disk that cannot be written: every scan would fail alike
    except Exception as error:  # noqa: BLE001 - one scan's failure stays its own
        return write_failure(out, work.job, failure_of(error))


def failure_of(error: Exception) -> ScanFailure:
    """The reason of a failed scan, in words without header text."""
    if isinstance(error, ImageError):
        details = "; ".join(str(problem) for problem in error.problems[:20])
        return ScanFailure(code=error.code, sentence=f"{error.message} {details}".strip())
    if isinstance(error, CardiometaError):
        return ScanFailure(code="unusable", sentence=error.message)
    if isinstance(error, MemoryError):
        return ScanFailure(code=FAULT_CODE, sentence="Not enough memory for this scan.")
    sentence = f"Internal error ({type(error).__name__}); it will be retried on the next run."
    return ScanFailure(code=FAULT_CODE, sentence=sentence)


def _grid(cine: CineStack) -> ScanGrid:
    phases, slices, rows, columns = cine.pixels.shape
    return ScanGrid(shape=(phases, slices, rows, columns), affine=cine.affine)


def _take_stored(out: Path, work: ScanWork) -> bool:
    """Take the model's labels from OUT; False where the images are no longer those they are of."""
    cine, folder = work.cine, scan_folder(out, work.job.key)
    assert cine is not None
    result = read_result(folder, work.job.key)
    if result is None or result.document["source"]["sha256"] != cine.source.sha256:
        return False
    document = dict(result.document)
    numbers = [int(number) for number in cine.frame_numbers]
    try:
        if "segmented_frames" in document:
            ed, es = (numbers.index(int(n)) for n in document["segmented_frames"])
            cine = cine.ed_es_only(ed, es)
        work.labels = read_labels((folder / SEGMENTATION_NAME).read_bytes(), _grid(cine))
    except (LabelFileError, ValueError):
        return False
    work.cine, work.document = cine, document
    return True


def _segment(work: ScanWork, network: Network) -> None:
    """The network's labels of all phases, or of ED and ES only, and the record of its measures."""
    from ..segmentation.segment import segment_cine, segment_ed_es

    job, cine, card, sha256 = work.job, work.cine, network.card, network.sha256
    assert cine is not None
    predictor = network.predictor
    begun = time.monotonic()
    if job.options["frames"] == "all":
        labels = segment_cine(cine, predictor, card, sha256)
    else:
        whole, found = cine, list[Flag]()

        def choose(coarse: np.ndarray) -> tuple[int, int]:
            lv = lv_extremes(whole, coarse)
            if lv is None:  # the checks will report that there is no LV
                return 0, 0
            found.extend(curve_flags(lv, [int(number) for number in whole.frame_numbers]))
            return lv.largest, lv.smallest

        cine, labels = segment_ed_es(cine, predictor, card, sha256, choose)
        labels = replace(labels, flags=(*labels.flags, *found))
    between = time.monotonic()
    measured = measure_scan(
        cine, labels, job.body, str(job.options["bsa_formula"]), error=card.error
    )
    work.cine, work.labels = cine, labels.labels
    work.phases = measured.ed_frame, measured.es_frame
    work.document = finished_document(
        key=job.key,
        status=status_of(measured.flags),
        options=job.model_options,
        cine=cine,
        labels=labels,
        measured=measured,
    )
    work.seconds |= {"segment": between - begun, "measure": time.monotonic() - between}


def _files(cine: CineStack, labels: np.ndarray, phases: tuple[int, int]) -> dict[str, bytes]:
    """Mask and picture of one set of labels."""
    return {
        SEGMENTATION_NAME: _mask_bytes(cine, labels),
        OVERLAY_NAME: overlay_png(cine.pixels, labels, *phases, cine.spacing_mm),
    }


def _mask_bytes(cine: CineStack, labels: np.ndarray) -> bytes:
    return nifti_bytes(labels, cine.affine, frame_ms=cine.source.frame_ms or 1.0)


def _write_finished(out: Path, work: ScanWork) -> ScanResult:
    """The model's result where OUT has not got it, and the correction next to it."""
    begun = time.monotonic()
    job, cine, labels = work.job, work.cine, work.labels
    assert cine is not None
    assert labels is not None
    folder = scan_folder(out, job.key)
    if job.stored:
        names = (SEGMENTATION_NAME, OVERLAY_NAME)
        files = {name: (folder / name).read_bytes() for name in names}
    else:
        files = _files(cine, labels, work.phases)

    def finish(
        place: Path, document: Mapping[str, Any], labels: np.ndarray, files: dict[str, bytes]
    ) -> ScanResult:
        document = {k: v for k, v in document.items() if k not in ("run", "dicom_seg")}
        if "dicom_seg" in job.options:
            objects, document["dicom_seg"] = seg_files(job, cine, labels, document)
            files = files | objects
        if "radiomics" in job.options and document["status"] != "failed":
            numbers = [int(number) for number in cine.frame_numbers]
            ed, es = (numbers.index(int(document["measures"][f"{p}_frame"])) for p in ("ed", "es"))
            found = {"settings": SETTINGS, "features": radiomics(cine, labels, (ed, es))}
            files = {**files, RADIOMICS_NAME: canonical_json(found).encode()}
        stages = {**work.seconds, "write": time.monotonic() - begun}
        document["run"] = {
            "seconds": sum(stages.values()),
            "stages": stages,
            "source": source_block(job),
        }
        return commit(place, files, document)

    own = {**work.document, "options": job.model_options}
    if not job.stored or work.document["options"] != job.model_options:
        remove_correction(out, job.key)
        result = finish(folder, own, labels, files)
    if job.correction is None or work.corrected is None:
        return result
    reader = work.corrected
    said = {"decision": job.correction.decision, "reader": job.correction.reader}
    if job.correction.mask_sha256 != job.correction.sha256:
        said["mask_sha256"] = job.correction.mask_sha256
    given = {name: value for name, value in said.items() if value}
    block = {"sha256": job.correction.sha256, **given, **reader.correction}
    extra = {"options": dict(job.options), "correction": block}
    place = correction_folder(out, job.key)
    if reader.labels is None or reader.measured is None:
        return finish(place, {**own, **(reader.document or {}), **extra}, labels, files)
    measured = reader.measured
    document = finished_document(
        key=job.key,
        status=status_of(measured.flags),
        options=job.options,
        cine=cine,
        labels=reader.labels,
        measured=measured,
    )
    new = _files(cine, reader.labels.labels, (measured.ed_frame, measured.es_frame))
    return finish(place, {**document, **extra}, reader.labels.labels, new)


# ------------------------------------------------------------------ DICOM SEG objects

_NIFTI = "The source is NIfTI: there is no DICOM image to refer to."
_FAILED = "The scan failed: its mask is not exported."

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
    job: ScanJob, cine: CineStack, labels: np.ndarray, document: Mapping[str, Any]
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The objects of a scan by file name, and the block ``dicom_seg`` of its record.

    ``document`` is the record of the labels ``[t, z, y, x]``, the model's or a reader's; the option
    ``dicom_seg`` says whose identity the objects carry.
    """
    if cine.origin is None:
        return {}, {"identity": None, "reason": _NIFTI}
    if document["status"] == "failed":
        return {}, {"identity": None, "reason": _FAILED}
    identity: Identity = job.options["dicom_seg"]
    try:
        patient = (
            kept_patient(job.source, cine.origin)
            if identity == "keep"
            else scrubbed_patient(job.key, cine.origin)
        )
    except ImageError as error:
        return {}, {"identity": None, "reason": error.message}
    numbers = [int(number) for number in cine.frame_numbers]
    corrected = any(flag["code"] == "corrected" for flag in document["flags"])
    files: dict[str, bytes] = {}
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
    measures = coded_measures(document["measures"])
    if measures:
        objects = {"ed": files[SEG_NAMES["ed"]], "es": files[SEG_NAMES["es"]]}
        files[SR_NAME] = measurement_report(objects, measures, phase, patient, segments())
    return files, {"identity": identity, "reason": None}


# Where the codes' measures are taken: the segment, and the frame that is theirs.
_MEASURED: Mapping[str, tuple[int, Literal["ed", "es", ""], str]] = {
    "lv_edv_ml": (0, "ed", "ed_frame"),
    "lv_esv_ml": (0, "es", "es_frame"),
    "lv_ef_percent": (0, "", ""),
    "lv_mass_g": (1, "ed", "ed_frame"),
    "rv_edv_ml": (2, "ed", "rv_ed_frame"),
    "rv_esv_ml": (2, "es", "rv_es_frame"),
    "rv_ef_percent": (2, "", ""),
}


_MEANINGS: Mapping[str, str] = {
    f"{side}_{name}": f"{chamber} ventricular {meaning}"
    for side, chamber in (("lv", "Left"), ("rv", "Right"))
    for name, meaning in (
        ("edv_ml", "end-diastolic volume by MRI"),
        ("esv_ml", "end-systolic volume by MRI"),
        ("ef_percent", "ejection fraction by MRI"),
        ("mass_g", "mass by MRI"),
    )
}


def coded_measures(measures: Mapping[str, Any]) -> list[CodedMeasure]:
    """The measures that have a LOINC code, with the segment that they are of.

    The RV has its own ED and ES: where these are other frames than those of the objects, its
    volumes refer to no segment.
    """
    found = []
    for name, (structure, phase, frame) in _MEASURED.items():
        value, column = measures.get(name), definition(name)
        if value is None:
            continue
        is_there = not phase or measures.get(frame) == measures.get(f"{phase}_frame")
        found.append(
            CodedMeasure(
                value=float(value),
                unit=column.unit,
                code=column.code.removeprefix("LOINC "),
                meaning=_MEANINGS[name],
                structure=structure,
                phase=phase if is_there else "",
            )
        )
    return found
