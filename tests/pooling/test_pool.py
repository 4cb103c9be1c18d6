"""The result as a whole: invariances, few trials, headlines, what may be released."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.errors import TableError, UsageError
from cardiometa.pooling.first_stage.first_stage import first_stage
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from cardiometa.pooling.results import EffectRow, columns_of
from cardiometa.pooling.second_stage.two_stage import pooled_rows
from tests.kit.pooling_tables import INTERVAL_METHODS, cohort_table, simulate_wide, to_long

WIDE = PoolingOptions(outcome="lv_ef_percent", baseline_column="lv_ef_baseline", min_cell=0)
FAST = replace(WIDE, leave_one_out=False)
CONTRACT = (
    "analysis, source, model, outcome, effect, arm, control, term, trial, level, n_control, "
    "n_active, estimate, se, df, ci_low, ci_high, p, p_holm, pi_low, pi_high, weight_percent, "
    "tau2, i2_percent, q, q_df, q_p, k, tau2_method, ci_method, headline, exp_estimate, "
    "exp_ci_low, exp_ci_high, note"
)
bounded = settings(max_examples=25, deadline=None)


def headline(result, arm="active", model="two-stage"):
    found = [
        r
        for r in result.effects
        if r.analysis == "pooled" and r.headline and r.arm == arm and r.model == model
    ]
    assert len(found) == 1
    return found[0]


def second_stage(rows, options=FAST):
    """The two-stage headline alone, without the sensitivity analyses beside it."""
    stage = first_stage(cohort_table(rows), options)
    return next(r for r in pooled_rows(stage.studies["active"], options) if r.headline)


def numbers(row):
    return [row.estimate, row.se, row.ci_low, row.ci_high, row.tau2, row.i2_percent, row.q]


def test_columns_are_the_contract_s():
    assert ", ".join(columns_of(EffectRow)) == CONTRACT


def test_exactly_one_headline_each():
    wide = simulate_wide(4)
    wide.loc[wide.index % 3 == 0, "arm"] = wide["arm"].replace({"active": "high"})
    rows = pool_trials(cohort_table(wide), WIDE).effects
    frame = pd.DataFrame([[getattr(r, c) for c in columns_of(EffectRow)] for r in rows])
    frame.columns = columns_of(EffectRow)
    key = ["outcome", "source", "analysis", "model", "arm", "term", "level", "trial"]
    assert (frame.groupby(key)["headline"].sum() == 1).all()
    assert set(frame["arm"]) == {"active", "high"}


@bounded
@given(st.integers(0, 1000))
def test_row_order_and_names_of_trials_do_not_matter(seed):
    wide = simulate_wide(4, seed=seed % 7)
    base = second_stage(wide)
    shuffled = wide.sample(frac=1, random_state=seed)
    names = dict(
        zip(["T1", "T2", "T3", "T4"], np.random.default_rng(seed).permutation(4), strict=True)
    )
    shuffled["trial"] = shuffled["trial"].map(lambda t: f"trial {names[t]}")
    other = second_stage(shuffled)
    assert numbers(other) == pytest.approx(numbers(base), rel=1e-8, abs=1e-10)


@bounded
@given(st.floats(0.01, 100), st.floats(-1e4, 1e4))
def test_shift_and_scale_of_the_outcome(factor, offset):
    wide = simulate_wide(4, tau=3)
    base = second_stage(wide)
    moved = wide.copy()
    for name in ("lv_ef_percent", "lv_ef_baseline"):
        moved[name] = offset + factor * moved[name]
    other = second_stage(moved)
    assert [other.estimate, other.se, other.ci_low, other.pi_low] == pytest.approx(
        [factor * x for x in (base.estimate, base.se, base.ci_low, base.pi_low)], rel=1e-6
    )
    assert other.tau2 == pytest.approx(factor**2 * base.tau2, rel=1e-5)
    assert [other.i2_percent, other.p, other.q] == pytest.approx(
        [base.i2_percent, base.p, base.q], rel=1e-5
    )


def test_a_constant_of_the_trial_changes_nothing():
    """An additive bias of one core lab cancels in the trial's intercept."""
    wide = simulate_wide(4)
    base = headline(pool_trials(cohort_table(wide), FAST))
    biased = wide.copy()
    biased["lv_ef_percent"] += biased["trial"].map({"T1": 5.0, "T2": -3.0, "T3": 0.0, "T4": 11.0})
    assert numbers(headline(pool_trials(cohort_table(biased), FAST))) == pytest.approx(
        numbers(base), rel=1e-9, abs=1e-9
    )


def test_swapped_arms_change_the_sign_only():
    wide = simulate_wide(4)
    base = headline(pool_trials(cohort_table(wide), FAST))
    swapped = headline(
        pool_trials(cohort_table(wide), replace(FAST, control="active")), arm="control"
    )
    assert swapped.estimate == pytest.approx(-base.estimate, rel=1e-12)
    assert (swapped.ci_low, swapped.ci_high) == pytest.approx((-base.ci_high, -base.ci_low))
    assert (swapped.se, swapped.tau2, swapped.p) == pytest.approx((base.se, base.tau2, base.p))


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_few_trials_give_what_can_be_given(k):
    result = pool_trials(cohort_table(simulate_wide(k)), WIDE)
    pooled = [
        r
        for r in result.effects
        if (r.analysis, r.effect, r.model) == ("pooled", "mean-difference", "two-stage")
    ]
    row = headline(result)
    assert row.k == k
    assert (row.pi_low is None) == (k < 3)
    assert any("trial" in w for w in result.warnings if w.startswith("active:")) == (k < 5)
    assert bool(result.heterogeneity) == (k > 1)
    loo = [r for r in result.effects if r.analysis == "leave-one-out"]
    assert len(loo) == (3 * k if k >= 3 else 0)
    if k == 1:
        trial = next(r for r in result.effects if r.analysis == "trial")
        assert len(pooled) == 1
        assert (row.ci_low, row.ci_high, row.p) == (trial.ci_low, trial.ci_high, trial.p)
        assert row.tau2 is None
    else:
        assert [r.ci_method for r in pooled] == ["wald", "hksj", "hksj-truncated", "wald"]
        assert row.ci_method == "hksj-truncated"


@pytest.mark.parametrize(("changes", "method"), INTERVAL_METHODS)
def test_the_headline_rule(changes, method):
    row = headline(pool_trials(cohort_table(simulate_wide(3)), replace(FAST, **changes)))
    assert row.ci_method == method
    assert (row.pi_low is None) == (changes.get("tau2") == "fe")


def test_a_k_2_prediction_interval_is_wider():
    table = cohort_table(simulate_wide(4, tau=3))
    narrow = headline(pool_trials(table, FAST))
    wide = headline(pool_trials(table, replace(FAST, pi_df="k-2")))
    assert wide.pi_low < narrow.pi_low < narrow.estimate < narrow.pi_high < wide.pi_high


def test_the_headline_is_given_without_review_rows_too():
    long = to_long(simulate_wide(3)).assign(status="ok")
    long.loc[long.index[::9], "status"] = "review"
    options = PoolingOptions(outcome="lv_ef_percent", min_cell=0)
    result = pool_trials(cohort_table(long), options)
    without = pool_trials(cohort_table(long), replace(options, status="ok"))
    for model in ("two-stage", "one-stage"):
        row = next(r for r in result.effects if "review" in r.note and r.model == model)
        assert not row.headline
        assert row.estimate == pytest.approx(headline(without, model=model).estimate)
        assert row.estimate != pytest.approx(headline(result, model=model).estimate)


def test_one_stage_rows_and_their_checks():
    result = pool_trials(cohort_table(simulate_wide(6, tau=3)), WIDE)
    rows = [r for r in result.effects if r.model == "one-stage" and r.analysis == "pooled"]
    main = [r for r in rows if not r.note.startswith("sensitivity")]
    assert [r.ci_method for r in main] == ["kenward-roger", "satterthwaite", "wald"]
    assert [r.headline for r in main] == [True, False, False]
    assert len({r.estimate for r in main}) == 1
    assert all(r.tau2_method == "reml" and r.k == 6 for r in main)
    notes = {r.note.partition("; ")[0] for r in rows if r.note.startswith("sensitivity")}
    assert notes == {
        "sensitivity: one residual variance for all trials",
        "sensitivity: a residual variance of each trial and arm",
        "sensitivity: common effect (tau2 = 0)",
        "sensitivity: change score",
        "sensitivity: random trial intercepts",
        "sensitivity: follow-up only",
    }
    (check,) = result.checks
    assert check.converged
    assert check.self_check < 1e-8
    two = headline(result).estimate
    assert check.difference == pytest.approx(main[0].estimate - two, abs=1e-12)
    assert "together with the effect" in check.reason or "no relevant difference" in check.reason


@pytest.mark.parametrize(
    ("changes", "method", "tau2_method"),
    [
        ({}, "kenward-roger", "reml"),
        ({"tau2": "dl"}, "kenward-roger", "reml"),
        ({"tau2": "ml"}, "satterthwaite", "ml"),
        ({"tau2": "fe"}, "kenward-roger", "fe"),
        ({"ci_one_stage": "wald"}, "wald", "reml"),
        ({"residual": "common"}, "kenward-roger", "reml"),
        ({"residual": "by-trial-and-arm"}, "kenward-roger", "reml"),
    ],
)
def test_the_one_stage_headline_rule(changes, method, tau2_method):
    result = pool_trials(cohort_table(simulate_wide(5, tau=2)), replace(FAST, **changes))
    row = headline(result, model="one-stage")
    assert (row.ci_method, row.tau2_method) == (method, tau2_method)
    assert row.estimate == pytest.approx(headline(result).estimate, abs=0.5)
    assert (row.tau2 == 0) == (tau2_method == "fe")
    assert result.checks[0].self_check < 1e-6
    assert not [w for w in result.warnings if "do not use" in w]


@pytest.mark.parametrize(
    ("k", "models"), [(1, {"two-stage"}), (4, {"two-stage", "one-stage"}), (6, {"one-stage"})]
)
def test_below_five_trials_kenward_roger_never_stands_alone(k, models):
    table = cohort_table(simulate_wide(k))
    result = pool_trials(table, replace(FAST, model="one-stage", effect="follow-up"))
    pooled = [r for r in result.effects if r.analysis == "pooled"]
    assert {r.model for r in pooled} == models
    assert any("Kenward-Roger intervals" in w for w in result.warnings) == (k == 4)
    assert not [
        r
        for r in pool_trials(table, replace(FAST, model="two-stage")).effects
        if r.model == "one-stage"
    ]


def test_three_arms_in_one_trial_equal_the_first_stage_where_they_must():
    wide = simulate_wide(5)
    third = wide.index[(wide["trial"] == "T2") & (wide.index % 3 == 0)]
    wide.loc[third, "arm"] = "high"
    result = pool_trials(cohort_table(wide), FAST)
    assert [c.arm for c in result.checks] == ["active"]  # one trial alone has the other arm
    assert result.checks[0].self_check < 1e-8


def test_small_cells_are_not_released_and_cannot_be_had_back():
    wide = simulate_wide(3)
    third = wide["trial"] == "T3"
    active = wide.index[third & (wide["arm"] == "active")]
    wide = wide.drop(index=active[6:])
    result = pool_trials(cohort_table(wide), replace(WIDE, min_cell=10))
    rows = {r.trial: r for r in result.effects if r.analysis == "trial"}
    assert (rows["T3"].n_control, rows["T3"].n_active, rows["T3"].df) == (None, None, None)
    assert rows["T3"].note == "n<10 (active)"
    assert rows["T3"].estimate is not None
    assert rows["T1"].n_active is not None
    others = [r for r in result.effects if r.analysis != "trial"]
    assert all(r.n_control is None and r.n_active is None for r in others)
    arm = next(r for r in result.by_arm if (r.trial, r.arm) == ("T3", "active"))
    assert (arm.randomised, arm.analysed, arm.note[:4]) == (None, None, "n<10")
    other = next(r for r in result.by_arm if (r.trial, r.arm) == ("T3", "control"))
    assert other.analysed is None  # the interval gives the trial's size back
    assert other.randomised is not None
    assert all("n<10" not in r.note for r in others)
    tiny = wide.drop(index=wide.index[wide["trial"] == "T3"][9:])
    result = pool_trials(cohort_table(tiny), replace(WIDE, min_cell=10))
    row = next(r for r in result.effects if r.analysis == "trial" and r.trial == "T3")
    assert row.estimate is None
    assert row.note == "n<10"


def test_ratios_need_an_event():
    with pytest.raises(TableError, match="not a valid event indicator"):
        pool_trials(cohort_table(simulate_wide(2)), replace(WIDE, effect="odds-ratio"))
    with pytest.raises(UsageError, match="--time and --event"):
        pool_trials(cohort_table(simulate_wide(2)), replace(WIDE, effect="hazard-ratio"))


def test_deaths_are_tabulated_where_they_are_recorded():
    wide = simulate_wide(2, people=40)
    lost = wide.index[:6]
    wide.loc[lost, "lv_ef_percent"] = None
    wide["death_day"] = np.nan
    wide.loc[lost[:4], "death_day"] = 100.0
    counts = pool_trials(cohort_table(wide), replace(FAST, model="two-stage")).by_arm
    first = [row for row in counts if row.trial == "T1"]
    assert sum(row.randomised for row in first) == 40
    assert sum(row.alive for row in first) == 36
    assert sum(row.scanned for row in first) == sum(row.analysed for row in first) == 34
    assert all(row.alive is None for row in counts if row.trial == "T2")


def test_integrity_finds_what_is_wrong():
    draw = np.random.default_rng(1)
    wide = simulate_wide(2)
    wide["lv_edv_ml"] = draw.normal(160, 20, len(wide))
    wide["lv_esv_ml"] = wide["lv_edv_ml"] * (1 - wide["lv_ef_percent"] / 100)
    wide["lv_sv_ml"] = wide["lv_edv_ml"] - wide["lv_esv_ml"]

    def looks(rows):
        found = pool_trials(cohort_table(rows), replace(FAST, model="two-stage")).integrity
        return {(r.trial, r.check): r.n_found for r in found if r.result == "review"}

    assert looks(wide) == {}
    broken = wide.copy()
    broken.loc[0, "lv_ef_percent"] += 3
    broken.loc[1, ["lv_edv_ml", "lv_esv_ml"]] = [90.0, 150.0]
    broken.loc[2, "lv_sv_ml"] += 5
    second = broken.index[broken["trial"] == "T2"]
    copied = ["lv_edv_ml", "lv_esv_ml", "lv_sv_ml", "lv_ef_percent", "lv_ef_baseline"]
    broken.loc[second[1], copied] = broken.loc[second[0], copied]
    broken.loc[second[2], "lv_edv_ml"] = 1600.0
    found = looks(broken)
    assert found["T1", "lv-ef-consistent"] == 2
    assert found["T1", "lv-edv-above-esv"] == 1
    assert found["T1", "lv-sv-consistent"] == 2
    assert found["T2", "repeated-rows"] == 2
    assert found["T2", "plausible-lv-edv-ml"] == 1
    biased = wide.copy()
    biased.loc[(biased["trial"] == "T1") & (biased["arm"] == "active"), "lv_ef_baseline"] += 15
    assert ("T1", "balance-outcome") in looks(biased)
