from __future__ import annotations

import xml.etree.ElementTree as ET

import matplotlib as mpl
import pytest

from cardiometa.reports.style import Drawing, drawing

SVG = "{http://www.w3.org/2000/svg}"


def drawn(text="label", title="t", description="d"):
    def draw(figure):
        axes = figure.add_axes((0.2, 0.2, 0.7, 0.7))
        axes.plot([1, 2, 3])
        axes.text(1, 2, text)

    return drawing((60, 40), draw, title, description)


def test_svg_has_title_text_and_no_date():
    svg = drawn("$x$ <b> τ²", title="A <t>", description="D & d").svg
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == "A <t>"
    assert root.find(f"{SVG}desc").text == "D & d"
    assert "$x$ <b> τ²" in [node.text for node in root.iter(f"{SVG}text")]
    assert "<metadata>" not in svg
    assert "dc:date" not in svg
    assert drawn() == drawn()
    assert drawn("other") != drawn()


def test_svg_is_as_wide_as_asked():
    root = ET.fromstring(drawn().svg)
    assert abs(float(root.get("width").removesuffix("pt")) - 60 / 25.4 * 72) < 0.01


def test_png_holds_no_text_or_time():
    data = drawn().png
    assert data.startswith(b"\x89PNG")
    assert data == drawn().png
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    assert (width, height) == (60 / 25.4 * 300 // 1, 40 / 25.4 * 300 // 1)  # 300 dpi
    for chunk in (b"tEXt", b"iTXt", b"tIME"):
        assert chunk not in data


def test_a_letter_without_a_glyph_is_no_warning():
    svg = drawn("試験").svg  # warnings are errors in these tests
    assert "試験" in svg


def test_a_figure_written_as_svg_has_no_png():
    with pytest.raises(ValueError, match="SVG only"):
        _ = Drawing(title="flow", svg="<svg/>").png


def test_a_notebook_shows_the_svg():
    made = drawn()
    assert made._repr_svg_() == made.svg


def test_the_callers_settings_come_back():
    before = dict(mpl.rcParams)
    drawn()
    assert dict(mpl.rcParams) == before
