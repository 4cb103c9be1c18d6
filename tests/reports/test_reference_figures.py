"""The figures of reference-ranges: what is drawn of each group, and what leaves a gap."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from cardiometa.reports.figures.reference import ETHNICITY_NAMES, SEX_NAMES, band_name

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
    clipped = re.findall(r'<g clip-path="[^"]+">\s*(<use [^>]*>)', svg)
    marks = [mark for mark in clipped if "#eef0f2" not in mark]  # without the grey fields
    assert len(marks) == len(drawn)
    ends = {(r["sex"], r["age_low"]) for r in drawn if r["ethnicity"] == "all"}
    assert len(clipped) - len(marks) == len(ends)


def test_the_axis_contains_every_limit_and_interval(ranges):
    svg = ranges.svg("limits_lv_edv_ml")
    ticks = [float(t) for t in texts(svg) if re.fullmatch(r"\d+", t)]
    rows = ranges.rows("reference_ranges.csv", measure="lv_edv_ml")
    ends = [float(row[k]) for row in rows for k in ("ci_low", "ci_high") if row[k]]
    first, second = sorted(ticks)[:2]
    step = second - first
    assert min(ends) > min(ticks) - step
    assert max(ends) < max(ticks) + step


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
