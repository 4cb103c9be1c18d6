"""The tutorials: their commands exist with their options, and the statistician's page runs."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cardiometa.cli.main import app

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PAGES = sorted((EXAMPLES / "tutorials").glob("*.md"))


def commands(page: Path) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [words[1:] for line in lines if (words := shlex.split(line, comments=True))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_tutorial_has_its_options(page: Path) -> None:
    group = typer.main.get_command(app)
    found = commands(page)
    assert len(found) >= 4
    for name, *words in found:
        command = group.get_command(None, name)
        assert command is not None, name
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= flags, (page.name, name)


def test_a_tutorial_fits_on_a_page_and_its_links_lead_somewhere() -> None:
    assert {page.stem for page in PAGES} == {"core_lab", "epidemiologist", "statistician"}
    for page in PAGES:
        text = page.read_text()
        assert text.count("\n") <= 90, page.name
        for link in re.findall(r"\]\(([^)]+)\)", text):
            assert (page.parent / link).exists(), (page.name, link)


def test_the_statisticians_page_runs_and_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = EXAMPLES / "tutorials" / "statistician.md"
    shutil.copytree(EXAMPLES / "own_table", tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    monkeypatch.setenv("COLUMNS", "80")
    printed = ""
    for words in commands(page):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.output)
        printed += done.stdout
    (shown,) = re.findall(r"```text\n(.*?)```", page.read_text(), re.DOTALL)
    assert shown in printed
    named = set(re.findall(r"`(\w+\.csv)`", page.read_text())) - {"synthetic_trials.csv"}
    assert named <= {path.name for path in Path("effect").iterdir()}
