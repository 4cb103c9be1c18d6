from __future__ import annotations

import xml.etree.ElementTree as ET

import matplotlib as mpl

from cardiometa.reports.style import figure_png, figure_style, figure_svg, new_figure

SVG = "{http://www.w3.org/2000/svg}"


def drawn(text="label"):
    with figure_style():
        figure = new_figure(60, 40)
        axes = figure.add_axes((0.2, 0.2, 0.7, 0.7))
        axes.plot([1, 2, 3])
        axes.text(1, 2, text)
    return figure


def test_svg_has_title_text_and_no_date():
    svg = figure_svg(drawn("$x$ <b> τ²"), title="A <t>", description="D & d")
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == "A <t>"
    assert root.find(f"{SVG}desc").text == "D & d"
    assert "$x$ <b> τ²" in [node.text for node in root.iter(f"{SVG}text")]
    assert "<metadata>" not in svg
    assert "dc:date" not in svg
    assert figure_svg(drawn()) == figure_svg(drawn())


def test_svg_is_as_wide_as_asked():
    root = ET.fromstring(figure_svg(drawn()))
    assert abs(float(root.get("width").removesuffix("pt")) - 60 / 25.4 * 72) < 0.01


def test_png_holds_no_text_or_time():
    data = figure_png(drawn(), 100)
    assert data.startswith(b"\x89PNG")
    assert data == figure_png(drawn(), 100)
    for chunk in (b"tEXt", b"iTXt", b"tIME"):
        assert chunk not in data


def test_a_letter_without_a_glyph_is_no_warning():
    svg = figure_svg(drawn("試験"))  # warnings are errors in these tests
    assert "試験" in svg


def test_the_callers_settings_come_back():
    before = dict(mpl.rcParams)
    drawn()
    assert dict(mpl.rcParams) == before
