"""Scans on a cluster: real scheduler and workers, one lost in mid-run, refusals in words."""

from __future__ import annotations

import csv
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cardiometa.cohort.load import load_cohort
from cardiometa.errors import UsageError
from cardiometa.locking import OutputLock
from cardiometa.pipeline import dask as dask_engine
from cardiometa.pipeline.dask import DaskEngine
from cardiometa.pipeline.jobs import EngineSetup, ScanJob
from cardiometa.pipeline.options import SegmentOptions
from cardiometa.pipeline.plan import jobs_of
from cardiometa.records import ScanResult
from cardiometa.segmentation.model import load_model
from tests.kit.broken_workers import at_reading, site
from tests.kit.dask_cluster import Cluster
from tests.kit.pairs import cardiometa, command, same_tables


def reasons(out: Path) -> dict[str, str]:
    with (out / "exclusions.csv").open(newline="") as stream:
        return {r["participant_id"]: r["code"] for r in csv.DictReader(stream) if r["visit"]}


def test_a_lost_worker_costs_nothing_and_a_scan_that_kills_fails_alone(
    pairs: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    faults = {
        # Whatever this worker is given hangs there, until the worker is lost.
        "ALPHA": "os.environ.get('WHO') == 'one' and time.sleep(1000)",
        "P003": "os.environ.get('WHO') == 'two' and os.kill(os.getpid(), signal.SIGSEGV)",
    }
    broken = site(tmp_path / "site", at_reading(**faults))
    with Cluster(tmp_path) as cluster:
        for name in ("one", "two"):
            cluster.worker(name, env={**broken, "WHO": name})
        run = subprocess.Popen(
            command("segment", pairs, "--out", out, "--scheduler", cluster.address),
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            stderr=subprocess.PIPE,
            text=True,
        )
        until = time.monotonic() + 120
        while len(list(out.glob("scans/*/*/*/result.json"))) < 1 and time.monotonic() < until:
            time.sleep(0.1)
        cluster.lose("one")
        told = run.communicate(timeout=200)[1]
        assert run.returncode == 4, told
        assert "Traceback" not in told
        until = time.monotonic() + 20
        while cluster.processes("one") and time.monotonic() < until:
            time.sleep(0.1)
        assert not cluster.processes("one"), "what a lost worker started ends by itself"
        logs = cluster.logs()
    assert reasons(out) == {"P003": "worker-killed"}
    for path in (whole / "scans").rglob("segmentation.nii.gz"):
        if "P003" not in path.parts:
            name = path.relative_to(whole)
            assert (out / name).read_bytes() == path.read_bytes(), name
    for word in ("P000", "P003", "ALPHA", str(pairs)):
        assert word not in logs, "Dask's logs hold no id and no path"
    # The rest is done here: one machine and a cluster make one output.
    mended = cardiometa("segment", pairs, "--out", out)
    assert "3 already done" in mended.stderr
    same_tables(whole, out)


# ------------------------------------------------------------------ refusals


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        running.worker("plain", "--resources", "GPU=1")
        yield running


@pytest.fixture
def engine(cluster: Cluster, tmp_path: Path) -> Iterator[DaskEngine]:
    made = DaskEngine(EngineSetup(out=tmp_path / "out", model=load_model()), cluster.address)
    yield made
    made.close()


def run(engine: DaskEngine, pairs: Path, **changes: object) -> list[str]:
    jobs = jobs_of(load_cohort(pairs), SegmentOptions(), load_model().sha256, {})[:1]
    jobs = [replace(job, options={**job.options, **changes}) for job in jobs]
    with OutputLock(engine._setup.out):
        return [result.status for result in engine.run(jobs, lambda _: None)]


def test_a_result_lost_with_its_worker_is_made_again(
    cluster: Cluster, pairs: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies between the end of a scan and the fetch of its result."""
    cluster.worker("other", "--resources", "GPU=1")
    setup = EngineSetup(out=tmp_path / "out", model=load_model(), device="cpu")
    engine = DaskEngine(setup, cluster.address)
    fetch, losses = engine._result, []

    def lose_its_worker(future: Any, job: ScanJob, **how: bool) -> ScanResult | None:
        client = engine._client
        if not losses:
            client.wait_for_workers(2, timeout=120)
            [address] = client.who_has([future])[future.key]
            losses.append(client.scheduler_info()["workers"][address]["name"])
            cluster.lose(losses[0])
            while future.status == "finished":
                time.sleep(0.01)
        return fetch(future, job, **how)

    monkeypatch.setattr(engine, "_result", lose_its_worker)
    try:
        assert run(engine, pairs) == ["review"]
    finally:
        engine.close()
    assert len(losses) == 1
    [mask] = engine._setup.out.rglob("segmentation.nii.gz")
    assert mask.read_bytes() == (whole / mask.relative_to(engine._setup.out)).read_bytes()


def test_another_version_is_refused(engine: DaskEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_engine, "version", lambda: "99.9")
    with pytest.raises(UsageError, match=r"another version of cardiometa \(.*\) than .* \(99.9\)"):
        engine.warm()


def test_storage_that_is_not_shared_is_refused(
    engine: DaskEngine, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_proof", lambda: ("a file that is not there", b""))
    with pytest.raises(UsageError, match="A worker does not see the folder given with --out"):
        run(engine, pairs)


def test_images_that_are_not_the_same_there_are_refused(engine: DaskEngine, pairs: Path) -> None:
    with pytest.raises(UsageError, match="sees other images of a scan"):
        run(engine, pairs, source_bytes=1)


def test_gpu_workers_take_gpu_tasks(engine: DaskEngine, pairs: Path) -> None:
    """The worker says it has one, which is not true here: it is asked, and says so."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UsageError, match="--device cuda: this machine"):
        run(engine, pairs)


def test_a_scheduler_that_is_not_there_is_told(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_engine, "_CONNECT_S", 1)
    engine = DaskEngine(EngineSetup(out=tmp_path, model=load_model()), "tcp://127.0.0.1:9")
    with pytest.raises(UsageError, match=r"tcp://127.0.0.1:9 cannot be reached"):
        engine.warm()
    engine.close()


def test_an_address_that_cannot_be_right_is_told_at_once(tmp_path: Path) -> None:
    model = load_model()
    for address, said in (
        ("foo", "is not a valid address"),
        ("http://here:1", "is not a valid address"),
        ("tls://127.0.0.1:9", "no usable certificate is configured"),
    ):
        with pytest.raises(UsageError, match=said):
            DaskEngine(EngineSetup(out=tmp_path, model=model), address).warm()


def test_an_open_scheduler_elsewhere_is_warned_of(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_engine, "_CONNECT_S", 0.1)
    engine = DaskEngine(EngineSetup(out=tmp_path, model=load_model()), "tcp://no.invalid:8786")
    with pytest.raises(UsageError):
        engine.warm()
    assert "whoever reaches its port can run code as you" in engine.notes[0]
    here = DaskEngine(EngineSetup(out=tmp_path, model=load_model()), "127.0.0.1:9")
    with pytest.raises(UsageError):
        here.warm()
    assert not here.notes


def test_without_dask_it_is_said_what_to_install(pairs: Path, tmp_path: Path) -> None:
    done = cardiometa(
        *("segment", pairs, "--out", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9"),
        env=site(tmp_path / "site", "import sys\nsys.modules['distributed'] = None"),
    )
    assert done.returncode == 2
    assert "pip install 'cardiometa[dask]'" in done.stderr
    assert not (tmp_path / "out").exists()
