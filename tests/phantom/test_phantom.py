import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.errors import InputError
from cardiometa.phantom.heart import filled_fraction
from cardiometa.phantom.image import (
    TISSUES,
    Bssfp,
    CineGrid,
    HeartPhantom,
    add_noise,
    bssfp_signal,
    render,
)
from tests.kit.dialects import volumes_ml


def measured(cine):
    grid = cine.grid
    weights = np.full(grid.slices, grid.slice_distance_mm)
    return volumes_ml(cine.labels, grid.row_spacing_mm * grid.column_spacing_mm, weights)


# Fine sampling of space is the truth's independent witness: the closed form owes it nothing.
FINE = CineGrid(
    rows=128,
    columns=128,
    row_spacing_mm=1.6,
    column_spacing_mm=1.6,
    slices=66,
    slices_above_base=1,
    slice_distance_mm=2.0,
    thickness_mm=2.0,
    frames=2,
    shift_mm=(-20.0, 0.0),
)
QUIET = Bssfp(snr=0, bias=0)


@pytest.mark.parametrize(
    "heart",
    [
        HeartPhantom(seed=1, base_descent_mm=11.3, rv_base_descent_mm=17.9),
        HeartPhantom(lv_edv_ml=320, lv_ef_percent=18, lv_mass_g=190, rv_ef_percent=25, seed=2),
        HeartPhantom(lv_edv_ml=85, lv_ef_percent=76, lv_mass_g=240, rv_edv_ml=90, seed=3),
        HeartPhantom(lv_mass_g=60, rv_edv_ml=280, lv_length_mm=75, seed=4),
    ],
    ids=["unaligned", "dilated", "hypertrophic", "large-rv"],
)
def test_closed_form_is_what_fine_sampling_measures(heart):
    cine = render(heart, FINE, QUIET)
    lv, muscle, rv = measured(cine)
    # A base that cuts a slice is rounded to whole slices: half a slice of the largest area.
    areas = [1.6**2 / 1000 * (cine.labels == k).sum(axis=(2, 3)).max() for k in (1, 2, 3)]
    assert np.abs(lv - cine.truth.lv_ml).max() < areas[0] + 0.5
    assert np.abs(muscle * 1.05 - heart.lv_mass_g).max() < areas[1] + 1.0
    assert np.abs(rv - cine.truth.rv_ml).max() < areas[2] + 0.5
    # At end diastole the base lies between slices and nothing is rounded.
    assert lv[0] == pytest.approx(cine.truth.lv_edv_ml, rel=0.004)
    assert muscle[0] * 1.05 == pytest.approx(heart.lv_mass_g, rel=0.02)
    assert rv[0] == pytest.approx(cine.truth.rv_edv_ml, rel=0.006)


@settings(max_examples=4, deadline=None)
@given(
    edv=st.floats(80, 260),
    ef=st.floats(15, 75),
    mass=st.floats(70, 220),
    rv=st.floats(90, 240),
    turn=st.floats(0, 360),
    seed=st.integers(0, 10_000),
)
def test_any_heart_is_measured_within_three_percent(edv, ef, mass, rv, turn, seed):
    heart = HeartPhantom(
        lv_edv_ml=edv, lv_ef_percent=ef, lv_mass_g=mass, rv_edv_ml=rv, rv_ef_percent=45, seed=seed
    )
    # Slices from the base on, half as far apart as the base descends: no rounding at the base.
    grid = CineGrid(
        rows=128,
        columns=128,
        row_spacing_mm=1.8,
        column_spacing_mm=1.8,
        slices=25,
        slice_distance_mm=5.0,
        thickness_mm=5.0,
        frames=3,
        in_plane_deg=turn,
    )
    cine = render(heart, grid, QUIET)
    lv, muscle, right = measured(cine)
    truth = cine.truth
    assert lv[truth.ed_frame] == pytest.approx(truth.lv_edv_ml, rel=0.03)
    assert lv[truth.es_frame] == pytest.approx(truth.lv_esv_ml, rel=0.03)
    assert right[truth.ed_frame] == pytest.approx(truth.rv_edv_ml, rel=0.03)
    assert right[truth.es_frame] == pytest.approx(truth.rv_esv_ml, rel=0.03)
    assert muscle[truth.ed_frame] * 1.05 == pytest.approx(mass, rel=0.03)


def test_sampled_extremes_are_the_numbers_asked_for():
    heart = HeartPhantom(lv_edv_ml=187, lv_ef_percent=41, rv_edv_ml=173, rv_ef_percent=52)
    for frames in (3, 12, 20, 25, 30):
        truth = render(heart, CineGrid(rows=8, columns=8, slices=1, frames=frames)).truth
        assert truth.lv_edv_ml == pytest.approx(187)
        assert truth.lv_ef_percent == pytest.approx(41)
        assert truth.rv_edv_ml == pytest.approx(173)
        assert truth.rv_ef_percent == pytest.approx(52)
        assert truth.ed_frame == 0
        assert truth.es_frame == max(1, round(0.36 * frames))


def test_volume_curve_empties_once_and_fills_in_two_waves():
    phase = np.linspace(0, 1, 501)
    filled = filled_fraction(phase, 0.36)
    assert filled[0] == 1.0
    assert filled[-1] == pytest.approx(1.0)
    assert filled.min() == pytest.approx(0.0)
    rate = np.gradient(filled, phase)
    assert (rate[phase < 0.35] <= 1e-9).all()
    assert (rate[phase > 0.37] >= -1e-9).all()
    early, pause, late = (
        rate[(phase > a) & (phase < b)] for a, b in ((0.38, 0.6), (0.68, 0.82), (0.86, 1))
    )
    assert early.max() > late.max() > 3 * pause.max()  # E wave, A wave, diastasis between


def test_muscle_mass_is_kept_over_the_beat():
    cine = render(HeartPhantom(seed=8), dataclasses.replace(FINE, frames=5), QUIET)
    muscle = measured(cine)[1]
    assert np.ptp(muscle) / muscle.mean() < 0.025


def test_papillary_muscles_are_dark_and_labelled_cavity():
    grid = CineGrid(row_spacing_mm=1.3, column_spacing_mm=1.3, frames=3)
    heart = {"seed": 3, "trabeculation": 0.0}
    with_them = render(HeartPhantom(papillary_g=8, **heart), grid, QUIET)
    without = render(HeartPhantom(papillary_g=0, **heart), grid, QUIET)
    assert (with_them.labels == without.labels).all()
    cavity = with_them.labels[0] == 1
    dark = cavity & (with_them.pixels[0] < 0.6 * without.pixels[0])
    grams = dark.sum() * 1.3**2 * 10 / 1000 * 1.05
    assert 4 < grams < 12


def test_partial_volume_blurs_the_apex_with_slice_thickness():
    heart = HeartPhantom(seed=5, trabeculation=0, papillary_g=0)

    def mixed(thickness):
        grid = CineGrid(thickness_mm=thickness, slice_distance_mm=10, slices=10, frames=3)
        cine = render(heart, grid, QUIET)
        pixels, labels = cine.pixels[0].astype(float), cine.labels[0]
        blood, muscle = (np.median(pixels[4][labels[4] == k]) for k in (1, 2))
        share = (pixels[8] - muscle) / (blood - muscle)
        inside = (labels[8] == 1) | (labels[8] == 2)
        return ((share > 0.25) & (share < 0.75) & inside).sum()

    assert mixed(10.0) > 1.5 * mixed(1.0) > 0


def test_contrast_is_that_of_a_bssfp_cine():
    cine = render(HeartPhantom(seed=2), CineGrid(), Bssfp(bias=0))
    pixels, labels = cine.pixels[0].astype(float), cine.labels[0]
    blood, muscle, right = (np.median(pixels[labels == k]) for k in (1, 2, 3))
    assert 2.0 < blood / muscle < 3.5
    assert 0.75 < right / blood < 1.1
    # Lung is the dark surrounding of the heart, air the corners.
    assert np.quantile(pixels[:, :50, 50:90], 0.3) < 0.4 * muscle


# ------------------------------------------------------------------ signal


def bloch_steady_state(t1, t2, sequence):
    """Pulse by pulse: rotation about x with alternating sign, relaxation, until nothing changes."""
    alpha, tr = math.radians(sequence.flip_deg), sequence.tr_ms
    m = np.array([0.0, 0.0, 1.0])
    for pulse in range(6000):
        a = alpha * (-1) ** pulse
        turn = np.array([[1, 0, 0], [0, math.cos(a), math.sin(a)], [0, -math.sin(a), math.cos(a)]])
        m = turn @ m
        echo = abs(m[1]) * math.exp(-tr / 2 / t2)
        m = m * np.exp(-tr / np.array([t2, t2, t1])) + [0, 0, 1 - math.exp(-tr / t1)]
    return echo


@pytest.mark.parametrize("tissue", ["blood", "myocardium", "fat", "liver"])
@pytest.mark.parametrize("flip", [30, 55, 75])
def test_signal_formula_is_the_steady_state_of_the_bloch_equations(tissue, flip):
    t1, t2, _ = TISSUES[tissue]
    sequence = Bssfp(tr_ms=3.2, flip_deg=flip)
    assert bssfp_signal(t1, t2, 1.0, sequence) == pytest.approx(
        bloch_steady_state(t1, t2, sequence), rel=1e-6
    )


def test_noise_is_rician():
    signal = np.zeros((400, 400), np.float32)
    air = add_noise(signal, 20.0, seed=1)
    assert air.mean() == pytest.approx(0.05 * math.sqrt(math.pi / 2), rel=0.01)  # Rayleigh
    tissue = add_noise(signal + 1, 20.0, seed=1)
    assert tissue.std() == pytest.approx(0.05, rel=0.02)
    assert (add_noise(signal, 0, seed=1) == 0).all()


# ------------------------------------------------------------------ the rest of the promise


def test_same_arguments_same_pixels_and_seeds_differ():
    grid = CineGrid(rows=48, columns=48, row_spacing_mm=5, column_spacing_mm=5, slices=4, frames=3)
    first, again, other = (render(HeartPhantom(seed=s), grid) for s in (4, 4, 5))
    assert (first.pixels == again.pixels).all()
    assert (first.labels == again.labels).all()
    assert (first.labels != other.labels).any()
    assert (first.pixels != other.pixels).mean() > 0.5


def test_a_heart_that_cannot_be_is_refused_with_every_reason():
    with pytest.raises(InputError) as caught:
        HeartPhantom(lv_edv_ml=20, lv_ef_percent=95, heart_rate_bpm=65, seed=-1)
    assert "lv_edv_ml is 20" in str(caught.value)
    assert "lv_ef_percent is 95" in str(caught.value)
    assert "seed is -1" in str(caught.value)
    assert "heart_rate" not in str(caught.value)
