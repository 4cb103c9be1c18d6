"""The page of evaluate: every printed number against the CSV files, and its figures."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from cardiometa.evaluation.overlap import CONTOURED
from cardiometa.reports.figures.evaluation import group_label, scope_words
from tests.kit.printed import DASH, estimate, printed
from tests.kit.report_page import assert_self_contained, find_table, read_tables, section_titles

SVG = "{http://www.w3.org/2000/svg}"
STRUCTURES = {"LV cavity": "lv_cavity", "LV myocardium": "lv_myocardium", "RV cavity": "rv_cavity"}
USED = {"all": "ok+review", "without review": "ok"}
NAMES = {
    "lv_edv_ml": "LV EDV, mL",
    "lv_esv_ml": "LV ESV, mL",
    "lv_sv_ml": "LV SV, mL",
    "lv_ef_percent": "LV EF, %",
    "lv_mass_g": "LV mass, g",
    "rv_edv_ml": "RV EDV, mL",
    "rv_esv_ml": "RV ESV, mL",
    "rv_sv_ml": "RV SV, mL",
    "rv_ef_percent": "RV EF, %",
    "lv_wall_thickness_max_mm": "LV maximal wall thickness, mm",
    "lv_gcs_percent": "LV GCS (contour-based), %",
}


def of(row: dict[str, str], name: str, decimals: int) -> str:
    """A value with its interval where there is one."""
    low = row[f"{name}_low"]
    if low == "":
        return printed(row[name], decimals)
    return estimate(row, decimals, (name, f"{name}_low", f"{name}_high"))


def overall(run, name: str) -> list[dict[str, str]]:
    return run.rows(name, group_by="all")


def test_the_page_is_complete_and_stands_alone(evaluated):
    page = assert_self_contained(evaluated.html)
    assert section_titles(evaluated.html) == [
        "Result",
        "Overlap",
        "Agreement of measures",
        "Groups and equivalence",
        "Errors of single scans",
        "Graded ejection fraction",
        "Scans",
        "Methods",
        "References",
    ]
    assert "Model against manual labels · 22 participants · 33 scans compared" in page.text
    assert "Internal:" not in page.text
    drawn = len(list((evaluated.out / "figures").iterdir()))
    assert len(page.all("svg")) == drawn == 11


def test_overlap_of_each_structure_and_phase(evaluated):
    table = find_table(evaluated.html, "Overlap with the reader's labels")
    rows = overall(evaluated, "overlap_summary.csv")
    keys = {(r["structure"], r["phase"], r["scans_used"]) for r in rows}
    assert len(table.rows) == len(keys)
    for line in table.where():
        group = {"structure": STRUCTURES[line["Structure"]], "phase": line["Phase"],
                 "scans_used": USED[line["Scans"]], "group_by": "all"}  # fmt: skip
        dice, hd95, assd = (
            evaluated.row("overlap_summary.csv", metric=metric, **group)
            for metric in ("dice", "hd95_mm", "assd_mm")
        )
        mean = ("mean", "ci_low", "ci_high")
        assert line["Participants"] == dice["n_people"]
        assert line["Dice"] == estimate(dice, 3, mean)
        assert (line["SD"], line["Median"]) == (printed(dice["sd"], 3), printed(dice["median"], 3))
        assert line["Hausdorff 95, mm"] == estimate(hd95, 1, mean)
        assert line["Mean surface distance, mm"] == estimate(assd, 2, mean)


def test_all_scans_come_before_those_without_review(evaluated):
    table = find_table(evaluated.html, "Overlap with the reader's labels")
    used = table.column("Scans")
    assert used[0::2] == ["all"] * (len(used) // 2)
    assert table.column("Structure") == sorted(
        table.column("Structure"), key=list(STRUCTURES).index
    )


def test_bias_and_limits_of_agreement(evaluated):
    table = find_table(evaluated.html, "Bias and limits of agreement")
    rows = overall(evaluated, "agreement.csv")
    assert len(table.rows) == len(rows)
    for line, row in zip(table.where(), rows, strict=True):
        assert line["Measure"] == NAMES[row["measure"]]
        assert USED[line["Scans"]] == row["scans_used"]
        assert line["Participants"] == row["n_people"]
        assert line["Mean"] == printed(row["mean_reference"], 1)
        assert line["Bias"] == of(row, "bias", 1)
        assert line["SD"] == printed(row["sd"], 1)
        assert line["Lower limit"] == of(row, "loa_lower", 1)
        assert line["Upper limit"] == of(row, "loa_upper", 1)
        assert line["Slope"] == of(row, "slope", 3)


def test_size_of_the_error_and_reliability(evaluated):
    table = find_table(evaluated.html, "Size of the error, and reliability")
    for line, row in zip(table.where(), overall(evaluated, "agreement.csv"), strict=True):
        assert line["Mean absolute error"] == of(row, "mae", 1)
        assert line["RMSE"] == printed(row["rmse"], 1)
        assert line["CoV, %"] == printed(row["cov_percent"], 1)
        assert line["ICC(2,1)"] == of(row, "icc", 3)
        assert line["Lin's concordance"] == of(row, "ccc", 3)


def test_differences_between_groups_and_their_margin(evaluated):
    table = find_table(evaluated.html, "Difference in bias between a group and the rest")
    every = evaluated.rows("equivalence.csv", kind="difference from the rest")
    rows = [row for row in every if row["n_rest"]]
    assert {row["note"] for row in every} - {row["note"] for row in rows} >= {"n<10"}
    assert len(table.rows) == len(rows)
    for line, row in zip(table.where(), rows, strict=True):
        decimals = 3 if row["measure"].startswith("dice_") else 1
        assert line["Group"] == group_label(row["group_by"], row["group"])
        assert line["Difference"] == estimate(row, decimals)
        margin = f"± {printed(row['margin'], decimals)}" if row["margin"] else DASH
        assert line["Margin"] == margin
        assert line["Result"] == (row["result"] or row["note"])


def test_the_tests_of_equivalence_are_counted(evaluated):
    results = [row["result"] for row in evaluated.rows("equivalence.csv") if row["result"]]
    counts = ", ".join(
        f"{results.count(r)} {words}"
        for r, words in (("equivalent", "equivalent"), ("not shown", "not shown"),
                         ("different beyond margin", "different beyond the margin"))
    )  # fmt: skip
    assert f"{len(results)} tests of equivalence were made: {counts}." in evaluated.html


def test_grades_and_their_cross_tables(evaluated):
    table = find_table(evaluated.html, "Agreement of graded ejection fraction")
    for line, row in zip(table.where(), overall(evaluated, "grades.csv"), strict=True):
        assert line["Same grade, %"] == printed(row["percent_agreement"], 1)
        assert line["Kappa"] == of(row, "kappa", 2)
        assert line["Weighted kappa, linear"] == of(row, "kappa_linear", 2)
        assert line["Weighted kappa, quadratic"] == of(row, "kappa_quadratic", 2)
    crossed = [t for t in read_tables(evaluated.html) if "scans by the model's grade" in t.title]
    assert len(crossed) == 2
    for table in crossed:
        assert [row[0] for row in table.rows] == table.columns[1:]
        cells = [cell for row in table.rows for cell in row[1:]]
        assert all(cell in (DASH, "0") or int(cell) >= 10 for cell in cells)
        assert (DASH in cells) == ("withheld" in table.note)


def test_the_flow_of_scans(evaluated):
    table = find_table(evaluated.html, "Flow of scans")
    assert table.rows[0] == ["Scans in the output of segment", "36"]
    assert table.rows[-1] == ["Compared", "33"]
    codes = {row["code"] for row in evaluated.rows("exclusions.csv")}
    assert {row[0] for row in table.rows[1:-1]} == {f"Excluded: {code}" for code in codes}
    assert {row[1] for row in table.rows[1:-1]} == {DASH}  # 3 scans


# ------------------------------------------------------------------ figures


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter(f"{SVG}text")]


def test_the_overlap_figure_names_every_structure_and_phase(evaluated):
    found = texts(evaluated.svg("overlap"))
    for structure in STRUCTURES:
        for phase in ("ED", "ES"):
            assert f"{structure}, {phase}" in found
    assert not any("ED+ES" in text for text in found)
    for title in ("Dice", "Hausdorff 95, mm", "Mean surface distance, mm"):
        assert title in found


def test_the_bland_altman_figure_shows_bins_and_not_scans(evaluated):
    svg = evaluated.svg("bland_altman")
    rows = [row for row in overall(evaluated, "agreement.csv") if row["scans_used"] == "ok+review"]
    further = texts(evaluated.svg("bland_altman_further_1"))
    assert {printed(row["bias"], 1) for row in rows[9:]} <= set(further)
    rows = rows[:9]
    description = ET.fromstring(svg).find(f"{SVG}desc").text
    for row in rows:
        for name in ("bias", "loa_lower", "loa_upper"):
            assert printed(row[name], 1) in texts(svg)
        value = estimate(row, 1, ("bias", "bias_low", "bias_high"))
        name, unit = NAMES[row["measure"]].split(", ")
        assert f"{name} {value} {unit}, limits of agreement" in description
    # 22 participants are two bins of at least ten: their error bars have two caps each.
    caps = [
        g for g in ET.fromstring(svg).iter(f"{SVG}g") if "LineCollection" in (g.get("id") or "")
    ]
    assert len(caps) == 2 * len(rows)


def test_the_first_sentences_are_the_numbers_of_the_tables(evaluated):
    page = assert_self_contained(evaluated.html)
    for measure, unit in (("lv_ef_percent", "points"), ("lv_edv_ml", "mL"), ("lv_mass_g", "g")):
        row = evaluated.row("agreement.csv", measure=measure, group_by="all",
                            scans_used="ok+review")  # fmt: skip
        value = estimate(row, 1, ("bias", "bias_low", "bias_high"))
        limits = f"{printed(row['loa_lower'], 1)} to {printed(row['loa_upper'], 1)}"
        assert f"{NAMES[measure].split(',')[0]} {value} {unit}, {limits}" in page.text
    dice = evaluated.row("overlap_summary.csv", metric="dice", structure="rv_cavity",
                         phase="ED+ES", group_by="all", scans_used="ok+review")  # fmt: skip
    assert f"{printed(dice['mean'], 3)} of the RV cavity." in page.text
    large = evaluated.row("large_errors.csv", measure="lv_ef_percent", group_by="all")
    assert f"in {large['n_events']} of {large['n_scans']} scans" in page.text


@pytest.mark.parametrize("measure", ["lv_edv_ml", "rv_ef_percent"])
def test_the_groups_figure_has_a_line_for_each_group(evaluated, measure):
    found = texts(evaluated.svg(f"groups_{measure}"))
    rows = [
        row
        for row in evaluated.rows("equivalence.csv", measure=measure, kind="bias")
        if row["estimate"]
    ]
    assert len(rows) > 2
    for row in rows:
        assert group_label(row["group_by"], row["group"]) in found
        if row["ci_low"]:
            assert f"{estimate(row, 1)}, n = {row['n_people']}" in found


def test_labels_of_groups_do_not_touch(evaluated):
    svg = ET.fromstring(evaluated.svg("groups_lv_edv_ml"))
    places = []
    for node in svg.iter(f"{SVG}text"):
        if re.search(r"n = \d+", "".join(node.itertext())):
            numbers = re.search(r"translate\(([\d.]+) ([\d.]+)\)", node.get("transform") or "")
            places.append(float(numbers.group(2)) if numbers else float(node.get("y")))
    assert len(places) > 2
    gaps = [abs(a - b) for a, b in zip(sorted(places), sorted(places)[1:], strict=False)]
    assert min(gaps) > 8


def test_labels_of_groups_and_scopes():
    assert group_label("all", "all") == "All"
    assert group_label("sex", "female") == "Women"
    assert group_label("ethnicity", "south-asian") == "South Asian"
    assert group_label("age_band", "40-59") == "40–59 years"
    assert group_label("vendor", "SIEMENS") == "SIEMENS"
    assert scope_words("whole-stack") == ""
    assert scope_words(CONTOURED) == ", contoured slices"
