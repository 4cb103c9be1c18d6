"""The whole way from a table to one-stage rows against lme4, pbkrtest and the dense formulas."""

import json
from pathlib import Path

import pandas as pd
import pytest

from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from tests.kit.pooling_tables import cohort_table

FOLDER = Path(__file__).parents[1] / "golden" / "pooling"
GOLDEN = json.loads((FOLDER / "one_stage.json").read_text())["sets"]
RANDOM = json.loads((FOLDER / "one_stage_random.json").read_text())["sets"]


def one_stage_rows(name, **changes):
    rows = pd.read_csv(FOLDER / "one_stage_people.csv")
    options = PoolingOptions(
        outcome="lv_ef_percent", baseline_column="lv_ef_baseline", min_cell=0, **changes
    )
    result = pool_trials(cohort_table(rows[rows["set"] == name]), options)
    return {
        row.ci_method: row
        for row in result.effects
        if row.model == "one-stage" and row.analysis == "pooled" and "sensitivity" not in row.note
    }


@pytest.mark.parametrize(
    ("name", "model", "changes"),
    [
        ("S", "common", {"residual": "common"}),
        ("S", "common_age", {"residual": "common", "adjust": ("age",)}),
        ("F", "common", {"residual": "common"}),
        ("F", "dense_by_trial", {}),
        ("M", "dense_by_trial", {}),
        ("M", "dense_by_arm", {"residual": "by-trial-and-arm"}),
    ],
)
def test_rows_equal_the_peers(name, model, changes):
    want, rows = GOLDEN[name][model], one_stage_rows(name, **changes)
    rogers = rows["kenward-roger"]
    assert rogers.headline
    assert rogers.estimate == pytest.approx(want["estimate"], rel=1e-6)
    assert rogers.se == pytest.approx(want["kr_se"], rel=1e-6)
    assert rogers.df == pytest.approx(want["kr_df"], rel=1e-6)
    assert rogers.tau2 == pytest.approx(want["tau2"], rel=1e-6, abs=1e-9)
    assert rows["wald"].se == pytest.approx(want["se"], rel=1e-6)
    assert rows["satterthwaite"].df == pytest.approx(want["satterthwaite_df"], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "kind", "model", "residual"),
    [
        ("S", "intercept", "common", "common"),
        ("F", "correlated", "common", "common"),
        ("M", "intercept", "dense_by_arm", "by-trial-and-arm"),
        ("M", "correlated", "dense_by_trial", "by-trial"),
    ],
)
def test_random_intercepts_equal_the_peers(name, kind, model, residual):
    want = RANDOM[name][kind][model]
    rows = one_stage_rows(name, random_effects=kind, residual=residual)
    rogers = rows["kenward-roger"]
    assert rogers.headline
    assert "random trial intercepts (SD" in rogers.note
    assert ("correlation" in rogers.note) == (kind == "correlated")
    assert rogers.estimate == pytest.approx(want["estimate"], rel=1e-6)
    assert (rogers.se, rogers.df) == pytest.approx((want["kr_se"], want["kr_df"]), rel=1e-6)
    assert rogers.tau2 == pytest.approx(want["theta"][0], rel=5e-6)
    assert rows["satterthwaite"].df == pytest.approx(want["satterthwaite_df"], rel=2e-6)
