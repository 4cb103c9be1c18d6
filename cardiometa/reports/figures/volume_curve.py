"""The volume-time curve of a card: a few lines of SVG, because there may be hundreds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final

_WIDTH: Final = 210
_HEIGHT: Final = 74
_LEFT: Final = 30
_RIGHT: Final = 20
_TOP: Final = 6
_BOTTOM: Final = 14
LV_COLOUR: Final = "#c8372d"
RV_COLOUR: Final = "#8a6d00"


def curve_svg(
    lv_ml: Sequence[float | None],
    rv_ml: Sequence[float | None],
    marked_frames: Sequence[int],
    label: str,
) -> str:
    """LV (solid) and RV (dashed) volume in mL by frame; dots at the marked frames of the LV.

    Frames whose volume is unknown are gaps. The volume axis starts at 0.
    """
    known = [v for v in (*lv_ml, *rv_ml) if v is not None and math.isfinite(v)]
    top = _ceiling(max(known, default=1.0))
    frames = max(len(lv_ml), 2)

    def x(frame: int) -> float:
        return _LEFT + frame / (frames - 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(volume: float) -> float:
        return _HEIGHT - _BOTTOM - volume / top * (_HEIGHT - _TOP - _BOTTOM)

    def path(volumes: Sequence[float | None]) -> str:
        parts, pen = [], "M"
        for frame, volume in enumerate(volumes):
            if volume is None or not math.isfinite(volume):
                pen = "M"
                continue
            parts.append(f"{pen}{x(frame):.1f} {y(volume):.1f}")
            pen = "L"
        return "".join(parts)

    base = _HEIGHT - _BOTTOM
    dots = "".join(
        f'<circle cx="{x(frame):.1f}" cy="{y(volume):.1f}" r="2.4" fill="{LV_COLOUR}"/>'
        for frame in marked_frames
        if (volume := lv_ml[frame]) is not None and math.isfinite(volume)
    )
    names = "".join(
        f'<text x="{_WIDTH - _RIGHT + 3}" y="{at:.1f}" fill="{colour}">{name}</text>'
        for name, at, colour in _names(lv_ml, rv_ml, y)
    )
    return (
        f'<svg class="curve" role="img" aria-label="{escape(label)}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f'<path d="M{_LEFT} {_TOP}V{base}H{_WIDTH - _RIGHT}" fill="none" stroke="#888" '
        'stroke-width=".7"/>'
        f'<text x="{_LEFT - 3}" y="{_TOP + 5}" text-anchor="end">{top:g}</text>'
        f'<text x="{_LEFT - 3}" y="{base + 1}" text-anchor="end">0</text>'
        f'<text x="{_LEFT - 3}" y="{(_TOP + base) / 2 + 3:.1f}" text-anchor="end">mL</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 3}">frame 0</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 3}" text-anchor="end">{frames - 1}</text>'
        f'<path d="{path(rv_ml)}" fill="none" stroke="{RV_COLOUR}" stroke-width="1.1" '
        'stroke-dasharray="3 2"/>'
        f'<path d="{path(lv_ml)}" fill="none" stroke="{LV_COLOUR}" stroke-width="1.4"/>'
        f"{dots}{names}</svg>"
    )


def _ceiling(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten, in steps of a quarter of that power."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value)) / 4
    return math.ceil(value / unit) * unit


def _names(
    lv_ml: Sequence[float | None], rv_ml: Sequence[float | None], y: Callable[[float], float]
) -> list[tuple[str, float, str]]:
    """Names beside the curves' last points, kept one line apart."""
    found = []
    for name, volumes, colour in (("LV", lv_ml, LV_COLOUR), ("RV", rv_ml, RV_COLOUR)):
        known = [v for v in volumes if v is not None and math.isfinite(v)]
        if known and max(known) > 0:
            found.append((y(known[-1]) + 3.0, name, colour))
    if len(found) == 2 and abs(found[0][0] - found[1][0]) < 9:
        upper, lower = sorted(found)
        middle = (upper[0] + lower[0]) / 2
        found = [(middle - 4.5, *upper[1:]), (middle + 4.5, *lower[1:])]
    return [(name, at, colour) for at, name, colour in found]
