from __future__ import annotations

from pathlib import Path

import pytest

from cardiometa.cohort.segment_output import SegmentOutput
from cardiometa.files import canonical_json


@pytest.mark.parametrize(
    ("trials", "wanted"),
    [
        ({"A": {"healthy_rule": "no CVD"}, "B": {"healthy_rule": "no CVD"}}, "no CVD"),
        ({"B": {"healthy_rule": "y"}, "A": {"healthy_rule": "x"}}, "A: x; B: y"),
        ({"A": {"healthy_rule": None}}, ""),
        ([], ""),
    ],
)
def test_the_trials_own_rules_are_taken_from_the_output(
    tmp_path: Path, trials: object, wanted: str
) -> None:
    (tmp_path / "measurements.json").write_text(canonical_json({"trials": trials}))
    assert SegmentOutput.of([tmp_path]).healthy_rule == wanted
    assert SegmentOutput.of([tmp_path / "measurements.csv"]).healthy_rule == wanted
    assert SegmentOutput.of([tmp_path / "elsewhere" / "own.csv"]).healthy_rule == ""
    own = tmp_path / "own.csv"
    own.write_text("trial\n")
    assert SegmentOutput.of([own]).healthy_rule == ""
