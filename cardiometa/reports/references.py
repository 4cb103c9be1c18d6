"""The literature that a text cites, for the end of a page and as BibTeX for a manuscript.

``templates/references.bib`` has every work that the program's texts name, in BibTeX. A text cites
one where its first author's surname is followed by its year (``Jackson & Riley 2014``), or where
the entry's field ``cited`` (a regular expression, not written to the user's file) finds something.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

_FIELD = re.compile(r"(\w+) = \{((?:[^{}]|\{[^{}]*\})*)\}")
_TEX = {r"{\"u}": "ü", r"\%": "%", "`": "‘", "'": "’", "--": "–"}


class Reference(NamedTuple):
    """An entry: its BibTeX, what a text that cites it contains, and how a journal prints it."""

    bibtex: str
    pattern: re.Pattern[str]
    text: str


def cited(text: str) -> list[Reference]:
    """The works that ``text`` cites, by first author."""
    return [one for one in _references() if one.pattern.search(text)]


def paper_files(methods: str) -> dict[str, bytes | str]:
    """``methods.txt``, the paragraph with what it cites, and these works as ``references.bib``."""
    works = cited(methods)
    listed = "".join(f"\n{one.text}\n" for one in works)
    return {
        "methods.txt": f"{methods}\n" + (f"\nReferences\n{listed}" if works else ""),
        "references.bib": "".join(f"{one.bibtex}\n\n" for one in works),
    }


@lru_cache(maxsize=1)
def _references() -> tuple[Reference, ...]:
    source = files("cardiometa.reports").joinpath("templates/references.bib")
    return tuple(map(_reference, source.read_text(encoding="utf-8").splitlines()))


def _reference(line: str) -> Reference:
    entry = dict(_FIELD.findall(line))
    named = entry.pop("cited", "")
    authors = [one.rpartition(" ") for one in entry["author"].split(" and ")]
    pattern = rf"{re.escape(authors[0][0])}\b(?: et al\.)?[^.;()]{{0,60}}\(?{entry['year']}"
    pattern += f"|{named}" if named else ""
    listed = ", ".join(f"{last} {initials}".strip() for last, _, initials in authors)
    # "Barnard, J." and "Rubin, D. B.": BibTeX takes what is last for the surname otherwise.
    entry["author"] = " and ".join(
        f"{last}, {re.sub('(?<=[A-Z])(?=[A-Z])', '. ', initials)}." if last else initials
        for last, _, initials in authors
    )
    where = entry.get("journal", entry.get("publisher", ""))
    place = f"; {entry['volume']}: {entry['pages']}" if "pages" in entry else ""
    text = f"{listed}. {entry['title']}. {where} {entry['year']}{place}."
    for tex, sign in _TEX.items():
        text = text.replace(tex, sign)
    cells = "".join(f",\n  {name} = {{{value}}}" for name, value in entry.items())
    return Reference(
        bibtex=f"{line.partition(',')[0]}{cells}\n}}",
        pattern=re.compile(pattern),
        text=text.replace(", others.", ", et al."),
    )
