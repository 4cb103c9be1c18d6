"""BCT and BCPE against direct maximisation of the likelihood in R (golden/reference/tails)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate

from cardiometa.statistics.basis_functions import fixed_term
from cardiometa.statistics.box_cox_tails import TAILS, tail_centile, tail_shares
from cardiometa.statistics.location_scale import (
    DISTRIBUTIONS,
    FitSettings,
    fit_location_scale,
)

FOLDER = Path(__file__).parents[1] / "golden" / "reference" / "tails"


def _golden():
    found = {}
    with (FOLDER / "tails.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["what"], {})[row["name"]] = float(row["value"])
    return found


GOLDEN = _golden()
STATED = [what for what in GOLDEN if what.startswith("law ")]


@pytest.mark.parametrize("what", STATED)
def test_density_share_and_centiles_are_rs(what):
    _, name, nu, tau = what.split()
    ell, log_tail = np.array([float(nu)]), float(np.log(float(tau)))
    for label, wanted in GOLDEN[what].items():
        kind, number = label.split()
        value = float(number)
        w = np.log([value / 150])
        if kind == "density":
            eta = [np.log([150.0]), np.log([0.2]), ell, np.array([log_tail])]
            density, _ = DISTRIBUTIONS[name].scores(np.log([value]), eta)
            found = float(density[0]) - np.log(value)
        elif kind == "share":
            below, above = tail_shares(TAILS[name], w, np.array([0.2]), ell, log_tail)
            found = float(below[0])
            assert below[0] + above[0] == pytest.approx(1, abs=1e-12)
        else:
            at = np.array([value]), np.array([150.0]), np.array([0.2]), ell
            found = float(tail_centile(TAILS[name], *at, log_tail)[0])
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-9), label


@pytest.mark.parametrize("what", ["bct heavy", "bcpe light"])
def test_the_engine_is_direct_maximisation(what):
    name, column = what.split()
    people = np.genfromtxt(FOLDER / "people.csv", delimiter=",", names=True)
    x, y = (people["age"] - 50) / 10, people[column]
    X = np.column_stack([np.ones(len(x)), x])
    line, one = fixed_term("age", X), fixed_term("age", X[:, :1])
    settings = FitSettings(adjust=False, tolerance=1e-12)
    cell = np.arange(len(x))
    fit = fit_location_scale(
        DISTRIBUTIONS[name], np.log(y), cell, [[line], [line], [one], [one]], settings
    )
    wanted, b = GOLDEN[what], fit.coefficients
    assert fit.deviance == pytest.approx(wanted["deviance"], abs=1e-5)
    assert b == pytest.approx([wanted[f"b{i}"] for i in range(6)], abs=2e-4)
    for label, value in wanted.items():
        if label.startswith("centile"):
            _, age, p = label.split()
            at = (float(age) - 50) / 10
            m, s = np.exp(b[0] + b[1] * at), np.exp(b[2] + b[3] * at)
            place = np.array(float(p)), np.array(m), np.array(s), np.array(b[4])
            found = tail_centile(TAILS[name], *place, float(b[5]))
            assert float(found) == pytest.approx(value, rel=1e-4), label
    # The inverse expected information is near that of the likelihood's curvature.
    steps = 3 * np.sqrt(np.diag(fit.covariance))
    assert np.all(steps < 0.6)


@pytest.mark.parametrize("name", ["bct", "bcpe"])
@pytest.mark.parametrize("ell", [-1.2, 0.0, 0.7])
def test_scores_are_derivatives_and_information_is_their_square(name, ell):
    family, eta = DISTRIBUTIONS[name], np.array([5.0, -1.4, ell, 1.1])
    y = np.array([4.4, 4.9, 5.02, 5.3, 5.9])

    def at(place, values):
        return family.scores(values, [np.full(len(values), e) for e in place])

    for number, score in enumerate(at(eta, y)[1]):
        step = 1e-6 * np.eye(4)[number]
        slope = (at(eta + step, y)[0] - at(eta - step, y)[0]) / 2e-6
        assert score == pytest.approx(slope, rel=2e-4, abs=2e-4)
    grid = 5.0 + 0.25 * np.sinh(np.linspace(-6, 6, 40_001))
    density, scores = at(eta, grid)
    weight = np.exp(density)  # of ln y
    table = np.stack(scores)
    assert integrate.trapezoid(weight, grid) == pytest.approx(1, abs=1e-4)
    squares = integrate.trapezoid(table[:, None] * table * weight, grid)
    found = family.information([np.array([e]) for e in eta])[:, :, 0]
    assert found == pytest.approx(squares, rel=5e-3, abs=5e-3)


def test_tails_of_a_normal_sample_end_at_the_normal():
    rng = np.random.default_rng(4)
    y = 5 + 0.2 * rng.standard_normal(800)
    one = fixed_term("age", np.ones((1, 1)))
    cell = np.zeros(800, dtype=int)
    plain = fit_location_scale(DISTRIBUTIONS["lms"], y, cell, [[one]] * 3)
    for name in ("bct", "bcpe"):
        fit = fit_location_scale(DISTRIBUTIONS[name], y, cell, [[one]] * 4)
        assert fit.deviance == pytest.approx(plain.deviance, abs=4)
        low, high = TAILS[name].bounds
        assert low <= fit.coefficients[3] <= high
    for name, log_tail in (("bct", np.log(1e5)), ("bcpe", np.log(2))):
        density = TAILS[name].log_density(np.array([0.7]), float(log_tail))
        assert density == pytest.approx(-(0.7**2) / 2 - np.log(2 * np.pi) / 2, abs=1e-4)
