"""What must and must not change a one-stage fit (pooling.md 7.9)."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.pooling.first_stage.arm_sums import effects_of_trial
from cardiometa.statistics.meta import pool_estimates
from cardiometa.statistics.mixed.likelihood import Model, likelihood_terms
from cardiometa.statistics.mixed.one_stage import contrast_interval
from cardiometa.statistics.mixed.sufficient_statistics import RESIDUALS, merge_summaries
from tests.kit.one_stage import fit_of, sums_by_trial
from tests.kit.pooling_tables import simulate_wide

ONE = np.ones(1)
SEEDS = st.integers(0, 5_000)
few = settings(max_examples=6, deadline=None)
slow = settings(max_examples=3, deadline=None)


def people(seed, trials=5, tau=2.0):
    wide = simulate_wide(trials, seed, people=40, tau=tau)
    return wide.rename(columns={"lv_ef_percent": "outcome", "lv_ef_baseline": "baseline"})


def numbers(fit):
    rogers = contrast_interval(fit, ONE, "kenward-roger")
    return {
        "estimate": fit.beta[0],
        "se": rogers.se,
        "df": rogers.df,
        "satterthwaite": contrast_interval(fit, ONE, "satterthwaite").df,
        "tau": fit.theta[0] ** 0.5,
        "criterion": fit.criterion,
    }


def same(first, second, rel=1e-7, but=()):
    for name, value in first.items():
        if name not in but:
            assert second[name] == pytest.approx(value, rel=rel, abs=1e-7), name


@few
@given(SEEDS, st.sampled_from(RESIDUALS))
def test_rows_in_any_order_and_in_two_sites_give_the_same(seed, residual):
    rows = people(seed)
    whole = fit_of(sums_by_trial(rows, ["baseline"]), residual=residual)
    mixed = rows.sample(frac=1, random_state=seed)
    first, second = mixed.iloc[: len(mixed) // 3], mixed.iloc[len(mixed) // 3 :]
    parts = [{s.trial: s for s in sums_by_trial(p, ["baseline"])} for p in (first, second)]
    merged = [
        replace(
            parts[0][trial],
            arms={
                arm: merge_summaries(parts[0][trial].arms[arm], parts[1][trial].arms[arm])
                for arm in parts[0][trial].arms
            },
        )
        for trial in parts[0]
    ]
    same(numbers(whole), numbers(fit_of(merged, residual=residual)))


@few
@given(SEEDS, st.sampled_from(RESIDUALS), st.floats(0.05, 40), st.floats(-1e4, 1e4))
def test_another_unit_of_the_outcome_scales_the_effect_alone(seed, residual, scale, shift):
    rows = people(seed)
    other = rows.assign(outcome=shift + scale * rows["outcome"])
    a, b = (
        numbers(fit_of(sums_by_trial(r, ["baseline"]), residual=residual)) for r in (rows, other)
    )
    for name in ("estimate", "se", "tau"):
        b[name] /= scale
    same(a, b, rel=1e-6, but=("criterion",))


@few
@given(SEEDS, st.sampled_from(RESIDUALS))
def test_a_constant_or_a_multiple_of_a_nuisance_column_by_trial_changes_nothing(seed, residual):
    rows = people(seed)
    number = rows["trial"].str[1:].astype(int)
    other = rows.assign(outcome=rows["outcome"] + 7.0 * number - 0.3 * number * rows["baseline"])
    same(
        numbers(fit_of(sums_by_trial(rows, ["baseline"]), residual=residual)),
        numbers(fit_of(sums_by_trial(other, ["baseline"]), residual=residual)),
        rel=1e-6,
    )


@few
@given(SEEDS)
def test_coding_of_the_treatment_does_not_matter_to_reml_but_does_to_ml(seed):
    sums = sums_by_trial(people(seed, tau=4.0), ["baseline"])
    same(numbers(fit_of(sums)), numbers(fit_of(sums, centred=True)))
    plain, centred = (fit_of(sums, restricted=False, centred=c) for c in (False, True))
    if max(plain.theta[0], centred.theta[0]) > 0:  # some draws have no spread of the effect
        assert plain.theta[0] != pytest.approx(centred.theta[0], rel=1e-4)


@few
@given(SEEDS, st.sampled_from(RESIDUALS))
def test_arms_swapped_change_the_sign_alone(seed, residual):
    rows = people(seed)
    swapped = rows.assign(arm=rows["arm"].map({"active": "control", "control": "active"}))
    a, b = (
        numbers(fit_of(sums_by_trial(r, ["baseline"]), residual=residual)) for r in (rows, swapped)
    )
    b["estimate"] = -b["estimate"]
    same(a, b)


@few
@given(SEEDS)
def test_large_trials_make_one_stage_the_two_stage_fit(seed):
    sums = sums_by_trial(people(seed), ["baseline"])
    factor = 10**5
    # More people with the same mean information a person: the residual variance is then known.
    many = []
    for one in sums:
        arms = {
            arm: replace(s, n=s.n * factor, cross_products=s.cross_products * factor)
            for arm, s in one.arms.items()
        }
        many.append(replace(one, arms=arms))
    studies = [effects_of_trial(one)[0] for one in many]
    y = np.array([s.estimate for s in studies])
    v = np.array([s.se for s in studies]) ** 2
    two, one = pool_estimates(y, v, "reml"), fit_of(many)
    assert one.beta[0] == pytest.approx(two.estimate, rel=1e-6)
    assert one.theta[0] == pytest.approx(two.tau2, rel=1e-4)
    # Kenward and Roger's df is then that of the second stage: 2 I / (W2 / W1)^2.
    w = 1 / (v + one.theta[0])
    w1, w2, w3 = w.sum(), (w**2).sum(), (w**3).sum()
    information = 0.5 * (w2 - 2 * w3 / w1 + (w2 / w1) ** 2)
    df = contrast_interval(one, ONE, "kenward-roger").df
    assert df == pytest.approx(max(2 * information / (w2 / w1) ** 2, 1.0), rel=1e-4)


@few
@given(SEEDS)
def test_the_pool_twice_halves_the_variance(seed):
    # Maximum likelihood, where twice the data is twice the log-likelihood of the same parameters.
    rows = people(seed)
    twice = pd.concat([rows, rows.assign(trial="again " + rows["trial"])])
    one, two = (
        fit_of(sums_by_trial(r, ["baseline"]), restricted=False, centred=True)
        for r in (rows, twice)
    )
    assert two.beta[0] == pytest.approx(one.beta[0], rel=1e-7)
    assert two.theta[0] == pytest.approx(one.theta[0], rel=1e-6, abs=1e-9)
    assert two.covariance[0, 0] == pytest.approx(one.covariance[0, 0] / 2, rel=1e-6)
    assert two.criterion == pytest.approx(2 * one.criterion, rel=1e-9)


@few
@given(SEEDS, st.sampled_from(RESIDUALS))
def test_a_trial_without_an_arm_gives_no_information_on_the_effect_and_no_crash(seed, residual):
    rows = people(seed)
    last = rows["trial"] == "T5"
    lone = rows[~(last & (rows["arm"] == "active"))]
    with_it, without = (
        numbers(fit_of(sums_by_trial(r, ["baseline"]), residual=residual))
        for r in (lone, rows[~last])
    )
    if residual != "common":
        same(with_it, without, but=("criterion",))
    assert np.isfinite(list(with_it.values())).all()


@few
@given(SEEDS)
def test_the_fit_is_a_maximum_of_its_own_criterion(seed):
    sums = sums_by_trial(people(seed), ["baseline"])
    fit = fit_of(sums)
    assert fit.checks.converged
    assert fit.checks.starts >= 1
    model = Model(data=fit.data, basis=fit.basis, restricted=True)
    at = np.concatenate([fit.theta, fit.variances])
    here = likelihood_terms(model, at)
    observed = here.observed
    step = 1e-4 * np.maximum(at, 0.1)
    for r in range(len(at)):
        if r == 0 and fit.theta[0] == 0:
            continue
        up, down = at.copy(), at.copy()
        up[r] += step[r]
        down[r] = max(at[r] - step[r], 1e-9)
        high, low = likelihood_terms(model, up), likelihood_terms(model, down)
        assert min(high.criterion, low.criterion) >= here.criterion - 1e-9
        slope = -0.5 * (high.criterion - low.criterion) / (up[r] - down[r])
        middle = likelihood_terms(model, (up + down) / 2).score[r]
        assert slope == pytest.approx(middle, abs=2e-4 * (1 + abs(observed[r, r]) ** 0.5))
        curve = -(high.score - low.score) / (up[r] - down[r])
        assert curve[r] == pytest.approx(observed[r, r], rel=2e-2, abs=1e-6)


@slow
@given(SEEDS, st.sampled_from(["intercept", "correlated"]), st.floats(0.1, 20))
def test_random_intercepts_keep_the_invariances(seed, random, scale):
    rows = people(seed, trials=6, tau=3.0)
    other = rows.assign(
        outcome=5.0 + scale * rows["outcome"] + 2.0 * rows["baseline"],
        arm=rows["arm"].map({"active": "control", "control": "active"}),
    ).sample(frac=1, random_state=seed)
    b = fit_of(sums_by_trial(other, ["baseline"]), random=random)
    # The trials' levels move with the baseline's means: the intercepts are other ones then.
    plain = rows.assign(outcome=rows["outcome"] + 2.0 * rows["baseline"] / scale)
    a = fit_of(sums_by_trial(plain, ["baseline"]), random=random)
    effect = np.array([1.0, 0.0])
    for method in ("kenward-roger", "satterthwaite"):
        first, second = (contrast_interval(fit, effect, method) for fit in (a, b))
        assert second.df == pytest.approx(first.df, rel=1e-4)
        assert second.se == pytest.approx(scale * first.se, rel=1e-5)
    assert b.beta[0] == pytest.approx(-scale * a.beta[0], rel=1e-5, abs=1e-6 * scale)
    size = a.theta[0] + float(a.covariance[0, 0])
    assert b.theta[0] / scale**2 == pytest.approx(a.theta[0], abs=1e-5 * size)


@slow
@given(SEEDS)
def test_a_correlation_never_makes_the_criterion_worse(seed):
    sums = sums_by_trial(people(seed, trials=7, tau=2.0), ["baseline"])
    apart, free = (fit_of(sums, random=kind) for kind in ("intercept", "correlated"))
    assert free.criterion <= apart.criterion + 1e-7
    d11, d22, d12 = free.theta
    assert d11 >= 0
    assert d22 >= 0
    assert d12**2 <= d11 * d22 * (1 + 1e-9)
