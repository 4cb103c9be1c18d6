"""Missing outcomes: Rubin's rules against mice, our own draws against mice's norm, refusals."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiometa.cohort.analysis_table import read_analysis_table
from cardiometa.errors import TableError, UsageError
from cardiometa.pooling.first_stage.first_stage import draw_outcomes
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from tests.kit.pooling_tables import cohort_table, simulate_wide, to_long

FOLDER = Path(__file__).parents[1] / "golden" / "pooling"
GOLDEN = json.loads((FOLDER / "imputed.json").read_text())
WIDE = PoolingOptions(
    outcome="lv_ef_percent",
    baseline_column="lv_ef_baseline",
    min_cell=0,
    leave_one_out=False,
    model="two-stage",
)
IMPUTE = replace(WIDE, missing_outcome="impute", imputations=30)


def golden_rows():
    return pd.read_csv(FOLDER / "imputed.csv", dtype={"participant_id": str})


def trials_of(result):
    return {r.trial: r for r in result.effects if r.analysis == "trial"}


def headline(result):
    (row,) = [r for r in result.effects if r.analysis == "pooled" and r.headline]
    return row


def missing_at_random(trials=3, people=120, seed=1):
    wide = simulate_wide(trials, seed=seed, people=people)
    draw = np.random.default_rng(seed)
    gone = draw.random(len(wide)) < 1 / (1 + np.exp(0.12 * (wide["lv_ef_baseline"] - 42)))
    wide.loc[gone & (wide["trial"] != "T3"), "lv_ef_percent"] = np.nan
    return wide


def test_given_imputations_equal_mice_pool():
    result = pool_trials(cohort_table(golden_rows()), replace(WIDE, adjust=("age",)))
    rows = trials_of(result)
    for want in GOLDEN["trials"]:
        row = rows[want["trial"]]
        assert [row.estimate, row.se, row.df] == pytest.approx(
            [want["estimate"], want["se"], want["df"]], rel=1e-9
        )
        if want["ci_low"] is not None:
            assert [row.ci_low, row.ci_high] == pytest.approx([want["ci_low"], want["ci_high"]])
    pooled, want = headline(result), GOLDEN["pooled"]
    found = [pooled.estimate, pooled.se, pooled.ci_low, pooled.ci_high]
    assert found == pytest.approx([want[n] for n in ("estimate", "se", "ci_low", "ci_high")])
    assert "given imputations" in rows["ALPHA"].note
    assert "imputations" not in rows["CHARLIE"].note
    before = golden_rows().query("`.imp` == 0 and trial == 'BRAVO' and arm == 'active'")
    arm = next(r for r in result.by_arm if (r.trial, r.arm) == ("BRAVO", "active"))
    assert arm.no_outcome == before["lv_ef_percent"].isna().sum() > 0
    assert arm.analysed == arm.randomised == len(before)
    assert result.delta


def test_draws_have_the_moments_of_mice_norm():
    want = GOLDEN["draws"]
    rows = golden_rows().query("`.imp` == 0 and trial == 'BRAVO' and arm == 'active'")
    x = rows[["lv_ef_baseline", "age_years"]].to_numpy()
    y, lack = rows["lv_ef_percent"].to_numpy(), rows["lv_ef_percent"].isna().to_numpy()
    drawn = draw_outcomes(
        y[~lack], x[~lack], x[lack], imputations=4000, generator=np.random.default_rng(11)
    )
    assert drawn.shape == (4000, want["missing"])
    spread = np.array(want["person_sd"])
    error = spread * np.sqrt(2 / 4000)  # both are means of 4000 draws
    assert (np.abs(drawn.mean(axis=0) - want["person_mean"]) < 4 * error).all()
    assert drawn.std(axis=0, ddof=1) == pytest.approx(spread, rel=0.07)
    # Draws of one data set share coefficients and variance: the mean varies more than if alone.
    assert drawn.mean(axis=1).std(ddof=1) == pytest.approx(want["sd_of_mean"], rel=0.07)


def test_everyone_randomised_is_analysed_and_the_complete_cases_stand_beside():
    wide = missing_at_random()
    result = pool_trials(cohort_table(wide), IMPUTE)
    complete = pool_trials(cohort_table(wide), WIDE)
    assert result.accounting.analysed == len(wide)
    (beside,) = [r for r in result.effects if "complete cases" in r.note]
    assert beside.estimate == pytest.approx(headline(complete).estimate)
    rows, alone = trials_of(result), trials_of(complete)
    # The imputation model has ANCOVA's own variables: no gain but the arms' own slopes.
    for trial in ("T1", "T2"):
        near = 0.7 * alone[trial].se
        assert rows[trial].estimate == pytest.approx(alone[trial].estimate, abs=near)
        assert rows[trial].df < rows[trial].n_control + rows[trial].n_active - 3
    assert (rows["T3"].estimate, rows["T3"].se) == (alone["T3"].estimate, alone["T3"].se)


def test_draws_hang_on_the_seed_and_on_nothing_else():
    wide = missing_at_random()
    base = trials_of(pool_trials(cohort_table(wide), IMPUTE))
    again = trials_of(pool_trials(cohort_table(wide.sample(frac=1, random_state=2)), IMPUTE))
    fewer = trials_of(pool_trials(cohort_table(wide[wide["trial"] != "T1"]), IMPUTE))
    other = trials_of(pool_trials(cohort_table(wide), replace(IMPUTE, seed=2)))
    assert again["T2"].estimate == pytest.approx(base["T2"].estimate, rel=1e-12)
    assert fewer["T2"].estimate == pytest.approx(base["T2"].estimate, rel=1e-12)
    assert other["T2"].estimate != base["T2"].estimate


def test_the_dead_are_imputed_for_the_hypothetical_estimand_alone():
    wide = missing_at_random()
    wide["death_day"] = np.nan
    gone = wide.index[wide["lv_ef_percent"].isna()]
    wide.loc[gone[:10], "death_day"] = 90.0
    alive = pool_trials(cohort_table(wide), IMPUTE)
    assert alive.accounting.excluded == {"died": 10}
    everyone = pool_trials(cohort_table(wide), replace(IMPUTE, estimand="hypothetical"))
    assert everyone.accounting.excluded == {}


def test_change_is_imputed_from_the_follow_up():
    result = pool_trials(cohort_table(missing_at_random()), replace(IMPUTE, effect="change"))
    assert headline(result).estimate is not None
    assert result.accounting.analysed == result.accounting.participants


def test_an_arm_too_thin_to_impute_stays_complete_cases():
    wide = simulate_wide(2, people=60)
    active = wide.index[(wide["trial"] == "T1") & (wide["arm"] == "active")]
    wide.loc[active[3:], "lv_ef_percent"] = np.nan
    result = pool_trials(cohort_table(wide), IMPUTE)
    row = trials_of(result)["T1"]
    assert "too few outcomes" in row.note
    assert row.n_active == 3
    assert result.accounting.excluded == {"no-outcome": len(active) - 3}


def test_long_tables_of_imputations_are_read(tmp_path):
    wide = simulate_wide(2, people=40)
    draw = np.random.default_rng(1)
    parts = []
    for number in (1, 2, 3):
        copy = wide.copy()
        copy.loc[copy.index[:6], "lv_ef_percent"] += draw.normal(0, 3, 6)
        parts.append(to_long(copy).assign(**{".imp": number}))
    path = tmp_path / "long.csv"
    pd.concat(parts).to_csv(path, index=False)
    options = PoolingOptions(outcome="lv_ef_percent", min_cell=0, model="two-stage")
    result = pool_trials(read_analysis_table(path), options)
    assert trials_of(result)["T1"].note == "given imputations"
    assert result.accounting.analysed == len(wide)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda rows: rows[rows[".imp"] <= 1], "1 completed copy"),
        (lambda rows: rows.drop(index=rows.index[-1]), "not those of"),
        (lambda rows: rows.assign(**{".imp": rows[".imp"] + 0.5}), "not whole numbers"),
    ],
)
def test_imputations_that_do_not_fit_are_refused(spoil, words):
    with pytest.raises(TableError) as caught:
        pool_trials(cohort_table(spoil(golden_rows())), WIDE)
    assert any(words in str(problem) for problem in caught.value.problems)


@pytest.mark.parametrize(
    "changes",
    [
        {"effect": "odds-ratio"},
        {"estimand": "worst-rank"},
        {"model": "one-stage"},
        {"imputations": 1},
    ],
)
def test_options_that_do_not_go_with_imputation(changes):
    with pytest.raises(UsageError):
        replace(IMPUTE, **changes)
