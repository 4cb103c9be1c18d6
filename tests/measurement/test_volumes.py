"""Volumes counted by hand."""

import numpy as np
import pytest

from cardiometa.measurement.volumes import (
    basal_end,
    basal_slice_sensitivity,
    ejection_fraction_percent,
    mass_g,
    structure_areas,
)
from tests.kit.labelled import disc_heart


def counted(labels, spacing=(1.0, 1.0), weights=None):
    weights = np.full(labels.shape[1], 10.0) if weights is None else np.asarray(weights)
    return structure_areas(labels, spacing, weights)


def test_volume_is_area_times_the_weight_of_each_slice():
    labels = np.zeros((1, 3, 4, 4), dtype=np.uint8)
    labels[0, 0, :2, :2] = 1  # 4 pixels
    labels[0, 1, :1, :3] = 1  # 3 pixels
    labels[0, 1, 2, :] = 2  # 4 pixels
    labels[0, 2, 3, :2] = 3  # 2 pixels
    areas = counted(labels, (1.5, 2.0), [8.0, 12.0, 10.0])
    assert areas.volume_ml("lv")[0] == pytest.approx((4 * 8 + 3 * 12) * 3 / 1000)
    assert areas.volume_ml("myocardium")[0] == pytest.approx(4 * 12 * 3 / 1000)
    assert areas.volume_ml("rv")[0] == pytest.approx(2 * 10 * 3 / 1000)


@pytest.mark.parametrize(
    ("spacing", "weights"),
    [((1, 1), [10, 10]), ((0, 1), [10, 10, 10]), ((1, np.nan), [10] * 3), ((1, 1), [10, -1, 10])],
)
def test_geometry_that_cannot_be_is_refused(spacing, weights):
    with pytest.raises(ValueError, match=r"fit|lengths"):
        counted(np.zeros((1, 3, 4, 4), dtype=np.uint8), spacing, weights)


def test_mass_and_ejection_fraction():
    assert mass_g(100) == 105
    assert ejection_fraction_percent(150, 60) == 60
    assert ejection_fraction_percent(100, 120) == -20
    assert ejection_fraction_percent(0, 0) is None
    assert ejection_fraction_percent(None, 60) is None


def test_base_is_the_wide_end_either_way_up():
    labels = disc_heart(np.array([1.0, 0.0]))
    assert basal_end(counted(labels), 0, 1) == "first"
    assert basal_end(counted(labels[:, ::-1]), 0, 1) == "last"


def test_base_of_a_cylinder_cannot_be_told():
    labels = np.repeat(disc_heart(np.array([1.0, 0.0]))[:, 1:2], 8, axis=1)
    assert basal_end(counted(labels), 0, 1) is None
    assert basal_slice_sensitivity(counted(labels), 0, 1) is None


@pytest.mark.parametrize("order", [1, -1])
def test_one_basal_slice_fewer_and_more(order):
    labels = disc_heart(np.array([1.0, 0.0]))
    labels[1, 1] = 0  # at ES the base has moved down by a slice
    areas = counted(labels[:, ::order])
    ed_base, es_base = (labels[0, 1] == 1).sum() / 100, (labels[1, 2] == 1).sum() / 100
    edv, esv = (labels == 1).sum(axis=(1, 2, 3)) / 100
    mass, wall = (1.05 * (labels[0, z] == 2).sum() / 100 for z in (slice(None), 1))
    assert basal_slice_sensitivity(areas, 0, 1) == pytest.approx(
        {
            "lv_edv_ml_minus_slice": edv - ed_base,
            "lv_edv_ml_plus_slice": edv + ed_base,
            "lv_esv_ml_minus_slice": esv - es_base,
            "lv_esv_ml_plus_slice": esv + es_base,
            "lv_mass_g_minus_slice": mass - wall,
            "lv_mass_g_plus_slice": mass + wall,
        }
    )
