"""What may be wrong with the labels of ED and ES, on drawn hearts whose doubts are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cardiometa.records import CineStack, ScanDoubt
from cardiometa.segmentation.doubt import scan_doubt
from tests.kit.labelled import cine_of, disc_heart

PAIR = np.array([1.0, 0.0])
GRID_MM = 1.5  # that of the drawn hearts too: a pixel is a pixel


def drawn() -> tuple[CineStack, np.ndarray]:
    """A pair of nine slices of 10 mm, the heart in 1 to 7, its base in 1."""
    labels = disc_heart(PAIR)
    return cine_of(labels, pair=True), labels


def doubt(
    network: np.ndarray,
    measured: np.ndarray,
    *,
    presence: np.ndarray | None = None,
    cine: CineStack | None = None,
) -> ScanDoubt:
    """Five views that give the measured areas, and a network that is sure of what it drew."""
    counts = np.stack([(measured == label).sum(axis=(2, 3)) for label in (1, 2, 3)], axis=2)
    if presence is None:
        own = np.stack([(network == label).sum(axis=(2, 3)) for label in (1, 3)], axis=2)
        presence = np.stack([(own > 0).astype(float), own], axis=3)
    views = np.repeat(counts[..., None], 5, axis=3).astype(np.float32)
    cine = cine or cine_of(network, pair=True)
    return scan_doubt(cine, (0, 1), (network, measured), (views, presence), GRID_MM)


def pixels(labels: np.ndarray, frame: int, z: int, label: int = 1) -> float:
    return float((labels[frame, z] == label).sum()) * 0.0225  # mL of 1.5 x 1.5 x 10 mm


def test_of_sure_labels_only_the_base_is_in_doubt() -> None:
    cine, labels = drawn()
    found = doubt(labels, labels, cine=cine)
    assert found.from_base is not None
    assert found.from_base.tolist() == list(range(-1, 8))
    inside = (np.arange(9) > 0) & (np.arange(9) < 8)
    assert np.array_equal(found.counted[:, :, 0], np.stack([inside] * 2))
    assert found.likely[:, 1, 0] == pytest.approx(0.95)  # of wall as thick as the next one's
    assert (found.likely[:, 2:8] == 1).all()
    # The slice beyond, which nothing was seen in, would have as much as the last one.
    assert found.likely[:, 0, 0] == pytest.approx(0.05)
    assert found.at_stake_ml[0, 0, 0] == pytest.approx(pixels(labels, 0, 1))
    assert found.at_stake_ml[1, 1, 1] == pytest.approx(pixels(labels, 1, 1, 2))
    curve = [sum(pixels(labels, frame, z) for z in range(9)) for frame in (0, 1)]
    assert found.views_ml[:, :, 0] == pytest.approx(np.repeat(np.array(curve)[:, None], 5, axis=1))


def thinner(labels: np.ndarray, frame: int, z: int, share: float) -> np.ndarray:
    """The wall of one slice at about a share of its thickness, from its inner side."""
    result = labels.copy()
    cavity, wall = (np.count_nonzero(labels[frame, z] == k) for k in (1, 2))
    inner = np.sqrt(cavity / np.pi)
    outer = np.sqrt((cavity + wall) / np.pi)
    centre = np.argwhere(labels[frame, z] == 1).mean(axis=0)
    y, x = np.mgrid[: labels.shape[2], : labels.shape[3]]
    far = np.hypot(y - centre[0], x - centre[1]) > inner + share * (outer - inner)
    result[frame, z][(labels[frame, z] == 2) & far] = 0
    return result


@pytest.mark.parametrize(
    ("share", "low", "high"), [(0.45, 0.0, 0.25), (0.7, 0.3, 0.7), (0.9, 0.75, 0.95)]
)
def test_a_thin_wall_makes_the_basal_slice_doubtful(share: float, low: float, high: float) -> None:
    _, labels = drawn()
    thin = thinner(labels, 1, 1, share)
    found = doubt(thin, thin)
    assert low <= found.likely[1, 1, 0] <= high
    assert found.likely[0, 1, 0] == pytest.approx(0.95)


def test_a_slice_that_the_rule_removed_keeps_its_volume_and_half_a_chance() -> None:
    _, labels = drawn()
    kept = labels.copy()
    kept[1, 1] = np.where(np.isin(labels[1, 1], (1, 2)), 0, labels[1, 1])
    found = doubt(labels, kept)
    assert not found.counted[1, 1, 0]
    assert found.likely[1, 1, 0] == pytest.approx(0.5)
    assert found.at_stake_ml[1, 1, 0] == pytest.approx(pixels(labels, 1, 1))
    assert found.likely[1, 2, 0] == pytest.approx(0.95)  # now the last one


def test_a_wall_at_the_end_of_the_stack_cannot_be_judged() -> None:
    _, labels = drawn()
    ends = thinner(labels, 1, 1, 0.5)[:, 1:]
    assert doubt(ends, ends).likely[1, 0, 0] == pytest.approx(0.95)


def test_a_slice_with_lv_and_no_rv_next_to_one_with_rv_may_have_lost_it() -> None:
    _, labels = drawn()
    lost = labels.copy()
    lost[:, 1][lost[:, 1] == 3] = 0
    found = doubt(lost, lost)
    assert found.likely[:, 1, 1] == pytest.approx([0.3, 0.1])  # ED, ES
    assert found.at_stake_ml[0, 1, 2] == pytest.approx(pixels(labels, 0, 2, 3))
    # Beyond the LV no RV is missed.
    assert doubt(labels, labels).likely[:, 0, 1] == pytest.approx([0.05, 0.05])


def test_the_networks_own_doubt_counts_where_it_drew_nothing() -> None:
    _, labels = drawn()
    presence = np.zeros((2, 9, 2, 2))
    presence[:, 1:8] = 1.0
    presence[1, 0, 0] = 0.4, 100.0
    found = doubt(labels, labels, presence=presence)
    assert found.likely[1, 0, 0] == pytest.approx(0.4)
    # Beyond the apex it would have no more than the last slice, and further away nothing.
    presence[1, 8, 0] = 0.4, 10.0
    assert doubt(labels, labels, presence=presence).at_stake_ml[1, 8, 0] == pytest.approx(0.225)
    presence[1, 8, 0] = 0.4, 4000.0
    found = doubt(labels, labels, presence=presence)
    assert found.at_stake_ml[1, 8, 0] == pytest.approx(pixels(labels, 1, 7))
    short = labels.copy()
    short[:, 7] = 0
    assert doubt(short, short, presence=presence).likely[1, 8, 0] == 0


def test_without_a_base_only_the_network_doubts() -> None:
    _, labels = drawn()
    same = labels.copy()
    same[:, 1:8] = labels[:, 4:5]  # as wide at both ends
    found = doubt(same, same)
    assert found.from_base is None
    assert set(np.unique(found.likely)) == {0.0, 1.0}


def test_a_stack_in_the_other_direction_has_the_same_doubt() -> None:
    _, labels = drawn()
    thin = thinner(labels, 1, 1, 0.7)
    one, other = doubt(thin, thin), doubt(thin[:, ::-1], thin[:, ::-1])
    for field in dataclasses.fields(ScanDoubt):
        if field.name not in ("frames", "views_ml", "from_base"):
            a, b = getattr(one, field.name), getattr(other, field.name)
            assert np.allclose(a, b[:, ::-1]), field.name


def test_a_heart_that_is_nowhere_is_no_error() -> None:
    nothing = np.zeros((2, 5, 32, 32), dtype=np.uint8)
    found = doubt(nothing, nothing)
    assert not found.views_ml.any()
    assert found.from_base is None
