"""Shared controls in one model; published effects beside participants': as in metafor."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiometa.pooling.aggregate_effects import source_fit, source_rows
from cardiometa.pooling.first_stage.first_stage import first_stage
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import SummaryTable, pool_trials
from cardiometa.pooling.results import Study
from cardiometa.pooling.second_stage.one_stage import joint_fit
from tests.kit.pooling_tables import cohort_table, simulate_wide

FOLDER = Path(__file__).parents[1] / "golden" / "pooling"
GOLDEN = json.loads((FOLDER / "multi_arm.json").read_text())
WIDE = PoolingOptions(
    outcome="lv_ef_percent",
    baseline_column="lv_ef_baseline",
    min_cell=0,
    leave_one_out=False,
    model="two-stage",
)


def golden_table():
    return cohort_table(pd.read_csv(FOLDER / "multi_arm.csv", dtype={"participant_id": str}))


def test_the_joint_model_equals_rma_mv():
    stage = first_stage(golden_table(), WIDE)
    joint = joint_fit(stage.sums, stage.studies, WIDE)
    order = [joint.arms.index(arm) for arm in GOLDEN["arms"]]
    # rma.mv's optimiser is good to some 1e-7 of tau².
    assert joint.fit.tau2 == pytest.approx(GOLDEN["tau2"], rel=1e-5)
    assert joint.fit.coefficients[order] == pytest.approx(GOLDEN["estimate"], rel=1e-6)
    errors = np.sqrt(np.diag(joint.fit.covariance))[order]
    assert errors == pytest.approx(GOLDEN["se_wald"], rel=1e-6)
    assert joint.fit.q_ratio == pytest.approx(GOLDEN["q_ratio"], rel=1e-5)
    assert joint.fit.df == GOLDEN["df"]


def test_joint_rows_stand_beside_and_compare_the_active_arms():
    result = pool_trials(golden_table(), replace(WIDE, ci="wald"))
    rows = {(r.arm, r.control): r for r in result.effects if "all arms in one model" in r.note}
    assert set(rows) == {("high", "control"), ("low", "control"), ("low", "high")}
    want = GOLDEN["contrast"]
    row = rows["low", "high"]
    assert -row.estimate == pytest.approx(want["estimate"], rel=1e-5)
    assert row.se == pytest.approx(want["se_wald"], rel=1e-5)
    assert (row.k, rows["low", "control"].k) == (6, 4)
    assert not any(r.headline for r in rows.values())


def test_one_active_arm_a_trial_has_no_joint_model():
    result = pool_trials(cohort_table(simulate_wide(3)), WIDE)
    assert not any("all arms" in r.note for r in result.effects)


def studies_of_two_sources():
    want = GOLDEN["source"]
    return [
        Study(trial=t, arm="low", control="control", estimate=y, se=se, aggregate=not ipd)
        for t, y, se, ipd in zip(
            want["trials"], want["y"], want["errors"], want["participants"], strict=True
        )
    ]


def test_the_difference_of_sources_equals_metafor():
    want = GOLDEN["source"]
    fit = source_fit(studies_of_two_sources(), "reml")
    assert fit.tau2 == pytest.approx(want["tau2"], rel=1e-6)
    (row,) = [r for r in source_rows(studies_of_two_sources(), WIDE) if r.term != "treatment"]
    assert [row.estimate, row.se, row.p, row.ci_low, row.ci_high] == pytest.approx(
        [want[n] for n in ("difference", "se", "p", "ci_low", "ci_high")], rel=1e-6
    )
    assert (row.term, row.level) == ("treatment:source", "participants vs summaries")


def test_published_effects_are_pooled_alone_too():
    summaries = SummaryTable(
        rows=pd.DataFrame({"trial": ["P1", "P2"], "estimate": [1.0, 2.0], "se": [0.8, 0.9]}),
        name="published.csv",
    )
    result = pool_trials(cohort_table(simulate_wide(3)), WIDE, summaries=summaries)
    notes = [r.note for r in result.effects if r.analysis == "pooled"]
    assert sum("published effects only" in note for note in notes) == 1
    assert sum("participants' data only" in note for note in notes) == 1
    assert sum("less published effects" in note for note in notes) == 1
