"""The effect corrected for the error of measurement: against R, by construction, to the page."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

import cardiometa as cm
from cardiometa.cli.main import app
from cardiometa.commands.error_input import evaluated_error
from cardiometa.errors import InputError, UsageError
from cardiometa.manifest import bundled_card
from cardiometa.pooling.error_model import (
    Corrected,
    _slope_of,
    corrected_by_arm,
    divided,
    scale_corrected,
    with_error_rows,
)
from cardiometa.pooling.error_model import _Slope as Slope
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.results import Study
from cardiometa.reports.pages.pooling import error_sentence
from cardiometa.statistics.measurement_error import (
    ErrorInput,
    ErrorLine,
    MeasureError,
    MeasurementError,
    line_of,
    partially_pooled,
)
from tests.kit.evaluations import evaluation_of, exact_line
from tests.kit.pooling_tables import simulate_wide, to_long
from tests.kit.report_page import assert_self_contained

GOLDEN = Path(__file__).parents[1] / "golden" / "pooling"
OPTIONS = PoolingOptions(outcome="lv_ef_percent")
BASE = {"outcome": "lv_ef_percent", "baseline": "lv_ef_baseline", "model": "two-stage"}
TWO_STAGE = ("--model", "two-stage", "--no-leave-one-out")


def study(trial: str, estimate: float, se: float) -> Study:
    return Study(trial=trial, arm="active", control="control", estimate=estimate, se=se, df=50)


def exact(slope: float, intercept: float = 0.0, **cells: Any) -> ErrorLine:
    """A line that is known without error."""
    return exact_line(slope, intercept, 55.0, **cells)


def evaluation(*lines: ErrorLine, **changes: Any) -> MeasurementError:
    measure = MeasureError(measure="lv_ef_percent", unit="%", scope="whole-stack", lines=lines)
    return evaluation_of(measure, **changes)


def written(folder: Path, found: MeasurementError) -> Path:
    path = folder / "evaluation.json"
    path.write_text(json.dumps({"measurement_error": found.document()}))
    return path


def rows_of(found: Any) -> dict[str, Any]:
    """The rows of the main effect by quantity."""
    frame = found.table("error_adjusted")
    frame = frame[frame["term"] == "treatment"]
    return {row.quantity: row for row in frame.itertuples()}


# ------------------------------------------------------------------ against R


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads((GOLDEN / "error_model.json").read_text())


@pytest.fixture(scope="module")
def golden_lines() -> list[ErrorLine]:
    hearts = pd.read_csv(GOLDEN / "error_hearts.csv")
    parts = [("all", hearts), *hearts.groupby("trial")]
    found = [
        line_of(
            part["model"].to_numpy(dtype=float),
            part["reader"].to_numpy(dtype=float),
            np.arange(len(part)),
            group_by="all" if name == "all" else "trial",
            group=str(name),
        )
        for name, part in parts
    ]
    return [one for one in found if one is not None]


def test_lines_and_their_partial_pooling_are_those_of_r(
    golden: dict[str, Any], golden_lines: list[ErrorLine]
) -> None:
    for line, name in zip(golden_lines, ("all", *golden["own"]), strict=True):
        theirs = golden["all"] if name == "all" else golden["own"][name]
        assert [line.intercept, line.slope] == pytest.approx(theirs["coef"], rel=1e-9)
        covariance = [line.var_intercept, line.covariance, line.var_slope]
        assert covariance == pytest.approx(
            [theirs["vcov"][0][0], theirs["vcov"][0][1], theirs["vcov"][1][1]], rel=1e-8
        )
        assert (line.residual_sd, line.residual_df) == pytest.approx((theirs["sd"], theirs["df"]))
    pooled, between = partially_pooled(golden_lines[1:])
    assert between is not None
    slopes = golden["slopes"]
    assert between.slope == pytest.approx(slopes["mean"], rel=1e-7)
    assert between.tau2_slope == pytest.approx(slopes["tau2"], rel=1e-5)
    assert [one.slope for one in pooled] == pytest.approx(slopes["pred"], rel=1e-6)
    assert [one.var_slope for one in pooled] == pytest.approx(slopes["mse"], rel=1e-5)


def test_effects_divided_by_slopes_are_pooled_as_r_pools_them(
    golden: dict[str, Any], golden_lines: list[ErrorLine]
) -> None:
    studies = [
        study(f"T{at}", y, se)
        for at, (y, se) in enumerate(zip(golden["y"], golden["se"], strict=True), start=1)
    ]
    every = golden_lines[0]
    common = Slope(
        group="all",
        value=every.slope,
        shared=every.var_slope,
        df=every.residual_df,
        residual_sd=every.residual_sd,
    )
    found, _ = scale_corrected(studies, {one.trial: common for one in studies}, OPTIONS)
    theirs = golden["shared"]
    own = (found.estimate, found.se, found.df, found.low, found.high)
    assert own == pytest.approx(
        (theirs["estimate"], theirs["se"], theirs["df"], *theirs["ci"]), rel=1e-6
    )
    pooled, _ = partially_pooled(golden_lines[1:])
    slopes = {
        one.group: Slope(
            group=one.group, value=one.slope, shared=one.var_slope, residual_sd=one.residual_sd
        )
        for one in pooled
    }
    found, fit = scale_corrected(studies, slopes, OPTIONS)
    theirs = golden["trials"]
    own = (found.estimate, found.se, fit.tau2, found.low, found.high)
    assert own == pytest.approx(
        (theirs["estimate"], theirs["se"], theirs["tau2"], *theirs["ci"]), rel=1e-5
    )


def test_fiellers_interval_is_the_one_written_out_in_r(golden: dict[str, Any]) -> None:
    found = divided((3.0, 0.8, 9.0), (0.9, 0.15, 18.0), 95.0)
    assert found.method == "fieller"
    assert [found.low, found.high] == pytest.approx(golden["fieller"], rel=1e-9)
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.estimate > found.estimate - found.low  # longer to the far side
    near = divided((3.0, 0.8, 9.0), (0.9, 0.05, 18.0), 95.0)
    assert near.method == "delta"
    unbounded = divided((3.0, 0.8, 9.0), (0.3, 0.3, 18.0), 95.0)
    assert (unbounded.low, unbounded.high) == (None, None)


def test_trials_with_one_line_between_them_share_its_error() -> None:
    """Five trials of one vendor, five of another: the variance by hand."""
    studies = [study(f"T{at}", 3.0 + 0.1 * at, 1.0) for at in range(10)]
    slopes = {
        one.trial: Slope(
            group=f"vendor {at // 5}", value=0.9 if at < 5 else 1.1, shared=0.003, residual_sd=3.0
        )
        for at, one in enumerate(studies)
    }
    found, fit = scale_corrected(studies, slopes, replace(OPTIONS, ci="wald"))
    y = np.array([one.estimate for one in studies], dtype=float)
    beta = np.array([one.value for one in slopes.values()])
    weights = beta**2 / (beta**2).sum()
    assert fit.tau2 == 0
    assert found.estimate == pytest.approx(float(weights @ (y / beta)))
    shared = sum(float((weights[at] * y[at] / beta[at] ** 2).sum()) ** 2 * 0.003
                 for at in (slice(5), slice(5, 10)))  # fmt: skip
    assert found.se**2 == pytest.approx(1 / (beta**2).sum() + shared)


def test_partially_pooled_slopes_share_the_error_of_their_mean(
    golden: dict[str, Any], golden_lines: list[ErrorLine]
) -> None:
    """Shrunk by B = v/(v + τ²), a slope has B times the error of the mean; a new trial has all."""
    pooled, between = partially_pooled(golden_lines[1:])
    measure = MeasureError(
        measure="lv_ef_percent", unit="%", scope="", lines=(*golden_lines, *pooled),
        between_trials=between,
    )  # fmt: skip
    assert between is not None
    for one, line in zip(golden_lines[1:], pooled, strict=True):
        slope = _slope_of(study(one.group, 1.0, 1.0), measure, ErrorInput())
        load = one.var_slope / (one.var_slope + between.tau2_slope)
        assert (slope.load, slope.shared) == pytest.approx((load, between.var_slope))
        assert slope.load**2 * slope.shared + slope.own == pytest.approx(line.var_slope)
    new = _slope_of(study("T9", 1.0, 1.0), measure, ErrorInput())
    assert (new.load, new.shared, new.own) == pytest.approx(
        (1.0, between.var_slope, between.tau2_slope)
    )
    assert new.df == 4


# ------------------------------------------------------------------ by construction


def test_what_was_done_to_the_outcome_is_undone(tmp_path: Path) -> None:
    """The same table measured by a model that reads Y* = 4 + 0.8 Y, without noise."""
    truth = simulate_wide(trials=5)
    changed = {n: 4 + 0.8 * truth[n] for n in ("lv_ef_percent", "lv_ef_baseline")}
    path = written(tmp_path, evaluation(exact(0.8, 4.0)))
    plain = cm.pool_trials(truth, **BASE)
    found = cm.pool_trials(truth.assign(**changed), **BASE, error_model=path)
    headline = plain.result.headline("active")
    rows = rows_of(found)
    corrected = rows["effect corrected for scale"]
    assert headline is not None
    assert (corrected.estimate, corrected.ci_low, corrected.ci_high) == pytest.approx(
        (headline.estimate, headline.ci_low, headline.ci_high)
    )
    measured = rows["effect as measured"]
    assert measured.estimate == pytest.approx(0.8 * corrected.estimate)
    assert rows["tau corrected for scale"].estimate == pytest.approx(math.sqrt(headline.tau2 or 0))
    undone = rows["difference of error between arms that brings the interval to zero"]
    assert undone.estimate == pytest.approx(measured.ci_low)
    assert "participants that a perfect reader would need, %" not in rows  # no noise to save


def test_an_error_that_differs_between_arms_is_undone_by_the_lines_of_both() -> None:
    """m₁* = 5 + 0.8 m₁ and m₀* = 2 + 0.9 m₀ with m₀ 50 and δ 3: δ* = 0.4 exactly."""
    control, active = exact(0.9, 2.0), exact(0.8, 5.0)
    measured = Corrected(
        estimate=(5 + 0.8 * 53) - (2 + 0.9 * 50), se=1.0, df=60, low=None, high=None
    )
    found = corrected_by_arm(measured, control, active, 50.0, 95.0)
    assert (found.estimate, found.se) == pytest.approx((3.0, 1 / 0.8))
    # The variance of uncertain lines, against draws of them.
    draw = np.random.default_rng(1)
    cov = np.array([[4.0, -0.07], [-0.07, 0.0016]])
    uncertain = {"var_intercept": 4.0, "covariance": -0.07, "var_slope": 0.0016}
    found = corrected_by_arm(
        measured, replace(control, **uncertain), replace(active, **uncertain), 50.0, 95.0
    )
    a0, b0 = draw.multivariate_normal([2, 0.9], cov, 40_000).T
    a1, b1 = draw.multivariate_normal([5, 0.8], cov, 40_000).T
    y = draw.normal(measured.estimate, 1.0, 40_000)
    values = (y - (a1 - a0) - (b1 - b0) * 50.0) / b1
    assert found.se == pytest.approx(values.std(), rel=0.03)


def test_the_share_of_the_residual_variance_and_what_a_perfect_reader_saves(
    tmp_path: Path,
) -> None:
    table = simulate_wide(trials=4)
    line = exact(1.0, residual_sd=3.0, residual_df=30.0)
    path = written(tmp_path, evaluation(line))
    found = cm.pool_trials(table, **BASE, error_model=path)
    rows = rows_of(found)
    studies = found.result.of_arm("active", "trial")
    df = np.array([row.df for row in studies], dtype=float)
    residual = []
    for trial, part in table.groupby("trial"):
        design = np.column_stack(
            [np.ones(len(part)), part["lv_ef_baseline"], part["arm"] == "active"]
        ).astype(float)
        rest = (
            part["lv_ef_percent"]
            - design @ np.linalg.lstsq(design, part["lv_ef_percent"].to_numpy(), rcond=None)[0]
        )
        residual.append(float(rest @ rest) / (len(part) - 3))
        assert trial
    share = float(9 * df.sum() / (df @ np.array(residual)))
    row = rows["share of residual variance that is error, %"]
    assert row.estimate == pytest.approx(100 * share)
    assert row.ci_low == pytest.approx(100 * share / stats.f.ppf(0.975, 30, df.sum()))
    se = np.array([one.se for one in studies], dtype=float)
    needed = (1 / se**2).sum() / (1 / (se**2 * (1 - 9 / np.array(residual)))).sum()
    assert rows["participants that a perfect reader would need, %"].estimate == pytest.approx(
        100 * needed
    )
    change = rows_of(cm.pool_trials(table, **BASE, effect="change", error_model=path))
    assert change["share of residual variance that is error, %"].estimate > row.estimate


def test_an_interaction_with_the_baseline_is_corrected_for_its_reliability(tmp_path: Path) -> None:
    """200 people a trial, error of SD 5 beside a spread of 8: reliability 64 / 89."""
    truth = simulate_wide(trials=6, people=300, tau=0.0)
    draw = np.random.default_rng(2)
    active = truth["arm"] == "active"
    truth["lv_ef_percent"] += 0.3 * active * (truth["lv_ef_baseline"] - 55)
    noisy = truth.assign(lv_ef_baseline=truth["lv_ef_baseline"] + draw.normal(0, 5, len(truth)))
    path = written(tmp_path, evaluation(exact(1.0, residual_sd=5.0)))
    found = cm.pool_trials(
        noisy, **BASE, effect="follow-up", by=["lv_ef_baseline"],
        error_model=path,
    )  # fmt: skip
    frame = found.table("error_adjusted").set_index("quantity")
    reliability = frame.loc["reliability of the baseline", "estimate"]
    assert reliability == pytest.approx(64 / 89, abs=0.03)
    measured = frame.loc["interaction as measured", "estimate"]
    corrected = frame.loc["interaction corrected for the baseline's reliability", "estimate"]
    assert corrected == pytest.approx(measured / reliability)
    assert abs(corrected - 0.3) < abs(measured - 0.3)


def test_slopes_that_differ_between_groups_are_undone_and_named(tmp_path: Path) -> None:
    truth = simulate_wide(trials=6, people=200, effect=6.0, tau=0.0)
    female = (truth["sex"] == "female").to_numpy()
    read = np.where(female, 0.6, 1.0)
    table = truth.assign(lv_ef_percent=truth["lv_ef_percent"] * read)
    lines = (
        exact(0.85),
        exact(0.6, group_by="sex", group="female"),
        exact(1.0, group_by="sex", group="male"),
    )
    path = written(tmp_path, evaluation(*lines))
    found = cm.pool_trials(table, **BASE, by=["sex"], error_model=path)
    frame = found.table("error_adjusted").set_index("quantity")
    measured = frame.loc["interaction as measured"]
    corrected = frame.loc["interaction corrected by group"]
    assert measured["level"] == "female vs male"
    assert measured["estimate"] < -1.5
    assert abs(corrected["estimate"]) < 1.0
    assert corrected["se"] > measured["se"]
    slopes = frame.loc["difference of slopes between groups that brings the interval to zero, %"]
    male = next(
        row for row in found.result.of_arm("active", "subgroup")
        if row.level == "male" and not row.trial
    )  # fmt: skip
    assert slopes["estimate"] == pytest.approx(100 * measured["ci_high"] / male.estimate)


# ------------------------------------------------------------------ sources, warnings, refusals


def test_what_the_correction_rests_on_is_said() -> None:
    table = simulate_wide(trials=3)
    result = cm.pool_trials(table, **BASE).result
    studies = {
        "active": [
            study(row.trial, row.estimate or 0.0, row.se or 1.0)
            for row in result.of_arm("active", "trial")
        ]
    }

    def said(found: MeasurementError, **more: Any) -> list[str]:
        again = with_error_rows(result, studies, (), {}, ErrorInput(evaluated=found, **more))
        return [one for one in again.warnings if one not in result.warnings]

    few = exact(0.9, n_people=20)
    assert "of 20 hearts: the corrected effect is uncertain" in " ".join(said(evaluation(few)))
    card = said(evaluation(exact(0.9), source="card"))
    assert "assumed equal to that of the model's card." in " ".join(card)
    assert "has no hearts of these trials" in " ".join(said(evaluation(exact(0.9))))
    own = evaluation(exact(0.9), exact(0.8, group_by="trial", group="T1"))
    assert said(own) == []
    assert "another segmentation model" in " ".join(said(own, model_sha256=("cd",)))
    assert said(own, model_sha256=("ab",)) == []
    assert "too small" in " ".join(said(replace(own, trained_on="included")))


def test_trials_take_their_own_line_then_their_vendors_then_that_of_all(tmp_path: Path) -> None:
    table = simulate_wide(trials=4).assign(vendor="")
    table.loc[table["trial"].isin(["T2", "T3"]), "vendor"] = "GE"
    lines = (
        exact(0.9),
        exact(0.5, group_by="trial", group="T1"),
        exact(0.7, group_by="vendor", group="GE"),
    )
    found = cm.pool_trials(table, **BASE, error_model=written(tmp_path, evaluation(*lines)))
    frame = found.table("error_adjusted")
    slopes = frame[frame["quantity"] == "slope"].set_index("level")["estimate"]
    assert dict(slopes) == {"trial T1": 0.5, "vendor GE": 0.7, "all": 0.9}


def test_sds_of_scans_alone_give_the_noise_and_correct_nothing() -> None:
    table = simulate_wide(trials=4).assign(lv_ef_percent_sd=3.0)
    found = cm.pool_trials(table, **BASE, error_model="scan-sd")
    rows = rows_of(found)
    assert "effect corrected for scale" not in rows
    assert 0 < rows["share of residual variance that is error, %"].estimate < 100
    assert math.isnan(rows["share of residual variance that is error, %"].ci_low)
    assert "not corrected" in error_sentence(found.result, "active")
    assert any("the effect is not corrected" in warning for warning in found.warnings)
    with pytest.raises(InputError, match="needs the column lv_ef_percent_sd"):
        cm.pool_trials(simulate_wide(trials=3), **BASE, error_model="scan-sd")


def test_the_card_is_that_of_the_output_or_of_the_bundled_model(tmp_path: Path) -> None:
    card = {"measurement_error": evaluation(exact(0.9)).document()}
    (tmp_path / "cohort.json").write_text(json.dumps({"model": {"card": card}}))
    found = evaluated_error("card", tmp_path)
    assert (found.source, found.cohort) == ("card", "readings")
    (tmp_path / "cohort.json").write_text(json.dumps({"model": {"card": {"id": "m"}}}))
    with pytest.raises(InputError, match=r"card in cohort\.json has no section measurement_error"):
        evaluated_error("card", tmp_path)
    if "measurement_error" not in bundled_card():
        with pytest.raises(InputError, match="card of the bundled model has no section"):
            evaluated_error("card", None)


def test_refusals_say_what_to_do(tmp_path: Path) -> None:
    table = simulate_wide(trials=3).assign(lv_mass_g=120.0)
    table["lv_mass_g"] += np.random.default_rng(1).normal(0, 9, len(table))
    path = written(tmp_path, evaluation(exact(0.9)))
    with pytest.raises(InputError, match="no line of lv_mass_g") as error:
        cm.pool_trials(table, outcome="lv_mass_g", effect="follow-up", error_model=path)
    assert "lv_ef_percent" in error.value.hint
    with pytest.raises(UsageError, match="cannot be combined with --effect standardised"):
        cm.pool_trials(
            table, **BASE, effect="standardised-mean-difference",
            error_model=path,
        )  # fmt: skip
    summaries = pd.DataFrame({"trial": ["A", "B"], "estimate": [1.0, 2.0], "se": [0.5, 0.6]})
    with pytest.raises(UsageError, match="participants' rows or site files"):
        cm.pool_trials(summaries, error_model=path)


# ------------------------------------------------------------------ the command


def test_files_page_and_figure_only_where_asked_for(tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    to_long(simulate_wide(trials=4)).to_csv(table, index=False)
    path = written(tmp_path, evaluation(exact(0.9, var_slope=0.0009, residual_sd=3.0)))
    command = ["pool-trials", str(table), "--outcome", "lv_ef_percent", "--quiet", *TWO_STAGE]
    plain, out = tmp_path / "plain", tmp_path / "out"
    done = CliRunner().invoke(app, [*command, "--out", str(plain)])
    assert done.exit_code == 0, done.output
    assert not (plain / "error_adjusted.csv").exists()
    record = json.loads((plain / "cardiometa.json").read_text())
    assert "error_model" not in record["options"]
    done = CliRunner().invoke(app, [*command, "--out", str(out), "--error-model", str(path)])
    assert done.exit_code == 0, done.output
    with (out / "error_adjusted.csv").open(newline="", encoding="utf-8") as stream:
        quantities = [row["quantity"] for row in csv.DictReader(stream)]
    assert quantities[0] == "effect as measured"
    assert (plain / "effects.csv").read_bytes() == (out / "effects.csv").read_bytes()
    page = assert_self_contained((out / "report.html").read_text(encoding="utf-8"))
    assert "The model's error" in page.text
    words = "Corrected for the model's error against readers (evaluation of readings; slope 0.900"
    assert words in " ".join(page.text.split())
    names = {path.name for path in (out / "figures").glob("*.svg")}
    assert names == {path.name for path in (plain / "figures").glob("*.svg")} | {"error.svg"}
    forest = "figures/forest.svg"
    assert (plain / forest).read_bytes() == (out / forest).read_bytes()
    wrong = CliRunner().invoke(app, [*command, "--out", str(out), "--error-model", "cart"])
    assert wrong.exit_code == 2
    assert "evaluation.json, card or scan-sd" in wrong.output


def test_site_files_give_what_the_rows_give(tmp_path: Path) -> None:
    rows = to_long(simulate_wide(trials=4))
    path = written(tmp_path, evaluation(exact(0.9, var_slope=0.0009, residual_sd=3.0)))
    model = ["--outcome", "lv_ef_percent", "--by", "sex"]
    files = []
    for number, trials in enumerate((("T1", "T2"), ("T3", "T4"))):
        table = tmp_path / str(number) / "people.csv"
        table.parent.mkdir()
        rows[rows["trial"].isin(trials)].to_csv(table, index=False)
        files.append(str(table.with_name("site.json")))
        done = CliRunner().invoke(
            app, ["summarise", str(table), *model, "--out", files[-1], "--quiet"]
        )
        assert done.exit_code == 0, done.output
    everybody = tmp_path / "people.csv"
    rows.to_csv(everybody, index=False)
    frames = []
    for inputs, name in ((files, "sites"), ([str(everybody), *model], "rows")):
        out = tmp_path / name
        done = CliRunner().invoke(
            app,
            ["pool-trials", *inputs, "--out", str(out), *TWO_STAGE, "--error-model", str(path)],
        )
        assert done.exit_code == 0, done.output
        frames.append(pd.read_csv(out / "error_adjusted.csv"))
    pd.testing.assert_frame_equal(*frames, rtol=1e-8)
    done = CliRunner().invoke(
        app, ["pool-trials", *files, "--out", str(tmp_path / "sd"), "--error-model", "scan-sd"]
    )
    assert done.exit_code == 2
    assert "Each site can run `cardiometa evaluate`" in done.output
