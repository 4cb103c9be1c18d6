"""Published trials in the forms of metafor and meta, by arm, and meta-regression on them."""

import numpy as np
import pandas as pd
import pytest

from cardiometa.errors import TableError, UsageError
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import SummaryTable, pool_summaries
from cardiometa.pooling.published_tables import form_of_table
from cardiometa.statistics.meta import leave_one_out, pool_estimates, regress_estimates

PLAIN = PoolingOptions(leave_one_out=False)
EFFECTS = pd.DataFrame(
    {"trial": list("ABCD"), "estimate": [1.2, 2.3, 0.4, 1.9], "se": [0.45, 0.55, 0.39, 0.7]}
)
COUNTS = pd.DataFrame(
    {
        "trial": list("ABC"),
        "events_active": [3, 4, 6],
        "n_active": [50, 60, 80],
        "events_control": [8, 9, 7],
        "n_control": [50, 61, 79],
    }
)
MEANS = pd.DataFrame(
    {
        "trial": list("AB"),
        "mean_active": [55.0, 43.0],
        "sd_active": [47.0, 8.0],
        "n_active": [155, 40],
        "mean_control": [75.0, 40.0],
        "sd_control": [64.0, 7.0],
        "n_control": [156, 42],
    }
)


def pool(rows, options=PLAIN, **changes):
    options = PoolingOptions(**{"leave_one_out": False, **changes}) if changes else options
    return pool_summaries(SummaryTable(rows=rows, name="t.csv"), options)


def trials(result):
    return [row for row in result.effects if row.analysis == "trial"]


def same(a, b):
    assert [r.estimate for r in trials(a)] == pytest.approx([r.estimate for r in trials(b)])
    assert [r.se for r in trials(a)] == pytest.approx([r.se for r in trials(b)])
    assert a.headline("active").estimate == pytest.approx(b.headline("active").estimate)
    assert a.headline("active").ci_low == pytest.approx(b.headline("active").ci_low)


@pytest.mark.parametrize(
    "rows",
    [
        EFFECTS.rename(columns={"trial": "study", "estimate": "yi", "se": "sei"}),
        EFFECTS.rename(columns={"trial": "Study", "estimate": "TE", "se": "seTE"}),
        EFFECTS.rename(columns={"trial": "STUDLAB", "estimate": "te", "se": "SETE"}),
        EFFECTS.assign(vi=EFFECTS["se"] ** 2, yi=EFFECTS["estimate"])[["trial", "yi", "vi"]],
        EFFECTS.assign(
            lower=EFFECTS["estimate"] - 1.959963984540054 * EFFECTS["se"],
            upper=EFFECTS["estimate"] + 1.959963984540054 * EFFECTS["se"],
        )[["trial", "estimate", "lower", "upper"]],
        EFFECTS.assign(year=[2001, 2003, 2010, 2012], country="x")[::-1][::-1],
    ],
)
def test_names_of_metafor_and_meta_give_what_the_plain_ones_give(rows):
    same(pool(rows), pool(EFFECTS))


@pytest.mark.parametrize(
    "names",
    [
        ["trial", "ai", "n1i", "ci", "n2i"],
        ["Study", "event.e", "n.e", "event.c", "n.c"],
        ["study", "Events1", "N1", "Events2", "N2"],
    ],
)
def test_counts_by_arm_under_other_names(names):
    for effect in ("odds-ratio", "risk-ratio", "risk-difference"):
        same(pool(COUNTS.set_axis(names, axis=1), effect=effect), pool(COUNTS, effect=effect))


def test_counts_give_the_measure_that_is_asked_for():
    a, n1, c, n2 = (COUNTS[x].to_numpy(dtype=float) for x in COUNTS.columns[1:])
    for effect, estimate, variance in (
        (
            "odds-ratio",
            np.log(a * (n2 - c) / (c * (n1 - a))),
            1 / a + 1 / (n1 - a) + 1 / c + 1 / (n2 - c),
        ),
        ("risk-ratio", np.log(a / n1 / (c / n2)), 1 / a - 1 / n1 + 1 / c - 1 / n2),
        ("risk-difference", a / n1 - c / n2, a * (n1 - a) / n1**3 + c * (n2 - c) / n2**3),
    ):
        result = pool(COUNTS, effect=effect)
        assert [r.estimate for r in trials(result)] == pytest.approx(estimate)
        assert [r.se for r in trials(result)] == pytest.approx(np.sqrt(variance))
        fit = pool_estimates(estimate, variance, "reml")
        assert result.headline("active").estimate == pytest.approx(fit.estimate)
        assert any(r.variant == "mantel-haenszel" for r in result.effects)
    free = COUNTS.assign(bi=n1 - a, di=n2 - c).rename(columns={"events_active": "ai"})
    free = free.rename(columns={"events_control": "ci"})[["trial", "ai", "bi", "ci", "di"]]
    same(pool(free, effect="odds-ratio"), pool(COUNTS, effect="odds-ratio"))
    # metafor: escalc(measure = "RR") of the first trial of dat.bcg.
    bcg = pd.DataFrame({"trial": ["1"], "ai": [4], "bi": [119], "ci": [11], "di": [128]})
    (row,) = trials(pool(bcg, effect="risk-ratio"))
    assert (round(row.estimate, 4), round(row.se**2, 4)) == (-0.8893, 0.3256)


def test_counts_without_a_measure_are_odds_ratios_and_it_is_said():
    result = pool(COUNTS)
    assert {row.effect for row in result.effects} == {"odds-ratio"}
    assert any("the odds-ratio is pooled" in text for text in result.warnings)
    assert not any(row.suppressed for row in result.effects)  # what is published is shown


def test_means_by_arm():
    result = pool(MEANS)
    assert [r.estimate for r in trials(result)] == pytest.approx([-20.0, 3.0])
    assert trials(result)[1].se == pytest.approx(np.sqrt(64 / 40 + 49 / 42))
    names = ["Study", "Mean1", "SD1", "N1", "Mean2", "SD2", "N2"]
    same(pool(MEANS.set_axis(names, axis=1)), result)
    meta = ["studlab", "mean.e", "sd.e", "n.e", "mean.c", "sd.c", "n.c"]
    same(pool(MEANS.set_axis(meta, axis=1)), result)
    # metafor: escalc(measure = "SMD") of the first trial of dat.normand1999.
    row = trials(pool(MEANS, effect="standardised-mean-difference"))[0]
    assert (round(row.estimate, 4), round(row.se**2, 4)) == (-0.3552, 0.0131)
    assert any("Mean1 as mean active" in w for w in pool(MEANS.set_axis(names, axis=1)).warnings)


def test_log_rank_sums_are_log_hazard_ratios():
    rows = pd.DataFrame({"trial": list("AB"), "O-E": [-4.0, 2.0], "V": [8.0, 10.0]})
    result = pool(rows)
    assert [r.estimate for r in trials(result)] == pytest.approx([-0.5, 0.2])
    assert [r.se for r in trials(result)] == pytest.approx([8**-0.5, 10**-0.5])
    assert {r.effect for r in result.effects} == {"hazard-ratio"}


def test_a_trial_without_events_has_a_reason_and_all_without_are_refused():
    rows = COUNTS.assign(events_active=[0, 4, 6], events_control=[0, 9, 7])
    result = pool(rows, effect="odds-ratio")
    assert trials(result)[0].estimate is None
    assert "no events in either arm" in trials(result)[0].note
    assert result.headline("active").k == 2
    with pytest.raises(Exception, match="No trial gives an effect"):
        pool(COUNTS.assign(events_active=0, events_control=0), effect="risk-ratio")


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (EFFECTS.assign(yi=1.0), {}, "say the same"),
        (COUNTS.assign(estimate=0.1, se=0.2), {}, "effects and counts"),
        (COUNTS.assign(events_active=[3, 99, 6]), {}, "more events than participants"),
        (COUNTS.assign(n_active=[50, 60.5, 80]), {}, "not a count"),
        (COUNTS.assign(events_control=[8, None, 7]), {}, "events control is empty"),
        (MEANS.assign(sd_active=[0.0, 1.0]), {}, "SD of the active arm is not positive"),
        (MEANS, {"effect": "odds-ratio"}, "means, which give no odds-ratio"),
        (EFFECTS, {"effect": "odds-ratio"}, "ratios or their logs"),
        (EFFECTS.assign(vi=[-1.0, 1, 1, 1]).drop(columns="se"), {}, "not a positive number"),
        (EFFECTS, {"meta_regression": ("dose",)}, "no column dose"),
        (EFFECTS.assign(dose=["1", "2", "3 mg", "4"]), {"meta_regression": ("dose",)}, "mixes"),
    ],
)
def test_what_cannot_be_meant_is_refused(rows, options, words):
    with pytest.raises(TableError) as caught:
        pool(rows, **options)
    assert words in f"{caught.value} {caught.value.problems}"


def test_logs_by_name_are_not_doubted():
    rows = EFFECTS.rename(columns={"estimate": "yi", "se": "sei"})
    result = pool(rows, effect="odds-ratio")
    assert trials(result)[0].exp_estimate == pytest.approx(np.exp(1.2))


@pytest.mark.parametrize(
    "columns", [["trial", "participant_id", "yi", "vi"], ["study", "age", "ef"], ["yi", "vi"]]
)
def test_other_tables_are_not_taken_for_published_ones(columns):
    assert form_of_table(columns) == ""


# ------------------------------------------------------------------ meta-regression


def test_meta_regression_on_published_effects():
    draw = np.random.default_rng(4)
    rows = pd.DataFrame(
        {
            "study": [f"S{i}" for i in range(14)],
            "yi": draw.normal(0.3, 0.3, 14),
            "sei": draw.uniform(0.1, 0.3, 14),
            "Year": np.arange(2001, 2015),
            "region": ["north", "south"] * 7,
        }
    )
    result = pool(rows, meta_regression=("year", "region"))
    slope = next(r for r in result.regression if r.kind == "slope" and r.headline)
    x = np.column_stack([np.ones(14), rows["Year"]])
    fit = regress_estimates(rows["yi"], rows["sei"] ** 2, x, "reml")
    assert slope.estimate == pytest.approx(fit.coefficients[1], rel=1e-6)
    assert slope.se == pytest.approx(np.sqrt(fit.scaled("hksj-truncated")[1, 1]), rel=1e-6)
    assert slope.k == 14
    assert {r.level for r in result.regression if r.kind == "level"} == {"north", "south"}
    assert len(result.points) == 14
    with pytest.raises(UsageError, match="--by"):
        pool(rows, by=("year",))


@pytest.mark.parametrize("method", ["reml", "ml", "dl", "pm", "sj"])
@pytest.mark.parametrize("k", [3, 4, 12, 60])
def test_leaving_each_trial_out_is_pooling_the_others(k, method):
    draw = np.random.default_rng(k)
    for spread, heavy in ((0.01, 1.0), (1.0, 1.0), (3.0, 1e-6)):
        y, v = draw.normal(0, spread, k), draw.uniform(0.01, 1, k)
        v[0] *= heavy  # one trial with all the weight
        for i, fit in enumerate(leave_one_out(y, v, method)):
            alone = pool_estimates(np.delete(y, i), np.delete(v, i), method)
            assert fit.tau2 == pytest.approx(alone.tau2, rel=1e-9, abs=1e-12 * v.min())
            assert fit.estimate == pytest.approx(alone.estimate, rel=1e-9)
            assert fit.q == alone.q
