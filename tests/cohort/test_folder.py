"""Folders as cohorts: trees, BIDS, single scans, and names that are in the headers."""

from __future__ import annotations

import shutil
import zipfile

import pytest

from cardiometa.cohort.load import load_cohort
from cardiometa.cohort.models import CohortOptions
from cardiometa.cohort.scans import _forms
from cardiometa.errors import CohortError, UsageError
from tests.kit.cohorts import write
from tests.kit.data import shared_data
from tests.kit.tiny_dicom import Shape, each, files, put, tiny

SMALL = Shape(slices=2, phases=2)


def scan(folder, **identity):
    """A tiny DICOM cine with names in its headers."""

    def change(_z, _t, dataset):
        for keyword, value in {"PatientID": "", "PatientName": "", **identity}.items():
            setattr(dataset, keyword, value)

    return put(folder, files(each(tiny(SMALL), change)))


def keys(path, **options):
    return [str(s.key) for s in load_cohort(path, CohortOptions(**options)).scans]


def test_trial_participant_visit(tmp_path):
    for place in ("T1/p1/baseline", "T1/p1/month12", "T1/p2/baseline", "T2/p1/baseline"):
        scan(tmp_path / place, StudyInstanceUID=f"1.2.{abs(hash(place))}")
    write(tmp_path / "T1/notes.docx", "x")
    (tmp_path / "T2/.hidden").mkdir()
    cohort = load_cohort(tmp_path)
    assert [str(s.key) for s in cohort.scans] == [
        "T1/p1/baseline",
        "T1/p1/month12",
        "T1/p2/baseline",
        "T2/p1/baseline",
    ]
    assert len(cohort.participants) == 3
    assert cohort.participants["sex"].isna().all()
    assert any("1 files next to" in note for note in cohort.notes)


def test_participants_without_visits_are_baseline(tmp_path):
    scan(tmp_path / "T1/p1")
    scan(tmp_path / "T1/p2/DICOM")
    for number in range(5):  # one series a slice, as Siemens writes them
        scan(tmp_path / f"T1/p3/series{number}")
    (tmp_path / "T1/p4").mkdir()
    cohort = load_cohort(tmp_path)
    assert [str(s.key) for s in cohort.scans] == ["T1/p1/baseline", "T1/p2/DICOM", "T1/p3/baseline"]
    assert cohort.participants["participant_id"].tolist() == ["p1", "p2", "p3", "p4"]


def test_bids(tmp_path):
    for person in ("01", "02"):
        for session in ("baseline", "m12"):
            name = f"sub-{person}_ses-{session}"
            folder = tmp_path / f"sub-{person}/ses-{session}/cine"
            write(folder / f"{name}_ED.nii.gz", "")
            write(folder / f"{name}_ES.nii.gz", "")
    write(
        tmp_path / "participants.tsv",
        "participant_id\tage\tsex\tx\nsub-02\t61\tF\t1\nsub-01\t55\tM\t2\n",
    )
    write(tmp_path / "dataset_description.json", "{}")
    write(tmp_path / "derivatives/model/out.txt", "")
    cohort = load_cohort(tmp_path, CohortOptions(trial_id="BIDS1"))
    assert [str(s.key) for s in cohort.scans] == [
        f"BIDS1/sub-{p}/{s}" for p in ("01", "02") for s in ("baseline", "m12")
    ]
    assert cohort.participants["age_years"].tolist() == [55.0, 61.0]
    assert cohort.participants["sex"].tolist() == ["male", "female"]


def test_bids_trials_without_sessions(tmp_path):
    scan(tmp_path / "T1/sub-01/cine")
    scan(tmp_path / "T2/sub-01/cine")
    assert keys(tmp_path) == ["T1/sub-01/baseline", "T2/sub-01/baseline"]


def test_single_scans(tmp_path):
    folder = scan(tmp_path / "scan")
    assert keys(folder) == ["single/scan-1/baseline"]
    assert keys(folder, trial_id="A", participant_id="b", visit_id="c") == ["A/b/c"]
    for number in range(3):
        scan(tmp_path / f"series/{number}")
    assert keys(tmp_path / "series") == ["single/scan-1/baseline"]
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    assert keys(tmp_path / "scan.zip") == ["single/scan-1/baseline"]


def test_an_ed_es_pair_is_told(tmp_path):
    acdc = shared_data() / "acdc/patient001"
    shutil.copytree(acdc, tmp_path / "p")
    (found,) = load_cohort(tmp_path / "p").scans
    assert found.source.kind == "ed-es"
    assert [path.name for path in found.source.paths] == [
        "patient001_ED.nii.gz",
        "patient001_ES.nii.gz",
    ]


@pytest.mark.parametrize(
    "identity",
    [
        {"PatientID": "P-17"},
        {"PatientName": "P^17"},
        {"PatientName": "17^P"},
        {"PatientBirthDate": "19500317"},
    ],
)
def test_a_folder_named_as_the_person_is_refused(tmp_path, identity):
    name = "1950-03-17" if "PatientBirthDate" in identity else "p_17"
    scan(tmp_path / "T1" / name / "baseline", **identity)
    scan(tmp_path / "T1/other/baseline", PatientID="x9")
    with pytest.raises(CohortError) as caught:
        load_cohort(tmp_path)
    (problem,) = caught.value.problems
    assert "patient's name" in problem.what
    assert name not in str(problem)
    assert len(keys(tmp_path, ids_are_pseudonyms=True)) == 2
    key = write(tmp_path.parent / f"{tmp_path.name}.key", "0123456789abcdef")
    assert name not in " ".join(keys(tmp_path, pseudonymise_key=key))


def test_pseudonyms_do_not_hide_a_visit_named_as_the_person(tmp_path):
    scan(tmp_path / "T1/p1/DOE", PatientName="DOE^JANE")
    scan(tmp_path / "T1/p2/baseline")
    key = write(tmp_path.parent / f"{tmp_path.name}.key", "0123456789abcdef")
    with pytest.raises(CohortError):
        load_cohort(tmp_path, CohortOptions(pseudonymise_key=key))


def test_forms_of_a_name():
    assert _forms("DOE^JANE") & _forms("jane_doe")
    assert _forms("sub-0017") & _forms("0017")
    assert not _forms("baseline") & _forms("base^line2")
    assert _forms("^^") == set()


def test_roster_and_folders_without_a_scans_table(tmp_path):
    scan(tmp_path / "img/p1/baseline")
    scan(tmp_path / "img/p2/baseline")
    scan(tmp_path / "img/phantom/baseline")
    write(tmp_path / "p.csv", "participant_id,sex\np1,M\np2,F\np3,F\n")
    toml = 'name = "x"\n[trials.A]\nparticipants = "p.csv"\nroot = "img"\nrandomised = false\n'
    cohort = load_cohort(write(tmp_path / "cohort.toml", toml))
    assert [str(s.key) for s in cohort.scans] == ["A/p1/baseline", "A/p2/baseline"]
    assert len(cohort.participants) == 3
    assert any("1 folders are named as no participant" in w for w in cohort.warnings)


@pytest.mark.parametrize("name", ["a.", "-x", "=x"])
def test_names_that_cannot_be_ids(tmp_path, name):
    scan(tmp_path / "T1" / name / "baseline")
    scan(tmp_path / "T1/ok/baseline")
    with pytest.raises(CohortError) as caught:
        load_cohort(tmp_path)
    assert repr(name) in str(caught.value.problems[0])


def test_what_is_no_cohort(tmp_path):
    with pytest.raises(CohortError, match="no file or folder"):
        load_cohort(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match="empty"):
        load_cohort(tmp_path / "empty")
    (tmp_path / "tree/T1/p1").mkdir(parents=True)
    with pytest.raises(CohortError) as caught:
        load_cohort(tmp_path / "tree")
    assert "no scan was found" in str(caught.value.problems[0])
    for number in range(2):
        write(tmp_path / f"zips/{number}.zip", "")
    with pytest.raises(CohortError, match="2 zips"):
        load_cohort(tmp_path / "zips")
    with pytest.raises(UsageError, match="--root"):
        load_cohort(tmp_path / "tree", CohortOptions(roots=(f"T1={tmp_path}",)))


def test_garbage_is_a_scan_that_will_fail(tmp_path):
    """One unreadable folder must not stop the others: it goes on and fails when it is read."""
    scan(tmp_path / "T1/p1/baseline")
    write(tmp_path / "T1/p2/baseline/text.dcm", "no image")
    assert keys(tmp_path) == ["T1/p1/baseline", "T1/p2/baseline"]
