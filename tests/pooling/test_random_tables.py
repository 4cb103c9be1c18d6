"""A table in any form gives the plain table's effect, or is refused; it never gives another."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cardiometa as cm
from cardiometa.errors import CardiometaError
from tests.kit.pooling_tables import simulate_wide, to_long
from tests.kit.table_files import write_table

COLUMNS = ["trial", "participant_id", "visit", "arm", "lv_ef_percent"]
NAMES = {
    "trial": ("Study", "STUDYID", "trial"),
    "participant_id": ("PatID", "SUBJID", "participant_id"),
    "visit": ("Visit", "AVISIT"),
    "arm": ("Treatment", "TRT01P", "arm"),
    "lv_ef_percent": ("LVEF", "EF", "lv_ef_percent"),
}
MARKS = ("", ".", "NA", "N/A", "NaN", "null", "missing")
# What makes a table lie: a column changed in some rows.
LIES = {
    "fractions": lambda rows, _: rows["lv_ef_percent"] / 100,
    "fractions of one trial": lambda rows, _: rows["lv_ef_percent"].where(
        rows["trial"] != rows["trial"].iloc[0], rows["lv_ef_percent"] / 100
    ),
    "per ten thousand": lambda rows, _: rows["lv_ef_percent"] * 100,
    "code -99": lambda rows, some: rows["lv_ef_percent"].mask(some, -99),
    "code 999": lambda rows, some: rows["lv_ef_percent"].mask(some, 999),
    "code -1": lambda rows, some: rows["lv_ef_percent"].mask(some, -1),
    "impossible": lambda rows, some: rows["lv_ef_percent"].mask(some, 131.5),
    "zero": lambda rows, some: rows["lv_ef_percent"].mask(some, 0),
}


@pytest.fixture(scope="module")
def plain() -> pd.DataFrame:
    rows = to_long(simulate_wide(3, 7, people=24))[COLUMNS].round(2)
    rows.loc[[5, 40], "lv_ef_percent"] = np.nan
    return rows


@pytest.fixture(scope="module")
def effect(plain, tmp_path_factory) -> list[float]:
    path = tmp_path_factory.mktemp("plain") / "plain.csv"
    plain.to_csv(path, index=False)
    return estimates(path)


def estimates(path) -> list[float]:
    pooled = cm.pool_trials(
        path, outcome="lv_ef_percent", model="two-stage", leave_one_out=False, min_cell=0
    )
    rows = pooled.effects
    return rows.loc[rows["analysis"].eq("pooled"), ["estimate", "se"]].to_numpy().ravel().tolist()


def written(rows: pd.DataFrame, folder, draw):
    """The rows under other names, in another order, as a file of another form."""
    names = {name: draw(st.sampled_from(forms)) for name, forms in NAMES.items()}
    order = np.random.default_rng(draw(st.integers(0, 9))).permutation(len(rows))
    shown = rows.iloc[order][draw(st.permutations(COLUMNS))].rename(columns=names)
    kind = draw(st.sampled_from(("csv", "csv", "csv", "tsv", "xlsx")))
    path = folder / f"t.{kind}"
    if kind == "xlsx":
        write_table(shown, path)
        return path
    comma = kind == "csv" and draw(st.booleans())
    shown.to_csv(
        path,
        index=False,
        sep="\t" if kind == "tsv" else ";" if comma else ",",
        decimal="," if comma else ".",
        na_rep=draw(st.sampled_from(MARKS)),
        encoding=draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16"))),
    )
    return path


@settings(max_examples=20)
@given(data=st.data())
def test_another_form_gives_the_same_effect(data, plain, effect, tmp_path_factory):
    path = written(plain, tmp_path_factory.mktemp("form"), data.draw)
    assert estimates(path) == pytest.approx(effect, rel=1e-12)


@settings(max_examples=24)
@given(data=st.data(), lie=st.sampled_from(sorted(LIES)), count=st.integers(1, 12))
def test_a_table_that_lies_is_refused(data, plain, tmp_path_factory, lie, count):
    some = np.zeros(len(plain), dtype=bool)
    some[data.draw(st.permutations(range(len(plain))))[:count]] = True
    rows = plain.assign(lv_ef_percent=LIES[lie](plain, some))
    path = written(rows, tmp_path_factory.mktemp("lie"), data.draw)
    with pytest.raises(CardiometaError) as refused:
        estimates(path)
    assert refused.value.exit_code == 3, lie
