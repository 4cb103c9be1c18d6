"""The running text of pages: complete sentences, set apart by spaces, true of the method used."""

from __future__ import annotations

import re
from html import unescape
from itertools import product
from types import SimpleNamespace

import pytest

from cardiometa.reference.options import ReferenceOptions
from cardiometa.reports.page import words

RUNS = ("pooled", "compared", "events", "arms", "ranges", "curves", "evaluated")
# What sentences that ran into each other, or a gap in a template, look like.
FAULTS = {
    "no space after a full stop": r"[a-z\d)]\.[A-Z][a-z]",
    "a space before a comma or full stop": r"\w [,;.](\s|$)",
    "two stops": r"\.\.(?!\.)|,,|;;|\. \.",
    "an empty bracket": r"\(\s*\)|\[\s*\]",
    "an undefined word": r"\bNone\b(?! of)|\bnan\b|\{\{|\bUndefined\b",
}


def paragraphs(html: str) -> list[str]:
    """Text of paragraphs, captions, list items and notices."""
    html = re.sub(r"<(style|svg).*?</\1>", "", html, flags=re.DOTALL)
    parts = re.findall(r"<(?:p|li|figcaption)\b[^>]*>(.*?)</(?:p|li|figcaption)>", html, re.DOTALL)
    return [unescape(re.sub(r"<[^>]+>", "", part)).strip() for part in parts]


@pytest.mark.parametrize("name", RUNS)
def test_sentences_of_a_page_are_whole(name, request):
    found = paragraphs(request.getfixturevalue(name).html)
    assert len(found) > 20
    for fault, pattern in FAULTS.items():
        assert [text for text in found if re.search(pattern, text)] == [], fault


@pytest.mark.parametrize("name", RUNS)
def test_titles_end_with_one_full_stop(name, request):
    html = request.getfixturevalue(name).html
    titles = re.findall(r"<b>(?:Table|Figure) \d+\.</b> (.*?)(?: <span|</figcaption>)", html)
    assert len(titles) > 2
    assert [title for title in titles if not re.fullmatch(r".*[^.]\.", title)] == []


CURVES = {
    "lms": "LMS curves (Cole and Green)",
    "gaussian": "Normal curves:",
    "linear": "Linear curves:",
    "quantile": "Quantile regression of each centile",
    "fractional-polynomial": "Fractional polynomials (Royston and Wright)",
}


@pytest.mark.parametrize(
    ("method", "by", "trials", "effect"),
    list(
        product(
            CURVES,
            (("sex", "age"), ("sex", "ethnicity", "age"), ("age",)),
            (1, 3, 6),
            ("random", "fixed", "none"),
        )
    ),
)
def test_methods_of_curves_say_what_was_done(method, by, trials, effect):
    result = SimpleNamespace(by=by, trials=tuple("ABCDEF")[:trials])
    options = ReferenceOptions(trial_effect=effect)
    text = words("reference", "methods_curves", method=method, result=result, options=options)
    assert text.startswith(CURVES[method])
    assert [name for name in CURVES.values() if name in text] == [CURVES[method]]
    assert ("Men and women were fitted separately." in text) == ("sex" in by)
    assert ("The curve of all participants does not depend on ethnicity." in text) == (
        "ethnicity" in by
    )
    assert ("Trials were ignored" in text) == (trials > 1 and effect == "none")
    assert ("rials entered" in text) == (trials > 1 and effect != "none")
    assert text.endswith("Nothing is given outside the observed ages.")
    for fault, pattern in FAULTS.items():
        assert not re.search(pattern, text), fault
