"""What is printed: what quiet and verbose leave out, long notices, problems beyond the first."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from cardiometa.cli import output
from cardiometa.cli.segment import _exit_with_status
from cardiometa.errors import InputError, OutputError, Problem, UsageError
from cardiometa.records import InputNotice, SeriousWarning

SERIOUS = SeriousWarning("Only two trials.")
NOTICES = [InputNotice(f"t{number}.csv: read as Windows-1252.") for number in range(6)]


def err(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_serious_warnings_are_printed_whatever_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    found = ["A note.", SERIOUS, *NOTICES]
    output.show_warnings(found, quiet=True)
    assert err(capsys) == ["warning: Only two trials."]
    output.show_warnings(found, quiet=False)
    lines = err(capsys)
    assert lines[:2] == ["warning: Only two trials.", "note: A note."]
    assert len(lines) == 8


def test_without_verbose_a_few_notices_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_warnings(["A note.", *NOTICES], quiet=False, verbose=False)
    lines = err(capsys)
    assert lines[:4] == [f"note: {notice}" for notice in NOTICES[:4]]
    assert lines[4:] == ["… and more with --verbose: 2"]


def test_a_long_notice_is_cut_to_three_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    long = InputNotice("by their names, " + ", ".join(f"c{n} = COLUMN{n}" for n in range(60)))
    output.show_warnings([long], quiet=False, verbose=False)
    lines = err(capsys)
    assert 2 <= len(lines) <= 4
    assert lines[-1].endswith("…")
    assert all(len(line) <= 70 for line in lines)
    assert lines[1].startswith("  ")


@pytest.mark.parametrize(("columns", "width"), [("20", 60), ("85", 85), ("300", 100)])
def test_the_width_of_the_terminal(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert output.terminal_width() == width


def test_a_table_takes_cells_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_table(("trial", "n"), [("[bold]A[/bold]", "12"), ("B\x1b[2J", "3")], title="Trials")
    printed = capsys.readouterr().err
    assert "Trials" in printed
    assert "[bold]A[/bold]" in printed
    assert "\x1b[2J" not in printed
    output.show_table(("trial",), [("A",)], quiet=True)
    assert capsys.readouterr().err == ""


def test_a_table_wider_than_the_terminal_is_not_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, rows = ("what", "found", "advice"), [("decoder " + "x" * 60, "y" * 40, "z" * 50)]
    monkeypatch.setenv("COLUMNS", "80")
    output.show_table(columns, rows)
    lines = err(capsys)
    assert len(lines) == 2
    assert lines[1].split() == ["decoder", "x" * 60, "y" * 40, "z" * 50]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    output.show_table(columns, rows, title="Setup")
    heading = f"what decoder {'x' * 60}"
    assert err(capsys) == ["Setup", heading, f"  found: {'y' * 40}", f"  advice: {'z' * 50}"]
    output.show_table(columns, [("a", "b", "c")])
    assert len(err(capsys)) == 2


def test_durations_are_said_in_the_two_units_that_matter() -> None:
    assert [output.duration(s) for s in (0.4, 59.6, 725, 12_000)] == [
        "0 s",
        "1 min 0 s",
        "12 min 5 s",
        "3 h 20 min",
    ]


def test_problems_beyond_the_first_two_hundred_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    problems = [Problem(where=f"row {n}", what="not a number") for n in range(203)]
    output.show_error(InputError("t.csv cannot be used.", hint="Correct it.", problems=problems))
    lines = err(capsys)
    assert lines[0] == "cardiometa: t.csv cannot be used."
    assert lines[1] == "  - row 0: not a number."
    assert len(lines) == 1 + 200 + 2
    assert lines[-2:] == ["  … and 3 more (--json lists all)", "  Correct it."]
    output.show_error(UsageError("Wrong."))
    assert err(capsys) == ["cardiometa: Wrong."]


def test_a_full_disk_under_stdout_is_an_output_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

        def fileno(self) -> int:
            return spare

    with Path("/dev/null").open("w") as stream:
        spare = stream.fileno()
        monkeypatch.setattr(sys, "stdout", Full())
        with pytest.raises(OutputError, match="cannot be printed: no space left"):
            output.show_text("x")
    monkeypatch.setattr(sys, "stdout", None)
    output.show_text("started without one")


def outcome(**counts: object) -> SimpleNamespace:
    return SimpleNamespace(**{"failed": 0, "review": 0, "failures": (), **counts})


def test_failed_scans_end_with_exit_4_and_their_reasons(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _exit_with_status(outcome(), Path("out"))
    assert err(capsys) == []
    reasons = [f"reason {number}" for number in range(13)]
    with pytest.raises(typer.Exit) as raised:
        _exit_with_status(outcome(failed=13, review=2, failures=reasons), Path("out"))
    assert raised.value.exit_code == 4
    lines = err(capsys)
    assert lines[:2] == ["failed: reason 0", "failed: reason 1"]
    assert lines[10] == "failed: 3 further reasons in exclusions.csv"
    assert lines[11].startswith("13 failed and 2 to review: see the columns status and flags in")
    with pytest.raises(typer.Exit):
        _exit_with_status(outcome(review=1), Path("out"), sharded=True)
    assert err(capsys) == ["0 failed and 1 to review: see the table that `cardiometa merge` makes"]
