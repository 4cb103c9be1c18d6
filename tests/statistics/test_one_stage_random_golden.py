"""Random trial intercepts, alone or correlated with the effect, and several arms in one model."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiometa.pooling.first_stage.arm_sums import arm_sums
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.second_stage.one_stage import joint_model
from cardiometa.statistics.mixed.one_stage import contrast_interval
from tests.kit.one_stage import fit_of, sums_by_trial
from tests.statistics.test_one_stage_golden import people

FOLDER = Path(__file__).parents[1] / "golden" / "pooling"
GOLDEN = json.loads((FOLDER / "one_stage_random.json").read_text())
EFFECT = np.array([1.0, 0.0])
KINDS = ("intercept", "correlated")


def fitted(name, kind, residual, **options):
    sums = sums_by_trial(people(name), ["baseline"])
    return fit_of(sums, residual=residual, random=kind, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", GOLDEN["sets"])
@pytest.mark.parametrize("model", ["common", "common_ml"])
def test_lme4_pbkrtest_and_lmertest(name, kind, model):
    # Of the correlated fits, F (REML) and M are on the edge: a correlation of -1 or 1.
    want = GOLDEN["sets"][name][kind][model]
    fit = fitted(name, kind, "common", restricted=model == "common")
    assert fit.checks.converged
    assert fit.checks.scan_gain == 0
    assert fit.criterion == pytest.approx(want["criterion"], rel=1e-12)
    assert fit.beta == pytest.approx([want["estimate"], want["intercept"]], rel=1e-6)
    assert fit.covariance[0, 0] ** 0.5 == pytest.approx(want["se"], rel=1e-6)
    theta = np.append(fit.theta, 0.0)[:3]
    size = np.sqrt(np.outer(*2 * [np.maximum(theta[:2], 0.1)]))
    error = theta - want["theta"]
    assert np.abs(error / [size[0, 0], size[1, 1], size[0, 1]]).max() < 2e-6
    assert fit.variances[0] == pytest.approx(want["sigma2"], rel=1e-6)
    if model == "common":
        rogers = contrast_interval(fit, EFFECT, "kenward-roger")
        assert (rogers.se, rogers.df) == pytest.approx((want["kr_se"], want["kr_df"]), rel=1e-6)
        df = contrast_interval(fit, EFFECT, "satterthwaite").df
        assert df == pytest.approx(want["satterthwaite_df"], rel=2e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", GOLDEN["sets"])
def test_nlme(name, kind):
    want, fit = GOLDEN["sets"][name][kind]["by_trial"], fitted(name, kind, "by-trial")
    assert fit.criterion == pytest.approx(want["criterion"], rel=1e-9)
    assert fit.criterion <= want["criterion"] + 1e-9
    assert fit.beta[0] == pytest.approx(want["estimate"], rel=1e-4)
    assert fit.covariance[0, 0] ** 0.5 == pytest.approx(want["se"], rel=2e-4)
    assert fit.theta == pytest.approx(want["theta"][: len(fit.theta)], rel=2e-3)
    assert sorted(fit.variances) == pytest.approx(sorted(want["variances"].values()), rel=5e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("model", "residual"),
    [("dense_by_trial", "by-trial"), ("dense_by_arm", "by-trial-and-arm")],
)
def test_dense_matrices_of_the_rows(kind, model, residual):
    want, fit = GOLDEN["sets"]["M"][kind][model], fitted("M", kind, residual)
    same(fit, EFFECT, want)
    assert fit.theta == pytest.approx(want["theta"], rel=1e-8)
    assert sorted(fit.variances) == pytest.approx(sorted(want["variances"].values()), rel=1e-8)


@pytest.mark.parametrize("residual", ["common", "by-trial"])
def test_several_arms_with_a_shared_control(residual):
    rows = pd.read_csv(FOLDER / "multi_arm.csv").rename(columns={"lv_ef_percent": "outcome"})
    sums = [
        arm_sums(str(t), part, nuisance=part[["lv_ef_baseline"]], control="control")
        for t, part in rows.groupby("trial")
    ]
    joint = joint_model(
        sums, {one.trial: set(one.active) for one in sums}, PoolingOptions(residual=residual)
    )
    want = GOLDEN["arms"][residual.replace("-", "_")]
    assert joint.arms == ("high", "low")
    assert joint.fit.theta[0] == pytest.approx(want["tau2"], rel=1e-8)
    for name, contrast in (("low", [0, 1]), ("high", [1, 0]), ("high_low", [1, -1])):
        same(joint.fit, np.array(contrast, dtype=float), want[name])
    assert {arm: len(trials) for arm, trials in joint.trials.items()} == {"high": 4, "low": 4}


def same(fit, contrast, want):
    rogers = contrast_interval(fit, contrast, "kenward-roger")
    found = {
        "estimate": contrast @ fit.beta,
        "se": (contrast @ fit.covariance @ contrast) ** 0.5,
        "kr_se": rogers.se,
        "kr_df": rogers.df,
        "satterthwaite_df": contrast_interval(fit, contrast, "satterthwaite").df,
    }
    for key, value in found.items():
        assert value == pytest.approx(want[key], rel=1e-8), key
