"""ED and ES from curves with known extremes, spikes, gaps and open ends."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cardiometa.measurement.phases import find_extremes
from tests.kit.labelled import BEAT


def curve(edv=150.0, esv=60.0, frames=20, noise=0.0, seed=0):
    at = np.linspace(0, len(BEAT), frames, endpoint=False)
    shape = np.interp(at, np.arange(len(BEAT) + 1), np.append(BEAT, BEAT[0]))
    jitter = np.random.default_rng(seed).normal(0, noise, frames)
    return esv + (edv - esv) * shape + jitter


@pytest.mark.parametrize("frames", [8, 12, 15, 20, 25, 30, 50])
def test_clean_curves_give_their_extremes_and_no_spike(frames):
    volumes = curve(frames=frames)
    found = find_extremes(volumes, cyclic=True)
    assert found.largest == np.argmax(volumes)
    assert found.smallest == np.argmin(volumes)
    assert found.spikes == ()
    assert found.missing == ()


@pytest.mark.parametrize("frame", range(20))
@pytest.mark.parametrize("size", [-60.0, 60.0])
def test_a_single_spike_anywhere_is_never_chosen(frame, size):
    volumes = curve()
    volumes[frame] += size
    found = find_extremes(volumes, cyclic=True)
    assert frame in (*found.spikes, *found.missing)
    assert frame not in (found.largest, found.smallest)
    true = curve()
    assert abs(true[found.largest] - 150) <= 0.05 * 90
    assert abs(true[found.smallest] - 60) <= 0.07 * 90
    # No volume that is told may be the spike's.
    assert abs(volumes[found.largest] - 150) <= 0.05 * 90
    assert abs(volumes[found.smallest] - 60) <= 0.07 * 90


def test_spike_at_ed_is_bridged_over_the_ends_of_the_cycle():
    volumes = curve()
    volumes[0] = 40
    found = find_extremes(volumes, cyclic=True)
    assert found.spikes == (0,)
    assert found.largest in (1, 19)
    assert found.smallest == 8


def test_smoothing_shifts_no_lopsided_extreme():
    # 1-2-1 alone would take frame 3: the chosen frame must be the least of the neighbourhood.
    volumes = np.array([100, 80, 50, 40.5, 40, 40.9, 41, 42, 44, 47, 55, 66, 77, 86, 95, 99.0])
    assert find_extremes(volumes, cyclic=True).smallest == 4


def test_open_ends_do_not_wrap():
    # A prospective series stops in diastasis: its last frame is no neighbour of its first.
    volumes = curve()[:17]
    found = find_extremes(volumes, cyclic=False)
    assert (found.largest, found.smallest) == (0, 8)
    assert found.spikes == ()


def test_spike_in_the_first_frame_of_an_open_series():
    volumes = curve()[:17]
    volumes[0] = 220
    found = find_extremes(volumes, cyclic=False)
    assert found.spikes == (0,)
    assert found.largest == 1


@pytest.mark.parametrize("gap", [0.0, np.nan])
def test_missing_frames_are_left_out_and_told(gap):
    volumes = curve()
    volumes[[3, 8]] = gap
    found = find_extremes(volumes, cyclic=True)
    assert found.missing == (3, 8)
    assert found.largest == 0
    assert found.smallest == 9


def test_nothing_to_find():
    assert find_extremes(np.zeros(20), cyclic=True) is None
    assert find_extremes(np.full(3, np.nan), cyclic=False) is None


def test_one_frame_is_both():
    found = find_extremes(np.array([120.0]), cyclic=False)
    assert (found.largest, found.smallest) == (0, 0)


def test_constant_curve_has_no_cycle():
    found = find_extremes(np.full(20, 100.0), cyclic=True)
    assert found.largest == found.smallest
    assert found.roughness == 0


@pytest.mark.parametrize("frames", [12, 15, 20, 30, 50])
def test_roughness_tells_noise_from_a_heart(frames):
    smooth = find_extremes(curve(frames=frames), cyclic=True).roughness
    rough = find_extremes(curve(noise=20), cyclic=True).roughness
    assert smooth < 0.08
    assert rough > 0.12


@settings(max_examples=60, deadline=None)
@given(
    shift=st.integers(0, 29),
    seed=st.integers(0, 10_000),
    noise=st.floats(0.1, 8),
    scale=st.floats(0.1, 10),
)
def test_rotation_and_scale_change_nothing_but_the_frame_numbers(shift, seed, noise, scale):
    volumes = curve(frames=30, noise=noise, seed=seed)
    assume(volumes.min() > 0)
    here = find_extremes(volumes, cyclic=True)
    there = find_extremes(np.roll(volumes, shift) * scale, cyclic=True)
    assert there.largest == (here.largest + shift) % 30
    assert there.smallest == (here.smallest + shift) % 30
    assert np.isclose(there.roughness, here.roughness)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), noise=st.floats(0, 4))
def test_noise_moves_the_volumes_by_noise_only(seed, noise):
    volumes = curve(frames=25, noise=noise, seed=seed)
    found = find_extremes(volumes, cyclic=True)
    assert abs(volumes[found.largest] - 150) <= 5 * noise + 1
    assert abs(volumes[found.smallest] - 60) <= 5 * noise + 1
