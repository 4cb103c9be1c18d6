"""Tables declared as columns over rows, and the texts of templates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from cardiometa.reports.page import (
    Column,
    as_estimate,
    as_number,
    environment,
    grouped,
    is_numeric_column,
    page_html,
    section,
    table_of,
    where,
    words,
    yes_no,
)
from cardiometa.reports.style import counted, p_equals, shown_p
from tests.kit.report_page import section_titles


@dataclass(frozen=True)
class Line:
    name: str
    value: float | None = None
    low: float | None = None
    high: float | None = None


table = partial(table_of, "segment")
LINES = (Line("a", 1.25, 0.5, 2.0), Line("b", -0.04), Line("c"))


def test_a_column_takes_a_field_several_fields_or_a_function():
    columns = (
        Column("Name", "name"),
        Column("Estimate", "value low high", as_estimate(1)),
        Column("Twice", lambda line: None if line.value is None else 2 * line.value, as_number(2)),
    )
    made = table("flags", columns, LINES)
    assert made.columns == ("Name", "Estimate", "Twice")
    assert made.rows == (("a", "1.2 (0.5 to 2.0)", "2.50"), ("b", "0.0", "−0.08"), ("c", "–", "–"))


def test_a_group_of_rows_is_shown_by_its_first():
    rows = grouped((Line("a", low=-2.0, high=3.0), Line("b"), Line("a", 7.0)), "name").values()
    columns = (Column("N", "name"), Column("I", "low", as_number(0)), Column("Rows", len))
    assert table("flags", columns, rows).rows == (("a", "−2", "2"), ("b", "–", "1"))


def test_rows_are_chosen_by_their_fields():
    assert where(LINES, name="b") == [LINES[1]]
    assert where(LINES, low=None, high=None) == [LINES[1], LINES[2]]
    assert where(LINES, name="b", value=1.25) == []
    with pytest.raises(AttributeError):
        where(LINES, nothing=1)


def test_a_missing_value_is_empty_where_no_format_is_given():
    assert Column("N", "value").cell(Line("a")) == ""
    assert Column("N", "name").cell(Line("a")) == "a"


def test_columns_without_text_are_left_out_but_never_the_first():
    rows = [Line(""), Line("")]
    columns = (Column("Name", "name"), Column("Note", lambda _: ""), Column("V", "value", shown_p))
    assert table("flags", columns, rows).columns == ("Name", "V")
    assert table("flags", columns, rows, empty=("", "–")).columns == ("Name",)
    assert table("flags", columns, rows, empty=()).columns == ("Name", "Note", "V")


def test_without_rows_there_is_no_table_and_no_section():
    nothing = table("flags", (Column("A", "name"), Column("B", "value")), [])
    assert nothing is None
    empty = section("S", "s", None, nothing, "", [], {}, intro="Only before something.")
    assert empty.blocks == ()
    html = page_html("p", "", [empty, section("A", "a", None, "text", intro="Before it.")])
    assert section_titles(html) == ["A"]
    assert "Only before something." not in html
    assert html.index("Before it.") < html.index("text</p>")


def test_title_and_caption_of_a_table_are_a_block_of_the_template():
    columns = (Column("Reason", "name"), Column("n", lambda _: "1"))
    made = table("flags", columns, LINES)
    assert made.title == "Flags"
    assert made.caption.startswith("reject: the scan failed; review: the scan should be reviewed;")
    assert "\n" not in made.caption
    assert table("flags", columns, []) is None


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (None, None, None, "–"),
        (None, 1.0, 2.0, "–"),
        (3.0, None, None, "3.0"),
        (3.0, 2.0, 4.0, "3.0 (2.0 to 4.0)"),
        (-3.0, -4.04, -0.01, "−3.0 (−4.0 to 0.0)"),
    ],
)
def test_estimates_with_and_without_their_interval(value, low, high, text):
    assert as_estimate(1)(value, low, high) == text


def test_yes_no_and_unknown():
    assert [yes_no(v) for v in (True, False, None)] == ["yes", "no", "–"]


@pytest.mark.parametrize(
    ("p", "text", "equals"),
    [
        (None, "–", "= –"),
        (0.0004, "<0.001", "< 0.001"),
        (0.0314, "0.031", "= 0.031"),
        (0.0999, "0.100", "= 0.100"),
        (0.1, "0.10", "= 0.10"),
        (1.0, "1.00", "= 1.00"),
    ],
)
def test_p_values_as_journals_print_them(p, text, equals):
    assert shown_p(p) == text
    assert p_equals(p) == equals


def test_counts_with_their_noun():
    assert counted(1, "trial") == "1 trial"
    assert counted(0, "trial") == "0 trials"
    assert counted(12345, "scan") == "12\u202f345 scans"


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.integers(0, 4))
def test_every_shown_number_is_set_as_a_number(value, decimals):
    text = as_number(decimals)(value)
    assert is_numeric_column([text])
    assert text.replace("−", "-") == f"{float(text.replace('−', '-')):.{decimals}f}"


# ------------------------------------------------------------------ templates


PAGES = ("pooling", "reference", "evaluation", "segment")
FOLDER = files("cardiometa") / "reports" / "templates"
PACKAGE = files("cardiometa") / "reports"


def blocks(page: str) -> set[str]:
    return set(environment().get_template(f"{page}.txt.j2").blocks)


def sources() -> str:
    paths = [path for part in ("", "pages", "figures") for path in (PACKAGE / part).iterdir()]
    return "\n".join(p.read_text(encoding="utf-8") for p in paths if p.name.endswith(".py"))


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_template_is_used(page):
    code = sources()
    used = set(re.findall(r'"([a-z_0-9]+)"', code))
    # Captions of the tables of pooling, of figures and methods have their prefix in the code.
    prefixes = ("table_", "figure_", "methods_")
    unused = {
        name
        for name in blocks(page)
        if name not in used and not any(name.removeprefix(p) in used for p in prefixes)
    }
    assert unused <= {"methods_curves"}


@pytest.mark.parametrize("page", PAGES)
def test_texts_are_plain_standard_english(page):
    text = (FOLDER / f"{page}.txt.j2").read_text(encoding="utf-8")
    text = re.sub(r"\{[{%#].*?[}%#]\}", " ", text, flags=re.DOTALL)
    banned = "beside told tell tells mend mended whole wholly nobody everybody somebody people"
    assert not {*banned.split(), "stand", "stands"} & set(re.findall(r"\w+", text.lower()))
    assert not re.search(r"\ba (row|mark|card|dot) a \w+", text)


def test_lines_of_a_template_are_joined_and_paragraphs_kept():
    paragraphs = words(
        "reference", "interpretation", result=SimpleNamespace(trials=("A", "B"))
    ).split("\n\n")
    assert len(paragraphs) == 4
    assert not any("\n" in paragraph or "  " in paragraph for paragraph in paragraphs)


@pytest.mark.parametrize(
    ("against", "text"),
    [
        ("labels", "That file, overlap.csv and pairs.csv have one row per scan: they are for"),
        ("reported", "That file and pairs.csv have one row per scan: they are for"),
        (None, "That file has one row per scan: it is for"),
    ],
)
def test_the_account_names_the_files_that_are_written(against, text):
    found = words("evaluation", "table_account", options=SimpleNamespace(against=against))
    assert f"{text} the holder of the cohort." in found


def test_a_fact_that_is_missing_is_an_error_not_a_gap():
    with pytest.raises(UndefinedError):
        words("evaluation", "subtitle", reference="x")


def test_text_of_the_user_is_escaped_once_and_only_on_the_page():
    text = words("segment", "papillary", trials=["<b>A&B</b>"])
    assert "<b>A&B</b>" in text
    html = page_html("p", "", [section("S", "s", table("flags", (Column("A", str),), [text]))])
    assert "<b>A" not in html
    assert "&lt;b&gt;A&amp;B&lt;/b&gt;" in html
    assert "&amp;lt;" not in html
