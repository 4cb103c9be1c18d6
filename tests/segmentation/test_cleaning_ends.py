from __future__ import annotations

import numpy as np
import pytest

from cardiometa.segmentation.cleaning import (
    clean_labels,
    drop_unenclosed_end_slices,
    drop_wall_beyond_cavity,
    enclosed_share,
    wider_end,
)
from tests.kit.labelled import disc_heart


def heart(slices: int = 6, phases: int = 2) -> np.ndarray:
    y, x = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    radius = np.hypot(y - 32, x - 30)
    plane = np.zeros((64, 64), dtype=np.uint8)
    plane[(radius < 24) & (x > 40)] = 3
    plane[radius < 16] = 2
    plane[radius < 10] = 1
    return np.broadcast_to(plane, (phases, slices, 64, 64)).copy()


def test_the_share_is_the_part_of_the_border_with_wall() -> None:
    whole = heart()
    assert np.allclose(enclosed_share(whole), 1)
    half = heart()
    half[..., 32:, :][half[..., 32:, :] == 2] = 0
    assert enclosed_share(half)[0, 0] == pytest.approx(0.5, abs=0.03)
    bare = heart()
    bare[bare == 2] = 0
    assert np.allclose(enclosed_share(bare), 0)
    assert np.isnan(enclosed_share(np.zeros((1, 1, 8, 8), dtype=np.uint8))).all()


def test_open_end_slices_go_with_their_wall_and_the_rv_stays() -> None:
    labels = heart()
    open_slice = labels[1, 0]
    open_slice[:, :36][open_slice[:, :36] == 2] = 0
    cleaned, flags = drop_unenclosed_end_slices(labels)
    assert (cleaned[1, 0] == 1).sum() == (cleaned[1, 0] == 2).sum() == 0
    assert (cleaned[1, 0] == 3).sum() == (labels[1, 0] == 3).sum() > 0
    assert np.array_equal(cleaned[0], labels[0])
    assert np.array_equal(cleaned[1, 1:], labels[1, 1:])
    assert [flag.code for flag in flags] == ["open-end-slices"]
    assert "1 of 2 phases" in flags[0].sentence


def test_an_open_slice_inside_the_stack_is_left_to_the_checks() -> None:
    labels = heart()
    labels[0, 3][labels[0, 3] == 2] = 0
    cleaned, flags = drop_unenclosed_end_slices(labels)
    assert np.array_equal(cleaned, labels)
    assert flags == ()


def test_three_slices_always_stay() -> None:
    labels = heart(slices=5)
    labels[labels == 2] = 0
    cleaned, _ = drop_unenclosed_end_slices(labels)
    assert (cleaned == 1).any(axis=(2, 3)).sum(axis=1).tolist() == [3, 3]


@pytest.mark.parametrize(("open_phases", "goes"), [(4, False), (6, True)])
def test_where_the_base_hardly_moves_a_slice_enclosed_in_most_phases_stays_in_all(
    open_phases: int, goes: bool
) -> None:
    labels = heart(phases=10)
    opened = labels[:open_phases, 0]
    opened[opened == 2] = 0
    cleaned, _ = drop_unenclosed_end_slices(labels)
    assert (cleaned[0, 0] == 1).any() != goes
    assert (cleaned[-1, 0] == 1).any()


def test_slice_order_does_not_matter() -> None:
    labels = heart()
    labels[:, 0][labels[:, 0] == 2] = 0
    forward, _ = drop_unenclosed_end_slices(labels)
    backward, _ = drop_unenclosed_end_slices(labels[:, ::-1])
    assert np.array_equal(forward, backward[:, ::-1])


# ------------------------------------------------------------------ wall beyond the cavity


def beat(slices: int = 11) -> np.ndarray:
    """Ten phases, base in slice 2, apex in slice 8, two empty slices at each end."""
    deep = disc_heart(np.linspace(1, 0, 10), slices=slices)
    deep[:, 1] = deep[:, -2] = 0
    return deep


def wall(labels: np.ndarray) -> list[list[int]]:
    """The slices with myocardium, by phase."""
    return [[int(z) for z in np.flatnonzero((one == 2).any(axis=(1, 2)))] for one in labels]


def closed(labels: np.ndarray, phases: range, places: list[int]) -> np.ndarray:
    """Labels with the cavity of some slices filled with myocardium."""
    result = labels.copy()
    for phase in phases:
        for place in places:
            plane = result[phase, place]
            plane[plane == 1] = 2
    return result


@pytest.mark.parametrize("turned", [False, True])
def test_wall_beyond_base_and_apex_goes_and_the_rv_stays(turned: bool) -> None:
    heart = beat()
    spoiled = heart.copy()
    spoiled[3, 1], spoiled[5, 9] = heart[3, 2], heart[5, 8]
    spoiled[:, 9][spoiled[:, 9] == 1] = spoiled[:, 1][spoiled[:, 1] == 1] = 2
    if turned:
        heart, spoiled = heart[:, ::-1], spoiled[:, ::-1]
    cleaned, flags = drop_wall_beyond_cavity(spoiled)
    assert wall(cleaned) == wall(heart)
    assert (cleaned[3] == 3).sum() > (heart[3] == 3).sum()
    assert [(flag.code, flag.level) for flag in flags] == [("wall-beyond-cavity", "info")]
    assert "In 2 of 10 phases" in flags[0].sentence
    again, none = drop_wall_beyond_cavity(cleaned)
    assert np.array_equal(again, cleaned)
    assert none == ()


def test_an_apex_that_systole_closes_keeps_its_muscle() -> None:
    labels = closed(beat(), range(7, 10), [7, 8])
    cleaned, flags = drop_wall_beyond_cavity(labels)
    assert np.array_equal(cleaned, labels)
    assert flags == ()
    pair, flags = drop_wall_beyond_cavity(labels[[0, 9]])
    assert np.array_equal(pair, labels[[0, 9]])
    assert flags == ()


def test_a_base_without_cavity_goes_in_each_phase() -> None:
    cleaned, _ = drop_wall_beyond_cavity(closed(beat(), range(7, 10), [2]))
    assert wall(cleaned) == [[*range(2, 9)]] * 7 + [[*range(3, 9)]] * 3


def test_muscle_behind_a_gap_goes() -> None:
    labels = closed(beat(), range(9, 10), [7, 8])
    labels[9, 7] = 0
    assert wall(drop_wall_beyond_cavity(labels)[0])[9] == [*range(2, 7)]


def test_a_cavity_of_one_phase_does_not_keep_the_wall_of_the_others() -> None:
    labels = beat()
    labels[:, 9] = labels[:, 8]
    labels = closed(labels, range(1, 10), [9])
    cleaned, _ = drop_wall_beyond_cavity(labels)
    assert wall(cleaned) == [[*range(2, 10)]] + [[*range(2, 9)]] * 9


def test_slices_inside_the_heart_and_phases_without_cavity_are_left_to_the_checks() -> None:
    labels = closed(closed(beat(), range(4, 5), [5]), range(6, 7), [*range(2, 9)])
    cleaned, flags = drop_wall_beyond_cavity(labels)
    assert np.array_equal(cleaned, labels)
    assert flags == ()


def test_where_the_base_is_unknown_both_ends_may_be_the_apex() -> None:
    labels = heart(slices=6, phases=10)
    assert wider_end((labels > 0).sum(axis=(0, 2, 3))) is None
    labels = closed(labels, range(8, 10), [0, 5])
    assert np.array_equal(drop_wall_beyond_cavity(labels)[0], labels)


def test_the_mass_of_a_cleaned_heart_has_no_wall_beyond_the_cavity() -> None:
    heart = beat()
    spoiled = heart.copy()
    for place, source in ((1, 2), (9, 8)):
        spoiled[:, place][heart[:, source] == 2] = 2
    cleaned, flags = clean_labels(spoiled, (1.5, 1.5))
    assert np.array_equal(cleaned, heart)
    assert "wall-beyond-cavity" in {flag.code for flag in flags}
