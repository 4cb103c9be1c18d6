"""Images replaced in place are noticed on resume; images that were only copied are not redone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cardiometa.files import read_json
from cardiometa.imaging.discovery import content_sha256, source_state
from cardiometa.records import ScanSource
from tests.kit.small_runs import run

DICOM, NIFTI = "scans/ALPHA/P001/baseline", "scans/ALPHA/P002/baseline"


@pytest.fixture
def copied(small_cohort: Path, tmp_path: Path) -> Path:
    """The cohort with the times of its files."""
    return Path(shutil.copytree(small_cohort, tmp_path / small_cohort.name))


def other_bytes(path: Path) -> None:
    """Another image of the same size and, as from a backup, even a time of whole seconds."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, (1_600_000_000, 1_600_000_000))


def source_of(out: Path, scan: str) -> dict[str, str | None]:
    return dict(read_json(out / scan / "result.json")["run"]["source"])


@pytest.mark.usefixtures("no_network")
def test_copied_images_are_hashed_once_and_not_segmented_again(
    copied: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = source_of(out, DICOM)
    for path in copied.rglob("*"):
        if path.is_file():
            os.utime(path, (1_700_000_000, 1_700_000_000))
    assert run(copied, out).already_done == 3
    after = source_of(out, DICOM)
    assert after["content"] == before["content"]
    assert after["stat"] != before["stat"]

    def refuse(_: ScanSource) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr("cardiometa.pipeline.result_file.content_sha256", refuse)
    assert run(copied, out).already_done == 3


@pytest.mark.usefixtures("no_network")
def test_a_dry_run_notes_no_new_times(copied: Path, out: Path) -> None:
    os.utime(next((copied / "ALPHA" / "P002").iterdir()))
    record = (out / NIFTI / "result.json").read_bytes()
    run(copied, out, dry_run=True)
    assert (out / NIFTI / "result.json").read_bytes() == record


def test_replaced_images_of_the_same_size_are_segmented_again(copied: Path, out: Path) -> None:
    image = sorted((copied / "ALPHA" / "P001").rglob("*.dcm"))[5]
    before = read_json(out / DICOM / "result.json")
    other_bytes(image)
    assert run(copied, out).already_done == 2
    after = read_json(out / DICOM / "result.json")
    assert after["options"] == before["options"]
    assert after["source"]["sha256"] != before["source"]["sha256"]
    assert after["run"]["source"]["content"] != before["run"]["source"]["content"]
    assert run(copied, out).already_done == 3


def test_a_failed_scan_is_tried_on_new_images_of_the_same_size(copied: Path, out: Path) -> None:
    folder = copied / "ALPHA" / "P004"
    folder.mkdir()
    bad = folder / "cine.dcm"
    bad.write_bytes(b"no image, " * 20)
    run(copied, out)
    record = out / "scans/ALPHA/P004/baseline/result.json"
    assert read_json(record)["status"] == "failed"
    assert run(copied, out).already_done == 4
    other_bytes(bad)
    assert run(copied, out).already_done == 3


# ------------------------------------------------------------------ the state itself


def test_order_size_and_time_count_and_names_do_not(tmp_path: Path) -> None:
    def state(**files: bytes) -> tuple[str, str | None]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        (folder / "below").mkdir(parents=True)
        for number, (name, data) in enumerate(files.items()):
            path = folder / name.replace("_", "/")
            path.write_bytes(data)
            os.utime(path, ns=(0, 1_000_000_000 * len(data) + number))
        source = ScanSource(kind="images", paths=(folder,))
        return source_state(source).stat_sha256, content_sha256(source)

    plain = state(a=b"ED", b=b"ES", below_c=b"!")
    assert state(x=b"ED", y=b"ES", below_z=b"!") == plain
    assert state(a=b"ED", b=b"ES", below_c=b"?") == (
        plain[0],
        state(d=b"ED", e=b"ES", below_f=b"?")[1],
    )
    swapped = state(b=b"ED", a=b"ES", below_c=b"!")
    assert swapped[0] != plain[0]
    assert swapped[1] != plain[1]


def test_files_that_are_not_there_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    (tmp_path / "one").write_bytes(b"12")
    for paths in ((tmp_path,), (tmp_path / "one", tmp_path / "absent")):
        state = source_state(ScanSource(kind="images", paths=paths))
        assert (state.files, state.size) == (1, 2)
    assert content_sha256(ScanSource(kind="images", paths=(tmp_path,))) is not None


def test_a_file_that_cannot_be_read_has_no_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").write_bytes(b"12")

    def no_reading(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("builtins.open", no_reading)
    assert content_sha256(ScanSource(kind="images", paths=(tmp_path,))) is None
