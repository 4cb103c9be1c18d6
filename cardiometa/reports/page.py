"""One self-contained HTML page: tables, figures and text, no network, no script.

``page_html("Pooled effects", "LV mass", [section("Result", "result", "A paragraph.", table)])``

A table is declared as columns over rows: a heading, the field (or a function of the row) and how
it is shown. Running text lives in ``templates/PAGE.txt.j2``, block by block, and is filled by
`words`. Everything is escaped by jinja2 except `Html` and the SVG of a `Drawing`, which only our
own code makes. Equal input gives equal bytes on the same day: the page ends with the day (that of
SOURCE_DATE_EPOCH where it is set), the command and the versions, and what its text cites.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from ..manifest import COMMAND_LINE, RESEARCH_USE, made_by, version
from ..records import Table, severity
from .references import cited
from .style import (
    DASH,
    Drawing,
    counted,
    measure_label,
    measure_name,
    p_equals,
    shown,
    shown_count,
    shown_estimate,
    shown_interval,
    shown_p,
)

INTERNAL_NOTICE = (
    "Internal: this page shows individual participants. It is for the holder of the cohort only; "
    "do not publish or pass it on."
)

Row = TypeVar("Row")
_ANCHOR = re.compile(r"[a-z][a-z0-9-]*")
_NUMBER = r"[\d\s.,%±()\[\]/;:e+−–-]*"
_NUMERIC = re.compile(rf"[<>≤≥~≈]?\s*\(?[-−+±]?\d{_NUMBER}(?:to{_NUMBER})*")
_SHORT = 24  # characters up to which a column of text is kept on one line
_EMPTY_CELLS = {"", "–", "—", "-"}
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


# ------------------------------------------------------------------ blocks


class Notice(NamedTuple):
    """A sentence set apart: a ``warning`` that the reader must not miss, or a ``note``."""

    text: str
    kind: Literal["warning", "note"] = "warning"


Html = Markup  # put in as it is: what our own code made and escaped
# A str is a paragraph (blank lines part it into several), a list one of sentences, a dict names
# with their values.
Block = str | list[str] | dict[str, str] | Notice | Table | Drawing


class Section(NamedTuple):
    """A numbered section; ``anchor`` is its id in the page (``pooled-effect``).

    An ``appendix`` is folded up on the screen and not printed.
    """

    title: str
    anchor: str
    blocks: tuple[Block, ...]
    appendix: bool = False


def section(
    title: str, anchor: str, *blocks: Block | None, intro: Block = "", appendix: bool = False
) -> Section:
    """A section of the blocks that are not empty, after ``intro`` where there are any."""
    present = tuple(block for block in blocks if block)
    return Section(title, anchor, (intro, *present) if intro and present else present, appendix)


def notes_section(warnings: Iterable[str]) -> Section:
    """The warnings that are not serious."""
    notes = [one for one in dict.fromkeys(warnings) if severity(one) == "note"]
    return section("Notes", "notes", notes)


def page_html(
    title: str,
    subtitle: str,
    sections: Iterable[Section],
    *,
    internal: bool = False,
    warnings: Iterable[str] = (),
    foot: str = RESEARCH_USE,
    command_and_day: bool = True,
) -> str:
    """The complete page as text; sections without blocks are left out.

    The serious ones of the ``warnings`` are above the contents (`notes_section` has the others); a
    first section with the anchor ``result`` comes before both, under the checks that the user chose
    to continue over. ``internal`` states at the top that the page shows individuals. Without
    ``command_and_day`` the page depends on its content alone. Raises ValueError where two sections
    have one anchor, an anchor is not lower-case letters, digits and dashes, or a table's row has
    another width than its heading.
    """
    present = [one for one in sections if one.blocks]
    present += [one for one in [_references(present)] if one.blocks]
    anchors = [one.anchor for one in present]
    for anchor in anchors:
        if not _ANCHOR.fullmatch(anchor):
            raise ValueError(f"the anchor {anchor!r} is not lower-case letters, digits and dashes")
    if len(set(anchors)) != len(anchors):
        raise ValueError("two sections of a page have the same anchor")
    for block in (block for one in present for block in one.blocks if isinstance(block, Table)):
        width = len(block.columns)
        if any(len(row) != width for row in block.rows):
            raise ValueError(f"a row of {block.title!r} has other than {width} cells")
    result_first = anchors[:1] == ["result"]
    serious = [one for one in warnings if severity(one) == "serious"]
    accepted = [one for one in serious if result_first and one.startswith("Accepted, ")]
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            subtitle=subtitle,
            sections=present,
            internal_notice=INTERNAL_NOTICE if internal else "",
            accepted=accepted,
            notices=[one for one in serious if one not in accepted],
            foot=foot,
            result_first=result_first,
            version=version(),
            command=COMMAND_LINE.get() if command_and_day else "",
            made=made_by(day=command_and_day),
        )
    )


def _references(sections: Iterable[Section]) -> Section:
    """The works that the text of the page cites."""
    texts: list[str] = []
    for block in (block for one in sections for block in one.blocks):
        if isinstance(block, (Table, Drawing)):
            texts += [block.title, block.caption]
        elif not isinstance(block, Html):
            texts += [block] if isinstance(block, str) else map(str, block)
            texts += block.values() if isinstance(block, dict) else []
    works = cited(" ".join(texts))
    return section("References", "references", [one.text for one in works])


# ------------------------------------------------------------------ tables


class Column(NamedTuple):
    """A heading, the names of the fields (or a function of the row), and how they are shown.

    ``Column("Bias", "bias bias_low bias_high", as_estimate(1))``: several names, separated by
    spaces, are passed to ``show`` as several values.
    """

    heading: str
    source: str | Callable[[Any], Any]
    show: Callable[..., str] = lambda value: "" if value is None else str(value)

    def cell(self, row: Any) -> str:
        """The shown text of one row; a list is a group of rows that share the fields named."""
        if not isinstance(self.source, str):
            return self.show(self.source(row))
        names = self.source.split()
        row = row[0] if isinstance(row, list) else row
        return self.show(*(getattr(row, name) for name in names))


def where(rows: Iterable[Row], **cells: object) -> list[Row]:
    """The rows whose fields named have these values."""
    return [row for row in rows if all(getattr(row, k) == v for k, v in cells.items())]


def grouped(rows: Iterable[Any], names: str) -> dict[tuple[Any, ...], list[Any]]:
    """The rows by the values of the fields named, in the order in which these are met."""
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, name) for name in names.split()), []).append(row)
    return groups


def as_number(decimals: int = 1) -> Callable[[float | None], str]:
    """A number with fixed decimals, a dash where there is none."""
    return lambda value: shown(value, decimals)


def as_estimate(decimals: int = 1) -> Callable[[float | None, float | None, float | None], str]:
    """``−3.2 (−5.1 to −1.3)``, the value alone without an interval, a dash without a value."""
    return lambda value, low, high: shown_estimate(value, low, high, decimals)


def yes_no(value: bool | None) -> str:  # noqa: FBT001 - a cell's value
    """``yes``, ``no`` or a dash."""
    return DASH if value is None else "yes" if value else "no"


def table_of(
    page: str,
    name: str,
    columns: Iterable[Column],
    rows: Iterable[Any],
    /,
    *,
    empty: Collection[str] = ("",),
    **facts: Any,
) -> Table | None:
    """The columns over the rows; None without rows.

    Columns of nothing but ``empty`` cells are left out, but never the first. Block ``table_NAME``
    of ``templates/PAGE.txt.j2`` has the title as its first paragraph, what follows is the caption.
    """
    columns = tuple(columns)
    cells = [tuple(column.cell(row) for column in columns) for row in rows]
    if not cells:
        return None
    width = range(len(columns))
    keep = [at for at in width if not at or any(row[at] not in empty for row in cells)]
    title, _, caption = words(page, f"table_{name}", **facts).partition("\n\n")
    return Table(
        title=title,
        columns=tuple(columns[at].heading for at in keep),
        rows=tuple(tuple(row[at] for at in keep) for row in cells),
        caption=caption,
    )


def column_classes(table: Table) -> list[str]:
    """CSS classes: numbers at the right, but not in the first column, which names the rows."""
    classes = []
    for index in range(len(table.columns)):
        cells = [row[index] for row in table.rows]
        if index and is_numeric_column(cells):
            classes.append("num")
        else:
            classes.append("txt" if any(len(cell) > _SHORT for cell in cells) else "txt short")
    return classes


def is_numeric_column(cells: Iterable[str]) -> bool:
    """True where every cell that is not empty is a number, an interval or n (%)."""
    filled = [cell.strip() for cell in cells if cell.strip() not in _EMPTY_CELLS]
    return bool(filled) and all(_NUMERIC.fullmatch(cell) for cell in filled)


# ------------------------------------------------------------------ pictures


def svg_inline(svg: str, prefix: str) -> Markup:
    """An SVG for use inside a page: no prolog, and every id (and use of it) with ``prefix``."""
    start = svg.find("<svg")
    if start < 0:
        raise ValueError("a figure's svg must contain an <svg> element")
    body = svg[start:].strip()
    names: Counter[str] = Counter()

    def unique(match: re.Match[str]) -> str:
        """The id with the prefix; marks of one kind share a name, so repeated ones are numbered."""
        names[match[1]] += 1
        number = f"-{names[match[1]]}" if names[match[1]] > 1 else ""
        return f'id="{prefix}-{match[1]}{number}"'

    body = re.sub(r'\bid="([^"]+)"', unique, body)

    def renamed(match: re.Match[str]) -> str:
        uses = (f"{prefix}-{name}" if name in names else name for name in match[2].split())
        return match[1] + " ".join(uses)

    body = re.sub(r'(href="#|url\(#|aria-labelledby=")([^")]+)', renamed, body)
    # matplotlib's one style rule is for `*`; on a page it must not reach beyond its figure.
    body = body.replace('<style type="text/css">*{', f'<style type="text/css">#{prefix}-svg *{{', 1)
    if "<svg id=" not in body[:5000]:
        body = body.replace("<svg", f'<svg id="{prefix}-svg"', 1)
    return Markup(body)  # noqa: S704 - only svg of our own figures, whose text matplotlib escaped


# ------------------------------------------------------------------ templates


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The jinja2 environment of all templates: pages are escaped, ``.txt.j2`` is plain text."""

    def finalize(value: Any) -> Any:
        """Without control and direction-override characters, which can hide text in browsers."""
        if isinstance(value, str) and not isinstance(value, Markup):
            return CONTROL.sub("\ufffd", value)
        return value

    made = Environment(
        loader=PackageLoader("cardiometa", "reports/templates"),
        autoescape=select_autoescape(
            disabled_extensions=("txt.j2",), default=True, default_for_string=True
        ),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=finalize,
    )
    made.filters.update(
        shown=shown,
        count=shown_count,
        counted=counted,
        interval=shown_interval,
        p=shown_p,
        p_equals=p_equals,
        measure_name=measure_name,
        measure_label=measure_label,
        column_classes=column_classes,
        svg_inline=svg_inline,
        jpeg_uri=lambda data: f"data:image/jpeg;base64,{base64.b64encode(data).decode()}",
        png_uri=lambda data: f"data:image/png;base64,{base64.b64encode(data).decode()}",
        markup=Markup,
        kind=lambda block: type(block).__name__.lower(),
        paragraphs=lambda text: [p.strip() for p in re.split(r"\n\s*\n", text) if p.strip()],
        num=lambda value: f"{value:g}",
    )
    return made


def words(page: str, block: str, /, **facts: Any) -> str:
    """The text of a block of ``templates/PAGE.txt.j2``, filled with facts.

    Line breaks of the template become spaces; blank lines part paragraphs.
    """
    template = environment().get_template(f"{page}.txt.j2")
    text = "".join(template.blocks[block](template.new_context(facts)))
    parts = (re.sub(r"[ \n]+", " ", part).strip() for part in re.split(r"\n *\n", text))
    return "\n\n".join(part for part in parts if part)
