from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.segmentation.resample import Window, interpolation_weights, resample


def window(spacing: tuple[float, float], shape: tuple[int, int], **changes: object) -> Window:
    values = {
        "centre": ((shape[0] - 1) / 2, (shape[1] - 1) / 2),
        "size": 64,
        "spacing_mm": 1.5,
        "source_spacing_mm": spacing,
        "source_shape": shape,
    }
    return Window(**{**values, **changes})


@settings(deadline=None, max_examples=40)
@given(st.floats(0.6, 3.0), st.floats(0.6, 3.0), st.integers(40, 200), st.floats(-10, 10))
def test_a_linear_ramp_is_kept_exactly(
    row_mm: float, column_mm: float, length: int, shift: float
) -> None:
    """Any linear image in mm is reproduced inside the field of view (linear precision)."""
    shape = (length, length)
    y, x = np.meshgrid(np.arange(length) * row_mm, np.arange(length) * column_mm, indexing="ij")
    ramp = (2.0 * y - 0.7 * x)[None].astype(np.float32)
    w = window((row_mm, column_mm), shape, centre=(length / 2 + shift, length / 2 - shift))
    out = resample(ramp, *w.to_window())[0]
    offsets = (np.arange(64) - 31.5) * 1.5
    wanted_y = w.centre[0] * row_mm + offsets
    wanted_x = w.centre[1] * column_mm + offsets
    margin = 2 * max(row_mm, column_mm, 1.5)
    ok_y = (wanted_y > margin) & (wanted_y < (length - 1) * row_mm - margin)
    ok_x = (wanted_x > margin) & (wanted_x < (length - 1) * column_mm - margin)
    wanted = 2.0 * wanted_y[:, None] - 0.7 * wanted_x
    inside = np.ix_(ok_y, ok_x)
    # The widened triangle is exact for ramps at whole ratios only; elsewhere within its ripple.
    tolerance = 1e-3 if max(1.5 / row_mm, 1.5 / column_mm) <= 1 else 0.35 * max(row_mm, column_mm)
    assert np.allclose(out[inside], wanted[inside], atol=tolerance * 2.7)


def test_weights_sum_to_one_inside_and_zero_outside() -> None:
    taps = interpolation_weights(np.array([-5.0, 0.0, 3.3, 9.0, 14.0]), 10, 2.0)
    sums = taps.weights.sum(axis=1)
    assert sums[0] == sums[4] == 0
    assert sums[2] == pytest.approx(1)


def test_there_and_back_keeps_a_blob_in_place() -> None:
    y, x = np.meshgrid(np.arange(128), np.arange(100), indexing="ij")
    blob = np.exp(-((y - 70.3) ** 2 + ((x - 40.6) * 1.3) ** 2) / 300)[None].astype(np.float32)
    w = window((1.0, 1.3), (128, 100), size=96)
    back = resample(resample(blob, *w.to_window()), *w.to_source())
    rows, columns = w.source_box()
    inner = blob[0, rows, columns]
    assert back.shape[1:] == inner.shape
    total = back[0].sum()
    for axis in (0, 1):
        grid = np.arange(inner.shape[axis])
        mine = (back[0].sum(axis=1 - axis) * grid).sum() / total
        wanted = (inner.sum(axis=1 - axis) * grid).sum() / inner.sum()
        assert abs(mine - wanted) < 0.05
    assert np.abs(back[0] - inner)[4:-4, 4:-4].max() < 0.02
