"""A first command on an unknown table: all that is missing in one message, and the next command."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import cardiometa as cm
from cardiometa.cli.main import app
from cardiometa.errors import TableError, UsageError
from tests.kit.pooling_tables import simulate_wide, to_long

FAST = ("--no-leave-one-out", "--model", "two-stage")


def pool(*words: str) -> Result:
    return CliRunner().invoke(app, ["pool-trials", *words, *FAST])


def next_command(refused: Result, out: Path) -> list[str]:
    line = refused.stderr.rpartition("Run next, once each guess is right: ")[2]
    words = shlex.split(line)
    assert words[:2] == ["cardiometa", "pool-trials"]
    return [str(out) if word == "OUT" else word for word in words[2:]]


def spreadsheet_long(seed: int) -> pd.DataFrame:
    """Visits, as a spreadsheet of a coordinating centre names things."""
    rows = to_long(simulate_wide(3, seed))
    names = {"baseline": "BL", "followup_12m": "M12"}
    rows = rows.assign(
        visit=rows["visit"].map(names),
        arm=rows["arm"].map({"control": "Placebo", "active": "Drug X"}),
    )
    columns = ["trial", "participant_id", "visit", "arm", "lv_ef_percent"]
    return rows[columns].set_axis(["Study", "PatID", "Visit", "Treatment", "LVEF"], axis=1)


def two_followups(seed: int) -> pd.DataFrame:
    rows = spreadsheet_long(seed)
    later = rows[rows["Visit"] == "M12"].assign(Visit="M24")
    return pd.concat([rows, later], ignore_index=True)


def wide(seed: int) -> pd.DataFrame:
    rows = simulate_wide(3, seed)
    rows["arm"] = rows["arm"].map({"control": "usual care", "active": "ablation"})
    columns = ["trial", "participant_id", "arm", "lv_ef_baseline", "lv_ef_percent"]
    names = ["Centre", "Subject", "Intervention", "EF_pre", "EF_post"]
    return rows[columns].set_axis(names, axis=1)


def with_codes(seed: int) -> pd.DataFrame:
    rows = spreadsheet_long(seed)
    rows.loc[[4, 9, 30], "LVEF"] = -99
    return rows


def survival(seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    rows = simulate_wide(3, seed)
    return pd.DataFrame(
        {
            "Study": rows["trial"],
            "PatID": rows["participant_id"],
            "Treatment": rows["arm"].map({"control": "Sham", "active": "Device"}),
            "FU_years": draw.exponential(4, len(rows)).round(2) + 0.01,
            "Death": draw.choice(["Yes", "No"], len(rows)),
        }
    )


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("table", [spreadsheet_long, two_followups, wide, with_codes, survival])
def test_the_second_command_pools(table, seed: int, tmp_path: Path) -> None:
    path, out = tmp_path / "t.csv", tmp_path / "out"
    table(seed).to_csv(path, index=False)
    refused = pool(str(path), "--out", str(out))
    assert refused.exit_code == 2, refused.output
    assert not out.exists()
    done = pool(*next_command(refused, out))
    assert done.exit_code == 0, done.output
    assert (out / "effects.csv").is_file()


def test_everything_is_named_with_its_values(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = with_codes(1).rename(columns={"Treatment": "Pill"})
    rows.to_csv(path, index=False)
    refused = pool(str(path), "--out", str(tmp_path / "out"))
    for words in (
        "--arm: The table has no column arm",
        "'Pill' (Drug X",
        "--control: no arm is called 'control'",
        "--outcome: the measure to pool is missing",
        "lv_ef_percent (LVEF)",
        "--baseline-visit: no visit is called 'baseline'",
        "BL 2",
        "-99 appears 3 times",
    ):
        assert words in refused.stderr, words
    # With an outcome the table is what cannot be used.
    assert pool(str(path), "--out", str(tmp_path / "out"), "--outcome", "LVEF").exit_code == 3


def test_a_table_without_a_trial_is_not_taken_as_one(tmp_path: Path) -> None:
    path, out = tmp_path / "t.csv", tmp_path / "out"
    rows = spreadsheet_long(1).rename(columns={"Study": "Site number"})
    rows.to_csv(path, index=False)
    given = ("--outcome", "LVEF", "--control", "Placebo", "--baseline-visit", "BL")
    refused = pool(str(path), "--out", str(out), *given)
    assert refused.exit_code == 3, refused.output
    assert "'Site number' (T1" in refused.stderr
    assert pool(*next_command(refused, out)).exit_code == 0
    single = pool(str(path), "--out", str(tmp_path / "one"), *given, "--single-trial", "X")
    assert single.exit_code == 0, single.output


def test_one_table_per_trial_gives_the_numbers_of_one_table(tmp_path: Path) -> None:
    rows = spreadsheet_long(1)
    rows.to_csv(tmp_path / "all.csv", index=False)
    paths = []
    for name, part in rows.groupby("Study"):
        paths.append(str(tmp_path / f"{name}.csv"))
        part.drop(columns="Study").to_csv(paths[-1], index=False)
    given = ("--outcome", "LVEF", "--control", "Placebo", "--baseline-visit", "BL")
    results = []
    for tables in ([str(tmp_path / "all.csv")], paths):
        out = tmp_path / f"out{len(tables)}"
        done = pool(*tables, "--out", str(out), *given)
        assert done.exit_code == 0, done.output
        results.append((out / "effects.csv").read_bytes())
    assert results[0] == results[1]


def test_check_and_read_table_refuse_what_the_commands_refuse(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with_codes(1).to_csv(path, index=False)
    checked = CliRunner().invoke(app, ["check", str(path)])
    assert checked.exit_code == 3
    assert "-99 appears 3 times" in checked.stderr
    with pytest.raises(TableError) as caught:
        cm.read_table(path)
    assert caught.value.missing == ("-99",)
    assert cm.read_table(path, missing=["-99"])["lv_ef_percent"].min() > 0
    spreadsheet_long(1).to_csv(path, index=False)
    assert CliRunner().invoke(app, ["check", str(path)]).exit_code == 0


def test_the_python_api_says_the_same(tmp_path: Path) -> None:
    rows = with_codes(1)
    with pytest.raises(UsageError, match="--outcome: the measure to pool is missing"):
        cm.pool_trials(rows)
    with pytest.raises(TableError) as caught:
        cm.pool_trials(rows, outcome="LVEF", control="Placebo", baseline_visit="BL")
    assert caught.value.missing == ("-99",)
    options = {"control": "Placebo", "baseline_visit": "BL", "missing": ["-99"]}
    effect = cm.pool_trials(rows, outcome="LVEF", leave_one_out=False, **options)
    assert len(effect.effects)


@pytest.mark.parametrize("given", ["time", "FU", "survival_days"])
def test_a_time_that_is_not_there_is_asked_for(given: str, tmp_path: Path) -> None:
    """Not proposed again as it was given; the message counts one thing as one."""
    path = tmp_path / "s.csv"
    survival(1).to_csv(path, index=False)
    words = ("--effect", "hazard-ratio", "--event", "Death", "--control", "Sham", "--time", given)
    refused = pool(str(path), "--out", str(tmp_path / "no"), *words)
    assert refused.exit_code == 3
    assert "1 thing is missing or unclear" in refused.stderr
    assert f"--time: there is no column '{given}'. Columns that may be it: FU_years" in (
        refused.stderr
    )
    done = pool(*next_command(refused, tmp_path / "o"))
    assert done.exit_code == 0, done.output
