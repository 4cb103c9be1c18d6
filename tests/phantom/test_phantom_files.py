import gzip
import io
import re

import nibabel
import numpy as np
import pydicom
import pytest

from cardiometa.imaging.headers import decimal
from cardiometa.phantom.image import CineGrid, HeartPhantom, render
from cardiometa.phantom.write import PhantomHeader, dicom_files, nifti_4d, nifti_ed_es
from tests.kit.dialects import nifti_frames


@pytest.fixture(scope="module")
def cine():
    grid = CineGrid(rows=40, columns=32, row_spacing_mm=5, column_spacing_mm=6, slices=4, frames=5)
    return render(HeartPhantom(seed=3, heart_rate_bpm=58), grid)


def datasets(files):
    return [pydicom.dcmread(io.BytesIO(data)) for data in files.values()]


def test_files_are_whole_and_hold_the_pixels(cine):
    files = dicom_files(cine, PhantomHeader(pseudonym="A-001"))
    assert len(files) == 20
    for number, dataset in enumerate(datasets(files)):
        z, t = divmod(number, 5)
        assert (dataset.pixel_array == cine.pixels[t, z]).all()
        assert dataset.InstanceNumber == t + 1
        assert float(dataset.TriggerTime) == pytest.approx(cine.frame_times_ms[t], abs=1e-3)
        assert dataset.NominalInterval == 1034
        assert [float(v) for v in dataset.PixelSpacing] == [5, 6]


def test_uids_are_valid_unique_and_follow_from_the_arguments(cine):
    first = datasets(dicom_files(cine, PhantomHeader(pseudonym="A-001")))
    again = datasets(dicom_files(cine, PhantomHeader(pseudonym="A-001")))
    other = datasets(dicom_files(cine, PhantomHeader(pseudonym="A-002")))
    later = datasets(dicom_files(cine, PhantomHeader(pseudonym="A-001", study="followup")))
    uids = [d.SOPInstanceUID for d in first]
    assert len(set(uids)) == 20
    assert uids == [d.SOPInstanceUID for d in again]
    assert not set(uids) & {d.SOPInstanceUID for d in other + later}
    assert len({d.SeriesInstanceUID for d in first}) == 4
    assert len({d.StudyInstanceUID for d in first}) == 1
    assert {d.StudyInstanceUID for d in first}.isdisjoint({d.StudyInstanceUID for d in later})
    assert all(re.fullmatch(r"2\.25\.(0|[1-9]\d*)", uid) and len(uid) <= 64 for uid in uids)


def test_nobody_but_the_pseudonym_is_named(cine):
    for dataset in datasets(dicom_files(cine, PhantomHeader(pseudonym="A-001"))):
        assert str(dataset.PatientName) == dataset.PatientID == "A-001"
        assert dataset.PatientBirthDate == ""
        named = [e for e in dataset if e.VR == "PN" and str(e.value) not in ("", "A-001")]
        assert named == []


def test_bytes_depend_on_the_arguments_alone(cine):
    again = render(cine.phantom, cine.grid)
    assert dicom_files(cine) == dicom_files(again)
    assert nifti_4d(cine) == nifti_4d(again)


@pytest.mark.parametrize("value", [0.1, -123.456789012345, 1e-9, 1234567.891, -0.7071067811865476])
def test_decimal_strings_fit_and_keep_ten_digits(value):
    assert len(decimal(value)) <= 16
    assert float(decimal(value)) == pytest.approx(value, rel=1e-8)


def load(data):
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(data))


def test_nifti_holds_pixels_affine_units_and_frame_length(cine):
    image = load(nifti_4d(cine, "heart")["heart.nii.gz"])
    assert image.shape == (32, 40, 4, 5)
    assert (cine.pixels == np.asarray(image.dataobj).T).all()
    assert image.affine == pytest.approx(cine.grid.affine_ras, abs=1e-4)
    assert image.header.get_xyzt_units() == ("mm", "msec")
    assert image.header.get_zooms() == pytest.approx((6, 5, 10, 60000 / 58 / 5), rel=1e-5)


def test_nifti_frames_and_pairs(cine):
    frames = nifti_frames(cine)
    assert sorted(frames) == [f"cine_frame{t:02d}.nii.gz" for t in range(1, 6)]
    assert (cine.pixels[2] == np.asarray(load(frames["cine_frame03.nii.gz"]).dataobj).T).all()
    pair = nifti_ed_es(cine, "p1", labels=True)
    assert sorted(pair) == [f"p1_{x}.nii.gz" for x in ("ED", "ED_gt", "ES", "ES_gt")]
    es = cine.truth.es_frame
    assert (cine.labels[es] == np.asarray(load(pair["p1_ES_gt.nii.gz"]).dataobj).T).all()
