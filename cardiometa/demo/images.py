"""The demo's imaged people: phantoms of known volumes, in each trial's own formats and codes."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import truth

if TYPE_CHECKING:
    from ..phantom.image import PhantomCine


PEOPLE_PER_TRIAL = 3
HEALTHY_PEOPLE = 5
SLICE_DISTANCE_MM, FRAMES = 10.0, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagedPerson:
    """One imaged participant: who, which arm, and the true volumes at each visit.

    ``visits`` maps a visit to (LV EDV mL, LV EF %, LV mass g, RV EDV mL, RV EF %).
    """

    trial: str
    participant: str
    sex: str
    ethnicity: str
    age_years: float
    height_cm: float
    weight_kg: float
    arm: str | None
    death_day: int | None
    visits: Mapping[str, tuple[float, float, float, float, float]]
    seed: int


def _visits(
    rng: np.random.Generator, effect: float | None
) -> dict[str, tuple[float, float, float, float, float]]:
    """True volumes; ``effect`` None is a healthy heart with one visit, else EF points gained."""
    if effect is None:
        edv = float(rng.uniform(130, 170))
        return {
            "baseline": (edv, float(rng.uniform(57, 66)), edv * 0.68, edv * 1.06, 55.0),
        }
    edv, ef = float(rng.uniform(170, 240)), float(rng.uniform(30, 42))
    mass, rv = float(rng.uniform(120, 160)), float(rng.uniform(140, 180))
    later = (edv * (0.97 if effect else 1.0), ef + effect + float(rng.normal(0, 1)), mass, rv, 48.0)
    return {"baseline": (edv, ef, mass, rv, 46.0), truth.FOLLOW_UP: later}


def imaged_people(seed: int = 1) -> list[ImagedPerson]:
    """Everybody with images, in order of trial; one of ALPHA died before follow-up."""
    people = []
    trials = [*((t.name, t.effect_ef_points) for t in truth.IMAGED_TRIALS), (truth.HEALTHY, None)]
    for number, (trial, effect) in enumerate(trials):
        rng = np.random.default_rng([seed, 7, number])
        count = HEALTHY_PEOPLE if effect is None else PEOPLE_PER_TRIAL
        for index in range(count):
            active = index % 2 == 1
            visits = _visits(rng, None if effect is None else effect * active)
            died = trial == "ALPHA" and index == count - 1
            if died:
                visits.pop(truth.FOLLOW_UP)
            male = bool(rng.integers(2))
            height = float(rng.normal(177 if male else 164, 6))
            people.append(
                ImagedPerson(
                    trial=trial,
                    participant=f"{trial[0]}{index + 1:03d}",
                    sex="male" if male else "female",
                    ethnicity=("white", "black", "south-asian", "chinese")[int(rng.integers(4))],
                    age_years=float(np.round(rng.uniform(45, 75), 1)),
                    height_cm=round(height, 1),
                    weight_kg=round(float(rng.normal(25.5, 2.5)) * (height / 100) ** 2, 1),
                    arm=None if effect is None else ("active" if active else "control"),
                    death_day=200 if died else None,
                    visits=visits,
                    seed=1000 * (number + 1) + index,
                )
            )
    return people


def render_visit(person: ImagedPerson, visit: str) -> PhantomCine:
    """The phantom cine of one visit: every trial has its own orientation and noise."""
    from ..phantom.image import Bssfp, CineGrid, HeartPhantom, render

    edv, ef, mass, rv_edv, rv_ef = person.visits[visit]
    number = [*(t.name for t in truth.IMAGED_TRIALS), truth.HEALTHY].index(person.trial)
    phantom = HeartPhantom(
        lv_edv_ml=edv,
        lv_ef_percent=ef,
        lv_mass_g=mass,
        rv_edv_ml=rv_edv,
        rv_ef_percent=rv_ef,
        heart_rate_bpm=62.0 + 2 * number,
        seed=person.seed,
    )
    # One slice above the base, the cavity, and one or two below the apex.
    slices = 2 + math.ceil((phantom.length_mm + 10) / SLICE_DISTANCE_MM)
    grid = CineGrid(
        slices=slices,
        slice_distance_mm=SLICE_DISTANCE_MM,
        thickness_mm=8.0,
        frames=FRAMES,
        in_plane_deg=(0.0, 35.0, -20.0, 10.0)[number],
        apex_first=number == 1,
    )
    return render(phantom, grid, Bssfp(snr=(35.0, 28.0, 22.0, 40.0)[number]))


def _dicom(cine: PhantomCine, person: ImagedPerson, visit: str) -> dict[str, bytes]:
    from ..phantom.write import PhantomHeader, dicom_files

    header = PhantomHeader(pseudonym=f"{person.trial}-pseudonym-{person.seed}", study=visit)
    return dicom_files(cine, header)


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            # A fixed date: equal demos are equal bytes.
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data)
    return buffer.getvalue()


def alpha_files(person: ImagedPerson, visit: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """DICOM, one file a frame; returns files and the scans table's image cells."""
    folder = f"{person.participant}/{visit}"
    files = _dicom(render_visit(person, visit), person, visit)
    return {f"{folder}/{name}": data for name, data in files.items()}, {"images": folder}


def beta_files(person: ImagedPerson, visit: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """A 4-D NIfTI."""
    from ..phantom.write import nifti_4d

    name = f"{person.participant}_{visit}"
    files = nifti_4d(render_visit(person, visit), name)
    return files, {"images": f"{name}.nii.gz"}


def gamma_files(person: ImagedPerson, visit: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """A zip of DICOM."""
    name = f"{person.participant}_{visit}.zip"
    return {name: _zip(_dicom(render_visit(person, visit), person, visit))}, {"images": name}


def delta_files(person: ImagedPerson, visit: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """An ED and an ES volume in NIfTI."""
    from ..phantom.write import nifti_ed_es

    files = nifti_ed_es(render_visit(person, visit), person.participant)
    stem = person.participant
    cells = {"ed_images": f"{stem}_ED.nii.gz", "es_images": f"{stem}_ES.nii.gz"}
    return files, cells


FileMaker = Callable[[ImagedPerson, str], tuple[dict[str, bytes], dict[str, str]]]
MAKERS: Mapping[str, FileMaker] = {
    "ALPHA": alpha_files,
    "BETA": beta_files,
    "GAMMA": gamma_files,
    "DELTA": delta_files,
}


def reported(person: ImagedPerson, visit: str) -> dict[str, Any]:
    """What the trial's core lab reported: the truth times its own factors."""
    factors = {t.name: (t.edv_factor, t.esv_factor) for t in truth.TRIALS}
    edv_factor, esv_factor = factors.get(person.trial, (1.0, 1.0))
    edv, ef, *_ = person.visits[visit]
    told_edv, told_esv = edv * edv_factor, edv * (1 - ef / 100) * esv_factor
    return {
        "reported_lv_edv_ml": round(told_edv, 1),
        "reported_lv_esv_ml": round(told_esv, 1),
        "reported_lv_ef_percent": round(100 * (1 - told_esv / told_edv), 2),
    }
