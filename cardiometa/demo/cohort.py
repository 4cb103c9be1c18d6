"""The demo's cohort folder: images, each trial's own tables and codes, and ``cohort.toml``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import csv_text, write_all, write_bytes
from . import truth
from .images import MAKERS, ImagedPerson, imaged_people, reported

_CDISC = {
    "white": "WHITE",
    "black": "BLACK OR AFRICAN AMERICAN",
    # The US schemes cannot tell them apart: they become asian-unspecified.
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
n_sought = 3
n_randomised = 3

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


def _alpha(person: ImagedPerson) -> dict[str, Any]:
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


def _beta(person: ImagedPerson) -> dict[str, Any]:
    return {
        "id": person.participant,
        "age": person.age_years,
        "sex": 1 if person.sex == "male" else 2,
        "ethnic_group": _ONS[person.ethnicity],
        "height": person.height_cm,
        "weight_lb": round(person.weight_kg / 0.45359237, 1),
        "group": "A" if person.arm == "active" else "B",
        "why_no_scan": None,
    }


def _gamma(person: ImagedPerson) -> dict[str, Any]:
    return {
        "participant": person.participant,
        "age": person.age_years,
        "sex": person.sex,
        "ethnicity": person.ethnicity,
        "height_m": round(person.height_cm / 100, 3),
        "weight": person.weight_kg,
        "arm": person.arm,
    }


def _delta(person: ImagedPerson) -> dict[str, Any]:
    return {
        "eid": person.participant,
        "age": person.age_years,
        "sex": 1 if person.sex == "male" else 0,
        "f21000": _UKB[person.ethnicity],
        "height": person.height_cm,
        "weight": person.weight_kg,
        "healthy": 1,
    }


_ROSTERS: Mapping[str, Callable[[ImagedPerson], dict[str, Any]]] = {
    "ALPHA": _alpha,
    "BETA": _beta,
    "GAMMA": _gamma,
    "DELTA": _delta,
}
# A fifth participant of BETA was randomised and never scanned: the account must name why.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueScan:
    """What one demo scan truly holds."""

    trial: str
    participant: str
    visit: str
    lv_edv_ml: float
    lv_ef_percent: float
    lv_mass_g: float


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return csv_text(columns, ([row.get(name) for name in columns] for row in rows))


def write_cohort(folder: Path, seed: int = 1) -> Iterator[TrueScan]:
    """Write the cohort below ``folder``, scan by scan; yields each scan's truth when written."""
    people = imaged_people(seed)
    for trial, maker in MAKERS.items():
        own = [person for person in people if person.trial == trial]
        roster = [_ROSTERS[trial](person) for person in own]
        if trial == "BETA":
            roster.append(_NEVER_SCANNED)
        scans = []
        for person in own:
            for visit in person.visits:
                files, cells = maker(person, visit)
                images = folder / trial / "images"
                for name, data in files.items():
                    write_bytes(images.joinpath(*name.split("/")), data)
                day = truth.FOLLOW_UP_DAY if visit == truth.FOLLOW_UP else 0
                key = {"participant_id": person.participant, "visit": visit, "visit_day": day}
                scans.append({**key, **cells, **reported(person, visit)})
                edv, ef, mass, *_ = person.visits[visit]
                yield TrueScan(
                    trial=trial,
                    participant=person.participant,
                    visit=visit,
                    lv_edv_ml=edv,
                    lv_ef_percent=ef,
                    lv_mass_g=mass,
                )
        tables = {"participants.csv": _table(roster), "scans.csv": _table(scans)}
        write_all(folder / trial, tables)
    write_all(folder, {"cohort.toml": COHORT_TOML})
