"""The table of measures and columns: one place for each name, unit, definition and code.

`COLUMNS` is ``measurements.csv`` in its order, from which ``measurements.json`` (the data
dictionary) is written; `MEASURES` are those of its columns that are measures of a heart, which
ranges are made of and effects are pooled over. The codes are LOINC and SNOMED CT.

Measures divided by a power of body size, named by what they are.

``lv_mass_g_per_height_1.7`` is ``lv_mass_g`` / (height in m)^1.7, ``lv_edv_ml_per_bsa_dubois`` is
``lv_edv_ml`` / (DuBois' body surface)^1. The name holds all that the number needs, so that a range
and a score made by it are of one index.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from ..records import LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY
from .indexing import FORMULAS, HEIGHT_CM, WEIGHT_KG

CellType = Literal["text", "integer", "number", "boolean"]
ColumnKind = Literal["key", "measure", "geometry", "fact", "person", "carried", "reported"]

MYOCARDIUM_G_PER_ML = 1.05
PAPILLARY = "blood-pool"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureDefinition:
    """One column: ``unit`` is empty where there is none, ``decimals`` is what a page shows.

    ``kind``: ``measure`` is a number about the heart, ``geometry`` one about the images or the
    person's size, ``fact`` what the source or the program said, ``key`` and ``person`` identify
    and describe the participant, ``carried`` and ``reported`` come from the trial's own tables.
    """

    name: str
    unit: str
    definition: str
    code: str = ""
    decimals: int | None = None
    type: CellType = "number"
    kind: ColumnKind = "measure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """One label of a mask with its SNOMED CT code."""

    label: int
    name: str
    code: str


STRUCTURES = (
    Structure(label=LV_CAVITY, name="left ventricular cavity", code="SNOMED CT 87878005"),
    Structure(label=LV_MYOCARDIUM, name="left ventricular myocardium", code="SNOMED CT 49848007"),
    Structure(label=RV_CAVITY, name="right ventricular cavity", code="SNOMED CT 53085002"),
)


def _measure(
    name: str, unit: str, decimals: int, definition: str, code: str = ""
) -> MeasureDefinition:
    return MeasureDefinition(
        name=name, unit=unit, decimals=decimals, definition=definition, code=code
    )


def _geometry(name: str, unit: str, decimals: int, definition: str) -> MeasureDefinition:
    return MeasureDefinition(
        name=name, unit=unit, decimals=decimals, definition=definition, kind="geometry"
    )


def _count(name: str, definition: str) -> MeasureDefinition:
    return MeasureDefinition(
        name=name, unit="", decimals=0, definition=definition, type="integer", kind="geometry"
    )


def _text(name: str, kind: ColumnKind, definition: str) -> MeasureDefinition:
    return MeasureDefinition(name=name, unit="", definition=definition, type="text", kind=kind)


def _indexed(name: str, of: str) -> MeasureDefinition:
    unit = "g/m2" if name.endswith("_g_m2") else "mL/m2"
    return _measure(name, unit, 1, f"{of} divided by bsa_m2")


_KEYS = (
    _text("trial", "key", "the trial's id"),
    _text("participant_id", "key", "the cohort's own (or pseudonymised) id of the participant"),
    _text("visit", "key", "the visit at which the scan was made"),
    MeasureDefinition(
        name="visit_day",
        unit="days",
        definition="days from randomisation to the scan",
        decimals=0,
        kind="key",
    ),
    _text("status", "fact", "ok; review: a person should look; failed: no measures"),
)

_VOLUMES = (
    _measure(
        "lv_edv_ml",
        "mL",
        1,
        "LV cavity volume at ED, the largest of the cycle: sum of area x slice distance",
        "LOINC 8821-1",
    ),
    _measure(
        "lv_esv_ml", "mL", 1, "LV cavity volume at ES, the smallest of the cycle", "LOINC 8823-7"
    ),
    _measure("lv_sv_ml", "mL", 1, "LV stroke volume: lv_edv_ml - lv_esv_ml"),
    _measure(
        "lv_ef_percent",
        "%",
        1,
        "LV ejection fraction: 100 x lv_sv_ml / lv_edv_ml",
        "LOINC 8811-2",
    ),
    _measure(
        "lv_mass_g",
        "g",
        1,
        "LV myocardial volume at ED x 1.05 g/mL, trabeculae not in it",
        "LOINC 18087-7",
    ),
    _measure(
        "rv_edv_ml",
        "mL",
        1,
        "RV cavity volume at the RV's own ED, its largest of the cycle",
        "LOINC 8822-9",
    ),
    _measure(
        "rv_esv_ml",
        "mL",
        1,
        "RV cavity volume at the RV's own ES, its smallest of the cycle",
        "LOINC 8824-5",
    ),
    _measure("rv_sv_ml", "mL", 1, "RV stroke volume: rv_edv_ml - rv_esv_ml"),
    _measure(
        "rv_ef_percent",
        "%",
        1,
        "RV ejection fraction: 100 x rv_sv_ml / rv_edv_ml",
        "LOINC 8818-7",
    ),
    _measure("heart_rate_bpm", "1/min", 0, "heart rate during the scan, as the source states it"),
    _measure("lv_co_l_min", "L/min", 2, "LV cardiac output: lv_sv_ml x heart_rate_bpm / 1000"),
)

_INDICES = (
    _geometry("bsa_m2", "m2", 2, "body surface area by bsa_formula"),
    _indexed("lv_edvi_ml_m2", "lv_edv_ml"),
    _indexed("lv_esvi_ml_m2", "lv_esv_ml"),
    _indexed("lv_svi_ml_m2", "lv_sv_ml"),
    _indexed("lv_massi_g_m2", "lv_mass_g"),
    _indexed("rv_edvi_ml_m2", "rv_edv_ml"),
    _indexed("rv_esvi_ml_m2", "rv_esv_ml"),
    _indexed("rv_svi_ml_m2", "rv_sv_ml"),
)

_GEOMETRY = (
    _count("ed_frame", "frame of LV end-diastole, from 0 in the source's numbering"),
    _count("es_frame", "frame of LV end-systole, from 0 in the source's numbering"),
    _count("rv_ed_frame", "frame of RV end-diastole, from 0 in the source's numbering"),
    _count("rv_es_frame", "frame of RV end-systole, from 0 in the source's numbering"),
    _count("frames", "frames (phases) of the cine; 2 of an ED/ES pair"),
    _geometry("frame_ms", "ms", 1, "time from one frame to the next"),
    _count("slices", "slices of the short-axis stack"),
    _count("lv_slices_ed", "slices with LV cavity at ED"),
    _count("lv_slices_es", "slices with LV cavity at ES"),
    _geometry("spacing_mm", "mm", 3, "root of row spacing x column spacing"),
    _geometry("slice_distance_mm", "mm", 2, "median distance between slice centres"),
    _geometry("thickness_mm", "mm", 2, "slice thickness, as the source states it"),
    _geometry("quality", "", 3, "predicted mean Dice, 0 to 1; empty for an uncalibrated model"),
)

_FACTS = (
    _text("flags", "fact", "codes of what was found, separated by ;"),
    _text("vendor", "fact", "maker of the scanner"),
    MeasureDefinition(
        name="field_strength_t", unit="T", definition="field strength", decimals=1, kind="fact"
    ),
    _text("sequence", "fact", "bssfp or gre"),
    _text("papillary", "fact", "blood-pool: papillary muscles count as cavity; or myocardium"),
    _text("bsa_formula", "fact", "formula of bsa_m2"),
    _text("model_id", "fact", "name of the segmentation model"),
    _text("model_sha256", "fact", "SHA-256 of the model's weights"),
    MeasureDefinition(
        name="seconds", unit="s", definition="time the scan took", decimals=1, kind="fact"
    ),
)

_PERSON = (
    MeasureDefinition(name="age_years", unit="years", definition="age", decimals=1, kind="person"),
    _text("sex", "person", "male, female or empty (unknown)"),
    _text(
        "ethnicity",
        "person",
        "white, black, south-asian, chinese, mixed-other, asian-unspecified or empty (unknown)",
    ),
    MeasureDefinition(
        name="height_cm", unit="cm", definition="body height", decimals=0, kind="person"
    ),
    MeasureDefinition(
        name="weight_kg", unit="kg", definition="body weight", decimals=0, kind="person"
    ),
    _text("arm", "person", "the group the participant was randomised to"),
    MeasureDefinition(
        name="randomised",
        unit="",
        definition="whether the trial was randomised",
        type="boolean",
        kind="person",
    ),
    MeasureDefinition(
        name="healthy",
        unit="",
        definition="whether the participant counts as healthy by the trial's healthy_rule",
        type="boolean",
        kind="person",
    ),
)

COLUMNS: tuple[MeasureDefinition, ...] = (
    *_KEYS,
    *_VOLUMES,
    *_INDICES,
    *_GEOMETRY,
    *_FACTS,
    *_PERSON,
)
COLUMN_NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)
MEASURES: tuple[MeasureDefinition, ...] = tuple(c for c in COLUMNS if c.kind == "measure")
SCAN_COLUMNS: tuple[MeasureDefinition, ...] = (*_VOLUMES, *_INDICES, *_GEOMETRY)


def definition(name: str) -> MeasureDefinition:
    """The definition of any column of ``measurements.csv``, the trials' own columns included.

    ``reported_lv_edv_ml`` takes unit and decimals from ``lv_edv_ml``; any other name is a carried
    column.
    """
    for column in COLUMNS:
        if column.name == name:
            return column
    if name == "reported_papillary":
        return _text(name, "reported", "papillary convention of the trial's reported values")
    if name.startswith("reported_"):
        return _reported(name)
    derived = derived_measure(name)
    if derived is not None and any(m.name == derived.of for m in MEASURES):
        unit = derived.unit(definition(derived.of).unit)
        size = f"{derived.size}^{derived.power:g}"
        return MeasureDefinition(name=name, unit=unit, definition=f"{derived.of} / {size}")
    return _text(name, "carried", "carried from the trial's own table, unchanged")


def _reported(name: str) -> MeasureDefinition:
    for column in COLUMNS:
        if name == f"reported_{column.name}":
            return MeasureDefinition(
                name=name,
                unit=column.unit,
                definition=f"{column.name} as the trial itself reported it",
                code=column.code,
                decimals=column.decimals,
                type=column.type,
                kind="reported",
            )
    return _text(name, "reported", "a value that the trial itself reported")


def data_dictionary(names: Iterable[str]) -> list[dict[str, Any]]:
    """The data dictionary of a table with these columns: plain JSON values, in order."""
    return [
        {
            "name": column.name,
            "type": column.type,
            "unit": column.unit,
            "definition": column.definition,
            "code": column.code,
            "decimals": column.decimals,
        }
        for column in map(definition, names)
    ]


_NAME = re.compile(
    r"(?P<of>[a-z][a-z0-9_]*?)_per_(?P<size>height|weight|bsa_[a-z-]+?)(?:_(?P<power>\d+(?:\.\d+)?))?"
)
_ABSOLUTE = re.compile(r".+_(ml|g)")
# In m, kg and m²; DuBois and Mosteller by their own powers of cm and kg.
_BSA: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = MappingProxyType(
    {
        "mosteller": lambda h, w: np.sqrt(h * w / 3600),
        "dubois": lambda h, w: 0.007184 * h**0.725 * w**0.425,
        "haycock": lambda h, w: 0.024265 * h**0.3964 * w**0.5378,
        "gehan-george": lambda h, w: 0.0235 * h**0.42246 * w**0.51456,
        "boyd": lambda h, w: (
            0.0003207 * h**0.3 * (1000 * w) ** (0.7285 - 0.0188 * np.log10(1000 * w))
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedMeasure:
    """``of`` / ``size``^``power``; ``size`` is ``height``, ``weight`` or ``bsa_<formula>``."""

    of: str
    size: str
    power: float

    def unit(self, unit: str) -> str:
        """``g`` to ``g/m^1.7``; a surface is in m²."""
        base = {"height": "m", "weight": "kg"}.get(self.size, "m2")
        if self.power == 1:
            return f"{unit}/{base}"
        return (
            f"{unit}/({base})^{self.power:g}" if base == "m2" else f"{unit}/{base}^{self.power:g}"
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns of body size that it needs."""
        if self.size == "height":
            return ("height_cm",)
        return ("weight_kg",) if self.size == "weight" else ("height_cm", "weight_kg")


def derived_measure(name: str) -> DerivedMeasure | None:
    """What a name asks for; None where it is no derived measure of a volume or mass."""
    found = _NAME.fullmatch(name)
    if found is None or not _ABSOLUTE.fullmatch(found["of"]):
        return None
    size, power = found["size"], float(found["power"] or 1)
    if size.startswith("bsa_") and size.removeprefix("bsa_") not in FORMULAS:
        return None
    if not 0 < power <= 5:
        return None
    return DerivedMeasure(of=found["of"], size=size, power=power)


def body_sizes(size: str, height_cm: np.ndarray, weight_kg: np.ndarray) -> np.ndarray:
    """``size`` of each person in m, kg or m²; NaN where unknown or no human's."""
    h = np.where((height_cm >= HEIGHT_CM[0]) & (height_cm <= HEIGHT_CM[1]), height_cm, math.nan)
    w = np.where((weight_kg >= WEIGHT_KG[0]) & (weight_kg <= WEIGHT_KG[1]), weight_kg, math.nan)
    if size == "height":
        return np.asarray(h / 100)
    if size == "weight":
        return np.asarray(w)
    return np.asarray(_BSA[size.removeprefix("bsa_")](h, w))


def derived_values(
    measure: DerivedMeasure, values: np.ndarray, height_cm: np.ndarray, weight_kg: np.ndarray
) -> np.ndarray:
    """``values`` ``[n]`` of the absolute measure, indexed; NaN where the size is unknown."""
    return np.asarray(values / body_sizes(measure.size, height_cm, weight_kg) ** measure.power)
