"""Bad input of every kind: what it gives, what it refuses, and that it says so. Issue 5's list."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import EstimationError, TableError, UsageError
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from cardiometa.statistics.event_models import fit_cox, risk_sets
from tests.kit.pooling_tables import cohort_table, simulate_wide, to_long

WIDE = PoolingOptions(
    outcome="lv_ef_percent",
    baseline_column="lv_ef_baseline",
    min_cell=0,
    leave_one_out=False,
    model="two-stage",
)
EVENT = PoolingOptions(outcome="mace", effect="odds-ratio", min_cell=0, leave_one_out=False)
HAZARD = replace(EVENT, effect="hazard-ratio", time="day", event="mace")


def with_events(trials=3):
    wide = simulate_wide(trials, people=60)
    wide["mace"] = (wide["lv_ef_percent"] < 45).astype(int)
    wide["day"] = (wide["lv_ef_baseline"].abs() * 10).round()
    return wide


def pool(rows, options=WIDE):
    return pool_trials(cohort_table(rows), options)


def headline(result):
    (row,) = [
        r
        for r in result.effects
        if r.analysis == "pooled" and r.headline and r.model == "two-stage"
    ]
    return row


def of_trial(result, trial):
    return next(r for r in result.effects if r.analysis == "trial" and r.trial == trial)


def test_one_arm_in_a_trial_leaves_it_out_and_says_so():
    wide = simulate_wide(3)
    result = pool(wide[(wide["trial"] != "T2") | (wide["arm"] == "control")])
    assert headline(result).k == 2
    assert any("all randomised are in one arm: T2" in w for w in result.warnings)
    assert set(result.accounting.excluded) == {"one-arm-trial"}


def test_one_participant_in_an_arm_counts_for_little():
    wide = simulate_wide(3)
    arm = wide.index[(wide["trial"] == "T2") & (wide["arm"] == "active")]
    result = pool(wide.drop(index=arm[1:]))
    row = of_trial(result, "T2")
    assert row.n_active == 1
    assert row.weight_percent < 20


def test_a_trial_of_two_people_has_no_effect_and_a_reason():
    wide = simulate_wide(3)
    second = wide[wide["trial"] == "T2"].drop_duplicates("arm")
    wide = wide[wide["trial"] != "T2"]
    result = pool(pd.concat([wide, second]))
    row = of_trial(result, "T2")
    assert row.estimate is None
    assert "no residual degrees of freedom" in row.note


def test_a_constant_outcome_has_no_standard_error():
    wide = simulate_wide(3)
    wide.loc[wide["trial"] == "T1", "lv_ef_percent"] = 50.0
    result = pool(wide)
    assert "does not vary" in of_trial(result, "T1").note
    assert any("T1 (the outcome does not vary" in w for w in result.warnings)


def test_a_huge_weight_is_looked_at_and_does_not_blow_up_the_decimals():
    wide = simulate_wide(4)
    first = wide["trial"] == "T1"
    wide.loc[first, "lv_ef_percent"] = wide.loc[first, "lv_ef_baseline"] + 1e-6 * np.arange(
        first.sum()
    )
    result = pool(wide)
    found = {(r.trial, r.check): r for r in result.integrity if r.result == "review"}
    assert found["T1", "followup-like-baseline"].value > 0.999
    assert np.isfinite(headline(result).se)


def test_a_standard_error_of_hardly_any_degrees_of_freedom_is_named():
    """Four people on a line of slope 1: their SE of 0.006 makes a common effect theirs alone."""
    tiny = {"arm": ["active", "active", "control", "control"], "age_years": 60.0, "sex": "male"}
    tiny |= {"lv_ef_baseline": [40.0, 50, 45, 55], "lv_ef_percent": [60.01, 64, 50, 54]}
    tiny |= {"trial": "TINY", "participant_id": list("abcd")}
    result = pool(pd.concat([simulate_wide(3), pd.DataFrame(tiny)], ignore_index=True))
    assert of_trial(result, "TINY").se < 0.01
    assert any("the standard error of TINY rests on fewer than 5" in w for w in result.warnings)


@pytest.mark.parametrize("trial", ["T1", "PILOT"])
def test_people_who_are_in_the_table_twice_are_named(trial):
    wide = simulate_wide(3)
    again = wide[wide["trial"] == "T1"].assign(trial=trial)
    again["participant_id"] = "again-" + again["participant_id"]
    rows = pd.concat([wide, again], ignore_index=True)
    found = [w for w in pool(rows).warnings if "counted twice" in w]
    assert [w.partition(":")[0] for w in found] == sorted({"T1", trial})
    coarse = rows.round({"lv_ef_baseline": -1, "lv_ef_percent": -1})  # chance does it
    assert not any("counted twice" in w for w in pool(coarse).warnings)


def test_an_outcome_without_scatter_in_two_arms_of_three_has_no_standardised_difference():
    wide = simulate_wide(3)
    wide.loc[wide.index[(wide["trial"] == "T3")][:20], "arm"] = "high"
    wide.loc[(wide["trial"] == "T3") & (wide["arm"] != "high"), "lv_ef_percent"] = 50.0
    result = pool(wide, replace(WIDE, effect="standardised-mean-difference"))
    found = {r.arm: r for r in result.effects if r.analysis == "trial" and r.trial == "T3"}
    assert "does not vary in these arms" in found["active"].note
    assert found["high"].estimate is not None


def test_a_participant_in_two_arms_is_refused():
    long = to_long(simulate_wide(2))
    row = long.index[long["visit"] != "baseline"][4]
    long.loc[row, "arm"] = "control" if long.loc[row, "arm"] == "active" else "active"
    with pytest.raises(TableError, match="arm changes"):
        pool(long, replace(WIDE, baseline_column=None))


def test_follow_up_without_baseline_in_one_trial_is_said():
    long = to_long(simulate_wide(3))
    long = long[(long["visit"] != "baseline") | (long["trial"] != "T2")]
    result = pool(long, replace(WIDE, baseline_column=None))
    assert "not adjusted for baseline" in of_trial(result, "T2").note
    assert any("has a baseline in T2" in w for w in result.warnings)
    row = next(r for r in result.by_arm if (r.trial, r.arm) == ("T2", "active"))
    assert (row.paired, row.followup_only) == (0, row.randomised)


@pytest.mark.parametrize("effect", ["odds-ratio", "risk-ratio", "risk-difference"])
@pytest.mark.parametrize("trials", [1, 2, 3])
def test_few_trials_of_events(effect, trials):
    result = pool(with_events(trials), replace(EVENT, effect=effect))
    row = headline(result)
    assert row.k == trials
    assert (row.pi_low is None) == (trials < 3)


def test_no_events_at_all_is_no_estimate_of_a_ratio():
    rows = with_events().assign(mace=0)
    with pytest.raises(EstimationError, match="no events"):
        pool(rows, EVENT)
    with pytest.raises(EstimationError, match="no events"):
        pool(rows, HAZARD)
    assert headline(pool(rows, replace(EVENT, effect="risk-difference"))).estimate == 0


def test_few_events_make_mantel_haenszel_the_headline():
    rows = with_events(4)
    rows.loc[(rows["arm"] == "active") & rows["trial"].isin(["T1", "T2"]), "mace"] = 0
    result = pool(rows, replace(EVENT, leave_one_out=True))
    row = headline(result)
    assert row.note.startswith("Mantel-Haenszel")
    assert any("events are few" in w for w in result.warnings)
    left_out = [r for r in result.effects if r.analysis == "leave-one-out" and r.headline]
    assert {r.trial for r in left_out} == {"T1", "T2", "T3", "T4"}
    assert "no events in the active arm" in of_trial(result, "T1").note


def few(counts, people=100):
    """One row a participant of trials with so many events by arm."""
    parts = []
    for trial, pair in counts.items():
        for arm, events in zip(("control", "active"), pair, strict=True):
            ids = [f"{trial}-{arm}-{i}" for i in range(people)]
            sex = np.resize(["male", "male", "female"], people)
            own = {"trial": trial, "participant_id": ids, "arm": arm, "sex": sex}
            parts.append(pd.DataFrame(own | {"mace": (np.arange(people) < events).astype(int)}))
    return pd.concat(parts, ignore_index=True)


FULL = {"A": (30, 20), "B": (25, 28), "C": (40, 33), "D": (22, 18)}


def shown(result, analysis="trial"):
    rows = [r for r in result.effects if r.analysis == analysis and r.trial]
    return {r.trial for r in rows if r.estimate is not None}, {r.trial: r.note for r in rows}


def test_few_events_are_not_shown_and_cannot_be_worked_back():
    """log OR, SE and n are two equations for two counts; the others' rows are one more."""
    result = pool(few(FULL | {"E": (12, 4)}), replace(EVENT, min_cell=10, leave_one_out=True))
    kept, notes = shown(result)
    assert kept == {"A", "B", "C"}  # D has the next fewest: E is not what is left over
    assert notes["E"] == notes["D"] == "n<10 (events)"
    row = of_trial(result, "E")
    assert (row.se, row.ci_low, row.p, row.weight_percent, row.exp_estimate) == (None,) * 5
    assert (row.n_control, row.n_active) == (100, 100)
    assert shown(result, "leave-one-out")[0] == {"A", "B", "C"}
    assert {r.trial for r in result.influence if r.rstudent is not None} == {"A", "B", "C"}
    events = {(r.trial, r.arm): r.events for r in result.by_arm}
    assert events["D", "active"] is events["E", "control"] is None  # they would give the effect
    assert events["A", "active"] == 20
    assert headline(result).k == 5
    whole = pool(few(FULL | {"E": (12, 4)}), replace(EVENT, leave_one_out=True))
    assert headline(result).estimate == headline(whole).estimate
    assert any("of D, E are pooled but not shown" in w for w in result.warnings)
    assert not [w for w in whole.warnings if "not shown" in w]


@pytest.mark.parametrize("counts", [{}, {"F": (0, 12)}, {"F": (10, 10)}])
def test_no_events_at_all_and_ten_are_shown(counts):
    result = pool(few(FULL | counts), replace(EVENT, min_cell=10))
    assert shown(result)[0] == set(FULL | counts)


def test_two_trials_with_few_events_need_no_third_and_one_alone_shows_nothing():
    two = pool(few(FULL | {"E": (12, 4), "F": (9, 11)}), replace(EVENT, min_cell=10))
    assert shown(two)[0] == set(FULL)
    alone = pool(few({"E": (12, 4)}), replace(EVENT, min_cell=10, by=("sex",)))
    assert headline(alone).note == "n<10 (events)"
    assert not [r for r in alone.effects if r.estimate is not None]


def test_the_command_says_that_a_lone_trial_s_effect_is_not_shown(tmp_path):
    few({"E": (12, 4)}).to_csv(tmp_path / "t.csv", index=False)
    command = ["pool-trials", str(tmp_path / "t.csv"), "--out", str(tmp_path / "o")]
    done = CliRunner().invoke(app, [*command, "--outcome", "mace", "--effect", "odds-ratio"])
    assert done.exit_code == 0, done.output
    assert "Odds ratio, mace, active versus control: not shown (n<10 (events))." in done.output
    page = (tmp_path / "o" / "report.html").read_text()
    assert "0.31" not in re.sub(r"<style.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)


@pytest.mark.parametrize("seed", [21, 22, 34, 46])
def test_a_maximum_at_infinity_is_not_taken_for_an_estimate(seed):
    """Two events, both in one arm: rounding made Newton's steps small at a log ratio of -36."""
    draw = np.random.default_rng(seed)
    time = draw.permutation(40) + 1.0
    event = np.isin(np.arange(40), [0, 2])
    x = np.column_stack([np.arange(40.0) % 2, draw.normal(0, 1, 40).round(1)])
    sets = [risk_sets(time, event, x)]
    assert fit_cox(sets) is None
    penalised = fit_cox(sets, penalised=True)
    assert abs(penalised.coefficients[0]) < 5
    assert np.sqrt(penalised.covariance[0, 0]) < 5


@pytest.mark.parametrize("trials", ["AB", "ABC"])  # two: the effect; three: its prediction
def test_an_interval_beyond_all_numbers_is_said_and_not_drawn(tmp_path, trials):
    counts = {"A": (30, 2), "B": (2, 40), "C": (50, 10)}
    rows = few({trial: counts[trial] for trial in trials})
    rows.to_csv(tmp_path / "t.csv", index=False)
    words = ["pool-trials", str(tmp_path / "t.csv"), "--out", str(tmp_path / "o")]
    words += ["--outcome", "mace", "--effect", "odds-ratio", "--level", "99.99", "--pi-df", "k-2"]
    done = CliRunner().invoke(app, [*words, "--min-cell", "0"])
    assert done.exit_code == 0, done.output
    svg = (tmp_path / "o" / "figures" / "forest.svg").read_text()
    assert ("too wide to draw" in svg) == (trials == "AB")
    assert "prediction interval" not in svg


def test_levels_with_few_events_hide_their_trial_s_other_levels_too():
    rows = few(FULL)
    some = rows.index[(rows["trial"] == "B") & (rows["sex"] == "female") & (rows["mace"] == 1)]
    rows.loc[some[3:], "mace"] = 0
    result = pool(rows, replace(EVENT, min_cell=5, by=("sex",)))
    for analysis in ("subgroup", "interaction"):
        kept, notes = shown(result, analysis)
        assert kept == {"A", "C", "D"}
        assert notes["B"] == "n<5 (events)"
    pooled = [r for r in result.effects if r.analysis == "subgroup" and not r.trial]
    assert all(r.estimate is not None for r in pooled)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"mace": 2}, EVENT, "not a valid event indicator"),
        ({"day": -4.0}, HAZARD, "before randomisation"),
        ({"mace": "perhaps"}, HAZARD, "not a valid event indicator"),
    ],
)
def test_cells_that_are_no_event_or_time(change, options, words):
    rows = with_events().astype({"mace": object})
    for name, value in change.items():
        rows.loc[3, name] = value
    with pytest.raises(TableError, match=words):
        pool(rows, options)


def test_an_event_is_read_of_those_without_a_scan_too():
    """Deaths are in failed and missing scans' people: the roster counts."""
    wide = with_events()
    long = to_long(wide)
    lost = set(wide.loc[wide["mace"] == 1, "participant_id"][:10])
    scanned = long[~long["participant_id"].isin(lost)]
    result = pool_trials(cohort_table(scanned), EVENT, roster=wide)
    assert result.accounting.analysed == len(wide)
    whole = pool(wide, EVENT)
    assert headline(result).estimate == pytest.approx(headline(whole).estimate)


def test_an_event_that_changes_is_read_at_the_follow_up():
    long = to_long(with_events())
    long.loc[long["visit"] == "baseline", "mace"] = 0
    again = pool(long, EVENT)
    assert headline(again).estimate == pytest.approx(headline(pool(with_events(), EVENT)).estimate)
    with pytest.raises(TableError, match="changes within"):
        pool(long, HAZARD)


@pytest.mark.parametrize(
    "changes",
    [
        {"effect": "risk-ratio", "adjust": ("age",)},
        {"effect": "hazard-ratio", "time": "day"},
        {"effect": "odds-ratio", "time": "day", "event": "mace"},
        {"effect": "odds-ratio", "missing_outcome": "impute"},
    ],
)
def test_options_that_do_not_go_together(changes):
    with pytest.raises(UsageError):
        PoolingOptions(outcome="mace", **changes)


def test_the_command_writes_events_in_the_forest_plot(tmp_path):
    rows = with_events()
    rows.to_csv(tmp_path / "t.csv", index=False)
    command = ["pool-trials", str(tmp_path / "t.csv"), "--out", str(tmp_path / "o")]
    command += ["--effect", "hazard-ratio", "--time", "day", "--event", "mace", "--min-cell", "0"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    svg = (tmp_path / "o" / "figures" / "forest.svg").read_text()
    events = int(rows.loc[rows["arm"] == "active", "mace"].sum())
    assert f"{events} / {int((rows['arm'] == 'active').sum())}" in svg
    assert "Cox model" in (tmp_path / "o" / "report.html").read_text()


# ------------------------------------------------------------------ by command line


def command(tmp_path, rows, *more):
    rows.to_csv(tmp_path / "t.csv", index=False)
    words = ["pool-trials", str(tmp_path / "t.csv"), "--out", str(tmp_path / "o"), "-v", *more]
    return CliRunner().invoke(app, [*words, "--baseline", "lv_ef_baseline", "--min-cell", "0"])


OUTCOME = ("--outcome", "lv_ef_percent")


def text_cell(wide):
    wide = wide.astype({"lv_ef_percent": object})
    wide.loc[3, "lv_ef_percent"] = "55 %"
    return wide


def infinite(wide):
    wide.loc[3, "lv_ef_percent"] = np.inf
    return wide


def constant(wide):
    return wide.assign(lv_ef_percent=50.0)


def age_in_words(wide):
    wide = wide.astype({"age_years": object})
    wide.loc[3, "age_years"] = "65 y"
    return wide


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (text_cell, 3, "row 5: not a number: '55 %' (1)"),
        (infinite, 3, "row 5: not a number: 'inf' (1)"),
        (constant, 5, "Is lv_ef_percent the right column?"),
        (age_in_words, 3, "row 5: not a number: '65 y' (1)"),
    ],
)
def test_cells_that_cannot_be_used_are_named_by_row(tmp_path, change, code, words):
    adjust = ("--adjust", "age") if change is age_in_words else ()
    done = command(tmp_path, change(simulate_wide(3)), *OUTCOME, *adjust)
    assert done.exit_code == code, done.output
    assert words in done.output
    assert not (tmp_path / "o").exists()


def test_a_trial_without_scatter_does_not_stop_the_one_stage_model():
    """A residual spread at the limit of double precision: the trial is left out of both models."""
    wide = simulate_wide(4)
    first = wide["trial"] == "T1"
    follow, before = wide["lv_ef_percent"], wide["lv_ef_baseline"]
    for spread, k in ((1e-4, 4), (1e-6, 3)):
        tiny = follow.mask(first, before + spread * np.arange(len(wide)))
        result = pool(wide.assign(lv_ef_percent=tiny), replace(WIDE, model="both", by=("age",)))
        rows = [r for r in result.effects if r.model == "one-stage" and r.term == "treatment"]
        assert {r.k for r in rows if r.variant == "main"} == {k}
        assert all(np.isfinite(r.se) for r in rows)
        assert headline(result).k == k
    assert of_trial(result, "T1").note.startswith("the model explains the outcome completely")
    others = pool(wide[~first], replace(WIDE, model="two-stage"))
    assert headline(result).estimate == pytest.approx(headline(others).estimate, rel=1e-12)


def test_a_trial_in_another_unit_is_named(tmp_path):
    wide = simulate_wide(4)
    third = wide["trial"] == "T3"
    wide.loc[third, ["lv_ef_percent", "lv_ef_baseline"]] /= 100
    done = command(tmp_path, wide, *OUTCOME)
    assert done.exit_code == 3, done.output
    assert "fractions instead of percent" in done.output
    done = command(tmp_path, wide, *OUTCOME, "--accept", "unit", "--quiet")
    assert done.exit_code == 0, done.output
    assert "warning: Accepted, unit" in done.stderr
    assert "T3: the outcome's spread is 0.0115 times that of the other trials" in done.stderr


def test_the_sickest_of_one_arm_without_a_scan_are_seen_in_the_table_by_arm(tmp_path):
    wide = simulate_wide(4)
    active = wide[wide["arm"] == "active"].groupby("trial")["lv_ef_baseline"]
    sick = active.transform(lambda values: values < values.quantile(0.15))
    wide.loc[sick.index[sick], "lv_ef_percent"] = np.nan
    done = command(tmp_path, wide, *OUTCOME)
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    assert told.count("those without the outcome had a lower baseline than those with it") == 4
    by_arm = pd.read_csv(tmp_path / "o" / "participants_by_arm.csv")
    lost = by_arm[by_arm["arm"] == "active"]
    assert (lost["no_outcome"] > 0).all()
    assert (lost["baseline_others"] < lost["baseline_analysed"] - 8).all()
    assert (by_arm.loc[by_arm["arm"] == "control", "no_outcome"] == 0).all()
