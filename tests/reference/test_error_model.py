"""Limits of true values: against distributions that are known, by construction, to the page."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from typer.testing import CliRunner

import cardiometa as cm
from cardiometa.cli.main import app
from cardiometa.errors import EstimationError, InputError, UsageError
from cardiometa.reference.curves.curve import AgeFunction, Curve
from cardiometa.reference.error_model import MOSTLY_ERROR, stratum_curve, without_noise
from cardiometa.reports.style import shown, shown_range
from cardiometa.statistics.measurement_error import (
    ErrorLine,
    MeasureError,
)
from tests.kit.evaluations import evaluation_of, exact_line
from tests.kit.reference_tables import people_frame

CENTILES = np.array([0.025, 0.5, 0.975])
BASE = {"measure": ["lv_edv_ml"], "method": "strata", "by": ["sex"], "bootstrap": 200}


def normal_curve(mean: float, sd: float, tau: float = 0.0) -> Curve:
    functions = {
        name: AgeFunction(basis="polynomial", coefficients=(value,))
        for name, value in (("mean", mean), ("sd", sd))
    }
    return Curve(family="normal", functions=functions, age_low=0, age_high=99, tau=tau)


def line(slope: float = 1.0, intercept: float = 0.0, **cells: Any) -> ErrorLine:
    """A line that is known without error."""
    return exact_line(slope, intercept, 150.0, **cells)


def written(folder: Any, *lines: ErrorLine) -> str:
    measure = MeasureError(measure="lv_edv_ml", unit="mL", scope="whole-stack", lines=lines)
    found = evaluation_of(measure, model_id="m1", model_sha256="ab" * 32)
    path = folder / "evaluation.json"
    path.write_text(json.dumps({"measurement_error": found.document()}))
    return str(path)


def rows_of(frame: pd.DataFrame, error_model: str, **options: Any) -> list[Any]:
    """The limits of true values of a table."""
    found = cm.reference_ranges(frame, error_model=error_model, **{**BASE, **options})
    return list(found.result.error_adjusted)


# ------------------------------------------------------------------ the noise


@pytest.mark.parametrize("noise", [1.0, 10.0, 25.0])
def test_normal_limits_lose_the_variance_of_the_noise_exactly(noise: float) -> None:
    z = special.ndtri(CENTILES)
    total = math.sqrt(28.0**2 + 4.0**2)
    found, share = without_noise(
        normal_curve(150.0, 28.0, tau=4.0), np.full(3, 50.0), 150 + total * z, (noise**2, 0.0)
    )
    assert found == pytest.approx(150 + math.sqrt(total**2 - noise**2) * z, abs=1e-6)
    assert share == pytest.approx(noise**2 / total**2)


@pytest.mark.parametrize("name", ["lognorm", "gamma", "t"])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_true_limits_of_other_distributions_come_back(name: str, share: float) -> None:
    """Outer limits of 40,000 values within 0.5 % of the truth; uncorrected they are further off.

    The noise is in proportion to the value in half of the cases, as a volume's is.
    """
    law = {"lognorm": stats.lognorm(0.25), "gamma": stats.gamma(6), "t": stats.t(6)}[name]
    p = np.random.default_rng(4).permutation((np.arange(40_000) + 0.5) / 40_000)
    true = 150 + 30 * (law.ppf(p) - law.mean()) / law.std()
    e = special.ndtri(np.random.default_rng(5).permutation((np.arange(40_000) + 0.5) / 40_000))
    sd = share * 30 * (np.maximum(true, 1) / 150 if share != 0.1 else 1.0)
    measured = np.sort(true + sd * e)
    squares = np.broadcast_to(np.square(sd), true.shape)
    slope, intercept = np.polyfit(true + sd * e, squares, 1)
    limits, truth = np.quantile(measured, CENTILES), np.quantile(true, CENTILES)
    found, _ = without_noise(stratum_curve(measured), np.zeros(3), limits, (intercept, slope))
    assert found == pytest.approx(truth, rel=0.005)
    if share == 0.2:
        assert (np.abs(found - truth) < np.abs(limits - truth))[[0, 2]].all()


# ------------------------------------------------------------------ the line


def test_a_line_without_noise_moves_every_limit_along_it(tmp_path: Any) -> None:
    frame = people_frame(400)
    rows = rows_of(frame, written(tmp_path, line(0.8, 12.0)))
    assert {row.sex for row in rows} == {"male", "female"}
    for row in rows:
        assert row.true_limit == pytest.approx((row.limit - 12.0) / 0.8)
        assert row.true_ci_low == pytest.approx((row.ci_low - 12.0) / 0.8)
        assert row.bias == pytest.approx(row.limit - row.true_limit)
        assert (row.line, row.n_hearts) == ("all", 500)


def test_trials_have_their_own_lines_by_their_participants(tmp_path: Any) -> None:
    """Two trials' lines, and that of all hearts for the others, by their share of participants."""
    frame = people_frame(400)
    frame = frame[frame["sex"] == "male"]
    own = [
        line(intercept=b, group_by="trial", group=t) for t, b in (("ALPHA", 8.0), ("BETA", -6.0))
    ]
    rows = rows_of(frame, written(tmp_path, line(), *own), by=[], healthy_only=False)
    n = frame["trial"].value_counts()
    expected = (8.0 * n["ALPHA"] - 6.0 * n["BETA"]) / n.sum()
    for row in rows:
        assert row.limit - row.true_limit == pytest.approx(expected)


def test_the_uncertainty_of_the_calibration_is_in_the_interval(tmp_path: Any) -> None:
    frame = people_frame(400)
    known = rows_of(frame, written(tmp_path, line()))
    doubtful = rows_of(frame, written(tmp_path, line(var_intercept=9.0, residual_df=48.0)))
    reach = float(special.stdtrit(48.0, 0.95)) * 3.0
    for a, b in zip(known, doubtful, strict=True):
        assert b.true_limit == pytest.approx(a.true_limit)
        half = math.hypot(a.true_limit - a.true_ci_low, reach)
        assert b.true_limit - b.true_ci_low == pytest.approx(half)


# ------------------------------------------------------------------ groups


def test_differences_between_groups_and_the_error_that_would_explain_them(tmp_path: Any) -> None:
    frame = people_frame(1500)
    lines = [
        line(group_by="sex", group=g, intercept=b) for g, b in (("male", 1.0), ("female", 4.0))
    ]
    rows = rows_of(frame, written(tmp_path, line(), *lines), by=["sex", "ethnicity"])
    place = {(r.sex, r.ethnicity, r.centile): r for r in rows}
    women, men = place["female", "all", 2.5], place["male", "all", 2.5]
    assert women.difference == pytest.approx(women.limit - men.limit)
    assert women.difference_high < 0
    assert women.error_to_zero == women.difference_high
    assert women.evaluated_difference == pytest.approx(3.0)
    black = place["male", "black", 50.0]
    assert black.versus == "white"
    assert black.difference == pytest.approx(black.limit - place["male", "white", 50.0].limit)
    assert black.evaluated_difference is None
    assert place["male", "white", 50.0].difference is None


# ------------------------------------------------------------------ refusals


def test_error_above_what_is_observed_is_refused(tmp_path: Any) -> None:
    frame = people_frame(300)
    with pytest.raises(EstimationError, match=r"lv_edv_ml: error of measurement is up to \d+ %"):
        rows_of(frame, written(tmp_path, line(residual_sd=60.0)))
    # Of one group only: its limits are without a true value, and a serious warning says so.
    frame["lv_edv_ml_sd"] = np.where(frame["sex"] == "male", 3.0, 40.0)
    found = cm.reference_ranges(frame, error_model="scan-sd", **BASE)
    rows = {(r.sex, r.centile): r for r in found.result.error_adjusted}
    assert rows["male", 2.5].true_limit > rows["male", 2.5].limit
    assert rows["female", 2.5].true_limit is None
    assert rows["female", 2.5].notes == (MOSTLY_ERROR,)
    assert any("true values cannot be separated from it" in one for one in found.warnings)


def test_what_a_table_lacks_is_said(tmp_path: Any) -> None:
    frame = people_frame(200)
    with pytest.raises(InputError, match="needs the column lv_edv_ml_sd"):
        rows_of(frame, "scan-sd")
    with pytest.raises(InputError, match="no line of lv_ef_percent"):
        rows_of(frame, written(tmp_path, line()), measure=["lv_ef_percent"])
    with pytest.raises(UsageError, match="--method quantile"):
        rows_of(frame, written(tmp_path, line()), method="quantile", by=["sex", "age"])


# ------------------------------------------------------------------ to the page


def test_files_and_page_of_the_command(tmp_path: Any) -> None:
    frame = people_frame(900)
    frame.to_csv(tmp_path / "mine.csv", index=False)
    named = written(tmp_path, line(1.1, -4.0, residual_sd=6.0, var_slope=0.0004))
    result = CliRunner().invoke(
        app,
        ["reference-ranges", str(tmp_path / "mine.csv"), "--out", str(tmp_path / "out"),
         "--measure", "lv_edv_ml", "--by", "sex,age", "--error-model", named, "--bootstrap", "200"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with (tmp_path / "out" / "error_adjusted.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["method"] for row in rows} == {"strata", "lms"}
    curves = [row for row in rows if row["method"] == "lms" and row["centile"] == "97.5"]
    # (q - α)/β of a narrower distribution.
    for row in curves:
        plain = (float(row["limit"]) + 4.0) / 1.1
        assert 0.96 * plain < float(row["true_limit"]) < plain
        assert float(row["true_ci_low"]) < float(row["true_limit"]) < float(row["true_ci_high"])
    men = [
        r for r in rows if (r["method"], r["sex"]) == ("strata", "male") and r["centile"] != "50.0"
    ]
    most = max(men, key=lambda row: int(row["n"]))
    group = [r for r in men if r["age_low"] == most["age_low"]]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="error">') :]
    assert shown_range([float(r["true_limit"]) for r in group], 0) + " mL (as measured" in section
    assert (
        shown(float(group[0]["error_share_percent"]), 0) + "% of the observed variance" in section
    )
    record = json.loads((tmp_path / "out" / "cardiometa.json").read_text())
    assert len(record["options"]["error_model"]) == 64


def test_a_group_with_few_scans_with_an_sd_says_so() -> None:
    frame = people_frame(300)
    frame["lv_edv_ml_sd"] = np.where(frame["sex"] == "male", 5.0, np.nan)
    found = {(r.sex, r.centile): r for r in rows_of(frame, "scan-sd")}
    assert found["female", 2.5].notes == ("fewer than 20 scans have an SD",)
    assert found["male", 2.5].notes == ()
    assert replace(found["male", 2.5], true_limit=None).line == "scan-sd"
