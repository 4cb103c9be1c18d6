"""The figures of reference-ranges: what is drawn of each group, and what leaves a gap."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from cardiometa.reference.curves.curve import CurveLimits
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.results import CurveLine
from cardiometa.reports.figures.reference import (
    ETHNICITY_NAMES,
    band_name,
    has_gap,
    limits_figure,
)
from cardiometa.reports.page import words

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter(f"{SVG}text")]


def scale(svg: str, axis: str) -> Callable[[np.ndarray], np.ndarray]:
    """From places in the figure to values, by the outer labelled ticks of ``x`` or ``y``."""
    ticks = {}
    for node in ET.fromstring(svg).iter(f"{SVG}g"):
        label = "".join(node.itertext()).strip()
        if re.fullmatch(rf"{axis}tick_\d+", node.get("id", "")) and label:
            (use,) = node.iter(f"{SVG}use")
            ticks.setdefault(float(label), float(use.get(axis)))
    low, high = min(ticks), max(ticks)
    slope = (high - low) / (ticks[high] - ticks[low])
    return lambda places: low + (np.asarray(places) - ticks[low]) * slope


def test_each_ethnicity_with_a_limit_has_a_panel_with_both_sexes(ranges):
    found = texts(ranges.svg("limits_lv_edv_ml"))
    rows = ranges.rows("reference_ranges.csv", measure="lv_edv_ml")
    known = {row["ethnicity"] for row in rows if row["limit"]}
    for ethnicity, name in ETHNICITY_NAMES.items():
        assert found.count(name) == (ethnicity in known)
    for name in ("Men", "Women", "All ethnicities", "Age, years"):
        assert found.count(name) == 1


def test_every_limit_is_a_mark_and_a_suppressed_one_leaves_a_gap(ranges):
    svg = ranges.svg("limits_lv_ef_percent")
    rows = ranges.rows("reference_ranges.csv", measure="lv_ef_percent")
    drawn = [row for row in rows if row["limit"] and float(row["centile"]) != 50]
    suppressed = [row for row in rows if not row["limit"]]
    assert drawn
    assert suppressed
    # Marks are in groups with a clip path; those of the legend and of ticks have none.
    groups = re.findall(r'<g clip-path="[^"]+">(.*?)</g>', svg, flags=re.DOTALL)
    assert sum(group.count("<use ") for group in groups) == len(drawn)


def test_marks_are_at_the_limits_of_the_file(ranges):
    """Heights of the marks against the ticks of the axis: every limit of a panel within 0.5 %."""
    svg = ranges.svg("limits_lv_edv_ml")
    marks = [
        float(use.get("y"))
        for group in ET.fromstring(svg).iter(f"{SVG}g")
        for use in (group.iter(f"{SVG}use") if group.get("clip-path") else ())
    ]
    rows = ranges.rows("reference_ranges.csv", measure="lv_edv_ml")
    limits = [float(r["limit"]) for r in rows if r["limit"] and float(r["centile"]) != 50]
    assert sorted(scale(svg, "y")(marks)) == pytest.approx(sorted(limits), rel=1e-4)


def test_curves_pass_through_the_limits_of_the_file(curves):
    svg = curves.svg("limits_lv_edv_ml")
    lines = []
    for node in ET.fromstring(svg).iter(f"{SVG}path"):
        points = np.array(re.findall(r"[ML] (\S+) (\S+)", node.get("d", "")), dtype=float)
        if node.get("clip-path") and "fill: none" in node.get("style", ""):
            lines.append((scale(svg, "x")(points[:, 0]), scale(svg, "y")(points[:, 1])))
    rows = curves.rows("reference_ranges.csv", kind="conditional")
    assert len(lines) == 6
    for row in rows:
        found = [np.interp(float(row["age"]), ages, limits) for ages, limits in lines]
        assert min(abs(value - float(row["limit"])) for value in found) < 0.02
    assert len(rows) > 50


def test_the_centile_of_each_line_stands_at_its_end_and_none_touch():
    """Both sexes' curves end within a few mL; labels are in the order of the curves."""
    crowded = [
        line_at(EVERY, levels=(148.0 + up, 150.0 + up, 152.0 + up), sex=sex, ethnicity=ethnicity)
        for ethnicity in ("all", "black")
        for sex, up in (("male", 1.0), ("female", 0.0))
    ]
    crowded.append(line_at(EVERY, levels=(50.0, 150.0, 400.0), ethnicity="white"))
    svg = limits_figure([], crowded).svg
    labels: dict[str, list[tuple[float, str]]] = {}
    for node in ET.fromstring(svg).iter(f"{SVG}text"):
        if "font-size: 7px" in node.get("style", ""):
            labels.setdefault(node.get("x"), []).append((float(node.get("y")), node.text or ""))
    assert [len(found) for found in labels.values()] == [6, 3, 6]
    for found in labels.values():
        heights, names = zip(*sorted(found, reverse=True), strict=True)
        assert min(-np.diff(heights)) > 7
        assert list(names) == sorted(names, key=float)


def test_the_axis_contains_every_limit_and_interval(ranges):
    svg = ranges.svg("limits_lv_edv_ml")
    panel = next(node for node in ET.fromstring(svg).iter(f"{SVG}clipPath"))[0]
    top = float(panel.get("y"))
    highest, lowest = scale(svg, "y")([top, top + float(panel.get("height"))])
    rows = ranges.rows("reference_ranges.csv", measure="lv_edv_ml")
    ends = [float(row[k]) for row in rows for k in ("ci_low", "ci_high") if row[k]]
    assert lowest < min(ends) < max(ends) < highest


def test_labels_lie_inside_the_figure_and_beside_the_numbers(ranges):
    root = ET.fromstring(ranges.svg("limits_lv_edv_ml"))
    width, height = (float(size) for size in root.get("viewBox").split()[2:])
    places = {}
    for node in root.iter(f"{SVG}text"):
        turned = re.search(r"rotate\(-?\d+ (\S+) (\S+)\)", node.get("transform", ""))
        x, y = turned.groups() if turned else (node.get("x"), node.get("y"))
        places["".join(node.itertext())] = (float(x), float(y))
    assert all(0 < x < width and 0 < y < height for x, y in places.values())
    # The y axis: its name left of its numbers; the x axis: its name below the ages.
    assert 0 < places["LV EDV, mL"][0] < min(x for x, _ in places.values() if x > 20) - 10
    assert places["60"][1] + 8 < places["Age, years"][1]


def test_curves_have_no_participant_on_a_page_for_release(curves):
    svg = curves.svg("limits_lv_edv_ml")
    assert "<image" not in svg  # dots are rasterised on internal pages
    assert curves.html.count("Dots: participants") == 0
    assert texts(svg).count("Age, years") == 1


def test_titles_and_descriptions_name_the_measure(ranges, curves):
    for run in (ranges, curves):
        root = ET.fromstring(run.svg("limits_lv_edv_ml"))
        assert root.find(f"{SVG}title").text == "Limits of LV EDV by age"
        assert root.find(f"{SVG}desc").text.startswith("LV EDV, mL: lower and upper limit")


def test_bands_that_do_not_end_at_whole_years_are_shown_as_they_are():
    assert band_name(17.5, 30.0) == "17.5 to <30"
    assert band_name(None, None) == "All ages"


# ------------------------------------------------------------------ ages where no one was seen


def line_at(
    ages: np.ndarray,
    empty: np.ndarray | None = None,
    levels: tuple[float, ...] = (100.0, 150.0, 200.0),
    **changes: str,
) -> CurveLine:
    """A curve that is not straight; NaN at the ``empty`` ages."""
    limit = np.stack([level + 10 * np.sin(ages / 3) for level in levels], axis=1)
    if empty is not None:
        limit[empty] = np.nan
    none = np.zeros(len(ages), dtype=bool)
    limits = CurveLimits(limit=limit, low=limit - 5, high=limit + 5, repaired=none)
    facts = {"sex": "male", "ethnicity": "all", "kind": "population", **changes}
    return CurveLine(
        measure="lv_edv_ml",
        unit="mL",
        method="lms",
        thin=False,
        ages=ages,
        centiles=(2.5, 50.0, 97.5),
        limits=limits,
        **facts,
    )


def parts(line: CurveLine) -> tuple[set[int], int]:
    """In how many parts the lines of a figure are drawn, and how many fields there are."""
    paths = re.findall(r'<path (?:id="[^"]*" )?d="([^"]*)"', limits_figure([], [line]).svg)
    long = [path for path in paths if path.count("L") > 20]
    return {p.count("M") for p in long if "z" not in p}, sum("z" in p for p in long)


EVERY = np.arange(20.0, 80.5, 0.5)
SEEN = (EVERY <= 40) | (EVERY >= 65)


@pytest.mark.parametrize(
    ("line", "gap", "lines", "fields"),
    [
        (line_at(EVERY), False, {1}, 2),
        (line_at(EVERY[SEEN]), True, {2}, 4),  # the ages of the gap are not in the curve
        (line_at(EVERY, ~SEEN), True, {2}, 4),  # or their limits are empty
        (line_at(EVERY[::2]), False, {1}, 2),  # a coarser grid is not a gap
    ],
)
def test_a_curve_breaks_where_no_one_was_observed(line, gap, lines, fields):
    assert has_gap(line) is gap
    assert parts(line) == (lines, fields)


def test_the_caption_says_that_the_curve_breaks():
    facts = {"options": ReferenceOptions(), "curves": "LMS curves", "kinds": set(), "thin": False}
    facts |= {"missing": False, "measure": "LV EDV, mL", "bands": True, "several": True}
    facts["result"] = SimpleNamespace(by=("sex", "age"))
    whole, broken = (words("reference", "limits_figure", gap=g, **facts) for g in (False, True))
    assert whole.startswith("Limits of LV EDV, mL, by age\n\nA panel for each ethnicity")
    assert "upper limit, LMS curves, with their centiles at the right; fields" in whole
    assert "break across" not in whole
    assert "and break across 5 years or more with hardly any participant. Marks: limits" in broken
