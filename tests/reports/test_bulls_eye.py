"""The bull's eye: 16 segments where a reader looks for them, and the mean of each trial."""

import re

import pandas as pd

from cardiometa.pipeline.merge import segments_table
from cardiometa.records import ScanKey, ScanResult
from cardiometa.reports.figures.bulls_eye import bulls_eye_figure, bulls_eye_svg
from cardiometa.reports.pages.segment import hypertrophy


def result(participant: str, thickness: float, status: str = "ok") -> ScanResult:
    values = [thickness + segment / 10 for segment in range(16)]
    segments = {
        "thickness_ed_mm": values,
        "thickening_percent": [40.0] * 15 + [None],
        "radial_motion_mm": [8.0] * 16,
    }
    key = ScanKey(trial="A<B", participant=participant, visit="baseline")
    return ScanResult(
        key=key, status=status, measures={}, facts={}, flags=(),
        document={"details": {"segments": segments}},
    )  # fmt: skip


def places(svg: str) -> dict[str, tuple[float, float]]:
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)<', svg)
    return {text: (float(x), float(y)) for x, y, text in found}


def test_segments_are_where_cerqueira_has_them():
    at = places(bulls_eye_svg(range(1, 17), (0, 20), "a & b"))
    assert len(at) == 16
    # Anterior above, septum left, inferior below, lateral right; apical ones nearest the middle.
    for above, below in (("1", "7"), ("7", "13"), ("13", "15"), ("15", "10"), ("10", "4")):
        assert at[above][1] < at[below][1]
    for left, right in (("2", "14"), ("3", "14"), ("14", "16"), ("16", "11"), ("11", "5")):
        assert at[left][0] < at[right][0]
    assert at["2"][1] < at["3"][1]
    assert at["6"][1] < at["5"][1]


def test_an_unknown_value_is_a_dash():
    svg = bulls_eye_svg([None, float("nan"), *range(14)], (0, 20), "")
    assert svg.count("–") == 2
    assert svg.count("rgb(255,255,255)") == 3  # the 0 too


def test_means_are_of_the_scans_that_did_not_fail():
    table = segments_table([result("p2", 12.0), result("p1", 8.0), result("p3", 90.0, "failed")])
    assert table["participant_id"].tolist() == ["p1"] * 16 + ["p2"] * 16
    assert table["segment_name"][[0, 15]].tolist() == ["basal anterior", "apical lateral"]
    drawn = bulls_eye_figure(table, "caption")
    assert drawn is not None
    assert "A&lt;B" in drawn.svg
    assert ">10<" in drawn.svg
    assert ", 2 scans<" in drawn.svg
    assert bulls_eye_figure(segments_table([]), "") is None


def test_walls_of_15_mm_are_listed():
    rows = pd.DataFrame(
        {
            "trial": "A",
            "participant_id": ["p1", "p2", "p3"],
            "visit": "baseline",
            "lv_wall_thickness_max_mm": [14.9, 15.0, 22.04],
        }
    )
    text = hypertrophy(rows)
    assert "in 2 scans: A/p3/baseline (22.0 mm), A/p2/baseline (15.0 mm)" in text
    assert hypertrophy(rows[:1]) == ""
