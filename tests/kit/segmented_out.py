"""An output of ``segment`` with known labels: the command itself, with a model that is told them.

Images hold the reader's labels as grey values; the "model" reads them back, moved by one pixel, and
in the trial BETA without the most apical slice of every structure.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Image

from cardiometa.records import CineStack, LabelStack
from tests.kit.cohorts import people, roster, trial_toml, write
from tests.kit.in_process import segmented_by

AFFINE = np.diag([2.0, 2.0, 10.0, 1.0])
SIZE, SLICES = 64, 6
TRIALS = ("ALPHA", "BETA")
PEOPLE = 12
# ALPHA: 001 has no labels; BETA: 002 is no image at all.
UNLABELLED, BROKEN = ("ALPHA", "001"), ("BETA", "002")
_APEX = 200  # grey value of the first voxel in BETA's images


def heart(number: int, share: float) -> np.ndarray:
    """Labels ``[z, y, x]``: a disc in a ring with an RV beside it, another size each number."""
    y, x = np.mgrid[:SIZE, :SIZE]
    labels = np.zeros((SLICES, SIZE, SIZE), dtype=np.uint8)
    radius = 10 + 5 * ((number * 7) % 12) / 12
    for z in range(SLICES):
        inner = radius * (1 - 0.08 * z) * np.sqrt(share)
        lv, rv = np.hypot(y - 32, x - 40), np.hypot(y - 32, x - 22)
        labels[z][rv < inner * 1.1] = 3
        labels[z][lv < np.sqrt(inner**2 + 120)] = 2
        labels[z][lv < inner] = 1
    return labels


def shares(number: int, visit: str) -> tuple[float, float]:
    """Areas of the cavity at ED and ES as a share of the largest."""
    smaller = 0.04 * (number % 3 - 1) if visit == "rescan" else 0.0
    return 1.0 - abs(smaller), 0.3 + 0.04 * (number % 10) + smaller


def model_labels(pixels: np.ndarray) -> np.ndarray:
    """What the "model" makes of images ``[t, z, y, x]``."""
    beta = pixels[0, 0, 0, 0] == _APEX
    values = pixels.copy()
    values[:, 0, 0, 0] = 0
    labels = np.roll(np.rint(values / 40).astype(np.uint8), 1, axis=3)
    if beta:
        labels[:, -1] = 0
    return labels


def image(labels: np.ndarray, trial: str, number: int) -> np.ndarray:
    """The image of a participant's heart ``[z, y, x]``; no two participants share one."""
    pixels = labels.astype(np.int16) * 40
    pixels[0, 0, 0] = _APEX if trial == "BETA" else 0
    pixels[:, -1, -2:] = TRIALS.index(trial) + 1, number
    return pixels


def save(path: Path, volume: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(Nifti1Image(volume.transpose(2, 1, 0), affine).to_bytes())


def fake_segment(cine: CineStack, predictor: object, card: object, model_sha256: str) -> LabelStack:
    labels = model_labels(cine.pixels)
    return LabelStack(
        labels=labels,
        confidence=np.full(labels.shape[:2], 0.9, dtype=np.float32),
        model_id="test-model",
        model_sha256=model_sha256,
    )


def visits_of(trial: str) -> tuple[str, ...]:
    return ("baseline",) if trial == "ALPHA" else ("baseline", "rescan")


def write_cohort(folder: Path, count: int = PEOPLE) -> tuple[Path, Path]:
    """A cohort.toml and a folder of labels ``trial/participant/visit/*_gt.nii`` in our order."""
    text = 'name = "evaluation cohort"\n'
    for trial in TRIALS:
        persons = people(count)
        for number, person in enumerate(persons):
            person["ethnicity"] = ("white", "black")[number % 4 == 0]
        write(folder / trial / "participants.csv", roster(persons))
        names = ("lv_edv_ml", "lv_esv_ml", "lv_ef_percent")
        lines = [
            "participant_id,visit,ed_images,es_images," + ",".join(f"reported_{n}" for n in names)
        ]
        for number in range(1, count + 1):
            lines += [_scan(folder, trial, number, visit) for visit in visits_of(trial)]
        write(folder / trial / "scans.csv", "\n".join(lines) + "\n")
        papillary = "myocardium" if trial == "BETA" else "blood-pool"
        text += trial_toml(trial, f'papillary = "{papillary}"')
    return write(folder / "cohort.toml", text), folder / "labels"


def _scan(folder: Path, trial: str, number: int, visit: str) -> str:
    """Images and labels of one scan; returns its line of the table."""
    person = f"{number:03}"
    cells, volumes = [person, visit], []
    for phase, share in zip(("ED", "ES"), shares(number, visit), strict=True):
        labels = heart(number, share)
        name = f"{person}_{visit}_{phase}.nii"
        target = folder / trial / "images" / name
        if (trial, person) == BROKEN:
            write(target, "no image")
        else:
            save(target, image(labels, trial, number))
        if (trial, person) != UNLABELLED:
            save(folder / "labels" / trial / person / visit / f"{person}_{phase}_gt.nii", labels)
        volumes.append(float((labels == 1).sum()) * 0.04)
        cells.append(name)
    ed, es = volumes
    # ALPHA's own readers draw 5 mL more at ED; nobody of 003 was read.
    ed += 5 if trial == "ALPHA" else 0
    reported = ["", "", ""] if person == "003" else [ed, es, 100 * (ed - es) / ed]
    return ",".join([*cells, *(str(v) for v in reported)])


def make_out(folder: Path, count: int = PEOPLE) -> tuple[Path, Path, Path]:
    """OUT of ``segment``, its cohort.toml and the folder of labels; ``count`` people a trial."""
    from typer.testing import CliRunner

    from cardiometa.cli.main import app

    cohort, labels = write_cohort(folder, count)
    with segmented_by(fake_segment):
        done = CliRunner().invoke(
            app,
            ["segment", str(cohort), "--out", str(folder / "seg"), "--workers", "1", "--quiet"],
        )
    assert done.exit_code in (0, 4), done.output
    return folder / "seg", cohort, labels
