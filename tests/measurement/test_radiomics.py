"""Radiomic features against IBSI's digital phantom, and what views do to them."""

import numpy as np
import pytest

from cardiometa.cohort.analysis_table import read_analysis_table
from cardiometa.cohort.models import TableOptions
from cardiometa.measurement.radiomics import (
    COLUMNS,
    FEATURES,
    VIEWS,
    features,
    features_of,
    radiomics,
)
from cardiometa.phantom.heart import HeartPhantom
from cardiometa.phantom.image import CineGrid, render
from cardiometa.pipeline.merge import _vendor_shares
from tests.kit.labelled import cine_of

# Voxels of 2 mm, 0 outside; values of the manual of IBSI (arXiv 1612.07003), "dig. phantom";
# co-occurrence "2.5D, merged", as theibsi/ibsi-doc 03_Image_features.rst, commit 11f641c.
PHANTOM = np.array([
    [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
    [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
    [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
    [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
])  # fmt: skip
BENCHMARK = {
    "morph_vol_approx": 592, "morph_com": 0.672, "morph_pca_maj_axis": 11.4,
    "morph_pca_min_axis": 9.31, "morph_pca_least_axis": 8.54, "morph_pca_elongation": 0.816,
    "morph_pca_flatness": 0.749,
    "stat_mean": 2.15, "stat_var": 3.05, "stat_skew": 1.08, "stat_kurt": -0.355, "stat_median": 1,
    "stat_min": 1, "stat_p10": 1, "stat_p90": 4, "stat_max": 6, "stat_iqr": 3, "stat_range": 5,
    "stat_mad": 1.55, "stat_rmad": 1.11, "stat_medad": 1.15, "stat_cov": 0.812, "stat_qcod": 0.6,
    "stat_energy": 567, "stat_rms": 2.77,
    "ih_mean": 2.15, "ih_var": 3.05, "ih_skew": 1.08, "ih_kurt": -0.355, "ih_entropy": 1.27,
    "ih_uniformity": 0.512,
    "cm_joint_var": 3.24, "cm_joint_entr": 2.61, "cm_diff_avg": 1.44, "cm_diff_var": 3.23,
    "cm_diff_entr": 1.67, "cm_sum_avg": 4.41, "cm_sum_var": 7.65, "cm_sum_entr": 2.14,
    "cm_energy": 0.277, "cm_contrast": 5.29, "cm_dissimilarity": 1.44, "cm_inv_diff": 0.673,
    "cm_inv_diff_norm": 0.85, "cm_inv_diff_mom": 0.613, "cm_inv_diff_mom_norm": 0.899,
    "cm_inv_var": 0.0582, "cm_corr": 0.182, "cm_auto_corr": 5.45, "cm_clust_tend": 7.65,
    "cm_clust_shade": 16.4, "cm_clust_prom": 142, "cm_info_corr1": -0.0334,
}  # fmt: skip


def test_features_are_those_of_the_ibsi_phantom():
    found = features_of(PHANTOM.astype(float), PHANTOM > 0, (2.0, 2.0, 2.0), PHANTOM)
    assert set(found) == set(FEATURES)
    for name, value in BENCHMARK.items():
        assert float(f"{found[name]:.3g}") == pytest.approx(value, abs=1e-9), name
    assert found["cm_joint_avg"] == pytest.approx(found["cm_sum_avg"] / 2)


def test_a_heart_has_every_feature_whatever_the_scale_of_its_scanner():
    cine = render(HeartPhantom(), CineGrid(frames=2, slices=9))
    stack = cine_of(cine.labels, spacing_mm=(2.0, 2.0), pair=True)
    stack.pixels[:] = cine.pixels
    found = radiomics(stack, cine.labels, (0, 1))
    assert set(found) == {column.name for column in COLUMNS}
    assert all(len(values) == len(VIEWS) for values in found.values())
    stack.pixels[:] = 2.0 * cine.pixels
    again = radiomics(stack, cine.labels, (0, 1))
    np.testing.assert_allclose(list(again.values()), list(found.values()), rtol=1e-9, atol=1e-9)
    # The voxels' volume is that of the labels, and grows and shrinks with the outline.
    volume, more, less = found["lv_cavity_ed_morph_vol_approx"]
    assert volume == pytest.approx((cine.labels[0] == 1).sum() * 2 * 2 * 10, rel=0.01)
    assert less < 0.97 * volume < volume < 0.97 * more
    # Too few voxels have no features.
    small = cine.labels.copy()
    for frame in small:
        frame[tuple(np.argwhere(frame == 3)[50:].T)] = 0
    assert not any(name.startswith("rv_cavity") for name in radiomics(stack, small, (0, 1)))


def test_what_a_structure_does_not_have_is_unknown_and_not_a_fault():
    image, mask = np.zeros((3, 30, 30)), np.zeros((3, 30, 30), dtype=bool)
    mask[:, 5:25, 5:25] = True
    image[np.random.default_rng(1).random(image.shape) < 0.1] = 50.0
    found = features(image, mask, (10.0, 1.5, 1.5))
    assert list(found) == list(FEATURES)
    # Nine tenths are black: both quartiles are 0, and only their quotient is without a value.
    assert [name for name, value in found.items() if not np.isfinite(value)] == ["stat_qcod"]
    # No two pixels lie side by side.
    apart = np.zeros_like(mask)
    apart[:, ::2, ::2] = True
    found = features(image, apart, (10.0, 1.5, 1.5))
    assert {name for name, value in found.items() if np.isnan(value)} >= {
        name for name in FEATURES if name.startswith("cm_")
    }


def test_makers_differ_before_combat_and_not_after():
    rng = np.random.default_rng(3)
    vendors = np.repeat(["GE", "Philips", ""], [12, 15, 2])
    values = rng.normal(10, 1, (29, 6))
    values[vendors == "GE"] += np.array([4, 4, 3, 3, 2, 2])
    shares = _vendor_shares(values, vendors)
    assert (shares["vendor_share"] > 0.3).all()
    assert (shares["vendor_share_combat"] < 0.05).all()
    assert np.isnan(_vendor_shares(values[:12], vendors[:12])["vendor_share"]).all()


def test_an_analysis_takes_a_feature_by_its_name(tmp_path):
    (tmp_path / "measurements.csv").write_text(
        "trial,participant_id,visit,status,lv_edv_ml\n"
        "A,001,baseline,ok,150\nA,002,baseline,ok,140\n"
    )
    (tmp_path / "radiomics.csv").write_text(
        "trial,participant_id,visit,lv_cavity_ed_stat_mean,lv_cavity_ed_stat_max\n"
        "A,002,baseline,98.5,120\n"
    )
    options = TableOptions(numeric=("lv_cavity_ed_stat_mean",), needed=("trial",))
    table = read_analysis_table(tmp_path / "measurements.csv", options)
    assert table.rows["lv_cavity_ed_stat_mean"].tolist() == [
        pytest.approx(np.nan, nan_ok=True),
        98.5,
    ]
    assert "lv_cavity_ed_stat_max" not in table.rows
    (tmp_path / "radiomics.csv").unlink()
    without = TableOptions(needed=("trial",))
    assert read_analysis_table(tmp_path / "measurements.csv", without).sha256 != table.sha256
