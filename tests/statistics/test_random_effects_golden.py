"""The second stage against R's metafor on published data sets (tests/golden/pooling)."""

import json
from pathlib import Path

import numpy as np
import pytest

from cardiometa.statistics.meta import (
    CI_METHODS,
    METHODS,
    pool_estimates,
    pooled_interval,
    prediction_interval,
    q_profile,
    tau2_standard_error,
)

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "pooling" / "second_stage.json").read_text()
)
RELATIVE = GOLDEN["tolerance"]["default_relative"]
SETS = sorted(GOLDEN["sets"])


def close(value, expected):
    return value == pytest.approx(expected, rel=RELATIVE, abs=1e-12)


def data(name):
    entry = GOLDEN["sets"][name]
    return entry, np.array(entry["yi"]), np.array(entry["vi"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SETS)
def test_estimate_and_heterogeneity_equal_metafor(name, method):
    entry, y, v = data(name)
    expected = entry["methods"][method]
    fit = pool_estimates(y, v, method)
    assert close(fit.estimate, expected["estimate"])
    assert close(fit.tau2, expected["tau2"])
    assert close(fit.i2_percent, expected["i2"])
    assert close(fit.h2, expected["h2"])
    assert close(fit.q, expected["q"])
    assert close(fit.q_p, expected["q_p"])
    # weights() of a one-percent scale; rma keeps the order of the rows.
    assert fit.weights == pytest.approx(expected["weights"], rel=RELATIVE)
    if method in ("reml", "ml"):
        assert close(tau2_standard_error(fit, v), expected["se_tau2"])


@pytest.mark.parametrize("ci", CI_METHODS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SETS)
def test_intervals_equal_metafor(name, method, ci):
    entry, y, v = data(name)
    expected = entry["methods"][method][ci]
    interval = pooled_interval(pool_estimates(y, v, method), ci)
    for value, key in (
        (interval.se, "se"),
        (interval.low, "ci_low"),
        (interval.high, "ci_high"),
        (interval.p, "p"),
    ):
        assert close(value, expected[key]), key


@pytest.mark.parametrize("method", [m for m in METHODS if m != "fe"])
@pytest.mark.parametrize("name", SETS)
def test_prediction_intervals_equal_metafor(name, method):
    """metafor: z beside Wald (we always use t), t(k-1) beside HKSJ, k-2 with pi.type='riley'."""
    entry, y, v = data(name)
    fit = pool_estimates(y, v, method)
    for ci in CI_METHODS:
        expected = entry["methods"][method][ci]
        se = pooled_interval(fit, ci).se
        if len(y) < 3:  # metafor still prints one, with df forced to 1
            assert prediction_interval(fit, se, "k-1") is None
            continue
        riley = prediction_interval(fit, se, "k-2")
        assert close(riley[0], expected["pi_riley_low"])
        assert close(riley[1], expected["pi_riley_high"])
        if ci != "wald":
            ours = prediction_interval(fit, se, "k-1")
            assert close(ours[0], expected["pi_low"])
            assert close(ours[1], expected["pi_high"])


@pytest.mark.parametrize("name", SETS)
def test_q_profile_equals_metafor(name):
    entry, y, v = data(name)
    expected = entry["q_profile"]
    limits = q_profile(y, v)
    if name == "alike":
        # metafor prints 0 to 0 and says it means the empty set; here it is none.
        assert limits.empty
        assert limits.tau2 is None
        assert expected["low"][0] == expected["high"][0] == 0
        return
    assert not limits.empty
    for ours, position in ((limits.tau2, 0), (limits.i2_percent, 2), (limits.h2, 3)):
        assert close(ours[0], expected["low"][position])
        assert close(ours[1], expected["high"][position])


@pytest.mark.parametrize("name", SETS)
def test_leave_one_out_equals_metafor(name):
    entry, y, v = data(name)
    expected = entry["leave_one_out_dl"]
    for i in range(len(y)):
        fit = pool_estimates(np.delete(y, i), np.delete(v, i), "dl")
        assert close(fit.estimate, expected["estimate"][i])
        assert close(fit.se_wald, expected["se"][i])
        assert close(fit.tau2, expected["tau2"][i])


def test_bcg_is_what_the_paper_prints():
    """Viechtbauer 2010, J Stat Softw 36(3), section 3: -0.7145 (-1.0669, -0.3622)."""
    _, y, v = data("bcg")
    fit = pool_estimates(y, v, "reml")
    wald = pooled_interval(fit, "wald")
    assert round(fit.tau2, 4) == 0.3132
    assert round(fit.i2_percent, 2) == 92.22
    assert (round(fit.estimate, 4), round(wald.low, 4), round(wald.high, 4)) == (
        -0.7145,
        -1.0669,
        -0.3622,
    )
