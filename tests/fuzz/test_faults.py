"""A few broken and killed runs; `python -m tests.fuzz.faults` breaks every call of all commands."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def faults(*words: str) -> tuple[dict, str]:
    """What the script found, in a process of its own: it forks, which a test runner should not."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.faults", "--json", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stdout + done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="finds a run's processes in /proc")
def test_broken_calls_and_kills_lose_nothing() -> None:
    words = ("--command", "pool-trials", "--what", "call,moment", "--every", "29", "--moments", "2")
    found, text = faults(*words, "--seconds", "60")
    assert found["breaks"] >= 2, text
    assert found["findings"] == 0, text
