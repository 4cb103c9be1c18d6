"""The figures of reference-ranges: what is drawn of each group, and what leaves a gap."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest

from cardiometa.reference.curves.curve import CurveLimits
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.results import CurveLine
from cardiometa.reports.figures.reference import (
    ETHNICITY_NAMES,
    SEX_NAMES,
    band_name,
    curve_figure,
    has_gap,
)
from cardiometa.reports.page import words

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter(f"{SVG}text")]


def test_each_sex_has_a_panel_with_all_age_bands(ranges):
    found = texts(ranges.svg("limits_lv_edv_ml"))
    rows = ranges.rows("reference_ranges.csv", measure="lv_edv_ml")
    for sex in {row["sex"] for row in rows}:
        assert found.count(SEX_NAMES[sex]) == 1
    for low, high in {(row["age_low"], row["age_high"]) for row in rows}:
        name = band_name(float(low), float(high) if high else None)
        assert found.count(name) == 2


def test_the_legend_names_the_ethnicities_with_a_limit(ranges):
    found = texts(ranges.svg("limits_lv_edv_ml"))
    rows = ranges.rows("reference_ranges.csv", measure="lv_edv_ml")
    known = {row["ethnicity"] for row in rows if row["limit"]}
    for ethnicity, name in ETHNICITY_NAMES.items():
        assert found.count(name) == (ethnicity in known)


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
    fields = re.findall(r"clip-path[^>]*#eef0f2", svg)
    assert len(fields) == len({(r["sex"], r["age_low"]) for r in drawn if r["ethnicity"] == "all"})


def test_the_axis_contains_every_limit_and_interval(ranges):
    svg = ranges.svg("limits_lv_edv_ml")
    ticks = [float(t) for t in texts(svg) if re.fullmatch(r"\d+", t)]
    rows = ranges.rows("reference_ranges.csv", measure="lv_edv_ml")
    ends = [float(row[k]) for row in rows for k in ("ci_low", "ci_high") if row[k]]
    first, second = sorted(ticks)[:2]
    step = second - first
    assert min(ends) > min(ticks) - step
    assert max(ends) < max(ticks) + step


def test_labels_lie_inside_the_figure_and_beside_the_numbers(ranges):
    root = ET.fromstring(ranges.svg("limits_lv_edv_ml"))
    width, height = (float(size) for size in root.get("viewBox").split()[2:])
    places = {}
    for node in root.iter(f"{SVG}text"):
        turned = re.search(r"rotate\(-?\d+ (\S+) (\S+)\)", node.get("transform", ""))
        x, y = turned.groups() if turned else (node.get("x"), node.get("y"))
        places["".join(node.itertext())] = (float(x), float(y))
    assert all(0 < x < width and 0 < y < height for x, y in places.values())
    # The y axis: its name left of its numbers; the x axis: its name below the bands.
    numbers = [x for text, (x, _) in places.items() if re.fullmatch(r"\d+", text)]
    assert 0 < places["LV EDV, mL"][0] < min(numbers) - 10
    bands = [y for text, (_, y) in places.items() if "–" in text]
    assert max(bands) + 8 < places["Age, years"][1] < places["All"][1] - 8


def test_curves_have_no_participant_on_a_page_for_release(curves):
    svg = curves.svg("curves_lv_edv_ml")
    assert "<image" not in svg  # dots are rasterised on internal pages
    assert curves.html.count("Dots: participants") == 0
    assert texts(svg).count("Age, years") == 2


def test_titles_and_descriptions_name_the_measure(ranges, curves):
    for run, name, title in (
        (ranges, "limits_lv_edv_ml", "Limits of LV EDV by age"),
        (curves, "curves_lv_edv_ml", "Centiles of LV EDV by age"),
    ):
        root = ET.fromstring(run.svg(name))
        assert root.find(f"{SVG}title").text == title
        assert root.find(f"{SVG}desc").text.startswith("LV EDV, mL: lower and upper limit")


def test_bands_that_do_not_end_at_whole_years_are_shown_as_they_are():
    assert band_name(17.5, 30.0) == "17.5 to <30"
    assert band_name(None, None) == "All ages"


# ------------------------------------------------------------------ ages where no one was seen


def line_at(ages: np.ndarray, empty: np.ndarray | None = None) -> CurveLine:
    """A curve that is not straight; NaN at the ``empty`` ages."""
    limit = np.stack([level + 10 * np.sin(ages / 3) for level in (100, 150, 200)], axis=1)
    if empty is not None:
        limit[empty] = np.nan
    none = np.zeros(len(ages), dtype=bool)
    return CurveLine(
        measure="lv_edv_ml",
        unit="mL",
        method="lms",
        sex="male",
        ethnicity="all",
        kind="population",
        thin=False,
        ages=ages,
        centiles=(2.5, 50.0, 97.5),
        limits=CurveLimits(limit=limit, low=limit - 5, high=limit + 5, repaired=none),
    )


def parts(line: CurveLine) -> tuple[set[int], int]:
    """In how many parts the lines of a figure are drawn, and how many fields there are."""
    paths = re.findall(r'<path (?:id="[^"]*" )?d="([^"]*)"', curve_figure([line], ()).svg)
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
    facts = {"options": ReferenceOptions(), "method": "lms", "kinds": set(), "thin": False}
    facts |= {"missing": False, "measure": "LV EDV, mL", "label": "LV EDV, mL, LMS curves"}
    facts["result"] = SimpleNamespace(by=("sex", "age"))
    whole, broken = (words("reference", "limits_figure", gap=g, **facts) for g in (False, True))
    assert whole.startswith("Centiles of LV EDV, mL, LMS curves by age\n\n")
    assert "break across" not in whole
    assert broken.endswith("break across 5 years or more with hardly any participant.")
