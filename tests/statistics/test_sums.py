"""Sums of a trial: merging, centring, absorbing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.statistics.mixed.sufficient_statistics import (
    absorb,
    merge_summaries,
    summarise_rows,
)

NAMES = ("a", "b", "c", "y")


def rows(seed, n=60):
    draw = np.random.default_rng(seed)
    values = draw.normal([50, 1000, 0, 30], [1, 10, 0.1, 5], (n, 4))
    values[:, 3] += 0.4 * values[:, 0]
    return values


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 60), max_size=6))
def test_chunks_in_any_split_merge_to_the_whole(seed, cuts):
    values = rows(seed)
    whole = summarise_rows("T", NAMES, values)
    parts = np.split(values, sorted(cuts))
    merged = summarise_rows("T", NAMES, parts[0])
    for part in parts[1:]:
        merged = merge_summaries(merged, summarise_rows("T", NAMES, part))
    assert merged.n == whole.n
    assert merged.means == pytest.approx(whole.means, rel=1e-12, abs=1e-12)
    scale = np.sqrt(np.outer(*2 * [np.diag(whole.cross_products)]))
    assert np.abs((merged.cross_products - whole.cross_products) / scale).max() < 1e-10


def test_an_offset_of_ten_million_loses_nothing():
    values = rows(3)
    moved = summarise_rows("T", NAMES, values + 1e7).cross_products
    here = summarise_rows("T", NAMES, values).cross_products
    assert np.abs(moved - here).max() < 1e-6 * np.abs(here).max()


def test_absorbing_is_regression_on_the_rows():
    values = rows(1)
    left = absorb(summarise_rows("T", NAMES, values), ["a", "b"])
    design = np.column_stack([np.ones(len(values)), values[:, :2]])
    residual = values[:, 2:] - design @ np.linalg.lstsq(design, values[:, 2:], rcond=None)[0]
    assert left.cross_products == pytest.approx(residual.T @ residual, rel=1e-9)
    assert left.columns == ("c", "y")
    assert left.contrasts == len(values) - 3
    assert left.aliased == ()


def test_aliased_columns_are_dropped_and_named():
    values = rows(2)
    more = np.column_stack(
        [
            values[:, 0],
            3 * values[:, 0] - 2,  # explained by the first
            np.full(len(values), 0.1),  # constant
            values[:, 1],
            values[:, 0] + values[:, 1],  # explained by two
            values[:, 3],
        ]
    )
    names = ("a", "a2", "const", "b", "sum", "y")
    left = absorb(summarise_rows("T", names, more), names[:-1])
    clean = absorb(summarise_rows("T", ("a", "b", "y"), values[:, [0, 1, 3]]), ("a", "b"))
    assert left.contrasts == clean.contrasts
    assert len(left.aliased) == 3
    assert {"a2", "const"} <= set(left.aliased)
    assert left.cross_products == pytest.approx(clean.cross_products, rel=1e-8)


def test_parts_of_other_trials_do_not_merge():
    values = rows(1)
    with pytest.raises(ValueError, match="one trial"):
        merge_summaries(summarise_rows("T", NAMES, values), summarise_rows("U", NAMES, values))


def test_missing_values_are_refused():
    values = rows(1)
    values[3, 1] = np.nan
    with pytest.raises(ValueError, match="complete"):
        summarise_rows("T", NAMES, values)


def test_no_rows_and_rows_that_do_not_fit():
    empty = summarise_rows("T", NAMES, np.empty((0, 4)))
    assert empty.n == 0
    full = summarise_rows("T", NAMES, rows(1))
    assert merge_summaries(empty, full).cross_products == pytest.approx(full.cross_products)
    assert merge_summaries(empty, empty).n == 0
    with pytest.raises(ValueError, match="columns"):
        summarise_rows("T", NAMES[:2], rows(1))
