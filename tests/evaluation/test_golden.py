"""Agreement statistics held against R (psych, epiR, vcd) and published tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cardiometa.evaluation.agreement import (
    BlandAltman,
    Estimate,
    bias_equivalence,
    bland_altman,
    ccc,
    ccc_from_sums,
    difference_equivalence,
    flat,
    icc,
    icc_from_sums,
    kappa,
    participant_means,
    proportional_bias,
    repeatability,
    sums_of,
)

FOLDER = Path(__file__).parents[1] / "golden" / "evaluation"
R = json.loads((FOLDER / "values.json").read_text(encoding="utf-8"))
LIMITS = ("lower", "lower_low", "lower_high", "upper", "upper_low", "upper_high")


def limits(found: BlandAltman) -> dict:
    """The bias and its limits by the names of R's values."""
    return {name.removeprefix("loa_"): value for name, value in flat(type(found), found).items()}


def numbers(found: Estimate) -> dict:
    return {"value": found.value, "low": found.low, "high": found.high}


def table(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = np.loadtxt(FOLDER / name, delimiter=",", skiprows=1)
    return rows[:, 0].astype(int), rows[:, 1], rows[:, 2]


def test_bias_and_exact_limits() -> None:
    person, x, y = table("single.csv")
    found = bland_altman(x - y, person)
    assert found is not None
    assert found.loa_method == "carkeet-2015"
    values = limits(found)
    for name in ("bias", "bias_low", "bias_high", "sd", "lower", "upper"):
        assert values[name] == pytest.approx(R["limits"][name], rel=1e-9), name
    for name in LIMITS:
        assert values[name] == pytest.approx(R["limits"][name], rel=1e-6), name


@pytest.mark.parametrize("row", R["carkeet"], ids=lambda r: f"n={r['n']}")
def test_factors_of_the_limits(row: dict[str, float]) -> None:
    # Differences with mean 0 and SD 1 give the factors themselves.
    values = np.arange(row["n"]) - (row["n"] - 1) / 2
    values = values / values.std(ddof=1)
    found = bland_altman(values, np.arange(row["n"]))
    assert found is not None
    assert found.loa_upper.low == pytest.approx(row["low"], rel=1e-6)
    assert found.loa_upper.high == pytest.approx(row["high"], rel=1e-6)


def test_limits_of_many_people_are_near_the_approximation() -> None:
    # Beyond R's range of noncentrality: Bland & Altman 1999, SE of a limit = 1.71 SD / sqrt(n).
    values = np.random.default_rng(1).normal(0, 10, 20_000)
    found = bland_altman(values, np.arange(len(values)))
    assert found is not None
    half = 1.96 * 1.71 * found.sd / np.sqrt(len(values))
    assert found.loa_upper.high - found.loa_upper.value == pytest.approx(half, rel=0.02)
    assert found.loa_upper.value - found.loa_upper.low == pytest.approx(half, rel=0.02)


def test_several_scans_a_person() -> None:
    person, x, y = table("several.csv")
    found = bland_altman(x - y, person)
    assert found is not None
    assert found.loa_method == "zou-2013"
    assert len(person) > len(np.unique(person)) == 40
    for name in ("bias", "bias_low", "bias_high", "sd", *LIMITS):
        assert limits(found)[name] == pytest.approx(R["zou"][name], rel=1e-9), name


def test_slope_icc_and_concordance() -> None:
    person, x, y = table("single.csv")
    slope = proportional_bias(x, y, person)
    assert slope is not None
    r = R["slope"]
    expected = {"value": r["slope"], "low": r["low"], "high": r["high"]}
    assert numbers(slope) == pytest.approx(expected, rel=1e-9)
    for function, name in ((icc, "icc"), (ccc, "ccc")):
        found = function(x, y)
        assert found is not None
        assert numbers(found) == pytest.approx(R[name], rel=1e-9), name


def test_sums_give_the_same_coefficients() -> None:
    _, x, y = table("single.csv")
    sums = sums_of(x - 150, y - 150).sum(axis=0)
    assert float(icc_from_sums(sums)) == pytest.approx(R["icc"]["value"], rel=1e-9)
    assert float(ccc_from_sums(sums)) == pytest.approx(R["ccc"]["value"], rel=1e-9)


def test_peak_flow_of_bland_and_altman_1986() -> None:
    wright, mini = (np.array(R["pefr"][name], dtype=float) for name in ("wright", "mini"))
    found = bland_altman(wright[:, 0] - mini[:, 0], np.arange(17))
    assert found is not None
    assert round(found.bias.value, 1) == -2.1
    assert round(found.sd, 1) == 38.8
    assert (round(found.bias.low, 1), round(found.bias.high, 1)) == (-22.0, 17.8)
    assert found.bias.value - 2 * found.sd == pytest.approx(-79.7, abs=0.1)
    assert found.bias.value + 2 * found.sd == pytest.approx(75.5, abs=0.1)
    for function, name in ((icc, "icc"), (ccc, "ccc")):
        coefficient = function(wright[:, 0], mini[:, 0])
        assert coefficient is not None
        assert numbers(coefficient) == pytest.approx(R["pefr"][name], rel=1e-9), name
    # Page 309: repeatability coefficients of 2 SD of the differences, mean taken as 0.
    for meter, coefficient in ((wright, 43.2), (mini, 56.4)):
        rescan = repeatability(meter[:, 0], meter[:, 1])
        assert rescan is not None
        assert 2 * np.sqrt(2) * rescan.sem.value == pytest.approx(coefficient, abs=0.1)


def test_six_targets_of_shrout_and_fleiss_1979() -> None:
    found = icc(*np.array(R["shrout"]["ratings"], dtype=float).T)
    assert found is not None
    assert round(found.value, 2) == 0.29
    assert numbers(found) == pytest.approx(R["shrout"]["icc"], rel=1e-6)


@pytest.mark.parametrize("row", R["kappa"], ids=["one", "two"])
@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa(row: dict, weights: str) -> None:
    found = kappa(np.array(row["table"], dtype=float), weights)  # type: ignore[arg-type]
    assert found is not None
    assert found.value == pytest.approx(row[weights]["value"], rel=1e-9)
    assert found.low is not None
    half = stats.norm.ppf(0.975) * row[weights]["se"]
    assert found.value - found.low == pytest.approx(half, rel=1e-9)


def test_equivalence() -> None:
    person, x, y = table("single.csv")
    expected = R["tost"]
    means, _ = participant_means(x - y, person)
    found = bias_equivalence(means, expected["margin"])
    assert found is not None
    assert found.ci_low == pytest.approx(expected["low"], rel=1e-9)
    assert found.ci_high == pytest.approx(expected["high"], rel=1e-9)
    assert found.p_equivalence == pytest.approx(expected["p"], rel=1e-6)
    assert found.result == "equivalent"
    first = expected["first"]
    between = difference_equivalence(means[:first], means[first:], expected["margin"])
    assert between is not None
    assert between.estimate == pytest.approx(expected["welch_estimate"], rel=1e-9)
    assert between.ci_low == pytest.approx(expected["welch_low"], rel=1e-9)
    assert between.ci_high == pytest.approx(expected["welch_high"], rel=1e-9)
