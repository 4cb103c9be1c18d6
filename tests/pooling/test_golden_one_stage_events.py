"""One-stage models of events against lme4, a direct Laplace fit, cox.zph and survfit in R."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import EstimationError
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from tests.kit.pooling_tables import cohort_table

FOLDER = Path(__file__).parents[1] / "golden" / "pooling"
GOLDEN = json.loads((FOLDER / "events_one_stage.json").read_text())
ODDS = PoolingOptions(outcome="died", effect="odds-ratio", min_cell=0, leave_one_out=False)
HAZARD = replace(ODDS, outcome="mace", effect="hazard-ratio", time="mace_day", event="mace")


def rows_of(*trials):
    rows = pd.read_csv(FOLDER / "events_one_stage.csv", dtype={"participant_id": str})
    return rows[rows["trial"].isin(trials)] if trials else rows


def pooled(options, rows=None, **changes):
    table = cohort_table(rows_of() if rows is None else rows)
    return pool_trials(table, replace(options, **changes))


def random_row(result, **wanted):
    found = [r for r in result.effects if r.model == "one-stage" and r.tau2_method == "ml"]
    wanted = {"analysis": "pooled", **wanted}
    (row,) = [r for r in found if all(getattr(r, name) == v for name, v in wanted.items())]
    return row


@pytest.mark.parametrize(("adjust", "key"), [((), "plain"), (("age",), "adjusted")])
def test_odds_ratio_with_a_random_effect_is_glmers(adjust, key):
    row, want = random_row(pooled(ODDS, adjust=adjust)), GOLDEN["logistic"][key]
    assert row.estimate == pytest.approx(want["estimate"], rel=1e-5)
    assert row.se == pytest.approx(want["se"], rel=1e-4)  # glmer: by finite differences
    assert row.tau2 == pytest.approx(want["tau2"], rel=1e-5)
    assert (row.headline, row.k, row.ci_method) == (True, 7, "wald")
    assert row.pi_low < row.ci_low < row.ci_high < row.pi_high


@pytest.mark.parametrize(("by", "level"), [("age", "per 10 years"), ("sex", "male vs female")])
def test_interactions_of_odds_are_glmers(by, level):
    row = random_row(pooled(ODDS, by=(by,)), analysis="interaction")
    want = GOLDEN["logistic"][by]
    sign = 1.0 if row.level == level else -1.0
    assert sign * row.estimate == pytest.approx(want["estimate"][1], rel=2e-5)
    assert row.se == pytest.approx(want["se"][1], rel=1e-4)
    assert row.tau2 == pytest.approx(want["tau2"], rel=1e-4)


@pytest.mark.parametrize(("adjust", "key"), [((), "plain"), (("age",), "adjusted")])
def test_hazard_ratio_with_a_random_effect_is_the_laplace_fit(adjust, key):
    row, want = random_row(pooled(HAZARD, adjust=adjust)), GOLDEN["cox"][key]
    assert row.estimate == pytest.approx(want["estimate"], rel=1e-6)
    assert row.se == pytest.approx(want["se"], rel=1e-6)
    assert row.tau2 == pytest.approx(want["tau2"], rel=1e-5)
    assert (row.headline, row.variant) == (True, "main")


def test_interaction_of_hazards_is_the_laplace_fit():
    row = random_row(pooled(HAZARD, by=("age",)), analysis="interaction")
    want = GOLDEN["cox"]["age"]
    assert row.estimate == pytest.approx(want["estimate"][1], rel=1e-5)
    assert row.se == pytest.approx(want["se"][1], rel=1e-5)
    assert row.tau2 == pytest.approx(want["tau2"], rel=1e-4)


def test_at_the_bound_it_is_the_common_effect():
    result = pooled(ODDS, rows_of("T1", "T3", "T5"))
    row, want = random_row(result), GOLDEN["bound"]
    assert row.tau2 == 0
    assert "tau2 = 0" in row.note
    assert row.pi_low is None
    common = next(r for r in result.effects if (r.model, r.tau2_method) == ("one-stage", "fe"))
    for found in (row, common):
        assert found.estimate == pytest.approx(want["estimate"], rel=1e-8)
        assert found.se == pytest.approx(want["se"], rel=1e-8)


# ------------------------------------------------------------------ proportional hazards, RMST


@pytest.fixture(scope="module")
def hazards():
    return pooled(HAZARD, rmst=365.0)


def test_proportional_hazards_are_tested_as_cox_zph(hazards):
    found = {row.trial: row for row in hazards.proportional}
    for trial, want in {
        **GOLDEN["proportional"]["trials"],
        "": GOLDEN["proportional"]["all"],
    }.items():
        assert found[trial].chi2 == pytest.approx(want["chi2"], rel=1e-6)
        assert found[trial].p == pytest.approx(want["p"], rel=1e-6)
    assert found["T7"].chi2 is None
    assert "not tested" in found["T7"].note
    adjusted = pooled(HAZARD, rows_of("T2", "T3"), adjust=("age",))
    row = next(row for row in adjusted.proportional if row.trial == "T2")
    assert row.chi2 == pytest.approx(GOLDEN["proportional"]["adjusted"]["chi2"], rel=1e-6)


def test_the_report_says_where_hazards_are_not_proportional(hazards):
    (said,) = [text for text in hazards.warnings if "not proportional" in text]
    assert "in T2, T5" in said
    assert "Compare the restricted mean times." in said
    other = pooled(HAZARD, rows_of("T1", "T3", "T4"))
    assert not [text for text in other.warnings if "not proportional" in text]


def test_restricted_mean_times_are_those_of_survfit(hazards):
    found = {row.trial: row for row in hazards.rmst if row.trial}
    for want in GOLDEN["rmst"]:
        row = found[want["trial"]]
        pairs = ((row.rmst_control, "control"), (row.rmst_active, "active"))
        for value, name in (*pairs, (row.estimate, "estimate"), (row.se, "se")):
            assert value == pytest.approx(want[name], rel=1e-9)
    want = GOLDEN["rmst_pooled"]
    (row,) = [r for r in hazards.rmst if (r.trial, r.ci_method) == ("", "hksj")]
    assert row.estimate == pytest.approx(want["estimate"], rel=1e-6)
    assert row.se == pytest.approx(want["se"], rel=1e-6)
    assert row.tau2 == pytest.approx(want["tau2"], rel=1e-6)


def test_no_area_beyond_the_follow_up():
    rows = rows_of()
    early = rows["trial"].eq("T3") & rows["arm"].eq("active") & rows["mace_day"].gt(300)
    rows = rows.assign(mace=rows["mace"].mask(early, 0), mace_day=rows["mace_day"].mask(early, 300))
    result = pooled(HAZARD, rows, rmst=365.0)
    row = next(row for row in result.rmst if row.trial == "T3")
    assert row.estimate is None
    assert "ends before 365" in row.note
    assert {r.k for r in result.rmst if not r.trial} == {6}
    assert any("restricted mean time up to 365 from T3" in text for text in result.warnings)
    none = pooled(HAZARD, rows, rmst=4000.0)
    assert {r.trial for r in none.rmst} == set(rows["trial"])
    assert {r.estimate for r in none.rmst} == {None}


def test_small_counts_are_in_no_table(hazards):
    shown = pooled(HAZARD, rmst=365.0, min_cell=10)
    for rows in (shown.rmst, shown.proportional):
        few = {row.trial: row for row in rows}
        assert few["T3"].note.startswith("n<10")
        assert few["T3"].p is None
        assert few["T1"].p is None  # 9 events of the active arm
        assert few["T4"].p is not None
    assert shown.rmst[-1].estimate == hazards.rmst[-1].estimate


# ------------------------------------------------------------------ what cannot be fitted


def test_one_trial_has_no_one_stage_model():
    result = pooled(ODDS, rows_of("T1"))
    assert not [row for row in result.effects if row.model == "one-stage"]


@pytest.mark.parametrize("options", [ODDS, HAZARD])
def test_arms_that_never_have_the_event_are_said(options):
    rows = rows_of("T1", "T2", "T4")
    name = options.event_column
    rows = rows.assign(**{name: rows[name].where(rows["arm"] == "control", 0)})
    result = pooled(options, rows)
    assert not [r for r in result.effects if r.model == "one-stage" and r.tau2_method == "ml"]
    assert any("no participant of the active arms had the event" in w for w in result.warnings)


def test_one_stage_alone_that_cannot_be_fitted_is_refused():
    rows = rows_of("T1", "T2", "T4")
    rows = rows.assign(died=rows["died"].where(rows["arm"] == "control", 0))
    with pytest.raises(EstimationError, match="no participant of the active arms") as error:
        pooled(ODDS, rows, model="one-stage")
    assert "two-stage" in error.value.hint


def test_trials_without_events_in_either_arm_say_nothing():
    rows = rows_of()
    silent = rows["trial"].isin(["T3", "T7"])
    rows = rows.assign(died=rows["died"].mask(silent, 0))
    row = random_row(pooled(ODDS, rows))
    without = random_row(pooled(ODDS, rows[~silent]))
    assert row.k == without.k == 5
    assert row.estimate == pytest.approx(without.estimate, rel=1e-8)


def test_a_covariate_that_predicts_a_trials_events_is_named():
    rows = rows_of("T1", "T2", "T4")
    perfect = rows["trial"] == "T2"
    rows = rows.assign(score=rows["age_years"].mask(perfect, 50 + 10 * rows["died"]))
    result = pooled(ODDS, rows, adjust=("score",))
    assert any("covariates predict the events of T2 perfectly" in w for w in result.warnings)


def test_with_one_stage_alone_the_two_stage_pool_is_not_given():
    """Odds and hazard ratios alike: the headline is the mean of effects that may differ."""
    for options in (ODDS, HAZARD):
        result = pooled(options, model="one-stage")
        kinds = {(r.model, r.analysis) for r in result.effects}
        assert ("two-stage", "pooled") not in kinds
        assert result.headline("active").tau2_method == "ml"
        few = pooled(options, rows_of("T1", "T2", "T4"), model="one-stage")
        assert ("two-stage", "pooled") in {(r.model, r.analysis) for r in few.effects}


def test_a_third_arm_does_not_move_the_effect():
    rows = rows_of()
    third = rows[rows["trial"] == "T4"].assign(
        arm="high", participant_id=lambda f: "H" + f["participant_id"]
    )
    more = pd.concat([rows, third], ignore_index=True)
    for options in (ODDS, HAZARD):
        with_third = random_row(pooled(options, more, model="both"), arm="active")
        assert with_third.k == 7
        if options is ODDS:
            assert with_third.estimate == pytest.approx(random_row(pooled(ODDS)).estimate, rel=1e-7)


def test_the_command_writes_tables_and_page(tmp_path):
    """Half of some trials' participants have the event, so that medians are 0 and 1."""
    words = ["pool-trials", str(FOLDER / "events_one_stage.csv"), "--out", str(tmp_path / "out")]
    words += ["--effect", "hazard-ratio", "--time", "mace_day", "--event", "mace", "--verbose"]
    words += ["--rmst", "365", "--min-cell", "0", "--no-leave-one-out"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    rmst = pd.read_csv(tmp_path / "out" / "rmst.csv", dtype=str, keep_default_na=False)
    tests = pd.read_csv(tmp_path / "out" / "proportional_hazards.csv")
    curves = pd.read_csv(tmp_path / "out" / "survival.csv")
    page = (tmp_path / "out" / "report.html").read_text()
    assert list(tests["trial"].isna()) == [False] * 7 + [True]
    assert "hazards are not proportional in T2, T5" in page
    assert "Mean time free of the event up to 365" in page
    headline = rmst[(rmst["trial"] == "") & (rmst["headline"].str.lower() == "true")]
    text = f"{float(headline['estimate'].iloc[0]):.1f}".replace("-", "−")
    assert text in page
    assert text in done.stdout
    assert {row["kind"] for _, row in curves.iterrows()} == {"event-free", "at-risk"}
    assert (tmp_path / "out" / "figures" / "survival-trials.svg").is_file()
    assert "Kaplan-Meier estimates and 95% intervals" in page
    # One headline, in the first row of the table and at the start of what is printed.
    assert page.count("(headline)") == 1
    assert done.stdout.startswith("Hazard ratio, mace, active versus control: ")
