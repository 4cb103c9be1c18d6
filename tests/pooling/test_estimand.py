"""Deaths, those who did not come, and what is asked about them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiometa.errors import TableError, UsageError
from cardiometa.pooling.first_stage.trial_models import mann_whitney
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from tests.kit.pooling_tables import cohort_table, simulate_wide

FOLDER = Path(__file__).parents[1] / "golden" / "pooling"
GOLDEN = json.loads((FOLDER / "worst_rank.json").read_text())
WIDE = PoolingOptions(
    outcome="lv_ef_percent",
    baseline_column="lv_ef_baseline",
    min_cell=0,
    leave_one_out=False,
    model="two-stage",
)


def golden_rows():
    return pd.read_csv(FOLDER / "worst_rank.csv", dtype={"participant_id": str})


def headline(result):
    (row,) = [r for r in result.effects if r.analysis == "pooled" and r.headline]
    return row


def sick_missing():
    """The sickest 15 % of one arm of T2 have no follow-up scan."""
    wide = simulate_wide(3, people=160)
    arm = wide[(wide["trial"] == "T2") & (wide["arm"] == "active")].sort_values("lv_ef_baseline")
    wide.loc[arm.index[: round(0.15 * len(arm))], "lv_ef_percent"] = np.nan
    return wide


def test_win_odds_equal_the_definition_in_r():
    result = pool_trials(cohort_table(golden_rows()), replace(WIDE, estimand="worst-rank"))
    rows = {r.trial: r for r in result.effects if r.analysis == "trial"}
    for want in GOLDEN["trials"]:
        row = rows[want["trial"]]
        assert (row.n_active, row.n_control) == (want["n_active"], want["n_control"])
        assert (row.estimate, row.se) == pytest.approx((want["estimate"], want["se"]), rel=1e-10)
        assert row.effect == "win-odds"
    pooled, want = headline(result), GOLDEN["pooled"]
    found = [pooled.estimate, pooled.se, pooled.ci_low, pooled.ci_high]
    assert found == pytest.approx([want[n] for n in ("estimate", "se", "ci_low", "ci_high")])
    assert pooled.exp_estimate == pytest.approx(np.exp(want["estimate"]))


def test_the_worst_rank_stands_beside_the_effect_where_deaths_are_known():
    result = pool_trials(cohort_table(golden_rows()), WIDE)
    (row,) = [r for r in result.effects if r.effect == "win-odds"]
    assert row.estimate == pytest.approx(GOLDEN["pooled"]["estimate"])
    assert not row.headline
    codes = {e.participant_id: e.code for e in result.exclusions}
    dead = golden_rows().dropna(subset=["death_day"])["participant_id"]
    assert {codes[p] for p in dead} == {"died"}


def test_swapped_arms_and_higher_worse_turn_the_win_odds():
    rows = golden_rows()
    base = headline(pool_trials(cohort_table(rows), replace(WIDE, estimand="worst-rank")))
    turned = rows.assign(lv_ef_percent=100 - rows["lv_ef_percent"])
    options = replace(WIDE, estimand="worst-rank", worse="higher")
    assert headline(pool_trials(cohort_table(turned), options)).estimate == pytest.approx(
        base.estimate
    )
    swapped = rows.assign(arm=rows["arm"].map({"active": "control", "control": "active"}))
    other = headline(pool_trials(cohort_table(swapped), replace(WIDE, estimand="worst-rank")))
    assert other.estimate == pytest.approx(-base.estimate)
    assert other.se == pytest.approx(base.se)


def test_mann_whitney_by_midranks_is_the_mean_over_pairs():
    draw = np.random.default_rng(2)
    a, b = draw.integers(0, 8, 23).astype(float), draw.integers(0, 8, 31).astype(float)
    pairs = (a[:, None] > b[None, :]) + 0.5 * (a[:, None] == b[None, :])
    theta, se = mann_whitney(a, b)
    assert theta == pytest.approx(pairs.mean())
    variance = pairs.mean(axis=1).var(ddof=1) / 23 + pairs.mean(axis=0).var(ddof=1) / 31
    assert se == pytest.approx(variance**0.5)


def test_the_sickest_without_a_scan_are_seen():
    result = pool_trials(cohort_table(sick_missing()), WIDE)
    row = next(r for r in result.by_arm if (r.trial, r.arm) == ("T2", "active"))
    assert row.no_outcome == row.randomised - row.analysed == 13
    assert row.baseline_others < row.baseline_analysed - 8
    looks = {(r.trial, r.check) for r in result.integrity if r.result == "review"}
    assert ("T2", "outcome-known-by-arm") in looks
    assert ("T2", "baseline-of-the-missing-active") in looks
    assert any("T2, arm active" in w and "lower baseline" in w for w in result.warnings)
    assert not any(trial in ("T1", "T3") for trial, _ in looks)


def test_a_few_missing_people_are_not_released():
    result = pool_trials(cohort_table(sick_missing()), replace(WIDE, min_cell=20))
    row = next(r for r in result.by_arm if (r.trial, r.arm) == ("T2", "active"))
    assert (row.no_outcome, row.n_baseline_others, row.baseline_others) == (None, None, None)
    sentence = next(w for w in result.warnings if "lower baseline" in w)
    assert "against" not in sentence


def test_the_delta_adjusted_effect_moves_by_the_share_of_the_missing():
    result = pool_trials(cohort_table(sick_missing()), replace(WIDE, tau2="fe"))
    grid = {round(r.delta, 6): r for r in result.delta if r.kind == "grid"}
    start = grid[0.0]
    assert start.estimate == pytest.approx(headline(result).estimate)
    trials = {r.trial: r for r in result.effects if r.analysis == "trial"}
    arm = next(r for r in result.by_arm if (r.trial, r.arm) == ("T2", "active"))
    share = arm.no_outcome / arm.randomised
    for delta, row in grid.items():
        variance = trials["T2"].se ** 2 + delta**2 * share * (1 - share) / arm.randomised
        weights = {t: 1 / r.se**2 for t, r in trials.items()} | {"T2": 1 / variance}
        moved = {t: r.estimate for t, r in trials.items()}
        moved["T2"] += delta * share
        want = sum(weights[t] * moved[t] for t in moved) / sum(weights.values())
        assert row.estimate == pytest.approx(want)
    for row in result.delta:
        if row.kind == "tipping-point":
            assert min(abs(row.ci_low), abs(row.ci_high)) < 1e-8


def test_nothing_missing_gives_no_delta():
    assert pool_trials(cohort_table(simulate_wide(3)), WIDE).delta == ()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"estimand": "worst-rank"}, TableError, "no death is recorded"),
        ({"estimand": "hypothetical"}, TableError, "no death is recorded"),
        ({"estimand": "worst-rank", "adjust": ("age",)}, UsageError, "--adjust"),
        ({"estimand": "worst-rank", "model": "one-stage"}, UsageError, "one-stage"),
    ],
)
def test_refusals(changes, error, words):
    with pytest.raises(error, match=words):
        pool_trials(cohort_table(simulate_wide(2)), replace(WIDE, **changes))


def test_an_outcome_of_ones_own_needs_its_bad_end():
    rows = golden_rows().rename(columns={"lv_ef_percent": "score"})
    options = replace(WIDE, outcome="score", estimand="worst-rank")
    with pytest.raises(UsageError, match="worse"):
        pool_trials(cohort_table(rows), options)
    assert headline(pool_trials(cohort_table(rows), replace(options, worse="lower"))).estimate > 0


def test_an_event_has_no_estimand():
    with pytest.raises(UsageError, match="events are known for all participants"):
        PoolingOptions(outcome="died", effect="odds-ratio", estimand="worst-rank")
