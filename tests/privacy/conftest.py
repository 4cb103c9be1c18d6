"""A cohort stuffed with one person's identity, and each command run once over it."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension, Nifti1Image

from cardiometa.phantom.image import CineGrid, HeartPhantom, PhantomCine, render
from cardiometa.phantom.write import PhantomHeader, encode, frame_dataset
from cardiometa.records import CineStack, LabelStack
from tests.kit.cohorts import people, roster, trial_toml, write
from tests.kit.command_runs import Bench
from tests.kit.dialects import label_stack
from tests.kit.identities import SECRETS, stuff
from tests.kit.in_process import segmented_by

# Folders of images are named after the person, as archives write them.
PERSON_FOLDER = f"{SECRETS['folder']}_{SECRETS['surname']}_{SECRETS['given']}_{SECRETS['birth']}"
PEOPLE = 10
TRIALS = ("ALPHA", "BETA")


@pytest.fixture(scope="session")
def phantom() -> PhantomCine:
    grid = CineGrid(slices=7, frames=12, rows=48, columns=48, row_spacing_mm=3, column_spacing_mm=3)
    return render(HeartPhantom(lv_edv_ml=150, lv_ef_percent=55, rv_edv_ml=150, seed=3), grid)


@pytest.fixture(autouse=True)
def known_labels(phantom: PhantomCine) -> Iterator[None]:
    """The network's place is taken by the phantom's known labels: what is tested is what leaves."""

    known: dict[bytes, np.ndarray] = {}
    draw = np.random.default_rng(5)

    def segment(cine: CineStack, predictor: object, card: object, model_sha256: str) -> LabelStack:
        which = cine.affine.tobytes() + cine.pixels[0].tobytes()
        if which not in known:
            known[which] = label_stack(phantom, cine.pixels)
        labels = known[which].copy()
        # Another heart each time: some myocardium is cavity, more of it in some than in others.
        thin = draw.random(labels.shape) < draw.uniform(0, 0.25)
        labels[(labels == 2) & thin] = 1
        return LabelStack(
            labels=labels,
            confidence=np.full(labels.shape[:2], 0.9, dtype=np.float32),
            model_id="test-model",
            model_sha256=model_sha256,
        )

    with segmented_by(segment):
        yield


def stuffed_dicom(phantom: PhantomCine, folder: Path) -> None:
    """A cine as files named after the person, every header full of them."""
    header, number = PhantomHeader(pseudonym="x"), 0
    for z in range(phantom.grid.slices):
        for t in range(phantom.grid.frames):
            dataset = frame_dataset(phantom, header, z, t)
            stuff(dataset, number)
            place = folder / f"{SECRETS['series_text']}" / f"{SECRETS['surname']}.{number:04d}.dcm"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(encode(dataset))
            number += 1


def stuffed_nifti(phantom: PhantomCine, path: Path) -> None:
    """A cine as NIfTI with the person in every text field, an extension and the gzip header."""
    image = Nifti1Image(phantom.pixels.astype(np.int16).T, phantom.grid.affine_ras)
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 100.0
    image.header["descrip"] = SECRETS["surname"].encode()
    image.header["db_name"] = SECRETS["given"].encode()
    image.header["aux_file"] = SECRETS["patient_id"].encode()
    image.header["intent_name"] = SECRETS["physician"].encode()
    note = f"{SECRETS['note']} {SECRETS['surname']} {SECRETS['birth']}"
    image.header.extensions.append(Nifti1Extension("comment", note.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("wb") as raw,
        gzip.GzipFile(
            filename=f"{SECRETS['surname']}.nii", fileobj=raw, mode="wb", compresslevel=1
        ) as stream,
    ):
        stream.write(image.to_bytes())


def bad_images(folder: Path) -> Iterator[str]:
    """Images that cannot be read, each full of the person; gives the paths relative to it."""
    name = f"{SECRETS['surname']}_{SECRETS['birth']}"
    person = f"{SECRETS['surname']}^{SECRETS['given']}".encode()
    for kind, data in (
        ("letter.txt", f"Dear {SECRETS['surname']}, born {SECRETS['birth']}".encode()),
        ("cut.dcm", b"\0" * 128 + b"DICM" + person * 9),
        ("cut.nii.gz", gzip.compress(SECRETS["surname"].encode() * 200)[:60]),
        ("broken.zip", b"PK\x03\x04" + SECRETS["surname"].encode() * 30),
        ("notes.nii", b"\x5c\x01\0\0" + SECRETS["note"].encode() * 90),
    ):
        place = folder / f"{name}_{kind}" / f"{SECRETS['given']}_{kind}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        yield str(place.parent.relative_to(folder))


@pytest.fixture(scope="session")
def stuffed(phantom: PhantomCine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort.toml: two trials; images under names, tables with columns that must be dropped."""
    top = tmp_path_factory.mktemp("site")
    stuffed_dicom(phantom, top / "pool" / PERSON_FOLDER)
    stuffed_nifti(phantom, top / "pool" / f"{PERSON_FOLDER}.nii.gz")
    bad = list(bad_images(top / "pool"))
    text = 'name = "privacy"\n'
    for trial in TRIALS:
        rows = people(PEOPLE)
        for number, row in enumerate(rows):
            row |= {
                "nyha_class": "I" if number % 2 else "II",
                "full_name": f"{SECRETS['surname']}, {SECRETS['given']}",
                "birth_date": "1952-02-29",
                "hospital_number": SECRETS["patient_id"],
                "remark": f"seen by {SECRETS['physician']} at {SECRETS['institution']}",
            }
        write(top / trial / "participants.csv", roster(rows))
        lines = [["participant_id", "visit", "images", "reported_lv_edv_ml", "seen_by"]]
        for number, row in enumerate(rows):
            if trial == "ALPHA" and number < len(bad):
                images = bad[number]
            else:
                images = PERSON_FOLDER if number % 8 == 0 else f"{PERSON_FOLDER}.nii.gz"
            for visit in ("baseline", "followup_12m"):
                own = top / "links" / trial / f"{row['participant_id']}-{visit}-{images}"
                own.parent.mkdir(parents=True, exist_ok=True)
                own.symlink_to(top / "pool" / images)
                lines.append(
                    [row["participant_id"], visit, own.name, "150.5", SECRETS["physician"]]
                )
        with (top / trial / "scans.csv").open("w", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(lines)
        more = ['papillary = "blood-pool"', 'carry = ["nyha_class"]']
        text += trial_toml(trial, *more).replace(
            f'root = "{trial}/images"', f'root = "links/{trial}"'
        )
    return write(top / "cohort.toml", text)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(top=tmp_path)
