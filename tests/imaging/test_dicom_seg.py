"""Labels as DICOM SEG: read back voxel by voxel, searched for all that must not leave."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

from cardiometa.errors import ImageError, UsageError
from cardiometa.imaging import dicom_seg
from cardiometa.imaging.dicom_seg import (
    SegPhase,
    derived_uid,
    kept_patient,
    measurement_report,
    need_highdicom,
    scrubbed_patient,
    segmentation_object,
)
from cardiometa.imaging.read import ReadOptions, read_cine
from cardiometa.phantom.image import CineGrid, HeartPhantom, PhantomCine, render
from cardiometa.pipeline.process_scan import coded_measures, segments
from cardiometa.records import CineStack, ScanKey, ScanSource
from tests.kit.dialects import DIALECTS, Files, label_stack, write_files

hd = pytest.importorskip("highdicom")

KEY = ScanKey(trial="ALPHA", participant="P001", visit="baseline")
ED = SegPhase(index=0, name="ed", model_id="heart-1", model_sha256="ab" * 32)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
DIALECT_NAMES = (
    "siemens",
    "philips",
    "ge",
    "enhanced",
    "enhanced_slices_inner",
    "enhanced_per_slice",
    "anonymised",
    "one_uid_for_all",
    "big_endian",
    "no_preamble",
    "zipped",
    "repeated_slice",
)


@pytest.fixture(scope="module")
def phantom() -> PhantomCine:
    grid = CineGrid(slices=8, frames=8, rows=64, columns=80)
    return render(HeartPhantom(lv_edv_ml=150, seed=5), grid)


def read(files: Files, folder: Path) -> tuple[ScanSource, CineStack]:
    write_files(folder, files)
    source = ScanSource(kind="images", paths=(folder,))
    return source, read_cine(source, ReadOptions())


def by_place(dataset: Dataset, cine: CineStack) -> np.ndarray:
    """Labels ``[z, y, x]`` as pydicom alone reads them, put in place by the frames' positions."""
    frames = dataset.pixel_array
    assert frames.ndim == 3
    labels = np.zeros(cine.pixels.shape[1:], dtype=np.uint8)
    inverse = np.linalg.inv(LPS @ cine.affine)
    for mask, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        position = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
        x, y, z, _ = inverse @ [*position, 1]
        assert np.allclose([x, y, z - round(z)], 0, atol=1e-3)
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert not labels[round(z)][mask > 0].any(), "segments do not overlap"
        labels[round(z)][mask > 0] = number
    return labels


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_every_dialect_is_read_back_voxel_by_voxel(
    phantom: PhantomCine, tmp_path: Path, dialect: str
) -> None:
    _, cine = read(DIALECTS[dialect](phantom), tmp_path)
    labels = label_stack(phantom, cine.pixels)
    patient = scrubbed_patient(KEY, cine.origin)
    for index, name in ((0, "ed"), (3, "es")):
        phase = replace(ED, index=index, name=name)
        data = segmentation_object(cine, labels[index], phase, patient, segments())
        assert data == segmentation_object(cine, labels[index], phase, patient, segments())
        dataset = dcmread(io.BytesIO(data))
        assert np.array_equal(by_place(dataset, cine), labels[index])
        _check_by_highdicom(data, cine, labels[index])
        _check_references(dataset, cine, index)


def _check_by_highdicom(data: bytes, cine: CineStack, labels: np.ndarray) -> None:
    seg = hd.seg.segread(io.BytesIO(data))
    assert seg.segmentation_type.value == "BINARY"
    volume = seg.get_volume(combine_segments=True)
    # Where highdicom's voxels lie on our grid: whole steps, no turn lost.
    step = np.linalg.inv(LPS @ cine.affine) @ volume.affine
    found = np.zeros_like(labels)
    for index in np.argwhere(volume.array):
        x, y, z = np.rint((step @ [*index, 1])[:3]).astype(int)
        found[z, y, x] = volume.array[tuple(index)]
    assert np.array_equal(found, labels)
    codes = [s.SegmentedPropertyTypeCodeSequence[0].CodeValue for s in seg.SegmentSequence]
    assert codes == ["87878005", "49848007", "53085002"]


def _check_references(dataset: Dataset, cine: CineStack, index: int) -> None:
    """Each frame names the image of its slice and phase, once and by a derived UID."""
    listed = {
        item.ReferencedSOPInstanceUID
        for series in dataset.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    assert listed == {item.ReferencedSOPInstanceUID for item in dataset.SourceImageSequence}
    uids = {(image.sop_instance, image.frame) for image in cine.origin.images[index]}
    shared = len(uids) < len(cine.origin.images[index])
    used = {}
    inverse = np.linalg.inv(LPS @ cine.affine)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        position = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
        k = round((inverse @ [*position, 1])[2])
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        image = cine.origin.images[index][k]
        used[k] = source.ReferencedSOPInstanceUID
        if image.sop_instance and not shared:
            assert source.ReferencedSOPInstanceUID == derived_uid("instance", image.sop_instance)
        assert source.get("ReferencedFrameNumber") == image.frame
    assert set(used.values()) == listed
    assert len(listed) == len({cine.origin.images[index][k].file for k in used})


# ------------------------------------------------------------------ the measures as a report

MEASURES = {
    "lv_edv_ml": 151.25, "lv_esv_ml": 62.5, "lv_ef_percent": 58.67768595041322, "lv_mass_g": 98.4,
    "rv_edv_ml": 160.1, "rv_esv_ml": 71.0, "rv_ef_percent": None,
    "ed_frame": 0, "es_frame": 3, "rv_ed_frame": 0, "rv_es_frame": 2,
}  # fmt: skip
LOINC = {  # imaging.md, 5
    "8821-1": 151.25, "8823-7": 62.5, "8811-2": 58.67768595041322, "18087-7": 98.4,
    "8822-9": 160.1, "8824-5": 71.0,
}  # fmt: skip


def report(phantom: PhantomCine, folder: Path) -> tuple[bytes, dict[str, bytes]]:
    _, cine = read(DIALECTS["siemens"](phantom), folder)
    labels, patient = label_stack(phantom, cine.pixels), scrubbed_patient(KEY, cine.origin)
    objects = {
        name: segmentation_object(
            cine, labels[index], replace(ED, index=index, name=name), patient, segments()
        )
        for index, name in ((0, "ed"), (3, "es"))
    }
    measures = coded_measures(MEASURES)
    made = measurement_report(objects, measures, ED, patient, segments())
    assert made == measurement_report(objects, measures, ED, patient, segments())
    return made, objects


def test_the_report_has_each_measure_with_its_code_and_segment(
    phantom: PhantomCine, tmp_path: Path
) -> None:
    data, objects = report(phantom, tmp_path)
    found = hd.sr.srread(io.BytesIO(data))
    assert found.SOPClassUID.name == "Comprehensive SR Storage"
    assert found.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    seg = {name: dcmread(io.BytesIO(one)) for name, one in objects.items()}
    assert found.StudyInstanceUID == seg["ed"].StudyInstanceUID
    assert found.PatientID == seg["ed"].PatientID == KEY.participant
    values, of = {}, {}
    for group in dcmread(io.BytesIO(data)).ContentSequence[-1].ContentSequence:
        items = [i for i in group.ContentSequence if i.ValueType in ("NUM", "IMAGE")]
        segment = [i.ReferencedSOPSequence[0] for i in items if i.ValueType == "IMAGE"]
        for item in (i for i in items if i.ValueType == "NUM"):
            name = item.ConceptNameCodeSequence[0]
            assert name.CodingSchemeDesignator == "LN"
            values[name.CodeValue] = float(item.MeasuredValueSequence[0].NumericValue)
            of[name.CodeValue] = [
                (s.ReferencedSOPInstanceUID, s.ReferencedSegmentNumber) for s in segment
            ]
    assert values == pytest.approx(LOINC)
    ed, es = seg["ed"].SOPInstanceUID, seg["es"].SOPInstanceUID
    assert of["8821-1"] == [(ed, 1)]
    assert of["8823-7"] == [(es, 1)]
    assert of["18087-7"] == [(ed, 2)]
    assert of["8822-9"] == [(ed, 3)]
    assert of["8811-2"] == []
    assert of["8824-5"] == []  # the RV's ES is another frame than that of the object


@pytest.mark.parametrize(
    ("program", "wrong"), [("dsrdump", r"(?m)^[EF]: "), ("dciodvfy", r"(?m)^Error")]
)
def test_other_programs_accept_the_report(
    phantom: PhantomCine, tmp_path: Path, program: str, wrong: str
) -> None:
    """dsrdump of DCMTK 3.6.7 reads the tree; dciodvfy of dicom3tools 1.00 finds no error."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian's dcmtk, dicom3tools)")
    path = tmp_path / "report.dcm"
    path.write_bytes(report(phantom, tmp_path / "images")[0])
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    assert not re.search(wrong, done.stdout + done.stderr), done.stdout + done.stderr
    assert program != "dsrdump" or "151.25" in done.stdout


# ------------------------------------------------------------------ what must not leave

SECRETS = {
    "PatientName": "Doenitz^Jocasta",
    "PatientID": "HOSP-4711",
    "PatientBirthDate": "19610203",
    "PatientSex": "F",
    "OtherPatientIDs": "NHS-998877",
    "PatientAddress": "12 Elm Road",
    "AccessionNumber": "ACC-5566",
    "InstitutionName": "Saint Elsewhere",
    "InstitutionAddress": "Hill Street 3",
    "StationName": "MRC40123",
    "ReferringPhysicianName": "Quarles^Rita",
    "PerformingPhysicianName": "Pettigrew^Paul",
    "OperatorsName": "Oberholz^Olga",
    "StudyDescription": "Cardiomyopathy clinic",
    "SeriesDescription": "doenitz saxcine",
    "ProtocolName": "zprot Doenitz",
    "PatientComments": "afraid of tunnels",
    "ImageComments": "moved twice",
    "StudyID": "STUDY-31",
    "StudyDate": "20190817",
    "StudyTime": "093142",
    "DeviceSerialNumber": "SN-70707",
}


def with_secrets(files: Files) -> Files:
    changed = {}
    for name, data in files.items():
        dataset = dcmread(io.BytesIO(data), force=True)
        for keyword, value in SECRETS.items():
            setattr(dataset, keyword, value)
        stream = io.BytesIO()
        dcmwrite(stream, dataset, enforce_file_format=True)
        changed[name] = stream.getvalue()
    return changed


def source_uids(files: Files) -> set[str]:
    found = set()
    for data in files.values():
        for element in dcmread(io.BytesIO(data), force=True):
            if element.VR == "UI" and element.keyword != "SOPClassUID":
                found.add(str(element.value))
    return found


def needles() -> set[str]:
    words = set()
    for keyword, value in SECRETS.items():
        if keyword != "PatientSex":
            words |= {value, *value.replace("^", " ").split()}
    return {word for word in words if len(word) > 3}


@pytest.mark.parametrize("dialect", ["siemens", "enhanced"])
def test_nothing_of_the_source_is_in_any_byte(
    phantom: PhantomCine, tmp_path: Path, dialect: str
) -> None:
    files = with_secrets(DIALECTS[dialect](phantom))
    _, cine = read(files, tmp_path)
    labels = label_stack(phantom, cine.pixels)
    patient = scrubbed_patient(KEY, cine.origin)
    data = segmentation_object(cine, labels[0], ED, patient, segments())
    folded = data.lower()
    for word in needles() | source_uids(files):
        assert word.encode().lower() not in folded, word
    dataset = dcmread(io.BytesIO(data))
    assert (dataset.PatientID, dataset.IssuerOfPatientID) == ("P001", "ALPHA")
    assert dataset.PatientIdentityRemoved == "YES"
    assert dataset.PatientSex == dataset.PatientBirthDate == dataset.StudyDate == ""
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


@pytest.mark.parametrize("dialect", ["siemens", "enhanced_per_slice"])
def test_kept_identity_files_the_object_beside_its_images(
    phantom: PhantomCine, tmp_path: Path, dialect: str
) -> None:
    files = with_secrets(DIALECTS[dialect](phantom))
    source, cine = read(files, tmp_path)
    labels = label_stack(phantom, cine.pixels)
    patient = kept_patient(source, cine.origin)
    dataset = dcmread(io.BytesIO(segmentation_object(cine, labels[0], ED, patient, segments())))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyID"):
        assert str(dataset[keyword].value) == SECRETS[keyword]
    assert dataset.ContentDate == dataset.StudyDate == SECRETS["StudyDate"]
    originals = [dcmread(io.BytesIO(data)) for data in files.values()]
    assert {dataset.StudyInstanceUID} == {one.StudyInstanceUID for one in originals}
    assert {dataset.FrameOfReferenceUID} == {one.FrameOfReferenceUID for one in originals}
    by_uid = {one.SOPInstanceUID: one for one in originals}
    for series in dataset.ReferencedSeriesSequence:
        for item in series.ReferencedInstanceSequence:
            original = by_uid[item.ReferencedSOPInstanceUID]
            assert original.SeriesInstanceUID == series.SeriesInstanceUID
            assert original.SOPClassUID == item.ReferencedSOPClassUID
    assert dataset.SeriesInstanceUID not in {one.SeriesInstanceUID for one in originals}
    # What was not asked for stays away all the same.
    for keyword in ("InstitutionName", "PatientComments", "StationName", "PatientAddress"):
        assert keyword not in dataset
    assert "PatientIdentityRemoved" not in dataset


def test_images_that_share_a_uid_cannot_be_kept(phantom: PhantomCine, tmp_path: Path) -> None:
    source, cine = read(DIALECTS["one_uid_for_all"](phantom), tmp_path)
    with pytest.raises(ImageError, match="missing, malformed or shared"):
        kept_patient(source, cine.origin)


def test_another_mask_is_another_instance_and_another_scan_another_study(
    phantom: PhantomCine, tmp_path: Path
) -> None:
    _, cine = read(DIALECTS["siemens"](phantom), tmp_path)
    labels = label_stack(phantom, cine.pixels)

    def made(mask: np.ndarray, phase: SegPhase = ED, key: ScanKey = KEY) -> Dataset:
        patient = scrubbed_patient(key, cine.origin)
        return dcmread(io.BytesIO(segmentation_object(cine, mask, phase, patient, segments())))

    one = made(labels[0])
    other = labels[0].copy()
    other[3, 30, 30:34] = 3
    mended = made(other, replace(ED, corrected=True))
    assert mended.SOPInstanceUID != one.SOPInstanceUID
    assert mended.SeriesInstanceUID == one.SeriesInstanceUID
    assert {s.SegmentAlgorithmType for s in mended.SegmentSequence} == {"SEMIAUTOMATIC"}
    assert {s.SegmentAlgorithmType for s in one.SegmentSequence} == {"AUTOMATIC"}
    es = made(labels[3], replace(ED, index=3, name="es"))
    assert es.StudyInstanceUID == one.StudyInstanceUID
    assert es.FrameOfReferenceUID == one.FrameOfReferenceUID
    assert es.SOPInstanceUID != one.SOPInstanceUID
    elsewhere = made(labels[0], key=replace(KEY, participant="P002"))
    assert elsewhere.StudyInstanceUID != one.StudyInstanceUID


def test_slices_stand_where_they_are_and_resampled_ones_say_so(
    phantom: PhantomCine, tmp_path: Path
) -> None:
    """Uneven gaps and a resampled slice: positions are each slice's own, not the mean grid's."""
    _, cine = read(DIALECTS["siemens"](phantom), tmp_path)
    labels = label_stack(phantom, cine.pixels)[0]
    normal = np.cross(*cine.origin.directions)
    moved = cine.origin.slice_origins_mm + np.outer(np.arange(8) ** 2 * 0.7, normal)
    origin = replace(
        cine.origin, slice_origins_mm=moved, resampled=(*[False] * 4, True, *[False] * 3)
    )
    patient = scrubbed_patient(KEY, origin)
    uneven = replace(cine, origin=origin)
    data = segmentation_object(uneven, labels, ED, patient, segments())
    seen = set()
    for group in dcmread(io.BytesIO(data)).PerFrameFunctionalGroupsSequence:
        position = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
        k = int(np.argmin(np.linalg.norm(moved - position, axis=1)))
        assert np.allclose(moved[k], position, atol=1e-6)
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        assert source.SpatialLocationsPreserved == ("NO" if k == 4 else "YES")
        seen.add(k)
    assert seen == set(np.flatnonzero(labels.any(axis=(1, 2))))


def test_long_ids_stay_different(phantom: PhantomCine, tmp_path: Path) -> None:
    _, cine = read(DIALECTS["siemens"](phantom), tmp_path)
    ids = []
    for end in "ab":
        key = replace(KEY, participant="p" * 80 + end)
        ids.append(scrubbed_patient(key, cine.origin).elements["PatientID"])
    assert len(set(ids)) == 2
    assert all(len(text) <= 64 for text in ids)


def test_a_missing_structure_and_a_single_slice(phantom: PhantomCine, tmp_path: Path) -> None:
    _, cine = read(DIALECTS["siemens"](phantom), tmp_path)
    labels = label_stack(phantom, cine.pixels)[0]
    patient = scrubbed_patient(KEY, cine.origin)
    for mask in (
        np.where(labels == 3, 0, labels),
        np.where(np.arange(8)[:, None, None] == 4, labels, 0),
    ):
        data = segmentation_object(cine, mask.astype(np.uint8), ED, patient, segments())
        dataset = dcmread(io.BytesIO(data))
        assert np.array_equal(by_place(dataset, cine), mask)
        assert len(dataset.SegmentSequence) == 3


def test_without_highdicom_the_user_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(UsageError, match="pip install"):
        need_highdicom()
    monkeypatch.undo()
    assert dicom_seg.need_highdicom() is None
