"""``--repeated``: every scan of a person counts, people are what is resampled and told."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pytest
from scipy import special
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import TableError, UsageError
from cardiometa.reference.options import LIMITS, ReferenceOptions
from cardiometa.reference.ranges import reference_ranges
from cardiometa.reference.strata.limits import (
    BY_PARTICIPANT,
    LimitRequest,
    estimate_limits,
    participant_means,
)
from tests.kit.reference_tables import people_frame, table

MEASURE = "lv_edv_ml"


def _scans(people=300, visits=3, seed=6):
    """Each person of `people_frame` at several visits, their values differing a little."""
    rng = np.random.default_rng(seed)
    first = people_frame(people, seed)
    frames = []
    for visit in range(visits):
        frame = first.copy()
        frame["visit"] = "baseline" if visit == 0 else f"month_{6 * visit}"
        frame["visit_day"] = 180.0 * visit
        frame[MEASURE] *= np.exp(rng.normal(0, 0.02, people))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _ranges(frame, **changes):
    options = ReferenceOptions(
        **{
            "measures": (MEASURE,), "method": "strata", "by": ("sex",), "bootstrap": 300,
            "repeated": True, **changes,
        }
    )  # fmt: skip
    return reference_ranges(table(frame), options)


def test_people_are_counted_not_scans():
    frame = _scans()
    found = _ranges(frame)
    healthy = frame[frame["healthy"]]
    assert found.participants == healthy["participant_id"].nunique()
    for sex in ("male", "female"):
        n = healthy.query("sex == @sex")["participant_id"].nunique()
        assert {r.n for r in found.rows if r.sex == sex} == {n}
    account = found.accounts[0]
    assert account.analysed == len(healthy)
    assert account.rows_in == account.analysed + sum(account.excluded.values())


def test_one_scan_each_gives_the_same_limits():
    frame = people_frame(700)
    once, repeated = _ranges(frame, repeated=False), _ranges(frame)
    for a, b in zip(once.rows, repeated.rows, strict=True):
        assert (a.limit, a.n, a.status) == (b.limit, b.n, b.status)
    assert [(c.difference, c.se) for c in once.contrasts] == [
        (c.difference, c.se) for c in repeated.contrasts
    ]


def test_copies_of_a_scan_narrow_no_interval():
    frame = people_frame(600, 2)
    copies = [frame.assign(visit=f"v{k}", visit_day=float(k)) for k in range(4)]
    four = _ranges(pd.concat(copies, ignore_index=True), limits="parametric")
    one = _ranges(frame, limits="parametric")
    for a, b in zip(one.rows, four.rows, strict=True):
        assert b.limit == pytest.approx(a.limit, rel=1e-3)
        assert b.ci_high - b.ci_low == pytest.approx(a.ci_high - a.ci_low, rel=0.12)
        assert BY_PARTICIPANT in b.note
    assert [c.se for c in one.contrasts] == pytest.approx([c.se for c in four.contrasts])
    assert [p.z for p in one.partition] == pytest.approx([p.z for p in four.partition])


@pytest.mark.parametrize("rule", LIMITS)
def test_every_rule_has_its_interval(rule):
    rng = np.random.default_rng(3)
    level = rng.normal(5, 0.15, 200)
    person = np.repeat(np.arange(200), 3)
    values = np.exp(level[person] + rng.normal(0, 0.03, 600))
    order = np.argsort(values)
    request = LimitRequest(
        centiles=(2.5, 50.0, 97.5), ci_level=0.9, bootstrap=60, seed=1, person=person[order]
    )
    found = estimate_limits(values[order], rule, request)
    again = estimate_limits(values[order], rule, request)
    assert found == again
    for limit in found:
        assert limit.ci_low < limit.limit < limit.ci_high
        assert limit.notes[-1] == BY_PARTICIPANT


def test_coverage_with_three_scans_a_person():
    """The plain interval, which takes scans for people, covers too little; this one does not."""
    rng = np.random.default_rng(8)
    truth = 150 + special.ndtri(0.975) * np.hypot(25, 6)
    hits = np.zeros(2)
    runs = 100
    for run in range(runs):
        person = np.repeat(np.arange(120), 3)
        values = rng.normal(150, 25, 120)[person] + rng.normal(0, 6, 360)
        order = np.argsort(values)
        for row, who in enumerate((person[order], None)):
            request = LimitRequest(
                centiles=(97.5,), ci_level=0.9, bootstrap=100, seed=run, person=who
            )
            found = estimate_limits(values[order], "parametric", request)[0]
            hits[row] += found.ci_low < truth < found.ci_high
    assert hits[0] / runs > 0.8
    assert hits[1] / runs < 0.78


def test_a_limit_leaning_on_one_person_is_not_released():
    frame = _scans(60, 6).assign(sex="male", healthy=True)
    who = frame["participant_id"] == frame["participant_id"].iloc[0]
    frame.loc[who, MEASURE] = 900.0 + np.arange(6)
    found = _ranges(frame.iloc[: 60 * 4], limits="nonparametric", level=98)
    upper = next(r for r in found.rows if r.centile == 99)
    assert upper.limit is None
    assert "limit-at-extreme" in upper.note


def test_the_end_of_an_interval_is_not_one_persons():
    frame = _scans(60, 3).assign(sex="male", healthy=True)
    who = frame["participant_id"] == frame["participant_id"].iloc[0]
    frame.loc[who, MEASURE] = [900.0, 901.0, 902.0]
    upper = next(r for r in _ranges(frame, limits="nonparametric").rows if r.centile == 97.5)
    assert upper.ci_high > 902
    assert "ci-at-extreme" in upper.note


def test_person_means():
    person = np.array([1, 2, 1, 3, 2])
    values = np.array([1.0, np.nan, 3.0, np.nan, 7.0])
    assert np.array_equal(
        participant_means(person, values), [2.0, np.nan, np.nan, np.nan, 7.0], equal_nan=True
    )


def test_options_that_do_not_go_together():
    with pytest.raises(UsageError, match="repeated"):
        ReferenceOptions(repeated=True, use_visit="baseline")
    with pytest.raises(UsageError, match="--repeated cannot be combined with --method lms"):
        ReferenceOptions(repeated=True, method="lms")


def test_the_command(tmp_path):
    path, out = tmp_path / "t.csv", tmp_path / "out"
    _scans(400).drop(columns="visit_day").replace({"visit": {"baseline": "month_0"}}).to_csv(
        path, index=False
    )
    options = ["--measure", MEASURE, "--by", "sex", "--bootstrap", "200"]
    run = CliRunner()
    refused = run.invoke(app, ["reference-ranges", str(path), "--out", str(out), *options])
    assert refused.exit_code == 3
    assert not out.exists()
    found = run.invoke(
        app, ["reference-ranges", str(path), "--out", str(out), *options, "--repeated"]
    )
    assert found.exit_code == 0, found.output
    with (out / "reference_ranges.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {r["method"] for r in rows} == {"strata"}
    assert all(BY_PARTICIPANT in r["note"] for r in rows)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "all scans of each participant" in page


def test_without_it_the_first_scan_alone_counts():
    frame = _scans()
    found = _ranges(frame, repeated=False)
    first = _ranges(frame[frame["visit"] == "baseline"], repeated=False)
    assert [r.limit for r in found.rows] == [r.limit for r in first.rows]
    with pytest.raises(TableError, match="several rows"):
        _ranges(frame.drop(columns="visit_day").assign(visit=None), repeated=False)
