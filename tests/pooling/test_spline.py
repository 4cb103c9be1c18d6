"""The effect over a number by splines: against R, and what must hold of it without R."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import UsageError
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from cardiometa.pooling.subgroups import spline
from cardiometa.statistics.basis_functions import common_knots, restricted_cubic
from cardiometa.statistics.meta import pool_estimates
from cardiometa.statistics.multivariate import criterion, fit_unstructured
from tests.kit.pooling_tables import cohort_table, simulate_wide

FOLDER = Path(__file__).parents[1] / "golden" / "pooling"
GOLDEN = json.loads((FOLDER / "spline.json").read_text())
OPTIONS = PoolingOptions(
    outcome="lv_ef_percent",
    baseline_column="lv_ef_baseline",
    by=("age",),
    spline=3,
    min_cell=0,
    model="two-stage",
    leave_one_out=False,
)


def curved(trials=6, bend=0.0, seed=3):
    wide = simulate_wide(trials, seed=seed, people=200, tau=0.5)
    late = np.clip(wide["age_years"] - 60, 0, None)
    wide["lv_ef_percent"] -= bend * late**2 * wide["arm"].eq("active")
    return wide


def rows_of(table, options=OPTIONS):
    return pool_trials(cohort_table(table), options).spline


def of_test(rows, level):
    return next(r for r in rows if r.level == level)


def curve(rows):
    return [r for r in rows if r.kind == "curve"]


@pytest.mark.parametrize(
    ("name", "knots", "changes", "rel"),
    [
        ("reml_3", 3, {}, 2e-6),
        ("reml_4", 4, {}, 2e-6),
        ("ml_3", 3, {"tau2": "ml"}, 1e-6),
        ("fe_3", 3, {"tau2": "fe"}, 1e-10),
        ("odds_3", 3, {"effect": "odds-ratio", "outcome": "died", "baseline_column": None}, 2e-7),
    ],
)
def test_curves_equal_metafor_on_another_basis(monkeypatch, name, knots, changes, rel):
    """lm or glm on splines::ns, then rma.mv(struct = "UN"); its optimiser stops at 1e-6 or so."""
    want = GOLDEN[name]
    monkeypatch.setattr(spline, "_grid", lambda *_: np.array(want["ages"], dtype=float))
    people = pd.read_csv(
        FOLDER / ("events.csv" if name == "odds_3" else "interaction_people.csv"),
        dtype={"participant_id": str},
    )
    if name == "odds_3":
        people = people[~people["trial"].isin(["CHARLIE", "FOXTROT"])]
        people = people[people["arm"] != "high-dose"]
    rows = rows_of(people, replace(OPTIONS, spline=knots, ci="wald", **changes))
    line = curve(rows)
    assert line[0].knots == ";".join(f"{knot:g}" for knot in want["knots"])
    assert (line[0].reference, line[0].k) == (want["reference"], want["k"])
    assert [r.estimate for r in line] == pytest.approx(want["estimate"], rel=rel)
    assert [r.se for r in line] == pytest.approx(want["se"], rel=rel)
    overall, bent = of_test(rows, "overall"), of_test(rows, "non-linear")
    assert (overall.test, overall.test_df) == (pytest.approx(want["overall"], rel=rel), want["m"])
    assert bent.test == pytest.approx(want["nonlinear"], rel=10 * rel)
    assert bent.test_df == want["m"] - 1
    if name != "odds_3":
        scaled = rows_of(people, replace(OPTIONS, spline=knots, ci="hksj", **changes))
        ratio = max(1.0, want["q_ratio"])
        assert curve(scaled)[0].se == pytest.approx(want["se"][0] * ratio**0.5, rel=rel)
        assert of_test(scaled, "overall").df == want["m"] * (want["k"] - 1)


def test_the_basis_is_straight_beyond_the_knots_and_smooth_between():
    knots = (40.0, 55.0, 62.0, 75.0)
    x = np.linspace(20, 95, 3001)
    second = np.diff(restricted_cubic(x, knots), 2, axis=0)
    outside = (x[1:-1] < 39.9) | (x[1:-1] > 75.1)
    assert np.abs(second[outside]).max() < 1e-10
    assert np.abs(np.diff(second, axis=0)).max() < 1e-6  # no jump of the second derivative
    assert np.linalg.matrix_rank(restricted_cubic(x, knots)) == 3
    assert common_knots(np.array([1.0, 1.0, 2.0]), 3, 1.0) is None


def test_one_coefficient_is_the_second_stage_and_the_gradient_is_right():
    draw = np.random.default_rng(2)
    y, v = draw.normal(1, 2, 9), draw.uniform(0.2, 2, 9)
    fit = fit_unstructured(y[:, None], v[:, None, None])
    pooled = pool_estimates(y, v, "reml")
    assert fit.between[0, 0] == pytest.approx(pooled.tau2, rel=1e-5)
    assert fit.coefficients[0] == pytest.approx(pooled.estimate, rel=1e-6)
    assert fit.q_ratio == pytest.approx(pooled.q_ratio, rel=1e-5)
    y2 = draw.normal(0, 1, (8, 2))
    root = draw.normal(0, 1, (8, 2, 2))
    within = root @ root.transpose(0, 2, 1) + np.eye(2)
    sigma = np.array([[0.7, 0.2], [0.2, 0.4]])
    for restricted in (True, False):
        _, slope = criterion(y2, within, sigma, restricted=restricted)
        for i, j in ((0, 0), (0, 1), (1, 1)):
            step = np.zeros((2, 2))
            step[i, j] = step[j, i] = 1e-6
            change = [
                criterion(y2, within, sigma + sign * step, restricted=restricted)[0]
                for sign in (1, -1)
            ]
            want = slope[i, j] * (1 if i == j else 2)
            assert (change[0] - change[1]) / 2e-6 == pytest.approx(want, rel=1e-5, abs=1e-7)


def test_a_bend_is_found_and_a_straight_line_is_not_called_bent():
    found = of_test(rows_of(curved(bend=0.05)), "non-linear")
    assert found.p < 0.001
    flat = [of_test(rows_of(curved(seed=s)), "non-linear").p for s in range(5)]
    assert min(flat) > 0.01
    line = curve(rows_of(curved(bend=0.05)))
    assert line[-1].ci_high < 0
    assert line[-1].p is None


def test_nothing_between_trials_touches_the_curve():
    wide = curved(bend=0.03)
    shift = wide["trial"].map({f"T{i + 1}": 4.0 * i for i in range(6)})
    moved = wide.assign(
        lv_ef_percent=wide["lv_ef_percent"] + shift + shift * wide["arm"].eq("active")
    )
    base, other = curve(rows_of(wide)), curve(rows_of(moved))
    assert [r.estimate for r in other] == pytest.approx([r.estimate for r in base], abs=1e-7)
    assert [r.se for r in other] == pytest.approx([r.se for r in base], rel=1e-6)


def test_trials_that_do_not_reach_over_the_knots_are_left_out_and_named():
    wide = curved()
    wide = wide.drop(index=wide.index[wide["trial"] == "T2"][60:])
    young = wide["trial"] == "T2"
    wide.loc[young, "age_years"] = 30 + wide.loc[young, "age_years"] / 10
    result = pool_trials(cohort_table(wide), OPTIONS)
    assert result.spline[0].k == 5
    assert any("not in the spline of age_years: T2 (" in w for w in result.warnings)


def test_few_trials_have_a_common_effect_and_one_has_none():
    rows = rows_of(curved(3))
    assert "common effect" in rows[0].note
    assert rows[0].k == 3
    result = pool_trials(cohort_table(curved(1)), OPTIONS)
    assert not result.spline
    assert any("fewer than two trials" in w for w in result.warnings)


def test_knots_are_no_person_s_own_value():
    rows = rows_of(curved().assign(age_years=lambda d: d["age_years"] + 0.037))
    assert all(float(knot) == int(float(knot)) for knot in rows[0].knots.split(";"))
    values = {r.value for r in (curve(rows)[0], curve(rows)[-1])}
    assert all(value == int(value) for value in values)


def test_words_have_no_spline_and_options_are_refused():
    result = pool_trials(cohort_table(curved()), replace(OPTIONS, by=("sex",)))
    assert not result.spline
    assert any("--spline is of numbers" in w for w in result.warnings)
    with pytest.raises(UsageError, match="--spline 2"):
        replace(OPTIONS, spline=2)
    with pytest.raises(UsageError, match="needs --by"):
        replace(OPTIONS, by=())


def test_the_command_draws_it(tmp_path):
    curved(5, bend=0.05).to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "o"
    command = ["pool-trials", str(tmp_path / "t.csv"), "--out", str(out), "--by", "age", "-v"]
    command += ["--outcome", "lv_ef_percent", "--baseline", "lv_ef_baseline", "--spline", "3"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    rows = pd.read_csv(out / "spline.csv")
    page = (out / "report.html").read_text()
    for value in rows["estimate"].dropna().iloc[::10]:
        assert f"{value:.2f}".replace("-", "−") in page
    assert "restricted cubic spline of 3 knots" in done.output.replace("\n", " ")
    svg = (out / "figures" / "spline-age-years.svg").read_text()
    assert "Difference from the effect at" in svg


def test_it_goes_with_deaths_and_reported_values(tmp_path):
    """The worst-rank and the reported analyses beside it have no modifiers, and so no spline."""
    wide = curved(4).rename(columns={"lv_ef_baseline": "before"})
    long = pd.concat(
        [
            wide.assign(visit="baseline", lv_ef_percent=wide["before"]),
            wide.assign(visit="followup"),
        ]
    )
    long["reported_lv_ef_percent"] = 1.1 * long["lv_ef_percent"]
    long["death_day"] = np.where(
        long["participant_id"].isin(wide["participant_id"][:20]), 9.0, np.nan
    )
    died = long["death_day"].notna() & (long["visit"] == "followup")
    options = replace(OPTIONS, baseline_column=None, compare_reported=True)
    result = pool_trials(cohort_table(long[~died]), options)
    assert result.spline
    assert result.comparison
    assert any("deaths the worst rank" in row.note for row in result.effects)
