"""The public functions: the same numbers, checks and defaults as the commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import cardiometa as cm
from cardiometa.cli.main import app
from cardiometa.errors import InputError, TableError, UsageError

OPTIONS = {"outcome": "lv_ef_percent", "baseline": "ef0", "leave_one_out": False}
FLAGS = ("--outcome", "lv_ef_percent", "--baseline", "ef0", "--no-leave-one-out")


def trials() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 240
    arm = np.where(rng.random(n) < 0.5, "active", "control")
    baseline = rng.normal(50, 8, n)
    return pd.DataFrame(
        {
            "trial": np.repeat(["A", "B", "C", "D"], n // 4),
            "participant_id": [f"{number:03d}" for number in range(n)],
            "arm": arm,
            "sex": rng.choice(["male", "female"], n),
            "age_years": rng.uniform(40, 75, n),
            "ef0": baseline,
            "lv_ef_percent": 0.7 * baseline + 16 + 2.5 * (arm == "active") + rng.normal(0, 5, n),
        }
    )


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return trials()


@pytest.fixture(scope="module")
def effect(table: pd.DataFrame) -> cm.api.PooledEffect:
    return cm.pool_trials(table, by=["sex"], **OPTIONS)


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_package_imports_nothing_until_a_function_is_used() -> None:
    code = (
        "import sys, cardiometa; assert cardiometa.__version__; assert 'segment' in dir(cardiometa)"
        "; sys.exit(bool({'pandas', 'torch', 'typer', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'pool'"):
        _ = cm.pool


def test_pooling_gives_the_command_s_files_and_text(
    table: pd.DataFrame, effect: cm.api.PooledEffect, tmp_path: Path
) -> None:
    path = tmp_path / "trials.csv"
    table.to_csv(path, index=False)
    printed = run("pool-trials", path, "--out", tmp_path / "out", "--by", "sex", *FLAGS)
    assert effect.summary().strip() == printed.strip()
    written = effect.to_csv(tmp_path / "python")
    assert {p.name for p in written} >= {"effects.csv", "heterogeneity.csv", "exclusions.csv"}
    for file in written:
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes()
    svg = (tmp_path / "out" / "figures" / "forest.svg").read_text(encoding="utf-8")
    assert effect.forest().svg == svg


def test_a_pooled_effect_has_frames_and_a_view(effect: cm.api.PooledEffect) -> None:
    pooled = effect.effects.query("analysis == 'pooled' and headline and model == 'two-stage'")
    assert len(pooled) == 1
    assert 0 < pooled["estimate"].item() < 5
    assert pooled["ci_low"].item() < pooled["estimate"].item() < pooled["ci_high"].item()
    assert set(effect.table("participants_by_arm")["trial"]) >= {"A", "B", "C", "D"}
    assert "tau2" in effect.heterogeneity.columns
    assert effect._repr_html_().startswith("<pre>")
    assert effect.forest("active")._repr_svg_().lstrip().startswith(("<?xml", "<svg"))


def test_a_path_and_a_frame_are_the_same_table(
    table: pd.DataFrame, effect: cm.api.PooledEffect, tmp_path: Path
) -> None:
    table.to_csv(tmp_path / "t.csv", index=False)
    again = cm.pool_trials(tmp_path / "t.csv", by="sex", **OPTIONS)
    pd.testing.assert_frame_equal(again.effects, effect.effects)


def test_columns_can_be_named_and_mapped(table: pd.DataFrame, effect: cm.api.PooledEffect) -> None:
    renamed = table.rename(columns={"trial": "STUDY", "sex": "GENDER"})
    renamed["GENDER"] = renamed["GENDER"].map({"male": 1, "female": 2})
    columns = {"sex": {"column": "GENDER", "map": {"1": "male", "2": "female"}}}
    again = cm.pool_trials(renamed, by=["sex"], trial="STUDY", columns=columns, **OPTIONS)
    pd.testing.assert_frame_equal(again.effects, effect.effects)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"outcom": "lv_ef_percent"}, "Did you mean 'outcome'"),
        ({**OPTIONS, "tau2": "best"}, "--tau2 best is not known. Use one of reml, ml"),
        ({**OPTIONS, "level": "high"}, "--level high is not a number"),
        ({**OPTIONS, "leave_one_out": 1}, "--leave-one-out 1 is not true or false"),
        ({**OPTIONS, "followup_day": 365}, "--followup-day needs --window"),
        ({**OPTIONS, "effect": "risk-ratio", "by": ["sex"]}, "cannot be combined with --by"),
        ({}, "--outcome"),
    ],
)
def test_wrong_options_are_usage_errors(table: pd.DataFrame, options: dict, sentence: str) -> None:
    with pytest.raises(UsageError) as raised:
        cm.pool_trials(table, **options)
    assert sentence in str(raised.value)


def test_tables_that_cannot_be_used_are_input_errors(table: pd.DataFrame) -> None:
    with pytest.raises(TableError):
        cm.pool_trials(table.assign(lv_ef_percent="high"), **OPTIONS)
    with pytest.raises(InputError):
        cm.pool_trials("no such table.csv", **OPTIONS)
    twice = pd.concat([table, table["sex"]], axis=1)
    with pytest.raises(UsageError, match="two columns"):
        cm.read_table(twice)


def test_a_table_is_read_as_the_commands_read_it(table: pd.DataFrame) -> None:
    raw = table.rename(columns={"sex": "GENDER"}).assign(GENDER=table["sex"].str[0].str.upper())
    rows = cm.read_table(raw, sex="GENDER")
    assert rows["sex"].tolist() == table["sex"].tolist()
    assert rows["participant_id"].iloc[1] == "001"
    np.testing.assert_array_equal(rows["lv_ef_percent"], table["lv_ef_percent"])


@pytest.fixture(scope="module")
def ranges(table: pd.DataFrame) -> cm.api.ReferenceRanges:
    healthy = table[["trial", "participant_id", "sex", "age_years", "lv_ef_percent"]]
    return cm.reference_ranges(
        healthy, healthy_only=False, by=["sex"], method="strata", bootstrap=200
    )


def test_ranges_give_the_command_s_limits(
    table: pd.DataFrame, ranges: cm.api.ReferenceRanges, tmp_path: Path
) -> None:
    path = tmp_path / "healthy.csv"
    table[["trial", "participant_id", "sex", "age_years", "lv_ef_percent"]].to_csv(
        path, index=False
    )
    flags = ("--all", "--by", "sex", "--method", "strata", "--bootstrap", 200)
    run("reference-ranges", path, "--out", tmp_path / "out", *flags)
    ranges.to_csv(tmp_path / "python")
    name = "reference_ranges.csv"
    assert (tmp_path / "python" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert set(ranges.limits["sex"]) == {"male", "female"}
    output = cm.load(tmp_path / "out")
    assert output.command == "reference-ranges"
    assert output.report.is_file()
    assert len(output.table("reference_ranges")) == len(ranges.limits)
    with pytest.raises(UsageError, match="No such table: limits"):
        output.table("limits")


def test_ranges_draw_and_score(ranges: cm.api.ReferenceRanges, table: pd.DataFrame) -> None:
    assert "<svg" in ranges.plot("lv_ef_percent").svg
    assert "<table" in ranges._repr_html_()
    with pytest.raises(UsageError, match="no figure of lv_mass_g"):
        ranges.plot("lv_mass_g")
    patients = table.head(20)[["participant_id", "sex", "age_years", "lv_ef_percent"]]
    scored = ranges.score(patients, kind="population", same_conventions=True)
    assert scored.index.equals(patients.index)
    z = scored["lv_ef_percent_z"]
    assert z.notna().any()
    order = patients.loc[patients["sex"] == "male", "lv_ef_percent"].sort_values().index
    assert z[order].dropna().is_monotonic_increasing


def test_a_folder_that_is_not_an_output_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an output folder"):
        cm.load(tmp_path)
