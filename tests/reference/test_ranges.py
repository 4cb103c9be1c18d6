"""The whole table: strata, status, notes, accounting, and what may not change it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from cardiometa.commands.reference_ranges import render
from cardiometa.errors import TableError
from cardiometa.reference.options import NOT_A_REFERENCE, ReferenceOptions
from cardiometa.reference.ranges import reference_ranges
from cardiometa.statistics.order_statistics import interpolated_quantile
from tests.kit.reference_tables import TRIALS, people_frame, table

QUICK = ReferenceOptions(bootstrap=200, method="strata")
FRAME = people_frame()


@pytest.fixture(scope="module")
def result():
    return reference_ranges(table(FRAME), QUICK)


ONE = replace(QUICK, measures=("lv_edv_ml",))


def _values(frame, measure, *, sex, low, high, ethnicity=None):
    rows = frame[frame["healthy"] & (frame["sex"] == sex)]
    rows = rows[(rows["age_years"] >= low) & (rows["age_years"] < high)]
    if ethnicity:
        rows = rows[rows["ethnicity"] == ethnicity]
    return np.sort(rows[measure].to_numpy())


def _rows(result, **wanted):
    return [r for r in result.rows if all(getattr(r, k) == v for k, v in wanted.items())]


def test_limits_are_those_of_the_people_of_the_cell(result):
    seen = Counter()
    for row in (r for r in result.rows if r.measure != "lv_edvi_ml_m2"):
        values = _values(
            FRAME,
            row.measure,
            sex=row.sex,
            low=row.age_low,
            high=row.age_high or 999,
            ethnicity=None if row.ethnicity == "all" else row.ethnicity,
        )
        n = len(values)
        if n < 40:
            assert (row.limit, row.ci_low, row.ci_high, row.status) == (
                None,
                None,
                None,
                "suppressed",
            )
            assert (row.n is None) == ("n<10" in row.note or "n-withheld" in row.note)
            assert row.n in (None, n)
        elif n < 120:
            assert row.limits in ("robust", "boxcox")
            assert row.status == "small-n"
            assert row.ci_low < row.limit < row.ci_high
        else:
            assert (row.limits, row.status, row.n) == ("nonparametric", "ok", n)
            assert row.limit == interpolated_quantile(values, row.centile / 100)
        seen[row.limits] += 1
    assert set(seen) == {"", "robust", "boxcox", "nonparametric"}


def test_every_stratum_is_there(result):
    keys = Counter((r.measure, r.sex, r.ethnicity, r.age_low) for r in result.rows)
    assert set(keys.values()) == {3}
    assert len(keys) == 3 * 2 * 5 * 6
    order = [r.ethnicity for r in result.rows[: 3 * 6 * 5]]
    assert list(dict.fromkeys(order)) == ["all", "white", "black", "south-asian", "chinese"]


def test_unknown_ethnicity_is_in_all_alone(result):
    account = result.accounts[0]
    healthy = FRAME[FRAME["healthy"]]
    assert account.ethnicity_unknown == healthy["ethnicity"].isna().sum() > 0
    assert account.analysed == len(healthy)


def test_accounting_closes_for_each_measure():
    frame = people_frame(400)
    frame.loc[frame.index[:25], "lv_ef_percent"] = np.nan
    frame.loc[frame.index[-1], "sex"] = None
    result = reference_ranges(table(frame), replace(QUICK, outliers="tukey"))
    for account in result.accounts:
        assert account.rows_in == account.analysed + sum(account.excluded.values()) == 400
        rows = [e for e in result.exclusions if ":" not in e.code or account.measure in e.code]
        assert len(rows) == 400 - account.analysed
        keys = [(e.trial, e.participant_id) for e in rows]
        assert len(set(keys)) == len(keys)
    assert result.accounts[0].excluded["outlier"] > 0
    assert result.accounts[1].excluded["no-value"] > 10


def test_rerun_and_row_order_give_the_same_bytes(result):
    again = reference_ranges(table(FRAME.sample(frac=1, random_state=9)), QUICK)
    assert again == result
    first, second = (
        reference_ranges(table(frame), replace(QUICK, measures=("lv_ef_percent",), by=("sex",)))
        for frame in (FRAME, FRAME[::-1])
    )
    assert render(first) == render(second)


def test_relabelling_trials_moves_no_limit(result):
    names = dict(zip(TRIALS, ("x", "w", "z", "y"), strict=True))
    other = reference_ranges(table(FRAME.assign(trial=FRAME["trial"].map(names))), QUICK)
    assert other.rows == result.rows

    def own(found, rename):
        return {
            (r.measure, r.sex, r.ethnicity, r.age_low, r.centile, rename(r.trial)): (
                r.n,
                r.limit,
                r.limit_without,
                r.span_low,
                r.span_high,
            )
            for r in found.by_trial
        }

    assert own(result, names.get) == own(other, str)


def test_other_units_move_limits_alike():
    scaled = FRAME.assign(lv_edv_ml=FRAME["lv_edv_ml"] * 4)  # a power of 2: exact
    options = replace(QUICK, measures=("lv_edv_ml",), internal=True)
    one = reference_ranges(table(FRAME), options)
    four = reference_ranges(table(scaled), options)
    for a, b in zip(one.rows, four.rows, strict=True):
        for name in ("limit", "ci_low", "ci_high"):
            x, y = getattr(a, name), getattr(b, name)
            assert (x is None) == (y is None)
            # The likelihood of a power is flat at its top.
            rel = 1e-7 if a.limits == "boxcox" else 1e-9
            assert x is None or y == pytest.approx(4 * x, rel=rel)


def test_other_measures_and_cells_play_no_part(result):
    alone = reference_ranges(
        table(FRAME[FRAME["sex"] == "female"]), replace(QUICK, measures=("lv_ef_percent",))
    )
    wanted = _rows(result, measure="lv_ef_percent", sex="female")
    assert _rows(alone, sex="female") == wanted


def test_single_trial_and_by_trial():
    frame = people_frame(600)
    frame["trial"] = np.where(frame["sex"] == "male", "ONE", frame["trial"])
    result = reference_ranges(table(frame), replace(QUICK, by=("sex",)))
    men, women = (_rows(result, sex=s, measure="lv_edv_ml") for s in ("male", "female"))
    assert {r.status for r in men} == {"single-trial"}
    assert {r.n_trials for r in men} == {1}
    assert "sampling error" not in men[0].note
    assert {r.status for r in women} == {"ok"}
    assert "sampling error within these trials" in women[0].note
    values = frame[frame["healthy"] & (frame["sex"] == "female")]
    for row in result.by_trial:
        if row.sex != "female" or row.measure != "lv_edv_ml":
            continue
        others = np.sort(values[values["trial"] != row.trial]["lv_edv_ml"].to_numpy())
        assert row.n_without == len(others)
        assert row.limit_without == interpolated_quantile(others, row.centile / 100)
        assert row.span_low <= row.limit_without <= row.span_high
        own = np.sort(values[values["trial"] == row.trial]["lv_edv_ml"].to_numpy())
        if len(own) >= 120:
            assert row.limit == interpolated_quantile(own, row.centile / 100)
        assert (row.limit is None) == (len(own) < 40)


def test_named_method_is_used_for_every_n():
    result = reference_ranges(table(FRAME), replace(QUICK, limits="parametric", min_n=20))
    used = [r for r in result.rows if r.limit is not None]
    assert {r.limits for r in used} == {"parametric"}
    assert min(r.n for r in used if r.n is not None) < 40
    assert {r.status for r in used} == {"ok", "small-n"}


def test_no_one_person_in_what_is_released():
    frame = people_frame(700)
    ends = {}  # of each cell, over all trials and of each: smallest and largest value

    def extremes(row):
        trial = getattr(row, "trial", None)
        key = (trial, row.sex, row.ethnicity, row.age_low)
        if key not in ends:
            mine = frame if trial is None else frame[frame["trial"] == trial]
            group = None if row.ethnicity == "all" else row.ethnicity
            ages = {"low": row.age_low, "high": row.age_high or 999}
            values = _values(mine, "lv_edv_ml", sex=row.sex, ethnicity=group, **ages)
            ends[key] = {values[0], values[-1]} if len(values) else set()
        return ends[key]

    at_extreme = 0
    for limits in (None, "nonparametric", "nonparametric-ranks"):
        result = reference_ranges(table(frame), replace(ONE, limits=limits))
        for row in (*result.rows, *result.by_trial):
            assert not {row.limit, row.ci_low, row.ci_high} & extremes(row)
            at_extreme += "at-extreme" in row.note
        files = render(result)
        text = "".join(str(v) for k, v in files.items() if k != "exclusions.csv")
        assert not any(i in text for i in frame["participant_id"])
        assert not result.outliers
        assert result.accounts[0].outliers
        assert "outliers.csv" not in files
    assert at_extreme > 10  # or the test shows nothing


def test_internal_names_outliers_and_says_so():
    result = reference_ranges(table(people_frame(700)), replace(ONE, internal=True))
    files = render(result)
    names = {row["participant_id"] for row in csv.DictReader(io.StringIO(files["outliers.csv"]))}
    assert names == {o.participant_id for o in result.outliers}
    assert all(name in files["report.html"] for name in names)
    assert "Internal: this page shows individual participants" in files["report.html"]


def test_counts_of_a_few_are_not_told():
    frame = people_frame(900)
    few = frame[(frame["ethnicity"] == "chinese") & frame["healthy"]].index
    frame.loc[few[4:], "healthy"] = False
    result = reference_ranges(table(frame), replace(QUICK, by=("ethnicity",)))
    rows = {r.ethnicity: r for r in result.rows if r.measure == "lv_edv_ml"}
    assert (rows["chinese"].n, rows["chinese"].note) == (None, "n<10")
    for found in (result.by_trial, result.partition, result.contrasts, result.calibration):
        for row in found:
            counts = [getattr(row, f, None) for f in ("n", "n_a", "n_b", "n_group", "n_versus")]
            assert all(c is None or c >= 10 for c in counts)


def test_whole_population_says_so_everywhere():
    frame = people_frame(300).drop(columns="healthy")
    with pytest.raises(TableError, match="healthy"):
        reference_ranges(table(frame), QUICK)
    result = reference_ranges(table(frame), replace(ONE, healthy_only=False))
    for name, text in render(result).items():
        # Neither who was left out, nor who the rest are, nor what is cited is a limit.
        if name not in {"exclusions.csv", "table1.csv", "references.bib"}:
            assert NOT_A_REFERENCE in text.casefold(), name
    assert all(NOT_A_REFERENCE in r.note for r in result.rows)


def test_headline_without_review(result):
    ok_only = reference_ranges(table(FRAME), replace(QUICK, status="ok"))
    assert result.without_review == ok_only.rows != result.rows
    assert ok_only.without_review is None
    assert ok_only.accounts[0].excluded["review"] == (FRAME["status"] == "review").sum()


@pytest.mark.parametrize(
    ("sided", "level", "centiles"),
    [("two", 95, (2.5, 50, 97.5)), ("upper", 95, (50, 95)), ("lower", 97.5, (2.5, 50))],
)
def test_sides(sided, level, centiles):
    options = replace(QUICK, sided=sided, level=level, by=("sex",), measures=("lv_edv_ml",))
    result = reference_ranges(table(FRAME), options)
    assert tuple(r.centile for r in _rows(result, sex="male")) == centiles
    values = _values(FRAME, "lv_edv_ml", sex="male", low=0, high=999)
    for row in _rows(result, sex="male"):
        assert row.limit == interpolated_quantile(values, row.centile / 100)
    render(result)


def test_calibration_counts(result):
    fitted = [
        c
        for c in result.calibration
        if (c.measure, c.sex, c.ethnicity) == ("lv_edv_ml", "male", "all")
    ]
    by_check = {c.check: c for c in fitted if c.check == "fitted"}
    assert by_check["fitted"].below_percent == pytest.approx(2.5, abs=1.2)
    thirds = [c for c in fitted if c.check == "age-third"]
    assert len(thirds) == 3
    assert sum(c.n for c in thirds) == by_check["fitted"].n
    left_out = {c.group for c in fitted if c.check == "left-out-trial"}
    assert left_out == set(TRIALS)


def test_shifted_trial_shows_in_calibration():
    frame = people_frame(1200)
    frame.loc[frame["trial"] == "GAMMA", "lv_edv_ml"] *= 1.5
    result = reference_ranges(table(frame), replace(QUICK, by=("sex",), measures=("lv_edv_ml",)))
    above = {
        (c.sex, c.group): c.above_percent for c in result.calibration if c.check == "left-out-trial"
    }
    assert above["male", "GAMMA"] > 20
    assert above["male", "ALPHA"] < 1.5


def test_portable_model(result):
    model = result.model
    assert model["conventions"]["papillary"] == ["blood-pool"]
    assert model["conventions"]["model_sha256"] == ["ab" * 32]
    limits = {(r.measure, r.sex, r.ethnicity, r.age_low, r.centile): r.limit for r in result.rows}
    for stratum in model["strata"]:
        key = tuple(stratum[name] for name in ("measure", "sex", "ethnicity", "age_low"))
        for centile in stratum["centiles"]:
            assert centile["limit"] == limits[*key, centile["centile"]] is not None
    families = {s["limits"]: s["score"]["family"] for s in model["strata"]}
    assert families == {"nonparametric": "grid", "robust": "t", "boxcox": "box-cox"}


def test_measures_that_are_not_there():
    with pytest.raises(TableError, match="no column nothing"):
        reference_ranges(table(FRAME), replace(QUICK, measures=("nothing",)))
    with pytest.raises(TableError, match="needs positive values"):
        reference_ranges(
            table(FRAME.assign(lv_edv_ml=FRAME["lv_edv_ml"].clip(lower=150) - 150)),
            replace(QUICK, limits="log"),
        )
    frame = FRAME.assign(lv_edv_ml=np.nan)
    empty = reference_ranges(table(frame), replace(QUICK, by=("sex",)))
    assert "lv_edv_ml is left out: no one has a value." in empty.warnings
