"""Is a path one scan? And who is in its headers, only to compare with folder names."""

from __future__ import annotations

import zipfile
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

from cardiometa.cohort.load import check_cohort, load_cohort
from cardiometa.cohort.models import CohortOptions
from cardiometa.errors import CohortError, ImageError
from cardiometa.imaging.discovery import HeaderIdentity, find_scan_source, header_identity
from cardiometa.imaging.read import ReadOptions, inspect_scan
from cardiometa.records import ScanSource
from tests.kit import tiny_dicom as kit
from tests.kit.data import shared_data
from tests.kit.tiny_dicom import Shape, each, encode, files, image, put, tiny

ONE = Shape(slices=4, phases=8)


def _images(path):
    return ScanSource(kind="images", paths=(path,))


def _nifti(phases=None):
    import nibabel as nib

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
    found = inspect_scan(_images(tmp_path), ReadOptions())
    assert found.flags == ()
    assert set(found.marks) == {"images", "study"}


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


def test_header_identity_hold_every_way_to_write_a_person(tmp_path):
    put(tmp_path, files(tiny(ONE)))
    values = header_identity(_images(tmp_path)).texts
    assert {"doe^jane", "doe", "jane", "doe jane", "doe_jane", "h-4711"} <= values
    assert {"19520229", "1952-02-29", "29.02.1952", "29021952"} <= values
    assert all(value == value.casefold() for value in values)


def test_identity_is_found_in_zips_and_absent_from_nifti(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in files(tiny(ONE)).items():
            archive.writestr(f"x/{name}", data)
    found = header_identity(_images(tmp_path / "a.zip"))
    assert "h-4711" in found.texts
    assert found.person == ("doe^jane", "h-4711", "19520229")
    put(tmp_path, {"b.nii": _nifti(20)})
    assert header_identity(_images(tmp_path / "b.nii")) == HeaderIdentity()
    assert header_identity(_images(tmp_path / "absent")) == HeaderIdentity()


def test_pseudonyms_of_sunnybrook_are_seen():
    path = shared_data() / "sunnybrook" / "SCD0000101.zip"
    assert "scd0000101" in header_identity(_images(path)).texts


# ------------------------------------------------------------------ check


def test_problems_are_found_in_headers_without_pixels(tmp_path):
    put(tmp_path, files(each(tiny(), lambda _z, _t, ds: delattr(ds, "PixelSpacing"))))
    with pytest.raises(ImageError, match="without a pixel spacing") as caught:
        inspect_scan(_images(tmp_path), ReadOptions())
    assert caught.value.hint
    shown = f"{caught.value} {caught.value.hint}".casefold()
    assert not any(word in shown for word in ("doe", "jane", "4711", "hospital", str(tmp_path)))


def test_a_pair_is_inspected_too(tmp_path):
    put(tmp_path, {"a_ED.nii": _nifti(), "a_ES.nii": _nifti(20)})
    pair = ScanSource(kind="ed-es", paths=(tmp_path / "a_ED.nii", tmp_path / "a_ES.nii"))
    with pytest.raises(ImageError, match="3 dimensions"):
        inspect_scan(pair, ReadOptions())


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
    found = header_identity(_images(tmp_path)).texts
    last = len(images) - 1
    assert {"name0", f"name{last}"} <= found
    assert not found & {"name1", f"name{last - 1}"}
    assert set(opened) == {"00-notes.txt", "00.dcm", f"{last}.dcm"}


# ------------------------------------------------------------------ one scan among other things


def _series(vendor: str, number: int, **values: object) -> kit.Images:
    """Another series of the same heart: its images by (slice, phase)."""
    shape = kit.Shape(slices=int(values.pop("slices", 1)), phases=int(values.pop("phases", 1)))  # type: ignore[call-overload]
    made = each(kit.tiny(shape, series=str(number), number=number), kit.VENDORS[vendor])
    for ds in made.values():
        ds.FrameOfReferenceUID = "2.25.31"
        for name, value in values.items():
            setattr(ds, name, value)
    return made


def _long_axis(made: kit.Images, degrees: float) -> kit.Images:
    """Images turned about the long axis of the heart."""
    angle = np.deg2rad(degrees)
    across = np.cos(angle) * kit.ROW + np.sin(angle) * kit.COLUMN
    return each(made, lambda _z, _t, ds: kit.turned(ds, across, kit.NORMAL))


def _other_series(vendor: str) -> dict[str, kit.Images]:
    """Six other series of an examination."""
    late = {"InversionTime": "280", "SeriesDescription": "LGE PSIR"}
    flow = ["ORIGINAL", "PRIMARY", "P", "ND"]
    perfusion = _series(vendor, 24, slices=3, phases=40)
    for (z, t), ds in perfusion.items():
        ds.TriggerTime, ds.TemporalPositionIdentifier = "300", t + 1
        ds.AcquisitionTime = f"1000{t:02d}.{z:02d}"
    return {
        "2CH": _long_axis(_series(vendor, 20, phases=20), 0.0),
        "4CH": _long_axis(_series(vendor, 21, phases=20), 60.0),
        "LGE": _series(vendor, 22, slices=6, **late),
        "flow": _series(vendor, 23, phases=20, ImageType=flow),
        "perfusion": perfusion,
        "localiser": _long_axis(_series(vendor, 25, slices=3), 30.0),
    }


def _junk(count: int) -> dict[str, bytes]:
    """Files as they lie around, by name."""
    kinds = [
        ("notes{}.txt", b"a Tuesday"),
        ("report{}.pdf", b"%PDF-1.4\n" + bytes(range(256))),
        ("d{}/Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(200)),
        ("d{}/.DS_Store", b"\0\0\0\x01Bud1" + bytes(99)),
        ("list{}.xml", b"<?xml version='1.0'?><a/>"),
        ("export{}.done", b""),
        ("d{}/desktop.ini", b"[.ShellClassInfo]\r\n"),
        ("picture{}.jpg", b"\xff\xd8\xff\xe0" + bytes(99)),
    ]
    return {kinds[n % 8][0].format(n): kinds[n % 8][1] for n in range(count)}


@pytest.mark.parametrize("arranged", ["flat", "folders"])
@pytest.mark.parametrize("vendor", kit.VENDORS)
def test_one_cine_among_junk_and_six_other_series_is_one_scan(tmp_path, vendor, arranged):
    """And each file that is not read is counted by its reason."""
    person = tmp_path / "cohort" / "ALPHA" / "P1"
    cine, others = kit.vendor_images(vendor), _other_series(vendor)
    for name, made in {"SAX": cine, **others}.items():
        where = "" if arranged == "flat" else f"{name}/"
        put(person, {f"{where}{name}{file}": data for file, data in files(made).items()})
    put(person / ("" if arranged == "flat" else "other"), _junk(200))
    scans = load_cohort(tmp_path / "cohort", CohortOptions(ids_are_pseudonyms=True)).scans
    assert [str(scan.key) for scan in scans] == ["ALPHA/P1/baseline"]
    found = kit.read(person)
    assert kit.which(found) == kit.EVERYTHING
    assert kit.codes(found) == {}
    left = kit.left(found)
    assert sum(left.values()) == 200 + sum(map(len, others.values()))
    assert left == {
        "text-file": 75,
        "pdf-file": 25,
        "office-file": 25,
        "other-file": 25,
        "empty-file": 25,
        "picture-file": 25,
        "too-few-positions": 40,
        "flow": 20,
        "time-span": 120,
        "too-few-phases": 9,
    }


def test_documents_next_to_two_views_are_no_visit(tmp_path, few_images):
    person = tmp_path / "cohort" / "ALPHA" / "P1"
    put(person / "SAX", files(few_images))
    view = each(tiny(Shape(slices=1)), lambda _z, _t, ds: kit.move(ds, -40.0 * kit.NORMAL))
    put(person / "2CH", files(each(view, lambda *k: setattr(k[2], "SOPInstanceUID", f"2.{k[1]}"))))
    put(person / "letters", {"a.pdf": b"%PDF-1.4 ", "b.xml": b"<a/>", ".DS_Store": bytes(9)})
    scans = load_cohort(tmp_path / "cohort", CohortOptions(ids_are_pseudonyms=True)).scans
    assert [str(scan.key) for scan in scans] == ["ALPHA/P1/baseline"]
    # What may have been images is a visit that will fail when it is read.
    put(person / "letters", {"c.dcm": b"was an image"})
    scans = load_cohort(tmp_path / "cohort", CohortOptions(ids_are_pseudonyms=True)).scans
    assert [scan.key.visit for scan in scans] == ["2CH", "SAX", "letters"]


def test_series_folders_may_be_links(tmp_path, few_images):
    """Also in a circle; what they lead to counts as the source's."""
    person = tmp_path / "cohort" / "ALPHA" / "P1"
    person.mkdir(parents=True)
    for (z, t), ds in few_images.items():
        put(tmp_path / "store" / f"SE{z}", {f"{t}": encode(ds)})
    (tmp_path / "store" / "SE0" / "up").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "SE1" / "root").symlink_to("/")
    for z in range(4):
        (person / f"SE{z}").symlink_to(tmp_path / "store" / f"SE{z}")
    assert find_scan_source(person) == _images(person)
    (scan,) = load_cohort(tmp_path / "cohort", CohortOptions(ids_are_pseudonyms=True)).scans
    assert str(scan.key) == "ALPHA/P1/baseline"
    assert kit.read(person).pixels.shape[:2] == (8, 4)
    assert "h-4711" in header_identity(_images(person)).texts


# ------------------------------------------------------------------ several participants


def _other_person(made: kit.Images) -> kit.Images:
    """Other pixels and other images, every identifier the same."""
    copies = deepcopy(made)
    for (z, t), ds in copies.items():
        ds.SOPInstanceUID = f"2.25.7.{z}.{t}"
        kit.set_pixels(ds, kit.pixels(z, t) + 1000)
    return copies


def _persons(top: Path, made: kit.Images, *names: str) -> Path:
    for name, images in zip(names, (made, _other_person(made)), strict=True):
        put(top / name, files(images))
    return top


@pytest.mark.parametrize(
    "names",
    [
        ("P1", "P2"),
        ("ALPHA/P1", "ALPHA/P2"),
        ("ALPHA/P1/baseline", "ALPHA/P2/baseline"),
        ("ALPHA/P1/baseline/SE1", "ALPHA/P2/baseline/SE1"),
    ],
)
def test_two_participants_with_the_same_identifiers_never_become_one(tmp_path, few_images, names):
    """A broken anonymiser wrote one StudyInstanceUID, PatientID and date for all."""
    cohort = _persons(tmp_path / "cohort", few_images, *names)
    with pytest.raises(CohortError, match="may be of several participants") as caught:
        load_cohort(cohort, CohortOptions(ids_are_pseudonyms=True))
    shown = f"{caught.value} {caught.value.hint}"
    assert "one StudyInstanceUID" in shown
    assert "--participant-id" in shown
    assert "P1" not in shown
    # Named as one participant's, it is read, but to be reviewed.
    options = CohortOptions(participant_id="P1", ids_are_pseudonyms=True)
    (scan,) = load_cohort(cohort, options).scans
    cine = kit.read(scan.source.paths[0])
    assert kit.codes(cine)["several-cines"] == "review"
    assert kit.left(cine) == {"repeated-slices": 32}
    # All images are of one of them.
    assert {image[1, 1] > 1000 for phase in cine.pixels for image in phase} in ({True}, {False})


def test_phases_of_two_participants_never_alternate(tmp_path, few_images):
    """Of other heart rates, with the same series, times of day and instance numbers."""
    other = _other_person(few_images)
    for (_, t), ds in other.items():
        ds.TriggerTime, ds.NominalInterval = f"{t * 101.0 + 3:.1f}", 808
    for name, made in (("P1", few_images), ("P2", other)):
        put(tmp_path / name, files(made))
    cine = kit.read(tmp_path)
    assert cine.pixels.shape[:2] == (8, 4)
    assert kit.codes(cine)["several-cines"] == "review"
    assert {image[1, 1] > 1000 for phase in cine.pixels for image in phase} in ({True}, {False})


def test_visits_with_the_same_identifiers_are_refused_by_number(tmp_path, few_images):
    for trial, person in (("ALPHA", "P1"), ("ALPHA", "P2"), ("BETA", "P3")):
        made = each(
            deepcopy(few_images),
            lambda z, t, ds, n=person[1]: setattr(ds, "SOPInstanceUID", f"2.25.6.{n}.{z}.{t}"),
        )
        place = tmp_path / "cohort" / trial / person
        if person == "P2":
            _persons(place, made, "baseline", "followup")
        else:
            put(place / "baseline", files(made))
    with pytest.raises(CohortError) as caught:
        load_cohort(tmp_path / "cohort", CohortOptions(ids_are_pseudonyms=True))
    (problem,) = caught.value.problems
    assert problem.where == "ALPHA: participant 2 in the order of the folders"
    assert "complete short-axis cine" in problem.what
    assert check_cohort(tmp_path / "cohort", CohortOptions(ids_are_pseudonyms=True)).problems


def test_many_folders_of_two_participants_are_reviewed(tmp_path, few_images):
    """From four folders on they are one examination's series, unless two are complete."""
    person = _persons(tmp_path / "P1", few_images, "SE1", "SE2")
    for name, made in _other_series("siemens").items():
        put(person / name, files(made))
    cine = kit.read(person)
    assert kit.codes(cine)["several-cines"] == "review"
    assert any("2 folders each contain" in flag.sentence for flag in cine.source.flags)


def test_stress_and_rest_in_two_folders_are_one_examination(tmp_path, images):
    """Where the series' description says stress; the state is named and the scan reviewed."""
    stress = _other_person(images)
    for (_, t), ds in stress.items():
        ds.SeriesDescription, ds.NominalInterval = "cine stress", 500
        ds.TriggerTime, ds.AcquisitionTime = f"{25.0 * t:.1f}", "113000"
    put(tmp_path / "ST" / "rest", files(images))
    put(tmp_path / "ST" / "stress", files(stress))
    (scan,) = load_cohort(tmp_path, CohortOptions(ids_are_pseudonyms=True)).scans
    cine = kit.read(scan.source.paths[0])
    assert kit.codes(cine) == {"other-state": "review"}
    assert any("stress, 120 bpm" in flag.sentence for flag in cine.source.flags)


@pytest.mark.parametrize("how", ["by phase", "by slice", "one slice each", "shifted"])
def test_series_of_one_participant_are_no_rivals(tmp_path, images, how):
    """Parts of one cine, and repeats that share their folders, are one participant's."""
    contents = {}
    for (z, t), ds in images.items():
        cut = {"by phase": t // 10, "by slice": z // 3, "one slice each": z, "shifted": 0}[how]
        contents[f"ST/SE{cut}/{z}.{t}"] = encode(ds)
    if how == "one slice each":
        again = _other_person(images)
        contents |= {f"ST/SE1{z}/{z}.{t}": encode(ds) for (z, t), ds in again.items()}
    if how == "shifted":
        again = each(_other_person(images), lambda _z, _t, ds: kit.move(ds, 200.0 * kit.NORMAL))
        contents |= {f"ST/SE1/{z}.{t}": encode(ds) for (z, t), ds in again.items()}
    put(tmp_path / "cohort", contents)
    (scan,) = load_cohort(tmp_path / "cohort", CohortOptions(ids_are_pseudonyms=True)).scans
    assert "several-cines" not in kit.codes(kit.read(scan.source.paths[0]))
