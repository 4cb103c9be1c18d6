"""`check` and `segment` come to one verdict of a scan: status and reasons but for the network's."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cardiometa.cohort.load import check_cohort, load_cohort
from cardiometa.cohort.models import CohortOptions
from cardiometa.errors import CohortError
from cardiometa.flags import status_of
from cardiometa.phantom.image import CineGrid, HeartPhantom, PhantomCine, render
from cardiometa.phantom.write import nifti_4d, nifti_ed_es
from cardiometa.pipeline.jobs import ScanJob
from cardiometa.pipeline.process_scan import ScanWork, read
from cardiometa.records import BodySize
from tests.kit.data import shared_data
from tests.kit.dialects import DIALECTS, Files, nifti_frames
from tests.kit.tiny_dicom import Images, files, put, tiny

PSEUDONYMS = CohortOptions(ids_are_pseudonyms=True)
Verdict = tuple[str, dict[str, str]]


def by_check(top: Path) -> dict[str, Verdict]:
    """Status and flags of each scan, as `check` reports them."""
    report = check_cohort(top, PSEUDONYMS)
    failed = {scan.where for scan in report.scans if scan.status == "failed"}
    assert failed == {problem.where for problem in report.problems}
    for scan in report.scans:
        for flag in scan.flags:
            if flag.level == "review":
                assert any(flag.code in line or flag.sentence in line for line in report.warnings)
    return {
        scan.where: (scan.status, {flag.code: flag.level for flag in scan.flags})
        for scan in report.scans
    }


def by_segment(top: Path, out: Path) -> dict[str, Verdict]:
    """The same as `segment` finds them while it reads, before the network."""
    found: dict[str, Verdict] = {}
    for scan in load_cohort(top, PSEUDONYMS).scans:
        work = ScanWork(job=ScanJob(key=scan.key, source=scan.source, body=BodySize(), options={}))
        read(out, work)
        if work.failure is not None:
            found[str(scan.key)] = ("failed", {work.failure.code: "reject"})
        elif work.cine is not None:
            flags = work.cine.source.flags
            found[str(scan.key)] = (status_of(flags), {flag.code: flag.level for flag in flags})
    return found


def agreed(top: Path, out: Path) -> dict[str, Verdict]:
    """The verdicts of both, which must be one."""
    found = by_segment(top, out)
    assert by_check(top) == found
    assert found
    return found


@pytest.mark.data
def test_the_shared_cases(tmp_path: Path) -> None:
    reviewed = set()
    for path in sorted((shared_data() / "imaging_cases").glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / path.stem)
        if path.stem == "one_person_two_series_as_folders":
            with pytest.raises(CohortError) as caught:
                load_cohort(tmp_path / path.stem, PSEUDONYMS)
            assert check_cohort(tmp_path / path.stem, PSEUDONYMS).problems == caught.value.listed(
                path.stem
            )
            continue
        for status, _ in agreed(tmp_path / path.stem, tmp_path / "out").values():
            assert status != "failed", path.stem
            reviewed |= {path.stem} if status == "review" else set()
    assert reviewed == {
        "enhanced_fewer_groups_than_frames",
        "every_second_slice_missing",
        "repeat_of_one_slice_other_fov",
        "rest_stack_with_3_stress_slices",
        "two_basal_slices_truncated",
        "two_frames_of_reference",
    }


# ------------------------------------------------------------------ damage


@pytest.fixture(scope="module")
def cine() -> PhantomCine:
    return render(HeartPhantom(seed=12), CineGrid(slices=6, frames=12, rows=48, columns=40))


def cut(data: bytes) -> bytes:
    return data[:-60]


def emptied(_: bytes) -> bytes:
    return b""


def beheaded(data: bytes) -> bytes:
    return data[:200]


def damaged(made: Files, count: int, how: Callable[[bytes], bytes]) -> Files:
    """The files with the first ``count`` of them spoiled."""
    return {name: how(data) if n < count else data for n, (name, data) in enumerate(made.items())}


@pytest.mark.parametrize("how", [cut, emptied, beheaded])
@pytest.mark.parametrize(
    "dialect", ["siemens", "philips", "ge", "enhanced_per_slice", "jpeg_2000", "rle", "deflated"]
)
def test_a_lost_basal_slice_is_seen_by_both_and_counted(
    tmp_path: Path, cine: PhantomCine, dialect: str, how: Callable[[bytes], bytes]
) -> None:
    count = 1 if dialect == "enhanced_per_slice" else 12
    top = put(tmp_path / "in", damaged(DIALECTS[dialect](cine), count, how))
    [(status, flags)] = agreed(top, tmp_path / "out").values()
    assert status == "review"
    assert flags["lost-images"] == "review"
    [line] = [line for line in check_cohort(top).warnings if "cannot be read" in line]
    shown = 1 if dialect == "enhanced_per_slice" and how is not cut else 12
    assert f"{shown} images of this stack cannot be read" in line
    if dialect in ("siemens", "jpeg_2000", "rle") or how is cut:
        assert "1 slices are lost altogether" in line


@pytest.mark.parametrize("dialect", ["siemens", "philips", "ge", "jpeg_ls"])
def test_a_scan_of_which_nothing_can_be_read_fails_in_both(
    tmp_path: Path, cine: PhantomCine, dialect: str
) -> None:
    top = put(tmp_path / "in", damaged(DIALECTS[dialect](cine), 72, cut))
    [(status, flags)] = agreed(top, tmp_path / "out").values()
    assert status == "failed"
    assert set(flags) == {"undecodable" if dialect == "jpeg_ls" else "damaged"}


def test_a_broken_folder_of_another_series_does_not_concern_the_stack(
    tmp_path: Path, cine: PhantomCine
) -> None:
    made = {f"sax/{name}": data for name, data in DIALECTS["ge"](cine).items()}
    made |= {f"lge/{n}.dcm": b"" for n in range(12)}
    [(_, flags)] = agreed(put(tmp_path / "in", made), tmp_path / "out").values()
    assert "lost-images" not in flags


@pytest.mark.parametrize("how", [cut, emptied])
@pytest.mark.parametrize("form", [nifti_4d, nifti_ed_es, nifti_frames])
def test_damaged_nifti(
    tmp_path: Path, cine: PhantomCine, form: Callable, how: Callable[[bytes], bytes]
) -> None:
    top = put(tmp_path / "in", damaged(dict(form(cine)), 1, how))
    [(status, flags)] = agreed(top, tmp_path / "out").values()
    if form is nifti_frames and how is emptied:
        assert (status, flags["lost-images"]) == ("review", "review")
    else:
        assert status == "failed"


def test_nifti_with_values_that_are_no_numbers(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(100, 9, (10, 12, 6, 20)).astype(np.float32)
    data[0, 0, 0, 0] = np.nan
    raw = nib.Nifti1Image(data, np.diag([1.5, 1.5, 10.0, 1.0])).to_bytes()
    top = put(tmp_path / "in", {"cine.nii.gz": gzip.compress(raw)})
    [(status, flags)] = agreed(top, tmp_path / "out").values()
    assert (status, flags["non-finite"]) == ("review", "review")


# ------------------------------------------------------------------ other reasons


def _spacing_missing(_z: int, _t: int, ds) -> None:
    del ds.PixelSpacing


def _many_frames_lost(z: int, t: int, ds) -> None:
    if z == 2 and t % 2:
        ds.Modality = "CT"


def _stress(z: int, t: int, ds) -> None:
    if z > 3:
        ds.NominalInterval, ds.TriggerTime = 500, f"{t * 25.0:.4f}"


@pytest.mark.parametrize("change", [_spacing_missing, _many_frames_lost, _stress])
@pytest.mark.parametrize("vendor", ["SIEMENS", "Philips Medical Systems", "GE MEDICAL SYSTEMS"])
def test_other_reasons(tmp_path: Path, change: Callable, vendor: str) -> None:
    made: Images = tiny()
    for (z, t), ds in made.items():
        ds.Manufacturer = vendor
        change(z, t, ds)
    [(status, _)] = agreed(put(tmp_path / "in", files(made)), tmp_path / "out").values()
    assert status == ("failed" if change is _spacing_missing else "review")
