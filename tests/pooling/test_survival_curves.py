"""Curves of survival and incidence: against R, and without any participant's own time.

Values of R 4.2.2, survival 3.5.3, from tests/golden/pooling/events.csv without FOXTROT (no event)
and DELTA's third arm, at 100, 300 and 500 days; d$w is n of the trial / n of the trial's arm:

    survfit(Surv(mace_day, mace) ~ 1, BRAVO's active, conf.type = "log-log")
    survfit(Surv(mace_day, mace) ~ 1, active, weights = w, robust = TRUE, id = id)
    survfit(Surv(mace_day, cause) ~ 1, active, weights = w, robust = TRUE, id = id)

where cause is 1 of mace, 2 of a death without mace.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from cardiometa.reports.figures.survival import CURVES, draw_curves
from cardiometa.statistics.survival import cumulative_incidence, log_log_interval
from tests.kit.pooling_tables import cohort_table

ROWS = pd.read_csv(Path(__file__).parents[1] / "golden" / "pooling" / "events.csv")
ROWS = ROWS[ROWS["arm"].isin(["control", "active"])]
ACTIVE = ROWS[(ROWS["arm"] == "active") & (ROWS["trial"] != "FOXTROT")]
AT = np.array([100.0, 300.0, 500.0])
OPTIONS = PoolingOptions(
    outcome="mace",
    effect="hazard-ratio",
    time="mace_day",
    event="mace",
    competing="died",
    model="two-stage",
    leave_one_out=False,
    min_cell=10,
)


def test_the_curve_of_a_trial_is_kaplan_meiers_with_greenwoods_error():
    own = ACTIVE[ACTIVE["trial"] == "BRAVO"]
    incidence, se = cumulative_incidence(own["mace_day"].to_numpy(), own["mace"].to_numpy(), AT)
    low, high = log_log_interval(1 - incidence, se, 1.959963984540054)
    assert 1 - incidence == pytest.approx([0.890243902439, 0.699604186410, 0.573011663068])
    assert se == pytest.approx([0.0244088269481, 0.0386057336114, 0.0470976985809])
    assert low == pytest.approx([0.831457629408, 0.616588679720, 0.475367550221])
    assert high == pytest.approx([0.929387450379, 0.768032642489, 0.659045814809])


def test_curves_of_all_trials_and_of_competing_events_are_survfits():
    sizes = ROWS.groupby("trial").size(), ACTIVE.groupby("trial").size()
    weights = (sizes[0] / sizes[1])[ACTIVE["trial"]].to_numpy()
    time, event = ACTIVE["mace_day"].to_numpy(), ACTIVE["mace"].to_numpy()
    cause = np.where(event == 1, 1, 2 * ACTIVE["died"].to_numpy())
    swapped = np.where(cause == 0, 0, 3 - cause)
    wanted = [
        (event, [0.083663818876, 0.22943573438, 0.328124595094],
         [0.0137761273791, 0.0219090170564, 0.0268770468957]),
        (cause, [0.083663818876, 0.224754767585, 0.311721198448],
         [0.0137761273791, 0.0214549698120, 0.0253518823091]),
        (swapped, [0.0, 0.0603734680706, 0.1371291652474],
         [0.0, 0.0127911319946, 0.0197229904095]),
    ]  # fmt: skip
    for of, estimate, se in wanted:
        found = cumulative_incidence(time, of, AT, weights)
        assert found[0] == pytest.approx(estimate, rel=1e-9)
        assert found[1] == pytest.approx(se, rel=1e-9)


def test_everyone_may_have_the_event():
    incidence, se = cumulative_incidence(np.array([1.0, 2.0]), np.array([1, 1]), np.array([1.5, 9]))
    assert incidence == pytest.approx([0.5, 1.0])
    assert se == pytest.approx([0.125**0.5, 0.0])


@pytest.fixture(scope="module")
def result():
    return pool_trials(cohort_table(ROWS[ROWS["trial"] != "FOXTROT"]), OPTIONS)


def test_rows_are_the_weighted_curves_at_round_times(result):
    sizes = ROWS.groupby("trial").size(), ACTIVE.groupby("trial").size()
    weights = (sizes[0] / sizes[1])[ACTIVE["trial"]].to_numpy()
    rows = [
        row
        for row in result.survival
        if (row.trial, row.group, row.kind) == ("", "active", "event-free")
    ]
    times = np.array([row.time for row in rows])
    columns = ACTIVE["mace_day"].to_numpy(), ACTIVE["mace"].to_numpy()
    incidence, se = cumulative_incidence(*columns, times, weights)
    assert [row.estimate for row in rows] == pytest.approx(1 - incidence)
    assert [row.se for row in rows] == pytest.approx(se)
    assert {row.k for row in rows} == {5}
    assert len(times) > 5
    assert set(times) <= {*np.arange(0, 1001, 50.0)}


def test_between_two_points_are_no_events_or_ten(result):
    """Of each cause, so that no step is the time of a few; few events hide a trial altogether."""
    strict = ("incidence", "competing")
    frame = pd.DataFrame(
        [(r.trial, r.group, r.kind, r.time) for r in result.survival if r.kind != "at-risk"]
    )
    assert {"", "BRAVO", "DELTA"} <= set(frame[0])
    assert "CHARLIE" not in set(frame[0])
    steps = 0
    for (trial, group, kind), points in frame.groupby([0, 1, 2])[3]:
        own = ACTIVE if group == "active" else ROWS[ROWS["arm"] == "control"]
        own = own[(own["trial"] == trial) | ((trial == "") & (own["trial"] != "FOXTROT"))]
        place = np.searchsorted(sorted(points), own["mace_day"])
        competing = (own["mace"] == 0) & (own["died"] == 1) & (kind in strict)
        for event in (own["mace"] == 1, competing):
            counts = np.bincount(place[event], minlength=len(points))[: len(points)]
            assert all(n == 0 or n >= 10 for n in counts), (trial, group, kind, counts)
            steps += len(counts)
    assert steps > 20


def test_numbers_at_risk_are_right_and_small_ones_hidden(result):
    risk = [row for row in result.survival if row.kind == "at-risk"]
    hidden = [row for row in risk if row.n_at_risk is None]
    assert any(row.note == "n<10" for row in hidden)
    for row in risk:
        own = ROWS[(ROWS["arm"] == row.group) & (ROWS["trial"] != "FOXTROT")]
        own = own if not row.trial else own[own["trial"] == row.trial]
        n = int((own["mace_day"] > row.time).sum()) if row.time else len(own)
        assert row.n_at_risk in (None, n)
        assert not 0 < (row.n_at_risk or 0) < 10
    # The total less the trials that are shown is never one trial's small number.
    for time in {row.time for row in risk}:
        for group in ("control", "active"):
            at = [row for row in risk if (row.time, row.group) == (time, group)]
            total = next(row.n_at_risk for row in at if not row.trial)
            rest = (total or 0) - sum(row.n_at_risk or 0 for row in at if row.trial)
            assert total is None or rest == 0 or rest >= 10


def test_a_column_of_competing_events_decides_what_is_drawn(result):
    plain = pool_trials(cohort_table(ROWS), replace(OPTIONS, competing=None))
    assert {row.kind for row in plain.survival} == {"event-free", "at-risk"}
    assert draw_curves(plain, "active", CURVES["incidence"], by_trial=False) is None
    for by_trial in (False, True):
        drawn = draw_curves(result, "active", CURVES["incidence"], by_trial=by_trial)
        assert ">At risk<" in drawn.svg
    last = [
        row
        for row in result.survival
        if (row.trial, row.group, row.kind) == ("", "active", "incidence")
    ][-1]
    pooled = draw_curves(result, "active", CURVES["incidence"], by_trial=False)
    assert f"active, incidence: {100 * last.estimate:.1f}% at {last.time:g}." in pooled.svg


def test_one_trial_is_not_repeated_as_all_and_its_few_events_are_not_drawn():
    for trial, drawn in (("BRAVO", {"BRAVO"}), ("CHARLIE", set())):
        table = cohort_table(ROWS[ROWS["trial"] == trial])
        found = pool_trials(table, replace(OPTIONS, competing=None))
        assert {row.trial for row in found.survival} == drawn
