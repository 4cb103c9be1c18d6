"""Reading a page as a browser would, far enough to check what stands in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "link", "input"}


@dataclass
class Page:
    """Tags in order, visible text, ids and the attributes of each tag."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""
    problems: list[str] = field(default_factory=list)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def ids(self) -> list[str]:
        return [a["id"] for _, a in self.tags if a.get("id")]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.page.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.page.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.page.problems.append(f"</{tag}> closes nothing at {self.getpos()}")

    def handle_data(self, data):
        if "style" not in self.open:
            self.page.text += data


def read_page(html: str) -> Page:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    reader.page.problems += [f"<{tag}> stays open" for tag in reader.open]
    return reader.page


def assert_self_contained(html: str) -> Page:
    """Well nested, no script, nothing fetched, ids unique, every inner link with a target."""
    page = read_page(html)
    assert page.problems == []
    assert not page.all("script")
    assert not page.all("link")
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/")), value
    assert not re.findall(r"url\((?!#)", html)
    assert "@import" not in html
    ids = page.ids
    assert len(ids) == len(set(ids))
    used = re.findall(r'href="#([^"]+)"', html) + re.findall(r"url\(#([^)]+)\)", html)
    for names in re.findall(r'aria-labelledby="([^"]+)"', html):
        used += names.split()
    assert set(used) <= set(ids)
    return page


@dataclass
class HtmlTable:
    """A table of a page: its caption (``figcaption``), headings and rows of text."""

    title: str
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""

    def column(self, heading: str) -> list[str]:
        at = self.columns.index(heading)
        return [row[at] for row in self.rows]

    def where(self, **cells: str) -> list[dict[str, str]]:
        """Rows as dicts, those whose cells under these headings are so."""
        lines = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return [line for line in lines if all(line[k] == v for k, v in cells.items())]


class _Tables(HTMLParser):
    """Collects every ``figure.table`` (title, head, body, caption)."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[HtmlTable] = []
        self.where: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        if tag == "figure" and "table" in (dict(attrs).get("class") or ""):
            self.tables.append(HtmlTable(title=""))
        if tag == "tr" and self.tables:
            self.row: list[str] = []
        if tag == "br":
            self.text += "\n"
        if tag in ("figcaption", "th", "td"):
            self.text = ""
        self.note = tag == "p" and dict(attrs).get("class") == "caption"
        if self.note:
            self.text = ""

    def handle_endtag(self, tag):
        if not self.tables:
            return
        table = self.tables[-1]
        if tag == "figcaption":
            table.title = table.title or " ".join(self.text.split(" "))
        elif tag == "th":
            table.columns.append(self.text)
        elif tag == "td":
            self.row.append(self.text)
        elif tag == "tr" and self.row:
            table.rows.append(self.row)
        elif tag == "p" and self.note:
            table.note, self.note = self.text, False

    def handle_data(self, data):
        self.text += data


def read_tables(html: str) -> list[HtmlTable]:
    """Every table of a page in order; a figure's caption is no table."""
    reader = _Tables()
    reader.feed(html)
    reader.close()
    return reader.tables


def find_table(html: str, title: str) -> HtmlTable:
    """The one table whose title contains these words."""
    found = [table for table in read_tables(html) if title in table.title]
    assert len(found) == 1, [table.title for table in read_tables(html)]
    return found[0]


def section_titles(html: str) -> list[str]:
    """The titles of the sections in order."""
    return re.findall(r'<h2><span class="number">\d+</span>(.*?)</h2>', html)
