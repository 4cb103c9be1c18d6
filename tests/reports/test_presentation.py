"""How a user names and shapes a result: names, unit, decimals, and the forest plot."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from cardiometa.errors import UsageError
from cardiometa.pooling.options import PoolingOptions, Presentation
from cardiometa.pooling.pool import pool_trials
from cardiometa.reports.figures.forest import arrange, forest_plot
from cardiometa.reports.figures.pooling import effect_label, forest_spec, result_sentence
from cardiometa.reports.pages.pooling import page_title
from tests.kit.pooling_tables import cohort_table, simulate_wide

OPTIONS = PoolingOptions(
    outcome="ef_12m", baseline_column="lv_ef_baseline", leave_one_out=False, min_cell=0
)


@pytest.fixture(scope="module")
def plain():
    frame = simulate_wide(5, seed=3, tau=2.0).rename(columns={"lv_ef_percent": "ef_12m"})
    return pool_trials(cohort_table(frame, measures=("ef_12m",)), OPTIONS)


def shown(result, **asked):
    return replace(result, presentation=Presentation(**asked))


def test_an_outcome_of_ones_own_has_a_name_and_a_unit(plain):
    assert effect_label(plain) == "Mean difference in ef_12m"
    named = shown(plain, label="LVEF", unit="%", title="Drug and LVEF", digits=3)
    assert effect_label(named) == "Mean difference in LVEF, percentage points"
    assert page_title(plain).startswith("Pooled effect: ")
    assert page_title(named) == "Drug and LVEF"
    row = named.headline("active")
    assert f"{row.estimate:.3f} (95% CI" in result_sentence(named, "active")


@pytest.mark.parametrize("order", ["table", "name", "effect", "weight"])
def test_trials_stand_in_the_order_asked_for(plain, order):
    asked = shown(plain, forest_order=order, forest_labels=("T1=Zeta", "T2=Alpha"))
    rows = [row for row in forest_spec(asked, "active").rows if row.kind == "trial"]
    assert {"Zeta", "Alpha", "T3", "T4", "T5"} == {row.label for row in rows}
    if order == "table":
        assert [row.label for row in rows][:3] == ["Zeta", "Alpha", "T3"]
    elif order == "name":
        assert [row.label for row in rows] == ["Alpha", "T3", "T4", "T5", "Zeta"]
    elif order == "effect":
        assert [row.estimate for row in rows] == sorted(row.estimate for row in rows)
    else:
        weights = [row.weight_percent for row in rows]
        assert weights == sorted(weights, reverse=True)


def test_columns_sides_colour_and_the_one_stage_model(plain):
    svg = forest_plot(forest_spec(plain, "active")).svg
    for text in (">Weight<", ">mean<", ">(SD)<", "Sensitivity:", "Lower with active"):
        assert text in svg
    assert 'width="510.23622"' in svg  # 180 mm with all columns, of type of 8 points
    assert set(re.findall(r"font-size: ([\d.]+)px", svg)) == {"8"}
    asked = shown(
        plain,
        forest_columns=("n",),
        favours=("Favours placebo", "Favours drug"),
        forest_colour="#7a2d2d",
        forest_one_stage=False,
    )
    svg = forest_plot(forest_spec(asked, "active")).svg
    for text in (">n<", ">control<", "Favours placebo", "Favours drug", "fill: #7a2d2d"):
        assert text in svg
    for text in (">Weight<", ">mean<", "ne-stage", "Lower with active"):
        assert text not in svg
    none = forest_spec(shown(plain, forest_columns=("none",)), "active")
    assert (none.columns, none.show_weight) == ((), False)


def test_a_narrow_plot_leaves_out_means_then_weights_and_says_so(plain):
    found = [forest_spec(shown(plain, forest_width=width), "active") for width in (150.0, 125.0)]
    assert [(len(one.columns), one.show_weight) for one in found] == [(2, True), (2, False)]
    for one, names in zip(found, ("means", "means, weights"), strict=True):
        assert f"Not shown for want of width: {names}; see the tables." in one.heterogeneity_text
        assert arrange(one)[0].width * 25.4 / 72 <= one.width_mm + 0.2
    asked = shown(plain, forest_width=110.0, forest_columns=("n", "mean-sd"))
    assert len(forest_spec(asked, "active").columns) == 4


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"favours": ("one",)}, "two texts"),
        ({"forest_colour": "red"}, "not a colour"),
        ({"forest_labels": ("T1",)}, "not TRIAL=NAME"),
        ({"forest_width": 20.0}, "between 85 and 400"),
        ({"digits": 9}, "more than 6"),
    ],
)
def test_what_cannot_be_shown_is_refused(asked, words):
    with pytest.raises(UsageError, match=words):
        Presentation(**asked)


def test_a_name_of_a_trial_that_is_not_there_is_refused(tmp_path: Path):
    import cardiometa as cm

    path = tmp_path / "t.csv"
    path.write_text("trial,estimate,se\nA,1.0,0.5\nB,2.0,0.5\nC,1.5,0.6\n")
    found = cm.pool_trials(path, effect="follow-up", forest_labels=["A=Alpha"], label="LVEF")
    assert "Alpha" in found.forest().svg
    assert found.request.document()["presentation"]["label"] == "LVEF"
    with pytest.raises(UsageError, match="no trial is called Z"):
        cm.pool_trials(path, effect="follow-up", forest_labels=["Z=Omega"])
