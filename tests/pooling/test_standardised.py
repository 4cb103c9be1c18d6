"""Standardised mean differences against metafor's SMD and the formula on R's lm."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cardiometa.errors import UsageError
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from tests.kit.pooling_tables import cohort_table

FOLDER = Path(__file__).parents[1] / "golden" / "pooling"
GOLDEN = json.loads((FOLDER / "standardised.json").read_text())
OPTIONS = PoolingOptions(
    outcome="lv_ef_percent",
    effect="standardised-mean-difference",
    min_cell=0,
    leave_one_out=False,
)


@pytest.mark.parametrize(("baseline", "key"), [(None, "plain"), ("lv_ef_baseline", "ancova")])
def test_equal_to_r(baseline, key):
    rows = pd.read_csv(FOLDER / "trials.csv", dtype={"participant_id": str})
    result = pool_trials(cohort_table(rows), replace(OPTIONS, baseline_column=baseline))
    found = {r.trial: r for r in result.effects if r.analysis == "trial" and r.arm == "active"}
    assert len(GOLDEN[key]) == 5
    for want in GOLDEN[key]:
        row = found[want["trial"]]
        assert (row.estimate, row.se) == pytest.approx((want["estimate"], want["se"]), rel=1e-9)
    assert {r.model for r in result.effects} == {"two-stage"}
    assert result.unit == ""


def test_the_unit_of_a_trial_does_not_matter():
    rows = pd.read_csv(FOLDER / "trials.csv", dtype={"participant_id": str})
    options = replace(OPTIONS, baseline_column="lv_ef_baseline")
    base = pool_trials(cohort_table(rows), options)
    other = rows.copy()
    other.loc[other["trial"] == "ECHO", ["lv_ef_percent", "lv_ef_baseline"]] /= 100
    again = pool_trials(cohort_table(other), options)
    for first, second in zip(base.effects, again.effects, strict=True):
        assert second.estimate == pytest.approx(first.estimate, rel=1e-9)


@pytest.mark.parametrize(
    "changes", [{"by": ("sex",)}, {"model": "one-stage"}, {"estimand": "worst-rank"}]
)
def test_what_does_not_go_with_it(changes):
    with pytest.raises(UsageError):
        replace(OPTIONS, **changes)
