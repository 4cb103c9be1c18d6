"""Small runs of ``segment``: how to make them, and what they left."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np

from cardiometa.cohort.models import CohortOptions
from cardiometa.pipeline.options import SegmentOptions
from cardiometa.pipeline.segment import SegmentOutcome, Watch, run_segment

QUIET = Watch(planned=lambda *_: None, finished=lambda _: None)
MASK = "segmentation.nii.gz"


def run(cohort: Path, out: Path, corrections: Path | None = None, **options) -> SegmentOutcome:
    return run_segment(
        cohort, out, CohortOptions(), SegmentOptions(corrections=corrections, **options), QUIET
    )


def save(labels: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    """Labels ``[t, z, y, x]`` as a viewer would save them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels.transpose(3, 2, 1, 0), affine), path)
    return path


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    return np.asarray(image.dataobj).transpose(3, 2, 1, 0).astype(np.uint8), image.affine


def scan(out: Path, person: str) -> Path:
    return out / "scans" / "ALPHA" / person / "baseline"


def record(out: Path, person: str) -> dict:
    return json.loads((scan(out, person) / "result.json").read_text())


def correction(out: Path, person: str) -> Path:
    return scan(out, person) / "correction"


def corrected_record(out: Path, person: str) -> dict:
    return json.loads((correction(out, person) / "result.json").read_text())


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "measurements.csv").open(newline="") as stream:
        return {
            row["participant_id"]: {k: v for k, v in row.items() if k != "seconds"}
            for row in csv.DictReader(stream)
        }


def contents(out: Path) -> dict[str, bytes | dict]:
    """Every file of the scans; records without what may differ between equal runs."""

    def stable(value):
        if isinstance(value, dict):
            return {k: stable(v) for k, v in value.items() if k != "run"}
        return [stable(v) for v in value] if isinstance(value, list) else value

    return {
        str(path.relative_to(out)): (
            stable(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()
        )
        for path in sorted((out / "scans").rglob("*"))
        if path.is_file()
    }
