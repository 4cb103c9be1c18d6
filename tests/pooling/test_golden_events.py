"""Binary and time-to-event endpoints against R's metafor, glm, brglm and coxph."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiometa.pooling.first_stage.first_stage import first_stage
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from cardiometa.pooling.second_stage.events import fit_stratified
from cardiometa.statistics.event_models import fit_cox, partial_likelihood, risk_sets
from tests.kit.pooling_tables import cohort_table

FOLDER = Path(__file__).parents[1] / "golden" / "pooling"
GOLDEN = json.loads((FOLDER / "events.json").read_text())


def rows():
    return pd.read_csv(FOLDER / "events.csv", dtype={"participant_id": str})


def options_of(effect, **changes):
    base = {"outcome": "died", "effect": effect, "min_cell": 0}
    if effect == "hazard-ratio":
        base |= {"outcome": "mace", "time": "mace_day", "event": "mace"}
    return PoolingOptions(**base, **changes)


def trial_rows(effect, **changes):
    result = pool_trials(cohort_table(rows()), options_of(effect, **changes))
    return {(r.trial, r.arm): r for r in result.effects if r.analysis == "trial"}, result


def assert_rows(found, wanted, rel):
    assert wanted
    for want in wanted:
        row = found[want["trial"], want["arm"]]
        assert (row.estimate, row.se) == pytest.approx((want["estimate"], want["se"]), rel=rel)


@pytest.mark.parametrize(
    ("effect", "keys"),
    [
        ("odds-ratio", ["odds_ratio", "firth"]),
        ("risk-ratio", ["risk_ratio", "risk_ratio_corrected"]),
        ("risk-difference", ["risk_difference_corrected"]),
    ],
)
def test_tables_equal_metafor_and_firths_formula(effect, keys):
    found, _ = trial_rows(effect)
    for key in keys:
        assert_rows(found, GOLDEN[key], 1e-9)


def test_risk_differences_equal_metafor_where_it_gives_one():
    found, _ = trial_rows("risk-difference")
    wanted = [w for w in GOLDEN["risk_difference"] if w["trial"] != "FOXTROT"]
    assert len(wanted) == 6
    assert_rows(found, wanted, 1e-9)
    assert "0.5 added" in found["FOXTROT", "active"].note


def test_adjusted_odds_ratios_equal_glm_and_firth():
    found, _ = trial_rows("odds-ratio", adjust=("age", "sex"))
    assert_rows(found, GOLDEN["logistic_adjusted"], 1e-8)
    assert_rows(found, GOLDEN["firth_adjusted"], 1e-8)
    assert_rows(found, GOLDEN["brglm_adjusted"], 1e-6)
    assert "Firth" in found["CHARLIE", "active"].note
    assert found["FOXTROT", "active"].estimate is None


@pytest.mark.parametrize("effect", ["odds-ratio", "risk-ratio", "risk-difference"])
def test_mantel_haenszel_equals_metafor(effect):
    _, result = trial_rows(effect)
    want = GOLDEN["mantel_haenszel"][effect]
    (row,) = [r for r in result.effects if "Mantel" in r.note and r.arm == "active"]
    assert [row.estimate, row.se, row.ci_low, row.ci_high, row.p] == pytest.approx(
        [want[name] for name in ("estimate", "se", "ci_low", "ci_high", "p")], rel=1e-8
    )


@pytest.mark.parametrize(("adjust", "key"), [((), "cox"), (("age", "sex"), "cox_adjusted")])
def test_hazard_ratios_equal_coxph(adjust, key):
    found, _ = trial_rows("hazard-ratio", adjust=adjust)
    assert_rows(found, GOLDEN[key], 1e-8)
    assert found["FOXTROT", "active"].estimate is None
    assert found["ALPHA", "active"].exp_estimate == pytest.approx(
        np.exp(found["ALPHA", "active"].estimate)
    )


def test_an_arm_without_events_has_firths_hazard_ratio():
    found, _ = trial_rows("hazard-ratio")
    # R's maximum is of a numerical slope, good to about 1e-7.
    assert_rows(found, GOLDEN["cox_firth"], 1e-6)
    assert "Firth" in found["CHARLIE", "active"].note


@pytest.mark.parametrize(
    ("adjust", "key"), [((), "cox_stratified"), (("age", "sex"), "cox_stratified_adjusted")]
)
def test_the_stratified_model_equals_coxph(adjust, key):
    options = options_of("hazard-ratio", adjust=adjust)
    stage = first_stage(cohort_table(rows()), options)
    # coxph was given the four trials with events in each arm.
    trials = [t for t in stage.trials if t.trial in ("ALPHA", "BRAVO", "DELTA", "ECHO")]
    fit = fit_stratified(trials, "control")
    for want in GOLDEN[key]:
        place = fit.arms.index(want["arm"])
        assert fit.coefficients[place] == pytest.approx(want["estimate"], rel=1e-8)
        assert fit.covariance[place, place] ** 0.5 == pytest.approx(want["se"], rel=1e-8)
        assert fit.log_likelihood == pytest.approx(want["log_likelihood"], rel=1e-11)


def test_the_one_stage_row_takes_trials_with_an_empty_arm_as_they_are():
    _, result = trial_rows("hazard-ratio")
    random, row = [r for r in result.effects if r.model == "one-stage" and r.arm == "active"]
    assert random.headline
    assert not row.headline
    assert row.label == "Cox model stratified by trial, common effect"
    assert random.k == 5
    assert row.k == 5
    stage = first_stage(cohort_table(rows()), options_of("hazard-ratio"))
    fit = fit_stratified(stage.trials, "control")
    assert row.estimate == pytest.approx(fit.coefficients[fit.arms.index("active")])


def test_derivatives_of_the_partial_likelihood():
    """Score, information and Firth's score against differences of the value."""
    draw = np.random.default_rng(3)
    time, event = draw.integers(1, 9, 40).astype(float), draw.random(40) < 0.6
    sets = risk_sets(time, event, draw.normal(size=(40, 3)))
    beta, h = np.array([0.3, -0.2, 0.1]), 1e-6
    for penalised in (False, True):
        here = partial_likelihood(sets, beta, penalised=penalised)
        for place in range(3):
            move = np.eye(3)[place] * h
            up = partial_likelihood(sets, beta + move, penalised=penalised)
            down = partial_likelihood(sets, beta - move, penalised=penalised)
            assert (up.value - down.value) / (2 * h) == pytest.approx(here.score[place], abs=1e-6)
            if not penalised:
                slope = (up.score - down.score) / (2 * h)
                assert slope == pytest.approx(-here.information[place], abs=1e-6)


def test_order_and_unit_of_time_do_not_matter():
    draw = np.random.default_rng(5)
    time, event = draw.integers(1, 30, 80).astype(float), draw.random(80) < 0.5
    x = np.column_stack([draw.integers(0, 2, 80), draw.normal(60, 9, 80)]).astype(float)
    base = fit_cox([risk_sets(time, event, x)])
    order = draw.permutation(80)
    other = fit_cox([risk_sets(time[order] * 7.5, event[order], x[order] * [1, 12] + [0, 5])])
    assert other.coefficients * [1, 12] == pytest.approx(base.coefficients, rel=1e-9)


# ------------------------------------------------------------------ interactions

MODIFIED = json.loads((FOLDER / "event_interaction.json").read_text())


def four_trials():
    table = rows()
    return table[~table["trial"].isin(["CHARLIE", "FOXTROT"])]


def interactions(effect, by, adjust=(), table=None):
    options = options_of(effect, by=by, adjust=adjust, leave_one_out=False)
    table = four_trials() if table is None else table
    result = pool_trials(cohort_table(table), options)
    return [r for r in result.effects if r.arm == "active" and r.term == f"treatment:{by[0]}"]


@pytest.mark.parametrize("effect", ["odds-ratio", "hazard-ratio"])
@pytest.mark.parametrize(
    ("by", "name", "adjust"), [("age_years", "age", ("sex",)), ("sex", "sex", ())]
)
def test_interactions_of_events_equal_glm_and_coxph(effect, by, name, adjust):
    found = [r for r in interactions(effect, (by,), adjust) if r.analysis == "interaction"]
    golden = MODIFIED[effect]
    for row in found:
        if row.trial:
            want = golden["trials"][row.trial][name]
            assert (row.estimate, row.se) == pytest.approx((want["estimate"], want["se"]), rel=1e-8)
    two_stage = [r for r in found if r.model == "two-stage"]
    (main,) = [r for r in two_stage if r.headline and not r.trial]
    for key, want in golden["pooled"][name].items():
        assert getattr(main, key) == pytest.approx(want, rel=1e-6, abs=1e-9), key
    assert main.exp_estimate == pytest.approx(np.exp(main.estimate))


@pytest.mark.parametrize("effect", ["odds-ratio", "hazard-ratio"])
def test_effects_of_events_by_level_equal_glm_and_coxph(effect):
    found = [r for r in interactions(effect, ("sex",)) if r.analysis == "subgroup" and r.trial]
    assert len(found) == 8
    for row in found:
        want = MODIFIED[effect]["trials"][row.trial]
        place = ["male", "female"].index(row.level)
        assert row.estimate == pytest.approx(want["levels"][place], rel=1e-8)
        assert row.se == pytest.approx(want["covariance"][place][place] ** 0.5, rel=1e-8)
        assert row.p is None


@pytest.mark.parametrize("effect", ["odds-ratio", "hazard-ratio"])
def test_trials_whose_levels_say_nothing_are_left_out_with_the_reason(effect):
    found = interactions(effect, ("sex",), table=rows())
    trial = {(r.trial, r.level): r for r in found if r.analysis == "interaction" and r.trial}
    assert trial["FOXTROT", ""].estimate is None
    assert "no events" in trial["FOXTROT", ""].note
    charlie = next(r for (t, _), r in trial.items() if t == "CHARLIE")
    assert charlie.estimate is None or "Firth" in charlie.note
