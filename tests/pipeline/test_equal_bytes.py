"""The same input, options and version give the same bytes, whatever the means."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.kit.reference_tables import people_frame
from tests.kit.trees import tree


def cardiometa(*arguments: object, threads: int = 1, hashing: str = "random") -> int:
    """The command in a process of its own, with so many threads and its own order of sets."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, "-m", "cardiometa", *(str(a) for a in arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            **dict.fromkeys(names, str(threads)),
            "PYTHONHASHSEED": hashing,
            "PYTHONWARNINGS": "ignore",
        },
    )
    assert done.returncode in (0, 4), done.stderr
    return done.returncode


def test_segment_whatever_workers_batch_and_threads(
    cohort: Path, plain: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    cardiometa(
        "segment", cohort, "--out", out, "--workers", 1, "--batch", 3, threads=2, hashing="2"
    )
    first, second = tree(plain), tree(out)
    assert first.keys() == second.keys()
    for name, content in first.items():
        assert content == second[name], name
    assert {"report.html", "records.json", "measurements.csv", "cardiometa.json"} <= first.keys()


def test_statistics_whatever_threads_and_order_of_sets(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    people_frame(500, 3).to_csv(table, index=False)
    more = ("--measure", "lv_edv_ml", "--bootstrap", "200")
    outs = []
    for threads in (1, 2):
        outs.append(tmp_path / str(threads))
        cardiometa(
            "reference-ranges",
            table,
            *more,
            "--out",
            outs[-1],
            threads=threads,
            hashing=str(threads),
        )
    first, second = (tree(out) for out in outs)
    assert first.keys() == second.keys()
    for name, content in first.items():
        assert content == second[name], name
