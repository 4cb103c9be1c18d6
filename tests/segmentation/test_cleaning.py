"""Cleaning of labels: what goes, what is filled, what must stay, on discs and on real hearts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.segmentation.cleaning import clean_labels
from tests.kit.labelled import disc_heart, expert_pairs

SPACING = (1.5, 1.5)


@pytest.fixture(scope="module")
def heart():
    return disc_heart(size=128)


def clean(labels, spacing=SPACING):
    before = labels.copy()
    cleaned, flags = clean_labels(labels, spacing)
    assert np.array_equal(labels, before), "the input was changed"
    assert cleaned.dtype == np.uint8
    assert cleaned.shape == labels.shape
    return cleaned, {flag.code: flag.level for flag in flags}


def dice(a, b, label):
    total = (a == label).sum() + (b == label).sum()
    return 2 * ((a == label) & (b == label)).sum() / total if total else 1.0


def test_a_good_heart_is_left_alone(heart):
    cleaned, flags = clean(heart)
    assert np.array_equal(cleaned, heart)
    assert flags == {}


def test_no_labels_stay_no_labels():
    empty = np.zeros((3, 4, 16, 16), dtype=np.uint8)
    cleaned, flags = clean(empty)
    assert not cleaned.any()
    assert flags == {}


def test_labels_that_fill_the_image_are_no_error():
    cleaned, _ = clean(np.ones((2, 3, 8, 8), dtype=np.uint8))
    assert (cleaned == 1).all()


@pytest.mark.parametrize(
    ("labels", "spacing"),
    [
        (np.zeros((3, 4, 5), dtype=np.uint8), SPACING),
        (np.zeros((1, 3, 4, 5), dtype=np.uint8), (1.5, 1.5, 10.0)),
        (np.zeros((1, 3, 4, 5), dtype=np.uint8), (0.0, 1.5)),
    ],
)
def test_what_does_not_fit_is_refused(labels, spacing):
    with pytest.raises(ValueError, match="do not fit"):
        clean_labels(labels, spacing)


@pytest.mark.parametrize("label", [1, 2, 3])
@pytest.mark.parametrize("frames", [slice(4, 5), slice(None)])
def test_islands_go_however_many_phases_have_them(heart, label, frames):
    labels = heart.copy()
    labels[frames, 3, 4:9, 110:115] = label
    labels[frames, 6, 110:115, 6:11] = label
    assert np.array_equal(clean(labels)[0], heart)


def test_a_large_thing_of_one_phase_does_not_outweigh_the_heart(heart):
    labels = heart.copy()
    stomach = np.s_[5, 1:8, 2:28, 2:124]  # larger than the LV, in one phase alone
    labels[stomach] = 1
    assert (labels[5] == 1).sum() > 3 * (heart[5] == 1).sum()
    cleaned, _ = clean(labels)
    assert np.array_equal(cleaned, heart)


def test_a_phase_with_nothing_but_a_slip_is_left_empty(heart):
    labels = heart.copy()
    labels[5] = 0
    labels[5, 2:6, 4:20, 4:20] = 1
    cleaned, _ = clean(labels)
    assert not cleaned[5].any()
    assert np.array_equal(np.delete(cleaned, 5, axis=0), np.delete(heart, 5, axis=0))


def test_pair_keeps_the_heavier_of_two(heart):
    labels = heart[[0, 8]].copy()
    labels[:, 2:6, 4:20, 4:20] = 1
    assert np.array_equal(clean(labels)[0], heart[[0, 8]])


def test_isolated_slice_goes_and_a_lost_slice_does_not_break_the_heart(heart):
    deep = np.concatenate([heart, np.zeros_like(heart[:, :4])], axis=1)
    isolated = deep.copy()
    isolated[:, 12] = deep[:, 7]  # five slices below the apex
    assert np.array_equal(clean(isolated)[0], deep)
    lost = heart.copy()
    lost[:, 4] = 0
    assert np.array_equal(clean(lost)[0], lost)


def test_papillary_muscle_is_blood_pool(heart):
    labels = heart.copy()
    centre = np.s_[:, 2:5, 64:67, 71:75]
    assert (heart[centre] == 1).all()
    for papillary in (2, 0, 3):
        labels[centre] = papillary
        assert np.array_equal(clean(labels)[0], heart)


def test_small_holes_take_their_border_and_no_other():
    labels = disc_heart(np.ones(2), size=128)
    truth = labels.copy()
    wall = np.argwhere(labels[0, 2] == 2)
    y, x = wall[np.argmin(abs(wall - [64, 52]).sum(axis=1))]  # the septum
    # Two pixels deep, so that the hole is enclosed by wall.
    around = labels[0, 2, y - 1 : y + 2, x : x + 3]
    assert (around == 2).all()
    labels[0, 2, y, x + 1] = 0
    rv = np.argwhere(labels[0, 2] == 3)
    y, x = rv[len(rv) // 2]
    assert (labels[0, 2, y - 1 : y + 2, x - 1 : x + 2] == 3).all()
    labels[0, 2, y, x] = 0
    assert np.array_equal(clean(labels)[0], truth)


def test_nothing_is_invented():
    # A ring whose cavity was not found keeps its hole: that is for a person to see.
    labels = disc_heart(np.ones(2), size=128)
    labels[0, 3][labels[0, 3] == 1] = 0
    assert np.array_equal(clean(labels)[0], labels)


def test_open_wall_beside_its_cavity_is_one_ventricle():
    labels = disc_heart(np.ones(2), size=128)
    # Inside the stack: an open slice at its end is no LV (rule 6, `test_open_ends`).
    inner = labels[:, 2]
    inner[inner == 1] = 0
    inner[:, 56:72, 66:78] = 1  # a cavity that does not touch the wall
    inner[:, :52][inner[:, :52] == 2] = 0
    assert np.array_equal(clean(labels)[0], labels)


def test_rv_far_from_the_lv_goes_and_a_second_large_part_stays():
    labels = disc_heart(np.ones(2), size=128)
    far = labels.copy()
    far[far == 3] = 0
    far[:, 2:6, 4:30, 4:30] = 3
    cleaned, flags = clean(far)
    assert not (cleaned == 3).any()
    assert flags == {"labels-cleaned-much": "review"}
    second = labels.copy()
    second[:, 2:8, 88:110, 60:84] = 3  # below the LV, within 10 mm of it
    assert np.array_equal(clean(second)[0], second)


def test_without_an_lv_the_rv_stays():
    labels = disc_heart(np.ones(2), size=128)
    labels[np.isin(labels, (1, 2))] = 0
    truth = labels.copy()
    labels[:, 3, 4:9, 4:9] = 3
    assert np.array_equal(clean(labels)[0], truth)


def test_flags_tell_how_much_went():
    labels = disc_heart(np.ones(2), size=128)
    ventricle = np.isin(labels[0], (1, 2)).sum()
    for share, expected in (
        (0.005, {}),
        (0.05, {"labels-cleaned": "info"}),
        (0.3, {"labels-cleaned-much": "review"}),
    ):
        dirty = labels.copy()
        side = round(np.sqrt(share * ventricle))
        dirty[:, 4, :side, 128 - side :] = 2
        assert clean(dirty)[1] == expected, share


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), turns=st.integers(0, 3), upside_down=st.booleans())
def test_orientation_and_a_second_pass_change_nothing(seed, turns, upside_down):
    rng = np.random.default_rng(seed)
    labels = disc_heart(size=96, slices=7)[::4].copy()
    for _ in range(30):
        t, z = rng.integers(0, 5), rng.integers(0, 7)
        y, x = rng.integers(0, 90, 2)
        labels[t, z, y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = rng.integers(0, 4)
    once = clean(labels)[0]
    turned = np.rot90(labels, turns, axes=(2, 3))[:, :: -1 if upside_down else 1]
    expected = np.rot90(once, turns, axes=(2, 3))[:, :: -1 if upside_down else 1]
    assert np.array_equal(clean(turned)[0], expected)
    assert np.array_equal(clean(once)[0], once)


# ------------------------------------------------------------------ real hearts


@pytest.mark.data
def test_expert_labels_are_all_but_untouched():
    changed = []
    for pair in expert_pairs():
        cleaned, flags = clean(pair.labels, pair.spacing_mm)
        assert flags == {}, pair.participant_id
        for label in (1, 2, 3):
            assert dice(pair.labels, cleaned, label) > 0.995, pair.participant_id
        changed.append(not np.array_equal(cleaned, pair.labels))
    assert sum(changed) <= 3


def spoiled(labels, rng):
    """Islands, holes, a papillary muscle, a slice of another structure: a network's slips."""
    frames, slices, rows, columns = labels.shape
    out = labels.copy()
    for t in range(frames):
        for _ in range(8):
            height, width = rng.integers(3, 14, 2)
            z = rng.integers(0, slices)
            y, x = rng.integers(0, rows - height), rng.integers(0, columns - width)
            out[t, z, y : y + height, x : x + width][
                labels[t, z, y : y + height, x : x + width] == 0
            ] = rng.integers(1, 4)
        inside = np.argwhere(labels[t] == 1)
        for z, y, x in inside[rng.integers(0, len(inside), 10)]:
            out[t, z, y : y + 2, x : x + 2][out[t, z, y : y + 2, x : x + 2] == 1] = 2
    return out


@pytest.mark.data
def test_spoiled_hearts_get_better_and_never_worse():
    rng = np.random.default_rng(5)
    gain = []
    for pair in expert_pairs()[::4]:
        dirty = spoiled(pair.labels, rng)
        cleaned, _ = clean(dirty, pair.spacing_mm)
        for label in (1, 2, 3):
            before, after = (dice(pair.labels, x, label) for x in (dirty, cleaned))
            assert after >= before - 0.002, pair.participant_id
            gain.append(after - before)
    assert np.mean(gain) > 0.01


@pytest.mark.data
def test_eroded_and_shifted_hearts_are_not_hurt():
    from scipy import ndimage

    for pair in expert_pairs()[::8]:
        frames = []
        for volume in pair.labels:
            thin = np.where(ndimage.binary_erosion(volume > 0, np.ones((1, 3, 3))), volume, 0)
            for z in range(len(thin)):  # another breath-hold in each slice, up to 6 mm
                thin[z] = np.roll(thin[z], (z % 3 - 1) * 4, axis=z % 2)
            frames.append(thin)
        worn = np.stack(frames).astype(np.uint8)
        cleaned, _ = clean(worn, pair.spacing_mm)
        for label in (1, 2, 3):
            assert dice(worn, cleaned, label) > 0.98, pair.participant_id


def test_islands_all_over_a_study_leave_the_heart_alone():
    # 30 phases of 12 slices at 256 x 256 with islands everywhere, so that no window helps.
    heart = np.zeros((30, 12, 256, 256), dtype=np.uint8)
    heart[:, 1:10, 60:188, 60:188] = disc_heart(np.linspace(0, 1, 30), size=128)
    rng = np.random.default_rng(0)
    labels = heart.copy()
    for t in range(30):
        for _ in range(20):
            y, x = rng.integers(0, 250, 2)
            labels[t, rng.integers(0, 12), y : y + 3, x : x + 3] = rng.integers(1, 4)
    cleaned, _ = clean_labels(labels, SPACING)
    near = np.zeros((256, 256), dtype=bool)
    near[50:198, 50:198] = True
    assert labels[..., ~near].any()
    assert not cleaned[..., ~near].any()
    for label in (1, 2, 3):
        assert dice(heart, cleaned, label) > max(0.995, dice(heart, labels, label) - 0.001), label
