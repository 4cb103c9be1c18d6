"""Egger's test against metafor."""

import json
from pathlib import Path

import numpy as np
import pytest

from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.results import Study
from cardiometa.pooling.second_stage.two_stage import effect_rows
from cardiometa.statistics.meta import egger

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "pooling" / "egger.json").read_text())


@pytest.mark.parametrize("name", ["bcg", "egger2001"])
def test_metafor(name):
    want = GOLDEN[name]
    estimate, interval = egger(np.array(want["y"]), np.array(want["v"]))
    assert (estimate, interval.se) == pytest.approx((want["intercept"], want["se"]), rel=1e-8)
    assert interval.df == want["df"]
    assert interval.p == pytest.approx(want["p"], rel=1e-8)


@pytest.mark.parametrize("k", [9, 10])
def test_only_from_ten_trials_on(k):
    want = GOLDEN["egger2001"]
    studies = [
        Study(trial=f"T{i}", arm="a", control="c", estimate=want["y"][i], se=want["v"][i] ** 0.5)
        for i in range(k)
    ]
    rows = effect_rows(studies, PoolingOptions(outcome="x", effect="odds-ratio"))
    assert len([row for row in rows if row.analysis == "small-study"]) == (k >= 10)
