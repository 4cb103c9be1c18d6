from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from cardiometa.reports.figures.evaluation import (
    agreement_figure,
    agreement_of,
    compared_measures,
)
from cardiometa.reports.pages.segment import agreement_table

# Bland & Altman, Lancet 1986;i:307, table I: first readings of peak flow by a Wright meter and a
# mini Wright meter. Printed: mean -2.1, SD 38.8, interval of the bias -22.0 to 17.8 L/min; the
# limits there are bias ± 2 SD (-79.7 to 75.5).
WRIGHT = np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178,
                   423, 427], dtype=float)  # fmt: skip
MINI = np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259,
                 350, 451], dtype=float)  # fmt: skip


def test_bland_and_altmans_own_figures():
    found = agreement_of(pd.DataFrame({"harmonised": WRIGHT, "reported": MINI}))
    assert round(found.bias.value, 1) == -2.1
    assert round(found.sd, 1) == 38.8
    assert (round(found.bias.low, 1), round(found.bias.high, 1)) == (-22.0, 17.8)
    assert found.bias.value - 2 * found.sd == pytest.approx(-79.7, abs=0.06)
    assert found.loa_upper.value - found.loa_lower.value == pytest.approx(3.92 * found.sd, rel=1e-4)


def test_two_pairs_have_no_limits_and_a_dash_in_the_table():
    data = frame().iloc[:2]
    table = agreement_table(data, compared_measures(data))
    assert table.rows == (("LV EDV, mL", "ALPHA", "2", "–", "–", "–", "–"),)
    assert "2 scans." in agreement_figure(data, compared_measures(data)).svg


def frame():
    rng = np.random.default_rng(5)
    n = 30
    truth = rng.normal(150, 30, n)
    return pd.DataFrame(
        {
            "trial": np.repeat(["ALPHA", "BETA", "<b>"], 10),
            "status": ["ok"] * 28 + ["review", "failed"],
            "lv_edv_ml": truth,
            "reported_lv_edv_ml": truth * 1.1,
            "rv_edv_ml": truth,
            "reported_rv_edv_ml": [math.nan] * n,
            "lv_mass_g": truth,
        }
    )


def test_only_measures_with_both_values_are_compared():
    assert [measure.name for measure in compared_measures(frame())] == ["lv_edv_ml"]


def test_table_has_each_trial_and_all_without_failed_scans():
    data = frame()
    table = agreement_table(data, compared_measures(data))
    assert [row[1] for row in table.rows] == ["<b>", "ALPHA", "BETA", "all trials"]
    assert [row[2] for row in table.rows] == ["9", "10", "10", "29"]
    expected = (data["lv_edv_ml"] * -0.1)[data["trial"] == "ALPHA"].mean()
    assert table.rows[1][3] == f"{expected:.1f}".replace("-", "−")


def test_figure_shows_one_mark_a_scan_and_says_its_numbers():
    data = frame()
    figure = agreement_figure(data, compared_measures(data))
    root = ET.fromstring(figure.svg)
    description = root.find("{http://www.w3.org/2000/svg}desc").text
    assert "LV EDV: 29 scans" in description
    uses = list(root.iter("{http://www.w3.org/2000/svg}use"))
    # 29 marks, one in the legend for each of three trials, the rest are ticks.
    marks = [u for u in uses if "fill-opacity: 0.75" in (u.get("style") or "")]
    assert len(marks) == 29 + 3
    assert agreement_figure(data, compared_measures(data)) == figure


def test_more_than_six_measures_are_said_to_be_in_the_table():
    data = frame()
    names = ["lv_edv_ml", "lv_esv_ml", "lv_sv_ml", "lv_mass_g", "rv_edv_ml", "rv_esv_ml",
             "rv_sv_ml"]  # fmt: skip
    for name in names:
        data[name] = data["lv_edv_ml"]
        data[f"reported_{name}"] = data["lv_edv_ml"] + 3
    measures = compared_measures(data)
    assert len(measures) == 7
    assert "1 more measure is in the table" in agreement_figure(data, measures).caption


def test_a_hundred_thousand_scans_are_one_picture_each_panel():
    few = frame()
    data = pd.concat([few] * 400, ignore_index=True)
    figure = agreement_figure(data, compared_measures(data))
    assert len(data) > 10_000
    assert len(figure.svg) < 200_000
    assert figure.svg.count("<image") == 1
    assert agreement_figure(data, compared_measures(data)) == figure
