"""Curves over age: the truth they find, trials, thin groups, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kurtosistest, skewtest

from cardiometa.errors import EstimationError, TableError, UsageError
from cardiometa.reference.curves.curve import curve_document, curve_limits
from cardiometa.reference.curves.fit import CurveData
from cardiometa.reference.curves.measure import estimate_groups, shape_scores
from cardiometa.reference.curves.per_group import GroupShift, moved_curve
from cardiometa.reference.model import FORMAT, FORMAT_VERSION, reference_model
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.ranges import reference_ranges
from tests.kit.consortium import consortium, true_limit
from tests.kit.reference_tables import table

LMS = ReferenceOptions(method="lms", by=("sex", "ethnicity"), measures=("lv_edv_ml",))
SIX = ("ALPHA", "BETA", "GAMMA", "DELTA", "EPSILON", "ZETA")


def _ranges(frame, options=LMS):
    return reference_ranges(table(frame), options)


def _rows(result, **wanted):
    return [r for r in result.rows if all(getattr(r, k) == v for k, v in wanted.items())]


def _data(n, seed=1):
    frame = consortium({("ALPHA", "white"): n}, seed=seed)
    men = frame[frame["sex"] == "male"]
    return CurveData(
        y=men["lv_edv_ml"].to_numpy(),
        age=men["age_years"].to_numpy(),
        ethnicity=np.full(len(men), -1),
        trial=np.zeros(len(men), dtype=int),
    )


@pytest.fixture(scope="module")
def one_trial():
    return _ranges(consortium({("ALPHA", "white"): 40_000}, seed=4))


def test_lms_finds_a_known_law(one_trial):
    """20,000 a sex: the outer limits within 1.2 % over the central 95 % of ages."""
    rows = [r for r in one_trial.rows if r.ethnicity == "all" and 21.5 <= r.age <= 78.5]
    assert len(rows) == 2 * 11 * 3
    for row in rows:
        truth = true_limit(row.age, row.sex, row.centile)
        assert row.limit == pytest.approx(truth, rel=0.012)
        assert row.ci_low < row.limit < row.ci_high
        assert (row.kind, row.status, row.n_trials) == ("population", "single-trial", 1)
    held = [r.ci_low <= true_limit(r.age, r.sex, r.centile) <= r.ci_high for r in rows]
    assert np.mean(held) > 0.6


def test_shares_outside_are_those_of_the_level(one_trial):
    rows = [c for c in one_trial.calibration if c.ethnicity == "all"]
    assert {c.check for c in rows} == {"fitted", "age-third"}
    for row in rows:
        assert row.method == "lms"
        assert row.below_percent == pytest.approx(2.5, abs=0.7)
        assert row.above_percent == pytest.approx(2.5, abs=0.7)


def test_worms_lie_flat_and_q_is_quiet_where_the_law_is_right(one_trial):
    assert len(one_trial.worm_plots) == 6
    for worm in one_trial.worm_plots:
        assert np.mean(np.abs(worm.deviation) <= worm.half_width) > 0.6
    for q in one_trial.q_statistics:
        assert min(q.p_mean, q.p_variance, q.p_skewness, q.p_kurtosis) > 0.001


@pytest.mark.parametrize("method", ["gaussian", "linear", "quantile", "fractional-polynomial"])
def test_other_methods_come_near(method):
    options = replace(LMS, method=method, level=80.0, by=("sex",), bootstrap=200)
    result = _ranges(consortium({("ALPHA", "white"): 24_000}, seed=2), options)
    rows = [r for r in result.rows if 30 <= r.age <= 70]
    assert rows
    for row in rows:
        # The law is skewed and bent: what is not LMS or quantile is a few per cent off.
        near = 0.02 if method == "quantile" else 0.05
        assert row.limit == pytest.approx(true_limit(row.age, row.sex, row.centile), rel=near)
        assert row.ci_low < row.limit < row.ci_high
        assert row.method == method


@pytest.fixture(scope="module")
def six_trials():
    rng = np.random.default_rng(0)
    effects = dict(zip(SIX, rng.permutation([-0.09, -0.05, -0.01, 0.02, 0.05, 0.08]), strict=True))
    sizes = {(t, "white"): 700 for t in SIX}
    sizes |= {(t, "black"): 60 for t in SIX[:4]} | {("ALPHA", "south-asian"): 45}
    return effects, _ranges(consortium(sizes, trial_effects=effects, seed=3))


def test_random_trials_give_marginal_and_wider_limits(six_trials):
    _, result = six_trials
    assert {r.kind for r in result.rows} == {"marginal", "conditional"}
    for sex in ("male", "female"):
        for age in (30.0, 50.0, 70.0):
            spans = {}
            for kind in ("marginal", "conditional"):
                low, middle, high = _rows(result, sex=sex, ethnicity="all", age=age, kind=kind)
                spans[kind] = high.limit - low.limit
                assert low.limit < middle.limit < high.limit
            assert spans["marginal"] > 1.04 * spans["conditional"]


def test_conditional_limits_hold_the_truth_of_an_average_trial(six_trials):
    effects, result = six_trials
    rows = [r for r in _rows(result, kind="conditional", ethnicity="white") if 25 <= r.age <= 75]
    held = [
        r.ci_low
        <= true_limit(r.age, r.sex, r.centile, np.mean(list(effects.values())))
        <= r.ci_high
        for r in rows
    ]
    assert np.mean(held) > 0.9


def test_a_left_out_trial_is_judged_by_the_others(six_trials):
    _, result = six_trials
    left = [c for c in result.calibration if c.check == "left-out-trial" and c.ethnicity == "all"]
    assert {c.group for c in left} == set(SIX)
    assert {c.note for c in left} == {"marginal"}


def test_a_thin_group_is_pooled_and_says_so(six_trials):
    _, result = six_trials
    thin = _rows(result, ethnicity="south-asian", kind="marginal", centile=2.5)
    assert {r.status for r in thin} == {"pooled-thin"}
    assert all("single-trial" in r.note and r.limit is not None for r in thin)
    white = {(r.sex, r.age): r for r in _rows(result, ethnicity="white", kind="marginal",
                                              centile=2.5)}  # fmt: skip
    for row in thin:
        other = white[row.sex, row.age]
        assert row.limit == pytest.approx(other.limit, rel=0.1)
        # Its own level is less sure than that of many.
        assert row.ci_high / row.ci_low > other.ci_high / other.ci_low


def test_one_odd_trial_is_no_ethnic_difference():
    """Six trials without an ethnic effect; one, all Chinese, reads 8 % low."""
    sizes = {(t, "white"): 500 for t in SIX[:5]} | {("ZETA", "chinese"): 400}
    result = _ranges(consortium(sizes, trial_effects={"ZETA": np.log(0.92)}, seed=6))
    chinese = _rows(result, ethnicity="chinese")
    assert {r.status for r in chinese} == {"single-trial"}
    within = [c for c in result.contrasts if c.factor == "ethnicity" and c.source == "within-trial"]
    assert within
    assert all(c.difference is None for c in within)
    assert all("no trial has this group and another" in r.note for r in chinese)
    white = {(r.sex, r.age, r.centile, r.kind): r for r in _rows(result, ethnicity="white")}
    for row in chinese:
        other = white.get((row.sex, row.age, row.centile, row.kind))
        if other is not None and 30 <= row.age <= 70:
            # The trial is low, the group is not said to be.
            assert row.limit == pytest.approx(other.limit, rel=0.02)
            assert row.ci_low < other.ci_high
            assert other.ci_low < row.ci_high


def test_a_real_ethnic_difference_is_found_within_trials():
    sizes = {(t, e): n for t in SIX for e, n in (("white", 400), ("south-asian", 100))}
    effects = dict(zip(SIX, (-0.06, 0.03, 0.0, 0.05, -0.02, 0.01), strict=True))
    ethnic = {"south-asian": -0.08}
    result = _ranges(consortium(sizes, trial_effects=effects, ethnic_effects=ethnic, seed=6))
    white = {(r.sex, r.age, r.kind): r for r in _rows(result, ethnicity="white", centile=50.0)}
    for row in _rows(result, ethnicity="south-asian", centile=50.0):
        if 25 <= row.age <= 75:
            ratio = row.limit / white[row.sex, row.age, row.kind].limit
            assert np.log(ratio) == pytest.approx(-0.08, abs=0.03)


@pytest.mark.parametrize("wish", ["auto", "fixed"])
def test_few_trials_are_fixed(wish):
    frame = consortium({("ALPHA", "white"): 400, ("BETA", "white"): 400}, seed=8)
    result = _ranges(frame, replace(LMS, trial_effect=wish))
    assert {r.kind for r in result.rows} == {"conditional"}


def test_two_trials_have_no_random_effect():
    frame = consortium({("ALPHA", "white"): 200, ("BETA", "white"): 200}, seed=8)
    with pytest.raises(EstimationError, match="2 trials"):
        _ranges(frame, replace(LMS, trial_effect="random"))


def test_quantiles_have_no_random_effect():
    with pytest.raises(UsageError, match="fixed"):
        ReferenceOptions(method="quantile", trial_effect="random")


def test_nothing_outside_the_observed_ages():
    frame = consortium({("ALPHA", "white"): 600}, seed=5)
    result = _ranges(frame, replace(LMS, at_ages=(10.0, 40.0, 95.0)))
    assert {r.age for r in result.rows} == {40.0}
    assert any("10, 95" in w for w in result.warnings)


def test_values_below_zero():
    frame = consortium({("ALPHA", "white"): 300}, seed=5)
    frame.loc[3, "lv_edv_ml"] = 0.0
    with pytest.raises(TableError, match="positive") as caught:
        _ranges(frame)
    assert "1 values are 0 or less" in str(caught.value.problems[0])
    result = _ranges(frame, replace(LMS, method=None, bootstrap=200))
    assert {r.method for r in result.rows} == {"strata"}
    assert any("no lms curves" in w for w in result.warnings)


@pytest.mark.parametrize("method", ["lms", "gaussian", "linear", "quantile"])
def test_constants(method):
    frame = consortium({("ALPHA", "white"): 300}, seed=5)
    frame["lv_edv_ml"] = 100.0
    with pytest.raises(EstimationError, match="same value"):
        _ranges(frame, replace(LMS, method=method))


def test_three_people_and_no_age():
    few = consortium({("ALPHA", "white"): 3}, seed=5)
    result = _ranges(few)
    assert {r.status for r in result.rows} == {"suppressed"}
    assert {r.n for r in result.rows} == {None}
    with pytest.raises(TableError, match="needs ages"):
        _ranges(few.drop(columns="age_years"))


def test_all_of_one_sex_and_unknown_ages():
    frame = consortium({("ALPHA", "white"): 400}, seed=5)
    frame["sex"] = "male"
    frame.loc[:19, "age_years"] = np.nan
    result = _ranges(frame)
    assert {r.sex for r in result.rows if r.limit is not None} == {"male"}
    account = result.accounts[0]
    assert account.excluded["age-unknown"] == 20
    assert account.rows_in == account.analysed + sum(account.excluded.values())


@pytest.mark.parametrize("method", ["lms", "gaussian", "linear", "fractional-polynomial"])
def test_units_move_limits_alike(method):
    data, options = _data(1200), replace(LMS, method=method)
    litres = CurveData(y=data.y / 1000, age=data.age, ethnicity=data.ethnicity, trial=data.trial)
    plain, moved = (estimate_groups(d, (), options)[0].curves[0] for d in (data, litres))
    ages = np.array([30.0, 50.0, 70.0])
    one = curve_limits(plain, ages, (2.5, 50.0, 97.5), 0.9)
    other = curve_limits(moved, ages, (2.5, 50.0, 97.5), 0.9)
    for name in ("limit", "low", "high"):
        np.testing.assert_allclose(getattr(other, name) * 1000, getattr(one, name), rtol=2e-5)


@pytest.mark.parametrize(
    "method", ["lms", "gaussian", "linear", "quantile", "fractional-polynomial"]
)
def test_a_document_gives_the_curve_back(method):
    data = _data(1500)
    fitted = estimate_groups(data, (), replace(LMS, method=method, level=80.0))[0].curves[0]
    columns = {"measure": "x", "unit": "", "sex": "all", "ethnicity": "all", "method": method}
    facts = {"name": "x", "notice": "", "level": 80, "sided": "two", "ci_level": 90}
    entry = {**columns, "kind": fitted.kind, **curve_document(fitted.curve)}
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "conventions": {},
        "strata": [],
        **facts,
        "curves": [entry],
    }
    again = reference_model(document, "x").groups[0].distribution
    ages, centiles = np.array([25.0, 60.0]), (10.0, 50.0, 90.0)
    limits = fitted.curve.limits(ages, centiles)
    np.testing.assert_array_equal(again.limits(ages, centiles), limits)
    # Scoring a limit gives its centile back.
    for index in (0, 2):
        z = again.z_scores(limits[:, index], ages)
        np.testing.assert_allclose(z, [-1.2815515655] * 2 if index == 0 else [1.2815515655] * 2)


def test_a_marginal_curve_scores_its_own_limits():
    curve = estimate_groups(_data(1500), (), LMS)[0].curves[0].curve
    wide = replace(curve, tau=0.08)
    ages = np.array([30.0, 65.0])
    limits = wide.limits(ages, (2.5, 97.5))
    assert (limits[:, 0] < curve.limits(ages, (2.5,))[:, 0]).all()
    np.testing.assert_allclose(wide.z_scores(limits[:, 1], ages), 1.959963985, atol=1e-8)


def test_crossing_centiles_are_put_in_order_and_said():
    curve = estimate_groups(_data(1500), (), replace(LMS, method="quantile"))[0].curves[0]
    functions = dict(curve.curve.functions)
    functions["50"] = replace(functions["97.5"], offset=5.0)
    crossed = replace(curve, curve=replace(curve.curve, functions=functions))
    found = curve_limits(crossed, np.array([40.0]), (2.5, 50.0, 97.5), 0.9)
    assert found.repaired.all()
    assert (np.diff(found.limit, axis=1) >= 0).all()


def test_a_thin_quantile_curve_moves_between_a_shift_and_a_ratio():
    frame = consortium({("ALPHA", "white"): 900}, seed=8)
    data = CurveData(
        y=frame["lv_edv_ml"].to_numpy(),
        age=frame["age_years"].to_numpy(),
        ethnicity=np.full(900, -1),
        trial=np.zeros(900, dtype=int),
    )
    options = replace(LMS, method="quantile", bootstrap=200)
    fitted = estimate_groups(data, (), options)[0].curves[0]
    shift = GroupShift(distance=np.log(0.9), variance=0.01**2, by_ratio=True, seed=(1, 2))
    moved = moved_curve(fitted, shift)
    ages, centiles = np.array([30.0, 50.0, 70.0]), (2.5, 50.0, 97.5)
    old, new = fitted.curve.limits(ages, centiles), moved.curve.limits(ages, centiles)
    middle = old[:, [1]]
    assert new == pytest.approx(old - 0.1 * (middle + old) / 2)
    assert new[:, 1] == pytest.approx(0.9 * old[:, 1])
    wide, narrow = (curve_limits(c, ages, centiles, 0.9) for c in (moved, fitted))
    assert ((wide.high - wide.low) / new > 0.9 * (narrow.high - narrow.low) / old).all()
    assert ((wide.low < new) & (new < wide.high)).all()
    # Both ends of what is possible, a shift and a ratio, lie within the outer intervals.
    for possible in (old - 0.1 * middle, 0.9 * old):
        assert ((wide.low < possible) & (possible < wide.high)).all()


def test_the_order_of_rows_plays_no_part():
    frame = consortium({("ALPHA", "white"): 300, ("BETA", "black"): 80}, seed=9)
    one, other = _ranges(frame), _ranges(frame.sample(frac=1, random_state=2))
    assert one.rows == other.rows


@pytest.mark.parametrize("n", [20, 51, 400])
@pytest.mark.parametrize("seed", range(4))
def test_scores_of_shape_are_scipy_s(n, seed):
    z = np.random.default_rng(seed).gamma(3.0, 1.0, n) - seed
    found = shape_scores(z)
    assert found == pytest.approx((skewtest(z).statistic, kurtosistest(z).statistic), rel=1e-9)
