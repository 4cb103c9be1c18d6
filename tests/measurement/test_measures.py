"""The table of columns against the contract's list, and against itself."""

import json

import pytest

from cardiometa.measurement.measures import (
    COLUMN_NAMES,
    COLUMNS,
    LATER_COLUMNS,
    MEASURES,
    SCAN_COLUMNS,
    STRUCTURES,
    data_dictionary,
    definition,
)

# Section 3 of the contract, word for word: people script against this order. The trials' own
# columns stand before the standard deviations and the further measures.
CONTRACT = """
trial, participant_id, visit, visit_day, status, lv_edv_ml, lv_esv_ml, lv_sv_ml, lv_ef_percent,
lv_mass_g, rv_edv_ml, rv_esv_ml, rv_sv_ml, rv_ef_percent, heart_rate_bpm, lv_co_l_min,
bsa_m2, lv_edvi_ml_m2, lv_esvi_ml_m2, lv_svi_ml_m2, lv_massi_g_m2, rv_edvi_ml_m2, rv_esvi_ml_m2,
rv_svi_ml_m2, ed_frame, es_frame, rv_ed_frame, rv_es_frame, frames, frame_ms, slices,
lv_slices_ed, lv_slices_es, spacing_mm, slice_distance_mm, thickness_mm, quality, flags, vendor,
field_strength_t, sequence, papillary, bsa_formula, model_id, model_sha256, seconds, age_years,
sex, ethnicity, height_cm, weight_kg, arm, randomised, healthy,
lv_edv_ml_sd, lv_esv_ml_sd, lv_sv_ml_sd, lv_ef_percent_sd, lv_mass_g_sd, rv_edv_ml_sd,
rv_esv_ml_sd, rv_sv_ml_sd, rv_ef_percent_sd,
lv_per_edv_s, lv_pfr_edv_s, lv_time_to_pfr_ms, lv_dvr80_fraction,
lv_wall_thickness_max_mm, lv_gcs_percent,
lv_per_edv_s_sd, lv_pfr_edv_s_sd, lv_time_to_pfr_ms_sd, lv_dvr80_fraction_sd,
lv_wall_thickness_max_mm_sd, lv_gcs_percent_sd
"""


def test_columns_are_the_contract_in_its_order():
    assert list(COLUMN_NAMES) == [name.strip() for name in CONTRACT.replace("\n", " ").split(",")]


@pytest.mark.parametrize("column", [*COLUMNS, *LATER_COLUMNS], ids=lambda column: column.name)
def test_unit_agrees_with_the_name(column):
    endings = {
        "_ml": "mL", "_g": "g", "_percent": "%", "_ml_m2": "mL/m2", "_g_m2": "g/m2",
        "_bpm": "1/min",
        "_l_min": "L/min", "_ms": "ms", "_mm": "mm", "_cm": "cm", "_kg": "kg", "_years": "years",
        "_edv_s": "EDV/s", "_t": "T", "bsa_m2": "m2", "_day": "days", "seconds": "s",
    }  # fmt: skip
    measure = column.name.removesuffix("_sd")
    fitting = [ending for ending in endings if measure.endswith(ending)]
    expected = endings[max(fitting, key=len)] if fitting else ""
    assert column.unit == expected
    assert column.definition
    assert (column.decimals is None) == (column.type in ("text", "boolean"))


def test_codes_are_those_of_the_design():
    codes = {column.name: column.code for column in COLUMNS if column.code}
    assert codes == {
        "lv_ef_percent": "LOINC 8811-2",
        "rv_ef_percent": "LOINC 8818-7",
        "lv_edv_ml": "LOINC 8821-1",
        "lv_esv_ml": "LOINC 8823-7",
        "rv_edv_ml": "LOINC 8822-9",
        "rv_esv_ml": "LOINC 8824-5",
        "lv_mass_g": "LOINC 18087-7",
    }
    assert [(s.label, s.code) for s in STRUCTURES] == [
        (1, "SNOMED CT 87878005"),
        (2, "SNOMED CT 49848007"),
        (3, "SNOMED CT 53085002"),
    ]


def test_measures_are_numbers_about_the_heart():
    names = {measure.name for measure in MEASURES}
    assert "lv_massi_g_m2" in names
    assert names.isdisjoint({"bsa_m2", "ed_frame", "spacing_mm", "quality", "age_years"})
    assert {measure.type for measure in MEASURES} == {"number"}
    assert [c.name for c in SCAN_COLUMNS] == list(
        COLUMN_NAMES[COLUMN_NAMES.index("lv_edv_ml") : COLUMN_NAMES.index("flags")]
    )


def test_definitions_of_the_trials_own_columns():
    reported = definition("reported_lv_edv_ml")
    assert (reported.unit, reported.decimals, reported.kind) == ("mL", 1, "reported")
    assert definition("reported_papillary").type == "text"
    assert definition("reported_ea_ratio").kind == "reported"
    assert definition("nyha_class").kind == "carried"
    assert definition("lv_edv_ml") in COLUMNS


def test_data_dictionary_is_plain_json_in_order():
    names = [*COLUMN_NAMES, "nyha_class", "reported_lv_mass_g"]
    entries = json.loads(json.dumps(data_dictionary(names)))
    assert [entry["name"] for entry in entries] == names
    assert set(entries[0]) == {"name", "type", "unit", "definition", "code", "decimals"}
