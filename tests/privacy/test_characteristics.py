"""Table 1: the numbers of R, and nothing from which a small number follows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.privacy.characteristics import characteristics
from cardiometa.reports.export import baseline_tables

# R's data set ToothGrowth: lengths by supplement (VC, then OJ) and dose (0.5, 1, 2), 10 of each.
LENGTHS = (
    "4.2 11.5 7.3 5.8 6.4 10 11.2 11.2 5.2 7 16.5 16.5 15.2 17.3 22.5 17.3 13.6 14.5 18.8 15.5 "
    "23.6 18.5 33.9 25.5 26.4 32.5 26.7 21.5 23.3 29.5 15.2 21.5 17.6 9.7 14.5 10 8.2 9.4 16.5 "
    "9.7 19.7 23.3 23.6 26.4 20 25.2 25.8 21.2 14.5 27.3 25.5 26.4 22.4 24.5 24.8 30.9 26.4 "
    "27.3 29.4 23"
)


def growth():
    return pd.DataFrame(
        {
            "trial": np.tile(np.repeat(["0.5", "1", "2"], 10), 2),
            "group": np.repeat(["VC", "OJ"], 30),
            "len": np.array(LENGTHS.split(), dtype=float),
        }
    )


def test_numbers_are_those_of_r():
    """R 4.2.2: mean(v), sd(v), quantile(v, c(.5, .25, .75)) of ToothGrowth$len."""
    found = {(line.trial, line.group): line for line in characteristics(growth(), 10)}
    for key, expected in {
        ("0.5", "OJ"): (13.23, 4.459708511, 12.25, 9.7, 16.175),
        ("2", "OJ"): (26.06, 2.655058066, 25.95, 24.575, 27.075),
        ("1", "VC"): (16.77, 2.515308684, 16.5, 15.275, 17.3),
        ("", "OJ"): (20.66333333, 6.60556105, 22.7, 15.525, 25.725),
        ("", "VC"): (16.96333333, 8.266028665, 16.5, 11.2, 23.1),
    }.items():
        line = found[key]
        values = (line.mean, line.sd, line.median, line.q1, line.q3)
        assert values == pytest.approx(expected, rel=1e-9)
    assert found["", "OJ"].n == 30
    assert {line.shown for line in found.values()} == {"mean"}


def lines_of(frame, min_cell=10):
    return {
        (line.trial, line.group, line.variable, line.level): line
        for line in characteristics(frame, min_cell)
    }


def test_a_small_group_has_no_numbers_and_cannot_be_worked_out():
    frame = growth().iloc[1:]  # 9 of VC at the least dose
    found = lines_of(frame)
    assert found["0.5", "VC", "len", ""].note == "n<10"
    assert found["0.5", "OJ", "len", ""].note == "counts withheld"  # else the trial's size tells
    for line in (found["0.5", "VC", "len", ""], found["", "VC", "len", ""]):
        assert (line.n, line.mean, line.median) == (None, None, None)
    assert found["", "OJ", "len", ""].mean is not None  # less the others it tells of 10
    assert lines_of(frame, 1)["0.5", "VC", "len", ""].n == 9


def test_few_missing_are_not_counted_and_not_in_the_total():
    frame = growth()
    frame.loc[0, "len"] = np.nan
    found = lines_of(frame)
    assert found["0.5", "VC", "len", ""].note == "n<10"  # 9 have a value
    frame = pd.concat([growth()] * 2, ignore_index=True)
    frame.loc[0, "len"] = np.nan
    found = lines_of(frame)
    one, total = found["0.5", "VC", "len", ""], found["", "VC", "len", ""]
    assert (one.n, one.missing, total.missing, total.n) == (20, None, None, 60)
    assert one.mean == pytest.approx(frame.loc[frame["trial"].eq("0.5") & frame["group"].eq("VC"),
                                               "len"].mean())  # fmt: skip
    assert total.mean is not None
    assert found["1", "VC", "len", ""].missing == 0


@st.composite
def counts(draw):
    trials, levels = draw(st.integers(2, 4)), draw(st.integers(2, 3))
    cells = st.lists(st.integers(0, 25), min_size=levels, max_size=levels)
    return np.array(draw(st.lists(cells, min_size=trials, max_size=trials)))


@settings(max_examples=60, deadline=None)
@given(table=counts())
def test_no_small_count_follows_from_what_is_shown(table):
    rows = [
        {"trial": f"T{t}", "group": "g", "word": f"w{level}"}
        for t, row in enumerate(table)
        for level, count in enumerate(row)
        for _ in range(count)
    ]
    frame = pd.DataFrame(rows, columns=["trial", "group", "word"])
    found = lines_of(frame) if len(frame) else {}
    equations, trials = [], range(len(table))
    size = table.size

    def sum_of(cells):
        return np.isin(np.arange(size), [t * table.shape[1] + level for t, level in cells])

    levels = range(table.shape[1])
    for (trial, _, _, level), line in found.items():
        where = trials if trial == "" else [int(trial[1:])]
        if line.count is not None:
            assert line.count == 0 or line.count >= 10
            equations.append(sum_of([(t, int(level[1:])) for t in where]))
        if line.n is not None:
            equations.append(sum_of([(t, one) for t in where for one in levels]))
    zero = [(t, k) for t in trials for k in levels if not table[t, k]]
    equations += [sum_of([cell]) for cell in zero]
    known = np.array(equations, dtype=float).reshape(-1, size)
    rank = np.linalg.matrix_rank(known) if len(known) else 0
    for t, level in zip(*np.nonzero((table > 0) & (table < 10)), strict=True):
        more = np.vstack([known, sum_of([(t, level)])])
        assert np.linalg.matrix_rank(more) > rank, (t, level, table)


def test_the_table_of_a_paper():
    frame = pd.concat([growth()] * 4, ignore_index=True)
    frame["ethnicity"] = np.where(frame.index % 4, "white", "south-asian")
    frame.insert(2, "lv_edv_ml", np.exp(frame["len"] / 4))
    first, *rest = baseline_tables(characteristics(frame, 10), "arm")
    assert not rest
    assert first.columns[:3] == ("Characteristic", "All trials, OJ", "All trials, VC")
    cells = {row[0]: row[1:] for row in first.rows}
    assert cells["Participants"][:3] == ("120", "120", "40")
    assert "(SD)" not in next(name for name in cells if name.startswith("LV EDV"))
    assert cells["len: mean (SD)"][2] == "13.2 (4.3)"
    assert cells["Ethnicity: South Asian, n (%)"][0] == "28 (23.3%)"
    assert not [name for name in cells if "missing" in name]
    assert baseline_tables((), "arm") == []
