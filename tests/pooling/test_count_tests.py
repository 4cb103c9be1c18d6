"""The tests of counts in the integrity checks are those of scipy.stats."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cardiometa.pooling.integrity import binomial_p, equal_shares_p, independence_p

COUNT = st.integers(0, 400)


@given(st.lists(COUNT, min_size=3, max_size=12).filter(any))
def test_equal_shares(counts):
    values = np.array(counts)
    assert equal_shares_p(values) == pytest.approx(stats.chisquare(values).pvalue, rel=1e-12)


@pytest.mark.parametrize("share", [0.5, 1 / 3, 0.25, 0.6])
@given(n=st.integers(1, 900), at=st.floats(0, 1))
def test_an_allocation(share, n, at):
    count = round(at * n)
    wanted = stats.binomtest(count, n, share).pvalue
    assert binomial_p(count, n, share) == pytest.approx(wanted, rel=1e-9, abs=1e-300)


@given(st.lists(st.tuples(COUNT, COUNT), min_size=2, max_size=4))
def test_outcomes_by_arm(pairs):
    counts = np.array(pairs)
    if (counts.sum(axis=0) == 0).any() or (counts.sum(axis=1) == 0).any():
        return
    test = stats.fisher_exact if len(counts) == 2 else stats.chi2_contingency
    assert independence_p(counts) == pytest.approx(test(counts)[1], rel=1e-8, abs=1e-300)


def test_a_run_does_not_load_scipy_stats():
    """It is large: an eighth of the time of a small run."""
    code = "import sys, cardiometa.commands.pool_trials; print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
