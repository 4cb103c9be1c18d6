"""The table of measures and columns: one place for each name, unit, definition and code.

`COLUMNS` is ``measurements.csv`` in its order up to the trials' own columns, `LATER_COLUMNS` what
follows them (errors and further measures), from which ``measurements.json`` (the data
dictionary) is written; `MEASURES` are those of its columns that are measures of a heart, which
ranges are made of and effects are pooled over. The codes are LOINC and SNOMED CT.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from ..records import LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY
from .indexing import derived_measure

CellType = Literal["text", "integer", "number", "boolean"]
ColumnKind = Literal["key", "measure", "geometry", "fact", "person", "carried", "reported", "error"]

MYOCARDIUM_G_PER_ML = 1.05
PAPILLARY = "blood-pool"


@dataclass(frozen=True, slots=True)
class MeasureDefinition:
    """One column: ``unit`` is empty where there is none, ``decimals`` is what a page shows.

    ``kind``: ``measure`` is a number about the heart, ``geometry`` one about the images or the
    person's size, ``fact`` what the source or the program said, ``key`` and ``person`` identify
    and describe the participant, ``carried`` and ``reported`` come from the trial's own tables,
    ``error`` is the standard deviation of a measure's error.
    """

    name: str
    unit: str
    decimals: int | None
    definition: str
    code: str = ""
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


def _text(name: str, kind: ColumnKind, definition: str) -> MeasureDefinition:
    return MeasureDefinition(name, "", None, definition, type="text", kind=kind)


def _count(name: str, definition: str) -> MeasureDefinition:
    return MeasureDefinition(name, "", 0, definition, type="integer", kind="geometry")


_measure = MeasureDefinition
_geometry = partial(MeasureDefinition, kind="geometry")
_person = partial(MeasureDefinition, kind="person")

_KEYS = (
    _text("trial", "key", "the trial's id"),
    _text("participant_id", "key", "the cohort's own (or pseudonymised) id of the participant"),
    _text("visit", "key", "the visit at which the scan was made"),
    MeasureDefinition("visit_day", "days", 0, "days from randomisation to the scan", kind="key"),
    _text("status", "fact", "ok; review: to be reviewed by a reader; failed: no measures"),
)

# fmt: off
_VOLUMES = (
    _measure("lv_edv_ml", "mL", 1,
        "LV cavity volume at ED, the largest of the cycle: sum of area x slice distance",
        "LOINC 8821-1"),
    _measure("lv_esv_ml", "mL", 1, "LV cavity volume at ES, the smallest of the cycle",
        "LOINC 8823-7"),
    _measure("lv_sv_ml", "mL", 1, "LV stroke volume: lv_edv_ml - lv_esv_ml"),
    _measure("lv_ef_percent", "%", 1, "LV ejection fraction: 100 x lv_sv_ml / lv_edv_ml",
        "LOINC 8811-2"),
    _measure("lv_mass_g", "g", 1, "LV myocardial volume at ED x 1.05 g/mL, trabeculae not in it",
        "LOINC 18087-7"),
    _measure("rv_edv_ml", "mL", 1, "RV cavity volume at the RV's own ED, its largest of the cycle",
        "LOINC 8822-9"),
    _measure("rv_esv_ml", "mL", 1, "RV cavity volume at the RV's own ES, its smallest of the cycle",
        "LOINC 8824-5"),
    _measure("rv_sv_ml", "mL", 1, "RV stroke volume: rv_edv_ml - rv_esv_ml"),
    _measure("rv_ef_percent", "%", 1, "RV ejection fraction: 100 x rv_sv_ml / rv_edv_ml",
        "LOINC 8818-7"),
    _measure("heart_rate_bpm", "1/min", 0, "heart rate during the scan, as the source states it"),
    _measure("lv_co_l_min", "L/min", 2, "LV cardiac output: lv_sv_ml x heart_rate_bpm / 1000"),
)
# fmt: on

# Measures that are divided by body surface area: index and what it is of.
INDEX_OF = {
    "lv_edvi_ml_m2": "lv_edv_ml",
    "lv_esvi_ml_m2": "lv_esv_ml",
    "lv_svi_ml_m2": "lv_sv_ml",
    "lv_massi_g_m2": "lv_mass_g",
    "rv_edvi_ml_m2": "rv_edv_ml",
    "rv_esvi_ml_m2": "rv_esv_ml",
    "rv_svi_ml_m2": "rv_sv_ml",
}
_INDICES = (
    _geometry("bsa_m2", "m2", 2, "body surface area by bsa_formula"),
    *(
        _measure(name, "g/m2" if name.endswith("_g_m2") else "mL/m2", 1, f"{of} divided by bsa_m2")
        for name, of in INDEX_OF.items()
    ),
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
    MeasureDefinition("field_strength_t", "T", 1, "field strength", kind="fact"),
    _text("sequence", "fact", "bssfp or gre"),
    _text("papillary", "fact", "blood-pool: papillary muscles count as cavity; or myocardium"),
    _text("bsa_formula", "fact", "formula of bsa_m2"),
    _text("model_id", "fact", "name of the segmentation model"),
    _text("model_sha256", "fact", "SHA-256 of the model's weights"),
    MeasureDefinition("seconds", "s", 1, "time the scan took", kind="fact"),
)

_ETHNICITIES = "white, black, south-asian, chinese, mixed-other, asian-unspecified"
_HEALTHY = "whether the participant counts as healthy by the trial's healthy_rule"
_PERSON = (
    _person("age_years", "years", 1, "age"),
    _text("sex", "person", "male, female or empty (unknown)"),
    _text("ethnicity", "person", f"{_ETHNICITIES} or empty (unknown)"),
    _person("height_cm", "cm", 0, "body height"),
    _person("weight_kg", "kg", 0, "body weight"),
    _text("arm", "person", "the group the participant was randomised to"),
    _person("randomised", "", None, "whether the trial was randomised", type="boolean"),
    _person("healthy", "", None, _HEALTHY, type="boolean"),
)

_NEEDS_CINE = "empty below 20 phases, without their times and with prospective gating"
# fmt: off
_FILLING = (
    _measure("lv_per_edv_s", "EDV/s", 2,
        f"LV peak ejection rate, divided by lv_edv_ml; {_NEEDS_CINE}"),
    _measure("lv_pfr_edv_s", "EDV/s", 2,
        "LV peak filling rate in the first two thirds of diastole, divided by lv_edv_ml"),
    _measure("lv_time_to_pfr_ms", "ms", 0, "time from the smallest LV volume to lv_pfr_edv_s"),
    _measure("lv_dvr80_fraction", "", 3,
        "diastolic volume recovery: share of diastole until 80 % of lv_sv_ml has come back"),
)
_WALL = (
    _measure("lv_wall_thickness_max_mm", "mm", 1,
        "largest LV wall thickness at ED, of arcs of about 30 degrees; not in the last slice"),
    _measure("lv_gcs_percent", "%", 1,
        "mid-ventricular circumferential strain from the endocardial contour, ED to ES: a "
        "contour-based surrogate of feature tracking; below 0 where the contour shortens"),
)
# segments.csv: one row per scan and AHA segment.
SEGMENT_COLUMNS = (
    *_KEYS[:3],
    _count("segment", "AHA segment, 1 to 16"),
    _text("segment_name", "fact", "level and wall of the segment"),
    _measure("thickness_ed_mm", "mm", 1, "mean wall thickness at ED"),
    _measure("thickening_percent", "%", 0, "increase of the wall thickness from ED to ES"),
    _measure("radial_motion_mm", "mm", 1,
        "motion of the endocardium towards the centre of the cavity, ED to ES"),
)
# fmt: on
_MODEL_ERROR = "the model's error; empty where the model's card has no errors"
_SCATTER = (
    "the scatter of the frames about the fit that gives the value, the model's bias not in it"
)
_PROPAGATED = (
    "propagated from the errors of lv_mass_g and lv_ef_percent (empty without them), times the "
    "scale of the model's card where it has one"
)


def _errors(measures: Iterable[MeasureDefinition], meaning: str) -> tuple[MeasureDefinition, ...]:
    """The column of the standard deviation of each measure, ``meaning`` saying of what."""
    return tuple(
        replace(
            m,
            name=f"{m.name}_sd",
            definition=f"one standard deviation of {m.name} in this scan, {m.name} ± 1.96 of them "
            f"being a 95 % interval: {meaning}",
            code="",
            kind="error",
        )
        for m in measures
    )


# What follows the trials' own columns: errors of the volumes, further measures and their errors.
LATER_COLUMNS: tuple[MeasureDefinition, ...] = (
    *_errors((m for m in _VOLUMES if m.unit in ("mL", "%", "g")), _MODEL_ERROR),
    *_FILLING,
    *_WALL,
    *_errors(_FILLING, _SCATTER),
    *_errors(_WALL, _PROPAGATED),
)
# The measures that have a standard deviation, with its column.
ERROR_OF = {m.name.removesuffix("_sd"): m.name for m in LATER_COLUMNS if m.kind == "error"}
SCAN_COLUMNS: tuple[MeasureDefinition, ...] = (*_VOLUMES, *_INDICES, *_GEOMETRY)
COLUMNS: tuple[MeasureDefinition, ...] = (*_KEYS, *SCAN_COLUMNS, *_FACTS, *_PERSON)
_BY_NAME = {column.name: column for column in (*COLUMNS, *LATER_COLUMNS)}
COLUMN_NAMES: tuple[str, ...] = tuple(_BY_NAME)
MEASURES: tuple[MeasureDefinition, ...] = tuple(
    column for column in _BY_NAME.values() if column.kind == "measure"
)


def definition(name: str) -> MeasureDefinition:
    """The definition of any column of ``measurements.csv``, the trials' own columns included.

    ``reported_lv_edv_ml`` takes unit and decimals from ``lv_edv_ml``; any other name is a carried
    column.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name == "reported_papillary":
        return _text(name, "reported", "papillary convention of the trial's reported values")
    if name.startswith("reported_"):
        column = _BY_NAME.get(name.removeprefix("reported_"))
        if column is None:
            return _text(name, "reported", "a value that the trial itself reported")
        meaning = f"{column.name} as the trial itself reported it"
        return replace(column, name=name, definition=meaning, kind="reported")
    derived = derived_measure(name)
    if derived is not None and any(m.name == derived.of for m in MEASURES):
        unit = derived.unit(definition(derived.of).unit)
        size = f"{derived.size}^{derived.power:g}"
        return MeasureDefinition(name, unit, None, f"{derived.of} / {size}")
    return _text(name, "carried", "carried from the trial's own table, unchanged")


def data_dictionary(names: Iterable[str | MeasureDefinition]) -> list[dict[str, Any]]:
    """The data dictionary of a table with these columns: plain JSON values, in order."""
    fields = ("name", "type", "unit", "definition", "code", "decimals")
    columns = (definition(name) if isinstance(name, str) else name for name in names)
    return [{field: getattr(column, field) for field in fields} for column in columns]
