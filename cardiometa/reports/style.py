"""How reports print names, numbers and figures.

Names of measures and units as a journal prints them; numbers as roundings of the CSV value, with
the signs that journals print; the style of every figure (small sans type, colours that are
distinct in all forms of colour vision, equal input gives equal bytes). Figures are matplotlib
``Figure`` objects drawn by Agg; pyplot and its global state are not used.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import Any, Final

import matplotlib as mpl
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_PARTS: Final = MappingProxyType(
    {
        "edv": "EDV",
        "esv": "ESV",
        "sv": "SV",
        "ef": "EF",
        "mass": "mass",
        "co": "CO",
        "edvi": "EDV index",
        "esvi": "ESV index",
        "svi": "SV index",
        "massi": "mass index",
    }
)
_OTHERS: Final = MappingProxyType(
    {
        "heart_rate_bpm": "Heart rate",
        "bsa_m2": "Body surface area",
        "age_years": "Age",
        "height_cm": "Height",
        "weight_kg": "Weight",
    }
)
_LONG_NAMES: Final = MappingProxyType(
    {
        "LV": "left ventricle",
        "RV": "right ventricle",
        "EDV": "end-diastolic volume",
        "ESV": "end-systolic volume",
        "SV": "stroke volume",
        "EF": "ejection fraction",
        "CO": "cardiac output",
    }
)


def abbreviations(columns: Iterable[str]) -> str:
    """The short names in these measures, spelt out; empty where there is none.

    ``LV left ventricle, EF ejection fraction.``
    """
    used = {part for column in columns for part in measure_name(column).split()}
    named = [f"{short} {name}" for short, name in _LONG_NAMES.items() if short in used]
    return f"{', '.join(named)}." if named else ""


def measure_name(column: str) -> str:
    """``lv_edvi_ml_m2`` as ``LV EDV index``; a user-defined column stays as it is."""
    if column in _OTHERS:
        return _OTHERS[column]
    chamber, _, rest = column.partition("_")
    part = _PARTS.get(rest.partition("_")[0])
    return f"{chamber.upper()} {part}" if chamber in ("lv", "rv") and part else column


def unit_name(unit: str) -> str:
    """``mL/m2`` as ``mL/m²``; the rate ``1/min`` as ``beats/min``."""
    if unit == "1/min":
        return "beats/min"
    return unit.replace("m2", "m²")


def measure_label(column: str, unit: str) -> str:
    """``LV EDV index, mL/m²``."""
    return f"{measure_name(column)}, {unit_name(unit)}" if unit else measure_name(column)


MINUS, DASH = "−", "–"


def shown(value: float | None, decimals: int = 1) -> str:
    """``-3.14`` as ``−3.1``: a true minus, no ``−0.0``; a dash for a missing value."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def shown_interval(low: float | None, high: float | None, decimals: int = 1) -> str:
    """``−5.1 to −1.3``: *to*, because a dash between negative numbers misleads the eye."""
    return f"{shown(low, decimals)} to {shown(high, decimals)}"


def shown_range(values: Iterable[float | None], decimals: int = 1) -> str:
    """``82–171``; ``−3 to 4`` where a number is negative."""
    texts = [shown(value, decimals) for value in values]
    return (" to " if any(MINUS in text for text in texts) else "–").join(texts)


def shown_estimate(
    estimate: float | None, low: float | None, high: float | None, decimals: int = 1
) -> str:
    """``−3.2 (−5.1 to −1.3)``."""
    return f"{shown(estimate, decimals)} ({shown_interval(low, high, decimals)})"


def shown_count(value: float | None) -> str:
    """``12345`` as ``12 345`` with a no-break thin space; four digits are not split."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{round(value):d}"
    if len(text.lstrip("-")) > 4:
        text = f"{round(value):,d}".replace(",", "\u202f")
    return text.replace("-", MINUS)


def counted(count: float, noun: str) -> str:
    """``1 trial``, ``12 trials``."""
    return f"{shown_count(count)} {noun}{'' if count == 1 else 's'}"


def shown_p(p: float | None) -> str:
    """A p value as journals print it: three decimals, two where it is larger."""
    if p is None or not math.isfinite(p):
        return DASH
    return "<0.001" if p < 0.001 else shown(p, 3 if p < 0.1 else 2)


def p_equals(p: float | None) -> str:
    """``= 0.032`` or ``< 0.001``: what follows a p."""
    text = shown_p(p)
    return f"< {text[1:]}" if text.startswith("<") else f"= {text}"


# Okabe & Ito's palette (2008), in an order whose first colours also differ in grey.
PALETTE: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK: Final = "#1a1a1a"
SOFT: Final = "#666666"
HAIR: Final = "#d0d0d0"
POINTS_PER_MM: Final = 72 / 25.4

# Text is measured with DejaVu Sans, which matplotlib carries, so that the layout is the same on
# every machine; an SVG is shown in the narrower Helvetica or Arial, so no texts can touch.
_MEASURED: Final = "DejaVu Sans"
_SHOWN: Final = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"

_RC: Final[dict[str, Any]] = {
    "font.family": "sans-serif",
    "font.sans-serif": [_MEASURED],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=list(PALETTE)),
    "axes.unicode_minus": True,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "text.color": INK,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "figure.autolayout": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "cardiometa",
    "path.simplify": True,
    "text.parse_math": False,  # a trial may be called "$x$"
}


@contextmanager
def figure_style() -> Iterator[None]:
    """The settings under which figures are made and saved; the caller's are restored after."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        settings: Any = mpl.rcParams
        settings.update(_RC)
        # Scripts that DejaVu lacks are boxes in a PNG, but correct in the SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def new_figure(width_mm: float, height_mm: float) -> Figure:
    """An empty figure of that size; make it and draw on it inside `figure_style`."""
    size = (width_mm / 25.4, height_mm / 25.4)
    figure = Figure(figsize=size, dpi=72)
    FigureCanvasAgg(figure)
    return figure


def figure_svg(figure: Figure, *, title: str = "", description: str = "") -> str:
    """A figure as SVG text with a title and description for screen readers; no date in it."""
    buffer = io.StringIO()
    with figure_style():
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None}
        )
    svg = buffer.getvalue().replace(f"'{_MEASURED}'", _SHOWN)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", svg)
    return _described(svg, title, description)


@dataclass(frozen=True)
class Drawing:
    """A drawn figure: its title, SVG text and PNG bytes (300 dpi); notebooks show the SVG."""

    title: str
    svg: str
    png: bytes

    def _repr_svg_(self) -> str:
        return self.svg


def drawing(figure: Figure, title: str, description: str) -> Drawing:
    """A figure with its title and description in both formats."""
    svg = figure_svg(figure, title=title, description=description)
    return Drawing(title=title, svg=svg, png=figure_png(figure, dpi=300))


def figure_png(figure: Figure, dpi: int = 300) -> bytes:
    """A figure as PNG bytes without software name or date."""
    buffer = io.BytesIO()
    with figure_style():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _described(svg: str, title: str, description: str) -> str:
    if not title and not description:
        return svg
    inner = (
        f'<title id="title">{escape(title)}</title>\n<desc id="desc">{escape(description)}</desc>'
    )
    return re.sub(
        r"<svg\b([^>]*)>",
        lambda match: f'<svg role="img" aria-labelledby="title desc"{match[1]}>\n {inner}',
        svg,
        count=1,
    )
