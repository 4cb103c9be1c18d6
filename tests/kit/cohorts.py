"""Small cohorts on disk: tables, images that are only there to exist, and results of scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from cardiometa.cohort.definition import parse_definition
from cardiometa.cohort.models import Cohort, CohortDefinition
from cardiometa.cohort.read_table import Wanted, read_raw
from cardiometa.errors import CohortError
from cardiometa.files import csv_text
from cardiometa.records import Flag, ScanKey, ScanResult, Status

PAIR = "participant_id,visit,ed_images,es_images"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def roster(people: Sequence[Mapping[str, object]]) -> str:
    names = list(people[0])
    return csv_text(names, [[person[name] for name in names] for person in people])


def pairs(folder: Path, visits: Sequence[tuple[str, str]]) -> str:
    """The text of a scans table, each row's ED and ES files made (empty) below ``folder``."""
    lines = [PAIR]
    for person, visit in visits:
        names = [f"{person}_{visit}_{phase}.nii.gz" for phase in ("ED", "ES")]
        for name in names:
            write(folder / name, "")
        lines.append(f"{person},{visit},{names[0]},{names[1]}")
    return "\n".join(lines) + "\n"


def people(count: int, **more: object) -> list[dict[str, object]]:
    """Adults, arms and sexes by turns."""
    return [
        {
            "participant_id": f"{number:03}",
            "age_years": 40 + number % 40,
            "sex": "MF"[number % 2],
            "height_cm": 165 + number % 20,
            "weight_kg": 70 + number % 15,
            "arm": ("control", "active")[number // 2 % 2],
            **more,
        }
        for number in range(1, count + 1)
    ]


def trial_toml(name: str, *lines: str, randomised: bool = True) -> str:
    return "\n".join(
        [
            f"[trials.{name}]",
            f'participants = "{name}/participants.csv"',
            f'scans = "{name}/scans.csv"',
            f'root = "{name}/images"',
            f"randomised = {str(randomised).lower()}",
            *lines,
            "",
        ]
    )


def cohort_folder(
    folder: Path,
    trials: Sequence[str] = ("ALPHA", "BETA"),
    count: int = 6,
    visits: Sequence[str] = ("baseline", "followup_12m"),
) -> Path:
    """A whole cohort; returns its cohort.toml."""
    text = 'name = "test cohort"\n'
    for name in trials:
        persons = people(count)
        write(folder / name / "participants.csv", roster(persons))
        keys = [(str(p["participant_id"]), visit) for p in persons for visit in visits]
        write(folder / name / "scans.csv", pairs(folder / name / "images", keys))
        text += trial_toml(name)
    return write(folder / "cohort.toml", text)


def result(key: ScanKey, status: Status = "ok", **measures: float) -> ScanResult:
    """A result as the pipeline makes it."""
    flags = {
        "ok": (),
        "review": (Flag(code="few-phases", level="review", sentence="Few phases."),),
        "failed": (Flag(code="no-images", level="reject", sentence="No image can be read."),),
    }[status]
    return ScanResult(
        key=key,
        status=status,
        measures={"lv_edv_ml": 150.25, "ed_frame": 0, "frames": 25, **measures},
        facts={"vendor": "Siemens", "field_strength_t": 1.5, "sequence": "bssfp"},
        flags=flags,
        document={
            "options": {"bsa_formula": "mosteller"},
            "model": {"id": "m1", "sha256": "ab12"},
            "run": {"seconds": 12.5},
        },
    )


def results(cohort: Cohort, statuses: Sequence[Status]) -> list[ScanResult]:
    return [result(s.key, status) for s, status in zip(cohort.scans, statuses, strict=True)]


def read_definition(path: Path) -> CohortDefinition:
    """The definition of a cohort.toml; CohortError with every problem."""
    definition, problems = parse_definition(path)
    if problems or definition is None:
        raise CohortError(f"{path.name} cannot be used.", problems=problems)
    return definition


def read_numbers(path: Path, is_number: Callable[[str], bool]) -> pd.DataFrame:
    """All columns of a table, those of which ``is_number`` is true as numbers where they can be."""

    def choose(header: Sequence[str]) -> Wanted:
        return Wanted(columns=header, numbers=[name for name in header if is_number(name)])

    return read_raw(path, None, choose).rows
