"""ComBat against neuroCombat, and what must hold whatever the data."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiometa.statistics.combat import combat

FOLDER = Path(__file__).parents[1] / "golden" / "pooling"
GOLDEN = json.loads((FOLDER / "combat.json").read_text())


def sums_of(values, trials):
    parts = [values[trials == name] for name in sorted(set(trials))]
    means = np.array([part.mean(axis=0) for part in parts])
    squares = np.array([((part - part.mean(axis=0)) ** 2).sum(axis=0) for part in parts])
    return np.array([len(part) for part in parts]), means, squares


def golden_rows(measures=3):
    rows = pd.read_csv(FOLDER / "combat.csv")
    return rows.iloc[:, 4 - measures :].to_numpy(), rows["trial"].to_numpy()


@pytest.mark.parametrize(("measures", "golden"), [(3, "empirical_bayes"), (1, "one_measure")])
def test_agrees_with_neurocombat(measures, golden):
    values, trials = golden_rows(measures)
    fit, want = combat(*sums_of(values, trials)), GOLDEN[golden]
    np.testing.assert_allclose(fit.gamma, want["gamma"], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(fit.delta, want["delta"], rtol=1e-8)
    place = np.searchsorted(sorted(set(trials)), trials)
    harmonised = fit.intercept[place] + fit.slope[place] * values
    np.testing.assert_allclose(harmonised, want["values"], rtol=1e-8)


def test_where_neurocombat_stops_is_near():
    fit = combat(*sums_of(*golden_rows()))
    shipped = np.array(GOLDEN["as_shipped"]["delta"])
    np.testing.assert_allclose(fit.delta, shipped, rtol=1e-4)


def test_many_draws_are_one_call():
    draw = np.random.default_rng(1)
    n = draw.integers(5, 60, (6, 4))
    means, squares = draw.normal(50, 5, (6, 4, 3)), draw.uniform(100, 900, (6, 4, 3))
    together = combat(n, means, squares)
    for place in range(6):
        alone = combat(n[place], means[place], squares[place])
        np.testing.assert_allclose(together.slope[place], alone.slope, rtol=1e-10)
        np.testing.assert_allclose(together.intercept[place], alone.intercept, rtol=1e-9)


def test_equal_ratios_need_no_finite_prior():
    n, means = np.array([20, 30]), np.array([[1.0, 2.0], [3.0, 5.0]])
    squares = np.array([[19.0, 19.0], [58.0, 58.0]])
    fit = combat(n, means, squares)
    ratio = squares / (n - 1)[:, None] / (squares.sum(axis=0) / 50)
    np.testing.assert_allclose(fit.delta, ratio)
    assert np.isfinite(fit.intercept).all()
