"""What a text cites, as a journal lists it and as BibTeX."""

from __future__ import annotations

import re

import pytest

from cardiometa.manifest import COMMAND_LINE
from cardiometa.reports.page import page_html, section
from cardiometa.reports.references import _references, cited, paper_files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Effects by level are floating (Godolphin et al. 2023): their", ["Godolphin PJ"]),
        ("several levels jointly (Jackson & Riley 2014).", ["Jackson D"]),
        ("an HC3 covariance (MacKinnon & White 1985)", ["MacKinnon JG"]),
        ("rank methods (Brunner, Vandemeulebroecke & Muetze 2021)", ["Brunner E"]),
        ("Kenward-Roger. In 1997 nothing. Rigby and Stasinopoulos 2004", ["Rigby RA"]),
        ("by Mosteller's formula", ["Mosteller RD"]),
        ("LMS curves (Cole and Green)", ["Cole TJ"]),
        ("Fractional polynomials (Royston and Wright): mean", ["Royston P"]),
        ("Share with Wilson's 95% interval", ["Wilson EB"]),
        ("two scans of the same heart (Grothues 2002 and 2004)", ["Grothues F", "Grothues F"]),
        ("an effect of the 2 x 2 table. The Mantel-Haenszel common effect", ["Greenland S"]),
        ("a logistic model. The Mantel-Haenszel common effect", ["Robins J"]),
        ("the prediction interval of a new participant", []),
        ("Bland and Altman were right", []),
    ],
)
def test_what_a_text_cites(text, expected):
    assert [" ".join(one.text.split(",")[0].split()[:2]).rstrip(".") for one in cited(text)] == (
        expected
    )


def test_every_entry_is_complete_bibtex():
    keys = []
    for one in _references():
        kind, key, body = re.fullmatch(r"@(\w+)\{(\w+),\n(.*)\n\}", one.bibtex, re.DOTALL).groups()
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\},?$", body, re.MULTILINE))
        needed = {"author", "title", "year"} | ({"journal"} if kind == "article" else {"publisher"})
        assert needed <= fields.keys(), key
        assert "cited" not in fields
        assert all("," in name or name == "others" for name in fields["author"].split(" and "))
        keys.append(key)
    assert keys == sorted(set(keys))


def test_methods_and_references_for_a_manuscript():
    found = paper_files("Intervals: HKSJ (Hartung & Knapp 2001).")
    assert found["methods.txt"].endswith("Stat Med 2001; 20: 3875–3889.\n")
    assert found["references.bib"].startswith("@article{hartung2001,\n  author = {Hartung, J. and")
    found = paper_files("coverage (Partlett & Riley 2017)")
    assert "performance of 95% confidence" in found["methods.txt"]
    assert r"performance of 95\% confidence" in found["references.bib"]
    assert paper_files("Nothing.") == {"methods.txt": "Nothing.\n", "references.bib": ""}


def test_a_page_ends_with_what_it_cites_and_what_made_it(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    part = section("Methods", "methods", "As Kenward & Roger 1997 did.")
    token = COMMAND_LINE.set("cardiometa pool-trials TABLE --by '<b>'")
    try:
        html = page_html("T", "", [part])
    finally:
        COMMAND_LINE.reset(token)
    assert "Small sample inference for fixed effects" in html
    assert "Command: <code>cardiometa pool-trials TABLE --by &#39;&lt;b&gt;&#39;</code>" in html
    assert "Made on 1970-01-02 by cardiometa" in html
    assert "References" not in page_html("T", "", [section("M", "m", "No work.")])
    assert "Command" not in page_html("T", "", [part])
