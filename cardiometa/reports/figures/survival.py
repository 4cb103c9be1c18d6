"""Curves of survival and incidence with numbers at risk, of all trials or a panel for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ...pooling.results import PoolingResult, SurvivalRow
from ..page import where
from ..style import DASH, INK, PALETTE, SOFT, Drawing, drawing, measure_name, shown, shown_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What a figure shows: the kinds of rows of ``survival.csv``.
CURVES: Final = {"survival": ("event-free",), "incidence": ("incidence", "competing")}
_WIDTH, _LEFT, _GAP = 180.0, 30.0, 8.0  # mm
_ROW = 4.2  # mm, a line of numbers at risk
_LINES: Final = {"event-free": "-", "incidence": "-", "competing": (0, (1.2, 1.6))}


def draw_curves(
    result: PoolingResult, arm: str, kinds: Sequence[str], *, by_trial: bool
) -> Drawing | None:
    """The curves of these kinds by arm, pooled or ``by_trial``; None where there are none.

    Points are the rows of ``survival.csv``, joined by straight lines; shaded are the intervals.
    """
    rows = [row for row in where(result.survival, arm=arm) if bool(row.trial) == by_trial]
    names = list(dict.fromkeys(row.trial for row in rows if row.kind in kinds))
    if not names:
        return None
    columns = min(len(names), 2 if len(names) < 7 else 3)
    lines = -(-len(names) // columns)
    tall = 62.0 if len(names) == 1 else 40.0
    height = 9.0 + tall + 17.0 + 3 * _ROW
    wide = (_WIDTH - columns * (_LEFT + _GAP)) / columns
    total = height * lines
    top = 1.0
    if "incidence" in kinds:
        top = max(row.ci_high or 0.0 for row in rows if row.kind in kinds)
        top = min(np.ceil(10 * top) / 10, 1.0)

    def draw(figure: Figure) -> None:
        for number, name in enumerate(names):
            line, column = divmod(number, columns)
            left = column * (wide + _LEFT + _GAP) + _LEFT
            bottom = total - line * height - 9.0 - tall
            box = (left / _WIDTH, bottom / total, wide / _WIDTH, tall / total)
            axes = figure.add_axes(box)
            _paint(axes, where(rows, trial=name), result, kinds, first=not number)
            axes.set_ylim(0.0, 100.0 * top)
            axes.set_xlim(0.0, 1.02 * max(row.time for row in rows))
            axes.set_title(name, loc="left", fontsize=8.5, fontweight="bold")
            _numbers_at_risk(axes, where(rows, trial=name, kind="at-risk"), result, tall)

    last = {(row.trial, row.group, row.kind): row for row in rows if row.kind in kinds}
    described = [
        f"{row.trial or 'All trials'}, {row.group}, {row.kind}: "
        f"{shown(100 * (row.estimate or 0.0))}% at {row.time:g}."
        for row in last.values()
    ]
    what = "Free of" if kinds == CURVES["survival"] else "Cumulative incidence of"
    title = f"{what} {_event(result)}: {arm} versus {result.control}"
    title += ", by trial" * by_trial
    return drawing((_WIDTH, total), draw, title, " ".join(described))


def _event(result: PoolingResult) -> str:
    return result.presentation.label or measure_name(result.options.event_column)


def _paint(
    axes: Axes,
    rows: Sequence[SurvivalRow],
    result: PoolingResult,
    kinds: Sequence[str],
    *,
    first: bool,
) -> None:
    """One panel: each arm's curves with their intervals."""
    event, other = _event(result), measure_name(result.options.competing or "")
    for group, colour in _colours(rows, result).items():
        for kind in kinds:
            curve = where(rows, group=group, kind=kind)
            x = [row.time for row in curve]
            y, low, high = (
                [100.0 * (getattr(row, name) or 0.0) for row in curve]
                for name in ("estimate", "ci_low", "ci_high")
            )
            style: Any = _LINES[kind]
            named = {"event-free": group, "incidence": f"{group}: {event}"}
            label = named.get(kind, f"{group}: {other}")
            axes.plot(x, y, color=colour, linewidth=1.3, linestyle=style, label=label)
            axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    if first:
        place: Any = "lower left" if kinds == CURVES["survival"] else "upper left"
        axes.legend(loc=place, fontsize=8, handlelength=2.2, borderaxespad=0.2)
    survives = kinds == CURVES["survival"]
    axes.set_ylabel(f"Free of {event}, %" if survives else "Cumulative incidence, %")


def _colours(rows: Sequence[SurvivalRow], result: PoolingResult) -> dict[str, str]:
    groups = dict.fromkeys(row.group for row in rows)
    return {group: INK if group == result.control else PALETTE[1] for group in groups}


def _numbers_at_risk(
    axes: Axes, rows: Sequence[SurvivalRow], result: PoolingResult, tall: float
) -> None:
    """The ticks of time, and below them a line of numbers for each arm."""
    times = sorted({row.time for row in rows})
    axes.set_xticks(times, [f"{time:g}" for time in times])
    axes.set_xlabel(measure_name(result.options.time or ""), labelpad=2)
    style: dict[str, Any] = {"fontsize": 8, "clip_on": False, "va": "center"}
    heading = {**style, "xycoords": "axes fraction", "textcoords": "offset points", "ha": "right"}

    def name(text: str, y: float, colour: str) -> None:
        axes.annotate(text, (0.0, y), (-14.0, 0.0), color=colour, **heading)

    at = -14.5 / tall
    name("At risk", at, SOFT)
    for number, (group, colour) in enumerate(_colours(rows, result).items(), start=1):
        y = at - number * _ROW / tall
        name(group if len(group) < 15 else f"{group[:13]}…", y, colour)
        for row in where(rows, group=group):
            small = f"<{result.options.min_cell}" if row.note.startswith("n<") else DASH
            text = small if row.n_at_risk is None else shown_count(row.n_at_risk)
            axes.text(row.time, y, text, ha="center", transform=axes.get_xaxis_transform(), **style)
