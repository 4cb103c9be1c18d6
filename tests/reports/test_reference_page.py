"""The page of reference-ranges: its sections, and every printed number against the CSV files."""

from __future__ import annotations

import csv
import re
from html import unescape

import pytest

from cardiometa.reference.options import ReferenceOptions
from cardiometa.reports.page import words
from tests.kit.printed import DASH, estimate, interval, printed
from tests.kit.reference_tables import people_frame
from tests.kit.report_page import assert_self_contained, find_table, read_page, section_titles
from tests.reports.conftest import run

SEXES = {"male": "Men", "female": "Women", "all": "Men and women"}
ETHNICITIES = {"all": "All", "white": "White", "black": "Black", "south-asian": "South Asian",
               "chinese": "Chinese"}  # fmt: skip
MEASURES = {"lv_edv_ml": "LV EDV", "lv_ef_percent": "LV EF"}


def band(row: dict[str, str]) -> str:
    low, high = row["age_low"], row["age_high"]
    return f"{float(low):g}–{float(high) - 1:g}" if high else f"≥{float(low):g}"


def filled(rows: list[list[str]]) -> list[list[str]]:
    """Rows with the sex repeated where the table leaves it empty."""
    sex, found = "", []
    for first, *rest in rows:
        sex = first or sex
        found.append([sex, *rest])
    return found


def cells(html: str, title: str) -> dict[tuple[str, str, str], list[str]]:
    """The lines of each cell of a table of limits by sex, age and ethnicity."""
    table = find_table(html, title)
    return {
        (sex, age, heading): cell.split("\n")
        for sex, age, *columns in filled(table.rows)
        for heading, cell in zip(table.columns[2:], columns, strict=True)
    }


def test_the_page_is_complete_and_stands_alone(ranges):
    page = assert_self_contained(ranges.html)
    assert section_titles(ranges.html) == [
        "Result",
        "Overview",
        "LV EDV, mL",
        "LV EF, %",
        "Checks of the limits",
        "Participants",
        "Methods",
        "Appendix: further checks",
        "References",
    ]
    for text in ("Central 95% reference interval", "4 trials", "volunteers", "provisional"):
        assert text in page.text
    assert "Internal:" not in page.text


def test_the_page_opens_with_the_limits_of_the_largest_group(ranges):
    """Each measure's limits as in the file; the appendix is folded up and not printed."""
    text = unescape(ranges.html[: ranges.html.index('<nav aria-label="Contents">')])
    rows = [r for r in ranges.rows("reference_ranges.csv", ethnicity="all") if r["limit"]]
    for measure, name in MEASURES.items():
        for sex, who in (("male", "men"), ("female", "women")):
            mine = [r for r in rows if (r["measure"], r["sex"]) == (measure, sex)]
            most = max(mine, key=lambda r: int(r["n"]))
            low, high = (
                f"{float(r['limit']):.0f}"
                for r in mine
                if r["age_low"] == most["age_low"] and r["centile"] != "50.0"
            )
            assert f"{low}–{high} ({who}, {band(most)} years)" in text, name
    assert '<section id="further-checks" class="appendix">' in ranges.html


@pytest.mark.parametrize(("measure", "title"), [("lv_edv_ml", "LV EDV, mL."),
                                                ("lv_ef_percent", "LV EF, %.")])  # fmt: skip
def test_limits_intervals_and_counts_are_those_of_the_file(ranges, measure, title):
    table = cells(ranges.html, title)
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in ranges.rows("reference_ranges.csv", measure=measure):
        key = (SEXES[row["sex"]], band(row), ETHNICITIES[row["ethnicity"]])
        groups.setdefault(key, []).append(row)
    assert set(table) == set(groups)
    known = 0
    for key, rows in groups.items():
        lines = table[key]
        count = rows[0]["n"]
        assert lines[-1] == f"n {count}" if count else re.fullmatch(r"n (<\d+|–)", lines[-1])
        outer = [row for row in rows if row["centile"] not in ("50", "50.0")]
        if any(row["limit"] == "" for row in outer):
            assert lines[0] == DASH
            continue
        known += 1
        assert lines[0].rstrip("†‡") == "–".join(printed(row["limit"], 0) for row in outer)
        for line, row in zip(lines[1:-1], outer, strict=True):
            assert line.rstrip("§") == f"({printed(row['ci_low'], 0)}–{printed(row['ci_high'], 0)})"
            assert line.endswith("§") == ("ci-at-extreme" in row["note"])
        assert ("†" in lines[0]) == (rows[0]["status"] == "small-n")
    assert known > 8


def test_marks_are_explained_where_they_are_used(ranges):
    table = find_table(ranges.html, "LV EDV, mL.")
    text = "".join(cell for row in table.rows for cell in row)
    for mark, words_of_mark in (("†", "fewer than 120 participants"), ("§", "moved outward")):
        assert (mark in text) == (words_of_mark in table.note)
    assert "–: fewer than 40 participants." in table.note
    assert any(cell.startswith(DASH) for row in table.rows for cell in row[2:])


def test_a_dash_is_explained_only_where_there_is_one(tmp_path):
    path = tmp_path / "people.csv"
    people_frame(300).to_csv(path, index=False)
    asked = ("--method", "strata", "--by", "sex", "--bootstrap", 200, "--healthy-rule", "all")
    made = run("reference-ranges", path, "--measure", "lv_edv_ml", *asked, out=tmp_path / "out")
    table = find_table(made.html, "LV EDV, mL.")
    assert not any(cell.startswith(DASH) for row in table.rows for cell in row[2:])
    assert "–:" not in table.note
    assert "–:" not in (made.out / "table.html").read_text()


def test_the_count_of_groups_without_a_limit(ranges):
    rows = ranges.rows("reference_ranges.csv")
    keys = ("measure", "sex", "ethnicity", "age_low")
    groups = {tuple(row[k] for k in keys) for row in rows}
    empty = {tuple(row[k] for k in keys) for row in rows if row["status"] == "suppressed"}
    assert f"{len(empty)} of {len(groups)}: fewer than 40" in read_page(ranges.html).text


def test_shares_outside_the_limits(ranges):
    table = find_table(ranges.html, "Share of participants below / above")
    for line in table.where():
        measure = next(m for m, name in MEASURES.items() if name == line["Measure"])
        sex = {name: sex for sex, name in SEXES.items()}[line["Sex"]]
        group = {"measure": measure, "sex": sex, "ethnicity": "all"}
        fitted = ranges.row("calibration.csv", check="fitted", **group)
        assert line["n"] == fitted["n"]
        thirds = ranges.rows("calibration.csv", check="age-third", **group)
        pairs = [
            f"{printed(row['below_percent'], 1)} / {printed(row['above_percent'], 1)}"
            for row in (fitted, *thirds)
        ]
        assert line["All"] == pairs[0]
        assert line["Youngest · middle · oldest third"] == " · ".join(pairs[1:])
        trial = line["Left-out trial furthest off"].partition(":")[0]
        assert ranges.row("calibration.csv", check="left-out-trial", **group, group=trial)
    assert "Expected: 2.5% on each side." in table.note


def test_the_trial_furthest_off_is_the_furthest(ranges):
    table = find_table(ranges.html, "Share of participants below / above")
    line = table.where(Measure="LV EDV", Sex="Men")[0]
    rows = ranges.rows("calibration.csv", check="left-out-trial", measure="lv_edv_ml", sex="male",
                       ethnicity="all")  # fmt: skip
    known = [row for row in rows if row["below_percent"]]

    def distance(row):
        sides = ("below", "above")
        return max(
            abs(float(row[f"{s}_percent"]) - float(row[f"expected_{s}_percent"])) for s in sides
        )

    worst = max(known, key=distance)
    shares = f"{printed(worst['below_percent'], 1)} / {printed(worst['above_percent'], 1)}"
    assert line["Left-out trial furthest off"] == f"{worst['group']}: {shares}"


def test_the_influence_of_single_trials_is_the_largest_move(ranges):
    table = find_table(ranges.html, "Influence of single trials")
    for line in table.where():
        measure = next(m for m, name in MEASURES.items() if line["Measure"].startswith(name))
        sex = {name: sex for sex, name in SEXES.items()}[line["Sex"]]
        wanted = {"measure": measure, "sex": sex, "ethnicity": "all"}
        lower = line["Limit"] == "lower"
        limits = {
            (row["age_low"], row["centile"]): float(row["limit"])
            for row in ranges.rows("reference_ranges.csv", **wanted)
            if row["limit"]
        }
        moves = [
            (abs(float(row["limit_without"]) - limits[row["age_low"], row["centile"]]), row)
            for row in ranges.rows("by_trial.csv", **wanted)
            if row["limit_without"] and (float(row["centile"]) < 50) == lower
            and (row["age_low"], row["centile"]) in limits
        ]  # fmt: skip
        _, row = max(moves, key=lambda move: move[0])
        assert (line["Without"], line["Age, years"]) == (row["trial"], band(row))
        assert line["Limit then"] == printed(row["limit_without"], 1)


@pytest.mark.parametrize("factor", ["sex", "ethnicity"])
def test_differences_of_means_within_and_between_trials(ranges, factor):
    table = find_table(ranges.html, f"Differences of means by {factor}")
    assert table.rows
    for line in table.where():
        measure = next(m for m, name in MEASURES.items() if line["Measure"].startswith(name))
        first, second = line["Groups"].split(" − ")
        names = {name: code for code, name in (SEXES if factor == "sex" else ETHNICITIES).items()}
        chosen = {"measure": measure, "factor": factor, "group": names[first],
                  "versus": names[second.capitalize() if factor == "sex" else second]}  # fmt: skip
        if "Sex" in line:
            chosen["sex"] = {name: sex for sex, name in SEXES.items()}[line["Sex"]]
        for heading, source in (("Within trials", "within-trial"),
                                ("Between trials", "between-trial"),
                                ("Ignoring trials", "ignoring-trials")):  # fmt: skip
            row = ranges.row("contrasts.csv", source=source, **chosen)
            wanted = estimate(row, 1, ("difference", "ci_low", "ci_high"))
            assert line[heading] == (DASH if "no trial has both" in row["note"] else wanted)


def test_groups_that_need_their_own_limits_are_counted(ranges):
    table = find_table(ranges.html, "Groups that need their own limits")
    for measure, name in MEASURES.items():
        (line,) = table.where(Measure=name)
        tests = [
            row
            for row in ranges.rows("partition.csv", measure=measure, factor="sex")
            if row["harris_boyd"] and "no trial has both" not in row["note"]
        ]
        parted = sum(row["harris_boyd"] == "partition" for row in tests)
        lahti = sum(row["lahti"] == "partition" for row in tests)
        assert line["Men, women"] == f"{parted} · {lahti} of {len(tests)}"


def test_rows_are_reasons_and_analysed(ranges):
    table = find_table(ranges.html, "From the rows of the table")
    for line in table.where():
        assert int(line["Rows"]) == int(line["Not healthy"]) + int(line["Analysed"])
    assert "<10: suppressed; –: suppressed to prevent disclosure by differencing." in table.note


def test_the_limits_without_scans_for_review_are_in_their_file(ranges):
    assert "the limits without them are in reference_ranges_without_review.csv" in ranges.html
    assert ranges.rows("reference_ranges_without_review.csv", measure="lv_ef_percent")


# ------------------------------------------------------------------ curves


def test_curves_are_printed_at_every_tenth_year_with_one_count(curves):
    table = cells(curves.html, "LV EDV, mL, linear, one SD.")
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in curves.rows("reference_ranges.csv"):
        groups.setdefault((SEXES[row["sex"]], f"{float(row['age']):g}"), []).append(row)
    assert {age for _, age, _ in table} <= {f"{age}" for age in range(20, 100, 10)}
    counts: dict[str, int] = {}
    for (sex, age, _), lines in table.items():
        outer = [row for row in groups[sex, age] if float(row["centile"]) != 50]
        assert lines[0] == "–".join(printed(row["limit"], 0) for row in outer)
        counts[sex] = counts.get(sex, 0) + sum(line.startswith("n ") for line in lines)
    assert counts == {"Men": 1, "Women": 1}


def test_the_methods_of_the_curves_are_named(curves):
    text = read_page(curves.html).text
    assert "Linear curves: a mean linear in age and one SD (REML)" in text
    assert "Trials entered as fixed effects" in text
    assert "Nothing is given outside the observed ages." in text
    assert "Limits were estimated separately" not in text


def test_q_statistics_and_worm_plots_of_curves(curves):
    table = find_table(curves.html, "Fit of the curves by age")
    assert table.columns[-4:] == ["Mean", "Variance", "Skewness", "Kurtosis"]
    assert all(
        re.fullmatch(r"<0\.001|[01]\.\d{3}", cell) for row in table.rows for cell in row[-4:]
    )
    assert "Worm plots of LV EDV, linear, one SD, by age third." in read_page(curves.html).text


# ------------------------------------------------------------------ the table of a paper


@pytest.mark.parametrize("name", ["ranges", "curves"])
def test_the_paper_table_has_the_same_limits_as_the_page(name, request):
    run = request.getfixturevalue(name)
    with (run.out / "table.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    plain = read_page((run.out / "table.html").read_text(encoding="utf-8")).text
    title = "LV EDV, mL." if name == "ranges" else "LV EDV, mL, linear, one SD."
    page = cells(run.html, title)
    compared = 0
    for line in lines:
        if line["measure"] != "lv_edv_ml":
            continue
        if line["all"]:
            assert line["all"] in plain
        found = page.get((SEXES[line["sex"]], line["age"], "All"))
        if found:
            assert (line["all"] or DASH) == found[0].rstrip("†‡")
            compared += 1
    assert compared >= 8


def test_no_small_count_is_in_the_paper_table(ranges):
    with (ranges.out / "table.csv").open(newline="", encoding="utf-8") as stream:
        counts = [
            cell
            for line in csv.DictReader(stream)
            for name, cell in line.items()
            if name.endswith("_n") and cell
        ]
    assert "<10" in counts
    assert all(count.startswith("<") or int(count) >= 10 for count in counts)


# ------------------------------------------------------------------ methods


class _Facts:
    """As much of a result as the methods need."""

    by = ("sex", "ethnicity", "age")
    trials = ("A", "B", "C", "D", "E")
    visits = ()
    contrasts = ("sex",)


def methods(block: str, method: str = "", **changes) -> str:
    options = ReferenceOptions(**changes)
    return words(
        "reference", block, result=_Facts, options=options, method=method, ethnicities=["All"],
        logs=False, left_out=False, skewed=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "phrase"),
    [
        (None, "in smaller groups they are robust by Horn's biweight method"),
        ("nonparametric", "interpolated at rank p(n + 1) (type 6)"),
        ("nonparametric-ranks", "at the rounded rank p(n + 1)"),
        ("parametric", "mean ± z·SD; 90% confidence intervals from SE"),
        ("prediction", "the prediction interval of a new participant"),
        ("log", "mean ± z·SD of the logarithms"),
        ("boxcox", "after the Box-Cox power"),
        ("robust", "robust by Horn's biweight method"),
    ],
)
def test_the_methods_name_the_limits(limits, phrase):
    text = methods("methods_strata", limits=limits)
    assert phrase in text
    assert "centiles 2.5 and 97.5" in text
    assert "Ethnicity All contains all participants." in text


@pytest.mark.parametrize(
    ("method", "phrase"),
    [
        ("lms", "LMS curves (Cole and Green)"),
        ("gaussian", "Normal curves"),
        ("linear", "Linear curves"),
        ("quantile", "Quantile regression of each centile"),
        ("fractional-polynomial", "Fractional polynomials (Royston and Wright)"),
    ],
)
@pytest.mark.parametrize("effect", ["random", "fixed", "none"])
def test_the_methods_name_the_curves_and_how_trials_enter(method, phrase, effect):
    text = methods("methods_curves", method, trial_effect=effect)
    assert text.startswith(phrase)
    trials = (
        "Trials were ignored in the curves."
        if effect == "none"
        else "Trials entered as fixed effects"
        if effect == "fixed" or method == "quantile"
        else "Trials entered the location as random effects"
    )
    assert trials in text
    assert ("random effect on location and scale" in text) == (method in ("lms", "gaussian"))
    assert ("bootstrap samples" in text) == (method == "quantile")


@pytest.mark.parametrize(
    ("outliers", "phrase"),
    [("list", "counted and kept"), ("tukey", "left out"), ("none", "Outliers: not assessed.")],
)
def test_the_methods_say_what_became_of_outliers(outliers, phrase):
    assert phrase in methods("methods_end", outliers=outliers)


def test_the_population_is_stated():
    assert "marked as healthy were used (volunteers)" in methods(
        "methods", healthy_rule="volunteers"
    )
    assert "All participants were used, healthy or not" in methods("methods", healthy_only=False)
    assert "percentile bootstrap interval" in methods("methods", repeated=True)


def test_numbers_of_the_page_have_no_interval_the_wrong_way_round(ranges):
    text = unescape(ranges.html)
    for low, high in re.findall(r"\((\d+)–(\d+)\)", text):
        assert int(low) <= int(high)
    assert interval("1", "2", 0) == "1 to 2"
