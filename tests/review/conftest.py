"""One small segmented cohort for the review: four cines and an ED/ES pair, made once."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cardiometa.cohort.load import load_cohort
from cardiometa.records import CineStack, LabelStack, ScanKey, ScanQuality, ScanSource
from cardiometa.review.session import Session
from tests.kit.cohorts import people, roster, trial_toml, write
from tests.kit.in_process import segmented_by
from tests.kit.labelled import disc_heart
from tests.kit.small_runs import run

AFFINE = np.diag([1.5, 1.5, 10.0, 1.0])
GREY = 40


def fake_segment(cine: CineStack, predictor: object, card: object, model_sha256: str) -> LabelStack:
    """A model that reads the labels back from the grey values."""
    pixels = cine.pixels.copy()
    number = int(pixels[0, 0, -1, -1])
    pixels[:, :, -1, -1] = 0
    labels = np.rint(pixels / GREY).astype(np.uint8)
    return LabelStack(
        labels=labels,
        confidence=np.full(labels.shape[:2], 0.9, dtype=np.float32),
        model_id="test-model",
        model_sha256=model_sha256,
        quality=ScanQuality(frames=(0, 1), features={}, predicted_dice=0.95 - 0.02 * number),
    )


def image(number: int, labels: np.ndarray) -> np.ndarray:
    """Grey values of labels; no two participants share an image."""
    pixels = labels.astype(np.int16) * GREY
    pixels[:, :, -1, -1] = number
    return pixels


def make_cohort(folder: Path) -> Path:
    write(folder / "ALPHA" / "participants.csv", roster(people(5)))
    lines = ["participant_id,visit,images,ed_images,es_images"]
    for number in range(1, 6):
        pixels = image(number, disc_heart(contraction=0.45 + 0.05 * number))
        (folder / "ALPHA" / "images").mkdir(exist_ok=True)
        if number == 5:
            names = ["005_ED.nii", "005_ES.nii"]
            volumes = [pixels[0], pixels[8]]
            lines.append(f"005,baseline,,{names[0]},{names[1]}")
        else:
            names, volumes = [f"{number:03}.nii"], [pixels]
            lines.append(f"{number:03},baseline,{names[0]},,")
        for name, volume in zip(names, volumes, strict=True):
            axes = (2, 1, 0) if volume.ndim == 3 else (3, 2, 1, 0)
            path = folder / "ALPHA" / "images" / name
            made = nib.Nifti1Image(volume.transpose(axes), AFFINE)
            made.header.set_xyzt_units("mm", "msec")
            if volume.ndim == 4:
                made.header["pixdim"][4] = 40.0
            nib.save(made, path)
    write(folder / "ALPHA" / "scans.csv", "\n".join(lines) + "\n")
    return write(folder / "cohort.toml", 'name = "review"\n' + trial_toml("ALPHA"))


def segment(cohort: Path, out: Path, corrections: Path | None = None, **options):
    with segmented_by(fake_segment):
        return run(cohort, out, corrections, **options)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("review-cohort"))


@pytest.fixture(scope="session")
def segmented(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("review-out") / "out"
    segment(cohort, out)
    return out


@pytest.fixture
def out(segmented: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(segmented, tmp_path / "out"))


@pytest.fixture(scope="session")
def sources(cohort: Path) -> dict[ScanKey, ScanSource]:
    return {scan.key: scan.source for scan in load_cohort(cohort).scans}


Opened = Callable[..., Session]


@pytest.fixture
def opened(out: Path, sources: dict[ScanKey, ScanSource]) -> Iterator[Opened]:
    """Sessions on ``out``, closed at the end."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda reader="AB", **more: stack.enter_context(
            Session(out, sources, reader=reader, **more)
        )


def number_of(session: Session, participant: str) -> int:
    return next(n for n, key in enumerate(session.keys) if key.participant == participant)


@dataclass(frozen=True)
class Running:
    """A server in this process."""

    session: Session
    port: int
    path: str  # with the token


@contextmanager
def serving(session: Session) -> Iterator[Running]:
    from cardiometa.review.server import Server

    server = Server(session)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        path = "/" + server.address.split("/", 3)[3]
        yield Running(session=session, port=server.port, path=path)
    finally:
        server.stop()
        thread.join(timeout=20)
        assert not thread.is_alive()
