"""What trials differ in: means, shares and words of trials; influence; what may be shown."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import TableError
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import SummaryTable, pool_summaries, pool_trials
from cardiometa.statistics.meta import regress_estimates
from tests.kit.pooling_tables import cohort_table, simulate_wide

OPTIONS = PoolingOptions(
    outcome="lv_ef_percent",
    baseline_column="lv_ef_baseline",
    min_cell=0,
    model="two-stage",
    meta_regression=("age", "sex", "year", "region"),
)


def trials(count=10, tau=2.0):
    wide = simulate_wide(count, tau=tau)
    number = wide["trial"].str[1:].astype(int)
    wide["age_years"] += number
    wide["year"] = 2000 + number
    wide["region"] = number.map(lambda n: ["north", "south", "west"][n % 3])
    return wide


def pool(rows, options=OPTIONS, **more):
    return pool_trials(cohort_table(rows), options, **more)


def headline(result, covariate, kind="slope", tau2_model="one"):
    (row,) = [
        r
        for r in result.regression
        if (r.covariate, r.kind, r.tau2_model, r.headline) == (covariate, kind, tau2_model, True)
    ]
    return row


def test_slopes_are_of_the_trials_means_and_shares():
    wide = trials()
    result = pool(wide)
    effects = [r for r in result.effects if r.analysis == "trial"]
    y, se = (np.array([getattr(r, name) for r in effects]) for name in ("estimate", "se"))
    order = [r.trial for r in effects]
    by_trial = wide.groupby("trial")
    share = (100 * wide["sex"].eq("female")).groupby(wide["trial"]).mean()
    for name, x, unit in (
        ("age_years", by_trial["age_years"].mean(), 10),
        ("sex", share, 10),
        ("year", by_trial["year"].first(), 1),
    ):
        design = np.column_stack([np.ones(len(y)), x.loc[order].to_numpy() / unit])
        fit = regress_estimates(y, se**2, design, "reml")
        row = headline(result, name)
        assert row.estimate == pytest.approx(fit.coefficients[1], rel=1e-9)
        assert row.se == pytest.approx(np.sqrt(fit.scaled("hksj-truncated")[1, 1]), rel=1e-9)
        assert (row.df, row.k) == (8, 10)
        assert row.tau2_without == pytest.approx(
            next(r.tau2 for r in result.heterogeneity if r.headline)
        )
        assert row.note.startswith("ecological")


def test_words_of_trials_are_groups_by_both_models_of_tau2():
    result = pool(trials())
    levels = [r for r in result.regression if r.kind == "level" and r.headline]
    assert [(r.tau2_model, r.level) for r in levels] == [
        (model, word) for model in ("separate", "one") for word in ("north", "south", "west")
    ]
    assert len({r.tau2 for r in levels if r.tau2_model == "one"}) == 1
    assert len({r.tau2 for r in levels if r.tau2_model == "separate"}) == 3
    alone = pool(trials()[lambda d: d["region"] == "south"], replace(OPTIONS, meta_regression=()))
    main = next(r for r in alone.effects if r.analysis == "pooled" and r.headline)
    south = next(r for r in levels if (r.tau2_model, r.level) == ("separate", "south"))
    assert (south.estimate, south.ci_low, south.tau2) == pytest.approx(
        (main.estimate, main.ci_low, main.tau2)
    )
    assert headline(result, "region", "difference", "separate").df is None
    assert headline(result, "region", "difference").df == 7


def test_a_word_of_one_trial_alone_is_not_tested():
    wide = trials()
    wide.loc[wide["trial"] == "T4", "region"] = "east"
    result = pool(wide, replace(OPTIONS, meta_regression=("region",)))
    (east,) = [r for r in result.regression if r.level == "east"]
    assert (east.k, east.estimate) == (1, None)
    assert "alone" in east.note
    assert headline(result, "region", "difference").k == 9


def test_words_that_differ_within_trials_are_refused():
    wide = trials()
    wide["ethnicity"] = np.resize(["white", "black", "chinese"], len(wide))
    with pytest.raises(TableError, match="differ within trials") as caught:
        pool(wide, replace(OPTIONS, meta_regression=("ethnicity",)))
    assert "--by ethnicity" in (caught.value.hint or "")
    with pytest.raises(TableError, match="--meta-regression"):
        pool(wide, replace(OPTIONS, meta_regression=("country",)))


def test_trials_without_a_value_are_left_out_and_named():
    wide = trials()
    wide["year"] = wide["year"].astype(object).where(wide["trial"] != "T3", "")
    more = SummaryTable(
        rows=pd.DataFrame({"trial": ["OLD"], "estimate": [1.0], "se": [1.0]}), name="old.csv"
    )
    result = pool(wide, replace(OPTIONS, meta_regression=("year",)), summaries=more)
    assert headline(result, "year").k == 9
    assert any("it is not known there: T3, OLD" in w for w in result.warnings)
    assert any("rests on 9 trials" in w for w in result.warnings)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_trials_give_no_slope_and_say_so(count):
    result = pool(trials(count))
    assert not [r for r in result.regression if r.kind == "slope"]
    assert any("no meta-regression on year: too few trials" in w for w in result.warnings)
    assert len(result.influence) == (3 if count == 3 else 0)


def test_trials_that_do_not_differ_give_no_slope():
    result = pool(trials(5).assign(year=2001), replace(OPTIONS, meta_regression=("year",)))
    assert not result.regression
    assert any("do not differ in it" in w for w in result.warnings)


def test_it_is_between_trials_whatever_is_within():
    """The effect falls with age in people; trials of the old have the larger effects."""
    wide = trials(10, tau=0.0)
    active = wide["arm"] == "active"
    mean = wide.groupby("trial")["age_years"].transform("mean")
    wide["lv_ef_percent"] += active * (-0.3 * (wide["age_years"] - mean) + 1.5 * (mean - 60))
    result = pool(wide, replace(OPTIONS, meta_regression=("age",), by=("age",)))
    within = next(
        r for r in result.effects if r.analysis == "interaction" and r.headline and not r.trial
    )
    assert within.ci_low < -3 < within.ci_high < 0
    assert headline(result, "age_years").ci_low > 5


def test_shares_of_few_people_are_in_the_line_but_not_among_the_points():
    wide = trials()
    own = wide.index[wide["trial"] == "T2"]
    wide.loc[own, "sex"] = "male"
    wide.loc[own[:3], "sex"] = "female"
    result = pool(wide, replace(OPTIONS, min_cell=10))
    shown = {p.trial for p in result.points if p.covariate == "sex"}
    assert "T2" not in shown
    assert headline(result, "sex").k == 10
    assert len(shown) >= 8
    tiny = wide.drop(index=own[6:])
    result = pool(tiny, replace(OPTIONS, min_cell=10))
    assert not [p for p in result.points if p.trial == "T2"]
    (row,) = [r for r in result.influence if r.trial == "T2"]
    assert (row.note, row.rstudent, row.hat) == ("n<10", None, None)


def test_a_group_with_one_hidden_trial_is_not_shown_either():
    """Its pooled effect less its other trials would give the hidden one."""
    wide = trials()
    wide = wide.drop(index=wide.index[wide["trial"] == "T2"][6:])
    result = pool(wide, replace(OPTIONS, min_cell=10, meta_regression=("region",)))
    level = {(r.tau2_model, r.level): r for r in result.regression if r.kind == "level"}
    for model in ("separate", "one"):
        assert level[model, "west"].estimate is level[model, "west"].tau2 is None
        assert "withheld" in level[model, "west"].note
        assert level[model, "north"].estimate is not None
    assert headline(result, "region", "difference").p is not None


def test_influence_stands_out_where_a_trial_does():
    wide = trials(8, tau=0.0)
    wide.loc[(wide["trial"] == "T8") & (wide["arm"] == "active"), "lv_ef_percent"] += 25
    result = pool(wide, replace(OPTIONS, meta_regression=()))
    assert [r.trial for r in result.influence if r.influential] == ["T8"]
    assert next(r for r in result.influence if r.trial == "T8").rstudent > 5
    quiet = pool(wide, replace(OPTIONS, meta_regression=(), leave_one_out=False))
    assert not quiet.influence


def test_summaries_have_influence_and_only_their_own_covariates():
    draw = np.random.default_rng(3)
    rows = pd.DataFrame(
        {"trial": [f"S{i}" for i in range(12)], "estimate": draw.normal(1, 1, 12), "se": 0.5}
    )
    result = pool_summaries(SummaryTable(rows=rows, name="s"), PoolingOptions())
    assert len(result.influence) == 12
    with pytest.raises(TableError, match="--meta-regression"):
        pool_summaries(SummaryTable(rows=rows, name="s"), PoolingOptions(meta_regression=("age",)))


def test_the_command_writes_tables_figures_and_roundings_of_them(tmp_path):
    trials(11).to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "o"
    command = ["pool-trials", str(tmp_path / "t.csv"), "--out", str(out)]
    command += ["--outcome", "lv_ef_percent", "--baseline", "lv_ef_baseline"]
    command += ["--meta-regression", "age,region"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    figures = {path.name for path in (out / "figures").glob("*.svg")}
    assert figures == {"forest.svg", "funnel.svg", "regression-age-years.svg"}
    page = (out / "report.html").read_text()
    rows = pd.read_csv(out / "meta_regression.csv")
    assert len(rows) == 3 + 3 * 3 + 1 + 3 * 3 + 3
    for value in rows["estimate"].dropna():
        assert f"{value:.2f}".replace("-", "−") in page
    influence = pd.read_csv(out / "influence.csv")
    for value in influence["dffits"]:
        assert f"{value:.2f}".replace("-", "−") in page
    assert len(re.findall("ecological", page)) >= 3
    assert "no modifier, 2 trial-level covariates" in page
    again = CliRunner().invoke(app, [*command[:-2], "--overwrite"])
    assert again.exit_code == 0, again.output
    assert not (out / "meta_regression.csv").exists()
    assert not (out / "figures" / "regression-age-years.svg").exists()


def test_a_funnel_needs_ten_trials(tmp_path):
    trials(9).to_csv(tmp_path / "t.csv", index=False)
    command = ["pool-trials", str(tmp_path / "t.csv"), "--out", str(tmp_path / "o")]
    command += ["--outcome", "lv_ef_percent", "--baseline", "lv_ef_baseline"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert not (tmp_path / "o" / "figures" / "funnel.svg").exists()
