"""One-stage models against lme4, pbkrtest, lmerTest, nlme, and the formulas with dense matrices."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiometa.statistics.mixed.one_stage import contrast_interval
from tests.kit.one_stage import fit_of, sums_by_trial

FOLDER = Path(__file__).parents[1] / "golden" / "pooling"
GOLDEN = json.loads((FOLDER / "one_stage.json").read_text())["sets"]
ONE = np.ones(1)
MODELS = {
    "common": {"residual": "common"},
    "common_age": {"residual": "common", "nuisance": ["baseline", "age_years"]},
    "common_ml": {"residual": "common", "restricted": False, "centred": True},
    "by_trial": {"residual": "by-trial"},
    "by_arm": {"residual": "by-trial-and-arm"},
    "dense_by_trial": {"residual": "by-trial"},
    "dense_by_arm": {"residual": "by-trial-and-arm"},
}


def people(name):
    rows = pd.read_csv(FOLDER / "one_stage_people.csv")
    names = {"lv_ef_percent": "outcome", "lv_ef_baseline": "baseline"}
    return rows[rows["set"] == name].rename(columns=names)


def fitted(name, model):
    options = dict(MODELS[model])
    return fit_of(sums_by_trial(people(name), options.pop("nuisance", ["baseline"])), **options)


@pytest.mark.parametrize("model", ["common", "common_age", "common_ml"])
@pytest.mark.parametrize("name", GOLDEN)
def test_lme4_pbkrtest_and_lmertest(name, model):
    want, fit = GOLDEN[name][model], fitted(name, model)
    # lme4 finds its optimum without derivatives, to about 1e-6 of the variance ratio.
    assert fit.criterion == pytest.approx(want["criterion"], rel=1e-11)
    assert fit.criterion <= want["criterion"] + 1e-9
    assert fit.beta[0] == pytest.approx(want["estimate"], rel=1e-6)
    assert fit.covariance[0, 0] ** 0.5 == pytest.approx(want["se"], rel=1e-6)
    assert fit.theta[0] == pytest.approx(want["tau2"], rel=1e-6, abs=1e-9)
    assert fit.variances[0] == pytest.approx(want["sigma2"], rel=1e-6)
    if model != "common_ml":
        rogers = contrast_interval(fit, ONE, "kenward-roger")
        assert (rogers.se, rogers.df) == pytest.approx((want["kr_se"], want["kr_df"]), rel=1e-6)
        df = contrast_interval(fit, ONE, "satterthwaite").df
        assert df == pytest.approx(want["satterthwaite_df"], rel=1e-6)


@pytest.mark.parametrize("model", ["by_trial", "by_arm"])
@pytest.mark.parametrize("name", GOLDEN)
def test_nlme(name, model):
    want, fit = GOLDEN[name][model], fitted(name, model)
    # nlme stops where its criterion is flat; ours is never the worse one.
    assert fit.criterion == pytest.approx(want["criterion"], rel=1e-9)
    assert fit.criterion <= want["criterion"] + 1e-9
    assert fit.beta[0] == pytest.approx(want["estimate"], rel=1e-5)
    assert fit.covariance[0, 0] ** 0.5 == pytest.approx(want["se"], rel=1e-4)
    assert fit.theta[0] == pytest.approx(want["tau2"], rel=5e-4)
    assert sorted(fit.variances) == pytest.approx(sorted(want["variances"].values()), rel=2e-4)


@pytest.mark.parametrize("model", ["dense_by_trial", "dense_by_arm"])
@pytest.mark.parametrize("name", ["F", "M"])
def test_dense_matrices_of_the_rows(name, model):
    want, fit = GOLDEN[name][model], fitted(name, model)
    rogers = contrast_interval(fit, ONE, "kenward-roger")
    found = {
        "estimate": fit.beta[0],
        "se": fit.covariance[0, 0] ** 0.5,
        "tau2": fit.theta[0],
        "kr_se": rogers.se,
        "kr_df": rogers.df,
        "satterthwaite_df": contrast_interval(fit, ONE, "satterthwaite").df,
    }
    for key, value in found.items():
        assert value == pytest.approx(want[key], rel=1e-8), key
    assert sorted(fit.variances) == pytest.approx(sorted(want["variances"].values()), rel=1e-8)
