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

Group = str | None  # a harmonised group, None: unknown

_SEVERAL = re.compile(r"\s*[;|/,]\s*")
_UNKNOWN_TERMS = {"unknown": None, "not reported": None, "prefer not to answer": None}


def _term(text: str) -> str:
    """A term as it is compared: one case, plain spaces, no blanks around signs."""
    return " ".join(text.casefold().replace("_", " ").split())


_HHC: dict[str, Group] = {
    "white": "white",
    "black": "black",
    "south asian": "south-asian",
    "south-asian": "south-asian",
    "chinese": "chinese",
    "mixed/other": "mixed-other",
    "mixed-other": "mixed-other",
    "mixed": "mixed-other",
    "other": "mixed-other",
}

_ONS_LEVELS: dict[tuple[str, ...], tuple[Group, dict[str, Group]]] = {
    ("asian", "asian or asian british", "asian, asian british or asian welsh"): (
        "asian-unspecified",
        {
            "indian": "south-asian",
            "pakistani": "south-asian",
            "bangladeshi": "south-asian",
            "chinese": "chinese",
            "any other asian background": "mixed-other",
            "any other asian": "mixed-other",
            "other asian": "mixed-other",
        },
    ),
    (
        "black",
        "black, black british, caribbean or african",
        "black, black british, black welsh, caribbean or african",
        "black or black british",
    ): (
        "black",
        {
            "caribbean": "black",
            "african": "black",
            "any other black background": "black",
            "any other black, black british or caribbean background": "black",
            "any other black": "black",
            "other black": "black",
        },
    ),
    ("mixed", "mixed or multiple ethnic groups", "mixed or multiple"): (
        "mixed-other",
        {
            "white and black caribbean": "mixed-other",
            "white and black african": "mixed-other",
            "white and asian": "mixed-other",
            "any other mixed or multiple ethnic background": "mixed-other",
            "any other mixed background": "mixed-other",
            "other mixed or multiple ethnic groups": "mixed-other",
        },
    ),
    ("white",): (
        "white",
        {
            "british": "white",
            "english, welsh, scottish, northern irish or british": "white",
            "irish": "white",
            "gypsy or irish traveller": "white",
            "roma": "white",
            "any other white background": "white",
            "any other white": "white",
            "other white": "white",
        },
    ),
    ("other", "other ethnic group"): (
        "mixed-other",
        {
            "arab": "mixed-other",
            "any other ethnic group": "mixed-other",
            "any other": "mixed-other",
        },
    ),
}


def _ons() -> dict[str, Group]:
    terms: dict[str, Group] = {"prefer not to say": None, "not stated": None, **_UNKNOWN_TERMS}
    for levels, (group, leaves) in _ONS_LEVELS.items():
        for level in levels:
            terms[level] = group
            # Census tables join level and leaf by a colon, exports by a dash.
            for leaf, of_leaf in {**leaves, "any other background": None}.items():
                target = of_leaf or _other_of(group)
                terms[f"{level}: {leaf}"] = target
                terms[f"{level} - {leaf}"] = target
        terms |= leaves
    # "Any other" alone names no level.
    del terms["any other"]
    return terms


def _other_of(group: Group) -> Group:
    """Any other background of a level: other Asians are of no group of their own."""
    return "mixed-other" if group == "asian-unspecified" else group


_UKB: dict[str, Group] = {
    **dict.fromkeys(("1", "1001", "1002", "1003"), "white"),
    **dict.fromkeys(("2", "2001", "2002", "2003", "2004"), "mixed-other"),
    "3": "asian-unspecified",
    **dict.fromkeys(("3001", "3002", "3003"), "south-asian"),
    "3004": "mixed-other",
    **dict.fromkeys(("4", "4001", "4002", "4003"), "black"),
    "5": "chinese",
    "6": "mixed-other",
    "-1": None,
    "-3": None,
    # The same field exported by its labels.
    "white": "white",
    "british": "white",
    "irish": "white",
    "any other white background": "white",
    "mixed": "mixed-other",
    "white and black caribbean": "mixed-other",
    "white and black african": "mixed-other",
    "white and asian": "mixed-other",
    "any other mixed background": "mixed-other",
    "asian or asian british": "asian-unspecified",
    "indian": "south-asian",
    "pakistani": "south-asian",
    "bangladeshi": "south-asian",
    "any other asian background": "mixed-other",
    "black or black british": "black",
    "caribbean": "black",
    "african": "black",
    "any other black background": "black",
    "chinese": "chinese",
    "other ethnic group": "mixed-other",
    "do not know": None,
    "prefer not to answer": None,
}

_OMB: dict[str, Group] = {
    "american indian or alaska native": "mixed-other",
    "asian": "asian-unspecified",
    "black or african american": "black",
    "black": "black",
    "native hawaiian or other pacific islander": "mixed-other",
    "white": "white",
    "other": "mixed-other",
    "more than one race": "mixed-other",
    **_UNKNOWN_TERMS,
}

_SPD15: dict[str, Group] = {
    **_OMB,
    "native hawaiian or pacific islander": "mixed-other",
    "hispanic or latino": "mixed-other",
    "middle eastern or north african": "mixed-other",
}

_CDISC: dict[str, Group] = {**_OMB, "multiple": "mixed-other"}

SCHEMES: Mapping[str, Mapping[str, Group]] = MappingProxyType(
    {
        "hhc": _HHC,
        "ons2021": _ons(),
        "ukb21000": _UKB,
        "omb1997": _OMB,
        "spd15-2024": _SPD15,
        "cdisc": _CDISC,
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
