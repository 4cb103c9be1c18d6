"""Schemes of ethnic groups and what each term is among the harmonised groups.

Sources: Office for National Statistics, ethnic group classification of the 2021 census; UK
Biobank field 21000; US Office of Management and Budget, Statistical Policy Directive 15 of 1997
and of 2024; CDISC codelist RACE (C74457); Healthy Hearts Consortium (Raisi-Estabragh 2024).

"Asian" of the US schemes contains East and South-East and South Asian groups together. It cannot be
split afterwards, so it is ``asian-unspecified``, never ``south-asian`` or ``chinese``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

T = TypeVar("T")
Group = str | None  # a harmonised group, None: unknown

_SEVERAL = re.compile(r"\s*[;|/,]\s*")


def _term(text: str) -> str:
    """A term as it is compared: one case, plain spaces, no blanks around signs."""
    return " ".join(text.casefold().replace("_", " ").split())


def by_term(groups: Mapping[T, str]) -> dict[str, T]:
    """The group of each term, from the terms of each group (separated by semicolons)."""
    return {term: group for group, terms in groups.items() for term in terms.split("; ")}


_UNKNOWN_TERMS: dict[str, Group] = by_term({None: "unknown; not reported; prefer not to answer"})
_HHC: dict[str, Group] = by_term(
    {
        "white": "white",
        "black": "black",
        "south-asian": "south asian; south-asian",
        "chinese": "chinese",
        "mixed-other": "mixed/other; mixed-other; mixed; other",
    }
)
# Names of a level, its group, and the terms below it.
_ONS_LEVELS: tuple[tuple[str, Group, Mapping[Group, str]], ...] = (
    (
        "asian; asian or asian british; asian, asian british or asian welsh",
        "asian-unspecified",
        {
            "south-asian": "indian; pakistani; bangladeshi",
            "chinese": "chinese",
            "mixed-other": "any other asian background; any other asian; other asian",
        },
    ),
    (
        (
            "black; black, black british, caribbean or african; "
            "black, black british, black welsh, caribbean or african; black or black british"
        ),
        "black",
        {
            "black": "caribbean; african; any other black background; "
            "any other black, black british or caribbean background; any other black; other black"
        },
    ),
    (
        "mixed; mixed or multiple ethnic groups; mixed or multiple",
        "mixed-other",
        {
            "mixed-other": "white and black caribbean; white and black african; white and asian; "
            "any other mixed or multiple ethnic background; any other mixed background; "
            "other mixed or multiple ethnic groups"
        },
    ),
    (
        "white",
        "white",
        {
            "white": "british; english, welsh, scottish, northern irish or british; irish; "
            "gypsy or irish traveller; roma; any other white background; any other white; "
            "other white"
        },
    ),
    (
        "other; other ethnic group",
        "mixed-other",
        {"mixed-other": "arab; any other ethnic group; any other"},
    ),
)


def _ons() -> dict[str, Group]:
    terms: dict[str, Group] = {"prefer not to say": None, "not stated": None, **_UNKNOWN_TERMS}
    for levels, group, below in _ONS_LEVELS:
        leaves = by_term(below)
        # Any other background of a level: other Asians are of no group of their own.
        other = "mixed-other" if group == "asian-unspecified" else group
        for level in levels.split("; "):
            terms[level] = group
            # Census tables join level and leaf by a colon, exports by a dash.
            for leaf, target in {**leaves, "any other background": other}.items():
                terms[f"{level}: {leaf}"] = terms[f"{level} - {leaf}"] = target
        terms |= leaves
    # "Any other" alone names no level.
    del terms["any other"]
    return terms


# Codes, and the same field exported by its labels.
_UKB: dict[str, Group] = by_term(
    {
        "white": "1; 1001; 1002; 1003; white; british; irish; any other white background",
        "mixed-other": "2; 2001; 2002; 2003; 2004; 3004; 6; mixed; white and black caribbean; "
        "white and black african; white and asian; any other mixed background; "
        "any other asian background; other ethnic group",
        "asian-unspecified": "3; asian or asian british",
        "south-asian": "3001; 3002; 3003; indian; pakistani; bangladeshi",
        "black": "4; 4001; 4002; 4003; black or black british; caribbean; african; "
        "any other black background",
        "chinese": "5; chinese",
        None: "-1; -3; do not know; prefer not to answer",
    }
)
_OMB = _UNKNOWN_TERMS | by_term(
    {
        "asian-unspecified": "asian",
        "black": "black or african american; black",
        "white": "white",
        "mixed-other": "american indian or alaska native; other; more than one race; "
        "native hawaiian or other pacific islander",
    }
)
_MORE = "native hawaiian or pacific islander; hispanic or latino; middle eastern or north african"

SCHEMES: Mapping[str, Mapping[str, Group]] = MappingProxyType(
    {
        "hhc": _HHC,
        "ons2021": _ons(),
        "ukb21000": _UKB,
        "omb1997": _OMB,
        "spd15-2024": _OMB | by_term({"mixed-other": _MORE}),
        "cdisc": {**_OMB, "multiple": "mixed-other"},
    }
)

# Schemes in which a participant may name several groups.
_MULTI_SELECT = ("omb1997", "spd15-2024", "cdisc")


def group_of(scheme: str, text: str) -> tuple[Group, bool]:
    """The harmonised group of a term, and whether the scheme knows the term.

    Several groups named by one participant (``White; Asian``) are ``mixed-other`` where the scheme
    allows several.
    """
    terms = SCHEMES[scheme]
    term = _term(text)
    if term in terms:
        return terms[term], True
    if scheme in _MULTI_SELECT:
        parts = {part for part in _SEVERAL.split(term) if part}
        if len(parts) > 1 and parts <= terms.keys():
            return "mixed-other", True
    return None, False


def contradiction(scheme: str | None, code: str, group: Group) -> str:
    """Why a map may not turn ``code`` into ``group``; empty where it may.

    A map may always say "unknown". Without a scheme only a bare "Asian" is checked.
    """
    if group is None:
        return ""
    if scheme is None:
        if _term(code) == "asian" and group in ("south-asian", "chinese"):
            return f"{code!r} contains several groups: it is asian-unspecified, not {group}"
        return ""
    known, found = group_of(scheme, code)
    if not found:
        return f"{code!r} is not a term of the scheme {scheme}"
    if known != group:
        return f"{code!r} of the scheme {scheme} is {known or 'unknown'}, not {group}"
    return ""
