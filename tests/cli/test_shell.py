"""The shell around the commands: help, exit codes, plans, faults without tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from cardiometa.cli.command import Run, command, handle_errors
from cardiometa.cli.main import app
from cardiometa.errors import EstimationError, InputError, Problem, UsageError
from cardiometa.options import Option, Options

COMMANDS = (
    "segment",
    "reference-ranges",
    "pool-trials",
    "demo",
    "init",
    "check",
    "model",
    "doctor",
)


def test_every_command_of_the_help_page_has_help() -> None:
    runner = CliRunner()
    page = runner.invoke(app, ["--help"])
    assert page.exit_code == 0
    for name in COMMANDS:
        assert name in page.output
        own = runner.invoke(app, [name, "--help"])
        assert own.exit_code == 0, own.output
        assert "Usage" in own.output


def test_an_unknown_option_or_command_is_wrong_use() -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["segment", "x", "--no-such-option"]).exit_code == 2
    assert runner.invoke(app, ["no-such-command"]).exit_code == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("wrong"), 2),
        (InputError("bad", problems=[Problem(where="row 3", what="x is y")]), 3),
        (EstimationError("cannot"), 5),
        (KeyboardInterrupt(), 130),
        (RuntimeError("a name that must not be shown"), 1),
    ],
)
def test_errors_become_exit_codes_and_sentences(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as exit_, handle_errors():
        raise error
    assert exit_.value.exit_code == code
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert "must not be shown" not in shown
    if code == 3:
        assert "row 3: x is y" in shown
    if code == 1:
        log = Path(shown.split("Log: ")[1].strip())
        assert "must not be shown" not in log.read_text()
        assert "RuntimeError" in log.read_text()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions(Options):
    level: Annotated[int, Option(help="Level.")] = 95
    by: Annotated[tuple[str, ...], Option(help="Modifiers.")] = ("sex",)


def plan_app() -> typer.Typer:
    small = typer.Typer()

    @small.command()
    @command
    def go(options: PlanOptions, run: Run) -> None:
        document = {
            "level": options.level,
            "by": ",".join(options.by),
            "sha": None if run.sha256 is None else run.sha256[:4],
            "columns": dict(run.columns),
            "departures": list(run.departures),
        }
        typer.echo(json.dumps(document))

    return small


def test_flags_win_over_the_plan_and_departures_are_listed(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('level = 90\nby = ["sex", "age"]\n[columns]\nsex = "GENDER"\n')
    small, runner = plan_app(), CliRunner()
    kept = json.loads(runner.invoke(small, ["--config", str(plan)]).output)
    assert (kept["level"], kept["by"], kept["departures"]) == (90, "sex,age", [])
    assert kept["columns"] == {"sex": "GENDER"}
    left = json.loads(runner.invoke(small, ["--config", str(plan), "--level", "99"]).output)
    assert left["level"] == 99
    assert left["departures"] == ["level: planned 90, used 99"]
    plan.write_text("levle = 90\n")
    wrong = runner.invoke(small, ["--config", str(plan)])
    assert wrong.exit_code == 2
    assert "levle" in wrong.output
    plan.write_text("level = = 90\n")
    assert runner.invoke(small, ["--config", str(plan)]).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["segmnt"], "cardiometa: No such command 'segmnt'"),
        (["pool-trials", "--tau3", "dl"], "cardiometa: No such option: --tau3"),
        (["show", "absent"], "cardiometa: Invalid value for 'OUT'"),
        (["segment"], "cardiometa: Missing: COHORT, --out."),
    ],
)
def test_every_error_of_use_is_printed_in_one_style(arguments: list[str], wanted: str) -> None:
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 2
    assert found.stderr.startswith(wanted)
    assert " --help.\n" in found.stderr
    assert "╭" not in found.stderr


def test_without_colour_where_no_color_is_set() -> None:
    code = (
        "import sys; sys.stderr.isatty = sys.stdout.isatty = lambda: True\n"
        "from cardiometa.cli.main import app\n"
        "app(['show', '--help'])"
    )
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    for extra, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**environment, **extra},
        )
        assert ("\x1b[36m" in done.stdout or "\x1b[1;36m" in done.stdout) is coloured


def test_doctor_and_model_say_what_is_here() -> None:
    runner = CliRunner()
    found = runner.invoke(app, ["doctor", "--json"])
    assert found.exit_code == 0
    names = [item["what"] for item in json.loads(found.stdout)]
    assert {"torch", "device", "bundled model"} <= set(names)
    card = runner.invoke(app, ["model", "show"])
    assert "CC BY-NC-SA 4.0" in card.output
    assert runner.invoke(app, ["model", "verify"]).exit_code == 0


def test_without_torch_a_command_that_needs_it_says_so_before_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    runner, out = CliRunner(), tmp_path / "out"
    (tmp_path / "cohort").mkdir()
    for arguments in (
        ["segment", str(tmp_path / "cohort"), "--out", str(out)],
        ["demo", "--out", str(out)],
        ["model", "verify"],
        ["model", "train", "--pairs", str(tmp_path), "--folder", str(out), "--out", str(out)],
    ):
        found = runner.invoke(app, arguments)
        assert found.exit_code == 2, arguments
        assert "cardiometa: torch is not installed" in found.output
        assert "pip install torch" in found.output
        assert not out.exists()
    findings = json.loads(runner.invoke(app, ["doctor", "--json"]).stdout)
    (torch,) = (one for one in findings if one["what"] == "torch")
    assert torch["found"] == "not installed"
    assert "`segment`" in torch["advice"]


def test_a_model_file_that_is_none_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"not a model")
    shown = CliRunner().invoke(app, ["model", "verify", str(bad)])
    assert shown.exit_code == 3


def test_python_dash_m_is_the_script() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cardiometa", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("cardiometa ")
