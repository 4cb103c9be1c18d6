"""The page of pool-trials: its sections, and every printed number against the CSV files."""

from __future__ import annotations

import re
from html import unescape

import pytest

from tests.kit.printed import DASH, estimate, interval, p_value, printed, ratio, root
from tests.kit.report_page import assert_self_contained, find_table, read_tables, section_titles

MAIN = {"source": "harmonised", "arm": "active"}
DECIMALS = 2  # of effects in these runs, from the smallest standard error


def words_of(html: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)))


def headline_first(rows):
    """The rows as the page has them: the headline, then its sensitivity analyses."""
    return sorted(rows, key=lambda row: (row["headline"], row["model"]) != ("true", "two-stage"))


def test_the_page_is_complete_and_stands_alone(pooled):
    page = assert_self_contained(pooled.html)
    assert [unescape(t) for t in section_titles(pooled.html)] == [
        "Pooled effect",
        "Sensitivity analyses",
        "By participants' characteristics",
        "Trials",
        "Heterogeneity and influence",
        "Meta-regression (between trials)",
        "Participants",
        "Integrity of the data",
        "Notes",
        "Methods",
        "References",
    ]
    assert "12 trials" in page.text
    assert "tested: 1 outcome, 1 active arm, 2 modifiers, 0 of them pre-specified" in page.text
    assert "2 trial-level covariates" in page.text
    assert len(page.all("svg")) == 7


def test_tables_and_figures_are_numbered_in_order(pooled):
    html = pooled.html
    tables = [int(n) for n in re.findall(r"<b>Table (\d+)\.</b>", html)]
    figures = [int(n) for n in re.findall(r"<b>Figure (\d+)\.</b>", html)]
    assert tables == list(range(1, len(tables) + 1))
    assert figures == list(range(1, len(figures) + 1))
    assert (len(tables), len(figures)) == (20, 7)  # table 1 in four parts


def test_every_cell_of_a_pooled_row_is_a_rounding(pooled):
    table = find_table(pooled.html, "Pooled effect: active versus control")
    rows = headline_first(pooled.rows("effects.csv", analysis="pooled", **MAIN))
    assert len(table.rows) == len(rows) == 17
    for line, row in zip(table.where(), rows, strict=True):
        assert line["Model"].lower() == row["model"]
        assert line["Trials"] == row["k"]
        assert line["Estimate (95% CI)"] == estimate(row, DECIMALS)
        assert line["SE"] == printed(row["se"], DECIMALS + 1)
        assert line["p"] == p_value(row["p"])
        assert line["τ"] == root(row["tau2"], DECIMALS + 1)
        limits = interval(row["pi_low"], row["pi_high"], DECIMALS) if row["pi_low"] else DASH
        assert line["95% prediction interval"] == limits
        df = row["df"]
        wanted = "z" if df == "" else f"t({printed(df, 0 if float(df).is_integer() else 1)})"
        assert line["Distribution"] == wanted
    headlines = [line for line in table.where() if "(headline)" in line["Analysis"]]
    assert headlines == table.where()[:1]
    assert headlines[0]["Model"] == "Two-stage"


def test_the_page_opens_with_the_answer_and_one_figure(pooled):
    """Sentence and forest plot, then the contents and all else."""
    html = pooled.html
    row = pooled.row("effects.csv", analysis="pooled", headline="true", model="two-stage", **MAIN)
    places = [
        html.index(one)
        for one in (
            printed(row["estimate"], DECIMALS), "<b>Figure 1.</b>", ">Contents<", "<b>Table 1.</b>",
        )
    ]  # fmt: skip
    assert places == sorted(places)


def test_each_trial_is_in_the_table_with_its_numbers(pooled):
    table = find_table(pooled.html, "Each trial: active versus control")
    rows = pooled.rows("effects.csv", analysis="trial", **MAIN)
    assert table.column("Trial") == [row["trial"] for row in rows]
    for line, row in zip(table.where(), rows, strict=True):
        assert line["Estimate (95% CI)"] == estimate(row, DECIMALS)
        assert line["Weight (%)"] == printed(row["weight_percent"], 1)
        assert line["p"] == p_value(row["p"])
        assert line["df"] == printed(row["df"], 0)
        for side in ("control", "active"):
            cell = line[f"n {side}"]
            assert cell == row[f"n_{side}"] if row[f"n_{side}"] else cell in ("<10", DASH)


def test_a_small_arm_is_below_ten_and_its_other_arm_withheld(pooled):
    (line,) = find_table(pooled.html, "Each trial:").where(Trial="T1")
    assert (line["n control"], line["n active"]) == ("<10", DASH)
    arms = find_table(pooled.html, "Participants by arm").where(Trial="T1")
    analysed = {row["Arm"]: row["Analysed"] for row in arms}
    assert analysed == {"control": "<10", "active": DASH}
    page = words_of(pooled.html)
    assert "Counts of fewer than 10 participants, and those that would reveal them" in page


def test_heterogeneity_by_every_estimator(pooled):
    table = find_table(pooled.html, "Heterogeneity between trials")
    rows = pooled.rows("heterogeneity.csv", arm="active")
    assert len(table.rows) == len(rows)
    for line, row in zip(table.where(), rows, strict=True):
        assert line["Estimator"].split()[0].lower() == row["tau2_method"]
        assert ("(used)" in line["Estimator"]) == (row["headline"] == "true")
        tau = estimate(row, DECIMALS + 1, ("tau", "tau_low", "tau_high"))
        assert line["τ, percentage points"] == (DASH if row["tau2_method"] == "fe" else tau)
        assert line["I², %"] == estimate(row, 1, ("i2_percent", "i2_low", "i2_high"))
        assert line["H²"] == estimate(row, 2, ("h2", "h2_low", "h2_high"))
    q = rows[0]
    assert f"Q = {printed(q['q'], 2)} on {q['q_df']} df, p = {p_value(q['q_p'])}." in table.note


def test_left_out_trials_and_their_influence(pooled):
    table = find_table(pooled.html, "Each trial left out in turn")
    rows = pooled.rows("effects.csv", analysis="leave-one-out", headline="true", **MAIN)
    for line, row in zip(table.where(), rows, strict=True):
        assert line["Left out"] == row["trial"]
        assert line["Pooled estimate (95% CI)"] == estimate(row, DECIMALS)
        assert line["I², %"] == printed(row["i2_percent"], 1)
    table = find_table(pooled.html, "Influence of each trial")
    columns = {
        "Studentised residual": ("rstudent", 2),
        "DFFITS": ("dffits", 2),
        "Cook's distance": ("cook_d", 2),
        "Covariance ratio": ("cov_ratio", 2),
        "Q without it": ("q_deleted", 1),
        "Hat": ("hat", 3),
        "DFBETAS": ("dfbetas", 2),
    }
    rows = pooled.rows("influence.csv")
    for line, row in zip(table.where(), rows, strict=True):
        for heading, (name, decimals) in columns.items():
            assert line[heading] == printed(row[name], decimals), heading
        assert line["τ without it"] == root(row["tau2_deleted"], DECIMALS + 1)
        if row["influential"]:
            assert line["Influential"] == {"true": "yes", "false": "no"}[row["influential"]]


def test_interactions_and_effects_by_level(pooled):
    table = find_table(pooled.html, "Interactions within trials")
    rows = [
        row
        for row in pooled.rows("effects.csv", analysis="interaction", headline="true", **MAIN)
        if row["trial"] == ""
    ]
    assert len(rows) == len(table.rows) == 4
    for line, row in zip(table.where(), rows, strict=True):
        assert f"treatment:{line['Modifier']}" == row["term"]
        assert line["Contrast"] == row["level"]
        assert line["Difference in effect (95% CI)"] == estimate(row, DECIMALS)
        assert (line["p"], line["p (Holm)"]) == (p_value(row["p"]), p_value(row["p_holm"]))
    table = find_table(pooled.html, "Effects by level")
    rows = [r for r in pooled.rows("effects.csv", analysis="subgroup", **MAIN) if not r["trial"]]
    for line, row in zip(table.where(), rows, strict=True):
        assert line["Level"] == row["level"]
        assert line["Effect (95% CI)"] == estimate(row, DECIMALS)
    assert "No p value belongs to a single level" in table.note


def test_the_ecological_association_is_labelled_and_apart(pooled):
    table = find_table(pooled.html, "Between trials: ecological, not effect modification")
    rows = [
        row
        for row in pooled.rows("effects.csv", analysis="interaction", **MAIN)
        if "ecological" in row["note"]
    ]
    assert table.column("Association (95% CI)") == [estimate(row, DECIMALS) for row in rows]
    assert "no conclusion about individuals" in table.note


def test_splines_are_tested_and_shown_at_every_tenth_point(pooled):
    table = find_table(pooled.html, "Continuous modifiers by splines")
    tests = pooled.rows("spline.csv", kind="test")
    curve = pooled.rows("spline.csv", kind="curve")[::10]
    assert len(table.rows) == len(tests) + len(curve)
    assert table.column("Test, or value")[:2] == ["overall", "non-linear"]
    for line, row in zip(table.where()[2:], curve, strict=True):
        assert line["Test, or value"] == f"at {float(row['value']):g}"
        assert line["Against the reference (95% CI)"] == estimate(row, DECIMALS)
    knots = tests[0]["knots"].replace(";", ", ")
    assert f"age_years: {knots}" in table.note


def test_meta_regression_and_groups_of_trials(pooled):
    table = find_table(pooled.html, "Meta-regression: active")
    slopes = pooled.rows("meta_regression.csv", kind="slope")
    for line, row in zip(table.where(), slopes, strict=True):
        assert line["Slope (95% CI)"] == estimate(row, DECIMALS)
        assert line["R², %"] == printed(row["r2_percent"], 0)
        q = f"{printed(row['q'], 1)} ({row['q_df']} df), p = {p_value(row['q_p'])}"
        assert line["Residual Q"] == q.replace("= <", "< ")
    table = find_table(pooled.html, "Groups of trials")
    levels = pooled.rows("meta_regression.csv", kind="level", headline="true")
    by_level = {(line["Trials with"], line["Model"]): line for line in table.where()}
    models = {"one": "one τ²", "separate": "separate τ²"}
    for row in levels:
        line = by_level[row["level"], models[row["tau2_model"]]]
        assert line["Effect (95% CI)"] == estimate(row, DECIMALS)
        assert line["τ"] == root(row["tau2"], DECIMALS + 1)
    assert "Nothing about individuals can be concluded" in words_of(pooled.html)


def test_participants_by_arm_are_those_of_the_file(pooled):
    table = find_table(pooled.html, "Participants by arm")
    rows = pooled.rows("participants_by_arm.csv")
    assert len(table.rows) == len(rows) == 24
    for line, row in zip(table.where(), rows, strict=True):
        assert (line["Trial"], line["Arm"]) == (row["trial"], row["arm"])
        for heading in ("Randomised", "Scanned", "No outcome", "Analysed"):
            cell = row[heading.lower().replace(" ", "_")]
            assert line[heading] == cell if cell else line[heading] in ("<10", DASH)
    assert "Died" not in table.columns  # no trial has a day of death


def test_delta_and_its_tipping_points(pooled):
    table = find_table(pooled.html, "If outcomes missing in active had differed")
    rows = sorted(pooled.rows("delta_adjusted.csv"), key=lambda row: float(row["delta"]))
    assert table.column("Delta, percentage points") == [
        printed(row["delta"], DECIMALS) for row in rows
    ]
    effects = [estimate(row, DECIMALS) for row in rows]
    assert table.column("Pooled estimate (95% CI)") == effects


def test_the_account_closes(pooled):
    table = find_table(pooled.html, "Participants of the table who are not analysed")
    note = re.fullmatch(
        r"(\d+) participants in the table = (\d+) analysed \+ (\d+) not analysed, each with one "
        r"reason in exclusions\.csv\.",
        table.note,
    )
    total, analysed, excluded = map(int, note.groups())
    assert total == analysed + excluded
    assert len(pooled.rows("exclusions.csv")) == excluded == 14
    assert table.rows == [["The outcome is missing at the follow-up.", "14"]]


def test_the_flow_diagram_has_the_same_counts(pooled):
    flow = next(part for part in pooled.html.split("<figure") if "Flow of trials" in part)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", flow)
    assert "12 trials" in texts
    assert any("The outcome is missing at the follow-up: 14" in unescape(t) for t in texts)


def test_integrity_counts_trials_of_every_check(pooled):
    table = find_table(pooled.html, "Checks of the data")
    rows = pooled.rows("integrity.csv")
    for line in table.where():
        results = [row["result"] for row in rows if row["check"] == line["Check"]]
        cells = [line[f"Trials {name}"] for name in ("without findings", "with findings",
                                                     "not checked")]  # fmt: skip
        assert cells == [str(results.count(r)) for r in ("ok", "review", "not-checked")]
    skipped = {row["check"] for row in rows} - set(table.column("Check"))
    assert all(check in table.note for check in skipped)


def test_the_headline_sentence_is_on_the_page_and_in_the_terminal(pooled):
    row = next(
        row
        for row in pooled.rows("effects.csv", analysis="pooled", headline="true", **MAIN)
        if row["model"] == "two-stage"
    )
    sentence = (
        f"active versus control: {printed(row['estimate'], DECIMALS)} (95% CI "
        f"{interval(row['ci_low'], row['ci_high'], DECIMALS)}; p"
    )
    assert sentence in words_of(pooled.html)
    assert sentence in " ".join(pooled.printed.split())


def test_the_terminal_shows_the_tables_of_the_page(pooled):
    printed_text = " ".join(pooled.printed.split())
    for title in ("Each trial:", "Pooled effect:", "Interactions within trials", "Effects by level",
                  "Meta-regression:", "Groups of trials", "Participants by arm"):  # fmt: skip
        table = find_table(pooled.html, title)
        assert title in printed_text
        for cell in table.column(table.columns[3])[:4]:
            assert cell in printed_text
    assert max(map(len, pooled.printed.splitlines())) < 220


def test_small_study_effects_are_tested_from_ten_trials(pooled, events):
    row = pooled.row("effects.csv", analysis="small-study", arm="active")
    sentence = f"Egger's test p = {p_value(row['p'])} ({row['k']} trials"
    assert sentence in words_of(pooled.html)
    assert "Egger" not in words_of(events.html)


# ------------------------------------------------------------------ harmonised and reported


def test_compared_quantities_are_those_of_the_file(compared):
    table = find_table(compared.html, "Harmonised and reported values, the same participants")
    rows = compared.rows("compare_reported.csv")
    assert [cell.lower() for cell in table.column("Quantity")] == [
        row["quantity"].lower() for row in rows
    ]
    for line, row in zip(table.where(), rows, strict=True):
        # One interval for one number: that of each pooled effect is the model's, in the figure.
        assert line["Harmonised"] == printed(row["harmonised"], 2)
        assert line["As reported"] == printed(row["reported"], 2)
        cells = ("difference", "difference_low", "difference_high")
        assert line["Reported − harmonised"] == estimate(row, 2, cells)
    assert table.note.startswith("In percentage points. 4 trials;")


def test_reported_rows_are_in_no_table_of_the_harmonised_effect(compared):
    rows = compared.rows("effects.csv", analysis="trial", source="harmonised")
    table = find_table(compared.html, "Each trial: active")
    assert len(table.rows) == len(rows) == 4


# ------------------------------------------------------------------ ratios


def test_ratios_are_printed_as_ratios_and_their_errors_as_logs(events):
    table = find_table(events.html, "Pooled effect: active versus control")
    rows = headline_first(events.rows("effects.csv", analysis="pooled", arm="active"))
    assert table.column("Estimate (95% CI)") == [ratio(row, 2) for row in rows]
    assert table.column("SE of log") == [printed(row["se"], 3) for row in rows]
    assert table.column("τ of log") == [root(row["tau2"], 3) for row in rows]


def test_a_trial_of_few_events_has_no_numbers_in_any_table(events):
    (line,) = find_table(events.html, "Each trial: active").where(Trial="T1")
    assert line["Estimate (95% CI)"] == DASH
    assert line["Note"] == "n<10 (events)"
    for title in ("Each trial left out", "Influence of each trial"):
        table = find_table(events.html, title)
        (row,) = [row for row in table.rows if row[0] == "T1"]
        assert set(row[1:]) <= {DASH, "n<10 (events)"}
    arms = find_table(events.html, "Participants by arm").where(Trial="T1")
    assert "<10" in {row["Events"] for row in arms}


# ------------------------------------------------------------------ two active arms


ARMS = ("active", "high dose")


@pytest.mark.parametrize("arm", ARMS)
def test_each_arm_has_its_own_tables_with_its_own_numbers(arms, arm):
    cells = {"arm": arm, "source": "harmonised"}
    table = find_table(arms.html, f"Each trial: {arm} versus control")
    rows = arms.rows("effects.csv", analysis="trial", **cells)
    assert len(rows) == 4
    shown = [estimate(row, DECIMALS) if row["estimate"] else DASH for row in rows]
    assert table.column("Estimate (95% CI)") == shown
    assert f"n {arm}" in table.columns
    table = find_table(arms.html, f"Pooled effect: {arm} versus control")
    rows = headline_first(arms.rows("effects.csv", analysis="pooled", **cells))
    assert table.column("Estimate (95% CI)") == [estimate(row, DECIMALS) for row in rows]
    lines = find_table(arms.html, f"Heterogeneity between trials: {arm}").rows
    assert len(lines) == len(arms.rows("heterogeneity.csv", arm=arm))
    (headline,) = [row for row in rows if row["headline"] == "true"]
    sentence = f"{arm} versus control: {estimate(headline, DECIMALS).partition(' ')[0]} (95% CI"
    assert sentence in words_of(arms.html)
    assert sentence in " ".join(arms.printed.split())


def test_arms_follow_each_other_within_a_section(arms):
    titles = re.findall(r"<b>(?:Table|Figure) \d+\.</b> (.*?)\.(?: <span|</figcaption>)", arms.html)
    named = [unescape(title) for title in titles]
    for start in ("Each trial: ", "Pooled effect: ", "Interactions within trials: "):
        own = [title for title in named if title.startswith(start)]
        assert own == [f"{start}{arm} versus control" for arm in ARMS]
    forests = [
        title
        for title in named
        if re.fullmatch(r"Mean difference in LV EF, percentage points: .*", title)
    ]
    assert [title.rpartition(": ")[2] for title in forests] == [
        f"{arm} versus control" for arm in ARMS
    ]
    names = {path.stem for path in (arms.out / "figures").glob("*.svg")}
    assert {"forest-active", "forest-high-dose", "forest-high-dose-by-sex"} <= names


@pytest.mark.parametrize("name", ["pooled", "compared", "events", "arms"])
def test_no_page_has_an_empty_table_or_an_undefined_word(name, request):
    run = request.getfixturevalue(name)
    tables = read_tables(run.html)
    assert all(table.rows and table.rows != [["None."]] for table in tables)
    page = words_of(run.html)
    assert not re.search(r"\b(None|nan|undefined)\b(?!\.)", page)
    assert "{{" not in page
