"""The bull's eye of the AHA segments: that of a scan's card, and each trial's mean.

Base outside, apex inside, anterior above, septum at the left (Cerqueira et al., Circulation
105:539, 2002). A few lines of SVG, because a page may have hundreds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from ..style import Drawing, counted, shown

if TYPE_CHECKING:
    import pandas as pd

_SIZE: Final = 120
_RADII: Final = (57, 40, 24, 8)  # borders of the rings from base to apex
_MOST_TRIALS: Final = 8
# Ring, first and last angle (degrees, counter-clockwise from the right) of each segment.
_ARCS: Final = (
    *((ring, 60 + 60 * k, 120 + 60 * k) for ring in (0, 1) for k in range(6)),
    *((2, 45 + 90 * k, 135 + 90 * k) for k in range(4)),
)
# What is drawn, its name, and the values of the lightest and the darkest blue.
SHOWN: Final = (
    ("thickness_ed_mm", "wall thickness at ED, mm", (4.0, 16.0)),
    ("thickening_percent", "thickening, %", (0.0, 80.0)),
)


def bulls_eye_svg(values: Sequence[float | None], span: tuple[float, float], label: str) -> str:
    """The 16 values, rounded, in segments that are the darker the nearer to the end of ``span``.

    A value that is None or NaN is a dash in a white segment.
    """
    middle, parts = _SIZE / 2, []

    def at(radius: float, degrees: float) -> str:
        turn = math.radians(degrees)
        return f"{middle + radius * math.cos(turn):.1f} {middle - radius * math.sin(turn):.1f}"

    for value, (ring, first, last) in zip(values, _ARCS, strict=True):
        of_span = ((span[0] if value is None else value) - span[0]) / (span[1] - span[0])
        share = min(max(of_span, 0.0), 1.0) if math.isfinite(of_span) else 0.0
        fill = ",".join(f"{a + share * (b - a):.0f}" for a, b in ((255, 8), (255, 69), (255, 148)))
        outer, inner = _RADII[ring], _RADII[ring + 1]
        x, y = at((outer + inner) / 2, (first + last) / 2).split()
        parts.append(
            f'<path d="M{at(outer, first)}A{outer} {outer} 0 0 0 {at(outer, last)}'
            f'L{at(inner, last)}A{inner} {inner} 0 0 1 {at(inner, first)}Z" fill="rgb({fill})" '
            f'stroke="#888" stroke-width=".6"/><text x="{x}" y="{float(y) + 2.8:.1f}" '
            'text-anchor="middle" '
            f'style="fill:{"#fff" if share > 0.5 else "#222"}">{shown(value, 0)}</text>'
        )
    return (
        f'<svg class="curve" role="img" aria-label="{escape(label)}" width="{_SIZE}" '
        f'height="{_SIZE}" viewBox="0 0 {_SIZE} {_SIZE}">{"".join(parts)}</svg>'
    )


def bulls_eye_figure(segments: pd.DataFrame | None, caption: str) -> Drawing | None:
    """Mean thickness and thickening by trial, of ``segments.csv``; None without any value."""
    if segments is None or segments["thickness_ed_mm"].isna().all():
        return None
    known = segments.dropna(subset=["thickness_ed_mm"])
    trials = list(known.groupby("trial", sort=True))[:_MOST_TRIALS]
    width, height = 190, _SIZE + 34
    parts = []
    for row, (trial, rows) in enumerate(trials):
        scans = counted(len(rows[["participant_id", "visit"]].drop_duplicates()), "scan")
        for column, (name, title, span) in enumerate(SHOWN):
            means = rows.groupby("segment")[name].mean().reindex(range(1, 17))
            svg = bulls_eye_svg(means.tolist(), span, f"{trial}: {title}")
            x, y = column * width, row * height
            parts.append(
                f'<g transform="translate({x} {y})"><text x="4" y="11" font-weight="bold">'
                f"{escape(str(trial)) if column == 0 else ''}</text>"
                f'<text x="4" y="23">{escape(title)}, {scans}</text>'
                f'<g transform="translate(20 30)">{svg}</g></g>'
            )
    size = f"{len(SHOWN) * width} {len(trials) * height}"
    title = "Wall thickness and thickening by segment"
    return Drawing(
        title=title,
        caption=caption,
        svg=f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" '
        f'viewBox="0 0 {size}" width="{len(SHOWN) * width}" '
        'font-family="Helvetica, Arial, sans-serif" '
        f'font-size="8.5" fill="#1a1a1a">{"".join(parts)}</svg>',
    )
