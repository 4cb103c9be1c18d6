"""The axis of a forest plot: limits that hold what matters, ticks that do not collide."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import numpy as np
from matplotlib.ticker import MaxNLocator

from .forest_spec import ForestSpec
from .numbers import MINUS


class _Ruler(Protocol):
    def width(self, text: str, *, size: float = ..., bold: bool = ...) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A value's place in points: linear, or linear in the logarithm."""

    left: float
    right: float
    low: float
    high: float
    log_scale: bool
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Points from the figure's left edge; values beyond the limits lie beyond the plot."""
        low, at, high = (_scaled(x, log=self.log_scale) for x in (self.low, value, self.high))
        return self.left + (at - low) / (high - low) * (self.right - self.left)

    def clipped(self, value: float) -> float:
        """The place, held inside the plot."""
        return min(max(self.place(value), self.left), self.right)


def choose_axis(spec: ForestSpec, left: float, right: float, ruler: _Ruler) -> Axis:
    """Limits and ticks for the rows of a plot, between ``left`` and ``right`` points."""
    low, high = spec.axis_limits or _limits(spec)
    values = _log_ticks(low, high) if spec.log_scale else _linear_ticks(low, high)
    axis = Axis(left=left, right=right, low=low, high=high, log_scale=spec.log_scale, ticks=())
    labels = _labels(values)
    ticks = tuple(zip(values, labels, strict=True))
    step = 1
    while not _fit(axis, ticks[::step], ruler) and step < len(ticks):
        step += 1
    return Axis(
        left=left,
        right=right,
        low=low,
        high=high,
        log_scale=spec.log_scale,
        ticks=_around(ticks, spec.null_value, step),
    )


def _scaled(value: float, *, log: bool) -> float:
    return math.log(value) if log else value


def _limits(spec: ForestSpec) -> tuple[float, float]:
    """The estimates, the null and the pooled intervals whole; others up to three usual widths.

    Without this rule one tiny trial presses all the others into a line.
    """
    points = [_scaled(spec.null_value, log=spec.log_scale)]
    spans: list[tuple[float, float, float, str]] = []
    for row in spec.rows:
        if row.ci_low is None or row.ci_high is None:
            continue
        low = _scaled(row.ci_low, log=spec.log_scale)
        high = _scaled(row.ci_high, log=spec.log_scale)
        middle = (
            (low + high) / 2 if row.estimate is None else _scaled(row.estimate, log=spec.log_scale)
        )
        spans.append((low, middle, high, row.kind))
    usual = median([high - low for low, _, high, _ in spans]) if spans else 1.0
    for low, middle, high, kind in spans:
        reach = math.inf if kind in ("pooled", "subgroup-pooled") else 1.5 * usual
        points += [middle, max(low, middle - reach), min(high, middle + reach)]
    span = (max(points) - min(points)) or 1.0
    null = points[0]
    # Room on both sides of the null, where the reader looks for "favours".
    low = min(min(points) - 0.04 * span, null - 0.15 * span)
    high = max(max(points) + 0.04 * span, null + 0.15 * span)
    return (math.exp(low), math.exp(high)) if spec.log_scale else (low, high)


def _linear_ticks(low: float, high: float) -> list[float]:
    found = MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(x) for x in found if low <= x <= high]


def _log_ticks(low: float, high: float) -> list[float]:
    """1-2-5 in each decade; where these are fewer than three, nice linear ones."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
    if len(found) > 9:
        found = [10.0**d for d in decades if low <= 10.0**d <= high]
    return found if len(found) >= 3 else [x for x in _linear_ticks(low, high) if x > 0]


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """The ticks of a log axis between two ratios, with their labels."""
    values = _log_ticks(low, high)
    return list(zip(values, _labels(values), strict=True))


def _labels(values: Sequence[float]) -> list[str]:
    """As many decimals as tell the ticks from one another, and no more."""
    if not values:
        return []
    texts = [np.format_float_positional(round(x, 12) + 0.0, trim="-") for x in values]
    return [text.replace("-", MINUS) for text in texts]


def _fit(axis: Axis, ticks: Iterable[tuple[float, str]], ruler: _Ruler) -> bool:
    last = -math.inf
    for value, label in ticks:
        half = ruler.width(label, size=8.0) / 2
        if axis.place(value) - half < last + 5:
            return False
        last = axis.place(value) + half
    return True


def _around(
    ticks: Sequence[tuple[float, str]], null: float, step: int
) -> tuple[tuple[float, str], ...]:
    """Every ``step``-th tick, such that the one at the null value stays."""
    at = next((i for i, (value, _) in enumerate(ticks) if math.isclose(value, null)), 0)
    return tuple(ticks[at % step :: step])
