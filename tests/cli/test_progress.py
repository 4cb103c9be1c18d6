"""Plain lines of progress: counts, and a pace once it means something."""

from __future__ import annotations

import time

import pytest

from cardiometa.cli.output import Progress


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (0.0001, "scans: 1/1\n"),
        (0.99, "scans: 1/1 (ok)\n"),
        (2.0, "scans: 1/1, 2 s elapsed, 0 s left, 30.0 per minute (ok)\n"),
    ],
)
def test_a_pace_is_shown_from_the_first_second(seconds, wanted, monkeypatch, capsys):
    now = iter((100.0, 100.0 + seconds))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with Progress("scans") as progress:
        progress.planned(1)
        progress.done("(ok)" if "(ok)" in wanted else "")
    assert capsys.readouterr().err == wanted


def test_lines_come_every_quarter_of_a_minute_and_never_when_quiet(monkeypatch, capsys):
    times = [0.0, 10.0, 12.0, 26.0, 30.0]
    now = iter(times)
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with Progress("scans") as progress:
        progress.planned(4)
        for _ in range(4):
            progress.done()
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "scans: 1/4",
        "scans: 3/4",
        "scans: 4/4",
    ]
    now = iter(times)
    with Progress("scans", quiet=True) as progress:
        progress.planned(4)
        for _ in range(4):
            progress.done()
    assert capsys.readouterr().err == ""
