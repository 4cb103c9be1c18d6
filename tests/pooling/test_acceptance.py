"""What follows from the mathematics (pooling.md 7.9) and is not tested with the engine itself.

There: 1 to 7 in ``tests/statistics/test_one_stage.py`` and ``test_sums.py``, 9 in
``tests/statistics/test_coverage.py``. Here: the codings and the second stage's part of 2, 3 and 5,
the naive interaction of 8, and 10: every output carries the same numbers.
"""

import json
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.pooling.first_stage.arm_sums import OUTCOME, arm_sums, model_block
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from cardiometa.statistics.mixed.one_stage import contrast_interval, fit_one_stage
from cardiometa.statistics.mixed.sufficient_statistics import ModelColumns
from tests.kit.one_stage import TREAT, sums_by_trial
from tests.kit.pooling_tables import cohort_table, simulate_wide

SEEDS = st.integers(0, 5_000)
few = settings(max_examples=2, deadline=None)
WIDE = PoolingOptions(
    outcome="lv_ef_percent", baseline_column="lv_ef_baseline", min_cell=0, leave_one_out=False
)


def headlines(rows, **changes):
    result = pool_trials(cohort_table(rows), replace(WIDE, **changes))
    return {r.model: r for r in result.effects if r.analysis == "pooled" and r.headline}


@few
@given(SEEDS, st.floats(0.1, 20), st.sampled_from(["dl", "reml", "pm", "sj"]))
def test_another_unit_leaves_t_df_and_i2_as_they_are(seed, scale, tau2):
    rows = simulate_wide(5, seed, people=30, tau=2)
    moved = rows.assign(
        lv_ef_percent=3.0 + scale * rows["lv_ef_percent"],
        lv_ef_baseline=3.0 + scale * rows["lv_ef_baseline"],
    )
    first, second = (headlines(r, tau2=tau2, effect="change") for r in (rows, moved))
    for model, a in first.items():
        b = second[model]
        assert b.estimate == pytest.approx(scale * a.estimate, rel=1e-6)
        assert b.se == pytest.approx(scale * a.se, rel=1e-6)
        assert b.tau2 == pytest.approx(scale**2 * a.tau2, rel=1e-5, abs=1e-6 * scale**2)
        assert b.df == pytest.approx(a.df, rel=1e-5)
        assert b.p == pytest.approx(a.p, rel=1e-5)
        assert (b.i2_percent is None) == (a.i2_percent is None)
        if a.i2_percent is not None:
            assert b.i2_percent == pytest.approx(a.i2_percent, rel=1e-5, abs=1e-5)


def one_stage(sums, shift, *, restricted):
    columns = ModelColumns(
        nuisance=("", "baseline"), fixed=(TREAT,), random=(TREAT,), outcome=OUTCOME
    )
    blocks = [
        model_block(one, columns, residual="by-trial", centres={TREAT: shift}) for one in sums
    ]
    return fit_one_stage(blocks, np.ones((1, 1, 1)), restricted=restricted)


@few
@given(SEEDS)
def test_halves_are_the_same_to_reml_and_not_to_ml(seed):
    rows = simulate_wide(5, seed, people=40, tau=3)
    rows = rows.rename(columns={"lv_ef_percent": OUTCOME, "lv_ef_baseline": "baseline"})
    sums = sums_by_trial(rows, ["baseline"])
    plain, halves = (one_stage(sums, shift, restricted=True) for shift in (0.0, 0.5))
    assert halves.beta[0] == pytest.approx(plain.beta[0], rel=1e-8)
    assert halves.theta[0] == pytest.approx(plain.theta[0], rel=1e-6, abs=1e-9)
    a, b = (contrast_interval(fit, np.ones(1), "kenward-roger") for fit in (plain, halves))
    assert (b.se, b.df) == pytest.approx((a.se, a.df), rel=1e-7)
    plain, halves = (one_stage(sums, shift, restricted=False) for shift in (0.0, 0.5))
    if max(plain.theta[0], halves.theta[0]) > 0.1:
        assert halves.theta[0] != pytest.approx(plain.theta[0], rel=1e-4)


@few
@given(SEEDS, st.sampled_from(["reml", "dl", "pm"]))
def test_the_pool_twice_doubles_k_and_halves_the_variance(seed, tau2):
    rows = simulate_wide(6, seed, people=30, tau=4)
    twice = pd.concat([rows, rows.assign(trial="again " + rows["trial"])], ignore_index=True)
    one, two = (headlines(r, tau2=tau2, ci="wald", effect="change") for r in (rows, twice))
    for model, a in one.items():
        b = two[model]
        assert b.k == 2 * a.k
        # tau² is estimated anew (k - 1 is not 2k - 1), hence not exactly half.
        assert (b.se / a.se) ** 2 == pytest.approx(0.5, abs=0.13)
        assert b.estimate == pytest.approx(a.estimate, abs=0.35 * a.se)


def naive_interaction(rows):
    """``treat * age`` with nothing centred, as it should not be done."""
    blocks = []
    for trial, part in rows.groupby("trial"):
        sums = arm_sums(
            str(trial),
            part.rename(columns={"lv_ef_percent": OUTCOME}),
            nuisance=part[["lv_ef_baseline", "age_years"]],
            control="control",
        )
        columns = ModelColumns(
            nuisance=("", "lv_ef_baseline", "age_years"),
            fixed=(TREAT, "treat*age_years"),
            random=(TREAT,),
            outcome=OUTCOME,
        )
        blocks.append(model_block(sums, columns, residual="common"))
    return float(fit_one_stage(blocks, np.ones((1, 1, 1)), residual="common").beta[1])


def test_a_naive_interaction_is_told_from_the_within_trial_one():
    rows = simulate_wide(6, 5, people=60, tau=3)
    number = rows["trial"].str[1:].astype(float)
    moved = rows.assign(age_years=rows["age_years"] + 30.0 * number)
    two_stage = replace(WIDE, by=("age",), model="two-stage")
    deft = [
        next(
            r.estimate
            for r in pool_trials(cohort_table(w), two_stage).effects
            if r.analysis == "interaction" and r.headline and not r.trial
        )
        for w in (rows, moved)
    ]
    assert deft[1] == pytest.approx(deft[0], rel=1e-7)
    assert abs(naive_interaction(moved) - naive_interaction(rows)) > 0.05


# ------------------------------------------------------------------ 10: one set of numbers

NUMBER = r"[−-]?\d+(?:\.\d+)?"
ESTIMATE = re.compile(rf"({NUMBER}) \(({NUMBER}) to ({NUMBER})\)")


def decimals(text):
    return len(text.partition(".")[2])


def is_rounding(texts, values):
    numbers = [text.replace("−", "-") for text in texts]
    return all(
        abs(float(text) - value) <= 0.5000001 * 10.0 ** -decimals(text)
        for text, value in zip(numbers, values, strict=True)
    )


def test_every_shown_estimate_is_a_rounding_of_the_files(tmp_path):
    rows = simulate_wide(6, 2, people=90, tau=2)
    rows.to_csv(tmp_path / "people.csv", index=False)
    out = tmp_path / "out"
    command = ["pool-trials", str(tmp_path / "people.csv"), "--verbose"]
    options = ["--outcome", "lv_ef_percent", "--baseline", "lv_ef_baseline", "--by", "sex,age"]
    printed = CliRunner().invoke(app, [*command, *options, "--out", str(out)])
    assert printed.exit_code == 0, printed.output
    effects = pd.read_csv(out / "effects.csv")
    limits = effects[["estimate", "ci_low", "ci_high"]].dropna().to_numpy()
    heterogeneity = pd.read_csv(out / "heterogeneity.csv")
    spreads = [
        heterogeneity[[name, f"{low}_low", f"{low}_high"]].dropna().to_numpy()
        for name, low in (("tau2", "tau2"), ("tau", "tau"), ("h2", "h2"), ("i2_percent", "i2"))
    ]
    known = np.vstack([limits, *spreads])
    page = unescape(re.sub(r"<[^>]+>", " ", (out / "report.html").read_text()))
    texts = {
        "print-out": printed.stdout,
        "page": re.sub(r"\s+", " ", page),
        **{p.name: unescape(p.read_text()) for p in (out / "figures").glob("forest*.svg")},
    }
    for name, text in texts.items():
        found = set(ESTIMATE.findall(text))
        assert len(found) >= 5, name
        for triple in found:
            assert any(is_rounding(triple, values) for values in known), (name, triple)
    # And what is on top stands in each of them alike.
    top = effects[(effects["analysis"] == "pooled") & effects["headline"]]
    for _, row in top.iterrows():
        own = [row["estimate"], row["ci_low"], row["ci_high"]]
        for name in ("print-out", "page", "forest.svg"):
            assert any(is_rounding(t, own) for t in ESTIMATE.findall(texts[name])), name
    other = ["--out", str(tmp_path / "two"), "--json", "--model", "two-stage"]
    again = CliRunner().invoke(app, [*command, *options, *other, "--no-leave-one-out"])
    document = json.loads(again.stdout)
    effects = pd.read_csv(tmp_path / "two" / "effects.csv")
    for column in ("estimate", "se", "ci_low", "ci_high", "p", "tau2", "weight_percent"):
        ours = [np.nan if r[column] is None else r[column] for r in document["effects"]]
        assert np.array_equal(ours, effects[column].to_numpy(dtype=float), equal_nan=True), column
