"""Interactions: what must not change them, what may not be shown, what a user sees."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import UsageError
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from tests.kit.pooling_tables import cohort_table, simulate_wide, to_long


def options(*by, **changes):
    values = {"outcome": "lv_ef_percent", "baseline_column": "lv_ef_baseline", "min_cell": 0}
    return PoolingOptions(**{**values, "by": by, "leave_one_out": False, **changes})


def trap(seed=3, trials=12):
    """A within-trial slope of -2 per 10 years, and between trials the opposite."""
    draw = np.random.default_rng(seed)
    wide = simulate_wide(trials, seed, people=150, effect=0.0, tau=0.5)
    number = wide["trial"].str[1:].astype(int)
    wide["age_years"] = (50 + 2 * number + draw.normal(0, 8, len(wide))).round(1)
    middle = wide.groupby("trial")["age_years"].transform("mean")
    gain = 0.35 * (middle - 60) - 0.2 * (wide["age_years"] - middle)
    active = wide["arm"] == "active"
    wide["lv_ef_percent"] += np.where(active, 3 + gain, 0.0)
    return wide


def slope(result, model="two-stage"):
    return next(
        r
        for r in result.effects
        if r.analysis == "interaction" and r.headline and not r.trial and r.model == model
    )


def test_the_ecological_trap_is_not_fallen_into():
    result = pool_trials(cohort_table(trap()), options("age"))
    for model in ("two-stage", "one-stage"):
        row = slope(result, model)
        assert row.level == "per 10 years"
        assert row.ci_low < -2.0 < row.ci_high < 0
    between = next(r for r in result.effects if r.note.startswith("ecological"))
    assert between.ci_low > 0
    assert not between.headline


def test_a_constant_of_the_trial_added_to_the_covariate_changes_nothing():
    wide = trap(trials=6)
    moved = wide.assign(age_years=wide["age_years"] + 3.0 * wide["trial"].str[1:].astype(int))
    first, second = (pool_trials(cohort_table(w), options("age")) for w in (wide, moved))
    a, b = slope(first), slope(second)
    assert (b.estimate, b.se, b.tau2) == pytest.approx((a.estimate, a.se, a.tau2), rel=1e-7)
    # One stage: the trials' other means change the across-trial term, and the variances a little.
    a, b = slope(first, "one-stage"), slope(second, "one-stage")
    assert b.estimate == pytest.approx(a.estimate, abs=0.05 * a.se)


def test_the_baseline_may_be_the_modifier():
    """As statsmodels' OLS of outcome on arm * baseline; ANCOVA's baseline is in it once."""
    from statsmodels.formula.api import ols

    wide = simulate_wide(4)
    result = pool_trials(cohort_table(wide), options("lv_ef_baseline"))
    for row in (r for r in result.effects if r.analysis == "interaction" and r.trial):
        part = wide[wide["trial"] == row.trial].assign(x=lambda d: (d["arm"] == "active") * 1.0)
        fit = ols("lv_ef_percent ~ x * lv_ef_baseline", part).fit()
        want = (fit.params["x:lv_ef_baseline"], fit.bse["x:lv_ef_baseline"], fit.df_resid)
        assert (row.estimate, row.se, row.df) == pytest.approx(want, rel=1e-9)
    long = pool_trials(
        cohort_table(to_long(wide)), options("lv_ef_percent", baseline_column=None, spline=3)
    )
    for model in ("two-stage", "one-stage"):
        assert slope(long, model).estimate == pytest.approx(slope(result, model).estimate)
    assert {row.covariate for row in long.spline} == {"lv_ef_percent"}


def with_levels():
    wide = simulate_wide(5, 8, people=90)
    draw = np.random.default_rng(1)
    wide["ethnicity"] = draw.choice(["white", "black", "chinese"], len(wide), p=[0.5, 0.3, 0.2])
    lone = (wide["trial"] == "T5") & (wide["ethnicity"] == "white")
    wide.loc[lone, "ethnicity"] = "black"
    wide.loc[wide.index[::50], "ethnicity"] = None
    return wide


def test_levels_close_with_their_interactions_and_one_headline_each():
    result = pool_trials(cohort_table(with_levels()), options("ethnicity", "sex"))
    rows = pd.DataFrame([{n: getattr(r, n) for n in r.__slots__} for r in result.effects])
    key = ["outcome", "source", "analysis", "model", "arm", "term", "level", "trial"]
    own = rows[
        rows["analysis"].isin(["interaction", "subgroup"]) & ~rows["note"].str.contains("ecolog")
    ]
    counted = own[~own["estimate"].isna() | own["q"].notna()]
    assert (counted.groupby(key)["headline"].sum() == 1).all()
    assert not own[own["analysis"] == "subgroup"]["p"].notna().any()
    pooled = own[(own["trial"] == "") & own["headline"] & (own["model"] == "two-stage")]
    levels = pooled[pooled["analysis"] == "subgroup"].set_index("level")["estimate"]
    for level in ("black", "chinese"):
        contrast = pooled[pooled["level"] == f"{level} vs white"].iloc[0]
        assert levels[level] - levels["white"] == pytest.approx(contrast["estimate"], abs=1e-10)
    lacking = own[(own["trial"] == "T5") & (own["analysis"] == "interaction")]
    assert "chinese vs black" in set(lacking["level"])
    # Holm: two modifiers tested, the joint test and the contrast of the sexes.
    tested = pooled[pooled["p_holm"].notna()]
    assert set(tested["level"]) == {"all levels", "female vs male"}
    raw = sorted(tested["p"])
    assert sorted(tested["p_holm"]) == pytest.approx(
        [min(1, 2 * raw[0]), max(min(1, 2 * raw[0]), raw[1])]
    )


def test_levels_that_no_trial_compares_with_the_reference_stay_out_of_its_contrast():
    """Two trials of south Asian and Chinese participants say nothing of black against white."""
    wide = simulate_wide(5, 8, people=60)
    first = np.random.default_rng(1).random(len(wide)) < 0.5
    apart = wide["trial"].isin(["T4", "T5"])
    wide["ethnicity"] = np.where(first, "white", "black")
    wide.loc[apart, "ethnicity"] = np.where(first[apart], "chinese", "south-asian")
    wide.loc[apart & (wide["ethnicity"] == "chinese"), "lv_ef_percent"] += 6.0
    asked = options("ethnicity", model="two-stage")
    every, three = (pool_trials(cohort_table(w), asked) for w in (wide, wide[~apart]))
    a, b = slope(every), slope(three)
    assert a.level == "black vs white"
    assert (a.k, a.estimate, a.se, a.tau2) == (3, b.estimate, b.se, b.tau2)
    assert any("no trial compares" in text for text in every.warnings)


def test_what_the_plan_names_is_not_adjusted():
    result = pool_trials(
        cohort_table(with_levels()), options("sex", "age", prespecified=("age",), model="two-stage")
    )
    held = {
        r.term: r.p_holm
        for r in result.effects
        if r.analysis == "interaction" and r.headline and not r.trial and r.model == "two-stage"
    }
    assert held["treatment:age_years"] is None
    assert held["treatment:sex"] is not None


def test_thin_levels_are_not_shown():
    wide = with_levels()
    rare = wide.index[(wide["trial"] == "T1") & (wide["ethnicity"] == "chinese")]
    wide.loc[rare[8:], "ethnicity"] = "white"
    result = pool_trials(cohort_table(wide), options("ethnicity", min_cell=10, model="two-stage"))
    of_trial = [r for r in result.effects if r.trial == "T1" and "chinese" in r.level]
    assert of_trial
    assert all(r.estimate is None and r.n_active is None for r in of_trial)
    total = next(
        r
        for r in result.effects
        if r.analysis == "subgroup" and r.level == "chinese" and not r.trial
    )
    assert total.estimate is not None
    assert total.n_active is None


def test_a_level_with_one_person_is_left_out_and_listed():
    wide = simulate_wide(3, people=60)
    wide.loc[0, "sex"] = "female"
    wide.loc[(wide["trial"] == "T1") & (wide.index > 0), "sex"] = "male"
    result = pool_trials(cohort_table(wide), options("sex", model="two-stage"))
    assert any("female in T1" in w for w in result.warnings)
    assert not [
        r
        for r in result.effects
        if r.analysis == "subgroup" and r.trial == "T1" and r.level == "female"
    ]


def test_refusals():
    with pytest.raises(UsageError, match="increasing"):
        options("age", age_bands=(60.0, 40.0))
    with pytest.raises(UsageError, match="--by"):
        options("age", effect="risk-ratio")


def test_the_command_draws_and_prints_them(tmp_path):
    with_levels().to_csv(tmp_path / "t.csv", index=False)
    done = CliRunner().invoke(
        app,
        [
            "pool-trials",
            str(tmp_path / "t.csv"),
            "--out",
            str(tmp_path / "out"),
            "--outcome",
            "lv_ef_percent",
            "--baseline",
            "lv_ef_baseline",
            "--by",
            "sex,age",
            "--no-leave-one-out",
        ],
    )
    assert done.exit_code == 0, done.output
    for name in ("sex", "age-years"):
        svg = (tmp_path / "out" / "figures" / f"forest-by-{name}.svg").read_text()
        assert svg.count('id="mark-pooled"') == 1
        assert 'id="mark-subgroup-pooled"' in svg
    page = (tmp_path / "out" / "report.html").read_text()
    assert "2 modifiers, 0 of them pre-specified" in page
    effects = pd.read_csv(tmp_path / "out" / "effects.csv")
    row = effects[
        (effects["analysis"] == "interaction")
        & effects["headline"]
        & effects["trial"].isna()
        & (effects["term"] == "treatment:sex")
        & (effects["model"] == "two-stage")
    ].iloc[0]
    assert f"{abs(row['estimate']):.2f}" in done.stdout
    assert f"{abs(row['estimate']):.2f}" in page
