"""One self-contained HTML page: tables, figures and text, no network, no script.

``page_html("Pooled effects", "LV mass", [Section("Result", "result", (Paragraph("..."),))])``

Everything is escaped by jinja2 except `Html` and the SVG of a `Figure`, which only our own code
makes. Equal input gives equal bytes: there is no date on the page.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from ..provenance import FORMAT_VERSION, RESEARCH_USE, version
from ..records import Figure, Table

INTERNAL_NOTICE = (
    "Internal: this page shows individual participants. It is for the holder of the cohort only; "
    "do not publish or pass it on."
)

_ANCHOR = re.compile(r"[a-z][a-z0-9-]*")
_NUMBER = r"[\d\s.,%±()\[\]/;:e+−–-]*"
_NUMERIC = re.compile(rf"[<>≤≥~≈]?\s*\(?[-−+±]?\d{_NUMBER}(?:to{_NUMBER})*")
_SHORT = 24  # characters up to which a column of text is kept on one line
_WIDE = 9  # columns from which a table is set smaller, so that it fits a printed page
_EMPTY_CELLS = {"", "–", "—", "-"}
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph; blank lines in ``text`` part it into several."""

    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence set apart: a ``warning`` that the reader must not miss, or a ``note``."""

    text: str
    kind: Literal["warning", "note"] = "warning"


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with their values, set as two columns."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Html:
    """Markup that is put in as it is: for text that our own code made and escaped."""

    markup: str


Block = Table | Figure | Paragraph | Notice | Bullets | Facts | Html


@dataclass(frozen=True, slots=True)
class Section:
    """A numbered section; ``anchor`` is its id in the page (``pooled-effect``)."""

    title: str
    anchor: str
    blocks: tuple[Block, ...]


def page_html(
    title: str,
    subtitle: str,
    sections: Sequence[Section],
    *,
    internal: bool = False,
    notices: Iterable[str] = (),
) -> str:
    """The whole page as text.

    ``notices`` are sentences that stand above the contents; ``internal`` says at the top that the
    page shows individuals. Raises ValueError where two sections have one anchor or an anchor is
    not lower-case letters, digits and dashes.
    """
    _check_anchors(sections)
    tables, figures = count(1), count(1)
    views = [
        {
            "title": section.title,
            "anchor": section.anchor,
            "number": number,
            "blocks": [_view(block, tables, figures) for block in section.blocks],
        }
        for number, section in enumerate(sections, start=1)
    ]
    return _template().render(
        title=title,
        subtitle=subtitle,
        sections=views,
        internal_notice=INTERNAL_NOTICE if internal else "",
        notices=tuple(notices),
        research_use=RESEARCH_USE,
        version=version(),
        format_version=FORMAT_VERSION,
    )


def svg_inline(svg: str, prefix: str) -> Markup:
    """An SVG made to stand in a page: no prolog, and every id (and use of it) with ``prefix``."""
    start = svg.find("<svg")
    if start < 0:
        raise ValueError("a figure's svg must hold an <svg> element")
    body = svg[start:].strip()
    names = set(re.findall(r'\bid="([^"]+)"', body))
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)

    def renamed(match: re.Match[str]) -> str:
        head, name, tail = match.groups()
        return f"{head}{prefix}-{name}{tail}" if name in names else match.group(0)

    body = re.sub(r'((?:xlink:)?href="#)([^"]+)(")', renamed, body)
    body = re.sub(r"(url\(#)([^)]+)(\))", renamed, body)
    body = re.sub(
        r'(aria-labelledby=")([^"]+)(")',
        lambda m: m[1] + " ".join(f"{prefix}-{name}" for name in m[2].split()) + m[3],
        body,
    )
    # matplotlib's one style rule is for `*`; on a page it must not reach beyond its figure.
    body = body.replace('<style type="text/css">*{', f'<style type="text/css">#{prefix}-svg *{{', 1)
    if "<svg id=" not in body[:5000]:
        body = body.replace("<svg", f'<svg id="{prefix}-svg"', 1)
    return Markup(body)  # noqa: S704 - only svg of our own figures, whose text matplotlib escaped


def _check_anchors(sections: Sequence[Section]) -> None:
    anchors = [section.anchor for section in sections]
    for anchor in anchors:
        if not _ANCHOR.fullmatch(anchor):
            raise ValueError(f"the anchor {anchor!r} is not lower-case letters, digits and dashes")
    if len(set(anchors)) != len(anchors):
        raise ValueError("two sections of a page have the same anchor")


def _view(block: Block, tables: Iterator[int], figures: Iterator[int]) -> dict[str, Any]:
    match block:
        case Table():
            return _table_view(block, next(tables))
        case Figure():
            return _figure_view(block, next(figures))
        case Paragraph(text=text):
            parts = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
            return {"kind": "paragraphs", "parts": parts}
        case Notice(text=text, kind=kind):
            return {"kind": "notice", "text": text, "level": kind}
        case Bullets(items=items):
            return {"kind": "bullets", "items": items}
        case Facts(items=items):
            return {"kind": "facts", "items": items}
        case Html(markup=markup):
            return {"kind": "html", "markup": Markup(markup)}  # noqa: S704 - see Html


def _table_view(table: Table, number: int) -> dict[str, Any]:
    width = len(table.columns)
    for row in table.rows:
        if len(row) != width:
            raise ValueError(f"a row of {table.title!r} has {len(row)} cells for {width} columns")
    classes = [_column_class(index, [row[index] for row in table.rows]) for index in range(width)]
    return {
        "kind": "table",
        "wide": width >= _WIDE,
        "number": number,
        "title": table.title,
        "caption": table.caption,
        "columns": list(zip(table.columns, classes, strict=True)),
        "rows": [list(zip(row, classes, strict=True)) for row in table.rows],
    }


def _column_class(index: int, cells: Sequence[str]) -> str:
    """Numbers stand at the right, but not in the first column, which names the rows."""
    if index and is_numeric_column(cells):
        return "num"
    return "txt" if any(len(cell) > _SHORT for cell in cells) else "txt short"


def is_numeric_column(cells: Iterable[str]) -> bool:
    """True where every cell that says something is a number, an interval or n (%)."""
    filled = [cell.strip() for cell in cells if cell.strip() not in _EMPTY_CELLS]
    return bool(filled) and all(_NUMERIC.fullmatch(cell) for cell in filled)


def _figure_view(figure: Figure, number: int) -> dict[str, Any]:
    if figure.svg is None and figure.png is None:
        raise ValueError(f"the figure {figure.title!r} has neither svg nor png")
    view = {
        "kind": "figure",
        "number": number,
        "title": figure.title,
        "caption": figure.caption,
        "svg": None,
        "png": None,
    }
    if figure.svg is not None:
        view["svg"] = svg_inline(figure.svg, f"figure-{number}")
    else:
        view["png"] = png_uri(figure.png or b"")
    return view


def png_uri(data: bytes, kind: Literal["png", "jpeg"] = "png") -> str:
    """A picture as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _clean(value: Any) -> Any:
    """Text without control and direction-override characters, which browsers may hide behind."""
    return _CONTROL.sub("\ufffd", value) if isinstance(value, str) else value


def environment() -> Environment:
    """The jinja2 environment of all our templates: everything is escaped."""

    def finalize(value: Any) -> Any:
        return value if isinstance(value, Markup) else _clean(value)

    return Environment(
        loader=PackageLoader("cardiometa", "reports/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=finalize,
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    return environment().get_template("page.html.j2")
