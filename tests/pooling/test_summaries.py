"""Tables of published effects: scales, refusals, and pooling beside participants' rows."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from cardiometa.errors import TableError, UsageError
from cardiometa.pooling.aggregate_effects import read_summaries
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import SummaryTable, pool_summaries, pool_trials
from cardiometa.pooling.published_tables import form_of_table
from tests.kit.pooling_tables import cohort_table, simulate_wide

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "pooling" / "second_stage.json").read_text()
)
RATIO = PoolingOptions(effect="risk-ratio")


def bcg():
    entry = GOLDEN["sets"]["bcg"]
    names = [f"trial {i:02d}" for i in range(13)]
    table = pd.DataFrame({"trial": names, "estimate": entry["yi"]})
    return table.assign(se=[math.sqrt(v) for v in entry["vi"]]), entry


def with_interval(table):
    """The same effects as ratios with 95 % intervals, as a paper prints them (all digits)."""
    half = 1.959963984540054 * table["se"]
    return pd.DataFrame(
        {
            "trial": table["trial"],
            "estimate": table["estimate"].map(math.exp),
            "ci_low": (table["estimate"] - half).map(math.exp),
            "ci_high": (table["estimate"] + half).map(math.exp),
        }
    )


def headline(result):
    return next(r for r in result.effects if r.analysis == "pooled" and r.headline)


@pytest.mark.parametrize("form", ["se", "interval"])
def test_bcg_equals_metafor_on_both_scales(form):
    table, entry = bcg()
    rows = table if form == "se" else with_interval(table)
    result = pool_summaries(SummaryTable(rows=rows.astype(str), name="bcg.csv"), RATIO)
    want = entry["methods"]["reml"]
    row = headline(result)
    assert row.estimate == pytest.approx(want["estimate"], rel=1e-8)
    assert row.ci_low == pytest.approx(want["hksj-truncated"]["ci_low"], rel=1e-8)
    assert row.exp_estimate == pytest.approx(math.exp(want["estimate"]), rel=1e-8)
    assert row.exp_ci_high == pytest.approx(math.exp(want["hksj-truncated"]["ci_high"]), rel=1e-8)
    assert row.k == 13
    wald = next(r for r in result.effects if r.analysis == "pooled" and r.ci_method == "wald")
    assert wald.se == pytest.approx(want["wald"]["se"], rel=1e-8)


def refused(rows, options=RATIO):
    with pytest.raises(TableError) as caught:
        read_summaries(pd.DataFrame(rows), options, name="s.csv")
    return str(caught.value) + " ".join(map(str, caught.value.problems))


def test_what_could_be_either_scale_is_refused():
    rows = {"trial": ["a", "b"], "estimate": [0.8, 0.9], "ci_low": [0.6, 0.8]}
    assert "either" in refused({**rows, "ci_high": [1.07, 1.01], "se": [0.1, 0.1]})
    log = {"trial": ["a"], "estimate": [0.5], "ci_low": [0.1], "ci_high": [0.9]}
    assert "log scale or on the natural" in refused(log)
    # BCG's risk ratios: the median is 0.46, and as logs they would be harmful.
    few = {"trial": ["a", "b", "c"], "estimate": [0.41, 0.2, 0.46], "se": [0.3, 0.3, 0.3]}
    assert "ratios or their logs" in refused(few)
    negative = {"trial": ["a"], "estimate": [-0.5], "ci_low": [-0.9], "ci_high": [-0.1]}
    assert "no ratio" in refused(negative)


def test_every_wrong_row_is_named():
    text = refused(
        {"trial": ["a", "a", "", "d"], "estimate": [1, 2, 3, None], "se": [1, 1, 1, 1]},
        PoolingOptions(),
    )
    assert "appears twice" in text
    assert "no trial name" in text
    assert "trial d: estimate is empty" in text
    assert "positive" in refused({"trial": ["a"], "estimate": [1], "se": [0]}, PoolingOptions())
    uneven = {"trial": ["a"], "estimate": [1.0], "ci_low": [0.0], "ci_high": [9.0]}
    assert "uneven" in refused(uneven, PoolingOptions())
    outside = {"trial": ["a"], "estimate": [10.0], "ci_low": [0.0], "ci_high": [9.0]}
    assert "do not contain their estimate" in refused(outside, PoolingOptions())
    two = {"trial": ["a"], "yi": [1.0], "sei": [1.0], "vi": [4.0]}
    assert "trial a: se 1, variance 4" in refused(two, PoolingOptions())
    case = {"trial": ["Smith 2001", "SMITH 2001"], "estimate": [1, 2], "se": [1, 1]}
    assert "appears twice" in refused(case, PoolingOptions())
    part = {"trial": ["a"], "estimate": [1.0], "se": [1.0], "n": [2.5]}
    assert "whole number" in refused(part, PoolingOptions())


def test_only_the_columns_of_summaries_make_summaries():
    table, _ = bcg()
    assert form_of_table(table.columns)
    assert form_of_table(table.assign(n=100).columns)
    assert form_of_table(table.assign(age=60).columns)  # a covariate of the trials
    assert not form_of_table(table.assign(participant_id=60).columns)
    assert not form_of_table(table.drop(columns="se").columns)


def test_summaries_beside_rows():
    wide = simulate_wide(3)
    options = PoolingOptions(
        outcome="lv_ef_percent", baseline_column="lv_ef_baseline", leave_one_out=False
    )
    more = SummaryTable(
        rows=pd.DataFrame({"trial": ["OLD"], "estimate": ["2.5"], "se": ["1.5"], "n": ["88"]}),
        name="old.csv",
    )
    result = pool_trials(cohort_table(wide), options, summaries=more)
    alone = pool_trials(cohort_table(wide), options)
    row = next(r for r in result.effects if r.trial == "OLD")
    assert (row.estimate, row.se, row.df) == (2.5, 1.5, None)
    assert "summary data; n = 88" in row.note
    assert headline(result).k == 4
    beside = next(r for r in result.effects if "participants' data only" in r.note)
    assert beside.estimate == headline(alone).estimate
    assert not any("SD that SE and n imply" in w for w in result.warnings)
    same = SummaryTable(rows=more.rows.assign(trial="t 1"), name="old.csv")
    with pytest.raises(TableError, match="same trials"):
        pool_trials(cohort_table(wide), options, summaries=same)


def test_a_standard_error_given_as_an_sd_is_named():
    means = {"m1i": [55, 56, 54, 55], "m2i": [52, 53, 50, 52], "n1i": 100, "n2i": 100}
    sds = {"sd1i": [9, 8, 0.9, 9], "sd2i": [9, 9, 0.9, 8]}
    rows = pd.DataFrame({"trial": list("ABCD"), **means, **sds})
    found = pool_summaries(SummaryTable(rows=rows, name="m.csv"), PoolingOptions()).warnings
    assert any("in C (0.11 times)" in w for w in found), found


def test_summaries_of_several_arms_must_say_which():
    rows = pd.DataFrame({"trial": ["a"], "estimate": [1.0], "se": [1.0]})
    with pytest.raises(TableError, match="several active arms"):
        read_summaries(rows, PoolingOptions(), name="s.csv", arms=("high", "low"))
    with pytest.raises(TableError, match="'mid'"):
        read_summaries(rows.assign(arm="mid"), PoolingOptions(), name="s.csv", arms=("high", "low"))
    study = read_summaries(
        rows.assign(arm="low"), PoolingOptions(), name="s.csv", arms=("high", "low")
    )[0]
    assert study.arm == "low"


def test_summaries_take_no_covariates():
    table, _ = bcg()
    with pytest.raises(UsageError, match="--adjust"):
        pool_summaries(SummaryTable(rows=table, name="b"), PoolingOptions(adjust=("age",)))


def test_a_ratio_beyond_all_numbers_is_empty():
    """Two trials on one degree of freedom at 99.99 %: the upper end is past e^709."""
    rows = pd.DataFrame({"trial": ["A", "B"], "yi": [0.1, 0.9], "se": [0.5, 0.6]})
    options = PoolingOptions(effect="odds-ratio", level=99.99)
    row = next(
        row
        for row in pool_summaries(SummaryTable(rows=rows, name="s.csv"), options).effects
        if row.analysis == "pooled" and row.headline
    )
    assert row.ci_high > 709.8
    assert row.exp_ci_high is None
    assert row.exp_estimate == pytest.approx(math.exp(row.estimate))
