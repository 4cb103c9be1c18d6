"""Groups, the row of a participant and differences of means against plain, slow ways."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.errors import TableError
from cardiometa.records import ETHNICITIES, SEXES
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.ranges import log_log_slope
from cardiometa.reference.select import select_participants
from cardiometa.reference.strata.checks import between_trial_difference, within_trial_difference
from cardiometa.reference.strata.groups import cells, counts_of, strata
from tests.kit.reference_tables import people_frame, table

BANDS = (18.0, 40.0, 60.0)


# ------------------------------------------------------------------ strata


@pytest.mark.parametrize(
    "by", [(), ("sex",), ("age",), ("sex", "ethnicity"), ("sex", "ethnicity", "age")]
)
def test_every_participant_is_in_the_groups_of_their_own_facts(by):
    options = ReferenceOptions(by=by, age_bands=BANDS, healthy_only=False)
    participants = select_participants(table(people_frame(400)), options)
    values = participants.values("lv_edv_ml")
    groups = strata(participants, BANDS)
    found = cells(participants, groups, values)
    assert [cell.key for cell in found] == list(groups.keys)
    frame = participants.frame.reset_index(drop=True)
    for cell in found:
        key = cell.key
        mine = np.ones(len(frame), dtype=bool)
        if key.sex != "all":
            mine &= (frame["sex"] == key.sex).to_numpy()
        if key.ethnicity != "all":
            mine &= (frame["ethnicity"] == key.ethnicity).to_numpy()
        if key.age_low is not None:
            mine &= (frame["age_years"] >= key.age_low).to_numpy()
        if key.age_high is not None:
            mine &= (frame["age_years"] < key.age_high).to_numpy()
        assert sorted(cell.members) == np.flatnonzero(mine).tolist()
        assert cell.ordered.tolist() == sorted(values[mine])
        assert (values[cell.members] == cell.ordered).all()
        assert cell.trial_counts == dict(
            sorted(pd.Series(participants.trial[mine]).value_counts().items())
        )


def test_the_groups_are_listed_by_sex_ethnicity_and_age():
    options = ReferenceOptions(by=("sex", "ethnicity", "age"), age_bands=BANDS)
    participants = select_participants(table(people_frame(300)), options)
    keys = strata(participants, BANDS).keys
    order = [
        (SEXES.index(k.sex), ("all", *ETHNICITIES).index(k.ethnicity), k.age_low) for k in keys
    ]
    assert order == sorted(order)
    met = participants.frame["ethnicity"].nunique()
    assert len(keys) == len(set(keys)) == len(SEXES) * (met + 1) * len(BANDS)


def test_a_group_s_count_is_shown_with_those_of_its_siblings():
    options = ReferenceOptions(by=("sex", "ethnicity"))
    participants = select_participants(table(people_frame(300)), options)
    found = cells(participants, strata(participants, BANDS), participants.values("lv_edv_ml"))
    for cell, count in zip(found, counts_of(found), strict=True):
        mine = [c for c in found if c.key.sex == cell.key.sex and c.key.ethnicity != "all"]
        assert count == cell.n
        if cell.key.ethnicity != "all":
            assert list(count.siblings) == [c.n for c in mine]
            assert mine[count.place] is cell
            assert count.total >= sum(c.n for c in mine)


# ------------------------------------------------------------------ one row per participant

ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["baseline", "m6", "m12", ""]),
        st.one_of(st.none(), st.integers(0, 4)),
    ),
    min_size=1,
    max_size=9,
    unique_by=lambda row: row,
)


def chosen_by_hand(rows: list[tuple[int, str, int | None]]) -> list[int] | None:
    """Baseline; else the one row; else the least day, all known and no tie; None: unclear."""
    kept = []
    for person in {p for p, _, _ in rows}:
        mine = [n for n, row in enumerate(rows) if row[0] == person]
        first = [n for n in mine if rows[n][1] == "baseline"]
        if not first and len(mine) > 1:
            days = [rows[n][2] for n in mine]
            if None in days:
                return None
            first = [n for n in mine if rows[n][2] == min(days)]
        if len(first or mine) > 1:
            return None
        kept += first or mine
    return sorted(kept)


@given(ROWS)
@settings(max_examples=150, deadline=None)
def test_the_row_that_is_used_is_baseline_else_the_earliest(rows):
    frame = pd.DataFrame(rows, columns=["participant_id", "visit", "visit_day"])
    frame = frame.assign(trial="A", participant_id=frame["participant_id"].map("P{}".format))
    frame["visit_day"] = frame["visit_day"].astype(float)
    frame["lv_edv_ml"] = 100.0 + np.arange(len(frame))
    wanted = chosen_by_hand(rows)
    options = ReferenceOptions(by=(), healthy_only=False)
    if wanted is None:
        with pytest.raises(TableError, match="nothing says which one to use"):
            select_participants(table(frame), options)
        return
    found = select_participants(table(frame), options)
    assert sorted(found.frame.index) == wanted
    assert len(found.exclusions) == len(rows) - len(wanted)
    assert {e.code for e in found.exclusions} <= {"other-visit"}


# ------------------------------------------------------------------ differences of means


def simulated(seed: int, trials: int = 5):
    draw = np.random.default_rng(seed)
    n = 240
    trial = draw.integers(0, trials, n)
    group = (draw.random(n) < 0.2 + 0.12 * trial).astype(float)
    age = draw.normal(50, 10, n) - 3 * group
    y = 100 + 4 * group - 0.3 * age + 5 * trial + draw.normal(0, 6 + 4 * group, n)
    return y, group, age, trial


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("with_age", [True, False])
def test_within_trials_it_is_least_squares_with_a_column_for_each_trial(seed, with_age):
    y, group, age, trial = simulated(seed)
    found = within_trial_difference(y, group, age if with_age else None, trial)
    columns = [group, *([age] if with_age else []), *(trial == t for t in range(5))]
    fit = sm.OLS(y, np.column_stack(columns).astype(float)).fit(cov_type="HC3")
    assert found.difference == pytest.approx(fit.params[0], rel=1e-10)
    assert found.se == pytest.approx(fit.bse[0], rel=1e-10)
    assert found.df == fit.df_resid
    assert found.n_trials == 5


@pytest.mark.parametrize("seed", [1, 2])
def test_between_trials_it_is_least_squares_on_the_trials_means(seed):
    y, group, _, trial = simulated(seed)
    means = pd.DataFrame({"y": y, "g": group}).groupby(trial).mean()
    fit = sm.OLS(means["y"], sm.add_constant(means["g"])).fit()
    found = between_trial_difference(y, group, None, trial)
    assert found.difference == pytest.approx(fit.params["g"], rel=1e-10)
    assert found.se == pytest.approx(fit.bse["g"], rel=1e-10)
    assert (found.df, found.n_trials) == (3, 5)


@given(st.integers(0, 200), st.floats(-50, 50), st.floats(0.1, 30))
@settings(max_examples=30, deadline=None)
def test_a_shift_of_a_trial_and_a_unit_move_the_difference_as_they_must(seed, shift, scale):
    y, group, age, trial = simulated(seed)
    plain = within_trial_difference(y, group, age, trial)
    moved = within_trial_difference(scale * (y + shift * trial), group, age, trial)
    assert moved.difference == pytest.approx(scale * plain.difference, rel=1e-6, abs=1e-8)
    assert moved.se == pytest.approx(scale * plain.se, rel=1e-6)


@pytest.mark.parametrize("grouped", [True, False])
def test_the_exponent_of_body_size_is_that_of_least_squares(grouped):
    draw = np.random.default_rng(4)
    sex = draw.integers(0, 2, 150)
    size = np.exp(draw.normal(0.6, 0.1, 150) + 0.1 * sex)
    y = 60 * size**1.4 * np.exp(0.1 * sex + draw.normal(0, 0.15, 150))
    found = log_log_slope(y, size, sex if grouped else None)
    columns = [np.log(size), np.ones(150), *([sex] if grouped else [])]
    fit = sm.OLS(np.log(y), np.column_stack(columns)).fit()
    assert found == pytest.approx((fit.params[0], fit.bse[0], fit.df_resid), rel=1e-9)
    assert log_log_slope(y, np.full(150, 2.0), None) is None
