"""Worker processes: what hangs or crashes fails alone, a stop leaves nobody behind, same bytes."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cardiometa.cohort.load import load_cohort
from cardiometa.pipeline.jobs import EngineSetup
from cardiometa.pipeline.options import SegmentOptions
from cardiometa.pipeline.plan import jobs_of
from cardiometa.pipeline.workers import WorkerPool, exit_description, processes_for
from cardiometa.segmentation.model import load_model
from tests.kit.broken_workers import at_reading, site
from tests.kit.pairs import cardiometa, command, same_tables
from tests.kit.processes import none_left, of_session


def reasons(out: Path) -> dict[str, tuple[str, str]]:
    with (out / "exclusions.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["stage"] == "scan"]
    return {row["participant_id"]: (row["code"], row["sentence"]) for row in rows}


def test_what_hangs_or_crashes_fails_alone_and_is_tried_again(
    pairs: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    faults = at_reading(P001="time.sleep(1000)", P003="os.kill(os.getpid(), signal.SIGSEGV)")
    done = cardiometa(
        *("segment", pairs, "--out", out, "--timeout", 10, "--workers", 2),
        env=site(tmp_path / "site", faults),
    )
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    found = reasons(out)
    assert set(found) == {"P001", "P003"}
    assert found["P001"] == (
        "timeout",
        "Not finished within 10 s (--timeout), so it was ended.",
    )
    assert found["P003"][0] == "worker-killed"
    assert "crashed twice on this scan (signal SIGSEGV)" in found["P003"][1]
    for path in (whole / "scans").rglob("segmentation.nii.gz"):
        if path.parts[-3] not in found:
            name = path.relative_to(whole)
            assert (out / name).read_bytes() == path.read_bytes(), name
    # With no more time the hanging scan stays failed; the other is tried and is whole again.
    again = cardiometa("segment", pairs, "--out", out, "--timeout", 10)
    assert again.returncode == 4
    assert "3 already done" in again.stderr
    assert set(reasons(out)) == {"P001"}
    more = cardiometa("segment", pairs, "--out", out, "--timeout", 0)
    assert "3 already done" in more.stderr
    same_tables(whole, out)


def test_a_process_that_dies_once_costs_nothing(pairs: Path, whole: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    once = f"(not os.path.exists({str(mark)!r}) and (open({str(mark)!r}, 'x'), os._exit(9)))"
    done = cardiometa(
        *("segment", pairs, "--out", tmp_path / "out", "--workers", 1),
        env=site(tmp_path / "site", at_reading(P002=once)),
    )
    assert mark.exists()
    assert done.returncode in (0, 4), done.stderr
    same_tables(whole, tmp_path / "out")


def test_a_stopped_run_leaves_nobody_behind(pairs: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    environment = {**os.environ, **site(tmp_path / "site", at_reading(P003="time.sleep(1000)"))}
    run = subprocess.Popen(
        command("segment", pairs, "--out", out, "--quiet"),
        env=environment,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while len(list(out.glob("scans/*/*/*/result.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.1)
        assert run.poll() is None, run.communicate()[1]
    assert len(of_session(run.pid)) >= 3, "the command, who forks, a worker"
    second = cardiometa("segment", pairs, "--out", out)
    assert second.returncode == 2
    assert "Another run is writing to the folder" in second.stderr
    assert "`segment`, running" in cardiometa("show", out).stdout
    run.send_signal(signal.SIGTERM)
    told = run.communicate(timeout=60)[1]
    assert run.returncode == 130, told
    assert "Traceback" not in told
    assert not list(out.glob(".cardiometa.*"))
    assert "`segment`, interrupted" in cardiometa("show", out).stdout
    assert none_left(run.pid)


def test_where_nothing_is_forked_the_bytes_are_the_same(
    pairs: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nor does a file in the user's folder stand for a library.
    (tmp_path / "numpy.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    cohort, model = load_cohort(pairs), load_model()
    jobs = jobs_of(cohort, SegmentOptions(), model.sha256, {})[:2]
    pool = WorkerPool(EngineSetup(out=tmp_path, model=model, workers=2), "spawn")
    try:
        seen = []
        results = pool.run(jobs, seen.append)
    finally:
        pool.close()
    assert sorted(r.key for r in results) == [job.key for job in jobs]
    assert seen == results
    for path in (tmp_path / "scans").rglob("segmentation.nii.gz"):
        name = path.relative_to(tmp_path)
        assert path.read_bytes() == (whole / name).read_bytes(), name


def test_a_device_that_is_not_there_is_told_before_any_scan(pairs: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = cardiometa("segment", pairs, "--out", tmp_path / "out", "--device", "cuda")
    assert done.returncode == 2
    assert "--device cuda" in done.stderr
    assert not (tmp_path / "out" / "scans").exists()


def test_cores_are_shared_out() -> None:
    assert processes_for(8, 3) == (3, 2)
    assert processes_for(2, 1) == (1, 2)
    assert processes_for(4, 100) == (4, 1)


def test_exits_are_described_in_words() -> None:
    assert exit_description(-9) == "signal SIGKILL"
    assert exit_description(3) == "exit code 3"
    assert exit_description(None) == "no exit code"
