"""Trials against each other, days, allocation, last digits: each check finds its fault."""

from dataclasses import replace

import numpy as np
import pytest

from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from tests.kit.pooling_tables import cohort_table, simulate_wide, to_long

WIDE = PoolingOptions(
    outcome="lv_ef_percent",
    baseline_column="lv_ef_baseline",
    min_cell=0,
    leave_one_out=False,
    model="two-stage",
)
LONG = replace(WIDE, baseline_column=None)


def rounded(people=120):
    wide = simulate_wide(3, people=people, seed=4)
    return wide.round({"lv_ef_baseline": 1, "lv_ef_percent": 1})


def looks(rows, options=WIDE):
    result = pool_trials(cohort_table(rows), options)
    return {(r.trial, r.check): r for r in result.integrity if r.result == "review"}, result


def test_clean_trials_have_no_finding():
    assert looks(rounded())[0] == {}
    assert looks(to_long(rounded()), LONG)[0] == {}


def test_another_unit_is_said_with_the_ratio_of_spreads():
    wide = rounded()
    wide.loc[wide["trial"] == "T2", ["lv_ef_percent", "lv_ef_baseline"]] /= 100
    found, result = looks(wide)
    row = found["T2", "sd-ratio"]
    assert row.value < 0.03
    assert "another unit?" in row.sentence
    assert any(w.startswith("T2: ") and "another unit?" in w for w in result.warnings)


def test_a_wider_spread_alone_is_no_other_unit():
    wide = rounded()
    third = wide["trial"] == "T3"
    values = wide.loc[third, "lv_ef_percent"]
    wide.loc[third, "lv_ef_percent"] = values.mean() + 4 * (values - values.mean())
    found, result = looks(wide)
    assert "unit" not in found["T3", "sd-ratio"].sentence
    assert not any("another unit" in w for w in result.warnings)


def test_people_of_one_trial_in_another():
    wide = rounded()
    copied = ["age_years", "lv_ef_baseline", "lv_ef_percent"]
    first, second = (wide.index[wide["trial"] == t][:5] for t in ("T1", "T2"))
    wide.loc[second, copied] = wide.loc[first, copied].to_numpy()
    found, _ = looks(wide)
    assert found["T1", "duplicates-across-trials"].n_found == 5
    assert found["T2", "duplicates-across-trials"].n_found == 5
    assert ("T3", "duplicates-across-trials") not in found


def test_an_allocation_by_no_ratio():
    wide = rounded(people=240)
    active = wide.index[(wide["trial"] == "T1") & (wide["arm"] == "active")]
    found, _ = looks(wide.drop(index=active[10:]))
    assert found["T1", "allocation"].value == pytest.approx(120 / 10)


def test_days_out_of_order():
    long = to_long(rounded()).assign(death_day=np.nan)
    baseline = long.index[(long["trial"] == "T1") & (long["visit"] == "baseline")]
    long.loc[baseline[:3], "visit_day"] = 10.0
    later = long.index[(long["trial"] == "T2") & (long["visit"] != "baseline")]
    long.loc[later[:2], "visit_day"] = -5.0
    person = long.loc[later[5], "participant_id"]
    long.loc[long["participant_id"] == person, "death_day"] = 100.0
    found, _ = looks(long, LONG)
    assert found["T1", "baseline-before-treatment"].n_found == 3
    assert found["T2", "date-order"].n_found == 2
    assert found["T2", "scan-after-death"].n_found == 1


def test_last_digits_that_a_reader_prefers():
    wide = rounded()
    first = wide["trial"] == "T1"
    wide.loc[first, "lv_ef_percent"] = (wide.loc[first, "lv_ef_percent"] / 5).round() * 5
    found, _ = looks(wide)
    assert ("T1", "last-digits-lv-ef-percent") in found
    assert ("T2", "last-digits-lv-ef-percent") not in found


def test_paired_and_unpaired_are_counted_by_arm():
    wide = rounded(people=60)
    arm = wide.index[(wide["trial"] == "T1") & (wide["arm"] == "active")]
    wide.loc[arm[:4], "lv_ef_percent"] = np.nan
    wide.loc[arm[4:7], "lv_ef_baseline"] = np.nan
    _, result = looks(wide)
    row = next(r for r in result.by_arm if (r.trial, r.arm) == ("T1", "active"))
    assert (row.paired, row.baseline_only, row.followup_only) == (len(arm) - 7, 4, 3)
