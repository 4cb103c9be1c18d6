"""The standard deviation of a scan's error, and the flags of what a reader should look at."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.measurement.error import (
    basal_half,
    doubt_flags,
    error_terms,
    standard_deviations,
    wall_deviations,
)
from cardiometa.measurement.measures import ERROR_OF, LATER_COLUMNS
from cardiometa.records import CineStack, ScanDoubt
from cardiometa.segmentation.model import ERROR_MEASURES, ERROR_TERMS, ErrorModel
from tests.kit.labelled import cine_of, disc_heart

ED, ES, LV, MYOCARDIUM, RV = 0, 1, 0, 1, 2
VALUES = {
    "lv_edv_ml": 150.0,
    "lv_esv_ml": 60.0,
    "lv_sv_ml": 90.0,
    "lv_ef_percent": 60.0,
    "lv_mass_g": 110.0,
    "rv_edv_ml": 160.0,
    "rv_esv_ml": 70.0,
    "rv_sv_ml": 90.0,
    "rv_ef_percent": 56.25,
    "quality": 0.9,
}


def error_model(coefficient: float = 1.0, **factors: float) -> ErrorModel:
    own = {**dict.fromkeys(ERROR_TERMS, coefficient), "scale": 1.0}
    return ErrorModel(
        measures=dict.fromkeys(ERROR_MEASURES, own),
        vendors=("Siemens",),
        elsewhere={"lv": 1.0, "rv": 1.0, **factors},
        document={},
    )


def doubt_of(slices: int = 10) -> ScanDoubt:
    """Views that agree, slices that are certain; slice 1 is the heart's most basal one."""
    inside = np.arange(slices) > 0
    return ScanDoubt(
        frames=(0, 1),
        views_ml=np.repeat([[[150.0, 105, 160]], [[60.0, 100, 70]]], 5, axis=1),
        at_stake_ml=np.full((2, slices, 3), 15.0) * inside[:, None],
        likely=np.broadcast_to(inside[:, None], (2, slices, 2)).astype(float),
        counted=np.broadcast_to(inside[:, None], (2, slices, 2)).copy(),
        from_base=np.arange(slices) - 1,
    )


def cine(vendor: str | None = "Siemens") -> CineStack:
    pair = cine_of(disc_heart(np.array([1.0, 0.0])), pair=True, vendor=vendor)
    return dataclasses.replace(
        pair, pixels=np.zeros((2, 10, 4, 4), np.float32), frame_numbers=np.array([0, 7])
    )


def sds(doubt: ScanDoubt, model: ErrorModel | None = None) -> dict[str, float]:
    return standard_deviations(error_terms(VALUES, doubt), model or error_model(), "Siemens")


def test_every_measured_volume_mass_and_ef_has_one():
    found = sds(doubt_of())
    assert set(found) == {ERROR_OF[measure] for measure in ERROR_MEASURES}
    assert set(ERROR_OF.values()) == {c.name for c in LATER_COLUMNS if c.name.endswith("_sd")}
    # Only the constant and the share of quality are left: √(1 + (0.1 · 150)²) of an EDV.
    assert found["lv_edv_ml_sd"] == pytest.approx(np.hypot(1, 15))
    assert found["lv_sv_ml_sd"] == pytest.approx(np.hypot(1, 15))
    assert found["lv_ef_percent_sd"] == pytest.approx(np.hypot(1, 10))


def test_the_errors_of_wall_and_strain_follow_from_those_of_mass_and_ef_times_the_cards_scale():
    wall = {"lv_wall_thickness_max_mm": 12.0, "lv_gcs_percent": -30.0}
    values = {"lv_mass_g": 100.0, "lv_mass_g_sd": 5.0, "lv_ef_percent": 60.0} | wall
    both = {**values, "lv_ef_percent_sd": 4.0}
    scaled = dataclasses.replace(error_model(), propagated={"lv_gcs_percent": 0.5})
    for model, strain in ((error_model(), 3.5), (scaled, 1.75)):
        wanted = {"lv_wall_thickness_max_mm_sd": 0.6, "lv_gcs_percent_sd": strain}
        assert wall_deviations(both, model) == pytest.approx(wanted)
    assert set(wall_deviations(values, scaled)) == {"lv_wall_thickness_max_mm_sd"}


def test_a_doubtful_slice_counts_by_what_it_does_to_the_measure():
    certain, doubt = doubt_of(), doubt_of()
    doubt.likely[ES, 1, LV] = 0.5
    before, after = error_terms(VALUES, certain), error_terms(VALUES, doubt)
    assert after["lv_esv_ml"]["basal"] == pytest.approx(7.5)
    assert after["lv_sv_ml"]["basal"] == pytest.approx(7.5)
    assert after["lv_ef_percent"]["basal"] == pytest.approx(100 * 7.5 / 150)
    for name in ("lv_edv_ml", "lv_mass_g", "rv_esv_ml", "rv_ef_percent"):
        assert after[name] == before[name]
    # At ED the same volume changes the EF by ESV / EDV of that.
    other = doubt_of()
    other.likely[ED, 1, 0] = 0.5
    assert error_terms(VALUES, other)["lv_ef_percent"]["basal"] == pytest.approx(
        100 * 7.5 * 60 / 150**2
    )
    assert error_terms(VALUES, other)["lv_mass_g"]["basal"] == pytest.approx(7.5 * 1.05)
    # One slice in doubt at both phases: what it does to the EF at one it partly takes back at the
    # other; to a volume it does what it does.
    both = doubt_of()
    both.likely[:, 1, 0] = 0.5
    at_ed, at_es = 100 * 7.5 * 60 / 150**2, 100 * 7.5 / 150
    terms = error_terms(VALUES, both)
    assert terms["lv_ef_percent"]["basal"] == pytest.approx(
        np.sqrt(at_ed**2 + at_es**2 - at_ed * at_es)
    )
    assert terms["lv_sv_ml"]["basal"] == pytest.approx(7.5)
    assert terms["lv_edv_ml"]["basal"] == pytest.approx(7.5)
    # The apical half has a term of its own.
    apex = doubt_of()
    apex.likely[ES, 9, 0] = 0.5
    terms = error_terms(VALUES, apex)["lv_esv_ml"]
    assert (terms["basal"], terms["apical"]) == (0, pytest.approx(7.5))


def test_the_ef_over_the_views_is_of_the_views_not_of_its_parts():
    # Views that differ in size alone: volumes differ, the EF does not.
    doubt = doubt_of()
    doubt.views_ml[:] = doubt.views_ml * np.linspace(0.9, 1.1, 5)[:, None]
    terms = error_terms(VALUES, doubt)
    assert terms["lv_edv_ml"]["views"] == pytest.approx(150 * np.linspace(0.9, 1.1, 5).std(ddof=1))
    assert terms["lv_ef_percent"]["views"] == pytest.approx(0, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.001, 0.4), min_size=5, max_size=5),
    st.floats(0, 1),
    st.sampled_from(range(1, 10)),
    st.floats(1.0, 4.0),
)
def test_sds_are_finite_and_grow_with_disagreement(spread, likely, z, factor):
    model = error_model(0.7)
    doubt = doubt_of()
    base = sds(doubt, model)
    assert all(np.isfinite(sd) and sd >= 0 for sd in base.values())
    doubt.views_ml[ES, :, LV] *= 1 + np.array(spread)
    apart = sds(doubt, model)
    doubt.views_ml[ES, :, LV] = 60 + factor * (doubt.views_ml[ES, :, LV] - 60)
    more = sds(doubt, model)
    doubt.likely[:, z] = likely
    most = sds(doubt, model)
    for name in base:
        values = [base[name], apart[name], more[name], most[name]]
        if not name.startswith("lv_ef"):  # the EF of a view is not linear in its ESV
            assert values == sorted(values) or np.allclose(np.sort(values), values)
        assert most[name] >= more[name] - 1e-12


def test_other_makers_have_the_factor_of_the_card():
    model = error_model(lv=1.5, rv=2.0)
    terms = error_terms(VALUES, doubt_of())
    home = standard_deviations(terms, model, "SIEMENS Healthineers")
    for vendor in ("GE", None):
        away = standard_deviations(terms, model, vendor)
        assert away["lv_esv_ml_sd"] == pytest.approx(1.5 * home["lv_esv_ml_sd"])
        assert away["rv_ef_percent_sd"] == pytest.approx(2.0 * home["rv_ef_percent_sd"])


def test_what_is_unknown_gives_no_sd():
    doubt = doubt_of()
    doubt.views_ml[:] = np.nan  # a network whose views give no areas
    assert standard_deviations(error_terms(VALUES, doubt), error_model(), "Siemens") == {}
    no_rv = {name: None if name.startswith("rv") else value for name, value in VALUES.items()}
    found = standard_deviations(error_terms(no_rv, doubt_of()), error_model(), None)
    assert {name[:2] for name in found} == {"lv"}
    no_score = error_terms({**VALUES, "quality": None}, doubt_of())
    assert standard_deviations(no_score, error_model(), None) == {}


def test_without_a_known_base_all_doubt_is_about_the_ends():
    doubt = dataclasses.replace(doubt_of(), from_base=None)
    assert basal_half(doubt).all()
    assert basal_half(doubt_of()).tolist() == [True] * 5 + [False] * 5


def flags_of(doubt: ScanDoubt, model: ErrorModel) -> dict[str, str]:
    found = doubt_flags(cine(), VALUES, doubt, error_terms(VALUES, doubt), model)
    return {flag.code: flag.sentence for flag in found}


def test_a_doubtful_basal_slice_is_named_with_what_it_is_worth():
    small = error_model(0.05)
    doubt = doubt_of()
    assert flags_of(doubt, small) == {}
    doubt.likely[ES, 1, 0] = 0.6
    assert flags_of(doubt, small) == {
        "basal-slice-doubtful": "Look at slice 2 of 10 (from 1) at ES (frame 7): it counts as LV "
        "and may lie above the base. LV EF would then be 10 points higher."
    }
    doubt.counted[ES, 1, 0] = False
    assert "10 points lower" in flags_of(doubt, small)["basal-slice-doubtful"]
    assert "may lie below the base" in flags_of(doubt, small)["basal-slice-doubtful"]
    # One that is worth less, one that is certain, and one at the apex are not reported.
    doubt.at_stake_ml[ES, 1, LV] = 7.0
    assert flags_of(doubt, small) == {}
    doubt.at_stake_ml[ES, 1, LV], doubt.likely[ES, 1, 0] = 15.0, 0.9
    assert flags_of(doubt, small) == {}
    apex = doubt_of()
    apex.likely[ES, 9, 0] = 0.5
    assert flags_of(apex, small) == {}


def test_an_uncertain_ef_and_rv_are_told_with_the_reason():
    doubt = doubt_of()
    doubt.views_ml[ES, :, LV] = [60, 70, 50, 75, 45]
    quiet = error_model(0.3, lv=9.0, rv=9.0)
    assert flags_of(doubt, quiet) == {}  # the factor of other makers is no reason
    found = flags_of(doubt, error_model(1.0))
    assert found == {
        "ef-uncertain": "The 95 % interval of LV EF is ± 26 points, above 10, mostly because "
        "the network is unsure of the borders."
    }
    doubt.views_ml[ED, :, RV] = [160, 60, 260, 100, 220]
    found = flags_of(doubt, error_model(1.0))
    assert found["rv-uncertain"] == (
        "The 95 % interval of RV EDV is ± 103% of it, above 30%, mostly because mirrored and "
        "shifted views of the network differ."
    )
    terms = error_terms(VALUES, doubt)
    for flag in doubt_flags(cine("GE"), VALUES, doubt, terms, error_model(1.0)):
        assert " (before the factor for scanners of other makers), above" in flag.sentence
