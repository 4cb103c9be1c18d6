"""Is a path one scan? And who is in its headers, only to compare with folder names."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from cardiometa.imaging.discovery import find_scan_source, identity_values, inspect_headers
from cardiometa.records import ScanSource
from tests.kit.data import shared_data
from tests.kit.tiny_dicom import Shape, each, encode, files, image, put, tiny

ONE = Shape(slices=4, phases=8)


def _images(path):
    return ScanSource(kind="images", paths=(path,))


def _nifti(phases=None):
    import nibabel as nib
    import numpy as np

    shape = (8, 8, 5) if phases is None else (8, 8, 5, phases)
    return nib.Nifti1Image(np.zeros(shape, np.int16), np.diag([1.5, 1.5, 8, 1])).to_bytes()


def test_dicom_directly_in_a_folder_is_a_scan(tmp_path):
    put(tmp_path, files(tiny(ONE)))
    assert find_scan_source(tmp_path) == _images(tmp_path)


def test_series_folders_of_one_examination_are_one_scan(tmp_path):
    put(tmp_path, {f"a/series_{z}/{t}.dcm": encode(ds) for (z, t), ds in tiny(ONE).items()})
    assert find_scan_source(tmp_path) == _images(tmp_path)


def test_folders_of_two_examinations_are_not_one_scan(tmp_path):
    put(tmp_path / "baseline", files(tiny(ONE)))
    later = each(tiny(ONE), lambda _z, _t, ds: setattr(ds, "StudyInstanceUID", "2.25.10"))
    put(tmp_path / "followup", files(later))
    assert find_scan_source(tmp_path) is None
    assert find_scan_source(tmp_path / "baseline") == _images(tmp_path / "baseline")


def test_folders_of_two_people_are_not_one_scan(tmp_path):
    put(tmp_path / "a", files(tiny(ONE)))
    put(tmp_path / "b", files(each(tiny(ONE), lambda _z, _t, ds: setattr(ds, "PatientID", "X"))))
    assert find_scan_source(tmp_path) is None


def test_a_dicomdir_stands_for_the_folders_beside_it(tmp_path):
    directory = image(0, 0, ONE)
    directory.SOPClassUID = "1.2.840.10008.1.3.10"
    for keyword in ("Modality", "Rows", "Columns", "PixelData", "StudyInstanceUID"):
        delattr(directory, keyword)
    put(tmp_path, {"DICOMDIR": encode(directory)})
    assert find_scan_source(tmp_path) is None
    put(tmp_path, {f"IMAGES/{n}": d for n, d in files(tiny(Shape(slices=4))).items()})
    assert find_scan_source(tmp_path) == _images(tmp_path)
    assert inspect_headers(_images(tmp_path)) == ([], [])


@pytest.mark.parametrize(
    ("contents", "kind"),
    [
        ({"x.nii": _nifti(20)}, "images"),
        ({f"f{t:02d}.nii": _nifti() for t in range(10)}, "images"),
        ({"x_ED.nii": _nifti(), "x_ES.nii": _nifti()}, "ed-es"),
        ({"x_ED.nii": _nifti(), "x_ES.nii": _nifti(), "x_ED_gt.nii": _nifti()}, "ed-es"),
        ({"x_gt.nii": _nifti()}, None),
        ({"readme.txt": b"hello"}, None),
        ({"picture.dcm": b"\xff\xd8\xff\xe0"}, None),
        ({"sub/x_ED.nii": _nifti(), "sub/x_ES.nii": _nifti()}, None),
        ({}, None),
    ],
)
def test_folders_of_nifti(tmp_path, contents, kind):
    put(tmp_path, contents)
    found = find_scan_source(tmp_path)
    assert (found.kind if found else None) == kind
    if kind == "ed-es":
        assert [path.name for path in found.paths] == ["x_ED.nii", "x_ES.nii"]


def test_single_files(tmp_path):
    put(tmp_path, {"a": encode(image(0, 0, ONE)), "b": _nifti(20), "c_gt.nii": _nifti(), "d": b"x"})
    with zipfile.ZipFile(tmp_path / "e", "w") as archive:
        archive.writestr("x", "y")
    assert find_scan_source(tmp_path / "a") == _images(tmp_path / "a")
    assert find_scan_source(tmp_path / "b") == _images(tmp_path / "b")
    assert find_scan_source(tmp_path / "c_gt.nii") is None
    assert find_scan_source(tmp_path / "d") is None
    assert find_scan_source(tmp_path / "e") == _images(tmp_path / "e")
    assert find_scan_source(tmp_path / "absent") is None


def test_a_folder_with_one_zip_is_that_zip_and_with_two_is_none(tmp_path):
    for name in ("a.zip", "b.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x", "y")
        found = find_scan_source(tmp_path)
        assert found == (_images(tmp_path / "a.zip") if name == "a.zip" else None)


# ------------------------------------------------------------------ identity


def test_identity_values_hold_every_way_to_write_a_person(tmp_path):
    put(tmp_path, files(tiny(ONE)))
    values = identity_values(_images(tmp_path))
    assert {"doe^jane", "doe", "jane", "doe jane", "doe_jane", "h-4711"} <= values
    assert {"19520229", "1952-02-29", "29.02.1952", "29021952"} <= values
    assert all(value == value.casefold() for value in values)


def test_identity_is_found_in_zips_and_absent_from_nifti(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in files(tiny(ONE)).items():
            archive.writestr(f"x/{name}", data)
    assert "h-4711" in identity_values(_images(tmp_path / "a.zip"))
    put(tmp_path, {"b.nii": _nifti(20)})
    assert identity_values(_images(tmp_path / "b.nii")) == frozenset()
    assert identity_values(_images(tmp_path / "absent")) == frozenset()


def test_pseudonyms_of_sunnybrook_are_seen():
    path = shared_data() / "sunnybrook" / "SCD0000101.zip"
    assert "scd0000101" in identity_values(_images(path))


# ------------------------------------------------------------------ check


def test_problems_are_found_in_headers_without_pixels(tmp_path):
    put(tmp_path, files(each(tiny(), lambda _z, _t, ds: delattr(ds, "PixelSpacing"))))
    (problem,), _ = inspect_headers(_images(tmp_path))
    assert "without a pixel spacing" in problem.what
    assert problem.fix
    shown = str(problem).casefold()
    assert not any(word in shown for word in ("doe", "jane", "4711", "hospital", str(tmp_path)))


def test_a_pair_is_inspected_too(tmp_path):
    put(tmp_path, {"a_ED.nii": _nifti(), "a_ES.nii": _nifti(20)})
    pair = ScanSource(kind="ed-es", paths=(tmp_path / "a_ED.nii", tmp_path / "a_ES.nii"))
    (problem,), _ = inspect_headers(pair)
    assert "3 dimensions" in problem.what


def test_a_folder_of_images_is_told_by_two_of_them(tmp_path, monkeypatch):
    """And names are looked for in the first and the last file of each folder."""
    images = list(tiny(ONE).values())
    for number, dataset in enumerate(images):
        dataset.PatientName = f"Name{number}^X"
    for folder in ("", "below/"):
        put(tmp_path, {f"{folder}{n:02d}.dcm": encode(ds) for n, ds in enumerate(images)})
    (tmp_path / "00-notes.txt").write_text("no image")
    opened = []
    plain = Path.open

    def noted(path, *arguments, **options):
        opened.append(path.name)
        return plain(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", noted)
    assert find_scan_source(tmp_path) == _images(tmp_path)
    assert opened == ["00-notes.txt", "00.dcm", "01.dcm"]
    opened.clear()
    found = identity_values(_images(tmp_path))
    last = len(images) - 1
    assert {"name0", f"name{last}"} <= found
    assert not found & {"name1", f"name{last - 1}"}
    assert set(opened) == {"00-notes.txt", "00.dcm", f"{last}.dcm"}
