"""How long the review takes to show and measure a scan, and what it keeps in memory.

``python -m tests.bench.review_speed`` makes a cohort of five small cines and one of 25 phases of
12 slices of 256 × 256 in a temporary folder, and prints seconds and megabytes.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np

from cardiometa.cohort.load import load_cohort
from cardiometa.review.session import Session
from tests.kit.labelled import disc_heart
from tests.review.conftest import AFFINE, image, make_cohort, segment

SCANS = 1000
ROWS = 10_000


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print seconds by the clock and of one core."""
    wall, core = time.monotonic(), time.process_time()
    yield
    spent = time.monotonic() - wall, time.process_time() - core
    print(f"{what}: {spent[0]:.2f} s, {spent[1]:.2f} s of a core")


def large_cohort(folder: Path) -> Path:
    """The cohort with the cine of 001 in the size of a clinical one."""
    cohort = make_cohort(folder)
    filling = np.interp(np.arange(25) / 25, np.arange(20) / 20, np.cos(np.arange(20) / 10))
    pixels = image(1, disc_heart(filling, slices=12, size=256))
    made = nib.Nifti1Image(pixels.transpose(3, 2, 1, 0), AFFINE)
    made.header.set_xyzt_units("mm", "msec")
    nib.save(made, folder / "ALPHA" / "images" / "001.nii")
    return cohort


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        cohort = large_cohort(top / "cohort")
        segment(cohort, top / "out")
        sources = {scan.key: scan.source for scan in load_cohort(cohort).scans}
        with Session(top / "out", sources, most_bytes=8 * 1024**2) as session:
            large = next(n for n, k in enumerate(session.keys) if k.participant == "001")
            session.warm()
            with timed("open a cine of 25 phases, 12 slices of 256 × 256"):
                scan = session.scan(large)
                session.describe(large)
                session.labels(large, "reader")
            plane = np.where(scan.labels[0, 5] == 1, 2, scan.labels[0, 5]).astype(np.uint8)
            for _ in range(3):
                with timed("edit to measures"):
                    session.put_labels(large, [(0, 5)], plane.tobytes(), scan.revision)
            with timed("save the mask"):
                session.save(large, 1.0, "")
            others = [n for n in range(len(session.keys)) if n != large]
            for count in range(SCANS + 1):
                session.describe(others[count % len(others)])
                if count in (50, SCANS // 2, SCANS):
                    print(f"after {count} scans: {rss_mb():.0f} MB")
        table = top / "out" / "measurements.csv"
        header, *rows = table.read_text().splitlines()
        many = [rows[n % len(rows)].replace(f"00{n % 5 + 1}", f"{n:05}", 1) for n in range(ROWS)]
        table.write_text("\n".join([header, *many]) + "\n")
        with Session(top / "out", sources) as session, timed(f"table of {ROWS} rows"):
            print(f"{len(json.dumps(session.table())) / 1e6:.1f} MB of JSON")


if __name__ == "__main__":
    main()
