"""How reports print names, numbers and figures.

Names of measures and units as a journal prints them; numbers as roundings of the CSV value, with
the signs that journals print; the style of every figure (small sans type, colours that are
distinct in all forms of colour vision, equal input gives equal bytes). Figures are drawn by
matplotlib's Agg, which is loaded with the first one; pyplot and its global state are not used.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PARTS: Final = {
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
    "per": "PER",
    "pfr": "PFR",
    "time": "time to PFR",
    "dvr80": "DVR80",
    "wall": "maximal wall thickness",
    "gcs": "GCS (contour-based)",
}
_OTHERS: Final = {
    "heart_rate_bpm": "Heart rate",
    "bsa_m2": "Body surface area",
    "age_years": "Age",
    "height_cm": "Height",
    "weight_kg": "Weight",
    "bmi_kg_m2": "Body mass index",
    "sex": "Sex",
    "ethnicity": "Ethnicity",
}
_LONG_NAMES: Final = {
    "LV": "left ventricle",
    "RV": "right ventricle",
    "EDV": "end-diastolic volume",
    "ESV": "end-systolic volume",
    "SV": "stroke volume",
    "EF": "ejection fraction",
    "CO": "cardiac output",
    "PER": "peak ejection rate",
    "PFR": "peak filling rate",
    "GCS": "circumferential strain from the endocardial contour, a surrogate of feature tracking",
    "DVR80": "share of diastole until 80 % of the stroke volume has come back",
}


def abbreviations(columns: Iterable[str]) -> str:
    """The short names in these measures, spelt out; empty where there is none.

    ``LV left ventricle, EF ejection fraction.``
    """
    used = {part for column in columns for part in measure_name(column).split()}
    named = [f"{short} {name}" for short, name in _LONG_NAMES.items() if short in used]
    return f"{', '.join(named)}." if named else ""


def measure_name(column: str) -> str:
    """``lv_edvi_ml_m2`` as ``LV EDV index``; a user-defined column stays as it is."""
    chamber, _, rest = column.partition("_")
    part = _PARTS.get(rest.partition("_")[0])
    named = f"{chamber.upper()} {part}" if chamber in ("lv", "rv") and part else column
    return _OTHERS.get(column, named)


def unit_name(unit: str) -> str:
    """``mL/m2`` as ``mL/m²``; the rate ``1/min`` as ``beats/min``."""
    return "beats/min" if unit == "1/min" else unit.replace("m2", "m²")


def measure_label(column: str, unit: str) -> str:
    """``LV EDV index, mL/m²``."""
    return f"{measure_name(column)}, {unit_name(unit)}" if unit else measure_name(column)


MINUS, DASH = "−", "–"
# Sources of ``--compare-reported`` as columns of a table, by the name their values start with.
COMPARED: Final = {
    "As reported": "reported",
    "ComBat of reported": "combat",
    "Harmonised": "harmonised",
    "Reported − harmonised": "difference",
    "ComBat − harmonised": "combat_difference",
}


def shown(value: float | None, decimals: int = 1) -> str:
    """``-3.14`` as ``−3.1``: a true minus, no ``−0.0``; a dash for a missing value."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{value:.{decimals}f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", MINUS)


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
    """``−3.2 (−5.1 to −1.3)``; the estimate alone without an interval, a dash without both."""
    if estimate is None or low is None:
        return shown(estimate, decimals)
    return f"{shown(estimate, decimals)} ({shown_interval(low, high, decimals)})"


def shown_count(value: float | None) -> str:
    """``12345`` as ``12 345`` with a no-break thin space; four digits are not split."""
    text = shown(value, 0)
    if len(text.lstrip(MINUS)) > 4:
        text = f"{round(value or 0):,d}".replace(",", "\u202f").replace("-", MINUS)
    return text


def counted(count: float, noun: str) -> str:
    """``1 trial``, ``12 trials``."""
    return f"{shown_count(count)} {noun}{'' if count == 1 else 's'}"


def shown_p(p: float | None) -> str:
    """A p value as journals print it: three decimals, two where it is larger."""
    small = p is not None and p < 0.001
    return "<0.001" if small else shown(p, 3 if (p or 0) < 0.1 else 2)


def p_equals(p: float | None) -> str:
    """``= 0.032`` or ``< 0.001``: what follows a p."""
    text = shown_p(p)
    return f"< {text[1:]}" if text.startswith("<") else f"= {text}"


# Okabe & Ito's palette (2008), in an order whose first colours also differ in grey.
PALETTE: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK: Final = "#1a1a1a"
SOFT: Final = "#666666"
HAIR: Final = "#d0d0d0"

# Text is measured with DejaVu Sans, which matplotlib carries, so that the layout is the same on
# every machine; an SVG is shown in the narrower Helvetica or Arial, so no texts can touch.
MEASURED_FONT: Final = "DejaVu Sans"
SHOWN_FONTS: Final = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"

_RC: Final[dict[str, Any]] = {
    "font.family": "sans-serif",
    "font.sans-serif": [MEASURED_FONT],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": f"cycler('color', {list(PALETTE)})",
    **{f"{axis}tick.labelsize": 8 for axis in "xy"},
    **{f"{axis}tick.color": INK for axis in "xy"},
    **{f"{axis}tick.major.width": 0.7 for axis in "xy"},
    **{f"{axis}tick.major.size": 3 for axis in "xy"},
    "text.color": INK,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "cardiometa",
    "text.parse_math": False,  # a trial may be called "$x$"
}


@contextmanager
def figure_style() -> Iterator[None]:
    """The settings under which figures are made and saved; the caller's are restored after."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        settings: Any = mpl.rcParams
        settings.update(_RC)
        # Scripts that DejaVu lacks are boxes in a PNG, but correct in the SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def note_at_right(axes: Axes, y: float, text: str, colour: str, *, x: float = 1.02) -> None:
    """A text at the right of the plot, at the height of a value."""
    place = ("axes fraction", "data")
    axes.annotate(text, (x, y), xycoords=place, va="center", fontsize=8, color=colour)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure: its title, caption and SVG text; notebooks show the SVG.

    ``source`` is matplotlib's figure, None where the SVG was written directly.
    """

    title: str
    svg: str
    caption: str = ""
    source: Figure | None = field(default=None, repr=False, compare=False)

    @cached_property
    def png(self) -> bytes:
        """The figure as PNG bytes, 300 dpi, without software name or date."""
        if self.source is None:
            raise ValueError(f"{self.title!r} is drawn as SVG only")
        buffer = io.BytesIO()
        # Half the time of the default compression for a tenth more bytes.
        options: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}}
        with figure_style():
            self.source.savefig(
                buffer, format="png", dpi=300, metadata={"Software": None}, **options
            )
        return buffer.getvalue()

    def _repr_svg_(self) -> str:
        return self.svg


def drawing(
    size_mm: tuple[float, float],
    draw: Callable[[Figure], object],
    title: str,
    description: str,
    caption: str = "",
) -> Drawing:
    """What ``draw`` puts on an empty figure of that size (width, height).

    Title and description are in the SVG for screen readers; there is no date in it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with figure_style():
        figure = Figure(figsize=(size_mm[0] / 25.4, size_mm[1] / 25.4), dpi=72)
        FigureCanvasAgg(figure)
        draw(figure)
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None}
        )
    svg = buffer.getvalue().replace(f"'{MEASURED_FONT}'", SHOWN_FONTS)
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", svg)
    head = '<svg role="img" aria-labelledby="title desc"'
    named = f'<title id="title">{escape(title)}</title>\n<desc id="desc">{escape(description)}'
    svg = re.sub(
        r"<svg\b([^>]*)>", lambda match: f"{head}{match[1]}>\n {named}</desc>", svg, count=1
    )
    return Drawing(title=title, svg=svg, caption=caption, source=figure)
