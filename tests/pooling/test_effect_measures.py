"""Every effect measure at every number of trials, few events, ties, and absurd sizes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from cardiometa.errors import TableError
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import SummaryTable, pool_summaries, pool_trials
from cardiometa.statistics.event_models import (
    fit_cox,
    fit_logistic,
    partial_likelihood,
    risk_sets,
    without_rounding,
)
from tests.kit.pooling_tables import INTERVAL_METHODS, cohort_table, simulate_wide

PLAIN = PoolingOptions(
    outcome="lv_ef_percent", min_cell=0, leave_one_out=False, model="two-stage", effect="follow-up"
)
EVENT = replace(PLAIN, outcome="mace", effect="odds-ratio")
HAZARD = replace(EVENT, effect="hazard-ratio", time="day", event="mace")
MEASURES = {
    "mean-difference": replace(PLAIN, effect="mean-difference", baseline_column="lv_ef_baseline"),
    "change": replace(PLAIN, effect="change", baseline_column="lv_ef_baseline"),
    "follow-up": PLAIN,
    "standardised-mean-difference": replace(PLAIN, effect="standardised-mean-difference"),
    "odds-ratio": EVENT,
    "risk-ratio": replace(EVENT, effect="risk-ratio"),
    "risk-difference": replace(EVENT, effect="risk-difference"),
    "hazard-ratio": HAZARD,
    "win-odds": replace(PLAIN, effect="win-odds", estimand="worst-rank"),
}


@pytest.fixture(scope="module")
def people():
    draw = np.random.default_rng(3)
    wide = simulate_wide(60, people=24)
    wide["mace"] = (draw.random(len(wide)) < 0.4).astype(int)
    wide["day"] = draw.exponential(300, len(wide)).round(1)
    wide["death_day"] = np.where(draw.random(len(wide)) < 0.05, 100.0, np.nan)
    wide.loc[wide["death_day"].notna(), "lv_ef_percent"] = np.nan
    return wide


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_at_every_number_of_trials(people, measure):
    options = MEASURES[measure]
    names = list(dict.fromkeys(people["trial"]))
    for k in (2, 3, 9, 10, 11, 60):
        result = pool_trials(cohort_table(people[people["trial"].isin(names[:k])]), options)
        trials = [r for r in result.effects if r.analysis == "trial" and r.estimate is not None]
        assert len(trials) == k
        assert result.headline("active").k == k
        small = [r for r in result.effects if r.analysis == "small-study"]
        assert len(small) == (k >= 10)
        for row in small:
            se = np.array([r.se for r in trials])
            y = np.array([r.estimate for r in trials]) / se
            line = np.linalg.lstsq(np.column_stack([np.ones(k), 1 / se]), y, rcond=None)[0]
            assert row.estimate == pytest.approx(line[0], rel=1e-7)
            assert row.exp_estimate is None


# ------------------------------------------------------------------ few events


@pytest.mark.parametrize(("n0", "n1"), [(10, 12), (60, 60), (5, 40), (200, 3)])
def test_firth_with_one_event_has_a_closed_form(n0, n1):
    """exp(b) = n0 / (3 n1) where the event is the control arm's, 3 n0 / n1 where the other's."""
    arm = np.repeat([0.0, 1.0], [n0, n1])
    for place, wanted in ((0, n0 / (3 * n1)), (n0, 3 * n0 / n1)):
        event = np.arange(n0 + n1) == place
        fit = fit_cox([risk_sets(2.0 - event, event, arm[:, None])], penalised=True)
        assert np.exp(fit.coefficients[0]) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("events", [1, 2, 3])
@pytest.mark.parametrize("covariates", [0, 1, 2])
def test_firth_with_few_events_is_at_the_top_of_the_penalised_likelihood(events, covariates):
    draw = np.random.default_rng(events + 10 * covariates)
    arm = np.arange(80) % 2
    x = np.column_stack([arm, draw.normal(size=(80, covariates))])
    time, event = draw.exponential(10, 80), np.zeros(80, dtype=bool)
    event[np.flatnonzero(arm == 0)[:events]] = True
    sets = risk_sets(time, event, x)
    fit = fit_cox([sets], penalised=True)
    assert fit.steps < 30

    def loss(beta):
        return -partial_likelihood(sets, beta, penalised=True).value

    other = minimize(loss, np.zeros(1 + covariates), method="Nelder-Mead", options={"xatol": 1e-9})
    assert loss(fit.coefficients) <= other.fun + 1e-10
    assert fit.coefficients == pytest.approx(other.x, abs=1e-3)
    logistic = fit_logistic(np.column_stack([np.ones(80), x]), event.astype(float), penalised=True)
    assert logistic.steps < 30
    assert np.isfinite(logistic.coefficients).all()


def test_a_trial_with_one_event_is_pooled(people):
    some = people[people["trial"].isin(["T1", "T2", "T3"])].copy()
    first = some["trial"] == "T1"
    some.loc[first, "mace"] = 0
    some.loc[some.index[first & (some["arm"] == "control")][0], ["mace", "day"]] = [1, 0.5]
    result = pool_trials(cohort_table(some), HAZARD)
    row = next(r for r in result.effects if r.analysis == "trial" and r.trial == "T1")
    assert row.exp_estimate == pytest.approx(row.n_control / (3 * row.n_active), rel=1e-8)
    assert result.headline("active").k == 3


# ------------------------------------------------------------------ ties by rounding


@pytest.mark.parametrize(
    "written",
    [
        lambda t: t * 0.1,
        lambda t: np.cumsum(np.full(40, 0.1))[t - 1],
        lambda t: t / 10 + 1e-9 * (np.arange(len(t)) % 3),
        lambda t: (t / 365.25) * 365.25 / 10,
    ],
)
def test_times_that_differ_by_rounding_are_ties(people, written):
    some = people[people["trial"].isin(["T1", "T2", "T3"])].copy()
    whole = np.random.default_rng(1).integers(1, 40, len(some))
    exact = pool_trials(cohort_table(some.assign(day=whole / 10)), HAZARD)
    found = pool_trials(cohort_table(some.assign(day=written(whole))), HAZARD)
    for a, b in zip(exact.effects, found.effects, strict=True):
        assert b.estimate == pytest.approx(a.estimate, rel=1e-12)
        assert b.se == pytest.approx(a.se, rel=1e-12)


def test_times_that_differ_by_more_than_rounding_stay_apart():
    values = np.array([1.0, 1.0 + 1e-7, 2.0, 2.0 + 1e-9, 1e-12])
    assert without_rounding(values).tolist() == [1.0, 1.0 + 1e-7, 2.0, 2.0, 1e-12]
    assert without_rounding(np.array([3.0])).tolist() == [3.0]
    assert len(np.unique(without_rounding(1e6 * values[:2]))) == 2


# ------------------------------------------------------------------ sizes


@pytest.mark.parametrize("se", [1e-200, 0.0, -0.1, np.inf, 1e200, 1e-8, 1e7, 1e-101])
def test_absurd_standard_errors_are_refused(se):
    rows = pd.DataFrame({"trial": list("ABC"), "estimate": [0.3, 0.5, 0.4], "se": [0.1, 0.12, se]})
    with pytest.raises(TableError) as caught:
        pool_summaries(SummaryTable(rows=rows, name="t.csv"), PoolingOptions())
    assert "trial C" in str(caught.value.problems) or "se" in str(caught.value.problems)


def test_estimates_beyond_what_can_be_squared_are_refused():
    rows = pd.DataFrame({"trial": list("AB"), "estimate": [1e160, 2e160], "se": [1e158, 1e158]})
    with pytest.raises(TableError):
        pool_summaries(SummaryTable(rows=rows, name="t.csv"), PoolingOptions())


@pytest.mark.parametrize("random_effects", ["effect", "intercept", "correlated"])
def test_large_offsets_change_nothing(random_effects):
    """Columns that vary by a millionth of their size are used as if they were centred."""
    options = replace(
        PLAIN,
        effect="mean-difference",
        baseline_column="lv_ef_baseline",
        model="both",
        by=("age",),
        adjust=("age",),
        random_effects=random_effects,
    )
    wide = simulate_wide(8, people=40)
    plain = pool_trials(cohort_table(wide), options)
    for names in (["lv_ef_baseline"], ["lv_ef_percent", "lv_ef_baseline", "age_years"]):
        moved = wide.assign(**{name: wide[name] + 1e7 for name in names})
        found = pool_trials(cohort_table(moved), replace(options, by=("age",)))
        pairs = [
            (a, b)
            for a, b in zip(plain.effects, found.effects, strict=False)
            if a.headline and a.analysis in ("pooled", "interaction", "trial")
        ]
        assert len(pairs) > 10
        for a, b in pairs:
            assert (a.analysis, a.model, a.note) == (b.analysis, b.model, b.note)
            assert b.estimate == pytest.approx(a.estimate, rel=1e-6, abs=1e-7)
            assert b.se == pytest.approx(a.se, rel=1e-6)


@pytest.mark.parametrize("options", [EVENT, HAZARD], ids=["logistic", "cox"])
def test_large_offsets_of_covariates_change_no_event_model(people, options):
    some = people[people["trial"].isin(["T1", "T2", "T3", "T4"])]
    chosen = replace(options, adjust=("age",), by=("age",))
    plain = pool_trials(cohort_table(some), chosen)
    moved = pool_trials(cohort_table(some.assign(age_years=some["age_years"] + 1e7)), chosen)
    for a, b in zip(plain.effects, moved.effects, strict=False):
        if a.headline and a.analysis in ("pooled", "interaction", "trial"):
            assert b.estimate == pytest.approx(a.estimate, rel=1e-6, abs=1e-8)
            assert a.note == b.note


# ------------------------------------------------------------------ one interval method per run


@pytest.mark.parametrize(("changes", "method"), INTERVAL_METHODS)
def test_effects_by_level_have_the_interval_that_was_asked_for(changes, method):
    wide = simulate_wide(6, people=120)
    options = replace(PLAIN, by=("sex",), **changes)
    result = pool_trials(cohort_table(wide), options)
    rows = [r for r in result.effects if r.headline and not r.trial and r.analysis != "trial"]
    assert {r.ci_method for r in rows if r.analysis != "small-study"} == {method}
    levels = {r.level: r for r in rows if r.analysis == "subgroup"}
    assert len(levels) == 2
    if "tau2" not in changes or method != "wald":
        return
    # One common effect: both steps in closed form, the levels' participants being independent.
    own = [r for r in result.effects if r.analysis == "subgroup" and r.trial]
    (first, b1, v1), (second, b2, v2) = (
        (
            level,
            np.array([r.estimate for r in own if r.level == level]),
            np.array([r.se for r in own if r.level == level]) ** 2,
        )
        for level in levels
    )
    between = 1 / (v1 + v2)
    d, var_d = (between * (b2 - b1)).sum() / between.sum(), 1 / between.sum()
    total = (1 / v1 + 1 / v2).sum()
    theta = ((b1 / v1).sum() + ((b2 - d) / v2).sum()) / total
    share = (1 / v2).sum() / total
    for level, estimate, variance in (
        (first, theta, 1 / total + share**2 * var_d),
        (second, theta + d, 1 / total + (1 - share) ** 2 * var_d),
    ):
        assert levels[level].estimate == pytest.approx(estimate, rel=1e-8)
        assert levels[level].se == pytest.approx(np.sqrt(variance), rel=1e-8)
        assert levels[level].df is None
