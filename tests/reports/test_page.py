from __future__ import annotations

import subprocess
import sys

import pytest

from cardiometa.manifest import FORMAT_VERSION, RESEARCH_USE, version
from cardiometa.records import SeriousWarning, Table
from cardiometa.reports.page import (
    INTERNAL_NOTICE,
    Html,
    Notice,
    Section,
    is_numeric_column,
    notes_section,
    page_html,
    svg_inline,
)
from cardiometa.reports.style import Drawing
from tests.kit.report_page import assert_self_contained, read_page

EVIL = "<script>alert(1)</script>"
SVG = (
    '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg role="img" aria-labelledby="title desc" '
    'xmlns="http://www.w3.org/2000/svg"><title id="title">t</title><desc id="desc">d</desc>'
    '<style type="text/css">*{stroke-linejoin: round}</style>'
    '<clipPath id="clip"><rect/></clipPath><path id="mark" d="M0 0"/>'
    '<use href="#mark" clip-path="url(#clip)"/></svg>'
)


def table(**changes):
    base = {
        "title": "Trials",
        "columns": ("Trial", "n", "Estimate (95% CI)", "Note"),
        "rows": (("A", "12", "−3.1 (−5.1 to −1.2)", "fine"), ("B", "1234", "–", "12 of 13 came")),
    }
    return Table(**{**base, **changes})


def page(*blocks, **how):
    return page_html("Title", "subtitle", [Section("One", "one", tuple(blocks))], **how)


def test_every_text_is_escaped():
    html = page_html(
        EVIL,
        EVIL,
        [
            Section(
                EVIL,
                "one",
                (
                    EVIL,
                    Notice(EVIL),
                    [EVIL],
                    {EVIL: EVIL},
                    Table(title=EVIL, columns=(EVIL,), rows=((EVIL,),), caption=EVIL),
                    Drawing(title=EVIL, caption=EVIL, svg=SVG),
                ),
            ),
            Section("Two", "two", ("x",)),
        ],
        warnings=[SeriousWarning(EVIL)],
    )
    shown = assert_self_contained(html)
    assert shown.text.count(EVIL) == 17


def test_figures_do_not_share_ids_and_keep_their_references():
    shown = assert_self_contained(page(*[Drawing(title="f", svg=SVG)] * 3))
    assert "figure-3-mark" in shown.ids


def test_style_of_one_figure_does_not_reach_the_page():
    inline = svg_inline(SVG, "figure-1")
    assert "*{stroke" not in inline.replace("#figure-1-svg *{", "")
    assert 'id="figure-1-svg"' in inline
    assert not inline.startswith("<?xml")


def test_links_to_other_places_are_left_alone():
    assert 'href="#elsewhere"' in svg_inline('<svg><use href="#elsewhere"/></svg>', "p")


def test_numbers_stand_at_the_right_and_first_columns_at_the_left():
    html = page(table())
    assert '<td class="num">1234</td>' in html
    assert '<td class="num">−3.1 (−5.1 to −1.2)</td>' in html
    assert '<td class="txt short">12 of 13 came</td>' in html
    assert '<td class="num">001' not in page(table(columns=("id",), rows=(("001",),)))


@pytest.mark.parametrize(
    ("cells", "numeric"),
    [
        (["1", "", "–"], True),
        (["<0.001", "0.04"], True),
        (["12 (43%)", "3 (5.0%)"], True),
        (["58 ± 9", "61 ± 10 [12]"], True),
        (["−8.2 to 2.1"], True),
        (["(−8.2 to 2.1)"], True),
        (["+1.5"], True),
        (["12 345"], True),
        (["1", "two"], False),
        (["60-69 black"], False),
        (["", "–"], False),
        ([], False),
    ],
)
def test_what_counts_as_a_numeric_column(cells, numeric):
    assert is_numeric_column(cells) is numeric


def test_research_use_stands_at_the_foot_with_version_and_format():
    html = page("x")
    foot = html[html.index("<footer>") :]
    assert RESEARCH_USE in foot
    assert f"cardiometa {version()}, format {FORMAT_VERSION}" in foot


def test_internal_pages_say_so_at_the_top():
    assert INTERNAL_NOTICE not in page("x")
    html = page("x", internal=True)
    assert html.index(INTERNAL_NOTICE) < html.index("<h1>")


def test_contents_link_every_section_and_tables_and_figures_are_numbered():
    blocks = (table(), Drawing(title="f", svg=SVG))
    html = page_html("t", "", [Section("A", "a", blocks), Section("B", "b-2", blocks)])
    shown = assert_self_contained(html)
    assert [a["href"] for a in shown.all("a")] == ["#a", "#b-2"]
    for word in ("Table 1. Trials.", "Table 2. Trials.", "Figure 1. f.", "Figure 2. f."):
        assert word in shown.text


def test_own_markup_is_kept_and_control_characters_are_not():
    html = page(Html("<p class='own'>kept</p>"), "a\x00b\u202ec")
    assert "<p class='own'>kept</p>" in html
    assert "a\ufffdb\ufffdc" in html


def test_blank_lines_part_paragraphs():
    assert len(read_page(page("one\n\ntwo\n \nthree")).all("p")) == 1 + 3 + 2


def test_mistakes_of_the_caller_are_refused():
    with pytest.raises(ValueError, match="other than 4 cells"):
        page(table(rows=(("a", "b"),)))
    with pytest.raises(ValueError, match="must contain an <svg>"):
        page(Drawing(title="f", svg="no picture"))
    with pytest.raises(ValueError, match="not lower-case"):
        page_html("t", "", [Section("A", "A b", ("x",))])
    with pytest.raises(ValueError, match="same anchor"):
        page_html("t", "", [Section("A", "a", ("x",)), Section("B", "a", ("x",))])


def test_same_bytes_in_another_process():
    code = (
        "from cardiometa.reports.page import *\n"
        "from cardiometa.reports.style import *\n"
        "def draw(f):\n"
        "    a = f.add_axes((.2, .2, .7, .7)); a.plot([1, 2, 3])\n"
        "    a.fill_between([0, 1], [1, 2], hatch='//', clip_on=True)\n"
        "figure = drawing((60, 40), draw, 't', 'd')\n"
        "import hashlib, sys\n"
        "page = page_html('t', 's', [section('A', 'a', figure)])\n"
        "sys.stdout.write(hashlib.sha256(page.encode() + figure.png).hexdigest())\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": seed, "MPLBACKEND": "agg"},
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(runs[0]) == 64
    assert runs[0] == runs[1]


def test_serious_warnings_are_above_the_contents_and_notes_in_a_section_of_their_own():
    warnings = ["a note", SeriousWarning("do not use <b>"), "a note"]
    sections = [Section("One", "one", ("x",)), notes_section(warnings)]
    html = page_html("t", "", sections, warnings=warnings)
    head, _, rest = html.partition("Contents")
    assert "do not use &lt;b&gt;" in head
    assert "a note" not in head
    assert rest.count("a note") == 1
    assert "do not use" not in rest
    assert notes_section([SeriousWarning("x")]).blocks == ()
