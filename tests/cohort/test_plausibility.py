"""What measures can be, and tables that contradict it: refused with what to do, or accepted."""

from __future__ import annotations

import math
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiometa.cohort.analysis_table import read_analysis_table
from cardiometa.cohort.infer_columns import measure_of
from cardiometa.cohort.models import CHECKS, TableOptions
from cardiometa.cohort.plausibility import (
    LIMITS,
    CheckedColumns,
    Findings,
    check_plausible,
    possible_values,
)
from cardiometa.errors import TableError, UsageError
from cardiometa.measurement.measures import MEASURES
from cardiometa.records import CohortTable, severity

# ------------------------------------------------------------------ the table of measures


def test_every_measure_has_limits_in_order() -> None:
    assert {measure.name for measure in MEASURES} <= set(LIMITS)
    for name, limits in LIMITS.items():
        low, high = limits.possible
        assert low < limits.plausible[0] < limits.plausible[1] < high, name
        if limits.median is not None:
            assert limits.plausible[0] <= limits.median[0] < limits.median[1], name
            assert limits.median[1] <= limits.plausible[1], name


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_a_cause_explains_a_median_beyond_the_range(name: str) -> None:
    """A median in the wrong unit lies outside the range, so that it is noticed."""
    limits = LIMITS[name]
    if limits.median is None:
        assert not limits.causes
        return
    middle = math.sqrt(limits.median[0] * limits.median[1])
    for factor, _ in limits.causes:
        assert factor > 0
        assert factor != 1
        if not 0.1 < factor < 10:
            assert not limits.median[0] <= middle / factor <= limits.median[1]


def test_possible_values_of_derived_and_unknown_names() -> None:
    assert possible_values("lv_ef_percent") == (0.0, 100.0)
    assert possible_values("reported_lv_edv_ml") == (0.0, math.inf)
    assert possible_values("lv_mass_g_per_height_1.7") == (0.0, math.inf)
    assert possible_values("change_in_ef") == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("column", "measure"),
    [
        ("EF_BL", "lv_ef_percent"),
        ("LVEF (%)", "lv_ef_percent"),
        ("ef0", "lv_ef_percent"),
        ("rvef_m12", "rv_ef_percent"),
        ("lv_ef_baseline", "lv_ef_percent"),
        ("EDV.12m", "lv_edv_ml"),
        ("LVESVi", "lv_esvi_ml_m2"),
        ("change_ef", "change_ef"),
        ("EF_frac", "EF_frac"),
        ("log edv", "log edv"),
        ("lv_ef_percent_z", "lv_ef_percent_z"),
        ("reported_lv_edv_ml", "lv_edv_ml"),
        ("effort", "effort"),
    ],
)
def test_the_measure_behind_a_user_s_name(column: str, measure: str) -> None:
    assert measure_of(column) == measure


# ------------------------------------------------------------------ tables


def trials(n: int = 60, seed: int = 1) -> pd.DataFrame:
    """Three trials of one row per participant, as a spreadsheet has them."""
    draw = np.random.default_rng(seed)
    parts = []
    for name in ("ALPHA", "BETA", "GAMMA"):
        edv = draw.normal(180, 25, n)
        ef = draw.normal(45, 7, n)
        parts.append(
            pd.DataFrame(
                {
                    "trial": name,
                    "participant_id": [f"{name[0]}{i:03d}" for i in range(n)],
                    "arm": draw.permutation(["control", "active"] * (n // 2)),
                    "lv_edv_ml": edv.round(1),
                    "lv_esv_ml": (edv * (1 - ef / 100)).round(1),
                    "lv_ef_percent": ef.round(1),
                    "walk": draw.normal(380, 60, n).round(0),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def found(rows: pd.DataFrame, *needed: str, accept: tuple[str, ...] = (), **more) -> Findings:
    findings = Findings(accept=accept)
    columns = CheckedColumns(rows=rows, where="t.csv", needed=needed or None, **more)
    check_plausible(columns, findings)
    return findings


def test_an_ordinary_table_passes() -> None:
    assert found(trials()).problems == []


@pytest.mark.parametrize("code", [-99, -9, 999, 9999, 99, 8888, 0, -1])
def test_codes_of_missing_values_are_refused_with_the_line_to_paste(code: float) -> None:
    rows = trials()
    rows.loc[[3, 40, 120], "lv_ef_percent"] = code
    findings = found(rows)
    (problem,) = findings.problems
    assert f"{code} appears 3 times" in problem.what
    assert "rows 3, 40, 120" in problem.where
    assert f"--missing {code}" in findings.hint()
    assert "--accept missing-code" in findings.hint()


@pytest.mark.parametrize(("code", "times"), [(9999, 1), (-99, 2), (999, 2), (-9, 1), (9999.0, 4)])
def test_codes_in_a_column_of_unknown_name(code: float, times: int) -> None:
    rows = trials()
    rows.loc[rows.index[:times], "walk"] = code
    assert found(rows).missing == [f"{code:g}"]


def test_two_codes_and_a_frequent_one_are_all_named_once() -> None:
    rows = trials(n=200)
    rows["walk"] = np.random.default_rng(2).normal(100, 20, len(rows)).round(1)
    rows.loc[5:40, "walk"] = 99  # amid the values, but far too often
    rows.loc[100:104, "walk"] = -99
    rows.loc[200:204, "lv_ef_percent"] = -99
    findings = found(rows)
    assert "--missing -99,99" in findings.hint()
    assert len(findings.problems) == 3


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([-9.0, -1.0, 8.0, 9.0], id="changes"),
        pytest.param([9.0, 9.0, 7.0, 8.0], id="small scores"),
        pytest.param([99.0, 77.0, 88.0, 99.0], id="ordinary values"),
    ],
)
def test_ordinary_values_that_resemble_codes_pass(values: list[float]) -> None:
    rows = trials()
    middle = np.mean(values)
    rows["walk"] = np.random.default_rng(3).normal(middle, 20, len(rows)).round(1)
    rows.loc[rows.index[:4], "walk"] = values
    assert found(rows).problems == []


def test_impossible_values_are_listed_with_their_rows() -> None:
    rows = trials()
    rows.loc[7, "lv_ef_percent"] = 103.5
    rows.loc[9, "lv_edv_ml"] = -180.0
    findings = found(rows, "lv_ef_percent", "lv_edv_ml")
    assert findings.codes == ["impossible-value"]
    assert [p.where for p in findings.problems] == [
        "t.csv, column 'lv_edv_ml', row 9",
        "t.csv, column 'lv_ef_percent', row 7",
    ]
    assert "between 0 and 100" in findings.problems[1].why


@pytest.mark.parametrize(
    ("column", "factor", "cause"),
    [
        ("lv_ef_percent", 0.01, "fractions instead of percent"),
        ("lv_edv_ml", 0.001, "litres instead of millilitres"),
        ("lv_edv_ml", 1 / 2.4, "an index (mL/m²) instead of the volume"),
        ("lv_esv_ml", 1000, "microlitres"),
    ],
)
@pytest.mark.parametrize("trial", ["BETA", None])
def test_another_unit_is_refused_with_its_likely_cause(
    column: str, factor: float, cause: str, trial: str | None
) -> None:
    rows = trials()
    chosen = rows["trial"].eq(trial) if trial else rows["trial"].ne("")
    rows.loc[chosen, column] *= factor
    findings = found(rows, "trial", column)
    (problem,) = findings.problems
    assert cause in problem.why
    assert "in BETA" in problem.what
    assert ("in ALPHA" in problem.what) == (trial is None)
    assert findings.codes == ["unit"]


def test_the_small_hearts_of_an_output_of_segment_are_not_another_unit() -> None:
    rows = trials().drop(columns="lv_esv_ml")
    rows["lv_edv_ml"] /= 2.4
    assert found(rows, "trial", "lv_edv_ml").codes == ["unit"]
    assert found(rows, "trial", "lv_edv_ml", measured=True).problems == []
    rows.loc[3, "lv_edv_ml"] = -1
    assert found(rows, "trial", "lv_edv_ml", measured=True).problems


def test_a_few_fractions_among_percent() -> None:
    rows = trials()
    rows.loc[[4, 90], "lv_ef_percent"] /= 100
    (problem,) = found(rows, "lv_ef_percent").problems
    assert "rows 4, 90" in problem.where
    assert "fractions instead of percent" in problem.why


def test_trials_of_an_unknown_measure_on_other_scales() -> None:
    rows = trials()
    rows.loc[rows["trial"] == "BETA", "walk"] /= 1000
    (problem,) = found(rows, "walk").problems
    assert "BETA" in problem.what
    assert "ten-fold" in problem.why
    shifted = trials()
    shifted["walk"] += 1e7
    shifted.loc[shifted["trial"] == "BETA", "walk"] += 5
    assert found(shifted, "walk").problems == []
    changes = trials()
    changes["walk"] = np.random.default_rng(1).normal(0, 5, len(changes))
    assert found(changes, "walk").problems == []


def test_volumes_the_wrong_way_round() -> None:
    rows = trials()
    swapped = rows.rename(columns={"lv_edv_ml": "lv_esv_ml", "lv_esv_ml": "lv_edv_ml"})
    assert any("swapped" in p.why for p in found(swapped).problems)
    rows.loc[11, "lv_esv_ml"] = rows.loc[11, "lv_edv_ml"] + 5
    (problem,) = found(rows).problems
    assert "row 11" in problem.where
    # An outcome of ESV is checked against an EDV in its unit, and not against nonsense.
    assert found(rows, "lv_esv_ml").codes == ["esv-above-edv"]
    rows["lv_edv_ml"] = -99.0
    assert found(rows, "lv_esv_ml").problems == []


@pytest.mark.parametrize(
    "names",
    [
        ("placebo", "Placebo"),
        ("Drug X", "Drug  X"),
        ("Drug X", "drug-x"),
        ("Placebo", "Рlacebo"),  # a Cyrillic letter
        ("Placebo", "Placeb0"),
        ("Placebo", "Plcebo"),
        ("Placebo", "Palcebo"),
        ("5 mg", "5mg"),
    ],
)
def test_one_arm_in_two_spellings(names: tuple[str, str]) -> None:
    rows = trials()
    rows["arm"] = rows["arm"].map({"control": names[0], "active": "Other drug"})
    rows.loc[rows.index[rows["arm"] == names[0]][:5], "arm"] = names[1]
    findings = found(rows, "arm", names={"arm": "TRT"})
    (problem,) = findings.problems
    assert findings.codes == ["spelling"]
    assert f"{names[1]!r} (5)" in problem.what
    assert 'arm = { column = "TRT", map = {' in problem.fix


@pytest.mark.parametrize(
    "names",
    [
        ("Drug A", "Drug B"),
        ("5 mg", "6 mg"),
        ("1.0 mg", "10 mg"),
        ("active", "inactive"),
        ("dose 10 mg", "dose 11 mg"),
        ("enalapril", "lisinopril"),
        ("arm 1", "arm 0"),
    ],
)
def test_arms_of_similar_names_are_two(names: tuple[str, str]) -> None:
    rows = trials()
    rows["arm"] = rows["arm"].map({"control": names[0], "active": names[1]})
    assert found(rows, "arm").problems == []


def test_trials_and_visits_in_two_spellings() -> None:
    rows = trials().assign(visit="baseline")
    rows.loc[3, "trial"] = "Alpha"
    rows.loc[80, "visit"] = "Baseline "
    assert len(found(rows).problems) == 2


@pytest.mark.parametrize("names", [("Placebo", "99"), ("0", "9"), ("control", "-9")])
def test_an_arm_that_is_a_code(names: tuple[str, str]) -> None:
    rows = trials()
    rows["arm"] = rows["arm"].map({"control": names[0], "active": "1"})
    rows.loc[rows.index[:6], "arm"] = names[1]
    assert found(rows, "arm").missing == [f"arm={names[1]}"]


def long(rows: pd.DataFrame) -> pd.DataFrame:
    first = rows.assign(visit="baseline", visit_day=0.0, death_day=np.nan)
    later = rows.assign(visit="followup_12m", visit_day=365.0, death_day=np.nan)
    return pd.concat([first, later], ignore_index=True)


def test_visits_and_deaths_in_the_wrong_order() -> None:
    rows = long(trials())
    assert found(rows).problems == []
    rows.loc[len(rows) - 1, "visit_day"] = -30.0
    rows.loc[0, "death_day"] = 200.0
    findings = found(rows)
    assert findings.codes == ["visit-order", "after-death"]
    assert f"row {len(rows) - 1}" in findings.problems[0].where
    renamed = rows.replace({"visit": {"baseline": "BL", "followup_12m": "M12"}})
    assert found(renamed, baseline_visit="BL").codes == ["visit-order", "after-death"]


def test_two_people_under_one_id() -> None:
    rows = long(trials()).assign(sex="male", age_years=50.0)
    rows.loc[len(rows) - 1, "age_years"] = 61.0
    assert found(rows).problems == []
    rows.loc[len(rows) - 1, "age_years"] = 76.0
    rows.loc[len(rows) - 2, "sex"] = "female"
    assert found(rows).codes == ["two-people"]
    assert len(found(rows).problems) == 2
    assert found(rows, "visit", "lv_ef_percent").problems == []


def test_a_baseline_of_another_unit_by_its_role() -> None:
    rows = trials()
    rows["before"] = rows["lv_ef_percent"] / 100
    assert found(rows, "before").problems == []
    assert found(rows, "before", roles={"before": "lv_ef_percent"}).codes == ["unit"]


def test_events_after_death() -> None:
    rows = trials().assign(day=100.0, death_day=np.nan)
    rows.loc[2, "death_day"] = 60.0
    assert found(rows, "day", "death_day", time="day").codes == ["after-death"]
    rows.loc[2, "death_day"] = 100.0
    assert found(rows, "day", "death_day", time="day").problems == []


def test_columns_that_are_not_used_never_refuse() -> None:
    rows = trials()
    rows["lv_edv_ml"] = 9999.0
    rows.loc[:5, "walk"] = -99
    rows["arm"] = ["Placebo", "placebo"] * (len(rows) // 2)
    assert found(rows, "lv_ef_percent").problems == []


def test_an_accepted_check_is_a_serious_warning() -> None:
    rows = trials()
    rows.loc[[1, 2], "lv_ef_percent"] = -99
    rows.loc[5, "lv_ef_percent"] = 140
    findings = found(rows, "lv_ef_percent", accept=("missing-code",))
    assert findings.codes == ["impossible-value"]
    assert "--missing" not in findings.hint()
    (warning,) = findings.warnings
    assert severity(warning) == "serious"
    assert CHECKS["missing-code"] in warning


# ------------------------------------------------------------------ as a table is read

USED = ("trial", "participant_id", "arm", "lv_ef_percent", "walk")


def read(path: Path, rows: pd.DataFrame, **options) -> CohortTable:
    file = path / "t.csv"
    rows.to_csv(file, index=False)
    return read_analysis_table(file, TableOptions(needed=USED, numeric=("walk",), **options))


def test_declared_codes_are_missing(tmp_path: Path) -> None:
    rows = trials()
    wanted = rows["lv_ef_percent"].where(~rows.index.isin([1, 2]))
    rows.loc[[1, 2], "lv_ef_percent"] = -99
    with pytest.raises(TableError, match="--missing -99") as caught:
        read(tmp_path, rows)
    assert "rows 3, 4" in str(caught.value.problems[0])
    table = read(tmp_path, rows, missing=("-99",))
    assert np.allclose(table.rows["lv_ef_percent"], wanted, equal_nan=True)
    assert table.warnings == ()


def test_a_declared_code_that_is_an_ordinary_value_elsewhere(tmp_path: Path) -> None:
    rows = trials()
    rows.loc[[1, 2], "lv_ef_percent"] = 350
    rows.loc[7, "walk"] = 350
    with pytest.raises(TableError) as caught:
        read(tmp_path, rows, missing=("350",))
    assert "--missing COLUMN=350" in str(caught.value.problems[0])
    table = read(tmp_path, rows, missing=("lv_ef_percent=350",))
    assert table.rows["lv_ef_percent"].isna().sum() == 2
    assert table.rows["walk"].notna().all()


def test_everything_is_reported_at_once(tmp_path: Path) -> None:
    rows = trials()
    rows.loc[0, "lv_ef_percent"] = 999
    rows["walk"] = rows["walk"].astype(object)
    rows.loc[4, "walk"] = "far"
    rows.loc[9, "arm"] = "Control"
    with pytest.raises(TableError) as caught:
        read(tmp_path, rows)
    assert len(caught.value.problems) == 3
    accepted = "missing-code", "spelling"
    with pytest.raises(TableError) as caught:
        read(tmp_path, rows, accept=accepted)
    assert len(caught.value.problems) == 1


def test_an_unknown_check_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--accept units .* 'unit'"):
        TableOptions(accept=("units",))


@pytest.mark.parametrize(
    ("name", "unit", "factor", "kind"),
    [
        ("EF_M12", "fraction", 0.01, "lv_ef_percent"),
        ("m06 LVEDV", "l", 0.001, "lv_edv_ml"),
        ("ef0", "fraction", 0.01, "lv_ef_percent"),
    ],
)
def test_a_column_of_the_user_s_own_takes_a_unit(tmp_path, name, unit, factor, kind) -> None:
    """The refusal gives the line for [columns]; with it the values are in the measure's unit."""
    middle = 50.0 if kind == "lv_ef_percent" else 160.0
    values = [round((middle + number) * factor, 6) for number in range(20)]
    lines = [f"T,{number},{value}" for number, value in enumerate(values)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join([f"trial,id,{name}", *lines, ""]))
    options = TableOptions(needed=("trial", name), numeric=(name,))
    with pytest.raises(TableError) as caught:
        read_analysis_table(path, options)
    (problem,) = caught.value.problems
    line = problem.fix.partition("of --config: ")[2]
    columns = tomllib.loads(line)
    assert columns == {name: {"column": name, "unit": unit}}
    rows = read_analysis_table(path, replace(options, columns=columns)).rows
    assert rows[name].tolist() == pytest.approx([value / factor for value in values])
    assert kind not in rows
