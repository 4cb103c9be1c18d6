"""The curve engines against R: quantreg, VGAM, lme4, mgcv, MASS (see golden/reference/curves)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from cardiometa.statistics.basis_functions import (
    SplineBasis,
    choose_powers,
    fixed_term,
    random_term,
    smooth_term,
)
from cardiometa.statistics.lms import box_cox_power, lms_centile, profile_log_likelihood
from cardiometa.statistics.location_scale import (
    FitSettings,
    LmsDistribution,
    NormalDistribution,
    fit_location_scale,
)
from cardiometa.statistics.mixed.random_intercept import fit_random_intercept
from cardiometa.statistics.quantile import _fit_all, fit_quantile, sandwich_covariance

FOLDER = Path(__file__).parents[1] / "golden" / "reference" / "curves"


def _golden():
    found = {}
    with (FOLDER / "curves.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["what"], {})[row["name"]] = float(row["value"])
    return found


GOLDEN = _golden()


def _columns(name):
    data = np.genfromtxt(FOLDER / name, delimiter=",", names=True)
    return {column: data[column] for column in data.dtype.names}


def _close(value, wanted, relative):
    assert value == pytest.approx(wanted, rel=relative, abs=relative * 1e-3)


@pytest.mark.parametrize("name", ["mixed", "weighted"])
def test_random_intercept_is_lme4s(name):
    people = _columns("mixed_people.csv")
    X = np.column_stack([np.ones(len(people["age"])), people["age"], people["group"]])
    weights = np.resize([1, 2, 0.5, 1.5], len(X)) if name == "weighted" else None
    fit = fit_random_intercept(X, people["value"], people["trial"].astype(int) - 1, weights)
    wanted = GOLDEN[name]
    _close(fit.sigma2, wanted["sigma2"], 1e-6)
    _close(fit.tau2, wanted["tau2"], 1e-6)
    for index in range(3):
        _close(fit.coefficients[index], wanted[f"b{index}"], 1e-7)
        if name == "mixed":
            _close(np.sqrt(fit.covariance[index, index]), wanted[f"se{index}"], 1e-6)


def test_no_difference_between_trials_is_least_squares():
    people = _columns("mixed_zero.csv")
    X = np.column_stack([np.ones(len(people["age"])), people["age"]])
    fit = fit_random_intercept(X, people["value"], people["trial"].astype(int) - 1)
    assert fit.tau2 == 0
    _close(fit.sigma2, GOLDEN["zero"]["sigma2"], 1e-9)


def test_the_normal_law_with_one_sd_is_lme4s_reml():
    """The adjusted scale and Fellner-Schall's update are REML where the model is lme4's."""
    people = _columns("mixed_people.csv")
    age, trial = people["age"], people["trial"].astype(int) - 1
    X = np.column_stack([np.ones(len(age)), age / 50, people["group"]])
    mean = [fixed_term("x", X), random_term("trial", trial, 8)]
    scale = [fixed_term("one", np.ones((len(age), 1)))]
    settings = FitSettings(tolerance=1e-14)
    cell = np.arange(len(age))
    fit = fit_location_scale(NormalDistribution(), people["value"], cell, [mean, scale], settings)
    wanted = GOLDEN["mixed"]
    _close(fit.coefficients[1] / 50, wanted["b1"], 1e-6)
    _close(np.exp(2 * fit.coefficients[-1]), wanted["sigma2"], 1e-6)
    _close(fit.term(0, "trial").variance, wanted["tau2"], 1e-6)
    _close(np.sqrt(fit.covariance[0, 0]), wanted["se0"], 1e-6)


@pytest.mark.parametrize("name", ["lms_constant", "lms_scale"])
def test_lms_is_vgams_on_bmi_nz(name):
    """Unpenalised, as VGAM fits; M on its own scale there, so the spline is of M here too."""
    people, B = _columns("bmi_nz.csv"), _columns("bmi_nz_basis.csv")
    X = np.column_stack([np.ones(len(people["age"])), *B.values()])
    one = np.ones((len(X), 1))
    law = _LmsOfM()
    scale = fixed_term("s", one if name == "lms_constant" else X)
    predictors = [[fixed_term("m", X)], [scale], [fixed_term("l", one)]]
    settings = FitSettings(adjust=False, tolerance=1e-12)
    fit = fit_location_scale(law, np.log(people["bmi"]), np.arange(len(X)), predictors, settings)
    wanted = GOLDEN[name]
    assert fit.deviance <= wanted["vgam_deviance"]
    assert fit.deviance == pytest.approx(wanted["deviance"], abs=1e-4)
    m = X @ fit.coefficients[:6]
    s = np.exp(scale.columns @ fit.coefficients[6:-1])
    ell = fit.coefficients[-1]
    assert ell == pytest.approx(wanted["l"], abs=2e-3)
    for key, value in wanted.items():
        if key.startswith("centile"):
            _, p, _, row = key.split("_")
            i = int(row) - 1
            _close(lms_centile(special.ndtri(float(p)), m[i], s[i], ell), value, 1e-4)


class _LmsOfM(LmsDistribution):
    """The law with a predictor of M itself, as VGAM's identity link has it."""

    def start(self, y):
        return float(np.exp(y.mean())), float(np.log(y.std())), 0.0

    def scores(self, y, eta):
        density, (by_log_m, by_log_s, by_l) = super().scores(y, [np.log(eta[0]), *eta[1:]])
        return density, (by_log_m / eta[0], by_log_s, by_l)

    def information(self, eta):
        found = super().information([np.log(eta[0]), *eta[1:]])
        found[0] /= eta[0]
        found[:, 0] /= eta[0]
        return found


def test_location_and_scale_are_mgcvs_gaulss():
    """Smooth mean and log SD with penalties by REML; mgcv does not adjust the scale (2 %)."""
    people = _columns("gaulss_people.csv")
    ages, cell = np.unique(people["age"], return_inverse=True)
    basis = SplineBasis(low=ages[0], high=ages[-1], segments=17)
    term = smooth_term("age", basis, ages)
    settings = FitSettings(adjust=False)
    fit = fit_location_scale(NormalDistribution(), people["y"], cell, [[term], [term]], settings)
    wanted = GOLDEN["gaulss"]
    b, V, size = fit.coefficients, fit.covariance, basis.size
    for age in range(25, 80, 5):
        row = basis.at(np.array([float(age)]))[0]
        mean, log_sd = row @ b[:size], row @ b[size:]
        sd = wanted[f"sd_{age}"]
        assert mean == pytest.approx(wanted[f"mean_{age}"], abs=0.01 * sd)
        _close(np.exp(log_sd), sd, 0.005)
        _close(np.sqrt(row @ V[:size, :size] @ row), wanted[f"se_mean_{age}"], 0.03)
        _close(np.sqrt(row @ V[size:, size:] @ row), wanted[f"se_log_sd_{age}"], 0.05)


@pytest.mark.parametrize("tau", ["0.025", "0.05", "0.25", "0.5", "0.75", "0.95", "0.975"])
def test_quantile_regression_is_quantregs_on_engel(tau):
    people = _columns("engel.csv")
    X = np.column_stack([np.ones(len(people["income"])), people["income"]])
    fit = fit_quantile(X, people["foodexp"], float(tau))
    wanted = GOLDEN["engel"]
    _close(fit.loss, wanted[f"loss_{tau}"], 1e-9)
    _close(fit.coefficients[0], wanted[f"intercept_{tau}"], 1e-7)
    _close(fit.coefficients[1], wanted[f"income_{tau}"], 1e-7)
    if f"se_income_{tau}" in wanted:
        V = sandwich_covariance(X, people["foodexp"], float(tau))
        _close(np.sqrt(V[0, 0]), wanted[f"se_intercept_{tau}"], 1e-6)
        _close(np.sqrt(V[1, 1]), wanted[f"se_income_{tau}"], 1e-6)


@pytest.mark.parametrize("tau", ["0.025", "0.5", "0.975"])
def test_quantile_regression_on_a_spline_is_quantregs(tau):
    people = _columns("quantile_people.csv")
    # R's bs(age, knots = c(35, 50, 65)) spans what equal knots of 15 years span.
    basis = SplineBasis(low=20.0, high=80.0, segments=4)
    fit = fit_quantile(basis.at(people["age"]), people["y"], float(tau))
    _close(fit.loss, GOLDEN["bspline"][f"loss_{tau}"], 1e-9)


@pytest.mark.parametrize("tau", [0.025, 0.5, 0.9])
def test_many_people_give_the_same_fit_as_all_at_once(tau):
    rng = np.random.default_rng(3)
    n = 30_000
    age = rng.uniform(-1, 1, n)
    X = np.column_stack([np.ones(n), age, age**2, rng.random(n) < 0.2])
    y = 100 + 3 * age + (5 + 2 * age) * rng.standard_normal(n)
    whole = _fit_all(X, y, tau)
    _close(fit_quantile(X, y, tau).loss, whole.loss, 1e-9)


def test_fractional_polynomials_are_those_of_lm():
    people = _columns("fp_people.csv")
    x, one = people["age"] / 50, np.ones((len(people["age"]), 1))
    found = choose_powers(x, people["y"], one)
    for powers, deviance in found.deviances.items():
        name = "fp{}_{}".format(len(powers), "_".join(f"{p:g}" for p in powers))
        _close(deviance, GOLDEN["fp"]["null" if not powers else name], 1e-10)
    _close(found.deviances[1.0,], GOLDEN["fp"]["linear"], 1e-10)
    best = min(found.deviances, key=found.deviances.get)
    assert len(best) == 2
    assert found.powers in (best, min((p for p in found.deviances if len(p) == 1),
                                      key=found.deviances.get))  # fmt: skip


@pytest.mark.parametrize("sample", sorted(GOLDEN["boxcox"]))
def test_box_cox_power_is_that_of_mass(sample):
    with (FOLDER.parent / "samples.csv").open(encoding="utf-8") as stream:
        rows = [r for r in csv.DictReader(stream) if r["sample"] == sample]
    values = np.array([float(r["value"]) for r in rows])
    power = box_cox_power(values)
    assert power == pytest.approx(GOLDEN["boxcox"][sample], abs=2e-6)
    best = profile_log_likelihood(values, power)
    for other in (-1, 0, 0.5, 2):
        difference = profile_log_likelihood(values, other) - best
        wanted = GOLDEN["boxcox_profile"][f"{sample}_{other}"]
        assert difference == pytest.approx(wanted, abs=1e-7)
