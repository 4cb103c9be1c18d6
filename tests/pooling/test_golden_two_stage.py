"""The whole two-stage analysis against R's lm in each trial and metafor over them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from tests.kit.pooling_tables import cohort_table, to_long

FOLDER = Path(__file__).parents[1] / "golden" / "pooling"
GOLDEN = json.loads((FOLDER / "two_stage.json").read_text())
TRIAL_TOLERANCE = GOLDEN["tolerance"]["trials_relative"]
POOLED_TOLERANCE = GOLDEN["tolerance"]["pooled_relative"]
VARIANTS = {
    "ancova": {},
    "ancova_adjusted": {"adjust": ("age", "sex")},
    "ancova_complete": {"adjust": ("age", "sex"), "missing_baseline": "complete"},
    "change": {"effect": "change"},
    "follow_up": {"effect": "follow-up"},
}


def wide_rows():
    return pd.read_csv(FOLDER / "trials.csv", dtype={"participant_id": str})


def result_of(variant, form):
    options = {"outcome": "lv_ef_percent", "min_cell": 0, **VARIANTS[variant]}
    if form == "wide":
        rows = wide_rows()
        options["baseline_column"] = "lv_ef_baseline"
        return pool_trials(cohort_table(rows), PoolingOptions(**options))
    # In the long form those without any scan are known from the roster alone.
    rows = wide_rows()
    return pool_trials(cohort_table(to_long(rows)), PoolingOptions(**options), roster=rows)


@pytest.mark.parametrize("form", ["wide", "long"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_trials_equal_lm(variant, form):
    result = result_of(variant, form)
    rows = {(r.trial, r.arm): r for r in result.effects if r.analysis == "trial"}
    expected = GOLDEN["variants"][variant]["trials"]
    assert len(rows) == len(expected) == 7
    for want in expected:
        row = rows[want["trial"], want["arm"]]
        assert (row.n_control, row.n_active) == (want["n_control"], want["n_active"])
        assert row.df == want["df"]
        for name in ("estimate", "se", "ci_low", "ci_high"):
            assert getattr(row, name) == pytest.approx(want[name], rel=TRIAL_TOLERANCE), name
        assert row.p == pytest.approx(want["p"], rel=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_pooled_equals_metafor(variant):
    result = result_of(variant, "wide")
    want = GOLDEN["variants"][variant]["pooled"]
    pooled = [r for r in result.effects if r.analysis == "pooled" and r.arm == "active"]
    random = {r.ci_method: r for r in pooled if r.tau2_method == "reml" and not r.note}
    assert set(random) == {"wald", "hksj", "hksj-truncated"}
    for method, row in random.items():
        expected = {
            **want[method],
            "estimate": want["estimate"],
            "q": want["q"],
            "q_p": want["q_p"],
        }
        if method == "wald":  # metafor takes z for its prediction interval here; ours is always t
            del expected["pi_low"], expected["pi_high"]
        for name, value in expected.items():
            assert getattr(row, name) == pytest.approx(value, rel=POOLED_TOLERANCE), (method, name)
        assert row.tau2 == pytest.approx(want["tau2"], rel=POOLED_TOLERANCE, abs=1e-9)
        assert row.i2_percent == pytest.approx(want["i2"], rel=POOLED_TOLERANCE, abs=1e-7)
        assert row.k == 6
        assert row.headline is (method == "hksj-truncated")
    common = next(r for r in pooled if r.tau2_method == "fe")
    assert common.estimate == pytest.approx(want["common_estimate"], rel=POOLED_TOLERANCE)
    assert common.ci_low == pytest.approx(want["common"]["ci_low"], rel=POOLED_TOLERANCE)
    weights = [
        r.weight_percent for r in result.effects if r.analysis == "trial" and r.arm == "active"
    ]
    assert weights == pytest.approx(want["weights"], rel=POOLED_TOLERANCE)
    loo = [
        r
        for r in result.effects
        if r.analysis == "leave-one-out" and r.arm == "active" and r.headline
    ]
    for i, row in enumerate(loo):
        for name in ("estimate", "se", "ci_low", "ci_high"):
            expected = want["leave_one_out"][name][i]
            assert getattr(row, name) == pytest.approx(expected, rel=POOLED_TOLERANCE)
    assert len(loo) == 6
    line = next(r for r in result.heterogeneity if r.arm == "active" and r.headline)
    assert (line.tau2_low, line.tau_low, line.i2_low, line.h2_low) == pytest.approx(
        want["q_profile"]["low"], rel=POOLED_TOLERANCE, abs=1e-9
    )
    assert (line.tau2_high, line.tau_high, line.i2_high, line.h2_high) == pytest.approx(
        want["q_profile"]["high"], rel=POOLED_TOLERANCE
    )


def test_a_column_that_is_constant_in_one_trial_is_noted():
    rows = result_of("ancova_adjusted", "wide").effects
    echo = next(r for r in rows if r.analysis == "trial" and r.trial == "ECHO")
    assert "sex=male" in echo.note


@pytest.mark.parametrize("missing", ["mean", "complete"])
def test_a_covariate_of_words_equals_lm(missing):
    rows = pd.read_csv(FOLDER / "categories.csv", dtype={"participant_id": str})
    options = PoolingOptions(
        outcome="lv_ef_percent",
        baseline_column="lv_ef_baseline",
        adjust=("nyha",),
        missing_baseline=missing,
        min_cell=0,
    )
    result = pool_trials(cohort_table(rows), options)
    found = {(r.trial, r.arm): r for r in result.effects if r.analysis == "trial"}
    expected = json.loads((FOLDER / "categories.json").read_text())[missing]
    assert len(found) == len(expected) == 5
    for want in expected:
        row = found[want["trial"], want["arm"]]
        assert row.df == want["df"]
        for name in ("estimate", "se"):
            assert getattr(row, name) == pytest.approx(want[name], rel=TRIAL_TOLERANCE), name
    assert "nyha=II" in found["T4", "low"].note
