"""Images, examinations and persons that stand under two participants: found, never read twice."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.cohort.load import check_cohort, load_cohort
from cardiometa.cohort.models import CohortOptions
from cardiometa.imaging.read import ReadOptions, read_cine
from cardiometa.phantom.image import CineGrid, HeartPhantom, render
from cardiometa.pipeline.cohort_snapshot import snapshot_text, without_participants
from cardiometa.pipeline.merge import with_cohort_flags
from cardiometa.records import ScanKey, ScanResult
from cardiometa.segmentation.model import load_model
from tests.kit.dialects import DIALECTS
from tests.kit.tiny_dicom import Images, Shape, encode, files, of_person, put, tiny

PSEUDONYMS = CohortOptions(ids_are_pseudonyms=True)
SMALL = Shape(slices=5, phases=10)
SECRETS = ("heart^", "h-1", "doe", "4711", "19520229")


@pytest.fixture(params=["siemens", "philips", "ge"])
def images(request: pytest.FixtureRequest) -> Images:
    """The tiny cine with the headers that each vendor writes differently."""
    made = tiny(SMALL)
    for (z, t), ds in made.items():
        if request.param == "siemens":
            ds.SeriesInstanceUID += f".{z}"
        elif request.param == "philips":
            ds.Manufacturer, ds.InstanceNumber = "Philips Medical Systems", t * 6 + z + 1
        else:
            ds.Manufacturer = "GE MEDICAL SYSTEMS"
    return made


def put_person(top: Path, person: str, images: Images, visit: str = "baseline") -> Path:
    return put(top / "ALPHA" / person / visit, files(images))


def shared(top: Path) -> list[tuple[str, str]]:
    """Where and what of the problems that are about several participants."""
    report = check_cohort(top, PSEUDONYMS)
    text = str(report).casefold()
    assert not any(secret in text for secret in SECRETS)
    assert all("participants have the same" in problem.what for problem in report.problems)
    return [(p.where, p.what.rpartition("have ")[2]) for p in report.problems]


def flagged(top: Path) -> dict[str, tuple[str, str]]:
    """Status and sentence of the scans that the tables flag, after reading without a network."""
    cohort = load_cohort(top, PSEUDONYMS)
    results = []
    for scan in cohort.scans:
        marks = dict(read_cine(scan.source, ReadOptions()).source.marks)
        document = {"source": {"marks": marks}}
        results.append(
            ScanResult(
                key=scan.key, status="ok", measures={}, facts={}, flags=(), document=document
            )
        )
    return {
        str(result.key): (result.status, flag.sentence)
        for result in with_cohort_flags(results, cohort.same_person)
        for flag in result.flags
        if flag.code == "other-participant"
    }


P1, P2 = "ALPHA/P1/baseline", "ALPHA/P2/baseline"
IMAGES = "the same images"
STUDY = "the same examination (StudyInstanceUID)"
PERSON = "the same patient in the headers"


def another_export(ds) -> None:
    """An anonymiser gave new identities and UIDs; the pixels are the same."""
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "New^Name", "N-1", ""
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.77", f"2.25.78{ds.SeriesInstanceUID[4:]}"
    ds.SOPInstanceUID = f"2.25.79{ds.SOPInstanceUID[4:]}"


def another_series(ds) -> None:
    ds.SeriesInstanceUID, ds.AcquisitionTime = "2.25.80", "113000"
    ds.SOPInstanceUID = f"2.25.81{ds.SOPInstanceUID[4:]}"
    ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") + 9).tobytes()


def another_day(ds) -> None:
    another_series(ds)
    ds.StudyInstanceUID, ds.AcquisitionDate = "2.25.82", "20210101"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (str, IMAGES),
        (another_export, IMAGES),
        (another_series, STUDY),
        (another_day, PERSON),
    ],
)
def test_what_two_participants_share_is_a_problem_of_check_and_a_review_of_segment(
    tmp_path: Path, images: Images, change: Callable, what: str
) -> None:
    put_person(tmp_path, "P1", images)
    put_person(tmp_path, "P3", of_person(tiny(SMALL), 3))
    for ds in images.values():
        change(ds)
    put_person(tmp_path, "P2", images)
    assert shared(tmp_path) == [(f"{P1}, {P2}", what)]
    found = flagged(tmp_path)
    assert {key: status for key, (status, _) in found.items()} == {P1: "review", P2: "review"}
    assert found[P1][1] == (f"Another participant has {what} ({P2}): check whose images these are.")


def test_all_groups_are_listed_at_once_and_the_exit_code_is_3(tmp_path: Path) -> None:
    for person, number in (("P1", 1), ("P2", 1), ("P3", 2), ("P4", 2), ("P5", 2), ("P6", 6)):
        put_person(tmp_path, person, of_person(tiny(SMALL), number))
    done = CliRunner().invoke(app, ["check", str(tmp_path), "--ids-are-pseudonyms"])
    assert done.exit_code == 3
    assert "ALPHA/P1/baseline, ALPHA/P2/baseline: these 2 participants have the same im" in (
        done.output
    )
    assert "ALPHA/P3/baseline, ALPHA/P4/baseline, ALPHA/P5/baseline: these 3" in done.output
    assert "2 problems" in done.output
    assert "P6" not in done.output


def test_copies_under_one_participant_are_no_problem(tmp_path: Path, images: Images) -> None:
    put_person(tmp_path, "P1", images)
    put_person(tmp_path, "P1", images, "followup")
    put_person(tmp_path, "P2", of_person(tiny(SMALL), 2))
    assert shared(tmp_path) == []
    assert flagged(tmp_path) == {}


@pytest.mark.parametrize("dialect", ["ge", "zipped", "jpeg_2000", "enhanced", "rescaled"])
def test_a_copy_is_recognised_in_every_container(tmp_path: Path, dialect: str) -> None:
    cine = render(HeartPhantom(seed=12), CineGrid(slices=4, frames=8, rows=64, columns=56))
    for person, name in (("P1", "siemens"), ("P2", dialect)):
        put(tmp_path / "ALPHA" / person, DIALECTS[name](cine))
    # With a third person's images this is no export of one examination.
    put(tmp_path / "ALPHA" / "P3", files(of_person(tiny(SMALL), 3)))
    report = check_cohort(tmp_path, PSEUDONYMS)
    [problem] = [p for p in report.problems if "participants" in p.what]
    assert problem.where == f"{P1}, {P2}"
    assert IMAGES in problem.what


def nifti(folder: Path, *, values: int = 0, packed: bool = False) -> None:
    data = np.random.default_rng(values).integers(0, 900, (10, 12, 6, 20)).astype(np.int16)
    image = nib.Nifti1Image(data, np.diag([1.5, 1.5, 10.0, 1.0]))
    raw = image.to_bytes()
    put(folder, {"cine.nii.gz": gzip.compress(raw)} if packed else {"cine.nii": raw})


def test_nifti_is_compared_by_its_values_and_not_its_header(tmp_path: Path) -> None:
    nifti(tmp_path / "ALPHA" / "P1")
    nifti(tmp_path / "ALPHA" / "P2", packed=True)
    nifti(tmp_path / "ALPHA" / "P3", values=3)
    assert shared(tmp_path) == [(f"{P1}, {P2}", IMAGES)]
    assert set(flagged(tmp_path)) == {P1, P2}


# ------------------------------------------------------------------ what says nothing


@pytest.mark.parametrize(
    "identity",
    [
        ("Anonymous", "ANON", ""),
        ("", "", ""),
        ("", "000", "19000101"),
        ("unknown", "REMOVED", ""),
        ("xxx", "de-identified", "19520229"),
    ],
)
def test_words_of_anonymisers_are_no_person(tmp_path: Path, identity: tuple[str, ...]) -> None:
    for person, number in (("P1", 1), ("P2", 2)):
        made = of_person(tiny(SMALL), number)
        for ds in made.values():
            ds.PatientName, ds.PatientID, ds.PatientBirthDate = identity
        put_person(tmp_path, person, made)
    assert load_cohort(tmp_path, PSEUDONYMS).same_person == ()


def test_one_value_for_all_participants_of_a_trial_is_an_anonymisers(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        made = of_person(tiny(SMALL), number)
        for ds in made.values():
            ds.PatientName = ds.PatientID = "STUDY-7"
            ds.StudyInstanceUID = "2.25.1"
        put_person(tmp_path, f"P{number}", made)
    assert shared(tmp_path) == []
    assert flagged(tmp_path) == {}


def test_bare_ids_count_within_a_trial_alone(tmp_path: Path) -> None:
    for trial, number in (("ALPHA", 1), ("BETA", 2)):
        made = of_person(tiny(SMALL), number)
        for ds in made.values():
            ds.PatientName, ds.PatientID, ds.PatientBirthDate = "", "017", ""
        put(tmp_path / trial / "P1", files(made))
    assert load_cohort(tmp_path, PSEUDONYMS).same_person == ()
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        ds = dcmread(path)
        ds.PatientBirthDate = "19520229"
        path.write_bytes(encode(ds))
    [group] = load_cohort(tmp_path, PSEUDONYMS).same_person
    assert [key.trial for key in group] == ["ALPHA", "BETA"]


def test_empty_images_are_no_copies_of_each_other(tmp_path: Path) -> None:
    for number in (1, 2):
        made = of_person(tiny(SMALL), number)
        for ds in made.values():
            ds.PixelData = np.zeros((ds.Rows, ds.Columns), "<u2").tobytes()
        put_person(tmp_path, f"P{number}", made)
    assert shared(tmp_path) == []


# ------------------------------------------------------------------ what is kept of it


def test_the_snapshot_has_ids_alone_and_forgets_who_withdrew(tmp_path: Path) -> None:
    for person in ("P1", "P2"):
        made = of_person(tiny(SMALL), 1)
        if person == "P2":
            for ds in made.values():
                another_day(ds)
        put_person(tmp_path, person, made)
    cohort = load_cohort(tmp_path, PSEUDONYMS)
    card = load_model(None).card
    text = snapshot_text(cohort, card, "ab")
    assert json.loads(text)["same_person"] == [[["ALPHA", p, "baseline"] for p in ("P1", "P2")]]
    assert not any(secret in text.casefold() for secret in SECRETS)
    left = without_participants(cohort, {("ALPHA", "P2")})
    assert "P2" not in snapshot_text(left, card, "ab")
    key = tmp_path.parent / f"{tmp_path.name}.key"
    key.write_bytes(b"0123456789abcdef0123456789abcdef")
    hidden = load_cohort(tmp_path, CohortOptions(pseudonymise_key=key))
    assert {k.participant for group in hidden.same_person for k in group} == {
        scan.key.participant for scan in hidden.scans
    }


def test_records_without_marks_are_compared_with_none() -> None:
    results = [
        ScanResult(
            key=ScanKey(trial="ALPHA", participant=person, visit="baseline"),
            status="ok",
            measures={},
            facts={},
            flags=(),
            document=document,
        )
        for person, document in (("P1", {}), ("P2", {"source": {}}), ("P3", {"source": {}}))
    ]
    assert with_cohort_flags(results) == results


def test_long_lists_of_others_are_shortened() -> None:
    document = {"source": {"marks": {"images": "ab"}}}
    results = [
        ScanResult(
            key=ScanKey(trial="ALPHA", participant=f"P{number}", visit="baseline"),
            status="ok",
            measures={},
            facts={},
            flags=(),
            document=document,
        )
        for number in range(6)
    ]
    found = with_cohort_flags(results)
    assert [result.status for result in found] == ["review"] * 6
    assert "(ALPHA/P0/baseline, ALPHA/P1/baseline, ALPHA/P2/baseline and more)" in (
        found[5].flags[0].sentence
    )


def test_a_zip_and_its_folder_are_one_set_of_images(tmp_path: Path) -> None:
    contents = files(of_person(tiny(SMALL), 1))
    put(tmp_path / "ALPHA" / "P1", contents)
    packed = tmp_path / "ALPHA" / "P2" / "export.zip"
    packed.parent.mkdir()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    assert shared(tmp_path) == [(f"{P1}, {P2}", IMAGES)]
