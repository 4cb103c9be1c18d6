"""Within-trial interactions and floating effects against lm, metafor, lme4 and dense matrices."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiometa.pooling.first_stage.first_stage import first_stage
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from cardiometa.pooling.subgroups.interaction import one_stage_interaction, pool_interaction
from cardiometa.pooling.subgroups.rows import modifiers_of
from cardiometa.statistics.mixed.one_stage import contrast_interval
from cardiometa.statistics.multivariate import LevelEffects, contrasts_of, fit_parts
from tests.kit.pooling_tables import cohort_table

FOLDER = Path(__file__).parents[1] / "golden" / "pooling"
GOLDEN = json.loads((FOLDER / "interaction.json").read_text())
GROUPS = GOLDEN["ethnicity"]["levels"]


def people():
    return pd.read_csv(FOLDER / "interaction_people.csv", dtype={"participant_id": str})


def options(*by, **changes):
    return PoolingOptions(
        outcome="lv_ef_percent", baseline_column="lv_ef_baseline", min_cell=0, by=by, **changes
    )


def pooled(name, rows=None, **changes):
    chosen = options(name, **changes)
    stage = first_stage(cohort_table(people() if rows is None else rows), chosen)
    modifier = modifiers_of(stage.trials, stage.people, "active", chosen)[0]
    return pool_interaction(modifier, "reml"), chosen


@pytest.fixture(scope="module")
def by_age():
    return pool_trials(cohort_table(people()), options("age", "sex", residual="common")).effects


def test_slopes_of_the_trials_equal_lm(by_age):
    found = {
        r.trial: r for r in by_age if r.analysis == "interaction" and r.level == "per 10 years"
    }
    for want in GOLDEN["age"]["trials"]:
        row = found[want["trial"]]
        assert row.df == want["df"]
        assert (row.estimate, row.se) == pytest.approx((want["estimate"], want["se"]), rel=1e-8)


@pytest.mark.parametrize("method", ["wald", "hksj", "hksj-truncated"])
def test_the_pooled_slope_equals_metafor(by_age, method):
    row = next(
        r
        for r in by_age
        if r.analysis == "interaction"
        and (r.term, r.trial, r.ci_method, r.model)
        == ("treatment:age_years", "", method, "two-stage")
    )
    for name, value in GOLDEN["age"][method].items():
        assert getattr(row, name) == pytest.approx(value, rel=1e-6, abs=1e-9), name
    assert row.headline is (method == "hksj-truncated")
    # The truth is -1.2 within trials; between them it is +2.
    assert row.ci_low < -1.2 < row.ci_high < 0


def test_the_one_stage_slope_equals_lme4_and_pbkrtest(by_age):
    want = GOLDEN["age_one_stage"]
    rows = [
        r
        for r in by_age
        if r.model == "one-stage" and r.term == "treatment:age_years" and not r.trial
    ]
    within = {r.ci_method: r for r in rows if not r.note}
    across = next(r for r in rows if r.note.startswith("ecological"))
    for row, peer in ((within["kenward-roger"], want["within"]), (across, want["across"])):
        assert row.estimate == pytest.approx(peer["estimate"], rel=1e-5)
        assert row.se == pytest.approx(peer["kr_se"], rel=1e-5)
        assert row.df == pytest.approx(peer["kr_df"], rel=1e-5)
    assert not across.headline
    assert across.estimate > 0 > within["kenward-roger"].estimate


@pytest.mark.parametrize("name", ["sex", "ethnicity"])
def test_levels_and_floating_effects(name):
    want = GOLDEN[name]
    found, _ = pooled(name)
    reference = want["levels"][0]
    order = found.levels
    assert order[0] == reference
    trials = {t.trial: t for t in found.trials}
    for peer in want["trials"]:
        mine = trials[peer["trial"]]
        assert set(mine.levels) == set(peer["levels"])
        at = [mine.levels.index(level) for level in peer["levels"]]
        assert mine.df == peer["df"]
        assert mine.estimates[at] == pytest.approx(peer["b"], rel=1e-8)
        assert np.sqrt(np.diag(mine.covariance))[at] == pytest.approx(peer["se"], rel=1e-8)
    at = [order.index(level) - 1 for level in want["levels"][1:]]
    fit, floating = found.fit, found.floating
    assert fit.df == want["df"]
    assert fit.tau2 == pytest.approx(want["tau2"], rel=1e-6, abs=1e-9)
    assert fit.q_ratio == pytest.approx(want["q"], rel=1e-6)
    assert fit.coefficients[at] == pytest.approx(want["gamma"], rel=1e-6)
    assert np.sqrt(np.diag(fit.covariance))[at] == pytest.approx(want["gamma_se"], rel=1e-6)
    at = [order.index(level) for level in want["levels"]]
    assert floating.tau2_mean == pytest.approx(want["tau2_mean"], rel=1e-6, abs=1e-9)
    assert floating.beta[at] == pytest.approx(want["beta"], rel=1e-6)
    assert np.sqrt(np.diag(floating.covariance))[at] == pytest.approx(want["beta_se"], rel=1e-6)
    # Differences of the floating effects are the interactions.
    assert floating.beta[1:] - floating.beta[0] == pytest.approx(fit.coefficients, abs=1e-12)


def test_the_multivariate_step_equals_rma_mv():
    want = GOLDEN["rma_mv"]
    effects = []
    for trial in pooled("ethnicity")[0].trials:
        if trial.trial in want["trials"]:
            at = [trial.levels.index(level) for level in GROUPS]
            effects.append(
                LevelEffects(
                    levels=(0, 1, 2, 3),
                    b=trial.estimates[at],
                    covariance=trial.covariance[np.ix_(at, at)],
                )
            )
    fit = fit_parts([contrasts_of(e, 4) for e in effects])
    # rma.mv's optimiser leaves 1e-9 of tau2 where ours finds 0.
    assert fit.tau2 == pytest.approx(want["tau2"], abs=1e-8)
    assert fit.coefficients == pytest.approx(want["gamma"], rel=1e-6)
    assert np.sqrt(np.diag(fit.covariance)) == pytest.approx(want["se"], rel=1e-6)


def test_one_stage_levels_equal_dense_matrices():
    want = GOLDEN["ethnicity_one_stage"]
    rows = people()
    rows = rows[rows["trial"].isin(["CHINA", "DOLCE", "FORTE", "GRAVE"])]
    rows = rows.groupby("trial").head(60)
    # Which level is the reference does not change the model: contrasts are compared by name.
    found, chosen = pooled("ethnicity", rows)
    single = one_stage_interaction(found, chosen)
    assert not single.across
    assert single.fit.theta == pytest.approx(want["tau2"], rel=1e-6, abs=1e-6)
    place = {level: i for i, level in enumerate(found.levels)}
    for level, peer in zip(GROUPS[1:], want["within"], strict=True):
        contrast = np.zeros(len(single.fit.beta))
        for name, sign in ((level, 1.0), (GROUPS[0], -1.0)):
            if place[name]:
                contrast[place[name]] += sign
        interval = contrast_interval(single.fit, contrast, "kenward-roger")
        assert contrast @ single.fit.beta == pytest.approx(peer["estimate"], rel=1e-6)
        assert interval.se == pytest.approx(peer["kr_se"], rel=1e-6)
        assert interval.df == pytest.approx(peer["kr_df"], rel=1e-5)
