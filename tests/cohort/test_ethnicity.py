"""Schemes of ethnic groups (reference-ranges.md 2.3): what they know, and what they forbid."""

from __future__ import annotations

import pandas as pd
import pytest

from cardiometa.cohort.ethnicity import SCHEMES, contradiction, group_of
from cardiometa.cohort.models import ColumnRule
from cardiometa.cohort.recode import harmonise
from cardiometa.errors import Problems
from cardiometa.records import ETHNICITIES


@pytest.mark.parametrize(
    ("scheme", "term", "group"),
    [
        ("hhc", "South Asian", "south-asian"),
        ("hhc", "Mixed/Other", "mixed-other"),
        ("ons2021", "Indian", "south-asian"),
        ("ons2021", "Asian or Asian British: Chinese", "chinese"),
        ("ons2021", "Asian, Asian British or Asian Welsh: Pakistani", "south-asian"),
        ("ons2021", "Any other Asian background", "mixed-other"),
        ("ons2021", "Asian or Asian British", "asian-unspecified"),
        ("ons2021", "White: Gypsy or Irish Traveller", "white"),
        ("ons2021", "Arab", "mixed-other"),
        ("ons2021", "White and Asian", "mixed-other"),
        ("ons2021", "African", "black"),
        ("ukb21000", "1001", "white"),
        ("ukb21000", "3", "asian-unspecified"),
        ("ukb21000", "3002", "south-asian"),
        ("ukb21000", "3004", "mixed-other"),
        ("ukb21000", "5", "chinese"),
        ("ukb21000", "-3", None),
        ("omb1997", "Asian", "asian-unspecified"),
        ("omb1997", "Native Hawaiian or Other Pacific Islander", "mixed-other"),
        ("spd15-2024", "Middle Eastern or North African", "mixed-other"),
        ("spd15-2024", "White; Asian", "mixed-other"),
        ("spd15-2024", "White|Hispanic or Latino", "mixed-other"),
        ("cdisc", "BLACK OR AFRICAN AMERICAN", "black"),
        ("cdisc", "ASIAN", "asian-unspecified"),
        ("cdisc", "NOT REPORTED", None),
        ("cdisc", "  white ", "white"),
    ],
)
def test_terms(scheme, term, group):
    assert group_of(scheme, term) == (group, True)


@pytest.mark.parametrize(
    ("scheme", "term"),
    [
        ("cdisc", "CAUCASIAN"),
        ("ukb21000", "7"),
        ("ons2021", "any other"),
        ("omb1997", "White; Elf"),
    ],
)
def test_terms_no_scheme_knows(scheme, term):
    assert group_of(scheme, term) == (None, False)


def test_every_group_is_a_harmonised_one():
    for terms in SCHEMES.values():
        assert {group for group in terms.values() if group} <= set(ETHNICITIES)


@pytest.mark.parametrize("scheme", ["omb1997", "spd15-2024", "cdisc", None])
@pytest.mark.parametrize("group", ["south-asian", "chinese"])
def test_asian_is_never_split(scheme, group):
    assert "asian-unspecified" in contradiction(scheme, "ASIAN", group)
    assert contradiction(scheme, "ASIAN", "asian-unspecified") == ""
    assert contradiction(scheme, "ASIAN", None) == ""


def test_no_us_scheme_gives_a_part_of_asia():
    for scheme in ("omb1997", "spd15-2024", "cdisc"):
        assert not {"south-asian", "chinese"} & set(SCHEMES[scheme].values())


def harmonised(values, **rule):
    problems = Problems("t.csv")
    rule = ColumnRule(name="ethnicity", column="RACE", **rule)
    return harmonise(pd.Series(values, dtype=object), rule, problems), problems


def test_a_scheme_alone_maps():
    values, problems = harmonised(["WHITE", "ASIAN", "UNKNOWN", ""], scheme="cdisc")
    assert (list(values), problems) == (["white", "asian-unspecified", None, None], [])


def test_a_scheme_checks_the_map():
    wrong = {"WHITE": "white", "ASIAN": "chinese", "CAUCASIAN": "white"}
    _, problems = harmonised(["WHITE", "ASIAN"], scheme="cdisc", map=wrong)
    assert len(problems) == 2
    assert "asian-unspecified" in problems[0].what
    assert "'CAUCASIAN' is not a term" in problems[1].what


def test_a_bare_asian_is_refused_without_a_scheme():
    _, problems = harmonised(["Asian"], map={"Asian": "south-asian"})
    assert len(problems) == 1


def test_without_map_and_scheme_only_the_harmonised_words_are_understood():
    values, problems = harmonised(["white", "South-Asian", "Caucasian", "Caucasian"])
    assert list(values) == ["white", "south-asian", None, None]
    assert "'Caucasian' (2)" in problems[0].what
