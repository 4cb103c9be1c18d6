"""Resampled quantile fits against quantreg's, weights of polynomials against lm."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from cardiometa.reference.curves.curve import fractional_age_columns
from cardiometa.statistics.basis_functions import choice_weights, choose_powers
from cardiometa.statistics.quantile import (
    QuantileProblem,
    _planes,
    check_loss,
    fit_quantile,
    sandwich_covariance,
)

FOLDER = Path(__file__).parents[1] / "golden" / "reference" / "resampled"


def _rows(name):
    with (FOLDER / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _columns(name):
    data = np.genfromtxt(FOLDER.parent / "curves" / name, delimiter=",", names=True)
    return {column: data[column] for column in data.dtype.names}


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.9])
def test_fits_of_samples_are_quantregs(tau):
    engel = _columns("engel.csv")
    y = engel["foodexp"]
    X = np.column_stack([np.ones(len(y)), engel["income"]])
    counts = np.array([[float(v) for v in row.values()] for row in _rows("counts.csv")]).T
    fit = fit_quantile(X, y, tau)
    problem = QuantileProblem(X=X, y=y, tau=tau, fit=fit, covariance=sandwich_covariance(X, y, tau))
    planes = _planes(problem, counts)
    wanted = [row for row in _rows("planes.csv") if float(row["tau"]) == tau]
    near = 0
    for plane, count, row in zip(planes, counts, wanted, strict=True):
        loss = float(count @ ((y - X @ plane) * (tau - (y < X @ plane))))
        best = float(row["loss"])
        assert -1e-9 < loss / best - 1 < 1e-6
        near += np.allclose(plane, [float(row["b0"]), float(row["b1"])], rtol=1e-4, atol=1e-3)
    assert near >= 11  # a sample's optimum need not be unique
    assert check_loss(y - X @ fit.coefficients, tau) == pytest.approx(fit.loss)


def test_weights_of_polynomials_and_their_means_are_lms():
    people = _columns("fp_people.csv")
    one = np.ones((len(people["age"]), 1))
    choice = choose_powers(people["age"] / 50, people["y"], one)
    wanted = {
        () if row["powers"] == "none" else tuple(float(p) for p in row["powers"].split()): row
        for row in _rows("polynomials.csv")
    }
    weights = choice_weights(choice.deviances)
    assert set(weights) == set(wanted)
    for powers, weight in weights.items():
        assert weight == pytest.approx(float(wanted[powers]["weight"]), rel=1e-7, abs=1e-12)
    others = [p for p, w in weights.items() if p != choice.powers and w >= 0.002]
    assert others
    for powers in others:
        fitted = fractional_age_columns(people["age"], powers)
        b, *_ = np.linalg.lstsq(fitted, people["y"], rcond=1e-12)
        means = fractional_age_columns(np.array([30.0, 50.0, 70.0]), powers) @ b
        wanted_means = [float(wanted[powers][f"at{a}"]) for a in (30, 50, 70)]
        assert means == pytest.approx(wanted_means, rel=1e-8)
