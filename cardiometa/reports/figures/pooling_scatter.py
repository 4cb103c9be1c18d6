"""Trials as points: the funnel plot (ten trials or more) and the meta-regression's bubbles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ...pooling.options import RATIOS
from ...pooling.results import PoolingResult, RegressionLine
from ...pooling.subgroups.modifiers import PER
from ...statistics.meta import LEAST_TRIALS, t_interval
from ..pages.pooling_tables import effect_label, headline_of, of_arm
from ..style import (
    HAIR,
    INK,
    PALETTE,
    SOFT,
    figure_png,
    figure_style,
    figure_svg,
    measure_name,
    new_figure,
)
from .forest import ForestFigure, log_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


WIDTH_MM, HEIGHT_MM = 120.0, 88.0


def draw_funnel(result: PoolingResult, arm: str) -> ForestFigure | None:
    """Effects against their standard errors; None below ten trials, where it misleads."""
    trials = [row for row in of_arm(result, arm, "trial") if row.estimate is not None and row.se]
    pooled = headline_of(result, arm)
    if len(trials) < LEAST_TRIALS or pooled.estimate is None:
        return None
    x = np.array([row.estimate for row in trials], dtype=float)
    se = np.array([row.se for row in trials], dtype=float)
    hollow = np.array([row.note.startswith("summary data") for row in trials])
    with figure_style():
        figure = new_figure(WIDTH_MM, HEIGHT_MM)
        axes = figure.subplots()
        top = 1.06 * float(se.max())
        half = t_interval(0.0, 1.0, math.inf, result.options.level).high
        centre = float(pooled.estimate)
        axes.fill(
            [centre - half * top, centre, centre + half * top],
            [top, 0.0, top],
            facecolor="#eef2f7",
            edgecolor=HAIR,
            linewidth=0.7,
        )
        axes.axvline(centre, color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.axvline(0.0, color=INK, linewidth=0.7)
        for some, face in ((~hollow, PALETTE[0]), (hollow, "white")):
            axes.scatter(
                x[some],
                se[some],
                s=20,
                facecolor=face,
                edgecolor=PALETTE[0],
                linewidth=0.9,
                zorder=3,
            )
        axes.set_ylim(top, 0.0)
        _effect_axis(axes, result, "x")
        axes.set_ylabel("Standard error" + " (of log)" * (result.options.effect in RATIOS))
        figure.tight_layout()
        title = f"Funnel plot: {arm} versus {result.control}"
        words = (
            f"{len(trials)} trials; the field is the {result.options.level:g}% region about the "
            "pooled effect if nothing but chance moved them."
        )
        svg = figure_svg(figure, title=title, description=words)
    return ForestFigure(svg=svg, png=figure_png(figure, dpi=300))


def draw_regressions(result: PoolingResult, arm: str) -> dict[str, ForestFigure]:
    """A bubble plot of each meta-regression on a number, by covariate."""
    return {line.covariate: _bubbles(result, line) for line in result.lines if line.arm == arm}


def _bubbles(result: PoolingResult, line: RegressionLine) -> ForestFigure:
    points = [
        point
        for point in result.points
        if (point.arm, point.covariate) == (line.arm, line.covariate)
    ]
    with figure_style():
        figure = new_figure(WIDTH_MM, HEIGHT_MM)
        axes = figure.subplots()
        axes.fill_between(line.x, line.low, line.high, color="#eef2f7", linewidth=0)
        axes.plot(line.x, line.estimate, color=INK, linewidth=1.0)
        axes.axhline(0.0, color=SOFT, linewidth=0.7)
        if points:
            most = max(point.weight for point in points)
            axes.scatter(
                [point.value for point in points],
                [point.estimate for point in points],
                s=[max(6.0, 150.0 * point.weight / most) for point in points],
                facecolor=PALETTE[0],
                edgecolor="white",
                linewidth=0.7,
                alpha=0.75,
                zorder=3,
            )
        _effect_axis(axes, result, "y")
        axes.set_xlabel(_words(line.label))
        figure.tight_layout()
        title = f"Meta-regression on {line.label}: {line.arm} versus {result.control}"
        words = "Bubbles: trials, areas by weight; line: the fitted effect with its interval."
        svg = figure_svg(figure, title=title, description=words)
    return ForestFigure(svg=svg, png=figure_png(figure, dpi=300))


def draw_splines(result: PoolingResult, arm: str) -> dict[str, ForestFigure]:
    """The effect over each number of ``--by``, against a reference value, by covariate."""
    covariates = dict.fromkeys(
        row.covariate for row in result.spline if row.arm == arm and row.kind == "curve"
    )
    return {name: _spline(result, arm, name) for name in covariates}


def _spline(result: PoolingResult, arm: str, covariate: str) -> ForestFigure:
    rows = [
        row
        for row in result.spline
        if (row.arm, row.covariate, row.kind) == (arm, covariate, "curve")
    ]
    x = np.array([row.value for row in rows], dtype=float)
    middle, low, high = (
        np.array([getattr(row, name) for row in rows], dtype=float)
        for name in ("estimate", "ci_low", "ci_high")
    )
    reference = float(rows[0].reference or 0.0)
    with figure_style():
        figure = new_figure(WIDTH_MM, HEIGHT_MM)
        axes = figure.subplots()
        axes.axhline(0.0, color=SOFT, linewidth=0.7)
        axes.fill_between(x, low, high, color="#dde6f0", linewidth=0)
        axes.plot(x, middle, color=PALETTE[0], linewidth=1.4)
        slope = _slope_of(result, arm, covariate)
        if slope is not None:
            line = slope * (x - reference)
            axes.plot(x, line, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.plot([reference], [0.0], marker="o", markersize=3.5, color=INK)
        for knot in map(float, rows[0].knots.split(";")):
            if x[0] <= knot <= x[-1]:
                axes.axvline(knot, ymax=0.025, color=INK, linewidth=0.9)
        _effect_axis(axes, result, "y")
        ratio = result.options.effect in RATIOS
        axes.set_ylabel(
            f"{'Ratio to' if ratio else 'Difference from'} the effect at {reference:g}\n"
            f"({effect_label(result)})"
        )
        axes.set_xlabel(measure_name(covariate) + ", years" * covariate.endswith("_years"))
        axes.margins(x=0.0)
        figure.tight_layout()
        title = f"Effect over {covariate}: {arm} versus {result.control}"
        words = "Curve with its interval; dashed: the straight line; ticks: knots."
        svg = figure_svg(figure, title=title, description=words)
    return ForestFigure(svg=svg, png=figure_png(figure, dpi=300))


def _slope_of(result: PoolingResult, arm: str, covariate: str) -> float | None:
    """The pooled linear interaction per unit of the covariate."""
    unit = PER.get(covariate, (1.0, ""))[0]
    for row in result.effects:
        if (
            (row.analysis, row.arm, row.term) == ("interaction", arm, f"treatment:{covariate}")
            and (row.model, row.headline, row.trial) == ("two-stage", True, "")
            and row.estimate is not None
        ):
            return row.estimate / unit
    return None


def _words(label: str) -> str:
    """``mean age_years`` as ``Mean age of the trial, years``."""
    head, _, name = label.rpartition(" ")
    known = measure_name(name)
    unit = ", years" if name.endswith("_years") else ""
    if head and known != name and not name.startswith(("lv_", "rv_")):
        known = known.lower()
    text = f"{head} {known}".strip()
    return f"{text[0].upper()}{text[1:]} of the trial{unit}"


def _effect_axis(axes: Axes, result: PoolingResult, which: str) -> None:
    """The effect's label, and ticks of ratios where the scale is a log."""
    untyped: Any = axes
    getattr(untyped, f"set_{which}label")(effect_label(result))
    if result.options.effect not in RATIOS:
        return
    low, high = getattr(untyped, f"get_{which}lim")()
    ticks = log_ticks(math.exp(low), math.exp(high))
    getattr(untyped, f"set_{which}ticks")(
        [math.log(value) for value, _ in ticks], [label for _, label in ticks]
    )
    getattr(untyped, f"set_{which}lim")(low, high)
