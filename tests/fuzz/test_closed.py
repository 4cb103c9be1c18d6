"""Inputs that may not be read, that vanish or never end, and places that may not be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cardiometa.cohort.models import CohortOptions
from cardiometa.imaging.discovery import content_sha256, find_scan_source, sniff, source_state
from cardiometa.pipeline.options import SegmentOptions
from cardiometa.pipeline.segment import Watch, run_segment
from tests.kit.cohorts import people, roster
from tests.kit.small_runs import table
from tests.kit.tiny_dicom import Shape, files, put, read, tiny

SETPRIV = shutil.which("setpriv")
# The administrator may read all: the rights over other people's files are taken away for a test.
PREFIX = (
    [SETPRIV, "--bounding-set=-dac_override,-dac_read_search"]
    if SETPRIV and hasattr(os, "geteuid") and os.geteuid() == 0
    else []
)
needs_rights = pytest.mark.skipif(
    not hasattr(os, "geteuid") or (os.geteuid() == 0 and not PREFIX),
    reason="the administrator may read and write all",
)


@contextmanager
def closed(path: Path, mode: int = 0) -> Iterator[Path]:
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        yield path
    finally:
        path.chmod(before)


def cardiometa(*words: object) -> tuple[int, str]:
    done = subprocess.run(
        [*PREFIX, sys.executable, "-m", "cardiometa", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "fault of the program" not in done.stderr
    return done.returncode, done.stderr


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    top = tmp_path / "cohort"
    for person in ("P001", "P002"):
        put(top / "ALPHA" / person / "baseline", files(tiny(Shape(slices=4, phases=8))))
    return top


@needs_rights
def test_a_closed_folder_is_told_before_anything_is_written(cohort: Path, tmp_path: Path) -> None:
    for path in (cohort / "ALPHA" / "P002", cohort / "ALPHA"):
        with closed(path):
            code, text = cardiometa("segment", cohort, "--out", tmp_path / "out")
        assert code == 3
        assert "cannot be opened (Permission denied)" in text
        assert "P002" not in text
        assert not (tmp_path / "out").exists()


@needs_rights
def test_a_place_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    rows = tmp_path / "effects.csv"
    rows.write_text("trial,estimate,se\nA,1,0.5\nB,2,0.6\nC,1.5,0.4\n")
    for mode, name, wanted, said in (
        (0o555, "x", 1, "cannot be written: permission denied"),
        (0o000, "x", 2, "cannot be read (Permission denied)"),
    ):
        place = tmp_path / f"place{mode}"
        place.mkdir()
        with closed(place, mode):
            code, text = cardiometa("pool-trials", rows, "--out", place / name, "--quiet")
        assert (code, said in text) == (wanted, True), text
        assert not list(place.iterdir())


@needs_rights
def test_a_closed_table_of_a_cohort_is_a_problem_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(roster(people(3)))
    toml = tmp_path / "cohort.toml"
    toml.write_text('name = "x"\n[trials.A]\nparticipants = "p.csv"\nrandomised = false\n')
    with closed(tmp_path / "p.csv"):
        code, text = cardiometa("check", toml)
    assert code == 3
    assert "p.csv cannot be opened (Permission denied)" in text


def test_images_that_vanish_while_the_run_goes_on_fail_their_scan(
    cohort: Path, tmp_path: Path
) -> None:
    def gone(*_: int) -> None:
        shutil.rmtree(cohort / "ALPHA" / "P002")

    out = tmp_path / "out"
    watch = Watch(planned=gone, finished=lambda _: None)
    outcome = run_segment(cohort, out, CohortOptions(), SegmentOptions(workers=1), watch)
    assert outcome.failed == outcome.scans == 2
    rows = table(out)
    assert set(rows) == {"P001", "P002"}
    assert rows["P002"]["flags"] == "no-images"
    assert rows["P001"]["flags"] != "no-images"


def test_pipes_among_images_are_not_opened(tmp_path: Path) -> None:
    """Opening one would wait for ever, and no time limit holds while scans are looked for."""
    top = put(tmp_path / "scan", files(tiny(Shape(slices=4, phases=12))))
    os.mkfifo(top / "000-pipe")
    os.mkfifo(top / "image.dcm")
    assert sniff(top / "image.dcm") == "other"
    source = find_scan_source(top)
    assert source is not None
    assert source_state(source).files >= 48
    assert content_sha256(source)
    cine = read(top)
    assert {left.code: left.count for left in cine.source.left_out} == {"unreadable": 2}
