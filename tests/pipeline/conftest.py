"""One small cohort and its plain run, shared by the tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cardiometa.phantom.image import CineGrid, HeartPhantom, render
from cardiometa.phantom.write import dicom_files, nifti_4d
from cardiometa.pipeline.jobs import EngineSetup
from cardiometa.pipeline.workers import WorkerPool
from tests.kit.in_process import pictures_made_once
from tests.kit.pairs import cardiometa, pairs_cohort
from tests.kit.segmented_out import make_out
from tests.kit.small_runs import run


@pytest.fixture(scope="session", autouse=True)
def pictures() -> Iterator[None]:
    """In this process; workers draw their own."""
    with pictures_made_once():
        yield


@pytest.fixture(scope="session")
def small_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DICOM heart, a NIfTI heart, and a cine of nothing."""
    top = tmp_path_factory.mktemp("cohort")
    grid = CineGrid(slices=9, frames=8, rows=96, columns=96)
    for person, edv in (("P001", 160.0), ("P002", 200.0)):
        cine = render(HeartPhantom(lv_edv_ml=edv, lv_ef_percent=55, rv_edv_ml=edv, seed=3), grid)
        files = dicom_files(cine) if person == "P001" else nifti_4d(cine)
        for name, data in files.items():
            path = top / "ALPHA" / person / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    noise = np.random.default_rng(1).normal(100, 5, (96, 96, 9, 8)).astype(np.float32)
    nothing = top / "ALPHA" / "P003" / "cine.nii.gz"
    nothing.parent.mkdir()
    nib.save(nib.Nifti1Image(noise, np.diag([1.5, 1.5, 10.0, 1.0])), nothing)
    return top


@pytest.fixture(scope="session")
def plain_run(small_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain") / "out"
    run(small_cohort, out)
    return out


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers get a model without weights: one that opens the network stops the run."""

    def without_weights(setup: EngineSetup, _: object) -> WorkerPool:
        return WorkerPool(replace(setup, model=replace(setup.model, data=b"")))

    monkeypatch.setattr("cardiometa.pipeline.segment.engine_for", without_weights)


@pytest.fixture
def cohort(small_cohort: Path) -> Path:
    return small_cohort


@pytest.fixture
def plain(plain_run: Path) -> Path:
    return plain_run


@pytest.fixture
def out(plain_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain_run, tmp_path / "out"))


@pytest.fixture(scope="session")
def two_trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of two trials of six, one scan that fails, and its output ``seg`` of `segment`."""
    top = tmp_path_factory.mktemp("two")
    make_out(top, 6)
    return top


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scans of half a second each."""
    return pairs_cohort(tmp_path_factory.mktemp("pairs"), 4)


@pytest.fixture(scope="session")
def whole(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one machine makes of them."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = cardiometa("segment", pairs, "--out", out, "--workers", 2)
    assert done.returncode in (0, 4), done.stderr
    return out
