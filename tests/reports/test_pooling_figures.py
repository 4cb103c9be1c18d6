"""The figures of pool-trials: every trial is drawn, at its place, and no label touches another."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest

import cardiometa as cm
from cardiometa.reports.figures.forest import (
    ForestRow,
    ForestSpec,
    arrange,
    forest_plot,
    log_ticks,
)
from cardiometa.reports.figures.pooling import forest_spec
from tests.kit.printed import estimate, interval, p_value, printed, ratio

SVG = "{http://www.w3.org/2000/svg}"
MAIN = {"source": "harmonised", "arm": "active"}


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter(f"{SVG}text")]


def count(svg: str, kind: str) -> int:
    return svg.count(f'id="mark-{kind}"')


def places(svg: str) -> list[tuple[str, float, float, str]]:
    """Each text with its anchor's place and alignment."""
    found = []
    for node in ET.fromstring(svg).iter(f"{SVG}text"):
        style = node.get("style") or ""
        anchor = re.search(r"text-anchor: (\w+)", style)
        where = re.search(r"translate\(([-\d.]+) ([-\d.]+)\)", node.get("transform") or "")
        x, y = where.groups() if where else (node.get("x"), node.get("y"))
        kind = anchor.group(1) if anchor else "start"
        found.append(("".join(node.itertext()), float(x), float(y), kind))
    return found


def test_files_are_named_after_what_they_show(pooled, compared, events):
    def names(run):
        return {path.stem for path in (run.out / "figures").iterdir()}

    assert names(pooled) == {
        "forest", "forest-by-sex", "forest-by-age-years", "funnel", "regression-year",
        "spline-age-years",
    } | {name for name in names(pooled) if name.startswith("forest-by")}  # fmt: skip
    assert names(compared) == {"forest", "forest-reported"}
    assert names(events) == {"forest"}
    for run in (pooled, compared, events):
        for path in (run.out / "figures").glob("*.png"):
            assert path.read_bytes().startswith(b"\x89PNG")


# ------------------------------------------------------------------ forest plots


def test_every_trial_is_a_line_of_the_forest_plot(pooled):
    svg = pooled.svg("forest")
    found = texts(svg)
    rows = pooled.rows("effects.csv", analysis="trial", **MAIN)
    for row in rows:
        assert row["trial"] in found
        assert estimate(row, 2) in found
        assert printed(row["weight_percent"], 1) in found
    assert count(svg, "trial") == len(rows) == 12
    assert count(svg, "pooled") == 1
    assert count(svg, "subgroup-pooled") == 1  # hollow: the one-stage model as sensitivity
    assert count(svg, "prediction") == 1


def test_trials_stand_in_the_order_of_the_file(pooled):
    names = [row["trial"] for row in pooled.rows("effects.csv", analysis="trial", **MAIN)]
    found = [(y, text) for text, _, y, _ in places(pooled.svg("forest")) if text in names]
    assert [text for _, text in sorted(found)] == names


def test_lines_of_the_forest_plot_do_not_touch(pooled):
    by_column: dict[tuple[float, str], list[float]] = {}
    for text, x, y, anchor in places(pooled.svg("forest")):
        if text.strip():
            by_column.setdefault((round(x), anchor), []).append(y)
    for column in by_column.values():
        for above, below in pairwise(sorted(column)):
            assert below - above > 6.5


def test_pooled_effects_and_heterogeneity_are_below_the_trials(pooled):
    found = " ".join(texts(pooled.svg("forest")))
    rows = pooled.rows("effects.csv", analysis="pooled", headline="true", **MAIN)
    for row in rows:
        assert estimate(row, 2) in found
    two_stage = next(row for row in rows if row["model"] == "two-stage")
    assert f"({interval(two_stage['pi_low'], two_stage['pi_high'], 2)})" in found
    line = pooled.row("heterogeneity.csv", arm="active", headline="true")
    for part in (f"τ = {printed(line['tau'], 3)}", f"I² = {printed(line['i2_percent'], 0)}%",
                 f"Q = {printed(line['q'], 1)}, df = {line['q_df']}"):  # fmt: skip
        assert part in found
    assert f"p = {p_value(two_stage['p'])}" in found.replace("< ", "= <")


def test_the_description_has_every_number_in_words(pooled):
    root = ET.fromstring(pooled.svg("forest"))
    description = root.find(f"{SVG}desc").text
    for row in pooled.rows("effects.csv", analysis="trial", **MAIN):
        weight = float(row["weight_percent"])
        assert f"{row['trial']}: {estimate(row, 2)}, weight {weight:.1f}%." in description
    assert (
        root.find(f"{SVG}title").text
        == "Mean difference in LV EF, percentage points: active versus control"
    )


def test_ratios_stand_on_a_log_axis(events):
    svg = events.svg("forest")
    found = texts(svg)
    for row in events.rows("effects.csv", analysis="trial", arm="active"):
        if row["estimate"]:
            assert ratio(row, 2) in found
        else:
            assert "n<10 (events)" in found
    assert "1" in found  # the tick of no effect
    assert "Lower with active" in found
    assert "Events\u00a0/\u00a0n" in found


def test_log_ticks_are_one_two_five_and_labelled_as_ratios():
    ticks = log_ticks(0.08, 12.0)
    assert [label for _, label in ticks] == ["0.1", "0.2", "0.5", "1", "2", "5", "10"]
    assert [value for value, _ in log_ticks(1e-6, 1e6)] == [10.0**n for n in range(-6, 7)]
    narrow = log_ticks(0.9, 1.15)
    assert len(narrow) >= 3
    assert all(0.9 <= value <= 1.15 for value, _ in narrow)


# ------------------------------------------------------------------ two panels


def rows(count: int, *, seed: float = 1.0) -> tuple[ForestRow, ...]:
    return tuple(
        ForestRow(label=f"T{n}", estimate=seed * n, ci_low=seed * n - n - 1, ci_high=seed * n + 2)
        for n in range(count)
    )


def test_both_panels_have_one_scale_and_aligned_rows(pooled):
    svg = pooled.svg("forest-by-sex")
    found = places(svg)
    names = [row["trial"] for row in pooled.rows("effects.csv", analysis="trial", **MAIN)]
    sides: dict[str, list[tuple[float, float]]] = {}
    for text, x, y, _ in found:
        if text in names:
            sides.setdefault(text, []).append((x, y))
    for name in names:
        (left, first), (right, second) = sorted(sides[name])
        assert left < right
        assert first == pytest.approx(second, abs=0.2)


def test_effects_by_level_are_hollow_and_the_interaction_is_filled(pooled):
    svg = pooled.svg("forest-by-sex")
    rows = pooled.rows("effects.csv", analysis="subgroup", term="treatment:sex", **MAIN)
    levels = [row for row in rows if row["trial"] == ""]
    assert count(svg, "subgroup-pooled") == len(levels) == 2
    assert count(svg, "pooled") == 1
    row = next(
        row
        for row in pooled.rows("effects.csv", analysis="interaction", term="treatment:sex",
                               headline="true", model="two-stage", **MAIN)
        if row["trial"] == ""
    )  # fmt: skip
    foot = " ".join(texts(svg))
    holm = f" (after Holm {p_value(row['p_holm'])})"
    assert f"Interaction within trials: p = {p_value(row['p'])}{holm}." in foot


def test_panels_of_unequal_rows_are_refused():
    one = ForestSpec(rows=rows(2), effect_label="x")
    with pytest.raises(ValueError, match="same number of rows"):
        forest_plot(one, ForestSpec(rows=rows(3), effect_label="y"), title="t")


def test_panels_share_the_longer_axis():
    left = ForestSpec(rows=rows(3), effect_label="x")
    right = ForestSpec(rows=rows(3, seed=4.0), effect_label="y")
    axes = [arrange(spec)[0] for spec in (left, right)]
    spans = [axis.high - axis.low for axis in axes]
    svg = forest_plot(left, right, title="t").svg
    assert len(set(spans)) == 2
    ticks = [
        (x, float(text.replace("−", "-")))
        for text, x, _, anchor in places(svg)
        if anchor == "middle" and re.fullmatch(r"−?[\d.]+", text)
    ]
    middle = max(x for x, _ in ticks) / 2
    scales = []
    for half in ([t for t in ticks if t[0] < middle], [t for t in ticks if t[0] >= middle]):
        (x0, v0), (x1, v1) = half[0], half[-1]
        scales.append((x1 - x0) / (v1 - v0))
    assert scales[0] == pytest.approx(scales[1], rel=0.02)


# ------------------------------------------------------------------ points and curves


def marks(svg: str, group: str) -> int:
    """The marks of a collection of points."""
    root = ET.fromstring(svg)
    node = next(g for g in root.iter(f"{SVG}g") if g.get("id") == group)
    return sum(1 for _ in node.iter(f"{SVG}use")) or sum(1 for _ in node.iter(f"{SVG}path"))


def test_the_funnel_shows_each_trial(pooled):
    svg = pooled.svg("funnel")
    assert marks(svg, "PathCollection_1") == 12
    assert "Standard error" in texts(svg)
    description = ET.fromstring(svg).find(f"{SVG}desc").text
    assert description.startswith("12 trials; shaded: pseudo 95% confidence region")


def test_the_regression_shows_trials_that_may_be_shown(pooled):
    svg = pooled.svg("regression-year")
    root = ET.fromstring(svg)
    groups = [g for g in root.iter(f"{SVG}g") if (g.get("id") or "").startswith("PathCollection")]
    drawn = sum(len(list(g.iter(f"{SVG}use"))) or len(list(g.iter(f"{SVG}path"))) for g in groups)
    assert 10 <= drawn <= 12
    assert "Year of the trial" in texts(svg)


def test_the_spline_is_against_its_reference(pooled):
    svg = pooled.svg("spline-age-years")
    reference = float(pooled.rows("spline.csv", kind="curve")[0]["reference"])
    found = texts(svg)
    assert f"Difference from the effect at {reference:g}" in found
    assert "Age, years" in found


@pytest.mark.parametrize("name", ["forest", "forest-by-sex", "forest-by-age-years", "funnel",
                                  "regression-year", "spline-age-years"])  # fmt: skip
def test_no_text_lies_outside_its_figure(pooled, name):
    svg = pooled.svg(name)
    width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)', svg).groups())
    for text, x, y, _ in places(svg):
        if text.strip():
            assert -1 <= x <= width + 1, text
            assert -1 <= y <= height + 1, text


def test_figures_of_a_run_differ(pooled):
    svgs = [path.read_text(encoding="utf-8") for path in (pooled.out / "figures").glob("*.svg")]
    assert all(a != b for a, b in combinations(svgs, 2))
    titles = [ET.fromstring(svg).find(f"{SVG}title").text for svg in svgs]
    assert len(set(titles)) == len(titles)


# ------------------------------------------------------------------ harmonised and reported


def test_reported_effects_are_hollow_and_below_the_harmonised(compared):
    svg = compared.svg("forest-reported")
    assert count(svg, "trial") == count(svg, "aggregate") == 4
    assert count(svg, "pooled") == count(svg, "subgroup-pooled") == 1
    labels = [(y, t) for t, _, y, _ in places(svg) if t in ("Harmonised", "As reported")]
    assert [text for _, text in sorted(labels)] == ["Harmonised", "As reported"] * 5
    decimals = 1
    for source in ("harmonised", "reported"):
        for row in compared.rows("effects.csv", analysis="trial", source=source):
            assert estimate(row, decimals) in texts(svg)


def test_the_comparison_names_what_harmonising_changes(compared):
    foot = " ".join(texts(compared.svg("forest-reported")))
    rows = {row["quantity"]: row for row in compared.rows("compare_reported.csv")}
    for quantity, name in (("residual SD", "residual SD"), ("tau", "τ")):
        row = rows[quantity]
        pair = f"{printed(row['harmonised'], 2)} harmonised, {printed(row['reported'], 2)}"
        assert f"{name} {pair} as reported" in foot
    assert not math.isnan(float(rows["tau"]["difference"]))


@pytest.mark.parametrize("extra", [0, 1, 40])
def test_a_forest_plot_of_very_many_trials_shows_those_of_most_weight(extra):
    number = 150 + extra
    draw = np.random.default_rng(2)
    table = pd.DataFrame(
        {
            "trial": [f"T{i:03d}" for i in range(number)],
            "estimate": draw.normal(2, 1, number),
            "se": draw.uniform(0.2, 1, number),
        }
    )
    result = cm.pool_trials(table, effect="follow-up", leave_one_out=False).result
    spec = forest_spec(result, result.arms[0])
    shown = {row.label for row in spec.rows if row.kind == "aggregate"}
    assert shown == set(table.sort_values("se")["trial"].head(150))
    assert any("150 trials of greatest weight, of" in row.label for row in spec.rows) == (extra > 0)


def test_of_trials_with_equal_weights_none_displaces_a_heavier_one():
    light, heavy = 160, 20
    table = pd.DataFrame(
        {
            "trial": [f"T{i:03d}" for i in range(light + heavy)],
            "estimate": np.linspace(1, 3, light + heavy),
            "se": [0.8] * light + [0.4] * heavy,
        }
    )
    result = cm.pool_trials(table, effect="follow-up", leave_one_out=False).result
    spec = forest_spec(result, result.arms[0])
    shown = {row.label for row in spec.rows if row.kind == "aggregate"}
    assert len(shown) == 150
    assert set(table["trial"][light:]) <= shown
