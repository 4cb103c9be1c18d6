"""The plan of --config, renamed commands, suggestions, completion, JSON and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cardiometa.cli.app import _RENAMED
from cardiometa.cli.command import handle_errors
from cardiometa.cli.main import app
from cardiometa.cli.output import Progress, escape_control, show_error
from cardiometa.errors import InputError, Problem
from tests.kit.pooling_tables import simulate_wide

POOL = ("--baseline", "lv_ef_baseline", "--no-leave-one-out", "--model", "two-stage")


def run(*words: object, env: dict[str, str] | None = None) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], env=env)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "trials.csv"
    simulate_wide(3, people=40).to_csv(path, index=False)
    return path


# ------------------------------------------------------------------ the plan


def test_a_plan_sets_options_and_its_departures_are_listed(table: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'outcome = "lv_ef_percent"\nbaseline = "lv_ef_baseline"\nmodel = "two-stage"\n'
        'leave-one-out = false\ntau2 = "pm"\nadjust = ["age"]\n'
        '[columns]\nage_years = "age_years"\n[prespecified]\nby = ["sex"]\n'
    )
    words = ("pool-trials", table, "--config", plan)
    kept = run(*words, "--out", tmp_path / "kept", "--json")
    assert kept.exit_code == 0, kept.output
    document = json.loads(kept.stdout)
    assert document["options"]["tau2"] == "pm"
    assert document["options"]["adjust"] == ["age"]
    assert document["options"]["prespecified"] == ["sex"]
    assert f"plan: sha256 {document['options']['plan_sha256']}" in kept.stderr
    assert "departure" not in kept.stderr
    assert "effects.csv" in kept.stderr
    left = run(*words, "--out", tmp_path / "left", "--tau2", "dl")
    assert left.exit_code == 0, left.output
    assert "departure from the plan: tau2: planned pm, used dl" in left.stderr
    page = (tmp_path / "left" / "report.html").read_text(encoding="utf-8")
    assert "tau2: planned pm, used dl" in page
    quiet = run(*words, "--out", tmp_path / "quiet", "--tau2", "dl", "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("", "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('tua2 = "dl"\n', ("unknown option tua2", "Did you mean 'tau2'")),
        ("tau2 = = 1\n", ("TOML",)),
        ('columns = "AGE"\n', ("columns must be a table",)),
        ("prespecified = 3\ncolumns = []\n", ("columns must be a table", "prespecified must")),
        ('tau2 = "best"\nmodel = "none"\n', ("--tau2 best", "--model none")),
        ("min-cell = -3\n", ("--min-cell -3 is less than 0",)),
        ('level = "high"\n', ("level",)),
        ("\udcff", ("UTF-8",)),
    ],
)
def test_a_wrong_plan_is_wrong_use(
    table: Path, tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_bytes(text.encode("utf-8", "surrogateescape"))
    done = run("pool-trials", table, "--out", tmp_path / "out", "--config", plan)
    assert done.exit_code == 2, done.output
    for word in words:
        assert word in " ".join(done.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_a_plan_that_is_not_there(table: Path, tmp_path: Path) -> None:
    done = run("pool-trials", table, "--out", tmp_path / "out", "--config", tmp_path / "none.toml")
    assert done.exit_code == 2
    assert "none.toml" in done.stderr


# ------------------------------------------------------------------ names of commands


@pytest.mark.parametrize(("old", "new"), _RENAMED.items())
def test_an_old_name_runs_the_command_and_says_the_new_one(old: str, new: str) -> None:
    done = run(old, "--help")
    assert done.exit_code == 0
    assert f"`cardiometa {old}` is now `cardiometa {new}`" in done.stderr
    assert (
        done.stdout.split("\n", 3)[-1].split("Example")[1]
        == (run(new, "--help").stdout.split("Example")[1])
    )
    assert "is now" not in run(new, "--help").stderr


@pytest.mark.parametrize(
    ("word", "suggestion"),
    [("segmnt", "segment"), ("pool-trial", "pool-trials"), ("merg", "merge"), ("scor", "score")],
)
def test_a_mistyped_command_is_suggested(word: str, suggestion: str) -> None:
    done = run(word)
    assert done.exit_code == 2
    assert "No such command" in done.stderr
    assert suggestion in done.stderr


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (("pool-trials", "--outcom", "x"), "--outcome"),
        (("segment", "--devise", "cpu"), "--device"),
        (("reference-ranges", "--helthy-only"), "--healthy-only"),
    ],
)
def test_a_mistyped_option_is_suggested(words: tuple[str, ...], suggestion: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert "No such option" in done.stderr
    assert suggestion in done.stderr


def test_the_shell_completes_commands_options_and_choices() -> None:
    def complete(words: str) -> str:
        env = {"_ROOT_COMPLETE": "complete_bash", "COMP_WORDS": words}
        env["COMP_CWORD"] = str(len(words.split(" ")) - 1)
        return str(CliRunner().invoke(app, [], prog_name="root", env=env).stdout)

    assert "pool-trials" in complete("root pool")
    assert "--tau2" in complete("root pool-trials --ta")
    assert "reml" in complete("root pool-trials --tau2 re")


# ------------------------------------------------------------------ JSON and exit codes


def test_json_is_alone_on_stdout(table: Path, tmp_path: Path) -> None:
    words = ("pool-trials", table, "--out", tmp_path / "o", "--outcome", "lv_ef_percent", *POOL)
    done = run(*words, "--json", "--quiet")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["command"] == "pool-trials"
    assert document["effects"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("pool-trials",), 2),
        (("pool-trials", "{table}"), 2),
        (("pool-trials", "{table}", "--out", "{out}"), 2),
        (("pool-trials", "{table}", "--out", "{out}", "--outcome", "nothing"), 3),
        (("pool-trials", "{out}.csv", "--out", "{out}", "--outcome", "x"), 2),
        (("pool-trials", "{table}", "{table}", "--out", "{out}", "--outcome", "x"), 2),
        (("reference-ranges", "{table}", "--out", "{out}"), 3),
        (("summarise", "{table}", "--out", "{out}"), 2),
        (("summarise", "{table}", "--out", "{out}", "--outcome", "x", "--effect", "risk-ratio"), 2),
        (("score", "{table}", "{table}", "--out", "{out}.csv"), 3),
        (("adapt", "{table}", "{table}", "--out", "{out}.json"), 3),
        (("compare-limits", "{table}"), 2),
        (("compare-limits", "{table}", "{out}", "--preset", "hhc2024"), 2),
        (("compare-limits", "{table}", "{table}", "--against", "{table}"), 2),
        (("segment", "{table}", "--out", "{out}", "--shard", "3/2"), 2),
        (("segment", "{table}", "--out", "{out}", "--dicom-identity", "keep"), 2),
        (("segment", "{table}", "--out", "{out}", "--root", "ALPHA"), 2),
        (("evaluate", "{folder}", "--out", "{out}"), 2),
        (("evaluate", "{folder}", "--export-for-reading", "{out}"), 2),
        (("evaluate", "{folder}", "--import-reading", "{folder}"), 2),
        (("show", "{folder}"), 3),
        (("show", "{folder}", "--cohort", "{table}"), 2),
        (("merge", "{folder}"), 2),
        (("merge",), 2),
        (("withdraw", "{folder}"), 2),
        (("init",), 2),
        (("init", "{folder}", "--out", "{table}"), 2),
        (("check", "{table}"), 0),
        (("model", "train"), 2),
        (("model", "show", "{table}"), 3),
        (("--nothing",), 2),
    ],
)
def test_wrong_use_and_unusable_input(
    table: Path, tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    out = tmp_path / "out"
    (tmp_path / "folder").mkdir()
    filled = [word.format(table=table, out=out, folder=tmp_path / "folder") for word in words]
    done = run(*filled)
    assert done.exit_code == code, done.output
    assert done.stderr.strip()
    assert "Traceback" not in done.output
    assert not out.exists()


def test_several_missing_options_are_one_message() -> None:
    assert "Missing: TABLE, --out." in run("pool-trials").stderr
    assert "Missing: TABLE, --out, --outcome." in run("summarise").stderr
    assert "Missing: --pairs, --folder, --out." in run("model", "train").stderr
    assert "Missing: OUT, --participant." in run("withdraw").stderr


def test_all_problems_are_shown_up_to_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [Problem(where=f"row {n}", what="it is wrong") for n in range(205)]
    show_error(InputError("The table cannot be used.", problems=problems, hint="Correct it."))
    shown = capsys.readouterr().err.splitlines()
    assert len([line for line in shown if line.startswith("  - row")]) == 200
    assert "and 5 more" in shown[-2]
    assert shown[-1] == "  Correct it."


def test_text_of_a_table_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert escape_control("a\x1b[31mb\u202ec\n") == "a\\x1b[31mb\\u202ec\n"
    with pytest.raises(Exception, match="3"), handle_errors():
        raise InputError("The column 'x\x1b]0;title\x07' is missing.")
    assert "\x1b" not in capsys.readouterr().err


def test_progress_starts_with_the_number_of_items(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("scans") as progress:
        progress.planned(3, 1)
        progress.done("(review)")
        progress.done()
    shown = capsys.readouterr().err
    assert "3 scans, 1 already done" in shown
    assert "scans: 2/2" in shown
    with Progress("headers", quiet=True) as silent:
        silent.step(1, 2)
        silent.step(2, 2)
    assert capsys.readouterr().err == ""
