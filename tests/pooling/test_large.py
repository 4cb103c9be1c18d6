"""A table read in parts gives what the same table gives when it is read whole."""

import csv
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.cohort import chunks
from cardiometa.cohort.analysis_table import read_analysis_table
from cardiometa.cohort.models import TableOptions
from cardiometa.errors import TableError
from cardiometa.pooling import large as large_pool
from cardiometa.pooling.large import large_columns, pool_large
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from tests.kit.pooling_tables import simulate_wide

READ = TableOptions(numeric=("lv_ef_percent", "lv_ef_baseline"))


def table(seed=3):
    """Three-armed, one-armed and thin trials, missing values of every kind, odd ids."""
    draw = np.random.default_rng(seed)
    rows = simulate_wide(7, seed, people=40, tau=2)
    rows["arm"] = np.where((rows["trial"] == "T2") & (rows.index % 3 == 0), "high", rows["arm"])
    rows["arm"] = np.where(rows["trial"] == "T6", "control", rows["arm"])
    rows.loc[draw.random(len(rows)) < 0.1, "lv_ef_percent"] = np.nan
    rows.loc[draw.random(len(rows)) < 0.1, "lv_ef_baseline"] = np.nan
    rows.loc[rows["trial"] == "T3", "lv_ef_baseline"] = np.nan
    rows.loc[draw.random(len(rows)) < 0.1, "age_years"] = np.nan
    rows.loc[draw.random(len(rows)) < 0.05, "sex"] = None
    rows.loc[(rows["trial"] == "T5") & (rows["arm"] == "active"), "lv_ef_percent"] = np.nan
    rows.loc[draw.random(len(rows)) < 0.03, "arm"] = None
    rows["randomised"] = np.where(draw.random(len(rows)) < 0.05, "no", "yes")
    rows["participant_id"] = np.where(
        rows.index % 5 == 0, " " + rows["participant_id"], rows.index.astype(str)
    )
    return rows.sample(frac=1, random_state=seed)


def both(path, **changes):
    options = PoolingOptions(
        outcome="lv_ef_percent", **{"baseline_column": "lv_ef_baseline", "min_cell": 0, **changes}
    )
    columns = large_columns(path, options, READ, least=0)
    whole = pool_trials(read_analysis_table(path, READ), options)
    return whole, pool_large(columns, options)


def close(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for name, value in asdict(one).items():
            found = asdict(other)[name]
            if isinstance(value, float):
                assert found == pytest.approx(value, rel=1e-8, abs=1e-9), (name, one)
            else:
                assert found == value, (name, one)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("csv", {"adjust": ("age", "sex")}),
        ("parquet", {"adjust": ("sex",), "model": "two-stage"}),
        ("csv", {"adjust": ("age", "sex"), "missing_baseline": "complete", "tau2": "ml"}),
        ("csv", {"effect": "change", "adjust": ("sex", "age")}),
        ("parquet", {"effect": "follow-up", "baseline_column": None, "model": "two-stage"}),
    ],
)
def test_parts_give_what_the_whole_gives(tmp_path, monkeypatch, kind, changes):
    rows = table()
    path = tmp_path / f"people.{kind}"
    if kind == "csv":
        rows.to_csv(path, index=False)
    else:
        rows.to_parquet(path, index=False)
    monkeypatch.setattr(chunks, "_BLOCK", 3_000)
    monkeypatch.setattr(chunks, "_ROWS", 37)
    whole, parts = both(path, **changes)
    close(whole.effects, parts.effects)
    close(whole.heterogeneity, parts.heterogeneity)
    close(whole.by_arm, parts.by_arm)
    close(whole.delta, parts.delta)
    close(whole.checks, parts.checks)
    close(whole.influence, parts.influence)
    assert whole.exclusions == parts.exclusions
    assert whole.accounting == parts.accounting
    assert whole.methods == parts.methods
    assert whole.flow == parts.flow
    of_rows = ("those without the outcome", "arms differ", "want a look")
    expected = [w for w in whole.warnings if not any(words in w for words in of_rows)]
    assert expected == [w for w in parts.warnings if "read in parts" not in w]
    spread = [r for r in whole.integrity if r.check == "sd-ratio"]
    close(spread, [r for r in parts.integrity if r.check == "sd-ratio"])
    assert any("read in parts" in w for w in parts.warnings)


def test_ids_are_the_same_text_in_every_kind_of_file(tmp_path):
    rows = table()
    rows["participant_id"] = np.arange(1000, 1000 + len(rows))
    rows.to_parquet(tmp_path / "people.parquet", index=False)
    rows.to_csv(tmp_path / "people.csv", index=False)
    found = []
    for kind in ("parquet", "csv"):
        whole, parts = both(tmp_path / f"people.{kind}", model="two-stage", leave_one_out=False)
        assert whole.exclusions == parts.exclusions
        found.append(parts.exclusions)
    assert found[0] == found[1]
    rows["participant_id"] = rows["participant_id"].astype(float)
    rows.iloc[3, rows.columns.get_loc("participant_id")] = np.nan
    rows.to_parquet(tmp_path / "people.parquet", index=False)
    with pytest.raises(TableError) as caught:
        both(tmp_path / "people.parquet")
    assert "row 4" in str(caught.value.problems)
    options = PoolingOptions(outcome="lv_ef_percent", baseline_column="lv_ef_baseline")
    with pytest.raises(TableError) as caught:
        pool_large(large_columns(tmp_path / "people.parquet", options, READ, least=0), options)
    assert "row 4" in str(caught.value.problems)


def test_trials_with_numbers_for_names_stay_apart(tmp_path):
    rows = table()
    rows["trial"] = rows["trial"].replace({"T1": "01", "T2": "1", "T3": "1e0", "T4": "001"})
    rows.to_csv(tmp_path / "people.csv", index=False)
    whole, parts = both(tmp_path / "people.csv", model="two-stage")
    close(whole.effects, parts.effects)
    assert {"01", "1", "001"} <= {r.trial for r in parts.effects}


def test_the_command_reads_a_large_table_in_parts(tmp_path, monkeypatch):
    path = tmp_path / "people.csv"
    table().to_csv(path, index=False)
    options = ["--outcome", "lv_ef_percent", "--baseline", "lv_ef_baseline", "--adjust", "age"]

    def run(out):
        done = CliRunner().invoke(app, ["pool-trials", str(path), "--out", str(out), *options])
        assert done.exit_code == 0, done.output
        return (out / "effects.csv").read_text().splitlines(), (out / "report.html").read_text()

    whole, page = run(tmp_path / "whole")
    monkeypatch.setattr(large_pool, "LEAST_ROWS", 1)
    parts, other = run(tmp_path / "parts")
    assert len(whole) == len(parts)
    assert whole[0] == parts[0]
    assert "read in parts" in other
    assert "read in parts" not in page
    files = {p.name for p in (tmp_path / "whole").iterdir()}
    assert files == {p.name for p in (tmp_path / "parts").iterdir()}
    account = "exclusions.csv"
    assert (tmp_path / "whole" / account).read_text() == (tmp_path / "parts" / account).read_text()


def test_tables_that_need_each_row_are_read_whole(tmp_path):
    rows = table()
    options = PoolingOptions(outcome="lv_ef_percent", baseline_column="lv_ef_baseline")
    path = tmp_path / "people.csv"
    for extra in ("visit", "death_day", "status", ".imp", "papillary"):
        rows.assign(**{extra: 1}).to_csv(path, index=False)
        assert large_columns(path, options, READ, least=0) is None, extra
    rows.to_csv(path, index=False)
    assert large_columns(path, options, READ, least=0) is not None
    assert large_columns(path, options, READ) is None  # not large
    for other in ({"by": ("sex",)}, {"missing_outcome": "impute"}, {"baseline_column": None}):
        chosen = PoolingOptions(**{**options.document(), "ci": None, **other})
        assert large_columns(path, chosen, READ, least=0) is None, other


def test_faults_are_told_with_their_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "_BLOCK", 3_000)
    path = tmp_path / "people.csv"
    options = PoolingOptions(outcome="lv_ef_percent", baseline_column="lv_ef_baseline")
    rows = table()
    text = rows.astype({"lv_ef_percent": object})
    text.iloc[200, text.columns.get_loc("lv_ef_percent")] = "about 50"
    text.iloc[210, text.columns.get_loc("participant_id")] = "NA"
    text.to_csv(path, index=False)
    with pytest.raises(TableError) as caught:
        pool_large(large_columns(path, options, READ, least=0), options)
    said = str(caught.value) + " ".join(map(str, caught.value.problems))
    assert "row 202" in said
    assert "'about 50' (1)" in said
    assert "row 212" in said
    twice = pd.concat([rows, rows.iloc[[5]], rows.iloc[[9]]])
    twice.to_csv(path, index=False)
    with pytest.raises(TableError, match="several rows") as caught:
        pool_large(large_columns(path, options, READ, least=0), options)
    assert sum("1 participant " in str(p) for p in caught.value.problems) >= 1
    rows.assign(arm=rows["arm"].replace("active", "drug")).replace("control", "placebo").to_csv(
        path, index=False
    )
    with pytest.raises(TableError, match="none called 'control'"):
        pool_large(large_columns(path, options, READ, least=0), options)


def test_quoted_cells_are_read_in_parts_too(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "_BLOCK", 3_000)
    path = tmp_path / "people.csv"
    rows = table()
    rows["arm"] = rows["arm"].replace("high", 'high, "10" mg')
    rows["comment"] = np.where(rows.index % 7 == 0, 'said "no",\nthen left', "")
    for quoting in (csv.QUOTE_ALL, csv.QUOTE_MINIMAL):
        rows.to_csv(path, index=False, quoting=quoting)
        with path.open("a") as stream:
            stream.write("\n\n")
        whole, parts = both(path, model="two-stage", leave_one_out=False)
        close(whole.effects, parts.effects)
        assert whole.exclusions == parts.exclusions
        assert 'high, "10" mg' in parts.arms


@pytest.mark.parametrize("fault", ["x,y", 'a"b', '"a"b', '"open', "\x00"])
def test_faulty_text_is_left_to_the_whole_reader(tmp_path, fault):
    path = tmp_path / "people.csv"
    options = PoolingOptions(outcome="lv_ef_percent", baseline_column="lv_ef_baseline")
    table().to_csv(path, index=False)
    path.write_text(path.read_text().replace("female", fault, 1))
    columns = large_columns(path, options, READ, least=0)
    with pytest.raises(chunks.NotPlainError):
        pool_large(columns, options)
