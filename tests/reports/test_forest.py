from __future__ import annotations

import math
import random
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import Polygon, Rectangle

from cardiometa.reports.figures.forest import (
    SQUARE_LEAST,
    ForestRow,
    ForestSpec,
    arrange,
    forest_plot,
    text_width,
    wrap,
)
from cardiometa.reports.style import figure_style

SVG = "{http://www.w3.org/2000/svg}"


def trials(k, seed=1, scale=1.0):
    r = random.Random(seed)
    rows = []
    for i in range(k):
        weight = r.uniform(0.1, 3)
        middle, half = r.gauss(-3, 2) * scale, 6 * scale / math.sqrt(weight)
        rows.append(
            ForestRow(
                label=f"TRIAL-{i + 1}",
                estimate=middle,
                ci_low=middle - half,
                ci_high=middle + half,
                weight_percent=weight,
                cells=(str(round(60 * weight)), str(round(61 * weight))),
            )
        )
    return rows


def spec(rows, **changes):
    pooled = ForestRow(
        label="Pooled effect (REML, HKSJ)",
        kind="pooled",
        estimate=-3.04,
        ci_low=-4.44,
        ci_high=-1.7,
        weight_percent=100.0,
        cells=("812", "838"),
    )
    prediction = ForestRow(
        label="95% prediction interval", kind="prediction", ci_low=-9.9, ci_high=4.2
    )
    base = {
        "rows": (*rows, pooled, prediction),
        "columns": ("n control", "n active"),
        "effect_label": "Mean difference in LV mass index, g/m²",
        "left_label": "Favours active",
        "right_label": "Favours control",
        "heterogeneity_text": "Heterogeneity: τ² = 3.21 (95% CI 0.00 to 14.9), I² = 43.1%, "
        "Q = 12.30 on 7 df (p = 0.09). Interval by Hartung-Knapp-Sidik-Jonkman, truncated.",
    }
    return ForestSpec(**{**base, **changes})


def drawn(made):
    """The plot as measured, and matplotlib's figure of it."""
    return arrange(made)[0], forest_plot(made).source


def boxes(figure):
    renderer = figure.canvas.get_renderer()
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in figure.axes[0].texts
        if text.get_text()
    ]


def assert_texts_apart(figure):
    """No text touches another, none leaves the figure."""
    width, height = figure.canvas.get_width_height()
    placed = boxes(figure)
    for name, box in placed:
        assert box.x0 >= 0, name
        assert box.y0 >= 0, name
        assert box.x1 <= width, name
        assert box.y1 <= height, name
    for (first, a), (second, b) in combinations(placed, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        # Boxes include the room for accents and descenders: half a point may be shared.
        assert across <= 0 or down <= 0.8, (first, second, across, down)


@pytest.mark.parametrize("k", [1, 2, 3, 8, 20, 60])
def test_texts_never_overlap_and_every_row_appears(k):
    made = spec(trials(k))
    layout, figure = drawn(made)
    assert_texts_apart(figure)
    texts = [name for name, _ in boxes(figure)]
    assert [text for text in texts if text.startswith("TRIAL-")] == [
        f"TRIAL-{i + 1}" for i in range(k)
    ]
    squares = [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    diamonds = [p for p in figure.axes[0].patches if p.get_gid() == "mark-pooled"]
    assert len(squares) == k
    assert len(diamonds) == 1
    assert len(layout.bands) == k + 2
    for (above, height), (below, _) in pairwise(layout.bands):
        assert below >= above + height - 1e-9


names = st.text(st.sampled_from("abcdefghij mnopqrst_-WMÜ$<&試"), min_size=1, max_size=90).filter(
    str.strip
)


@settings(max_examples=15, deadline=None)
@given(
    labels=st.lists(names, min_size=2, max_size=12),
    headings=st.lists(names, min_size=0, max_size=4),
    effect=names,
    favours=st.tuples(names, names),
    foot=names,
    null=st.sampled_from([-40.0, -3.0, 0.0, 25.0]),
    seed=st.integers(0, 50),
)
def test_texts_never_overlap_whatever_their_length(
    labels, headings, effect, favours, foot, null, seed
):
    rows = [
        ForestRow(
            label=label,
            estimate=row.estimate,
            ci_low=row.ci_low,
            ci_high=row.ci_high,
            weight_percent=row.weight_percent,
            indent=i % 3,
            cells=tuple(f"{i * 37}/{i * 41}" for _ in headings),
        )
        for i, (label, row) in enumerate(zip(labels, trials(len(labels), seed), strict=True))
    ]
    made = ForestSpec(
        rows=(ForestRow(label=labels[0], kind="subgroup-heading"), *rows),
        columns=tuple(headings),
        effect_label=effect,
        left_label=favours[0],
        right_label=favours[1],
        heterogeneity_text=foot,
        null_value=null,
    )
    with figure_style():
        _, figure = drawn(made)
        assert_texts_apart(figure)
        shown = "".join(name for name, _ in boxes(figure)).replace(" ", "")
    for label in labels:
        assert "".join(label.split()) in shown


def test_wrapping_keeps_every_letter_and_the_width():
    text = "A name with words and_one_very_long_word_without_any_space_in_it of a trial"
    lines = wrap(text, 80)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(text_width(line) <= 80 for line in lines)
    assert wrap("", 80) == ("",)


def greedy(text: str, most: float) -> list[str]:
    """Lines filled word by word."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer) <= most:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@given(st.lists(st.text("abcWMi", min_size=1, max_size=8), min_size=1, max_size=30))
def test_lines_are_as_full_as_they_can_be(parts):
    text = " ".join(parts)
    assert list(wrap(text, 90)) == greedy(text, 90)


def test_a_word_wider_than_a_line_goes_on_in_the_next():
    lines = wrap("W" * 20 + " b", 60)
    assert "".join(lines[:-1]) + lines[-1].split(" ")[0] == "W" * 20
    assert lines[-1].endswith(" b")
    assert wrap("one\n\ntwo", 60) == ("one", "", "two")


def test_area_of_squares_is_proportional_to_weight():
    rows = [
        ForestRow(label=str(w), estimate=0.0, ci_low=-1.0, ci_high=1.0, weight_percent=w)
        for w in (5.0, 20.0, 75.0)
    ]
    _, figure = drawn(ForestSpec(rows=tuple(rows), effect_label="x"))
    areas = [p.get_width() ** 2 for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    assert areas[1] / areas[2] == pytest.approx(20 / 75)
    assert areas[0] / areas[2] == pytest.approx(5 / 75)
    assert min(areas) > SQUARE_LEAST**2


def test_the_pooled_weight_does_not_shrink_the_squares():
    rows = trials(4)
    _, figure = drawn(spec(rows))
    sides = [p.get_width() for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    assert max(sides) == pytest.approx(10.5)


def test_marks_stand_where_the_numbers_say():
    rows = trials(5)
    made = spec(rows)
    layout, figure = drawn(made)
    axis = layout
    squares = [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    for row, square in zip(rows, squares, strict=True):
        centre = square.get_x() + square.get_width() / 2
        back = axis.low + (centre - axis.left) / (axis.right - axis.left) * (axis.high - axis.low)
        assert back == pytest.approx(row.estimate, abs=1e-9)
    diamond = next(p for p in figure.axes[0].patches if p.get_gid() == "mark-pooled")
    assert min(x for x, _ in diamond.get_xy()) == pytest.approx(axis.place(-4.44))
    assert max(x for x, _ in diamond.get_xy()) == pytest.approx(axis.place(-1.7))


def arrows(figure):
    return [
        p
        for p in figure.axes[0].patches
        if isinstance(p, Polygon) and p.get_gid() is None and len(p.get_xy()) == 4
    ]


def test_intervals_beyond_the_axis_end_in_arrows():
    rows = trials(6)
    wide = ForestRow(
        label="TINY",
        estimate=-3.0,
        ci_low=-400.0,
        ci_high=300.0,
        weight_percent=0.1,
        cells=("5", "6"),
    )
    layout, figure = drawn(spec([*rows, wide]))
    assert layout.low > -60
    assert layout.high < 60
    assert len(arrows(figure)) >= 2
    assert any("−400.0 to 300.0" in name for name, _ in boxes(figure))
    alike = tuple(row(label=str(e), estimate=e, ci_low=e - 1, ci_high=e + 1) for e in (-2.0, 0.5))
    assert arrows(drawn(ForestSpec(rows=alike, effect_label="x"))[1]) == []


@pytest.mark.parametrize("seed", range(5))
def test_estimates_null_and_pooled_intervals_lie_on_the_axis(seed):
    rows = trials(12, seed=seed)
    layout, figure = drawn(spec(rows))
    for value in (0.0, -4.44, -1.7, *(row.estimate for row in rows)):
        assert layout.left <= layout.place(value) <= layout.right
    assert sum(name.startswith("TRIAL-") for name, _ in boxes(figure)) == 12


def test_log_axis_has_ticks_of_1_2_5_and_equal_arms_in_logs():
    rows = [
        ForestRow(label=f"T{i}", estimate=e, ci_low=e / 3, ci_high=e * 3, weight_percent=20.0)
        for i, e in enumerate((0.5, 0.8, 1.5))
    ]
    layout, figure = drawn(
        ForestSpec(
            rows=tuple(rows), effect_label="Odds ratio", log_scale=True, null_value=1.0, decimals=2
        )
    )
    axis = layout
    assert [label for _, label in axis.ticks()] == ["0.2", "0.5", "1", "2", "5"]
    assert 1.0 in [value for value, _ in axis.ticks()]
    middle = axis.place(0.8)
    assert middle - axis.place(0.4) == pytest.approx(axis.place(1.6) - middle)
    assert_texts_apart(figure)


def test_reference_line_is_dashed_at_the_pooled_effect_and_solid_at_the_null():
    layout, figure = drawn(spec(trials(4)))
    lines = {
        round(line.get_xdata()[0], 6): line.is_dashed()
        for line in figure.axes[0].lines
        if line.get_xdata()[0] == line.get_xdata()[1]
        and abs(line.get_ydata()[0] - layout.header_bottom) < 1e-9
    }
    assert lines == {
        round(layout.place(0.0), 6): False,
        round(layout.place(-3.04), 6): True,
    }


def test_svg_can_be_read_aloud_and_carries_the_same_numbers():
    made = spec(
        [
            *trials(3),
            ForestRow(label="BROKEN", note="one arm only", cells=("12", "0")),
            ForestRow(label="<script>", kind="aggregate", estimate=1.0, ci_low=0.0, ci_high=2.0),
        ]
    )
    figure = forest_plot(made, title="Forest plot of LV mass index")
    root = ET.fromstring(figure.svg)
    texts = [node.text for node in root.iter(f"{SVG}text")]
    description = root.find(f"{SVG}desc").text
    assert root.find(f"{SVG}title").text == "Forest plot of LV mass index"
    for row in made.rows:
        assert row.label in " ".join(filter(None, texts))  # a long one is in two lines
        assert row.label in description
    for words in ("−3.0 (−4.4 to −1.7)", "(−9.9 to 4.2)", "one arm only"):
        assert words in texts
        assert words in description
    assert figure.png.startswith(b"\x89PNG")


def test_same_plot_same_bytes():
    made = spec(trials(5))
    assert forest_plot(made) == forest_plot(made)


def test_row_that_holds_only_its_note_has_no_mark():
    _, figure = drawn(spec([*trials(2), ForestRow(label="X", note="no baseline")]))
    assert sum(isinstance(p, Rectangle) for p in figure.axes[0].patches) == 2


def row(**changes):
    return ForestRow(**{"label": "A", "estimate": 1.0, "ci_low": 0.5, "ci_high": 2.0, **changes})


@pytest.mark.parametrize(
    ("rows", "changes", "words"),
    [
        ((), {}, "at least one row"),
        ((row(cells=("1", "2")),), {}, "2 cells for 0 columns"),
        ((row(ci_low=None),), {}, "without its interval"),
        ((row(ci_low=1.5),), {}, "does not contain its estimate"),
        ((row(ci_low=math.nan),), {}, "not finite"),
        ((row(ci_high=math.inf),), {}, "not finite"),
        ((row(ci_low=-0.5),), {"log_scale": True, "null_value": 1.0}, "log axis cannot show"),
        ((row(),), {"log_scale": True}, "must be positive"),
    ],
)
def test_what_cannot_be_drawn_truly_is_refused(rows, changes, words):
    with pytest.raises(ValueError, match=words):
        forest_plot(ForestSpec(rows=rows, effect_label="x", **changes))
