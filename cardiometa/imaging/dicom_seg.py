"""Labels of one phase as DICOM SEG and the measures as DICOM SR, of what may leave the institution.

The object is made from a scrubbed data set: geometry, pixels, the cohort's own id. UIDs are hashes
(SHA-256 in a UUID below 2.25), so equal input gives equal bytes and one source instance has one UID
in every object; only those who have the images can find it. With ``identity="keep"`` the source's
own patient, study and instances are named instead, so that the object can be filed with its images.

PS3.3 A.51 (IOD), C.8.20.2 (segments), C.7.6.16.2.6 (derivation image); PS3.16 TID 1500 (measurement
report), 1411 (volumes of a segment), 1501 (other measures). Needs highdicom.
"""

from __future__ import annotations

import hashlib
import io
import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import ImageError, UsageError
from ..manifest import version
from ..records import CineStack, DicomOrigin, ScanKey, ScanSource, SourceImage
from .archive import open_files
from .headers import decimal, quiet

Identity = Literal["scrub", "keep"]

_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
# highdicom's own root, below which it draws random UIDs.
_DRAWN = "1.2.826.0.1.3680043.10.511.3."
_CLASS_UID = "2.25.190432110"
# There is no clock here: equal input gives equal bytes. With identity kept, the study's day.
_NO_DATE, _NO_TIME = "20000101", "000000"
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_LO_LENGTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One label: its value in the mask, name, SNOMED CT code with its meaning, CIELab colour."""

    label: int
    name: str
    code: str
    meaning: str
    colour: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """The elements of patient and study that an object carries, by keyword.

    ``by_place``: the source's UIDs do not distinguish its images, so phase and slice do.
    """

    elements: Mapping[str, str]
    study_uid: str
    frame_of_reference: str
    identity: Identity
    by_place: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SegPhase:
    """One phase to write: its index in the cine, ``ed`` or ``es``, and what drew the labels."""

    index: int
    name: Literal["ed", "es"]
    model_id: str
    model_sha256: str
    corrected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedMeasure:
    """A measure for the report: value, UCUM unit, LOINC code with its meaning, the structure.

    ``phase`` and ``structure`` (the position of its `Segment`, from 0) say which segment was
    measured; an empty ``phase`` is a measure of the whole cycle.
    """

    value: float
    unit: str
    code: str
    meaning: str
    structure: int
    phase: Literal["ed", "es", ""] = ""


def need_highdicom() -> None:
    """UsageError where highdicom is not installed, with what to install."""
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise UsageError(
            "--dicom-seg needs highdicom, which is not installed.",
            hint="Install it with `pip install 'cardiometa[dicom]'` (or `pip install highdicom`).",
        ) from None


def derived_uid(*parts: object) -> str:
    """A UID that depends on its parts alone: the same parts, the same UID."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


# ------------------------------------------------------------------ patient and study

_STUDY_TAGS = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyDate", "StudyTime", "StudyID", "ReferringPhysicianName"),
)


def scrubbed_patient(key: ScanKey, origin: DicomOrigin) -> Patient:
    """The cohort's own id, issued by its trial; nothing of the source."""
    own = {"PatientName": _short(key.participant), "PatientID": _short(key.participant)}
    return Patient(
        elements={**dict.fromkeys(_STUDY_TAGS, ""), **own, "IssuerOfPatientID": _short(key.trial)},
        study_uid=derived_uid("study", str(key), origin.study),
        frame_of_reference=derived_uid("place", str(key), origin.frame_of_reference),
        identity="scrub",
        by_place=not _has_distinct_ids(origin),
    )


def _has_distinct_ids(origin: DicomOrigin) -> bool:
    """True where every image of the cine has its own UID (and frame)."""
    images = {image for phase in origin.images for image in phase}
    files = {(image.file, image.frame) for image in images}
    names = {(image.sop_instance, image.frame) for image in images if image.sop_instance}
    return len(names) == len(files)


def kept_patient(source: ScanSource, origin: DicomOrigin) -> Patient:
    """Patient and study as the source's header has them; raises ImageError where it cannot say.

    The one place that reads an identity to write it, and only because it was asked for.
    """
    instances = {image.sop_instance for phase in origin.images for image in phase}
    uids = (origin.study, origin.frame_of_reference, *instances)
    if not (_has_distinct_ids(origin) and all(is_uid(uid) for uid in uids)):
        raise ImageError(
            "no-reference",
            "The source's UIDs are missing, malformed or shared between images: nothing can be "
            "referenced by them.",
        )
    from pydicom import dcmread

    quiet()
    wanted = ["SOPInstanceUID", "SpecificCharacterSet", *_STUDY_TAGS]
    with open_files(source.paths[0]) as files:
        # Those of the first file of the cine that can be read.
        for file in files.files("dicom"):
            # pydicom raises any kind on hostile bytes
            with suppress(Exception), files.open(file) as stream:
                dataset = dcmread(stream, specific_tags=wanted, stop_before_pixels=True, force=True)
                if str(dataset.get("SOPInstanceUID", "")) in instances:
                    return Patient(
                        elements={name: str(dataset.get(name, "") or "") for name in _STUDY_TAGS},
                        study_uid=origin.study,
                        frame_of_reference=origin.frame_of_reference,
                        identity="keep",
                    )
    raise ImageError("no-reference", "The source's study could not be read again.")


def is_uid(text: str) -> bool:
    """True for a well-formed UID."""
    return bool(_UID.fullmatch(text)) and len(text) <= _LO_LENGTH


def _short(text: str) -> str:
    """Text as a DICOM LO of at most 64 characters; longer ones end in a hash, so as to differ."""
    if len(text) <= _LO_LENGTH:
        return text
    return f"{text[:47]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


# ------------------------------------------------------------------ the object


def segmentation_object(
    cine: CineStack,
    labels: np.ndarray,
    phase: SegPhase,
    patient: Patient,
    segments: Sequence[Segment],
) -> bytes:
    """One phase's labels ``[z, y, x]`` as a file: BINARY, a frame for each segment and slice.

    Slices without a segment have no frame of it. Raises ValueError for a cine that is not DICOM.
    """
    origin = cine.origin
    if origin is None:
        raise ValueError("only a cine of DICOM images can be referenced")
    planes = [_plane(cine, origin, patient, k) for k in range(len(labels))]
    dataset = _build(planes, labels, phase, segments)
    _set_study(dataset, patient)
    _set_references(dataset, origin, phase, patient)
    _without_randomness(dataset, patient)
    return _encoded(dataset, patient, phase, "segmentation")


def measurement_report(
    objects: Mapping[str, bytes],
    measures: Sequence[CodedMeasure],
    phase: SegPhase,
    patient: Patient,
    segments: Sequence[Segment],
) -> bytes:
    """The measures as a Comprehensive SR of TID 1500; ``objects`` are the SEG files they are of.

    Of ``phase`` only the model is taken. Raises ValueError without measures.
    """
    if not measures:
        raise ValueError("a report needs a measure")
    import highdicom as hd
    from pydicom import dcmread

    evidence = {name: dcmread(io.BytesIO(data)) for name, data in objects.items()}
    for one in evidence.values():
        for keyword in _STUDY_TAGS:
            setattr(one, keyword, "")  # as in `_plane`: the real ones are set at the end
    names = [(m.phase, m.structure) for m in measures]
    groups = [
        _measured(key, [m for m in measures if (m.phase, m.structure) == key], evidence, segments)
        for key in dict.fromkeys(names)
    ]
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", phase.model_sha256),
        name="cardiometa",
        manufacturer_name="cardiometa",
        model_name=_short(phase.model_id),
        serial_number=phase.model_sha256[:16],
    )
    observer = hd.sr.ObserverContext(
        observer_type=hd.sr.CodedConcept("121007", "DCM", "Device"),
        observer_identifying_attributes=device,
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=hd.sr.CodedConcept("241620005", "SCT", "Cardiac MRI"),
        imaging_measurements=groups,
    )
    dataset = hd.sr.ComprehensiveSR(
        evidence=list(evidence.values()),
        content=content[0],
        series_instance_uid="2.25.1",
        series_number=9002,
        sop_instance_uid="2.25.1",
        instance_number=1,
        manufacturer="cardiometa",
        is_complete=True,
    )
    dataset.SeriesDescription = "Short-axis cine measures, research use only"
    dataset.SoftwareVersions = version()
    dataset.DeviceSerialNumber = phase.model_sha256[:16]
    _set_study(dataset, patient)
    _without_randomness(dataset, patient)
    return _encoded(dataset, patient, phase, "report")


def _measured(
    key: tuple[str, int],
    measures: Sequence[CodedMeasure],
    evidence: Mapping[Any, Any],
    segments: Sequence[Segment],
) -> Any:
    """The group of measures of one structure: of its segment, or of the whole cycle."""
    import highdicom as hd

    phase, number = key
    site = segments[number]
    place = hd.sr.CodedConcept(site.code, "SCT", site.meaning)
    facts: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(
            uid=derived_uid(
                "tracking", phase, number, *(e.SOPInstanceUID for e in evidence.values())
            ),
            identifier=f"{site.name} {phase.upper() or 'over the cycle'}",
        ),
        "finding_sites": [hd.sr.FindingSite(anatomic_location=place)],
        "measurements": [
            hd.sr.Measurement(
                name=hd.sr.CodedConcept(one.code, "LN", one.meaning),
                value=one.value,
                unit=hd.sr.CodedConcept(one.unit, "UCUM", one.unit),
            )
            for one in measures
        ],
    }
    if not phase:
        return hd.sr.MeasurementsAndQualitativeEvaluations(**facts)
    source = evidence[phase]
    series = source.ReferencedSeriesSequence[0].SeriesInstanceUID
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        **facts,
        finding_type=place,
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=source.SOPClassUID,
            sop_instance_uid=source.SOPInstanceUID,
            segment_number=number + 1,
            source_series=hd.sr.SourceSeriesForSegmentation(series),
        ),
    )


def _plane(cine: CineStack, origin: DicomOrigin, patient: Patient, k: int) -> Any:
    """A scrubbed image of one slice of the grid: what highdicom derives the object from."""
    from pydicom.dataset import Dataset

    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = _MR_IMAGE
    dataset.SOPInstanceUID = _placeholder(k)
    dataset.StudyInstanceUID = patient.study_uid
    dataset.SeriesInstanceUID = "2.25.1"
    dataset.FrameOfReferenceUID = patient.frame_of_reference
    for keyword in _STUDY_TAGS:
        # The real ones are set at the end: highdicom refuses some that archives contain.
        setattr(dataset, keyword, "")
    dataset.Modality = "MR"
    dataset.Rows, dataset.Columns = cine.pixels.shape[2:]
    dataset.PixelSpacing = [decimal(v) for v in cine.spacing_mm]
    dataset.SliceThickness = decimal(cine.source.thickness_mm or cine.slice_distance_mm)
    dataset.ImageOrientationPatient = [decimal(v) for v in origin.directions.ravel()]
    dataset.ImagePositionPatient = [decimal(v) for v in origin.slice_origins_mm[k]]
    dataset.PositionReferenceIndicator = ""
    return dataset


def _placeholder(k: int) -> str:
    return f"2.25.1.{k + 1}"


def _build(
    planes: Sequence[Any], labels: np.ndarray, phase: SegPhase, segments: Sequence[Segment]
) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(
        name=_short(f"cardiometa {phase.model_id}"),
        family=codes.cid7162.ArtificialIntelligence,
        version=f"{version()}, weights {phase.model_sha256[:16]}",
    )
    kind = "SEMIAUTOMATIC" if phase.corrected else "AUTOMATIC"
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=segment.name,
            segmented_property_category=codes.cid7150.AnatomicalStructure,
            segmented_property_type=hd.sr.CodedConcept(segment.code, "SCT", segment.meaning),
            algorithm_type=kind,
            algorithm_identification=algorithm,
            display_color=hd.color.CIELabColor(*segment.colour),
        )
        for number, segment in enumerate(segments, start=1)
    ]
    masks = np.stack([labels == segment.label for segment in segments], axis=-1)
    moment = {"ed": "end-diastole", "es": "end-systole"}[phase.name]
    return hd.seg.Segmentation(
        source_images=planes,
        pixel_array=masks.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid="2.25.1",
        series_number=9001,
        sop_instance_uid="2.25.1",
        instance_number={"ed": 1, "es": 2}[phase.name],
        manufacturer="cardiometa",
        manufacturer_model_name=_short(phase.model_id),
        software_versions=version(),
        device_serial_number=phase.model_sha256[:16],
        content_label=f"LV_{phase.name.upper()}",
        content_description=f"LV {moment}, frame {phase.index} from 0",
        series_description="Short-axis cine segmentation, research use only",
        omit_empty_frames=True,
    )


def _set_study(dataset: Any, patient: Patient) -> None:
    for keyword, value in patient.elements.items():
        setattr(dataset, keyword, value)
    if patient.identity == "scrub":
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = "Made from a scrubbed data set; UIDs are hashes"
    day, time = patient.elements.get("StudyDate", ""), patient.elements.get("StudyTime", "")
    dated = re.fullmatch(r"\d{8}", day) is not None
    timed = dated and re.fullmatch(r"\d{6}(\.\d{1,6})?", time) is not None
    date_text, time_text = day if dated else _NO_DATE, time if timed else _NO_TIME
    for keyword in ("ContentDate", "InstanceCreationDate"):
        setattr(dataset, keyword, date_text)
    for keyword in ("ContentTime", "InstanceCreationTime"):
        setattr(dataset, keyword, time_text)


def reference_of(image: SourceImage, place: tuple[int, int], patient: Patient) -> tuple[str, str]:
    """Series and SOP Instance UID by which an object refers to a source image.

    Scrubbed, each is the hash of the source's own (`derived_uid` of ``"instance"`` and the UID).
    """
    if patient.identity == "keep":
        series = image.series if is_uid(image.series) else derived_uid("series", patient.study_uid)
        return series, image.sop_instance
    if patient.by_place:
        study = patient.study_uid
        return derived_uid("series", study), derived_uid("instance", study, *place)
    series = derived_uid("series", image.series or patient.study_uid)
    return series, derived_uid("instance", image.sop_instance)


def _set_references(dataset: Any, origin: DicomOrigin, phase: SegPhase, patient: Patient) -> None:
    """Each frame's source image, and the lists of them, instead of the placeholders."""
    from pydicom.dataset import Dataset

    slices = {_placeholder(k): k for k in range(len(origin.resampled))}
    used: dict[tuple[str, str], tuple[str, list[int]]] = {}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            for item in derivation.SourceImageSequence:
                k = slices.get(item.ReferencedSOPInstanceUID)
                if k is None:
                    continue  # done: highdicom shares one item between the segments of a slice
                image = origin.images[phase.index][k]
                name = reference_of(image, (phase.index, k), patient)
                kind = image.sop_class if is_uid(image.sop_class) else _MR_IMAGE
                item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = kind, name[1]
                frames = used.setdefault(name, (kind, []))[1]
                if image.frame is not None:
                    item.ReferencedFrameNumber = image.frame
                    frames.append(image.frame)
                item.SpatialLocationsPreserved = "NO" if origin.resampled[k] else "YES"
    referenced: dict[str, list[Any]] = {}
    for (series, instance), (kind, _) in sorted(used.items()):
        referenced.setdefault(series, []).append(_instance(kind, instance, []))
    dataset.ReferencedSeriesSequence = [Dataset() for _ in referenced]
    for entry, (series, instances) in zip(
        dataset.ReferencedSeriesSequence, referenced.items(), strict=True
    ):
        entry.SeriesInstanceUID, entry.ReferencedInstanceSequence = series, instances
    dataset.SourceImageSequence = [
        _instance(kind, instance, sorted(frames))
        for (_, instance), (kind, frames) in sorted(used.items())
    ]


def _instance(kind: str, uid: str, frames: list[int]) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = kind, uid
    if frames:
        item.ReferencedFrameNumber = frames
    return item


def _without_randomness(dataset: Any, patient: Patient) -> None:
    """Random UIDs of highdicom become hashes, and its time stamp is removed."""
    for item in dataset.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
    known: dict[str, str] = {}
    for element in dataset.iterall():
        if element.VR == "UI" and str(element.value).startswith(_DRAWN):
            uid = str(element.value)
            known.setdefault(uid, derived_uid("dimension", patient.study_uid, len(known)))
            element.value = known[uid]


def _encoded(dataset: Any, patient: Patient, phase: SegPhase, kind: str) -> bytes:
    """The file; its instance is named after its content, so another mask is another instance."""
    series = derived_uid(kind, patient.study_uid, phase.model_sha256, patient.identity)
    dataset.SeriesInstanceUID = series
    dataset.file_meta.ImplementationClassUID = _CLASS_UID
    dataset.file_meta.ImplementationVersionName = "CARDIOMETA"
    data, uid = b"", "2.25.1"
    for _ in range(2):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        stream = io.BytesIO()
        dataset.save_as(stream, enforce_file_format=True)
        data = stream.getvalue()
        uid = derived_uid("object", hashlib.sha256(data).hexdigest())
    return data
