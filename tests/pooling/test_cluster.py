"""Cluster-randomised trials: against lme4 and pbkrtest, and what is refused."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import EstimationError, TableError, UsageError
from cardiometa.pooling.endpoint.analysis_set import Analysed
from cardiometa.pooling.first_stage.arm_sums import arm_sums, effects_of_trial
from cardiometa.pooling.first_stage.trial_models import cluster_studies
from cardiometa.pooling.integrity import TrialFacts
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from tests.kit.pooling_tables import cohort_table, simulate_wide, to_long

FOLDER = Path(__file__).parents[1] / "golden" / "pooling"
GOLDEN = json.loads((FOLDER / "cluster.json").read_text())
OPTIONS = PoolingOptions(
    outcome="lv_ef_percent",
    baseline_column="lv_ef_baseline",
    cluster="ward",
    min_cell=0,
    leave_one_out=False,
)


def rows():
    return pd.read_csv(FOLDER / "cluster.csv", dtype={"participant_id": str})


def pool(table, options=OPTIONS, **more):
    return pool_trials(cohort_table(table), options, **more)


@cache
def golden_pool(adjust=()):
    return pool(rows(), replace(OPTIONS, adjust=adjust))


def of_trials(result):
    return {(r.trial, r.arm): r for r in result.effects if r.analysis == "trial"}


@pytest.mark.parametrize(("name", "adjust"), [("ancova", ()), ("adjusted", ("age",))])
def test_trials_equal_lme4_with_kenward_roger(name, adjust):
    found = of_trials(golden_pool(adjust))
    assert len(found) == 6
    for (trial, arm), row in found.items():
        want = GOLDEN[name][trial][arm]
        # lme4 looks for its optimum without derivatives.
        assert (row.estimate, row.se) == pytest.approx((want["estimate"], want["se"]), rel=1e-6)
        assert row.df == pytest.approx(want["df"], rel=1e-5)
        assert ("cluster-randomised" in row.note) == (trial != "EINER")
    between, within = (GOLDEN[name]["AKER"]["active"][key] for key in ("between", "within"))
    assert f"ICC {between / (between + within):.3f}" in found["AKER", "active"].note


def test_the_pooled_effect_equals_metafor_and_stands_alone():
    result = golden_pool()
    (row,) = [r for r in result.effects if r.analysis == "pooled" and r.headline and r.k == 5]
    for key, want in GOLDEN["pooled"].items():
        assert getattr(row, key) == pytest.approx(want, rel=1e-5), key
    assert {r.model for r in result.effects} == {"two-stage"}
    assert not result.checks
    assert any("only the two-stage model is fitted" in w for w in result.warnings)
    assert "random intercept of ward" in result.methods
    assert "One-stage" not in result.methods


def test_clusters_widen_what_they_should_and_nothing_else():
    """Ignored, the clusters of AKER would give an SE of a half."""
    clustered = of_trials(golden_pool())
    plain = of_trials(pool(rows(), replace(OPTIONS, cluster=None, model="two-stage")))
    assert clustered["AKER", "active"].se > 1.8 * plain["AKER", "active"].se
    assert clustered["AKER", "active"].df < 20 < plain["AKER", "active"].df
    one, other = (replace(found["EINER", "active"], note="") for found in (clustered, plain))
    assert replace(one, weight_percent=None) == replace(other, weight_percent=None)


def test_names_and_order_of_clusters_do_not_matter():
    base = of_trials(golden_pool())["CLAVA", "active"]
    table = rows()[rows()["trial"] == "CLAVA"]
    table["ward"] = table["ward"].map(lambda w: f"x-{w[::-1]}", na_action="ignore")
    other = of_trials(pool(table.sample(frac=1, random_state=2)))["CLAVA", "active"]
    assert (other.estimate, other.se, other.df) == pytest.approx((base.estimate, base.se, base.df))


def test_an_interval_of_clusters_covers_what_it_says():
    """No effect, ICC 0.2, ten clusters of twelve: intervals that ignore them hold about 73 %."""
    draw = np.random.default_rng(7)
    hits = {"cluster": 0, "ignored": 0}
    runs = 40
    for _ in range(runs):
        ward = np.repeat(np.arange(10), 12)
        people = pd.DataFrame(
            {
                "arm": np.where(ward % 2, "active", "control"),
                "outcome": draw.normal(50, 2, 10)[ward] + draw.normal(0, 4, 120),
                "cluster": [f"W{w}" for w in ward],
            }
        )
        trial = Analysed(
            trial="A", rows=people, nuisance=pd.DataFrame(index=people.index), imputed={}
        )
        sums = arm_sums("A", people, nuisance=trial.nuisance, control="control")
        for name, (study,) in (
            ("cluster", cluster_studies(trial, OPTIONS)),
            ("ignored", effects_of_trial(sums)),
        ):
            hits[name] += abs(study.estimate) < stats.t.ppf(0.975, study.df) * study.se
    assert hits["cluster"] >= 0.9 * runs
    assert hits["ignored"] <= 0.84 * runs


def test_an_arm_of_one_cluster_gives_no_effect():
    table = rows()
    table = table[table["trial"].isin(["AKER", "CLAVA"])]
    lone = (table["trial"] == "AKER") & (table["arm"] == "active")
    table.loc[lone, "ward"] = "W02"
    found = of_trials(pool(table))
    assert found["AKER", "active"].estimate is None
    assert "fewer than two clusters" in found["AKER", "active"].note
    assert found["CLAVA", "active"].estimate is not None
    with pytest.raises(EstimationError, match="fewer than two clusters"):
        pool(table[table["trial"] == "AKER"])


def test_clusters_that_are_missing_or_change_are_refused():
    table = rows()
    gaps = table.assign(ward=table["ward"].mask(table.index % 40 == 0))
    with pytest.raises(TableError, match="some clusters are unknown") as caught:
        pool(gaps)
    assert any("AKER" in str(problem) for problem in caught.value.problems)
    wide = simulate_wide(3).assign(ward=lambda d: np.resize([f"W{i}" for i in range(12)], len(d)))
    long = to_long(wide)
    long.loc[long.index[1], "ward"] = "elsewhere"
    with pytest.raises(TableError, match="changes within a participant"):
        pool(long, replace(OPTIONS, baseline_column=None))
    with pytest.raises(TableError, match="--cluster"):
        pool(rows(), replace(OPTIONS, cluster="centre"))
    # Wards numbered anew in each arm: taken as one they halve the standard error.
    by_arm = table.groupby(["trial", "arm"])["ward"].rank(method="dense")
    with pytest.raises(TableError, match="of several arms") as caught:
        pool(table.assign(ward=by_arm))
    assert {p.where for p in caught.value.problems} >= {"trial AKER", "trial CLAVA"}


@pytest.mark.parametrize(
    "changes",
    [
        {"by": ("age",)},
        {"model": "one-stage"},
        {"effect": "odds-ratio"},
        {"effect": "standardised-mean-difference"},
        {"missing_outcome": "impute"},
        {"compare_reported": True},
        {"estimand": "worst-rank"},
    ],
)
def test_what_does_not_go_with_clusters_is_refused(changes):
    with pytest.raises(UsageError, match="--cluster cannot be combined"):
        replace(OPTIONS, **changes)


def test_a_trial_known_to_have_randomised_clusters_is_not_analysed_as_if_individuals_were():
    facts = {"AKER": TrialFacts(design="cluster-randomised"), "EINER": TrialFacts(design="cluster")}
    with pytest.raises(TableError, match="as if individuals") as caught:
        pool(rows(), replace(OPTIONS, cluster=None), facts=facts)
    assert len(caught.value.problems) == 2
    with pytest.raises(TableError, match="as if individuals") as caught:
        pool(rows(), facts=facts)  # EINER has no cluster
    assert "EINER" in str(caught.value.problems[0])
    facts = {"AKER": facts["AKER"], "EINER": TrialFacts(design="crossover", n_randomised=200)}
    result = pool(rows(), facts=facts)
    assert any("Crossover by its design: EINER" in w for w in result.warnings)
    (row,) = [r for r in result.integrity if r.check == "n-randomised"]
    assert (row.trial, row.result, row.n_checked, row.n_found) == ("EINER", "review", 180, 20)
    assert "fewer than the 200 stated" in row.sentence


def test_the_facts_are_read_beside_the_measurements(tmp_path):
    seg = tmp_path / "seg"
    seg.mkdir()
    long = to_long(simulate_wide(3))
    long.assign(status="ok").to_csv(seg / "measurements.csv", index=False)
    long.drop_duplicates("participant_id")[["trial", "participant_id", "arm"]].to_csv(
        seg / "participants.csv", index=False
    )
    (seg / "cardiometa.json").write_text("{}")
    trials = {"T1": {"design": "parallel", "n_randomised": 90}, "T2": {"design": "cluster"}}
    (seg / "measurements.json").write_text(json.dumps({"trials": trials}))
    command = ["pool-trials", str(seg), "--out", str(tmp_path / "o"), "--outcome", "lv_ef_percent"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 3, done.output
    assert "--cluster" in done.output
    trials["T2"]["design"] = "parallel"
    (seg / "measurements.json").write_text(json.dumps({"trials": trials}))
    done = CliRunner().invoke(app, [*command, "--model", "two-stage", "--no-leave-one-out"])
    assert done.exit_code == 0, done.output
    integrity = pd.read_csv(tmp_path / "o" / "integrity.csv")
    (row,) = integrity[integrity["check"] == "n-randomised"].to_dict("records")
    assert (row["trial"], row["result"]) == ("T1", "review")
