"""Conventions that must not be mixed in one range."""

from __future__ import annotations

import pandas as pd
import pytest

from cardiometa.cohort.models import TableOptions
from cardiometa.commands.reference_ranges import ReferenceRequest, estimate_ranges
from cardiometa.errors import TableError
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.ranges import reference_ranges
from cardiometa.reference.select import check_conventions, depends_on, select_participants
from tests.kit.reference_tables import MEASURES, people_frame, table


def _mixed(column, value, rows=slice(0, 40)):
    frame = people_frame(200)
    frame.loc[frame.index[rows], column] = value
    return select_participants(table(frame), ReferenceOptions())


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("papillary", "myocardium"),
        ("sequence", "gre"),
        ("model_id", "m2"),
        ("model_sha256", "cd" * 32),
    ],
)
def test_mixed_is_refused_with_values_and_trials(column, value):
    with pytest.raises(TableError, match=column) as caught:
        check_conventions(_mixed(column, value), MEASURES, by_name=False)
    text = " ".join(str(p) for p in caught.value.problems)
    assert f"{column} = {value}" in text
    assert "rows of ALPHA, BETA" in text
    assert "(rows " in text


def test_bsa_formula_blocks_indexed_measures_alone():
    people = _mixed("bsa_formula", "dubois")
    good, warnings = check_conventions(people, MEASURES, by_name=False)
    assert good == ("lv_edv_ml", "lv_ef_percent")
    assert warnings[0].startswith("lv_edvi_ml_m2 is left out: its rows mix bsa_formula")
    with pytest.raises(TableError, match="bsa_formula"):
        check_conventions(people, ("lv_edvi_ml_m2",), by_name=True)
    assert check_conventions(people, ("lv_edv_ml",), by_name=True) == (("lv_edv_ml",), ())


def test_readers_of_two_conventions_are_refused_from_a_file(tmp_path):
    frame = people_frame(200)
    frame["reported_lv_edv_ml"] = frame["lv_edv_ml"]
    frame["reported_papillary"] = ["blood-pool", "myocardium"] * 100
    frame.to_csv(tmp_path / "t.csv", index=False)
    options = ReferenceOptions(measures=("reported_lv_edv_ml",), method="strata")
    request = ReferenceRequest(
        tables=(tmp_path / "t.csv",), options=options, table_options=TableOptions()
    )
    with pytest.raises(TableError, match="reported_papillary"):
        estimate_ranges(request)


def test_trials_that_state_no_convention_lack_a_measure_or_are_a_copy_are_named():
    frame = people_frame(200)
    frame.loc[frame["trial"] == "BETA", "papillary"] = None
    frame.loc[frame["trial"] == "DELTA", "lv_ef_percent"] = float("nan")
    copy = frame[frame["trial"] == "ALPHA"].assign(trial="COPY")
    options = ReferenceOptions(method="strata", by=("sex",), limits="parametric", outliers="none")
    said = reference_ranges(table(pd.concat([frame, copy], ignore_index=True)), options).warnings
    assert "BETA: papillary is not stated in every row, and is taken as blood-pool." in said
    assert "DELTA has no value of lv_ef_percent." in said
    assert any(w.startswith("ALPHA, COPY: most participants have sex, age") for w in said)
    plain = reference_ranges(table(people_frame(200)), options).warnings
    assert not any("not stated" in w or "no value" in w or "in another trial" in w for w in plain)


def test_only_rows_with_a_value_count():
    frame = people_frame(200)
    frame.loc[frame.index[:40], ["papillary", "lv_ef_percent"]] = ["myocardium", float("nan")]
    people = select_participants(table(frame), ReferenceOptions())
    assert check_conventions(people, ("lv_ef_percent",), by_name=True)[0] == ("lv_ef_percent",)


def test_what_depends_on_what():
    assert "bsa_formula" in depends_on("lv_massi_g_m2")
    assert "bsa_formula" not in depends_on("lv_mass_g")
    assert depends_on("heart_rate_bpm") == ()
    assert depends_on("reported_lv_edv_ml") == ("reported_papillary", "sequence")
