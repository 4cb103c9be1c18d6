"""A few mutated files for every reader; `python -m tests.fuzz.run` makes them by the thousand."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cardiometa.errors import InputError
from tests.fuzz.run import Report, campaign, shares, targets
from tests.fuzz.target import Target, case, outcome

CASES, SLOW_CASES, SECONDS = 120, 24, 0.8  # of each target: the first of seed 1


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_mutated_files_are_taken_or_refused_with_a_reason(target: Target, tmp_path: Path) -> None:
    seeds = target.seeds()
    assert {outcome(target, data, tmp_path) for data in seeds} == (
        {"taken"} if target.sound else {"refused"}
    )
    end = time.monotonic() + SECONDS
    for number in range(SLOW_CASES if target.slow else CASES):
        data = case(target, seeds, 1, number)
        assert outcome(target, data, tmp_path) in ("taken", "refused")
        if time.monotonic() > end:
            break


def test_cases_are_the_same_on_every_machine() -> None:
    """So that a finding can be made again from its seed and number alone."""
    target = next(t for t in targets() if t.name == "csv")
    seeds = target.seeds()
    assert case(target, seeds, 1, 7) == case(target, seeds, 1, 7)
    assert len({case(target, seeds, 1, number) for number in range(50)}) > 45


def _reader(error: Exception) -> Target:
    def read(_data: bytes, _folder: Path) -> None:
        raise error

    return Target(name="x", seeds=lambda: [b"abc"], mutate=lambda _r, d: d, read=read)


def test_a_fault_is_seen(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        outcome(_reader(KeyError("x")), b"", tmp_path)
    with pytest.raises(AssertionError, match="without a reason"):
        outcome(_reader(InputError(" ")), b"", tmp_path)
    assert outcome(_reader(InputError("It is damaged.")), b"", tmp_path) == "refused"


def test_a_campaign_counts_every_case() -> None:
    report = campaign("key", seed=3, first=0, cases=40, seconds=60)
    assert isinstance(report, Report)
    assert report.cases == 40 == report.taken + report.refused
    assert report.findings == []


def test_slow_readers_get_fewer_cases() -> None:
    given = shares(list(targets()), 1000)
    assert given["csv"] > 3 * given["dicom-folder"]
    assert sum(given.values()) >= 1000
