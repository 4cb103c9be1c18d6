"""The demo's cohort folder: phantoms of known volumes, in each trial's own formats and codes."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files import csv_text, write_all, write_bytes
from ..phantom.image import Bssfp, CineGrid, HeartPhantom, PhantomCine, render
from ..phantom.write import PhantomHeader, dicom_files, nifti_4d, nifti_ed_es
from . import truth

PEOPLE_PER_TRIAL = 2  # one in each arm: the statistics are shown on the large table
HEALTHY_PEOPLE = 5
SLICE_DISTANCE_MM, FRAMES = 10.0, 20
# LV EDV mL, LV EF %, LV mass g, RV EDV mL, RV EF %.
TrueVolumes = tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagedPerson:
    """One imaged participant, with the true volumes at each visit."""

    trial: str
    participant: str
    sex: str
    ethnicity: str
    age_years: float
    height_cm: float
    weight_kg: float
    arm: str | None
    death_day: int | None
    visits: Mapping[str, TrueVolumes]
    seed: int


def _visits(rng: np.random.Generator, effect: float | None) -> dict[str, TrueVolumes]:
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
    """All participants with images, in order of trial; one of ALPHA died before follow-up."""
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


def image_files(person: ImagedPerson, visit: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files of one visit in the trial's format, and the image cells of its scans table.

    ALPHA: DICOM, one file per frame; BETA: 4-D NIfTI; GAMMA: a zip of DICOM; DELTA: an ED and an ES
    volume in NIfTI.
    """
    cine, name = render_visit(person, visit), f"{person.participant}_{visit}"
    if person.trial == "BETA":
        return nifti_4d(cine, name), {"images": f"{name}.nii.gz"}
    if person.trial == truth.HEALTHY:
        stem = person.participant
        cells = {"ed_images": f"{stem}_ED.nii.gz", "es_images": f"{stem}_ES.nii.gz"}
        return nifti_ed_es(cine, stem), cells
    header = PhantomHeader(pseudonym=f"{person.trial}-pseudonym-{person.seed}", study=visit)
    files = dicom_files(cine, header)
    if person.trial == "ALPHA":
        folder = f"{person.participant}/{visit}"
        return {f"{folder}/{name}": data for name, data in files.items()}, {"images": folder}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, data in files.items():
            # A fixed date: equal demos are equal bytes.
            archive.writestr(zipfile.ZipInfo(member, (2020, 1, 1, 0, 0, 0)), data)
    return {f"{name}.zip": buffer.getvalue()}, {"images": f"{name}.zip"}


def reported(person: ImagedPerson, visit: str) -> dict[str, Any]:
    """What the trial's core lab reported: the truth times its own factors."""
    factors = {t.name: (t.edv_factor, t.esv_factor) for t in truth.TRIALS}
    edv_factor, esv_factor = factors.get(person.trial, (1.0, 1.0))
    edv, ef, *_ = person.visits[visit]
    reported_edv, reported_esv = edv * edv_factor, edv * (1 - ef / 100) * esv_factor
    return {
        "reported_lv_edv_ml": round(reported_edv, 1),
        "reported_lv_esv_ml": round(reported_esv, 1),
        "reported_lv_ef_percent": round(100 * (1 - reported_esv / reported_edv), 2),
    }


_CDISC = {
    "white": "WHITE",
    "black": "BLACK OR AFRICAN AMERICAN",
    # The US schemes do not distinguish them: they become asian-unspecified.
    "south-asian": "ASIAN",
    "chinese": "ASIAN",
}
_ONS = {"white": "British", "black": "Caribbean", "south-asian": "Indian", "chinese": "Chinese"}
_UKB = {"white": "1001", "black": "4001", "south-asian": "3001", "chinese": "5"}

COHORT_TOML = """\
# A synthetic cohort: no image and no number here is of a person.
name = "synthetic-demo"

[trials.ALPHA]
participants = "ALPHA/participants.csv"
scans = "ALPHA/scans.csv"
root = "ALPHA/images"
randomised = true
papillary = "blood-pool"
n_sought = 2
n_randomised = 2

[trials.ALPHA.columns]
participant_id = "SUBJID"
age_years = "AGE"
sex = { column = "SEX", map = { M = "male", F = "female" } }
ethnicity.column = "RACE"
ethnicity.scheme = "cdisc"
ethnicity.map.WHITE = "white"
ethnicity.map."BLACK OR AFRICAN AMERICAN" = "black"
ethnicity.map.ASIAN = "asian-unspecified"
height_cm = { column = "HT_IN", unit = "in" }
weight_kg = "WT"
arm = { column = "TRT01P", map = { Placebo = "control", "Drug 10 mg" = "active" } }
death_day = "DTHDY"

[trials.BETA]
participants = "BETA/participants.csv"
scans = "BETA/scans.csv"
root = "BETA/images"
randomised = true
papillary = "blood-pool"

[trials.BETA.columns]
participant_id = "id"
age_years = "age"
sex = { column = "sex", map = { 1 = "male", 2 = "female" } }
ethnicity.column = "ethnic_group"
ethnicity.scheme = "ons2021"
ethnicity.map.British = "white"
ethnicity.map.Caribbean = "black"
ethnicity.map.Indian = "south-asian"
ethnicity.map.Chinese = "chinese"
height_cm = "height"
weight_kg = { column = "weight_lb", unit = "lb" }
arm = { column = "group", map = { B = "control", A = "active" } }
reason_no_scan = "why_no_scan"

[trials.GAMMA]
participants = "GAMMA/participants.csv"
scans = "GAMMA/scans.csv"
root = "GAMMA/images"
randomised = true
papillary = "blood-pool"

[trials.GAMMA.columns]
participant_id = "participant"
age_years = "age"
sex = "sex"
ethnicity = "ethnicity"
height_cm = { column = "height_m", unit = "m" }
weight_kg = "weight"
arm = "arm"

[trials.DELTA]
participants = "DELTA/participants.csv"
scans = "DELTA/scans.csv"
root = "DELTA/images"
randomised = false
papillary = "blood-pool"
healthy_rule = "volunteers without cardiovascular disease (synthetic)"

[trials.DELTA.columns]
participant_id = "eid"
age_years = "age"
sex = { column = "sex", map = { 1 = "male", 0 = "female" } }
ethnicity.column = "f21000"
ethnicity.scheme = "ukb21000"
ethnicity.map = { 1001 = "white", 4001 = "black", 3001 = "south-asian", 5 = "chinese" }
height_cm = "height"
weight_kg = "weight"
healthy = { column = "healthy", map = { 1 = true, 0 = false } }

[[not_obtained]]
trial = "OMEGA"
n_participants = 210
reason = "no reply"
"""


def _participant_row(person: ImagedPerson) -> dict[str, Any]:
    """A participant in the trial's own columns, units and codes."""
    male = person.sex == "male"
    match person.trial:
        case "ALPHA":
            return {
                "SUBJID": person.participant,
                "AGE": person.age_years,
                "SEX": person.sex[0].upper(),
                "RACE": _CDISC[person.ethnicity],
                "HT_IN": round(person.height_cm / 2.54, 2),
                "WT": person.weight_kg,
                "TRT01P": "Drug 10 mg" if person.arm == "active" else "Placebo",
                "DTHDY": person.death_day,
            }
        case "BETA":
            return {
                "id": person.participant,
                "age": person.age_years,
                "sex": 1 if male else 2,
                "ethnic_group": _ONS[person.ethnicity],
                "height": person.height_cm,
                "weight_lb": round(person.weight_kg / 0.45359237, 1),
                "group": "A" if person.arm == "active" else "B",
                "why_no_scan": None,
            }
        case "GAMMA":
            return {
                "participant": person.participant,
                "age": person.age_years,
                "sex": person.sex,
                "ethnicity": person.ethnicity,
                "height_m": round(person.height_cm / 100, 3),
                "weight": person.weight_kg,
                "arm": person.arm,
            }
        case _:
            return {
                "eid": person.participant,
                "age": person.age_years,
                "sex": 1 if male else 0,
                "f21000": _UKB[person.ethnicity],
                "height": person.height_cm,
                "weight": person.weight_kg,
                "healthy": 1,
            }


# Another participant of BETA was randomised and never scanned: the flow must name the reason.
_NEVER_SCANNED = {
    "id": "B099",
    "age": 61.0,
    "sex": 2,
    "ethnic_group": "British",
    "height": 160.0,
    "weight_lb": 141.0,
    "group": "B",
    "why_no_scan": "claustrophobia",
}


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return csv_text(columns, ([row.get(name) for name in columns] for row in rows))


def write_cohort(folder: Path, seed: int = 1) -> Iterator[tuple[tuple[str, str, str], TrueVolumes]]:
    """Write the cohort below ``folder``; yields each scan's ids and true volumes when written."""
    people = imaged_people(seed)
    for trial in (*(t.name for t in truth.IMAGED_TRIALS), truth.HEALTHY):
        own = [person for person in people if person.trial == trial]
        roster = [_participant_row(person) for person in own]
        if trial == "BETA":
            roster.append(_NEVER_SCANNED)
        scans = []
        for person in own:
            for visit in person.visits:
                files, cells = image_files(person, visit)
                images = folder / trial / "images"
                for name, data in files.items():
                    write_bytes(images.joinpath(*name.split("/")), data)
                day = truth.FOLLOW_UP_DAY if visit == truth.FOLLOW_UP else 0
                key = {"participant_id": person.participant, "visit": visit, "visit_day": day}
                scans.append({**key, **cells, **reported(person, visit)})
                yield (trial, person.participant, visit), person.visits[visit]
        tables = {"participants.csv": _table(roster), "scans.csv": _table(scans)}
        write_all(folder / trial, tables)
    write_all(folder, {"cohort.toml": COHORT_TOML})
