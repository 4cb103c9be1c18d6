"""The limits against R and the published EP28 ranks (tests/golden/reference)."""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from cardiometa.reference.strata.checks import between_trial_difference, within_trial_difference
from cardiometa.reference.strata.limits import LimitRequest, estimate_limits
from cardiometa.statistics.order_statistics import rank_interval, rounded_rank

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "reference"
RULES = ("nonparametric", "parametric", "log", "prediction", "robust")


def _read(name):
    with (GOLDEN / name).open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@lru_cache
def _samples():
    found = {}
    for row in _read("samples.csv"):
        found.setdefault(row["sample"], []).append(float(row["value"]))
    return {name: np.sort(values) for name, values in found.items()}


@pytest.mark.parametrize("row", _read("ep28_ranks.csv"), ids=lambda row: row["n"])
def test_ep28_ranks(row):
    n, low, high = int(row["n"]), int(row["rank_low"]), int(row["rank_high"])
    found = rank_interval(n, 0.025, 0.90)
    assert (found.low, found.high) == (low, high)
    mirrored = rank_interval(n, 0.975, 0.90)
    assert (mirrored.low, mirrored.high) == (n + 1 - high, n + 1 - low)


def test_ep28_at_120():
    assert rounded_rank(120, 0.025) == 3
    assert rounded_rank(120, 0.975) == 118
    assert rank_interval(120, 0.025, 0.90).coverage == pytest.approx(0.9205, abs=5e-5)
    assert rank_interval(119, 0.025, 0.90).low == 1
    assert rank_interval(118, 0.025, 0.90).low is None


@pytest.mark.parametrize("rule", RULES)
def test_limits_against_r(rule):
    rows = [row for row in _read("limits.csv") if row["method"] == rule]
    assert len(rows) >= 49
    for row in rows:
        request = LimitRequest(
            centiles=(float(row["centile"]),), ci_level=float(row["ci_level"]), bootstrap=0
        )
        found = estimate_limits(_samples()[row["sample"]], rule, request)[0]
        assert found.limit == pytest.approx(float(row["limit"]), rel=1e-9), row
        if rule == "robust":
            continue
        ends = (found.ci_low, found.ci_high)
        wanted = tuple(float(row[name]) if row[name] else None for name in ("ci_low", "ci_high"))
        assert (ends[0] is None) == (wanted[0] is None), row
        if wanted[0] is not None:
            assert ends == pytest.approx(wanted, rel=1e-9), row


def test_rank_intervals_against_r():
    for row in _read("limits.csv"):
        if row["method"] != "nonparametric":
            continue
        n = len(_samples()[row["sample"]])
        found = rank_interval(n, float(row["centile"]) / 100, float(row["ci_level"]))
        if not row["rank_low"]:
            assert found.low is None or found.high is None
            assert found.coverage is None
            continue
        assert (found.low, found.high) == (int(row["rank_low"]), int(row["rank_high"]))
        assert found.coverage == pytest.approx(float(row["coverage"]), rel=1e-9)


def test_contrasts_against_r():
    people = _read("contrast_people.csv")
    y, age, group = (np.array([float(p[name]) for p in people]) for name in ("y", "age", "group"))
    trial = np.array([int(p["trial"]) for p in people])
    found = {
        "within": within_trial_difference(y, group, age, trial),
        "ignoring": within_trial_difference(y, group, age, np.zeros_like(trial)),
        "within_unadjusted": within_trial_difference(y, group, None, trial),
        "between": between_trial_difference(y, group, age, trial),
    }
    for row in _read("contrasts.csv"):
        result = found[row["name"]]
        assert result.difference == pytest.approx(float(row["difference"]), rel=1e-9)
        assert result.se == pytest.approx(float(row["se"]), rel=1e-9)
        assert result.df == float(row["df"])
