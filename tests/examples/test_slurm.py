"""The scripts for Slurm, with a ``sbatch`` and a ``srun`` that only pass things on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.pairs import pairs_cohort

SLURM = Path(__file__).resolve().parents[2] / "examples" / "slurm"


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """An environment in which the two commands are there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "srun": 'exec "$@"',
        "sbatch": f'echo "$@" >> {tmp_path}/sbatch.log; echo 4711',
        "cardiometa": f'exec {sys.executable} -W ignore -m cardiometa "$@"',
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def bash(
    name: str, *arguments: object, env: dict[str, str], **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SLURM / name), *map(str, arguments)],
        env={**env, **more},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_array_and_its_merging(cluster: dict[str, str], tmp_path: Path) -> None:
    cohort = pairs_cohort(tmp_path / "cohort", 1)
    (cohort / "ALPHA" / "P009").mkdir()
    (cohort / "ALPHA" / "P009" / "notes.dcm").write_text("no image")
    out = tmp_path / "out"
    given = {"COHORT": str(cohort), "OUT": str(out)}
    assert bash("merge.sh", env=cluster, **given).returncode != 0, "nothing there yet"
    for task in (1, 2):
        numbers = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "2"}
        done = bash("segment_array.sh", env=cluster, SLURM_CPUS_PER_TASK="1", **given, **numbers)
        assert done.returncode == 0, done.stderr
    assert bash("merge.sh", env=cluster, **given).returncode == 0
    rows = (out / "measurements.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows[1:]] == ["P000", "P009"]
    other = bash(
        "segment_array.sh",
        env=cluster,
        **given,
        SLURM_ARRAY_TASK_ID="1",
        SLURM_ARRAY_TASK_COUNT="2",
        CARDIOMETA_OPTIONS="--bsa dubois",
    )
    assert other.returncode == 2, "a fault is a fault for Slurm too"


def test_what_is_submitted(cluster: dict[str, str], tmp_path: Path) -> None:
    cohort = pairs_cohort(tmp_path / "cohort", 1)
    done = bash("submit.sh", cohort, tmp_path / "out", 16, 4, env=cluster)
    assert done.returncode == 0, done.stderr
    array, merge = (tmp_path / "sbatch.log").read_text().splitlines()
    assert "--array=1-16%4" in array
    assert array.endswith("segment_array.sh")
    assert "--dependency=afterok:4711" in merge
    assert not (tmp_path / "out").exists(), "looking first writes nothing"
    refused = bash("submit.sh", tmp_path / "absent", tmp_path / "out", 16, env=cluster)
    assert refused.returncode != 0
    assert len((tmp_path / "sbatch.log").read_text().splitlines()) == 2
