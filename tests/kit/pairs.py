"""A cohort whose scans take half a second each: pairs of ED and ES images."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.phantom.image import CineGrid, HeartPhantom, render
from cardiometa.phantom.write import nifti_ed_es

TABLES = (
    "participants.csv",
    "exclusions.csv",
    "segments.csv",
    "flow.json",
    "measurements.json",
    "report.html",
)


def pairs_cohort(top: Path, people: int) -> Path:
    """``ALPHA/P000 …``, two images each."""
    for number in range(people):
        heart = HeartPhantom(
            lv_edv_ml=120 + 15 * (number % 7), lv_ef_percent=55, rv_edv_ml=140, seed=number
        )
        cine = render(heart, CineGrid(slices=6, frames=8, rows=80, columns=80))
        folder = top / "ALPHA" / f"P{number:03d}"
        folder.mkdir(parents=True)
        for name, data in nifti_ed_es(cine).items():
            (folder / name).write_bytes(data)
    return top


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "cardiometa", *map(str, arguments)]


def cardiometa(
    *arguments: object, env: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """The command in this process, whose imports and fork server are there already.

    With ``env``, in a process of its own that has it.
    """
    if env is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = CliRunner().invoke(app, [str(a) for a in arguments])
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **env},
    )


def same_tables(one: Path, other: Path) -> None:
    """Byte-equal outputs but for the seconds."""
    for name in TABLES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    masks = sorted(path.relative_to(one) for path in (one / "scans").rglob("*.nii.gz"))
    assert masks == sorted(path.relative_to(other) for path in (other / "scans").rglob("*.nii.gz"))
    for name in masks:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert not list(other.rglob(".*")), "nothing hidden is left behind"
